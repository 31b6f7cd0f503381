//! How pixels lie in memory, and what is read of them: rows of pixels, and the two planes of NV12.

use super::picture::{Pixels, check_size, refused, whole};
use crate::error::{Error, Result};

/// How pixels lie in memory: 8 bits a channel, row by row from the top, from left to right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// Red, green, blue.
    Rgb8,
    /// Blue, green, red, as OpenCV has them.
    Bgr8,
    /// Red, green, blue, and a fourth byte that is not looked at.
    Rgba8,
    /// Blue, green, red, and a fourth byte that is not looked at: BGRA, and the BGRx of a Jetson's camera.
    Bgra8,
    /// One channel.
    Grey8,
}

impl Layout {
    /// Bytes of a pixel.
    #[must_use]
    pub const fn channels(self) -> usize {
        match self {
            Layout::Rgba8 | Layout::Bgra8 => 4,
            Layout::Rgb8 | Layout::Bgr8 => 3,
            Layout::Grey8 => 1,
        }
    }

    /// Appends red, green and blue of each pixel in `row`.
    pub(super) fn append(self, row: &[u8], rgb: &mut Vec<u8>) {
        match self {
            Layout::Rgb8 => rgb.extend_from_slice(row),
            Layout::Bgr8 => rgb.extend(row.chunks_exact(3).flat_map(|pixel| [pixel[2], pixel[1], pixel[0]])),
            Layout::Rgba8 => rgb.extend(row.chunks_exact(4).flat_map(|pixel| [pixel[0], pixel[1], pixel[2]])),
            Layout::Bgra8 => rgb.extend(row.chunks_exact(4).flat_map(|pixel| [pixel[2], pixel[1], pixel[0]])),
            Layout::Grey8 => rgb.extend(row.iter().flat_map(|&grey| [grey; 3])),
        }
    }
}

/// The first `row` bytes of each of `rows` rows, of which one begins every `stride` bytes.
///
/// # Errors
/// Kind `Image`, with `size`, where a row does not fit the stride or `bytes` ends before the last one; `what` names the layout.
pub(super) fn rows_of<'b>(
    bytes: &'b [u8],
    [row, rows]: [usize; 2],
    stride: usize,
    what: &str,
    size: [u32; 2],
) -> Result<impl Iterator<Item = &'b [u8]> + use<'b>> {
    if stride < row {
        return Err(refused(size, format_args!("have rows of {row} bytes ({what}), more than the stride of {stride}")));
    }
    let needed = rows.saturating_sub(1).checked_mul(stride).and_then(|before| before.checked_add(row));
    if needed.is_none_or(|needed| bytes.len() < needed) {
        let needed = needed.map_or_else(|| "more than there can be".to_owned(), |needed| needed.to_string());
        let message = format!("with a stride of {stride} take {needed} bytes, and there are {}", bytes.len());
        return Err(refused(size, message));
    }
    Ok(bytes.chunks(stride).take(rows).map(move |line| &line[..row]))
}

impl Pixels {
    /// Pixels of NV12, as cameras and video decoders give them: a plane of brightness, and one of half its width and height with a pair
    /// of colour differences (blue, red) for each 2 x 2 pixels. Rows of either plane begin every so many bytes of `strides`.
    ///
    /// The colours are those of BT.601 in the narrow range, with Y of 16 to 235 and U, V of 16 to 240:
    ///
    /// ```text
    /// R = 1.164 (Y - 16) + 1.596 (V - 128)
    /// G = 1.164 (Y - 16) - 0.391 (U - 128) - 0.813 (V - 128)
    /// B = 1.164 (Y - 16) + 2.018 (U - 128)
    /// ```
    ///
    /// in steps of 1/256, cut to 0..255. The four pixels of a pair have its colour; nothing is interpolated.
    ///
    /// ```
    /// use srlora::session::{Layout, Pixels};
    /// let (bright, no_colour) = ([235; 4 * 2], [128; 4]);
    /// let white = Pixels::nv12([&bright, &no_colour], [4, 2], [4, 4])?;
    /// assert_eq!(white, Pixels::new(&[255; 4 * 2], Layout::Grey8, [4, 2], 4)?);
    /// # Ok::<(), srlora::Error>(())
    /// ```
    ///
    /// # Errors
    /// As of [`Pixels::new`], with the plane at fault.
    pub fn nv12(planes: [&[u8]; 2], [width, height]: [u32; 2], strides: [usize; 2]) -> Result<Self> {
        let size = [width, height];
        check_size(size)?;
        let (columns, rows) = (width as usize, height as usize);
        let named = |plane: &str, error: Error| {
            Error::new(error.kind(), format_args!("{}, {plane} of NV12", error.subject()), error.message())
        };
        let luma = rows_of(planes[0], [columns, rows], strides[0], "NV12", size)
            .map_err(|error| named("brightness", error))?;
        // Odd sides have half a pair more.
        let pairs = [2 * columns.div_ceil(2), rows.div_ceil(2)];
        let chroma = rows_of(planes[1], pairs, strides[1], "NV12", size).map_err(|error| named("colour", error))?;
        let mut rgb = Vec::with_capacity(3 * columns * rows);
        for (luma, chroma) in luma.zip(chroma.flat_map(|row| [row, row])) {
            for (luma, pair) in luma.chunks(2).zip(chroma.chunks_exact(2)) {
                let colour = Colour::of([pair[0], pair[1]]);
                luma.iter().for_each(|&luma| rgb.extend(colour.with(luma)));
            }
        }
        whole(rgb, size)
    }
}

/// What a pair of colour differences adds to red, green and blue, in 1/256.
struct Colour([i32; 3]);

impl Colour {
    fn of(pair: [u8; 2]) -> Self {
        let [u, v] = pair.map(|value| i32::from(value) - 128);
        Colour([409 * v, -100 * u - 208 * v, 516 * u])
    }

    fn with(&self, luma: u8) -> [u8; 3] {
        // 128 rounds to the nearest.
        let luma = 298 * (i32::from(luma) - 16) + 128;
        self.0.map(|added| ((luma + added) >> 8).clamp(0, 255) as u8)
    }
}

#[cfg(test)]
mod tests {
    use std::println;

    use super::*;
    use crate::error::ErrorKind;

    #[test]
    fn a_fourth_byte_is_not_looked_at() {
        // 2 x 2: red, green / blue, white; rows of 8 bytes, padded to 10.
        let rgb = [255, 0, 0, 0, 255, 0, 0, 0, 255, 255, 255, 255];
        let whole = Pixels::new(&rgb, Layout::Rgb8, [2, 2], 6).unwrap();
        let rgba = [255, 0, 0, 7, 0, 255, 0, 8, 9, 9, 0, 0, 255, 10, 255, 255, 255, 11];
        assert_eq!(Pixels::new(&rgba, Layout::Rgba8, [2, 2], 10).unwrap(), whole);
        let bgra = [0, 0, 255, 7, 0, 255, 0, 8, 9, 9, 255, 0, 0, 10, 255, 255, 255, 11];
        assert_eq!(Pixels::new(&bgra, Layout::Bgra8, [2, 2], 10).unwrap(), whole);
        let packed = [0, 0, 255, 7, 0, 255, 0, 8, 255, 0, 0, 10, 255, 255, 255, 11];
        assert_eq!(Pixels::from_values(packed, Layout::Bgra8, [2, 2]).unwrap(), whole);
        let short = Pixels::new(&bgra[..17], Layout::Bgra8, [2, 2], 10).unwrap_err();
        assert_eq!(short.to_string(), "2x2 pixels: with a stride of 10 take 18 bytes, and there are 17");
    }

    /// Kr = 0.299 and Kb = 0.114 (ITU-R BT.601-7, section 2.5), narrow range, in f64.
    fn reference([y, u, v]: [u8; 3]) -> [f64; 3] {
        let (kr, kb) = (0.299, 0.114);
        let y = (f64::from(y) - 16.0) / 219.0;
        let [u, v] = [u, v].map(|value| (f64::from(value) - 128.0) / 224.0);
        let (r, b) = (y + 2.0 * (1.0 - kr) * v, y + 2.0 * (1.0 - kb) * u);
        let g = (y - kr * r - kb * b) / (1.0 - kr - kb);
        [r, g, b].map(|value| (255.0 * value).clamp(0.0, 255.0))
    }

    #[test]
    fn nv12_gives_the_colours_of_bt_601() {
        let mut worst = 0.0f64;
        for at in 0..64u32 * 64 * 64 {
            let yuv = [at, at >> 6, at >> 12].map(|value| (value % 64 * 255 / 63) as u8);
            let found = Pixels::nv12([&yuv[..1], &yuv[1..]], [1, 1], [1, 2]).unwrap();
            let gaps =
                found.0.as_raw().iter().zip(reference(yuv)).map(|(&found, exact)| (f64::from(found) - exact).abs());
            worst = gaps.fold(worst, f64::max);
        }
        println!("farthest from the formula in f64: {worst:.3} of 255");
        assert!(worst < 1.6, "{worst}");
        // The colour bars of the standard.
        for (yuv, rgb) in [([81, 90, 240], [255, 0, 0]), ([145, 54, 34], [0, 255, 0]), ([41, 240, 110], [0, 0, 255])] {
            let found = Pixels::nv12([&yuv[..1], &yuv[1..]], [1, 1], [1, 2]).unwrap();
            let near = found.0.as_raw().iter().zip(rgb).all(|(&found, meant)| found.abs_diff(meant) <= 2);
            assert!(near, "{:?} {rgb:?}", found.0.as_raw());
        }
    }

    #[test]
    fn four_pixels_share_a_pair_and_odd_sides_have_half_a_one() {
        // 3 x 3, rows of 5 and 6 bytes: a red pair, a blue one, a green one and a grey one.
        let luma = [81, 81, 41, 0, 0, 81, 81, 41, 0, 0, 145, 145, 126];
        let chroma = [90, 240, 240, 110, 0, 0, 54, 34, 128, 128];
        let found = Pixels::nv12([&luma, &chroma], [3, 3], [5, 6]).unwrap();
        let at = |x, y| found.0.get_pixel(x, y).0.map(|value| value > 127);
        for (x, y) in [(0, 0), (1, 0), (0, 1), (1, 1)] {
            assert_eq!(at(x, y), [true, false, false], "red at {x}, {y}");
        }
        assert_eq!([at(2, 0), at(2, 1)], [[false, false, true]; 2]);
        assert_eq!([at(0, 2), at(1, 2)], [[false, true, false]; 2]);
        assert_eq!(found.0.get_pixel(2, 2).0, [128; 3]);
    }

    #[test]
    fn nv12_that_cannot_be_is_refused_with_its_plane() {
        let refusal = |planes: [usize; 2], size, strides| {
            let [luma, chroma] = planes.map(|len| vec![0; len]);
            let error = Pixels::nv12([&luma, &chroma], size, strides).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Image);
            error.to_string()
        };
        for (planes, size, strides, words) in [
            ([16, 8], [0, 4], [4, 4], "0x4 pixels: are none"),
            ([16, 8], [70_000, 4], [4, 4], "above the limit"),
            ([16, 8], [4, 4], [3, 4], "4x4 pixels, brightness of NV12: have rows of 4 bytes"),
            ([15, 8], [4, 4], [4, 4], "brightness of NV12: with a stride of 4 take 16 bytes, and there are 15"),
            ([16, 7], [4, 4], [4, 4], "colour of NV12: with a stride of 4 take 8 bytes, and there are 7"),
            ([9, 8], [3, 3], [3, 3], "colour of NV12: have rows of 4 bytes (NV12), more than the stride of 3"),
            ([16, 8], [4, 4], [usize::MAX, 4], "take more than there can be bytes"),
        ] {
            let said = refusal(planes, size, strides);
            assert!(said.contains(words), "{said}");
        }
    }
}
