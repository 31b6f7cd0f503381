//! The program as it ships for another processor, in an emulator, against this machine's: the same demo, the same predictions
//! from the same files, and weights within a tolerance.
//!
//! `SRLORA_EMULATED` is the command that starts it, with spaces between its words:
//!
//!     SRLORA_EMULATED="qemu-aarch64 -cpu cortex-a53 -L /usr/aarch64-linux-gnu target/aarch64-unknown-linux-gnu/dist/srlora" \
//!         cargo test --release --test emulated

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use half::f16;
use safetensors::{Dtype, SafeTensors};
use serde_json::Value;
use tempfile::TempDir;

/// Largest difference of a tensor of the generation, relative to its largest value. There is none between aarch64, armv7 and an x86-64
/// with AVX-512; where another kernel adds up in another order, the last bit differs, and a lesson multiplies that: 6e-4 was seen.
const TOLERANCE: f64 = 1e-3;
/// Largest difference of a probability.
const PROBABILITY: f64 = 1e-3;

fn project(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// Something that runs the program.
struct Machine {
    name: &'static str,
    command: Vec<String>,
}

impl Machine {
    fn here() -> Self {
        Machine { name: "here", command: vec![env!("CARGO_BIN_EXE_srlora").to_owned()] }
    }

    /// `None`, and said so, where no emulator is named.
    fn emulated() -> Option<Self> {
        let Some(command) = std::env::var("SRLORA_EMULATED").ok() else {
            eprintln!("\n!! NOT CHECKED on another processor: SRLORA_EMULATED is not set\n");
            return None;
        };
        Some(Machine { name: "emulated", command: command.split_whitespace().map(str::to_owned).collect() })
    }

    fn run(&self, args: &[&str]) -> Output {
        Command::new(&self.command[0]).args(&self.command[1..]).args(args).output().unwrap()
    }

    /// The lines of JSON that it answers.
    fn json(&self, args: &[&str]) -> Vec<Value> {
        let output = self.run(&[args, &["--json"]].concat());
        assert!(output.status.success(), "{}, {args:?}: {}", self.name, String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8(output.stdout).unwrap();
        serde_json::Deserializer::from_str(&text).into_iter().map(Result::unwrap).collect()
    }
}

/// The photos of `models/handwriting/val`, in order.
fn photos() -> Vec<String> {
    let files = |folder: &Path| fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect::<Vec<_>>();
    let mut photos: Vec<_> = files(&project("models/handwriting/val")).iter().flat_map(|class| files(class)).collect();
    photos.sort();
    photos.into_iter().map(|path| path.into_os_string().into_string().unwrap()).collect()
}

/// The values of a tensor, whatever they are.
fn values(dtype: Dtype, bytes: &[u8]) -> Vec<f64> {
    let whole = |width: usize| {
        bytes
            .chunks_exact(width)
            .map(|b| b.iter().rev().fold(0u64, |n, byte| n << 8 | u64::from(*byte)) as f64)
            .collect()
    };
    match dtype {
        Dtype::F32 => bytes.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap()).into()).collect(),
        Dtype::F16 => bytes.chunks_exact(2).map(|b| f16::from_le_bytes(b.try_into().unwrap()).into()).collect(),
        Dtype::I8 => bytes.iter().map(|b| f64::from(*b as i8)).collect(),
        Dtype::U8 => whole(1),
        Dtype::U16 => whole(2),
        Dtype::U32 => whole(4),
        Dtype::U64 => whole(8),
        other => panic!("a generation has no {other:?}"),
    }
}

/// Compares two generations, tensor by tensor. Whole numbers (ages, directions, what remains of the reserve) must be equal; the
/// codes of the delta may differ by one. Whether the files are equal to the last byte.
fn compare(name: &str, here: &Path, there: &Path) -> bool {
    let [a, b] = [here, there].map(|store| fs::read(store.join("generation-000002.safetensors")).unwrap());
    let [x, y] = [&a, &b].map(|bytes| SafeTensors::deserialize(bytes).unwrap());
    let [names, others] = [&x, &y].map(|file| {
        let mut names = file.names();
        names.sort_unstable();
        names
    });
    assert_eq!(names, others, "{name}");
    let (mut worst, mut equal, mut codes, mut fused) = ((0.0, String::new()), 0, 0, false);
    for tensor in &names {
        let [p, q] = [&x, &y].map(|file| file.tensor(tensor).unwrap());
        assert_eq!((p.dtype(), p.shape()), (q.dtype(), q.shape()), "{name}: {tensor}");
        equal += usize::from(p.data() == q.data());
        // Directions are found in sums of one order, and every processor rounds them in the same way.
        assert!(p.data() == q.data() || !tensor.contains("/found"), "{name}: {tensor}");
        let [v, w] = [&p, &q].map(|view| values(view.dtype(), view.data()));
        let largest = v.iter().fold(1e-30, |most: f64, value| most.max(value.abs()));
        let difference = v.iter().zip(&w).map(|(v, w)| (v - w).abs()).fold(0.0, f64::max);
        match p.dtype() {
            Dtype::F32 | Dtype::F16 if difference / largest > worst.0 => {
                worst = (difference / largest, (*tensor).to_owned())
            }
            Dtype::F32 | Dtype::F16 => assert!(difference.is_finite(), "{name}: {tensor}"),
            Dtype::I8 => {
                fused |= v.iter().any(|code| *code != 0.0);
                codes += v.iter().zip(&w).filter(|(v, w)| v != w).count();
                assert!(difference <= 1.0, "{name}: {tensor} differs by {difference}");
            }
            _ => assert_eq!(v, w, "{name}: {tensor}"),
        }
    }
    let all = names.len();
    println!("{name}: {equal} of {all} tensors have the same bits, {codes} codes differ by one");
    println!("{name}: weights differ by {:.1e} of the largest at most, in {}", worst.0, worst.1);
    assert!(fused, "{name}: the deltas are zero");
    assert!(worst.0 <= TOLERANCE, "{name}: {} differs by {:.1e}", worst.1, worst.0);
    a == b
}

/// The answers to every photo: the label first, then its probability.
fn answers(machine: &Machine, bundle: &str, store: &Path, photos: &[String]) -> Vec<(String, f64)> {
    let mut args = vec!["predict", bundle, "--store", store.to_str().unwrap()];
    args.extend(photos.iter().map(String::as_str));
    let answer = |answer: &Value| {
        let top = &answer["top"][0];
        (top["label"].as_str().unwrap().to_owned(), top["probability"].as_f64().unwrap())
    };
    machine.json(&args).iter().map(answer).collect()
}

/// Epochs of a lesson: as few as it takes for pairs to be recomposed.
const EPOCHS: &str = "4";

/// Trains on both machines from one bundle, compares what was learned, and lets each machine read both stores; one of them where
/// they are the same bytes.
fn a_lesson_is_the_same(precision: &str, pairs: &str, place: &Path) {
    let bundle = &*packed(precision, place);
    let Some(emulated) = Machine::emulated() else { return };
    let (machines, photos) = ([Machine::here(), emulated], photos());
    let data = project("models/handwriting/train");
    let stores = machines.each_ref().map(|machine| {
        let store = place.join(machine.name);
        let out = store.to_str().unwrap();
        let data = data.to_str().unwrap();
        let train =
            ["train", bundle, "--data", data, "-o", out, "--epochs", EPOCHS, "--pairs", pairs, "--interval", "once"];
        let report = &machine.json(&train)[0];
        println!(
            "{precision}, {}: loss {}, {} pairs recomposed",
            machine.name, report["train_loss"], report["recompositions"]
        );
        assert!(report["recompositions"].as_u64() > Some(0), "nothing was fused, so no delta is compared: {report}");
        store
    });
    let is_same_file = compare(precision, &stores[0], &stores[1]);

    let expected = answers(&machines[0], bundle, &stores[0], &photos);
    assert_eq!(expected.len(), 400);
    let pairings = if is_same_file { &[(1, 1)][..] } else { &[(0, 1), (1, 0), (1, 1)] };
    for &(machine, store) in pairings {
        let found = answers(&machines[machine], bundle, &stores[store], &photos);
        let labels = expected.iter().zip(&found).filter(|(a, b)| a.0 == b.0).count();
        let largest = expected.iter().zip(&found).map(|(a, b)| (a.1 - b.1).abs()).fold(0.0, f64::max);
        let (at, of) = (machines[machine].name, machines[store].name);
        println!(
            "{precision}, predictions {at} from the store made {of}: {labels} of 400 equal, probabilities within {largest:.1e}"
        );
        assert_eq!((found.len(), labels), (400, 400), "{precision}: predictions {at} from the store made {of}");
        assert!(largest <= PROBABILITY, "{precision}: a probability differs by {largest}");
    }
}

/// Packs the demo's network on this machine, as its recipe does.
fn packed(precision: &str, place: &Path) -> String {
    let bundle = place.join("handwriting.bundle").into_os_string().into_string().unwrap();
    let model = project("models/handwriting/backbone.onnx");
    let labels = project("models/handwriting/labels.txt");
    let [model, labels] = [&model, &labels].map(|path| path.to_str().unwrap());
    let args = ["pack", model, "-o", &bundle, "--labels", labels, "--fit", "stretch", "--mean", "0.5", "--std", "0.5"];
    Machine::here().json(&[&args[..], &["--precision", precision]].concat());
    bundle
}

#[test]
fn the_demo_gives_the_same_predictions() {
    let Some(emulated) = Machine::emulated() else { return };
    let [here, there] = [Machine::here(), emulated].map(|machine| machine.json(&["demo"]).remove(0));
    for when in ["before", "after"] {
        println!("{when}: accuracy {} here, {} emulated", here[when]["accuracy"], there[when]["accuracy"]);
        assert!(here[when]["confusion"].is_array());
        for what in ["n", "classes", "confusion", "quarantined"] {
            assert_eq!(here[when][what], there[when][what], "{when}: {what}");
        }
    }
    for what in ["method", "seed", "steps", "classes", "trainable_params", "recompositions", "undone", "generation"] {
        assert_eq!(here["train"][what], there["train"][what], "{what}");
    }
    assert!(here["train"]["recompositions"].as_u64() > Some(0), "nothing was fused");
}

#[test]
fn a_lesson_on_an_fp32_bundle_is_the_same() {
    let place = TempDir::new().unwrap();
    a_lesson_is_the_same("fp32", "both", place.path());
}

#[test]
fn a_lesson_on_an_int8_bundle_is_the_same() {
    let place = TempDir::new().unwrap();
    a_lesson_is_the_same("int8", "both", place.path());
}

#[test]
fn a_lesson_of_one_sided_pairs_on_an_fp16_bundle_is_the_same() {
    let place = TempDir::new().unwrap();
    a_lesson_is_the_same("fp16", "one-sided", place.path());
}

#[test]
fn a_damaged_file_is_refused_in_the_same_words() {
    let Some(emulated) = Machine::emulated() else { return };
    let place = TempDir::new().unwrap();
    let damaged = place.path().join("damaged.bundle");
    let mut bytes = fs::read(project("models/handwriting/handwriting.bundle")).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&damaged, bytes).unwrap();
    let said = [Machine::here(), emulated].map(|machine| {
        let output = machine.run(&["inspect", damaged.to_str().unwrap()]);
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    });
    println!("{}", said[0].1);
    assert_eq!(said[0].0, Some(1));
    assert_eq!(said[0], said[1]);
}
