//! Writing a backbone in another precision: an ONNX file as before, with the weights of its maps as int8 or f16.
//!
//! int8 is symmetric with one scale per output channel, scale = amax / 127, and needs no calibration photos, since
//! activations stay in float. In the file a weight becomes codes -> DequantizeLinear, or f16 -> Cast, in front of the
//! node that it was an operand of: any ONNX runtime loads the result.

use half::f16;
use prost::Message;
use tract_onnx::pb::attribute_proto::AttributeType;
use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::{AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto};

use super::constant::{Constant, Values};
use super::onnx::{attribute, decode_proto, name_nodes};
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
    let mut proto = decode_proto(bytes, subject)?;
    let opset = proto.opset_import.iter().filter(|set| set.domain.is_empty()).map(|set| set.version).max().unwrap_or(0);
    if precision == Precision::Int8 && opset < PER_CHANNEL_OPSET {
        let message = format!(
            "int8 codes per channel need opset {PER_CHANNEL_OPSET} and {subject} has {opset}; export it again, or take fp16"
        );
        return Err(Error::new(ErrorKind::Usage, "--precision int8", message));
    }
    let Some(graph) = proto.graph.as_mut() else { return Ok(bytes.to_vec()) };
    if let Some(tensor) = graph.initializer.iter().find(|t| is_coded(t)) {
        let message = format!("{subject} is not fp32 (tensor {} is int8 or fp16); use --precision keep", tensor.name);
        return Err(Error::new(ErrorKind::Usage, "--precision", message));
    }
    name_nodes(graph);
    for weight in weights(graph) {
        code(graph, &weight, precision).map_err(|what| Error::new(ErrorKind::Model, &weight.node, what))?;
    }
    Ok(ModelProto::encode_to_vec(&proto))
}

fn is_coded(tensor: &TensorProto) -> bool {
    [DataType::Int8, DataType::Uint8, DataType::Float16].iter().any(|t| *t as i32 == tensor.data_type)
}

/// An initializer that is the weight of a map.
struct WeightTensor {
    node: String,
    tensor: String,
    /// The axis of its output channels.
    axis: usize,
}

fn weights(graph: &GraphProto) -> Vec<WeightTensor> {
    let mut found: Vec<WeightTensor> = Vec::new();
    for node in &graph.node {
        let transposed = attribute(node, "transB").is_some_and(|a| a.i != 0);
        let (rank, axis) = match node.op_type.as_str() {
            "Conv" => (4, 0),
            "Gemm" | "MatMul" => (2, usize::from(!transposed)),
            _ => continue,
        };
        let Some(name) = node.input.get(1) else { continue };
        let is_weight =
            |t: &&TensorProto| t.name == *name && t.dims.len() == rank && t.data_type == DataType::Float as i32;
        if graph.initializer.iter().any(|t| is_weight(&t)) && found.iter().all(|w| w.tensor != *name) {
            found.push(WeightTensor { node: node.name.clone(), tensor: name.clone(), axis });
        }
    }
    found
}

/// Replaces one weight by its codes and the node that decodes them under the weight's own name.
fn code(graph: &mut GraphProto, weight: &WeightTensor, precision: Precision) -> std::result::Result<(), String> {
    let Some(place) = graph.initializer.iter().position(|t| t.name == weight.tensor) else { return Ok(()) };
    if matches!(precision, Precision::Keep | Precision::Fp32) {
        return Ok(());
    }
    let tensor = graph.initializer.remove(place);
    graph.input.retain(|input| input.name != weight.tensor);
    let name = weight.tensor.clone();
    let dims = tensor.dims.clone();
    let Constant { values: Values::F32(values), .. } = Constant::float(tensor) else { return Ok(()) };
    let initializer = |suffix: &str, dims: &[i64], kind: DataType, raw_data: Vec<u8>| TensorProto {
        name: format!("{name}.{suffix}"),
        dims: dims.to_vec(),
        data_type: kind as i32,
        raw_data,
        ..TensorProto::default()
    };
    let (op, input, setting) = if precision == Precision::Fp16 {
        let halves: Vec<f16> = values.iter().map(|v| f16::from_f32(*v)).collect();
        if halves.iter().any(|h| !h.is_finite()) {
            return Err("its weight exceeds what f16 can hold; use --precision int8 or fp32".into());
        }
        let raw = halves.iter().flat_map(|h| h.to_le_bytes()).collect();
        graph.initializer.push(initializer("half", &dims, DataType::Float16, raw));
        ("Cast", vec![format!("{name}.half")], ("to", DataType::Float as i64))
    } else {
        let (codes, scales) = channel_codes(&values, &dims, weight.axis);
        let raw = scales.iter().flat_map(|s| s.to_le_bytes()).collect();
        let zeros = vec![0; scales.len()];
        let channels = [scales.len() as i64];
        graph.initializer.push(initializer("codes", &dims, DataType::Int8, codes.iter().map(|c| *c as u8).collect()));
        graph.initializer.push(initializer("scale", &channels, DataType::Float, raw));
        graph.initializer.push(initializer("zero", &channels, DataType::Int8, zeros));
        let input = ["codes", "scale", "zero"].map(|suffix| format!("{name}.{suffix}")).to_vec();
        ("DequantizeLinear", input, ("axis", weight.axis as i64))
    };
    let (key, i) = setting;
    let setting =
        AttributeProto { name: key.into(), r#type: AttributeType::Int as i32, i, ..AttributeProto::default() };
    let (op_type, attribute) = (op.to_string(), vec![setting]);
    let decoder = NodeProto {
        name: format!("{name}.decode"),
        op_type,
        input,
        output: vec![name],
        attribute,
        ..NodeProto::default()
    };
    graph.node.insert(0, decoder);
    Ok(())
}

/// Symmetric int8 codes with one scale per index of `axis`.
fn channel_codes(values: &[f32], dims: &[i64], axis: usize) -> (Vec<i8>, Vec<f32>) {
    let inner: usize = dims[axis + 1..].iter().map(|&d| d as usize).product::<usize>().max(1);
    let channels = dims[axis].max(1) as usize;
    let channel = |at: usize| at / inner % channels;
    let mut largest = vec![0.0f32; channels];
    values.iter().enumerate().for_each(|(at, v)| largest[channel(at)] = largest[channel(at)].max(v.abs()));
    // A channel of zeros has no scale of its own; ONNX wants a positive one.
    let scales: Vec<f32> = largest.iter().map(|l| if *l > 0.0 { int8_scale(&[*l]) } else { 1.0 }).collect();
    let codes = values.iter().enumerate().map(|(at, v)| int8_code(*v, scales[channel(at)])).collect();
    (codes, scales)
}
