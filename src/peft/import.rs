//! A PEFT folder as a store.

use std::path::PathBuf;

use serde::Serialize;

use super::factors::{Factors, Svd};
use super::folder::{WEIGHTS, read_config, read_tensors};
use super::modules::{Module, Modules, Naming};
use super::pairs::Adapters;
use crate::adapter::{Adapter, SiteBuffers};
use crate::backbone::{Backbone, Site};
use crate::bundle::{Bundle, check_labels, read_labels};
use crate::core::{Method, Sides};
use crate::error::{Error, ErrorKind, Result};
use crate::export::makes_finite;
use crate::session::store::RecordedLesson;
use crate::session::{Imported, Lesson, StoreWriter, fresh_adapter};

/// What is to be imported, and how.
#[derive(Debug, Clone)]
pub struct ImportRequest {
    /// The folder.
    pub peft: PathBuf,
    /// The store to make.
    pub output: PathBuf,
    /// A file with the classes of the head's rows, one a line, in their order, where the folder does not name them.
    pub labels: Option<PathBuf>,
    /// How modules are found.
    pub naming: Naming,
}

/// A module, and the site that it has become.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ImportedSite {
    /// The ONNX node's name.
    pub name: String,
    /// The path of the module in PyTorch.
    pub module: String,
    /// Its pairs in PEFT; 0: it has none.
    pub rank: usize,
    /// Whether some of them went into the delta.
    pub fused: bool,
    /// The largest difference of an element that the delta's rounding leaves.
    pub max_error: f32,
}

/// What `import` answers.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ImportReport {
    /// The store.
    pub store: String,
    /// Its generation.
    pub generation: u64,
    /// The sites, in graph order.
    pub sites: Vec<ImportedSite>,
    /// Its classes, in the order of the head's rows.
    pub classes: Vec<String>,
    /// Whether it is known that batch norms fit: by the network's weights, or as the folder says so. Otherwise the adapter was taken to be of
    /// a network whose batch norms are folded as the bundle's.
    pub matched: bool,
}

impl ImportReport {
    /// What may make the store answer otherwise than the network in PyTorch.
    pub fn warnings(&self) -> impl Iterator<Item = String> {
        let folded = "the adapter is taken to be of a network whose batch norms are folded as they are in the bundle; for one as PyTorch has \
                      it, give its weights with option `torch`";
        (!self.matched).then(|| folded.to_owned()).into_iter()
    }
}

/// Makes a store whose first generation is the adapter in a PEFT folder.
///
/// A module's (alpha / r) B A, or with rsLoRA (alpha / sqrt(r)) B A, times what a batch norm multiplies each row by where that is known,
/// becomes the site's pairs. Where it has more pairs than the bundle's rank, the largest singular triplets do, and the others go into the
/// delta, which rounds them.
///
/// # Errors
/// `Exists` for a store that is there; `Mismatch` for a folder that is damaged, of another kind than LoRA, or of another network;
/// `Usage` where classes are not named. Nothing has been written then. `Io`.
pub fn import_peft(bundle: &Bundle, request: &ImportRequest) -> Result<ImportReport> {
    let config = read_config(&request.peft)?;
    let weights = request.peft.join(WEIGHTS);
    let (tensors, provenance) = read_tensors(&weights)?;
    let backbone = bundle.backbone()?;
    let sites = bundle.sites_in(&backbone)?;
    let fault = |message: String| Error::new(ErrorKind::Mismatch, weights.display(), message);
    let known = provenance.as_ref().map(|provenance| provenance.modules.clone()).unwrap_or_default();
    let modules = Modules::find(bundle, &backbone, &sites, (&request.naming, &known))?;
    if let Some(provenance) = provenance.as_ref().filter(|own| own.unfolded != modules.are_unfolded()) {
        return Err(fault(match provenance.unfolded {
            true => {
                "is for a network whose batch norms are not folded as the bundle's are: give its weights with option `torch`"
                    .to_owned()
            }
            false => "is for a network whose batch norms are folded as the bundle's are: leave option `torch` out".to_owned(),
        }));
    }
    let mut adapters = Adapters::sort(&config, tensors, &modules).map_err(fault)?;
    let matched = request.naming.torch.is_some() || provenance.is_some();
    let named = match (&request.labels, provenance) {
        (Some(path), _) => Some(read_labels(path)?),
        (None, Some(own)) => {
            check_labels(&own.classes).map_err(|what| fault(format!("has classes that cannot be meant: it {what}")))?;
            Some(own.classes)
        }
        (None, None) => None,
    };
    let classes = adapters.classes(bundle, named)?;
    let lesson = Lesson { method: Method::Lora, pairs: Some(Sides::Both), ..Lesson::new(request.peft.as_path()) };
    let mut adapter = fresh_adapter(bundle, &lesson, classes.len())?;
    adapters.head_into(&mut adapter, bundle.feature_dim).map_err(fault)?;
    let mut described = Vec::with_capacity(sites.len());
    for (buffers, module) in adapter.sites.iter_mut().zip(&modules.sites) {
        let pairs = adapters.pairs_of(module, [buffers.shape.out_dim, buffers.shape.in_dim]).map_err(fault)?;
        described.push(take(buffers, module, pairs)?);
    }
    check_finite(bundle, &backbone, &sites, &adapter).map_err(fault)?;
    let max_error = described.iter().map(|site| site.max_error).fold(0.0, f32::max);
    let imported = Imported { format: "peft".to_owned(), max_error };
    let lesson = RecordedLesson::of(&lesson);
    let store = StoreWriter::create_imported(&request.output, &adapter, lesson, imported, (bundle, &classes))?;
    let generation = store.current();
    let store = request.output.display().to_string();
    Ok(ImportReport { store, generation, sites: described, classes, matched })
}

/// # Errors
/// A sentence, where pictures of noise come to values that are not finite.
fn check_finite(
    bundle: &Bundle,
    backbone: &Backbone,
    sites: &[Site],
    adapter: &Adapter,
) -> core::result::Result<(), String> {
    match makes_finite(bundle, backbone, sites, adapter) {
        Ok(true) => Ok(()),
        Ok(false) => Err("makes values that are not finite: its weights or its alpha cannot be meant".to_owned()),
        Err(e) => Err(format!("cannot be run beside the bundle's network: {e}")),
    }
}

/// Puts a product into a site, pairs first.
fn take(buffers: &mut SiteBuffers, module: &Module, pairs: Option<Factors>) -> Result<ImportedSite> {
    let (name, module) = (buffers.name.clone(), module.path.clone());
    let Some(factors) = pairs else {
        return Ok(ImportedSite { name, module, rank: 0, fused: false, max_error: 0.0 });
    };
    let rank = factors.rank;
    let (live, rest) = if rank <= buffers.shape.rank {
        (factors, None)
    } else {
        let shape = [buffers.shape.out_dim, buffers.shape.in_dim];
        let (live, rest) = Svd::of(&factors.product(shape), &name)?.cut(buffers.shape.rank);
        (live, Some(rest))
    };
    buffers.set_pairs(&live.a, &live.b);
    let max_error = rest.as_ref().map_or(Ok(0.0), |rest| buffers.fuse(rest))?;
    Ok(ImportedSite { name, module, rank, fused: rest.is_some(), max_error })
}
