//! A folder of photos, one folder per class: what is in it, how it is split and shuffled, and which photos were set aside.

use core::fmt;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::ffi::OsStr;
use std::fs;
use std::io::{self, BufRead};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::bundle::sha256;
use crate::error::{Error, ErrorKind, Result};

/// Names listed in a message.
const LISTED: usize = 20;

/// One photo and its class.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sample {
    /// The file.
    pub path: Arc<Path>,
    /// Index into [`Dataset::classes`].
    pub class: usize,
    /// Its place in a cache, whatever part of the photos it comes to be among.
    pub(crate) slot: Option<Slot>,
}

/// The place of a photo in a cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Slot {
    /// Among photos that are trained on, in f16.
    Rounded(usize),
    /// Among photos that accuracy is measured on, in f32.
    Exact(usize),
}

/// Formats that photos come in and that are not read, each with the suffixes of its files.
const NOT_READ: [(&str, &[&str]); 14] = [
    ("HEIC", &["heic", "heif", "hif"]),
    ("AVIF", &["avif", "avifs"]),
    ("WebP", &["webp"]),
    ("GIF", &["gif"]),
    ("TIFF", &["tif", "tiff"]),
    ("BMP", &["bmp", "dib"]),
    ("JPEG XL", &["jxl"]),
    ("JPEG 2000", &["jp2", "j2k", "jpf", "jpx"]),
    ("DNG", &["dng"]),
    (
        "raw",
        &[
            "3fr", "arw", "cr2", "cr3", "erf", "iiq", "kdc", "mrw", "nef", "nrw", "orf", "pef", "raf", "raw", "rw2",
            "rwl", "sr2", "srf", "srw", "x3f",
        ],
    ),
    ("PNM", &["pam", "pbm", "pgm", "pnm", "ppm"]),
    ("TGA", &["tga"]),
    ("PSD", &["psd"]),
    ("SVG", &["svg"]),
];

/// Photos of a format that is not read, of all classes together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Ignored {
    /// The format.
    pub format: &'static str,
    /// How many there are.
    pub count: usize,
    /// The first of them.
    pub first: String,
}

impl fmt::Display for Ignored {
    /// What there is, and what to do.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Ignored { format, count, first } = self;
        let what = if *count == 1 { "photo is not read" } else { "photos are not read" };
        let or = if *format == "HEIC" { ", or set the phone to 'Most compatible'" } else { "" };
        let [first_is, them] = if *count == 1 { ["", "it"] } else { ["the first is ", "them"] };
        write!(f, "{count} {format} {what} ({first_is}{first}): convert {them} to JPEG{or}")
    }
}

/// The photos of a folder, by class and then by name, both in byte order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dataset {
    /// The folder.
    pub root: PathBuf,
    /// Class names; a sample's `class` counts in them.
    pub classes: Vec<String>,
    /// The photos.
    pub samples: Vec<Sample>,
    /// What looks like photos in the class folders and is not read, by format.
    pub ignored: Vec<Ignored>,
}

impl Dataset {
    /// Lists a folder that holds one folder per class, each with `.jpg`, `.jpeg` or `.png` files (in any case). Files of other
    /// image formats are counted; all others, and names that begin with a dot, are passed over. Links are followed. No photo is
    /// opened.
    ///
    /// # Errors
    /// Kind `Data` where the folder is missing, is a file or has no class folder, where a class folder has no such file,
    /// or where a name is not UTF-8; kind `Io` where a folder cannot be read.
    pub fn open(root: &Path) -> Result<Self> {
        let refuse = |path: &Path, message: &str| Err(Error::new(ErrorKind::Data, path.display(), message));
        match fs::metadata(root) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return refuse(root, "no such folder"),
            Err(e) => return Err(Error::io(root, e)),
            Ok(found) if !found.is_dir() => {
                return refuse(root, "is a file; expected a folder with one folder per class");
            }
            Ok(_) => {}
        }
        let mut dataset =
            Dataset { root: root.to_path_buf(), classes: Vec::new(), samples: Vec::new(), ignored: Vec::new() };
        for (name, folder) in entries(root, Path::is_dir)? {
            let is_image = |path: &Path| (is_candidate(path) || not_read(path).is_some()) && !path.is_dir();
            let (photos, others): (Vec<_>, Vec<_>) =
                entries(&folder, is_image)?.into_iter().partition(|(_, path)| is_candidate(path));
            let others = by_format(&others);
            if photos.is_empty() {
                return refuse(&folder, &nothing_to_read(&others));
            }
            dataset.ignored = joined(&dataset.ignored, &others);
            let class = dataset.classes.len();
            dataset.classes.push(name);
            dataset.samples.extend(photos.into_iter().map(|(_, path)| Sample { path: path.into(), class, slot: None }));
        }
        if dataset.classes.is_empty() {
            return refuse(root, "has no class folders; put the photos of each class into a folder with its name");
        }
        Ok(dataset)
    }

    /// Gives every photo a place in a cache.
    pub(crate) fn number(&mut self, slot: fn(usize) -> Slot) {
        self.samples.iter_mut().enumerate().for_each(|(at, sample)| sample.slot = Some(slot(at)));
    }

    /// Checks that there is something to tell apart.
    ///
    /// # Errors
    /// Kind `Data` where there is only one class.
    pub fn require_trainable(&self) -> Result<()> {
        match &self.classes[..] {
            [only] => {
                let message = format!("has only one class, {only}; training needs at least two");
                Err(Error::new(ErrorKind::Data, self.root.display(), message))
            }
            _ => Ok(()),
        }
    }

    /// Splits every class by chance into (train, validation); both keep all classes and the order of the samples.
    ///
    /// A class of n photos gives round(fraction n) of them to validation, but at least one to either side. Its choice
    /// depends on `seed` and on n, not on the other classes.
    ///
    /// # Errors
    /// Kind `Usage` where `fraction` is not between 0 and 1; kind `Data` where a class has a single photo.
    pub fn split(&self, fraction: f64, seed: u64) -> Result<(Dataset, Dataset)> {
        if !(fraction > 0.0 && fraction < 1.0) {
            return Err(Error::new(ErrorKind::Usage, "--val-split", format!("{fraction} is not between 0 and 1")));
        }
        if let Some(class) = self.single().first() {
            let folder = self.classes.get(*class).map_or_else(|| self.root.clone(), |name| self.root.join(name));
            let message = "a single photo cannot be split into training and validation; add another";
            return Err(Error::new(ErrorKind::Data, folder.display(), message));
        }
        Ok(self.divided(fraction, seed))
    }

    /// The classes of a single photo.
    pub(crate) fn single(&self) -> Vec<usize> {
        let mut counts = BTreeMap::new();
        self.samples.iter().for_each(|sample| *counts.entry(sample.class).or_insert(0) += 1);
        counts.into_iter().filter(|(_, count)| *count == 1).map(|(class, _)| class).collect()
    }

    /// [`Dataset::split`] with a `fraction` between 0 and 1, but a class of a single photo stays on the first side.
    pub(crate) fn divided(&self, fraction: f64, seed: u64) -> (Dataset, Dataset) {
        let mut members: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for (index, sample) in self.samples.iter().enumerate() {
            members.entry(sample.class).or_default().push(index);
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
            samples: (0..self.samples.len())
                .filter(|index| held_out.binary_search(index).is_ok() == validation)
                .map(|index| self.samples[index].clone())
                .collect(),
            // Counted once, on the side that is trained on.
            ignored: if validation { Vec::new() } else { self.ignored.clone() },
        };
        (side(false), side(true))
    }

    /// sha256, in lowercase hex, of the text that has a line `"CLASS" "NAME" CONTENTS` for each photo: class and name with a backslash
    /// before each quote and backslash, then the photo's of `contents`, or `-` where it could not be read. Where the folder lies does
    /// not count.
    pub(crate) fn sha256(&self, contents: &[Option<String>]) -> String {
        let quoted = |text: &str| format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""));
        let mut list = String::new();
        for (sample, contents) in self.samples.iter().zip(contents) {
            let name = sample.path.file_name().unwrap_or_default().to_string_lossy();
            let (class, name) = (quoted(&self.classes[sample.class]), quoted(&name));
            list += &format!("{class} {name} {}\n", contents.as_deref().unwrap_or("-"));
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

    /// The classes, by name, that have no photo.
    pub(crate) fn without_photos(&self) -> Vec<&str> {
        let has: HashSet<usize> = self.samples.iter().map(|sample| sample.class).collect();
        let without = self.classes.iter().enumerate().filter(|(class, _)| !has.contains(class));
        without.map(|(_, name)| name.as_str()).collect()
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
            return Err(Error::new(ErrorKind::Mismatch, self.root.display(), message));
        }
        let relabel = |sample: Sample| Some(Sample { class: *found.get(sample.class)?.as_ref()?, ..sample });
        let samples = self.samples.into_iter().filter_map(relabel).collect();
        Ok(Dataset { classes: names.to_vec(), samples, ..self })
    }
}

/// The order in which an epoch visits `len` samples: each once, decided by `seed` and `epoch` alone.
#[must_use]
pub fn order(seed: u64, epoch: u64, len: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..len).collect();
    order.shuffle(&mut stream(*b"order   ", [seed, epoch, 0]));
    order
}

/// The random numbers of one purpose at one place: independent of all others, and the same wherever a run is taken up.
pub(crate) fn stream(purpose: [u8; 8], at: [u64; 3]) -> ChaCha8Rng {
    let mut seed = [0; 32];
    let words = [purpose, at[0].to_le_bytes(), at[1].to_le_bytes(), at[2].to_le_bytes()];
    seed.copy_from_slice(words.as_flattened());
    ChaCha8Rng::from_seed(seed)
}

/// A photo that was set aside, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Quarantined {
    /// The file.
    pub path: String,
    /// What is wrong with it, in plain words.
    pub reason: String,
}

/// Photos that could not be read, each once, in the order of their discovery.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Quarantine(Vec<Quarantined>);

impl Quarantine {
    /// Sets a photo aside; `false` where it already was.
    pub fn add(&mut self, path: &Path, reason: &str) -> bool {
        let path = path.display().to_string();
        let new = self.0.iter().all(|known| known.path != path);
        if new {
            self.0.push(Quarantined { path, reason: reason.to_string() });
        }
        new
    }

    /// All of them.
    #[must_use]
    pub fn list(&self) -> &[Quarantined] {
        &self.0
    }
}

/// sha256 of a file's contents; what is no regular file has none.
pub(crate) fn contents_sha256(path: &Path) -> io::Result<String> {
    let mut hash = Sha256::new();
    if fs::metadata(path)?.is_file() {
        let mut file = io::BufReader::new(fs::File::open(path)?);
        loop {
            let bytes = file.fill_buf()?;
            if bytes.is_empty() {
                break;
            }
            hash.update(bytes);
            let read = bytes.len();
            file.consume(read);
        }
    }
    Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Whether the suffix promises a photo.
fn is_candidate(path: &Path) -> bool {
    let suffix = path.extension().unwrap_or_default();
    ["jpg", "jpeg", "png"].iter().any(|known| suffix.eq_ignore_ascii_case(known))
}

/// The format that the suffix promises, of those that are not read.
fn not_read(path: &Path) -> Option<&'static str> {
    let suffix = path.extension()?;
    let named = |(_, suffixes): &&(_, &[&str])| suffixes.iter().any(|known| suffix.eq_ignore_ascii_case(known));
    NOT_READ.iter().find(named).map(|(format, _)| *format)
}

/// Files of one folder, in order, by their format.
fn by_format(files: &[(String, PathBuf)]) -> Vec<Ignored> {
    let one = |(_, path): &(_, PathBuf)| {
        Some(Ignored { format: not_read(path)?, count: 1, first: path.display().to_string() })
    };
    files.iter().filter_map(one).fold(Vec::new(), |sum, file| joined(&sum, &[file]))
}

/// The formats of both, in the order of [`NOT_READ`]; the first file is that of `a`.
fn joined(a: &[Ignored], b: &[Ignored]) -> Vec<Ignored> {
    let sum = |(format, _): &(&'static str, _)| {
        let mut same = a.iter().chain(b).filter(|ignored| ignored.format == *format);
        let first = same.next()?.clone();
        Some(Ignored { count: first.count + same.map(|ignored| ignored.count).sum::<usize>(), ..first })
    };
    NOT_READ.iter().filter_map(sum).collect()
}

/// Photos of formats that are not read, of those to train on and of those to measure accuracy on together.
pub(crate) fn ignored(data: &Dataset, validation: Option<&Dataset>) -> Vec<Ignored> {
    joined(&data.ignored, validation.map_or(&[], |validation| &validation.ignored))
}

/// Why a class has no photos.
fn nothing_to_read(others: &[Ignored]) -> String {
    let none = "this class has no .jpg, .jpeg or .png file";
    if others.is_empty() {
        return format!("{none}; add some, or remove the folder");
    }
    let others: Vec<String> = others.iter().map(ToString::to_string).collect();
    format!("{none}; {}", others.join("; "))
}

/// Names and paths in `folder` that `wanted` takes, in byte order, without those that begin with a dot.
fn entries(folder: &Path, wanted: impl Fn(&Path) -> bool) -> Result<Vec<(String, PathBuf)>> {
    let fault = |e| Error::io(folder, e);
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).map_err(fault)? {
        let path = entry.map_err(fault)?.path();
        let name = path.file_name().unwrap_or_default();
        if name.as_encoded_bytes().starts_with(b".") || !wanted(&path) {
            continue;
        }
        found.push((utf8(name, &path)?, path));
    }
    found.sort_unstable();
    Ok(found)
}

fn utf8(name: &OsStr, path: &Path) -> Result<String> {
    let refuse = || Error::new(ErrorKind::Data, path.display(), "its name is not UTF-8 text; rename it");
    name.to_str().map(ToString::to_string).ok_or_else(refuse)
}

/// Names with commas, cut after [`LISTED`].
fn listed(names: &[&str]) -> String {
    match names.get(..LISTED) {
        Some(first) if names.len() > LISTED => format!("{} and {} more", first.join(", "), names.len() - LISTED),
        _ => names.join(", "),
    }
}

#[cfg(test)]
mod tests {
    use std::println;

    use tempfile::TempDir;

    use super::*;

    /// A folder with empty files of these names.
    fn folder(files: &[&str]) -> TempDir {
        let root = TempDir::new().unwrap();
        for file in files {
            let path = root.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        root
    }

    fn names(dataset: &Dataset) -> Vec<(&str, usize)> {
        dataset.samples.iter().map(|s| (s.path.file_name().unwrap().to_str().unwrap(), s.class)).collect()
    }

    fn refusal<T>(result: Result<T>) -> (ErrorKind, String) {
        let error = result.err().expect("this must be refused");
        println!("{error}");
        (error.kind(), error.to_string())
    }

    #[test]
    fn classes_and_photos_come_in_byte_order_and_everything_else_is_ignored() {
        let root = folder(&[
            "b/2.jpg",
            "b/10.JPG",
            "b/A.Png",
            "b/notes.txt",
            "b/.hidden.jpg",
            "b/4.jpg/inside.jpg",
            "B/x.jpeg",
            "a/ä.png",
            ".git/config.png",
            "stray.jpg",
        ]);
        let dataset = Dataset::open(root.path()).unwrap();
        assert_eq!(dataset.classes, ["B", "a", "b"]);
        assert_eq!(names(&dataset), [("x.jpeg", 0), ("ä.png", 1), ("10.JPG", 2), ("2.jpg", 2), ("A.Png", 2)]);
    }

    #[test]
    fn images_of_other_formats_are_counted_and_named_and_other_files_are_not() {
        let root = folder(&[
            "a/1.jpg",
            "a/2.HEIC",
            "a/3.heic",
            "a/x.txt",
            "a/.4.heic",
            "a/.DS_Store",
            "a/5.webp/6.webp",
            "b/0.heif",
            "b/1.dng",
            "b/1.png",
            "b/2.NEF",
            "b/2.xml",
            "b/3.gif",
            "b/clip.mov",
            "stray.heic",
        ]);
        let dataset = Dataset::open(root.path()).unwrap();
        assert_eq!(names(&dataset), [("1.jpg", 0), ("1.png", 1)]);
        let at = |name: &str| root.path().join(name).display().to_string();
        let found: Vec<_> = dataset.ignored.iter().map(|i| (i.format, i.count, i.first.clone())).collect();
        let expected = [
            ("HEIC", 3, at("a/2.HEIC")),
            ("GIF", 1, at("b/3.gif")),
            ("DNG", 1, at("b/1.dng")),
            ("raw", 1, at("b/2.NEF")),
        ];
        assert_eq!(found, expected);
        let sentences = [
            format!(
                "3 HEIC photos are not read (the first is {}): convert them to JPEG, or set the phone to 'Most compatible'",
                at("a/2.HEIC")
            ),
            format!("1 GIF photo is not read ({}): convert it to JPEG", at("b/3.gif")),
        ];
        assert_eq!([0, 1].map(|i| dataset.ignored[i].to_string()), sentences);
        let json = serde_json::to_value(&dataset.ignored[1]).unwrap();
        assert_eq!(json, serde_json::json!({"format": "GIF", "count": 1, "first": at("b/3.gif")}));
    }

    #[test]
    fn a_split_counts_what_is_ignored_once() {
        let root = folder(&["a/1.jpg", "a/2.jpg", "a/3.heic", "b/1.jpg", "b/2.jpg"]);
        let dataset = Dataset::open(root.path()).unwrap();
        let (train, validation) = dataset.split(0.5, 0).unwrap();
        assert_eq!((&train.ignored, &validation.ignored[..]), (&dataset.ignored, &[][..]));
        assert_eq!(joined(&train.ignored, &validation.ignored), dataset.ignored);
        assert_eq!(train.relabelled(&dataset.classes).unwrap().ignored, dataset.ignored);
    }

    #[test]
    fn a_folder_that_cannot_be_used_is_refused_with_what_to_do() {
        let root =
            folder(&["file.jpg", "flat/1.jpg", "gap/a/1.jpg", "gap/b/notes.txt", "phone/a/1.jpg", "phone/b/1.heic"]);
        let cases = [
            ("nowhere", "nowhere: no such folder"),
            ("file.jpg", "is a file"),
            ("flat", "has no class folders"),
            ("gap", "gap/b: this class has no .jpg, .jpeg or .png file; add some, or remove the folder"),
            ("phone", "phone/b: this class has no .jpg, .jpeg or .png file; 1 HEIC photo is not read"),
        ];
        for (name, words) in cases {
            let (kind, text) = refusal(Dataset::open(&root.path().join(name)));
            assert_eq!(kind, ErrorKind::Data);
            assert!(text.contains(words), "{text}");
        }
    }

    #[test]
    fn one_class_can_be_listed_but_not_trained() {
        let root = folder(&["only/1.jpg"]);
        let dataset = Dataset::open(root.path()).unwrap();
        let (kind, text) = refusal(dataset.require_trainable());
        assert!(kind == ErrorKind::Data && text.contains("only one class, only"), "{text}");
        Dataset::open(folder(&["a/1.jpg", "b/1.jpg"]).path()).unwrap().require_trainable().unwrap();
    }

    #[cfg(unix)]
    #[test]
    fn links_are_followed_and_names_outside_utf8_refused() {
        use std::os::unix::ffi::OsStrExt;
        use std::os::unix::fs::symlink;

        let root = folder(&["a/1.jpg", "b/1.jpg"]);
        symlink(root.path().join("a/1.jpg"), root.path().join("b/2.jpg")).unwrap();
        symlink(root.path().join("a"), root.path().join("c")).unwrap();
        let dataset = Dataset::open(root.path()).unwrap();
        assert_eq!(names(&dataset), [("1.jpg", 0), ("1.jpg", 1), ("2.jpg", 1), ("1.jpg", 2)]);

        fs::write(root.path().join("a").join(OsStr::from_bytes(b"\xff.jpg")), "").unwrap();
        let (kind, text) = refusal(Dataset::open(root.path()));
        assert!(kind == ErrorKind::Data && text.contains("not UTF-8"), "{text}");
    }

    #[test]
    fn a_split_gives_every_class_its_share_and_every_photo_one_side() {
        let files: Vec<String> =
            (0..10).map(|i| format!("a/{i}.jpg")).chain((0..3).map(|i| format!("b/{i}.jpg"))).collect();
        let root = folder(&files.iter().map(String::as_str).collect::<Vec<_>>());
        let dataset = Dataset::open(root.path()).unwrap();
        let (train, validation) = dataset.split(0.2, 1).unwrap();
        let count = |d: &Dataset, class| d.samples.iter().filter(|s| s.class == class).count();
        assert_eq!([count(&train, 0), count(&validation, 0), count(&train, 1), count(&validation, 1)], [8, 2, 2, 1]);
        let mut union: Vec<_> = train.samples.iter().chain(&validation.samples).cloned().collect();
        union.sort_by(|a, b| a.path.cmp(&b.path));
        assert_eq!(union, dataset.samples);
        assert_eq!(dataset.split(0.2, 1).unwrap(), (train, validation.clone()));
        assert!((2..9).any(|seed| dataset.split(0.2, seed).unwrap().1 != validation), "the seed must matter");
        let (train, validation) = dataset.split(0.99, 1).unwrap();
        assert_eq!([count(&train, 0), count(&validation, 0), count(&train, 1), count(&validation, 1)], [1, 9, 1, 2]);
    }

    #[test]
    fn a_class_keeps_its_split_when_another_class_is_added() {
        let small = folder(&["m/1.jpg", "m/2.jpg", "m/3.jpg", "m/4.jpg"]);
        let large = folder(&["a/1.jpg", "a/2.jpg", "m/1.jpg", "m/2.jpg", "m/3.jpg", "m/4.jpg"]);
        let held_out = |root: &TempDir| {
            let validation = Dataset::open(root.path()).unwrap().split(0.5, 3).unwrap().1;
            let of_m = validation.samples.iter().filter(|s| s.path.parent().unwrap().ends_with("m"));
            of_m.map(|s| s.path.file_name().unwrap().to_os_string()).collect::<Vec<_>>()
        };
        assert_eq!(held_out(&small), held_out(&large));
    }

    #[test]
    fn a_split_that_cannot_be_is_refused() {
        let root = folder(&["a/1.jpg", "a/2.jpg", "b/1.jpg"]);
        let dataset = Dataset::open(root.path()).unwrap();
        let (kind, text) = refusal(dataset.split(0.5, 0));
        assert!(kind == ErrorKind::Data && text.contains("single photo") && text.contains("/b: "), "{text}");
        for fraction in [0.0, 1.0, -1.0, f64::NAN] {
            assert_eq!(refusal(dataset.split(fraction, 0)).0, ErrorKind::Usage);
        }
    }

    #[test]
    fn a_class_of_one_photo_can_stay_on_the_first_side() {
        let root = folder(&["a/1.jpg", "a/2.jpg", "b/1.jpg"]);
        let (first, second) = Dataset::open(root.path()).unwrap().divided(0.5, 0);
        assert_eq!((first.samples.len(), second.samples.len()), (2, 1));
        assert_eq!((first.single(), second.samples[0].class), (vec![0, 1], 0));
    }

    #[test]
    fn a_photo_that_is_gone_has_no_hash() {
        let photo = folder(&["a/1.jpg"]).path().join("a/1.jpg");
        assert!(contents_sha256(&photo).is_err());
    }

    #[test]
    fn an_epoch_visits_every_sample_once_in_an_order_that_never_changes() {
        let mut sorted = order(7, 3, 100);
        sorted.sort_unstable();
        assert_eq!(sorted, (0..100).collect::<Vec<_>>());
        assert_ne!(order(7, 3, 100), order(7, 4, 100));
        assert_ne!(order(7, 3, 100), order(8, 3, 100));
        // Frozen: another order would make a run that is taken up again differ from one that was not interrupted.
        assert_eq!(order(0, 0, 10), [6, 3, 2, 0, 9, 1, 5, 4, 8, 7]);
        assert!(order(0, 0, 0).is_empty());
    }

    #[test]
    fn folders_are_matched_to_the_names_of_a_classifier() {
        let root = folder(&["cat/1.jpg", "dog/1.jpg"]);
        let known = ["dog", "emu", "cat"].map(String::from);
        let dataset = Dataset::open(root.path()).unwrap().relabelled(&known).unwrap();
        assert_eq!(dataset.classes, known);
        assert_eq!(names(&dataset), [("1.jpg", 2), ("1.jpg", 0)]);
        assert!(dataset.samples[0].path.ends_with("cat/1.jpg"));
    }

    #[test]
    fn folders_that_a_classifier_does_not_know_are_named_beside_what_it_knows() {
        let root = folder(&["cat/1.jpg", "unicorn/1.jpg", "yeti/1.jpg"]);
        let known: Vec<String> = core::iter::once("cat".into()).chain((0..30).map(|i| format!("c{i}"))).collect();
        let (kind, text) = refusal(Dataset::open(root.path()).unwrap().relabelled(&known));
        assert_eq!(kind, ErrorKind::Mismatch);
        assert!(text.contains("classifier: unicorn, yeti; it knows: cat, c0,"), "{text}");
        assert!(text.ends_with("c18 and 11 more"), "{text}");
    }

    #[test]
    fn a_photo_is_set_aside_once() {
        let mut quarantine = Quarantine::default();
        assert!(quarantine.add(Path::new("a/1.jpg"), "is empty"));
        assert!(!quarantine.add(Path::new("a/1.jpg"), "is empty"));
        assert!(quarantine.add(Path::new("a/2.jpg"), "is truncated"));
        let json = serde_json::to_string(&quarantine).unwrap();
        let expected = r#"[{"path":"a/1.jpg","reason":"is empty"},{"path":"a/2.jpg","reason":"is truncated"}]"#;
        assert_eq!(json, expected);
        assert_eq!(quarantine.list().len(), 2);
    }
}
