//! What ships: `pack`, an opened bundle, and what a bundle or a store holds.

use std::path::PathBuf;
use std::sync::Arc;

use pyo3::prelude::*;
use pyo3::types::PyDict;
use srlora::backbone::Precision;
use srlora::bundle::{self, Fit, PRESETS, PackRequest, Preprocess, Preset, Trust};

use crate::answers::answer;
use crate::arguments::{Keywords, path};
use crate::errors::{fault, in_python, refuse};
use crate::events::warn;

/// Names of [`Precision`].
pub(crate) const PRECISIONS: [(&str, Precision); 4] =
    [("keep", Precision::Keep), ("fp32", Precision::Fp32), ("fp16", Precision::Fp16), ("int8", Precision::Int8)];

/// An opened bundle: the frozen network, its preprocessing, and the directions along which it can learn.
///
/// Whatever takes a bundle also takes a path. Open it once where it is used several times, or where it has to be signed:
/// `verify_key` is the owner's Ed25519 public key, a PEM file; with `min_release`, earlier releases are refused.
///
/// Raises `IoError` or `BundleError`, naming the file.
#[pyclass(frozen, module = "srlora")]
pub(crate) struct Bundle(pub(crate) Arc<bundle::Bundle>);

#[pymethods]
impl Bundle {
    #[new]
    #[pyo3(signature = (path, *, verify_key=None, min_release=None))]
    fn new(py: Python<'_>, path: PathBuf, verify_key: Option<PathBuf>, min_release: Option<u64>) -> PyResult<Self> {
        let open = || match trust(verify_key, min_release)? {
            Some(trust) => bundle::Bundle::open_trusted(&path, &trust).map_err(fault),
            None => bundle::Bundle::open(&path).map_err(fault),
        };
        py.detach(open).map(|bundle| Bundle(Arc::new(bundle)))
    }

    /// Where it was read from.
    #[getter]
    fn path(&self) -> String {
        self.0.path.display().to_string()
    }

    /// The model's own classes, where they were given to `pack`.
    #[getter]
    fn labels(&self) -> Option<Vec<String>> {
        self.0.labels.clone()
    }

    /// The names of its sites, the layers that learn.
    #[getter]
    fn sites(&self) -> Vec<String> {
        self.0.sites.iter().map(|site| site.name.clone()).collect()
    }

    /// Pairs per site.
    #[getter]
    fn rank(&self) -> usize {
        self.0.rank
    }

    /// Length of an image's feature vector.
    #[getter]
    fn feature_dim(&self) -> usize {
        self.0.feature_dim
    }

    /// Height and width of the network's input.
    #[getter]
    fn input(&self) -> (usize, usize) {
        (self.0.preprocess.height, self.0.preprocess.width)
    }

    /// Precision of the frozen weights: `fp32`, `fp16` or `int8`.
    #[getter]
    fn precision(&self) -> &str {
        &self.0.precision
    }

    /// The sha256 over all that it holds, in lowercase hex.
    #[getter]
    fn sha256(&self) -> &str {
        &self.0.content_sha256
    }

    /// The release that it was packed with.
    #[getter]
    fn release(&self) -> Option<u64> {
        self.0.release
    }

    fn __repr__(&self) -> String {
        format!("<srlora.Bundle {:?}, {} sites of rank {}>", self.path(), self.0.sites.len(), self.0.rank)
    }
}

/// An opened bundle, or the one at a path.
pub(crate) fn opened(bundle: &Bound<'_, PyAny>) -> PyResult<Arc<bundle::Bundle>> {
    if let Ok(bundle) = bundle.cast::<Bundle>() {
        return Ok(bundle.get().0.clone());
    }
    let path = path("bundle", bundle)?;
    bundle.py().detach(|| bundle::Bundle::open(&path)).map(Arc::new).map_err(fault)
}

fn trust(verify_key: Option<PathBuf>, min_release: Option<u64>) -> PyResult<Option<Trust>> {
    match (verify_key, min_release) {
        (Some(key), release) => Trust::read(&key, release.unwrap_or(0)).map(Some).map_err(fault),
        (None, Some(_)) => Err(refuse("min_release", "is believed of signed bundles only; give option `verify_key`")),
        (None, None) => Ok(None),
    }
}

/// Make a bundle from an ONNX classifier: `srlora pack`.
///
/// `model` is the ONNX file, `output` the bundle to write, which must not exist yet. `preset` names the preprocessing that the model
/// was trained with: `torchvision`, `timm-inception`, `raw` or `unit`; `fit` (`crop` or `stretch`), `range` (1 or 255), `mean` and
/// `std` (one number or three) override it.
///
/// Answers the dict of `srlora pack --json`, a `srlora.types.PackReport`. Its warnings are given to `warnings`, too.
///
/// Raises `ExistsError`, `ModelError`, `UsageError`, `SitesError`, `UnsupportedOpError` or `CheckError`; nothing has been written then.
#[pyfunction]
#[pyo3(signature = (model, output, **settings))]
pub(crate) fn pack<'py>(
    py: Python<'py>,
    model: PathBuf,
    output: PathBuf,
    settings: Option<&Bound<'py, PyDict>>,
) -> PyResult<Bound<'py, PyAny>> {
    let mut given = Keywords::of("pack", settings)?;
    let default = PackRequest::new(model, output);
    let (preprocess, is_said) = preprocess(&mut given)?;
    let request = PackRequest {
        rank: given.take("rank")?.unwrap_or(default.rank),
        reserve: given.take("reserve")?.unwrap_or(default.reserve),
        sites: given.take("sites")?.unwrap_or(default.sites),
        features: given.take("features")?,
        labels: given.take("labels")?,
        size: given.take::<(usize, usize)>("input")?.map(|(height, width)| [height, width]),
        preprocess,
        precision: given.choose("precision", &PRECISIONS)?.unwrap_or(default.precision),
        sign: given.take("sign")?,
        release: given.take("release")?,
        ..default
    };
    given.finish()?;
    let mut report = py.detach(|| bundle::pack(&request, |_| ())).map_err(fault)?;
    if !is_said {
        report.warn_unsaid();
    }
    let texts = report.notes.iter_mut().chain(&mut report.warnings);
    texts.for_each(|text| *text = in_python(text));
    report.warnings.iter().try_for_each(|warning| warn(py, warning))?;
    answer(py, &report)
}

/// The preset's values, or the defaults, but for what has an argument of its own; and whether anybody has said which values the
/// network was trained on.
fn preprocess(given: &mut Keywords) -> PyResult<(Preprocess, bool)> {
    let presets: Vec<(&str, &Preset)> = PRESETS.iter().map(|preset| (preset.name, preset)).collect();
    let preset = given.choose("preset", &presets)?;
    let fit = given.choose("fit", &[("crop", Fit::Crop), ("stretch", Fit::Stretch)])?;
    let range = given.take::<f32>("range")?;
    if let Some(range) = range.filter(|range| ![1.0, 255.0].contains(range)) {
        return Err(refuse("range", format_args!("is {range}; it is 1 or 255")));
    }
    let [mean, std] = [channels(given, "mean")?, channels(given, "std")?];
    let is_said = preset.is_some() || range.is_some() || mean.is_some() || std.is_some();
    let base = preset.map_or_else(Preprocess::default, Preset::preprocess);
    let preprocess = Preprocess {
        fit: fit.unwrap_or(base.fit),
        range: range.unwrap_or(base.range),
        mean: mean.unwrap_or(base.mean),
        std: std.unwrap_or(base.std),
        ..base
    };
    Ok((preprocess, is_said))
}

/// One number for all channels, or one for each.
#[derive(FromPyObject)]
enum Channels {
    All(f32),
    Each([f32; 3]),
}

fn channels(given: &mut Keywords, name: &'static str) -> PyResult<Option<[f32; 3]>> {
    Ok(given.take::<Channels>(name)?.map(|channels| match channels {
        Channels::All(value) => [value; 3],
        Channels::Each(values) => values,
    }))
}

/// What a bundle or a store holds: `srlora inspect`.
///
/// Answers the dict of `srlora inspect --json`, a `srlora.types.Inspection`. `verify_key` and `min_release` are those of `Bundle`.
///
/// Raises `IoError`, `BundleError` or `StoreError`, naming the file.
#[pyfunction]
#[pyo3(signature = (path, *, verify_key=None, min_release=None))]
pub(crate) fn inspect(
    py: Python<'_>,
    path: PathBuf,
    verify_key: Option<PathBuf>,
    min_release: Option<u64>,
) -> PyResult<Bound<'_, PyAny>> {
    let trust = trust(verify_key, min_release)?;
    let mut found = py.detach(|| srlora::session::inspect(&path, trust.as_ref())).map_err(fault)?;
    found.warning = found.warning.as_deref().map(in_python);
    answer(py, &found)
}
