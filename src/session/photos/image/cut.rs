//! How a photo becomes the input: which part of it, in which scale, turned and mirrored how.

use fast_image_resize::images::{TypedImage, TypedImageRef};
use fast_image_resize::pixels::U8x3;
use fast_image_resize::{FilterType, ResizeAlg, ResizeOptions, Resizer};
use image::metadata::Orientation;
use image::{DynamicImage, RgbImage, imageops};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use super::{Augment, Plain};
use crate::bundle::{Fit, Preprocess};
use crate::session::photos::stream;

/// The input's share of the resized photo, before the rest is cut off.
const CENTRE: f64 = 0.875;
/// An input of this many pixels is shifted by up to one.
const SHIFTED: u32 = 8;
/// A photo that is not decoded whole has, a side, this many times the pixels that it is resized to. 224 x 224 pixels of detailed photos
/// of 12 megapixels are then off by 0.4 of 255 in the mean and by 7 at most; with as many as it is resized to, by 1.5 and by 18.
const MARGIN: u64 = 2;
/// All eighths of a photo.
pub(super) const WHOLE: usize = 8;

/// One axis of the cut: `len` pixels from `start`, out of a photo resized to `whole`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) whole: u32,
    pub(super) start: u32,
    pub(super) len: u32,
}

impl Span {
    fn mirrored(self) -> Span {
        Span { start: self.whole - self.len - self.start, ..self }
    }

    /// (first, length) in pixels of a photo with `source` pixels on this axis. Rounded to 1/65536, so that first + length
    /// is exact and cannot pass the border.
    fn within(self, source: f64) -> (f64, f64) {
        let place = |at: u32| (f64::from(at) * source / f64::from(self.whole) * 65536.0).round() / 65536.0;
        (place(self.start), place(self.start + self.len) - place(self.start))
    }
}

/// The cut of one photo.
#[derive(Debug)]
pub(super) struct Cut {
    /// Of the photo as it is stored.
    size: [u32; 2],
    pub(super) orientation: Orientation,
    /// On its stored axes.
    spans: [Span; 2],
    /// Of the upright input.
    shift: [i32; 2],
    flip: bool,
}

impl Cut {
    /// The cut of a photo that is stored with `size` (width, height) pixels.
    pub(super) fn new(
        size: [u32; 2],
        orientation: Orientation,
        preprocess: &Preprocess,
        augment: Option<Augment>,
    ) -> Self {
        let (turned, mirrored) = stored(orientation);
        let mut random = augment.map(|Augment { seed, epoch, index }| stream(*b"augment ", [seed, epoch, index]));
        let upright = if turned { [size[1], size[0]] } else { size };
        let (mut spans, shift) = place(upright, preprocess, &mut random);
        let flip = random.is_some_and(|mut random| random.random());
        if turned {
            spans.swap(0, 1);
        }
        for (span, mirrored) in spans.iter_mut().zip(mirrored) {
            if mirrored {
                *span = span.mirrored();
            }
        }
        Cut { size, orientation, spans, shift, flip }
    }

    /// The fewest eighths of the photo's size, 1, 2 or 4, that leave [`MARGIN`] times what it is resized to; `None` where only the
    /// whole does.
    pub(super) fn eighths(&self) -> Option<usize> {
        let leave_enough = |eighths: &usize| {
            let axes = self.spans.iter().zip(self.size);
            axes.into_iter()
                .all(|(span, side)| *eighths as u64 * u64::from(side) >= WHOLE as u64 * MARGIN * u64::from(span.whole))
        };
        [1, 2, 4].into_iter().find(leave_enough)
    }

    /// The input, out of a `photo` decoded at so many eighths of its size: exactly the wanted part is computed, and the small result
    /// is turned, not the large photo.
    pub(super) fn of(&self, photo: &RgbImage, eighths: usize) -> Plain<RgbImage> {
        let sides = self.size.map(|side| f64::from(side) * eighths as f64 / WHOLE as f64);
        let mut input = DynamicImage::ImageRgb8(resize(photo, sides, self.spans)?);
        input.apply_orientation(self.orientation);
        let mut input = shifted(input.into_rgb8(), self.shift);
        if self.flip {
            imageops::flip_horizontal_in_place(&mut input);
        }
        Ok(input)
    }
}

/// How an upright photo lies in its file: whether the axes are exchanged, and which of the file's axes run backwards.
fn stored(orientation: Orientation) -> (bool, [bool; 2]) {
    use Orientation::{
        FlipHorizontal, FlipVertical, NoTransforms, Rotate90, Rotate90FlipH, Rotate180, Rotate270, Rotate270FlipH,
    };
    match orientation {
        NoTransforms => (false, [false, false]),
        FlipHorizontal => (false, [true, false]),
        Rotate180 => (false, [true, true]),
        FlipVertical => (false, [false, true]),
        Rotate90FlipH => (true, [false, false]),
        Rotate90 => (true, [false, true]),
        Rotate270FlipH => (true, [true, true]),
        Rotate270 => (true, [true, false]),
    }
}

/// The cut of an upright photo of `size` (width, height), and the shift of what is cut: by chance, or the centre and none.
pub(super) fn place(size: [u32; 2], preprocess: &Preprocess, random: &mut Option<ChaCha8Rng>) -> ([Span; 2], [i32; 2]) {
    let input = [preprocess.width as u32, preprocess.height as u32];
    let covered = input.map(|side| (f64::from(side) / CENTRE).round());
    let scale = f64::max(covered[0] / f64::from(size[0]), covered[1] / f64::from(size[1]));
    let mut shift = [0; 2];
    let spans = core::array::from_fn(|axis| {
        let len = input[axis];
        if preprocess.fit == Fit::Stretch {
            let most = (len / SHIFTED) as i32;
            shift[axis] = random.as_mut().map_or(0, |random| random.random_range(-most..=most));
            return Span { whole: len, start: 0, len };
        }
        // A tie goes to the even neighbour, as in Python's round(), so that a training script there has the same cut.
        let whole = ((f64::from(size[axis]) * scale).round_ties_even() as u32).max(len);
        let slack = whole - len;
        let start = random.as_mut().map_or(slack / 2, |random| random.random_range(0..=slack));
        Span { whole, start, len }
    });
    (spans, shift)
}

/// Moved by `shift`; what comes in is a reflection, without the border itself.
fn shifted(input: RgbImage, shift: [i32; 2]) -> RgbImage {
    if shift == [0, 0] {
        return input;
    }
    let (width, height) = input.dimensions();
    let reflected = |at: u32, by: i32, side: u32| {
        let (at, last) = (i64::from(at) + i64::from(by), i64::from(side) - 1);
        u32::try_from(if at > last { 2 * last - at } else { at.abs() }).unwrap_or(0)
    };
    RgbImage::from_fn(width, height, |x, y| {
        *input.get_pixel(reflected(x, shift[0], width), reflected(y, shift[1], height))
    })
}

/// The type of a pixel is known here: asked for at run time, the kernels of all thirteen would be in the binary, 3 MB of them.
///
/// `sides` are those of the photo, which may end within its last pixels.
fn resize(photo: &RgbImage, sides: [f64; 2], [x, y]: [Span; 2]) -> Plain<RgbImage> {
    let fault = |e: &dyn core::fmt::Display| format!("cannot be resized: {e}");
    let source =
        TypedImageRef::<U8x3>::from_buffer(photo.width(), photo.height(), photo.as_raw()).map_err(|e| fault(&e))?;
    let mut result = RgbImage::new(x.len, y.len);
    let mut target = TypedImage::<U8x3>::from_buffer(x.len, y.len, &mut result).map_err(|e| fault(&e))?;
    let ((left, width), (top, height)) = (x.within(sides[0]), y.within(sides[1]));
    let options =
        ResizeOptions::new().resize_alg(ResizeAlg::Convolution(FilterType::Bilinear)).crop(left, top, width, height);
    Resizer::new().resize_typed(&source, &mut target, &options).map_err(|e| fault(&e))?;
    Ok(result)
}
