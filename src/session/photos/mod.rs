//! The photos that a lesson learns from: which there are, what is in them, and how they become the network's input.
//!
//! In come a folder with a folder per class, or pixels in memory, and a bundle's preprocessing. Out go photos with
//! their classes, in an order that follows from a seed; the pixels of each, cut, resized and normalized; and the names
//! of those that cannot be read.

mod dataset;
mod duplicates;
mod folder;
mod image;
mod layout;
mod order;
mod picture;
mod quarantine;
#[cfg(test)]
mod tests;

pub(crate) use dataset::Slot;
pub use dataset::{Dataset, Photo};
pub(crate) use duplicates::{Hashed, refuse_shared_folder};
pub use folder::Ignored;
pub(crate) use folder::ignored;
#[cfg(feature = "cli")]
pub(crate) use image::thumbnail;
pub use image::{Augment, load};
pub(crate) use image::{footprint, pixels};
pub use layout::Layout;
pub use order::order;
pub(crate) use order::{balanced_order, stream};
pub use picture::{Picture, Pixels};
pub use quarantine::{Quarantine, Quarantined};
