//! Programs at tc before Linux 6.6: each a filter of a clsact qdisc. All stay when the daemon is
//! killed. A symbolic link among the pins says on which interface, and whether the qdisc is ours.

use std::fs;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::path::Path;

use carp_common::id::IfIndex;

use super::tc::Way;
use super::{Error, Port};
use crate::io::netlink::{CREATE, Request, Requests, replies};

/// Adds the qdisc where there is none, and notes at `mark` whether it is `ours`: we have added it, or another mark of
/// this interface says so.
///
/// # Errors
/// The kernel's.
pub(super) fn prepare(way: Way, port: &Port, mark: &Path, ours: bool) -> Result<(), Error> {
    let is_ours = add_qdisc(way, port)? || ours;
    note(port, mark, is_ours)
}

/// Adds the qdisc again where somebody has removed it, and our filter with it, since `prepare`. Then it is ours.
///
/// # Errors
/// The kernel's.
pub(super) fn renew(way: Way, port: &Port, mark: &Path) -> Result<(), Error> {
    let was_removed = add_qdisc(way, port)?;
    if !was_removed || read(mark) == Some((port.link.0, true)) {
        return Ok(());
    }
    fs::remove_file(mark).map_err(|source| Error::Pin {
        doing: "removing",
        path: mark.to_owned(),
        source,
    })?;
    note(port, mark, true)
}

/// Puts the program into our filter, in one step also when another is in it.
///
/// # Errors
/// The kernel's.
pub(super) fn attach(way: Way, port: &Port, program: BorrowedFd<'_>) -> Result<(), Error> {
    let options = [
        attribute(TCA_BPF_FD, &program.as_raw_fd().to_ne_bytes()),
        attribute(TCA_BPF_NAME, format!("{}\0", way.program()).as_bytes()),
        attribute(TCA_BPF_FLAGS, &TCA_BPF_FLAG_ACT_DIRECT.to_ne_bytes()),
    ];
    let request = filter(way, RTM_NEWTFILTER, NLM_F_CREATE, port.link.0).with(TCA_OPTIONS, &options.concat());
    let done = Requests::open().and_then(|mut requests| requests.ask(request));
    done.map_err(|error| Error::tc(way, &port.name, &error))
}

/// Removes what the mark says, as far as it is still there, and a qdisc that is ours when nobody has a filter there any
/// more.
///
/// # Errors
/// The kernel's, when there is no talking to it.
pub(super) fn remove(way: Way, mark: &Path) -> io::Result<()> {
    let Some((link, is_ours)) = read(mark) else { return Ok(()) };
    let mut requests = Requests::open()?;
    // Gone with its interface, or by somebody's hand: either way there is nothing to remove.
    let _gone = requests.ask(filter(way, RTM_DELTFILTER, 0, link));
    if is_ours && !is_used(&mut requests, link)? {
        let _gone = requests.ask(qdisc(RTM_DELQDISC, 0, link));
    }
    Ok(())
}

/// Whether our filter is at a link.
pub(super) fn is_there(way: Way, link: IfIndex) -> bool {
    let request = filter(way, RTM_GETTFILTER, 0, link.0);
    Requests::open().and_then(|mut requests| requests.ask(request)).is_ok()
}

/// The interface's number and whether the qdisc is ours.
pub(super) fn read(mark: &Path) -> Option<(u32, bool)> {
    let text = fs::read_link(mark).ok()?;
    let (link, note) = text.to_str()?.split_once(' ')?;
    Some((link.parse().ok()?, note == ADDED))
}

const ADDED: &str = "added";
const FOUND: &str = "found";
const RTM_NEWQDISC: u16 = 36;
const RTM_DELQDISC: u16 = 37;
const RTM_NEWTFILTER: u16 = 44;
const RTM_DELTFILTER: u16 = 45;
const RTM_GETTFILTER: u16 = 46;
const NLM_F_CREATE: u16 = 0x400;
const TCA_KIND: u16 = 1;
const TCA_OPTIONS: u16 = 2;
const TCA_BPF_FD: u16 = 6;
const TCA_BPF_NAME: u16 = 7;
const TCA_BPF_FLAGS: u16 = 8;
const TCA_BPF_FLAG_ACT_DIRECT: u32 = 1;
const CLSACT_HANDLE: u32 = 0xffff_0000;
const CLSACT_PARENT: u32 = 0xffff_fff1;
const INGRESS_PARENT: u32 = 0xffff_fff2;
const EGRESS_PARENT: u32 = 0xffff_fff3;
/// Numbers that nobody else chooses; filters of a smaller priority come first.
const PRIORITY: u32 = 112;
const HANDLE: u32 = 0xca49;
const ETH_P_ALL: u16 = 3;

/// Whether there was none.
fn add_qdisc(way: Way, port: &Port) -> Result<bool, Error> {
    let request = qdisc(RTM_NEWQDISC, CREATE, port.link.0);
    match Requests::open().and_then(|mut requests| requests.ask(request)) {
        Err(error) if error.raw_os_error() != Some(libc::EEXIST) => Err(Error::tc(way, &port.name, &error)),
        added => Ok(added.is_ok()),
    }
}

fn note(port: &Port, mark: &Path, is_ours: bool) -> Result<(), Error> {
    let text = format!("{} {}", port.link.0, if is_ours { ADDED } else { FOUND });
    let made = std::os::unix::fs::symlink(text, mark);
    made.map_err(|source| Error::Pin { doing: "making", path: mark.to_owned(), source })
}

/// Whether a filter, anybody's, is at the link.
fn is_used(requests: &mut Requests, link: u32) -> io::Result<bool> {
    for parent in [INGRESS_PARENT, EGRESS_PARENT] {
        let filters = requests.dump(RTM_GETTFILTER, &tcmsg(link, 0, parent, 0))?;
        if replies(&filters).any(|reply| reply.kind == RTM_NEWTFILTER) {
            return Ok(true);
        }
    }
    Ok(false)
}

fn qdisc(kind: u16, flags: u16, link: u32) -> Request {
    Request::new(kind, flags, &tcmsg(link, CLSACT_HANDLE, CLSACT_PARENT, 0)).with(TCA_KIND, b"clsact\0")
}

fn filter(way: Way, kind: u16, flags: u16, link: u32) -> Request {
    let parent = match way {
        Way::In => INGRESS_PARENT,
        Way::Out => EGRESS_PARENT,
    };
    let info = PRIORITY << 16 | u32::from(ETH_P_ALL.to_be());
    Request::new(kind, flags, &tcmsg(link, HANDLE, parent, info)).with(TCA_KIND, b"bpf\0")
}

/// `struct tcmsg`: family and padding, link, handle, parent, info.
fn tcmsg(link: u32, handle: u32, parent: u32, info: u32) -> Vec<u8> {
    [0, link, handle, parent, info].iter().flat_map(|word| word.to_ne_bytes()).collect()
}

/// One inside another.
fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let len = u16::try_from(4 + value.len()).unwrap_or(u16::MAX);
    let mut bytes = [len.to_ne_bytes(), kind.to_ne_bytes()].concat();
    bytes.extend(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}
