//! Finds room for a lesson before its first step: in memory, and on the medium that keeps its store.

use std::sync::{Arc, PoisonError, RwLock};

use super::cross_validation::{cross_validated_bytes, cross_validated_steps, folds};
use super::keep::Keep;
use super::opening::Opening;
use super::work::{Attempt, Setup, Work, does_not_fit, largest_photo};
use crate::adapter::{Adapter, DirectionsBuf, Ridge, Sketch};
use crate::autodiff::Activations;
use crate::backbone::SharedAdapter;
use crate::bundle::Bundle;
use crate::error::{Error, ErrorKind, Result};
use crate::limits::MOST_EXAMPLES;
use crate::session::forecast::Forecast;
use crate::session::photos::Picture;
use crate::session::policy::{Due, NOTES, Plan};
use crate::session::process::{Block, Claim, Watch, rss_bytes};
use crate::session::replay::Replay;
use crate::session::run::{MOST_LOOKED_AT, Resources, Runner};
use crate::session::settings::{CachePlace, Lesson};
use crate::session::start::pairs_and_directions;
use crate::session::store::beside;

/// Bytes of the journal that a step adds, from above: its own line, and a share of the notes of importance.
const JOURNAL_BYTES: u64 = 2 << 10;
/// Bytes of a note of one pair's importance, from above.
const NOTE_BYTES: u64 = 16;
/// Bytes of a generation besides its numbers, from above: names, shapes, the record.
const HEADER_BYTES: u64 = 64 << 10;

/// A lesson that looks for room.
pub(crate) struct Applicant<'l> {
    pub(crate) bundle: &'l Bundle,
    pub(crate) lesson: &'l Lesson,
    pub(crate) plan: &'l Plan,
    pub(crate) opening: &'l Opening,
    /// Whether it is cross-validated where its photos are few.
    pub(crate) cross_validates: bool,
    pub(crate) keep: &'l Keep,
    /// What the process has taken since the lesson began.
    pub(crate) memory: &'l Watch,
}

/// What was found.
pub(crate) struct Found {
    pub(crate) runner: Runner,
    pub(crate) forecast: Forecast,
    /// What was given up for want of room, to tell the user.
    pub(crate) warnings: Vec<String>,
}

impl Applicant<'_> {
    /// The network on as many threads, and with such a cache, as the lesson asks for and memory and medium allow; and what that takes.
    ///
    /// # Errors
    /// `Stopped` where `keep.stop` was set; `Memory` where nothing fits the limit; `Io` where the medium has no room for what is to be kept; those of planning.
    pub(crate) fn find(self, adapter: Adapter) -> Result<Found> {
        let Applicant { bundle, lesson, memory, .. } = self;
        let trains = lesson.method.settings().trains_head;
        let mut work = self.work(&adapter);
        let adapter: SharedAdapter = Arc::new(RwLock::new(adapter));
        let plan_with = |activations| Runner::plan(bundle, &adapter, trains.then_some(activations));
        let mut network = (Activations::Kept, plan_with(Activations::Kept)?);
        let largest = self.measure(&mut work, network.1.boundary_len())?;
        let cache = if trains && !lesson.augment && work.cached > 0 { lesson.cache } else { CachePlace::Off };
        let (asked, on_medium) = (work.cached, self.cached_on_medium(&work)?);
        let limit = self.limit()?;
        let (mut smallest, folder) = (0, beside(&self.keep.store));
        let first = Setup { threads: lesson.threads, activations: Activations::Kept, cache };
        let mut setups = first.and_smaller().peekable();
        while let Some(setup) = setups.next() {
            self.keep.stop.go_on()?;
            if network.0 != setup.activations {
                // The other plan is let go first.
                drop(network);
                network = (setup.activations, plan_with(setup.activations)?);
            }
            work.cached = if setup.cache == CachePlace::Disk { asked.min(on_medium) } else { asked };
            let network = &network.1;
            let activation_bytes = network.activation_bytes()? as u64;
            let means = Resources {
                threads: setup.threads,
                cache: setup.cache,
                folder,
                photos: work.cached,
                measured: 0,
                replay: self.opening.examples.replay.clone(),
            };
            let mut runner = Runner::start(network, adapter.clone(), bundle, &means)?;
            if let Some(present) = rss_bytes().filter(|_| lesson.ram_limit.is_some()) {
                // An earlier lesson may have left room for what lives beside the runs; they must not find the same.
                let beside = Claim::take(work.beside(setup), Block::Small, present);
                let growth = beside.missing() + runner.growth(work.per_thread(activation_bytes))?;
                let needed = present + growth;
                smallest = needed + work.margin(setup, growth);
                // What a try takes stays in pieces behind it, and would be in the way of a smaller one. So a try is made only where it
                // is likely to fit, but for the last.
                if needed > limit || (setups.peek().is_some() && smallest > limit) {
                    continue;
                }
            }
            let trial = |Attempt { rounds, steps, copies }| {
                let _copy = copies.then(|| adapter.read().unwrap_or_else(PoisonError::into_inner).clone());
                runner.trial(steps, rounds, largest.clone())
            };
            let forecast = work.forecast(setup, (memory, activation_bytes), trial)?;
            smallest = forecast.peak_rss_bytes.unwrap_or(0);
            if smallest <= limit {
                let fewer = (work.cached < asked).then(|| fewer_cached(self.keep, work.cached, asked));
                let warnings = fewer.into_iter().chain(self.too_few_examples(network.boundary_len())).collect();
                return Ok(Found { runner, forecast, warnings });
            }
        }
        Err(does_not_fit(limit, smallest, &bundle.precision, largest.map(|photo| (work.photo_bytes, photo))))
    }

    /// Adds what is known once the network is planned, which hands over `boundary_len` values a photo; the photo that takes most to decode.
    ///
    /// # Errors
    /// Kind `Store` where the store's examples have another number of values.
    fn measure(&self, work: &mut Work, boundary_len: Option<usize>) -> Result<Option<Picture>> {
        let Opening { data, validation, examples, .. } = self.opening;
        let photos = data.photos.iter().chain(validation.iter().flat_map(|v| &v.photos));
        let largest = largest_photo(photos.map(|photo| &photo.picture), &self.bundle.preprocess);
        work.photo_bytes = largest.as_ref().map_or(0, |(bytes, _)| *bytes);
        work.boundary_bytes = boundary_len.map_or(0, |len| 2 * len as u64);
        work.cached = within(self.lesson.cache_limit, work.boundary_bytes).min(data.present());
        if !examples.replay.is_empty() && boundary_len != Some(examples.replay.values()) {
            let message = "has examples of another network; option `replay` 0 goes on without them";
            return Err(Error::new(ErrorKind::Store, self.keep.store.display(), message));
        }
        // Of photos now, and of earlier ones.
        let most = (data.present() + examples.replay.len()).min(MOST_EXAMPLES) as u64;
        work.replay_bytes = (most * Replay::example_bytes(boundary_len.unwrap_or(0))).min(self.lesson.replay);
        Ok(largest.map(|(_, photo)| photo))
    }

    /// What to say where not every class can have an example.
    fn too_few_examples(&self, boundary_len: Option<usize>) -> Option<String> {
        let (limit, classes) = (self.lesson.replay, self.opening.data.classes.len() as u64);
        let most = limit.checked_div(Replay::example_bytes(boundary_len?))?;
        (0 < limit && most < classes).then(|| {
            format!(
                "option `replay` has room for {most} examples, and there are {classes} classes: give it more, or further lessons will need \
                 photos of the others"
            )
        })
    }

    /// Bytes that the process may take.
    ///
    /// # Errors
    /// Kind `Memory` where that is limited, and the system does not tell what it takes.
    fn limit(&self) -> Result<u64> {
        match self.lesson.ram_limit {
            Some(_) if rss_bytes().is_none() => {
                let message = "this system does not tell how much memory a process takes, so no limit can be kept";
                Err(Error::new(ErrorKind::Memory, "option `ram_limit`", message))
            }
            limit => Ok(limit.unwrap_or(u64::MAX)),
        }
    }

    /// Its sizes and counts, as far as they are known before the network is planned.
    fn work(&self, adapter: &Adapter) -> Work {
        let Applicant { bundle, lesson, plan, opening, cross_validates, .. } = *self;
        let Opening { data, validation, .. } = opening;
        let trains = lesson.method.settings().trains_head;
        let values = adapter.bytes() as u64;
        let finds = opening.finds_directions(lesson, plan);
        let folds = if cross_validates { folds(bundle, lesson, data) } else { 0 };
        let sizes = bundle.sites.iter().filter(|_| finds).map(|site| {
            let [_, directions] = pairs_and_directions(site, bundle.rank, &lesson.pair_kind().sites);
            (directions, site.in_dim)
        });
        let found = sizes.clone().map(|(directions, in_dim)| DirectionsBuf::found_bytes(directions, in_dim));
        let found: Vec<u64> = found.collect();
        let coded = sizes.clone().map(|(directions, in_dim)| DirectionsBuf::coded_bytes(directions, in_dim));
        let coded_bytes = adapter.coded_bytes().max(coded.sum());
        // A generation has those of its pairs.
        let are_found = lesson.finds_directions() || adapter.found().is_some();
        let live = adapter
            .sites
            .iter()
            .filter(|_| are_found)
            .map(|site| DirectionsBuf::coded_bytes(site.shape.rank, site.shape.in_dim));
        let live_bytes = live.sum::<u64>();
        let sketches: Vec<[u64; 2]> = sizes.map(|(directions, in_dim)| Sketch::bytes(directions, in_dim)).collect();
        Work {
            boundary_bytes: 0,
            gradient_bytes: 4 * adapter.trainable() as u64,
            generation_bytes: adapter.learned_bytes() as u64 + live_bytes,
            checkpoint_bytes: values + coded_bytes,
            widest: bundle.sites.iter().map(|site| site.in_dim as u64).max().unwrap_or(0),
            // A further lesson looks at its photos with a second adapter before its steps.
            undo_bytes: if plan.due == Due::Never && !opening.has_learned_pairs { 0 } else { values },
            cross_validation_bytes: if cross_validates { cross_validated_bytes(bundle, lesson, data) } else { 0 },
            solved_bytes: Ridge::bytes(data.photos.len(), [bundle.feature_dim, data.classes.len()]),
            pairs: adapter.sites.iter().map(|site| site.shape.rank as u64).sum(),
            sketch_bytes: sketches.iter().map(|[bytes, _]| bytes).sum(),
            found_beside_bytes: found_beside(&found, &sketches),
            // They take the place of those that a fresh adapter has room for; while a cross-validation finds others, they wait.
            found_bytes: if opening.has_learned_pairs || folds > 0 { found.iter().sum() } else { 0 },
            looked_at: if finds { (1 + folds) * data.photos.len().min(MOST_LOOKED_AT) } else { 0 },
            photo_bytes: 0,
            replay_bytes: 0,
            photos: data.photos.len(),
            cached: 0,
            measured: validation.as_ref().map_or(0, |v| v.photos.len()),
            steps: if trains { plan.steps } else { 0 },
            cross_validated: if cross_validates { cross_validated_steps(bundle, lesson, data) } else { 0 },
            batch: lesson.batch,
            trains,
        }
    }

    /// Photos of so many bytes in the cache that the medium has room for besides what is to be kept. One always stays, so that values
    /// are rounded as planned; the others run through the prefix every time, which changes nothing in what the lesson ends in.
    ///
    /// # Errors
    /// Kind `Io` where there is not even room for generations and checkpoints.
    fn cached_on_medium(&self, work: &Work) -> Result<usize> {
        let Keep { medium, store, .. } = self.keep;
        let needed = match self.store_bytes(work) {
            0 => 0,
            numbers => numbers + work.replay_bytes,
        };
        let Some(free) = medium.free_bytes(store).filter(|_| needed > 0) else { return Ok(usize::MAX) };
        if free < needed {
            let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
            let message = format!(
                "the lesson keeps up to {:.1} MiB there (generations, checkpoints, journal), and {:.1} MiB are free: make room there",
                mib(needed),
                mib(free)
            );
            return Err(Error::new(ErrorKind::Io, store.display(), message));
        }
        let free = medium.free_bytes(beside(store)).unwrap_or(u64::MAX);
        Ok(within(Some(free.saturating_sub(needed)), work.boundary_bytes).max(1))
    }

    /// Bytes that the lesson's files take at the same time, at most, besides what is there: the imprinted head; the checkpoint that is
    /// written beside the one before, or the end beside the last one; and the journal.
    fn store_bytes(&self, work: &Work) -> u64 {
        let Applicant { plan, opening, .. } = *self;
        let [generation, checkpoint] = [work.generation_bytes, work.checkpoint_bytes].map(|bytes| bytes + HEADER_BYTES);
        let imprinted = if opening.known < opening.data.classes.len() { generation } else { 0 };
        if plan.steps == 0 {
            return imprinted;
        }
        // While events are on trial, what was there before them is kept too.
        let there = if opening.from.is_some() { checkpoint } else { 0 };
        let checkpoint = if plan.due == Due::Never { checkpoint } else { 2 * checkpoint };
        let notes = plan.steps.min(2 * NOTES) * NOTE_BYTES * work.pairs;
        imprinted + 2 * checkpoint - there + JOURNAL_BYTES * plan.steps.min(1 << 10) + notes
    }
}

/// Bytes beside all sketches, at most, while one after the other comes to directions of `found` bytes and is let go. Of each sketch
/// there are its bytes, and what finding its directions takes besides.
fn found_beside(found: &[u64], sketches: &[[u64; 2]]) -> u64 {
    let (mut there, mut gone, mut most) = (0, 0, 0);
    for (found, [sketch, besides]) in found.iter().zip(sketches) {
        there += found;
        most = most.max((there + besides).saturating_sub(gone));
        gone += sketch;
    }
    most
}

fn fewer_cached(keep: &Keep, cached: usize, asked: usize) -> String {
    let store = keep.store.display();
    format!(
        "there is little room beside {store}: the cache keeps {cached} of {asked} photos, and the others take longer"
    )
}

/// Photos of `bytes` each that find room within a limit.
fn within(limit: Option<u64>, bytes: u64) -> usize {
    let photos = limit.and_then(|limit| limit.checked_div(bytes));
    photos.map_or(usize::MAX, |photos| usize::try_from(photos).unwrap_or(usize::MAX))
}
