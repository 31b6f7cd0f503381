//! A store that is being changed: one writer at a time, which holds the folder locked for as long as it lives.

use std::ops::Deref;
use std::path::Path;
use std::sync::Arc;

use super::medium::{self, Disk, Lock, Medium};
use super::replay::Remembered;
use super::series::{MOST_NUMBERS, Series, not_written};
use super::{
    Imported, Record, RecordedLesson, Store, already_there, is_unborn, parse, put_record, refuse_not_finite, replay,
    tensors,
};
use crate::adapter::Adapter;
use crate::bundle::{Bundle, Container, Kind, TEMPORARY_PREFIX};
use crate::error::{Error, ErrorKind, Result};
use crate::session::replay::Replay;

/// Generations that are kept, the current one included.
const KEPT: usize = 4;

/// A store that is opened to be changed; it can do all that a [`Store`] can.
#[derive(Debug)]
pub struct StoreWriter {
    store: Store,
    _lock: Lock,
}

impl Deref for StoreWriter {
    type Target = Store;

    fn deref(&self) -> &Store {
        &self.store
    }
}

impl StoreWriter {
    /// Opens a store on the disk to change it. What a cut has left half-written is removed, and what is there is made durable.
    ///
    /// # Errors
    /// As [`Store::open`]; `Busy` where it is being changed by another writer, in this process or in another one.
    pub fn open(path: &Path) -> Result<Self> {
        Self::open_on(Arc::new(Disk), path)
    }

    /// [`StoreWriter::open`] on any medium.
    ///
    /// # Errors
    /// As there.
    pub fn open_on(medium: Arc<dyn Medium>, path: &Path) -> Result<Self> {
        // In a folder that is no store nothing is touched.
        if Series::Generation.numbers(&*medium, path)?.is_empty() {
            Store::open_on(medium.clone(), path)?;
        }
        let lock = lock(&*medium, path)?;
        sweep_temporaries(&*medium, path)?;
        // The last writer may have had to leave a name that was not durable yet.
        medium.sync_folder(path).map_err(|e| not_written(path, e))?;
        let writer = StoreWriter { store: Store::open_on(medium, path)?, _lock: lock };
        // A cut may have come between a class and its examples.
        if let Some(class) = writer.record().ok().and_then(|record| record.forgot) {
            writer.forget_examples(&class, writer.current)?;
        }
        Ok(writer)
    }

    /// Makes a store that holds a first generation, and the examples that it has. Where `adopt`, a folder that a cut
    /// has left without one is taken.
    ///
    /// # Errors
    /// As [`StoreWriter::save`]; `Exists`, `Io`, `Busy`.
    pub(crate) fn create(
        medium: Arc<dyn Medium>,
        path: &Path,
        adopt: bool,
        adapter: &Adapter,
        (record, replay): (&mut Record, &Replay),
    ) -> Result<Self> {
        let adopted = adopt && is_unborn(&*medium, path)?;
        let made = match medium.create_folder(path) {
            Ok(()) => true,
            Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists && adopted => false,
            Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => return Err(already_there(path)),
            Err(e) => return Err(not_written(path, e)),
        };
        let lock = lock(&*medium, path)?;
        let mut begin = || {
            // Another process may have been quicker.
            if !is_unborn(&*medium, path)? {
                return Err(already_there(path));
            }
            sweep_temporaries(&*medium, path)?;
            if let Some(parent) = path.parent() {
                let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
                medium.sync_folder(parent).map_err(|e| not_written(path, e))?;
            }
            record.replay = replay::write(&*medium, path, 1, replay, record)?;
            write(&*medium, path, Series::Generation, 1, adapter, record)
        };
        match begin() {
            Ok(_) => {
                let (path, faults) = (path.to_path_buf(), Vec::new());
                let store = Store { medium, path, current: 1, container: None, faults };
                Ok(StoreWriter { store, _lock: lock })
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

    /// Makes a store on the disk that holds what was learned elsewhere.
    ///
    /// # Errors
    /// As of [`StoreWriter::create`].
    pub(crate) fn create_imported(
        path: &Path,
        adapter: &Adapter,
        lesson: RecordedLesson,
        imported: Imported,
        (bundle, classes): (&Bundle, &[String]),
    ) -> Result<Self> {
        let mut record = Record { imported: Some(imported), ..Record::new(bundle, lesson, true, classes) };
        Self::create(Arc::new(Disk), path, true, adapter, (&mut record, &Replay::default()))
    }

    /// Lets go of the generation that was opened; it has been loaded.
    pub(crate) fn close_generation(&mut self) {
        self.store.container = None;
    }

    /// Writes the next generation, which is durable and current when this returns; the oldest ones leave.
    ///
    /// # Errors
    /// `Diverged` where a value is not finite; `Io`: the generation before is still current; `Unsynced`: the new one is current, and
    /// not durable yet.
    pub(crate) fn save(&mut self, adapter: &Adapter, record: &Record) -> Result<()> {
        let number = self.next_number()?;
        let written = write(&*self.medium, &self.path, Series::Generation, number, adapter, record);
        if has_its_name(&written) {
            self.store.current = number;
        }
        written?;
        self.prune(record.parent);
        Ok(())
    }

    /// Keeps a lesson that is no better than what is current; the last one of these leaves.
    ///
    /// # Errors
    /// As [`StoreWriter::save`].
    pub(crate) fn set_aside(&mut self, adapter: &Adapter, record: &Record) -> Result<u64> {
        let number = self.next_number()?;
        write(&*self.medium, &self.path, Series::Aside, number, adapter, record)?;
        Series::Aside.sweep(&*self.medium, &self.path, |other| other != number);
        self.sweep_replays();
        Ok(number)
    }

    /// One that nothing in the store has had, damaged files included.
    pub(super) fn next_number(&self) -> Result<u64> {
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
        if let Some(oldest) = counted.nth(KEPT - 1) {
            Series::Generation.sweep(&*self.medium, &self.path, |number| number < oldest && number != parent);
        }
        self.sweep_replays();
    }

    /// Undoes the last lesson, or goes back to generation `to`, or takes the lesson kept aside under that number: what it holds
    /// becomes a new generation, so that this, too, can be undone. The number of the generation whose contents are now current.
    ///
    /// # Errors
    /// `Usage` where there is no such generation or nothing to go back to; `Diverged` where a value is not finite; `Io`, `Unsynced` as
    /// of [`StoreWriter::forget`].
    pub fn rollback(&mut self, to: Option<u64>) -> Result<u64> {
        let [generations, asides] = self.numbers()?;
        let number = to.map_or_else(|| self.record().map(|record| record.parent), Ok)?;
        let series = match () {
            () if generations.contains(&number) => Series::Generation,
            () if asides.contains(&number) => Series::Aside,
            () => return Err(self.no_way_back(to, generations.into_iter().chain(asides).collect())),
        };
        let mut container = series.read(&*self.medium, &self.path, number)?;
        let mut record = parse(&container)?;
        if record.forgot.take().is_some() {
            put_record(&mut container, &record)?;
        }
        self.replace(container)?;
        Ok(number)
    }

    fn no_way_back(&self, to: Option<u64>, mut known: Vec<u64>) -> Error {
        known.sort_unstable();
        let known = known.iter().map(u64::to_string).collect::<Vec<_>>().join(", ");
        let (subject, what) = match to {
            Some(to) => ("option `to`".to_owned(), format!("there is no generation {to} in {}", self.path.display())),
            None => {
                let what = "what the last lesson went out from is not kept, or it was the first one".to_owned();
                (self.path.display().to_string(), what)
            }
        };
        Error::new(ErrorKind::Usage, subject, format_args!("{what}; option `to` goes to any of {known}"))
    }

    /// Makes a generation without one class: its row leaves the head, and its means and what a trial tells of it leave. Its examples leave
    /// every file of the store: the way back has none of them. Pairs and other rows stay as they are.
    ///
    /// # Errors
    /// `Usage` where there is no such class, or no other; `Diverged` where a value is not finite; `Io`: all is as it was; `Unsynced`: the
    /// new generation is current, and not durable yet.
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
        // Earlier programs kept the optimizer's moments too.
        let kept = ["head/values", "head/first", "head/second"].into_iter().filter(|name| container.has(name));
        for name in kept.collect::<Vec<_>>() {
            // The sizes agree with what is there, so these products do not overflow.
            let mut values = container.f32(name, &[classes * features + classes])?;
            values.remove(classes * features + row);
            values.drain(row * features..(row + 1) * features);
            container.forget(name);
            container.insert_f32(name, &[values.len()], values)?;
        }
        container.forget("head/shape");
        container.insert_u64("head/shape", &[2], vec![classes as u64 - 1, features as u64])?;
        tensors::forget_means(&mut container, row, [classes, features])?;
        record.classes.remove(row);
        record.trial.iter_mut().for_each(|trial| trial.known.retain(|known| known.class != class));
        record.parent = self.current;
        record.forgot = Some(class.to_owned());
        // Counted in the classes that are left.
        let kept = self.replay(&record, !record.sites.is_empty(), u64::MAX);
        record.replay = match kept {
            Ok(Remembered::Examples(replay, _)) => self.keep_replay(&replay, &record)?,
            _ => None,
        };
        put_record(&mut container, &record)?;
        self.replace(container)?;
        self.forget_examples(class, self.current)
    }

    /// Writes `container` as the next generation, and holds it.
    fn replace(&mut self, container: Container<'static>) -> Result<()> {
        let (number, record) = (self.next_number()?, parse(&container)?);
        let written = Series::Generation.write(&*self.medium, &self.path, number, &container);
        if has_its_name(&written) {
            (self.store.current, self.store.container) = (number, Some(container));
        }
        written?;
        // A lesson under way went out from something else.
        Series::Checkpoint.sweep(&*self.medium, &self.path, |_| true);
        self.prune(record.parent);
        Ok(())
    }
}

/// Whether a file counts from now on: it does even where a power cut may still take it.
fn has_its_name(written: &Result<u64>) -> bool {
    written.as_ref().map_or_else(|error| error.kind() == ErrorKind::Unsynced, |_| true)
}

fn lock(medium: &dyn Medium, path: &Path) -> Result<Lock> {
    medium.lock(path).map_err(|e| not_written(path, e))?.ok_or_else(|| {
        let message = "another writer is changing it, in this process or another one; wait until it has ended";
        Error::new(ErrorKind::Busy, path.display(), message)
    })
}

/// Half-written files that a cut has left.
fn sweep_temporaries(medium: &dyn Medium, path: &Path) -> Result<()> {
    let names = medium.list(path).map_err(|e| Error::io(path, e))?;
    // What cannot leave would be in the way once all has been learned.
    let files = names.iter().filter(|name| name.starts_with(TEMPORARY_PREFIX)).map(|name| path.join(name));
    files.into_iter().try_for_each(|file| medium.remove(&file).map_err(|e| not_written(&file, e)))
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
    tensors::put(&mut container, "", adapter, tensors::Extent::Learned)?;
    refuse_not_finite(&container, record.steps)?;
    series.write(medium, store, number, &container)
}
