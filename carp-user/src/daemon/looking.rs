//! Look before you speak: whatever has arrived comes before what time asks for.

use super::Daemon;
use crate::io::clock;
use carp_common::time::Span;
use std::io;

/// Adverts read before time is looked at again: more than the ring holds, so a flood cannot keep
/// the node from its own deadlines.
const AT_ONCE: usize = 512;
/// Adverts of more virtual hosts than these come in bursts, such as their farewells when a master stops.
const FEW: usize = 16;
/// How long the rest of a burst is waited for, and how often at most: two milliseconds in all.
const LULL: Span = Span::micros(200);
const LULLS: u8 = 8;

impl Daemon {
    /// Hears whatever has arrived. `has_heard`: that may be the beginning of a burst, which is then heard to its end, so that
    /// what follows from it is one change of the datapath: applying a part of it would hold up the rest.
    pub(super) fn look(&mut self, has_heard: bool) -> io::Result<()> {
        let mut left = AT_ONCE;
        let mut is_burst = self.hear(&mut left)? || has_heard;
        if self.node.setups().count() <= FEW {
            return Ok(());
        }
        for _ in 0..LULLS {
            if !is_burst {
                break;
            }
            clock::rest(LULL);
            is_burst = self.hear(&mut left)?;
        }
        Ok(())
    }

    /// Hears what has arrived by now, so many at most; whether there was any.
    fn hear(&mut self, left: &mut usize) -> io::Result<bool> {
        let before = *left;
        while *left > 0
            && let Some(heard) = self.shells.ear.waiting()?
        {
            self.heard(&heard);
            *left -= 1;
        }
        Ok(*left < before)
    }
}
