//! What a device does from its first boot to the end of the lesson, and what it says.

use embedded_storage::nor_flash::NorFlash;

use crate::album::{Album, CLASSES, HELD_BACK, TO_LEARN};
use crate::lesson::{Error, Lesson, STEPS};
use crate::store::{Failure, Generation, Store};

/// What is to be done next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Half of the lesson is saved: reset, and go on.
    Reset,
    /// Everything was learned and saved.
    Done,
}

/// Why the story ends early.
#[derive(Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Trouble<A, F> {
    /// With a photo or a size.
    Lesson(Error<A>),
    /// With the flash or what is in it.
    Store(Failure<F>),
}

impl<A, F> From<Error<A>> for Trouble<A, F> {
    fn from(error: Error<A>) -> Self {
        Trouble::Lesson(error)
    }
}

impl<A, F> From<Failure<F>> for Trouble<A, F> {
    fn from(error: Failure<F>) -> Self {
        Trouble::Store(error)
    }
}

/// One boot: begins the lesson or goes on with it, and saves it half-way and at the end. A lesson that is over stays as it
/// is.
///
/// `milliseconds` is the time since any moment. With `reset` false the lesson goes through without stopping half-way.
///
/// # Errors
/// A photo that cannot be had, a flash that fails: nothing is lost that was saved.
pub fn boot<A: Album, F: NorFlash>(
    lesson: &mut Lesson,
    store: &mut Store<F>,
    album: &mut A,
    milliseconds: fn() -> u32,
    reset: bool,
) -> Result<Next, Trouble<A::Error, F::Error>> {
    let began = milliseconds();
    let until = match store.load(lesson)? {
        Some(Generation { number, checksum }) => {
            say!("resumed at step {} of {}, generation {}, checksum {:x}", lesson.step(), STEPS, number, checksum);
            STEPS
        }
        None => {
            say!(
                "{} photos of digits to learn from, {} held back; {} numbers learn",
                TO_LEARN,
                HELD_BACK,
                Lesson::trained_numbers()
            );
            lesson.begin(album)?;
            report("imprinted", lesson, album)?;
            STEPS / 2
        }
    };
    let first = lesson.step();
    while lesson.step() < if reset { until } else { STEPS } {
        let loss = lesson.train(album)?;
        if lesson.step().is_multiple_of(STEPS / 6) {
            say!("step {}: loss {}, {} pairs recomposed", lesson.step(), loss, lesson.recomposed());
        }
    }
    let next = if lesson.step() < STEPS { Next::Reset } else { Next::Done };
    if next == Next::Done {
        report("trained", lesson, album)?;
    }
    if lesson.step() == first {
        return Ok(next);
    }
    let Generation { number, checksum } = store.save(lesson)?;
    say!("saved step {} as generation {}, checksum {:x}", lesson.step(), number, checksum);
    say!("{} steps and their photos took {} ms", lesson.step() - first, milliseconds().wrapping_sub(began));
    Ok(next)
}

/// Every prediction on the photos held back, a line a digit, and how many are right.
fn report<A: Album>(when: &str, lesson: &mut Lesson, album: &mut A) -> Result<(), Error<A::Error>> {
    const EACH: usize = HELD_BACK / CLASSES;
    let (mut seen, mut counts, mut right) = ([[b' '; EACH]; CLASSES], [0; CLASSES], 0);
    lesson.evaluate(album, |predicted, label| {
        right += usize::from(predicted == label);
        if let Some(place) = seen[label].get_mut(counts[label]) {
            *place = b'0' + predicted as u8;
        }
        counts[label] += 1;
    })?;
    for (digit, line) in seen.iter().enumerate() {
        say!("{} taken for {}", digit, core::str::from_utf8(line).unwrap_or_default());
    }
    say!("{}: {} of {} right", when, right, HELD_BACK);
    Ok(())
}
