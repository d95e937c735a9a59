//! The kernel's settings of connection tracking.

use crate::io::error::{CAP_NET_ADMIN, Error};
use std::fs;
use std::io;
use std::path::Path;

/// Settings of the calling thread's network namespace, `net.netfilter.nf_conntrack_*`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// `events`: 0 nobody is told of new flows; 1 always; 2 (the default since Linux 5.19) of those that begin while
    /// somebody listens.
    pub events: u32,
    /// `max`: how many flows there can be. Of the whole machine.
    pub max: u32,
    /// `buckets`: of the table. Of the whole machine.
    pub buckets: u32,
    /// `tcp_loose`: packets in the middle of an unknown TCP connection begin to be tracked.
    pub tcp_loose: bool,
    /// `tcp_be_liberal`: TCP's windows never matter.
    pub tcp_be_liberal: bool,
}

/// Whether the kernel can do it at all: asks ctnetlink for a number, which loads its module where it is one, and reads the
/// settings.
///
/// # Errors
/// [`Error::Unsupported`] with the option that the kernel lacks, [`Error::Privilege`] without `CAP_NET_ADMIN`.
pub fn probe() -> Result<Settings, Error> {
    super::count()?;
    Settings::read()
}

impl Settings {
    /// The present ones.
    ///
    /// # Errors
    /// [`Error::Unsupported`] with the option that the kernel lacks.
    pub fn read() -> Result<Self, Error> {
        Self::read_from(Path::new(FOLDER))
    }

    fn read_from(folder: &Path) -> Result<Self, Error> {
        let tracking = "CONFIG_NF_CONNTRACK";
        let max = number(folder, "max", tracking)?;
        Ok(Self {
            events: number(folder, "events", "CONFIG_NF_CONNTRACK_EVENTS")?,
            max,
            buckets: number(folder, "buckets", tracking)?,
            tcp_loose: number(folder, "tcp_loose", tracking)? != 0,
            tcp_be_liberal: number(folder, "tcp_be_liberal", tracking)? != 0,
        })
    }
}

/// Has the kernel tell of every flow that begins from now on. True if that is a change.
///
/// # Errors
/// [`Error::Unsupported`] without `CONFIG_NF_CONNTRACK_EVENTS`; when the setting cannot be written.
pub fn switch_events_on() -> Result<bool, Error> {
    if Settings::read()?.events == 1 {
        return Ok(false);
    }
    let file = Path::new(FOLDER).join("nf_conntrack_events");
    fs::write(&file, "1")
        .map(|()| true)
        .map_err(|source| Error::kernel(format!("writing 1 to {}", file.display()), CAP_NET_ADMIN, source))
}

pub(super) const FOLDER: &str = "/proc/sys/net/netfilter";

/// One setting; without its file the kernel lacks the option.
fn number(folder: &Path, name: &str, option: &'static str) -> Result<u32, Error> {
    let file = folder.join(format!("nf_conntrack_{name}"));
    let doing = || format!("reading {}", file.display());
    let text = match fs::read_to_string(&file) {
        Ok(text) => text,
        Err(source) if source.kind() == io::ErrorKind::NotFound => {
            return Err(Error::Unsupported { doing: doing(), option });
        }
        Err(source) => return Err(Error::kernel(doing(), CAP_NET_ADMIN, source)),
    };
    let invalid = |_| Error::kernel(doing(), CAP_NET_ADMIN, io::ErrorKind::InvalidData.into());
    text.trim().parse().map_err(invalid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_lacks_is_named() {
        let folder = std::env::temp_dir().join(format!("carp-settings-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let option = || match Settings::read_from(&folder) {
            Err(Error::Unsupported { option, .. }) => option,
            other => panic!("{other:?}"),
        };
        assert_eq!(option(), "CONFIG_NF_CONNTRACK");
        for (name, value) in [("max", "262144\n"), ("buckets", "65536\n"), ("tcp_loose", "1\n")] {
            fs::write(folder.join(format!("nf_conntrack_{name}")), value).unwrap();
        }
        assert_eq!(option(), "CONFIG_NF_CONNTRACK_EVENTS");
        fs::write(folder.join("nf_conntrack_events"), "2\n").unwrap();
        fs::write(folder.join("nf_conntrack_tcp_be_liberal"), "0\n").unwrap();
        let settings = Settings::read_from(&folder).unwrap();
        fs::remove_dir_all(&folder).unwrap();
        let expected =
            Settings { events: 2, max: 262_144, buckets: 65536, tcp_loose: true, tcp_be_liberal: false };
        assert_eq!(settings, expected);
    }
}
