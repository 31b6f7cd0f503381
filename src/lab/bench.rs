//! How fast this machine is with a bundle.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Instant;

use half::f16;
use serde::Serialize;

use crate::adapter::{Adapter, SiteSettings, Update};
use crate::autodiff::{Activations, Network, StepOutput};
use crate::backbone::SharedAdapter;
use crate::bundle::Bundle;
use crate::core::Schedule;
use crate::error::Result;
use crate::lab::profile::{Profile, profile};
use crate::session::process::{median, peak_rss_bytes, startup_ms};
use crate::session::run::{Crew, Runner};
use crate::session::settings::Lesson;
use crate::session::start::fresh_adapter;
use crate::session::store::Store;

/// Runs of a step; the median counts.
const STEPS: usize = 7;
/// Runs of a forward pass.
const FORWARDS: usize = 31;
/// Classes of the made-up task where no store gives some.
const CLASSES: usize = 10;

/// What `bench` answers: medians, in milliseconds.
#[derive(Debug, Clone, Serialize)]
pub struct BenchReport {
    /// The bare backbone, one photo.
    pub forward_ms: f64,
    /// With what has been learned, one photo, as `predict` runs it.
    pub adapted_forward_ms: f64,
    /// One batch: prefix, forward, backward, optimizer.
    pub step_ms: f64,
    /// The same with the prefix's output at hand; null where it cannot be kept.
    pub cached_step_ms: Option<f64>,
    /// From the start of the process until the first photo could be trained on.
    pub startup_ms: f64,
    /// Photos per step.
    pub batch: usize,
    /// Threads used.
    pub threads: usize,
    /// The process's largest resident size.
    pub peak_rss_bytes: Option<u64>,
    /// Where the step's time goes, if it was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub profile: Option<Profile>,
}

/// Times `bundle` on made-up photos, the training step on `threads` threads.
///
/// # Errors
/// As opening and planning the network; `Mismatch` for a store of another bundle.
pub fn bench(
    bundle: &Bundle,
    store: Option<&Store>,
    batch: usize,
    threads: usize,
    profiled: bool,
) -> Result<BenchReport> {
    let opened_ms = startup_ms(Instant::now());
    let [forward_ms, adapted_forward_ms] = forwards(bundle, store)?;
    let begin = Instant::now();
    let adapter = learned(bundle, store)?;
    let mut gradients = adapter.zero_gradients();
    let shared: SharedAdapter = Arc::new(RwLock::new(adapter));
    let plan = Runner::plan(bundle, &shared, Some(Activations::Kept))?;
    let mut network = plan.start()?;
    let startup_ms = opened_ms + begin.elapsed().as_secs_f64() * 1e3;
    let (micro, images, can_keep) = (plan.batch(), made_up(&network), plan.boundary_len().is_some());
    let mut boundary = vec![f16::ZERO; plan.boundary_len().unwrap_or(0)];
    if can_keep {
        network.prefix(&images)?.round_to(&mut boundary)?;
    }
    let profile = profiled.then(|| profile(&mut network, &images)).transpose()?;
    drop(network);
    let mut crew = Crew::start(&plan, threads)?;
    let update = Update::new(Schedule::linear(0.0, 0, 1).at(0), 0.0);
    let inputs = Arc::new((images, boundary, Mutex::new(Vec::<StepOutput>::new())));
    let mut step = |cached: bool| {
        let inputs = inputs.clone();
        let spare = inputs.clone();
        let work = move |network: &mut Network, ()| -> Result<StepOutput> {
            let (images, boundary, spare) = &*inputs;
            let boundary = if cached { network.plan().boundary(boundary) } else { network.prefix(images) }?;
            let mut output = lock(spare).pop().unwrap_or_default();
            network.step_into(&boundary, &vec![0; network.batch()], &mut output)?;
            Ok(output)
        };
        gradients.clear();
        crew.all().each(std::iter::repeat_n((), batch.div_ceil(micro)), work, |output| {
            let output = output?;
            gradients.add(&output.pairs, &output.dw, &output.db);
            lock(&spare.2).push(output);
            Ok(())
        })?;
        shared.write().unwrap_or_else(PoisonError::into_inner).update(&gradients, &update)
    };
    let [step_ms, cached_step_ms] = in_turn(STEPS, |cached| step(cached && can_keep))?;
    let cached_step_ms = can_keep.then_some(cached_step_ms);
    let peak_rss_bytes = peak_rss_bytes();
    Ok(BenchReport {
        forward_ms,
        adapted_forward_ms,
        step_ms,
        cached_step_ms,
        startup_ms,
        batch,
        threads,
        peak_rss_bytes,
        profile,
    })
}

/// What `store` has learned; without one, the start of a lesson.
fn learned(bundle: &Bundle, store: Option<&Store>) -> Result<Adapter> {
    match store {
        Some(store) => Ok(store.load(bundle)?.adapter),
        None => fresh_adapter(bundle, &Lesson::new(""), CLASSES),
    }
}

/// The times in ms of a photo's forward pass through the bare backbone, and with what has been learned.
fn forwards(bundle: &Bundle, store: Option<&Store>) -> Result<[f64; 2]> {
    let mut backbone = bundle.backbone()?;
    let sites = bundle.sites_in(&backbone)?;
    let none: SharedAdapter = Arc::new(RwLock::new(Adapter::start([], 0, SiteSettings::default(), 0, 0)?));
    let mut bare = Network::inference(&backbone, &sites, &none)?;
    backbone.absorb(&sites, &mut learned(bundle, store)?);
    let mut adapted = Network::inference(&backbone, &sites, &none)?;
    drop(backbone);
    let images = made_up(&bare);
    let times = in_turn(FORWARDS, |which| {
        let network = if which { &mut adapted } else { &mut bare };
        network.prefix(&images).and_then(|boundary| network.forward(&boundary)).map(drop)
    })?;
    Ok(times.map(|ms| ms / bare.batch() as f64))
}

/// A micro-batch of pixels.
fn made_up(network: &Network) -> Vec<f32> {
    (0..network.batch() * network.image_len()).map(|n| ((n % 509) as f32 / 254.0) - 1.0).collect()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The median times in ms of `work(false)` and `work(true)`, done in turn, after a run of each that does not count.
fn in_turn(runs: usize, mut work: impl FnMut(bool) -> Result<()>) -> Result<[f64; 2]> {
    let mut times = [Vec::with_capacity(runs), Vec::with_capacity(runs)];
    for run in 0..=runs {
        for which in [false, true] {
            let begin = Instant::now();
            work(which)?;
            if run > 0 {
                times[usize::from(which)].push(begin.elapsed().as_secs_f64() * 1e3);
            }
        }
    }
    Ok(times.map(|times| median(times).unwrap_or(0.0)))
}
