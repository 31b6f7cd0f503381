//! The float constants of a graph, which live outside of it while it is being rewritten.

use std::collections::{HashMap, HashSet};

use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::{GraphProto, NodeProto, TensorProto};

use super::constant::{Constant, Values, is_float};
use crate::backbone::onnx::{attribute, reads};

/// Longest integer tensor that is looked at as a shape.
const LONGEST_SHAPE: usize = 16;

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
pub(crate) fn check_room<'c>(constants: impl Iterator<Item = &'c Constant>, most: usize) -> Result<(), String> {
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
