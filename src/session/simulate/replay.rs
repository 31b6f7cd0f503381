//! A traced lesson on a device's clock: heat, the hours with power, and power cuts.
//!
//! The lesson's work is what it was; only when it happens, and how often it has to begin again, is played here.

use serde::Serialize;

use super::device::{Schedule, Thermal};
use super::pace::Cost;
use super::trace::{Phase, Piece};

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
    /// Steps that have to be done again.
    pub lost_steps: u64,
    /// Seconds of work that have to be done again.
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
    /// Ends of the last attempt's pieces.
    pub(super) marks: Vec<Mark>,
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
    pub(super) schedule: Option<Schedule>,
}

/// A lesson's pieces with the work that is done at the end of each, in seconds at full speed.
pub(super) struct Timeline<'t> {
    pieces: &'t [Piece],
    ends: Vec<f64>,
}

impl<'t> Timeline<'t> {
    pub(super) fn new(pieces: &'t [Piece], costs: &[Cost]) -> Self {
        let mut sum = 0.0;
        let ends = costs.iter().map(|cost| {
            sum += cost.total();
            sum
        });
        Timeline { pieces, ends: ends.collect() }
    }

    /// The work that is done when a piece begins.
    fn start(&self, piece: usize) -> f64 {
        piece.checked_sub(1).map_or(0.0, |before| self.ends[before])
    }

    fn total(&self) -> f64 {
        self.start(self.ends.len())
    }

    /// Steps done when a piece begins.
    fn steps(&self, piece: usize) -> u64 {
        piece.checked_sub(1).map_or(0, |before| self.pieces[before].step)
    }

    /// The work that is done when a cut comes; `None` where the lesson has no such place.
    fn place(&self, cut: CutAt) -> Option<f64> {
        let middle = |piece: usize| (self.start(piece) + self.ends[piece]) / 2.0;
        let photos = self.pieces.iter().filter(|piece| piece.phase == Phase::Imprint).count();
        match cut {
            CutAt::Imprint => {
                let first = self.pieces.iter().position(|piece| piece.phase == Phase::Imprint)?;
                Some(middle(first + photos / 2))
            }
            CutAt::Step(0) => self.pieces.iter().position(|piece| piece.generation.is_some()).map(|at| self.ends[at]),
            CutAt::Step(step) => {
                let done = |piece: &Piece| piece.phase == Phase::Train && piece.step == step;
                self.pieces.iter().position(done).map(|at| self.ends[at])
            }
            CutAt::Save => self.pieces.iter().rposition(|piece| piece.generation.is_some()).map(middle),
            CutAt::Share(share) => Some(share.clamp(0.0, 1.0) * self.total()),
        }
    }

    /// Whether the lesson has such a place.
    pub(super) fn has(&self, cut: CutAt) -> bool {
        self.place(cut).is_some()
    }

    /// The piece that the next attempt begins with when a generation has survived: always the first. A lesson taken up with
    /// `--resume` would lose a minute at most; this plays one that is not.
    fn begins_with(_survivor: Option<u64>) -> usize {
        0
    }

    /// Plays the lesson: each of `cuts` strikes one attempt, in order; then the device's own hours.
    pub(super) fn play(&self, conditions: &Conditions, cuts: &[CutAt]) -> Played {
        let mut played = Played::default();
        let mut cuts = cuts.iter().filter_map(|cut| self.place(*cut));
        let on_s = conditions.schedule.map_or(f64::INFINITY, |schedule| schedule.on_minutes * 60.0);
        let mut left_s = on_s;
        let mut first = 0;
        loop {
            let before = self.start(first);
            let wall = |work: f64| conditions.thermal.map_or(work - before, |thermal| thermal.stretched(work - before));
            let asked = cuts.next().filter(|work| *work >= before);
            let ours = asked.filter(|work| wall(*work) <= left_s);
            let end = ours.unwrap_or(self.total());
            let (work, cause) = match (ours, wall(end) > left_s) {
                (Some(work), _) => (work, Some(Cause::Cut)),
                (None, true) => (self.work_in(wall, before, left_s), Some(Cause::Schedule)),
                (None, false) => (end, None),
            };
            let fresh = left_s == on_s;
            let spent = wall(work);
            let begin = played.clock_s;
            played.busy_s += spent;
            played.throttled_s += spent - (work - before);
            played.clock_s += spent;
            left_s -= spent;
            played.bytes += self.bytes(first, work);
            let Some(cause) = cause else {
                let marks =
                    (first..self.pieces.len()).map(|piece| Mark { at_s: begin + wall(self.ends[piece]), piece });
                played.marks = marks.collect();
                played.finishes = true;
                return played;
            };
            let cut = self.cut(cause, played.clock_s, work);
            let again = Self::begins_with(cut.generation);
            played.cuts.push(cut);
            // A whole window has brought the lesson nowhere, and none of the next will.
            if cause == Cause::Schedule && fresh && asked.is_none() && again == first {
                return played;
            }
            first = again;
            if cause == Cause::Schedule {
                let off_s = conditions.schedule.map_or(0.0, |schedule| schedule.off_minutes * 60.0);
                played.clock_s += off_s;
                played.off_s += off_s;
                left_s = on_s;
            }
        }
    }

    /// The work that is done `left_s` after an attempt began.
    fn work_in(&self, wall: impl Fn(f64) -> f64, before: f64, left_s: f64) -> f64 {
        let (mut low, mut high) = (before, self.total());
        for _ in 0..64 {
            let middle = (low + high) / 2.0;
            *(if wall(middle) > left_s { &mut high } else { &mut low }) = middle;
        }
        low
    }

    /// What an attempt leaves when it is cut.
    fn cut(&self, cause: Cause, at_s: f64, work: f64) -> Cut {
        let done = self.ends.iter().take_while(|end| **end <= work).count();
        let at = &self.pieces[done.min(self.pieces.len() - 1)];
        let durable = self.pieces[..done].iter().rev().find_map(|piece| piece.generation);
        let kept = Self::begins_with(durable);
        Cut {
            cause,
            at_s,
            phase: at.phase,
            step: self.steps(done),
            saving: at.generation.is_some() && work > self.start(done),
            generation: durable,
            lost_steps: self.steps(done) - self.steps(kept),
            lost_s: work - self.start(kept),
        }
    }

    /// Bytes written from the piece `first` on until `work` is done.
    fn bytes(&self, first: usize, work: f64) -> f64 {
        let share = |piece: usize| {
            let (from, to) = (self.start(piece), self.ends[piece]);
            if to <= work { 1.0 } else { ((work - from) / (to - from)).clamp(0.0, 1.0) }
        };
        (first..self.pieces.len()).map(|piece| self.pieces[piece].bytes * share(piece)).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A lesson of 2 s to start, 4 photos of 1 s, 1 s for the first generation, 10 steps of 3 s, 2 s for the last generation.
    fn lesson() -> (Vec<Piece>, Vec<Cost>) {
        let piece =
            |phase, step, bytes, generation| Piece { phase, step, host_ms: 0.0, photos: 0.0, bytes, generation };
        let mut pieces = vec![(piece(Phase::Start, 0, 0.0, None), 2.0)];
        pieces.extend((0..4).map(|_| (piece(Phase::Imprint, 0, 10.0, None), 1.0)));
        pieces.push((piece(Phase::Save, 0, 100.0, Some(1)), 1.0));
        pieces.extend((1..=10).map(|step| (piece(Phase::Train, step, 1.0, None), 3.0)));
        pieces.push((piece(Phase::Save, 10, 200.0, Some(2)), 2.0));
        pieces.into_iter().map(|(piece, s)| (piece, Cost { compute_s: s, ..Cost::default() })).unzip()
    }

    fn play(thermal: Option<Thermal>, schedule: Option<Schedule>, cuts: &[CutAt]) -> Played {
        let (pieces, costs) = lesson();
        Timeline::new(&pieces, &costs).play(&Conditions { thermal, schedule }, cuts)
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
            assert_eq!(played.clock_s, played.cuts[0].at_s + 39.0, "afresh");
            (played.cuts[0], played.bytes - 350.0)
        };
        let told = |(cut, bytes): (Cut, f64)| {
            (cut.at_s, cut.phase, cut.step, cut.generation, cut.saving, cut.lost_steps, bytes)
        };
        assert_eq!(told(at(CutAt::Imprint)), (4.5, Phase::Imprint, 0, None, false, 0, 25.0));
        assert_eq!(told(at(CutAt::Step(0))), (7.0, Phase::Train, 0, Some(1), false, 0, 140.0));
        assert_eq!(told(at(CutAt::Step(4))), (19.0, Phase::Train, 4, Some(1), false, 4, 144.0));
        assert_eq!(told(at(CutAt::Step(10))), (37.0, Phase::Save, 10, Some(1), false, 10, 150.0));
        assert_eq!(told(at(CutAt::Save)), (38.0, Phase::Save, 10, Some(1), true, 10, 250.0));
        assert_eq!(told(at(CutAt::Share(0.0))).3, None);
        let (pieces, costs) = lesson();
        let timeline = Timeline::new(&pieces, &costs);
        assert!(timeline.has(CutAt::Step(10)) && !timeline.has(CutAt::Step(11)));
    }

    #[test]
    fn each_cut_strikes_one_attempt() {
        let played = play(None, None, &[CutAt::Step(2), CutAt::Step(1), CutAt::Save]);
        let at: Vec<f64> = played.cuts.iter().map(|cut| cut.at_s).collect();
        assert_eq!(at, [13.0, 23.0, 61.0]);
        assert_eq!((played.finishes, played.clock_s), (true, 100.0));
    }

    #[test]
    fn a_lesson_longer_than_the_hours_with_power_never_ends_and_a_shorter_one_waits_for_them() {
        let minutes = |on_s: f64, off_s: f64| Some(Schedule { on_minutes: on_s / 60.0, off_minutes: off_s / 60.0 });
        let never = play(None, minutes(38.0, 100.0), &[]);
        assert!(!never.finishes);
        assert_eq!((never.cuts.len(), never.cuts[0].cause, never.cuts[0].saving), (1, Cause::Schedule, true));
        // Cut after 13 s; 27 s of the window are left, which do not suffice; then a whole window does.
        let waits = play(None, minutes(40.0, 100.0), &[CutAt::Step(2)]);
        assert!(waits.finishes);
        let causes: Vec<Cause> = waits.cuts.iter().map(|cut| cut.cause).collect();
        assert_eq!(causes, [Cause::Cut, Cause::Schedule]);
        assert_eq!((waits.clock_s.round(), waits.off_s, waits.busy_s.round()), (179.0, 100.0, 79.0));
    }

    #[test]
    fn heat_begins_anew_with_every_attempt() {
        let thermal = Some(Thermal { from_threads: 1, full_speed_s: 10.0, throttled_s: 10.0, throttled_speed: 0.5 });
        // 39 s of work: 10 + 10 s do 15, twice; 9 s more.
        assert_eq!(play(thermal, None, &[]).clock_s, 49.0);
        let cut = play(thermal, None, &[CutAt::Step(2)]);
        // 13 s of work take 16 s.
        assert_eq!((cut.cuts[0].at_s, cut.clock_s, cut.throttled_s), (16.0, 65.0, 13.0));
    }
}
