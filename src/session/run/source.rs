//! From photos to what the prefix makes of them, on whichever thread: decoded and run, or remembered.

use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use half::f16;

use super::cache::Cache;
use crate::adapter::scratch::Scratch;
use crate::autodiff::{Boundary, Network, StepOutput, Stored};
use crate::bundle::Preprocess;
use crate::error::Result;
use crate::session::photos::{Augment, Picture, Slot, load};
use crate::session::replay::{Example, Replay};

/// A photo to be run.
pub(crate) struct View {
    pub(crate) picture: Picture,
    /// Its class; negative where that does not matter.
    pub(crate) label: i64,
    pub(crate) augment: Option<Augment>,
    /// Its place in the cache.
    pub(crate) slot: Option<Slot>,
}

/// A micro-batch on its way through the network.
#[derive(Default)]
pub(crate) struct Micro<T> {
    pub(crate) photos: Vec<View>,
    /// What the network said, unless it was not run.
    pub(crate) output: T,
    /// The label of each row; negative for rows that only fill the batch. None where no photo could be read.
    pub(crate) labels: Vec<i64>,
    /// Photos that could not be read, and why.
    pub(crate) unreadable: Vec<(Picture, String)>,
    /// Time that the network took; decoding is not in it.
    pub(crate) ms: f64,
}

/// What all threads share.
pub(crate) struct Source {
    pub(crate) preprocess: Preprocess,
    /// What is kept of photos that are trained on.
    pub(crate) rounded: Option<Cache<f16>>,
    /// What is kept of photos that accuracy is measured on.
    pub(crate) exact: Option<Cache<f32>>,
    /// Examples of earlier lessons.
    pub(crate) replay: Replay,
    /// Micro-batches that have been read, whose memory is used again.
    spare: Mutex<Vec<Micro<StepOutput>>>,
}

impl Source {
    pub(crate) fn new(
        preprocess: Preprocess,
        (rounded, exact): (Option<Cache<f16>>, Option<Cache<f32>>),
        replay: Replay,
    ) -> Self {
        Source { preprocess, rounded, exact, replay, spare: Mutex::default() }
    }

    /// A micro-batch of `photos` to be trained on.
    pub(crate) fn micro(&self, photos: impl Iterator<Item = View>) -> Micro<StepOutput> {
        let mut micro = self.spare().pop().unwrap_or_default();
        micro.photos.extend(photos);
        micro
    }

    /// Takes one back.
    pub(crate) fn recycle(&self, mut micro: Micro<StepOutput>) {
        micro.photos.clear();
        micro.labels.clear();
        micro.unreadable.clear();
        micro.ms = 0.0;
        self.spare().push(micro);
    }

    /// The features of every photo, row by row; and of one photo its example, where it `keeps` that and is none itself.
    ///
    /// # Errors
    /// Kind `Internal` where a run fails; `Io` where a cache that the prefix has been let go for cannot be read.
    pub(crate) fn features_and_example(
        &self,
        network: &mut Network,
        micro: Micro<Vec<f32>>,
        keeps: bool,
    ) -> Result<(Micro<Vec<f32>>, Option<Example>)> {
        let mut example = None;
        let is_new = micro.photos.iter().all(|photo| !matches!(photo.slot, Some(Slot::Replayed(_))));
        let len = network.plan().boundary_len().filter(|_| keeps && is_new);
        let micro = self.run(network, micro, |network, boundary, _, output| {
            if let Some(len) = len {
                let mut values = Scratch::of(len);
                boundary.round_to(&mut values[..])?;
                example = Some(Example::of(&values)?);
            }
            *output = network.forward(boundary)?;
            Ok(())
        })?;
        Ok((micro, example))
    }

    /// Loss and gradients of the photos.
    ///
    /// # Errors
    /// As [`Source::features_and_example`].
    pub(crate) fn step(&self, network: &mut Network, micro: Micro<StepOutput>) -> Result<Micro<StepOutput>> {
        self.run(network, micro, Network::step_into)
    }

    fn spare(&self) -> std::sync::MutexGuard<'_, Vec<Micro<StepOutput>>> {
        self.spare.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run<T>(
        &self,
        network: &mut Network,
        mut micro: Micro<T>,
        act: impl FnOnce(&mut Network, &Boundary, &[i64], &mut T) -> Result<()>,
    ) -> Result<Micro<T>> {
        let begin = Instant::now();
        // Where the prefix can still run, what cannot be read is made again.
        let remembered = match self.remembered(network, &micro.photos) {
            Err(_) if network.keeps_prefix() => None,
            remembered => remembered?,
        };
        if let Some(boundary) = remembered {
            micro.labels.extend(micro.photos.iter().map(|photo| photo.label));
            act(network, &boundary, &micro.labels, &mut micro.output)?;
            micro.ms = begin.elapsed().as_secs_f64() * 1e3;
            return Ok(micro);
        }
        let mut images = micro.load(&self.preprocess);
        if micro.labels.is_empty() {
            return Ok(micro);
        }
        fill(&mut images, &mut micro.labels, network.batch());
        let begin = Instant::now();
        let boundary = network.prefix(&images)?;
        let boundary = self.remember(network, &micro.photos, boundary)?;
        act(network, &boundary, &micro.labels, &mut micro.output)?;
        micro.ms = begin.elapsed().as_secs_f64() * 1e3;
        Ok(micro)
    }

    /// What the cache holds for a micro-batch of one photo.
    fn remembered(&self, network: &Network, photos: &[View]) -> Result<Option<Boundary>> {
        fn read<T: Stored>(cache: Option<&Cache<T>>, slot: usize, network: &Network) -> Result<Option<Boundary>> {
            let Some(cache) = cache else { return Ok(None) };
            cache.read(slot, |values| network.plan().boundary(values))?.transpose()
        }
        match photos {
            [View { slot: Some(Slot::Rounded(slot)), .. }] => read(self.rounded.as_ref(), *slot, network),
            [View { slot: Some(Slot::Exact(slot)), .. }] => read(self.exact.as_ref(), *slot, network),
            [View { slot: Some(Slot::Replayed(place)), .. }] => {
                let example = self.replay.example(*place);
                example.map(|example| network.plan().boundary(&example.values())).transpose()
            }
            _ => Ok(None),
        }
    }

    /// Keeps a boundary, and gives it back as the cache will.
    fn remember(&self, network: &Network, photos: &[View], boundary: Boundary) -> Result<Boundary> {
        fn write<T: Stored>(
            cache: Option<&Cache<T>>,
            slot: usize,
            network: &Network,
            boundary: Boundary,
        ) -> Result<Boundary> {
            let Some(cache) = cache else { return Ok(boundary) };
            cache.write(slot, |values| boundary.round_to(values), |values| network.plan().boundary(values))
        }
        match photos {
            [View { slot: Some(Slot::Rounded(slot)), .. }] => write(self.rounded.as_ref(), *slot, network, boundary),
            [View { slot: Some(Slot::Exact(slot)), .. }] => write(self.exact.as_ref(), *slot, network, boundary),
            _ => Ok(boundary),
        }
    }
}

impl<T> Micro<T> {
    /// The pixels of its photos that can be read, and their labels.
    fn load(&mut self, preprocess: &Preprocess) -> Vec<f32> {
        let mut images: Vec<f32> = Vec::new();
        for photo in &self.photos {
            match load(&photo.picture, preprocess, photo.augment) {
                Ok(pixels) => {
                    images.extend(pixels);
                    self.labels.push(photo.label);
                }
                Err(error) => self.unreadable.push((photo.picture.clone(), error.message().to_owned())),
            }
        }
        images
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
