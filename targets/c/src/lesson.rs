//! What a lesson learns from, and its settings.

use std::ffi::c_char;
use std::time::Duration;

use srlora::Result;
use srlora::core::Method;
use srlora::session::{Album, CachePlace, Keep, Length, Lesson, Validation};

use crate::error::{guard, srlora_code, srlora_error};
use crate::photos::srlora_photos;
use crate::pointers::{exclusive, free, handle, out, path, refuse, shared};

/// What a lesson learns from, and its settings. One thread at a time sets them.
pub struct srlora_lesson {
    lesson: Lesson,
    further: bool,
    resume: bool,
    every: Duration,
}

impl srlora_lesson {
    fn of(data: impl Into<Album>) -> Self {
        let Keep { further, resume, every, .. } = Keep::new("");
        srlora_lesson { lesson: Lesson::new(data), further, resume, every }
    }

    pub(crate) fn lesson(&self) -> Lesson {
        self.lesson.clone()
    }

    pub(crate) fn keep(&self, store: &std::path::Path) -> Keep {
        let Self { further, resume, every, .. } = *self;
        Keep { further, resume, every, ..Keep::new(store) }
    }
}

/// What is trained.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum srlora_method {
    /// Pairs whose importance is followed, and the head: the default.
    Srlora = 0,
    /// Pairs that start on the principal directions, and the head.
    Pissa = 1,
    /// Pairs that start by chance, and the head.
    Lora = 2,
    /// The head alone.
    Head = 3,
    /// Nothing: new classes are imprinted in one pass over the photos.
    Imprint = 4,
}

/// A lesson from a folder that has a folder of photos for each class. Settings are the program's until they are set.
///
/// Codes: `USAGE`. What is in the folder is looked at by `srlora_trainer_new`. Free it with `srlora_lesson_free`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn srlora_lesson_new_from_folder(
    folder: *const c_char,
    lesson: *mut *mut srlora_lesson,
    error: *mut *mut srlora_error,
) -> srlora_code {
    guard(error, || {
        // SAFETY: the promise of `pointers`.
        let (folder, lesson) = unsafe { (path(folder, "folder")?, out(lesson, "lesson")?) };
        lesson.write(handle(srlora_lesson::of(folder)));
        Ok(())
    })
}

/// A lesson from photos in memory. What is added to them later is not part of it.
///
/// Codes: `USAGE`. Free it with `srlora_lesson_free`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn srlora_lesson_new_from_photos(
    photos: *const srlora_photos,
    lesson: *mut *mut srlora_lesson,
    error: *mut *mut srlora_error,
) -> srlora_code {
    guard(error, || {
        // SAFETY: the promise of `pointers`.
        let (photos, lesson) = unsafe { (shared(photos, "photos")?, out(lesson, "lesson")?) };
        lesson.write(handle(srlora_lesson::of(photos.own.clone())));
        Ok(())
    })
}

/// Frees a lesson's settings; NULL is none. A trainer that was made of them keeps its own.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn srlora_lesson_free(lesson: *mut srlora_lesson) {
    // SAFETY: the promise of `pointers`.
    unsafe { free(lesson) }
}

/// Sets something. A setter has no error object: what can be wrong is NULL, or as its comment says. Values that no lesson can have are
/// refused with a sentence by `srlora_trainer_new`.
///
/// # Safety
/// The promise of `pointers`.
unsafe fn set(lesson: *mut srlora_lesson, act: impl FnOnce(&mut srlora_lesson) -> Result<()>) -> srlora_code {
    // SAFETY: the same promise.
    guard(std::ptr::null_mut(), || act(unsafe { exclusive(lesson, "lesson") }?))
}

/// The same, of what cannot be wrong.
///
/// # Safety
/// The promise of `pointers`.
unsafe fn put(lesson: *mut srlora_lesson, act: impl FnOnce(&mut srlora_lesson)) -> srlora_code {
    // SAFETY: the same promise.
    unsafe {
        set(lesson, |lesson| {
            act(lesson);
            Ok(())
        })
    }
}

/// What is trained: one of `srlora_method`. `USAGE` for anything else.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn srlora_lesson_set_method(lesson: *mut srlora_lesson, method: u32) -> srlora_code {
    const METHODS: [(srlora_method, Method); 5] = [
        (srlora_method::Srlora, Method::Srlora),
        (srlora_method::Pissa, Method::Pissa),
        (srlora_method::Lora, Method::Lora),
        (srlora_method::Head, Method::Head),
        (srlora_method::Imprint, Method::Imprint),
    ];
    let act = |lesson: &mut srlora_lesson| {
        let known = METHODS.iter().find(|(known, _)| *known as u32 == method);
        lesson.lesson.method = known.ok_or_else(|| refuse("method", "is none of srlora_method"))?.1;
        Ok(())
    };
    // SAFETY: the promise of `pointers`.
    unsafe { set(lesson, act) }
}

/// How long it takes, in passes over the photos: 15 unless set. Takes the place of `srlora_lesson_set_steps`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn srlora_lesson_set_epochs(lesson: *mut srlora_lesson, epochs: u32) -> srlora_code {
    // SAFETY: the promise of `pointers`.
    unsafe { put(lesson, |lesson| lesson.lesson.length = Length::Epochs(epochs)) }
}

/// How long it takes, in steps. Takes the place of `srlora_lesson_set_epochs`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn srlora_lesson_set_steps(lesson: *mut srlora_lesson, steps: u32) -> srlora_code {
    // SAFETY: the promise of `pointers`.
    unsafe { put(lesson, |lesson| lesson.lesson.length = Length::Steps(steps)) }
}

/// Photos in a step: 16 unless set.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn srlora_lesson_set_batch(lesson: *mut srlora_lesson, batch: usize) -> srlora_code {
    // SAFETY: the promise of `pointers`.
    unsafe { put(lesson, |lesson| lesson.lesson.batch = batch) }
}

/// Learning rate of the pairs; unless set, it follows from the method and the number of photos.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn srlora_lesson_set_lr(lesson: *mut srlora_lesson, lr: f32) -> srlora_code {
    // SAFETY: the promise of `pointers`.
    unsafe { put(lesson, |lesson| lesson.lesson.lr = Some(lr)) }
}

/// Learning rate of the head: 0.001 unless set.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn srlora_lesson_set_head_lr(lesson: *mut srlora_lesson, head_lr: f32) -> srlora_code {
    // SAFETY: the promise of `pointers`.
    unsafe { put(lesson, |lesson| lesson.lesson.head_lr = head_lr) }
}

/// What decides order and chance: 0 unless set. The same seed gives the same bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn srlora_lesson_set_seed(lesson: *mut srlora_lesson, seed: u64) -> srlora_code {
    // SAFETY: the promise of `pointers`.
    unsafe { put(lesson, |lesson| lesson.lesson.seed = seed) }
}

/// Threads that photos are run on: 1 unless set. The result does not depend on them.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn srlora_lesson_set_threads(lesson: *mut srlora_lesson, threads: usize) -> srlora_code {
    // SAFETY: the promise of `pointers`.
    unsafe { put(lesson, |lesson| lesson.lesson.threads = threads) }
}

/// Random crops and mirror images: off unless set.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn srlora_lesson_set_augment(lesson: *mut srlora_lesson, augment: bool) -> srlora_code {
    // SAFETY: the promise of `pointers`.
    unsafe { put(lesson, |lesson| lesson.lesson.augment = augment) }
}

/// Bytes of examples that the store keeps for later lessons: 2 MiB unless set, 0 for none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn srlora_lesson_set_replay(lesson: *mut srlora_lesson, replay: u64) -> srlora_code {
    // SAFETY: the promise of `pointers`.
    unsafe { put(lesson, |lesson| lesson.lesson.replay = replay) }
}

/// The largest resident size that the process may reach, in bytes; 0 for no limit.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn srlora_lesson_set_ram_limit(lesson: *mut srlora_lesson, ram_limit: u64) -> srlora_code {
    // SAFETY: the promise of `pointers`.
    unsafe { put(lesson, |lesson| lesson.lesson.ram_limit = (ram_limit > 0).then_some(ram_limit)) }
}

/// Whether what a photo has become half-way through the network is kept in a file beside the store: on unless set. Off, each step
/// computes it again.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn srlora_lesson_set_cache(lesson: *mut srlora_lesson, cache: bool) -> srlora_code {
    // SAFETY: the promise of `pointers`.
    unsafe { put(lesson, |lesson| lesson.lesson.cache = if cache { CachePlace::Disk } else { CachePlace::Off }) }
}

/// Holds this share of each class back to measure accuracy on, from 0 to 1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn srlora_lesson_set_val_split(lesson: *mut srlora_lesson, val_split: f64) -> srlora_code {
    // SAFETY: the promise of `pointers`.
    unsafe { put(lesson, |lesson| lesson.lesson.validation = Validation::Split(val_split)) }
}

/// Goes on from what the store has learned; unless set, the store must not be there yet.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn srlora_lesson_set_further(lesson: *mut srlora_lesson, further: bool) -> srlora_code {
    // SAFETY: the promise of `pointers`.
    unsafe { put(lesson, |lesson| lesson.further = further) }
}

/// Goes on with a lesson that was stopped, to the same bytes; where none was, it begins.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn srlora_lesson_set_resume(lesson: *mut srlora_lesson, resume: bool) -> srlora_code {
    // SAFETY: the promise of `pointers`.
    unsafe { put(lesson, |lesson| lesson.resume = resume) }
}

/// Seconds between two checkpoints, and so the most work that a power cut can cost: 60 unless set, 0 for one after every step. `USAGE`
/// for what is no such number.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn srlora_lesson_set_checkpoint(lesson: *mut srlora_lesson, seconds: f64) -> srlora_code {
    let act = |lesson: &mut srlora_lesson| {
        let refused = |_| refuse("seconds", "is no number of seconds, 0 or more");
        lesson.every = Duration::try_from_secs_f64(seconds).map_err(refused)?;
        Ok(())
    };
    // SAFETY: the promise of `pointers`.
    unsafe { set(lesson, act) }
}

/// Measures accuracy on the photos of another folder.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn srlora_lesson_set_val_folder(
    lesson: *mut srlora_lesson,
    folder: *const c_char,
) -> srlora_code {
    let act = |lesson: &mut srlora_lesson| {
        // SAFETY: the promise of `pointers`.
        lesson.lesson.validation = Validation::Photos(unsafe { path(folder, "folder") }?.into());
        Ok(())
    };
    // SAFETY: the same.
    unsafe { set(lesson, act) }
}

/// Measures accuracy on other photos in memory.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn srlora_lesson_set_val_photos(
    lesson: *mut srlora_lesson,
    photos: *const srlora_photos,
) -> srlora_code {
    let act = |lesson: &mut srlora_lesson| {
        // SAFETY: the promise of `pointers`.
        lesson.lesson.validation = Validation::Photos(unsafe { shared(photos, "photos") }?.own.clone().into());
        Ok(())
    };
    // SAFETY: the same.
    unsafe { set(lesson, act) }
}
