//! Photos and their classes: split, counted, and told apart by what they show.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::PathBuf;

use rand::seq::SliceRandom;

use super::folder::Ignored;
use super::order::stream;
use super::picture::Picture;
use crate::bundle::sha256;
use crate::error::{Error, ErrorKind, Result};

/// Names listed in a message.
const LISTED: usize = 20;

/// Bytes of the longest name of a class: it may become the name of a folder.
const MOST_NAME_BYTES: usize = 255;

/// One photo and its class.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Photo {
    /// Where its pixels come from.
    pub picture: Picture,
    /// Index into [`Dataset::classes`].
    pub class: usize,
    /// Its place in a cache, whatever part of the photos it comes to be among.
    pub(crate) slot: Option<Slot>,
    /// The first bytes of the hash of what it shows; none before it was hashed, or where it cannot be read.
    pub(crate) identity: Option<u64>,
}

impl Photo {
    /// An example of an earlier lesson, which lies at `place` in the replay buffer, of the photo `identity`.
    pub(crate) fn replayed(place: usize, class: usize, identity: u64) -> Self {
        let picture = Picture::encoded("an example of an earlier lesson", []);
        Photo { picture, class, slot: Some(Slot::Replayed(place)), identity: Some(identity) }
    }

    pub(crate) fn is_replayed(&self) -> bool {
        matches!(self.slot, Some(Slot::Replayed(_)))
    }
}

/// The place of a photo in a cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Slot {
    /// Among photos that are trained on, in f16.
    Rounded(usize),
    /// Among photos that accuracy is measured on, in f32.
    Exact(usize),
    /// Among the examples of earlier lessons: there is no photo of it any more.
    Replayed(usize),
}

/// Photos of several classes: those of a folder, or what was [added](Dataset::add) one by one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Dataset {
    /// The folder; none where they are in memory.
    pub(crate) root: Option<PathBuf>,
    /// Class names; a photo's `class` counts in them. Those of a folder and of photos in memory are in byte order.
    pub(crate) classes: Vec<String>,
    /// The photos, by class. Those of a folder are in the byte order of their names.
    pub(crate) photos: Vec<Photo>,
    /// What looks like photos in the class folders and is not read, by format.
    pub(crate) ignored: Vec<Ignored>,
}

impl Dataset {
    /// Adds a photo after those of its class; a class that is new comes with it.
    ///
    /// ```
    /// use srlora::session::{Dataset, Layout, Picture, Pixels};
    /// let mut photos = Dataset::default();
    /// for (nth, class) in ["cat", "dog", "cat"].into_iter().enumerate() {
    ///     let pixels = Pixels::new(&[100; 32 * 32], Layout::Grey8, [32, 32], 32)?;
    ///     photos.add(class, Picture::pixels(&format!("frame {nth}"), pixels))?;
    /// }
    /// assert_eq!((photos.classes(), photos.photos().len()), (&["cat".to_owned(), "dog".to_owned()][..], 3));
    /// # Ok::<(), srlora::Error>(())
    /// ```
    ///
    /// # Errors
    /// Kind `Data` where the class has no name that a folder could have: an empty one, one of more than 255 bytes, one that begins with
    /// a dot, or one with a slash, a backslash or a control character.
    pub fn add(&mut self, class: &str, picture: Picture) -> Result<()> {
        let refuse = |message| Err(Error::new(ErrorKind::Data, format_args!("class {class:.40?}"), message));
        match class {
            "" => return refuse("has no name"),
            _ if class.len() > MOST_NAME_BYTES => return refuse("has a name of more than 255 bytes; shorten it"),
            _ if class.starts_with('.') => return refuse("has a name that begins with a dot, as hidden folders do"),
            _ if class.contains(['/', '\\']) || class.contains(char::is_control) => {
                return refuse("has a name that no folder can have; leave out slashes and control characters");
            }
            _ => {}
        }
        let class = match self.classes.binary_search_by(|known| known.as_str().cmp(class)) {
            Ok(known) => known,
            Err(at) => {
                self.classes.insert(at, class.to_owned());
                self.photos.iter_mut().filter(|photo| photo.class >= at).for_each(|photo| photo.class += 1);
                at
            }
        };
        let at = self.photos.partition_point(|photo| photo.class <= class);
        self.photos.insert(at, Photo { picture, class, slot: None, identity: None });
        Ok(())
    }

    /// The names of the classes. Those of a folder and of photos in memory are in byte order.
    #[must_use]
    pub fn classes(&self) -> &[String] {
        &self.classes
    }

    /// The photos, by class.
    #[must_use]
    pub fn photos(&self) -> &[Photo] {
        &self.photos
    }

    /// What looks like photos in the class folders and is not read, by format.
    #[must_use]
    pub fn ignored(&self) -> &[Ignored] {
        &self.ignored
    }

    /// What messages call these photos.
    pub(crate) fn place(&self) -> String {
        self.root.as_ref().map_or_else(|| "the photos in memory".to_owned(), |root| root.display().to_string())
    }

    /// What messages call the photos of a class.
    pub(crate) fn class_place(&self, class: &str) -> String {
        let folder = |root: &PathBuf| root.join(class).display().to_string();
        self.root.as_ref().map_or_else(|| format!("class {class}"), folder)
    }

    /// Gives every photo that is there to be decoded a place in a cache.
    pub(crate) fn number(&mut self, slot: fn(usize) -> Slot) {
        let present = self.photos.iter_mut().filter(|photo| !photo.is_replayed());
        present.enumerate().for_each(|(at, photo)| photo.slot = Some(slot(at)));
    }

    /// Checks that there is something to tell apart.
    ///
    /// # Errors
    /// Kind `Data` where there is only one class, or none.
    pub fn require_trainable(&self) -> Result<()> {
        let message = match &self.classes[..] {
            [] => "holds no photos; training needs at least two classes of them".to_owned(),
            [only] => format!("has only one class, {only}; training needs at least two"),
            _ => return Ok(()),
        };
        Err(Error::new(ErrorKind::Data, self.place(), message))
    }

    /// Splits every class by chance into (train, validation); both keep all classes and the order of the photos.
    ///
    /// A class of n photos gives round(fraction n) of them to validation, but at least one to either side. Its choice
    /// depends on `seed` and on n, not on the other classes.
    ///
    /// # Errors
    /// Kind `Usage` where `fraction` is not between 0 and 1; kind `Data` where a class has a single photo.
    pub(crate) fn split(&self, fraction: f64, seed: u64) -> Result<(Dataset, Dataset)> {
        if !(fraction > 0.0 && fraction < 1.0) {
            return Err(Error::new(
                ErrorKind::Usage,
                "option `val_split`",
                format!("{fraction} is not between 0 and 1"),
            ));
        }
        if let Some(class) = self.single().first() {
            let place = self.classes.get(*class).map_or_else(|| self.place(), |name| self.class_place(name));
            let message = "a single photo cannot be split into training and validation; add another";
            return Err(Error::new(ErrorKind::Data, place, message));
        }
        Ok(self.divided(fraction, seed))
    }

    /// The classes of a single photo.
    pub(crate) fn single(&self) -> Vec<usize> {
        let mut counts = BTreeMap::new();
        self.photos.iter().for_each(|photo| *counts.entry(photo.class).or_insert(0) += 1);
        counts.into_iter().filter(|(_, count)| *count == 1).map(|(class, _)| class).collect()
    }

    /// [`Dataset::split`] with a `fraction` between 0 and 1, but a class of a single photo stays on the first side.
    pub(crate) fn divided(&self, fraction: f64, seed: u64) -> (Dataset, Dataset) {
        let mut members: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for (index, photo) in self.photos.iter().enumerate() {
            members.entry(photo.class).or_default().push(index);
        }
        let mut held_out = Vec::new();
        for mut indices in members.into_values().filter(|indices| indices.len() > 1) {
            let share = (fraction * indices.len() as f64).round() as usize;
            let share = share.clamp(1, indices.len() - 1);
            indices.shuffle(&mut stream(*b"split   ", [seed, 0, 0]));
            held_out.extend_from_slice(&indices[..share]);
        }
        held_out.sort_unstable();
        let side = |validation: bool| Dataset {
            root: self.root.clone(),
            classes: self.classes.clone(),
            photos: (0..self.photos.len())
                .filter(|index| held_out.binary_search(index).is_ok() == validation)
                .map(|index| self.photos[index].clone())
                .collect(),
            // Counted once, on the side that is trained on.
            ignored: if validation { Vec::new() } else { self.ignored.clone() },
        };
        (side(false), side(true))
    }

    /// sha256, in lowercase hex, of the text that has a line `"CLASS" CONTENTS` for each photo: the class with a backslash before each
    /// quote and backslash, then the photo's of `contents`, or `-` where it could not be read. Neither names nor places count.
    pub(crate) fn sha256(&self, contents: &[Option<String>]) -> String {
        let quoted = |text: &str| format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""));
        let mut list = String::new();
        for (photo, contents) in self.photos.iter().zip(contents) {
            list += &format!("{} {}\n", quoted(&self.classes[photo.class]), contents.as_deref().unwrap_or("-"));
        }
        sha256(list.as_bytes())
    }

    /// The classes of `known`, and after them those of this folder that are not among them; its photos are counted in these.
    ///
    /// # Errors
    /// None: every class is among them.
    pub(crate) fn added_to(self, known: &[String]) -> Result<Dataset> {
        let mut classes = known.to_vec();
        let known: HashSet<&String> = known.iter().collect();
        classes.extend(self.classes.iter().filter(|class| !known.contains(class)).cloned());
        self.relabelled(&classes)
    }

    /// Notes what each photo shows.
    pub(crate) fn identify(&mut self, identities: &[Option<u64>]) {
        self.photos.iter_mut().zip(identities).for_each(|(photo, identity)| photo.identity = *identity);
    }

    /// Photos of each class that are there to be decoded.
    pub(crate) fn per_class(&self) -> Vec<usize> {
        let mut counts = vec![0; self.classes.len()];
        self.photos.iter().filter(|photo| !photo.is_replayed()).for_each(|photo| counts[photo.class] += 1);
        counts
    }

    /// Photos that are there to be decoded.
    pub(crate) fn present(&self) -> usize {
        self.photos.iter().filter(|photo| !photo.is_replayed()).count()
    }

    /// The classes, by name, that have no photo.
    pub(crate) fn without_photos(&self) -> Vec<&str> {
        let has: HashSet<usize> = self.photos.iter().map(|photo| photo.class).collect();
        let without = self.classes.iter().enumerate().filter(|(class, _)| !has.contains(class));
        without.map(|(_, name)| name.as_str()).collect()
    }

    /// The photos of `names`, counted in their order; those of other classes leave.
    pub(crate) fn of_classes(&self, names: &[String]) -> Dataset {
        let places: Vec<Option<usize>> =
            self.classes.iter().map(|class| names.iter().position(|name| name == class)).collect();
        let place = |photo: &Photo| places.get(photo.class).copied().flatten();
        let photos = self.photos.iter().filter_map(|photo| Some(Photo { class: place(photo)?, ..photo.clone() }));
        Dataset { classes: names.to_vec(), photos: photos.collect(), ..self.clone() }
    }

    /// The same photos with their classes counted in `names`, the classes of a classifier; a class may stay without
    /// photos. Of equal names the first counts.
    ///
    /// # Errors
    /// Kind `Mismatch` where a folder is not among `names`, with those folders and the names.
    pub fn relabelled(self, names: &[String]) -> Result<Dataset> {
        let mut places: HashMap<&String, Option<usize>> = self.classes.iter().map(|class| (class, None)).collect();
        for (at, name) in names.iter().enumerate() {
            places.entry(name).and_modify(|place| *place = place.or(Some(at)));
        }
        let found: Vec<Option<usize>> = self.classes.iter().map(|class| places[class]).collect();
        let unknown: Vec<&str> =
            self.classes.iter().zip(&found).filter(|(_, at)| at.is_none()).map(|(name, _)| name.as_str()).collect();
        if !unknown.is_empty() {
            let known: Vec<&str> = names.iter().map(String::as_str).collect();
            let message = format!("not classes of this classifier: {}; it knows: {}", listed(&unknown), listed(&known));
            return Err(Error::new(ErrorKind::Mismatch, self.place(), message));
        }
        let relabel = |photo: Photo| Some(Photo { class: *found.get(photo.class)?.as_ref()?, ..photo });
        let photos = self.photos.into_iter().filter_map(relabel).collect();
        Ok(Dataset { classes: names.to_vec(), photos, ..self })
    }
}

/// Names with commas, cut after [`LISTED`].
fn listed(names: &[&str]) -> String {
    match names.get(..LISTED) {
        Some(first) if names.len() > LISTED => format!("{} and {} more", first.join(", "), names.len() - LISTED),
        _ => names.join(", "),
    }
}
