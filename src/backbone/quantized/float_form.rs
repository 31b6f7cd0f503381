//! Quantized files in float form. Weights of 8 bits keep their codes; activations, biases and constants of 16 bits become
//! floats.
//!
//! A pair of QuantizeLinear and DequantizeLinear around an activation rounds it to a grid and cuts it off at the grid's
//! ends. The rounding is dropped: it only adds noise, and has no gradient. The ends are kept as a clip: exporters fold
//! ReLU and ReLU6 into them. So what is computed is the network that was quantized, with its weights as deployed and its
//! activations not rounded. Whoever reads a quantized activation has to name the grid that it was written with.

use std::collections::{HashMap, HashSet};

use tract_onnx::pb::{GraphProto, NodeProto, TensorProto};

use super::grid::{Integers, Kind, Outcome};
use super::integer;
use super::rewriter::{NOT_BLOCKED, Rewriter, operand, output};
use crate::backbone::onnx::{Names, attribute};
use crate::backbone::weights::{Constants, is_float};

/// Operators that move numbers without computing with them.
pub(crate) const MOVES: [&str; 11] = [
    "Identity",
    "Reshape",
    "Transpose",
    "Flatten",
    "Squeeze",
    "Unsqueeze",
    "MaxPool",
    "Slice",
    "Concat",
    "Gather",
    "Expand",
];

/// Rewrites every quantized operator of `graph` into float form.
///
/// # Errors
/// Names the node that cannot be taken, and why.
pub(crate) fn to_float(graph: &mut GraphProto, opset: i64, constants: &mut Constants) -> Outcome<()> {
    if !graph.node.iter().any(is_quantizer) {
        return Ok(());
    }
    let names = Names::of(graph);
    let integers = integers(graph);
    let nodes = Vec::with_capacity(graph.node.len());
    let (grids, dynamic, unscaled) = (HashMap::new(), Vec::new(), HashMap::new());
    let mut rewriter = Rewriter { constants, integers, grids, dynamic, unscaled, nodes, names, opset };
    for node in std::mem::take(&mut graph.node) {
        let place = format!("node {} ({})", node.name, node.op_type);
        rewriter.rewrite(node).map_err(|what| format!("{place}: {what}"))?;
    }
    graph.node = rewriter.nodes;
    Ok(())
}

fn is_quantizer(node: &NodeProto) -> bool {
    matches!(node.op_type.as_str(), "QuantizeLinear" | "DequantizeLinear") || integer::is_integer_op(&node.op_type)
}

/// Moves the integer tensors that quantizers read out of the graph, one by one; what another node reads as well stays too.
fn integers(graph: &mut GraphProto) -> HashMap<String, Outcome<Integers>> {
    let inputs = |quantizers: bool| -> HashSet<String> {
        let nodes = graph.node.iter().filter(|node| is_quantizer(node) == quantizers);
        nodes.flat_map(|node| node.input.iter().cloned()).collect()
    };
    let (wanted, others) = (inputs(true), inputs(false));
    let mut found = HashMap::new();
    let mut collect = |name: &str, tensor: &mut TensorProto| {
        if is_float(tensor) || !wanted.contains(name) {
            return false;
        }
        let stays = others.contains(name);
        let tensor = if stays { tensor.clone() } else { std::mem::take(tensor) };
        found.insert(name.to_string(), Integers::decode(name, tensor));
        !stays
    };
    graph.initializer.retain_mut(|tensor| !collect(&tensor.name.clone(), tensor));
    graph.node.retain_mut(|node| {
        let value = node.attribute.iter_mut().find(|a| a.name == "value").and_then(|a| a.t.as_mut());
        let (true, Some(tensor), Some(name)) = (node.op_type == "Constant", value, node.output.first()) else {
            return true;
        };
        !collect(name, tensor)
    });
    found
}

impl Rewriter<'_> {
    fn rewrite(&mut self, mut node: NodeProto) -> Outcome<()> {
        if attribute(&node, "block_size").is_some_and(|a| a.i != 0) {
            return Err(NOT_BLOCKED.into());
        }
        match node.op_type.as_str() {
            "QuantizeLinear" => self.quantize(&node),
            "DequantizeLinear" => self.dequantize(&node),
            op if integer::is_integer_op(op) => self.integer(node),
            _ => {
                if self.constants.resolve(&mut node)? {
                    return Ok(());
                }
                self.other(node)
            }
        }
    }

    /// A weight gets its codes; an activation is cut off at the ends of its grid.
    fn quantize(&mut self, node: &NodeProto) -> Outcome<()> {
        let (x, y) = (operand(node, 0)?, output(node)?);
        let quantizer = self.quantizer(operand(node, 1)?, node.input.get(2))?;
        let asked = attribute(node, "output_dtype").filter(|a| a.i != 0).map(|a| Kind::of(a.i as i32)).transpose();
        let asked = asked.map_err(|what| format!("its output_dtype is {what}"))?;
        let kind = match (quantizer.kind(), asked) {
            (Some(zero), Some(asked)) if zero != asked => {
                let (zero, asked) = (zero.name(), asked.name());
                return Err(format!("its zero-point is of type {zero} and its output_dtype {asked}"));
            }
            (zero, asked) => zero.or(asked).unwrap_or(Kind::Uint8),
        };
        if let Some(constant) = self.constants.take(x) {
            self.constants.charge_bytes(4 * constant.dims.iter().product::<usize>())?;
            let codes = Integers::encode(&constant, &quantizer, kind, |rank| axis(node, rank))?;
            self.integers.insert(y.clone(), Ok(codes));
            return Ok(());
        }
        let grid = quantizer.grid(kind)?;
        self.clip(node, x, y, grid);
        Ok(())
    }

    fn dequantize(&mut self, node: &NodeProto) -> Outcome<()> {
        let (x, scale, y) = (operand(node, 0)?, operand(node, 1)?, output(node)?);
        if let Some(&grid) = self.grids.get(x) {
            self.check_reader(grid, scale, node.input.get(2))?;
            self.push("Identity", node.name.clone(), vec![x.clone()], y);
            return Ok(());
        }
        if !self.integers.contains_key(x) {
            return Err(
                "it dequantizes a tensor that no QuantizeLinear made; export the model with pairs of both".into()
            );
        }
        let quantizer = self.quantizer(scale, node.input.get(2))?;
        let constant = self.coded(x, quantizer, |rank| axis(node, rank))?;
        self.constants.insert_made(y, constant)?;
        Ok(())
    }

    /// Anything else computes on floats, or moves quantized numbers without changing them.
    fn other(&mut self, node: NodeProto) -> Outcome<()> {
        if self.scale_of_product(&node)? {
            return Ok(());
        }
        let mut grids = node.input.iter().filter_map(|input| self.grids.get(input));
        if let Some(&grid) = grids.next() {
            if !MOVES.contains(&node.op_type.as_str()) || grids.any(|other| *other != grid) {
                return Err("it computes with quantized numbers; only operators in float, or of the QLinear family, \
                            can be differentiated"
                    .into());
            }
            for output in &node.output {
                self.grids.insert(output.clone(), grid);
            }
        }
        self.nodes.push(node);
        Ok(())
    }
}

/// The `axis` attribute, 1 by default, counted from the end where it is negative.
fn axis(node: &NodeProto, rank: usize) -> Outcome<usize> {
    let axis = attribute(node, "axis").map_or(1, |a| a.i);
    let from_start = if axis < 0 { axis + rank as i64 } else { axis };
    let found = usize::try_from(from_start).ok().filter(|axis| *axis < rank.max(1) || rank == 1);
    found.ok_or_else(|| format!("its axis {axis} is outside a tensor of {rank} axes"))
}
