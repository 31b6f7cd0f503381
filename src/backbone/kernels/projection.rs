//! A x of a site's pairs, kept from the forward pass for their gradient.
//!
//! One-sided pairs are many. Where they run beside W, A x is a third of their work, and dB = scale dy (A x)^T needs nothing else of x.

use faer::{MatMut, MatRef};
use tract_onnx::tract_core::internal::*;

use super::product::is_one_band;
use super::views::{columns, floats, floats_mut, images, images_mut};
use crate::adapter::SiteBuffers;
use crate::backbone::maps::MapKind;

/// The shape of A x for an x of shape `input`, `[images, pairs, positions]`, where it is worth keeping: where pairs run beside W and see
/// all positions of an image at once.
pub(super) fn projection_shape(kind: &MapKind, site: &SiteBuffers, input: &[usize]) -> TractResult<Option<[usize; 3]>> {
    let [images, positions] = match (kind, input) {
        (MapKind::Linear, [positions @ .., _]) => [1, positions.iter().product()],
        (MapKind::Conv(geometry), [images, _, height, width]) => {
            let is_flat = geometry.is_pointwise() && geometry.group == 1 && is_one_band(height * width);
            if !is_flat {
                return Ok(None);
            }
            [*images, height * width]
        }
        _ => bail!("a map of {kind:?} on a tensor of shape {input:?}"),
    };
    Ok(site.keeps_projection(positions).then_some([images, site.shape.rank, positions]))
}

/// A x.
pub(super) fn project(kind: &MapKind, site: &SiteBuffers, x: &Tensor) -> TractResult<Tensor> {
    let shape = projection_shape(kind, site, x.shape())?.context("an input whose A x is not kept")?;
    let [_, pairs, positions] = shape;
    let mut projected = Tensor::zero::<f32>(&shape)?;
    for (x, to) in matrices(kind, x)?.into_iter().zip(images_mut(floats_mut(&mut projected)?, &shape)) {
        site.project(x, MatMut::from_row_major_slice_mut(to, pairs, positions));
    }
    Ok(projected)
}

/// x or dy as the weight sees it, `[channels, positions]`: one matrix of a linear map, one an image of a pointwise convolution.
pub(super) fn matrices<'t>(kind: &MapKind, t: &'t Tensor) -> TractResult<TVec<MatRef<'t, f32>>> {
    match (kind, t.shape()) {
        (MapKind::Linear, _) => Ok(tvec!(columns(t)?)),
        (MapKind::Conv(_), &[_, channels, height, width]) => {
            let matrix = |values| MatRef::from_row_major_slice(values, channels, height * width);
            Ok(images(floats(t)?, t.shape()).map(matrix).collect())
        }
        (kind, shape) => bail!("a map of {kind:?} on a tensor of shape {shape:?}"),
    }
}

/// A x of each image, `[pairs, positions]`.
pub(super) fn projections(kept: &Tensor) -> TractResult<TVec<MatRef<'_, f32>>> {
    let &[_, pairs, positions] = kept.shape() else { bail!("A x of shape {:?}", kept.shape()) };
    let matrix = |values| MatRef::from_row_major_slice(values, pairs, positions);
    Ok(images(floats(kept)?, kept.shape()).map(matrix).collect())
}
