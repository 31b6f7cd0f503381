//! How many steps a lesson takes, how its rates run, and after which steps pairs are recomposed.

use super::lesson::{Length, Lesson};
use crate::bundle::Bundle;
use crate::core::{Recompose, Schedule};

/// Steps over which the learning rates rise, as in the peer that results are compared with.
const WARMUP_STEPS: u64 = 10;
/// Share of a site's pairs that one event fuses: the paper's gamma.
const FUSED_SHARE: f64 = 0.5;
/// Share of the run after which pairs are left to converge.
const LAST_RECOMPOSITION: f64 = 0.8;
/// Notes of the pairs' importance in a lesson: enough for a picture.
const NOTES: u64 = 100;

/// A lesson in numbers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Plan {
    /// Optimizer steps in all.
    pub(super) steps: u64,
    /// Steps between recompositions; 0: none.
    pub(super) interval: u64,
    /// Whether that was asked for: then nothing is waited for.
    pub(super) asked: bool,
    /// What an event recomposes.
    pub(super) rule: Recompose,
    /// No recomposition after this step.
    pub(super) last: u64,
    /// Whether pairs may rest and are recomposed at all.
    pub(super) recomposes: bool,
    /// Largest rate of the pairs.
    pub(super) lr: f32,
    /// And of the head.
    pub(super) head_lr: f32,
}

/// Pairs that one event fuses, of `rank`.
fn fused(rank: usize) -> usize {
    ((rank as f64 * FUSED_SHARE) as usize).max(1)
}

/// Plans a lesson on `images` photos. By default the events that a site's reserve allows, (K - r) / (gamma r), are spread evenly over
/// the part of the run in which recomposition happens. A pair has lived long enough an interval and a step after it was started, so
/// nothing happens the first time, and a part of the reserve stays unused.
pub(super) fn plan(bundle: &Bundle, lesson: &Lesson, images: usize) -> Plan {
    let per_epoch = images.div_ceil(lesson.batch.max(1)).max(1) as u64;
    let steps = match lesson.length {
        Length::Epochs(epochs) => u64::from(epochs) * per_epoch,
        Length::Steps(steps) => u64::from(steps),
    };
    let last = (steps as f64 * LAST_RECOMPOSITION) as u64;
    let pairs = fused(bundle.rank);
    let reserve = bundle.sites.iter().map(|site| site.reserve).max().unwrap_or(0);
    let events = reserve.saturating_sub(bundle.rank).div_ceil(pairs) as u64;
    let spread = last.checked_div(events).map_or(0, |interval| interval.max(1));
    let recomposes = lesson.method.settings().recomposes;
    let interval = if recomposes { lesson.interval.map_or(spread, u64::from) } else { 0 };
    let min_age = lesson.min_age.unwrap_or_else(|| u32::try_from(interval + 1).unwrap_or(u32::MAX));
    let rule = Recompose { pairs, min_age, wrap: false, choice: lesson.choice };
    Plan {
        steps,
        interval,
        asked: lesson.interval.is_some(),
        rule,
        last,
        recomposes,
        // A further lesson of the head alone leaves the pairs that are there as they are.
        lr: if lesson.method.settings().trains_pairs { lesson.lr } else { 0.0 },
        head_lr: lesson.head_lr,
    }
}

impl Plan {
    /// The same for a lesson of so many steps.
    pub(super) fn cut_to(self, steps: u64) -> Self {
        Plan { steps, ..self }
    }

    /// The rates of the pairs and of the head over the lesson.
    pub(super) fn schedules(&self) -> [Schedule; 2] {
        let warmup = WARMUP_STEPS.min(self.steps / 4);
        [self.lr, self.head_lr].map(|lr| Schedule::linear(lr, warmup, self.steps))
    }

    /// Whether an event is due after the step `step`, counted from 0.
    pub(super) fn is_due(&self, step: u64) -> bool {
        self.interval > 0 && (step + 1).is_multiple_of(self.interval) && step < self.last
    }

    /// Whether the pairs' importance goes into the journal after the step `step`.
    pub(super) fn notes_importance(&self, step: u64) -> bool {
        let every = (self.steps / NOTES).max(1);
        self.recomposes && (step + 1).is_multiple_of(every)
    }
}
