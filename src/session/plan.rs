//! How many steps a lesson takes, how its rates run, and after which steps pairs are recomposed.

use super::lesson::{Length, Lesson};
use crate::bundle::Bundle;
use crate::core::{Recompose, Schedule};

/// Steps over which the learning rates rise, as in the peer that results are compared with.
const WARMUP_STEPS: u64 = 10;
/// Lives of a lesson, as far as each gets its fewest steps. Few, because a fresh pair needs time to learn; `docs/RESULTS.md`.
const LIVES: u64 = 3;
/// Fewer steps do not let a pair settle: a lesson too short for two such lives has one, and is LoRA.
const SHORTEST_LIFE: u64 = 100;
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
    /// Steps of a life: the pairs' rate rises and falls to 0 in each, and at its end pairs may be recomposed. 0: one life.
    pub(super) life: u64,
    /// What is recomposed at the end of a life; `None`: nothing, all but the rate and the optimizer goes on.
    pub(super) rule: Option<Recompose>,
    /// Whether pairs rest once the photos are learned.
    pub(super) rests: bool,
    /// No recomposition after this step.
    pub(super) last: u64,
    /// Largest rate of the pairs.
    pub(super) lr: f32,
    /// And of the head.
    pub(super) head_lr: f32,
}

/// Pairs that one event fuses, of `rank`.
fn fused(rank: usize) -> usize {
    ((rank as f64 * FUSED_SHARE) as usize).max(1)
}

/// Plans a lesson on `images` photos.
pub(super) fn plan(bundle: &Bundle, lesson: &Lesson, images: usize) -> Plan {
    let per_epoch = images.div_ceil(lesson.batch.max(1)).max(1) as u64;
    let steps = match lesson.length {
        Length::Epochs(epochs) => u64::from(epochs) * per_epoch,
        Length::Steps(steps) => u64::from(steps),
    };
    let lives = LIVES.min(steps / SHORTEST_LIFE);
    let spread = if lives > 1 { steps.div_ceil(lives) } else { 0 };
    let recomposes = lesson.method.settings().recomposes;
    let life = if recomposes { lesson.interval.map_or(spread, u64::from) } else { 0 };
    let min_age = lesson.min_age.unwrap_or_else(|| u32::try_from(life).unwrap_or(u32::MAX));
    let rule = Recompose { pairs: fused(bundle.rank), min_age, wrap: false, choice: lesson.choice };
    let last = (steps as f64 * LAST_RECOMPOSITION) as u64;
    Plan {
        steps,
        life,
        rule: (recomposes && !lesson.cycles).then_some(rule),
        rests: recomposes,
        last,
        lr: lesson.lr,
        head_lr: lesson.head_lr,
    }
}

impl Plan {
    /// The same for a lesson of so many steps.
    pub(super) fn cut_to(self, steps: u64) -> Self {
        Plan { steps, ..self }
    }

    /// The rates of the pairs and of the head over the lesson. The head has one life: it never starts anew.
    pub(super) fn schedules(&self) -> [Schedule; 2] {
        let warmup = WARMUP_STEPS.min(self.steps / 4);
        [
            Schedule::linear(self.lr, warmup, self.steps).in_lives(self.life),
            Schedule::linear(self.head_lr, warmup, self.steps),
        ]
    }

    /// Whether a life is over after the step `step`, counted from 0; the last one ends with the lesson.
    pub(super) fn ends_life(&self, step: u64) -> bool {
        self.life > 0 && ((step + 1).is_multiple_of(self.life) || step + 1 == self.steps)
    }

    /// Whether pairs may start anew after the step `step`.
    pub(super) fn may_start_anew(&self, step: u64) -> bool {
        self.ends_life(step) && step < self.last
    }

    /// Whether the pairs' importance goes into the journal after the step `step`.
    pub(super) fn notes_importance(&self, step: u64) -> bool {
        let every = (self.steps / NOTES).max(1);
        self.rule.is_some() && (step + 1).is_multiple_of(every)
    }
}
