//! The shapes that are worked out here against those that tract works out from the same node.

use proptest::prelude::*;
use tract_onnx::pb::attribute_proto::AttributeType;
use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::type_proto::Value;
use tract_onnx::pb::{
    AttributeProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto, TypeProto, ValueInfoProto,
    type_proto,
};
use tract_onnx::prelude::*;

use super::fact::Outcome;
use super::walk::facts;
use crate::backbone::onnx::Budget;

const OPSET: i64 = 17;

fn ints(name: &str, ints: &[usize]) -> AttributeProto {
    let ints = ints.iter().map(|&i| i as i64).collect();
    AttributeProto { name: name.into(), r#type: AttributeType::Ints as i32, ints, ..AttributeProto::default() }
}

fn int(name: &str, i: i64) -> AttributeProto {
    AttributeProto { name: name.into(), r#type: AttributeType::Int as i32, i, ..AttributeProto::default() }
}

/// A constant input of integers.
fn list(name: &str, values: &[i64]) -> TensorProto {
    let dims = vec![values.len() as i64];
    let data_type = DataType::Int64 as i32;
    TensorProto { name: name.into(), dims, data_type, int64_data: values.to_vec(), ..TensorProto::default() }
}

fn floats(name: &str, dims: &[usize]) -> TensorProto {
    let float_data = vec![0.5; dims.iter().product()];
    let dims = dims.iter().map(|&dim| dim as i64).collect();
    TensorProto { name: name.into(), dims, data_type: DataType::Float as i32, float_data, ..TensorProto::default() }
}

/// The output's shape of a node that reads `x` and constants: as it is worked out here, and as tract does.
fn shapes(
    op: &str,
    image: [usize; 4],
    attribute: Vec<AttributeProto>,
    initializer: Vec<TensorProto>,
) -> (Outcome<Vec<usize>>, TractResult<Vec<usize>>) {
    let input = ["x"].into_iter().chain(initializer.iter().map(|tensor| tensor.name.as_str())).map(str::to_owned);
    let (input, output) = (input.collect(), vec!["y".to_owned()]);
    let node =
        vec![NodeProto { op_type: op.into(), name: op.into(), input, output, attribute, ..NodeProto::default() }];
    let tensor = type_proto::Tensor { elem_type: DataType::Float as i32, ..type_proto::Tensor::default() };
    let kind = TypeProto { value: Some(Value::TensorType(tensor)), ..TypeProto::default() };
    let named = |name: &str| ValueInfoProto { name: name.into(), ..ValueInfoProto::default() };
    let (input, output) = (vec![ValueInfoProto { r#type: Some(kind), ..named("x") }], vec![named("y")]);
    let graph = GraphProto { node, initializer, input, output, ..GraphProto::default() };
    let here = facts(&graph, OPSET, Some(("x", image)), Budget::of(1 << 20), |_| None);
    let opset_import = vec![OperatorSetIdProto { domain: String::new(), version: OPSET }];
    let proto = ModelProto { ir_version: 8, opset_import, graph: Some(graph), ..ModelProto::default() };
    let there = || {
        let model = tract_onnx::onnx().model_for_proto_model(&proto)?.with_input_fact(0, f32::fact(image).into())?;
        let model = model.into_typed()?;
        let shape = model.output_fact(0)?.shape.as_concrete().map(<[usize]>::to_vec);
        shape.ok_or_else(|| TractError::msg("a shape that depends on something"))
    };
    (here.map(|facts| facts["y"].dims.clone()), there())
}

/// What is taken here is taken by tract, and has the same shape.
fn agree(
    op: &str,
    image: [usize; 4],
    attributes: Vec<AttributeProto>,
    constants: Vec<TensorProto>,
) -> std::result::Result<(), TestCaseError> {
    let told = format!("{op} of {image:?} with {attributes:?}");
    let (here, there) = shapes(op, image, attributes, constants);
    if let Ok(here) = here {
        let there = there.map_err(|e| TestCaseError::fail(format!("{told}: tract refuses it: {e:?}")))?;
        prop_assert_eq!(here, there, "{}", told);
    }
    Ok(())
}

/// Two of a range.
fn two(range: std::ops::Range<usize>) -> impl Strategy<Value = [usize; 2]> {
    [range.clone(), range].prop_map(|[a, b]| [a, b])
}

proptest! {
    #[test]
    fn windows(
        side in two(1..12), kernel in two(1..4), stride in two(1..4), dilation in two(1..3), pads in [0..2usize, 0..2, 0..2, 0..2],
        (group, ceil) in (1..3usize, 0..2i64)
    ) {
        let (image, moves) = ([1, 4, side[0], side[1]], || vec![
            ints("kernel_shape", &kernel), ints("strides", &stride), ints("pads", &pads)
        ]);
        let weight = floats("w", &[6, 4 / group, kernel[0], kernel[1]]);
        let mut own = moves();
        own.extend([ints("dilations", &dilation), int("group", group as i64)]);
        agree("Conv", image, own, vec![weight])?;
        for op in ["MaxPool", "AveragePool"] {
            let mut own = moves();
            own.push(int("ceil_mode", ceil));
            agree(op, image, own, vec![])?;
        }
    }

    #[test]
    fn moves(
        image in [1..3usize, 1..9, 1..9, 1..9], order in Just([0, 1, 2, 3]).prop_shuffle(), axis in -4..4i64, keep in 0..2i64,
        (start, end, step) in (-9..9i64, -9..9i64, 1..4i64), pads in proptest::collection::vec(0..3i64, 8),
        repeats in proptest::collection::vec(1..3i64, 4), block in 1..3i64
    ) {
        agree("Transpose", image, vec![ints("perm", &order)], vec![])?;
        agree("Flatten", image, vec![int("axis", axis)], vec![])?;
        agree("Softmax", image, vec![int("axis", axis)], vec![])?;
        let axes = AttributeProto { ints: vec![axis], ..ints("axes", &[]) };
        agree("ReduceMean", image, vec![axes, int("keepdims", keep)], vec![])?;
        let cut = [("starts", start), ("ends", end), ("axes", axis), ("steps", step)];
        agree("Slice", image, vec![], cut.iter().map(|(name, value)| list(name, &[*value])).collect())?;
        agree("Pad", image, vec![], vec![list("pads", &pads)])?;
        agree("Tile", image, vec![], vec![list("repeats", &repeats)])?;
        agree("Unsqueeze", image, vec![], vec![list("axes", &[axis])])?;
        agree("Squeeze", image, vec![], vec![list("axes", &[axis])])?;
        agree("Reshape", image, vec![], vec![list("shape", &[0, -1, image[3] as i64])])?;
        agree("DepthToSpace", image, vec![int("blocksize", block)], vec![])?;
        agree("SpaceToDepth", image, vec![int("blocksize", block)], vec![])?;
    }

    #[test]
    fn operands_spread_over_each_other(image in [1..3usize, 1..3, 1..4, 1..4], other in [1..3usize, 1..3, 1..4, 1..4], skip in 0..5usize) {
        for op in ["Add", "Mul", "Max"] {
            agree(op, image, vec![], vec![floats("b", &other[skip.min(4)..])])?;
        }
        agree("Gather", image, vec![int("axis", 1)], vec![list("indices", &[0, -1])])?;
        agree("Concat", image, vec![int("axis", 2)], vec![floats("b", &[image[0], image[1], other[2], image[3]])])?;
        agree("Expand", image, vec![], vec![list("shape", &other.map(|dim| dim as i64))])?;
        agree("MatMul", image, vec![], vec![floats("b", &[image[3], 5])])?;
    }
}

#[test]
fn every_operator_of_these_tests_is_taken_at_all() {
    let image = [1, 4, 6, 6];
    let taken = |op, attributes, constants| shapes(op, image, attributes, constants).0;
    assert_eq!(taken("Conv", vec![], vec![floats("w", &[6, 4, 3, 3])]), Ok(vec![1, 6, 4, 4]));
    assert_eq!(taken("MaxPool", vec![ints("kernel_shape", &[2, 3])], vec![]), Ok(vec![1, 4, 5, 4]));
    assert_eq!(taken("Flatten", vec![int("axis", 2)], vec![]), Ok(vec![4, 36]));
    assert_eq!(taken("Slice", vec![], vec![list("s", &[1]), list("e", &[-1]), list("a", &[3])]), Ok(vec![1, 4, 6, 4]));
    assert_eq!(taken("Expand", vec![], vec![list("shape", &[2, 1, 1, 1])]), Ok(vec![2, 4, 6, 6]));
    assert_eq!(taken("DepthToSpace", vec![int("blocksize", 2)], vec![]), Ok(vec![1, 1, 12, 12]));
    assert_eq!(taken("Gather", vec![int("axis", 1)], vec![list("i", &[0, -1])]), Ok(vec![1, 2, 6, 6]));
}
