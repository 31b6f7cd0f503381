//! The photos: a folder with a folder for each class, as `train --data` takes it, and what is done to them from outside.
//!
//! A photo's number follows from its class and its name. Whoever asks gives numbers and names of classes, never a path. A photo is whole
//! and durable before it has its name; the folder has one writer.

mod incoming;

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::{Serialize, Serializer};

pub(crate) use incoming::{Incoming, kind_of};

use crate::bundle::{TEMPORARY_PREFIX, sha256};
use crate::error::{Error, ErrorKind, Result};
use crate::limits::{MOST_ALBUM_PHOTOS, SPARE_BYTES};
use crate::session::store::{Disk, Medium, hold};
use crate::session::{Dataset, Picture};

/// The file that a writer holds locked.
const LOCK: &str = ".srlora-serve-lock";

/// What other systems leave in a folder that they have shown.
const LITTER: [&str; 3] = [".DS_Store", "Thumbs.db", "desktop.ini"];

/// The number of a photo.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Id(u64);

impl Id {
    pub(crate) fn of(class: &str, name: &str) -> Self {
        let hash = sha256(format!("{class}\0{name}").as_bytes());
        Id(hash.get(..16).and_then(|digits| u64::from_str_radix(digits, 16).ok()).unwrap_or_default())
    }

    /// As it is written: 16 digits.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let is_one = text.len() == 16 && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        is_one.then(|| u64::from_str_radix(text, 16).ok().map(Id)).flatten()
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl Serialize for Id {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A photo of a class.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) id: Id,
    pub(crate) name: String,
    pub(crate) bytes: u64,
    /// When it came, in seconds since 1970; 0 where the system does not tell.
    pub(crate) taken: u64,
}

/// A folder of a class, as it was last listed.
#[derive(Debug, Default)]
struct Class {
    changed: Option<SystemTime>,
    photos: Vec<Entry>,
}

/// A photo, and the class that it is of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) class: String,
    pub(crate) entry: Entry,
    pub(crate) path: PathBuf,
}

/// The photos of a device.
#[derive(Debug)]
pub(crate) struct Album {
    root: PathBuf,
    limit: u64,
    classes: BTreeMap<String, Class>,
    /// Bytes of photos that are coming.
    coming: u64,
    _lock: File,
}

impl Album {
    /// Opens a folder, which is made where there is none. What a power cut has left half-written is removed.
    ///
    /// # Errors
    /// `Io`; `Busy` where another process serves it.
    pub(crate) fn open(root: &Path, limit: u64) -> Result<Self> {
        fs::create_dir_all(root).map_err(|e| Error::io(root, e))?;
        let path = root.join(LOCK);
        let lock =
            OpenOptions::new().create(true).truncate(false).write(true).open(&path).map_err(|e| Error::io(&path, e))?;
        if !hold(&lock).map_err(|e| Error::io(&path, e))? {
            let message =
                "another srlora serve has these photos; there is one for each folder. End that one, or open its page";
            return Err(Error::new(ErrorKind::Busy, root.display(), message));
        }
        for name in Disk.list(root).map_err(|e| Error::io(root, e))? {
            if name.starts_with(TEMPORARY_PREFIX) {
                fs::remove_file(root.join(&name)).map_err(|e| Error::io(&root.join(&name), e))?;
            }
        }
        let mut album = Album { root: root.to_path_buf(), limit, classes: BTreeMap::new(), coming: 0, _lock: lock };
        album.look()?;
        Ok(album)
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Bytes that its photos may take.
    pub(crate) fn limit(&self) -> u64 {
        self.limit
    }

    /// Looks at the folder again, where it may have changed since; whether others have changed it.
    pub(crate) fn look(&mut self) -> Result<bool> {
        let (mut classes, mut has_changed) = (BTreeMap::new(), false);
        for entry in fs::read_dir(&self.root).map_err(|e| Error::io(&self.root, e))? {
            let entry = entry.map_err(|e| Error::io(&self.root, e))?;
            let Ok(name) = entry.file_name().into_string() else { continue };
            let Ok(about) = fs::metadata(entry.path()) else { continue };
            if check_name(&name).is_err() || !about.is_dir() {
                continue;
            }
            let changed = about.modified().ok();
            let known = self.classes.remove(&name);
            let class = match known {
                // What changed within the same tick of the clock would not be seen.
                Some(known) if known.changed.is_some() && known.changed == changed && is_settled(changed) => known,
                known => {
                    // One that this user may not read, `lost+found` for one, is no class.
                    let Ok(photos) = photos_in(&entry.path(), &name) else { continue };
                    has_changed |= known.is_none_or(|known| known.photos != photos);
                    Class { changed, photos }
                }
            };
            classes.insert(name, class);
        }
        // Those that are left are gone.
        has_changed |= !self.classes.is_empty();
        self.classes = classes;
        Ok(has_changed)
    }

    /// The classes, by name, and their photos.
    pub(crate) fn classes(&self) -> impl Iterator<Item = (&str, &[Entry])> {
        self.classes.iter().map(|(name, class)| (name.as_str(), &class.photos[..]))
    }

    /// The photos of a class.
    pub(crate) fn class(&self, name: &str) -> Option<&[Entry]> {
        self.classes.get(name).map(|class| &class.photos[..])
    }

    /// Bytes of all photos.
    pub(crate) fn bytes(&self) -> u64 {
        self.classes.values().flat_map(|class| &class.photos).map(|photo| photo.bytes).sum()
    }

    /// Photos of all classes.
    pub(crate) fn len(&self) -> usize {
        self.classes.values().map(|class| class.photos.len()).sum()
    }

    /// A photo by its number.
    pub(crate) fn find(&self, id: Id) -> Option<Found> {
        self.classes.iter().find_map(|(name, class)| {
            let entry = class.photos.iter().find(|photo| photo.id == id)?.clone();
            Some(Found { class: name.clone(), path: self.root.join(name).join(&entry.name), entry })
        })
    }

    /// Where a photo of a class lies.
    pub(crate) fn path(&self, class: &str, name: &str) -> PathBuf {
        self.root.join(class).join(name)
    }

    /// Makes a class; whether it is new.
    ///
    /// # Errors
    /// `Data` for a name that no class can have; `Io`.
    pub(crate) fn make_class(&mut self, name: &str) -> Result<bool> {
        check_name(name)?;
        let folder = self.root.join(name);
        match fs::create_dir(&folder) {
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists && folder.is_dir() => {
                // Others may have made it.
                if self.class(name).is_none() {
                    self.look()?;
                }
                return Ok(false);
            }
            Err(error) => return Err(Error::io(&folder, error)),
        }
        self.sync(&self.root)?;
        self.look()?;
        Ok(true)
    }

    /// Removes a class with its photos; how many there were.
    ///
    /// # Errors
    /// `Io`: also where something else lies in its folder, which stays.
    pub(crate) fn remove_class(&mut self, name: &str) -> Result<usize> {
        let Some(photos) = self.class(name).map(<[Entry]>::to_vec) else { return Ok(0) };
        let folder = self.root.join(name);
        for photo in &photos {
            let path = folder.join(&photo.name);
            fs::remove_file(&path).map_err(|e| Error::io(&path, e))?;
        }
        for name in Disk.list(&folder).unwrap_or_default() {
            if LITTER.contains(&name.as_str()) || name.starts_with("._") {
                let _ = fs::remove_file(folder.join(&name));
            }
        }
        let removed = fs::remove_dir(&folder).map_err(|e| {
            let message = format!("its photos are removed, but not the folder, which holds something else ({e})");
            Error::new(ErrorKind::Io, folder.display(), message)
        });
        self.sync(&self.root)?;
        self.look()?;
        removed.map(|()| photos.len())
    }

    /// Gives a class another name. Where there is a class of that name, its photos join it.
    ///
    /// # Errors
    /// `Data` for a name that no class can have, or a class that is not there; `Io`.
    pub(crate) fn rename_class(&mut self, from: &str, to: &str) -> Result<()> {
        check_name(to)?;
        let Some(photos) = self.class(from).map(<[Entry]>::to_vec) else { return Err(no_class(from)) };
        if from == to {
            return Ok(());
        }
        if self.class(to).is_none() {
            fs::rename(self.root.join(from), self.root.join(to)).map_err(|e| Error::io(&self.root.join(from), e))?;
            self.sync(&self.root)?;
            return self.look().map(drop);
        }
        let ids: Vec<Id> = photos.iter().map(|photo| photo.id).collect();
        self.move_photos(&ids, to)?;
        self.remove_class(from).map(drop)
    }

    /// Removes photos; those that were there.
    pub(crate) fn remove_photos(&mut self, ids: &[Id]) -> Result<Vec<Id>> {
        let mut removed = Vec::new();
        for id in ids {
            let Some(found) = self.find(*id) else { continue };
            fs::remove_file(&found.path).map_err(|e| Error::io(&found.path, e))?;
            self.forget(&found);
            removed.push(*id);
        }
        self.after_changes()?;
        Ok(removed)
    }

    /// Moves photos to a class; of each that was there, its number before and after.
    ///
    /// # Errors
    /// `Data` where there is no such class; `Io`.
    pub(crate) fn move_photos(&mut self, ids: &[Id], class: &str) -> Result<Vec<(Id, Id)>> {
        if self.class(class).is_none() {
            return Err(no_class(class));
        }
        let mut moved = Vec::new();
        for id in ids {
            let Some(found) = self.find(*id).filter(|found| found.class != class) else { continue };
            let name = self.free_name(class, &found.entry.name);
            fs::rename(&found.path, self.path(class, &name)).map_err(|e| Error::io(&found.path, e))?;
            self.forget(&found);
            moved.push((*id, Id::of(class, &name)));
        }
        self.after_changes()?;
        Ok(moved)
    }

    /// The name, or one like it, that no photo of the class has.
    fn free_name(&self, class: &str, name: &str) -> String {
        let is_free = |name: &str| fs::symlink_metadata(self.path(class, name)).is_err();
        let (stem, suffix) = name.rsplit_once('.').unwrap_or((name, "jpg"));
        let others = (2..u32::MAX).map(|nth| format!("{stem}-{nth}.{suffix}"));
        std::iter::once(name.to_owned()).chain(others).find(|name| is_free(name)).unwrap_or_else(|| name.to_owned())
    }

    fn forget(&mut self, found: &Found) {
        if let Some(class) = self.classes.get_mut(&found.class) {
            class.photos.retain(|photo| photo.id != found.entry.id);
            class.changed = None;
        }
    }

    fn after_changes(&mut self) -> Result<()> {
        let changed =
            self.classes.iter().filter(|(_, class)| class.changed.is_none()).map(|(name, _)| self.root.join(name));
        changed.collect::<Vec<_>>().iter().try_for_each(|folder| self.sync(folder))?;
        self.look().map(drop)
    }

    fn sync(&self, folder: &Path) -> Result<()> {
        Disk.sync_folder(folder).map_err(|e| Error::io(folder, e))
    }

    /// Whether a photo of so many bytes finds room.
    ///
    /// # Errors
    /// Kind `Memory` where it does not.
    fn check_room(&self, bytes: u64) -> Result<()> {
        let refuse = |message: String| Err(Error::new(ErrorKind::Memory, "the photos", message));
        let mib = |bytes: u64| bytes >> 20;
        if self.len() >= MOST_ALBUM_PHOTOS {
            return refuse(format!("are {MOST_ALBUM_PHOTOS} already; delete some"));
        }
        let taken = self.bytes() + self.coming;
        if taken.saturating_add(bytes) > self.limit {
            let message = format!(
                "take {} MiB of the {} MiB that they may (option `photos_limit`); delete some, or raise it",
                mib(taken),
                mib(self.limit)
            );
            return refuse(message);
        }
        if let Some(free) =
            Disk.free_bytes(&self.root).filter(|free| *free < bytes.saturating_add(self.coming + SPARE_BYTES))
        {
            return refuse(format!(
                "find no room: the card has {} MiB left, and the last {} MiB stay free",
                mib(free),
                mib(SPARE_BYTES)
            ));
        }
        Ok(())
    }
}

/// Whether the library takes it as the name of a class.
///
/// # Errors
/// Kind `Data`, with what is wrong.
pub(crate) fn check_name(name: &str) -> Result<()> {
    Dataset::default().add(name, Picture::encoded("", []))
}

pub(crate) fn no_class(name: &str) -> Error {
    Error::new(ErrorKind::Data, format_args!("class {name:.40?}"), "there is no such class")
}

/// A folder's time of change tells of all changes only once the clock has moved on.
fn is_settled(changed: Option<SystemTime>) -> bool {
    let age = changed.and_then(|changed| changed.elapsed().ok());
    age.is_some_and(|age| age.as_secs() >= 3)
}

fn photos_in(folder: &Path, class: &str) -> Result<Vec<Entry>> {
    let mut photos = Vec::new();
    for entry in fs::read_dir(folder).map_err(|e| Error::io(folder, e))? {
        let entry = entry.map_err(|e| Error::io(folder, e))?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        if name.starts_with('.') || kind_of(Path::new(&name)).is_none() {
            continue;
        }
        let Ok(about) = fs::metadata(entry.path()) else { continue };
        if about.is_file() && photos.len() < MOST_ALBUM_PHOTOS {
            let since = about.modified().ok().and_then(|time| time.duration_since(SystemTime::UNIX_EPOCH).ok());
            let taken = since.map_or(0, |since| since.as_secs());
            photos.push(Entry { id: Id::of(class, &name), name, bytes: about.len(), taken });
        }
    }
    photos.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(photos)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn album(folder: &Path, limit: u64) -> Album {
        Album::open(&folder.join("photos"), limit).unwrap()
    }

    fn add(album: &mut Album, class: &str, bytes: &[u8]) -> Result<(Id, bool)> {
        let mut incoming = album.expect(class, bytes.len() as u64)?;
        incoming.write_all(bytes).unwrap();
        let done = incoming.end();
        album.take(done)
    }

    #[test]
    fn photos_come_move_and_leave_and_their_numbers_follow_from_class_and_name() {
        let folder = tempfile::tempdir().unwrap();
        let mut album = album(folder.path(), 1 << 20);
        assert!(album.make_class("cup").unwrap() && !album.make_class("cup").unwrap());
        let (id, is_new) = add(&mut album, "cup", b"\xff\xd8 one").unwrap();
        assert!(is_new);
        assert_eq!(add(&mut album, "cup", b"\xff\xd8 one").unwrap(), (id, false), "the same bytes are the same photo");
        let (other, _) = add(&mut album, "bottle", b"\xff\xd8 two").unwrap();
        assert_eq!(
            album.classes().map(|(name, photos)| (name, photos.len())).collect::<Vec<_>>(),
            [("bottle", 1), ("cup", 1)]
        );
        let moved = album.move_photos(&[id, Id(7)], "bottle").unwrap();
        assert_eq!((moved.len(), moved[0].0, album.class("bottle").unwrap().len()), (1, id, 2));
        assert!(album.find(id).is_none() && album.find(moved[0].1).unwrap().class == "bottle");
        album.rename_class("bottle", "cup").unwrap();
        assert_eq!(album.classes().map(|(name, photos)| (name, photos.len())).collect::<Vec<_>>(), [("cup", 2)]);
        let ids: Vec<Id> = album.class("cup").unwrap().iter().map(|photo| photo.id).collect();
        assert_eq!(album.remove_photos(&ids).unwrap().len(), 2);
        assert!(album.find(other).is_none() && album.len() == 0);
        assert_eq!(Id::parse(&id.to_string()), Some(id));
        for wrong in ["", "..", "../../etc/passwd", "0123456789ABCDEF", "+123456789abcdef", "0123456789abcdef0"] {
            assert_eq!(Id::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn names_lead_nowhere_else_and_room_has_an_end() {
        let folder = tempfile::tempdir().unwrap();
        let mut album = album(folder.path(), 20);
        for name in ["", ".", "..", "../x", "a/b", "a\\b", ".hidden", "a\0b", "a\nb", &"x".repeat(256)] {
            assert_eq!(album.make_class(name).unwrap_err().kind(), ErrorKind::Data, "{name:?}");
            assert_eq!(add(&mut album, name, b"\xff\xd8").unwrap_err().kind(), ErrorKind::Data, "{name:?}");
        }
        add(&mut album, "a", b"\xff\xd8 123456789").unwrap();
        assert_eq!(add(&mut album, "a", b"\xff\xd8 abcdefghij").unwrap_err().kind(), ErrorKind::Memory);
        let first = album.expect("a", 8).unwrap();
        assert_eq!(album.expect("a", 8).map(drop).unwrap_err().kind(), ErrorKind::Memory, "what is coming counts");
        album.let_go(first);
        assert!(album.expect("a", 8).is_ok());
    }

    #[test]
    fn what_was_cut_off_is_gone_and_a_second_writer_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let mut first = album(folder.path(), 1 << 20);
        let mut half = first.expect("cup", 100).unwrap();
        half.write_all(b"\xff\xd8 half").unwrap();
        std::mem::forget(half);
        assert_eq!(Album::open(&folder.path().join("photos"), 1).unwrap_err().kind(), ErrorKind::Busy);
        drop(first);
        let again = album(folder.path(), 1 << 20);
        assert_eq!((again.len(), again.class("cup")), (0, None));
        let left: Vec<String> = Disk.list(again.root()).unwrap();
        assert!(left.iter().all(|name| !name.starts_with(TEMPORARY_PREFIX)), "{left:?}");
    }

    #[test]
    fn what_others_do_in_the_folder_is_seen() {
        let folder = tempfile::tempdir().unwrap();
        let mut album = album(folder.path(), 1 << 20);
        let class = album.root().join("cup");
        fs::create_dir(&class).unwrap();
        fs::write(class.join("a.jpg"), b"1").unwrap();
        fs::write(class.join("notes.txt"), b"1").unwrap();
        album.look().unwrap();
        assert_eq!(album.class("cup").unwrap().len(), 1);
        fs::write(class.join("b.PNG"), b"1").unwrap();
        album.look().unwrap();
        assert_eq!(album.class("cup").unwrap().len(), 2);
        assert!(album.remove_class("cup").unwrap_err().to_string().contains("something else"));
        assert!(class.join("notes.txt").exists());
    }
}
