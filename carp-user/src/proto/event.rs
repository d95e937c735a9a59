//! What goes in at the node's one door, and what comes out.

pub use super::changes::{Changes, Former};
pub use super::demote::Demoted;
use super::detect::{Sign, Watched};
pub use super::family::Family;
pub use super::gate::{Answer, Question};
pub use super::notice::{News, Warning};
pub use super::setup::{Flavour, Group, HostSetup, Setup};
use super::tenure::LATENCY;
use carp_common::id::{IfIndex, Mac};
use carp_common::map::Window;
use carp_common::pace::Pace;
use carp_common::sender::Challenge;
use carp_common::time::Instant;
use carp_common::wire::{Frame, Refusal};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Number of a virtual host as long as the node has it: at the start its place in the configuration. Also its slot in
/// the datapath's maps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct HostId(pub u32);

/// An advertisement whose fate matters to its sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Errand {
    /// To the group, in this family: of a master, or of one that will be.
    Advert(Family),
    /// To this node, which is asked to answer. It tells nobody of a master or a claim.
    Greeting(IpAddr),
}

/// Something happened.
#[derive(Clone, Debug)]
pub enum Event<'a> {
    /// A frame of IP protocol 112 came in.
    Frame {
        /// Link that it came in by.
        link: IfIndex,
        /// When the kernel got it; the daemon may be late.
        at: Instant,
        /// From the Ethernet header on.
        frame: &'a [u8],
    },
    /// One of the frames that the datapath refused, and counted. By far not all of them come here.
    Refused {
        /// Link that it came in by.
        link: IfIndex,
        /// Why.
        refusal: Refusal,
        /// From the Ethernet header on.
        frame: &'a [u8],
    },
    /// A link is as described, from now on. The first one of a link starts its virtual hosts.
    Link {
        /// Which.
        link: IfIndex,
        /// How it is.
        state: LinkState,
    },
    /// What became of an [`Action::Advertise`]. Every one of them gets exactly one.
    Sent {
        /// The virtual host that advertised.
        host: HostId,
        /// What it sent.
        errand: Errand,
        /// Read *before* the send, so that a lease never starts late.
        at: Instant,
        /// Whether the kernel took it.
        ok: bool,
    },
    /// What a prober says of a group's master, see [`Action::Watch`].
    Sign {
        /// Name of the group.
        group: &'a str,
        /// What.
        sign: Sign,
        /// When it was so.
        at: Instant,
    },
    /// The daemon's pulse was not renewed in time ([`super::detect::Pulse`]). When everything that follows is done, it may
    /// begin anew.
    PulseLost,
    /// The configuration is another one.
    Configure(Changes),
    /// The deadline has come, or the caller just looks in.
    Tick,
    /// What came of an [`Action::Ask`]. Every question is answered once, or never.
    Answered {
        /// Of the question.
        number: u64,
        /// What came of it.
        answer: Answer,
    },
    /// Somebody wants something.
    Command(Command),
    /// Leave in order: fence, bow out. Nothing comes after it.
    Stop,
}

/// A link as the kernel describes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkState {
    /// Up, and with a carrier; an operational state of "unknown" counts as up.
    pub up: bool,
    /// Its own MAC.
    pub mac: Mac,
    /// Source of IPv4 adverts: an address of the link that is no VIP.
    pub source_v4: Option<Ipv4Addr>,
    /// Source of IPv6 adverts, likewise; in practice link-local.
    pub source_v6: Option<Ipv6Addr>,
    /// XDP stands in front of it: the virtual MAC works. Otherwise VIPs are announced with the
    /// link's own MAC.
    pub shielded: bool,
    /// The node forwards IPv6 here (router flag in neighbour advertisements).
    pub router: bool,
}

/// What a person or another part of the node asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Put a named demotion in place, or change it.
    Demote {
        /// Who and what for: the key under which it is lifted again.
        name: String,
        /// Added to the skew of every virtual host; at least 1.
        amount: u8,
        /// Why, in words.
        reason: String,
        /// When it ends by itself, if it does.
        until: Option<Instant>,
    },
    /// Lift a named demotion. Unknown names are fine.
    Undemote {
        /// The name it was put in place with.
        name: String,
    },
    /// Give the role of these virtual hosts to their heirs, where this node serves.
    Cede {
        /// Which.
        hosts: Vec<HostId>,
        /// Leave the new master alone although this node ranks higher, see [`super::restraint`].
        spare: bool,
    },
    /// Leave no master alone any more that this node preempts as it is configured.
    Reclaim {
        /// Of which virtual hosts.
        hosts: Vec<HostId>,
    },
    /// Put a virtual host into a role. Not in INIT, and not sticky: the protocol may undo it.
    Force {
        /// Which one.
        host: HostId,
        /// MASTER, or else BACKUP.
        master: bool,
    },
}

/// What is to be done, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Write this window into the datapath before going on.
    Window {
        /// Which virtual host's.
        host: HostId,
        /// From when until when it may serve.
        window: Window,
    },
    /// Send an advertisement and report back by [`Event::Sent`].
    Advertise {
        /// Which virtual host's.
        host: HostId,
        /// Link to send on.
        link: IfIndex,
        /// What it is.
        errand: Errand,
        /// The whole frame.
        frame: Frame,
    },
    /// Send a frame; nothing depends on it (farewells, confirmations).
    Send {
        /// Link to send on.
        link: IfIndex,
        /// The whole frame.
        frame: Frame,
    },
    /// Tell switches and neighbours where a VIP is (gratuitous ARP, unsolicited NA), when there is nothing more urgent, and
    /// if it is still served then.
    Announce {
        /// Virtual host.
        host: HostId,
        /// Link to send on.
        link: IfIndex,
        /// The whole frame.
        frame: Frame,
    },
    /// Write whose answers count from now on, before the greeting that follows is sent.
    Challenge {
        /// Which virtual host's.
        host: HostId,
        /// Answers to which greetings.
        challenge: Challenge,
    },
    /// From now on ask the master of this group whether it serves, and tell by [`Event::Sign`]; `None`: nobody any more.
    Watch {
        /// Name of the group.
        group: String,
        /// Whom, and how.
        watched: Option<Watched>,
    },
    /// A role changed: tell the log.
    Changed(Transition),
    /// Worth knowing: tell the log.
    Tell {
        /// Which virtual host.
        host: HostId,
        /// What.
        news: News,
    },
    /// From now on the node serves the VIPs of a virtual host, or no longer: its addresses follow.
    Serving {
        /// Which virtual host.
        host: HostId,
        /// Whether it serves.
        serving: bool,
    },
    /// Ask whether it may take over, and report back by [`Event::Answered`]. Nothing waits for that but the take-over.
    Ask(Question),
    /// A demotion came, changed or went: worth knowing.
    Demoted(Demoted),
    /// Another node is heard for the first time, or again; or is not heard any more.
    Peer {
        /// By which virtual host.
        host: HostId,
        /// Its address.
        address: IpAddr,
        /// Whether it is heard.
        heard: bool,
    },
    /// Worth a person's attention.
    Warn {
        /// Which virtual host.
        host: HostId,
        /// What is wrong, and what to do.
        warning: Warning,
    },
}

/// The role of a virtual host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Not running: link down, or no source address.
    Init,
    /// Listening.
    Backup,
    /// Elected. Whether it also serves is the window's matter.
    Master,
}

/// A change of role.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transition {
    /// Which virtual host.
    pub host: HostId,
    /// Before.
    pub from: Role,
    /// After.
    pub to: Role,
    /// Why.
    pub reason: Reason,
    /// What this node competed with when its role changed last.
    pub rank_before: Pace,
    /// What it competes with now.
    pub rank: Pace,
    /// The master heard last, and what it competes with.
    pub master: Option<(IpAddr, Pace)>,
}

/// Why a role changed. The texts are FreeBSD's where it has one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// All preconditions are met.
    Initialized,
    /// The link went down.
    LinkDown,
    /// The link came up.
    LinkUp,
    /// The link has no address to advertise from.
    NoSource,
    /// A better master advertised.
    BetterMaster,
    /// An equally good master advertised from a lower address.
    LowerAddress,
    /// A worse master advertised, and preemption is on.
    Preempted,
    /// The master left, or its next advertisement would come too late.
    MasterWillTimeOut,
    /// The master fell silent.
    MasterTimedOut,
    /// The master's datapath answers on no path any more.
    MasterSilent,
    /// The master's lease ended: its daemon is gone, or does not run.
    MasterLapsed,
    /// The master handed over to this node.
    HandedOver,
    /// The daemon before this one was master, and its lease still runs.
    Resumed,
    /// This master's lease ran out before it could advertise again: it was late, and looks first.
    LeaseLapsed,
    /// Somebody asked for it.
    Forced,
    /// Somebody asked it to give the role to another node.
    HandingOver,
    /// The others of its group do.
    Grouped,
    /// The daemon is stopping.
    Stopping,
}

impl Event<'_> {
    /// Whether it has just happened, and did not wait to be read.
    pub fn is_news(&self, now: Instant) -> bool {
        match self {
            Self::Frame { at, .. } | Self::Sign { at, .. } => now.since(*at) <= LATENCY,
            Self::Refused { .. }
            | Self::Link { .. }
            | Self::Sent { .. }
            | Self::PulseLost
            | Self::Configure(_)
            | Self::Tick
            | Self::Answered { .. }
            | Self::Command(_)
            | Self::Stop => true,
        }
    }
}

impl Role {
    /// As pfSense and the BSDs write it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Init => "INIT",
            Self::Backup => "BACKUP",
            Self::Master => "MASTER",
        }
    }
}

impl Reason {
    /// In words.
    pub const fn text(self) -> &'static str {
        match self {
            Self::Initialized => "initialization complete",
            Self::LinkDown => "hardware interface down",
            Self::LinkUp => "hardware interface up",
            Self::NoSource => "no address to advertise from",
            Self::BetterMaster => "more frequent advertisement received",
            Self::LowerAddress => "equal advertisement from a lower address received",
            Self::Preempted => "preempting a slower master",
            Self::MasterWillTimeOut => "master will time out",
            Self::MasterTimedOut => "master timed out",
            Self::MasterSilent => "master does not answer on any path",
            Self::MasterLapsed => "master's lease ended, its daemon does not run",
            Self::HandedOver => "master handed over",
            Self::Resumed => "resuming the lease of the daemon before",
            Self::LeaseLapsed => "own lease lapsed, looking before speaking",
            Self::Forced => "user requested",
            Self::HandingOver => "handing over, as asked",
            Self::Grouped => "moving with its group",
            Self::Stopping => "daemon stopping",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}
