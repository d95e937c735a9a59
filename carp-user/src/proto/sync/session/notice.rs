//! What people are told.

use super::Cause;
use crate::proto::flow::Key;
use crate::proto::sync::wire::Malformed;
use carp_common::time::Span;
use std::fmt;

/// The alarm of a node that has no room for flows of the peer: its name, and what to do.
pub const TABLE_FULL: &str = "table-full: no room for all connections of the peer, so those beyond are refused, and lost \
                              at a take-over: raise net.netfilter.nf_conntrack_max on this node";

/// Something that somebody should know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// No version of the protocol is common.
    Version {
        /// The peer's oldest and newest.
        peer: (u16, u16),
    },
    /// The peer has this node's name.
    SameName(String),
    /// The peer says what makes no sense.
    Malformed(Malformed),
    /// The peer says what it should not say now.
    OutOfTurn(&'static str),
    /// The peer has said nothing for this long.
    Silent(Span),
    /// The peer did not send its whole table.
    Stuck {
        /// How many flows came.
        got: u64,
        /// Of how many.
        of: u64,
        /// How long nothing came, or the whole took.
        after: Span,
    },
    /// The kernel had more to say than its socket holds.
    Overrun,
    /// The kernel's table could not be read to its end.
    DumpFailed,
    /// The kernel refused flows since the last second.
    Refused {
        /// So many.
        count: u64,
        /// Why.
        cause: Cause,
        /// One of them.
        first: Key,
    },
    /// There is no room for flows of the peer: an alarm, until [`Notice::Room`].
    TableFull,
    /// There is again.
    Room,
    /// The tables differ in this many buckets twice, and are being repaired.
    Repair(usize),
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Version { peer: (oldest, newest) } => write!(
                f,
                "the peer speaks version {oldest} to {newest} of the sync protocol, this node {} to {}: \
                 install the same version of carpd on both",
                super::VERSIONS.start(),
                super::VERSIONS.end()
            ),
            Self::SameName(name) => {
                write!(f, "the peer is called {name}, too: give each node a name of its own ([node] name)")
            }
            Self::Malformed(why) => write!(f, "the peer sends what makes no sense: {why}"),
            Self::OutOfTurn(what) => write!(f, "the peer sends {what} out of turn"),
            Self::Silent(span) => write!(f, "the peer has been silent for {span}"),
            Self::Stuck { got, of, after } => write!(
                f,
                "the peer's table did not arrive: {} of {} flows after {after}; this node goes on with what it has",
                Thousands(*got),
                Thousands(*of)
            ),
            Self::Overrun => f.write_str(
                "the kernel had more to say of its connections than the socket holds: the whole table is read anew",
            ),
            Self::DumpFailed => f.write_str("the kernel's table could not be read to its end: once more"),
            Self::Refused { count, cause, first } => {
                write!(f, "the kernel refused {count} flows of the peer, {first} for one: {cause}")
            }
            Self::TableFull => write!(f, "alarm {TABLE_FULL}"),
            Self::Room => write!(f, "the alarm is over: there is room for all flows of the peer"),
            Self::Repair(count) => {
                write!(f, "{count} of 4096 buckets of the two tables differ: their flows are told once more")
            }
        }
    }
}

/// A number with its digits in groups of three.
#[derive(Clone, Copy, Debug)]
pub struct Thousands(pub u64);

impl fmt::Display for Thousands {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.checked_div(1000) {
            Some(0) | None => write!(f, "{}", self.0),
            Some(thousands) => write!(f, "{},{:03}", Self(thousands), self.0 % 1000),
        }
    }
}
