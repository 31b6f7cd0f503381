//! The file that onnxruntime's `LoraAdapter` loads: named tensors, as FlatBuffers.
//!
//! The schema is onnxruntime's (`onnxruntime/lora/adapter_format/adapter_schema.fbs`):
//!
//! ```text
//! Parameter  { name: string, dims: [int64], data_type: int32, raw_data: [uint8], aligned to 8 }
//! Adapter    { format_version: int32 = 1, adapter_version: int32, model_version: int32, parameters: [Parameter] }
//! file       offset of the Adapter, "TORT", all else
//! ```
//!
//! In FlatBuffers everything is little-endian. A table begins with the distance back to its vtable, which has the place of each field
//! within the table, 0 where the field is not there. A string, a vector or a table within another is an offset from where it is said.
//! Two tables of fixed shape need no builder, and no code that is made from the schema.

/// What stands behind the first offset.
const IDENTIFIER: &[u8; 4] = b"TORT";
/// The version of the schema.
const FORMAT_VERSION: i32 = 1;
/// Offsets are signed in part: no file is larger.
const MOST_BYTES: usize = i32::MAX as usize;
/// Where the fields of both tables lie: four of 4 bytes each, behind the distance to the vtable.
const FIELDS: [u16; 4] = [4, 8, 12, 16];
const VTABLE_BYTES: usize = 4 + 2 * FIELDS.len();
const TABLE_BYTES: usize = 4 + 4 * FIELDS.len();

/// A tensor of an adapter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Parameter {
    pub(super) name: String,
    pub(super) dims: Vec<usize>,
    /// As ONNX counts types: 1 for f32, 2 for u8.
    pub(super) data_type: i32,
    /// Its values, little-endian.
    pub(super) raw: Vec<u8>,
}

/// What an adapter holds. onnxruntime reads the versions and compares them with nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct AdapterFile {
    pub(super) adapter_version: i32,
    pub(super) model_version: i32,
    pub(super) parameters: Vec<Parameter>,
}

impl AdapterFile {
    /// The bytes of the file; `None` where there are more than 2 GiB.
    pub(super) fn bytes(&self) -> Option<Vec<u8>> {
        let size = |parameter: &Parameter| parameter.raw.len() + parameter.name.len() + 8 * parameter.dims.len() + 64;
        let expected = self.parameters.iter().map(size).sum::<usize>() + 128;
        if expected > MOST_BYTES {
            return None;
        }
        let mut out = Writer(Vec::with_capacity(expected));
        let root = out.offset();
        out.0.extend_from_slice(IDENTIFIER);
        let vtable = out.vtable();
        let table = out.table(vtable);
        out.point(root, table);
        let [format, adapter, model, parameters] = fields(table);
        out.put(format, FORMAT_VERSION);
        out.put(adapter, self.adapter_version);
        out.put(model, self.model_version);
        let count = out.length(self.parameters.len());
        out.point(parameters, count);
        let entries: Vec<usize> = self.parameters.iter().map(|_| out.offset()).collect();
        let tables: Vec<usize> = entries.iter().map(|_| out.table(vtable)).collect();
        for ((parameter, entry), table) in self.parameters.iter().zip(entries).zip(tables) {
            out.point(entry, table);
            out.parameter(parameter, table);
        }
        Some(out.0)
    }

    /// What `bytes` hold; `None` where they are no such file, or a damaged one.
    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        let file = Reader(bytes);
        if bytes.get(4..8)? != IDENTIFIER {
            return None;
        }
        let root = file.target(0)?;
        let number = |field: usize| file.field(root, field).map_or(Some(0), |at| file.number(at));
        if number(0)? != FORMAT_VERSION {
            return None;
        }
        let (entries, count) = file.vector(root, 3, 4)?;
        let parameter = |entry: usize| file.parameter(file.target(entries + 4 * entry)?);
        let parameters = (0..count).map(parameter).collect::<Option<_>>()?;
        Some(AdapterFile { adapter_version: number(1)?, model_version: number(2)?, parameters })
    }
}

/// Where the fields of the table at `table` lie.
fn fields(table: usize) -> [usize; 4] {
    FIELDS.map(|field| table + usize::from(field))
}

/// A file from the front to the back: offsets are written first and filled in when their target has its place.
struct Writer(Vec<u8>);

impl Writer {
    /// Room for an offset, or another number.
    fn offset(&mut self) -> usize {
        self.0.extend_from_slice(&[0; 4]);
        self.0.len() - 4
    }

    fn put(&mut self, at: usize, value: i32) {
        self.0[at..at + 4].copy_from_slice(&value.to_le_bytes());
    }

    /// Lets the offset at `from` lead to `to`, further back. What is written is shorter than an i32 can say.
    fn point(&mut self, from: usize, to: usize) {
        self.put(from, (to - from) as i32);
    }

    fn length(&mut self, len: usize) -> usize {
        let at = self.offset();
        self.put(at, len as i32);
        at
    }

    fn vtable(&mut self) -> usize {
        let at = self.0.len();
        let sizes = [VTABLE_BYTES as u16, TABLE_BYTES as u16];
        self.0.extend(sizes.into_iter().chain(FIELDS).flat_map(u16::to_le_bytes));
        at
    }

    /// Room for a table.
    fn table(&mut self, vtable: usize) -> usize {
        let at = self.0.len();
        self.0.resize(at + TABLE_BYTES, 0);
        self.put(at, (at - vtable) as i32);
        at
    }

    fn parameter(&mut self, parameter: &Parameter, table: usize) {
        let [name, dims, data_type, raw] = fields(table);
        self.put(data_type, parameter.data_type);
        let text = parameter.name.as_bytes();
        self.vector(name, text.len(), text);
        // A string ends with a zero that its length does not count.
        self.0.push(0);
        let sizes: Vec<u8> = parameter.dims.iter().flat_map(|&dim| (dim as i64).to_le_bytes()).collect();
        self.vector(dims, parameter.dims.len(), &sizes);
        self.vector(raw, parameter.raw.len(), &parameter.raw);
    }

    /// A vector of `len` elements, whose first lies at a multiple of 8.
    fn vector(&mut self, from: usize, len: usize, elements: &[u8]) {
        let end = self.0.len();
        self.0.resize((end + 4).next_multiple_of(8) - 4, 0);
        let at = self.length(len);
        self.point(from, at);
        self.0.extend_from_slice(elements);
    }
}

/// A file from anywhere.
struct Reader<'b>(&'b [u8]);

impl Reader<'_> {
    fn number(&self, at: usize) -> Option<i32> {
        self.0.get(at..at.checked_add(4)?).and_then(|bytes| bytes.try_into().ok()).map(i32::from_le_bytes)
    }

    /// Where the offset at `at` leads.
    fn target(&self, at: usize) -> Option<usize> {
        at.checked_add(usize::try_from(self.number(at)?).ok()?)
    }

    /// The place of a field of the table at `table`; `None` where it is not there.
    fn field(&self, table: usize, field: usize) -> Option<usize> {
        let back = isize::try_from(self.number(table)?).ok()?;
        let vtable = table.checked_add_signed(back.checked_neg()?)?;
        let short = |at: usize| {
            let bytes = self.0.get(at..at.checked_add(2)?)?.try_into().ok()?;
            Some(usize::from(u16::from_le_bytes(bytes)))
        };
        let place = 4 + 2 * field;
        let place = (place + 2 <= short(vtable)?).then(|| short(vtable + place))??;
        (place != 0).then(|| table.checked_add(place))?
    }

    /// Where the elements of a field begin, each of `size` bytes, and how many there are; all of them lie in the file.
    fn vector(&self, table: usize, field: usize, size: usize) -> Option<(usize, usize)> {
        let at = self.target(self.field(table, field)?)?;
        let len = usize::try_from(self.number(at)?).ok()?;
        let end = len.checked_mul(size)?.checked_add(at + 4)?;
        (end <= self.0.len()).then_some((at + 4, len))
    }

    fn parameter(&self, table: usize) -> Option<Parameter> {
        let bytes = |field: usize| self.vector(table, field, 1).map(|(at, len)| &self.0[at..at + len]);
        let (at, rank) = self.vector(table, 1, 8)?;
        let sizes = self.0[at..at + 8 * rank]
            .as_chunks()
            .0
            .iter()
            .map(|bytes| usize::try_from(i64::from_le_bytes(*bytes)).ok());
        Some(Parameter {
            name: String::from_utf8(bytes(0)?.to_vec()).ok()?,
            dims: sizes.collect::<Option<_>>()?,
            data_type: self.number(self.field(table, 2)?)?,
            raw: bytes(3)?.to_vec(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What onnxruntime 1.32.0 itself writes:
    ///
    /// ```python
    /// file = onnxruntime.AdapterFormat()
    /// file.set_adapter_version(3)
    /// file.set_model_version(7)
    /// tensor = onnxruntime.OrtValue.ortvalue_from_numpy
    /// a, note = np.arange(6, dtype=np.float32).reshape(2, 3) - 0.5, np.frombuffer("é!".encode(), np.uint8).copy()
    /// file.set_parameters({"a.lora_A": tensor(a), "note": tensor(note), "b": tensor(np.array([-1.5], np.float32))})
    /// file.export_adapter("onnxruntime.onnx_adapter")
    /// ```
    const ONNXRUNTIME: &str = "\
        0c000000544f52540000000074ffffff010000000300000007000000040000000300000080000000380000000400000098ffffff24000000\
        140000000100000004000000040000000000c0bf0100000001000000000000000100000062000000c8ffffff280000001400000002000000\
        0400000003000000c3a9210001000000030000000000000000000000040000006e6f7465000000000c001400040008000c0010000c000000\
        4000000028000000010000000400000018000000000000bf0000003f0000c03f000020400000604000009040020000000200000000000000\
        030000000000000008000000612e6c6f72615f4100000000";

    fn onnxruntimes() -> Vec<u8> {
        let digits = ONNXRUNTIME.as_bytes().as_chunks::<2>().0;
        digits.iter().map(|two| u8::from_str_radix(str::from_utf8(two).unwrap(), 16).unwrap()).collect()
    }

    fn same() -> AdapterFile {
        let floats = |values: &[f32]| values.iter().flat_map(|value| value.to_le_bytes()).collect();
        let parameter = |name: &str, dims: &[usize], data_type: i32, raw: Vec<u8>| Parameter {
            name: name.into(),
            dims: dims.to_vec(),
            data_type,
            raw,
        };
        AdapterFile {
            adapter_version: 3,
            model_version: 7,
            parameters: vec![
                parameter("a.lora_A", &[2, 3], 1, floats(&[-0.5, 0.5, 1.5, 2.5, 3.5, 4.5])),
                parameter("note", &[3], 2, "é!".as_bytes().to_vec()),
                parameter("b", &[1], 1, floats(&[-1.5])),
            ],
        }
    }

    #[test]
    fn a_file_of_onnxruntime_says_what_was_put_into_it() {
        // It leaves the order of parameters to a hash map.
        assert_eq!(AdapterFile::read(&onnxruntimes()), Some(same()));
    }

    #[test]
    fn what_is_written_is_read_again_and_its_numbers_lie_at_multiples_of_their_size() {
        let many = (0..40).map(|n| Parameter {
            name: "x".repeat(n),
            dims: vec![n; n % 5],
            data_type: 1,
            raw: (0..n as u8).collect(),
        });
        for file in
            [same(), AdapterFile { parameters: many.collect(), ..same() }, AdapterFile { parameters: vec![], ..same() }]
        {
            let bytes = file.bytes().unwrap();
            assert_eq!(AdapterFile::read(&bytes).as_ref(), Some(&file));
            let reader = Reader(&bytes);
            let (entries, count) = reader.vector(reader.target(0).unwrap(), 3, 4).unwrap();
            for table in (0..count).map(|entry| reader.target(entries + 4 * entry).unwrap()) {
                assert_eq!(table % 4, 0);
                let places = [(0, 1, 4), (1, 8, 8), (3, 1, 8)];
                for (at, alignment) in
                    places.map(|(field, size, by)| (reader.vector(table, field, size).unwrap().0, by))
                {
                    assert_eq!(at % alignment, 0);
                }
            }
        }
    }

    #[test]
    fn a_damaged_file_is_no_file_or_another_one() {
        // onnxruntime's file ends with the zero of a string, and padding.
        for (bytes, needed) in [(onnxruntimes(), 244), (same().bytes().unwrap(), usize::MAX)] {
            let cuts = 0..bytes.len().min(needed);
            cuts.for_each(|end| assert_ne!(AdapterFile::read(&bytes[..end]), Some(same()), "cut at {end}"));
            for at in 0..bytes.len() {
                for flip in [0x01, 0x80, 0xff] {
                    let mut damaged = bytes.clone();
                    damaged[at] ^= flip;
                    let _ = AdapterFile::read(&damaged);
                }
            }
        }
    }
}
