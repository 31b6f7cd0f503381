//! What a lesson will take, said before it starts: memory, cache, writes to the medium, time.
//!
//! What is loaded is measured, what decoding and a run of the network add is tried out on every thread, with the largest photo
//! and an empty image, also beside a copy of the adapter where an event may need one, and the rest is counted. Before the trial, what
//! it may take is counted from above, less the memory that the process has and does not use, so that a limit is not passed by trying.

use std::num::NonZero;
use std::thread::available_parallelism;

use crate::autodiff::Activations;
use crate::bundle::Preprocess;
use crate::error::{Error, ErrorKind, Result};
use crate::session::forecast::Forecast;
use crate::session::photos::{Picture, footprint};
use crate::session::process::{Block, Claim, Watch, rss_bytes};
use crate::session::run::Timing;
use crate::session::settings::CachePlace;

/// Buffers of one thread's products besides bands of columns, from above: a tile of W, a block of expanded channels, planes of a
/// depthwise convolution, packed factors.
const SCRATCH_BYTES: u64 = 1 << 20;
/// A band of columns is so large, or has 256 columns of f32; a thread has two of them.
const BAND_BYTES: u64 = 256 << 10;
/// Trials per thread; the last one's time counts.
const TRIALS: usize = 3;
/// What stays in pieces that cannot be used again: a share of what is added, on one thread; on several, which reach their peaks
/// together only by chance, and leave smaller pieces to each other; and on more than there are cores, where the trial's threads take turns.
const SLACK: [f64; 3] = [0.08, 0.3, 0.4];
/// By how much the system's count of a process's memory may be behind, for each thread.
const UNCOUNTED_BYTES: u64 = 256 << 10;
/// Of what is counted, the share that is taken to be added at least: what an earlier lesson has left may lie in other pieces.
const LEAST_ADDED: f64 = 0.3;
/// Everything too small to count.
const SMALL_BYTES: u64 = 1 << 20;
/// Pages of the program's file that only a lesson reads. What the process has and does not use has no room for them.
const PAGES_BYTES: u64 = 3 << 18;

/// The sizes and counts that a forecast is made from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Work {
    /// Bytes of one photo's outputs of the prefix in the cache; 0 where they cannot be kept.
    pub(crate) boundary_bytes: u64,
    /// Bytes of a gradient of everything that is trained.
    pub(crate) gradient_bytes: u64,
    /// Bytes of a generation.
    pub(crate) generation_bytes: u64,
    /// Bytes of a checkpoint.
    pub(crate) checkpoint_bytes: u64,
    /// The longest row of a map.
    pub(crate) widest: u64,
    /// Bytes of what an event may have to be taken back to.
    pub(crate) undo_bytes: u64,
    /// Bytes that a cross-validation keeps; events come after it.
    pub(crate) cross_validation_bytes: u64,
    /// Bytes that solving the head takes, before the first step and after the last.
    pub(crate) solved_bytes: u64,
    /// Pairs of all sites.
    pub(crate) pairs: u64,
    /// Bytes of the sketches that directions are found from, while photos run before the first step.
    pub(crate) sketch_bytes: u64,
    /// Bytes beside the sketches while one after the other comes to its directions, theirs included.
    pub(crate) found_beside_bytes: u64,
    /// Bytes that the directions take for good, beside those that are there.
    pub(crate) found_bytes: u64,
    /// Photos that they are found from, by ones.
    pub(crate) looked_at: usize,
    /// Bytes that decoding takes for a moment, at most.
    pub(crate) photo_bytes: u64,
    /// Bytes of examples for later lessons.
    pub(crate) replay_bytes: u64,
    /// Photos trained on.
    pub(crate) photos: usize,
    /// Of these, the photos that the cache has room for.
    pub(crate) cached: usize,
    /// Photos that accuracy is measured on.
    pub(crate) measured: usize,
    /// Steps.
    pub(crate) steps: u64,
    /// Steps that are taken before them, on a part of the photos.
    pub(crate) cross_validated: u64,
    /// Photos in a step.
    pub(crate) batch: usize,
    /// Whether anything is trained.
    pub(crate) trains: bool,
}

/// What a trial does on every thread.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Attempt {
    pub(crate) rounds: usize,
    /// Steps, and not forward passes alone.
    pub(crate) steps: bool,
    /// Beside a copy of the adapter.
    pub(crate) copies: bool,
}

/// How a lesson is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Setup {
    pub(crate) threads: usize,
    pub(crate) activations: Activations,
    pub(crate) cache: CachePlace,
}

impl Setup {
    /// This one, and those that take less memory, in order of the time that they cost: nothing in memory is kept but the
    /// present photo, then activations are computed again, then photos run by fewer at a time.
    pub(crate) fn and_smaller(self) -> impl Iterator<Item = Setup> {
        let cache = if self.cache == CachePlace::Ram { CachePlace::Disk } else { self.cache };
        let in_ram = (cache != self.cache).then_some(self);
        let threads = (1..=self.threads).rev();
        let both = [Activations::Kept, Activations::Recomputed];
        let rest = threads.flat_map(move |threads| both.map(|activations| Setup { threads, activations, cache }));
        in_ram.into_iter().chain(rest)
    }
}

impl Setup {
    fn slack(self) -> f64 {
        let cores = available_parallelism().map_or(1, NonZero::get);
        SLACK[usize::from(self.threads > 1) + usize::from(self.threads > cores)]
    }
}

impl Work {
    /// Bytes that a thread takes for a photo, from above, where a run has so many bytes of activations at a time. A photo is decoded
    /// before it is run.
    pub(crate) fn per_thread(&self, activation_bytes: u64) -> u64 {
        let scratch = SCRATCH_BYTES + 2 * BAND_BYTES.max(256 * 4 * self.widest);
        (activation_bytes + scratch).max(self.photo_bytes)
    }

    /// The largest resident size from above, before anything has been tried; `None` where the present one is not known.
    fn ceiling(&self, setup: Setup, activation_bytes: u64) -> Option<u64> {
        let runs = setup.threads as u64 * self.per_thread(activation_bytes);
        Some(rss_bytes()? + runs + self.beside(setup) + self.cached_in_ram(setup) + PAGES_BYTES)
    }

    /// Bytes of what lives beside a trial: what an event may have to be taken back to, and what is kept.
    pub(crate) fn beside(&self, setup: Setup) -> u64 {
        self.undo_bytes + self.kept(setup)
    }

    /// Bytes that a forecast adds to what the process grows by.
    pub(crate) fn margin(&self, setup: Setup, growth: u64) -> u64 {
        let added = self.cached_in_ram(setup) + PAGES_BYTES;
        added + (setup.slack() * (growth + added) as f64) as u64
    }

    /// Bytes of what lives for long, besides the cache, what is loaded and what a trial shows: while photos are looked at, before the
    /// first step and after the last; and from the first step to the last.
    fn phases(&self, setup: Setup) -> [u64; 2] {
        // The sum, and one output for every micro-batch under way.
        let outputs = if setup.threads > 1 { 1 + 2 * setup.threads as u64 } else { 2 };
        let besides = SMALL_BYTES + self.found_bytes + self.replay_bytes;
        if !self.trains {
            return [besides + self.solved_bytes; 2];
        }
        // What the photos' runs leave is in pieces, or kept for the next ones.
        let finding = self.sketch_bytes + self.found_beside_bytes + self.cross_validation_bytes;
        let looking = self.solved_bytes.max(finding);
        let stepping = outputs * self.gradient_bytes + self.cross_validation_bytes.saturating_sub(self.undo_bytes);
        [besides + looking.saturating_sub(self.undo_bytes), besides + stepping]
    }

    /// The larger of the two.
    fn kept(&self, setup: Setup) -> u64 {
        let [looking, stepping] = self.phases(setup);
        looking.max(stepping)
    }

    fn cached_in_ram(&self, setup: Setup) -> u64 {
        if setup.cache == CachePlace::Ram { self.cache_bytes(setup) } else { 0 }
    }

    fn cache_bytes(&self, setup: Setup) -> u64 {
        if setup.cache == CachePlace::Off { 0 } else { self.cached as u64 * self.boundary_bytes }
    }

    /// The forecast from what trials on `setup.threads` threads showed in `memory`, or where an earlier peak hides that, from what is
    /// counted.
    ///
    /// # Errors
    /// Those of the trial.
    pub(crate) fn forecast(
        &self,
        setup: Setup,
        (memory, activation_bytes): (&Watch, u64),
        mut trial: impl FnMut(Attempt) -> Result<Timing>,
    ) -> Result<Forecast> {
        let (before, ceiling) = (rss_bytes(), self.ceiling(setup, activation_bytes));
        let ([looking, stepping], copies) = (self.phases(setup), self.undo_bytes > 0);
        // What an earlier lesson has left has room for some of it, beside the trials' runs.
        let claim = before.map(|before| Claim::take(self.kept(setup), Block::Small, before));
        trial(Attempt { rounds: TRIALS, steps: false, copies })?;
        let looked = memory.peak();
        let tried = trial(Attempt { rounds: TRIALS, steps: self.trains, copies: false })?;
        if copies {
            trial(Attempt { rounds: 1, steps: self.trains, copies })?;
        }
        let stepped = memory.peak();
        let has = claim.map_or(0, |claim| self.kept(setup) - claim.missing());
        let peak = before.zip(looked).zip(stepped).map(|((before, looked), stepped)| {
            // In a trial, large photos may be decoded one after the other; in a lesson, all at once.
            let photos = setup.threads as u64 * self.photo_bytes;
            let looked = looked.max(before + photos) + looking.saturating_sub(has);
            let stepped = stepped.max(before + photos) + stepping.saturating_sub(has);
            let peak = looked.max(stepped) + self.cached_in_ram(setup) + PAGES_BYTES;
            let peak = peak + setup.threads as u64 * UNCOUNTED_BYTES;
            let counted = setup.threads as u64 * self.per_thread(activation_bytes) + self.kept(setup);
            let added = (peak.saturating_sub(before) as f64).max(LEAST_ADDED * counted as f64);
            peak + (setup.slack() * added) as u64
        });
        let peak = peak.or(ceiling);
        let cached = if self.cache_bytes(setup) > 0 { self.cached as f64 / self.photos.max(1) as f64 } else { 0.0 };
        let suffix_ms = if self.trains { tried.step_ms } else { tried.forward_ms };
        let step_ms = self.batch as f64 / setup.threads as f64 * (suffix_ms + (1.0 - cached) * tried.prefix_ms);
        let runs = self.photos as f64 + 2.0 * self.measured as f64;
        // Once more after the last step, for the class means.
        let last = if self.steps > 0 { self.photos as f64 } else { 0.0 };
        let passes_ms =
            runs * (tried.prefix_ms + tried.forward_ms) + last * (tried.forward_ms + (1.0 - cached) * tried.prefix_ms);
        let looked_ms = self.looked_at as f64 * (tried.forward_ms + (1.0 - cached) * tried.prefix_ms);
        let passes_ms = passes_ms / setup.threads as f64 + looked_ms;
        // The imprinted head and the end; and what a cross-validation has told.
        let kept = (1 + u64::from(self.steps > 0)) * self.generation_bytes
            + u64::from(self.cross_validated > 0) * self.checkpoint_bytes;
        let on_disk = if setup.cache == CachePlace::Disk { self.cache_bytes(setup) } else { 0 };
        Ok(Forecast {
            peak_rss_bytes: peak,
            threads: setup.threads,
            recompute: setup.activations == Activations::Recomputed,
            cache: setup.cache,
            cache_bytes: self.cache_bytes(setup),
            write_bytes: kept + self.replay_bytes + on_disk,
            checkpoint_bytes: self.checkpoint_bytes,
            steps: self.steps,
            cross_validated_steps: self.cross_validated,
            step_ms,
            seconds: (passes_ms + (self.steps + self.cross_validated) as f64 * step_ms) / 1e3,
        })
    }
}

/// The photo of `photos` that takes most for a moment to decode, and how many bytes.
pub(crate) fn largest_photo<'p>(
    photos: impl IntoIterator<Item = &'p Picture>,
    preprocess: &Preprocess,
) -> Option<(u64, Picture)> {
    let sizes = photos.into_iter().filter_map(|picture| Some((footprint(picture, preprocess)?, picture)));
    sizes.max_by_key(|(bytes, _)| *bytes).map(|(bytes, picture)| (bytes, picture.clone()))
}

/// # Errors
/// Kind `Memory`: no setup fits `limit`; `smallest` is what the smallest would take, with weights of `precision` and the photo that
/// takes most.
pub(crate) fn does_not_fit(limit: u64, smallest: u64, precision: &str, photo: Option<(u64, Picture)>) -> Error {
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    let message = format!(
        "{:.1} MiB are too few: with one thread, nothing kept in memory and activations computed again, this lesson takes up \
         to {:.1} MiB; raise the limit, or pack the bundle {}with fewer option `sites`{}",
        mib(limit),
        mib(smallest),
        if precision == "int8" { "" } else { "in int8 or " },
        photo.filter(|(bytes, _)| *bytes > smallest / 4).map_or_else(String::new, |(bytes, path)| {
            format!("; of it {:.1} MiB are for {}, which a smaller copy would save", mib(bytes), path.name())
        })
    );
    Error::new(ErrorKind::Memory, "option `ram_limit`", message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_takes_less_memory_comes_after_what_takes_more() {
        let first = Setup { threads: 2, activations: Activations::Kept, cache: CachePlace::Ram };
        let setups: Vec<_> = first.and_smaller().map(|c| (c.threads, c.activations, c.cache)).collect();
        let expected = [
            (2, Activations::Kept, CachePlace::Ram),
            (2, Activations::Kept, CachePlace::Disk),
            (2, Activations::Recomputed, CachePlace::Disk),
            (1, Activations::Kept, CachePlace::Disk),
            (1, Activations::Recomputed, CachePlace::Disk),
        ];
        assert_eq!(setups, expected);
        assert_eq!(Setup { threads: 1, cache: CachePlace::Off, ..first }.and_smaller().count(), 2);
    }
}
