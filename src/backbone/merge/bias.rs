//! A bias in int32, whose scale is that of the products: it follows the scale of the weight.

use tract_onnx::pb::TensorProto;
use tract_onnx::pb::tensor_proto::DataType;

use super::trace::chain;
use super::weight::{f32_values, shape};
use crate::backbone::splice::{Document, Slot};

/// Rewrites the codes of a bias whose weight has new scales, `ratios` times the old ones, row by row; and its own scale, where the file
/// says one. The bias itself stays what it was, up to rounding. One in floats needs nothing.
///
/// `is_implied`: the node works out the scale of the bias from those of its operands.
pub(super) fn follow(document: &mut Document, bias: Slot, ratios: &[f32], is_implied: bool) {
    let int32 = DataType::Int32 as i32;
    if is_implied {
        let Some(tensor) = document.constant(bias).filter(|tensor| tensor.data_type == int32) else { return };
        let (dims, codes) = (shape(tensor), scaled(&i32_values(tensor), ratios));
        return document.set_constant(bias, int32, &dims, bytes(&codes));
    }
    let Some(chain) = chain(document, bias).filter(|chain| chain.is_own) else { return };
    let (source, Some(decoder)) = (&document.graph.initializer[chain.source], chain.decoder) else { return };
    let slot = Slot { node: decoder, input: 1 };
    let Some(scale) = document.constant(slot).filter(|_| source.data_type == int32) else { return };
    let (dims, mut scales) = (shape(scale), f32_values(scale));
    // One scale for rows that have scales of their own is none that follows them.
    let all_alike = ratios.iter().all(|ratio| *ratio == ratios[0]);
    if scales.len() != ratios.len() && !(scales.len() == 1 && all_alike) {
        return;
    }
    let codes = scaled(&i32_values(source), ratios);
    scales.iter_mut().zip(ratios).for_each(|(scale, ratio)| *scale *= ratio);
    document.set_values(chain.source, bytes(&codes));
    let raw = scales.iter().flat_map(|scale| scale.to_le_bytes()).collect();
    document.set_constant(slot, DataType::Float as i32, &dims, raw);
}

/// Codes that stand for the same numbers on scales `ratios` times as large.
fn scaled(codes: &[i32], ratios: &[f32]) -> Vec<i32> {
    let ratio = |row: usize| ratios.get(row).or(ratios.first()).copied().unwrap_or(1.0);
    // As a float saturates, so does the cast.
    let code = |(row, code): (usize, &i32)| match ratio(row) {
        1.0 => *code,
        ratio => (f64::from(*code) / f64::from(ratio)).round_ties_even() as i32,
    };
    codes.iter().enumerate().map(code).collect()
}

fn bytes(codes: &[i32]) -> Vec<u8> {
    codes.iter().flat_map(|code| code.to_le_bytes()).collect()
}

fn i32_values(tensor: &TensorProto) -> Vec<i32> {
    if tensor.raw_data.is_empty() {
        return tensor.int32_data.clone();
    }
    tensor.raw_data.as_chunks().0.iter().map(|bytes| i32::from_le_bytes(*bytes)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bias_stands_for_the_same_on_another_scale() {
        assert_eq!(scaled(&[1000, -300, 7], &[1.0, 1.5, 2.0]), [1000, -200, 4]);
        assert_eq!(scaled(&[1000, -300], &[0.5]), [2000, -600]);
        assert_eq!(scaled(&[i32::MAX], &[0.5]), [i32::MAX]);
    }
}
