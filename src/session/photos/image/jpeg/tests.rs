use std::{fs, println};

use image::{ImageFormat, Rgb};

use super::*;

/// What `tests/fixtures/make_photos.py` writes.
const FORMS: [&str; 7] = [
    "jpeg-444",
    "jpeg-422-restart",
    "jpeg-420",
    "jpeg-grey",
    "jpeg-progressive-420",
    "jpeg-progressive-444-restart",
    "jpeg-progressive-grey",
];

fn bytes(form: &str) -> Vec<u8> {
    fs::read(std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/image").join(form)).unwrap()
}

fn decode(bytes: &[u8], eighths: usize) -> Result<RgbImage, Fault> {
    Jpeg::open(bytes)?.decode(eighths)
}

/// The means of squares of `side` pixels; at the borders, of what there is of them.
fn means(photo: &RgbImage, side: u32) -> RgbImage {
    let (width, height) = photo.dimensions();
    RgbImage::from_fn(width.div_ceil(side), height.div_ceil(side), |x, y| {
        let [columns, rows] = [(x, width), (y, height)].map(|(at, len)| at * side..len.min((at + 1) * side));
        let (mut sums, mut count) = ([0; 3], 0);
        for (x, y) in rows.flat_map(|y| columns.clone().map(move |x| (x, y))) {
            sums = core::array::from_fn(|c| sums[c] + u32::from(photo.get_pixel(x, y)[c]));
            count += 1;
        }
        Rgb(sums.map(|sum| ((sum + count / 2) / count) as u8))
    })
}

#[test]
fn every_form_scaled_is_what_another_decoder_sees_in_the_whole() {
    for form in FORMS {
        let bytes = bytes(form);
        let whole = image::load_from_memory_with_format(&bytes, ImageFormat::Jpeg).unwrap().into_rgb8();
        for eighths in [1, 2, 4] {
            let scaled = decode(&bytes, eighths).unwrap();
            let expected = means(&whole, 8 / eighths as u32);
            assert_eq!(scaled.dimensions(), expected.dimensions());
            // The last column and row have fewer pixels to be the mean of, and what fills up their blocks has a say.
            let inner = scaled
                .enumerate_pixels()
                .filter(|(x, y, _)| (x + 1) * 8 / (eighths as u32) <= 125 && (y + 1) * 8 / (eighths as u32) <= 91);
            let off = inner.flat_map(|(x, y, pixel)| (0..3).map(move |c| (x, y, c, pixel[c])));
            let off = off.map(|(x, y, c, value)| value.abs_diff(expected.get_pixel(x, y)[c])).max().unwrap();
            println!("{form}, {eighths}/8: {off} off at most");
            // Neighbours differ by up to 80 at an eighth, and by 20 at a half. Means are not quite what fewer points of the transform are.
            assert!(off <= if eighths == 1 { 12 } else { 6 }, "{form}, {eighths}/8");
        }
    }
}

#[test]
fn a_file_that_ends_early_is_refused_wherever_it_ends() {
    for form in FORMS {
        let bytes = bytes(form);
        let whole = decode(&bytes, 2).unwrap();
        for len in 0..bytes.len() {
            assert!(decode(&bytes[..len], 2).is_err(), "{form}, {len} bytes");
        }
        let followed = [&bytes[..], b"a short film that the camera keeps with the photo"].concat();
        assert!(decode(&followed, 2).unwrap() == whole, "{form}");
    }
}

#[test]
fn a_picture_that_lacks_a_part_is_damaged_and_not_filled_with_grey() {
    for form in FORMS {
        let bytes = bytes(form);
        let half = [&bytes[..bytes.len() / 2], &[0xff, 0xd9]].concat();
        let fault = decode(&half, 2).map(|_| ()).unwrap_err();
        println!("{form}: {fault:?}");
        assert!(matches!(fault, Fault::Damaged(_)), "{form}: {fault:?}");
    }
}

#[test]
fn a_picture_without_one_of_its_colours_is_damaged() {
    let grey = bytes("jpeg-grey");
    let frame = grey.windows(2).position(|pair| pair == [0xff, 0xc0]).unwrap();
    // Bits, height and width stay; then three components, of which the scan has the first.
    let three = [&[0xff, 0xc0, 0, 17], &grey[frame + 4..frame + 9], &[3, 1, 0x11, 0, 2, 0x11, 0, 3, 0x11, 0]].concat();
    let fault = decode(&[&grey[..frame], &three, &grey[frame + 13..]].concat(), 2).map(|_| ()).unwrap_err();
    assert!(matches!(fault, Fault::Damaged("a colour has no scan")), "{fault:?}");
}

#[test]
fn other_forms_are_left_to_the_other_decoder() {
    let jpeg = bytes("jpeg-420");
    let frame = jpeg.windows(2).position(|pair| pair == [0xff, 0xc0]).unwrap();
    let with = |at: usize, byte: u8| {
        let mut jpeg = jpeg.clone();
        jpeg[frame + at] = byte;
        jpeg
    };
    let adobe = [&jpeg[..2], b"\xff\xee\0\x0eAdobe\0\x64\0\0\0\0\0", &jpeg[2..]].concat();
    let cases = [
        ("arithmetic", with(1, 0xc9)),
        ("lossless", with(1, 0xc3)),
        ("12 bits", with(4, 12)),
        ("no height", {
            let mut jpeg = with(5, 0);
            jpeg[frame + 6] = 0;
            jpeg
        }),
        ("samples in the ratio of 3 to 2", with(11, 0x32)),
        ("red, green and blue", adobe),
        ("CMYK", bytes("jpeg-cmyk")),
        ("PNG", bytes("png-2-8")),
        ("nothing", vec![]),
    ];
    for (name, bytes) in cases {
        let is_open = Jpeg::open(&bytes[..]).is_ok();
        assert!(!is_open, "{name}");
    }
    assert!(Jpeg::open(&jpeg[..]).is_ok());
}

#[test]
fn scans_without_end_are_refused() {
    let jpeg = bytes("jpeg-progressive-grey");
    let scan = jpeg.windows(2).position(|pair| pair == [0xff, 0xda]).unwrap();
    let next = scan + 2 + jpeg[scan + 2..].windows(2).position(|pair| pair[0] == 0xff && pair[1] > 0).unwrap();
    let many = [&jpeg[..scan], &jpeg[scan..next].repeat(MOST_SCANS + 1), &jpeg[next..]].concat();
    let fault = decode(&many, 1).map(|_| ()).unwrap_err();
    assert!(matches!(fault, Fault::Damaged("it has too many scans")), "{fault:?}");
}
