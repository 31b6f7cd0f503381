//! One image for every network: N x 3 x H x W floats, and nodes that make of it what the file reads.

use tract_onnx::pb::attribute_proto::AttributeType;
use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::type_proto::Value as TypeValue;
use tract_onnx::pb::{AttributeProto, GraphProto, NodeProto, TensorProto};

use super::image::ImageInput;
use super::names::Names;
use super::nodes::{attribute, int_attribute};

/// What the eye sees of red, green and blue (ITU-R BT.601), as PIL and OpenCV make grey.
const GREY: [f32; 3] = [0.299, 0.587, 0.114];
/// N x H x W x C from N x C x H x W, and back.
const TO_LAST: [i64; 4] = [0, 2, 3, 1];
const TO_FIRST: [i64; 4] = [0, 3, 1, 2];

/// Makes the graph read N x 3 x H x W floats where its file has another layout, one channel or bytes.
///
/// Grey is 0.299 R + 0.587 G + 0.114 B. Bytes stay numbers of 0 to 255.
pub(super) fn plain(graph: &mut GraphProto, input: &ImageInput, opset: i64) {
    for value in graph.input.iter_mut().filter(|value| value.name == input.name) {
        if let Some(TypeValue::TensorType(tensor)) = value.r#type.as_mut().and_then(|kind| kind.value.as_mut()) {
            tensor.elem_type = if input.is_bytes { DataType::Float as i32 } else { tensor.elem_type };
            tensor.shape = if input.is_grey || input.channels_last { None } else { tensor.shape.take() };
        }
    }
    if input.is_bytes {
        dequantized(graph, &input.name);
    }
    if !input.is_grey && input.channels_last {
        graph.node.iter_mut().filter(|node| node.input.first() == Some(&input.name)).for_each(back_and_forth);
    }
    let readers = |node: &NodeProto| node.input.contains(&input.name) && !is_settled(node, input);
    if !(input.is_grey || input.channels_last) || !graph.node.iter().any(readers) {
        return;
    }
    let mut names = Names::of(graph);
    let (mut made, mut tensor) = (Vec::new(), input.name.clone());
    let mut step = |names: &mut Names, op: &str, more: Option<String>, attributes: Vec<AttributeProto>| {
        let name = names.fresh(&format!("{}.{}", input.name, op.to_lowercase()));
        let from = std::mem::replace(&mut tensor, name.clone());
        let (op_type, output) = (op.to_string(), vec![name.clone()]);
        let input = [from].into_iter().chain(more).collect();
        made.push(NodeProto { op_type, name, input, output, attribute: attributes, ..NodeProto::default() });
    };
    if input.is_grey {
        let weights = names.fresh(&format!("{}.colours", input.name));
        graph.initializer.push(floats(&weights, &GREY, vec![1, 3, 1, 1]));
        step(&mut names, "Mul", Some(weights), vec![]);
        let axis = (opset >= 13).then(|| {
            let axis = names.fresh(&format!("{}.channels", input.name));
            graph.initializer.push(integer(&axis, 1));
            axis
        });
        let attributes = if axis.is_none() { vec![ints_attribute("axes", &[1])] } else { vec![] };
        step(&mut names, "ReduceSum", axis, attributes);
    }
    if input.channels_last {
        step(&mut names, "Transpose", None, vec![ints_attribute("perm", &TO_LAST)]);
    }
    let all = graph.node.iter_mut().filter(|node| !is_settled(node, input));
    for name in all.flat_map(|node| &mut node.input).filter(|name| **name == input.name) {
        name.clone_from(&tensor);
    }
    graph.node.splice(0..0, made);
}

/// A DequantizeLinear of bytes, which are floats here, by its formula: (bytes - zero) scale.
fn dequantized(graph: &mut GraphProto, image: &str) {
    let mut names = Names::of(graph);
    let mut at = 0;
    while let Some(place) = graph.node[at..]
        .iter()
        .position(|n| n.op_type == "DequantizeLinear" && n.input.first().is_some_and(|i| i == image))
    {
        at += place + 1;
        let node = graph.node[at - 1].clone();
        let zero = match node.input.get(2).filter(|name| !name.is_empty()) {
            None => 0,
            Some(name) => match graph.initializer.iter().find(|tensor| tensor.name == *name).and_then(byte) {
                Some(zero) => zero,
                // Whoever rewrites quantized nodes says what is wrong.
                None => continue,
            },
        };
        let (zeros, shifted) = (names.fresh(&format!("{image}.zero")), names.fresh(&format!("{image}.shifted")));
        graph.initializer.push(floats(&zeros, &[f32::from(zero)], vec![]));
        let (input, output) = (vec![image.to_string(), zeros], vec![shifted.clone()]);
        let sub = NodeProto { op_type: "Sub".into(), name: shifted.clone(), input, output, ..NodeProto::default() };
        let scale = node.input.get(1).cloned().unwrap_or_default();
        graph.node[at - 1] =
            NodeProto { op_type: "Mul".into(), input: vec![shifted, scale], attribute: vec![], ..node };
        graph.node.insert(at - 1, sub);
    }
}

/// The one byte that a tensor holds.
fn byte(tensor: &TensorProto) -> Option<u8> {
    match (&tensor.raw_data[..], &tensor.int32_data[..], tensor.data_type == DataType::Uint8 as i32) {
        ([byte], _, true) => Some(*byte),
        ([], [byte], true) => u8::try_from(*byte).ok(),
        _ => None,
    }
}

/// A node that brings an image with its channels last into the layout that it has here already.
fn back_and_forth(node: &mut NodeProto) {
    if node.op_type == "Transpose" && attribute(node, "perm").is_some_and(|perm| perm.ints == TO_FIRST) {
        node.op_type = "Identity".into();
        node.attribute.clear();
    }
}

/// Whether a node reads the image as it is here.
fn is_settled(node: &NodeProto, input: &ImageInput) -> bool {
    !input.is_grey && node.op_type == "Identity" && node.input.first() == Some(&input.name)
}

fn floats(name: &str, values: &[f32], dims: Vec<i64>) -> TensorProto {
    let raw_data = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    TensorProto { name: name.into(), dims, data_type: DataType::Float as i32, raw_data, ..TensorProto::default() }
}

fn integer(name: &str, value: i64) -> TensorProto {
    let (data_type, raw_data) = (DataType::Int64 as i32, value.to_le_bytes().into());
    TensorProto { name: name.into(), dims: vec![1], data_type, raw_data, ..TensorProto::default() }
}

fn ints_attribute(name: &str, ints: &[i64]) -> AttributeProto {
    let kind = AttributeType::Ints as i32;
    AttributeProto { name: name.into(), r#type: kind, ints: ints.into(), ..int_attribute(name, 0) }
}
