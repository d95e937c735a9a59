//! Settings of the kernel that have other values while a daemon runs. The values before are noted first, as for
//! [`super::forwarding`].

use super::instance::{Instance, RUN};
use super::note;
use crate::config::kernel::{Setting, Value};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Why a setting does not have the value that it should have.
#[derive(Debug, thiserror::Error)]
#[error(
    "setting {setting}: {source}; the kernel may lack it, or a container or a service manager keep it from being \
     written (ProtectKernelTunables=): set it where that is possible, and take it out of [kernel]"
)]
pub struct Error {
    setting: Setting,
    source: io::Error,
}

/// What a running daemon has set. Dropping it puts back what was set before.
#[derive(Debug)]
pub struct Tuning {
    note: PathBuf,
}

impl Tuning {
    /// Sets these, and puts back what else a killed daemon of this instance has set.
    ///
    /// # Errors
    /// When the kernel or the file system refuses; then everything is put back.
    pub fn raise(instance: &Instance, wanted: &BTreeMap<Setting, Value>) -> Result<Self, Error> {
        let tuning = Self { note: instance.file(NOTE) };
        tuning.set(wanted)?;
        Ok(tuning)
    }

    /// Sets these, and puts back what else it has set.
    ///
    /// # Errors
    /// When the kernel or the file system refuses; some may be set then.
    pub fn set(&self, wanted: &BTreeMap<Setting, Value>) -> Result<(), Error> {
        let mut noted: Noted = note::read(&self.note);
        let unwanted = |(setting, _): &(&Setting, &String)| !wanted.contains_key(*setting);
        let unwanted: Vec<Setting> =
            noted.before.iter().filter(unwanted).map(|(setting, _)| setting.clone()).collect();
        for setting in unwanted {
            let before = noted.before.remove(&setting).unwrap_or_default();
            let done = put_back(&setting, &before).and_then(|()| noted.write(&self.note));
            done.map_err(|source| Error { setting, source })?;
        }
        for (setting, value) in wanted {
            noted
                .set(&self.note, setting, *value)
                .map_err(|source| Error { setting: setting.clone(), source })?;
        }
        Ok(())
    }
}

impl Drop for Tuning {
    fn drop(&mut self) {
        if let Err(error) = self.set(&BTreeMap::new()) {
            tracing::warn!(%error, "left behind");
        }
    }
}

/// The present value of a setting; none where the kernel has no such setting.
pub fn read(setting: &Setting) -> Option<String> {
    Some(fs::read_to_string(file(setting)).ok()?.trim().to_owned())
}

/// What a killed daemon of this name has set here, in words.
pub(super) fn left_by(name: &str) -> Vec<String> {
    let noted: Noted = note::read(&note_of(name));
    noted.before.iter().map(|(setting, before)| format!("{setting}, which was {before}")).collect()
}

/// Puts back what was set before a daemon of this name, which was killed. The note stays.
///
/// # Errors
/// When the kernel refuses.
pub(super) fn put_back_of(name: &str) -> Result<(), Error> {
    let noted: Noted = note::read(&note_of(name));
    noted.before.iter().try_for_each(|(setting, before)| {
        put_back(setting, before).map_err(|source| Error { setting: setting.clone(), source })
    })
}

/// Name of the note.
const NOTE: &str = "settings";

/// The note: by setting, the value before.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Noted {
    before: BTreeMap<Setting, String>,
}

impl Noted {
    fn set(&mut self, note: &Path, setting: &Setting, value: Value) -> io::Result<()> {
        let present = fs::read_to_string(file(setting))?.trim().to_owned();
        if value.is_met_by(&present) {
            return Ok(());
        }
        let is_new = !self.before.contains_key(setting);
        if is_new {
            self.before.insert(setting.clone(), present);
            self.write(note)?;
        }
        let written = fs::write(file(setting), value.number().to_string());
        if written.is_err() && is_new {
            self.before.remove(setting);
            let _ = self.write(note);
        }
        written?;
        tracing::info!("{setting} is {} while carpd runs", value.number());
        Ok(())
    }

    fn write(&self, note: &Path) -> io::Result<()> {
        note::write(note, Some(self).filter(|noted| !noted.before.is_empty()))
    }
}

/// A device that is gone has taken its settings along.
fn put_back(setting: &Setting, before: &str) -> io::Result<()> {
    match fs::write(file(setting), before) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done,
    }
}

fn file(setting: &Setting) -> PathBuf {
    Path::new("/proc/sys").join(setting.path())
}

fn note_of(name: &str) -> PathBuf {
    Path::new(RUN).join(name).join(NOTE)
}
