//! Which way each value of a weight is rounded: so that what the site computes changes least.
//!
//! A frozen weight lies on its grid, and what was learned beside it is often less than half a step. To the nearest code, all of that would be
//! lost. But what is learned adds up over the inputs of a site, and so do errors; they are made to cancel where the site reads much.

use super::codes::{Grid, RANGE};
use crate::adapter::Moment;

/// Passes over a row; some five are needed.
const SWEEPS: usize = 16;

/// Moves the codes of a row, which are the nearest to `row` at first, one by one to where e^T C e is least, e being the error of the row and C
/// the second moment of what it is multiplied with; until no move of a single code makes that less. A value goes up or down to a code next to
/// it, and no further: a single one that made up for all others would do so on these inputs alone.
///
/// Source: coordinate descent on the layer's error, QuantEase, arXiv 2309.01885.
pub(super) fn settle(codes: &mut [i8], row: &[f32], grid: &Grid, moment: &Moment) {
    let mut errors: Vec<f32> = codes.iter().zip(row).map(|(code, value)| grid.value(*code) - value).collect();
    let mut reach = moment.reach(&errors);
    for _ in 0..SWEEPS {
        let mut has_moved = false;
        for (place, code) in codes.iter_mut().enumerate() {
            let steps = -reach.slope(place, errors[place]) / (moment.at(place) * grid.scale);
            let exact = grid.place(row[place]);
            if !exact.is_finite() {
                continue;
            }
            let [low, high] = [exact.floor(), exact.ceil()].map(|end| end.clamp(RANGE[0], RANGE[1]));
            let wanted = (f32::from(*code) + steps.round_ties_even()).clamp(low, high);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adapter::Moment;

    #[test]
    fn what_is_less_than_half_a_step_survives_where_the_site_reads_much() {
        // A row on its grid, and a change of a third of a step along what is read: to the nearest code all of it is lost.
        let (in_dim, scale) = (48, 0.1f32);
        let along: Vec<f32> = (0..in_dim).map(|at| 1.0 + 0.5 * (at as f32).sin()).collect();
        let c = (0..in_dim * in_dim).map(|at| along[at / in_dim] * along[at % in_dim]).collect();
        let moment = Moment::whole(c, in_dim);
        let grid = Grid { scale, zero: 0 };
        let row: Vec<f32> = (0..in_dim).map(|at| scale * ((at % 7) as f32 - 3.0 + 0.33)).collect();
        let mut codes: Vec<i8> = (0..in_dim).map(|at| (at % 7) as i8 - 3).collect();
        let product = |codes: &[i8]| codes.iter().zip(&along).map(|(code, x)| grid.value(*code) * x).sum::<f32>();
        let exact: f32 = row.iter().zip(&along).map(|(w, x)| w * x).sum();
        let before = (product(&codes) - exact).abs();
        settle(&mut codes, &row, &grid, &moment);
        let after = (product(&codes) - exact).abs();
        println!("off by {before} to the nearest, by {after} settled");
        assert!(after < 0.05 * before);
        let moved = codes.iter().enumerate().map(|(at, code)| (code - ((at % 7) as i8 - 3)).abs()).max();
        assert!(moved <= Some(1), "no code moves by more than a step");
    }
}
