//! What work tells while it goes on, and how it is stopped.

use core::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;

use super::forecast::Forecast;
use crate::error::{Error, ErrorKind, Result};

/// What work tells while it goes on; the command line turns it into bars and lines.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Progress<'p> {
    /// A phase of `total` units begins.
    Begin {
        /// What is being done, for a person to read.
        phase: &'p str,
        /// Units in all.
        total: u64,
    },
    /// One more unit is done.
    Advance,
    /// One training step is done.
    Step {
        /// From 1.
        step: u64,
        /// Mean cross-entropy of the batch.
        loss: f32,
        /// Share of the batch that was classified right before the update.
        accuracy: f64,
    },
    /// The phase is over.
    End,
    /// What the lesson will take, before it starts.
    Planned(&'p Forecast),
    /// Something to know on the way.
    Note(&'p str),
    /// Something went wrong that does not stop the work.
    Warning(&'p str),
}

/// What an observer answers to [`Progress`]; one that answers `()` never stops anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Flow {
    /// The work goes on.
    #[default]
    GoOn,
    /// It stops as soon as it can. A lesson lets a step under way go, and what was there before that is in a checkpoint.
    Stop,
}

impl From<()> for Flow {
    fn from((): ()) -> Self {
        Flow::GoOn
    }
}

/// Receives [`Progress`].
pub(crate) type Observer<'o> = dyn FnMut(Progress<'_>) -> Flow + 'o;

/// Stops a lesson from anywhere, also from another thread; its clones do the same.
///
/// ```
/// let stop = srlora::session::Stop::default();
/// let elsewhere = stop.clone();
/// std::thread::spawn(move || elsewhere.set()).join().unwrap();
/// assert!(stop.is_set());
/// ```
#[derive(Debug, Clone, Default)]
pub struct Stop(Arc<AtomicBool>);

impl Stop {
    /// From now on, work that looks at it stops.
    pub fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether it was set.
    #[must_use]
    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// # Errors
    /// Kind `Stopped` once it was set.
    pub(crate) fn go_on(&self) -> Result<()> {
        if self.is_set() { Err(Error::new(ErrorKind::Stopped, "the work", "was stopped")) } else { Ok(()) }
    }
}

impl From<Arc<AtomicBool>> for Stop {
    fn from(flag: Arc<AtomicBool>) -> Self {
        Stop(flag)
    }
}

/// Who is told of the work, and what can stop it.
pub(crate) struct Audience<'a> {
    observer: Option<&'a mut Observer<'a>>,
    stop: Stop,
    stops: bool,
}

impl<'a> Audience<'a> {
    /// An observer, and what else can stop the work.
    pub(crate) fn of(observer: &'a mut Observer<'a>, stop: &Stop) -> Self {
        Audience { observer: Some(observer), stop: stop.clone(), stops: true }
    }

    /// Nobody is told, and nobody stops it.
    pub(crate) fn nobody() -> Self {
        Audience { observer: None, stop: Stop::default(), stops: false }
    }

    /// Nobody is told, and who stops this one stops that one too.
    pub(crate) fn quiet(&self) -> Audience<'static> {
        Audience { observer: None, stop: self.stop.clone(), stops: self.stops }
    }

    pub(crate) fn stop(&self) -> &Stop {
        &self.stop
    }

    pub(crate) fn tell(&mut self, progress: Progress<'_>) {
        if let Some(observer) = &mut self.observer
            && observer(progress) == Flow::Stop
        {
            self.stop.set();
        }
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.stops && self.stop.is_set()
    }

    /// # Errors
    /// Kind `Stopped` once somebody has stopped the work.
    pub(crate) fn go_on(&self) -> Result<()> {
        if self.stops { self.stop.go_on() } else { Ok(()) }
    }
}
