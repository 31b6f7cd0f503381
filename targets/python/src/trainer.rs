//! Lessons: whole ones, and one that is held in the hand.

use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, OnceLock, TryLockError};

use pyo3::prelude::*;
use pyo3::types::PyDict;
use srlora::session::{self, Flow, Forecast, Happened, Progress, Stop, TrainReport};
use srlora::{Error, ErrorKind};

use crate::answers::answer;
use crate::bundle::opened;
use crate::errors::{fault, refuse};
use crate::events::Listener;
use crate::lesson::Asked;
use crate::worker::Worker;

/// A thread with a lesson, once that is planned.
type Desk = Worker<Option<session::Trainer>>;

/// Learn classes from photos into a store, in one lesson: `srlora train`.
///
/// `bundle` is a path or a `Bundle`. `data` is a folder with a folder of photos for each class; or, with `labels`, images, each with
/// its class. `store` is the folder to make; with `further=True` one that learns on. `val` and `val_labels`, or the share `val_split`,
/// are held back to measure accuracy on. All other settings are those of the program, with its defaults: see `srlora.types.Settings`.
///
/// `callback` is called with each event, a dict, from the calling thread; one that answers False stops the lesson. Without one, a bar
/// is drawn on stderr where that is a terminal and `progress` is not False, and warnings are given to `warnings`.
///
/// Ctrl-C stops the lesson with a checkpoint, and raises KeyboardInterrupt; the same call with `resume=True` goes on to the same bytes.
/// Other threads run all the while.
///
/// Answers the dict of `srlora train --json`, a `srlora.types.TrainReport`.
///
/// Raises `Stopped` where the callback has stopped it; `ExistsError`, `DataError`, `UsageError`, `MismatchError`, `StoreError`,
/// `MemoryLimitError`, `BusyError`, `DivergedError`, `IoError`, `UnsyncedError`.
#[pyfunction]
#[pyo3(signature = (bundle, data, store, *, callback=None, progress=true, **settings))]
pub(crate) fn train<'py>(
    bundle: &Bound<'py, PyAny>,
    data: &Bound<'py, PyAny>,
    store: PathBuf,
    callback: Option<Bound<'py, PyAny>>,
    progress: bool,
    settings: Option<&Bound<'py, PyDict>>,
) -> PyResult<Bound<'py, PyAny>> {
    let py = bundle.py();
    let asked = Asked::of("train", data, store, settings)?;
    let stop = asked.stop();
    let mut listener = Listener::new(py, callback, progress)?;
    let (desk, ..) = begin(bundle, asked, &mut listener)?;
    let report = desk.ask(py, &mut listener, &stop, |lesson, observer| {
        loop {
            if let Happened::Ended(report) = step(lesson, observer)? {
                return Ok(report);
            }
        }
    })?;
    answer(py, &*report)
}

/// What a lesson will take, before it begins: memory, time, and bytes to write.
///
/// Takes the arguments of `train`, but for `callback` and `progress`. Nothing is written. Answers a dict, a `srlora.types.Forecast`.
///
/// Raises what `train` raises before its first photo.
#[pyfunction]
#[pyo3(signature = (bundle, data, store, **settings))]
pub(crate) fn plan<'py>(
    bundle: &Bound<'py, PyAny>,
    data: &Bound<'py, PyAny>,
    store: PathBuf,
    settings: Option<&Bound<'py, PyDict>>,
) -> PyResult<Bound<'py, PyAny>> {
    let asked = Asked::of("plan", data, store, settings)?;
    let (_, forecast, _) = begin(bundle, asked, &mut Listener::new(bundle.py(), None, false)?)?;
    answer(bundle.py(), &forecast)
}

/// Plans a lesson on a thread of its own: that, what the lesson will take, and its classes.
fn begin(bundle: &Bound<'_, PyAny>, asked: Asked, listener: &mut Listener) -> PyResult<(Desk, Forecast, Vec<String>)> {
    let (bundle, py, stop) = (opened(bundle)?, bundle.py(), asked.stop());
    let desk = Desk::start()?;
    let (forecast, classes) = desk.ask(py, listener, &stop, move |lesson, _| {
        let Asked { lesson: settings, keep } = asked;
        let trainer = lesson.insert(session::Trainer::new(&bundle, settings, keep)?);
        Ok((*trainer.forecast(), trainer.classes().to_vec()))
    })?;
    Ok((desk, forecast, classes))
}

fn step(
    lesson: &mut Option<session::Trainer>,
    observer: &mut dyn FnMut(Progress<'_>) -> Flow,
) -> srlora::Result<Happened> {
    let none = || Error::new(ErrorKind::Internal, "the lesson", "was not planned");
    lesson.as_mut().ok_or_else(none)?.step(&mut |progress: Progress<'_>| observer(progress))
}

/// One lesson, held in the hand: planned when it is made, then taken step by step.
///
/// Takes the arguments of `train`, but for `callback` and `progress`. Iterate over it, or call `step`, until it has ended; or let `run` do
/// the rest. It holds the store locked until it is closed, as `with` does.
#[pyclass(frozen, module = "srlora")]
pub(crate) struct Trainer {
    desk: Mutex<Option<Desk>>,
    stop: Stop,
    forecast: Forecast,
    classes: Vec<String>,
    report: OnceLock<TrainReport>,
}

#[pymethods]
impl Trainer {
    #[new]
    #[pyo3(signature = (bundle, data, store, **settings))]
    fn new(
        bundle: &Bound<'_, PyAny>,
        data: &Bound<'_, PyAny>,
        store: PathBuf,
        settings: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Self> {
        let asked = Asked::of("Trainer", data, store, settings)?;
        let stop = asked.stop();
        let (desk, forecast, classes) = begin(bundle, asked, &mut Listener::new(bundle.py(), None, false)?)?;
        Ok(Trainer { desk: Mutex::new(Some(desk)), stop, forecast, classes, report: OnceLock::new() })
    }

    /// What the lesson will take: a dict, a `srlora.types.Forecast`.
    #[getter]
    fn forecast<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        answer(py, &self.forecast)
    }

    /// The names of the classes, in the order of the head's rows.
    #[getter]
    fn classes_(&self) -> Vec<String> {
        self.classes.clone()
    }

    /// What came of it: the dict of `srlora train --json`; None until it has ended.
    #[getter]
    fn report<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        self.report.get().map(|report| answer(py, report)).transpose()
    }

    /// Do the next thing that there is to do, and tell what it was: a dict with `happened`.
    ///
    /// `imprinted`: every photo was read, and a first lesson's store is there now. `ready`: what is known before the first step was found
    /// out, with `cross_validation`. `step`: an optimizer step, with `step`, `loss` and `accuracy`. `ended`: the lesson was judged and is
    /// over, with `report`.
    ///
    /// `callback` is that of `train`; there is no bar.
    ///
    /// Raises `Stopped` where it was stopped, and what `train` raises. After an error nothing more is done: make a new one with
    /// `resume=True`.
    #[pyo3(signature = (callback=None))]
    fn step<'py>(&self, py: Python<'py>, callback: Option<Bound<'py, PyAny>>) -> PyResult<Bound<'py, PyDict>> {
        let desk = self.desk()?;
        let mut listener = Listener::new(py, callback, false)?;
        let happened = at(&desk)?.ask(py, &mut listener, &self.stop, step)?;
        self.describe(py, happened)
    }

    /// Do all that there is left to do. `callback` and `progress` are those of `train`, and so is the answer.
    ///
    /// Raises what `step` raises.
    #[pyo3(signature = (callback=None, *, progress=true))]
    fn run<'py>(
        &self,
        py: Python<'py>,
        callback: Option<Bound<'py, PyAny>>,
        progress: bool,
    ) -> PyResult<Bound<'py, PyAny>> {
        let desk = self.desk()?;
        let mut listener = Listener::new(py, callback, progress)?;
        loop {
            if let Happened::Ended(report) = at(&desk)?.ask(py, &mut listener, &self.stop, step)? {
                return answer(py, self.report.get_or_init(|| *report));
            }
        }
    }

    /// Stop the lesson from another thread, or from a signal's handler: it ends with a checkpoint, and raises `Stopped`.
    fn stop(&self) {
        self.stop.set();
    }

    /// Let the lesson and its store go. What was done since the last checkpoint is lost, unless the lesson has ended.
    fn close(&self) -> PyResult<()> {
        self.desk().map(|mut desk| drop(desk.take()))
    }

    fn __enter__(this: Py<Self>) -> Py<Self> {
        this
    }

    #[pyo3(signature = (_raised, _value, _traceback, /))]
    fn __exit__(
        &self,
        _raised: &Bound<'_, PyAny>,
        _value: &Bound<'_, PyAny>,
        _traceback: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        self.close()
    }

    fn __iter__(this: Py<Self>) -> Py<Self> {
        this
    }

    fn __next__<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyDict>>> {
        if self.report.get().is_some() { Ok(None) } else { self.step(py, None).map(Some) }
    }

    fn __repr__(&self) -> String {
        format!("<srlora.Trainer of {} classes, {} steps>", self.classes.len(), self.forecast.steps)
    }
}

impl Trainer {
    /// # Errors
    /// Kind `Usage` where another thread, or a callback of this one, is at it: waiting would be for ever.
    fn desk(&self) -> PyResult<MutexGuard<'_, Option<Desk>>> {
        match self.desk.try_lock() {
            Ok(desk) => Ok(desk),
            Err(TryLockError::Poisoned(desk)) => Ok(desk.into_inner()),
            Err(TryLockError::WouldBlock) => {
                let message = "is at work already, for another thread or for a callback; wait until it has answered";
                Err(fault(Error::new(ErrorKind::Usage, "the lesson", message)))
            }
        }
    }

    fn describe<'py>(&self, py: Python<'py>, happened: Happened) -> PyResult<Bound<'py, PyDict>> {
        let dict = PyDict::new(py);
        match happened {
            Happened::Imprinted => dict.set_item("happened", "imprinted")?,
            Happened::Ready(cross_validation) => {
                dict.set_item("happened", "ready")?;
                dict.set_item("cross_validation", answer(py, &cross_validation)?)?;
            }
            Happened::Step { step, loss, accuracy } => {
                dict.set_item("happened", "step")?;
                dict.set_item("step", step)?;
                dict.set_item("loss", loss)?;
                dict.set_item("accuracy", accuracy)?;
            }
            Happened::Ended(report) => {
                dict.set_item("happened", "ended")?;
                dict.set_item("report", answer(py, self.report.get_or_init(|| *report))?)?;
            }
            other => return Err(refuse("step", format_args!("has done what this wheel does not know: {other:?}"))),
        }
        Ok(dict)
    }
}

fn at(desk: &Option<Desk>) -> PyResult<&Desk> {
    let closed = || fault(Error::new(ErrorKind::Usage, "the lesson", "was closed; make a new trainer"));
    desk.as_ref().ok_or_else(closed)
}
