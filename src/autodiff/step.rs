//! The graph of one training step: suffix, head, loss, and every gradient as an output.

use tract_onnx::prelude::*;
use tract_onnx::tract_core::internal::*;

use super::head::HeadLoss;
use super::recompute::recompute;
use super::{Tape, Unsupported};
use crate::backbone::graph::concrete;
use crate::backbone::map_op::SharedAdapter;

/// A suffix with its backward pass. Inputs: the boundary tensors, then the labels. Outputs: loss, logits, dw, db, then
/// a plane (dA, then dB transposed) for every site in `sites`.
pub(crate) struct StepGraph {
    pub(crate) model: TypedModel,
    /// Sites with a gradient, in the order of the outputs.
    pub(crate) sites: Vec<usize>,
    /// Nodes that stopped the walk; not empty means that the graph must not be used.
    pub(crate) unsupported: Vec<Unsupported>,
}

/// Builds the training step of `suffix` (one output, features `[n, features]`). With more than one of `segments`, activations
/// are computed again where the backward pass needs them.
pub(crate) fn step_graph(mut suffix: TypedModel, adapter: &SharedAdapter, segments: usize) -> TractResult<StepGraph> {
    let forward = suffix.nodes().len();
    let features = *suffix.output_outlets()?.first().context("no features")?;
    let rows = concrete(suffix.outlet_fact(features)?)?[0];
    let mut inputs: TVec<OutletId> = suffix.input_outlets()?.into();
    let labels = suffix.add_source("labels", i64::fact([rows]))?;
    inputs.push(labels);
    suffix.set_input_outlets(&inputs)?;
    let head = suffix.wire_node("head", HeadLoss { adapter: adapter.clone() }, &[features, labels])?;
    let [loss, logits, dfeatures, dw, db] = head[..] else { bail!("the head has five outputs") };
    let backward = Tape::new(&mut suffix).backward(features, dfeatures)?;
    let mut outputs = vec![loss, logits, dw, db];
    outputs.extend(backward.pairs.iter().map(|pairs| pairs.plane));
    suffix.select_output_outlets(&outputs)?;
    if segments > 1 && backward.unsupported.is_empty() {
        recompute(&mut suffix, forward, &backward.gradients, segments)?;
    }
    let sites = backward.pairs.iter().map(|pairs| pairs.index).collect();
    Ok(StepGraph { model: suffix, sites, unsupported: backward.unsupported })
}
