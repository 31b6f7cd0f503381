//! What was written, against the adapted network: photos through both.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::Serialize;

use crate::autodiff::Network;
use crate::backbone::Backbone;
use crate::bundle::{Bundle, Preprocess};
use crate::core::softmax;
use crate::error::{Error, ErrorKind, Result};
use crate::session::progress::Audience;
use crate::session::{Classifier, Dataset, Layout, Picture, Pixels, Progress, load};

/// Pictures of noise, where there are no photos.
const NOISE: usize = 8;
/// Photos that are told to have been unreadable, at most.
const MOST_TOLD: usize = 10;

/// Pictures, and how likely the adapted network holds each class to be.
pub(crate) struct Answers {
    pub(crate) pictures: Vec<Picture>,
    probabilities: Vec<Vec<f32>>,
}

/// What came of comparing what was written with the adapted network.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct SelfCheck {
    /// The largest difference of a probability.
    pub max_probability_difference: f32,
    /// Pictures with the same likeliest class in both.
    pub same_class: usize,
    /// Pictures that both were compared on.
    pub photos: usize,
    /// Whether these were noise, as no photos were given.
    pub noise: bool,
}

/// How far a file is from the adapted network.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Difference {
    /// The largest difference of a probability.
    pub(crate) largest: f32,
    /// Pictures with the same likeliest class.
    pub(crate) agreeing: usize,
}

impl Answers {
    /// What the adapted network says of the photos of `data`, or of noise.
    ///
    /// # Errors
    /// Kind `Data` where none of the photos can be read; others as of [`Classifier::probabilities`].
    pub(crate) fn of(
        classifier: &mut Classifier,
        bundle: &Bundle,
        data: Option<&Dataset>,
        audience: &mut Audience,
    ) -> Result<Self> {
        let pictures = match data {
            Some(data) => data.photos().iter().map(|photo| photo.picture.clone()).collect(),
            None => noise(&bundle.preprocess)?,
        };
        let (mut answers, mut unreadable) = (Answers { pictures: Vec::new(), probabilities: Vec::new() }, 0);
        audience.tell(Progress::Begin { phase: "adapted network", total: pictures.len() as u64 });
        for picture in pictures {
            match classifier.probabilities(picture.clone()) {
                Ok(probabilities) => {
                    answers.pictures.push(picture);
                    answers.probabilities.push(probabilities);
                }
                Err(error) if error.kind() == ErrorKind::Image => {
                    unreadable += 1;
                    if unreadable <= MOST_TOLD {
                        audience.tell(Progress::Warning(&format!("set aside {error}")));
                    }
                }
                Err(error) => return Err(error),
            }
            audience.tell(Progress::Advance);
            audience.go_on()?;
        }
        audience.tell(Progress::End);
        if answers.pictures.is_empty() {
            let place = data.map_or_else(|| "noise".to_owned(), Dataset::place);
            return Err(Error::new(ErrorKind::Data, place, "none of the photos can be read"));
        }
        Ok(answers)
    }

    /// As it is reported.
    pub(crate) fn outcome(&self, difference: &Difference, noise: bool) -> SelfCheck {
        let Difference { largest: max_probability_difference, agreeing: same_class } = *difference;
        SelfCheck { max_probability_difference, same_class, photos: self.pictures.len(), noise }
    }

    /// Classes of each answer.
    pub(crate) fn classes(&self) -> usize {
        self.probabilities.first().map_or(0, Vec::len)
    }

    /// The same pictures through the classifier of a file that was written.
    ///
    /// # Errors
    /// Kind `Check` where the file answers otherwise than with a probability for each class; `Model` where it cannot be read.
    pub(crate) fn compare(
        &self,
        written: &Backbone,
        preprocess: &Preprocess,
        audience: &mut Audience,
    ) -> Result<Difference> {
        self.compare_with(Network::own_classifier(written)?, preprocess, audience, |logits| logits)
    }

    /// The same pictures, as bytes, through a file that has the preprocessing in it and gives probabilities.
    ///
    /// # Errors
    /// As of [`Answers::compare`].
    pub(crate) fn compare_wrapped(
        &self,
        written: &Backbone,
        preprocess: &Preprocess,
        audience: &mut Audience,
    ) -> Result<Difference> {
        let preprocess = Preprocess { range: 255.0, mean: [0.0; 3], std: [1.0; 3], ..preprocess.clone() };
        let logits = |probabilities: Vec<f32>| probabilities.iter().map(|p| p.max(f32::MIN_POSITIVE).ln()).collect();
        self.compare_with(Network::own_classifier(written)?, &preprocess, audience, logits)
    }

    /// The same pictures through a network; `logits` makes those of the classes of what comes out of it.
    ///
    /// # Errors
    /// As of [`Answers::compare`].
    pub(crate) fn compare_with(
        &self,
        mut network: Network,
        preprocess: &Preprocess,
        audience: &mut Audience,
        logits: impl Fn(Vec<f32>) -> Vec<f32>,
    ) -> Result<Difference> {
        let mut difference = Difference::default();
        audience.tell(Progress::Begin { phase: "written file", total: self.pictures.len() as u64 });
        for (picture, expected) in self.pictures.iter().zip(&self.probabilities) {
            let image = load(picture, preprocess, None)?;
            let images = image.repeat(network.batch());
            let boundary = network.prefix(&images)?;
            let mut output = network.forward(&boundary)?;
            output.truncate(network.features());
            let mut logits = logits(output);
            if logits.len() != expected.len() || logits.iter().any(|logit| !logit.is_finite()) {
                let message = format!("answers with {} values that are not a logit for each class", logits.len());
                return Err(Error::new(ErrorKind::Check, "the file that was written", message));
            }
            softmax(&mut logits);
            let apart = logits.iter().zip(expected).map(|(a, b)| (a - b).abs());
            difference.largest = apart.fold(difference.largest, f32::max);
            difference.agreeing += usize::from(likeliest(&logits) == likeliest(expected));
            audience.tell(Progress::Advance);
            audience.go_on()?;
        }
        audience.tell(Progress::End);
        Ok(difference)
    }
}

/// The network in what was written.
///
/// # Errors
/// Kind `Model` where it cannot be read.
pub(crate) fn read_back(bytes: Vec<u8>, bundle: &Bundle) -> Result<Backbone> {
    let Preprocess { height, width, .. } = bundle.preprocess;
    Backbone::read(bytes, "the file that was written", None, Some([height, width]))
}

/// The first of the largest.
fn likeliest(probabilities: &[f32]) -> Option<usize> {
    let larger = |best: usize, at: usize| if probabilities[at] > probabilities[best] { at } else { best };
    (0..probabilities.len()).reduce(larger)
}

/// Squares of random colours, larger ones in each picture than in the one before: what a network sees as different things.
pub(crate) fn noise(preprocess: &Preprocess) -> Result<Vec<Picture>> {
    let (height, width) = (preprocess.height, preprocess.width);
    let mut random = ChaCha8Rng::seed_from_u64(0);
    let picture = |nth: usize| {
        let side = 1 << nth;
        let across = width.div_ceil(side);
        let colours: Vec<[u8; 3]> = (0..across * height.div_ceil(side)).map(|_| random.random()).collect();
        let pixel = |at: usize| colours[at / width / side * across + at % width / side];
        let bytes: Vec<u8> = (0..height * width).flat_map(pixel).collect();
        let pixels = Pixels::new(&bytes, Layout::Rgb8, [width as u32, height as u32], 3 * width)?;
        Ok(Picture::pixels(&format!("noise {nth}"), pixels))
    };
    (0..NOISE).map(picture).collect()
}
