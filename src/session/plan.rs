//! How many steps a lesson takes, and after which of them pairs are recomposed.

use super::lesson::{Length, Lesson};
use crate::bundle::Bundle;
use crate::core::Recompose;

/// Steps over which the learning rates rise, as in the peer that results are compared with.
const WARMUP_STEPS: u64 = 10;
/// Share of a site's pairs that one event fuses: the paper's gamma.
const FUSED_SHARE: f64 = 0.5;
/// Share of the run after which pairs are left to converge.
const LAST_RECOMPOSITION: f64 = 0.8;

/// A lesson in numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Plan {
    /// Optimizer steps in all.
    pub(super) steps: u64,
    /// Steps with a rising rate.
    pub(super) warmup: u64,
    /// Steps between recompositions; 0: none.
    pub(super) interval: u64,
    /// Steps that a pair must have lived to be fused.
    pub(super) min_age: u32,
    /// Pairs that one event fuses.
    pub(super) pairs: usize,
    /// No recomposition after this step.
    pub(super) last: u64,
}

/// Pairs that one event fuses, of `rank`.
fn fused_per_event(rank: usize) -> usize {
    ((rank as f64 * FUSED_SHARE) as usize).max(1)
}

/// Plans a lesson on `images` photos. By default the events that a site's reserve allows are spread evenly over the
/// part of the run in which recomposition happens: (K - r) / (gamma r) of them.
pub(super) fn plan(bundle: &Bundle, lesson: &Lesson, images: usize) -> Plan {
    let per_epoch = images.div_ceil(lesson.batch.max(1)).max(1) as u64;
    let steps = match lesson.length {
        Length::Epochs(epochs) => u64::from(epochs) * per_epoch,
        Length::Steps(steps) => u64::from(steps),
    };
    let last = (steps as f64 * LAST_RECOMPOSITION) as u64;
    let pairs = fused_per_event(bundle.rank);
    let reserve = bundle.sites.iter().map(|site| site.reserve).max().unwrap_or(0);
    let events = reserve.saturating_sub(bundle.rank).div_ceil(pairs) as u64;
    let spread = last.checked_div(events).map_or(0, |interval| interval.max(1));
    let interval = match (lesson.method.settings().recomposes, lesson.interval) {
        (false, _) => 0,
        (true, Some(interval)) => u64::from(interval),
        (true, None) => spread,
    };
    let min_age = lesson.min_age.unwrap_or_else(|| u32::try_from(interval + 1).unwrap_or(u32::MAX));
    Plan { steps, warmup: WARMUP_STEPS.min(steps / 4), interval, min_age, pairs, last }
}

impl Plan {
    /// What to recompose after the step `step`, counted from 0, where an event is due.
    pub(super) fn rule_after(&self, step: u64) -> Option<Recompose> {
        let due = self.interval > 0 && (step + 1).is_multiple_of(self.interval) && step < self.last;
        due.then_some(Recompose { pairs: self.pairs, min_age: self.min_age, wrap: false })
    }
}
