//! How a window is replaced while the datapath reads it.
//!
//! XDP reads the two words of a window one after the other, so during a write it may see one word
//! of the old and one of the new window. A master's windows all start at zero, so only the end
//! changes, and every mixture is one of the two. Where the start changes too, a mixture could be
//! open when neither window is; then the window goes over a closed one.

use carp_common::map::Window;

/// What is written, in this order, to get from one window to the other: one write as a rule.
pub(super) fn steps(from: Window, to: Window) -> impl Iterator<Item = Window> {
    let closed = |start| Window { serve_from: start, serve_until: 0 };
    let detour = [closed(from.serve_from), closed(to.serve_from)];
    let detour = if is_safe(from, to) { None } else { Some(detour) };
    detour.into_iter().flatten().chain([to])
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
        let ends =
            |from| MOMENTS.into_iter().map(move |until| Window { serve_from: from, serve_until: until });
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
                            let seen = Window { serve_from, serve_until }.is_open(now);
                            let allowed = from.is_open(now) || to.is_open(now);
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
    fn a_master_renews_with_one_write() {
        let lease = |until| Window { serve_from: 0, serve_until: until };
        assert_eq!(steps(lease(5), lease(9)).count(), 1);
        assert_eq!(steps(Window::CLOSED, lease(9)).count(), 1);
        assert_eq!(steps(lease(9), Window::CLOSED).count(), 1);
    }
}
