//! What was learned, in the files of others.
//!
//! In: a bundle and a store. Out: one ONNX file that any runtime serves, in which the vendor's file is found again byte by byte, with
//! what was learned merged into the weights of the sites, and the new classifier. Before it has its name, the file is read again by this
//! program's own loader, and what it says of photos is compared with what the adapted network says.
//!
//! ```text
//! metadata  what the file says of itself
//! moments   what the sites read, which decides how weights are rounded
//! check     the file against the adapted network
//! finite    whether what came from outside can be run
//! onnx      the export
//! ```

mod check;
mod finite;
mod metadata;
mod moments;
mod onnx;

pub use check::SelfCheck;
pub(crate) use check::{Answers, Difference, read_back};
pub(crate) use finite::makes_finite;
pub(crate) use metadata::{of_bundle, unknown_below};
pub(crate) use onnx::SAME;

pub use onnx::{ExportReport, ExportedFile, ExportedSite, OnnxRequest, export_onnx};
