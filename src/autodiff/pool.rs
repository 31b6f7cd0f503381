//! Max and average pooling over windows: g goes to the winner, or is shared out evenly.

use tract_onnx::prelude::*;
use tract_onnx::tract_core::internal::*;
use tract_onnx::tract_core::ops::cnn::{MaxPool, PoolSpec, SumPool};

use super::{InputGradients, Tape};

pub(super) fn rule(
    tape: &mut Tape,
    node: &TypedNode,
    g: OutletId,
    _wanted: &[bool],
) -> TractResult<Option<InputGradients>> {
    let (spec, kind) = if let Some(pool) = node.op_as::<MaxPool>() {
        (pool.pool_spec.clone(), PoolKind::Max)
    } else if let Some(pool) = node.op_as::<SumPool>() {
        let kind = match (pool.normalize, pool.count_include_pad) {
            (false, _) => PoolKind::Sum,
            (true, true) => PoolKind::MeanOfWindow,
            (true, false) => PoolKind::MeanOfPixels,
        };
        (pool.pool_spec.clone(), kind)
    } else {
        return Ok(None);
    };
    ensure!(spec.rank() == 2, "pooling over {} axes", spec.rank());
    let dx = tape.wire("pool", PoolGradient { spec, kind }, &[g, node.inputs[0]])?;
    Ok(Some(tvec!(Some(dx))))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum PoolKind {
    /// The first of the largest, in row order, takes all.
    Max,
    Sum,
    /// Divided by the window's size, padding included (but not what a rounded-up output hangs over).
    MeanOfWindow,
    /// Divided by the number of pixels inside the image.
    MeanOfPixels,
}

/// Inputs (g, x), output dx of x's shape.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct PoolGradient {
    spec: PoolSpec,
    kind: PoolKind,
}

/// One image channel: where it starts, and how far apart rows and columns lie.
#[derive(Clone, Copy)]
struct PoolLayout {
    height: usize,
    width: usize,
    row: usize,
    column: usize,
}

impl PoolGradient {
    fn plane(&self, shape: &[usize]) -> TractResult<(PoolLayout, Vec<usize>)> {
        let shape = self.spec.data_format.shape(shape)?;
        let (hw, strides) = (shape.hw_dims(), shape.hw_strides());
        let (batch, channels) = (shape.n().copied().unwrap_or(1), *shape.c());
        let starts = (0..batch).flat_map(|n| {
            let image = n * shape.n_stride().copied().unwrap_or(0);
            (0..channels).map(move |c| (image, c))
        });
        let starts = starts.map(|(image, c)| image + c * *shape.c_stride()).collect();
        Ok((PoolLayout { height: hw[0], width: hw[1], row: strides[0], column: strides[1] }, starts))
    }

    /// Offsets of the pixels that output (y, z) looks at, in row order.
    fn window(&self, y: usize, z: usize, x: PoolLayout, before: [usize; 2]) -> impl Iterator<Item = usize> + '_ {
        let spec = &self.spec;
        let rows = (0..spec.kernel_shape[0]).map(move |i| y * spec.stride(0) + i * spec.dilation(0));
        rows.flat_map(move |iy| {
            (0..spec.kernel_shape[1]).filter_map(move |j| {
                let row = iy.checked_sub(before[0]).filter(|&row| row < x.height)?;
                let column = (z * spec.stride(1) + j * spec.dilation(1)).checked_sub(before[1])?;
                (column < x.width).then_some(row * x.row + column * x.column)
            })
        })
    }

    fn scatter(&self, g: f32, window: impl Iterator<Item = usize> + Clone, x: &[f32], dx: &mut [f32]) {
        let share = match self.kind {
            PoolKind::Max => {
                let best = window.reduce(|best, at| if x[at] > x[best] { at } else { best });
                if let Some(best) = best {
                    dx[best] += g;
                }
                return;
            }
            PoolKind::Sum => g,
            PoolKind::MeanOfWindow => g / self.spec.kernel_shape.iter().product::<usize>() as f32,
            PoolKind::MeanOfPixels => g / window.clone().count() as f32,
        };
        window.for_each(|at| dx[at] += share);
    }
}

impl Op for PoolGradient {
    fn name(&self) -> StaticName {
        "PoolGradient".into()
    }
    fn info(&self) -> TractResult<Vec<String>> {
        Ok(vec![format!("{:?}", self.kind)])
    }
    op_as_typed_op!();
}

impl EvalOp for PoolGradient {
    op_out_of_plan!();

    fn eval(&self, _ctx: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let (g, x) = args_2!(inputs);
        let (from, g_starts) = self.plane(g.shape())?;
        let (to, x_starts) = self.plane(x.shape())?;
        let padding = self.spec.computed_padding(&[to.height, to.width]);
        let before = [padding[0].pad_before, padding[1].pad_before];
        let mut dx = Tensor::zero::<f32>(x.shape())?;
        let (g, x) = (g.try_as_plain_ram()?, x.try_as_plain_ram()?);
        let (g, x) = (g.as_slice::<f32>()?, x.as_slice::<f32>()?);
        let mut plain = dx.try_as_plain_ram_mut()?;
        let out = plain.as_slice_mut::<f32>()?;
        for (&g_start, &x_start) in g_starts.iter().zip(&x_starts) {
            for y in 0..from.height {
                for z in 0..from.width {
                    let g = g[g_start + y * from.row + z * from.column];
                    let window: TVec<usize> = self.window(y, z, to, before).map(|at| x_start + at).collect();
                    self.scatter(g, window.iter().copied(), x, out);
                }
            }
        }
        Ok(tvec!(dx.into_tvalue()))
    }
}

impl TypedOp for PoolGradient {
    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        Ok(tvec!(inputs[1].without_value()))
    }
    as_op!();
}
