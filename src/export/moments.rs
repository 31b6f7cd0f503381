//! What the sites of an adapted network read: it decides which way weights in int8 are rounded.

use std::sync::{Arc, RwLock};

use crate::adapter::Moment;
use crate::backbone::SharedAdapter;
use crate::bundle::Bundle;
use crate::error::Result;
use crate::session::progress::Audience;
use crate::session::replay::Replay;
use crate::session::run::{Resources, Runner, View, view};
use crate::session::store::Remembered;
use crate::session::{Dataset, Photo, Progress, Store};

/// Photos that are looked at, at most: their positions are thousands of examples of what a site reads.
const MOST_LOOKED_AT: usize = 128;

/// The second moment of what each site reads, of the examples that the store has kept, or where it has none, of the photos of `data`. Nothing
/// where there is neither, or where no weight is to be rounded.
///
/// # Errors
/// Kind `Stopped` where it is stopped; those of store and network.
pub(super) fn moments(
    bundle: &Bundle,
    store: &Store,
    data: Option<&Dataset>,
    audience: &mut Audience,
) -> Result<Vec<Option<Moment>>> {
    let generation = store.load(bundle)?;
    if bundle.precision != "int8" || generation.adapter.sites.is_empty() {
        return Ok(Vec::new());
    }
    let replay = match store.replay(&generation.record, true, u64::MAX) {
        Ok(Remembered::Examples(replay, _)) => replay,
        Ok(Remembered::Nothing) => Replay::default(),
        Ok(Remembered::Gone(why)) => unused(why, audience),
        Err(error) => unused(&error.to_string(), audience),
    };
    let photos: Vec<Photo> = match data.filter(|_| replay.is_empty()) {
        Some(data) => data.photos().to_vec(),
        None => replay.examples().zip(0..).map(|((class, key, _), at)| Photo::replayed(at, class, key)).collect(),
    };
    if photos.is_empty() {
        return Ok(Vec::new());
    }
    let every = photos.len().div_ceil(MOST_LOOKED_AT);
    let looked: Vec<View> = photos.iter().step_by(every).map(|photo| view(photo, None)).collect();
    let adapter: SharedAdapter = Arc::new(RwLock::new(generation.adapter));
    let plan = Runner::plan(bundle, &adapter, None)?;
    let mut runner = Runner::start(&plan, adapter, bundle, &Resources::remembering(replay))?;
    audience.tell(Progress::Begin { phase: "what the sites read", total: looked.len() as u64 });
    let moments = runner.find_moments(looked, audience)?;
    audience.tell(Progress::End);
    Ok(moments)
}

/// No examples, and why; weights can be rounded without.
fn unused(why: &str, audience: &mut Audience) -> Replay {
    audience.tell(Progress::Warning(&format!("the store's examples are not used: {why}")));
    Replay::default()
}
