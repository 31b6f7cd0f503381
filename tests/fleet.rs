//! What was trained, out of a store and into one: the same guesses, errors that name the array, and a trial that keeps what is worse aside.

use std::path::{Path, PathBuf};

use srlora::bundle::Bundle;
use srlora::core::{Method, Sides};
use srlora::fleet::{Adopted, NamedArray, Trained, adopt, trained};
use srlora::session::{
    Classifier, Dataset, DirectionSource, Length, Lesson, Progress, Store, Trial, TrialPhotos, train,
};
use srlora::{ErrorKind, Result};
use tempfile::TempDir;

fn demo(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("models/handwriting").join(name)
}

/// The demo's network, and a store with a lesson of a fleet.
struct Place {
    folder: TempDir,
    bundle: Bundle,
}

impl Place {
    fn new(sides: Sides) -> Self {
        let place =
            Place { folder: TempDir::new().unwrap(), bundle: Bundle::open(&demo("handwriting.bundle")).unwrap() };
        place.learn("store", |lesson| Lesson {
            method: Method::Lora,
            pairs: Some(sides),
            directions: Some(DirectionSource::Shipped),
            ..lesson
        });
        place
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn learn(&self, name: &str, change: impl Fn(Lesson) -> Lesson) {
        let lesson = Lesson { length: Length::Steps(40), lr: Some(1e-2), ..Lesson::new(demo("train").as_path()) };
        train(&self.bundle, &change(lesson), &self.at(name), &mut |_: Progress| ()).unwrap();
    }

    fn trained(&self, name: &str) -> Result<Trained> {
        trained(&self.bundle, &Store::open(&self.at(name))?)
    }

    fn adopt(&self, trained: Trained, name: &str) -> Result<Adopted> {
        adopt(&self.bundle, trained, self.at(name), &Dataset::default())
    }

    /// Probabilities of some photos.
    fn says(&self, name: &str) -> Vec<f32> {
        let mut classifier = Classifier::new(&self.bundle, Some(&Store::open(&self.at(name)).unwrap())).unwrap();
        let photos = ["0/0000.png", "1/0001.png", "7/0061.png"].map(|photo| demo("val").join(photo));
        let there = photos.into_iter().filter(|photo| photo.exists());
        there.flat_map(|photo| classifier.probabilities(photo.as_path()).unwrap()).collect()
    }
}

fn array<'t>(trained: &'t mut Trained, key: &str) -> &'t mut NamedArray {
    trained.arrays.iter_mut().find(|array| array.key == key).unwrap()
}

/// B A at a site.
fn product(trained: &Trained, site: &str) -> Vec<f64> {
    let of = |what: &str| trained.arrays.iter().find(|array| array.key == format!("{site}/{what}")).unwrap();
    let (b, a) = (of("b"), of("a"));
    let (rows, pairs, columns) = (b.shape[0], b.shape[1], a.shape[1]);
    let at = |i: usize, j: usize| {
        (0..pairs).map(|k| f64::from(b.values[i * pairs + k]) * f64::from(a.values[k * columns + j])).sum::<f64>()
    };
    (0..rows).flat_map(|i| (0..columns).map(move |j| (i, j))).map(|(i, j)| at(i, j)).collect()
}

#[test]
fn what_comes_out_goes_in_again_to_the_last_bit_and_guesses_the_same() {
    for sides in [Sides::One, Sides::Both] {
        let place = Place::new(sides);
        let out = place.trained("store").unwrap();
        let has_a = out.arrays.iter().any(|array| array.key.ends_with("/a"));
        assert_eq!(has_a, sides == Sides::Both, "A is there where it was trained");
        assert!(
            out.arrays.iter().filter(|array| array.key.ends_with("/b")).all(|b| b.values.iter().any(|b| *b != 0.0))
        );
        assert_eq!(out.arrays.len(), place.bundle.sites.len() * (1 + usize::from(has_a)) + 2);
        let adopted = place.adopt(out.clone(), "adopted").unwrap();
        assert_eq!((adopted.generation, adopted.aside, adopted.max_error), (1, None, 0.0));
        assert_eq!(place.trained("adopted").unwrap(), out);
        // The lesson's temperature is its own, so that only the order of the classes is the same.
        let best = |says: Vec<f32>| {
            says.chunks(10).map(|p| (0..10).max_by(|a, b| p[*a].total_cmp(&p[*b]))).collect::<Vec<_>>()
        };
        assert_eq!(best(place.says("adopted")), best(place.says("store")));
    }
}

#[test]
fn what_a_mean_of_pairs_leaves_out_goes_into_the_delta() {
    let place = Place::new(Sides::Both);
    let first = place.trained("store").unwrap();
    let mut second = first.clone();
    for array in second.arrays.iter_mut().filter(|array| !array.key.starts_with("head/")) {
        array
            .values
            .iter_mut()
            .enumerate()
            .for_each(|(at, value)| *value = value.mul_add(0.5, 0.01 * (at as f32).sin()));
    }
    // The mean of both; what it leaves out of the mean of the products, by hand and in f64.
    let mut mean = first.clone();
    for (mean, other) in mean.arrays.iter_mut().zip(&second.arrays) {
        mean.values.iter_mut().zip(&other.values).for_each(|(mean, other)| *mean = 0.5 * (*mean + other));
    }
    let mut wanted = Vec::new();
    for site in &place.bundle.sites {
        let [own, others, means] = [&first, &second, &mean].map(|trained| product(trained, &site.name));
        let exact: Vec<f64> = own.iter().zip(&others).map(|(own, others)| 0.5 * (own + others)).collect();
        let left = exact.iter().zip(&means).map(|(exact, mean)| (exact - mean) as f32).collect();
        let key = format!("{}/delta", site.name);
        mean.arrays.push(NamedArray { key, shape: vec![site.out_dim, site.in_dim], values: left });
        wanted.push(exact);
    }
    let adopted = place.adopt(mean, "adopted").unwrap();
    let back = place.trained("adopted").unwrap();
    let (mut worst, mut most, mut without) = (0.0f64, 0.0f64, 0.0f64);
    for (site, wanted) in place.bundle.sites.iter().zip(&wanted) {
        let key = format!("{}/delta", site.name);
        let delta = &back.arrays.iter().find(|array| array.key == key).unwrap().values;
        for ((product, delta), wanted) in product(&back, &site.name).iter().zip(delta).zip(wanted) {
            worst = worst.max((product + f64::from(*delta) - wanted).abs());
            without = without.max((product - wanted).abs());
            most = most.max(wanted.abs());
        }
    }
    println!("largest change {most:.2e}; off by {worst:.2e}, and by {without:.2e} without the delta");
    assert!(worst <= f64::from(adopted.max_error) + 1e-7 && worst < 0.02 * without, "{worst} {without}");
}

#[test]
fn what_cannot_be_meant_is_refused_by_name_and_nothing_is_written() {
    let place = Place::new(Sides::One);
    let good = place.trained("store").unwrap();
    let b = format!("{}/b", place.bundle.sites[3].name);
    type Spoil<'s> = Box<dyn Fn(&mut Trained) + 's>;
    let spoil = |key: &str, spoil: fn(&mut NamedArray)| {
        let key = key.to_owned();
        Box::new(move |trained: &mut Trained| spoil(array(trained, &key))) as Spoil
    };
    let cases: Vec<(&str, &str, Spoil)> = vec![
        (&b, "holds NaN at 2", spoil(&b, |array| array.values[2] = f32::NAN)),
        ("head/bias", "holds inf at 0", spoil("head/bias", |array| array.values[0] = f32::INFINITY)),
        ("head/weight", "has the shape [96, 10]", spoil("head/weight", |array| array.shape.reverse())),
        (&b, "has the shape", spoil(&b, |array| array.values.truncate(7))),
        (&b, "is missing", Box::new(|trained| trained.arrays.retain(|array| array.key != b))),
        ("head/bias", "is missing", Box::new(|trained| trained.arrays.retain(|array| array.key != "head/bias"))),
        ("elsewhere/b", "is no array of a site", spoil("head/bias", |_| ())),
        (
            "head/bias",
            "is there twice",
            Box::new(|trained| {
                let again = array(trained, "head/bias").clone();
                trained.arrays.push(again);
            }),
        ),
        ("classes", "cannot be meant", Box::new(|trained| trained.classes[1] = trained.classes[0].clone())),
        ("head/weight", "fits the bundle and the classes", Box::new(|trained| drop(trained.classes.pop()))),
        ("handwriting.bundle", "is another bundle", Box::new(|trained| trained.bundle_sha256 = "0".repeat(64))),
        ("the arrays", "infinite", spoil("head/weight", |array| array.values.fill(3e38))),
    ];
    for (subject, message, spoil) in cases {
        let mut bad = good.clone();
        spoil(&mut bad);
        if subject == "elsewhere/b" {
            bad.arrays.push(NamedArray { key: subject.to_owned(), shape: vec![1], values: vec![0.0] });
        }
        let error = place.adopt(bad, "none").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Mismatch, "{error}");
        assert!(error.subject().ends_with(subject) && error.message().contains(message), "{subject}: {error}");
        assert!(!place.at("none").exists());
    }
}

#[test]
fn pairs_along_directions_that_no_other_device_has_do_not_come_out() {
    let place = Place::new(Sides::One);
    place.learn("own", |lesson| lesson);
    let error = place.trained("own").unwrap_err();
    assert_eq!((error.kind(), error.subject()), (ErrorKind::Mismatch, &*place.bundle.sites[0].name));
    assert!(error.message().contains("found in this device's photos"), "{error}");
    place.learn("pissa", |lesson| Lesson { method: Method::Pissa, ..lesson });
    assert!(place.trained("pissa").unwrap_err().message().contains("principal components"));
    place.learn("head", |lesson| Lesson { method: Method::Head, ..lesson });
    let head = place.trained("head").unwrap();
    assert_eq!(head.arrays.iter().map(|array| &*array.key).collect::<Vec<_>>(), ["head/weight", "head/bias"]);
    assert_eq!(place.adopt(head, "of a head").unwrap().generation, 1);
}

#[test]
fn what_is_worse_on_photos_that_were_held_back_is_kept_aside() {
    let place = Place::new(Sides::One);
    let held_back = Dataset::open(&demo("val")).unwrap();
    let good = place.trained("store").unwrap();
    let was = Store::open(&place.at("store")).unwrap().current();
    let mut bad = good.clone();
    array(&mut bad, "head/weight").values.iter_mut().for_each(|weight| *weight = -*weight);
    let adopted = adopt(&place.bundle, bad, place.at("store"), &held_back).unwrap();
    let trial = adopted.trial.unwrap();
    assert_eq!(
        (adopted.generation, adopted.aside, trial.on, trial.photos),
        (was, Some(was + 1), TrialPhotos::HeldBack, 400)
    );
    assert!(trial.after < trial.before && trial.known.len() == 10);
    assert_eq!(place.trained("store").unwrap(), good, "the store is as it was");

    // Classes in another order, one of them new: rows go by their names.
    let adopted = adopt(&place.bundle, wider(&place, &good, -1e3), place.at("store"), &held_back).unwrap();
    let trial = adopted.trial.unwrap();
    assert_eq!((adopted.generation, adopted.aside, trial.before), (was + 2, None, trial.after));
    assert!(trial.known.iter().all(|class| class.of_all == Some(class.after)), "nothing is mistaken for it");
    let error = place.adopt(good, "store").unwrap_err();
    assert!(error.message().contains("knows the class other"), "{error}");
    let mut writer = srlora::session::StoreWriter::open(&place.at("store")).unwrap();
    assert_eq!(writer.rollback(None).unwrap(), was, "it can be taken back");
}

/// With the classes in another order, and one more: a row of zeros with a bias.
fn wider(place: &Place, good: &Trained, bias: f32) -> Trained {
    let mut wider = good.clone();
    wider.classes.rotate_left(3);
    wider.classes.push("other".to_owned());
    let features = place.bundle.feature_dim;
    let weight = array(&mut wider, "head/weight");
    weight.values.rotate_left(3 * features);
    weight.values.extend(vec![0.0; features]);
    weight.shape[0] += 1;
    let biases = array(&mut wider, "head/bias");
    biases.values.rotate_left(3);
    biases.values.push(bias);
    biases.shape[0] += 1;
    wider
}

/// Of the photos of a trial, the share that is recognized of all classes.
fn of_all(trial: &Trial) -> f64 {
    let right: f64 = trial.known.iter().map(|class| class.of_all.unwrap() * class.photos as f64).sum();
    right / trial.photos as f64
}

#[test]
fn what_knows_more_classes_is_no_worse_for_it_unless_they_swallow_the_others() {
    let place = Place::new(Sides::One);
    let held_back = Dataset::open(&demo("val")).unwrap();
    let good = place.trained("store").unwrap();
    let tried = |bias: f32| {
        let store = format!("with {bias}");
        place.adopt(good.clone(), &store).unwrap();
        let adopted = adopt(&place.bundle, wider(&place, &good, bias), place.at(&store), &held_back).unwrap();
        (adopted.aside, adopted.trial.unwrap())
    };
    // A new class takes the photos that nothing else is sure of: here, the first few.
    let few = (0..40).map(|step| tried(step as f32 / 4.0)).find(|(_, trial)| of_all(trial) < trial.before).unwrap();
    let (aside, trial) = few;
    println!("before {}, among the known {}, of all {}", trial.before, trial.after, of_all(&trial));
    assert_eq!((aside, trial.before), (None, trial.after), "strictly, it would be kept aside");
    // It takes every photo: among those that the store knew nothing has changed, and still it is kept aside.
    let (aside, trial) = tried(1e3);
    assert_eq!((aside, trial.before, of_all(&trial)), (Some(2), trial.after, 0.0));
}
