//! The TCP sockets of the sync session.

use socket2::{Domain, Protocol, SockAddr, Socket, TcpKeepalive, Type};
use std::io;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};

/// Connections that wait to be looked at. Policy when full: the kernel drops them, and the peer tries again.
const BACKLOG: i32 = 8;
/// How long sent bytes may go without the peer's acknowledgement before the connection counts as broken.
const UNACKNOWLEDGED: Duration = Duration::from_secs(5);
/// When nothing is sent: how often the kernel asks whether the peer is there, within such a time. It counts in seconds.
const PROBES: u32 = 2;
/// How long a call may take.
pub const CONNECT: Duration = Duration::from_secs(2);

/// Listens at `local`, on this device only if one is named.
///
/// # Errors
/// The kernel's.
pub fn listen(local: SocketAddr, device: Option<&str>) -> io::Result<TcpListener> {
    let socket = new(local, device)?;
    socket.set_reuse_address(true)?;
    socket.bind(&local.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// Calls `peer` from `local`'s address.
///
/// # Errors
/// The kernel's, and when nobody answers in time.
pub async fn call(local: SocketAddr, peer: SocketAddr, device: Option<&str>) -> io::Result<TcpStream> {
    let socket = new(local, device)?;
    let mut from = local;
    from.set_port(0);
    socket.bind(&SockAddr::from(from))?;
    match socket.connect(&SockAddr::from(peer)) {
        Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let stream = TcpStream::from_std(socket.into())?;
    tokio::time::timeout(CONNECT, stream.writable()).await??;
    match stream.take_error()? {
        Some(error) => Err(error),
        None => Ok(stream),
    }
}

/// A connection carries small messages at once, and its end is noticed.
///
/// # Errors
/// The kernel's.
pub fn tune(stream: &TcpStream) -> io::Result<()> {
    tune_within(stream, UNACKNOWLEDGED)
}

/// The same, where its end is noticed within this time.
///
/// # Errors
/// The kernel's.
pub fn tune_within(stream: &TcpStream, silence: Duration) -> io::Result<()> {
    let socket = socket2::SockRef::from(stream);
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_user_timeout(Some(silence))?;
    let probe = Duration::from_secs((silence.as_secs() / u64::from(PROBES)).max(1));
    let keepalive = TcpKeepalive::new().with_time(probe).with_interval(probe).with_retries(PROBES);
    socket.set_tcp_keepalive(&keepalive)
}

fn new(local: SocketAddr, device: Option<&str>) -> io::Result<Socket> {
    let kind = Type::STREAM.nonblocking().cloexec();
    let socket = Socket::new(Domain::for_address(local), kind, Some(Protocol::TCP))?;
    socket.bind_device(device.map(str::as_bytes))?;
    Ok(socket)
}
