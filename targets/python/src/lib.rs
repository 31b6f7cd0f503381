//! srlora for Python: the functions and classes that `python/srlora` gives out.
//!
//! ```text
//! errors      an error of the library as a Python exception, options named as arguments
//! answers     what the library answers, as plain dicts
//! arguments   keyword arguments as settings
//! images      paths, bytes and arrays as pictures
//! events      what work tells, to a callback, a bar or `warnings`
//! worker      a thread that works while the caller's looks after Ctrl-C
//! bundle      pack, Bundle, inspect
//! classifier  Classifier
//! lesson      the settings of a lesson, and its photos
//! trainer     train, plan, Trainer
//! store       Store
//! exchange    export, import, evaluate
//! fleet       what was trained, as arrays
//! ```
//!
//! Whatever takes long runs without the interpreter's lock. Nothing is written to the standard streams, no signal handler is installed,
//! and the allocator is the interpreter's own.

mod answers;
mod arguments;
mod bundle;
mod classifier;
mod errors;
mod events;
mod exchange;
mod fleet;
mod images;
mod lesson;
mod store;
mod trainer;
mod worker;

use pyo3::prelude::*;

/// The native part of srlora.
#[pymodule(gil_used = true)]
mod _native {
    #[pymodule_export]
    use super::bundle::{Bundle, inspect, pack};
    #[pymodule_export]
    use super::classifier::Classifier;
    #[pymodule_export]
    use super::exchange::{evaluate, export_onnx, export_peft, import_peft};
    #[pymodule_export]
    use super::fleet::{adopt, trained};
    #[pymodule_export]
    use super::store::Store;
    #[pymodule_export]
    use super::trainer::{Trainer, plan, train};

    use super::*;

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        module.add("__version__", env!("CARGO_PKG_VERSION"))
    }
}
