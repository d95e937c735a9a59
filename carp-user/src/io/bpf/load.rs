//! Loading the object: its programs, and its maps by their pins.

use aya::maps::{Map, MapData, MapError};
use aya::programs::{SchedClassifier, Xdp};
use aya::util::KernelVersion;
use aya::{Ebpf, EbpfLoader};
use carp_common::map::ABI;

use super::layout::MAPS;
use super::pins::Pins;
use super::tc::Way;
use super::{Error, Mode, OBJECT, Port, program_of_this_kernel};

/// Loads all maps, and the programs that the ports need. A map that an earlier daemon left is gone on with, where it is as it was.
///
/// # Errors
/// What the kernel says.
pub(super) fn load(pins: &Pins, ports: &[Port]) -> Result<Ebpf, Error> {
    let mut loader = EbpfLoader::new();
    for map in &MAPS {
        if pins.keep(map) {
            loader.map_pin_path(map.name, pins.map(map.name));
        } else {
            if let (Some(theirs), true) = (pins.version(), pins.map(map.name).exists()) {
                tracing::warn!(map = map.name, theirs, ours = ABI, "of another version: begun anew, empty");
            }
            loader.map_pin_path(map.name, pins.new_map(map.name));
        }
    }
    let mut ebpf = loader.load(OBJECT).map_err(|error| Error::load(&error))?;
    let at_tc = ports.iter().filter(|port| port.mode == Mode::Tcx).count();
    if at_tc < ports.len() {
        program(&mut ebpf)?.load().map_err(|error| Error::load(&error))?;
    }
    if at_tc > 0 {
        tc_program(&mut ebpf, Way::In)?.load().map_err(|error| Error::load(&error))?;
    }
    tc_program(&mut ebpf, Way::Out)?.load().map_err(|error| Error::load(&error))?;
    Ok(ebpf)
}

/// Loads the program at tc too, where none of the ports was known to need it.
///
/// # Errors
/// What the kernel says.
pub(super) fn also_at_tc(ebpf: &mut Ebpf) -> Result<(), Error> {
    let program = tc_program(ebpf, Way::In)?;
    // It has a descriptor once it is loaded.
    if program.fd().is_ok() { Ok(()) } else { program.load().map_err(|error| Error::load(&error)) }
}

/// The XDP program for the kernel that runs.
///
/// # Errors
/// When the object has none.
pub(super) fn program(ebpf: &mut Ebpf) -> Result<&mut Xdp, Error> {
    let name = program_of_this_kernel();
    let found = ebpf.program_mut(name).and_then(|program| program.try_into().ok());
    found.ok_or_else(|| Error::Load { reason: format!("the object has no XDP program {name}") })
}

/// The program at tc.
///
/// # Errors
/// When the object has none.
pub(super) fn tc_program(ebpf: &mut Ebpf, way: Way) -> Result<&mut SchedClassifier, Error> {
    let found = ebpf.program_mut(way.program()).and_then(|program| program.try_into().ok());
    found.ok_or_else(|| Error::Load { reason: format!("the object has no tc program {}", way.program()) })
}

/// Where maps come from.
pub(super) enum Maps<'a> {
    /// Programs just loaded.
    Loaded(&'a mut Ebpf),
    /// Those of this version that are at work.
    Pinned(&'a Pins),
}

impl Maps<'_> {
    /// A map, as its type.
    ///
    /// # Errors
    /// When there is none of this name and type.
    pub(super) fn take<T>(
        &mut self,
        name: &'static str,
        convert: impl FnOnce(Map) -> Result<T, MapError>,
    ) -> Result<T, Error> {
        let failed = |error| Error::map(name, &error);
        let map = match self {
            Self::Loaded(ebpf) => ebpf
                .take_map(name)
                .ok_or(Error::Map { map: name, reason: "not in the BPF object".to_owned() })?,
            Self::Pinned(pins) => {
                MapData::from_pin(pins.map(name)).and_then(Map::from_map_data).map_err(failed)?
            }
        };
        convert(map).map_err(failed)
    }
}

/// Before 5.11 maps count against RLIMIT_MEMLOCK, whose default is 64 KiB. If it cannot be raised,
/// making the maps fails and says so.
pub(super) fn raise_memlock() {
    use rustix::process::{Resource, Rlimit, setrlimit};
    if KernelVersion::current().is_ok_and(|kernel| kernel < KernelVersion::new(5, 11, 0)) {
        let _kept = setrlimit(Resource::Memlock, Rlimit { current: None, maximum: None });
    }
}
