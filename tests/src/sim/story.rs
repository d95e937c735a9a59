//! What happened, for tests to look at and for people to read.

use super::fault::Fault;
use super::post::Origin;
use carp_common::map::Window;
use carp_common::pace::Pace;
use carp_common::time::{Instant, Span};
use carp_user::proto::event::{Family, Transition, Warning};
use core::fmt;
use std::net::IpAddr;

/// One line of the timeline.
#[derive(Clone, Debug)]
pub struct Line {
    /// World time.
    pub at: Instant,
    /// What happened.
    pub what: What,
}

/// What may happen.
#[derive(Clone, Debug)]
pub enum What {
    /// The script did it.
    Fault(Fault),
    /// A paused daemon runs again.
    Resumed(usize),
    /// A daemon was caught between two actions.
    Frozen(usize, Span),
    /// A role changed.
    Role(usize, Transition),
    /// A window was written; how long it is open yet, by the machine's clock.
    Window {
        /// Which machine.
        node: usize,
        /// Which virtual host.
        host: usize,
        /// What it was.
        before: Window,
        /// What it is.
        after: Window,
        /// The machine's clock.
        local: Instant,
    },
    /// An advertisement of this pace was handed to the kernel, which took it or not.
    Advert {
        /// Which machine.
        node: usize,
        /// On this segment.
        segment: usize,
        /// What it says.
        pace: Pace,
        /// In this family.
        family: Family,
        /// The one machine that it is for, when not for all.
        to: Option<IpAddr>,
        /// Whether the kernel took it.
        ok: bool,
    },
    /// A daemon got an advertisement.
    Heard {
        /// Which machine.
        node: usize,
        /// On this segment.
        segment: usize,
        /// From whom.
        origin: Origin,
        /// What it says.
        pace: Pace,
    },
    /// A frame was lost on the way.
    Lost {
        /// On this segment.
        segment: usize,
        /// Sent by.
        from: usize,
        /// Never got to.
        to: usize,
    },
    /// A daemon warned.
    Warning(usize, Warning),
}

impl What {
    /// Only for those who want to see every frame.
    pub const fn is_detail(&self) -> bool {
        match self {
            Self::Advert { to, ok, .. } => to.is_none() && *ok,
            Self::Heard { .. } | Self::Lost { .. } => true,
            Self::Window { before, after, local, .. } => before.is_leased(*local) && after.is_leased(*local),
            Self::Fault(_) | Self::Resumed(_) | Self::Frozen(..) | Self::Role(..) | Self::Warning(..) => {
                false
            }
        }
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}  {}", Clockwise(self.at), self.what)
    }
}

/// A moment as seconds and milliseconds, with the microseconds set apart: `12.345 678`.
pub struct Clockwise(pub Instant);

impl fmt::Display for Clockwise {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let micros = self.0.since(Instant::ZERO).as_micros();
        write!(f, "{:4}.{:03} {:03}", micros / 1_000_000, micros / 1_000 % 1_000, micros % 1_000)
    }
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fault(fault) => write!(f, "! {fault}"),
            Self::Resumed(node) => write!(f, "! n{node}: daemon runs again"),
            Self::Frozen(node, span) => write!(f, "! n{node}: daemon frozen between two actions for {span}"),
            Self::Role(node, Transition { host, from, to, reason, .. }) => {
                write!(f, "n{node} host {}: {from} -> {to} ({reason})", host.0)
            }
            Self::Window { node, host, before: _, after, local } => {
                write!(f, "n{node} host {host}: window {}", Opening(*after, *local))
            }
            Self::Advert { node, segment, pace: Pace { base, skew }, family, to, ok } => {
                write!(f, "n{node} segment {segment}: advertises {base}/{skew} {family:?}")?;
                if let Some(to) = to {
                    write!(f, " to {to} alone")?;
                }
                f.write_str(if *ok { "" } else { ": send error" })
            }
            Self::Heard { node, segment, origin, pace: Pace { base, skew } } => {
                write!(f, "n{node} segment {segment}: hears {base}/{skew} from {origin}")
            }
            Self::Lost { segment, from, to } => write!(f, "segment {segment}: frame n{from} -> n{to} lost"),
            Self::Warning(node, warning) => write!(f, "n{node}: warning: {warning}"),
        }
    }
}

/// A window as seen at a moment of its machine's clock.
struct Opening(Window, Instant);

impl fmt::Display for Opening {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(Window { serve_from, serve_until, dead, armed_until, .. }, local) = *self;
        let (from, until) = (Instant::from_nanos(serve_from), Instant::from_nanos(serve_until));
        if dead != 0 {
            let left = Instant::from_nanos(armed_until).since(local);
            write!(f, "armed for {left}, to open after {} of silence", Span::nanos(dead))
        } else if from >= until || until <= local {
            f.write_str("closed")
        } else if from <= local {
            write!(f, "open for {}", until.since(local))
        } else {
            write!(f, "opens in {} for {}", from.since(local), until.since(from))
        }
    }
}
