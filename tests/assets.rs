//! Real models: the forward pass against onnxruntime, and step 0 against the bare backbone.

use std::path::PathBuf;
use std::sync::{Arc, RwLock};

use srlora::adapter::{Adapter, SiteSettings};
use srlora::autodiff::{Network, check_forward};
use srlora::backbone::Backbone;
use srlora::bundle::directions;
use srlora::core::Start;

/// Largest difference from onnxruntime, relative to the largest value.
const TOLERANCE: f32 = 1e-4;

/// The folder of real models; without it these tests check nothing, and say so.
fn assets() -> Option<PathBuf> {
    let folder = std::env::var_os("SRLORA_ASSETS").map(PathBuf::from);
    if folder.is_none() {
        eprintln!("NOT CHECKED: SRLORA_ASSETS is not set, so nothing was compared on real models");
    }
    folder
}

fn image(size: usize, low: f32, high: f32) -> Vec<f32> {
    let mut state = 1u64;
    let next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1 << 24) as f32 * (high - low) + low
    };
    std::iter::repeat_with(next).take(3 * size * size).collect()
}

fn network(backbone: &Backbone, sites: &str, start: Start) -> Network {
    let sites = backbone.select(sites, 4).unwrap().sites;
    let seed = |site: &srlora::backbone::Site| {
        let weight = backbone.weight(site).unwrap();
        (site.name.clone(), site.out_dim, site.in_dim, directions(weight.view(), 8).unwrap())
    };
    let settings = SiteSettings { start, ..SiteSettings::default() };
    let adapter = Adapter::start(sites.iter().map(seed), 4, settings, 3, backbone.feature_dim().unwrap()).unwrap();
    Network::training(backbone, &sites, &Arc::new(RwLock::new(adapter))).unwrap()
}

#[test]
fn real_models_agree_with_onnxruntime_and_step_0_keeps_every_bit() {
    let Some(assets) = assets() else { return };
    let expected =
        std::fs::read_to_string(format!("{}/tests/fixtures/assets.json", env!("CARGO_MANIFEST_DIR"))).unwrap();
    let expected: serde_json::Value = serde_json::from_str(&expected).unwrap();
    for (name, case) in expected.as_object().unwrap() {
        let number = |key: &str| case[key].as_f64().unwrap() as f32;
        let bytes = std::fs::read(assets.join(format!("models/{name}.onnx"))).unwrap();
        let backbone = Backbone::read(&bytes, name, None, None).unwrap();
        let image = image(number("size") as usize, number("low"), number("high"));

        let sites = backbone.select("last:12", 4).unwrap().sites;
        let none = Arc::new(RwLock::new(Adapter::start([], 4, SiteSettings::default(), 3, 1).unwrap()));
        let mut bare = Network::inference(&backbone, &sites, &none).unwrap();
        let boundary = bare.prefix(&image, backbone.size()).unwrap();
        let features = bare.forward(&boundary).unwrap();
        assert_eq!(features.len(), number("length") as usize, "{name}");
        let theirs = case["features"].as_array().unwrap().iter().map(|v| v.as_f64().unwrap() as f32);
        let worst = features.iter().zip(theirs).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max) / number("largest");
        println!("{name}: {worst:.1e} of the largest feature from onnxruntime");
        assert!(worst <= TOLERANCE, "{name}: {worst}");

        for start in [Start::Aligned, Start::Principal, Start::Random { seed: 1 }] {
            let mut adapted = network(&backbone, "last:12", start);
            let boundary = adapted.prefix(&image, backbone.size()).unwrap();
            let at_step_0 = adapted.forward(&boundary).unwrap();
            let equal = at_step_0.iter().zip(&features).all(|(a, b)| a.to_bits() == b.to_bits());
            assert!(equal, "{name}, {start:?}: step 0 differs from the backbone");
            check_forward(&backbone, &mut adapted, &image).unwrap();
        }
    }
}
