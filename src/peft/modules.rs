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
    /// ||W_onnx - diag(s) W_torch|| / ||W_onnx||, where that is known.
    pub(super) distance: Option<f64>,
}

impl From<Found> for Module {
    fn from(Found { path, scales, distance }: Found) -> Self {
        Module { path, scales, distance: Some(distance) }
    }
}

impl Modules {
    /// The modules of `sites`, by the map, the weights, or the names that the exporter has left in the file. `known` are those that a folder
    /// names itself.
    ///
    /// # Errors
    /// `Usage` for a map that cannot be read or names nothing of the bundle; `Mismatch` where a site's or the classifier's module is not
    /// known, two have the same, names and weights say different ones, or PEFT would not tell them apart.
    pub(super) fn find(
        bundle: &Bundle,
        backbone: &Backbone,
        sites: &[Site],
        (naming, known): (&Naming, &BTreeMap<String, String>),
    ) -> Result<Self> {
        let map = naming.map.as_deref().map(read_map).transpose()?.unwrap_or_default();
        refuse_foreign(&map, sites)?;
        let torch = naming.torch.as_deref().map(|path| TorchWeights::open(path, &bundle.precision)).transpose()?;
        let sources = WeightSources::of(&bundle.backbone_bytes()?, &bundle.path.display().to_string())?;
        let named = |name: &str, node: &str, weight| {
            map.get(name).or_else(|| known.get(name)).cloned().map_or_else(|| by_name(node, weight), Some)
        };
        let (mut modules, mut unknown_sites) = (Vec::with_capacity(sites.len()), Vec::new());
        for site in sites {
            let named = named(&site.name, &site.name, sources.weight_of(&site.name));
            match (&torch, named) {
                (Some(torch), named) => {
                    let found = torch.find(&site.name, backbone.weight(site)?.view(), named.as_deref())?;
                    agree(&site.name, map.get(&site.name), &found.path)?;
                    modules.push(found.into());
                }
                (None, Some(path)) => modules.push(Module { path, ..Module::default() }),
                (None, None) => unknown_sites.push(site.name.as_str()),
            }
        }
        let classifier = sources.last().filter(|(node, _)| sites.iter().all(|site| site.name != *node));
        let by_weight = || -> Option<String> {
            let weight = backbone.weight_of(classifier?.0)?;
            torch.as_ref()?.find(HEAD, weight.view(), None).ok().map(|found| found.path)
        };
        let found = by_weight();
        if let Some(found) = &found {
            agree(HEAD, map.get(HEAD), found)?;
        }
        let head = found.or_else(|| {
            classifier.map_or_else(|| map.get(HEAD).cloned(), |(node, weight)| named(HEAD, node, Some(weight)))
        });
        unknown_sites.extend(head.is_none().then_some(HEAD));
        let Some(head) = head.filter(|_| unknown_sites.is_empty()) else { return Err(unknown(&unknown_sites)) };
        let modules = Modules { sites: modules, head };
        modules.refuse_alike(sites)?;
        Ok(modules)
    }

    /// What a folder says of itself, so that it can be read without a map.
    pub(super) fn named(&self, sites: &[Site]) -> BTreeMap<String, String> {
        let own = sites.iter().zip(&self.sites).map(|(site, module)| (site.name.clone(), module.path.clone()));
        own.chain([(HEAD.to_owned(), self.head.clone())]).collect()
    }

    /// Whether a batch norm was undone.
    pub(super) fn are_unfolded(&self) -> bool {
        self.sites.iter().any(|module| !module.scales.is_empty())
    }

    /// PEFT takes `head` for the end of any path that is to be saved whole, and a path twice for one module.
    fn refuse_alike(&self, sites: &[Site]) -> Result<()> {
        let mut seen: BTreeMap<&str, &str> = BTreeMap::new();
        for (module, site) in self.sites.iter().zip(sites) {
            if let Some(other) = seen.insert(&module.path, &site.name) {
                let message = format!("is the module `{}`, and so is {other}; name both in option `map`", module.path);
                return Err(Error::new(ErrorKind::Mismatch, &site.name, message));
            }
            let clashes = module.path == self.head
                || module.path.ends_with(&self.head)
                || module.path.split('.').any(|part| part == self.head);
            if clashes {
                let message = format!(
                    "is the module `{}`, which PEFT would take for a part of the classifier `{}`; rename the classifier in PyTorch, and name \
                     it as `{HEAD}` in option `map`",
                    module.path, self.head
                );
                return Err(Error::new(ErrorKind::Mismatch, &site.name, message));
            }
        }
        Ok(())
    }
}

/// Names that are told at once, at most.
const MOST_TOLD: usize = 64;

fn unknown(names: &[&str]) -> Error {
    let line = |name: &&str| format!("\"{}\" = \"path.of.the.module\"", name.escape_debug());
    let message = format!(
        "has {} whose module in PyTorch no name tells: give the network's weights with option `torch`, or a line for each in a file for option `map`: {}",
        if names == [HEAD] { "a classifier" } else { "sites" },
        names.iter().take(MOST_TOLD).map(line).collect::<Vec<_>>().join(", ")
    );
    Error::new(ErrorKind::Mismatch, "the bundle", message)
}

/// What is named must be what the weights say.
fn agree(name: &str, named: Option<&String>, found: &str) -> Result<()> {
    match named.filter(|named| *named != found) {
        None => Ok(()),
        Some(named) => {
            let message =
                format!("is `{named}` by option `map`, and `{found}` by its weight; correct the one, or leave it out");
            Err(Error::new(ErrorKind::Mismatch, name, message))
        }
    }
}

fn refuse_foreign(map: &BTreeMap<String, String>, sites: &[Site]) -> Result<()> {
    let foreign = map.keys().find(|key| *key != HEAD && sites.iter().all(|site| site.name != **key));
    foreign.map_or(Ok(()), |key| {
        Err(Error::new(
            ErrorKind::Usage,
            "option `map`",
            format!("names `{key}`, which is no site of the bundle; `inspect` lists them"),
        ))
    })
}

fn read_map(path: &Path) -> Result<BTreeMap<String, String>> {
    let bytes = crate::bundle::read_file(path, MOST_LABEL_BYTES, ErrorKind::Usage)?;
    let text =
        String::from_utf8(bytes).map_err(|e| Error::new(ErrorKind::Usage, path.display(), "is not text").because(e))?;
    let wrong = |what: String| Error::new(ErrorKind::Usage, path.display(), what);
    let map: BTreeMap<String, String> =
        toml::from_str(&text).map_err(|e| wrong(format!("is not a TOML table of names: {}", e.message())))?;
    let is_path = |path: &str| {
        path.split('.').all(|part| !part.is_empty() && part.chars().all(|c| c.is_alphanumeric() || c == '_'))
    };
    match map.iter().find(|(_, path)| !is_path(path)) {
        Some((name, path)) => {
            Err(wrong(format!("names `{}` for `{name}`, which is no path of a module", path.escape_debug())))
        }
        None => Ok(map),
    }
}

/// The module path that an exporter has left: in the name of the weight, or in that of the node.
///
/// The newer exporter of PyTorch names a weight `features.1.conv.weight`. The older one names a node `/features/features.1/conv/Conv`:
/// each part that begins with the one before and a dot replaces it.
/// Where both tell, and not the same, neither is believed.
fn by_name(node: &str, weight: Option<&str>) -> Option<String> {
    let by_weight = weight.and_then(|weight| weight.strip_suffix(".weight"));
    let by_weight = by_weight.filter(|path| !path.is_empty() && !path.contains([':', '/']));
    match (by_weight, by_scopes(node)) {
        (Some(weight), Some(scopes)) if weight != scopes => None,
        (weight, scopes) => weight.map(str::to_owned).or(scopes),
    }
}

fn by_scopes(node: &str) -> Option<String> {
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
        for (node, weight) in [
            ("/linear/Gemm", Some("n.linear.weight")),
            ("n6", Some("n6_w")),
            ("node_MatMul_3", Some("val_87")),
            ("n", None),
            ("/Conv", None),
        ] {
            assert_eq!(by_name(node, weight), None, "{node}");
        }
    }
}
