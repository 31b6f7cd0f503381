//! Arrays as a new generation of a store, which counts only if it is no worse.

use std::path::PathBuf;

use serde::Serialize;

use super::arrays::{Checked, SiteArrays, Trained, fault};
use crate::adapter::{Adapter, HeadBuffers, SiteBuffers};
use crate::bundle::Bundle;
use crate::core::{Method, Sides, Terms};
use crate::error::{Error, ErrorKind, Result};
use crate::export::makes_finite;
use crate::session::policy::Recognized;
use crate::session::progress::Audience;
use crate::session::run::Runner;
use crate::session::start::pairs_and_directions;
use crate::session::{
    Dataset, DirectionSource, Generation, Imported, Lesson, Record, RecordedLesson, StoreWriter, Trial, fresh_adapter,
};

/// What has become of arrays.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Adopted {
    /// The store's current generation.
    pub generation: u64,
    /// The number under which they were kept aside, where they were worse than what the store had.
    pub aside: Option<u64>,
    /// What they were judged by; null where no photo was held back of a class that the store knew.
    pub trial: Option<Trial>,
    /// The largest difference of an element that a delta's rounding leaves.
    pub max_error: f32,
    /// Steps of the lesson under way that was let go.
    pub let_go: Option<u64>,
}

/// Makes arrays the next generation of the store in the folder `store`, or a store's first one.
///
/// In a store that is there they are tried on the photos `held_back`, as a further lesson is ([`Trial`]): the store as it was against the
/// store with them, on photos of the classes that it knew, and asked for these alone. Where they are worse they are kept aside. A lesson
/// under way is let go. The store's examples stay.
///
/// # Errors
/// `Mismatch`, naming the array, the classes or the bundle: see [`Trained`]. Or a class that the store knows and that is not among the
/// arrays' classes. `Store`, `Io`, `Unsynced`, `Busy`. In all cases but `Unsynced` the store is as it was.
pub fn adopt(bundle: &Bundle, trained: Trained, store: impl Into<PathBuf>, held_back: &Dataset) -> Result<Adopted> {
    let (store, classes) = (store.into(), trained.classes.clone());
    let checked = trained.check(bundle, |site, sides| {
        pairs_and_directions(site, bundle.rank, &lesson(Some(sides)).pair_kind().sites)[0]
    })?;
    let lesson = lesson(checked.sides);
    let mut adapter = fresh_adapter(bundle, &lesson, classes.len())?;
    let max_error = fill(&mut adapter, checked)?;
    let backbone = bundle.backbone()?;
    let sites = bundle.sites_in(&backbone)?;
    if !makes_finite(bundle, &backbone, &sites, &adapter)? {
        let message = "make the network's values infinite, though each is finite; take this update out";
        return Err(fault("the arrays", message));
    }
    drop(backbone);
    let (lesson, imported) = (RecordedLesson::of(&lesson), Imported { format: "fleet".to_owned(), max_error });
    if !store.exists() {
        let made = StoreWriter::create_imported(&store, &adapter, lesson, imported, (bundle, &classes))?;
        return Ok(Adopted { generation: made.current(), aside: None, trial: None, max_error, let_go: None });
    }
    let mut writer = StoreWriter::open(&store)?;
    let let_go = writer.steps_under_way()?;
    let own = writer.load(bundle)?;
    let (parent, replay) = (writer.current(), own.record.replay);
    refuse_lost(&writer, &own.record, &classes)?;
    let trial = tried(bundle, own, (&adapter, &classes), held_back)?;
    let record = Record {
        parent,
        replay,
        trial,
        imported: Some(imported),
        ..Record::new(bundle, lesson, !adapter.sites.is_empty(), &classes)
    };
    let aside = match record.trial.as_ref().is_none_or(Trial::passed) {
        true => writer.save(&adapter, &record).map(|()| None)?,
        false => Some(writer.set_aside(&adapter, &record)?),
    };
    writer.end_lesson();
    Ok(Adopted { generation: writer.current(), aside, trial: record.trial, max_error, let_go })
}

/// The settings that pairs of a fleet are made with: along the bundle's directions, which every device has.
fn lesson(sides: Option<Sides>) -> Lesson {
    let lesson = Lesson::new("fleet");
    match sides {
        None => Lesson { method: Method::Head, ..lesson },
        Some(_) => Lesson { method: Method::Lora, pairs: sides, directions: Some(DirectionSource::Shipped), ..lesson },
    }
}

/// Puts arrays into an adapter at its start; the largest error that a delta's rounding leaves.
fn fill(adapter: &mut Adapter, checked: Checked) -> Result<f32> {
    let values = checked.weight.iter().chain(&checked.bias);
    adapter.head.values_mut().iter_mut().zip(values).for_each(|(own, value)| *own = *value);
    let mut worst = 0.0f32;
    for (site, arrays) in adapter.sites.iter_mut().zip(checked.sites) {
        worst = worst.max(fill_site(site, &arrays)?);
    }
    Ok(worst)
}

fn fill_site(site: &mut SiteBuffers, arrays: &SiteArrays) -> Result<f32> {
    site.set_pairs(arrays.a.as_deref().unwrap_or_default(), &arrays.b);
    let Some(delta) = &arrays.delta else { return Ok(0.0) };
    let shape = [site.shape.out_dim, site.shape.in_dim];
    let worst = site.fuse(&Dense { values: delta, shape })?;
    // A block's scale is f16: what is far above its largest value rounds to infinity.
    match site.scales.iter().all(|scale| scale.is_finite()) {
        true => Ok(worst),
        false => Err(fault(&format!("{}/delta", site.name), "holds values that are too large for a delta")),
    }
}

/// A matrix as rank-1 terms, the identity on its smaller side.
struct Dense<'d> {
    values: &'d [f32],
    shape: [usize; 2],
}

impl Dense<'_> {
    fn is_flat(&self) -> bool {
        self.shape[0] <= self.shape[1]
    }

    fn at(&self, row: usize, column: usize) -> f32 {
        self.values.get(row * self.shape[1] + column).copied().unwrap_or(0.0)
    }
}

impl Terms for Dense<'_> {
    fn count(&self) -> usize {
        self.shape[0].min(self.shape[1])
    }

    fn b(&self, term: usize, row: usize) -> f32 {
        if self.is_flat() { f32::from(u8::from(term == row)) } else { self.at(row, term) }
    }

    fn a(&self, term: usize, column: usize) -> f32 {
        if self.is_flat() { self.at(term, column) } else { f32::from(u8::from(term == column)) }
    }
}

/// Classes that a device knows do not vanish because a fleet does not know them.
fn refuse_lost(writer: &StoreWriter, record: &Record, classes: &[String]) -> Result<()> {
    let Some(lost) = record.classes.iter().find(|class| !classes.contains(class)) else { return Ok(()) };
    let message = format!(
        "knows the class {}, and the arrays do not: agree on classes that have it, or take it out with `forget`",
        lost.escape_debug()
    );
    Err(Error::new(ErrorKind::Mismatch, writer.path().display(), message))
}

/// The store as it was against what has come, on photos of the classes that it knew. Both are asked for these classes alone: a mean that
/// knows more is not worse for it. Where it does, it is asked for all of them too, as a new class may swallow the others.
fn tried(
    bundle: &Bundle,
    own: Generation,
    (adapter, classes): (&Adapter, &[String]),
    held_back: &Dataset,
) -> Result<Option<Trial>> {
    let Generation { record, adapter: was } = own;
    let (known, photos) = (&record.classes, held_back.of_classes(&record.classes));
    if photos.photos().is_empty() {
        return Ok(None);
    }
    let head = was.head.clone();
    let [before] = recognized(bundle, was, &photos, [&head])?;
    let all = known_first(&adapter.head, classes, known);
    let among_known = all.with_classes(known.len());
    let [after, of_all] = recognized(bundle, adapter.clone(), &photos, [&among_known, &all])?;
    let of_all = (classes.len() > known.len()).then(|| of_all.of_first(known.len()));
    Ok(Trial::of_held_back(&before, &after, of_all.as_ref(), known))
}

/// A head with its rows in another order: those of `known`, then the others.
fn known_first(head: &HeadBuffers, classes: &[String], known: &[String]) -> HeadBuffers {
    let place = |name: &String| classes.iter().position(|class| class == name);
    let others = (0..classes.len()).filter(|row| classes.get(*row).is_some_and(|class| !known.contains(class)));
    let order: Vec<usize> = known.iter().filter_map(place).chain(others).collect();
    let (weight, bias) = head.weights();
    let row = |row: &usize| weight.chunks_exact(head.features().max(1)).nth(*row).unwrap_or_default();
    let values = order.iter().flat_map(row).chain(order.iter().filter_map(|row| bias.get(*row)));
    let mut sorted = HeadBuffers::new(order.len(), head.features());
    sorted.values_mut().iter_mut().zip(values).for_each(|(own, value)| *own = *value);
    sorted
}

/// Of each of a head's classes, the photos that it recognizes.
fn recognized<const N: usize>(
    bundle: &Bundle,
    adapter: Adapter,
    photos: &Dataset,
    heads: [&HeadBuffers; N],
) -> Result<[Recognized; N]> {
    Runner::inference(bundle, adapter)?.tally(photos, heads, &mut Audience::nobody())
}
