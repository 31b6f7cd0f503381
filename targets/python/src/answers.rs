//! What the library answers, as plain dicts, lists, strings and numbers.

use pyo3::prelude::*;
use serde::Serialize;
use srlora::{Error, ErrorKind};

use crate::errors::fault;

/// The value that Python reads from what the program prints with `--json`.
pub(crate) fn answer<'py>(py: Python<'py>, value: &impl Serialize) -> PyResult<Bound<'py, PyAny>> {
    let json = serde_json::to_string(value).map_err(|e| fault(Error::new(ErrorKind::Internal, "the answer", e)))?;
    py.import("json")?.call_method1("loads", (json,))
}
