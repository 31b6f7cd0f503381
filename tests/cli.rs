//! The command line as a user meets it: the main job, and every kind of bad input, on the files that ship.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;
use tempfile::TempDir;

fn project(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn srlora(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_srlora")).args(args).output().unwrap()
}

fn json(args: &[&str]) -> Value {
    let output = srlora(args);
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Runs what must fail; the sentence on stderr.
fn refused(args: &[&str], code: i32) -> String {
    let output = srlora(args);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(code), "{args:?}: {stderr}");
    assert!(output.stdout.is_empty(), "{args:?} wrote to stdout");
    stderr
}

struct Place {
    folder: TempDir,
}

impl Place {
    fn new() -> Self {
        Place { folder: TempDir::new().unwrap() }
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().unwrap().to_string()
    }

    /// Every file below the folder, with its bytes.
    fn contents(&self) -> Vec<(PathBuf, Vec<u8>)> {
        fn walk(folder: &Path, found: &mut Vec<(PathBuf, Vec<u8>)>) {
            for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
                if entry.path().is_dir() {
                    walk(&entry.path(), found)
                } else {
                    found.push((entry.path(), fs::read(entry.path()).unwrap()))
                }
            }
        }
        let mut found = Vec::new();
        walk(self.folder.path(), &mut found);
        found.sort();
        found
    }

    /// Runs what must fail and must leave every file as it was.
    fn refuses(&self, args: &[&str], code: i32, words: &[&str]) {
        let before = self.contents();
        let said = refused(args, code);
        for word in words {
            assert!(said.contains(word), "{args:?} should mention {word:?}: {said}");
        }
        assert!(self.contents() == before, "{args:?} changed files");
    }

    fn bundle(&self) -> String {
        let bundle = self.path("good.bundle");
        json(&["pack", &model("good"), "-o", &bundle, "--sites", "all", "--rank", "2", "--fit", "stretch", "--json"]);
        bundle
    }

    /// Two classes of four photos each: dark and bright noise.
    fn photos(&self, name: &str) -> String {
        for (class, base) in [("bright", 180u8), ("dark", 20)] {
            let folder = self.folder.path().join(name).join(class);
            fs::create_dir_all(&folder).unwrap();
            for nth in 0..4u32 {
                let noise = |x: u32, y: u32, c: u32| base + ((x * 7 + y * 13 + c * 5 + nth * 31) % 50) as u8;
                let photo = image::RgbImage::from_fn(20, 20, |x, y| image::Rgb([0, 1, 2].map(|c| noise(x, y, c))));
                photo.save(folder.join(format!("{nth}.png"))).unwrap();
            }
        }
        self.path(name)
    }
}

fn model(name: &str) -> String {
    project(&format!("tests/fixtures/models/{name}.onnx")).to_str().unwrap().to_string()
}

#[test]
fn pack_train_eval_predict_inspect_and_bench_do_the_main_job() {
    let place = Place::new();
    let (bundle, data, store) = (place.bundle(), place.photos("photos"), place.path("store"));
    let trained = json(&["train", &bundle, "--data", &data, "--val", &data, "-o", &store, "--steps", "40", "--json"]);
    assert_eq!(trained["classes"], serde_json::json!(["bright", "dark"]));
    assert_eq!((trained["steps"].as_u64(), trained["generation"].as_u64()), (Some(40), Some(2)));
    assert!(trained["recompositions"].as_u64() > Some(0) && trained["planned_peak_bytes"].is_null());
    assert!(trained["val_accuracy"].as_f64() >= trained["val_accuracy_before"].as_f64());

    let evaluated = json(&["eval", &bundle, "--store", &store, "--data", &data, "--json"]);
    assert_eq!(evaluated["accuracy"], trained["val_accuracy"]);
    assert_eq!(evaluated["n"], 8);
    let photo = format!("{data}/dark/1.png");
    let predicted = json(&["predict", &bundle, "--store", &store, &photo, "--json"]);
    let total: f64 = predicted["top"].as_array().unwrap().iter().map(|g| g["probability"].as_f64().unwrap()).sum();
    assert!((total - 1.0).abs() < 1e-5);

    let seen = json(&["inspect", &store, "--json"]);
    assert_eq!((seen["kind"].as_str(), seen["generation"].as_u64()), (Some("store"), Some(2)));
    assert_eq!(seen["events"].as_array().unwrap().len() as u64, trained["recompositions"].as_u64().unwrap());
    let shipped = json(&["inspect", &bundle, "--json"]);
    assert_eq!(shipped["backbone_sha256"], seen["backbone_sha256"]);
    let timed = json(&["bench", &bundle, "--batch", "2", "--json"]);
    assert!(timed["step_ms"].as_f64() > Some(0.0));
}

#[test]
fn the_same_command_twice_writes_the_same_bytes() {
    let place = Place::new();
    let (bundle, data) = (place.bundle(), place.photos("photos"));
    for method in ["srlora", "pissa", "lora", "head", "imprint"] {
        let generation = |run: &str| {
            let store = place.path(&format!("{method}-{run}"));
            json(&[
                "train",
                &bundle,
                "--data",
                &data,
                "-o",
                &store,
                "--epochs",
                "6",
                "--augment",
                "on",
                "--method",
                method,
                "--json",
            ]);
            let last = if method == "imprint" { 1 } else { 2 };
            fs::read(format!("{store}/generation-{last:06}.safetensors")).unwrap()
        };
        assert!(generation("once") == generation("twice"), "{method}");
    }
}

#[test]
fn models_that_cannot_be_packed_are_refused_with_the_reason() {
    let place = Place::new();
    let out = place.path("x.bundle");
    let truncated = place.path("truncated.onnx");
    let whole = fs::read(model("good")).unwrap();
    fs::write(&truncated, &whole[..whole.len() / 2]).unwrap();
    let text = place.path("text.onnx");
    fs::write(&text, "this is not a model").unwrap();
    for (path, words) in [
        (model("no_rule"), &["Sin", "node middle", "--sites last:1"][..]),
        (model("no_batch_axis"), &["no batch axis"][..]),
        (model("two_inputs"), &["2 inputs", "image, mask"][..]),
        (model("missing_weight"), &["node fc", "fc.w", "nothing makes"][..]),
        (model("external_data"), &["conv1.w", "external data"][..]),
        (model("quantized_scale_0"), &["node decode", "holds 0", "positive"][..]),
        (model("quantized_scale_nan"), &["node decode", "holds NaN"][..]),
        (model("quantized_scale_length"), &["node decode", "11 scales along axis 0"][..]),
        (model("quantized_zero_type"), &["node decode", "codes", "zeros", "different types"][..]),
        (model("quantized_zero_range"), &["node decode", "codes", "zeros", "different types"][..]),
        (model("quantized_axis"), &["node decode", "axis 7"][..]),
        (model("quantized_input_channels"), &["node conv2", "per input channel", "per output channel"][..]),
        (model("quantized_blocked"), &["node decode", "blocked quantization"][..]),
        (model("quantized_mixed"), &["node conv1", "mixed precisions"][..]),
        (model("quantized_integer_relu"), &["node integer_relu (Relu)", "quantized numbers"][..]),
        (truncated, &["truncated"][..]),
        (text, &["not an ONNX file"][..]),
        (place.path("missing.onnx"), &["missing.onnx"][..]),
    ] {
        place.refuses(&["pack", &path, "-o", &out, "--sites", "all", "--rank", "2"], 1, words);
    }
}

#[test]
fn a_model_packed_in_int8_or_fp16_ships_and_stays_in_that_precision() {
    let place = Place::new();
    for (precision, bytes) in [("int8", 8 * 27 + 8 * 9 + 12 * 8 + 5 * 12 + 4 * (8 + 8 + 12 + 5)), ("fp16", 2 * 444)] {
        let bundle = place.path(&format!("{precision}.bundle"));
        let packed = json(&[
            "pack",
            &model("good"),
            "-o",
            &bundle,
            "--precision",
            precision,
            "--sites",
            "all",
            "--rank",
            "2",
            "--json",
        ]);
        assert_eq!((packed["precision"].as_str(), packed["weight_bytes"].as_u64()), (Some(precision), Some(bytes)));
        assert!(packed["sites"].as_array().unwrap().iter().all(|s| s["rounding_error"].as_f64().unwrap() < 0.01));
        assert_eq!(json(&["inspect", &bundle, "--json"])["precision"], precision);
        let (photos, store) = (place.photos("photos"), place.path(precision));
        let trained = json(&["train", &bundle, "--data", &photos, "-o", &store, "--epochs", "2", "--json"]);
        assert!(trained["train_loss"].as_f64().unwrap().is_finite());
    }
    let again = ["pack", &model("quantized"), "-o", &place.path("x.bundle"), "--precision", "fp16"];
    place.refuses(&again, 2, &["not fp32", "codes", "--precision keep"]);
}

#[test]
fn sites_that_cannot_be_are_refused_with_the_nearest_names() {
    let place = Place::new();
    let (good, out) = (model("good"), place.path("x.bundle"));
    for (sites, rank, words) in [
        ("comv2", "2", &["matches no site", "conv1", "conv2"][..]),
        ("depthwise", "2", &["cannot be a site", "depthwise convolution"][..]),
        ("conv2", "9", &["conv2", "rank 8 at most"][..]),
        ("last:0", "2", &["last:N"][..]),
        ("(", "2", &["regular expression"][..]),
    ] {
        place.refuses(&["pack", &good, "-o", &out, "--sites", sites, "--rank", rank], 2, words);
    }
    place.refuses(&["pack", &good, "-o", &out, "--features", "featurs"], 2, &["featurs", "features"]);
    place.refuses(&["pack", &good, "-o", &out, "--input", "20x20"], 2, &["16x16", "20x20"]);
}

#[test]
fn outputs_that_exist_or_cannot_be_written_are_refused() {
    let place = Place::new();
    let (bundle, data) = (place.bundle(), place.photos("photos"));
    place.refuses(&["pack", &model("good"), "-o", &bundle], 1, &["already there"]);
    place.refuses(&["train", &bundle, "--data", &data, "-o", &data], 1, &["already there"]);
    let nowhere = place.path("no/such/folder");
    place.refuses(&["train", &bundle, "--data", &data, "-o", &nowhere], 1, &["no folder"]);
    place.refuses(&["pack", &model("good"), "-o", &nowhere, "--sites", "all", "--rank", "2"], 1, &["no/such"]);
}

#[test]
fn data_that_cannot_be_trained_on_is_refused() {
    let place = Place::new();
    let (bundle, data, out) = (place.bundle(), place.photos("photos"), place.path("store"));
    let train = |data: &str, words: &[&str]| place.refuses(&["train", &bundle, "--data", data, "-o", &out], 1, words);
    train(&place.path("missing"), &["missing"]);
    let empty = place.path("empty");
    fs::create_dir(&empty).unwrap();
    train(&empty, &["empty"]);
    let single = place.photos("single");
    fs::remove_dir_all(format!("{single}/dark")).unwrap();
    train(&single, &["class"]);
    let broken = place.photos("broken");
    for nth in 0..4 {
        fs::write(format!("{broken}/dark/{nth}.png"), "no photo").unwrap();
    }
    train(&broken, &["dark", "no readable photo"]);
    let other = place.photos("other");
    fs::rename(format!("{other}/dark"), format!("{other}/dusk")).unwrap();
    place.refuses(&["train", &bundle, "--data", &data, "--val", &other, "-o", &out], 1, &["dusk"]);
}

#[test]
fn unreadable_photos_are_set_aside_and_training_goes_on() {
    let place = Place::new();
    let (bundle, data, store) = (place.bundle(), place.photos("photos"), place.path("store"));
    let whole = fs::read(format!("{data}/dark/0.png")).unwrap();
    fs::write(format!("{data}/dark/empty.png"), "").unwrap();
    fs::write(format!("{data}/dark/text.jpg"), "not a photo").unwrap();
    fs::write(format!("{data}/bright/half.png"), &whole[..whole.len() / 2]).unwrap();
    let mut huge = whole.clone();
    huge[16..24].copy_from_slice(&[0, 0, 0xea, 0x60, 0, 0, 0xea, 0x60]);
    fs::write(format!("{data}/bright/huge.png"), huge).unwrap();
    let trained = json(&["train", &bundle, "--data", &data, "-o", &store, "--epochs", "2", "--json"]);
    let paths: Vec<&str> =
        trained["quarantined"].as_array().unwrap().iter().map(|q| q["path"].as_str().unwrap()).collect();
    assert_eq!((paths.len(), trained["train_images"].as_u64()), (4, Some(8)), "{paths:?}");
    for name in ["empty.png", "text.jpg", "half.png", "huge.png"] {
        assert!(paths.iter().any(|path| path.ends_with(name)), "{name} in {paths:?}");
    }
}

#[test]
fn a_loss_that_is_no_number_stops_the_run_and_keeps_the_generation_before() {
    let place = Place::new();
    let (bundle, data, store) = (place.bundle(), place.photos("photos"), place.path("store"));
    let said = refused(&["train", &bundle, "--data", &data, "-o", &store, "--lr", "1e38", "--head-lr", "1e38"], 1);
    assert!(
        said.contains("step ") && said.contains("not a number") || said.contains("stopped being a number"),
        "{said}"
    );
    let kept = json(&["inspect", &store, "--json"]);
    assert_eq!(kept["generation"], 1);
    json(&["eval", &bundle, "--store", &store, "--data", &data, "--json"]);
}

#[test]
fn files_that_do_not_belong_together_or_are_damaged_are_refused() {
    let place = Place::new();
    let (bundle, data, store) = (place.bundle(), place.photos("photos"), place.path("store"));
    json(&["train", &bundle, "--data", &data, "-o", &store, "--epochs", "1", "--json"]);
    let other = place.path("other.bundle");
    json(&["pack", &model("good"), "-o", &other, "--sites", "conv2", "--rank", "2", "--json"]);
    place.refuses(&["eval", &other, "--store", &store, "--data", &data], 1, &["another bundle"]);
    place.refuses(&["eval", &bundle, "--data", &data], 1, &["labels", "--store"]);
    place.refuses(&["inspect", &data], 1, &["holds no generation"]);

    let latest = format!("{store}/generation-000002.safetensors");
    let mut bytes = fs::read(&latest).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&latest, bytes).unwrap();
    assert_eq!(
        json(&["inspect", &store, "--json"])["generation"],
        1,
        "a damaged generation falls back to the one before"
    );
    fs::write(&other, &fs::read(&bundle).unwrap()[..500]).unwrap();
    place.refuses(&["inspect", &other], 1, &["truncated"]);
}

#[test]
fn wrong_usage_exits_with_2() {
    for args in [&["train"][..], &["fly"][..], &["train", "b", "--data", "d", "-o", "s", "--epochs", "0"][..]] {
        refused(args, 2);
    }
}
