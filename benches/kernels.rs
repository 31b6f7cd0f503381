//! The parts of a training step one by one: `cargo bench`. Whole steps against a peer: `tests/bench/peer.py`.

use std::path::Path;
use std::sync::{Arc, RwLock};

use divan::{Bencher, black_box};
use half::f16;
use srlora::adapter::{Adapter, DirectionsBuf, SiteSeed, SiteSettings, Update};
use srlora::autodiff::{Activations, Network, NetworkPlan, StepOutput};
use srlora::bundle::Bundle;
use srlora::core::{FuseOrder, Recompose, Schedule, Weight, int8_blocks, int8_rows};

#[global_allocator]
static COUNTED: divan::AllocProfiler = divan::AllocProfiler::system();

/// The last expansion of MobileNetV2.
const OUT_DIM: usize = 960;
const IN_DIM: usize = 160;
const RANK: usize = 8;
const RESERVE: usize = 32;
const CLASSES: usize = 10;

fn main() {
    divan::main();
}

fn wave(count: usize, phase: f32) -> Vec<f32> {
    (0..count).map(|at| (at as f32 * 1.37 + phase).sin()).collect()
}

/// One site of MobileNetV2 and a head.
fn site() -> Adapter {
    let half = |values: Vec<f32>| values.into_iter().map(f16::from_f32).collect();
    let directions = DirectionsBuf {
        sigma: (0..RESERVE).map(|k| 1.0 / (1 + k) as f32).collect(),
        u: half(wave(RESERVE * OUT_DIM, 0.1)),
        v: half(wave(RESERVE * IN_DIM, 0.2)),
    };
    let seed = SiteSeed::new("site", [OUT_DIM, IN_DIM], directions);
    Adapter::start([seed], RANK, SiteSettings::default(), CLASSES, 1280).unwrap()
}

#[divan::bench]
fn decode_int8(bencher: Bencher) {
    let (mut codes, mut scales) = (vec![0; OUT_DIM * IN_DIM], vec![0.0; OUT_DIM]);
    int8_rows(&wave(OUT_DIM * IN_DIM, 0.3), IN_DIM, &mut codes, &mut scales).unwrap();
    let mut out = vec![0.0; IN_DIM];
    let weight = Weight::Int8 { codes: &codes, scales: &scales, zeros: &[] };
    bencher.bench_local(|| (0..OUT_DIM).for_each(|row| weight.row_into(row, black_box(&mut out))));
}

#[divan::bench]
fn decode_f16(bencher: Bencher) {
    let values: Vec<f16> = wave(OUT_DIM * IN_DIM, 0.3).into_iter().map(f16::from_f32).collect();
    let mut out = vec![0.0; IN_DIM];
    let weight = Weight::F16(&values);
    bencher.bench_local(|| (0..OUT_DIM).for_each(|row| weight.row_into(row, black_box(&mut out))));
}

#[divan::bench]
fn quantize_delta(bencher: Bencher) {
    let row = wave(IN_DIM, 0.3);
    let (mut codes, mut scales) = (vec![0; IN_DIM], vec![f16::ZERO; IN_DIM / 32]);
    bencher.bench_local(|| int8_blocks(black_box(&row), IN_DIM, 32, &mut codes, &mut scales));
}

/// Importance and AdamW.
#[divan::bench]
fn update(bencher: Bencher) {
    let mut adapter = site();
    let mut gradients = adapter.zero_gradients();
    gradients.sites[0] = wave(gradients.sites[0].len(), 0.7);
    let update = Update::new(Schedule::linear(1e-3, 0, 100).at(0), 1e-3);
    bencher.bench_local(|| adapter.update(black_box(&gradients), &update).unwrap());
}

#[divan::bench]
fn recompose(bencher: Bencher) {
    let mut adapter = site();
    let (rule, nudge) = (
        Recompose { pairs: 4, min_age: 0, wrap: true, choice: FuseOrder::LeastImportant },
        wave(RANK * (OUT_DIM + IN_DIM), 0.4),
    );
    bencher.bench_local(|| {
        adapter.sites[0].values_mut().iter_mut().zip(&nudge).for_each(|(v, n)| *v += 0.1 * n);
        adapter.recompose(&rule).unwrap()
    });
}

/// The network of `srlora demo`, ready to train.
fn handwriting() -> (Network, Vec<f32>) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/handwriting/handwriting.bundle");
    let bundle = Bundle::open(&path).unwrap();
    let backbone = bundle.backbone().unwrap();
    let sites = bundle.sites_in(&backbone).unwrap();
    let seeds = bundle
        .sites
        .iter()
        .enumerate()
        .map(|(at, site)| SiteSeed::new(&*site.name, [site.out_dim, site.in_dim], bundle.directions(at).clone()));
    let adapter = Adapter::start(seeds, bundle.rank, SiteSettings::default(), CLASSES, bundle.feature_dim).unwrap();
    let adapter = Arc::new(RwLock::new(adapter));
    let network = NetworkPlan::training(&backbone, &sites, &adapter, Activations::Kept).unwrap().start().unwrap();
    let images = wave(network.image_len() * network.batch(), 0.2);
    (network, images)
}

#[divan::bench]
fn prefix(bencher: Bencher) {
    let (mut network, images) = handwriting();
    bencher.bench_local(|| network.prefix(&images).unwrap());
}

#[divan::bench]
fn forward(bencher: Bencher) {
    let (mut network, images) = handwriting();
    let boundary = network.prefix(&images).unwrap();
    bencher.bench_local(|| network.forward(&boundary).unwrap());
}

#[divan::bench]
fn step(bencher: Bencher) {
    let (mut network, images) = handwriting();
    let boundary = network.prefix(&images).unwrap();
    let (labels, mut output) = (vec![1; network.batch()], StepOutput::default());
    bencher.bench_local(|| network.step_into(&boundary, &labels, &mut output).unwrap());
}
