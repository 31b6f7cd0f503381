//! How a lesson stands, as pages are told.

use std::time::Instant;

use serde::Serialize;

use super::review::Review;
use crate::error::{Error, ErrorKind, with_options};
use crate::report::verdict::in_short;
use crate::session::{Forecast, Progress, TrainReport, TrialPhotos};

/// Points of a curve: as many as a phone has pixels for.
const MOST_POINTS: usize = 240;

/// How a lesson stands; a key without a value is null.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct Status {
    /// When this was so, in microseconds since the server has begun: a page may be told of it late.
    at: u64,
    pub(crate) running: bool,
    #[serde(rename = "stopping")]
    pub(crate) is_stopping: bool,
    /// What is being done, and how far it is.
    pub(crate) phase: Option<String>,
    done: u64,
    total: u64,
    step: u64,
    pub(super) steps: u64,
    loss: Option<f32>,
    accuracy: Option<f64>,
    /// Step, loss, accuracy; means over as many steps as there are between two points.
    history: Vec<(u64, f32, f64)>,
    seconds_left: Option<f64>,
    pub(super) forecast: Option<Forecast>,
    warnings: Vec<String>,
    /// A lesson that can be gone on with.
    pub(crate) left: Option<Left>,
    /// What became of the last one since the server was started.
    last: Option<Outcome>,
    #[serde(skip)]
    stepping: Option<(Instant, u64)>,
    #[serde(skip)]
    sum: (u64, f32, f64),
}

/// A lesson that was cut off, or stopped.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Left {
    /// The step that it stands after, where it has taken one.
    pub(crate) step: Option<u64>,
    /// Its photos.
    pub(crate) photos: usize,
}

/// What has become of a lesson.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Outcome {
    /// It is what counts now.
    kept: bool,
    stopped: bool,
    /// What has become of it, for a person to read.
    sentence: String,
    /// Accuracy before and after it, on photos that neither has seen; null where there are none.
    before: Option<f64>,
    after: Option<f64>,
    report: Option<TrainReport>,
    review: Option<Review>,
}

impl Status {
    pub(super) fn begun() -> Self {
        Status { running: true, ..Status::default() }
    }

    /// As it is so many microseconds after the server has begun.
    pub(super) fn seen_at(&self, at: u64) -> Self {
        Status { at, ..self.clone() }
    }

    /// All steps are taken, and the photos are looked at once more.
    pub(super) fn look_again(&mut self) {
        (self.phase, self.done, self.total) = (Some("looking at the photos again".to_owned()), 0, 0);
    }

    /// A lesson has ended; its curve stays.
    pub(super) fn end(&mut self, outcome: Outcome, left: Option<Left>) {
        let history = std::mem::take(&mut self.history);
        *self = Status { last: Some(outcome), left, history, ..Status::default() };
    }

    /// Takes what a lesson tells; whether pages are to be told at once.
    pub(super) fn take(&mut self, progress: &Progress<'_>) -> bool {
        match *progress {
            Progress::Begin { phase, total } => {
                (self.phase, self.done, self.total) = (Some(phase.trim().to_owned()), 0, total);
                return true;
            }
            Progress::Advance => self.done += 1,
            Progress::Step { step, loss, accuracy } => self.step(step, loss, accuracy),
            Progress::Warning(text) | Progress::Note(text) => {
                self.warnings.push(with_options(text, |name| format!("--{}", name.replace('_', "-"))));
                return true;
            }
            _ => {}
        }
        false
    }

    fn step(&mut self, step: u64, loss: f32, accuracy: f64) {
        (self.step, self.done, self.loss, self.accuracy) = (step, self.done + 1, Some(loss), Some(accuracy));
        let (begin, first) = *self.stepping.get_or_insert((Instant::now(), step));
        let taken = step.saturating_sub(first);
        if taken > 0 {
            let each = begin.elapsed().as_secs_f64() / taken as f64;
            self.seconds_left = Some(each * self.steps.saturating_sub(step) as f64);
        }
        let (count, losses, right) = self.sum;
        self.sum = (count + 1, losses + loss, right + accuracy);
        if self.sum.0 >= self.steps.div_ceil(MOST_POINTS as u64).max(1) {
            let (count, losses, right) = std::mem::take(&mut self.sum);
            self.history.push((step, losses / count as f32, right / count as f64));
        }
    }
}

impl Outcome {
    pub(super) fn ended(report: TrainReport, review: Option<Review>) -> Self {
        let unseen = [TrialPhotos::HeldBack, TrialPhotos::Replayed, TrialPhotos::CrossValidated];
        let (before, after) = match &report.trial {
            Some(trial) if unseen.contains(&trial.on) => (Some(trial.before), Some(trial.after)),
            Some(_) => (None, None),
            None => (report.val_accuracy_before, report.val_accuracy),
        };
        let (kept, sentence) = (report.aside.is_none(), in_short(&report));
        Outcome { kept, stopped: false, sentence, before, after, report: Some(report), review }
    }

    pub(super) fn failed(error: &Error) -> Self {
        let stopped = error.kind() == ErrorKind::Stopped;
        let sentence = match stopped {
            true => "The lesson was stopped. What it has learned so far is kept, and it can go on.".to_owned(),
            false => with_options(&error.to_string(), |name| format!("--{}", name.replace('_', "-"))),
        };
        Outcome { kept: false, stopped, sentence, before: None, after: None, report: None, review: None }
    }
}
