//! Whole networks, narrow exports of every family and the real models, in fp32, fp16 and int8: features against
//! onnxruntime, gradients against PyTorch, and step 0 against the bare backbone. `tests/fixtures/make_networks.py` and
//! `make_quantized.py` made what they are compared with.

use std::path::{Path, PathBuf};
use std::sync::{Arc, RwLock};

use safetensors::SafeTensors;
use srlora::adapter::{Adapter, SiteSeed, SiteSettings};
use srlora::autodiff::{Activations, Network, NetworkPlan};
use srlora::backbone::{Backbone, Site};
use srlora::bundle::directions;
use srlora::core::Start;

/// Largest difference of a tensor, relative to its largest value. Quantized networks meet the same bound, since both sides
/// compute with the deployed weights in float.
const TOLERANCE: f32 = 1e-4;
const CLASSES: usize = 3;
const LABELS: [i64; 2] = [0, 1];

/// The numbers of `make_networks.py`, in its order.
struct Numbers(u64);

impl Numbers {
    fn take(&mut self, count: usize, low: f32, high: f32) -> Vec<f32> {
        let next = || {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (self.0 >> 40) as f32 / (1 << 24) as f32 * (high - low) + low
        };
        std::iter::repeat_with(next).take(count).collect()
    }

    fn scaled(&mut self, count: usize, factor: f32) -> Vec<f32> {
        self.take(count, -1.0, 1.0).into_iter().map(|v| v * factor).collect()
    }
}

/// What the reference made of one network.
struct Golden<'f> {
    file: &'f SafeTensors<'f>,
    name: &'f str,
    seed: u64,
    rank: usize,
}

impl Golden<'_> {
    fn find(&self, key: &str) -> Option<Vec<f32>> {
        let tensor = self.file.tensor(&format!("{}/{}/{key}", self.name, self.seed)).ok()?;
        Some(tensor.data().chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect())
    }

    /// The largest difference relative to the largest value.
    fn difference(&self, key: &str, found: &[f32]) -> f32 {
        let expected = self.find(key).unwrap_or_else(|| panic!("{}: no {key}", self.name));
        assert_eq!(found.len(), expected.len(), "{}: {key}", self.name);
        let largest = expected.iter().fold(1e-30f32, |m, v| m.max(v.abs()));
        let difference = |(a, b): (&f32, &f32)| (a - b).abs() / largest;
        found.iter().zip(&expected).map(difference).fold(0.0, |m, d| if d.is_nan() { f32::INFINITY } else { d.max(m) })
    }
}

fn started(backbone: &Backbone, sites: &[Site], rank: usize, start: Start) -> Adapter {
    let seed = |site: &Site| {
        let directions = directions(backbone.weight(site).unwrap().view(), 2 * rank).unwrap();
        SiteSeed::new(&*site.name, [site.out_dim, site.in_dim], directions)
    };
    let settings = SiteSettings { start, ..SiteSettings::default() };
    Adapter::start(sites.iter().map(seed), rank, settings, CLASSES, backbone.feature_dim().unwrap()).unwrap()
}

/// Every image through `run`, in micro-batches of the network's size; a file fixes it at 1 or 2.
fn each_batch(network: &mut Network, images: &[f32], mut run: impl FnMut(&mut Network, &[f32], &[i64])) {
    let batch = network.batch();
    for (images, labels) in images.chunks_exact(batch * network.image_len()).zip(LABELS.chunks_exact(batch)) {
        run(network, images, labels);
    }
}

fn features(network: &mut Network, images: &[f32]) -> Vec<f32> {
    let mut features = Vec::new();
    each_batch(network, images, |network, images, _| {
        let boundary = network.prefix(images).unwrap();
        features.extend(network.forward(&boundary).unwrap());
    });
    features
}

fn step_0_keeps_every_bit(name: &str, backbone: &Backbone, images: &[f32], bare: &[f32]) {
    for start in [Start::Aligned, Start::Principal, Start::Random { seed: 1 }] {
        let adapter = Arc::new(RwLock::new(started(backbone, backbone.sites(), 1, start)));
        let mut adapted = Network::inference(backbone, backbone.sites(), &adapter).unwrap();
        let at_step_0 = features(&mut adapted, images);
        let equal =
            at_step_0.len() == bare.len() && at_step_0.iter().zip(bare).all(|(a, b)| a.to_bits() == b.to_bits());
        assert!(equal, "{name}, {start:?}: step 0 differs from the backbone");
    }
}

/// The gradients of the sum of two images' losses, away from the start; the worst difference.
fn gradients(golden: &Golden, backbone: &Backbone, images: &[f32], numbers: &mut Numbers) -> f32 {
    let sites = backbone.sites();
    let mut adapter = started(backbone, sites, golden.rank, Start::Aligned);
    for (index, (site, buffers)) in sites.iter().zip(&mut adapter.sites).enumerate() {
        let a = numbers.scaled(golden.rank * site.in_dim, 0.5 / (site.in_dim as f32).sqrt());
        let b = numbers.scaled(golden.rank * site.out_dim, 0.2);
        let b = golden.find(&format!("{index}.drawn")).unwrap_or(b);
        buffers.values_mut().copy_from_slice(&[a, b].concat());
    }
    let width = adapter.head.features();
    let w = numbers.scaled(CLASSES * width, 1.0 / (width as f32).sqrt());
    adapter.head.values_mut().copy_from_slice(&[w, numbers.scaled(CLASSES, 1.0)].concat());

    let mut sum = adapter.zero_gradients();
    let (mut loss, mut adapted) = (0.0, Vec::new());
    let adapter = Arc::new(RwLock::new(adapter));
    let plan = |activations| NetworkPlan::training(backbone, sites, &adapter, activations).unwrap();
    let (kept, recomputed) = (plan(Activations::Kept), plan(Activations::Recomputed));
    let bytes = [&kept, &recomputed].map(|plan| plan.activation_bytes().unwrap());
    assert!(bytes[1] <= bytes[0], "{}: {bytes:?} bytes of activations, kept and recomputed", golden.name);
    let mut again = recomputed.start().unwrap();
    each_batch(&mut kept.start().unwrap(), images, |network, images, labels| {
        let boundary = network.prefix(images).unwrap();
        adapted.extend(network.forward(&boundary).unwrap());
        let step = network.step(&boundary, labels).unwrap();
        assert_eq!(step, again.step(&boundary, labels).unwrap(), "{}: activations computed again", golden.name);
        loss += step.loss.iter().sum::<f32>();
        let add = |sum: &mut [f32], part: &[f32]| sum.iter_mut().zip(part).for_each(|(s, p)| *s += p);
        add(&mut sum.head, &[step.dw, step.db].concat());
        sum.sites.iter_mut().zip(&step.pairs).for_each(|(s, plane)| add(s, plane));
    });
    let (dw, db) = sum.head.split_at(CLASSES * width);
    let mut differences = vec![
        golden.difference("adapted", &adapted),
        golden.difference("loss", &[loss]),
        golden.difference("dw", dw),
        golden.difference("db", db),
    ];
    for (index, (site, plane)) in sites.iter().zip(&sum.sites).enumerate() {
        let (a, b) = plane.split_at(golden.rank * site.in_dim);
        differences.push(golden.difference(&format!("{index}.a"), a));
        differences.push(golden.difference(&format!("{index}.b"), b));
    }
    differences.into_iter().fold(0.0, f32::max)
}

fn fixtures(folder: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(folder)
}

fn check_all(golden: &Path, models: &Path) {
    let bytes = std::fs::read(golden).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let (_, header) = SafeTensors::read_metadata(&bytes).unwrap();
    let cases: serde_json::Value = serde_json::from_str(&header.metadata().as_ref().unwrap()["cases"]).unwrap();
    for (name, case) in cases.as_object().unwrap() {
        let number = |key: &str| case[key].as_f64().unwrap() as f32;
        let (size, rank) = (number("size") as usize, number("rank") as usize);
        let onnx = std::fs::read(models.join(format!("{name}.onnx"))).unwrap();
        let backbone = Backbone::read(&onnx, name, None, None).unwrap();
        let names: Vec<&str> = case["sites"].as_array().unwrap().iter().map(|v| v.as_str().unwrap()).collect();
        let found: Vec<&str> = backbone.sites().iter().map(|site| site.name.as_str()).collect();
        assert_eq!(found, names, "{name}: the sites");
        let none = Arc::new(RwLock::new(Adapter::start([], 1, SiteSettings::default(), CLASSES, 1).unwrap()));
        let mut bare = Network::inference(&backbone, backbone.sites(), &none).unwrap();
        let (mut forward, mut backward) = (0f32, Vec::new());
        for seed in case["seeds"].as_array().unwrap().iter().map(|seed| seed.as_u64().unwrap()) {
            let golden = Golden { file: &file, name, seed, rank };
            let mut numbers = Numbers(seed);
            let images = numbers.take(2 * 3 * size * size, number("low"), number("high"));
            let bare = features(&mut bare, &images);
            forward = forward.max(golden.difference("features", &bare));
            if backward.is_empty() {
                step_0_keeps_every_bit(name, &backbone, &images, &bare);
            }
            backward.push(gradients(&golden, &backbone, &images, &mut numbers));
        }
        println!("{name}: features within {forward:.1e} of onnxruntime, gradients within {backward:?} of PyTorch");
        let worst = backward.iter().copied().fold(forward, f32::max);
        assert!(worst <= TOLERANCE, "{name}: {forward:e}, {backward:?}");
    }
}

fn check_narrow(folder: &str) {
    check_all(&fixtures(folder).join("golden.safetensors"), &fixtures(folder));
}

fn check_real(folder: &str) {
    match std::env::var_os("SRLORA_ASSETS").map(PathBuf::from) {
        Some(assets) => check_all(&fixtures(folder).join("assets.safetensors"), &assets.join("models")),
        None => eprintln!("NOT CHECKED: SRLORA_ASSETS is not set, so nothing was compared on real models"),
    }
}

#[test]
fn every_family_from_both_exporters() {
    check_narrow("networks");
}

#[test]
fn quantized_and_half_precision_files() {
    check_narrow("quantized");
}

#[test]
fn real_models() {
    check_real("networks");
}

#[test]
fn real_quantized_and_half_precision_models() {
    check_real("quantized");
}
