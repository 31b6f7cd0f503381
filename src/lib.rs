//! srlora lets a small device learn: a frozen vision classifier is personalized on the device, from a handful of photos.
//!
//! ```text
//! core      the algorithm: pairs, importance, recomposition, delta, head   no_std, no allocator
//! adapter   core state in host-owned buffers, batched kernels              ndarray
//! backbone  the frozen network: ONNX, sites, split                         tract
//! autodiff  the backward pass as a graph transform                         tract
//! bundle    what ships: backbone, directions, preprocessing                safetensors, faer
//! session   what happens on the device: photos, training, stores
//! lab       what only measures: methods compared, devices simulated
//! cli       the `srlora` command
//! ```
//!
//! Each layer uses only those above it in this list. Without features the crate is `core` alone; `std` adds everything up
//! to `lab`, `cli` the binary, `defmt` formats and log points in the core.
//!
//! **Memory.** The core allocates nothing: buffers are lent, [`core::SiteShape`] gives their lengths. On the host the frozen
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
pub mod lab;
#[cfg(feature = "std")]
pub mod limits;
#[cfg(feature = "std")]
pub mod session;

#[cfg(feature = "std")]
pub use error::{Error, ErrorKind, Result};
