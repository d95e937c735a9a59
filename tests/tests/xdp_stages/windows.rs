//! The windows that matter, and a virtual host to try them on.

use crate::frames::CLIENT4;
use crate::frames::{VHID, VIPS};
use crate::harness::{Kernel, LINK};
use carp_common::map::{ARMED_FOR, Vip, Window};
use carp_common::time::{Instant, Span};
use carp_user::io::bpf::Standing;
use carp_user::io::clock;

/// By name.
pub struct Windows {
    pub open: Vec<(&'static str, Standing)>,
    /// Open, but not for longer than a few frames take.
    pub taken_over: (&'static str, Standing),
    pub closed: Vec<(&'static str, Standing)>,
}

/// A window that does not depend on what was heard.
pub fn always(window: Window) -> Standing {
    Standing { window, heard: Instant::ZERO }
}

pub fn windows() -> Windows {
    let (now, hour, dead) = (clock::now(), Span::secs(3600), Span::secs(3));
    let armed_window = |until| Window::armed(dead, until, CLIENT4.into());
    let armed = |until, silence| Standing { window: armed_window(until), heard: now - silence };
    let lease = Window::new(Instant::ZERO, now + hour);
    let of = |window| Standing { window, heard: now };
    Windows {
        open: vec![
            ("a master's lease", of(lease)),
            ("a window that has begun", of(Window::new(now - Span::millis(1), now + hour))),
            ("for ever", of(Window::new(Instant::ZERO, Instant::MAX))),
            ("a lease while armed", of(Window { dead: 1, armed_until: u64::MAX, ..lease })),
        ],
        taken_over: ("an armed backup's, begun", armed(now + hour, dead)),
        closed: vec![
            ("zero", of(Window::CLOSED)),
            ("expired", of(Window::new(Instant::ZERO, now - Span::millis(1)))),
            ("not yet begun", of(Window::new(now + hour, now + hour + hour))),
            ("never", of(Window::new(Instant::MAX, Instant::MAX))),
            ("upside down", of(Window::new(now + hour, now - Span::millis(1)))),
            // For longer than any test takes.
            ("armed, master heard", of(Window::armed(hour, now + hour, CLIENT4.into()))),
            ("armed, nobody ever heard", always(armed_window(now + hour))),
            ("armed, taken over and not claimed", armed(now + hour, dead + ARMED_FOR)),
            ("armed no longer", armed(now - Span::millis(1), dead)),
        ],
    }
}

/// An open one.
pub fn open() -> Standing {
    windows().open[0].1
}

/// One virtual host with a VIP of each family in slot 0, with these flags.
pub fn set_up(kernel: &mut Kernel, flags: u16) {
    kernel.set_host(LINK, VHID, 0);
    for vip in VIPS {
        kernel.set_vip(vip, Vip { slot: 0, vhid: u16::from(VHID), flags });
    }
}
