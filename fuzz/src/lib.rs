//! What is fuzzed. `targets` is also a module of `tests/corpus.rs`, which runs the corpus without a fuzzer.

mod capped;
pub mod targets;

pub use capped::Capped;
