//! When pairs learn, when they are recomposed, and whether that stays: not before they have learned, not where the photos could
//! only be learned by heart, and not where it hurt.

use serde::{Deserialize, Serialize};

use super::bits::Bits;
use super::event::{Event, Outcome};
use super::outlook::Outlook;
use super::plan::Plan;
use crate::adapter::{Adapter, SiteRecomposition};
use crate::core::{PairRate, Recompose, Schedule};
use crate::error::Result;

/// Cross-entropy below which the photos are as good as learned, and pairs rest on an easy task.
const SETTLED_LOSS: f64 = 0.1;
/// Share of what guessing costs, ln(classes), below which pairs fit the photos without another direction: nothing is recomposed, as
/// there is little to gain (`docs/results.md`).
const FITTED_SHARE: f64 = 0.1;
/// Share of what guessing costs, ln(classes), below which pairs have learned something worth keeping. Before that a fresh pair
/// would only have to learn again what the fused one was still learning (`docs/results.md`).
const LEARNED_SHARE: f64 = 2.0 / 3.0;
/// Weight of the present batch in the loss that pairs rest by and have learned by.
const SMOOTHING: f64 = 0.2;
/// The fewest batches that events are judged by.
const JUDGED_BY: u64 = 20;
/// Standard errors of a difference that chance does not explain.
const BEYOND_CHANCE: f64 = 2.0;

/// Watches the loss.
pub(crate) struct Gate {
    plan: Plan,
    /// Rates of the pairs and of the head.
    schedules: [Schedule; 2],
    /// Pairs rest when the photos are learned.
    easy: bool,
    /// Pairs rest from the first step to the last.
    idle: bool,
    /// The smoothed losses between which an event can pay: above the first, below the second.
    pays: [f64; 2],
    /// The loss, smoothed over batches.
    smoothed: Option<f64>,
    /// Losses of the window that is not full yet; while events are on trial, all since the first of them.
    shown: Losses,
    /// Losses of the last full window.
    recent: Losses,
    on_trial: Option<OnTrial>,
    /// Events have hurt: there will be no other.
    shut: bool,
    /// Steps in which pairs rested.
    rested: u64,
}

/// Events that are yet to be judged.
struct OnTrial {
    /// The losses of the one or two windows before them.
    before: Losses,
    /// Everything as it was before the first, to the bit.
    adapter: Adapter,
    /// The first of their entries among all events.
    first: usize,
}

/// Mean and spread of the batches' losses.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(from = "[Bits; 3]", into = "[Bits; 3]")]
struct Losses {
    count: f64,
    sum: f64,
    squares: f64,
}

impl From<[Bits; 3]> for Losses {
    fn from([count, sum, squares]: [Bits; 3]) -> Self {
        Losses { count: count.0, sum: sum.0, squares: squares.0 }
    }
}

impl From<Losses> for [Bits; 3] {
    fn from(sample: Losses) -> Self {
        [sample.count, sample.sum, sample.squares].map(Bits)
    }
}

/// What a gate has seen; with the adapter before the events on trial, another one can go on from it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct GateState {
    smoothed: Option<Bits>,
    shown: Losses,
    recent: Losses,
    /// Of the events on trial: the losses before them, and the first of their entries.
    trial: Option<(Losses, usize)>,
    shut: bool,
    /// Steps in which pairs rested.
    #[serde(default, skip_serializing_if = "is_none")]
    rested: u64,
}

fn is_none(steps: &u64) -> bool {
    *steps == 0
}

impl GateState {
    /// The first entry of the events on trial.
    pub(crate) fn on_trial(&self) -> Option<usize> {
        self.trial.map(|(_, first)| first)
    }
}

impl Losses {
    fn add(&mut self, loss: f64) {
        self.count += 1.0;
        self.sum += loss;
        self.squares += loss * loss;
    }

    fn and(self, other: Losses) -> Losses {
        let (count, sum) = (self.count + other.count, self.sum + other.sum);
        Losses { count, sum, squares: self.squares + other.squares }
    }

    fn mean(&self) -> f64 {
        self.sum / self.count
    }

    /// The squared standard error of the mean; infinite where two losses do not show a spread.
    fn uncertainty(&self) -> f64 {
        let variance = self.squares / self.count - self.mean().powi(2);
        if self.count < 2.0 { f64::INFINITY } else { variance.max(0.0) / (self.count - 1.0) }
    }

    /// Whether this is above `other` by more than chance explains.
    fn is_above(&self, other: &Losses) -> bool {
        self.mean() - other.mean() > BEYOND_CHANCE * (self.uncertainty() + other.uncertainty()).sqrt()
    }
}

impl Gate {
    /// For a lesson that goes as planned.
    pub(crate) fn new(plan: &Plan, classes: usize, outlook: &Outlook) -> Self {
        let easy = plan.recomposes && outlook.is_easy();
        let idle = plan.recomposes && !outlook.lets_pairs_learn();
        let guessing = (classes as f64).ln();
        let pays = [SETTLED_LOSS.max(FITTED_SHARE * guessing), LEARNED_SHARE * guessing];
        let (plan, schedules) = (*plan, plan.schedules());
        let [shown, recent] = [Losses::default(); 2];
        Gate {
            plan,
            schedules,
            easy,
            idle,
            pays,
            smoothed: None,
            shown,
            recent,
            on_trial: None,
            shut: false,
            rested: 0,
        }
    }

    /// What it has seen, and everything as it was before the events on trial.
    pub(crate) fn state(&self) -> (GateState, Option<&Adapter>) {
        let trial = self.on_trial.as_ref();
        let state = GateState {
            smoothed: self.smoothed.map(Bits),
            shown: self.shown,
            recent: self.recent,
            trial: trial.map(|trial| (trial.before, trial.first)),
            shut: self.shut,
            rested: self.rested,
        };
        (state, trial.map(|trial| &trial.adapter))
    }

    /// Goes on from what another one has seen.
    pub(crate) fn restore(&mut self, state: GateState, before_events: Option<Adapter>) {
        self.smoothed = state.smoothed.map(|Bits(smoothed)| smoothed);
        (self.shown, self.recent, self.shut, self.rested) = (state.shown, state.recent, state.shut, state.rested);
        let trial = state.trial.zip(before_events);
        self.on_trial = trial.map(|((before, first), adapter)| OnTrial { before, adapter, first });
    }

    /// The rates of pairs and head at the step `step`, counted from 0, whose batch has the loss `loss`. While pairs rest, theirs is 0.
    pub(crate) fn rates(&mut self, step: u64, loss: f32) -> (PairRate, f32) {
        let loss = f64::from(loss);
        self.smoothed = Some(self.smoothed.map_or(loss, |smoothed| smoothed + SMOOTHING * (loss - smoothed)));
        self.shown.add(loss);
        let [pairs, head] = self.schedules;
        self.rested += u64::from(self.rests());
        let pairs = if self.rests() { Schedule::linear(0.0, 0, self.plan.steps) } else { pairs };
        (pairs.at(step), head.rate(step))
    }

    fn is_below(&self, loss: f64) -> bool {
        self.smoothed.is_some_and(|smoothed| smoothed < loss)
    }

    /// Steps so far in which pairs rested.
    pub(crate) fn rested(&self) -> u64 {
        self.rested
    }

    fn rests(&self) -> bool {
        self.idle || (self.easy && self.is_below(SETTLED_LOSS))
    }

    /// After the step `step`: judges the events that have been followed for long enough, and makes the next one where it is due
    /// and can pay.
    pub(crate) fn after_step(&mut self, step: u64, adapter: &mut Adapter, events: &mut Vec<Event>) -> Result<()> {
        let full = self.shown.count >= self.plan.judged_by.max(JUDGED_BY) as f64;
        if full || step + 1 == self.plan.steps {
            self.recent = core::mem::take(&mut self.shown);
            self.judge(adapter, events);
        }
        let can_pay = self.plan.is_asked() || (self.is_below(self.pays[1]) && !self.is_below(self.pays[0]));
        if !self.plan.is_due(step) || !can_pay || self.shut || self.idle {
            return Ok(());
        }
        if self.plan.renews_only {
            return adapter.renew();
        }
        let first = events.len();
        // An event that comes while others are on trial is judged with them.
        let before = self.on_trial.is_none().then(|| adapter.clone());
        events.extend(recompose(adapter, &self.plan.rule, step + 1)?);
        if let Some(adapter) = before.filter(|_| events.len() > first) {
            let before = self.recent.and(core::mem::take(&mut self.shown));
            self.on_trial = Some(OnTrial { before, adapter, first });
        }
        Ok(())
    }

    /// Takes events back if the loss since them is higher than before them. At the end of a lesson too little may have followed to
    /// say that they have not hurt: they stay, but open.
    fn judge(&mut self, adapter: &mut Adapter, events: &mut [Event]) {
        let Some(trial) = self.on_trial.take() else { return };
        self.shut = self.recent.is_above(&trial.before);
        let outcome = match () {
            () if self.shut => Outcome::Undone,
            () if self.recent.count < JUDGED_BY as f64 => Outcome::Open,
            () => Outcome::Kept,
        };
        events.iter_mut().skip(trial.first).for_each(|event| event.outcome = outcome);
        if self.shut {
            *adapter = trial.adapter;
        }
    }
}

/// One recomposition of every site, after the step `step`, counted from 1.
fn recompose(adapter: &mut Adapter, rule: &Recompose, step: u64) -> Result<Vec<Event>> {
    let events = adapter.recompose(rule)?;
    let describe = |SiteRecomposition { site, happened }| Event {
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
    use crate::adapter::{DirectionsBuf, SiteSeed, SiteSettings};
    use crate::core::FuseOrder;
    use crate::session::policy::CrossValidation;
    use crate::session::policy::Due;
    use crate::session::policy::left_out::LeftOutAccuracy;

    /// After the first and the second hundred, as asked for.
    const ASKED: Due = Due::Every { interval: 100, last: 240 };

    /// 300 steps; at each event one of two pairs may be fused.
    fn plan(due: Due) -> Plan {
        let rule = Recompose { pairs: 1, min_age: 0, wrap: false, choice: FuseOrder::LeastImportant };
        let (judged_by, renews_only, recomposes) = (100, false, true);
        Plan { steps: 300, due, judged_by, rule, renews_only, recomposes, lr: 1e-2, head_lr: 1e-3, decays: [0.0; 2] }
    }

    /// Imprinting gets this share of many photos right.
    fn outlook(accuracy: f64) -> Outlook {
        Outlook {
            left_out: Some(LeftOutAccuracy { accuracy, photos: 1000 }),
            cross_validation: None,
            closed_form: None,
        }
    }

    fn adapter() -> Adapter {
        let halves = |n: usize| (0..n).map(|i| f16::from_f32((i as f32 * 0.7).sin())).collect();
        let directions = DirectionsBuf { sigma: vec![1.0; 4].into(), u: halves(4 * 6), v: halves(4 * 5) };
        Adapter::start([SiteSeed::new("site", [6, 5], directions)], 2, SiteSettings::default(), 2, 6).unwrap()
    }

    fn moved(adapter: &mut Adapter) {
        adapter.sites[0].values_mut().iter_mut().for_each(|value| *value += 1e-3);
    }

    /// Runs a lesson whose loss in the k-th hundred is `losses[k]`, give or take 0.01; the pairs move a little at every step.
    /// Imprinting gets half right, or `left_out`. What each event came to, and the adapter before the end of each hundred and at the end.
    fn lesson(due: Due, losses: [f32; 3], left_out: Option<f64>) -> (Vec<(u64, Outcome)>, Vec<Adapter>) {
        let (mut gate, mut adapter) = (Gate::new(&plan(due), 100, &outlook(left_out.unwrap_or(0.5))), adapter());
        let (mut events, mut ends) = (Vec::new(), Vec::new());
        for step in 0..300 {
            let loss = losses[(step / 100) as usize] + if step % 2 == 0 { 0.01 } else { -0.01 };
            gate.rates(step, loss);
            moved(&mut adapter);
            if (step + 1) % 100 == 0 {
                ends.push(adapter.clone());
            }
            gate.after_step(step, &mut adapter, &mut events).unwrap();
        }
        ends.push(adapter);
        (events.iter().map(|event| (event.step, event.outcome)).collect(), ends)
    }

    #[test]
    fn events_that_do_not_hurt_are_kept() {
        let (events, _) = lesson(ASKED, [1.0, 0.8, 0.7], None);
        assert_eq!(events, [(100, Outcome::Kept), (200, Outcome::Kept)]);
    }

    #[test]
    fn an_event_that_hurts_is_taken_back_to_the_bit_and_is_the_last() {
        let (events, ends) = lesson(ASKED, [1.0, 1.2, 0.7], None);
        assert_eq!(events, [(100, Outcome::Undone)]);
        // After step 200 all is as it was after step 100; then it moved 100 times.
        let mut expected = ends[0].clone();
        (0..100).for_each(|_| moved(&mut expected));
        assert_eq!(ends[3].sites[0].state, expected.sites[0].state);
        assert_eq!(ends[3].sites[0].ledger.directions(), [0, 1]);
        let (events, ends) = lesson(ASKED, [1.0, 0.8, 0.9], None);
        assert_eq!(events, [(100, Outcome::Kept), (200, Outcome::Undone)]);
        assert_eq!(ends[3].sites[0].state, ends[1].sites[0].state, "the lesson ends as it was before what hurt");
    }

    #[test]
    fn events_that_little_follows_stay_open() {
        let (mut gate, mut adapter, mut events) =
            (Gate::new(&plan(ASKED), 100, &Outlook::default()), adapter(), Vec::new());
        gate.plan.steps = 110;
        for step in 0..110 {
            gate.rates(step, if step % 2 == 0 { 1.01 } else { 0.99 });
            gate.after_step(step, &mut adapter, &mut events).unwrap();
        }
        assert_eq!(events.iter().map(|event| event.outcome).collect::<Vec<_>>(), [Outcome::Open]);
    }

    #[test]
    fn nothing_is_recomposed_before_pairs_have_learned() {
        // Two thirds of ln 100 are 3.07.
        assert_eq!(lesson(Due::Once(200), [4.0, 3.0, 2.9], None).0, [(200, Outcome::Kept)]);
        assert_eq!(lesson(Due::Once(200), [4.0, 3.2, 2.9], None).0, []);
        assert_eq!(lesson(ASKED, [4.0, 3.2, 2.9], None).0.len(), 2, "what is asked for waits for nothing");
        assert_eq!(lesson(Due::Never, [1.0, 0.8, 0.7], None).0, []);
    }

    #[test]
    fn renewing_alone_leaves_what_was_learned_and_starts_rates_and_moments_anew() {
        let mut gate = Gate::new(&Plan { renews_only: true, ..plan(Due::Once(1)) }, 100, &Outlook::default());
        let (mut adapter, mut events) = (adapter(), Vec::new());
        adapter.sites[0].state.iter_mut().for_each(|value| *value += 1e-3);
        let (learned, plane) = (adapter.sites[0].state.clone(), adapter.sites[0].shape.plane_len());
        gate.rates(0, 1.0);
        gate.after_step(0, &mut adapter, &mut events).unwrap();
        let state = &adapter.sites[0].state;
        assert!(
            events.is_empty() && state[..plane] == learned[..plane] && state[plane..].iter().all(|value| *value == 0.0)
        );
        assert_eq!(adapter.sites[0].ledger.directions(), [0, 1]);
    }

    #[test]
    fn events_are_judged_by_what_was_just_before_them_not_by_how_the_lesson_began() {
        // The loss falls from 5 to 0.5 within the first fifty steps; after the event it is 0.6.
        let mut gate = Gate::new(&plan(ASKED), 100, &Outlook::default());
        let (mut adapter, mut events) = (adapter(), Vec::new());
        for step in 0..300 {
            let loss = if step < 100 { (5.0 - 0.09 * step as f32).max(0.5) } else { 0.6 };
            gate.rates(step, loss + if step % 2 == 0 { 0.01 } else { -0.01 });
            gate.plan.judged_by = if step < 80 { 0 } else { 100 };
            gate.after_step(step, &mut adapter, &mut events).unwrap();
        }
        assert_eq!(events.iter().map(|event| event.outcome).collect::<Vec<_>>(), [Outcome::Undone]);
    }

    #[test]
    fn a_task_that_is_learned_has_no_events() {
        let events = |losses, left_out| lesson(Due::Once(200), losses, Some(left_out)).0.len();
        assert_eq!(events([0.05, 0.02, 0.01], 0.9), 0);
        assert_eq!(events([0.05, 0.02, 0.01], 0.85), 0, "not easy, but learned");
        // A tenth of ln 100 is 0.46; the event comes at the end of the second hundred.
        assert_eq!([0.44, 0.48].map(|loss| events([0.8, loss, 0.3], 0.85)), [0, 1], "nearly learned, and less");
        assert_eq!(events([1.0, 0.8, 0.7], 0.9), 1, "easy, but not learned");
        assert!(Gate::new(&plan(ASKED), 100, &Outlook::default()).easy, "where nothing is known, nothing is risked");
    }

    #[test]
    fn pairs_rest_while_the_smoothed_loss_is_low_and_the_head_goes_on() {
        let rates = |left_out| {
            let mut gate = Gate::new(&plan(ASKED), 100, &outlook(left_out));
            // Smoothed: 1, 0.8, 0.64, ..., 0.8^10 = 0.107, 0.8^11 = 0.086; then 0.2 * 2 + 0.8 * 0.086 = 0.47.
            let losses = [1.0].into_iter().chain([0.0; 11]).chain([2.0]);
            let rates = losses.enumerate().map(|(step, loss)| (step, gate.rates(step as u64, loss)));
            let rates = rates.map(|(step, (pairs, head))| [pairs.rate(step as u32 + 1), head]).collect::<Vec<_>>();
            // What has been counted goes with what the gate has seen.
            let mut later = Gate::new(&plan(ASKED), 100, &outlook(left_out));
            later.restore(gate.state().0, None);
            (rates, later.rested())
        };
        let ((easy, rested), (hard, none)) = (rates(0.95), rates(0.6));
        assert_eq!((rested, none), (1, 0));
        let resting: Vec<usize> = (0..13).filter(|&step| easy[step][0] == 0.0).collect();
        assert_eq!(resting, [11]);
        assert!((0..13).all(|step| hard[step][0] > 0.0 && hard[step][1] == easy[step][1]));
    }

    #[test]
    fn pairs_that_did_not_help_when_it_was_cross_validated_never_learn_and_are_never_recomposed() {
        let learns = |help| {
            let pairs = if help { 8 } else { 6 };
            let cross_validation = Some(CrossValidation {
                photos: 10,
                imprinted: 5,
                head: 5,
                pairs,
                pairs_differ: 3,
                ..CrossValidation::default()
            });
            let mut gate = Gate::new(&plan(Due::Once(200)), 100, &Outlook { cross_validation, ..outlook(0.5) });
            let (mut adapter, mut events) = (adapter(), Vec::new());
            let mut rates = Vec::new();
            for step in 0..300 {
                let (pairs, head) = gate.rates(step, 1.0);
                rates.push((pairs.rate(step as u32 + 1) > 0.0, head > 0.0));
                gate.after_step(step, &mut adapter, &mut events).unwrap();
            }
            assert!(rates.iter().all(|rate| *rate == (help, true)));
            !events.is_empty()
        };
        assert!(learns(true) && !learns(false));
    }

    #[test]
    fn a_loss_is_higher_only_beyond_chance() {
        let sample = |losses: &[f64]| {
            let mut sample = Losses::default();
            losses.iter().for_each(|loss| sample.add(*loss));
            sample
        };
        let (low, high) = (sample(&[0.9, 1.0, 1.1, 1.0]), sample(&[1.2, 1.3, 1.4, 1.3]));
        // Standard errors by hand: the squares sum to 0.02 over 4 batches, / 4 / 3.
        assert!((low.uncertainty() - 0.005 / 3.0).abs() < 1e-12 && (low.mean() - 1.0).abs() < 1e-12);
        assert!(high.is_above(&low) && !low.is_above(&high) && !low.is_above(&low));
        assert!(!sample(&[0.2, 2.4]).is_above(&low), "two batches that differ so much say nothing");
        assert!(!sample(&[9.0]).is_above(&low), "nor does one batch");
    }
}
