//! The datapath: loads the program for what comes in, at XDP or tc, and the one for what leaves, with
//! their maps pinned, attaches them, and writes the maps.
//!
//! What is pinned outlives the daemon: a killed master goes on serving until its lease ends, and
//! the next daemon of the same instance goes on with the same maps and links. Pins live in the
//! *mount* namespace's `/sys/fs/bpf`, links in the *network* namespace of the calling thread.

mod adverts;
mod attach;
mod beat;
mod clsact;
mod error;
mod holder;
mod hosts;
mod layout;
mod load;
mod pins;
mod port;
mod reach;
mod read;
mod share;
mod shift;
mod slot;
mod sys;
mod tc;
mod trace;
mod vips;
mod windows;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::PathBuf;
use std::thread::JoinHandle;

use aya::Ebpf;
use aya::maps::{Array, HashMap, MapData, MapError, PerCpuArray, PerCpuValues, RingBuf};
use aya::util::KernelVersion;
use carp_common::admission::Auth;
use carp_common::id::IfIndex;
use carp_common::map::{
    ADVERTS, AUTH, CHALLENGES, COUNTERS, Counts, GROUP_PROBES, GroupProbes, HEARD, HOSTS, Host, HostKey,
    LINKS, NO_COUNTS, PROBE_KEYS, PROBED, PULSE, ProbeKeys, Probed, REFUSED, SENDERS, SenderKey, VIP_INDEX,
    VIPS, Vip, VipKey, WINDOWS, Window,
};
use carp_common::sender::{Challenge, Sender};

use super::{privilege, raw};

pub use adverts::{Adverts, Rings, Samples};
pub use beat::Beat;
pub use error::Error;
pub use holder::{Foreign, Holder, Place};
pub use hosts::HostTable;
pub use pins::is_bpffs_mounted;
pub use port::{Attached, Mode, Port};
pub use reach::Reach;
pub use read::{Counters, Pinned, Standing, instance_of, pinned_instances, read_pinned};
pub use trace::Trace;
pub use vips::{Changed, VipTable};

use attach::{Survey, Undo};
use hosts::Hosts;
use load::{Maps, load, program, tc_program};
use pins::Pins;
use tc::Way;
use vips::Vips;
use windows::Windows;

/// The object that `cargo xtask build-ebpf` made; `build.rs` finds it.
pub static OBJECT: &[u8] = aya::include_bytes_aligned!(env!("CARP_BPF_OBJECT"));
/// Which one it is: what `build.rs` took of its bytes. Two builds of the same source have the same.
pub const BUILD: &str = env!("CARP_BPF_BUILD");
/// The XDP program's name in it.
pub const PROGRAM: &str = "carp";
/// The name of the XDP program for kernels that know no frames of more than one buffer.
pub const ONE_BUFFER_PROGRAM: &str = "carp_one_buffer";
/// The name of the program that does the same at tc.
pub const INGRESS_PROGRAM: &str = "carp_ingress";
/// The name of the program for what leaves.
pub const EGRESS_PROGRAM: &str = "carp_egress";

/// The datapath of one instance. Dropping it leaves everything running and pinned;
/// [`Datapath::close`] takes it down.
pub struct Datapath {
    pins: Pins,
    modes: Vec<(IfIndex, Attached)>,
    /// The programs are just taken off links that have left.
    leaving: Option<JoinHandle<()>>,
    hosts: Hosts,
    vips: Vips,
    windows: Windows,
    counters: PerCpuArray<MapData, Counts>,
    auth: Array<MapData, Auth>,
    senders: HashMap<MapData, SenderKey, Sender>,
    challenges: Array<MapData, u64>,
    probe_keys: Array<MapData, ProbeKeys>,
    group_probes: Array<MapData, GroupProbes>,
    probed: Array<MapData, Probed>,
}

/// Takes down the datapath that a killed daemon of this instance left, if it did: without XDP, what
/// it drops nobody else would answer.
///
/// # Errors
/// The first one; the rest is removed nevertheless.
pub fn remove_pinned(instance: &str) -> Result<(), Error> {
    let pins = Pins::of(instance)?;
    if pins.exist()? { pins.remove() } else { Ok(()) }
}

/// Every pin of this instance; none when there are none.
///
/// # Errors
/// A name that cannot be one; when they may not be listed.
pub fn pins_of(instance: &str) -> Result<Vec<PathBuf>, Error> {
    Pins::of(instance)?.list()
}

impl Datapath {
    /// Loads and attaches, or goes on with what a killed daemon of this instance left: its maps
    /// with their contents as far as this version knows them, and its links, each of which gets the
    /// new program in one step. `fill` writes the maps before that, so that at no moment a program
    /// is at work that does not know what it guards. Adverts left unread are thrown away. The caller
    /// makes sure that no other daemon of this name runs.
    ///
    /// # Errors
    /// Missing capabilities, no BPF file system, a foreign program on an interface, a driver or
    /// kernel that refuses; those of `fill`. What had been made by then is removed again.
    pub fn open(
        instance: &str,
        ports: &[Port],
        fill: impl FnOnce(&mut Self) -> Result<(), Error>,
    ) -> Result<(Self, Rings), Error> {
        let pins = Pins::of(instance)?;
        let missing = privilege::missing_for_xdp();
        if !missing.is_empty() {
            return Err(Error::Privilege { missing: missing.join(" ") });
        }
        load::raise_memlock();
        pins::mount_bpffs()?;
        let was_there = pins.exist()?;
        let ports = attach::decide(&pins, ports)?;
        let mut survey = Survey::take(&pins, &ports)?;
        let opened = Self::build(&pins, &mut survey, &ports, fill);
        // The object, taken apart, is megabytes.
        raw::give_back_memory();
        if opened.is_err() {
            // There may be nothing to remove, if that was what failed.
            let _undone = if was_there { pins.forget_new() } else { pins.remove() };
        }
        opened
    }

    /// How the program is attached to a link.
    pub fn mode_of(&self, link: IfIndex) -> Option<Attached> {
        self.modes.iter().find(|(port, _)| *port == link).map(|(_, attached)| *attached)
    }

    /// Goes on with more links.
    pub fn extend(&mut self, reach: Reach) {
        self.modes.extend(reach.keep());
    }

    /// Takes the programs off all other links. Does not wait for the kernel.
    pub fn leave_others(&mut self, kept: &BTreeSet<IfIndex>) {
        let before = self.modes.len();
        self.modes.retain(|(link, _)| kept.contains(link));
        if self.modes.len() < before {
            reach::finish(self.leaving.take());
            self.leaving = reach::leave_others(&self.pins, kept.iter().copied().collect());
        }
    }

    /// What [`Reach::of`] has to wait for.
    pub const fn leaving(&mut self) -> Option<JoinHandle<()>> {
        self.leaving.take()
    }

    /// Adds or changes a virtual host. One that is new to its slot starts with a closed window:
    /// whatever the slot held was another's.
    ///
    /// # Errors
    /// The kernel's; a full map.
    pub fn set_host(&mut self, key: HostKey, host: Host) -> Result<(), Error> {
        let known = self.hosts.get(&key).is_some_and(|known| known.slot == host.slot);
        if !known {
            self.set_window(host.slot, Window::CLOSED)?;
            self.windows.forget(host.slot)?;
            self.set_challenge(host.slot, Challenge(0))?;
            self.forget_counters(host.slot)?;
        }
        self.hosts.set(&key, host)
    }

    /// Says what adverts for a slot are judged by.
    ///
    /// # Errors
    /// A slot of `MAX_HOSTS` or more; the kernel's.
    pub fn set_auth(&mut self, slot: u32, auth: &Auth) -> Result<(), Error> {
        let failed = |error| Error::map(AUTH, &error);
        // Whoever reads it meanwhile may find half of the new one: not without need.
        if self.auth.get(&slot, 0).map_err(failed)? == *auth {
            return Ok(());
        }
        self.auth.set(slot, auth, 0).map_err(failed)
    }

    /// Says whose answers count for a slot.
    ///
    /// # Errors
    /// A slot of `MAX_HOSTS` or more; the kernel's.
    pub fn set_challenge(&mut self, slot: u32, Challenge(counter): Challenge) -> Result<(), Error> {
        self.challenges.set(slot, counter, 0).map_err(|error| Error::map(CHALLENGES, &error))
    }

    /// Adds or changes a VIP.
    ///
    /// # Errors
    /// The kernel's; no place for it.
    pub fn set_vip(&mut self, key: VipKey, vip: Vip) -> Result<(), Error> {
        self.vips.set(key, vip)
    }

    /// Removes every virtual host and VIP that is not listed, and what is remembered of its senders. The
    /// window of a host that goes is closed first.
    ///
    /// # Errors
    /// The kernel's.
    pub fn retain(&mut self, hosts: &BTreeSet<HostKey>, vips: &[VipKey]) -> Result<(), Error> {
        let held = self.hosts.all();
        let kept: Vec<u32> =
            held.iter().filter(|(key, _)| hosts.contains(key)).map(|(_, host)| host.slot).collect();
        for (key, host) in held.iter().filter(|(key, _)| !hosts.contains(key)) {
            // The slot may have been given to another host by now.
            if !kept.contains(&host.slot) {
                self.set_window(host.slot, Window::CLOSED)?;
                self.set_auth(host.slot, &Auth::NONE)?;
                self.set_probe_keys(host.slot, ProbeKeys::NONE)?;
            }
            self.hosts.remove(key)?;
        }
        self.vips.retain(vips)?;
        let held = read::entries(&self.senders).map_err(|error| Error::map(SENDERS, &error))?;
        for (key, _) in held.iter().filter(|(key, _)| !hosts.contains(&key.host)) {
            self.senders.remove(key).map_err(|error| Error::map(SENDERS, &error))?;
        }
        Ok(())
    }

    /// [`Datapath::set_windows`] for one.
    ///
    /// # Errors
    /// The same.
    pub fn set_window(&mut self, slot: u32, window: Window) -> Result<(), Error> {
        self.set_windows(&[(slot, window)])
    }

    /// Says from when until when these slots may serve, all of them in one call of the kernel as a rule. One that
    /// is armed anew counts its master's silence from now on.
    ///
    /// # Errors
    /// A slot of `MAX_HOSTS` or more; the kernel's. Those after it are as they were.
    pub fn set_windows(&mut self, changes: &[(u32, Window)]) -> Result<(), Error> {
        self.windows.set(changes)
    }

    /// The windows of all virtual hosts, by slot.
    ///
    /// # Errors
    /// The kernel's.
    pub fn windows(&self) -> Result<BTreeMap<u32, Standing>, Error> {
        self.windows.read(&self.hosts.all())
    }

    /// What the datapath did for every virtual host, by slot, since the maps were made.
    ///
    /// # Errors
    /// The kernel's.
    pub fn counters(&self) -> Result<BTreeMap<u32, Counters>, Error> {
        read::counters(&self.hosts.all(), &self.counters)
    }

    /// Detaches the programs everywhere and removes every pin, the instance's folder, and the one
    /// above if no other instance is left. A BPF file system that `open` mounted stays.
    ///
    /// # Errors
    /// The first one; the rest is removed nevertheless.
    pub fn close(self) -> Result<(), Error> {
        reach::finish(self.leaving);
        self.pins.remove()
    }

    fn forget_counters(&mut self, slot: u32) -> Result<(), Error> {
        let failed = |error: &MapError| Error::map(COUNTERS, error);
        let values = self.counters.get(&slot, 0).map_err(|error| failed(&error))?;
        let none = PerCpuValues::try_from(vec![NO_COUNTS; values.len()]);
        let none = none.map_err(|source| failed(&MapError::IoError(source)))?;
        self.counters.set(slot, none, 0).map_err(|error| failed(&error))
    }

    fn build(
        pins: &Pins,
        survey: &mut Survey<'_>,
        ports: &[Port],
        fill: impl FnOnce(&mut Self) -> Result<(), Error>,
    ) -> Result<(Self, Rings), Error> {
        pins.prepare()?;
        let mut leaving = tc::Survey::take(Way::Out, pins, ports)?;
        let mut coming = tc::Survey::take(Way::In, pins, ports)?;
        let is_complete = survey.is_complete() && leaving.is_complete() && coming.is_complete();
        if is_complete && pins.are_of_this_build() {
            // The programs at work are the ones that we would load. Verifying them again takes a second
            // or more, and a lease that runs may end meanwhile.
            let (mut datapath, rings) = Self::with_maps(pins, &mut Maps::Pinned(pins))?;
            fill(&mut datapath)?;
            survey.remove_left(pins)?;
            leaving.remove_left(pins)?;
            coming.remove_left(pins)?;
            return Ok((Self { modes: attach::modes(ports)?, ..datapath }, rings));
        }
        let mut ebpf = load(pins, ports)?;
        let (mut datapath, rings) = Self::with_maps(pins, &mut Maps::Loaded(&mut ebpf))?;
        survey.remove_left(pins)?;
        leaving.remove_left(pins)?;
        coming.remove_left(pins)?;
        // New links first: they may fail, replacing a program does not.
        let mut undo = Undo::new(pins);
        let refused = attach_all(pins, &mut ebpf, (survey, &leaving, &coming), &mut undo)?;
        fill(&mut datapath)?;
        survey.replace(program(&mut ebpf)?)?;
        leaving.replace(tc_program(&mut ebpf, Way::Out)?)?;
        coming.replace(tc_program(&mut ebpf, Way::In)?)?;
        pins.settle()?;
        undo.made_for_good();
        Ok((Self { modes: attach::modes(&[ports, &refused].concat())?, ..datapath }, rings))
    }

    fn with_maps(pins: &Pins, maps: &mut Maps<'_>) -> Result<(Self, Rings), Error> {
        let adverts = Adverts::fresh(maps.take(ADVERTS, RingBuf::try_from)?);
        let samples = Samples::fresh(maps.take(REFUSED, RingBuf::try_from)?);
        let rings = Rings { adverts, samples };
        let datapath = Self {
            pins: pins.clone(),
            modes: Vec::new(),
            leaving: None,
            hosts: Hosts::new(maps.take(LINKS, Array::try_from)?, maps.take(HOSTS, Array::try_from)?)?,
            vips: Vips::new(maps.take(VIP_INDEX, Array::try_from)?, maps.take(VIPS, Array::try_from)?)?,
            windows: Windows::new(
                maps.take(WINDOWS, Array::try_from)?,
                maps.take(HEARD, Array::try_from)?,
                maps.take(PULSE, Array::try_from)?,
            ),
            counters: maps.take(COUNTERS, PerCpuArray::try_from)?,
            auth: maps.take(AUTH, Array::try_from)?,
            senders: maps.take(SENDERS, HashMap::try_from)?,
            challenges: maps.take(CHALLENGES, Array::try_from)?,
            probe_keys: maps.take(PROBE_KEYS, Array::try_from)?,
            group_probes: maps.take(GROUP_PROBES, Array::try_from)?,
            probed: maps.take(PROBED, Array::try_from)?,
        };
        Ok((datapath, rings))
    }
}

impl fmt::Debug for Datapath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Datapath")
            .field("pins", &self.pins)
            .field("modes", &self.modes)
            .finish_non_exhaustive()
    }
}

/// Attaches where there is nothing yet. Gives the ports whose driver refuses, as ports at tc, where they are now.
fn attach_all(
    pins: &Pins,
    ebpf: &mut Ebpf,
    (survey, leaving, coming): (&Survey<'_>, &tc::Survey<'_>, &tc::Survey<'_>),
    undo: &mut Undo<'_>,
) -> Result<Vec<Port>, Error> {
    let refused = survey.attach_new(pins, program(ebpf)?, undo)?;
    // What leaves goes first: it may bring the qdisc that both share, and takes it away then.
    leaving.attach_new(pins, tc_program(ebpf, Way::Out)?, undo)?;
    coming.attach_new(pins, tc_program(ebpf, Way::In)?, undo)?;
    if !refused.is_empty() {
        load::also_at_tc(ebpf)?;
        let late = tc::Survey::take(Way::In, pins, &refused)?;
        late.attach_new(pins, tc_program(ebpf, Way::In)?, undo)?;
    }
    Ok(refused)
}

/// The XDP program for the kernel that runs.
pub fn program_of_this_kernel() -> &'static str {
    let knows_more = KernelVersion::current().is_ok_and(|kernel| kernel >= KernelVersion::new(5, 18, 0));
    if knows_more { PROGRAM } else { ONE_BUFFER_PROGRAM }
}
