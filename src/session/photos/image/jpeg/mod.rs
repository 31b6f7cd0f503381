//! Large JPEGs, decoded at a half, a quarter or an eighth of their size: neither the file nor the whole picture is ever in memory.
//!
//! Sequential and progressive Huffman coding with 8 bits, in grey or Y, Cb and Cr (ITU T.81; JFIF); all other forms are left to the
//! `image` crate. Of a progressive file those coefficients wait for the last scan that the scaled picture is made of, and for each
//! other one a bit, as later scans depend on whether it is zero. Numbers are integers throughout, so all processors see the same
//! pixels. What is missing or damaged is refused, not filled with grey.

mod bits;
mod scaled;
mod scan;
#[cfg(test)]
mod tests;

use std::io::{self, BufRead, Read};

use image::RgbImage;

use self::bits::{Huffman, byte};
use self::scaled::{ScaledPicture, Scaling};
use self::scan::{Scan, Waiting};
use crate::limits::MOST_SCANS;

/// Why a JPEG cannot be decoded here.
#[derive(Debug)]
pub(super) enum Fault {
    /// The file ends before the picture does.
    Truncated,
    /// What is wrong.
    Damaged(&'static str),
    /// It is of a form that is not decoded here.
    OtherForm,
    /// The file cannot be read.
    Io(io::Error),
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::UnexpectedEof { Fault::Truncated } else { Fault::Io(error) }
    }
}

/// A colour component; sizes are (horizontal, vertical).
#[derive(Debug, Clone)]
pub(super) struct Component {
    id: u8,
    /// Samples relative to those of the other components.
    sampling: [usize; 2],
    quantization: usize,
}

/// What the frame header says; sizes are (horizontal, vertical).
#[derive(Debug)]
pub(super) struct Frame {
    pub(super) size: [u32; 2],
    pub(super) is_progressive: bool,
    pub(super) components: Vec<Component>,
}

impl Frame {
    fn most(&self) -> [usize; 2] {
        core::array::from_fn(|axis| self.components.iter().map(|c| c.sampling[axis]).max().unwrap_or(1))
    }

    /// Blocks of a component that hold samples of the picture.
    fn blocks(&self, component: &Component) -> [usize; 2] {
        let most = self.most();
        let samples = |axis: usize| (self.size[axis] as usize * component.sampling[axis]).div_ceil(most[axis]);
        [0, 1].map(|axis| samples(axis).div_ceil(8))
    }

    /// Units of an interleaved scan, each with `sampling` blocks of every component.
    fn units(&self) -> [usize; 2] {
        let most = self.most();
        [0, 1].map(|axis| (self.size[axis] as usize).div_ceil(8 * most[axis]))
    }

    /// The size at `points` eighths.
    fn scaled(&self, points: usize) -> [usize; 2] {
        self.size.map(|side| (side as usize * points).div_ceil(8))
    }

    /// Bytes that decoding takes at `points` eighths of the size: the picture, and what waits for the last scan.
    pub(super) fn footprint(&self, points: usize) -> u64 {
        let [width, height] = self.scaled(points);
        let waiting = |c: &Component| Waiting::bytes(self, c, &Scaling::new(c, self, points));
        let waiting: usize = self.components.iter().filter(|_| self.is_progressive).map(waiting).sum();
        (3 * width * height + waiting) as u64
    }
}

/// A file whose header has been read.
pub(super) struct Jpeg<R> {
    input: R,
    /// The marker that comes next; its bytes have been read.
    next: u8,
    pub(super) frame: Frame,
    /// The EXIF block, without its name.
    pub(super) exif: Option<Vec<u8>>,
    tables: Tables,
}

/// What scans are decoded with, as of the last definition.
#[derive(Default)]
struct Tables {
    quantization: [Option<[u16; 64]>; 4],
    dc: [Option<Huffman>; 4],
    ac: [Option<Huffman>; 4],
    restart_interval: usize,
}

/// What stands before the first scan, as far as it matters.
#[derive(Default)]
struct Header {
    frame: Option<Frame>,
    exif: Option<Vec<u8>>,
    /// The colour transform that Adobe's segment names.
    adobe: Option<u8>,
}

impl<R: BufRead> Jpeg<R> {
    /// Reads up to the first scan.
    ///
    /// # Errors
    /// `OtherForm` where the file is no JPEG, or one that is not decoded here; the others as they are.
    pub(super) fn open(mut input: R) -> Result<Self, Fault> {
        if [byte(&mut input)?, byte(&mut input)?] != [0xff, 0xd8] {
            return Err(Fault::OtherForm);
        }
        let (mut header, mut tables) = (Header::default(), Tables::default());
        loop {
            let marker = marker(&mut input)?;
            match marker {
                0xda => {
                    let frame = header.frame.ok_or(Fault::OtherForm)?;
                    if !is_decoded(&frame, header.adobe) {
                        return Err(Fault::OtherForm);
                    }
                    return Ok(Jpeg { input, next: marker, frame, exif: header.exif, tables });
                }
                0xd9 => return Err(Fault::OtherForm),
                _ => segment(&mut input, |segment| header.segment(marker, segment, &mut tables))?,
            }
        }
    }

    /// The picture at `points` eighths of its size, 1, 2 or 4, sides rounded up.
    ///
    /// # Errors
    /// Where the file is truncated, damaged or cannot be read.
    pub(super) fn decode(mut self, points: usize) -> Result<RgbImage, Fault> {
        let mut picture = ScaledPicture::new(self.frame.scaled(points));
        let scalings: Vec<_> = self.frame.components.iter().map(|c| Scaling::new(c, &self.frame, points)).collect();
        let waiting = |(c, scaling)| Waiting::new(&self.frame, c, scaling);
        let of_progressive = self.frame.components.iter().zip(&scalings).filter(|_| self.frame.is_progressive);
        let mut waiting: Vec<Waiting> = of_progressive.map(waiting).collect();
        let (mut scans, mut missing) = (0, vec![true; self.frame.components.len()]);
        while self.next != 0xd9 {
            if self.next != 0xda {
                if !stands_alone(self.next) {
                    segment(&mut self.input, |segment| self.tables.segment(self.next, segment))?;
                }
                self.next = marker(&mut self.input)?;
                continue;
            }
            scans += 1;
            if scans > MOST_SCANS {
                return Err(Fault::Damaged("it has too many scans"));
            }
            let scan = segment(&mut self.input, |segment| Scan::read(&self.frame, segment))?;
            scan.components().for_each(|component| missing[component] = false);
            self.next = match &mut waiting[..] {
                [] => scan.draw(&self.frame, &self.tables, &scalings, &mut self.input, &mut picture)?,
                waiting => scan.gather(&self.frame, &self.tables, waiting, &mut self.input)?,
            };
        }
        if missing.contains(&true) {
            return Err(Fault::Damaged("a colour has no scan"));
        }
        for (channel, waiting) in waiting.iter().enumerate() {
            let quantization = self.tables.quantization(&self.frame.components[channel], &scalings[channel])?;
            waiting.draw(&scalings[channel], &quantization, (channel, &mut picture));
        }
        picture.into_rgb(self.frame.components.len() == 1).ok_or(Fault::OtherForm)
    }
}

/// Whether pictures of this form are decoded here.
fn is_decoded(frame: &Frame, adobe: Option<u8>) -> bool {
    let most = frame.most();
    let halves = |c: &Component| (0..2).all(|axis| [1, 2, 4].iter().any(|n| c.sampling[axis] * n == most[axis]));
    let ids: Vec<u8> = frame.components.iter().map(|c| c.id).collect();
    // Adobe's transform 0 and these names stand for R, G and B.
    let is_rgb = adobe == Some(0) || ids == *b"RGB";
    frame.components.iter().all(halves) && (frame.components.len() == 1 || (frame.components.len() == 3 && !is_rgb))
}

/// The next marker; bytes that are no marker are passed over, as other decoders do.
fn marker(input: &mut impl BufRead) -> Result<u8, Fault> {
    loop {
        while byte(input)? != 0xff {}
        let mut marker = 0xff;
        while marker == 0xff {
            marker = byte(input)?;
        }
        if !stands_alone(marker) {
            return Ok(marker);
        }
    }
}

/// Whether no segment follows a marker, although it is not the last.
fn stands_alone(marker: u8) -> bool {
    matches!(marker, 0 | 1 | 0xd0..=0xd8)
}

/// Has `read` read what a segment holds after its length, and passes over what it leaves.
fn segment<R: BufRead, T>(
    input: &mut R,
    read: impl FnOnce(&mut io::Take<&mut R>) -> Result<T, Fault>,
) -> Result<T, Fault> {
    let len = number(input)?.checked_sub(2).ok_or(Fault::Damaged("a segment has an invalid length"))?;
    let mut segment = input.take(u64::from(len));
    let result = match read(&mut segment) {
        Err(Fault::Truncated) if segment.limit() == 0 => return Err(Fault::Damaged("a segment is too short")),
        result => result?,
    };
    while segment.limit() > 0 {
        let len = segment.fill_buf()?.len();
        if len == 0 {
            return Err(Fault::Truncated);
        }
        segment.consume(len);
    }
    Ok(result)
}

fn number(input: &mut impl BufRead) -> Result<u16, Fault> {
    Ok(u16::from_be_bytes([byte(input)?, byte(input)?]))
}

impl Header {
    fn segment<R: BufRead>(
        &mut self,
        marker: u8,
        segment: &mut io::Take<&mut R>,
        tables: &mut Tables,
    ) -> Result<(), Fault> {
        match marker {
            0xc0..=0xc2 if self.frame.is_none() => self.frame = Some(frame(marker, segment)?),
            0xc0..=0xc3 | 0xc5..=0xcf => return Err(Fault::OtherForm),
            0xe1 => {
                let mut block = Vec::new();
                segment.read_to_end(&mut block)?;
                self.exif = block.strip_prefix(b"Exif\0\0").map(<[u8]>::to_vec).or(self.exif.take());
            }
            0xee => {
                let mut block = [0; 12];
                let len = segment.limit().min(12) as usize;
                segment.read_exact(&mut block[..len])?;
                self.adobe = block.starts_with(b"Adobe").then_some(block[11]).or(self.adobe);
            }
            _ => tables.segment(marker, segment)?,
        }
        Ok(())
    }
}

fn frame(marker: u8, segment: &mut impl BufRead) -> Result<Frame, Fault> {
    let bits = byte(segment)?;
    let [height, width] = [number(segment)?, number(segment)?].map(u32::from);
    let count = byte(segment)?;
    if bits != 8 || width == 0 || height == 0 || !matches!(count, 1 | 3) {
        return Err(Fault::OtherForm);
    }
    let mut components = Vec::new();
    for _ in 0..count {
        let [id, sampling, quantization] = [byte(segment)?, byte(segment)?, byte(segment)?];
        let sampling = [sampling >> 4, sampling & 15].map(usize::from);
        if sampling.iter().any(|n| !(1..=4).contains(n)) || quantization > 3 {
            return Err(Fault::OtherForm);
        }
        // A scan of one component has a block a unit, whatever this says.
        let sampling = if count == 1 { [1, 1] } else { sampling };
        components.push(Component { id, sampling, quantization: quantization.into() });
    }
    Ok(Frame { size: [width, height], is_progressive: marker == 0xc2, components })
}

impl Tables {
    /// Takes up what a segment defines; those that define nothing are passed over.
    fn segment<R: BufRead>(&mut self, marker: u8, segment: &mut io::Take<&mut R>) -> Result<(), Fault> {
        match marker {
            0xc4 => {
                while segment.limit() > 0 {
                    let place = byte(segment)?;
                    let mut counts = [0; 16];
                    segment.read_exact(&mut counts)?;
                    let mut symbols = vec![0; counts.iter().map(|count| usize::from(*count)).sum()];
                    segment.read_exact(&mut symbols)?;
                    let tables = if place < 16 { &mut self.dc } else { &mut self.ac };
                    let table = tables.get_mut(usize::from(place & 15)).filter(|_| place < 32);
                    *table.ok_or(Fault::Damaged("a Huffman table has no place"))? =
                        Some(Huffman::new(&counts, symbols)?);
                }
            }
            0xdb => {
                while segment.limit() > 0 {
                    let place = byte(segment)?;
                    let mut table = [0; 64];
                    for value in &mut table {
                        *value = if place < 16 { byte(segment)?.into() } else { number(segment)? };
                    }
                    let to = self.quantization.get_mut(usize::from(place & 15)).filter(|_| place < 32);
                    *to.ok_or(Fault::Damaged("a quantization table has no place"))? = Some(table);
                }
            }
            0xdd => self.restart_interval = number(segment)?.into(),
            0xc0..=0xcf => return Err(Fault::Damaged("it has a second frame")),
            _ => {}
        }
        Ok(())
    }

    /// The table of a component, in the order of the coefficients that are kept.
    fn quantization(&self, component: &Component, scaling: &Scaling) -> Result<[i32; 64], Fault> {
        let table = &self.quantization[component.quantization];
        let table = table.as_ref().ok_or(Fault::Damaged("a quantization table is missing"))?;
        let mut kept = [0; 64];
        for (value, place) in table.iter().zip(scaling.kept) {
            if let Some(kept) = kept.get_mut(usize::from(place)) {
                *kept = i32::from(*value);
            }
        }
        Ok(kept)
    }
}
