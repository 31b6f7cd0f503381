//! One file for all stores of a bundle: the vendor's, with a branch beside each site and a classifier that are given at run time.

use tract_onnx::pb::tensor_proto::DataType;

use super::branch::{self, Branch};
use super::head::{self, Classifier};
use super::{OWN_KEYS, OWN_PREFIX, float_form, prune, widen};
use crate::backbone::Backbone;
use crate::backbone::graph::Site;
use crate::backbone::quantized::Precision;
use crate::backbone::splice::{Dim, Document};
use crate::error::{Error, ErrorKind, Result};

/// What a file for all stores is to be.
pub(crate) struct Basing<'b> {
    /// The sites, in the order of the adapter's.
    pub(crate) sites: &'b [Site],
    /// `keep`, or `fp32`.
    pub(crate) precision: Precision,
    /// Entries of the model's metadata.
    pub(crate) metadata: Vec<(String, String)>,
    /// The input that no node reads, for bytes that say what an adapter is; and those of none.
    pub(crate) note: (&'b str, &'b [u8]),
}

/// A file whose pairs and classifier are given at run time, and the inputs that they are given by.
pub(crate) struct Base {
    pub(crate) bytes: Vec<u8>,
    /// Of each site.
    pub(crate) branches: Vec<Branch>,
    /// Weight (classes x features) and bias of the classifier.
    pub(crate) head: [String; 2],
    /// The bytes that say what an adapter is.
    pub(crate) note: String,
}

/// A tensor that is given for an input of a base.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Given<'g> {
    pub(crate) name: &'g str,
    pub(crate) data_type: i32,
    pub(crate) dims: &'g [usize],
    pub(crate) raw: &'g [u8],
}

impl Backbone {
    /// Makes of `bytes`, the file that this network was read from, one in which y = W x + B (A x) at each site, with A and B as inputs that
    /// are 0 where they are not given; and logits = H f + h behind the features f, with H and h as inputs too. It follows from the bundle
    /// alone.
    ///
    /// # Errors
    /// Kind `Model` names the site that no branch can be put beside, or says why the features cannot be read; `Usage` for a precision that
    /// the file cannot be written in.
    pub(crate) fn base(&self, bytes: &[u8], basing: Basing) -> Result<Base> {
        let (subject, to_fp32) = (&self.file.subject, basing.precision == Precision::Fp32);
        let refuse = |what: String| Error::new(ErrorKind::Usage, "option `precision` fp32", what);
        let widened = (to_fp32 && self.precision() == "fp16").then(|| {
            let mut document = Document::read(bytes, subject)?;
            widen::to_float(&mut document).map_err(refuse)?;
            Ok(document.written(|_| false))
        });
        let widened: Option<Vec<u8>> = widened.transpose()?;
        let (branched, branches) = self.with_branches(widened.as_deref().unwrap_or(bytes), basing.sites)?;
        drop(widened);
        let mut document = Document::read(&branched, subject)?;
        let fault = |what: String| Error::new(ErrorKind::Model, subject, what);
        let shape = self.features_shape()?;
        let zeros = vec![0.0; self.feature_dim()?];
        let plain =
            Classifier { features: self.features(), shape: &shape, weight: &zeros, bias: &[0.0], is_given: true };
        let head = head::append(&mut document, &plain, &self.file.input.name).map_err(fault)?;
        prune::prune(&mut document);
        let (wish, none) = basing.note;
        let dims = [Dim::Named(&format!("{wish}.bytes"))];
        let note = document.add_default(wish, DataType::Uint8 as i32, &dims, (&[none.len()], none));
        document.set_metadata(basing.metadata);
        let mut bytes = document.written(|key| OWN_KEYS.contains(&key) || key.starts_with(OWN_PREFIX));
        if to_fp32 {
            let mut document = Document::read(&bytes, subject)?;
            float_form::to_float(&mut document).map_err(refuse)?;
            bytes = document.written(|_| false);
        }
        Ok(Base { bytes, branches, head, note })
    }

    fn with_branches(&self, bytes: &[u8], sites: &[Site]) -> Result<(Vec<u8>, Vec<Branch>)> {
        let mut document = Document::read(bytes, &self.file.subject)?;
        let put = |site: &Site| {
            let branch = branch::put(&mut document, &site.name, [site.out_dim, site.in_dim], self.kernel(site));
            branch.map_err(|what| Error::new(ErrorKind::Model, &site.name, what))
        };
        let branches = sites.iter().map(put).collect::<Result<_>>()?;
        Ok((document.written(|_| false), branches))
    }
}

/// A base as it is with what is given, as one plain file.
///
/// # Errors
/// Kind `Model` where `base` is no ONNX file, `Check` where it has no such input, or one of another type.
pub(crate) fn with_given<'g>(base: &[u8], subject: &str, given: impl Iterator<Item = Given<'g>>) -> Result<Vec<u8>> {
    let mut document = Document::read(base, subject)?;
    for Given { name, data_type, dims, raw } in given {
        let held = document.initializer(name).filter(|held| document.graph.initializer[*held].data_type == data_type);
        let held = held.filter(|_| document.graph.input.iter().any(|input| input.name == name));
        let missing = || Error::new(ErrorKind::Check, subject, format!("has no input `{name}` of that type"));
        document.give(held.ok_or_else(missing)?, dims, raw);
    }
    Ok(document.written(|_| false))
}
