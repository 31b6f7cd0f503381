//! The trainable head and the loss as one node, so that the same graph gives loss, logits and every gradient.

use tract_onnx::prelude::*;
use tract_onnx::tract_core::internal::*;

use crate::backbone::map_op::{SharedAdapter, read};

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
        let adapter = read(&self.adapter);
        let head = &adapter.head;
        ensure!(head.features() == width, "a head of {} features on {width}", head.features());
        let out = head.loss(features.as_slice::<f32>()?, labels.as_slice::<i64>()?);
        let classes = head.classes();
        Ok(tvec!(
            Tensor::from_shape(&[rows], &out.loss)?.into_tvalue(),
            Tensor::from_shape(&[rows, classes], &out.logits)?.into_tvalue(),
            Tensor::from_shape(&[rows, width], &out.dfeatures)?.into_tvalue(),
            Tensor::from_shape(&[classes, width], &out.dw)?.into_tvalue(),
            Tensor::from_shape(&[classes], &out.db)?.into_tvalue(),
        ))
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
