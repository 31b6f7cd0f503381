//! Photos in a page: small, few, and within the file.

use std::path::{Component, Path};

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
        let data = base64(&jpeg);
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

/// Three bytes as four letters (RFC 4648, section 4).
fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let bits = chunk.iter().fold(0u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for nth in 0..4 {
            let letter = LETTERS[(bits >> (18 - 6 * nth) & 63) as usize];
            text.push(if nth <= chunk.len() { char::from(letter) } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_written_as_the_rfc_has_them() {
        // RFC 4648, section 10.
        let vectors = [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("fooba", "Zm9vYmE="),
            ("foobar", "Zm9vYmFy"),
        ];
        for (bytes, text) in vectors {
            assert_eq!(base64(bytes.as_bytes()), text);
        }
        assert_eq!(base64(&[0xfb, 0xff, 0xfe]), "+//+");
    }

    #[test]
    fn a_photo_is_called_by_its_file_and_folder() {
        let called = |path: &str| called(&Picture::from(Path::new(path)));
        assert_eq!(called("/home/me/photos/cat/1.jpg"), "cat/1.jpg");
        assert_eq!((called("1.jpg"), called("../\u{1b}[2J/1.jpg")), ("1.jpg".into(), "\\u{1b}[2J/1.jpg".into()));
    }
}
