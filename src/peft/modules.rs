//! Which module of the PyTorch network each site is.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::torch::{Found, TorchWeights};
use crate::backbone::{Backbone, Site, WeightSources};
use crate::bundle::Bundle;
use crate::error::{Error, ErrorKind, Result};
use crate::limits::MOST_LABEL_BYTES;

/// The entry of a map that names the classifier's module.
const HEAD: &str = "head";

/// Where the names of modules come from, beside those in the ONNX file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Naming {
    /// The network's weights in PyTorch, as safetensors: modules are found by their weights, and batch norms that the file has folded
    /// are undone.
    pub torch: Option<PathBuf>,
    /// A TOML table from site names, and `head`, to module paths.
    pub map: Option<PathBuf>,
}

/// The module of each site, and of the classifier.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Modules {
    pub(super) sites: Vec<Module>,
    pub(super) head: String,
}

/// One module: its path, and by what each row of its weight was multiplied in the ONNX file; empty: by 1.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Module {
    pub(super) path: String,
    pub(super) scales: Vec<f32>,
}

impl Modules {
    /// The modules of `sites`, by the map, the weights, or the names that the exporter has left in the file, in this order.
    ///
    /// # Errors
    /// `Usage` for a map that cannot be read or names nothing of the bundle; `Mismatch` where a site's or the classifier's module is not
    /// known, or two have the same, or PEFT would not tell them apart.
    pub(super) fn find(bundle: &Bundle, backbone: &Backbone, sites: &[Site], naming: &Naming) -> Result<Self> {
        let map = naming.map.as_deref().map(read_map).transpose()?.unwrap_or_default();
        let torch = naming.torch.as_deref().map(TorchWeights::open).transpose()?;
        let sources = WeightSources::of(&bundle.backbone_bytes()?, &bundle.path.display().to_string())?;
        let mut modules = Vec::with_capacity(sites.len());
        for site in sites {
            let named = map.get(&site.name).cloned().or_else(|| by_name(&site.name, sources.weight_of(&site.name)));
            let module = match &torch {
                Some(torch) => {
                    let Found { path, scales } =
                        torch.find(&site.name, backbone.weight(site)?.view(), named.as_deref())?;
                    Module { path, scales }
                }
                None => Module { path: named.ok_or_else(|| unknown(&site.name))?, scales: Vec::new() },
            };
            modules.push(module);
        }
        refuse_foreign(&map, sites)?;
        let own = sources.last().filter(|(node, _)| sites.iter().all(|site| site.name != *node));
        let head = map.get(HEAD).cloned().or_else(|| own.and_then(|(node, weight)| by_name(node, Some(weight))));
        let head = head.ok_or_else(|| unknown(HEAD))?;
        let modules = Modules { sites: modules, head };
        modules.refuse_alike(sites)?;
        Ok(modules)
    }

    /// PEFT takes `head` for the end of any path that is to be saved whole, and a path twice for one module.
    fn refuse_alike(&self, sites: &[Site]) -> Result<()> {
        let mut seen: BTreeMap<&str, &str> = BTreeMap::new();
        for (module, site) in self.sites.iter().zip(sites) {
            if let Some(other) = seen.insert(&module.path, &site.name) {
                let message = format!("is the module `{}`, and so is {other}; name both in --map", module.path);
                return Err(Error::new(ErrorKind::Mismatch, &site.name, message));
            }
            let clashes = module.path == self.head
                || module.path.ends_with(&self.head)
                || module.path.split('.').any(|part| part == self.head);
            if clashes {
                let message = format!(
                    "is the module `{}`, which PEFT would take for a part of the classifier `{}`; rename the classifier in PyTorch, and name \
                     it as `{HEAD}` in --map",
                    module.path, self.head
                );
                return Err(Error::new(ErrorKind::Mismatch, &site.name, message));
            }
        }
        Ok(())
    }
}

fn unknown(name: &str) -> Error {
    let message = format!(
        "has no module in PyTorch that its names tell: add `\"{name}\" = \"path.of.the.module\"` to a file for --map, or give the network's \
         weights with --torch"
    );
    Error::new(ErrorKind::Mismatch, name, message)
}

fn refuse_foreign(map: &BTreeMap<String, String>, sites: &[Site]) -> Result<()> {
    let foreign = map.keys().find(|key| *key != HEAD && sites.iter().all(|site| site.name != **key));
    foreign.map_or(Ok(()), |key| {
        Err(Error::new(
            ErrorKind::Usage,
            "--map",
            format!("names `{key}`, which is no site of the bundle; `inspect` lists them"),
        ))
    })
}

fn read_map(path: &Path) -> Result<BTreeMap<String, String>> {
    let bytes = crate::bundle::read_file(path, MOST_LABEL_BYTES, ErrorKind::Usage)?;
    let text =
        String::from_utf8(bytes).map_err(|e| Error::new(ErrorKind::Usage, path.display(), "is not text").because(e))?;
    let wrong = |e| Error::new(ErrorKind::Usage, path.display(), "is not a TOML table of names").because(e);
    toml::from_str::<BTreeMap<String, String>>(&text).map_err(wrong)
}

/// The module path that an exporter has left: in the name of the weight, or in that of the node.
///
/// The newer exporter of PyTorch names a weight `features.1.conv.weight`. The older one names a node `/features/features.1/conv/Conv`:
/// each part that begins with the one before and a dot replaces it.
fn by_name(node: &str, weight: Option<&str>) -> Option<String> {
    if let Some(path) = weight.and_then(|weight| weight.strip_suffix(".weight")) {
        return Some(path.to_owned()).filter(|path| !path.is_empty() && !path.contains([':', '/']));
    }
    let (scopes, _operator) = node.strip_prefix('/')?.rsplit_once('/')?;
    let mut path: Vec<&str> = Vec::new();
    for scope in scopes.split('/') {
        if path.last().is_some_and(|last| scope.strip_prefix(*last).is_some_and(|rest| rest.starts_with('.'))) {
            path.pop();
        }
        path.push(scope);
    }
    Some(path.join("."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_exporters_leave_the_path_of_a_module() {
        let legacy = "/features/features.1/conv/conv.0/conv.0.0/Conv";
        assert_eq!(by_name(legacy, Some("onnx::Conv_121")).as_deref(), Some("features.1.conv.0.0"));
        assert_eq!(by_name("/layer1/layer1.0/conv1/Conv", None).as_deref(), Some("layer1.0.conv1"));
        assert_eq!(by_name("/conv1/Conv", None).as_deref(), Some("conv1"));
        assert_eq!(by_name("node_Conv_142", Some("features.1.conv.weight")).as_deref(), Some("features.1.conv"));
        assert_eq!(
            by_name("/classifier/classifier.1/Gemm", Some("classifier.1.weight")).as_deref(),
            Some("classifier.1")
        );
        for (node, weight) in [("n6", Some("n6_w")), ("node_MatMul_3", Some("val_87")), ("n", None), ("/Conv", None)] {
            assert_eq!(by_name(node, weight), None, "{node}");
        }
    }
}
