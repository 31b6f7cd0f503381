//! What decides in a lesson: how long it takes, when pairs learn and are recomposed, whether that stays, and whether the lesson does.
//!
//! In come settings and what the work has shown: losses, photos recognized. Out go plans, rates, events and verdicts. Nothing here reads
//! a photo, runs a network or writes a file.

pub(crate) mod bits;
mod calibration;
mod closed_form;
mod cross_validation;
mod epoch;
mod event;
mod gate;
mod left_out;
mod outlook;
mod plan;
mod recognized;
mod trial;

pub use calibration::Calibration;
pub(crate) use closed_form::ClosedForm;
pub use cross_validation::CrossValidation;
pub(crate) use epoch::EpochMean;
pub use event::{Event, Outcome};
pub(crate) use gate::{Gate, GateState};
pub(crate) use left_out::{LeftOut, LeftOutAccuracy};
pub(crate) use outlook::Outlook;
pub(crate) use plan::{Due, NOTES, Plan, plan};
pub(crate) use recognized::Recognized;
pub use trial::{AllClasses, Known, Trial, TrialPhotos};
pub(crate) use trial::{Before, Ended, OnExamples};
