//! An ONNX file, decoded and checked: one image input, every node named, its frozen maps taken out.

mod checks;

use std::collections::{HashMap, HashSet};

use prost::Message;
use tract_onnx::pb::attribute_proto::AttributeType;
use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::{
    AttributeProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TypeProto, ValueInfoProto, type_proto,
};
use tract_onnx::pb::{tensor_shape_proto::dimension::Value as DimValue, type_proto::Value as TypeValue};

use self::checks::{check_names, check_order, check_tensors};
use super::constant::Constants;
use super::fold::{drop_idle, plain_casts, settle_operands, single_precision};
use super::maps::{self, MAP_INDEX, MAP_OP, Map};
use super::quantized::to_float;
use super::shapes::Budget;
use super::types::check_types;
use super::wire;
use crate::error::{Error, ErrorKind, Result};
use crate::limits;

/// The image input of a model, NCHW.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageInput {
    /// Tensor name.
    pub name: String,
    /// The batch that the file fixes; `None` where it is symbolic.
    pub batch: Option<usize>,
    /// Height in pixels where the file fixes it.
    pub height: Option<usize>,
    /// Width in pixels where the file fixes it.
    pub width: Option<usize>,
}

/// A decoded model file.
#[derive(Debug, Clone)]
pub(crate) struct OnnxFile {
    pub(crate) proto: ModelProto,
    pub(crate) subject: String,
    pub(crate) input: ImageInput,
    /// In the order of the file.
    pub(crate) maps: Vec<Map>,
    /// Bytes of the constants that are not weights of maps.
    pub(crate) constant_bytes: usize,
    /// The version of ONNX's own operators that it uses.
    pub(crate) opset: i64,
    /// What its activations may take.
    pub(crate) budget: Budget,
    producers: HashMap<String, usize>,
}

impl OnnxFile {
    /// Decodes and checks `bytes`, which are let go as soon as they are decoded; `subject` names the file in errors.
    ///
    /// # Errors
    /// Kind `Model`: not ONNX, truncated, external data, more than one input, no batch axis, or quantized in a way that has no float form
    /// here.
    pub(crate) fn decode(bytes: impl AsRef<[u8]>, subject: &str) -> Result<Self> {
        let fault = |message: String| Error::new(ErrorKind::Model, subject, message);
        let budget = Budget::of(bytes.as_ref().len());
        let mut proto = decode_proto(bytes.as_ref(), subject)?;
        drop(bytes);
        let opset = opset(&proto);
        let Some(graph) = proto.graph.as_mut().filter(|g| !g.node.is_empty()) else {
            return Err(fault("not an ONNX file: it holds no graph; export the model again".into()));
        };
        if !limits::OPSETS.contains(&opset) {
            return Err(fault(format!(
                "it uses opset {opset}; {:?} are taken; export the model again",
                limits::OPSETS
            )));
        }
        check_names(graph).map_err(fault)?;
        name_nodes(graph);
        check_tensors(graph).map_err(fault)?;
        check_types(graph).map_err(fault)?;
        single_precision(graph);
        let input = image_input(graph).map_err(fault)?;
        // Old files list their weights among the inputs.
        graph.input.retain(|i| i.name == input.name);
        check_order(graph, &producers(graph)).map_err(fault)?;
        plain_casts(graph, &input.name);
        let mut constants = Constants::of(graph, budget.bytes).map_err(fault)?;
        to_float(graph, opset, &mut constants).map_err(fault)?;
        settle_operands(&mut proto, &input.name, &mut constants, budget).map_err(fault)?;
        let graph = proto.graph.as_mut().expect("just read");
        let maps = maps::take(graph, &mut constants, budget.bytes).map_err(fault)?;
        drop_idle(graph, &input.name);
        let constant_bytes = constants.give_back(graph, budget.constants).map_err(fault)?;
        let producers = producers(graph);
        Ok(OnnxFile { subject: subject.into(), input, maps, constant_bytes, opset, budget, producers, proto })
    }

    pub(crate) fn graph(&self) -> &GraphProto {
        self.proto.graph.as_ref().expect("checked by decode")
    }

    /// The node that makes `tensor`.
    pub(crate) fn producer(&self, tensor: &str) -> Option<&NodeProto> {
        self.producers.get(tensor).map(|&ix| &self.graph().node[ix])
    }

    /// The name of the model's (first) output tensor.
    pub(crate) fn output(&self) -> &str {
        let mut outputs = self.graph().output.iter().map(|o| o.name.as_str());
        outputs.find(|name| self.producers.contains_key(*name)).expect("checked by decode")
    }

    /// Indices of the nodes that `tensor` depends on, in file order.
    pub(crate) fn ancestors(&self, tensor: &str) -> Vec<usize> {
        let mut seen = HashSet::new();
        let mut open = vec![tensor];
        while let Some(name) = open.pop() {
            let Some(&ix) = self.producers.get(name) else { continue };
            if seen.insert(ix) {
                open.extend(self.graph().node[ix].input.iter().map(String::as_str));
            }
        }
        let mut order: Vec<usize> = seen.into_iter().collect();
        order.sort_unstable();
        order
    }

    /// The frozen map that a node stands for.
    pub(crate) fn map(&self, node: &NodeProto) -> Option<&Map> {
        let index = (node.op_type == MAP_OP).then(|| attribute(node, MAP_INDEX))??;
        self.maps.get(index.i as usize)
    }

    /// Resolves what `--features` names, a tensor or a node, to a tensor.
    ///
    /// # Errors
    /// Kind `Usage`, with the nearest names.
    pub(crate) fn tensor_named(&self, name: &str) -> Result<String> {
        if self.producers.contains_key(name) {
            return Ok(name.to_string());
        }
        if let Some(node) = self.graph().node.iter().find(|n| n.name == name) {
            return Ok(node.output[0].clone());
        }
        let names = self.graph().node.iter().flat_map(|n| n.output.iter().chain([&n.name]));
        let near = super::sites::nearest(name, names.map(String::as_str)).join(", ");
        Err(Error::new(
            ErrorKind::Usage,
            format!("--features {name}"),
            format!("{} has no tensor or node of that name; the nearest are: {near}", self.subject),
        ))
    }

    /// The model cut down to what `output` needs.
    pub(crate) fn pruned(&self, output: &str) -> ModelProto {
        let graph = self.graph();
        let node: Vec<NodeProto> = self.ancestors(output).into_iter().map(|ix| graph.node[ix].clone()).collect();
        let used: HashSet<&str> = node.iter().flat_map(|n| &n.input).map(String::as_str).collect();
        let initializer = graph.initializer.iter().filter(|t| used.contains(t.name.as_str())).cloned().collect();
        let output = vec![ValueInfoProto { name: output.to_string(), ..ValueInfoProto::default() }];
        let input = vec![float_input(&self.input.name)];
        model_of(&self.proto, GraphProto { node, initializer, input, output, ..GraphProto::default() })
    }
}

/// A model of `graph` and nothing else: what a file says besides is of no use to tract.
pub(crate) fn model_of(proto: &ModelProto, graph: GraphProto) -> ModelProto {
    let opset_import = vec![OperatorSetIdProto { domain: String::new(), version: opset(proto) }];
    ModelProto { ir_version: proto.ir_version, opset_import, graph: Some(graph), ..ModelProto::default() }
}

/// An input of f32 values, whose shape is still to be said.
fn float_input(name: &str) -> ValueInfoProto {
    let tensor = type_proto::Tensor { elem_type: DataType::Float as i32, ..type_proto::Tensor::default() };
    let kind = TypeProto { value: Some(TypeValue::TensorType(tensor)), ..TypeProto::default() };
    ValueInfoProto { name: name.to_string(), r#type: Some(kind), ..ValueInfoProto::default() }
}

/// Decodes the protobuf alone, once it has no more parts than a file of its size may have.
pub(crate) fn decode_proto(bytes: &[u8], subject: &str) -> Result<ModelProto> {
    wire::check(bytes).map_err(|what| Error::new(ErrorKind::Model, subject, what))?;
    ModelProto::decode(bytes).map_err(|e| {
        let message = "not an ONNX file, or a truncated one; export it again";
        Error::new(ErrorKind::Model, subject, message).because(e.to_string())
    })
}

/// An attribute of `node` by name.
pub(crate) fn attribute<'n>(node: &'n NodeProto, name: &str) -> Option<&'n AttributeProto> {
    node.attribute.iter().find(|a| a.name == name)
}

/// Every tensor that a node reads, those in its branches and loops too.
pub(crate) fn reads(node: &NodeProto) -> Vec<&str> {
    let mut names: Vec<&str> = node.input.iter().map(String::as_str).collect();
    for graph in node.attribute.iter().flat_map(|a| a.g.iter().chain(&a.graphs)) {
        names.extend(graph.node.iter().flat_map(reads));
        names.extend(graph.output.iter().map(|o| o.name.as_str()));
    }
    names
}

/// An integer attribute.
pub(crate) fn int_attribute(name: &str, value: i64) -> AttributeProto {
    let kind = AttributeType::Int as i32;
    AttributeProto { name: name.into(), r#type: kind, i: value, ..AttributeProto::default() }
}

/// The version of ONNX's own operators that a file uses.
pub(crate) fn opset(proto: &ModelProto) -> i64 {
    let own = proto.opset_import.iter().filter(|set| set.domain.is_empty() || set.domain == "ai.onnx");
    own.map(|set| set.version).max().unwrap_or(0)
}

/// Every name in a graph, so that new ones can be told apart.
pub(crate) struct Names(HashSet<String>);

impl Names {
    pub(crate) fn of(graph: &GraphProto) -> Self {
        let in_nodes = graph.node.iter().flat_map(|n| n.input.iter().chain(&n.output).chain([&n.name]));
        let values = graph.input.iter().chain(&graph.output).chain(&graph.value_info).map(|v| &v.name);
        Names(in_nodes.chain(values).chain(graph.initializer.iter().map(|t| &t.name)).cloned().collect())
    }

    /// `wish`, or if there is one of that name `wish` with a number.
    pub(crate) fn fresh(&mut self, wish: &str) -> String {
        let mut name = wish.to_string();
        let mut count = 1;
        while !self.0.insert(name.clone()) {
            count += 1;
            name = format!("{wish}.{count}");
        }
        name
    }
}

/// A node's name is its first output's where the exporter gave none, and is made unique where it gave one twice.
pub(crate) fn name_nodes(graph: &mut GraphProto) {
    let mut seen = HashSet::new();
    for node in &mut graph.node {
        if node.name.is_empty()
            && let Some(output) = node.output.first()
        {
            node.name.clone_from(output);
        }
        if !seen.insert(node.name.clone()) {
            node.name = format!("{}#{}", node.name, node.output.first().map_or("", String::as_str));
            seen.insert(node.name.clone());
        }
    }
}

fn producers(graph: &GraphProto) -> HashMap<String, usize> {
    let named = |node: &NodeProto| node.output.iter().filter(|o| !o.is_empty()).cloned().collect::<Vec<String>>();
    let outputs = |(ix, node): (usize, &NodeProto)| named(node).into_iter().map(move |o| (o, ix)).collect::<Vec<_>>();
    graph.node.iter().enumerate().flat_map(outputs).collect()
}

fn image_input(graph: &GraphProto) -> std::result::Result<ImageInput, String> {
    let constants: HashSet<&str> = graph.initializer.iter().map(|t| t.name.as_str()).collect();
    let inputs: Vec<&ValueInfoProto> = graph.input.iter().filter(|i| !constants.contains(i.name.as_str())).collect();
    let [input] = inputs[..] else {
        let names: Vec<&str> = inputs.iter().map(|i| i.name.as_str()).collect();
        return Err(format!(
            "the model has {} inputs ({}); a classifier of single images has one",
            names.len(),
            names.join(", ")
        ));
    };
    let Some(TypeValue::TensorType(tensor)) = input.r#type.as_ref().and_then(|t| t.value.as_ref()) else {
        return Err(format!("input {} declares no tensor type; export the model again", input.name));
    };
    if tensor.elem_type != DataType::Float as i32 {
        return Err(format!("input {} is not of a float type; export the model with a float input", input.name));
    }
    let dims: Vec<Option<usize>> = tensor.shape.iter().flat_map(|s| &s.dim).map(|d| fixed(d.value.as_ref())).collect();
    match dims[..] {
        [batch, None | Some(3), height, width] => Ok(ImageInput { name: input.name.clone(), batch, height, width }),
        [_, Some(channels), _, _] => Err(format!(
            "input {} has {channels} channels; RGB images (N x 3 x H x W) are what is trained on",
            input.name
        )),
        [_, _, _] => Err(format!(
            "input {} has three axes, no batch axis; export the model with an input of N x 3 x H x W",
            input.name
        )),
        _ => Err(format!("input {} has {} axes; an input of N x 3 x H x W is needed", input.name, dims.len())),
    }
}

fn fixed(dim: Option<&DimValue>) -> Option<usize> {
    match dim {
        Some(DimValue::DimValue(n)) if *n > 0 => Some(*n as usize),
        _ => None,
    }
}
