//! The trainable classifier on the backbone's features, its imprinted start, and the loss.

use super::error::{Buffer, CoreError};
use super::math::{axpy, dot, exp, ln, norm};

/// A logit of an imprinted head is about this times the cosine between feature and class mean.
pub const IMPRINT_SCALE: f32 = 20.0;

/// Smallest norm that an example is divided by.
const SMALLEST_NORM: f32 = 1e-12;

/// logits = W x + b.
///
/// Shapes: `w` classes x features, row-major; `b` and `logits` classes; `x` features.
///
/// # Errors
/// `Length` names the buffer that does not fit.
pub fn head_forward(w: &[f32], b: &[f32], x: &[f32], logits: &mut [f32]) -> Result<(), CoreError> {
    CoreError::check(Buffer::HeadWeights, b.len().saturating_mul(x.len()), w.len())?;
    CoreError::check(Buffer::HeadBias, b.len(), logits.len())?;
    let rows = w.chunks_exact(x.len().max(1));
    logits.iter_mut().zip(b).zip(rows).for_each(|((logit, b), row)| *logit = dot(row, x) + b);
    Ok(())
}

/// dW += dlogits x^T, db += dlogits, dx = W^T dlogits.
///
/// # Errors
/// `Length` names the buffer that does not fit.
pub fn head_backward(
    w: &[f32],
    x: &[f32],
    dlogits: &[f32],
    dw: &mut [f32],
    db: &mut [f32],
    dx: &mut [f32],
) -> Result<(), CoreError> {
    CoreError::check(Buffer::HeadWeights, dlogits.len().saturating_mul(x.len()), w.len())?;
    CoreError::check(Buffer::HeadWeights, w.len(), dw.len())?;
    CoreError::check(Buffer::HeadBias, dlogits.len(), db.len())?;
    CoreError::check(Buffer::Input, x.len(), dx.len())?;
    dx.fill(0.0);
    let width = x.len().max(1);
    let rows = w.chunks_exact(width).zip(dw.chunks_exact_mut(width));
    for (((row, drow), &g), db) in rows.zip(dlogits).zip(db) {
        axpy(g, x, drow);
        axpy(g, row, dx);
        *db += g;
    }
    Ok(())
}

/// Softmax in place, shifted by the largest logit so that no exponential overflows.
pub fn softmax(logits: &mut [f32]) {
    let top = largest(logits);
    let mut total = 0.0;
    for logit in logits.iter_mut() {
        *logit = exp(*logit - top);
        total += *logit;
    }
    logits.iter_mut().for_each(|p| *p /= total);
}

/// Cross-entropy, -log of the label's softmax, in nats; `dlogits` becomes its gradient, softmax - one-hot.
///
/// Computed as top - chosen + ln(sum of exp(logit - top)): no exponential overflows.
///
/// # Errors
/// `Length` where `dlogits` is not as long as `logits`, `Class` where the label is none of them.
pub fn cross_entropy(logits: &[f32], label: usize, dlogits: &mut [f32]) -> Result<f32, CoreError> {
    CoreError::check(Buffer::HeadBias, logits.len(), dlogits.len())?;
    let missing = CoreError::Class { classes: logits.len(), given: label };
    let chosen = *logits.get(label).ok_or(missing)?;
    let top = largest(logits);
    let total: f32 = logits.iter().map(|l| exp(l - top)).sum();
    dlogits.copy_from_slice(logits);
    softmax(dlogits);
    if let Some(g) = dlogits.get_mut(label) {
        *g -= 1.0;
    }
    Ok(top - chosen + ln(total))
}

fn largest(logits: &[f32]) -> f32 {
    logits.iter().copied().fold(f32::NEG_INFINITY, f32::max)
}

/// Collects a head from examples: row c = g m_c / |m_c|, where m_c is the mean of x / |x| over class c; b = 0.
///
/// g = scale / mean |x| over all examples, so that on plain features a logit is about scale times the cosine.
/// Each class mean is brought to unit length again: a scattered class would get a shorter row and lose photos to others.
/// Source: weight imprinting, arXiv 1712.07136.
#[derive(Debug)]
pub struct Imprint<'a> {
    w: &'a mut [f32],
    counts: &'a mut [u32],
    norms: f32,
    examples: u32,
}

impl<'a> Imprint<'a> {
    /// Clears `w` (classes x features) and `counts` (classes).
    ///
    /// # Errors
    /// `Length` where `w` is no multiple of the classes.
    pub fn new(w: &'a mut [f32], counts: &'a mut [u32]) -> Result<Self, CoreError> {
        w.fill(0.0);
        counts.fill(0);
        Imprint::resume(w, counts, 0.0)
    }

    /// Goes on from sums of x / |x| in `w` (classes x features), the examples of each class in `counts`, and the sum of |x|.
    ///
    /// # Errors
    /// `Length` where `w` is no multiple of the classes.
    pub fn resume(w: &'a mut [f32], counts: &'a mut [u32], norms: f32) -> Result<Self, CoreError> {
        let classes = counts.len().max(1);
        CoreError::check(Buffer::HeadWeights, w.len() / classes * classes, w.len())?;
        let examples = counts.iter().fold(0, |sum: u32, count| sum.saturating_add(*count));
        Ok(Imprint { w, counts, norms, examples })
    }

    /// Rows of the head.
    #[must_use]
    pub fn classes(&self) -> usize {
        self.counts.len()
    }

    /// Examples taken in so far.
    #[must_use]
    pub const fn examples(&self) -> u32 {
        self.examples
    }

    /// Sum of |x| over the examples so far.
    #[must_use]
    pub const fn norms(&self) -> f32 {
        self.norms
    }

    /// Takes one example in.
    ///
    /// # Errors
    /// `Length` where `x` is not as long as a row, `Class` where the class does not exist.
    pub fn add(&mut self, x: &[f32], class: usize) -> Result<(), CoreError> {
        let width = self.w.len() / self.counts.len().max(1);
        CoreError::check(Buffer::Input, width, x.len())?;
        let missing = CoreError::Class { classes: self.counts.len(), given: class };
        let count = self.counts.get_mut(class).ok_or(missing)?;
        let row = self.w.chunks_exact_mut(width.max(1)).nth(class).ok_or(missing)?;
        let length = norm(x);
        axpy(1.0 / length.max(SMALLEST_NORM), x, row);
        *count = count.saturating_add(1);
        self.norms += length;
        self.examples = self.examples.saturating_add(1);
        Ok(())
    }

    /// Turns sums into the head. Classes without an example, and those whose examples cancel out, keep a row of zeros.
    pub fn finish(self, scale: f32) {
        let mean = self.norms / self.examples.max(1) as f32;
        let gain = if mean > 0.0 { scale / mean } else { 0.0 };
        let width = self.w.len() / self.counts.len().max(1);
        // The sum over a class has the mean's direction.
        for row in self.w.chunks_exact_mut(width.max(1)) {
            let length = norm(row);
            let factor = if length > SMALLEST_NORM { gain / length } else { 0.0 };
            row.iter_mut().for_each(|w| *w *= factor);
        }
    }
}
