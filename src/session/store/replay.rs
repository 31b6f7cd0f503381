//! The replay buffer of a store: a file beside the generations, which name it.
//!
//! It is durable before the generation that names it, and leaves when no generation does any more. Examples are told apart by the names of
//! their classes, so several generations may share a file.

use std::collections::HashMap;
use std::path::Path;

use super::medium::Medium;
use super::series::Series;
use super::{Record, Store, StoreWriter, parse};
use crate::bundle::{Container, Kind, check_lists};
use crate::error::{Error, ErrorKind, Result};
use crate::limits::{MOST_CLASSES, MOST_EXAMPLES};
use crate::session::replay::{Example, Replay};

/// The tensors of an example: int8 codes, and their scales in f16, one for each block of 32.
fn tensors(at: usize) -> [String; 2] {
    ["codes", "scales"].map(|what| format!("examples/{at}/{what}"))
}

/// The class of each example, and its photo's key.
const CLASSES: &str = "classes";
const KEYS: &str = "keys";

/// What a buffer belongs to.
struct Whose<'w> {
    classes: &'w [String],
    bundle_sha256: &'w str,
    /// Without pairs all of the network is prefix.
    pairs: &'w str,
}

fn container<'r>(replay: &'r Replay, whose: &Whose) -> Result<Container<'r>> {
    let mut container = Container::new(Kind::Replay);
    for (at, (_, _, example)) in replay.examples().enumerate() {
        let [codes, scales] = tensors(at);
        container.insert_i8(&codes, &[example.codes.len()], &*example.codes)?;
        container.insert_f16(&scales, &[example.scales.len()], &*example.scales)?;
    }
    let classes: Vec<u32> = replay.examples().map(|(class, ..)| class as u32).collect();
    let keys: Vec<u64> = replay.examples().map(|(_, key, _)| key).collect();
    container.insert_u32(CLASSES, &[classes.len()], classes)?;
    container.insert_u64(KEYS, &[keys.len()], keys)?;
    let names = serde_json::to_string(whose.classes).map_err(|e| Error::new(ErrorKind::Internal, "replay", e))?;
    let entries =
        [("classes", names), ("bundle_sha256", whose.bundle_sha256.to_owned()), ("pairs", whose.pairs.to_owned())];
    container.metadata.extend(entries.map(|(name, entry)| (name.to_owned(), entry)));
    Ok(container)
}

/// Class and key of an example, and itself.
type Kept = (usize, u64, Example);

/// The names of the classes that its examples are counted in.
fn names(container: &Container) -> Result<Vec<String>> {
    let json = container.text("classes")?;
    check_lists(json.as_bytes()).map_err(|what| container.fault(format_args!("its entry classes {what}")))?;
    let names: Vec<String> = serde_json::from_str(json)
        .map_err(|e| container.fault(format_args!("its entry classes does not parse ({e})")))?;
    if names.len() > MOST_CLASSES { Err(container.fault("it has too many classes")) } else { Ok(names) }
}

/// Its examples, counted in its own classes.
fn examples(container: &Container) -> Result<(Vec<String>, Vec<Kept>)> {
    let (names, [n]) = (names(container)?, container.dims(CLASSES)?);
    if n > MOST_EXAMPLES {
        return Err(container.fault("it has too many examples"));
    }
    let mut examples: Vec<Kept> = Vec::with_capacity(n);
    let keys = container.u64(KEYS, &[n])?;
    for (at, (class, key)) in container.u32(CLASSES, &[n])?.into_iter().zip(keys).enumerate() {
        let [codes, scales] = tensors(at);
        let ([values], class) = (container.dims(&codes)?, class as usize);
        if class >= names.len() {
            return Err(container.fault(format_args!("example {at} is of no class")));
        }
        if values == 0 || examples.first().is_some_and(|(_, _, first)| first.codes.len() != values) {
            return Err(
                container.fault(format_args!("example {at} has another number of values than the others, or none"))
            );
        }
        let codes = container.i8(&codes, &[values])?.into();
        let scales = container.f16(&scales, &[Example::scales_of(values)])?.into();
        examples.push((class, key, Example { codes, scales }));
    }
    Ok((names, examples))
}

/// Writes a replay buffer under `number`, where it has examples; whether it has.
pub(super) fn write(
    medium: &dyn Medium,
    store: &Path,
    number: u64,
    replay: &Replay,
    record: &Record,
) -> Result<Option<u64>> {
    if replay.is_empty() {
        return Ok(None);
    }
    let pairs = (!record.sites.is_empty()).to_string();
    let whose = Whose { classes: &record.classes, bundle_sha256: &record.bundle_sha256, pairs: &pairs };
    let container = container(replay, &whose)?;
    let written = Series::Replay.write(medium, store, number, &container).map(|_| Some(number));
    written.map_err(|error| match error.kind() {
        // Nothing names it yet, so nothing has changed.
        ErrorKind::Unsynced => {
            let _ = medium.remove(&Series::Replay.file(store, number));
            let message = "cannot be synced; what was kept before is as it was: see to the medium, and try again";
            Error::new(ErrorKind::Io, store.display(), message).because(error)
        }
        _ => error,
    })
}

/// What a store has of a generation's examples.
pub(crate) enum Remembered {
    /// The examples, and the hash of the file.
    Examples(Replay, String),
    /// None were kept, or asked for.
    Nothing,
    /// They cannot be used, and why.
    Gone(&'static str),
}

impl Store {
    /// The examples that the generation with `record` has, counted in its classes, within `limit` bytes; for a network with `pairs`, or one
    /// without, which is cut elsewhere.
    ///
    /// # Errors
    /// `Store`, `Io`: the file cannot be read.
    pub(crate) fn replay(&self, record: &Record, pairs: bool, limit: u64) -> Result<Remembered> {
        let Some(number) = record.replay.filter(|_| limit > 0) else { return Ok(Remembered::Nothing) };
        if !Series::Replay.numbers(&*self.medium, &self.path)?.contains(&number) {
            return Ok(Remembered::Gone("their file is not there any more"));
        }
        let container = Series::Replay.read(&*self.medium, &self.path, number)?;
        if container.text("bundle_sha256")? != record.bundle_sha256 {
            return Ok(Remembered::Gone("they were made with another bundle"));
        }
        if container.text("pairs")? != pairs.to_string() {
            return Ok(Remembered::Gone(match pairs {
                true => "a lesson without pairs has kept them, and one with pairs cannot use them",
                false => "a lesson with pairs has kept them, and one without cannot use them",
            }));
        }
        let hash = container.metadata.get("content_sha256").cloned().unwrap_or_default();
        let (names, examples) = examples(&container)?;
        let known: HashMap<&String, usize> = record.classes.iter().zip(0..).collect();
        let place = |class: usize| known.get(&names[class]).copied();
        let placed = examples.into_iter().filter_map(|(class, key, example)| Some((place(class)?, key, example)));
        Ok(Remembered::Examples(Replay::of(limit, placed), hash))
    }
}

impl StoreWriter {
    /// Keeps the examples for the generation that is written next, under its number; `None` where there are none. What a cut has left
    /// under that number is no generation's.
    ///
    /// # Errors
    /// Kind `Io`: all is as it was.
    pub(crate) fn keep_replay(&self, replay: &Replay, record: &Record) -> Result<Option<u64>> {
        write(&*self.medium, &self.path, self.next_number()?, replay, record)
    }

    /// Lets the buffers go that no generation names. While the store, or one of them, cannot be read, all stay.
    pub(super) fn sweep_replays(&self) {
        let mut named = Vec::new();
        for series in [Series::Generation, Series::Aside] {
            let Ok(numbers) = series.numbers(&*self.medium, &self.path) else { return };
            for number in numbers {
                match series.read(&*self.medium, &self.path, number).and_then(|container| parse(&container)) {
                    Ok(record) => named.extend(record.replay),
                    Err(_) => return,
                }
            }
        }
        Series::Replay.sweep(&*self.medium, &self.path, |number| !named.contains(&number));
    }

    /// Takes the examples of a class out of every buffer that was kept before the generation `before`, which forgot it.
    /// A buffer that cannot be read leaves.
    ///
    /// # Errors
    /// Kind `Io`: examples are still in the file that it names; opening the store to change it tries again.
    pub(super) fn forget_examples(&self, class: &str, before: u64) -> Result<()> {
        let (medium, path) = (&*self.medium, &*self.path);
        let numbers = Series::Replay.numbers(medium, path)?.into_iter().filter(|number| *number < before);
        for number in numbers.filter(|number| has_class(medium, path, *number, class)) {
            let file = Series::Replay.file(path, number);
            let still = |error: &dyn std::fmt::Display| {
                let message = format!(
                    "still has examples of {class} ({error}): see to the medium, and run any command that changes the store"
                );
                Error::new(ErrorKind::Io, file.display(), message)
            };
            let whole = Series::Replay.read(medium, path, number);
            match whole.and_then(|whole| Ok(rest(&whole, class)?.map(|rest| (whole, rest)))) {
                Ok(Some((whole, (classes, examples)))) => {
                    let [bundle_sha256, pairs] = [whole.text("bundle_sha256")?, whole.text("pairs")?];
                    let container = container(&examples, &Whose { classes: &classes, bundle_sha256, pairs })?;
                    match Series::Replay.write(medium, path, number, &container) {
                        // The next writer syncs the folder, and finds what a cut has brought back.
                        Err(error) if error.kind() == ErrorKind::Unsynced => {}
                        written => drop(written.map_err(|e| still(&e))?),
                    }
                }
                Ok(None) | Err(_) => {
                    medium.remove(&file).map_err(|e| still(&e))?;
                    let _ = medium.sync_folder(path);
                }
            }
        }
        Ok(())
    }
}

/// What is left of a buffer without a class, and its classes; `None` where nothing is.
fn rest(container: &Container, class: &str) -> Result<Option<(Vec<String>, Replay)>> {
    let (names, examples) = examples(container)?;
    let gone = names.iter().position(|name| name == class);
    let place = |of: usize| (Some(of) != gone).then(|| of - usize::from(gone.is_some_and(|gone| gone < of)));
    let examples = examples.into_iter().filter_map(|(of, key, example)| Some((place(of)?, key, example)));
    let rest = Replay::of(u64::MAX, examples);
    Ok((!rest.is_empty()).then(|| (names.into_iter().filter(|name| name != class).collect(), rest)))
}

/// Whether a buffer has a class, or may have it.
pub(super) fn has_class(medium: &dyn Medium, store: &Path, number: u64, class: &str) -> bool {
    let known = Series::Replay.read(medium, store, number).and_then(|container| names(&container));
    known.map_or(true, |known| known.iter().any(|known| known == class))
}

#[cfg(test)]
mod tests {
    use half::f16;

    use super::*;
    use crate::session::store::Simulated;
    use crate::session::store::model::record;

    /// One example of each of the record's three classes, with what `spoil` makes of it; what is found.
    fn found(spoil: impl FnOnce(&mut Container)) -> Result<usize> {
        let store = Path::new("/simulated");
        let medium = Simulated::with_folder(store);
        let mut replay = Replay::new(1 << 20);
        (0..3).for_each(|class| replay.add(class, class as u64, Example::of(&[class as f32; 40]).unwrap()));
        let record = record(1, 0);
        let whose = Whose { classes: &record.classes, bundle_sha256: "", pairs: "false" };
        let mut spoilt = container(&replay, &whose).unwrap();
        spoil(&mut spoilt);
        Series::Replay.write(&medium, store, 1, &spoilt).unwrap();
        let read = Series::Replay.read(&medium, store, 1)?;
        examples(&read).map(|(_, examples)| examples.len())
    }

    fn instead(container: &mut Container, name: &str, put: impl FnOnce(&mut Container, &str) -> Result<()>) {
        container.forget(name);
        put(container, name).unwrap();
    }

    #[test]
    fn a_buffer_that_claims_what_it_does_not_hold_is_refused() {
        assert_eq!(found(|_| ()).unwrap(), 3);
        let refused = |spoil: fn(&mut Container)| found(spoil).unwrap_err().to_string();
        let none = |said: &str| said.contains("example 1 has another number of values");
        assert!(none(&refused(|c| instead(c, "examples/1/codes", |c, name| c.insert_i8(name, &[0], vec![])))));
        assert!(none(&refused(|c| instead(c, "examples/1/codes", |c, name| c.insert_i8(name, &[3], vec![1; 3])))));
        let scales = |c: &mut Container, name: &str| c.insert_f16(name, &[1], vec![f16::ONE]);
        let said = found(|c| instead(c, "examples/0/scales", scales)).unwrap_err();
        assert!(said.to_string().contains("examples/0/scales"), "{said}");
        let classes =
            |classes: [u32; 3]| move |c: &mut Container, name: &str| c.insert_u32(name, &[3], classes.to_vec());
        let said = found(|c| instead(c, CLASSES, classes([0, u32::MAX, 1]))).unwrap_err();
        assert!(said.to_string().contains("example 1 is of no class"), "{said}");
        assert!(found(|c| instead(c, KEYS, |c, name| c.insert_u64(name, &[1], vec![1]))).is_err());
        assert!(found(|c| c.forget("examples/2/codes")).is_err());
        let many = MOST_EXAMPLES + 1;
        let said = found(|c| instead(c, CLASSES, |c, name| c.insert_u32(name, &[many], vec![0; many]))).unwrap_err();
        assert!(said.to_string().contains("too many examples"), "{said}");
        let infinite = |c: &mut Container, name: &str| c.insert_f16(name, &[2], vec![f16::INFINITY; 2]);
        assert!(found(|c| instead(c, "examples/0/scales", infinite)).unwrap_err().to_string().contains("not finite"));
        for names in ["[[[]]]", "7", "[\"a\"]"] {
            assert!(found(|c| drop(c.metadata.insert("classes".to_owned(), names.to_owned()))).is_err(), "{names}");
        }
    }
}
