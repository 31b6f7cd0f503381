//! Numbers picked and put by an index that the file knows: GatherND and ScatterND, as a Gather of blocks.
//!
//! A tensor is a row of blocks, each of the values behind one index. GatherND picks blocks. ScatterND picks too: of the data's blocks
//! with those of the updates behind them, at each place the data's own or the update that was put there last.

use super::call::Call;
use super::fact::{Fact, Kind, Made, Outcome};
use crate::limits;

/// Which block goes to each place.
pub(super) struct Picks {
    /// Indices of blocks.
    pub(super) table: Vec<usize>,
    /// Blocks that are picked from.
    pub(super) from: usize,
    /// Values of a block.
    pub(super) block: usize,
    pub(super) dims: Vec<usize>,
}

impl Call<'_> {
    pub(super) fn indexed(&self) -> Outcome<Made> {
        let Picks { table, from, block, dims } = self.picks()?;
        let x = self.operand(0)?;
        let scratch = (from + table.len()).saturating_mul(block);
        Ok(Made { outputs: vec![x.shaped(dims)], scratch, multiply_adds: 0 })
    }

    pub(super) fn picks(&self) -> Outcome<Picks> {
        match self.node.op_type.as_str() {
            "GatherND" => self.gather_nd(),
            _ => self.scatter_nd(),
        }
    }

    fn gather_nd(&self) -> Outcome<Picks> {
        self.takes(2..=2)?;
        let data = self.operand(0)?;
        let shared = usize::try_from(self.int("batch_dims")?.unwrap_or(0)).map_err(|_| "its batch_dims is negative")?;
        let (table, rows, depth) = self.blocks_at(shared)?;
        let from = data.dims[..depth].iter().product();
        let dims: Vec<usize> = rows.iter().chain(&data.dims[depth..]).copied().collect();
        limits::elements(&dims, usize::MAX).ok_or("its output is too large")?;
        Ok(Picks { table, from, block: data.dims[depth..].iter().product(), dims })
    }

    fn scatter_nd(&self) -> Outcome<Picks> {
        self.takes(3..=3)?;
        if !["", "none"].contains(&self.text("reduction")?) {
            return Err("it adds up what it puts in one place, which is not taken; PyTorch's other exporter may write it otherwise".into());
        }
        let (data, updates) = (self.operand(0)?, self.operand(2)?);
        let (places, rows, depth) = self.blocks_at(0)?;
        let needed: Vec<usize> = rows.iter().chain(&data.dims[depth..]).copied().collect();
        if updates.dims != needed || updates.kind != data.kind {
            return Err(format!("its updates have the shape {:?}, not {needed:?}, or another type", updates.dims));
        }
        let own: usize = data.dims[..depth].iter().product();
        if own > limits::MOST_INTEGERS {
            return Err(format!("it puts numbers in {own} places; {} are taken", limits::MOST_INTEGERS));
        }
        let mut table: Vec<usize> = (0..own).collect();
        for (nth, place) in places.iter().enumerate() {
            table[*place] = own + nth;
        }
        let block = data.dims[depth..].iter().product();
        Ok(Picks { table, from: own + places.len(), block, dims: data.dims.clone() })
    }

    /// Which block of operand 0 each index of operand 1 names; the shape of the indices; how many axes they reach over. The first
    /// `shared` axes of both go together.
    fn blocks_at(&self, shared: usize) -> Outcome<(Vec<usize>, &[usize], usize)> {
        let (data, indices) = (self.operand(0)?, self.operand(1)?);
        let known = indices.known.as_ref().filter(|_| indices.kind != Kind::Truth);
        let known = known.ok_or("its indices do not follow from the file, which is not taken")?;
        let (Some((&reach, rows)), false) = (indices.dims.split_last(), data.elements() == 0) else {
            return Err("its data or its indices are empty".into());
        };
        let depth = shared + reach;
        if reach == 0 || depth > data.dims.len() || shared > rows.len() || rows[..shared] != data.dims[..shared] {
            return Err(format!("its indices of {:?} do not fit data of {:?}", indices.dims, data.dims));
        }
        let axes = &data.dims[shared..depth];
        let blocks: usize = axes.iter().product();
        let each = (rows[shared..].iter().product::<usize>()).max(1);
        let mut table = Vec::new();
        for (row, index) in known.chunks_exact(reach).enumerate() {
            let mut at = row / each;
            for (&i, &dim) in index.iter().zip(axes) {
                let from_start = if i < 0 { i + dim as i64 } else { i };
                let inside = usize::try_from(from_start).ok().filter(|i| *i < dim);
                at = at * dim + inside.ok_or_else(|| format!("its index {i} is outside {dim}"))?;
            }
            debug_assert!(at < blocks * data.dims[..shared].iter().product::<usize>());
            table.push(at);
        }
        Ok((table, rows, depth))
    }

    /// The same of integers, worked out.
    pub(super) fn picked_blocks(&self) -> Outcome<(Kind, Vec<usize>, Vec<i64>)> {
        let picks = self.picks()?;
        let known = |place: usize| self.optional(place).and_then(|fact| fact.known.as_deref()).unwrap_or_default();
        let all = [known(0), if self.node.op_type == "ScatterND" { known(2) } else { &[] }].concat();
        let block = |at: &usize| all[at * picks.block..(at + 1) * picks.block].iter().copied();
        let values = picks.table.iter().flat_map(block).collect();
        Ok((self.operand(0)?.kind, picks.dims, values))
    }
}

impl Picks {
    /// Operands as blocks: how many each is.
    pub(super) fn of(&self, fact: &Fact) -> usize {
        fact.elements() / self.block.max(1)
    }
}
