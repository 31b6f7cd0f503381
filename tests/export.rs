//! What `export` writes: read again by this program, and taken apart byte by byte by a reader of its own. Other runtimes see it in
//! `tests/peers`.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use srlora::ErrorKind;
use srlora::backbone::{Backbone, Precision};
use srlora::bundle::{Bundle, Fit, PackRequest, Preprocess, pack};
use srlora::core::Method;
use srlora::export::{ExportReport, OnnxRequest, export_onnx};
use srlora::ort::{OrtReport, OrtRequest, export_ort_adapter};
use srlora::peft::PeftRank;
use srlora::session::{
    Dataset, Interval, Layout, Length, Lesson, Picture, Pixels, Progress, Store, StoreWriter, train,
};
use tempfile::TempDir;

/// Largest difference of a probability where both sides compute with the same floats.
const SAME: f32 = 1e-4;
const CLASSES: [&str; 3] = ["across", "it's along", "plain"];

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(format!("{name}.onnx"))
}

/// Pictures of three classes that a network of random weights tells apart.
fn photos(side: usize) -> Dataset {
    let mut photos = Dataset::default();
    for (class, name) in CLASSES.iter().enumerate() {
        for nth in 0..6 {
            // Much noise, and faint stripes across, along, or none: not to be told apart by class means alone.
            let mut state = (1 + class * 6 + nth) as u32;
            let mut noise = || {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 24) as usize * 3 / 4
            };
            let stripe = |at: usize| 60 * [at / side / 2 % 2, at % side / 2 % 2, 0][class];
            let bytes: Vec<u8> =
                (0..side * side).flat_map(|at| [0; 3].map(|_| noise() as u8 + stripe(at) as u8)).collect();
            let pixels = Pixels::new(&bytes, Layout::Rgb8, [side as u32; 2], 3 * side).unwrap();
            photos.add(name, Picture::pixels(&format!("{name} {nth}"), pixels)).unwrap();
        }
    }
    photos
}

/// A bundle of a fixture, and room for what is made with it.
struct Place {
    folder: TempDir,
    bundle: Bundle,
    photos: Dataset,
}

impl Place {
    fn of(model: &Path) -> Self {
        let folder = TempDir::new().unwrap();
        let output = folder.path().join("a.bundle");
        let preprocess = Preprocess { fit: Fit::Stretch, ..Preprocess::default() };
        let sites = "all".into();
        let request = PackRequest { rank: 1, reserve: 4, sites, preprocess, ..PackRequest::new(model, &output) };
        pack(&request, |_| {}).unwrap();
        let bundle = Bundle::open(&output).unwrap();
        let photos = photos(bundle.preprocess.height);
        Place { folder, bundle, photos }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A store after a lesson with recompositions, or one that was only imprinted.
    fn store(&self, name: &str, method: Method) -> Store {
        let lesson = Lesson {
            method,
            length: Length::Steps(if method == Method::Imprint { 1 } else { 24 }),
            interval: if method == Method::Srlora { 6.into() } else { Interval::Never },
            batch: 6,
            lr: Some(0.01),
            ..Lesson::new(self.photos.clone())
        };
        let path = self.path(name);
        let report = train(&self.bundle, &lesson, &path, &mut |_: Progress| ()).unwrap();
        // A lesson that has not passed its trial has learned all the same.
        if let [_, aside] = &Store::open(&path).unwrap().numbers().unwrap()[..]
            && let Some(aside) = aside.first()
        {
            StoreWriter::open(&path).unwrap().rollback(Some(*aside)).unwrap();
        }
        let store = Store::open(&path).unwrap();
        let has_learned = store.record().unwrap().steps > 0 && report.recompositions > 0;
        assert_eq!(has_learned, method == Method::Srlora, "{name}");
        store
    }

    fn export(&self, store: &Store, name: &str, precision: Precision) -> srlora::Result<ExportReport> {
        let request = OnnxRequest {
            output: self.path(name),
            precision,
            with_preprocessing: false,
            photos: Some(self.photos.clone()),
        };
        export_onnx(&self.bundle, store, &request, &mut |_: Progress| ())
    }

    fn bytes(&self, name: &str) -> Vec<u8> {
        fs::read(self.path(name)).unwrap()
    }
}

/// The fields of a message: number, the whole field, and its content. Protobuf's own description, and nothing of this crate.
fn fields(message: &[u8]) -> Vec<(u64, &[u8], &[u8])> {
    fn varint(bytes: &[u8], at: &mut usize) -> u64 {
        let (mut value, mut shift) = (0, 0);
        loop {
            let byte = bytes[*at];
            (value, shift, *at) = (value | u64::from(byte & 127) << shift, shift + 7, *at + 1);
            if byte < 128 {
                return value;
            }
        }
    }
    let (mut at, mut found) = (0, Vec::new());
    while at < message.len() {
        let start = at;
        let key = varint(message, &mut at);
        let len = match key & 7 {
            0 => {
                varint(message, &mut at);
                0
            }
            1 => 8,
            2 => varint(message, &mut at) as usize,
            _ => 4,
        };
        found.push((key >> 3, &message[start..at + len], &message[at..at + len]));
        at += len;
    }
    found
}

fn part(message: &[u8], number: u64) -> &[u8] {
    fields(message).into_iter().find(|field| field.0 == number).map_or(&[], |field| field.2)
}

/// Metadata of a model.
fn metadata(model: &[u8]) -> HashMap<String, String> {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let entries = fields(model).into_iter().filter(|field| field.0 == 14).map(|field| field.2);
    entries.map(|entry| (text(part(entry, 1)), text(part(entry, 2)))).collect()
}

/// Nodes and initializers of `vendor` that are not in `merged` byte by byte, by name; a node is in its place among the others.
fn changed(vendor: &[u8], merged: &[u8]) -> Vec<String> {
    let outside = |model: &[u8]| -> Vec<Vec<u8>> {
        let others = fields(model).into_iter().filter(|field| ![7, 14].contains(&field.0));
        others.map(|field| field.1.to_vec()).collect()
    };
    assert_eq!(outside(vendor), outside(merged), "the model's own fields");
    let (vendor, merged) = (fields(part(vendor, 7)), fields(part(merged, 7)));
    let nodes: Vec<&[u8]> = merged.iter().filter(|field| field.0 == 1).map(|field| field.1).collect();
    let (mut next, mut lost) = (0, Vec::new());
    for (number, whole, content) in vendor {
        let named = |field: u64| String::from_utf8_lossy(part(content, field)).into_owned();
        if number == 1 {
            // Nodes keep their order.
            match nodes[next..].iter().position(|node| *node == whole) {
                Some(at) => next += at + 1,
                None => lost.push(named(3)),
            }
        } else if !merged.iter().any(|field| field.0 == number && field.1 == whole) {
            // Described values of the old classifier go with it; the output has another shape.
            match number {
                5 => lost.push(named(8)),
                _ => assert!([12, 13].contains(&number), "field {number} of the graph"),
            }
        }
    }
    lost
}

#[test]
fn every_form_of_file_says_what_the_adapted_network_says() {
    for (name, exact) in [
        ("networks/resnet.legacy", true),
        ("networks/mobilenet_v2.dynamo", true),
        ("networks/vit.dynamo", true),
        ("networks/mobilevit.legacy", true),
        ("ends/headless", true),
        ("ends/cosine", true),
        ("ends/squeezenet", true),
        ("forms/shared_through_identity", true),
        ("forms/constant_nodes", true),
        ("forms/decode_reshape", false),
        ("forms/encoded_in_the_file", false),
        ("forms/half_reshape", false),
        ("quantized/mobilenet_v2.qdq", false),
        ("quantized/mobilenet_v2.qdq_uint8_weights", false),
        ("quantized/mobilenet_v2.qoperator", false),
        ("quantized/mobilevit.dynamic", false),
        ("quantized/mobilevit.fp16_io", false),
        ("quantized/resnet.half", false),
    ] {
        let place = Place::of(&fixture(name));
        let store = place.store("store", Method::Srlora);
        let report = place.export(&store, "a.onnx", Precision::Keep).unwrap();
        let worst = report.sites.iter().map(|site| site.error_fro).fold(0.0, f64::max);
        let saturated: usize = report.sites.iter().map(|site| site.saturated).sum();
        let (apart, same) = (report.check.max_probability_difference, report.check.same_class);
        println!(
            "{name}: probabilities within {apart:.1e}, {same} of {} alike, weights within {worst:.1e}",
            report.check.photos
        );
        assert_eq!((report.check.photos, saturated), (18, 0), "{name}");
        assert!(worst < if exact { 1e-6 } else { 0.04 }, "{name}: {worst}");
        assert!(apart <= if exact { SAME } else { 0.2 }, "{name}: {apart}");
        let names = metadata(&place.bytes("a.onnx"))["names"].clone();
        assert_eq!(names, r"{0: 'across', 1: 'it\'s along', 2: 'plain'}");
        // Such a file learns again.
        let again = Place::of(&place.path("a.onnx"));
        again.store("again", Method::Srlora);
    }
}

#[test]
fn nothing_changes_but_sites_and_classifier_and_nothing_of_a_site_that_has_not_learned() {
    for name in ["networks/mobilenet_v2.dynamo", "quantized/mobilenet_v2.qdq", "quantized/resnet.half"] {
        let place = Place::of(&fixture(name));
        let vendor = fs::read(fixture(name)).unwrap();
        place.export(&place.store("learned", Method::Srlora), "learned.onnx", Precision::Keep).unwrap();
        place.export(&place.store("imprinted", Method::Imprint), "imprinted.onnx", Precision::Keep).unwrap();
        let old = changed(&vendor, &place.bytes("imprinted.onnx"));
        let new = changed(&vendor, &place.bytes("learned.onnx"));
        println!("{name}: {} parts of the old classifier, {} of sites", old.len(), new.len() - old.len());
        assert!(!old.is_empty() && old.len() < 16, "{old:?}");
        assert!(old.iter().all(|part| new.contains(part)) && new.len() > old.len());
        let size = Some([place.bundle.preprocess.height, place.bundle.preprocess.width]);
        let backbones = [vendor, place.bytes("imprinted.onnx")].map(|b| Backbone::read(b, name, None, size).unwrap());
        for site in &place.bundle.sites {
            let weights = backbones.each_ref().map(|backbone| {
                let site = backbone.sites_named([site.name.as_str()]).unwrap().remove(0);
                backbone.weight(&site).unwrap().mapv(f32::to_bits)
            });
            assert_eq!(weights[0], weights[1], "{name}: {}", site.name);
        }
    }
}

#[test]
fn another_precision_is_written_where_the_file_can_have_it() {
    let float = Place::of(&fixture("networks/mobilenet_v2.legacy"));
    let store = float.store("store", Method::Srlora);
    let mut sizes = Vec::new();
    for (precision, bound) in [(Precision::Fp32, 1e-6), (Precision::Fp16, 5e-4), (Precision::Int8, 0.02)] {
        let report = float.export(&store, &format!("{precision:?}.onnx"), precision).unwrap();
        let worst = report.sites.iter().map(|site| site.error_fro).fold(0.0, f64::max);
        println!(
            "{precision:?}: weights within {worst:.1e}, probabilities {:.1e}",
            report.check.max_probability_difference
        );
        assert!(worst <= bound, "{precision:?}");
        assert!(precision != Precision::Fp32 || report.check.max_probability_difference <= SAME);
        sizes.push(report.files[0].bytes);
    }
    assert!(sizes[0] > sizes[1] && sizes[1] > sizes[2], "{sizes:?}");
    for name in [
        "quantized/resnet.half",
        "quantized/mobilevit.fp16_io",
        "forms/half_reshape",
        "quantized/mobilevit.qdq_softmax",
    ] {
        let rounded = Place::of(&fixture(name));
        let report = rounded.export(&rounded.store("store", Method::Srlora), "float.onnx", Precision::Fp32).unwrap();
        let apart = report.check.max_probability_difference;
        println!("{name} in fp32: within {apart:.1e}");
        assert!(apart <= SAME && report.sites.iter().all(|site| site.error_fro < 1e-6), "{name}");
    }
    let coded = Place::of(&fixture("quantized/mobilenet_v2.qdq"));
    let store = coded.store("store", Method::Srlora);
    let error = coded.export(&store, "half.onnx", Precision::Fp16).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Usage, "{error}");
    assert!(!coded.path("half.onnx").exists());
}

#[test]
fn the_same_store_gives_the_same_bytes_and_what_is_there_is_not_touched() {
    let place = Place::of(&fixture("quantized/mobilenet_v2.qdq"));
    let store = place.store("store", Method::Srlora);
    place.export(&store, "a.onnx", Precision::Keep).unwrap();
    let request = OnnxRequest {
        output: place.path("b.onnx"),
        precision: Precision::Keep,
        with_preprocessing: false,
        photos: None,
    };
    let report = export_onnx(&place.bundle, &store, &request, &mut |_: Progress| ()).unwrap();
    assert!(report.check.noise && report.check.photos > 0);
    let bytes = place.bytes("a.onnx");
    assert_eq!(bytes, place.bytes("b.onnx"), "whatever it is checked with");
    let error = place.export(&store, "a.onnx", Precision::Keep).unwrap_err();
    assert_eq!((error.kind(), place.bytes("a.onnx")), (ErrorKind::Exists, bytes));
    let other = Place::of(&fixture("networks/resnet.legacy"));
    let error = other.export(&store, "c.onnx", Precision::Keep).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Mismatch, "{error}");
    let left: Vec<_> = fs::read_dir(other.folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["a.bundle"], "nothing half-written stays");
}

#[test]
fn preprocessing_in_the_graph_reads_bytes_and_gives_probabilities() {
    let place = Place::of(&fixture("networks/mobilenet_v2.legacy"));
    let store = place.store("store", Method::Srlora);
    let request = OnnxRequest {
        output: place.path("a.onnx"),
        precision: Precision::Keep,
        with_preprocessing: true,
        photos: None,
    };
    let report = export_onnx(&place.bundle, &store, &request, &mut |_: Progress| ()).unwrap();
    assert!(report.check.max_probability_difference < 1e-5, "{report:?}");
    let again = Place::of(&place.path("a.onnx"));
    assert!(again.bundle.backbone().unwrap().image().is_bytes, "it packs again");
    let entries = metadata(&place.bytes("a.onnx"));
    assert_eq!(
        [&entries["srlora.mean"], &entries["srlora.std"], &entries["srlora.range"]],
        ["[0, 0, 0]", "[1, 1, 1]", "255"]
    );
    assert!(!entries.contains_key("srlora.unknown_below"), "a limit of logits");
    let learned = again.store("store", Method::Srlora);
    again.export(&learned, "b.onnx", Precision::Keep).unwrap();
    let merged = again.bytes("b.onnx");
    // With a number behind it, as the file that was packed has a tensor `logits` within.
    assert_eq!(part(part(part(&merged, 7), 12), 1), b"logits.2", "logits are not called probabilities");
    let bytes = place.bytes("a.onnx");
    let graph = part(&bytes, 7);
    let [input, output] = [11, 12].map(|number| part(graph, number));
    let side = place.bundle.preprocess.height as u64;
    let described = |value: &[u8]| {
        let tensor = part(part(value, 2), 1).to_vec();
        let kind = fields(&tensor).into_iter().find(|field| field.0 == 1).map(|field| field.1[1]);
        let dims = fields(part(&tensor, 2)).into_iter().map(|dim| u64::from(dim.2[1])).collect::<Vec<_>>();
        (String::from_utf8(part(value, 1).to_vec()).unwrap(), kind, dims)
    };
    assert_eq!(described(input), ("image".into(), Some(2), vec![1, side, side, 3]));
    assert_eq!(described(output), ("probabilities".into(), Some(1), vec![1, 3]));
}

#[test]
fn the_command_answers_in_json() {
    let place = Place::of(&fixture("networks/mobilenet_v2.legacy"));
    place.store("store", Method::Imprint);
    let run = |name: &str| {
        let paths = ["a.bundle", "store", name].map(|name| place.path(name));
        let [bundle, store, output] = paths.each_ref().map(|path| path.to_str().unwrap());
        let args = ["export", bundle, "--store", store, "--onnx", output, "--json"];
        Command::new(env!("CARGO_BIN_EXE_srlora")).args(args).output().unwrap()
    };
    let output = run("a.onnx");
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
    for key in ["format", "files", "sites", "max_probability_difference", "photos", "seconds", "peak_rss_bytes"] {
        assert!(answer.get(key).is_some_and(|value| !value.is_null()), "{key} in {answer}");
    }
    assert_eq!(answer["files"][0]["bytes"].as_u64().unwrap(), place.bytes("a.onnx").len() as u64);
    for key in ["name", "error_fro", "saturated"] {
        assert!(answer["sites"][0].get(key).is_some(), "{key}");
    }
    assert_eq!(run("a.onnx").status.code(), Some(1), "an output that is there is refused");
}

#[test]
fn real_models_in_every_precision_say_what_the_adapted_network_says() {
    let Some(assets) = std::env::var_os("SRLORA_ASSETS").map(PathBuf::from) else {
        return println!("SRLORA_ASSETS is not set: no real models");
    };
    for (model, bound) in [("resnet20_cifar10_fp32", SAME), ("mlperftiny_resnet8_cifar10_int8_qdq", 0.2)] {
        let place = Place::of(&assets.join("models").join(format!("{model}.onnx")));
        let store = place.store("store", Method::Srlora);
        let report = place.export(&store, "a.onnx", Precision::Keep).unwrap();
        println!("{model}: within {:.1e}", report.check.max_probability_difference);
        assert!(report.check.max_probability_difference <= bound, "{model}");
    }
}

/// The tensors of an `.onnx_adapter` by name, as dimensions and bytes: FlatBuffers' own description, and nothing of this crate.
fn adapter_tensors(file: &[u8]) -> HashMap<String, (Vec<usize>, Vec<u8>)> {
    let number = |at: usize| i32::from_le_bytes(file[at..at + 4].try_into().unwrap());
    let target = |at: usize| at + number(at) as usize;
    let field = |table: usize, nth: usize| {
        let vtable = (table as i32 - number(table)) as usize;
        table + u16::from_le_bytes(file[vtable + 4 + 2 * nth..][..2].try_into().unwrap()) as usize
    };
    let vector = |table: usize, nth: usize, size: usize| {
        let at = target(field(table, nth));
        &file[at + 4..at + 4 + size * number(at) as usize]
    };
    assert_eq!(&file[4..8], b"TORT");
    let root = target(0);
    assert_eq!(number(field(root, 0)), 1);
    let entries = target(field(root, 3));
    let tensor = |nth: usize| {
        let table = target(entries + 4 + 4 * nth);
        let dims = vector(table, 1, 8).chunks(8).map(|dim| i64::from_le_bytes(dim.try_into().unwrap()) as usize);
        let (dims, raw) = (dims.collect::<Vec<_>>(), vector(table, 3, 1).to_vec());
        assert_eq!(raw.len(), dims.iter().product::<usize>() * if number(field(table, 2)) == 1 { 4 } else { 1 });
        (String::from_utf8(vector(table, 0, 1).to_vec()).unwrap(), (dims, raw))
    };
    (0..number(entries) as usize).map(tensor).collect()
}

/// Names of the parts of a graph: 5 for initializers, 11 for inputs.
fn named(model: &[u8], number: u64) -> Vec<String> {
    let parts = fields(part(model, 7)).into_iter().filter(|field| field.0 == number);
    parts.map(|field| String::from_utf8(part(field.2, if number == 5 { 8 } else { 1 }).to_vec()).unwrap()).collect()
}

fn floats(raw: &[u8]) -> Vec<f32> {
    raw.chunks(4).map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap())).collect()
}

impl Place {
    fn export_ort(&self, store: &Store, base: &str, adapter: &str, precision: Precision) -> srlora::Result<OrtReport> {
        let (base, adapter) = (self.path(base), self.path(adapter));
        let request = OrtRequest { base, adapter, rank: PeftRank::Exact, precision, photos: Some(self.photos.clone()) };
        export_ort_adapter(&self.bundle, store, &request, &mut |_: Progress| ())
    }

    /// A store that knows the first two classes alone.
    fn store_of_two(&self) -> Store {
        let mut two = Dataset::default();
        self.photos.photos().iter().filter(|photo| photo.class < 2).for_each(|photo| {
            two.add(CLASSES[photo.class], photo.picture.clone()).unwrap();
        });
        let lesson = Lesson { method: Method::Imprint, ..Lesson::new(two) };
        train(&self.bundle, &lesson, &self.path("two"), &mut |_: Progress| ()).unwrap();
        Store::open(&self.path("two")).unwrap()
    }

    fn read(&self, name: &str) -> Backbone {
        Backbone::read(self.bytes(name), name, None, Some([self.bundle.preprocess.height; 2])).unwrap()
    }
}

#[test]
fn one_base_serves_stores_of_other_classes() {
    for (name, bound) in [
        ("networks/resnet.legacy", 1e-5),
        ("networks/vit.dynamo", 1e-5),
        ("networks/mobilevit.legacy", 1e-5),
        ("ends/headless", 1e-5),
        ("forms/shared_through_identity", 1e-5),
        ("quantized/mobilenet_v2.qdq", 0.05),
        ("quantized/resnet.half", 1e-3),
    ] {
        let place = Place::of(&fixture(name));
        let (three, two) = (place.store("three", Method::Srlora), place.store_of_two());
        let report = place.export_ort(&three, "base.onnx", "three.onnx_adapter", Precision::Keep).unwrap();
        let base = place.bytes("base.onnx");
        let other = place.export_ort(&two, "base.onnx", "two.onnx_adapter", Precision::Keep).unwrap();
        assert_eq!((report.base_kept, other.base_kept), (false, true));
        assert_eq!(base, place.bytes("base.onnx"));
        place.export_ort(&two, "first.onnx", "again.onnx_adapter", Precision::Keep).unwrap();
        assert!(base == place.bytes("first.onnx"), "{name}: whichever store it is written with");
        assert_eq!(place.bytes("two.onnx_adapter"), place.bytes("again.onnx_adapter"));
        println!(
            "{name}: within {:.1e} and {:.1e}",
            report.check.max_probability_difference, other.check.max_probability_difference
        );
        assert!(report.check.max_probability_difference.max(other.check.max_probability_difference) <= SAME);

        let [three, two] = ["three", "two"].map(|name| adapter_tensors(&place.bytes(&format!("{name}.onnx_adapter"))));
        let (inputs, held) = (named(&base, 11), named(&base, 5));
        assert!(three.keys().chain(two.keys()).all(|name| inputs.contains(name) && held.contains(name)));
        assert_eq!(inputs.len(), 1 + three.len(), "the image, and what an adapter gives");
        assert_eq!((two.len(), three.len()), (3, 3 + 2 * report.sites.len()), "imprinting teaches no pairs");
        for (tensors, classes) in [(&three, 3), (&two, 2)] {
            assert_eq!(tensors["srlora.head.weight"].0, [classes, place.bundle.feature_dim]);
            let note: Value = serde_json::from_slice(&tensors[&report.note].1).unwrap();
            assert_eq!(note["classes"], Value::from(&CLASSES[..classes]));
            assert_eq!(note["bundle_sha256"], Value::from(place.bundle.content_sha256.clone()));
        }
        weights_are_those_of_the_merged_file(&place, &three, bound, name);
    }
}

/// W + B A of each site, against what `--onnx` writes.
fn weights_are_those_of_the_merged_file(
    place: &Place,
    tensors: &HashMap<String, (Vec<usize>, Vec<u8>)>,
    bound: f64,
    name: &str,
) {
    place.export(&Store::open(&place.path("three")).unwrap(), "merged.onnx", Precision::Keep).unwrap();
    let [merged, vendor] = [place.read("merged.onnx"), place.bundle.backbone().unwrap()];
    let mut most: f64 = 0.0;
    for site in &place.bundle.sites {
        let site = vendor.sites_named([site.name.as_str()]).unwrap().remove(0);
        let [(a_dims, a), (b_dims, b)] = ["lora_A", "lora_B"].map(|side| {
            let (dims, raw) = &tensors[&format!("{}.{side}", site.name)];
            (dims.clone(), floats(raw))
        });
        let is_kernel = a_dims.len() == 4;
        let rank = if is_kernel { a_dims[0] } else { a_dims[1] };
        assert_eq!(b_dims[..2], if is_kernel { [site.out_dim, rank] } else { [rank, site.out_dim] });
        let (ours, theirs) = (vendor.weight(&site).unwrap(), merged.weight(&site).unwrap());
        let (mut lost, mut whole, mut learned) = (0.0, 0.0, 0.0);
        for ((row, column), w) in ours.indexed_iter() {
            let pair = |k: usize| match is_kernel {
                true => f64::from(b[row * rank + k]) * f64::from(a[k * site.in_dim + column]),
                false => f64::from(b[k * site.out_dim + row]) * f64::from(a[column * rank + k]),
            };
            let change: f64 = (0..rank).map(pair).sum();
            lost += (f64::from(*w) + change - f64::from(theirs[(row, column)])).powi(2);
            whole += f64::from(theirs[(row, column)]).powi(2);
            learned += change * change;
        }
        assert!((lost / whole).sqrt() <= bound, "{name}: {} is off by {:e}", site.name, (lost / whole).sqrt());
        most = most.max((learned / whole).sqrt());
    }
    assert!(most > 1e-3, "{name}: nothing was learned");
}

#[test]
fn a_base_is_the_vendors_file_but_for_what_sites_make_and_the_old_classifier() {
    for name in ["networks/mobilenet_v2.dynamo", "quantized/mobilenet_v2.qdq", "quantized/resnet.half"] {
        let place = Place::of(&fixture(name));
        let store = place.store("store", Method::Imprint);
        place.export(&store, "merged.onnx", Precision::Keep).unwrap();
        let report = place.export_ort(&store, "base.onnx", "a.onnx_adapter", Precision::Keep).unwrap();
        let vendor = fs::read(fixture(name)).unwrap();
        let old = changed(&vendor, &place.bytes("merged.onnx"));
        let mut lost = changed(&vendor, &place.bytes("base.onnx"));
        lost.retain(|part| !old.contains(part));
        let sites: Vec<&str> = report.sites.iter().map(|site| site.name.as_str()).collect();
        assert_eq!(lost, sites, "{name}");
        let [base, merged] = ["base.onnx", "merged.onnx"].map(|file| metadata(&place.bytes(file)));
        for (key, value) in &merged {
            let is_of_store = ["names", "srlora.generation", "srlora.unknown_below"].contains(&key.as_str());
            assert_eq!(base.get(key), (!is_of_store).then_some(value), "{name}: {key}");
        }
    }
}

#[test]
fn a_quantized_base_computes_in_float_where_that_is_asked_for_and_takes_the_same_adapters() {
    for name in ["quantized/mobilevit.qdq_softmax", "quantized/mobilenet_v2.qdq_uint8_weights", "quantized/resnet.half"]
    {
        let place = Place::of(&fixture(name));
        let store = place.store("store", Method::Srlora);
        place.export_ort(&store, "base.onnx", "a.onnx_adapter", Precision::Keep).unwrap();
        let report = place.export_ort(&store, "float.onnx", "b.onnx_adapter", Precision::Fp32).unwrap();
        assert!(report.check.max_probability_difference <= SAME, "{name}");
        assert_eq!(place.bytes("a.onnx_adapter"), place.bytes("b.onnx_adapter"), "{name}");
        let bytes = place.bytes("float.onnx");
        let ops = fields(part(&bytes, 7)).into_iter().filter(|field| field.0 == 1).map(|node| part(node.2, 4));
        let quantizers = ops.filter(|op| *op == b"QuantizeLinear").count();
        assert_eq!(quantizers, 0, "{name}");
    }
}

#[test]
fn a_file_so_old_that_nothing_can_be_given_to_it_becomes_a_newer_one() {
    let bytes = fs::read(fixture("networks/resnet.legacy")).unwrap();
    let framed = |number: u8, content: &[u8]| {
        let (mut out, mut len) = (vec![number << 3 | 2], content.len());
        while len >= 128 {
            out.push(len as u8 | 128);
            len >>= 7;
        }
        out.push(len as u8);
        [out, content.to_vec()].concat()
    };
    let mut graph = part(&bytes, 7).to_vec();
    for tensor in fields(part(&bytes, 7)).into_iter().filter(|field| field.0 == 5) {
        let kind = fields(tensor.2).into_iter().find(|field| field.0 == 2).unwrap().1[1];
        let typed = framed(2, &framed(1, &[8, kind]));
        graph.extend(framed(11, &[framed(1, part(tensor.2, 8)), typed].concat()));
    }
    let others = fields(&bytes).into_iter().filter(|field| ![1, 7].contains(&field.0)).map(|field| field.1.to_vec());
    let old: Vec<u8> = [vec![8, 3], framed(7, &graph)].into_iter().chain(others).flatten().collect();
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("old.onnx");
    fs::write(&path, old).unwrap();

    let place = Place::of(&path);
    place.export_ort(&place.store("store", Method::Srlora), "base.onnx", "a.onnx_adapter", Precision::Keep).unwrap();
    let base = place.bytes("base.onnx");
    assert_eq!(fields(&base)[0].1, [8, 4], "the first version in which initializers can be given");
    let tensors = adapter_tensors(&place.bytes("a.onnx_adapter"));
    let inputs = named(&base, 11);
    assert_eq!(inputs.len(), 1 + tensors.len(), "the vendor's weights are none: {inputs:?}");
}

#[test]
fn what_an_adapter_cannot_be_written_to_or_made_of_is_refused_and_nothing_is_left() {
    let place = Place::of(&fixture("networks/resnet.legacy"));
    let store = place.store("store", Method::Imprint);
    let kind = |base: &str, adapter: &str, precision| {
        place.export_ort(&store, base, adapter, precision).map(|_| ()).map_err(|error| error.kind())
    };
    let before = fs::read_dir(place.folder.path()).unwrap().count();
    assert_eq!(kind("same.onnx", "same.onnx", Precision::Keep), Err(ErrorKind::Usage));
    assert_eq!(kind("same.onnx", "./same.onnx", Precision::Keep), Err(ErrorKind::Usage));
    assert_eq!(kind("base.onnx", "a.onnx_adapter", Precision::Int8), Err(ErrorKind::Usage));
    assert_eq!(kind("none/base.onnx", "a.onnx_adapter", Precision::Keep), Err(ErrorKind::Io));
    assert_eq!(kind("a.bundle", "a.onnx_adapter", Precision::Keep), Err(ErrorKind::Exists), "another file");
    assert_eq!(kind("store", "a.onnx_adapter", Precision::Keep), Err(ErrorKind::Exists), "a folder");
    assert_eq!(kind("base.onnx", "a.bundle", Precision::Keep), Err(ErrorKind::Exists));
    assert_eq!(fs::read_dir(place.folder.path()).unwrap().count(), before);
    kind("base.onnx", "a.onnx_adapter", Precision::Keep).unwrap();
    let bytes = place.bytes("a.onnx_adapter");
    assert_eq!(kind("base.onnx", "a.onnx_adapter", Precision::Keep), Err(ErrorKind::Exists));
    assert_eq!(place.bytes("a.onnx_adapter"), bytes);

    let other = Place::of(&fixture("networks/vit.dynamo"));
    let error = other.export_ort(&store, "base.onnx", "a.onnx_adapter", Precision::Keep).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Mismatch, "{error}");
    let integers = Place::of(&fixture("quantized/mobilenet_v2.qoperator"));
    let store = integers.store("store", Method::Imprint);
    let error = integers.export_ort(&store, "base.onnx", "a.onnx_adapter", Precision::Keep).unwrap_err();
    let says = error.to_string();
    assert!(
        error.kind() == ErrorKind::Model && says.contains("QLinearConv") && says.contains("option `onnx`"),
        "{says}"
    );
    assert!(!integers.path("base.onnx").exists());
}

#[test]
fn the_command_writes_a_base_and_an_adapter() {
    let place = Place::of(&fixture("networks/mobilenet_v2.legacy"));
    place.store("store", Method::Imprint);
    let run = |args: &[&str]| {
        let paths = ["a.bundle", "store"].map(|name| place.path(name));
        let [bundle, store] = paths.each_ref().map(|path| path.to_str().unwrap());
        let args = ["export", bundle, "--store", store, "--ort-adapter"].into_iter().chain(args.iter().copied());
        Command::new(env!("CARGO_BIN_EXE_srlora")).args(args).current_dir(place.folder.path()).output().unwrap()
    };
    let output = run(&["base.onnx", "a.onnx_adapter", "--json"]);
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
    for key in
        ["format", "files", "sites", "classes", "max_probability_difference", "photos", "seconds", "peak_rss_bytes"]
    {
        assert!(answer.get(key).is_some_and(|value| !value.is_null()), "{key} in {answer}");
    }
    assert_eq!((&answer["format"], &answer["base_kept"]), (&Value::from("ort-adapter"), &Value::from(false)));
    assert_eq!(answer["classes"], Value::from(&CLASSES[..]));
    for (at, name) in ["base.onnx", "a.onnx_adapter"].into_iter().enumerate() {
        assert_eq!(answer["files"][at]["bytes"].as_u64().unwrap(), place.bytes(name).len() as u64);
    }
    let text = run(&["base.onnx", "b.onnx_adapter"]).stdout;
    let text = String::from_utf8(text).unwrap();
    assert!(
        text.contains("base.onnx") && text.contains("was there") && text.contains("across, it's along, plain"),
        "{text}"
    );
    for (wrong, code) in [
        (&["base.onnx", "a.onnx_adapter"][..], 1),
        (&["base.onnx"][..], 2),
        (&["c.onnx", "c.onnx"][..], 2),
        (&["c.onnx", "c.onnx_adapter", "--with-preprocessing"][..], 2),
        (&["c.onnx", "c.onnx_adapter", "--torch", "weights.safetensors"][..], 2),
        (&["c.onnx", "c.onnx_adapter", "--precision", "int8"][..], 2),
    ] {
        assert_eq!(run(wrong).status.code(), Some(code), "{wrong:?}");
    }
    assert!(!place.path("c.onnx").exists() && !place.path("c.onnx_adapter").exists());
}
