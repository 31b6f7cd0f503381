//! Products that are small, narrow or shallow. For these the order in which the products' library adds up depends on the processor;
//! a lesson multiplies the last bit that differs. Here the order is one for all.

use faer::prelude::ReborrowMut;
use faer::{Accum, MatMut, MatRef, RowRef};
use pulp::{Arch, Simd, WithSimd};

/// Sums that run at a time: a vector of the widest processor.
const LANES: usize = 16;
/// Multiply-adds up to which the library takes kernels of their own (its `NANO_GEMM_THRESHOLD`).
const MOST: usize = 16 * 16 * 16;

/// Whether the library's order depends on the processor for a product of this many rows, columns and terms per sum: vectors, up to
/// two terms, and all that is small.
pub(super) fn is_small(rows: usize, columns: usize, terms: usize) -> bool {
    rows == 1 || columns == 1 || terms <= 2 || rows * columns * terms <= MOST
}

/// dst = factor lhs rhs, or with [`Accum::Add`] dst += factor lhs rhs.
///
/// Where rows of rhs lie together, a sum's terms are added one after the other; else its terms t, t + 16, t + 32, ... are, and then the
/// sixteen sums of those.
pub(super) fn product(dst: MatMut<'_, f32>, keep: Accum, factor: f32, [lhs, rhs]: [MatRef<'_, f32>; 2]) {
    let by_row = dst.col_stride() == 1;
    let (dst, lhs, rhs) =
        if by_row { (dst, lhs, rhs) } else { (dst.transpose_mut(), rhs.transpose(), lhs.transpose()) };
    Arch::new().dispatch(Product { dst, keep, factor, lhs, rhs });
}

struct Product<'p> {
    dst: MatMut<'p, f32>,
    keep: Accum,
    factor: f32,
    lhs: MatRef<'p, f32>,
    rhs: MatRef<'p, f32>,
}

impl WithSimd for Product<'_> {
    type Output = ();

    /// No vectors by name: loops over [`LANES`], which the compiler turns into those of the processor that it is told of.
    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Product { mut dst, keep, factor, lhs, rhs } = self;
        // All rows meet a block of columns while it is at hand.
        for start in (0..dst.ncols()).step_by(LANES) {
            let width = LANES.min(dst.ncols() - start);
            let (dst, rhs) = (dst.rb_mut().subcols_mut(start, width), rhs.subcols(start, width));
            for (dst, lhs) in dst.row_iter_mut().zip(lhs.row_iter()) {
                let sums = if rhs.col_stride() == 1 { by_rows(lhs, rhs) } else { by_columns(lhs, rhs) };
                match keep {
                    Accum::Replace => dst.iter_mut().zip(sums).for_each(|(dst, sum)| *dst = factor * sum),
                    Accum::Add => dst.iter_mut().zip(sums).for_each(|(dst, sum)| *dst = factor.mul_add(sum, *dst)),
                }
            }
        }
    }
}

/// lhs rhs for up to sixteen columns, fastest where rows lie together.
#[inline(always)]
fn by_rows(lhs: RowRef<'_, f32>, rhs: MatRef<'_, f32>) -> [f32; LANES] {
    let mut sums = [0.0; LANES];
    for (&factor, row) in lhs.iter().zip(rhs.row_iter()) {
        match row.try_as_row_major().and_then(|row| row.as_slice().first_chunk::<LANES>()) {
            Some(row) => (0..LANES).for_each(|lane| sums[lane] = factor.mul_add(row[lane], sums[lane])),
            None => sums.iter_mut().zip(row.iter()).for_each(|(sum, value)| *sum = factor.mul_add(*value, *sum)),
        }
    }
    sums
}

/// lhs rhs for up to sixteen columns, which lie together each.
#[inline(always)]
fn by_columns(lhs: RowRef<'_, f32>, rhs: MatRef<'_, f32>) -> [f32; LANES] {
    let mut sums = [0.0; LANES];
    for (sum, column) in sums.iter_mut().zip(rhs.col_iter()) {
        let mut lanes = [0.0; LANES];
        match (lhs.try_as_row_major(), column.try_as_col_major()) {
            (Some(lhs), Some(column)) => {
                let (lhs, last) = lhs.as_slice().as_chunks::<LANES>();
                let (column, end) = column.as_slice().as_chunks::<LANES>();
                for (lhs, column) in lhs.iter().zip(column) {
                    (0..LANES).for_each(|lane| lanes[lane] = lhs[lane].mul_add(column[lane], lanes[lane]));
                }
                lanes.iter_mut().zip(last).zip(end).for_each(|((lane, a), b)| *lane = a.mul_add(*b, *lane));
            }
            // The same, where values are apart.
            _ => lhs.iter().zip(column.iter()).enumerate().for_each(|(term, (a, b))| {
                lanes[term % LANES] = a.mul_add(*b, lanes[term % LANES]);
            }),
        }
        *sum = lanes.iter().sum();
    }
    sums
}

#[cfg(test)]
mod tests {
    use faer::Mat;
    use proptest::prelude::*;

    use super::*;

    /// The values of a matrix, by row or by column in memory.
    fn matrix(rows: usize, columns: usize, phase: f32, by_row: bool) -> (Vec<f32>, [usize; 2], bool) {
        ((0..rows * columns).map(|i| (i as f32 * 1.37 + phase).sin()).collect(), [rows, columns], by_row)
    }

    fn view((values, [rows, columns], by_row): &(Vec<f32>, [usize; 2], bool)) -> MatRef<'_, f32> {
        match by_row {
            true => MatRef::from_row_major_slice(values, *rows, *columns),
            false => MatRef::from_column_major_slice(values, *rows, *columns),
        }
    }

    proptest! {
        #[test]
        fn every_way_of_lying_gives_the_product_of_its_definition(
            rows in 1..20usize, columns in 1..40usize, terms in 1..50usize, ways in 0..16u8, factor in -2.0..2.0f32
        ) {
            let [a_by_row, b_by_row, y_by_row, add] = [1, 2, 4, 8].map(|bit| ways & bit != 0);
            let (a, b) = (matrix(rows, terms, 0.1, a_by_row), matrix(terms, columns, 0.7, b_by_row));
            let (a, b) = (view(&a), view(&b));
            let before = matrix(rows, columns, 0.3, y_by_row);
            let mut after = before.0.clone();
            let dst = match y_by_row {
                true => MatMut::from_row_major_slice_mut(&mut after, rows, columns),
                false => MatMut::from_column_major_slice_mut(&mut after, rows, columns),
            };
            product(dst, if add { Accum::Add } else { Accum::Replace }, factor, [a, b]);
            let (before, after) = (view(&before), (after, [rows, columns], y_by_row));
            let wanted = Mat::<f64>::from_fn(rows, columns, |i, j| {
                let sum: f64 = (0..terms).map(|t| f64::from(a[(i, t)]) * f64::from(b[(t, j)])).sum();
                f64::from(factor) * sum + if add { f64::from(before[(i, j)]) } else { 0.0 }
            });
            for (i, j) in (0..rows).flat_map(|i| (0..columns).map(move |j| (i, j))) {
                let found = f64::from(view(&after)[(i, j)]);
                prop_assert!((found - wanted[(i, j)]).abs() <= 1e-5 * terms as f64, "{found} for {}", wanted[(i, j)]);
            }
        }

        #[test]
        fn vectors_of_any_width_give_the_same_bits(
            rows in 1..20usize, columns in 1..40usize, terms in 1..50usize, ways in 0..8u8
        ) {
            let [a_by_row, b_by_row, add] = [1, 2, 4].map(|bit| ways & bit != 0);
            let (a, b) = (matrix(rows, terms, 0.1, a_by_row), matrix(terms, columns, 0.7, b_by_row));
            let keep = if add { Accum::Add } else { Accum::Replace };
            let [mut wide, mut one] = [(); 2].map(|()| vec![0.25; rows * columns]);
            product(MatMut::from_row_major_slice_mut(&mut wide, rows, columns), keep, 0.7, [view(&a), view(&b)]);
            let dst = MatMut::from_row_major_slice_mut(&mut one, rows, columns);
            Product { dst, keep, factor: 0.7, lhs: view(&a), rhs: view(&b) }.with_simd(pulp::Scalar::new());
            prop_assert_eq!(wide, one);
        }
    }
}
