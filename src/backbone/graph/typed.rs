//! From the ONNX file to a typed graph, with the frozen maps put in.

use tract_onnx::model::ParsingContext;
use tract_onnx::pb::{AttributeProto, ModelProto, NodeProto};
use tract_onnx::prelude::*;
use tract_onnx::tract_core::internal::*;
use tract_onnx::tract_hir::internal::{InferenceOp, InferenceResult, Solver, TensorProxy};
use tract_onnx::tract_hir::ops::expandable::{Expansion, expand};

use super::file::OnnxFile;
use super::fuse::{bias_of, clip_of, fuse};
use super::nodes::concrete;
use super::sites::Site;
use crate::backbone::kernels::map_op::{MapOp, SharedAdapter, SiteRef};
use crate::backbone::maps::{Geometry, MAP_INDEX, MapKind};
use crate::backbone::onnx::{MAP_OP, attribute};
use crate::backbone::shapes::settle;

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
pub(super) fn settled(file: &OnnxFile, proto: &mut ModelProto, request: &Request) -> TractResult<()> {
    let graph = proto.graph.as_mut().context("no graph")?;
    let image = (file.input.name.as_str(), [request.batch, 3, request.height, request.width]);
    settle(graph, file.opset, Some(image), file.budget, |node| file.map(node)).map_err(TractError::msg)
}

/// The typed graph of `model`, for the one shape of its image.
pub(super) fn shaped(mut model: InferenceModel, request: &Request) -> TractResult<TypedModel> {
    model.set_input_fact(0, f32::fact([request.batch, 3, request.height, request.width]).into())?;
    model.into_typed()
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
    Ok((
        expand(Mark(MapOp { index, kind, out_dim, bias, clip, frozen: None, site: None, keeps_projection: false })),
        vec![],
    ))
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

    /// Its weight is still to come.
    fn runs_out_of_plan(&self) -> bool {
        false
    }
}
