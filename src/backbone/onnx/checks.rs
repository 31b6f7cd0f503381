//! What must hold of a decoded ONNX graph before anything is done with it: names, order, tensors.

use std::collections::{HashMap, HashSet};

use half::f16;
use tract_onnx::pb::tensor_proto::{DataLocation, DataType};
use tract_onnx::pb::{GraphProto, TensorProto};

use super::names::{MAP_OP, OWN_PREFIX};
use crate::limits;

/// ONNX asks for topological order; later walks over the graph rely on it to end.
pub(super) fn check_order(graph: &GraphProto, producers: &HashMap<String, usize>) -> std::result::Result<(), String> {
    let given: HashSet<&str> = graph
        .initializer
        .iter()
        .map(|t| &t.name)
        .chain(graph.input.iter().map(|i| &i.name))
        .map(String::as_str)
        .collect();
    for (ix, node) in graph.node.iter().enumerate() {
        let unknown = |i: &&String| !i.is_empty() && !given.contains(i.as_str()) && !producers.contains_key(*i);
        if let Some(missing) = node.input.iter().find(unknown) {
            return Err(format!("node {} uses tensor {missing}, which nothing makes; the file is damaged", node.name));
        }
        if let Some(late) = node.input.iter().find(|i| producers.get(*i).is_some_and(|&at| at >= ix)) {
            return Err(format!("node {} uses tensor {late} before it is made; the file is damaged", node.name));
        }
        if node.output.first().is_none_or(String::is_empty) {
            return Err(format!("node {} has no output; the file is damaged", node.name));
        }
    }
    if graph.output.iter().any(|o| producers.contains_key(&o.name)) {
        return Ok(());
    }
    Err("no node makes the graph's output; the file is damaged".into())
}

/// Names that are too long, meant twice, or this crate's own.
pub(super) fn check_names(graph: &GraphProto) -> std::result::Result<(), String> {
    let most = limits::MOST_NAME_BYTES;
    let mut made = HashSet::new();
    let inputs: HashSet<&str> = graph.input.iter().map(|i| i.name.as_str()).collect();
    let mut is_new = |name: &'_ str| name.is_empty() || made.insert(name.to_string());
    if let Some(twice) = graph.initializer.iter().find(|t| !is_new(&t.name)) {
        return Err(format!("tensor {} is held twice; the file is damaged", twice.name));
    }
    for node in &graph.node {
        let texts = node.input.iter().chain(&node.output).chain([&node.name, &node.op_type]);
        let own = node.attribute.iter().map(|a| &a.name);
        if let Some(long) = texts.chain(own).find(|text| text.len() > most) {
            let start: String = long.chars().take(40).collect();
            return Err(format!(
                "the name {start}... is longer than {most} bytes; export the model with shorter names"
            ));
        }
        if node.op_type == MAP_OP || node.attribute.iter().any(|a| a.name.starts_with(OWN_PREFIX)) {
            return Err(format!("node {} uses a name that is srlora's own; export the model again", node.name));
        }
        if let Some(bad) = node.attribute.iter().find(|a| !(a.f.is_finite() && a.floats.iter().all(|f| f.is_finite())))
        {
            return Err(format!("node {}: its {} is not finite; the file is damaged", node.name, bad.name));
        }
        if let Some(twice) = node.output.iter().find(|name| inputs.contains(name.as_str()) || !is_new(name)) {
            return Err(format!("node {} makes tensor {twice}, which is made already; the file is damaged", node.name));
        }
    }
    let named = graph.initializer.iter().map(|t| &t.name).chain(graph.input.iter().map(|i| &i.name));
    if named.into_iter().any(|name| name.is_empty() || name.len() > most) {
        return Err(format!("a tensor has no name, or one longer than {most} bytes; export the model again"));
    }
    Ok(())
}

/// The first value of a float tensor that is not finite.
fn not_finite(tensor: &TensorProto) -> Option<f64> {
    let raw = &tensor.raw_data[..];
    let bad = |value: f64| (!value.is_finite()).then_some(value);
    match DataType::try_from(tensor.data_type) {
        Ok(DataType::Float) => {
            let single = raw.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b));
            single.chain(tensor.float_data.iter().copied()).find_map(|v| bad(v.into()))
        }
        Ok(DataType::Float16) => {
            let half = raw.as_chunks().0.iter().map(|b| f16::from_le_bytes(*b));
            half.chain(tensor.int32_data.iter().map(|&v| f16::from_bits(v as u16))).find_map(|v| bad(v.into()))
        }
        Ok(DataType::Double) => {
            let double = raw.as_chunks().0.iter().map(|b| f64::from_le_bytes(*b));
            double.chain(tensor.double_data.iter().copied()).find_map(bad)
        }
        _ => None,
    }
}

/// Tensors that lie elsewhere, hold other than their shape says, or values that are not finite.
pub(super) fn check_tensors(graph: &GraphProto) -> std::result::Result<(), String> {
    let in_nodes = graph.node.iter().flat_map(|n| n.attribute.iter().filter_map(|a| a.t.as_ref()));
    for tensor in graph.initializer.iter().chain(in_nodes) {
        let external = tensor.data_location == Some(DataLocation::External as i32) || !tensor.external_data.is_empty();
        if external {
            return Err(format!(
                "tensor {} lies in an external data file, from which only weights are taken; save the model as one file (onnx.save without external data)",
                tensor.name
            ));
        }
        if tensor.data_type == DataType::Bfloat16 as i32 {
            return Err(format!("tensor {} is bfloat16; export the model in fp32, fp16 or int8", tensor.name));
        }
        if tensor.dims.iter().any(|&d| d < 0) {
            return Err(format!("tensor {} has a negative dimension; the file is damaged", tensor.name));
        }
        let dims: Vec<usize> = tensor.dims.iter().map(|&d| d as usize).collect();
        if limits::elements(&dims, usize::MAX).is_none() {
            let most = limits::MOST_AXES;
            return Err(format!(
                "tensor {} has the shape {dims:?}, too large or of more than {most} axes",
                tensor.name
            ));
        }
        if let Some(value) = not_finite(tensor) {
            return Err(format!("tensor {} holds {value}; the file is damaged", tensor.name));
        }
        let elements = tensor.dims.iter().try_fold(1usize, |n, &d| n.checked_mul(d as usize));
        if elements.is_none() || elements.and_then(|n| held_by(tensor, n)).is_some_and(|fits| !fits) {
            let (name, dims) = (&tensor.name, &tensor.dims);
            return Err(format!("tensor {name} does not hold the values of its shape {dims:?}; the file is damaged"));
        }
    }
    Ok(())
}

/// Whether a tensor holds exactly `elements` values; `None` for a type whose size is not known here.
fn held_by(tensor: &TensorProto, elements: usize) -> Option<bool> {
    let (bytes, typed) = match DataType::try_from(tensor.data_type).ok()? {
        DataType::Float => (4, tensor.float_data.len()),
        DataType::Double => (8, tensor.double_data.len()),
        DataType::Int64 => (8, tensor.int64_data.len()),
        DataType::Uint64 => (8, tensor.uint64_data.len()),
        DataType::Uint32 => (4, tensor.uint64_data.len()),
        DataType::Int32 => (4, tensor.int32_data.len()),
        DataType::Float16 | DataType::Int16 | DataType::Uint16 => (2, tensor.int32_data.len()),
        DataType::Int8 | DataType::Uint8 | DataType::Bool => (1, tensor.int32_data.len()),
        _ => return None,
    };
    let raw = tensor.raw_data.len();
    Some(if raw == 0 { typed == elements } else { elements.checked_mul(bytes) == Some(raw) })
}
