//! Frames in; classes, probabilities and features out.

use std::ffi::{CString, c_char};
use std::sync::Mutex;

use srlora::session::{Classifier, Picture, Prediction};
use srlora::{Error, ErrorKind, Result};

use crate::bundle::srlora_bundle;
use crate::error::{guard, srlora_code, srlora_error};
use crate::frame::srlora_frame;
use crate::pointers::{fill, free, handle, look, out, path, shared};
use crate::prediction::srlora_prediction;
use crate::store::srlora_store;
use crate::text::{at, c_texts};

/// A bundle with or without a store, ready to classify. Threads may share it: their calls take turns. One for each thread runs at once.
pub struct srlora_classifier {
    own: Mutex<Classifier>,
    classes: Vec<CString>,
    tells_unknown: bool,
}

impl srlora_classifier {
    fn ask<R>(&self, act: impl FnOnce(&mut Classifier) -> Result<R>) -> Result<R> {
        let broken = |_| Error::new(ErrorKind::Internal, "the classifier", "has panicked before; make a new one");
        act(&mut *self.own.lock().map_err(broken)?)
    }
}

/// What messages call a frame.
const NAME: &str = "the frame";

/// Makes a classifier of a bundle and what `store` has learned; with NULL for a store the model's own classifier answers. Neither is
/// needed any more afterwards.
///
/// Codes: `MISMATCH` for a store of another bundle, or a bundle without labels and no store. Free it with `srlora_classifier_free`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn srlora_classifier_new(
    bundle: *const srlora_bundle,
    store: *const srlora_store,
    classifier: *mut *mut srlora_classifier,
    error: *mut *mut srlora_error,
) -> srlora_code {
    guard(error, || {
        // SAFETY: the promise of `pointers`.
        let (bundle, classifier) = unsafe { (shared(bundle, "bundle")?, out(classifier, "classifier")?) };
        // SAFETY: the same; NULL is meant here.
        let store = unsafe { store.as_ref() };
        let own = Classifier::new(&bundle.own, store.map(|store| &store.own))?;
        let (classes, tells_unknown) = (c_texts(own.classes()), own.tells_unknown());
        classifier.write(handle(srlora_classifier { own: Mutex::new(own), classes, tells_unknown }));
        Ok(())
    })
}

/// Frees a classifier; NULL is none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn srlora_classifier_free(classifier: *mut srlora_classifier) {
    // SAFETY: the promise of `pointers`.
    unsafe { free(classifier) }
}

/// Classes that it knows; 0 for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn srlora_classifier_class_count(classifier: *const srlora_classifier) -> usize {
    // SAFETY: the promise of `pointers`.
    unsafe { look(classifier, 0, |classifier| classifier.classes.len()) }
}

/// The name of one of them, in UTF-8, in the order of `srlora_classifier_probabilities`. Lives as long as the classifier; NULL where
/// there is none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn srlora_classifier_class(classifier: *const srlora_classifier, index: usize) -> *const c_char {
    // SAFETY: the promise of `pointers`.
    unsafe { look(classifier, std::ptr::null(), |classifier| at(&classifier.classes, index)) }
}

/// Whether photos have shown what is like none of the classes, so that `srlora_prediction_unknown` tells.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn srlora_classifier_tells_unknown(classifier: *const srlora_classifier) -> bool {
    // SAFETY: the promise of `pointers`.
    unsafe { look(classifier, false, |classifier| classifier.tells_unknown) }
}

/// The `top` likeliest classes of a frame, or all where there are fewer.
///
/// Codes: `IMAGE` for a frame that cannot be a photo; `USAGE`. Free the prediction with `srlora_prediction_free`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn srlora_classifier_predict(
    classifier: *const srlora_classifier,
    frame: *const srlora_frame,
    top: usize,
    prediction: *mut *mut srlora_prediction,
    error: *mut *mut srlora_error,
) -> srlora_code {
    guard(error, || {
        // SAFETY: the promise of `pointers`.
        let (classifier, frame, prediction) =
            unsafe { (shared(classifier, "classifier")?, shared(frame, "frame")?, out(prediction, "prediction")?) };
        // SAFETY: the same, of what the frame leads to.
        let picture = unsafe { frame.picture(NAME) }?;
        prediction.write(predict(classifier, picture, top)?);
        Ok(())
    })
}

/// The same, of a JPEG or PNG file.
///
/// Codes: `IMAGE` where it cannot be read; `USAGE`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn srlora_classifier_predict_file(
    classifier: *const srlora_classifier,
    file: *const c_char,
    top: usize,
    prediction: *mut *mut srlora_prediction,
    error: *mut *mut srlora_error,
) -> srlora_code {
    guard(error, || {
        // SAFETY: the promise of `pointers`.
        let (classifier, file, prediction) =
            unsafe { (shared(classifier, "classifier")?, path(file, "file")?, out(prediction, "prediction")?) };
        prediction.write(predict(classifier, file.into(), top)?);
        Ok(())
    })
}

fn predict(classifier: &srlora_classifier, picture: Picture, top: usize) -> Result<*mut srlora_prediction> {
    let prediction: Prediction = classifier.ask(|own| own.predict(picture, top))?;
    Ok(handle(prediction.into()))
}

/// How likely each class is, from 0 to 1, in the order of `srlora_classifier_class`. `values` has room for `capacity` numbers; the first
/// `srlora_classifier_class_count` of them are written.
///
/// Codes: those of `srlora_classifier_predict`; `USAGE` where there is no room for all.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn srlora_classifier_probabilities(
    classifier: *const srlora_classifier,
    frame: *const srlora_frame,
    capacity: usize,
    values: *mut f32,
    error: *mut *mut srlora_error,
) -> srlora_code {
    // SAFETY: the promise of `pointers`.
    guard(error, || unsafe { measure(classifier, frame, (values, capacity), Classifier::probabilities) })
}

/// The features of a frame, which the head reads: `srlora_bundle_feature_count` numbers. `values` has room for `capacity` of them.
///
/// Codes: those of `srlora_classifier_predict`; `USAGE` where there is no room for all, or without a store: the model's own classifier
/// has no features to give.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn srlora_classifier_embed(
    classifier: *const srlora_classifier,
    frame: *const srlora_frame,
    capacity: usize,
    values: *mut f32,
    error: *mut *mut srlora_error,
) -> srlora_code {
    // SAFETY: the promise of `pointers`.
    guard(error, || unsafe { measure(classifier, frame, (values, capacity), Classifier::embed) })
}

/// # Safety
/// The promise of `pointers`.
unsafe fn measure(
    classifier: *const srlora_classifier,
    frame: *const srlora_frame,
    (values, capacity): (*mut f32, usize),
    act: impl FnOnce(&mut Classifier, Picture) -> Result<Vec<f32>>,
) -> Result<()> {
    // SAFETY: the same promise.
    let (classifier, frame) = unsafe { (shared(classifier, "classifier")?, shared(frame, "frame")?) };
    // SAFETY: the same; only whether it is NULL is looked at here.
    unsafe { out(values, "values") }?;
    // SAFETY: the same, of what the frame leads to.
    let picture = unsafe { frame.picture(NAME) }?;
    let found = classifier.ask(|own| act(own, picture))?;
    // SAFETY: the same; there is room for `capacity` values.
    unsafe { fill(&found, values, capacity) }
}
