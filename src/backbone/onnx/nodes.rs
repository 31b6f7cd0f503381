//! What is asked of nodes: their attributes, what they read, and which of them make or follow from a tensor.

use std::collections::{HashMap, HashSet};

use tract_onnx::pb::attribute_proto::AttributeType;
use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::{AttributeProto, GraphProto, NodeProto};

/// An attribute of `node` by name.
pub(crate) fn attribute<'n>(node: &'n NodeProto, name: &str) -> Option<&'n AttributeProto> {
    node.attribute.iter().find(|a| a.name == name)
}

/// An integer attribute.
pub(crate) fn int_attribute(name: &str, value: i64) -> AttributeProto {
    let kind = AttributeType::Int as i32;
    AttributeProto { name: name.into(), r#type: kind, i: value, ..AttributeProto::default() }
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

/// The index of the node that makes each tensor.
pub(crate) fn producers(graph: &GraphProto) -> HashMap<String, usize> {
    let named = |node: &NodeProto| node.output.iter().filter(|o| !o.is_empty()).cloned().collect::<Vec<String>>();
    let outputs = |(ix, node): (usize, &NodeProto)| named(node).into_iter().map(move |o| (o, ix)).collect::<Vec<_>>();
    graph.node.iter().enumerate().flat_map(outputs).collect()
}

/// Tensors that depend on the image.
pub(crate) fn changing<'g>(graph: &'g GraphProto, image: &'g str) -> HashSet<&'g str> {
    let mut changing = HashSet::from([image]);
    for node in &graph.node {
        if node.input.iter().any(|i| changing.contains(i.as_str())) {
            changing.extend(node.output.iter().map(String::as_str));
        }
    }
    changing
}

/// How ONNX calls a type.
pub(crate) fn type_name(data_type: i32) -> String {
    DataType::try_from(data_type).map_or_else(|_| format!("number {data_type}"), |t| t.as_str_name().to_lowercase())
}
