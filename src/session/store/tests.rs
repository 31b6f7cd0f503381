//! Every change of a store cut short, and the change that follows cut short too: what was acknowledged is found again.

use std::println;

use proptest::prelude::*;

use super::model::{Change, STORE, adapter, change, medium, open, operations, record};
use super::*;
use crate::session::replay::Replay;

/// What a store holds: classes, steps and head of what is current, and how far its lesson has come.
type Contents = ((Vec<String>, u64, Vec<f32>), Option<u64>);

fn contents(medium: &Simulated) -> Option<Contents> {
    let store = open(medium).ok()?;
    let record = store.record().unwrap();
    let head = store.container().unwrap().f32("head/values", &[7 * record.classes.len()]).unwrap();
    let current = |container: &Container| checkpoint::base(container) == Some(store.current);
    let (lesson, _) = Series::Checkpoint.newest(medium, Path::new(STORE), current).unwrap();
    Some(((record.classes, record.steps, head), lesson.map(|(step, _)| step)))
}

const LIFE: [Change; 14] = [
    Change::Create,
    Change::Checkpoint(1),
    Change::Checkpoint(2),
    Change::Save(3),
    Change::Checkpoint(1),
    Change::Aside(4),
    Change::Rollback(None),
    Change::Save(5),
    Change::Save(6),
    Change::Save(7),
    Change::Checkpoint(8),
    Change::Forget("b"),
    Change::Rollback(None),
    Change::Rollback(Some(3)),
];

/// The contents after each change of a life that nothing interrupts.
fn expected() -> Vec<Option<Contents>> {
    let medium = medium();
    let life = LIFE.iter().map(|&next| {
        // The number that a rollback is asked for may have left.
        let _ = change(&medium, next);
        contents(&medium)
    });
    life.collect()
}

/// A medium on which the changes before `nth` are done and durable.
fn until(nth: usize) -> Simulated {
    let medium = medium();
    LIFE[..nth].iter().for_each(|&next| drop(change(&medium, next)));
    medium.after_cut(Medley::Kept)
}

#[test]
fn a_change_cut_short_and_the_next_one_too_leaves_what_was_before_or_after_it() {
    let expected = expected();
    assert_eq!(expected[0].as_ref().unwrap().1, None);
    assert_eq!(expected[2].as_ref().unwrap().1, Some(2));
    assert_ne!(expected[2].as_ref().unwrap().0, expected[3].as_ref().unwrap().0);
    let (mut single, mut double) = (0u64, 0u64);
    for (nth, &cut_short) in LIFE.iter().enumerate() {
        let before = if nth == 0 { None } else { expected[nth - 1].clone() };
        let allowed = |found: &Option<Contents>| {
            let lesson_gone = before.as_ref().map(|(current, _)| (current.clone(), None));
            // What ends a lesson may take its steps away first, but only once its end is durable.
            *found == before
                || *found == expected[nth]
                || (matches!(cut_short, Change::Aside(_)) && *found == lesson_gone)
        };
        for cut in 1..=changes(&until(nth), cut_short) {
            let medium = until(nth);
            medium.cut_before(cut);
            let _ = change(&medium, cut_short);
            for medley in Medley::ALL {
                let left = medium.after_cut(medley);
                let found = contents(&left);
                assert!(allowed(&found), "{cut_short:?}, cut {cut}, {medley:?}: {found:?}");
                single += 1;
                // The same again, cut short as well, and then once more to the end.
                for second in 1..=changes(&left, cut_short) {
                    let again = left.after_cut(Medley::Kept);
                    again.cut_before(second);
                    let _ = change(&again, cut_short);
                    let left = again.after_cut(medley);
                    let found = contents(&left);
                    // What was done by the first is done twice.
                    let twice = matches!(cut_short, Change::Rollback(_) | Change::Forget(_));
                    let fine = allowed(&found) || twice && found.is_some();
                    assert!(fine, "{cut_short:?}, cuts {cut} and {second}, {medley:?}: {found:?}");
                    double += 1;
                    let _ = change(&left, cut_short);
                    assert!(contents(&left).is_some(), "{cut_short:?}, cuts {cut} and {second}, {medley:?}");
                }
            }
        }
    }
    println!("{single} single cuts, {double} double cuts, 0 stores lost");
}

#[test]
fn a_folder_that_is_not_synced_is_told_and_what_it_holds_is_what_the_error_says() {
    let expected = expected();
    let mut told = 0;
    for (nth, &next) in LIFE.iter().enumerate() {
        let before = if nth == 0 { None } else { expected[nth - 1].clone() };
        for sync in 1.. {
            let medium = until(nth);
            medium.refuse_folder_sync(sync);
            let Err(error) = change(&medium, next) else { break };
            let found = contents(&medium);
            let subject = PathBuf::from(error.subject());
            match error.kind() {
                ErrorKind::Io => {
                    assert!(error.to_string().contains("what was kept before is as it was"), "{next:?}: {error}");
                    assert_eq!(found, before, "{next:?}, sync {sync}: {error}");
                }
                ErrorKind::Unsynced => {
                    assert!(error.to_string().contains("a power cut may still take it"), "{next:?}: {error}");
                    assert!(medium.files().contains_key(&subject), "{next:?}: {error}");
                    let lost = medium.after_cut(Medley::Lost);
                    assert!(!lost.files().contains_key(&subject), "{next:?}: {error}");
                    // What the next writer finds is durable.
                    drop(StoreWriter::open_on(Arc::new(medium.clone()), Path::new(STORE)).unwrap());
                    assert_eq!(contents(&medium.after_cut(Medley::Lost)), found, "{next:?}, sync {sync}");
                    assert_eq!(found.map(|(current, _)| current), expected[nth].clone().map(|(current, _)| current));
                    told += 1;
                }
                kind => panic!("{next:?}, sync {sync}: {kind:?}, {error}"),
            }
        }
    }
    println!("{told} changes whose folder was not synced");
    assert_eq!(told, LIFE.len());
}

#[test]
fn a_writer_goes_on_from_what_is_current_after_a_folder_was_not_synced() {
    let medium = until(1);
    let mut store = StoreWriter::open_on(Arc::new(medium.clone()), Path::new(STORE)).unwrap();
    let on_disk = || open(&medium).unwrap().current();
    medium.refuse_folder_sync(1);
    let error = store.save(&adapter(1).unwrap(), &record(1, 1)).unwrap_err();
    assert!(error.to_string().contains("generation-000002.safetensors: is current, but"), "{error}");
    assert_eq!((store.current(), on_disk()), (2, 2));
    store.save(&adapter(2).unwrap(), &record(2, 2)).unwrap();
    drop(store);
    let mut store = StoreWriter::open_on(Arc::new(medium.clone()), Path::new(STORE)).unwrap();
    medium.refuse_folder_sync(1);
    let error = store.forget("b").unwrap_err();
    assert_eq!((error.kind(), store.current(), on_disk()), (ErrorKind::Unsynced, 4, 4));
    assert_eq!(store.record().unwrap().classes, ["a", "c"]);
    assert_eq!(store.rollback(None).unwrap(), 3, "and is undone from there");
}

/// How many changes of `medium` that takes.
fn changes(medium: &Simulated, next: Change) -> u64 {
    let medium = medium.after_cut(Medley::Kept);
    let _ = change(&medium, next);
    medium.changes()
}

#[test]
fn the_oldest_generations_leave_and_where_rollback_leads_stays() {
    let medium = medium();
    change(&medium, Change::Create).unwrap();
    (1..8).for_each(|steps| change(&medium, Change::Save(steps)).unwrap());
    let [generations, _] = open(&medium).unwrap().numbers().unwrap();
    assert_eq!(generations, [8, 7, 6, 5]);
    change(&medium, Change::Rollback(None)).unwrap();
    assert_eq!(open(&medium).unwrap().record().unwrap().steps, 6, "what generation 7 held");
    change(&medium, Change::Rollback(None)).unwrap();
    assert_eq!(open(&medium).unwrap().record().unwrap().steps, 5, "and further back");
    change(&medium, Change::Rollback(Some(8))).unwrap();
    assert_eq!(open(&medium).unwrap().record().unwrap().steps, 7, "a rollback can be undone");
    let error = change(&medium, Change::Rollback(Some(1))).unwrap_err();
    assert!(error.kind() == ErrorKind::Usage && error.to_string().contains("there is no generation 1"), "{error}");
}

#[test]
fn a_class_that_is_forgotten_leaves_the_head_and_nothing_else_moves() {
    let medium = medium();
    change(&medium, Change::Create).unwrap();
    change(&medium, Change::Save(1)).unwrap();
    change(&medium, Change::Forget("b")).unwrap();
    let store = open(&medium).unwrap();
    assert_eq!((store.current(), store.record().unwrap().classes), (3, vec!["a".to_owned(), "c".to_owned()]));
    let container = store.container().unwrap();
    // Rows of six values and then three biases: the second row and the second bias are gone.
    let whole: Vec<f32> = (0..21).map(|at| 100.0 + at as f32).collect();
    let rest = [&whole[..6], &whole[12..18], &[whole[18], whole[20]]].concat();
    assert_eq!(container.f32("head/values", &[14]).unwrap(), rest);
    assert_eq!(container.u64("head/shape", &[2]).unwrap(), [2, 6]);
    let means = adapter(1).unwrap().means;
    assert_eq!(container.f32("means/sums", &[2, 6]).unwrap(), [means.sum(0).0, means.sum(2).0].concat());
    assert_eq!(container.u32("means/counts", &[2]).unwrap(), [1, 1]);
    assert_eq!(container.f32("means/lengths", &[2]).unwrap(), [means.lengths[0], means.lengths[2]]);
    assert_eq!(container.u32("start_means/counts", &[2]).unwrap(), [0, 0]);
    assert_eq!(container.f32("site/site/values", &[22]).unwrap(), adapter(1).unwrap().sites[0].state[..22]);
    for (class, words) in [("b", "knows no class b; it knows a, c"), ("a", ""), ("c", "knows no class but c")] {
        match change(&medium, Change::Forget(class)) {
            Ok(()) => assert!(words.is_empty()),
            Err(error) => assert!(!words.is_empty() && error.to_string().contains(words), "{error}"),
        }
    }
}

#[test]
fn a_class_of_a_head_that_lies_about_its_size_is_not_forgotten() {
    for lie in [[3, u64::MAX], [3, u64::MAX / 3], [3, 5], [2, 6], [u64::MAX, 6]] {
        let medium = medium();
        change(&medium, Change::Create).unwrap();
        let mut container = open(&medium).unwrap().container().unwrap().clone();
        container.forget("head/shape");
        container.insert_u64("head/shape", &[2], lie.to_vec()).unwrap();
        container.metadata.remove("content_sha256");
        Series::Generation.write(&medium, Path::new(STORE), 2, &container).unwrap();
        let error = change(&medium, Change::Forget("b")).unwrap_err();
        assert!(error.kind() == ErrorKind::Store && error.to_string().contains("another size"), "{lie:?}: {error}");
    }
}

#[test]
fn class_means_that_no_photos_can_have_are_refused() {
    type Lie = fn(&mut Container<'static>);
    let lies: [Lie; 5] = [
        |container| container.forget("means/counts"),
        |container| {
            container.forget("means/sums");
            container.insert_f32("means/sums", &[3, 6], vec![0.5; 18]).unwrap();
        },
        |container| {
            container.forget("means/sums");
            container.insert_f32("means/sums", &[3, 5], vec![0.0; 15]).unwrap();
        },
        |container| {
            container.forget("means/lengths");
            container.insert_f32("means/lengths", &[3], vec![-1.0; 3]).unwrap();
        },
        |container| {
            container.forget("start_means/lengths");
            container.insert_f32("start_means/lengths", &[3], vec![1.0; 3]).unwrap();
        },
    ];
    for (nth, lie) in lies.into_iter().enumerate() {
        let medium = medium();
        change(&medium, Change::Create).unwrap();
        let mut container = open(&medium).unwrap().container().unwrap().clone();
        lie(&mut container);
        container.metadata.remove("content_sha256");
        Series::Generation.write(&medium, Path::new(STORE), 2, &container).unwrap();
        let error = change(&medium, Change::Forget("b")).unwrap_err();
        assert!(error.kind() == ErrorKind::Store && error.to_string().contains("means"), "{nth}: {error}");
    }
}

#[test]
fn names_that_are_almost_a_generations_are_none() {
    let medium = medium();
    change(&medium, Change::Create).unwrap();
    for name in ["generation-+00002", "generation-2", "generation-0000002", "generation-", "generation-000002x"] {
        let mut sink = medium.create(&Path::new(STORE).join(format!("{name}.safetensors"))).unwrap();
        std::io::Write::write_all(&mut sink, b"other").unwrap();
    }
    let store = open(&medium).unwrap();
    assert_eq!((store.numbers().unwrap(), store.warning()), ([vec![1], vec![]], None));
}

#[test]
fn numbers_that_have_run_out_are_told_and_nothing_is_written() {
    let medium = until(1);
    let last = Path::new(STORE).join("generation-999999999.safetensors");
    medium.create(&last).unwrap().sync().unwrap();
    let error = change(&medium, Change::Save(3)).unwrap_err();
    assert!(error.to_string().contains("too many generations"), "{error}");
    let names = medium.list(Path::new(STORE)).unwrap();
    assert!(!names.iter().any(|name| name.contains("1000000000")), "{names:?}");
    assert_eq!(open(&medium).unwrap().current(), 1);
}

#[test]
fn what_cannot_be_read_takes_no_place_of_what_can_and_is_not_removed_for_it() {
    let medium = until(1);
    change(&medium, Change::Save(2)).unwrap();
    for number in 3..=6 {
        medium.create(&Series::Generation.file(Path::new(STORE), number)).unwrap().sync().unwrap();
    }
    change(&medium, Change::Save(7)).unwrap();
    assert_eq!(open(&medium).unwrap().numbers().unwrap()[0], [7, 6, 5, 4, 3, 2, 1]);
}

#[test]
fn a_folder_in_the_way_is_named_before_anything_is_learned() {
    let medium = until(1);
    let folder = Path::new(STORE).join(format!("{TEMPORARY_PREFIX}generation"));
    medium.create_folder(&folder).unwrap();
    let Err(error) = StoreWriter::open_on(Arc::new(medium.clone()), Path::new(STORE)) else { panic!("it opens") };
    assert!(error.to_string().contains(folder.to_str().unwrap()), "{error}");
    assert!(error.to_string().contains("remove the folder"), "{error}");
}

#[test]
fn a_second_writer_is_refused_while_the_first_one_lives_and_readers_are_not() {
    let folder = tempfile::tempdir().unwrap();
    let media: [(Arc<dyn Medium>, _); 2] =
        [(Arc::new(medium()), PathBuf::from(STORE)), (Arc::new(Disk), folder.path().join("store"))];
    for (medium, path) in media {
        let mut first = StoreWriter::create(
            medium.clone(),
            &path,
            false,
            &adapter(0).unwrap(),
            (&mut record(0, 0), &Replay::default()),
        )
        .unwrap();
        let refused = || StoreWriter::open_on(medium.clone(), &path).unwrap_err();
        assert!(refused().kind() == ErrorKind::Busy && refused().to_string().contains("another writer"));
        assert_eq!(Store::open_on(medium.clone(), &path).unwrap().current(), 1, "a reader needs no lock");
        first.save(&adapter(1).unwrap(), &record(1, 1)).unwrap();
        assert_eq!(refused().kind(), ErrorKind::Busy);
        drop(first);
        let mut second = StoreWriter::open_on(medium.clone(), &path).unwrap();
        second.forget("b").unwrap();
        assert_eq!(refused().kind(), ErrorKind::Busy);
        second.rollback(None).unwrap();
        let read = Store::open_on(medium.clone(), &path).unwrap();
        assert_eq!((read.current(), read.record().unwrap().classes.len()), (4, 3));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn any_sequence_of_changes_and_cuts_keeps_what_was_acknowledged(bytes in proptest::collection::vec(any::<u8>(), 0..96)) {
        operations(&bytes);
    }
}
