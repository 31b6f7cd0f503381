//! The constant tensors of a file, in the precision in which the file holds them.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use half::f16;
use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::{GraphProto, NodeProto, TensorProto};

use super::weight::{Codes, FrozenWeight};
use crate::backbone::onnx::{attribute, reads};

/// Longest integer tensor that is looked at as a shape.
const LONGEST_SHAPE: usize = 16;

/// A tensor with known values. Copies share its numbers.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Constant {
    pub(crate) dims: Vec<usize>,
    pub(crate) values: Values,
}

/// Row-major values.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Values {
    F32(Arc<[f32]>),
    F16(Arc<[f16]>),
    /// (code - zero) * scale; scales and zero-points are one for all or one per index of `axis`.
    Int8 {
        codes: Arc<[i8]>,
        scales: Vec<f32>,
        zeros: Vec<i8>,
        axis: usize,
    },
}

/// The float constants of a graph. While it is being rewritten they live here, not in the protobuf.
pub(crate) struct Constants {
    values: HashMap<String, Constant>,
    uses: HashMap<String, usize>,
    /// Short integer tensors, which may be shapes or axes.
    shapes: HashMap<String, Vec<i64>>,
    /// Bytes that copies of constants may still take: a file of any size could ask for any number.
    room: usize,
}

impl Constants {
    /// Moves the float initializers and Constant nodes of `graph` here, seen through what only moves their numbers. What is
    /// made of them may take `room` bytes.
    ///
    /// # Errors
    /// Names the node with which it would take more.
    pub(crate) fn of(graph: &mut GraphProto, room: usize) -> Result<Self, String> {
        let mut uses = HashMap::new();
        let inputs = graph.node.iter().flat_map(|node| &node.input);
        inputs.chain(graph.output.iter().map(|o| &o.name)).for_each(|name| *uses.entry(name.clone()).or_insert(0) += 1);
        let mut found = Constants { values: HashMap::new(), uses, shapes: HashMap::new(), room };
        graph.initializer.retain_mut(|tensor| !found.collect(&tensor.name.clone(), tensor));
        let mut crowded = Ok(());
        graph.node.retain_mut(|node| match found.resolve(node) {
            Ok(is_constant) => !is_constant,
            Err(what) => {
                crowded = Err(format!("node {}: {what}", node.name));
                true
            }
        });
        crowded.map(|()| found)
    }

    /// Takes the bytes of `made` off what copies may take.
    ///
    /// # Errors
    /// Where that is more than is left.
    fn charge(&mut self, made: &Constant) -> Result<(), String> {
        let bytes = match &made.values {
            Values::F32(values) => 4 * values.len(),
            Values::F16(values) => 2 * values.len(),
            Values::Int8 { codes, scales, .. } => codes.len() + 5 * scales.len(),
        };
        self.charge_bytes(bytes)
    }

    pub(crate) fn charge_bytes(&mut self, bytes: usize) -> Result<(), String> {
        self.room = self.room.checked_sub(bytes).ok_or("its constants become too large for a file of this size")?;
        Ok(())
    }

    /// Makes `name` a constant that has been worked out.
    ///
    /// # Errors
    /// Where constants would take more than a file of this size may ask for.
    pub(crate) fn insert_made(&mut self, name: &str, constant: Constant) -> Result<(), String> {
        self.charge(&constant)?;
        self.insert(name, constant);
        Ok(())
    }

    fn collect(&mut self, name: &str, tensor: &mut TensorProto) -> bool {
        if is_float(tensor) {
            self.values.insert(name.to_string(), Constant::float(std::mem::take(tensor)));
            return true;
        }
        if let Some(shape) = shape_in(tensor) {
            self.shapes.insert(name.to_string(), shape);
        }
        false
    }

    /// Whether the node only makes a constant, which is then known.
    ///
    /// # Errors
    /// Where constants would take more than a file of this size may ask for.
    pub(crate) fn resolve(&mut self, node: &mut NodeProto) -> Result<bool, String> {
        let [output] = &node.output[..] else { return Ok(false) };
        let output = output.clone();
        if node.op_type == "Constant" {
            let value = node.attribute.iter_mut().find(|a| a.name == "value").and_then(|a| a.t.as_mut());
            return Ok(value.is_some_and(|tensor| self.collect(&output, tensor)));
        }
        let Some(source) = node.input.first() else { return Ok(false) };
        let Some(moved) = self.values.get(source).and_then(|constant| self.moved(node, constant)) else {
            return Ok(false);
        };
        self.take(source);
        if !moved.is_shared() {
            self.charge(&moved)?;
        }
        self.values.insert(output, moved);
        Ok(true)
    }

    /// What `node` makes of a constant, if it only moves its numbers.
    fn moved(&self, node: &NodeProto, constant: &Constant) -> Option<Constant> {
        match node.op_type.as_str() {
            "Identity" => Some(constant.clone()),
            // A cast between float types changes nothing here: constants keep the precision in which they ship.
            "Cast" => casts_to_float(node).then(|| constant.clone()),
            "Transpose" => {
                let order: Vec<usize> = match attribute(node, "perm") {
                    Some(perm) => perm.ints.iter().map(|&axis| axis as usize).collect(),
                    None => (0..constant.dims.len()).rev().collect(),
                };
                constant.permuted(&order)
            }
            "Reshape" | "Flatten" | "Squeeze" | "Unsqueeze" => {
                constant.reshaped(self.shape_after(node, &constant.dims)?)
            }
            _ => None,
        }
    }

    /// The shape that `node` gives a tensor of shape `dims`.
    fn shape_after(&self, node: &NodeProto, dims: &[usize]) -> Option<Vec<usize>> {
        let operand = || node.input.get(1).filter(|name| !name.is_empty()).map(|name| self.shapes.get(name).cloned());
        let axes = |rank: usize| -> Option<Vec<usize>> {
            let axes = match (attribute(node, "axes"), operand()) {
                (Some(axes), _) => axes.ints.clone(),
                (None, Some(axes)) => axes?,
                (None, None) => return Some((0..rank).filter(|&axis| dims.get(axis) == Some(&1)).collect()),
            };
            let from_start = |axis: &i64| usize::try_from(if *axis < 0 { axis + rank as i64 } else { *axis }).ok();
            axes.iter().map(from_start).collect()
        };
        match node.op_type.as_str() {
            "Reshape" if attribute(node, "allowzero").is_none_or(|a| a.i == 0) => resized(dims, &operand()??),
            "Flatten" => {
                let axis = attribute(node, "axis").map_or(1, |a| a.i);
                let axis = usize::try_from(axis).ok().filter(|axis| *axis <= dims.len())?;
                Some(vec![dims[..axis].iter().product(), dims[axis..].iter().product()])
            }
            "Squeeze" => {
                let gone = axes(dims.len())?;
                let kept = dims.iter().enumerate().filter(|(axis, _)| !gone.contains(axis));
                Some(kept.map(|(_, &n)| n).collect())
            }
            "Unsqueeze" => {
                let added = attribute(node, "axes").map(|a| a.ints.len()).or_else(|| Some(operand()??.len()))?;
                let (rank, mut rest) = (dims.len() + added, dims.iter());
                let new = axes(rank)?;
                (0..rank).map(|axis| if new.contains(&axis) { Some(1) } else { rest.next().copied() }).collect()
            }
            _ => None,
        }
    }

    /// The constant `name`, if it is one.
    pub(crate) fn known(&self, name: &str) -> Option<&Constant> {
        self.values.get(name)
    }

    /// The constant `name` for one of its users; after the last one it is no longer held here.
    pub(crate) fn take(&mut self, name: &str) -> Option<Constant> {
        let uses = self.uses.get_mut(name)?;
        *uses = uses.saturating_sub(1);
        if *uses == 0 { self.values.remove(name) } else { self.values.get(name).cloned() }
    }

    /// Makes `name` a constant; one that the file does not name has one user.
    pub(crate) fn insert(&mut self, name: &str, constant: Constant) {
        self.uses.entry(name.to_string()).or_insert(1);
        self.values.insert(name.to_string(), constant);
    }

    /// Multiplies the scales of the coded constant `name`: one factor for all, or one per output channel (the last axis of a
    /// matrix, the first of a kernel).
    ///
    /// # Errors
    /// Says how many factors there are for how many channels.
    pub(crate) fn scale(&mut self, name: &str, factors: &[f32]) -> Result<(), String> {
        let constant = self.values.get_mut(name).ok_or("its weight is not a constant")?;
        let channel = if constant.dims.len() == 2 { 1 } else { 0 };
        let channels = constant.dims.get(channel).copied().unwrap_or(0);
        let Values::Int8 { scales, axis, .. } = &mut constant.values else {
            return Err("its weight has no codes".into());
        };
        if factors.iter().any(|f| !(f.is_finite() && *f > 0.0)) {
            return Err("a scale is not positive and finite".into());
        }
        if factors.len() == channels && scales.len() == 1 {
            (*scales, *axis) = (scales.repeat(channels), channel);
        } else if factors.len() != 1 && factors.len() != scales.len() {
            return Err(format!("it has {} scales for {channels} output channels", factors.len()));
        }
        scales.iter_mut().zip(factors.iter().cycle()).for_each(|(scale, factor)| *scale *= factor);
        Ok(())
    }

    /// Writes what the graph's nodes still need back into it, in f32, and drops what they do not; the number of bytes.
    ///
    /// # Errors
    /// Where that is more than `most` bytes: a constant may have many names.
    pub(crate) fn give_back(self, graph: &mut GraphProto, most: usize) -> Result<usize, String> {
        let outputs = graph.output.iter().map(|o| o.name.as_str());
        let used: HashSet<&str> = graph.node.iter().flat_map(reads).chain(outputs).collect();
        let mut rest: Vec<(String, Constant)> =
            self.values.into_iter().filter(|(name, _)| used.contains(name.as_str())).collect();
        check_room(rest.iter().map(|(_, constant)| constant), most)?;
        rest.sort_by(|a, b| a.0.cmp(&b.0));
        graph.initializer.retain(|tensor| used.contains(tensor.name.as_str()));
        graph.initializer.extend(rest.into_iter().map(|(name, constant)| constant.to_proto(&name)));
        Ok(graph.initializer.iter().map(|t| t.raw_data.len()).sum())
    }
}

/// Refuses constants that would take more than `most` bytes in f32.
pub(super) fn check_room<'c>(constants: impl Iterator<Item = &'c Constant>, most: usize) -> Result<(), String> {
    let bytes: usize = constants.map(|constant| 4 * constant.dims.iter().product::<usize>()).sum();
    if bytes > most {
        return Err(format!("its constants take {} MiB, too much for a file of this size", bytes >> 20));
    }
    Ok(())
}

fn casts_to_float(node: &NodeProto) -> bool {
    attribute(node, "to").is_some_and(|to| to.i == DataType::Float as i64)
}

/// The values of a short int64 tensor.
fn shape_in(tensor: &TensorProto) -> Option<Vec<i64>> {
    let word = |b: &[u8]| b.try_into().ok().map(i64::from_le_bytes);
    let short = tensor.data_type == DataType::Int64 as i32 && tensor.raw_data.len() <= 8 * LONGEST_SHAPE;
    match (short && tensor.int64_data.len() <= LONGEST_SHAPE, &tensor.raw_data[..]) {
        (true, []) => Some(tensor.int64_data.clone()),
        (true, raw) => raw.chunks(8).map(word).collect(),
        _ => None,
    }
}

/// The shape that a Reshape to `asked` gives: 0 keeps an axis, -1 is what is left.
fn resized(dims: &[usize], asked: &[i64]) -> Option<Vec<usize>> {
    let keep = |(axis, &n): (usize, &i64)| match n {
        0 => dims.get(axis).copied(),
        -1 => Some(1),
        _ => usize::try_from(n).ok(),
    };
    let mut shape = asked.iter().enumerate().map(keep).collect::<Option<Vec<usize>>>()?;
    if let Some(open) = asked.iter().position(|n| *n == -1) {
        let rest = shape.iter().try_fold(1usize, |all, &n| all.checked_mul(n)).filter(|rest| *rest > 0)?;
        shape[open] = dims.iter().product::<usize>() / rest;
    }
    Some(shape)
}

pub(super) fn is_float(tensor: &TensorProto) -> bool {
    [DataType::Float as i32, DataType::Float16 as i32].contains(&tensor.data_type)
}

impl Constant {
    /// The values of a tensor of type f32 or f16.
    pub(crate) fn float(tensor: TensorProto) -> Self {
        let dims = tensor.dims.iter().map(|&d| d as usize).collect();
        let values = if tensor.data_type == DataType::Float as i32 {
            Values::F32(if tensor.raw_data.is_empty() { tensor.float_data.into() } else { f32s(&tensor.raw_data) })
        } else {
            Values::F16(match &tensor.raw_data[..] {
                [] => tensor.int32_data.iter().map(|v| f16::from_bits(*v as u16)).collect(),
                raw => raw.chunks_exact(2).map(|b| f16::from_le_bytes([b[0], b[1]])).collect(),
            })
        };
        Constant { dims, values }
    }

    /// The tensor whose axis i is this one's axis `order[i]`.
    pub(crate) fn permuted(&self, order: &[usize]) -> Option<Self> {
        let place = |axis: usize| order.iter().position(|&from| from == axis);
        if order.len() != self.dims.len() || (0..order.len()).any(|axis| place(axis).is_none()) {
            return None;
        }
        let values = match &self.values {
            Values::F32(values) => Values::F32(moved(values, &self.dims, order)),
            Values::F16(values) => Values::F16(moved(values, &self.dims, order)),
            Values::Int8 { codes, scales, zeros, axis } => Values::Int8 {
                codes: moved(codes, &self.dims, order),
                scales: scales.clone(),
                zeros: zeros.clone(),
                axis: place(*axis).unwrap_or(0),
            },
        };
        Some(Constant { dims: order.iter().map(|&axis| self.dims[axis]).collect(), values })
    }

    /// The same numbers in another shape, if the axis of the scales is still one axis.
    fn reshaped(&self, dims: Vec<usize>) -> Option<Self> {
        let size = |dims: &[usize]| dims.iter().try_fold(1usize, |all, &n| all.checked_mul(n));
        if size(&dims) != size(&self.dims) {
            return None;
        }
        let mut values = self.values.clone();
        if let Values::Int8 { scales, axis, .. } = &mut values
            && scales.len() > 1
        {
            let before = size(&self.dims[..*axis]);
            *axis = (0..dims.len()).find(|&at| dims[at] == scales.len() && size(&dims[..at]) == before)?;
        }
        Some(Constant { dims, values })
    }

    /// Whether the numbers of both lie in one place.
    pub(crate) fn is_same(&self, other: &Constant) -> bool {
        match (&self.values, &other.values) {
            (Values::F32(a), Values::F32(b)) => Arc::ptr_eq(a, b),
            (Values::F16(a), Values::F16(b)) => Arc::ptr_eq(a, b),
            (Values::Int8 { codes: a, .. }, Values::Int8 { codes: b, .. }) => {
                Arc::ptr_eq(a, b) && self.values == other.values
            }
            _ => false,
        }
    }

    /// Whether anything else holds these numbers too.
    pub(crate) fn is_shared(&self) -> bool {
        let holders = match &self.values {
            Values::F32(values) => Arc::strong_count(values),
            Values::F16(values) => Arc::strong_count(values),
            Values::Int8 { codes, .. } => Arc::strong_count(codes),
        };
        holders > 1
    }

    /// The matrix of a map: its first axis is `out_dim`, the others together `in_dim`.
    ///
    /// # Errors
    /// Says why the codes cannot be read row by row.
    pub(crate) fn into_weight(self) -> Result<FrozenWeight, String> {
        let out_dim = self.dims.first().copied().unwrap_or(0);
        let in_dim = self.dims.iter().skip(1).product();
        let codes = match self.values {
            Values::F32(values) => Codes::F32(values),
            Values::F16(values) => Codes::F16(values),
            Values::Int8 { codes, scales, zeros, axis } => {
                if scales.len() > 1 && axis != 0 {
                    return Err("its weight is quantized per input channel; quantize it per output channel".into());
                }
                let every_row = |n: usize| if n == 1 { out_dim } else { 1 };
                let zeros = if zeros.iter().all(|z| *z == 0) { vec![] } else { repeated(zeros, every_row) };
                Codes::Int8 { codes, scales: repeated(scales, every_row), zeros }
            }
        };
        let held = match &codes {
            Codes::F32(values) => values.len(),
            Codes::F16(values) => values.len(),
            Codes::Int8 { codes, .. } => codes.len(),
        };
        if held == 0 || held != out_dim * in_dim {
            return Err(format!("its weight is {out_dim} x {in_dim} and holds {held} numbers"));
        }
        let damaged = match &codes {
            Codes::F32(values) => values.iter().any(|v| !v.is_finite()),
            Codes::F16(values) => values.iter().any(|v| !v.is_finite()),
            Codes::Int8 { .. } => false,
        };
        if damaged {
            return Err("its weight holds a number that is not finite; the file is damaged".into());
        }
        Ok(FrozenWeight { out_dim, in_dim, codes })
    }

    /// An f32 initializer of these values.
    pub(crate) fn to_proto(&self, name: &str) -> TensorProto {
        TensorProto {
            name: name.to_string(),
            dims: self.dims.iter().map(|&d| d as i64).collect(),
            data_type: DataType::Float as i32,
            raw_data: self.to_f32().into_iter().flat_map(f32::to_le_bytes).collect(),
            ..TensorProto::default()
        }
    }

    /// Every value in f32.
    pub(crate) fn to_f32(&self) -> Vec<f32> {
        match &self.values {
            Values::F32(values) => values.to_vec(),
            Values::F16(values) => values.iter().map(|v| v.to_f32()).collect(),
            Values::Int8 { codes, scales, zeros, axis } => {
                let inner: usize = self.dims.iter().skip(axis + 1).product();
                let of = |all: usize, at: usize| if all == 1 { 0 } else { at / inner.max(1) % all.max(1) };
                let decode = |(at, code): (usize, &i8)| {
                    let zero = zeros.get(of(zeros.len(), at)).copied().unwrap_or(0);
                    f32::from(i16::from(*code) - i16::from(zero)) * scales[of(scales.len(), at)]
                };
                codes.iter().enumerate().map(decode).collect()
            }
        }
    }
}

fn repeated<T: Copy>(values: Vec<T>, times: impl Fn(usize) -> usize) -> Vec<T> {
    values.repeat(times(values.len()))
}

fn moved<T: Copy>(values: &[T], dims: &[usize], order: &[usize]) -> Arc<[T]> {
    let stride = |axis: usize| dims[axis + 1..].iter().product::<usize>();
    let mut inner = 1;
    let mut axes: Vec<[usize; 3]> = Vec::with_capacity(order.len());
    for &axis in order.iter().rev() {
        axes.push([inner, dims[axis], stride(axis)]);
        inner *= dims[axis];
    }
    let from = |at: usize| axes.iter().map(|[inner, n, stride]| at / inner % n * stride).sum::<usize>();
    (0..values.len()).map(|at| values[from(at)]).collect()
}

fn f32s(raw: &[u8]) -> Arc<[f32]> {
    raw.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
}
