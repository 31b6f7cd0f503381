//! What the frozen prefix makes of each photo, kept for the next epoch: nothing that is trained can change it.
//!
//! Values are f16: half the bytes, and a rounding (2^-11) far below what augmentation, JPEG and int8 weights do to the same
//! numbers; int8 would save as much again, but its error is of the size of what a pair learns in a step. What is kept is used
//! from the first time on, so a lesson does not depend on which photos were cached when.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

use half::f16;
use half::slice::HalfFloatSliceExt;

use crate::error::{Error, Result};

/// Where the prefix's outputs are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CachePlace {
    /// In a file without a name, beside the store; it vanishes with the process.
    Disk,
    /// In memory.
    Ram,
    /// Nowhere: every step runs the prefix.
    Off,
}

/// A slot per photo, each of the same number of values.
pub(super) struct Cache {
    len: usize,
    slots: Slots,
}

enum Slots {
    Ram(Vec<OnceLock<Box<[f16]>>>),
    Disk { file: Mutex<File>, filled: Vec<AtomicBool> },
}

impl Cache {
    /// An empty cache for `photos` photos with `len` values each; `None` where nothing is to be kept.
    ///
    /// # Errors
    /// Kind `Io` where no file can be made in `folder`.
    pub(super) fn new(place: CachePlace, folder: &Path, photos: usize, len: usize) -> Result<Option<Self>> {
        let slots = match place {
            CachePlace::Off => return Ok(None),
            CachePlace::Ram => Slots::Ram((0..photos).map(|_| OnceLock::new()).collect()),
            CachePlace::Disk => {
                let file = tempfile::tempfile_in(folder).map_err(|e| Error::io(folder, e))?;
                Slots::Disk { file: Mutex::new(file), filled: (0..photos).map(|_| AtomicBool::new(false)).collect() }
            }
        };
        Ok(Some(Cache { len, slots }))
    }

    /// Bytes of a full cache.
    pub(super) fn bytes(photos: usize, len: usize) -> u64 {
        (photos * len * size_of::<f16>()) as u64
    }

    /// What is kept for a photo, as f32 into `values`; false where nothing is.
    pub(super) fn read(&self, photo: usize, values: &mut [f32]) -> bool {
        match &self.slots {
            Slots::Ram(slots) => match slots.get(photo).and_then(OnceLock::get) {
                Some(kept) => kept.convert_to_f32_slice(values),
                None => return false,
            },
            Slots::Disk { file, filled } => {
                if !filled.get(photo).is_some_and(|filled| filled.load(Ordering::Acquire)) {
                    return false;
                }
                let mut kept = vec![f16::ZERO; self.len];
                if self.at(file, photo, |file| file.read_exact(as_bytes(&mut kept))).is_err() {
                    return false;
                }
                kept.convert_to_f32_slice(values);
            }
        }
        true
    }

    /// Keeps `values` for a photo, and rounds them to what will be read. A full disk is no fault: the photo's prefix then runs
    /// again.
    pub(super) fn write(&self, photo: usize, values: &mut [f32]) {
        let mut kept = vec![f16::ZERO; self.len];
        let largest = f16::MAX.to_f32();
        values.iter_mut().for_each(|v| *v = v.clamp(-largest, largest));
        kept.convert_from_f32_slice(values);
        kept.convert_to_f32_slice(values);
        match &self.slots {
            Slots::Ram(slots) => drop(slots.get(photo).map(|slot| slot.set(kept.into()))),
            Slots::Disk { file, filled } => {
                let written = self.at(file, photo, |file| file.write_all(as_bytes(&mut kept)));
                if let (Ok(()), Some(filled)) = (written, filled.get(photo)) {
                    filled.store(true, Ordering::Release);
                }
            }
        }
    }

    fn at(&self, file: &Mutex<File>, photo: usize, act: impl FnOnce(&mut File) -> std::io::Result<()>) -> std::io::Result<()> {
        let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
        file.seek(SeekFrom::Start(Self::bytes(photo, self.len)))?;
        act(&mut file)
    }
}
