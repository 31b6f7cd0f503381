//! Where outputs come into being: under a temporary name in their folder first, in their place when they are whole.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use tempfile::Builder;

use crate::error::{Error, ErrorKind, Result};

/// Files of this prefix are half-written outputs; one that outlives its process may be deleted.
pub const TEMPORARY_PREFIX: &str = ".srlora-tmp-";

/// Finds out, before any work is done, whether a file or folder can be made at `path`.
///
/// # Errors
/// `Exists`: something is there, be it a link that leads nowhere. `Io`: its folder is missing, is no folder, or takes no
/// new files.
pub fn check_output(path: &Path) -> Result<()> {
    refuse_taken(path)?;
    temporary(path, 0o666, |builder, folder| builder.tempfile_in(folder)).map(drop)
}

pub(super) fn refuse_taken(path: &Path) -> Result<()> {
    if path.symlink_metadata().is_ok() { Err(taken(path)) } else { Ok(()) }
}

pub(super) fn taken(path: &Path) -> Error {
    Error::new(ErrorKind::Exists, path.display(), "is already there: remove it, or choose another output")
}

/// Something temporary in the folder of `path`, with the permissions `mode` less the umask, as for any new file.
pub(super) fn temporary<T>(path: &Path, mode: u32, make: fn(&Builder, &Path) -> io::Result<T>) -> Result<T> {
    let folder = folder(path);
    let refuse = |what| {
        let message = format!("the folder {} {what}, or choose another output", folder.display());
        Error::new(ErrorKind::Io, path.display(), message)
    };
    if !folder.is_dir() {
        let found = folder.symlink_metadata().is_ok();
        return Err(refuse(if found { "is no folder: remove it" } else { "does not exist: create it" }.to_owned()));
    }
    let mut builder = Builder::new();
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(mode));
    #[cfg(not(unix))]
    let _ = mode;
    make(builder.prefix(TEMPORARY_PREFIX), folder)
        .map_err(|e| refuse(format!("takes no new files ({}): make it writable", e.kind())).because(e))
}

/// Writes a file that must not be there yet: it appears whole, or not at all.
///
/// # Errors
/// `Exists`: something is at `path`; `Io`: its folder is missing or takes nothing new, a write failed.
#[cfg(feature = "cli")]
pub(crate) fn write_new(path: &Path, bytes: &[u8]) -> Result<()> {
    refuse_taken(path)?;
    let mut staged = temporary(path, 0o666, |builder, folder| builder.tempfile_in(folder))?;
    io::Write::write_all(&mut staged, bytes).map_err(|e| Error::io(path, e))?;
    staged.persist_noclobber(path).map(drop).map_err(|e| match e.error.kind() {
        io::ErrorKind::AlreadyExists => taken(path),
        _ => Error::io(path, e.error),
    })
}

/// Makes a folder that must not be there yet: it is filled under a temporary name, and gets its own when it is whole.
///
/// # Errors
/// Those of `fill`, and nothing is left then; `Exists`: something is at `path`; `Io`: its folder is missing or takes nothing new;
/// `Unsynced`: it is there and whole, but a power cut may take its name.
pub(crate) fn new_folder<T>(path: &Path, fill: impl FnOnce(&Path) -> Result<T>) -> Result<T> {
    refuse_taken(path)?;
    let staged = temporary(path, 0o777, |builder, folder| builder.tempdir_in(folder))?;
    let filled = fill(staged.path())?;
    sync_folder_of(&staged.path().join("any")).map_err(|e| Error::io(path, e))?;
    // An empty folder would be replaced.
    refuse_taken(path)?;
    fs::rename(staged.path(), path).map_err(|e| Error::io(path, e))?;
    let _ = staged.keep();
    let advice = "run `sync`, or remove it and try again";
    sync_folder_of(path).map_err(|e| Error::unsynced(path, "is written and whole", advice, e))?;
    Ok(filled)
}

/// Writes a file that must not be there yet under a temporary name, and syncs it; lets `check` read it there; and gives it its name, durably.
///
/// # Errors
/// Those of `check`, and nothing is left then; `Exists`: something is at `path`; `Io`: its folder is missing or takes nothing new, a write
/// failed; `Unsynced`: the file is there and whole, but its folder cannot be synced.
pub(crate) fn write_checked<T>(path: &Path, bytes: Vec<u8>, check: impl FnOnce(&Path) -> Result<T>) -> Result<T> {
    refuse_taken(path)?;
    let mut staged = temporary(path, 0o666, |builder, folder| builder.tempfile_in(folder))?;
    let written = io::Write::write_all(&mut staged, &bytes).and_then(|()| staged.as_file().sync_all());
    written.map_err(|e| Error::io(path, e))?;
    drop(bytes);
    let checked = check(staged.path())?;
    staged.persist_noclobber(path).map_err(|e| match e.error.kind() {
        io::ErrorKind::AlreadyExists => taken(path),
        _ => Error::io(path, e.error),
    })?;
    let advice = "run `sync`, or remove it and try again";
    sync_folder_of(path).map_err(|e| Error::unsynced(path, "is written and whole", advice, e))?;
    Ok(checked)
}

fn folder(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Makes the name `path` durable: it is once its folder is. Only Unix can open one.
///
/// # Errors
/// Those of the operating system.
pub(crate) fn sync_folder_of(path: &Path) -> io::Result<()> {
    if cfg!(unix) { File::open(folder(path))?.sync_all() } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bare_file_name_is_written_into_the_current_folder() {
        assert_eq!(folder(Path::new("x")), Path::new("."));
        assert_eq!(folder(Path::new("d/x")), Path::new("d"));
    }
}
