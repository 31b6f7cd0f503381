//! From photos to what the prefix makes of them, on whichever thread: decoded and run, or remembered.

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use super::cache::Cache;
use super::image::{Augment, load};
use crate::autodiff::{Boundary, Network, StepOutput};
use crate::bundle::Preprocess;
use crate::error::Result;

/// A photo to be run.
pub(super) struct Photo {
    pub(super) path: PathBuf,
    /// Its class; negative where that does not matter.
    pub(super) label: i64,
    pub(super) augment: Option<Augment>,
    /// Its place in the cache.
    pub(super) slot: Option<usize>,
}

/// A micro-batch that has been through the network.
pub(super) struct Done<T> {
    /// What the network said; `None` where no photo could be read.
    pub(super) output: Option<T>,
    /// The label of each row; negative for rows that only fill the batch.
    pub(super) labels: Vec<i64>,
    /// Photos that could not be read, and why.
    pub(super) unreadable: Vec<(PathBuf, String)>,
    /// Time that the network took; decoding is not in it.
    pub(super) ms: f64,
}

/// What all threads share.
pub(super) struct Source {
    pub(super) preprocess: Preprocess,
    pub(super) cache: Option<Cache>,
    /// Outputs that have been read and can be written again.
    spare: Mutex<Vec<StepOutput>>,
}

impl Source {
    pub(super) fn new(preprocess: Preprocess, cache: Option<Cache>) -> Self {
        Source { preprocess, cache, spare: Mutex::default() }
    }

    /// The features of every photo, row by row.
    ///
    /// # Errors
    /// Kind `Internal` where a run fails.
    pub(super) fn features(&self, network: &mut Network, photos: Vec<Photo>) -> Result<Done<Vec<f32>>> {
        self.run(network, photos, |network, boundary, _| network.forward(boundary))
    }

    /// Loss and gradients of the photos.
    ///
    /// # Errors
    /// Kind `Internal` where a run fails.
    pub(super) fn step(&self, network: &mut Network, photos: Vec<Photo>) -> Result<Done<StepOutput>> {
        self.run(network, photos, |network, boundary, labels| {
            let mut output = self.spare().pop().unwrap_or_default();
            network.step_into(boundary, labels, &mut output)?;
            Ok(output)
        })
    }

    /// Takes an output back.
    pub(super) fn recycle(&self, output: StepOutput) {
        self.spare().push(output);
    }

    fn spare(&self) -> std::sync::MutexGuard<'_, Vec<StepOutput>> {
        self.spare.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run<T>(
        &self,
        network: &mut Network,
        photos: Vec<Photo>,
        act: impl FnOnce(&mut Network, &Boundary, &[i64]) -> Result<T>,
    ) -> Result<Done<T>> {
        let mut done = Done { output: None, labels: Vec::new(), unreadable: Vec::new(), ms: 0.0 };
        if let Some(boundary) = self.remembered(network, &photos, &mut done)? {
            done.timed(|labels| act(network, &boundary, labels))?;
            return Ok(done);
        }
        let mut images: Vec<f32> = Vec::new();
        for photo in &photos {
            match load(&photo.path, &self.preprocess, photo.augment) {
                Ok(pixels) => {
                    images.extend(pixels);
                    done.labels.push(photo.label);
                }
                Err(error) => done.unreadable.push((photo.path.clone(), error.message().to_owned())),
            }
        }
        if done.labels.is_empty() {
            return Ok(done);
        }
        fill(&mut images, &mut done.labels, network.batch());
        done.timed(|labels| {
            let boundary = network.prefix(&images)?;
            let boundary = self.remember(network, &photos, boundary)?;
            act(network, &boundary, labels)
        })?;
        Ok(done)
    }

    /// What the cache holds for a micro-batch of one photo.
    fn remembered<T>(&self, network: &Network, photos: &[Photo], done: &mut Done<T>) -> Result<Option<Boundary>> {
        let ([Photo { slot: Some(slot), label, .. }], Some(cache)) = (photos, &self.cache) else { return Ok(None) };
        let begin = Instant::now();
        let Some(boundary) = cache.read(*slot, |values| network.plan().boundary(values)).transpose()? else {
            return Ok(None);
        };
        done.labels.push(*label);
        done.ms += begin.elapsed().as_secs_f64() * 1e3;
        Ok(Some(boundary))
    }

    /// Keeps a boundary, and gives it back as the cache will.
    fn remember(&self, network: &Network, photos: &[Photo], boundary: Boundary) -> Result<Boundary> {
        let ([Photo { slot: Some(slot), .. }], Some(cache)) = (photos, &self.cache) else { return Ok(boundary) };
        cache.write(*slot, |values| boundary.copy_to(values), |values| network.plan().boundary(values))
    }
}

impl<T> Done<T> {
    fn timed(&mut self, act: impl FnOnce(&[i64]) -> Result<T>) -> Result<()> {
        let begin = Instant::now();
        self.output = Some(act(&self.labels)?);
        self.ms += begin.elapsed().as_secs_f64() * 1e3;
        Ok(())
    }
}

/// Repeats the last image until the plan's batch is full; the rows added count for nothing.
fn fill(images: &mut Vec<f32>, labels: &mut Vec<i64>, batch: usize) {
    let image = images.len() / labels.len().max(1);
    while labels.len() < batch {
        images.extend_from_within(images.len() - image..);
        labels.push(-1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_batch_is_filled_with_its_last_image() {
        let (mut images, mut labels) = (vec![1.0, 2.0], vec![5, 6]);
        fill(&mut images, &mut labels, 4);
        assert_eq!((images, labels), (vec![1.0, 2.0, 2.0, 2.0], vec![5, 6, -1, -1]));
    }
}
