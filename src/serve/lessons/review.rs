//! What a lesson has come to, photo by photo: what it makes of those that it has not seen, and which photos may have a wrong label.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::bundle::Bundle;
use crate::core::IMPRINT_SCALE;
use crate::error::Result;
use crate::limits::MOST_REVIEWED;
use crate::serve::album::Id;
use crate::session::{Dataset, GrowingClassifier, Photo, Stop, Store};

/// Photos that are shown as doubtful.
const MOST_DOUBTFUL: usize = 12;

/// What a lesson has come to; a key without a value is null.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Review {
    classes: Vec<String>,
    /// Photos that were held back, each with what it was taken for.
    held_back: Vec<Judged>,
    /// Where none were: the lesson's own photos, each with the class whose mean it is nearest to when it is left out of its own. The network
    /// has learned from them, so this looks better than it is.
    left_out: Vec<Judged>,
    /// Of these, right before the lesson, and after it.
    right: Option<[usize; 2]>,
    /// Photos that look like another class than their own, the likeliest mistakes first.
    doubtful: Vec<Doubtful>,
}

#[derive(Debug, Clone, Serialize)]
struct Judged {
    id: Id,
    class: String,
    guess: String,
    before: Option<String>,
    /// Of the guess.
    probability: f64,
}

#[derive(Debug, Clone, Serialize)]
struct Doubtful {
    id: Id,
    class: String,
    /// What it looks like.
    guess: String,
    /// Cross-entropy of the photo where it is left out of its class's mean.
    loss: f64,
}

/// Looks at the photos again, with what was there before the lesson and with what is there now.
///
/// # Errors
/// Those of a store that cannot be read; `Stopped`.
pub(super) fn review(
    bundle: &Bundle,
    stores: [Option<&Store>; 2],
    [data, held_back]: [Dataset; 2],
    stop: &Stop,
) -> Result<Review> {
    let mut judged: Vec<Judged> = Vec::new();
    let before = if held_back.photos().is_empty() { None } else { stores[0] };
    if let Some(store) = before {
        let mut classifier = GrowingClassifier::new(bundle, Some(store))?;
        judge(&mut classifier, &held_back, stop, |photo| {
            judged.push(Judged { before: Some(photo.guess.clone()), ..photo });
        })?;
    }
    let mut classifier = GrowingClassifier::new(bundle, stores[1])?;
    let mut after = Vec::new();
    judge(&mut classifier, &held_back, stop, |photo| after.push(photo))?;
    let was: BTreeMap<Id, String> = judged.into_iter().map(|photo| (photo.id, photo.guess)).collect();
    after.iter_mut().for_each(|photo| photo.before = was.get(&photo.id).cloned());
    let right = (!was.is_empty()).then(|| {
        let of = |guess: fn(&Judged) -> Option<&String>| {
            after.iter().filter(|photo| guess(photo) == Some(&photo.class)).count()
        };
        [of(|photo| photo.before.as_ref()), of(|photo| Some(&photo.guess))]
    });
    let (mut left_out, doubtful) = looked_through(&mut classifier, &[data, held_back], stop)?;
    if !after.is_empty() {
        left_out.clear();
    }
    Ok(Review { classes: classifier.classes().to_vec(), held_back: after, left_out, right, doubtful })
}

fn id(photo: &Photo, class: &str) -> Option<Id> {
    let name = photo.picture.path()?.file_name()?.to_str()?;
    Some(Id::of(class, name))
}

/// The guess about each photo that can be read.
fn judge(
    classifier: &mut GrowingClassifier,
    photos: &Dataset,
    stop: &Stop,
    mut found: impl FnMut(Judged),
) -> Result<()> {
    for photo in photos.photos() {
        stop.go_on()?;
        let class = photos.classes()[photo.class].clone();
        let Some(id) = id(photo, &class) else { continue };
        let Ok(prediction) = classifier.predict(photo.picture.clone(), 1) else { continue };
        let Some(best) = prediction.top.into_iter().next() else { continue };
        found(Judged { id, class, guess: best.label, before: None, probability: best.probability.into() });
    }
    Ok(())
}

/// Each photo is left out of its class's mean, as imprinting makes them, and compared with all: its loss is -log of its own class's share
/// in the softmax of [`IMPRINT_SCALE`] cos(x, m_c). Of very many photos, every n-th is looked at.
fn looked_through(
    classifier: &mut GrowingClassifier,
    photos: &[Dataset; 2],
    stop: &Stop,
) -> Result<(Vec<Judged>, Vec<Doubtful>)> {
    let all =
        photos.iter().flat_map(|data| data.photos().iter().map(|photo| (photo, data.classes()[photo.class].clone())));
    let all: Vec<_> = all.collect();
    let every = all.len().div_ceil(MOST_REVIEWED).max(1);
    let mut seen: Vec<(Id, String, Vec<f64>)> = Vec::new();
    let mut sums: BTreeMap<String, (Vec<f64>, usize)> = BTreeMap::new();
    for (photo, class) in all.into_iter().step_by(every) {
        stop.go_on()?;
        let (Some(id), Ok(features)) = (id(photo, &class), classifier.features(photo.picture.clone())) else {
            continue;
        };
        let features = unit(features.iter().map(|x| f64::from(*x)).collect());
        let (sum, count) = sums.entry(class.clone()).or_insert_with(|| (vec![0.0; features.len()], 0));
        sum.iter_mut().zip(&features).for_each(|(sum, x)| *sum += x);
        *count += 1;
        seen.push((id, class, features));
    }
    let (mut judged, mut doubtful) = (Vec::new(), Vec::new());
    for (id, class, x) in seen {
        let Some((guess, probability, loss)) = left_out(&class, &x, &sums) else { continue };
        if guess != class {
            doubtful.push(Doubtful { id, class: class.clone(), guess: guess.clone(), loss });
        }
        judged.push(Judged { id, class, guess, before: None, probability });
    }
    doubtful.sort_by(|a: &Doubtful, b| b.loss.total_cmp(&a.loss));
    doubtful.truncate(MOST_DOUBTFUL);
    Ok((judged, doubtful))
}

/// The class whose mean a photo is nearest to, without its part in its own; how likely that is; and its loss.
fn left_out(class: &str, x: &[f64], sums: &BTreeMap<String, (Vec<f64>, usize)>) -> Option<(String, f64, f64)> {
    let mut scores = Vec::new();
    for (other, (sum, count)) in sums {
        let is_own = other == class;
        // A single photo is like no other of its class.
        if is_own && *count < 2 {
            return None;
        }
        let mean = unit(if is_own { sum.iter().zip(x).map(|(sum, x)| sum - x).collect() } else { sum.clone() });
        let cosine: f64 = mean.iter().zip(x).map(|(m, x)| m * x).sum();
        scores.push((other, f64::from(IMPRINT_SCALE) * cosine));
    }
    let (guess, best) = scores.iter().copied().max_by(|a, b| a.1.total_cmp(&b.1))?;
    let total: f64 = scores.iter().map(|(_, score)| (score - best).exp()).sum();
    let own = scores.iter().find(|(other, _)| *other == class)?.1;
    Some((guess.clone(), total.recip(), total.ln() + best - own))
}

fn unit(mut x: Vec<f64>) -> Vec<f64> {
    let length = x.iter().map(|x| x * x).sum::<f64>().sqrt().max(f64::MIN_POSITIVE);
    x.iter_mut().for_each(|x| *x /= length);
    x
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_photo_among_the_wrong_ones_is_found() {
        let photos = [
            ("a", [1.0, 0.1]),
            ("a", [1.0, 0.0]),
            ("a", [1.0, 0.05]),
            ("a", [0.1, 1.0]),
            ("b", [0.0, 1.0]),
            ("b", [0.2, 1.0]),
            ("c", [0.7, 0.7]),
        ];
        let mut sums: BTreeMap<String, (Vec<f64>, usize)> = BTreeMap::new();
        for (class, x) in photos {
            let (sum, count) = sums.entry(class.to_owned()).or_insert_with(|| (vec![0.0; 2], 0));
            sum.iter_mut().zip(unit(x.to_vec())).for_each(|(sum, x)| *sum += x);
            *count += 1;
        }
        let found: Vec<_> = photos.iter().map(|(class, x)| left_out(class, &unit(x.to_vec()), &sums)).collect();
        let guesses: Vec<_> = found.iter().map(|found| found.as_ref().map(|(guess, ..)| guess.as_str())).collect();
        let expected = ["a", "a", "a", "b", "b", "b"].map(Some);
        assert_eq!((&guesses[..6], guesses[6]), (&expected[..], None), "the only one of c tells nothing");
        // ln(e^(20 b) + e^(20 a) + e^(20 c)) - 20 a, with the cosines of the fourth photo.
        let x = unit(vec![0.1, 1.0]);
        let means = [unit(vec![2.9938, 0.1494]), unit(vec![0.1961, 1.9806]), unit(vec![1.0, 1.0])];
        let scores = means.map(|m| 20.0 * (m[0] * x[0] + m[1] * x[1]));
        let expected = scores.iter().map(|score| score.exp()).sum::<f64>().ln() - scores[0];
        let (_, probability, loss) = found[3].clone().unwrap();
        assert!((loss - expected).abs() < 0.05, "{loss} {expected}");
        let shares = scores.map(f64::exp);
        assert!((probability - shares[1] / shares.iter().sum::<f64>()).abs() < 0.01, "{probability}");
    }
}
