//! The program itself, killed: at random moments by SIGKILL, between two steps by SIGTERM, and by a disk that is full. Taken up, a
//! lesson ends in the bytes of one that nothing interrupted.
#![cfg(target_os = "linux")]

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

const RUNS: usize = 50;
/// Kills of one lesson before it is let through.
const MOST_KILLS: usize = 2;

fn handwriting(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("models/handwriting").join(name)
}

/// A lesson of the demo's network with recompositions and a checkpoint after every step.
fn lesson(store: &Path) -> Command {
    let mut command = lesson_with_checkpoints(store, 0);
    command.stdout(Stdio::null()).stderr(Stdio::piped());
    command
}

fn lesson_with_checkpoints(store: &Path, seconds: u32) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_srlora"));
    // A backtrace takes memory; without any left, a panic must end the program all the same.
    command.env("RUST_BACKTRACE", "1");
    command.arg("train").arg(handwriting("handwriting.bundle")).arg("--data").arg(handwriting("train"));
    command.args(["--steps", "60", "--interval", "5", "--resume", "-o"]).arg(store);
    command.args(["--checkpoint", &seconds.to_string()]);
    command
}

fn finish(store: &Path) {
    let output = lesson(store).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Every file of a store but the journal and the lock.
fn generations(store: &Path) -> BTreeMap<OsString, Vec<u8>> {
    let entries = fs::read_dir(store).unwrap().map(|entry| entry.unwrap());
    let kept =
        entries.filter(|entry| ![".srlora-lock", "metrics.jsonl"].map(OsString::from).contains(&entry.file_name()));
    kept.map(|entry| (entry.file_name(), fs::read(entry.path()).unwrap())).collect()
}

/// The step that a lesson under way would go on after.
fn checkpoint(store: &Path) -> Option<u64> {
    let names = fs::read_dir(store).ok()?.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    names.filter_map(|name| name.strip_prefix("checkpoint-")?.strip_suffix(".safetensors")?.parse().ok()).max()
}

fn wait_with_stderr(child: Child) -> (Option<i32>, String) {
    let output = child.wait_with_output().unwrap();
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

#[test]
fn lessons_killed_at_random_moments_end_in_the_bytes_of_one_that_was_not() {
    let place = TempDir::new().unwrap();
    let whole = place.path().join("whole");
    let begin = Instant::now();
    finish(&whole);
    let whole_lasts = begin.elapsed();
    let expected = generations(&whole);
    assert_eq!(expected.len(), 3, "two generations and their examples");
    // Spread over the lesson by the golden ratio; the machine adds chance of its own.
    let moment = |nth: usize| whole_lasts.mul_f64((nth as f64 * 0.618_034).fract());
    let (mut kills, mut at_work) = (0, 0);
    for run in 0..RUNS {
        let store = place.path().join(format!("store-{run}"));
        for kill in 0..MOST_KILLS {
            let mut child = lesson(&store).spawn().unwrap();
            std::thread::sleep(moment(run * MOST_KILLS + kill));
            child.kill().unwrap();
            let (code, said) = wait_with_stderr(child);
            match code {
                None => kills += 1,
                // It was over, or had only just begun; a lesson that is over may be taken up again.
                Some(code) => assert_eq!(code, 0, "{said}"),
            }
            at_work += usize::from(store.join("generation-000001.safetensors").exists() && code.is_none());
        }
        finish(&store);
        assert!(generations(&store) == expected, "run {run} ended otherwise");
        fs::remove_dir_all(&store).unwrap();
    }
    println!("{RUNS} lessons, {kills} kills, {at_work} of them with a store there: all end in the same bytes");
    assert!(at_work > RUNS / 2, "the kills came too early or too late to show anything");
}

#[test]
fn a_lesson_that_is_terminated_stops_at_a_step_and_says_how_to_go_on() {
    let place = TempDir::new().unwrap();
    let [whole, store] = ["whole", "store"].map(|name| place.path().join(name));
    finish(&whole);
    // Only the signal makes a checkpoint.
    let mut lesson = lesson_with_checkpoints(&store, 1000);
    let child = lesson.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    // A step is behind it; the one under way is let go.
    let journal = || std::fs::read_to_string(store.join("metrics.jsonl")).unwrap_or_default();
    while !journal().contains("\"loss\"") {
        std::thread::sleep(Duration::from_millis(2));
    }
    let told = Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap();
    assert!(told.success());
    let (code, said) = wait_with_stderr(child);
    assert_eq!(code, Some(143), "{said}");
    assert!(said.contains("stopped after step") && said.contains("--resume"), "{said}");
    // What is kept of a photo is rounded; without a cache the lesson would end in other bytes.
    let other = lesson.args(["--cache", "off"]).output().unwrap();
    let said = String::from_utf8(other.stderr).unwrap();
    assert!(other.status.code() == Some(1) && said.contains("--cache: the lesson began with a cache"), "{said}");
    finish(&store);
    assert_eq!(generations(&store), generations(&whole));
}

/// Waits for a file of `store`, then ends the lesson that is to make it; its exit code, and what it said.
fn ended_at(mut child: Child, file: &Path, signal: &str) -> (Option<i32>, String) {
    while !file.exists() {
        assert!(child.try_wait().unwrap().is_none(), "it ended before {}", file.display());
        std::thread::sleep(Duration::from_millis(1));
    }
    Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap();
    wait_with_stderr(child)
}

#[test]
fn a_further_lesson_like_the_one_before_is_under_way_from_its_first_moment() {
    let place = TempDir::new().unwrap();
    let [whole, store] = ["whole", "store"].map(|name| place.path().join(name));
    finish(&whole);
    finish(&store);
    let further = |store: &Path, resume: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_srlora"));
        command.arg("train").arg(handwriting("handwriting.bundle")).arg("--data").arg(handwriting("train"));
        command.args(["--steps", "60", "--interval", "5", "--from"]).arg(store).args(resume);
        command.stdout(Stdio::null()).stderr(Stdio::piped());
        command
    };
    assert!(further(&whole, &[]).status().unwrap().success());
    // Imprinting is under way: all that is there of the lesson is that it was announced.
    let announced = store.join("checkpoint-000000.safetensors");
    let (code, said) = ended_at(further(&store, &[]).spawn().unwrap(), &announced, "-TERM");
    assert!(code == Some(143) && said.contains("stopped ") && said.contains("--resume"), "{said}");
    let (code, said) = ended_at(further(&store, &["--resume"]).spawn().unwrap(), &announced, "-KILL");
    assert_eq!(code, None, "{said}");
    let output = further(&store, &["--resume"]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(generations(&store), generations(&whole));
    assert!(store.join("generation-000003.safetensors").exists());
}

#[test]
fn two_lessons_that_begin_at_once_leave_one_whole_store() {
    let place = TempDir::new().unwrap();
    let whole = place.path().join("whole");
    finish(&whole);
    for round in 0..5 {
        let store = place.path().join(format!("store-{round}"));
        let both = [(); 2].map(|()| lesson(&store).spawn().unwrap()).map(wait_with_stderr);
        assert!(both.iter().any(|(code, _)| *code == Some(0)), "{both:?}");
        assert!(generations(&store) == generations(&whole), "{both:?}");
    }
}

#[test]
fn a_second_lesson_or_any_other_change_of_a_store_is_refused_while_a_lesson_runs() {
    let place = TempDir::new().unwrap();
    let store = place.path().join("store");
    let mut child = lesson(&store).spawn().unwrap();
    while !store.join("metrics.jsonl").exists() {
        std::thread::sleep(Duration::from_millis(2));
    }
    Command::new("kill").args(["-STOP", &child.id().to_string()]).status().unwrap();
    let change = |args: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_srlora"));
        command.args(&args[..1]).arg(&store).args(&args[1..]);
        command
    };
    let changes = [lesson(&store), change(&["rollback"]), change(&["forget", "3"])];
    let refusals = changes.map(|mut command| command.output().unwrap());
    child.kill().unwrap();
    child.wait().unwrap();
    for output in refusals {
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.code() == Some(1) && said.contains("another writer"), "{said}");
    }
    finish(&store);
}

#[test]
fn a_lesson_that_runs_out_of_memory_anywhere_goes_on_to_the_same_bytes() {
    let place = TempDir::new().unwrap();
    let [whole, store] = ["whole", "store"].map(|name| place.path().join(name));
    finish(&whole);
    let (mut failed, mut with_store) = (0, 0);
    // From too little address space to load the program up to enough for the whole lesson.
    for kib in (8 << 10..).step_by(128) {
        let limited = lesson(&store);
        let words = [limited.get_program()].into_iter().chain(limited.get_args());
        let words: Vec<_> = words.map(|word| format!("'{}'", word.to_str().unwrap())).collect();
        let command = format!("ulimit -c 0 -v {kib}; exec {}", words.join(" "));
        let output = Command::new("bash").args(["-c", &command]).output().unwrap();
        if output.status.success() {
            break;
        }
        failed += 1;
        with_store += usize::from(store.exists());
    }
    finish(&store);
    assert_eq!(generations(&store), generations(&whole));
    println!("{failed} lessons ran out of memory, {with_store} of them after the store had appeared");
    assert!(failed > 4);
}

/// A file system of `kib` KiB that is gone with this.
struct Small {
    place: TempDir,
}

impl Small {
    /// `None` where this process may not mount one.
    fn mount(kib: u64) -> Option<Self> {
        let place = TempDir::new().unwrap();
        let size = format!("size={kib}k");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(place.path()).output();
        mounted.is_ok_and(|output| output.status.success()).then_some(Small { place })
    }

    fn remount(&self, options: &str) {
        let options = format!("remount,{options}");
        let done = Command::new("mount").args(["-o", &options]).arg(self.place.path()).status().unwrap();
        assert!(done.success());
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.place.path()).status();
    }
}

#[test]
fn a_disk_too_small_for_a_lesson_is_left_as_it_is_and_one_too_small_for_its_cache_ends_in_the_same_bytes() {
    let Some(small) = Small::mount(4096) else {
        eprintln!("\n!! NOT CHECKED on a small disk: this process may not mount one\n");
        return;
    };
    let place = TempDir::new().unwrap();
    let whole = place.path().join("whole");
    finish(&whole);
    let store = small.place.path().join("store");
    let mut refused = 0;
    // From too little for anything to enough for what is kept.
    for kib in (4..8192).step_by(24) {
        small.remount(&format!("size={kib}k"));
        let output = lesson(&store).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        if output.status.success() {
            assert!(said.contains("the cache keeps"), "{kib} KiB: {said}");
            println!("{refused} sizes of a disk are too small for the lesson; at {kib} KiB: {said}");
            break;
        }
        refused += 1;
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains("make room there") || said.contains("takes no new files"), "{kib} KiB: {said}");
        assert!(!store.exists(), "{kib} KiB: it was begun");
    }
    assert!(refused > 2, "the disk was never too small");
    assert_eq!(generations(&store), generations(&whole));
}

/// Fills a disk, as something else may, to the last byte.
fn fill(folder: &Path) -> PathBuf {
    let path = folder.join("filler");
    let mut file = fs::File::create(&path).unwrap();
    while file.write_all(&[1; 4096]).is_ok() {}
    path
}

#[test]
fn a_disk_that_gets_full_or_read_only_stops_a_lesson_with_a_clear_error_and_what_was_kept_stays() {
    let Some(small) = Small::mount(8192) else {
        eprintln!("\n!! NOT CHECKED on a full disk: this process may not mount one\n");
        return;
    };
    let place = TempDir::new().unwrap();
    let whole = place.path().join("whole");
    finish(&whole);
    let expected = generations(&whole);
    let mut stopped = 0;
    // Once the head is imprinted, and after ever more steps.
    for step in [None, Some(1), Some(9), Some(17), Some(33), Some(50)] {
        let store = small.place.path().join(format!("store-{}", step.unwrap_or(0)));
        let mut child = lesson(&store).args(["--cache", "ram"]).spawn().unwrap();
        let is_there = || match step {
            None => store.join("generation-000001.safetensors").exists(),
            Some(step) => checkpoint(&store) >= Some(step),
        };
        while !is_there() && child.try_wait().unwrap().is_none() {
            std::thread::sleep(Duration::from_micros(200));
        }
        let signal = |name: &str| Command::new("kill").args([name, &child.id().to_string()]).status().unwrap();
        signal("-STOP");
        let filler = fill(small.place.path());
        let first = fs::read(store.join("generation-000001.safetensors")).unwrap();
        signal("-CONT");
        let (code, said) = wait_with_stderr(child);
        fs::remove_file(filler).unwrap();
        if code == Some(1) {
            stopped += 1;
            assert!(said.contains("make room there"), "after step {step:?}: {said}");
            assert!(fs::read(store.join("generation-000001.safetensors")).unwrap() == first, "{step:?}");
        } else {
            assert_eq!(code, Some(0), "it had ended: {said}");
        }
        let output = lesson(&store).args(["--cache", "ram"]).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(generations(&store), expected);
    }
    assert!(stopped > 2, "the disk was never full in time");
    let store = small.place.path().join("store-0");
    small.remount("ro");
    for args in [["rollback", store.to_str().unwrap()].as_slice(), &["forget", store.to_str().unwrap(), "3"]] {
        let output = Command::new(env!("CARGO_BIN_EXE_srlora")).args(args).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.code() == Some(1) && said.contains("make it writable"), "{said}");
    }
    let seen = Command::new(env!("CARGO_BIN_EXE_srlora")).args(["inspect"]).arg(&store).output().unwrap();
    assert!(seen.status.success(), "a reader needs to write nothing");
    println!("a disk that got full in {stopped} lessons, and a read-only one: what was kept stays");
}
