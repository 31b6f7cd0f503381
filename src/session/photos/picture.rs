//! Where the pixels of a photo come from: a file, the bytes of one, or memory.

use std::borrow::Cow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use image::RgbImage;

use crate::error::{Error, ErrorKind, Result};
use crate::limits::{MOST_PHOTO_SIDE, MOST_PIXELS};

/// A photo, wherever it is. Clones share what is in memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Picture {
    /// A JPEG or PNG file.
    File(Arc<Path>),
    /// What such a file would hold.
    Encoded {
        /// What messages call it.
        name: Arc<str>,
        /// A whole JPEG or PNG.
        bytes: Arc<[u8]>,
    },
    /// Pixels.
    Pixels {
        /// What messages call it.
        name: Arc<str>,
        /// Upright.
        pixels: Arc<Pixels>,
    },
}

impl Picture {
    /// The bytes of a JPEG or PNG; messages call it `name`.
    #[must_use]
    pub fn encoded(name: &str, bytes: impl Into<Arc<[u8]>>) -> Self {
        Picture::Encoded { name: name.into(), bytes: bytes.into() }
    }

    /// Pixels in memory; messages call them `name`.
    #[must_use]
    pub fn pixels(name: &str, pixels: Pixels) -> Self {
        Picture::Pixels { name: name.into(), pixels: Arc::new(pixels) }
    }

    /// What messages call it: a file's path, or the name that it was given.
    #[must_use]
    pub fn name(&self) -> Cow<'_, str> {
        match self {
            Picture::File(path) => path.to_string_lossy(),
            Picture::Encoded { name, .. } | Picture::Pixels { name, .. } => Cow::Borrowed(name),
        }
    }

    /// Its file, where it has one.
    #[must_use]
    pub fn path(&self) -> Option<&Path> {
        if let Picture::File(path) = self { Some(path) } else { None }
    }
}

impl From<&Path> for Picture {
    fn from(path: &Path) -> Self {
        Picture::File(path.into())
    }
}

impl From<PathBuf> for Picture {
    fn from(path: PathBuf) -> Self {
        Picture::File(path.into())
    }
}

/// How pixels lie in memory: 8 bits a channel, row by row from the top, from left to right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// Red, green, blue.
    Rgb8,
    /// Blue, green, red, as OpenCV has them.
    Bgr8,
    /// One channel.
    Grey8,
}

impl Layout {
    /// Bytes of a pixel.
    #[must_use]
    pub const fn channels(self) -> usize {
        match self {
            Layout::Rgb8 | Layout::Bgr8 => 3,
            Layout::Grey8 => 1,
        }
    }
}

/// The pixels of a photo, held upright.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pixels(pub(crate) RgbImage);

impl Pixels {
    /// Copies `width` x `height` pixels from `bytes`, where a row begins every `stride` bytes; what lies between rows is not looked at.
    ///
    /// ```
    /// use srlora::session::{Layout, Pixels};
    /// let frame = vec![128; 640 * 480 * 3];
    /// let pixels = Pixels::new(&frame, Layout::Bgr8, [640, 480], 640 * 3)?;
    /// assert!(Pixels::new(&frame, Layout::Bgr8, [640, 481], 640 * 3).is_err());
    /// # Ok::<(), srlora::Error>(())
    /// ```
    ///
    /// # Errors
    /// Kind `Image` where a side is 0, above 65535 or the whole above 64 megapixels, where a row does not fit the stride, or where
    /// `bytes` ends before the last pixel.
    pub fn new(bytes: &[u8], layout: Layout, [width, height]: [u32; 2], stride: usize) -> Result<Self> {
        let refuse =
            |message: String| Err(Error::new(ErrorKind::Image, format_args!("{width}x{height} pixels"), message));
        if width == 0 || height == 0 {
            return refuse("are none; give both sides of the photo".to_owned());
        }
        if width.max(height) > MOST_PHOTO_SIDE || u64::from(width) * u64::from(height) > MOST_PIXELS {
            let most = MOST_PIXELS / 1_000_000;
            return refuse(format!("are above the limit of {most} megapixels and {MOST_PHOTO_SIDE} pixels a side"));
        }
        // Within the limits, so that nothing overflows.
        let (row, rows) = (width as usize * layout.channels(), height as usize);
        if stride < row {
            return refuse(format!("have rows of {row} bytes ({layout:?}), more than the stride of {stride}"));
        }
        let needed = (rows - 1).checked_mul(stride).and_then(|before| before.checked_add(row));
        if needed.is_none_or(|needed| bytes.len() < needed) {
            let needed = needed.map_or_else(|| "more than there can be".to_owned(), |needed| needed.to_string());
            return refuse(format!("with a stride of {stride} take {needed} bytes, and there are {}", bytes.len()));
        }
        let mut rgb = Vec::with_capacity(3 * width as usize * rows);
        for row in bytes.chunks(stride).take(rows).map(|line| &line[..row]) {
            match layout {
                Layout::Rgb8 => rgb.extend_from_slice(row),
                Layout::Bgr8 => rgb.extend(row.chunks_exact(3).flat_map(|pixel| [pixel[2], pixel[1], pixel[0]])),
                Layout::Grey8 => rgb.extend(row.iter().flat_map(|&grey| [grey; 3])),
            }
        }
        let pixels = RgbImage::from_raw(width, height, rgb);
        pixels.map(Pixels).ok_or_else(|| Error::new(ErrorKind::Internal, "pixels", "have another length than planned"))
    }

    /// Width and height.
    #[must_use]
    pub fn size(&self) -> [u32; 2] {
        [self.0.width(), self.0.height()]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layouts_and_strides_give_the_same_pixels() {
        // 2 x 2: red, green / blue, white.
        let rgb = [255, 0, 0, 0, 255, 0, 0, 0, 255, 255, 255, 255];
        let whole = Pixels::new(&rgb, Layout::Rgb8, [2, 2], 6).unwrap();
        assert_eq!(whole.0.as_raw(), &rgb);
        let bgr = [0, 0, 255, 0, 255, 0, 9, 9, 255, 0, 0, 255, 255, 255];
        assert_eq!(Pixels::new(&bgr, Layout::Bgr8, [2, 2], 8).unwrap(), whole, "padded rows, and none after the last");
        let grey = Pixels::new(&[7, 8, 0, 9, 10], Layout::Grey8, [2, 2], 3).unwrap();
        assert_eq!(grey.0.as_raw(), &[7, 7, 7, 8, 8, 8, 9, 9, 9, 10, 10, 10]);
    }

    #[test]
    fn what_cannot_be_a_photo_is_refused_with_its_figures() {
        let refusal = |len: usize, size, stride| {
            let error = Pixels::new(&vec![0; len], Layout::Rgb8, size, stride).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Image);
            error.to_string()
        };
        for (len, size, stride, words) in [
            (12, [0, 2], 6, "0x2 pixels: are none"),
            (12, [2, 0], 6, "are none"),
            (12, [u32::MAX, u32::MAX], 6, "above the limit"),
            (12, [65536, 1], 3 * 65536, "above the limit"),
            (12, [9000, 9000], 27000, "above the limit of 64 megapixels"),
            (12, [2, 2], 5, "rows of 6 bytes (Rgb8), more than the stride of 5"),
            (12, [2, 2], 0, "more than the stride of 0"),
            (11, [2, 2], 6, "with a stride of 6 take 12 bytes, and there are 11"),
            (0, [1, 1], 3, "and there are 0"),
            (12, [2, 2], usize::MAX, "take more than there can be bytes"),
        ] {
            let said = refusal(len, size, stride);
            assert!(said.contains(words), "{said}");
        }
    }
}
