//! What the daemon makes of the links: the datapath learns of them, and then the node.

use super::Daemon;
use crate::io::link::LinkFacts;
use crate::proto::event::Event;
use carp_common::id::IfIndex;

impl Daemon {
    /// A link is not as it was.
    pub(super) fn link(&mut self, link: IfIndex, facts: LinkFacts) {
        let event = self.describe(link, facts);
        self.tell(event);
    }

    /// Tells the datapath of a link; what to tell the node.
    pub(super) fn describe(&mut self, link: IfIndex, facts: LinkFacts) -> Event<'static> {
        let name = self.shells.links.name(link).unwrap_or_default();
        tracing::debug!(interface = name, ?facts, "link");
        if facts.successor.is_some() {
            tracing::warn!(
                interface = name,
                "it was removed and made anew: reload carpd (SIGHUP, carpctl reload) to use the new one"
            );
        }
        if let Some(shield) = &mut self.shells.shield
            && let Err(error) = shield.describe(&self.shells.links, self.node.setups())
        {
            tracing::warn!(%error, "telling the datapath of a link");
        }
        Event::Link { link, state: facts.state(self.shells.shield.is_some()) }
    }
}
