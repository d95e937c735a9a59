//! Calls to the peer: one connection a call, from the sync address, over the sync interface.

use super::{Fingerprint, Identity, tls};
use crate::api::remote::Fault;
use crate::api::xmlrpc::{self, MOST_BYTES};
use crate::config::Sync;
use crate::io::peer::socket;
use anyhow::Result;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use dxr::Value;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderValue};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use zeroize::Zeroizing;

/// How long a call may take: the peer reads files, and asks nft.
const PATIENCE: Duration = Duration::from_secs(15);
/// How long the handshake may take: less than a tenth of a second on a node that runs. One that is frozen has its kernel
/// accept connections, and says nothing.
const HANDSHAKE: Duration = Duration::from_secs(2);
/// A cut without a word, in the middle of a call, is noticed after this time: the peer's kernel answers the probes of this
/// one's (TCP keep-alive) however busy the peer is.
const SILENCE: Duration = Duration::from_secs(3);

/// Who calls. Blind in `Debug`.
#[derive(Clone)]
pub struct Credentials {
    /// Name of the account on the peer.
    pub user: String,
    /// Its password.
    pub password: Zeroizing<String>,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Credentials({})", self.user)
    }
}

/// Why a call was not answered.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// It was answered: by a fault.
    #[error(transparent)]
    Fault(#[from] Fault),
    /// The peer is not the pinned one.
    #[error("{0}")]
    Mismatch(tls::Mismatch),
    /// The peer is the pinned one, but does not trust this node.
    #[error(
        "the peer does not trust this node's certificate: say `carpctl peer pin {0}` there, or pair the nodes (carpctl pair)"
    )]
    Untrusted(Fingerprint),
    /// The peer does not know the account, or its password is another one.
    #[error("the peer does not know this account by this password: see `carpctl account list` there")]
    Unknown,
    /// HTTP says something else than 200.
    #[error("the peer answers with HTTP {0}")]
    Http(StatusCode),
    /// The peer is not to be reached: nothing was asked.
    #[error("the peer cannot be reached: {0}")]
    Unreached(#[source] io::Error),
    /// The connection broke.
    #[error("the peer cannot be reached: {0}")]
    Io(#[from] io::Error),
    /// HTTP broke.
    #[error("the peer cannot be reached: {0}")]
    Broken(#[from] hyper::Error),
    /// It took too long.
    #[error("the peer does not answer in time")]
    Slow,
}

/// Calls the peer of one configuration.
#[derive(Clone, Debug)]
pub struct Client {
    local: SocketAddr,
    peer: SocketAddr,
    device: String,
    own: Fingerprint,
    tls: Arc<rustls::ClientConfig>,
}

impl Client {
    /// From this node to the peer that its configuration names.
    ///
    /// # Errors
    /// As [`Identity::of`].
    pub fn open(instance: &str, sync: &Sync) -> Result<Self> {
        let identity = Identity::of(instance)?;
        Ok(Self {
            local: (sync.address, 0).into(),
            peer: (sync.peer, sync.config_port).into(),
            device: sync.device.clone(),
            own: identity.fingerprint(),
            tls: Arc::new(tls::client(&identity, instance)?),
        })
    }

    /// Calls a method, and waits for its answer. Call it inside a tokio runtime.
    ///
    /// # Errors
    /// See [`Failure`].
    pub async fn call(&self, who: &Credentials, method: &str, params: Vec<Value>) -> Result<Value, Failure> {
        let body = xmlrpc::write_call(method, params)?;
        match tokio::time::timeout(PATIENCE, self.exchange(who, body)).await {
            Ok(Ok(answer)) => Ok(xmlrpc::read_answer(&answer)?),
            // By TLS 1.3 a client hears of that only behind the handshake.
            Ok(Err(failure)) if tls::is_refusal(&failure) => Err(Failure::Untrusted(self.own)),
            Ok(Err(failure)) => Err(failure),
            Err(_) => Err(Failure::Slow),
        }
    }

    async fn connect(&self) -> Result<TlsStream<TcpStream>, Failure> {
        let stream =
            socket::call(self.local, self.peer, Some(&self.device)).await.map_err(Failure::Unreached)?;
        socket::tune_within(&stream, SILENCE).map_err(Failure::Unreached)?;
        let name = ServerName::IpAddress(self.peer.ip().into());
        let shaken = TlsConnector::from(Arc::clone(&self.tls)).connect(name, stream);
        let shaken = tokio::time::timeout(HANDSHAKE, shaken).await;
        shaken.unwrap_or_else(|elapsed| Err(elapsed.into())).map_err(|error| match tls::mismatch(&error) {
            Some(mismatch) => Failure::Mismatch(mismatch),
            None => Failure::Unreached(error),
        })
    }

    async fn exchange(&self, who: &Credentials, body: String) -> Result<Bytes, Failure> {
        let stream = self.connect().await?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        let request = Request::post("/RPC2")
            .header(HOST, self.peer.to_string())
            .header(CONTENT_TYPE, "text/xml")
            .header(AUTHORIZATION, basic(who))
            .body(Full::new(Bytes::from(body)))
            .map_err(io::Error::other)?;
        let answered = async {
            let response = sender.send_request(request).await?;
            match response.status() {
                StatusCode::OK => {}
                StatusCode::UNAUTHORIZED => return Err(Failure::Unknown),
                other => return Err(Failure::Http(other)),
            }
            let body = Limited::new(response.into_body(), MOST_BYTES).collect().await;
            Ok(body.map_err(io::Error::other)?.to_bytes())
        };
        tokio::pin!(answered);
        tokio::select! {
            done = &mut answered => done,
            // Ends before the answer only when it breaks; then the answer says so.
            ended = connection => {
                ended?;
                answered.await
            }
        }
    }
}

/// The value of the header, marked so that nothing shows it.
fn basic(who: &Credentials) -> HeaderValue {
    let plain = Zeroizing::new(format!("{}:{}", who.user, *who.password));
    let value = Zeroizing::new(format!("Basic {}", STANDARD.encode(plain.as_bytes())));
    let mut header = HeaderValue::from_str(&value).unwrap_or(HeaderValue::from_static("Basic"));
    header.set_sensitive(true);
    header
}
