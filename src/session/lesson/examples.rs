//! Examples of earlier lessons: those that a further lesson trains on, and those that it is judged by.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;

use crate::error::{Error, ErrorKind, Result};
use crate::session::photos::{Dataset, Photo};
use crate::session::policy::Recognized;
use crate::session::replay::Replay;
use crate::session::store::{Record, Remembered, Store};

/// Of so many examples of a class, one is held back.
const HELD_BACK: usize = 5;

/// What a lesson has of earlier ones.
pub(crate) struct Examples {
    pub(crate) replay: Replay,
    /// Those of them that no step sees: what the lesson does to known classes without photos to measure on shows on them.
    pub(crate) held: Dataset,
    /// Which of those imprinting all classes recognizes, each left out of the class means.
    pub(crate) imprinted: Recognized,
    /// The hash of their file.
    sha256: Option<String>,
}

impl Examples {
    /// None, and room for `limit` bytes.
    pub(crate) fn none(limit: u64) -> Self {
        Examples {
            replay: Replay::new(limit),
            held: Dataset::default(),
            imprinted: Recognized::default(),
            sha256: None,
        }
    }

    /// Those of the generation with `record`, for a network with or without pairs. Where they cannot be used, `warnings` say why.
    pub(crate) fn find(
        (store, record): (&Store, &Record),
        has_pairs: bool,
        limit: u64,
        warnings: &mut Vec<String>,
    ) -> Self {
        let none = Self::none(limit);
        let why = match store.replay(record, has_pairs, limit) {
            Ok(Remembered::Examples(replay, hash)) => return Examples { replay, sha256: Some(hash), ..none },
            Ok(Remembered::Nothing) => return none,
            Ok(Remembered::Gone(why)) => why.to_owned(),
            Err(fault) => fault.to_string(),
        };
        warnings.push(format!("the lesson goes on without examples of earlier ones: {why}"));
        none
    }

    /// Puts them among the photos, but those of photos that are there again, to train on or to measure on. Of a known class without photos
    /// to measure on, one in [`HELD_BACK`] is held back.
    pub(crate) fn join(
        &mut self,
        data: &mut Dataset,
        validation: Option<&Dataset>,
        [trained, measured]: &[Vec<Option<u64>>; 2],
    ) {
        let here: HashSet<u64> = trained.iter().chain(measured).flatten().copied().collect();
        let is_measured: HashSet<usize> = validation.iter().flat_map(|v| &v.photos).map(|photo| photo.class).collect();
        let mut of_class: BTreeMap<usize, Vec<Photo>> = BTreeMap::new();
        for (place, (class, key, _)) in
            self.replay.examples().enumerate().filter(|(_, (_, key, _))| !here.contains(key))
        {
            of_class.entry(class).or_default().push(Photo::replayed(place, class, key));
        }
        self.held.classes.clone_from(&data.classes);
        for (class, mut photos) in of_class {
            let held_back = if is_measured.contains(&class) { 0 } else { photos.len() / HELD_BACK };
            data.photos.extend(photos.split_off(held_back));
            self.held.photos.extend(photos);
        }
    }

    /// Notes in `record` which they are; a lesson that goes on keeps to those that it began with.
    ///
    /// # Errors
    /// Kind `Mismatch` where it began with others.
    pub(crate) fn settle(&self, record: &mut Record, goes_on: bool, store: &Path) -> Result<()> {
        if goes_on && record.replayed_sha256 != self.sha256 {
            let message = "the lesson under way began with other examples of earlier lessons, so it would end in other bytes: bring their file \
                           back; without option `resume`, option `from` begins another lesson and lets that one go";
            return Err(Error::new(ErrorKind::Mismatch, store.display(), message));
        }
        record.replayed_sha256.clone_from(&self.sha256);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::photos::Picture;
    use crate::session::replay::Example;

    #[test]
    fn one_example_in_five_is_held_back_of_classes_without_photos_to_measure_on_and_none_of_a_photo_that_is_there_again()
     {
        let mut examples = Examples::none(1 << 20);
        for key in 0..22 {
            examples.replay.add(key as usize / 11, key, Example::of(&[key as f32; 40]).unwrap());
        }
        let picture = Picture::encoded("photo", []);
        let with = |class| Dataset {
            classes: vec!["a".to_owned(), "b".to_owned()],
            photos: vec![Photo { picture: picture.clone(), class, slot: None, identity: None }],
            ..Dataset::default()
        };
        let (mut data, validation) = (with(0), with(1));
        // The photo to train on is that of an example of the other class; the one to measure on cannot be read.
        examples.join(&mut data, Some(&validation), &[vec![Some(21)], vec![None]]);
        let counts = |data: &Dataset| [0, 1].map(|class| data.photos.iter().filter(|p| p.class == class).count());
        assert_eq!((counts(&data), counts(&examples.held)), ([1 + 9, 10], [2, 0]));
        assert_eq!(data.present(), 1);
    }
}
