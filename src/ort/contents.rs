//! What a store has learned, as the tensors of an adapter, and what such tensors say of a site.

use serde::Serialize;

use super::format::{AdapterFile, Parameter};
use crate::backbone::{Base, Branch, Given};
use crate::bundle::Bundle;
use crate::error::{Error, ErrorKind, Result};
use crate::export::unknown_below;
use crate::peft::Factors;
use crate::session::Generation;

/// ONNX's numbers of types.
const FLOAT: i32 = 1;
const UINT8: i32 = 2;
/// Digits of the bundle's hash that the name of the note has.
const DIGITS: usize = 8;

/// What an adapter says of itself, as JSON in a tensor of bytes: an adapter holds nothing but tensors.
#[derive(Debug, Serialize)]
struct Note<'n> {
    bundle_sha256: &'n str,
    generation: u64,
    /// In the order of the logits.
    classes: &'n [String],
    /// A largest logit below it means a photo like none of the classes; null where that is not known.
    unknown_below: Option<f32>,
}

/// The name of the note in every adapter of a bundle. onnxruntime refuses an adapter with a tensor that the base has no input for, so no
/// adapter is run on the base of another bundle.
pub(super) fn note_name(bundle: &Bundle) -> String {
    format!("srlora.note.{}", digits(bundle))
}

fn digits(bundle: &Bundle) -> &str {
    bundle.content_sha256.get(..DIGITS).unwrap_or(&bundle.content_sha256)
}

/// The adapter of a store: A and B of each site that has pairs, head (W, b) / temperature, and the note.
pub(super) fn adapter(
    bundle: &Bundle,
    base: &Base,
    (generation, number): (&Generation, u64),
    pairs: &[Factors],
) -> Result<AdapterFile> {
    let Generation { record, adapter } = generation;
    let calibration = record.calibration.as_ref();
    let temperature = calibration.map_or(1.0, |calibration| calibration.temperature);
    let [weight, bias] = adapter.head.cooled(temperature);
    let (classes, features) = (adapter.head.classes(), adapter.head.features());
    let mut parameters: Vec<Parameter> = base.branches.iter().zip(pairs).flat_map(|(b, p)| sides(b, p)).collect();
    let [weight_name, bias_name] = base.head.clone();
    parameters.push(floats(weight_name, vec![classes, features], &weight));
    parameters.push(floats(bias_name, vec![classes], &bias));
    let note = Note {
        bundle_sha256: &bundle.content_sha256,
        generation: number,
        classes: &record.classes,
        unknown_below: unknown_below(calibration),
    };
    let raw = serde_json::to_vec(&note).map_err(|e| Error::new(ErrorKind::Internal, "the adapter", e))?;
    parameters.push(Parameter { name: base.note.clone(), dims: vec![raw.len()], data_type: UINT8, raw });
    let adapter_version = i32::try_from(number).unwrap_or(i32::MAX);
    let model_version = u32::from_str_radix(digits(bundle), 16).unwrap_or(0) & i32::MAX.unsigned_abs();
    Ok(AdapterFile { adapter_version, model_version: model_version.cast_signed(), parameters })
}

fn floats(name: String, dims: Vec<usize>, values: &[f32]) -> Parameter {
    Parameter { name, dims, data_type: FLOAT, raw: values.iter().flat_map(|value| value.to_le_bytes()).collect() }
}

/// A and B in the shapes that the branch reads.
fn sides(branch: &Branch, pairs: &Factors) -> [Parameter; 2] {
    let [a, b] = branch.shapes(pairs.rank);
    let (a_values, b_values) = match branch.kernel {
        Some(_) => (pairs.a.clone(), pairs.b.clone()),
        None => (turned(&pairs.a, pairs.rank), turned(&pairs.b, b[1])),
    };
    [floats(branch.a.clone(), a, &a_values), floats(branch.b.clone(), b, &b_values)]
}

/// The pairs that an adapter gives a site; `None` where it leaves them at 0, or gives what does not fit.
pub(super) fn pairs_of(file: &AdapterFile, branch: &Branch) -> Option<Factors> {
    let side = |name: &str| file.parameters.iter().find(|parameter| parameter.name == name);
    let (a, b) = (side(&branch.a)?, side(&branch.b)?);
    let rank = *a.dims.get(branch.rank_axes()[0])?;
    let [a_shape, b_shape] = branch.shapes(rank);
    if a.dims != a_shape || b.dims != b_shape {
        return None;
    }
    let values = |parameter: &Parameter| -> Vec<f32> {
        parameter.raw.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
    };
    let (a, b) = (values(a), values(b));
    Some(match branch.kernel {
        Some(_) => Factors { rank, a, b },
        None => Factors { rank, a: turned(&a, a_shape[0]), b: turned(&b, rank) },
    })
}

/// The transpose of a matrix of `rows` rows; both lie row by row.
fn turned(matrix: &[f32], rows: usize) -> Vec<f32> {
    let columns = matrix.len() / rows.max(1);
    (0..columns).flat_map(|column| (0..rows).map(move |row| matrix[row * columns + column])).collect()
}

/// What is given to a base.
pub(super) fn given(file: &AdapterFile) -> impl Iterator<Item = Given<'_>> {
    file.parameters.iter().map(|Parameter { name, dims, data_type, raw }| Given {
        name,
        data_type: *data_type,
        dims,
        raw,
    })
}
