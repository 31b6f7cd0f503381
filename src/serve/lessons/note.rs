//! What a lesson under way is made of, kept beside the photos until it has ended: after a power cut it can go on with the very same ones.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tempfile::Builder;

use super::Wish;
use crate::bundle::TEMPORARY_PREFIX;
use crate::error::{Error, ErrorKind, Result};
use crate::serve::album::check_name;
use crate::session::store::{Disk, Medium};
use crate::session::{Dataset, Picture};

/// Its name, which is none of a class.
const NAME: &str = ".srlora-lesson.json";
/// Bytes of one: the names of a hundred thousand photos.
const MOST_BYTES: u64 = 32 << 20;

/// A photo: its class and its name.
pub(super) type Named = (String, String);

/// The photos and settings of a lesson.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Note {
    further: bool,
    method: Option<String>,
    epochs: Option<u32>,
    train: Vec<Named>,
    held_back: Vec<Named>,
}

impl Note {
    pub(super) fn new([train, held_back]: [Vec<Named>; 2], wish: &Wish, further: bool) -> Self {
        Note { further, method: wish.method.clone(), epochs: wish.epochs, train, held_back }
    }

    /// The note beside the photos; one that cannot be read is none.
    pub(super) fn read(root: &Path) -> Option<Self> {
        let path = root.join(NAME);
        let about = fs::symlink_metadata(&path).ok().filter(|about| about.is_file() && about.len() <= MOST_BYTES)?;
        let bytes = fs::read(&path).ok().filter(|bytes| bytes.len() as u64 <= about.len().max(1))?;
        serde_json::from_slice(&bytes).ok()
    }

    pub(super) fn write(&self, root: &Path) -> Result<()> {
        let path = root.join(NAME);
        let json = serde_json::to_vec(self).map_err(|e| Error::new(ErrorKind::Internal, path.display(), e))?;
        let fault = |e| Error::io(&path, e);
        let mut file = Builder::new().prefix(TEMPORARY_PREFIX).tempfile_in(root).map_err(fault)?;
        file.write_all(&json).and_then(|()| file.as_file().sync_all()).map_err(fault)?;
        file.persist(&path).map_err(|e| fault(e.error))?;
        Disk.sync_folder(root).map_err(fault)
    }

    /// Removes it; whether there was one.
    pub(super) fn remove(root: &Path) -> Result<bool> {
        let path = root.join(NAME);
        match fs::remove_file(&path) {
            Ok(()) => Disk.sync_folder(root).map_err(|e| Error::io(root, e)).map(|()| true),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(Error::io(&path, error)),
        }
    }

    pub(super) fn is_further(&self) -> bool {
        self.further
    }

    pub(super) fn method(&self) -> Option<&str> {
        self.method.as_deref()
    }

    pub(super) fn epochs(&self) -> Option<u32> {
        self.epochs
    }

    /// How many photos it has.
    pub(super) fn photos(&self) -> usize {
        self.train.len() + self.held_back.len()
    }

    /// # Errors
    /// Kind `Data` where there are not two classes with photos.
    pub(super) fn require_trainable(&self) -> Result<()> {
        let mut classes: Vec<&String> = self.train.iter().map(|(class, _)| class).collect();
        classes.dedup();
        let message = match (&classes[..], self.further) {
            ([], _) => "there are no photos yet; collect some for at least two classes",
            ([_], false) => {
                "only one class has photos; a lesson tells at least two apart, so collect some for another one"
            }
            _ => return Ok(()),
        };
        Err(Error::new(ErrorKind::Data, "", message))
    }

    /// The photos to train on, and those that are held back. A name that leads elsewhere is none of a photo.
    ///
    /// # Errors
    /// Kind `Data` where a photo is gone.
    pub(super) fn datasets(&self, root: &Path) -> Result<[Dataset; 2]> {
        let of = |named: &[Named]| {
            let mut data = Dataset::default();
            for (class, name) in named {
                data.add(class, Picture::from(path(root, class, name)?))?;
            }
            Ok(data)
        };
        Ok([of(&self.train)?, of(&self.held_back)?])
    }
}

fn path(root: &Path, class: &str, name: &str) -> Result<PathBuf> {
    check_name(class)?;
    check_name(name)?;
    let path = root.join(class).join(name);
    if path.is_file() {
        return Ok(path);
    }
    let message = "was a photo of the lesson and is gone; let the lesson go, and begin a new one";
    Err(Error::new(ErrorKind::Data, path.display(), message))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_comes_back_as_it_was_and_one_that_leads_elsewhere_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        fs::create_dir(root.join("cup")).unwrap();
        fs::write(root.join("cup/a.jpg"), b"1").unwrap();
        let named = |name: &str| ("cup".to_owned(), name.to_owned());
        let note = Note::new([vec![named("a.jpg")], Vec::new()], &Wish::default(), false);
        note.write(root).unwrap();
        assert_eq!(Note::read(root).as_ref(), Some(&note));
        assert_eq!(note.datasets(root).unwrap()[0].photos().len(), 1);
        assert!(note.require_trainable().unwrap_err().to_string().contains("only one class"));
        for name in ["gone.jpg", "../../etc/passwd", "..", ""] {
            let note = Note::new([vec![named(name)], Vec::new()], &Wish::default(), false);
            assert_eq!(note.datasets(root).unwrap_err().kind(), ErrorKind::Data, "{name}");
        }
        assert!(Note::remove(root).unwrap() && !Note::remove(root).unwrap());
        fs::write(root.join(NAME), b"{\"train\": 1}").unwrap();
        assert_eq!(Note::read(root), None);
    }
}
