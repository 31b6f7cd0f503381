//! The examples, one after the other, on the photos of the demo.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

/// What `cargo test` has built beside this test.
fn example(name: &str) -> PathBuf {
    let own = std::env::current_exe().unwrap();
    own.parent().and_then(Path::parent).unwrap().join("examples").join(name)
}

#[track_caller]
fn run(name: &str, arguments: &[&Path]) -> String {
    let Output { status, stdout, stderr } =
        Command::new(example(name)).args(arguments).stdin(Stdio::null()).output().unwrap();
    let [stdout, stderr] = [stdout, stderr].map(|bytes| String::from_utf8(bytes).unwrap());
    print!("-- {name}\n{stdout}{stderr}");
    assert!(status.success(), "{name}: {status}");
    stdout
}

#[test]
fn every_example_does_what_it_says() {
    let demo = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/handwriting");
    let (bundle, train, val) = (demo.join("handwriting.bundle"), demo.join("train"), demo.join("val"));
    let place = TempDir::new().unwrap();
    let [store, frames] = ["my.store", "frames.store"].map(|name| place.path().join(name));

    let said = run("folder", &[&bundle, &train, &val, &store]);
    assert!(said.contains("120 steps on 120 photos of 0, 1, 2, 3, 4, 5, 6, 7, 8, 9"), "{said}");
    let percent: f64 = said.lines().last().and_then(|line| line.split(' ').next()).unwrap().parse().unwrap();
    assert!(said.contains("of 400 other photos are recognized") && percent > 70.0, "{said}");

    let said = run("classify", &[&bundle, &store, &val.join("7/0061.png")]);
    assert!(said.contains(" %  ") && said.matches("a frame of ").count() == 4, "{said}");

    let said = run("further", &[&bundle, &store, &train]);
    assert!(
        said.contains("before ") && said.contains("what generation 1 held is current again, as number 4"),
        "{said}"
    );

    let said = run("store", &[&store]);
    assert!(said.contains("generation 4 of [4, 3, 2, 1], 0 lessons kept aside"), "{said}");

    let said = run("memory", &[&bundle, &frames]);
    assert!(said.contains("step 30: loss ") && said.contains("generation 2 is current"), "{said}");
}
