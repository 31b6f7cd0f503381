//! What ships to the device: the frozen backbone, the directions of its sites, and how photos are prepared.

mod container;
mod directions;
mod pack;
mod preprocess;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::backbone::{Backbone, Site};
use crate::error::{Error, ErrorKind, Result};

pub use crate::adapter::Directions;
pub use container::{Container, Kind, TEMPORARY_PREFIX, VERSION, sha256};
pub use directions::directions;
pub use pack::{PackReport, PackRequest, SiteReport, pack};
pub use preprocess::{Fit, Preprocess};

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
    /// Directions shipped.
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
    container: Container,
}

impl Bundle {
    /// Reads and checks a bundle file.
    ///
    /// # Errors
    /// `Io` or `Bundle`, naming the file.
    pub fn open(path: &Path) -> Result<Self> {
        let mut container = Container::open(path, Kind::Bundle)?;
        let backbone = container.remove(BACKBONE)?;
        let json = |key: &str| container.text(key).map(str::to_string);
        let bad =
            |key: &str, e: serde_json::Error| container.fault(format_args!("its entry {key} does not parse ({e})"));
        let sites: Vec<BundleSite> = serde_json::from_str(&json("sites")?).map_err(|e| bad("sites", e))?;
        let preprocess: Preprocess = serde_json::from_str(&json("preprocess")?).map_err(|e| bad("preprocess", e))?;
        let labels = serde_json::from_str(&json("labels")?).map_err(|e| bad("labels", e))?;
        let bundle = Bundle {
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
            container,
        };
        if sha256(&backbone) != bundle.backbone_sha256 {
            return Err(bundle.container.fault("its backbone is not the one that its hash names"));
        }
        bundle.preprocess.validate()?;
        Ok(bundle)
    }

    /// Reads and decodes the backbone. Its bytes are not kept: once decoded, each weight is held once.
    ///
    /// # Errors
    /// Kind `Model`; `Io` or `Bundle` where the file is no longer what it was when the bundle was opened.
    pub fn backbone(&self) -> Result<Backbone> {
        let bytes = Container::open(&self.path, Kind::Bundle)?.remove(BACKBONE)?;
        if sha256(&bytes) != self.backbone_sha256 {
            return Err(self.container.fault("its backbone has been replaced while it was in use"));
        }
        let size = [self.preprocess.height, self.preprocess.width];
        let subject = self.path.display().to_string();
        Backbone::read(&bytes, &subject, Some(&self.features), Some(size))
    }

    /// The sites as the backbone describes them.
    ///
    /// # Errors
    /// Kind `Mismatch` where the backbone has no such site, or one of another size.
    pub fn sites_in(&self, backbone: &Backbone) -> Result<Vec<Site>> {
        let sites = backbone.sites_named(self.sites.iter().map(|site| site.name.as_str()))?;
        let differs =
            |(site, listed): &(&Site, &BundleSite)| site.out_dim != listed.out_dim || site.in_dim != listed.in_dim;
        match sites.iter().zip(&self.sites).find(differs) {
            None => Ok(sites),
            Some((site, _)) => Err(Error::new(
                ErrorKind::Mismatch,
                &site.name,
                "the bundle lists it with another size than its backbone",
            )),
        }
    }

    /// The shipped directions of the site `index`.
    ///
    /// # Errors
    /// Kind `Bundle` where a tensor is missing or has another size.
    pub fn directions(&self, index: usize) -> Result<Directions> {
        let BundleSite { name, out_dim, in_dim, reserve } = &self.sites[index];
        Ok(Directions {
            sigma: self.container.f32(&format!("directions/{name}/sigma"), &[*reserve])?,
            u: self.container.f16(&format!("directions/{name}/u"), &[*reserve, *out_dim])?,
            v: self.container.f16(&format!("directions/{name}/v"), &[*reserve, *in_dim])?,
        })
    }
}
