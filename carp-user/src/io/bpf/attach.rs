//! Attaching the program to the links, each pinned: new ones, and those of a killed daemon, whose
//! program is replaced without a gap. What cannot be finished is undone.

use std::path::{Path, PathBuf};

use aya::programs::links::{FdLink, PinnedLink as AyaPin};
use aya::programs::xdp::XdpLink;
use aya::programs::{ProgramError, Xdp, XdpMode};
use carp_common::id::IfIndex;

use super::holder::Foreign;
use super::pins::{PinnedLink, Pins};
use super::port::generic_delivers;
use super::slot::{self, Occupant};
use super::tc::Way;
use super::{Attached, Error, Mode, Port};

/// The ports, with what [`Mode::Auto`] is, as far as that can be told without trying: the driver where our
/// program is there already, else tc at a veth, at a bond, and where it was tc before. Whatever is not at tc by choice
/// shares its slot with nobody.
///
/// # Errors
/// [`Error::Occupied`]; those of listing.
pub(super) fn decide(pins: &Pins, ports: &[Port]) -> Result<Vec<Port>, Error> {
    let (ours, at_tc, occupants) = (pins.links()?, pins.tc(Way::In)?, slot::occupants()?);
    let decide = |port: &Port| {
        if port.mode == Mode::Tcx {
            return Ok(port.clone());
        }
        let occupant = on(&occupants, port.link);
        refuse_foreign(port, occupant, ours.iter().any(|pin| is_on(pin, port.link, occupant)))?;
        let is_bond = slot::is_bond(port.link)?;
        if port.mode == Mode::Native && is_bond {
            return Err(Error::Members { name: port.name.clone() });
        }
        let is_in_driver = !is_bond && occupant.is_some_and(|occupant| occupant.attached == Attached::Native);
        let was_at_tc = at_tc.iter().any(|pin| pin.name == port.name && pin.ifindex == port.link.0);
        let is_to_be = port.mode == Mode::Auto && !is_in_driver;
        let mode = if is_to_be && (is_bond || was_at_tc || slot::is_veth(port.link)?) {
            Mode::Tcx
        } else {
            port.mode
        };
        Ok(Port { mode, ..port.clone() })
    };
    ports.iter().map(decide).collect()
}

/// What is there before anything is changed: per port, the pinned link to go on with.
pub(super) struct Survey<'a> {
    ports: Vec<(&'a Port, Option<PinnedLink>)>,
    /// Pinned links that no port goes on with.
    left: Vec<PinnedLink>,
}

impl<'a> Survey<'a> {
    /// Looks, at ports of which somebody has made sure by [`decide`] that nobody else is there. Changes nothing.
    ///
    /// # Errors
    /// Those of listing.
    pub(super) fn take(pins: &Pins, ports: &'a [Port]) -> Result<Self, Error> {
        let mut left = pins.links()?;
        let occupants = slot::occupants()?;
        let mut surveyed = Vec::new();
        for port in ports.iter().filter(|port| port.mode != Mode::Tcx) {
            let occupant = on(&occupants, port.link);
            let ours = left.iter().position(|pin| is_on(pin, port.link, occupant));
            let fits = ours.filter(|at| {
                let is_named_so = left.get(*at).is_some_and(|pin| pin.name == port.name);
                is_named_so && occupant.is_some_and(|o| port.mode.is_met_by(o.attached))
            });
            surveyed.push((port, fits.map(|at| left.swap_remove(at))));
        }
        Ok(Self { ports: surveyed, left })
    }

    /// Whether every port has its link already.
    pub(super) fn is_complete(&self) -> bool {
        self.ports.iter().all(|(_, pin)| pin.is_some())
    }

    /// Removes the links that nothing goes on with, of interfaces no longer configured, gone, or
    /// attached in another mode.
    ///
    /// # Errors
    /// The kernel's.
    pub(super) fn remove_left(&mut self, pins: &Pins) -> Result<(), Error> {
        self.left.drain(..).try_for_each(|pin| pins.remove_link(&pin.path))
    }

    /// Attaches where there is nothing yet. Gives the ports of [`Mode::Auto`] whose driver refuses, as ports at
    /// tc.
    ///
    /// # Errors
    /// Those of attaching; what was made is in `undo`.
    pub(super) fn attach_new(
        &self,
        pins: &Pins,
        program: &mut Xdp,
        undo: &mut Undo<'_>,
    ) -> Result<Vec<Port>, Error> {
        let mut refused = Vec::new();
        for (port, _) in self.ports.iter().filter(|(_, pin)| pin.is_none()) {
            let path = pins.link(&port.name);
            match attach_new(program, port, &path) {
                Ok(()) => undo.made(path),
                Err(error) if port.mode == Mode::Auto => {
                    tracing::info!(interface = port.name, %error, "going to tc");
                    refused.push(Port { mode: Mode::Tcx, ..(*port).clone() });
                }
                Err(error) => return Err(error),
            }
        }
        Ok(refused)
    }

    /// Puts the program in place of an earlier daemon's.
    ///
    /// # Errors
    /// The kernel's.
    pub(super) fn replace(&self, program: &mut Xdp) -> Result<(), Error> {
        for (port, pin) in &self.ports {
            if let Some(pin) = pin {
                replace(program, &pin.path).map_err(|error| Error::load(&error))?;
                tracing::debug!(interface = port.name, "went on with the XDP link of an earlier run");
            }
        }
        Ok(())
    }
}

/// How each port is attached now. One that is named twice is at tc.
///
/// # Errors
/// Those of listing.
pub(super) fn modes(ports: &[Port]) -> Result<Vec<(IfIndex, Attached)>, Error> {
    let occupants = slot::occupants()?;
    let is_ours = |link: &IfIndex| ports.iter().any(|port| port.link == *link && port.mode != Mode::Tcx);
    let by_xdp = occupants.into_iter().filter(|(link, _)| is_ours(link)).map(|(link, o)| (link, o.attached));
    let at_tc = ports.iter().filter(|port| port.mode == Mode::Tcx).map(|port| (port.link, Attached::Tcx));
    Ok(by_xdp.chain(at_tc).collect())
}

/// Removes the links made so far when dropped, newest first.
pub(super) struct Undo<'a> {
    pins: &'a Pins,
    made: Vec<PathBuf>,
}

impl<'a> Undo<'a> {
    /// Of nothing so far.
    pub(super) fn new(pins: &'a Pins) -> Self {
        Self { pins, made: Vec::new() }
    }

    /// This pin has been made.
    pub(super) fn made(&mut self, path: PathBuf) {
        self.made.push(path);
    }

    /// All went well: nothing to undo. Gives what was made.
    pub(super) fn made_for_good(mut self) -> Vec<PathBuf> {
        std::mem::take(&mut self.made)
    }
}

impl Drop for Undo<'_> {
    fn drop(&mut self) {
        for path in self.made.iter().rev() {
            if let Err(error) = self.pins.remove_link(path) {
                tracing::warn!(%error, "undoing an unfinished start");
            }
        }
    }
}

fn on(occupants: &[(IfIndex, Occupant)], link: IfIndex) -> Option<Occupant> {
    occupants.iter().find(|(there, _)| *there == link).map(|(_, occupant)| *occupant)
}

/// By interface *and* program: the same number in another network namespace is another interface.
fn is_on(pin: &PinnedLink, link: IfIndex, occupant: Option<Occupant>) -> bool {
    pin.ifindex == link.0 && occupant.is_some_and(|occupant| occupant.program == pin.program)
}

fn refuse_foreign(port: &Port, occupant: Option<Occupant>, is_ours: bool) -> Result<(), Error> {
    match occupant {
        Some(occupant) if !is_ours => Err(Error::Occupied {
            name: port.name.clone(),
            mode: occupant.attached.name(),
            program: Box::new(Foreign::of(occupant.program)),
        }),
        Some(_) | None => Ok(()),
    }
}

/// veth decides whose a packet is before its native XDP runs, and does not look again when the
/// program has changed the address (`veth_xdp_rcv_skb`); generic XDP does, and so do real drivers,
/// which have no packet yet at that point.
const VETH: &str = "native XDP of a veth hands on frames to the virtual MAC as somebody else's";
const OLD: &str = "before Linux 5.13 generic XDP hands on frames to the virtual MAC as somebody else's";

fn attach_new(program: &mut Xdp, port: &Port, path: &Path) -> Result<(), Error> {
    let link = match port.mode {
        Mode::Native => {
            if slot::is_veth(port.link)? {
                tracing::warn!(interface = port.name, "{VETH}: use xdp = \"auto\" or \"tcx\"");
            }
            attach_in(program, port, NATIVE)?
        }
        Mode::Generic => {
            if !generic_delivers() {
                tracing::warn!(interface = port.name, "{OLD}: use xdp = \"auto\" or \"tcx\"");
            }
            attach_in(program, port, GENERIC)?
        }
        Mode::Auto => attach_in(program, port, NATIVE)?,
        // Its program is at tc.
        Mode::Tcx => return Ok(()),
    };
    let link = FdLink::try_from(link).map_err(|_| Error::NoLinks { name: port.name.clone() })?;
    link.pin(path).map_err(|error| Error::load(&error))?;
    Ok(())
}

/// How to attach, its name, and what may be set instead.
type Manner = (XdpMode, &'static str, &'static str);
const NATIVE: Manner = (XdpMode::Driver, "native", "xdp = \"generic\", \"tcx\" or \"off\"");
const GENERIC: Manner = (XdpMode::Skb, "generic", "xdp = \"tcx\" or \"off\"");

fn attach_in(program: &mut Xdp, port: &Port, (mode, name, choices): Manner) -> Result<XdpLink, Error> {
    program
        .attach_to_if_index(port.link.0, mode)
        .and_then(|id| program.take_link(id))
        .map_err(|error| Error::attach(&port.name, name, choices, &error))
}

/// In one step: there is no moment without a program.
fn replace(program: &mut Xdp, path: &Path) -> Result<(), ProgramError> {
    let pinned = AyaPin::from_pin(path).map_err(std::io::Error::other)?;
    let link = XdpLink::try_from(FdLink::from(pinned)).map_err(std::io::Error::other)?;
    let id = program.attach_to_link(link)?;
    // The pin holds the link from here on.
    program.take_link(id).map(drop)
}
