//! Which linear maps of the backbone can carry pairs, and which of them a `--sites` pattern selects.

use ndarray::{Array2, Axis};
use tract_onnx::pb::NodeProto;
use tract_onnx::prelude::Tensor;

use super::onnx::{OnnxFile, attribute};
use crate::error::{Error, ErrorKind, Result};

/// How a site's input becomes the columns that its weight multiplies.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum SiteKind {
    /// The last axis of x is `in_dim`: Gemm and MatMul.
    Linear,
    /// Patches of an NCHW map, unfolded in the order channel, row, column: convolution of group 1.
    Conv(ConvGeometry),
}

/// Kernel, stride and padding of a two-dimensional convolution.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ConvGeometry {
    /// Kernel height and width.
    pub kernel: [usize; 2],
    /// Row and column stride.
    pub stride: [usize; 2],
    /// How the border is padded with zeros.
    pub padding: Padding,
}

/// ONNX's ways to pad.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Padding {
    /// Rows above and columns to the left (the rest follows from the output's size).
    Explicit([usize; 2]),
    /// `SAME_UPPER`: the odd one goes to the end.
    SameUpper,
    /// `SAME_LOWER`: the odd one goes to the beginning.
    SameLower,
}

impl ConvGeometry {
    /// Zeros before the first row and column for an input of `input` and an output of `output` pixels (height, width).
    #[must_use]
    pub fn pad_before(&self, input: [usize; 2], output: [usize; 2]) -> [usize; 2] {
        let same = |axis: usize| {
            let reach = (output[axis].saturating_sub(1)) * self.stride[axis] + self.kernel[axis];
            reach.saturating_sub(input[axis])
        };
        match self.padding {
            Padding::Explicit(before) => before,
            Padding::SameUpper => [same(0) / 2, same(1) / 2],
            Padding::SameLower => [same(0).div_ceil(2), same(1).div_ceil(2)],
        }
    }
}

/// One linear map of the backbone that can carry pairs: y = W x, W `out_dim` x `in_dim`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Site {
    /// The ONNX node's name.
    pub name: String,
    /// Rows of W.
    pub out_dim: usize,
    /// Columns of W; channels x kernel height x kernel width for a convolution.
    pub in_dim: usize,
    /// Linear or convolution.
    pub kind: SiteKind,
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
    let op = node.op_type.as_str();
    if !matches!(op, "Conv" | "Gemm" | "MatMul") || node.input.len() < 2 {
        return None;
    }
    let Some(shape) = file.constant_shape(&node.input[1]) else {
        return Some(Err(format!("its weight is not a constant ({op} of two activations)")));
    };
    let found = if op == "Conv" { conv(node, &shape) } else { linear(file, node, &shape) };
    let described = |(out_dim, in_dim, kind)| Site { name: node.name.clone(), out_dim, in_dim, kind, op: op.into() };
    Some(found.map(described))
}

type Described = std::result::Result<(usize, usize, SiteKind), String>;

fn linear(file: &OnnxFile, node: &NodeProto, shape: &[usize]) -> Described {
    if !file.is_linear(node) {
        return Err("its right-hand side is not a constant matrix".into());
    }
    let int = |name: &str| attribute(node, name).map_or(0, |a| a.i);
    if int("transA") != 0 || attribute(node, "alpha").is_some_and(|a| a.f != 1.0) {
        return Err("a Gemm with transA or alpha other than 1".into());
    }
    let [out_dim, in_dim] = if int("transB") != 0 { [shape[0], shape[1]] } else { [shape[1], shape[0]] };
    Ok((out_dim, in_dim, SiteKind::Linear))
}

fn conv(node: &NodeProto, shape: &[usize]) -> Described {
    let [out_dim, channels, rows, columns] = *shape else {
        return Err("a convolution that is not two-dimensional".into());
    };
    let group = attribute(node, "group").map_or(1, |a| a.i);
    if group != 1 {
        let what = if channels == 1 { "a depthwise convolution" } else { "a grouped convolution" };
        return Err(format!("{what} (group {group}): only group 1 carries pairs"));
    }
    let pair = |name: &str, default: usize| match attribute(node, name).map(|a| &a.ints[..]) {
        Some(&[a, b, ..]) => [a.max(0) as usize, b.max(0) as usize],
        _ => [default; 2],
    };
    if pair("dilations", 1) != [1, 1] {
        return Err("a dilated convolution".into());
    }
    let padding = match attribute(node, "auto_pad").map(|a| &a.s[..]) {
        Some(b"SAME_UPPER") => Padding::SameUpper,
        Some(b"SAME_LOWER") => Padding::SameLower,
        Some(b"VALID") => Padding::Explicit([0, 0]),
        _ => Padding::Explicit(pair("pads", 0)),
    };
    let geometry = ConvGeometry { kernel: [rows, columns], stride: pair("strides", 1), padding };
    Ok((out_dim, channels * rows * columns, SiteKind::Conv(geometry)))
}

/// W of `site`, `out_dim` x `in_dim`.
pub(crate) fn weight(file: &OnnxFile, site: &Site) -> Result<Array2<f32>> {
    let fault = |what: &str| Error::new(ErrorKind::Model, &site.name, what);
    let node = file.graph().node.iter().find(|n| n.name == site.name).ok_or_else(|| fault("no such node"))?;
    let tensor = file.constant(&node.input[1]).ok_or_else(|| fault("its weight cannot be read"))?;
    let values = floats(&tensor).ok_or_else(|| fault("its weight is not float32"))?;
    let transposed = site.kind == SiteKind::Linear && attribute(node, "transB").map_or(0, |a| a.i) == 0;
    let stored = if transposed { [site.in_dim, site.out_dim] } else { [site.out_dim, site.in_dim] };
    let matrix = Array2::from_shape_vec(stored, values).map_err(|e| fault("its weight has another size").because(e))?;
    Ok(if transposed { matrix.reversed_axes().as_standard_layout().into_owned() } else { matrix })
}

fn floats(tensor: &Tensor) -> Option<Vec<f32>> {
    Some(tensor.to_plain_array_view::<f32>().ok()?.iter().copied().collect())
}

/// The outcome of matching a `--sites` pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selection {
    /// What carries pairs, in graph order.
    pub sites: Vec<Site>,
    /// What was left out by `last:N` or `all`, with the reason; worth telling the user.
    pub left_out: Vec<Ineligible>,
}

/// Selects sites by `spec`: `last:N`, `all`, or a regular expression over site names. `fixed` says whether a site's
/// weight is a fixed 0/1 shortcut.
///
/// `last:N` and `all` pass over maps with no room for `rank` and fixed shortcuts, and say so; a pattern that names one
/// outright is refused.
///
/// # Errors
/// Kind `Sites`: nothing matches (the nearest names are listed), a match cannot be a site, the rank does not fit.
pub(crate) fn select(
    spec: &str,
    rank: usize,
    sites: &[Site],
    ineligible: &[Ineligible],
    fixed: impl Fn(&Site) -> bool,
) -> Result<Selection> {
    let fault = |message: String| Error::new(ErrorKind::Sites, format!("--sites {spec}"), message);
    let last = match spec.strip_prefix("last:").map(str::parse::<usize>) {
        None if spec == "all" => Some(usize::MAX),
        None => None,
        Some(Ok(count)) if count > 0 => Some(count),
        Some(_) => return Err(fault("write last:N with N at least 1, for instance last:12".into())),
    };
    let Some(count) = last else {
        let picked = matching(spec, sites, ineligible).map_err(fault)?;
        return match picked.iter().find(|site| no_room(site, rank)) {
            Some(site) => Err(Error::new(ErrorKind::Sites, format!("--rank {rank}"), crowded(site, rank))),
            None => Ok(Selection { sites: picked, left_out: Vec::new() }),
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
        (true, Some(first)) => Err(Error::new(ErrorKind::Sites, format!("--rank {rank}"), &first.reason)),
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

fn matching(spec: &str, sites: &[Site], ineligible: &[Ineligible]) -> std::result::Result<Vec<Site>, String> {
    let pattern = regex::Regex::new(spec).map_err(|e| {
        format!("neither last:N, nor all, nor a regular expression ({})", e.to_string().replace('\n', " "))
    })?;
    let picked: Vec<Site> = sites.iter().filter(|s| pattern.is_match(&s.name)).cloned().collect();
    if !picked.is_empty() {
        return Ok(picked);
    }
    if let Some(map) = ineligible.iter().find(|m| pattern.is_match(&m.name)) {
        return Err(format!("{} cannot be a site: {}", map.name, map.reason));
    }
    let near = nearest(spec, sites.iter().map(|s| s.name.as_str()));
    Err(format!("matches no site; the nearest names are: {}", near.join(", ")))
}

/// The five names nearest to `wanted`: those that contain it or are contained first, then by edit distance.
pub(crate) fn nearest<'n>(wanted: &str, names: impl Iterator<Item = &'n str>) -> Vec<&'n str> {
    let mut names: Vec<&str> = names.collect();
    let distance = |name: &str| 1.0 - strsim::jaro_winkler(wanted, name);
    names.sort_by(|a, b| distance(a).total_cmp(&distance(b)).then(a.cmp(b)));
    names.dedup();
    names.truncate(5);
    names
}

/// Whether every entry of a weight is 0 or 1 and each row has at most one 1: a shortcut, not something learned.
pub(crate) fn is_fixed_shortcut(weight: &Array2<f32>) -> bool {
    weight.iter().all(|&w| w == 0.0 || w == 1.0) && weight.axis_iter(Axis(0)).all(|row| row.sum() <= 1.0)
}
