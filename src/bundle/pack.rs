//! From an ONNX file to a bundle: choose sites, compute their directions, check what was prepared, write one file.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Instant;

use super::{
    BACKBONE, Bundle, BundleSite, Container, DirectionsBuf, Kind, Preprocess,
    check::{Checked, check},
    check_output,
    directions::directions,
    input::{check_input, fit_input},
    packed::{PackReport, SiteReport, warnings},
    sha256,
    signature::{RELEASE, Signet},
};
use crate::autodiff::Network;
use crate::backbone::{Backbone, Precision, Rounding, Selection, Site, encode, inline};
use crate::error::{Error, ErrorKind, Result};
use crate::limits::{
    MOST_CLASSES, MOST_DIRECTIONS, MOST_LABEL_BYTES, MOST_MODEL_BYTES, MOST_NAME_BYTES, MOST_PAIRS, MOST_SITES,
};

/// Relative rounding error of a weight from which it is worth a warning: int8 codes of evenly spread weights lose 0.5 %.
const LOSSY: f64 = 0.02;

/// Share of a row's weights become 0 from which it is worth a warning: networks that keep their accuracy lose up to 14 %.
const EMPTIED: f64 = 0.3;

/// What to pack, and how.
#[derive(Debug, Clone)]
pub struct PackRequest {
    /// The ONNX file.
    pub model: PathBuf,
    /// The bundle to write.
    pub output: PathBuf,
    /// Pairs per site.
    pub rank: usize,
    /// DirectionsBuf per site.
    pub reserve: usize,
    /// `last:N`, `all`, or a regular expression over site names.
    pub sites: String,
    /// The tensor or node that the head reads; `None`: the input of the classifier's last layer, or else the model's output.
    pub features: Option<String>,
    /// A file with the model's own classes, one a line.
    pub labels: Option<PathBuf>,
    /// Height and width; `None`: what the model says.
    pub size: Option<[usize; 2]>,
    /// How photos become inputs; its size is replaced by the model's.
    pub preprocess: Preprocess,
    /// The precision in which the frozen weights ship.
    pub precision: Precision,
    /// The private key that signs it, a PEM file.
    pub sign: Option<PathBuf>,
    /// A number that grows from release to release.
    pub release: Option<u64>,
}

impl PackRequest {
    /// Pairs per site where nothing else is asked for.
    pub const DEFAULT_RANK: usize = 8;
    /// Directions per site where nothing else is asked for.
    pub const DEFAULT_RESERVE: usize = 32;
    /// The sites where nothing else is asked for.
    pub const DEFAULT_SITES: &str = "last:12";

    /// A model to pack with the default settings: its own precision and size, values of 0 to 1.
    #[must_use]
    pub fn new(model: impl Into<PathBuf>, output: impl Into<PathBuf>) -> Self {
        PackRequest {
            model: model.into(),
            output: output.into(),
            rank: Self::DEFAULT_RANK,
            reserve: Self::DEFAULT_RESERVE,
            sites: Self::DEFAULT_SITES.to_owned(),
            features: None,
            labels: None,
            size: None,
            preprocess: Preprocess::default(),
            precision: Precision::Keep,
            sign: None,
            release: None,
        }
    }
}

/// Packs a model; `advance` is told what is being worked on.
///
/// # Errors
/// Every check comes before the first byte is written: `Exists`, `Model`, `Usage`, `Sites`, `UnsupportedOp`, `Check`.
pub fn pack(request: &PackRequest, mut advance: impl FnMut(&str)) -> Result<PackReport> {
    let begin = Instant::now();
    check_output(&request.output)?;
    check_counts(request)?;
    let signet = request.sign.as_deref().map(Signet::read).transpose()?;
    let mut packing = Packing::read(request, &mut advance)?;
    packing.select()?;
    packing.find_directions(&mut advance)?;
    advance("checking forward pass and gradients");
    let Packing { backbone, sites, shipped, preprocess, .. } = &packing;
    let checked = check(backbone, sites, shipped, request.rank, preprocess)?;
    advance("writing");
    let mut container = packing.fill(checked.feature_dim)?;
    if let Some(signet) = signet {
        signet.sign(&mut container)?;
    }
    container.write_new(&request.output)?;
    packing.report(&checked, begin)
}

/// What a bundle is made from, as far as it is known.
struct Packing<'r> {
    request: &'r PackRequest,
    /// The file as it ships.
    bytes: Vec<u8>,
    backbone: Backbone,
    /// What its weights have lost in the precision that was asked for.
    rounding: Vec<Rounding>,
    preprocess: Preprocess,
    labels: Option<Vec<String>>,
    sites: Vec<Site>,
    /// Of each site.
    shipped: Vec<DirectionsBuf>,
    /// What to tell the user.
    notes: Vec<String>,
}

impl<'r> Packing<'r> {
    /// Reads the model, in the precision that it ships in, and what goes with it.
    fn read(request: &'r PackRequest, advance: &mut impl FnMut(&str)) -> Result<Self> {
        let source = read_file(&request.model, MOST_MODEL_BYTES, ErrorKind::Model)?;
        let source = inline(&source, &request.model)?.unwrap_or(source);
        let labels = request.labels.as_deref().map(read_labels).transpose()?;
        let subject = request.model.display().to_string();
        let read = |bytes: &[u8]| Backbone::read(bytes, &subject, request.features.as_deref(), request.size);
        let mut backbone = read(&source)?;
        let (mut bytes, mut rounding) = (source, Vec::new());
        if request.precision != Precision::Keep {
            advance("encoding weights");
            bytes = encode(&bytes, &subject, request.precision)?;
            let deployed = read(&bytes)?;
            rounding = deployed.rounding(&backbone);
            backbone = deployed;
        }
        let [height, width] = backbone.size();
        let mut notes = Vec::new();
        let preprocess = fit_input(&request.preprocess, &backbone, &mut notes)?;
        let preprocess = Preprocess { height, width, ..preprocess };
        preprocess.validate().map_err(|e| match (e.subject(), request.size) {
            ("option `input`", None) => {
                Error::new(ErrorKind::Model, &subject, format!("its image size of {}", e.message()))
            }
            _ => e,
        })?;
        check_input(&backbone, &subject)?;
        if let (Some(path), Some(labels)) = (&request.labels, &labels) {
            fit_outputs(path, labels, &backbone)?;
        }
        let (sites, shipped) = Default::default();
        Ok(Packing { request, bytes, backbone, rounding, preprocess, labels, sites, shipped, notes })
    }

    fn select(&mut self) -> Result<()> {
        let request = self.request;
        let Selection { sites, left_out } = self.backbone.select(&request.sites, request.rank)?;
        if sites.len() > MOST_SITES {
            let message = format!("selects {} sites; {MOST_SITES} are taken at most", sites.len());
            return Err(Error::new(ErrorKind::Sites, format_args!("option `sites` {}", request.sites), message));
        }
        self.notes.extend(left_out.iter().map(|map| format!("left out {}: {}", map.name, map.reason)));
        self.notes.extend(lossy(&self.rounding, request.precision));
        self.sites = sites;
        Ok(())
    }

    fn find_directions(&mut self, advance: &mut impl FnMut(&str)) -> Result<()> {
        let PackRequest { rank, reserve: asked, .. } = *self.request;
        let reserve = asked.max(rank);
        if reserve > asked {
            self.notes.push(format!(
                "option `reserve` {asked} is below option `rank` {reserve}: {reserve} directions ship, none of them to recompose along"
            ));
        }
        for site in &self.sites {
            advance(&format!("directions of {}", site.name));
            self.shipped.push(site_directions(&self.backbone, site, reserve)?);
        }
        self.notes.extend(clamped(asked, &self.sites, &self.shipped));
        Ok(())
    }

    /// The file, unsigned.
    fn fill(&self, feature_dim: usize) -> Result<Container<'_>> {
        let Packing { request, bytes, backbone, preprocess, labels, sites, shipped, .. } = self;
        let mut container = Container::new(Kind::Bundle);
        container.insert_u8(BACKBONE, &[bytes.len()], &**bytes)?;
        let mut listed = Vec::new();
        for (site, d) in sites.iter().zip(shipped) {
            let reserve = d.sigma.len();
            container.insert_f32(&format!("directions/{}/sigma", site.name), &[reserve], &*d.sigma)?;
            container.insert_f16(&format!("directions/{}/u", site.name), &[reserve, site.out_dim], &*d.u)?;
            container.insert_f16(&format!("directions/{}/v", site.name), &[reserve, site.in_dim], &*d.v)?;
            let Site { name, out_dim, in_dim, .. } = site.clone();
            listed.push(BundleSite { name, out_dim, in_dim, reserve });
        }
        let json = |value: serde_json::Result<String>| {
            value.map_err(|e| Error::new(ErrorKind::Internal, request.output.display(), e))
        };
        let entries = [
            ("backbone_sha256", sha256(bytes)),
            ("precision", backbone.precision().to_string()),
            ("rank", request.rank.to_string()),
            ("features", backbone.features().to_string()),
            ("feature_dim", feature_dim.to_string()),
            ("preprocess", json(serde_json::to_string(preprocess))?),
            ("labels", json(serde_json::to_string(&labels))?),
            ("sites", json(serde_json::to_string(&listed))?),
        ];
        container.metadata.extend(entries.map(|(key, value)| (key.to_string(), value)));
        container.metadata.extend(request.release.map(|release| (RELEASE.to_string(), release.to_string())));
        Ok(container)
    }

    /// What has been written.
    fn report(self, checked: &Checked, begin: Instant) -> Result<PackReport> {
        let Packing { request, bytes, backbone, rounding, preprocess, shipped, notes, .. } = self;
        let listed = Bundle::open(&request.output)?;
        let bundle_bytes = fs::metadata(&request.output).map_err(|e| Error::io(&request.output, e))?.len();
        let lost = |name: &str| rounding.iter().find(|lost| lost.name == name && lost.error > 0.0);
        let describe = |site: &BundleSite| SiteReport {
            name: site.name.clone(),
            out_dim: site.out_dim,
            in_dim: site.in_dim,
            reserve: site.reserve,
            rounding_error: lost(&site.name).map(|lost| lost.error),
            rounded_to_zero: lost(&site.name).map(|lost| lost.zeroed),
        };
        let resident = backbone.resident();
        Ok(PackReport {
            sites: listed.sites.iter().map(describe).collect(),
            rank: request.rank,
            features: backbone.features().to_string(),
            features_from: backbone.features_from(),
            feature_dim: checked.feature_dim,
            precision: backbone.precision(),
            backbone_bytes: bytes.len(),
            weight_bytes: resident.weight_bytes,
            f32_bytes: resident.f32_bytes,
            directions_bytes: shipped.iter().map(|d| 2 * (d.u.len() + d.v.len()) + 4 * d.sigma.len()).sum(),
            bundle_bytes,
            forward_error: checked.forward_error,
            gradient_error: checked.gradient_error,
            takes_bytes: backbone.image().is_bytes,
            seconds: begin.elapsed().as_secs_f64(),
            notes,
            warnings: warnings(&backbone, &preprocess),
        })
    }
}

/// Ranks and reserves that no site can have are refused before the model is read.
fn check_counts(request: &PackRequest) -> Result<()> {
    let refuse = |flag: &str, given: usize, message: String| {
        Err(Error::new(ErrorKind::Sites, format_args!("{flag} {given}"), message))
    };
    match (request.rank, request.reserve) {
        (0, _) => refuse("option `rank`", 0, "a site needs at least one pair".to_owned()),
        (rank, _) if rank > MOST_PAIRS => {
            refuse("option `rank`", rank, format!("a site has {MOST_PAIRS} pairs at most"))
        }
        (_, reserve) if reserve > MOST_DIRECTIONS => {
            refuse("option `reserve`", reserve, format!("{MOST_DIRECTIONS} directions ship for a site at most"))
        }
        _ => Ok(()),
    }
}

/// A whole file of at most `most` bytes; others are refused with `kind`.
pub(crate) fn read_file(path: &Path, most: u64, kind: ErrorKind) -> Result<Vec<u8>> {
    let refuse = |message: String| Err(Error::new(kind, path.display(), message));
    // Asked before opening: opening a pipe would wait for its other end.
    let about = fs::metadata(path).map_err(|e| Error::io(path, e))?;
    if !about.is_file() {
        let found = if about.is_dir() { "a folder" } else { "not a regular file" };
        return refuse(format!("is {found}, where one file is expected"));
    }
    let mut bytes = Vec::new();
    if about.len() <= most {
        bytes.reserve_exact(usize::try_from(about.len()).unwrap_or(0));
        let file = File::open(path).map_err(|e| Error::io(path, e))?;
        file.take(most + 1).read_to_end(&mut bytes).map_err(|e| Error::io(path, e))?;
    }
    if about.len() > most || bytes.len() as u64 > most {
        return refuse(match most >> 20 {
            0 => format!("is larger than {} KiB", most >> 10),
            mib => format!("is larger than {mib} MiB"),
        });
    }
    Ok(bytes)
}

/// The names in a file, one a line.
pub(crate) fn read_labels(path: &Path) -> Result<Vec<String>> {
    let refuse = |message: String| Err(Error::new(ErrorKind::Usage, path.display(), message));
    let Ok(text) = String::from_utf8(read_file(path, MOST_LABEL_BYTES, ErrorKind::Usage)?) else {
        return refuse("is not UTF-8 text; save it as such".to_owned());
    };
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    let labels: Vec<String> = text.lines().map(str::trim_end).map(str::to_string).collect();
    check_labels(&labels).map_err(|what| Error::new(ErrorKind::Usage, path.display(), what))?;
    Ok(labels)
}

/// Whether these can be the names of classes.
pub(crate) fn check_labels(labels: &[String]) -> std::result::Result<(), String> {
    if labels.is_empty() || labels.iter().any(String::is_empty) {
        return Err("needs one class name on every line".to_owned());
    }
    if labels.len() > MOST_CLASSES || labels.iter().any(|label| label.len() > MOST_NAME_BYTES) {
        return Err(format!("has more than {MOST_CLASSES} lines, or one of more than {MOST_NAME_BYTES} bytes"));
    }
    let mut seen = HashSet::new();
    match labels.iter().find(|label| !seen.insert(label.as_str())) {
        Some(twice) => Err(format!("names the class {twice} twice; every class needs a name of its own")),
        None => Ok(()),
    }
}

/// # Errors
/// Kind `Usage`, about the file `path`, where the model has another number of outputs than there are `labels`.
fn fit_outputs(path: &Path, labels: &[String], backbone: &Backbone) -> Result<()> {
    let outputs = Network::own_classifier(backbone)?.features();
    if outputs == labels.len() {
        return Ok(());
    }
    let message = format!("names {} classes, but the model has {outputs} outputs; one line for each", labels.len());
    Err(Error::new(ErrorKind::Usage, path.display(), message))
}

fn site_directions(backbone: &Backbone, site: &Site, reserve: usize) -> Result<DirectionsBuf> {
    let weight = backbone.weight(site)?;
    directions(weight.view(), reserve).map_err(|e| Error::new(e.kind(), &site.name, e.message()))
}

fn clamped(asked: usize, sites: &[Site], shipped: &[DirectionsBuf]) -> Vec<String> {
    let short = sites.iter().zip(shipped).filter(|(_, d)| d.sigma.len() < asked);
    short.map(|(site, d)| format!("{} has only {} directions, not {asked}", site.name, d.sigma.len())).collect()
}

/// Layers whose weights lose more than [`LOSSY`], or a row of them more than [`EMPTIED`], in the chosen precision.
fn lossy(rounding: &[Rounding], precision: Precision) -> Vec<String> {
    let next = if precision == Precision::Fp16 { "fp32" } else { "fp16" };
    let say = |Rounding { name, error, zeroed }: &Rounding| {
        let what = if *error > LOSSY {
            format!("loses {:.1} % of its weight", error * 100.0)
        } else if *zeroed > EMPTIED {
            format!("has a row whose outlier rounds {:.0} % of its weights to 0", zeroed * 100.0)
        } else {
            return None;
        };
        Some(format!("{name} {what} in this precision; if accuracy suffers, take {next}"))
    };
    rounding.iter().filter_map(say).collect()
}
