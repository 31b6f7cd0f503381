//! What the frozen prefix makes of each photo, kept for the next epoch: nothing that is trained can change it.
//!
//! Values of photos that are trained on are f16: half the bytes of f32, rounded by 2^-11 of their size, which no
//! accuracy shows (`docs/performance.md`, The cache). What is kept is used from the first time on, so that a lesson
//! does not depend on which photos were kept when. Values of photos that accuracy is measured on are f32: the result
//! has to be that of a device that keeps nothing.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

use bytemuck::Pod;

use crate::adapter::scratch::Scratch;
use crate::error::{Error, ErrorKind, Result};
use crate::session::settings::CachePlace;

/// A slot per photo, each of the same number of values.
pub(crate) struct Cache<T> {
    len: usize,
    slots: Slots<T>,
}

enum Slots<T> {
    Ram(Vec<OnceLock<Box<[T]>>>),
    /// Once a read has `failed`, nothing in the file is relied on any more, and nothing is written: a gap would read as zeros.
    Disk {
        file: Mutex<File>,
        folder: PathBuf,
        filled: Vec<AtomicBool>,
        failed: OnceLock<String>,
    },
}

impl<T: Pod> Cache<T> {
    /// An empty cache for `photos` photos with `len` values each; `None` where nothing is to be kept.
    ///
    /// # Errors
    /// Kind `Io` where no file can be made in `folder`.
    pub(crate) fn new(place: CachePlace, folder: &Path, photos: usize, len: usize) -> Result<Option<Self>> {
        let slots = match place {
            CachePlace::Off => return Ok(None),
            CachePlace::Ram => Slots::Ram((0..photos).map(|_| OnceLock::new()).collect()),
            CachePlace::Disk => {
                let file = tempfile::tempfile_in(folder).map_err(|e| Error::io(folder, e))?;
                let filled = (0..photos).map(|_| AtomicBool::new(false)).collect();
                Slots::Disk { file: Mutex::new(file), folder: folder.to_path_buf(), filled, failed: OnceLock::new() }
            }
        };
        Ok(Some(Cache { len, slots }))
    }

    /// Bytes that so many photos take.
    pub(crate) fn size(&self, photos: usize) -> u64 {
        (photos * self.len * size_of::<T>()) as u64
    }

    /// Photos that it has room for.
    pub(crate) fn photos(&self) -> usize {
        match &self.slots {
            Slots::Ram(slots) => slots.len(),
            Slots::Disk { filled, .. } => filled.len(),
        }
    }

    /// Lets `act` see what is kept for a photo; `None` where nothing is.
    ///
    /// # Errors
    /// Kind `Io` where what was kept cannot be read any more.
    pub(crate) fn read<R>(&self, photo: usize, act: impl FnOnce(&[T]) -> R) -> Result<Option<R>> {
        match &self.slots {
            Slots::Ram(slots) => Ok(slots.get(photo).and_then(OnceLock::get).map(|values| act(values))),
            Slots::Disk { file, folder, filled, failed } => {
                if !filled.get(photo).is_some_and(|filled| filled.load(Ordering::Acquire)) {
                    return Ok(None);
                }
                let mut buffer = self.buffer();
                let values: &mut [T] = &mut bytemuck::cast_slice_mut(&mut buffer)[..self.len];
                let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
                if failed.get().is_none()
                    && let Err(error) =
                        self.go_to(&mut file, photo).and_then(|f| f.read_exact(bytemuck::cast_slice_mut(values)))
                {
                    failed.get_or_init(|| error.to_string());
                }
                drop(file);
                failed.get().map_or_else(|| Ok(Some(act(values))), |why| Err(not_read(folder, why)))
            }
        }
    }

    /// Keeps what `fill` writes for a photo, and lets `act` see it. No room, or a full disk, is no fault: the photo's prefix will
    /// then run again.
    ///
    /// # Errors
    /// Those of `fill` and `act`.
    pub(crate) fn write<R>(
        &self,
        photo: usize,
        fill: impl FnOnce(&mut [T]) -> Result<()>,
        act: impl FnOnce(&[T]) -> Result<R>,
    ) -> Result<R> {
        let mut buffer = self.buffer();
        let values: &mut [T] = &mut bytemuck::cast_slice_mut(&mut buffer)[..self.len];
        fill(values)?;
        match &self.slots {
            Slots::Ram(slots) => drop(slots.get(photo).map(|slot| slot.set((&*values).into()))),
            Slots::Disk { file, filled, failed, .. } => {
                let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some(filled) = filled.get(photo).filter(|_| failed.get().is_none()) {
                    let bytes = bytemuck::cast_slice(values);
                    let written = self.go_to(&mut file, photo).and_then(|file| file.write_all(bytes));
                    filled.store(written.is_ok(), Ordering::Release);
                }
            }
        }
        act(values)
    }

    /// Whether every photo is kept.
    pub(crate) fn is_full(&self) -> bool {
        match &self.slots {
            Slots::Ram(slots) => slots.iter().all(|slot| slot.get().is_some()),
            Slots::Disk { filled, failed, .. } => {
                failed.get().is_none() && filled.iter().all(|filled| filled.load(Ordering::Acquire))
            }
        }
    }

    /// Room for one photo's values.
    fn buffer(&self) -> Scratch {
        Scratch::of((self.len * size_of::<T>()).div_ceil(size_of::<f32>()))
    }

    fn go_to<'f>(&self, file: &'f mut File, photo: usize) -> std::io::Result<&'f mut File> {
        file.seek(SeekFrom::Start(self.size(photo))).map(|_| file)
    }
}

fn not_read(folder: &Path, why: &str) -> Error {
    let message = format!(
        "what was kept of a photo in {} cannot be read any more ({why}); what has been learned is safe up to the last checkpoint: \
         see to the medium and go on with option `resume`, if need be with option `cache` ram",
        if folder.as_os_str().is_empty() { Path::new(".") } else { folder }.display()
    );
    Error::new(ErrorKind::Io, "option `cache`", message)
}

#[cfg(test)]
mod tests {
    use half::f16;

    use super::*;

    #[test]
    fn what_is_kept_comes_back_from_memory_and_from_disk() {
        let values = [0.0, 1.0, -0.333, 6.0, 1e-3].map(f16::from_f32);
        let folder = tempfile::tempdir().unwrap();
        for place in [CachePlace::Disk, CachePlace::Ram] {
            let cache = Cache::new(place, folder.path(), 3, values.len()).unwrap().unwrap();
            for photo in [2, 0, 1] {
                assert!(cache.read(photo, |_| ()).unwrap().is_none() && !cache.is_full());
                let fill = |to: &mut [f16]| {
                    to.copy_from_slice(&values);
                    Ok(())
                };
                assert_eq!(cache.write(photo, fill, |v| Ok(v.to_vec())).unwrap(), values);
                assert_eq!(cache.read(photo, <[f16]>::to_vec).unwrap().unwrap(), values);
            }
            assert!(cache.is_full());
            let ones = |to: &mut [f16]| {
                to.fill(f16::ONE);
                Ok(())
            };
            let no_room = cache.write(3, ones, |v| Ok(v[0])).unwrap();
            assert!(no_room == f16::ONE && cache.read(3, |_| ()).unwrap().is_none());
        }
        let exact = [0.1f32, -1e-9, 3e38];
        let cache = Cache::new(CachePlace::Disk, folder.path(), 1, 3).unwrap().unwrap();
        let fill = |to: &mut [f32]| {
            to.copy_from_slice(&exact);
            Ok(())
        };
        cache.write(0, fill, |_| Ok(())).unwrap();
        assert_eq!((cache.read(0, <[f32]>::to_vec).unwrap().unwrap(), cache.size(1)), (exact.to_vec(), 12));
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "the file has no name");
        assert!(Cache::<f16>::new(CachePlace::Off, folder.path(), 3, 4).unwrap().is_none());
    }
}
