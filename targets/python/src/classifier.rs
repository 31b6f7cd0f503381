//! Images in, classes, probabilities and features out.

use std::sync::{Mutex, PoisonError};

use numpy::{PyArray1, PyArrayMethods};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};
use srlora::bundle::Bundle;
use srlora::session::{self, Picture, Prediction};

use crate::arguments::path;
use crate::bundle::opened;
use crate::errors::fault;
use crate::events::warn;
use crate::images::{is_one, picture};
use crate::store::Store;

/// A bundle, with or without a store, ready to classify.
///
/// `bundle` is a path or a `Bundle`, `store` a path or a `Store`. Without a store, the model's own classifier answers.
///
/// An image is a path, the bytes of a JPEG or PNG, or a uint8 array of height x width x 3 (red, green, blue) or height x width (grey),
/// with any strides. Wherever one image is taken, an iterable of them is taken as well. Calls from several threads take turns.
///
/// Raises `MismatchError` for a store of another bundle, or a bundle without labels and no store.
#[pyclass(frozen, module = "srlora")]
pub(crate) struct Classifier {
    own: Mutex<session::Classifier>,
    classes: Vec<String>,
    features: usize,
}

#[pymethods]
impl Classifier {
    #[new]
    #[pyo3(signature = (bundle, store=None))]
    fn new(bundle: &Bound<'_, PyAny>, store: Option<&Bound<'_, PyAny>>) -> PyResult<Self> {
        let py = bundle.py();
        let bundle = opened(bundle)?;
        let with = |store: Option<&session::Store>| py.detach(|| made(&bundle, store));
        let own = match store {
            None => with(None)?,
            Some(store) => match store.cast::<Store>() {
                Ok(store) => store.get().read(|store| with(Some(store)))?,
                Err(_) => {
                    let path = path("store", store)?;
                    let store = py.detach(|| session::Store::open(&path)).map_err(fault)?;
                    store.warning().map_or(Ok(()), |warning| warn(py, &warning))?;
                    with(Some(&store))?
                }
            },
        };
        Ok(Classifier { classes: own.classes().to_vec(), features: bundle.feature_dim, own: Mutex::new(own) })
    }

    /// The names of the classes, in the order of the columns of `predict_proba`.
    #[getter]
    fn classes_(&self) -> Vec<String> {
        self.classes.clone()
    }

    /// Whether photos have shown what is like none of the classes.
    #[getter]
    fn tells_unknown(&self, py: Python<'_>) -> bool {
        py.detach(|| self.own.lock().unwrap_or_else(PoisonError::into_inner).tells_unknown())
    }

    /// The `top` likeliest classes of an image, each with its probability, the best first; of several images a list of such lists.
    ///
    /// Raises `ImageError` where an image cannot be read.
    #[pyo3(signature = (images, top=5))]
    fn predict<'py>(&self, images: &Bound<'py, PyAny>, top: usize) -> PyResult<Bound<'py, PyAny>> {
        let guesses = |prediction: Prediction| -> Vec<(String, f32)> {
            prediction.top.into_iter().map(|guess| (guess.label, guess.probability)).collect()
        };
        let one = |value: &Bound<'py, PyAny>, name: &str| -> PyResult<Bound<'py, PyAny>> {
            let prediction = self.ask(value, name, move |own, picture| own.predict(picture, top))?;
            guesses(prediction).into_pyobject(value.py())
        };
        each(images, one)
    }

    /// All that is known of an image: a dict with `path`, `top`, `confidence`, `unknown` and `ms`, as of `srlora predict --json`; of
    /// several images a list of such dicts.
    ///
    /// `unknown` says whether the image is like none of the classes, and is None where no photo has shown what is.
    ///
    /// Raises `ImageError` where an image cannot be read.
    #[pyo3(signature = (images, top=5))]
    fn examine<'py>(&self, images: &Bound<'py, PyAny>, top: usize) -> PyResult<Bound<'py, PyAny>> {
        let one = |value: &Bound<'py, PyAny>, name: &str| -> PyResult<Bound<'py, PyAny>> {
            let prediction = self.ask(value, name, move |own, picture| own.predict(picture, top))?;
            describe(value.py(), prediction).map(Bound::into_any)
        };
        each(images, one)
    }

    /// How likely each class is, as float32: of one image an array of `len(classes_)`, of n images one of n x `len(classes_)`.
    ///
    /// Raises `ImageError` where an image cannot be read.
    fn predict_proba<'py>(&self, images: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        self.rows(images, self.classes.len(), session::Classifier::probabilities)
    }

    /// The features that the head reads, as float32: of one image an array of the bundle's `feature_dim`, of n images n rows.
    ///
    /// Raises `ImageError` where an image cannot be read, `UsageError` without a store.
    fn embed<'py>(&self, images: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        self.rows(images, self.features, session::Classifier::embed)
    }

    fn __repr__(&self) -> String {
        format!("<srlora.Classifier of {} classes>", self.classes.len())
    }
}

impl Classifier {
    /// Asks about one image, without the interpreter's lock.
    fn ask<R: Send>(
        &self,
        value: &Bound<'_, PyAny>,
        name: &str,
        act: impl FnOnce(&mut session::Classifier, Picture) -> srlora::Result<R> + Send,
    ) -> PyResult<R> {
        let picture = picture(value, name)?;
        let asked = value.py().detach(|| act(&mut self.own.lock().unwrap_or_else(PoisonError::into_inner), picture));
        asked.map_err(fault)
    }

    /// A row of `width` numbers for each image, in one array.
    fn rows<'py>(
        &self,
        images: &Bound<'py, PyAny>,
        width: usize,
        act: impl Fn(&mut session::Classifier, Picture) -> srlora::Result<Vec<f32>> + Send + Sync + Copy,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = images.py();
        if is_one(images) {
            let row = self.ask(images, ONE, act)?;
            return Ok(PyArray1::from_vec(py, row).into_any());
        }
        let (mut all, mut count) = (Vec::new(), 0);
        for image in images.try_iter()? {
            all.extend(self.ask(&image?, &nth(count), act)?);
            count += 1;
            py.check_signals()?;
        }
        Ok(PyArray1::from_vec(py, all).reshape([count, width])?.into_any())
    }
}

/// What messages call an image that came alone.
const ONE: &str = "the image";

/// And one of several.
pub(crate) fn nth(number: usize) -> String {
    format!("image {number}")
}

/// What `one` makes of an image, or a list of what it makes of each.
fn each<'py>(
    images: &Bound<'py, PyAny>,
    one: impl Fn(&Bound<'py, PyAny>, &str) -> PyResult<Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    if is_one(images) {
        return one(images, ONE);
    }
    let list = PyList::empty(images.py());
    for (number, image) in images.try_iter()?.enumerate() {
        list.append(one(&image?, &nth(number))?)?;
        images.py().check_signals()?;
    }
    Ok(list.into_any())
}

fn describe(py: Python<'_>, prediction: Prediction) -> PyResult<Bound<'_, PyDict>> {
    let Prediction { path, top, confidence, unknown, ms } = prediction;
    let guesses = PyList::empty(py);
    for guess in top {
        let dict = PyDict::new(py);
        dict.set_item("label", guess.label)?;
        dict.set_item("probability", guess.probability)?;
        guesses.append(dict)?;
    }
    let dict = PyDict::new(py);
    dict.set_item("path", path)?;
    dict.set_item("top", guesses)?;
    dict.set_item("confidence", confidence)?;
    dict.set_item("unknown", unknown)?;
    dict.set_item("ms", ms)?;
    Ok(dict)
}

fn made(bundle: &Bundle, store: Option<&session::Store>) -> PyResult<session::Classifier> {
    session::Classifier::new(bundle, store).map_err(fault)
}
