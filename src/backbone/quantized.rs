//! Quantized files in float form. Weights keep their int8 codes; activations become floats.
//!
//! A pair of QuantizeLinear and DequantizeLinear around an activation rounds it to a grid and cuts it off at the grid's
//! ends. The rounding is dropped: it only adds noise, and has no gradient. The ends are kept as a clip: exporters fold
//! ReLU and ReLU6 into them. So what is computed is the network that was quantized, with its weights as deployed; its
//! features differ from the rounded ones by less than the rounding does.

use std::collections::HashMap;

use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::{GraphProto, NodeProto, TensorProto};

use super::constant::{Constant, Constants, Values};
use super::onnx::attribute;

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

/// The grid that a quantized activation lies on.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Grid {
    Fixed {
        scale: f32,
        zero: i32,
        /// Smallest and largest code.
        codes: [i32; 2],
    },
    /// Chosen at run time from the range of each input, so it cuts nothing off.
    Dynamic,
}

/// Rewrites one graph, node by node.
pub(super) struct Rewriter<'c> {
    pub(super) constants: &'c mut Constants,
    /// Integer tensors of the file.
    integers: HashMap<String, TensorProto>,
    /// Activations that the file holds as integers; here they are floats.
    pub(super) grids: HashMap<String, Grid>,
    /// Products of integers whose scale is still to come: tensor, and the weight that will take it.
    pub(super) unscaled: HashMap<String, String>,
    pub(super) nodes: Vec<NodeProto>,
}

/// Scales and zero-points of one quantizer.
pub(super) struct Quantizer {
    pub(super) scales: Vec<f32>,
    pub(super) zeros: Vec<i32>,
    pub(super) codes: [i32; 2],
}

/// Rewrites every quantized operator of `graph` into float form.
///
/// # Errors
/// Names the node that cannot be taken, and why.
pub(crate) fn to_float(graph: &mut GraphProto, constants: &mut Constants) -> Outcome<()> {
    let is_quantizer = |node: &NodeProto| {
        node.op_type.ends_with("quantizeLinear")
            || node.op_type == "QuantizeLinear"
            || super::integer::is(&node.op_type)
    };
    if !graph.node.iter().any(is_quantizer) {
        return Ok(());
    }
    let mut integers = HashMap::new();
    let mut collect = |name: &str, tensor: &mut TensorProto| {
        let is_code = [DataType::Int8, DataType::Uint8, DataType::Int32].iter().any(|t| *t as i32 == tensor.data_type);
        if is_code {
            integers.insert(name.to_string(), TensorProto { name: name.to_string(), ..std::mem::take(tensor) });
        }
        is_code
    };
    graph.initializer.retain_mut(|tensor| !collect(&tensor.name.clone(), tensor));
    graph.node.retain_mut(|node| {
        let value = node.attribute.iter_mut().find(|a| a.name == "value").and_then(|a| a.t.as_mut());
        let (true, Some(tensor), Some(name)) = (node.op_type == "Constant", value, node.output.first()) else {
            return true;
        };
        !collect(name, tensor)
    });
    let (grids, unscaled, nodes) = (HashMap::new(), HashMap::new(), Vec::with_capacity(graph.node.len()));
    let mut rewriter = Rewriter { constants, integers, grids, unscaled, nodes };
    for node in std::mem::take(&mut graph.node) {
        let place = format!("node {} ({})", node.name, node.op_type);
        rewriter.rewrite(node).map_err(|what| format!("{place}: {what}"))?;
    }
    graph.node = rewriter.nodes;
    // What remains an operand of some other node, an int32 shape for instance, stays in the file.
    let rest = rewriter.integers;
    let used = |name: &String| graph.node.iter().any(|node| node.input.contains(name));
    graph.initializer.extend(rest.into_iter().filter(|(name, _)| used(name)).map(|(_, tensor)| tensor));
    Ok(())
}

impl Rewriter<'_> {
    fn rewrite(&mut self, node: NodeProto) -> Outcome<()> {
        if attribute(&node, "block_size").is_some_and(|a| a.i != 0) {
            return Err("blocked quantization is not supported; quantize per tensor or per output channel".into());
        }
        match node.op_type.as_str() {
            "QuantizeLinear" => self.quantize(&node),
            "DequantizeLinear" => self.dequantize(&node),
            op if super::integer::is(op) => self.integer(node),
            _ => self.other(node),
        }
    }

    /// A weight gets its codes; an activation is cut off at the ends of its grid.
    fn quantize(&mut self, node: &NodeProto) -> Outcome<()> {
        let (x, y) = (operand(node, 0)?, output(node)?);
        let quantizer = self.quantizer(operand(node, 1)?, node.input.get(2))?;
        if let Some(weight) = self.constants.take(x) {
            let constant = encode(&weight, &quantizer, axis(node, weight.dims.len())?)?;
            self.constants.insert(y, constant);
            return Ok(());
        }
        let grid = quantizer.grid()?;
        self.clip(node, x, y, grid);
        Ok(())
    }

    fn dequantize(&mut self, node: &NodeProto) -> Outcome<()> {
        let (x, y) = (operand(node, 0)?, output(node)?);
        if let Some(grid) = self.grids.get(x) {
            let found = self.quantizer(operand(node, 1)?, node.input.get(2))?.grid()?;
            if let (Grid::Fixed { scale, zero, .. }, Grid::Fixed { scale: s, zero: z, .. }) = (*grid, found)
                && (scale, zero) != (s, z)
            {
                return Err(format!(
                    "it reads with scale {s} and zero-point {z} what was written with {scale} and {zero}"
                ));
            }
            self.push("Identity", node.name.clone(), vec![x.clone()], y);
            return Ok(());
        }
        if let Some(codes) = self.constants.take(x) {
            self.constants.insert(y, codes);
            return Ok(());
        }
        if !self.integers.contains_key(x) {
            return Err(
                "it dequantizes a tensor that no QuantizeLinear made; export the model with pairs of both".into()
            );
        }
        let constant = self.coded(x, operand(node, 1)?, node.input.get(2), |rank| axis(node, rank))?;
        self.constants.insert(y, constant);
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

    pub(super) fn push(&mut self, op: &str, name: String, input: Vec<String>, output: &str) {
        let (op_type, output) = (op.to_string(), vec![output.to_string()]);
        self.nodes.push(NodeProto { op_type, name, input, output, ..NodeProto::default() });
    }

    /// y = x within the ends of the grid.
    pub(super) fn clip(&mut self, node: &NodeProto, x: &str, y: &str, grid: Grid) {
        if let Grid::Fixed { scale, zero, codes } = grid {
            let [low, high] = codes.map(|code| (code - zero) as f32 * scale);
            let names = [format!("{y}.lowest"), format!("{y}.highest"), format!("{y}.raised")];
            for (name, value) in [(&names[0], low), (&names[1], high)] {
                self.constants.insert(name, Constant { dims: vec![], values: Values::F32(vec![value]) });
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
        let scales = match self.constants.known(scale) {
            Some(Constant { values: Values::F32(scales), .. }) => scales.clone(),
            Some(_) => return Err(format!("its scale {scale} is not float32; mixed precisions are not supported")),
            None => return Err(format!("its scale {scale} is not a constant")),
        };
        if let Some(bad) = scales.iter().find(|s| !(s.is_finite() && **s > 0.0)) {
            return Err(format!("its scale {scale} holds {bad}; scales are positive and finite"));
        }
        let Some(name) = zero.filter(|name| !name.is_empty()) else {
            return Ok(Quantizer { zeros: vec![0; scales.len()], scales, codes: [0, 255] });
        };
        let tensor =
            self.integers.get(name).ok_or_else(|| format!("its zero-point {name} is not an integer constant"))?;
        let (zeros, codes) = (integers(tensor)?, code_range(tensor)?);
        if let Some(bad) = zeros.iter().find(|z| !(codes[0]..=codes[1]).contains(*z)) {
            return Err(format!("its zero-point {name} holds {bad}, outside {}..{}", codes[0], codes[1]));
        }
        if zeros.len() != scales.len() {
            return Err(format!("it has {} scales and {} zero-points", scales.len(), zeros.len()));
        }
        Ok(Quantizer { scales, zeros, codes })
    }

    /// How many values an integer constant has.
    pub(super) fn count(&self, name: &str) -> Outcome<usize> {
        let tensor = self.integers.get(name).ok_or_else(|| format!("{name} is not an integer constant"))?;
        Ok(integers(tensor)?.len())
    }

    /// A constant of integer codes with its scale; int32 (a bias) becomes f32. `axis` finds the axis of the scales.
    pub(super) fn coded(
        &mut self,
        name: &str,
        scale: &str,
        zero: Option<&String>,
        axis: impl Fn(usize) -> Outcome<usize>,
    ) -> Outcome<Constant> {
        let mut quantizer = self.quantizer(scale, zero)?;
        let tensor = self.integers.get(name).ok_or_else(|| format!("{name} is not a constant"))?;
        let dims: Vec<usize> = tensor.dims.iter().map(|&d| d as usize).collect();
        let own = code_range(tensor)?;
        match zero.filter(|name| !name.is_empty()) {
            None => quantizer.codes = own,
            Some(zero) if quantizer.codes != own => {
                return Err(format!("{name} and its zero-point {zero} are of different types"));
            }
            Some(_) => {}
        }
        let codes = integers(tensor)?;
        let axis = quantizer.fitting_axis(&dims, axis)?;
        if tensor.data_type == DataType::Int32 as i32 {
            let inner: usize = dims.iter().skip(axis + 1).product::<usize>().max(1);
            let of = |at: usize| at / inner % quantizer.scales.len();
            let decode = |(at, code): (usize, &i32)| (code - quantizer.zeros[of(at)]) as f32 * quantizer.scales[of(at)];
            return Ok(Constant { dims, values: Values::F32(codes.iter().enumerate().map(decode).collect()) });
        }
        Ok(Constant { dims, values: quantizer.values(&codes, axis) })
    }
}

impl Quantizer {
    /// The grid of an activation, which has one scale.
    pub(super) fn grid(&self) -> Outcome<Grid> {
        match (&self.scales[..], &self.zeros[..]) {
            (&[scale], &[zero]) => Ok(Grid::Fixed { scale, zero, codes: self.codes }),
            _ => Err("an activation has one scale per channel; quantize activations per tensor".into()),
        }
    }

    /// The axis along which the scales lie.
    fn fitting_axis(&self, dims: &[usize], axis: impl Fn(usize) -> Outcome<usize>) -> Outcome<usize> {
        if self.scales.len() == 1 {
            return Ok(0);
        }
        let axis = if dims.len() == 1 { 0 } else { axis(dims.len())? };
        match dims.get(axis) {
            Some(&n) if n == self.scales.len() => Ok(axis),
            _ => Err(format!("it has {} scales along axis {axis} of a tensor of shape {dims:?}", self.scales.len())),
        }
    }

    /// Codes moved to int8: those of uint8 and their zero-points both lose 128.
    fn values(&self, codes: &[i32], axis: usize) -> Values {
        let shift = if self.codes[0] < 0 { 0 } else { 128 };
        let moved = |values: &[i32]| values.iter().map(|v| (v - shift) as i8).collect();
        Values::Int8 { codes: moved(codes), scales: self.scales.clone(), zeros: moved(&self.zeros), axis }
    }
}

/// The codes of a weight that the file holds in f32 before a QuantizeLinear.
fn encode(weight: &Constant, quantizer: &Quantizer, axis: usize) -> Outcome<Constant> {
    let axis = quantizer.fitting_axis(&weight.dims, |_| Ok(axis))?;
    let inner: usize = weight.dims.iter().skip(axis + 1).product::<usize>().max(1);
    let [low, high] = quantizer.codes;
    let code = |(at, value): (usize, &f32)| {
        let of = at / inner % quantizer.scales.len();
        let code = (value / quantizer.scales[of]).round_ties_even() as i32;
        code.saturating_add(quantizer.zeros[of]).clamp(low, high)
    };
    let codes: Vec<i32> = weight.to_f32().iter().enumerate().map(code).collect();
    Ok(Constant { dims: weight.dims.clone(), values: quantizer.values(&codes, axis) })
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

/// The values of an int8, uint8 or int32 tensor.
fn integers(tensor: &TensorProto) -> Outcome<Vec<i32>> {
    let raw = &tensor.raw_data;
    let values: Vec<i32> = match DataType::try_from(tensor.data_type) {
        _ if raw.is_empty() => tensor.int32_data.clone(),
        Ok(DataType::Int8) => raw.iter().map(|&b| i32::from(b as i8)).collect(),
        Ok(DataType::Uint8) => raw.iter().map(|&b| i32::from(b)).collect(),
        _ => raw.chunks_exact(4).map(|b| i32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect(),
    };
    let needed = tensor.dims.iter().try_fold(1i64, |n, d| n.checked_mul(*d));
    if needed != i64::try_from(values.len()).ok() {
        return Err(format!(
            "{} holds {} of its {:?} values; the file is damaged",
            tensor.name,
            values.len(),
            tensor.dims
        ));
    }
    Ok(values)
}

/// Smallest and largest code of a tensor's type.
fn code_range(tensor: &TensorProto) -> Outcome<[i32; 2]> {
    match DataType::try_from(tensor.data_type) {
        Ok(DataType::Int8) => Ok([-128, 127]),
        Ok(DataType::Uint8) => Ok([0, 255]),
        Ok(DataType::Int32) => Ok([i32::MIN, i32::MAX]),
        _ => Err(format!("{} is not of type int8, uint8 or int32", tensor.name)),
    }
}
