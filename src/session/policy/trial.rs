//! Whether a lesson may take the place of what was there before it.

use serde::{Deserialize, Serialize};

use super::outlook::Outlook;
use super::recognized::Recognized;

/// What a lesson was judged by; accuracies in 0..1.
///
/// A first lesson is compared with imprinting. A further lesson is compared with the store as it was, class by class: with its head of
/// the classes that it knew, on photos of these. It becomes current if none of them falls below half of what it was ([`Known`]), if
/// together they do not fall below what they were, and if all classes together do as well as imprinting all of them. Where it adds
/// classes, the known ones have more to be mistaken for; so there, they may fall by chance (two standard errors), and to what
/// imprinting all classes makes of them. Examples of earlier lessons are few: on them, they may fall by chance too, each class by itself.
///
/// What has come from elsewhere and knows more classes is asked the same as the store was: which of the classes that the store knew? There
/// it may not fall. Among all of its classes the same photos may fall by chance, together and class by class ([`Known::of_all`]).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Trial {
    /// On which photos.
    pub on: TrialPhotos,
    /// How many; of a further lesson, those of the classes that the store knew.
    pub photos: usize,
    /// Without the lesson: with imprinting; of a further lesson, with the store as it was.
    pub before: f64,
    /// With it, on the same photos.
    pub after: f64,
    /// Whether a cross-validation shows the lesson to be worse ([`super::CrossValidation::warns`]).
    #[serde(default)]
    pub warned: bool,
    /// The classes that the store knew before a further lesson, one by one, where there are photos of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub known: Vec<Known>,
    /// All classes together against imprinting all of them: of a further lesson that has added some, or that was judged on training photos.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub all: Option<AllClasses>,
}

/// A class that the store knew before a further lesson.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Known {
    /// Its name.
    pub class: String,
    /// Photos of it.
    pub photos: usize,
    /// Share that the store has recognized as it was, of the classes that it knew.
    pub before: f64,
    /// Share that is recognized after the lesson, of all classes; of what has come from elsewhere, of those that the store knew.
    pub after: f64,
    /// The latter of all classes, where something from elsewhere has brought new ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub of_all: Option<f64>,
    /// Share that is recognized with all classes imprinted; null where that was not measured. Photos that were held
    /// back show it to a lesson that adds classes, examples to any.
    #[serde(default)]
    pub imprinted: Option<f64>,
}

impl Known {
    /// Less than half of what was recognized is left.
    #[must_use]
    pub fn is_lost(&self) -> bool {
        self.after < self.before / 2.0
    }

    /// It is recognized less often than before, and than with all classes imprinted, by more than two standard errors.
    fn fell_beyond_chance(&self) -> bool {
        let least = self.imprinted.map_or(self.before, |imprinted| imprinted.min(self.before));
        is_beyond_chance(self.photos, least, self.after)
    }

    /// New classes have taken its photos, more of them than chance does.
    fn is_swallowed(&self) -> bool {
        self.of_all.is_some_and(|of_all| is_beyond_chance(self.photos, self.before, of_all))
    }
}

/// All classes after a further lesson.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct AllClasses {
    /// Photos of them.
    pub photos: usize,
    /// Accuracy with all classes imprinted.
    pub imprinted: f64,
    /// Accuracy after the lesson.
    pub after: f64,
    /// Accuracy with all classes imprinted on photos of those that were known; null where that was not measured.
    pub known_imprinted: Option<f64>,
}

/// The photos of a trial.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TrialPhotos {
    /// Photos that were not trained on.
    HeldBack,
    /// Where there are none: imprinting on the training photos, each left out of the class means, against what the lesson makes
    /// of the photos that it has seen: in its last epoch, or after its last step, whichever is less. That is in the lesson's favour, and
    /// only finds out one that has gone wrong.
    /// The known classes of a further lesson are judged on the training photos too.
    LeftOut,
    /// Where photos are few: the training photos, each left out once, imprinting on the others against a lesson on them.
    #[serde(alias = "rehearsed")]
    CrossValidated,
    /// Examples of earlier lessons that no step has seen, of the known classes without photos to measure on; with the photos that were
    /// held back of the others, where there are any.
    Replayed,
    /// Where examples judge, what was trained on, if that alone shows that the lesson has gone wrong.
    Seen,
    /// Where a further lesson has no photos of the classes that were known: made-up features, each class's mean with what a photo of
    /// a new class differs from its own class's mean by. They scatter less than photos do, and only find out a class that is lost.
    MadeUp,
}

/// What was there before a lesson, as the photos show that it is judged by.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Before {
    /// The photos were held back.
    pub(crate) held_back: bool,
    /// The classes that the store knew, with it as it was; none in a first lesson.
    pub(crate) known: Recognized,
    /// All classes, imprinted; in a further lesson only where it adds some.
    pub(crate) imprinted: Option<Recognized>,
    /// The same two of the examples of earlier lessons that no step sees.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) examples: Option<OnExamples>,
}

/// What was there before a lesson, as examples that none of its steps sees show it, and the photos and examples that
/// they see. Earlier lessons have seen the examples, so the store as it was looks better on them than it is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct OnExamples {
    pub(crate) known: Recognized,
    /// All classes, imprinted, with each example left out of the class means.
    pub(crate) imprinted: Recognized,
    /// The classes that the store knew, on what is trained on.
    pub(crate) seen: Recognized,
}

impl Before {
    /// The accuracy of what was there, where photos were held back.
    pub(crate) fn held_back_accuracy(&self) -> Option<f64> {
        let first = self.imprinted.as_ref().filter(|_| self.known.0.is_empty());
        self.held_back.then(|| first.unwrap_or(&self.known).accuracy()).flatten()
    }

    /// What both examples and photos that were held back show; and what is trained on.
    fn on_examples(&self) -> Option<[Before; 2]> {
        let OnExamples { known, imprinted, seen } = self.examples.as_ref()?;
        let (mut both, mut all) = (known.clone(), imprinted.clone());
        if self.held_back {
            both.add(&self.known);
            self.imprinted.iter().for_each(|held_back| all.add(held_back));
        }
        let both = Before { held_back: true, known: both, imprinted: Some(all), examples: None };
        Some([both, Before { known: seen.clone(), ..Before::default() }])
    }

    /// Whether photos can have shown this to a lesson that adds classes to `knew` ones, or to a first one.
    pub(crate) fn can_be(&self, knew: usize) -> bool {
        let all = |[known, seen]: [&Recognized; 2]| known.0.len() == knew && seen.0.len() == knew;
        let examples = self.examples.iter().flat_map(|shown| [&shown.known, &shown.seen, &shown.imprinted]);
        let tallies = [&self.known].into_iter().chain(&self.imprinted).chain(examples);
        let counts = tallies.flat_map(|tally| &tally.0);
        let fits = self.examples.as_ref().is_none_or(|shown| all([&shown.known, &shown.seen]));
        fits && self.known.0.len() == knew && counts.into_iter().all(|[right, photos]| right <= photos)
    }
}

/// What is there to judge a lesson by, once it has ended.
pub(crate) struct Ended<'e> {
    pub(crate) before: &'e Before,
    /// Which photos the lesson's end recognizes: those of [`Before`], without examples.
    pub(crate) after: Option<&'e Recognized>,
    /// The examples that no step has seen, and what was trained on, where anything was.
    pub(crate) on_examples: (&'e Recognized, Option<&'e Recognized>),
    pub(crate) outlook: &'e Outlook,
    /// Accuracy on the photos trained on: what the lesson makes of them, at the least that it has shown.
    pub(crate) seen: Option<f64>,
    pub(crate) classes: &'e [String],
    /// Classes that the store knew; 0 in a first lesson.
    pub(crate) knew: usize,
    /// Where all classes were imprinted, and no step taken: the made-up features that were recognized before, and that are now.
    pub(crate) made_up: Option<&'e [Recognized; 2]>,
}

impl Trial {
    /// `None` where nothing can be judged: no photo was held back, and no class has two.
    pub(crate) fn of(ended: &Ended) -> Option<Self> {
        if ended.knew == 0 {
            return Self::of_first(ended);
        }
        if let Some(trial) = Self::of_examples(ended) {
            return Some(trial);
        }
        Self::of_further(ended).or_else(|| {
            let [was, is] = ended.made_up?;
            Self::of_known(TrialPhotos::MadeUp, was, is, ended.classes, (None, None))
        })
    }

    /// Of something that has come from elsewhere, on photos that were held back: of the first classes of each tally, `classes`, which the
    /// store knew. `after` is asked for these alone, `of_all` for all classes, where there are more. `None` where there is no photo of them.
    pub(crate) fn of_held_back(
        before: &Recognized,
        after: &Recognized,
        of_all: Option<&Recognized>,
        classes: &[String],
    ) -> Option<Self> {
        let mut trial = Self::of_known(TrialPhotos::HeldBack, before, after, classes, (None, None))?;
        let rows = of_all.into_iter().flat_map(|all| all.0.iter().filter(|[_, photos]| *photos > 0));
        trial.known.iter_mut().zip(rows).for_each(|(class, row)| class.of_all = Some(share(row)));
        Some(trial)
    }

    /// New classes have taken photos of the known ones together, more of them than chance does.
    fn is_swallowed(&self) -> bool {
        let right = |class: &Known| Some(class.of_all? * class.photos as f64);
        // Of no classes, the sum would be 0.
        let all: Option<f64> = if self.known.is_empty() { None } else { self.known.iter().map(right).sum() };
        all.is_some_and(|right| is_beyond_chance(self.photos, self.before, right / self.photos.max(1) as f64))
    }

    fn of_first(ended: &Ended) -> Option<Self> {
        let Ended { before, after, outlook, seen, .. } = *ended;
        let trial = |on, photos, before, after| {
            let (known, all) = (Vec::new(), None);
            Trial { on, photos, before, after, warned: false, known, all }
        };
        let tallies = before.imprinted.as_ref().zip(after).filter(|_| before.held_back);
        let held_back = tallies.and_then(|(before, after)| {
            Some(trial(TrialPhotos::HeldBack, after.photos(), before.accuracy()?, after.accuracy()?))
        });
        let cross_validated = outlook.cross_validation.map(|cross_validation| {
            let share = |right: usize| right as f64 / cross_validation.photos.max(1) as f64;
            let (before, after) = (share(cross_validation.imprinted), share(cross_validation.trained()));
            let warned = cross_validation.warns();
            Trial { warned, ..trial(TrialPhotos::CrossValidated, cross_validation.photos, before, after) }
        });
        let seen = outlook.left_out.zip(seen);
        let seen =
            seen.map(|(imprinted, after)| trial(TrialPhotos::LeftOut, imprinted.photos, imprinted.accuracy, after));
        held_back.or(cross_validated).or(seen)
    }

    /// Examples that were held back are few. So what was trained on is looked at too: it finds out a lesson that has gone wrong.
    fn of_examples(ended: &Ended) -> Option<Self> {
        let ([before, before_seen], (on_held, on_seen)) = (ended.before.on_examples()?, ended.on_examples);
        let mut after = on_held.clone();
        if ended.before.held_back {
            after.add(ended.after?);
        }
        let trial = |before, after| Self::of_further(&Ended { before, after: Some(after), ..*ended });
        let seen = on_seen.and_then(|on_seen| trial(&before_seen, on_seen));
        let failed = seen.map(|seen| Trial { on: TrialPhotos::Seen, ..seen }).filter(|seen| !seen.passed());
        failed.or_else(|| trial(&before, &after).map(|held_back| Trial { on: TrialPhotos::Replayed, ..held_back }))
    }

    fn of_further(ended: &Ended) -> Option<Self> {
        let Ended { before, after, outlook, seen, classes, knew, made_up, .. } = *ended;
        let after = after?;
        let known_after = after.of_first(knew);
        // Where all classes are imprinted, that is what they are compared with.
        let imprinted = if made_up.is_some() { Some(after) } else { before.imprinted.as_ref() };
        let imprinted = imprinted.filter(|_| before.held_back);
        let all = if before.held_back {
            let measured = imprinted.map(|imprinted| {
                let known_imprinted = imprinted.of_first(knew).accuracy();
                Some((after.photos(), imprinted.accuracy()?, after.accuracy()?, known_imprinted))
            });
            measured.flatten()
        } else {
            let seen = outlook.left_out.zip(seen);
            seen.map(|(imprinted, after)| (imprinted.photos, imprinted.accuracy, after, None))
        };
        let all = all.map(|(photos, imprinted, after, known_imprinted)| AllClasses {
            photos,
            imprinted,
            after,
            known_imprinted,
        });
        let on = if before.held_back { TrialPhotos::HeldBack } else { TrialPhotos::LeftOut };
        Self::of_known(on, &before.known, &known_after, classes, (imprinted, all))
    }

    /// Of the classes that were known; `None` where there is no photo of them.
    fn of_known(
        on: TrialPhotos,
        before: &Recognized,
        after: &Recognized,
        classes: &[String],
        (imprinted, all): (Option<&Recognized>, Option<AllClasses>),
    ) -> Option<Self> {
        let rows = before.0.iter().zip(&after.0).zip(classes).enumerate();
        let known = rows.filter(|(_, ((before, _), _))| before[1] > 0).map(|(row, ((before, after), class))| Known {
            class: class.clone(),
            photos: before[1],
            before: share(before),
            after: share(after),
            of_all: None,
            imprinted: imprinted.and_then(|imprinted| imprinted.0.get(row)).filter(|row| row[1] > 0).map(share),
        });
        let (known, photos) = (known.collect(), before.photos());
        Some(Trial { on, photos, before: before.accuracy()?, after: after.accuracy()?, warned: false, known, all })
    }

    /// The known classes that are lost: on photos or examples that were held back, beyond chance; on photos, and
    /// elsewhere, also where less than half of what was recognized is left.
    pub fn lost(&self) -> impl Iterator<Item = &Known> {
        self.known.iter().filter(|class| match self.on {
            TrialPhotos::Replayed | TrialPhotos::Seen => class.fell_beyond_chance(),
            TrialPhotos::HeldBack => class.is_lost() || class.fell_beyond_chance() || class.is_swallowed(),
            _ => class.is_lost(),
        })
    }

    /// Whether the lesson may take the place of what was there: see [`Trial`]. Where photos that it has seen speak for it, a first
    /// lesson has failed only if it is worse beyond chance, two standard errors: its last epoch was counted while it still learned.
    /// Where it was cross-validated, if that has shown it to be worse.
    #[must_use]
    pub fn passed(&self) -> bool {
        if self.on == TrialPhotos::CrossValidated {
            return !self.warned;
        }
        let held_back = self.on == TrialPhotos::HeldBack;
        let is_worse_than_all = |all: AllClasses| {
            let chance = if held_back { 0.0 } else { chance(all.photos, all.imprinted, all.after) };
            all.after < all.imprinted - chance
        };
        // Where classes were added, there are more photos than those of the known ones.
        let adds = self.all.is_some_and(|all| all.known_imprinted.is_some() || all.photos > self.photos);
        let least = match self.all.and_then(|all| all.known_imprinted) {
            Some(imprinted) => self.before.min(imprinted),
            None => self.before,
        };
        let is_further = !self.known.is_empty();
        let by_examples = matches!(self.on, TrialPhotos::Replayed | TrialPhotos::Seen);
        let is_strict = !adds && !by_examples && (held_back || is_further);
        let chance = if is_strict { 0.0 } else { chance(self.photos, self.before, self.after) };
        // Made-up features scatter too little to show more than that a class is lost.
        let fell = self.on != TrialPhotos::MadeUp && self.after < least - chance;
        !fell && !self.is_swallowed() && self.lost().next().is_none() && !self.all.is_some_and(is_worse_than_all)
    }
}

fn share([right, photos]: &[usize; 2]) -> f64 {
    *right as f64 / (*photos).max(1) as f64
}

/// Whether a share of so many photos has fallen by more than two standard errors. Those are of shares with one photo more on either side:
/// of two photos, none and both are chance.
fn is_beyond_chance(photos: usize, before: f64, after: f64) -> bool {
    let [before, after] = [before, after].map(|share| (share * photos as f64 + 1.0) / (photos as f64 + 2.0));
    after < before - chance(photos, before, after)
}

/// Two standard errors of a difference between two shares of so many photos.
fn chance(photos: usize, before: f64, after: f64) -> f64 {
    let variance = |share: f64| share * (1.0 - share) / photos.max(1) as f64;
    2.0 * (variance(before) + variance(after)).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trial(on: TrialPhotos, before: f64, after: f64) -> Trial {
        Trial { on, photos: 100, before, after, warned: false, known: Vec::new(), all: None }
    }

    #[test]
    fn a_lesson_passes_that_is_no_worse_and_on_seen_photos_only_fails_beyond_chance() {
        let passed = |on, before, after| trial(on, before, after).passed();
        assert!(passed(TrialPhotos::HeldBack, 0.9, 0.9) && !passed(TrialPhotos::HeldBack, 0.9, 0.89));
        // Two standard errors of 0.9 and 0.85 over 100 photos are 0.093, of 0.9 and 0.8 they are 0.1.
        assert!(passed(TrialPhotos::LeftOut, 0.9, 0.85) && !passed(TrialPhotos::LeftOut, 0.9, 0.79));
    }

    #[test]
    fn on_examples_a_class_is_lost_only_beyond_chance() {
        let passed = |photos, before, after| {
            let known = vec![Known { class: "a".to_owned(), photos, before, after, of_all: None, imprinted: None }];
            Trial { known, ..trial(TrialPhotos::Replayed, 0.9, 0.85) }.passed()
        };
        assert!(passed(2, 1.0, 0.0) && passed(4, 1.0, 0.5) && !passed(4, 1.0, 0.0));
        assert!(passed(20, 0.9, 0.75) && !passed(20, 0.9, 0.5));
        assert!(!Trial { known: Vec::new(), ..trial(TrialPhotos::Replayed, 0.9, 0.7) }.passed());
    }

    #[test]
    fn where_examples_judge_what_was_trained_on_has_a_word_too_and_a_lesson_that_failed_there_has_failed() {
        let tally = |right: &[usize], of: usize| Recognized(right.iter().map(|right| [*right, of]).collect());
        let shown = OnExamples { known: tally(&[4, 4], 4), imprinted: tally(&[3, 3], 4), seen: tally(&[16, 16], 16) };
        let before = Before { examples: Some(shown), known: tally(&[16, 16], 16), ..Before::default() };
        let classes = ["a", "b"].map(str::to_owned);
        let judged = |held: [usize; 2], seen: [usize; 2]| {
            let (on_held, on_seen) = (tally(&held, 4), tally(&seen, 16));
            let trial = Trial::of(&Ended {
                before: &before,
                after: Some(&on_seen),
                on_examples: (&on_held, Some(&on_seen)),
                outlook: &Outlook::default(),
                seen: None,
                classes: &classes,
                knew: 2,
                made_up: None,
            });
            trial.map(|trial| (trial.on, trial.passed())).unwrap()
        };
        assert_eq!(judged([4, 3], [16, 15]), (TrialPhotos::Replayed, true));
        // Of four, imprinting recognizes three: none at all is beyond chance of the store as it was, and not of that.
        assert_eq!(judged([4, 0], [16, 16]), (TrialPhotos::Replayed, true));
        assert_eq!(judged([0, 0], [16, 16]), (TrialPhotos::Replayed, false));
        // Not halved, and beyond chance.
        assert_eq!(judged([4, 3], [16, 9]), (TrialPhotos::Seen, false));
    }

    #[test]
    fn a_further_lesson_that_adds_no_class_may_not_fall_on_any_photos() {
        let known =
            Known { class: "a".to_owned(), photos: 100, before: 0.9, after: 0.88, of_all: None, imprinted: None };
        let all = |photos| Some(AllClasses { photos, imprinted: 0.5, after: 0.9, known_imprinted: None });
        let fell = |all| Trial { known: vec![known.clone()], all, ..trial(TrialPhotos::LeftOut, 0.9, 0.88) };
        assert!(!fell(None).passed() && !fell(all(100)).passed());
        assert!(fell(all(140)).passed(), "with new classes there are more to be mistaken for");
    }

    /// Of 40 photos of each known class, so many recognized before and after; and of all with 40 of a new one, imprinted and after.
    fn further(before: [usize; 2], after: [usize; 2], imprinted: [usize; 3], new: usize) -> Trial {
        let tally = |right: &[usize]| Recognized(right.iter().map(|right| [*right, 40]).collect());
        let before =
            Before { held_back: true, known: tally(&before), imprinted: Some(tally(&imprinted)), examples: None };
        let after = tally(&[after[0], after[1], new]);
        let outlook = Outlook::default();
        let classes = ["a", "b", "c"].map(str::to_owned);
        let ended = Ended {
            before: &before,
            after: Some(&after),
            outlook: &outlook,
            seen: None,
            classes: &classes,
            knew: 2,
            on_examples: (&Recognized::default(), None),
            made_up: None,
        };
        Trial::of(&ended).unwrap()
    }

    #[test]
    fn a_further_lesson_is_compared_with_the_store_as_it_was_and_no_known_class_may_be_lost() {
        let good = further([38, 36], [36, 35], [30, 30, 30], 36);
        assert_eq!((good.before, good.after, good.photos), (74.0 / 80.0, 71.0 / 80.0, 80));
        let all = AllClasses { photos: 120, imprinted: 0.75, after: 107.0 / 120.0, known_imprinted: Some(0.75) };
        assert_eq!((good.all, good.passed()), (Some(all), true));
        let names: Vec<_> = good.known.iter().map(|class| (class.class.as_str(), class.photos)).collect();
        assert_eq!(names, [("a", 40), ("b", 40)]);

        assert!(!further([38, 36], [36, 17], [30, 30, 30], 40).passed(), "less than half is left of b");
        assert!(!further([38, 36], [28, 28], [20, 20, 39], 20).passed(), "imprinting all does better");
        assert!(!further([38, 36], [28, 28], [38, 36, 9], 40).passed(), "the known ones fall, and need not");
        assert!(
            further([38, 36], [31, 30], [30, 30, 30], 40).passed(),
            "they fall as imprinting all shows that they must"
        );
    }

    #[test]
    fn what_brings_new_classes_is_asked_for_the_known_ones_and_may_not_swallow_them() {
        let tally = |right: [usize; 4]| Recognized(right.map(|right| [right, 10]).to_vec());
        let classes = ["a", "b", "c", "d"].map(str::to_owned);
        let judged = |after, of_all: Option<[usize; 4]>| {
            let of_all = of_all.map(tally);
            let trial = Trial::of_held_back(&tally([9, 9, 9, 9]), &tally(after), of_all.as_ref(), &classes).unwrap();
            assert_eq!(trial.known.iter().all(|class| class.of_all.is_some()), of_all.is_some());
            trial.passed()
        };
        assert!(!judged([9, 9, 9, 8], None), "strictly, where there are no new classes");
        assert!(judged([9, 9, 9, 9], Some([8, 7, 8, 9])), "the known ones have more to be mistaken for");
        assert!(!judged([9, 9, 9, 8], Some([9, 9, 9, 8])), "among themselves they may not fall");
        assert!(!judged([9, 9, 9, 9], Some([9, 9, 9, 2])), "a new class has swallowed d");
        assert!(!judged([9, 9, 9, 9], Some([6, 6, 6, 6])), "new classes have swallowed too much of all");
    }

    #[test]
    fn what_cannot_have_been_counted_is_not_believed() {
        let before = |known: &[[usize; 2]]| Before { known: Recognized(known.to_vec()), ..Before::default() };
        assert!(before(&[[1, 2], [0, 0]]).can_be(2) && !before(&[[1, 2]]).can_be(2) && !before(&[[3, 2]]).can_be(1));
    }
}
