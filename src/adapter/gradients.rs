//! Gradients of everything that learns, summed over images.

/// A sum, or after averaging a mean, of gradients, with what it was taken over.
#[derive(Debug, Clone, PartialEq)]
pub struct Gradients {
    /// A plane per site: dA (rank x in_dim) where A learns, then dB transposed (rank x out_dim).
    pub sites: Vec<Vec<f32>>,
    /// dW (classes x features), then db (classes).
    pub head: Vec<f32>,
    /// Cross-entropy, in nats.
    pub loss: f32,
    /// Images taken in.
    pub images: usize,
    /// Images whose largest logit is their label.
    pub right: usize,
}

impl Gradients {
    pub(super) fn zeros(planes: impl Iterator<Item = usize>, classes: usize, features: usize) -> Self {
        let sites = planes.map(|len| vec![0.0; len]).collect();
        Gradients { sites, head: vec![0.0; classes * (features + 1)], loss: 0.0, images: 0, right: 0 }
    }

    /// Back to zeros, of no images.
    pub(crate) fn clear(&mut self) {
        self.sites.iter_mut().flatten().chain(&mut self.head).for_each(|g| *g = 0.0);
        (self.loss, self.images, self.right) = (0.0, 0, 0);
    }

    /// Adds the gradients of one micro-batch: a plane per site, dW and db of the head.
    pub(crate) fn add(&mut self, pairs: &[Vec<f32>], dw: &[f32], db: &[f32]) {
        for (sum, plane) in self.sites.iter_mut().zip(pairs) {
            sum.iter_mut().zip(plane).for_each(|(sum, g)| *sum += g);
        }
        self.head.iter_mut().zip(dw.iter().chain(db)).for_each(|(sum, g)| *sum += g);
    }

    /// Counts the images of a micro-batch: loss and logits by row; negative labels do not count.
    pub(crate) fn count(&mut self, loss: &[f32], logits: &[f32], labels: &[i64]) {
        let classes = logits.len() / labels.len().max(1);
        let rows = loss.iter().zip(logits.chunks_exact(classes.max(1))).zip(labels);
        for ((loss, logits), &label) in rows.filter(|(_, label)| **label >= 0) {
            let best = (0..classes).reduce(|best, at| if logits[at] > logits[best] { at } else { best });
            self.loss += loss;
            self.images += 1;
            self.right += usize::from(best == usize::try_from(label).ok());
        }
    }

    /// From sums to means over the images.
    pub(crate) fn average(&mut self) {
        let share = 1.0 / self.images.max(1) as f32;
        self.sites.iter_mut().flatten().chain(&mut self.head).for_each(|g| *g *= share);
        self.loss *= share;
    }

    /// Share of the images that were classified right.
    #[must_use]
    pub fn accuracy(&self) -> f64 {
        self.right as f64 / self.images.max(1) as f64
    }
}
