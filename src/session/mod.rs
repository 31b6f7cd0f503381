//! What happens on the device: photos are read, a lesson is trained, its result is kept in a store and used.
//!
//! ```text
//! photos    a folder of them, decoded, cut, normalized
//! policy    what decides: plan, outlook, gate, trial
//! store     generations and checkpoints, whole after any power cut
//! run       the network over photos, on threads, with a cache
//! classify  guesses and accuracy
//! lesson    the trainer: opens, plans, imprints, cross-validates, steps, judges
//! ```
//!
//! Each room uses only those above it, and `settings`, `start`, `forecast`, `progress`, `process` and `replay`, which all may use.

pub(crate) mod classify;
pub(crate) mod forecast;
pub(crate) mod lesson;
pub(crate) mod photos;
pub(crate) mod policy;
pub(crate) mod process;
pub(crate) mod progress;
pub(crate) mod replay;
pub(crate) mod run;
pub(crate) mod settings;
pub(crate) mod start;
pub mod store;

#[cfg(feature = "cli")]
pub(crate) use classify::GrowingClassifier;
pub use classify::{
    ClassScore, Classifier, Confused, Confusion, EvalRequest, Evaluation, Guess, Mistake, Prediction, Tally, Unknown,
    Wrong, evaluate,
};
pub use forecast::Forecast;
pub use lesson::{CHECKPOINT_EVERY, Happened, Keep, Shown, TrainReport, Trainer, train};
#[cfg(feature = "cli")]
pub(crate) use photos::thumbnail;
pub use photos::{Augment, Dataset, Ignored, Layout, Photo, Picture, Pixels, Quarantine, Quarantined, load, order};
pub use policy::{AllClasses, Calibration, CrossValidation, Event, Known, Outcome, Trial, TrialPhotos};
#[cfg(feature = "cli")]
pub(crate) use process::begin as begin_process;
pub use process::peak_rss_bytes;
pub use progress::{Flow, Progress, Stop};
pub use settings::{Album, CachePlace, DirectionSource, Interval, Length, Lesson, Rates, Validation};
pub(crate) use start::fresh_adapter;
pub use store::{
    Course, Generation, History, Imported, InspectedSite, Inspection, JOURNAL, Record, RecordedLesson, StepSeen, Store,
    StoreWriter, course, history, inspect,
};
