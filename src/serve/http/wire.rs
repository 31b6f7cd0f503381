//! Bytes of a connection, in time: whoever sends or takes them too slowly is let go.

use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

use super::answer::{Answer, Content, Refusal, reason};
use super::head::Head;
use crate::limits::{FEWEST_BYTES_A_SECOND, HEAD_SECONDS, MOST_REQUEST_HEAD_BYTES, REST_SECONDS};

/// Bytes that are read or written at a time.
const PIECE_BYTES: usize = 16 << 10;
/// What a peer that was refused may still send, so that it comes to read why.
const LINGER_BYTES: u64 = 1 << 20;
const LINGER: Duration = Duration::from_secs(1);
/// How long one write of a stream may wait.
const STREAM_WRITE: Duration = Duration::from_secs(20);

/// Sent with everything: the page takes nothing from elsewhere, and nobody elsewhere takes anything from it.
const ALWAYS: &str = "Content-Security-Policy: default-src 'self'; img-src 'self' blob:; base-uri 'none'; form-action 'self'; \
                      frame-ancestors 'none'\r\nX-Content-Type-Options: nosniff\r\nReferrer-Policy: no-referrer\r\nCross-Origin-Resource-Policy: \
                      same-origin\r\nX-Frame-Options: DENY\r\n";

/// A connection, and what was read of it and not used yet.
pub(crate) struct Wire {
    stream: TcpStream,
    held: Vec<u8>,
}

impl Wire {
    pub(super) fn new(stream: TcpStream) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        Ok(Wire { stream, held: Vec::new() })
    }

    /// The head of the next request; `None` where there is none.
    pub(super) fn head(&mut self) -> Result<Option<Head>, Refusal> {
        let mut deadline =
            Instant::now() + Duration::from_secs(if self.held.is_empty() { REST_SECONDS } else { HEAD_SECONDS });
        loop {
            if let Some((head, length)) = Head::parse(&self.held)? {
                self.held.drain(..length);
                return Ok(Some(head));
            }
            if self.held.len() > MOST_REQUEST_HEAD_BYTES {
                return Err(Refusal::new(431, "the head of the request is too long"));
            }
            let (was_empty, mut piece) = (self.held.is_empty(), [0; 2048]);
            match self.read_until(deadline, &mut piece) {
                Ok(0) => return Ok(None),
                Ok(read) => self.held.extend_from_slice(&piece[..read]),
                // Nothing was asked for, so there is nobody to tell.
                Err(_) if was_empty => return Ok(None),
                Err(error) if is_late(&error) => return Err(Refusal::new(408, "the request did not come in time")),
                Err(_) => return Ok(None),
            }
            if was_empty {
                deadline = Instant::now() + Duration::from_secs(HEAD_SECONDS);
            }
        }
    }

    fn read_until(&mut self, deadline: Instant, into: &mut [u8]) -> io::Result<usize> {
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(ErrorKind::TimedOut.into());
            }
            self.stream.set_read_timeout(Some(left))?;
            match self.stream.read(into) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                read => return read,
            }
        }
    }

    /// Sends an answer; whether another request may follow.
    pub(super) fn send(&mut self, answer: Answer, without_content: bool, keeps: bool) -> io::Result<bool> {
        let length = answer.length();
        let keeps = keeps && length.is_some();
        let mut head = format!("HTTP/1.1 {} {}\r\n{ALWAYS}", answer.status, reason(answer.status));
        let is_told = |name: &str| answer.headers.iter().any(|(told, _)| told.eq_ignore_ascii_case(name));
        if !is_told("Cache-Control") {
            head += "Cache-Control: no-store\r\n";
        }
        length.iter().for_each(|length| head += &format!("Content-Length: {length}\r\n"));
        head += if keeps { "Connection: keep-alive\r\n" } else { "Connection: close\r\n" };
        for (name, value) in &answer.headers {
            // What names of classes bring along ends no line.
            head += &format!("{name}: {}\r\n", value.replace(|c: char| c.is_control(), " "));
        }
        head += "\r\n";
        let seconds = 20 + length.unwrap_or(0) / FEWEST_BYTES_A_SECOND;
        let mut paced = Paced { stream: &self.stream, deadline: Some(Instant::now() + Duration::from_secs(seconds)) };
        paced.write_all(head.as_bytes())?;
        if without_content {
            return Ok(keeps);
        }
        match answer.content {
            Content::Bytes(bytes) => paced.write_all(&bytes)?,
            Content::File(file, length) => copy(file, length, &mut paced)?,
            Content::Stream(None, write) => {
                paced.deadline = None;
                write(&mut paced)?;
            }
            Content::Stream(Some(_), write) => write(&mut paced)?,
        }
        Ok(keeps)
    }

    /// Ends a connection so that the peer comes to read what it was told, also while it still sends.
    pub(super) fn linger(mut self) {
        let _ = self.stream.shutdown(Shutdown::Write);
        let (deadline, mut piece, mut read) = (Instant::now() + LINGER, [0; PIECE_BYTES], 0);
        while read < LINGER_BYTES {
            match self.read_until(deadline, &mut piece) {
                Ok(0) | Err(_) => break,
                Ok(more) => read += more as u64,
            }
        }
    }
}

fn copy(file: File, length: u64, to: &mut Paced) -> io::Result<()> {
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

fn is_late(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::TimedOut | ErrorKind::WouldBlock)
}

/// What is written has to be taken in time: all of it, or each piece of a stream.
struct Paced<'w> {
    stream: &'w TcpStream,
    deadline: Option<Instant>,
}

impl Write for Paced<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let left = self.deadline.map_or(STREAM_WRITE, |deadline| deadline.saturating_duration_since(Instant::now()));
        if left.is_zero() {
            return Err(ErrorKind::TimedOut.into());
        }
        self.stream.set_write_timeout(Some(left))?;
        self.stream.write(&bytes[..bytes.len().min(4 * PIECE_BYTES)])
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The body of a request, which has to come in time.
pub(crate) struct Body<'w> {
    wire: &'w mut Wire,
    length: u64,
    left: u64,
    waits: bool,
    deadline: Option<Instant>,
}

impl<'w> Body<'w> {
    pub(super) fn new(wire: &'w mut Wire, head: &Head) -> Self {
        Body { wire, length: head.length, left: head.length, waits: head.waits, deadline: None }
    }

    /// Bytes of all of it, as the peer has said.
    pub(crate) fn length(&self) -> u64 {
        self.length
    }

    /// Whether nothing of it is left to come.
    pub(super) fn is_over(&self) -> bool {
        self.left == 0
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
        let mut piece = [0; PIECE_BYTES];
        while self.left > 0 {
            let read = self.read(&mut piece)?;
            to.write_all(&piece[..read])
                .map_err(|e| Refusal::new(500, format_args!("what was sent cannot be kept: {e}")))?;
        }
        Ok(())
    }

    fn read(&mut self, piece: &mut [u8]) -> Result<usize, Refusal> {
        if self.waits {
            self.waits = false;
            let _ = (&self.wire.stream).write_all(b"HTTP/1.1 100 Continue\r\n\r\n");
        }
        let time = Duration::from_secs(10 + self.length / FEWEST_BYTES_A_SECOND);
        let deadline = *self.deadline.get_or_insert_with(|| Instant::now() + time);
        let most = piece.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        let held = most.min(self.wire.held.len());
        let read = if held > 0 {
            piece[..held].copy_from_slice(&self.wire.held[..held]);
            self.wire.held.drain(..held);
            held
        } else {
            match self.wire.read_until(deadline, &mut piece[..most]) {
                Ok(0) => return Err(Refusal::new(400, "the body ends before its length")),
                Err(error) if is_late(&error) => return Err(Refusal::new(408, "the body did not come in time")),
                Err(error) => return Err(Refusal::new(400, format_args!("the body did not come: {error}"))),
                Ok(read) => read,
            }
        };
        self.left -= read as u64;
        Ok(read)
    }
}
