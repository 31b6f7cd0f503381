//! Where the weight of each node comes from: the names that an exporter has left.

use tract_onnx::pb::{GraphProto, NodeProto};

use super::decode::decode_proto;
use super::names::name_nodes;
use super::nodes::producers;
use crate::error::Result;

/// How the name of a weight ends that is a parameter of a PyTorch module.
const PARAMETER: &str = ".weight";

/// Nodes with a weight in the order of the file, each with its tensor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct WeightSources(Vec<(String, String)>);

impl WeightSources {
    /// Of the file `bytes`, called `subject`.
    ///
    /// # Errors
    /// Kind `Model` where it is damaged.
    pub(crate) fn of(bytes: &[u8], subject: &str) -> Result<Self> {
        let mut graph = decode_proto(bytes, subject)?.graph.unwrap_or_default();
        name_nodes(&mut graph);
        let made = producers(&graph);
        let makes = |name: &str| made.get(name).and_then(|&ix| graph.node.get(ix));
        let named = |node: &NodeProto| Some((node.name.clone(), source(&graph, makes, operand(node)?)?));
        Ok(WeightSources(graph.node.iter().filter_map(named).collect()))
    }

    /// The tensor of the weight of a node.
    pub(crate) fn weight_of(&self, node: &str) -> Option<&str> {
        self.0.iter().find(|(name, _)| name == node).map(|(_, weight)| weight.as_str())
    }

    /// The last node, and its tensor: the classifier, where there is one.
    pub(crate) fn last(&self) -> Option<(&str, &str)> {
        self.0.last().map(|(node, weight)| (node.as_str(), weight.as_str()))
    }
}

/// The tensor that a node multiplies with, if it is one that does.
fn operand(node: &NodeProto) -> Option<&str> {
    let place = match node.op_type.as_str() {
        "Conv" | "Gemm" | "MatMul" => 1,
        "QLinearConv" | "QLinearMatMul" => 3,
        _ => return None,
    };
    node.input.get(place).map(String::as_str)
}

/// From an operand back to an initializer or a constant, through what moves numbers or decodes them. The first parameter on the way is
/// meant: its codes have names of their own.
fn source<'g>(graph: &'g GraphProto, makes: impl Fn(&str) -> Option<&'g NodeProto>, operand: &str) -> Option<String> {
    let mut name = operand.to_owned();
    for _ in 0..=graph.node.len() {
        let maker = makes(&name);
        if name.ends_with(PARAMETER) || maker.is_some_and(|node| node.op_type == "Constant") {
            return Some(name);
        }
        match maker {
            None => return graph.initializer.iter().any(|tensor| tensor.name == name).then_some(name),
            Some(node)
                if ["Identity", "Cast", "Transpose", "Reshape", "DequantizeLinear"].contains(&&*node.op_type) =>
            {
                name.clone_from(node.input.first()?);
            }
            Some(_) => return None,
        }
    }
    None
}
