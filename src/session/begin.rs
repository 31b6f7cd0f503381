//! What a lesson finds when it begins, and what of it is kept.

use std::sync::atomic::AtomicBool;

use super::added::AtStart;
use super::dataset::{Dataset, order};
use super::evaluate::{Evaluation, Recognized};
use super::keep::Keep;
use super::lesson::{Lesson, Observer, Progress};
use super::look::Seen;
use super::metrics::Journal;
use super::opening::Opening;
use super::plan::Plan;
use super::runner::Runner;
use super::steps::judge;
use super::store::{Standing, StoreWriter};
use super::train::start_adapter;
use super::trial::Before;
use crate::bundle::Bundle;
use crate::core::IMPRINT_SCALE;
use crate::error::Result;

/// What is there when the first step, or the next, can be taken.
pub(super) struct Begun {
    pub(super) store: StoreWriter,
    pub(super) journal: Journal,
    /// What was there before the lesson's first step.
    pub(super) before: Before,
    /// What was measured just now.
    pub(super) measured: Option<Evaluation>,
}

/// A further lesson with the settings of the one before is told from it by its checkpoint alone, so one is there from its first
/// moment.
pub(super) fn announce(opening: &Opening, runner: &Runner, keep: &Keep, plan: &Plan) -> Result<()> {
    match &opening.store {
        Some(store) if keep.further && !opening.resumes && plan.steps > 0 => {
            store.checkpoint(&runner.adapter(), None, &opening.record, &Standing::announced(store.current())).map(drop)
        }
        _ => Ok(()),
    }
}

/// Keeps the class means of a lesson's photos in the adapter, and those of the backbone's own features too; of a further lesson, how
/// its photos look with the pairs at their start, where the store has pairs that have learned.
pub(super) fn remember(
    runner: &mut Runner,
    bundle: &Bundle,
    opening: &Opening,
    seen: &Seen,
    stop: &AtomicBool,
    observer: &mut Observer,
) -> Result<Option<AtStart>> {
    if !opening.begins() {
        return Ok(None);
    }
    runner.adapter_mut().means.replace(&seen.means);
    let at_start = if opening.has_learned_pairs {
        let start = opening.record.lesson.start().unwrap_or_default();
        let fresh = start_adapter(bundle, Some(start), opening.data.classes.len())?;
        observer(Progress::Begin { phase: "class means", total: opening.data.samples.len() as u64 });
        let at_start = AtStart::look(runner, fresh, &opening.data, stop, observer)?;
        observer(Progress::End);
        Some(at_start)
    } else {
        None
    };
    let means = at_start.as_ref().map_or(&seen.means, AtStart::means);
    runner.adapter_mut().start_means.replace(means);
    Ok(at_start)
}

/// What is there before a lesson's first step: of a first one what is imprinted, of a further one the store as it was.
fn measure_before(
    runner: &mut Runner,
    opening: &Opening,
    seen: &Seen,
    stop: &AtomicBool,
    observer: &mut Observer,
) -> Result<(Before, Option<Evaluation>)> {
    let Opening { knew, validation, .. } = opening;
    if *knew == 0 {
        let measured = validation.as_ref().map(|v| runner.evaluate(v, "before", 0, stop, observer)).transpose()?;
        let imprinted = measured.as_ref().map(Recognized::from);
        return Ok((Before { held_back: imprinted.is_some(), known: Recognized::default(), imprinted }, measured));
    }
    if let Some(validation) = validation {
        let (was, all) = (runner.adapter().head.with_classes(*knew), runner.adapter().means.imprint(IMPRINT_SCALE));
        let [known, imprinted] = runner.tally(validation, [&was, &all], stop, observer)?;
        if known.photos() > 0 {
            let is_known = runner.adapter().means.knows(0..opening.data.classes.len());
            let imprinted = Some(imprinted).filter(|_| opening.adds_classes() && is_known);
            return Ok((Before { held_back: true, known, imprinted }, None));
        }
    }
    Ok((Before { held_back: false, known: seen.right.clone(), imprinted: None }, None))
}

/// An imprinted head is kept only if it makes numbers of the lesson's first photos.
pub(super) fn check_imprinted(
    runner: &mut Runner,
    data: &Dataset,
    lesson: &Lesson,
    observer: &mut Observer,
) -> Result<()> {
    let first: Vec<usize> = order(lesson.seed, 0, data.samples.len()).into_iter().take(lesson.batch).collect();
    judge(runner, data, &first, None, 0, observer)
}

/// Measures accuracy where that was not done before the lesson was left, and keeps what a first one has imprinted.
pub(super) fn begin_steps(
    runner: &mut Runner,
    opening: &mut Opening,
    lesson: &Lesson,
    keep: &Keep,
    (plan, seen): (&Plan, &Seen),
    observer: &mut Observer,
) -> Result<Begun> {
    if opening.over {
        observer(Progress::Note("this lesson has already ended; nothing is done"));
    } else if opening.resumes && opening.record.steps > 0 {
        observer(Progress::Note(&format!("going on after step {} of {}", opening.record.steps, plan.steps)));
    }
    let is_under_way = opening.from.is_some();
    // Pairs that have learned tell nothing of what imprinting alone does.
    if is_under_way || opening.over {
        runner.restore_outlook(opening.outlook);
    }
    let (before, measured) = match () {
        () if is_under_way => (core::mem::take(&mut opening.before), None),
        () if opening.over => {
            let measured = opening.validation.as_ref().map(|v| runner.evaluate(v, "", 0, keep.stop, observer));
            (Before::default(), measured.transpose()?)
        }
        () => measure_before(runner, opening, seen, keep.stop, observer)?,
    };
    let (data, record) = (&opening.data, &mut opening.record);
    if opening.known < data.classes.len() {
        check_imprinted(runner, data, lesson, observer)?;
    }
    let store = match opening.store.take() {
        None => StoreWriter::create(keep.medium.clone(), keep.store, keep.resume, &runner.adapter(), record)?,
        Some(store) => store,
    };
    // The imprinted head is where `rollback` leads from a first lesson.
    if record.parent == 0 {
        record.parent = store.current();
    }
    let mut journal = Journal::open(&store)?;
    if !opening.over {
        journal.head(record)?;
    }
    if !opening.over && !is_under_way {
        journal.evaluation(0, before.held_back_accuracy())?;
    }
    Ok(Begun { store, journal, before, measured })
}
