//! The lesson and its store on a flash that fails: what was saved last, whole, is what counts.

use embedded_storage::nor_flash::NorFlash;
use lesson::nor::{Cut, Fault, PAGE, SimulatedNor};
use lesson::store::{Generation, PAGES, Store};
use lesson::story::{self, Next};
use lesson::{Album, Error, InFlash, Lesson, PHOTO_BYTES, trial};

static PHOTOS: &[u8] = include_bytes!("../../../../models/digits8/digits.bin");

fn store(cells: &mut [u8]) -> Store<SimulatedNor<'_>> {
    Store::new(SimulatedNor::new(cells), 0..(PAGES * PAGE) as u32)
}

fn boot(lesson: &mut Lesson, cells: &mut [u8], reset: bool) -> Next {
    story::boot(lesson, &mut store(cells), &mut InFlash(PHOTOS), || 0, reset).unwrap()
}

fn newest(cells: &mut [u8]) -> Option<Generation> {
    store(cells).newest().unwrap()
}

/// A lesson that took a step or two.
fn begun(steps: usize) -> Lesson {
    let mut lesson = Lesson::empty();
    lesson.begin(&mut InFlash(PHOTOS)).unwrap();
    for _ in 0..steps {
        lesson.train(&mut InFlash(PHOTOS)).unwrap();
    }
    lesson
}

#[test]
fn a_lesson_that_was_reset_half_way_ends_in_the_same_bits() {
    let (mut reset, mut through) = (vec![0; PAGES * PAGE], vec![0; PAGES * PAGE]);
    assert_eq!(boot(&mut Lesson::empty(), &mut reset, true), Next::Reset);
    assert_eq!(newest(&mut reset).unwrap().number, 1);
    // A new boot: nothing but the flash is left.
    assert_eq!(boot(&mut Lesson::empty(), &mut reset, true), Next::Done);
    assert_eq!(boot(&mut Lesson::empty(), &mut through, false), Next::Done);
    let (reset_ends, through_ends) = (newest(&mut reset).unwrap(), newest(&mut through).unwrap());
    assert_eq!((reset_ends.number, reset_ends.checksum), (2, through_ends.checksum));
    // A lesson that is over is not saved again.
    assert_eq!(boot(&mut Lesson::empty(), &mut reset, true), Next::Done);
    assert_eq!(newest(&mut reset), Some(reset_ends));
}

#[test]
fn a_save_survives_a_power_cut_wherever_it_comes() {
    let mut cells = vec![0; PAGES * PAGE];
    let mut lesson = begun(2);
    for _ in 0..3 {
        store(&mut cells).save(&mut lesson).unwrap();
    }
    let old = cells.clone();
    lesson.train(&mut InFlash(PHOTOS)).unwrap();
    store(&mut cells).save(&mut lesson).unwrap();
    let new = cells.clone();
    let survived = trial::cut_every_operation(&mut lesson, &mut cells, &old, &new, &[0, 95, 255]).unwrap();
    println!("{survived:?}");
    assert_eq!((survived.cuts, survived.old + survived.new), (3 * survived.operations, survived.cuts));
    assert!(survived.operations > 100 && survived.new >= 1);
}

#[test]
fn saves_that_are_cut_one_after_another_never_lose_the_last_whole_one() {
    let mut cells = vec![0; PAGES * PAGE];
    let mut lesson = begun(1);
    let mut counts = store(&mut cells).save(&mut lesson).unwrap();
    let (mut random, mut cut_short) = (1u32, 0);
    for _ in 0..60 {
        random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let cut = Cut { operation: (random >> 8) % 250, share: (random >> 24) as u8 };
        lesson.train(&mut InFlash(PHOTOS)).unwrap();
        let tried = lesson.write(|_| Ok::<_, ()>(())).unwrap();
        let flash = SimulatedNor::with_cut(&mut cells, cut);
        let saved = Store::new(flash, 0..(PAGES * PAGE) as u32).save(&mut lesson).is_ok();
        cut_short += u32::from(!saved);
        let found = store(&mut cells).load(&mut lesson).unwrap().unwrap();
        let next = Generation { number: counts.number + 1, checksum: tried };
        assert!(found == next || (found == counts && !saved), "{cut:?}: {found:?}");
        counts = found;
    }
    println!("{cut_short} of 60 saves cut short");
    assert!((20..60).contains(&cut_short));
}

#[test]
fn of_a_generation_that_cannot_be_read_nothing_is_taken() {
    let mut cells = vec![0; PAGES * PAGE];
    let saved = store(&mut cells).save(&mut begun(2)).unwrap();
    let mut lesson = begun(1);
    let before = lesson.write(|_| Ok::<_, ()>(())).unwrap();
    let mut refused = 0;
    for at in (0..cells.len()).step_by(61) {
        let mut damaged = cells.clone();
        damaged[at] ^= 0x10;
        match store(&mut damaged).load(&mut lesson) {
            // The flip met nothing that counts.
            Ok(found) => {
                assert!(found.is_none_or(|found| found == saved), "cell {at}");
                lesson = begun(1);
            }
            Err(_) => {
                refused += 1;
                assert_eq!(lesson.write(|_| Ok::<_, ()>(())).unwrap(), before, "cell {at} has changed the lesson");
            }
        }
    }
    println!("{refused} damaged generations refused");
    assert!(refused > 100);
}

#[test]
fn a_photo_that_is_none_is_refused_and_nothing_is_learned() {
    let mut lesson = begun(1);
    let before = lesson.write(|_| Ok::<_, ()>(())).unwrap();
    for (at, byte) in [(0, 10), (1, 17)] {
        let mut photos = PHOTOS.to_vec();
        photos.chunks_exact_mut(PHOTO_BYTES).for_each(|photo| photo[at] = byte);
        assert!(matches!(lesson.train(&mut InFlash(&photos)), Err(Error::Photo(_))));
    }
    assert!(matches!(lesson.train(&mut InFlash(&PHOTOS[..PHOTO_BYTES])), Err(Error::Album(_))));
    assert!(InFlash(PHOTOS).photo(usize::MAX, &mut [0; PHOTO_BYTES]).is_err());
    assert_eq!(lesson.write(|_| Ok::<_, ()>(())).unwrap(), before);
}

#[test]
fn the_simulated_flash_writes_a_word_once_and_loses_power_where_it_is_told() {
    let mut cells = vec![0; 2 * PAGE];
    let mut flash = SimulatedNor::with_cut(&mut cells, Cut { operation: 3, share: 127 });
    flash.write(8, &[1; 8]).unwrap();
    assert_eq!(flash.write(12, &[0; 4]), Err(Fault::WrittenTwice));
    assert_eq!(flash.write(2, &[0; 4]), Err(Fault::Address));
    assert_eq!(flash.erase(0, 100), Err(Fault::Address));
    flash.erase(0, PAGE as u32).unwrap();
    flash.write(8, &[2; 8]).unwrap();
    assert_eq!(flash.write(16, &[3; 16]), Err(Fault::PowerCut));
    assert_eq!(flash.write(64, &[3; 4]), Err(Fault::PowerCut));
    assert_eq!(cells[8..32], [[2u8; 8], [3; 8], [0xff; 8]].concat());
}
