//! The committed corpus of `fuzz/`, without a fuzzer: what once broke something must not do so again, nor what is near it.

use std::fs;
use std::path::Path;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

#[expect(unreachable_pub, reason = "the fuzzers use it too")]
#[path = "../fuzz/src/targets.rs"]
mod targets;

/// Runs every file of a target's corpus, whole and cut in half, and then `mutations` of them, the same each time.
fn each(target: &str, mutations: u32, run: impl Fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let mut paths: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let files: Vec<Vec<u8>> = paths.iter().map(|path| fs::read(path).unwrap()).collect();
    assert!(!files.is_empty());
    for bytes in &files {
        run(bytes);
        run(&bytes[..bytes.len() / 2]);
    }
    let mut chance = ChaCha8Rng::seed_from_u64(7);
    (0..mutations).for_each(|_| run(&mutated(&files, &mut chance)));
    println!("{target}: {} files, {mutations} mutations", files.len());
}

/// A file with some changes: bytes replaced, taken out, doubled, or taken from another file.
fn mutated(files: &[Vec<u8>], chance: &mut ChaCha8Rng) -> Vec<u8> {
    let mut any = |end: usize| chance.random_range(0..end.max(1));
    let mut bytes = files[any(files.len())].clone();
    for _ in 0..=any(4) {
        let [from, len] = [any(bytes.len()), 1 + any(16)];
        let to = bytes.len().min(from + len);
        match any(5) {
            0 => bytes[from..to].iter_mut().for_each(|byte| *byte = any(256) as u8),
            1 => bytes[from..to].iter_mut().take(1).for_each(|byte| *byte ^= 1 << any(8)),
            2 => drop(bytes.drain(from..to)),
            3 => bytes.splice(from..from, bytes[from..to].to_vec()).for_each(drop),
            _ => {
                let other = &files[any(files.len())];
                let start = any(other.len());
                bytes.splice(from..to, other[start..other.len().min(start + len)].iter().copied()).for_each(drop);
            }
        }
    }
    bytes
}

#[test]
fn bundles() {
    each("bundle", 10_000, targets::bundle);
}

#[test]
fn generations() {
    each("store", 10_000, targets::store);
}

#[test]
fn models() {
    each("onnx", 10_000, targets::onnx);
}

#[test]
fn exports() {
    let good = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/onnx/good");
    assert!(targets::export(&fs::read(good).unwrap()), "a good model is exported");
    each("onnx", 3_000, |bytes| {
        targets::export(bytes);
    });
}

#[test]
fn adapters() {
    each("peft", 10_000, targets::peft);
}

#[test]
fn photos() {
    each("image", 10_000, targets::image);
}

#[test]
fn specifications() {
    each("specs", 10_000, targets::specs);
}

#[test]
fn requests() {
    each("requests", 10_000, targets::requests);
}

#[test]
fn operations_on_a_store() {
    each("operations", 1_000, targets::operations);
}
