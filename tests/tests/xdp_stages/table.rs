//! The form of the tables: a frame, what the maps say and when, and what becomes of it. Every row is
//! run in the kernel and on the host.

use crate::harness::{Action, Hook, Kernel, Outcome};
use crate::windows::{open, set_up, windows};
use carp_common::map::{Counter, Decision};
use carp_common::time::Instant;

/// A frame and its fate.
pub struct Row {
    pub name: &'static str,
    /// Of the VIPs' entries.
    pub flags: u16,
    pub frame: Vec<u8>,
    /// In a window.
    pub open: Fate,
    /// Outside.
    pub closed: Fate,
}

/// What becomes of a frame.
#[derive(Clone)]
pub struct Fate {
    action: Action,
    /// The frame afterwards, if it has changed.
    frame: Option<Vec<u8>>,
    counted: Option<Counter>,
}

/// Passes as if there were no program.
pub fn untouched() -> Fate {
    Fate { action: Action::Pass, frame: None, counted: None }
}

/// Passes as it is.
pub fn passes(counter: Counter) -> Fate {
    Fate { action: Action::Pass, frame: None, counted: Some(counter) }
}

/// Passes as this.
pub fn becomes(frame: Vec<u8>, counter: Counter) -> Fate {
    Fate { action: Action::Pass, frame: Some(frame), counted: Some(counter) }
}

/// Goes back as this.
pub fn answers(frame: Vec<u8>, counter: Counter) -> Fate {
    Fate { action: Action::Back, frame: Some(frame), counted: Some(counter) }
}

/// Goes nowhere.
pub fn drops(counter: Counter) -> Fate {
    Fate { action: Action::Drop, frame: None, counted: Some(counter) }
}

/// Every row with every kind of window, and without entries in the maps.
pub fn check(hook: Hook, rows: &[Row]) {
    let mut kernel = Kernel::at(hook);
    kernel.trace_until(Instant::MAX);
    kernel.set_window(0, open());
    for row in rows {
        let outcome = kernel.run(&row.frame);
        assert_eq!(kernel.decisions(), [], "{} at {hook:?} without entries", row.name);
        assert_eq!(outcome, untouched().of(&row.frame), "{} at {hook:?} without entries", row.name);
    }
    for row in rows {
        set_up(&mut kernel, row.flags);
        for which in 0..=windows().open.len() {
            let window = windows().open.get(which).copied().unwrap_or(windows().taken_over);
            row.check(&mut kernel, window, &row.open);
        }
        for window in windows().closed {
            row.check(&mut kernel, window, &row.closed);
        }
    }
}

impl Row {
    fn check(
        &self,
        kernel: &mut Kernel,
        (name, standing): (&str, carp_user::io::bpf::Standing),
        fate: &Fate,
    ) {
        kernel.set_window(0, standing);
        let outcome = kernel.run(&self.frame);
        assert_eq!(outcome, fate.at(kernel.hook).of(&self.frame), "{}, window {name}", self.name);
        let told: Vec<Option<Counter>> = kernel.decisions().iter().map(Decision::counter).collect();
        let tells = matches!(fate.action, Action::Drop | Action::Back);
        let wanted: Vec<_> = fate.counted.filter(|_| tells).map(Some).into_iter().collect();
        assert_eq!(told, wanted, "{}, window {name}: the log", self.name);
    }
}

impl Fate {
    /// The frame afterwards, if it has changed.
    pub fn frame(&self) -> Option<&[u8]> {
        self.frame.as_deref()
    }

    /// At tc a frame to the virtual MAC stays as it is: the kernel is told beside it whose it is.
    fn at(&self, hook: Hook) -> Self {
        let stays = hook == Hook::Tc && self.counted == Some(Counter::VirtualMacServed);
        Self { frame: self.frame.clone().filter(|_| !stays), ..self.clone() }
    }

    fn of(&self, frame: &[u8]) -> Outcome {
        Outcome {
            action: self.action,
            frame: self.frame.clone().unwrap_or_else(|| frame.to_vec()),
            counted: self.counted.into_iter().collect(),
        }
    }
}
