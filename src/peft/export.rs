//! A store as a PEFT folder.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, RwLock};
use std::time::Instant;

use serde::Serialize;

use super::factors::{Factors, PeftRank};
use super::folder::{CONFIG, PREFIX, Provenance, Tensor, WEIGHTS, config, read_config, read_tensors, write};
use super::modules::{Module, Modules, Naming};
use super::pairs::Adapters;
use crate::adapter::{Adapter, SiteSettings};
use crate::autodiff::Network;
use crate::backbone::{Backbone, Site};
use crate::bundle::{Bundle, check_output};
use crate::error::{Error, ErrorKind, Result};
use crate::export::{Answers, Difference, ExportedFile, SelfCheck};
use crate::session::progress::Audience;
use crate::session::{Classifier, Dataset, Flow, Generation, Progress, Stop, Store, peak_rss_bytes};

/// Share of a weight that rounding has taken of the network itself, between PyTorch and the bundle, from which it is worth a warning.
const ROUNDED: f64 = 1e-3;

/// What is to be exported, and how.
#[derive(Debug, Clone)]
pub struct PeftRequest {
    /// The folder to make.
    pub output: PathBuf,
    /// Pairs of each module.
    pub rank: PeftRank,
    /// How modules are found.
    pub naming: Naming,
    /// Photos that the folder is checked with, whatever their classes; `None`: noise.
    pub photos: Option<Dataset>,
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
    /// ||W - W'|| / ||W|| (Frobenius) of the weight in PyTorch against the bundle's, where both are known: what rounding the bundle has cost.
    pub base_error_fro: Option<f64>,
    /// The same of what was written against what was learned.
    pub error_fro: f64,
    /// Values that were cut off: none, in f32.
    pub saturated: usize,
}

/// What `export --peft` answers.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PeftReport {
    /// `peft`.
    pub format: &'static str,
    /// What was written.
    pub files: Vec<ExportedFile>,
    /// The sites, in graph order.
    pub sites: Vec<PeftSite>,
    /// The path of the classifier's module, which is saved whole.
    pub head: String,
    /// Its classes, in the order of its rows.
    pub classes: Vec<String>,
    /// Whether batch norms were looked for. Otherwise the adapter fits a network whose batch norms are folded as the file's are.
    pub matched: bool,
    /// How far it is from the adapted network.
    #[serde(flatten)]
    pub check: SelfCheck,
    /// Time taken.
    pub seconds: f64,
    /// The most memory that the process has taken; null where the system does not tell.
    pub peak_rss_bytes: Option<u64>,
}

impl PeftReport {
    /// What may make the network in PyTorch answer otherwise.
    pub fn warnings(&self) -> impl Iterator<Item = String> {
        let folded = "the adapter fits a network whose batch norms are folded as they are in the bundle; for one as PyTorch has it, give its \
                      weights with option `torch`";
        let rounded = self.sites.iter().filter_map(|site| site.base_error_fro).fold(0.0, f64::max);
        let rounding = || {
            format!(
                "the bundle's weights are rounded, by up to {:.1} % of a weight, so the network in PyTorch answers a little otherwise",
                100.0 * rounded
            )
        };
        (!self.matched).then(|| folded.to_owned()).into_iter().chain((rounded > ROUNDED).then(rounding))
    }
}

/// Writes what `store` has learned as a folder that PEFT loads: for each site B A = D + scale (B A - B0 A0), divided row by row by what a
/// batch norm has multiplied where that is known; and the classifier (W x + b) / temperature.
///
/// Conv: lora_A `[r, in_channels, kh, kw]`, lora_B `[out, r, 1, 1]`. Linear: `[r, in]`, `[out, r]`. alpha = r, so that PEFT's factor is 1.
/// Before it has its name, the folder is read again: what it adds to each weight is compared with what was learned, and pictures go through
/// both networks.
///
/// # Errors
/// `Exists` for an output that is there; `Mismatch` for a store of another bundle, one without pairs, or a site whose module is not known;
/// `Check` where what was written is not what was learned, though it should be. Nothing has been written then. `Unsynced`, `Io`.
pub fn export_peft<A: Into<Flow>>(
    bundle: &Bundle,
    store: &Store,
    request: &PeftRequest,
    observer: &mut impl FnMut(Progress<'_>) -> A,
) -> Result<PeftReport> {
    let begin = Instant::now();
    check_output(&request.output)?;
    let (mut observer, stop) = (|progress: Progress<'_>| observer(progress).into(), Stop::default());
    let audience = &mut Audience::of(&mut observer, &stop);
    let answers = Answers::of(&mut Classifier::new(bundle, Some(store))?, bundle, request.photos.as_ref(), audience)?;
    let learned = Learned::open(bundle, store, request)?;
    let (tensors, ranks) = learned.tensors(request)?;
    let pairs: Vec<(&str, usize)> =
        learned.modules.sites.iter().map(|module| &*module.path).zip(ranks.clone()).collect();
    let Generation { record, .. } = &learned.generation;
    let provenance = Provenance {
        bundle_sha256: record.bundle_sha256.clone(),
        generation: store.current(),
        classes: record.classes.clone(),
        modules: learned.modules.named(&learned.sites),
        unfolded: learned.modules.are_unfolded(),
    };
    let settings = config(&pairs, &learned.modules.head);
    let (errors, difference) = write(&request.output, &settings, (&tensors, &provenance), |folder| {
        learned.check(folder, bundle, request, (&answers, audience))
    })?;
    let site = |((site, module), (error_fro, rank)): ((&Site, &Module), (f64, usize))| PeftSite {
        name: site.name.clone(),
        module: module.path.clone(),
        rank,
        unfolded: !module.scales.is_empty(),
        base_error_fro: module.distance,
        error_fro,
        saturated: 0,
    };
    let sites = learned.sites.iter().zip(&learned.modules.sites).zip(errors.into_iter().zip(ranks)).map(site).collect();
    Ok(PeftReport {
        format: "peft",
        files: [CONFIG, WEIGHTS].into_iter().map(|name| file(request, name)).collect::<Result<_>>()?,
        sites,
        head: learned.modules.head,
        classes: provenance.classes,
        matched: request.naming.torch.is_some(),
        check: answers.outcome(&difference, request.photos.is_none()),
        seconds: begin.elapsed().as_secs_f64(),
        peak_rss_bytes: peak_rss_bytes(),
    })
}

fn file(request: &PeftRequest, name: &str) -> Result<ExportedFile> {
    let path = request.output.join(name);
    let bytes = path.metadata().map_err(|e| Error::io(&path, e))?.len();
    Ok(ExportedFile { path: path.display().to_string(), bytes })
}

/// The largest relative error of a weight whose pairs are exact: the rounding of sums in f32.
pub(crate) const EXACT: f64 = 1e-5;

/// A frozen network, its modules, and what was learned beside it.
struct Learned {
    backbone: Backbone,
    sites: Vec<Site>,
    modules: Modules,
    generation: Generation,
}

impl Learned {
    fn open(bundle: &Bundle, store: &Store, request: &PeftRequest) -> Result<Self> {
        let generation = store.load(bundle)?;
        if generation.adapter.sites.is_empty() {
            let message = "has no pairs, so PEFT has nothing to load; export it with --onnx";
            return Err(Error::new(ErrorKind::Mismatch, store.path().display(), message));
        }
        let backbone = bundle.backbone()?;
        let sites = bundle.sites_in(&backbone)?;
        let modules = Modules::find(bundle, &backbone, &sites, (&request.naming, &BTreeMap::new()))?;
        Ok(Learned { backbone, sites, modules, generation })
    }

    /// All tensors, and the pairs of each module.
    fn tensors(&self, request: &PeftRequest) -> Result<(Vec<Tensor>, Vec<usize>)> {
        let Generation { record, adapter } = &self.generation;
        let (mut tensors, mut ranks) = (Vec::new(), Vec::new());
        for ((site, module), buffers) in self.sites.iter().zip(&self.modules.sites).zip(&adapter.sites) {
            let mut factors = Factors::learned(buffers, request.rank)?;
            for (row, scale) in factors.b.chunks_exact_mut(factors.rank.max(1)).zip(&module.scales) {
                row.iter_mut().for_each(|b| *b /= scale);
            }
            ranks.push(factors.rank);
            tensors.extend(pair_tensors(&self.backbone, site, module, factors));
        }
        let temperature = record.calibration.as_ref().map_or(1.0, |calibration| calibration.temperature);
        tensors.extend(head_tensors(adapter, &self.modules.head, temperature));
        Ok((tensors, ranks))
    }

    /// Reads the folder as PEFT does. Of each site, ||W - W'|| / ||W|| (Frobenius) of what it comes to; and how far probabilities are apart.
    fn check(
        &self,
        folder: &Path,
        bundle: &Bundle,
        request: &PeftRequest,
        (answers, audience): (&Answers, &mut Audience),
    ) -> Result<(Vec<f64>, Difference)> {
        let told = |what: String| Error::new(ErrorKind::Check, "the folder that was written", what);
        let settings = read_config(folder)?;
        let mut written =
            Adapters::sort(&settings, read_tensors(&folder.join(WEIGHTS))?.0, &self.modules).map_err(told)?;
        let (mut backbone, mut errors) = (self.backbone.clone(), Vec::new());
        for ((site, module), buffers) in self.sites.iter().zip(&self.modules.sites).zip(&self.generation.adapter.sites)
        {
            let shape = [site.out_dim, site.in_dim];
            let factors = written.pairs_of(module, shape).map_err(told)?;
            let factors = factors.ok_or_else(|| told(format!("has no pairs for `{}`", module.path)))?;
            let error = factors.error(self.backbone.weight(site)?.view(), &buffers.change());
            if request.rank == PeftRank::Exact && error > EXACT {
                let message = format!(
                    "`{}` would lose {error:e} of its weight, so nothing is kept; please report this",
                    module.path
                );
                return Err(told(message));
            }
            backbone.add_to_weight(site, &factors.dense(shape));
            errors.push(error);
        }
        let classes = answers.classes();
        let mut plain = Adapter::start([], bundle.rank, SiteSettings::default(), classes, bundle.feature_dim)?;
        written.head_into(&mut plain, bundle.feature_dim).map_err(told)?;
        let head = plain.head.clone();
        let network = Network::inference(&backbone, &[], &Arc::new(RwLock::new(plain)))?;
        let difference =
            answers.compare_with(network, &bundle.preprocess, audience, |features| head.logits(&features))?;
        Ok((errors, difference))
    }
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
    let [weight, bias] = adapter.head.cooled(temperature);
    let (classes, features) = (adapter.head.classes(), adapter.head.features());
    [
        Tensor { name: format!("{PREFIX}{head}.weight"), shape: vec![classes, features], values: weight },
        Tensor { name: format!("{PREFIX}{head}.bias"), shape: vec![classes], values: bias },
    ]
}
