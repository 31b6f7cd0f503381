//! Weights in a file beside the model, as PyTorch's newer exporter writes them.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use tract_onnx::pb::TensorProto;
use tract_onnx::pb::tensor_proto::{DataLocation, DataType};

use super::Document;
use crate::backbone::onnx::decode_proto;
use crate::error::{Error, ErrorKind, Result};
use crate::limits::{MOST_MODEL_BYTES, elements};

/// Where the values of a tensor lie.
struct Place<'t> {
    file: &'t str,
    offset: u64,
    length: u64,
}

/// The model in `bytes`, which was read from `path`, with the weights in it that lie in files beside it; `None` where none do.
///
/// A tensor names its file plainly: it lies in the model's folder, and is no link. All sizes are known before the first byte is read.
///
/// # Errors
/// Kind `Model` names the tensor whose file is not taken, is missing, or is too short.
pub(crate) fn inline(bytes: &[u8], path: &Path) -> Result<Option<Vec<u8>>> {
    let subject = path.display().to_string();
    if !decode_proto(bytes, &subject)?.graph.unwrap_or_default().initializer.iter().any(is_external) {
        return Ok(None);
    }
    let mut document = Document::read(bytes, &subject)?;
    let fault = |tensor: &TensorProto, what: String| {
        Error::new(ErrorKind::Model, &subject, format!("tensor {} lies in an external data file, {what}", tensor.name))
    };
    let folder = path.parent().unwrap_or(Path::new(""));
    let (mut places, mut total) = (Vec::new(), bytes.len() as u64);
    for (ix, tensor) in document.graph.initializer.iter().enumerate().filter(|(_, tensor)| is_external(tensor)) {
        let place = Place::of(tensor).and_then(|place| place.check(folder).map(|()| place));
        let place = place.map_err(|what| fault(tensor, what))?;
        total = total.saturating_add(place.length);
        places.push((ix, place));
    }
    if total > MOST_MODEL_BYTES {
        let message = format!("with its external data has {total} bytes, above {MOST_MODEL_BYTES}");
        return Err(Error::new(ErrorKind::Model, &subject, message));
    }
    let mut values = Vec::with_capacity(places.len());
    for (ix, place) in &places {
        let read = place.read(folder);
        values.push((*ix, read.map_err(|what| fault(&document.graph.initializer[*ix], what))?));
    }
    values.into_iter().for_each(|(ix, raw)| document.set_values(ix, raw));
    Ok(Some(document.written(|_| false)))
}

fn is_external(tensor: &TensorProto) -> bool {
    tensor.data_location == Some(DataLocation::External as i32) || !tensor.external_data.is_empty()
}

/// Bytes of a value of a type.
fn width(data_type: i32) -> Option<u64> {
    match DataType::try_from(data_type).ok()? {
        DataType::Uint8 | DataType::Int8 | DataType::Bool => Some(1),
        DataType::Uint16 | DataType::Int16 | DataType::Float16 | DataType::Bfloat16 => Some(2),
        DataType::Float | DataType::Int32 | DataType::Uint32 => Some(4),
        DataType::Double | DataType::Int64 | DataType::Uint64 => Some(8),
        _ => None,
    }
}

impl<'t> Place<'t> {
    fn of(tensor: &'t TensorProto) -> std::result::Result<Self, String> {
        let entries: BTreeMap<&str, &str> =
            tensor.external_data.iter().map(|entry| (entry.key.as_str(), entry.value.as_str())).collect();
        let number = |key: &str| -> std::result::Result<Option<u64>, String> {
            let parsed = |text: &&str| text.parse().map_err(|_| format!("and its {key} `{text}` is no number"));
            entries.get(key).map(parsed).transpose()
        };
        let dims: Option<Vec<usize>> = tensor.dims.iter().map(|&dim| usize::try_from(dim).ok()).collect();
        let whole =
            dims.and_then(|dims| elements(&dims, MOST_MODEL_BYTES as usize).map(|_| dims.iter().product::<usize>()));
        let needed = whole.zip(width(tensor.data_type)).map(|(count, width)| count as u64 * width);
        let needed = needed.ok_or("and has a shape or a type that is not taken")?;
        let length = number("length")?.unwrap_or(needed);
        if length != needed {
            return Err(format!("where it has {length} bytes instead of {needed}; export the model again"));
        }
        let file = entries.get("location").copied().unwrap_or_default();
        let is_plain = !file.is_empty() && !file.starts_with('.') && !file.contains(['/', '\\', ':', '\0']);
        if !is_plain {
            return Err(format!("`{}`, which is not a plain name of a file beside the model", file.escape_debug()));
        }
        Ok(Place { file, offset: number("offset")?.unwrap_or(0), length })
    }

    /// Whether the file is there and long enough.
    fn check(&self, folder: &Path) -> std::result::Result<(), String> {
        let missing = "which is missing: put it beside the model, or save the model as one file (onnx.save)";
        let about = fs::symlink_metadata(folder.join(self.file)).map_err(|_| format!("`{}`, {missing}", self.file))?;
        match self.offset.checked_add(self.length) {
            _ if !about.is_file() => {
                Err(format!("`{}`, which is a link or no regular file: put the file itself there", self.file))
            }
            Some(end) if end <= about.len() => Ok(()),
            _ => Err(format!("`{}`, which ends before it; export the model again", self.file)),
        }
    }

    fn read(&self, folder: &Path) -> std::result::Result<Vec<u8>, String> {
        let read = || {
            let mut file = File::open(folder.join(self.file))?;
            file.seek(SeekFrom::Start(self.offset))?;
            let mut values = vec![0; self.length as usize];
            file.read_exact(&mut values)?;
            Ok(values)
        };
        read().map_err(|e: std::io::Error| format!("`{}`, which cannot be read: {e}", self.file))
    }
}

#[cfg(test)]
mod tests {
    use super::super::Message;
    use super::*;

    /// A model of one tensor of three floats, with these entries; `weights.bin` holds eight.
    fn inlined(entries: &[(&str, &str)]) -> std::result::Result<Vec<f32>, String> {
        let folder = tempfile::tempdir().unwrap();
        let values: Vec<u8> = (0..8).flat_map(|v| (v as f32).to_le_bytes()).collect();
        fs::write(folder.path().join("weights.bin"), values).unwrap();
        #[cfg(unix)]
        std::os::unix::fs::symlink("weights.bin", folder.path().join("link")).unwrap();
        let tensor = Message::default().number(1, 3).number(2, DataType::Float as u64).text(8, "w");
        let tensor = entries
            .iter()
            .fold(tensor, |tensor, (key, value)| tensor.message(13, &Message::default().text(1, key).text(2, value)));
        let graph = Message::default().message(5, &tensor.number(14, 1));
        let model = Message::default().number(1, 8).message(7, &graph).0;
        let inlined = inline(&model, &folder.path().join("model.onnx")).map_err(|e| e.to_string())?.unwrap();
        assert!(inline(&inlined, &folder.path().join("model.onnx")).unwrap().is_none(), "all of it is in the file");
        let tensor = decode_proto(&inlined, "model").unwrap().graph.unwrap().initializer.remove(0);
        Ok(tensor.raw_data.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect())
    }

    #[test]
    fn values_come_from_their_place_in_a_file_beside_the_model_and_from_nowhere_else() {
        let at = |location, offset, length| [("location", location), ("offset", offset), ("length", length)];
        assert_eq!(inlined(&at("weights.bin", "8", "12")).unwrap(), [2.0, 3.0, 4.0]);
        assert_eq!(inlined(&[("location", "weights.bin")]).unwrap(), [0.0, 1.0, 2.0]);
        for (entries, words) in [
            (at("weights.bin", "24", "12"), "ends before it"),
            (at("weights.bin", "18446744073709551615", "12"), "ends before it"),
            (at("weights.bin", "0", "8"), "8 bytes instead of 12"),
            (at("weights.bin", "x", "12"), "offset `x`"),
            (at("others.bin", "0", "12"), "missing"),
            (at("../weights.bin", "0", "12"), "plain name"),
            (at("/etc/passwd", "0", "12"), "plain name"),
            (at("", "0", "12"), "plain name"),
            (at("link", "0", "12"), "link"),
        ] {
            let error = inlined(&entries).unwrap_err();
            assert!(error.contains("tensor w") && error.contains(words), "{error}");
        }
    }
}
