//! A pointwise map and the depthwise convolution behind it as one node: a few channels are expanded at a time and convolved
//! while they are in the cache, so that the widest activations of a MobileNet never exist.
//!
//! Only where no gradient is taken, in the prefix: the backward pass of a clip needs the activation.

use std::collections::HashSet;

use tract_onnx::tract_core::internal::*;

use super::depthwise;
use super::map_op::{MapOp, fused_multiply_adds};
use super::operands::{Around, ImageSize};
use super::views::{floats, floats_mut, image_size, images, images_mut};
use crate::adapter::scratch::Scratch;
use crate::backbone::maps::MapKind;

/// Floats of expanded channels that exist at a time: 256 KiB, or the fewest channels.
const BLOCK: usize = 1 << 16;
/// Channels are expanded by multiples of this.
const CHANNELS: usize = 8;

/// y = depthwise(expand(x)).
#[derive(Debug, Clone, PartialEq, Eq)]
struct Expand {
    expand: MapOp,
    depthwise: MapOp,
}

/// Puts the pairs of maps in `model` together that no site is before: no gradient comes back to these.
pub(crate) fn fuse_expansions(model: &mut TypedModel) -> TractResult<()> {
    let order = model.eval_order()?;
    let mut learns = HashSet::new();
    for &id in &order {
        let node = model.node(id);
        let is_site = node.op_as::<MapOp>().is_some_and(|map| map.site.is_some());
        if is_site || node.inputs.iter().any(|input| learns.contains(&input.node)) {
            learns.insert(id);
        }
    }
    for id in order.into_iter().filter(|id| !learns.contains(id)) {
        let node = model.node(id);
        let Some(depthwise) = node.op_as::<MapOp>() else { continue };
        let source = model.node(node.inputs[0].node);
        let Some(expand) = source.op_as::<MapOp>() else { continue };
        let is_private = source.outputs[0].successors.len() == 1 && !model.output_outlets()?.contains(&node.inputs[0]);
        if !(is_private && is_expansion(expand) && is_depthwise(depthwise)) {
            continue;
        }
        let op = Expand { expand: expand.clone(), depthwise: depthwise.clone() };
        let mut patch = TypedModelPatch::default();
        let x = patch.tap_model(model, source.inputs[0])?;
        let y = patch.wire_node(&node.name, op, &[x])?[0];
        patch.shunt_outside(model, id.into(), y)?;
        patch.apply(model)?;
    }
    Ok(())
}

fn is_expansion(map: &MapOp) -> bool {
    matches!(&map.kind, MapKind::Conv(geometry) if geometry.is_pointwise() && geometry.group == 1) && map.site.is_none()
}

pub(crate) fn is_depthwise(map: &MapOp) -> bool {
    matches!(&map.kind, MapKind::Conv(geometry) if depthwise::is_depthwise(geometry, map.out_dim)) && map.site.is_none()
}

impl Expand {
    fn convolve(&self, (input, x): (ImageSize, &[f32]), (output, y): (ImageSize, &mut [f32])) -> TractResult<()> {
        let MapKind::Conv(geometry) = &self.depthwise.kind else { bail!("a depthwise map that is no convolution") };
        let (pixels, to) = (input.size[0] * input.size[1], output.size[0] * output.size[1]);
        let (expand, depthwise) = (self.expand.frozen()?, self.depthwise.frozen()?);
        let around = [self.expand.around(None), self.depthwise.around(None)];
        let step = (BLOCK / pixels.max(1)).next_multiple_of(CHANNELS).min(self.expand.out_dim.max(1));
        let mut block = Scratch::of(step * pixels);
        for first in (0..self.expand.out_dim).step_by(step) {
            let channels = first..self.expand.out_dim.min(first + step);
            let block = &mut block[..channels.len() * pixels];
            let expanded = ImageSize { channels: channels.len(), ..input };
            // Its bias and clip are taken as the convolution reads.
            expand.pointwise(first, Around::default(), (input, x), (expanded, block));
            let y = &mut y[channels.start * to..channels.end * to];
            depthwise::forward(geometry, depthwise, channels, around, (input.size, block), (output.size, y));
        }
        Ok(())
    }
}

impl Op for Expand {
    fn name(&self) -> StaticName {
        "Expand".into()
    }
    op_as_typed_op!();
}

impl EvalOp for Expand {
    not_out_of_plan!();

    fn eval(&self, _ctx: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let x = args_1!(inputs);
        self.expand.check(&x)?;
        let shape = self.expand.output_shape(x.shape())?;
        let shape = self.depthwise.output_shape(&shape)?;
        let mut y = Tensor::zero::<f32>(&shape)?;
        let (input, output) = (image_size(x.shape())?, image_size(&shape)?);
        for (x, y) in images(floats(&x)?, x.shape()).zip(images_mut(floats_mut(&mut y)?, &shape)) {
            self.convolve((input, x), (output, y))?;
        }
        Ok(tvec!(y.into_tvalue()))
    }
}

impl TypedOp for Expand {
    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        let expanded = self.expand.output_facts(inputs)?;
        self.depthwise.output_facts(&[&expanded[0]])
    }

    fn cost(&self, inputs: &[&TypedFact]) -> TractResult<TVec<(Cost, TDim)>> {
        let expanded = self.expand.output_facts(inputs)?;
        let costs = self.expand.cost(inputs)?.into_iter().chain(self.depthwise.cost(&[&expanded[0]])?);
        let count = costs.map(|(_, count)| Ok(count.to_usize()?)).sum::<TractResult<usize>>()?;
        Ok(fused_multiply_adds(count))
    }
    as_op!();
}
