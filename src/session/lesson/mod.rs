//! A lesson, from its first photo to the generation that it becomes.
//!
//! In come a bundle, settings with their photos, and a place to keep what is learned. The lesson is opened (anew, after what a store
//! knows, or where it was left), finds room in memory, imprints its head, is cross-validated where photos are few, takes its steps, and is
//! judged. Out go a generation, or a lesson kept aside, a journal, and a report.

mod added;
mod begin;
mod cross_validation;
mod data;
mod examples;
mod journal;
mod keep;
mod look;
mod opening;
mod report;
mod room;
mod steps;
mod trainer;
mod verdict;
mod work;

pub(crate) use cross_validation::{CROSS_VALIDATION, CrossValidated};
pub(crate) use data::{datasets, refuse_among_photos};
pub use keep::{CHECKPOINT_EVERY, Keep};
pub use report::{Shown, TrainReport};
pub(crate) use steps::{Ran, Steps, Taken};
pub use trainer::{Happened, Trainer, train};
