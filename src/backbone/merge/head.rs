//! The new classifier: logits = W x + b in float, on the tensor that the head reads.

use std::collections::HashSet;

use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::{NodeProto, TensorProto};

use super::prune::ancestors;
use crate::backbone::onnx::attribute;
use crate::backbone::quantized::MOVES;
use crate::backbone::splice::Message;
use crate::backbone::splice::{Dim, Document, INPUT, NewNode, Setting};

/// From this opset on, a ReduceMean takes its axes as an input.
const AXES_AS_INPUT: i64 = 18;

/// A classifier on features.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Classifier<'h> {
    /// The tensor that it reads.
    pub(crate) features: &'h str,
    /// Its shape, batch axis included; what lies on more axes than two is pooled as the head is used to.
    pub(crate) shape: &'h [usize],
    /// classes x features.
    pub(crate) weight: &'h [f32],
    /// One for each class.
    pub(crate) bias: &'h [f32],
    /// Whether both can be given at run time, for any number of classes; what stands here is taken where none are.
    pub(crate) is_given: bool,
}

/// The dimension of classes whose number is known at run time.
const CLASSES: &str = "srlora.classes";

/// Puts the classifier behind the features, under the name of the output that it takes the place of; where that gave probabilities, as
/// `logits`, so that nobody takes the one for the other. The names of its weight and its bias.
///
/// # Errors
/// Says why the features cannot be read.
pub(super) fn append(document: &mut Document, head: &Classifier, image: &str) -> Result<[String; 2], String> {
    let mut tensor = in_float(document, head.features)?;
    let wanted = document.graph.output.first().map(|output| output.name.clone()).ok_or("it has no output")?;
    let is_needed = ancestors(document, &[tensor.as_str(), head.features]).1.contains(&wanted);
    let output =
        if is_needed || gives_probabilities(document, &wanted) { document.names.fresh("logits") } else { wanted };
    tensor = pooled(document, tensor, head.shape)?;
    let (classes, features) = (head.bias.len(), head.weight.len() / head.bias.len().max(1));
    let width = if head.is_given { Dim::Named(CLASSES) } else { Dim::Size(classes) };
    let mut add = |wish: &str, dims: &[Dim], shape: &[usize], values: &[f32]| {
        let raw: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        let float = DataType::Float as i32;
        match head.is_given {
            true => document.add_default(wish, float, dims, (shape, &raw)),
            false => document.add_tensor(wish, float, shape, &raw),
        }
    };
    // Many a vendor's tensor is called head.weight; who gives one should find it by its name.
    let own = if head.is_given { "srlora." } else { "" };
    let weight = add(&format!("{own}head.weight"), &[width, Dim::Size(features)], &[classes, features], head.weight);
    let bias = add(&format!("{own}head.bias"), &[width], &[classes], head.bias);
    let inputs = vec![tensor, weight.clone(), bias.clone()];
    let attributes = vec![("transB", Setting::Int(1))];
    let (end, name) = (document.graph.node.len(), document.names.fresh("head"));
    document.add_node(end, NewNode { op: "Gemm", name, inputs, output: output.clone(), attributes });
    let described = described(document, &output, image, width);
    document.set_output(described);
    Ok([weight, bias])
}

/// Whether a softmax or the like makes `output`, but for what changes no number.
fn gives_probabilities(document: &Document, output: &str) -> bool {
    let mut tensor = output;
    while let Some(node) = document.producer(tensor).map(|at| &document.graph.node[at]) {
        match (node.op_type.as_str(), node.input.first()) {
            ("Softmax" | "LogSoftmax" | "Sigmoid", _) => return true,
            ("Identity" | "Reshape" | "Flatten" | "Squeeze" | "Cast", Some(before)) => tensor = before,
            _ => break,
        }
    }
    false
}

/// The features as floats of 32 bits: a quantized tensor is decoded on the grid that it was written with.
fn in_float(document: &mut Document, features: &str) -> Result<String, String> {
    let missing = || format!("tensor {features} is not in the file; pack it with another option `features`");
    let mut ix = document.producer(features).ok_or_else(missing)?;
    loop {
        let node = &document.graph.node[ix];
        let input = |at: usize| node.input.get(at).filter(|name| !name.is_empty()).cloned();
        let grid = match node.op_type.as_str() {
            // What it quantizes is what the head has learned on.
            "DynamicQuantizeLinear" if node.output.first().is_some_and(|output| output == features) => {
                return input(0).ok_or_else(missing);
            }
            "QuantizeLinear" => Some(1),
            "QLinearConv" | "QLinearAdd" | "QLinearMul" | "QLinearMatMul" => Some(6),
            "QGemm" => Some(7),
            "QLinearConcat" => Some(0),
            op if op.starts_with("QLinear") => Some(3),
            op if MOVES.contains(&op) => {
                match node.input.first().and_then(|input| document.producer(input)) {
                    Some(before) => ix = before,
                    None => break,
                }
                continue;
            }
            _ => None,
        };
        // A QGemm without an output scale makes floats.
        let Some(scale) = grid.and_then(input) else { break };
        let zero = grid.and_then(|at| input(at + 1));
        let inputs = [Some(features.to_owned()), Some(scale), zero].into_iter().flatten().collect();
        return Ok(add(document, "DequantizeLinear", inputs, vec![]));
    }
    if computes_in_half(document) {
        let float = vec![("to", Setting::Int(DataType::Float as i64))];
        return Ok(add(document, "Cast", vec![features.to_owned()], float));
    }
    Ok(features.to_owned())
}

/// Whether any node may compute in f16, rather than only read weights that are cast first.
fn computes_in_half(document: &Document) -> bool {
    let nodes = &document.graph.node;
    let is_half = |data_type: i32| data_type == DataType::Float16 as i32;
    let to_half = |node: &NodeProto| attribute(node, "to").is_some_and(|to| is_half(to.i as i32));
    let halves = document.graph.initializer.iter().filter(|tensor| is_half(tensor.data_type));
    let halves: HashSet<&str> = halves.map(|tensor| tensor.name.as_str()).collect();
    let computes = |node: &NodeProto| match node.op_type.as_str() {
        "Cast" => to_half(node),
        "Constant" => constant_in(node).is_some_and(|tensor| is_half(tensor.data_type)),
        _ => node.input.iter().any(|input| halves.contains(input.as_str())),
    };
    nodes.iter().any(computes)
}

fn constant_in(node: &NodeProto) -> Option<&TensorProto> {
    attribute(node, "value")?.t.as_ref()
}

/// The mean over rows and columns of a map, or over the tokens of a sequence, as one vector for each image.
fn pooled(document: &mut Document, tensor: String, shape: &[usize]) -> Result<String, String> {
    let axes: Vec<usize> = match shape.len() {
        0 | 1 => return Err(format!("the features have the shape {shape:?}, without a batch axis and a feature axis")),
        2 => return Ok(tensor),
        3 => vec![1],
        rank => (2..rank).collect(),
    };
    let flat = vec![("axis", Setting::Int(1))];
    if axes.iter().all(|&axis| shape[axis] == 1) {
        return Ok(add(document, "Flatten", vec![tensor], flat));
    }
    if shape.len() == 4 {
        let mean = add(document, "GlobalAveragePool", vec![tensor], vec![]);
        return Ok(add(document, "Flatten", vec![mean], flat));
    }
    let axes: Vec<i64> = axes.into_iter().map(|axis| axis as i64).collect();
    let mut attributes = vec![("keepdims", Setting::Int(0))];
    let mut inputs = vec![tensor];
    if document.opset >= AXES_AS_INPUT {
        let raw: Vec<u8> = axes.iter().flat_map(|axis| axis.to_le_bytes()).collect();
        inputs.push(document.add_tensor("head.axes", DataType::Int64 as i32, &[axes.len()], &raw));
    } else {
        attributes.push(("axes", Setting::Ints(axes)));
    }
    Ok(add(document, "ReduceMean", inputs, attributes))
}

/// A node between features and classifier; the tensor that it makes.
fn add(
    document: &mut Document,
    op: &'static str,
    inputs: Vec<String>,
    attributes: Vec<(&'static str, Setting)>,
) -> String {
    let wish = format!("head.{}", op.to_lowercase());
    let (end, [name, output]) = (document.graph.node.len(), [0, 1].map(|_| document.names.fresh(&wish)));
    document.add_node(end, NewNode { op, name, inputs, output: output.clone(), attributes });
    output
}

/// An output of f32, batch x classes; its batch axis is that of the image.
fn described(document: &Document, name: &str, image: &str, classes: Dim) -> Message {
    let batch = document.part_named(INPUT, image).and_then(|input| {
        // Its type, as a tensor, with a shape, whose first dimension it is.
        let place = document.within(input, &[2, 1, 2, 1])?;
        Some(Message::default().copied(document.slice(place)))
    });
    let shape = Message::default().message(1, &batch.unwrap_or_default()).message(1, &classes.message());
    let tensor = Message::default().number(1, DataType::Float as u64).message(2, &shape);
    Message::default().text(1, name).message(2, &Message::default().message(1, &tensor))
}
