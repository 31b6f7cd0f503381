//! Adapters before anything is learned.

use crate::adapter::{Adapter, SiteSeed, SiteSettings};
use crate::bundle::{Bundle, BundleSite};
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
            let shipped = bundle.directions(index);
            let [_, directions] = pairs_and_directions(site, bundle.rank, settings.sides);
            let directions = match settings.sides {
                Sides::Both => shipped.clone(),
                Sides::One => shipped.filled(directions, site.in_dim),
            };
            SiteSeed::new(&*site.name, [site.out_dim, site.in_dim], directions)
        })
    });
    Adapter::start(sites, bundle.rank, settings.unwrap_or_default(), classes, bundle.feature_dim)
}

/// How many pairs a site has, and how many directions they have to start on and to go on to: what ships, and for one-sided pairs at least
/// one more for each, as far as there are so many.
pub(crate) fn pairs_and_directions(site: &BundleSite, rank: usize, sides: Sides) -> [usize; 2] {
    let pairs = sides.pairs(rank, site.out_dim, site.in_dim);
    match sides {
        Sides::Both => [pairs, site.reserve],
        Sides::One => [pairs, site.reserve.max((2 * pairs).min(site.in_dim))],
    }
}
