//! EinSum, tract's form of every matrix product: dA = einsum(g, B), dB = einsum(g, A) over the same axes.

use tract_onnx::prelude::*;
use tract_onnx::tract_core::internal::*;
use tract_onnx::tract_core::ops::einsum::EinSum;

use super::{InputGradients, Tape};

pub(super) fn rule(
    tape: &mut Tape,
    node: &TypedNode,
    g: OutletId,
    wanted: &[bool],
) -> TractResult<Option<InputGradients>> {
    let Some(op) = node.op_as::<EinSum>() else { return Ok(None) };
    ensure!(op.q_params.is_none() && node.inputs.len() == 2, "an einsum that is not a plain product of two");
    let expression = op.axes.to_string();
    let (inputs, output) = expression.split_once("->").context("an einsum without an output")?;
    let (a, b) = inputs.split_once(',').context("an einsum of one input")?;
    let mut gradients: InputGradients = tvec!(None, None);
    for side in [0, 1].into_iter().filter(|&side| wanted[side]) {
        let (own, other) = if side == 0 { (a, b) } else { (b, a) };
        gradients[side] = Some(product(tape, node, g, [own, other, output], side)?);
    }
    Ok(Some(gradients))
}

/// The gradient of one factor. An axis that only this factor has was summed away in the forward pass, so its gradient
/// is the same along it.
fn product(
    tape: &mut Tape,
    node: &TypedNode,
    g: OutletId,
    [own, other, output]: [&str; 3],
    side: usize,
) -> TractResult<OutletId> {
    let shared = |axis: &char| output.contains(*axis) || other.contains(*axis);
    let kept: String = own.chars().filter(shared).collect();
    let axes: AxesMapping = format!("{output},{other}->{kept}").parse()?;
    let mut gradient = tape.wire("product", EinSum::new(axes, f32::datum_type()), &[g, node.inputs[1 - side]])?;
    for (position, _) in own.chars().enumerate().filter(|(_, axis)| !shared(axis)) {
        gradient = tape.wire("axis", AxisOp::Add(position), &[gradient])?;
    }
    let shape = tape.shape(node.inputs[side])?;
    let gradient = tape.unbroadcast(gradient, &shape)?;
    tape.broadcast(gradient, &shape)
}
