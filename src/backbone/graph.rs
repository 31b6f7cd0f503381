//! From the ONNX file to tract graphs: site nodes put in, features pooled, split at the first site.

use std::collections::{HashMap, HashSet};

use tract_onnx::model::ParsingContext;
use tract_onnx::pb::{AttributeProto, ModelProto, NodeProto};
use tract_onnx::prelude::*;
use tract_onnx::tract_core::internal::*;
use tract_onnx::tract_core::ops::konst::Const;
use tract_onnx::tract_core::ops::math;
use tract_onnx::tract_core::ops::nn::{Reduce, Reducer};
use tract_onnx::tract_core::ops::source::TypedSource;
use tract_onnx::tract_hir::internal::{InferenceOp, InferenceResult, Solver, TensorProxy};
use tract_onnx::tract_hir::ops::expandable::{Expansion, expand};

use super::onnx::{OnnxFile, attribute};
use super::site_op::{SharedAdapter, SiteOp};
use super::sites::{Site, SiteKind};

const SITE_OP: &str = "SrloraSite";
const SITE_INDEX: &str = "index";

/// What a graph is built for.
pub(crate) struct Request<'r> {
    pub(crate) outputs: &'r [String],
    pub(crate) batch: usize,
    pub(crate) height: usize,
    pub(crate) width: usize,
    pub(crate) sites: &'r [Site],
    pub(crate) adapter: Option<&'r SharedAdapter>,
}

/// The file as a typed graph, before any of tract's rewriting, with a site node behind each adapted map.
///
/// Sites go in before declutter, so that nothing is folded into the weight that they adapt.
pub(crate) fn typed(file: &OnnxFile, request: &Request) -> TractResult<TypedModel> {
    let mut proto = file.pruned(request.outputs);
    insert_sites(&mut proto, request.sites);
    // A file's own shapes may be symbolic or stale; a plan is built for one concrete batch and size.
    let mut onnx = tract_onnx::onnx().with_ignore_value_info(true).with_ignore_output_shapes(true);
    onnx.op_register.insert(SITE_OP, parse_site);
    let mut inference = onnx.model_for_proto_model(&proto)?;
    drop(proto);
    let fact = f32::fact([request.batch, 3, request.height, request.width]);
    inference.set_input_fact(0, fact.into())?;
    let mut model = inference.into_typed()?;
    for node in &mut model.nodes {
        if let Some(op) = node.op_as_mut::<SiteOp>() {
            op.kind = request.sites.get(op.index).context("a site that was not asked for")?.kind.clone();
            op.adapter = request.adapter.cloned();
        }
    }
    Ok(model)
}

/// y becomes y.frozen, and a site node (x, y.frozen) -> y follows the map; whatever used y now uses the adapted one.
fn insert_sites(proto: &mut ModelProto, sites: &[Site]) {
    let Some(graph) = proto.graph.as_mut() else { return };
    let mut nodes = Vec::with_capacity(graph.node.len() + sites.len());
    for mut node in graph.node.drain(..) {
        let site = sites.iter().position(|s| s.name == node.name).map(|index| {
            let frozen = format!("{}.frozen", node.output[0]);
            let adapted = std::mem::replace(&mut node.output[0], frozen.clone());
            NodeProto {
                name: format!("{}.site", node.name),
                op_type: SITE_OP.into(),
                input: vec![node.input[0].clone(), frozen],
                output: vec![adapted],
                attribute: vec![AttributeProto { name: SITE_INDEX.into(), i: index as i64, ..Default::default() }],
                ..Default::default()
            }
        });
        nodes.push(node);
        nodes.extend(site);
    }
    graph.node = nodes;
}

fn parse_site(_ctx: &ParsingContext, node: &NodeProto) -> TractResult<(Box<dyn InferenceOp>, Vec<String>)> {
    let index = attribute(node, SITE_INDEX).context("a site node without an index")?.i as usize;
    Ok((expand(SiteMark { index }), vec![]))
}

/// A site while shapes are still being inferred.
#[derive(Debug, Clone)]
struct SiteMark {
    index: usize,
}

impl Expansion for SiteMark {
    fn name(&self) -> StaticName {
        SITE_OP.into()
    }

    fn rules<'r, 'p: 'r, 's: 'r>(
        &'s self,
        solver: &mut Solver<'r>,
        inputs: &'p [TensorProxy],
        outputs: &'p [TensorProxy],
    ) -> InferenceResult {
        solver.equals(&inputs[1].datum_type, &outputs[0].datum_type)?;
        solver.equals(&inputs[1].shape, &outputs[0].shape)
    }

    fn wire(&self, prefix: &str, model: &mut TypedModel, inputs: &[OutletId]) -> TractResult<TVec<OutletId>> {
        model.wire_node(prefix, SiteOp { index: self.index, kind: SiteKind::Linear, adapter: None }, inputs)
    }
}

/// Pools and flattens the only output to `[batch, features]`: the mean over rows and columns of a map, or over the
/// tokens of a sequence.
pub(crate) fn pool_features(model: &mut TypedModel) -> TractResult<()> {
    let mut outlet = *model.output_outlets()?.first().context("no output")?;
    let shape = concrete(model.outlet_fact(outlet)?)?;
    ensure!(shape.len() >= 2, "the features tensor has the shape {shape:?}; it needs a batch axis and a feature axis");
    let pooled: TVec<usize> = match shape.len() {
        2 => tvec!(),
        3 => tvec!(1),
        rank => (2..rank).collect(),
    };
    let count: usize = pooled.iter().map(|&axis| shape[axis]).product();
    if count > 1 {
        outlet = model.wire_node("features.sum", Reduce::new(pooled.clone(), Reducer::Sum), &[outlet])?[0];
        let share = model.add_const("features.share", tensor0(1.0 / count as f32).broadcast_into_rank(shape.len())?)?;
        outlet = model.wire_node("features.mean", math::mul(), &[outlet, share])?[0];
    }
    for &axis in pooled.iter().rev() {
        outlet = model.wire_node(format!("features.flat.{axis}"), AxisOp::Rm(axis), &[outlet])?[0];
    }
    model.select_output_outlets(&[outlet])
}

/// The concrete shape of a fact.
pub(crate) fn concrete(fact: &TypedFact) -> TractResult<TVec<usize>> {
    let shape = fact.shape.as_concrete().with_context(|| format!("shape {:?} is not fixed", fact.shape))?;
    Ok(shape.into())
}

/// A graph cut in two at its first sites.
pub(crate) struct Split {
    /// Image to boundary: everything that no pair can influence.
    pub(crate) prefix: TypedModel,
    /// Boundary to features: the adapted maps and all that follows.
    pub(crate) suffix: TypedModel,
}

/// Cuts a decluttered graph at its first sites. Without sites all of it is prefix.
pub(crate) fn split(model: &TypedModel) -> TractResult<Split> {
    let order = model.eval_order()?;
    let suffix_nodes = suffix_nodes(model, &order)?;
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

/// Site nodes, the frozen maps that they adapt (what lies between x and y), and everything behind them.
fn suffix_nodes(model: &TypedModel, order: &[usize]) -> TractResult<HashSet<usize>> {
    let mut suffix = HashSet::new();
    for &id in order {
        let node = model.node(id);
        // A site without an adapter only passes its map's output on; nothing can change behind it.
        if node.op_as::<SiteOp>().is_some_and(|site| site.adapter.is_some()) {
            let [x, y] = node.inputs[..] else { bail!("a site takes x and y") };
            suffix.extend(between(model, order, x.node, y.node));
            suffix.insert(id);
        }
    }
    for &id in order {
        if model.node(id).inputs.iter().any(|input| suffix.contains(&input.node)) {
            suffix.insert(id);
        }
    }
    Ok(suffix)
}

/// Nodes that depend on `x` and that `y` depends on, `y` included.
fn between(model: &TypedModel, order: &[usize], x: usize, y: usize) -> HashSet<usize> {
    let (mut behind_x, mut before_y) = (HashSet::from([x]), HashSet::from([y]));
    for &id in order {
        if model.node(id).inputs.iter().any(|i| behind_x.contains(&i.node)) {
            behind_x.insert(id);
        }
    }
    for &id in order.iter().rev() {
        if before_y.contains(&id) {
            before_y.extend(model.node(id).inputs.iter().map(|i| i.node));
        }
    }
    behind_x.remove(&x);
    behind_x.intersection(&before_y).copied().collect()
}

/// The name of the ONNX node that a typed node came from: tract appends to it.
pub(crate) fn onnx_name<'n>(names: &'n [String], typed: &'n str) -> &'n str {
    let of =
        |name: &&String| typed.strip_prefix(name.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
    names.iter().filter(of).max_by_key(|name| name.len()).map_or(typed, String::as_str)
}

/// Whether a node makes a value without inputs.
pub(crate) fn is_source(node: &TypedNode) -> bool {
    node.op_is::<TypedSource>() || node.op_is::<Const>()
}
