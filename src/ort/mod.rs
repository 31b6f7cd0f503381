//! Adapters as onnxruntime's `LoraAdapter` loads them: one base file for all stores of a bundle, and a small file for each store.
//!
//! In: a bundle and a store. Out: the base, which is the vendor's file with a branch beside each site and a new classifier, all of them
//! inputs with defaults; and the adapter, which holds what these inputs are given. The base follows from the bundle alone, so stores of
//! one bundle share it, however many classes they have.
//!
//! ```text
//! format    the adapter's file
//! contents  what was learned, as tensors, and back
//! export    a store as such files
//! ```

mod contents;
mod export;
mod format;

pub use export::{OrtReport, OrtRequest, OrtSite, export_ort_adapter};
