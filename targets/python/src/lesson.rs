//! The settings of a lesson, its photos, and where it is kept.

use std::path::PathBuf;
use std::time::Duration;

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};
use srlora::core::{Method, Sides, Start};
use srlora::session::{Album, CachePlace, Dataset, DirectionSource, Interval, Keep, Length, Lesson, Stop, Validation};

use crate::arguments::Keywords;
use crate::errors::{fault, refuse};
use crate::images::{is_one, picture};

const METHODS: [Method; 5] = [Method::Srlora, Method::Pissa, Method::Lora, Method::Head, Method::Imprint];

/// What a lesson is to be, and where it is kept.
pub(crate) struct Asked {
    pub(crate) lesson: Lesson,
    pub(crate) keep: Keep,
}

impl Asked {
    /// Of `data`, into `store`, with the keyword arguments that were given: those of the photos, and settings. What was not given is
    /// as the library has it.
    pub(crate) fn of(
        function: &'static str,
        data: &Bound<'_, PyAny>,
        store: PathBuf,
        settings: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Self> {
        let mut given = Keywords::of(function, settings)?;
        let (labels, val, val_labels) = (given.take("labels")?, given.take("val")?, given.take("val_labels")?);
        let default = Lesson::new(album("data", data, labels.as_ref())?);
        let validation = validation(&mut given, val, val_labels)?;
        let keep = keep(&mut given, store)?;
        let seed = given.take("seed")?.unwrap_or(default.seed);
        let starts = [("aligned", Start::Aligned), ("principal", Start::Principal), ("random", Start::Random { seed })];
        let places = [("disk", CachePlace::Disk), ("ram", CachePlace::Ram), ("off", CachePlace::Off)];
        let sources = [("shipped", DirectionSource::Shipped), ("photos", DirectionSource::Photos)];
        let lesson = Lesson {
            validation,
            method: given.choose("method", &METHODS.map(|method| (method.name(), method)))?.unwrap_or(default.method),
            start: given.choose("start", &starts)?,
            pairs: given.choose("pairs", &[("one-sided", Sides::One), ("both", Sides::Both)])?,
            directions: given.choose("directions", &sources)?,
            length: length(&mut given)?.unwrap_or(default.length),
            batch: given.take("batch")?.unwrap_or(default.batch),
            lr: given.take("lr")?,
            head_lr: given.take("head_lr")?.unwrap_or(default.head_lr),
            decay: given.take("decay")?,
            head_decay: given.take("head_decay")?,
            seed,
            augment: given.take("augment")?.unwrap_or(default.augment),
            interval: interval(&mut given)?.unwrap_or(default.interval),
            min_age: given.take("min_age")?,
            solves_head: given.take("solve")?.unwrap_or(default.solves_head),
            replay: given.take("replay")?.unwrap_or(default.replay),
            threads: given.take("threads")?.unwrap_or(default.threads),
            cache: given.choose("cache", &places)?.unwrap_or(default.cache),
            cache_limit: given.take("cache_limit")?,
            ram_limit: given.take("ram_limit")?,
            ..default
        };
        given.finish()?;
        Ok(Asked { lesson, keep })
    }

    /// What stops it.
    pub(crate) fn stop(&self) -> Stop {
        self.keep.stop.clone()
    }
}

fn keep(given: &mut Keywords, store: PathBuf) -> PyResult<Keep> {
    let default = Keep::new(store);
    let every = match given.take::<f64>("checkpoint")? {
        None => default.every,
        Some(seconds) => Duration::try_from_secs_f64(seconds)
            .map_err(|_| refuse("checkpoint", format_args!("is {seconds}; it is a number of seconds, 0 or more")))?,
    };
    Ok(Keep {
        further: given.take("further")?.unwrap_or(default.further),
        resume: given.take("resume")?.unwrap_or(default.resume),
        every,
        ..default
    })
}

fn length(given: &mut Keywords) -> PyResult<Option<Length>> {
    match (given.take("epochs")?, given.take("steps")?) {
        (Some(_), Some(_)) => Err(refuse("epochs", "stands beside option `steps`; give one of them")),
        (epochs, steps) => Ok(epochs.map(Length::Epochs).or(steps.map(Length::Steps))),
    }
}

/// Steps, or `once`.
#[derive(FromPyObject)]
enum Every {
    Steps(u32),
    Word(String),
}

fn interval(given: &mut Keywords) -> PyResult<Option<Interval>> {
    match given.take::<Every>("interval")? {
        None => Ok(None),
        Some(Every::Steps(steps)) => Ok(Some(steps.into())),
        Some(Every::Word(word)) if word == "once" => Ok(Some(Interval::Once)),
        Some(Every::Word(word)) => {
            Err(refuse("interval", format_args!("'{word}' is neither a number of steps, nor 'once'")))
        }
    }
}

fn validation(
    given: &mut Keywords,
    val: Option<Bound<'_, PyAny>>,
    val_labels: Option<Bound<'_, PyAny>>,
) -> PyResult<Validation> {
    match (val, given.take("val_split")?) {
        (Some(_), Some(_)) => Err(refuse("val", "stands beside option `val_split`; give one of them")),
        (Some(val), None) => album("val", &val, val_labels.as_ref()).map(Validation::Photos),
        (None, _) if val_labels.is_some() => {
            Err(refuse("val_labels", "are the classes of option `val`, which is not given"))
        }
        (None, Some(share)) => Ok(Validation::Split(share)),
        (None, None) => Ok(Validation::None),
    }
}

/// Photos: a folder with a folder for each class, or without `labels` given None; or images, of which each has its class in `labels`.
pub(crate) fn album(name: &str, data: &Bound<'_, PyAny>, labels: Option<&Bound<'_, PyAny>>) -> PyResult<Album> {
    let Some(labels) = labels else {
        return data.extract::<PathBuf>().map(Album::Folder).map_err(|_| {
            let labels = if name == "val" { "val_labels" } else { "labels" };
            PyTypeError::new_err(format!(
                "`{name}` without `{labels}` is a folder with a folder for each class; of images give `{labels}`, the class of each"
            ))
        });
    };
    if is_one(data) {
        let message = format!("`{name}` has labels, so it is a sequence of images, and not {}", data.get_type());
        return Err(PyTypeError::new_err(message));
    }
    let (mut photos, mut labels, mut count) = (Dataset::default(), labels.try_iter()?, 0);
    for image in data.try_iter()? {
        let Some(label) = labels.next().transpose()? else {
            return Err(refuse(name, format_args!("has more images than its {count} labels; each has one")));
        };
        let Ok(label) = label.cast::<PyString>() else {
            let message =
                format!("label {count} of `{name}` is {}; a class is a str, for instance str(label)", label.get_type());
            return Err(PyTypeError::new_err(message));
        };
        let label = label.to_cow()?;
        photos.add(&label, picture(&image?, &format!("image {count} of class {label}"))?).map_err(fault)?;
        count += 1;
    }
    match labels.next() {
        None => Ok(Album::from(photos)),
        Some(_) => Err(refuse(name, format_args!("has {count} images and more labels; each has one"))),
    }
}
