//! What strict authentication adds to an advertisement, and whether its MAC is right.

use super::dissect::hex;
use super::{Belief, Decoded, suspicion};
use carp_common::auth::StrictKey;
use carp_common::sender::epoch_of;
use carp_common::wire::{Heard, Sighting};
use serde::Serialize;

/// What strict authentication adds to an advertisement. Serialised as it is.
#[derive(Clone, Debug, Serialize)]
pub struct Strict {
    /// Number of the sender's start: the high half of its counter.
    pub epoch: u64,
    /// Frames since then: the low half.
    pub count: u64,
    /// Counter of the greeting that this answers, sixteen hexadecimal digits; zeros when it answers none.
    pub echo: String,
    /// The MAC, forty hexadecimal digits.
    pub mac: String,
    /// The MAC is right by the password; `None` when there was none, or no addresses to go with it.
    pub mac_ok: Option<bool>,
}

impl Strict {
    /// Of an advertisement that is signed strictly.
    pub(super) fn of(seen: &Sighting) -> Option<Self> {
        let counter = seen.said.counter();
        seen.has_mac().then(|| Self {
            epoch: epoch_of(counter),
            count: counter & u64::from(u32::MAX),
            echo: hex(&seen.said.echo),
            mac: hex(&seen.mac),
            mac_ok: None,
        })
    }
}

/// Whether the MAC is right; what explains it if not.
pub(super) fn judge(decoded: &mut Decoded, belief: &Belief<'_>, heard: &Heard) -> bool {
    let seen = heard.seen();
    let is_right = StrictKey::new(belief.key, belief.vips).verify(seen);
    if let Some(strict) = &mut decoded.strict {
        strict.mac_ok = Some(is_right);
    }
    if is_right {
        decoded.notes.push("whether it is new, and its sender lives, its receivers know alone".into());
    } else {
        decoded.notes.extend(suspicion(belief, |key, vips| StrictKey::new(key, vips).verify(seen)));
    }
    is_right
}
