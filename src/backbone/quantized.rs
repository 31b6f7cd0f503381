//! Quantized files in float form. Weights of 8 bits keep their codes; activations, biases and constants of 16 bits become
//! floats.
//!
//! A pair of QuantizeLinear and DequantizeLinear around an activation rounds it to a grid and cuts it off at the grid's
//! ends. The rounding is dropped: it only adds noise, and has no gradient. The ends are kept as a clip: exporters fold
//! ReLU and ReLU6 into them. So what is computed is the network that was quantized, with its weights as deployed and its
//! activations not rounded. Whoever reads a quantized activation has to name the grid that it was written with.

use std::collections::{HashMap, HashSet};

use tract_onnx::pb::{GraphProto, NodeProto, TensorProto};

use super::constant::{Constant, Constants, Values, is_float};
use super::grid::{Grid, Integers, Kind, Quantizer};
use crate::backbone::onnx::{Names, attribute};

/// Why a scale for every few numbers of a row is refused.
pub(super) const NOT_BLOCKED: &str = "blocked quantization is not supported; quantize per tensor or per output channel";

/// Operators that move numbers without computing with them.
const MOVES: [&str; 11] = [
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

type Outcome<T> = Result<T, String>;

/// Rewrites one graph, node by node.
pub(super) struct Rewriter<'c> {
    pub(super) constants: &'c mut Constants,
    /// Integer tensors of the file that a quantizer reads, or what is wrong with them.
    integers: HashMap<String, Outcome<Integers>>,
    /// Activations that the file holds as integers; here they are floats.
    pub(super) grids: HashMap<String, Grid>,
    /// Scale and zero-point of each dynamic quantizer.
    pub(super) dynamic: Vec<[String; 2]>,
    /// Products of integers whose scale is still to come: tensor, and the weight that will take it.
    pub(super) unscaled: HashMap<String, String>,
    pub(super) nodes: Vec<NodeProto>,
    pub(super) names: Names,
    /// The version of ONNX's own operators that the file uses.
    pub(super) opset: i64,
}

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
    matches!(node.op_type.as_str(), "QuantizeLinear" | "DequantizeLinear") || super::integer::is(&node.op_type)
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
            op if super::integer::is(op) => self.integer(node),
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

    /// Refuses a reader of `grid` whose scale and zero-point are not those that it was written with.
    pub(super) fn check_reader(&self, grid: Grid, scale: &str, zero: Option<&String>) -> Outcome<()> {
        let Grid::Fixed { scale: s, zero: z, kind } = grid else {
            let Grid::Dynamic(quantizer) = grid else { return Ok(()) };
            let [own_scale, own_zero] = &self.dynamic[quantizer];
            if scale == own_scale && zero == Some(own_zero) {
                return Ok(());
            }
            return Err("it reads with another scale or zero-point than its DynamicQuantizeLinear gives".into());
        };
        let found = self.quantizer(scale, zero)?.grid(kind)?;
        match found {
            Grid::Fixed { scale, zero, kind: own } if found != grid => Err(format!(
                "it reads as {} with scale {scale} and zero-point {zero} what was written as {} with {s} and {z}",
                own.name(),
                kind.name()
            )),
            _ => Ok(()),
        }
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

    pub(super) fn push(&mut self, op: &str, name: String, input: Vec<String>, output: &str) {
        let (op_type, output) = (op.to_string(), vec![output.to_string()]);
        self.nodes.push(NodeProto { op_type, name, input, output, ..NodeProto::default() });
    }

    /// y = x within the ends of the grid.
    pub(super) fn clip(&mut self, node: &NodeProto, x: &str, y: &str, grid: Grid) {
        if let Grid::Fixed { scale, zero, kind } = grid {
            let [low, high] = kind.range().map(|code| (code - zero) as f32 * scale);
            let names = ["lowest", "highest", "raised"].map(|end| self.names.fresh(&format!("{y}.{end}")));
            for (name, value) in [(&names[0], low), (&names[1], high)] {
                self.constants.insert(name, Constant { dims: vec![], values: Values::F32([value].into()) });
            }
            self.push("Max", format!("{}.raise", node.name), vec![x.into(), names[0].clone()], &names[2]);
            self.push("Min", node.name.clone(), vec![names[2].clone(), names[1].clone()], y);
        } else {
            self.push("Identity", node.name.clone(), vec![x.into()], y);
        }
        self.grids.insert(y.to_string(), grid);
    }

    /// Scales and zero-points by tensor name; both have to be constants.
    pub(super) fn quantizer(&self, scale: &str, zero: Option<&String>) -> Outcome<Quantizer> {
        let scales = self.scales(scale)?;
        let Some(name) = zero.filter(|name| !name.is_empty()) else { return Ok(Quantizer::symmetric(scales)) };
        let zeros = self.integers_named(name).map_err(|what| format!("its zero-point {what}"))?;
        let named = Some((name.clone(), zeros.kind));
        let zeros = one_axis(name, &zeros.dims).map(|()| zeros.to_i32())?;
        if zeros.len() != scales.len() {
            return Err(format!("it has {} scales and {} zero-points", scales.len(), zeros.len()));
        }
        Ok(Quantizer { scales, zeros, named })
    }

    fn scales(&self, name: &str) -> Outcome<Vec<f32>> {
        let scales = match (self.constants.known(name), self.integers.get(name)) {
            (Some(Constant { values: Values::F32(scales), dims }), _) => {
                one_axis(name, dims)?;
                scales.to_vec()
            }
            (Some(_), _) => return Err(format!("its scale {name} is of type float16; a scale here is float32")),
            (None, Some(Err(what))) => return Err(format!("its scale {what}")),
            (None, Some(Ok(found))) => {
                return Err(format!("its scale {name} is of type {}; a scale is float32", found.kind.name()));
            }
            (None, None) => return Err(format!("its scale {name} is not a constant")),
        };
        if let Some(bad) = scales.iter().find(|s| !(s.is_finite() && **s > 0.0)) {
            return Err(format!("its scale {name} holds {bad}; scales are positive and finite"));
        }
        Ok(scales)
    }

    /// An integer constant by name.
    pub(super) fn integers_named(&self, name: &str) -> Outcome<&Integers> {
        match self.integers.get(name) {
            Some(found) => found.as_ref().map_err(Clone::clone),
            None => Err(format!("{name} is not an integer constant")),
        }
    }

    /// A constant of integer codes, which are of the zero-point's type. `axis` finds the axis of several scales.
    pub(super) fn coded(
        &self,
        name: &str,
        quantizer: Quantizer,
        axis: impl Fn(usize) -> Outcome<usize>,
    ) -> Outcome<Constant> {
        let codes = self.integers_named(name)?;
        if let Some((zero, kind)) = quantizer.named.as_ref().filter(|(_, kind)| *kind != codes.kind) {
            let (kind, own) = (kind.name(), codes.kind.name());
            return Err(format!("{name} ({own}) and its zero-point {zero} ({kind}) are of different types"));
        }
        codes.decoded(quantizer, axis)
    }
}

/// Scales and zero-points lie along one axis, or are one for all.
fn one_axis(name: &str, dims: &[usize]) -> Outcome<()> {
    match dims.len() {
        0 | 1 => Ok(()),
        _ => Err(format!("{name} has the shape {dims:?}; scales and zero-points are a scalar or lie along one axis")),
    }
}

/// The `axis` attribute, 1 by default, counted from the end where it is negative.
fn axis(node: &NodeProto, rank: usize) -> Outcome<usize> {
    let axis = attribute(node, "axis").map_or(1, |a| a.i);
    let from_start = if axis < 0 { axis + rank as i64 } else { axis };
    let found = usize::try_from(from_start).ok().filter(|axis| *axis < rank.max(1) || rank == 1);
    found.ok_or_else(|| format!("its axis {axis} is outside a tensor of {rank} axes"))
}

pub(super) fn operand(node: &NodeProto, place: usize) -> Outcome<&String> {
    node.input.get(place).filter(|name| !name.is_empty()).ok_or_else(|| format!("its input {place} is missing"))
}

pub(super) fn output(node: &NodeProto) -> Outcome<&String> {
    node.output.first().ok_or_else(|| "it has no output".into())
}
