//! The file below bundles and store generations: safetensors, with one hash over everything, byte for byte reproducible.
//!
//! ```text
//! u64 header length | JSON header: __metadata__ (sorted), tensors (sorted) | data, widest dtype first, then by name
//! ```
//!
//! The metadata names `format` and `version`, and carries `content_sha256`: the hash of this very file with that one
//! entry, and the one that signs it, left out. So it covers every name, dtype, shape, byte and other metadata entry,
//! and it stands in the header, which can be written before the data.
//!
//! The `safetensors` crate writes its metadata in the order of a `HashMap`, a new one in every process; hence the header
//! is serialized here, from the crate's own [`TensorInfo`]. Reading and all checks of offsets are the crate's.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use half::f16;
use safetensors::Dtype;
use safetensors::tensor::TensorInfo;
use serde::Serialize;
use sha2::{Digest, Sha256};
use tempfile::NamedTempFile;

use super::header::read_header;
use super::kind::Kind;
use super::output::{refuse_taken, sync_folder_of, taken, temporary};
use super::signature::SIGNATURE;
use crate::error::{Error, ErrorKind, Result};

/// The version of both formats that this crate writes, and the only one it reads.
pub const VERSION: &str = "1";

const CONTENT_SHA256: &str = "content_sha256";
/// What the safetensors format itself reserves.
const METADATA: &str = "__metadata__";

/// Named tensors and text entries, in memory, borrowed where they only pass through; one safetensors file on disk.
#[derive(Debug, Clone)]
pub struct Container<'d> {
    /// Text entries. `format`, `version` and, once read from a file, `content_sha256` are among them.
    pub metadata: BTreeMap<String, String>,
    tensors: BTreeMap<String, Tensor<'d>>,
    kind: Kind,
    /// Where it was read from, for messages.
    path: PathBuf,
}

/// Row-major, little-endian.
#[derive(Debug, Clone)]
struct Tensor<'d> {
    dtype: Dtype,
    shape: Vec<usize>,
    bytes: Cow<'d, [u8]>,
}

/// The file's JSON header.
#[derive(Serialize)]
struct Header<'a> {
    #[serde(rename = "__metadata__")]
    metadata: BTreeMap<&'a str, &'a str>,
    #[serde(flatten)]
    tensors: BTreeMap<&'a str, TensorInfo>,
}

impl<'d> Container<'d> {
    /// An empty one, with `format` and `version` set.
    #[must_use]
    pub fn new(kind: Kind) -> Self {
        let metadata = [("format", kind.format()), ("version", VERSION)];
        Container {
            metadata: metadata.map(|(key, value)| (key.to_owned(), value.to_owned())).into(),
            tensors: BTreeMap::new(),
            kind,
            path: PathBuf::new(),
        }
    }

    /// Names of all tensors, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// Whether it has a tensor of that name.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    /// The shape of a tensor that has `N` dimensions.
    ///
    /// # Errors
    /// The tensor is missing or has another number of dimensions.
    pub fn dims<const N: usize>(&self, name: &str) -> Result<[usize; N]> {
        let shape = &self.tensor(name)?.shape;
        shape.as_slice().try_into().map_err(|_| {
            self.fault(format_args!("tensor `{name}` has shape {shape:?}, where {N} dimensions are expected"))
        })
    }

    /// Borrows a U8 tensor of one dimension, whatever its length: an embedded file.
    ///
    /// # Errors
    /// The tensor is missing or something else.
    pub fn bytes(&self, name: &str) -> Result<&[u8]> {
        let [len] = self.dims(name)?;
        Ok(&self.typed(name, Dtype::U8, &[len])?.bytes)
    }

    /// Takes a U8 tensor of one dimension out.
    ///
    /// # Errors
    /// The tensor is missing or something else.
    pub fn remove(&mut self, name: &str) -> Result<Vec<u8>> {
        self.bytes(name)?;
        Ok(self.tensors.remove(name).map(|tensor| tensor.bytes.into_owned()).unwrap_or_default())
    }

    /// Lets go of a tensor that has been read.
    pub(crate) fn forget(&mut self, name: &str) {
        self.tensors.remove(name);
    }

    /// A metadata entry.
    ///
    /// # Errors
    /// There is none of that name.
    pub fn text(&self, key: &str) -> Result<&str> {
        let value = self.metadata.get(key).map(String::as_str);
        value.ok_or_else(|| self.fault(format_args!("the metadata entry `{key}` is missing")))
    }

    /// A metadata entry as a number, or anything else that can be parsed.
    ///
    /// # Errors
    /// There is none of that name, or it does not parse.
    pub fn parse<T: FromStr>(&self, key: &str) -> Result<T> {
        let text = self.text(key)?;
        text.parse().map_err(|_| self.fault(format_args!("the metadata entry `{key}` cannot be `{text}`")))
    }

    /// An error about this file, of its kind, ending with what to do. For checks of meaning, which belong to the caller.
    pub fn fault(&self, what: impl std::fmt::Display) -> Error {
        damaged(self.kind, &self.path, what)
    }

    /// An error about what this file is meant for, which is whole: `what` says what to do.
    pub(crate) fn refused(&self, what: impl std::fmt::Display) -> Error {
        Error::new(self.kind.error_kind(), self.path.display(), what)
    }

    /// The first tensor with a value that is not finite, if there is one.
    #[must_use]
    pub fn not_finite(&self) -> Option<&str> {
        let broken = |tensor: &Tensor| match tensor.dtype {
            Dtype::F32 => tensor.bytes.as_chunks().0.iter().any(|x| !f32::from_le_bytes(*x).is_finite()),
            Dtype::F16 => tensor.bytes.as_chunks().0.iter().any(|x| !f16::from_le_bytes(*x).is_finite()),
            _ => false,
        };
        self.tensors.iter().find(|(_, tensor)| broken(tensor)).map(|(name, _)| name.as_str())
    }

    /// The hash over all tensors and all other metadata, in lowercase hex.
    ///
    /// # Errors
    /// None that the typed inserts leave possible (kind `Internal`).
    pub fn content_sha256(&self) -> Result<String> {
        let mut hash = Sha256::new();
        hash.update(self.header(None)?);
        for (_, tensor) in self.in_file_order() {
            hash.update(&tensor.bytes);
        }
        Ok(hex(&hash.finalize()))
    }

    /// Writes a file that must not be there yet. It appears complete and durable, or not at all.
    ///
    /// # Errors
    /// `Exists`: something is at `path` (left untouched). `Io`: the folder is missing or takes no files; a write failed.
    /// `Unsynced`: the file is there and whole, but its folder cannot be synced.
    pub fn write_new(&self, path: &Path) -> Result<()> {
        self.write_and_sync(path, sync_folder_of)
    }

    fn write_and_sync(&self, path: &Path, sync_name: impl FnOnce(&Path) -> io::Result<()>) -> Result<()> {
        refuse_taken(path)?;
        let staged = self.stage(path)?;
        staged.persist_noclobber(path).map_err(|e| match e.error.kind() {
            io::ErrorKind::AlreadyExists => taken(path),
            _ => Error::io(path, e.error),
        })?;
        let advice = "run `sync`, or remove it and try again";
        sync_name(path).map_err(|e| Error::unsynced(path, "is written and whole", advice, e))
    }

    /// Reads and checks a file; each byte is held once.
    ///
    /// Nothing that the header claims is believed, or allocated, before it agrees with the length of the file.
    ///
    /// # Errors
    /// `Io`: `path` cannot be read. `Bundle` or `Store`, by `kind`: it is not a file of that kind and [`VERSION`], is
    /// truncated, or does not have the contents that its hash promises.
    pub fn open(path: &Path, kind: Kind) -> Result<Self> {
        let about = fs::metadata(path).map_err(|e| Error::io(path, e))?;
        if !about.is_file() {
            let found = if about.is_dir() { "a folder" } else { "not a regular file" };
            let message = format!("is {found}, where {} (one file) is expected", kind.noun());
            return Err(Error::new(kind.error_kind(), path.display(), message));
        }
        let mut file = File::open(path).map_err(|e| Error::io(path, e))?;
        Self::read(&mut file, about.len(), path, kind)
    }

    /// [`Container::open`] of a file that has been opened, of `len` bytes; `path` is for messages.
    ///
    /// # Errors
    /// As there.
    pub(crate) fn read(file: &mut impl Read, len: u64, path: &Path, kind: Kind) -> Result<Self> {
        let container = Self::read_unhashed(file, len, path, kind)?;
        if container.text(CONTENT_SHA256)? != container.content_sha256()? {
            let message = "its contents do not match its `content_sha256`: it was damaged or edited";
            return Err(damaged(kind, path, message));
        }
        Ok(container)
    }

    /// All of a file but the check of its hash.
    fn read_unhashed(file: &mut impl Read, len: u64, path: &Path, kind: Kind) -> Result<Self> {
        let header = read_header(file, len).map_err(|what| damaged(kind, path, what))?;
        let metadata: BTreeMap<_, _> = header.metadata().clone().unwrap_or_default().into_iter().collect();
        let mut container = Container { metadata, tensors: BTreeMap::new(), kind, path: path.to_owned() };
        container.check_format()?;
        for name in header.offset_keys() {
            let Some(info) = header.info(&name).cloned() else { continue };
            let mut bytes = vec![0; info.data_offsets.1 - info.data_offsets.0];
            file.read_exact(&mut bytes).map_err(|e| Error::io(path, e))?;
            container.tensors.insert(name, Tensor { dtype: info.dtype, shape: info.shape, bytes: bytes.into() });
        }
        Ok(container)
    }

    /// The file of `bytes` with the hashes that its contents have: what a fuzzer needs to get behind them.
    #[doc(hidden)]
    #[must_use]
    pub fn rehashed(mut bytes: &[u8], kind: Kind) -> Option<Vec<u8>> {
        let len = bytes.len() as u64;
        let mut container = Self::read_unhashed(&mut bytes, len, Path::new("rehashed"), kind).ok()?;
        if let Ok(backbone) = container.bytes(super::BACKBONE).map(sha256) {
            container.metadata.insert("backbone_sha256".to_owned(), backbone);
        }
        let mut file = container.header(Some(&container.content_sha256().ok()?)).ok()?;
        container.in_file_order().iter().for_each(|(_, tensor)| file.extend_from_slice(&tensor.bytes));
        Some(file)
    }

    fn check_format(&self) -> Result<()> {
        let (noun, format) = (self.kind.noun(), self.kind.format());
        let refuse = |what| Err(Error::new(self.kind.error_kind(), self.path.display(), what));
        let found = self.metadata.get("format").map_or("", String::as_str);
        if found != format {
            return refuse(
                match [Kind::Bundle, Kind::Store, Kind::Checkpoint].iter().find(|kind| kind.format() == found) {
                    Some(other) => format!("is {}, where {noun} is expected: check the arguments", other.noun()),
                    None => format!("is a safetensors file, but not {noun} (its `format` is not `{format}`)"),
                },
            );
        }
        match self.text("version")? {
            VERSION => Ok(()),
            other => refuse(format!(
                "is {noun} of format version {other}, and this srlora reads version {VERSION}: use the srlora that wrote it"
            )),
        }
    }

    fn tensor(&self, name: &str) -> Result<&Tensor<'d>> {
        self.tensors.get(name).ok_or_else(|| self.fault(format_args!("tensor `{name}` is missing")))
    }

    fn typed(&self, name: &str, dtype: Dtype, shape: &[usize]) -> Result<&Tensor<'d>> {
        let tensor = self.tensor(name)?;
        if (tensor.dtype, tensor.shape.as_slice()) == (dtype, shape) {
            return Ok(tensor);
        }
        let found = format!("tensor `{name}` is {} {:?}", tensor.dtype, tensor.shape);
        Err(self.fault(format_args!("{found}, where {dtype} {shape:?} is expected")))
    }

    fn insert(&mut self, name: &str, shape: &[usize], len: usize, tensor: Tensor<'d>) -> Result<()> {
        let fault = |what: &str| Err(Error::new(ErrorKind::Internal, format_args!("tensor `{name}`"), what));
        if shape.iter().try_fold(1usize, |n, &dim| n.checked_mul(dim)) != Some(len) {
            return fault(&format!("shape {shape:?} does not hold {len} values"));
        }
        if name == METADATA || self.tensors.contains_key(name) {
            return fault("the name is taken");
        }
        self.tensors.insert(name.to_owned(), tensor);
        Ok(())
    }

    /// Widest dtype first, so that all data is aligned, then by name: the order of the `safetensors` crate.
    fn in_file_order(&self) -> Vec<(&str, &Tensor<'d>)> {
        let mut tensors: Vec<_> = self.tensors.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
        tensors.sort_by_key(|(_, tensor)| std::cmp::Reverse(tensor.dtype));
        tensors
    }

    /// The length and the JSON header, padded to 8 bytes, with `content_sha256` as given instead of as stored; without
    /// one, without a signature of it either.
    fn header(&self, content_sha256: Option<&str>) -> Result<Vec<u8>> {
        let mut metadata: BTreeMap<_, _> = self.metadata.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        metadata.remove(CONTENT_SHA256);
        match content_sha256 {
            Some(hash) => drop(metadata.insert(CONTENT_SHA256, hash)),
            None => drop(metadata.remove(SIGNATURE)),
        }
        let mut end = 0;
        let tensors = self.in_file_order().into_iter().map(|(name, tensor)| {
            let start = end;
            end += tensor.bytes.len();
            (name, TensorInfo { dtype: tensor.dtype, shape: tensor.shape.clone(), data_offsets: (start, end) })
        });
        let header = Header { metadata, tensors: tensors.collect() };
        let mut json = serde_json::to_vec(&header)
            .map_err(|e| Error::new(ErrorKind::Internal, "file header", "cannot be written as JSON").because(e))?;
        json.resize(json.len().next_multiple_of(8), b' ');
        Ok([&(json.len() as u64).to_le_bytes(), json.as_slice()].concat())
    }

    /// The whole file, durable, under a temporary name in the folder of `path`; removed again when dropped.
    fn stage(&self, path: &Path) -> Result<NamedTempFile> {
        let mut staged = temporary(path, 0o666, |builder, folder| builder.tempfile_in(folder))?;
        let written = self.write_to(&mut staged).and_then(|_| staged.as_file().sync_all());
        written.map_err(|e| Error::io(path, e))?;
        Ok(staged)
    }

    /// Writes the whole file; the bytes that it has.
    ///
    /// # Errors
    /// Those of `sink`.
    pub(crate) fn write_to(&self, sink: &mut impl Write) -> io::Result<u64> {
        let hash = self.content_sha256().map_err(io::Error::other)?;
        let header = self.header(Some(&hash)).map_err(io::Error::other)?;
        sink.write_all(&header)?;
        let mut len = header.len();
        for (_, tensor) in self.in_file_order() {
            sink.write_all(&tensor.bytes)?;
            len += tensor.bytes.len();
        }
        Ok(len as u64)
    }
}

/// A typed insert and a typed reader per dtype.
macro_rules! typed {
    ($($insert:ident, $read:ident: $t:ty as $dtype:ident;)*) => {
        impl<'d> Container<'d> {$(
            #[doc = concat!("Adds a tensor of ", stringify!($dtype), ", row-major.")]
            ///
            /// # Errors
            /// `Internal`: the name is taken, or `shape` does not hold as many values as `data`.
            pub fn $insert(&mut self, name: &str, shape: &[usize], data: impl Into<Cow<'d, [$t]>>) -> Result<()> {
                let data = data.into();
                let len = data.len();
                let bytes = match data {
                    Cow::Borrowed(values) if cfg!(target_endian = "little") => bytemuck::cast_slice(values).into(),
                    values => values.iter().flat_map(|x| x.to_le_bytes()).collect(),
                };
                self.insert(name, shape, len, Tensor { dtype: Dtype::$dtype, shape: shape.to_vec(), bytes })
            }

            #[doc = concat!("Copies a tensor of ", stringify!($dtype), " out, row-major.")]
            ///
            /// # Errors
            /// The tensor is missing, or has another dtype or shape.
            pub fn $read(&self, name: &str, shape: &[usize]) -> Result<Vec<$t>> {
                let (values, _) = self.typed(name, Dtype::$dtype, shape)?.bytes.as_chunks();
                Ok(values.iter().map(|x| <$t>::from_le_bytes(*x)).collect())
            }
        )*}
    };
}

typed! {
    insert_f32, f32: f32 as F32;
    insert_f16, f16: f16 as F16;
    insert_i8, i8: i8 as I8;
    insert_u8, u8: u8 as U8;
    insert_u16, u16: u16 as U16;
    insert_u32, u32: u32 as U32;
    insert_u64, u64: u64 as U64;
}

/// The sha256 of `bytes` in lowercase hex.
#[must_use]
pub fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn damaged(kind: Kind, path: &Path, what: impl std::fmt::Display) -> Error {
    Error::new(kind.error_kind(), path.display(), format_args!("{what}; {}", kind.remedy()))
}

#[cfg(test)]
mod tests {
    use super::super::output::check_output;
    use super::*;
    use proptest::prelude::*;
    use tempfile::TempDir;

    fn sample() -> Container<'static> {
        let mut c = Container::new(Kind::Bundle);
        c.metadata.insert("labels".into(), "rose \"red\"\ntulip é\u{1}".into());
        c.insert_f32("a", &[2, 2], &[1.0, -0.0, f32::NAN, f32::MIN_POSITIVE]).unwrap();
        c.insert_f16("b/ü", &[3], &[f16::ONE, f16::INFINITY, f16::MIN_POSITIVE_SUBNORMAL]).unwrap();
        c.insert_i8("c", &[1, 3], &[-128, 0, 127]).unwrap();
        c.insert_u8("backbone.onnx", &[5], b"bytes").unwrap();
        c.insert_u16("d", &[1], &[0xabcd]).unwrap();
        c.insert_u32("e", &[], &[0xdead_beef]).unwrap();
        c.insert_u64("f", &[2], &[u64::MAX, 1]).unwrap();
        c.insert_f32("empty", &[0, 7], &[]).unwrap();
        c
    }

    /// The file of `c`, which is fit to be damaged.
    fn written(c: &Container) -> (TempDir, PathBuf, Vec<u8>) {
        let dir = TempDir::new().unwrap();
        let path = dir.path().join("x.srlora");
        c.write_new(&path).unwrap();
        let bytes = fs::read(&path).unwrap();
        (dir, path, bytes)
    }

    fn files(dir: &Path) -> usize {
        fs::read_dir(dir).unwrap().count()
    }

    #[test]
    fn every_dtype_comes_back_bit_for_bit() {
        let (dir, path, bytes) = written(&sample());
        let c = Container::open(&path, Kind::Bundle).unwrap();
        let bits = |v: Vec<f32>| v.into_iter().map(f32::to_bits).collect::<Vec<_>>();
        assert_eq!(bits(c.f32("a", &[2, 2]).unwrap()), bits(vec![1.0, -0.0, f32::NAN, f32::MIN_POSITIVE]));
        assert_eq!(c.f16("b/ü", &[3]).unwrap(), [f16::ONE, f16::INFINITY, f16::MIN_POSITIVE_SUBNORMAL]);
        assert_eq!(c.i8("c", &[1, 3]).unwrap(), [-128, 0, 127]);
        assert_eq!(c.u8("backbone.onnx", &[5]).unwrap(), b"bytes");
        assert_eq!(c.bytes("backbone.onnx").unwrap(), b"bytes");
        assert_eq!(c.u16("d", &[1]).unwrap(), [0xabcd]);
        assert_eq!(c.u32("e", &[]).unwrap(), [0xdead_beef]);
        assert_eq!(c.u64("f", &[2]).unwrap(), [u64::MAX, 1]);
        assert_eq!(c.dims("empty").unwrap(), [0, 7]);
        assert_eq!(c.text("labels").unwrap(), "rose \"red\"\ntulip é\u{1}");
        assert_eq!(c.parse::<u32>("version").unwrap(), 1);
        assert_eq!(c.names().collect::<Vec<_>>(), ["a", "b/ü", "backbone.onnx", "c", "d", "e", "empty", "f"]);
        // What was read and is written again is the same file, and nothing else is left in the folder.
        let again = dir.path().join("again");
        c.write_new(&again).unwrap();
        assert_eq!(fs::read(&again).unwrap(), bytes);
        assert_eq!(files(dir.path()), 2);
    }

    #[test]
    fn the_safetensors_crate_reads_the_same_tensors_and_metadata() {
        let (_dir, _, bytes) = written(&sample());
        let peer = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        assert_eq!(peer.len(), 8);
        assert_eq!(peer.tensor("f").unwrap().data(), [[0xff; 8], [1, 0, 0, 0, 0, 0, 0, 0]].concat());
        assert_eq!(peer.tensor("c").unwrap().shape(), [1, 3]);
        let (_, metadata) = safetensors::SafeTensors::read_metadata(&bytes).unwrap();
        let metadata = metadata.metadata().clone().unwrap();
        assert_eq!(metadata["format"], "srlora-bundle");
        assert_eq!(metadata.len(), 4);
        // All data is aligned to its dtype, as the crate's own writer has it.
        let data = bytes.as_ptr() as usize;
        for (name, tensor) in peer.iter() {
            let offset = tensor.data().as_ptr() as usize - data;
            assert_eq!(offset % (tensor.dtype().bitsize() / 8), 0, "{name}");
        }
    }

    #[test]
    fn the_same_contents_give_the_same_bytes_in_whatever_order_they_came() {
        let mut other = Container::new(Kind::Bundle);
        for i in (0..50).rev() {
            other.metadata.insert(format!("key {i}"), i.to_string());
            other.insert_u32(&format!("t{i}"), &[1], vec![i]).unwrap();
        }
        let mut c = Container::new(Kind::Bundle);
        for i in 0..50 {
            c.insert_u32(&format!("t{i}"), &[1], vec![i]).unwrap();
            c.metadata.insert(format!("key {i}"), i.to_string());
        }
        assert_eq!(written(&c).2, written(&other).2);
    }

    #[test]
    fn the_hash_is_that_of_the_file_without_its_entry() {
        let c = sample();
        let (_dir, path, bytes) = written(&c);
        let hash = c.content_sha256().unwrap();
        let json_len = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        let json = std::str::from_utf8(&bytes[8..8 + json_len]).unwrap().trim_end();
        let entry = format!("\"content_sha256\":\"{hash}\",");
        assert!(json.contains(&entry));
        let mut json = json.replace(&entry, "").into_bytes();
        json.resize(json.len().div_ceil(8) * 8, b' ');
        let bare = [&(json.len() as u64).to_le_bytes()[..], &json, &bytes[8 + json_len..]].concat();
        assert_eq!(sha256(&bare), hash);
        assert_eq!(Container::open(&path, Kind::Bundle).unwrap().text("content_sha256").unwrap(), hash);
    }

    #[test]
    fn sha256_is_the_published_one() {
        // FIPS 180-2, appendix B.1.
        assert_eq!(sha256(b"abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }

    #[test]
    fn a_flip_of_any_bit_is_refused() {
        let mut c = Container::new(Kind::Bundle);
        c.metadata.insert("rank".into(), "8".into());
        c.insert_f16("u", &[1, 2], &[f16::ONE, f16::ZERO]).unwrap();
        c.insert_u8("m", &[3], &[0, 1, 2]).unwrap();
        let (_dir, path, bytes) = written(&c);
        for bit in 0..8 * bytes.len() {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            fs::write(&path, flipped).unwrap();
            let error = Container::open(&path, Kind::Bundle).expect_err(&format!("bit {bit} of {}", 8 * bytes.len()));
            assert_eq!(error.kind(), ErrorKind::Bundle, "{error}");
        }
    }

    #[test]
    fn a_file_cut_at_any_length_or_with_something_appended_is_refused() {
        let (_dir, path, bytes) = written(&sample());
        for len in 0..bytes.len() {
            fs::write(&path, &bytes[..len]).unwrap();
            assert_eq!(Container::open(&path, Kind::Bundle).unwrap_err().kind(), ErrorKind::Bundle, "{len} bytes");
        }
        fs::write(&path, [&bytes[..], b" "].concat()).unwrap();
        assert_eq!(Container::open(&path, Kind::Bundle).unwrap_err().kind(), ErrorKind::Bundle);
    }

    #[test]
    fn a_header_that_lies_is_refused_before_anything_is_allocated() {
        let (_dir, path, _) = written(&sample());
        let metadata = r#""__metadata__":{"format":"srlora-store","version":"1"}"#;
        let tensor = |shape: &str, offsets: &str| {
            format!(r#"{{{metadata},"x":{{"dtype":"F32","shape":{shape},"data_offsets":{offsets}}}}}"#)
        };
        let lies = [
            tensor("[1]", "[0,8]"),
            tensor("[1]", "[4,8]"),
            tensor("[1]", "[4,0]"),
            tensor("[4611686018427387904]", "[0,4]"),
            tensor("[4294967296,4294967296,4294967296]", "[0,4]"),
            tensor("[1099511627776]", "[0,4398046511104]"),
            tensor("[-1]", "[0,4]"),
            "[".repeat(100_000),
            "{}".into(),
            "null".into(),
        ];
        for lie in lies {
            fs::write(&path, [&(lie.len() as u64).to_le_bytes()[..], lie.as_bytes(), &[0; 4]].concat()).unwrap();
            assert_eq!(Container::open(&path, Kind::Store).unwrap_err().kind(), ErrorKind::Store, "{lie:.80}");
        }
        for len in [0, 1, 9, 99_999_999, u64::MAX - 8, u64::MAX] {
            fs::write(&path, [&len.to_le_bytes()[..], b"{}"].concat()).unwrap();
            assert_eq!(Container::open(&path, Kind::Store).unwrap_err().kind(), ErrorKind::Store, "length {len}");
        }
    }

    /// The message of opening the file that `edit` makes of the sample's.
    fn message(kind: Kind, edit: impl Fn(&mut Container)) -> String {
        let mut c = sample();
        edit(&mut c);
        let (_dir, path, _) = written(&c);
        let error = Container::open(&path, kind).unwrap_err();
        assert_eq!(error.kind(), kind.error_kind());
        assert_eq!(error.subject(), path.display().to_string());
        error.message().to_owned()
    }

    #[test]
    fn what_is_not_the_expected_kind_of_file_is_named() {
        assert!(message(Kind::Store, |_| ()).starts_with("is a bundle, where a store generation is expected"));
        let newer = message(Kind::Bundle, |c| drop(c.metadata.insert("version".into(), "2".into())));
        assert!(newer.starts_with("is a bundle of format version 2, and this srlora reads version 1"), "{newer}");
        let foreign = message(Kind::Bundle, |c| c.metadata.clear());
        assert!(foreign.starts_with("is a safetensors file, but not a bundle"), "{foreign}");

        let dir = TempDir::new().unwrap();
        let error = Container::open(dir.path(), Kind::Bundle).unwrap_err();
        assert!(error.message().starts_with("is a folder"), "{error}");
        let error = Container::open(&dir.path().join("none"), Kind::Bundle).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Io);
    }

    #[test]
    fn readers_name_the_file_and_the_tensor() {
        let (_dir, path, _) = written(&sample());
        let c = Container::open(&path, Kind::Bundle).unwrap();
        for (error, what) in [
            (c.f32("z", &[1]).unwrap_err(), "tensor `z` is missing"),
            (c.f16("a", &[2, 2]).unwrap_err(), "tensor `a` is F32 [2, 2], where F16 [2, 2] is expected"),
            (c.f32("a", &[4]).unwrap_err(), "tensor `a` is F32 [2, 2], where F32 [4] is expected"),
            (c.dims::<3>("a").unwrap_err(), "tensor `a` has shape [2, 2], where 3 dimensions are expected"),
            (c.bytes("f").unwrap_err(), "tensor `f` is U64 [2], where U8 [2] is expected"),
            (c.text("rank").unwrap_err(), "the metadata entry `rank` is missing"),
            (c.parse::<u8>("format").unwrap_err(), "the metadata entry `format` cannot be `srlora-bundle`"),
        ] {
            assert_eq!((error.kind(), error.subject()), (ErrorKind::Bundle, &*path.display().to_string()));
            assert_eq!(error.message(), format!("{what}; {}", Kind::Bundle.remedy()));
        }
    }

    #[test]
    fn a_tensor_that_is_there_or_does_not_fit_its_shape_is_not_inserted() {
        let mut c = sample();
        let before = c.content_sha256().unwrap();
        for (name, shape) in [("a", &[1][..]), ("__metadata__", &[1]), ("new", &[2]), ("new", &[usize::MAX, 2])] {
            assert_eq!(c.insert_f32(name, shape, &[0.0]).unwrap_err().kind(), ErrorKind::Internal);
        }
        assert_eq!(c.content_sha256().unwrap(), before);
    }

    #[test]
    fn an_output_that_exists_is_refused_and_untouched() {
        let dir = TempDir::new().unwrap();
        let path = dir.path().join("mine");
        fs::write(&path, "precious").unwrap();
        assert_eq!(sample().write_new(&path).unwrap_err().kind(), ErrorKind::Exists);
        assert_eq!(sample().write_new(dir.path()).unwrap_err().kind(), ErrorKind::Exists);
        // Also when it comes into being while the temporary is written.
        let late = sample().stage(&path).unwrap().persist_noclobber(&path).unwrap_err().error;
        assert_eq!(late.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read(&path).unwrap(), b"precious");
        assert_eq!(files(dir.path()), 1);
    }

    #[test]
    fn a_file_whose_folder_cannot_be_synced_is_there_and_said_to_be() {
        let dir = TempDir::new().unwrap();
        let path = dir.path().join("x.bundle");
        let error = sample().write_and_sync(&path, |_| Err(io::Error::other("worn out"))).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsynced);
        for words in ["x.bundle: is written and whole, but a power cut may still take it", "(worn out)", "run `sync`"] {
            assert!(error.to_string().contains(words), "{error}");
        }
        let hash = |container: Container| container.content_sha256().unwrap();
        assert_eq!(hash(Container::open(&path, Kind::Bundle).unwrap()), hash(sample()));
    }

    #[test]
    fn a_value_that_is_not_finite_is_found_in_either_float_type() {
        assert_eq!(sample().not_finite(), Some("a"));
        let mut c = Container::new(Kind::Store);
        c.insert_f32("single", &[2], &[f32::MAX, -0.0]).unwrap();
        c.insert_f16("half", &[2], &[f16::MAX, f16::MIN_POSITIVE_SUBNORMAL]).unwrap();
        c.insert_u32("codes", &[1], &[u32::MAX]).unwrap();
        assert_eq!(c.not_finite(), None);
        c.insert_f16("worse", &[1], &[f16::NEG_INFINITY]).unwrap();
        assert_eq!(c.not_finite(), Some("worse"));
    }

    #[cfg(unix)]
    #[test]
    fn a_dangling_link_counts_as_an_existing_output() {
        let dir = TempDir::new().unwrap();
        let path = dir.path().join("link");
        std::os::unix::fs::symlink("nowhere", &path).unwrap();
        assert_eq!(sample().write_new(&path).unwrap_err().kind(), ErrorKind::Exists);
        assert_eq!(check_output(&path).unwrap_err().kind(), ErrorKind::Exists);
    }

    #[test]
    fn an_output_folder_that_is_missing_or_takes_no_files_is_named() {
        let dir = TempDir::new().unwrap();
        let missing = dir.path().join("no/such/x");
        for error in [sample().write_new(&missing).unwrap_err(), check_output(&missing).unwrap_err()] {
            assert_eq!((error.kind(), error.subject()), (ErrorKind::Io, &*missing.display().to_string()));
            assert!(error.message().contains("does not exist: create it"), "{error}");
        }
        assert_eq!(files(dir.path()), 0);
        check_output(&dir.path().join("fine")).unwrap();
        assert_eq!(files(dir.path()), 0);
        fs::write(dir.path().join("file"), "").unwrap();
        let error = check_output(&dir.path().join("file/x")).unwrap_err();
        assert!(error.kind() == ErrorKind::Io && error.message().contains("file is no folder"), "{error}");
        if cfg!(target_os = "linux") {
            // Not even root can make a file there.
            let path = Path::new("/proc/x.srlora");
            for error in [sample().write_new(path).unwrap_err(), check_output(path).unwrap_err()] {
                assert_eq!(error.kind(), ErrorKind::Io);
                assert!(error.message().starts_with("the folder /proc takes no new files"), "{error}");
            }
        }
    }

    #[cfg(unix)]
    #[test]
    fn the_file_is_as_readable_as_any_new_file() {
        use std::os::unix::fs::PermissionsExt;
        let (dir, path, _) = written(&sample());
        let plain = dir.path().join("plain");
        fs::write(&plain, "").unwrap();
        let mode = |p: &Path| fs::metadata(p).unwrap().permissions().mode();
        assert_eq!(mode(&path), mode(&plain));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn any_names_texts_and_values_come_back(
            metadata in proptest::collection::btree_map(".{0,12}", ".{0,24}", 0..5),
            tensors in proptest::collection::btree_map(".{0,12}", proptest::collection::vec(any::<u16>(), 0..9), 0..6),
        ) {
            let mut c = Container::new(Kind::Store);
            for (key, value) in metadata {
                c.metadata.entry(key).or_insert(value);
            }
            for (name, data) in &tensors {
                c.insert_u16(name, &[data.len(), 1], data).unwrap();
            }
            let (_dir, path, _) = written(&c);
            let read = Container::open(&path, Kind::Store).unwrap();
            for (name, data) in &tensors {
                prop_assert_eq!(&read.u16(name, &[data.len(), 1]).unwrap(), data);
            }
            c.metadata.insert(CONTENT_SHA256.into(), c.content_sha256().unwrap());
            prop_assert!(read.names().eq(tensors.keys()));
            prop_assert_eq!(read.metadata, c.metadata);
        }

        #[test]
        fn any_bytes_at_all_are_refused_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let dir = TempDir::new().unwrap();
            let path = dir.path().join("x");
            fs::write(&path, bytes).unwrap();
            prop_assert_eq!(Container::open(&path, Kind::Bundle).unwrap_err().kind(), ErrorKind::Bundle);
        }
    }
}
