//! How a lesson begins: anew, after what a store has learned, or where it was left.

use super::examples::Examples;
use super::keep::Keep;
use super::steps::StepsLeft;
use crate::adapter::{Adapter, SiteSettings};
use crate::bundle::Bundle;
use crate::error::{Error, ErrorKind, Result};
use crate::session::photos::{Dataset, Hashed};
use crate::session::policy::{Before, Due, Outlook, Plan, plan};
use crate::session::settings::Lesson;
use crate::session::start::{fresh_adapter, start_adapter};
use crate::session::store::{
    Generation, Record, RecordedLesson, Store, StoreWriter, UnderWay, already_there, is_unborn,
};

/// How a lesson begins.
pub(crate) struct Opening {
    /// `None`: it is yet to be made.
    pub(crate) store: Option<StoreWriter>,
    pub(crate) data: Dataset,
    pub(crate) validation: Option<Dataset>,
    /// As it is now; its head has rows for all classes.
    pub(crate) adapter: Adapter,
    pub(crate) record: Record,
    /// Classes whose rows of the head are there; those after them are to be imprinted.
    pub(crate) known: usize,
    /// Classes that the store knew before a further lesson; 0 in a first one.
    pub(crate) knew: usize,
    /// It had pairs that have learned.
    pub(crate) has_learned_pairs: bool,
    /// Where to go on from, between two steps.
    pub(crate) from: Option<StepsLeft>,
    /// What the photos had told, where the lesson goes on between two steps.
    pub(crate) outlook: Outlook,
    /// What was there before the first step, where that was measured before the lesson was left.
    pub(crate) before: Before,
    /// The lesson was begun before.
    pub(crate) resumes: bool,
    /// And ended.
    pub(crate) over: bool,
    /// Its number, where it was kept aside.
    pub(crate) over_aside: Option<u64>,
    /// Classes that the store knows and that have neither photos nor examples: steps would unlearn them.
    pub(crate) absent: Vec<String>,
    /// What it has of earlier lessons.
    pub(crate) examples: Examples,
    /// What to tell the user before anything is done.
    pub(crate) warnings: Vec<String>,
}

impl Opening {
    /// Finds out how the lesson begins, and settles what it leaves open. Nothing is written yet, except that half-written files leave a store that is gone on with.
    ///
    /// # Errors
    /// `Exists` or `Io` where no store can be made; `Mismatch` where the store holds another lesson; those of [`Store::open`];
    /// `Data` where the photos cannot be used; `Stopped` where `keep.stop` was set.
    pub(crate) fn find(
        bundle: &Bundle,
        lesson: &mut Lesson,
        keep: &Keep,
        (data, validation): (Dataset, Option<Dataset>),
    ) -> Result<Self> {
        let begun = keep.resume && keep.medium.list(&keep.store).is_ok() && !is_unborn(&*keep.medium, &keep.store)?;
        if !keep.further && !begun {
            return Self::anew(bundle, lesson, keep, data, validation);
        }
        let mut store = StoreWriter::open_on(keep.medium.clone(), &keep.store)?;
        let Generation { record, adapter } = store.load(bundle)?;
        store.close_generation();
        let (mut data, validation) = match keep.further {
            true => added_to(&record.classes, data, validation)?,
            false => (data, validation),
        };
        let photos = Hashed::read(&data, validation.as_ref(), &bundle.preprocess, &keep.stop)?;
        if !adapter.sites.is_empty() {
            record.lesson.keep_pairs(lesson)?;
        }
        lesson.settle_rates(data.photos.len());
        let settings = RecordedLesson::on(lesson, &photos);
        let mut warnings: Vec<String> = store.warning().into_iter().chain(photos.warnings()).collect();
        let own = |record: &Record| record.lesson.is_asked_by(&settings) && record.classes == data.classes;
        let left = match keep.resume {
            true => Left::find(bundle, &store, &record, own, (&settings, keep.further), &mut warnings)?,
            false => Left::let_go(&store, &mut warnings)?,
        };
        let identities = photos.identities();
        data.identify(&identities[0]);
        let mut examples = Examples::none(lesson.replay);
        if keep.further {
            let has_pairs = !adapter.sites.is_empty() || lesson.method.settings().trains_pairs;
            examples = Examples::find((&store, &record), has_pairs, lesson.replay, &mut warnings);
            examples.join(&mut data, validation.as_ref(), &identities);
        }
        let known = record.classes.len();
        let mut opening = Opening {
            store: Some(store),
            known,
            knew: if keep.further { known } else { 0 },
            has_learned_pairs: keep.further && !adapter.sites.is_empty(),
            resumes: true,
            warnings,
            ..Opening::of((data, validation), adapter, record, examples)
        };
        opening.find_absent(keep);
        let mut opening = opening.take_up(left, bundle, lesson, settings)?;
        if keep.further && !opening.over {
            opening.examples.settle(&mut opening.record, opening.from.is_some(), &keep.store)?;
        }
        Ok(opening)
    }

    /// Goes on with what was left, or begins a further lesson.
    fn take_up(self, left: Left, bundle: &Bundle, lesson: &Lesson, settings: RecordedLesson) -> Result<Self> {
        match left {
            Left::UnderWay(left) => {
                let UnderWay { record, standing, adapter, before_events } = *left;
                // A further lesson has measured the classes that were known, a first one has none.
                if standing.before.known.0.is_empty() != (self.knew == 0) {
                    return Err(self.begun_otherwise());
                }
                // A checkpoint comes from outside: what cannot have been counted is not believed, and then nothing is judged by it.
                let before = Some(standing.before).filter(|before| before.can_be(self.knew)).unwrap_or_default();
                let from = Some(StepsLeft { epoch: standing.epoch, gate: standing.gate, before_events });
                let outlook = standing.outlook;
                let known = record.classes.len();
                Ok(Opening { known, record, adapter, from, outlook, before, ..self })
            }
            Left::Imprinted => {
                // Pairs are at their start, and directions that photos show are yet to be found, as many as there were.
                let kind = self.record.lesson.pair_kind().filter(|_| !self.adapter.sites.is_empty());
                let Adapter { sites, .. } = start_adapter(bundle, kind, 0)?;
                Ok(Opening { adapter: Adapter { sites, ..self.adapter }, ..self })
            }
            // The end may know more classes than what is current: nothing is imprinted any more.
            Left::Over(record, over_aside) => {
                Ok(Opening { known: record.classes.len(), over: true, over_aside, record: *record, ..self })
            }
            Left::Nothing => self.further(bundle, lesson, settings),
        }
    }

    /// A lesson is taken up as what it was begun.
    fn begun_otherwise(&self) -> Error {
        let (was, advice) = match self.knew {
            0 => ("a further lesson", "give option `from` with it, as then"),
            _ => ("a first lesson", "give it as option `output`, as then"),
        };
        let place = self.store.as_ref().map_or_else(String::new, |store| store.path().display().to_string());
        Error::new(ErrorKind::Mismatch, place, format_args!("what is under way there was begun as {was}: {advice}"))
    }

    /// Notes which classes a further lesson has no photos of.
    pub(crate) fn find_absent(&mut self, keep: &Keep) {
        if keep.further {
            self.absent = self.data.without_photos().into_iter().map(str::to_owned).collect();
        }
    }

    /// Whether there are steps to take.
    pub(crate) fn takes_steps(&self, lesson: &Lesson) -> bool {
        lesson.method.settings().trains_head && self.absent.is_empty() && !self.over
    }

    /// The lesson in numbers, on the photos that there are now.
    pub(crate) fn plan(&self, bundle: &Bundle, lesson: &Lesson) -> Plan {
        let plan = plan(bundle, lesson, self.data.photos.len());
        if self.takes_steps(lesson) { plan } else { plan.cut_to(0) }
    }

    /// Notes whether the values that the prefix makes are rounded. A lesson that goes on keeps to what it began with.
    ///
    /// # Errors
    /// Kind `Mismatch` where it began otherwise.
    pub(crate) fn settle_rounding(&mut self, rounded: bool) -> Result<()> {
        if self.over {
            return Ok(());
        }
        if self.resumes && self.record.lesson.rounded != rounded {
            let [then, now] = if rounded { ["without", "with"] } else { ["with", "without"] };
            let message = format!(
                "the lesson began {then} a cache, and {now} one it would end in other bytes; give what was given then, for option `cache_limit` \
                 too"
            );
            return Err(Error::new(ErrorKind::Mismatch, "option `cache`", message));
        }
        self.record.lesson.rounded = rounded;
        Ok(())
    }

    /// Whether no step of it has been taken yet.
    pub(crate) fn begins(&self) -> bool {
        self.record.steps == 0 && !self.over
    }

    /// Whether it looks for directions in its photos; after what a store has learned, they are for events alone.
    pub(crate) fn finds_directions(&self, lesson: &Lesson, plan: &Plan) -> bool {
        let has_events = plan.steps > 0 && plan.due != Due::Never;
        self.begins() && lesson.finds_directions() && (has_events || !self.has_learned_pairs)
    }

    /// Whether it adds classes to those that the store knew.
    pub(crate) fn adds_classes(&self) -> bool {
        self.knew > 0 && self.knew < self.data.classes.len() && !self.over
    }

    /// Whether adding classes is all that it does.
    pub(crate) fn only_adds(&self, plan: &Plan) -> bool {
        plan.steps == 0 && self.adds_classes()
    }

    /// The adapter; nothing of it stays here.
    pub(crate) fn take_adapter(&mut self) -> Result<Adapter> {
        let nothing = Adapter::start([], 0, SiteSettings::default(), 0, 0)?;
        Ok(core::mem::replace(&mut self.adapter, nothing))
    }

    /// A first lesson.
    fn anew(
        bundle: &Bundle,
        lesson: &mut Lesson,
        keep: &Keep,
        mut data: Dataset,
        validation: Option<Dataset>,
    ) -> Result<Self> {
        match keep.medium.list(&keep.store) {
            Ok(_) if !keep.resume => return Err(already_there(&keep.store)),
            Ok(_) => {}
            Err(_) => keep.medium.check_new(&keep.store)?,
        }
        lesson.settle_rates(data.photos.len());
        let photos = Hashed::read(&data, validation.as_ref(), &bundle.preprocess, &keep.stop)?;
        let (settings, warnings, [identities, _]) =
            (RecordedLesson::on(lesson, &photos), photos.warnings(), photos.identities());
        data.identify(&identities);
        let record = Record::new(bundle, settings, lesson.method.settings().trains_pairs, &data.classes);
        let adapter = fresh_adapter(bundle, lesson, data.classes.len())?;
        let examples = Examples::none(lesson.replay);
        Ok(Opening { warnings, ..Opening::of((data, validation), adapter, record, examples) })
    }

    /// A lesson that has not begun.
    fn of(
        (data, validation): (Dataset, Option<Dataset>),
        adapter: Adapter,
        record: Record,
        examples: Examples,
    ) -> Self {
        Opening {
            store: None,
            data,
            validation,
            adapter,
            record,
            known: 0,
            knew: 0,
            has_learned_pairs: false,
            from: None,
            outlook: Outlook::default(),
            before: Before::default(),
            resumes: false,
            over: false,
            over_aside: None,
            absent: Vec::new(),
            examples,
            warnings: Vec::new(),
        }
    }

    /// A further lesson after what the store has learned.
    fn further(mut self, bundle: &Bundle, lesson: &Lesson, settings: RecordedLesson) -> Result<Self> {
        let parent = self.store.as_ref().map_or(0, |store| store.current());
        let fresh = fresh_adapter(bundle, lesson, self.data.classes.len())?;
        if self.adapter.sites.is_empty() {
            self.adapter.sites = fresh.sites;
        }
        self.adapter.begin_lesson(self.data.classes.len())?;
        let sites = !self.adapter.sites.is_empty();
        self.record = Record { parent, ..Record::new(bundle, settings, sites, &self.data.classes) };
        self.resumes = false;
        if !self.absent.is_empty() && self.known == self.data.classes.len() {
            let message = format!(
                "has no photos of {}, nor has the store examples: a lesson without either would unlearn them; add some of their old photos",
                self.absent.join(", ")
            );
            return Err(Error::new(ErrorKind::Data, self.data.place(), message));
        }
        Ok(self)
    }
}

/// The photos, counted in the classes that a store knows and new ones after them.
fn added_to(known: &[String], data: Dataset, validation: Option<Dataset>) -> Result<(Dataset, Option<Dataset>)> {
    let data = data.added_to(known)?;
    let validation = validation.map(|validation| validation.relabelled(&data.classes)).transpose()?;
    Ok((data, validation))
}

/// What a store holds of a lesson that is to be taken up again.
enum Left {
    /// It was cut off between two steps.
    UnderWay(Box<UnderWay>),
    /// Its head was imprinted, and no more.
    Imprinted,
    /// It has ended: its record, and its number where it was kept aside.
    Over(Box<Record>, Option<u64>),
    /// It has not begun.
    Nothing,
}

impl Left {
    /// Nothing is gone on with, and what is there is said.
    fn let_go(store: &Store, warnings: &mut Vec<String>) -> Result<Self> {
        let let_go = |step| {
            format!("a lesson under way, after step {step}, is let go; option `resume` would have gone on with it")
        };
        warnings.extend(store.steps_under_way()?.map(let_go));
        Ok(Left::Nothing)
    }

    fn find(
        bundle: &Bundle,
        store: &Store,
        record: &Record,
        own: impl Fn(&Record) -> bool,
        (settings, further): (&RecordedLesson, bool),
        warnings: &mut Vec<String>,
    ) -> Result<Self> {
        // A cut may have left the steps of a lesson beside its end.
        let aside = store.aside()?.filter(|(number, _)| *number > store.current());
        if let Some((number, aside)) = aside.filter(|(_, aside)| own(aside)) {
            return Ok(Left::Over(Box::new(aside), Some(number)));
        }
        let (left, faults) = store.under_way(bundle, &own)?;
        warnings.extend(faults.iter().map(|(_, fault)| format!("a checkpoint is passed over: {fault}")));
        match left {
            Some(left) if own(&left.record) && left.standing.announced && further => return Ok(Left::Nothing),
            Some(left) if own(&left.record) => return Ok(Left::UnderWay(Box::new(left))),
            Some(left) => {
                let advice = "give the same ones to go on; without option `resume`, option `from` begins another lesson and lets that one go";
                return Err(other_lesson(store, "the lesson under way", (&left.record.lesson, settings), advice));
            }
            None => {}
        }
        match own(record) {
            // A further lesson without steps leaves nothing between its beginning and its end.
            true if record.steps > 0 || further => Ok(Left::Over(Box::new(record.clone()), None)),
            true => Ok(Left::Imprinted),
            false if further => Ok(Left::Nothing),
            false => {
                let advice = "give the same ones to go on, or add a lesson with option `from`";
                Err(other_lesson(store, "its lesson", (&record.lesson, settings), advice))
            }
        }
    }
}

fn other_lesson(store: &Store, whose: &str, (then, now): (&RecordedLesson, &RecordedLesson), advice: &str) -> Error {
    let differences = match then.differences(now) {
        same if same.is_empty() => "it knows other classes".to_owned(),
        differences => differences.join("; "),
    };
    let message = format!("{whose} has other settings ({differences}): {advice}");
    Error::new(ErrorKind::Mismatch, store.path().display(), message)
}
