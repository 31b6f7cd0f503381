//! Tensors of the graph as slices, matrices and images.

use faer::{MatMut, MatRef};
use tract_onnx::tract_core::internal::*;

use super::operands::ImageSize;

pub(crate) fn floats(t: &Tensor) -> TractResult<&[f32]> {
    t.try_as_plain_ram()?.as_slice::<f32>()
}

pub(crate) fn floats_mut(t: &mut Tensor) -> TractResult<&mut [f32]> {
    t.to_plain_array_view_mut::<f32>()?.into_slice().context("a tensor that is not contiguous")
}

/// A column for every row of the last axis: `[width, positions]`.
pub(crate) fn columns(t: &Tensor) -> TractResult<MatRef<'_, f32>> {
    let width = *t.shape().last().context("a scalar at a linear map")?;
    Ok(MatRef::from_column_major_slice(floats(t)?, width, t.len() / width.max(1)))
}

pub(crate) fn columns_mut(t: &mut Tensor) -> TractResult<MatMut<'_, f32>> {
    let (len, width) = (t.len(), *t.shape().last().context("a scalar at a linear map")?);
    Ok(MatMut::from_column_major_slice_mut(floats_mut(t)?, width, len / width.max(1)))
}

pub(crate) fn image_size(shape: &[usize]) -> TractResult<ImageSize> {
    let [_, channels, height, width] = *shape else { bail!("a convolution on a tensor of shape {shape:?}") };
    Ok(ImageSize { channels, size: [height, width] })
}

pub(crate) fn images<'t>(values: &'t [f32], shape: &[usize]) -> impl Iterator<Item = &'t [f32]> + use<'t> {
    values.chunks_exact(shape[1..].iter().product::<usize>().max(1))
}

pub(crate) fn images_mut<'t>(values: &'t mut [f32], shape: &[usize]) -> impl Iterator<Item = &'t mut [f32]> + use<'t> {
    values.chunks_exact_mut(shape[1..].iter().product::<usize>().max(1))
}
