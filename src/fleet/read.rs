//! What a store's current generation has trained.

use super::arrays::{BIAS, NamedArray, Trained, WEIGHT};
use crate::adapter::SiteBuffers;
use crate::bundle::Bundle;
use crate::core::{Sides, Start};
use crate::error::{Error, ErrorKind, Result};
use crate::session::{Generation, Store};

/// The arrays of [`Trained`] of a store's current generation.
///
/// Where A stays on its directions it is not among them, so these have to be the bundle's, in the bundle's order: the same on every device.
///
/// # Errors
/// Kind `Mismatch` for a store of another bundle, and for pairs that arrays without A would not tell: along directions that the lesson
/// has found in this device's photos, along others than they started on, or that started on principal components. `Store` where a
/// tensor does not fit.
pub fn trained(bundle: &Bundle, store: &Store) -> Result<Trained> {
    let Generation { record, adapter } = store.load(bundle)?;
    let start = record.lesson.pair_kind().map(|kind| kind.sites.start);
    let mut arrays = Vec::with_capacity(3 * adapter.sites.len() + 2);
    for site in &adapter.sites {
        if let Some(what) = cannot_be_told(site, start) {
            let advice = "train with option `directions` shipped, option `start` aligned and option `interval` 0";
            return Err(Error::new(ErrorKind::Mismatch, &site.name, format_args!("{what}; {advice}")));
        }
        push_site(&mut arrays, site);
    }
    let (classes, features) = (adapter.head.classes(), adapter.head.features());
    let (weight, bias) = adapter.head.weights();
    let array = |key: &str, shape: &[usize], values: &[f32]| NamedArray {
        key: key.to_owned(),
        shape: shape.to_vec(),
        values: values.to_vec(),
    };
    arrays.push(array(WEIGHT, &[classes, features], weight));
    arrays.push(array(BIAS, &[classes], bias));
    Ok(Trained { bundle_sha256: record.bundle_sha256, classes: record.classes, arrays })
}

/// Why arrays would not say what a site's pairs do.
fn cannot_be_told(site: &SiteBuffers, start: Option<Start>) -> Option<&'static str> {
    let is_one_sided = site.shape.sides == Sides::One;
    match start {
        Some(Start::Principal) => return Some("has pairs that have started on principal components"),
        Some(Start::Random { .. }) if is_one_sided => return Some("has pairs along random directions"),
        _ => {}
    }
    if is_one_sided && site.found().is_some() {
        return Some("has pairs along directions that were found in this device's photos, which no other device has");
    }
    let moved = || site.ledger.directions().iter().enumerate().any(|(pair, &on)| usize::from(on) != pair);
    (is_one_sided && moved()).then_some("has pairs that were started anew on other directions")
}

fn push_site(arrays: &mut Vec<NamedArray>, site: &SiteBuffers) {
    let (name, [rows, columns]) = (&site.name, [site.shape.out_dim, site.shape.in_dim]);
    let [a, b] = site.learned_pairs();
    let mut push = |what: &str, shape: [usize; 2], values: Vec<f32>| {
        arrays.push(NamedArray { key: format!("{name}/{what}"), shape: shape.to_vec(), values });
    };
    push("b", [rows, site.shape.rank], b);
    if site.shape.sides == Sides::Both {
        push("a", [site.shape.rank, columns], a);
    }
    if site.has_merged() {
        push("delta", [rows, columns], site.merged());
    }
}
