//! One value for a whole plane: what the gradient of a mean over an image's pixels is.

use tract_onnx::prelude::*;
use tract_onnx::tract_core::internal::*;

use crate::backbone::views::{floats, floats_mut};

/// Input x, whose last axes are 1; output y of the shape `[planes, pixels]` that those axes make: y[plane, pixel] = x[plane].
///
/// tract's own op copies number by number, for any axes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Repeat {
    shape: TVec<usize>,
}

impl Repeat {
    /// The op that brings `from` to `to`, if all axes that are not `to`'s already are 1 and the last.
    pub(super) fn of(from: &[usize], to: &[usize]) -> Option<Self> {
        let same = from.iter().zip(to).take_while(|(from, to)| from == to).count();
        let fits = from.len() == to.len() && from[same..].iter().all(|&axis| axis == 1);
        fits.then(|| Repeat { shape: to.into() })
    }
}

impl Op for Repeat {
    fn name(&self) -> StaticName {
        "Repeat".into()
    }
    op_as_typed_op!();
}

impl EvalOp for Repeat {
    op_out_of_plan!();

    fn eval(&self, _ctx: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let x = args_1!(inputs);
        let x = floats(&x)?;
        let mut y = Tensor::zero::<f32>(&self.shape)?;
        let pixels = y.len() / x.len().max(1);
        let planes = floats_mut(&mut y)?.chunks_exact_mut(pixels.max(1));
        planes.zip(x).for_each(|(plane, &value)| plane.fill(value));
        Ok(tvec!(y.into_tvalue()))
    }
}

impl TypedOp for Repeat {
    fn output_facts(&self, _inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        Ok(tvec!(f32::fact(&*self.shape)))
    }
    as_op!();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_plane_holds_its_value_and_other_axes_are_not_taken() {
        let repeat = Repeat::of(&[2, 3, 1, 1], &[2, 3, 2, 2]).unwrap();
        let x = Tensor::from_shape(&[2, 3, 1, 1], &[1.0f32, 2.0, 3.0, 4.0, 5.0, 6.0]).unwrap();
        let mut model = TypedModel::default();
        let source = model.add_source("x", f32::fact([2, 3, 1, 1])).unwrap();
        let output = model.wire_node("repeat", repeat, &[source]).unwrap();
        model.select_output_outlets(&output).unwrap();
        let y = model.into_runnable().unwrap().run(tvec!(x.into_tvalue())).unwrap();
        let expected: Vec<f32> = (1..=6).flat_map(|value| [value as f32; 4]).collect();
        assert_eq!((y[0].shape(), floats(&y[0]).unwrap()), (&[2, 3, 2, 2][..], &*expected));
        assert_eq!(Repeat::of(&[2, 1, 2], &[2, 3, 2]), None);
        assert_eq!(Repeat::of(&[1], &[2, 3]), None);
    }
}
