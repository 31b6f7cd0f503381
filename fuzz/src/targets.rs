//! Each takes any bytes and must neither panic nor take much memory, whatever they are.

use std::cell::RefCell;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use srlora::autodiff::Network;
use srlora::backbone::{Backbone, Precision, encode};
use srlora::bundle::{Bundle, Container, Fit, Kind, PackRequest, Preprocess, Trust, pack};
use srlora::core::Method;
use srlora::export::{OnnxRequest, export_onnx};
use srlora::lab::Device;
use srlora::ort::{OrtRequest, export_ort_adapter};
use srlora::peft::{ImportRequest, Naming, PeftRank, import_peft};
use srlora::session::{Augment, Dataset, Layout, Lesson, Picture, Pixels, Progress, Store, load, train};
use tempfile::TempDir;

/// A small bundle, which the generations of the corpus belong to.
const SMALL_BUNDLE: &[u8] = include_bytes!("../small-bundle");
/// Images of this many pixels or fewer are run.
const RUN_PIXELS: usize = 64 * 64;

thread_local! {
    static PLACE: RefCell<Option<TempDir>> = const { RefCell::new(None) };
}

/// A file of this thread, in memory where the system has such a folder.
fn file(name: &str, bytes: &[u8]) -> PathBuf {
    let folder = PLACE.with(|place| {
        let mut place = place.borrow_mut();
        let make = || TempDir::new_in("/dev/shm").or_else(|_| TempDir::new()).expect("a temporary folder");
        place.get_or_insert_with(make).path().to_path_buf()
    });
    let path = folder.join(name);
    fs::create_dir_all(path.parent().unwrap_or(&folder)).expect("a folder");
    fs::write(&path, bytes).expect("a temporary file");
    path
}

/// A bundle as it is, and with the hashes that its contents have.
pub fn bundle(bytes: &[u8]) {
    let open = |bytes: &[u8]| {
        let Ok(bundle) = Bundle::open(&file("bundle", bytes)) else { return };
        let Ok(backbone) = bundle.backbone() else { return };
        let _ = bundle.sites_in(&backbone).map(|sites| sites.len());
    };
    open(bytes);
    if let Some(bytes) = Container::rehashed(bytes, Kind::Bundle) {
        open(&bytes);
    }
}

/// A generation as it is, and with the hash that its contents have, beside a bundle that it may belong to.
pub fn store(bytes: &[u8]) {
    static BUNDLE: OnceLock<Bundle> = OnceLock::new();
    let bundle = BUNDLE.get_or_init(|| Bundle::open(&file("small", SMALL_BUNDLE)).expect("the small bundle opens"));
    let open = |bytes: &[u8]| {
        let path = file("store/generation-000001.safetensors", bytes);
        let Ok(store) = Store::open(path.parent().unwrap_or(Path::new("."))) else { return };
        let _ = store.record();
        let _ = store.load(bundle).map(|generation| generation.adapter.bytes());
    };
    open(bytes);
    if let Some(bytes) = Container::rehashed(bytes, Kind::Store) {
        open(&bytes);
    }
}

/// A model up to its planned network, and a run of it where its images are small.
pub fn onnx(bytes: &[u8]) {
    let read = |size| Backbone::read(bytes, "model.onnx", None, size);
    let Ok(backbone) = read(None).or_else(|_| read(Some([16, 16]))) else { return };
    for precision in [Precision::Int8, Precision::Fp16] {
        // What is written on the wire is read again.
        let Ok(encoded) = encode(bytes, "model.onnx", precision) else { continue };
        let _ = Backbone::read(encoded, "encoded.onnx", None, Some([16, 16])).map(|backbone| backbone.sites().len());
    }
    let _ = backbone.feature_dim();
    let _ = backbone.select("all", 1);
    let [height, width] = backbone.size();
    let Ok(mut network) = Network::own_classifier(&backbone) else { return };
    if height * width * network.batch() <= RUN_PIXELS {
        let image = vec![0.5; network.batch() * network.image_len()];
        let _ = network.prefix(&image).and_then(|boundary| network.forward(&boundary));
    }
}

/// A model that is packed, imprinted on two pictures, and exported in every way: what is spliced into it is read again. Whether it
/// came to that.
pub fn export(bytes: &[u8]) -> bool {
    let model = file("whole.onnx", bytes);
    let [bundle, store, merged, base, adapter] =
        ["whole.bundle", "whole.store", "merged.onnx", "base.onnx", "file.onnx_adapter"]
            .map(|name| model.with_file_name(name));
    let remove = || {
        [&bundle, &merged, &base, &adapter].iter().for_each(|path| drop(fs::remove_file(path)));
        drop(fs::remove_dir_all(&store));
    };
    remove();
    let preprocess = Preprocess { fit: Fit::Stretch, ..Preprocess::default() };
    let (rank, reserve, sites) = (1, 1, "all".into());
    let request = PackRequest { rank, reserve, sites, preprocess, ..PackRequest::new(&model, &bundle) };
    let written = || -> srlora::Result<()> {
        pack(&request, |_| {})?;
        let bundle = Bundle::open(&bundle)?;
        let mut photos = Dataset::default();
        for (label, level) in [("dark", 40), ("light", 200)] {
            let pixels = [level; 3 * 8 * 8];
            photos.add(label, Picture::pixels(label, Pixels::new(&pixels, Layout::Rgb8, [8, 8], 24)?))?;
        }
        let lesson = Lesson { method: Method::Imprint, ..Lesson::new(photos) };
        train(&bundle, &lesson, &store, &mut |_: Progress| ())?;
        let store = Store::open(&store)?;
        for (precision, with_preprocessing) in [(Precision::Keep, true), (Precision::Fp32, false)] {
            let request = OnnxRequest { output: merged.clone(), precision, with_preprocessing, photos: None };
            let _ = export_onnx(&bundle, &store, &request, &mut |_: Progress| ());
            let _ = fs::remove_file(&merged);
        }
        let rank = PeftRank::Exact;
        let request =
            OrtRequest { base: base.clone(), adapter: adapter.clone(), rank, precision: Precision::Keep, photos: None };
        export_ort_adapter(&bundle, &store, &request, &mut |_: Progress| ()).map(drop)
    };
    let came_through = written().is_ok();
    remove();
    came_through
}

/// A photo, by every way of bringing it to size.
pub fn image(bytes: &[u8]) {
    let path = file("photo", bytes);
    for (fit, augment) in [(Fit::Crop, None), (Fit::Stretch, Some(Augment { seed: 1, epoch: 2, index: 3 }))] {
        let preprocess = Preprocess { height: 16, width: 12, fit, ..Preprocess::default() };
        if let Ok(values) = load(&path.as_path().into(), &preprocess, augment) {
            assert!(values.len() == 3 * 16 * 12 && values.iter().all(|value| value.is_finite()));
        }
    }
}

/// A command line with an argument on each line; the whole text as a device's profile, a key, a pattern of sites and
/// preprocessing.
pub fn specs(bytes: &[u8]) {
    static BACKBONE: OnceLock<Backbone> = OnceLock::new();
    let model = || {
        let bundle = Bundle::open(&file("small", SMALL_BUNDLE)).expect("the small bundle opens");
        bundle.backbone().expect("and its backbone")
    };
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let _ = srlora::cli::parses(text.lines());
    let path = file("spec.toml", bytes);
    let _ = Device::find(&path.to_string_lossy());
    let _ = Trust::read(&path, 1);
    let backbone = BACKBONE.get_or_init(model);
    for line in text.lines().take(4) {
        let _ = backbone.select(line, 2);
    }
}

/// A PEFT folder for the small bundle: a line of configuration, and the tensors behind it.
pub fn peft(bytes: &[u8]) {
    static BUNDLE: OnceLock<Bundle> = OnceLock::new();
    let bundle = BUNDLE.get_or_init(|| Bundle::open(&file("small", SMALL_BUNDLE)).expect("the small bundle opens"));
    let end = bytes.iter().position(|byte| *byte == b'\n').unwrap_or(bytes.len());
    let config = file("peft/adapter_config.json", &bytes[..end]);
    file("peft/adapter_model.safetensors", bytes.get(end + 1..).unwrap_or_default());
    let map = file("map.toml", b"conv1 = \"a\"\nconv2 = \"b\"\nhead = \"top\"\n");
    let folder = config.parent().unwrap_or(Path::new("."));
    let output = folder.with_file_name("imported");
    let naming = Naming { map: Some(map), torch: None };
    let request = ImportRequest { peft: folder.to_path_buf(), output: output.clone(), labels: None, naming };
    if import_peft(bundle, &request).is_ok() {
        let store = Store::open(&output).expect("what was imported opens");
        assert!(store.load(bundle).is_ok());
        fs::remove_dir_all(&output).expect("the store is removed");
    }
    assert!(!output.exists(), "what was refused has left something");
}

/// A sequence of changes of a store, with power cuts, against a model of it.
pub fn operations(bytes: &[u8]) {
    srlora::session::store::operations(bytes);
}

/// A request to `serve`, and a camera's stream.
pub fn requests(bytes: &[u8]) {
    srlora::serve::reads(bytes);
}
