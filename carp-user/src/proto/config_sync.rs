//! One configuration on two nodes: what the one that is edited (`coordinator`) and the one that follows
//! (`participant`) say to each other, what each writes down before it goes on, and where either goes after a crash.
//!
//! The one that follows decides. It is told a configuration (*stage*), which it checks and puts on its disk; when the
//! other has checked it too, it is told to use it (*commit*), and whether it has is written down there with the number
//! of the attempt, its *ticket*. The other one uses it after that. It has written down before that it is *in doubt*, so
//! after a crash it asks about this ticket and goes where its peer is. A ticket that was decided stays decided: what
//! arrives late, or twice, or from before a crash, changes nothing.

pub mod coordinator;
pub mod participant;

use carp_common::time::Span;

/// The number of an attempt: each is higher than all before it, over restarts too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// What the one that is edited asks of the other. The configuration itself travels beside a `Stage`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// How it stands.
    Ask,
    /// Check this configuration against your machine, and keep it.
    Stage(Ticket),
    /// Use it without putting it into the file, for so long at most.
    Try(Ticket, Span),
    /// Use it from now on.
    Commit(Ticket),
    /// Forget it.
    Abort(Ticket),
}

/// What it is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// To `Ask`: it is there.
    Here,
    /// It is on the disk, and using it would change this, a line each.
    Staged(Vec<String>),
    /// It is used for the time being.
    Trying,
    /// It is used, and is in the file.
    Committed,
    /// It is not used and will not be, and why.
    Refused(String),
    /// Another attempt, this one, came later or was decided later.
    Stale(Ticket),
    /// It is busy with another request: ask again.
    Busy,
}

/// What is known of an attempt that is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It is used.
    Committed,
    /// It is not.
    Aborted,
}

impl Ticket {
    /// The first of a start with this number.
    pub const fn first_of(epoch: u32) -> Self {
        // A cast from u32 loses nothing; `From` is not const.
        Self((epoch as u64) << 32)
    }

    /// The next one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}
