//! Products of any size for a processor on which a number is multiplied and added at a time: 32-bit ARM, whose vectors the compiler does
//! not use for floats, as they take the smallest numbers for zero.
//!
//! A sum's terms are added one after the other, so its bits are those of any other order of loops. Four rows meet four columns at a time:
//! each value that is loaded serves four sums, which stay in registers.

use faer::prelude::ReborrowMut;
use faer::{Accum, MatMut, MatRef};

use super::scratch::Scratch;

/// Rows and columns of a tile.
const SIDE: usize = 4;

/// dst = factor lhs rhs, or with [`Accum::Add`] dst += factor lhs rhs.
pub(super) fn product(dst: MatMut<'_, f32>, keep: Accum, factor: f32, lhs: MatRef<'_, f32>, rhs: MatRef<'_, f32>) {
    let by_row = dst.col_stride() == 1;
    let (mut dst, lhs, rhs) =
        if by_row { (dst, lhs, rhs) } else { (dst.transpose_mut(), rhs.transpose(), lhs.transpose()) };
    let (rows, columns, terms) = (dst.nrows(), dst.ncols(), lhs.ncols());
    if terms == 0 {
        return if matches!(keep, Accum::Replace) {
            dst.fill(0.0)
        };
    }
    let panel = SIDE * terms;
    let mut b = Scratch::of(columns.div_ceil(SIDE) * panel);
    for (start, panel) in (0..columns).step_by(SIDE).zip(b.chunks_exact_mut(panel)) {
        pack(rhs.subcols(start, SIDE.min(columns - start)).transpose(), panel);
    }
    let mut a = Scratch::of(panel);
    for row in (0..rows).step_by(SIDE) {
        let height = SIDE.min(rows - row);
        pack(lhs.subrows(row, height), &mut a);
        for (column, b) in (0..columns).step_by(SIDE).zip(b.chunks_exact(panel)) {
            let sums = tile(&a, b);
            let width = SIDE.min(columns - column);
            for (dst, sums) in dst.rb_mut().submatrix_mut(row, column, height, width).row_iter_mut().zip(sums) {
                match keep {
                    Accum::Replace => dst.iter_mut().zip(sums).for_each(|(dst, sum)| *dst = factor * sum),
                    Accum::Add => dst.iter_mut().zip(sums).for_each(|(dst, sum)| *dst = factor.mul_add(sum, *dst)),
                }
            }
        }
    }
}

/// Up to four rows, term by term; what is missing of four is zero.
fn pack(rows: MatRef<'_, f32>, panel: &mut [f32]) {
    let (panel, _) = panel.as_chunks_mut::<SIDE>();
    if rows.nrows() < SIDE {
        panel.fill([0.0; SIDE]);
    }
    match rows.row_stride() {
        1 => panel.iter_mut().zip(rows.col_iter()).for_each(|(to, column)| {
            let values = column.try_as_col_major().map(|column| column.as_slice()).unwrap_or_default();
            to.iter_mut().zip(values).for_each(|(to, value)| *to = *value);
        }),
        _ => rows.row_iter().enumerate().for_each(|(at, row)| {
            panel.iter_mut().zip(row.iter()).for_each(|(to, value)| to[at] = *value);
        }),
    }
}

/// The sums over terms of four rows and four columns.
#[inline(always)]
fn tile(a: &[f32], b: &[f32]) -> [[f32; SIDE]; SIDE] {
    let mut sums = [[0.0; SIDE]; SIDE];
    for (a, b) in a.as_chunks::<SIDE>().0.iter().zip(b.as_chunks::<SIDE>().0) {
        for (sums, a) in sums.iter_mut().zip(a) {
            sums.iter_mut().zip(b).for_each(|(sum, b)| *sum = a.mul_add(*b, *sum));
        }
    }
    sums
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn view(values: &[f32], [rows, columns]: [usize; 2], by_row: bool) -> MatRef<'_, f32> {
        match by_row {
            true => MatRef::from_row_major_slice(values, rows, columns),
            false => MatRef::from_column_major_slice(values, rows, columns),
        }
    }

    fn wave(count: usize, phase: f32) -> Vec<f32> {
        (0..count).map(|i| (i as f32 * 1.37 + phase).sin()).collect()
    }

    #[test]
    fn a_sum_of_no_terms_is_zero() {
        for (keep, wanted) in [(Accum::Replace, 0.0), (Accum::Add, 5.0)] {
            let mut y = [5.0; 6];
            product(
                MatMut::from_row_major_slice_mut(&mut y, 2, 3),
                keep,
                -1.0,
                view(&[], [2, 0], true),
                view(&[], [0, 3], true),
            );
            assert_eq!(y, [wanted; 6]);
        }
    }

    proptest! {
        #[test]
        fn a_sum_has_the_bits_of_its_terms_added_one_after_the_other(
            rows in 1..20usize, columns in 1..20usize, terms in 1..30usize, ways in 0..16u8, factor in -2.0..2.0f32
        ) {
            let [a_by_row, b_by_row, y_by_row, add] = [1, 2, 4, 8].map(|bit| ways & bit != 0);
            let (a, b, before) = (wave(rows * terms, 0.1), wave(terms * columns, 0.7), wave(rows * columns, 0.3));
            let (a, b) = (view(&a, [rows, terms], a_by_row), view(&b, [terms, columns], b_by_row));
            let mut after = before.clone();
            let dst = match y_by_row {
                true => MatMut::from_row_major_slice_mut(&mut after, rows, columns),
                false => MatMut::from_column_major_slice_mut(&mut after, rows, columns),
            };
            product(dst, if add { Accum::Add } else { Accum::Replace }, factor, a, b);
            let [before, after] = [&before, &after].map(|y| view(y, [rows, columns], y_by_row));
            for (i, j) in (0..rows).flat_map(|i| (0..columns).map(move |j| (i, j))) {
                let sum = (0..terms).fold(0.0, |sum: f32, t| a[(i, t)].mul_add(b[(t, j)], sum));
                let wanted = if add { factor.mul_add(sum, before[(i, j)]) } else { factor * sum };
                prop_assert_eq!(after[(i, j)].to_bits(), wanted.to_bits());
            }
        }
    }
}
