//! Where the pixels of a photo come from: a file, the bytes of one, or memory.

use std::borrow::Cow;
use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use image::RgbImage;

use super::layout::{Layout, rows_of};
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
        check_size([width, height])?;
        // Within the limits, so that nothing overflows.
        let (row, rows) = (width as usize * layout.channels(), height as usize);
        let lines = rows_of(bytes, [row, rows], stride, &format!("{layout:?}"), [width, height])?;
        let mut rgb = Vec::with_capacity(3 * width as usize * rows);
        lines.for_each(|line| layout.append(line, &mut rgb));
        whole(rgb, [width, height])
    }

    /// The same of `values` that lie anywhere, in any order in memory: they come row by row from the top, pixel by pixel from the left,
    /// channel by channel. Nothing is taken before the size has been checked, and no more than the size asks for.
    ///
    /// ```
    /// use srlora::session::{Layout, Pixels};
    /// let rows = [[1, 2, 3], [4, 5, 6]];
    /// let upside_down = Pixels::from_values(rows.iter().rev().flatten().copied(), Layout::Grey8, [3, 2])?;
    /// assert_eq!(upside_down, Pixels::new(&[4, 5, 6, 1, 2, 3], Layout::Grey8, [3, 2], 3)?);
    /// # Ok::<(), srlora::Error>(())
    /// ```
    ///
    /// # Errors
    /// Kind `Image` where a side is 0, above 65535 or the whole above 64 megapixels, or where there are fewer values.
    pub fn from_values(
        values: impl IntoIterator<Item = u8>,
        layout: Layout,
        [width, height]: [u32; 2],
    ) -> Result<Self> {
        check_size([width, height])?;
        let needed = width as usize * height as usize * layout.channels();
        let mut packed = Vec::with_capacity(needed);
        packed.extend(values.into_iter().take(needed));
        if packed.len() < needed {
            let message = format!("take {needed} values, and there are {}", packed.len());
            return Err(refused([width, height], message));
        }
        match layout {
            Layout::Rgb8 => {}
            Layout::Bgr8 => packed.chunks_exact_mut(3).for_each(|pixel| pixel.swap(0, 2)),
            Layout::Rgba8 | Layout::Bgra8 | Layout::Grey8 => {
                let mut rgb = Vec::with_capacity(3 * width as usize * height as usize);
                layout.append(&packed, &mut rgb);
                packed = rgb;
            }
        }
        whole(packed, [width, height])
    }

    /// Width and height.
    #[must_use]
    pub fn size(&self) -> [u32; 2] {
        [self.0.width(), self.0.height()]
    }
}

/// Red, green and blue of every pixel.
pub(super) fn whole(rgb: Vec<u8>, [width, height]: [u32; 2]) -> Result<Pixels> {
    let pixels = RgbImage::from_raw(width, height, rgb);
    pixels.map(Pixels).ok_or_else(|| Error::new(ErrorKind::Internal, "pixels", "have another length than planned"))
}

pub(super) fn refused([width, height]: [u32; 2], message: impl Display) -> Error {
    Error::new(ErrorKind::Image, format_args!("{width}x{height} pixels"), message)
}

pub(super) fn check_size([width, height]: [u32; 2]) -> Result<()> {
    if width == 0 || height == 0 {
        return Err(refused([width, height], "are none; give both sides of the photo"));
    }
    if width.max(height) > MOST_PHOTO_SIDE || u64::from(width) * u64::from(height) > MOST_PIXELS {
        let most = MOST_PIXELS / 1_000_000;
        let message = format!("are above the limit of {most} megapixels and {MOST_PHOTO_SIDE} pixels a side");
        return Err(refused([width, height], message));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_in_any_order_give_the_pixels_that_they_are() {
        let bgr: Vec<u8> = (0..12).collect();
        let expected = Pixels::new(&bgr, Layout::Bgr8, [2, 2], 6).unwrap();
        assert_eq!(Pixels::from_values(bgr.iter().copied(), Layout::Bgr8, [2, 2]).unwrap(), expected);
        // Held as columns of planes, as Fortran would.
        let planes: Vec<u8> = (0..12).map(|at| bgr[at % 2 * 6 + at / 2 % 2 * 3 + at / 4]).collect();
        let gathered = (0..12).map(|at| planes[at / 6 + 2 * (at / 3 % 2) + 4 * (at % 3)]);
        assert_eq!(Pixels::from_values(gathered, Layout::Bgr8, [2, 2]).unwrap(), expected);
        for layout in [Layout::Rgb8, Layout::Grey8] {
            let [width, height] = [3, 2];
            let bytes: Vec<u8> = (0..6 * layout.channels() as u8).collect();
            let expected = Pixels::new(&bytes, layout, [width, height], 3 * layout.channels()).unwrap();
            assert_eq!(
                Pixels::from_values(bytes.iter().copied().chain([9]), layout, [width, height]).unwrap(),
                expected
            );
        }
        let few = Pixels::from_values([1; 11], Layout::Rgb8, [2, 2]).unwrap_err();
        assert_eq!(few.to_string(), "2x2 pixels: take 12 values, and there are 11");
        let none = Pixels::from_values(std::iter::repeat(1), Layout::Rgb8, [u32::MAX; 2]).unwrap_err();
        assert!(none.to_string().contains("above the limit"), "{none}");
    }

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
