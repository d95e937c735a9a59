//! What is known of the peer's configuration.

use crate::io::clock;
use crate::pair_config::talk::Standing;
use carp_common::time::Instant;

/// What is known of the peer's configuration.
#[derive(Clone, Debug, Default)]
pub struct View {
    /// How it stood there, and when.
    pub peer: Option<(Standing, Instant)>,
    /// Why it does not answer.
    pub away: Option<String>,
    /// It is to get what is used here.
    pub owed: bool,
    /// Why it does not take that.
    pub refusal: Option<String>,
    /// Whether it uses something is not known.
    pub in_doubt: bool,
    /// It uses another configuration than this node, at the last look.
    pub differs: bool,
}

/// What a call has shown beside its answer.
pub(super) enum Seen {
    /// How it stands there, and whether that is something else than here.
    Stands {
        /// There.
        there: Standing,
        /// Something else than here.
        differs: bool,
    },
    /// It is there.
    Answers,
    /// It is not, and why.
    Away(String),
}

impl View {
    /// The newest call has shown this.
    pub(super) fn see(&mut self, seen: Seen) {
        self.away = None;
        match seen {
            Seen::Stands { there, differs } => {
                if differs && !self.differs {
                    tracing::warn!(
                        node = there.node,
                        changed_there = there.changed,
                        "the other node uses another configuration: see `carpctl config diff peer`"
                    );
                } else if self.differs && !differs {
                    tracing::info!(node = there.node, "the other node uses the same configuration again");
                }
                self.differs = differs;
                self.peer = Some((there, clock::now()));
            }
            Seen::Answers => {}
            Seen::Away(why) => self.away = Some(why),
        }
    }
}
