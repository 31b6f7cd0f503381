//! A typed graph cut in two at its first sites.

use std::collections::{HashMap, HashSet};

use tract_onnx::prelude::*;
use tract_onnx::tract_core::internal::*;
use tract_onnx::tract_core::ops::konst::Const;

use crate::backbone::kernels::map_op::MapOp;

/// A graph cut in two at its first sites.
pub(crate) struct Split {
    /// Image to boundary: everything that no pair can influence.
    pub(crate) prefix: TypedModel,
    /// Boundary to features: the sites and all that follows.
    pub(crate) suffix: TypedModel,
}

/// Cuts a decluttered graph at its first sites. Without sites all of it is prefix.
pub(crate) fn split(model: &TypedModel) -> TractResult<Split> {
    let order = model.eval_order()?;
    let suffix_nodes = suffix_nodes(model, &order);
    let is_const = |id: usize| model.node(id).op_is::<Const>();
    let mut boundary: Vec<OutletId> = Vec::new();
    let from_suffix = order.iter().filter(|id| suffix_nodes.contains(*id)).flat_map(|&id| &model.node(id).inputs);
    for &outlet in from_suffix.chain(model.output_outlets()?) {
        if !suffix_nodes.contains(&outlet.node) && !is_const(outlet.node) && !boundary.contains(&outlet) {
            boundary.push(outlet);
        }
    }
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

/// Sites and everything behind them.
fn suffix_nodes(model: &TypedModel, order: &[usize]) -> HashSet<usize> {
    let mut suffix = HashSet::new();
    for &id in order {
        let node = model.node(id);
        let is_site = node.op_as::<MapOp>().is_some_and(|map| map.site.is_some());
        if is_site || node.inputs.iter().any(|input| suffix.contains(&input.node)) {
            suffix.insert(id);
        }
    }
    suffix
}
