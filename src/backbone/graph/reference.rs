//! The same network in tract's own operators: what our maps are checked against.

use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::{ModelProto, NodeProto, TensorProto};
use tract_onnx::prelude::*;

use super::file::OnnxFile;
use super::typed::{Request, settled, shaped};
use crate::backbone::maps::MapKind;

/// The file as a typed graph of tract's own convolutions and products in f32: what our maps are checked against.
pub(crate) fn reference(file: &OnnxFile, request: &Request) -> TractResult<TypedModel> {
    let mut proto = file.pruned(request.output);
    restore_maps(file, &mut proto);
    settled(file, &mut proto, request)?;
    let onnx = tract_onnx::onnx().with_ignore_value_info(true).with_ignore_output_shapes(true);
    shaped(onnx.model_for_proto_model(&proto)?, request)
}

/// Turns the nodes of maps back into Conv, or MatMul and Add, with f32 weights.
fn restore_maps(file: &OnnxFile, proto: &mut ModelProto) {
    let Some(graph) = proto.graph.as_mut() else { return };
    for mut node in std::mem::take(&mut graph.node) {
        let Some(map) = file.map(&node) else {
            graph.node.push(node);
            continue;
        };
        let (weight, bias) = (map.frozen.weight.dense(), &map.frozen.bias);
        let (w, b) = (format!("{}.weight", node.name), format!("{}.bias", node.name));
        let constant = |name: &String, dims: &[usize], values: &mut dyn Iterator<Item = f32>| TensorProto {
            name: name.clone(),
            dims: dims.iter().map(|&d| d as i64).collect(),
            data_type: DataType::Float as i32,
            raw_data: values.flat_map(f32::to_le_bytes).collect(),
            ..TensorProto::default()
        };
        let [out_dim, in_dim] = [weight.nrows(), weight.ncols()];
        node.input.push(w.clone());
        if let MapKind::Conv(geometry) = &map.kind {
            let [rows, columns] = geometry.kernel;
            let dims = [out_dim, in_dim / (rows * columns), rows, columns];
            graph.initializer.push(constant(&w, &dims, &mut weight.iter().copied()));
            node.op_type = "Conv".into();
            node.input.extend((!bias.is_empty()).then(|| b.clone()));
            graph.node.push(node);
        } else {
            graph.initializer.push(constant(&w, &[in_dim, out_dim], &mut weight.t().iter().copied()));
            node.op_type = "MatMul".into();
            if bias.is_empty() {
                graph.node.push(node);
            } else {
                let product = format!("{}.product", node.name);
                let output = std::mem::replace(&mut node.output[0], product.clone());
                let name = std::mem::replace(&mut node.name, product.clone());
                graph.node.push(node);
                let (input, op_type) = (vec![product, b.clone()], "Add".into());
                graph.node.push(NodeProto { name, op_type, input, output: vec![output], ..NodeProto::default() });
            }
        }
        if !bias.is_empty() {
            graph.initializer.push(constant(&b, &[out_dim], &mut bias.iter().copied()));
        }
    }
}
