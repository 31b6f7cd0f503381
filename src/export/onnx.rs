//! The export to one ONNX file.

use std::fs;
use std::path::PathBuf;
use std::time::Instant;

use serde::Serialize;

use super::check::{Answers, Difference, SelfCheck, read_back};
use super::metadata::{metadata, wrapped};
use super::moments::moments;
use crate::adapter::{Adapter, Moment};
use crate::backbone::{Backbone, Merged, Merging, Normalize, Precision, Site};
use crate::bundle::{Bundle, Preprocess, check_output, read_file, write_checked};
use crate::error::{Error, ErrorKind, Result};
use crate::limits::MOST_MODEL_BYTES;
use crate::session::progress::Audience;
use crate::session::{Classifier, Dataset, Flow, Generation, Progress, Stop, Store, peak_rss_bytes};

/// The largest difference of a probability between a network and itself in another file, where both compute with the same floats.
pub(crate) const SAME: f32 = 1e-3;

/// Share of a weight that rounding has taken, from which it is worth a warning.
const LOSSY: f64 = 0.05;

/// What is to be exported, and how.
#[derive(Debug, Clone)]
pub struct OnnxRequest {
    /// The file to write.
    pub output: PathBuf,
    /// The precision of its weights.
    pub precision: Precision,
    /// Whether the file takes bytes of an image and gives probabilities: `image`, uint8, [1, height, width, 3], to `probabilities`.
    pub with_preprocessing: bool,
    /// Photos that the file is checked with, whatever their classes; `None`: noise.
    pub photos: Option<Dataset>,
}

/// A file that was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ExportedFile {
    /// Where.
    pub path: String,
    /// Its size.
    pub bytes: u64,
}

/// What has become of the weight of a site.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ExportedSite {
    /// The ONNX node's name.
    pub name: String,
    /// ||W - W'|| / ||W|| (Frobenius) of what was written against what was learned.
    pub error_fro: f64,
    /// Values that lay outside of what the file can hold there, and were cut off.
    pub saturated: usize,
}

/// What `export` answers.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ExportReport {
    /// `onnx`.
    pub format: &'static str,
    /// What was written.
    pub files: Vec<ExportedFile>,
    /// The sites, in graph order.
    pub sites: Vec<ExportedSite>,
    /// How far it is from the adapted network.
    #[serde(flatten)]
    pub check: SelfCheck,
    /// Time taken.
    pub seconds: f64,
    /// The most memory that the process has taken; null where the system does not tell.
    pub peak_rss_bytes: Option<u64>,
}

impl ExportReport {
    /// What may make the file worse than what was learned.
    pub fn warnings(&self) -> impl Iterator<Item = String> {
        let lossy = self.sites.iter().filter(|site| site.error_fro > LOSSY);
        lossy.map(|site| format!("the weight of {} lost {:.1} % in this precision", site.name, 100.0 * site.error_fro))
    }
}

/// Writes the network of `bundle` with what `store` has learned, as one ONNX file.
///
/// Each site's weight becomes W + D + scale (B A - B0 A0), in the type, the layout and the granularity of the vendor's file. Its classifier
/// becomes logits = (W x + b) / temperature of the store's classes, so that their softmax is what `predict` says. Whatever else the file
/// holds keeps its bytes, but for what only the old classifier needed, which is left out.
///
/// # Errors
/// `Exists` for an output that is there; `Mismatch` for a store of another bundle; `Model` where a weight has no place in the file; `Check`
/// where the file does not say what the adapted network says. Nothing has been written then. `Unsynced`, `Io`.
pub fn export_onnx<A: Into<Flow>>(
    bundle: &Bundle,
    store: &Store,
    request: &OnnxRequest,
    observer: &mut impl FnMut(Progress<'_>) -> A,
) -> Result<ExportReport> {
    let begin = Instant::now();
    check_output(&request.output)?;
    let (mut observer, stop) = (|progress: Progress<'_>| observer(progress).into(), Stop::default());
    let audience = &mut Audience::of(&mut observer, &stop);
    // One network at a time: the first is let go before the next is made.
    let answers = Answers::of(&mut Classifier::new(bundle, Some(store))?, bundle, request.photos.as_ref(), audience)?;
    let rounds = matches!(request.precision, Precision::Keep | Precision::Int8);
    let moments = if rounds { moments(bundle, store, request.photos.as_ref(), audience)? } else { Vec::new() };
    let learned = Learned::open(bundle, store)?;
    audience.tell(Progress::Begin { phase: "merging", total: 0 });
    let Merged { bytes, saturated } = learned.merged(bundle, store, request, &moments)?;
    let bytes = if request.with_preprocessing { learned.wrapped(bundle, &bytes)? } else { bytes };
    audience.tell(Progress::End);
    let (errors, difference) = write_checked(&request.output, bytes, |path| {
        let written = read_back(read_file(path, MOST_MODEL_BYTES, ErrorKind::Model)?, bundle)?;
        let errors = learned.errors(&written)?;
        let difference = if request.with_preprocessing {
            answers.compare_wrapped(&written, &bundle.preprocess, audience)?
        } else {
            answers.compare(&written, &bundle.preprocess, audience)?
        };
        learned.judge(&errors, &difference)?;
        Ok((errors, difference))
    })?;
    let site = |((site, error_fro), at): ((&Site, f64), usize)| ExportedSite {
        name: site.name.clone(),
        error_fro,
        saturated: saturated.get(at).copied().unwrap_or(0),
    };
    let bytes = fs::metadata(&request.output).map_err(|e| Error::io(&request.output, e))?.len();
    Ok(ExportReport {
        format: "onnx",
        files: vec![ExportedFile { path: request.output.display().to_string(), bytes }],
        sites: learned.sites.iter().zip(errors).zip(0..).map(site).collect(),
        check: answers.outcome(&difference, request.photos.is_none()),
        seconds: begin.elapsed().as_secs_f64(),
        peak_rss_bytes: peak_rss_bytes(),
    })
}

/// A frozen network, and what was learned beside it.
struct Learned {
    backbone: Backbone,
    sites: Vec<Site>,
    generation: Generation,
}

impl Learned {
    fn open(bundle: &Bundle, store: &Store) -> Result<Self> {
        let generation = store.load(bundle)?;
        let backbone = bundle.backbone()?;
        let sites = bundle.sites_in(&backbone)?;
        Ok(Learned { backbone, sites, generation })
    }

    fn merged(
        &self,
        bundle: &Bundle,
        store: &Store,
        request: &OnnxRequest,
        moments: &[Option<Moment>],
    ) -> Result<Merged> {
        let Generation { record, adapter } = &self.generation;
        let calibration = record.calibration.as_ref();
        let temperature = calibration.map_or(1.0, |calibration| calibration.temperature);
        let [weight, bias] = adapter.head.cooled(temperature);
        let metadata = metadata(bundle, &record.classes, store.current(), calibration);
        let metadata = if request.with_preprocessing { wrapped(metadata) } else { metadata };
        let precision = request.precision;
        let merging = Merging { sites: &self.sites, adapter, moments, head: (&weight, &bias), precision, metadata };
        self.backbone.merged(&bundle.backbone_bytes()?, merging)
    }

    /// A merged file that reads bytes and gives probabilities.
    fn wrapped(&self, bundle: &Bundle, merged: &[u8]) -> Result<Vec<u8>> {
        let Preprocess { height, width, range, mean, std, .. } = bundle.preprocess;
        let normalize = Normalize {
            size: [height, width],
            factor: std.map(|std| range / 255.0 / std),
            shift: core::array::from_fn(|channel| mean[channel] / std[channel]),
        };
        self.backbone.with_preprocessing(merged, &normalize, self.generation.record.classes.len())
    }

    /// Of each site, how far its weight in `written` is from what was learned.
    fn errors(&self, written: &Backbone) -> Result<Vec<f64>> {
        let Adapter { sites: learned, .. } = &self.generation.adapter;
        let error = |(site, at): (&Site, usize)| self.backbone.merging_error(site, learned.get(at), written);
        self.sites.iter().zip(0..).map(error).collect()
    }

    /// # Errors
    /// Kind `Check` where the weights are those that were learned, and yet the file says something else.
    fn judge(&self, errors: &[f64], difference: &Difference) -> Result<()> {
        let is_exact = errors.iter().all(|error| *error < 1e-6);
        if is_exact && difference.largest > SAME {
            let message = format!(
                "says something else than the adapted network (probabilities differ by up to {}), so it is not kept; please report this",
                difference.largest
            );
            return Err(Error::new(ErrorKind::Check, "the file that was written", message));
        }
        Ok(())
    }
}
