//! Photos through the network: features, gradients of a batch, evaluation, with unreadable photos set aside.

use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};
use std::time::Instant;

use super::dataset::{Dataset, Quarantine, Quarantined, Sample};
use super::evaluate::Evaluation;
use super::image::{Augment, load};
use super::lesson::{Event, Observer, Progress};
use crate::adapter::{Adapter, Gradients, SiteSettings, Update};
use crate::autodiff::Network;
use crate::backbone::SharedAdapter;
use crate::bundle::{Bundle, Preprocess};
use crate::core::{AdamW, Recompose, Recomposition};
use crate::error::{Error, ErrorKind, Result};

/// A planned network with its adapter and the photos that it could not read.
pub(super) struct Runner {
    network: Network,
    adapter: SharedAdapter,
    preprocess: Preprocess,
    quarantine: Quarantine,
    /// The network ends in the model's own classifier, and the adapter's head is not asked.
    own_classifier: bool,
}

impl Runner {
    /// Ready to classify.
    pub(super) fn inference(bundle: &Bundle, adapter: Adapter) -> Result<Self> {
        Self::build(bundle, adapter, false)
    }

    /// Ready to classify and to train.
    pub(super) fn training(bundle: &Bundle, adapter: Adapter) -> Result<Self> {
        Self::build(bundle, adapter, true)
    }

    /// Ready to classify with the model's own output, which must have `classes` values.
    pub(super) fn own_classifier(bundle: &Bundle, classes: usize) -> Result<Self> {
        let network = Network::own_classifier(&bundle.backbone()?)?;
        if network.features() != classes {
            let message =
                format!("has {classes} labels, but its model has {} outputs; pack it again", network.features());
            return Err(Error::new(ErrorKind::Mismatch, bundle.path.display(), message));
        }
        let adapter = Adapter::start([], bundle.rank, SiteSettings::default(), 0, 0)?;
        Ok(Self::around(network, Arc::new(RwLock::new(adapter)), bundle, true))
    }

    fn around(network: Network, adapter: SharedAdapter, bundle: &Bundle, own_classifier: bool) -> Self {
        let preprocess = bundle.preprocess.clone();
        Runner { network, adapter, preprocess, quarantine: Quarantine::default(), own_classifier }
    }

    pub(super) fn is_own_classifier(&self) -> bool {
        self.own_classifier
    }

    fn build(bundle: &Bundle, adapter: Adapter, train: bool) -> Result<Self> {
        let backbone = bundle.backbone()?;
        let sites = bundle.sites_in(&backbone)?;
        let adapter: SharedAdapter = Arc::new(RwLock::new(adapter));
        let network = if train {
            Network::training(&backbone, &sites, &adapter)?
        } else {
            Network::inference(&backbone, &sites, &adapter)?
        };
        bundle.check_features(network.features())?;
        Ok(Self::around(network, adapter, bundle, false))
    }

    pub(super) fn adapter(&self) -> RwLockReadGuard<'_, Adapter> {
        self.adapter.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn adapter_mut(&self) -> std::sync::RwLockWriteGuard<'_, Adapter> {
        self.adapter.write().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn quarantine(&self) -> &[Quarantined] {
        self.quarantine.list()
    }

    /// The pixels of a photo, or `None` after it has been set aside.
    fn pixels(&mut self, path: &Path, augment: Option<Augment>, observer: &mut Observer) -> Option<Vec<f32>> {
        match load(path, &self.preprocess, augment) {
            Ok(pixels) => Some(pixels),
            Err(error) => {
                if self.quarantine.add(path, error.message()) {
                    observer(Progress::Warning(&format!("set aside {error}")));
                }
                None
            }
        }
    }

    /// The features of one photo.
    fn features(&mut self, pixels: &[f32]) -> Result<Vec<f32>> {
        let padded = pad(&[pixels], self.network.batch());
        let boundary = self.network.prefix(&padded)?;
        let mut features = self.network.forward(&boundary)?;
        features.truncate(self.network.features());
        Ok(features)
    }

    /// Sets the head to the class means of the photos' features; photos that cannot be read leave `data`.
    ///
    /// # Errors
    /// Kind `Data` where a class is left without a readable photo.
    pub(super) fn imprint(&mut self, data: &mut Dataset, observer: &mut Observer) -> Result<()> {
        let (mut features, mut labels) = (Vec::new(), Vec::new());
        let mut kept = Vec::with_capacity(data.samples.len());
        for sample in core::mem::take(&mut data.samples) {
            if let Some(pixels) = self.pixels(&sample.path, None, observer) {
                features.extend(self.features(&pixels)?);
                labels.push(sample.class);
                kept.push(sample);
            }
            observer(Progress::Advance);
        }
        data.samples = kept;
        if let Some((_, name)) = data.classes.iter().enumerate().find(|(class, _)| !labels.contains(class)) {
            let folder = data.root.join(name);
            let own = self.quarantine().iter().filter(|q| Path::new(&q.path).starts_with(&folder));
            let list = own.take(3).map(|q| format!("{} ({})", q.path, q.reason)).collect::<Vec<_>>().join("; ");
            let message = format!("has no readable photo: {list}; add some, or remove the folder");
            return Err(Error::new(ErrorKind::Data, folder.display(), message));
        }
        self.adapter_mut().head.imprint(&features, &labels);
        Ok(())
    }

    /// Mean gradients over the photos `indices` of `data`, and the time in ms that the network took.
    pub(super) fn gradients(
        &mut self,
        data: &Dataset,
        indices: impl Iterator<Item = usize>,
        augment: Option<(u64, u64)>,
        observer: &mut Observer,
    ) -> Result<(Gradients, f64)> {
        let mut total = self.adapter().zero_gradients();
        let mut clock = 0.0;
        let mut micro: Vec<(Vec<f32>, i64)> = Vec::with_capacity(self.network.batch());
        let mut indices = indices.peekable();
        while let Some(index) = indices.next() {
            let Sample { path, class } = &data.samples[index];
            if let Some(pixels) = self.pixels(path, cut(augment, index), observer) {
                micro.push((pixels, *class as i64));
            }
            if micro.len() == self.network.batch() || (indices.peek().is_none() && !micro.is_empty()) {
                let begin = Instant::now();
                self.accumulate(&micro, &mut total)?;
                clock += begin.elapsed().as_secs_f64() * 1e3;
                micro.clear();
            }
        }
        total.average();
        Ok((total, clock))
    }

    fn accumulate(&mut self, micro: &[(Vec<f32>, i64)], total: &mut Gradients) -> Result<()> {
        let images: Vec<&[f32]> = micro.iter().map(|(pixels, _)| &pixels[..]).collect();
        let mut labels: Vec<i64> = micro.iter().map(|(_, label)| *label).collect();
        labels.resize(self.network.batch(), -1);
        let padded = pad(&images, self.network.batch());
        let boundary = self.network.prefix(&padded)?;
        let output = self.network.step(&boundary, &labels)?;
        total.add(&output.pairs, &output.dw, &output.db);
        total.count(&output.loss, &output.logits, &labels);
        Ok(())
    }

    /// One optimizer step with mean `gradients`; `recompose` says what to recompose where an event is due.
    pub(super) fn update(
        &mut self,
        gradients: &Gradients,
        [lr, head_lr]: [f32; 2],
        recompose: Option<Recompose>,
    ) -> Result<Vec<Event>> {
        let mut adapter = self.adapter_mut();
        adapter.update(gradients, &Update { lr, head_lr, optimizer: AdamW::default() })?;
        let Some(rule) = recompose else { return Ok(Vec::new()) };
        let events = adapter.recompose(&rule)?;
        let describe = |(site, happened): (usize, Recomposition)| Event {
            step: 0,
            site: adapter.sites[site].name.clone(),
            pair: happened.pair.into(),
            direction: happened.to.into(),
            importance: happened.importance,
            max_error: happened.max_error,
        };
        Ok(events.into_iter().map(describe).collect())
    }

    /// Mean cross-entropy of the photos `indices` of `data`, nothing being changed; `None` where none can be read.
    pub(super) fn loss(
        &mut self,
        data: &Dataset,
        indices: &[usize],
        augment: Option<(u64, u64)>,
        observer: &mut Observer,
    ) -> Result<Option<f32>> {
        let mut losses = Vec::with_capacity(indices.len());
        for &index in indices {
            let Sample { path, class } = &data.samples[index];
            if let Some(pixels) = self.pixels(path, cut(augment, index), observer) {
                let features = self.features(&pixels)?;
                losses.extend(self.adapter().head.loss(&features, &[*class as i64]).loss);
            }
        }
        Ok((!losses.is_empty()).then(|| losses.iter().sum::<f32>() / losses.len() as f32))
    }

    /// Accuracy and confusion over `data`; unreadable photos do not count.
    ///
    /// # Errors
    /// Kind `Data` where none can be read.
    pub(super) fn evaluate(&mut self, data: &Dataset, phase: &str, observer: &mut Observer) -> Result<Evaluation> {
        let mut evaluation = Evaluation::new(&data.classes);
        observer(Progress::Begin { phase: &format!("accuracy {phase}"), total: data.samples.len() as u64 });
        let begin = Instant::now();
        for sample in &data.samples {
            if let Some(logits) = self.logits(&sample.path, observer)? {
                evaluation.count(sample.class, &logits);
            }
            observer(Progress::Advance);
        }
        observer(Progress::End);
        if evaluation.n == 0 {
            let message = "none of the photos that accuracy is measured on can be read";
            return Err(Error::new(ErrorKind::Data, data.root.display(), message));
        }
        evaluation.seconds(begin.elapsed().as_secs_f64());
        Ok(evaluation)
    }

    /// The logits of one photo, or `None` where it cannot be read.
    fn logits(&mut self, path: &Path, observer: &mut Observer) -> Result<Option<Vec<f32>>> {
        let pixels = self.pixels(path, None, observer);
        pixels.map(|pixels| self.classify(&pixels)).transpose()
    }

    /// The logits of one photo.
    ///
    /// # Errors
    /// Kind `Image` where it cannot be read.
    pub(super) fn scores(&mut self, path: &Path) -> Result<Vec<f32>> {
        let pixels = load(path, &self.preprocess, None)?;
        self.classify(&pixels)
    }

    fn classify(&mut self, pixels: &[f32]) -> Result<Vec<f32>> {
        let features = self.features(pixels)?;
        Ok(if self.own_classifier { features } else { self.adapter().head.logits(&features) })
    }
}

/// The random cut of one photo, where (seed, epoch) ask for one.
fn cut(augment: Option<(u64, u64)>, index: usize) -> Option<Augment> {
    augment.map(|(seed, epoch)| Augment { seed, epoch, index: index as u64 })
}

/// Images one behind the other, the last repeated until the plan's batch is full.
fn pad(images: &[&[f32]], batch: usize) -> Vec<f32> {
    let last = images.last().copied().unwrap_or(&[]);
    let filled = images.iter().copied().chain(core::iter::repeat(last)).take(batch);
    filled.flatten().copied().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_batch_is_filled_with_its_last_image() {
        assert_eq!(pad(&[&[1.0], &[2.0]], 4), [1.0, 2.0, 2.0, 2.0]);
    }
}
