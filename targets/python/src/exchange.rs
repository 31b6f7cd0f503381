//! What was learned in the files of others, and accuracy over many photos.

use std::path::PathBuf;

use pyo3::prelude::*;
use pyo3::types::PyDict;
use srlora::bundle::Bundle;
use srlora::export::{OnnxRequest, export_onnx as to_onnx};
use srlora::peft::{ImportRequest, Naming, PeftRank, PeftRequest, export_peft as to_peft, import_peft as of_peft};
use srlora::session::{self, Dataset, EvalRequest, Flow, Progress, Stop};

use crate::answers::answer;
use crate::arguments::{Keywords, path};
use crate::bundle::{PRECISIONS, opened};
use crate::errors::{fault, in_python, refuse};
use crate::events::{Listener, warn};
use crate::lesson::album;
use crate::store::Store;
use crate::worker::Worker;

/// The folder of a store that is given as such or as a path: it is opened anew, as it is now.
pub(crate) fn folder(store: &Bound<'_, PyAny>) -> PyResult<PathBuf> {
    match store.cast::<Store>() {
        Ok(store) => Ok(store.get().folder().to_path_buf()),
        Err(_) => path("store", store),
    }
}

/// Write the network with what a store has learned as one ONNX file: `srlora export --onnx`.
///
/// `output` must not exist yet. `precision` is `keep`, `fp32`, `fp16` or `int8`. With `with_preprocessing=True` the file takes the bytes
/// of an image and gives probabilities. `photos` is a folder of photos that the file is checked with; by default it is noise.
/// `callback` and `progress` are those of `train`.
///
/// Answers the dict of `srlora export --json`, a `srlora.types.ExportReport`.
///
/// Raises `ExistsError`, `MismatchError`, `ModelError` or `CheckError`; nothing has been written then.
#[pyfunction]
#[pyo3(signature = (bundle, store, output, *, callback=None, progress=true, **settings))]
pub(crate) fn export_onnx<'py>(
    bundle: &Bound<'py, PyAny>,
    store: &Bound<'py, PyAny>,
    output: PathBuf,
    callback: Option<Bound<'py, PyAny>>,
    progress: bool,
    settings: Option<&Bound<'py, PyDict>>,
) -> PyResult<Bound<'py, PyAny>> {
    let (py, mut given) = (bundle.py(), Keywords::of("export_onnx", settings)?);
    let request = OnnxRequest {
        output,
        precision: given.choose("precision", &PRECISIONS)?.unwrap_or(srlora::backbone::Precision::Keep),
        with_preprocessing: given.take("with_preprocessing")?.unwrap_or(false),
        photos: photos(&mut given)?,
    };
    given.finish()?;
    let report = exported(bundle, store, (callback, progress), move |bundle, store, observer| {
        to_onnx(bundle, store, &request, &mut |progress: Progress<'_>| observer(progress))
    })?;
    tell(py, report.warnings())?;
    answer(py, &report)
}

/// Write what a store has learned as an adapter for PyTorch's PEFT: `srlora export --peft`.
///
/// `output` is the folder to make. `rank` is `"exact"`, a number of pairs, or a share of what was learned, for instance 0.99. `torch` is a
/// safetensors file with the network's weights in PyTorch, `map` a TOML file that names modules. `photos`, `callback` and `progress` are
/// those of `export_onnx`.
///
/// Answers the dict of `srlora export --json`, a `srlora.types.PeftReport`.
///
/// Raises `ExistsError`, `MismatchError`, `UsageError` or `CheckError`; nothing has been written then.
#[pyfunction]
#[pyo3(signature = (bundle, store, output, *, callback=None, progress=true, **settings))]
pub(crate) fn export_peft<'py>(
    bundle: &Bound<'py, PyAny>,
    store: &Bound<'py, PyAny>,
    output: PathBuf,
    callback: Option<Bound<'py, PyAny>>,
    progress: bool,
    settings: Option<&Bound<'py, PyDict>>,
) -> PyResult<Bound<'py, PyAny>> {
    let (py, mut given) = (bundle.py(), Keywords::of("export_peft", settings)?);
    let rank = match given.take::<Bound<'_, PyAny>>("rank")? {
        None => PeftRank::Exact,
        Some(rank) => rank.str()?.to_cow()?.parse().map_err(|message: String| refuse("rank", message))?,
    };
    let (naming, photos) = (naming(&mut given)?, photos(&mut given)?);
    let request = PeftRequest { output, rank, naming, photos };
    given.finish()?;
    let report = exported(bundle, store, (callback, progress), move |bundle, store, observer| {
        to_peft(bundle, store, &request, &mut |progress: Progress<'_>| observer(progress))
    })?;
    tell(py, report.warnings())?;
    answer(py, &report)
}

/// Make a store of an adapter that PyTorch's PEFT has trained on the same network: `srlora import`.
///
/// `peft` is the folder that `save_pretrained` wrote, `output` the store to make. `labels` is a file with the names of the classes, one a
/// line, where the folder does not name them. `torch` and `map` are those of `export_peft`.
///
/// Answers the dict of `srlora import --json`, a `srlora.types.ImportReport`.
///
/// Raises `ExistsError`, `MismatchError` or `UsageError`; nothing has been written then.
#[pyfunction]
#[pyo3(signature = (bundle, peft, output, **settings))]
pub(crate) fn import_peft<'py>(
    bundle: &Bound<'py, PyAny>,
    peft: PathBuf,
    output: PathBuf,
    settings: Option<&Bound<'py, PyDict>>,
) -> PyResult<Bound<'py, PyAny>> {
    let (py, mut given) = (bundle.py(), Keywords::of("import_peft", settings)?);
    let (labels, naming) = (given.take("labels")?, naming(&mut given)?);
    let request = ImportRequest { peft, output, labels, naming };
    given.finish()?;
    let bundle = opened(bundle)?;
    let report = py.detach(|| of_peft(&bundle, &request)).map_err(fault)?;
    tell(py, report.warnings())?;
    answer(py, &report)
}

/// Measure accuracy over many photos, by class: `srlora eval`.
///
/// `data` and `labels` are those of `train`, with the classes of the store; without a store, the model's own classifier answers.
/// `mistakes` is how many wrong guesses are listed, `unknown` a folder of photos that show none of the classes. `callback` and
/// `progress` are those of `train`.
///
/// Answers the dict of `srlora eval --json`, a `srlora.types.Evaluation`.
///
/// Raises `DataError` or `MismatchError`; `Stopped` where the callback has stopped it.
#[pyfunction]
#[pyo3(signature = (bundle, data, store=None, *, callback=None, progress=true, **settings))]
pub(crate) fn evaluate<'py>(
    bundle: &Bound<'py, PyAny>,
    data: &Bound<'py, PyAny>,
    store: Option<&Bound<'py, PyAny>>,
    callback: Option<Bound<'py, PyAny>>,
    progress: bool,
    settings: Option<&Bound<'py, PyDict>>,
) -> PyResult<Bound<'py, PyAny>> {
    let (py, mut given) = (bundle.py(), Keywords::of("evaluate", settings)?);
    let labels = given.take("labels")?;
    let (mistakes, unknown) = (given.take("mistakes")?.unwrap_or(0), listed(&mut given, "unknown")?);
    given.finish()?;
    let (album, request) = (album("data", data, labels.as_ref())?, EvalRequest { mistakes, unknown });
    let (bundle, store) = (opened(bundle)?, store.map(folder).transpose()?);
    let evaluation = watched(py, callback, progress, move |observer| {
        let store = store.as_deref().map(session::Store::open).transpose()?;
        store.iter().for_each(|store| tell_damage(store, observer));
        let observer = &mut |progress: Progress<'_>| observer(progress);
        session::evaluate(&bundle, store.as_ref(), &album.open()?, &request, observer)
    })?;
    answer(py, &evaluation)
}

/// Has `work` done that tells of itself and that can be stopped.
fn watched<R: Send + 'static>(
    py: Python<'_>,
    callback: Option<Bound<'_, PyAny>>,
    progress: bool,
    work: impl FnOnce(&mut dyn FnMut(Progress<'_>) -> Flow) -> srlora::Result<R> + Send + 'static,
) -> PyResult<R> {
    let (mut listener, stop) = (Listener::new(py, callback, progress)?, Stop::default());
    let seen = stop.clone();
    Worker::<()>::start()?.ask(py, &mut listener, &stop, move |(), observer| {
        work(&mut |progress| if seen.is_set() { Flow::Stop } else { observer(progress) })
    })
}

/// What `work` makes of a bundle and a store, on a thread of its own.
fn exported<R: Send + 'static>(
    bundle: &Bound<'_, PyAny>,
    store: &Bound<'_, PyAny>,
    (callback, progress): (Option<Bound<'_, PyAny>>, bool),
    work: impl FnOnce(&Bundle, &session::Store, &mut dyn FnMut(Progress<'_>) -> Flow) -> srlora::Result<R> + Send + 'static,
) -> PyResult<R> {
    let (py, opened, store) = (bundle.py(), opened(bundle)?, folder(store)?);
    watched(py, callback, progress, move |observer| {
        let store = session::Store::open(&store)?;
        tell_damage(&store, observer);
        work(&opened, &store, observer)
    })
}

/// That the newest generation was passed over.
fn tell_damage(store: &session::Store, observer: &mut dyn FnMut(Progress<'_>) -> Flow) {
    if let Some(warning) = store.warning() {
        observer(Progress::Warning(&warning));
    }
}

fn tell(py: Python<'_>, warnings: impl IntoIterator<Item = String>) -> PyResult<()> {
    warnings.into_iter().try_for_each(|warning| warn(py, &in_python(&warning)))
}

fn photos(given: &mut Keywords) -> PyResult<Option<Dataset>> {
    listed(given, "photos")
}

/// The photos of a folder, whatever their classes.
fn listed(given: &mut Keywords, name: &'static str) -> PyResult<Option<Dataset>> {
    let folder = given.take::<PathBuf>(name)?;
    folder.as_deref().map(Dataset::flat).transpose().map_err(fault)
}

fn naming(given: &mut Keywords) -> PyResult<Naming> {
    Ok(Naming { torch: given.take("torch")?, map: given.take("map")? })
}
