//! Which photos there are, and how they are split.

use std::ffi::OsStr;
use std::{fs, println};

use tempfile::TempDir;

use super::*;
use crate::error::{ErrorKind, Result};

/// A folder with empty files of these names.
fn folder(files: &[&str]) -> TempDir {
    let root = TempDir::new().unwrap();
    for file in files {
        let path = root.path().join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "").unwrap();
    }
    root
}

fn path(photo: &Photo) -> &std::path::Path {
    photo.picture.path().unwrap()
}

fn names(dataset: &Dataset) -> Vec<(&str, usize)> {
    dataset.photos.iter().map(|s| (path(s).file_name().unwrap().to_str().unwrap(), s.class)).collect()
}

fn refusal<T>(result: Result<T>) -> (ErrorKind, String) {
    let error = result.err().expect("this must be refused");
    println!("{error}");
    (error.kind(), error.to_string())
}

#[test]
fn classes_and_photos_come_in_byte_order_and_everything_else_is_ignored() {
    let root = folder(&[
        "b/2.jpg",
        "b/10.JPG",
        "b/A.Png",
        "b/notes.txt",
        "b/.hidden.jpg",
        "b/4.jpg/inside.jpg",
        "B/x.jpeg",
        "a/ä.png",
        ".git/config.png",
        "stray.jpg",
    ]);
    let dataset = Dataset::open(root.path()).unwrap();
    assert_eq!(dataset.classes, ["B", "a", "b"]);
    assert_eq!(names(&dataset), [("x.jpeg", 0), ("ä.png", 1), ("10.JPG", 2), ("2.jpg", 2), ("A.Png", 2)]);
}

#[test]
fn images_of_other_formats_are_counted_and_named_and_other_files_are_not() {
    let root = folder(&[
        "a/1.jpg",
        "a/2.HEIC",
        "a/3.heic",
        "a/x.txt",
        "a/.4.heic",
        "a/.DS_Store",
        "a/5.webp/6.webp",
        "b/0.heif",
        "b/1.dng",
        "b/1.png",
        "b/2.NEF",
        "b/2.xml",
        "b/3.gif",
        "b/clip.mov",
        "stray.heic",
    ]);
    let dataset = Dataset::open(root.path()).unwrap();
    assert_eq!(names(&dataset), [("1.jpg", 0), ("1.png", 1)]);
    let at = |name: &str| root.path().join(name).display().to_string();
    let found: Vec<_> = dataset.ignored.iter().map(|i| (i.format, i.count, i.first.clone())).collect();
    let expected =
        [("HEIC", 3, at("a/2.HEIC")), ("GIF", 1, at("b/3.gif")), ("DNG", 1, at("b/1.dng")), ("raw", 1, at("b/2.NEF"))];
    assert_eq!(found, expected);
    let sentences = [
        format!(
            "3 HEIC photos are not read (the first is {}): convert them to JPEG, or set the phone to 'Most compatible'",
            at("a/2.HEIC")
        ),
        format!("1 GIF photo is not read ({}): convert it to JPEG", at("b/3.gif")),
    ];
    assert_eq!([0, 1].map(|i| dataset.ignored[i].to_string()), sentences);
    let json = serde_json::to_value(&dataset.ignored[1]).unwrap();
    assert_eq!(json, serde_json::json!({"format": "GIF", "count": 1, "first": at("b/3.gif")}));
}

#[test]
fn a_split_counts_what_is_ignored_once() {
    let root = folder(&["a/1.jpg", "a/2.jpg", "a/3.heic", "b/1.jpg", "b/2.jpg"]);
    let dataset = Dataset::open(root.path()).unwrap();
    let (train, validation) = dataset.split(0.5, 0).unwrap();
    assert_eq!((&train.ignored, &validation.ignored[..]), (&dataset.ignored, &[][..]));
    assert_eq!(ignored(&train, Some(&validation)), dataset.ignored);
    assert_eq!(train.relabelled(&dataset.classes).unwrap().ignored, dataset.ignored);
}

#[test]
fn a_folder_that_cannot_be_used_is_refused_with_what_to_do() {
    let root = folder(&["file.jpg", "flat/1.jpg", "gap/a/1.jpg", "gap/b/notes.txt", "phone/a/1.jpg", "phone/b/1.heic"]);
    let cases = [
        ("nowhere", "nowhere: no such folder"),
        ("file.jpg", "is a file"),
        ("flat", "has no class folders"),
        ("gap", "gap/b: this class has no .jpg, .jpeg or .png file; add some, or remove the folder"),
        ("phone", "phone/b: this class has no .jpg, .jpeg or .png file; 1 HEIC photo is not read"),
    ];
    for (name, words) in cases {
        let (kind, text) = refusal(Dataset::open(&root.path().join(name)));
        assert_eq!(kind, ErrorKind::Data);
        assert!(text.contains(words), "{text}");
    }
}

#[test]
fn one_class_can_be_listed_but_not_trained() {
    let root = folder(&["only/1.jpg"]);
    let dataset = Dataset::open(root.path()).unwrap();
    let (kind, text) = refusal(dataset.require_trainable());
    assert!(kind == ErrorKind::Data && text.contains("only one class, only"), "{text}");
    Dataset::open(folder(&["a/1.jpg", "b/1.jpg"]).path()).unwrap().require_trainable().unwrap();
}

#[cfg(unix)]
#[test]
fn links_are_followed_and_names_outside_utf8_refused() {
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::symlink;

    let root = folder(&["a/1.jpg", "b/1.jpg"]);
    symlink(root.path().join("a/1.jpg"), root.path().join("b/2.jpg")).unwrap();
    symlink(root.path().join("a"), root.path().join("c")).unwrap();
    let dataset = Dataset::open(root.path()).unwrap();
    assert_eq!(names(&dataset), [("1.jpg", 0), ("1.jpg", 1), ("2.jpg", 1), ("1.jpg", 2)]);

    fs::write(root.path().join("a").join(OsStr::from_bytes(b"\xff.jpg")), "").unwrap();
    let (kind, text) = refusal(Dataset::open(root.path()));
    assert!(kind == ErrorKind::Data && text.contains("not UTF-8"), "{text}");
}

#[test]
fn a_split_gives_every_class_its_share_and_every_photo_one_side() {
    let files: Vec<String> =
        (0..10).map(|i| format!("a/{i}.jpg")).chain((0..3).map(|i| format!("b/{i}.jpg"))).collect();
    let root = folder(&files.iter().map(String::as_str).collect::<Vec<_>>());
    let dataset = Dataset::open(root.path()).unwrap();
    let (train, validation) = dataset.split(0.2, 1).unwrap();
    let count = |d: &Dataset, class| d.photos.iter().filter(|s| s.class == class).count();
    assert_eq!([count(&train, 0), count(&validation, 0), count(&train, 1), count(&validation, 1)], [8, 2, 2, 1]);
    let mut union: Vec<_> = train.photos.iter().chain(&validation.photos).cloned().collect();
    union.sort_by(|a, b| path(a).cmp(path(b)));
    assert_eq!(union, dataset.photos);
    assert_eq!(dataset.split(0.2, 1).unwrap(), (train, validation.clone()));
    assert!((2..9).any(|seed| dataset.split(0.2, seed).unwrap().1 != validation), "the seed must matter");
    let (train, validation) = dataset.split(0.99, 1).unwrap();
    assert_eq!([count(&train, 0), count(&validation, 0), count(&train, 1), count(&validation, 1)], [1, 9, 1, 2]);
}

#[test]
fn a_class_keeps_its_split_when_another_class_is_added() {
    let small = folder(&["m/1.jpg", "m/2.jpg", "m/3.jpg", "m/4.jpg"]);
    let large = folder(&["a/1.jpg", "a/2.jpg", "m/1.jpg", "m/2.jpg", "m/3.jpg", "m/4.jpg"]);
    let held_out = |root: &TempDir| {
        let validation = Dataset::open(root.path()).unwrap().split(0.5, 3).unwrap().1;
        let of_m = validation.photos.iter().filter(|s| path(s).parent().unwrap().ends_with("m"));
        of_m.map(|s| path(s).file_name().unwrap().to_os_string()).collect::<Vec<_>>()
    };
    assert_eq!(held_out(&small), held_out(&large));
}

#[test]
fn a_split_that_cannot_be_is_refused() {
    let root = folder(&["a/1.jpg", "a/2.jpg", "b/1.jpg"]);
    let dataset = Dataset::open(root.path()).unwrap();
    let (kind, text) = refusal(dataset.split(0.5, 0));
    assert!(kind == ErrorKind::Data && text.contains("single photo") && text.contains("/b: "), "{text}");
    for fraction in [0.0, 1.0, -1.0, f64::NAN] {
        assert_eq!(refusal(dataset.split(fraction, 0)).0, ErrorKind::Usage);
    }
}

#[test]
fn a_class_of_one_photo_can_stay_on_the_first_side() {
    let root = folder(&["a/1.jpg", "a/2.jpg", "b/1.jpg"]);
    let (first, second) = Dataset::open(root.path()).unwrap().divided(0.5, 0);
    assert_eq!((first.photos.len(), second.photos.len()), (2, 1));
    assert_eq!((first.single(), second.photos[0].class), (vec![0, 1], 0));
}

#[test]
fn an_epoch_visits_every_sample_once_in_an_order_that_never_changes() {
    let mut sorted = order(7, 3, 100);
    sorted.sort_unstable();
    assert_eq!(sorted, (0..100).collect::<Vec<_>>());
    assert_ne!(order(7, 3, 100), order(7, 4, 100));
    assert_ne!(order(7, 3, 100), order(8, 3, 100));
    // Frozen: another order would make a run that is taken up again differ from one that was not interrupted.
    assert_eq!(order(0, 0, 10), [6, 3, 2, 0, 9, 1, 5, 4, 8, 7]);
    assert!(order(0, 0, 0).is_empty());
}

#[test]
fn folders_are_matched_to_the_names_of_a_classifier() {
    let root = folder(&["cat/1.jpg", "dog/1.jpg"]);
    let known = ["dog", "emu", "cat"].map(String::from);
    let dataset = Dataset::open(root.path()).unwrap().relabelled(&known).unwrap();
    assert_eq!(dataset.classes, known);
    assert_eq!(names(&dataset), [("1.jpg", 2), ("1.jpg", 0)]);
    assert!(path(&dataset.photos[0]).ends_with("cat/1.jpg"));
}

#[test]
fn folders_that_a_classifier_does_not_know_are_named_beside_what_it_knows() {
    let root = folder(&["cat/1.jpg", "unicorn/1.jpg", "yeti/1.jpg"]);
    let known: Vec<String> = core::iter::once("cat".into()).chain((0..30).map(|i| format!("c{i}"))).collect();
    let (kind, text) = refusal(Dataset::open(root.path()).unwrap().relabelled(&known));
    assert_eq!(kind, ErrorKind::Mismatch);
    assert!(text.contains("classifier: unicorn, yeti; it knows: cat, c0,"), "{text}");
    assert!(text.ends_with("c18 and 11 more"), "{text}");
}

#[test]
fn a_photo_is_set_aside_once() {
    let mut quarantine = Quarantine::default();
    assert!(quarantine.add("a/1.jpg", "is empty"));
    assert!(!quarantine.add("a/1.jpg", "is empty"));
    assert!(quarantine.add("a/2.jpg", "is truncated"));
    let json = serde_json::to_string(&quarantine).unwrap();
    let expected = r#"[{"path":"a/1.jpg","reason":"is empty"},{"path":"a/2.jpg","reason":"is truncated"}]"#;
    assert_eq!(json, expected);
    assert_eq!(quarantine.list().len(), 2);
}

#[test]
fn photos_in_memory_are_ordered_as_those_of_a_folder_and_only_names_that_folders_can_have_are_taken() {
    let mut photos = Dataset::default();
    let picture = |name: &str| Picture::encoded(name, &b"nothing"[..]);
    for (class, name) in [("b", "1"), ("a", "1"), ("c", "1"), ("a", "2"), ("b", "2")] {
        photos.add(class, picture(name)).unwrap();
    }
    let listed: Vec<_> = photos.photos.iter().map(|photo| (photo.class, photo.picture.name().into_owned())).collect();
    let expected = [(0, "1"), (0, "2"), (1, "1"), (1, "2"), (2, "1")];
    assert_eq!(listed, expected.map(|(class, name)| (class, name.to_owned())));
    assert_eq!(photos.classes, ["a", "b", "c"]);
    let before = photos.clone();
    for (class, words) in [
        ("", "has no name"),
        (&*"x".repeat(256), "more than 255 bytes"),
        (".hidden", "begins with a dot"),
        ("..", "begins with a dot"),
        ("a/b", "no folder can have"),
        ("a\\b", "no folder can have"),
        ("a\0b", "no folder can have"),
        ("line\nbreak", "no folder can have"),
    ] {
        let (kind, text) = refusal(photos.add(class, picture("1")));
        assert!(kind == ErrorKind::Data && text.contains(words), "{text}");
    }
    assert_eq!(photos, before);
    let (kind, text) = refusal(Dataset::default().require_trainable());
    assert!(kind == ErrorKind::Data && text.contains("the photos in memory: holds no photos"), "{text}");
}
