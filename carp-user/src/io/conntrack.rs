//! The kernel's connection table, over ctnetlink: what happens in it ([`Events`]), all that is in it ([`Dump`]), and
//! flows of another node put into it ([`Injector`]).
//!
//! Fast: nothing is allocated per flow. Hostile bytes are passed over, never trusted: a flow that no kernel can hold
//! is refused before it is sent ([`Unfit`]).

mod build;
mod dump;
mod events;
mod injector;
mod number;
mod parse;
mod settings;
mod sieve;
mod timeouts;

pub use build::Unfit;
pub use dump::{Dump, count, expectations, look_up};
pub use events::{Events, Item, Listening};
pub use injector::{Injector, Order, Refusal};
pub use parse::{Change, Message, News, messages};
pub use settings::{Settings, probe, switch_events_on};
pub use timeouts::Timeouts;

use super::error::{CAP_NET_ADMIN, Error};
use super::netlink::{Requests, socket};
use rustix::net::SocketFlags;
use rustix::net::netlink::{NETFILTER, SocketAddrNetlink};
use std::io;
use std::os::fd::{AsFd, OwnedFd};

#[cfg(test)]
mod tests;

/// Without groups it only asks.
fn open(groups: u32, flags: SocketFlags) -> Result<OwnedFd, Error> {
    socket(Some(NETFILTER), groups, SocketFlags::CLOEXEC | flags)
        .map_err(|source| failed("opening ctnetlink", source))
}

fn requests() -> Result<Requests, Error> {
    Requests::open_to(Some(NETFILTER)).map_err(|source| failed("opening ctnetlink", source))
}

/// The number that the kernel gave a socket: what it causes carries it.
fn port(socket: impl AsFd) -> io::Result<u32> {
    let address = rustix::net::getsockname(socket)?;
    let address = SocketAddrNetlink::try_from(address)?;
    Ok(address.pid())
}

/// Names what is missing to open a socket: the capability, or the kernel's option.
fn failed(doing: &str, source: io::Error) -> Error {
    named(doing, source, libc::EPROTONOSUPPORT, "CONFIG_NETFILTER_NETLINK")
}

/// The same for a plain question to ctnetlink: nobody stands behind its number.
fn unanswered(doing: &str, source: io::Error) -> Error {
    named(doing, source, libc::EINVAL, "CONFIG_NF_CT_NETLINK")
}

fn named(doing: &str, source: io::Error, errno: i32, option: &'static str) -> Error {
    if source.raw_os_error() == Some(errno) {
        return Error::Unsupported { doing: doing.to_owned(), option };
    }
    Error::kernel(doing, CAP_NET_ADMIN, source)
}
