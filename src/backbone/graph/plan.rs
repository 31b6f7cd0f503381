//! An optimized graph, ready to run again and again.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use serde::Serialize;
use tract_onnx::prelude::*;
use tract_onnx::tract_core::internal::{Cost, DimLike, TypedOp};
use tract_onnx::tract_core::ops::konst::Const;
use tract_onnx::tract_core::plan::{SimpleState, eval};
use tract_onnx::tract_core::runtime::RunOptions;

use crate::backbone::kernels::use_products;

/// An optimized graph in its order of evaluation; all who run it share its constants.
#[derive(Clone)]
pub(crate) struct RunPlan(Arc<TypedSimplePlan>);

/// A plan with room for the values of one run at a time: values are freed after their last use. It stays on its thread.
pub(crate) struct Run(SimpleState<TypedFact, Box<dyn TypedOp>>);

/// What one node of a plan costs.
#[derive(Debug, Clone, Serialize)]
pub struct NodeCost {
    /// Its name.
    pub node: String,
    /// Its operator.
    pub op: String,
    /// Time of one run.
    pub ms: f64,
    /// Bytes of its outputs.
    pub bytes: usize,
    /// Floating-point operations that its arithmetic needs (a multiply-add is two); 0 for what only moves.
    pub flops: f64,
}

impl RunPlan {
    /// Optimizes and plans `model`.
    pub(crate) fn optimized(mut model: TypedModel) -> TractResult<Self> {
        use_products(&mut model)?;
        model.optimize()?;
        Self::as_is(model)
    }

    /// Plans `model` without any rewriting.
    pub(crate) fn as_is(model: TypedModel) -> TractResult<Self> {
        Ok(RunPlan(TypedSimplePlan::new_with_options(model, &RunOptions::default())?))
    }

    /// Bytes of all values that live at the same time, at most: constants are not among them.
    pub(crate) fn live_bytes(&self) -> TractResult<usize> {
        live_bytes_in(self.0.model(), self.0.order_without_consts())
    }

    /// A place to run it.
    pub(crate) fn start(&self) -> TractResult<Run> {
        Ok(Run(self.0.spawn()?))
    }
}

impl Run {
    pub(crate) fn run(&mut self, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        self.0.run(inputs)
    }

    /// Runs once and notes what every node took in `costs`, which is empty at first, in order of evaluation; the shortest
    /// time counts.
    pub(crate) fn profile(&mut self, inputs: TVec<TValue>, costs: &mut Vec<NodeCost>) -> TractResult<TVec<TValue>> {
        let flops = self.0.model().nodes().iter().map(|node| flops(self.0.model(), node));
        let flops = flops.collect::<TractResult<Vec<f64>>>()?;
        let mut at = 0;
        self.0.run_plan_with_eval(inputs, |context, state, node, inputs| -> TractResult<TVec<TValue>> {
            let begin = Instant::now();
            let outputs = eval(context, state, node, inputs)?;
            let ms = begin.elapsed().as_secs_f64() * 1e3;
            if costs.len() == at {
                let bytes = outputs.iter().map(|value| value.len() * value.datum_type().size_of()).sum();
                let (op, flops) = (node.op().name().into_owned(), flops[node.id]);
                costs.push(NodeCost { node: node.name.clone(), op, ms, bytes, flops });
            }
            costs[at].ms = costs[at].ms.min(ms);
            at += 1;
            Ok(outputs)
        })
    }
}

/// Bytes of all values of `model` that will live at the same time, at most.
pub(crate) fn live_bytes(model: &TypedModel) -> TractResult<usize> {
    let mut order = model.eval_order_opt_ram()?;
    order.retain(|&id| !model.node(id).op_is::<Const>());
    live_bytes_in(model, &order)
}

fn live_bytes_in(model: &TypedModel, order: &[usize]) -> TractResult<usize> {
    let mut last_use: HashMap<usize, usize> = HashMap::new();
    for (at, &id) in order.iter().enumerate() {
        last_use.extend(model.node(id).inputs.iter().map(|input| (input.node, at)));
    }
    last_use.extend(model.output_outlets()?.iter().map(|output| (output.node, order.len())));
    let bytes = |id: usize| -> TractResult<usize> {
        let node = model.node(id);
        if node.op_is::<Const>() {
            return Ok(0);
        }
        node.outputs.iter().map(|outlet| Ok(outlet.fact.mem_size().to_usize()?)).sum()
    };
    let (mut live, mut most) = (0, 0);
    for (at, &id) in order.iter().enumerate() {
        live += bytes(id)?;
        most = most.max(live);
        let mut inputs: Vec<usize> = model.node(id).inputs.iter().map(|input| input.node).collect();
        inputs.sort_unstable();
        inputs.dedup();
        for input in inputs.into_iter().filter(|input| last_use.get(input) == Some(&at)) {
            live -= bytes(input)?;
        }
    }
    Ok(most)
}

/// Floating-point operations of a node.
fn flops(model: &TypedModel, node: &TypedNode) -> TractResult<f64> {
    let costs = node.op.cost(&model.node_input_facts(node.id)?)?;
    let count = |(cost, count): &(Cost, TDim)| match cost {
        Cost::FMA(_) => Ok(2.0 * count.to_i64()? as f64),
        _ => Ok(0.0),
    };
    costs.iter().map(count).sum()
}

/// The values of a float tensor.
pub(crate) fn floats(value: &TValue) -> TractResult<&[f32]> {
    value.try_as_plain_ram()?.as_slice::<f32>()
}
