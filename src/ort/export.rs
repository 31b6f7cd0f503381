//! A store as an adapter of onnxruntime.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use serde::Serialize;

use super::contents::{adapter, given, note_name, pairs_of};
use super::format::AdapterFile;
use crate::backbone::{Backbone, Base, Basing, Branch, Precision, Site, with_given};
use crate::bundle::{Bundle, check_output, read_file, sha256, write_checked};
use crate::error::{Error, ErrorKind, Result};
use crate::export::{Answers, Difference, ExportedFile, SAME, SelfCheck, of_bundle, read_back};
use crate::limits::MOST_MODEL_BYTES;
use crate::peft::{EXACT, Factors, PeftRank};
use crate::session::progress::Audience;
use crate::session::{Classifier, Dataset, Flow, Generation, Progress, Stop, Store, peak_rss_bytes};

/// The note of a base to which nothing is given.
const NO_NOTE: &[u8] = b"{}";

/// What is to be exported, and how.
#[derive(Debug, Clone)]
pub struct OrtRequest {
    /// The file that all stores of the bundle share. Where it is there already, it must be the one that would be written.
    pub base: PathBuf,
    /// The file of this store; it must not exist yet.
    pub adapter: PathBuf,
    /// Pairs of each site.
    pub rank: PeftRank,
    /// Precision of the base: [`Precision::Keep`], or [`Precision::Fp32`], in which a network that is quantized or in fp16 computes with
    /// floats. An adapter fits both.
    pub precision: Precision,
    /// Photos that the files are checked with, whatever their classes; `None`: noise.
    pub photos: Option<Dataset>,
}

/// What a site is given.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct OrtSite {
    /// The ONNX node's name.
    pub name: String,
    /// Its pairs in the adapter; 0 where the store has none.
    pub rank: usize,
    /// ||W - W'|| / ||W|| (Frobenius) of what was written against what was learned.
    pub error_fro: f64,
    /// Values that were cut off: none, in f32.
    pub saturated: usize,
}

/// What `export --ort-adapter` answers.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct OrtReport {
    /// `ort-adapter`.
    pub format: &'static str,
    /// The base and the adapter.
    pub files: Vec<ExportedFile>,
    /// Whether the base was there already, and was left as it is.
    pub base_kept: bool,
    /// The sites, in graph order.
    pub sites: Vec<OrtSite>,
    /// The classes, in the order of the logits.
    pub classes: Vec<String>,
    /// The tensor of the adapter that has them too, as JSON.
    pub note: String,
    /// How far base and adapter are from the adapted network.
    #[serde(flatten)]
    pub check: SelfCheck,
    /// Time taken.
    pub seconds: f64,
    /// The most memory that the process has taken; null where the system does not tell.
    pub peak_rss_bytes: Option<u64>,
}

/// Writes the network of `bundle` as a base that computes y = W x + B (A x) at each site and logits = H f + h behind the features f, and
/// what `store` has learned as an adapter that gives A, B, H and h: B A = D + scale (B A - B0 A0), and H, h divided by the temperature.
///
/// Conv: A `[r, in_channels, kh, kw]`, B `[out, r, 1, 1]`. Linear: A `[in, r]`, B `[r, out]`. H `[classes, features]`, h `[classes]`. r and
/// the number of classes are what the adapter says; without an adapter all of them are 0, with one pair and one class. The bytes of the base
/// follow from bundle and precision. Before they have their names, both files are read again, and what they compute together is compared
/// with the adapted network.
///
/// # Errors
/// `Usage` where both have one path, or for a precision that a base cannot be written in; `Exists` for an adapter that is there, or a base
/// that is another; `Mismatch` for a store of another bundle; `Model` for a site that no branch can be put beside; `Check` where what was
/// written is not what was learned, though it should be. Nothing has been written then. `Unsynced`, `Io`.
pub fn export_ort_adapter<A: Into<Flow>>(
    bundle: &Bundle,
    store: &Store,
    request: &OrtRequest,
    observer: &mut impl FnMut(Progress<'_>) -> A,
) -> Result<OrtReport> {
    let begin = Instant::now();
    let base_kept = request.is_base_there()?;
    let (mut observer, stop) = (|progress: Progress<'_>| observer(progress).into(), Stop::default());
    let audience = &mut Audience::of(&mut observer, &stop);
    let answers = Answers::of(&mut Classifier::new(bundle, Some(store))?, bundle, request.photos.as_ref(), audience)?;
    let mut learned = Learned::open(bundle, store, request)?;
    let base = std::mem::take(&mut learned.base.bytes);
    let base = if base_kept { request.refuse_another(&sha256(&base)).map(|()| None)? } else { Some(base) };
    let adapter = learned.adapter(bundle, store, request.rank)?;
    let (errors, difference) = write(request, base, adapter, |base, adapter| {
        learned.check([base, adapter], bundle, request, (&answers, audience))
    })?;
    let site = |(site, (rank, error_fro)): (&Site, (usize, f64))| OrtSite {
        name: site.name.clone(),
        rank,
        error_fro,
        saturated: 0,
    };
    Ok(OrtReport {
        format: "ort-adapter",
        files: [&request.base, &request.adapter].into_iter().map(|path| file(path)).collect::<Result<_>>()?,
        base_kept,
        sites: learned.sites.iter().zip(errors).map(site).collect(),
        classes: learned.generation.record.classes,
        note: learned.base.note,
        check: answers.outcome(&difference, request.photos.is_none()),
        seconds: begin.elapsed().as_secs_f64(),
        peak_rss_bytes: peak_rss_bytes(),
    })
}

impl OrtRequest {
    /// Whether the base is there; before any work is done, that both files can be made.
    fn is_base_there(&self) -> Result<bool> {
        if !matches!(self.precision, Precision::Keep | Precision::Fp32) {
            let message = "a base is written in keep or fp32; pack the network in the precision that it is to have";
            return Err(Error::new(ErrorKind::Usage, "option `precision`", message));
        }
        if place(&self.base) == place(&self.adapter) {
            let message = "is both the base and the adapter; give each a path of its own";
            return Err(Error::new(ErrorKind::Usage, self.base.display(), message));
        }
        check_output(&self.adapter)?;
        let is_there = self.base.symlink_metadata().is_ok();
        if !is_there {
            check_output(&self.base)?;
        }
        Ok(is_there)
    }

    /// # Errors
    /// `Exists` where the base that is there has another sha256 than `hash`.
    fn refuse_another(&self, hash: &str) -> Result<()> {
        if sha256(&read_file(&self.base, MOST_MODEL_BYTES, ErrorKind::Exists)?) == hash {
            return Ok(());
        }
        let message = "is there, and is not the base of this bundle in this precision, as this version writes it; choose another path for the base, \
                       or remove it and export the adapters that were made for it again";
        Err(Error::new(ErrorKind::Exists, self.base.display(), message))
    }
}

/// A path, so that two ways to write one are alike.
fn place(path: &Path) -> PathBuf {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let folder = folder.canonicalize().unwrap_or_else(|_| folder.to_path_buf());
    path.canonicalize().unwrap_or_else(|_| folder.join(path.file_name().unwrap_or_default()))
}

fn file(path: &Path) -> Result<ExportedFile> {
    let bytes = fs::metadata(path).map_err(|e| Error::io(path, e))?.len();
    Ok(ExportedFile { path: path.display().to_string(), bytes })
}

/// Writes the adapter, and the base where it is not there; lets `check` read them; and gives them their names, the base first, as others can
/// use it whatever becomes of the adapter.
fn write<T>(
    request: &OrtRequest,
    base: Option<Vec<u8>>,
    adapter: Vec<u8>,
    mut check: impl FnMut(&Path, &Path) -> Result<T>,
) -> Result<T> {
    write_checked(&request.adapter, adapter, |adapter| {
        let Some(base) = base else { return check(&request.base, adapter) };
        let hash = sha256(&base);
        match write_checked(&request.base, base, |base| check(base, adapter)) {
            // Another export has made it meanwhile.
            Err(error) if error.kind() == ErrorKind::Exists => {
                request.refuse_another(&hash)?;
                check(&request.base, adapter)
            }
            written => written,
        }
    })
}

/// A frozen network, its base, and what was learned beside it.
struct Learned {
    backbone: Backbone,
    sites: Vec<Site>,
    base: Base,
    generation: Generation,
}

impl Learned {
    fn open(bundle: &Bundle, store: &Store, request: &OrtRequest) -> Result<Self> {
        let generation = store.load(bundle)?;
        let backbone = bundle.backbone()?;
        let sites = bundle.sites_in(&backbone)?;
        let note = note_name(bundle);
        let metadata = of_bundle(bundle);
        let basing = Basing { sites: &sites, precision: request.precision, metadata, note: (&note, NO_NOTE) };
        let base = backbone.base(&bundle.backbone_bytes()?, basing)?;
        Ok(Learned { backbone, sites, base, generation })
    }

    fn adapter(&self, bundle: &Bundle, store: &Store, rank: PeftRank) -> Result<Vec<u8>> {
        let pairs = self.generation.adapter.sites.iter().map(|site| Factors::learned(site, rank));
        let pairs = pairs.collect::<Result<Vec<_>>>()?;
        let file = adapter(bundle, &self.base, (&self.generation, store.current()), &pairs)?;
        let message = "would be larger than 2 GiB, which onnxruntime does not load; give a smaller rank";
        file.bytes().ok_or_else(|| Error::new(ErrorKind::Usage, "option `rank`", message))
    }

    /// Reads both files and what they compute together. Of each site, its pairs and ||W - W'|| / ||W|| (Frobenius) of what they come to; and
    /// how far probabilities are apart.
    fn check(
        &self,
        [base, adapter]: [&Path; 2],
        bundle: &Bundle,
        request: &OrtRequest,
        (answers, audience): (&Answers, &mut Audience),
    ) -> Result<(Vec<(usize, f64)>, Difference)> {
        let subject = "the adapter that was written";
        let told = |what: String| Error::new(ErrorKind::Check, subject, what);
        let bytes = read_file(adapter, i32::MAX as u64, ErrorKind::Check)?;
        let file = AdapterFile::read(&bytes).ok_or_else(|| told("cannot be read; please report this".into()))?;
        let of_site =
            |((at, site), branch): ((usize, &Site), &Branch)| self.error_of(at, site, pairs_of(&file, branch));
        let errors = self.sites.iter().enumerate().zip(&self.base.branches).map(of_site).collect::<Result<Vec<_>>>()?;
        let base = read_file(base, MOST_MODEL_BYTES, ErrorKind::Model)?;
        let network = read_back(with_given(&base, subject, given(&file))?, bundle)?;
        let difference = answers.compare(&network, &bundle.preprocess, audience)?;
        if request.rank == PeftRank::Exact {
            let worst = errors.iter().map(|(_, error)| *error).fold(0.0, f64::max);
            if worst > EXACT || difference.largest > SAME {
                return Err(told(format!(
                    "would lose {worst:e} of a weight and change probabilities by up to {}, so nothing is kept; please report this",
                    difference.largest
                )));
            }
        }
        Ok((errors, difference))
    }

    /// Pairs and error of a site that is given `pairs`.
    fn error_of(&self, at: usize, site: &Site, pairs: Option<Factors>) -> Result<(usize, f64)> {
        match (self.generation.adapter.sites.get(at), pairs) {
            (Some(buffers), Some(pairs)) => {
                Ok((pairs.rank, pairs.error(self.backbone.weight(site)?.view(), &buffers.change())))
            }
            (None, None) => Ok((0, 0.0)),
            _ => Err(Error::new(
                ErrorKind::Check,
                &site.name,
                "is not in the adapter that was written; please report this",
            )),
        }
    }
}
