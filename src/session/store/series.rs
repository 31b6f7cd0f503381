//! Numbered files of one kind in a store: each is whole and durable before it has its name.

use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use super::medium::Medium;
use crate::bundle::{Container, Kind, TEMPORARY_PREFIX};
use crate::error::{Error, ErrorKind, Result};

const SUFFIX: &str = ".safetensors";
/// Numbers that files of a store can have: one a second for thirty years.
pub(super) const MOST_NUMBERS: u64 = 1_000_000_000;
/// Bytes that go to the medium at a time.
const PIECE_BYTES: usize = 1 << 16;

/// A file that was read, and its number.
type Numbered = (u64, Container<'static>);
/// The number of a file that could not be read, and why.
pub(super) type Fault = (u64, Error);

/// One kind of a store's files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Series {
    /// What readers use: the newest whole one.
    Generation,
    /// A lesson that was no better than what was there; its number is none of a generation's.
    Aside,
    /// A lesson under way, by the step after which it goes on.
    Checkpoint,
    /// A replay buffer; a generation names the one that it has.
    Replay,
}

impl Series {
    pub(super) const fn prefix(self) -> &'static str {
        match self {
            Series::Generation => "generation-",
            Series::Aside => "aside-",
            Series::Checkpoint => "checkpoint-",
            Series::Replay => "replay-",
        }
    }

    const fn kind(self) -> Kind {
        match self {
            Series::Generation | Series::Aside => Kind::Store,
            Series::Checkpoint => Kind::Checkpoint,
            Series::Replay => Kind::Replay,
        }
    }

    /// What a file is from the moment on in which it has its name.
    const fn role(self) -> &'static str {
        match self {
            Series::Generation => "is current",
            Series::Aside => "is kept aside",
            Series::Checkpoint => "is where the lesson goes on",
            Series::Replay => "is kept",
        }
    }

    /// Where a file lies.
    pub(crate) fn file(self, store: &Path, number: u64) -> PathBuf {
        store.join(format!("{}{number:06}{SUFFIX}", self.prefix()))
    }

    /// The numbers that are there, the newest first.
    ///
    /// # Errors
    /// Kind `Io` where the folder cannot be read, `Store` where it is none.
    pub(super) fn numbers(self, medium: &dyn Medium, store: &Path) -> Result<Vec<u64>> {
        let names = medium.list(store).map_err(|e| match e.kind() {
            io::ErrorKind::NotADirectory => Error::new(
                ErrorKind::Store,
                store.display(),
                "is a file, and a store is a folder that `srlora train` wrote",
            ),
            _ => Error::io(store, e),
        })?;
        let number = |name: &String| {
            let digits = name.strip_prefix(self.prefix())?.strip_suffix(SUFFIX)?;
            // Only the name that this very number is given, and none that counting could not have reached.
            let own = |number: &u64| *number < MOST_NUMBERS && self.file(store, *number) == store.join(name);
            digits.parse().ok().filter(own)
        };
        let mut numbers: Vec<u64> = names.iter().filter_map(number).collect();
        numbers.sort_unstable_by(|a, b| b.cmp(a));
        Ok(numbers)
    }

    /// Writes a file: under another name, synced, then under its own, then its folder is synced. When this returns, it survives.
    ///
    /// # Errors
    /// `Io`: all is as it was before. `Unsynced`: the file is there and counts, but its folder cannot be synced.
    pub(super) fn write(self, medium: &dyn Medium, store: &Path, number: u64, container: &Container) -> Result<u64> {
        let file = self.file(store, number);
        let temporary = store.join(format!("{TEMPORARY_PREFIX}{}", self.prefix().trim_end_matches('-')));
        let sink = medium.create(&temporary).map_err(|e| not_written(&temporary, e))?;
        let write = || {
            let mut sink = BufWriter::with_capacity(PIECE_BYTES, sink);
            let bytes = container.write_to(&mut sink)?;
            sink.flush()?;
            sink.get_mut().sync()?;
            drop(sink);
            medium.rename(&temporary, &file)?;
            Ok(bytes)
        };
        let bytes = write().map_err(|e| {
            // What is left of it is in the way of the next attempt on a full medium.
            let _ = medium.remove(&temporary);
            not_written(&file, e)
        })?;
        // Taking the name back would promise no more: that, too, would have to be synced.
        medium.sync_folder(store).map_err(|e| {
            let advice =
                "the next command that changes the store, for instance train option `resume`, makes it durable first";
            Error::unsynced(&file, self.role(), advice, e)
        })?;
        Ok(bytes)
    }

    /// Reads a file whose values are all finite.
    ///
    /// # Errors
    /// `Io`, `Store`.
    pub(super) fn read(self, medium: &dyn Medium, store: &Path, number: u64) -> Result<Container<'static>> {
        let file = self.file(store, number);
        let (len, mut bytes) = medium.read(&file).map_err(|e| Error::io(&file, e))?;
        let container = Container::read(&mut bytes, len, &file, self.kind())?;
        match container.not_finite() {
            Some(tensor) => Err(container.fault(format_args!("tensor `{tensor}` holds values that are not finite"))),
            None => Ok(container),
        }
    }

    /// The newest whole file that `wanted` takes, and what is wrong with newer ones.
    ///
    /// # Errors
    /// Kind `Io` where the folder cannot be read.
    pub(super) fn newest(
        self,
        medium: &dyn Medium,
        store: &Path,
        wanted: impl Fn(&Container) -> bool,
    ) -> Result<(Option<Numbered>, Vec<Fault>)> {
        let mut faults = Vec::new();
        for number in self.numbers(medium, store)? {
            match self.read(medium, store, number) {
                Ok(container) if wanted(&container) => return Ok((Some((number, container)), faults)),
                Ok(_) => {}
                Err(fault) => faults.push((number, fault)),
            }
        }
        Ok((None, faults))
    }

    /// Removes the files that `unwanted` names. One that stays, for whatever reason, is removed another time.
    pub(super) fn sweep(self, medium: &dyn Medium, store: &Path, unwanted: impl Fn(u64) -> bool) {
        for number in self.numbers(medium, store).unwrap_or_default().into_iter().rev().filter(|n| unwanted(*n)) {
            let _ = medium.remove(&self.file(store, number));
        }
    }
}

/// A write that failed, with what to do.
pub(crate) fn not_written(file: &Path, error: io::Error) -> Error {
    let advice = match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "make room there",
        io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied => "make it writable",
        io::ErrorKind::IsADirectory => "remove the folder of that name",
        _ => "see to the medium",
    };
    let message = format!("cannot be written ({error}); what was kept before is as it was: {advice}, and try again");
    Error::new(ErrorKind::Io, file.display(), message).because(error)
}
