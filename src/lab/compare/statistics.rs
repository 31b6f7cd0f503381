//! Mean, spread, and how sure a difference is.

use serde::Serialize;

/// The arithmetic mean; `None` of nothing.
pub(super) fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

/// The sample standard deviation, sqrt(sum (x - mean)^2 / (n - 1)); `None` of fewer than two values.
pub(super) fn deviation(values: &[f64]) -> Option<f64> {
    let mean = mean(values).filter(|_| values.len() > 1)?;
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    Some((squares / (values.len() - 1) as f64).sqrt())
}

/// A mean of paired differences and its standard error.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Difference {
    /// Mean of the differences.
    pub mean: f64,
    /// Their standard deviation over sqrt(n); null of fewer than two.
    pub standard_error: Option<f64>,
}

/// Two-sided 95 % of Student's t by degrees of freedom, from 1 on.
const STUDENT: [f64; 10] = [12.71, 4.31, 3.19, 2.78, 2.58, 2.45, 2.37, 2.31, 2.27, 2.23];

/// How many standard errors the mean of so many differences lies from 0, where chance alone brings it as far in one of twenty cases:
/// Student's t, two-sided, with `runs - 1` degrees of freedom. `None` of fewer than two. Beyond eleven runs a bound from above.
#[must_use]
pub fn beyond_chance(runs: usize) -> Option<f64> {
    let freedom = runs.checked_sub(1).filter(|freedom| *freedom > 0)?;
    Some(STUDENT.get(freedom - 1).copied().unwrap_or(1.96 + 2.7 / freedom as f64))
}

/// `ours` minus `theirs`, pair by pair.
pub(super) fn difference(ours: &[f64], theirs: &[f64]) -> Option<Difference> {
    let differences: Vec<f64> = ours.iter().zip(theirs).map(|(ours, theirs)| ours - theirs).collect();
    let standard_error = deviation(&differences).map(|sd| sd / (differences.len() as f64).sqrt());
    Some(Difference { mean: mean(&differences)?, standard_error })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(found: Option<f64>, expected: f64) {
        assert!((found.unwrap() - expected).abs() < 1e-12, "{found:?} is not {expected}");
    }

    #[test]
    fn figures_are_those_of_pythons_statistics_module() {
        // statistics.mean and statistics.stdev of these lists, and stdev([o - t ...]) / sqrt(5).
        let ours = [0.61, 0.64, 0.58, 0.66, 0.63];
        let theirs = [0.60, 0.61, 0.59, 0.62, 0.60];
        near(mean(&ours), 0.624);
        near(deviation(&ours), 0.030495901363953817);
        let difference = difference(&ours, &theirs).unwrap();
        near(Some(difference.mean), 0.020000000000000018);
        near(difference.standard_error, 0.008944271909999163);
    }

    #[test]
    fn few_runs_have_to_differ_more() {
        // Of any table of Student's t; at most so much is added by rounding up.
        for (runs, t) in [
            (2, 12.7062),
            (3, 4.3027),
            (4, 3.1824),
            (5, 2.7764),
            (11, 2.2281),
            (12, 2.2010),
            (31, 2.0423),
            (121, 1.9799),
        ] {
            let found = beyond_chance(runs).unwrap();
            assert!((t..t + 0.02).contains(&found), "{runs}: {found} for {t}");
        }
        assert_eq!((beyond_chance(0), beyond_chance(1)), (None, None));
    }

    #[test]
    fn too_few_values_have_no_spread_and_none_have_no_mean() {
        assert_eq!((mean(&[]), mean(&[0.5]), deviation(&[0.5])), (None, Some(0.5), None));
        assert_eq!(difference(&[0.5], &[0.25]), Some(Difference { mean: 0.25, standard_error: None }));
        assert_eq!(difference(&[], &[]), None);
    }
}
