//! The photos of a lesson, and whether they can be its photos.

use std::path::Path;

use crate::error::{Error, ErrorKind, Result};
use crate::session::photos::{Dataset, refuse_shared_folder};
use crate::session::settings::{Album, Lesson, Validation};
use crate::session::store::beside;

/// A store among the photos would be taken for one of their classes.
pub(crate) fn refuse_among_photos(output: &Path, lesson: &Lesson) -> Result<()> {
    let Ok(folder) = beside(output).canonicalize() else { return Ok(()) };
    let validation = match &lesson.validation {
        Validation::Photos(album) => Some(("option `val`", album)),
        _ => None,
    };
    for (flag, album) in [("option `data`", &lesson.data)].into_iter().chain(validation) {
        let Some(photos) = album.folder() else { continue };
        if photos.canonicalize().is_ok_and(|photos| folder.starts_with(photos)) {
            let message = format!("lies inside {flag} {}, among the photos; keep it elsewhere", photos.display());
            return Err(Error::new(ErrorKind::Usage, output.display(), message));
        }
    }
    Ok(())
}

/// The photos to train on, and those to measure accuracy on. A `further` lesson may have one new class, and measure classes that it
/// has no photos of.
///
/// # Errors
/// `Data` where a folder cannot be used, `Mismatch` where their classes differ, `Usage` where one folder is in the other.
pub(crate) fn datasets(lesson: &Lesson, further: bool) -> Result<(Dataset, Option<Dataset>)> {
    if let Validation::Photos(Album::Folder(folder)) = &lesson.validation
        && let Some(data) = lesson.data.folder()
    {
        refuse_shared_folder(data, folder)?;
    }
    let data = lesson.data.open()?;
    if !further {
        data.require_trainable()?;
    }
    match &lesson.validation {
        Validation::None => Ok((data, None)),
        Validation::Split(share) => {
            let (train, validation) = data.split(*share, lesson.seed)?;
            Ok((train, Some(validation)))
        }
        Validation::Photos(album) => {
            let validation = album.open()?;
            let validation = if further { validation } else { validation.relabelled(&data.classes)? };
            Ok((data, Some(validation)))
        }
    }
}
