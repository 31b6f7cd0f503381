//! Grids of numbers: the integer tensors of a file, and the scales and zero-points that say what they stand for.

use std::sync::Arc;

use tract_onnx::pb::TensorProto;
use tract_onnx::pb::tensor_proto::DataType;

use crate::backbone::onnx::type_name;
use crate::backbone::weights::{Constant, Values};

pub(super) type Outcome<T> = Result<T, String>;

/// The type of a code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Int8,
    Uint8,
    Int16,
    Uint16,
    Int32,
}

impl Kind {
    /// The type that ONNX numbers so.
    pub(super) fn of(data_type: i32) -> Outcome<Self> {
        match DataType::try_from(data_type) {
            Ok(DataType::Int8) => Ok(Kind::Int8),
            Ok(DataType::Uint8) => Ok(Kind::Uint8),
            Ok(DataType::Int16) => Ok(Kind::Int16),
            Ok(DataType::Uint16) => Ok(Kind::Uint16),
            Ok(DataType::Int32) => Ok(Kind::Int32),
            _ => {
                Err(format!("of type {}, which is not supported here; quantize to int8 or uint8", type_name(data_type)))
            }
        }
    }

    /// Smallest and largest code.
    pub(super) fn range(self) -> [i32; 2] {
        match self {
            Kind::Int8 => [-128, 127],
            Kind::Uint8 => [0, 255],
            Kind::Int16 => [-32_768, 32_767],
            Kind::Uint16 => [0, 65_535],
            Kind::Int32 => [i32::MIN, i32::MAX],
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Kind::Int8 => "int8",
            Kind::Uint8 => "uint8",
            Kind::Int16 => "int16",
            Kind::Uint16 => "uint16",
            Kind::Int32 => "int32",
        }
    }

    /// What is taken off a code so that it fits int8.
    fn shift(self) -> i32 {
        if self == Kind::Uint8 { 128 } else { 0 }
    }
}

/// An integer tensor of the file, decoded once; all that use it share its numbers.
#[derive(Debug, Clone)]
pub(super) struct Integers {
    pub(super) dims: Vec<usize>,
    pub(super) kind: Kind,
    values: Numbers,
}

#[derive(Debug, Clone)]
enum Numbers {
    /// int8, or uint8 less 128.
    Narrow(Arc<[i8]>),
    Wide(Arc<[i32]>),
}

impl Integers {
    /// Decodes a tensor, and lets it go.
    ///
    /// # Errors
    /// Names its type where it is not taken, or a number that its type cannot hold.
    pub(super) fn decode(name: &str, tensor: TensorProto) -> Outcome<Self> {
        let kind = Kind::of(tensor.data_type).map_err(|what| format!("{name} is {what}"))?;
        let dims = tensor.dims.iter().map(|&d| d as usize).collect();
        let (raw, typed, range) = (&tensor.raw_data, &tensor.int32_data, kind.range());
        if let Some(bad) = typed.iter().find(|v| !(range[0]..=range[1]).contains(*v)) {
            return Err(format!("{name} is of type {} and holds {bad}; the file is damaged", kind.name()));
        }
        let short = |b: &[u8]| [b[0], b[1]];
        let values = match kind {
            Kind::Int8 | Kind::Uint8 if raw.is_empty() => {
                Numbers::Narrow(typed.iter().map(|v| (v - kind.shift()) as i8).collect())
            }
            Kind::Int8 => Numbers::Narrow(raw.iter().map(|&b| b as i8).collect()),
            Kind::Uint8 => Numbers::Narrow(raw.iter().map(|&b| (b ^ 128) as i8).collect()),
            _ if raw.is_empty() => Numbers::Wide(typed.iter().copied().collect()),
            Kind::Int16 => Numbers::Wide(raw.chunks_exact(2).map(|b| i16::from_le_bytes(short(b)).into()).collect()),
            Kind::Uint16 => Numbers::Wide(raw.chunks_exact(2).map(|b| u16::from_le_bytes(short(b)).into()).collect()),
            Kind::Int32 => {
                let code = |b: &[u8]| i32::from_le_bytes([b[0], b[1], b[2], b[3]]);
                Numbers::Wide(raw.chunks_exact(4).map(code).collect())
            }
        };
        Ok(Integers { dims, kind, values })
    }

    /// Every number as it is in the file.
    pub(super) fn to_i32(&self) -> Vec<i32> {
        match &self.values {
            Numbers::Narrow(values) => values.iter().map(|&v| i32::from(v) + self.kind.shift()).collect(),
            Numbers::Wide(values) => values.to_vec(),
        }
    }

    /// The codes of a float constant: round(w / scale) + zero, at most at the ends of the grid.
    ///
    /// # Errors
    /// Says which number has no code.
    pub(super) fn encode(
        constant: &Constant,
        grids: &Quantizer,
        kind: Kind,
        axis: impl Fn(usize) -> Outcome<usize>,
    ) -> Outcome<Self> {
        let axis = grids.fitting_axis(&constant.dims, axis)?;
        let [low, high] = kind.range();
        let values = constant.to_f32();
        if let Some(bad) = values.iter().find(|v| !v.is_finite()) {
            return Err(format!("it quantizes a constant that holds {bad}; the file is damaged"));
        }
        let channel = channels(&constant.dims, axis, grids.scales.len());
        let code = |at: usize| {
            let code = (values[at] / grids.scales[channel(at)]).round_ties_even() as i32;
            code.saturating_add(grids.zeros[channel(at)]).clamp(low, high)
        };
        let values = match kind {
            Kind::Int8 | Kind::Uint8 => {
                Numbers::Narrow((0..values.len()).map(|at| (code(at) - kind.shift()) as i8).collect())
            }
            _ => Numbers::Wide((0..values.len()).map(code).collect()),
        };
        Ok(Integers { dims: constant.dims.clone(), kind, values })
    }

    /// What these codes stand for. 8 bits stay codes; a bias of 32 bits, or a constant of 16, becomes f32.
    ///
    /// # Errors
    /// Says where the scales do not fit along `axis`, which is asked for only if there are several.
    pub(super) fn decoded(&self, grids: Quantizer, axis: impl Fn(usize) -> Outcome<usize>) -> Outcome<Constant> {
        let axis = grids.fitting_axis(&self.dims, axis)?;
        let values = match &self.values {
            Numbers::Narrow(codes) => {
                let zeros = grids.zeros.iter().map(|z| (z - self.kind.shift()) as i8).collect();
                Values::Int8 { codes: codes.clone(), scales: grids.scales, zeros, axis }
            }
            Numbers::Wide(codes) => {
                let channel = channels(&self.dims, axis, grids.scales.len());
                let decode = |(at, &code): (usize, &i32)| {
                    let distance = i64::from(code) - i64::from(grids.zeros[channel(at)]);
                    distance as f32 * grids.scales[channel(at)]
                };
                Values::F32(codes.iter().enumerate().map(decode).collect())
            }
        };
        Ok(Constant { dims: self.dims.clone(), values })
    }
}

/// Which of `count` scales along `axis` belongs to the number at a place.
fn channels(dims: &[usize], axis: usize, count: usize) -> impl Fn(usize) -> usize {
    let inner: usize = dims.iter().skip(axis + 1).product::<usize>().max(1);
    move |at| at / inner % count.max(1)
}

/// Scales and zero-points of one quantizer, as many of each.
#[derive(Debug, Clone)]
pub(super) struct Quantizer {
    pub(super) scales: Vec<f32>,
    pub(super) zeros: Vec<i32>,
    /// Name and type of the zero-points, where the file has any.
    pub(super) named: Option<(String, Kind)>,
}

impl Quantizer {
    /// Scales around 0.
    pub(super) fn symmetric(scales: Vec<f32>) -> Self {
        Quantizer { zeros: vec![0; scales.len()], scales, named: None }
    }

    /// The type of the zero-points, which is that of the codes.
    pub(super) fn kind(&self) -> Option<Kind> {
        self.named.as_ref().map(|(_, kind)| *kind)
    }

    /// The grid of an activation, which has one scale; `kind` is its type where the zero-point does not tell.
    pub(super) fn grid(&self, kind: Kind) -> Outcome<Grid> {
        let kind = self.kind().unwrap_or(kind);
        if kind == Kind::Int32 {
            return Err("its zero-point is of type int32; that of an activation is int8 or uint8".into());
        }
        match (&self.scales[..], &self.zeros[..]) {
            (&[scale], &[zero]) => Ok(Grid::Fixed { scale, zero, kind }),
            _ => Err("an activation has one scale per channel; quantize activations per tensor".into()),
        }
    }

    /// The axis along which the scales of a tensor lie; `axis` is asked for only if there are several.
    pub(super) fn fitting_axis(&self, dims: &[usize], axis: impl Fn(usize) -> Outcome<usize>) -> Outcome<usize> {
        if self.scales.len() == 1 {
            return Ok(0);
        }
        let axis = if dims.len() == 1 { 0 } else { axis(dims.len())? };
        match dims.get(axis) {
            Some(&n) if n == self.scales.len() => Ok(axis),
            _ => Err(format!("it has {} scales along axis {axis} of a tensor of shape {dims:?}", self.scales.len())),
        }
    }
}

/// The grid that a quantized activation lies on.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Grid {
    Fixed {
        scale: f32,
        zero: i32,
        kind: Kind,
    },
    /// Chosen at run time from the range of each input, so it cuts nothing off; by the number of its quantizer.
    Dynamic(usize),
}

impl Grid {
    pub(super) fn kind(self) -> Kind {
        match self {
            Grid::Fixed { kind, .. } => kind,
            Grid::Dynamic(_) => Kind::Uint8,
        }
    }
}
