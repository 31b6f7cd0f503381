//! A store as a PEFT folder.

use std::path::PathBuf;
use std::time::Instant;

use serde::Serialize;

use super::factors::{Factors, PeftRank};
use super::folder::{CONFIG, PREFIX, Provenance, Tensor, WEIGHTS, config, write};
use super::modules::{Module, Modules, Naming};
use crate::adapter::Adapter;
use crate::backbone::{Backbone, Site};
use crate::bundle::{Bundle, check_output};
use crate::error::{Error, ErrorKind, Result};
use crate::session::{Generation, Store, peak_rss_bytes};

/// What is to be exported, and how.
#[derive(Debug, Clone)]
pub struct PeftRequest {
    /// The folder to make.
    pub output: PathBuf,
    /// Pairs of each module.
    pub rank: PeftRank,
    /// How modules are found.
    pub naming: Naming,
}

/// A site, and the module that it has become.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PeftSite {
    /// The ONNX node's name.
    pub name: String,
    /// The path of the module in PyTorch.
    pub module: String,
    /// Its pairs in PEFT.
    pub rank: usize,
    /// Whether a batch norm that the file has folded was undone.
    pub unfolded: bool,
    /// ||W - W'|| / ||W|| (Frobenius) of what was written against what was learned.
    pub error_fro: f64,
}

/// What `export --peft` answers.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PeftReport {
    /// `peft`.
    pub format: &'static str,
    /// What was written.
    pub files: Vec<PeftFile>,
    /// The sites, in graph order.
    pub sites: Vec<PeftSite>,
    /// The path of the classifier's module, which is saved whole.
    pub head: String,
    /// Its classes, in the order of its rows.
    pub classes: Vec<String>,
    /// Whether batch norms were looked for. Otherwise the adapter fits a network whose batch norms are folded as the file's are.
    pub matched: bool,
    /// Time taken.
    pub seconds: f64,
    /// The most memory that the process has taken; null where the system does not tell.
    pub peak_rss_bytes: Option<u64>,
}

/// A file that was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PeftFile {
    /// Where.
    pub path: String,
    /// Its size.
    pub bytes: u64,
}

/// Writes what `store` has learned as a folder that PEFT loads: for each site B A = D + scale (B A - B0 A0), divided row by row by what a
/// batch norm has multiplied where that is known; and the classifier (W x + b) / temperature.
///
/// Conv: lora_A `[r, in_channels, kh, kw]`, lora_B `[out, r, 1, 1]`. Linear: `[r, in]`, `[out, r]`. alpha = r, so that PEFT's factor is 1.
///
/// # Errors
/// `Exists` for an output that is there; `Mismatch` for a store of another bundle, one without pairs, or a site whose module is not known;
/// `Check` where what was written is not what was learned, though it should be. Nothing has been written then. `Unsynced`, `Io`.
pub fn export_peft(bundle: &Bundle, store: &Store, request: &PeftRequest) -> Result<PeftReport> {
    let begin = Instant::now();
    check_output(&request.output)?;
    let Generation { record, adapter } = store.load(bundle)?;
    if adapter.sites.is_empty() {
        let message = "has no pairs, so PEFT has nothing to load; export it with --onnx";
        return Err(Error::new(ErrorKind::Mismatch, store.path().display(), message));
    }
    let backbone = bundle.backbone()?;
    let sites = bundle.sites_in(&backbone)?;
    let modules = Modules::find(bundle, &backbone, &sites, &request.naming)?;
    let (mut tensors, mut described) = (Vec::new(), Vec::new());
    for ((site, module), at) in sites.iter().zip(&modules.sites).zip(0..) {
        let (factors, written) = written(&backbone, site, module, (&adapter, at), request)?;
        tensors.extend(pair_tensors(&backbone, site, module, factors));
        described.push(written);
    }
    let temperature = record.calibration.as_ref().map_or(1.0, |calibration| calibration.temperature);
    tensors.extend(head_tensors(&adapter, &modules.head, temperature));
    let ranks: Vec<(&str, usize)> = described.iter().map(|site| (&*site.module, site.rank)).collect();
    let (generation, classes) = (store.current(), record.classes);
    let provenance = Provenance { bundle_sha256: record.bundle_sha256, generation, classes: classes.clone() };
    write(&request.output, &config(&ranks, &modules.head), &tensors, &provenance)?;
    let file = |name| {
        let path = request.output.join(name);
        let bytes = path.metadata().map_err(|e| Error::io(&path, e))?.len();
        Ok(PeftFile { path: path.display().to_string(), bytes })
    };
    Ok(PeftReport {
        format: "peft",
        files: [CONFIG, WEIGHTS].into_iter().map(file).collect::<Result<_>>()?,
        sites: described,
        head: modules.head,
        classes,
        matched: request.naming.torch.is_some(),
        seconds: begin.elapsed().as_secs_f64(),
        peak_rss_bytes: peak_rss_bytes(),
    })
}

/// Where a product must be what was learned: the rounding of its sums in f32.
const EXACT: f64 = 1e-5;

/// The factors of a site for its module, and how far they are from what was learned.
fn written(
    backbone: &Backbone,
    site: &Site,
    module: &Module,
    (adapter, at): (&Adapter, usize),
    request: &PeftRequest,
) -> Result<(Factors, PeftSite)> {
    let missing = || Error::new(ErrorKind::Internal, &site.name, "has no pairs");
    let buffers = adapter.sites.get(at).ok_or_else(missing)?;
    let mut factors = Factors::learned(buffers, request.rank)?;
    let error_fro = factors.error(backbone.weight(site)?.view(), &buffers.change());
    if request.rank == PeftRank::Exact && error_fro > EXACT {
        let message = format!("would lose {error_fro:e} of its weight, so nothing is written; please report this");
        return Err(Error::new(ErrorKind::Check, &site.name, message));
    }
    for (row, scale) in factors.b.chunks_exact_mut(factors.rank.max(1)).zip(&module.scales) {
        row.iter_mut().for_each(|b| *b /= scale);
    }
    let described = PeftSite {
        name: site.name.clone(),
        module: module.path.clone(),
        rank: factors.rank,
        unfolded: !module.scales.is_empty(),
        error_fro,
    };
    Ok((factors, described))
}

fn pair_tensors(backbone: &Backbone, site: &Site, module: &Module, factors: Factors) -> [Tensor; 2] {
    let Factors { rank, a, b } = factors;
    let (out_dim, in_dim) = (b.len() / rank.max(1), a.len() / rank.max(1));
    let name = |side| format!("{PREFIX}{}.lora_{side}.weight", module.path);
    let [a_shape, b_shape] = match backbone.kernel(site) {
        Some([rows, columns]) => {
            [vec![rank, in_dim / (rows * columns).max(1), rows, columns], vec![out_dim, rank, 1, 1]]
        }
        None => [vec![rank, in_dim], vec![out_dim, rank]],
    };
    [Tensor { name: name('A'), shape: a_shape, values: a }, Tensor { name: name('B'), shape: b_shape, values: b }]
}

fn head_tensors(adapter: &Adapter, head: &str, temperature: f32) -> [Tensor; 2] {
    let (weight, bias) = adapter.head.weights();
    let cooled = |values: &[f32]| values.iter().map(|v| v / temperature).collect();
    let (classes, features) = (adapter.head.classes(), adapter.head.features());
    [
        Tensor { name: format!("{PREFIX}{head}.weight"), shape: vec![classes, features], values: cooled(weight) },
        Tensor { name: format!("{PREFIX}{head}.bias"), shape: vec![classes], values: cooled(bias) },
    ]
}
