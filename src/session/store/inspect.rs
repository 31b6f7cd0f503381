//! What a bundle or a store holds.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde::Serialize;

use super::history::History;
use super::{Record, Store};
use crate::bundle::{Bundle, BundleSite, Trust};
use crate::error::{Error, ErrorKind, Result};
use crate::session::policy::Event;

/// One site of a bundle or a store.
#[derive(Debug, Clone, Serialize)]
pub struct InspectedSite {
    /// Name, size and shipped directions.
    #[serde(flatten)]
    pub site: BundleSite,
    /// Directions that no pair of a store has used yet; null for a bundle.
    pub unused: Option<usize>,
    /// Directions of its pairs that a lesson has found in photos, in place of the shipped ones; null where none has. Then there are no
    /// unused ones: a further lesson finds them.
    pub found: Option<usize>,
}

/// What `inspect` answers; a key without a value is null.
#[derive(Debug, Clone, Serialize)]
pub struct Inspection {
    /// `bundle` or `store`.
    pub kind: String,
    /// The sites. A store lists those that it has pairs for.
    pub sites: Vec<InspectedSite>,
    /// Pairs per site; null for a store.
    pub rank: Option<usize>,
    /// Precision of the frozen weights.
    pub precision: String,
    /// sha256 of the backbone.
    pub backbone_sha256: String,
    /// The tensor that the head reads.
    pub features: Option<String>,
    /// How photos become inputs, in words.
    pub preprocess: Option<String>,
    /// The preset that does the same; null where none does.
    pub preset: Option<&'static str>,
    /// The model's own classes.
    pub labels: Option<Vec<String>>,
    /// A bundle's release.
    pub release: Option<u64>,
    /// Whether a bundle is signed.
    pub signed: Option<bool>,
    /// Whether its signature was checked, and is that of the key given.
    pub verified: bool,
    /// Size of a bundle.
    pub bytes: Option<u64>,
    /// A store's generation.
    pub generation: Option<u64>,
    /// A store's generations, the newest first: where a rollback can go.
    pub generations: Option<Vec<u64>>,
    /// The numbers of a store's lessons kept aside.
    pub aside: Option<Vec<u64>>,
    /// The steps of a store's lesson under way.
    pub steps_under_way: Option<u64>,
    /// A store's recompositions.
    pub events: Option<Vec<Event>>,
    /// How important each site's pairs were over a store's lesson; null unless it was asked for.
    pub importance: Option<BTreeMap<String, History>>,
    /// What a store learned, its sites and events aside.
    pub lesson: Option<Record>,
    /// Why a store's newest generation was passed over, or what is wrong with a bundle's preprocessing.
    pub warning: Option<String>,
}

/// Reads a bundle file, which `trust` must accept if it is given, or a store folder.
///
/// # Errors
/// `Io`, `Bundle` or `Store`, naming the file; `Usage` for trust in a store, which nobody signs.
pub fn inspect(path: &Path, trust: Option<&Trust>) -> Result<Inspection> {
    if path.is_dir() {
        if trust.is_some() {
            return Err(Error::new(ErrorKind::Usage, path.display(), "is a store: option `verify_key` is for bundles"));
        }
        return inspect_store(path);
    }
    let bundle = trust.map_or_else(|| Bundle::open(path), |trust| Bundle::open_trusted(path, trust))?;
    let warning = bundle.doubtful_preprocess();
    Ok(Inspection {
        kind: "bundle".to_owned(),
        rank: Some(bundle.rank),
        precision: bundle.precision,
        backbone_sha256: bundle.backbone_sha256,
        features: Some(bundle.features),
        preset: bundle.preprocess.preset().map(|preset| preset.name),
        preprocess: Some(bundle.preprocess.to_string()),
        labels: bundle.labels,
        release: bundle.release,
        signed: Some(bundle.is_signed),
        verified: trust.is_some(),
        bytes: fs::metadata(path).ok().map(|m| m.len()),
        sites: bundle.sites.into_iter().map(|site| InspectedSite { site, unused: None, found: None }).collect(),
        generation: None,
        generations: None,
        aside: None,
        steps_under_way: None,
        events: None,
        importance: None,
        lesson: None,
        warning,
    })
}

fn inspect_store(path: &Path) -> Result<Inspection> {
    let store = Store::open(path)?;
    let [generations, aside] = store.numbers()?;
    let mut record = store.record()?;
    let events = core::mem::take(&mut record.events);
    let sites = core::mem::take(&mut record.sites);
    let inspected = |site: BundleSite| {
        let [unused, found] = store.directions(&site.name)?;
        Ok(InspectedSite { unused, found, site })
    };
    Ok(Inspection {
        kind: "store".to_owned(),
        sites: sites.into_iter().map(inspected).collect::<Result<_>>()?,
        rank: None,
        precision: record.precision.clone(),
        backbone_sha256: record.backbone_sha256.clone(),
        features: None,
        preprocess: None,
        preset: None,
        labels: None,
        release: None,
        signed: None,
        verified: false,
        bytes: None,
        generation: Some(store.current()),
        generations: Some(generations),
        aside: Some(aside),
        steps_under_way: store.steps_under_way()?,
        events: Some(events),
        importance: None,
        lesson: Some(record),
        warning: store.warning(),
    })
}
