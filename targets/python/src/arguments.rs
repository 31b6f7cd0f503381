//! Keyword arguments as settings: whatever was given is converted once, by name, and nothing that was given is passed over.

use std::path::PathBuf;

use pyo3::conversion::FromPyObjectOwned;
use pyo3::exceptions::{PyOverflowError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::errors::refuse;

/// A misspelt name is at most so unlike the right one, from 0 to 1.
const ALIKE: f64 = 0.7;

/// The keyword arguments of a call, each of which is taken once. None is as good as none given.
pub(crate) struct Keywords<'py> {
    function: &'static str,
    given: Option<Bound<'py, PyDict>>,
    known: Vec<&'static str>,
}

impl<'py> Keywords<'py> {
    pub(crate) fn of(function: &'static str, given: Option<&Bound<'py, PyDict>>) -> PyResult<Self> {
        Ok(Keywords { function, given: given.map(|given| given.copy()).transpose()?, known: Vec::new() })
    }

    /// The argument `name`, where it was given.
    ///
    /// # Errors
    /// `TypeError` for a value of another type, `UsageError` for a number that is out of range.
    pub(crate) fn take<T: FromPyObjectOwned<'py>>(&mut self, name: &'static str) -> PyResult<Option<T>> {
        self.known.push(name);
        let Some(given) = &self.given else { return Ok(None) };
        let Some(value) = given.get_item(name)? else { return Ok(None) };
        given.del_item(name)?;
        if value.is_none() {
            return Ok(None);
        }
        value.extract().map(Some).map_err(|error: T::Error| self.explain(name, &value, error.into()))
    }

    /// The argument `name`, one of `names`.
    pub(crate) fn choose<T: Copy>(&mut self, name: &'static str, names: &[(&str, T)]) -> PyResult<Option<T>> {
        self.take::<String>(name)?.map(|text| choose(name, &text, names)).transpose()
    }

    fn explain(&self, name: &str, value: &Bound<'py, PyAny>, error: PyErr) -> PyErr {
        let py = value.py();
        if error.is_instance_of::<PyOverflowError>(py) || error.is_instance_of::<PyValueError>(py) {
            return refuse(name, format_args!("{value} is not possible: {}", error.value(py)));
        }
        PyTypeError::new_err(format!("{}() argument '{name}': {}", self.function, error.value(py)))
    }

    /// # Errors
    /// `TypeError` where an argument is left that nobody has asked for.
    pub(crate) fn finish(self) -> PyResult<()> {
        let Some((name, _)) = self.given.as_ref().and_then(|given| given.iter().next()) else { return Ok(()) };
        let name = name.to_string();
        let likeness = |known: &&&str| strsim::jaro_winkler(known, &name);
        let nearest = self.known.iter().max_by(|a, b| likeness(a).total_cmp(&likeness(b)));
        let advice = nearest.filter(|known| likeness(known) > ALIKE);
        let advice = advice.map_or_else(String::new, |known| format!("; did you mean '{known}'?"));
        let function = self.function;
        Err(PyTypeError::new_err(format!("{function}() got an unexpected keyword argument '{name}'{advice}")))
    }
}

/// The value that goes by `text`.
pub(crate) fn choose<T: Copy>(name: &str, text: &str, names: &[(&str, T)]) -> PyResult<T> {
    names.iter().find(|(known, _)| *known == text).map(|(_, value)| *value).ok_or_else(|| {
        let known: Vec<String> = names.iter().map(|(known, _)| format!("'{known}'")).collect();
        refuse(name, format_args!("'{text}' is none of {}", known.join(", ")))
    })
}

/// A path: `str` or `os.PathLike`.
pub(crate) fn path(name: &str, value: &Bound<'_, PyAny>) -> PyResult<PathBuf> {
    value.extract().map_err(|_| {
        let kind = value.get_type();
        PyTypeError::new_err(format!("`{name}` is a path, a str or an os.PathLike, and not {kind}"))
    })
}
