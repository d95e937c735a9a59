//! The lab's system calls that no safe crate offers; all of the lab's `unsafe` is here.
#![expect(unsafe_code, reason = "pre_exec, bpf(2), packet socket addresses and two ioctls")]

use super::kernel::counts_bpf_as_locked;
use anyhow::Result;
use rustix::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use rustix::process::{Resource, Rlimit, Signal, getrlimit, setrlimit};
use rustix::thread::LinkNameSpaceType;
use socket2::{Domain, Protocol, SockAddr, SockFilter, Socket, Type};
use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::Arc;

/// Lets `command` run in a network namespace, and only there: mounts stay as they are, so that
/// bpffs is seen. With `die_with_us` the kernel kills the process when the calling *thread* ends.
pub fn enter_on_exec(command: &mut Command, netns: &Arc<OwnedFd>, die_with_us: bool) {
    let netns = Arc::clone(netns);
    let enter = move || {
        if die_with_us {
            rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
        }
        rustix::thread::move_into_link_name_space(netns.as_fd(), Some(LinkNameSpaceType::Network))?;
        Ok(())
    };
    // SAFETY: between fork and exec the closure makes two system calls on values that live as long
    // as it does; it neither allocates nor takes a lock.
    unsafe { command.pre_exec(enter) };
}

/// A packet socket that hears the CARP frames of both families that come in by one link of the
/// current network namespace, and nothing else. It times out after `timeout` so that its reader can stop.
///
/// # Errors
/// When the kernel refuses a step.
pub fn advert_socket(ifindex: u32, timeout: core::time::Duration) -> Result<Socket> {
    packet_socket(ifindex, timeout, &CARP_FILTER)
}

/// As [`advert_socket`], but for everything that comes in.
///
/// # Errors
/// When the kernel refuses a step.
pub fn inward_socket(ifindex: u32, timeout: core::time::Duration) -> Result<Socket> {
    packet_socket(ifindex, timeout, &INWARD_FILTER)
}

/// As [`advert_socket`], but for ARP.
///
/// # Errors
/// When the kernel refuses a step.
pub fn arp_socket(ifindex: u32, timeout: core::time::Duration) -> Result<Socket> {
    packet_socket(ifindex, timeout, &ARP_FILTER)
}

fn packet_socket(
    ifindex: u32,
    timeout: core::time::Duration,
    filter: &[(u16, u8, u8, u32)],
) -> Result<Socket> {
    // Bound to no protocol at first: otherwise it hears every link until it is bound to one.
    let socket = Socket::new(Domain::PACKET, Type::RAW, Some(Protocol::from(0)))?;
    let filter: Vec<SockFilter> =
        filter.iter().map(|&(code, jt, jf, k)| SockFilter::new(code, jt, jf, k)).collect();
    socket.attach_filter(&filter)?;
    socket.set_read_timeout(Some(timeout))?;
    let sll_ifindex = i32::try_from(ifindex)?;
    // SAFETY: the storage that `try_init` hands out is larger than `sockaddr_ll`, zeroed and
    // aligned for every address; the length written is that of `sockaddr_ll`.
    let ((), bound) = unsafe {
        SockAddr::try_init(|storage, len| {
            let link = storage.cast::<libc::sockaddr_ll>();
            (*link).sll_family = AF_PACKET;
            (*link).sll_protocol = ETH_P_ALL.to_be();
            (*link).sll_ifindex = sll_ifindex;
            *len = LINK_ADDRESS_LEN;
            Ok(())
        })
    }?;
    socket.bind(&bound)?;
    Ok(socket)
}

/// What a link does for the kernel, and can leave to it.
#[derive(Clone, Copy, Debug)]
pub enum Offload {
    /// Receives several segments as one. With it a veth takes frames by NAPI also without XDP.
    Gro,
    /// Fills in checksums of what it sends. Without it a link cuts nothing into segments either, so that what a packet
    /// socket receives at its other end is what would be on a wire.
    Checksums,
}

/// Switches an offload of a link of the current network namespace.
///
/// # Errors
/// When there is no such link, or its name is too long.
pub fn set_offload(link: &str, offload: Offload, on: bool) -> io::Result<()> {
    let socket = rustix::net::socket(rustix::net::AddressFamily::INET, rustix::net::SocketType::DGRAM, None)?;
    let command = match offload {
        Offload::Gro => SET_GRO,
        Offload::Checksums => SET_TX_CHECKSUMS,
    };
    let mut value = [command, u32::from(on)];
    let mut request = Switch { link: [0; 16], value: &raw mut value, rest: [0; 2] };
    let name = request.link.get_mut(..link.len()).ok_or(io::ErrorKind::InvalidInput)?;
    name.copy_from_slice(link.as_bytes());
    // SAFETY: SIOCETHTOOL reads one `ifreq`, which this is, and the value that it points to.
    let done = unsafe { libc::ioctl(socket.as_raw_fd(), SIOCETHTOOL, &raw mut request) };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// When the frame that `socket` received last reached the kernel: `CLOCK_REALTIME`, nanoseconds.
/// The first call only switches the stamps on.
///
/// # Errors
/// `ENOENT` before the first stamped frame.
pub fn arrival(socket: &Socket) -> io::Result<i128> {
    let mut stamp = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: SIOCGSTAMPNS writes one timespec to the address given, which is one.
    let done = unsafe { libc::ioctl(socket.as_raw_fd(), SIOCGSTAMPNS, &raw mut stamp) };
    if done < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(i128::from(stamp.tv_sec) * 1_000_000_000 + i128::from(stamp.tv_nsec))
}

const SIOCETHTOOL: libc::Ioctl = 0x8946;
/// `ETHTOOL_SGRO`.
const SET_GRO: u32 = 0x2c;
/// `ETHTOOL_STXCSUM`.
const SET_TX_CHECKSUMS: u32 = 0x17;
const SIOCGSTAMPNS: libc::Ioctl = 0x8907;
const AF_PACKET: u16 = 17;
const ETH_P_ALL: u16 = 3;
const LINK_ADDRESS_LEN: libc::socklen_t = 20;

/// Classic BPF: came in here, and is IPv4 with protocol 112, or IPv6 whose next header is 112.
/// (code, jt, jf, k)
#[rustfmt::skip]
const CARP_FILTER: [(u16, u8, u8, u32); 11] = [
    (0x30, 0, 0, 0xffff_f004), // ldb packet type
    (0x15, 7, 0, 4),           // outgoing: to the last but one
    (0x28, 0, 0, 12),          // ldh ethertype
    (0x15, 0, 2, 0x0800),      // IPv4, or two on
    (0x30, 0, 0, 23),          // ldb protocol
    (0x15, 4, 3, 112),         // to the last, or to the one before it
    (0x15, 0, 2, 0x86dd),      // IPv6, or two on
    (0x30, 0, 0, 20),          // ldb next header
    (0x15, 1, 0, 112),
    (0x06, 0, 0, 0),           // not for us
    (0x06, 0, 0, 0x40000),     // all of it
];

/// Came in here, and is ARP.
#[rustfmt::skip]
const ARP_FILTER: [(u16, u8, u8, u32); 6] = [
    (0x30, 0, 0, 0xffff_f004), // ldb packet type
    (0x15, 2, 0, 4),           // outgoing: to the last but one
    (0x28, 0, 0, 12),          // ldh ethertype
    (0x15, 1, 0, 0x0806),      // to the last
    (0x06, 0, 0, 0),           // not for us
    (0x06, 0, 0, 0x40000),     // all of it
];

/// Came in here.
#[rustfmt::skip]
const INWARD_FILTER: [(u16, u8, u8, u32); 4] = [
    (0x30, 0, 0, 0xffff_f004), // ldb packet type
    (0x15, 0, 1, 4),           // outgoing, or to the last
    (0x06, 0, 0, 0),           // not for us
    (0x06, 0, 0, 0x40000),     // all of it
];

/// `struct ifreq` with a pointer to `struct ethtool_value`.
#[repr(C)]
struct Switch {
    link: [u8; 16],
    value: *mut [u32; 2],
    rest: [u64; 2],
}

/// bpf(2): what it returns, and what the kernel writes into the attributes, which are plain integers.
///
/// # Errors
/// What the kernel says.
pub fn bpf<T>(command: libc::c_long, attributes: &mut T) -> io::Result<libc::c_long> {
    // SAFETY: the kernel reads and writes at most `size_of::<T>()` bytes of integers, zeros behind them
    // implied; the buffers whose addresses they hold outlive the call, and are its caller's.
    let done =
        unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attributes), size_of::<T>()) };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(done) }
}

/// As [`bpf`], for the commands that make something.
///
/// # Errors
/// What the kernel says.
pub fn bpf_make<T>(command: libc::c_long, attributes: &mut T) -> io::Result<OwnedFd> {
    let fd = i32::try_from(uncounted(|| bpf(command, attributes))?).map_err(io::Error::other)?;
    // SAFETY: the commands that this is called for return a new descriptor, which is nobody else's.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Without the limit on locked memory, against which kernels before 5.11 count what BPF objects take, of all processes
/// of the user. It is put back: the daemons that a test starts inherit it, and are to raise it themselves.
fn uncounted<T>(make: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    if !counts_bpf_as_locked() {
        return make();
    }
    let limit = getrlimit(Resource::Memlock);
    setrlimit(Resource::Memlock, Rlimit { current: None, maximum: None })?;
    let made = make();
    setrlimit(Resource::Memlock, limit)?;
    made
}

const _: () = assert!(size_of::<libc::sockaddr_ll>() == 20 && size_of::<Switch>() == 40);
