//! From the features tensor to one vector for each image.

use tract_onnx::prelude::*;
use tract_onnx::tract_core::internal::*;
use tract_onnx::tract_core::ops::math;
use tract_onnx::tract_core::ops::nn::{Reduce, Reducer};

use super::nodes::concrete;

/// Pools and flattens the only output to `[batch, features]`: the mean over rows and columns of a map, or over the
/// tokens of a sequence.
pub(crate) fn pool_features(model: &mut TypedModel) -> TractResult<()> {
    let mut outlet = *model.output_outlets()?.first().context("no output")?;
    let shape = concrete(model.outlet_fact(outlet)?)?;
    ensure!(shape.len() >= 2, "the features tensor has the shape {shape:?}; it needs a batch axis and a feature axis");
    let pooled: TVec<usize> = match shape.len() {
        2 => tvec!(),
        3 => tvec!(1),
        rank => (2..rank).collect(),
    };
    let count: usize = pooled.iter().map(|&axis| shape[axis]).product();
    if count > 1 {
        outlet = model.wire_node("features.sum", Reduce::new(pooled.clone(), Reducer::Sum), &[outlet])?[0];
        let share = model.add_const("features.share", tensor0(1.0 / count as f32).broadcast_into_rank(shape.len())?)?;
        outlet = model.wire_node("features.mean", math::mul(), &[outlet, share])?[0];
    }
    for &axis in pooled.iter().rev() {
        outlet = model.wire_node(format!("features.flat.{axis}"), AxisOp::Rm(axis), &[outlet])?[0];
    }
    model.select_output_outlets(&[outlet])
}
