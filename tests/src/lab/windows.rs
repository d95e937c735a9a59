//! What the datapath of a node serves, read from its pinned map once in a millisecond: when which
//! node served, and whether ever two did.

use super::{clock, maps};
use anyhow::{Context, Result};
use aya::maps::{Array, IterableMap, Map, MapData};
use carp_common::map::{HEARD, PULSE, WINDOWS, Window};
use carp_common::time::{Instant, Span};
use carp_user::io::bpf::Standing;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

const PACE: Span = Span::millis(1);

/// The windows of one node, whether its daemon lives or not.
pub struct Windows {
    folder: PathBuf,
    slots: u32,
    /// The maps, and the pin's inode at that time: a daemon that starts anew may pin another.
    open: Option<(u64, Maps)>,
}

/// Windows, when each master was heard, and until when the daemon is taken to run.
struct Maps {
    windows: Array<MapData, Window>,
    heard: Array<MapData, u64>,
    pulse: Array<MapData, u64>,
}

/// A node began or ceased to serve a virtual host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// When this was seen; it happened in the millisecond before.
    pub at: Instant,
    /// Index of the node.
    pub node: usize,
    /// The virtual host.
    pub slot: u32,
    /// It serves now.
    pub serves: bool,
}

/// Watches two nodes from its start until it is dropped.
pub struct Watch {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    stop: AtomicBool,
    seen: Mutex<Seen>,
}

#[derive(Default)]
struct Seen {
    changes: Vec<Change>,
    /// Moments when both served a slot, and the time since the look before.
    both: Vec<(Instant, Span)>,
    looks: Vec<Instant>,
}

impl Windows {
    /// Of the instance of this name, with so many virtual hosts.
    pub fn of(instance: &str, slots: u32) -> Self {
        Self { folder: Path::new("/sys/fs/bpf/carp").join(instance), slots, open: None }
    }

    /// The window of one virtual host, and when the master by whose silence it opens was heard last.
    ///
    /// # Errors
    /// When nothing is pinned (XDP off, or never started).
    pub fn read(&mut self, slot: u32) -> Result<Standing> {
        let Maps { windows, heard, pulse } = self.open()?;
        let window = windows.get(&slot, 0)?.under(Instant::from_nanos(pulse.get(&0, 0)?));
        let heard = Instant::from_nanos(heard.get(&window.clock(slot), 0)?);
        Ok(Standing { window, heard })
    }

    /// Which of the virtual hosts the datapath serves at this moment, just before and just after one look at all of them.
    fn serving(&mut self) -> Vec<bool> {
        let slots = self.slots;
        let before = clock::now();
        let mut look = || {
            let Maps { windows, heard, pulse } = self.open()?;
            let mut windows = maps::first(windows.map(), slots, Window::CLOSED)?;
            // Read after them: it lasts as long as it is written, or longer.
            let pulse = Instant::from_nanos(pulse.get(&0, 0)?);
            windows.iter_mut().for_each(|window| *window = window.under(pulse));
            anyhow::Ok((windows, maps::first(heard.map(), slots, 0_u64)?))
        };
        let (windows, heard) = look().unwrap_or_default();
        let now = clock::now();
        let standings = (0..slots).zip(&windows).map(|(slot, window)| {
            let at = heard.get(window.clock(slot) as usize).copied().unwrap_or_default();
            Standing { window: *window, heard: Instant::from_nanos(at) }
        });
        let mut serving: Vec<bool> =
            standings.map(|standing| standing.is_open(before) && standing.is_open(now)).collect();
        serving.resize(slots as usize, false);
        serving
    }

    fn open(&mut self) -> Result<&Maps> {
        let path = self.folder.join(WINDOWS);
        let inode = path.metadata().with_context(|| format!("{}", path.display()))?.ino();
        if self.open.as_ref().is_none_or(|(known, _)| *known != inode) {
            let windows = Array::try_from(Map::Array(MapData::from_pin(&path)?))?;
            let heard = Array::try_from(Map::Array(MapData::from_pin(self.folder.join(HEARD))?))?;
            let pulse = Array::try_from(Map::Array(MapData::from_pin(self.folder.join(PULSE))?))?;
            self.open = Some((inode, Maps { windows, heard, pulse }));
        }
        self.open.as_ref().map(|(_, maps)| maps).context("just opened")
    }

    /// Whether the datapath serves this virtual host at this moment, just before and just after the
    /// look. Nothing pinned serves nothing.
    pub fn serves(&mut self, slot: u32) -> bool {
        let before = clock::now();
        self.read(slot).is_ok_and(|standing| standing.is_open(before) && standing.is_open(clock::now()))
    }

    /// Whether it serves every virtual host.
    pub fn serves_all(&mut self) -> bool {
        (0..self.slots).all(|slot| self.serves(slot))
    }

    /// Whether it serves none.
    pub fn serves_none(&mut self) -> bool {
        !(0..self.slots).any(|slot| self.serves(slot))
    }
}

impl Watch {
    /// Starts to look at two nodes.
    pub fn start(nodes: [Windows; 2]) -> Self {
        let shared = Arc::new(Shared { stop: AtomicBool::new(false), seen: Mutex::default() });
        let looking = Arc::clone(&shared);
        let thread = Some(std::thread::spawn(move || looking.look(nodes)));
        Self { shared, thread }
    }

    /// Every change seen in `from..to`.
    pub fn changes(&self, from: Instant, to: Instant) -> Vec<Change> {
        let seen = self.shared.seen();
        seen.changes.iter().filter(|change| from <= change.at && change.at < to).copied().collect()
    }

    /// How long both nodes served a virtual host at once in `from..to`: the time between the looks
    /// that saw it, so at least one pace when any did.
    pub fn two_masters(&self, from: Instant, to: Instant) -> Span {
        let seen = self.shared.seen();
        let both = seen.both.iter().filter(|(at, _)| from <= *at && *at < to);
        Span::nanos(both.map(|(_, span)| span.as_nanos()).sum())
    }

    /// Waits until it has looked after this call, so that what others have seen is in its record too.
    ///
    /// # Errors
    /// When it has not looked for two seconds.
    pub fn catch_up(&self) -> Result<()> {
        let looks = || self.shared.seen().looks.len();
        let now = looks();
        // The first that ends may have begun before.
        clock::wait_for("two looks at the windows", Span::secs(2), || (looks() >= now + 2).then_some(()))
    }

    /// The longest time without a look in `from..to`: how sure the answers are.
    pub fn blind(&self, from: Instant, to: Instant) -> Span {
        let seen = self.shared.seen();
        let looks: Vec<_> = seen.looks.iter().copied().filter(|at| from <= *at && *at < to).collect();
        looks.windows(2).map(|pair| pair[1].since(pair[0])).max().unwrap_or_default()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}

impl Shared {
    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn look(&self, [mut first, mut second]: [Windows; 2]) {
        let slots = first.slots.max(second.slots);
        let mut before: Vec<[bool; 2]> = (0..slots).map(|_| [false; 2]).collect();
        let mut last = clock::now();
        while !self.stop.load(Ordering::Relaxed) {
            let mut looked = [Vec::new(), Vec::new()];
            for (node, windows) in [&mut first, &mut second].into_iter().enumerate() {
                let (serving, at) = (windows.serving(), clock::now());
                for (slot, (before, serves)) in (0..).zip(before.iter_mut().zip(&serving)) {
                    if before[node] != *serves {
                        self.seen().changes.push(Change { at, node, slot, serves: *serves });
                        before[node] = *serves;
                    }
                }
                looked[node] = serving;
            }
            let two =
                |[one, other]: [&Vec<bool>; 2]| one.iter().zip(other).any(|pair| pair == (&true, &true));
            // The first is asked again after the second: only if it served before and after is it sure that
            // it did when the second was asked.
            let [one, other] = &looked;
            let again = if two([one, other]) { first.serving() } else { Vec::new() };
            let still: Vec<bool> = one.iter().zip(&again).map(|(was, is)| *was && *is).collect();
            let both = two([&still, other]);
            let now = clock::now();
            let mut seen = self.seen();
            seen.looks.push(now);
            if both {
                seen.both.push((now, now.since(last)));
            }
            drop(seen);
            last = now;
            clock::sleep(PACE);
        }
    }
}
