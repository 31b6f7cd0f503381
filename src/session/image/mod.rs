//! One photo: read within limits, turned upright, resized, cut to the input's size, normalized.

use core::error::Error as _;
use std::fs::File;
use std::io::{self, Cursor, Read};
use std::path::Path;

use fast_image_resize::images::{TypedImage, TypedImageRef};
use fast_image_resize::pixels::U8x3;
use fast_image_resize::{FilterType, ResizeAlg, ResizeOptions, Resizer};
use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageError, ImageFormat, ImageReader, Limits, Rgb, RgbImage, Rgba, imageops};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use super::dataset::stream;
use crate::bundle::{Fit, Preprocess};
use crate::error::{Error, ErrorKind, Result};
use crate::limits::{
    MOST_CHUNK_BYTES, MOST_HEAD_BYTES, MOST_PHOTO_BYTES, MOST_PHOTO_SIDE, MOST_PIXELS, PHOTO_EXPANSION, SMALL_PHOTO,
};

/// The input's share of the resized photo, before the rest is cut off.
const CENTRE: f64 = 0.875;

/// Names the random crop and flip of one photo in one epoch; the same names give the same pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Augment {
    /// The lesson's seed.
    pub seed: u64,
    /// The epoch, from 0.
    pub epoch: u64,
    /// The photo's index in the data set.
    pub index: u64,
}

/// Reads a photo and prepares it: 3 x height x width values, row-major.
///
/// Without `augment`: for [`Fit::Crop`], resized so that both sides cover round(side / 0.875) and one equals it, then the
/// centre; for [`Fit::Stretch`], resized to the input. With it: the cut is at a random place (for `Stretch`, out of a photo
/// stretched to round(side / 0.875)), and every second photo is mirrored. The filter is bilinear with antialiasing, as
/// Pillow's. Channels of 16 bits are rounded to 8, transparent parts are laid on white, EXIF orientation is applied.
///
/// Memory for a moment: the file, and per pixel 3 bytes for a JPEG (up to 9 if it is progressive), 3 to 12 for a PNG.
///
/// # Errors
/// Kind `Image` where the file cannot be read, is empty, is no JPEG or PNG, is truncated or damaged, or is larger than 64
/// megapixels, 65535 pixels a side or 512 MiB; or where it is a decompression bomb: it would take more than 48 times the file
/// to decode, or more than 48 MiB where the file is smaller than 1 MiB.
pub fn load(path: &Path, preprocess: &Preprocess, augment: Option<Augment>) -> Result<Vec<f32>> {
    let fault = |message: String| Error::new(ErrorKind::Image, path.display(), message);
    let bytes = read(path).map_err(fault)?;
    let (photo, orientation) = decode(&bytes).map_err(fault)?;
    let input = fit(&photo, orientation, preprocess, augment).map_err(fault)?;
    Ok(preprocess.normalize(input.as_raw()))
}

/// Bytes that [`load`] takes for a moment to decode the photo: its file, its pixels, and what a progressive JPEG keeps of them
/// until its last pass. `None` where it cannot be read.
pub(super) fn footprint(path: &Path) -> Option<u64> {
    let mut head = Vec::new();
    // Asked before opening: opening a pipe would wait for its other end.
    let file = Some(path).filter(|path| path.is_file()).and_then(|path| File::open(path).ok())?;
    let len = file.metadata().ok()?.len();
    file.take(MOST_HEAD_BYTES).read_to_end(&mut head).ok()?;
    let format = image::guess_format(&head).ok()?;
    let decoder = ImageReader::with_format(Cursor::new(&head), format).into_decoder().ok()?;
    Some(len + taken(&decoder, format, &head))
}

/// Bytes that decoding takes at once beside the file itself.
fn taken(decoder: &impl ImageDecoder, format: ImageFormat, file: &[u8]) -> u64 {
    let (width, height) = decoder.dimensions();
    let pixels = u64::from(width) * u64::from(height);
    // Start of frame 2: the coefficients of all pixels, 2 bytes each, wait for the last scan.
    let progressive = format == ImageFormat::Jpeg && file.windows(2).any(|pair| pair == [0xff, 0xc2]);
    let copy = match decoder.color_type() {
        image::ColorType::Rgb8 => 0,
        // First as four channels of 8 bits, then laid on white.
        image::ColorType::Rgba16 | image::ColorType::La16 | image::ColorType::La8 => 4 * pixels,
        _ => 3 * pixels,
    };
    decoder.total_bytes() + copy.max(if progressive { 6 * pixels } else { 0 })
}

/// Pixels of a photo as it is stored. `None` where it cannot be read.
pub(super) fn pixels(path: &Path) -> Option<u64> {
    let (width, height) = ImageReader::open(path).ok()?.with_guessed_format().ok()?.into_dimensions().ok()?;
    Some(u64::from(width) * u64::from(height))
}

/// What is wrong with a photo, in plain words.
type Plain<T> = core::result::Result<T, String>;

fn read(path: &Path) -> Plain<Vec<u8>> {
    let fault = |e: io::Error| format!("cannot be read: {e}");
    // Asked before opening: opening a pipe would wait for its other end.
    let about = path.metadata().map_err(fault)?;
    if !about.is_file() {
        return Err("is not a file".to_string());
    }
    let mut bytes = Vec::new();
    File::open(path).map_err(fault)?.take(MOST_PHOTO_BYTES + 1).read_to_end(&mut bytes).map_err(fault)?;
    match bytes.len() as u64 {
        0 => Err("is empty".to_string()),
        len if len > MOST_PHOTO_BYTES => Err(format!("is larger than {} MiB", MOST_PHOTO_BYTES >> 20)),
        _ => Ok(bytes),
    }
}

/// The pixels as stored, and how the camera was held.
fn decode(bytes: &[u8]) -> Plain<(RgbImage, Orientation)> {
    let format = match image::guess_format(bytes) {
        Ok(format @ (ImageFormat::Jpeg | ImageFormat::Png)) => format,
        Ok(other) => return Err(format!("is not a JPEG or PNG image; its content looks like {other:?}")),
        Err(_) => return Err("is not a JPEG or PNG image".to_string()),
    };
    let fault = |e| explain(&e, bytes.len());
    let mut limits = Limits::no_limits();
    limits.max_alloc = Some(MOST_CHUNK_BYTES);
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    reader.limits(limits);
    let mut decoder = reader.into_decoder().map_err(fault)?;
    let (width, height) = decoder.dimensions();
    if width.max(height) > MOST_PHOTO_SIDE || u64::from(width) * u64::from(height) > MOST_PIXELS {
        let megapixels = MOST_PIXELS / 1_000_000;
        let limit = format!("the limit of {megapixels} megapixels and {MOST_PHOTO_SIDE} pixels a side");
        return Err(format!("has {width}x{height} pixels, above {limit}"));
    }
    let rows = if format == ImageFormat::Jpeg { JPEG_ROW_BYTES * u64::from(width) } else { 0 };
    let taken = taken(&decoder, format, bytes) + rows;
    if is_bomb(taken, bytes.len() as u64) {
        let [decoded, times] = [taken >> 20, taken / bytes.len() as u64];
        return Err(format!("looks like a decompression bomb: it would take {decoded} MiB, {times} times its size"));
    }
    if format == ImageFormat::Jpeg && !reaches_end(bytes) {
        return Err(truncated(bytes.len()));
    }
    let orientation = decoder.orientation().map_err(fault)?;
    let photo = DynamicImage::from_decoder(decoder).map_err(fault)?;
    Ok((opaque(photo), orientation))
}

/// What a JPEG's decoder holds, at most, for each pixel of the width: coefficients of 8 x 4 rows of 4 components, 2 bytes each, as they
/// are stored and spread out.
const JPEG_ROW_BYTES: u64 = 8 * 4 * 4 * 2 * 2;

/// Whether a file of `len` bytes takes `decoded` bytes that no camera would have packed into it.
fn is_bomb(decoded: u64, len: u64) -> bool {
    decoded > PHOTO_EXPANSION.saturating_mul(len.max(SMALL_PHOTO))
}

/// Whether a JPEG goes on to its end marker; its decoder would fill what is missing with grey and say nothing.
fn reaches_end(jpeg: &[u8]) -> bool {
    let mut rest = jpeg.get(2..).unwrap_or_default();
    loop {
        // Inside a scan FF 00 is a data byte and FF D0..D7 are restart marks; before a marker FF may be repeated.
        let is_marker = |pair: &[u8]| matches!(pair, [0xff, 0x01..=0xcf | 0xd8..=0xfe]);
        let Some(at) = rest.windows(2).position(is_marker) else { return false };
        match &rest[at + 1..] {
            [0xd9, ..] => return true,
            [0x01 | 0xd8, after @ ..] => rest = after,
            [_, high, low, ..] => {
                let segment = usize::from(u16::from_be_bytes([*high, *low]));
                rest = rest.get(at + 2 + segment..).unwrap_or_default();
            }
            _ => return false,
        }
    }
}

fn truncated(len: usize) -> String {
    format!("is truncated: the picture is not complete when the file ends, after {len} bytes")
}

fn explain(error: &ImageError, len: usize) -> String {
    match error {
        ImageError::IoError(e) if e.kind() == io::ErrorKind::UnexpectedEof => truncated(len),
        ImageError::Limits(e) => format!("asks for too much memory: {e}"),
        ImageError::Unsupported(e) => format!("is of a form that is not supported: {e}"),
        _ => {
            // The JPEG decoder quotes and escapes its words.
            let words = error.source().unwrap_or(error).to_string();
            format!("is damaged: {}", words.trim().trim_matches('"').trim_end_matches("\\n"))
        }
    }
}

/// RGB with 8 bits a channel; transparent parts are laid on white, by the stored values: c' = (c a + 255 (255 - a)) / 255.
fn opaque(photo: DynamicImage) -> RgbImage {
    if !photo.color().has_alpha() {
        return photo.into_rgb8();
    }
    let photo = photo.into_rgba8();
    let mut result = RgbImage::new(photo.width(), photo.height());
    for (to, &Rgba([r, g, b, a])) in result.pixels_mut().zip(photo.pixels()) {
        let white = 255 * (255 - u32::from(a));
        *to = Rgb([r, g, b].map(|c| ((u32::from(c) * u32::from(a) + white + 127) / 255) as u8));
    }
    result
}

/// One axis of the cut: `len` pixels from `start`, out of a photo resized to `whole`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Span {
    whole: u32,
    start: u32,
    len: u32,
}

impl Span {
    fn mirrored(self) -> Span {
        Span { start: self.whole - self.len - self.start, ..self }
    }

    /// (first, length) in pixels of a photo with `source` pixels on this axis. Rounded to 1/65536, so that first + length
    /// is exact and cannot pass the border.
    fn within(self, source: u32) -> (f64, f64) {
        let place = |at: u32| (f64::from(at) * f64::from(source) / f64::from(self.whole) * 65536.0).round() / 65536.0;
        (place(self.start), place(self.start + self.len) - place(self.start))
    }
}

/// Resizes, cuts and turns: exactly the wanted part is computed, and the small result is turned, not the large photo.
fn fit(
    photo: &RgbImage,
    orientation: Orientation,
    preprocess: &Preprocess,
    augment: Option<Augment>,
) -> Plain<RgbImage> {
    let (turned, mirrored) = stored(orientation);
    let mut size = [photo.width(), photo.height()];
    if turned {
        size.swap(0, 1);
    }
    let mut random = augment.map(|Augment { seed, epoch, index }| stream(*b"augment ", [seed, epoch, index]));
    let mut spans = cut(size, preprocess, &mut random);
    let flip = random.is_some_and(|mut random| random.random());
    if turned {
        spans.swap(0, 1);
    }
    for (span, mirrored) in spans.iter_mut().zip(mirrored) {
        if mirrored {
            *span = span.mirrored();
        }
    }
    let mut input = DynamicImage::ImageRgb8(resize(photo, spans)?);
    input.apply_orientation(orientation);
    let mut input = input.into_rgb8();
    if flip {
        imageops::flip_horizontal_in_place(&mut input);
    }
    Ok(input)
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

/// The cut of an upright photo of `size` (width, height): at a random place, or the centre.
fn cut(size: [u32; 2], preprocess: &Preprocess, random: &mut Option<ChaCha8Rng>) -> [Span; 2] {
    let input = [preprocess.width as u32, preprocess.height as u32];
    let covered = input.map(|side| (f64::from(side) / CENTRE).round());
    let scale = f64::max(covered[0] / f64::from(size[0]), covered[1] / f64::from(size[1]));
    core::array::from_fn(|axis| {
        let len = input[axis];
        // A tie goes to the even neighbour, as in Python's round(), so that a training script there has the same cut.
        let scaled = || (f64::from(size[axis]) * scale).round_ties_even() as u32;
        let whole = match preprocess.fit {
            Fit::Crop => scaled().max(len),
            Fit::Stretch if random.is_some() => covered[axis] as u32,
            Fit::Stretch => len,
        };
        let slack = whole - len;
        let start = random.as_mut().map_or(slack / 2, |random| random.random_range(0..=slack));
        Span { whole, start, len }
    })
}

/// The type of a pixel is known here: asked for at run time, the kernels of all thirteen would be in the binary, 3 MB of them.
fn resize(photo: &RgbImage, [x, y]: [Span; 2]) -> Plain<RgbImage> {
    let fault = |e: &dyn core::fmt::Display| format!("cannot be resized: {e}");
    let source =
        TypedImageRef::<U8x3>::from_buffer(photo.width(), photo.height(), photo.as_raw()).map_err(|e| fault(&e))?;
    let mut result = RgbImage::new(x.len, y.len);
    let mut target = TypedImage::<U8x3>::from_buffer(x.len, y.len, &mut result).map_err(|e| fault(&e))?;
    let ((left, width), (top, height)) = (x.within(photo.width()), y.within(photo.height()));
    let options =
        ResizeOptions::new().resize_alg(ResizeAlg::Convolution(FilterType::Bilinear)).crop(left, top, width, height);
    Resizer::new().resize_typed(&source, &mut target, &options).map_err(|e| fault(&e))?;
    Ok(result)
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;
    use std::{fs, println, vec};

    use image::codecs::jpeg::JpegEncoder;
    use image::codecs::png::PngEncoder;
    use image::{GrayImage, ImageEncoder, Luma};
    use tempfile::TempDir;

    use super::*;

    /// The picture that the expected values below were computed from.
    fn picture(width: u32, height: u32) -> RgbImage {
        RgbImage::from_fn(width, height, |x, y| {
            Rgb([(5 * x + 3 * y) as u8, (x * x + 2 * y * y) as u8, if (x / 9 + y / 7) % 2 == 1 { 255 } else { 0 }])
        })
    }

    /// Values are the bytes themselves.
    fn plain(height: usize, width: usize, fit: Fit) -> Preprocess {
        Preprocess { height, width, fit, range: 255.0, ..Preprocess::default() }
    }

    struct Folder(TempDir);

    impl Folder {
        fn new() -> Self {
            Folder(TempDir::new().unwrap())
        }

        fn file(&self, name: &str, bytes: &[u8]) -> PathBuf {
            let path = self.0.path().join(name);
            fs::write(&path, bytes).unwrap();
            path
        }

        fn png(&self, photo: impl Into<DynamicImage>) -> PathBuf {
            self.file("photo.png", &encode(photo, ImageFormat::Png))
        }
    }

    fn encode(photo: impl Into<DynamicImage>, format: ImageFormat) -> Vec<u8> {
        let mut bytes = Cursor::new(Vec::new());
        photo.into().write_to(&mut bytes, format).unwrap();
        bytes.into_inner()
    }

    fn unhex(hex: &str) -> Vec<u8> {
        hex.as_bytes().chunks(2).map(|pair| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
    }

    #[track_caller]
    fn assert_near(ours: &[f32], theirs: &[f32], tolerance: f32) {
        assert_eq!(ours.len(), theirs.len());
        let worst = ours.iter().zip(theirs).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        println!("largest difference {worst} of 255");
        assert!(worst <= tolerance, "{worst}: {ours:?} against {theirs:?}");
    }

    /// From Pillow 13.0 and numpy: `picture` as in Rust, in uint8, with `y, x = np.mgrid[:height, :width]`; then
    ///
    ///     s = max(round(h / .875) / im.height, round(w / .875) / im.width)
    ///     im = im.resize((max(w, round(im.width * s)), max(h, round(im.height * s))), Image.BILINEAR)
    ///     l, t = (im.width - w) // 2, (im.height - h) // 2
    ///     np.asarray(im.crop((l, t, l + w, t + h))).transpose(2, 0, 1)
    ///
    /// and for the last case `im.resize((w, h), Image.BILINEAR)`.
    #[test]
    fn crop_and_stretch_give_the_pixels_of_pillow() {
        let cases: [((u32, u32), Preprocess, &[f32]); 4] = [
            (
                (40, 31),
                plain(5, 5, Fit::Crop),
                &[
                    43.0, 68.0, 93.0, 118.0, 143.0, 57.0, 82.0, 107.0, 132.0, 157.0, 72.0, 97.0, 122.0, 147.0, 172.0,
                    88.0, 113.0, 138.0, 163.0, 188.0, 103.0, 128.0, 153.0, 178.0, 203.0, 72.0, 149.0, 106.0, 131.0,
                    129.0, 137.0, 133.0, 123.0, 120.0, 123.0, 122.0, 125.0, 122.0, 119.0, 127.0, 126.0, 117.0, 124.0,
                    126.0, 127.0, 129.0, 122.0, 120.0, 119.0, 134.0, 62.0, 242.0, 152.0, 3.0, 152.0, 146.0, 95.0,
                    120.0, 163.0, 120.0, 152.0, 83.0, 118.0, 175.0, 118.0, 76.0, 218.0, 147.0, 29.0, 147.0, 173.0,
                    47.0, 110.0, 214.0, 110.0,
                ],
            ),
            (
                (29, 53),
                plain(4, 6, Fit::Crop),
                &[
                    64.0, 82.0, 103.0, 124.0, 145.0, 166.0, 76.0, 94.0, 115.0, 136.0, 157.0, 178.0, 88.0, 106.0, 127.0,
                    148.0, 169.0, 190.0, 100.0, 118.0, 139.0, 160.0, 181.0, 202.0, 114.0, 126.0, 121.0, 117.0, 126.0,
                    127.0, 131.0, 136.0, 121.0, 121.0, 118.0, 117.0, 131.0, 131.0, 128.0, 121.0, 125.0, 122.0, 83.0,
                    111.0, 136.0, 122.0, 127.0, 126.0, 14.0, 26.0, 190.0, 239.0, 93.0, 14.0, 202.0, 194.0, 86.0, 54.0,
                    150.0, 202.0, 206.0, 198.0, 84.0, 51.0, 151.0, 206.0, 15.0, 27.0, 190.0, 238.0, 94.0, 15.0,
                ],
            ),
            (
                (3, 4),
                plain(5, 5, Fit::Crop),
                &[
                    1.0, 2.0, 5.0, 7.0, 10.0, 2.0, 3.0, 6.0, 8.0, 11.0, 4.0, 5.0, 8.0, 10.0, 13.0, 5.0, 6.0, 9.0, 11.0,
                    14.0, 7.0, 8.0, 11.0, 13.0, 16.0, 1.0, 1.0, 2.0, 3.0, 4.0, 2.0, 2.0, 3.0, 4.0, 5.0, 4.0, 4.0, 5.0,
                    6.0, 7.0, 7.0, 7.0, 8.0, 9.0, 10.0, 11.0, 11.0, 12.0, 13.0, 14.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0,
                    0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0,
                ],
            ),
            (
                (40, 31),
                plain(4, 6, Fit::Stretch),
                &[
                    29.0, 60.0, 93.0, 126.0, 160.0, 190.0, 50.0, 81.0, 114.0, 147.0, 181.0, 211.0, 74.0, 105.0, 138.0,
                    171.0, 205.0, 216.0, 95.0, 126.0, 159.0, 192.0, 220.0, 124.0, 64.0, 124.0, 122.0, 125.0, 124.0,
                    123.0, 127.0, 127.0, 123.0, 122.0, 121.0, 123.0, 125.0, 123.0, 121.0, 126.0, 123.0, 123.0, 123.0,
                    126.0, 122.0, 126.0, 129.0, 126.0, 53.0, 149.0, 155.0, 70.0, 180.0, 122.0, 172.0, 115.0, 111.0,
                    162.0, 96.0, 131.0, 92.0, 138.0, 141.0, 100.0, 153.0, 125.0, 170.0, 115.0, 112.0, 160.0, 98.0,
                    131.0,
                ],
            ),
        ];
        let folder = Folder::new();
        for ((width, height), preprocess, pillow) in cases {
            let path = folder.png(picture(width, height));
            assert_near(&load(&path, &preprocess, None).unwrap(), pillow, 1.0);
        }
    }

    #[test]
    fn every_bad_file_is_refused_in_plain_words() {
        let folder = Folder::new();
        let jpeg = encode(picture(64, 48), ImageFormat::Jpeg);
        let png = encode(picture(64, 48), ImageFormat::Png);
        // A PNG header that is right in every respect, for 60000 x 60000 pixels; then the data of the small picture.
        let header = unhex("89504e470d0a1a0a0000000d494844520000ea600000ea6008020000000fb0e215");
        let bomb = [&header[..], &png[header.len()..]].concat();
        let mut tall = jpeg.clone();
        let frame = tall.windows(2).position(|pair| pair == [0xff, 0xc0]).unwrap();
        tall[frame + 5..frame + 9].fill(0xff);
        let mut damaged = png.clone();
        damaged[png.len() / 2] ^= 0x55;
        let mut noise = b"\xff\xd8\xff\xe0".to_vec();
        noise.extend((0..999u32).map(|i| (i * i % 251) as u8));
        let cases: [(&str, &[u8], &str); 12] = [
            ("empty.jpg", b"", "is empty"),
            ("text.jpg", b"no photo, only words", "is not a JPEG or PNG image"),
            ("picture.png", b"GIF89a\x01\x00\x01\x00", "is not a JPEG or PNG image; its content looks like Gif"),
            ("half.jpg", &jpeg[..jpeg.len() / 2], "is truncated"),
            ("almost.jpg", &jpeg[..jpeg.len() - 2], "is truncated"),
            ("header.jpg", &jpeg[..20], "is damaged"),
            ("half.png", &png[..png.len() / 2], "is truncated"),
            ("damaged.png", &damaged, "is damaged"),
            ("noise.jpg", &noise, "is damaged: Found a marker with invalid length"),
            ("header.png", &header, "is truncated"),
            ("bomb.png", &bomb, "has 60000x60000 pixels, above the limit of 64 megapixels"),
            ("tall.jpg", &tall, "has 65535x65535 pixels, above the limit of 64 megapixels"),
        ];
        for (name, bytes, words) in cases {
            let error = load(&folder.file(name, bytes), &Preprocess::default(), None).unwrap_err();
            println!("{}: {}", name, error.message());
            assert_eq!(error.kind(), ErrorKind::Image);
            assert!(error.subject().ends_with(name) && error.message().starts_with(words), "{error}");
        }
    }

    #[test]
    fn what_is_no_file_is_refused() {
        let folder = Folder::new();
        fs::create_dir(folder.0.path().join("folder.jpg")).unwrap();
        for (name, words) in [("folder.jpg", "is not a file"), ("missing.jpg", "cannot be read")] {
            let error = load(&folder.0.path().join(name), &Preprocess::default(), None).unwrap_err();
            assert!(error.kind() == ErrorKind::Image && error.message().starts_with(words), "{error}");
        }
    }

    #[test]
    fn every_truncation_is_noticed_and_what_follows_the_end_is_not() {
        let folder = Folder::new();
        // A PNG ends with 12 bytes of end mark and 4 of checksum; without them its pixels are complete.
        for (format, tail) in [(ImageFormat::Jpeg, 0), (ImageFormat::Png, 16)] {
            let bytes = encode(picture(40, 31), format);
            let whole = load(&folder.file("whole.jpg", &bytes), &Preprocess::default(), None).unwrap();
            for len in 1..bytes.len() {
                let cut = load(&folder.file("cut.jpg", &bytes[..len]), &Preprocess::default(), None);
                assert!(
                    cut.is_err() || (len >= bytes.len() - tail && cut.unwrap() == whole),
                    "{format:?}, {len} bytes"
                );
            }
            let followed = [&bytes[..], b"a short film that the camera keeps with the photo"].concat();
            assert_eq!(load(&folder.file("followed.jpg", &followed), &Preprocess::default(), None).unwrap(), whole);
        }
    }

    #[test]
    fn the_content_decides_and_not_the_suffix() {
        let folder = Folder::new();
        let png = encode(picture(40, 31), ImageFormat::Png);
        let [a, b] =
            ["a.png", "b.JPEG"].map(|name| load(&folder.file(name, &png), &Preprocess::default(), None).unwrap());
        assert_eq!(a, b);
    }

    /// The value of a photo of one colour.
    #[track_caller]
    fn colour(bytes: &[u8]) -> [f32; 3] {
        let values = load(&Folder::new().file("photo", bytes), &plain(1, 1, Fit::Stretch), None).unwrap();
        values.try_into().unwrap()
    }

    #[test]
    fn every_colour_type_becomes_rgb_with_transparent_parts_on_white() {
        let png = |photo: DynamicImage| colour(&encode(photo, ImageFormat::Png));
        let grey = GrayImage::from_pixel(4, 4, Luma([90]));
        assert_eq!(png(grey.clone().into()), [90.0; 3]);
        assert_eq!(colour(&encode(grey, ImageFormat::Jpeg)), [90.0; 3]);
        let deep = image::ImageBuffer::from_pixel(4, 4, Rgb([0x80ff_u16, 0x0000, 0xffff]));
        // round(0x80ff / 257) = round(128.49)
        assert_eq!(png(DynamicImage::ImageRgb16(deep)), [128.0, 0.0, 255.0]);
        let deep_grey = image::ImageBuffer::from_pixel(4, 4, Luma([0x3232_u16]));
        assert_eq!(png(DynamicImage::ImageLuma16(deep_grey)), [50.0; 3]);
        let half = image::RgbaImage::from_pixel(4, 4, Rgba([200, 100, 0, 51]));
        // a = 0.2: 0.2 * 200 + 0.8 * 255 = 244, ...
        assert_eq!(png(half.into()), [244.0, 224.0, 204.0]);
        let grey_alpha = image::ImageBuffer::from_pixel(4, 4, image::LumaA([0_u8, 0]));
        assert_eq!(png(DynamicImage::ImageLumaA8(grey_alpha)), [255.0; 3]);
        let deep_alpha = image::ImageBuffer::from_pixel(4, 4, Rgba([0_u16, 0, 0xffff, 0xffff]));
        assert_eq!(png(DynamicImage::ImageRgba16(deep_alpha)), [0.0, 0.0, 255.0]);
    }

    #[test]
    fn palettes_single_bits_and_cmyk_are_read() {
        // All three written by Pillow. 2 x 2 palette, [[0, 1], [1, 0]]: 0 is (200, 100, 50), 1 is transparent.
        let palette = unhex(
            "89504e470d0a1a0a0000000d494844520000000200000002010300000048789f6700000006504c5445c864320a141eb77aab51\
             0000000274524e53ff00e5b7304a0000000c49444154789c6370607200000108008318868bce0000000049454e44ae426082",
        );
        let [white, first] = [[255.0; 3], [200.0, 100.0, 50.0]];
        let values = load(&Folder::new().file("photo", &palette), &plain(2, 2, Fit::Stretch), None).unwrap();
        let expected: Vec<f32> = (0..3).flat_map(|c| [first[c], white[c], white[c], first[c]]).collect();
        assert_eq!(values, expected);
        // 2 x 1, black and white.
        let bits = unhex(
            "89504e470d0a1a0a0000000d4948445200000002000000010100000000dc5942270000000a49444154789c63700000004200412937f4ef\
             0000000049454e44ae426082",
        );
        let values = load(&Folder::new().file("photo", &bits), &plain(1, 2, Fit::Stretch), None).unwrap();
        assert_eq!(values, [0.0, 255.0, 0.0, 255.0, 0.0, 255.0]);
        // 8 x 8 of CMYK (200, 30, 60, 40), which Pillow makes RGB (46, 190, 164).
        let cmyk = unhex(
            "ffd8ffee000e41646f626500640000000000ffdb0043000201010101010201010102020202020403020202020504040304060506060605\
             060606070908060709070606080b08090a0a0a0a0a06080b0c0b0a0c090a0a0affc000140800080008044311004d11005911004b1100ff\
             c40014000100000000000000000000000000000009ffc40014100100000000000000000000000000000000ffda000e0443004d0059004b\
             00003f0036cc210c2b8fffd9",
        );
        assert_near(&colour(&cmyk), &[46.0, 190.0, 164.0], 2.0);
    }

    /// An EXIF block that says nothing but the orientation.
    fn exif(orientation: u8) -> Vec<u8> {
        let mut block = b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0".to_vec();
        block.extend([orientation, 0, 0, 0, 0, 0, 0, 0]);
        block
    }

    /// `upright` as a camera stores it that says `orientation`: the EXIF standard names, for each of them, the side of the
    /// upright picture where the stored row 0 and the stored column 0 are.
    fn held(upright: &RgbImage, orientation: u8) -> RgbImage {
        let (w, h) = upright.dimensions();
        let size = if orientation < 5 { (w, h) } else { (h, w) };
        RgbImage::from_fn(size.0, size.1, |column, row| {
            let (x, y) = match orientation {
                1 => (column, row),                 // row 0 top, column 0 left
                2 => (w - 1 - column, row),         // top, right
                3 => (w - 1 - column, h - 1 - row), // bottom, right
                4 => (column, h - 1 - row),         // bottom, left
                5 => (row, column),                 // left, top
                6 => (w - 1 - row, column),         // right, top
                7 => (w - 1 - row, h - 1 - column), // right, bottom
                _ => (row, h - 1 - column),         // left, bottom
            };
            *upright.get_pixel(x, y)
        })
    }

    #[test]
    fn a_photo_is_the_same_however_the_camera_was_held() {
        let folder = Folder::new();
        let upright = picture(40, 31);
        for fit in [Fit::Crop, Fit::Stretch] {
            for augment in [None, Some(Augment { seed: 1, epoch: 2, index: 3 })] {
                let preprocess = plain(9, 14, fit);
                let expected = load(&folder.png(upright.clone()), &preprocess, augment).unwrap();
                for orientation in 1..=8 {
                    let mut bytes = Vec::new();
                    let mut encoder = PngEncoder::new(&mut bytes);
                    encoder.set_exif_metadata(exif(orientation)).unwrap();
                    held(&upright, orientation).write_with_encoder(encoder).unwrap();
                    let turned = load(&folder.file("held.png", &bytes), &preprocess, augment).unwrap();
                    assert_near(&turned, &expected, 1.0);
                }
            }
        }
    }

    #[test]
    fn the_orientation_of_a_jpeg_is_applied() {
        let upright = RgbImage::from_fn(32, 16, |x, _| if x < 16 { Rgb([250, 0, 0]) } else { Rgb([0, 0, 250]) });
        let mut bytes = Vec::new();
        let mut encoder = JpegEncoder::new_with_quality(&mut bytes, 100);
        encoder.set_exif_metadata(exif(6)).unwrap();
        held(&upright, 6).write_with_encoder(encoder).unwrap();
        let values = load(&Folder::new().file("held.jpg", &bytes), &plain(1, 2, Fit::Stretch), None).unwrap();
        assert!(values[0] > 200.0 && values[1] < 50.0 && values[4] < 50.0 && values[5] > 200.0, "{values:?}");
    }

    #[test]
    fn a_random_cut_depends_on_seed_epoch_and_index_and_on_nothing_else() {
        let path = Folder::new();
        let path = (path.png(picture(80, 60)), path);
        for fit in [Fit::Crop, Fit::Stretch] {
            let cut =
                |seed, epoch, index| load(&path.0, &plain(28, 28, fit), Some(Augment { seed, epoch, index })).unwrap();
            assert_eq!(cut(1, 2, 3), cut(1, 2, 3));
            for other in [cut(2, 2, 3), cut(1, 3, 3), cut(1, 2, 4), cut(3, 2, 1)] {
                assert_ne!(cut(1, 2, 3), other);
            }
        }
    }

    #[test]
    fn random_cuts_reach_every_place_and_mirror_every_second_photo() {
        let preprocess = plain(28, 28, Fit::Crop);
        let mut places = [vec![0; 15], vec![0; 5]];
        let mut flips = 0;
        for index in 0..1000 {
            let mut random = Some(stream(*b"augment ", [0, 0, index]));
            let spans = cut([42, 32], &preprocess, &mut random);
            assert_eq!(spans.map(|span| (span.whole, span.len)), [(42, 28), (32, 28)]);
            places[0][spans[0].start as usize] += 1;
            places[1][spans[1].start as usize] += 1;
            flips += u32::from(random.unwrap().random::<bool>());
        }
        println!("{places:?}, {flips} of 1000 mirrored");
        assert!(places.iter().flatten().all(|count| *count > 30), "{places:?}");
        assert!((430..570).contains(&flips), "{flips}");
    }

    #[test]
    fn the_mirror_image_mirrored_is_the_photo() {
        let preprocess = plain(4, 6, Fit::Stretch);
        // The photo is resized to 7 x 5; the mirror image's cut at 1 holds what the photo's cut at 0 holds.
        let index = |place: u32, mirrored: bool| {
            (0..1000).find(|index| {
                let mut random = Some(stream(*b"augment ", [0, 0, *index]));
                let [x, y] = cut([40, 31], &preprocess, &mut random);
                (x.start, y.start) == (place, 0) && random.unwrap().random::<bool>() == mirrored
            })
        };
        let folder = Folder::new();
        let cut_at = |photo: RgbImage, place, mirrored| {
            let index = index(place, mirrored).unwrap();
            load(&folder.png(photo), &preprocess, Some(Augment { seed: 0, epoch: 0, index })).unwrap()
        };
        let photo = cut_at(picture(40, 31), 0, false);
        let back = cut_at(imageops::flip_horizontal(&picture(40, 31)), 1, true);
        assert_near(&back, &photo, 1.0);
        assert_ne!(cut_at(picture(40, 31), 0, true), photo);
    }

    #[test]
    fn decompression_bombs_are_refused_and_large_photos_are_not() {
        let folder = Folder::new();
        let bomb = folder.png(GrayImage::from_pixel(8000, 7900, Luma([77])));
        let error = load(&bomb, &Preprocess::default(), None).unwrap_err();
        println!("{error}");
        assert!(error.kind() == ErrorKind::Image && error.message().contains("decompression bomb"), "{error}");
        // 63 megapixels at half a bit for each, far below what cameras take; a small drawing of one colour; a byte more.
        assert!(!is_bomb(3 * 63_000_000, 63_000_000 / 16));
        assert!(!is_bomb(48 << 20, 1000));
        assert!(is_bomb((48 << 20) + 1, 1000));
        assert!(!is_bomb(96 << 20, 2 << 20) && is_bomb((96 << 20) + 1, 2 << 20));
    }

    #[test]
    fn extreme_shapes_and_single_pixels_are_taken() {
        let folder = Folder::new();
        for (width, height) in [(1, 1), (60_000, 1), (1, 60_000), (1, 2)] {
            let path = folder.png(GrayImage::from_pixel(width, height, Luma([77])));
            for fit in [Fit::Crop, Fit::Stretch] {
                let values = load(&path, &plain(224, 224, fit), None).unwrap();
                assert!(values.iter().all(|v| *v == 77.0), "{width}x{height}");
            }
        }
    }
}
