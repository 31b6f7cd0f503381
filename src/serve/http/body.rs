//! The body of a request, which has to come in time.

use std::future::poll_fn;
use std::io::Write;
use std::pin::Pin;
use std::time::Duration;

use hyper::body::{Body as _, Bytes, Incoming};
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

use super::answer::Refusal;
use crate::limits::FEWEST_BYTES_A_SECOND;

/// How far what comes may be behind [`FEWEST_BYTES_A_SECOND`].
const GRACE: Duration = Duration::from_secs(10);
/// Pieces that have come and wait to be read.
const PIECES: usize = 2;
/// What a peer that is refused may still send, so that it comes to read why.
const LINGER_BYTES: u64 = 1 << 20;
const LINGER: Duration = Duration::from_secs(1);

type Piece = Result<Bytes, Refusal>;

/// The body of a request. It is read on a thread that may block, while the runtime waits for what comes.
pub(crate) struct Body {
    source: Source,
    runtime: Handle,
    length: u64,
    left: u64,
}

enum Source {
    /// Nobody has wanted it yet: a peer that asks first (`Expect: 100-continue`) has not been told to send it.
    Unread(Option<Incoming>),
    Coming(mpsc::Receiver<Piece>),
}

impl Body {
    /// Of `length` bytes, as the peer has said.
    pub(super) fn new(incoming: Incoming, length: u64, runtime: Handle) -> Self {
        Body { source: Source::Unread(Some(incoming)), runtime, length, left: length }
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
        while self.left > 0 {
            let piece = self.piece(GRACE)?;
            to.write_all(&piece).map_err(|e| Refusal::new(500, format_args!("what was sent cannot be kept: {e}")))?;
        }
        Ok(())
    }

    /// Reads for a moment where a request was refused before its body was looked at: a peer that still writes would not come to read why.
    pub(super) fn linger(&mut self) {
        if matches!(self.source, Source::Unread(_)) {
            let enough = self.left.saturating_sub(LINGER_BYTES);
            while self.left > enough && self.piece(LINGER).is_ok() {}
        }
    }

    /// What comes next. Each byte has `grace`, from when the first piece is wanted, and as long as those before it may take.
    fn piece(&mut self, grace: Duration) -> Piece {
        if let Source::Unread(incoming) = &mut self.source {
            let (to, pieces) = mpsc::channel(PIECES);
            if let Some(incoming) = incoming.take() {
                self.runtime.spawn(pass_on(incoming, Instant::now() + grace, to));
            }
            self.source = Source::Coming(pieces);
        }
        let next = match &mut self.source {
            Source::Coming(pieces) => pieces.blocking_recv(),
            Source::Unread(_) => None,
        };
        let piece = next.unwrap_or_else(|| Err(Refusal::new(400, "the body ends before its length")))?;
        self.left = self.left.saturating_sub(piece.len() as u64);
        Ok(piece)
    }
}

/// Passes on what comes until `deadline`, which moves with every byte that has come. It waits on the runtime, so that a server that ends has no thread waiting for a clock.
async fn pass_on(mut incoming: Incoming, mut deadline: Instant, to: mpsc::Sender<Piece>) {
    loop {
        let frame = poll_fn(|context| Pin::new(&mut incoming).poll_frame(context));
        let piece = match timeout_at(deadline, frame).await {
            Err(_) => Err(Refusal::new(408, "the body did not come in time")),
            Ok(None) => return,
            Ok(Some(Err(error))) => Err(Refusal::new(400, format_args!("the body did not come: {error}"))),
            Ok(Some(Ok(frame))) => match frame.into_data() {
                Ok(bytes) => {
                    deadline += Duration::from_secs_f64(bytes.len() as f64 / FEWEST_BYTES_A_SECOND as f64);
                    Ok(bytes)
                }
                Err(_) => return,
            },
        };
        let is_last = piece.is_err();
        if to.send(piece).await.is_err() || is_last {
            return;
        }
    }
}
