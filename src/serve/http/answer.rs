//! What is answered: a status, headers, and content that is whole, a file, or a stream.

use std::borrow::Cow;
use std::fmt::Display;
use std::fs::File;
use std::io::{self, Write};

use serde::Serialize;

use crate::error::{Error, ErrorKind, with_options};

/// Writes a stream for as long as somebody reads it.
type Stream = Box<dyn FnOnce(&mut dyn Write) -> io::Result<()> + Send>;

/// What an answer carries.
pub(crate) enum Content {
    Bytes(Cow<'static, [u8]>),
    /// The first so many bytes of a file.
    File(File, u64),
    /// So many bytes that are written piece by piece; `None`: until the connection ends.
    Stream(Option<u64>, Stream),
}

impl Content {
    /// Its bytes, where their number is known.
    pub(crate) fn length(&self) -> Option<u64> {
        match self {
            Content::Bytes(bytes) => Some(bytes.len() as u64),
            Content::File(_, length) => Some(*length),
            Content::Stream(length, _) => *length,
        }
    }
}

/// An answer.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) content: Content,
}

impl Answer {
    pub(crate) fn new(status: u16, kind: &str, content: Content) -> Self {
        Answer { status, headers: vec![("Content-Type", kind.to_owned())], content }
    }

    /// Text or bytes that the program holds.
    pub(crate) fn held(kind: &str, bytes: &'static [u8]) -> Self {
        Answer::new(200, kind, Content::Bytes(Cow::Borrowed(bytes)))
    }

    pub(crate) fn json(status: u16, value: &impl Serialize) -> Self {
        // Values of this room have no maps with keys that are no text, so this does not fail.
        let text = serde_json::to_vec(value).unwrap_or_else(|_| b"null".to_vec());
        Answer::new(status, "application/json", Content::Bytes(Cow::Owned(text)))
    }

    pub(crate) fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }
}

/// Why a request is not done: a status, and a sentence for whoever asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) status: u16,
    pub(crate) message: String,
}

impl Refusal {
    pub(crate) fn new(status: u16, message: impl Display) -> Self {
        Refusal { status, message: message.to_string() }
    }

    pub(crate) fn answer(&self) -> Answer {
        Answer::json(self.status, &serde_json::json!({ "error": self.message }))
    }
}

impl From<Error> for Refusal {
    /// As the command line tells it; a page has the same settings as the command that serves it.
    fn from(error: Error) -> Self {
        let status = match error.kind() {
            ErrorKind::Usage => 400,
            ErrorKind::Image => 422,
            ErrorKind::Busy | ErrorKind::Exists | ErrorKind::Mismatch | ErrorKind::Data | ErrorKind::Stopped => 409,
            ErrorKind::Memory => 507,
            _ => 500,
        };
        Refusal::new(status, with_options(&error.to_string(), |name| format!("--{}", name.replace('_', "-"))))
    }
}
