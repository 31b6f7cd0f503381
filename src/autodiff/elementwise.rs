//! y = f(x) element by element: one op for every derivative, dx = g f'(x).

use std::f32::consts::{FRAC_1_SQRT_2, FRAC_2_PI, FRAC_2_SQRT_PI};

use tract_onnx::prelude::*;
use tract_onnx::tract_core::internal::*;
use tract_onnx::tract_core::ops::element_wise::ElementWiseOp;
use tract_onnx::tract_core::ops::math;
use tract_onnx::tract_core::ops::nn::gelu_approximate::GeluApproximate;
use tract_onnx::tract_core::ops::nn::gelu_exact::GeluExact;
use tract_onnx::tract_core::ops::nn::silu::Silu;
use tract_onnx::tract_core::ops::nn::{HardSwish, LeakyRelu, Sigmoid};
use tract_onnx::tract_core::tract_linalg::routines::Func;

use super::{InputGradients, Tape};
use crate::backbone::views::{floats, floats_mut};

pub(super) fn rule(
    tape: &mut Tape,
    node: &TypedNode,
    g: OutletId,
    _wanted: &[bool],
) -> TractResult<Option<InputGradients>> {
    let Some(op) = node.op_as::<ElementWiseOp>() else { return Ok(None) };
    let Some(derivative) = Derivative::of(op) else { return Ok(None) };
    let mut inputs = tvec![g, node.inputs[0]];
    inputs.extend(derivative.reads_output().then(|| OutletId::new(node.id, 0)));
    let dx = tape.wire("elementwise", ElementwiseGradient(derivative), &inputs)?;
    Ok(Some(tvec!(Some(dx))))
}

/// Numbers that a vector kernel works on at a time.
const BLOCK: usize = 512;

/// Where a sigmoid has reached its ends in f32.
const FAR: f32 = 20.0;

/// Which f' to take. A parameter is kept as its bits, so that ops compare exactly.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Derivative {
    Neg,
    Abs,
    Square,
    Sqrt,
    Rsqrt,
    Recip,
    Exp,
    Ln,
    Tanh,
    Erf,
    Sigmoid,
    Silu,
    HardSwish,
    GeluExact,
    GeluTanh,
    LeakyRelu { slope: u32 },
    Power { exponent: u32 },
}

impl Derivative {
    pub(super) fn power(exponent: f32) -> Self {
        Derivative::Power { exponent: exponent.to_bits() }
    }

    fn of(op: &ElementWiseOp) -> Option<Self> {
        let op = &op.0;
        if let Some(leaky) = op.downcast_ref::<LeakyRelu>() {
            return Some(Derivative::LeakyRelu { slope: leaky.alpha.to_bits() });
        }
        if let Some(power) = op.downcast_ref::<math::PowConst>() {
            return Some(Derivative::power(power.exponent));
        }
        let known = [
            (op.is::<math::Neg>(), Derivative::Neg),
            (op.is::<math::Abs>(), Derivative::Abs),
            (op.is::<math::Square>(), Derivative::Square),
            (op.is::<math::Sqrt>(), Derivative::Sqrt),
            (op.is::<math::Rsqrt>(), Derivative::Rsqrt),
            (op.is::<math::Recip>(), Derivative::Recip),
            (op.is::<math::Exp>(), Derivative::Exp),
            (op.is::<math::Ln>(), Derivative::Ln),
            (op.is::<math::Tanh>(), Derivative::Tanh),
            (op.is::<math::Erf>(), Derivative::Erf),
            (op.is::<Sigmoid>(), Derivative::Sigmoid),
            (op.is::<Silu>(), Derivative::Silu),
            (op.is::<HardSwish>(), Derivative::HardSwish),
            (op.is::<GeluExact>(), Derivative::GeluExact),
            (op.is::<GeluApproximate>(), Derivative::GeluTanh),
        ];
        known.into_iter().find_map(|(is, derivative)| is.then_some(derivative))
    }

    /// Whether f' is had from y = f(x) without a transcendental function.
    fn reads_output(self) -> bool {
        matches!(self, Derivative::Tanh | Derivative::Sigmoid)
    }

    /// f'(x), with y = f(x) where [`Derivative::reads_output`].
    fn at(self, x: f32, y: f32) -> f32 {
        match self {
            Derivative::Neg => -1.0,
            Derivative::Abs => {
                if x == 0.0 {
                    0.0
                } else {
                    x.signum()
                }
            }
            Derivative::Square => 2.0 * x,
            Derivative::Sqrt => 0.5 / x.sqrt(),
            Derivative::Rsqrt => -0.5 / (x * x.sqrt()),
            Derivative::Recip => -1.0 / (x * x),
            Derivative::Exp => x.exp(),
            Derivative::Ln => 1.0 / x,
            Derivative::Tanh => 1.0 - y * y,
            Derivative::Erf => FRAC_2_SQRT_PI * (-x * x).exp(),
            Derivative::Sigmoid => y * (1.0 - y),
            // x s(x)
            Derivative::Silu => {
                let s = 1.0 / (1.0 + (-x).exp());
                s * (1.0 + x * (1.0 - s))
            }
            // x clamp(x / 6 + 1 / 2, 0, 1)
            Derivative::HardSwish => {
                if x <= -3.0 {
                    0.0
                } else if x >= 3.0 {
                    1.0
                } else {
                    x / 3.0 + 0.5
                }
            }
            // x Phi(x): Phi(x) + x phi(x)
            Derivative::GeluExact => {
                let density = 0.5 * FRAC_2_SQRT_PI * FRAC_1_SQRT_2 * (-0.5 * x * x).exp();
                0.5 * (1.0 + libm::erff(x * FRAC_1_SQRT_2)) + x * density
            }
            // x (1 + tanh u) / 2, u = sqrt(2 / pi) (x + 0.044715 x^3)
            Derivative::GeluTanh => {
                let root = FRAC_2_PI.sqrt();
                let t = (root * (x + 0.044_715 * x * x * x)).tanh();
                0.5 * (1.0 + t) + 0.5 * x * (1.0 - t * t) * root * (1.0 + 3.0 * 0.044_715 * x * x)
            }
            Derivative::LeakyRelu { slope } => {
                if x > 0.0 {
                    1.0
                } else {
                    f32::from_bits(slope)
                }
            }
            Derivative::Power { exponent } => {
                let exponent = f32::from_bits(exponent);
                exponent * x.powf(exponent - 1.0)
            }
        }
    }
}

/// g f'(x) in place of g for x s(x), with tract's vector kernel: f'(x) = s(x) (1 + x s(-x)), where s(-x) has all the digits
/// that 1 - s(x) would lose.
fn silu_back(g: &mut [f32], x: &[f32]) -> TractResult<()> {
    let sigmoid = Func::Sigmoid.ew_f32()?;
    let mut blocks = [[0.0f32; BLOCK]; 2];
    for (g, x) in g.chunks_mut(BLOCK).zip(x.chunks(BLOCK)) {
        let [s, rest] = blocks.each_mut().map(|block| &mut block[..x.len()]);
        s.copy_from_slice(x);
        rest.iter_mut().zip(x).for_each(|(rest, x)| *rest = -x);
        sigmoid.run(s)?;
        sigmoid.run(rest)?;
        for (((g, &x), s), rest) in g.iter_mut().zip(x).zip(s).zip(rest) {
            // Far out the kernel's smallest values are not small enough.
            *g *= if x > FAR {
                1.0
            } else if x < -FAR {
                0.0
            } else {
                *s * (1.0 + x * *rest)
            };
        }
    }
    Ok(())
}

/// Inputs g, x, and y = f(x) where [`Derivative::reads_output`], of one shape; output g f'(x).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct ElementwiseGradient(pub(super) Derivative);

impl Op for ElementwiseGradient {
    fn name(&self) -> StaticName {
        "ElementwiseGradient".into()
    }
    fn info(&self) -> TractResult<Vec<String>> {
        Ok(vec![format!("{:?}", self.0)])
    }
    op_as_typed_op!();
}

impl EvalOp for ElementwiseGradient {
    op_out_of_plan!();

    fn eval(&self, _ctx: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let mut inputs = inputs.into_iter();
        let mut next = || inputs.next().context("an elementwise gradient without its inputs");
        let (g, x) = (next()?, next()?);
        let y = if self.0.reads_output() { next()? } else { x.clone() };
        let mut g = g.into_tensor();
        let (x, y) = (floats(&x)?, floats(&y)?);
        if self.0 == Derivative::Silu {
            silu_back(floats_mut(&mut g)?, x)?;
            return Ok(tvec!(g.into_tvalue()));
        }
        floats_mut(&mut g)?.iter_mut().zip(x).zip(y).for_each(|((g, &x), &y)| *g *= self.0.at(x, y));
        Ok(tvec!(g.into_tvalue()))
    }
}

impl TypedOp for ElementwiseGradient {
    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        Ok(tvec!(inputs[0].without_value()))
    }
    as_op!();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_vector_form_of_silus_gradient_agrees_with_its_formula() {
        let x: Vec<f32> = (-1200..1200).map(|n| n as f32 * 0.173).collect();
        let mut slopes = vec![1.0; x.len()];
        silu_back(&mut slopes, &x).unwrap();
        for (x, slope) in x.iter().map(|&x| f64::from(x)).zip(slopes) {
            let s = 1.0 / (1.0 + (-x).exp());
            let expected = s * (1.0 + x / (1.0 + x.exp()));
            assert!((f64::from(slope) - expected).abs() <= 1e-5, "{x}: {slope}, {expected}");
        }
    }

    #[test]
    fn every_derivative_agrees_with_finite_differences_of_its_function() {
        type Function = fn(f64) -> f64;
        let functions: [(Derivative, Function); 15] = [
            (Derivative::Neg, |x| -x),
            (Derivative::Abs, f64::abs),
            (Derivative::Square, |x| x * x),
            (Derivative::Sqrt, f64::sqrt),
            (Derivative::Rsqrt, |x| x.sqrt().recip()),
            (Derivative::Recip, f64::recip),
            (Derivative::Exp, f64::exp),
            (Derivative::Ln, f64::ln),
            (Derivative::Tanh, f64::tanh),
            (Derivative::Erf, libm::erf),
            (Derivative::Sigmoid, |x| 1.0 / (1.0 + (-x).exp())),
            (Derivative::Silu, |x| x / (1.0 + (-x).exp())),
            (Derivative::HardSwish, |x| x * (x / 6.0 + 0.5).clamp(0.0, 1.0)),
            (Derivative::GeluExact, |x| 0.5 * x * (1.0 + libm::erf(x / 2f64.sqrt()))),
            (Derivative::power(1.5), |x| x.powf(1.5)),
        ];
        for (derivative, f) in functions {
            for step in 1..60 {
                let x = f64::from(step) * 0.1 + 0.05;
                for x in [x, -x] {
                    let numeric = (f(x + 1e-6) - f(x - 1e-6)) / 2e-6;
                    if numeric.is_nan() {
                        continue;
                    }
                    let ours = f64::from(derivative.at(x as f32, f(x) as f32));
                    assert!(
                        (ours - numeric).abs() <= 2e-5 * numeric.abs().max(1.0),
                        "{derivative:?} at {x}: {ours}, {numeric}"
                    );
                }
            }
        }
    }
}
