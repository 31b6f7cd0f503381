//! The body of a request, which has to come in time.

use std::future::poll_fn;
use std::io::Write;
use std::pin::Pin;
use std::time::Duration;

use hyper::body::{Body as _, Bytes, Incoming};
use tokio::runtime::Handle;
use tokio::time::{Instant, timeout_at};

use super::answer::Refusal;
use crate::limits::FEWEST_BYTES_A_SECOND;

/// What a peer that is refused may still send, so that it comes to read why.
const LINGER_BYTES: u64 = 1 << 20;
const LINGER: Duration = Duration::from_secs(1);

/// The body of a request. It is read on a thread that may block, while the runtime's own waits for what comes.
pub(crate) struct Body {
    incoming: Incoming,
    runtime: Handle,
    length: u64,
    left: u64,
    deadline: Option<Instant>,
}

impl Body {
    /// Of `length` bytes, as the peer has said.
    pub(super) fn new(incoming: Incoming, length: u64, runtime: Handle) -> Self {
        Body { incoming, runtime, length, left: length, deadline: None }
    }

    /// Bytes of all of it, as the peer has said.
    pub(crate) fn length(&self) -> u64 {
        self.length
    }

    /// All of it.
    ///
    /// # Errors
    /// 413 where it has more than `most` bytes, of which none is read then; 400, 408.
    pub(crate) fn whole(&mut self, most: u64) -> Result<Vec<u8>, Refusal> {
        if self.length > most {
            return Err(Refusal::new(413, format_args!("a body of {} bytes; {most} is the most here", self.length)));
        }
        // What a peer has said is not what it has sent: memory grows with that.
        let mut bytes = Vec::new();
        self.copy_to(&mut bytes)?;
        Ok(bytes)
    }

    /// Writes all of it.
    ///
    /// # Errors
    /// 400 where the peer ends before, 408 where it is slow, 500 where it cannot be written.
    pub(crate) fn copy_to(&mut self, to: &mut impl Write) -> Result<(), Refusal> {
        let time = Duration::from_secs(10 + self.length / FEWEST_BYTES_A_SECOND);
        let deadline = *self.deadline.get_or_insert_with(|| Instant::now() + time);
        while self.left > 0 {
            let piece = self.piece(deadline)?;
            to.write_all(&piece).map_err(|e| Refusal::new(500, format_args!("what was sent cannot be kept: {e}")))?;
        }
        Ok(())
    }

    /// Reads on for a moment where a request was refused before its end: a peer that still writes would not come to read why.
    pub(super) fn linger(&mut self) {
        let (deadline, enough) = (Instant::now() + LINGER, self.left.saturating_sub(LINGER_BYTES));
        while self.left > enough && self.piece(deadline).is_ok() {}
    }

    fn piece(&mut self, deadline: Instant) -> Result<Bytes, Refusal> {
        let early = || Refusal::new(400, "the body ends before its length");
        let incoming = &mut self.incoming;
        let frame = poll_fn(|context| Pin::new(&mut *incoming).poll_frame(context));
        let frame = self
            .runtime
            .block_on(async { timeout_at(deadline, frame).await })
            .map_err(|_| Refusal::new(408, "the body did not come in time"))?
            .ok_or_else(early)?
            .map_err(|error| Refusal::new(400, format_args!("the body did not come: {error}")))?;
        let piece = frame.into_data().map_err(|_| early())?;
        self.left = self.left.saturating_sub(piece.len() as u64);
        Ok(piece)
    }
}
