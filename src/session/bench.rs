//! How fast this machine is with a bundle.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Instant;

use serde::Serialize;

use super::crew::Crew;
use super::lesson::Lesson;
use super::memory::peak_rss_bytes;
use super::profile::{Profile, profile};
use super::store::Store;
use super::train::{fresh_adapter, median};
use crate::adapter::{Adapter, SiteSettings, Update};
use crate::autodiff::{Activations, Network, NetworkPlan, StepOutput};
use crate::backbone::SharedAdapter;
use crate::bundle::Bundle;
use crate::core::AdamW;
use crate::error::Result;

/// Runs of each figure; the median counts.
const RUNS: usize = 7;
/// Classes of the made-up task where no store gives some.
const CLASSES: usize = 10;

/// What `bench` answers: medians, in milliseconds.
#[derive(Debug, Clone, Serialize)]
pub struct BenchReport {
    /// The bare backbone, one photo.
    pub forward_ms: f64,
    /// With pairs, one photo.
    pub adapted_forward_ms: f64,
    /// One batch: prefix, forward, backward, optimizer.
    pub step_ms: f64,
    /// The same with the prefix's output at hand; null where it cannot be kept.
    pub cached_step_ms: Option<f64>,
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
    let backbone = bundle.backbone()?;
    let sites = bundle.sites_in(&backbone)?;
    let adapter = match store {
        Some(store) => store.load(bundle)?.1,
        None => fresh_adapter(bundle, &Lesson::new(Default::default()), CLASSES)?,
    };
    let mut gradients = adapter.zero_gradients();
    let shared: SharedAdapter = Arc::new(RwLock::new(adapter));
    let none = Adapter::start([], bundle.rank, SiteSettings::default(), 0, 0)?;
    let mut bare = Network::inference(&backbone, &sites, &Arc::new(RwLock::new(none)))?;
    let micro = bare.batch();
    let images: Vec<f32> = (0..micro * bare.image_len()).map(|n| ((n % 509) as f32 / 254.0) - 1.0).collect();
    let forward_ms = timed(micro, || bare.prefix(&images).and_then(|b| bare.forward(&b)).map(drop))?;
    drop(bare);
    let plan = NetworkPlan::training(&backbone, &sites, &shared, Activations::Kept)?;
    drop(backbone);
    let mut network = plan.start()?;
    let adapted_forward_ms = timed(micro, || network.prefix(&images).and_then(|b| network.forward(&b)).map(drop))?;
    let mut boundary = vec![0.0; plan.boundary_len().unwrap_or(0)];
    if plan.boundary_len().is_some() {
        network.prefix(&images)?.copy_to(&mut boundary)?;
    }
    let profile = profiled.then(|| profile(&mut network, &images)).transpose()?;
    drop(network);
    let mut crew = Crew::start(&plan, threads)?;
    let update = Update { lr: 0.0, head_lr: 0.0, optimizer: AdamW::default() };
    let made_up = Arc::new((images, boundary, Mutex::new(Vec::<StepOutput>::new())));
    let mut step = |cached: bool| {
        let made_up = made_up.clone();
        let spare = made_up.clone();
        let work = move |network: &mut Network, ()| -> Result<StepOutput> {
            let (images, boundary, spare) = &*made_up;
            let boundary = if cached { network.plan().boundary(boundary) } else { network.prefix(images) }?;
            let mut output = lock(spare).pop().unwrap_or_default();
            network.step_into(&boundary, &vec![0; network.batch()], &mut output)?;
            Ok(output)
        };
        gradients.clear();
        crew.each(std::iter::repeat_n((), batch.div_ceil(micro)), work, |output| {
            let output = output?;
            gradients.add(&output.pairs, &output.dw, &output.db);
            lock(&spare.2).push(output);
            Ok(())
        })?;
        shared.write().unwrap_or_else(PoisonError::into_inner).update(&gradients, &update)
    };
    let step_ms = timed(1, || step(false))?;
    let cached_step_ms = plan.boundary_len().map(|_| timed(1, || step(true))).transpose()?;
    let peak_rss_bytes = peak_rss_bytes();
    Ok(BenchReport { forward_ms, adapted_forward_ms, step_ms, cached_step_ms, batch, threads, peak_rss_bytes, profile })
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The median time in ms of one of the `parts` of `work`, after one run that does not count.
fn timed(parts: usize, mut work: impl FnMut() -> Result<()>) -> Result<f64> {
    work()?;
    let mut times = Vec::with_capacity(RUNS);
    for _ in 0..RUNS {
        let begin = Instant::now();
        work()?;
        times.push(begin.elapsed().as_secs_f64() * 1e3 / parts as f64);
    }
    Ok(median(times).unwrap_or(0.0))
}
