//! What was learned, merged into the file of the vendor: what an export writes.
//!
//! In: the bytes of a file, for each site the weight that it is to have, and a classifier. Out: the bytes of a file with these in it.
//!
//! ```text
//! branch      a float branch beside a site
//! base        one file for all stores, with branches and a classifier that are given at run time
//! trace       from an operand back to the tensor that holds its numbers
//! codes       codes for a weight that has changed
//! rounding    which way each value is rounded
//! bias        int32 codes that follow the scale of a weight
//! weight      the weight of a site, in the form in which the file holds it
//! prune       what only the old classifier needed
//! head        the new classifier
//! float_form  a quantized file that computes in float
//! widen       a file in fp16 that computes in fp32
//! preprocess  bytes of an image in, probabilities out
//! ```

mod base;
mod bias;
mod branch;
mod codes;
mod float_form;
mod head;
mod preprocess;
mod prune;
mod rounding;
mod trace;
mod weight;
mod widen;

use ndarray::ArrayView2;
use tract_onnx::tract_core::internal::TractResult;

use super::graph::{self, Site, concrete};
use super::maps::{Map, MapKind};
use super::quantized::{Precision, encode};
use super::splice::Document;
use super::weights::Codes;
use super::{Backbone, ImageInput, Rounding};
use crate::adapter::{Adapter, Moment, SiteBuffers};
use crate::error::{Error, ErrorKind, Result};
pub(crate) use base::{Base, Basing, Given, with_given};
pub(crate) use branch::Branch;
use head::Classifier;
pub(crate) use preprocess::Normalize;
use weight::Learned;

/// Entries of a model's metadata that an export writes, and so replaces.
const OWN_KEYS: [&str; 3] = ["names", "task", "imgsz"];
/// How all others of them begin.
const OWN_PREFIX: &str = "srlora.";

/// What is to be put into a file.
pub(crate) struct Merging<'m> {
    /// The sites, in the order of the adapter's.
    pub(crate) sites: &'m [Site],
    /// What was learned.
    pub(crate) adapter: &'m Adapter,
    /// Of what each site reads; none where that is not known.
    pub(crate) moments: &'m [Option<Moment>],
    /// Weight (classes x features) and bias of the classifier.
    pub(crate) head: (&'m [f32], &'m [f32]),
    /// That the file is to be in.
    pub(crate) precision: Precision,
    /// Entries of the model's metadata.
    pub(crate) metadata: Vec<(String, String)>,
}

/// A file with what was learned.
pub(crate) struct Merged {
    pub(crate) bytes: Vec<u8>,
    /// Of each site, the values that could not be held and were cut off.
    pub(crate) saturated: Vec<usize>,
}

impl Backbone {
    /// Puts what was learned into `bytes`, the file that this network was read from: W + D + scale (B A - B0 A0) at every site, and the
    /// classifier behind the features. A weight to which nothing was added keeps its bytes, unless another precision is asked for.
    ///
    /// # Errors
    /// Kind `Model` names the node whose weight has no place in the file, or says why the features cannot be read there; `Usage` for a
    /// precision that the file cannot be written in.
    pub(crate) fn merged(&self, bytes: &[u8], merging: Merging) -> Result<Merged> {
        let (subject, precision) = (&self.file.subject, self.change_of(merging.precision)?);
        let to_fp32 = precision == Some(Precision::Fp32);
        let refuse = |what: String| Error::new(ErrorKind::Usage, "option `precision` fp32", what);
        let widened = (to_fp32 && self.precision() == "fp16").then(|| {
            let mut document = Document::read(bytes, subject)?;
            widen::to_float(&mut document).map_err(refuse)?;
            Ok(document.written(|_| false))
        });
        let widened = widened.transpose()?;
        let bytes = widened.as_deref().unwrap_or(bytes);
        let (mut merged, saturated) = self.with_weights(bytes, &merging, to_fp32)?;
        drop(widened);
        if let Some(precision) = precision.filter(|_| !to_fp32) {
            merged = encode(&merged, subject, precision)?;
        }
        let mut document = Document::read(&merged, subject)?;
        let shape = self.features_shape()?;
        let (weight, bias) = merging.head;
        let head = Classifier { features: self.features(), shape: &shape, weight, bias, is_given: false };
        let fault = |what: String| Error::new(ErrorKind::Model, subject, what);
        head::append(&mut document, &head, &self.file.input.name).map_err(fault)?;
        prune::prune(&mut document);
        document.set_metadata(merging.metadata);
        let mut bytes = document.written(|key| OWN_KEYS.contains(&key) || key.starts_with(OWN_PREFIX));
        if to_fp32 {
            let mut document = Document::read(&bytes, subject)?;
            float_form::to_float(&mut document).map_err(refuse)?;
            bytes = document.written(|_| false);
        }
        Ok(Merged { bytes, saturated })
    }

    /// The precision that the file is to be brought to, where it does not have it.
    fn change_of(&self, asked: Precision) -> Result<Option<Precision>> {
        let changed = match (asked, self.precision()) {
            (Precision::Keep, _) | (Precision::Fp16, "fp16") | (Precision::Int8, "int8") => None,
            // Activations may be quantized where weights are not.
            (Precision::Fp32, _) | (_, "fp32") => Some(asked),
            (_, own) => {
                let message = format!("the network is in {own}, which is not written in that precision; take keep");
                return Err(Error::new(ErrorKind::Usage, "option `precision`", message));
            }
        };
        Ok(changed)
    }

    /// The file with the weights of the sites, in its own types or `in_float`; of each, the values that were cut off.
    fn with_weights(&self, bytes: &[u8], merging: &Merging, in_float: bool) -> Result<(Vec<u8>, Vec<usize>)> {
        let mut document = Document::read(bytes, &self.file.subject)?;
        let mut saturated = Vec::with_capacity(merging.sites.len());
        for (at, (site, buffers)) in merging.sites.iter().zip(&merging.adapter.sites).enumerate() {
            let moment = merging.moments.get(at).and_then(Option::as_ref);
            let written = self.write_site(&mut document, (site, buffers), moment, in_float);
            saturated.push(written.map_err(|what| Error::new(ErrorKind::Model, &site.name, what))?);
        }
        Ok((document.written(|_| false), saturated))
    }

    /// Puts the preprocessing before the network in `bytes`, a merged file.
    ///
    /// # Errors
    /// Kind `Usage` where it cannot be.
    pub(crate) fn with_preprocessing(&self, bytes: &[u8], normalize: &Normalize, classes: usize) -> Result<Vec<u8>> {
        let mut document = Document::read(bytes, &self.file.subject)?;
        let refuse = |what: String| Error::new(ErrorKind::Usage, "option `with_preprocessing`", what);
        let ImageInput { channels_last, is_grey, is_bytes, .. } = self.file.input;
        if is_bytes {
            return Err(refuse(
                "has nothing to add: this network takes bytes, and normalizes them itself; leave it out".into(),
            ));
        }
        if channels_last || is_grey {
            return Err(refuse(
                "is for networks that read N x 3 x H x W; leave it out, and normalize as `srlora.mean` says".into(),
            ));
        }
        preprocess::wrap(&mut document, &self.file.input.name, normalize, classes).map_err(refuse)?;
        Ok(document.written(|_| false))
    }

    fn write_site(
        &self,
        document: &mut Document,
        (site, buffers): (&Site, &SiteBuffers),
        moment: Option<&Moment>,
        in_float: bool,
    ) -> std::result::Result<usize, String> {
        let map = self.map_of(site).ok_or("the network has no map of that name")?;
        let frozen = &map.frozen.weight;
        let adapted = frozen.adapted(buffers);
        let Codes::F32(values) = &adapted.codes else { return Ok(0) };
        let shape = (frozen.out_dim, frozen.in_dim);
        let weight = ArrayView2::from_shape(shape, values).map_err(|e| e.to_string())?;
        if frozen.dense() == weight {
            return Ok(0);
        }
        let kernel = match &map.kind {
            MapKind::Conv(geometry) => Some(geometry.kernel),
            MapKind::Linear => None,
        };
        weight::write(document, &Learned { name: &site.name, kernel, frozen, weight, moment, in_float })
    }

    /// How far the weight of a site in `merged` is from what was learned here: ||W - W'|| / ||W|| (Frobenius).
    ///
    /// # Errors
    /// Kind `Check` where `merged` has no such site.
    pub(crate) fn merging_error(&self, site: &Site, buffers: Option<&SiteBuffers>, merged: &Backbone) -> Result<f64> {
        let missing = || Error::new(ErrorKind::Check, &site.name, "is not in the file that was written");
        let (own, other) = (self.map_of(site).ok_or_else(missing)?, merged.map_of(site).ok_or_else(missing)?);
        let own = &own.frozen.weight;
        let adapted = buffers.map_or_else(|| own.dense(), |buffers| own.adapted(buffers).dense());
        let written = other.frozen.weight.dense();
        if adapted.dim() != written.dim() {
            return Err(missing());
        }
        Ok(Rounding::error(written.view(), adapted.view()))
    }

    fn map_of(&self, site: &Site) -> Option<&Map> {
        self.file.maps.iter().find(|map| map.name == site.name)
    }

    /// The shape of the tensor that the head reads, before it is pooled.
    fn features_shape(&self) -> Result<Vec<usize>> {
        let shape = || -> TractResult<Vec<usize>> {
            let model = graph::typed(&self.file, &self.request(self.features()))?;
            Ok(concrete(model.output_fact(0)?)?.to_vec())
        };
        self.told(shape())
    }
}
