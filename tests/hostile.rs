//! Files that try to hurt, each given to the program itself: it must refuse with a sentence about the file, without a panic
//! and within 64 MiB over what it takes anyway. `hostile/README.md` says what each tries and which rule stops it; the files
//! are made here, as most are large and all are easily described.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use half::f16;
use srlora::bundle::{Bundle, Container, Kind};
use srlora::limits::{MOST_CLASSES, MOST_FEATURES};
use srlora::session::Store;
use tempfile::TempDir;

#[path = "hostile/onnx.rs"]
mod onnx;
#[path = "hostile/photos.rs"]
mod photos;

/// What a file of 1 MiB may make a command take over the program itself, in KiB.
const MOST_OVER_IDLE: u64 = 64 << 10;

/// A folder with a small bundle, a store of it, and photos.
struct Place(TempDir);

impl Place {
    fn new() -> Place {
        let place = Place(TempDir::new_in("/dev/shm").or_else(|_| TempDir::new()).unwrap());
        for (class, base) in [("bright", 180u8), ("dark", 20)] {
            fs::create_dir_all(place.at("photos").join(class)).unwrap();
            for nth in 0..3u32 {
                let noise = |x: u32, y: u32| image::Rgb([base + ((x * 7 + y * 13 + nth * 31) % 50) as u8; 3]);
                image::RgbImage::from_fn(20, 20, noise).save(place.at(&format!("photos/{class}/{nth}.png"))).unwrap();
            }
        }
        let labels = place.file("labels.txt", b"a\nb\nc\nd\ne\n");
        let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/models/good.onnx");
        let pack =
            ["pack", text(&model), "-o", &place.name("bundle"), "--sites", "all", "--rank", "2", "--reserve", "4"];
        place.done(&[&pack[..], &["--fit", "stretch", "--labels", text(&labels)]].concat());
        let train = ["train", &place.name("bundle"), "--data", &place.name("photos"), "-o", &place.name("store")];
        place.done(&[&train[..], &["--steps", "4", "--interval", "2"]].concat());
        place
    }

    fn at(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn name(&self, name: &str) -> String {
        text(&self.at(name)).to_owned()
    }

    fn file(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.at(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, bytes).unwrap();
        path
    }

    fn done(&self, args: &[&str]) {
        let output = srlora(args);
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// A copy of the bundle that `edit` has changed, with the hash that it then has.
    fn edited(&self, name: &str, edit: impl Fn(&mut Container)) -> PathBuf {
        self.rewritten(&self.at("bundle"), Kind::Bundle, name, edit)
    }

    /// A store of one generation that `edit` has changed.
    fn generation(&self, name: &str, edit: impl Fn(&mut Container)) -> PathBuf {
        let newest = self.at("store/generation-000002.safetensors");
        self.rewritten(&newest, Kind::Store, &format!("{name}/generation-000001.safetensors"), edit);
        self.at(name)
    }

    fn rewritten(&self, from: &Path, kind: Kind, name: &str, edit: impl Fn(&mut Container)) -> PathBuf {
        let mut container = Container::open(from, kind).unwrap();
        edit(&mut container);
        let path = self.at(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        container.write_new(&path).unwrap();
        path
    }
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn srlora(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_srlora")).args(args).output().unwrap()
}

/// The program with at most `kib` of address space, of which memory is a part.
#[cfg(target_os = "linux")]
fn within(kib: u64, args: &[&str]) -> Output {
    let script = format!("ulimit -v {kib}; exec \"$0\" \"$@\"");
    Command::new("sh").args(["-c", &script, env!("CARGO_BIN_EXE_srlora")]).args(args).output().unwrap()
}

#[cfg(not(target_os = "linux"))]
fn within(_: u64, args: &[&str]) -> Output {
    srlora(args)
}

/// The least address space that the program starts in, in KiB.
fn idle() -> u64 {
    let (mut too_little, mut enough) = (0u64, 1 << 20);
    while enough - too_little > 64 {
        let middle = (too_little + enough) / 2;
        *if within(middle, &["--version"]).status.success() { &mut enough } else { &mut too_little } = middle;
    }
    enough
}

/// Collects what has been tried.
struct Trials {
    idle: u64,
    commands: BTreeMap<&'static str, usize>,
    faults: Vec<String>,
}

impl Trials {
    fn new() -> Trials {
        Trials { idle: idle(), commands: BTreeMap::new(), faults: Vec::new() }
    }

    /// The command must refuse the file, and say so with `words`.
    fn refused(&mut self, kind: &'static str, file: &Path, args: &[&str], words: &[&str]) {
        let output = self.run(kind, args);
        let said = String::from_utf8_lossy(&output.stderr);
        let shown: String = said.chars().take(600).collect();
        let sentence = said.lines().rfind(|line| line.starts_with("error: ")).unwrap_or_default();
        let name = file.file_name().unwrap().to_str().unwrap();
        let is_named = sentence.contains(name) || (kind == "photo" && said.contains(name));
        let checks = [
            (matches!(output.status.code(), Some(1 | 2)), "does not end with 1 or 2"),
            (!said.contains("panicked") && !said.contains("attempt to"), "panicked"),
            (is_named, "does not name the file"),
            (words.iter().all(|word| said.contains(word)), "does not say why"),
        ];
        for (_, what) in checks.iter().filter(|(holds, _)| !holds) {
            self.faults.push(format!("{args:?} {what} {words:?} ({:?}): {shown}", output.status));
        }
    }

    /// Runs a command within what it may take: it aborts where it asks for more.
    fn run(&mut self, kind: &'static str, args: &[&str]) -> Output {
        *self.commands.entry(kind).or_default() += 1;
        within(self.idle + MOST_OVER_IDLE, args)
    }
}

impl Drop for Trials {
    fn drop(&mut self) {
        println!(
            "{} KiB of address space to start in, 64 MiB more allowed; commands run: {:?}",
            self.idle, self.commands
        );
        if !std::thread::panicking() {
            assert!(self.faults.is_empty(), "{}", self.faults.join("\n"));
        }
    }
}

#[test]
fn models_that_try_to_hurt_are_refused() {
    let (place, mut trials) = (Place::new(), Trials::new());
    for (name, bytes, words) in onnx::all() {
        let file = place.file(&format!("{name}.onnx"), &bytes);
        let out = place.name("x.bundle");
        let args = ["pack", text(&file), "-o", &out, "--sites", "all", "--rank", "1"];
        trials.refused("model", &file, &args, words);
        if fs::remove_file(&out).is_ok() {
            trials.faults.push(format!("{name} was packed"));
            continue;
        }
        // The same in a bundle whose hashes are right: who can write a bundle can do so.
        let in_bundle = place.edited(&format!("{name}.bundle"), |container| {
            container.remove("backbone.onnx").unwrap();
            container.insert_u8("backbone.onnx", &[bytes.len()], bytes.clone()).unwrap();
            container.metadata.insert("backbone_sha256".into(), srlora::bundle::sha256(&bytes));
        });
        let photo = place.name("photos/dark/0.png");
        trials.refused("model in a bundle", &in_bundle, &["predict", text(&in_bundle), &photo], &[]);
    }
}

#[test]
fn headers_that_lie_are_refused() {
    let (place, mut trials) = (Place::new(), Trials::new());
    let metadata = r#""__metadata__":{"format":"srlora-bundle","version":"1"}"#;
    let tensor = |shape: &str, offsets: &str| {
        format!(r#"{{{metadata},"x":{{"dtype":"F32","shape":{shape},"data_offsets":{offsets}}}}}"#)
    };
    let each = |count: usize, part: &dyn Fn(usize) -> String| (0..count).map(part).collect::<Vec<_>>().join(",");
    let empty = |n: usize| format!(r#""{n}":{{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}"#);
    let cases = [
        ("tensors", format!("{{{metadata},{}}}", each(18_000, &empty))),
        ("entries", format!(r#"{{"__metadata__":{{{}}}}}"#, each(80_000, &|n| format!(r#""{n}":"""#)))),
        ("axes", tensor(&format!("[{}]", each(400_000, &|_| "1".into())), "[0,4]")),
        (
            "name",
            format!(r#"{{{metadata},"{}":{{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}}}"#, "n".repeat(900_000)),
        ),
        ("nested", "[".repeat(1 << 20)),
        ("lists", format!(r#"{{"a":[{}[]]}}"#, "[],".repeat(340_000))),
        ("lists-deep", format!(r#"{{"a":[{}[]]}}"#, format!("{}{},", "[".repeat(110), "]".repeat(110)).repeat(4_700))),
        ("nested-object", r#"{"a":"#.repeat(200_000)),
        ("product", tensor("[4294967296,4294967296,4294967296]", "[0,4]")),
        ("offsets", tensor("[1]", "[18446744073709551612,0]")),
        ("far", tensor("[1099511627776]", "[0,4398046511104]")),
        ("escapes", format!("{{\"{}\":1}}", "\\u0000".repeat(150_000))),
        ("nothing", String::new()),
        ("null", "null".into()),
    ];
    for (name, header) in cases {
        let bytes = [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &[0; 4]].concat();
        let file = place.file(&format!("header-{name}"), &bytes);
        trials.refused("header", &file, &["inspect", text(&file)], &[]);
        place.file(&format!("{name}-store/generation-000001.safetensors"), &bytes);
        let store = place.name(&format!("{name}-store"));
        let generation = place.at(&format!("{name}-store/generation-000001.safetensors"));
        trials.refused("header", &generation, &["inspect", &store], &[]);
    }
    for len in [9u64, 1 << 20, 99_999_999, u64::MAX - 8, u64::MAX] {
        let file = place.file("length", &[&len.to_le_bytes()[..], b"{}"].concat());
        trials.refused("header", &file, &["inspect", text(&file)], &[]);
    }
}

#[test]
fn bundles_that_cannot_be_meant_are_refused() {
    let (place, mut trials) = (Place::new(), Trials::new());
    let set = |key: &'static str, value: String| {
        move |container: &mut Container| drop(container.metadata.insert(key.into(), value.clone()))
    };
    let site = |out: u64, input: u64| format!(r#"[{{"name":"conv1","out_dim":{out},"in_dim":{input},"reserve":4}}]"#);
    let listed = format!("[{}]", vec![r#"{"name":"n","out_dim":1,"in_dim":1,"reserve":1}"#; 18_000].join(","));
    let labels = format!("[{}]", (0..90_000).map(|n| format!("\"{n}\"")).collect::<Vec<_>>().join(","));
    let cases = [
        ("features", set("feature_dim", "1048577".into())),
        ("features-minus", set("feature_dim", "-1".into())),
        ("rank-0", set("rank", "0".into())),
        ("rank-257", set("rank", "257".into())),
        ("site-wide", set("sites", site(1 << 40, 1 << 40))),
        ("site-overflow", set("sites", site(u64::MAX, u64::MAX))),
        ("site-large", set("sites", site(200_000, 200_000))),
        ("sites-none", set("sites", "[]".into())),
        ("sites-many", set("sites", listed)),
        ("sites-nested", set("sites", "[".repeat(500_000))),
        ("labels-many", set("labels", labels)),
        ("label-long", set("labels", format!("[\"{}\"]", "l".repeat(900_000)))),
        ("features-long", set("features", "f".repeat(900_000))),
        ("precision", set("precision", "int4".into())),
        ("release", set("release", "18446744073709551616".into())),
        (
            "input-large",
            set(
                "preprocess",
                r#"{"height":4096,"width":4096,"fit":"crop","range":1.0,"mean":[0.0,0.0,0.0],"std":[1.0,1.0,1.0]}"#
                    .into(),
            ),
        ),
        (
            "std-0",
            set(
                "preprocess",
                r#"{"height":8,"width":8,"fit":"crop","range":1.0,"mean":[0.0,0.0,0.0],"std":[0.0,1.0,1.0]}"#.into(),
            ),
        ),
    ];
    let (photo, data) = (place.name("photos/dark/0.png"), place.name("photos"));
    for (name, edit) in cases {
        let file = place.edited(name, edit);
        for (nth, args) in
            [&["predict", text(&file), &photo][..], &["eval", text(&file), "--data", &data]].iter().enumerate()
        {
            trials.refused("bundle", &file, args, &[]);
            let out = place.name(&format!("{name}-store-{nth}"));
            trials.refused("bundle", &file, &["train", text(&file), "--data", &data, "-o", &out], &[]);
        }
    }
    let infinite = place.edited("infinite", |container| {
        let shape: [usize; 1] = container.dims("directions/conv1/sigma").unwrap();
        let mut sigma = container.f32("directions/conv1/sigma", &shape).unwrap();
        sigma[0] = f32::INFINITY;
        let mut other = Container::new(Kind::Bundle);
        other.metadata = container.metadata.clone();
        other.insert_f32("directions/conv1/sigma", &shape, sigma).unwrap();
        for site in ["conv1", "conv2"] {
            for part in ["u", "v"] {
                let key = format!("directions/{site}/{part}");
                let shape: [usize; 2] = container.dims(&key).unwrap();
                other.insert_f16(&key, &shape, container.f16(&key, &shape).unwrap()).unwrap();
            }
        }
        let sigma = container.f32("directions/conv2/sigma", &shape).unwrap();
        other.insert_f32("directions/conv2/sigma", &shape, sigma).unwrap();
        let backbone = container.bytes("backbone.onnx").unwrap().to_vec();
        other.insert_u8("backbone.onnx", &[backbone.len()], backbone).unwrap();
        *container = other;
    });
    trials.refused(
        "bundle",
        &infinite,
        &["predict", text(&infinite), &photo],
        &["directions/conv1/sigma", "not finite"],
    );
}

#[test]
fn as_many_classes_as_a_small_bundle_can_have_are_evaluated() {
    const GUESS: usize = 20_000;
    let (place, mut trials) = (Place::new(), Trials::new());
    for (from, to) in [("bright", "0"), ("dark", "1")] {
        fs::rename(place.at(&format!("photos/{from}")), place.at(&format!("photos/{to}"))).unwrap();
    }
    let (data, photo) = (place.name("photos"), place.name("photos/0/0.png"));
    for classes in [21_841, MOST_CLASSES] {
        let names: Vec<String> = (0..classes).map(|class| format!("{class:x}")).collect();
        let labels = place.file("labels.txt", names.join("\n").as_bytes());
        let model = place.file("classes.onnx", &onnx::classes(classes, GUESS));
        let bundle = place.name(&format!("{classes}.bundle"));
        place.done(&["pack", text(&model), "-o", &bundle, "--sites", "all", "--rank", "1", "--labels", text(&labels)]);
        assert!(fs::metadata(&bundle).unwrap().len() <= 1 << 20);

        let answer = |output: Output| -> serde_json::Value {
            assert!(output.status.success(), "{classes} classes: {}", String::from_utf8_lossy(&output.stderr));
            serde_json::from_slice(&output.stdout).unwrap()
        };
        let told = answer(trials.run("eval", &["eval", &bundle, "--data", &data, "--mistakes", "1000", "--json"]));
        let guess = &names[GUESS];
        assert_eq!((&told["n"], &told["accuracy"], &told["confusion"]), (&6.into(), &0.0.into(), &().into()));
        assert_eq!(told["classes"], serde_json::json!(names));
        let wrong = |class: &str| serde_json::json!({ "class": class, "guess": guess, "count": 3 });
        assert_eq!(told["confused"], serde_json::json!([wrong("0"), wrong("1")]));
        assert_eq!(told["per_class"].as_array().unwrap().len(), classes);
        assert_eq!(told["mistakes"].as_array().unwrap().len(), 6);
        assert!(trials.run("eval", &["eval", &bundle, "--data", &data]).status.success());
        let told = answer(trials.run("predict", &["predict", &bundle, &photo, "--json"]));
        assert_eq!(&told["top"][0]["label"], guess);
    }
}

#[test]
fn as_many_features_as_a_small_bundle_can_have_are_trained_on() {
    let (place, mut trials) = (Place::new(), Trials::new());
    let (model, bundle) = (place.file("features.onnx", &onnx::features(MOST_FEATURES, 256)), place.name("x.bundle"));
    place.done(&["pack", text(&model), "-o", &bundle, "--sites", "all", "--rank", "1", "--features", "y"]);
    let (data, store) = (place.name("photos"), place.name("features.store"));
    for more in [&["train", "-o", &store, "--steps", "2"][..], &["eval", "--store", &store]] {
        let output = trials.run("features", &[more, &["--data", &data, &bundle]].concat());
        assert!(output.status.success(), "{more:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

#[test]
fn no_byte_of_a_backbone_is_parsed_before_its_hash_holds() {
    let (place, mut trials) = (Place::new(), Trials::new());
    // A backbone that the parser refuses by name, in a bundle whose hash is another's: the hash is what is told.
    let (_, bomb, words) = onnx::all().into_iter().find(|case| case.0 == "unknown-operator").unwrap();
    let file = place.edited("unhashed", |container| {
        container.remove("backbone.onnx").unwrap();
        container.insert_u8("backbone.onnx", &[bomb.len()], bomb.clone()).unwrap();
    });
    let args = ["predict", text(&file), &place.name("photos/dark/0.png")];
    trials.refused("bundle", &file, &args, &["is not the one that its hash names"]);
    assert!(words.iter().any(|word| !String::from_utf8_lossy(&srlora(&args).stderr).contains(word)));
}

#[test]
fn generations_that_cannot_be_meant_are_refused() {
    let (place, mut trials) = (Place::new(), Trials::new());
    let record = |edit: &dyn Fn(&mut serde_json::Value)| {
        let container = Container::open(&place.at("store/generation-000002.safetensors"), Kind::Store).unwrap();
        let mut record: serde_json::Value = serde_json::from_str(container.text("record").unwrap()).unwrap();
        edit(&mut record);
        record.to_string()
    };
    let set = |value: String| {
        move |container: &mut Container| drop(container.metadata.insert("record".into(), value.clone()))
    };
    let classes: Vec<String> = (0..90_000).map(|n| n.to_string()).collect();
    let texts = [
        ("classes", record(&|record| record["classes"] = classes.clone().into())),
        ("start", record(&|record| record["start"] = "elsewhere".into())),
        ("other-bundle", record(&|record| record["bundle_sha256"] = "0".repeat(64).into())),
        ("no-steps", record(&|record| record["steps"] = (-1).into())),
        ("nested", "[".repeat(900_000)),
        (
            "lists",
            record(&|record| {
                let chain = (0..100).fold(serde_json::json!([]), |inner, _| serde_json::json!([inner]));
                record["unknown"] = vec![chain; 4_400].into();
            }),
        ),
        ("empty", String::new()),
    ];
    let (bundle, photo) = (place.name("bundle"), place.name("photos/dark/0.png"));
    let mut tried: Vec<PathBuf> = texts.into_iter().map(|(name, text)| place.generation(name, set(text))).collect();
    let shape = |shape: [u64; 2]| {
        move |container: &mut Container| {
            let mut other = Container::new(Kind::Store);
            other.metadata = container.metadata.clone();
            other.insert_u64("head/shape", &[2], shape.to_vec()).unwrap();
            *container = other;
        }
    };
    tried.push(place.generation("head", shape([u64::MAX, u64::MAX])));
    tried.push(place.generation("head-0", shape([0, 0])));
    tried.push(place.generation("head-wide", shape([2, 1 << 50])));
    tried.push(place.generation("bare", |container| {
        let metadata = container.metadata.clone();
        *container = Container::new(Kind::Store);
        container.metadata = metadata;
    }));
    tried.push(place.generation("not-a-number", |container| {
        container.insert_f16("more", &[1], vec![f16::NAN]).unwrap();
    }));
    for store in tried {
        let args = ["predict", &bundle, "--store", text(&store), &photo];
        let generation =
            if store.ends_with("other-bundle") { store.clone() } else { store.join("generation-000001.safetensors") };
        trials.refused("store", &generation, &args, &[]);
    }
    fs::create_dir_all(place.at("odd/generation-99999999999999999999.safetensors")).unwrap();
    trials.refused("store", &place.at("odd"), &["inspect", &place.name("odd")], &["holds no generation"]);
}

#[test]
fn photos_and_labels_that_try_to_hurt_are_refused() {
    let (place, mut trials) = (Place::new(), Trials::new());
    let (bundle, store) = (place.name("bundle"), place.name("store"));
    let wide = ("jpeg-cmyk-wide", include_bytes!("../fuzz/corpus/image/jpeg-cmyk-wide").to_vec());
    for (name, bytes) in photos::all().into_iter().chain([wide]) {
        let file = place.file(name, &bytes);
        trials.refused("photo", &file, &["predict", &bundle, "--store", &store, text(&file)], &[]);
        // In a lesson it is set aside.
        let data = format!("data-{name}");
        for class in ["bright", "dark"] {
            for nth in 0..2 {
                let photo = fs::read(place.at(&format!("photos/{class}/{nth}.png"))).unwrap();
                place.file(&format!("{data}/{class}/{nth}.png"), &photo);
            }
        }
        place.file(&format!("{data}/dark/{name}"), &bytes);
        let args = [
            "train",
            &bundle,
            "--data",
            &place.name(&data),
            "-o",
            &place.name(&format!("{name}.store")),
            "--steps",
            "2",
        ];
        let output = trials.run("photo", &args);
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
    let lines: String = (0..70_000).map(|n| format!("{n}\n")).collect();
    let labels: [(&str, Vec<u8>); 4] = [
        ("many.txt", lines.into_bytes()),
        ("long.txt", vec![b'l'; 1 << 20]),
        ("bytes.txt", vec![0xff; 1 << 20]),
        ("lines.txt", vec![b'\n'; 1 << 20]),
    ];
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/models/good.onnx");
    for (name, bytes) in labels {
        let file = place.file(name, &bytes);
        let args = ["pack", text(&model), "-o", &place.name("x.bundle"), "--labels", text(&file)];
        trials.refused("labels", &file, &args, &[]);
    }
}

/// Opens the file with every byte flipped in three ways, and cut short before every byte: each must be refused. Within the tensors only
/// the hash can notice, so there it must be the hash that does.
fn each_damage(what: &str, bytes: &[u8], open: impl Fn(&[u8]) -> Result<(), srlora::Error>) {
    let tensors = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let (mut by_hash, mut otherwise) = (0, 0);
    let mut refused = |damaged: &[u8], how: &str, at: usize| {
        let Err(error) = open(damaged) else { panic!("{what}, byte {at} {how}: taken") };
        let error = error.to_string();
        let found_by_hash = error.contains("content_sha256");
        assert!(found_by_hash || at < tensors || how == "cut", "{what}, byte {at} {how}: {error}");
        *if found_by_hash { &mut by_hash } else { &mut otherwise } += 1;
    };
    for at in 0..bytes.len() {
        // The lowest bit, the highest, and the whole byte.
        for flip in [1u8, 128, 255] {
            let mut damaged = bytes.to_vec();
            damaged[at] ^= flip;
            refused(&damaged, "flipped", at);
        }
        refused(&bytes[..at], "cut", at);
    }
    println!("{what}: {by_hash} refused by the hash, {otherwise} before");
    assert!(by_hash >= 3 * (bytes.len() - tensors) && tensors < bytes.len());
}

#[test]
fn every_flip_and_every_truncation_of_a_bundle_and_of_a_generation_is_refused() {
    let place = Place::new();
    let path = place.at("damaged");
    each_damage("bundle", &fs::read(place.at("bundle")).unwrap(), |bytes| {
        fs::write(&path, bytes).unwrap();
        Bundle::open(&path).map(drop)
    });
    let path = place.file("one/generation-000001.safetensors", b"");
    each_damage("generation", &fs::read(place.at("store/generation-000002.safetensors")).unwrap(), |bytes| {
        fs::write(&path, bytes).unwrap();
        Store::open(&place.at("one")).map(drop)
    });
}
