//! What can be done to the machines and to what connects them.

use carp_common::time::Span;
use carp_user::proto::event::Command;
use core::fmt;

/// A direction between two machines on a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Way {
    /// Index of the segment.
    pub segment: usize,
    /// Index of the sending machine.
    pub from: usize,
    /// Index of the receiving machine.
    pub to: usize,
}

/// How a direction treats frames, on top of the usual latency. The default is fair weather.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Weather {
    /// Nothing comes through.
    pub blocked: bool,
    /// So many of a thousand frames are lost.
    pub loss: u16,
    /// So many of a thousand frames come twice.
    pub duplicate: u16,
    /// Up to this much later, each frame for itself: frames overtake each other.
    pub delay: Span,
}

/// Something happens to a machine or a segment. Machines and segments are named by index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Power on if need be, and start a fresh daemon; it finds the kernel as it was left.
    Start(usize),
    /// The daemon gets no CPU for so long. The kernel goes on.
    Pause(usize, Span),
    /// As `Pause`, but the daemon is caught between two actions of its list.
    Freeze {
        /// Which machine.
        node: usize,
        /// After so many more actions.
        after: u32,
        /// If the next action is an advertisement: between reading the clock and sending.
        in_send: bool,
        /// For so long.
        span: Span,
    },
    /// `kill -9` of the daemon: the kernel goes on.
    Crash {
        /// Which machine.
        node: usize,
        /// Its queue of arrived frames is a pinned ring buffer: the next daemon finds them.
        ring: bool,
    },
    /// The machine loses power: kernel and all.
    PowerOff(usize),
    /// The daemon is asked to stop in order.
    Stop(usize),
    /// A port goes down or up, and the daemon is told soon after.
    Port {
        /// Which machine.
        node: usize,
        /// On this segment.
        segment: usize,
        /// Its new state.
        up: bool,
        /// While it is down, sending fails; otherwise frames silently vanish.
        refuses: bool,
    },
    /// So many of a thousand sends fail at once with an error.
    SendErrors(usize, u16),
    /// So many of a thousand own frames come back to their sender.
    Reflect(usize, u16),
    /// The weather of one direction changes.
    Weather(Way, Weather),
    /// Somebody types a command.
    Command(usize, Command),
    /// An attacker who does not know the key sends a machine an advertisement.
    Forge {
        /// The victim.
        node: usize,
        /// Index of the virtual host that it is about.
        host: usize,
        /// 255/255, as if the master left; otherwise the best pace there is.
        farewell: bool,
        /// Addressed to the victim alone, as a hand-over would be.
        unicast: bool,
    },
    /// An attacker sends a recorded advertisement again, unchanged, to everybody.
    Replay {
        /// On this segment.
        segment: usize,
        /// How many adverts it lies back.
        back: usize,
    },
    /// Somebody gives the daemon another list of addresses: that of this generation. Each has one more than the one
    /// before, and every second one the other family too.
    Reload(usize, u8),
    /// All faults end; every machine is up and runs.
    Heal,
}

impl Way {
    /// The opposite direction.
    pub const fn back(self) -> Self {
        Self { segment: self.segment, from: self.to, to: self.from }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Start(node) => write!(f, "n{node}: daemon starts"),
            Self::Pause(node, span) => write!(f, "n{node}: daemon paused for {span}"),
            Self::Freeze { node, after, in_send, span } => {
                let place = if *in_send { ", in a send if it is one" } else { "" };
                write!(f, "n{node}: daemon will freeze for {span} after {after} more actions{place}")
            }
            Self::Crash { node, ring } => {
                write!(f, "n{node}: daemon killed{}", if *ring { ", ring buffer stays" } else { "" })
            }
            Self::PowerOff(node) => write!(f, "n{node}: power off"),
            Self::Stop(node) => write!(f, "n{node}: daemon asked to stop"),
            Self::Port { node, segment, up: true, .. } => write!(f, "n{node}: port to segment {segment} up"),
            Self::Port { node, segment, up: false, refuses } => {
                let how = if *refuses { "refuses frames" } else { "swallows frames" };
                write!(f, "n{node}: port to segment {segment} down, {how}")
            }
            Self::SendErrors(node, permille) => write!(f, "n{node}: {permille} of 1000 sends fail"),
            Self::Reflect(node, permille) => write!(f, "n{node}: {permille} of 1000 own frames come back"),
            Self::Weather(way, weather) => write!(f, "{way}: {weather}"),
            Self::Command(node, command) => write!(f, "n{node}: command {command:?}"),
            Self::Forge { node, host, farewell, unicast } => {
                let what = if *farewell { "255/255" } else { "1/0" };
                let aim = if *unicast { "unicast" } else { "multicast" };
                write!(f, "attacker: forged {what} to n{node} for host {host}, {aim}")
            }
            Self::Replay { segment, back } => {
                write!(f, "attacker: replays the advert {back} back on segment {segment}")
            }
            Self::Reload(node, generation) => write!(f, "n{node}: reload, generation {generation}"),
            Self::Heal => f.write_str("all faults end"),
        }
    }
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "segment {}: n{} -> n{}", self.segment, self.from, self.to)
    }
}

impl fmt::Display for Weather {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.blocked {
            return f.write_str("blocked");
        }
        if *self == Self::default() {
            return f.write_str("fair");
        }
        write!(f, "loss {}/1000, duplicates {}/1000, delay ", self.loss, self.duplicate)?;
        if self.delay == Span::ZERO { f.write_str("none") } else { write!(f, "up to {}", self.delay) }
    }
}
