//! Products of two activations, as in attention: EinSum over a batch of matrices, on the same kernel as the frozen maps.

use faer::{Accum, MatMut, MatRef};
use tract_onnx::prelude::*;
use tract_onnx::tract_core::internal::*;
use tract_onnx::tract_core::ops::einsum::EinSum;

use super::map_op::fused_multiply_adds;
use super::views::{floats, floats_mut};
use crate::adapter::kernel::product;

/// C = A B for every matrix of a batch: A `[m, k]`, B `[k, n]`, C `[m, n]`.
#[derive(Debug, Clone, PartialEq, Eq)]
struct BatchProduct {
    /// m, k, n.
    sizes: [usize; 3],
    /// Lengths of the batch axes.
    batch: TVec<usize>,
    /// How A, B and C lie in their tensors.
    lie: [Lie; 3],
    /// Of the output.
    shape: TVec<usize>,
}

/// Distances, in floats, between rows, columns (one of them 1) and the places on each batch axis.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Lie {
    rows: usize,
    columns: usize,
    batch: TVec<usize>,
}

/// Puts products in the place of the EinSums that are some.
pub(crate) fn use_products(model: &mut TypedModel) -> TractResult<()> {
    for id in model.eval_order()? {
        let node = model.node(id);
        let Some(einsum) = node.op_as::<EinSum>() else { continue };
        let Some(op) = BatchProduct::of(einsum, &model.node_input_facts(id)?, &node.outputs[0].fact) else { continue };
        let mut patch = TypedModelPatch::default();
        let inputs = patch.taps(model, &node.inputs)?;
        let output = patch.wire_node(&node.name, op, &inputs)?[0];
        patch.shunt_outside(model, id.into(), output)?;
        patch.apply(model)?;
    }
    Ok(())
}

impl BatchProduct {
    /// The product that an EinSum is, if its axes lie as those of matrices.
    fn of(einsum: &EinSum, inputs: &[&TypedFact], output: &TypedFact) -> Option<Self> {
        let plain = einsum.q_params.is_none() && inputs.iter().all(|fact| fact.datum_type == f32::datum_type());
        let expression = einsum.axes.to_string();
        let (from, c) = expression.split_once("->")?;
        let (a, b) = from.split_once(',').filter(|_| plain && inputs.len() == 2)?;
        let [a, b, c] = [axes(a, inputs[0])?, axes(b, inputs[1])?, axes(c, output)?];
        let has = |axes: &[Axis], axis: &Axis| axes.iter().any(|other| other.letter == axis.letter);
        let pick = |of: &[Axis], wanted: [bool; 3]| -> TVec<Axis> {
            of.iter().filter(|axis| [has(&a, axis), has(&b, axis), has(&c, axis)] == wanted).copied().collect()
        };
        let (batch, m, n) =
            (pick(&c, [true, true, true]), pick(&c, [true, false, true]), pick(&c, [false, true, true]));
        let k = pick(&a, [true, true, false]);
        // Every axis is one of these: what only one tensor has would have to be summed, or repeated.
        let all = [(&a, batch.len() + m.len() + k.len()), (&b, batch.len() + k.len() + n.len())];
        if all.iter().any(|(axes, count)| axes.len() != *count) || c.len() != batch.len() + m.len() + n.len() {
            return None;
        }
        let lie = [Lie::of(&a, &m, &k, &batch)?, Lie::of(&b, &k, &n, &batch)?, Lie::of(&c, &m, &n, &batch)?];
        let size = |axes: &[Axis]| axes.iter().map(|axis| axis.size).product();
        let batch = batch.iter().map(|axis| axis.size).collect();
        Some(BatchProduct {
            sizes: [size(&m), size(&k), size(&n)],
            batch,
            lie,
            shape: output.shape.as_concrete()?.into(),
        })
    }

    /// Where the matrices of one batch entry begin in A, B and C.
    fn places(&self) -> impl Iterator<Item = [usize; 3]> + '_ {
        (0..self.batch.iter().product()).map(|mut entry| {
            let mut places = [0; 3];
            for (axis, size) in self.batch.iter().enumerate().rev() {
                let at = entry % size;
                entry /= size;
                places.iter_mut().zip(&self.lie).for_each(|(place, lie)| *place += at * lie.batch[axis]);
            }
            places
        })
    }
}

/// One axis of a tensor.
#[derive(Debug, Clone, Copy)]
struct Axis {
    letter: char,
    size: usize,
    stride: usize,
}

/// The axes of a tensor that are longer than 1: others move nothing.
fn axes(letters: &str, fact: &TypedFact) -> Option<TVec<Axis>> {
    let shape = fact.shape.as_concrete()?;
    let stride = |at: usize| shape[at + 1..].iter().product();
    let axes = letters.chars().enumerate().map(|(at, letter)| Axis { letter, size: shape[at], stride: stride(at) });
    Some(axes.filter(|axis| axis.size != 1).collect())
}

impl Lie {
    /// How a matrix with the axes `rows` and `columns` lies in the tensor `axes`, if it is one.
    fn of(axes: &[Axis], rows: &[Axis], columns: &[Axis], batch: &[Axis]) -> Option<Self> {
        let own = |wanted: &[Axis]| -> Option<TVec<Axis>> {
            let find =
                |axis: &Axis| axes.iter().find(|own| own.letter == axis.letter && own.size == axis.size).copied();
            wanted.iter().map(find).collect()
        };
        // Several axes count as one where each begins where the one behind it ends.
        let merged = |axes: TVec<Axis>| -> Option<usize> {
            let dense = axes.windows(2).all(|pair| pair[0].stride == pair[1].stride * pair[1].size);
            dense.then(|| axes.last().map_or(1, |axis| axis.stride))
        };
        let (rows, columns) = (merged(own(rows)?)?, merged(own(columns)?)?);
        let batch = own(batch)?.iter().map(|axis| axis.stride).collect();
        (rows == 1 || columns == 1).then_some(Lie { rows, columns, batch })
    }

    fn matrix<'v>(&self, values: &'v [f32], rows: usize, columns: usize) -> MatRef<'v, f32> {
        match self.columns {
            1 => MatRef::from_row_major_slice_with_stride(values, rows, columns, self.rows.max(columns)),
            _ => MatRef::from_column_major_slice_with_stride(values, rows, columns, self.columns.max(rows)),
        }
    }

    fn matrix_mut<'v>(&self, values: &'v mut [f32], rows: usize, columns: usize) -> MatMut<'v, f32> {
        match self.columns {
            // faer 0.24's own row-major constructor with a stride takes rows for columns.
            1 => MatMut::from_column_major_slice_with_stride_mut(values, columns, rows, self.rows.max(columns))
                .transpose_mut(),
            _ => MatMut::from_column_major_slice_with_stride_mut(values, rows, columns, self.columns.max(rows)),
        }
    }
}

impl Op for BatchProduct {
    fn name(&self) -> StaticName {
        "BatchProduct".into()
    }
    op_as_typed_op!();
}

impl EvalOp for BatchProduct {
    op_out_of_plan!();

    fn eval(&self, _ctx: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let (a, b) = args_2!(inputs);
        let [m, k, n] = self.sizes;
        let mut c = Tensor::zero::<f32>(&self.shape)?;
        let (a, b, to) = (floats(&a)?, floats(&b)?, floats_mut(&mut c)?);
        for [at_a, at_b, at_c] in self.places() {
            let (a, b) = (self.lie[0].matrix(&a[at_a..], m, k), self.lie[1].matrix(&b[at_b..], k, n));
            product(self.lie[2].matrix_mut(&mut to[at_c..], m, n), Accum::Replace, 1.0, a, b);
        }
        Ok(tvec!(c.into_tvalue()))
    }
}

impl TypedOp for BatchProduct {
    fn output_facts(&self, _inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        Ok(tvec!(f32::fact(&*self.shape)))
    }

    fn cost(&self, _inputs: &[&TypedFact]) -> TractResult<TVec<(Cost, TDim)>> {
        Ok(fused_multiply_adds(self.batch.iter().chain(&self.sizes).product()))
    }
    as_op!();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(expression: &str, shapes: [&[usize]; 2]) -> (bool, f32) {
        let mut model = TypedModel::default();
        let inputs: Vec<OutletId> =
            (0..2).map(|ix| model.add_source(format!("x{ix}"), f32::fact(shapes[ix])).unwrap()).collect();
        let einsum = EinSum::new(expression.parse().unwrap(), f32::datum_type());
        let output = model.wire_node("product", einsum, &inputs).unwrap();
        model.select_output_outlets(&output).unwrap();
        let wave = |shape: &[usize], phase: f32| {
            let values: Vec<f32> = (0..shape.iter().product()).map(|i| (i as f32 * 1.37 + phase).sin()).collect();
            Tensor::from_shape(shape, &values).unwrap().into_tvalue()
        };
        let values: TVec<TValue> = tvec!(wave(shapes[0], 0.1), wave(shapes[1], 0.7));
        let expected = model.clone().into_runnable().unwrap().run(values.clone()).unwrap();
        use_products(&mut model).unwrap();
        let replaced = model.nodes().iter().any(|node| node.op_is::<BatchProduct>());
        let found = model.into_runnable().unwrap().run(values).unwrap();
        assert_eq!(found[0].shape(), expected[0].shape(), "{expression}");
        let pairs = floats(&found[0]).unwrap().iter().zip(floats(&expected[0]).unwrap());
        (replaced, pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f32::max))
    }

    #[test]
    fn products_of_whole_matrices_agree_with_einsum_and_others_stay() {
        for (expression, shapes, replaced) in [
            ("bmk,bkn->bmn", [&[3, 5, 7][..], &[3, 7, 4][..]], true),
            ("bmk,bnk->bmn", [&[3, 5, 7], &[3, 4, 7]], true),
            ("bkm,bnk->bnm", [&[3, 7, 5], &[3, 4, 7]], true),
            ("abmk,abkn->abmn", [&[1, 3, 5, 7], &[1, 3, 7, 4]], true),
            ("abmk,abkn->abmn", [&[2, 3, 5, 7], &[2, 3, 7, 4]], true),
            ("mk,kn->mn", [&[5, 7], &[7, 1]], true),
            ("mkl,kln->nm", [&[5, 7, 2], &[7, 2, 4]], true),
            ("mbk,bkn->mbn", [&[5, 3, 7], &[3, 7, 4]], true),
            ("ambk,anbk->bmn", [&[1, 6, 2, 7], &[1, 4, 2, 7]], true),
            ("bmk,akbn->ambn", [&[2, 6, 5], &[1, 5, 2, 3]], true),
            ("bcmk,cbkn->bmcn", [&[2, 3, 6, 5], &[3, 2, 5, 4]], true),
            ("mkb,knb->mnb", [&[5, 7, 3], &[7, 4, 3]], false),
            ("mkj,kn->mn", [&[5, 7, 2], &[7, 4]], false),
            ("bmk,bkn->bmn", [&[3, 5, 7], &[1, 7, 4]], true),
        ] {
            let (found, difference) = run(expression, shapes);
            assert_eq!(found, replaced, "{expression} on {shapes:?}");
            assert!(difference <= 1e-5, "{expression}: {difference}");
        }
    }
}
