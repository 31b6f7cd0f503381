//! The JSON header of a safetensors file, believed only where it agrees with the file.

use std::io::Read;

use safetensors::tensor::{Metadata, TensorInfo};

use crate::limits;

/// The header of a file of `file_len` bytes, whose data it covers exactly; the error is what is wrong.
pub(super) fn read_header(file: &mut impl Read, file_len: u64) -> std::result::Result<Metadata, String> {
    let mut len = [0; 8];
    file.read_exact(&mut len).map_err(|_| "is not a safetensors file: it is too short".to_owned())?;
    let len = u64::from_le_bytes(len);
    if len > limits::MOST_HEADER_BYTES || len > file_len.saturating_sub(8) {
        return Err("is not a safetensors file, or was truncated".to_owned());
    }
    let mut json = Vec::new();
    file.take(len).read_to_end(&mut json).map_err(|e| e.to_string())?;
    check_lists(&json)?;
    let header: Metadata =
        serde_json::from_slice(&json).map_err(|e| format!("is not a safetensors file, or was damaged ({e})"))?;
    check_counts(&header)?;
    match header.data_len() as u64 {
        data if Some(file_len) == data.checked_add(8 + len) => Ok(header),
        data => Err(format!("should have {data} bytes of tensors and has {}: it was truncated", file_len - 8 - len)),
    }
}

/// More lists and objects than any JSON of this crate has: its readers keep what they do not know, and take much more for a list
/// than the two bytes that it has.
///
/// # Errors
/// What is wrong.
pub(crate) fn check_lists(json: &[u8]) -> std::result::Result<(), String> {
    let (mut lists, mut in_text, mut escaped) = (0, false, false);
    for byte in json {
        match (in_text, byte) {
            (true, _) if escaped => escaped = false,
            (true, b'\\') => escaped = true,
            (_, b'"') => in_text = !in_text,
            (false, b'[' | b'{') => lists += 1,
            _ => {}
        }
    }
    match lists > limits::MOST_LISTS {
        true => Err(format!("has {lists} lists and objects, above the limit of {}", limits::MOST_LISTS)),
        false => Ok(()),
    }
}

/// More tensors, entries, axes or longer names than any file of this crate has.
fn check_counts(header: &Metadata) -> std::result::Result<(), String> {
    let tensors = header.tensors();
    let entries = header.metadata().as_ref().map_or(0, std::collections::HashMap::len);
    if tensors.len() > limits::MOST_TENSORS || entries > limits::MOST_ENTRIES {
        let (most, more) = (limits::MOST_TENSORS, limits::MOST_ENTRIES);
        return Err(format!(
            "has {} tensors and {entries} metadata entries, above the limit of {most} and {more}",
            tensors.len()
        ));
    }
    let most = limits::MOST_NAME_BYTES + 64;
    let odd = |(name, info): &(&String, &&TensorInfo)| name.len() > most || info.shape.len() > limits::MOST_AXES;
    match tensors.iter().find(odd) {
        None => Ok(()),
        Some((name, _)) => {
            let start: String = name.chars().take(40).collect();
            let axes = limits::MOST_AXES;
            Err(format!("tensor `{start}` has a name longer than {most} bytes or more than {axes} axes"))
        }
    }
}
