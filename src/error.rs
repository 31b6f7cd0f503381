//! The one error type of the host layers: what kind of failure, which file, node or flag, what to do next.

use std::error::Error as StdError;
use std::fmt;
use std::path::Path;

/// What sort of thing went wrong; callers branch on this, people read the message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A flag or argument has a value that cannot be meant.
    Usage,
    /// The operating system refused a read or a write.
    Io,
    /// What was written is whole and has its name, but the medium did not promise to keep that name: a power cut may take it.
    Unsynced,
    /// The output is already there.
    Exists,
    /// A model file that is damaged, or of a form that is not taken.
    Model,
    /// An operator without a gradient rule between the first site and the head.
    UnsupportedOp,
    /// A site pattern that selects nothing, or something that cannot be a site; a rank that does not fit.
    Sites,
    /// A pack-time check found that the prepared model does not compute what the file says.
    Check,
    /// A bundle file that is damaged or of another version.
    Bundle,
    /// A store that is damaged, empty or of another version.
    Store,
    /// A bundle and a store, or a bundle and data, that do not belong together.
    Mismatch,
    /// A data folder that cannot be trained or evaluated on.
    Data,
    /// One image that cannot be read.
    Image,
    /// A memory limit that the work cannot be done in.
    Memory,
    /// A device that the work cannot be done on.
    Device,
    /// A store that another writer is changing, in this process or another one.
    Busy,
    /// Asked to stop, it did; the work can go on later.
    Stopped,
    /// The loss stopped being a number.
    Diverged,
    /// A state that the library itself should have ruled out.
    Internal,
}

/// An error of the host layers. Displays as `subject: message`.
#[derive(Debug)]
pub struct Error {
    kind: ErrorKind,
    subject: String,
    message: String,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

/// Result with [`Error`].
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// `subject` names the file, node or flag; `message` says what is wrong with it and what to do.
    pub fn new(kind: ErrorKind, subject: impl fmt::Display, message: impl fmt::Display) -> Self {
        Error { kind, subject: subject.to_string(), message: message.to_string(), source: None }
    }

    /// A failed read or write of `path`.
    pub fn io(path: &Path, source: std::io::Error) -> Self {
        Error::new(ErrorKind::Io, path.display(), &source).because(source)
    }

    /// `path` is whole and has its name, and its folder cannot be synced. `what` says where that leads, `advice` what to do.
    pub(crate) fn unsynced(path: &Path, what: &str, advice: &str, source: std::io::Error) -> Self {
        let message = format!(
            "{what}, but a power cut may still take it, as its folder cannot be synced ({source}): see to the medium, and {advice}"
        );
        Error::new(ErrorKind::Unsynced, path.display(), message).because(source)
    }

    /// Adds the cause.
    #[must_use]
    pub fn because(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// What sort of failure this is.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The file, node or flag at fault.
    #[must_use]
    pub fn subject(&self) -> &str {
        &self.subject
    }

    /// What is wrong, without the subject.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }
}

/// `text` with every "option `name`" as `show` writes the name: the library does not know whether its caller has flags, keywords or
/// fields. "an option" becomes "a" or "an" as what is shown begins.
///
/// ```
/// let flag = |name: &str| format!("--{}", name.replace('_', "-"));
/// let said = srlora::with_options("give an option `ram_limit` of 40, not node `data`", flag);
/// assert_eq!(said, "give a --ram-limit of 40, not node `data`");
/// ```
#[must_use]
pub fn with_options(text: &str, mut show: impl FnMut(&str) -> String) -> String {
    let (mut told, mut rest) = (String::with_capacity(text.len()), text);
    while let Some((before, after)) = rest.split_once("option `") {
        let Some((name, after)) = after.split_once('`') else { break };
        let shown = show(name);
        let is_vowel = |c: char| "aeiou".contains(c);
        match before.strip_suffix("an ") {
            Some(before) if !shown.trim_start_matches('`').starts_with(is_vowel) => {
                told += before;
                told += "a ";
            }
            _ => told += before,
        }
        told += &shown;
        rest = after;
    }
    told + rest
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.subject.is_empty() {
            f.write_str(&self.message)
        } else {
            write!(f, "{}: {}", self.subject, self.message)
        }
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_deref().map(|e| e as &(dyn StdError + 'static))
    }
}
