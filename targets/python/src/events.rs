//! What work tells on the way: to a callback as plain dicts, to a bar on a terminal, or, of warnings, to `warnings`.

use std::ffi::CString;

use pyo3::prelude::*;
use pyo3::types::PyDict;
use srlora::session::{Flow, Forecast, Progress};

use crate::answers::answer;
use crate::errors::in_python;

/// [`Progress`] that goes from one thread to another.
pub(crate) enum Told {
    Begin { phase: String, total: u64 },
    Advance,
    Step { step: u64, loss: f32, accuracy: f64 },
    End,
    Planned(Box<Forecast>),
    Note(String),
    Warning(String),
}

impl Told {
    /// `None` for what this wheel does not know yet.
    pub(crate) fn of(progress: Progress<'_>) -> Option<Self> {
        Some(match progress {
            Progress::Begin { phase, total } => Told::Begin { phase: phase.trim().to_owned(), total },
            Progress::Advance => Told::Advance,
            Progress::Step { step, loss, accuracy } => Told::Step { step, loss, accuracy },
            Progress::End => Told::End,
            Progress::Planned(forecast) => Told::Planned(Box::new(*forecast)),
            Progress::Note(text) => Told::Note(in_python(text)),
            Progress::Warning(text) => Told::Warning(in_python(text)),
            _ => return None,
        })
    }
}

/// Who listens to work.
pub(crate) struct Listener {
    callback: Option<Py<PyAny>>,
    /// The callback is our own bar: warnings go to `warnings`, as where nobody listens.
    is_bar: bool,
    phase: String,
    done: u64,
    total: u64,
}

impl Listener {
    /// The `callback`; or else, where `progress` is wanted and stderr is a terminal, a bar; or else nobody.
    pub(crate) fn new(py: Python<'_>, callback: Option<Bound<'_, PyAny>>, progress: bool) -> PyResult<Self> {
        let is_bar = callback.is_none();
        let callback = match callback {
            None if progress => py.import("srlora._bar")?.call_method0("on_terminal")?,
            None => py.None().into_bound(py),
            Some(callback) => callback,
        };
        let callback = (!callback.is_none()).then(|| callback.unbind());
        Ok(Listener { callback, is_bar, phase: String::new(), done: 0, total: 0 })
    }

    /// Whether anybody wants more than warnings.
    pub(crate) fn is_there(&self) -> bool {
        self.callback.is_some()
    }

    /// Tells it; whether the work is to go on.
    ///
    /// # Errors
    /// What the callback raises, and warnings that are made errors.
    pub(crate) fn hear(&mut self, py: Python<'_>, told: Told) -> PyResult<Flow> {
        if let (Told::Warning(text), true) = (&told, self.is_bar) {
            self.pause(py)?;
            return warn(py, text).map(|()| Flow::GoOn);
        }
        let Some(callback) = self.callback.as_ref().map(|callback| callback.clone_ref(py)) else {
            return Ok(Flow::GoOn);
        };
        let event = self.event(py, told)?;
        let answer = callback.bind(py).call1((event,))?;
        // Nothing else stops it: a callback that ends without `return` answers None.
        let stops = answer.extract::<bool>().is_ok_and(|goes_on| !goes_on);
        Ok(if stops { Flow::Stop } else { Flow::GoOn })
    }

    fn event<'py>(&mut self, py: Python<'py>, told: Told) -> PyResult<Bound<'py, PyDict>> {
        let event = PyDict::new(py);
        let name = match &told {
            Told::Begin { .. } => "begin",
            Told::Advance => "advance",
            Told::Step { .. } => "step",
            Told::End => "end",
            Told::Planned(_) => "planned",
            Told::Note(_) => "note",
            Told::Warning(_) => "warning",
        };
        event.set_item("event", name)?;
        match told {
            Told::Begin { phase, total } => {
                (self.phase, self.done, self.total) = (phase, 0, total);
                event.set_item("phase", &self.phase)?;
                event.set_item("total", total)?;
            }
            Told::Advance => {
                self.done += 1;
                event.set_item("phase", &self.phase)?;
                event.set_item("done", self.done)?;
                event.set_item("total", self.total)?;
            }
            Told::Step { step, loss, accuracy } => {
                event.set_item("step", step)?;
                event.set_item("loss", loss)?;
                event.set_item("accuracy", accuracy)?;
            }
            Told::End => event.set_item("phase", &self.phase)?,
            Told::Planned(forecast) => event.set_item("forecast", answer(py, &*forecast)?)?,
            Told::Note(text) | Told::Warning(text) => event.set_item("text", text)?,
        }
        Ok(event)
    }

    /// A bar leaves its line to others.
    pub(crate) fn pause(&self, py: Python<'_>) -> PyResult<()> {
        match &self.callback {
            Some(bar) if self.is_bar => bar.call_method0(py, "clear").map(drop),
            _ => Ok(()),
        }
    }
}

/// Gives `text` to Python's `warnings`, as a warning of the line that has called us.
pub(crate) fn warn(py: Python<'_>, text: &str) -> PyResult<()> {
    let category = py.import("srlora._errors")?.getattr("SrloraWarning")?;
    // A name may hold anything but what ends a text in C.
    let text = CString::new(text.replace('\0', "\\0")).unwrap_or_default();
    PyErr::warn(py, &category, &text, 1)
}
