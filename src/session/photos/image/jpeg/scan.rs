//! Scans: which blocks come in which order, and what each of them adds.

use std::io::BufRead;

use super::bits::{Bits, Huffman, byte};
use super::scaled::{ScaledPicture, Scaling};
use super::{Component, Fault, Frame, Tables};

/// Bits of the largest difference of two DC values, in 8-bit pictures; and of the largest coefficient.
const MOST_BITS: u32 = 11;

/// One component's part in a scan.
struct Part {
    /// Index of the component.
    component: usize,
    dc: usize,
    ac: usize,
}

/// A scan's header.
pub(super) struct Scan {
    parts: Vec<Part>,
    /// The first and the last coefficient of the zigzag order.
    band: [usize; 2],
    /// The bit that coefficients are known to before this scan; 0 before the first.
    high: u32,
    /// The bit that they are known to after it.
    low: u32,
}

impl Scan {
    pub(super) fn read(frame: &Frame, segment: &mut impl BufRead) -> Result<Self, Fault> {
        let invalid = Fault::Damaged("a scan has an invalid header");
        let count = byte(segment)?;
        let mut parts: Vec<Part> = Vec::new();
        for _ in 0..count {
            let [id, tables] = [byte(segment)?, byte(segment)?];
            let Some(component) = frame.components.iter().position(|c| c.id == id) else { return Err(invalid) };
            let is_known = parts.iter().any(|part| part.component == component);
            if is_known || tables >> 4 > 3 || tables & 15 > 3 {
                return Err(invalid);
            }
            parts.push(Part { component, dc: usize::from(tables >> 4), ac: usize::from(tables & 15) });
        }
        let [first, last, bits] = [byte(segment)?, byte(segment)?, byte(segment)?];
        let [high, low] = [bits >> 4, bits & 15].map(u32::from);
        let scan = Scan { parts, band: [first, last].map(usize::from), high, low };
        if scan.is_valid(frame.is_progressive) { Ok(scan) } else { Err(invalid) }
    }

    /// Indices of its components.
    pub(super) fn components(&self) -> impl Iterator<Item = usize> {
        self.parts.iter().map(|part| part.component)
    }

    fn is_valid(&self, is_progressive: bool) -> bool {
        let Scan { parts, band: [first, last], high, low } = self;
        let refines = *high == 0 || *high == low + 1;
        // DC values have scans of their own, and a scan of others a single component.
        let band = if *first == 0 { *last == 0 } else { first <= last && *last < 64 && parts.len() == 1 };
        !parts.is_empty() && (!is_progressive || (refines && band && *low <= 13))
    }

    /// Calls `each` with the index in `parts` and the place of every block, in order; where bits begin anew after a restart marker,
    /// with none.
    fn blocks<R: BufRead>(
        &self,
        frame: &Frame,
        restart_interval: usize,
        input: &mut R,
        mut each: impl FnMut(&mut Bits<R>, Option<(usize, [usize; 2])>) -> Result<(), Fault>,
    ) -> Result<u8, Fault> {
        let mut bits = Bits::new(input);
        let (units, alone) = match &self.parts[..] {
            [part] => (frame.blocks(&frame.components[part.component]), true),
            _ => (frame.units(), false),
        };
        for unit in 0..units[0] * units[1] {
            if restart_interval > 0 && unit > 0 && unit.is_multiple_of(restart_interval) {
                bits.restart()?;
                each(&mut bits, None)?;
            }
            let at = [unit % units[0], unit / units[0]];
            for (index, part) in self.parts.iter().enumerate() {
                let [across, down] = if alone { [1, 1] } else { frame.components[part.component].sampling };
                for within in 0..across * down {
                    let block = [at[0] * across + within % across, at[1] * down + within / across];
                    each(&mut bits, Some((index, block)))?;
                }
            }
        }
        bits.end()
    }

    /// Decodes a scan of a sequential picture, and draws it; gives the marker after it.
    pub(super) fn draw(
        &self,
        frame: &Frame,
        tables: &Tables,
        scalings: &[Scaling],
        input: &mut impl BufRead,
        picture: &mut ScaledPicture,
    ) -> Result<u8, Fault> {
        let mut coders = Vec::new();
        for part in &self.parts {
            let (component, scaling) = (&frame.components[part.component], &scalings[part.component]);
            let [dc, ac] = [table(&tables.dc, part.dc)?, table(&tables.ac, part.ac)?];
            coders.push((dc, ac, tables.quantization(component, scaling)?));
        }
        let mut before = vec![0; self.parts.len()];
        self.blocks(frame, tables.restart_interval, input, |bits, block| {
            let Some((index, block)) = block else {
                before.fill(0);
                return Ok(());
            };
            let (channel, (dc, ac, quantization)) = (self.parts[index].component, &coders[index]);
            let (mut coefficients, mut seen) = ([0; 64], 0);
            let scaling = &scalings[channel];
            let kept = &mut coefficients[..scaling.coefficients()];
            let mut values = Values { places: &scaling.kept, kept, seen: &mut seen };
            before[index] = difference(bits, dc, before[index])?;
            values.set(0, before[index]);
            let mut run = 0;
            values.first(bits, Band { table: ac, ends: [1, 63], low: 0 }, &mut run)?;
            match run {
                0 => scaling.draw(&coefficients[..scaling.coefficients()], quantization, block, (channel, picture)),
                _ => return Err(Fault::Damaged("a run of empty blocks is in a sequential scan")),
            }
            Ok(())
        })
    }

    /// Decodes a scan of a progressive picture into `waiting`, by component; gives the marker after it.
    pub(super) fn gather(
        &self,
        frame: &Frame,
        tables: &Tables,
        waiting: &mut [Waiting],
        input: &mut impl BufRead,
    ) -> Result<u8, Fault> {
        let mut coders = Vec::new();
        for part in &self.parts {
            coders.push(match (self.band[0], self.high) {
                (0, 0) => Some(table(&tables.dc, part.dc)?),
                (0, _) => None,
                _ => Some(table(&tables.ac, part.ac)?),
            });
        }
        let (mut before, mut run) = (vec![0; self.parts.len()], 0);
        self.blocks(frame, tables.restart_interval, input, |bits, block| {
            let Some((index, block)) = block else {
                before.fill(0);
                run = 0;
                return Ok(());
            };
            let mut values = waiting[self.parts[index].component].values(block);
            let band = |table| Band { table, ends: self.band, low: self.low };
            match (coders[index], self.high) {
                (Some(dc), _) if self.band[0] == 0 => {
                    before[index] = difference(bits, dc, before[index])?;
                    values.set(0, before[index] << self.low);
                }
                (Some(ac), 0) => values.first(bits, band(ac), &mut run)?,
                (Some(ac), _) => values.refine(bits, band(ac), &mut run)?,
                (None, _) if bits.take(1)? == 1 => values.add_bit(0, self.low),
                (None, _) => {}
            }
            Ok(())
        })
    }
}

fn table(tables: &[Option<Huffman>; 4], at: usize) -> Result<&Huffman, Fault> {
    tables[at].as_ref().ok_or(Fault::Damaged("a Huffman table is missing"))
}

/// The DC value after `before`.
fn difference<R: BufRead>(bits: &mut Bits<R>, table: &Huffman, before: i32) -> Result<i32, Fault> {
    let len = u32::from(bits.symbol(table)?);
    if len > MOST_BITS {
        return Err(TOO_LARGE);
    }
    let value = before + bits.signed(len)?;
    if value.abs() < 1 << 16 { Ok(value) } else { Err(TOO_LARGE) }
}

const TOO_LARGE: Fault = Fault::Damaged("a coefficient is too large");

/// What a scan tells of AC coefficients.
#[derive(Clone, Copy)]
struct Band<'t> {
    table: &'t Huffman,
    /// The first and the last of them in the zigzag order.
    ends: [usize; 2],
    /// The bit from which on they are known.
    low: u32,
}

/// The coefficients of a block, by place in the zigzag order.
struct Values<'v> {
    /// Where those that are kept lie in `kept`; beyond its end for the others.
    places: &'v [u8; 64],
    kept: &'v mut [i16],
    /// A bit for each coefficient that is not zero.
    seen: &'v mut u64,
}

impl Values<'_> {
    fn set(&mut self, at: usize, value: i32) {
        *self.seen |= 1 << at;
        if let Some(kept) = self.kept.get_mut(usize::from(self.places[at])) {
            *kept = value.clamp(i16::MIN.into(), i16::MAX.into()) as i16;
        }
    }

    /// Adds bit `low` to the magnitude; two's complement has it in DC values of either sign.
    fn add_bit(&mut self, at: usize, low: u32) {
        if let Some(kept) = self.kept.get_mut(usize::from(self.places[at])) {
            let bit = 1 << low;
            *kept = if at == 0 { *kept | bit } else { kept.saturating_add(kept.signum().saturating_mul(bit)) };
        }
    }

    /// Takes up the AC coefficients of a band (T.81, F.2.2.2 and G.1.2.2). `run` blocks, this one included,
    /// have none.
    fn first<R: BufRead>(
        &mut self,
        bits: &mut Bits<R>,
        Band { table, ends: [first, last], low }: Band,
        run: &mut u32,
    ) -> Result<(), Fault> {
        if *run > 0 {
            *run -= 1;
            return Ok(());
        }
        let mut at = first;
        while at <= last {
            let symbol = bits.symbol(table)?;
            let [zeros, len] = [symbol >> 4, symbol & 15].map(u32::from);
            match (zeros, len) {
                (15, 0) => at += 16,
                (_, 0) => {
                    *run = (1 << zeros) - 1 + bits.take(zeros)?;
                    return Ok(());
                }
                _ => {
                    at += zeros as usize;
                    if at > last || len > MOST_BITS + 4 {
                        return Err(TOO_MANY);
                    }
                    let value = bits.signed(len)?;
                    self.set(at, value << low);
                    at += 1;
                }
            }
        }
        Ok(())
    }

    /// Adds a bit to the AC coefficients of a band that are not zero, and takes up those that begin with it (T.81, G.1.2.3).
    fn refine<R: BufRead>(
        &mut self,
        bits: &mut Bits<R>,
        Band { table, ends: [first, last], low }: Band,
        run: &mut u32,
    ) -> Result<(), Fault> {
        let mut at = first;
        while at <= last && *run == 0 {
            let symbol = bits.symbol(table)?;
            let (mut zeros, len) = (u32::from(symbol >> 4), symbol & 15);
            let new = match len {
                0 if zeros < 15 => {
                    *run = (1 << zeros) + bits.take(zeros)?;
                    break;
                }
                0 => None,
                1 => Some(if bits.take(1)? == 1 { 1 } else { -1 }),
                _ => return Err(TOO_LARGE),
            };
            // Passes over as many zeros, and over what is not zero among them.
            while at <= last {
                if *self.seen >> at & 1 == 1 {
                    if bits.take(1)? == 1 {
                        self.add_bit(at, low);
                    }
                } else if zeros > 0 {
                    zeros -= 1;
                } else {
                    break;
                }
                at += 1;
            }
            match new {
                Some(_) if at > last => return Err(TOO_MANY),
                Some(sign) => self.set(at, sign << low),
                None => {}
            }
            at += 1;
        }
        if *run > 0 {
            *run -= 1;
            for at in at..=last {
                if *self.seen >> at & 1 == 1 && bits.take(1)? == 1 {
                    self.add_bit(at, low);
                }
            }
        }
        Ok(())
    }
}

const TOO_MANY: Fault = Fault::Damaged("a block has too many coefficients");

/// Coefficients of one component of a progressive picture that wait for its last scan.
pub(super) struct Waiting {
    /// Blocks in a row, those that fill up the last unit included.
    across: usize,
    /// Coefficients of a block that are kept.
    each: usize,
    places: [u8; 64],
    kept: Vec<i16>,
    seen: Vec<u64>,
}

impl Waiting {
    pub(super) fn new(frame: &Frame, component: &Component, scaling: &Scaling) -> Self {
        let [across, down] = Self::blocks(frame, component);
        let each = scaling.coefficients();
        let (kept, seen) = (vec![0; across * down * each], vec![0; across * down]);
        Waiting { across, each, places: scaling.kept, kept, seen }
    }

    /// Bytes that one takes.
    pub(super) fn bytes(frame: &Frame, component: &Component, scaling: &Scaling) -> usize {
        let [across, down] = Self::blocks(frame, component);
        across * down * (2 * scaling.coefficients() + 8)
    }

    fn blocks(frame: &Frame, component: &Component) -> [usize; 2] {
        let units = frame.units();
        [0, 1].map(|axis| units[axis] * component.sampling[axis])
    }

    fn values(&mut self, [x, y]: [usize; 2]) -> Values<'_> {
        let block = y * self.across + x;
        let kept = &mut self.kept[block * self.each..][..self.each];
        Values { places: &self.places, kept, seen: &mut self.seen[block] }
    }

    pub(super) fn draw(
        &self,
        scaling: &Scaling,
        quantization: &[i32; 64],
        (channel, picture): (usize, &mut ScaledPicture),
    ) {
        for (block, kept) in self.kept.chunks_exact(self.each).enumerate() {
            scaling.draw(kept, quantization, [block % self.across, block / self.across], (channel, picture));
        }
    }
}
