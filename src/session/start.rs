//! Adapters before anything is learned.

use crate::adapter::{Adapter, DirectionsBuf, SiteSeed, SiteSettings};
use crate::bundle::{Bundle, BundleSite};
use crate::core::{Sides, Start};
use crate::error::{Error, ErrorKind, Result};
use crate::limits::{MOST_DIRECTION_VALUES, MOST_DIRECTIONS};
use crate::session::settings::{DirectionSource, Lesson, PairKind};

/// An adapter at its start, as the lesson's method wants it.
///
/// # Errors
/// As of [`start_adapter`].
pub(crate) fn fresh_adapter(bundle: &Bundle, lesson: &Lesson, classes: usize) -> Result<Adapter> {
    let trains_pairs = lesson.method.settings().trains_pairs;
    start_adapter(bundle, trains_pairs.then(|| lesson.pair_kind()), classes)
}

/// An adapter with all pairs made in such a way, or with none.
///
/// # Errors
/// Kind `Sites` where a rank or a reserve does not fit a site, or directions that do not ship are more than [`MOST_DIRECTION_VALUES`].
pub(crate) fn start_adapter(bundle: &Bundle, kind: Option<PairKind>, classes: usize) -> Result<Adapter> {
    let sites: &[BundleSite] = if kind.is_some() { &bundle.sites } else { &[] };
    let PairKind { sites: settings, directions: source } = kind.unwrap_or_default();
    let needed = |site: &BundleSite| pairs_and_directions(site, bundle.rank, &settings)[1];
    let values: usize = sites.iter().map(|site| needed(site).saturating_mul(site.in_dim)).sum();
    if settings.sides == Sides::One && values > MOST_DIRECTION_VALUES {
        let message = format!(
            "is one-sided, and the directions of so many pairs have {values} values, above {MOST_DIRECTION_VALUES}; pack with a smaller \
             option `rank` or fewer option `sites`"
        );
        return Err(Error::new(ErrorKind::Sites, "option `pairs`", message));
    }
    let seeds = sites.iter().enumerate().map(|(index, site)| {
        let shipped = bundle.directions(index);
        let directions = match (settings.sides, settings.start, source) {
            (Sides::Both, ..) => shipped.clone(),
            (Sides::One, Start::Aligned, DirectionSource::Shipped) => shipped.filled(needed(site), site.in_dim),
            // A random start reads none, and the lesson finds others.
            (Sides::One, ..) => DirectionsBuf::blank(needed(site), site.in_dim),
        };
        SiteSeed::new(&*site.name, [site.out_dim, site.in_dim], directions)
    });
    Adapter::start(seeds, bundle.rank, settings, classes, bundle.feature_dim)
}

/// How many pairs a site has, and how many directions they have to start on and to go on to: what ships, and for one-sided pairs at least
/// one more for each, as far as there are so many.
pub(crate) fn pairs_and_directions(site: &BundleSite, rank: usize, settings: &SiteSettings) -> [usize; 2] {
    let pairs = settings.pairs(rank, [site.out_dim, site.in_dim]);
    match settings.sides {
        Sides::Both => [pairs, site.reserve],
        Sides::One => [pairs, site.reserve.max(2 * pairs).min(site.in_dim).min(MOST_DIRECTIONS)],
    }
}
