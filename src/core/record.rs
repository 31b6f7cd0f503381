//! Records: a site's whole state, and numbers beside it, as bytes for a medium that takes them in pieces.
//!
//! ```text
//! "srlr"  version u16  0 u16  binding u32 | numbers and sites, in the caller's order | CRC-32 of all before it
//! ```
//!
//! Everything is little-endian and without padding, whatever the machine: a record that a microcontroller wrote reads the
//! same on a desktop. A site is its shape and settings, which must agree when it is read, then ages, directions, reserve,
//! state, and delta.
//!
//! The checksum comes last, and there is no room to keep a record until it is known. So a record is read twice:
//! [`RecordReader::verify`] reads it through and writes nothing, [`RecordReader::new`] fills what is lent.
//!
//! `binding` is the caller's: a number that tells networks apart, so that no state is read beside another network.

use half::f16;
use heapless::Vec;

use super::delta::Delta;
use super::error::CoreError;
use super::ledger::Ledger;
use super::shape::Sides;
use super::site::Site;
use super::start::Start;

const MAGIC: u32 = u32::from_le_bytes(*b"srlr");

/// The version that is written, and the only one that is read.
///
/// Version 1 had terms beside the delta's blocks.
pub const RECORD_VERSION: u16 = 2;

/// Why a record was not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum RecordError<E> {
    /// The medium's own error.
    Medium(E),
    /// No record, or of a version that this one does not read.
    Version {
        /// What stands where the version should be.
        given: u16,
    },
    /// State of another network.
    Binding {
        /// The network's number.
        needed: u32,
        /// The record's.
        given: u32,
    },
    /// State of a site of another shape, start or scale.
    Site,
    /// State that contradicts itself or the buffers lent for it.
    Core(CoreError),
    /// Bytes that are not those that were written.
    Checksum {
        /// The record's.
        needed: u32,
        /// That of the bytes that were read.
        given: u32,
    },
}

impl<E> From<CoreError> for RecordError<E> {
    fn from(error: CoreError) -> Self {
        RecordError::Core(error)
    }
}

/// CRC-32 as in zip and Ethernet (reflected, polynomial 0xedb88320), four bits at a time.
#[derive(Debug, Clone, Copy)]
struct Checksum(u32);

impl Checksum {
    const TABLE: [u32; 16] = {
        let mut table = [0; 16];
        let mut nibble = 0;
        while nibble < 16 {
            let (mut crc, mut bit) = (nibble, 0);
            while bit < 4 {
                crc = if crc & 1 == 1 { (crc >> 1) ^ 0xedb8_8320 } else { crc >> 1 };
                bit += 1;
            }
            table[nibble as usize] = crc;
            nibble += 1;
        }
        table
    };

    const fn new() -> Self {
        Checksum(!0)
    }

    fn update(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 ^= u32::from(byte);
            for _ in 0..2 {
                self.0 = (self.0 >> 4) ^ Self::TABLE[(self.0 & 15) as usize];
            }
        }
    }

    const fn value(self) -> u32 {
        !self.0
    }
}

/// Shape and settings of a site, as they must agree: a random start's seed is there too.
fn identity<const RANK: usize, const RESERVE: usize>(site: &Site<'_, RANK, RESERVE>) -> [u32; 10] {
    let (shape, config) = (&site.shape, &site.config);
    let (kind, seed) = match config.start {
        Start::Aligned => (0, 0),
        Start::Principal => (1, 0),
        Start::Random { seed } => (2, seed),
    };
    let kind = kind | u32::from(matches!(site.delta, Delta::Int8 { .. })) << 8;
    let kind = kind | u32::from(shape.sides == Sides::One) << 9;
    let lengths = [shape.out_dim, shape.in_dim, shape.rank, shape.reserve, shape.block];
    // A length beyond u32 is no record's: its buffers would not fit the address space of 32 bits.
    let [out_dim, in_dim, rank, reserve, block] = lengths.map(|n| u32::try_from(n).unwrap_or(u32::MAX));
    let halves = [seed as u32, (seed >> 32) as u32];
    [out_dim, in_dim, rank, reserve, block, kind, halves[0], halves[1], config.index, config.scale.to_bits()]
}

/// Writes a record, piece by piece, through a function that takes bytes.
#[derive(Debug)]
pub struct RecordWriter<W> {
    write: W,
    checksum: Checksum,
}

impl<E, W: FnMut(&[u8]) -> Result<(), E>> RecordWriter<W> {
    /// Begins a record of the network `binding`.
    ///
    /// # Errors
    /// What `write` returns; so below.
    pub fn new(write: W, binding: u32) -> Result<Self, E> {
        let mut writer = RecordWriter { write, checksum: Checksum::new() };
        writer.words([MAGIC, u32::from(RECORD_VERSION), binding])?;
        Ok(writer)
    }

    /// Numbers.
    #[expect(clippy::missing_errors_doc, reason = "said at `new`")]
    pub fn words(&mut self, words: impl IntoIterator<Item = u32>) -> Result<(), E> {
        self.each(words.into_iter().map(u32::to_le_bytes))
    }

    /// Floats, bit for bit.
    #[expect(clippy::missing_errors_doc, reason = "said at `new`")]
    pub fn floats(&mut self, floats: &[f32]) -> Result<(), E> {
        self.each(floats.iter().map(|x| x.to_le_bytes()))
    }

    /// Everything about a site that changes while it learns.
    #[expect(clippy::missing_errors_doc, reason = "said at `new`")]
    pub fn site<const RANK: usize, const RESERVE: usize>(&mut self, site: &Site<'_, RANK, RESERVE>) -> Result<(), E> {
        self.words(identity(site))?;
        let ledger = &*site.ledger;
        self.words(ledger.ages().iter().copied())?;
        self.each(ledger.directions().iter().map(|d| d.to_le_bytes()))?;
        self.words([ledger.reserve().len() as u32])?;
        self.each(ledger.reserve().map(u16::to_le_bytes))?;
        self.floats(site.state)?;
        match &site.delta {
            Delta::F32(values) => self.floats(values),
            Delta::Int8 { codes, scales } => {
                self.each(codes.iter().map(|c| c.to_le_bytes()))?;
                self.each(scales.iter().map(|s| s.to_le_bytes()))
            }
        }
    }

    /// Ends the record and returns its checksum: records with equal checksums hold equal bits.
    #[expect(clippy::missing_errors_doc, reason = "said at `new`")]
    pub fn finish(mut self) -> Result<u32, E> {
        let checksum = self.checksum.value();
        self.words([checksum])?;
        Ok(checksum)
    }

    fn each<const N: usize>(&mut self, values: impl Iterator<Item = [u8; N]>) -> Result<(), E> {
        for bytes in values {
            self.checksum.update(&bytes);
            (self.write)(&bytes)?;
        }
        Ok(())
    }
}

/// Reads a record, piece by piece, through a function that fills bytes; in the order in which it was written.
///
/// Only the end tells whether the bytes are those that were written. A caller that wants all or nothing takes the same pieces
/// twice: from a reader of [`RecordReader::verify`] to its [`RecordReader::finish`], then from one of [`RecordReader::new`].
///
/// The second may fail all the same, as the medium has changed in between, or where there was no first. Then the site that
/// failed is as [`Site::start`] leaves it, sites before it need that call, and numbers may be anything.
#[derive(Debug)]
pub struct RecordReader<R> {
    read: R,
    checksum: Checksum,
    fills: bool,
}

impl<E, R: FnMut(&mut [u8]) -> Result<(), E>> RecordReader<R> {
    /// Begins to read a record of the network `binding`.
    ///
    /// # Errors
    /// `Medium`, `Version` or `Binding`.
    pub fn new(read: R, binding: u32) -> Result<Self, RecordError<E>> {
        Self::begin(read, binding, true)
    }

    /// The same, for a reader that compares and checks all that [`RecordReader::new`]'s does, and leaves everything as it is.
    ///
    /// # Errors
    /// `Medium`, `Version` or `Binding`.
    pub fn verify(read: R, binding: u32) -> Result<Self, RecordError<E>> {
        Self::begin(read, binding, false)
    }

    fn begin(read: R, binding: u32, fills: bool) -> Result<Self, RecordError<E>> {
        let mut reader = RecordReader { read, checksum: Checksum::new(), fills };
        let [magic, version, given] = [reader.next()?, reader.next()?, reader.next()?].map(u32::from_le_bytes);
        if magic != MAGIC || version != u32::from(RECORD_VERSION) {
            return Err(RecordError::Version { given: version as u16 });
        }
        if given != binding {
            return Err(RecordError::Binding { needed: binding, given });
        }
        Ok(reader)
    }

    /// Fills `words`.
    ///
    /// # Errors
    /// `Medium`.
    pub fn words<'w>(&mut self, words: impl IntoIterator<Item = &'w mut u32>) -> Result<(), RecordError<E>> {
        self.fill(words, u32::from_le_bytes)
    }

    /// Fills `floats`.
    ///
    /// # Errors
    /// `Medium`.
    pub fn floats(&mut self, floats: &mut [f32]) -> Result<(), RecordError<E>> {
        self.fill(floats, f32::from_le_bytes)
    }

    /// Fills what the site lends; after an error it is as [`Site::start`] leaves it.
    ///
    /// # Errors
    /// `Medium`; `Site` where the record is of another one, `Core` where its ledger cannot be, or a buffer does not fit.
    pub fn site<const RANK: usize, const RESERVE: usize>(
        &mut self,
        site: &mut Site<'_, RANK, RESERVE>,
    ) -> Result<(), RecordError<E>> {
        let filled = self.fill_site(site);
        if filled.is_err() && self.fills {
            // Where the buffers lent do not fit, nothing was filled.
            let _ = site.start();
        }
        filled
    }

    /// Ends the record.
    ///
    /// # Errors
    /// `Medium`, or `Checksum` where the bytes are not those that were written.
    pub fn finish(mut self) -> Result<u32, RecordError<E>> {
        let given = self.checksum.value();
        let needed = u32::from_le_bytes(self.next()?);
        if needed == given { Ok(given) } else { Err(RecordError::Checksum { needed, given }) }
    }

    fn fill_site<const RANK: usize, const RESERVE: usize>(
        &mut self,
        site: &mut Site<'_, RANK, RESERVE>,
    ) -> Result<(), RecordError<E>> {
        // The ledger that is there is of no interest.
        site.check_buffers()?;
        for needed in identity(site) {
            if u32::from_le_bytes(self.next()?) != needed {
                return Err(RecordError::Site);
            }
        }
        let ledger = self.ledger(site)?;
        if self.fills {
            *site.ledger = ledger;
        }
        self.floats(site.state)?;
        match &mut site.delta {
            Delta::F32(values) => self.floats(values),
            Delta::Int8 { codes, scales } => {
                self.fill(codes.iter_mut(), i8::from_le_bytes)?;
                self.fill(scales.iter_mut(), f16::from_le_bytes)
            }
        }
    }

    fn ledger<const RANK: usize, const RESERVE: usize>(
        &mut self,
        site: &Site<'_, RANK, RESERVE>,
    ) -> Result<Ledger<RANK, RESERVE>, RecordError<E>> {
        let mut ages: Vec<u32, RANK> = Vec::new();
        let mut directions: Vec<u16, RANK> = Vec::new();
        let mut reserve: Vec<u16, RESERVE> = Vec::new();
        for _ in 0..site.shape.rank {
            ages.push(u32::from_le_bytes(self.next()?)).map_err(|_| CoreError::Ledger)?;
        }
        for _ in 0..site.shape.rank {
            directions.push(u16::from_le_bytes(self.next()?)).map_err(|_| CoreError::Ledger)?;
        }
        for _ in 0..u32::from_le_bytes(self.next()?) {
            reserve.push(u16::from_le_bytes(self.next()?)).map_err(|_| CoreError::Ledger)?;
        }
        Ok(Ledger::restore(&site.shape, ages, directions, reserve)?)
    }

    fn fill<'v, T: 'v, const N: usize>(
        &mut self,
        values: impl IntoIterator<Item = &'v mut T>,
        decode: fn([u8; N]) -> T,
    ) -> Result<(), RecordError<E>> {
        for value in values {
            let bytes = self.next()?;
            if self.fills {
                *value = decode(bytes);
            }
        }
        Ok(())
    }

    fn next<const N: usize>(&mut self) -> Result<[u8; N], RecordError<E>> {
        let mut bytes = [0; N];
        (self.read)(&mut bytes).map_err(RecordError::Medium)?;
        self.checksum.update(&bytes);
        Ok(bytes)
    }
}
