//! As much of HTTP/1.1 as a page needs: requests with a known length, answers whole or as a stream, a thread for each connection.
//!
//! Nothing that a peer sends is believed: heads, bodies, connections and their number have limits, and whoever is slow is let go.

mod answer;
mod crowd;
mod head;
mod server;
mod wire;

pub(crate) use answer::{Answer, Content, Refusal};
pub(crate) use head::{Head, Method};
pub(crate) use server::{Handler, Server, Stopper};
pub(crate) use wire::Body;

use std::net::SocketAddr;

/// A request, whose body is read by whoever wants it.
pub(crate) struct Request<'r, 'w> {
    /// What was asked for.
    pub(crate) head: Head,
    /// What came with it.
    pub(crate) body: &'r mut Body<'w>,
    /// The address that was connected to.
    pub(crate) local: SocketAddr,
}
