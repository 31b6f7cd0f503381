//! A constant tensor, in the precision in which the file holds it.

use std::sync::Arc;

use half::f16;
use tract_onnx::pb::TensorProto;
use tract_onnx::pb::tensor_proto::DataType;

use super::weight::{Codes, FrozenWeight};

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
    pub(super) fn reshaped(&self, dims: Vec<usize>) -> Option<Self> {
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

/// Whether a tensor is of a float type that weights ship in.
pub(crate) fn is_float(tensor: &TensorProto) -> bool {
    [DataType::Float as i32, DataType::Float16 as i32].contains(&tensor.data_type)
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
