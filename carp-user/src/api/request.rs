//! What a client of the control socket asks for, and what it is told.

use super::{Event, FlowQuery, FlowStanding, Status};
use crate::pair_config::book::Pushed;
use crate::pair_config::talk::Standing;
use crate::proto::event::{Command, HostId};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// What a client asks for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "verb", rename_all = "snake_case", deny_unknown_fields)]
pub enum Request {
    /// How things are.
    Status,
    /// Put a named demotion in place.
    Demote {
        /// Key to lift it by.
        name: String,
        /// Added to every skew, 1..=240.
        amount: u8,
        /// Why, in words.
        reason: String,
    },
    /// Lift a named demotion.
    Undemote {
        /// The name it was put in place with.
        name: String,
    },
    /// Put a virtual host into a role until the protocol undoes it.
    Force {
        /// Interface name.
        interface: String,
        /// Its vhid.
        vhid: u8,
        /// MASTER, or else BACKUP.
        master: bool,
    },
    /// Read the configuration again and go on with it.
    Reload {
        /// Only say what that would change.
        dry_run: bool,
        /// In whose name.
        #[serde(default)]
        by: Authority,
    },
    /// Go on with another file in the place of the shared one, and put it there.
    Apply {
        /// The file, by its whole path.
        file: PathBuf,
        /// Only say what that would change.
        dry_run: bool,
        /// Seconds within which it has to be confirmed, or it is taken back.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        confirm_s: Option<u32>,
        /// For the list of revisions.
        origin: String,
        /// In whose name.
        #[serde(default)]
        by: Authority,
    },
    /// Keep what was applied, here and on the node that follows.
    Confirm,
    /// Keep what was applied, here.
    Keep,
    /// Have the node that follows use what is used here.
    Push,
    /// The shared configuration of the node that follows.
    PeerText,
    /// The shared configuration that is used.
    Shared {
        /// Names of the sections that its hash is of.
        sections: Vec<String>,
    },
    /// How the node stands that this one follows, by its own account: to be shown.
    Met {
        /// That.
        peer: Box<Standing>,
    },
    /// Have both nodes tell each other all their flows once more.
    SyncFull,
    /// Hand the role over to the other node, or take it back.
    Failover {
        /// Of this virtual host alone.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        host: Option<VirtualHost>,
        /// Of this group alone.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        group: Option<String>,
        /// To the node of this name or address.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        to: Option<String>,
        /// Have this node preempt again where it handed over before.
        #[serde(default)]
        back: bool,
        /// Although the other node does not have all connections.
        #[serde(default)]
        force: bool,
    },
    /// Hand everything over and rank lower until somebody says otherwise; or end that.
    Maintenance {
        /// Begin it, or else end it.
        on: bool,
        /// Why, in words.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
        /// Seconds after which it ends by itself.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        for_s: Option<u32>,
        /// Although the other node cannot take over.
        #[serde(default)]
        force: bool,
    },
    /// What happened: those behind this number, or the last so many, [`super::EVENTS_AT_ONCE`] at most.
    Events {
        /// Number of the last one that is known; 0 for none.
        after: u64,
        /// So many of the last ones instead.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        count: Option<u32>,
    },
    /// How it stands with these flows, [`AT_ONCE`] at most.
    Flows {
        /// Which.
        flows: Vec<FlowQuery>,
    },
}

/// A virtual host, as people name it: `lan0@1`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VirtualHost {
    /// Interface name.
    pub interface: String,
    /// Its vhid.
    pub vhid: u8,
}

/// In whose name a configuration is used: that decides whether a node that follows takes it, and whether it is pushed on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Authority {
    /// Somebody's at this node.
    #[default]
    Here,
    /// The same, on a node that follows, which then differs from the other.
    Local,
    /// The node's that this one follows.
    Pushed(Box<Pushed>),
    /// The node that follows uses it already.
    Agreed,
}

/// A shared configuration as it is used.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shared {
    /// As it was written.
    pub text: String,
    /// Of the sections that were asked for.
    pub hash: String,
    /// Number of the newest revision.
    pub revision: u32,
    /// What it came by.
    pub origin: String,
    /// What the node adds to every skew.
    pub node_skew: u8,
    /// The node has another one follow.
    pub pushes: bool,
    /// Where it came from, on a node that follows.
    pub pushed: Option<Pushed>,
    /// It was changed there since.
    pub changed: bool,
}

/// What it is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "result", rename_all = "snake_case")]
pub enum Response {
    /// To `Status`.
    Status(Box<Status>),
    /// To `Flows`, in their order.
    Flows {
        /// How it stands with each.
        standings: Vec<FlowStanding>,
    },
    /// To `Failover` and `Maintenance`: the other node serves.
    Moved {
        /// Each virtual host that moved, and the address of the node that serves it.
        moved: Vec<(String, String)>,
        /// Whether the other node had confirmed all connections before; none where nothing is replicated.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        drained: Option<bool>,
        /// Microseconds that all of it took.
        us: u64,
    },
    /// To `Events`.
    Events {
        /// The oldest first.
        events: Vec<Event>,
        /// How many that were asked for are not kept any more.
        dropped: u64,
    },
    /// To `Reload` and `Apply`.
    Reloaded {
        /// What changes, a line each; none when nothing does.
        changes: Vec<String>,
        /// Why the daemon hands over and starts anew for that, if it has to.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        new_start: Option<String>,
    },
    /// To `Shared`.
    Shared(Box<Shared>),
    /// To `PeerText`.
    Text {
        /// As it was written.
        text: String,
    },
    /// It is done.
    Done,
    /// It is not done, and why.
    Error {
        /// In words, with what to do next.
        message: String,
    },
}

impl Request {
    /// Whether only root may ask for it.
    pub const fn changes_something(&self) -> bool {
        match self {
            Self::Status | Self::Events { .. } | Self::Flows { .. } | Self::Shared { .. } => false,
            Self::Demote { .. }
            | Self::Undemote { .. }
            | Self::Force { .. }
            | Self::Reload { .. }
            | Self::Apply { .. }
            | Self::Confirm
            | Self::Failover { .. }
            | Self::Maintenance { .. }
            | Self::Keep
            | Self::Push
            | Self::PeerText
            | Self::Met { .. }
            | Self::SyncFull => true,
        }
    }

    /// As a command to the node. `host_of` finds a virtual host by interface and vhid. `None` for
    /// a query, and for what is not the node's.
    ///
    /// # Errors
    /// In words, when the amount is out of range or there is no such virtual host.
    pub fn command(self, host_of: impl Fn(&str, u8) -> Option<HostId>) -> Result<Option<Command>, String> {
        match self {
            Self::Status
            | Self::Reload { .. }
            | Self::Apply { .. }
            | Self::Confirm
            | Self::Keep
            | Self::Push
            | Self::PeerText
            | Self::Shared { .. }
            | Self::Met { .. }
            | Self::SyncFull
            | Self::Failover { .. }
            | Self::Maintenance { .. }
            | Self::Events { .. }
            | Self::Flows { .. } => Ok(None),
            Self::Demote { amount, .. } if !(1..=240).contains(&amount) => {
                Err(format!("amount {amount} is out of range: give 1 to 240"))
            }
            Self::Demote { name, reason, .. } if [&name, &reason].iter().any(|text| has_control(text)) => {
                Err("a name or reason with control characters: write it without them, in one line".to_owned())
            }
            Self::Demote { name, amount, reason } => {
                Ok(Some(Command::Demote { name: user_demotion(&name), amount, reason, until: None }))
            }
            Self::Undemote { name } => Ok(Some(Command::Undemote { name: user_demotion(&name) })),
            Self::Force { interface, vhid, master } => match host_of(&interface, vhid) {
                Some(host) => Ok(Some(Command::Force { host, master })),
                None => Err(format!("no virtual host {interface}@{vhid}: see `carpctl status`")),
            },
        }
    }
}

impl Response {
    /// It, unless it says that something is not done.
    ///
    /// # Errors
    /// Why it is not, in words.
    pub fn or_error(self) -> Result<Self, String> {
        if let Self::Error { message } = self { Err(message) } else { Ok(self) }
    }
}

/// Demotions of people have names of their own, so that nobody lifts one of the node's.
fn user_demotion(name: &str) -> String {
    format!("user {name}")
}

/// They would reach the terminal of whoever looks at the status.
pub fn has_control(text: &str) -> bool {
    text.chars().any(char::is_control)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_demotion_with_control_characters_is_refused() {
        let demote = |name: &str, reason: &str| {
            let (name, reason) = (name.to_owned(), reason.to_owned());
            Request::Demote { name, amount: 1, reason }.command(|_, _| None)
        };
        assert!(demote("a\u{1b}[2J", "b").is_err() && demote("a", "b\nc").is_err());
        assert!(demote("maintenance", "new memory, größer").is_ok());
    }
}
