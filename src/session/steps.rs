//! The steps of a lesson: gradients of a batch, the optimizer, the gate.

use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::bits::Bits;
use super::dataset::{Dataset, order};
use super::gate::{Gate, GateState};
use super::lesson::{Lesson, Observer, Progress};
use super::metrics::Taken;
use super::plan::Plan;
use super::runner::Runner;
use super::store::{Record, diverged};
use crate::adapter::{Adapter, Gradients};
use crate::error::Result;

/// Steps whose times have room from the start.
const STEPS_AHEAD: usize = 1 << 16;

/// What the steps leave behind.
#[derive(Default)]
pub(super) struct Ran {
    /// Of the last epoch.
    pub(super) epoch: EpochMean,
    pub(super) step_ms: Vec<f64>,
    /// Steps in which pairs rested, those before the lesson was taken up included.
    pub(super) rested: u64,
    /// A witness asked to stop before all steps were taken.
    pub(super) stopped: bool,
}

/// Where to go on: what the present epoch has shown and the gate has seen, and everything as it was before the events on trial.
/// The adapter and the record stand there too.
pub(super) type From = (EpochMean, GateState, Option<Adapter>);

/// Looks on after every step.
pub(super) trait Witness {
    /// One step has been taken. What `runner` is asked here must not change what it trains.
    ///
    /// # Errors
    /// Its own: they end the lesson.
    fn saw(&mut self, taken: &Taken, runner: &mut Runner) -> Result<()>;

    /// The lesson stands between two steps; `false` ends it there.
    ///
    /// # Errors
    /// Its own: they end the lesson.
    fn stands(&mut self, _record: &Record, _epoch: &EpochMean, _gate: &Gate, _adapter: &Adapter) -> Result<bool> {
        Ok(true)
    }
}

/// Trains an imprinted adapter on `data` as planned, from the step after `record.steps` on.
///
/// # Errors
/// `Diverged` where the loss or a trained value stops being a number; those of `witness`.
#[expect(clippy::too_many_arguments, reason = "each is another thing, and the two callers have them apart")]
pub(super) fn run_steps(
    runner: &mut Runner,
    data: &Dataset,
    lesson: &Lesson,
    plan: &Plan,
    record: &mut Record,
    from: Option<From>,
    witness: &mut dyn Witness,
    observer: &mut Observer,
) -> Result<Ran> {
    let expected = usize::try_from(plan.steps).unwrap_or(0).min(STEPS_AHEAD);
    let mut ran = Ran { step_ms: Vec::with_capacity(expected), ..Ran::default() };
    if plan.steps == 0 {
        return Ok(ran);
    }
    let mut gate = Gate::new(plan, data.classes.len(), runner.outlook());
    if let Some((epoch, seen, before_events)) = from {
        ran.epoch = epoch;
        gate.restore(seen, before_events);
    }
    observer(Progress::Begin { phase: "train", total: plan.steps.saturating_sub(record.steps) });
    let mut course = Course::new(lesson, data.samples.len());
    let mut gradients = runner.adapter().zero_gradients();
    for step in record.steps..plan.steps {
        if course.go_to(step) {
            ran.epoch = EpochMean::default();
        }
        let clock = runner.gradients(data, course.batch(), course.augment(), &mut gradients, observer)?;
        if gradients.images == 0 {
            continue;
        }
        if !gradients.loss.is_finite() {
            return Err(diverged(step + 1, NO_NUMBER));
        }
        let update = Instant::now();
        let rates = gate.rates(step, gradients.loss);
        runner.update(&gradients, rates)?;
        let rates = [runner.adapter().largest_rate(&rates.0), rates.1];
        gate.after_step(step, &mut runner.adapter_mut(), &mut record.events)?;
        record.steps = step + 1;
        ran.step_ms.push(clock + update.elapsed().as_secs_f64() * 1e3);
        ran.epoch.add(&gradients);
        let noted = plan.notes_importance(step);
        witness.saw(&Taken { step: step + 1, epoch: course.epoch, gradients: &gradients, rates, noted }, runner)?;
        observer(Progress::Step { step: step + 1, loss: gradients.loss, accuracy: gradients.accuracy() });
        if !witness.stands(record, &ran.epoch, &gate, &runner.adapter())? {
            ran.stopped = true;
            return Ok(ran);
        }
    }
    observer(Progress::End);
    ran.rested = gate.rested();
    course.go_to(plan.steps - 1);
    judge(runner, data, course.batch(), course.augment(), plan.steps, observer)?;
    Ok(ran)
}

/// Which photos a step sees: it follows from its number alone.
pub(super) struct Course<'l> {
    lesson: &'l Lesson,
    photos: usize,
    /// The present epoch's order; none yet at first.
    order: Vec<usize>,
    epoch: u64,
    batch: core::ops::Range<usize>,
}

impl<'l> Course<'l> {
    pub(super) fn new(lesson: &'l Lesson, photos: usize) -> Self {
        Course { lesson, photos, order: Vec::new(), epoch: 0, batch: 0..0 }
    }

    /// Whether an epoch begins with the step `step`, counted from 0.
    pub(super) fn go_to(&mut self, step: u64) -> bool {
        let batch = self.lesson.batch.max(1);
        let per_epoch = self.photos.div_ceil(batch).max(1) as u64;
        let (epoch, nth) = (step / per_epoch, (step % per_epoch) as usize);
        if self.order.is_empty() || epoch != self.epoch {
            (self.epoch, self.order) = (epoch, order(self.lesson.seed, epoch, self.photos));
        }
        self.batch = nth * batch..((nth + 1) * batch).min(self.photos);
        nth == 0
    }

    pub(super) fn batch(&self) -> &[usize] {
        &self.order[self.batch.clone()]
    }

    fn augment(&self) -> Option<(u64, u64)> {
        self.lesson.augment.then_some((self.lesson.seed, self.epoch))
    }
}

const NO_NUMBER: &str = "the loss stopped being a number";

/// The values after `step` steps have been seen by no batch yet: measures one.
pub(super) fn judge(
    runner: &mut Runner,
    data: &Dataset,
    batch: &[usize],
    augment: Option<(u64, u64)>,
    step: u64,
    observer: &mut Observer,
) -> Result<()> {
    match runner.loss(data, batch, augment, observer)? {
        Some(loss) if !loss.is_finite() => Err(diverged(step, NO_NUMBER)),
        _ => Ok(()),
    }
}

/// Loss and accuracy over an epoch's batches, before each one's update.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct EpochMean {
    loss: Bits,
    right: Bits,
    photos: Bits,
}

impl EpochMean {
    fn add(&mut self, gradients: &Gradients) {
        let photos = gradients.images as f64;
        self.loss.0 += f64::from(gradients.loss) * photos;
        self.right.0 += gradients.accuracy() * photos;
        self.photos.0 += photos;
    }

    /// Mean cross-entropy.
    pub(super) fn loss(&self) -> Option<f32> {
        (self.photos.0 > 0.0).then_some((self.loss.0 / self.photos.0) as f32)
    }

    /// Share of photos that were classified right.
    pub(super) fn accuracy(&self) -> Option<f64> {
        (self.photos.0 > 0.0).then_some(self.right.0 / self.photos.0)
    }
}
