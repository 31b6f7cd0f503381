//! The site as a node of the graph: y' = y + D x + scale (B A x - B0 A0 x), with y = W x from the frozen map before it.
//!
//! The pairs are not inputs of the graph: the op reads them from the shared [`Adapter`], so one optimized plan serves
//! every step. Without an adapter the node passes y on; that is how the bare backbone runs.

use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use ndarray::{Array2, ArrayView2, ArrayView3, ArrayViewMut2, ArrayViewMut3};
use tract_onnx::tract_core::internal::*;

use super::patches::{fold_into, unfold};
use super::sites::{ConvGeometry, SiteKind};
use crate::adapter::{Adapter, PairGradients};

/// The adapter of a network, read by its plans and written between steps.
pub type SharedAdapter = Arc<RwLock<Adapter>>;

/// Reads the adapter; a panic elsewhere while it was written does not make its numbers unreadable.
pub(crate) fn read(adapter: &SharedAdapter) -> RwLockReadGuard<'_, Adapter> {
    adapter.read().unwrap_or_else(PoisonError::into_inner)
}

/// Inputs (x, y); output y'.
#[derive(Debug, Clone)]
pub(crate) struct SiteOp {
    pub(crate) index: usize,
    pub(crate) kind: SiteKind,
    pub(crate) adapter: Option<SharedAdapter>,
}

/// Inputs (dy, x); outputs dA `[rank, in_dim]`, dB transposed `[rank, out_dim]` and, if `wants_input`, the part of dx
/// that passes through the site: D^T dy + scale (A^T B^T - A0^T B0^T) dy.
#[derive(Debug, Clone)]
pub(crate) struct SiteGradient {
    pub(crate) site: SiteOp,
    pub(crate) wants_input: bool,
}

impl PartialEq for SiteOp {
    fn eq(&self, other: &Self) -> bool {
        let same = match (&self.adapter, &other.adapter) {
            (Some(a), Some(b)) => Arc::ptr_eq(a, b),
            (a, b) => a.is_none() && b.is_none(),
        };
        same && self.index == other.index && self.kind == other.kind
    }
}

impl Eq for SiteOp {}

impl PartialEq for SiteGradient {
    fn eq(&self, other: &Self) -> bool {
        self.site == other.site && self.wants_input == other.wants_input
    }
}

impl Eq for SiteGradient {}

/// Calls `visit` with the columns `[in_dim, positions]` of x and the matching columns `[out_dim, positions]` of y, one
/// image at a time for convolutions.
fn each_image(
    kind: &SiteKind,
    x: &Tensor,
    y: &mut Tensor,
    mut visit: impl FnMut(ArrayView2<f32>, ArrayViewMut2<f32>),
) -> TractResult<()> {
    match kind {
        SiteKind::Linear => {
            let (x, mut y) = (rows(x)?, rows_mut(y)?);
            visit(x.t(), y.view_mut().reversed_axes());
        }
        SiteKind::Conv(geometry) => {
            for image in 0..images(x)? {
                let (x, mut y) = (image_of(x, image)?, image_of_mut(y, image)?);
                let output = [y.dim().1, y.dim().2];
                let columns = columns(geometry, &x, output);
                visit(columns.view(), flat_mut(&mut y)?);
            }
        }
    }
    Ok(())
}

fn columns(geometry: &ConvGeometry, x: &ArrayView3<f32>, output: [usize; 2]) -> Array2<f32> {
    if is_pointwise(geometry) {
        let (channels, height, width) = x.dim();
        if let Ok(flat) = x.to_shape((channels, height * width)) {
            return flat.into_owned();
        }
    }
    unfold(geometry, x.view(), output)
}

fn is_pointwise(geometry: &ConvGeometry) -> bool {
    geometry.kernel == [1, 1] && geometry.stride == [1, 1]
}

fn rows(t: &Tensor) -> TractResult<ArrayView2<'_, f32>> {
    let width = *t.shape().last().context("a scalar at a site")?;
    let view = t.to_plain_array_view::<f32>()?;
    Ok(view.into_shape_with_order((t.len() / width.max(1), width))?)
}

fn rows_mut(t: &mut Tensor) -> TractResult<ArrayViewMut2<'_, f32>> {
    let (len, width) = (t.len(), *t.shape().last().context("a scalar at a site")?);
    let view = t.to_plain_array_view_mut::<f32>()?;
    Ok(view.into_shape_with_order((len / width.max(1), width))?)
}

fn images(t: &Tensor) -> TractResult<usize> {
    ensure!(t.rank() == 4, "a convolution site on a tensor of shape {:?}", t.shape());
    Ok(t.shape()[0])
}

fn image_of(t: &Tensor, image: usize) -> TractResult<ArrayView3<'_, f32>> {
    let view = t.to_plain_array_view::<f32>()?;
    Ok(view.index_axis_move(tract_ndarray::Axis(0), image).into_dimensionality()?)
}

fn image_of_mut(t: &mut Tensor, image: usize) -> TractResult<ArrayViewMut3<'_, f32>> {
    let view = t.to_plain_array_view_mut::<f32>()?;
    Ok(view.index_axis_move(tract_ndarray::Axis(0), image).into_dimensionality()?)
}

fn flat_mut<'v>(y: &'v mut ArrayViewMut3<f32>) -> TractResult<ArrayViewMut2<'v, f32>> {
    let (channels, height, width) = y.dim();
    Ok(y.view_mut().into_shape_with_order((channels, height * width))?)
}

impl Op for SiteOp {
    fn name(&self) -> StaticName {
        "Site".into()
    }
    op_as_typed_op!();
}

impl EvalOp for SiteOp {
    // The pairs change between runs, so no constant may be made of a site.
    not_out_of_plan!();

    fn eval(&self, _ctx: &EvalContext, mut inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let y = inputs.pop().context("a site without y")?;
        let Some(adapter) = &self.adapter else { return Ok(tvec!(y)) };
        let x = inputs.pop().context("a site without x")?;
        let mut y = y.into_tensor();
        let adapter = read(adapter);
        each_image(&self.kind, &x, &mut y, |x, y| adapter.sites[self.index].forward(x, y))?;
        Ok(tvec!(y.into_tvalue()))
    }
}

impl TypedOp for SiteOp {
    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        ensure!(inputs.len() == 2, "a site takes x and y");
        Ok(tvec!(inputs[1].without_value()))
    }
    as_op!();
}

impl Op for SiteGradient {
    fn name(&self) -> StaticName {
        "SiteGradient".into()
    }
    op_as_typed_op!();
}

impl EvalOp for SiteGradient {
    not_out_of_plan!();

    fn eval(&self, _ctx: &EvalContext, mut inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let (x, dy) = (inputs.pop().context("no x")?, inputs.pop().context("no dy")?);
        let adapter = read(self.site.adapter.as_ref().context("a site without an adapter has no gradient")?);
        let site = &adapter.sites[self.site.index];
        let mut pairs = site.zero_gradients();
        let mut dx = if self.wants_input { Some(Tensor::zero::<f32>(x.shape())?) } else { None };
        match &self.site.kind {
            SiteKind::Linear => {
                let mut dx = dx.as_mut().map(rows_mut).transpose()?;
                let dx = dx.as_mut().map(|dx| dx.view_mut().reversed_axes());
                site.backward(rows(&x)?.t(), rows(&dy)?.t(), dx, &mut pairs);
            }
            SiteKind::Conv(geometry) => {
                for image in 0..images(&x)? {
                    let dx = dx.as_mut().map(|dx| image_of_mut(dx, image)).transpose()?;
                    conv_backward(geometry, site, image_of(&x, image)?, image_of(&dy, image)?, dx, &mut pairs)?;
                }
            }
        }
        let PairGradients { a, b_t } = pairs;
        let mut outputs = tvec!(Tensor::from(a.into_dyn()).into_tvalue(), Tensor::from(b_t.into_dyn()).into_tvalue());
        outputs.extend(dx.map(IntoTValue::into_tvalue));
        Ok(outputs)
    }
}

fn conv_backward(
    geometry: &ConvGeometry,
    site: &crate::adapter::SiteBuffers,
    x: ArrayView3<f32>,
    dy: ArrayView3<f32>,
    dx: Option<ArrayViewMut3<f32>>,
    pairs: &mut PairGradients,
) -> TractResult<()> {
    let (out_dim, height, width) = dy.dim();
    let output = [height, width];
    let columns = columns(geometry, &x, output);
    let dy = dy.into_shape_with_order((out_dim, height * width))?;
    match dx {
        None => site.backward(columns.view(), dy, None, pairs),
        Some(mut dx) if is_pointwise(geometry) => {
            site.backward(columns.view(), dy, Some(flat_mut(&mut dx)?), pairs);
        }
        Some(dx) => {
            let mut dcolumns = Array2::zeros(columns.dim());
            site.backward(columns.view(), dy, Some(dcolumns.view_mut()), pairs);
            fold_into(geometry, &dcolumns, output, dx);
        }
    }
    Ok(())
}

impl TypedOp for SiteGradient {
    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        let adapter = read(self.site.adapter.as_ref().context("a site without an adapter has no gradient")?);
        let shape = adapter.sites[self.site.index].shape;
        let mut facts = tvec!(f32::fact([shape.rank, shape.in_dim]), f32::fact([shape.rank, shape.out_dim]));
        if self.wants_input {
            facts.push(inputs[1].without_value());
        }
        Ok(facts)
    }
    as_op!();
}
