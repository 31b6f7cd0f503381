//! A traced lesson on a device's clock: heat, the hours with power, and power cuts.
//!
//! The lesson's work is what it was; only when it happens, and what has to be done again, is played here. After a cut the lesson is
//! taken up as one with option `resume` is.

use serde::Serialize;

use super::device::{PowerHours, Thermal};
use super::pace::Cost;
use super::trace::{Kept, Phase, Piece};

/// Where in a lesson the power is cut.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum CutAt {
    /// Half-way through imprinting: no generation is written yet.
    Imprint,
    /// After so many steps.
    Step(u64),
    /// Half-way through writing the last generation.
    Save,
    /// When this share of the lesson's work is done, from 0 to 1.
    Share(f64),
}

/// Why the power went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Cause {
    /// A cut that was asked for.
    Cut,
    /// The device's hours with power were over.
    Schedule,
}

/// A power cut, and what it left.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Cut {
    /// Why.
    pub cause: Cause,
    /// On the device's clock.
    pub at_s: f64,
    /// What was being done.
    pub phase: Phase,
    /// Steps done by then.
    pub step: u64,
    /// Whether a generation was being written.
    pub saving: bool,
    /// The generation that a reader finds afterwards; null where the store had not appeared yet.
    pub generation: Option<u64>,
    /// Steps behind the checkpoint that the lesson goes on from, 0 after a cross-validation; null where there is none.
    pub checkpoint: Option<u64>,
    /// Steps that have to be done again.
    pub lost_steps: u64,
    /// Seconds of work at full speed that have to be done again, starting and reading the photos included.
    pub lost_s: f64,
}

/// When something was reached.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Mark {
    pub(super) at_s: f64,
    pub(super) piece: usize,
}

/// How a lesson goes on the device.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Played {
    pub(super) cuts: Vec<Cut>,
    /// Ends of the pieces whose work has lasted, in order.
    pub(super) marks: Vec<Mark>,
    /// Cuts whose place no attempt had when their turn came.
    pub(super) missed: usize,
    /// Whether the last attempt came to its end.
    pub(super) finishes: bool,
    /// From the beginning to the end, hours without power included.
    pub(super) clock_s: f64,
    /// With the processor at work.
    pub(super) busy_s: f64,
    /// Without power.
    pub(super) off_s: f64,
    /// By which heat made it longer.
    pub(super) throttled_s: f64,
    /// Bytes written in all attempts.
    pub(super) bytes: f64,
}

/// What a device imposes on a lesson.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Conditions {
    pub(super) thermal: Option<Thermal>,
    pub(super) schedule: Option<PowerHours>,
}

/// A lesson's pieces, and what each costs, in seconds at full speed.
pub(super) struct Timeline<'t> {
    pieces: &'t [Piece],
    costs: Vec<f64>,
}

impl<'t> Timeline<'t> {
    pub(super) fn new(pieces: &'t [Piece], costs: &[Cost]) -> Self {
        Timeline { pieces, costs: costs.iter().map(Cost::total).collect() }
    }

    /// The work of an attempt, after one that left what the piece `survivor` has written: the lesson starts and reads its photos
    /// again, measures accuracy again where no checkpoint remembers it, and goes on after that piece.
    fn attempt(&self, survivor: Option<usize>) -> Attempt<'_> {
        let again = |at: &usize| {
            let Some(survivor) = survivor else { return true };
            match self.pieces[*at].phase {
                Phase::Start | Phase::Imprint => true,
                Phase::Directions => self.pieces[survivor].step == 0,
                Phase::Accuracy | Phase::CrossValidate => self.pieces[survivor].generation().is_some(),
                Phase::Train | Phase::Save => false,
            }
        };
        let resumes_at = survivor.map_or(0, |piece| piece + 1);
        let order: Vec<usize> = (0..resumes_at).filter(again).chain(resumes_at..self.pieces.len()).collect();
        let ends = order.iter().scan(0.0, |sum, piece| {
            *sum += self.costs[*piece];
            Some(*sum)
        });
        Attempt { pieces: self.pieces, survivor, ends: ends.collect(), order }
    }

    /// Whether the lesson has such a place.
    pub(super) fn has(&self, cut: CutAt) -> bool {
        self.attempt(None).place(cut).is_some()
    }

    /// Plays the lesson: each of `cuts` strikes one attempt, in order; one whose place lies behind the lesson is missed.
    pub(super) fn play(&self, conditions: &Conditions, cuts: &[CutAt]) -> Played {
        let mut played = Played::default();
        let mut cuts = cuts.iter().copied().peekable();
        let on_s = conditions.schedule.map_or(f64::INFINITY, |schedule| schedule.on_minutes * 60.0);
        let mut left_s = on_s;
        let mut attempt = self.attempt(None);
        let wall = |work: f64| conditions.thermal.map_or(work, |thermal| thermal.stretched(work));
        loop {
            while cuts.next_if(|cut| attempt.place(*cut).is_none()).is_some() {
                played.missed += 1;
            }
            let asked = cuts.peek().and_then(|cut| attempt.place(*cut));
            let ours = asked.filter(|work| wall(*work) <= left_s);
            let end = ours.unwrap_or(attempt.total());
            let (work, cause) = match (ours, wall(end) > left_s) {
                (Some(work), _) => (work, Some(Cause::Cut)),
                (None, true) => (attempt.work_in(wall, left_s), Some(Cause::Schedule)),
                (None, false) => (end, None),
            };
            if ours.is_some() {
                cuts.next();
            }
            let fresh = left_s == on_s;
            let spent = wall(work);
            let begin = played.clock_s;
            played.busy_s += spent;
            played.throttled_s += spent - work;
            played.clock_s += spent;
            left_s -= spent;
            played.bytes += attempt.bytes(work);
            let survivor = if cause.is_some() { attempt.durable(work) } else { self.pieces.len().checked_sub(1) };
            let lasting = attempt.survivor.map_or(0, |piece| piece + 1)..survivor.map_or(0, |piece| piece + 1);
            let ends = attempt.order.iter().zip(&attempt.ends).filter(|(piece, _)| lasting.contains(*piece));
            played.marks.extend(ends.map(|(&piece, &end)| Mark { at_s: begin + wall(end), piece }));
            let Some(cause) = cause else {
                played.finishes = true;
                return played;
            };
            let next = self.attempt(survivor);
            played.cuts.push(attempt.cut(cause, played.clock_s, work, &next));
            // A whole window has brought the lesson nowhere, and none of the next will.
            if cause == Cause::Schedule && fresh && survivor == attempt.survivor {
                return played;
            }
            attempt = next;
            if cause == Cause::Schedule {
                let off_s = conditions.schedule.map_or(0.0, |schedule| schedule.off_minutes * 60.0);
                played.clock_s += off_s;
                played.off_s += off_s;
                left_s = on_s;
            }
        }
    }
}

/// A lesson from where it was left to its end.
struct Attempt<'t> {
    pieces: &'t [Piece],
    /// The piece that has written what this goes on from.
    survivor: Option<usize>,
    /// What is done, in order.
    order: Vec<usize>,
    /// The work that is done at the end of each, in seconds at full speed.
    ends: Vec<f64>,
}

impl Attempt<'_> {
    fn total(&self) -> f64 {
        self.ends.last().copied().unwrap_or(0.0)
    }

    /// The work that is done when the piece in this place of the order begins.
    fn start(&self, place: usize) -> f64 {
        place.checked_sub(1).map_or(0.0, |before| self.ends[before])
    }

    /// The pieces in their order.
    fn in_order(&self) -> impl DoubleEndedIterator<Item = &Piece> + ExactSizeIterator {
        self.order.iter().map(|piece| &self.pieces[*piece])
    }

    /// The work that is done when a cut comes; `None` where the attempt has no such place.
    fn place(&self, cut: CutAt) -> Option<f64> {
        let middle = |place: usize| (self.start(place) + self.ends[place]) / 2.0;
        let photos = self.in_order().filter(|piece| piece.phase == Phase::Imprint).count();
        let mut pieces = self.in_order();
        match cut {
            CutAt::Imprint => {
                let first = pieces.position(|piece| piece.phase == Phase::Imprint)?;
                Some(middle(first + photos / 2))
            }
            CutAt::Step(0) => pieces.position(|piece| piece.generation() == Some(1)).map(|at| self.ends[at]),
            CutAt::Step(step) => {
                let done = |piece: &Piece| piece.phase == Phase::Train && piece.step == step;
                pieces.position(done).map(|at| self.ends[at])
            }
            CutAt::Save => pieces.rposition(Piece::saves).map(middle),
            CutAt::Share(share) => Some(share.clamp(0.0, 1.0) * self.total()),
        }
    }

    /// The work that is done `left_s` after the attempt began.
    fn work_in(&self, wall: impl Fn(f64) -> f64, left_s: f64) -> f64 {
        let (mut low, mut high) = (0.0, self.total());
        for _ in 0..64 {
            let middle = (low + high) / 2.0;
            *(if wall(middle) > left_s { &mut high } else { &mut low }) = middle;
        }
        low
    }

    /// Pieces that are whole when so much work is done.
    fn done(&self, work: f64) -> usize {
        self.ends.iter().take_while(|end| **end <= work).count()
    }

    /// The piece whose writing the next attempt goes on from.
    fn durable(&self, work: f64) -> Option<usize> {
        let done = self.order[..self.done(work)].iter().rev();
        done.copied().find(|piece| self.pieces[*piece].kept.is_some()).or(self.survivor)
    }

    /// What it leaves when it is cut, and `next` follows.
    fn cut(&self, cause: Cause, at_s: f64, work: f64, next: &Attempt) -> Cut {
        let done = self.done(work);
        let at = &self.pieces[self.order[done.min(self.order.len() - 1)]];
        let steps = |attempt: &Attempt| attempt.survivor.map_or(0, |piece| self.pieces[piece].step);
        let step = done.checked_sub(1).map_or(0, |last| self.pieces[self.order[last]].step).max(steps(self));
        let written = self.pieces[..next.survivor.map_or(0, |piece| piece + 1)].iter().rev();
        Cut {
            cause,
            at_s,
            phase: at.phase,
            step,
            saving: at.saves() && work > self.start(done),
            generation: written.filter_map(Piece::generation).next(),
            checkpoint: next
                .survivor
                .map(|piece| self.pieces[piece])
                .filter(|piece| piece.kept == Some(Kept::Checkpoint))
                .map(|piece| piece.step),
            lost_steps: step - steps(next),
            lost_s: work + next.total() - self.total(),
        }
    }

    /// Bytes written until so much work is done.
    fn bytes(&self, work: f64) -> f64 {
        let share = |place: usize| {
            let (from, to) = (self.start(place), self.ends[place]);
            if to <= work { 1.0 } else { ((work - from) / (to - from)).clamp(0.0, 1.0) }
        };
        self.in_order().enumerate().map(|(place, piece)| piece.bytes * share(place)).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::super::trace::Kept;
    use super::*;

    /// A lesson of 2 s to start, 4 photos of 1 s, 1 s for the first generation, 10 steps of 3 s, 2 s for the last generation; and 1 s
    /// for a checkpoint after each of these steps.
    fn lesson(checkpoints: &[u64]) -> (Vec<Piece>, Vec<Cost>) {
        let piece = |phase, step, bytes, kept| Piece { phase, step, host_ms: 0.0, photos: 0.0, bytes, kept };
        let mut pieces = vec![(piece(Phase::Start, 0, 0.0, None), 2.0)];
        pieces.extend((0..4).map(|_| (piece(Phase::Imprint, 0, 10.0, None), 1.0)));
        pieces.push((piece(Phase::Save, 0, 100.0, Some(Kept::Generation(1))), 1.0));
        for step in 1..=10 {
            pieces.push((piece(Phase::Train, step, 1.0, None), 3.0));
            if checkpoints.contains(&step) {
                pieces.push((piece(Phase::Save, step, 50.0, Some(Kept::Checkpoint)), 1.0));
            }
        }
        pieces.push((piece(Phase::Save, 10, 200.0, Some(Kept::Generation(2))), 2.0));
        pieces.into_iter().map(|(piece, s)| (piece, Cost { compute_s: s, ..Cost::default() })).unzip()
    }

    fn play_kept(conditions: Conditions, cuts: &[CutAt], checkpoints: &[u64]) -> Played {
        let (pieces, costs) = lesson(checkpoints);
        Timeline::new(&pieces, &costs).play(&conditions, cuts)
    }

    fn play(thermal: Option<Thermal>, schedule: Option<PowerHours>, cuts: &[CutAt]) -> Played {
        play_kept(Conditions { thermal, schedule }, cuts, &[])
    }

    #[test]
    fn without_cuts_everything_happens_once() {
        let played = play(None, None, &[]);
        assert!(played.finishes && played.cuts.is_empty());
        assert_eq!((played.clock_s, played.busy_s, played.off_s, played.throttled_s), (39.0, 39.0, 0.0, 0.0));
        assert_eq!((played.bytes, played.marks.len()), (350.0, 17));
        assert_eq!(played.marks[5].at_s, 7.0, "the first generation");
    }

    #[test]
    fn a_cut_leaves_the_generation_before_it_and_loses_the_steps() {
        let at = |cut| {
            let played = play(None, None, &[cut]);
            assert!(played.finishes);
            assert_eq!(played.clock_s, 39.0 + played.cuts[0].lost_s, "only what was lost is done again");
            (played.cuts[0], played.bytes - 350.0)
        };
        let told = |(cut, bytes): (Cut, f64)| {
            (cut.at_s, cut.phase, cut.generation, cut.saving, cut.lost_steps, cut.lost_s, bytes)
        };
        assert_eq!(told(at(CutAt::Imprint)), (4.5, Phase::Imprint, None, false, 0, 4.5, 25.0));
        // What is done again: 2 s to start and 4 of photos with their 40 bytes, and the steps; not the first generation.
        assert_eq!(told(at(CutAt::Step(0))), (7.0, Phase::Train, Some(1), false, 0, 6.0, 40.0));
        assert_eq!(told(at(CutAt::Step(4))), (19.0, Phase::Train, Some(1), false, 4, 18.0, 44.0));
        assert_eq!(told(at(CutAt::Step(10))), (37.0, Phase::Save, Some(1), false, 10, 36.0, 50.0));
        assert_eq!(told(at(CutAt::Save)), (38.0, Phase::Save, Some(1), true, 10, 37.0, 150.0));
        assert_eq!(told(at(CutAt::Share(0.0))).2, None);
        let (pieces, costs) = lesson(&[]);
        let timeline = Timeline::new(&pieces, &costs);
        assert!(timeline.has(CutAt::Step(10)) && !timeline.has(CutAt::Step(11)));
    }

    #[test]
    fn what_was_cross_validated_is_not_done_again_once_it_is_kept() {
        // 5 s of it and 1 s to keep it, between the first generation and the steps.
        let (mut pieces, mut costs) = lesson(&[]);
        for (phase, kept, s) in [(Phase::Save, Some(Kept::Checkpoint), 1.0), (Phase::CrossValidate, None, 5.0)] {
            pieces.insert(6, Piece { phase, kept, ..pieces[0] });
            costs.insert(6, Cost { compute_s: s, ..Cost::default() });
        }
        let timeline = Timeline::new(&pieces, &costs);
        let cut = |cut| timeline.play(&Conditions::default(), &[cut]).cuts[0];
        // A second of the first step is lost, and the 6 s of starting.
        let after = cut(CutAt::Share(14.0 / 45.0));
        assert_eq!((after.phase, after.generation, after.checkpoint), (Phase::Train, Some(1), Some(0)));
        assert!((after.lost_s - 7.0).abs() < 1e-9, "{after:?}");
        let within = cut(CutAt::Share(11.0 / 45.0));
        assert_eq!((within.phase, within.checkpoint), (Phase::CrossValidate, None));
        assert!((within.lost_s - 10.0).abs() < 1e-9, "{within:?}");
    }

    #[test]
    fn a_lesson_goes_on_from_its_last_checkpoint() {
        let played = play_kept(Conditions::default(), &[CutAt::Step(6), CutAt::Step(6), CutAt::Step(2)], &[4, 8]);
        let told: Vec<_> = played.cuts.iter().map(|cut| (cut.at_s, cut.step, cut.lost_steps, cut.lost_s)).collect();
        // 7 s, 6 steps, a checkpoint: 2 steps are lost, and the 6 s of starting; then 6 s and 2 steps, for nothing. Step 2 is past.
        assert_eq!(told, [(26.0, 6, 2, 12.0), (38.0, 6, 2, 12.0)]);
        assert_eq!(played.cuts[1].generation, Some(1), "a checkpoint is no generation");
        assert_eq!(
            (played.cuts[1].checkpoint, play(None, None, &[CutAt::Step(4)]).cuts[0].checkpoint),
            (Some(4), None)
        );
        assert_eq!((played.finishes, played.clock_s, played.bytes), (true, 41.0 + 24.0, 450.0 + 84.0));
        // Marks of what has lasted: up to the first checkpoint in the first attempt, from there in the last one.
        let marks: Vec<_> = played.marks.iter().map(|mark| mark.at_s).collect();
        assert_eq!((marks[5], marks[10], marks[11], marks.len()), (7.0, 20.0, 47.0, 11 + 6 + 2));
        assert_eq!((played.missed, played.marks.is_sorted_by_key(|mark| mark.piece)), (1, true));
    }

    #[test]
    fn each_cut_strikes_one_attempt() {
        let played = play(None, None, &[CutAt::Step(2), CutAt::Step(1), CutAt::Save]);
        let at: Vec<f64> = played.cuts.iter().map(|cut| cut.at_s).collect();
        assert_eq!(at, [13.0, 22.0, 59.0]);
        assert_eq!((played.finishes, played.clock_s), (true, 97.0));
    }

    #[test]
    fn hours_with_power_suffice_for_any_lesson_that_keeps_a_step_in_each() {
        let schedule = Some(PowerHours { on_minutes: 13.0 / 60.0, off_minutes: 1.0 });
        let hours = |checkpoints: &[u64]| play_kept(Conditions { thermal: None, schedule }, &[], checkpoints);
        assert!(!hours(&[]).finishes);
        let played = hours(&[1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
        // A step with its checkpoint is done after 11 s; later, 6 s of each 13 go into starting, and the next step is kept after 10;
        // the tenth time the last generation is, after 12.
        assert_eq!((played.finishes, played.cuts.len()), (true, 9));
        assert!(played.cuts[1..].iter().all(|cut| cut.lost_steps <= 1));
    }

    #[test]
    fn a_lesson_longer_than_the_hours_with_power_never_ends_and_a_shorter_one_waits_for_them() {
        let minutes = |on_s: f64, off_s: f64| Some(PowerHours { on_minutes: on_s / 60.0, off_minutes: off_s / 60.0 });
        // The first window ends with the first generation; from there it takes 38 s.
        let never = play(None, minutes(37.0, 100.0), &[]);
        assert!(!never.finishes);
        assert_eq!((never.cuts.len(), never.cuts[1].cause, never.cuts[1].saving), (2, Cause::Schedule, true));
        // Cut after 13 s; 27 s of the window are left, which do not suffice; then a whole window does, for 38 s.
        let waits = play(None, minutes(40.0, 100.0), &[CutAt::Step(2)]);
        assert!(waits.finishes);
        let causes: Vec<Cause> = waits.cuts.iter().map(|cut| cut.cause).collect();
        assert_eq!(causes, [Cause::Cut, Cause::Schedule]);
        assert_eq!((waits.clock_s.round(), waits.off_s, waits.busy_s.round()), (178.0, 100.0, 78.0));
    }

    #[test]
    fn heat_begins_anew_with_every_attempt() {
        let thermal = Some(Thermal { from_threads: 1, full_speed_s: 10.0, throttled_s: 10.0, throttled_speed: 0.5 });
        // 39 s of work: 10 + 10 s do 15, twice; 9 s more.
        assert_eq!(play(thermal, None, &[]).clock_s, 49.0);
        let cut = play(thermal, None, &[CutAt::Step(2)]);
        // 13 s of work take 16 s, and 38 s 48.
        assert_eq!((cut.cuts[0].at_s, cut.clock_s, cut.throttled_s), (16.0, 64.0, 13.0));
    }
}
