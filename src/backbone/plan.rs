//! An optimized graph, ready to run again and again.

use tract_onnx::prelude::*;
use tract_onnx::tract_core::internal::TypedOp;
use tract_onnx::tract_core::plan::SimpleState;
use tract_onnx::tract_core::runtime::RunOptions;

/// A planned graph with its reusable state: constants are seeded once, values are freed after their last use.
pub(crate) struct Plan {
    state: SimpleState<TypedFact, Box<dyn TypedOp>>,
}

impl Plan {
    /// Optimizes and plans `model`.
    pub(crate) fn optimized(mut model: TypedModel) -> TractResult<Self> {
        model.optimize()?;
        Self::as_is(model)
    }

    /// Plans `model` without any rewriting.
    pub(crate) fn as_is(model: TypedModel) -> TractResult<Self> {
        let plan = TypedSimplePlan::new_with_options(model, &RunOptions::default())?;
        Ok(Plan { state: plan.spawn()? })
    }

    pub(crate) fn run(&mut self, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        self.state.run(inputs)
    }
}

/// The values of a float tensor.
pub(crate) fn floats(value: &TValue) -> TractResult<&[f32]> {
    value.try_as_plain_ram()?.as_slice::<f32>()
}
