//! What a lesson did on this machine, piece by piece: the processor's time, photos decoded, bytes written.
//!
//! It is seen from outside: what the lesson tells its audience, and what lies in its store. So nothing in the lesson knows that it
//! is being simulated.

use std::fs;
use std::path::Path;

use serde::Serialize;

use crate::session::lesson::{CROSS_VALIDATION, TrainReport};
use crate::session::process::{Watch, processor_ms, rss_bytes};
use crate::session::progress::Progress;
use crate::session::run::DIRECTIONS;
use crate::session::settings::CachePlace;
use crate::session::store::{JOURNAL, Series};

/// What is being done in a piece of a lesson.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Reading, planning, and trying the plan out.
    Start,
    /// The head is imprinted, and the cache filled.
    Imprint,
    /// Accuracy is measured.
    Accuracy,
    /// Directions of what sites read are found.
    Directions,
    /// Lessons are tried on photos left out.
    #[serde(rename = "cross_validate")]
    CrossValidate,
    /// Steps.
    Train,
    /// Values are tried on a batch and a generation is written.
    Save,
}

/// A piece of a lesson.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Piece {
    pub(super) phase: Phase,
    /// Steps done at its end.
    pub(super) step: u64,
    /// Time of this machine's processor, all threads together.
    pub(super) host_ms: f64,
    /// Photos decoded in it.
    pub(super) photos: f64,
    /// Bytes written to the medium in it.
    pub(super) bytes: f64,
    /// What is durable at its end, where something was written.
    pub(super) kept: Option<Kept>,
}

/// What a lesson can go on from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kept {
    /// A generation, by its number.
    Generation(u64),
    /// The lesson's end, beside the generation that stays current.
    Aside,
    /// The steps so far.
    Checkpoint,
}

impl Piece {
    /// The generation that is durable at its end, where one was written.
    pub(super) fn generation(&self) -> Option<u64> {
        match self.kept? {
            Kept::Generation(number) => Some(number),
            Kept::Aside | Kept::Checkpoint => None,
        }
    }

    /// Whether a generation, or what has its place for a lesson kept aside, was written in it.
    pub(super) fn saves(&self) -> bool {
        matches!(self.kept, Some(Kept::Generation(_) | Kept::Aside))
    }
}

/// Loss and accuracy of a step's batch.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Batch {
    pub(super) loss: f32,
    pub(super) accuracy: f64,
}

/// Where a lesson took more memory than its cap.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Excess {
    /// In which phase it was first seen.
    pub phase: Phase,
    /// After how many steps.
    pub step: u64,
}

/// Bytes that a lesson wrote.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Written {
    /// Of every generation, in order.
    pub generations: Vec<u64>,
    /// Of all checkpoints.
    pub checkpoints: u64,
    /// Of the journal.
    pub journal: u64,
    /// Of the cache on disk; 0 where it is elsewhere.
    pub cache: u64,
}

impl Written {
    /// All of them.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.generations.iter().sum::<u64>() + self.checkpoints + self.journal + self.cache
    }
}

/// What a lesson did.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Trace {
    pub(super) pieces: Vec<Piece>,
    /// Of each step, in order.
    pub(super) batches: Vec<Batch>,
    pub(super) written: Written,
    pub(super) excess: Option<Excess>,
}

impl Trace {
    /// The checkpoints that a device writes: after a step, once `every_s` seconds of work, by `cost`, lie behind the one before. Each
    /// has `bytes`.
    pub(super) fn add_checkpoints(&mut self, every_s: f64, bytes: u64, cost: impl Fn(&Piece) -> f64) {
        let (mut since, mut cross_validated) = (0.0, false);
        for piece in std::mem::take(&mut self.pieces) {
            since = if piece.phase == Phase::Train { since + cost(&piece) } else { 0.0 };
            // A cross-validation's end is kept at once.
            if cross_validated && piece.phase != Phase::CrossValidate {
                self.add_checkpoint(0, bytes);
            }
            cross_validated = piece.phase == Phase::CrossValidate;
            self.pieces.push(piece);
            if piece.phase == Phase::Train && piece.kept.is_none() && since >= every_s {
                self.add_checkpoint(piece.step, bytes);
                since = 0.0;
            }
        }
    }

    fn add_checkpoint(&mut self, step: u64, bytes: u64) {
        let (phase, kept) = (Phase::Save, Some(Kept::Checkpoint));
        self.pieces.push(Piece { phase, step, host_ms: 0.0, photos: 0.0, bytes: bytes as f64, kept });
        self.written.checkpoints += bytes;
    }
}

/// Watches a lesson.
pub(super) struct Recorder<'r> {
    store: &'r Path,
    cap: u64,
    memory: Watch,
    last_ms: f64,
    /// Whether the head has been imprinted.
    imprinted: bool,
    /// What its photos are run for, once they were imprinted.
    runs: Phase,
    step: u64,
    trace: Trace,
}

impl<'r> Recorder<'r> {
    /// Of a lesson that will write `store` and may take `cap` bytes of memory.
    pub(super) fn new(store: &'r Path, cap: u64) -> Self {
        let trace = Trace { pieces: Vec::new(), batches: Vec::new(), written: Written::default(), excess: None };
        let (memory, last_ms) = (Watch::begin(), processor_ms());
        Recorder { store, cap, memory, last_ms, imprinted: false, runs: Phase::Accuracy, step: 0, trace }
    }

    /// Notes what has been done since the last word.
    pub(super) fn see(&mut self, progress: &Progress) {
        if let Progress::Begin { phase, .. } = progress {
            self.runs = match *phase {
                CROSS_VALIDATION => Phase::CrossValidate,
                DIRECTIONS => Phase::Directions,
                _ => Phase::Accuracy,
            };
        }
        match progress {
            Progress::Planned(_) => self.note(Phase::Start, 0.0),
            Progress::Begin { .. } if !self.imprinted => self.note(Phase::Start, 0.0),
            Progress::Begin { .. } => self.note(Phase::Save, 0.0),
            Progress::Advance if !self.imprinted => self.note(Phase::Imprint, 1.0),
            Progress::Advance => self.note(self.runs, f64::from(u8::from(self.runs == Phase::Accuracy))),
            Progress::Step { step, loss, accuracy } => {
                self.step = *step;
                self.trace.batches.push(Batch { loss: *loss, accuracy: *accuracy });
                self.note(Phase::Train, 0.0);
            }
            Progress::End => self.imprinted = true,
            Progress::Warning(_) | Progress::Note(_) => {}
        }
    }

    fn note(&mut self, phase: Phase, photos: f64) {
        let now = processor_ms();
        let host_ms = (now - self.last_ms).max(0.0);
        self.last_ms = now;
        let next = self.trace.written.generations.len() as u64 + 1;
        let written = |series: Series| fs::metadata(series.file(self.store, next)).map(|found| found.len()).ok();
        // A lesson that was kept aside has worn the medium as much.
        let generation = written(Series::Generation).map(|bytes| (bytes, Kept::Generation(next)));
        let saved = generation.or_else(|| written(Series::Aside).map(|bytes| (bytes, Kept::Aside)));
        let (bytes, kept) = saved.unzip();
        self.trace.written.generations.extend(bytes);
        let bytes_written = bytes.unwrap_or(0) as f64;
        self.trace.pieces.push(Piece { phase, step: self.step, host_ms, photos, bytes: bytes_written, kept });
        if self.trace.excess.is_none() && self.memory.peak().or_else(rss_bytes).is_some_and(|peak| peak > self.cap) {
            self.trace.excess = Some(Excess { phase, step: self.step });
        }
    }

    /// The lesson is over, and has answered `report`. `decoded` is the share of a step's photos that were decoded for it.
    pub(super) fn finish(mut self, report: &TrainReport, batch: usize, decoded: f64) -> Trace {
        self.note(Phase::Save, 0.0);
        let mut trace = self.trace;
        trace.written.journal = fs::metadata(self.store.join(JOURNAL)).map_or(0, |found| found.len());
        trace.written.cache = if report.planned.cache == CachePlace::Disk { report.cache_bytes } else { 0 };
        let count = |phase| trace.pieces.iter().filter(|piece| piece.phase == phase).count().max(1) as f64;
        let [imprint, train] = [count(Phase::Imprint), count(Phase::Train)];
        let (cache, journal) = (trace.written.cache as f64 / imprint, trace.written.journal as f64 / train);
        for piece in &mut trace.pieces {
            match piece.phase {
                Phase::Imprint => piece.bytes += cache,
                Phase::Train => {
                    piece.bytes += journal;
                    piece.photos = decoded * batch.min(report.train_images) as f64;
                }
                Phase::Directions => piece.photos = decoded,
                Phase::CrossValidate => piece.photos = decoded * batch.min(report.train_images) as f64,
                _ => {}
            }
        }
        trace
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lesson_is_known_by_what_it_tells_and_what_it_writes() {
        let folder = tempfile::tempdir().unwrap();
        let mut recorder = Recorder::new(folder.path(), u64::MAX);
        let begin = |phase| Progress::Begin { phase, total: 1 };
        let step = |step| Progress::Step { step, loss: 0.5, accuracy: 1.0 };
        for progress in [begin("a"), Progress::Advance, Progress::Warning("w"), Progress::End] {
            recorder.see(&progress);
        }
        recorder.see(&begin("b"));
        recorder.see(&Progress::Advance);
        recorder.see(&Progress::End);
        fs::write(Series::Generation.file(folder.path(), 1), [0; 7]).unwrap();
        recorder.see(&begin("c"));
        recorder.see(&step(1));
        fs::write(Series::Generation.file(folder.path(), 2), [0; 9]).unwrap();
        recorder.see(&step(2));
        let seen = recorder.trace.pieces.iter().map(|piece| (piece.phase, piece.step, piece.bytes, piece.generation()));
        let expected = [
            (Phase::Start, 0, 0.0, None),
            (Phase::Imprint, 0, 0.0, None),
            (Phase::Save, 0, 0.0, None),
            (Phase::Accuracy, 0, 0.0, None),
            (Phase::Save, 0, 7.0, Some(1)),
            (Phase::Train, 1, 0.0, None),
            (Phase::Train, 2, 9.0, Some(2)),
        ];
        assert_eq!(seen.collect::<Vec<_>>(), expected);
        assert_eq!((recorder.trace.written.generations, recorder.trace.excess), (vec![7, 9], None));
    }

    #[test]
    fn a_checkpoint_follows_the_step_at_which_it_is_due() {
        let piece = |phase, step, kept| Piece { phase, step, host_ms: 0.0, photos: 0.0, bytes: 1.0, kept };
        let mut pieces = vec![piece(Phase::Start, 0, None), piece(Phase::Save, 0, Some(Kept::Generation(1)))];
        pieces.extend((1..=5).map(|step| piece(Phase::Train, step, None)));
        pieces.push(piece(Phase::Save, 5, Some(Kept::Generation(2))));
        let written = Written { generations: vec![7, 9], ..Written::default() };
        let trace = Trace { pieces, batches: Vec::new(), written, excess: None };
        let after = |every_s: f64| {
            let mut trace = trace.clone();
            trace.add_checkpoints(every_s, 9, |_| 10.0);
            let checkpoints = trace.pieces.iter().filter(|piece| piece.kept == Some(Kept::Checkpoint));
            let found: Vec<_> = checkpoints.map(|piece| (piece.step, piece.bytes)).collect();
            assert_eq!((trace.written.checkpoints, trace.pieces.len()), (9 * found.len() as u64, 8 + found.len()));
            found
        };
        assert_eq!(after(0.0).len(), 5);
        assert_eq!(after(15.0), [(2, 9.0), (4, 9.0)]);
        assert_eq!(after(51.0), []);
    }

    #[test]
    fn what_is_cross_validated_is_told_apart_and_kept_at_its_end() {
        let folder = tempfile::tempdir().unwrap();
        let mut recorder = Recorder::new(folder.path(), u64::MAX);
        let begin = |phase| Progress::Begin { phase, total: 2 };
        for progress in [begin("imprint"), Progress::End, begin(DIRECTIONS), Progress::Advance, Progress::End] {
            recorder.see(&progress);
        }
        for progress in [begin(CROSS_VALIDATION), Progress::Advance, Progress::Advance] {
            recorder.see(&progress);
        }
        for progress in [Progress::End, begin("train"), Progress::Step { step: 1, loss: 0.5, accuracy: 1.0 }] {
            recorder.see(&progress);
        }
        let mut trace = recorder.trace;
        trace.add_checkpoints(f64::INFINITY, 9, |_| 10.0);
        let seen: Vec<_> = trace.pieces.iter().map(|piece| (piece.phase, piece.kept)).collect();
        let cross_validated =
            [(Phase::CrossValidate, None), (Phase::CrossValidate, None), (Phase::Save, Some(Kept::Checkpoint))];
        assert!(seen.windows(3).any(|pieces| pieces == cross_validated), "{seen:?}");
        assert_eq!(seen.iter().filter(|(phase, _)| *phase == Phase::Directions).count(), 1);
        assert!(!seen.iter().any(|(phase, _)| *phase == Phase::Accuracy));
        assert_eq!(seen.iter().filter(|(_, kept)| kept.is_some()).count(), 1);
    }

    #[test]
    fn the_first_moment_above_the_cap_is_noted() {
        let mut recorder = Recorder::new(Path::new("nowhere"), 1);
        recorder.see(&Progress::Begin { phase: "a", total: 1 });
        recorder.see(&Progress::Step { step: 1, loss: 0.5, accuracy: 1.0 });
        let expected = rss_bytes().map(|_| Excess { phase: Phase::Start, step: 0 });
        assert_eq!(recorder.trace.excess, expected);
    }
}
