//! The learning rate over a run.

use super::math::cos;

/// How the rate falls after warm-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
enum Fall {
    Linear,
    Cosine,
}

/// A learning rate over a run: it rises linearly over the warm-up, then falls to 0.
#[derive(Debug, Clone, Copy, PartialEq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Schedule {
    peak: f32,
    warmup: u64,
    steps: u64,
    fall: Fall,
}

impl Schedule {
    /// lr(t) = peak min((t + 1) / warmup, (steps - t) / (steps - warmup)), t from 0.
    #[must_use]
    pub const fn linear(peak: f32, warmup: u64, steps: u64) -> Self {
        Schedule { peak, warmup, steps, fall: Fall::Linear }
    }

    /// The same rise, then a half cosine.
    #[must_use]
    pub const fn cosine(peak: f32, warmup: u64, steps: u64) -> Self {
        Schedule { peak, warmup, steps, fall: Fall::Cosine }
    }

    /// The rate at step `t`, counted from 0.
    #[must_use]
    pub fn rate(&self, t: u64) -> f32 {
        let rise = if self.warmup == 0 { 1.0 } else { (t + 1) as f32 / self.warmup as f32 };
        let rest = self.steps.saturating_sub(self.warmup).max(1) as f32;
        let left = (self.steps.saturating_sub(t) as f32 / rest).min(1.0);
        let fall = match self.fall {
            Fall::Linear => left,
            Fall::Cosine => 0.5 - 0.5 * cos(::core::f32::consts::PI * left),
        };
        self.peak * rise.min(fall)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_linear_schedule_is_the_peers() {
        let schedule = Schedule::linear(3e-3, 10, 105);
        for t in 0..105u64 {
            let expected = 3e-3 * f64::min((t + 1) as f64 / 10.0, (105 - t) as f64 / 95.0);
            assert!((f64::from(schedule.rate(t)) - expected).abs() < 1e-8, "step {t}");
        }
        assert!(schedule.rate(105) == 0.0 && Schedule::cosine(1.0, 10, 105).rate(104) < 1e-3);
    }
}
