//! Codes for a weight that has changed: on the grid that it had, where it fits there, or on a wider one.

use ndarray::{Array2, ArrayView1, ArrayView2, Axis};

use super::rounding::settle;
use crate::adapter::Moment;

/// Smallest and largest code, uint8 less 128.
pub(super) const RANGE: [f32; 2] = [-128.0, 127.0];
/// The largest code of a grid around 0.
const LARGEST: f32 = 127.0;

/// A grid of codes: w = (code - zero) * scale. Codes and zeros are int8, or uint8 less 128.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Grid {
    pub(super) scale: f32,
    pub(super) zero: i8,
}

/// A weight in codes, `out_dim` x `in_dim`.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Coded {
    pub(super) codes: Array2<i8>,
    /// Of every row.
    pub(super) grids: Vec<Grid>,
    /// Values that lay outside of their grid.
    pub(super) saturated: usize,
}

impl Grid {
    /// Whether every value has a code within the range.
    fn holds<'w>(&self, values: impl IntoIterator<Item = &'w f32>) -> bool {
        values.into_iter().all(|value| (RANGE[0]..=RANGE[1]).contains(&self.place(*value).round_ties_even()))
    }

    /// What a code stands for.
    pub(super) fn value(&self, code: i8) -> f32 {
        f32::from(i16::from(code) - i16::from(self.zero)) * self.scale
    }

    /// Where a value lies on the grid.
    pub(super) fn place(&self, value: f32) -> f32 {
        value / self.scale + f32::from(self.zero)
    }

    /// The narrowest grid of the same kind that holds every value: around 0 where this one is, else from the smallest to the largest.
    fn widened<'w>(&self, values: impl IntoIterator<Item = &'w f32>) -> Grid {
        let (low, high) = values.into_iter().fold((0.0f32, 0.0f32), |(low, high), v| (low.min(*v), high.max(*v)));
        if self.zero == 0 {
            return Grid { scale: (high.max(-low) / LARGEST).max(f32::MIN_POSITIVE), zero: 0 };
        }
        let scale = ((high - low) / (RANGE[1] - RANGE[0])).max(f32::MIN_POSITIVE);
        let zero = (RANGE[0] - low / scale).round_ties_even().clamp(RANGE[0], RANGE[1]);
        Grid { scale, zero: zero as i8 }
    }
}

/// The codes of `weight`, whose rows had `grids`. Rows of one group have one grid; `is_one` says that all rows are one group.
///
/// A group keeps its grid where all of its values fit, or where the grid `is_fixed`; values outside are then cut off. With the second moment of
/// what the weight is multiplied with, codes are chosen so that their errors cancel; without, each is the nearest.
pub(super) fn encode(
    weight: ArrayView2<f32>,
    grids: &[Grid],
    [is_one, is_fixed]: [bool; 2],
    moment: Option<&Moment>,
) -> Coded {
    let new: Vec<Grid> = match grids.first() {
        Some(grid) if is_one => {
            let keeps = is_fixed || grid.holds(weight);
            vec![if keeps { *grid } else { grid.widened(weight) }; grids.len()]
        }
        _ => weight.rows().into_iter().zip(grids).map(|(row, grid)| grid_of(row, *grid, is_fixed)).collect(),
    };
    let (mut codes, mut saturated) = (Array2::zeros(weight.dim()), 0);
    for ((row, grid), mut out) in weight.rows().into_iter().zip(&new).zip(codes.axis_iter_mut(Axis(0))) {
        for (value, code) in row.iter().zip(&mut out) {
            let place = grid.place(*value).round_ties_even();
            saturated += usize::from(!(RANGE[0]..=RANGE[1]).contains(&place));
            *code = place.clamp(RANGE[0], RANGE[1]) as i8;
        }
        let whole = moment.filter(|moment| moment.in_dim() == row.len());
        if let (Some(moment), Some(row), Some(codes)) = (whole, row.as_slice(), out.as_slice_mut()) {
            settle(codes, row, grid, moment);
        }
    }
    Coded { codes, grids: new, saturated }
}

fn grid_of(row: ArrayView1<f32>, grid: Grid, is_fixed: bool) -> Grid {
    if is_fixed || grid.holds(row) { grid } else { grid.widened(row) }
}

#[cfg(test)]
mod tests {
    use ndarray::array;

    use super::*;

    #[test]
    fn a_row_keeps_its_grid_where_it_fits_and_gets_a_wider_one_where_it_does_not() {
        let grids = [Grid { scale: 0.01, zero: 0 }; 2];
        let weight = array![[1.27, -1.28, 0.004], [1.28, 0.0, -0.5]];
        let coded = encode(weight.view(), &grids, [false, false], None);
        assert_eq!(coded.codes.row(0).to_vec(), [127, -128, 0]);
        assert_eq!((coded.grids[0], coded.saturated), (grids[0], 0));
        assert_eq!((coded.grids[1].zero, coded.codes[(1, 0)]), (0, 127));
        assert!((coded.grids[1].value(127) - 1.28).abs() < 1e-6);
        let fixed = encode(weight.view(), &grids, [false, true], None);
        assert_eq!((fixed.grids, fixed.saturated), (grids.to_vec(), 1));
    }

    #[test]
    fn one_grid_of_all_rows_moves_its_zero_point_only_if_it_has_one() {
        let weight = array![[2.0, -0.2], [0.1, 0.0]];
        let grids = [Grid { scale: 0.01, zero: 28 }; 2];
        let coded = encode(weight.view(), &grids, [true, false], None);
        assert_eq!(coded.grids[0], coded.grids[1]);
        for (value, code) in weight.iter().zip(&coded.codes) {
            assert!((coded.grids[0].value(*code) - value).abs() <= 0.51 * coded.grids[0].scale);
        }
        let symmetric = encode(weight.view(), &[Grid { scale: 0.01, zero: 0 }; 2], [true, false], None);
        assert_eq!(symmetric.grids[0].zero, 0);
    }
}
