//! Photos that are there twice: what they show is hashed once, for the record of a lesson and to find those that a lesson is trained
//! on and measured on, or that show several classes at once.

use std::collections::BTreeMap;
use std::path::Path;

use super::dataset::{Dataset, Photo};
use super::image::pixels_sha256;
use crate::bundle::Preprocess;
use crate::error::{Error, ErrorKind, Result};
use crate::session::progress::Stop;

/// Groups of equal photos that a warning names.
const LISTED: usize = 5;

/// The photos of a lesson, with the sha256 of what each shows; `None` where it cannot be read.
pub(crate) struct Hashed<'d> {
    data: (&'d Dataset, Vec<Option<String>>),
    validation: Option<(&'d Dataset, Vec<Option<String>>)>,
}

/// Equal photos: those trained on, and those measured on.
type Group<'d> = [Vec<&'d Photo>; 2];

impl<'d> Hashed<'d> {
    /// Decodes every photo once. Classes of both are counted alike.
    ///
    /// # Errors
    /// Kind `Stopped` once `stop` is set.
    pub(crate) fn read(
        data: &'d Dataset,
        validation: Option<&'d Dataset>,
        preprocess: &Preprocess,
        stop: &Stop,
    ) -> Result<Self> {
        let hashed = |photos: &'d Dataset| -> Result<_> {
            let hash = |photo: &Photo| stop.go_on().map(|()| pixels_sha256(&photo.picture, preprocess));
            Ok((photos, photos.photos.iter().map(hash).collect::<Result<_>>()?))
        };
        Ok(Hashed { data: hashed(data)?, validation: validation.map(hashed).transpose()? })
    }

    /// [`Dataset::sha256`] of the photos trained on, and of those measured on.
    pub(crate) fn sha256(&self) -> (String, Option<String>) {
        let of = |(photos, contents): &(&Dataset, Vec<Option<String>>)| photos.sha256(contents);
        (of(&self.data), self.validation.as_ref().map(of))
    }

    /// The first bytes of each photo's hash: of those trained on, and of those measured on.
    pub(crate) fn identities(&self) -> [Vec<Option<u64>>; 2] {
        let identity = |hash: &Option<String>| u64::from_str_radix(hash.as_deref()?.get(..16)?, 16).ok();
        let of = |contents: &[Option<String>]| contents.iter().map(identity).collect();
        [of(&self.data.1), self.validation.as_ref().map_or_else(Vec::new, |(_, contents)| of(contents))]
    }

    /// What to tell the user of photos that are there twice.
    pub(crate) fn warnings(&self) -> Vec<String> {
        let groups = self.groups();
        let on_both_sides: Vec<&Group> =
            groups.iter().filter(|[trained, measured]| !trained.is_empty() && !measured.is_empty()).collect();
        let in_two_classes: Vec<&Group> = groups.iter().filter(|group| is_in_two_classes(group)).collect();
        let mut warnings = Vec::new();
        if !on_both_sides.is_empty() {
            let shared: usize = on_both_sides.iter().map(|[_, measured]| measured.len()).sum();
            let all = self.validation.as_ref().map_or(0, |(photos, _)| photos.photos.len());
            let are = if shared == 1 { "is" } else { "are" };
            warnings.push(format!(
                "of the {all} photos that accuracy is measured on, {shared} {are} trained on as well, so it comes out too high: {}; keep \
                 each in one place",
                listed(&on_both_sides)
            ));
        }
        if !in_two_classes.is_empty() {
            let photos = if in_two_classes.len() == 1 { "photo" } else { "photos" };
            warnings.push(format!(
                "of {} {photos} there are copies in more than one class: {}; keep each in the class that it shows",
                in_two_classes.len(),
                listed(&in_two_classes)
            ));
        }
        warnings
    }

    /// Photos that are equal, in the order of the first of each.
    fn groups(&self) -> Vec<Group<'d>> {
        let (mut groups, mut known): (Vec<Group>, BTreeMap<&str, usize>) = (Vec::new(), BTreeMap::new());
        for (side, (photos, contents)) in core::iter::once(&self.data).chain(&self.validation).enumerate() {
            for (photo, hash) in photos.photos.iter().zip(contents) {
                let Some(hash) = hash.as_deref() else { continue };
                let group = *known.entry(hash).or_insert_with(|| {
                    groups.push(Group::default());
                    groups.len() - 1
                });
                groups[group][side].push(photo);
            }
        }
        groups
    }
}

fn is_in_two_classes(group: &Group) -> bool {
    let mut classes = group.iter().flatten().map(|photo| photo.class);
    let first = classes.next();
    classes.any(|class| Some(class) != first)
}

/// "a/1.png = b/7.png, ...", cut after [`LISTED`].
fn listed(groups: &[&Group]) -> String {
    let equal = |group: &&Group| {
        let paths: Vec<String> = group.iter().flatten().map(|photo| photo.picture.name().into_owned()).collect();
        paths.join(" = ")
    };
    let named: Vec<String> = groups.iter().take(LISTED).map(equal).collect();
    let more = groups.len().saturating_sub(LISTED);
    let rest = if more > 0 { format!(" and {more} more") } else { String::new() };
    named.join(", ") + &rest
}

/// Accuracy says nothing where it is measured on what was trained on.
///
/// # Errors
/// Kind `Usage` where one of the folders is the other one, or lies inside it.
pub(crate) fn refuse_shared_folder(data: &Path, validation: &Path) -> Result<()> {
    let (Ok(own), Ok(others)) = (data.canonicalize(), validation.canonicalize()) else { return Ok(()) };
    let what = match (others.starts_with(&own), own.starts_with(&others)) {
        (true, true) => "is the folder of",
        (true, false) => "lies inside the folder of",
        (false, true) => "holds the folder of",
        (false, false) => return Ok(()),
    };
    let message = format!(
        "{} {what} option `data`, {}: accuracy has to be measured on other photos than those trained on; give them a folder of their own, or take \
         option `val_split` 0.2",
        validation.display(),
        data.display()
    );
    Err(Error::new(ErrorKind::Usage, "option `val`", message))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use tempfile::TempDir;

    use super::*;

    fn folder(files: &[(&str, &str)]) -> TempDir {
        let root = TempDir::new().unwrap();
        for (name, contents) in files {
            let path = root.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            // A pixel, as grey as the letter says; of nothing, an empty file.
            match contents.as_bytes() {
                [] => fs::write(path, "").unwrap(),
                [grey, ..] => image::RgbImage::from_pixel(1, 1, image::Rgb([*grey; 3])).save(path).unwrap(),
            }
        }
        root
    }

    fn hashed<'d>(data: &'d Dataset, validation: Option<&'d Dataset>) -> Hashed<'d> {
        Hashed::read(data, validation, &Preprocess::default(), &Stop::default()).unwrap()
    }

    fn warnings(data: &[(&str, &str)], validation: &[(&str, &str)]) -> Vec<String> {
        let folders = [data, validation].map(folder);
        let [data, validation] = folders.each_ref().map(|folder| Dataset::open(folder.path()).unwrap());
        let without = |text: String| folders.iter().fold(text, |text, f| text.replace(f.path().to_str().unwrap(), "."));
        hashed(&data, Some(&validation)).warnings().into_iter().map(without).collect()
    }

    #[test]
    fn a_hash_tells_pixels_classes_and_order_apart_and_not_names_and_places() {
        let hash = |files: &[(&str, &str)]| {
            let root = folder(files);
            hashed(&Dataset::open(root.path()).unwrap(), None).sha256().0
        };
        let first = hash(&[("a/1.png", "x"), ("b/1.png", "y")]);
        assert_eq!(first, hash(&[("a/1.png", "x"), ("b/1.png", "y"), ("b/notes.txt", "")]));
        assert_eq!(first, hash(&[("a/7.png", "x"), ("b/8.png", "y")]));
        for other in [
            [("a/1.png", "y"), ("b/1.png", "x")],
            [("a/1.png", "x"), ("c/1.png", "y")],
            [("a/1.png", "x"), ("a/2.png", "y")],
        ] {
            assert_ne!(first, hash(&other));
        }
    }

    #[test]
    fn the_hash_is_that_of_the_text_that_is_promised_whatever_the_names() {
        let root = folder(&[("a \"\\\u{200b}\u{301}/tab\t.png", "x"), ("b/1.png", "y")]);
        let photos = Dataset::open(root.path()).unwrap();
        fs::remove_file(root.path().join("b/1.png")).unwrap();
        // By Python: hashlib.sha256(text.encode()).hexdigest() of '"a \\"\\\\\u200b\u0301" ' + pixel + '\n"b" -\n', where pixel is
        // hashlib.sha256(struct.pack("<II", 1, 1) + b"\1xxx").hexdigest()
        let expected = "967dd2419cd2688308545bfba997c140eace3c0acfef6713bb42e4f2244f0df5";
        assert_eq!(hashed(&photos, None).sha256().0, expected);
    }

    #[test]
    fn a_photo_that_is_trained_on_and_measured_on_or_in_two_classes_is_named_and_other_copies_are_not() {
        assert_eq!(
            warnings(
                &[("a/1.png", "x"), ("a/copy.png", "x"), ("a/none.png", ""), ("b/1.png", "y"), ("b/none.png", "")],
                &[("a/9.png", "z"), ("b/9.png", "w")]
            ),
            Vec::<String>::new()
        );
        let both =
            warnings(&[("a/1.png", "x"), ("b/1.png", "y")], &[("a/7.png", "x"), ("a/8.png", "x"), ("b/9.png", "w")]);
        assert!(
            both.len() == 1 && both[0].starts_with("of the 3 photos that accuracy is measured on, 2 are trained on"),
            "{both:?}"
        );
        assert!(both[0].contains(": ./a/1.png = ./a/7.png = ./a/8.png; keep"), "{both:?}");
        let classes =
            warnings(&[("a/1.png", "x"), ("b/1.png", "x"), ("b/2.png", "y")], &[("a/9.png", "z"), ("b/9.png", "w")]);
        assert!(
            classes.len() == 1
                && classes[0].starts_with("of 1 photo there are copies in more than one class: ./a/1.png = ./b/1.png;")
        );
        let all: Vec<(String, String)> = (0..9).map(|nth| (format!("{nth}.png"), nth.to_string())).collect();
        let [a, b] = ["a", "b"]
            .map(|class| all.iter().map(|(name, text)| (format!("{class}/{name}"), text.clone())).collect::<Vec<_>>());
        let files: Vec<(&str, &str)> = a.iter().chain(&b).map(|(name, text)| (name.as_str(), text.as_str())).collect();
        let many = warnings(&files, &[("a/x.png", "z"), ("b/x.png", "w")]);
        assert!(many[0].starts_with("of 9 photos ") && many[0].contains("./b/4.png and 4 more;"), "{many:?}");
    }

    #[test]
    fn folders_that_hold_each_other_are_refused_by_both_flags() {
        let root = folder(&[("photos/a/1.png", "x"), ("photos/b/1.png", "y"), ("photos-2/a/1.png", "z")]);
        let path = |name: &str| root.path().join(name);
        for (data, validation, words) in [
            ("photos", "photos", "is the folder of option `data`"),
            ("photos", "photos/../photos", "is the folder of option `data`"),
            ("photos", "photos/a", "lies inside the folder of option `data`"),
            ("photos/a", "photos", "holds the folder of option `data`"),
        ] {
            let error = refuse_shared_folder(&path(data), &path(validation)).unwrap_err();
            assert!(error.kind() == ErrorKind::Usage && error.subject() == "option `val`", "{error}");
            assert!(error.message().contains(words), "{error}");
        }
        refuse_shared_folder(&path("photos"), &path("photos-2")).unwrap();
        refuse_shared_folder(&path("photos"), &path("nowhere")).unwrap();
    }
}
