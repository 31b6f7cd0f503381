//! What a store must do, told without files: any sequence of changes, with the power cut in any of them, against a few lines that
//! only remember what was acknowledged. For tests and the fuzzer.

use std::path::Path;
use std::sync::Arc;

use half::f16;

use super::replay::{Remembered, has_class};
use super::{Medium, Medley, Record, RecordedLesson, Series, Simulated, Standing, Store, StoreWriter};
use crate::adapter::{Adapter, DirectionsBuf, SiteSeed, SiteSettings};
use crate::error::Result;
use crate::session::replay::{Example, Replay};
use crate::session::settings::Lesson;

/// Where the store lies.
pub(super) const STORE: &str = "/simulated/store";
/// Changes that one sequence may have.
const MOST_CHANGES: usize = 48;

/// A head of three classes and two pairs, told apart by `salt`.
pub(super) fn adapter(salt: u64) -> Result<Adapter> {
    let halves = |n: usize| (0..n).map(|i| f16::from_f32((i as f32 * 0.7).sin())).collect();
    let directions = DirectionsBuf { sigma: vec![1.0; 4].into(), u: halves(4 * 6), v: halves(4 * 5) };
    let mut adapter = Adapter::start([SiteSeed::new("site", [6, 5], directions)], 2, SiteSettings::default(), 3, 6)?;
    let values = adapter.head.values_mut();
    values.iter_mut().enumerate().for_each(|(at, value)| *value = (salt * 100) as f32 + at as f32);
    for class in 0..3 {
        let mut features = [1.0; 6];
        features[class] += salt as f32;
        adapter.means.add(&features, class);
    }
    Ok(adapter)
}

/// Of a lesson of so many steps.
pub(super) fn record(steps: u64, parent: u64) -> Record {
    Record {
        bundle_sha256: String::new(),
        backbone_sha256: String::new(),
        precision: String::new(),
        sites: Vec::new(),
        lesson: RecordedLesson::of(&Lesson::new("photos")),
        parent,
        steps,
        trial: None,
        classes: ["a", "b", "c"].map(str::to_owned).into(),
        events: Vec::new(),
        calibration: None,
        replay: None,
        replayed_sha256: None,
        forgot: None,
        imported: None,
    }
}

/// An example of each class, told apart by `salt`.
fn replay(salt: u64) -> Result<Replay> {
    let mut replay = Replay::new(1 << 20);
    for class in 0..3 {
        replay.add(class, salt + class as u64, Example::of(&[1.0, salt as f32, -(class as f32)])?);
    }
    Ok(replay)
}

/// One thing that is done to a store.
#[derive(Debug, Clone, Copy)]
pub(super) enum Change {
    Create,
    Checkpoint(u64),
    Save(u64),
    Aside(u64),
    Rollback(Option<u64>),
    Forget(&'static str),
}

/// Does it as a process of its own would.
pub(super) fn change(medium: &Simulated, change: Change) -> Result<()> {
    let (medium, path): (Arc<dyn Medium>, _) = (Arc::new(medium.clone()), Path::new(STORE));
    if let Change::Create = change {
        return StoreWriter::create(medium, path, true, &adapter(0)?, (&mut record(0, 0), &Replay::default()))
            .map(drop);
    }
    let mut store = StoreWriter::open_on(medium, path)?;
    match change {
        Change::Create => Ok(()),
        Change::Checkpoint(step) => {
            let (base, standing) = (store.current(), Standing::announced(store.current()));
            store.checkpoint(&adapter(50 + step)?, None, &record(step, base), &standing).map(drop)
        }
        Change::Save(steps) => {
            let mut record = record(steps, store.current());
            record.replay = store.keep_replay(&replay(steps)?, &record)?;
            store.save(&adapter(steps)?, &record)?;
            store.end_lesson();
            Ok(())
        }
        Change::Aside(steps) => store.set_aside(&adapter(steps)?, &record(steps, store.current())).map(drop),
        Change::Rollback(to) => store.rollback(to).map(drop),
        Change::Forget(class) => store.forget(class),
    }
}

/// An empty medium with room for the store.
pub(super) fn medium() -> Simulated {
    Simulated::with_folder(Path::new("/simulated"))
}

/// The store, opened to be read.
pub(super) fn open(medium: &Simulated) -> Result<Store> {
    Store::open_on(Arc::new(medium.clone()), Path::new(STORE))
}

/// Steps and classes of what is current, its number, and what its examples show.
type Current = (u64, Vec<String>, u64, Vec<(usize, Vec<f32>)>);

fn current(medium: &Simulated) -> Option<Current> {
    let store = open(medium).ok()?;
    let record = store.record().ok()?;
    let examples = match store.replay(&record, false, u64::MAX).unwrap() {
        Remembered::Examples(replay, _) => replay.examples().map(|(class, _, e)| (class, e.values())).collect(),
        // All of its classes may have been forgotten since.
        Remembered::Nothing | Remembered::Gone(_) => Vec::new(),
    };
    Some((record.steps, record.classes, store.current(), examples))
}

/// Does what `bytes` say, two for a change and two more where the power is cut in it.
///
/// # Panics
/// Where the store does not hold what was acknowledged, or what was being done when the power went.
#[doc(hidden)]
pub fn operations(bytes: &[u8]) {
    let mut medium = medium();
    let mut bytes = bytes.iter().copied();
    let mut next = || bytes.next().map(u64::from);
    for _ in 0..MOST_CHANGES {
        let (Some(kind), Some(number)) = (next(), next()) else { return };
        let wanted = match kind % 8 {
            0 => Change::Create,
            1 => Change::Checkpoint(number),
            2 | 3 => Change::Save(number),
            4 => Change::Aside(number),
            5 => Change::Rollback(None),
            6 => Change::Rollback(Some(number)),
            _ => Change::Forget(["a", "b", "c"][number as usize % 3]),
        };
        let before = current(&medium);
        if kind & 0x80 == 0 {
            let done = change(&medium, wanted);
            let after = current(&medium);
            assert!(after.is_some() || before.is_none(), "{wanted:?} lost the store");
            assert!(
                done.is_ok() || after == before,
                "{wanted:?} failed and changed what is current: {before:?}, {after:?}"
            );
            match (&done, wanted) {
                (Ok(()), Change::Save(steps)) => {
                    let after = after.unwrap();
                    assert_eq!((after.0, after.3.len()), (steps, 3), "{wanted:?} is not current, with its examples");
                }
                (Ok(()), Change::Forget(class)) => {
                    assert!(after.is_some_and(|(_, classes, ..)| classes.iter().all(|known| known != class)));
                    let kept = Series::Replay.numbers(&medium, Path::new(STORE)).unwrap();
                    let has = |number: &u64| has_class(&medium, Path::new(STORE), *number, class);
                    assert_eq!(kept.into_iter().find(has), None, "examples of {class} are still there");
                }
                _ => {}
            }
            continue;
        }
        let (Some(at), Some(medley)) = (next(), next()) else { return };
        let whole = medium.after_cut(Medley::Kept);
        let _ = change(&whole, wanted);
        medium.cut_before(medium.changes() + 1 + at % 24);
        let _ = change(&medium, wanted);
        medium = medium.after_cut(match medley % 8 {
            0 => Medley::Lost,
            1 => Medley::Kept,
            2 => Medley::Names,
            3 => Medley::Torn,
            seed => Medley::Shuffled(seed * 31 + medley),
        });
        let after = current(&medium);
        assert!(after == before || after == current(&whole), "{wanted:?}, cut at {at}: {before:?} became {after:?}");
    }
}
