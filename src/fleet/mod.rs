//! What devices of a fleet learn from each other: what was trained, out of a store and into one, as arrays with names.
//!
//! In: a bundle, and a store or arrays. Out: arrays, or a new generation, which is tried before it counts. How arrays of many devices become
//! one is no matter of this crate: where A stays on the bundle's directions, their mean is exact.
//!
//! ```text
//! arrays  names and shapes, and what is wrong with what came from outside
//! read    what a store's current generation has trained
//! write   such arrays as a new generation
//! ```

mod arrays;
mod read;
mod write;

pub use arrays::{NamedArray, Trained};
pub use read::trained;
pub use write::{Adopted, adopt};
