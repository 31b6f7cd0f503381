//! Adapters before anything is learned.

use crate::adapter::{Adapter, SiteSeed, SiteSettings};
use crate::bundle::Bundle;
use crate::core::Start;
use crate::error::Result;
use crate::session::settings::Lesson;

/// An adapter at its start, as the lesson's method wants it.
pub(crate) fn fresh_adapter(bundle: &Bundle, lesson: &Lesson, classes: usize) -> Result<Adapter> {
    let settings = lesson.method.settings();
    let start = settings.trains_pairs.then_some(lesson.start.unwrap_or(settings.start));
    start_adapter(bundle, start, classes)
}

/// An adapter with all pairs on such a start, or with none.
pub(crate) fn start_adapter(bundle: &Bundle, start: Option<Start>, classes: usize) -> Result<Adapter> {
    let mut seeds = Vec::new();
    if start.is_some() {
        for (index, site) in bundle.sites.iter().enumerate() {
            seeds.push(SiteSeed::new(&*site.name, [site.out_dim, site.in_dim], bundle.directions(index).clone()));
        }
    }
    let site_settings = SiteSettings { start: start.unwrap_or_default(), ..SiteSettings::default() };
    Adapter::start(seeds, bundle.rank, site_settings, classes, bundle.feature_dim)
}
