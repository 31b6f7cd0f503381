//! Which photos lessons have trained on: they tell nothing of how well a later lesson recognizes new ones.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::path::Path;

use tempfile::Builder;

use crate::bundle::TEMPORARY_PREFIX;
use crate::error::{Error, Result};
use crate::limits::MOST_ALBUM_PHOTOS;
use crate::serve::album::{Entry, Id};
use crate::session::store::{Disk, Medium};

/// Its name, which is none of a class.
const NAME: &str = ".srlora-seen";
/// A number, and the end of its line.
const LINE_BYTES: u64 = 17;

/// Photos that lessons have trained on, by what stays when a photo is moved to another class: its name and its size.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Seen(BTreeSet<Id>);

fn number(name: &str, bytes: u64) -> Id {
    Id::of(name, &bytes.to_string())
}

impl Seen {
    /// Those noted beside the photos; a note that cannot be read is none.
    pub(super) fn read(root: &Path) -> Self {
        let path = root.join(NAME);
        let is_one = fs::symlink_metadata(&path)
            .is_ok_and(|about| about.is_file() && about.len() <= 4 * LINE_BYTES * MOST_ALBUM_PHOTOS as u64);
        let text = if is_one { fs::read_to_string(&path).unwrap_or_default() } else { String::new() };
        Seen(text.lines().filter_map(Id::parse).collect())
    }

    pub(super) fn has(&self, photo: &Entry) -> bool {
        self.0.contains(&number(&photo.name, photo.bytes))
    }

    /// Notes photos, each with its name and its size, beside those noted before.
    ///
    /// # Errors
    /// Kind `Io`.
    pub(super) fn note<'p>(root: &Path, photos: impl Iterator<Item = (&'p str, u64)>) -> Result<()> {
        let mut seen = Seen::read(root);
        seen.0.extend(photos.map(|(name, bytes)| number(name, bytes)));
        let text: String = seen.0.iter().map(|id| format!("{id}\n")).collect();
        let path = root.join(NAME);
        let fault = |e| Error::io(&path, e);
        let mut file = Builder::new().prefix(TEMPORARY_PREFIX).tempfile_in(root).map_err(fault)?;
        file.write_all(text.as_bytes()).and_then(|()| file.as_file().sync_all()).map_err(fault)?;
        file.persist(&path).map_err(|e| fault(e.error))?;
        Disk.sync_folder(root).map_err(fault)
    }
}
