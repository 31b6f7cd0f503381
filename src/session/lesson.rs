//! What one training run is asked to do, and what it answers.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::cache::CachePlace;
use super::dataset::{Ignored, Quarantined};
use super::forecast::Forecast;
use super::rehearsal::Rehearsal;
use super::trial::Trial;
use crate::core::{Choice, Method, Start};

/// How long a lesson takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Length {
    /// Passes over the photos.
    Epochs(u32),
    /// Batches in all.
    Steps(u32),
}

/// Where the photos for measuring accuracy come from.
#[derive(Debug, Clone, PartialEq)]
pub enum Validation {
    /// Nowhere: accuracy is not measured.
    None,
    /// This share of every class of the training folder is kept aside.
    Split(f64),
    /// Another folder.
    Folder(PathBuf),
}

/// The settings of one training run.
#[derive(Debug, Clone, PartialEq)]
pub struct Lesson {
    /// One folder per class.
    pub data: PathBuf,
    /// Photos to measure accuracy on.
    pub validation: Validation,
    /// What is trained, and how.
    pub method: Method,
    /// What a pair starts on; `None`: what the method says.
    pub start: Option<Start>,
    /// How long.
    pub length: Length,
    /// Photos per step.
    pub batch: usize,
    /// Learning rate of the pairs.
    pub lr: f32,
    /// Learning rate of the head.
    pub head_lr: f32,
    /// Decides order, split and augmentation.
    pub seed: u64,
    /// Random crops or shifts, and mirror images.
    pub augment: bool,
    /// Steps between recompositions, 0 for none; `None`: all pairs once, after three fifths of the run, where it can pay.
    pub interval: Option<u32>,
    /// Steps that a pair must have lived before it can be fused; `None`: one more than the interval, or none without one.
    pub min_age: Option<u32>,
    /// Which pairs are fused.
    pub choice: Choice,
    /// Nothing is fused: where pairs would be recomposed, only their rates and moments start anew. A control.
    pub renews_only: bool,
    /// Threads that photos are run on; the result does not depend on them.
    pub threads: usize,
    /// Where what the prefix makes of each photo is kept.
    pub cache: CachePlace,
    /// Bytes that they may take; photos that find no place run the prefix every time.
    pub cache_limit: Option<u64>,
    /// The largest resident size that the process may reach during the run, in bytes: cache, kept activations and threads are given up
    /// to fit. What the process has when the lesson begins counts, what it has given back does not.
    pub ram_limit: Option<u64>,
}

impl Lesson {
    /// How long a lesson takes where nothing else is asked for.
    pub const DEFAULT_LENGTH: Length = Length::Epochs(15);

    /// A lesson with the default settings: SRLoRA, 15 epochs of batches of 16, learning rates 3e-3 and 1e-3.
    #[must_use]
    pub fn new(data: PathBuf) -> Self {
        Lesson {
            data,
            validation: Validation::None,
            method: Method::Srlora,
            start: None,
            length: Lesson::DEFAULT_LENGTH,
            batch: 16,
            lr: 3e-3,
            head_lr: 1e-3,
            seed: 0,
            augment: false,
            interval: None,
            min_age: None,
            choice: Choice::LeastImportant,
            renews_only: false,
            threads: 1,
            cache: CachePlace::Disk,
            cache_limit: None,
            ram_limit: None,
        }
    }
}

/// One recomposition: which pair was fused, and which direction it goes on along.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// The training step after which it happened, from 1.
    pub step: u64,
    /// The site's name.
    pub site: String,
    /// Which pair.
    pub pair: u32,
    /// The direction that the pair now starts on.
    pub direction: u32,
    /// The pair's importance when it was chosen.
    pub importance: f32,
    /// The largest absolute error that fusing left in any entry of the delta.
    pub max_error: f32,
    /// What came of it.
    #[serde(default)]
    pub outcome: Outcome,
}

/// What came of a recomposition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// Too little has followed to tell.
    #[default]
    Open,
    /// Training went on at least as well.
    Kept,
    /// Training went worse: everything was put back as it was before.
    Undone,
}

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
    /// Steps in which pairs rested and the head learned alone: as the photos could only have been learned by heart, or as a rehearsal
    /// has not shown that pairs help; null where no pair is trained or no step was taken.
    pub rested_steps: Option<u64>,
    /// Accuracy of imprinting on training photos of classes with two and more, each left out of the class means (of very many photos,
    /// a part); null where there is none.
    pub left_out_accuracy: Option<f64>,
    /// How lessons did on photos left out, where photos are few: it decides whether pairs learn; null elsewhere, and of a lesson that
    /// had ended before.
    pub rehearsal: Option<Rehearsal>,
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
    /// Photos that accuracy was measured on.
    pub val_images: usize,
}

/// What a run tells while it works; the command line turns it into bars and lines.
#[derive(Debug, Clone, PartialEq)]
pub enum Progress<'p> {
    /// A phase of `total` units begins.
    Begin {
        /// What is being done, for a person to read.
        phase: &'p str,
        /// Units in all.
        total: u64,
    },
    /// One more unit is done.
    Advance,
    /// One training step is done.
    Step {
        /// From 1.
        step: u64,
        /// Mean cross-entropy of the batch.
        loss: f32,
        /// Share of the batch that was classified right before the update.
        accuracy: f64,
    },
    /// The phase is over.
    End,
    /// What the lesson will take, before it starts.
    Planned(&'p Forecast),
    /// Something to know on the way.
    Note(&'p str),
    /// Something went wrong that does not stop the run.
    Warning(&'p str),
}

/// Receives [`Progress`].
pub type Observer<'o> = dyn FnMut(Progress<'_>) + 'o;
