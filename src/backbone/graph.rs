//! From the ONNX file to tract graphs: frozen maps put in, features pooled, split at the first site.

use std::collections::{HashMap, HashSet};

use tract_onnx::model::ParsingContext;
use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::{AttributeProto, ModelProto, NodeProto, TensorProto};
use tract_onnx::prelude::*;
use tract_onnx::tract_core::internal::*;
use tract_onnx::tract_core::ops::konst::Const;
use tract_onnx::tract_core::ops::math;
use tract_onnx::tract_core::ops::nn::{Reduce, Reducer};
use tract_onnx::tract_core::ops::source::TypedSource;
use tract_onnx::tract_hir::internal::{InferenceOp, InferenceResult, Solver, TensorProxy};
use tract_onnx::tract_hir::ops::expandable::{Expansion, expand};

use super::file::OnnxFile;
use super::fuse::{bias_of, clip_of, fuse};
use super::shapes::settle;
use super::sites::Site;
use crate::backbone::kernels::map_op::{MapOp, SharedAdapter, SiteRef};
use crate::backbone::maps::{Geometry, MAP_INDEX, MapKind};
use crate::backbone::onnx::{MAP_OP, attribute};

const OUT_DIM: &str = "srlora_out_dim";
const KERNEL: &str = "srlora_kernel";

/// What a graph is built for.
pub(crate) struct Request<'r> {
    pub(crate) output: &'r str,
    pub(crate) batch: usize,
    pub(crate) height: usize,
    pub(crate) width: usize,
    pub(crate) sites: &'r [Site],
    pub(crate) adapter: Option<&'r SharedAdapter>,
}

/// The file as a typed graph, before any of tract's rewriting, with pairs at the maps that are sites.
pub(crate) fn typed(file: &OnnxFile, request: &Request) -> TractResult<TypedModel> {
    let mut proto = file.pruned(request.output);
    if let Some(graph) = proto.graph.as_mut() {
        fuse(file, graph, request.output);
        graph.node.iter_mut().for_each(|node| describe_map(file, node));
    }
    settled(file, &mut proto, request)?;
    // A file's own shapes may be symbolic or stale; a plan is built for one concrete batch and size.
    let mut onnx = tract_onnx::onnx().with_ignore_value_info(true).with_ignore_output_shapes(true);
    onnx.op_register.insert(MAP_OP, parse_map);
    let inference = onnx.model_for_proto_model(&proto)?;
    let mut model = shaped(inference, request)?;
    for node in &mut model.nodes {
        let Some(op) = node.op_as_mut::<MapOp>() else { continue };
        let map = file.maps.get(op.index).context("a map that the file does not have")?;
        if op.bias.is_empty() {
            op.bias = map.frozen.bias.as_slice().into();
        }
        op.frozen = Some(map.frozen.clone());
        let site = request.sites.iter().position(|site| site.name == map.name);
        op.site = site.zip(request.adapter).map(|(index, adapter)| SiteRef { index, adapter: adapter.clone() });
    }
    model.nodes.iter().try_for_each(|node| check_inputs(&model, node, file))?;
    Ok(model)
}

/// Refuses a map whose weight does not fit the tensor that it is given.
fn check_inputs(model: &TypedModel, node: &TypedNode, file: &OnnxFile) -> TractResult<()> {
    let Some(map) = node.op_as::<MapOp>().and_then(|op| file.maps.get(op.index)) else { return Ok(()) };
    let shape = concrete(model.outlet_fact(node.inputs[0])?)?;
    let (given, needed) = match &map.kind {
        MapKind::Linear => (shape.last().copied(), map.frozen.weight.in_dim),
        MapKind::Conv(Geometry { group, kernel, .. }) => {
            (shape.get(1).copied(), map.frozen.weight.in_dim / (kernel[0] * kernel[1]).max(1) * group)
        }
    };
    ensure!(
        given == Some(needed),
        "node {}: its weight takes {needed} channels of a tensor of shape {shape:?}",
        map.name
    );
    Ok(())
}

/// Lets nothing pass to tract but what has a shape within the limits.
fn settled(file: &OnnxFile, proto: &mut ModelProto, request: &Request) -> TractResult<()> {
    let graph = proto.graph.as_mut().context("no graph")?;
    let image = (file.input.name.as_str(), [request.batch, 3, request.height, request.width]);
    settle(graph, file.opset, Some(image), file.budget, |node| file.map(node)).map_err(TractError::msg)
}

fn shaped(mut model: InferenceModel, request: &Request) -> TractResult<TypedModel> {
    model.set_input_fact(0, f32::fact([request.batch, 3, request.height, request.width]).into())?;
    model.into_typed()
}

/// The file as a typed graph of tract's own convolutions and products in f32: what our maps are checked against.
pub(crate) fn reference(file: &OnnxFile, request: &Request) -> TractResult<TypedModel> {
    let mut proto = file.pruned(request.output);
    restore_maps(file, &mut proto);
    settled(file, &mut proto, request)?;
    let onnx = tract_onnx::onnx().with_ignore_value_info(true).with_ignore_output_shapes(true);
    shaped(onnx.model_for_proto_model(&proto)?, request)
}

/// Turns the nodes of maps back into Conv, or MatMul and Add, with f32 weights.
fn restore_maps(file: &OnnxFile, proto: &mut ModelProto) {
    let Some(graph) = proto.graph.as_mut() else { return };
    for mut node in std::mem::take(&mut graph.node) {
        let Some(map) = file.map(&node) else {
            graph.node.push(node);
            continue;
        };
        let (weight, bias) = (map.frozen.weight.dense(), &map.frozen.bias);
        let (w, b) = (format!("{}.weight", node.name), format!("{}.bias", node.name));
        let constant = |name: &String, dims: &[usize], values: &mut dyn Iterator<Item = f32>| TensorProto {
            name: name.clone(),
            dims: dims.iter().map(|&d| d as i64).collect(),
            data_type: DataType::Float as i32,
            raw_data: values.flat_map(f32::to_le_bytes).collect(),
            ..TensorProto::default()
        };
        let [out_dim, in_dim] = [weight.nrows(), weight.ncols()];
        node.input.push(w.clone());
        if let MapKind::Conv(geometry) = &map.kind {
            let [rows, columns] = geometry.kernel;
            let dims = [out_dim, in_dim / (rows * columns), rows, columns];
            graph.initializer.push(constant(&w, &dims, &mut weight.iter().copied()));
            node.op_type = "Conv".into();
            node.input.extend((!bias.is_empty()).then(|| b.clone()));
            graph.node.push(node);
        } else {
            graph.initializer.push(constant(&w, &[in_dim, out_dim], &mut weight.t().iter().copied()));
            node.op_type = "MatMul".into();
            if bias.is_empty() {
                graph.node.push(node);
            } else {
                let product = format!("{}.product", node.name);
                let output = std::mem::replace(&mut node.output[0], product.clone());
                let name = std::mem::replace(&mut node.name, product.clone());
                graph.node.push(node);
                let (input, op_type) = (vec![product, b.clone()], "Add".into());
                graph.node.push(NodeProto { name, op_type, input, output: vec![output], ..NodeProto::default() });
            }
        }
        if !bias.is_empty() {
            graph.initializer.push(constant(&b, &[out_dim], &mut bias.iter().copied()));
        }
    }
}

/// Tells a map's node what its output's shape depends on; the weight itself stays outside the protobuf.
fn describe_map(file: &OnnxFile, node: &mut NodeProto) {
    let Some(map) = file.map(node) else { return };
    let ints = |name: &str, ints| AttributeProto { name: name.into(), ints, ..AttributeProto::default() };
    node.attribute.push(ints(OUT_DIM, vec![map.frozen.weight.out_dim as i64]));
    if let MapKind::Conv(geometry) = &map.kind {
        node.attribute.push(ints(KERNEL, geometry.kernel.map(|k| k as i64).to_vec()));
    }
}

/// `op_register` takes a plain function, so all that shapes need travels in the node's attributes.
fn parse_map(_ctx: &ParsingContext, node: &NodeProto) -> TractResult<(Box<dyn InferenceOp>, Vec<String>)> {
    let index = attribute(node, MAP_INDEX).context("a map without an index")?.i as usize;
    let out_dim = attribute(node, OUT_DIM).and_then(|a| a.ints.first()).context("a map without a size")?;
    let kind = match attribute(node, KERNEL).map(|a| &a.ints[..]) {
        Some(&[rows, columns]) => {
            MapKind::Conv(Geometry::of(node, [rows as usize, columns as usize]).map_err(TractError::msg)?)
        }
        _ => MapKind::Linear,
    };
    let (out_dim, bias, clip) = (*out_dim as usize, bias_of(node).into(), clip_of(node));
    Ok((expand(Mark(MapOp { index, kind, out_dim, bias, clip, frozen: None, site: None })), vec![]))
}

/// A map while shapes are still being inferred.
#[derive(Debug, Clone)]
struct Mark(MapOp);

impl Expansion for Mark {
    fn name(&self) -> StaticName {
        MAP_OP.into()
    }

    fn rules<'r, 'p: 'r, 's: 'r>(
        &'s self,
        solver: &mut Solver<'r>,
        inputs: &'p [TensorProxy],
        outputs: &'p [TensorProxy],
    ) -> InferenceResult {
        solver.equals(&inputs[0].datum_type, f32::datum_type())?;
        solver.equals(&outputs[0].datum_type, f32::datum_type())?;
        solver.given(&inputs[0].shape, move |solver, shape| {
            let shape = shape.iter().map(|d| Ok(d.to_usize()?)).collect::<TractResult<TVec<usize>>>()?;
            let output: TVec<TDim> = self.0.output_shape(&shape)?.iter().map(|d| d.to_dim()).collect();
            solver.equals(&outputs[0].shape, output)
        })
    }

    fn wire(&self, prefix: &str, model: &mut TypedModel, inputs: &[OutletId]) -> TractResult<TVec<OutletId>> {
        model.wire_node(prefix, self.0.clone(), inputs)
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
