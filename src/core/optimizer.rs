//! AdamW: of a site's pairs, each with its own age, and of a plane with one.

use super::error::{Buffer, CoreError};
use super::math::{powi, sqrt};
use super::site::Site;

/// AdamW (arXiv 1711.05101), decoupled decay toward a start value.
#[derive(Debug, Clone, Copy, PartialEq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct AdamW {
    /// Decay of the first moment.
    pub beta1: f32,
    /// Decay of the second moment.
    pub beta2: f32,
    /// Added to sqrt(v_hat).
    pub eps: f32,
    /// Weight decay per unit of learning rate.
    pub decay: f32,
}

impl Default for AdamW {
    /// 0.9, 0.999, 1e-8, no decay.
    fn default() -> Self {
        AdamW { beta1: 0.9, beta2: 0.999, eps: 1e-8, decay: 0.0 }
    }
}

/// What bias correction divides by at one age: 1 - beta^age.
#[derive(Debug, Clone, Copy)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Correction {
    first: f32,
    second: f32,
}

impl AdamW {
    /// The correction after `age` steps, the present one included; age 0 counts as 1.
    #[must_use]
    pub fn correction(&self, age: u32) -> Correction {
        let age = age.max(1);
        Correction { first: 1.0 - powi(self.beta1, age), second: 1.0 - powi(self.beta2, age) }
    }

    /// One step of one number: m, v and w in place, for gradient `g` and start value `w0`.
    pub fn step(&self, correction: Correction, lr: f32, g: f32, w0: f32, [w, m, v]: [&mut f32; 3]) {
        *m = self.beta1 * *m + (1.0 - self.beta1) * g;
        *v = self.beta2 * *v + (1.0 - self.beta2) * g * g;
        *w -= lr * self.decay * (*w - w0);
        *w -= lr * (*m / correction.first) / (sqrt(*v / correction.second) + self.eps);
    }

    /// One step of numbers that share an age and decay toward 0: the head's.
    ///
    /// # Errors
    /// `Length` where the four are not equally long.
    pub fn step_plane(
        &self,
        age: u32,
        lr: f32,
        gradient: &[f32],
        w: &mut [f32],
        m: &mut [f32],
        v: &mut [f32],
    ) -> Result<(), CoreError> {
        CoreError::check(Buffer::Gradient, w.len(), gradient.len())?;
        CoreError::check(Buffer::State, w.len(), m.len())?;
        CoreError::check(Buffer::State, w.len(), v.len())?;
        let correction = self.correction(age);
        for (((&g, w), m), v) in gradient.iter().zip(w).zip(m).zip(v) {
            self.step(correction, lr, g, 0.0, [w, m, v]);
        }
        Ok(())
    }
}

impl<const RANK: usize, const RESERVE: usize> Site<'_, RANK, RESERVE> {
    /// One AdamW step of every pair, with the rate `rate(age)`, bias correction by its own age and decay toward its start.
    ///
    /// A count shared by all pairs would multiply the first updates of a fresh one by 2 to 6.
    ///
    /// # Errors
    /// As [`Site::check`]; `Length` where `gradient` is no plane.
    pub fn adamw(&mut self, optimizer: &AdamW, rate: impl Fn(u32) -> f32, gradient: &[f32]) -> Result<(), CoreError> {
        self.check()?;
        let plane = self.shape.plane_len();
        CoreError::check(Buffer::Gradient, plane, gradient.len())?;
        for (pair, &age) in self.ledger.ages().iter().enumerate() {
            let (correction, lr) = (optimizer.correction(age), rate(age));
            // A start costs a look-up or a hash per number; without decay nothing needs it.
            let start = (optimizer.decay != 0.0).then(|| self.start_of(pair));
            let (w, rest) = self.state.split_at_mut(plane);
            let (m, v) = rest.split_at_mut(plane);
            for (span, of_a) in self.shape.pair_spans(pair).into_iter().zip([true, false]) {
                let [w, m, v] = [&mut *w, &mut *m, &mut *v].map(|p| p.get_mut(span.clone()).unwrap_or_default());
                let gradient = gradient.get(span).unwrap_or_default();
                for (at, (((w, m), v), &g)) in w.iter_mut().zip(m).zip(v).zip(gradient).enumerate() {
                    let w0 = start.as_ref().map_or(0.0, |start| if of_a { start.a(at) } else { start.b(at) });
                    optimizer.step(correction, lr, g, w0, [w, m, v]);
                }
            }
        }
        Ok(())
    }
}
