//! What a lesson will take, said before it starts: memory, cache, writes to the medium, time.
//!
//! What is loaded is measured, what decoding and a run of the network add is tried out on every thread, with the largest photo
//! and an empty image, also beside a copy of the adapter where an event may need one, and the rest is counted. Before the trial, what
//! it may take is counted from above, less the memory that the process has and does not use, so that a limit is not passed by trying.

use std::num::NonZero;
use std::path::Path;
use std::sync::Arc;
use std::thread::available_parallelism;
use std::time::Instant;

use serde::Serialize;

use super::cache::CachePlace;
use super::image::footprint;
use super::memory::{Watch, rss_bytes};
use super::runner::Trial;
use crate::autodiff::Activations;
use crate::bundle::Preprocess;
use crate::error::{Error, ErrorKind, Result};

/// Buffers of one thread's products besides bands of columns, from above: a tile of W, a block of expanded channels, planes of a
/// depthwise convolution, packed factors.
const SCRATCH_BYTES: u64 = 1 << 20;
/// A band of columns is so large, or has 256 columns of f32; a thread has two of them.
const BAND_BYTES: u64 = 256 << 10;
/// Trials per thread; the last one's time counts.
const TRIALS: usize = 3;
/// What stays in pieces that cannot be used again: a share of what is added, on one thread; on several, which reach their peaks
/// together only by chance; and on more than there are cores, where the trial's threads take turns.
const SLACK: [f64; 3] = [0.05, 0.2, 0.3];
/// Everything too small to count, and pages of the program's file that only a lesson reads.
const SMALL_BYTES: u64 = 3 << 19;

/// What a lesson will take.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Forecast {
    /// The largest resident size; null where the system does not tell the present one.
    pub peak_rss_bytes: Option<u64>,
    /// Threads that photos are run on.
    pub threads: usize,
    /// Whether activations are let go after the forward pass and computed again.
    pub recompute: bool,
    /// Where the prefix's outputs are kept.
    pub cache: CachePlace,
    /// Bytes of them.
    pub cache_bytes: u64,
    /// Bytes written to the medium: generations, and the cache if it lies there.
    pub write_bytes: u64,
    /// Steps of the lesson.
    pub steps: u64,
    /// Steps before them at most, to rehearse the lesson where photos are few; an easy task is not rehearsed.
    pub rehearsed_steps: u64,
    /// Time of one step, in milliseconds.
    pub step_ms: f64,
    /// Time of the whole lesson with its rehearsal, decoding not included.
    pub seconds: f64,
}

/// The sizes and counts that a forecast is made from.
#[derive(Debug, Clone, Copy)]
pub(super) struct Work {
    /// Bytes of one photo's outputs of the prefix in the cache; 0 where they cannot be kept.
    pub(super) boundary_bytes: u64,
    /// Bytes of a gradient of everything that is trained.
    pub(super) gradient_bytes: u64,
    /// Bytes of a generation.
    pub(super) generation_bytes: u64,
    /// The longest row of a map.
    pub(super) widest: u64,
    /// Bytes of what an event may have to be taken back to.
    pub(super) undo_bytes: u64,
    /// Bytes that a rehearsal keeps; events come after it.
    pub(super) rehearsal_bytes: u64,
    /// Bytes that decoding takes for a moment, at most.
    pub(super) photo_bytes: u64,
    /// Photos trained on.
    pub(super) photos: usize,
    /// Of these, the photos that the cache has room for.
    pub(super) cached: usize,
    /// Photos that accuracy is measured on.
    pub(super) measured: usize,
    /// Steps.
    pub(super) steps: u64,
    /// Steps that are taken before them, on a part of the photos.
    pub(super) rehearsed: u64,
    /// Photos in a step.
    pub(super) batch: usize,
    /// Whether anything is trained.
    pub(super) trains: bool,
}

/// How a lesson is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Choice {
    pub(super) threads: usize,
    pub(super) activations: Activations,
    pub(super) cache: CachePlace,
}

impl Choice {
    /// This one, and those that take less memory, in order of the time that they cost: nothing in memory is kept but the
    /// present photo, then activations are computed again, then photos run by fewer at a time.
    pub(super) fn and_smaller(self) -> impl Iterator<Item = Choice> {
        let cache = if self.cache == CachePlace::Ram { CachePlace::Disk } else { self.cache };
        let in_ram = (cache != self.cache).then_some(self);
        let threads = (1..=self.threads).rev();
        let both = [Activations::Kept, Activations::Recomputed];
        let rest = threads.flat_map(move |threads| both.map(|activations| Choice { threads, activations, cache }));
        in_ram.into_iter().chain(rest)
    }
}

impl Choice {
    fn slack(self) -> f64 {
        let cores = available_parallelism().map_or(1, NonZero::get);
        SLACK[usize::from(self.threads > 1) + usize::from(self.threads > cores)]
    }
}

impl Work {
    /// Bytes that a thread takes for a photo, from above, where a run has so many bytes of activations at a time. A photo is decoded
    /// before it is run.
    pub(super) fn per_thread(&self, activation_bytes: u64) -> u64 {
        let scratch = SCRATCH_BYTES + 2 * BAND_BYTES.max(256 * 4 * self.widest);
        (activation_bytes + scratch).max(self.photo_bytes)
    }

    /// The largest resident size from above, before anything has been tried; `None` where the present one is not known.
    fn ceiling(&self, choice: Choice, activation_bytes: u64) -> Option<u64> {
        let runs = choice.threads as u64 * self.per_thread(activation_bytes);
        Some(rss_bytes()? + runs + self.undo_bytes + self.kept(choice) + SMALL_BYTES)
    }

    /// Bytes of what lives from the first step to the last, besides what is loaded and what a trial shows.
    fn kept(&self, choice: Choice) -> u64 {
        let cache = if choice.cache == CachePlace::Ram { self.cache_bytes(choice) } else { 0 };
        // The sum, and one output for every micro-batch under way.
        let outputs = if choice.threads > 1 { 1 + 2 * choice.threads as u64 } else { 2 };
        let trained = outputs * self.gradient_bytes + self.rehearsal_bytes.saturating_sub(self.undo_bytes);
        cache + if self.trains { trained } else { 0 }
    }

    fn cache_bytes(&self, choice: Choice) -> u64 {
        if choice.cache == CachePlace::Off { 0 } else { self.cached as u64 * self.boundary_bytes }
    }

    /// The forecast from what a trial on `choice.threads` threads showed in `memory`, or where an earlier peak hides that, from what is
    /// counted. `trial` is told how many rounds, and whether a copy of the adapter lies beside.
    ///
    /// # Errors
    /// Those of the trial.
    pub(super) fn forecast(
        &self,
        choice: Choice,
        (memory, activation_bytes): (&Watch, u64),
        mut trial: impl FnMut(usize, bool) -> Result<Trial>,
    ) -> Result<Forecast> {
        let (before, ceiling) = (rss_bytes(), self.ceiling(choice, activation_bytes));
        let tried = trial(TRIALS, false)?;
        if self.undo_bytes > 0 {
            trial(1, true)?;
        }
        let peak = before.zip(memory.peak()).map(|(before, peak)| {
            // In a trial, large photos may be decoded one after the other; in a lesson, all at once.
            let peak = peak.max(before + choice.threads as u64 * self.photo_bytes);
            let (of_runs, added) = (peak.saturating_sub(before), self.kept(choice));
            peak + added + SMALL_BYTES + (choice.slack() * (of_runs + added) as f64) as u64
        });
        let peak = peak.or(ceiling);
        let cached = if self.cache_bytes(choice) > 0 { self.cached as f64 / self.photos.max(1) as f64 } else { 0.0 };
        let suffix_ms = if self.trains { tried.step_ms } else { tried.forward_ms };
        let step_ms = self.batch as f64 / choice.threads as f64 * (suffix_ms + (1.0 - cached) * tried.prefix_ms);
        let runs = self.photos as f64 + 2.0 * self.measured as f64;
        // Once more after the last step, for the class means.
        let last = if self.steps > 0 { self.photos as f64 } else { 0.0 };
        let passes_ms =
            runs * (tried.prefix_ms + tried.forward_ms) + last * (tried.forward_ms + (1.0 - cached) * tried.prefix_ms);
        let passes_ms = passes_ms / choice.threads as f64;
        // The imprinted head and the end; and what a rehearsal has told.
        let generations = 1 + u64::from(self.steps > 0) + u64::from(self.rehearsed > 0);
        let on_disk = if choice.cache == CachePlace::Disk { self.cache_bytes(choice) } else { 0 };
        Ok(Forecast {
            peak_rss_bytes: peak,
            threads: choice.threads,
            recompute: choice.activations == Activations::Recomputed,
            cache: choice.cache,
            cache_bytes: self.cache_bytes(choice),
            write_bytes: generations * self.generation_bytes + on_disk,
            steps: self.steps,
            rehearsed_steps: self.rehearsed,
            step_ms,
            seconds: (passes_ms + (self.steps + self.rehearsed) as f64 * step_ms) / 1e3,
        })
    }
}

/// The photo of `photos` that takes most for a moment to decode, and how many bytes.
pub(super) fn largest_photo<'p>(
    photos: impl IntoIterator<Item = &'p Arc<Path>>,
    preprocess: &Preprocess,
) -> Option<(u64, Arc<Path>)> {
    let sizes = photos.into_iter().filter_map(|path| Some((footprint(path, preprocess)?, path)));
    sizes.max_by_key(|(bytes, _)| *bytes).map(|(bytes, path)| (bytes, path.clone()))
}

/// # Errors
/// Kind `Memory`: no choice fits `limit`; `smallest` is what the smallest would take, with weights of `precision` and the photo that
/// takes most.
pub(super) fn does_not_fit(limit: u64, smallest: u64, precision: &str, photo: Option<(u64, &Path)>) -> Error {
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    let message = format!(
        "{:.1} MiB are too few: with one thread, nothing kept in memory and activations computed again, this lesson takes up \
         to {:.1} MiB; raise the limit, or pack the bundle {}with fewer --sites{}",
        mib(limit),
        mib(smallest),
        if precision == "int8" { "" } else { "in int8 or " },
        photo.filter(|(bytes, _)| *bytes > smallest / 4).map_or_else(String::new, |(bytes, path)| {
            format!("; of it {:.1} MiB are for {}, which a smaller copy would save", mib(bytes), path.display())
        })
    );
    Error::new(ErrorKind::Memory, "--ram-limit", message)
}

/// Times `act` in milliseconds.
pub(super) fn timed<T>(act: impl FnOnce() -> Result<T>) -> Result<(T, f64)> {
    let begin = Instant::now();
    let result = act()?;
    Ok((result, begin.elapsed().as_secs_f64() * 1e3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_takes_less_memory_comes_after_what_takes_more() {
        let first = Choice { threads: 2, activations: Activations::Kept, cache: CachePlace::Ram };
        let choices: Vec<_> = first.and_smaller().map(|c| (c.threads, c.activations, c.cache)).collect();
        let expected = [
            (2, Activations::Kept, CachePlace::Ram),
            (2, Activations::Kept, CachePlace::Disk),
            (2, Activations::Recomputed, CachePlace::Disk),
            (1, Activations::Kept, CachePlace::Disk),
            (1, Activations::Recomputed, CachePlace::Disk),
        ];
        assert_eq!(choices, expected);
        assert_eq!(Choice { threads: 1, cache: CachePlace::Off, ..first }.and_smaller().count(), 2);
    }
}
