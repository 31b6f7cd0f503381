//! What a classifier says of a photo.

use std::ffi::{CString, c_char};

use srlora::session::Prediction;

use crate::pointers::{free, look};
use crate::text::{at, c_text};

/// What a classifier says of a photo. It does not change, so any number of threads may read it at once.
pub struct srlora_prediction {
    labels: Vec<CString>,
    probabilities: Vec<f32>,
    confidence: Option<f32>,
    unknown: Option<bool>,
    milliseconds: f64,
}

impl From<Prediction> for srlora_prediction {
    fn from(prediction: Prediction) -> Self {
        let Prediction { top, confidence, unknown, ms, .. } = prediction;
        srlora_prediction {
            labels: top.iter().map(|guess| c_text(&guess.label)).collect(),
            probabilities: top.iter().map(|guess| guess.probability).collect(),
            confidence,
            unknown,
            milliseconds: ms,
        }
    }
}

/// Whether a photo is like none of the classes.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum srlora_unknown {
    /// It is like one of them.
    No = 0,
    /// It is like none of them.
    Yes = 1,
    /// No photo has shown what is like none of them.
    Untold = 2,
}

/// Frees a prediction; NULL is none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn srlora_prediction_free(prediction: *mut srlora_prediction) {
    // SAFETY: the promise of `pointers`.
    unsafe { free(prediction) }
}

/// Guesses in it; 0 for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn srlora_prediction_count(prediction: *const srlora_prediction) -> usize {
    // SAFETY: the promise of `pointers`.
    unsafe { look(prediction, 0, |prediction| prediction.labels.len()) }
}

/// The class of a guess, in UTF-8, the best at 0. Lives as long as the prediction; NULL where there is none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn srlora_prediction_label(prediction: *const srlora_prediction, index: usize) -> *const c_char {
    // SAFETY: the promise of `pointers`.
    unsafe { look(prediction, std::ptr::null(), |prediction| at(&prediction.labels, index)) }
}

/// How likely that class is, from 0 to 1; 0 where there is none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn srlora_prediction_probability(prediction: *const srlora_prediction, index: usize) -> f32 {
    // SAFETY: the promise of `pointers`.
    unsafe { look(prediction, 0.0, |prediction| prediction.probabilities.get(index).copied().unwrap_or(0.0)) }
}

/// How likely the best guess is, where photos left out have shown how sure the store may be; NaN where none have, and for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn srlora_prediction_confidence(prediction: *const srlora_prediction) -> f32 {
    // SAFETY: the promise of `pointers`.
    unsafe { look(prediction, f32::NAN, |prediction| prediction.confidence.unwrap_or(f32::NAN)) }
}

/// Whether the photo is like none of the classes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn srlora_prediction_unknown(prediction: *const srlora_prediction) -> srlora_unknown {
    let told = |prediction: &srlora_prediction| match prediction.unknown {
        Some(true) => srlora_unknown::Yes,
        Some(false) => srlora_unknown::No,
        None => srlora_unknown::Untold,
    };
    // SAFETY: the promise of `pointers`.
    unsafe { look(prediction, srlora_unknown::Untold, told) }
}

/// Time that it took, in milliseconds; 0 for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn srlora_prediction_milliseconds(prediction: *const srlora_prediction) -> f64 {
    // SAFETY: the promise of `pointers`.
    unsafe { look(prediction, 0.0, |prediction| prediction.milliseconds) }
}
