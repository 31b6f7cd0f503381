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
    fn place(&self, value: f32) -> f32 {
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
