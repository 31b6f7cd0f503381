//! The algorithm, without an operating system: no std, no allocator, no unsafe.
//!
//! Every buffer is lent by the caller; [`SiteShape`] says how long each must be, in `const fn`s. A [`Site`] is a view
//! over such buffers and does everything that happens to one adapted linear map:
//!
//! ```text
//! forward  ->  backward  ->  score  ->  adamw  ->  recompose, if it is due
//! ```
//!
//! The methods of [`Method`] are settings of this one mechanism. Nothing here panics, whatever the values of its arguments and
//! of the open fields of its types: lengths are checked, with the numbers in the error.

#![forbid(unsafe_code)]

mod delta;
#[cfg(test)]
mod edges;
mod error;
#[cfg(feature = "defmt")]
mod format;
mod head;
mod importance;
mod ledger;
mod math;
mod method;
mod optimizer;
mod quant;
mod recompose;
mod record;
mod schedule;
mod shape;
mod site;
mod start;
#[cfg(test)]
mod tests;

pub use delta::{Delta, DeltaRef, Terms};
pub use error::{Buffer, CoreError};
pub use head::{IMPRINT_SCALE, Imprint, cross_entropy, head_backward, head_forward, softmax};
pub use ledger::Ledger;
pub use method::{Method, MethodSettings};
pub use optimizer::{AdamW, Correction};
pub use quant::{Floats, Weight, int8_blocks, int8_code, int8_rows, int8_scale};
pub use recompose::{FuseOrder, Recompose, Recomposition};
pub use record::{RECORD_VERSION, RecordError, RecordReader, RecordWriter};
pub use schedule::{PairRate, Schedule};
pub use shape::{MAX_BLOCK, PLANES, Sides, SiteShape};
pub use site::{Site, SiteConfig};
pub use start::{Directions, Start, StartRow};
