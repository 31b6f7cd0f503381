//! `srlora compare` as a user meets it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

fn srlora(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_srlora")).args(args).output().unwrap()
}

/// Runs what must succeed; its JSON, and what it says on stderr.
fn json(args: &[&str]) -> (Value, String) {
    let output = srlora(&[args, &["--json"]].concat());
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{args:?}: {stderr}");
    (serde_json::from_slice(&output.stdout).unwrap(), stderr)
}

fn refused(args: &[&str], code: i32, words: &[&str]) {
    let output = srlora(args);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(code), "{args:?}: {stderr}");
    assert!(output.stdout.is_empty());
    for word in words {
        assert!(stderr.contains(word), "{args:?} should mention {word:?}: {stderr}");
    }
}

struct Place {
    folder: TempDir,
    bundle: String,
    data: String,
    val: String,
}

impl Place {
    fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
        let (bundle, data, val) = (path("good.bundle"), path("data"), path("val"));
        let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/models/good.onnx");
        json(&["pack", model.to_str().unwrap(), "-o", &bundle, "--sites", "all", "--rank", "2", "--fit", "stretch"]);
        photos(&data, 8, 0);
        photos(&val, 10, 100);
        Place { folder, bundle, data, val }
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().unwrap().to_owned()
    }

    /// The command with these flags.
    fn args<'a>(&'a self, more: &[&'a str]) -> Vec<&'a str> {
        let base = ["compare", &self.bundle, "--data", &self.data, "--val", &self.val, "--batch", "6"];
        [&base[..], more].concat()
    }
}

/// Three classes of noise, each with a little more of one colour.
fn photos(root: &str, each: u32, salt: u32) {
    for (colour, class) in ["a", "b", "c"].into_iter().enumerate() {
        let folder = Path::new(root).join(class);
        fs::create_dir_all(&folder).unwrap();
        for nth in 0..each {
            let mut state = (colour as u32 + 1) * 7919 + nth * 104_729 + salt;
            let mut noise = |most: u32| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                ((state >> 16) % most) as u8
            };
            let tint = [0, 1, 2].map(|c| 60 + noise(30) + if c == colour { 20 } else { 0 });
            let photo = image::RgbImage::from_fn(20, 20, |_, _| image::Rgb(tint.map(|shade| shade + noise(60))));
            photo.save(folder.join(format!("{nth}.png"))).unwrap();
        }
    }
}

/// A report without what the clock and the process's size decide.
fn timeless(mut report: Value) -> Value {
    fn strip(value: &mut Value) {
        match value {
            Value::Object(fields) => {
                for time in ["seconds", "step_ms_median", "peak_rss_bytes"] {
                    fields.remove(time);
                }
                fields.values_mut().for_each(strip);
            }
            Value::Array(values) => values.iter_mut().for_each(strip),
            _ => {}
        }
    }
    strip(&mut report);
    report
}

fn method<'r>(report: &'r Value, name: &str) -> &'r Value {
    report["methods"].as_array().unwrap().iter().find(|m| m["method"] == name).unwrap()
}

#[test]
fn a_comparison_shows_every_method_and_each_run_is_the_one_that_train_does() {
    let place = Place::new();
    let flags = ["--seeds", "2", "--steps", "24", "--lrs", "3e-3,3e-2", "--head-lrs", "1e-2", "--points", "4"];
    let (report, said) = json(&place.args(&flags));
    let names: Vec<&str> =
        report["methods"].as_array().unwrap().iter().map(|m| m["method"].as_str().unwrap()).collect();
    assert_eq!(names, ["imprint", "head", "lora", "pissa", "srlora", "random"]);
    assert_eq!((&report["train_images"], &report["val_images"], &report["seeds"]), (&24.into(), &30.into(), &2.into()));
    // Four methods try two rates three times, six run twice.
    assert_eq!(report["runs"].as_array().unwrap().len(), 4 * 2 * 3 + 6 * 2);
    assert!(said.contains("36/36 ") && said.contains(" left\n"), "{said}");
    let seed_of = |run: &Value| run["purpose"] == "result" && run["seed"] == 1;
    for name in ["imprint", "head", "lora", "pissa", "srlora", "random"] {
        let standing = method(&report, name);
        let rates = standing["rates"].as_array().unwrap();
        assert_eq!(rates.len(), if ["imprint", "head"].contains(&name) { 0 } else { 2 });
        let accuracies: Vec<f64> =
            standing["accuracies"].as_array().unwrap().iter().map(|a| a.as_f64().unwrap()).collect();
        assert!((standing["accuracy_mean"].as_f64().unwrap() - (accuracies[0] + accuracies[1]) / 2.0).abs() < 1e-12);
        let spread = (accuracies[0] - accuracies[1]).abs() / 2f64.sqrt();
        assert!((standing["accuracy_sd"].as_f64().unwrap() - spread).abs() < 1e-12);
        let runs = report["runs"].as_array().unwrap().iter();
        let run = runs.filter(|run| run["method"] == name).find(|run| seed_of(run)).unwrap();
        assert_eq!(run["curve"].as_array().unwrap().len(), if name == "imprint" { 1 } else { 5 });

        let store = place.path(name);
        let (trained, start) = if name == "random" { ("srlora", "random") } else { (name, "") };
        let rate = |key: &str| standing[key].as_f64().map(|rate| rate.to_string());
        let mut args = vec!["train", &place.bundle, "--data", &place.data, "--val", &place.val, "-o", &store];
        args.extend(["--method", trained, "--seed", "1", "--steps", "24", "--batch", "6"]);
        args.extend(if start.is_empty() { vec![] } else { vec!["--start", start] });
        let (lr, head_lr) = (rate("lr"), rate("head_lr"));
        args.extend(lr.iter().flat_map(|rate| ["--lr", rate]));
        args.extend(head_lr.iter().flat_map(|rate| ["--head-lr", rate]));
        let (alone, _) = json(&args);
        assert_eq!((&run["accuracy"], &run["train_loss"]), (&alone["val_accuracy"], &alone["train_loss"]), "{name}");
        for key in ["trainable_params", "recompositions", "steps"] {
            assert_eq!(run[key], alone[key], "{name}: {key}");
        }
    }
    assert!(method(&report, "lora")["difference_to_lora"]["mean"] == 0.0);

    let table = String::from_utf8(srlora(&place.args(&flags)).stdout).unwrap();
    for word in ["3 classes, 24 photos trained on, 30 measured, 2 runs each", "lora's end after", "imprint ", "random "]
    {
        assert!(table.contains(word), "{table}");
    }
}

#[test]
fn a_comparison_that_was_killed_goes_on_and_ends_as_if_it_had_not_been() {
    let place = Place::new();
    let flags = ["--seeds", "2", "--steps", "60", "--lrs", "3e-3,1e-2", "--methods", "head,lora,srlora", "-o"];
    let [file, other] = ["compare.jsonl", "other.jsonl"].map(|name| place.path(name));
    let (whole, _) = json(&place.args(&[&flags[..], &[&other]].concat()));

    let args = place.args(&[&flags[..], &[&file]].concat());
    let lines = || fs::read_to_string(&file).map_or(0, |text| text.lines().count());
    let mut command = Command::new(env!("CARGO_BIN_EXE_srlora"));
    let mut child = command.args(&args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    while lines() < 3 && child.try_wait().unwrap().is_none() {
        std::thread::sleep(Duration::from_millis(1));
    }
    #[cfg(unix)]
    {
        Command::new("kill").args(["-STOP", &child.id().to_string()]).status().unwrap();
        let before = fs::read(&file).unwrap();
        // Unless it was over just now.
        if child.try_wait().unwrap().is_none() {
            refused(&args, 1, &["compare.jsonl: another comparison is writing to it"]);
        }
        assert!(fs::read(&file).unwrap() == before);
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let kept = fs::read(&file).unwrap();
    assert!(lines() >= 3);
    // As a power cut might leave it.
    fs::write(&file, &kept[..kept.len() - 9]).unwrap();
    let (resumed, said) = json(&args);
    assert!(said.contains("last line was cut off"), "{said}");
    assert_eq!(timeless(resumed), timeless(whole.clone()));

    // All is done: nothing runs, and more seeds and methods take up what there is.
    let before = fs::read(&file).unwrap();
    let (again, said) = json(&args);
    assert!(fs::read(&file).unwrap() == before && !said.contains(" left"), "{said}");
    assert_eq!(timeless(again), timeless(whole));
    let more = ["--seeds", "3", "--steps", "60", "--lrs", "3e-3,1e-2", "--methods", "lora,head", "-o", &file];
    let (_, said) = json(&place.args(&more));
    assert_eq!(said.matches(" left\n").count(), 2, "{said}");
    for name in fs::read_dir(place.folder.path()).unwrap().map(|entry| entry.unwrap().file_name()) {
        assert!(!name.to_string_lossy().starts_with('.'), "{name:?} is left behind");
    }
}

#[test]
fn photos_that_accuracy_is_measured_on_have_no_say_in_the_rates() {
    let place = Place::new();
    let flags = ["--seeds", "1", "--steps", "20", "--tries", "2", "--methods", "head,lora,srlora"];
    let (report, _) = json(&place.args(&flags));
    let names: [PathBuf; 3] = ["a", "b", "c"].map(|class| Path::new(&place.val).join(class));
    let aside = Path::new(&place.val).join("x");
    for (from, to) in [(&names[0], &aside), (&names[1], &names[0]), (&names[2], &names[1]), (&aside, &names[2])] {
        fs::rename(from, to).unwrap();
    }
    let (shuffled, _) = json(&place.args(&flags));
    for name in ["head", "lora", "srlora"] {
        let [before, after] = [&report, &shuffled].map(|report| method(report, name));
        for key in ["rates", "lr", "head_lr"] {
            assert_eq!(before[key], after[key], "{name}: {key}");
        }
        assert_ne!(before["accuracies"], after["accuracies"], "{name}");
        assert_eq!(before["rates"].as_array().unwrap().len(), 4);
    }
}

#[test]
fn photos_that_cannot_be_read_are_named_once_and_count_nowhere() {
    let place = Place::new();
    for path in [format!("{}/a/broken.png", place.data), format!("{}/b/broken.png", place.val)] {
        fs::write(path, "no photo").unwrap();
    }
    let (report, said) = json(&place.args(&["--seeds", "1", "--steps", "4", "--methods", "head,lora"]));
    assert_eq!((report["train_images"].as_u64(), report["val_images"].as_u64()), (Some(24), Some(30)));
    assert_eq!(said.matches("set aside").count(), 2, "{said}");
}

#[test]
fn a_class_of_one_photo_is_trained_on_and_said_and_one_photo_each_needs_one_rate() {
    let place = Place::new();
    let flags = ["--seeds", "1", "--steps", "4", "--methods", "lora", "--tries", "1"];
    let keep_one = |class: &str| {
        (1..8).for_each(|nth| fs::remove_file(format!("{}/{class}/{nth}.png", place.data)).unwrap());
    };
    keep_one("a");
    let (report, said) = json(&place.args(&flags));
    assert!(said.contains("single photo") && said.contains(": a\n"), "{said}");
    let runs = report["runs"].as_array().unwrap().iter();
    let images: Vec<u64> = runs.map(|run| run["images"].as_u64().unwrap()).collect();
    assert_eq!(images, [13, 13, 13, 13, 17]);
    ["b", "c"].into_iter().for_each(keep_one);
    refused(&place.args(&flags), 1, &["two photos", "--lrs 3e-3"]);
    let (report, _) = json(&place.args(&[&flags[..], &["--lrs", "3e-3"]].concat()));
    assert_eq!(report["runs"].as_array().unwrap().len(), 1);
}

#[test]
fn rates_whose_loss_is_no_number_are_not_chosen() {
    let place = Place::new();
    let flags = ["--seeds", "1", "--steps", "6", "--methods", "lora", "--lrs"];
    let (report, said) = json(&place.args(&[&flags[..], &["1e-3,1e38"]].concat()));
    let lora = method(&report, "lora");
    assert!(lora["rates"][1]["accuracy"].is_null() && said.contains("stopped being a number"), "{said}");
    assert!(lora["lr"].as_f64() < Some(2e-3));
    refused(&place.args(&[&flags[..], &["1e37,1e38"]].concat()), 1, &["lora", "smaller"]);
    refused(&place.args(&[&flags[..], &["1e38"]].concat()), 1, &["lora", "seed 0", "leave that rate out"]);
}

#[test]
fn what_cannot_be_meant_is_refused() {
    let place = Place::new();
    let args = |more: &[&'static str]| -> Vec<String> { place.args(more).into_iter().map(String::from).collect() };
    let refused = |args: &[String], code: i32, words: &[&str]| {
        refused(&args.iter().map(String::as_str).collect::<Vec<_>>(), code, words);
    };
    refused(
        &args(&["--methods", "lora,dora"]),
        2,
        &["dora", "imprint, head, lora, pissa, srlora, both, recomposed, random"],
    );
    refused(&args(&["--methods", ""]), 2, &["--methods"]);
    let among = format!("{}/a/runs.jsonl", place.val);
    let args_among = [&args(&[])[..], &["-o".into(), among]].concat();
    refused(&args_among, 2, &["runs.jsonl", "lies inside --val"]);
    refused(&args(&["--seeds", "0"]), 2, &["--seeds"]);
    refused(&args(&["--lrs", "fast"]), 2, &["--lrs", "3e-3"]);
    refused(&args(&["--methods", "lora,oldest"]), 2, &["--methods: oldest would be srlora", "--interval STEPS"]);
    refused(
        &args(&["--methods", "lora,oldest", "--interval", "0"]),
        2,
        &["oldest would be srlora", "no pair is recomposed"],
    );
    let never = ["--methods", "renewed", "--interval", "20", "--steps", "24"];
    refused(&args(&never), 2, &["--methods: renewed would be srlora", "shorter --interval"]);
    refused(&args(&["--val-split", "0.2"]), 2, &["--val"]);
    refused(&args(&["--steps", "3", "--epochs", "3"]), 2, &["--epochs"]);
    let without = ["compare", &place.bundle, "--data", &place.data].map(String::from);
    refused(&without, 2, &["--val <DIR>|--val-split <SHARE>"]);
    let split = [
        &without[..],
        &["--val-split", "0.25", "--seeds", "1", "--steps", "2", "--methods", "imprint"].map(String::from),
    ];
    let (report, _) = json(&split.concat().iter().map(String::as_str).collect::<Vec<_>>());
    assert_eq!((report["train_images"].as_u64(), report["val_images"].as_u64()), (Some(18), Some(6)));
}

#[test]
fn controls_that_have_something_to_change_are_compared_and_flags_that_no_method_looks_at_are_named() {
    let place = Place::new();
    let flags =
        ["--methods", "srlora,renewed,oldest", "--seeds", "1", "--lrs", "3e-2", "--steps", "24", "--interval", "4"];
    let (report, said) = json(&place.args(&flags));
    assert!(!said.contains("has no effect"), "{said}");
    let loss = |name: &str| {
        report["runs"].as_array().unwrap().iter().find(|run| run["method"] == name).unwrap()["train_loss"].clone()
    };
    assert!(method(&report, "oldest")["recompositions"].as_f64() > Some(0.0));
    assert!(loss("oldest") != loss("srlora") && loss("renewed") != loss("srlora"), "{report}");
    let flags = [
        "--methods",
        "head,imprint",
        "--seeds",
        "1",
        "--head-lrs",
        "1e-3",
        "--steps",
        "2",
        "--interval",
        "4",
        "--head-lr",
        "1",
    ];
    let (_, said) = json(&place.args(&flags));
    for flag in ["--interval", "--head-lr"] {
        assert!(said.contains(&format!("warning: {flag} has no effect with these --methods\n")), "{said}");
    }
    assert_eq!(said.matches("has no effect").count(), 2, "{said}");
}

#[test]
fn a_file_of_another_comparison_is_refused_and_left_alone() {
    let place = Place::new();
    let file = place.path("compare.jsonl");
    let flags = ["--seeds", "1", "--methods", "imprint", "-o", &file, "--steps"];
    json(&place.args(&[&flags[..], &["2"]].concat()));
    let before = fs::read(&file).unwrap();
    let same = place.args(&[&flags[..], &["2"]].concat());
    refused(&place.args(&[&flags[..], &["3"]].concat()), 1, &["compare.jsonl", "steps 2, not 3", "choose another -o"]);
    fs::copy(format!("{}/a/0.png", place.data), format!("{}/a/8.png", place.data)).unwrap();
    refused(&same, 1, &["data_sha256", "choose another -o"]);
    fs::remove_file(format!("{}/a/8.png", place.data)).unwrap();
    json(&same);
    assert!(fs::read(&file).unwrap() == before);
    let diary = place.path("diary.txt");
    fs::write(&diary, "dear diary").unwrap();
    refused(&place.args(&["-o", &diary]), 1, &["diary.txt", "line 1"]);
    assert_eq!(fs::read_to_string(&diary).unwrap(), "dear diary");
    refused(&place.args(&["-o", &place.path("no/such/file")]), 1, &["no/such"]);
}
