//! How a window is replaced while the datapath reads it.
//!
//! XDP reads the words of a window one after the other, so during a write it may see some words of
//! the old and some of the new window. No mixture may be open when neither is; and where one opens
//! while the other is still open, none may be closed. A master's leases all start at zero, so only the
//! end changes, and every mixture is one of the two. Where the start changes too the lease goes over a
//! closed one, and an armed backup that becomes a master is disarmed by a write of its own.

use carp_common::map::Window;

/// What is written, in this order, to get from one window to the other: one write as a rule. That a lease needs the
/// daemon's pulse is written before the lease is, and is taken away after it.
pub(super) fn steps(from: Window, to: Window) -> impl Iterator<Item = Window> {
    let pulsed = from.pulsed.max(to.pulsed);
    let under_pulse = move |window| Window { pulsed, ..window };
    let first = (from.pulsed != pulsed).then(|| under_pulse(from));
    let last = (to.pulsed != pulsed).then_some(to);
    first.into_iter().chain(moves(from, to).map(under_pulse)).chain(last)
}

fn moves(from: Window, to: Window) -> impl Iterator<Item = Window> {
    let closed = |start| Window { serve_from: start, serve_until: 0, ..to };
    let detour = [closed(from.serve_from), closed(to.serve_from)];
    let detour = if is_safe(from, to) { None } else { Some(detour) };
    let disarmed = (from.dead != 0 && to.is_armed_anew(&from)).then_some(from.disarmed());
    // By which clock it opens is written before it can open by one.
    let grouped =
        (to.dead != 0 && from.group != to.group).then_some(Window { group: to.group, ..from.disarmed() });
    let takes_over = from.dead != 0 && to.dead == 0 && to.serve_from < to.serve_until;
    let both =
        takes_over.then_some(Window { serve_from: to.serve_from, serve_until: to.serve_until, ..from });
    disarmed.into_iter().chain(grouped).chain(detour.into_iter().flatten()).chain(both).chain([to])
}

/// With the same start, or when the two overlap, every mixture lies within what the two cover.
fn is_safe(from: Window, to: Window) -> bool {
    let overlap = from.serve_from.max(to.serve_from) < from.serve_until.min(to.serve_until);
    from.serve_from == to.serve_from || overlap
}

#[cfg(test)]
mod tests {
    use super::*;
    use carp_common::time::Instant;

    const MOMENTS: [u64; 7] = [0, 1, 2, 3, 4, 5, u64::MAX];

    fn windows() -> impl Iterator<Item = Window> {
        let ends = |from| {
            MOMENTS.into_iter().map(move |until| Window {
                serve_from: from,
                serve_until: until,
                ..Window::CLOSED
            })
        };
        MOMENTS.into_iter().flat_map(ends)
    }

    #[test]
    fn no_mixture_of_two_words_is_ever_open_when_neither_window_is() {
        for from in windows() {
            for to in windows() {
                let mut last = from;
                for next in steps(from, to) {
                    for (serve_from, serve_until) in
                        [(last.serve_from, next.serve_until), (next.serve_from, last.serve_until)]
                    {
                        for now in MOMENTS.map(Instant::from_nanos) {
                            let seen = Window { serve_from, serve_until, ..Window::CLOSED }.is_leased(now);
                            let allowed = from.is_leased(now) || to.is_leased(now);
                            assert!(!seen || allowed, "{from:?} to {to:?} at {now:?}");
                        }
                    }
                    last = next;
                }
                assert_eq!(last, to);
            }
        }
    }

    #[test]
    fn a_lease_that_needs_the_pulse_is_never_seen_without_that() {
        let lease = |until| Window { serve_until: until, ..Window::CLOSED };
        let armed = Window { dead: 3, armed_until: 9, ..Window::CLOSED };
        for (from, to) in [
            (Window::CLOSED, lease(9).pulsed()),
            (armed, lease(9).pulsed()),
            (lease(5).pulsed(), lease(9).pulsed()),
            (lease(9).pulsed(), Window::CLOSED),
            (lease(9).pulsed(), armed),
        ] {
            let mut last = from;
            for next in steps(from, to) {
                for (serve_until, pulsed) in
                    [(last.serve_until, next.pulsed), (next.serve_until, last.pulsed)]
                {
                    assert!(serve_until == 0 || pulsed == 1, "{from:?} to {to:?}");
                }
                last = next;
            }
            assert_eq!(last, to);
        }
        assert_eq!(steps(lease(5).pulsed(), lease(9).pulsed()).count(), 1);
    }

    #[test]
    fn a_master_renews_with_one_write() {
        let lease = |until| Window { serve_until: until, ..Window::CLOSED };
        assert_eq!(steps(lease(5), lease(9)).count(), 1);
        assert_eq!(steps(Window::CLOSED, lease(9)).count(), 1);
        assert_eq!(steps(lease(9), Window::CLOSED).count(), 1);
    }

    #[test]
    fn an_armed_backup_that_takes_over_is_open_in_every_mixture() {
        let armed = Window { dead: 3, armed_until: 9, ..Window::CLOSED };
        let lease = Window { serve_until: 20, ..Window::CLOSED };
        let steps: Vec<Window> = steps(armed, lease).collect();
        assert_eq!(steps, [Window { dead: 3, armed_until: 9, ..lease }, lease]);
    }

    #[test]
    fn another_dead_time_is_armed_by_way_of_none() {
        let armed = |dead| Window { dead, armed_until: 9, ..Window::CLOSED };
        assert_eq!(steps(armed(3), armed(4)).collect::<Vec<_>>(), [Window::CLOSED, armed(4)]);
        assert_eq!(steps(Window::CLOSED, armed(4)).count(), 1);
        assert_eq!(steps(armed(4), Window::CLOSED).count(), 1);
    }
}
