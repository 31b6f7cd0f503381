//! What ships to the device: the frozen backbone, the directions of its sites, and how photos are prepared.

mod check;
mod container;
mod directions;
mod header;
mod input;
mod kind;
mod output;
mod pack;
mod packed;
mod plausible;
mod preprocess;
mod signature;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::backbone::{Backbone, Site};
use crate::error::{ErrorKind, Result};
use crate::limits::{
    MOST_CLASSES, MOST_DIRECTIONS, MOST_FEATURES, MOST_NAME_BYTES, MOST_PAIRS, MOST_SITES, SITE_SHARE,
};

pub use crate::adapter::DirectionsBuf;
pub use container::{Container, VERSION, sha256};
pub use directions::directions;
pub(crate) use header::check_lists;
use input::check_input;
pub use kind::Kind;
#[cfg(feature = "cli")]
pub(crate) use output::write_new;
pub use output::{TEMPORARY_PREFIX, check_output};
pub(crate) use output::{new_folder, sync_folder_of, write_checked};
pub use pack::{PackRequest, pack};
pub(crate) use pack::{check_labels, read_file, read_labels};
pub use packed::{PackReport, SiteReport};
pub use preprocess::{Fit, PRESETS, Preprocess, Preset};
pub use signature::Trust;

const BACKBONE: &str = "backbone.onnx";

/// One site as a bundle lists it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BundleSite {
    /// The ONNX node's name.
    pub name: String,
    /// Rows of W.
    pub out_dim: usize,
    /// Columns of W.
    pub in_dim: usize,
    /// DirectionsBuf shipped.
    pub reserve: usize,
}

/// An opened bundle.
#[derive(Debug, Clone)]
pub struct Bundle {
    /// Where it was read from.
    pub path: PathBuf,
    /// Its sites, in graph order.
    pub sites: Vec<BundleSite>,
    /// Pairs per site.
    pub rank: usize,
    /// How photos become inputs.
    pub preprocess: Preprocess,
    /// The model's own classes, if they were given.
    pub labels: Option<Vec<String>>,
    /// The tensor that the head reads.
    pub features: String,
    /// Length of an image's feature vector.
    pub feature_dim: usize,
    /// Precision of the frozen weights.
    pub precision: String,
    /// sha256 of the ONNX bytes, lowercase hex.
    pub backbone_sha256: String,
    /// sha256 over all tensors and metadata, lowercase hex.
    pub content_sha256: String,
    /// The release that `pack` gave it with option `release`.
    pub release: Option<u64>,
    /// Whether it has a signature; that it is a good one, only [`Bundle::open_trusted`] says.
    pub is_signed: bool,
    /// Of each site.
    directions: Vec<DirectionsBuf>,
    container: Container<'static>,
}

impl Bundle {
    /// Reads and checks a bundle file. A signature is not looked at.
    ///
    /// # Errors
    /// `Io` or `Bundle`, naming the file.
    pub fn open(path: &Path) -> Result<Self> {
        Self::read(Container::open(path, Kind::Bundle)?, path)
    }

    /// The same, of a bundle that `trust` accepts; nothing in it is looked at before.
    ///
    /// # Errors
    /// As [`Bundle::open`]; `Bundle` where it is not signed, by another, or of an earlier release.
    pub fn open_trusted(path: &Path, trust: &Trust) -> Result<Self> {
        let container = Container::open(path, Kind::Bundle)?;
        trust.check(&container)?;
        Self::read(container, path)
    }

    fn read(mut container: Container<'static>, path: &Path) -> Result<Self> {
        let backbone = container.remove(BACKBONE)?;
        let json = |key: &str| container.text(key).map(str::to_string);
        let bad =
            |key: &str, e: serde_json::Error| container.fault(format_args!("its entry {key} does not parse ({e})"));
        let sites: Vec<BundleSite> = serde_json::from_str(&json("sites")?).map_err(|e| bad("sites", e))?;
        let preprocess: Preprocess = serde_json::from_str(&json("preprocess")?).map_err(|e| bad("preprocess", e))?;
        let labels = serde_json::from_str(&json("labels")?).map_err(|e| bad("labels", e))?;
        let mut bundle = Bundle {
            path: path.to_path_buf(),
            sites,
            rank: container.parse("rank")?,
            preprocess,
            labels,
            features: json("features")?,
            feature_dim: container.parse("feature_dim")?,
            precision: json("precision")?,
            backbone_sha256: json("backbone_sha256")?,
            content_sha256: json("content_sha256")?,
            release: signature::release(&container)?,
            is_signed: container.metadata.contains_key(signature::SIGNATURE),
            directions: Vec::new(),
            container,
        };
        if sha256(&backbone) != bundle.backbone_sha256 {
            return Err(bundle.container.fault("its backbone is not the one that its hash names"));
        }
        bundle.check(backbone.len()).map_err(|what| bundle.container.fault(what))?;
        bundle.directions =
            bundle.sites.iter().map(|site| take_directions(&mut bundle.container, site)).collect::<Result<_>>()?;
        Ok(bundle)
    }

    /// Whether the entries can be meant, whoever wrote them: sizes are believed, and allocated, after this.
    fn check(&self, backbone: usize) -> std::result::Result<(), String> {
        self.preprocess.validate().map_err(|e| format!("its preprocessing cannot be: {}", e.message()))?;
        if !(1..=MOST_FEATURES).contains(&self.feature_dim) {
            return Err(format!("its features cannot have {} values", self.feature_dim));
        }
        if !["fp32", "fp16", "int8"].contains(&self.precision.as_str()) {
            return Err(format!("its precision cannot be {}", self.precision));
        }
        if self.sites.is_empty() || self.sites.len() > MOST_SITES {
            return Err(format!("it lists {} sites; 1 to {MOST_SITES} are taken", self.sites.len()));
        }
        let labels = self.labels.iter().flatten();
        let mut names = self.sites.iter().map(|site| &site.name).chain(labels).chain([&self.features]);
        if self.labels.as_ref().is_some_and(|labels| labels.len() > MOST_CLASSES)
            || names.any(|name| name.len() > MOST_NAME_BYTES)
        {
            return Err(format!(
                "it has more than {MOST_CLASSES} labels, or a name of more than {MOST_NAME_BYTES} bytes"
            ));
        }
        // A weight has a byte for each of its values at least, and a few sites may share it.
        let values =
            self.sites.iter().try_fold(0usize, |sum, site| sum.checked_add(site.out_dim.checked_mul(site.in_dim)?));
        if values.is_none_or(|values| values > backbone.saturating_mul(SITE_SHARE)) {
            return Err("its sites have more values than its backbone".to_owned());
        }
        for (index, site) in self.sites.iter().enumerate() {
            let BundleSite { name, out_dim, in_dim, reserve } = site;
            let most = *out_dim.min(in_dim).min(&MOST_DIRECTIONS);
            if self.rank == 0 || self.rank > MOST_PAIRS || self.rank > *reserve || *reserve > most {
                let (rank, size) = (self.rank, format!("{out_dim} x {in_dim}"));
                return Err(format!("site {name}, {size}, cannot have rank {rank} and {reserve} directions"));
            }
            if self.sites[..index].iter().any(|other| other.name == *name) {
                return Err(format!("it lists site {name} twice"));
            }
        }
        match self.container.not_finite() {
            Some(tensor) => Err(format!("tensor `{tensor}` holds values that are not finite")),
            None => Ok(()),
        }
    }

    /// Reads and decodes the backbone. Its bytes are let go before its weights are prepared, each of which is held once.
    ///
    /// # Errors
    /// Kind `Model`; `Bundle` where its entries ask for what the backbone does not have, or the file is no longer what it
    /// was when the bundle was opened; `Io`.
    pub fn backbone(&self) -> Result<Backbone> {
        let bytes = self.backbone_bytes()?;
        let size = [self.preprocess.height, self.preprocess.width];
        let subject = self.path.display().to_string();
        let backbone =
            Backbone::read(bytes, &subject, Some(&self.features), Some(size)).map_err(|e| match e.kind() {
                ErrorKind::Usage => self.container.fault(format_args!("its backbone does not fit it ({e})")),
                _ => e,
            })?;
        check_input(&backbone, &subject)?;
        Ok(backbone)
    }

    /// The ONNX file of the backbone, as it ships.
    ///
    /// # Errors
    /// `Bundle` where the file is no longer what it was when the bundle was opened; `Io`.
    pub fn backbone_bytes(&self) -> Result<Vec<u8>> {
        let bytes = Container::open(&self.path, Kind::Bundle)?.remove(BACKBONE)?;
        if sha256(&bytes) != self.backbone_sha256 {
            return Err(self.container.fault("its backbone has been replaced while it was in use"));
        }
        Ok(bytes)
    }

    /// What is wrong with the values that photos become, in a sentence, if anything shows. A backbone that cannot be read tells
    /// nothing; whatever runs it says why.
    #[must_use]
    pub fn doubtful_preprocess(&self) -> Option<String> {
        let first = self.backbone().ok().and_then(|backbone| backbone.first_layer());
        plausible::doubtful(&self.preprocess, first.as_ref())
    }

    /// # Errors
    /// Kind `Bundle` where a network of its backbone has another feature vector than the bundle says.
    pub(crate) fn check_features(&self, found: usize) -> Result<()> {
        if found == self.feature_dim {
            return Ok(());
        }
        let listed = self.feature_dim;
        Err(self.container.fault(format_args!("its features should have {listed} values, and have {found}")))
    }

    /// The sites as the backbone describes them.
    ///
    /// # Errors
    /// Kind `Bundle` where the backbone has no such site, or one of another size.
    pub fn sites_in(&self, backbone: &Backbone) -> Result<Vec<Site>> {
        let named = backbone.sites_named(self.sites.iter().map(|site| site.name.as_str()));
        let sites = named.map_err(|e| self.container.fault(format_args!("site {e}")))?;
        let differs =
            |(site, listed): &(&Site, &BundleSite)| site.out_dim != listed.out_dim || site.in_dim != listed.in_dim;
        match sites.iter().zip(&self.sites).find(differs) {
            None => Ok(sites),
            Some((site, _)) => Err(self
                .container
                .fault(format_args!("it lists site {} with another size than its backbone", site.name))),
        }
    }

    /// The shipped directions of the site `index`.
    #[must_use]
    pub fn directions(&self, index: usize) -> &DirectionsBuf {
        &self.directions[index]
    }
}

/// # Errors
/// Kind `Bundle` where a tensor is missing or has another size.
fn take_directions(container: &mut Container, site: &BundleSite) -> Result<DirectionsBuf> {
    let BundleSite { name, out_dim, in_dim, reserve } = site;
    let [sigma, u, v] = ["sigma", "u", "v"].map(|part| format!("directions/{name}/{part}"));
    let directions = DirectionsBuf {
        sigma: container.f32(&sigma, &[*reserve])?.into(),
        u: container.f16(&u, &[*reserve, *out_dim])?.into(),
        v: container.f16(&v, &[*reserve, *in_dim])?.into(),
    };
    [sigma, u, v].iter().for_each(|name| container.forget(name));
    Ok(directions)
}
