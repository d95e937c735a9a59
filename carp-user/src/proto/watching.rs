//! What a virtual host looks out for in adverts that it accepts: signs of a forger, where it cannot do
//! more; and, while it migrates, who signs strictly.

use super::event::{Action, Warning};
use super::host::Host;
use super::migration::Migration;
use super::status::AuthStatus;
use super::suspicion::{Suspicion, Suspicions};
use carp_common::admission::Mode;
use carp_common::time::Instant;
use carp_common::wire::Heard;

/// What was seen so far.
#[derive(Clone, Debug, Default)]
pub struct Watch {
    suspicions: Suspicions,
    /// By [`Suspicion`], in the order of [`Suspicion::ALL`].
    counts: [u64; Suspicion::ALL.len()],
    migration: Migration,
}

impl Host {
    /// An advert was accepted.
    pub(super) fn watch(&mut self, heard: &Heard, at: Instant, now: Instant, actions: &mut Vec<Action>) {
        match self.keys.mode() {
            Mode::Strict => {}
            Mode::Carp => self.suspect(heard, false, (at, now), actions),
            Mode::Migrate => {
                let strict = self.keys.is_signed_strictly(heard);
                self.suspect(heard, strict, (at, now), actions);
                let may_tell = || self.warned.may_tell_migration(now);
                if let Some(news) = self.watch.migration.heard(heard.source, strict, at, may_tell) {
                    actions.push(Action::Tell { host: self.id, news });
                }
            }
        }
    }

    /// How adverts are signed, and what is known of that.
    pub(super) fn auth_status(&self, now: Instant) -> AuthStatus {
        AuthStatus {
            mode: self.keys.mode(),
            strict_peers: self.watch.migration.strict(now),
            other_peers: self.watch.migration.others(now),
            suspicious: Suspicion::ALL.iter().map(|kind| kind.name()).zip(self.watch.counts).collect(),
        }
    }

    fn suspect(
        &mut self,
        heard: &Heard,
        strict: bool,
        (at, now): (Instant, Instant),
        actions: &mut Vec<Action>,
    ) {
        let Some(suspicion) = self.watch.suspicions.hear(heard, strict, at) else { return };
        let warning = match suspicion {
            Suspicion::Repeated => Warning::Repeated(heard.source),
            Suspicion::Rewritten => Warning::Rewritten(heard.source),
        };
        let counts = Suspicion::ALL.iter().zip(&mut self.watch.counts);
        counts.filter(|(kind, _)| **kind == suspicion).for_each(|(_, count)| *count += 1);
        self.warn(warning, now, actions);
    }
}
