//! The trainable part of a network on the host: the core's buffers, owned, and its mathematics over many positions.

mod cholesky;
mod directions;
mod gradients;
mod head;
pub(crate) mod kernel;
mod means;
mod moment;
mod ridge;
pub(crate) mod scratch;
mod site;
mod sketch;
mod small;
mod tiles;

pub use crate::limits::{MOST_DIRECTIONS, MOST_PAIRS};
pub use directions::DirectionsBuf;
pub use gradients::Gradients;
pub use head::HeadBuffers;
pub(crate) use head::HeadLoss;
pub use means::ClassMeans;
pub(crate) use moment::Moment;
pub(crate) use ridge::Ridge;
pub use site::{HostLedger, SiteBuffers, SiteSettings};
pub(crate) use sketch::Sketch;

use crate::core::{AdamW, PairRate, Recompose, Recomposition};
use crate::error::{Error, ErrorKind, Result};
use crate::limits::{MOST_CLASSES, MOST_HEAD_VALUES};

/// One site to be started.
#[derive(Debug, Clone)]
pub struct SiteSeed {
    /// Its name.
    pub name: String,
    /// Rows of W.
    pub out_dim: usize,
    /// Columns of W.
    pub in_dim: usize,
    /// The directions that ship.
    pub directions: DirectionsBuf,
}

impl SiteSeed {
    /// A site whose W has `out_dim` rows and `in_dim` columns.
    pub fn new(name: impl Into<String>, [out_dim, in_dim]: [usize; 2], directions: DirectionsBuf) -> Self {
        SiteSeed { name: name.into(), out_dim, in_dim, directions }
    }
}

/// The learning rates and the optimizer of one step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Update {
    /// Rate of the pairs, by their ages.
    pub lr: PairRate,
    /// Rate of the head.
    pub head_lr: f32,
    /// What moves the pairs.
    pub optimizer: AdamW,
    /// What moves the head.
    pub head_optimizer: AdamW,
}

impl Update {
    /// One without decay.
    #[must_use]
    pub fn new(lr: PairRate, head_lr: f32) -> Self {
        Update { lr, head_lr, optimizer: AdamW::default(), head_optimizer: AdamW::default() }
    }
}

/// A recomposition, and where it happened.
#[derive(Debug, Clone, Copy)]
pub struct SiteRecomposition {
    /// Index of the site.
    pub site: usize,
    /// What happened there.
    pub happened: Recomposition,
}

/// Everything that learns: the pairs of every site, and the head; and what is remembered of the photos.
#[derive(Debug, Clone)]
pub struct Adapter {
    /// In graph order.
    pub sites: Vec<SiteBuffers>,
    /// The classifier.
    pub head: HeadBuffers,
    /// The class means of the features that the pairs make.
    pub means: ClassMeans,
    /// The class means of the backbone's own features: what pairs make of photos at their start.
    pub start_means: ClassMeans,
}

impl Adapter {
    /// Every pair on its start, the head all zeros.
    ///
    /// # Errors
    /// Kind `Sites` where a rank or a reserve does not fit a site, `Mismatch` for a head that is too large.
    pub fn start(
        seeds: impl IntoIterator<Item = SiteSeed>,
        rank: usize,
        settings: SiteSettings,
        classes: usize,
        features: usize,
    ) -> Result<Self> {
        if classes > MOST_CLASSES || classes.saturating_mul(features.saturating_add(1)) > MOST_HEAD_VALUES {
            let message =
                format!("{classes} classes on {features} features are more than is taken; choose fewer classes");
            return Err(Error::new(ErrorKind::Mismatch, "head", message));
        }
        let started =
            seeds.into_iter().enumerate().map(|(index, seed)| SiteBuffers::start(index, seed, rank, settings));
        let means = ClassMeans::unknown(classes, features);
        Ok(Adapter {
            sites: started.collect::<Result<_>>()?,
            head: HeadBuffers::new(classes, features),
            start_means: means.clone(),
            means,
        })
    }

    /// Ready for a further lesson, which tells `classes` apart, the ones known first: what was learned stays, the optimizer and
    /// importance start anew.
    ///
    /// # Errors
    /// Kind `Sites` where a buffer does not fit.
    pub(crate) fn begin_lesson(&mut self, classes: usize) -> Result<()> {
        self.head = self.head.with_classes(classes);
        self.means = self.means.with_classes(classes);
        self.start_means = self.start_means.with_classes(classes);
        self.renew()
    }

    /// What the pairs have learned stays; their moments, ages and importance start anew.
    ///
    /// # Errors
    /// Kind `Sites` where a buffer does not fit.
    pub(crate) fn renew(&mut self) -> Result<()> {
        self.sites.iter_mut().try_for_each(SiteBuffers::renew)
    }

    /// The largest rate that a pair has had at `moment`, after [`Adapter::update`].
    pub(crate) fn largest_rate(&self, moment: &PairRate) -> f32 {
        let ages = self.sites.iter().flat_map(|site| site.ledger.ages());
        ages.map(|age| moment.rate(*age)).fold(0.0, f32::max)
    }

    /// From now on, what the sites read is sketched, for pairs at their start or for those that have learned.
    pub(crate) fn begin_sketches(&mut self, have_learned: bool) {
        self.sites.iter_mut().for_each(|site| site.begin_sketch(have_learned));
    }

    /// The directions of what the sites have read since; `None` where one was not sketched. Each site takes tens of milliseconds; before
    /// it, `go_on` is asked.
    ///
    /// # Errors
    /// What `go_on` says; some sites may still be sketched then.
    pub(crate) fn end_sketches(&mut self, go_on: impl Fn() -> Result<()>) -> Result<Option<Vec<DirectionsBuf>>> {
        self.sites.iter_mut().map(|site| go_on().map(|()| site.end_sketch())).collect()
    }

    /// What the sites read is no longer sketched.
    pub(crate) fn drop_sketches(&mut self) {
        self.sites.iter_mut().for_each(SiteBuffers::drop_sketch);
    }

    /// From now on, the second moment of what the sites read is summed up.
    pub(crate) fn begin_moments(&mut self) {
        self.sites.iter_mut().for_each(SiteBuffers::begin_moment);
    }

    /// That of each site; `None` where too little was read to tell.
    pub(crate) fn end_moments(&mut self) -> Vec<Option<Moment>> {
        self.sites.iter_mut().map(SiteBuffers::end_moment).collect()
    }

    /// Pairs at their start, along directions that did not ship, where there are any.
    ///
    /// # Errors
    /// Kind `Sites` where they do not fit.
    pub(crate) fn go_along(&mut self, found: Option<Vec<DirectionsBuf>>) -> Result<()> {
        self.sites.iter_mut().zip(found.into_iter().flatten()).try_for_each(|(site, found)| site.go_along(found))
    }

    /// Pairs as they are, with other unused directions than those that they have.
    ///
    /// # Errors
    /// Kind `Sites` where they do not fit.
    pub(crate) fn go_on_along(&mut self, found: &[DirectionsBuf]) -> Result<()> {
        self.sites.iter_mut().zip(found).try_for_each(|(site, found)| site.go_on_along(found))
    }

    /// The directions of every site, where they were found and have not shipped.
    pub(crate) fn found(&self) -> Option<Vec<DirectionsBuf>> {
        self.sites.iter().map(|site| site.found().cloned()).collect()
    }

    /// Bytes of the directions that were found.
    pub(crate) fn found_bytes(&self) -> u64 {
        self.of_found(DirectionsBuf::found_bytes)
    }

    /// Bytes of these in a checkpoint.
    pub(crate) fn coded_bytes(&self) -> u64 {
        self.of_found(DirectionsBuf::coded_bytes)
    }

    fn of_found(&self, bytes: fn(usize, usize) -> u64) -> u64 {
        let found = self.sites.iter().filter(|site| site.found().is_some());
        found.map(|site| bytes(site.shape.reserve, site.shape.in_dim)).sum()
    }

    /// Numbers that the optimizer moves.
    #[must_use]
    pub fn trainable(&self) -> usize {
        self.sites.iter().map(|site| site.shape.plane_len()).sum::<usize>() + self.head.len()
    }

    /// Bytes of what it has learned, without what only its next step needs: a generation, but for directions that were found.
    pub(crate) fn learned_bytes(&self) -> usize {
        let steps =
            |site: &SiteBuffers| size_of::<f32>() * (site.state.len() - site.shape.plane_len().min(site.state.len()));
        self.bytes() - 2 * size_of::<f32>() * self.head.len() - self.sites.iter().map(steps).sum::<usize>()
    }

    /// Bytes of all its values: of the head, the pairs, their optimizer and importance, the deltas, and the class means.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let head = 3 * size_of::<f32>() * self.head.len() + self.means.bytes() + self.start_means.bytes();
        let site = |site: &SiteBuffers| {
            size_of::<f32>() * site.state.len() + site.codes.len() + size_of::<half::f16>() * site.scales.len()
        };
        head + self.sites.iter().map(site).sum::<usize>()
    }

    /// A gradient of the right sizes, all zeros.
    #[must_use]
    pub fn zero_gradients(&self) -> Gradients {
        Gradients::zeros(
            self.sites.iter().map(|site| site.shape.plane_len()),
            self.head.classes(),
            self.head.features(),
        )
    }

    /// One step: importance, then AdamW, of every site; AdamW of the head.
    ///
    /// # Errors
    /// Kind `Internal` where the gradients are those of another adapter; nothing has changed then.
    pub fn update(&mut self, gradients: &Gradients, update: &Update) -> Result<()> {
        let lengths = gradients.sites.iter().map(Vec::len);
        if !lengths.eq(self.sites.iter().map(|site| site.shape.plane_len())) || gradients.head.len() != self.head.len()
        {
            return Err(Error::new(ErrorKind::Internal, "update", "gradients of another adapter"));
        }
        for (site, gradient) in self.sites.iter_mut().zip(&gradients.sites) {
            site.update(gradient, update)?;
        }
        self.head.update(&gradients.head, update)
    }

    /// One recomposition of every site; the index of the site with each event. `rule` counts two-sided pairs: of one-sided ones so
    /// many more are fused as there are.
    ///
    /// # Errors
    /// Kind `Internal` where a site's buffers do not fit.
    pub fn recompose(&mut self, rule: &Recompose) -> Result<Vec<SiteRecomposition>> {
        let mut events = Vec::new();
        for (index, site) in self.sites.iter_mut().enumerate() {
            events
                .extend(site.recompose(rule)?.into_iter().map(|happened| SiteRecomposition { site: index, happened }));
        }
        Ok(events)
    }
}

#[cfg(test)]
mod tests {
    use half::f16;

    use super::*;
    use crate::core::Schedule;

    #[test]
    fn each_decay_moves_what_it_is_meant_for() {
        let halves = |len| vec![f16::from_f32(0.5); len].into();
        let directions = || DirectionsBuf { sigma: vec![1.0; 4].into(), u: halves(4 * 6), v: halves(4 * 5) };
        let moved = |decay: f32, head_decay: f32| {
            let mut adapter =
                Adapter::start([SiteSeed::new("site", [6, 5], directions())], 2, SiteSettings::default(), 3, 7)
                    .unwrap();
            adapter.sites[0].values_mut().iter_mut().for_each(|value| *value += 1.0);
            adapter.head.values.fill(1.0);
            let [optimizer, head_optimizer] = [decay, head_decay].map(|decay| AdamW { decay, ..AdamW::default() });
            let rates = Update { optimizer, head_optimizer, ..Update::new(Schedule::linear(0.1, 0, 10).at(0), 0.1) };
            let gradients = adapter.zero_gradients();
            let before = (adapter.sites[0].values_mut().to_vec(), adapter.head.values.clone());
            adapter.update(&gradients, &rates).unwrap();
            (before.0 != adapter.sites[0].values_mut(), before.1 != adapter.head.values)
        };
        assert_eq!([moved(0.0, 0.0), moved(0.5, 0.0), moved(0.0, 0.5)], [(false, false), (true, false), (false, true)]);
    }

    #[test]
    fn gradients_of_another_length_are_refused_and_nothing_moves() {
        let halves = |len| vec![f16::from_f32(0.5); len].into();
        let directions = || DirectionsBuf { sigma: vec![1.0; 4].into(), u: halves(4 * 6), v: halves(4 * 5) };
        let seeds = ["first", "second"].map(|name| SiteSeed::new(name, [6, 5], directions()));
        let mut adapter = Adapter::start(seeds, 2, SiteSettings::default(), 3, 7).unwrap();
        let rates = Update::new(Schedule::linear(0.1, 0, 10).at(0), 0.1);
        let mut gradients = adapter.zero_gradients();
        gradients.sites.iter_mut().flatten().chain(&mut gradients.head).for_each(|g| *g = 1.0);
        let state = |adapter: &Adapter| {
            let sites = adapter.sites.iter().map(|site| (site.state.clone(), site.ledger.ages().to_vec()));
            (adapter.head.clone(), sites.collect::<Vec<_>>())
        };
        let before = state(&adapter);
        for spoil in [
            (|g| g.head.truncate(1)) as fn(&mut Gradients),
            |g| g.head.push(1.0),
            |g| g.head.clear(),
            |g| g.sites[1].truncate(1),
            |g| drop(g.sites.pop()),
        ] {
            let mut other = gradients.clone();
            spoil(&mut other);
            assert_eq!(adapter.update(&other, &rates).unwrap_err().kind(), ErrorKind::Internal);
            assert_eq!(state(&adapter), before);
        }
        assert_eq!(adapter.head.update(&gradients.head[1..], &rates).unwrap_err().kind(), ErrorKind::Internal);
        assert_eq!(state(&adapter), before);
        adapter.update(&gradients, &rates).unwrap();
        assert!(adapter.head.values.iter().all(|value| *value < 0.0) && adapter.head.age == 1);
    }
}
