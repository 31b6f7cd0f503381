//! The personal store: a folder of numbered generations, each one safetensors file with all that is needed to go on.
//!
//! A reader takes the newest generation that is whole. A writer holds the folder locked, and each of its files is whole and durable
//! before it has its name, so that a cut at any moment leaves what was acknowledged before (`docs/store.md`).

mod checkpoint;
mod history;
mod inspect;
mod medium;
mod model;
mod record;
mod replay;
mod series;
mod simulated;
mod tensors;
#[cfg(test)]
mod tests;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::Arc;

pub(crate) use checkpoint::{Standing, UnderWay};
pub use history::{Course, History, JOURNAL, StepSeen, course, history};
pub use inspect::{InspectedSite, Inspection, inspect};
use medium::refuse_irregular;
pub use medium::{Disk, Lock, Medium, Sink};
pub(crate) use medium::{beside, hold};
#[doc(hidden)]
pub use model::operations;
pub use record::{Imported, Record, RecordedLesson};
pub(crate) use replay::Remembered;
use series::Fault;
pub(crate) use series::{Series, not_written};
pub use simulated::{Medley, Simulated};
pub use writer::StoreWriter;

use crate::adapter::Adapter;
use crate::bundle::{Bundle, Container, TEMPORARY_PREFIX, check_lists};
use crate::error::{Error, ErrorKind, Result};
use crate::session::settings::DirectionSource;

/// A store that is opened to be read. It changes nothing: that is for [`StoreWriter`], which keeps other writers out.
///
/// ```compile_fail,E0599
/// # fn go(store: &std::path::Path) -> srlora::Result<()> {
/// srlora::session::Store::open(store)?.rollback(None)?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Store {
    medium: Arc<dyn Medium>,
    path: PathBuf,
    current: u64,
    /// The generation that was opened; a store that is being written does not hold it.
    container: Option<Container<'static>>,
    /// What is wrong with newer generations than the one that was opened.
    faults: Vec<Fault>,
}

impl Store {
    /// Opens the newest generation that is whole and whose values are all finite.
    ///
    /// # Errors
    /// `Io` where there is no such folder, `Store` where it holds no good generation.
    pub fn open(path: &Path) -> Result<Self> {
        Self::open_on(Arc::new(Disk), path)
    }

    /// [`Store::open`] on any medium.
    ///
    /// # Errors
    /// As there.
    pub fn open_on(medium: Arc<dyn Medium>, path: &Path) -> Result<Self> {
        match Series::Generation.newest(&*medium, path, |_| true)? {
            (Some((current, container)), faults) => {
                let (path, container) = (path.to_path_buf(), Some(container));
                Ok(Store { medium, path, current, container, faults })
            }
            (None, faults) => Err(faults.into_iter().next().map(|(_, fault)| fault).unwrap_or_else(|| {
                let message = "holds no generation; is it a store that `srlora train` wrote?";
                Error::new(ErrorKind::Store, path.display(), message)
            })),
        }
    }

    /// The number of the generation that counts.
    #[must_use]
    pub fn current(&self) -> u64 {
        self.current
    }

    /// What to tell the user where newer generations are damaged and an earlier one was opened.
    #[must_use]
    pub fn warning(&self) -> Option<String> {
        let (_, fault) = self.faults.first()?;
        Some(format!("the newest generation is passed over and generation {} used: {fault}", self.current))
    }

    /// Generations that are there, and lessons kept aside, the newest first.
    ///
    /// # Errors
    /// Kind `Io`.
    pub fn numbers(&self) -> Result<[Vec<u64>; 2]> {
        let numbers = |series: Series| series.numbers(&*self.medium, &self.path);
        Ok([numbers(Series::Generation)?, numbers(Series::Aside)?])
    }

    /// The same store with another generation open, or with a lesson that was kept aside.
    ///
    /// # Errors
    /// `Usage` where it has none of that number; `Store` where that is damaged; `Io`.
    #[cfg(feature = "cli")]
    pub(crate) fn at(&self, number: u64) -> Result<Store> {
        let [generations, asides] = self.numbers()?;
        let series = match () {
            () if generations.contains(&number) => Series::Generation,
            () if asides.contains(&number) => Series::Aside,
            () => {
                let message = format!("has no generation {number}");
                return Err(Error::new(ErrorKind::Usage, self.path.display(), message));
            }
        };
        let container = Some(series.read(&*self.medium, &self.path, number)?);
        Ok(Store {
            medium: self.medium.clone(),
            path: self.path.clone(),
            current: number,
            container,
            faults: Vec::new(),
        })
    }

    /// The file of a generation, or of a lesson that was kept aside.
    #[cfg(feature = "cli")]
    pub(crate) fn file(&self, number: u64) -> Option<PathBuf> {
        let files = [Series::Generation, Series::Aside].map(|series| series.file(&self.path, number));
        files.into_iter().find(|file| file.is_file())
    }

    /// What the current generation knows besides its numbers.
    ///
    /// # Errors
    /// Kind `Store` where the entry does not parse.
    pub fn record(&self) -> Result<Record> {
        parse(self.container()?)
    }

    /// How many directions of a site no pair has used yet, and how many were found, where they have not shipped.
    ///
    /// # Errors
    /// Kind `Store` where the current generation has no such site.
    pub(crate) fn directions(&self, site: &str) -> Result<[Option<usize>; 2]> {
        let (container, found) = (self.container()?, format!("site/{site}/found"));
        let [unused] = container.dims(&format!("site/{site}/reserve"))?;
        let found = container.has(&found).then(|| container.dims(&found).map(|[found, _]| found)).transpose()?;
        Ok([Some(unused), found])
    }

    fn container(&self) -> Result<&Container<'static>> {
        let empty = || Error::new(ErrorKind::Store, self.path.display(), "is being written");
        self.container.as_ref().ok_or_else(empty)
    }

    /// The adapter of the current generation, checked against `bundle`.
    ///
    /// # Errors
    /// `Mismatch` where store and bundle do not belong together, `Store` where a tensor does not fit.
    pub fn load(&self, bundle: &Bundle) -> Result<Generation> {
        load(self.container()?, &self.path, bundle)
    }
}

/// What a generation holds.
#[derive(Debug, Clone)]
pub struct Generation {
    /// What it knows besides its numbers.
    pub record: Record,
    /// Its numbers.
    pub adapter: Adapter,
}

/// A store must not be there yet; what to do with one that is.
pub(crate) fn already_there(path: &Path) -> Error {
    let message = "is already there; a store learns on with option `from`, and a lesson that was cut off goes on with option `resume`. Or choose \
                   another output";
    Error::new(ErrorKind::Exists, path.display(), message)
}

/// Whether `path` is a folder in which a store was begun, and no more.
pub(crate) fn is_unborn(medium: &dyn Medium, path: &Path) -> Result<bool> {
    match medium.list(path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(e) => Err(Error::io(path, e)),
        Ok(names) => {
            // Examples are kept before the generation that they belong to.
            let begun = [medium::LOCK, TEMPORARY_PREFIX, Series::Replay.prefix()];
            Ok(names.iter().all(|name| begun.iter().any(|begun| name.starts_with(begun))))
        }
    }
}

fn parse(container: &Container) -> Result<Record> {
    let json = container.text("record")?;
    check_lists(json.as_bytes()).map_err(|what| container.fault(format_args!("its entry record {what}")))?;
    serde_json::from_str(json).map_err(|e| container.fault(format_args!("its entry record does not parse ({e})")))
}

fn put_record(container: &mut Container, record: &Record) -> Result<()> {
    let json = serde_json::to_string(record).map_err(|e| Error::new(ErrorKind::Internal, "record", e))?;
    container.metadata.insert("record".to_owned(), json);
    container.metadata.insert("backbone_sha256".to_owned(), record.backbone_sha256.clone());
    Ok(())
}

/// What a generation or a checkpoint holds, where it belongs to `bundle`.
fn load(container: &Container, store: &Path, bundle: &Bundle) -> Result<Generation> {
    let record = parse(container)?;
    if record.bundle_sha256 != bundle.content_sha256 {
        let message = format!(
            "was trained with another bundle than {} (sha256 {}..., this one is {}...); use the bundle that it was trained with",
            bundle.path.display(),
            record.bundle_sha256.get(..12).unwrap_or_default(),
            bundle.content_sha256.get(..12).unwrap_or_default()
        );
        return Err(Error::new(ErrorKind::Mismatch, store.display(), message));
    }
    if !record.calibration.is_none_or(|calibration| calibration.can_be()) {
        return Err(container.fault("its calibration is none that photos can have shown"));
    }
    let kind = record.lesson.pair_kind().ok_or_else(|| container.fault("its pairs are of an unknown kind"))?;
    let adapter = tensors::take(container, "", bundle, kind, record.classes.len())?;
    // Before the first step b = 0, and no direction matters.
    let are_right = match kind.directions {
        DirectionSource::Photos => record.steps == 0 || adapter.found().is_some(),
        DirectionSource::Shipped => adapter.found_bytes() == 0,
    };
    if !are_right {
        return Err(container.fault("its record says otherwise where the directions of its sites come from"));
    }
    Ok(Generation { record, adapter })
}

fn refuse_not_finite(container: &Container, steps: u64) -> Result<()> {
    match container.not_finite() {
        Some(tensor) => Err(diverged(steps, format_args!("`{tensor}` holds values that are not finite"))),
        None => Ok(()),
    }
}

/// What was trained until `step` is not worth keeping, because of `what`.
pub(crate) fn diverged(step: u64, what: impl std::fmt::Display) -> Error {
    let advice = match step {
        0 => {
            "nothing has been trained yet: check how the bundle prepares photos (option `mean`, option `std` and option `range` of `pack`)"
        }
        _ => "the store keeps the generation before. Try a smaller option `lr` and option `head_lr`",
    };
    Error::new(ErrorKind::Diverged, format_args!("step {step}"), format_args!("{what}; {advice}"))
}
