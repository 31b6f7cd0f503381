//! One small classifier in the many forms in which a file can hold its weights and quantize: its logits against
//! onnxruntime, and the bytes that its weights take in memory. `tests/fixtures/make_forms.py` made the files. And the ends that
//! classifiers have: what the head reads, against onnxruntime, from `tests/fixtures/make_ends.py`.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, RwLock};

use serde::Deserialize;
use serde_json::Value;
use srlora::adapter::{Adapter, SiteSettings};
use srlora::autodiff::Network;
use srlora::backbone::{Backbone, Precision, encode};

/// Largest difference of a logit from onnxruntime, relative to the largest, where both compute in float.
const TOLERANCE: f32 = 1e-5;
const SIDE: usize = 8;

#[derive(Deserialize)]
struct Expected {
    logits: Vec<f32>,
    /// How far the file's integer arithmetic may be from float, relative to the largest logit.
    rounding: f32,
    weight_bytes: usize,
}

fn form(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/forms").join(name)
}

fn expected() -> HashMap<String, Expected> {
    serde_json::from_slice(&fs::read(form("expected.json")).unwrap()).unwrap()
}

fn read(name: &str) -> Vec<u8> {
    fs::read(form(&format!("{name}.onnx"))).unwrap()
}

/// What `network` makes of the image of `make_forms.py` and `make_ends.py`, as bytes where its file takes them.
fn run(backbone: &Backbone, mut network: Network) -> Vec<f32> {
    let bytes = (0..3 * SIDE * SIDE).map(|at| (at * 37 % 101) as f32);
    let image: Vec<f32> =
        if backbone.image().is_bytes { bytes.collect() } else { bytes.map(|v| v / 50.0 - 1.0).collect() };
    let boundary = network.prefix(&image).unwrap();
    network.forward(&boundary).unwrap()
}

fn logits(backbone: &Backbone) -> Vec<f32> {
    run(backbone, Network::own_classifier(backbone).unwrap())
}

fn difference(found: &[f32], expected: &[f32]) -> f32 {
    assert_eq!(found.len(), expected.len());
    let largest = expected.iter().fold(1e-30f32, |m, v| m.max(v.abs()));
    found.iter().zip(expected).map(|(a, b)| (a - b).abs() / largest).fold(0.0, f32::max)
}

#[test]
fn every_form_computes_what_onnxruntime_does_and_keeps_its_weights_as_they_ship() {
    for (name, expected) in expected() {
        let backbone = Backbone::read(read(&name), &name, None, Some([SIDE; 2])).unwrap();
        let off = difference(&logits(&backbone), &expected.logits);
        println!("{name}: within {off:.1e} of onnxruntime");
        assert!(off <= TOLERANCE.max(expected.rounding), "{name}: {off:e}");
        assert_eq!(backbone.resident().weight_bytes, expected.weight_bytes, "{name}");
    }
}

/// What moves and mixes numbers by a rule that the file fixes has the gradient of that rule: `pack` holds it against finite differences.
#[test]
fn the_first_layer_learns_through_whatever_stands_behind_it() {
    let place = tempfile::tempdir().unwrap();
    let behind = ["steps", "gather_nd", "scatter_nd", "einsum", "cumulative", "position_network", "resize_", "image_"];
    for (name, _) in expected().into_iter().filter(|(name, _)| behind.iter().any(|start| name.starts_with(start))) {
        let mut pack = Command::new(env!("CARGO_BIN_EXE_srlora"));
        pack.arg("pack").arg(form(&format!("{name}.onnx"))).arg("-o").arg(place.path().join(&name));
        let done = pack.args(["--rank", "2", "--sites", "conv", "--input", "8x8", "--json"]).output().unwrap();
        assert!(done.status.success(), "{name}: {}", String::from_utf8_lossy(&done.stderr));
        let report: Value = serde_json::from_slice(&done.stdout).unwrap();
        assert!(report["gradient_error"].as_f64().unwrap() < 0.01, "{name}: {report}");
        assert_eq!(report["takes_bytes"], name.starts_with("image_bytes"), "{name}");
    }
}

#[test]
fn int8_and_fp16_find_the_weights_of_every_form_and_disturb_no_other_tensor() {
    let (conv, fc) = (16 * 27, 10 * 16);
    for (name, shared) in [
        ("constant_nodes", 0),
        ("transpose", 0),
        ("taken_names", 0),
        ("shared", 16 * 16 * 9),
        ("shared_through_identity", 16 * 16 * 9),
    ] {
        let source = Backbone::read(read(name), name, None, None).unwrap();
        let int8 = conv + fc + shared + 4 * (16 + 10 + if shared > 0 { 16 } else { 0 });
        for (precision, bytes, bound) in
            [(Precision::Int8, int8, 0.03), (Precision::Fp16, 2 * (conv + fc + shared), 0.002)]
        {
            let file = encode(&read(name), name, precision).unwrap();
            let backbone = Backbone::read(file, name, None, None).unwrap();
            let off = difference(&logits(&backbone), &logits(&source));
            assert!(off <= bound, "{name}, {precision:?}: {off:e}");
            assert_eq!(backbone.resident().weight_bytes, bytes, "{name}, {precision:?}");
        }
    }
}

#[test]
fn an_outlier_that_empties_its_row_is_told() {
    let source = Backbone::read(read("transpose"), "source", None, None).unwrap();
    let int8 =
        Backbone::read(encode(&read("transpose"), "int8", Precision::Int8).unwrap(), "int8", None, None).unwrap();
    let rounding = int8.rounding(&source);
    assert!(rounding.iter().all(|lost| lost.error < 0.02 && lost.zeroed < 0.2), "{rounding:?}");

    let outlier = Backbone::read(read("outlier"), "source", None, None).unwrap();
    let int8 = Backbone::read(encode(&read("outlier"), "int8", Precision::Int8).unwrap(), "int8", None, None).unwrap();
    let rounding = int8.rounding(&outlier);
    let conv = rounding.iter().find(|lost| lost.name == "conv").unwrap();
    assert!(conv.error < 0.02 && conv.zeroed > 0.5, "the norm hides what one row loses: {conv:?}");
}

#[test]
fn files_that_onnxruntime_refuses_or_that_mean_something_else_are_refused_by_node() {
    let place = tempfile::tempdir().unwrap();
    let bundle = place.path().join("x.bundle");
    for (name, words) in [
        ("softmax_of_another_opset", &["node softmax", "axis 1", "opset"][..]),
        ("reader_scale", &["node product", "scale 0.05", "0.02"][..]),
        ("reader_scale_zero", &["node product", "holds 0"][..]),
        ("encoded_and_read_with_zero", &["node decode", "holds 0"][..]),
        ("gemm_alpha_negative", &["node product", "alpha is -1"][..]),
        ("integer_product_without_zero", &["node product", "zero-point"][..]),
        ("zero_int32", &["node encode", "int32"][..]),
        ("scale_matrix", &["node decode", "[5, 2]"][..]),
        ("scale_double", &["node decode", "double"][..]),
        ("four_bits", &["node decode", "int4"][..]),
        ("code_outside", &["node decode", "holds 400"][..]),
        ("surplus", &["wq", "values of its shape"][..]),
        ("bias_short", &["node conv", "[1] for 16 outputs"][..]),
        ("bias_nan", &["tensor b2", "holds NaN"][..]),
        ("classifier_width", &["node fc", "12 channels"][..]),
        ("classifier_infinite", &["tensor far", "holds inf"][..]),
        ("operator_unknown", &["node hardest (Hardmax)", "--features", "other exporter"][..]),
        ("weight_computed", &["node conv", "computed in the file", "node hardest (Hardmax)"][..]),
        ("batch_resized", &["node resize (Resize)", "how many images"][..]),
        ("blocks", &["node fc (MatMulNBits)", "blocked quantization"][..]),
    ] {
        let file = form(&format!("{name}.onnx"));
        let run = Command::new(env!("CARGO_BIN_EXE_srlora"))
            .args(["pack", file.to_str().unwrap(), "-o", bundle.to_str().unwrap(), "--sites", "all", "--rank", "2"])
            .output()
            .unwrap();
        let told = String::from_utf8(run.stderr).unwrap();
        assert_eq!(run.status.code(), Some(1), "{name}: {told}");
        assert!(words.iter().all(|word| told.contains(word)), "{name}: {told}");
        assert!(!told.contains("Srlora") && !told.contains("tract"), "{name} shows what nobody knows: {told}");
        assert!(!bundle.exists(), "{name} left a file");
    }
}

/// The way out that a refusal names: what stands behind the features does not have to run.
#[test]
fn features_that_are_named_leave_out_what_cannot_be_taken() {
    let place = tempfile::tempdir().unwrap();
    let mut pack = Command::new(env!("CARGO_BIN_EXE_srlora"));
    pack.arg("pack").arg(form("operator_unknown.onnx")).arg("-o").arg(place.path().join("a.bundle"));
    let done = pack.args(["--features", "f", "--sites", "conv", "--rank", "2"]).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
}

#[derive(Deserialize)]
struct End {
    features: String,
    found: String,
    /// The tensor to take where the output may be scores.
    doubt: Option<String>,
    values: Vec<f32>,
}

fn ends() -> (PathBuf, HashMap<String, End>) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/ends");
    let ends = serde_json::from_slice(&fs::read(folder.join("expected.json")).unwrap()).unwrap();
    (folder, ends)
}

#[test]
fn the_head_reads_what_the_classifier_reads_whatever_layer_that_is() {
    let (folder, ends) = ends();
    for (name, end) in ends {
        let file = fs::read(folder.join(format!("{name}.onnx"))).unwrap();
        let backbone = Backbone::read(file, &name, None, None).unwrap();
        assert_eq!(backbone.features(), end.features, "{name}");
        let none: [srlora::adapter::SiteSeed; 0] = [];
        let width = backbone.feature_dim().unwrap();
        let adapter = Adapter::start(none, 1, SiteSettings::default(), 2, width).unwrap();
        let network = Network::inference(&backbone, &[], &Arc::new(RwLock::new(adapter))).unwrap();
        let off = difference(&run(&backbone, network), &end.values);
        println!("{name}: {} by {}, within {off:.1e} of onnxruntime", end.features, end.found);
        assert!(off <= TOLERANCE, "{name}: {off:e}");
    }
}

#[test]
fn pack_says_how_it_found_the_features_and_warns_where_the_output_may_be_scores() {
    let place = tempfile::tempdir().unwrap();
    let (folder, ends) = ends();
    for (name, end) in ends {
        let pack = |features: &[&str]| {
            let (file, bundle) = (folder.join(format!("{name}.onnx")), place.path().join("x.bundle"));
            let sites = ["--sites", "conv1", "--rank", "2", "--json"];
            let args =
                [&["pack", file.to_str().unwrap(), "-o", bundle.to_str().unwrap()], &sites[..], features].concat();
            let run = Command::new(env!("CARGO_BIN_EXE_srlora")).args(args).output().unwrap();
            let told = String::from_utf8(run.stderr).unwrap();
            assert!(run.status.success(), "{name}: {told}");
            fs::remove_file(bundle).unwrap();
            (serde_json::from_slice::<Value>(&run.stdout).unwrap(), told)
        };
        let (report, told) = pack(&[]);
        assert_eq!(
            (&report["features"], &report["features_from"]),
            (&end.features.into(), &end.found.into()),
            "{name}"
        );
        let warnings = report["warnings"].as_array().unwrap();
        let about_features: Vec<&str> =
            warnings.iter().filter_map(Value::as_str).filter(|warning| warning.contains("--features")).collect();
        let Some(candidate) = end.doubt else {
            assert!(about_features.is_empty(), "{name}: {about_features:?}");
            continue;
        };
        assert!(about_features[0].contains(&format!("--features {candidate},")), "{name}: {about_features:?}");
        assert!(told.contains(&format!("warning: {}", about_features[0])), "{name}: {told}");
        let (taken, _) = pack(&["--features", &candidate]);
        assert_eq!((taken["features"].as_str(), taken["features_from"].as_str()), (Some(&*candidate), Some("flag")));
        assert!(!taken["warnings"].to_string().contains("--features"), "{name}: {taken}");
    }
}

#[test]
fn a_norm_behind_the_first_layer_tells_mean_and_std_that_were_forgotten() {
    let place = tempfile::tempdir().unwrap();
    let (file, bundle) = (ends().0.join("normed_stem.onnx"), place.path().join("x.bundle"));
    for (preset, words) in [
        ("torchvision", &[][..]),
        ("unit", &["too small", "node conv1", "the norm", "--preset torchvision"]),
        ("raw", &["too large", "node conv1", "--preset torchvision"]),
    ] {
        let paths = ["pack", file.to_str().unwrap(), "-o", bundle.to_str().unwrap()];
        let args = [&paths, &["--sites", "conv2", "--rank", "2", "--json", "--preset", preset][..]].concat();
        let run = Command::new(env!("CARGO_BIN_EXE_srlora")).args(args).output().unwrap();
        let report: Value = serde_json::from_slice(&run.stdout).unwrap();
        let told: Vec<&str> = report["warnings"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
        assert_eq!(told.len(), usize::from(!words.is_empty()), "{preset}: {told:?}");
        assert!(words.iter().all(|word| told[0].contains(word)), "{preset}: {told:?}");
        fs::remove_file(&bundle).unwrap();
    }
}
