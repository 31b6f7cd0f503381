//! One photo: read within limits, turned upright, resized, cut to the input's size, normalized.

mod cut;
mod jpeg;

use core::error::Error as _;
use std::borrow::Cow;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Cursor, Read, Seek};

use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageError, ImageFormat, ImageReader, Limits, Rgb, RgbImage, Rgba};

use sha2::{Digest, Sha256};

use self::cut::{Cut, WHOLE};
use self::jpeg::{Fault, Jpeg};
use super::picture::Picture;
use crate::bundle::Preprocess;
use crate::error::{Error, ErrorKind, Result};
use crate::limits::{
    MOST_CHUNK_BYTES, MOST_HEAD_BYTES, MOST_PHOTO_BYTES, MOST_PHOTO_SIDE, MOST_PIXELS, PHOTO_EXPANSION, SMALL_PHOTO,
};

/// Names the random cut or shift, and flip, of one photo in one epoch; the same names give the same pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Augment {
    /// The lesson's seed.
    pub seed: u64,
    /// The epoch, from 0.
    pub epoch: u64,
    /// The photo's index among those trained on.
    pub index: u64,
}

/// Reads a photo and prepares it: 3 x height x width values, row-major. Pixels in memory give what a file gives that holds them, unless
/// that is a JPEG which is decoded at less than its size.
///
/// Without `augment`: for [`Fit::Crop`](crate::bundle::Fit), resized so that both sides cover round(side / 0.875) and one equals
/// it, then the centre; for `Stretch`, resized to the input. With it, in the same scale: for `Crop`, the cut is at a random place;
/// for `Stretch`, the input is shifted by whole dx and dy from -s to s each, s = floor(side / 8), all equally likely, and what comes
/// in is a reflection: out(x, y) = in(r(x + dx), r(y + dy)), r(i) = |i| up to side - 1, and 2 (side - 1) - i beyond. Then every
/// second photo is mirrored. The filter is bilinear with antialiasing, as Pillow's. Channels of 16 bits are rounded to 8,
/// transparent parts are laid on white, EXIF orientation is applied.
///
/// A JPEG is decoded at 1/2, 1/4 or 1/8 where it then still has twice the pixels that it is resized to, a side: its inverse
/// transform is taken at fewer points. Forms other than 8-bit grey and Y, Cb, Cr in Huffman coding are decoded whole.
///
/// Memory for a moment: for a JPEG at 1/2, 1/4 or 1/8, 3 bytes for a pixel of that size, and if it is progressive, up to 3 times
/// 8 and 2 n^2 bytes for each of its blocks of 8 x 8, n = 4, 2 or 1. For others the file, twice if a JPEG, and per pixel 3 bytes
/// for a JPEG (up to 9 if it is progressive), 3 to 12 for a PNG.
///
/// # Errors
/// Kind `Image` where the file cannot be read, is empty, is no JPEG or PNG, is truncated or damaged, or is larger than 64
/// megapixels, 65535 pixels a side or 512 MiB; or where it is a decompression bomb: it would take more than 48 times the file
/// to decode, or more than 48 MiB where the file is smaller than 1 MiB.
pub fn load(picture: &Picture, preprocess: &Preprocess, augment: Option<Augment>) -> Result<Vec<f32>> {
    let input =
        decoded(picture, preprocess, augment).and_then(|Decoded { photo, cut, eighths }| cut.of(&photo, eighths));
    let input = input.map_err(|message| Error::new(ErrorKind::Image, picture.name(), message))?;
    Ok(preprocess.normalize(input.as_raw()))
}

/// The part of a photo that the network sees, small and as a JPEG, without what the file tells of its place and time: the longer side of
/// the input becomes `side` pixels.
///
/// # Errors
/// As of [`load`].
#[cfg(feature = "cli")]
pub(crate) fn thumbnail(picture: &Picture, preprocess: &Preprocess, side: usize) -> Result<Vec<u8>> {
    let longer = preprocess.width.max(preprocess.height).max(1);
    let scaled = |length: usize| (length * side / longer).max(1);
    let (width, height) = (scaled(preprocess.width), scaled(preprocess.height));
    let small = Preprocess { width, height, ..preprocess.clone() };
    let cut = decoded(picture, &small, None).and_then(|Decoded { photo, cut, eighths }| cut.of(&photo, eighths));
    let mut bytes = Vec::new();
    let encoded = cut.and_then(|photo| {
        let mut encoder = image::codecs::jpeg::JpegEncoder::new_with_quality(&mut bytes, THUMBNAIL_QUALITY);
        encoder.encode_image(&photo).map_err(|e| e.to_string())
    });
    encoded.map_err(|message| Error::new(ErrorKind::Image, picture.name(), message))?;
    Ok(bytes)
}

/// Of a JPEG, in percent: at a size of some hundred pixels less shows blocks, and more only takes more bytes.
#[cfg(feature = "cli")]
const THUMBNAIL_QUALITY: u8 = 72;

/// sha256, in lowercase hex, of what a photo shows: its width and height as it is decoded (u32, little-endian), the number of its EXIF
/// orientation (a byte), and its pixels in RGB. `None` where it cannot be read.
pub(crate) fn pixels_sha256(picture: &Picture, preprocess: &Preprocess) -> Option<String> {
    let Decoded { photo, cut, .. } = decoded(picture, preprocess, None).ok()?;
    let mut hash = Sha256::new();
    hash.update(photo.width().to_le_bytes());
    hash.update(photo.height().to_le_bytes());
    hash.update([cut.orientation.to_exif()]);
    hash.update(photo.as_raw());
    Some(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

/// A photo, decoded.
struct Decoded<'p> {
    photo: Cow<'p, RgbImage>,
    cut: Cut,
    /// Eighths of its size that it was decoded at.
    eighths: usize,
}

fn decoded<'p>(picture: &'p Picture, preprocess: &Preprocess, augment: Option<Augment>) -> Plain<Decoded<'p>> {
    let whole = |photo: Cow<'p, RgbImage>, orientation| {
        let cut = Cut::new([photo.width(), photo.height()], orientation, preprocess, augment);
        Decoded { photo, cut, eighths: WHOLE }
    };
    if let Picture::Pixels { pixels, .. } = picture {
        return Ok(whole(Cow::Borrowed(&pixels.0), Orientation::NoTransforms));
    }
    let (mut file, len) = open(picture)?;
    if let Some((jpeg, cut, eighths)) = large_jpeg(&mut file, preprocess, augment) {
        let [width, height] = jpeg.frame.size;
        refuse_pixels(width, height)?;
        refuse_bomb(jpeg.frame.footprint(eighths), len)?;
        let photo = jpeg.decode(eighths).map_err(|fault| explain_jpeg(&fault, len))?;
        return Ok(Decoded { photo: Cow::Owned(photo), cut, eighths });
    }
    let (photo, orientation) = match picture {
        Picture::Encoded { bytes, .. } => decode(bytes)?,
        _ => decode(&read(file).map_err(|e| unreadable(&e))?)?,
    };
    Ok(whole(Cow::Owned(photo), orientation))
}

/// A JPEG that need not be decoded whole, how it is cut, and eighths of its size that are enough.
fn large_jpeg<F: BufRead>(file: F, preprocess: &Preprocess, augment: Option<Augment>) -> Option<(Jpeg<F>, Cut, usize)> {
    let jpeg = Jpeg::open(file).ok()?;
    let orientation = jpeg.exif.as_deref().and_then(Orientation::from_exif_chunk).unwrap_or(Orientation::NoTransforms);
    let cut = Cut::new(jpeg.frame.size, orientation, preprocess, augment);
    let eighths = cut.eighths()?;
    Some((jpeg, cut, eighths))
}

/// Bytes that [`load`] takes for a moment to decode the photo: its pixels, what a progressive JPEG keeps of them until its last
/// scan, and the file where it is read whole. `None` where it cannot be read.
pub(crate) fn footprint(picture: &Picture, preprocess: &Preprocess) -> Option<u64> {
    if let Picture::Pixels { .. } = picture {
        return Some(0);
    }
    let (mut file, len) = open(picture).ok()?;
    if let Some((jpeg, _, eighths)) = large_jpeg(&mut file, preprocess, None) {
        let [width, height] = jpeg.frame.size;
        refuse_pixels(width, height).ok()?;
        return Some(jpeg.frame.footprint(eighths));
    }
    file.rewind().ok()?;
    if let Ok(jpeg) = Jpeg::open(&mut file) {
        let channels = jpeg.frame.components.len() as u64;
        return Some(2 * len + taken_by_jpeg(jpeg.frame.size, channels, jpeg.frame.is_progressive));
    }
    file.rewind().ok()?;
    let mut head = Vec::new();
    file.take(MOST_HEAD_BYTES).read_to_end(&mut head).ok()?;
    let format = image::guess_format(&head).ok()?;
    let decoder = ImageReader::with_format(Cursor::new(&head), format).into_decoder().ok()?;
    // The decoder of a JPEG has a copy of the file.
    let copies = if format == ImageFormat::Jpeg { 2 } else { 1 };
    Some(copies * len + taken(&decoder, format, &head))
}

/// Bytes that decoding a whole JPEG takes at once beside the file itself.
fn taken_by_jpeg([width, height]: [u32; 2], channels: u64, is_progressive: bool) -> u64 {
    let to_rgb = if channels == 1 { 3 } else { 0 };
    // The coefficients of all pixels, 2 bytes each, wait for the last scan.
    let waiting = if is_progressive { 6 } else { 0 };
    u64::from(width) * u64::from(height) * (channels + u64::max(to_rgb, waiting))
}

/// Bytes that decoding takes at once beside the file itself.
fn taken(decoder: &impl ImageDecoder, format: ImageFormat, file: &[u8]) -> u64 {
    let (width, height) = decoder.dimensions();
    let pixels = u64::from(width) * u64::from(height);
    if format == ImageFormat::Jpeg {
        let start_of_frame_2 = |pair: &[u8]| pair == [0xff, 0xc2];
        let channels = u64::from(decoder.color_type().channel_count());
        return taken_by_jpeg([width, height], channels, file.windows(2).any(start_of_frame_2));
    }
    let copy = match decoder.color_type() {
        image::ColorType::Rgb8 => 0,
        // First as four channels of 8 bits, then laid on white.
        image::ColorType::Rgba16 | image::ColorType::La16 | image::ColorType::La8 => 4 * pixels,
        _ => 3 * pixels,
    };
    decoder.total_bytes() + copy
}

/// Pixels of a photo as it is stored. `None` where it cannot be read.
pub(crate) fn pixels(picture: &Picture) -> Option<u64> {
    let [width, height] = match picture {
        Picture::Pixels { pixels, .. } => pixels.size(),
        _ => {
            let (file, _) = open(picture).ok()?;
            ImageReader::new(file).with_guessed_format().ok()?.into_dimensions().ok()?.into()
        }
    };
    Some(u64::from(width) * u64::from(height))
}

/// What is wrong with a photo, in plain words.
type Plain<T> = core::result::Result<T, String>;

/// What a file is read through.
trait Input: BufRead + Seek {}
impl<T: BufRead + Seek> Input for T {}

/// What holds an encoded photo, and how many bytes it has; pixels hold none.
fn open(picture: &Picture) -> Plain<(Box<dyn Input + '_>, u64)> {
    let len = match picture {
        Picture::File(path) => {
            // Asked before opening: opening a pipe would wait for its other end.
            let about = path.metadata().map_err(|e| unreadable(&e))?;
            if !about.is_file() {
                return Err("is not a file".to_string());
            }
            about.len()
        }
        Picture::Encoded { bytes, .. } => bytes.len() as u64,
        Picture::Pixels { .. } => 0,
    };
    match (len, picture) {
        (0, _) => Err("is empty".to_string()),
        (len, _) if len > MOST_PHOTO_BYTES => Err(format!("is larger than {} MiB", MOST_PHOTO_BYTES >> 20)),
        (len, Picture::File(path)) => {
            Ok((Box::new(BufReader::new(File::open(path).map_err(|e| unreadable(&e))?)), len))
        }
        (len, Picture::Encoded { bytes, .. }) => Ok((Box::new(Cursor::new(&bytes[..])), len)),
        (_, Picture::Pixels { .. }) => Err("is not encoded".to_string()),
    }
}

/// The whole file.
fn read(mut file: Box<dyn Input + '_>) -> io::Result<Vec<u8>> {
    file.rewind()?;
    let mut bytes = Vec::new();
    file.take(MOST_PHOTO_BYTES).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn unreadable(error: &io::Error) -> String {
    format!("cannot be read: {error}")
}

/// The pixels as stored, and how the camera was held.
fn decode(bytes: &[u8]) -> Plain<(RgbImage, Orientation)> {
    let format = match image::guess_format(bytes) {
        Ok(format @ (ImageFormat::Jpeg | ImageFormat::Png)) => format,
        Ok(other) => return Err(format!("is not a JPEG or PNG image; its content looks like {other:?}")),
        Err(_) => return Err("is not a JPEG or PNG image".to_string()),
    };
    let fault = |e| explain(&e, bytes.len() as u64);
    let mut limits = Limits::no_limits();
    limits.max_alloc = Some(MOST_CHUNK_BYTES);
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    reader.limits(limits);
    let mut decoder = reader.into_decoder().map_err(fault)?;
    let (width, height) = decoder.dimensions();
    refuse_pixels(width, height)?;
    let rows = if format == ImageFormat::Jpeg { JPEG_ROW_BYTES * u64::from(width) } else { 0 };
    refuse_bomb(taken(&decoder, format, bytes) + rows, bytes.len() as u64)?;
    if format == ImageFormat::Jpeg && !reaches_end(bytes) {
        return Err(truncated(bytes.len() as u64));
    }
    let orientation = decoder.orientation().map_err(fault)?;
    let photo = DynamicImage::from_decoder(decoder).map_err(fault)?;
    Ok((opaque(photo), orientation))
}

/// What a JPEG's decoder holds, at most, for each pixel of the width: coefficients of 8 x 4 rows of 4 components, 2 bytes each, as they
/// are stored and spread out.
const JPEG_ROW_BYTES: u64 = 8 * 4 * 4 * 2 * 2;

fn refuse_pixels(width: u32, height: u32) -> Plain<()> {
    if width.max(height) <= MOST_PHOTO_SIDE && u64::from(width) * u64::from(height) <= MOST_PIXELS {
        return Ok(());
    }
    let megapixels = MOST_PIXELS / 1_000_000;
    let limit = format!("the limit of {megapixels} megapixels and {MOST_PHOTO_SIDE} pixels a side");
    Err(format!("has {width}x{height} pixels, above {limit}"))
}

fn refuse_bomb(taken: u64, len: u64) -> Plain<()> {
    if !is_bomb(taken, len) {
        return Ok(());
    }
    let [decoded, times] = [taken >> 20, taken / len];
    Err(format!("looks like a decompression bomb: it would take {decoded} MiB, {times} times its size"))
}

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

fn explain_jpeg(fault: &Fault, len: u64) -> String {
    match fault {
        Fault::Truncated => truncated(len),
        Fault::Damaged(what) => format!("is damaged: {what}"),
        Fault::OtherForm => "is of a form that is not supported".to_string(),
        Fault::Io(e) => unreadable(e),
    }
}

fn truncated(len: u64) -> String {
    format!("is truncated: the picture is not complete when the file ends, after {len} bytes")
}

fn explain(error: &ImageError, len: u64) -> String {
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

#[cfg(test)]
mod tests;
