//! The committed corpus of `fuzz/`, without a fuzzer: what once broke something must not do so again.

use std::fs;
use std::path::Path;

#[expect(unreachable_pub, reason = "the fuzzers use it too")]
#[path = "../fuzz/src/targets.rs"]
mod targets;

/// Runs every file of a target's corpus, whole and cut in half.
fn each(target: &str, run: impl Fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let mut count = 0;
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let bytes = fs::read(entry.path()).unwrap();
        run(&bytes);
        run(&bytes[..bytes.len() / 2]);
        count += 1;
    }
    println!("{target}: {count} files");
    assert!(count > 0);
}

#[test]
fn bundles() {
    each("bundle", targets::bundle);
}

#[test]
fn generations() {
    each("store", targets::store);
}

#[test]
fn models() {
    each("onnx", targets::onnx);
}

#[test]
fn photos() {
    each("image", targets::image);
}

#[test]
fn specifications() {
    each("specs", targets::specs);
}

#[test]
fn operations_on_a_store() {
    each("operations", targets::operations);
}
