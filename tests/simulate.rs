//! `srlora simulate` as a user meets it: every device that ships, cuts at every phase, caps, hours with power, bad input. What it
//! says is compared with `train` under the same flags, with the files that lie on the disk, and with a process that is really
//! killed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use serde_json::Value;
use srlora::lab::Device;
use tempfile::TempDir;

const MIB: f64 = 1048576.0;

/// A folder of its own, which is where temporary files go as well.
struct Place {
    folder: TempDir,
}

impl Place {
    fn new() -> Self {
        let place = Place { folder: TempDir::new().unwrap() };
        fs::create_dir(place.path("tmp")).unwrap();
        place
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().unwrap().to_string()
    }

    fn srlora(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_srlora"));
        command.args(args).env("TMPDIR", self.path("tmp"));
        command
    }

    fn run(&self, args: &[&str]) -> Output {
        let output = self.srlora(args).output().unwrap();
        assert_eq!(fs::read_dir(self.path("tmp")).unwrap().count(), 0, "{args:?} left something behind");
        output
    }

    fn json(&self, args: &[&str]) -> Value {
        let output = self.run(&[args, &["--json"]].concat());
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    fn refused(&self, args: &[&str], code: i32) -> String {
        let output = self.run(args);
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{args:?}: {said}");
        assert!(output.stdout.is_empty(), "{args:?} wrote to stdout");
        said
    }

    /// The profile of a device that ships, with some of its text replaced.
    fn profile(&self, name: &str, from: &str, to: &str) -> String {
        let text = fs::read_to_string(project("targets/raspberry-pi/zero-2w.toml")).unwrap();
        assert!(text.contains(from), "{from}");
        let path = self.path(name);
        fs::write(&path, text.replacen(from, to, 1)).unwrap();
        path
    }
}

fn project(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn demo(path: &str) -> String {
    project("models/handwriting").join(path).to_str().unwrap().to_string()
}

fn generation(store: &str, number: u64) -> PathBuf {
    Path::new(store).join(format!("generation-{number:06}.safetensors"))
}

fn len(path: impl AsRef<Path>) -> u64 {
    fs::metadata(path).unwrap().len()
}

fn f(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("{value} is no number"))
}

fn near(a: f64, b: f64) -> bool {
    (a - b).abs() <= 1e-9 * a.abs().max(b.abs())
}

#[test]
fn every_device_learns_the_bytes_of_train_and_writes_the_bytes_that_lie_on_the_disk() {
    let place = Place::new();
    let (bundle, data, val) = (demo("handwriting.bundle"), demo("train"), demo("val"));
    let store = place.path("trained");
    let flags = ["--data", &data, "--val", &val, "--steps", "24", "--seed", "3"];
    let trained = place.json(&[&["train", &bundle, "-o", &store], &flags[..]].concat());
    let expected = [1, 2].map(|number| fs::read(generation(&store, number)).unwrap());
    for (index, name) in Device::names().enumerate() {
        let (threads, cache) = ([1, 2, 4][index % 3], ["disk", "ram", "off"][index % 3]);
        let kept = place.path(name);
        let ours = ["simulate", &bundle, "--profile", name, "-o", &kept, "--cache", cache, "--threads"];
        let told = place.json(&[&ours[..], &[&threads.to_string()], &flags[..]].concat());

        // The lesson is the one that `train` gives, except that without a cache nothing is rounded.
        for number in [1, 2] {
            let bytes = fs::read(generation(&kept, number)).unwrap();
            assert_eq!(bytes == expected[number as usize - 1], cache != "off", "{name}, generation {number}");
        }
        if cache != "off" {
            assert_eq!(told["train"]["val_accuracy"], trained["val_accuracy"]);
        }

        let device = Device::find(name).unwrap();
        assert_eq!((told["finishes"].as_bool(), told["device"].as_str()), (Some(true), Some(device.name.as_str())));
        assert_eq!(told["ram"]["cap_bytes"], device.free_bytes());
        assert!(f(&told["ram"]["peak_bytes"]) <= f(&told["ram"]["cap_bytes"]) && told["ram"]["excess"].is_null());

        let written = &told["flash"]["lesson"];
        let generations = [1, 2].map(|number| len(generation(&kept, number)));
        assert_eq!(written["generations"], serde_json::json!(generations));
        let journal = len(Path::new(&kept).join("metrics.jsonl"));
        // A place for each of the 120 photos: what the cache took in the run of `train`.
        let cached = if cache == "disk" { trained["cache_bytes"].as_u64().unwrap() } else { 0 };
        assert_eq!((written["journal"].as_u64(), written["cache"].as_u64()), (Some(journal), Some(cached)));
        let total = generations.iter().sum::<u64>() + journal + cached;
        assert_eq!(told["flash"]["written_bytes"].as_u64(), Some(total), "{name}");
        let endurance = device.flash.size_gb * 1e9 * device.flash.write_cycles;
        assert!(near(f(&told["flash"]["wear"]), total as f64 / endurance));

        times_add_up(&told, &device, threads as f64, total as f64);
    }
}

/// Times follow from what was measured here by the formulas that `--help` describes.
fn times_add_up(told: &Value, device: &Device, threads: f64, bytes: f64) {
    let (time, host) = (&told["time"], &told["host"]);
    let slower = f(&host["gflops"]) / device.speed.gflops_per_core / threads / 1e3;
    let [least, most] =
        [f(&host["processor_ms"]) - f(&host["decode_ms"]), f(&host["processor_ms"])].map(|ms| slower * ms);
    let computing = f(&time["computing"]);
    assert!(least - 1e-9 <= computing && computing <= most + 1e-9, "{computing} between {least} and {most}");
    let decoding = f(&host["photos"]) * f(&host["mpixels"]) / device.speed.decode_mpixels_per_s / threads;
    assert!(near(f(&time["decoding"]), decoding));
    assert!(near(f(&time["writing"]), bytes / device.flash.write_mb_per_s / 1e6));
    let phases: f64 =
        ["start", "imprint", "accuracy", "directions", "train", "save"].iter().map(|phase| f(&time[phase])).sum();
    let kinds: f64 = ["computing", "decoding", "writing", "throttled"].iter().map(|kind| f(&time[kind])).sum();
    assert!((phases - kinds).abs() < 1e-6 * kinds && (phases - f(&told["seconds"])).abs() < 1e-6 * phases);
    let power = device.power.unwrap();
    let watts = power.idle_w + (power.load_w - power.idle_w) * threads / device.cores as f64;
    assert!(near(f(&told["energy_wh"]), watts * f(&told["seconds"]) / 3600.0));
    let curve = told["curve"].as_array().unwrap();
    assert!(curve.windows(2).all(|pair| f(&pair[0]["at_s"]) <= f(&pair[1]["at_s"])));
    let (first, last) = (&curve[0], curve.last().unwrap());
    assert_eq!((first["generation"].as_u64(), last["generation"].as_u64()), (Some(1), Some(2)));
    assert_eq!(first["val_accuracy"], told["train"]["val_accuracy_before"]);
    assert_eq!(last["val_accuracy"], told["train"]["val_accuracy"]);
    assert!((f(&last["at_s"]) - f(&told["seconds"])).abs() < 1e-6 * phases);
}

#[test]
fn a_cut_in_every_phase_leaves_the_last_whole_generation_and_the_lesson_goes_on_from_there() {
    let place = Place::new();
    let (bundle, data) = (demo("handwriting.bundle"), demo("train"));
    let lesson = ["simulate", &bundle, "--profile", "pi-zero-2w", "--data", &data, "--steps", "12"];
    let told = place.json(&[&lesson[..], &["--cut-at", "imprint,0,5,12,save"]].concat());
    let cuts = told["cuts"].as_array().unwrap();
    let seen: Vec<_> = cuts
        .iter()
        .map(|cut| (cut["step"].as_u64().unwrap(), cut["generation"].as_u64(), cut["saving"].as_bool().unwrap()))
        .collect();
    let expected =
        [(0, None, false), (0, Some(1), false), (5, Some(1), false), (12, Some(1), false), (12, Some(1), true)];
    assert_eq!(seen, expected);
    assert_eq!(cuts[0]["phase"], "imprint");
    let lost: Vec<_> = cuts.iter().map(|cut| cut["lost_steps"].as_u64().unwrap()).collect();
    assert_eq!(lost, [0, 0, 5, 12, 12]);
    let once: f64 =
        ["start", "imprint", "directions", "train", "save"].iter().map(|phase| f(&told["time"][phase])).sum();
    let work: f64 = cuts.iter().map(|cut| f(&cut["lost_s"])).sum();
    assert!((f(&told["seconds"]) - once - work).abs() < 1e-6 * once, "no time is lost but the work that is done again");
    let written = &told["flash"]["lesson"];
    let [first, second] = [0, 1].map(|n| f(&written["generations"][n]));
    let (cache, journal) = (f(&written["cache"]), f(&written["journal"]));
    // Half of the cache, and five whole ones; one first generation; 5, 12 and 12 lines of 12; half of a last generation; the rest.
    let all = 0.5 * cache + 5.0 * cache + first + journal * 29.0 / 12.0 + 0.5 * second + (journal + second);
    let close = (f(&told["flash"]["written_bytes"]) - all).abs();
    assert!(close <= cache / 120.0, "{close} bytes beside {all}: less than one photo's place");

    // With a checkpoint after every step nothing is lost but the way back to it, which goes over all photos.
    let kept = place.json(&[&lesson[..], &["--cut-at", "5,9,3", "--checkpoint", "0"]].concat());
    let cuts = kept["cuts"].as_array().unwrap();
    let lost: Vec<_> = cuts.iter().map(|cut| (cut["step"].as_u64(), cut["lost_steps"].as_u64())).collect();
    assert_eq!(lost, [(Some(5), Some(1)), (Some(9), Some(1))], "the third is behind the lesson when its turn comes");
    assert_eq!(kept["cuts_missed"], 1);
    let written = &kept["flash"]["lesson"];
    let planned = &told["train"]["planned"]["checkpoint_bytes"];
    assert_eq!(written["checkpoints"].as_u64(), planned.as_u64().map(|each| 12 * each));

    let random = place.json(&[&lesson[..], &["--cuts", "5"]].concat());
    assert_eq!((random["cuts"].as_array().unwrap().len(), random["finishes"].as_bool()), (5, Some(true)));
}

#[test]
fn the_end_of_a_lesson_that_is_kept_aside_can_be_cut_too() {
    let place = Place::new();
    let (bundle, data) = (demo("handwriting.bundle"), place.path("single"));
    for class in ["0", "1"] {
        let photo = fs::read_dir(demo(&format!("train/{class}"))).unwrap().next().unwrap().unwrap().path();
        fs::create_dir_all(format!("{data}/{class}")).unwrap();
        fs::copy(photo, format!("{data}/{class}/0.png")).unwrap();
    }
    let told =
        place.json(&["simulate", &bundle, "--profile", "pi-4", "--data", &data, "--steps", "3", "--cut-at", "save"]);
    assert_eq!((&told["train"]["aside"], &told["cuts"][0]["generation"]), (&2.into(), &1.into()), "{told}");
    let kept: Vec<_> =
        told["curve"].as_array().unwrap().iter().filter_map(|point| point["generation"].as_u64()).collect();
    assert_eq!(kept, [1], "an aside is no generation");
}

#[test]
fn a_process_that_is_really_killed_leaves_what_the_simulation_says() {
    let place = Place::new();
    let (bundle, data, store) = (demo("handwriting.bundle"), demo("train"), place.path("store"));
    let flags = ["--data", &data, "--steps", "4000"];
    let mut train = place.srlora(&[&["train", &bundle, "-o", &store], &flags[..]].concat());
    let mut train = train.stderr(Stdio::null()).stdout(Stdio::null()).spawn().unwrap();
    let journal = Path::new(&store).join("metrics.jsonl");
    while fs::read_to_string(&journal).map_or(0, |lines| lines.lines().count()) < 20 {
        assert!(train.try_wait().unwrap().is_none(), "the lesson ended before it was killed");
        std::thread::sleep(Duration::from_millis(5));
    }
    train.kill().unwrap();
    train.wait().unwrap();
    let left = place.json(&["inspect", &store])["generation"].clone();
    let told =
        place.json(&["simulate", &bundle, "--profile", "pi-4", "--data", &data, "--steps", "30", "--cut-at", "20"]);
    assert_eq!((&left, &left), (&told["cuts"][0]["generation"], &Value::from(1)));
}

#[cfg(unix)]
#[test]
fn temporary_folders_leave_with_a_process_that_is_terminated_and_after_one_that_is_killed() {
    let place = Place::new();
    let (bundle, data) = (demo("handwriting.bundle"), demo("train"));
    let simulate = ["simulate", &bundle, "--profile", "pi-4", "--data", &data, "--steps"];
    let long = [&simulate[..], &["400000"]].concat();
    let tmp = || {
        let found = fs::read_dir(place.path("tmp")).unwrap().map(|entry| entry.unwrap().path());
        found.collect::<std::collections::BTreeSet<_>>()
    };
    // A process, and its folder, once it is at work there.
    let begun = |args: &[&str], work: &str| {
        let before = tmp();
        let mut child = place.srlora(args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        loop {
            assert!(child.try_wait().unwrap().is_none(), "{args:?} ended on its own");
            if let Some(folder) = tmp().difference(&before).find(|folder| folder.join(work).exists()) {
                return (child, folder.clone());
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    };
    let end = |mut child: std::process::Child, signal: &str| {
        Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap();
        child.wait().unwrap().code()
    };
    for (args, work) in [(&long[..], "store/metrics.jsonl"), (&["demo"], "imprinted")] {
        for (signal, code) in [("-TERM", 143), ("-INT", 130)] {
            let (child, _) = begun(args, work);
            assert_eq!((end(child, signal), tmp().len()), (Some(code), 0), "{args:?} {signal}");
        }
    }
    let (killed, left) = begun(&long, "store/metrics.jsonl");
    assert_eq!(end(killed, "-KILL"), None);
    assert!(tmp().contains(&left));
    let (living, own) = begun(&long, "store/metrics.jsonl");
    assert!(tmp().contains(&own) && tmp().len() == 1, "the next one removes what was left");
    let next = place.srlora(&[&simulate[..], &["1"]].concat()).output().unwrap();
    assert!(next.status.success(), "{}", String::from_utf8_lossy(&next.stderr));
    assert!(own.join("store/generation-000001.safetensors").exists(), "and nothing that is still used");
    assert_eq!((end(living, "-TERM"), tmp().len()), (Some(143), 0));
}

#[test]
fn a_cap_is_kept_down_to_the_smallest_plan_and_refused_below() {
    let place = Place::new();
    let (bundle, data) = (demo("handwriting.bundle"), demo("train"));
    let lesson = ["simulate", &bundle, "--data", &data, "--steps", "4", "--threads", "2", "--profile"];
    let tiny = place.profile("tiny.toml", "free_mib = 150", "free_mib = 9");
    let said = place.refused(&[&lesson[..], &[&tiny]].concat(), 1);
    assert!(said.contains("free memory of a Raspberry Pi Zero 2 W: 9.0 MiB are too few"), "{said}");
    let flag = place.refused(&[&lesson[..], &["pi-5", "--ram-limit", "9MiB"]].concat(), 1);
    assert!(flag.contains("--ram-limit: 9.0 MiB are too few"), "{flag}");
    let smallest: f64 = said.split("up to ").nth(1).unwrap().split(' ').next().unwrap().parse().unwrap();
    // What the program itself takes differs a little between runs.
    let cap = format!("{}MiB", smallest.ceil() + 1.0);
    let told = place.json(&[&lesson[..], &["pi-5", "--ram-limit", &cap]].concat());
    assert!(f(&told["ram"]["peak_bytes"]) / MIB <= smallest + 2.0, "{}", told["ram"]);
    let too_much = place.refused(&[&lesson[..], &["pi-zero-2w", "--ram-limit", "1GiB"]].concat(), 2);
    assert!(too_much.contains("more than the 512 MiB of a Raspberry Pi Zero 2 W"), "{too_much}");
}

#[test]
fn a_lesson_longer_than_the_hours_with_power_never_ends() {
    let place = Place::new();
    let (bundle, data) = (demo("handwriting.bundle"), demo("train"));
    let lesson = ["simulate", &bundle, "--data", &data, "--steps", "12", "--profile"];
    let hours = |name: &str, on: &str| {
        let schedule = format!("[schedule]\non_minutes = {on}\noff_minutes = 600\n[power]");
        place.profile(name, "[power]", &schedule)
    };
    let short = hours("short.toml", "0.001");
    let output = place.run(&[&lesson[..], &[&short, "--json"]].concat());
    assert_eq!(output.status.code(), Some(1));
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((told["finishes"].as_bool(), told["cuts"][0]["cause"].as_str()), (Some(false), Some("schedule")));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("--checkpoint"), "{said}");
    let long = place.json(&[&lesson[..], &[&hours("long.toml", "600")]].concat());
    assert_eq!((long["finishes"].as_bool(), long["cuts"].as_array().unwrap().len()), (Some(true), 0));
    // Cut when the lesson is nearly done, it waits for nothing, as ten hours suffice for both.
    let both = place.json(&[&lesson[..], &[&hours("both.toml", "600"), "--cut-at", "12"]].concat());
    assert!(both["finishes"].as_bool().unwrap() && f(&both["seconds"]) < 600.0 * 60.0);
}

#[test]
fn heat_makes_a_lesson_longer_on_the_threads_that_heat() {
    let place = Place::new();
    let (bundle, data) = (demo("handwriting.bundle"), demo("train"));
    let hot = place.profile("hot.toml", "full_speed_s = 210", "full_speed_s = 0.001");
    let told = |threads: &str| {
        place.json(&["simulate", &bundle, "--data", &data, "--steps", "12", "--profile", &hot, "--threads", threads])
    };
    assert_eq!(told("2")["time"]["throttled"], 0.0, "from three threads on, says the profile");
    let time = &told("3")["time"];
    let work: f64 = ["computing", "decoding", "writing"].iter().map(|kind| f(&time[kind])).sum();
    // Hardly ever at full speed: a speed of 0.6 makes it 1 / 0.6 times as long.
    let longer = f(&time["throttled"]) / work;
    assert!((longer - (1.0 / 0.6 - 1.0)).abs() < 0.01, "{longer}");
}

#[test]
fn bad_input_is_refused_by_name_and_leaves_nothing() {
    let place = Place::new();
    let (bundle, data) = (demo("handwriting.bundle"), demo("train"));
    let lesson = |profile: &str, more: &[&str], code: i32| {
        let args = ["simulate", &bundle, "--data", &data, "--steps", "4", "--profile", profile];
        place.refused(&[&args[..], more].concat(), code)
    };
    let field = place.profile("field.toml", "cores = 4", "cores = 4\ncoers = 4");
    let microcontroller = place.profile("m.toml", "\"aarch64\"", "\"cortex-m\"");
    let arch = place.profile("arch.toml", "\"aarch64\"", "\"sparc\"");
    for (profile, more, code, words) in [
        ("pi-zero2w", &[][..], 2, &["pi-zero2w", "nearest: pi-zero-2w", "jetson-orin-nano"][..]),
        (&field, &[], 2, &["field.toml", "unknown field `coers`"]),
        (&arch, &[], 2, &["arch.toml", "unknown variant `sparc`", "aarch64"]),
        (&microcontroller, &[], 1, &["Cortex-M", "targets/cortex-m"]),
        ("pi-4", &["--threads", "5"], 2, &["--threads", "4 cores of a Raspberry Pi 4"]),
        ("pi-4", &["--cut-at", "3,5"], 2, &["--cut-at", "no step 5", "has 4"]),
        ("pi-4", &["--cut-at", "soon"], 2, &["--cut-at", "a step, `imprint` or `save`"]),
        ("pi-4", &["--method", "imprint", "--cut-at", "1"], 2, &["no step 1", "has 0"]),
        ("pi-4", &["-o", &field], 1, &["field.toml", "a simulation writes a new store"]),
    ] {
        let said = lesson(profile, more, code);
        for word in words {
            assert!(said.contains(word), "{profile} {more:?} should mention {word:?}: {said}");
        }
    }
    // A program for some processor is no bundle, and a bundle is for none in particular.
    let program = env!("CARGO_BIN_EXE_srlora");
    let said = place.refused(&["simulate", program, "--data", &data, "--profile", "pi-4"], 1);
    assert!(said.contains(program) && said.contains("srlora pack"), "{said}");
    let taken = place.path("taken");
    fs::create_dir(&taken).unwrap();
    let said = lesson("pi-4", &["-o", &taken], 1);
    assert!(said.contains("is already there"), "{said}");
}

#[test]
fn a_pi_zero_2_w_learns_mobilenet_in_150_mib() {
    let Some(assets) = std::env::var_os("SRLORA_ASSETS").map(PathBuf::from) else {
        eprintln!("NOT CHECKED: SRLORA_ASSETS is not set, so nothing was simulated with a real model");
        return;
    };
    let place = Place::new();
    let (bundle, data) = (place.path("mobilenet.bundle"), place.path("photos"));
    let model = assets.join("models/mobilenetv2_1.0_224_int8_qdq_ort.onnx");
    let [mean, std] = ["0.485,0.456,0.406", "0.229,0.224,0.225"];
    place.json(&["pack", model.to_str().unwrap(), "-o", &bundle, "--mean", mean, "--std", std]);
    for class in fs::read_dir(assets.join("data/flowers500")).unwrap().map(Result::unwrap).filter(|c| c.path().is_dir())
    {
        let folder = Path::new(&data).join(class.file_name());
        fs::create_dir_all(&folder).unwrap();
        let mut photos: Vec<_> = fs::read_dir(class.path()).unwrap().map(|photo| photo.unwrap().path()).collect();
        photos.sort();
        for photo in &photos[..20] {
            fs::copy(photo, folder.join(photo.file_name().unwrap())).unwrap();
        }
    }
    let told = place.json(&["simulate", &bundle, "--profile", "pi-zero-2w", "--data", &data]);
    let (ram, train) = (&told["ram"], &told["train"]);
    println!(
        "{} minutes, {} MiB of {}",
        f(&told["seconds"]) / 60.0,
        f(&ram["peak_bytes"]) / MIB,
        f(&ram["cap_bytes"]) / MIB
    );
    assert_eq!((told["finishes"].as_bool(), train["steps"].as_u64()), (Some(true), Some(105)));
    assert_eq!((train["classes"].as_array().unwrap().len(), train["train_images"].as_u64()), (5, Some(100)));
    assert_eq!(f(&ram["cap_bytes"]) / MIB, 150.0);
    assert!(f(&ram["peak_bytes"]) <= f(&ram["cap_bytes"]));
}
