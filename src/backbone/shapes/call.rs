//! A node as its operator sees it: operands and attributes, each asked for by what it has to be.

use tract_onnx::pb::attribute_proto::AttributeType;
use tract_onnx::pb::{AttributeProto, NodeProto};

use super::fact::{Fact, Kind, Outcome};
use crate::backbone::maps::Map;
use crate::backbone::onnx::attribute;

/// A node with what is known of its operands.
pub(super) struct Call<'c> {
    pub(super) node: &'c NodeProto,
    pub(super) operands: Vec<Option<&'c Fact>>,
    pub(super) opset: i64,
    pub(super) map: Option<&'c Map>,
}

impl<'c> Call<'c> {
    /// Refuses a node with another number of inputs, or with several outputs.
    pub(super) fn takes(&self, inputs: std::ops::RangeInclusive<usize>) -> Outcome<()> {
        if !inputs.contains(&self.operands.len()) {
            return Err(format!("it has {} inputs", self.operands.len()));
        }
        if self.node.output.len() != 1 || self.node.output[0].is_empty() {
            return Err("it has not one output; export the model for inference".into());
        }
        Ok(())
    }

    pub(super) fn optional(&self, place: usize) -> Option<&'c Fact> {
        self.operands.get(place).copied().flatten()
    }

    pub(super) fn operand(&self, place: usize) -> Outcome<&'c Fact> {
        self.optional(place).ok_or_else(|| format!("its input {place} is missing"))
    }

    /// An operand that is a float tensor with at least one value.
    pub(super) fn float(&self, place: usize) -> Outcome<&'c Fact> {
        let fact = self.operand(place)?;
        if !fact.kind.is_float() || fact.elements() == 0 {
            return Err(format!("its input {place} is no float tensor"));
        }
        Ok(fact)
    }

    /// An operand of known integers along one axis, or a single one.
    pub(super) fn integers_of(&self, place: usize) -> Outcome<&'c [i64]> {
        let fact = self.operand(place)?;
        match &fact.known {
            Some(values) if fact.dims.len() <= 1 && fact.kind != Kind::Truth => Ok(values),
            _ => Err(format!("its input {place} is not a list of integers that follow from the file")),
        }
    }

    pub(super) fn typed(&self, name: &str, kind: AttributeType) -> Outcome<Option<&'c AttributeProto>> {
        match attribute(self.node, name) {
            None => Ok(None),
            Some(found) if found.r#type == kind as i32 => Ok(Some(found)),
            Some(_) => Err(format!("its attribute {name} is of another type")),
        }
    }

    pub(super) fn int(&self, name: &str) -> Outcome<Option<i64>> {
        Ok(self.typed(name, AttributeType::Int)?.map(|a| a.i))
    }

    /// An attribute that is 0 or 1.
    pub(super) fn flag(&self, name: &str, default: bool) -> Outcome<bool> {
        match self.int(name)? {
            None => Ok(default),
            Some(flag @ 0..=1) => Ok(flag == 1),
            Some(other) => Err(format!("its {name} is {other}")),
        }
    }

    pub(super) fn ints(&self, name: &str) -> Outcome<Option<&'c [i64]>> {
        Ok(self.typed(name, AttributeType::Ints)?.map(|a| &a.ints[..]))
    }

    pub(super) fn text(&self, name: &str) -> Outcome<&'c str> {
        let text = self.typed(name, AttributeType::String)?.map_or(Ok(""), |a| std::str::from_utf8(&a.s));
        text.map_err(|_| format!("its attribute {name} is no text"))
    }

    /// The attribute `axis`, from the start.
    pub(super) fn axis(&self, default: i64, rank: usize) -> Outcome<usize> {
        axis_of(self.int("axis")?.unwrap_or(default), rank)
    }

    /// Axes given as an attribute or, from the opset on from which they are an operand, as that; `None` where neither is.
    pub(super) fn axes(&self, place: usize, operand_from: i64, rank: usize) -> Outcome<Option<Vec<usize>>> {
        let given = if self.opset < operand_from {
            self.ints("axes")?
        } else {
            match self.optional(place) {
                Some(_) => Some(self.integers_of(place)?),
                None if self.ints("axes")?.is_some() => return Err("its axes are an attribute of another opset".into()),
                None => None,
            }
        };
        given.map(|axes| axes_of(axes, rank)).transpose()
    }
}

/// An axis from the start, of a tensor of `rank` axes.
pub(super) fn axis_of(axis: i64, rank: usize) -> Outcome<usize> {
    let from_start = if axis < 0 { axis.checked_add(rank as i64) } else { Some(axis) };
    let found = from_start.and_then(|axis| usize::try_from(axis).ok()).filter(|axis| *axis < rank);
    found.ok_or_else(|| format!("it has no axis {axis} of {rank}"))
}

/// Axes from the start, each at most once.
pub(super) fn axes_of(axes: &[i64], rank: usize) -> Outcome<Vec<usize>> {
    let mut found = Vec::with_capacity(axes.len().min(rank));
    for &axis in axes {
        let axis = axis_of(axis, rank)?;
        if found.contains(&axis) {
            return Err(format!("it names the axis {axis} twice"));
        }
        found.push(axis);
    }
    Ok(found)
}

/// The shape of two tensors that are spread over each other.
pub(super) fn broadcast(a: &[usize], b: &[usize]) -> Outcome<Vec<usize>> {
    let rank = a.len().max(b.len());
    let dim = |dims: &[usize], at: usize| (at + dims.len()).checked_sub(rank).map_or(1, |at| dims[at]);
    let spread = (0..rank).map(|at| match (dim(a, at), dim(b, at)) {
        (x, y) if x == y => Some(x),
        (1, y) => Some(y),
        (x, 1) => Some(x),
        _ => None,
    });
    spread.collect::<Option<Vec<usize>>>().ok_or_else(|| format!("the shapes {a:?} and {b:?} do not fit"))
}
