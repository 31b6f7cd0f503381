//! A medium in memory that fails on demand: it loses power after any operation, keeps of what was not synced whatever the worst
//! card would keep, and refuses any call.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Cursor, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rand::RngExt;

use super::medium::{Lock, Medium, Sink};
use crate::session::photos::stream;

/// What a power cut leaves of names and bytes that were not synced. What was synced always stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Medley {
    /// Nothing.
    Lost,
    /// All of it.
    Kept,
    /// All names, and no bytes: files are short.
    Names,
    /// All names; of each file's first un-synced write one half.
    Torn,
    /// Each name by chance, and each write whole, as zeros, or not at all, with all that follows it. The number decides.
    Shuffled(u64),
}

impl Medley {
    /// One of each kind, and shuffles enough to differ.
    pub const ALL: [Medley; 8] = [
        Medley::Lost,
        Medley::Kept,
        Medley::Names,
        Medley::Torn,
        Medley::Shuffled(1),
        Medley::Shuffled(2),
        Medley::Shuffled(3),
        Medley::Shuffled(4),
    ];
}

/// How a medium fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    /// The power goes before the change of this number, and stays away.
    Cut(u64),
    /// The call of this number is refused, and with `for_good` all that follow.
    Refusal { call: u64, kind: io::ErrorKind, for_good: bool },
    /// The sync of a folder is refused, after so many that are not.
    Unsynced { after: u64 },
}

/// A file system in memory. Clones are the same one.
#[derive(Debug, Clone, Default)]
pub struct Simulated(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    files: Vec<Written>,
    /// As the running process sees them.
    names: BTreeMap<PathBuf, Entry>,
    /// As they would be found, were nothing that is pending kept.
    durable: BTreeMap<PathBuf, Entry>,
    /// Changes of names that no sync has made durable, in order.
    pending: Vec<Change>,
    /// Calls, and those among them that change something.
    calls: u64,
    changes: u64,
    fault: Option<Fault>,
    /// Folders that a writer holds.
    locked: BTreeSet<PathBuf>,
    free: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Entry {
    Folder,
    File(usize),
}

#[derive(Debug, Clone)]
enum Change {
    Set(PathBuf, Entry),
    Move(PathBuf, PathBuf, Entry),
    Unset(PathBuf),
}

impl Change {
    fn folder(&self) -> Option<&Path> {
        match self {
            Change::Set(path, _) | Change::Move(_, path, _) | Change::Unset(path) => path.parent(),
        }
    }

    fn apply(&self, names: &mut BTreeMap<PathBuf, Entry>) {
        match self {
            Change::Set(path, entry) => drop(names.insert(path.clone(), *entry)),
            Change::Unset(path) => drop(names.remove(path)),
            Change::Move(from, to, entry) => {
                names.remove(from);
                names.insert(to.clone(), *entry);
            }
        }
    }
}

/// A file's writes, and how many of them are durable.
#[derive(Debug, Clone, Default)]
struct Written {
    pieces: Vec<Vec<u8>>,
    synced: usize,
}

impl Written {
    fn left(&self, file: usize, medley: Medley) -> Vec<u8> {
        let (synced, rest) = self.pieces.split_at(self.synced);
        let mut bytes = synced.concat();
        match medley {
            Medley::Lost | Medley::Names => {}
            Medley::Kept => bytes.extend(rest.concat()),
            Medley::Torn => bytes.extend(rest.first().iter().flat_map(|piece| &piece[..piece.len() / 2])),
            Medley::Shuffled(seed) => {
                let mut chance = stream(*b"medley b", [seed, file as u64, 0]);
                for piece in rest {
                    match chance.random_range(0..3) {
                        0 => bytes.extend(piece),
                        1 => bytes.resize(bytes.len() + piece.len(), 0),
                        _ => break,
                    }
                }
            }
        }
        bytes
    }
}

impl State {
    fn call(&mut self, changes: bool) -> io::Result<()> {
        self.calls += 1;
        self.changes += u64::from(changes);
        match self.fault {
            Some(Fault::Cut(at)) if self.changes >= at => Err(io::Error::other("the power is gone")),
            Some(Fault::Refusal { call, kind, for_good }) if self.calls == call || for_good && self.calls > call => {
                Err(kind.into())
            }
            _ => Ok(()),
        }
    }

    fn file(&self, path: &Path) -> io::Result<usize> {
        match self.names.get(path) {
            Some(Entry::File(file)) => Ok(*file),
            Some(Entry::Folder) => Err(io::ErrorKind::IsADirectory.into()),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn require_folder(&self, path: &Path) -> io::Result<()> {
        match self.names.get(path) {
            Some(Entry::Folder) => Ok(()),
            Some(Entry::File(_)) => Err(io::ErrorKind::NotADirectory.into()),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn change(&mut self, change: Change) {
        change.apply(&mut self.names);
        self.pending.push(change);
    }

    fn bytes(&self, file: usize) -> Vec<u8> {
        self.files[file].pieces.concat()
    }
}

impl Simulated {
    /// An empty one with a folder that is there for good.
    #[must_use]
    pub fn with_folder(folder: &Path) -> Self {
        let names = BTreeMap::from([(folder.to_path_buf(), Entry::Folder)]);
        Simulated(Arc::new(Mutex::new(State { durable: names.clone(), names, ..State::default() })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Loses power before the change number `change`, counted from 1.
    pub fn cut_before(&self, change: u64) {
        self.state().fault = Some(Fault::Cut(change));
    }

    /// Refuses call number `call`, counted from 1, and where `for_good` every later one.
    pub fn refuse(&self, call: u64, kind: io::ErrorKind, for_good: bool) {
        self.state().fault = Some(Fault::Refusal { call, kind, for_good });
    }

    /// Refuses the sync of a folder number `sync`, counted from 1 from now on.
    pub fn refuse_folder_sync(&self, sync: u64) {
        self.state().fault = Some(Fault::Unsynced { after: sync.saturating_sub(1) });
    }

    /// Has so many bytes free, as far as it tells.
    pub fn tell_free(&self, bytes: u64) {
        self.state().free = Some(bytes);
    }

    /// Calls so far.
    #[must_use]
    pub fn calls(&self) -> u64 {
        self.state().calls
    }

    /// Those among them that changed something.
    #[must_use]
    pub fn changes(&self) -> u64 {
        self.state().changes
    }

    /// What is found when power comes back.
    #[must_use]
    pub fn after_cut(&self, medley: Medley) -> Simulated {
        let state = self.state();
        let mut names = state.durable.clone();
        let mut chance = stream(*b"medley n", [if let Medley::Shuffled(seed) = medley { seed } else { 0 }, 0, 0]);
        for change in &state.pending {
            let kept = match medley {
                Medley::Lost => false,
                Medley::Shuffled(_) => chance.random_bool(0.5),
                _ => true,
            };
            if kept {
                change.apply(&mut names);
            }
        }
        let left = state.files.iter().enumerate().map(|(file, written)| written.left(file, medley));
        let files = left.map(|bytes| Written { pieces: vec![bytes], synced: 1 }).collect();
        Simulated(Arc::new(Mutex::new(State { files, durable: names.clone(), names, ..State::default() })))
    }

    /// Every file, with its bytes.
    #[must_use]
    pub fn files(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let state = self.state();
        let file = |(path, entry): (&PathBuf, &Entry)| match entry {
            Entry::File(file) => Some((path.clone(), state.bytes(*file))),
            Entry::Folder => None,
        };
        state.names.iter().filter_map(file).collect()
    }

    /// Puts `bytes` in place of what a file holds: what a card does on its own.
    pub fn overwrite(&self, path: &Path, bytes: Vec<u8>) {
        let mut state = self.state();
        if let Ok(file) = state.file(path) {
            state.files[file] = Written { pieces: vec![bytes], synced: 1 };
        }
    }

    fn open(&self, path: &Path, anew: bool) -> io::Result<Box<dyn Sink>> {
        let mut state = self.state();
        state.call(true)?;
        state.require_folder(path.parent().unwrap_or(Path::new("")))?;
        let file = match state.file(path) {
            Ok(file) if !anew => file,
            Err(e) if e.kind() == io::ErrorKind::IsADirectory => return Err(e),
            // One that is written anew is another file under the same name: its old bytes may be found again.
            _ => {
                state.files.push(Written::default());
                let file = state.files.len() - 1;
                state.change(Change::Set(path.to_path_buf(), Entry::File(file)));
                file
            }
        };
        drop(state);
        Ok(Box::new(Writer { medium: self.clone(), file }))
    }
}

struct Writer {
    medium: Simulated,
    file: usize,
}

impl Write for Writer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut state = self.medium.state();
        let done = state.call(true);
        // Of a write that fails, one half may have been done.
        let written = if done.is_ok() { bytes } else { &bytes[..bytes.len() / 2] };
        state.files[self.file].pieces.push(written.to_vec());
        done.map(|()| bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Sink for Writer {
    fn sync(&mut self) -> io::Result<()> {
        let mut state = self.medium.state();
        state.call(true)?;
        let written = &mut state.files[self.file];
        written.synced = written.pieces.len();
        Ok(())
    }
}

impl Medium for Simulated {
    fn create(&self, file: &Path) -> io::Result<Box<dyn Sink>> {
        self.open(file, true)
    }

    fn append(&self, file: &Path) -> io::Result<Box<dyn Sink>> {
        self.open(file, false)
    }

    fn read(&self, file: &Path) -> io::Result<(u64, Box<dyn Read>)> {
        let mut state = self.state();
        state.call(false)?;
        let bytes = state.bytes(state.file(file)?);
        Ok((bytes.len() as u64, Box::new(Cursor::new(bytes))))
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<String>> {
        let mut state = self.state();
        state.call(false)?;
        state.require_folder(folder)?;
        let within = state.names.keys().filter(|path| path.parent() == Some(folder));
        Ok(within.filter_map(|path| Some(path.file_name()?.to_string_lossy().into_owned())).collect())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.call(true)?;
        let entry = Entry::File(state.file(from)?);
        state.change(Change::Move(from.to_path_buf(), to.to_path_buf(), entry));
        Ok(())
    }

    fn remove(&self, file: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.call(true)?;
        state.file(file)?;
        state.change(Change::Unset(file.to_path_buf()));
        Ok(())
    }

    fn create_folder(&self, folder: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.call(true)?;
        if state.names.contains_key(folder) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        state.require_folder(folder.parent().unwrap_or(Path::new("")))?;
        state.change(Change::Set(folder.to_path_buf(), Entry::Folder));
        Ok(())
    }

    fn remove_folder(&self, folder: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.call(true)?;
        state.require_folder(folder)?;
        if state.names.keys().any(|path| path.parent() == Some(folder)) {
            return Err(io::ErrorKind::DirectoryNotEmpty.into());
        }
        state.change(Change::Unset(folder.to_path_buf()));
        Ok(())
    }

    fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        let mut guard = self.state();
        guard.call(true)?;
        let state = &mut *guard;
        match &mut state.fault {
            Some(Fault::Unsynced { after: 0 }) => {
                state.fault = None;
                return Err(io::Error::other("the folder is not synced"));
            }
            Some(Fault::Unsynced { after }) => *after -= 1,
            _ => {}
        }
        let (synced, rest) = core::mem::take(&mut state.pending).into_iter().partition(|c| c.folder() == Some(folder));
        let synced: Vec<Change> = synced;
        synced.iter().for_each(|change| change.apply(&mut state.durable));
        state.pending = rest;
        Ok(())
    }

    fn free_bytes(&self, _: &Path) -> Option<u64> {
        self.state().free
    }

    fn lock(&self, folder: &Path) -> io::Result<Option<Lock>> {
        let mut state = self.state();
        state.call(false)?;
        state.require_folder(folder)?;
        let is_free = state.locked.insert(folder.to_path_buf());
        Ok(is_free.then(|| -> Lock { Box::new(Held { medium: self.clone(), folder: folder.to_path_buf() }) }))
    }
}

/// A folder that a writer holds.
struct Held {
    medium: Simulated,
    folder: PathBuf,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.medium.state().locked.remove(&self.folder);
    }
}
