//! Writing a backbone in another precision: an ONNX file as before, with the weights of its maps as int8 or f16.
//!
//! int8 is symmetric with one scale per output channel, scale = amax / 127, and needs no calibration photos, since
//! activations stay in float. In the file a weight becomes codes -> DequantizeLinear, or f16 -> Cast, in front of the
//! node that it was an operand of: any ONNX runtime loads the result. All else is copied byte by byte.

use std::collections::HashMap;

use half::f16;
use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::{GraphProto, NodeProto, TensorProto};

use crate::backbone::onnx::attribute;
use crate::backbone::splice::{Document, INITIALIZER, INPUT, NODE, NewNode, Setting};
use crate::backbone::weights::{Constant, Values};
use crate::core::{int8_code, int8_scale};
use crate::error::{Error, ErrorKind, Result};

/// The first opset in which DequantizeLinear takes an axis.
const PER_CHANNEL_OPSET: i64 = 13;

/// The precision of frozen weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Precision {
    /// As the file has them.
    Keep,
    /// Single precision.
    Fp32,
    /// Half precision.
    Fp16,
    /// Codes with one scale per output channel.
    Int8,
}

/// Encodes the weights of an fp32 model's Conv, Gemm and MatMul nodes.
///
/// # Errors
/// Kind `Usage` for a file that is not fp32, or whose opset cannot hold the codes; `Model` for one that cannot be read, or
/// a weight that f16 cannot hold.
pub fn encode(bytes: &[u8], subject: &str, precision: Precision) -> Result<Vec<u8>> {
    let mut document = Document::read(bytes, subject)?;
    let opset = document.opset;
    if precision == Precision::Int8 && opset < PER_CHANNEL_OPSET {
        let message = format!(
            "int8 codes per channel need opset {PER_CHANNEL_OPSET} and {subject} has {opset}; export it again, or take fp16"
        );
        return Err(Error::new(ErrorKind::Usage, "option `precision` int8", message));
    }
    let graph = &document.graph;
    let made = graph.node.iter().filter_map(|node| Some((node.output.first()?, constant_in(node)?)));
    let mut tensors = graph.initializer.iter().map(|t| (&t.name, t)).chain(made);
    if let Some((name, _)) = tensors.find(|(_, tensor)| is_coded(tensor)) {
        let message = format!("{subject} is not fp32 (tensor {name} is int8 or fp16); use option `precision` keep");
        return Err(Error::new(ErrorKind::Usage, "option `precision`", message));
    }
    if matches!(precision, Precision::Keep | Precision::Fp32) {
        return Ok(bytes.to_vec());
    }
    for weight in weights(&document.graph) {
        let Some(tensor) = remove(&mut document, &weight.tensor) else { continue };
        code(&mut document, &weight, tensor, precision)
            .map_err(|what| Error::new(ErrorKind::Model, &weight.node, what))?;
    }
    Ok(document.written(|_| false))
}

fn is_coded(tensor: &TensorProto) -> bool {
    [DataType::Int8, DataType::Uint8, DataType::Float16].iter().any(|t| *t as i32 == tensor.data_type)
}

/// The tensor that a Constant node holds.
fn constant_in(node: &NodeProto) -> Option<&TensorProto> {
    attribute(node, "value").filter(|_| node.op_type == "Constant")?.t.as_ref()
}

/// A constant that is the weight of a map, or of several.
struct WeightTensor {
    /// The first map.
    node: String,
    tensor: String,
    /// The axis of its output channels; `None` where maps read it both ways.
    axis: Option<usize>,
}

fn weights(graph: &GraphProto) -> Vec<WeightTensor> {
    let producers: HashMap<&str, &NodeProto> =
        graph.node.iter().flat_map(|node| node.output.iter().map(move |name| (name.as_str(), node))).collect();
    let initializers: HashMap<&str, &TensorProto> = graph.initializer.iter().map(|t| (t.name.as_str(), t)).collect();
    let mut found: Vec<WeightTensor> = Vec::new();
    for node in &graph.node {
        let transposed = attribute(node, "transB").is_some_and(|a| a.i != 0);
        let (rank, axis) = match node.op_type.as_str() {
            "Conv" => (4, 0),
            "Gemm" | "MatMul" => (2, usize::from(!transposed)),
            _ => continue,
        };
        let Some((name, axis)) = node.input.get(1).and_then(|name| source(&producers, name, axis)) else { continue };
        let held = initializers.get(name).copied().or_else(|| constant_in(producers.get(name)?));
        if !held.is_some_and(|t| t.dims.len() == rank && t.data_type == DataType::Float as i32) {
            continue;
        }
        match found.iter_mut().find(|w| w.tensor == name) {
            Some(known) => known.axis = known.axis.filter(|known| *known == axis),
            None => found.push(WeightTensor { node: node.name.clone(), tensor: name.into(), axis: Some(axis) }),
        }
    }
    found
}

/// The constant behind `name`, seen through what only moves it, and its axis that is `axis` of `name`.
fn source<'g>(producers: &HashMap<&str, &'g NodeProto>, name: &'g str, axis: usize) -> Option<(&'g str, usize)> {
    let (mut name, mut axis) = (name, axis);
    while let Some(node) = producers.get(name) {
        match (node.op_type.as_str(), attribute(node, "perm")) {
            ("Constant", _) => break,
            ("Identity", _) => {}
            ("Transpose", Some(perm)) => axis = usize::try_from(*perm.ints.get(axis)?).ok()?,
            _ => return None,
        }
        name = node.input.first()?;
    }
    Some((name, axis))
}

/// Takes a float constant out of the file, whether an initializer or a node.
fn remove(document: &mut Document, name: &str) -> Option<TensorProto> {
    if let Some(place) = document.initializer(name) {
        document.drop_part(INITIALIZER, place);
        // Old files list their weights among the inputs.
        document.drop_named(INPUT, name);
        return document.graph.initializer.get(place).cloned();
    }
    let place = document.producer(name)?;
    document.drop_part(NODE, place);
    constant_in(&document.graph.node[place]).cloned()
}

/// Puts one weight's codes into the file, and the node that decodes them under the weight's own name.
fn code(
    document: &mut Document,
    weight: &WeightTensor,
    tensor: TensorProto,
    precision: Precision,
) -> std::result::Result<(), String> {
    let (name, dims) = (weight.tensor.clone(), tensor.dims.clone());
    let shape: Vec<usize> = dims.iter().map(|&dim| dim as usize).collect();
    let Constant { values: Values::F32(values), .. } = Constant::float(tensor) else { return Ok(()) };
    let mut add = |suffix: &str, dims: &[usize], kind: DataType, raw: &[u8]| {
        document.add_tensor(&format!("{name}.{suffix}"), kind as i32, dims, raw)
    };
    let (op, inputs, setting) = if precision == Precision::Fp16 {
        let halves: Vec<f16> = values.iter().map(|v| f16::from_f32(*v)).collect();
        if halves.iter().any(|h| !h.is_finite()) {
            return Err("its weight exceeds what f16 can hold; use option `precision` int8 or fp32".into());
        }
        let raw: Vec<u8> = halves.iter().flat_map(|h| h.to_le_bytes()).collect();
        ("Cast", vec![add("half", &shape, DataType::Float16, &raw)], ("to", Setting::Int(DataType::Float as i64)))
    } else {
        let (codes, scales) = channel_codes(&values, &dims, weight.axis);
        let raw: Vec<u8> = scales.iter().flat_map(|s| s.to_le_bytes()).collect();
        let channels: &[usize] = if weight.axis.is_some() { &[scales.len()] } else { &[] };
        let codes: Vec<u8> = codes.iter().map(|c| *c as u8).collect();
        let codes = add("codes", &shape, DataType::Int8, &codes);
        let scale = add("scale", channels, DataType::Float, &raw);
        let zero = add("zero", channels, DataType::Int8, &vec![0; scales.len()]);
        let axis = ("axis", Setting::Int(weight.axis.unwrap_or(0) as i64));
        ("DequantizeLinear", vec![codes, scale, zero], axis)
    };
    let decoder = document.names.fresh(&format!("{name}.decode"));
    document.add_node(0, NewNode { op, name: decoder, inputs, output: name, attributes: vec![setting] });
    Ok(())
}

/// Symmetric int8 codes with one scale per index of `axis`, or one for all.
fn channel_codes(values: &[f32], dims: &[i64], axis: Option<usize>) -> (Vec<i8>, Vec<f32>) {
    let behind = axis.map_or(&[][..], |axis| &dims[axis + 1..]);
    let inner: usize = behind.iter().map(|&d| d as usize).product::<usize>().max(1);
    let channels = axis.map_or(1, |axis| dims[axis].max(1) as usize);
    let channel = |at: usize| at / inner % channels;
    let mut largest = vec![0.0f32; channels];
    values.iter().enumerate().for_each(|(at, v)| largest[channel(at)] = largest[channel(at)].max(v.abs()));
    // A channel of zeros has no scale of its own; ONNX wants a positive one.
    let scales: Vec<f32> = largest.iter().map(|l| if *l > 0.0 { int8_scale(&[*l]) } else { 1.0 }).collect();
    let codes = values.iter().enumerate().map(|(at, v)| int8_code(*v, scales[channel(at)])).collect();
    (codes, scales)
}
