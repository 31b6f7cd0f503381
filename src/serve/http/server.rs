//! Takes connections, until it is stopped. Requests are answered on threads that may block, one for each request under way.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::header::{HeaderName, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::{Notify, oneshot};
use tokio::task::spawn_blocking;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;

use super::Request;
use super::answer::{Answer, Refusal};
use super::body::Body;
use super::content::{Sent, Writer, sent};
use super::crowd::{Crowd, Place};
use super::head::Head;
use super::pace::Paced;
use crate::error::{Error, ErrorKind, Result};
use crate::limits::{HEAD_SECONDS, MOST_CONNECTIONS, MOST_REQUEST_HEAD_BYTES, MOST_REQUEST_HEADERS};

/// Bytes of a thread's stack: photos are decoded, and lessons planned, on it. What is not used takes no memory.
const STACK_BYTES: usize = 2 << 20;
/// A thread without work is kept so long, for the next request.
const KEPT: Duration = Duration::from_secs(5);
/// After an error of the system: it may be out of files.
const PAUSE: Duration = Duration::from_millis(100);
/// What is under way when the server ends has so long.
const LAST: Duration = Duration::from_secs(1);
const HEAD_TIME: Duration = Duration::from_secs(HEAD_SECONDS);

/// Sent with everything: the page takes nothing from elsewhere, and nobody elsewhere takes anything from it.
const ALWAYS: [(&str, &str); 5] = [
    (
        "content-security-policy",
        "default-src 'self'; img-src 'self' blob:; base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
    ),
    ("x-content-type-options", "nosniff"),
    ("referrer-policy", "no-referrer"),
    ("cross-origin-resource-policy", "same-origin"),
    ("x-frame-options", "DENY"),
];

/// Answers a request.
pub(crate) type Handler = dyn Fn(Request<'_>) -> std::result::Result<Answer, Refusal> + Send + Sync;

/// A server that listens.
pub(crate) struct Server {
    runtime: Runtime,
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    stopper: Stopper,
}

/// Ends a server from another thread.
#[derive(Clone, Default)]
pub(crate) struct Stopper(Arc<Notify>);

impl Stopper {
    pub(crate) fn stop(&self) {
        self.0.notify_one();
    }
}

impl Server {
    /// Listens at `address`; a port of 0 becomes one that is free. With an identity, TLS alone is spoken.
    ///
    /// # Errors
    /// Kind `Io`.
    pub(crate) fn listen(address: SocketAddr, identity: Option<Arc<ServerConfig>>) -> Result<Self> {
        let runtime = Builder::new_current_thread()
            .enable_io()
            .enable_time()
            .thread_name("request")
            .thread_stack_size(STACK_BYTES)
            .thread_keep_alive(KEPT)
            // One whose page has gone is found out a little later.
            .max_blocking_threads(2 * MOST_CONNECTIONS)
            .build()
            .map_err(|e| Error::io(Path::new("a thread"), e))?;
        let listener = runtime.block_on(TcpListener::bind(address)).map_err(|e| fault(address, e))?;
        Ok(Server { runtime, listener, tls: identity.map(TlsAcceptor::from), stopper: Stopper::default() })
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> Result<SocketAddr> {
        self.listener.local_addr().map_err(|e| Error::io(Path::new("option `listen`"), e))
    }

    /// Whether what is sent is encrypted.
    pub(crate) fn is_encrypted(&self) -> bool {
        self.tls.is_some()
    }

    pub(crate) fn stopper(&self) -> Stopper {
        self.stopper.clone()
    }

    /// Answers until it is stopped.
    pub(crate) fn run(self, handler: Arc<Handler>) {
        let Server { runtime, listener, tls, stopper } = self;
        let crowd = Arc::<Crowd>::default();
        let accepting = accept(listener, crowd.clone(), tls, handler);
        runtime.block_on(async {
            let accepting = tokio::spawn(accepting);
            stopper.0.notified().await;
            accepting.abort();
            crowd.close();
        });
        runtime.shutdown_timeout(LAST);
    }
}

fn fault(address: SocketAddr, error: std::io::Error) -> Error {
    let advice = match error.kind() {
        std::io::ErrorKind::AddrInUse => "; is another `srlora serve` running? Choose another port",
        std::io::ErrorKind::PermissionDenied => "; ports below 1024 are for root: choose a higher one",
        std::io::ErrorKind::AddrNotAvailable => {
            "; this machine has no such address: 0.0.0.0 stands for all that it has"
        }
        _ => "",
    };
    Error::new(ErrorKind::Io, format_args!("option `listen` {address}"), format_args!("{error}{advice}")).because(error)
}

/// A connection that finds no room is let go without a word: whoever has taken all of it would read none.
async fn accept(listener: TcpListener, crowd: Arc<Crowd>, tls: Option<TlsAcceptor>, handler: Arc<Handler>) {
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => crowd.join(peer.ip(), |place| {
                tokio::spawn(attend(stream, place, tls.clone(), handler.clone())).abort_handle()
            }),
            Err(_) => sleep(PAUSE).await,
        }
    }
}

async fn attend(stream: TcpStream, place: Place, tls: Option<TlsAcceptor>, handler: Arc<Handler>) {
    let Ok(local) = stream.local_addr() else { return };
    let _ = stream.set_nodelay(true);
    let desk = Arc::new(Desk { place, local, handler });
    match tls {
        None => answer_all(stream, desk).await,
        Some(tls) => {
            // One that speaks no TLS, or not in time, is let go.
            if let Ok(Ok(stream)) = timeout(HEAD_TIME, tls.accept(stream)).await {
                answer_all(stream, desk).await;
            }
        }
    }
}

/// Answers the requests of one connection, one after the other.
async fn answer_all(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, desk: Arc<Desk>) {
    let service = service_fn(move |request| {
        let desk = desk.clone();
        async move { Ok::<_, Infallible>(desk.answer(request).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIME)
        .max_headers(MOST_REQUEST_HEADERS)
        .max_buf_size(MOST_REQUEST_HEAD_BYTES)
        .serve_connection(TokioIo::new(Paced::new(stream)), service);
    // Whoever breaks it off knows.
    let _ = connection.await;
}

/// Where the requests of one connection are answered.
struct Desk {
    place: Place,
    local: SocketAddr,
    handler: Arc<Handler>,
}

/// The connection rests when this is dropped.
struct Answering(Arc<Desk>);

impl Drop for Answering {
    fn drop(&mut self) {
        self.0.place.rests();
    }
}

impl Desk {
    async fn answer(self: Arc<Self>, request: hyper::Request<Incoming>) -> Response<Sent> {
        let is_allowed = self.place.asks();
        let answering = Answering(self.clone());
        if !is_allowed {
            let refusal = Refusal::new(429, "too many requests; wait a second");
            return response(refusal.answer().with("Retry-After", "1"), answering).0;
        }
        let (parts, incoming) = request.into_parts();
        let head = match Head::new(parts) {
            Ok(head) => head,
            Err(refusal) => return response(refusal.answer(), answering).0,
        };
        let (told, answered) = oneshot::channel();
        let head_waits = head.waits();
        let mut body = Body::new(incoming, head.length, Handle::current());
        spawn_blocking(move || {
            let answer = (self.handler)(Request { head, body: &mut body, local: self.local });
            let answer = answer.unwrap_or_else(|refusal| {
                if !head_waits {
                    body.linger();
                }
                refusal.answer()
            });
            let (response, writer) = response(answer, answering);
            // What was not read of it goes now, so that the connection can go on.
            drop(body);
            if let (Ok(()), Some(write)) = (told.send(response), writer) {
                write();
            }
        });
        let failed = || Refusal::new(500, "the server has failed at this; what it has said at its end says why");
        answered.await.unwrap_or_else(|_| response(failed().answer(), ()).0)
    }
}

/// What hyper sends, and what has to write it; `until_then` is kept until all is sent.
fn response(answer: Answer, until_then: impl Send + 'static) -> (Response<Sent>, Option<Writer>) {
    let Answer { status, headers, content } = answer;
    let (sent, writer) = sent(content, until_then);
    let mut response = Response::new(sent);
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let told = response.headers_mut();
    ALWAYS.into_iter().for_each(|(name, value)| drop(told.insert(name, HeaderValue::from_static(value))));
    told.insert("cache-control", HeaderValue::from_static("no-store"));
    for (name, value) in headers {
        // What names of classes bring along ends no line.
        let line = value.replace(|c: char| c.is_control(), " ");
        if let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), HeaderValue::from_bytes(line.as_bytes())) {
            told.insert(name, value);
        }
    }
    (response, writer)
}
