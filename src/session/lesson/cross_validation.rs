//! Where photos are few: whether pairs help, tried on each photo while it is left out.

use super::steps::Steps;
use crate::adapter::{Adapter, DirectionsBuf, HeadBuffers, SiteSettings};
use crate::bundle::Bundle;
use crate::core::IMPRINT_SCALE;
use crate::error::{ErrorKind, Result};
use crate::session::classify::argmax;
use crate::session::photos::Dataset;
use crate::session::policy::{ClosedForm, CrossValidation, Due, LeftOut, Outlook, Plan, plan};
use crate::session::progress::{Audience, Progress};
use crate::session::run::Runner;
use crate::session::settings::{Interval, Length, Lesson};
use crate::session::start::fresh_adapter;
use crate::session::store::Record;

/// A lesson is cross-validated where no class has more photos: it is short then, and it is open whether pairs help.
const FEW: usize = 5;
/// Feature values that are kept for it at most, 1 MiB.
const MOST_VALUES: usize = 1 << 18;

/// Steps that cross-validating a lesson takes; 0 where it is not cross-validated: photos are not few, or how pairs are
/// recomposed is asked for.
pub(crate) fn cross_validated_steps(bundle: &Bundle, lesson: &Lesson, data: &Dataset) -> u64 {
    (0..folds(bundle, lesson, data)).map(|fold| part_plan(bundle, lesson, data, &parts(data, fold).0).steps).sum()
}

/// Bytes of features that a cross-validation keeps.
pub(crate) fn cross_validated_bytes(bundle: &Bundle, lesson: &Lesson, data: &Dataset) -> u64 {
    if folds(bundle, lesson, data) == 0 { 0 } else { 4 * (data.photos.len() * bundle.feature_dim) as u64 }
}

/// In how many parts the photos are left out. Of a head that is not solved it takes steps to know what it would do.
pub(crate) fn folds(bundle: &Bundle, lesson: &Lesson, data: &Dataset) -> usize {
    let is_solved = ClosedForm::solves(data.photos.len(), bundle.feature_dim);
    let is_default = lesson.method.settings().recomposes && !matches!(lesson.interval, Interval::Steps(_));
    let is_small = data.photos.len().saturating_mul(bundle.feature_dim) <= MOST_VALUES;
    let most = counts(data).into_iter().max().unwrap_or(0);
    if is_default && is_small && is_solved && (2..=FEW).contains(&most) { most } else { 0 }
}

/// The lesson on a part of the photos: as many passes over them, but no more than a lesson of the default length has, and no events.
/// A longer lesson would otherwise be cross-validated for several times its own length.
fn part_plan(bundle: &Bundle, lesson: &Lesson, data: &Dataset, part: &[usize]) -> Plan {
    let whole = Plan { due: Due::Never, ..plan(bundle, lesson, part.len()) };
    let steps = match lesson.length {
        Length::Epochs(_) => whole.steps,
        Length::Steps(steps) => {
            let share = part.len() as f64 / data.photos.len() as f64;
            (f64::from(steps) * share).ceil() as u64
        }
    };
    let default = Lesson { length: Lesson::DEFAULT_LENGTH, ..lesson.clone() };
    whole.cut_to(steps.min(plan(bundle, &default, part.len()).steps))
}

fn counts(data: &Dataset) -> Vec<usize> {
    let mut counts = vec![0; data.classes.len()];
    data.photos.iter().for_each(|photo| counts[photo.class] += 1);
    counts
}

/// The photos to train on, and those that `fold` leaves out: of each class with two and more, the one at that place.
fn parts(data: &Dataset, fold: usize) -> (Vec<usize>, Vec<usize>) {
    let counts = counts(data);
    let mut seen = vec![0; counts.len()];
    (0..data.photos.len()).partition(|&photo| {
        let class = data.photos[photo].class;
        seen[class] += 1;
        counts[class] < 2 || seen[class] - 1 != fold
    })
}

fn side(data: &Dataset, photos: &[usize]) -> Dataset {
    let photos = photos.iter().map(|&photo| data.photos[photo].clone()).collect();
    Dataset { root: data.root.clone(), classes: data.classes.clone(), photos, ignored: Vec::new() }
}

/// A first lesson, before its first step.
pub(crate) struct CrossValidated<'r> {
    pub(crate) bundle: &'r Bundle,
    pub(crate) lesson: &'r Lesson,
    pub(crate) data: &'r Dataset,
    pub(crate) record: &'r Record,
    /// What its photos have told.
    pub(crate) outlook: Outlook,
}

impl CrossValidated<'_> {
    /// Cross-validates the lesson, whose head has been imprinted on all its photos, from the part after those that `begun` has left out;
    /// `done` is told after each, and whether it was the last. Afterwards the runner is as it was. `None` where the photos are not few,
    /// the task is easy, or a photo cannot be read any more.
    ///
    /// Head and pairs see the same photos in the same order, without random cuts. Features do not change while only the head learns,
    /// so that costs next to nothing.
    ///
    /// # Errors
    /// `Stopped` where it is stopped; those of the network and of `done`.
    pub(crate) fn run(
        &self,
        runner: &mut Runner,
        begun: CrossValidation,
        audience: &mut Audience,
        mut done: impl FnMut(&Runner, CrossValidation, bool) -> Result<()>,
    ) -> Result<Option<CrossValidation>> {
        let CrossValidated { bundle, data, .. } = *self;
        let folds = folds(bundle, self.lesson, data);
        if folds == 0 || self.outlook.is_easy() {
            return Ok(None);
        }
        // A checkpoint comes from outside: what cannot have been counted is counted anew.
        let left_out = (0..begun.parts.min(folds)).map(|fold| parts(data, fold).1.len()).sum();
        let begun = if begun.can_be_of(folds, left_out) { begun } else { CrossValidation::default() };
        if begun.parts == folds {
            return Ok(Some(begun));
        }
        let Some(features) = runner.all_features(data, audience)? else { return Ok(None) };
        let lesson = Lesson { augment: false, ..self.lesson.clone() };
        let rows = Rows { features: &features, width: bundle.feature_dim, data };
        let (whole, found) = (runner.adapter().head.clone(), runner.adapter().found());
        let steps = |fold| part_plan(bundle, &lesson, data, &parts(data, fold).0).steps;
        audience.tell(Progress::Begin { phase: CROSS_VALIDATION, total: (begun.parts..folds).map(steps).sum() });
        let mut cross_validation = Some(begun);
        for fold in begun.parts..folds {
            let (rest, out) = parts(data, fold);
            let plan = part_plan(bundle, &lesson, data, &rest);
            let imprinted = rows.imprint(&rest, whole.clone())?;
            let (closed_form, solved) = rows.solve(&rest, &imprinted);
            let head = rows.right(&out, &solved);
            let before = rows.right(&out, &imprinted);
            self.start_anew(runner, imprinted, None)?;
            // Within a cross-validation pairs learn.
            let outlook = Outlook { cross_validation: None, closed_form, ..self.outlook };
            let pairs = Pairs { lesson: &lesson, plan: &plan, record: self.record, outlook };
            let sides = [&rest, &out].map(|photos| side(data, photos));
            // What is left out is not looked at for directions either.
            let pairs = match self.find_directions(runner, &sides[0], audience)? {
                true => pairs.right(runner, sides, audience)?,
                false => None,
            };
            cross_validation = cross_validation.zip(pairs).map(|(mut cross_validation, pairs)| {
                cross_validation.add([&before, &head, &pairs]);
                cross_validation
            });
            self.start_anew(runner, whole.clone(), found.clone())?;
            let Some(cross_validation) = cross_validation else { break };
            done(runner, cross_validation, fold + 1 == folds)?;
        }
        audience.tell(Progress::End);
        Ok(cross_validation)
    }

    /// Finds directions where the lesson does; false where a photo cannot be read any more.
    fn find_directions(&self, runner: &mut Runner, photos: &Dataset, audience: &Audience) -> Result<bool> {
        if !self.lesson.finds_directions() {
            return Ok(true);
        }
        match runner.find_directions(photos, false, &mut audience.quiet()) {
            Err(e) if e.kind() == ErrorKind::Data => Ok(false),
            found => found.map(|()| true),
        }
    }

    /// Pairs at their start, along these directions, with this head. What was there is let go first, but for the class means: there is
    /// room for one adapter.
    fn start_anew(&self, runner: &mut Runner, head: HeadBuffers, found: Option<Vec<DirectionsBuf>>) -> Result<()> {
        let [means, start_means] = runner.take_means();
        runner.restart(Adapter::start([], 0, SiteSettings::default(), 0, 0)?);
        let mut adapter = fresh_adapter(self.bundle, self.lesson, self.data.classes.len())?;
        adapter.go_along(found)?;
        runner.restart(Adapter { head, means, start_means, ..adapter });
        Ok(())
    }
}

/// What is being done, for a person to read.
pub(crate) const CROSS_VALIDATION: &str = "cross-validation";

/// The feature vector of every photo.
struct Rows<'r> {
    features: &'r [f32],
    width: usize,
    data: &'r Dataset,
}

impl Rows<'_> {
    fn of(&self, photo: usize) -> (&[f32], usize) {
        (&self.features[photo * self.width..][..self.width], self.data.photos[photo].class)
    }

    /// The head, imprinted on `photos`.
    fn imprint(&self, photos: &[usize], mut head: HeadBuffers) -> Result<HeadBuffers> {
        let mut counts = vec![0; self.data.classes.len()];
        let mut imprint = head.imprint(&mut counts)?;
        for (row, class) in photos.iter().map(|&photo| self.of(photo)) {
            // Rows and classes are those of this head.
            let _ = imprint.add(row, class);
        }
        imprint.finish(IMPRINT_SCALE);
        Ok(head)
    }

    /// How a lesson on `photos` would solve its head, and that head where pairs rest; `imprinted` where nothing can be solved.
    fn solve(&self, photos: &[usize], imprinted: &HeadBuffers) -> (Option<ClosedForm>, HeadBuffers) {
        let classes = self.data.classes.len();
        let mut left_out = LeftOut::new(photos.len(), self.width);
        photos.iter().map(|&photo| self.of(photo)).for_each(|(row, class)| left_out.add(row, class, false));
        let form = ClosedForm::find(&left_out, classes);
        let head = form.and_then(|form| form.close(&left_out, imprinted)).map(|(head, _)| head);
        (form, head.unwrap_or_else(|| imprinted.clone()))
    }

    /// Which of `photos` the head gets right.
    fn right(&self, photos: &[usize], head: &HeadBuffers) -> Vec<bool> {
        let rows = photos.iter().map(|&photo| self.of(photo));
        rows.map(|(row, class)| argmax(&head.logits(row)) == class).collect()
    }
}

/// A lesson with pairs.
struct Pairs<'r> {
    lesson: &'r Lesson,
    plan: &'r Plan,
    record: &'r Record,
    outlook: Outlook,
}

impl Pairs<'_> {
    /// Which of the photos left `out` are right after a lesson on the `rest`, none where its loss stops being a number; `None` where
    /// one of them cannot be read.
    fn right(
        &self,
        runner: &mut Runner,
        [rest, out]: [Dataset; 2],
        audience: &mut Audience,
    ) -> Result<Option<Vec<bool>>> {
        let mut record = Record { steps: 0, ..self.record.clone() };
        match self.learn(runner, &rest, &mut record, audience) {
            Err(error) if error.kind() == ErrorKind::Diverged => return Ok(Some(vec![false; out.photos.len()])),
            learned => learned?,
        }
        let head = runner.close(&rest, self.outlook.closed_form.as_ref(), audience)?.head;
        let Some(features) = runner.all_features(&out, audience)? else { return Ok(None) };
        let rows = Rows { features: &features, width: head.features(), data: &out };
        let photos: Vec<usize> = (0..out.photos.len()).collect();
        Ok(Some(rows.right(&photos, &head)))
    }

    fn learn(&self, runner: &mut Runner, data: &Dataset, record: &mut Record, audience: &mut Audience) -> Result<()> {
        let mut steps = Steps::new(self.lesson, self.plan, data, runner, &self.outlook, None);
        while steps.next(runner, data, record, audience)?.is_some() {
            audience.tell(Progress::Advance);
            audience.go_on()?;
        }
        steps.end(runner, data, audience).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::session::photos::Photo;

    #[test]
    fn a_cross_validation_is_no_longer_than_one_of_the_default_length() {
        let bundle = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/handwriting/handwriting.bundle");
        let bundle = Bundle::open(&bundle).unwrap();
        // Five photos of each of five classes, 2 batches of 16; without one of each, still 2.
        let photos =
            (0..25).map(|nth| Photo { picture: Path::new("photo").into(), class: nth / 5, slot: None, identity: None });
        let classes = ["a", "b", "c", "d", "e"].map(String::from).to_vec();
        let data = Dataset { root: None, classes, photos: photos.collect(), ignored: Vec::new() };
        let steps = |length| cross_validated_steps(&bundle, &Lesson { length, ..Lesson::new("photos") }, &data);
        let default = steps(Lesson::DEFAULT_LENGTH);
        assert_eq!(default, 5 * 15 * 2);
        assert_eq!([Length::Steps(300), Length::Epochs(150)].map(steps), [default; 2]);
        // Shorter ones: four fifths of 10 steps, and 3 epochs.
        assert_eq!([Length::Steps(10), Length::Epochs(3)].map(steps), [5 * 8, 5 * 3 * 2]);
    }

    #[test]
    fn every_photo_is_left_out_once_but_single_ones_and_what_cannot_have_been_counted_is_not_believed() {
        let classes = [0, 0, 0, 1, 2, 2];
        let photo = |class| Photo { picture: Path::new("photo").into(), class, slot: None, identity: None };
        let data = Dataset {
            root: None,
            classes: ["a", "b", "c"].map(String::from).to_vec(),
            photos: classes.into_iter().map(photo).collect(),
            ignored: Vec::new(),
        };
        let out: Vec<_> = (0..3).map(|fold| parts(&data, fold).1).collect();
        assert_eq!(out, [vec![0, 4], vec![1, 5], vec![2]]);
        assert!((0..3).all(|fold| parts(&data, fold).0.len() + out[fold].len() == 6));

        let mut cross_validation = CrossValidation::default();
        cross_validation.add([&[true, true], &[true, false], &[false, true]]);
        let expected = CrossValidation { photos: 2, imprinted: 2, head: 1, pairs: 1, parts: 1, ..cross_validation };
        assert_eq!((cross_validation, cross_validation.pairs_differ, cross_validation.head_differs), (expected, 2, 1));
        assert!(cross_validation.can_be_of(3, 2) && !cross_validation.can_be_of(3, 4));
        assert!(!CrossValidation { pairs: usize::MAX, ..cross_validation }.can_be_of(3, 2));
        assert!(!CrossValidation { parts: 4, ..cross_validation }.can_be_of(3, 2));
    }
}
