//! Bytes in time: whoever takes an answer too slowly is let go.

use std::io::{self, ErrorKind};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

use crate::limits::FEWEST_BYTES_A_SECOND;

/// How long a peer may take nothing, once.
const PATIENCE: Duration = Duration::from_secs(20);

/// How long a peer may still take nothing: every byte that it takes gives it time, up to [`PATIENCE`].
#[derive(Debug, Clone, Copy)]
struct Patience(Duration);

impl Patience {
    fn waited(&mut self, time: Duration) {
        self.0 = self.0.saturating_sub(time);
    }

    fn took(&mut self, bytes: usize) {
        let earned = Duration::from_secs_f64(bytes as f64 / FEWEST_BYTES_A_SECOND as f64);
        self.0 = PATIENCE.min(self.0.saturating_add(earned));
    }
}

/// A connection whose peer takes at least [`FEWEST_BYTES_A_SECOND`] while there is something to take; what it waits for by itself costs it
/// nothing.
pub(super) struct Paced<S> {
    stream: S,
    patience: Patience,
    /// Since when it does not take what there is, and until when that is borne.
    waiting: Option<(Instant, Pin<Box<Sleep>>)>,
}

impl<S> Paced<S> {
    pub(super) fn new(stream: S) -> Self {
        Paced { stream, patience: Patience(PATIENCE), waiting: None }
    }

    /// Counts what a write has come to.
    fn count(&mut self, context: &mut Context<'_>, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        match written {
            Poll::Ready(Ok(bytes)) => {
                if let Some((since, _)) = self.waiting.take() {
                    self.patience.waited(since.elapsed());
                }
                self.patience.took(bytes);
                Poll::Ready(Ok(bytes))
            }
            Poll::Pending => {
                let (now, Patience(left)) = (Instant::now(), self.patience);
                let (_, end) = self.waiting.get_or_insert_with(|| (now, Box::pin(sleep_until(now + left))));
                end.as_mut().poll(context).map(|()| Err(ErrorKind::TimedOut.into()))
            }
            failed => failed,
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Paced<S> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, into)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Paced<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.count(context, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, pieces);
        self.count(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        // What TLS holds back is flushed; it has to be taken in time, too.
        let flushed = Pin::new(&mut self.stream).poll_flush(context).map_ok(|()| 0);
        self.count(context, flushed).map_ok(|_| ())
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let shut = Pin::new(&mut self.stream).poll_shutdown(context).map_ok(|()| 0);
        self.count(context, shut).map_ok(|_| ())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Seconds after which a peer that takes so many bytes each second is let go; `None` where it is not within an hour.
    fn let_go(bytes: usize) -> Option<u64> {
        let mut patience = Patience(PATIENCE);
        (1..=3600).find(|_| {
            patience.waited(Duration::from_secs(1));
            let is_over = patience.0.is_zero();
            patience.took(bytes);
            is_over
        })
    }

    #[test]
    fn who_takes_a_byte_a_second_is_let_go_and_who_takes_enough_is_not() {
        assert_eq!((let_go(0), let_go(1), let_go(8 << 10)), (Some(20), Some(21), None));
        assert_eq!(let_go(4 << 10), Some(39), "it uses twice the time that it earns");
    }
}
