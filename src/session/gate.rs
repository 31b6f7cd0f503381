//! When pairs learn, when they are recomposed, and whether that stays: only while training has something to gain, and not where
//! it hurt.

use super::lesson::{Event, Outcome};
use super::plan::Plan;
use crate::adapter::Adapter;
use crate::core::{Recompose, Recomposition, Schedule};
use crate::error::Result;

/// Cross-entropy below which the photos are as good as learned, and pairs could only learn them by heart: they rest, and are not
/// recomposed. Chosen on the few-photo tasks of `docs/RESULTS.md`.
const SETTLED_LOSS: f64 = 0.2;
/// Weight of the present batch in the loss that pairs rest by.
const SMOOTHING: f64 = 0.2;
/// The part of a life that shows what it has come to, and the fewest batches that say anything.
const SHOWN: (u64, u64) = (10, 20);
/// Standard errors of a difference that chance does not explain.
const BEYOND_CHANCE: f64 = 2.0;

/// Watches the loss.
pub(super) struct Gate {
    /// Rates of the pairs and of the head.
    schedules: [Schedule; 2],
    /// The loss, smoothed over batches.
    smoothed: Option<f64>,
    /// Losses of the present life's last part.
    shown: Sample,
    on_trial: Option<OnTrial>,
    /// An event has hurt: there will be no other.
    shut: bool,
}

/// An event whose life is not over yet.
struct OnTrial {
    /// What the life before it came to.
    shown: Sample,
    /// Everything as it was, to the bit.
    adapter: Adapter,
    /// The first of its entries among the events.
    first: usize,
}

/// Mean and spread of the batches' losses.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Sample {
    count: f64,
    sum: f64,
    squares: f64,
}

impl Sample {
    fn add(&mut self, loss: f64) {
        self.count += 1.0;
        self.sum += loss;
        self.squares += loss * loss;
    }

    fn mean(&self) -> f64 {
        self.sum / self.count
    }

    /// The squared standard error of the mean.
    fn uncertainty(&self) -> f64 {
        let variance = self.squares / self.count - self.mean().powi(2);
        variance.max(0.0) / (self.count - 1.0).max(1.0)
    }

    /// Whether this is above `other` by more than chance explains.
    fn is_above(&self, other: &Sample) -> bool {
        self.mean() - other.mean() > BEYOND_CHANCE * (self.uncertainty() + other.uncertainty()).sqrt()
    }
}

impl Gate {
    pub(super) fn new(plan: &Plan) -> Self {
        let schedules = plan.schedules();
        Gate { schedules, smoothed: None, shown: Sample::default(), on_trial: None, shut: false }
    }

    /// The rates of the step `step`, counted from 0, whose batch has the loss `loss`: that of the pairs is 0 while they rest.
    pub(super) fn rates(&mut self, step: u64, plan: &Plan, loss: f32) -> [f32; 2] {
        let loss = f64::from(loss);
        let smoothed = self.smoothed.map_or(loss, |smoothed| smoothed + SMOOTHING * (loss - smoothed));
        self.smoothed = Some(smoothed);
        let [pairs, head] = self.schedules.map(|schedule| schedule.rate(step));
        [if plan.rests && smoothed < SETTLED_LOSS { 0.0 } else { pairs }, head]
    }

    /// Sees the loss of the step `step`; at the end of a life judges the event before it, and makes the next one
    /// where it can pay.
    pub(super) fn after_step(
        &mut self,
        step: u64,
        plan: &Plan,
        loss: f32,
        adapter: &mut Adapter,
        events: &mut Vec<Event>,
    ) -> Result<()> {
        let into = step.checked_rem(plan.life).unwrap_or(0);
        let length = plan.life.min(plan.steps - (step - into));
        if into + (length / SHOWN.0).max(SHOWN.1) >= length {
            self.shown.add(f64::from(loss));
        }
        if !plan.ends_life(step) {
            return Ok(());
        }
        let shown = core::mem::take(&mut self.shown);
        self.judge(&shown, adapter, events);
        match &plan.rule {
            _ if !plan.may_start_anew(step) => {}
            None => adapter.restart_optimizer(),
            Some(_) if self.shut || shown.mean() <= SETTLED_LOSS => {}
            Some(rule) => {
                let (before, first) = (adapter.clone(), events.len());
                events.extend(recompose(adapter, rule, step + 1)?);
                self.on_trial = (events.len() > first).then_some(OnTrial { shown, adapter: before, first });
            }
        }
        Ok(())
    }

    /// Takes the last event back if the loss is higher than before it, a life later.
    fn judge(&mut self, shown: &Sample, adapter: &mut Adapter, events: &mut [Event]) {
        let Some(trial) = self.on_trial.take() else { return };
        self.shut = shown.is_above(&trial.shown);
        let outcome = if self.shut { Outcome::Undone } else { Outcome::Kept };
        events[trial.first..].iter_mut().for_each(|event| event.outcome = outcome);
        if self.shut {
            *adapter = trial.adapter;
        }
    }
}

/// One recomposition of every site, after the step `step`, counted from 1.
fn recompose(adapter: &mut Adapter, rule: &Recompose, step: u64) -> Result<Vec<Event>> {
    let events = adapter.recompose(rule)?;
    let describe = |(site, happened): (usize, Recomposition)| Event {
        step,
        site: adapter.sites[site].name.clone(),
        pair: happened.pair.into(),
        direction: happened.to.into(),
        importance: happened.importance,
        max_error: happened.max_error,
        outcome: Outcome::Open,
    };
    Ok(events.into_iter().map(describe).collect())
}

#[cfg(test)]
mod tests {
    use half::f16;

    use super::*;
    use crate::adapter::{Directions, SiteSettings};
    use crate::core::Choice;

    /// 300 steps in three lives; at the end of the first two, one of two pairs may be fused.
    fn plan() -> Plan {
        let rule = Recompose { pairs: 1, min_age: 0, wrap: false, choice: Choice::LeastImportant };
        Plan { steps: 300, life: 100, rule: Some(rule), last: 240, lr: 1e-2, head_lr: 1e-3, rests: true }
    }

    fn adapter() -> Adapter {
        let halves = |n: usize| (0..n).map(|i| f16::from_f32((i as f32 * 0.7).sin())).collect();
        let directions = Directions { sigma: vec![1.0; 4].into(), u: halves(4 * 6), v: halves(4 * 5) };
        Adapter::start([("site".into(), 6, 5, directions)], 2, SiteSettings::default(), 2, 6).unwrap()
    }

    /// Runs a lesson whose loss in life k is `losses[k]`, give or take 0.01; the pairs move a little at every step. What each
    /// event came to, and the adapter at the end of each life.
    fn lesson(losses: [f32; 3], plan: &Plan) -> (Vec<(u64, Outcome)>, Vec<Adapter>) {
        let (mut gate, mut adapter, mut events, mut ends) = (Gate::new(plan), adapter(), Vec::new(), Vec::new());
        for step in 0..plan.steps {
            adapter.sites[0].values_mut().iter_mut().for_each(|value| *value += 1e-3);
            if plan.ends_life(step) {
                ends.push(adapter.clone());
            }
            let loss = losses[(step / 100) as usize] + if step % 2 == 0 { 0.01 } else { -0.01 };
            gate.after_step(step, plan, loss, &mut adapter, &mut events).unwrap();
        }
        ends.push(adapter);
        (events.iter().map(|event| (event.step, event.outcome)).collect(), ends)
    }

    #[test]
    fn events_that_do_not_hurt_are_kept() {
        let (events, _) = lesson([1.0, 0.8, 0.7], &plan());
        assert_eq!(events, [(100, Outcome::Kept), (200, Outcome::Kept)]);
    }

    #[test]
    fn an_event_that_hurts_is_taken_back_to_the_bit_and_is_the_last() {
        let (events, ends) = lesson([1.0, 1.2, 0.7], &plan());
        assert_eq!(events, [(100, Outcome::Undone)]);
        // After life 2 all is as it was after life 1; life 3 then moved it 100 times.
        let mut expected = ends[0].clone();
        for _ in 0..100 {
            expected.sites[0].values_mut().iter_mut().for_each(|value| *value += 1e-3);
        }
        assert_eq!(ends[3].sites[0].state, expected.sites[0].state);
        assert_eq!(ends[3].sites[0].ledger.directions(), [0, 1]);
        let (events, ends) = lesson([1.0, 0.8, 0.9], &plan());
        assert_eq!(events, [(100, Outcome::Kept), (200, Outcome::Undone)]);
        assert_eq!(
            ends[3].sites[0].state, ends[1].sites[0].state,
            "the last life hurt: the result is what it began with"
        );
    }

    #[test]
    fn pairs_rest_while_the_smoothed_loss_is_low_and_the_head_goes_on() {
        let rates = |rests| {
            let plan = Plan { rests, life: 0, ..plan() };
            let mut gate = Gate::new(&plan);
            // Smoothed: 1, 0.8, 0.64, ..., 0.8^7 = 0.21, 0.8^8 = 0.17; then 0.2 * 2 + 0.8 * 0.17 = 0.53.
            let losses = [1.0].into_iter().chain([0.0; 8]).chain([2.0]);
            losses.enumerate().map(|(step, loss)| gate.rates(step as u64, &plan, loss)).collect::<Vec<_>>()
        };
        let (rested, moved) = (rates(true), rates(false));
        let resting: Vec<usize> = (0..10).filter(|&step| rested[step][0] == 0.0).collect();
        assert_eq!(resting, [8]);
        assert!((0..10).all(|step| moved[step][0] > 0.0 && moved[step][1] == rested[step][1]));
    }

    #[test]
    fn an_easy_task_has_no_events_and_a_control_fuses_nothing() {
        assert_eq!(lesson([0.05, 0.02, 0.01], &plan()).0, []);
        let (events, ends) = lesson([1.0, 0.8, 0.7], &Plan { rule: None, ..plan() });
        assert!(events.is_empty() && ends[3].sites[0].ledger.directions() == [0, 1]);
    }

    #[test]
    fn a_loss_is_higher_only_beyond_chance() {
        let sample = |losses: &[f64]| {
            let mut sample = Sample::default();
            losses.iter().for_each(|loss| sample.add(*loss));
            sample
        };
        let (low, high) = (sample(&[0.9, 1.0, 1.1, 1.0]), sample(&[1.2, 1.3, 1.4, 1.3]));
        // Standard errors by hand: the squares sum to 0.02 over 4 batches, / 4 / 3.
        assert!((low.uncertainty() - 0.005 / 3.0).abs() < 1e-12 && (low.mean() - 1.0).abs() < 1e-12);
        assert!(high.is_above(&low) && !low.is_above(&high) && !low.is_above(&low));
        assert!(!sample(&[0.2, 2.4]).is_above(&low), "two batches that differ so much say nothing");
    }
}
