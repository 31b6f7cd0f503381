//! Out and in again, and what is refused. `tests/peers/peft_round_trip.py` has PyTorch and PEFT say what they make of it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::folder::{CONFIG, PREFIX, WEIGHTS, read_tensors};
use super::*;
use crate::backbone::Precision;
use crate::bundle::{Bundle, Fit, PackRequest, Preprocess, pack};
use crate::error::{ErrorKind, Result};
use crate::session::{Classifier, Length, Lesson, Progress, Store, train};

/// The demo's network, and a store that has recomposed.
struct Place {
    folder: TempDir,
    bundle: Bundle,
}

impl Place {
    fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let bundle = Bundle::open(&demo("handwriting.bundle")).unwrap();
        let lesson = Lesson {
            length: Length::Steps(12),
            interval: 4.into(),
            lr: Some(1e-2),
            replay: 0,
            ..Lesson::new(demo("train").as_path())
        };
        let report = train(&bundle, &lesson, &folder.path().join("store"), &mut |_: Progress| ()).unwrap();
        assert!(report.recompositions > 0);
        Place { folder, bundle }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn export(&self, name: &str, rank: PeftRank) -> Result<PeftReport> {
        let naming = Naming { map: Some(self.map("")), torch: None };
        export_peft(
            &self.bundle,
            &Store::open(&self.at("store"))?,
            &PeftRequest { output: self.at(name), rank, naming, photos: None },
            &mut |_: Progress| (),
        )
    }

    /// A module for each site, as the names in the file do not tell them; with other lines.
    fn map(&self, more: &str) -> PathBuf {
        let sites = self.bundle.sites.iter().enumerate();
        let lines: String = sites.map(|(at, site)| format!("\"{}\" = \"body.{at}\"\n", site.name)).collect();
        let path = self.at("map.toml");
        fs::write(&path, format!("head = \"top\"\n{lines}{more}")).unwrap();
        path
    }

    fn import(&self, folder: &str, store: &str) -> Result<ImportReport> {
        let naming = Naming { map: Some(self.map("")), torch: None };
        let (peft, output) = (self.at(folder), self.at(store));
        import_peft(&self.bundle, &ImportRequest { peft, output, labels: None, naming })
    }

    /// Probabilities of some photos.
    fn says(&self, store: &str) -> Vec<f32> {
        let mut classifier = Classifier::new(&self.bundle, Some(&Store::open(&self.at(store)).unwrap())).unwrap();
        let photos = (0..10).map(|class| demo(&format!("val/{class}/0061.png"))).filter(|path| path.exists());
        photos.flat_map(|photo| classifier.probabilities(photo.as_path()).unwrap()).collect()
    }
}

fn demo(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("models/handwriting").join(name)
}

fn apart(a: &[f32], b: &[f32]) -> f32 {
    assert!(!a.is_empty() && a.len() == b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

#[test]
fn what_is_exported_comes_back_and_a_cut_says_what_it_lost() {
    let place = Place::new();
    let report = place.export("exact", PeftRank::Exact).unwrap();
    assert_eq!((report.head.as_str(), report.classes.len()), ("top", 10));
    assert!(report.sites.iter().all(|site| site.error_fro < 1e-5), "{:?}", report.sites);
    assert!(
        report.check.max_probability_difference < 1e-4 && report.check.same_class == report.check.photos,
        "{report:?}"
    );
    place.export("again", PeftRank::Exact).unwrap();
    for file in [CONFIG, WEIGHTS] {
        assert_eq!(fs::read(place.at("exact").join(file)).unwrap(), fs::read(place.at("again").join(file)).unwrap());
    }
    let before = place.says("store");
    let back = place.import("exact", "back").unwrap();
    assert_eq!(back.classes, report.classes);
    let difference = apart(&before, &place.says("back"));
    println!("exported and imported: probabilities within {difference:e}");
    assert!(difference < 2e-2 && back.sites.iter().all(|site| site.fused && site.max_error < 1e-2), "{difference:e}");
    let cut = place.export("cut", PeftRank::Pairs(1)).unwrap();
    assert!(cut.sites.iter().all(|site| site.rank == 1) && cut.sites.iter().any(|site| site.error_fro > 1e-3));
    let share = place.export("share", PeftRank::Share(0.9)).unwrap();
    assert!(share.sites.iter().zip(&cut.sites).all(|(share, cut)| share.error_fro <= cut.error_fro + 1e-9));
    // No more pairs than the bundle's rank need no delta, and come back as they were.
    place.import("cut", "cut.store").unwrap();
    let again = export_peft(
        &place.bundle,
        &Store::open(&place.at("cut.store")).unwrap(),
        &PeftRequest {
            output: place.at("twice"),
            rank: PeftRank::Exact,
            naming: Naming { map: Some(place.map("")), torch: None },
            photos: None,
        },
        &mut |_: Progress| (),
    );
    assert!(again.unwrap().sites.iter().all(|site| site.rank == place.bundle.rank));
    let first = |folder: &str| {
        let (tensors, provenance) = read_tensors(&place.at(folder).join(WEIGHTS)).unwrap();
        assert_eq!(provenance.unwrap().classes, report.classes);
        tensors.into_iter().find(|tensor| tensor.name == format!("{PREFIX}body.0.lora_A.weight")).unwrap().values
    };
    let (cut, twice) = (first("cut"), first("twice"));
    assert_eq!(cut, twice[..cut.len()]);
}

#[test]
fn what_has_no_module_or_no_place_is_refused_and_nothing_is_written() {
    let place = Place::new();
    let store = Store::open(&place.at("store")).unwrap();
    let refused = |naming: Naming| {
        let request = PeftRequest { output: place.at("none"), rank: PeftRank::Exact, naming, photos: None };
        let error = export_peft(&place.bundle, &store, &request, &mut |_: Progress| ()).unwrap_err();
        assert!(!place.at("none").exists());
        error
    };
    let map = |text: &str| {
        let path = place.at(&format!("{}.toml", text.len()));
        fs::write(&path, text).unwrap();
        Naming { map: Some(path), torch: None }
    };
    let site = &place.bundle.sites[0].name;
    for (naming, kind, words) in [
        (map("head = 3"), ErrorKind::Usage, "TOML"),
        (Naming { map: Some(place.map("\"nowhere\" = \"x\"")), torch: None }, ErrorKind::Usage, "`nowhere`"),
        (map(&format!("head = \"top\"\n\"{site}\" = \"top\"")), ErrorKind::Mismatch, "part of the classifier"),
        (Naming { torch: Some(place.at("missing")), map: None }, ErrorKind::Io, "missing"),
    ] {
        let error = refused(naming);
        assert!(error.kind() == kind && error.to_string().contains(words), "{error}");
    }
    assert_eq!(place.export("store", PeftRank::Exact).unwrap_err().kind(), ErrorKind::Exists);
    place.export("good", PeftRank::Exact).unwrap();
    assert_eq!(place.import("good", "store").unwrap_err().kind(), ErrorKind::Exists);
    fs::write(place.at("good").join(CONFIG), "{\"peft_type\": \"LORA\", \"use_dora\": true}").unwrap();
    let error = place.import("good", "none").unwrap_err();
    assert!(error.kind() == ErrorKind::Mismatch && error.to_string().contains("use_dora"), "{error}");
    assert!(!place.at("none").exists());
}

#[test]
fn adapters_that_peft_has_made_say_what_pytorch_says_with_them() {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/peft");
    let place = TempDir::new().unwrap();
    let packed = place.path().join("bundle");
    let preprocess = Preprocess { height: 16, width: 16, fit: Fit::Stretch, range: 1.0, mean: [0.5; 3], std: [0.5; 3] };
    let request = PackRequest {
        model: fixtures.join("model.onnx"),
        output: packed.clone(),
        rank: 2,
        reserve: 4,
        sites: "all".to_owned(),
        features: None,
        labels: None,
        size: None,
        preprocess,
        precision: Precision::Keep,
        sign: None,
        release: None,
    };
    pack(&request, |_| ()).unwrap();
    let bundle = Bundle::open(&packed).unwrap();
    let expected = fs::read(fixtures.join("expected.json")).unwrap();
    let expected: BTreeMap<String, Vec<Vec<f32>>> = serde_json::from_slice(&expected).unwrap();
    for (name, photos) in expected {
        let store = place.path().join(&name);
        let labels = Some(fixtures.join("labels.txt"));
        let request =
            ImportRequest { peft: fixtures.join(&name), output: store.clone(), labels, naming: Naming::default() };
        let report = import_peft(&bundle, &request).unwrap();
        assert_eq!(
            (report.classes.as_slice(), report.sites.len()),
            (&["left", "middle", "right"].map(String::from)[..], 3)
        );
        let mut classifier = Classifier::new(&bundle, Some(&Store::open(&store).unwrap())).unwrap();
        let said = (0..photos.len()).map(|nth| classifier.probabilities(fixtures.join(format!("{nth}.png")).as_path()));
        let difference = said.zip(&photos).map(|(said, expected)| apart(&said.unwrap(), expected)).fold(0.0, f32::max);
        println!("{name}: probabilities within {difference:e}");
        // What has more pairs than the bundle's rank goes through the delta, which rounds.
        assert!(difference < if name == "many" { 1e-2 } else { 1e-5 }, "{name}: {difference:e}");
        assert_eq!(report.sites.iter().any(|site| site.fused), name == "many");
    }
}
