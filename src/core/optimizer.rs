//! AdamW: of a site's pairs, each with its own age, and of a plane with one.

use super::error::{Buffer, CoreError};
use super::math::{powi, sqrt};
use super::site::Site;

/// AdamW: Adam with bias correction and decoupled weight decay, here toward a start value. [`AdamW::step`] has the formula.
/// Source: Loshchilov and Hutter, arXiv 1711.05101, algorithm 2; Adam: arXiv 1412.6980.
#[derive(Debug, Clone, Copy, PartialEq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct AdamW {
    /// Decay of the first moment, 0..1.
    pub beta1: f32,
    /// Decay of the second moment, 0..1.
    pub beta2: f32,
    /// Added to sqrt(v_hat), in units of the gradient.
    pub eps: f32,
    /// Weight decay per step and unit of learning rate: lambda.
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

    /// One step of one number w: it, its first moment m and its second moment v change in place, for the gradient `g`, the
    /// learning rate `lr` and the start value `w0`.
    ///
    /// ```text
    /// m <- beta1 m + (1 - beta1) g            m_hat = m / (1 - beta1^age)
    /// v <- beta2 v + (1 - beta2) g^2          v_hat = v / (1 - beta2^age)
    /// w <- w - lr decay (w - w0)              then
    /// w <- w - lr m_hat / (sqrt(v_hat) + eps)
    /// ```
    ///
    /// `correction` holds both divisors. `lr` is in units of w, as the last quotient has none; `decay` is per unit of `lr`. With
    /// w0 = 0 this is the source's weight decay, its schedule multiplier taken into `lr` (arXiv 1711.05101, algorithm 2).
    pub fn step(&self, correction: Correction, lr: f32, g: f32, w0: f32, [w, m, v]: [&mut f32; 3]) {
        *m = self.beta1 * *m + (1.0 - self.beta1) * g;
        *v = self.beta2 * *v + (1.0 - self.beta2) * g * g;
        *w -= lr * self.decay * (*w - w0);
        *w -= lr * (*m / correction.first) / (sqrt(*v / correction.second) + self.eps);
    }

    /// One step of numbers that share an age and a rate and decay toward 0: the head's. Each as in [`AdamW::step`], w0 = 0.
    ///
    /// Shapes: `gradient`, `w`, `m` and `v` are equally long. `age` counts steps, the present one included.
    ///
    /// # Errors
    /// `Length` where the four are not equally long; nothing has changed then.
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
    /// One AdamW step of every pair, with bias correction by its own age and decay toward its start: each number of pair k as in
    /// [`AdamW::step`], with lr = `rate(age_k)`, the divisors 1 - beta^age_k, and w0 the element of a0_k or b0_k.
    ///
    /// Shapes: `gradient` is a plane, dL/dA (rank x in_dim) where A learns, then dL/dB transposed (rank x out_dim). Ages are in steps, the
    /// present one included, as [`Site::score`] has left them. A count shared by all pairs would multiply the first updates of a
    /// fresh one by 2 to 6. Source: arXiv 1711.05101, algorithm 2; ages and the decay toward the start are ours.
    ///
    /// # Errors
    /// As [`Site::check`]; `Length` where `gradient` is no plane. Nothing has changed then.
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
