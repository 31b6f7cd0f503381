//! What is known of a tensor, and what a node makes.

use std::rc::Rc;

use tract_onnx::pb::TensorProto;
use tract_onnx::pb::tensor_proto::DataType;

use crate::backbone::onnx::type_name;
use crate::backbone::weights::Constant;
use crate::limits;

pub(super) type Outcome<T> = Result<T, String>;

/// Of an operator that has no rule.
pub(super) const NOT_TAKEN: &str = "this operator is not one that is taken; end the model before this node with option `features`, or export it so that \
                                    it is written otherwise: PyTorch's other exporter (dynamo=True or False) or another opset may do so";

/// Floats that follow from the file are remembered where a tensor has so many at most: the scales of a Resize, padding on its way to
/// integers.
pub(super) const REMEMBERED: usize = 8;

/// What a number is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Float,
    Double,
    Integer,
    Short,
    Truth,
}

impl Kind {
    pub(super) fn of(data_type: i32) -> Outcome<Kind> {
        match DataType::try_from(data_type) {
            Ok(DataType::Float | DataType::Float16) => Ok(Kind::Float),
            Ok(DataType::Double) => Ok(Kind::Double),
            Ok(DataType::Int64) => Ok(Kind::Integer),
            Ok(DataType::Int32) => Ok(Kind::Short),
            Ok(DataType::Bool) => Ok(Kind::Truth),
            _ => Err(format!("of type {}, which is not taken here", type_name(data_type))),
        }
    }

    pub(super) fn bytes(self) -> usize {
        match self {
            Kind::Float | Kind::Short => 4,
            Kind::Double | Kind::Integer => 8,
            Kind::Truth => 1,
        }
    }

    pub(super) fn is_float(self) -> bool {
        matches!(self, Kind::Float | Kind::Double)
    }
}

/// What is known of a tensor.
#[derive(Debug, Clone)]
pub(super) struct Fact {
    pub(super) kind: Kind,
    pub(super) dims: Vec<usize>,
    /// Its numbers, where they are integers or truths and do not depend on the image.
    pub(super) known: Option<Rc<[i64]>>,
    /// Its numbers, where they are a few floats that follow from the file.
    pub(super) numbers: Option<Rc<[f32]>>,
    /// Whether the image has no say in it.
    pub(super) is_fixed: bool,
}

impl Fact {
    pub(super) fn float(dims: Vec<usize>) -> Fact {
        Fact { kind: Kind::Float, dims, known: None, numbers: None, is_fixed: false }
    }

    pub(super) fn known(dims: Vec<usize>, values: Vec<i64>) -> Fact {
        Fact { kind: Kind::Integer, dims, known: Some(values.into()), numbers: None, is_fixed: true }
    }

    pub(super) fn shaped(&self, dims: Vec<usize>) -> Fact {
        Fact { kind: self.kind, dims, known: None, numbers: None, is_fixed: false }
    }

    pub(super) fn elements(&self) -> usize {
        // Checked when the fact was made.
        self.dims.iter().product()
    }

    pub(super) fn bytes(&self) -> usize {
        self.elements().saturating_mul(self.kind.bytes())
    }
}

/// What a node makes.
pub(super) struct Made {
    pub(super) outputs: Vec<Fact>,
    /// Values that it holds besides, while it runs.
    pub(super) scratch: usize,
    pub(super) multiply_adds: u64,
}

impl Made {
    pub(super) fn one(fact: Fact) -> Outcome<Made> {
        Ok(Made { outputs: vec![fact], scratch: 0, multiply_adds: 0 })
    }
}

/// What the file holds of a tensor, which has been found to hold as many values as its shape says.
pub(super) fn held(tensor: &TensorProto) -> Outcome<Fact> {
    let kind = Kind::of(tensor.data_type)?;
    let dims: Vec<usize> = tensor.dims.iter().map(|&d| usize::try_from(d).unwrap_or(usize::MAX)).collect();
    limits::elements(&dims, usize::MAX).ok_or_else(|| format!("of the shape {dims:?}, which is too large"))?;
    let known = if kind.is_float() { None } else { Some(integers_in(tensor, kind, &dims)?.into()) };
    let is_small = kind == Kind::Float && limits::elements(&dims, REMEMBERED).is_some();
    let numbers = is_small.then(|| Constant::float(tensor.clone()).to_f32().into());
    Ok(Fact { kind, dims, known, numbers, is_fixed: true })
}

/// The integers or truths that a tensor holds.
pub(super) fn integers_in(tensor: &TensorProto, kind: Kind, dims: &[usize]) -> Outcome<Vec<i64>> {
    let count = elements(dims)?;
    let raw = &tensor.raw_data[..];
    let values: Vec<i64> = match (kind, raw) {
        (Kind::Integer, []) => tensor.int64_data.clone(),
        (_, []) => tensor.int32_data.iter().map(|&v| v.into()).collect(),
        (Kind::Integer, raw) => raw.as_chunks().0.iter().map(|b| i64::from_le_bytes(*b)).collect(),
        (Kind::Short, raw) => raw.as_chunks().0.iter().map(|b| i32::from_le_bytes(*b).into()).collect(),
        (_, raw) => raw.iter().map(|&b| b.into()).collect(),
    };
    let held = if dims.contains(&0) { 0 } else { count };
    if values.len() != held {
        return Err(format!("of the shape {dims:?} and holds {} values", values.len()));
    }
    Ok(values)
}

/// How many integers a tensor of shape `dims` holds, if that is not too many.
pub(super) fn elements(dims: &[usize]) -> Outcome<usize> {
    let most = limits::MOST_INTEGERS;
    limits::elements(dims, most).ok_or_else(|| format!("of the shape {dims:?}, above the limit of {most} integers"))
}
