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
    fn too_few_values_have_no_spread_and_none_have_no_mean() {
        assert_eq!((mean(&[]), mean(&[0.5]), deviation(&[0.5])), (None, Some(0.5), None));
        assert_eq!(difference(&[0.5], &[0.25]), Some(Difference { mean: 0.25, standard_error: None }));
        assert_eq!(difference(&[], &[]), None);
    }
}
