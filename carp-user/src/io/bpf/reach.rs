//! Links that come and go while the programs are at work on others.

use std::fmt;
use std::path::PathBuf;
use std::thread::JoinHandle;

use carp_common::id::IfIndex;

use super::attach::{self, Survey, Undo};
use super::load::load;
use super::pins::{PinnedLink, Pins, WAYS};
use super::tc::{self, Way};
use super::{Attached, Error, Port, attach_all};

/// The programs on links where nobody is served yet. Dropping it detaches them.
pub struct Reach {
    pins: Pins,
    made: Vec<PathBuf>,
    modes: Vec<(IfIndex, Attached)>,
}

impl Reach {
    /// Attaches the programs of the instance that runs to more links, each pinned. They pass everything there, as no
    /// virtual host is known yet. Blocks: the kernel verifies the programs, and a driver may take its time. `leaving`
    /// is waited for first.
    ///
    /// # Errors
    /// As [`super::Datapath::open`]; what had been made by then is removed again.
    pub fn of(instance: &str, ports: &[Port], leaving: Option<JoinHandle<()>>) -> Result<Self, Error> {
        finish(leaving);
        let pins = Pins::of(instance)?;
        if !pins.are_of_this_build() {
            return Err(Error::OtherVersion { instance: instance.to_owned() });
        }
        let ports = attach::decide(&pins, ports)?;
        let is_stale =
            |pin: &PinnedLink| ports.iter().any(|port| port.name == pin.name && port.link.0 != pin.ifindex);
        // The links that had the names before are gone.
        remove_where(&pins, is_stale)?;
        let mut undo = Undo::new(&pins);
        let surveys = (
            Survey::take(&pins, &ports)?,
            tc::Survey::take(Way::Out, &pins, &ports)?,
            tc::Survey::take(Way::In, &pins, &ports)?,
        );
        let mut ebpf = load(&pins, &ports)?;
        let refused = attach_all(&pins, &mut ebpf, (&surveys.0, &surveys.1, &surveys.2), &mut undo)?;
        let modes = attach::modes(&[ports.as_slice(), &refused].concat())?;
        Ok(Self { made: undo.made_for_good(), pins: pins.clone(), modes })
    }

    /// How the programs are attached. They stay.
    pub(super) fn keep(mut self) -> Vec<(IfIndex, Attached)> {
        self.made.clear();
        std::mem::take(&mut self.modes)
    }

    /// Whether they are at this link.
    pub fn has(&self, link: IfIndex) -> bool {
        self.modes.iter().any(|(there, _)| *there == link)
    }
}

impl Drop for Reach {
    fn drop(&mut self) {
        for path in self.made.iter().rev() {
            if let Err(error) = self.pins.remove_link(path) {
                tracing::warn!(%error, "undoing an unfinished reload");
            }
        }
    }
}

impl fmt::Debug for Reach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reach").field("made", &self.made).finish_non_exhaustive()
    }
}

/// Detaches the programs from all links but these, on a thread of its own.
pub(super) fn leave_others(pins: &Pins, kept: Vec<IfIndex>) -> Option<JoinHandle<()>> {
    let pins = pins.clone();
    let leave = move || {
        if let Err(error) = remove_where(&pins, |pin| !kept.contains(&IfIndex(pin.ifindex))) {
            tracing::warn!(%error, "left behind");
        }
    };
    let thread = std::thread::Builder::new().name("carp-detach".to_owned()).spawn(leave);
    thread.inspect_err(|error| tracing::warn!(%error, "programs stay on links that have left")).ok()
}

/// Waits for that.
pub(super) fn finish(leaving: Option<JoinHandle<()>>) {
    // A panic over there has been written to standard error already.
    leaving.map(JoinHandle::join);
}

fn remove_where(pins: &Pins, is_to_go: impl Fn(&PinnedLink) -> bool) -> Result<(), Error> {
    let mut all = pins.links()?;
    for way in WAYS {
        all.extend(pins.tc(way)?);
    }
    all.iter().filter(|pin| is_to_go(pin)).try_for_each(|pin| pins.remove_link(&pin.path))
}
