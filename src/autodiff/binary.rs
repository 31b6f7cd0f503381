//! y = a op b with broadcasting: add, subtract, multiply, divide, maximum, minimum, power.

use tract_onnx::prelude::*;
use tract_onnx::tract_core::internal::*;
use tract_onnx::tract_core::ops::binary::TypedBinOp;
use tract_onnx::tract_core::ops::math;

use super::elementwise::{Derivative, ElementwiseGradient};
use super::{InputGradients, Tape};

pub(super) fn rule(
    tape: &mut Tape,
    node: &TypedNode,
    g: OutletId,
    wanted: &[bool],
) -> TractResult<Option<InputGradients>> {
    let Some(TypedBinOp(op, _)) = node.op_as::<TypedBinOp>() else { return Ok(None) };
    let [a, b] = node.inputs[..] else { bail!("a binary op with {} inputs", node.inputs.len()) };
    let y = OutletId::new(node.id, 0);
    let mut gradients: InputGradients = tvec!(None, None);
    for side in [0, 1].into_iter().filter(|&side| wanted[side]) {
        let (own, other) = if side == 0 { (a, b) } else { (b, a) };
        let full = if op.is::<math::Add>() {
            g
        } else if op.is::<math::Sub>() {
            // a - b
            if side == 0 { g } else { tape.times(g, -1.0)? }
        } else if op.is::<math::Mul>() {
            tape.mul(g, other)?
        } else if op.is::<math::Div>() {
            // y = a / b; dy/da = 1 / b, dy/db = -y / b
            let over_b = tape.binary(math::div(), g, b)?;
            if side == 0 {
                over_b
            } else {
                let product = tape.mul(over_b, y)?;
                tape.times(product, -1.0)?
            }
        } else if op.is::<math::Max>() || op.is::<math::Min>() {
            let [own, other] = [same_shape(tape, own, y)?, same_shape(tape, other, y)?];
            tape.wire("mask", SelectGradient { maximum: op.is::<math::Max>() }, &[g, own, other])?
        } else if op.is::<math::Pow>() && side == 0 {
            let exponent = tape.known(b)?.context("a power with an exponent that is not constant")?;
            ensure!(exponent.is_uniform(), "a power with more than one exponent");
            let derivative = Derivative::power(exponent.cast_to::<f32>()?.as_uniform_f32()?);
            tape.wire("power", ElementwiseGradient(derivative), &[g, a])?
        } else {
            return Ok(None);
        };
        let shape = tape.shape(own)?;
        gradients[side] = Some(tape.unbroadcast(full, &shape)?);
    }
    Ok(Some(gradients))
}

/// Scalars stay as they are; anything else is brought to y's shape.
fn same_shape(tape: &mut Tape, outlet: OutletId, y: OutletId) -> TractResult<OutletId> {
    if tape.shape(outlet)?.iter().product::<usize>() == 1 {
        return Ok(outlet);
    }
    let shape = tape.shape(y)?;
    tape.broadcast(outlet, &shape)
}

trait UniformF32 {
    fn as_uniform_f32(&self) -> TractResult<f32>;
}

impl UniformF32 for Tensor {
    fn as_uniform_f32(&self) -> TractResult<f32> {
        Ok(*self.try_as_plain_ram()?.as_slice::<f32>()?.first().context("an empty tensor")?)
    }
}

/// Inputs (g, own, other): g where own > other (own < other for a minimum), 0 elsewhere; on a tie 0, as PyTorch has it
/// for ReLU and clamp. `own` and `other` have g's shape or one element.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct SelectGradient {
    maximum: bool,
}

impl Op for SelectGradient {
    fn name(&self) -> StaticName {
        "SelectGradient".into()
    }
    op_as_typed_op!();
}

impl EvalOp for SelectGradient {
    op_out_of_plan!();

    fn eval(&self, _ctx: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let (g, own, other) = args_3!(inputs);
        let mut g = g.into_tensor();
        let (own, other) = (own.try_as_plain_ram()?, other.try_as_plain_ram()?);
        let (own, other) = (own.as_slice::<f32>()?, other.as_slice::<f32>()?);
        let mut out = g.try_as_plain_ram_mut()?;
        let out = out.as_slice_mut::<f32>()?;
        let wins = |own: f32, other: f32| if self.maximum { own > other } else { own < other };
        let keep = |g: &mut f32, own: f32, other: f32| *g = if wins(own, other) { *g } else { 0.0 };
        match (own, other) {
            (&[own], &[other]) => out.iter_mut().for_each(|g| keep(g, own, other)),
            (own, &[other]) => out.iter_mut().zip(own).for_each(|(g, &own)| keep(g, own, other)),
            (&[own], other) => out.iter_mut().zip(other).for_each(|(g, &other)| keep(g, own, other)),
            _ => out.iter_mut().zip(own.iter().zip(other)).for_each(|(g, (&own, &other))| keep(g, own, other)),
        }
        Ok(tvec!(g.into_tvalue()))
    }
}

impl TypedOp for SelectGradient {
    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        Ok(tvec!(inputs[0].without_value()))
    }
    as_op!();
}
