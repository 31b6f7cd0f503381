//! Reverse mode as a transform of tract's graphs: a forward graph goes in, the same graph with its gradients comes out.
//!
//! `Tape::backward` walks the graph once from the features back to the sites and asks the rule of each op for the
//! gradient of its inputs. A rule lives in the file of its family and writes ordinary nodes, plus a few ops of our own
//! where tract has none. Only what leads to a site is differentiated; frozen weights never are.

mod binary;
mod check;
mod elementwise;
mod head;
mod linear;
mod network;
mod pool;
mod recompute;
mod reduce;
mod repeat;
mod shape;
mod step;
mod stored;

use std::collections::{HashMap, HashSet};

use tract_onnx::prelude::*;
use tract_onnx::tract_core::internal::*;
use tract_onnx::tract_core::ops::array::MultiBroadcastTo;
use tract_onnx::tract_core::ops::binary::TypedBinOp;
use tract_onnx::tract_core::ops::math;
use tract_onnx::tract_core::ops::nn::{Reduce, Reducer};

use crate::backbone::graph::concrete;
use crate::backbone::map_op::{MapGradient, MapOp};
use repeat::Repeat;

pub use check::{FORWARD_TOLERANCE, GRADIENT_TOLERANCE, check_forward, check_gradients};
pub use network::{Activations, Boundary, Network, NetworkPlan, StepOutput};
pub(crate) use step::{StepGraph, step_graph};
pub use stored::Stored;

/// The gradient of each input of a node; `None` where it is not needed.
type InputGradients = TVec<Option<OutletId>>;

/// A rule: `Ok(None)` if the op is not of this family, else the gradients of the inputs that `wanted` marks.
type Rule = fn(&mut Tape, &TypedNode, OutletId, &[bool]) -> TractResult<Option<InputGradients>>;

const RULES: [Rule; 6] = [binary::rule, elementwise::rule, linear::rule, pool::rule, reduce::rule, shape::rule];

/// The gradients of one site's pairs: dA, then dB transposed, as one plane.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PairOutlets {
    pub(crate) index: usize,
    pub(crate) plane: OutletId,
}

/// A node that lies between a site and the features and has no rule.
#[derive(Debug, Clone)]
pub(crate) struct Unsupported {
    pub(crate) node: String,
    pub(crate) op: String,
    /// Why a rule of the right family refused, if one did.
    pub(crate) reason: Option<String>,
    /// Sites whose gradient passes through the node.
    pub(crate) sites: Vec<usize>,
}

/// What the walk found.
pub(crate) struct Backward {
    pub(crate) pairs: Vec<PairOutlets>,
    pub(crate) unsupported: Vec<Unsupported>,
    /// The gradient of every value that has one.
    pub(crate) gradients: HashMap<OutletId, OutletId>,
}

/// Writes backward nodes into a graph.
pub(crate) struct Tape<'m> {
    model: &'m mut TypedModel,
    written: usize,
}

impl<'m> Tape<'m> {
    pub(crate) fn new(model: &'m mut TypedModel) -> Self {
        Tape { model, written: 0 }
    }

    /// Back-propagates `seed`, the gradient of `output`, to every site.
    pub(crate) fn backward(&mut self, output: OutletId, seed: OutletId) -> TractResult<Backward> {
        let order = self.model.eval_order()?;
        let reach = self.sites_upstream(&order);
        let behind_site = |outlet: &OutletId| reach.get(&outlet.node).is_some_and(|sites| !sites.is_empty());
        let mut gradients = HashMap::from([(output, seed)]);
        let mut found = Backward { pairs: Vec::new(), unsupported: Vec::new(), gradients: HashMap::new() };
        for &id in order.iter().rev() {
            let node = self.model.node(id).clone();
            let Some(&gradient) = gradients.get(&OutletId::new(id, 0)) else { continue };
            let wanted: Vec<bool> = node.inputs.iter().map(behind_site).collect();
            let inputs = if let Some(map) = node.op_as::<MapOp>() {
                let (pairs, dx) = self.map(&node, map, gradient, wanted[0])?;
                found.pairs.extend(pairs);
                tvec!(dx)
            } else if wanted.contains(&true) {
                match self.differentiate(&node, gradient, &wanted) {
                    Ok(inputs) => inputs,
                    Err(reason) => {
                        found.unsupported.push(Unsupported { sites: reach[&id].clone(), ..reason });
                        continue;
                    }
                }
            } else {
                continue;
            };
            for (&input, gradient) in node.inputs.iter().zip(inputs) {
                let Some(gradient) = gradient else { continue };
                let sum = match gradients.get(&input) {
                    Some(&other) => self.add(other, gradient)?,
                    None => gradient,
                };
                gradients.insert(input, sum);
            }
        }
        found.pairs.sort_by_key(|pairs| pairs.index);
        found.gradients = gradients;
        Ok(found)
    }

    /// For every node, the sites at or before it.
    fn sites_upstream(&self, order: &[usize]) -> HashMap<usize, Vec<usize>> {
        let mut upstream: HashMap<usize, Vec<usize>> = HashMap::new();
        for &id in order {
            let node = self.model.node(id);
            let mut sites: HashSet<usize> = site_of(node).into_iter().collect();
            sites.extend(node.inputs.iter().filter_map(|i| upstream.get(&i.node)).flatten());
            let mut sites: Vec<usize> = sites.into_iter().collect();
            sites.sort_unstable();
            upstream.insert(id, sites);
        }
        upstream
    }

    fn differentiate(
        &mut self,
        node: &TypedNode,
        gradient: OutletId,
        wanted: &[bool],
    ) -> std::result::Result<InputGradients, Unsupported> {
        let refuse = |reason| Unsupported { node: node.name.clone(), op: node.op.name().into(), reason, sites: vec![] };
        if node.outputs.len() != 1 {
            return Err(refuse(Some("more than one output".into())));
        }
        for rule in RULES {
            match rule(self, node, gradient, wanted) {
                Ok(Some(inputs)) => return self.checked(node, inputs).map_err(|e| refuse(Some(e.to_string()))),
                Ok(None) => {}
                Err(reason) => return Err(refuse(Some(reason.root_cause().to_string()))),
            }
        }
        Err(refuse(None))
    }

    /// A gradient has the shape of what it is the gradient of; a rule that breaks this would corrupt silently.
    fn checked(&self, node: &TypedNode, inputs: InputGradients) -> TractResult<InputGradients> {
        for (&input, gradient) in node.inputs.iter().zip(&inputs) {
            if let Some(gradient) = gradient {
                let (found, needed) = (self.shape(*gradient)?, self.shape(input)?);
                ensure!(found == needed, "the rule gives a gradient of shape {found:?} for an input of {needed:?}");
            }
        }
        Ok(inputs)
    }

    /// dL/dy = g; dL/dx gets what passes through W, the delta and the pairs; dL/dA and dL/dB leave the graph.
    fn map(
        &mut self,
        node: &TypedNode,
        map: &MapOp,
        gradient: OutletId,
        wants_input: bool,
    ) -> TractResult<(Option<PairOutlets>, Option<OutletId>)> {
        let site = map.site.as_ref().map(|site| site.index);
        if site.is_none() && !wants_input {
            return Ok((None, None));
        }
        let input = self.shape(node.inputs[0])?;
        let projected = self.keep_projection(node, map, &input)?;
        let map = &MapOp { keeps_projection: projected.is_some(), ..map.clone() };
        let op = MapGradient { map: map.clone(), wants_input, input };
        // Only the gradients of pairs need x, or A x; a map without pairs lets go of it.
        let read = site.map(|_| projected.unwrap_or(node.inputs[0]));
        let mut inputs: TVec<OutletId> = [Some(gradient), read].into_iter().flatten().collect();
        inputs.extend(map.clip.map(|_| OutletId::new(node.id, 0)));
        let outlets = self.model.wire_node(self.name("map"), op, &inputs)?;
        self.written += 1;
        let pairs = site.map(|index| PairOutlets { index, plane: outlets[0] });
        let dx = if wants_input { outlets.last().copied() } else { None };
        Ok((pairs, dx))
    }

    /// Lets a map hand over A x beside y, where that is worth keeping.
    fn keep_projection(&mut self, node: &TypedNode, map: &MapOp, input: &[usize]) -> TractResult<Option<OutletId>> {
        let Some(shape) = map.projection_shape(input)? else { return Ok(None) };
        let node = self.model.node_mut(node.id);
        node.op = Box::new(MapOp { keeps_projection: true, ..map.clone() });
        node.outputs.truncate(1);
        node.outputs.push(Outlet { fact: f32::fact(shape), successors: tvec!() });
        Ok(Some(OutletId::new(node.id, 1)))
    }

    fn name(&self, tag: &str) -> String {
        format!("backward.{}.{tag}", self.written)
    }

    fn wire(&mut self, tag: &str, op: impl Into<Box<dyn TypedOp>>, inputs: &[OutletId]) -> TractResult<OutletId> {
        self.written += 1;
        Ok(self.model.wire_node(self.name(tag), op, inputs)?[0])
    }

    fn constant(&mut self, tensor: impl IntoArcTensor) -> TractResult<OutletId> {
        self.written += 1;
        self.model.add_const(self.name("constant"), tensor)
    }

    fn shape(&self, outlet: OutletId) -> TractResult<TVec<usize>> {
        concrete(self.model.outlet_fact(outlet)?)
    }

    fn is_float(&self, outlet: OutletId) -> bool {
        self.model.outlet_fact(outlet).is_ok_and(|fact| fact.datum_type == f32::datum_type())
    }

    /// The constant that an outlet carries.
    fn known(&self, outlet: OutletId) -> TractResult<Option<Arc<Tensor>>> {
        Ok(self.model.outlet_fact(outlet)?.konst.clone())
    }

    fn add(&mut self, a: OutletId, b: OutletId) -> TractResult<OutletId> {
        self.binary(math::add(), a, b)
    }

    fn mul(&mut self, a: OutletId, b: OutletId) -> TractResult<OutletId> {
        self.binary(math::mul(), a, b)
    }

    fn binary(&mut self, op: TypedBinOp, a: OutletId, b: OutletId) -> TractResult<OutletId> {
        self.wire("binary", op, &[a, b])
    }

    fn times(&mut self, a: OutletId, factor: f32) -> TractResult<OutletId> {
        let rank = self.shape(a)?.len();
        let factor = self.constant(tensor0(factor).broadcast_into_rank(rank)?)?;
        self.mul(a, factor)
    }

    fn sum(&mut self, a: OutletId, axes: impl Into<TVec<usize>>) -> TractResult<OutletId> {
        self.wire("sum", Reduce::new(axes.into(), Reducer::Sum), &[a])
    }

    /// The transpose of broadcasting: sums over the axes that are 1 in `shape`.
    fn unbroadcast(&mut self, a: OutletId, shape: &[usize]) -> TractResult<OutletId> {
        let from = self.shape(a)?;
        let axes: TVec<usize> = (0..from.len()).filter(|&axis| from[axis] != shape[axis] && shape[axis] == 1).collect();
        if axes.is_empty() { Ok(a) } else { self.sum(a, axes) }
    }

    /// The transpose of summing: repeats along the axes that are 1.
    fn broadcast(&mut self, a: OutletId, shape: &[usize]) -> TractResult<OutletId> {
        let from = self.shape(a)?;
        if *from == *shape {
            return Ok(a);
        }
        if let Some(repeat) = Repeat::of(&from, shape).filter(|_| self.is_float(a)) {
            return self.wire("broadcast", repeat, &[a]);
        }
        let shape: TVec<TDim> = shape.iter().map(|d| d.to_dim()).collect();
        self.wire("broadcast", MultiBroadcastTo { shape: shape.into() }, &[a])
    }
}

/// The site that a node is.
fn site_of(node: &TypedNode) -> Option<usize> {
    node.op_as::<MapOp>()?.site.as_ref().map(|site| site.index)
}
