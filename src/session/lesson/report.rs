//! What a lesson answers.

use serde::Serialize;

use crate::session::classify::Evaluation;
use crate::session::forecast::Forecast;
use crate::session::photos::{Ignored, Quarantined};
use crate::session::policy::{Calibration, CrossValidation, Trial};
use crate::session::store::Record;

/// What `train` answers; times in seconds or milliseconds, sizes in bytes, accuracies in 0..1.
#[derive(Debug, Clone, Serialize)]
pub struct TrainReport {
    /// What was trained.
    pub method: String,
    /// The seed.
    pub seed: u64,
    /// Optimizer steps.
    pub steps: u64,
    /// Class names in the order of the head's rows.
    pub classes: Vec<String>,
    /// Numbers that the optimizer moves; the head's alone where pairs rest, as they had not helped on photos left out.
    pub trainable_params: usize,
    /// Mean cross-entropy over the last epoch; null where nothing was trained.
    pub train_loss: Option<f32>,
    /// Accuracy after training; null without validation photos.
    pub val_accuracy: Option<f64>,
    /// Accuracy of what was there before, on photos held back: of the imprinted head; of a further lesson, of the store as it was, on
    /// the photos of the classes that it knew.
    pub val_accuracy_before: Option<f64>,
    /// What the lesson was judged by; null where nothing was trained or there is nothing to judge by.
    pub trial: Option<Trial>,
    /// The number under which the lesson was kept aside, as what was there before is better or nothing could
    /// judge it; null where it became current.
    pub aside: Option<u64>,
    /// The step after which a lesson that had been cut off went on; null for one from its beginning.
    pub resumed_after: Option<u64>,
    /// How many pairs were fused and started anew.
    pub recompositions: usize,
    /// Of these, how many were taken back because training went worse.
    pub undone: usize,
    /// Steps in which pairs rested and the head learned alone: as the photos could only have been learned by heart, or
    /// as a cross-validation has not shown that pairs help; null where no pair is trained or no step was taken.
    pub rested_steps: Option<u64>,
    /// Accuracy of imprinting on training photos of classes with two and more, each left out of the class means (of very many photos,
    /// a part); null where there is none.
    pub left_out_accuracy: Option<f64>,
    /// How the logits of the lesson's head are to be read; null where no photo could be left out to show that.
    pub calibration: Option<Calibration>,
    /// How lessons did on photos left out, where photos are few: it decides whether pairs learn; null elsewhere, and of a lesson that
    /// had ended before.
    pub cross_validation: Option<CrossValidation>,
    /// From the first file read to the last written.
    pub seconds: f64,
    /// Until the first photo could be run: reading, planning, and trying the plan out. From the start of the process for the first
    /// lesson of the program, from the lesson's own for any other.
    pub startup_ms: f64,
    /// Median time of one batch: prefix, forward, backward, optimizer; no image decoding.
    pub step_ms_median: Option<f64>,
    /// Threads that photos were run on.
    pub threads: usize,
    /// Bytes of the cache of the prefix's outputs; 0 where there is none.
    pub cache_bytes: u64,
    /// The process's largest resident size (VmHWM), whatever it did before the lesson.
    pub peak_rss_bytes: Option<u64>,
    /// The largest resident size during the lesson; null where the system does not tell, or where an earlier, larger one hides it.
    pub lesson_peak_bytes: Option<u64>,
    /// The planned largest resident size; null where the system does not tell the present one.
    pub planned_peak_bytes: Option<u64>,
    /// The whole plan.
    pub planned: Forecast,
    /// The store's generation that holds the result.
    pub generation: u64,
    /// Photos that could not be read.
    pub quarantined: Vec<Quarantined>,
    /// Photos of formats that are not read.
    pub ignored: Vec<Ignored>,
    /// Photos trained on.
    pub train_images: usize,
    /// Examples of earlier lessons that were trained on.
    pub replayed: usize,
    /// Bytes of the examples that are kept for later lessons.
    pub replay_bytes: u64,
    /// Photos that accuracy was measured on.
    pub val_images: usize,
    /// What it has shown on its way; no part of the JSON.
    #[serde(skip)]
    pub shown: Shown,
}

/// What a lesson has shown on its way, for who wants to look at it.
#[derive(Debug, Clone)]
pub struct Shown {
    /// What the generation knows that it became, or the lesson that was kept aside: settings, sites, recompositions.
    pub record: Record,
    /// Photos trained on, by class.
    pub trained: Vec<usize>,
    /// Of each class that there was before, [recognized, all] of the photos held back; `None` where that was not measured.
    pub before: Option<Vec<[usize; 2]>>,
    /// The photos held back, as they were classified after the lesson; `None` where there are none.
    pub after: Option<Evaluation>,
}
