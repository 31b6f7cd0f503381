//! The trainable classifier, owned.

use super::Update;
use super::scratch::Scratch;
use crate::core::{Imprint, cross_entropy, head_backward, head_forward};
use crate::error::{Error, ErrorKind, Result};

/// Room for what the head makes of a micro-batch, zeros at first; gradients are of the sum of the losses.
#[derive(Debug)]
pub(crate) struct HeadLoss<'b> {
    /// Cross-entropy of each row, 0 where its label is negative.
    pub(crate) loss: &'b mut [f32],
    /// rows x classes.
    pub(crate) logits: &'b mut [f32],
    /// rows x features.
    pub(crate) dfeatures: &'b mut [f32],
    /// classes x features.
    pub(crate) dw: &'b mut [f32],
    /// classes.
    pub(crate) db: &'b mut [f32],
}

/// logits = W x + b with its optimizer state.
#[derive(Debug, Clone, PartialEq)]
pub struct HeadBuffers {
    classes: usize,
    features: usize,
    /// W (classes x features, row-major), then b (classes).
    pub(crate) values: Vec<f32>,
    /// First moments.
    pub(crate) first: Vec<f32>,
    /// Second moments.
    pub(crate) second: Vec<f32>,
    /// Steps taken.
    pub(crate) age: u32,
}

impl HeadBuffers {
    /// All zeros.
    #[must_use]
    pub fn new(classes: usize, features: usize) -> Self {
        let zeros = vec![0.0; classes * (features + 1)];
        HeadBuffers { classes, features, values: zeros.clone(), first: zeros.clone(), second: zeros, age: 0 }
    }

    /// The same rows and zeros for as many more, at the beginning of a lesson: no moments, no steps.
    #[must_use]
    pub(crate) fn with_classes(&self, classes: usize) -> Self {
        let mut head = HeadBuffers::new(classes, self.features);
        head.take_rows(self, 0..self.classes.min(classes));
        head
    }

    /// Copies rows, biases included, from a head of the same features.
    pub(crate) fn take_rows(&mut self, from: &HeadBuffers, rows: core::ops::Range<usize>) {
        let span = rows.start * self.features..rows.end * self.features;
        self.values[span.clone()].copy_from_slice(&from.values[span]);
        let [own, other] = [self.classes * self.features, from.classes * from.features];
        self.values[own + rows.start..own + rows.end]
            .copy_from_slice(&from.values[other + rows.start..other + rows.end]);
    }

    /// Brings the rows from `known` on to the mean length of those before, and their biases to the mean: a row that was imprinted
    /// would never win against rows that have trained for long.
    pub(crate) fn level_rows(&mut self, known: usize) {
        let (width, end) = (self.features, self.classes * self.features);
        if known == 0 || known >= self.classes {
            return;
        }
        let length = |row: &[f32]| row.iter().map(|w| w * w).sum::<f32>().sqrt();
        let mean = self.values[..known * width].chunks_exact(width).map(length).sum::<f32>() / known as f32;
        let bias = self.values[end..end + known].iter().sum::<f32>() / known as f32;
        for row in self.values[known * width..end].chunks_exact_mut(width) {
            let scale = mean / length(row).max(f32::MIN_POSITIVE);
            row.iter_mut().for_each(|w| *w *= scale);
        }
        self.values[end + known..].fill(bias);
    }

    /// Sets the rows from `first` on, each with its bias.
    pub(super) fn set_rows(&mut self, first: usize, rows: &[(Vec<f32>, f32)]) {
        let (w, b) = self.values.split_at_mut(self.classes * self.features);
        let own = w.chunks_exact_mut(self.features.max(1)).zip(b).skip(first);
        for ((w, b), (row, bias)) in own.zip(rows) {
            w.copy_from_slice(row);
            *b = *bias;
        }
    }

    /// Rows of W.
    #[must_use]
    pub fn classes(&self) -> usize {
        self.classes
    }

    /// Columns of W.
    #[must_use]
    pub fn features(&self) -> usize {
        self.features
    }

    /// Numbers that it trains.
    #[must_use]
    pub(super) fn len(&self) -> usize {
        self.values.len()
    }

    /// W and b.
    pub(crate) fn weights(&self) -> (&[f32], &[f32]) {
        self.values.split_at(self.classes * self.features)
    }

    /// W and b divided by a temperature, so that the softmax of the logits is what is calibrated.
    pub(crate) fn cooled(&self, temperature: f32) -> [Vec<f32>; 2] {
        let (weight, bias) = self.weights();
        [weight, bias].map(|values| values.iter().map(|value| value / temperature).collect())
    }

    /// W, then b.
    pub fn values_mut(&mut self) -> &mut [f32] {
        &mut self.values
    }

    /// The logits of one feature vector.
    #[must_use]
    pub fn logits(&self, features: &[f32]) -> Vec<f32> {
        let mut logits = vec![0.0; self.classes];
        let (w, b) = self.weights();
        // A feature vector of another length is a bug of the graph, seen as NaN rather than as a plausible answer.
        if head_forward(w, b, features, &mut logits).is_err() {
            logits.fill(f32::NAN);
        }
        logits
    }

    /// Starts anew: W will be the class means of normalized feature vectors, b is 0. `counts` has a place for every class.
    ///
    /// # Errors
    /// Kind `Internal` where it has not.
    pub fn imprint<'h>(&'h mut self, counts: &'h mut [u32]) -> Result<Imprint<'h>> {
        *self = HeadBuffers::new(self.classes, self.features);
        let w = &mut self.values[..self.classes * self.features];
        Imprint::new(w, counts).map_err(|e| Error::new(ErrorKind::Internal, "head", e))
    }

    /// Cross-entropy of one feature vector, in nats; NaN where there is no such class.
    #[must_use]
    pub fn loss(&self, features: &[f32], label: usize) -> f32 {
        let logits = self.logits(features);
        cross_entropy(&logits, label, &mut Scratch::of(self.classes)).unwrap_or(f32::NAN)
    }

    /// Loss and gradients of rows of features; a negative label marks a row that does not count.
    pub(crate) fn backward(&self, features: &[f32], labels: &[i64], out: HeadLoss) {
        let (w, b) = self.weights();
        let mut dlogits = Scratch::of(self.classes);
        let width = self.features.max(1);
        let inputs = features.chunks_exact(width).zip(out.dfeatures.chunks_exact_mut(width)).zip(labels);
        let outputs = out.logits.chunks_exact_mut(self.classes.max(1)).zip(out.loss);
        for (((x, dx), &label), (logits, loss)) in inputs.zip(outputs) {
            let row = head_forward(w, b, x, logits).and_then(|()| {
                let Ok(label) = usize::try_from(label) else { return Ok(0.0) };
                let value = cross_entropy(logits, label, &mut dlogits)?;
                head_backward(w, x, &dlogits, out.dw, out.db, dx)?;
                Ok(value)
            });
            *loss = row.unwrap_or(f32::NAN);
        }
    }

    /// One AdamW step, with the rate `update.head_lr`.
    ///
    /// # Errors
    /// Kind `Internal` where `gradient` is not as long as the values; nothing has changed then.
    pub(super) fn update(&mut self, gradient: &[f32], update: &Update) -> Result<()> {
        let HeadBuffers { values, first, second, .. } = self;
        let age = self.age.saturating_add(1);
        let stepped = update.head_optimizer.step_plane(age, update.head_lr, gradient, values, first, second);
        stepped.map_err(|e| Error::new(ErrorKind::Internal, "head", e))?;
        self.age = age;
        Ok(())
    }
}
