//! A quantized file that computes in float: what this program makes of it too, for runtimes that compute with integers otherwise.

use std::collections::HashSet;

use tract_onnx::pb::tensor_proto::DataType;

use super::weight::f32_values;
use crate::backbone::onnx::attribute;
use crate::backbone::splice::{ANNOTATION, Document, NODE, NewNode, Slot, VALUE_INFO};

/// From this opset on, the ends of a Clip are inputs.
const CLIP_OPSET: i64 = 11;

/// Lets activations be floats: a QuantizeLinear becomes a Clip at the ends of its grid, as exporters fold ReLU into them, and its
/// DequantizeLinear an Identity. Constants stay in their codes.
///
/// # Errors
/// Names the node that computes with integers in another way.
pub(super) fn to_float(document: &mut Document) -> Result<(), String> {
    let mut quantized: HashSet<String> = HashSet::new();
    for ix in 0..document.graph.node.len() {
        let node = &document.graph.node[ix];
        let (op, name, output) = (node.op_type.clone(), node.name.clone(), node.output.first().cloned());
        let refuse = |what: &str| {
            Err(format!("node {name} ({op}) {what}, so the file has no float form; take option `precision` keep"))
        };
        let is_constant = document.constant(Slot { node: ix, input: 0 }).is_some();
        let reads_codes = node.input.first().is_some_and(|input| quantized.contains(input));
        match (op.as_str(), output) {
            ("QuantizeLinear", Some(output)) if !is_constant => {
                let Some([low, high]) = ends(document, ix) else { return refuse("has a grid that is not one scale") };
                let bytes = |value: f32| value.to_le_bytes();
                let x = document.operand(Slot { node: ix, input: 0 }).unwrap_or_default().to_owned();
                let float = DataType::Float as i32;
                let low = document.add_tensor(&format!("{output}.lowest"), float, &[], &bytes(low));
                let high = document.add_tensor(&format!("{output}.highest"), float, &[], &bytes(high));
                replace(document, ix, "Clip", vec![x, low, high]);
                quantized.insert(output);
            }
            ("DequantizeLinear", Some(_)) if reads_codes => {
                let codes = document.operand(Slot { node: ix, input: 0 }).unwrap_or_default().to_owned();
                replace(document, ix, "Identity", vec![codes]);
            }
            ("DequantizeLinear" | "QuantizeLinear", _) => {}
            (op, _)
                if op.starts_with("QLinear")
                    || op == "QGemm"
                    || op.contains("Integer")
                    || op.contains("QuantizeLinear") =>
            {
                return refuse("computes with integers");
            }
            (_, output) if reads_codes => quantized.extend(output),
            _ => {}
        }
    }
    // What was said of them was of another type.
    for number in [VALUE_INFO, ANNOTATION] {
        quantized.iter().for_each(|name| document.drop_named(number, name));
    }
    document.drop_idle();
    Ok(())
}

/// Puts another node in the place of one, under its name and that of its output.
fn replace(document: &mut Document, ix: usize, op: &'static str, inputs: Vec<String>) {
    let node = &document.graph.node[ix];
    let (name, output) = (node.name.clone(), node.output[0].clone());
    document.drop_part(NODE, ix);
    document.add_node(ix, NewNode { op, name, inputs, output, attributes: vec![] });
}

/// The smallest and the largest value on the grid of a QuantizeLinear.
fn ends(document: &Document, node: usize) -> Option<[f32; 2]> {
    let scale = document.constant(Slot { node, input: 1 })?;
    let [scale] = f32_values(scale)[..] else { return None };
    let zero = document.constant(Slot { node, input: 2 });
    let asked =
        attribute(&document.graph.node[node], "output_dtype").map(|kind| kind.i as i32).filter(|kind| *kind != 0);
    let kind = zero.map(|zero| zero.data_type).or(asked).unwrap_or(DataType::Uint8 as i32);
    let range: [i32; 2] = match DataType::try_from(kind).ok()? {
        DataType::Uint8 => [0, 255],
        DataType::Int8 => [-128, 127],
        DataType::Uint16 => [0, 65_535],
        DataType::Int16 => [-32_768, 32_767],
        _ => return None,
    };
    let zero = match zero {
        Some(zero) => integer(zero.raw_data.as_ref(), zero.int32_data.first().copied(), kind)?,
        None => 0,
    };
    (document.opset >= CLIP_OPSET).then(|| range.map(|code| (code - zero) as f32 * scale))
}

/// The first number of a tensor of a small integer type.
fn integer(raw: &[u8], typed: Option<i32>, kind: i32) -> Option<i32> {
    match (raw, DataType::try_from(kind).ok()?) {
        ([], _) => typed,
        ([byte, ..], DataType::Uint8) => Some(i32::from(*byte)),
        ([byte, ..], DataType::Int8) => Some(i32::from(*byte as i8)),
        ([a, b, ..], DataType::Uint16) => Some(i32::from(u16::from_le_bytes([*a, *b]))),
        ([a, b, ..], DataType::Int16) => Some(i32::from(i16::from_le_bytes([*a, *b]))),
        _ => None,
    }
}
