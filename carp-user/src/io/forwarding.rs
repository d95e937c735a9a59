//! Forwarding by the kernel, switched on for as long as a daemon runs. What was set before is noted in the instance's
//! directory before it is changed, so that the next daemon of this name, and `carpctl cleanup`, put back what a killed one
//! has changed.
//!
//! The one setting changes others (`ip-sysctl.rst`): that of every device, and for IPv4 whether redirects are accepted. So
//! they are noted with it.

use super::instance::{Instance, RUN};
use super::{note, sysctl};
use crate::proto::family::Family;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Why the kernel does not forward, or what it did before is not put back.
#[derive(Debug, thiserror::Error)]
#[error(
    "setting {setting}: {source}; a container or a service manager may keep it from being written \
     (ProtectKernelTunables=): set it where that is possible, and take forwarding out of [kernel]"
)]
pub struct Error {
    setting: String,
    source: io::Error,
}

/// What a running daemon has switched on. Dropping it puts back what was set before.
#[derive(Debug)]
pub struct Forwarding {
    note: PathBuf,
}

impl Forwarding {
    /// Has the kernel forward these families, and what else a killed daemon of this instance had it forward no longer.
    ///
    /// # Errors
    /// When the kernel or the file system refuses; then it is as before for each family that is new.
    pub fn raise(instance: &Instance, families: &BTreeSet<Family>) -> Result<Self, Error> {
        let forwarding = Self { note: instance.file(NOTE) };
        forwarding.set(families)?;
        Ok(forwarding)
    }

    /// Has the kernel forward these families and no others, of those that it did not forward before.
    ///
    /// # Errors
    /// As [`Forwarding::raise`].
    pub fn set(&self, families: &BTreeSet<Family>) -> Result<(), Error> {
        let mut noted = note::read::<Noted>(&self.note);
        for family in [Family::V4, Family::V6] {
            if families.contains(&family) {
                noted.switch_on(&self.note, family)?;
            } else {
                noted.put_back(&self.note, family)?;
            }
        }
        Ok(())
    }
}

impl Drop for Forwarding {
    fn drop(&mut self) {
        if let Err(error) = self.set(&BTreeSet::new()) {
            tracing::warn!(%error, "left behind");
        }
    }
}

/// The setting that switches it on, as `sysctl` names it.
pub const fn setting(family: Family) -> &'static str {
    match family {
        Family::V4 => "net.ipv4.ip_forward",
        Family::V6 => "net.ipv6.conf.all.forwarding",
    }
}

/// Whether the kernel knows the family and does not forward it, by what `read` says of a setting.
pub fn is_off(family: Family, read: impl Fn(&str) -> Option<String>) -> bool {
    read(setting(family)).is_some_and(|value| value == "0")
}

/// What a killed daemon of this name has switched on here, in words.
pub(super) fn left_by(name: &str) -> Vec<String> {
    let noted: Noted = note::read(&note_of(name));
    noted
        .before
        .iter()
        .map(|before| format!("{}, which was {}", setting(before.family()), before.value))
        .collect()
}

/// Puts back what was set before a daemon of this name, which was killed. The note stays.
///
/// # Errors
/// When the kernel refuses.
pub(super) fn put_back(name: &str) -> Result<(), Error> {
    let noted: Noted = note::read(&note_of(name));
    noted
        .before
        .iter()
        .try_for_each(|before| before.put_back().map_err(|source| failed(before.family(), source)))
}

/// Name of the note.
const NOTE: &str = "forwarding";
const SETTINGS: &str = "/proc/sys/net";

/// The note.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Noted {
    before: Vec<Before>,
}

/// How a family was forwarded.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Before {
    is_v4: bool,
    /// Of the setting itself.
    value: String,
    /// Of those that the kernel changes with it, by their files.
    with_it: BTreeMap<PathBuf, String>,
}

impl Noted {
    fn switch_on(&mut self, note: &Path, family: Family) -> Result<(), Error> {
        if !is_off(family, sysctl::read) {
            return Ok(());
        }
        let is_noted = self.before.iter().any(|before| before.family() == family);
        if !is_noted {
            self.before.push(Before::of(family));
            self.write(note).map_err(|source| failed(family, source))?;
        }
        let written = sysctl::write(setting(family), "1");
        if written.is_err() && !is_noted {
            self.before.pop();
            let _ = self.write(note);
        }
        written.map_err(|source| failed(family, source))?;
        tracing::info!("{} is 1 while carpd runs", setting(family));
        Ok(())
    }

    fn put_back(&mut self, note: &Path, family: Family) -> Result<(), Error> {
        let Some(at) = self.before.iter().position(|before| before.family() == family) else { return Ok(()) };
        let before = self.before.remove(at);
        before.put_back().and_then(|()| self.write(note)).map_err(|source| failed(family, source))
    }

    fn write(&self, note: &Path) -> io::Result<()> {
        note::write(note, Some(self).filter(|noted| !noted.before.is_empty()))
    }
}

impl Before {
    fn of(family: Family) -> Self {
        let value = sysctl::read(setting(family)).unwrap_or_default();
        let with_it = followers(family).into_iter().filter_map(|file| {
            let value = fs::read_to_string(&file).ok()?.trim().to_owned();
            Some((file, value))
        });
        Self { is_v4: family == Family::V4, value, with_it: with_it.collect() }
    }

    const fn family(&self) -> Family {
        if self.is_v4 { Family::V4 } else { Family::V6 }
    }

    fn put_back(&self) -> io::Result<()> {
        sysctl::write(setting(self.family()), &self.value)?;
        for (file, value) in &self.with_it {
            // A device may be gone.
            if fs::read_to_string(file).is_ok_and(|now| now.trim() != value) {
                fs::write(file, value)?;
            }
        }
        Ok(())
    }
}

/// The files of the settings that the kernel changes when forwarding is switched.
fn followers(family: Family) -> Vec<PathBuf> {
    let (folder, beside) = match family {
        Family::V4 => ("ipv4/conf", Some("all/accept_redirects")),
        Family::V6 => ("ipv6/conf", None),
    };
    let folder = Path::new(SETTINGS).join(folder);
    let devices = fs::read_dir(&folder).into_iter().flatten().flatten();
    // That of `all` is the setting itself.
    let devices = devices.filter(|device| device.file_name() != "all");
    let files = devices.map(|device| device.path().join("forwarding"));
    files.chain(beside.map(|name| folder.join(name))).collect()
}

fn note_of(name: &str) -> PathBuf {
    Path::new(RUN).join(name).join(NOTE)
}

fn failed(family: Family, source: io::Error) -> Error {
    Error { setting: setting(family).to_owned(), source }
}
