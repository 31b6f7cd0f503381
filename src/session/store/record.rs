//! What a generation knows besides its numbers.

use serde::{Deserialize, Serialize};

use crate::adapter::SiteSettings;
use crate::bundle::{Bundle, BundleSite};
use crate::core::{FuseOrder, Sides, Start};
use crate::error::{Error, ErrorKind, Result};
use crate::session::photos::Hashed;
use crate::session::policy::{Calibration, Event, Outcome, Trial};
use crate::session::settings::{DirectionSource, Length, Lesson, PairKind, Rates};

/// Everything that decides what a lesson ends in. Threads, memory and the place of a cache do not, and are not here.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RecordedLesson {
    /// What is trained.
    pub method: String,
    /// What pairs start on: aligned, principal or random.
    pub start: String,
    /// Seed of random starts.
    pub start_seed: u64,
    /// Which sides of pairs learn: both or one-sided.
    #[serde(default = "both")]
    pub pairs: String,
    /// Where the directions of pairs come from: shipped or photos.
    #[serde(default = "shipped")]
    pub directions: String,
    /// Seed of the lesson.
    pub seed: u64,
    /// Photos per step.
    pub batch: usize,
    /// How long, in words.
    pub length: String,
    /// Learning rate of the pairs.
    pub lr: f32,
    /// Learning rate of the head.
    pub head_lr: f32,
    /// Weight decay of the pairs.
    #[serde(default)]
    pub decay: f32,
    /// Weight decay of the head.
    #[serde(default)]
    pub head_decay: f32,
    /// Random crops or shifts, and mirror images.
    pub augment: bool,
    /// Steps between recompositions, 0 for none; null: once.
    pub interval: Option<u32>,
    /// Steps that a pair must have lived, where asked for.
    pub min_age: Option<u32>,
    /// Which pairs are fused: the oldest, instead of the least important.
    #[serde(default, skip_serializing_if = "core::ops::Not::not")]
    pub fuses_oldest: bool,
    /// Nothing is fused; events renew rates and moments only.
    #[serde(default, skip_serializing_if = "core::ops::Not::not")]
    pub renews_only: bool,
    /// The head stays as steps have left it; it is not solved.
    #[serde(default, skip_serializing_if = "core::ops::Not::not")]
    pub keeps_head: bool,
    /// Bytes of examples that are kept for later lessons, and taken from earlier ones.
    #[serde(default)]
    pub replay_bytes: u64,
    /// What the prefix makes of a photo is kept, and so rounded.
    pub rounded: bool,
    /// Hash over the photos trained on, by class and name.
    pub data_sha256: String,
    /// Hash over the photos that accuracy is measured on.
    pub val_sha256: Option<String>,
}

/// How which sides learn is called in files.
fn pairs_name(sides: Sides) -> &'static str {
    match sides {
        Sides::Both => "both",
        Sides::One => "one-sided",
    }
}

/// How a start is called in files, and its seed.
fn start_name(start: Start) -> (&'static str, u64) {
    match start {
        Start::Aligned => ("aligned", 0),
        Start::Principal => ("principal", 0),
        Start::Random { seed } => ("random", seed),
    }
}

fn source_name(source: DirectionSource) -> &'static str {
    match source {
        DirectionSource::Shipped => "shipped",
        DirectionSource::Photos => "photos",
    }
}

/// What all were before there was a choice.
fn both() -> String {
    pairs_name(Sides::Both).to_owned()
}

fn shipped() -> String {
    source_name(DirectionSource::Shipped).to_owned()
}

impl RecordedLesson {
    /// Those of a lesson on these photos.
    pub(crate) fn on(lesson: &Lesson, photos: &Hashed) -> Self {
        let (data_sha256, val_sha256) = photos.sha256();
        RecordedLesson { data_sha256, val_sha256, ..Self::of(lesson) }
    }

    /// Those of a lesson, whatever its photos.
    pub(crate) fn of(lesson: &Lesson) -> Self {
        // All are named, so that a new one has to be decided on. The first six change nothing in what a lesson ends in, or are told of
        // by what they lead to.
        let Lesson {
            data: _,
            validation: _,
            threads: _,
            cache: _,
            cache_limit: _,
            ram_limit: _,
            method,
            start: _,
            pairs: _,
            directions: _,
            length,
            batch,
            lr: _,
            head_lr,
            decay: _,
            head_decay: _,
            seed,
            augment,
            interval,
            min_age,
            choice,
            renews_only,
            solves_head,
            replay,
        } = *lesson;
        // They are settled where the photos have been counted.
        let Rates { lr, decay, head_decay } = lesson.rates(0);
        let PairKind { sites: SiteSettings { start, sides, .. }, directions } = lesson.pair_kind();
        let (start, start_seed) = start_name(start);
        RecordedLesson {
            method: method.name().to_owned(),
            start: start.to_owned(),
            start_seed,
            pairs: pairs_name(sides).to_owned(),
            directions: source_name(directions).to_owned(),
            seed,
            batch,
            length: match length {
                Length::Epochs(epochs) => format!("--epochs {epochs}"),
                Length::Steps(steps) => format!("--steps {steps}"),
            },
            lr,
            head_lr,
            decay,
            head_decay,
            augment,
            interval: interval.recorded(),
            min_age,
            fuses_oldest: choice == FuseOrder::Oldest,
            renews_only,
            keeps_head: !solves_head,
            replay_bytes: replay,
            rounded: false,
            data_sha256: String::new(),
            val_sha256: None,
        }
    }

    /// Lets `lesson` go on with the pairs that these settings have made.
    ///
    /// # Errors
    /// Kind `Usage` where it asks for others.
    pub(crate) fn keep_pairs(&self, lesson: &mut Lesson) -> Result<()> {
        let stay = |option: &str, what: String| {
            let message = format!("the store's pairs {what}, and stay so; leave it out");
            Err(Error::new(ErrorKind::Usage, format_args!("option `{option}`"), message))
        };
        let asked = RecordedLesson::of(lesson);
        if lesson.start.is_some() && asked.start != self.start {
            return stay("start", format!("have started {}", self.start));
        }
        if lesson.pairs.is_some() && asked.pairs != self.pairs {
            return stay("pairs", format!("learn on {}", if self.pairs == both() { "both sides" } else { "one side" }));
        }
        if lesson.directions.is_some() && asked.directions != self.directions {
            let from = if self.directions == shipped() { "the bundle" } else { "photos" };
            return stay("directions", format!("have directions from {from}"));
        }
        if let Some(PairKind { sites: SiteSettings { start, sides, .. }, directions }) = self.pair_kind() {
            (lesson.start, lesson.pairs, lesson.directions) = (Some(start), Some(sides), Some(directions));
        }
        Ok(())
    }

    /// How its pairs are made, where this version knows what is recorded.
    pub(crate) fn pair_kind(&self) -> Option<PairKind> {
        let start = match self.start.as_str() {
            "aligned" => Start::Aligned,
            "principal" => Start::Principal,
            "random" => Start::Random { seed: self.start_seed },
            _ => return None,
        };
        let sides = [Sides::Both, Sides::One].into_iter().find(|sides| pairs_name(*sides) == self.pairs)?;
        let sources = [DirectionSource::Shipped, DirectionSource::Photos];
        let directions = sources.into_iter().find(|source| source_name(*source) == self.directions)?;
        Some(PairKind { sites: SiteSettings { start, sides, ..SiteSettings::default() }, directions })
    }

    /// Whether the same is asked for; whether values are rounded shows only when memory has been planned.
    pub(crate) fn is_asked_by(&self, other: &RecordedLesson) -> bool {
        *self == RecordedLesson { rounded: self.rounded, ..other.clone() }
    }

    /// What was asked for otherwise in `other`, in words: the flag, what this has, and what that has.
    pub(crate) fn differences(&self, other: &RecordedLesson) -> Vec<String> {
        fn rows(settings: &RecordedLesson) -> [(&'static str, String); 19] {
            let asked = |steps: Option<u32>| steps.map_or("not given".to_owned(), |steps| steps.to_string());
            [
                ("option `method`", settings.method.clone()),
                ("option `start`", settings.start.clone()),
                ("option `pairs`", settings.pairs.clone()),
                ("option `directions`", settings.directions.clone()),
                ("option `seed`", settings.seed.to_string()),
                ("option `batch`", settings.batch.to_string()),
                ("length", settings.length.trim_start_matches("--").to_owned()),
                ("option `lr`", settings.lr.to_string()),
                ("option `head_lr`", settings.head_lr.to_string()),
                ("option `decay`", settings.decay.to_string()),
                ("option `head_decay`", settings.head_decay.to_string()),
                ("option `augment`", if settings.augment { "on" } else { "off" }.to_owned()),
                ("option `interval`", settings.interval.map_or("once".to_owned(), |steps| steps.to_string())),
                ("option `min_age`", asked(settings.min_age)),
                ("pairs fused", if settings.fuses_oldest { "the oldest" } else { "the least important" }.to_owned()),
                ("renewed", if settings.renews_only { "rates and moments only" } else { "pairs" }.to_owned()),
                ("head solved", if settings.keeps_head { "no" } else { "yes" }.to_owned()),
                ("option `replay`", format!("{} bytes", settings.replay_bytes)),
                ("photos to measure on", settings.val_sha256.as_ref().map_or("none", |_| "others").to_owned()),
            ]
        }
        let rows = rows(self).into_iter().zip(rows(other));
        let mut differences: Vec<String> = rows
            .filter(|((_, own), (_, others))| own != others)
            .map(|((flag, own), (_, others))| format!("{flag}: {own} then, {others} now"))
            .collect();
        if self.data_sha256 != other.data_sha256 {
            differences.push("the photos trained on have changed".to_owned());
        }
        if self.val_sha256 != other.val_sha256 && self.val_sha256.is_some() == other.val_sha256.is_some() {
            differences.push("the photos to measure on have changed".to_owned());
        }
        differences
    }
}

/// What a generation knows besides its numbers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Hash of the bundle that the pairs belong to.
    pub bundle_sha256: String,
    /// Hash of the backbone in it.
    pub backbone_sha256: String,
    /// Precision of its frozen weights.
    pub precision: String,
    /// The sites that have pairs, as the bundle lists them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sites: Vec<BundleSite>,
    /// The lesson that made it.
    #[serde(flatten)]
    pub lesson: RecordedLesson,
    /// The generation that this lesson went out from; 0: none.
    #[serde(default)]
    pub parent: u64,
    /// Steps taken.
    pub steps: u64,
    /// What it was judged by, once it was over; null where nothing was, or could be, judged.
    #[serde(default)]
    pub trial: Option<Trial>,
    /// Class names in the order of the head's rows.
    pub classes: Vec<String>,
    /// Recompositions, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub events: Vec<Event>,
    /// How its head's logits are to be read; null where no photo could be left out to show that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub calibration: Option<Calibration>,
    /// The number of its replay buffer, where it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replay: Option<u64>,
    /// Hash of the replay buffer that its lesson began with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replayed_sha256: Option<String>,
    /// The class that was forgotten to make it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forgot: Option<String>,
    /// Where it was made, if not by a lesson here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub imported: Option<Imported>,
}

/// What was learned elsewhere.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Imported {
    /// Of which kind the files were: `peft`.
    pub format: String,
    /// The largest error of an element that the delta's rounding has left.
    pub max_error: f32,
}

impl Record {
    /// Of a lesson that has not begun.
    pub(crate) fn new(bundle: &Bundle, settings: RecordedLesson, trains_pairs: bool, classes: &[String]) -> Self {
        Record {
            bundle_sha256: bundle.content_sha256.clone(),
            backbone_sha256: bundle.backbone_sha256.clone(),
            precision: bundle.precision.clone(),
            sites: if trains_pairs { bundle.sites.clone() } else { Vec::new() },
            lesson: settings,
            parent: 0,
            steps: 0,
            trial: None,
            classes: classes.to_vec(),
            events: Vec::new(),
            calibration: None,
            replay: None,
            replayed_sha256: None,
            forgot: None,
            imported: None,
        }
    }

    /// Recompositions that were taken back.
    pub(crate) fn undone(&self) -> usize {
        self.events.iter().filter(|event| event.outcome == Outcome::Undone).count()
    }
}
