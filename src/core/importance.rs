//! Importance: which pair the loss would miss least.

use super::error::{Buffer, CoreError};
use super::math::{abs, dot};
use super::site::Site;

impl<const RANK: usize, const RESERVE: usize> Site<'_, RANK, RESERVE> {
    /// Takes a step's gradients into sensitivity and uncertainty, and makes every pair a step older; call it once a
    /// step, before [`Site::adamw`].
    ///
    /// I = |w dL/dw|; sensitivity <- beta1 sensitivity + (1 - beta1) I; uncertainty <- beta2 uncertainty +
    /// (1 - beta2) |I - sensitivity|, with the new sensitivity. Source: AdaLoRA, arXiv 2303.10512, eq. 8 to 10.
    ///
    /// # Errors
    /// As [`Site::check`]; `Length` where `gradient` is no plane.
    pub fn score(&mut self, gradient: &[f32]) -> Result<(), CoreError> {
        self.check()?;
        let plane = self.shape.plane_len();
        CoreError::check(Buffer::Gradient, plane, gradient.len())?;
        self.ledger.grow_older();
        let (beta1, beta2) = (self.config.beta_sensitivity, self.config.beta_uncertainty);
        let (values, averages) = self.state.split_at_mut(3 * plane);
        let (sensitivity, uncertainty) = averages.split_at_mut(plane);
        for (((w, g), s), u) in values.iter().zip(gradient).zip(sensitivity).zip(uncertainty) {
            let now = abs(w * g);
            *s = beta1 * *s + (1.0 - beta1) * now;
            *u = beta2 * *u + (1.0 - beta2) * abs(now - *s);
        }
        Ok(())
    }

    /// S_k = mean over b_k of (sensitivity uncertainty) + the same over a_k where it learns; 0 where there is no such pair.
    #[must_use]
    pub fn importance(&self, pair: usize) -> f32 {
        if self.check().is_err() || pair >= self.shape.rank {
            return 0.0;
        }
        let plane = self.shape.plane_len();
        let sensitivity = self.state.get(3 * plane..4 * plane).unwrap_or_default();
        let uncertainty = self.state.get(4 * plane..).unwrap_or_default();
        let [a, b] = self.shape.pair_spans(pair).map(|span| {
            let length = span.len().max(1) as f32;
            let s = sensitivity.get(span.clone()).unwrap_or_default();
            dot(s, uncertainty.get(span).unwrap_or_default()) / length
        });
        b + a
    }
}
