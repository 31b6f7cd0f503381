//! Operators that move, repeat and cut: what their outputs' shapes are, and which of their settings cannot be meant.

use tract_onnx::pb::TensorProto;
use tract_onnx::pb::attribute_proto::AttributeType;

use super::call::{Call, axes_of, axis_of, broadcast};
use super::fact::{Fact, Kind, Made, Outcome, held, integers_in};
use crate::limits;

/// What a Slice takes along one axis: numbers `start`, `start + step` ..., `count` of them.
pub(super) struct Cut {
    pub(super) start: i64,
    pub(super) step: i64,
    pub(super) count: usize,
}

impl<'c> Call<'c> {
    /// A tensor, a number or a list, given as attribute.
    pub(super) fn constant(&self) -> Outcome<Made> {
        self.takes(0..=0)?;
        let tensor = self.typed("value", AttributeType::Tensor)?.and_then(|a| a.t.as_ref());
        if let Some(tensor) = tensor {
            return Made::one(held(tensor)?);
        }
        if let Some(value) = self.int("value_int")? {
            return Made::one(Fact::known(vec![], vec![value]));
        }
        if let Some(values) = self.ints("value_ints")? {
            return Made::one(Fact::known(vec![values.len()], values.to_vec()));
        }
        let single = self.typed("value_float", AttributeType::Float)?.map(|_| vec![]);
        let list = self.typed("value_floats", AttributeType::Floats)?.map(|a| vec![a.floats.len()]);
        let dims = single.or(list).ok_or("it holds no tensor and no number")?;
        Made::one(Fact::float(dims))
    }

    /// The operand `place` as a shape.
    pub(super) fn dims_of(&self, place: usize) -> Outcome<Vec<usize>> {
        let dims = self.integers_of(place)?.iter().map(|&d| usize::try_from(d).ok());
        dims.collect::<Option<Vec<usize>>>().ok_or_else(|| "a dimension is negative".into())
    }

    /// What a ConstantOfShape is filled with: its type, and its value where that is an integer.
    pub(super) fn fill(&self) -> Outcome<Option<(Kind, Option<i64>)>> {
        self.takes(1..=1)?;
        let tensor: Option<&TensorProto> = self.typed("value", AttributeType::Tensor)?.and_then(|a| a.t.as_ref());
        let Some(tensor) = tensor else { return Ok(Some((Kind::Float, None))) };
        let fact = held(tensor)?;
        if fact.elements() != 1 {
            return Err("its value is not one number".into());
        }
        let value =
            if fact.kind.is_float() { None } else { integers_in(tensor, fact.kind, &fact.dims)?.first().copied() };
        Ok(Some((fact.kind, value)))
    }

    pub(super) fn filled(&self) -> Outcome<Made> {
        let kind = self.fill()?.map_or(Kind::Float, |(kind, _)| kind);
        Made::one(Fact { kind, ..Fact::float(self.dims_of(0)?) })
    }

    pub(super) fn reshape(&self) -> Outcome<Made> {
        let x = self.operand(0)?;
        let dims = match self.node.op_type.as_str() {
            "Reshape" => self.reshaped(x)?,
            "Flatten" => {
                self.takes(1..=1)?;
                let axis = match self.int("axis")?.unwrap_or(1) {
                    axis if axis == x.dims.len() as i64 => x.dims.len(),
                    axis => axis_of(axis, x.dims.len())?,
                };
                vec![x.dims[..axis].iter().product(), x.dims[axis..].iter().product()]
            }
            "Squeeze" => {
                self.takes(1..=2)?;
                let ones = || (0..x.dims.len()).filter(|&axis| x.dims[axis] == 1).collect();
                let gone = self.axes(1, 13, x.dims.len())?.unwrap_or_else(ones);
                if gone.iter().any(|&axis| x.dims[axis] != 1) {
                    return Err(format!("it takes an axis out of {:?} that is not 1", x.dims));
                }
                (0..x.dims.len()).filter(|axis| !gone.contains(axis)).map(|axis| x.dims[axis]).collect()
            }
            _ => {
                self.takes(1..=2)?;
                let axes =
                    if self.opset < 13 { self.ints("axes")?.ok_or("it has no axes")? } else { self.integers_of(1)? };
                let rank = x.dims.len() + axes.len();
                if rank > limits::MOST_AXES {
                    return Err(format!("its output has {rank} axes, above the limit of {}", limits::MOST_AXES));
                }
                let added = axes_of(axes, rank)?;
                let mut rest = x.dims.iter();
                let dim = |axis| if added.contains(&axis) { Some(1) } else { rest.next().copied() };
                (0..rank).map(dim).collect::<Option<_>>().ok_or("its axes do not fit")?
            }
        };
        Made::one(x.shaped(dims))
    }

    fn reshaped(&self, x: &Fact) -> Outcome<Vec<usize>> {
        self.takes(2..=2)?;
        let (asked, size) = (self.integers_of(1)?, x.elements());
        if self.flag("allowzero", false)? && asked.contains(&0) {
            return Err("it asks for an axis of 0, which is not taken".into());
        }
        let fault = || format!("it gives {:?} the shape {asked:?}", x.dims);
        let dim = |(axis, &n): (usize, &i64)| match n {
            0 => x.dims.get(axis).copied(),
            -1 => Some(1),
            n => usize::try_from(n).ok(),
        };
        let mut dims = asked.iter().enumerate().map(dim).collect::<Option<Vec<usize>>>().ok_or_else(fault)?;
        let mut open = (0..asked.len()).filter(|&axis| asked[axis] == -1);
        let product = limits::elements(&dims, usize::MAX).ok_or_else(fault)?;
        match (open.next(), open.next()) {
            (None, _) if product == size => {}
            (Some(axis), None) if size % product == 0 && size > 0 => dims[axis] = size / product,
            _ => return Err(fault()),
        }
        Ok(dims)
    }

    pub(super) fn order(&self) -> Outcome<Vec<usize>> {
        let rank = self.operand(0)?.dims.len();
        let Some(order) = self.ints("perm")? else { return Ok((0..rank).rev().collect()) };
        if order.len() != rank || order.iter().any(|axis| *axis < 0) {
            return Err(format!("its order {order:?} is not one of {rank} axes"));
        }
        axes_of(order, rank)
    }

    pub(super) fn transpose(&self) -> Outcome<Made> {
        self.takes(1..=1)?;
        let x = self.operand(0)?;
        Made::one(x.shaped(self.order()?.into_iter().map(|axis| x.dims[axis]).collect()))
    }

    pub(super) fn concat(&self) -> Outcome<Made> {
        self.takes(1..=1024)?;
        self.int("axis")?.ok_or("it has no axis")?;
        let first = self.operand(0)?;
        let axis = self.axis(0, first.dims.len())?;
        let mut dims = first.dims.clone();
        for place in 1..self.operands.len() {
            let part = self.operand(place)?;
            let fits = |(at, (a, b)): (usize, (&usize, &usize))| at == axis || a == b;
            if part.kind != first.kind
                || part.dims.len() != dims.len()
                || !part.dims.iter().zip(&dims).enumerate().all(fits)
            {
                return Err(format!("{:?} does not fit behind {dims:?}", part.dims));
            }
            dims[axis] = dims[axis].checked_add(part.dims[axis]).ok_or("its output is too large")?;
        }
        Made::one(first.shaped(dims))
    }

    pub(super) fn split(&self) -> Outcome<Made> {
        let (x, outputs) = (self.float(0)?, self.node.output.len());
        if !(1..=2).contains(&self.operands.len()) || self.node.output.iter().any(String::is_empty) {
            return Err("it has not one or two inputs, or an output without a name".into());
        }
        let axis = self.axis(0, x.dims.len())?;
        let given = if self.opset < 13 {
            self.ints("split")?
        } else {
            self.optional(1).map(|_| self.integers_of(1)).transpose()?
        };
        let sizes = match given {
            Some(sizes) => {
                sizes.iter().map(|&n| usize::try_from(n).ok().filter(|n| *n > 0)).collect::<Option<Vec<_>>>()
            }
            None => (x.dims[axis] % outputs == 0).then(|| vec![x.dims[axis] / outputs; outputs]),
        };
        let sizes = sizes.filter(|sizes| sizes.len() == outputs && total(sizes) == Some(x.dims[axis]));
        let sizes = sizes.ok_or_else(|| format!("its parts do not make up {:?}", x.dims))?;
        let part = |size| {
            let mut dims = x.dims.clone();
            dims[axis] = size;
            x.shaped(dims)
        };
        Ok(Made { outputs: sizes.into_iter().map(part).collect(), scratch: 0, multiply_adds: 0 })
    }

    /// What is taken along each axis of operand 0.
    pub(super) fn cuts(&self) -> Outcome<Vec<Cut>> {
        let x = self.operand(0)?;
        let whole = |&dim: &usize| Cut { start: 0, step: 1, count: dim };
        let mut cuts: Vec<Cut> = x.dims.iter().map(whole).collect();
        let (starts, ends, axes, steps) = if self.opset < 10 {
            let list = |name: &str| self.ints(name)?.ok_or_else(|| format!("it has no {name}"));
            (list("starts")?, list("ends")?, self.ints("axes")?, None)
        } else {
            let list = |place: usize| self.optional(place).map(|_| self.integers_of(place)).transpose();
            (self.integers_of(1)?, self.integers_of(2)?, list(3)?, list(4)?)
        };
        let axes = axes.map_or_else(|| Ok((0..starts.len()).collect()), |axes| axes_of(axes, x.dims.len()))?;
        if starts.len() != ends.len() || axes.len() != starts.len() || steps.is_some_and(|s| s.len() != starts.len()) {
            return Err("its starts, ends, axes and steps are not as many of each".into());
        }
        for (at, axis) in axes.into_iter().enumerate() {
            let cut = cuts.get_mut(axis).ok_or("it has too many starts")?;
            let (len, step) = (x.dims[axis] as i64, steps.map_or(1, |steps| steps[at]));
            let from_start = |n: i64| if n < 0 { n.saturating_add(len) } else { n };
            let (start, end) = (from_start(starts[at]), from_start(ends[at]));
            *cut = match step {
                1.. => {
                    let (start, end) = (start.clamp(0, len), end.clamp(0, len));
                    Cut {
                        start,
                        step,
                        count: (end - start).max(0).unsigned_abs().div_ceil(step.unsigned_abs()) as usize,
                    }
                }
                i64::MIN..=-1 if step > i64::MIN => {
                    let (start, end) = (start.clamp(-1, len - 1), end.clamp(-1, len - 1));
                    Cut {
                        start,
                        step,
                        count: (start - end).max(0).unsigned_abs().div_ceil(step.unsigned_abs()) as usize,
                    }
                }
                _ => return Err(format!("its step is {step}")),
            };
        }
        Ok(cuts)
    }

    pub(super) fn slice(&self) -> Outcome<Made> {
        self.takes(1..=5)?;
        let x = self.operand(0)?;
        Made::one(x.shaped(self.cuts()?.iter().map(|cut| cut.count).collect()))
    }

    pub(super) fn gather(&self) -> Outcome<Made> {
        self.takes(2..=2)?;
        let (x, indices) = (self.operand(0)?, self.operand(1)?);
        let axis = self.axis(0, x.dims.len())?;
        let known = indices.known.as_ref().filter(|_| indices.kind != Kind::Truth);
        let known = known.ok_or("its indices do not follow from the file, which is not taken")?;
        let (len, inside) =
            (x.dims[axis] as i64, |v: &&i64| **v >= -(x.dims[axis] as i64) && **v < x.dims[axis] as i64);
        if let Some(bad) = known.iter().find(|v| !inside(v)) {
            return Err(format!("its index {bad} is outside {len}"));
        }
        let dims = x.dims[..axis].iter().chain(&indices.dims).chain(&x.dims[axis + 1..]).copied().collect();
        Made::one(x.shaped(dims))
    }

    pub(super) fn expand(&self) -> Outcome<Made> {
        self.takes(2..=2)?;
        let x = self.operand(0)?;
        Made::one(x.shaped(broadcast(&x.dims, &self.dims_of(1)?)?))
    }

    pub(super) fn tile(&self) -> Outcome<Made> {
        self.takes(2..=2)?;
        let (x, times) = (self.operand(0)?, self.dims_of(1)?);
        let dims = x.dims.iter().zip(&times).map(|(dim, times)| dim.checked_mul(*times)).collect::<Option<Vec<_>>>();
        let dims = dims.filter(|dims| dims.len() == times.len() && times.len() == x.dims.len());
        Made::one(x.shaped(dims.ok_or_else(|| format!("it repeats {:?} {times:?} times", x.dims))?))
    }

    pub(super) fn pad(&self) -> Outcome<Made> {
        self.takes(1..=4)?;
        let (x, mode) = (self.float(0)?, self.text("mode")?);
        let rank = x.dims.len();
        let pads = if self.opset < 11 { self.ints("pads")?.ok_or("it has no pads")? } else { self.integers_of(1)? };
        if self.optional(2).is_some_and(|value| value.elements() != 1 || value.dims.len() > 1 || !value.is_fixed) {
            return Err("it pads with more than one number".into());
        }
        let axes = match self.optional(3) {
            Some(_) => axes_of(self.integers_of(3)?, rank)?,
            None => (0..rank).collect(),
        };
        let in_range = |pad: &i64| (0..=limits::MOST_PAD as i64).contains(pad);
        if pads.len() != 2 * axes.len() || !pads.iter().all(in_range) {
            return Err(format!("its pads are {pads:?}; on {rank} axes, up to {} are taken", limits::MOST_PAD));
        }
        let mut dims = x.dims.clone();
        for (at, &axis) in axes.iter().enumerate() {
            let (before, after) = (pads[at] as usize, pads[at + axes.len()] as usize);
            if mode == "reflect" && before.max(after) >= x.dims[axis] {
                return Err(format!("it reflects {} of {}", before.max(after), x.dims[axis]));
            }
            dims[axis] = dims[axis].checked_add(before + after).ok_or("its output is too large")?;
        }
        if !["", "constant", "reflect", "edge"].contains(&mode) {
            return Err(format!(
                "its mode {mode} is not taken; constant, reflect and edge are, and PyTorch's other exporter may write it otherwise"
            ));
        }
        Made::one(x.shaped(dims))
    }

    /// Blocks of an image become channels, or the other way round.
    pub(super) fn blocks(&self) -> Outcome<Made> {
        self.takes(1..=1)?;
        let x = self.float(0)?;
        let size =
            self.int("blocksize")?.and_then(|size| usize::try_from(size).ok()).filter(|size| (1..=64).contains(size));
        let size = size.ok_or("its block is not 1 to 64 pixels wide")?;
        let [batch, channels, height, width] = x.dims[..] else {
            return Err(format!("it has an input of {:?}", x.dims));
        };
        if !["", "DCR", "CRD"].contains(&self.text("mode")?) {
            return Err("its mode is not taken".into());
        }
        let area = size * size;
        let dims = if self.node.op_type == "DepthToSpace" {
            (channels % area == 0)
                .then(|| Some(vec![batch, channels / area, height.checked_mul(size)?, width.checked_mul(size)?]))
        } else {
            (height % size == 0 && width % size == 0)
                .then(|| Some(vec![batch, channels.checked_mul(area)?, height / size, width / size]))
        };
        Made::one(
            x.shaped(dims.flatten().ok_or_else(|| format!("{:?} does not divide into blocks of {size}", x.dims))?),
        )
    }
}

fn total(sizes: &[usize]) -> Option<usize> {
    sizes.iter().try_fold(0usize, |sum, &size| sum.checked_add(size))
}
