//! How fast this machine is with a bundle.

use std::time::Instant;

use serde::Serialize;

use super::lesson::Lesson;
use super::memory::peak_rss_bytes;
use super::profile::{Profile, profile};
use super::store::Store;
use super::train::{fresh_adapter, median};
use crate::adapter::{Adapter, SiteSettings, Update};
use crate::autodiff::Network;
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
    /// The same with the prefix's output at hand.
    pub cached_step_ms: f64,
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

/// Times `bundle` on made-up photos.
///
/// # Errors
/// As opening and planning the network; `Mismatch` for a store of another bundle.
pub fn bench(bundle: &Bundle, store: Option<&Store>, batch: usize, profiled: bool) -> Result<BenchReport> {
    let backbone = bundle.backbone()?;
    let sites = bundle.sites_in(&backbone)?;
    let adapter = match store {
        Some(store) => store.load(bundle)?.1,
        None => fresh_adapter(bundle, &Lesson::new(Default::default()), CLASSES)?,
    };
    let mut gradients = adapter.zero_gradients();
    let shared: SharedAdapter = std::sync::Arc::new(std::sync::RwLock::new(adapter));
    let none = Adapter::start([], bundle.rank, SiteSettings::default(), 0, 0)?;
    let mut bare = Network::inference(&backbone, &sites, &std::sync::Arc::new(std::sync::RwLock::new(none)))?;
    let micro = bare.batch();
    let images: Vec<f32> = (0..micro * bare.image_len()).map(|n| ((n % 509) as f32 / 254.0) - 1.0).collect();
    let labels = vec![0; micro];
    let forward_ms = timed(micro, || bare.prefix(&images).and_then(|b| bare.forward(&b)).map(drop))?;
    drop(bare);
    let mut network = Network::training(&backbone, &sites, &shared)?;
    let adapted_forward_ms = timed(micro, || network.prefix(&images).and_then(|b| network.forward(&b)).map(drop))?;
    let boundary = network.prefix(&images)?;
    let rounds = batch.div_ceil(micro);
    let update = Update { lr: 0.0, head_lr: 0.0, optimizer: AdamW::default() };
    let mut step = |cached: bool| {
        for _ in 0..rounds {
            let fresh = if cached { None } else { Some(network.prefix(&images)?) };
            let output = network.step(fresh.as_ref().unwrap_or(&boundary), &labels)?;
            gradients.add(&output.pairs, &output.dw, &output.db);
        }
        shared.write().unwrap_or_else(std::sync::PoisonError::into_inner).update(&gradients, &update)
    };
    let step_ms = timed(1, || step(false))?;
    let cached_step_ms = timed(1, || step(true))?;
    let peak_rss_bytes = peak_rss_bytes();
    let profile = profiled.then(|| profile(&mut network, &images)).transpose()?;
    let threads = 1;
    Ok(BenchReport { forward_ms, adapted_forward_ms, step_ms, cached_step_ms, batch, threads, peak_rss_bytes, profile })
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
