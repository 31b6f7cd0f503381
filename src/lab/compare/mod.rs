//! Methods side by side on the same photos: rates chosen without the validation photos, several seeds, paired differences.
//!
//! Every run is the one that `train` would do with the same flags, bit for bit, before it asks whether that is better than what was
//! there. Photos are decoded and the prefix is run once for all runs that share a boundary: those with pairs, and those without, whose
//! prefix is the whole network.

mod contenders;
mod ledger;
mod rates;
pub(crate) mod stage;
mod standings;
mod statistics;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

pub use contenders::{CONTENDERS, Contender};
pub use ledger::{ComparisonSettings, Key, Purpose, Run};
pub use rates::RateTried;
pub use standings::{ComparisonReport, Standing};
pub use statistics::{Difference, beyond_chance};

use self::ledger::RunFile;
use self::rates::{Splits, best};
use self::stage::{Parts, Photos, Stage};
use crate::bundle::{Bundle, BundleSite};
use crate::core::{FuseOrder, Sides};
use crate::error::{Error, ErrorKind, Result};
use crate::session::lesson::{datasets, refuse_among_photos};
use crate::session::photos::{Hashed, ignored};
use crate::session::policy::plan;
use crate::session::progress::{Audience, Flow, Progress, Stop};
use crate::session::settings::{Length, Lesson};
use crate::session::start::pairs_and_directions;

/// What is compared, and on what.
#[derive(Debug, Clone)]
pub struct Comparison {
    /// What all runs share: photos, length, batch, the head's rate beside pairs, threads. Its seed splits the photos where no
    /// folder is given to measure accuracy on.
    pub lesson: Lesson,
    /// What is compared; in the results they come in the order of [`CONTENDERS`].
    pub contenders: Vec<&'static Contender>,
    /// Seeds 0, 1 ...: each is an order of the photos, the same for all, and the random starts of those that have some.
    pub seeds: u32,
    /// Rates of pairs to choose from; a single one is taken as it is.
    pub lrs: Vec<f32>,
    /// Rates of the head to choose from where nothing else is trained.
    pub head_lrs: Vec<f32>,
    /// Times that each rate is tried, each with another quarter of the training photos held out, the same for all contenders.
    pub tries: u32,
    /// Times that accuracy is measured on the way, evenly spread, besides the start.
    pub points: u32,
    /// The file that keeps finished runs; what it holds already is not done again.
    pub output: Option<PathBuf>,
}

/// Compares.
///
/// # Errors
/// `Usage` where there is nothing to compare, a control that changes nothing, or nothing to measure accuracy on; `Mismatch` where
/// the output holds runs of other settings, `Busy` where another comparison writes to it; `Data` where no rate can be chosen;
/// `Diverged` where a loss stops being a number with the chosen rate or with all of them; as of `train`.
pub fn compare<A: Into<Flow>>(
    bundle: &Bundle,
    request: &Comparison,
    observer: &mut impl FnMut(Progress<'_>) -> A,
) -> Result<ComparisonReport> {
    let (mut observer, stop) = (|progress: Progress<'_>| observer(progress).into(), Stop::default());
    let audience = &mut Audience::of(&mut observer, &stop);
    request.check()?;
    request.lesson.check()?;
    if let Some(output) = &request.output {
        refuse_among_photos(output, &request.lesson)?;
    }
    let (data, validation) = datasets(&request.lesson, false)?;
    let Some(validation) = validation else {
        let message = "there are no photos to measure accuracy on; give a folder, or option `val_split` 0.2";
        return Err(Error::new(ErrorKind::Usage, "option `val`", message));
    };
    request.refuse_idle(bundle, data.photos.len())?;
    let photos = Hashed::read(&data, Some(&validation), &bundle.preprocess, audience.stop())?;
    photos.warnings().iter().for_each(|warning| audience.tell(Progress::Warning(warning)));
    let settings = request.settings(bundle, &photos);
    let ignored = ignored(&data, Some(&validation));
    ignored.iter().for_each(|format| audience.tell(Progress::Warning(&format.to_string())));
    let warn = |text: &str| audience.tell(Progress::Warning(text));
    let ledger = RunFile::open(request.output.as_deref(), settings, warn)?;
    let classes = data.classes.clone();
    let mut course = Contest::new(bundle, request, ledger, Photos::new(data, validation));
    let contenders = request.ordered();
    let mut standings = Vec::new();
    // First those that take long.
    for sides in [Some(Sides::Both), Some(Sides::One), None] {
        let trains = |contender: &&&'static Contender| contender.sides(&request.lesson) == sides;
        let group: Vec<_> = contenders.iter().filter(trains).copied().collect();
        standings.extend(course.group(&group, audience)?);
    }
    standings.sort_by_key(|(contender, ..)| contenders.iter().position(|known| known.name == contender.name));
    Ok(ComparisonReport { ignored, ..standings::report(course.ledger.settings(), request.seeds, classes, standings) })
}

impl Comparison {
    fn check(&self) -> Result<()> {
        let refuse = |flag: &str, message: &str| Err(Error::new(ErrorKind::Usage, flag, message));
        if self.contenders.is_empty() {
            return refuse("option `methods`", "names none");
        }
        let Lesson { start, pairs, directions, decay, head_decay, .. } = &self.lesson;
        if start.is_some() || pairs.is_some() || directions.is_some() || decay.is_some() || head_decay.is_some() {
            return refuse("option `methods`", "say how pairs are made and held back; leave that open in the lesson");
        }
        if self.seeds == 0 {
            return refuse("option `seeds`", "is 0; one run each is the least");
        }
        if self.tries == 0 {
            return refuse("option `tries`", "is 0; a rate is chosen by trying it");
        }
        if self.points == 0 {
            return refuse("option `points`", "is 0; the end is the least that is measured");
        }
        for (flag, rates) in [("option `lrs`", &self.lrs), ("option `head_lrs`", &self.head_lrs)] {
            if rates.is_empty() || !rates.iter().all(|rate| rate.is_finite() && *rate >= 0.0) {
                return refuse(flag, "must be numbers of at least 0, with commas: 1e-3,3e-3");
            }
        }
        Ok(())
    }

    fn ordered(&self) -> Vec<&'static Contender> {
        CONTENDERS.iter().filter(|known| self.contenders.iter().any(|asked| asked.name == known.name)).collect()
    }

    /// A control that changes nothing would be another contender once more, and look like a result.
    fn refuse_idle(&self, bundle: &Bundle, images: usize) -> Result<()> {
        for contender in self.ordered() {
            let lesson = contender.lesson(&self.lesson, 0, None);
            let plan = plan(bundle, &lesson, images);
            let settings = lesson.pair_kind().sites;
            let fused = |site: &BundleSite| {
                let [pairs, directions] = pairs_and_directions(site, bundle.rank, &settings);
                (
                    settings
                        .sides
                        .pairs(plan.rule.pairs, site.out_dim, site.in_dim)
                        .min(directions.saturating_sub(pairs)),
                    pairs,
                )
            };
            let recomposes = plan.has_events() && bundle.sites.iter().any(|site| fused(site).0 > 0);
            // Where all pairs are fused, or none, it does not matter which come first.
            let some = |(fused, pairs): (usize, usize)| (1..pairs).contains(&fused);
            let chooses = recomposes && bundle.sites.iter().any(|site| some(fused(site)));
            let is_oldest = lesson.choice == FuseOrder::Oldest;
            let why = match () {
                () if is_oldest && !recomposes => {
                    "no pair is recomposed: ask for option `interval` STEPS or more steps, or pack with a larger option `reserve`"
                }
                () if lesson.renews_only && !recomposes => {
                    "no pair is recomposed: ask for a shorter option `interval` or more steps, or pack with a larger option `reserve`"
                }
                () if is_oldest && !chooses => {
                    "all pairs are fused at once: ask for option `interval` STEPS, with which half of them are"
                }
                () => continue,
            };
            let message = format!("{} would be srlora once more, as {why}, or leave it out", contender.name);
            return Err(Error::new(ErrorKind::Usage, "option `methods`", message));
        }
        Ok(())
    }

    fn settings(&self, bundle: &Bundle, photos: &Hashed) -> ComparisonSettings {
        let (data_sha256, val_sha256) = photos.sha256();
        let (epochs, steps) = match self.lesson.length {
            Length::Epochs(epochs) => (Some(epochs), None),
            Length::Steps(steps) => (None, Some(steps)),
        };
        ComparisonSettings {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            bundle_sha256: bundle.content_sha256.clone(),
            data_sha256,
            val_sha256: val_sha256.unwrap_or_default(),
            epochs,
            steps,
            batch: self.lesson.batch,
            head_lr: self.lesson.head_lr,
            interval: self.lesson.interval.recorded(),
            points: self.points,
        }
    }

    /// The rates that a contender may choose from, each once, the smallest first; none where nothing is trained.
    fn grid(&self, contender: &Contender) -> Vec<f32> {
        let settings = contender.method.settings();
        let mut grid = match (settings.trains_pairs, settings.trains_head) {
            (true, _) => self.lrs.clone(),
            (false, true) => self.head_lrs.clone(),
            (false, false) => Vec::new(),
        };
        grid.sort_by(f32::total_cmp);
        grid.dedup();
        grid
    }

    /// Where the caches lie.
    fn folder(&self) -> PathBuf {
        let beside = self.output.as_deref().and_then(Path::parent);
        match beside {
            Some(folder) if folder.as_os_str().is_empty() => PathBuf::from("."),
            Some(folder) => folder.to_path_buf(),
            None => std::env::temp_dir(),
        }
    }
}

/// A contender, the rates that it tried, and its runs by seed.
type Finished = (&'static Contender, Vec<Run>, Vec<Run>);

/// A comparison under way.
struct Contest<'c> {
    bundle: &'c Bundle,
    request: &'c Comparison,
    ledger: RunFile,
    photos: Photos,
    splits: Splits,
    done: usize,
    total: usize,
}

impl<'c> Contest<'c> {
    fn new(bundle: &'c Bundle, request: &'c Comparison, ledger: RunFile, photos: Photos) -> Self {
        let mut course = Contest { bundle, request, ledger, photos, splits: Splits::default(), done: 0, total: 0 };
        course.total = request.ordered().iter().map(|contender| course.runs(contender)).sum();
        course
    }

    /// Runs that a contender takes.
    fn runs(&self, contender: &Contender) -> usize {
        let grid = self.request.grid(contender).len();
        let to_choose = if grid > 1 { grid as u32 * self.request.tries } else { 0 };
        (to_choose + self.request.seeds) as usize
    }

    /// Contenders that share a boundary: first all rates, then seed by seed.
    fn group(&mut self, contenders: &[&'static Contender], audience: &mut Audience) -> Result<Vec<Finished>> {
        let mut pace = Pace { left: contenders.iter().map(|contender| self.runs(contender)).sum(), ..Pace::default() };
        let mut stage = None;
        let mut finished: Vec<(Finished, Option<f32>)> = Vec::new();
        for contender in contenders {
            let mut tried = Vec::new();
            let grid = self.request.grid(contender);
            for rate in grid.iter().filter(|_| grid.len() > 1) {
                for seed in 0..u64::from(self.request.tries) {
                    let asked = (*contender, Purpose::Rate, seed, Some(*rate));
                    tried.push(self.run(&mut stage, asked, &mut pace, audience)?);
                }
            }
            let rate = if grid.len() > 1 { Some(best(contender, &tried)?) } else { grid.first().copied() };
            finished.push(((contender, tried, Vec::new()), rate));
        }
        for seed in 0..u64::from(self.request.seeds) {
            for ((contender, _, runs), rate) in &mut finished {
                let run = self.run(&mut stage, (contender, Purpose::Result, seed, *rate), &mut pace, audience)?;
                runs.push(run);
            }
        }
        Ok(finished.into_iter().map(|(finished, _)| finished).collect())
    }

    /// One run, done or remembered.
    fn run(
        &mut self,
        stage: &mut Option<Stage<'c>>,
        (contender, purpose, seed, rate): (&'static Contender, Purpose, u64, Option<f32>),
        pace: &mut Pace,
        audience: &mut Audience,
    ) -> Result<Run> {
        let lesson = contender.lesson(&self.request.lesson, seed, rate);
        let key = key(contender, purpose, &lesson);
        self.done += 1;
        pace.left -= 1;
        if let Some(run) = self.ledger.find(&key) {
            return judged(run.clone());
        }
        let stage = match stage {
            Some(stage) => stage,
            None => {
                let folder = self.request.folder();
                stage.insert(Stage::start(self.bundle, &lesson, &mut self.photos, &folder, audience)?)
            }
        };
        let parts = match purpose {
            Purpose::Result => {
                let Photos { data, validation, .. } = &self.photos;
                Parts { train: data, measured: validation, points: self.request.points }
            }
            Purpose::Rate => {
                let (train, measured) = self.splits.of(seed, &self.photos.data, audience)?;
                Parts { train, measured, points: 0 }
            }
        };
        let what = described(&key, rate);
        let begin = Instant::now();
        let stop = audience.stop().clone();
        let mut told = |progress: Progress<'_>| {
            audience.tell(match progress {
                Progress::Begin { phase: "train", total } => Progress::Begin { phase: &what, total },
                // One line a run is enough where there is no bar.
                Progress::Step { .. } => Progress::Advance,
                progress => progress,
            });
            Flow::GoOn
        };
        let run = stage.run(key, &lesson, parts, &mut Audience::of(&mut told, &stop))?;
        let left = pace.after(begin.elapsed());
        let run = self.ledger.add(&run)?;
        audience.tell(Progress::Note(&format!("{}/{} {what}: {}; {left}", self.done, self.total, outcome(run))));
        judged(run.clone())
    }
}

/// How long runs take.
#[derive(Default)]
struct Pace {
    left: usize,
    done: u32,
    taken: Duration,
}

impl Pace {
    /// One more run has taken `time`; what the rest will take.
    fn after(&mut self, time: Duration) -> String {
        self.done += 1;
        self.taken += time;
        let seconds = (self.taken / self.done * u32::try_from(self.left).unwrap_or(u32::MAX)).as_secs_f64();
        if seconds < 90.0 {
            format!("about {seconds:.0} s left")
        } else {
            format!("about {:.0} min left", seconds / 60.0)
        }
    }
}

fn key(contender: &Contender, purpose: Purpose, lesson: &Lesson) -> Key {
    let settings = lesson.method.settings();
    Key {
        method: contender.name.to_owned(),
        purpose,
        seed: lesson.seed,
        lr: lesson.lr.filter(|_| settings.trains_pairs),
        head_lr: settings.trains_head.then_some(lesson.head_lr),
    }
}

/// `61.2 %`, and of what.
fn outcome(run: &Run) -> String {
    let photos = if run.key.purpose == Purpose::Rate { " of training photos held out" } else { "" };
    let lost = || "no accuracy, as the loss stopped being a number".to_owned();
    run.accuracy.map_or_else(lost, |accuracy| format!("{:.1} %{photos}", 100.0 * accuracy))
}

/// `srlora, rate 0.003, seed 2`.
fn described(key: &Key, rate: Option<f32>) -> String {
    let mut text = key.method.clone();
    text += &rate.map(|rate| format!(", rate {rate}")).unwrap_or_default();
    match key.purpose {
        Purpose::Rate => text + &format!(", try {}", key.seed + 1),
        Purpose::Result => text + &format!(", seed {}", key.seed),
    }
}

/// A result has an accuracy.
fn judged(run: Run) -> Result<Run> {
    let Key { purpose, method, seed, lr, head_lr } = &run.key;
    if *purpose == Purpose::Rate || run.accuracy.is_some() {
        return Ok(run);
    }
    let rate = lr.or(*head_lr).unwrap_or(0.0);
    let message = format!("with rate {rate} and seed {seed} the loss stopped being a number; leave that rate out");
    Err(Error::new(ErrorKind::Diverged, method, message))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_is_told_from_what_has_been() {
        let mut pace = Pace { left: 10, ..Pace::default() };
        assert_eq!(pace.after(Duration::from_secs(4)), "about 40 s left");
        pace.left = 100;
        assert_eq!(pace.after(Duration::from_secs(2)), "about 5 min left");
    }
}
