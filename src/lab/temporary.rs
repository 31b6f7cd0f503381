//! Folders for temporary files that do not outlive their process for long: they leave when they are dropped, when a signal ends the
//! process, and else when the next one is made.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tempfile::TempDir;

use crate::error::{Error, Result};

const PREFIX: &str = "srlora-tmp-";
/// Attempts to remove a folder in which something is still at work.
const MOST_REMOVALS: usize = 10;

/// Those of this process.
static LIVE: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

/// A folder among the system's temporary files. Its process holds it locked, so that others can tell whether it is still used.
#[derive(Debug)]
pub struct TemporaryFolder {
    folder: TempDir,
    _lock: Option<File>,
}

impl TemporaryFolder {
    /// Makes one, and removes those that ended processes have left.
    ///
    /// # Errors
    /// Kind `Io`.
    pub fn new() -> Result<Self> {
        let place = std::env::temp_dir();
        sweep(&place);
        loop {
            let folder = TempDir::with_prefix_in(PREFIX, &place).map_err(|e| Error::io(&place, e))?;
            let lock = match lock(folder.path()) {
                Ok(Some(lock)) => Some(lock),
                // Another process's sweep came between.
                Ok(None) => continue,
                // Where nothing can be locked, nothing is swept either.
                Err(_) => None,
            };
            live().push(folder.path().to_path_buf());
            return Ok(TemporaryFolder { folder, _lock: lock });
        }
    }

    /// Where it lies.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Ends the process with `code`, and removes all its folders before, whatever is being done in them. What fails for that waits where it
    /// would drop its folder, and cannot end the process with another code.
    pub fn end_process(code: i32) -> ! {
        let live = live();
        for folder in live.iter() {
            // A file may be made in it meanwhile.
            let mut attempts = 0..MOST_REMOVALS;
            while folder.exists() && attempts.next().is_some() {
                let _ = fs::remove_dir_all(folder);
            }
        }
        std::process::exit(code)
    }
}

impl Drop for TemporaryFolder {
    fn drop(&mut self) {
        live().retain(|folder| folder != self.folder.path());
    }
}

fn live() -> MutexGuard<'static, Vec<PathBuf>> {
    LIVE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Locks a folder for as long as what is returned is open; `None` where a process holds it, or has just removed it.
fn lock(folder: &Path) -> io::Result<Option<File>> {
    let file = match File::open(folder) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file?,
    };
    match file.try_lock() {
        Ok(()) => Ok(folder.exists().then_some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(e)) => Err(e),
    }
}

/// Removes folders that no living process holds. What cannot be removed stays.
fn sweep(place: &Path) {
    for entry in fs::read_dir(place).into_iter().flatten().flatten() {
        let is_ours = entry.file_name().as_encoded_bytes().starts_with(PREFIX.as_bytes());
        // A link is not followed.
        if is_ours
            && entry.file_type().is_ok_and(|file_type| file_type.is_dir())
            && let Ok(Some(_lock)) = lock(&entry.path())
        {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}
