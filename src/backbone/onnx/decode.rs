//! From bytes to a decoded model that is what it says it is.

use prost::Message;
use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::type_proto::Value as TypeValue;
use tract_onnx::pb::{GraphProto, ModelProto, OperatorSetIdProto, TypeProto, ValueInfoProto, type_proto};

use super::budget::Budget;
use super::checks::{check_names, check_order, check_tensors};
use super::image::{ImageInput, image_input};
use super::layout;
use super::names::name_nodes;
use super::nodes::producers;
use super::types::check_types;
use super::wire;
use crate::error::{Error, ErrorKind, Result};
use crate::limits;

/// A model that has been decoded and checked: every node named, in order, with the image as its only input.
pub(crate) struct Decoded {
    pub(crate) proto: ModelProto,
    pub(crate) input: ImageInput,
    /// The version of ONNX's own operators that it uses.
    pub(crate) opset: i64,
    /// What its activations and constants may take.
    pub(crate) budget: Budget,
}

/// Decodes and checks `bytes`, which are let go as soon as they are decoded; `subject` names the file in errors.
///
/// # Errors
/// Kind `Model`: not ONNX, truncated, external data, more than one input, no batch axis, or damaged.
pub(crate) fn decode(bytes: impl AsRef<[u8]>, subject: &str) -> Result<Decoded> {
    let fault = |message: String| Error::new(ErrorKind::Model, subject, message);
    let budget = Budget::of(bytes.as_ref().len());
    let mut proto = decode_proto(bytes.as_ref(), subject)?;
    drop(bytes);
    let opset = opset(&proto);
    let Some(graph) = proto.graph.as_mut().filter(|g| !g.node.is_empty()) else {
        return Err(fault("not an ONNX file: it holds no graph; export the model again".into()));
    };
    if !limits::OPSETS.contains(&opset) {
        return Err(fault(format!("it uses opset {opset}; {:?} are taken; export the model again", limits::OPSETS)));
    }
    check_names(graph).map_err(fault)?;
    name_nodes(graph);
    check_tensors(graph).map_err(fault)?;
    check_types(graph).map_err(fault)?;
    let input = image_input(graph).map_err(fault)?;
    // Old files list their weights among the inputs.
    graph.input.retain(|i| i.name == input.name);
    layout::plain(graph, &input, opset);
    check_order(graph, &producers(graph)).map_err(fault)?;
    Ok(Decoded { proto, input, opset, budget })
}

/// Decodes the protobuf alone, once it has no more parts than a file of its size may have.
pub(crate) fn decode_proto(bytes: &[u8], subject: &str) -> Result<ModelProto> {
    wire::check(bytes).map_err(|what| Error::new(ErrorKind::Model, subject, what))?;
    ModelProto::decode(bytes).map_err(|e| {
        let message = "not an ONNX file, or a truncated one; export it again";
        Error::new(ErrorKind::Model, subject, message).because(e.to_string())
    })
}

/// The version of ONNX's own operators that a file uses.
pub(crate) fn opset(proto: &ModelProto) -> i64 {
    let own = proto.opset_import.iter().filter(|set| set.domain.is_empty() || set.domain == "ai.onnx");
    own.map(|set| set.version).max().unwrap_or(0)
}

/// A model of `graph` and nothing else: what a file says besides is of no use to tract.
pub(crate) fn model_of(proto: &ModelProto, graph: GraphProto) -> ModelProto {
    let opset_import = vec![OperatorSetIdProto { domain: String::new(), version: opset(proto) }];
    ModelProto { ir_version: proto.ir_version, opset_import, graph: Some(graph), ..ModelProto::default() }
}

/// An input of f32 values, whose shape is still to be said.
pub(crate) fn float_input(name: &str) -> ValueInfoProto {
    let tensor = type_proto::Tensor { elem_type: DataType::Float as i32, ..type_proto::Tensor::default() };
    let kind = TypeProto { value: Some(TypeValue::TensorType(tensor)), ..TypeProto::default() };
    ValueInfoProto { name: name.to_string(), r#type: Some(kind), ..ValueInfoProto::default() }
}
