//! What came of a lesson.

use std::ffi::{CString, c_char};

use srlora::session::TrainReport;
use srlora::{Error, ErrorKind, Result};

use crate::pointers::{free, look};
use crate::text::c_text;

/// What came of a lesson. It does not change, so any number of threads may read it at once.
pub struct srlora_report {
    own: TrainReport,
    json: CString,
}

impl srlora_report {
    pub(crate) fn of(own: TrainReport) -> Result<Self> {
        let json = serde_json::to_string(&own).map_err(|e| Error::new(ErrorKind::Internal, "the report", e))?;
        Ok(srlora_report { json: c_text(&json), own })
    }
}

/// Frees a report; NULL is none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn srlora_report_free(report: *mut srlora_report) {
    // SAFETY: the promise of `pointers`.
    unsafe { free(report) }
}

/// Steps that were taken; 0 for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn srlora_report_steps(report: *const srlora_report) -> u64 {
    // SAFETY: the promise of `pointers`.
    unsafe { look(report, 0, |report| report.own.steps) }
}

/// The generation that is current now; 0 for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn srlora_report_generation(report: *const srlora_report) -> u64 {
    // SAFETY: the promise of `pointers`.
    unsafe { look(report, 0, |report| report.own.generation) }
}

/// The number under which the lesson was kept aside, as what was there before is better; 0 where it became current, and for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn srlora_report_aside(report: *const srlora_report) -> u64 {
    // SAFETY: the promise of `pointers`.
    unsafe { look(report, 0, |report| report.own.aside.unwrap_or(0)) }
}

/// Photos that were trained on; 0 for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn srlora_report_train_images(report: *const srlora_report) -> usize {
    // SAFETY: the promise of `pointers`.
    unsafe { look(report, 0, |report| report.own.train_images) }
}

/// Mean cross-entropy over the last epoch; NaN where nothing was trained, and for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn srlora_report_train_loss(report: *const srlora_report) -> f32 {
    // SAFETY: the promise of `pointers`.
    unsafe { look(report, f32::NAN, |report| report.own.train_loss.unwrap_or(f32::NAN)) }
}

/// Accuracy on photos held back, from 0 to 1; NaN where there were none, and for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn srlora_report_val_accuracy(report: *const srlora_report) -> f64 {
    // SAFETY: the promise of `pointers`.
    unsafe { look(report, f64::NAN, |report| report.own.val_accuracy.unwrap_or(f64::NAN)) }
}

/// All of it: the JSON object that `srlora train --json` prints, in UTF-8. Lives as long as the report; NULL for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn srlora_report_json(report: *const srlora_report) -> *const c_char {
    // SAFETY: the promise of `pointers`.
    unsafe { look(report, std::ptr::null(), |report| report.json.as_ptr()) }
}
