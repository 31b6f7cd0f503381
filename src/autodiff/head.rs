//! The trainable head and the loss as one node, so that the same graph gives loss, logits and every gradient.

use tract_onnx::prelude::*;
use tract_onnx::tract_core::internal::*;

use crate::adapter;
use crate::backbone::map_op::{SharedAdapter, read};
use crate::backbone::views::floats_mut;

/// Inputs: features `[n, features]`, labels `[n]` (i64; negative: the row does not count).
///
/// Outputs: cross-entropy `[n]` (natural log, not averaged), logits `[n, classes]`, and the gradients of the *sum* of
/// the losses: dfeatures `[n, features]`, dw `[classes, features]`, db `[classes]`.
#[derive(Debug, Clone)]
pub(super) struct HeadLoss {
    pub(super) adapter: SharedAdapter,
}

impl PartialEq for HeadLoss {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.adapter, &other.adapter)
    }
}

impl Eq for HeadLoss {}

impl Op for HeadLoss {
    fn name(&self) -> StaticName {
        "HeadLoss".into()
    }
    op_as_typed_op!();
}

impl EvalOp for HeadLoss {
    not_out_of_plan!();

    fn eval(&self, _ctx: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let (features, labels) = args_2!(inputs);
        let (rows, width) = (features.shape()[0], features.shape()[1]);
        let (features, labels) = (features.try_as_plain_ram()?, labels.try_as_plain_ram()?);
        let shared = read(&self.adapter);
        let head = &shared.head;
        ensure!(head.features() == width, "a head of {} features on {width}", head.features());
        let classes = head.classes();
        let zeros = |shape: &[usize]| Tensor::zero::<f32>(shape);
        let mut outputs = [
            zeros(&[rows])?,
            zeros(&[rows, classes])?,
            zeros(&[rows, width])?,
            zeros(&[classes, width])?,
            zeros(&[classes])?,
        ];
        let [loss, logits, dfeatures, dw, db] = outputs.each_mut().map(floats_mut);
        let out = adapter::HeadLoss { loss: loss?, logits: logits?, dfeatures: dfeatures?, dw: dw?, db: db? };
        head.backward(features.as_slice::<f32>()?, labels.as_slice::<i64>()?, out);
        Ok(outputs.map(IntoTValue::into_tvalue).into_iter().collect())
    }
}

impl TypedOp for HeadLoss {
    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        let (rows, width) = (inputs[0].shape[0].clone(), inputs[0].shape[1].clone());
        let classes = read(&self.adapter).head.classes().to_dim();
        Ok(tvec!(
            f32::fact([rows.clone()]),
            f32::fact([rows.clone(), classes.clone()]),
            f32::fact([rows, width.clone()]),
            f32::fact([classes.clone(), width]),
            f32::fact([classes]),
        ))
    }
    as_op!();
}
