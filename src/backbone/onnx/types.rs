//! Whether the operands of a map are of one float type, as ONNX asks: between two precisions a file needs a Cast.

use std::collections::HashMap;

use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::type_proto::Value as TypeValue;
use tract_onnx::pb::{GraphProto, NodeProto};

use super::nodes::attribute;

/// Operators whose output has the type of their first input.
const KEEPING: [&str; 37] = [
    "Add",
    "AveragePool",
    "BatchNormalization",
    "Clip",
    "Concat",
    "Conv",
    "Div",
    "Dropout",
    "Elu",
    "Erf",
    "Flatten",
    "Gelu",
    "Gemm",
    "GlobalAveragePool",
    "GlobalMaxPool",
    "HardSigmoid",
    "HardSwish",
    "Identity",
    "LayerNormalization",
    "LeakyRelu",
    "LogSoftmax",
    "MatMul",
    "MaxPool",
    "Mul",
    "Pad",
    "ReduceMean",
    "Relu",
    "Reshape",
    "Sigmoid",
    "Slice",
    "Softmax",
    "Sqrt",
    "Squeeze",
    "Sub",
    "Tanh",
    "Transpose",
    "Unsqueeze",
];

/// # Errors
/// Names the first Conv, Gemm or MatMul with an operand in f16 and another in f32. What has no type here is passed over.
pub(super) fn check_types(graph: &GraphProto) -> Result<(), String> {
    let is_float = |t: &i32| [DataType::Float as i32, DataType::Float16 as i32].contains(t);
    let mut types: HashMap<&str, i32> = graph.initializer.iter().map(|t| (t.name.as_str(), t.data_type)).collect();
    for input in &graph.input {
        if let Some(TypeValue::TensorType(tensor)) = input.r#type.as_ref().and_then(|t| t.value.as_ref()) {
            types.insert(&input.name, tensor.elem_type);
        }
    }
    for node in &graph.node {
        let operands = || node.input.iter().filter_map(|name| types.get(name.as_str())).copied().filter(is_float);
        if matches!(node.op_type.as_str(), "Conv" | "Gemm" | "MatMul")
            && let Some(first) = operands().next()
            && operands().any(|other| other != first)
        {
            return Err(format!("node {}: mixed precisions, fp16 and fp32, without a Cast between them", node.name));
        }
        if let (Some(kind), Some(output)) = (output_type(node, &types), node.output.first()) {
            types.insert(output, kind);
        }
    }
    Ok(())
}

fn output_type(node: &NodeProto, types: &HashMap<&str, i32>) -> Option<i32> {
    match node.op_type.as_str() {
        "Cast" => attribute(node, "to").map(|a| a.i as i32),
        "Constant" => attribute(node, "value").and_then(|a| a.t.as_ref()).map(|t| t.data_type),
        // Of the scale.
        "DequantizeLinear" => types.get(node.input.get(1)?.as_str()).copied(),
        op if KEEPING.contains(&op) => types.get(node.input.first()?.as_str()).copied(),
        _ => None,
    }
}
