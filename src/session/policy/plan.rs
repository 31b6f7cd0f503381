//! How many steps a lesson takes, how its rates run, and after which steps pairs are recomposed.

use crate::bundle::Bundle;
use crate::core::{Recompose, Schedule};
use crate::session::settings::{Interval, Length, Lesson, Rates};

/// Steps over which the learning rates rise, as in the peer that results are compared with.
const WARMUP_STEPS: u64 = 10;
/// Share of the run after which all pairs are recomposed, once: late enough to have learned, early enough to learn again
/// (`docs/results.md`: what lies between a third and seven tenths does as well).
const RECOMPOSED_AT: f64 = 0.6;
/// The fewest steps before it and after it. Before, a pair's rate has not been at its peak, and nothing is worth keeping; a pair that
/// starts with fewer steps to go does not come to that peak itself, and all that it does is lose what was there.
const LEAST_STEPS: u64 = WARMUP_STEPS;
/// Share of the run that an event is judged by.
const JUDGED_SHARE: f64 = 1.0 / 12.0;
/// Where an interval is asked for: share of a site's pairs that one event fuses, the paper's gamma.
const FUSED_SHARE: f64 = 0.5;
/// And the share of the run after which pairs are left to converge.
const LAST_RECOMPOSITION: f64 = 0.8;
/// Notes of the pairs' importance in a lesson: enough for a picture.
pub(crate) const NOTES: u64 = 100;

/// A lesson in numbers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Plan {
    /// Optimizer steps in all.
    pub(crate) steps: u64,
    /// When pairs are recomposed.
    pub(crate) due: Due,
    /// Steps that an event is judged by.
    pub(crate) judged_by: u64,
    /// What an event recomposes.
    pub(crate) rule: Recompose,
    /// Whether events renew the pairs' rates and moments only.
    pub(crate) renews_only: bool,
    /// Whether pairs may rest.
    pub(crate) recomposes: bool,
    /// Largest rate of the pairs.
    pub(crate) lr: f32,
    /// And of the head.
    pub(crate) head_lr: f32,
    /// Weight decay per unit of rate, of the pairs toward their start, and of the head.
    pub(crate) decays: [f32; 2],
}

/// When pairs are recomposed, in steps.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Due {
    /// Never.
    Never,
    /// Once, after so many, where that can pay.
    Once(u64),
    /// As asked for, whatever it brings: every so many, up to the last.
    Every {
        /// At least 1.
        interval: u64,
        /// None after this one.
        last: u64,
    },
}

/// Pairs that one event of many fuses, of `rank`.
fn fused(rank: usize) -> usize {
    ((rank as f64 * FUSED_SHARE) as usize).max(1)
}

/// Whether pairs can learn before and after an event that follows the step `at`, counted from 1.
fn is_long_enough(steps: u64, at: u64) -> bool {
    at.min(steps.saturating_sub(at)) >= LEAST_STEPS
}

/// Plans a lesson on `photos` photos. Recomposed once, all pairs for which the reserve has directions are. Where an interval
/// is asked for, an event fuses half of them, and a pair has lived long enough an interval and a step after it was started.
pub(crate) fn plan(bundle: &Bundle, lesson: &Lesson, photos: usize) -> Plan {
    let per_epoch = photos.div_ceil(lesson.batch.max(1)).max(1) as u64;
    let steps = match lesson.length {
        Length::Epochs(epochs) => u64::from(epochs) * per_epoch,
        Length::Steps(steps) => u64::from(steps),
    };
    let recomposes = lesson.method.settings().recomposes;
    let Rates { lr, decay, head_decay } = lesson.rates(photos);
    let share = |share: f64| (steps as f64 * share) as u64;
    let due = match lesson.interval {
        Interval::Steps(interval) if recomposes => {
            Due::Every { interval: interval.get().into(), last: share(LAST_RECOMPOSITION) }
        }
        Interval::Once if recomposes && is_long_enough(steps, share(RECOMPOSED_AT)) => Due::Once(share(RECOMPOSED_AT)),
        _ => Due::Never,
    };
    let (pairs, min_age, judged_by) = match due {
        Due::Every { interval, .. } => (fused(bundle.rank), interval + 1, interval),
        Due::Once(_) | Due::Never => (usize::MAX, 0, share(JUDGED_SHARE)),
    };
    let min_age = lesson.min_age.unwrap_or_else(|| u32::try_from(min_age).unwrap_or(u32::MAX));
    let rule = Recompose { pairs, min_age, wrap: false, choice: lesson.choice };
    Plan {
        steps,
        due,
        judged_by,
        rule,
        renews_only: lesson.renews_only,
        recomposes,
        // A further lesson of the head alone leaves the pairs that are there as they are.
        lr: if lesson.method.settings().trains_pairs { lr } else { 0.0 },
        head_lr: lesson.head_lr,
        decays: [decay, head_decay],
    }
}

impl Plan {
    /// The same for a lesson of so many steps.
    pub(crate) fn cut_to(self, steps: u64) -> Self {
        Plan { steps, ..self }
    }

    /// The rates of the pairs and of the head over the lesson.
    pub(crate) fn schedules(&self) -> [Schedule; 2] {
        let warmup = WARMUP_STEPS.min(self.steps / 4);
        [self.lr, self.head_lr].map(|lr| Schedule::linear(lr, warmup, self.steps))
    }

    /// Whether an event is due after the step `step`, counted from 0.
    pub(crate) fn is_due(&self, step: u64) -> bool {
        match self.due {
            Due::Never => false,
            Due::Once(at) => step + 1 == at,
            Due::Every { interval, last } => (step + 1).is_multiple_of(interval) && step < last,
        }
    }

    /// Whether an event is ever due.
    pub(crate) fn has_events(&self) -> bool {
        match self.due {
            Due::Never => false,
            Due::Once(at) => at > 0,
            Due::Every { interval, last } => interval <= last,
        }
    }

    /// Whether events were asked for: then nothing is waited for.
    pub(crate) fn is_asked(&self) -> bool {
        matches!(self.due, Due::Every { .. })
    }

    /// Whether the pairs' importance goes into the journal after the step `step`.
    pub(crate) fn notes_importance(&self, step: u64) -> bool {
        let every = (self.steps / NOTES).max(1);
        self.recomposes && (step + 1).is_multiple_of(every)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn pairs_and_head_have_each_their_own_rate_and_decay() {
        let bundle = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/handwriting/handwriting.bundle");
        let bundle = Bundle::open(&bundle).unwrap();
        let lesson =
            Lesson { lr: Some(0.1), head_lr: 0.2, decay: Some(0.3), head_decay: Some(0.4), ..Lesson::new("photos") };
        let plan = plan(&bundle, &lesson, 80);
        assert_eq!(([plan.lr, plan.head_lr], plan.decays), ([0.1, 0.2], [0.3, 0.4]));
    }

    #[test]
    fn nothing_is_recomposed_in_a_lesson_too_short_to_learn_again() {
        let bundle = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/handwriting/handwriting.bundle");
        let bundle = Bundle::open(&bundle).unwrap();
        let due = |steps, interval| {
            plan(&bundle, &Lesson { length: Length::Steps(steps), interval, ..Lesson::new("photos") }, 80).due
        };
        assert_eq!(due(300, Interval::Never), Due::Never);
        assert_eq!([1, 2, 12, 22].map(|steps| due(steps, Interval::Once)), [Due::Never; 4]);
        // 13 steps before it, 10 after it: as many as a rate takes to rise.
        assert_eq!([due(23, Interval::Once), due(75, Interval::Once)], [Due::Once(13), Due::Once(45)]);
        assert_eq!(due(2, 1.into()), Due::Every { interval: 1, last: 1 }, "what is asked for is done");
    }
}
