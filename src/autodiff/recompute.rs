//! Activations that are let go after the forward pass, and computed again when the backward pass comes to them.
//!
//! The forward pass is cut into segments. What a later segment reads stays; everything else of a segment is computed a second
//! time, by the same operators on the same numbers, once the gradient of the segment's end is known. So nothing changes but the
//! time (one more forward pass, at most) and the memory (Chen et al., arXiv 1604.06174).

use std::collections::HashMap;

use tract_onnx::prelude::*;
use tract_onnx::tract_core::internal::*;

/// Hands x on, but not before `after` is known, its second input. Without it the second computation would be merged with the
/// first, as equal operators on equal inputs are.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Again {
    segment: usize,
}

impl Op for Again {
    fn name(&self) -> StaticName {
        "Again".into()
    }
    op_as_typed_op!();
}

impl EvalOp for Again {
    not_out_of_plan!();

    fn eval(&self, _ctx: &EvalContext, mut inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        inputs.truncate(1);
        Ok(inputs)
    }
}

impl TypedOp for Again {
    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        Ok(tvec!(inputs[0].without_value()))
    }
    as_op!();
}

/// A graph whose first `forward` nodes are the forward pass, being rewritten.
struct Rewrite<'m> {
    model: &'m mut TypedModel,
    segments: usize,
    /// The segment of every node that computes something in the forward pass.
    segment: HashMap<usize, usize>,
    /// The gradient of each segment's last node that has one.
    ends: HashMap<usize, OutletId>,
    /// What stays, as the second computation of a segment reads it.
    handed: HashMap<(OutletId, usize), OutletId>,
    /// The second computation of a node.
    copies: HashMap<usize, TVec<OutletId>>,
}

/// Rewrites the backward pass of `model`, all nodes from number `forward` on, to compute again what lies in all but the last of
/// `segments` segments. `gradients` has the gradient of each forward value.
pub(super) fn recompute(
    model: &mut TypedModel,
    forward: usize,
    gradients: &HashMap<OutletId, OutletId>,
    segments: usize,
) -> TractResult<()> {
    let order = model.eval_order()?;
    let backward: Vec<usize> = order.iter().copied().filter(|&id| id >= forward).collect();
    let order: Vec<usize> = order.into_iter().filter(|&id| id < forward && !model.node(id).inputs.is_empty()).collect();
    let segment = cut(model, &order, forward, segments)?;
    let mut ends = HashMap::new();
    for id in &order {
        ends.extend(gradients.get(&OutletId::new(*id, 0)).map(|&gradient| (segment[id], gradient)));
    }
    let mut rewrite = Rewrite { model, segments, segment, ends, handed: HashMap::new(), copies: HashMap::new() };
    for id in backward {
        for slot in 0..rewrite.model.node(id).inputs.len() {
            let input = rewrite.model.node(id).inputs[slot];
            if rewrite.leaves(input) {
                let again = rewrite.copy(input)?;
                rewrite.model.add_edge(again, InletId::new(id, slot))?;
            }
        }
    }
    Ok(())
}

/// Deals the nodes in `order` out to segments that keep about the same number of bytes for the backward pass.
fn cut(model: &TypedModel, order: &[usize], forward: usize, segments: usize) -> TractResult<HashMap<usize, usize>> {
    let kept = |id: usize| -> TractResult<usize> {
        let outlets = &model.node(id).outputs;
        let kept = outlets.iter().filter(|outlet| outlet.successors.iter().any(|reader| reader.node >= forward));
        kept.map(|outlet| Ok(outlet.fact.mem_size().to_usize()?)).sum()
    };
    let sizes = order.iter().map(|&id| kept(id)).collect::<TractResult<Vec<usize>>>()?;
    let (total, mut before) = (sizes.iter().sum::<usize>().max(1), 0);
    let deal = |(&id, size): (&usize, usize)| {
        let segment = (before * segments / total).min(segments - 1);
        before += size;
        (id, segment)
    };
    Ok(order.iter().zip(sizes).map(deal).collect())
}

impl Rewrite<'_> {
    /// Whether a forward value is let go: it is computed before the last segment, and only its own segment reads it.
    fn leaves(&self, value: OutletId) -> bool {
        let Some(&own) = self.segment.get(&value.node) else { return false };
        let stays = |reader: &InletId| self.segment.get(&reader.node).is_some_and(|&segment| segment != own);
        own + 1 < self.segments
            && self.ends.contains_key(&own)
            && !self.model.node(value.node).outputs[value.slot].successors.iter().any(stays)
    }

    /// A value of its own segment, computed a second time.
    fn copy(&mut self, value: OutletId) -> TractResult<OutletId> {
        if let Some(outlets) = self.copies.get(&value.node) {
            return Ok(outlets[value.slot]);
        }
        let node = self.model.node(value.node).clone();
        let own = self.segment[&node.id];
        let mut inputs = tvec!();
        for &input in &node.inputs {
            inputs.push(if self.leaves(input) && self.segment[&input.node] == own {
                self.copy(input)?
            } else {
                self.hand(input, own)?
            });
        }
        let outlets = self.model.wire_node(format!("backward.again.{}", node.name), node.op, &inputs)?;
        let outlet = outlets[value.slot];
        self.copies.insert(node.id, outlets);
        Ok(outlet)
    }

    /// A value from before a segment, to be read once the gradient of the segment's end is known.
    fn hand(&mut self, value: OutletId, segment: usize) -> TractResult<OutletId> {
        if self.model.outlet_fact(value)?.konst.is_some() {
            return Ok(value);
        }
        if let Some(&handed) = self.handed.get(&(value, segment)) {
            return Ok(handed);
        }
        let name = format!("backward.hand.{}", self.handed.len());
        let handed = self.model.wire_node(name, Again { segment }, &[value, self.ends[&segment]])?[0];
        self.handed.insert((value, segment), handed);
        Ok(handed)
    }
}
