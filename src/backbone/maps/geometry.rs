//! How a two-dimensional convolution moves over an image.

use tract_onnx::pb::NodeProto;

use crate::backbone::onnx::attribute;
use crate::limits::{MOST_KERNEL, MOST_PAD, MOST_STRIDE};

/// Kernel, stride, dilation, groups and padding of a two-dimensional convolution.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Geometry {
    /// Height and width.
    pub(crate) kernel: [usize; 2],
    pub(crate) stride: [usize; 2],
    pub(crate) dilation: [usize; 2],
    pub(crate) group: usize,
    padding: Padding,
}

/// ONNX's ways to pad with zeros.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Padding {
    /// Before the first and after the last row and column.
    Explicit { before: [usize; 2], after: [usize; 2] },
    /// Output = input / stride, rounded up; an odd zero goes to the end.
    SameUpper,
    /// The same, an odd zero goes to the beginning.
    SameLower,
}

impl Geometry {
    /// Reads a Conv node with a kernel of the given height and width.
    ///
    /// # Errors
    /// Says what a convolution of this form lacks.
    pub(crate) fn of(node: &NodeProto, kernel: [usize; 2]) -> Result<Self, String> {
        if kernel.iter().any(|side| !(1..=MOST_KERNEL).contains(side)) {
            return Err(format!("its kernel is {kernel:?}; sides of 1 to {MOST_KERNEL} are taken"));
        }
        let ints = |name: &str, default: usize| -> Result<[usize; 2], String> {
            match attribute(node, name).map(|a| &a.ints[..]) {
                None | Some([]) => Ok([default; 2]),
                Some(&[rows, columns]) => positive(name, [rows, columns]),
                Some(other) => Err(format!("its {name} are {other:?}, not one per axis of an image")),
            }
        };
        let padding = match attribute(node, "auto_pad").map(|a| &a.s[..]) {
            Some(b"SAME_UPPER") => Padding::SameUpper,
            Some(b"SAME_LOWER") => Padding::SameLower,
            Some(b"VALID") => Padding::Explicit { before: [0; 2], after: [0; 2] },
            _ => explicit(node)?,
        };
        let group = attribute(node, "group").map_or(1, |a| a.i);
        let group = usize::try_from(group).ok().filter(|g| *g > 0).ok_or(format!("its group is {group}"))?;
        Ok(Geometry { kernel, stride: ints("strides", 1)?, dilation: ints("dilations", 1)?, group, padding })
    }

    /// Pixels that the dilated kernel spans.
    fn reach(&self, axis: usize) -> usize {
        self.kernel[axis].saturating_sub(1) * self.dilation[axis] + 1
    }

    /// Height and width of the output; `None` where the kernel is larger than the padded image.
    pub(crate) fn output(&self, input: [usize; 2]) -> Option<[usize; 2]> {
        let size = |axis: usize| match self.padding {
            Padding::Explicit { before, after } => {
                let room = (input[axis] + before[axis] + after[axis]).checked_sub(self.reach(axis))?;
                Some(room / self.stride[axis] + 1)
            }
            _ => Some(input[axis].div_ceil(self.stride[axis])),
        };
        Some([size(0)?, size(1)?])
    }

    /// Zeros before the first row and column.
    pub(crate) fn pad_before(&self, input: [usize; 2], output: [usize; 2]) -> [usize; 2] {
        let same = |axis: usize| {
            let span = output[axis].saturating_sub(1) * self.stride[axis] + self.reach(axis);
            span.saturating_sub(input[axis])
        };
        match self.padding {
            Padding::Explicit { before, .. } => before,
            Padding::SameUpper => [same(0) / 2, same(1) / 2],
            Padding::SameLower => [same(0).div_ceil(2), same(1).div_ceil(2)],
        }
    }

    /// Whether every output pixel sees just the input pixel at its place.
    pub(crate) fn is_pointwise(&self) -> bool {
        let unpadded =
            !matches!(self.padding, Padding::Explicit { before, after } if before != [0; 2] || after != [0; 2]);
        self.kernel == [1, 1] && self.stride == [1, 1] && unpadded
    }
}

fn explicit(node: &NodeProto) -> Result<Padding, String> {
    match attribute(node, "pads").map(|a| &a.ints[..]) {
        None | Some([]) => Ok(Padding::Explicit { before: [0; 2], after: [0; 2] }),
        Some(&[top, left, bottom, right])
            if [top, left, bottom, right].iter().all(|p| (0..=MOST_PAD as i64).contains(p)) =>
        {
            let pair = |a: i64, b: i64| [a as usize, b as usize];
            Ok(Padding::Explicit { before: pair(top, left), after: pair(bottom, right) })
        }
        Some(other) => Err(format!("its pads are {other:?}; 0 to {MOST_PAD} on each side are taken")),
    }
}

fn positive(name: &str, values: [i64; 2]) -> Result<[usize; 2], String> {
    let in_range = |v: i64| (1..=MOST_STRIDE as i64).contains(&v).then_some(v as usize);
    match values.map(in_range) {
        [Some(a), Some(b)] => Ok([a, b]),
        _ => Err(format!("its {name} are {values:?}; 1 to {MOST_STRIDE} are taken")),
    }
}

#[cfg(test)]
impl Geometry {
    pub(crate) fn explicit(kernel: [usize; 2], stride: [usize; 2], before: [usize; 2], after: [usize; 2]) -> Self {
        Geometry { kernel, stride, dilation: [1; 2], group: 1, padding: Padding::Explicit { before, after } }
    }

    pub(crate) fn grouped(self, group: usize) -> Self {
        Geometry { group, ..self }
    }

    pub(crate) fn dilated(self, dilation: [usize; 2]) -> Self {
        Geometry { dilation, ..self }
    }

    pub(crate) fn same(kernel: [usize; 2], stride: [usize; 2], upper: bool) -> Self {
        let padding = if upper { Padding::SameUpper } else { Padding::SameLower };
        Geometry { kernel, stride, dilation: [1; 2], group: 1, padding }
    }
}
