//! Arrays with names: what is sent, and what of it can be meant.

use std::collections::BTreeMap;

use crate::bundle::{Bundle, BundleSite, check_labels};
use crate::core::Sides;
use crate::error::{Error, ErrorKind, Result};
use crate::limits::MOST_CLASSES;

/// The head's rows.
pub(super) const WEIGHT: &str = "head/weight";
/// The head's biases.
pub(super) const BIAS: &str = "head/bias";

/// One array, row-major.
#[derive(Debug, Clone, PartialEq)]
pub struct NamedArray {
    /// Its name.
    pub key: String,
    /// Its axes.
    pub shape: Vec<usize>,
    /// As many values as its axes make.
    pub values: Vec<f32>,
}

/// What was trained, or is to be taken: with a site's pairs, D + B A is added to its weight, and the head's logits are W x + b.
///
/// | key | shape | where |
/// |---|---|---|
/// | `<site>/b` | out_dim x pairs | at each site, unless the head alone learns |
/// | `<site>/a` | pairs x in_dim | where A was trained; where it stays on the bundle's directions, it is the same on each device |
/// | `<site>/delta` | out_dim x in_dim | where something is in the delta: pairs that were fused, or what a mean of pairs leaves out |
/// | `head/weight` | classes x features | always |
/// | `head/bias` | classes | always |
#[derive(Debug, Clone, PartialEq)]
pub struct Trained {
    /// Hash of the bundle that it belongs to.
    pub bundle_sha256: String,
    /// Names of the head's rows.
    pub classes: Vec<String>,
    /// The arrays.
    pub arrays: Vec<NamedArray>,
}

/// What one site is to take.
#[derive(Debug)]
pub(super) struct SiteArrays {
    pub(super) b: Vec<f32>,
    pub(super) a: Option<Vec<f32>>,
    pub(super) delta: Option<Vec<f32>>,
}

/// What was taken out of a [`Trained`], checked against a bundle.
#[derive(Debug)]
pub(super) struct Checked {
    /// Which sides of the pairs were trained; `None`: there are none.
    pub(super) sides: Option<Sides>,
    /// In the bundle's order; none where there are no pairs.
    pub(super) sites: Vec<SiteArrays>,
    pub(super) weight: Vec<f32>,
    pub(super) bias: Vec<f32>,
}

/// An error of one array.
pub(super) fn fault(key: &str, message: impl std::fmt::Display) -> Error {
    Error::new(ErrorKind::Mismatch, key.escape_debug(), message)
}

impl Trained {
    /// Sorts the arrays by what they are for. `pairs` says how many pairs a site has of which so many sides learn.
    ///
    /// # Errors
    /// Kind `Mismatch`, naming the array: one that is missing, that no site has a place for, that is there twice, of another shape, or with
    /// values that are not finite; or naming the bundle, or the classes.
    pub(super) fn check(self, bundle: &Bundle, pairs: impl Fn(&BundleSite, Sides) -> usize) -> Result<Checked> {
        if self.bundle_sha256 != bundle.content_sha256 {
            let message = format!(
                "is another bundle than the one that this was trained with (sha256 {}..., that one was {}...); give each device of a fleet \
                 the same file",
                bundle.content_sha256.get(..12).unwrap_or_default(),
                self.bundle_sha256.escape_debug().take(12).collect::<String>()
            );
            return Err(Error::new(ErrorKind::Mismatch, bundle.path.display(), message));
        }
        self.check_classes()?;
        let classes = self.classes.len();
        let mut arrays = Sorted::of(self.arrays)?;
        let weight = arrays.take(WEIGHT, &[classes, bundle.feature_dim])?;
        let bias = arrays.take(BIAS, &[classes])?;
        let sides = arrays.sides(bundle);
        let site = |site: &BundleSite| -> Result<SiteArrays> {
            let (name, [rows, columns]) = (&site.name, [site.out_dim, site.in_dim]);
            let sides = sides.unwrap_or(Sides::One);
            let (pairs, delta) = (pairs(site, sides), format!("{name}/delta"));
            Ok(SiteArrays {
                b: arrays.take(&format!("{name}/b"), &[rows, pairs])?,
                a: match sides {
                    Sides::Both => Some(arrays.take(&format!("{name}/a"), &[pairs, columns])?),
                    Sides::One => None,
                },
                delta: arrays.has(&delta).then(|| arrays.take(&delta, &[rows, columns])).transpose()?,
            })
        };
        let sites = sides.map_or(Ok(Vec::new()), |_| bundle.sites.iter().map(site).collect())?;
        arrays.refuse_rest(bundle)?;
        Ok(Checked { sides, sites, weight, bias })
    }

    fn check_classes(&self) -> Result<()> {
        let refuse = |message: String| Err(fault("classes", message));
        if self.classes.is_empty() || self.classes.len() > MOST_CLASSES {
            return refuse(format!("are {}; there are 1 to {MOST_CLASSES}", self.classes.len()));
        }
        check_labels(&self.classes).or_else(|what| refuse(format!("cannot be meant: the list {what}")))
    }
}

/// Arrays that have not been taken yet.
struct Sorted(BTreeMap<String, NamedArray>);

impl Sorted {
    fn of(arrays: Vec<NamedArray>) -> Result<Self> {
        let mut sorted = BTreeMap::new();
        for array in arrays {
            let key = array.key.clone();
            if sorted.insert(key.clone(), array).is_some() {
                return Err(fault(&key, "is there twice"));
            }
        }
        Ok(Sorted(sorted))
    }

    fn has(&self, key: &str) -> bool {
        self.0.contains_key(key)
    }

    /// Which sides of the pairs were trained, as the first site that has something says.
    fn sides(&self, bundle: &Bundle) -> Option<Sides> {
        let is_there = |what: &str| bundle.sites.iter().any(|site| self.has(&format!("{}/{what}", site.name)));
        match (is_there("a"), is_there("b")) {
            (true, _) => Some(Sides::Both),
            (false, true) => Some(Sides::One),
            (false, false) => None,
        }
    }

    fn take(&mut self, key: &str, shape: &[usize]) -> Result<Vec<f32>> {
        let Some(array) = self.0.remove(key) else {
            return Err(fault(key, "is missing; send it, or take this device's update out"));
        };
        let len = shape.iter().try_fold(1usize, |len, side| len.checked_mul(*side));
        if array.shape != shape || len != Some(array.values.len()) {
            let message = format!("has the shape {:?}, and {shape:?} fits the bundle and the classes", array.shape);
            return Err(fault(key, message));
        }
        match array.values.iter().position(|value| !value.is_finite()) {
            Some(at) => Err(fault(key, format_args!("holds {} at {at}; take this update out", array.values[at]))),
            None => Ok(array.values),
        }
    }

    fn refuse_rest(&self, bundle: &Bundle) -> Result<()> {
        let Some(key) = self.0.keys().next() else { return Ok(()) };
        let known = bundle.sites.iter().take(3).map(|site| site.name.as_str()).collect::<Vec<_>>().join(", ");
        Err(fault(key, format_args!("is no array of a site of the bundle; its sites are {known}, ...")))
    }
}
