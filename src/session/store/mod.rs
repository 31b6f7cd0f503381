//! The personal store: a folder of numbered generations, each one safetensors file with all that is needed to go on.
//!
//! A reader takes the newest generation that is whole. A writer holds the folder locked, and each of its files is whole and durable
//! before it has its name, so that a cut at any moment leaves what was acknowledged before (`docs/store.md`).

mod checkpoint;
mod medium;
mod model;
mod record;
mod series;
mod simulated;
mod tensors;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::sync::Arc;

pub(super) use checkpoint::{Standing, UnderWay};
pub(super) use medium::refuse_irregular;
pub use medium::{Disk, Lock, Medium, Sink};
#[doc(hidden)]
pub use model::operations;
pub use record::{Record, Settings};
use series::{Fault, MOST_NUMBERS};
pub(super) use series::{Series, not_written};
pub use simulated::{Medley, Simulated};

use crate::adapter::Adapter;
use crate::bundle::{Bundle, Container, Kind, TEMPORARY_PREFIX, check_lists};
use crate::error::{Error, ErrorKind, Result};

/// Generations that are kept, the current one included.
const KEPT: usize = 4;

/// An opened store.
#[derive(Debug)]
pub struct Store {
    medium: Arc<dyn Medium>,
    path: PathBuf,
    current: u64,
    /// The generation that was opened; a store that is being written does not hold it.
    container: Option<Container<'static>>,
    /// What is wrong with newer generations than the one that was opened.
    faults: Vec<Fault>,
    /// Held by a writer, for as long as the store is open.
    _lock: Option<Lock>,
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
                Ok(Store { medium, path, current, container, faults, _lock: None })
            }
            (None, faults) => Err(faults.into_iter().next().map(|(_, fault)| fault).unwrap_or_else(|| {
                let message = "holds no generation; is it a store that `srlora train` wrote?";
                Error::new(ErrorKind::Store, path.display(), message)
            })),
        }
    }

    /// Opens a store to change it. What a cut has left half-written is removed.
    ///
    /// # Errors
    /// As [`Store::open`]; `Busy` where another process is changing it.
    pub fn open_to_write(medium: Arc<dyn Medium>, path: &Path) -> Result<Self> {
        // In a folder that is no store nothing is touched.
        if Series::Generation.numbers(&*medium, path)?.is_empty() {
            Self::open_on(medium.clone(), path)?;
        }
        let lock = lock(&*medium, path)?;
        sweep_temporaries(&*medium, path)?;
        Ok(Store { _lock: Some(lock), ..Self::open_on(medium, path)? })
    }

    /// Makes one that holds a first generation. Where `adopt`, a folder that a cut has left without one is taken.
    ///
    /// # Errors
    /// As [`Store::save`]; `Exists`, `Io`, `Busy`.
    pub(super) fn create(
        medium: Arc<dyn Medium>,
        path: &Path,
        adopt: bool,
        adapter: &Adapter,
        record: &Record,
    ) -> Result<Self> {
        let adopted = adopt && is_unborn(&*medium, path)?;
        let made = match medium.create_folder(path) {
            Ok(()) => true,
            Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists && adopted => false,
            Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => return Err(already_there(path)),
            Err(e) => return Err(not_written(path, e)),
        };
        let lock = lock(&*medium, path)?;
        let begin = || {
            // Another process may have been quicker.
            if !is_unborn(&*medium, path)? {
                return Err(already_there(path));
            }
            sweep_temporaries(&*medium, path)?;
            if let Some(parent) = path.parent() {
                let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
                medium.sync_folder(parent).map_err(|e| not_written(path, e))?;
            }
            write(&*medium, path, Series::Generation, 1, adapter, record)
        };
        match begin() {
            Ok(_) => {
                let (path, faults) = (path.to_path_buf(), Vec::new());
                Ok(Store { medium, path, current: 1, container: None, faults, _lock: Some(lock) })
            }
            Err(error) => {
                // What this has made, it takes away, while it holds the lock and where the medium allows.
                if made && is_unborn(&*medium, path).unwrap_or(false) {
                    let _ = medium.remove(&path.join(medium::LOCK));
                    let _ = medium.remove_folder(path);
                }
                Err(error)
            }
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

    /// What the current generation knows besides its numbers.
    ///
    /// # Errors
    /// Kind `Store` where the entry does not parse.
    pub fn record(&self) -> Result<Record> {
        parse(self.container()?)
    }

    /// How many directions of a site no pair has used yet.
    ///
    /// # Errors
    /// Kind `Store` where the current generation has no such site.
    pub(super) fn unused(&self, site: &str) -> Result<usize> {
        self.container()?.dims(&format!("site/{site}/reserve")).map(|[unused]| unused)
    }

    fn container(&self) -> Result<&Container<'static>> {
        let empty = || Error::new(ErrorKind::Store, self.path.display(), "is being written");
        self.container.as_ref().ok_or_else(empty)
    }

    /// The adapter of the current generation, checked against `bundle`.
    ///
    /// # Errors
    /// `Mismatch` where store and bundle do not belong together, `Store` where a tensor does not fit.
    pub fn load(&self, bundle: &Bundle) -> Result<(Record, Adapter)> {
        load(self.container()?, &self.path, bundle)
    }

    /// Lets go of the generation that was opened; it has been loaded.
    pub(super) fn close_generation(&mut self) {
        self.container = None;
    }

    /// Writes the next generation, which is durable and current when this returns; the oldest ones leave.
    ///
    /// # Errors
    /// `Diverged` where a value is not finite; `Io`: the generation before is still current.
    pub(super) fn save(&mut self, adapter: &Adapter, record: &Record) -> Result<()> {
        self.put(Series::Generation, adapter, record).map(|number| self.current = number)?;
        self.prune(record.parent);
        Ok(())
    }

    /// Keeps a lesson that is no better than what is current; the last one of these leaves.
    ///
    /// # Errors
    /// As [`Store::save`].
    pub(super) fn set_aside(&mut self, adapter: &Adapter, record: &Record) -> Result<u64> {
        let number = self.put(Series::Aside, adapter, record)?;
        Series::Aside.sweep(&*self.medium, &self.path, |other| other != number);
        Ok(number)
    }

    fn put(&self, series: Series, adapter: &Adapter, record: &Record) -> Result<u64> {
        let number = self.next_number()?;
        write(&*self.medium, &self.path, series, number, adapter, record)?;
        Ok(number)
    }

    /// One that nothing in the store has had, damaged files included.
    fn next_number(&self) -> Result<u64> {
        let highest = self.numbers()?.into_iter().flatten().max().unwrap_or(0);
        let full = || Error::new(ErrorKind::Store, self.path.display(), "has had too many generations");
        Some(highest + 1).filter(|next| *next < MOST_NUMBERS).ok_or_else(full)
    }

    /// Lets the oldest generations go. The current one and `parent`, to which `rollback` leads, stay; what could not be read when
    /// this was opened is not counted. It is not removed for that either: another version, or another try, may read it.
    fn prune(&self, parent: u64) {
        let numbers = Series::Generation.numbers(&*self.medium, &self.path).unwrap_or_default();
        let is_read = |number: &u64| self.faults.iter().all(|(unread, _)| unread != number);
        let mut counted = numbers.into_iter().filter(|number| *number <= self.current && is_read(number));
        let Some(oldest) = counted.nth(KEPT - 1) else { return };
        Series::Generation.sweep(&*self.medium, &self.path, |number| number < oldest && number != parent);
    }

    /// Undoes the last lesson, or goes back to generation `to`, or takes the lesson kept aside under that number: what it holds
    /// becomes a new generation, so that this, too, can be undone. The number of the generation whose contents are now current.
    ///
    /// # Errors
    /// `Usage` where there is no such generation or nothing to go back to; `Diverged` where a value is not finite, `Io`.
    pub fn rollback(&mut self, to: Option<u64>) -> Result<u64> {
        let [generations, asides] = self.numbers()?;
        let number = to.map_or_else(|| self.record().map(|record| record.parent), Ok)?;
        let series = match () {
            () if generations.contains(&number) => Series::Generation,
            () if asides.contains(&number) => Series::Aside,
            () => return Err(self.no_way_back(to, generations.into_iter().chain(asides).collect())),
        };
        let container = series.read(&*self.medium, &self.path, number)?;
        self.replace(container)?;
        Ok(number)
    }

    fn no_way_back(&self, to: Option<u64>, mut known: Vec<u64>) -> Error {
        known.sort_unstable();
        let known = known.iter().map(u64::to_string).collect::<Vec<_>>().join(", ");
        let (subject, what) = match to {
            Some(to) => ("--to".to_owned(), format!("there is no generation {to} in {}", self.path.display())),
            None => {
                let what = "what the last lesson went out from is not kept, or it was the first one".to_owned();
                (self.path.display().to_string(), what)
            }
        };
        Error::new(ErrorKind::Usage, subject, format_args!("{what}; --to goes to any of {known}"))
    }

    /// Makes a generation without one class: its row leaves the head. Pairs and other rows stay as they are.
    ///
    /// # Errors
    /// `Usage` where there is no such class, or no other; `Diverged` where a value is not finite, `Io`.
    pub fn forget(&mut self, class: &str) -> Result<()> {
        let mut record = self.record()?;
        let refuse = |message: String| Err(Error::new(ErrorKind::Usage, self.path.display(), message));
        let Some(row) = record.classes.iter().position(|known| known == class) else {
            return refuse(format!("knows no class {class}; it knows {}", record.classes.join(", ")));
        };
        if record.classes.len() == 1 {
            return refuse(format!("knows no class but {class}; remove the folder to forget it all"));
        }
        let mut container = self.container()?.clone();
        let [classes, features] = head_shape(&container, record.classes.len())?;
        for name in ["head/values", "head/first", "head/second"] {
            // The sizes agree with what is there, so these products do not overflow.
            let mut values = container.f32(name, &[classes * features + classes])?;
            values.remove(classes * features + row);
            values.drain(row * features..(row + 1) * features);
            container.forget(name);
            container.insert_f32(name, &[values.len()], values)?;
        }
        container.forget("head/shape");
        container.insert_u64("head/shape", &[2], vec![classes as u64 - 1, features as u64])?;
        record.classes.remove(row);
        record.parent = self.current;
        put_record(&mut container, &record)?;
        self.replace(container)
    }

    /// Writes `container` as the next generation, and holds it.
    fn replace(&mut self, container: Container<'static>) -> Result<()> {
        let (number, record) = (self.next_number()?, parse(&container)?);
        Series::Generation.write(&*self.medium, &self.path, number, &container)?;
        (self.current, self.container) = (number, Some(container));
        // A lesson under way went out from something else.
        Series::Checkpoint.sweep(&*self.medium, &self.path, |_| true);
        self.prune(record.parent);
        Ok(())
    }
}

/// A store must not be there yet; what to do with one that is.
pub(super) fn already_there(path: &Path) -> Error {
    let message = "is already there; a store learns on with --from, and a lesson that was cut off goes on with --resume. Or choose \
                   another output";
    Error::new(ErrorKind::Exists, path.display(), message)
}

fn lock(medium: &dyn Medium, path: &Path) -> Result<Lock> {
    medium.lock(path).map_err(|e| not_written(path, e))?.ok_or_else(|| {
        let message = "another process is changing it; wait until it has ended";
        Error::new(ErrorKind::Busy, path.display(), message)
    })
}

/// Whether `path` is a folder in which a store was begun, and no more.
pub(super) fn is_unborn(medium: &dyn Medium, path: &Path) -> Result<bool> {
    match medium.list(path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(e) => Err(Error::io(path, e)),
        Ok(names) => Ok(names.iter().all(|name| name == medium::LOCK || name.starts_with(TEMPORARY_PREFIX))),
    }
}

/// Half-written files that a cut has left.
fn sweep_temporaries(medium: &dyn Medium, path: &Path) -> Result<()> {
    let names = medium.list(path).map_err(|e| Error::io(path, e))?;
    // What cannot leave would be in the way once all has been learned.
    let files = names.iter().filter(|name| name.starts_with(TEMPORARY_PREFIX)).map(|name| path.join(name));
    files.into_iter().try_for_each(|file| medium.remove(&file).map_err(|e| not_written(&file, e)))
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

/// Rows and columns of the head, which has as many weights and biases as they say.
fn head_shape(container: &Container, classes: usize) -> Result<[usize; 2]> {
    let shape = container.u64("head/shape", &[2])?;
    let [values] = container.dims("head/values")?;
    let features = usize::try_from(shape[1]).ok();
    let agrees = |features: &usize| features.checked_add(1).and_then(|n| n.checked_mul(classes)) == Some(values);
    match features.filter(agrees) {
        Some(features) if shape[0] == classes as u64 => Ok([classes, features]),
        _ => Err(container.fault("its head has another size than its classes")),
    }
}

/// What a generation or a checkpoint holds, where it belongs to `bundle`.
fn load(container: &Container, store: &Path, bundle: &Bundle) -> Result<(Record, Adapter)> {
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
    let start = record.lesson.start().ok_or_else(|| container.fault("its pairs start on something unknown"))?;
    let adapter = tensors::take(container, "", bundle, start, record.classes.len())?;
    Ok((record, adapter))
}

/// Writes one file of a store; the bytes that it has.
fn write(
    medium: &dyn Medium,
    store: &Path,
    series: Series,
    number: u64,
    adapter: &Adapter,
    record: &Record,
) -> Result<u64> {
    let mut container = Container::new(Kind::Store);
    put_record(&mut container, record)?;
    tensors::put(&mut container, "", adapter)?;
    refuse_not_finite(&container, record.steps)?;
    series.write(medium, store, number, &container)
}

fn refuse_not_finite(container: &Container, steps: u64) -> Result<()> {
    match container.not_finite() {
        Some(tensor) => Err(diverged(steps, format_args!("`{tensor}` holds values that are not finite"))),
        None => Ok(()),
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
