//! An error of the library as a Python exception: a class for each kind, the sentence of the program, options named as arguments.

use pyo3::prelude::*;
use srlora::{Error, ErrorKind, with_options};

/// The name of the exception's class in `srlora._errors`.
fn class(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::Usage => "UsageError",
        ErrorKind::Io => "IoError",
        ErrorKind::Unsynced => "UnsyncedError",
        ErrorKind::Exists => "ExistsError",
        ErrorKind::Model => "ModelError",
        ErrorKind::UnsupportedOp => "UnsupportedOpError",
        ErrorKind::Sites => "SitesError",
        ErrorKind::Check => "CheckError",
        ErrorKind::Bundle => "BundleError",
        ErrorKind::Store => "StoreError",
        ErrorKind::Mismatch => "MismatchError",
        ErrorKind::Data => "DataError",
        ErrorKind::Image => "ImageError",
        ErrorKind::Memory => "MemoryLimitError",
        ErrorKind::Device => "DeviceError",
        ErrorKind::Busy => "BusyError",
        ErrorKind::Stopped => "Stopped",
        ErrorKind::Diverged => "DivergedError",
        // A kind that this wheel does not know yet is no less an error.
        _ => "InternalError",
    }
}

/// `text` with options as Python's arguments. `from` is a word of the language, so the argument has another name.
pub(crate) fn in_python(text: &str) -> String {
    with_options(text, |name| match name {
        "from" => "`further=True`".to_owned(),
        "resume" => "`resume=True`".to_owned(),
        name => format!("`{name}`"),
    })
}

/// The exception that `error` is.
pub(crate) fn fault(error: Error) -> PyErr {
    Python::attach(|py| {
        let make = || -> PyResult<PyErr> {
            let class = py.import("srlora._errors")?.getattr(class(error.kind()))?;
            let exception = class.call1((in_python(&error.to_string()),))?;
            exception.setattr("subject", in_python(error.subject()))?;
            exception.setattr("message", in_python(error.message()))?;
            Ok(PyErr::from_value(exception))
        };
        make().unwrap_or_else(|broken| broken)
    })
}

/// Kind `Usage`: the argument `name` has a value that cannot be meant.
pub(crate) fn refuse(name: &str, message: impl std::fmt::Display) -> PyErr {
    fault(Error::new(ErrorKind::Usage, format_args!("option `{name}`"), message))
}
