//! What is known of a task before the first step.

use serde::{Deserialize, Serialize};

use super::closed_form::ClosedForm;
use super::cross_validation::CrossValidation;
use super::left_out::LeftOutAccuracy;

/// A task is easy where imprinting may well reach this accuracy on photos left out: there, pairs soon learn the photos by heart. So
/// they do where no class has two photos, and nothing is known.
const EASY: f64 = 0.9;

/// What a lesson's photos have told when it began.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Outlook {
    /// How imprinting does on each photo, left out of the class means.
    pub(crate) left_out: Option<LeftOutAccuracy>,
    /// How the head is solved at the end.
    #[serde(default)]
    pub(crate) closed_form: Option<ClosedForm>,
    /// How lessons did on photos left out, where photos are few.
    #[serde(default, alias = "rehearsal")]
    pub(crate) cross_validation: Option<CrossValidation>,
}

impl Outlook {
    /// Whether pairs would soon learn the photos by heart.
    pub(crate) fn is_easy(&self) -> bool {
        self.left_out.is_none_or(|left_out| left_out.may_be(EASY))
    }

    /// Whether pairs may learn at all.
    pub(crate) fn lets_pairs_learn(&self) -> bool {
        self.cross_validation.is_none_or(|cross_validation| cross_validation.pairs_help())
    }
}
