//! What a lesson is asked to do.

use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Serialize;

use super::photos::Dataset;
use crate::adapter::SiteSettings;
use crate::core::{FuseOrder, Method, Sides, Start};
use crate::error::{Error, ErrorKind, Result};
use crate::limits::{MOST_BATCH, MOST_THREADS};

/// When pairs are recomposed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Interval {
    /// Never.
    #[default]
    Never,
    /// All pairs once, after three fifths of the run, where the loss says that it can pay.
    Once,
    /// Half of the pairs every so many steps, whatever the loss.
    Steps(NonZeroU32),
}

impl Interval {
    /// In files: steps, 0 for never; `None`: once.
    pub(crate) fn recorded(self) -> Option<u32> {
        match self {
            Interval::Never => Some(0),
            Interval::Once => None,
            Interval::Steps(steps) => Some(steps.get()),
        }
    }
}

/// So many steps; 0: never.
impl From<u32> for Interval {
    fn from(steps: u32) -> Self {
        NonZeroU32::new(steps).map_or(Interval::Never, Interval::Steps)
    }
}

/// How long a lesson takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Length {
    /// Passes over the photos.
    Epochs(u32),
    /// Batches in all.
    Steps(u32),
}

/// Where the photos for measuring accuracy come from.
#[derive(Debug, Clone, PartialEq)]
pub enum Validation {
    /// Nowhere: accuracy is not measured.
    None,
    /// This share of every class of the training folder is kept aside.
    Split(f64),
    /// Others.
    Photos(Album),
}

/// Where photos are.
#[derive(Debug, Clone, PartialEq)]
pub enum Album {
    /// A folder with one folder per class ([`Dataset::open`]).
    Folder(PathBuf),
    /// In memory ([`Dataset::add`]).
    Memory(Arc<Dataset>),
}

impl Album {
    /// The photos, none of them read yet.
    ///
    /// # Errors
    /// Those of [`Dataset::open`].
    pub fn open(&self) -> Result<Dataset> {
        match self {
            Album::Folder(folder) => Dataset::open(folder),
            Album::Memory(photos) => Ok(Dataset::clone(photos)),
        }
    }

    /// The folder, where it is one.
    #[must_use]
    pub fn folder(&self) -> Option<&Path> {
        if let Album::Folder(folder) = self { Some(folder) } else { None }
    }
}

impl From<&Path> for Album {
    fn from(folder: &Path) -> Self {
        Album::Folder(folder.to_path_buf())
    }
}

impl From<PathBuf> for Album {
    fn from(folder: PathBuf) -> Self {
        Album::Folder(folder)
    }
}

impl From<&str> for Album {
    fn from(folder: &str) -> Self {
        Album::Folder(folder.into())
    }
}

impl From<Dataset> for Album {
    fn from(photos: Dataset) -> Self {
        Album::Memory(Arc::new(photos))
    }
}

/// Where the prefix's outputs are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum CachePlace {
    /// In a file without a name, beside the store; it vanishes with the process.
    Disk,
    /// In memory.
    Ram,
    /// Nowhere: every step runs the prefix.
    Off,
}

/// Where the directions come from that aligned pairs start on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DirectionSource {
    /// The bundle: singular vectors of W.
    #[default]
    Shipped,
    /// The lesson's photos: the leading eigenvectors of the second moment of what each site reads.
    Photos,
}

/// How pairs are made.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) struct PairKind {
    /// What they start on, and which of their sides learn.
    pub(crate) sites: SiteSettings,
    /// Where their directions come from.
    pub(crate) directions: DirectionSource,
}

/// Rate and decays of a lesson, as far as they depend on its pairs and photos.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rates {
    /// Learning rate of the pairs.
    pub lr: f32,
    /// Weight decay of the pairs per unit of their rate.
    pub decay: f32,
    /// Weight decay of the head per unit of its rate.
    pub head_decay: f32,
}

/// The settings of one training run.
#[derive(Debug, Clone, PartialEq)]
pub struct Lesson {
    /// The photos to learn from.
    pub data: Album,
    /// Photos to measure accuracy on.
    pub validation: Validation,
    /// What is trained, and how.
    pub method: Method,
    /// What a pair starts on; `None`: what the method says.
    pub start: Option<Start>,
    /// Which sides of pairs learn; `None`: what the method says.
    pub pairs: Option<Sides>,
    /// Where the directions of aligned pairs come from; `None`: the photos where pairs are one-sided, else the bundle.
    pub directions: Option<DirectionSource>,
    /// How long.
    pub length: Length,
    /// Photos per step.
    pub batch: usize,
    /// Learning rate of the pairs; `None`: as of [`Lesson::rates`].
    pub lr: Option<f32>,
    /// Learning rate of the head.
    pub head_lr: f32,
    /// Weight decay of the pairs per unit of their rate, toward what they started on; `None`: as of [`Lesson::rates`].
    pub decay: Option<f32>,
    /// Weight decay of the head per unit of its rate; `None`: as of [`Lesson::rates`].
    pub head_decay: Option<f32>,
    /// Decides order, split and augmentation.
    pub seed: u64,
    /// Random crops or shifts, and mirror images.
    pub augment: bool,
    /// When pairs are recomposed.
    pub interval: Interval,
    /// Steps that a pair must have lived before it can be fused; `None`: one more than the interval, or none without one.
    pub min_age: Option<u32>,
    /// Which pairs are fused.
    pub choice: FuseOrder,
    /// Nothing is fused: where pairs would be recomposed, only their rates and moments start anew. A control.
    pub renews_only: bool,
    /// After the last step the head is solved anew, where photos are few enough. Otherwise it stays as steps have left it: what goes into a
    /// mean with others' heads has to have begun where theirs have.
    pub solves_head: bool,
    /// Bytes of examples that the store keeps of this lesson's photos, and of earlier ones', for later lessons: what the prefix has made of
    /// them, in int8. 0: none is kept, and none of an earlier lesson is used.
    pub replay: u64,
    /// Threads that photos are run on; the result does not depend on them.
    pub threads: usize,
    /// Where what the prefix makes of each photo is kept.
    pub cache: CachePlace,
    /// Bytes that they may take; photos that find no place run the prefix every time.
    pub cache_limit: Option<u64>,
    /// The largest resident size that the process may reach during the run, in bytes: cache, kept activations and threads are given up
    /// to fit. What the process has when the lesson begins counts, what it has given back does not.
    pub ram_limit: Option<u64>,
}

impl Lesson {
    /// How long a lesson takes where nothing else is asked for.
    pub const DEFAULT_LENGTH: Length = Length::Epochs(15);

    /// Bytes of examples that are kept where nothing else is asked for.
    pub const DEFAULT_REPLAY: u64 = 2 << 20;

    /// A lesson with the default settings: SRLoRA, 15 epochs of batches of 16, a learning rate of 1e-3 for the head and that of
    /// [`Lesson::rates`] for the pairs.
    #[must_use]
    pub fn new(data: impl Into<Album>) -> Self {
        Lesson {
            data: data.into(),
            validation: Validation::None,
            method: Method::Srlora,
            start: None,
            pairs: None,
            directions: None,
            length: Lesson::DEFAULT_LENGTH,
            batch: 16,
            lr: None,
            head_lr: 1e-3,
            decay: None,
            head_decay: None,
            seed: 0,
            augment: false,
            interval: Interval::Never,
            min_age: None,
            choice: FuseOrder::LeastImportant,
            renews_only: false,
            solves_head: true,
            replay: Lesson::DEFAULT_REPLAY,
            threads: 1,
            cache: CachePlace::Disk,
            cache_limit: None,
            ram_limit: None,
        }
    }

    /// How its pairs are made, whether it has any or not.
    pub(crate) fn pair_kind(&self) -> PairKind {
        let method = self.method.settings();
        let (start, sides) = (self.start.unwrap_or(method.start), self.pairs.unwrap_or(method.sides));
        let own = match (sides, start) {
            (Sides::One, Start::Aligned) => DirectionSource::Photos,
            _ => DirectionSource::Shipped,
        };
        let directions = self.directions.unwrap_or(own);
        PairKind { sites: SiteSettings { start, sides, ..SiteSettings::default() }, directions }
    }

    /// The rate of the pairs, and the decays of pairs and head, on so many photos.
    ///
    /// What was not asked for is 3e-3, 0 and 0; where pairs are one-sided, 1e-4 sqrt(photos), between 1e-3 and 4e-3, 1 and 0.5: they soon
    /// know few photos by heart.
    #[must_use]
    pub fn rates(&self, photos: usize) -> Rates {
        let is_one_sided = self.method.settings().trains_pairs && self.pair_kind().sites.sides == Sides::One;
        let own = match is_one_sided {
            true => Rates { lr: (1e-4 * (photos as f32).sqrt()).clamp(1e-3, 4e-3), decay: 1.0, head_decay: 0.5 },
            false => Rates { lr: 3e-3, decay: 0.0, head_decay: 0.0 },
        };
        Rates {
            lr: self.lr.unwrap_or(own.lr),
            decay: self.decay.unwrap_or(own.decay),
            head_decay: self.head_decay.unwrap_or(own.head_decay),
        }
    }

    /// Asks for what it would have on so many photos.
    pub(crate) fn settle_rates(&mut self, photos: usize) {
        let Rates { lr, decay, head_decay } = self.rates(photos);
        (self.lr, self.decay, self.head_decay) = (Some(lr), Some(decay), Some(head_decay));
    }

    /// Whether the directions of its pairs have to be found in its photos, where they are new.
    pub(crate) fn finds_directions(&self) -> bool {
        self.method.settings().trains_pairs && self.pair_kind().directions == DirectionSource::Photos
    }

    /// Whether its settings can be meant.
    ///
    /// # Errors
    /// Kind `Usage` for no photos in a batch, no step, a rate that is no number of at least 0, and threads other than 1 to 256.
    pub fn check(&self) -> Result<()> {
        let refuse = |option: &str, message: String| {
            Err(Error::new(ErrorKind::Usage, format_args!("option `{option}`"), message))
        };
        match self.length {
            Length::Epochs(0) => return refuse("epochs", "is 0; one is the least".to_owned()),
            Length::Steps(0) => return refuse("steps", "is 0; one is the least".to_owned()),
            _ => {}
        }
        if !(1..=MOST_BATCH).contains(&self.batch) {
            return refuse("batch", format!("is {}; a step has 1 to {MOST_BATCH} photos", self.batch));
        }
        if !(1..=MOST_THREADS).contains(&self.threads) {
            return refuse("threads", format!("is {}; there are 1 to {MOST_THREADS}", self.threads));
        }
        let Rates { lr, decay, head_decay } = self.rates(0);
        for (option, rate) in [("lr", lr), ("head_lr", self.head_lr), ("decay", decay), ("head_decay", head_decay)] {
            if !(rate.is_finite() && rate >= 0.0) {
                return refuse(option, format!("is {rate}; it is a number of at least 0"));
            }
        }
        let PairKind { sites: SiteSettings { start, sides, .. }, directions } = self.pair_kind();
        if sides == Sides::One && !start.is_free() {
            let message =
                "is one-sided, and such pairs start with b = 0; leave out option `start` principal, and method pissa";
            return refuse("pairs", message.to_owned());
        }
        if directions == DirectionSource::Photos && start != Start::Aligned {
            return refuse("directions", "is photos, and no other start than aligned looks at directions".to_owned());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_follow_the_photos_where_pairs_are_one_sided_and_what_is_asked_for_stays() {
        let lesson = Lesson::new("photos");
        let rate = |photos| lesson.rates(photos).lr;
        let both = Rates { lr: 3e-3, decay: 0.0, head_decay: 0.0 };
        for (photos, expected) in [(0, 1e-3), (100, 1e-3), (400, 2e-3), (1600, 4e-3), (100_000, 4e-3)] {
            assert!((rate(photos) - expected).abs() < 1e-8, "{photos}");
        }
        for method in [Method::Lora, Method::Pissa, Method::Head, Method::Imprint] {
            assert_eq!(Lesson { method, ..lesson.clone() }.rates(1600), both, "{method:?}");
        }
        assert_eq!(Lesson { pairs: Some(Sides::Both), ..lesson.clone() }.rates(1600), both);
        let asked = Lesson { lr: Some(0.1), decay: Some(0.0), head_decay: Some(0.2), ..lesson.clone() };
        assert_eq!(asked.rates(1600), Rates { lr: 0.1, decay: 0.0, head_decay: 0.2 });
        let mut settled = lesson.clone();
        settled.settle_rates(400);
        assert_eq!(settled.rates(100_000), lesson.rates(400), "what is settled does not move");
    }
}
