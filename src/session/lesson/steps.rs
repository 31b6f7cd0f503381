//! The steps of a lesson: gradients of a batch, the optimizer, the gate.

use core::ops::Range;
use std::time::Instant;

use crate::adapter::{Adapter, Gradients};
use crate::error::{Error, ErrorKind, Result};
use crate::session::photos::{Dataset, balanced_order, order};
use crate::session::policy::{EpochMean, Gate, GateState, Outlook, Plan};
use crate::session::progress::Audience;
use crate::session::run::Runner;
use crate::session::settings::Lesson;
use crate::session::store::{Record, diverged};

/// Steps whose times have room from the start.
const STEPS_AHEAD: usize = 1 << 16;

/// Where to go on: what the present epoch has shown and the gate has seen, and everything as it was before the events on trial.
/// The adapter and the record stand there too.
pub(crate) struct StepsLeft {
    pub(crate) epoch: EpochMean,
    pub(crate) gate: GateState,
    pub(crate) before_events: Option<Adapter>,
}

/// A step, just taken.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Taken {
    /// From 1.
    pub(crate) step: u64,
    /// From 0.
    pub(crate) epoch: u64,
    /// Mean cross-entropy of the batch before the update.
    pub(crate) loss: f32,
    /// Share of it that was classified right before the update.
    pub(crate) accuracy: f64,
    /// Learning rates: the largest of any pair, and the head's.
    pub(crate) rates: [f32; 2],
    /// Whether the pairs' importance is to be noted.
    pub(crate) noted: bool,
}

/// An imprinted adapter that learns, step by step.
pub(crate) struct Steps {
    plan: Plan,
    gate: Gate,
    batches: BatchOrder,
    gradients: Gradients,
    epoch: EpochMean,
    step_ms: Vec<f64>,
    /// Batches in a row of which no photo could be read.
    unread: u64,
}

/// What the steps leave behind.
#[derive(Default)]
pub(crate) struct Ran {
    /// Of the last epoch.
    pub(crate) epoch: EpochMean,
    pub(crate) step_ms: Vec<f64>,
    /// Steps in which pairs rested, those before the lesson was taken up included.
    pub(crate) rested: u64,
}

impl Steps {
    /// The steps of `lesson` on `data`, as planned, from the first one or from where it was `left`.
    pub(crate) fn new(
        lesson: &Lesson,
        plan: &Plan,
        data: &Dataset,
        runner: &Runner,
        outlook: &Outlook,
        left: Option<StepsLeft>,
    ) -> Self {
        let mut gate = Gate::new(plan, data.classes.len(), outlook);
        let mut epoch = EpochMean::default();
        if let Some(left) = left {
            epoch = left.epoch;
            gate.restore(left.gate, left.before_events);
        }
        let expected = usize::try_from(plan.steps).unwrap_or(0).min(STEPS_AHEAD);
        Steps {
            plan: *plan,
            gate,
            batches: BatchOrder::of(lesson, data),
            gradients: runner.adapter().zero_gradients(),
            epoch,
            step_ms: Vec::with_capacity(expected),
            unread: 0,
        }
    }

    /// Takes the step after `record.steps`; `None` where none is left. One whose photos cannot be read is passed over.
    ///
    /// # Errors
    /// `Stopped` where it is stopped: the step under way is let go, and everything is as it was before it. `Diverged` where the loss stops being a number; `Data` where no photo of a whole epoch can be read.
    pub(crate) fn next(
        &mut self,
        runner: &mut Runner,
        data: &Dataset,
        record: &mut Record,
        audience: &mut Audience,
    ) -> Result<Option<Taken>> {
        for step in record.steps..self.plan.steps {
            if self.batches.go_to(step) {
                self.epoch = EpochMean::default();
            }
            let Self { batches, gradients, gate, .. } = self;
            let clock = runner.gradients(data, batches.batch(), batches.augment(), gradients, audience)?;
            if gradients.images == 0 {
                self.unread += 1;
                if self.unread >= self.batches.per_epoch() {
                    let message =
                        "can no longer be read, none of them; bring them back, and go on with option `resume`";
                    return Err(Error::new(ErrorKind::Data, data.place(), message));
                }
                continue;
            }
            self.unread = 0;
            if !gradients.loss.is_finite() {
                return Err(diverged(step + 1, NO_NUMBER));
            }
            let update = Instant::now();
            let rates = gate.rates(step, gradients.loss);
            runner.update(gradients, rates, self.plan.decays)?;
            let rates = [runner.adapter().largest_rate(&rates.0), rates.1];
            gate.after_step(step, &mut runner.adapter_mut(), &mut record.events)?;
            record.steps = step + 1;
            self.step_ms.push(clock + update.elapsed().as_secs_f64() * 1e3);
            self.epoch.add(gradients);
            let (loss, accuracy) = (gradients.loss, gradients.accuracy());
            let noted = self.plan.notes_importance(step);
            return Ok(Some(Taken { step: step + 1, epoch: self.batches.epoch, loss, accuracy, rates, noted }));
        }
        Ok(None)
    }

    /// What the present epoch has shown, what the gate has seen, and everything as it was before the events on trial.
    pub(crate) fn state(&self) -> (EpochMean, GateState, Option<&Adapter>) {
        let (gate, before_events) = self.gate.state();
        (self.epoch, gate, before_events)
    }

    /// After the last one: the values that it has left have been seen by no batch yet, so one is measured.
    ///
    /// # Errors
    /// `Diverged` where its loss is not a number; `Stopped` where it is stopped, and everything is as it was.
    pub(crate) fn end(&mut self, runner: &mut Runner, data: &Dataset, audience: &mut Audience) -> Result<Ran> {
        self.batches.go_to(self.plan.steps.saturating_sub(1));
        judge(runner, data, self.batches.batch(), self.batches.augment(), self.plan.steps, audience)?;
        Ok(Ran { epoch: self.epoch, step_ms: core::mem::take(&mut self.step_ms), rested: self.gate.rested() })
    }
}

/// Which photos a step sees: it follows from its number alone.
pub(crate) struct BatchOrder {
    batch_len: usize,
    seed: u64,
    augments: bool,
    photos: usize,
    /// The class of each, where every class is to come up equally often.
    balanced: Option<Vec<usize>>,
    /// The present epoch's order; none yet at first.
    order: Vec<usize>,
    epoch: u64,
    batch: Range<usize>,
}

impl BatchOrder {
    pub(crate) fn new(lesson: &Lesson, photos: usize) -> Self {
        let Lesson { batch, seed, augment, .. } = *lesson;
        BatchOrder {
            batch_len: batch.max(1),
            seed,
            augments: augment,
            photos,
            balanced: None,
            order: Vec::new(),
            epoch: 0,
            batch: 0..0,
        }
    }

    /// Those of a lesson on photos and examples: of the latter there may be few of a class, or many.
    fn of(lesson: &Lesson, data: &Dataset) -> Self {
        let replays = data.present() < data.photos.len();
        let balanced = replays.then(|| data.photos.iter().map(|photo| photo.class).collect());
        BatchOrder { balanced, ..BatchOrder::new(lesson, data.photos.len()) }
    }

    /// Whether an epoch begins with the step `step`, counted from 0.
    pub(crate) fn go_to(&mut self, step: u64) -> bool {
        let per_epoch = self.per_epoch();
        let (epoch, nth) = (step / per_epoch, (step % per_epoch) as usize);
        if self.order.is_empty() || epoch != self.epoch {
            let order = match &self.balanced {
                Some(classes) => balanced_order(self.seed, epoch, classes),
                None => order(self.seed, epoch, self.photos),
            };
            (self.epoch, self.order) = (epoch, order);
        }
        self.batch = nth * self.batch_len..((nth + 1) * self.batch_len).min(self.photos);
        nth == 0
    }

    fn per_epoch(&self) -> u64 {
        self.photos.div_ceil(self.batch_len).max(1) as u64
    }

    pub(crate) fn batch(&self) -> &[usize] {
        &self.order[self.batch.clone()]
    }

    fn augment(&self) -> Option<(u64, u64)> {
        self.augments.then_some((self.seed, self.epoch))
    }
}

const NO_NUMBER: &str = "the loss stopped being a number";

/// The values after `step` steps have been seen by no batch yet: measures one.
///
/// # Errors
/// `Diverged` where its loss is not a number.
pub(crate) fn judge(
    runner: &mut Runner,
    data: &Dataset,
    batch: &[usize],
    augment: Option<(u64, u64)>,
    step: u64,
    audience: &mut Audience,
) -> Result<()> {
    match runner.loss(data, batch, augment, audience)? {
        Some(loss) if !loss.is_finite() => Err(diverged(step, NO_NUMBER)),
        _ => Ok(()),
    }
}
