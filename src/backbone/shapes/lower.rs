//! Operators that plainer ones express, so that these need neither a kernel nor a gradient of their own.

use std::collections::HashMap;

use tract_onnx::pb::attribute_proto::AttributeType;
use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::{AttributeProto, GraphProto, NodeProto, TensorProto};

use super::along::{Along, Step};
use super::call::Call;
use super::fact::{Fact, Outcome};
use crate::backbone::onnx::{Names, int_attribute};

const LOWERED: [&str; 6] = ["CumSum", "Einsum", "GatherND", "Resize", "ScatterND", "Slice"];

/// Puts plain nodes in the place of those that they express. What is known stays for its constants.
pub(super) fn lower(graph: &mut GraphProto, facts: &HashMap<String, Fact>, opset: i64) -> Outcome<()> {
    if !graph.node.iter().any(|node| LOWERED.contains(&node.op_type.as_str())) {
        return Ok(());
    }
    let mut lowering = Lowering { names: Names::of(graph), nodes: Vec::new(), constants: Vec::new() };
    for node in std::mem::take(&mut graph.node) {
        let is_known = node.output.iter().all(|name| facts.get(name).is_some_and(|fact| fact.known.is_some()));
        if is_known || !LOWERED.contains(&node.op_type.as_str()) {
            lowering.nodes.push(node);
            continue;
        }
        let operands = node.input.iter().map(|name| facts.get(name)).collect();
        let call = Call { node: &node, operands, opset, map: None };
        match node.op_type.as_str() {
            "Einsum" => lowering.einsum(&node),
            "GatherND" | "ScatterND" => lowering.indexed(&call)?,
            "Slice" if call.cuts()?.iter().all(|cut| cut.step == 1) => lowering.nodes.push(node),
            _ => lowering.along(&call)?,
        }
    }
    graph.node = lowering.nodes;
    graph.initializer.extend(lowering.constants);
    Ok(())
}

struct Lowering {
    names: Names,
    nodes: Vec<NodeProto>,
    constants: Vec<TensorProto>,
}

impl Lowering {
    /// tract reads an equation without spaces.
    fn einsum(&mut self, node: &NodeProto) {
        let mut node = node.clone();
        for equation in node.attribute.iter_mut().filter(|a| a.name == "equation") {
            equation.s.retain(|letter| !letter.is_ascii_whitespace());
        }
        self.nodes.push(node);
    }

    /// A Gather of blocks.
    fn indexed(&mut self, call: &Call) -> Outcome<()> {
        let picks = call.picks()?;
        let node = call.node;
        let mut rows = Vec::new();
        for place in if node.op_type == "ScatterND" { &[0, 2][..] } else { &[0] } {
            let count = picks.of(call.operand(*place)?);
            if count > 0 {
                rows.push(self.shaped(node, &node.input[*place], &[count, picks.block], None));
            }
        }
        let all = match &rows[..] {
            [one] => one.clone(),
            _ => self.write(node, "Concat", rows, vec![int_attribute("axis", 0)], None),
        };
        let table = self.integers(node, &picks.table);
        let picked = self.write(node, "Gather", vec![all, table], vec![int_attribute("axis", 0)], None);
        self.shaped(node, &picked, &picks.dims, node.output.first());
        Ok(())
    }

    /// A Gather or a product for each axis.
    fn along(&mut self, call: &Call) -> Outcome<()> {
        let (node, rank) = (call.node, call.operand(0)?.dims.len());
        let mut tensor = node.input[0].clone();
        for Step { axis, inputs, outputs, along } in call.steps()? {
            tensor = match along {
                Along::Pick(table) => {
                    let table = self.integers(node, &table);
                    self.write(node, "Gather", vec![tensor, table], vec![int_attribute("axis", axis as i64)], None)
                }
                Along::Mix(matrix) => {
                    let matrix = self.floats(node, matrix, [inputs, outputs]);
                    let turned = self.swapped(node, tensor, [axis, rank]);
                    let mixed = self.write(node, "MatMul", vec![turned, matrix], vec![], None);
                    self.swapped(node, mixed, [axis, rank])
                }
            };
        }
        self.write(node, "Identity", vec![tensor], vec![], node.output.first());
        Ok(())
    }

    /// The axis in the last place, and the last in its.
    fn swapped(&mut self, node: &NodeProto, tensor: String, [axis, rank]: [usize; 2]) -> String {
        if axis + 1 == rank {
            return tensor;
        }
        let mut order: Vec<i64> = (0..rank as i64).collect();
        order.swap(axis, rank - 1);
        let kind = AttributeType::Ints as i32;
        let order = AttributeProto { name: "perm".into(), r#type: kind, ints: order, ..AttributeProto::default() };
        self.write(node, "Transpose", vec![tensor], vec![order], None)
    }

    fn shaped(&mut self, node: &NodeProto, tensor: &str, dims: &[usize], output: Option<&String>) -> String {
        let dims = self.integers(node, dims);
        self.write(node, "Reshape", vec![tensor.into(), dims], vec![], output)
    }

    /// A node of the name of the one that it stands for; the tensor that it makes.
    fn write(
        &mut self,
        of: &NodeProto,
        op: &str,
        input: Vec<String>,
        attribute: Vec<AttributeProto>,
        output: Option<&String>,
    ) -> String {
        let name = self.names.fresh(&format!("{}.{}", of.name, op.to_lowercase()));
        let output = output.cloned().unwrap_or_else(|| name.clone());
        let made = vec![output.clone()];
        self.nodes.push(NodeProto { op_type: op.into(), name, input, output: made, attribute, ..NodeProto::default() });
        output
    }

    fn integers(&mut self, of: &NodeProto, values: &[usize]) -> String {
        let raw_data = values.iter().flat_map(|value| (*value as i64).to_le_bytes()).collect();
        self.hold(of, DataType::Int64, vec![values.len() as i64], raw_data)
    }

    fn floats(&mut self, of: &NodeProto, values: Vec<f32>, dims: [usize; 2]) -> String {
        let raw_data = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.hold(of, DataType::Float, dims.map(|dim| dim as i64).into(), raw_data)
    }

    fn hold(&mut self, of: &NodeProto, kind: DataType, dims: Vec<i64>, raw_data: Vec<u8>) -> String {
        let name = self.names.fresh(&format!("{}.constant", of.name));
        let data_type = kind as i32;
        self.constants.push(TensorProto { name: name.clone(), dims, data_type, raw_data, ..TensorProto::default() });
        name
    }
}
