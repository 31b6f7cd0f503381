//! Entropy-coded data: Huffman tables, and the bits between two markers.

use std::io::BufRead;

use super::Fault;

/// Bits that are looked up at once; longer codes are searched.
const LOOKED_UP: u32 = 9;
/// Longest code.
const LONGEST: usize = 16;

/// A Huffman table (ITU T.81, annex C): codes of a length are consecutive, and follow those that are shorter.
pub(super) struct Huffman {
    /// For the next [`LOOKED_UP`] bits: symbol and length of the code that they begin with; 0 where it is longer.
    short: Vec<(u8, u8)>,
    /// By length less one: the first 16 bits, as a number, that are above all codes of up to that length.
    end: [u32; LONGEST],
    /// By length less one: a code and this make the index of its symbol.
    offset: [i32; LONGEST],
    symbols: Vec<u8>,
}

impl Huffman {
    /// `counts[l]` codes have l + 1 bits.
    ///
    /// # Errors
    /// `Damaged` where there are more codes of a length than bits can tell apart.
    pub(super) fn new(counts: &[u8; LONGEST], symbols: Vec<u8>) -> Result<Self, Fault> {
        let (mut code, mut index) = (0u32, 0i32);
        let (mut end, mut offset) = ([0; LONGEST], [0; LONGEST]);
        let mut short = vec![(0, 0); 1 << LOOKED_UP];
        for (at, &count) in counts.iter().enumerate() {
            let len = at as u32 + 1;
            offset[at] = index - code as i32;
            for _ in 0..count {
                if let (Some(shift), Some(&symbol)) = (LOOKED_UP.checked_sub(len), symbols.get(index as usize)) {
                    let from = (code << shift) as usize;
                    let codes = short.get_mut(from..from + (1 << shift)).ok_or(BAD_TABLE)?;
                    codes.fill((symbol, len as u8));
                }
                (code, index) = (code + 1, index + 1);
            }
            if code > 1 << len {
                return Err(BAD_TABLE);
            }
            end[at] = code << (LONGEST as u32 - len);
            code <<= 1;
        }
        Ok(Huffman { short, end, offset, symbols })
    }
}

const BAD_TABLE: Fault = Fault::Damaged("a Huffman table has too many codes");

/// Reads bits up to the next marker.
pub(super) struct Bits<'r, R> {
    input: &'r mut R,
    /// The next bits, the first of them highest; zeros after them.
    next: u64,
    count: u32,
    /// The marker that ended the data.
    marker: Option<u8>,
}

impl<'r, R: BufRead> Bits<'r, R> {
    pub(super) fn new(input: &'r mut R) -> Self {
        Bits { input, next: 0, count: 0, marker: None }
    }

    fn fill(&mut self) -> Result<(), Fault> {
        while self.count <= 56 && self.marker.is_none() {
            let byte = byte(self.input)?;
            if byte == 0xff {
                // A data byte FF is followed by 0; FF before a marker may be repeated.
                let mut after = 0xff;
                while after == 0xff {
                    after = self::byte(self.input)?;
                }
                if after != 0 {
                    self.marker = Some(after);
                    break;
                }
            }
            self.next |= u64::from(byte) << (56 - self.count);
            self.count += 8;
        }
        Ok(())
    }

    fn skip(&mut self, bits: u32) -> Result<(), Fault> {
        self.count = self.count.checked_sub(bits).ok_or(Fault::Damaged("a part of the picture is missing"))?;
        self.next <<= bits;
        Ok(())
    }

    /// The next `bits`, up to 16, as a number.
    pub(super) fn take(&mut self, bits: u32) -> Result<u32, Fault> {
        if bits == 0 {
            return Ok(0);
        }
        if self.count < bits {
            self.fill()?;
        }
        let value = (self.next >> (64 - bits)) as u32;
        self.skip(bits)?;
        Ok(value)
    }

    /// The number that `bits` stand for (T.81, F.2.2.1): without the sign of the larger half, -(2^bits - 1) ... 2^bits - 1.
    pub(super) fn signed(&mut self, bits: u32) -> Result<i32, Fault> {
        let value = self.take(bits)? as i32;
        let is_negative = bits > 0 && value < 1 << (bits - 1);
        Ok(if is_negative { value - (1 << bits) + 1 } else { value })
    }

    pub(super) fn symbol(&mut self, table: &Huffman) -> Result<u8, Fault> {
        if self.count < LONGEST as u32 {
            self.fill()?;
        }
        let (symbol, len) = table.short[(self.next >> (64 - LOOKED_UP)) as usize];
        if len > 0 {
            self.skip(u32::from(len))?;
            return Ok(symbol);
        }
        let ahead = (self.next >> 48) as u32;
        let at = table.end.iter().position(|end| ahead < *end).ok_or(NO_CODE)?;
        let code = ahead >> (LONGEST - 1 - at);
        let index = usize::try_from(code as i32 + table.offset[at]).map_err(|_| NO_CODE)?;
        self.skip(at as u32 + 1)?;
        table.symbols.get(index).copied().ok_or(NO_CODE)
    }

    /// The marker after the data; bits that are left, and bytes that encoders leave there, count for nothing.
    pub(super) fn end(mut self) -> Result<u8, Fault> {
        loop {
            self.fill()?;
            match self.marker {
                Some(marker) => return Ok(marker),
                None => (self.next, self.count) = (0, 0),
            }
        }
    }

    /// Goes on behind a restart marker.
    pub(super) fn restart(&mut self) -> Result<(), Fault> {
        (self.next, self.count) = (0, 0);
        self.fill()?;
        match self.marker.take() {
            Some(0xd0..=0xd7) if self.count == 0 => Ok(()),
            _ => Err(Fault::Damaged("a restart marker is not where it belongs")),
        }
    }
}

const NO_CODE: Fault = Fault::Damaged("a code is in no Huffman table");

/// The next byte.
pub(super) fn byte(input: &mut impl BufRead) -> Result<u8, Fault> {
    let byte = *input.fill_buf()?.first().ok_or(Fault::Truncated)?;
    input.consume(1);
    Ok(byte)
}
