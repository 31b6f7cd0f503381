//! What was learned: a store's generations, and how it changes without photos.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use pyo3::prelude::*;
use srlora::session::{self, StoreWriter};

use crate::answers::answer;
use crate::errors::fault;
use crate::events::warn;

/// A store that a lesson has made: numbered generations, of which the newest counts.
///
/// It holds nothing locked. `rollback` and `forget` lock the store for as long as they take.
///
/// Raises `IoError` where there is no such folder, `StoreError` where it holds no good generation.
#[pyclass(frozen, module = "srlora")]
pub(crate) struct Store {
    path: PathBuf,
    own: Mutex<session::Store>,
}

#[pymethods]
impl Store {
    #[new]
    fn new(py: Python<'_>, path: PathBuf) -> PyResult<Self> {
        let own = Mutex::new(open(py, &path)?);
        Ok(Store { path, own })
    }

    /// Its folder.
    #[getter]
    fn path(&self) -> String {
        self.path.display().to_string()
    }

    /// The number of the generation that counted when it was opened, or was last changed from here.
    #[getter]
    fn current(&self) -> u64 {
        self.read(session::Store::current)
    }

    /// The numbers of the generations that are there, the newest first: where a rollback can go.
    #[getter]
    fn generations(&self) -> PyResult<Vec<u64>> {
        let [generations, _] = self.read(session::Store::numbers).map_err(fault)?;
        Ok(generations)
    }

    /// The numbers of the lessons that were kept aside, the newest first. A rollback can take them all the same.
    #[getter]
    fn aside(&self) -> PyResult<Vec<u64>> {
        let [_, aside] = self.read(session::Store::numbers).map_err(fault)?;
        Ok(aside)
    }

    /// The names of the classes that it knows.
    #[getter]
    fn classes_(&self) -> PyResult<Vec<String>> {
        self.read(session::Store::record).map(|record| record.classes).map_err(fault)
    }

    /// What the current generation knows besides its numbers: the settings of its lesson, its trial, its classes.
    #[getter]
    fn record<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        answer(py, &self.read(session::Store::record).map_err(fault)?)
    }

    /// Take back the last lesson, or go back to generation `to`, or take the lesson that was kept aside under that number.
    ///
    /// What it holds becomes a new generation, so that this can be undone, too. Answers the number whose contents now count.
    ///
    /// Raises `UsageError` where there is no such generation or nothing to go back to, `BusyError` where another writer is at work.
    #[pyo3(signature = (to=None))]
    fn rollback(&self, py: Python<'_>, to: Option<u64>) -> PyResult<u64> {
        self.change(py, move |writer| writer.rollback(to))
    }

    /// Take a class out.
    ///
    /// It leaves the head, the class means and the examples. What the pairs have learned with it stays, and older generations still
    /// know it. This can be undone with `rollback`.
    ///
    /// Raises `UsageError` where there is no such class, or no other; `BusyError` where another writer is at work.
    fn forget(&self, py: Python<'_>, name: &str) -> PyResult<()> {
        self.change(py, move |writer| writer.forget(name))
    }

    fn __repr__(&self) -> String {
        format!("<srlora.Store {:?}, generation {}>", self.path(), self.current())
    }
}

impl Store {
    /// Its folder, as it was given.
    pub(crate) fn folder(&self) -> &Path {
        &self.path
    }

    /// Lets `act` read what was opened.
    pub(crate) fn read<R>(&self, act: impl FnOnce(&session::Store) -> R) -> R {
        act(&self.own.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Lets `act` change the store, and opens what came of it.
    fn change<R: Send>(
        &self,
        py: Python<'_>,
        act: impl FnOnce(&mut StoreWriter) -> srlora::Result<R> + Send,
    ) -> PyResult<R> {
        let work = || -> srlora::Result<_> {
            let mut writer = StoreWriter::open(&self.path)?;
            let (warning, under_way) = (writer.warning(), writer.steps_under_way()?);
            Ok((act(&mut writer)?, warning, under_way))
        };
        let (result, warning, under_way) = py.detach(work).map_err(fault)?;
        let own = py.detach(|| session::Store::open(&self.path)).map_err(fault)?;
        *self.own.lock().unwrap_or_else(PoisonError::into_inner) = own;
        warning.map_or(Ok(()), |warning| warn(py, &warning))?;
        let let_go = |step| warn(py, &format!("a lesson under way, after step {step}, is let go"));
        under_way.map_or(Ok(()), let_go)?;
        Ok(result)
    }
}

fn open(py: Python<'_>, path: &Path) -> PyResult<session::Store> {
    let store = py.detach(|| session::Store::open(path)).map_err(fault)?;
    store.warning().map_or(Ok(()), |warning| warn(py, &warning))?;
    Ok(store)
}
