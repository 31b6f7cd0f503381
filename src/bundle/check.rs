//! Whether a network computes what its file says, and learns as it should, before it ships.

use std::sync::{Arc, PoisonError, RwLock};

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::{DirectionsBuf, Preprocess};
use crate::adapter::{Adapter, SiteSeed, SiteSettings};
use crate::autodiff::{Network, check_forward, check_gradients};
use crate::backbone::{Backbone, FeaturesFrom, SharedAdapter, Site};
use crate::error::{Error, ErrorKind, Result};
use crate::limits::MOST_FEATURES;

/// Classes of the made-up task that the gradient check trains for.
const CHECK_CLASSES: usize = 4;
/// Points at which gradients are tried until they agree: one may lie on a kink, where a derivative has two values; a wrong rule is
/// off at all of them.
const GRADIENT_POINTS: u32 = 3;

/// What the checks have found.
pub(super) struct Checked {
    pub(super) feature_dim: usize,
    pub(super) forward_error: f32,
    pub(super) gradient_error: f64,
}

/// Prepares the network as training will, and compares it with the file and with finite differences.
pub(super) fn check(
    backbone: &Backbone,
    sites: &[Site],
    shipped: &[DirectionsBuf],
    rank: usize,
    preprocess: &Preprocess,
) -> Result<Checked> {
    let settings = SiteSettings::default();
    let seeds = sites.iter().zip(shipped).map(|(s, d)| SiteSeed::new(&*s.name, [s.out_dim, s.in_dim], d.clone()));
    let feature_dim = backbone.feature_dim()?;
    if feature_dim > MOST_FEATURES {
        let message =
            format!("has {feature_dim} values, above the limit of {MOST_FEATURES}; choose other option `features`");
        return Err(Error::new(ErrorKind::Model, backbone.features(), message));
    }
    let adapter = Adapter::start(seeds, rank, settings, CHECK_CLASSES, feature_dim)?;
    let mut random = ChaCha8Rng::seed_from_u64(0);
    let batch = backbone.batch().max(1);
    let image: Vec<u8> = (0..3 * preprocess.height * preprocess.width).map(|_| random.random()).collect();
    let images: Vec<f32> = (0..batch).flat_map(|_| preprocess.normalize(&image)).collect();
    let labels: Vec<i64> = (0..batch).map(|n| (n % CHECK_CLASSES) as i64).collect();
    let mut away = start_away(&adapter, shipped, &mut random);
    let shared: SharedAdapter = Arc::new(RwLock::new(adapter.clone()));
    let mut network = Network::training(backbone, sites, &shared)?;
    let forward_error = check_forward(backbone, &mut network, &images)?;
    let mut points = 1;
    let gradient_error = loop {
        shared.write().unwrap_or_else(PoisonError::into_inner).clone_from(&away);
        match check_gradients(&mut network, &shared, sites, &images, &labels) {
            Err(error) if error.kind() == ErrorKind::Check && points < GRADIENT_POINTS => points += 1,
            checked => break checked?,
        }
        away = start_away(&adapter, shipped, &mut random);
    };
    check_classifier(backbone, &images)?;
    Ok(Checked { feature_dim, forward_error, gradient_error })
}

/// Runs the model to its own output once, where that is a classifier. What stands behind features that were named need not run: that may
/// be why they were named.
fn check_classifier(backbone: &Backbone, images: &[f32]) -> Result<()> {
    match backbone.has_classifier() {
        Ok(true) => {}
        Ok(false) => return Ok(()),
        Err(_) if backbone.features_from() == FeaturesFrom::Flag => return Ok(()),
        Err(error) => return Err(error),
    }
    let mut classifier = Network::own_classifier(backbone)?;
    let boundary = classifier.prefix(images)?;
    let scores = classifier.forward(&boundary)?;
    if scores.iter().all(|score| score.is_finite()) {
        return Ok(());
    }
    let message = "the model's own output is not finite for a random image; the file is damaged";
    Err(Error::new(ErrorKind::Check, backbone.output(), message))
}

/// A copy of the adapter with pairs away from their start, b a tenth of its direction's singular value, and a head that
/// is not even: somewhere where every gradient is alive.
fn start_away(adapter: &Adapter, shipped: &[DirectionsBuf], random: &mut ChaCha8Rng) -> Adapter {
    let mut away = adapter.clone();
    for (site, directions) in away.sites.iter_mut().zip(shipped) {
        let (rank, out_dim, in_dim) = (site.shape.rank, site.shape.out_dim, site.shape.in_dim);
        let b_t = &mut site.values_mut()[rank * in_dim..];
        for (pair, row) in b_t.chunks_exact_mut(out_dim).enumerate() {
            let size = 0.1 * directions.sigma[pair] * (12.0 / out_dim as f32).sqrt();
            row.iter_mut().for_each(|b| *b = size * (random.random::<f32>() - 0.5));
        }
    }
    let features = away.head.features() as f32;
    away.head.values_mut().iter_mut().for_each(|w| *w = (random.random::<f32>() - 0.5) * (12.0 / features).sqrt());
    away
}
