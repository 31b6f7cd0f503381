//! The personal store: a folder of numbered generations, each one safetensors file with all that is needed to go on.
//!
//! A generation is written beside its place, synced, and only then given its name; a reader takes the highest number
//! whose hash holds, so it never sees half of one.

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::dataset::Dataset;
use super::lesson::{Event, Lesson};
use crate::adapter::{Adapter, HeadBuffers, HostLedger, SiteBuffers, SiteSettings};
use crate::bundle::{Bundle, BundleSite, Container, Kind, new_folder};
use crate::core::Start;
use crate::error::{Error, ErrorKind, Result};

const PREFIX: &str = "generation-";
const SUFFIX: &str = ".safetensors";

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
    /// What was trained.
    pub method: String,
    /// What pairs start on: aligned, principal or random.
    pub start: String,
    /// Seed of random starts.
    pub start_seed: u64,
    /// Seed of the lesson.
    pub seed: u64,
    /// Photos per step.
    pub batch: usize,
    /// Steps taken.
    pub steps: u64,
    /// Class names in the order of the head's rows.
    pub classes: Vec<String>,
    /// Recompositions, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub events: Vec<Event>,
}

impl Record {
    pub(super) fn new(bundle: &Bundle, lesson: &Lesson, start: Start, data: &Dataset) -> Self {
        let (start, start_seed) = match start {
            Start::Aligned => ("aligned", 0),
            Start::Principal => ("principal", 0),
            Start::Random { seed } => ("random", seed),
        };
        Record {
            bundle_sha256: bundle.content_sha256.clone(),
            backbone_sha256: bundle.backbone_sha256.clone(),
            precision: bundle.precision.clone(),
            sites: if lesson.method.settings().trains_pairs { bundle.sites.clone() } else { Vec::new() },
            method: lesson.method.name().to_owned(),
            start: start.to_owned(),
            start_seed,
            seed: lesson.seed,
            batch: lesson.batch,
            steps: 0,
            classes: data.classes.clone(),
            events: Vec::new(),
        }
    }

    fn start(&self) -> Option<Start> {
        match self.start.as_str() {
            "aligned" => Some(Start::Aligned),
            "principal" => Some(Start::Principal),
            "random" => Some(Start::Random { seed: self.start_seed }),
            _ => None,
        }
    }
}

/// An opened store.
#[derive(Debug)]
pub struct Store {
    path: PathBuf,
    current: u64,
    /// The generation that was opened; a store that is being written does not read.
    container: Option<Container<'static>>,
    /// What is wrong with the newest generation, where an earlier one was opened.
    newest_fault: Option<Error>,
}

impl Store {
    /// Makes one that holds a first generation; it appears when that is durable.
    ///
    /// # Errors
    /// As [`Store::save`]; `Exists`, `Io`.
    pub(super) fn create(path: &Path, adapter: &Adapter, record: &Record) -> Result<Self> {
        new_folder(path, |folder| write(&file(folder, 1), adapter, record))?;
        Ok(Store { path: path.to_path_buf(), current: 1, container: None, newest_fault: None })
    }

    /// Opens the last good generation: one that is whole and whose values are all finite.
    ///
    /// # Errors
    /// `Io` where there is no such folder, `Store` where it holds no good generation.
    pub fn open(path: &Path) -> Result<Self> {
        let mut numbers = generations(path)?;
        numbers.sort_unstable_by(|a, b| b.cmp(a));
        let mut first_fault = None;
        for number in numbers {
            match read(&file(path, number)) {
                Ok(container) => {
                    let (path, container) = (path.to_path_buf(), Some(container));
                    return Ok(Store { path, current: number, container, newest_fault: first_fault });
                }
                Err(error) => first_fault = first_fault.or(Some(error)),
            }
        }
        Err(first_fault.unwrap_or_else(|| {
            Error::new(
                ErrorKind::Store,
                path.display(),
                "holds no generation; is it a store that `srlora train` wrote?",
            )
        }))
    }

    /// The number of the generation that counts.
    #[must_use]
    pub fn current(&self) -> u64 {
        self.current
    }

    /// What to tell the user where the newest generation is damaged and an earlier one was opened.
    #[must_use]
    pub fn warning(&self) -> Option<String> {
        let fault = self.newest_fault.as_ref()?;
        Some(format!("the newest generation is passed over and generation {} used: {fault}", self.current))
    }

    /// What the current generation knows besides its numbers.
    ///
    /// # Errors
    /// Kind `Store` where the entry does not parse.
    pub fn record(&self) -> Result<Record> {
        let container = self.container()?;
        serde_json::from_str(container.text("record")?)
            .map_err(|e| container.fault(format_args!("its entry record does not parse ({e})")))
    }

    /// How many directions of a site no pair has used yet.
    ///
    /// # Errors
    /// Kind `Store` where the current generation has no such site.
    pub(super) fn unused(&self, site: &str) -> Result<usize> {
        self.container()?.dims(&format!("site/{site}/reserve")).map(|[unused]| unused)
    }

    fn container(&self) -> Result<&Container<'static>> {
        let empty = || Error::new(ErrorKind::Store, self.path.display(), "holds no generation yet");
        self.container.as_ref().ok_or_else(empty)
    }

    /// Writes the next generation.
    ///
    /// # Errors
    /// `Diverged` where a value is not finite; `Io`.
    pub(super) fn save(&mut self, adapter: &Adapter, record: &Record) -> Result<()> {
        write(&file(&self.path, self.current + 1), adapter, record)?;
        self.current += 1;
        Ok(())
    }

    /// The adapter of the current generation, checked against `bundle`.
    ///
    /// # Errors
    /// `Mismatch` where store and bundle do not belong together, `Store` where a tensor does not fit.
    pub fn load(&self, bundle: &Bundle) -> Result<(Record, Adapter)> {
        let (container, record) = (self.container()?, self.record()?);
        if record.bundle_sha256 != bundle.content_sha256 {
            let message = format!(
                "was trained with another bundle than {} (sha256 {}..., this one is {}...); use the bundle that it was \
                 trained with",
                bundle.path.display(),
                record.bundle_sha256.get(..12).unwrap_or_default(),
                bundle.content_sha256.get(..12).unwrap_or_default()
            );
            return Err(Error::new(ErrorKind::Mismatch, self.path.display(), message));
        }
        let start = record.start().ok_or_else(|| container.fault("its pairs start on something unknown"))?;
        let shape = container.u64("head/shape", &[2])?;
        let [classes, features] = [shape[0], shape[1]].map(|n| usize::try_from(n).unwrap_or(usize::MAX));
        if features != bundle.feature_dim || classes != record.classes.len() {
            return Err(container.fault("its head has another size than its classes and the backbone's features"));
        }
        let has_pairs = container.names().any(|name| name.starts_with("site/"));
        let mut seeds = Vec::new();
        for (index, site) in bundle.sites.iter().enumerate().filter(|_| has_pairs) {
            seeds.push((site.name.clone(), site.out_dim, site.in_dim, bundle.directions(index).clone()));
        }
        let settings = SiteSettings { start, ..SiteSettings::default() };
        let mut adapter = Adapter::start(seeds, bundle.rank, settings, classes, features)?;
        adapter.sites = adapter.sites.into_iter().map(|site| restore_site(container, site)).collect::<Result<_>>()?;
        let head = &mut adapter.head;
        let len = head.values.len();
        head.values = container.f32("head/values", &[len])?;
        head.first = container.f32("head/first", &[len])?;
        head.second = container.f32("head/second", &[len])?;
        head.age = container.u32("head/age", &[1])?[0];
        Ok((record, adapter))
    }
}

fn write(path: &Path, adapter: &Adapter, record: &Record) -> Result<()> {
    let mut container = Container::new(Kind::Store);
    let json = serde_json::to_string(record).map_err(|e| Error::new(ErrorKind::Internal, path.display(), e))?;
    container.metadata.insert("record".to_owned(), json);
    container.metadata.insert("backbone_sha256".to_owned(), record.backbone_sha256.clone());
    for site in &adapter.sites {
        put_site(&mut container, site)?;
    }
    let HeadBuffers { values, first, second, age, .. } = &adapter.head;
    let [classes, features] = [adapter.head.classes(), adapter.head.features()];
    container.insert_u64("head/shape", &[2], vec![classes as u64, features as u64])?;
    for (name, plane) in [("head/values", values), ("head/first", first), ("head/second", second)] {
        container.insert_f32(name, &[plane.len()], plane)?;
    }
    container.insert_u32("head/age", &[1], vec![*age])?;
    match container.not_finite() {
        Some(tensor) => Err(diverged(record.steps, format_args!("`{tensor}` holds values that are not finite"))),
        None => container.write_new(path),
    }
}

/// What was trained until `step` is not worth keeping, because of `what`.
pub(super) fn diverged(step: u64, what: impl std::fmt::Display) -> Error {
    let advice = match step {
        0 => "nothing has been trained yet: check how the bundle prepares photos (--mean, --std and --range of `pack`)",
        _ => "the store keeps the generation before. Try a smaller --lr and --head-lr",
    };
    Error::new(ErrorKind::Diverged, format_args!("step {step}"), format_args!("{what}; {advice}"))
}

/// A generation whose values are all finite.
fn read(path: &Path) -> Result<Container<'static>> {
    let container = Container::open(path, Kind::Store)?;
    match container.not_finite() {
        Some(tensor) => Err(container.fault(format_args!("tensor `{tensor}` holds values that are not finite"))),
        None => Ok(container),
    }
}

/// Where a generation lies.
pub(super) fn file(store: &Path, number: u64) -> PathBuf {
    store.join(format!("{PREFIX}{number:06}{SUFFIX}"))
}

fn generations(store: &Path) -> Result<Vec<u64>> {
    let mut numbers = Vec::new();
    for entry in fs::read_dir(store).map_err(|e| Error::io(store, e))? {
        let name = entry.map_err(|e| Error::io(store, e))?.file_name();
        let number = name.to_str().and_then(|n| n.strip_prefix(PREFIX)?.strip_suffix(SUFFIX)?.parse::<u64>().ok());
        numbers.extend(number);
    }
    Ok(numbers)
}

fn put_site<'s>(container: &mut Container<'s>, site: &'s SiteBuffers) -> Result<()> {
    let name = |what: &str| format!("site/{}/{what}", site.name);
    let shape = &site.shape;
    container.insert_f32(&name("state"), &[site.state.len()], &site.state)?;
    container.insert_i8(&name("delta"), &[shape.out_dim, shape.in_dim], &site.codes)?;
    container.insert_f16(&name("delta_scales"), &[shape.out_dim, shape.row_blocks()], &site.scales)?;
    container.insert_f16(&name("delta_stage"), &[site.stage.len()], &site.stage)?;
    container.insert_u32(&name("delta_staged"), &[1], vec![u32::try_from(site.staged).unwrap_or(u32::MAX)])?;
    container.insert_u32(&name("ages"), &[shape.rank], site.ledger.ages())?;
    container.insert_u16(&name("directions"), &[shape.rank], site.ledger.directions())?;
    let reserve: Vec<u16> = site.ledger.reserve().collect();
    container.insert_u16(&name("reserve"), &[reserve.len()], reserve)
}

fn restore_site(container: &Container, mut site: SiteBuffers) -> Result<SiteBuffers> {
    let prefix = format!("site/{}/", site.name);
    let name = |what: &str| format!("{prefix}{what}");
    let shape = site.shape;
    site.state = container.f32(&name("state"), &[shape.state_len()])?;
    site.codes = container.i8(&name("delta"), &[shape.out_dim, shape.in_dim])?;
    site.scales = container.f16(&name("delta_scales"), &[shape.out_dim, shape.row_blocks()])?;
    site.stage = container.f16(&name("delta_stage"), &[shape.delta_stage_len()])?;
    site.staged = container.u32(&name("delta_staged"), &[1])?[0] as usize;
    let ages = container.u32(&name("ages"), &[shape.rank])?;
    let directions = container.u16(&name("directions"), &[shape.rank])?;
    let reserve = container.u16(&name("reserve"), &container.dims::<1>(&name("reserve"))?)?;
    site.ledger = HostLedger::restore(&shape, ages, directions, reserve).map_err(|e| container.fault(e.to_string()))?;
    site.restored().map_err(|e| container.fault(e))
}
