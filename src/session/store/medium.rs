//! What a store asks of the place that keeps it, and the real one.
//!
//! A medium promises little: what was written is there after a power cut only once it was synced, a name only once its folder
//! was, and un-synced parts may come out in any order, or torn. [`Simulated`](super::Simulated) takes exactly these liberties.

use std::any::Any;
use std::fmt::Debug;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::path::Path;

use crate::bundle::check_output;
use crate::error::Result;

/// The file that a writer holds locked; the lock goes with its process.
pub(super) const LOCK: &str = ".srlora-lock";

/// A file system, as far as a store needs one.
///
/// # Errors
/// Those of the operating system, from every function.
#[expect(clippy::missing_errors_doc, reason = "said above")]
pub trait Medium: Debug + Send + Sync {
    /// A new, empty file, in place of one of that name.
    fn create(&self, file: &Path) -> io::Result<Box<dyn Sink>>;
    /// A file to go on writing at its end; a new one where there is none.
    fn append(&self, file: &Path) -> io::Result<Box<dyn Sink>>;
    /// The length of a file, and its bytes.
    fn read(&self, file: &Path) -> io::Result<(u64, Box<dyn Read>)>;
    /// Names in a folder, in any order.
    fn list(&self, folder: &Path) -> io::Result<Vec<String>>;
    /// Another name for a file, in place of one of that name.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file.
    fn remove(&self, file: &Path) -> io::Result<()>;
    /// A new folder, where nothing has that name.
    fn create_folder(&self, folder: &Path) -> io::Result<()>;
    /// Removes an empty folder.
    fn remove_folder(&self, folder: &Path) -> io::Result<()>;
    /// Makes the names in a folder durable.
    fn sync_folder(&self, folder: &Path) -> io::Result<()>;
    /// Finds out, before any work is done, whether a folder can be made.
    fn check_new(&self, _folder: &Path) -> Result<()> {
        Ok(())
    }
    /// Bytes that are free for a folder, which need not be there yet; `None` where nobody knows.
    fn free_bytes(&self, _folder: &Path) -> Option<u64> {
        None
    }
    /// Keeps other writers out of a folder until what is returned is dropped; `None` where there is one.
    fn lock(&self, folder: &Path) -> io::Result<Option<Lock>>;
}

/// Keeps other writers out while it lives.
pub type Lock = Box<dyn Any + Send + Sync>;

/// A file that is being written.
pub trait Sink: Write + Send {
    /// Makes what was written durable.
    ///
    /// # Errors
    /// Those of the operating system.
    fn sync(&mut self) -> io::Result<()>;
}

/// The operating system's file system.
#[derive(Debug, Clone, Copy, Default)]
pub struct Disk;

impl Sink for File {
    fn sync(&mut self) -> io::Result<()> {
        self.sync_all()
    }
}

/// The folder that `path` lies in.
pub(crate) fn beside(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Some file systems do not count: they have no blocks at all.
#[cfg(unix)]
fn free_bytes(folder: &Path) -> Option<u64> {
    let about = rustix::fs::statvfs(folder).ok().filter(|about| about.f_blocks > 0)?;
    about.f_bavail.checked_mul(about.f_frsize)
}

#[cfg(not(unix))]
fn free_bytes(_: &Path) -> Option<u64> {
    None
}

/// A link leads elsewhere, and a pipe may wait for ever.
pub(crate) fn refuse_irregular(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(about) if !about.is_file() => {
            let message = format!("{} is not a regular file: remove it", path.display());
            Err(io::Error::new(io::ErrorKind::InvalidInput, message))
        }
        _ => Ok(()),
    }
}

impl Medium for Disk {
    fn create(&self, file: &Path) -> io::Result<Box<dyn Sink>> {
        Ok(Box::new(File::create(file)?))
    }

    fn append(&self, file: &Path) -> io::Result<Box<dyn Sink>> {
        refuse_irregular(file)?;
        Ok(Box::new(OpenOptions::new().create(true).append(true).open(file)?))
    }

    fn read(&self, file: &Path) -> io::Result<(u64, Box<dyn Read>)> {
        let about = fs::metadata(file)?;
        // A pipe would never end, nor would a device.
        if !about.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "is not a regular file"));
        }
        Ok((about.len(), Box::new(File::open(file)?)))
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<String>> {
        // A name that is not text is none of a store's.
        fs::read_dir(folder)?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, file: &Path) -> io::Result<()> {
        fs::remove_file(file)
    }

    fn create_folder(&self, folder: &Path) -> io::Result<()> {
        fs::create_dir(folder)
    }

    fn remove_folder(&self, folder: &Path) -> io::Result<()> {
        fs::remove_dir(folder)
    }

    fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        // Only Unix can open one.
        if cfg!(unix) { File::open(folder)?.sync_all() } else { Ok(()) }
    }

    fn check_new(&self, folder: &Path) -> Result<()> {
        check_output(folder)
    }

    fn free_bytes(&self, folder: &Path) -> Option<u64> {
        free_bytes(folder).or_else(|| free_bytes(beside(folder)))
    }

    fn lock(&self, folder: &Path) -> io::Result<Option<Lock>> {
        let path = folder.join(LOCK);
        refuse_irregular(&path)?;
        let file = OpenOptions::new().create(true).truncate(false).write(true).open(path)?;
        Ok(hold(&file)?.then(|| -> Lock { Box::new(file) }))
    }
}

/// Locks a file for as long as it is open; `false` where another writer holds it.
pub(crate) fn hold(file: &File) -> io::Result<bool> {
    match file.try_lock() {
        Ok(()) => Ok(true),
        Err(TryLockError::WouldBlock) => Ok(false),
        // Some network file systems know no locks; they are not what a device trains on.
        Err(TryLockError::Error(e)) if e.kind() == io::ErrorKind::Unsupported => Ok(true),
        Err(TryLockError::Error(e)) => Err(e),
    }
}
