//! Quantized forms of a network: read into float form, and written.
//!
//! In: a decoded graph with quantizers, or operators that compute with integers, and its constants. Out: the same graph in float
//! form ([`to_float()`]), where weights keep their codes and activations are not rounded. The other way round, [`encode()`] makes of
//! the bytes of an fp32 file those of one whose weights are int8 or f16, which any ONNX runtime loads.

mod encode;
mod float_form;
mod grid;
mod integer;
mod rewriter;

pub use encode::{Precision, encode};
pub(crate) use float_form::{MOVES, to_float};
