//! One small classifier in the many forms in which a file can hold its weights and quantize: its logits against
//! onnxruntime, and the bytes that its weights take in memory. `tests/fixtures/make_forms.py` made the files.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde::Deserialize;
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

/// The logits of the image of `make_forms.py`.
fn logits(backbone: &Backbone) -> Vec<f32> {
    let image: Vec<f32> = (0..3 * SIDE * SIDE).map(|at| (at * 37 % 101) as f32 / 50.0 - 1.0).collect();
    let mut network = Network::own_classifier(backbone).unwrap();
    let boundary = network.prefix(&image).unwrap();
    network.forward(&boundary).unwrap()
}

fn difference(found: &[f32], expected: &[f32]) -> f32 {
    assert_eq!(found.len(), expected.len());
    let largest = expected.iter().fold(1e-30f32, |m, v| m.max(v.abs()));
    found.iter().zip(expected).map(|(a, b)| (a - b).abs() / largest).fold(0.0, f32::max)
}

#[test]
fn every_form_computes_what_onnxruntime_does_and_keeps_its_weights_as_they_ship() {
    for (name, expected) in expected() {
        let backbone = Backbone::read(read(&name), &name, None, None).unwrap();
        let off = difference(&logits(&backbone), &expected.logits);
        println!("{name}: within {off:.1e} of onnxruntime");
        assert!(off <= TOLERANCE.max(expected.rounding), "{name}: {off:e}");
        assert_eq!(backbone.resident().weight_bytes, expected.weight_bytes, "{name}");
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
        assert!(!bundle.exists(), "{name} left a file");
    }
}
