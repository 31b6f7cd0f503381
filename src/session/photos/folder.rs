//! A folder of photos, one folder per class.

use core::fmt;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::{fs, io};

use serde::Serialize;

use super::dataset::{Dataset, Photo};
use crate::error::{Error, ErrorKind, Result};

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

/// What a store's folder holds, whatever else.
const STORE_LOCK: &str = ".srlora-lock";
const IS_STORE: &str = "is a store, not a class; keep it outside of the photos";

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
        let mut dataset = Dataset { root: Some(root.to_path_buf()), ..Dataset::default() };
        for (name, folder) in entries(root, Path::is_dir)? {
            let is_image = |path: &Path| (is_candidate(path) || not_read(path).is_some()) && !path.is_dir();
            let (photos, others): (Vec<_>, Vec<_>) =
                entries(&folder, is_image)?.into_iter().partition(|(_, path)| is_candidate(path));
            let others = by_format(&others);
            if photos.is_empty() {
                let is_store = folder.join(STORE_LOCK).exists();
                let why = if is_store { IS_STORE.to_owned() } else { nothing_to_read("this class", &others) };
                return refuse(&folder, &why);
            }
            dataset.ignored = joined(&dataset.ignored, &others);
            let class = dataset.classes.len();
            dataset.classes.push(name);
            dataset.photos.extend(photos.into_iter().map(|(_, path)| Photo {
                picture: path.into(),
                class,
                slot: None,
                identity: None,
            }));
        }
        if dataset.classes.is_empty() {
            return refuse(root, "has no class folders; put the photos of each class into a folder with its name");
        }
        Ok(dataset)
    }

    /// Lists the photos of a folder, and of the folders in it, as one class that has the folder's name; otherwise as [`Dataset::open`].
    ///
    /// # Errors
    /// Kind `Data` where there is no photo, or a name is not UTF-8; kind `Io` where a folder cannot be read.
    pub fn flat(root: &Path) -> Result<Self> {
        let wanted = |path: &Path| (is_candidate(path) || not_read(path).is_some()) && !path.is_dir();
        let mut files = entries(root, wanted)?;
        for (_, folder) in entries(root, Path::is_dir)? {
            files.extend(entries(&folder, wanted)?);
        }
        let (photos, others): (Vec<_>, Vec<_>) = files.into_iter().partition(|(_, path)| is_candidate(path));
        let ignored = by_format(&others);
        if photos.is_empty() {
            return Err(Error::new(ErrorKind::Data, root.display(), nothing_to_read("this folder", &ignored)));
        }
        let name = root.file_name().map_or_else(|| "photos".to_owned(), |name| name.to_string_lossy().into_owned());
        let photo = |(_, path): (_, PathBuf)| Photo { picture: path.into(), class: 0, slot: None, identity: None };
        let photos = photos.into_iter().map(photo).collect();
        Ok(Dataset { root: Some(root.to_path_buf()), classes: vec![name], photos, ignored })
    }
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

/// Why a class or a folder has no photos.
fn nothing_to_read(what: &str, others: &[Ignored]) -> String {
    let none = format!("{what} has no .jpg, .jpeg or .png file");
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
