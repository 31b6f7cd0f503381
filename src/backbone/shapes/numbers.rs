//! A few floats that follow from the file, on their way to an integer: padding and scales that an exporter has written out as
//! arithmetic.

use super::call::Call;
use super::fact::{Fact, Kind, Made, Outcome, REMEMBERED};
use crate::backbone::onnx::attribute;

impl Call<'_> {
    /// What a Cast makes of floats that are known, if that is integers: their whole part.
    pub(super) fn whole_parts(&self) -> Outcome<Option<Fact>> {
        if self.node.op_type != "Cast" {
            return Ok(None);
        }
        let kind = Kind::of(self.int("to")?.ok_or("its type is missing")? as i32)?;
        let Some(numbers) = self.operand(0)?.numbers.as_ref().filter(|_| matches!(kind, Kind::Integer | Kind::Short))
        else {
            return Ok(None);
        };
        let whole = |number: &f32| (number.abs() < 1e9).then_some(number.trunc() as i64);
        let values = numbers.iter().map(whole).collect::<Option<Vec<i64>>>();
        let values = values.ok_or("it makes an integer of a number that is none")?;
        Ok(Some(Fact { kind, ..Fact::known(self.operand(0)?.dims.clone(), values) }))
    }

    /// `made`, with its numbers where they are few and known.
    pub(super) fn with_numbers(&self, mut made: Made) -> Made {
        if let [output] = &mut made.outputs[..]
            && output.kind == Kind::Float
            && output.numbers.is_none()
        {
            output.numbers = self.numbers(&output.dims).map(Into::into);
        }
        made
    }

    fn numbers(&self, dims: &[usize]) -> Option<Vec<f32>> {
        let count = dims.iter().product::<usize>();
        if count > REMEMBERED {
            return None;
        }
        let op = self.node.op_type.as_str();
        let one = || self.few(0);
        let both = |f: fn(f32, f32) -> f32| {
            let (a, b) = (self.few(0)?, self.few(1)?);
            // Of equal length, or one for all.
            let at = |values: &[f32], nth: usize| values.get(if values.len() == 1 { 0 } else { nth }).copied();
            (0..count).map(|nth| Some(f(at(&a, nth)?, at(&b, nth)?))).collect::<Option<Vec<f32>>>()
        };
        let each = |f: fn(f32) -> f32| one().map(|values| values.into_iter().map(f).collect::<Vec<f32>>());
        let found = match op {
            "Constant" => self.written(),
            "Cast" | "Identity" | "Unsqueeze" | "Squeeze" | "Reshape" | "Flatten" => one(),
            "Ceil" => each(f32::ceil),
            "Floor" => each(f32::floor),
            "Neg" => each(|x| -x),
            "Abs" => each(f32::abs),
            "Add" => both(|a, b| a + b),
            "Sub" => both(|a, b| a - b),
            "Mul" => both(|a, b| a * b),
            "Div" => both(|a, b| a / b),
            "Min" if self.operands.len() == 2 => both(f32::min),
            "Max" if self.operands.len() == 2 => both(f32::max),
            "Clip" => self.clipped(),
            "Concat" if dims.len() == 1 => (0..self.operands.len())
                .map(|place| self.few(place))
                .collect::<Option<Vec<_>>>()
                .map(|parts| parts.concat()),
            _ => None,
        };
        found.filter(|values| values.len() == count && values.iter().all(|value| value.is_finite()))
    }

    /// The floats that a Constant has as an attribute.
    fn written(&self) -> Option<Vec<f32>> {
        let one = attribute(self.node, "value_float").map(|a| vec![a.f]);
        one.or_else(|| attribute(self.node, "value_floats").map(|a| a.floats.clone()))
    }

    fn clipped(&self) -> Option<Vec<f32>> {
        let end = |place: usize, open: f32| match self.optional(place) {
            Some(_) => self.few(place)?.first().copied(),
            None => Some(open),
        };
        let (low, high) = (end(1, f32::MIN)?, end(2, f32::MAX)?);
        // From opset 11 on the ends are operands.
        let clip = |x: f32| x.max(low).min(high);
        (self.opset >= 11).then(|| self.few(0)).flatten().map(|values| values.into_iter().map(clip).collect())
    }

    /// The numbers of an operand, where they are few and known.
    fn few(&self, place: usize) -> Option<Vec<f32>> {
        let fact = self.optional(place)?;
        match (&fact.numbers, &fact.known) {
            (Some(numbers), _) => Some(numbers.to_vec()),
            (None, Some(known)) if known.len() <= REMEMBERED && fact.kind != Kind::Truth => {
                Some(known.iter().map(|v| *v as f32).collect())
            }
            _ => None,
        }
    }
}
