//! Adapters before anything is learned.

use crate::adapter::{Adapter, SiteSeed, SiteSettings};
use crate::bundle::Bundle;
use crate::core::Sides;
use crate::error::Result;
use crate::session::settings::Lesson;

/// An adapter at its start, as the lesson's method wants it.
pub(crate) fn fresh_adapter(bundle: &Bundle, lesson: &Lesson, classes: usize) -> Result<Adapter> {
    let trains_pairs = lesson.method.settings().trains_pairs;
    start_adapter(bundle, trains_pairs.then(|| lesson.site_settings()), classes)
}

/// An adapter with all pairs made in such a way, or with none.
pub(crate) fn start_adapter(bundle: &Bundle, settings: Option<SiteSettings>, classes: usize) -> Result<Adapter> {
    let sites = settings.iter().flat_map(|settings| {
        bundle.sites.iter().enumerate().map(|(index, site)| {
            let [out_dim, in_dim] = [site.out_dim, site.in_dim];
            let directions = match settings.sides {
                Sides::Both => bundle.directions(index).clone(),
                one => bundle.directions(index).filled(2 * one.pairs(bundle.rank, out_dim, in_dim), in_dim),
            };
            SiteSeed::new(&*site.name, [out_dim, in_dim], directions)
        })
    });
    Adapter::start(sites, bundle.rank, settings.unwrap_or_default(), classes, bundle.feature_dim)
}
