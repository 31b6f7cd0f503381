//! Photos of at most 1 MiB that ask for much more.

use std::io::Cursor;

use image::{DynamicImage, ImageFormat};

fn crc(bytes: &[u8]) -> u32 {
    let mut crc = !0u32;
    for &byte in bytes {
        crc ^= u32::from(byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { (crc >> 1) ^ 0xedb8_8320 } else { crc >> 1 };
        }
    }
    !crc
}

fn chunk(name: &[u8; 4], data: &[u8]) -> Vec<u8> {
    let body = [&name[..], data].concat();
    [&(data.len() as u32).to_be_bytes()[..], &body, &crc(&body).to_be_bytes()].concat()
}

/// A PNG whose header says so many pixels, followed by `chunks`.
fn png(width: u32, height: u32, depth: u8, colour: u8, interlaced: u8, chunks: &[Vec<u8>]) -> Vec<u8> {
    let size = [width.to_be_bytes(), height.to_be_bytes()].concat();
    let header = chunk(b"IHDR", &[&size[..], &[depth, colour, 0, 0, interlaced]].concat());
    [b"\x89PNG\r\n\x1a\n".to_vec(), header, chunks.concat(), chunk(b"IEND", b"")].concat()
}

/// A deflate stream of `count` blocks of 65535 bytes each stored in them.
fn stored(count: usize) -> Vec<u8> {
    let block = [&[0u8, 0xff, 0xff, 0, 0][..], &vec![0u8; 0xffff]].concat();
    [&[0x78, 1][..], &block.repeat(count), &[1, 0, 0, 0xff, 0xff, 0, 0, 0, 1]].concat()
}

fn encoded(picture: impl Into<DynamicImage>, format: ImageFormat) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    picture.into().write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

/// A picture that compresses a thousandfold.
fn flat(width: u32, height: u32) -> Vec<u8> {
    encoded(image::GrayImage::from_pixel(width, height, image::Luma([7])), ImageFormat::Png)
}

/// Each with the name that its refusal has to mention.
pub(super) fn all() -> Vec<(&'static str, Vec<u8>)> {
    let small = encoded(image::RgbImage::from_pixel(64, 48, image::Rgb([9, 8, 7])), ImageFormat::Jpeg);
    let frame = small.windows(2).position(|pair| pair == [0xff, 0xc0]).unwrap();
    let sized = |marker: u8, height: u16, width: u16| {
        let mut bytes = small.clone();
        bytes[frame + 1] = marker;
        bytes[frame + 5..frame + 7].copy_from_slice(&height.to_be_bytes());
        bytes[frame + 7..frame + 9].copy_from_slice(&width.to_be_bytes());
        bytes
    };
    let zeros = chunk(b"IDAT", &stored(15));
    let text = [&b"Comment\0\0"[..], &stored(14)].concat();
    vec![
        ("flat-63-megapixels.png", flat(8000, 7900)),
        ("flat-50-mebibytes.png", flat(5120, 3500)),
        ("deep.png", png(3600, 2900, 16, 6, 0, std::slice::from_ref(&zeros))),
        ("deep-grey.png", png(4000, 3700, 16, 4, 0, std::slice::from_ref(&zeros))),
        ("interlaced.png", png(4500, 3900, 8, 6, 1, std::slice::from_ref(&zeros))),
        ("palette.png", png(7000, 7000, 1, 3, 0, &[chunk(b"PLTE", &[0; 6]), zeros.clone()])),
        ("no-palette.png", png(64, 64, 8, 3, 0, std::slice::from_ref(&zeros))),
        ("row.png", png(0x7fff_ffff, 1, 8, 2, 0, std::slice::from_ref(&zeros))),
        ("none.png", png(0, 0, 8, 2, 0, std::slice::from_ref(&zeros))),
        ("texts.png", png(64, 64, 8, 2, 0, &[chunk(b"zTXt", &text)])),
        ("profile.png", png(64, 64, 8, 2, 0, &[chunk(b"iCCP", &text)])),
        ("many-chunks.png", png(64, 64, 8, 2, 0, &vec![chunk(b"tEXt", b"a\0b"); 60_000])),
        ("no-end.png", png(64, 64, 8, 2, 0, &[chunk(b"IDAT", &stored(1)[..900])])),
        ("wide.jpg", sized(0xc0, 900, 65_535)),
        ("progressive.jpg", sized(0xc2, 4000, 4000)),
        ("progressive-small.jpg", sized(0xc2, 3000, 1900)),
        ("arithmetic.jpg", sized(0xc9, 48, 64)),
        ("lossless.jpg", sized(0xc3, 48, 64)),
        ("no-height.jpg", sized(0xc0, 0, 64)),
        ("markers.jpg", [&[0xff, 0xd8][..], &[0xff, 0xd8].repeat(500_000)].concat()),
        ("segments.jpg", [&[0xff, 0xd8][..], &[0xff, 0xe1, 0, 2].repeat(250_000), &[0xff, 0xd9]].concat()),
        ("fill.jpg", [&[0xff, 0xd8][..], &vec![0xff; 1 << 20]].concat()),
        ("half.jpg", small[..small.len() / 2].to_vec()),
        ("empty.png", Vec::new()),
        ("other.png", b"GIF89a\x01\0\x01\0\0\0\0;".to_vec()),
    ]
}
