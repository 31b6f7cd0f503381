//! Which linear maps of the backbone can carry pairs, and which of them an option `sites` pattern selects.

use ndarray::{Array2, Axis};
use tract_onnx::pb::NodeProto;

use super::file::OnnxFile;
use crate::backbone::onnx::nearest;
use crate::error::{Error, ErrorKind, Result};

/// One linear map of the backbone that can carry pairs: y = W x, W `out_dim` x `in_dim`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Site {
    /// The ONNX node's name.
    pub name: String,
    /// Rows of W.
    pub out_dim: usize,
    /// Columns of W; channels x kernel height x kernel width for a convolution.
    pub in_dim: usize,
    /// ONNX operator.
    pub op: String,
}

/// A map that cannot carry pairs, and why; named so that a pattern that means it gets an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ineligible {
    /// The ONNX node's name.
    pub name: String,
    /// Why not.
    pub reason: String,
}

/// Every map before the features, in graph order.
pub(crate) fn survey(file: &OnnxFile, features: &str) -> (Vec<Site>, Vec<Ineligible>) {
    let (mut sites, mut ineligible) = (Vec::new(), Vec::new());
    for ix in file.ancestors(features) {
        let node = &file.graph().node[ix];
        match judge(file, node) {
            Some(Ok(site)) => sites.push(site),
            Some(Err(reason)) => ineligible.push(Ineligible { name: node.name.clone(), reason }),
            None => {}
        }
    }
    (sites, ineligible)
}

fn judge(file: &OnnxFile, node: &NodeProto) -> Option<std::result::Result<Site, String>> {
    if let Some(map) = file.map(node) {
        let (out_dim, in_dim) = (map.frozen.weight.out_dim, map.frozen.weight.in_dim);
        let site = || Site { name: map.name.clone(), out_dim, in_dim, op: map.op.clone() };
        return Some(map.obstacle().map_or_else(|| Ok(site()), Err));
    }
    let reason = match node.op_type.as_str() {
        "Conv" => "a convolution that is not two-dimensional, or whose weight is not a constant",
        "Gemm" => "a Gemm with transA, with alpha other than 1, or without a constant weight and bias",
        "MatMul" => "its right-hand side is not a constant matrix",
        _ => return None,
    };
    Some(Err(reason.to_string()))
}

/// W of `site`, `out_dim` x `in_dim`.
pub(crate) fn weight(file: &OnnxFile, site: &Site) -> Result<Array2<f32>> {
    let map = file.maps.iter().find(|map| map.name == site.name);
    map.map(|map| map.frozen.weight.dense())
        .ok_or_else(|| Error::new(ErrorKind::Model, &site.name, "the model has no map of that name"))
}

/// The outcome of matching an option `sites` pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selection {
    /// What carries pairs, in graph order.
    pub sites: Vec<Site>,
    /// What `last:N` or `all` passed over, or a pattern matched in vain, with the reason; worth telling the user.
    pub left_out: Vec<Ineligible>,
}

/// Selects sites by `spec`: `last:N`, `all`, or a regular expression over site names. `fixed` says whether a site's
/// weight is a fixed 0/1 shortcut.
///
/// `last:N` and `all` pass over maps with no room for `rank` and fixed shortcuts, and say so. A pattern takes a fixed
/// shortcut at its word, says which of its matches cannot be sites, and is refused where a match has no room.
///
/// # Errors
/// Kind `Sites`: nothing matches (the nearest names are listed), no match can be a site, the rank does not fit.
pub(crate) fn select(
    spec: &str,
    rank: usize,
    sites: &[Site],
    ineligible: &[Ineligible],
    fixed: impl Fn(&Site) -> bool,
) -> Result<Selection> {
    let fault = |message: String| Error::new(ErrorKind::Sites, format!("option `sites` {spec}"), message);
    let last = match spec.strip_prefix("last:").map(str::parse::<usize>) {
        None if spec == "all" => Some(usize::MAX),
        None => None,
        Some(Ok(count)) if count > 0 => Some(count),
        Some(_) => return Err(fault("write last:N with N at least 1, for instance last:12".into())),
    };
    let Some(count) = last else {
        let selection = matching(spec, sites, ineligible).map_err(fault)?;
        return match selection.sites.iter().find(|site| no_room(site, rank)) {
            Some(site) => Err(Error::new(ErrorKind::Sites, format!("option `rank` {rank}"), crowded(site, rank))),
            None => Ok(selection),
        };
    };
    let (mut chosen, mut left_out) = (Vec::new(), Vec::new());
    for site in sites.iter().rev() {
        if chosen.len() == count {
            break;
        }
        let reason = if no_room(site, rank) {
            crowded(site, rank)
        } else if fixed(site) {
            "its weight is a fixed 0/1 shortcut".to_string()
        } else {
            chosen.push(site.clone());
            continue;
        };
        left_out.push(Ineligible { name: site.name.clone(), reason });
    }
    chosen.reverse();
    match (chosen.is_empty(), left_out.first()) {
        (true, Some(first)) => Err(Error::new(ErrorKind::Sites, format!("option `rank` {rank}"), &first.reason)),
        (true, None) => Err(fault("the model has no linear map or group-1 convolution before its features".into())),
        (false, _) => Ok(Selection { sites: chosen, left_out }),
    }
}

fn no_room(site: &Site, rank: usize) -> bool {
    rank > site.out_dim.min(site.in_dim)
}

fn crowded(site: &Site, rank: usize) -> String {
    let most = site.out_dim.min(site.in_dim);
    format!("site {} is {} x {} and has room for rank {most} at most, not {rank}", site.name, site.out_dim, site.in_dim)
}

fn matching(spec: &str, sites: &[Site], ineligible: &[Ineligible]) -> std::result::Result<Selection, String> {
    let pattern = regex_lite::Regex::new(spec).map_err(|e| {
        format!("neither last:N, nor all, nor a regular expression ({})", e.to_string().replace('\n', " "))
    })?;
    let sites_matched: Vec<Site> = sites.iter().filter(|s| pattern.is_match(&s.name)).cloned().collect();
    let left_out: Vec<Ineligible> = ineligible.iter().filter(|m| pattern.is_match(&m.name)).cloned().collect();
    if !sites_matched.is_empty() {
        return Ok(Selection { sites: sites_matched, left_out });
    }
    if let Some(map) = left_out.first() {
        return Err(format!("{} cannot be a site: {}", map.name, map.reason));
    }
    let near = nearest(spec, sites.iter().map(|s| s.name.as_str()));
    Err(format!("matches no site; the nearest names are: {}", near.join(", ")))
}

/// Whether every entry of a weight is 0 or 1, some are 1, and each row has at most one: a shortcut, not something learned.
/// A weight of zeros alone is no shortcut: it passes nothing on.
pub(crate) fn is_fixed_shortcut(weight: &Array2<f32>) -> bool {
    weight.iter().any(|&w| w == 1.0)
        && weight.iter().all(|&w| w == 0.0 || w == 1.0)
        && weight.axis_iter(Axis(0)).all(|row| row.sum() <= 1.0)
}

#[cfg(test)]
mod tests {
    use ndarray::array;

    use super::*;

    #[test]
    fn a_shortcut_passes_something_on_and_a_weight_of_zeros_does_not() {
        assert!(is_fixed_shortcut(&array![[1.0, 0.0], [0.0, 0.0], [0.0, 1.0]]));
        assert!(!is_fixed_shortcut(&Array2::zeros((3, 2))));
        assert!(!is_fixed_shortcut(&array![[1.0, 1.0], [0.0, 0.0]]));
        assert!(!is_fixed_shortcut(&array![[1.0, 0.0], [0.0, 0.5]]));
    }

    #[test]
    fn a_pattern_names_what_it_matches_in_vain() {
        let site = Site { name: "block/expand".into(), out_dim: 24, in_dim: 8, op: "Conv".into() };
        let depthwise = Ineligible { name: "block/depthwise".into(), reason: "a depthwise convolution".into() };
        let (sites, ineligible) = ([site.clone()], [depthwise.clone()]);
        let pick = |spec: &str| select(spec, 2, &sites, &ineligible, |_| false);
        let both = pick("^block/").unwrap();
        assert_eq!((both.sites, both.left_out), (vec![site.clone()], vec![depthwise]));
        assert_eq!(pick("expand").unwrap(), Selection { sites: vec![site], left_out: Vec::new() });
        assert!(pick("depth").unwrap_err().message().contains("a depthwise convolution"));
    }
}
