//! The integers of a file, which its shapes follow from: worked out number by number, and refused where they overflow.

use super::call::{Call, broadcast};
use super::fact::{Fact, Kind, Made, Outcome, elements};

/// Calls `visit` with every index of a tensor of shape `dims`, in order.
fn each_index(dims: &[usize], mut visit: impl FnMut(&[usize])) {
    let mut index = vec![0; dims.len()];
    for _ in 0..dims.iter().product() {
        visit(&index);
        for (at, dim) in index.iter_mut().zip(dims).rev() {
            *at += 1;
            if *at < *dim {
                break;
            }
            *at = 0;
        }
    }
}

/// The place of an index in a tensor of shape `dims`, which is spread over a larger one.
fn place(dims: &[usize], index: &[usize]) -> usize {
    let own = &index[index.len() - dims.len()..];
    own.iter().zip(dims).fold(0, |place, (&at, &dim)| place * dim + if dim == 1 { 0 } else { at })
}

impl Call<'_> {
    /// What the node makes, if that is integers that follow from the file.
    pub(super) fn integers(&self) -> Outcome<Option<Fact>> {
        match self.node.op_type.as_str() {
            "Shape" => return self.shape().map(Some),
            "Size" => {
                self.takes(1..=1)?;
                return Ok(Some(Fact::known(vec![], vec![self.operand(0)?.elements() as i64])));
            }
            _ => {}
        }
        let known = self.operands.iter().flatten().all(|fact| fact.known.is_some());
        if self.operands.is_empty() || !known {
            return Ok(None);
        }
        let kind = self.operand(0)?.kind;
        let op = self.node.op_type.as_str();
        let (kind, dims, values) = match op {
            "Identity" => return self.operand(0).cloned().map(Some),
            "Cast" | "CastLike" => return self.cast(),
            "Neg" | "Abs" | "Not" => {
                self.takes(1..=1)?;
                (kind, self.operand(0)?.dims.clone(), self.each(op)?)
            }
            "Add" | "Sub" | "Mul" | "Div" | "Mod" | "Min" | "Max" | "And" | "Or" => {
                let (dims, values) = self.pairs(op)?;
                (kind, dims, values)
            }
            "Equal" | "Greater" | "GreaterOrEqual" | "Less" | "LessOrEqual" => {
                let (dims, values) = self.pairs(op)?;
                (Kind::Truth, dims, values)
            }
            "Where" => return self.chosen(),
            "Range" => return self.range(),
            "ConstantOfShape" => return self.filled_integers(),
            "ReduceProd" | "ReduceSum" | "ReduceMax" | "ReduceMin" => return self.reduced(),
            "Reshape" | "Squeeze" | "Unsqueeze" | "Flatten" | "Expand" | "Tile" | "Transpose" => {
                let (dims, values) = self.moved(op)?;
                (kind, dims, values)
            }
            "Gather" => self.gathered()?,
            "GatherND" | "ScatterND" => self.picked_blocks()?,
            "Slice" => self.sliced()?,
            "Concat" => self.joined()?,
            _ => return Ok(None),
        };
        elements(&dims).map_err(|what| format!("its output is {what}"))?;
        Ok(Some(Fact { kind, ..Fact::known(dims, values) }))
    }

    /// What a node makes that gives the integers of its first input other places.
    fn moved(&self, op: &str) -> Outcome<(Vec<usize>, Vec<i64>)> {
        let own = &self.operand(0)?.dims;
        Ok(match op {
            "Expand" => {
                let dims = self.only(self.expand()?)?;
                (dims.clone(), self.picked(&dims, |index| place(own, index))?)
            }
            "Tile" => {
                let dims = self.only(self.tile()?)?;
                let at = |index: &[usize]| index.iter().zip(own).fold(0, |place, (at, dim)| place * dim + at % dim);
                (dims.clone(), self.picked(&dims, at)?)
            }
            "Transpose" => {
                let order = self.order()?;
                let dims = self.only(self.transpose()?)?;
                let at = |index: &[usize]| {
                    let from = |axis: usize| order.iter().position(|&o| o == axis).map_or(0, |place| index[place]);
                    own.iter().enumerate().fold(0, |place, (axis, dim)| place * dim + from(axis))
                };
                (dims.clone(), self.picked(&dims, at)?)
            }
            _ => (self.only(self.reshape()?)?, self.values(0)?.to_vec()),
        })
    }

    fn values(&self, place: usize) -> Outcome<&[i64]> {
        self.operand(place)?.known.as_deref().ok_or_else(|| format!("its input {place} is not known"))
    }

    /// The shape of the only output of what another rule has found, if it is not too large.
    fn only(&self, made: Made) -> Outcome<Vec<usize>> {
        let dims = made.outputs.into_iter().next().map(|fact| fact.dims).ok_or("it has no output")?;
        elements(&dims).map_err(|what| format!("its output is {what}"))?;
        Ok(dims)
    }

    /// The values of operand 0 at the places that `at` finds for every index of `dims`.
    fn picked(&self, dims: &[usize], at: impl Fn(&[usize]) -> usize) -> Outcome<Vec<i64>> {
        let (values, mut picked) = (self.values(0)?, Vec::new());
        each_index(dims, |index| picked.extend(values.get(at(index))));
        Ok(picked)
    }

    fn shape(&self) -> Outcome<Fact> {
        self.takes(1..=1)?;
        let dims = &self.operand(0)?.dims;
        let end = |name: &str, default: usize| -> Outcome<usize> {
            let Some(at) = self.int(name)? else { return Ok(default) };
            let from_start = if at < 0 { at.saturating_add(dims.len() as i64) } else { at };
            Ok(usize::try_from(from_start.max(0)).unwrap_or(0).min(dims.len()))
        };
        let (start, end) = (end("start", 0)?, end("end", dims.len())?);
        let found: Vec<i64> = dims.get(start..end).unwrap_or_default().iter().map(|&d| d as i64).collect();
        Ok(Fact::known(vec![found.len()], found))
    }

    fn cast(&self) -> Outcome<Option<Fact>> {
        let to = match self.node.op_type.as_str() {
            "Cast" => Kind::of(self.int("to")?.ok_or("its type is missing")? as i32)?,
            _ => self.operand(1)?.kind,
        };
        if to.is_float() {
            return Ok(None);
        }
        let fact = self.operand(0)?;
        let convert = |&v: &i64| match to {
            Kind::Truth => Ok(i64::from(v != 0)),
            Kind::Short => i32::try_from(v).map(i64::from).map_err(|_| format!("{v} is no int32")),
            _ => Ok(v),
        };
        let values = self.values(0)?.iter().map(convert).collect::<Outcome<Vec<i64>>>()?;
        Ok(Some(Fact { kind: to, ..Fact::known(fact.dims.clone(), values) }))
    }

    fn each(&self, op: &str) -> Outcome<Vec<i64>> {
        let one = |&v: &i64| match op {
            "Neg" => v.checked_neg(),
            "Abs" => v.checked_abs(),
            _ => Some(i64::from(v == 0)),
        };
        let values = self.values(0)?.iter().map(one).collect::<Option<Vec<i64>>>();
        values.ok_or_else(|| "its integers overflow".into())
    }

    fn pairs(&self, op: &str) -> Outcome<(Vec<usize>, Vec<i64>)> {
        self.takes(2..=2)?;
        let (a, b) = (self.operand(0)?, self.operand(1)?);
        if a.kind != b.kind {
            return Err("its inputs are of different types".into());
        }
        let fmod = self.flag("fmod", false)?;
        let dims = broadcast(&a.dims, &b.dims)?;
        elements(&dims).map_err(|what| format!("its output is {what}"))?;
        let both = |a: i64, b: i64| match op {
            "Add" => a.checked_add(b),
            "Sub" => a.checked_sub(b),
            "Mul" => a.checked_mul(b),
            "Div" => a.checked_div(b),
            "Mod" if fmod => a.checked_rem(b),
            // The sign is the divisor's.
            "Mod" => a.checked_rem(b).map(|rest| if rest != 0 && (rest < 0) != (b < 0) { rest + b } else { rest }),
            "Min" => Some(a.min(b)),
            "Max" => Some(a.max(b)),
            "And" => Some(i64::from(a != 0 && b != 0)),
            "Or" => Some(i64::from(a != 0 || b != 0)),
            "Equal" => Some(i64::from(a == b)),
            "Greater" => Some(i64::from(a > b)),
            "GreaterOrEqual" => Some(i64::from(a >= b)),
            "Less" => Some(i64::from(a < b)),
            _ => Some(i64::from(a <= b)),
        };
        let (x, y, mut values) = (self.values(0)?, self.values(1)?, Vec::new());
        each_index(&dims, |index| values.push(both(x[place(&a.dims, index)], y[place(&b.dims, index)])));
        let fits = |v: &i64| a.kind != Kind::Short || i32::try_from(*v).is_ok();
        let values = values.into_iter().collect::<Option<Vec<i64>>>().filter(|values| values.iter().all(fits));
        Ok((dims, values.ok_or("its integers overflow, or are divided by 0")?))
    }

    fn chosen(&self) -> Outcome<Option<Fact>> {
        self.takes(3..=3)?;
        let (condition, a, b) = (self.operand(0)?, self.operand(1)?, self.operand(2)?);
        if condition.kind != Kind::Truth || a.kind != b.kind {
            return Err("its inputs are not truths and two tensors of one type".into());
        }
        let dims = broadcast(&broadcast(&condition.dims, &a.dims)?, &b.dims)?;
        elements(&dims).map_err(|what| format!("its output is {what}"))?;
        let (truth, x, y) = (self.values(0)?, self.values(1)?, self.values(2)?);
        let mut values = Vec::new();
        each_index(&dims, |index| {
            let holds = truth[place(&condition.dims, index)] != 0;
            values.push(if holds { x[place(&a.dims, index)] } else { y[place(&b.dims, index)] });
        });
        Ok(Some(Fact { kind: a.kind, ..Fact::known(dims, values) }))
    }

    fn range(&self) -> Outcome<Option<Fact>> {
        self.takes(3..=3)?;
        let one = |place: usize| match self.values(place)? {
            [value] => Ok(*value),
            _ => Err(format!("its input {place} is not one number")),
        };
        let (start, limit, delta) = (one(0)?, one(1)?, one(2)?);
        let span = limit.checked_sub(start).ok_or("its ends are too far apart")?;
        let count = match delta {
            0 => return Err("its step is 0".into()),
            _ if (span > 0) != (delta > 0) => 0,
            _ => span.unsigned_abs().div_ceil(delta.unsigned_abs()),
        };
        let count = usize::try_from(count).unwrap_or(usize::MAX);
        elements(&[count]).map_err(|what| format!("its output is {what}"))?;
        let values = (0..count as i64).map(|at| start + at * delta).collect();
        Ok(Some(Fact { kind: self.operand(0)?.kind, ..Fact::known(vec![count], values) }))
    }

    fn filled_integers(&self) -> Outcome<Option<Fact>> {
        let Some((kind, Some(value))) = self.fill()? else { return Ok(None) };
        let dims = self.dims_of(0)?;
        let count = elements(&dims).map_err(|what| format!("its output is {what}"))?;
        let count = if dims.contains(&0) { 0 } else { count };
        Ok(Some(Fact { kind, ..Fact::known(dims, vec![value; count]) }))
    }

    /// Over all of a list, as a shape's product.
    fn reduced(&self) -> Outcome<Option<Fact>> {
        let (fact, values) = (self.operand(0)?, self.values(0)?);
        let dims = self.only(self.reduce()?)?;
        if dims.iter().any(|&d| d != 1) || fact.dims.len() > 1 {
            return Err("it reduces integers along some axes only, which is not taken".into());
        }
        let fold = |f: fn(i64, i64) -> Option<i64>| {
            let (first, rest) = values.split_first()?;
            rest.iter().try_fold(*first, |a, &b| f(a, b))
        };
        let value = match self.node.op_type.as_str() {
            "ReduceProd" => fold(i64::checked_mul),
            "ReduceSum" => fold(i64::checked_add),
            "ReduceMax" => fold(|a, b| Some(a.max(b))),
            _ => fold(|a, b| Some(a.min(b))),
        };
        let value = value.ok_or("its integers overflow, or there are none")?;
        Ok(Some(Fact { kind: fact.kind, ..Fact::known(dims, vec![value]) }))
    }

    fn gathered(&self) -> Outcome<(Kind, Vec<usize>, Vec<i64>)> {
        let dims = self.only(self.gather()?)?;
        let (fact, indices) = (self.operand(0)?, self.operand(1)?);
        let axis = self.axis(0, fact.dims.len())?;
        let (own, chosen, rank) = (&fact.dims, self.values(1)?, indices.dims.len());
        let at = |index: &[usize]| {
            let pick = chosen[place_in(&indices.dims, &index[axis..axis + rank])];
            let pick = if pick < 0 { pick + own[axis] as i64 } else { pick } as usize;
            let full = index[..axis].iter().copied().chain([pick]).chain(index[axis + rank..].iter().copied());
            full.zip(own).fold(0, |place, (at, dim)| place * dim + at)
        };
        let values = self.picked(&dims, at)?;
        Ok((fact.kind, dims, values))
    }

    fn sliced(&self) -> Outcome<(Kind, Vec<usize>, Vec<i64>)> {
        let dims = self.only(self.slice()?)?;
        let (fact, cuts) = (self.operand(0)?, self.cuts()?);
        let at = |index: &[usize]| {
            index
                .iter()
                .zip(&fact.dims)
                .zip(&cuts)
                .fold(0, |place, ((&at, &dim), cut)| place * dim + (cut.start + at as i64 * cut.step) as usize)
        };
        let values = self.picked(&dims, at)?;
        Ok((fact.kind, dims, values))
    }

    fn joined(&self) -> Outcome<(Kind, Vec<usize>, Vec<i64>)> {
        let (kind, dims) = (self.operand(0)?.kind, self.only(self.concat()?)?);
        let axis = self.axis(0, dims.len())?;
        let outer: usize = dims[..axis].iter().product();
        let mut values = Vec::new();
        for row in 0..outer {
            for place in 0..self.operands.len() {
                let part = self.values(place)?;
                let width = part.len() / outer.max(1);
                values.extend(&part[row * width..(row + 1) * width]);
            }
        }
        Ok((kind, dims, values))
    }
}

/// The place of an index in a tensor of just that shape.
fn place_in(dims: &[usize], index: &[usize]) -> usize {
    index.iter().zip(dims).fold(0, |place, (&at, &dim)| place * dim + at)
}
