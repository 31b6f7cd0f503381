//! The learning rate over a run.

use super::math::cos;

/// How the rate falls after warm-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
enum Fall {
    Linear,
    Cosine,
}

/// A learning rate over a run: it rises linearly over the warm-up, then falls to 0; in lives, again and again.
#[derive(Debug, Clone, Copy, PartialEq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Schedule {
    peak: f32,
    warmup: u64,
    steps: u64,
    /// Steps of one life; the last may be shorter.
    life: u64,
    fall: Fall,
}

impl Schedule {
    /// lr(t) = peak min((t + 1) / warmup, (steps - t) / (steps - warmup)), t from 0.
    #[must_use]
    pub const fn linear(peak: f32, warmup: u64, steps: u64) -> Self {
        Schedule { peak, warmup, steps, life: steps, fall: Fall::Linear }
    }

    /// The same rise, then a half cosine.
    #[must_use]
    pub const fn cosine(peak: f32, warmup: u64, steps: u64) -> Self {
        Schedule { peak, warmup, steps, life: steps, fall: Fall::Cosine }
    }

    /// The same course for every `life` steps of the run, so that what a pair has learned has settled when it is fused.
    /// 0, or more than all steps: one life.
    #[must_use]
    pub const fn in_lives(self, life: u64) -> Self {
        let life = if life == 0 || life > self.steps { self.steps } else { life };
        Schedule { life, ..self }
    }

    /// The rate at step `t`, counted from 0.
    #[must_use]
    pub fn rate(&self, t: u64) -> f32 {
        if t >= self.steps {
            return 0.0;
        }
        let age = t % self.life.max(1);
        let (t, steps) = (age, self.life.min(self.steps - (t - age)));
        let rise = if self.warmup == 0 { 1.0 } else { (t + 1) as f32 / self.warmup as f32 };
        let rest = steps.saturating_sub(self.warmup).max(1) as f32;
        let left = ((steps - t) as f32 / rest).min(1.0);
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
        assert!(schedule.rate(105) == 0.0 && schedule.in_lives(50).rate(105) == 0.0);
        assert!(Schedule::cosine(1.0, 10, 105).rate(104) < 1e-3);
    }

    #[test]
    fn every_life_has_the_course_of_a_run_of_its_length() {
        let lives = Schedule::linear(1.0, 5, 110).in_lives(40);
        let alone = |steps| Schedule::linear(1.0, 5, steps);
        for t in 0..110u64 {
            assert_eq!(lives.rate(t), alone(if t < 80 { 40 } else { 30 }).rate(t % 40), "step {t}");
        }
        assert_eq!(alone(110).in_lives(0), alone(110));
        assert_eq!(alone(110).in_lives(200), alone(110));
        assert_eq!(Schedule::linear(1.0, 0, 0).rate(3), 0.0);
    }
}
