//! Modules found by their weights.
//!
//! A file holds W_onnx = diag(s) W_torch: s is 1, or what a batch norm behind a convolution has been folded to. Names can be lost and can
//! lie; numbers cannot. What was learned for the one is diag(1 / s) of it for the other.

use std::path::Path;

use ndarray::ArrayView2;

use super::folder::{Tensor, read_tensors};
use crate::error::{Error, ErrorKind, Result};

/// Largest ||W_onnx - diag(s) W_torch|| / ||W_onnx|| (Frobenius) of a weight that is meant, by the precision in which it ships: what
/// rounding leaves, of int8 with one scale a tensor.
fn same(precision: &str) -> f64 {
    match precision {
        "fp32" => 1e-4,
        "fp16" => 2e-3,
        _ => 0.1,
    }
}
/// How many times further away any other weight must be.
const APART: f64 = 3.0;

/// The weights of a network in PyTorch.
pub(super) struct TorchWeights {
    tensors: Vec<Tensor>,
    /// The distance up to which a weight is meant.
    same: f64,
}

/// The module that a site is, and by what each row of its weight was multiplied.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) path: String,
    pub(super) scales: Vec<f32>,
    /// ||W_onnx - diag(s) W_torch|| / ||W_onnx||.
    pub(super) distance: f64,
}

impl TorchWeights {
    /// # Errors
    /// As of [`read_tensors`].
    pub(super) fn open(path: &Path, precision: &str) -> Result<Self> {
        let mut tensors = read_tensors(path)?.0;
        tensors.retain(|tensor| tensor.shape.len() >= 2 && tensor.name.ends_with(".weight"));
        Ok(TorchWeights { tensors, same: same(precision) })
    }

    /// The module whose weight that of `site` was made of, `named` where several have the same.
    ///
    /// # Errors
    /// Kind `Mismatch` where none was, or more than one, or a row of the file is 0 and that of PyTorch is not.
    pub(super) fn find(&self, site: &str, weight: ArrayView2<f32>, named: Option<&str>) -> Result<Found> {
        let (rows, columns) = weight.dim();
        let fits = |tensor: &&Tensor| tensor.shape[0] == rows && tensor.values.len() == rows * columns;
        let mut candidates: Vec<(f64, &Tensor, Vec<f32>)> = Vec::new();
        for tensor in self.tensors.iter().filter(fits) {
            let (distance, scales) = rows_of(weight, &tensor.values);
            candidates.push((distance, tensor, scales));
        }
        candidates.sort_by(|a, b| a.0.total_cmp(&b.0));
        let fault = |message: String| Error::new(ErrorKind::Mismatch, site, message);
        let nearest = candidates.first().map_or(f64::INFINITY, |best| best.0);
        let is_meant = |distance: f64| distance <= self.same && distance <= APART * nearest.max(1e-6);
        let mut meant: Vec<_> = candidates.into_iter().filter(|candidate| is_meant(candidate.0)).collect();
        if meant.len() > 1 {
            meant.retain(|(_, tensor, _)| named.is_some_and(|named| module_of(tensor) == named));
        }
        let Some((distance, tensor, scales)) = meant.pop() else {
            let message = match nearest {
                _ if nearest <= self.same => "has the weight of several modules of option `torch`; name its module in option `map`".to_owned(),
                f64::INFINITY => "has a weight whose shape no module of option `torch` has; give the weights of the network that was exported".to_owned(),
                _ => format!(
                    "has a weight that no module of option `torch` has (the nearest differs by {:.2} %); give the weights that were exported",
                    100.0 * nearest
                ),
            };
            return Err(fault(message));
        };
        if let Some(row) = scales.iter().position(|s| *s == 0.0 || !s.is_finite()) {
            let message = format!(
                "has a row {row} that its batch norm multiplies by 0, which cannot be undone in the module `{}`; leave the site out of option `sites`",
                module_of(tensor)
            );
            return Err(fault(message));
        }
        // What rounding makes of 1 is 1.
        let is_plain = scales.iter().all(|s| (s - 1.0).abs() <= (self.same as f32).min(1e-2));
        let scales = if is_plain { Vec::new() } else { scales };
        Ok(Found { path: module_of(tensor).to_owned(), scales, distance })
    }
}

fn module_of(tensor: &Tensor) -> &str {
    tensor.name.strip_suffix(".weight").unwrap_or(&tensor.name)
}

/// For each row the s that brings `torch` nearest to `weight`, <w', w> / <w, w>, and how far that is; a row of zeros in both has 1.
fn rows_of(weight: ArrayView2<f32>, torch: &[f32]) -> (f64, Vec<f32>) {
    let (mut lost, mut whole, mut scales) = (0.0, 0.0, Vec::with_capacity(weight.nrows()));
    for (ours, theirs) in weight.rows().into_iter().zip(torch.chunks_exact(weight.ncols().max(1))) {
        let pairs = || ours.iter().zip(theirs).map(|(&a, &b)| (f64::from(a), f64::from(b)));
        let (both, own) = pairs().fold((0.0, 0.0), |(both, own), (a, b)| (both + a * b, own + b * b));
        let is_empty = own == 0.0 && ours.iter().all(|w| *w == 0.0);
        let scale = if is_empty { 1.0 } else { both / own };
        lost += pairs().map(|(a, b)| (a - scale * b).powi(2)).sum::<f64>();
        whole += pairs().map(|(a, _)| a * a).sum::<f64>();
        scales.push(scale as f32);
    }
    let distance = (lost / whole.max(f64::MIN_POSITIVE)).sqrt();
    (if distance.is_nan() { f64::INFINITY } else { distance }, scales)
}

#[cfg(test)]
mod tests {
    use ndarray::Array2;

    use super::*;

    fn weights(names: &[&str]) -> TorchWeights {
        let tensor = |(at, name): (usize, &&str)| Tensor {
            name: format!("{name}.weight"),
            shape: vec![3, 2, 1, 2],
            values: (0..12).map(|i| ((i * (at + 2)) as f32 + 0.5).sin()).collect(),
        };
        TorchWeights { tensors: names.iter().enumerate().map(tensor).collect(), same: same("fp32") }
    }

    #[test]
    fn a_folded_weight_leads_to_its_module_and_a_lost_row_does_not() {
        let torch = weights(&["a", "b", "c"]);
        let folded =
            |gammas: [f32; 3]| Array2::from_shape_fn((3, 4), |(i, j)| gammas[i] * torch.tensors[1].values[4 * i + j]);
        let found = torch.find("site", folded([2.0, -0.5, 1e-3]).view(), None).unwrap();
        assert_eq!(found.path, "b");
        found.scales.iter().zip([2.0, -0.5, 1e-3]).for_each(|(a, b)| assert!((a / b - 1.0).abs() < 1e-6));
        assert!(torch.find("site", folded([1.0; 3]).view(), None).unwrap().scales.is_empty());
        let lost = torch.find("site", folded([1.0, 0.0, 1.0]).view(), None).unwrap_err().to_string();
        assert!(lost.contains("row 1") && lost.contains("`b`"), "{lost}");
        let other = torch.find("site", Array2::ones((3, 4)).view(), None).unwrap_err().to_string();
        assert!(other.contains("no module of option `torch` has"), "{other}");
    }

    #[test]
    fn of_modules_with_one_weight_the_named_one_is_meant() {
        let mut torch = weights(&["a", "b"]);
        torch.tensors[1].values = torch.tensors[0].values.clone();
        let weight = Array2::from_shape_vec((3, 4), torch.tensors[0].values.clone()).unwrap();
        assert_eq!(torch.find("site", weight.view(), Some("b")).unwrap().path, "b");
        assert!(torch.find("site", weight.view(), None).unwrap_err().to_string().contains("several modules"));
    }
}
