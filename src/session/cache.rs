//! What the frozen prefix makes of each photo, kept for the next epoch: nothing that is trained can change it.
//!
//! Values are f16: half the bytes of f32, rounded by 2^-11 of their size, which no accuracy shows (README, Measured). What is
//! kept is used from the first time on, so that a lesson does not depend on which photos were kept when.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

use half::f16;
use serde::Serialize;

use crate::adapter::scratch::Scratch;
use crate::error::{Error, Result};

/// Where the prefix's outputs are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
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

    /// Bytes that so many photos take.
    pub(super) fn size(&self, photos: usize) -> u64 {
        (photos * self.len * size_of::<f16>()) as u64
    }

    /// Photos that it has room for.
    pub(super) fn photos(&self) -> usize {
        match &self.slots {
            Slots::Ram(slots) => slots.len(),
            Slots::Disk { filled, .. } => filled.len(),
        }
    }

    /// Lets `act` see what is kept for a photo; `None` where nothing is.
    pub(super) fn read<T>(&self, photo: usize, act: impl FnOnce(&[f16]) -> T) -> Option<T> {
        match &self.slots {
            Slots::Ram(slots) => Some(act(slots.get(photo)?.get()?)),
            Slots::Disk { file, filled } => {
                filled.get(photo)?.load(Ordering::Acquire).then_some(())?;
                let mut buffer = Scratch::of(self.len.div_ceil(2));
                let values: &mut [f16] = &mut bytemuck::cast_slice_mut(&mut buffer)[..self.len];
                self.at(file, photo, |file| file.read_exact(bytemuck::cast_slice_mut(values))).ok()?;
                Some(act(values))
            }
        }
    }

    /// Keeps what `fill` writes for a photo, and lets `act` see it. No room, or a full disk, is no fault: the photo's prefix will
    /// then run again.
    ///
    /// # Errors
    /// Those of `fill` and `act`.
    pub(super) fn write<T>(
        &self,
        photo: usize,
        fill: impl FnOnce(&mut [f16]) -> Result<()>,
        act: impl FnOnce(&[f16]) -> Result<T>,
    ) -> Result<T> {
        let mut buffer = Scratch::of(self.len.div_ceil(2));
        let values: &mut [f16] = &mut bytemuck::cast_slice_mut(&mut buffer)[..self.len];
        fill(values)?;
        match &self.slots {
            Slots::Ram(slots) => drop(slots.get(photo).map(|slot| slot.set((&*values).into()))),
            Slots::Disk { file, filled } => {
                if let Some(filled) = filled.get(photo) {
                    let written = self.at(file, photo, |file| file.write_all(bytemuck::cast_slice(values)));
                    filled.store(written.is_ok(), Ordering::Release);
                }
            }
        }
        act(values)
    }

    /// Whether every photo is kept.
    pub(super) fn is_full(&self) -> bool {
        match &self.slots {
            Slots::Ram(slots) => slots.iter().all(|slot| slot.get().is_some()),
            Slots::Disk { filled, .. } => filled.iter().all(|filled| filled.load(Ordering::Acquire)),
        }
    }

    fn at(
        &self,
        file: &Mutex<File>,
        photo: usize,
        act: impl FnOnce(&mut File) -> std::io::Result<()>,
    ) -> std::io::Result<()> {
        let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
        file.seek(SeekFrom::Start(self.size(photo)))?;
        act(&mut file)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_comes_back_from_memory_and_from_disk() {
        let values = [0.0, 1.0, -0.333, 6.0, 1e-3].map(f16::from_f32);
        let folder = tempfile::tempdir().unwrap();
        for place in [CachePlace::Disk, CachePlace::Ram] {
            let cache = Cache::new(place, folder.path(), 3, values.len()).unwrap().unwrap();
            for photo in [2, 0, 1] {
                assert!(cache.read(photo, |_| ()).is_none() && !cache.is_full());
                let fill = |to: &mut [f16]| {
                    to.copy_from_slice(&values);
                    Ok(())
                };
                assert_eq!(cache.write(photo, fill, |v| Ok(v.to_vec())).unwrap(), values);
                assert_eq!(cache.read(photo, <[f16]>::to_vec).unwrap(), values);
            }
            assert!(cache.is_full());
            let ones = |to: &mut [f16]| {
                to.fill(f16::ONE);
                Ok(())
            };
            let no_room = cache.write(3, ones, |v| Ok(v[0])).unwrap();
            assert!(no_room == f16::ONE && cache.read(3, |_| ()).is_none());
        }
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "the file has no name");
        assert!(Cache::new(CachePlace::Off, folder.path(), 3, 4).unwrap().is_none());
    }
}
