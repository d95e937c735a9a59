//! HTTP on one connection: what is no call of XML-RPC by a known account is turned away as early as it can be.

use super::desk::Desk;
use super::gate::{Gate, Known, Refused};
use crate::api::xmlrpc::{self, MOST_BYTES};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Body, Bytes, Incoming};
use hyper::header::{
    ALLOW, AUTHORIZATION, CONNECTION, CONTENT_TYPE, HeaderName, RETRY_AFTER, WWW_AUTHENTICATE,
};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{HeaderMap, Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{Mutex, watch};

/// Longest head of a request, bytes, and most fields in it. Policy beyond: 431, and the connection is closed.
const HEAD: usize = 16 * 1024;
const FIELDS: usize = 32;
/// How long a head may take to come, and a body.
const HEAD_TIME: Duration = Duration::from_secs(5);
const BODY_TIME: Duration = Duration::from_secs(20);
/// Requests of a connection. Policy: it is closed behind the last one.
const REQUESTS: u32 = 1000;
/// Bytes of a document that is read at once; a longer one is read beside the reactor, for a second at most.
const SMALL: usize = 16 * 1024;
const PATHS: [&str; 3] = ["/RPC2", "/", "/xmlrpc.php"];

/// The other end of a connection.
pub(super) struct Visitor {
    from: IpAddr,
    is_peer: bool,
    desk: Arc<Desk>,
    gate: Arc<Gate>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    requests: u32,
    known: Option<Known>,
}

impl Visitor {
    pub fn new(from: IpAddr, is_peer: bool, desk: Arc<Desk>, gate: Arc<Gate>) -> Self {
        Self { from, is_peer, desk, gate, state: Mutex::default() }
    }
}

/// Answers until the other end leaves, or the daemon stops.
pub(super) async fn converse(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    visitor: Visitor,
    mut end: watch::Receiver<bool>,
) -> io::Result<()> {
    let answer = |request| async { Ok::<_, Infallible>(visitor.answer(request).await) };
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIME)
        .max_buf_size(HEAD)
        .max_headers(FIELDS)
        .serve_connection(TokioIo::new(stream), service_fn(answer));
    tokio::pin!(connection);
    tokio::select! {
        done = &mut connection => return done.map_err(io::Error::other),
        _ = end.wait_for(|ends| *ends) => {}
    }
    connection.as_mut().graceful_shutdown();
    connection.await.map_err(io::Error::other)
}

impl Visitor {
    async fn answer(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let mut state = self.state.lock().await;
        state.requests = state.requests.saturating_add(1);
        let is_last = state.requests >= REQUESTS;
        let mut response = match self.try_answer(request, &mut state.known).await {
            Ok(document) => {
                let mut response = Response::new(Full::new(Bytes::from(document)));
                set(response.headers_mut(), CONTENT_TYPE, "text/xml");
                response
            }
            Err(refusal) => refusal.response(),
        };
        // What is refused is not read on.
        if is_last || response.status() != StatusCode::OK {
            set(response.headers_mut(), CONNECTION, "close");
        }
        response
    }

    async fn try_answer(
        &self,
        request: Request<Incoming>,
        known: &mut Option<Known>,
    ) -> Result<String, Refusal> {
        if !PATHS.contains(&request.uri().path()) {
            return Err(Refusal::plain(StatusCode::NOT_FOUND));
        }
        if request.method() != Method::POST {
            return Err(Refusal {
                header: Some((ALLOW, "POST".to_owned())),
                ..Refusal::plain(StatusCode::METHOD_NOT_ALLOWED)
            });
        }
        // Nobody unknown has anything read but the head.
        let header = request.headers().get(AUTHORIZATION).map(|value| value.as_bytes().to_vec());
        let caller = self.gate.admit((self.from, self.is_peer), header.as_deref(), known).await?;
        if !is_xml(request.headers()) {
            return Err(Refusal::plain(StatusCode::UNSUPPORTED_MEDIA_TYPE));
        }
        let too_long = Refusal::plain(StatusCode::PAYLOAD_TOO_LARGE);
        if request.body().size_hint().lower() > u64::try_from(MOST_BYTES).unwrap_or(0) {
            return Err(too_long);
        }
        let _turn = self.desk.turn(self.is_peer).await;
        let body = tokio::time::timeout(BODY_TIME, Limited::new(request.into_body(), MOST_BYTES).collect());
        let body =
            body.await.map_err(|_| Refusal::plain(StatusCode::REQUEST_TIMEOUT))?.map_err(|_| too_long)?;
        let body = body.to_bytes();
        let call = if body.len() <= SMALL {
            xmlrpc::read_call(&body)
        } else {
            let read = tokio::task::spawn_blocking(move || xmlrpc::read_call(&body)).await;
            read.map_err(|_| Refusal::plain(StatusCode::INTERNAL_SERVER_ERROR))?
        };
        let answer = match call {
            Ok(call) => self.desk.answer(&caller, &call).await,
            Err(fault) => Err(fault),
        };
        if let Err(fault) = &answer {
            tracing::debug!(%caller, code = fault.code, "XML-RPC: a fault");
        }
        Ok(xmlrpc::write_answer(answer))
    }
}

/// An answer of HTTP alone.
#[derive(Clone, Debug)]
struct Refusal {
    status: StatusCode,
    header: Option<(HeaderName, String)>,
}

impl Refusal {
    const fn plain(status: StatusCode) -> Self {
        Self { status, header: None }
    }

    fn response(self) -> Response<Full<Bytes>> {
        let mut response = Response::new(Full::new(Bytes::from(format!("{}\n", self.status))));
        *response.status_mut() = self.status;
        if let Some((name, value)) = self.header {
            set(response.headers_mut(), name, &value);
        }
        response
    }
}

impl From<Refused> for Refusal {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Unknown => Self {
                status: StatusCode::UNAUTHORIZED,
                header: Some((WWW_AUTHENTICATE, "Basic realm=\"carp\"".to_owned())),
            },
            Refused::Wait(left) => Self {
                status: StatusCode::TOO_MANY_REQUESTS,
                header: Some((RETRY_AFTER, left.as_millis().div_ceil(1000).to_string())),
            },
            Refused::Broken => Self::plain(StatusCode::INTERNAL_SERVER_ERROR),
        }
    }
}

fn is_xml(headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    ["text/xml", "application/xml"].iter().any(|xml| kind.eq_ignore_ascii_case(xml))
}

fn set(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    if let Ok(value) = value.parse() {
        headers.insert(name, value);
    }
}
