//! Photos in a page: small, few, and within the file.

use std::path::{Component, Path};

use super::base64;
use super::markup::{Markup, tag};
use super::words::plain;
use crate::bundle::Preprocess;
use crate::limits::{MOST_REPORT_PHOTO_BYTES, MOST_REPORT_PHOTOS, REPORT_PHOTO_SIDE};
use crate::session::{Picture, thumbnail};

/// The photos of a page, as far as there is room.
pub(crate) struct Album<'a> {
    preprocess: &'a Preprocess,
    photos: usize,
    bytes: usize,
}

impl<'a> Album<'a> {
    pub(crate) fn new(preprocess: &'a Preprocess) -> Self {
        Album { preprocess, photos: MOST_REPORT_PHOTOS, bytes: MOST_REPORT_PHOTO_BYTES }
    }

    /// The photo, or a box that says why it is not there; `None` where there is no room for more.
    pub(crate) fn show(&mut self, picture: &Picture) -> Option<Markup> {
        self.photos = self.photos.checked_sub(1)?;
        let Ok(jpeg) = thumbnail(picture, self.preprocess, REPORT_PHOTO_SIDE) else {
            return Some(tag("div").class("absent").holding("cannot be read any more"));
        };
        let data = base64::of(&jpeg);
        self.bytes = self.bytes.checked_sub(data.len())?;
        let longer = self.preprocess.width.max(self.preprocess.height).max(1);
        let side = |length: usize| (length * REPORT_PHOTO_SIDE / longer).max(1);
        let image = tag("img").with("src", format_args!("data:image/jpeg;base64,{data}"));
        let image = image.with("width", side(self.preprocess.width)).with("height", side(self.preprocess.height));
        Some(image.with("alt", format_args!("photo {}", called(picture))).empty())
    }
}

/// A photo's name: that of its file and folder, which tell it from others.
pub(crate) fn called(picture: &Picture) -> String {
    let name = picture.name();
    let parts: Vec<_> = Path::new(name.as_ref())
        .components()
        .filter_map(|part| if let Component::Normal(part) = part { Some(part.to_string_lossy()) } else { None })
        .collect();
    plain(parts[parts.len().saturating_sub(2)..].join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_photo_is_called_by_its_file_and_folder() {
        let called = |path: &str| called(&Picture::from(Path::new(path)));
        assert_eq!(called("/home/me/photos/cat/1.jpg"), "cat/1.jpg");
        assert_eq!((called("1.jpg"), called("../\u{1b}[2J/1.jpg")), ("1.jpg".into(), "\\u{1b}[2J/1.jpg".into()));
    }
}
