//! Photos through the network: features, gradients of a batch, evaluation, with unreadable photos set aside.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};
use std::time::Instant;

use super::cache::{Cache, CachePlace};
use super::crew::{Crew, Meeting};
use super::dataset::{Dataset, Quarantine, Quarantined, Sample};
use super::evaluate::Evaluation;
use super::forecast::timed;
use super::image::{Augment, load};
use super::lesson::{Observer, Progress};
use super::memory::{Claim, rss_bytes};
use super::outlook::Outlook;
use super::rehearsal::Rehearsal;
use super::source::{Micro, Photo, Source};
use crate::adapter::{Adapter, ClassMeans, Gradients, SiteSettings, Update};
use crate::autodiff::{Activations, Network, NetworkPlan, Stored};
use crate::backbone::SharedAdapter;
use crate::bundle::Bundle;
use crate::core::{AdamW, Moment};
use crate::error::{Error, ErrorKind, Result};

/// A planned network on one or more threads, with its adapter and the photos that it could not read.
pub(super) struct Runner {
    crew: Crew,
    source: Arc<Source>,
    /// Images in a micro-batch.
    micro: usize,
    adapter: SharedAdapter,
    quarantine: Quarantine,
    /// What the photos have told.
    outlook: Outlook,
    /// The network ends in the model's own classifier, and the adapter's head is not asked.
    own_classifier: bool,
}

/// Milliseconds that one image took.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Trial {
    pub(super) prefix_ms: f64,
    pub(super) forward_ms: f64,
    pub(super) step_ms: f64,
}

/// What a [`Runner`] takes from the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Means<'m> {
    pub(super) threads: usize,
    pub(super) cache: CachePlace,
    /// Where a cache on disk lies.
    pub(super) folder: &'m Path,
    /// Photos trained on that it may keep.
    pub(super) photos: usize,
    /// Photos measured on that it may keep.
    pub(super) measured: usize,
}

impl Means<'static> {
    /// One thread, nothing kept.
    fn plain() -> Self {
        Means { threads: 1, cache: CachePlace::Off, folder: Path::new(""), photos: 0, measured: 0 }
    }
}

impl Runner {
    /// Ready to classify.
    pub(super) fn inference(bundle: &Bundle, mut adapter: Adapter) -> Result<Self> {
        let mut backbone = bundle.backbone()?;
        let sites = bundle.sites_in(&backbone)?;
        backbone.absorb(&sites, &mut adapter);
        let adapter: SharedAdapter = Arc::new(RwLock::new(adapter));
        let plan = NetworkPlan::inference(&backbone, &sites, &adapter)?;
        bundle.check_features(plan.features())?;
        Self::around(&plan, adapter, bundle, false, &Means::plain())
    }

    /// The network of a bundle with an adapter, planned to classify, and to train where `train` says how.
    pub(super) fn plan(bundle: &Bundle, adapter: &SharedAdapter, train: Option<Activations>) -> Result<NetworkPlan> {
        let backbone = bundle.backbone()?;
        let sites = bundle.sites_in(&backbone)?;
        let plan = match train {
            Some(activations) => NetworkPlan::training(&backbone, &sites, adapter, activations)?,
            None => NetworkPlan::inference(&backbone, &sites, adapter)?,
        };
        bundle.check_features(plan.features())?;
        Ok(plan)
    }

    /// Ready to run a plan.
    pub(super) fn start(plan: &NetworkPlan, adapter: SharedAdapter, bundle: &Bundle, means: &Means) -> Result<Self> {
        Self::around(plan, adapter, bundle, false, means)
    }

    /// Ready to classify with the model's own output, which must have `classes` values.
    pub(super) fn own_classifier(bundle: &Bundle, classes: usize) -> Result<Self> {
        let plan = NetworkPlan::own_classifier(&bundle.backbone()?)?;
        if plan.features() != classes {
            let message = format!("has {classes} labels, but its model has {} outputs; pack it again", plan.features());
            return Err(Error::new(ErrorKind::Mismatch, bundle.path.display(), message));
        }
        let adapter = Adapter::start([], bundle.rank, SiteSettings::default(), 0, 0)?;
        Self::around(&plan, Arc::new(RwLock::new(adapter)), bundle, true, &Means::plain())
    }

    fn around(
        plan: &NetworkPlan,
        adapter: SharedAdapter,
        bundle: &Bundle,
        own_classifier: bool,
        means: &Means,
    ) -> Result<Self> {
        fn cache<T: Stored>(plan: &NetworkPlan, means: &Means, photos: usize) -> Result<Option<Cache<T>>> {
            let len = plan.boundary_len().filter(|_| photos > 0);
            Ok(len.map(|len| Cache::new(means.cache, means.folder, photos, len)).transpose()?.flatten())
        }
        let (rounded, exact) = (cache(plan, means, means.photos)?, cache(plan, means, means.measured)?);
        Ok(Runner {
            crew: Crew::start(plan, means.threads)?,
            source: Arc::new(Source::new(bundle.preprocess.clone(), rounded, exact)),
            micro: plan.batch(),
            adapter,
            quarantine: Quarantine::default(),
            outlook: Outlook::default(),
            own_classifier,
        })
    }

    pub(super) fn is_own_classifier(&self) -> bool {
        self.own_classifier
    }

    pub(super) fn adapter(&self) -> RwLockReadGuard<'_, Adapter> {
        self.adapter.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Goes on with another adapter of the same shapes; whatever depends on the photos alone is kept. The one before.
    pub(super) fn restart(&mut self, adapter: Adapter) -> Adapter {
        core::mem::replace(&mut self.adapter_mut(), adapter)
    }

    /// The class means, which stay behind with none.
    pub(super) fn take_means(&mut self) -> [ClassMeans; 2] {
        let mut adapter = self.adapter_mut();
        let Adapter { means, start_means, .. } = &mut *adapter;
        [means, start_means].map(core::mem::take)
    }

    pub(super) fn adapter_mut(&self) -> std::sync::RwLockWriteGuard<'_, Adapter> {
        self.adapter.write().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn quarantine(&self) -> &[Quarantined] {
        self.quarantine.list()
    }

    /// Runs photos by ones and shows the feature vector of each, or `None` where it cannot be read, to `visit`, in order.
    pub(super) fn features(
        &mut self,
        photos: impl IntoIterator<Item = Photo>,
        observer: &mut Observer,
        mut visit: impl FnMut(Option<&[f32]>, &mut Observer) -> Result<()>,
    ) -> Result<()> {
        let (source, quarantine) = (self.source.clone(), &mut self.quarantine);
        let work = move |network: &mut Network, photo: Photo| {
            let width = network.features();
            source.features(network, Micro { photos: vec![photo], ..Micro::default() }).map(|done| (done, width))
        };
        self.crew.each(photos, work, |done| {
            let (done, width) = done?;
            set_aside(quarantine, done.unreadable, observer);
            visit(done.output.get(..width), observer)
        })
    }

    /// What the photos of the last imprinting have told.
    pub(super) fn outlook(&self) -> &Outlook {
        &self.outlook
    }

    /// What the photos have told now; or what they had told when the lesson began, before pairs had learned.
    pub(super) fn restore_outlook(&mut self, outlook: Outlook) {
        self.outlook = outlook;
    }

    /// Remembers how the lesson was rehearsed.
    pub(super) fn was_rehearsed(&mut self, rehearsal: Option<Rehearsal>) {
        self.outlook.rehearsal = rehearsal;
    }

    /// Numbers that the optimizer moves.
    pub(super) fn trained(&self) -> usize {
        let adapter = self.adapter();
        let head = adapter.head.classes() * (adapter.head.features() + 1);
        if self.outlook.lets_pairs_learn() { adapter.trainable() } else { head }
    }

    /// The feature vectors of all photos, one after the other; `None` where one cannot be read.
    pub(super) fn all_features(&mut self, data: &Dataset) -> Result<Option<Vec<f32>>> {
        let (mut features, mut whole) = (Vec::new(), true);
        let photos = data.samples.iter().map(|sample| photo(sample, None));
        self.features(photos, &mut |_| (), |row, _| {
            whole &= row.is_some();
            features.extend_from_slice(row.unwrap_or_default());
            Ok(())
        })?;
        Ok(whole.then_some(features))
    }

    /// Mean gradients over the photos `indices` of `data` into `total`, and the time in ms that the network took.
    pub(super) fn gradients(
        &mut self,
        data: &Dataset,
        indices: &[usize],
        augment: Option<(u64, u64)>,
        total: &mut Gradients,
        observer: &mut Observer,
    ) -> Result<f64> {
        total.clear();
        let mut clock = 0.0;
        let (source, quarantine) = (self.source.clone(), &mut self.quarantine);
        let photo = |&index: &usize| photo(&data.samples[index], cut(augment, index));
        let micro = indices.chunks(self.micro).map(|indices| self.source.micro(indices.iter().map(photo)));
        let work = move |network: &mut Network, micro| source.step(network, micro);
        self.crew.each(micro, work, |done| {
            let mut done = done?;
            set_aside(quarantine, done.unreadable.drain(..), observer);
            if !done.labels.is_empty() {
                total.add(&done.output.pairs, &done.output.dw, &done.output.db);
                total.count(&done.output.loss, &done.output.logits, &done.labels);
            }
            clock += done.ms;
            self.source.recycle(done);
            Ok(())
        })?;
        total.average();
        // Threads work side by side.
        Ok(clock / self.crew.threads() as f64)
    }

    /// One optimizer step with mean `gradients`.
    pub(super) fn update(&mut self, gradients: &Gradients, (lr, head_lr): (Moment, f32)) -> Result<()> {
        self.adapter_mut().update(gradients, &Update { lr, head_lr, optimizer: AdamW::default() })
    }

    /// Mean cross-entropy of the photos `indices` of `data`, nothing being changed; `None` where none can be read.
    pub(super) fn loss(
        &mut self,
        data: &Dataset,
        indices: &[usize],
        augment: Option<(u64, u64)>,
        observer: &mut Observer,
    ) -> Result<Option<f32>> {
        let photos = indices.iter().map(|&index| photo(&data.samples[index], cut(augment, index)));
        let adapter = self.adapter.clone();
        let (mut at, mut losses) = (0, Vec::with_capacity(indices.len()));
        self.features(photos, observer, |row, _| {
            let class = data.samples[indices[at]].class;
            at += 1;
            losses.extend(row.map(|row| read(&adapter).head.loss(row, class)));
            Ok(())
        })?;
        Ok((!losses.is_empty()).then(|| losses.iter().sum::<f32>() / losses.len() as f32))
    }

    /// Accuracy and confusion over `data`, and the most confident `mistakes`; unreadable photos do not count.
    ///
    /// # Errors
    /// Kind `Data` where none can be read; `Stopped` once `stop` is set.
    pub(super) fn evaluate(
        &mut self,
        data: &Dataset,
        phase: &str,
        mistakes: usize,
        stop: &AtomicBool,
        observer: &mut Observer,
    ) -> Result<Evaluation> {
        let mut evaluation = Evaluation::new(&data.classes, mistakes);
        observer(Progress::Begin { phase: &format!("accuracy {phase}"), total: data.samples.len() as u64 });
        let begin = Instant::now();
        let (adapter, own_classifier) = (self.adapter.clone(), self.own_classifier);
        let mut samples = data.samples.iter();
        let photos = data.samples.iter().map(|sample| photo(sample, None));
        self.features(photos, observer, |row, observer| {
            if let (Some(sample), Some(row)) = (samples.next(), row) {
                evaluation.count(sample, logits(&adapter, own_classifier, row), own_classifier);
            }
            observer(Progress::Advance);
            go_on(stop)
        })?;
        observer(Progress::End);
        if evaluation.n == 0 {
            let message = "none of the photos that accuracy is measured on can be read";
            return Err(Error::new(ErrorKind::Data, data.root.display(), message));
        }
        evaluation.seconds(begin.elapsed().as_secs_f64());
        Ok(evaluation)
    }

    /// The logits of one photo.
    ///
    /// # Errors
    /// Kind `Image` where it cannot be read.
    pub(super) fn scores(&mut self, path: &Path) -> Result<Vec<f32>> {
        let photo = Photo { path: path.into(), label: -1, augment: None, slot: None };
        let (adapter, own_classifier) = (self.adapter.clone(), self.own_classifier);
        let mut scores = None;
        self.features([photo], &mut |_| (), |row, _| {
            scores = row.map(|row| logits(&adapter, own_classifier, row));
            Ok(())
        })?;
        scores.ok_or_else(|| {
            let name = path.display().to_string();
            let known = self.quarantine().iter().find(|photo| photo.path == name);
            let reason = known.map_or("cannot be read", |photo| &photo.reason);
            Error::new(ErrorKind::Image, path.display(), reason)
        })
    }

    /// Decodes `photo` and runs an empty micro-batch through the network, `rounds` times on every thread; the time of one image,
    /// decoding not included, in the last round.
    ///
    /// # Errors
    /// Kind `Internal` where a run fails or a thread panics.
    pub(super) fn trial(&mut self, train: bool, rounds: usize, photo: Option<Arc<Path>>) -> Result<Trial> {
        let source = self.source.clone();
        // One that cannot be read is set aside when its turn comes.
        self.try_out(train, rounds, move || drop(photo.as_ref().map(|photo| load(photo, &source.preprocess, None))))
    }

    fn try_out(&mut self, train: bool, rounds: usize, decode: impl Fn() + Send + Sync + 'static) -> Result<Trial> {
        let mut last = Ok(Trial::default());
        // Side by side, so that all threads take most at the same time, as they will some time in a lesson.
        let meeting = Meeting::of(self.crew.threads());
        let work = move |network: &mut Network, ()| -> Result<Trial> {
            let together = meeting.attend();
            together.wait();
            decode();
            let images = vec![0.0; network.batch() * network.image_len()];
            together.wait();
            let before = timed(|| network.prefix(&images))
                .and_then(|(boundary, prefix_ms)| Ok((prefix_ms, timed(|| network.forward(&boundary))?.1, boundary)));
            let labels = vec![0; network.batch()];
            // Whatever has failed, the others wait for this one.
            together.wait();
            let (prefix_ms, forward_ms, boundary) = before?;
            let step_ms = if train { timed(|| network.step(&boundary, &labels))?.1 } else { 0.0 };
            Ok(Trial { prefix_ms, forward_ms, step_ms })
        };
        // Every thread gets all of its rounds, even after a fault: the others wait for it.
        self.crew.each(std::iter::repeat_n((), rounds * self.crew.threads()), work, |trial| {
            if last.is_ok() {
                last = trial;
            }
            Ok(())
        })?;
        let last = last?;
        let each = 1.0 / self.micro as f64;
        Ok(Trial { prefix_ms: each * last.prefix_ms, forward_ms: each * last.forward_ms, step_ms: each * last.step_ms })
    }

    /// How much the process would have to grow for every thread to take so many bytes at the same time.
    ///
    /// # Errors
    /// Kind `Internal` where a thread panics.
    pub(super) fn growth(&mut self, bytes: u64) -> Result<u64> {
        let (meeting, present) = (Meeting::of(self.crew.threads()), rss_bytes().unwrap_or(0));
        let work = move |_: &mut Network, ()| {
            let together = meeting.attend();
            let claim = Claim::take(bytes, present);
            // What one thread has taken, another must not find.
            together.wait();
            claim.missing()
        };
        let mut growth = 0;
        self.crew.each(std::iter::repeat_n((), self.crew.threads()), work, |missing| {
            growth += missing;
            Ok(())
        })?;
        Ok(growth)
    }

    /// Bytes that `photos` photos trained on take in the cache.
    pub(super) fn cache_bytes(&self, photos: usize) -> u64 {
        self.source.rounded.as_ref().map_or(0, |cache| cache.size(photos.min(cache.photos())))
    }

    /// Lets go of the prefix where its output is kept of all `photos` photos; no other photo may come.
    pub(super) fn drop_prefix(&mut self, photos: usize) {
        if self.source.rounded.as_ref().is_some_and(|cache| cache.is_full() && cache.photos() >= photos) {
            self.crew.for_all(Network::drop_prefix);
        }
    }
}

/// # Errors
/// Kind `Stopped` once `stop` is set: no step has been taken since the lesson began or was taken up.
pub(super) fn go_on(stop: &AtomicBool) -> Result<()> {
    match stop.load(Ordering::Relaxed) {
        true => Err(Error::new(ErrorKind::Stopped, "the lesson", "stopped before it took a step; go on with --resume")),
        false => Ok(()),
    }
}

/// The classifier's answer to one feature vector.
fn logits(adapter: &SharedAdapter, own_classifier: bool, features: &[f32]) -> Vec<f32> {
    if own_classifier { features.to_vec() } else { read(adapter).head.logits(features) }
}

fn read(adapter: &SharedAdapter) -> RwLockReadGuard<'_, Adapter> {
    adapter.read().unwrap_or_else(PoisonError::into_inner)
}

fn set_aside(
    quarantine: &mut Quarantine,
    unreadable: impl IntoIterator<Item = (Arc<Path>, String)>,
    observer: &mut Observer,
) {
    for (path, reason) in unreadable {
        if quarantine.add(&path, &reason) {
            observer(Progress::Warning(&format!("set aside {}: {reason}", path.display())));
        }
    }
}

/// A random cut is another photo each time, and is not kept.
pub(super) fn photo(sample: &Sample, augment: Option<Augment>) -> Photo {
    let slot = sample.slot.filter(|_| augment.is_none());
    Photo { path: sample.path.clone(), label: sample.class as i64, augment, slot }
}

/// The random cut of one photo, where (seed, epoch) ask for one.
fn cut(augment: Option<(u64, u64)>, index: usize) -> Option<Augment> {
    augment.map(|(seed, epoch)| Augment { seed, epoch, index: index as u64 })
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_thread_that_panics_while_the_others_wait_for_it_ends_the_trial_with_what_it_said() {
        let bundle = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/handwriting/handwriting.bundle");
        let bundle = Bundle::open(&bundle).unwrap();
        let adapter = Adapter::start([], 2, SiteSettings::default(), 2, bundle.feature_dim).unwrap();
        let adapter: SharedAdapter = Arc::new(RwLock::new(adapter));
        let plan = Runner::plan(&bundle, &adapter, Some(Activations::Kept)).unwrap();
        for call in [0, 1, 4, 8] {
            let means = Means { threads: 3, ..Means::plain() };
            let mut runner = Runner::start(&plan, adapter.clone(), &bundle, &means).unwrap();
            let calls = std::sync::atomic::AtomicUsize::new(0);
            let panics = move || assert_ne!(calls.fetch_add(1, Ordering::Relaxed), call, "the decoder has had enough");
            // A trial that hangs fails the test instead of hanging it.
            let (tell, told) = channel();
            std::thread::spawn(move || tell.send(runner.try_out(true, 3, panics).map(drop).map_err(|e| e.to_string())));
            let told = told.recv_timeout(Duration::from_secs(60)).expect("the trial never ends");
            let said = told.unwrap_err();
            assert!(
                said.contains("has panicked") && said.contains("the decoder has had enough"),
                "call {call}: {said}"
            );
        }
    }
}
