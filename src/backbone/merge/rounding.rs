//! Which way each value of a weight is rounded: so that what the site computes changes least.
//!
//! A frozen weight lies on its grid, and what was learned beside it is often less than half a step. To the nearest code, all of that would be
//! lost. But what is learned adds up over the inputs of a site, and so do errors; they are made to cancel where the site reads much.

use super::codes::{Grid, RANGE};
use crate::adapter::Moment;

/// Passes over a row; some five are needed.
const SWEEPS: usize = 16;

/// Moves the codes of a row, which are the nearest to `row` at first, one by one to where e^T C e is least, e being the error of the row and C
/// the second moment of what it is multiplied with; until no move of a single code makes that less.
///
/// Source: coordinate descent on the layer's error, QuantEase, arXiv 2309.01885.
pub(super) fn settle(codes: &mut [i8], row: &[f32], grid: &Grid, moment: &Moment) {
    let mut errors: Vec<f32> = codes.iter().zip(row).map(|(code, value)| grid.value(*code) - value).collect();
    let mut reach = moment.reach(&errors);
    for _ in 0..SWEEPS {
        let mut has_moved = false;
        for (place, code) in codes.iter_mut().enumerate() {
            let steps = -reach.slope(place, errors[place]) / (moment.at(place) * grid.scale);
            let wanted = (f32::from(*code) + steps.round_ties_even()).clamp(RANGE[0], RANGE[1]);
            let by = (wanted - f32::from(*code)) * grid.scale;
            if by != 0.0 && by.is_finite() {
                *code = wanted as i8;
                errors[place] += by;
                reach.add(place, by);
                has_moved = true;
            }
        }
        if !has_moved {
            break;
        }
    }
}
