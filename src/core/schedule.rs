//! The learning rate over a run, and of what starts within it.

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

    /// What each pair's rate at step `step`, counted from 0, follows from.
    #[must_use]
    pub const fn at(self, step: u64) -> PairRate {
        PairRate { schedule: self, step }
    }

    /// The rate at step `t`, counted from 0.
    #[must_use]
    pub fn rate(&self, t: u64) -> f32 {
        let rise = if self.warmup == 0 { 1.0 } else { t.saturating_add(1) as f32 / self.warmup as f32 };
        let rest = self.steps.saturating_sub(self.warmup).max(1) as f32;
        let left = (self.steps.saturating_sub(t) as f32 / rest).min(1.0);
        let fall = match self.fall {
            Fall::Linear => left,
            Fall::Cosine => 0.5 - 0.5 * cos(::core::f32::consts::PI * left),
        };
        self.peak * rise.min(fall)
    }
}

/// One step of a schedule.
#[derive(Debug, Clone, Copy, PartialEq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct PairRate {
    schedule: Schedule,
    step: u64,
}

impl PairRate {
    /// The rate of a pair that has learned for `age` steps, the present one included: the schedule over the steps that were left
    /// when it started. A fresh pair has all to learn, and the rate of those that have learned since the first step is too small
    /// for it.
    #[must_use]
    pub fn rate(&self, age: u32) -> f32 {
        let started = self.step.saturating_add(1).saturating_sub(u64::from(age));
        Schedule { steps: self.schedule.steps.saturating_sub(started), ..self.schedule }
            .rate(self.step - started.min(self.step))
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

    #[test]
    fn a_pair_that_starts_later_has_the_same_rise_and_ends_with_the_others() {
        let schedule = Schedule::linear(1.0, 10, 110);
        for t in 0..110u64 {
            assert_eq!(schedule.at(t).rate(t as u32 + 1).to_bits(), schedule.rate(t).to_bits(), "step {t}");
        }
        // Started after 60 steps, with 50 to go: after 1, 10 and 30 of its own, and at the last step.
        let rates = [(60, 1), (69, 10), (89, 30), (109, 50)].map(|(t, age)| schedule.at(t).rate(age));
        let expected = [0.1, 1.0, 21.0 / 40.0, 1.0 / 40.0];
        assert!(rates.iter().zip(expected).all(|(rate, expected)| (rate - expected).abs() < 1e-6), "{rates:?}");
        // Steps without photos make a pair younger than the lesson; one without an age has just started.
        assert!(schedule.at(5).rate(4) <= schedule.rate(5) && schedule.at(5).rate(0).is_finite());
        assert!(
            [0, 1, u32::MAX].iter().all(|age| schedule.at(u64::MAX).rate(*age).is_finite()),
            "a step beyond the end"
        );
    }
}
