//! An ONNX file, decoded and checked: one image input, every node named, its frozen maps taken out.

use std::collections::{HashMap, HashSet};

use half::f16;
use prost::Message;
use tract_onnx::pb::attribute_proto::AttributeType;
use tract_onnx::pb::tensor_proto::{DataLocation, DataType};
use tract_onnx::pb::{
    AttributeProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto, TypeProto, ValueInfoProto,
    type_proto,
};
use tract_onnx::pb::{tensor_shape_proto::dimension::Value as DimValue, type_proto::Value as TypeValue};

use super::constant::Constants;
use super::fold::{drop_idle, plain_casts, settle_operands, single_precision};
use super::maps::{self, MAP_INDEX, MAP_OP, Map, MapKind};
use super::quantized::to_float;
use super::shapes::Budget;
use super::types::check_types;
use super::wire;
use crate::error::{Error, ErrorKind, Result};
use crate::limits;

/// Operators that may stand between the last linear layer and the output without making it anything but the classifier.
///
/// Max and Min are what remains of a quantized output.
const CLASSIFIER_TAIL_OPS: [&str; 12] = [
    "Identity",
    "Add",
    "Softmax",
    "LogSoftmax",
    "Flatten",
    "Reshape",
    "Squeeze",
    "Cast",
    "Sigmoid",
    "Dropout",
    "Max",
    "Min",
];

/// Attributes of this crate's own nodes begin so.
const OWN_PREFIX: &str = "srlora_";

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

    fn is_constant(&self, tensor: &str) -> bool {
        self.graph().initializer.iter().any(|t| t.name == tensor)
            || self.producer(tensor).is_some_and(|node| node.op_type == "Constant")
    }

    /// The tensor that the head sees by default: the data input of the last linear layer, if that is the classifier
    /// (only bias, softmax or a reshape follow), else the model's output.
    pub(crate) fn default_features(&self) -> String {
        let mut tensor = self.output();
        while let Some(node) = self.producer(tensor) {
            if self.map(node).is_some_and(|map| map.kind == MapKind::Linear) {
                return node.input[0].clone();
            }
            if !CLASSIFIER_TAIL_OPS.contains(&node.op_type.as_str()) {
                break;
            }
            let Some(next) = node.input.iter().find(|name| !self.is_constant(name)) else { break };
            tensor = next;
        }
        self.output().to_string()
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

/// ONNX asks for topological order; later walks over the graph rely on it to end.
fn check_order(graph: &GraphProto, producers: &HashMap<String, usize>) -> std::result::Result<(), String> {
    let given: HashSet<&str> = graph
        .initializer
        .iter()
        .map(|t| &t.name)
        .chain(graph.input.iter().map(|i| &i.name))
        .map(String::as_str)
        .collect();
    for (ix, node) in graph.node.iter().enumerate() {
        let unknown = |i: &&String| !i.is_empty() && !given.contains(i.as_str()) && !producers.contains_key(*i);
        if let Some(missing) = node.input.iter().find(unknown) {
            return Err(format!("node {} uses tensor {missing}, which nothing makes; the file is damaged", node.name));
        }
        if let Some(late) = node.input.iter().find(|i| producers.get(*i).is_some_and(|&at| at >= ix)) {
            return Err(format!("node {} uses tensor {late} before it is made; the file is damaged", node.name));
        }
        if node.output.first().is_none_or(String::is_empty) {
            return Err(format!("node {} has no output; the file is damaged", node.name));
        }
    }
    if graph.output.iter().any(|o| producers.contains_key(&o.name)) {
        return Ok(());
    }
    Err("no node makes the graph's output; the file is damaged".into())
}

/// Names that are too long, meant twice, or this crate's own.
fn check_names(graph: &GraphProto) -> std::result::Result<(), String> {
    let most = limits::MOST_NAME_BYTES;
    let mut made = HashSet::new();
    let inputs: HashSet<&str> = graph.input.iter().map(|i| i.name.as_str()).collect();
    let mut is_new = |name: &'_ str| name.is_empty() || made.insert(name.to_string());
    if let Some(twice) = graph.initializer.iter().find(|t| !is_new(&t.name)) {
        return Err(format!("tensor {} is held twice; the file is damaged", twice.name));
    }
    for node in &graph.node {
        let texts = node.input.iter().chain(&node.output).chain([&node.name, &node.op_type]);
        let own = node.attribute.iter().map(|a| &a.name);
        if let Some(long) = texts.chain(own).find(|text| text.len() > most) {
            let start: String = long.chars().take(40).collect();
            return Err(format!(
                "the name {start}... is longer than {most} bytes; export the model with shorter names"
            ));
        }
        if node.op_type == MAP_OP || node.attribute.iter().any(|a| a.name.starts_with(OWN_PREFIX)) {
            return Err(format!("node {} uses a name that is srlora's own; export the model again", node.name));
        }
        if let Some(bad) = node.attribute.iter().find(|a| !(a.f.is_finite() && a.floats.iter().all(|f| f.is_finite())))
        {
            return Err(format!("node {}: its {} is not finite; the file is damaged", node.name, bad.name));
        }
        if let Some(twice) = node.output.iter().find(|name| inputs.contains(name.as_str()) || !is_new(name)) {
            return Err(format!("node {} makes tensor {twice}, which is made already; the file is damaged", node.name));
        }
    }
    let named = graph.initializer.iter().map(|t| &t.name).chain(graph.input.iter().map(|i| &i.name));
    if named.into_iter().any(|name| name.is_empty() || name.len() > most) {
        return Err(format!("a tensor has no name, or one longer than {most} bytes; export the model again"));
    }
    Ok(())
}

/// The first value of a float tensor that is not finite.
fn not_finite(tensor: &TensorProto) -> Option<f64> {
    let raw = &tensor.raw_data[..];
    let bad = |value: f64| (!value.is_finite()).then_some(value);
    match DataType::try_from(tensor.data_type) {
        Ok(DataType::Float) => {
            let single = raw.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b));
            single.chain(tensor.float_data.iter().copied()).find_map(|v| bad(v.into()))
        }
        Ok(DataType::Float16) => {
            let half = raw.as_chunks().0.iter().map(|b| f16::from_le_bytes(*b));
            half.chain(tensor.int32_data.iter().map(|&v| f16::from_bits(v as u16))).find_map(|v| bad(v.into()))
        }
        Ok(DataType::Double) => {
            let double = raw.as_chunks().0.iter().map(|b| f64::from_le_bytes(*b));
            double.chain(tensor.double_data.iter().copied()).find_map(bad)
        }
        _ => None,
    }
}

fn check_tensors(graph: &GraphProto) -> std::result::Result<(), String> {
    let in_nodes = graph.node.iter().flat_map(|n| n.attribute.iter().filter_map(|a| a.t.as_ref()));
    for tensor in graph.initializer.iter().chain(in_nodes) {
        let external = tensor.data_location == Some(DataLocation::External as i32) || !tensor.external_data.is_empty();
        if external {
            return Err(format!(
                "tensor {} lies in an external data file; save the model as one file (onnx.save without external data)",
                tensor.name
            ));
        }
        if tensor.data_type == DataType::Bfloat16 as i32 {
            return Err(format!("tensor {} is bfloat16; export the model in fp32, fp16 or int8", tensor.name));
        }
        if tensor.dims.iter().any(|&d| d < 0) {
            return Err(format!("tensor {} has a negative dimension; the file is damaged", tensor.name));
        }
        let dims: Vec<usize> = tensor.dims.iter().map(|&d| d as usize).collect();
        if limits::elements(&dims, usize::MAX).is_none() {
            let most = limits::MOST_AXES;
            return Err(format!(
                "tensor {} has the shape {dims:?}, too large or of more than {most} axes",
                tensor.name
            ));
        }
        if let Some(value) = not_finite(tensor) {
            return Err(format!("tensor {} holds {value}; the file is damaged", tensor.name));
        }
        let elements = tensor.dims.iter().try_fold(1usize, |n, &d| n.checked_mul(d as usize));
        if elements.is_none() || elements.and_then(|n| held_by(tensor, n)).is_some_and(|fits| !fits) {
            let (name, dims) = (&tensor.name, &tensor.dims);
            return Err(format!("tensor {name} does not hold the values of its shape {dims:?}; the file is damaged"));
        }
    }
    Ok(())
}

/// Whether a tensor holds exactly `elements` values; `None` for a type whose size is not known here.
fn held_by(tensor: &TensorProto, elements: usize) -> Option<bool> {
    let (bytes, typed) = match DataType::try_from(tensor.data_type).ok()? {
        DataType::Float => (4, tensor.float_data.len()),
        DataType::Double => (8, tensor.double_data.len()),
        DataType::Int64 => (8, tensor.int64_data.len()),
        DataType::Uint64 => (8, tensor.uint64_data.len()),
        DataType::Uint32 => (4, tensor.uint64_data.len()),
        DataType::Int32 => (4, tensor.int32_data.len()),
        DataType::Float16 | DataType::Int16 | DataType::Uint16 => (2, tensor.int32_data.len()),
        DataType::Int8 | DataType::Uint8 | DataType::Bool => (1, tensor.int32_data.len()),
        _ => return None,
    };
    let raw = tensor.raw_data.len();
    Some(if raw == 0 { typed == elements } else { elements.checked_mul(bytes) == Some(raw) })
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
