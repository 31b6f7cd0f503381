//! A file in fp16 that computes in fp32: every tensor of halves becomes one of floats, with the same numbers.

use half::f16;
use tract_onnx::pb::TensorProto;
use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::type_proto::Value;

use crate::backbone::onnx::attribute;
use crate::backbone::splice::{Document, INITIALIZER, INPUT, Message, NODE, NewNode, Setting, VALUE_INFO};

const HALF: i32 = DataType::Float16 as i32;
const FLOAT: i32 = DataType::Float as i32;

/// Makes floats of all halves: initializers, constants, casts, and the input.
///
/// # Errors
/// Names the node that makes halves in another way.
pub(super) fn to_float(document: &mut Document) -> Result<(), String> {
    for ix in 0..document.graph.initializer.len() {
        let tensor = &document.graph.initializer[ix];
        if tensor.data_type == HALF {
            let (name, dims, raw) = (tensor.name.clone(), shape(tensor), widened(tensor));
            document.drop_part(INITIALIZER, ix);
            document.add_tensor_named(&name, FLOAT, &dims, &raw);
        }
    }
    for ix in 0..document.graph.node.len() {
        let node = &document.graph.node[ix];
        let Some(output) = node.output.first().cloned() else { continue };
        let held = attribute(node, "value").and_then(|a| a.t.as_ref()).filter(|tensor| tensor.data_type == HALF);
        match (node.op_type.as_str(), held) {
            ("Constant", Some(tensor)) => {
                let (dims, raw) = (shape(tensor), widened(tensor));
                document.drop_part(NODE, ix);
                document.add_tensor_named(&output, FLOAT, &dims, &raw);
            }
            ("Cast", _) if attribute(node, "to").is_some_and(|to| to.i == i64::from(HALF)) => {
                let (name, inputs) = (node.name.clone(), node.input.clone());
                let attributes = vec![("to", Setting::Int(FLOAT.into()))];
                document.drop_part(NODE, ix);
                document.add_node(ix, NewNode { op: "Cast", name, inputs, output, attributes });
            }
            (op, Some(_)) => return Err(format!("node {} ({op}) makes fp16; take option `precision` keep", node.name)),
            _ => {}
        }
    }
    let kind = |value: &tract_onnx::pb::ValueInfoProto| match value.r#type.as_ref().and_then(|kind| kind.value.as_ref())
    {
        Some(Value::TensorType(tensor)) => tensor.elem_type,
        _ => 0,
    };
    let halves = |values: &[tract_onnx::pb::ValueInfoProto]| -> Vec<String> {
        values.iter().filter(|value| kind(value) == HALF).map(|value| value.name.clone()).collect()
    };
    let (values, inputs) = (halves(&document.graph.value_info), halves(&document.graph.input));
    values.iter().for_each(|name| document.drop_named(VALUE_INFO, name));
    for name in inputs {
        // Its type, as a tensor, with a shape.
        let shape = document.part_named(INPUT, &name).and_then(|input| document.within(input, &[2, 1, 2]));
        let tensor = Message::default().number(1, FLOAT as u64);
        let tensor = match shape {
            Some(shape) => tensor.bytes(2, document.slice(shape)),
            None => tensor,
        };
        let described = Message::default().text(1, &name).message(2, &Message::default().message(1, &tensor));
        document.replace_part(INPUT, &name, described);
    }
    Ok(())
}

fn shape(tensor: &TensorProto) -> Vec<usize> {
    tensor.dims.iter().map(|&dim| dim as usize).collect()
}

/// The numbers of a tensor of halves as floats.
fn widened(tensor: &TensorProto) -> Vec<u8> {
    let float = |half: f16| half.to_f32().to_le_bytes();
    if tensor.raw_data.is_empty() {
        return tensor.int32_data.iter().flat_map(|bits| float(f16::from_bits(*bits as u16))).collect();
    }
    tensor.raw_data.as_chunks().0.iter().flat_map(|bytes| float(f16::from_le_bytes(*bytes))).collect()
}
