//! Ops that move values without changing them: their gradient moves back the same way.

use tract_onnx::prelude::*;
use tract_onnx::tract_core::internal::*;
use tract_onnx::tract_core::ops::array::{Gather, MultiBroadcastTo, Pad, PadMode, Slice, TypedConcat};
use tract_onnx::tract_core::ops::logic::Iff;

use super::{InputGradients, Tape};

pub(super) fn rule(
    tape: &mut Tape,
    node: &TypedNode,
    g: OutletId,
    wanted: &[bool],
) -> TractResult<Option<InputGradients>> {
    let shape = tape.shape(node.inputs[0])?;
    let dx = if let Some(op) = node.op_as::<AxisOp>() {
        tape.wire("axis", op.recip(), &[g])?
    } else if let Some(op) = node.op_as::<Slice>() {
        let (start, end) = (op.start.to_usize()?, op.end.to_usize()?);
        padded(tape, g, &shape, op.axis, start, shape[op.axis] - end)?
    } else if let Some(op) = node.op_as::<Pad>() {
        ensure!(matches!(op.mode, PadMode::Constant(_)), "padding that repeats the image");
        unpadded(tape, g, &shape, &op.pads)?
    } else if node.op_is::<MultiBroadcastTo>() {
        tape.unbroadcast(g, &shape)?
    } else if let Some(op) = node.op_as::<TypedConcat>() {
        return concat(tape, node, g, wanted, op.axis).map(Some);
    } else if node.op_is::<Iff>() {
        return choice(tape, node, g, wanted).map(Some);
    } else if let Some(op) = node.op_as::<Gather>() {
        ensure!(!wanted[1], "an index that depends on the image");
        let dx = tape.wire("gather", GatherGradient { axis: op.axis, shape }, &[g, node.inputs[1]])?;
        return Ok(Some(tvec!(Some(dx), None)));
    } else {
        return Ok(None);
    };
    Ok(Some(tvec!(Some(dx))))
}

/// g with zeros around it along one axis.
fn padded(
    tape: &mut Tape,
    g: OutletId,
    shape: &[usize],
    axis: usize,
    before: usize,
    after: usize,
) -> TractResult<OutletId> {
    let mut pads = vec![(0, 0); shape.len()];
    pads[axis] = (before, after);
    tape.wire("pad", Pad { pads, mode: PadMode::Constant(tensor0(0f32).into_arc_tensor()) }, &[g])
}

fn unpadded(tape: &mut Tape, g: OutletId, shape: &[usize], pads: &[(usize, usize)]) -> TractResult<OutletId> {
    let mut inner = g;
    for (axis, &(before, _)) in pads.iter().enumerate().filter(|(_, pad)| **pad != (0, 0)) {
        inner = tape.wire("slice", Slice::new(axis, before, before + shape[axis]), &[inner])?;
    }
    Ok(inner)
}

fn concat(tape: &mut Tape, node: &TypedNode, g: OutletId, wanted: &[bool], axis: usize) -> TractResult<InputGradients> {
    let mut start = 0;
    let mut gradients = tvec![];
    for (&input, &wanted) in node.inputs.iter().zip(wanted) {
        let end = start + tape.shape(input)?[axis];
        gradients.push(if wanted { Some(tape.wire("slice", Slice::new(axis, start, end), &[g])?) } else { None });
        start = end;
    }
    Ok(gradients)
}

/// y = a where the condition holds, else b. The condition is a step: nothing flows through it.
fn choice(tape: &mut Tape, node: &TypedNode, g: OutletId, wanted: &[bool]) -> TractResult<InputGradients> {
    let rank = tape.shape(g)?.len();
    let zero = tape.constant(tensor0(0f32).broadcast_into_rank(rank)?)?;
    let mut gradients: InputGradients = tvec!(None, None, None);
    for side in [1, 2].into_iter().filter(|&side| wanted[side]) {
        let branches = if side == 1 { [node.inputs[0], g, zero] } else { [node.inputs[0], zero, g] };
        let chosen = tape.wire("choice", Iff, &branches)?;
        let shape = tape.shape(node.inputs[side])?;
        gradients[side] = Some(tape.unbroadcast(chosen, &shape)?);
    }
    Ok(gradients)
}

/// Inputs (g, indices): adds each gathered slice back to where it came from; `shape` is that of the gathered tensor.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct GatherGradient {
    axis: usize,
    shape: TVec<usize>,
}

impl Op for GatherGradient {
    fn name(&self) -> StaticName {
        "GatherGradient".into()
    }
    op_as_typed_op!();
}

impl EvalOp for GatherGradient {
    op_out_of_plan!();

    fn eval(&self, _ctx: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let (g, indices) = args_2!(inputs);
        let indices = indices.cast_to::<i64>()?;
        let indices = indices.try_as_plain_ram()?;
        let indices = indices.as_slice::<i64>()?;
        let length = self.shape[self.axis];
        let block: usize = self.shape[self.axis + 1..].iter().product();
        let outer: usize = self.shape[..self.axis].iter().product();
        let mut dx = Tensor::zero::<f32>(&self.shape)?;
        let g = g.try_as_plain_ram()?;
        let g = g.as_slice::<f32>()?;
        let mut plain = dx.try_as_plain_ram_mut()?;
        let out = plain.as_slice_mut::<f32>()?;
        for row in 0..outer {
            for (nth, &index) in indices.iter().enumerate() {
                let index = if index < 0 { index + length as i64 } else { index };
                ensure!((0..length as i64).contains(&index), "index {index} of {length}");
                let to = (row * length + index as usize) * block;
                let from = (row * indices.len() + nth) * block;
                out[to..to + block].iter_mut().zip(&g[from..from + block]).for_each(|(d, g)| *d += g);
            }
        }
        Ok(tvec!(dx.into_tvalue()))
    }
}

impl TypedOp for GatherGradient {
    fn output_facts(&self, _inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        Ok(tvec!(f32::fact(&*self.shape)))
    }
    as_op!();
}
