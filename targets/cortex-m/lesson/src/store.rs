//! Generations of the lesson in NOR flash: the newest that is whole counts, whenever the power goes.
//!
//! A record is cut into pieces, each an item of `sequential-storage`'s map. Generations take turns between two sets of
//! keys, so that writing one leaves the other alone; an item that names the newer one comes last. Up to that item the
//! old generation counts, from it on the new one. The map puts pages to use in turn, which spreads the wear.

use core::ops::Range;

use embassy_futures::block_on;
use embedded_storage::nor_flash::NorFlash;
use embedded_storage_async::nor_flash::{ErrorType, NorFlash as AsyncNorFlash, ReadNorFlash as AsyncReadNorFlash};
use sequential_storage::cache::Cache;
use sequential_storage::cache::key_pointers::ArrayKeyPointers;
use sequential_storage::cache::page_pointers::ArrayPagePointers;
use sequential_storage::cache::page_states::ArrayPageStates;
use sequential_storage::map::{MapConfig, MapStorage};
use srlora::core::{RecordError, RecordReader};

use crate::lesson::Lesson;
use crate::network::BINDING;

/// Pages of flash that a store takes: two generations, and room to move.
pub const PAGES: usize = 20;
/// Bytes a piece: with key and header, eight of them fill a page of 4 KiB.
const PIECE: usize = 496;
/// Key and piece, in whole words of the widest flash.
const ITEM: usize = (2 + PIECE).next_multiple_of(32);
/// Pieces of one generation, at most: a key's low byte.
const MOST_PIECES: u16 = 256;
/// The key that names the newest generation.
const NEWEST: u16 = u16::MAX;
/// Keys whose place is remembered: one generation's.
const KEYS: usize = 64;

type PageCache = Cache<ArrayPageStates<PAGES>, ArrayPagePointers<PAGES>, ArrayKeyPointers<u16, KEYS>, u16>;

/// Why a generation was not saved or loaded.
#[derive(Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum StoreError<E> {
    /// The flash's own error, or what is wrong with the items in it.
    Flash(sequential_storage::Error<E>),
    /// A piece of the newest generation is missing.
    Piece(u16),
    /// A generation of more pieces than there are keys.
    TooLong,
}

/// What went wrong, with the record around it.
pub type Failure<E> = RecordError<StoreError<E>>;

/// One durable version of the lesson.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Generation {
    /// Counted from 1.
    pub number: u32,
    /// Of its record.
    pub checksum: u32,
}

/// The generations in one range of a flash.
pub struct Store<F: NorFlash> {
    map: Map<F>,
    /// What the map needs to move an item.
    item: [u8; ITEM],
    /// The piece that is being filled or emptied.
    piece: [u8; PIECE],
}

impl<F: NorFlash> Store<F> {
    /// The store in `range` of `flash`, [`PAGES`] pages long. Nothing is read yet.
    ///
    /// # Panics
    /// Where the range is not of whole pages, or too short: a constant of the board is wrong.
    #[must_use]
    pub fn new(flash: F, range: Range<u32>) -> Self {
        let cache = Cache::new(ArrayPageStates::new(), ArrayPagePointers::new(), ArrayKeyPointers::new());
        let map = MapStorage::new(Blocking(flash), MapConfig::new(range), cache);
        Store { map, item: [0; ITEM], piece: [0; PIECE] }
    }

    /// Gives the flash back.
    pub fn close(self) -> F {
        self.map.destroy().0.0
    }

    /// The generation that counts, if there is any.
    ///
    /// # Errors
    /// The flash's, or `Piece` where the item that names it cannot be one.
    pub fn newest(&mut self) -> Result<Option<Generation>, StoreError<F::Error>> {
        let Some(item) = fetch(&mut self.map, &mut self.item, NEWEST)? else { return Ok(None) };
        let ([number, checksum], []) = item.as_chunks() else { return Err(StoreError::Piece(NEWEST)) };
        Ok(Some(Generation { number: u32::from_le_bytes(*number), checksum: u32::from_le_bytes(*checksum) }))
    }

    /// Saves the lesson as the next generation; until the last write the one before it counts.
    ///
    /// # Errors
    /// `Medium` with the flash's error; the generation before it still counts.
    pub fn save(&mut self, lesson: &mut Lesson) -> Result<Generation, Failure<F::Error>> {
        let number = self.newest().map_err(RecordError::Medium)?.map_or(0, |newest| newest.number) + 1;
        let Store { map, item, piece } = self;
        let (mut filled, mut nth) = (0, 0);
        let checksum = lesson.write(|bytes| {
            for &byte in bytes {
                if filled == PIECE {
                    put(map, item, key(number, nth)?, piece)?;
                    (filled, nth) = (0, nth + 1);
                }
                piece[filled] = byte;
                filled += 1;
            }
            Ok(())
        });
        let checksum = checksum.map_err(RecordError::Medium)?;
        let mut last = || {
            put(map, item, key(number, nth)?, &piece[..filled])?;
            piece[..4].copy_from_slice(&number.to_le_bytes());
            piece[4..8].copy_from_slice(&checksum.to_le_bytes());
            put(map, item, NEWEST, &piece[..8])
        };
        last().map_err(RecordError::Medium)?;
        Ok(Generation { number, checksum })
    }

    /// Loads the newest generation, if there is any: read once to see that it is whole, and once more into the lesson.
    ///
    /// # Errors
    /// `Medium` with the flash's error or the missing piece, or what is wrong with the record. The lesson is then as it was,
    /// unless the flash has answered differently the second time: then it is not to be used before [`Lesson::begin`].
    pub fn load(&mut self, lesson: &mut Lesson) -> Result<Option<Generation>, Failure<F::Error>> {
        let Some(newest) = self.newest().map_err(RecordError::Medium)? else { return Ok(None) };
        let Store { map, item, piece } = self;
        let whole = RecordReader::verify(pieces(map, item, piece, newest.number), BINDING)?;
        let given = lesson.read(whole)?;
        if given != newest.checksum {
            return Err(RecordError::Checksum { needed: newest.checksum, given });
        }
        lesson.read(RecordReader::new(pieces(map, item, piece, newest.number), BINDING)?)?;
        Ok(Some(newest))
    }
}

/// The bytes of a generation, in order.
fn pieces<F: NorFlash>(
    map: &mut Map<F>,
    item: &mut [u8],
    piece: &mut [u8; PIECE],
    generation: u32,
) -> impl FnMut(&mut [u8]) -> Result<(), StoreError<F::Error>> {
    let (mut from, mut to, mut nth) = (0, 0, 0);
    move |bytes| {
        for byte in bytes {
            if from == to {
                let found = fetch(map, item, key(generation, nth)?)?;
                let found = found.filter(|found| (1..=PIECE).contains(&found.len()));
                let found = found.ok_or(StoreError::Piece(nth))?;
                piece[..found.len()].copy_from_slice(found);
                (from, to, nth) = (0, found.len(), nth + 1);
            }
            *byte = piece[from];
            from += 1;
        }
        Ok(())
    }
}

type Map<F> = MapStorage<u16, Blocking<F>, PageCache>;

/// Stores one item. Never inlined, so that its future is on the stack once.
#[inline(never)]
fn put<F: NorFlash>(map: &mut Map<F>, item: &mut [u8], key: u16, value: &[u8]) -> Result<(), StoreError<F::Error>> {
    block_on(map.store_item(item, &key, &value)).map_err(StoreError::Flash)
}

/// Fetches one item. Never inlined, as [`put`].
#[inline(never)]
fn fetch<'i, F: NorFlash>(
    map: &mut Map<F>,
    item: &'i mut [u8],
    key: u16,
) -> Result<Option<&'i [u8]>, StoreError<F::Error>> {
    block_on(map.fetch_item(item, &key)).map_err(StoreError::Flash)
}

/// Two sets of keys, used in turn.
const fn key<E>(generation: u32, piece: u16) -> Result<u16, StoreError<E>> {
    if piece < MOST_PIECES { Ok((generation & 1) as u16 * MOST_PIECES + piece) } else { Err(StoreError::TooLong) }
}

/// A flash that answers at once, where one that may take its time is asked for.
#[derive(Debug)]
struct Blocking<F>(F);

impl<F: NorFlash> ErrorType for Blocking<F> {
    type Error = F::Error;
}

impl<F: NorFlash> AsyncReadNorFlash for Blocking<F> {
    const READ_SIZE: usize = F::READ_SIZE;

    async fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), F::Error> {
        self.0.read(offset, bytes)
    }

    fn capacity(&self) -> usize {
        self.0.capacity()
    }
}

impl<F: NorFlash> AsyncNorFlash for Blocking<F> {
    const WRITE_SIZE: usize = F::WRITE_SIZE;
    const ERASE_SIZE: usize = F::ERASE_SIZE;

    async fn erase(&mut self, from: u32, to: u32) -> Result<(), F::Error> {
        self.0.erase(from, to)
    }

    async fn write(&mut self, offset: u32, bytes: &[u8]) -> Result<(), F::Error> {
        self.0.write(offset, bytes)
    }
}
