//! The constant tensors of a file, in the precision in which the file holds them.

use std::collections::HashMap;

use half::f16;
use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::{GraphProto, NodeProto, TensorProto};

use super::onnx::attribute;
use super::weight::{Codes, FrozenWeight};

/// A tensor with known values.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Constant {
    pub(crate) dims: Vec<usize>,
    pub(crate) values: Values,
}

/// Row-major values.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Values {
    F32(Vec<f32>),
    F16(Vec<f16>),
    /// (code - zero) * scale; scales and zero-points are one for all or one per index of `axis`.
    Int8 {
        codes: Vec<i8>,
        scales: Vec<f32>,
        zeros: Vec<i8>,
        axis: usize,
    },
}

/// The float constants of a graph. While it is being rewritten they live here, not in the protobuf.
pub(crate) struct Constants {
    values: HashMap<String, Constant>,
    uses: HashMap<String, usize>,
}

impl Constants {
    /// Moves the float initializers and Constant nodes of `graph` here, seen through Identity and transposes of matrices.
    pub(crate) fn of(graph: &mut GraphProto) -> Self {
        let mut uses = HashMap::new();
        let inputs = graph.node.iter().flat_map(|node| &node.input);
        inputs.chain(graph.output.iter().map(|o| &o.name)).for_each(|name| *uses.entry(name.clone()).or_insert(0) += 1);
        let mut found = Constants { values: HashMap::new(), uses };
        graph.initializer.retain_mut(|tensor| !found.collect(&tensor.name.clone(), tensor));
        graph.node.retain_mut(|node| !found.resolve(node));
        found
    }

    fn collect(&mut self, name: &str, tensor: &mut TensorProto) -> bool {
        let is_float = is_float(tensor);
        if is_float {
            self.values.insert(name.to_string(), Constant::float(std::mem::take(tensor)));
        }
        is_float
    }

    /// Whether the node only makes a constant, which is then known.
    fn resolve(&mut self, node: &mut NodeProto) -> bool {
        let ([output], op) = (&node.output[..], node.op_type.as_str()) else { return false };
        let (output, source) = (output.clone(), node.input.first().cloned());
        let made = match (op, source) {
            ("Constant", None) => {
                let value = node.attribute.iter_mut().find(|a| a.name == "value").and_then(|a| a.t.as_mut());
                return value.is_some_and(|tensor| self.collect(&output, tensor));
            }
            // A cast between float types changes nothing here: constants keep the precision in which they ship.
            ("Identity" | "Cast", Some(source)) if op == "Identity" || casts_to_float(node) => self.take(&source),
            ("Transpose", Some(source)) if self.is_matrix(&source) && swaps(node) => {
                self.take(&source).and_then(Constant::transposed)
            }
            _ => None,
        };
        made.is_some_and(|constant| self.values.insert(output, constant).is_none())
    }

    fn is_matrix(&self, name: &str) -> bool {
        self.values.get(name).is_some_and(|c| c.dims.len() == 2)
    }

    /// The constant `name`, if it is one.
    pub(crate) fn known(&self, name: &str) -> Option<&Constant> {
        self.values.get(name)
    }

    /// The constant `name` for one of its users; the last one gets it without a copy.
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

    /// Writes what the graph's nodes still need back into it, in f32; the number of bytes.
    pub(crate) fn give_back(self, graph: &mut GraphProto) -> usize {
        let used: std::collections::HashSet<&String> =
            graph.node.iter().flat_map(|n| &n.input).chain(graph.output.iter().map(|o| &o.name)).collect();
        let mut rest: Vec<(String, Constant)> =
            self.values.into_iter().filter(|(name, _)| used.contains(name)).collect();
        rest.sort_by(|a, b| a.0.cmp(&b.0));
        graph.initializer.extend(rest.into_iter().map(|(name, constant)| constant.to_proto(&name)));
        graph.initializer.iter().map(|t| t.raw_data.len()).sum()
    }
}

fn casts_to_float(node: &NodeProto) -> bool {
    attribute(node, "to").is_some_and(|to| to.i == DataType::Float as i64)
}

/// Whether a Transpose of a matrix exchanges its axes.
fn swaps(node: &NodeProto) -> bool {
    attribute(node, "perm").is_none_or(|perm| perm.ints == [1, 0])
}

fn is_float(tensor: &TensorProto) -> bool {
    [DataType::Float as i32, DataType::Float16 as i32].contains(&tensor.data_type)
}

impl Constant {
    /// The values of a tensor of type f32 or f16.
    pub(crate) fn float(tensor: TensorProto) -> Self {
        let dims = tensor.dims.iter().map(|&d| d as usize).collect();
        let values = if tensor.data_type == DataType::Float as i32 {
            Values::F32(if tensor.raw_data.is_empty() { tensor.float_data } else { f32s(&tensor.raw_data) })
        } else {
            Values::F16(match &tensor.raw_data[..] {
                [] => tensor.int32_data.iter().map(|v| f16::from_bits(*v as u16)).collect(),
                raw => raw.chunks_exact(2).map(|b| f16::from_le_bytes([b[0], b[1]])).collect(),
            })
        };
        Constant { dims, values }
    }

    /// A matrix with its axes exchanged.
    pub(crate) fn transposed(self) -> Option<Self> {
        let [rows, columns] = self.dims[..] else { return None };
        let values = match self.values {
            Values::F32(values) => Values::F32(turned(&values, rows, columns)),
            Values::F16(values) => Values::F16(turned(&values, rows, columns)),
            Values::Int8 { codes, scales, zeros, axis } => {
                Values::Int8 { codes: turned(&codes, rows, columns), scales, zeros, axis: 1 - axis.min(1) }
            }
        };
        Some(Constant { dims: vec![columns, rows], values })
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
            Values::F32(values) => values.clone(),
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

fn turned<T: Copy>(values: &[T], rows: usize, columns: usize) -> Vec<T> {
    (0..columns).flat_map(|c| (0..rows).map(move |r| values[r * columns + c])).collect()
}

fn f32s(raw: &[u8]) -> Vec<f32> {
    raw.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
}
