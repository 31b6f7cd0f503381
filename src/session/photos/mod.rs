//! The photos that a lesson learns from: which there are, what is in them, and how they become the network's input.
//!
//! In come a folder with a folder per class, and a bundle's preprocessing. Out go photos with their classes, in an order that follows
//! from a seed; the pixels of each, cut, resized and normalized; and the names of those that cannot be read.

mod dataset;
mod duplicates;
mod image;

pub use dataset::{Dataset, Ignored, Quarantine, Quarantined, Sample, order};
pub(crate) use dataset::{Slot, ignored, stream};
pub(crate) use duplicates::{Hashed, refuse_shared_folder};
pub use image::{Augment, load};
pub(crate) use image::{footprint, pixels};
