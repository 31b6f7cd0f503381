//! Operators that make one number for each.

use super::call::{Call, broadcast};
use super::fact::{Fact, Kind, Made, NOT_TAKEN, Outcome};

/// Operators whose output is like their only input.
const ALIKE: [&str; 36] = [
    "Abs",
    "Acos",
    "Acosh",
    "Asin",
    "Asinh",
    "Atan",
    "Atanh",
    "Ceil",
    "Celu",
    "Cos",
    "Cosh",
    "Elu",
    "Erf",
    "Exp",
    "Floor",
    "Gelu",
    "HardSigmoid",
    "HardSwish",
    "LeakyRelu",
    "Log",
    "Mish",
    "Neg",
    "Reciprocal",
    "Relu",
    "Round",
    "Selu",
    "Sigmoid",
    "Sin",
    "Sinh",
    "Softplus",
    "Softsign",
    "Sqrt",
    "Swish",
    "Tan",
    "Tanh",
    "ThresholdedRelu",
];

impl Call<'_> {
    /// One output for each number.
    pub(super) fn elementwise(&self, op: &str) -> Outcome<Made> {
        match op {
            _ if ALIKE.contains(&op) => self.alike(1),
            "Identity" => {
                self.takes(1..=1)?;
                Made::one(self.operand(0)?.clone())
            }
            "Dropout" => self.alike(3),
            "Softmax" | "LogSoftmax" => {
                self.axis(if self.opset < 13 { 1 } else { -1 }, self.operand(0)?.dims.len())?;
                self.alike(1)
            }
            "Cast" => {
                self.takes(1..=1)?;
                let to = Kind::of(self.int("to")?.ok_or("its type is missing")? as i32)?;
                if !to.is_float() && to != Kind::Truth {
                    return Err("it makes integers of an activation, which is not taken".into());
                }
                Made::one(Fact { kind: to, ..self.operand(0)?.shaped(self.operand(0)?.dims.clone()) })
            }
            "CastLike" => {
                self.takes(2..=2)?;
                let kind = self.operand(1)?.kind;
                Made::one(Fact { kind, ..self.float(0)?.shaped(self.operand(0)?.dims.clone()) })
            }
            "Clip" => {
                for place in 1..3 {
                    if self.optional(place).is_some_and(|end| end.elements() != 1 || end.dims.len() > 1) {
                        return Err("its ends are not single numbers".into());
                    }
                }
                self.alike(3)
            }
            "PRelu" => {
                let (x, slope) = (self.float(0)?, self.float(1)?);
                let dims = broadcast(&x.dims, &slope.dims)?;
                if dims != x.dims || slope.elements() == 0 {
                    return Err(format!("its slope has the shape {:?} for {:?}", slope.dims, x.dims));
                }
                self.takes(2..=2)?;
                Made::one(x.shaped(dims))
            }
            "Add" | "Sub" | "Mul" | "Div" | "Pow" | "Mod" => self.together(2..=2, None),
            "Min" | "Max" | "Sum" | "Mean" => self.together(1..=64, None),
            "Equal" | "Greater" | "GreaterOrEqual" | "Less" | "LessOrEqual" => self.together(2..=2, Some(Kind::Truth)),
            "Not" | "And" | "Or" | "Xor" => self.truths(if op == "Not" { 1 } else { 2 }),
            "Where" => self.choice(),
            _ => Err(NOT_TAKEN.into()),
        }
    }

    /// The output is like the first of at most `most` inputs.
    pub(super) fn alike(&self, most: usize) -> Outcome<Made> {
        self.takes(1..=most)?;
        let x = self.float(0)?;
        Made::one(x.shaped(x.dims.clone()))
    }

    /// Inputs of one kind, spread over each other.
    fn together(&self, count: std::ops::RangeInclusive<usize>, kind: Option<Kind>) -> Outcome<Made> {
        self.takes(count)?;
        let first = self.float(0)?;
        let mut dims = first.dims.clone();
        for place in 1..self.operands.len() {
            let other = self.float(place)?;
            if other.kind != first.kind {
                return Err("its inputs are of different types".into());
            }
            dims = broadcast(&dims, &other.dims)?;
        }
        Made::one(Fact { kind: kind.unwrap_or(first.kind), ..first.shaped(dims) })
    }

    /// Truths that follow from `count` others.
    fn truths(&self, count: usize) -> Outcome<Made> {
        self.takes(count..=count)?;
        let mut dims = Vec::new();
        for place in 0..count {
            let fact = self.operand(place)?;
            if fact.kind != Kind::Truth {
                return Err(format!("its input {place} is no tensor of truths"));
            }
            dims = broadcast(&dims, &fact.dims)?;
        }
        Made::one(self.operand(0)?.shaped(dims))
    }

    fn choice(&self) -> Outcome<Made> {
        self.takes(3..=3)?;
        let (condition, a, b) = (self.operand(0)?, self.float(1)?, self.float(2)?);
        if condition.kind != Kind::Truth || a.kind != b.kind {
            return Err("its inputs are not truths and two tensors of one type".into());
        }
        Made::one(a.shaped(broadcast(&broadcast(&condition.dims, &a.dims)?, &b.dims)?))
    }
}
