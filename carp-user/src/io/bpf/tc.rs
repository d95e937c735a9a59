//! Attaching at tc, the fence for what leaves and, on links with another's XDP program, the stages for
//! what comes in: a tcx link, pinned and replaced without a gap like those of XDP; before Linux 6.6 a
//! filter of a clsact qdisc (see `clsact`).

use std::os::fd::AsFd;
use std::path::Path;

use aya::programs::links::{FdLink, PinnedLink as AyaPin};
use aya::programs::tc::{SchedClassifierLink, TcAttachOptions};
use aya::programs::{LinkOrder, ProgramError, SchedClassifier, TcAttachType};
use aya::util::KernelVersion;

use super::attach::Undo;
use super::pins::{NO_PROGRAM, PinnedLink, Pins, WAYS};
use super::read::pinned_instances;
use super::{EGRESS_PROGRAM, Error, INGRESS_PROGRAM, Mode, Port, clsact, sys};

/// Which frames a program is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// Those that come in, on ports with [`Mode::Tcx`].
    In,
    /// Those that leave.
    Out,
}

/// What is there before anything is changed: per port, the pinned link to go on with.
pub(super) struct Survey<'a> {
    way: Way,
    hook: Hook,
    ports: Vec<(&'a Port, Option<PinnedLink>)>,
    /// Pins that no port goes on with.
    left: Vec<PinnedLink>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Hook {
    Tcx,
    Clsact,
}

impl<'a> Survey<'a> {
    /// Looks, and changes nothing. Others may have programs there too, but not another instance of ours.
    ///
    /// # Errors
    /// [`Error::Rival`]; those of listing.
    pub(super) fn take(way: Way, pins: &Pins, ports: &'a [Port]) -> Result<Self, Error> {
        let hook = Hook::of_this_kernel();
        let mut left = pins.tc(way)?;
        let fits = |pin: &PinnedLink, port: &Port| {
            let is_named_so = pin.name == port.name && pin.ifindex == port.link.0;
            let is_there = || match hook {
                // The same number in another network namespace is another interface.
                Hook::Tcx => sys::tcx(way, port.link).is_ok_and(|there| there.contains(&pin.program)),
                Hook::Clsact => true,
            };
            is_named_so && is_there()
        };
        let mut find = |port: &Port| {
            let at = left.iter().position(|pin| fits(pin, port));
            at.map(|at| left.swap_remove(at))
        };
        let wanted = ports.iter().filter(|port| way == Way::Out || port.mode == Mode::Tcx);
        let ports: Vec<_> = wanted.map(|port| (port, find(port))).collect();
        for (port, _) in ports.iter().filter(|(_, pin)| pin.is_none()) {
            refuse_rival(way, hook, pins, port)?;
        }
        Ok(Self { way, hook, ports, left })
    }

    /// Whether every port has its link already. Of a filter only its mark is known: it is made anew.
    pub(super) fn is_complete(&self) -> bool {
        self.ports.iter().all(|(_, pin)| self.hook == Hook::Tcx && pin.is_some())
    }

    /// Removes what nothing goes on with.
    ///
    /// # Errors
    /// The kernel's.
    pub(super) fn remove_left(&mut self, pins: &Pins) -> Result<(), Error> {
        self.left.drain(..).try_for_each(|pin| pins.remove_link(&pin.path))
    }

    /// Attaches where there is nothing yet.
    ///
    /// # Errors
    /// The kernel's; what was made is in `undo`.
    pub(super) fn attach_new(
        &self,
        pins: &Pins,
        program: &mut SchedClassifier,
        undo: &mut Undo<'_>,
    ) -> Result<(), Error> {
        for (port, _) in self.ports.iter().filter(|(_, pin)| pin.is_none()) {
            let path = match self.hook {
                Hook::Tcx => {
                    let path = pins.tcx(self.way, &port.name);
                    attach_tcx(self.way, program, port, &path)?;
                    path
                }
                Hook::Clsact => {
                    let path = pins.clsact(self.way, &port.name);
                    clsact::prepare(self.way, port, &path, is_qdisc_ours(pins, port))?;
                    undo.made(path.clone());
                    attach_clsact(self.way, program, port)?;
                    continue;
                }
            };
            undo.made(path);
        }
        Ok(())
    }

    /// Puts the program in place of an earlier daemon's, in one step each.
    ///
    /// # Errors
    /// The kernel's.
    pub(super) fn replace(&self, program: &mut SchedClassifier) -> Result<(), Error> {
        for (port, pin) in &self.ports {
            let Some(pin) = pin else { continue };
            match self.hook {
                Hook::Tcx => replace(program, &pin.path).map_err(|error| Error::load(&error))?,
                Hook::Clsact => {
                    clsact::renew(self.way, port, &pin.path)?;
                    attach_clsact(self.way, program, port)?;
                }
            }
        }
        Ok(())
    }
}

impl Way {
    /// Name of its program.
    pub(super) const fn program(self) -> &'static str {
        match self {
            Self::In => INGRESS_PROGRAM,
            Self::Out => EGRESS_PROGRAM,
        }
    }

    /// Its name in words.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::In => "ingress",
            Self::Out => "egress",
        }
    }

    const fn attach_type(self) -> TcAttachType {
        match self {
            Self::In => TcAttachType::Ingress,
            Self::Out => TcAttachType::Egress,
        }
    }
}

impl Hook {
    fn of_this_kernel() -> Self {
        let has_tcx = KernelVersion::current().is_ok_and(|kernel| kernel >= KernelVersion::new(6, 6, 0));
        if has_tcx { Self::Tcx } else { Self::Clsact }
    }
}

/// By its pins, and by what is at the link of this network namespace: another's may have the same number.
fn refuse_rival(way: Way, hook: Hook, ours: &Pins, port: &Port) -> Result<(), Error> {
    let there = match hook {
        Hook::Tcx => sys::tcx(way, port.link).unwrap_or_default(),
        Hook::Clsact if clsact::is_there(way, port.link) => vec![NO_PROGRAM],
        Hook::Clsact => Vec::new(),
    };
    let is_there = |pin: &PinnedLink| pin.ifindex == port.link.0 && there.contains(&pin.program);
    let has_it = |name: &String| {
        let pins = Pins::of(name).ok().filter(|pins| pins != ours);
        pins.is_some_and(|pins| pins.tc(way).unwrap_or_default().iter().any(is_there))
    };
    match pinned_instances().into_iter().find(has_it) {
        Some(instance) => Err(Error::Rival { name: port.name.clone(), instance }),
        None => Ok(()),
    }
}

/// Before all others: what one of them lets pass for good, none behind it would see.
fn attach_tcx(way: Way, program: &mut SchedClassifier, port: &Port, path: &Path) -> Result<(), Error> {
    let options = TcAttachOptions::TcxOrder(LinkOrder::first());
    let link = program
        .attach_with_options(&port.name, way.attach_type(), options)
        .and_then(|id| program.take_link(id))
        .map_err(|error| Error::tc(way, &port.name, &error))?;
    let link = FdLink::try_from(link).map_err(|error| Error::tc(way, &port.name, &error))?;
    link.pin(path).map_err(|error| Error::load(&error))?;
    Ok(())
}

/// Whichever filter of ours is removed last takes the qdisc away.
fn is_qdisc_ours(pins: &Pins, port: &Port) -> bool {
    WAYS.into_iter().any(|way| clsact::read(&pins.clsact(way, &port.name)) == Some((port.link.0, true)))
}

fn attach_clsact(way: Way, program: &SchedClassifier, port: &Port) -> Result<(), Error> {
    let program = program.fd().map_err(|error| Error::load(&error))?;
    clsact::attach(way, port, program.as_fd())
}

fn replace(program: &mut SchedClassifier, path: &Path) -> Result<(), ProgramError> {
    let pinned = AyaPin::from_pin(path).map_err(std::io::Error::other)?;
    let link = SchedClassifierLink::try_from(FdLink::from(pinned)).map_err(std::io::Error::other)?;
    let id = program.attach_to_link(link)?;
    // The pin holds the link from here on.
    program.take_link(id).map(drop)
}
