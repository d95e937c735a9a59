//! One machine: its kernel, which always runs, and its daemon, which may be starved, killed or
//! never started.

use super::clock::Clock;
use super::post::Origin;
use super::probing::{Heart, Prober};
use carp_common::admission::Addressee;
use carp_common::id::IfIndex;
use carp_common::map::{ARMED_FOR, Window};
use carp_common::sender::{Challenge, Sender};
use carp_common::time::{Instant, Span};
use carp_common::wire::ip::mapped;
use carp_common::wire::{Frame, Heard, Refusal};
use carp_user::proto::detect::Sign;
use carp_user::proto::event::{Action, Command, Errand, HostId, LinkState};
use carp_user::proto::node::Node;
use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;

/// Frames that a kernel keeps for a daemon that does not fetch them, as many as fit the ring
/// buffer of adverts. Policy when full: the newest is lost.
pub const QUEUE: usize = 400;

/// A machine.
pub struct Machine {
    /// Its clock.
    pub clock: Clock,
    /// Whether it has power.
    pub powered: bool,
    /// What the kernel holds.
    pub kernel: Kernel,
    /// Its ports, by segment.
    pub ports: Vec<Port>,
    /// Its daemon.
    pub daemon: Daemon,
    /// How many daemons it has had; a new one does not know the counters of the one before.
    pub life: u32,
    /// Of its list of addresses.
    pub generation: u8,
    /// The daemon will be caught between two actions.
    pub freeze: Option<Freeze>,
    /// The daemon is executing its last list.
    pub stopping: bool,
    /// So many of a thousand sends fail.
    pub send_errors: u16,
    /// So many of a thousand own frames come back.
    pub reflect: u16,
    /// The deadline for which a tick is under way, on the machine's clock.
    pub deadline: Option<Instant>,
    /// Number of the tick that counts; older ones are void.
    pub tick: u64,
    /// Ticks in a row that were due and changed nothing, not even when the next is due.
    pub idle: u8,
    /// Asks its group's master whether it serves.
    pub prober: Option<Prober>,
    /// Number of the pause that counts.
    pub pause: u64,
    /// When the last news of the kernel that are under way arrive, in world time.
    pub news_at: Instant,
}

/// What lives on without the daemon.
#[derive(Default)]
pub struct Kernel {
    /// The windows, by slot.
    pub windows: Vec<Window>,
    /// When the master that a slot is armed for was heard, as XDP keeps it.
    pub heard: Vec<Instant>,
    /// Whether it takes its daemon to run.
    pub heart: Heart,
    /// What XDP knows of senders, by slot and address.
    senders: BTreeMap<(usize, IpAddr), Sender>,
    /// Whose answers count, by slot.
    challenges: BTreeMap<usize, Challenge>,
    /// Frames that the daemon has not fetched yet.
    pub queue: VecDeque<Arrival>,
    /// News that the daemon has not fetched yet.
    pub inbox: VecDeque<News>,
}

/// A port.
pub struct Port {
    /// Carries frames.
    pub up: bool,
    /// While down, sending fails instead of going nowhere.
    pub refuses: bool,
}

/// A frame as the kernel got it.
pub struct Arrival {
    /// Segment that it came from.
    pub segment: usize,
    /// On the machine's clock.
    pub at: Instant,
    /// The bytes.
    pub frame: Frame,
    /// Whom it is really from.
    pub origin: Origin,
}

/// What a daemon learns other than by frames.
pub enum News {
    /// From the kernel.
    Link(IfIndex, LinkState),
    /// From a person.
    Command(Command),
    /// From the service manager.
    Stop,
    /// From a person: the addresses of this generation.
    Reload(u8),
    /// From its prober: what became of the master that it asks, and when.
    Sign(Sign, Instant),
}

/// The process.
pub enum Daemon {
    /// There is none.
    Absent,
    /// It gets CPU when it wants.
    Running(Box<Node>),
    /// It gets none, and still has this to do.
    Paused(Box<Node>, VecDeque<Todo>),
}

/// A step of an action list.
pub enum Todo {
    /// An action that has not begun.
    Act(Action),
    /// The second half of an [`Action::Advertise`]: the clock is read, the frame not yet sent.
    Transmit {
        /// Which virtual host's advertisement.
        host: HostId,
        /// Link to send on.
        link: IfIndex,
        /// What it is.
        errand: Errand,
        /// The bytes.
        frame: Frame,
        /// What the clock read.
        at: Instant,
    },
}

/// A pause that waits for its place.
#[derive(Clone, Copy)]
pub struct Freeze {
    /// Actions until then.
    pub after: u32,
    /// In the middle of a send, if it is one.
    pub in_send: bool,
    /// How long.
    pub span: Span,
}

impl Machine {
    /// Without power, all ports up.
    pub fn new(clock: Clock, segments: usize, hosts: usize) -> Self {
        Self {
            clock,
            powered: false,
            kernel: Kernel {
                windows: vec![Window::CLOSED; hosts],
                heard: vec![Instant::ZERO; hosts],
                ..Kernel::default()
            },
            ports: (0..segments).map(|_| Port { up: true, refuses: false }).collect(),
            daemon: Daemon::Absent,
            life: 0,
            generation: 0,
            freeze: None,
            stopping: false,
            send_errors: 0,
            reflect: 0,
            deadline: None,
            tick: 0,
            idle: 0,
            prober: None,
            pause: 0,
            news_at: Instant::ZERO,
        }
    }

    /// The node, when its daemon runs.
    pub fn running(&mut self) -> Option<&mut Node> {
        match &mut self.daemon {
            Daemon::Running(node) => Some(node),
            Daemon::Absent | Daemon::Paused(..) => None,
        }
    }

    /// The node, also when its daemon is paused.
    pub fn node(&self) -> Option<&Node> {
        match &self.daemon {
            Daemon::Running(node) | Daemon::Paused(node, _) => Some(node),
            Daemon::Absent => None,
        }
    }

    /// Takes what a paused daemon still has to do and lets it run.
    pub fn wake(&mut self) -> Option<VecDeque<Todo>> {
        match std::mem::replace(&mut self.daemon, Daemon::Absent) {
            Daemon::Paused(node, todo) => {
                self.daemon = Daemon::Running(node);
                // A tick that came during the pause is gone.
                self.deadline = None;
                Some(todo)
            }
            other @ (Daemon::Absent | Daemon::Running(_)) => {
                self.daemon = other;
                None
            }
        }
    }

    /// Stops giving CPU to a running daemon, which has this left to do.
    pub fn pause(&mut self, todo: VecDeque<Todo>) {
        self.daemon = match std::mem::replace(&mut self.daemon, Daemon::Absent) {
            Daemon::Running(node) => Daemon::Paused(node, todo),
            other @ (Daemon::Absent | Daemon::Paused(..)) => other,
        };
    }

    /// Ends the daemon without asking it.
    pub fn kill(&mut self) {
        self.daemon = Daemon::Absent;
        self.freeze = None;
        self.stopping = false;
        self.deadline = None;
        self.prober = None;
        self.kernel.inbox.clear();
    }

    /// Whether anybody on this segment can notice that it serves.
    pub fn is_connected(&self, segment: usize) -> bool {
        self.powered && self.ports[segment].up
    }

    /// From when until when, in world time, the datapath may serve if nothing else happens and it is connected.
    pub fn service(&self, host: usize, now: Instant) -> Option<(Instant, Instant)> {
        if !self.powered {
            return None;
        }
        let (window, local) = (self.limited(host), self.clock.read(now));
        let [from, until] = [window.serve_from, window.serve_until].map(Instant::from_nanos);
        let lease = (from < until).then_some((from, until));
        let armed = window.opening(self.kernel.heard[clock_of(&window, host)]).map(|from| {
            let until = from + ARMED_FOR;
            (from, until.min(Instant::from_nanos(window.armed_until)))
        });
        let mut spells = [lease, armed].into_iter().flatten().filter(|(_, until)| local < *until);
        // A master that takes its own armed window over has both for a moment.
        let first = spells.next()?;
        let (from, until) = match spells.next() {
            Some(second) if second.0 <= first.1 && first.0 <= second.1 => {
                (first.0.min(second.0), first.1.max(second.1))
            }
            Some(second) => first.min(second),
            None => first,
        };
        Some((self.clock.when(from), self.clock.when(until)))
    }
}

impl Kernel {
    /// The daemon writes a window, as `io::bpf::Datapath::set_window` does; what was there.
    pub fn write(&mut self, host: usize, window: Window, local: Instant) -> Option<Window> {
        let before = std::mem::replace(self.windows.get_mut(host)?, window);
        if window.is_armed_anew(&before) {
            *self.heard.get_mut(clock_of(&window, host))? = local;
        }
        Some(before)
    }

    /// The daemon writes whose answers count.
    pub fn challenge(&mut self, host: usize, challenge: Challenge) {
        self.challenges.insert(host, challenge);
    }

    /// XDP has found an advert authentic, and judges by what it knows of the sender.
    pub fn recall(
        &mut self,
        host: usize,
        heard: &Heard,
        addressee: Addressee,
        lease: Span,
        local: Instant,
    ) -> Result<(), Refusal> {
        let said = &heard.seen().said;
        let sender = self.senders.entry((host, heard.source)).or_default();
        let challenge = self.challenges.get(&host).copied().unwrap_or_default();
        *sender = sender.hear(said, addressee, challenge, lease, local)?;
        sender.admit(said, addressee)
    }

    /// XDP has authenticated an advert of a master.
    pub fn hear(&mut self, host: usize, source: IpAddr, patience: Span, local: Instant) {
        let Some(window) = self.windows.get(host) else { return };
        if let Some(heard) = self.heard.get_mut(clock_of(window, host)) {
            *heard = window.hear(*heard, mapped(source), patience, local);
        }
    }

    /// The one other node of the group of this one has answered over another link.
    pub fn hear_of(&mut self, host: usize, local: Instant) {
        let Some(window) = self.windows.get(host) else { return };
        if let Some(heard) = self.heard.get_mut(clock_of(window, host)) {
            *heard = window.hear_of(*heard, local);
        }
    }

    /// Power fails.
    pub fn forget(&mut self) {
        self.windows.fill(Window::CLOSED);
        self.heard.fill(Instant::ZERO);
        self.heart = Heart::default();
        self.senders.clear();
        self.challenges.clear();
    }
}

/// The slot whose entry counts for the window of this one.
fn clock_of(window: &Window, host: usize) -> usize {
    let clock = u32::try_from(host).map(|host| window.clock(host));
    clock.ok().and_then(|clock| usize::try_from(clock).ok()).unwrap_or(host)
}
