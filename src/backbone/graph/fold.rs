//! Weights and biases that a file computes instead of holding: whatever no image can change is worked out once.

use std::collections::HashSet;

use tract_onnx::pb::attribute_proto::AttributeType;
use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::type_proto::Value as TypeValue;
use tract_onnx::pb::{AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto};
use tract_onnx::prelude::*;
use tract_onnx::tract_core::internal::*;

use super::plan::RunPlan;
use crate::backbone::onnx::{Budget, changing, int_attribute, model_of, opset, reads};
use crate::backbone::shapes::settle;
use crate::backbone::weights::{Constant, Constants, Values, check_room};

/// Every activation is f32, whatever the file says: f16 inputs, casts and fills become f32. Weights keep their precision.
pub(crate) fn single_precision(graph: &mut GraphProto) {
    let (half, single) = (DataType::Float16 as i32, DataType::Float as i32);
    for input in &mut graph.input {
        if let Some(TypeValue::TensorType(tensor)) = input.r#type.as_mut().and_then(|t| t.value.as_mut())
            && tensor.elem_type == half
        {
            tensor.elem_type = single;
        }
    }
    for node in &mut graph.node {
        if node.op_type == "ConstantOfShape" && node.attribute.is_empty() {
            // ONNX says f32 here, tract f64.
            let zero =
                TensorProto { data_type: single, dims: vec![1], float_data: vec![0.0], ..TensorProto::default() };
            let kind = AttributeType::Tensor as i32;
            node.attribute.push(AttributeProto {
                name: "value".into(),
                r#type: kind,
                t: Some(zero),
                ..AttributeProto::default()
            });
        }
        for attribute in &mut node.attribute {
            if node.op_type == "Cast" && attribute.name == "to" && attribute.i == i64::from(half) {
                attribute.i = i64::from(single);
            } else if node.op_type == "ConstantOfShape"
                && let Some(tensor) = attribute.t.as_mut().filter(|t| t.data_type == half)
            {
                *tensor = Constant::float(std::mem::take(tensor)).to_proto("");
            }
        }
    }
}

/// A CastLike takes no more than a type from the tensor that it follows, and every activation is f32; as a Cast it no
/// longer depends on the image.
pub(crate) fn plain_casts(graph: &mut GraphProto, image: &str) {
    let changing: HashSet<String> = changing(graph, image).into_iter().map(str::to_string).collect();
    for node in graph.node.iter_mut().filter(|node| node.op_type == "CastLike") {
        if node.input.get(1).is_some_and(|like| changing.contains(like)) {
            node.op_type = "Cast".into();
            node.input.truncate(1);
            node.attribute = vec![int_attribute("to", DataType::Float as i64)];
        }
    }
}

/// Makes known every operand of a Conv, Gemm or MatMul, other than its first, that follows from constants alone, and what one makes
/// of constants: tables of positions pass through small networks of their own.
///
/// # Errors
/// Names the node whose operand cannot be worked out.
pub(crate) fn settle_operands(
    proto: &mut ModelProto,
    image: &str,
    constants: &mut Constants,
    budget: Budget,
) -> Result<(), String> {
    let Some(graph) = proto.graph.as_ref() else { return Ok(()) };
    let changing = changing(graph, image);
    let is_map = |node: &&NodeProto| matches!(node.op_type.as_str(), "Conv" | "Gemm" | "MatMul");
    let settled = |node: &&NodeProto| node.output.first().is_some_and(|name| !changing.contains(name.as_str()));
    let operands = graph.node.iter().filter(is_map).flat_map(|node| node.input.iter().skip(1).map(move |i| (node, i)));
    let made = graph.node.iter().filter(is_map).filter(settled).map(|node| (node, &node.output[0]));
    let missing: Vec<(String, String)> = operands
        .chain(made)
        .filter(|(_, name)| !name.is_empty() && constants.known(name).is_none() && !changing.contains(name.as_str()))
        .map(|(node, name)| (node.name.clone(), name.clone()))
        .collect();
    for (node, name) in missing {
        let value = evaluate(proto, &name, constants, budget).map_err(|e| unsettled(&node, &name, &e))?;
        constants.insert_made(&name, value)?;
    }
    let Some(graph) = proto.graph.as_mut() else { return Ok(()) };
    graph.node.retain(|node| node.output.iter().any(|name| constants.known(name).is_none()));
    Ok(())
}

fn unsettled(node: &str, name: &str, error: &TractError) -> String {
    let cause = error.root_cause().to_string();
    // What this crate has found names its node; tract's own words tell nobody anything.
    let because = if cause.starts_with("node ") { format!(" ({cause})") } else { String::new() };
    format!(
        "node {node}: its operand {name} is computed in the file in a way that is not taken{because}; export the model with its weights \
         computed beforehand"
    )
}

/// Drops the nodes that no image reaches and whose results nothing uses.
pub(crate) fn drop_idle(graph: &mut GraphProto, image: &str) {
    let changing: HashSet<String> = changing(graph, image).into_iter().map(str::to_string).collect();
    let mut used: HashSet<String> = graph.output.iter().map(|o| o.name.clone()).collect();
    let mut kept = Vec::with_capacity(graph.node.len());
    while let Some(node) = graph.node.pop() {
        if node.output.iter().any(|name| used.contains(name) || changing.contains(name)) {
            used.extend(reads(&node).into_iter().map(str::to_string));
            kept.push(node);
        }
    }
    kept.reverse();
    graph.node = kept;
}

/// Runs what `name` depends on.
fn evaluate(proto: &ModelProto, name: &str, constants: &Constants, budget: Budget) -> TractResult<Constant> {
    let graph = proto.graph.as_ref().context("no graph")?;
    let mut needed = HashSet::from([name]);
    let mut nodes: Vec<NodeProto> = Vec::new();
    for node in graph.node.iter().rev() {
        if node.output.iter().any(|o| needed.contains(o.as_str())) {
            needed.extend(node.input.iter().map(String::as_str));
            nodes.push(node.clone());
        }
    }
    nodes.reverse();
    let held = graph.initializer.iter().filter(|t| needed.contains(t.name.as_str())).cloned();
    check_room(needed.iter().filter_map(|name| constants.known(name)), budget.constants).map_err(TractError::msg)?;
    let known = needed.iter().filter_map(|n| Some(constants.known(n)?.to_proto(n)));
    let mut small = GraphProto {
        name: name.to_string(),
        initializer: held.chain(known).collect(),
        node: nodes,
        output: vec![ValueInfoProto { name: name.to_string(), ..ValueInfoProto::default() }],
        ..GraphProto::default()
    };
    settle(&mut small, opset(proto), None, budget, |_| None).map_err(TractError::msg)?;
    let small = model_of(proto, small);
    let model = tract_onnx::onnx().model_for_proto_model(&small)?.into_typed()?;
    let value = RunPlan::as_is(model)?.start()?.run(tvec!())?.remove(0);
    let dims = value.shape().to_vec();
    let values = value.cast_to::<f32>()?.try_as_plain_ram()?.as_slice::<f32>()?.into();
    Ok(Constant { dims, values: Values::F32(values) })
}
