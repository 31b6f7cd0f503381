//! Tensors whose memory can be used again.
//!
//! tract aligns its tensors to 64 bytes. The C library of most devices (glibc before 2.38, its bug 14581) does not reuse such
//! memory well: a heap grows with every photo. Our nodes make the large tensors of a run, so they ask for what `malloc` gives
//! anyway.

use tract_onnx::prelude::*;

/// In bytes: the alignment of every allocation on 64-bit systems, enough for f32 and i64 anywhere.
const ALIGNMENT: usize = 16;

/// A tensor of zeros.
pub(crate) fn zeros(shape: &[usize]) -> TractResult<Tensor> {
    Tensor::zero_aligned::<f32>(shape, ALIGNMENT)
}

/// A tensor with these values, row-major.
pub(crate) fn tensor<T: Datum + Copy>(shape: &[usize], values: &[T]) -> TractResult<Tensor> {
    Tensor::from_shape_align(shape, values, ALIGNMENT)
}
