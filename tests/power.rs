//! A lesson on a medium that fails: the power goes before every single change of it, with five kinds of leftovers, and every call
//! is refused in turn. Whatever was acknowledged must be found again, and the lesson taken up must end in the bytes of one that
//! nothing interrupted.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use srlora::ErrorKind;
use srlora::bundle::Bundle;
use srlora::core::{FuseOrder, Method, Sides, Start};
use srlora::session::store::{Medley, Simulated};
use srlora::session::{
    CachePlace, Dataset, DirectionSource, Flow, Happened, Interval, Keep, Layout, Length, Lesson, Picture, Pixels,
    Progress, Store, StoreWriter, TrainReport, Trainer, Validation,
};
use tempfile::TempDir;

/// A network of a few thousand weights, photos of noise in two classes, and a lesson of a few steps with recompositions.
struct Place {
    folder: TempDir,
    bundle: Bundle,
    lesson: Lesson,
}

impl Place {
    fn new(validation: bool) -> Self {
        // Classes that are as easy after the lesson as imprinted; or, to be kept aside, such as the lesson unlearns.
        let [dark, bright] = if validation { [90, 110] } else { [20, 150] };
        let mut place = Self::of([("dark", dark, 0), ("bright", bright, 0)], validation);
        // What both sides of pairs unlearn at such a rate no head can mend.
        (place.lesson.lr, place.lesson.pairs) = (validation.then_some(3.0), validation.then_some(Sides::Both));
        place
    }

    /// Classes that differ by nothing but chance, so that the lesson is cross-validated: no events are asked for.
    fn cross_validated() -> Self {
        let mut place = Self::of([("one", 90, 0), ("other", 90, 5)], false);
        place.lesson.interval = Interval::Once;
        place
    }

    fn of(classes: [(&str, u32, u32); 2], validation: bool) -> Self {
        let folder = TempDir::new().unwrap();
        classes.into_iter().for_each(|(class, base, first)| photos(&folder.path().join("photos"), class, base, first));
        let bundle = folder.path().join("good.bundle");
        let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/models/good.onnx");
        let packed = std::process::Command::new(env!("CARGO_BIN_EXE_srlora"))
            .args(["pack", "--sites", "all", "--rank", "2", "--reserve", "8", "--fit", "stretch", "-o"])
            .args([&bundle, &model])
            .output()
            .unwrap();
        assert!(packed.status.success(), "{}", String::from_utf8_lossy(&packed.stderr));
        let [data, val] = ["photos", "others"].map(|name| folder.path().join(name));
        for (class, ..) in classes {
            fs::create_dir_all(val.join(class)).unwrap();
            for photo in fs::read_dir(data.join(class)).unwrap().map(Result::unwrap) {
                fs::copy(photo.path(), val.join(class).join(photo.file_name())).unwrap();
            }
        }
        let lesson = Lesson {
            length: Length::Steps(7),
            batch: 4,
            interval: 2.into(),
            cache: CachePlace::Off,
            validation: if validation { Validation::Photos(val.into()) } else { Validation::None },
            ..Lesson::new(data)
        };
        Place { bundle: Bundle::open(&bundle).unwrap(), lesson, folder }
    }

    fn keep(&self, medium: &Simulated, resume: bool) -> Keep {
        let medium = Arc::new(medium.clone());
        Keep { medium, resume, every: Duration::ZERO, ..Keep::new(STORE) }
    }

    /// The lesson, or the rest of it.
    fn train(&self, medium: &Simulated, resume: bool) -> srlora::Result<TrainReport> {
        train_into(&self.bundle, &self.lesson, self.keep(medium, resume), &mut |_| ())
    }

    /// The number of its last step.
    fn last(&self) -> u64 {
        let Length::Steps(steps) = self.lesson.length else { unreachable!() };
        steps.into()
    }

    /// What a whole lesson leaves, and the calls and changes that it made.
    fn uninterrupted(&self) -> (BTreeMap<PathBuf, Vec<u8>>, (u64, u64)) {
        let medium = medium();
        self.train(&medium, false).unwrap();
        (generations(&medium), (medium.calls(), medium.changes()))
    }
}

/// Five photos of grey noise.
fn photos(root: &Path, class: &str, base: u32, first: u32) {
    fs::create_dir_all(root.join(class)).unwrap();
    for nth in first..first + 5 {
        let noise = |x: u32, y: u32| (x * 7919 + y * 104_729 + nth * 1_299_709 + base) % 61;
        let photo = image::RgbImage::from_fn(20, 20, |x, y| image::Rgb([(base + noise(x, y)) as u8; 3]));
        photo.save(root.join(class).join(format!("{nth}.png"))).unwrap();
    }
}

const STORE: &str = "/simulated/store";

fn medium() -> Simulated {
    Simulated::with_folder(Path::new("/simulated"))
}

/// Everything but the journal.
fn generations(medium: &Simulated) -> BTreeMap<PathBuf, Vec<u8>> {
    medium.files().into_iter().filter(|(path, _)| path.extension().is_some_and(|e| e == "safetensors")).collect()
}

/// How the files of two media differ.
fn difference(end: &BTreeMap<PathBuf, Vec<u8>>, expected: &BTreeMap<PathBuf, Vec<u8>>) -> String {
    let names = |files: &BTreeMap<PathBuf, Vec<u8>>| files.keys().map(|p| p.display().to_string()).collect::<Vec<_>>();
    let other =
        end.iter().filter(|(path, bytes)| expected.get(*path).is_some_and(|e| e != *bytes)).map(|(path, _)| path);
    format!("{:?} for {:?}, other bytes in {:?}", names(end), names(expected), other.collect::<Vec<_>>())
}

/// The step that a lesson goes on after, and its end.
fn take_up(place: &Place, medium: &Simulated) -> (Option<u64>, BTreeMap<PathBuf, Vec<u8>>) {
    let report = place.train(medium, true).unwrap();
    (report.resumed_after, generations(medium))
}

#[test]
fn the_power_may_go_before_any_change_of_a_lesson_that_becomes_current() {
    every_cut(&Place::new(false), "generation-000002");
}

#[test]
fn the_power_may_go_before_any_change_of_a_lesson_that_is_kept_aside() {
    every_cut(&Place::new(true), "aside-000002");
}

#[test]
fn the_power_may_go_before_any_change_of_a_lesson_that_is_cross_validated() {
    let place = Place::cross_validated();
    let report = place.train(&medium(), false).unwrap();
    assert_eq!(report.cross_validation.map(|cross_validation| cross_validation.photos), Some(10));
    every_cut(&place, "generation-000002");
}

#[test]
fn the_power_may_go_before_any_change_of_a_lesson_of_which_both_sides_learn() {
    let mut place = Place::new(false);
    place.lesson.pairs = Some(Sides::Both);
    every_cut(&place, "generation-000002");
}

#[test]
fn pairs_that_are_cross_validated_are_taken_up_by_a_lesson_that_does_not_say_what_they_are() {
    let mut place = Place::cross_validated();
    place.lesson.pairs = Some(Sides::Both);
    let (expected, (_, changes)) = place.uninterrupted();
    let plain = Lesson { pairs: None, ..place.lesson.clone() };
    let mut taken_up = 0;
    for cut in 1..=changes {
        let medium = medium();
        medium.cut_before(cut);
        let _ = place.train(&medium, false);
        let left = medium.after_cut(Medley::ALL[0]);
        if Store::open_on(Arc::new(left.clone()), Path::new(STORE)).is_ok() {
            train_into(&place.bundle, &plain, place.keep(&left, true), &mut |_| ()).unwrap();
            assert!(generations(&left) == expected, "cut {cut}: {}", difference(&generations(&left), &expected));
            taken_up += 1;
        }
    }
    assert!(taken_up > 3, "{taken_up} of {changes} cuts left a store");
}

/// Cuts the power before each change in turn: the lesson, taken up, still ends in the same bytes.
fn every_cut(place: &Place, end_name: &str) {
    let (expected, (_, changes)) = place.uninterrupted();
    let names: Vec<_> = expected.keys().map(|path| path.file_stem().unwrap().to_str().unwrap()).collect();
    let all = ["generation-000001", end_name, "replay-000001"];
    assert!(names.len() == 3 && all.iter().all(|name| names.contains(name)), "{names:?}");
    let mut cuts = 0;
    for cut in 1..=changes {
        let medium = medium();
        medium.cut_before(cut);
        let mut last_step = 0;
        let observer = &mut |progress: Progress<'_>| {
            if let Progress::Step { step, .. } = progress {
                last_step = step;
            }
        };
        let error = train_into(&place.bundle, &place.lesson, place.keep(&medium, false), observer);
        // Removing what is of no more use may fail without a word; all else is said.
        if let Err(error) = error {
            assert!([ErrorKind::Io, ErrorKind::Unsynced].contains(&error.kind()), "{error}");
        }
        for medley in Medley::ALL {
            let left = medium.after_cut(medley);
            // Every step is followed by a checkpoint, so no more than the step under way is lost.
            if let Ok(store) = Store::open_on(Arc::new(left.clone()), Path::new(STORE)) {
                assert!(store.current() <= 2);
            } else {
                assert_eq!(last_step, 0, "cut {cut}, {medley:?}: a store was there and is lost");
            }
            let (resumed_after, end) = take_up(place, &left);
            assert!(
                end == expected,
                "cut {cut}, {medley:?}, after step {resumed_after:?}: {}",
                difference(&end, &expected)
            );
            assert!(
                resumed_after.unwrap_or(0) + 1 >= last_step,
                "cut {cut}, {medley:?}: step {last_step} was taken, and the lesson went on after {resumed_after:?}"
            );
            cuts += 1;
        }
    }
    println!("a lesson of 7 steps: {changes} changes of the medium, {cuts} cuts, 0 stores lost");
}

#[test]
fn the_power_may_go_before_any_change_of_a_further_lesson_with_photos_of_the_known_classes_examples_and_neither() {
    for (known, replay, steps) in [(true, 0, 7), (false, 1 << 20, 7), (false, 0, 0)] {
        let place = Place::new(false);
        let first = medium();
        place.train(&first, false).unwrap();
        let data = place.folder.path().join("more");
        photos(&data, "grey", 85, 0);
        if known {
            photos(&data, "dark", 20, 0);
            photos(&data, "bright", 150, 0);
        }
        let lesson = Lesson { data: data.into(), replay, ..place.lesson.clone() };
        let further = |medium: &Simulated, resume: bool| {
            let keep = Keep { further: true, ..place.keep(medium, resume) };
            train_into(&place.bundle, &lesson, keep, &mut |_| ())
        };
        let whole = first.after_cut(Medley::Kept);
        let report = further(&whole, false).unwrap();
        // Of five examples of each known class, one is held back.
        assert_eq!((report.steps, report.replayed), (steps, if replay > 0 { 8 } else { 0 }));
        let (expected, changes) = (generations(&whole), whole.changes());
        // The first lesson's examples, and those of both.
        let files = if replay > 0 { 5 } else { 4 };
        assert_eq!(expected.len(), files, "nothing of the lesson is there but its end: {:?}", expected.keys());
        for cut in 1..=changes {
            let medium = first.after_cut(Medley::Kept);
            medium.cut_before(cut);
            let _ = further(&medium, false);
            for medley in Medley::ALL {
                let left = medium.after_cut(medley);
                further(&left, true).unwrap();
                let end = generations(&left);
                assert!(end == expected, "cut {cut}, {medley:?}: {}", difference(&end, &expected));
            }
        }
        println!("a further lesson: {changes} changes of the medium, each cut, 0 stores lost");
    }
}

#[test]
fn any_call_may_be_refused_and_what_was_kept_stays() {
    let place = Place::new(false);
    let (expected, (calls, _)) = place.uninterrupted();
    let kinds = [io::ErrorKind::StorageFull, io::ErrorKind::ReadOnlyFilesystem, io::ErrorKind::Other];
    let (mut refusals, mut unsynced) = (0, 0);
    for call in 1..=calls {
        for (kind, for_good) in kinds.into_iter().zip([true, false, true]) {
            let medium = medium();
            medium.refuse(call, kind, for_good);
            match place.train(&medium, false) {
                Ok(_) => {
                    assert!(generations(&medium).len() >= expected.len(), "call {call}, {kind:?}: said to be done")
                }
                Err(error) => {
                    assert!(error.to_string().contains("/simulated"), "call {call}: {error} names no file");
                    let is_there = generations(&medium).contains_key(Path::new(error.subject()));
                    match error.kind() {
                        ErrorKind::Io => assert!(!is_there, "call {call}: {error}, and yet it is there"),
                        ErrorKind::Unsynced => {
                            assert!(is_there, "call {call}: {error}, and yet it is not there");
                            unsynced += 1;
                        }
                        kind => assert_eq!(kind, ErrorKind::Exists, "call {call}: {error}"),
                    }
                }
            }
            // The medium works again.
            medium.refuse(0, kind, false);
            let (_, end) = take_up(&place, &medium);
            assert!(end == expected, "call {call}, {kind:?}: {}", difference(&end, &expected));
            refusals += 1;
        }
    }
    println!("a lesson of 7 steps: {calls} calls, {refusals} refusals, {unsynced} of a folder's sync, 0 stores lost");
    assert_eq!(unsynced, 9 * kinds.len(), "two generations and seven checkpoints; examples alone are nothing");
}

/// A lesson to its end.
fn train_into<A: Into<Flow>>(
    bundle: &Bundle,
    lesson: &Lesson,
    keep: Keep,
    observer: &mut impl FnMut(Progress<'_>) -> A,
) -> srlora::Result<TrainReport> {
    Trainer::new(bundle, lesson.clone(), keep)?.run(observer)
}

/// A lesson that was stopped after the step `last`.
fn stopped_after(place: &Place, last: u64) -> Simulated {
    let medium = medium();
    let keep = Keep { every: Duration::MAX, ..place.keep(&medium, false) };
    let observer = &mut |progress: Progress<'_>| match progress {
        Progress::Step { step, .. } if step == last => Flow::Stop,
        _ => Flow::GoOn,
    };
    let error = train_into(&place.bundle, &place.lesson, keep, observer).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Stopped);
    assert!(error.to_string().contains(&format!("after step {last} of 7")), "{error}");
    medium
}

#[test]
fn a_checkpoint_has_the_bytes_that_were_planned_and_a_generation_has_fewer() {
    for sides in [Sides::One, Sides::Both] {
        let mut place = Place::new(false);
        (place.lesson.pairs, place.lesson.interval) = (Some(sides), Interval::Once);
        let planned = Trainer::new(&place.bundle, place.lesson.clone(), place.keep(&medium(), false)).unwrap();
        let planned = planned.forecast().checkpoint_bytes as usize;
        let files = stopped_after(&place, 3).files();
        // Tensors begin behind a header of names and shapes, and its length.
        let numbers = |name: &str| {
            let (_, bytes) = files.iter().find(|(path, _)| path.display().to_string().contains(name)).unwrap();
            bytes.len() - 8 - u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize
        };
        let [checkpoint, generation] = ["checkpoint-", "generation-"].map(numbers);
        assert!((planned..planned + planned / 20).contains(&checkpoint), "{sides:?}: {checkpoint}, {planned} planned");
        assert!(generation < checkpoint / 2, "{sides:?}: {generation} of {checkpoint}");
    }
}

#[test]
fn a_lesson_that_is_asked_to_stop_stops_at_a_step_and_goes_on_to_the_same_bytes() {
    let place = Place::new(true);
    let (expected, _) = place.uninterrupted();
    for last in 1..=7 {
        let medium = stopped_after(&place, last);
        assert_eq!(take_up(&place, &medium), (Some(last), expected.clone()));
    }
}

#[test]
fn a_lesson_stepped_by_hand_ends_in_the_same_bytes_and_tells_what_happened() {
    let place = Place::new(true);
    let (expected, _) = place.uninterrupted();
    let medium = medium();
    let mut trainer = Trainer::new(&place.bundle, place.lesson.clone(), place.keep(&medium, false)).unwrap();
    assert_eq!((trainer.forecast().steps, trainer.classes().len()), (7, 2));
    let mut happened = Vec::new();
    let report = loop {
        match trainer.step(&mut |_| ()).unwrap() {
            Happened::Imprinted => happened.push("imprinted".to_owned()),
            Happened::Ready(cross_validation) => happened.push(format!("ready {}", cross_validation.is_some())),
            Happened::Step { step, .. } => happened.push(step.to_string()),
            Happened::Ended(report) => break report,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(happened.join(" "), "imprinted ready false 1 2 3 4 5 6 7");
    assert!(matches!(trainer.step(&mut |_| ()), Ok(Happened::Ended(again)) if again.steps == report.steps));
    assert_eq!(generations(&medium), expected);
}

#[test]
fn a_lesson_that_is_stopped_from_another_thread_lets_its_step_go_and_goes_on_to_the_same_bytes() {
    let place = Place::new(true);
    let (expected, _) = place.uninterrupted();
    let medium = medium();
    let keep = Keep { every: Duration::MAX, ..place.keep(&medium, false) };
    let stop = keep.stop.clone();
    let mut trainer = Trainer::new(&place.bundle, place.lesson.clone(), keep).unwrap();
    // The lesson runs on a thread of its own, and waits after its third step until it has been stopped from here.
    let (told, wait) = (std::sync::mpsc::channel(), std::sync::mpsc::channel());
    let lesson = std::thread::spawn(move || {
        loop {
            match trainer.step(&mut |_| ()) {
                Ok(Happened::Step { step: 3, .. }) => {
                    told.0.send(()).unwrap();
                    wait.1.recv().unwrap();
                }
                Ok(Happened::Ended(_)) => panic!("it was not stopped"),
                Ok(_) => {}
                Err(error) => return error,
            }
        }
    });
    told.1.recv().unwrap();
    stop.set();
    wait.0.send(()).unwrap();
    let error = lesson.join().unwrap();
    assert!(error.kind() == ErrorKind::Stopped && error.to_string().contains("after step 3 of 7"), "{error}");
    assert_eq!(take_up(&place, &medium), (Some(3), expected));
}

#[test]
fn a_lesson_may_be_stopped_whenever_it_tells_something_and_goes_on_to_the_same_bytes() {
    for place in [Place::new(false), Place::new(true), Place::cross_validated()] {
        let (expected, _) = place.uninterrupted();
        let (mut told, mut stopped, mut after) = (0, 0, std::collections::BTreeSet::new());
        loop {
            let (medium, mut now) = (medium(), 0);
            let keep = Keep { every: Duration::MAX, ..place.keep(&medium, false) };
            let ended = train_into(&place.bundle, &place.lesson, keep, &mut |_: Progress<'_>| {
                now += 1;
                if now == told + 1 { Flow::Stop } else { Flow::GoOn }
            });
            if now <= told {
                break;
            }
            told += 1;
            match ended {
                // It was over when it was stopped.
                Ok(_) => assert!(generations(&medium) == expected),
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::Stopped, "{error}");
                    let (from, end) = take_up(&place, &medium);
                    assert!(end == expected, "told {told}, {error}: {}", difference(&end, &expected));
                    after.insert(from.unwrap_or(0));
                    stopped += 1;
                }
            }
        }
        assert!(after.contains(&0) && after.contains(&place.last()), "{after:?}");
        println!("{told} moments, stopped at {stopped} of them, after the steps {after:?}");
    }
}

#[test]
fn a_lesson_is_taken_up_only_as_what_it_was_begun() {
    let place = Place::new(true);
    let first = stopped_after(&place, 3);
    let files = first.files();
    let keep = Keep { further: true, ..place.keep(&first, true) };
    let error = train_into(&place.bundle, &place.lesson, keep, &mut |_| ()).unwrap_err();
    assert!(error.kind() == ErrorKind::Mismatch && error.to_string().contains("begun as a first lesson"), "{error}");
    assert_eq!(first.files(), files, "nothing has changed");

    let store = medium();
    place.train(&store, false).unwrap();
    let lesson = Lesson { seed: 1, ..place.lesson.clone() };
    let keep = Keep { further: true, every: Duration::MAX, ..place.keep(&store, false) };
    let observer = &mut |progress: Progress<'_>| match progress {
        Progress::Step { step: 3, .. } => Flow::Stop,
        _ => Flow::GoOn,
    };
    train_into(&place.bundle, &lesson, keep, observer).unwrap_err();
    let error = train_into(&place.bundle, &lesson, place.keep(&store, true), &mut |_| ()).unwrap_err();
    assert!(error.kind() == ErrorKind::Mismatch && error.to_string().contains("begun as a further lesson"), "{error}");
    let keep = Keep { further: true, ..place.keep(&store, true) };
    assert_eq!(train_into(&place.bundle, &lesson, keep, &mut |_| ()).unwrap().resumed_after, Some(3));
}

#[test]
fn a_lesson_that_ruins_the_network_is_kept_aside_by_what_it_makes_of_its_photos_and_one_that_ruins_the_head_is_mended()
{
    let place = Place::new(false);
    // More than five photos of a class, so that nothing but the photos trained on judges it.
    let data = place.folder.path().join("many");
    [("dark", 20), ("bright", 150)].into_iter().for_each(|(class, base)| {
        photos(&data, class, base, 0);
        photos(&data, class, base, 5);
    });
    let ends = |steps, lr, head_lr| {
        let lesson = Lesson {
            data: data.clone().into(),
            length: Length::Steps(steps),
            interval: Interval::Once,
            ..place.lesson.clone()
        };
        let lesson = Lesson { lr: Some(lr), head_lr, ..lesson };
        train_into(&place.bundle, &lesson, place.keep(&medium(), false), &mut |_| ()).unwrap()
    };
    let ruined = ends(2, 3.0, 1e-3);
    let trial = ruined.trial.unwrap();
    assert!(ruined.aside.is_some() && trial.after < 0.9, "{trial:?}");
    // The step before it has made nothing of the features that the head, solved, could not be made of.
    let mended = ends(1, 1e-3, 1e4);
    assert!(mended.aside.is_none() && mended.calibration.unwrap().solved, "{mended:?}");
    assert_eq!(mended.trial.unwrap().after, 1.0);
}

#[test]
fn a_further_lesson_goes_on_only_with_the_examples_that_it_began_with() {
    let place = Place::new(false);
    let whole = medium();
    place.train(&whole, false).unwrap();
    let data = place.folder.path().join("more");
    photos(&data, "grey", 85, 0);
    let lesson = Lesson { data: data.into(), ..place.lesson.clone() };
    let further = |medium: &Simulated, resume: bool, stops_after: u64| {
        let keep = Keep { further: true, ..place.keep(medium, resume) };
        train_into(&place.bundle, &lesson, keep, &mut |progress: Progress<'_>| match progress {
            Progress::Step { step, .. } if step == stops_after => Flow::Stop,
            _ => Flow::GoOn,
        })
    };
    let (expected, left) = (whole.after_cut(Medley::Kept), whole.after_cut(Medley::Kept));
    further(&expected, false, 0).unwrap();
    assert_eq!(further(&left, false, 3).unwrap_err().kind(), ErrorKind::Stopped);
    let file = Path::new(STORE).join("replay-000001.safetensors");
    let bytes = left.files()[&file].clone();
    let mut damaged = bytes.clone();
    *damaged.last_mut().unwrap() ^= 1;
    left.overwrite(&file, damaged);
    let error = further(&left, true, 0).unwrap_err();
    assert!(error.kind() == ErrorKind::Mismatch && error.to_string().contains("other examples"), "{error}");
    left.overwrite(&file, bytes);
    assert_eq!(further(&left, true, 0).unwrap().resumed_after, Some(3));
    assert!(generations(&left) == generations(&expected));
    // A lesson that begins with a damaged buffer says so, and goes on without.
    let spoilt = whole.after_cut(Medley::Kept);
    spoilt.overwrite(&file, b"nothing".to_vec());
    let report = further(&spoilt, false, 0).unwrap();
    assert_eq!((report.steps, report.replayed), (0, 0));
}

#[test]
fn photos_that_vanish_end_a_lesson_and_once_they_are_back_it_goes_on_to_the_same_bytes() {
    let place = Place::new(false);
    let (expected, _) = place.uninterrupted();
    let (there, gone) = (place.folder.path().join("photos"), place.folder.path().join("gone"));
    let store = medium();
    let observer = &mut |progress: Progress<'_>| {
        if let Progress::Step { step: 2, .. } = progress {
            fs::rename(&there, &gone).unwrap();
        }
    };
    let keep = Keep { every: Duration::MAX, ..place.keep(&store, false) };
    let error = train_into(&place.bundle, &place.lesson, keep, observer).unwrap_err();
    assert!(error.kind() == ErrorKind::Data && error.to_string().contains("can no longer be read"), "{error}");
    fs::rename(&gone, &there).unwrap();
    assert_eq!(take_up(&place, &store), (Some(2), expected));
}

#[test]
fn settings_that_cannot_be_meant_are_refused_before_anything_is_read() {
    let place = Place::new(false);
    let lesson = || place.lesson.clone();
    for (lesson, option) in [
        (Lesson { threads: 0, ..lesson() }, "threads"),
        (Lesson { threads: usize::MAX, ..lesson() }, "threads"),
        (Lesson { batch: 0, ..lesson() }, "batch"),
        (Lesson { batch: usize::MAX, ..lesson() }, "batch"),
        (Lesson { length: Length::Steps(0), ..lesson() }, "steps"),
        (Lesson { length: Length::Epochs(0), ..lesson() }, "epochs"),
        (Lesson { lr: Some(f32::NAN), ..lesson() }, "lr"),
        (Lesson { lr: Some(-1.0), ..lesson() }, "lr"),
        (Lesson { head_lr: f32::INFINITY, ..lesson() }, "head_lr"),
        (Lesson { decay: Some(f32::NAN), ..lesson() }, "decay"),
        (Lesson { head_decay: Some(-1.0), ..lesson() }, "head_decay"),
        (Lesson { pairs: Some(Sides::One), start: Some(Start::Principal), ..lesson() }, "pairs"),
        (Lesson { pairs: Some(Sides::One), method: Method::Pissa, ..lesson() }, "pairs"),
        (
            Lesson { directions: Some(DirectionSource::Photos), start: Some(Start::Random { seed: 1 }), ..lesson() },
            "directions",
        ),
    ] {
        let store = medium();
        let error = train_into(&place.bundle, &lesson, place.keep(&store, false), &mut |_| ()).unwrap_err();
        assert!(error.kind() == ErrorKind::Usage && error.subject() == format!("option `{option}`"), "{error}");
        assert!(store.files().is_empty());
    }
}

/// The photos of `folder` in memory, each as `picture` makes it of its path.
fn in_memory(folder: &Path, picture: impl Fn(&Path) -> Picture) -> Dataset {
    let mut photos = Dataset::default();
    for class in ["dark", "bright"] {
        let mut files: Vec<PathBuf> =
            fs::read_dir(folder.join(class)).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.sort();
        files.iter().for_each(|file| photos.add(class, picture(file)).unwrap());
    }
    photos
}

#[test]
fn photos_in_memory_come_to_the_same_bytes_as_those_of_a_folder_as_pixels_and_as_the_bytes_of_files() {
    let place = Place::new(true);
    let (expected, _) = place.uninterrupted();
    let pixels = |path: &Path| {
        let photo = image::open(path).unwrap().into_rgb8();
        // Blue first, and rows that are padded.
        let (width, stride) = (photo.width() as usize, 3 * photo.width() as usize + 5);
        let rows = photo.as_raw().chunks(3 * width);
        let padded: Vec<u8> = rows
            .flat_map(|row| row.chunks(3).flat_map(|rgb| [rgb[2], rgb[1], rgb[0]]).chain([0xee; 5]).collect::<Vec<_>>())
            .collect();
        let pixels = Pixels::new(&padded, Layout::Bgr8, [photo.width(), photo.height()], stride).unwrap();
        Picture::pixels("frame", pixels)
    };
    let encoded = |path: &Path| Picture::encoded("upload", fs::read(path).unwrap());
    let pictures: [&dyn Fn(&Path) -> Picture; 2] = [&pixels, &encoded];
    for picture in pictures {
        let [data, val] = ["photos", "others"].map(|name| in_memory(&place.folder.path().join(name), picture));
        let lesson = Lesson { data: data.into(), validation: Validation::Photos(val.into()), ..place.lesson.clone() };
        let medium = medium();
        let report = Trainer::new(&place.bundle, lesson, place.keep(&medium, false)).unwrap().run(&mut |_| ()).unwrap();
        let end = generations(&medium);
        assert!(end == expected, "{}", difference(&end, &expected));
        assert_eq!(report.train_images, 10);
    }
}

#[test]
fn photos_in_memory_that_nothing_can_be_learned_from_are_refused_and_nothing_is_kept() {
    let place = Place::new(false);
    let refusal = |photos: Dataset| {
        let medium = medium();
        let lesson = Lesson { data: photos.into(), ..place.lesson.clone() };
        let error = Trainer::new(&place.bundle, lesson, place.keep(&medium, false))
            .and_then(|trainer| trainer.run(&mut |_| ()))
            .unwrap_err();
        assert!(medium.files().is_empty(), "{error}");
        (error.kind(), error.to_string())
    };
    let mut photos = Dataset::default();
    let (kind, said) = refusal(photos.clone());
    assert!(kind == ErrorKind::Data && said.contains("holds no photos"), "{said}");
    photos
        .add("only", Picture::encoded("a", fs::read(place.folder.path().join("photos/dark/0.png")).unwrap()))
        .unwrap();
    let (kind, said) = refusal(photos.clone());
    assert!(kind == ErrorKind::Data && said.contains("only one class, only"), "{said}");
    photos.add("other", Picture::encoded("broken", &b"no picture"[..])).unwrap();
    let (kind, said) = refusal(photos);
    assert!(kind == ErrorKind::Data && said.contains("class other: has no readable photo: broken (is not a"), "{said}");
}

#[test]
fn nothing_else_changes_a_store_while_a_lesson_writes_to_it() {
    let place = Place::new(false);
    let (expected, _) = place.uninterrupted();
    let medium = medium();
    let writer = || StoreWriter::open_on(Arc::new(medium.clone()), Path::new(STORE));
    let mut refused = 0;
    let observer = &mut |progress: Progress<'_>| {
        if let Progress::Step { .. } = progress {
            let error = writer().and_then(|mut store| store.rollback(None)).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Busy, "{error}");
            refused += 1;
        }
    };
    train_into(&place.bundle, &place.lesson, place.keep(&medium, false), observer).unwrap();
    assert_eq!((refused, generations(&medium) == expected), (7, true));
    assert_eq!(writer().unwrap().rollback(None).unwrap(), 1, "and afterwards it is free");
}

#[test]
fn a_lesson_that_is_over_or_another_one_is_not_taken_up() {
    let mut place = Place::new(false);
    let (expected, _) = place.uninterrupted();
    let medium = medium();
    assert_eq!(take_up(&place, &medium), (None, expected.clone()), "where nothing was begun, it begins");
    assert_eq!(take_up(&place, &medium), (Some(7), expected.clone()), "it was over");
    assert_eq!(place.train(&medium, false).unwrap_err().kind(), ErrorKind::Exists);
    place.lesson.seed = 5;
    place.lesson.lr = Some(0.5);
    let error = place.train(&medium, true).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Mismatch);
    assert!(error.to_string().contains("option `seed`: 0 then, 5 now; option `lr`: 0.001 then, 0.5 now"), "{error}");
    assert!(generations(&medium) == expected);
}

/// Cuts the cache of this process short, a file without a name in `folder`.
#[cfg(target_os = "linux")]
fn truncate_cache(folder: &Path) {
    let open = fs::read_dir("/proc/self/fd").unwrap().map(|entry| entry.unwrap().path());
    let is_cache = |link: PathBuf| link.starts_with(folder) && link.to_string_lossy().ends_with("(deleted)");
    let caches: Vec<_> = open.filter(|open| fs::read_link(open).is_ok_and(is_cache)).collect();
    assert_eq!(caches.len(), 1, "one file without a name");
    fs::File::options().write(true).open(&caches[0]).unwrap().set_len(1).unwrap();
}

#[cfg(target_os = "linux")]
#[test]
fn a_cache_that_cannot_be_read_any_more_is_made_again_or_named_and_the_lesson_goes_on_to_the_same_bytes() {
    for (validation, end) in [(true, "aside-000002"), (false, "generation-000002")] {
        let mut place = Place::new(validation);
        place.lesson.cache = CachePlace::Disk;
        let folder = TempDir::new().unwrap();
        let [whole, store] = ["whole", "store"].map(|name| folder.path().join(name));
        let keep = |store: &Path| Keep { every: Duration::ZERO, ..Keep::new(store) };
        let bytes = |store: &Path| fs::read(store.join(end).with_extension("safetensors")).unwrap();
        train_into(&place.bundle, &place.lesson, keep(&whole), &mut |_| ()).unwrap();
        let observer = &mut |progress: Progress<'_>| {
            if let Progress::Step { step: 3, .. } = progress {
                truncate_cache(folder.path());
            }
        };
        let ended = train_into(&place.bundle, &place.lesson, keep(&store), observer);
        if !validation {
            // Nothing but the photos trained on was to come, so the prefix had been let go.
            let error = ended.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Io, "{error}");
            for word in ["option `cache`", folder.path().to_str().unwrap(), "option `resume`"] {
                assert!(error.to_string().contains(word), "{error}");
            }
            let keep = Keep { resume: true, ..keep(&store) };
            let report = train_into(&place.bundle, &place.lesson, keep, &mut |_| ()).unwrap();
            assert_eq!(report.resumed_after, Some(3));
        } else {
            ended.unwrap();
        }
        assert!(bytes(&store) == bytes(&whole), "{end}");
    }
}

#[test]
fn a_lesson_that_would_recompose_other_pairs_or_none_is_not_taken_up() {
    let mut place = Place::new(false);
    let lesson = place.lesson.clone();
    let others = [
        (
            Lesson { choice: FuseOrder::Oldest, ..lesson.clone() },
            "pairs fused: the least important then, the oldest now",
        ),
        (Lesson { renews_only: true, ..lesson.clone() }, "renewed: pairs then, rates and moments only now"),
        (Lesson { decay: Some(0.0), ..lesson.clone() }, "option `decay`: 1 then, 0 now"),
        (Lesson { head_decay: Some(0.25), ..lesson.clone() }, "option `head_decay`: 0.5 then, 0.25 now"),
    ];
    for (other, difference) in others {
        place.lesson = lesson.clone();
        let left = stopped_after(&place, 3);
        let kept = generations(&left);
        place.lesson = other;
        let refused = place.train(&left, true).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Mismatch, "{refused}");
        assert!(refused.to_string().contains(difference), "{refused}");
        assert!(generations(&left) == kept, "{difference}");
        // What was asked for is kept with the lesson, which goes on to its own end.
        let (whole, _) = place.uninterrupted();
        assert_eq!(take_up(&place, &stopped_after(&place, 3)), (Some(3), whole));
    }
}

#[test]
fn any_flipped_byte_of_a_store_leaves_a_generation_or_a_clear_refusal() {
    let place = Place::new(false);
    let medium = medium();
    place.train(&medium, false).unwrap();
    let (files, mut flips) = (generations(&medium), 0);
    let newest = files.keys().rfind(|path| path.to_string_lossy().contains("generation-")).unwrap();
    let bytes = &files[newest];
    for at in 0..bytes.len() {
        let mut flipped = bytes.clone();
        flipped[at] ^= 1 << (at % 8);
        medium.overwrite(newest, flipped);
        let store = Store::open_on(Arc::new(medium.clone()), Path::new(STORE)).unwrap();
        assert_eq!(store.current(), 1, "byte {at}");
        assert!(store.warning().unwrap().contains("generation-000002"), "byte {at}");
        flips += 1;
    }
    println!("{flips} flips of {newest:?}: the generation before is used each time");
}

#[test]
fn a_medium_without_room_for_a_lesson_is_left_as_it_is() {
    let mut place = Place::new(false);
    let (whole, _) = place.uninterrupted();
    let kept: u64 = whole.values().map(|bytes| bytes.len() as u64).sum();
    let medium = medium();
    medium.tell_free(kept / 2);
    let error = place.train(&medium, false).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Io, "{error}");
    assert!(error.to_string().contains("make room there") && error.to_string().contains(STORE), "{error}");
    assert!(medium.files().is_empty() && medium.changes() == 0, "something was written");
    medium.tell_free(16 << 20);
    assert_eq!(take_up(&place, &medium), (None, whole));
    // Nothing more is to be kept of one that has ended.
    medium.tell_free(0);
    assert_eq!(place.train(&medium, true).unwrap().resumed_after, Some(7));
    place.lesson.seed = 1;
    assert_eq!(place.train(&medium, true).unwrap_err().kind(), ErrorKind::Mismatch);
}

/// The present resident size.
#[cfg(target_os = "linux")]
fn resident_bytes() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    1024 * line.split_whitespace().next().unwrap().parse::<u64>().unwrap()
}

#[cfg(target_os = "linux")]
#[test]
fn what_a_process_did_before_a_lesson_counts_neither_as_its_memory_nor_as_its_time() {
    const BLOCK: usize = 300 << 20;
    let mut place = Place::new(false);
    place.train(&medium(), false).unwrap();
    let block = vec![1u8; BLOCK];
    let with_block = resident_bytes();
    drop(std::hint::black_box(block));
    let without = resident_bytes();
    assert!(without + (BLOCK as u64) / 2 < with_block, "the block was there, and is given back");
    std::thread::sleep(Duration::from_millis(300));
    place.lesson.ram_limit = Some(without + (100 << 20));
    let report = place.train(&medium(), false).unwrap();
    assert!(report.planned_peak_bytes.unwrap() <= place.lesson.ram_limit.unwrap());
    let peak = report.peak_rss_bytes.unwrap();
    assert!(peak > without + (BLOCK as u64) / 2, "the process's peak of {with_block} bytes is told as {peak}");
    assert!(report.startup_ms <= 1e3 * report.seconds, "{} ms of {} s", report.startup_ms, report.seconds);
    if let Some(peak) = report.lesson_peak_bytes.filter(|peak| *peak < without + (BLOCK as u64) / 2) {
        assert!(peak <= place.lesson.ram_limit.unwrap());
    }
    // What is there still counts.
    let block = std::hint::black_box(vec![1u8; BLOCK]);
    assert_eq!(place.train(&medium(), false).unwrap_err().kind(), ErrorKind::Memory);
    drop(block);
}
