//! What the two sides write down, in the state directory: whole after any crash.

use crate::io::disk::{self, Staged};
use crate::proto::config_sync::coordinator::Journal;
use crate::proto::config_sync::participant::Ledger;
use crate::proto::config_sync::{Decision, Ticket};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::fs;
use std::io;
use std::path::PathBuf;

/// The folder of one instance: a book, and the configuration of a ticket beside it.
#[derive(Clone, Debug)]
pub struct Shelf {
    folder: PathBuf,
}

/// Where the configuration of this node came from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pushed {
    /// The node that is edited.
    pub node: String,
    /// What it was applied by there.
    pub origin: String,
    /// The sections.
    pub sections: Vec<String>,
    /// Of what was pushed, there.
    pub hash: String,
    /// The same of what this node made of it.
    pub own: String,
}

/// The book of the one that follows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FollowerBook {
    /// The highest ticket that is over, and whether it is used.
    pub decided: Option<(u64, bool)>,
    /// The one whose configuration is beside this, and where it came from.
    pub staged: Option<(u64, Pushed)>,
    /// Where the configuration that is used came from.
    pub used: Option<Pushed>,
}

/// The book of the one that is edited.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EditorBook {
    /// See [`Journal::doubt`].
    pub doubt: Option<u64>,
    /// See [`Journal::owed`].
    pub owed: bool,
}

impl Shelf {
    /// What this instance follows by.
    pub fn of_follower(instance: &str) -> Self {
        Self { folder: disk::state_of(instance).join("following") }
    }

    /// What this instance pushes by.
    pub fn of_editor(instance: &str) -> Self {
        Self { folder: disk::state_of(instance).join("pushing") }
    }

    /// The book; an empty one when there is none.
    ///
    /// # Errors
    /// What the file system says, or that it is not a book.
    pub fn read<Book: DeserializeOwned + Default>(&self) -> io::Result<Book> {
        match fs::read_to_string(self.folder.join(BOOK)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Book::default()),
            Err(error) => Err(error),
            Ok(text) => Ok(serde_json::from_str(&text)?),
        }
    }

    /// Writes it.
    ///
    /// # Errors
    /// What the file system says.
    pub fn write<Book: Serialize>(&self, book: &Book) -> io::Result<()> {
        disk::make(&self.folder)?;
        Staged::write(&self.folder.join(BOOK), &serde_json::to_string(book)?, 0o600)?.settle()
    }

    /// Puts the configuration of a ticket beside it.
    ///
    /// # Errors
    /// What the file system says.
    pub fn put(&self, ticket: u64, text: &str) -> io::Result<()> {
        disk::make(&self.folder)?;
        Staged::write(&self.file(ticket), text, 0o600)?.settle()
    }

    /// Where that is.
    pub fn file(&self, ticket: u64) -> PathBuf {
        self.folder.join(format!("{ticket}{TEXT}"))
    }

    /// Removes the configurations of all tickets but this one.
    pub fn keep_only(&self, ticket: Option<u64>) {
        let kept = ticket.map(|ticket| self.file(ticket));
        for entry in fs::read_dir(&self.folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.extension().is_some_and(|it| it == "toml") && Some(&path) != kept.as_ref() {
                let _ = fs::remove_file(path);
            }
        }
    }
}

impl FollowerBook {
    /// As the state machine has it.
    pub fn ledger(&self) -> Ledger {
        let decision = |used| if used { Decision::Committed } else { Decision::Aborted };
        Ledger {
            decided: self.decided.map(|(ticket, used)| (Ticket(ticket), decision(used))),
            staged: self.staged.as_ref().map(|(ticket, _)| Ticket(*ticket)),
        }
    }

    /// The state machine's, as it is written.
    #[must_use]
    pub fn with(self, ledger: &Ledger, incoming: Option<&Pushed>) -> Self {
        let decided =
            ledger.decided.map(|(Ticket(ticket), decision)| (ticket, decision == Decision::Committed));
        let is_new = decided != self.decided;
        let staged = self.staged.clone();
        let used = match (decided, staged) {
            // What was staged is used now.
            (Some((ticket, true)), Some((staged, pushed))) if is_new && ticket == staged => Some(pushed),
            (Some(_) | None, Some(_) | None) => self.used,
        };
        let staged = ledger.staged.and_then(|Ticket(ticket)| match self.staged {
            Some((known, pushed)) if known == ticket => Some((ticket, pushed)),
            Some(_) | None => incoming.map(|pushed| (ticket, pushed.clone())),
        });
        Self { decided, staged, used }
    }
}

impl From<Journal> for EditorBook {
    fn from(Journal { doubt, owed }: Journal) -> Self {
        Self { doubt: doubt.map(|Ticket(ticket)| ticket), owed }
    }
}

impl From<EditorBook> for Journal {
    fn from(EditorBook { doubt, owed }: EditorBook) -> Self {
        Self { doubt: doubt.map(Ticket), owed }
    }
}

const BOOK: &str = "book.json";
const TEXT: &str = ".toml";
