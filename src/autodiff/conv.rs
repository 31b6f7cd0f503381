//! Convolution with a frozen kernel: dx = the transposed convolution of g.
//!
//! Kernels here are frozen; a convolution that learns does so through the site beside it.

use tract_onnx::prelude::tract_ndarray::Axis;
use tract_onnx::prelude::*;
use tract_onnx::tract_core::internal::*;
use tract_onnx::tract_core::ops::cnn::{Conv, Deconv, KernelFormat, PaddingSpec, PoolSpec};

use super::{InputGradients, Tape};

pub(super) fn rule(
    tape: &mut Tape,
    node: &TypedNode,
    g: OutletId,
    wanted: &[bool],
) -> TractResult<Option<InputGradients>> {
    let Some(conv) = node.op_as::<Conv>() else { return Ok(None) };
    ensure!(wanted == [true, false, false], "a convolution whose kernel or bias depends on the image");
    ensure!(conv.q_params.is_none() && conv.kernel_fmt == KernelFormat::OIHW, "a convolution of another form");
    let frame = Frame::of(tape, conv, node.inputs[0], g)?;
    let kernel = tape.known(node.inputs[1])?.context("a kernel that is not constant")?.into_tensor();
    let unit_stride = (0..conv.pool_spec.rank()).all(|axis| conv.pool_spec.stride(axis) == 1);
    let depthwise = conv.group == conv.input_channels() && conv.group == conv.output_channels();
    let dx = if unit_stride && (conv.group == 1 || depthwise) && frame.flipped_padding().is_some() {
        flipped(tape, conv, kernel, &frame, g)?
    } else {
        transposed(tape, conv, kernel, &frame, g)?
    };
    Ok(Some(tvec!(Some(dx), None, None)))
}

/// Sizes along the spatial axes.
struct Frame {
    input: TVec<usize>,
    output: TVec<usize>,
    before: TVec<usize>,
    /// Extent of the dilated kernel.
    reach: TVec<usize>,
}

impl Frame {
    fn of(tape: &Tape, conv: &Conv, x: OutletId, g: OutletId) -> TractResult<Self> {
        let spec = &conv.pool_spec;
        let spatial = |outlet| -> TractResult<TVec<usize>> {
            let shape = tape.shape(outlet)?;
            Ok(spec.data_format.shape(shape)?.hw_dims().into())
        };
        let (input, output) = (spatial(x)?, spatial(g)?);
        let before = spec.computed_padding(&input).iter().map(|pad| pad.pad_before).collect();
        let reach = (0..spec.rank()).map(|axis| (spec.kernel_shape[axis] - 1) * spec.dilation(axis) + 1).collect();
        Ok(Frame { input, output, before, reach })
    }

    /// Zeros around g that make the flipped convolution give back x's size; `None` if g would have to be cropped.
    fn flipped_padding(&self) -> Option<(TVec<usize>, TVec<usize>)> {
        let axes = 0..self.input.len();
        let before: Option<TVec<usize>> =
            axes.clone().map(|a| (self.reach[a] - 1).checked_sub(self.before[a])).collect();
        let before = before?;
        let after: Option<TVec<usize>> =
            axes.map(|a| (self.input[a] + self.reach[a] - 1).checked_sub(self.output[a] + before[a])).collect();
        Some((before, after?))
    }
}

/// Stride 1: dx = conv(g, K flipped in space, input and output channels exchanged).
fn flipped(tape: &mut Tape, conv: &Conv, kernel: Tensor, frame: &Frame, g: OutletId) -> TractResult<OutletId> {
    let mut kernel = kernel.into_plain_array::<f32>()?;
    if conv.group == 1 {
        kernel.swap_axes(0, 1);
    }
    for axis in 2..kernel.ndim() {
        kernel.invert_axis(Axis(axis));
    }
    let kernel: Tensor = kernel.as_standard_layout().into_owned().into();
    let (before, after) = frame.flipped_padding().context("padding wider than the kernel")?;
    let spec = gradient_spec(conv, PaddingSpec::Explicit(before, after));
    let inputs = with_kernel(tape, conv, g, kernel)?;
    let op = Conv { pool_spec: spec, kernel_fmt: KernelFormat::OIHW, group: conv.group, q_params: None };
    tape.wire("conv", op, &inputs)
}

/// Any stride: tract's transposed convolution, cropped or extended to x's size.
fn transposed(tape: &mut Tape, conv: &Conv, kernel: Tensor, frame: &Frame, g: OutletId) -> TractResult<OutletId> {
    let (mut after, mut adjustments) = (tvec![], tvec![]);
    for axis in 0..frame.input.len() {
        let full = (frame.output[axis] - 1) * conv.pool_spec.stride(axis) + frame.reach[axis];
        let needed = frame.input[axis] + frame.before[axis];
        after.push(full.saturating_sub(needed));
        adjustments.push(needed.saturating_sub(full));
    }
    // OIHW with O the channels that come out: (O, I / group) -> (I, O / group), group by group.
    let shape: TVec<usize> = kernel.shape().into();
    let (outputs, inputs) = (shape[0] / conv.group, shape[1]);
    let grouped: TVec<usize> = [conv.group, outputs, inputs].iter().chain(&shape[2..]).copied().collect();
    let exchanged: TVec<usize> = [conv.group * inputs, outputs].iter().chain(&shape[2..]).copied().collect();
    let kernel = kernel.into_shape(&grouped)?.move_axis(1, 2)?.into_shape(&exchanged)?;
    let spec = gradient_spec(conv, PaddingSpec::Explicit(frame.before.clone(), after));
    let inputs = with_kernel(tape, conv, g, kernel)?;
    let op = Deconv { pool_spec: spec, kernel_format: KernelFormat::OIHW, adjustments, group: conv.group };
    tape.wire("deconv", op, &inputs)
}

fn gradient_spec(conv: &Conv, padding: PaddingSpec) -> PoolSpec {
    PoolSpec {
        input_channels: conv.output_channels(),
        output_channels: conv.input_channels(),
        padding,
        ..conv.pool_spec.clone()
    }
}

fn with_kernel(tape: &mut Tape, conv: &Conv, g: OutletId, kernel: Tensor) -> TractResult<[OutletId; 3]> {
    let bias = tape.constant(Tensor::zero::<f32>(&[conv.input_channels()])?)?;
    Ok([g, tape.constant(kernel)?, bias])
}
