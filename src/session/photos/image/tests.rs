//! What a photo becomes, and which are refused.

use std::path::PathBuf;
use std::{fs, println, vec};

use image::codecs::jpeg::JpegEncoder;
use image::codecs::png::PngEncoder;
use image::{GrayImage, ImageEncoder, Luma, imageops};
use rand::RngExt;
use tempfile::TempDir;

use super::*;
use crate::bundle::Fit;
use crate::session::photos::stream;

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

fn load(path: &std::path::Path, preprocess: &Preprocess, augment: Option<Augment>) -> Result<Vec<f32>> {
    super::load(&path.into(), preprocess, augment)
}

fn footprint(path: &std::path::Path, preprocess: &Preprocess) -> Option<u64> {
    super::footprint(&path.into(), preprocess)
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
                43.0, 68.0, 93.0, 118.0, 143.0, 57.0, 82.0, 107.0, 132.0, 157.0, 72.0, 97.0, 122.0, 147.0, 172.0, 88.0,
                113.0, 138.0, 163.0, 188.0, 103.0, 128.0, 153.0, 178.0, 203.0, 72.0, 149.0, 106.0, 131.0, 129.0, 137.0,
                133.0, 123.0, 120.0, 123.0, 122.0, 125.0, 122.0, 119.0, 127.0, 126.0, 117.0, 124.0, 126.0, 127.0,
                129.0, 122.0, 120.0, 119.0, 134.0, 62.0, 242.0, 152.0, 3.0, 152.0, 146.0, 95.0, 120.0, 163.0, 120.0,
                152.0, 83.0, 118.0, 175.0, 118.0, 76.0, 218.0, 147.0, 29.0, 147.0, 173.0, 47.0, 110.0, 214.0, 110.0,
            ],
        ),
        (
            (29, 53),
            plain(4, 6, Fit::Crop),
            &[
                64.0, 82.0, 103.0, 124.0, 145.0, 166.0, 76.0, 94.0, 115.0, 136.0, 157.0, 178.0, 88.0, 106.0, 127.0,
                148.0, 169.0, 190.0, 100.0, 118.0, 139.0, 160.0, 181.0, 202.0, 114.0, 126.0, 121.0, 117.0, 126.0,
                127.0, 131.0, 136.0, 121.0, 121.0, 118.0, 117.0, 131.0, 131.0, 128.0, 121.0, 125.0, 122.0, 83.0, 111.0,
                136.0, 122.0, 127.0, 126.0, 14.0, 26.0, 190.0, 239.0, 93.0, 14.0, 202.0, 194.0, 86.0, 54.0, 150.0,
                202.0, 206.0, 198.0, 84.0, 51.0, 151.0, 206.0, 15.0, 27.0, 190.0, 238.0, 94.0, 15.0,
            ],
        ),
        (
            (3, 4),
            plain(5, 5, Fit::Crop),
            &[
                1.0, 2.0, 5.0, 7.0, 10.0, 2.0, 3.0, 6.0, 8.0, 11.0, 4.0, 5.0, 8.0, 10.0, 13.0, 5.0, 6.0, 9.0, 11.0,
                14.0, 7.0, 8.0, 11.0, 13.0, 16.0, 1.0, 1.0, 2.0, 3.0, 4.0, 2.0, 2.0, 3.0, 4.0, 5.0, 4.0, 4.0, 5.0, 6.0,
                7.0, 7.0, 7.0, 8.0, 9.0, 10.0, 11.0, 11.0, 12.0, 13.0, 14.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0,
                0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0,
            ],
        ),
        (
            (40, 31),
            plain(4, 6, Fit::Stretch),
            &[
                29.0, 60.0, 93.0, 126.0, 160.0, 190.0, 50.0, 81.0, 114.0, 147.0, 181.0, 211.0, 74.0, 105.0, 138.0,
                171.0, 205.0, 216.0, 95.0, 126.0, 159.0, 192.0, 220.0, 124.0, 64.0, 124.0, 122.0, 125.0, 124.0, 123.0,
                127.0, 127.0, 123.0, 122.0, 121.0, 123.0, 125.0, 123.0, 121.0, 126.0, 123.0, 123.0, 123.0, 126.0,
                122.0, 126.0, 129.0, 126.0, 53.0, 149.0, 155.0, 70.0, 180.0, 122.0, 172.0, 115.0, 111.0, 162.0, 96.0,
                131.0, 92.0, 138.0, 141.0, 100.0, 153.0, 125.0, 170.0, 115.0, 112.0, 160.0, 98.0, 131.0,
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
            assert!(cut.is_err() || (len >= bytes.len() - tail && cut.unwrap() == whole), "{format:?}, {len} bytes");
        }
        let followed = [&bytes[..], b"a short film that the camera keeps with the photo"].concat();
        assert_eq!(load(&folder.file("followed.jpg", &followed), &Preprocess::default(), None).unwrap(), whole);
    }
}

#[test]
fn the_content_decides_and_not_the_suffix() {
    let folder = Folder::new();
    let png = encode(picture(40, 31), ImageFormat::Png);
    let [a, b] = ["a.png", "b.JPEG"].map(|name| load(&folder.file(name, &png), &Preprocess::default(), None).unwrap());
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
        let (spans, shift) = cut::place([42, 32], &preprocess, &mut random);
        // As without chance: the photo has the scale that it has in prediction.
        assert_eq!(spans.map(|span| (span.whole, span.len)), [(42, 28), (32, 28)]);
        assert_eq!(cut::place([42, 32], &preprocess, &mut None).0.map(|span| span.whole), [42, 32]);
        assert_eq!(shift, [0, 0]);
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
    let preprocess = plain(4, 6, Fit::Crop);
    // The photo is resized to 7 x 5; the mirror image's cut at 1 holds what the photo's cut at 0 holds.
    let index = |place: u32, mirrored: bool| {
        (0..1000).find(|index| {
            let mut random = Some(stream(*b"augment ", [0, 0, *index]));
            let ([x, y], _) = cut::place([40, 31], &preprocess, &mut random);
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
fn a_stretched_photo_is_shifted_by_an_eighth_at_most_and_has_the_scale_of_prediction() {
    let folder = Folder::new();
    let (width, height) = (32, 17);
    let preprocess = plain(height, width, Fit::Stretch);
    let path = folder.png(picture(90, 70));
    let still = load(&path, &preprocess, None).unwrap();
    let value = |values: &[f32], c: usize, x: i64, y: i64| values[(c * height + y as usize) * width + x as usize];
    let mut found = std::collections::BTreeSet::new();
    for index in 0..400 {
        let moved = load(&path, &preprocess, Some(Augment { seed: 3, epoch: 1, index })).unwrap();
        // Far from the borders each value is one of the photo as it is predicted from, shifted and perhaps mirrored.
        let fits = |&(dx, dy, mirrored): &(i64, i64, bool)| {
            let inner = (0..3).flat_map(|c| (6..26).flat_map(move |x| (4..13).map(move |y| (c, x, y))));
            inner.into_iter().all(|(c, x, y)| {
                let from = if mirrored { width as i64 - 1 - x } else { x };
                value(&moved, c, x, y) == value(&still, c, from + dx, y + dy)
            })
        };
        let places = (-6..=6).flat_map(|dx| (-4..=4).flat_map(move |dy| [false, true].map(|flip| (dx, dy, flip))));
        let matching: Vec<_> = places.into_iter().filter(fits).collect();
        assert_eq!(matching.len(), 1, "photo {index}: {matching:?}");
        let (dx, dy, mirrored) = matching[0];
        // What came in at the left border of the shifted input is a reflection.
        let edge = if mirrored { width as i64 - 1 } else { 0 };
        assert_eq!(value(&moved, 1, edge, 8), value(&still, 1, dx.abs(), 8 + dy));
        found.extend(matching);
    }
    // floor(32 / 8) and floor(17 / 8) either way.
    let [most_x, most_y] = [found.iter().map(|f| f.0.abs()).max(), found.iter().map(|f| f.1.abs()).max()];
    assert_eq!((most_x, most_y), (Some(4), Some(2)));
    assert!(found.len() > 80, "{} of 90 places", found.len());
}

/// A smooth photo of 125 x 91 pixels as Pillow wrote it.
fn smooth(form: &str) -> Vec<u8> {
    fs::read(std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/image").join(form)).unwrap()
}

#[test]
fn a_photo_decoded_in_parts_is_cut_and_turned_as_if_it_were_whole() {
    let folder = Folder::new();
    for (form, (height, width)) in [("jpeg-420", (13, 18)), ("jpeg-progressive-420", (9, 11)), ("jpeg-grey", (4, 3))] {
        for orientation in 1..=8 {
            let bytes = smooth(form);
            let block = [b"Exif\0\0", &exif(orientation)[..]].concat();
            let marker = [&[0xff, 0xe1][..], &(block.len() as u16 + 2).to_be_bytes()].concat();
            let bytes = [&bytes[..2], &marker, &block, &bytes[2..]].concat();
            let path = folder.file("held.jpg", &bytes);
            let (whole, held) = decode(&bytes).unwrap();
            for fit in [Fit::Crop, Fit::Stretch] {
                for augment in [None, Some(Augment { seed: 1, epoch: 2, index: 3 })] {
                    let preprocess = plain(height, width, fit);
                    let cut = Cut::new([125, 91], held, &preprocess, augment);
                    assert!(cut.eighths().is_some(), "{form}: this must not be decoded whole");
                    let expected = preprocess.normalize(cut.of(&whole, WHOLE).unwrap().as_raw());
                    assert_near(&load(&path, &preprocess, augment).unwrap(), &expected, 8.0);
                }
            }
        }
    }
}

#[test]
fn a_photo_is_decoded_whole_where_a_part_would_have_too_few_pixels() {
    let eighths = |width, height, fit, (w, h)| {
        Cut::new([width, height], Orientation::NoTransforms, &plain(h, w, fit), None).eighths()
    };
    // 224 / 0.875 = 256, of which twice as many are left; by width and height, whichever is scarcer.
    let crop = |width, height| eighths(width, height, Fit::Crop, (224, 224));
    assert_eq!([crop(4000, 3000), crop(3000, 4000), crop(6000, 4096)], [Some(2), Some(2), Some(1)]);
    assert_eq!(
        [crop(2000, 1024), crop(1024, 2000), crop(2000, 1023), crop(1023, 2000)],
        [Some(4), Some(4), None, None]
    );
    let stretch = |width, height| eighths(width, height, Fit::Stretch, (32, 64));
    assert_eq!([stretch(512, 1024), stretch(511, 1024), stretch(64, 4000)], [Some(1), Some(2), None]);
}

#[test]
fn a_large_jpeg_is_refused_for_the_same_reasons_as_a_small_one() {
    let folder = Folder::new();
    let preprocess = plain(9, 11, Fit::Crop);
    let refused = |name: &str, bytes: &[u8], words: &str| {
        let error = load(&folder.file(name, bytes), &preprocess, None).unwrap_err();
        println!("{name}: {}", error.message());
        assert!(error.kind() == ErrorKind::Image && error.message().starts_with(words), "{name}: {error}");
    };
    for form in ["jpeg-420", "jpeg-progressive-420"] {
        let bytes = smooth(form);
        for len in [bytes.len() / 2, bytes.len() - 2, bytes.len() - 1] {
            refused(form, &bytes[..len], "is truncated");
        }
        let frame = bytes.windows(2).position(|pair| matches!(pair, [0xff, 0xc0 | 0xc2])).unwrap();
        let sized = |height: u16, width: u16| {
            let mut bytes = bytes.clone();
            bytes[frame + 5..frame + 9].copy_from_slice(&[height.to_be_bytes(), width.to_be_bytes()].concat());
            bytes
        };
        refused("tall.jpg", &sized(65_535, 65_535), "has 65535x65535 pixels, above the limit of 64 megapixels");
        // What little of it would be decoded is no bomb, but it is not there.
        refused("short.jpg", &sized(7900, 8000), "is damaged: a part of the picture is missing");
    }
    // 63 megapixels at a half, and the coefficients that they are made of, out of 3 KB.
    let bytes = smooth("jpeg-progressive-420");
    let frame = bytes.windows(2).position(|pair| pair == [0xff, 0xc2]).unwrap();
    let bomb = [&bytes[..frame + 5], &[0x1b, 0x58, 0x23, 0x28], &bytes[frame + 9..]].concat();
    let (path, large) = (folder.file("bomb.jpg", &bomb), plain(1600, 2000, Fit::Stretch));
    let error = load(&path, &large, None).unwrap_err();
    assert!(error.message().starts_with("looks like a decompression bomb"), "{error}");
}

#[test]
fn what_decoding_takes_is_counted_in_the_size_that_is_decoded() {
    let folder = Folder::new();
    let counted =
        |form: &str, side| footprint(&folder.file("photo.jpg", &smooth(form)), &plain(side, side, Fit::Stretch));
    // At 1/8: 16 x 12 pixels. A progressive one has 16 x 12 blocks of Y and 8 x 6 of Cb and Cr; each keeps a bit for all coefficients,
    // and of Y the first alone, of Cb and Cr, which have half the samples, the first 2 x 2.
    assert_eq!(counted("jpeg-420", 5), Some(3 * 16 * 12));
    assert_eq!(counted("jpeg-progressive-420", 5), Some(3 * 16 * 12 + 16 * 12 * 10 + 2 * 8 * 6 * 16));
    // Whole: twice the file, and 3 bytes for a pixel; for a progressive one 9.
    let len = |form: &str| smooth(form).len() as u64;
    assert_eq!(counted("jpeg-420", 50), Some(2 * len("jpeg-420") + 3 * 125 * 91));
    assert_eq!(counted("jpeg-progressive-420", 50), Some(2 * len("jpeg-progressive-420") + 9 * 125 * 91));
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
