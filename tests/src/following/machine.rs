//! One node: what is on its disk, what it runs, and the pure half that a crash takes.

use carp_user::proto::config_sync::coordinator::{Coordinator, Journal};
use carp_user::proto::config_sync::participant::{Ledger, Participant};

/// A configuration; only whether two are the same matters.
pub type Revision = u32;

/// What a crash leaves.
#[derive(Clone, Debug, Default)]
pub struct Disk<Book> {
    /// The configuration in the file.
    pub file: Revision,
    /// The journal or the ledger.
    pub book: Book,
    /// The configuration beside it.
    pub beside: Option<Revision>,
}

/// A node with its role in this.
#[derive(Clone, Debug)]
pub struct Machine<Pure, Book> {
    /// What a crash leaves.
    pub disk: Disk<Book>,
    /// What it runs; the rest only counts while it does.
    pub running: Revision,
    /// The state machine; none while it is down.
    pub pure: Option<Pure>,
    /// How often it was started: what was under way for another start is dropped.
    pub start: u32,
    /// The configuration that is being looked at: wanted here, or come with a stage.
    pub wanted: Option<Revision>,
    /// It runs until it is confirmed.
    pub trial: bool,
}

/// The one that is edited.
pub type Editor = Machine<Coordinator, Journal>;
/// The one that follows.
pub type Follower = Machine<Participant, Ledger>;

impl<Pure, Book: Default> Machine<Pure, Book> {
    /// Down, with this in its file.
    pub fn new(file: Revision) -> Self {
        let disk = Disk { file, book: Book::default(), beside: None };
        Self { disk, running: file, pure: None, start: 0, wanted: None, trial: false }
    }

    /// Everything is lost that is not on the disk.
    pub fn crash(&mut self) {
        self.pure = None;
        self.wanted = None;
        self.trial = false;
    }

    /// What a start begins with.
    pub const fn boot(&mut self) {
        self.start += 1;
        self.running = self.disk.file;
    }

    /// It does not run what it was trying any more.
    pub const fn go_back(&mut self) {
        if self.trial {
            self.trial = false;
            self.running = self.disk.file;
        }
    }
}
