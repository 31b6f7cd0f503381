//! What was trained, as arrays that devices of a fleet exchange: out of a store, and into one.

use std::path::PathBuf;

use numpy::ndarray::{ArrayD, IxDyn};
use numpy::{PyArrayDyn, PyArrayMethods};
use pyo3::exceptions::{PyKeyError, PyTypeError};
use pyo3::prelude::*;
use pyo3::types::PyDict;
use srlora::fleet::{self, NamedArray, Trained};
use srlora::session::{self, Dataset};
use srlora::{Error, ErrorKind};

use crate::answers::answer;
use crate::bundle::opened;
use crate::errors::{fault, refuse};
use crate::events::warn;
use crate::exchange::folder;
use crate::lesson::album;

/// What a store's current generation has trained, as arrays with names.
///
/// Answers a dict, a `srlora.types.Trained`: `bundle_sha256`, `classes`, and `arrays`, float32 by key. `<site>/b` is out_dim x pairs;
/// `<site>/a`, pairs x in_dim, is there where A was trained; `<site>/delta`, out_dim x in_dim, where the delta holds something;
/// `head/weight` is classes x features and `head/bias` has a number for each class. A site's weight becomes W + delta + b a.
///
/// Raises `MismatchError` for a store of another bundle, and where pairs lie along directions that other devices do not have: train with
/// `pairs="one-sided"`, `directions="shipped"`.
#[pyfunction]
pub(crate) fn trained<'py>(bundle: &Bound<'py, PyAny>, store: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyDict>> {
    let (py, bundle, store) = (bundle.py(), opened(bundle)?, folder(store)?);
    let read =
        || session::Store::open(&store).and_then(|store| Ok((store.warning(), fleet::trained(&bundle, &store)?)));
    let (warning, trained) = py.detach(read).map_err(fault)?;
    warning.map_or(Ok(()), |warning| warn(py, &warning))?;
    let arrays = PyDict::new(py);
    for NamedArray { key, shape, values } in trained.arrays {
        let told = |e| fault(Error::new(ErrorKind::Internal, &key, e));
        let array = ArrayD::from_shape_vec(IxDyn(&shape), values).map_err(told)?;
        arrays.set_item(&key, PyArrayDyn::from_owned_array(py, array))?;
    }
    let answer = PyDict::new(py);
    answer.set_item("bundle_sha256", trained.bundle_sha256)?;
    answer.set_item("classes", trained.classes)?;
    answer.set_item("arrays", arrays)?;
    Ok(answer)
}

/// Make arrays the next generation of a store, or the first one of a new store.
///
/// `trained` is what `trained` answers. In a store that is there it is tried on the photos `val`, with their `val_labels`, or a folder with a
/// folder for each class: the store as it was against the store with the arrays, on photos of the classes that it knew. Where the arrays are
/// worse they are kept aside. A lesson under way is let go.
///
/// Answers a dict, a `srlora.types.Adopted`.
///
/// Raises `MismatchError`, which names the array: one that is missing, not finite, of another shape, or of no site; the classes; or the
/// bundle. `BusyError`, `StoreError`, `IoError`. The store is as it was then.
#[pyfunction]
#[pyo3(signature = (bundle, trained, store, *, val=None, val_labels=None))]
pub(crate) fn adopt<'py>(
    bundle: &Bound<'py, PyAny>,
    trained: &Bound<'py, PyAny>,
    store: PathBuf,
    val: Option<Bound<'py, PyAny>>,
    val_labels: Option<Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    let py = bundle.py();
    let (bundle, trained) = (opened(bundle)?, arrays_of(trained)?);
    let held_back = match (val, val_labels) {
        (Some(val), labels) => Some(album("val", &val, labels.as_ref())?),
        (None, None) => None,
        (None, Some(_)) => return Err(refuse("val_labels", "are the classes of option `val`, which is not given")),
    };
    let work = || {
        let held_back = held_back.map_or_else(|| Ok(Dataset::default()), |album| album.open())?;
        fleet::adopt(&bundle, trained, store, &held_back)
    };
    let adopted = py.detach(work).map_err(fault)?;
    let let_go = |step| warn(py, &format!("a lesson under way, after step {step}, is let go"));
    adopted.let_go.map_or(Ok(()), let_go)?;
    answer(py, &adopted)
}

/// The arrays of a dict.
fn arrays_of(trained: &Bound<'_, PyAny>) -> PyResult<Trained> {
    let wrong = |what: &str| PyTypeError::new_err(format!("`trained` is {what}; it is what `srlora.trained` answers"));
    let trained = trained.cast::<PyDict>().map_err(|_| wrong("no dict"))?;
    let entry =
        |name: &str| trained.get_item(name)?.ok_or_else(|| PyKeyError::new_err(format!("`trained` has no '{name}'")));
    let given = entry("arrays")?;
    let given = given.cast::<PyDict>().map_err(|_| wrong("a dict whose 'arrays' is no dict"))?;
    let mut arrays = Vec::with_capacity(given.len());
    for (key, array) in given {
        let key: String = key.extract()?;
        let floats = array.cast::<PyArrayDyn<f32>>().map_err(|_| {
            PyTypeError::new_err(format!("the array '{key}' is {}; it is a numpy array of float32", array.get_type()))
        })?;
        let view = floats.try_readonly().map_err(|e| PyTypeError::new_err(format!("the array '{key}': {e}")))?;
        let view = view.as_array();
        arrays.push(NamedArray { key, shape: view.shape().to_vec(), values: view.iter().copied().collect() });
    }
    Ok(Trained { bundle_sha256: entry("bundle_sha256")?.extract()?, classes: entry("classes")?.extract()?, arrays })
}
