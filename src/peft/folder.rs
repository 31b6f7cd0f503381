//! The two files of a PEFT folder.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::Path;

use half::{bf16, f16};
use safetensors::{Dtype, SafeTensors};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::bundle::{new_folder, read_file};
use crate::error::{Error, ErrorKind, Result};
use crate::limits::{MOST_ADAPTER_BYTES, MOST_HEADER_BYTES, MOST_LABEL_BYTES, MOST_NAME_BYTES, MOST_TENSORS, elements};

pub(super) const CONFIG: &str = "adapter_config.json";
pub(super) const WEIGHTS: &str = "adapter_model.safetensors";
/// How the keys of PEFT's tensors begin.
pub(super) const PREFIX: &str = "base_model.model.";
/// The entry of the weights' metadata that is srlora's.
pub(super) const PROVENANCE: &str = "srlora";

/// A tensor in f32, row-major.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Tensor {
    pub(super) name: String,
    pub(super) shape: Vec<usize>,
    pub(super) values: Vec<f32>,
}

/// Where an adapter comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Provenance {
    pub(super) bundle_sha256: String,
    pub(super) generation: u64,
    /// In the order of the head's rows.
    pub(super) classes: Vec<String>,
    /// The module of each site, and of the classifier.
    #[serde(default)]
    pub(super) modules: BTreeMap<String, String>,
    /// Whether batch norms that the bundle has folded were undone.
    #[serde(default)]
    pub(super) unfolded: bool,
}

/// What of `adapter_config.json` decides what an adapter is; what PEFT adds to it otherwise is not read.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Config {
    pub(super) peft_type: String,
    pub(super) r: usize,
    pub(super) lora_alpha: f64,
    pub(super) use_rslora: bool,
    pub(super) use_dora: bool,
    pub(super) lora_bias: bool,
    pub(super) fan_in_fan_out: bool,
    pub(super) bias: String,
    pub(super) rank_pattern: BTreeMap<String, usize>,
    pub(super) alpha_pattern: BTreeMap<String, f64>,
    pub(super) modules_to_save: Option<Vec<String>>,
    /// What changes the weights of the network, or what pairs do, where it is set.
    pub(super) init_lora_weights: Value,
    pub(super) layer_replication: Value,
    pub(super) target_parameters: Value,
    pub(super) trainable_token_indices: Value,
    pub(super) alora_invocation_tokens: Value,
    pub(super) arrow_config: Value,
    pub(super) use_qalora: bool,
}

/// Starts that leave the network's weights as they are.
const PLAIN_STARTS: [&str; 3] = ["gaussian", "orthogonal", "eva"];

impl Default for Config {
    fn default() -> Self {
        Config {
            peft_type: String::new(),
            r: 8,
            lora_alpha: 8.0,
            use_rslora: false,
            use_dora: false,
            lora_bias: false,
            fan_in_fan_out: false,
            bias: "none".to_owned(),
            rank_pattern: BTreeMap::new(),
            alpha_pattern: BTreeMap::new(),
            modules_to_save: None,
            init_lora_weights: Value::Null,
            layer_replication: Value::Null,
            target_parameters: Value::Null,
            trainable_token_indices: Value::Null,
            alora_invocation_tokens: Value::Null,
            arrow_config: Value::Null,
            use_qalora: false,
        }
    }
}

/// The configuration of an adapter whose factor of B A is 1 everywhere: alpha = rank, module by module.
pub(super) fn config(modules: &[(&str, usize)], head: &str) -> serde_json::Value {
    let rank = modules.iter().map(|(_, rank)| *rank).max().unwrap_or(1).max(1);
    let others = modules.iter().filter(|(_, own)| *own != rank);
    // PEFT takes a pattern for the end of a path unless it is anchored, and takes targets that are one pattern for the whole path.
    let patterns: BTreeMap<String, usize> = others.map(|(path, own)| (format!("^{}$", escaped(path)), *own)).collect();
    let targets = modules.iter().map(|(path, _)| escaped(path)).collect::<Vec<_>>().join("|");
    json!({
        "peft_type": "LORA",
        "base_model_name_or_path": null,
        "inference_mode": true,
        "init_lora_weights": true,
        "bias": "none",
        "r": rank,
        "lora_alpha": rank,
        "rank_pattern": patterns,
        "alpha_pattern": patterns,
        "target_modules": format!("({targets})"),
        "modules_to_save": [head],
    })
}

fn escaped(path: &str) -> String {
    path.chars().flat_map(|c| (!c.is_alphanumeric() && c != '_').then_some('\\').into_iter().chain([c])).collect()
}

/// Writes both files into a new folder, lets `check` read them there, and gives it its name: it appears whole or not at all. The same
/// tensors always give the same bytes.
///
/// # Errors
/// Those of `check`; `Exists`, `Io`, `Unsynced`.
pub(super) fn write<T>(
    path: &Path,
    config: &serde_json::Value,
    (tensors, provenance): (&[Tensor], &Provenance),
    check: impl FnOnce(&Path) -> Result<T>,
) -> Result<T> {
    new_folder(path, |folder| {
        let config = serde_json::to_string_pretty(config).map_err(|e| Error::new(ErrorKind::Internal, CONFIG, e))?;
        put(&folder.join(CONFIG), &[config.as_bytes(), b"\n"])?;
        let (header, order) = header(tensors, provenance)?;
        let len = (header.len() as u64).to_le_bytes();
        let values: Vec<Vec<u8>> =
            order.into_iter().map(|tensor| tensor.values.iter().flat_map(|v| v.to_le_bytes()).collect()).collect();
        let parts: Vec<&[u8]> =
            [&len[..], header.as_bytes()].into_iter().chain(values.iter().map(Vec::as_slice)).collect();
        put(&folder.join(WEIGHTS), &parts)?;
        check(folder)
    })
}

fn put(path: &Path, parts: &[&[u8]]) -> Result<()> {
    let write = || {
        let mut file = fs::File::create_new(path)?;
        parts.iter().try_for_each(|part| file.write_all(part))?;
        file.sync_all()
    };
    write().map_err(|e| Error::io(path, e))
}

/// The header of a safetensors file, and the tensors in its order. The crate's own writer orders metadata anew in every process.
fn header<'t>(tensors: &'t [Tensor], provenance: &Provenance) -> Result<(String, Vec<&'t Tensor>)> {
    let internal = |e| Error::new(ErrorKind::Internal, WEIGHTS, e);
    let mut order: Vec<&Tensor> = tensors.iter().collect();
    order.sort_by(|a, b| a.name.cmp(&b.name));
    let mut entries = BTreeMap::new();
    let provenance = serde_json::to_string(provenance).map_err(internal)?;
    entries.insert("__metadata__".to_owned(), json!({"format": "pt", PROVENANCE: provenance}));
    let mut end = 0;
    for tensor in &order {
        let begin = end;
        end += size_of::<f32>() * tensor.values.len();
        entries
            .insert(tensor.name.clone(), json!({"dtype": "F32", "shape": tensor.shape, "data_offsets": [begin, end]}));
    }
    let mut text = serde_json::to_string(&entries).map_err(internal)?;
    // What follows begins at a multiple of 8.
    text.extend(std::iter::repeat_n(' ', text.len().next_multiple_of(8) - text.len()));
    Ok((text, order))
}

/// `adapter_config.json` of a folder.
///
/// # Errors
/// `Mismatch` for what is no LoRA, or a kind of it that is not taken; `Io`.
pub(super) fn read_config(folder: &Path) -> Result<Config> {
    let path = folder.join(CONFIG);
    let bytes = read_file(&path, MOST_LABEL_BYTES, ErrorKind::Mismatch)?;
    let fault = |message: String| Error::new(ErrorKind::Mismatch, path.display(), message);
    let config: Config =
        serde_json::from_slice(&bytes).map_err(|e| fault(format!("is no configuration of PEFT: {e}")))?;
    let start = config.init_lora_weights.as_str().filter(|start| !PLAIN_STARTS.contains(start));
    let is_set = |value: &Value| {
        !matches!(value, Value::Null | Value::Bool(false)) && value.as_array().is_none_or(|a| !a.is_empty())
    };
    let asked = [
        (config.peft_type.is_empty(), "names no `peft_type`".to_owned()),
        (config.peft_type != "LORA", format!("is of the kind `{}`", config.peft_type.escape_debug())),
        (config.use_dora, "has `use_dora`".to_owned()),
        (config.use_qalora, "has `use_qalora`".to_owned()),
        (config.bias != "none" || config.lora_bias, "trains biases (`bias`, `lora_bias`)".to_owned()),
        (config.fan_in_fan_out, "has `fan_in_fan_out`".to_owned()),
        (is_set(&config.layer_replication), "has `layer_replication`".to_owned()),
        (is_set(&config.target_parameters), "has `target_parameters`".to_owned()),
        (is_set(&config.trainable_token_indices), "has `trainable_token_indices`".to_owned()),
        (is_set(&config.alora_invocation_tokens), "has `alora_invocation_tokens`".to_owned()),
        (is_set(&config.arrow_config), "has `arrow_config`".to_owned()),
    ];
    if let Some(start) = start {
        return Err(fault(format!(
            "has started with `{}`, which changes the network's own weights: save it again with `path_initial_model_for_weight_conversion`",
            start.escape_debug()
        )));
    }
    match asked.into_iter().find(|(is_asked, _)| *is_asked) {
        Some((_, what)) => {
            Err(fault(format!("{what}, and only plain LoRA is taken: merge the adapter, or train one without")))
        }
        None => Ok(config),
    }
}

/// The tensors of a safetensors file in f32, and where they come from, where srlora wrote it.
///
/// # Errors
/// `Mismatch` for a file that is damaged, too large, or holds values that are not finite; `Io`.
pub(super) fn read_tensors(path: &Path) -> Result<(Vec<Tensor>, Option<Provenance>)> {
    let fault = |message: String| Error::new(ErrorKind::Mismatch, path.display(), message);
    let bytes = read_file(path, MOST_ADAPTER_BYTES, ErrorKind::Mismatch)?;
    let claimed = bytes.first_chunk::<8>().map_or(u64::MAX, |len| u64::from_le_bytes(*len));
    if bytes.len() < size_of::<u64>() {
        return Err(fault("is too short for a safetensors file".to_owned()));
    }
    if claimed > MOST_HEADER_BYTES {
        return Err(fault(format!(
            "is no safetensors file, or has a header of {claimed} bytes, above {MOST_HEADER_BYTES}"
        )));
    }
    let (_, metadata) =
        SafeTensors::read_metadata(&bytes).map_err(|e| fault(format!("is damaged ({e}); save it again")))?;
    let entries = metadata.metadata().as_ref();
    let provenance = entries.and_then(|entries| serde_json::from_str(entries.get(PROVENANCE)?).ok());
    let file = SafeTensors::deserialize(&bytes).map_err(|e| fault(format!("is damaged ({e}); save it again")))?;
    if file.len() > MOST_TENSORS {
        return Err(fault(format!("has {} tensors, above {MOST_TENSORS}", file.len())));
    }
    let mut tensors = Vec::with_capacity(file.len());
    for (name, view) in file.iter() {
        let data = view.data();
        let values: Option<Vec<f32>> = match view.dtype() {
            Dtype::F32 => Some(data.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect()),
            Dtype::F16 => Some(data.as_chunks().0.iter().map(|b| f16::from_le_bytes(*b).to_f32()).collect()),
            Dtype::BF16 => Some(data.as_chunks().0.iter().map(|b| bf16::from_le_bytes(*b).to_f32()).collect()),
            Dtype::F64 => Some(data.as_chunks().0.iter().map(|b| f64::from_le_bytes(*b) as f32).collect()),
            other if name.contains(".lora_") => {
                return Err(fault(format!("has `{}` of type {other:?}; save it in a float type", name.escape_debug())));
            }
            _ => None,
        };
        // Counters of batch norms and the like are no weights.
        let Some(values) = values else { continue };
        let shape = view.shape().to_vec();
        if name.len() > MOST_NAME_BYTES || elements(&shape, values.len()) != Some(values.len()) {
            return Err(fault(format!(
                "has a tensor `{}` of shape {shape:?}",
                name.chars().take(80).collect::<String>()
            )));
        }
        if values.iter().any(|v| !v.is_finite()) {
            return Err(fault(format!("has values in `{name}` that are not finite")));
        }
        tensors.push(Tensor { name: name.to_owned(), shape, values });
    }
    tensors.sort_by(|a, b| a.name.cmp(&b.name));
    Ok((tensors, provenance))
}
