//! How much the kernel has to say. A lone event is heard at once; in a flood of them each wake-up costs more than its event,
//! on the CPU that made it as well, and one flow's events come close together. So in a flood the thread rests between
//! two looks, what comes meanwhile is heard together, and of a flow that changed several times the last change goes out.

use carp_common::time::{Instant, Span};

/// How long it rests.
pub(super) const REST: Span = Span::millis(1);
/// As many events ...
const MANY: usize = 32;
/// ... in such a time are a flood.
const WINDOW: Span = Span::millis(4);

/// What was heard lately.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Load {
    /// When the running window began.
    since: Instant,
    /// Events in it.
    heard: usize,
    /// The window before was one of a flood.
    flooded: bool,
}

impl Load {
    /// So many events were heard at once; whether this is a flood.
    pub(super) fn heard(&mut self, events: usize, now: Instant) -> bool {
        let gone = now.since(self.since);
        if gone >= WINDOW {
            // A flood that has ended one window ago is over.
            let flooded = gone < WINDOW.times(2) && self.heard >= MANY;
            *self = Self { since: now, heard: 0, flooded };
        }
        self.heard += events;
        self.flooded || self.heard >= MANY
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of events at such a distance, how many of the last hundred were part of a flood.
    fn flooded(distance: Span) -> usize {
        let (mut load, mut now) = (Load::default(), Instant::from_nanos(1 << 40));
        let flooded = (0..200).map(|_| {
            now = now + distance;
            load.heard(1, now)
        });
        flooded.skip(100).filter(|flooded| *flooded).count()
    }

    #[test]
    fn events_that_come_one_by_one_are_heard_at_once() {
        assert_eq!(flooded(Span::millis(1)), 0);
        assert_eq!(flooded(Span::millis(5)), 0);
    }

    #[test]
    fn events_that_come_faster_than_they_are_heard_are_heard_together() {
        assert_eq!(flooded(Span::nanos(100_000)), 100);
        assert!(Load::default().heard(MANY, Instant::from_nanos(1)), "all at once");
    }

    #[test]
    fn a_flood_is_over_soon_after_its_last_event() {
        let (mut load, now) = (Load::default(), Instant::from_nanos(1 << 40));
        assert!(load.heard(1000, now));
        let mut late = load;
        assert!(load.heard(1, now + WINDOW));
        assert!(!load.heard(1, now + WINDOW.times(3)));
        assert!(!late.heard(1, now + WINDOW.times(3)), "the first event after a pause");
    }
}
