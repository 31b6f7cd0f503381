//! HTTP/1.1, and TLS where the operator has certificates: hyper on a runtime of one thread, which only waits; what is asked for is done on
//! threads that may block.
//!
//! ```text
//! answer    what is answered
//! head      what is asked for
//! pace      bytes in time
//! body      what comes with a request, read as a file is
//! content   what goes with an answer, written as a file is
//! crowd     who is connected, and how much each address asks
//! tls       certificates
//! server    takes connections
//! ```
//!
//! Each uses only those above it. Nothing that a peer sends is believed: heads, bodies, connections and their number have limits, and
//! whoever is slow is let go.

mod answer;
mod body;
mod content;
mod crowd;
mod head;
mod pace;
mod server;
mod tls;

pub(crate) use answer::{Answer, Content, Refusal};
pub(crate) use body::Body;
pub(crate) use head::{Head, Method, head_of_text};
pub(crate) use server::{Handler, Server, Stopper};
pub(crate) use tls::identity;

use std::net::SocketAddr;

/// A request, whose body is read by whoever wants it.
pub(crate) struct Request<'r> {
    /// What was asked for.
    pub(crate) head: Head,
    /// What came with it.
    pub(crate) body: &'r mut Body,
    /// The address that was connected to.
    pub(crate) local: SocketAddr,
}
