//! The lab's system calls that no safe crate offers; all of the lab's `unsafe` is here.
#![expect(unsafe_code, reason = "pre_exec, bpf(2), packet socket addresses and one ioctl")]

use anyhow::{Context, Result, bail};
use rustix::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use rustix::process::Signal;
use rustix::thread::LinkNameSpaceType;
use socket2::{Domain, Protocol, SockAddr, SockFilter, Socket, Type};
use std::ffi::CString;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::Path;
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

/// Attaches a program that passes everything to a link of the current network namespace, native
/// mode. It stays for as long as the descriptor is open.
///
/// # Errors
/// When the kernel refuses; the text says which step.
pub fn attach_xdp_pass(ifindex: u32) -> Result<OwnedFd> {
    // mov r0, XDP_PASS; exit
    let program: [u64; 2] = [0x0000_0002_0000_00b7, 0x0000_0000_0000_0095];
    let load = ProgLoad {
        prog_type: 6, // BPF_PROG_TYPE_XDP
        insn_cnt: 2,
        insns: address(&program),
        license: address(c"GPL"),
        rest: [0; 5],
        prog_ifindex: 0,
        expected_attach_type: BPF_XDP,
    };
    let program = bpf(BPF_PROG_LOAD, &load).context("loading the XDP program that passes everything")?;
    let prog_fd = u32::try_from(program.as_raw_fd())?;
    let create =
        LinkCreate { prog_fd, target_ifindex: ifindex, attach_type: BPF_XDP, flags: XDP_FLAGS_DRV_MODE };
    bpf(BPF_LINK_CREATE, &create).with_context(|| format!("attaching it to link {ifindex}"))
}

/// Gives a BPF object a name in bpffs, so that it outlives its descriptors.
///
/// # Errors
/// When the kernel refuses.
pub fn pin(object: &OwnedFd, path: &Path) -> Result<()> {
    let name = CString::new(path.as_os_str().as_encoded_bytes())?;
    let bpf_fd = u32::try_from(object.as_raw_fd())?;
    let pin = ObjPin { pathname: address(name.as_bytes_with_nul()), bpf_fd, file_flags: 0 };
    bpf_call(BPF_OBJ_PIN, &pin).map(drop).with_context(|| format!("pinning {}", path.display()))
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

const BPF_PROG_LOAD: libc::c_long = 5;
const BPF_OBJ_PIN: libc::c_long = 6;
const BPF_LINK_CREATE: libc::c_long = 28;
const BPF_XDP: u32 = 37;
const XDP_FLAGS_DRV_MODE: u32 = 1 << 2;
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

/// Came in here.
#[rustfmt::skip]
const INWARD_FILTER: [(u16, u8, u8, u32); 4] = [
    (0x30, 0, 0, 0xffff_f004), // ldb packet type
    (0x15, 0, 1, 4),           // outgoing, or to the last
    (0x06, 0, 0, 0),           // not for us
    (0x06, 0, 0, 0x40000),     // all of it
];

#[repr(C)]
struct ProgLoad {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    /// Log level, size and buffer; kernel version, flags; the name: all absent.
    rest: [u64; 5],
    prog_ifindex: u32,
    expected_attach_type: u32,
}

#[repr(C)]
struct LinkCreate {
    prog_fd: u32,
    target_ifindex: u32,
    attach_type: u32,
    flags: u32,
}

#[repr(C)]
struct ObjPin {
    pathname: u64,
    bpf_fd: u32,
    file_flags: u32,
}

fn address<T: ?Sized>(value: &T) -> u64 {
    u64::try_from(std::ptr::from_ref(value).cast::<u8>().addr()).unwrap_or(0)
}

fn bpf_call<T>(command: libc::c_long, attributes: &T) -> Result<libc::c_long> {
    // SAFETY: the kernel reads `size_of::<T>()` bytes of plain integers, zeros behind them implied;
    // the buffers whose addresses they hold outlive the call.
    let done =
        unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_ref(attributes), size_of::<T>()) };
    if done < 0 {
        bail!(io::Error::last_os_error());
    }
    Ok(done)
}

/// For the commands that make something.
fn bpf<T>(command: libc::c_long, attributes: &T) -> Result<OwnedFd> {
    let fd = i32::try_from(bpf_call(command, attributes)?)?;
    // SAFETY: the commands that this is called for return a new descriptor, which is nobody else's.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

const _: () = assert!(size_of::<ProgLoad>() == 72 && size_of::<LinkCreate>() == 16);
const _: () = assert!(size_of::<libc::sockaddr_ll>() == 20);
