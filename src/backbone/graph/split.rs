//! A typed graph cut in two before its first sites, where it is narrow.

use std::collections::{HashMap, HashSet};

use tract_onnx::prelude::*;
use tract_onnx::tract_core::internal::*;
use tract_onnx::tract_core::ops::konst::Const;

use super::concrete;
use crate::backbone::kernels::expand::is_depthwise;
use crate::backbone::kernels::map_op::MapOp;

/// Nodes that the cut goes back over at most.
const MOST_BACK: usize = 8;

/// A graph cut in two before its first sites.
pub(crate) struct Split {
    /// Image to boundary: everything that no pair can influence.
    pub(crate) prefix: TypedModel,
    /// Boundary to features: the sites and all that follows; and before them what widens a narrow boundary.
    pub(crate) suffix: TypedModel,
}

/// Cuts a decluttered graph before its first sites. Without sites all of it is prefix.
///
/// What crosses the cut is kept of every photo, so it should be little. Where one map and what belongs to it, just before the sites,
/// makes at least twice as many values as it gets (the expansion of an inverted residual, whose sites come after it), the cut lies
/// before that map, which then runs again in every step.
pub(crate) fn split(model: &TypedModel) -> TractResult<Split> {
    let order = model.eval_order()?;
    let suffix_nodes = narrow(model, &order)?;
    let boundary = boundary(model, &order, &suffix_nodes)?;
    let mut prefix = model.clone();
    prefix.select_output_outlets(&boundary)?;
    let prefix = prefix.into_compact()?;

    let mut suffix = TypedModel { symbols: model.symbols.clone(), ..TypedModel::default() };
    let mut wires: HashMap<OutletId, OutletId> = HashMap::new();
    for (ix, &outlet) in boundary.iter().enumerate() {
        let source = suffix.add_source(format!("boundary.{ix}"), model.outlet_fact(outlet)?.without_value())?;
        wires.insert(outlet, source);
    }
    for &id in order.iter().filter(|id| suffix_nodes.contains(*id)) {
        let node = model.node(id);
        for &input in &node.inputs {
            if let (Some(op), false) = (model.node(input.node).op_as::<Const>(), wires.contains_key(&input)) {
                let wire = suffix.add_const(model.node(input.node).name.clone(), op.val().clone())?;
                wires.insert(input, wire);
            }
        }
        let inputs: TVec<OutletId> = node
            .inputs
            .iter()
            .map(|i| wires.get(i).copied().context("an input outside the cut"))
            .collect::<TractResult<_>>()?;
        let outlets = suffix.wire_node(&node.name, node.op.clone(), &inputs)?;
        wires.extend(outlets.iter().enumerate().map(|(slot, &wire)| (OutletId::new(id, slot), wire)));
    }
    let outputs: TVec<OutletId> = model
        .output_outlets()?
        .iter()
        .map(|o| wires.get(o).copied().context("an output outside the cut"))
        .collect::<TractResult<_>>()?;
    suffix.select_output_outlets(&outputs)?;
    Ok(Split { prefix, suffix })
}

/// The values that cross the cut before `suffix`.
fn boundary(model: &TypedModel, order: &[usize], suffix: &HashSet<usize>) -> TractResult<Vec<OutletId>> {
    let mut boundary: Vec<OutletId> = Vec::new();
    let from_suffix = order.iter().filter(|id| suffix.contains(*id)).flat_map(|&id| &model.node(id).inputs);
    for &outlet in from_suffix.chain(model.output_outlets()?) {
        let is_const = model.node(outlet.node).op_is::<Const>();
        if !suffix.contains(&outlet.node) && !is_const && !boundary.contains(&outlet) {
            boundary.push(outlet);
        }
    }
    Ok(boundary)
}

/// The suffix with the narrowest boundary that can be had for one map more, if it is at most half as wide as without.
fn narrow(model: &TypedModel, order: &[usize]) -> TractResult<HashSet<usize>> {
    let plain = behind(model, order, &HashSet::new());
    let width = |suffix: &HashSet<usize>| -> TractResult<usize> {
        let outlets = boundary(model, order, suffix)?;
        let lengths =
            outlets.into_iter().map(|outlet| Ok(concrete(model.outlet_fact(outlet)?)?.iter().product::<usize>()));
        lengths.sum()
    };
    let most = width(&plain)? / 2;
    let Some(first) = order.iter().position(|id| plain.contains(id)) else { return Ok(plain) };
    let (mut best, mut added, mut maps) = (None, HashSet::new(), 0);
    for &id in order[..first].iter().rev().filter(|id| !model.node(**id).op_is::<Const>()).take(MOST_BACK) {
        // A depthwise map makes as many values as it gets, and has little to do.
        maps += usize::from(model.node(id).op_as::<MapOp>().is_some_and(|map| !is_depthwise(map)));
        // The image itself has no node before it.
        if maps > 1 || model.node(id).inputs.is_empty() {
            break;
        }
        added.insert(id);
        let suffix = behind(model, order, &added);
        let width = width(&suffix)?;
        if width <= most && best.as_ref().is_none_or(|(least, _)| width < *least) {
            best = Some((width, suffix));
        }
    }
    Ok(best.map_or(plain, |(_, suffix)| suffix))
}

/// Sites, what is `added` to them, and everything behind them.
fn behind(model: &TypedModel, order: &[usize], added: &HashSet<usize>) -> HashSet<usize> {
    let mut suffix = HashSet::new();
    for &id in order {
        let node = model.node(id);
        let is_site = node.op_as::<MapOp>().is_some_and(|map| map.site.is_some());
        if is_site || added.contains(&id) || node.inputs.iter().any(|input| suffix.contains(&input.node)) {
            suffix.insert(id);
        }
    }
    suffix
}
