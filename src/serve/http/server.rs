//! Takes connections, a thread for each, until it is stopped.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use super::Request;
use super::answer::{Answer, Refusal};
use super::crowd::Crowd;
use super::head::Method;
use super::wire::{Body, Wire};
use crate::error::{Error, Result};

/// Bytes of a connection's stack: photos are decoded, and lessons planned, on it. What is not used takes no memory.
const STACK_BYTES: usize = 2 << 20;
/// After an error of the system: it may be out of files.
const PAUSE: Duration = Duration::from_millis(100);

/// Answers a request.
pub(crate) type Handler = dyn Fn(Request<'_, '_>) -> std::result::Result<Answer, Refusal> + Send + Sync;

/// A server that listens.
pub(crate) struct Server {
    listener: TcpListener,
    crowd: Arc<Crowd>,
    stopped: Arc<AtomicBool>,
}

/// Ends a server from another thread.
#[derive(Clone)]
pub(crate) struct Stopper {
    address: SocketAddr,
    crowd: Arc<Crowd>,
    stopped: Arc<AtomicBool>,
}

impl Stopper {
    pub(crate) fn stop(&self) {
        self.stopped.store(true, Ordering::SeqCst);
        self.crowd.close();
        // It waits for a connection.
        let mut address = self.address;
        if address.ip().is_unspecified() {
            let local =
                if address.is_ipv4() { IpAddr::V4(Ipv4Addr::LOCALHOST) } else { IpAddr::V6(Ipv6Addr::LOCALHOST) };
            address.set_ip(local);
        }
        let _ = TcpStream::connect_timeout(&address, Duration::from_secs(1));
    }
}

impl Server {
    /// Listens at `address`; a port of 0 becomes one that is free.
    ///
    /// # Errors
    /// Kind `Io`.
    pub(crate) fn listen(address: SocketAddr) -> Result<Self> {
        let listener = TcpListener::bind(address).map_err(|e| fault(address, e))?;
        Ok(Server { listener, crowd: Arc::default(), stopped: Arc::default() })
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> Result<SocketAddr> {
        self.listener.local_addr().map_err(|e| Error::io(Path::new("option `listen`"), e))
    }

    pub(crate) fn stopper(&self) -> Result<Stopper> {
        Ok(Stopper { address: self.address()?, crowd: self.crowd.clone(), stopped: self.stopped.clone() })
    }

    /// Answers until it is stopped.
    pub(crate) fn run(&self, handler: &Arc<Handler>) {
        loop {
            let accepted = self.listener.accept();
            if self.stopped.load(Ordering::SeqCst) {
                return;
            }
            match accepted {
                Ok((stream, peer)) => self.take(stream, peer.ip(), handler),
                Err(_) => thread::sleep(PAUSE),
            }
        }
    }

    /// A connection that finds no room is let go without a word: whoever has taken all of it would read none.
    fn take(&self, stream: TcpStream, peer: IpAddr, handler: &Arc<Handler>) {
        let Some(number) = self.crowd.join(&stream, peer) else { return };
        let (crowd, handler) = (self.crowd.clone(), handler.clone());
        let answer = move || {
            attend(stream, (number, peer), &crowd, &*handler);
            crowd.leave(number);
        };
        if thread::Builder::new().name("connection".to_owned()).stack_size(STACK_BYTES).spawn(answer).is_err() {
            self.crowd.leave(number);
        }
    }
}

fn fault(address: SocketAddr, error: std::io::Error) -> Error {
    use crate::error::ErrorKind;
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

/// Answers the requests of one connection, one after the other.
fn attend(stream: TcpStream, (number, peer): (u64, IpAddr), crowd: &Crowd, handler: &Handler) {
    let Ok(local) = stream.local_addr() else { return };
    let Ok(mut wire) = Wire::new(stream) else { return };
    loop {
        let head = match wire.head() {
            Ok(Some(head)) => head,
            Ok(None) => return,
            Err(refusal) => {
                let _ = wire.send(refusal.answer(), false, false);
                return wire.linger();
            }
        };
        let is_allowed = crowd.asks(number, peer);
        let (keeps, is_head) = (head.keeps, head.method == Method::Head);
        let mut body = Body::new(&mut wire, &head);
        let answered = match is_allowed {
            true => handler(Request { head, body: &mut body, local }),
            false => Err(Refusal::new(429, "too many requests; wait a second")),
        };
        let is_over = body.is_over();
        let answer = answered.unwrap_or_else(|refusal| refusal.answer());
        match wire.send(answer, is_head, keeps && is_over) {
            Ok(true) => crowd.rests(number),
            Ok(false) if !is_over => return wire.linger(),
            _ => return,
        }
    }
}
