//! What was learned, put into the file of the vendor: the splice that an export writes.
//!
//! In: the bytes of a file, for each site the weight that it is to have, and a classifier. Out: the bytes of a file with these in it. It is
//! spliced on the wire: whatever does not change is copied byte by byte, known to this program or not.
//!
//! ```text
//! fields    where the fields of a message lie, and new ones
//! document  the file, and the changes to be made to it
//! trace     from an operand back to the tensor that holds its numbers
//! codes     codes for a weight that has changed
//! bias      int32 codes that follow the scale of a weight
//! weight    the weight of a site, in the form in which the file holds it
//! prune     what only the old classifier needed
//! head      the new classifier
//! ```

mod bias;
mod codes;
mod document;
mod fields;
mod head;
mod prune;
mod trace;
mod weight;

use ndarray::ArrayView2;
use tract_onnx::tract_core::internal::TractResult;

use super::graph::{self, Site, concrete};
use super::maps::{Map, MapKind};
use super::weights::Codes;
use super::{Backbone, Rounding};
use crate::adapter::{Adapter, SiteBuffers};
use crate::error::{Error, ErrorKind, Result};
use document::Document;
use head::Classifier;
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
    /// Weight (classes x features) and bias of the classifier.
    pub(crate) head: (&'m [f32], &'m [f32]),
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
    /// classifier behind the features. A weight to which nothing was added keeps its bytes.
    ///
    /// # Errors
    /// Kind `Model` names the node whose weight has no place in the file, or says why the features cannot be read there.
    pub(crate) fn merged(&self, bytes: &[u8], merging: Merging) -> Result<Merged> {
        let subject = &self.file.subject;
        let mut document = Document::read(bytes, subject)?;
        let mut saturated = Vec::with_capacity(merging.sites.len());
        for (site, buffers) in merging.sites.iter().zip(&merging.adapter.sites) {
            let written = self.write_site(&mut document, site, buffers);
            saturated.push(written.map_err(|what| Error::new(ErrorKind::Model, &site.name, what))?);
        }
        let shape = self.features_shape()?;
        let (weight, bias) = merging.head;
        let head = Classifier { features: self.features(), shape: &shape, weight, bias };
        let done = head::append(&mut document, &head, &self.file.input.name);
        done.map_err(|what| Error::new(ErrorKind::Model, subject, what))?;
        prune::prune(&mut document);
        document.set_metadata(merging.metadata);
        let bytes = document.written(|key| OWN_KEYS.contains(&key) || key.starts_with(OWN_PREFIX));
        Ok(Merged { bytes, saturated })
    }

    fn write_site(
        &self,
        document: &mut Document,
        site: &Site,
        buffers: &SiteBuffers,
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
        weight::write(document, &Learned { name: &site.name, kernel, frozen, weight })
    }

    /// How far the weight of a site in `merged` is from what was learned here: ||W - W'|| / ||W|| (Frobenius).
    ///
    /// # Errors
    /// Kind `Check` where `merged` has no such site.
    pub(crate) fn merging_error(&self, site: &Site, buffers: &SiteBuffers, merged: &Backbone) -> Result<f64> {
        let missing = || Error::new(ErrorKind::Check, &site.name, "is not in the file that was written");
        let (own, other) = (self.map_of(site).ok_or_else(missing)?, merged.map_of(site).ok_or_else(missing)?);
        let adapted = own.frozen.weight.adapted(buffers).dense();
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
