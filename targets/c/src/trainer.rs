//! One lesson, held in the hand.

use std::ffi::{c_char, c_void};
use std::sync::{Mutex, MutexGuard, TryLockError};

use srlora::session::{Happened, Stop, TrainReport, Trainer};
use srlora::{Error, ErrorKind, Result};

use crate::bundle::srlora_bundle;
use crate::error::{guard, srlora_code, srlora_error};
use crate::event::{Listener, srlora_observer};
use crate::lesson::srlora_lesson;
use crate::pointers::{free, handle, look, out, path, shared};
use crate::report::srlora_report;

/// One lesson, held in the hand. One thread runs it; others may stop it meanwhile. It holds the store locked until it is freed.
pub struct srlora_trainer {
    own: Mutex<Trainer>,
    stop: Stop,
    steps: u64,
    seconds: f64,
    peak: u64,
}

impl srlora_trainer {
    fn own(&self) -> Result<MutexGuard<'_, Trainer>> {
        self.own.try_lock().map_err(|why| match why {
            // A turn would never come for an observer that asks its own trainer.
            TryLockError::WouldBlock => Error::new(ErrorKind::Busy, "the trainer", "is at work in another call"),
            TryLockError::Poisoned(_) => Error::new(
                ErrorKind::Internal,
                "the trainer",
                "has panicked before; make a new one with option `resume`",
            ),
        })
    }
}

/// What a step of a trainer has done.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum srlora_happened {
    /// Every photo was read, and new classes were imprinted: a first lesson's store is there now, and it classifies.
    Imprinted = 0,
    /// What is known before the first step was found out.
    Ready = 1,
    /// One optimizer step was taken; the observer was told its loss.
    Step = 2,
    /// The lesson was judged, and is over.
    Ended = 3,
}

/// Plans a lesson that is kept in the folder `store`: finds the photos, takes up what the store has, and finds room in memory. Nothing
/// is trained yet. Bundle and lesson are not needed any more afterwards.
///
/// Codes: `USAGE`, `EXISTS`, `IO`, `DATA`, `STORE`, `MISMATCH`, `MEMORY`, `BUSY`. Free it with `srlora_trainer_free`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn srlora_trainer_new(
    bundle: *const srlora_bundle,
    lesson: *const srlora_lesson,
    store: *const c_char,
    trainer: *mut *mut srlora_trainer,
    error: *mut *mut srlora_error,
) -> srlora_code {
    guard(error, || {
        // SAFETY: the promise of `pointers`.
        let (bundle, lesson) = unsafe { (shared(bundle, "bundle")?, shared(lesson, "lesson")?) };
        // SAFETY: the same.
        let (store, trainer) = unsafe { (path(store, "store")?, out(trainer, "trainer")?) };
        let keep = lesson.keep(store);
        let stop = keep.stop.clone();
        let own = Trainer::new(&bundle.own, lesson.lesson(), keep)?;
        let forecast = *own.forecast();
        trainer.write(handle(srlora_trainer {
            own: Mutex::new(own),
            stop,
            steps: forecast.steps,
            seconds: forecast.seconds,
            peak: forecast.peak_rss_bytes.unwrap_or(0),
        }));
        Ok(())
    })
}

/// Frees a trainer; NULL is none. What was learned since the last checkpoint is lost; a lesson with `srlora_lesson_set_resume` goes on
/// from there.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn srlora_trainer_free(trainer: *mut srlora_trainer) {
    // SAFETY: the promise of `pointers`.
    unsafe { free(trainer) }
}

/// Steps that the lesson takes; 0 for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn srlora_trainer_steps(trainer: *const srlora_trainer) -> u64 {
    // SAFETY: the promise of `pointers`.
    unsafe { look(trainer, 0, |trainer| trainer.steps) }
}

/// Seconds that it will take at most, reading photos not counted; 0 for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn srlora_trainer_seconds(trainer: *const srlora_trainer) -> f64 {
    // SAFETY: the promise of `pointers`.
    unsafe { look(trainer, 0.0, |trainer| trainer.seconds) }
}

/// The largest resident size that the process will have, in bytes; 0 where the system does not tell, and for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn srlora_trainer_peak_bytes(trainer: *const srlora_trainer) -> u64 {
    // SAFETY: the promise of `pointers`.
    unsafe { look(trainer, 0, |trainer| trainer.peak) }
}

/// Does all that there is left to do. `observer` may be NULL; `userdata` is handed to it as it is.
///
/// Codes: `STOPPED` where it was stopped, with a checkpoint; `DIVERGED`, `DATA`, `IO`; `UNSYNCED`: all is learned, and a power cut may
/// still take it; `BUSY` where another call is at work on it; `USAGE` after an error. Free the report with `srlora_report_free`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn srlora_trainer_run(
    trainer: *const srlora_trainer,
    observer: srlora_observer,
    userdata: *mut c_void,
    report: *mut *mut srlora_report,
    error: *mut *mut srlora_error,
) -> srlora_code {
    guard(error, || {
        // SAFETY: the promise of `pointers`.
        let (trainer, report) = unsafe { (shared(trainer, "trainer")?, out(report, "report")?) };
        let mut listener = Listener::new(observer, userdata);
        let mut own = trainer.own()?;
        let ended = loop {
            if let Happened::Ended(ended) =
                own.step(&mut |progress: srlora::session::Progress<'_>| listener.hear(progress))?
            {
                break ended;
            }
        };
        report.write(handle(srlora_report::of(*ended)?));
        Ok(())
    })
}

/// Does the next thing that there is to do, and says what it was: for a device that has other work between steps.
///
/// Codes: those of `srlora_trainer_run`. Once it has ended, nothing more is done, and `srlora_trainer_run` gives the report.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn srlora_trainer_step(
    trainer: *const srlora_trainer,
    observer: srlora_observer,
    userdata: *mut c_void,
    happened: *mut srlora_happened,
    error: *mut *mut srlora_error,
) -> srlora_code {
    guard(error, || {
        // SAFETY: the promise of `pointers`.
        let (trainer, happened) = unsafe { (shared(trainer, "trainer")?, out(happened, "happened")?) };
        let mut listener = Listener::new(observer, userdata);
        let done = trainer.own()?.step(&mut |progress: srlora::session::Progress<'_>| listener.hear(progress))?;
        happened.write(match done {
            Happened::Imprinted => srlora_happened::Imprinted,
            Happened::Ready(_) => srlora_happened::Ready,
            Happened::Ended(_) => srlora_happened::Ended,
            // Whatever comes to be told between steps goes on as one.
            _ => srlora_happened::Step,
        });
        Ok(())
    })
}

/// Stops the lesson as soon as it can, with a checkpoint: the call at work on it answers `STOPPED`. Any thread may call it, at any time
/// before the trainer is freed, and so may a signal handler. NULL is none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn srlora_trainer_stop(trainer: *const srlora_trainer) {
    // SAFETY: the promise of `pointers`. Nothing here locks, allocates or panics, as a signal handler needs.
    if let Some(trainer) = unsafe { trainer.as_ref() } {
        trainer.stop.set();
    }
}

/// What a program may hold can go to another thread.
const _: () = {
    const fn is_shared<T: Send + Sync>() {}
    is_shared::<srlora_trainer>();
    is_shared::<crate::classifier::srlora_classifier>();
    is_shared::<srlora_bundle>();
    is_shared::<TrainReport>();
};
