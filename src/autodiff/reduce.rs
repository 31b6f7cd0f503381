//! Sums, extremes, mean of squares, RMS normalization, softmax: ops that mix the elements of an axis.

use tract_onnx::prelude::*;
use tract_onnx::tract_core::internal::*;
use tract_onnx::tract_core::ops::binary::TypedBinOp;
use tract_onnx::tract_core::ops::cast::cast;
use tract_onnx::tract_core::ops::logic::comp_eq;
use tract_onnx::tract_core::ops::math;
use tract_onnx::tract_core::ops::nn::{Reduce, Reducer, RmsNorm, Softmax, SoftmaxKind};

use super::{InputGradients, Tape};

pub(super) fn rule(
    tape: &mut Tape,
    node: &TypedNode,
    g: OutletId,
    _wanted: &[bool],
) -> TractResult<Option<InputGradients>> {
    let (x, y) = (node.inputs[0], OutletId::new(node.id, 0));
    let dx = if let Some(op) = node.op_as::<Reduce>() {
        match op.reducer {
            Reducer::Sum => {
                let shape = tape.shape(x)?;
                tape.broadcast(g, &shape)?
            }
            Reducer::MeanOfSquares => mean_of_squares(tape, &op.axes, x, g)?,
            Reducer::Max | Reducer::Min => extreme(tape, &op.axes, [x, y], g)?,
            _ => return Ok(None),
        }
    } else if let Some(op) = node.op_as::<RmsNorm>() {
        rms_norm(tape, op, x, y, g)?
    } else if let Some(op) = node.op_as::<Softmax>() {
        ensure!(op.quant_output_dt.is_none(), "a quantized softmax");
        softmax(tape, op, y, g)?
    } else {
        return Ok(None);
    };
    Ok(Some(tvec!(Some(dx))))
}

/// y = max(x) or min(x); g goes to where x = y, in equal shares.
fn extreme(tape: &mut Tape, axes: &[usize], [x, y]: [OutletId; 2], g: OutletId) -> TractResult<OutletId> {
    let shape = tape.shape(x)?;
    let y = tape.broadcast(y, &shape)?;
    let winners = tape.wire("winners", TypedBinOp(comp_eq(), None), &[x, y])?;
    let winners = tape.wire("winners", cast(f32::datum_type()), &[winners])?;
    let count = tape.sum(winners, axes)?;
    let share = tape.binary(math::div(), g, count)?;
    tape.mul(winners, share)
}

/// y = sum(x^2) / n; dx = 2 x g / n.
fn mean_of_squares(tape: &mut Tape, axes: &[usize], x: OutletId, g: OutletId) -> TractResult<OutletId> {
    let shape = tape.shape(x)?;
    let count: usize = axes.iter().map(|&axis| shape[axis]).product();
    let product = tape.mul(x, g)?;
    tape.times(product, 2.0 / count as f32)
}

/// y = x r, r = (mean(x^2) + eps)^(-1/2); dx = r (g - y mean(g y)).
fn rms_norm(tape: &mut Tape, op: &RmsNorm, x: OutletId, y: OutletId, g: OutletId) -> TractResult<OutletId> {
    let shape = tape.shape(x)?;
    let square = tape.wire("square", Reduce::new(tvec!(op.axis), Reducer::MeanOfSquares), &[x])?;
    let eps = tape.constant(op.eps.clone().into_tensor().broadcast_into_rank(shape.len())?)?;
    let square = tape.add(square, eps)?;
    let r = tape.wire("rsqrt", math::rsqrt(), &[square])?;
    let gy = tape.mul(g, y)?;
    let gy = tape.sum(gy, tvec!(op.axis))?;
    let mean = tape.times(gy, 1.0 / shape[op.axis] as f32)?;
    let along = tape.mul(y, mean)?;
    let across = tape.binary(math::sub(), g, along)?;
    tape.mul(across, r)
}

/// Softmax: dx = y (g - sum(g y)). LogSoftmax: dx = g - exp(y) sum(g).
fn softmax(tape: &mut Tape, op: &Softmax, y: OutletId, g: OutletId) -> TractResult<OutletId> {
    match op.kind {
        SoftmaxKind::Softmax => {
            let gy = tape.mul(g, y)?;
            let total = tape.sum(gy, op.axes.clone())?;
            let centred = tape.binary(math::sub(), g, total)?;
            tape.mul(centred, y)
        }
        SoftmaxKind::LogSoftmax => {
            let p = tape.wire("exp", math::exp(), &[y])?;
            let total = tape.sum(g, op.axes.clone())?;
            let share = tape.mul(p, total)?;
            tape.binary(math::sub(), g, share)
        }
    }
}
