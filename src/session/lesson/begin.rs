//! What a lesson finds when it begins, and what of it is kept.

use super::added::AtStart;
use super::journal::Journal;
use super::keep::{Keep, Keeper};
use super::look::Seen;
use super::opening::Opening;
use super::steps::judge;
use crate::bundle::Bundle;
use crate::core::IMPRINT_SCALE;
use crate::error::Result;
use crate::session::classify::{Evaluation, measure};
use crate::session::photos::{Dataset, order};
use crate::session::policy::{Before, OnExamples, Outlook, Plan};
use crate::session::progress::{Audience, Progress};
use crate::session::replay::Replay;
use crate::session::run::Runner;
use crate::session::settings::Lesson;
use crate::session::start::start_adapter;
use crate::session::store::{Standing, StoreWriter};

/// What is there when the first step, or the next, can be taken.
pub(crate) struct Begun {
    pub(crate) keeper: Keeper,
    /// What the photos have told.
    pub(crate) outlook: Outlook,
    /// What was measured just now.
    pub(crate) measured: Option<Evaluation>,
}

/// A further lesson with the settings of the one before is told from it by its checkpoint alone, so one is there from its first
/// moment.
pub(crate) fn announce(opening: &Opening, runner: &Runner, keep: &Keep, plan: &Plan) -> Result<()> {
    match &opening.store {
        Some(store) if keep.further && !opening.resumes && plan.steps > 0 => {
            store.checkpoint(&runner.adapter(), None, &opening.record, &Standing::announced(store.current())).map(drop)
        }
        _ => Ok(()),
    }
}

/// Keeps the class means of a lesson's photos in the adapter, and those of the backbone's own features too; of a further lesson, how
/// its photos look with the pairs at their start, where the store has pairs that have learned: what imprinting does, to photos and to
/// examples, shows there alone.
pub(crate) fn remember(
    runner: &mut Runner,
    bundle: &Bundle,
    opening: &mut Opening,
    seen: &mut Seen,
    audience: &mut Audience,
) -> Result<Option<AtStart>> {
    if !opening.begins() {
        return Ok(None);
    }
    runner.adapter_mut().means.replace(&seen.means);
    if opening.knew == 0 {
        opening.record.calibration = seen.photos.imprinted(&seen.means);
    }
    let at_start = if opening.has_learned_pairs {
        let kind = opening.record.lesson.pair_kind();
        let mut fresh = start_adapter(bundle, kind, opening.data.classes.len())?;
        fresh.go_along(runner.adapter().found())?;
        let photos = opening.data.photos.len() + opening.examples.held.photos.len();
        audience.tell(Progress::Begin { phase: "class means", total: photos as u64 });
        let at_start = AtStart::look(runner, fresh, [&opening.data, &opening.examples.held], audience)?;
        audience.tell(Progress::End);
        Some(at_start)
    } else {
        None
    };
    let means = at_start.as_ref().map_or(&seen.means, AtStart::means);
    runner.adapter_mut().start_means.replace(means);
    let own = match &at_start {
        Some(_) => None,
        None => Some(runner.see(&opening.examples.held, 0, &mut Replay::default(), &mut Audience::nobody())?.0.photos),
    };
    let start_means = &runner.adapter().start_means;
    if let Some(at_start) = &at_start {
        seen.outlook.left_out = at_start.left_out(start_means);
    }
    // Where photos of a class are there, its mean is theirs.
    let mine = |class: usize| !opening.data.photos.iter().any(|photo| photo.class == class && !photo.is_replayed());
    let held = at_start.as_ref().map(AtStart::held).or(own.as_ref());
    opening.examples.imprinted = held.map(|held| held.recognized(start_means, mine)).unwrap_or_default();
    Ok(at_start)
}

/// What is there before a lesson's first step: of a first one what is imprinted, of a further one the store as it was.
fn measure_before(
    runner: &mut Runner,
    opening: &Opening,
    seen: &Seen,
    audience: &mut Audience,
) -> Result<(Before, Option<Evaluation>)> {
    let Opening { knew, validation, examples, .. } = opening;
    if *knew == 0 {
        let measured = validation
            .as_ref()
            .map(|v| measure(runner, v, "before", opening.record.calibration.as_ref(), audience))
            .transpose()?;
        let imprinted = measured.as_ref().map(Evaluation::recognized);
        return Ok((Before { held_back: imprinted.is_some(), imprinted, ..Before::default() }, measured));
    }
    let (was, all) = (runner.adapter().head.with_classes(*knew), runner.adapter().means.imprint(IMPRINT_SCALE));
    let is_known = runner.adapter().means.knows(0..opening.data.classes.len());
    let mut on = |photos: &Dataset| -> Result<_> {
        let [known, imprinted] = runner.tally(photos, [&was, &all], audience)?;
        Ok((known, Some(imprinted).filter(|_| opening.adds_classes() && is_known)))
    };
    let mut before = Before { known: seen.right.clone(), ..Before::default() };
    if !examples.held.photos.is_empty() {
        let ((known, _), imprinted) = (on(&examples.held)?, examples.imprinted.clone());
        before.examples = Some(OnExamples { known, imprinted, seen: seen.right.clone() });
    }
    if let Some((known, imprinted)) = validation.as_ref().map(on).transpose()?.filter(|(known, _)| known.photos() > 0) {
        (before.held_back, before.known, before.imprinted) = (true, known, imprinted);
    }
    Ok((before, None))
}

/// An imprinted head is kept only if it makes numbers of the lesson's first photos.
pub(crate) fn check_imprinted(
    runner: &mut Runner,
    data: &Dataset,
    lesson: &Lesson,
    audience: &mut Audience,
) -> Result<()> {
    let first: Vec<usize> = order(lesson.seed, 0, data.photos.len()).into_iter().take(lesson.batch).collect();
    judge(runner, data, &first, None, 0, audience)
}

/// Measures accuracy where that was not done before the lesson was left, and keeps what a first one has imprinted.
pub(crate) fn begin_steps(
    runner: &mut Runner,
    opening: &mut Opening,
    lesson: &Lesson,
    keep: &Keep,
    (plan, seen, replay): (&Plan, &Seen, &Replay),
    audience: &mut Audience,
) -> Result<Begun> {
    if opening.over {
        audience.tell(Progress::Note("this lesson has already ended; nothing is done"));
    } else if opening.resumes && opening.record.steps > 0 {
        audience.tell(Progress::Note(&format!("going on after step {} of {}", opening.record.steps, plan.steps)));
    }
    let is_under_way = opening.from.is_some();
    // Pairs that have learned tell nothing of what imprinting alone does.
    let outlook = if is_under_way || opening.over { opening.outlook } else { seen.outlook };
    let (before, measured) = match () {
        () if is_under_way => (core::mem::take(&mut opening.before), None),
        () if opening.over => {
            let measured = opening
                .validation
                .as_ref()
                .map(|v| measure(runner, v, "", opening.record.calibration.as_ref(), audience));
            (Before::default(), measured.transpose()?)
        }
        () => measure_before(runner, opening, seen, audience)?,
    };
    let (data, record) = (&opening.data, &mut opening.record);
    if opening.known < data.classes.len() {
        check_imprinted(runner, data, lesson, audience)?;
    }
    let store = match opening.store.take() {
        None => {
            StoreWriter::create(keep.medium.clone(), &keep.store, keep.resume, &runner.adapter(), (record, replay))?
        }
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
    Ok(Begun { keeper: Keeper::new(store, journal, before, keep.every), outlook, measured })
}
