//! Photos through the network: features, gradients of a batch, evaluation, with unreadable photos set aside.

use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use super::cache::Cache;
use super::crew::{Crew, Meeting};
use super::source::{Micro, Source, View};
use crate::adapter::{Adapter, ClassMeans, Gradients, SiteSettings, Update};
use crate::autodiff::{Activations, Network, NetworkPlan, Stored};
use crate::backbone::SharedAdapter;
use crate::bundle::Bundle;
use crate::core::{AdamW, PairRate};
use crate::error::{Error, ErrorKind, Result};
use crate::session::photos::{Augment, Dataset, Photo, Picture, Quarantine, Quarantined, load};
use crate::session::process::{Block, Claim, rss_bytes, timed};
use crate::session::progress::{Audience, Progress};
use crate::session::replay::{Example, Replay};
use crate::session::settings::CachePlace;

/// A planned network on one or more threads, with its adapter and the photos that it could not read.
pub(crate) struct Runner {
    pub(super) crew: Crew,
    pub(super) source: Arc<Source>,
    /// Images in a micro-batch.
    micro: usize,
    adapter: SharedAdapter,
    quarantine: Quarantine,
    /// The network ends in the model's own classifier, and the adapter's head is not asked.
    own_classifier: bool,
}

/// Milliseconds that one image took.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Timing {
    pub(crate) prefix_ms: f64,
    pub(crate) forward_ms: f64,
    pub(crate) step_ms: f64,
}

/// What a [`Runner`] takes from the machine.
#[derive(Debug, Clone)]
pub(crate) struct Resources<'m> {
    pub(crate) threads: usize,
    pub(crate) cache: CachePlace,
    /// Where a cache on disk lies.
    pub(crate) folder: &'m Path,
    /// Photos trained on that it may keep.
    pub(crate) photos: usize,
    /// Photos measured on that it may keep.
    pub(crate) measured: usize,
    /// Examples of earlier lessons.
    pub(crate) replay: Replay,
}

impl Resources<'static> {
    /// One thread, nothing kept but examples of earlier lessons.
    pub(crate) fn remembering(replay: Replay) -> Self {
        Resources { replay, ..Resources::plain() }
    }

    /// One thread, nothing kept.
    fn plain() -> Self {
        Resources {
            threads: 1,
            cache: CachePlace::Off,
            folder: Path::new(""),
            photos: 0,
            measured: 0,
            replay: Replay::default(),
        }
    }
}

impl Runner {
    /// Ready to classify.
    pub(crate) fn inference(bundle: &Bundle, mut adapter: Adapter) -> Result<Self> {
        let mut backbone = bundle.backbone()?;
        let sites = bundle.sites_in(&backbone)?;
        backbone.absorb(&sites, &mut adapter);
        let adapter: SharedAdapter = Arc::new(RwLock::new(adapter));
        let plan = NetworkPlan::inference(&backbone, &sites, &adapter)?;
        bundle.check_features(plan.features())?;
        Self::around(&plan, adapter, bundle, false, &Resources::plain())
    }

    /// The network of a bundle with an adapter, planned to classify, and to train where `train` says how.
    pub(crate) fn plan(bundle: &Bundle, adapter: &SharedAdapter, train: Option<Activations>) -> Result<NetworkPlan> {
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
    pub(crate) fn start(
        plan: &NetworkPlan,
        adapter: SharedAdapter,
        bundle: &Bundle,
        resources: &Resources,
    ) -> Result<Self> {
        Self::around(plan, adapter, bundle, false, resources)
    }

    /// Ready to classify with the model's own output, which must have `classes` values.
    pub(crate) fn own_classifier(bundle: &Bundle, classes: usize) -> Result<Self> {
        let plan = NetworkPlan::own_classifier(&bundle.backbone()?)?;
        if plan.features() != classes {
            let message = format!("has {classes} labels, but its model has {} outputs; pack it again", plan.features());
            return Err(Error::new(ErrorKind::Mismatch, bundle.path.display(), message));
        }
        let adapter = Adapter::start([], bundle.rank, SiteSettings::default(), 0, 0)?;
        Self::around(&plan, Arc::new(RwLock::new(adapter)), bundle, true, &Resources::plain())
    }

    fn around(
        plan: &NetworkPlan,
        adapter: SharedAdapter,
        bundle: &Bundle,
        own_classifier: bool,
        resources: &Resources,
    ) -> Result<Self> {
        fn cache<T: Stored>(plan: &NetworkPlan, resources: &Resources, photos: usize) -> Result<Option<Cache<T>>> {
            let len = plan.boundary_len().filter(|_| photos > 0);
            Ok(len.map(|len| Cache::new(resources.cache, resources.folder, photos, len)).transpose()?.flatten())
        }
        let (rounded, exact) = (cache(plan, resources, resources.photos)?, cache(plan, resources, resources.measured)?);
        Ok(Runner {
            crew: Crew::start(plan, resources.threads)?,
            source: Arc::new(Source::new(bundle.preprocess.clone(), (rounded, exact), resources.replay.clone())),
            micro: plan.batch(),
            adapter,
            quarantine: Quarantine::default(),
            own_classifier,
        })
    }

    pub(crate) fn is_own_classifier(&self) -> bool {
        self.own_classifier
    }

    pub(crate) fn adapter(&self) -> RwLockReadGuard<'_, Adapter> {
        self.adapter.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Goes on with another adapter of the same shapes; whatever depends on the photos alone is kept. The one before.
    pub(crate) fn restart(&mut self, adapter: Adapter) -> Adapter {
        core::mem::replace(&mut self.adapter_mut(), adapter)
    }

    /// The class means, which stay behind with none.
    pub(crate) fn take_means(&mut self) -> [ClassMeans; 2] {
        let mut adapter = self.adapter_mut();
        let Adapter { means, start_means, .. } = &mut *adapter;
        [means, start_means].map(core::mem::take)
    }

    pub(crate) fn adapter_mut(&self) -> RwLockWriteGuard<'_, Adapter> {
        self.adapter.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets go of what could not be read so far.
    pub(crate) fn take_quarantine(&mut self) -> Quarantine {
        core::mem::take(&mut self.quarantine)
    }

    pub(crate) fn quarantine(&self) -> &[Quarantined] {
        self.quarantine.list()
    }

    /// Runs photos by ones and shows the feature vector of each, or `None` where it cannot be read, to `visit`, in order.
    pub(crate) fn features(
        &mut self,
        photos: impl IntoIterator<Item = View>,
        audience: &mut Audience,
        mut visit: impl FnMut(Option<&[f32]>, &mut Audience) -> Result<()>,
    ) -> Result<()> {
        self.features_and_examples(photos, false, audience, |row, _, audience| visit(row, audience))
    }

    /// The same, and where it `keeps` that, the example of each photo that is none itself.
    pub(crate) fn features_and_examples(
        &mut self,
        photos: impl IntoIterator<Item = View>,
        keeps: bool,
        audience: &mut Audience,
        mut visit: impl FnMut(Option<&[f32]>, Option<Example>, &mut Audience) -> Result<()>,
    ) -> Result<()> {
        let (source, quarantine) = (self.source.clone(), &mut self.quarantine);
        let work = move |network: &mut Network, photo: View| {
            let (width, micro) = (network.features(), Micro { photos: vec![photo], ..Micro::default() });
            source.features_and_example(network, micro, keeps).map(|done| (done, width))
        };
        self.crew.all().each(photos, work, |done| {
            let ((done, example), width) = done?;
            set_aside(quarantine, done.unreadable, audience);
            visit(done.output.get(..width), example, audience)
        })
    }

    /// The feature vectors of all photos, one after the other; `None` where one cannot be read.
    ///
    /// # Errors
    /// Kind `Stopped` where it is stopped.
    pub(crate) fn all_features(&mut self, data: &Dataset, audience: &mut Audience) -> Result<Option<Vec<f32>>> {
        let (mut features, mut whole) = (Vec::new(), true);
        let photos = data.photos.iter().map(|photo| view(photo, None));
        self.features(photos, audience, |row, audience| {
            whole &= row.is_some();
            features.extend_from_slice(row.unwrap_or_default());
            audience.go_on()
        })?;
        Ok(whole.then_some(features))
    }

    /// Mean gradients over the photos `indices` of `data` into `total`, and the time in ms that the network took.
    ///
    /// # Errors
    /// Kind `Stopped` where it is stopped: after the micro-batch under way, and nothing but `total` has changed.
    pub(crate) fn gradients(
        &mut self,
        data: &Dataset,
        indices: &[usize],
        augment: Option<(u64, u64)>,
        total: &mut Gradients,
        audience: &mut Audience,
    ) -> Result<f64> {
        total.clear();
        let mut clock = 0.0;
        let (source, quarantine) = (self.source.clone(), &mut self.quarantine);
        let views = |&index: &usize| view(&data.photos[index], cut(augment, index));
        let micro = indices.chunks(self.micro).map(|indices| self.source.micro(indices.iter().map(views)));
        let work = move |network: &mut Network, micro| source.step(network, micro);
        self.crew.all().each(micro, work, |done| {
            let mut done = done?;
            set_aside(quarantine, done.unreadable.drain(..), audience);
            if !done.labels.is_empty() {
                total.add(&done.output.pairs, &done.output.dw, &done.output.db);
                total.count(&done.output.loss, &done.output.logits, &done.labels);
            }
            clock += done.ms;
            self.source.recycle(done);
            audience.go_on()
        })?;
        total.average();
        // Threads work side by side.
        Ok(clock / self.crew.threads() as f64)
    }

    /// One optimizer step with mean `gradients`.
    pub(crate) fn update(
        &mut self,
        gradients: &Gradients,
        (lr, head_lr): (PairRate, f32),
        decays: [f32; 2],
    ) -> Result<()> {
        let [optimizer, head_optimizer] = decays.map(|decay| AdamW { decay, ..AdamW::default() });
        self.adapter_mut().update(gradients, &Update { lr, head_lr, optimizer, head_optimizer })
    }

    /// Mean cross-entropy of the photos `indices` of `data`, nothing being changed; `None` where none can be read.
    ///
    /// # Errors
    /// Kind `Stopped` where it is stopped.
    pub(crate) fn loss(
        &mut self,
        data: &Dataset,
        indices: &[usize],
        augment: Option<(u64, u64)>,
        audience: &mut Audience,
    ) -> Result<Option<f32>> {
        let photos = indices.iter().map(|&index| view(&data.photos[index], cut(augment, index)));
        let adapter = self.adapter.clone();
        let (mut at, mut losses) = (0, Vec::with_capacity(indices.len()));
        self.features(photos, audience, |row, audience| {
            let class = data.photos[indices[at]].class;
            at += 1;
            losses.extend(row.map(|row| read(&adapter).head.loss(row, class)));
            audience.go_on()
        })?;
        Ok((!losses.is_empty()).then(|| losses.iter().sum::<f32>() / losses.len() as f32))
    }

    /// Numbers that the optimizer moves: the head's alone where pairs do not learn.
    pub(crate) fn trained(&self, with_pairs: bool) -> usize {
        let adapter = self.adapter();
        if with_pairs { adapter.trainable() } else { adapter.head.classes() * (adapter.head.features() + 1) }
    }

    /// Shows the scores of each photo, or `None` where it cannot be read, to `visit`, in order: the head's logits, or
    /// the model's own output.
    pub(crate) fn scores(
        &mut self,
        photos: impl IntoIterator<Item = View>,
        audience: &mut Audience,
        mut visit: impl FnMut(Option<Vec<f32>>, &mut Audience) -> Result<()>,
    ) -> Result<()> {
        let (adapter, own_classifier) = (self.adapter.clone(), self.own_classifier);
        let scores = |features: &[f32]| match own_classifier {
            true => features.to_vec(),
            false => read(&adapter).head.logits(features),
        };
        self.features(photos, audience, |row, audience| visit(row.map(scores), audience))
    }

    /// Decodes `photo` and runs an empty micro-batch through the network, `rounds` times on every thread; the time of one image,
    /// decoding not included, in the last round.
    ///
    /// # Errors
    /// Kind `Internal` where a run fails or a thread panics.
    pub(crate) fn trial(&mut self, train: bool, rounds: usize, photo: Option<Picture>) -> Result<Timing> {
        let source = self.source.clone();
        // One that cannot be read is set aside when its turn comes.
        self.try_out(train, rounds, move || drop(photo.as_ref().map(|photo| load(photo, &source.preprocess, None))))
    }

    fn try_out(&mut self, train: bool, rounds: usize, decode: impl Fn() + Send + Sync + 'static) -> Result<Timing> {
        let mut last = Ok(Timing::default());
        // Side by side, so that all threads take most at the same time, as they will some time in a lesson.
        let meeting = Meeting::of(self.crew.threads());
        let work = move |network: &mut Network, ()| -> Result<Timing> {
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
            Ok(Timing { prefix_ms, forward_ms, step_ms })
        };
        // Every thread gets all of its rounds, even after a fault: the others wait for it.
        let rounds = rounds * self.crew.threads();
        self.crew.all().each(std::iter::repeat_n((), rounds), work, |trial| {
            if last.is_ok() {
                last = trial;
            }
            Ok(())
        })?;
        let last = last?;
        let each = 1.0 / self.micro as f64;
        Ok(Timing {
            prefix_ms: each * last.prefix_ms,
            forward_ms: each * last.forward_ms,
            step_ms: each * last.step_ms,
        })
    }

    /// How much the process would have to grow for every thread to take so many bytes at the same time.
    ///
    /// # Errors
    /// Kind `Internal` where a thread panics.
    pub(crate) fn growth(&mut self, bytes: u64) -> Result<u64> {
        let (meeting, present) = (Meeting::of(self.crew.threads()), rss_bytes().unwrap_or(0));
        let work = move |_: &mut Network, ()| {
            let together = meeting.attend();
            let claim = Claim::take(bytes, Block::Large, present);
            // What one thread has taken, another must not find.
            together.wait();
            claim.missing()
        };
        let mut growth = 0;
        let threads = self.crew.threads();
        self.crew.all().each(std::iter::repeat_n((), threads), work, |missing| {
            growth += missing;
            Ok(())
        })?;
        Ok(growth)
    }

    /// Bytes that `photos` photos trained on take in the cache.
    pub(crate) fn cache_bytes(&self, photos: usize) -> u64 {
        self.source.rounded.as_ref().map_or(0, |cache| cache.size(photos.min(cache.photos())))
    }

    /// Lets go of the prefix where its output is kept of all `photos` photos; no other photo may come.
    pub(crate) fn drop_prefix(&mut self, photos: usize) {
        if self.source.rounded.as_ref().is_some_and(|cache| cache.is_full() && cache.photos() >= photos) {
            self.crew.for_all(Network::drop_prefix);
        }
    }
}

fn read(adapter: &SharedAdapter) -> RwLockReadGuard<'_, Adapter> {
    adapter.read().unwrap_or_else(PoisonError::into_inner)
}

fn set_aside(
    quarantine: &mut Quarantine,
    unreadable: impl IntoIterator<Item = (Picture, String)>,
    audience: &mut Audience,
) {
    for (picture, reason) in unreadable {
        if quarantine.add(&picture.name(), &reason) {
            audience.tell(Progress::Warning(&format!("set aside {}: {reason}", picture.name())));
        }
    }
}

/// A random cut is another photo each time, and is not kept.
pub(crate) fn view(photo: &Photo, augment: Option<Augment>) -> View {
    // An example has no photo to be cut from.
    let augment = augment.filter(|_| !photo.is_replayed());
    let slot = photo.slot.filter(|_| augment.is_none());
    View { picture: photo.picture.clone(), label: photo.class as i64, augment, slot }
}

/// The random cut of one photo, where (seed, epoch) ask for one.
fn cut(augment: Option<(u64, u64)>, index: usize) -> Option<Augment> {
    augment.map(|(seed, epoch)| Augment { seed, epoch, index: index as u64 })
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;
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
            let resources = Resources { threads: 3, ..Resources::plain() };
            let mut runner = Runner::start(&plan, adapter.clone(), &bundle, &resources).unwrap();
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
