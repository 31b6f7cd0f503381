//! Which photos a lesson trains on, and which it is judged by.

use super::note::Named;
use super::seen::Seen;
use crate::bundle::sha256;
use crate::serve::album::{Album, Entry};

/// Where every class has so many photos, some are held back. Of fewer, each is worth more to the lesson than to its judgement: one photo more
/// or less would decide that.
const ENOUGH: usize = 20;
/// Of so many, one is held back.
const ONE_OF: usize = 5;

/// The photos to train on, and those that are held back: of each class a fifth, none of which a lesson has `seen`, chosen by their names, so
/// that mostly the same ones are chosen when more come.
pub(super) fn chosen(album: &Album, seen: &Seen) -> [Vec<Named>; 2] {
    let classes: Vec<(&str, &[Entry])> = album.classes().filter(|(_, photos)| !photos.is_empty()).collect();
    let share = |photos: &[Entry]| (photos.len() + ONE_OF / 2) / ONE_OF;
    let holds_back = classes.iter().all(|(_, photos)| {
        photos.len() >= ENOUGH && photos.iter().filter(|photo| !seen.has(photo)).count() >= share(photos)
    });
    let [mut train, mut held_back] = [Vec::new(), Vec::new()];
    for (class, photos) in classes {
        let most = if holds_back { share(photos) } else { 0 };
        let mut by_hash: Vec<&Entry> = photos.iter().filter(|photo| !seen.has(photo)).collect();
        by_hash.sort_by_cached_key(|photo| sha256(photo.name.as_bytes()));
        let chosen: Vec<&str> = by_hash.iter().take(most).map(|photo| photo.name.as_str()).collect();
        for photo in photos {
            let to = if chosen.contains(&photo.name.as_str()) { &mut held_back } else { &mut train };
            to.push((class.to_owned(), photo.name.clone()));
        }
    }
    [train, held_back]
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;

    use super::*;

    #[test]
    fn a_fifth_is_held_back_where_all_have_enough_and_mostly_the_same_ones() {
        let folder = tempfile::tempdir().unwrap();
        let add = |class: &str, n: usize| {
            fs::create_dir_all(folder.path().join(class)).unwrap();
            (0..n).for_each(|n| fs::write(folder.path().join(class).join(format!("{n}.jpg")), b"1").unwrap());
        };
        add("a", 20);
        add("b", 19);
        fs::create_dir(folder.path().join("empty")).unwrap();
        let mut album = Album::open(folder.path(), 1 << 20).unwrap();
        let new = Seen::default();
        assert_eq!(chosen(&album, &new).map(|photos| photos.len()), [39, 0]);
        add("b", 22);
        album.look().unwrap();
        let [train, first] = chosen(&album, &new);
        assert_eq!([train.len(), first.len()], [34, 8]);
        add("b", 24);
        album.look().unwrap();
        let [train, second] = chosen(&album, &new);
        assert_eq!([train.len(), second.len()], [35, 9]);
        let second: BTreeSet<_> = second.into_iter().collect();
        assert!(first.iter().filter(|photo| second.contains(photo)).count() >= 6);
        assert!(train.iter().all(|photo| !second.contains(photo)));
    }

    #[test]
    fn what_a_lesson_has_seen_is_not_held_back_from_the_next_one() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        let add = |from: usize, to: usize| {
            for class in ["a", "b"] {
                fs::create_dir_all(root.join(class)).unwrap();
                (from..to).for_each(|n| fs::write(root.join(class).join(format!("{class}{n}.jpg")), b"1").unwrap());
            }
        };
        add(0, 12);
        let mut album = Album::open(root, 1 << 20).unwrap();
        let [train, _] = chosen(&album, &Seen::read(root));
        Seen::note(root, train.iter().map(|(_, name)| (name.as_str(), 1))).unwrap();
        add(12, 24);
        album.look().unwrap();
        let [train, held_back] = chosen(&album, &Seen::read(root));
        assert_eq!([train.len(), held_back.len()], [38, 10]);
        let nth = |name: &str| name[1..].trim_end_matches(".jpg").parse::<usize>().unwrap();
        assert!(held_back.iter().all(|(_, name)| nth(name) >= 12), "{held_back:?}");
        Seen::note(root, train.iter().map(|(_, name)| (name.as_str(), 1))).unwrap();
        assert_eq!(chosen(&album, &Seen::read(root))[1], held_back, "those that were held back stay so");
        // Moved to the other class, a photo is the same one.
        fs::rename(root.join("a/a3.jpg"), root.join("b/a3.jpg")).unwrap();
        album.look().unwrap();
        assert!(chosen(&album, &Seen::read(root))[1].iter().all(|(_, name)| name != "a3.jpg"));
    }
}
