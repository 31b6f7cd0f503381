//! The content of an answer on its way: whole, or written piece by piece by a thread as fast as the peer takes it.

use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::pin::Pin;
use std::task::{Context, Poll};

use hyper::body::{Body, Bytes, Frame, SizeHint};
use tokio::sync::mpsc;

use super::answer::Content;

/// Bytes of a piece.
const PIECE_BYTES: usize = 16 << 10;
/// Pieces that wait for a peer.
const PIECES: usize = 4;

/// What hyper sends.
pub(super) struct Sent {
    pieces: Pieces,
    /// Bytes that are left; `None`: until it ends.
    left: Option<u64>,
    /// Dropped when all is sent, or nobody wants it.
    _until_then: Box<dyn Send>,
}

enum Pieces {
    Whole(Bytes),
    Coming(mpsc::Receiver<io::Result<Bytes>>),
}

/// Writes what is sent, on a thread that may block.
pub(super) type Writer = Box<dyn FnOnce() + Send>;

/// What hyper sends of a content, and what has to write it where it is not whole. `until_then` is kept until all is sent.
pub(super) fn sent(content: Content, until_then: impl Send + 'static) -> (Sent, Option<Writer>) {
    let left = content.length();
    let mut sent = Sent { pieces: Pieces::Whole(Bytes::new()), left, _until_then: Box::new(until_then) };
    let write = match content {
        Content::Bytes(bytes) => {
            sent.pieces = Pieces::Whole(match bytes {
                std::borrow::Cow::Borrowed(held) => Bytes::from_static(held),
                std::borrow::Cow::Owned(made) => Bytes::from(made),
            });
            return (sent, None);
        }
        Content::File(file, length) => Box::new(move |to: &mut dyn Write| copy(file, length, to)),
        Content::Stream(_, write) => write,
    };
    let (to, pieces) = mpsc::channel(PIECES);
    sent.pieces = Pieces::Coming(pieces);
    let writer = move || {
        let mut pipe = Pipe(to);
        if let Err(error) = write(&mut pipe) {
            // The connection is cut, so that nobody takes a part for the whole.
            let _ = pipe.0.blocking_send(Err(error));
        }
    };
    (sent, Some(Box::new(writer)))
}

fn copy(file: File, length: u64, to: &mut dyn Write) -> io::Result<()> {
    let (mut file, mut piece) = (file.take(length), [0; PIECE_BYTES]);
    loop {
        match file.read(&mut piece)? {
            0 => break,
            read => to.write_all(&piece[..read])?,
        }
    }
    // The head has promised so many.
    if file.limit() > 0 { Err(ErrorKind::UnexpectedEof.into()) } else { Ok(()) }
}

impl Body for Sent {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let piece = match &mut self.pieces {
            Pieces::Whole(bytes) if bytes.is_empty() => None,
            Pieces::Whole(bytes) => Some(Ok(std::mem::take(bytes))),
            Pieces::Coming(pieces) => match pieces.poll_recv(context) {
                Poll::Ready(piece) => piece,
                Poll::Pending => return Poll::Pending,
            },
        };
        if let (Some(Ok(piece)), Some(left)) = (&piece, &mut self.left) {
            *left = left.saturating_sub(piece.len() as u64);
        }
        Poll::Ready(piece.map(|piece| piece.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        self.left == Some(0)
    }

    fn size_hint(&self) -> SizeHint {
        self.left.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

struct Pipe(mpsc::Sender<io::Result<Bytes>>);

impl Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let piece = &bytes[..bytes.len().min(PIECE_BYTES)];
        let gone = |_| io::Error::from(ErrorKind::BrokenPipe);
        self.0.blocking_send(Ok(Bytes::copy_from_slice(piece))).map_err(gone)?;
        Ok(piece.len())
    }

    /// Whether anybody still reads.
    fn flush(&mut self) -> io::Result<()> {
        if self.0.is_closed() { Err(ErrorKind::BrokenPipe.into()) } else { Ok(()) }
    }
}
