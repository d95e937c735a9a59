//! Connections: who is let in, how many, for how long.

use super::Start;
use super::desk::Desk;
use super::gate::Gate;
use super::http::{self, Visitor};
use crate::io::accounts::Accounts;
use crate::io::https::{Identity, tls};
use crate::io::peer::socket;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot, watch};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

/// Connections at a time: of the peer's address, and of all others together. Policy beyond: closed unread.
const CONNECTIONS: usize = 16;
/// New connections a second, of each of the two as well. Policy beyond: closed unread.
const A_SECOND: u32 = 50;
/// How long the handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(5);
/// How long a connection may last.
const LIFETIME: Duration = Duration::from_secs(60);
/// How long answers have to get out once the daemon stops.
const GRACE: Duration = Duration::from_secs(1);
/// How often is looked whether there is an account, or an address to listen at.
const LOOK: Duration = Duration::from_secs(1);

/// Connections of one of two kinds of address.
struct Share {
    places: Arc<Semaphore>,
    left: u32,
}

impl Share {
    fn new() -> Self {
        Self { places: Arc::new(Semaphore::new(CONNECTIONS)), left: A_SECOND }
    }

    fn take(&mut self) -> Option<OwnedSemaphorePermit> {
        let place = Arc::clone(&self.places).try_acquire_owned().ok()?;
        self.left = self.left.checked_sub(1)?;
        Some(place)
    }
}

/// Serves until the daemon stops.
pub(super) async fn serve(start: Start, mut stopped: oneshot::Receiver<()>) {
    let (ending, end) = watch::channel(false);
    let mut connections = JoinSet::new();
    tokio::select! {
        () = open_and_listen(&start, &mut connections, &end) => {}
        _ = &mut stopped => {}
    }
    ending.send_replace(true);
    let all = async { while connections.join_next().await.is_some() {} };
    let _ = tokio::time::timeout(GRACE, all).await;
}

async fn open_and_listen(start: &Start, connections: &mut JoinSet<()>, end: &watch::Receiver<bool>) {
    let acceptor = loop {
        match acceptor(start) {
            Ok(Some(acceptor)) => break acceptor,
            Ok(None) => tokio::time::sleep(LOOK).await,
            Err(error) => {
                tracing::error!("no XML-RPC: {error:#}; carpd looks again in a minute");
                tokio::time::sleep(LIFETIME).await;
            }
        }
    };
    let local = SocketAddr::from((start.sync.address, start.sync.config_port));
    let mut told = false;
    let listener = loop {
        match socket::listen(local, Some(&start.sync.device)) {
            Ok(listener) => break listener,
            Err(error) => {
                if !std::mem::replace(&mut told, true) {
                    tracing::warn!(%local, "cannot listen for XML-RPC: {error}; this node keeps trying");
                }
                tokio::time::sleep(LOOK).await;
            }
        }
    };
    tracing::info!(%local, "XML-RPC over HTTPS");
    let desk = Arc::new(Desk::new(&start.node, start.calls.clone()));
    let gate = Arc::new(Gate::new(&start.node));
    tokio::select! {
        () = accept(&listener, start.sync.peer, (&acceptor, &desk, &gate), connections, end) => {}
        () = desk.look_after() => {}
    }
}

/// With a certificate, once there is an account.
fn acceptor(start: &Start) -> anyhow::Result<Option<TlsAcceptor>> {
    // Made at the first start, so that its fingerprint is there to be pinned.
    let identity = Identity::of(&start.node)?;
    if Accounts::of(&start.node).list()?.is_empty() {
        return Ok(None);
    }
    Ok(Some(TlsAcceptor::from(Arc::new(tls::server(&identity, &start.node)?))))
}

async fn accept(
    listener: &TcpListener,
    peer: IpAddr,
    (acceptor, desk, gate): (&TlsAcceptor, &Arc<Desk>, &Arc<Gate>),
    connections: &mut JoinSet<()>,
    end: &watch::Receiver<bool>,
) {
    let (mut of_peer, mut of_others) = (Share::new(), Share::new());
    let mut second = tokio::time::interval(Duration::from_secs(1));
    loop {
        tokio::select! {
            _ = second.tick() => (of_peer.left, of_others.left) = (A_SECOND, A_SECOND),
            Some(_) = connections.join_next() => {}
            accepted = listener.accept() => match accepted {
                Ok((stream, from)) => {
                    let from = from.ip().to_canonical();
                    let share = if from == peer { &mut of_peer } else { &mut of_others };
                    let Some(place) = share.take() else {
                        tracing::debug!(%from, "too many connections for XML-RPC");
                        continue;
                    };
                    let (acceptor, desk, gate, end) = (acceptor.clone(), Arc::clone(desk), Arc::clone(gate), end.clone());
                    connections.spawn(async move {
                        let shown = shake(stream, from, &acceptor, (desk, gate), end);
                        if let Err(error) = shown.await {
                            tell(from, &error);
                        }
                        drop(place);
                    });
                }
                Err(error) => {
                    tracing::debug!(%error, "accepting for XML-RPC");
                    // Out of descriptors, say: not at once again.
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            },
        }
    }
}

/// A whole connection.
async fn shake(
    stream: TcpStream,
    from: IpAddr,
    acceptor: &TlsAcceptor,
    (desk, gate): (Arc<Desk>, Arc<Gate>),
    end: watch::Receiver<bool>,
) -> io::Result<()> {
    socket::tune(&stream)?;
    let stream = tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)).await??;
    // One that is shown is the pinned one.
    let is_peer = stream.get_ref().1.peer_certificates().is_some_and(|shown| !shown.is_empty());
    let visitor = Visitor::new(from, is_peer, desk, gate);
    tokio::time::timeout(LIFETIME, http::converse(stream, visitor, end)).await?
}

fn tell(from: IpAddr, error: &io::Error) {
    match tls::mismatch(error) {
        Some(mismatch) => tracing::warn!(%from, "a connection for XML-RPC was refused: {mismatch}"),
        None => tracing::debug!(%from, %error, "a connection for XML-RPC"),
    }
}
