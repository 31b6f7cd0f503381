//! srlora lets a small device learn: a frozen vision classifier is personalized on the device, from a handful of photos.
//!
//! ```text
//! core      the algorithm: pairs, importance, recomposition, delta, head   no_std, no allocator
//! adapter   core state in host-owned buffers, batched kernels              ndarray
//! backbone  the frozen network: ONNX, sites, split                         tract
//! autodiff  the backward pass as a graph transform                         tract
//! bundle    what ships: backbone, directions, preprocessing                safetensors, faer
//! session   what happens on the device: photos, training, stores
//! export    what was learned, in the files of others: ONNX
//! peft      adapters of PyTorch's PEFT, in and out                         safetensors
//! fleet     what devices learn from each other: what was trained, as arrays
//! ort       adapters of onnxruntime: one file for all, and a small one for each store
//! lab       what only measures: methods compared, devices simulated
//! report    what a command has found, as a page to look at
//! serve     the page of a device: photos, lessons and what they bring, over HTTP
//! cli       the `srlora` command
//! ```
//!
//! Each layer uses only those above it in this list. Without features the crate is `core` alone; `std` adds everything up
//! to `lab`, `cli` the page and the binary, `defmt` formats and log points in the core.
//!
//! # Train and predict
//!
//! ```
//! use std::path::Path;
//!
//! use srlora::bundle::Bundle;
//! use srlora::session::{Classifier, Length, Lesson, Progress, Store, train};
//!
//! # let place = tempfile::tempdir().unwrap();
//! # let store = place.path().join("my.store");
//! // What `srlora pack` made of an ONNX file, and a folder with a folder of photos for each class.
//! let bundle = Bundle::open(Path::new("models/handwriting/handwriting.bundle"))?;
//! let lesson = Lesson { length: Length::Epochs(2), ..Lesson::new("models/handwriting/train") };
//! let report = train(&bundle, &lesson, &store, &mut |progress: Progress| {
//!     if let Progress::Step { step, loss, .. } = progress {
//!         println!("step {step}: loss {loss}");
//!     }
//! })?;
//! assert_eq!(report.steps, 16);
//!
//! let mut classifier = Classifier::new(&bundle, Some(&Store::open(&store)?))?;
//! let prediction = classifier.predict(Path::new("models/handwriting/val/7/0061.png"), 3)?;
//! println!("{} with {:.0} %", prediction.top[0].label, 100.0 * prediction.top[0].probability);
//! # assert_eq!(prediction.top.len(), 3);
//! # Ok::<(), srlora::Error>(())
//! ```
//!
//! [`session::Trainer`] takes the same lesson step by step, [`session::Dataset::add`] takes photos from memory; `examples/` has both.
//!
//! # Memory
//!
//! The core allocates nothing: buffers are lent, [`core::SiteShape`] gives their lengths. On the host the frozen
//! weights are held once per plan, photos are decoded one at a time, and a training step keeps the activations of one
//! micro-batch (one image, unless the model file fixes a larger batch).
#![cfg_attr(not(feature = "std"), no_std)]

#[cfg(feature = "std")]
pub mod adapter;
#[cfg(feature = "std")]
pub mod autodiff;
#[cfg(feature = "std")]
pub mod backbone;
#[cfg(feature = "std")]
pub mod bundle;
#[cfg(feature = "cli")]
pub mod cli;
pub mod core;
#[cfg(feature = "std")]
mod error;
#[cfg(feature = "std")]
pub mod export;
#[cfg(feature = "std")]
pub mod fleet;
#[cfg(feature = "std")]
pub mod lab;
#[cfg(feature = "std")]
pub mod limits;
#[cfg(feature = "std")]
pub mod ort;
#[cfg(feature = "std")]
pub mod peft;
#[cfg(feature = "cli")]
mod report;
#[cfg(feature = "cli")]
pub mod serve;
#[cfg(feature = "std")]
pub mod session;

#[cfg(feature = "std")]
pub use error::{Error, ErrorKind, Result, with_options};
