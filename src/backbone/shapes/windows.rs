//! Products, windows, norms and sums.

use std::collections::{HashMap, HashSet};

use super::call::{Call, broadcast};
use super::fact::{Fact, Made, NOT_TAKEN, Outcome};
use crate::backbone::maps::{Geometry, MapKind};
use crate::limits;

/// Columns of a convolution that exist at a time, at least; the maps' own limit.
const COLUMNS: usize = 256;
/// Floats of columns and the like that a map works on at a time.
const BAND: usize = 1 << 17;

fn wide(a: usize, b: usize) -> u64 {
    (a as u64).saturating_mul(b as u64)
}

impl Call<'_> {
    /// A frozen map, whose weight is not in the graph.
    pub(super) fn map(&self) -> Outcome<Made> {
        self.takes(1..=1)?;
        let (x, map) = (self.float(0)?, self.map.ok_or("it is not a map of this file")?);
        let weight = &map.frozen.weight;
        let (mut dims, columns) = (x.dims.clone(), weight.in_dim);
        let padded = match &map.kind {
            MapKind::Linear => {
                let width = dims.last_mut().filter(|width| **width == weight.in_dim);
                let width = width.ok_or_else(|| misfit(weight.in_dim, &x.dims))?;
                *width = weight.out_dim;
                0
            }
            MapKind::Conv(geometry) => {
                let [batch, channels, height, width] = x.dims[..] else { return Err(misfit(weight.in_dim, &x.dims)) };
                let taps = geometry.kernel[0] * geometry.kernel[1];
                if channels % geometry.group != 0 || channels / geometry.group * taps != weight.in_dim {
                    let needed = weight.in_dim / taps.max(1) * geometry.group;
                    return Err(misfit(needed, &x.dims));
                }
                let size = geometry.output([height, width]).ok_or_else(|| small([height, width]))?;
                dims = vec![batch, weight.out_dim, size[0], size[1]];
                padded_plane(geometry, size)
            }
        };
        let positions = limits::elements(&dims, usize::MAX).ok_or("its output is too large")? / weight.out_dim.max(1);
        let scratch = columns.saturating_mul(positions.min(COLUMNS)).max(padded).max(BAND);
        let multiply_adds = wide(weight.len(), positions);
        Ok(Made { outputs: vec![Fact::float(dims)], scratch, multiply_adds })
    }

    /// A convolution of tract's own, over any number of axes.
    pub(super) fn convolution(&self) -> Outcome<Made> {
        self.takes(2..=3)?;
        let (x, w) = (self.float(0)?, self.float(1)?);
        let rank = x.dims.len();
        if !(3..=5).contains(&rank) || w.dims.len() != rank {
            return Err(format!("a kernel of {:?} on a tensor of {:?}", w.dims, x.dims));
        }
        let group = self.int("group")?.unwrap_or(1);
        let group = usize::try_from(group).ok().filter(|g| *g > 0).ok_or_else(|| format!("its group is {group}"))?;
        if x.dims[1] % group != 0 || x.dims[1] / group != w.dims[1] || w.dims[0] % group != 0 {
            return Err(format!("{} channels and a kernel of {:?} in {group} groups", x.dims[1], w.dims));
        }
        if self.optional(2).is_some_and(|bias| bias.dims != [w.dims[0]] || !bias.kind.is_float()) {
            return Err("its bias has not one value per output channel".into());
        }
        if self.ints("kernel_shape")?.is_some_and(|k| !k.iter().map(|&k| k as usize).eq(w.dims[2..].iter().copied())) {
            return Err("its kernel has another shape than it says".into());
        }
        let sides = self.windows(&x.dims[2..], &w.dims[2..], None)?;
        let dims: Vec<usize> = [x.dims[0], w.dims[0]].into_iter().chain(sides).collect();
        let positions = limits::elements(&dims, usize::MAX).ok_or("its output is too large")? / w.dims[0].max(1);
        let columns = w.elements() / w.dims[0].max(1) * group;
        let scratch = columns.saturating_mul(positions).saturating_add(w.elements());
        Ok(Made { multiply_adds: wide(w.elements(), positions), outputs: vec![x.shaped(dims)], scratch })
    }

    pub(super) fn pool(&self) -> Outcome<Made> {
        self.takes(1..=1)?;
        let x = self.float(0)?;
        let kernel = self.ints("kernel_shape")?.ok_or("it has no kernel_shape")?;
        let in_range = |k: &i64| (1..=limits::MOST_KERNEL as i64).contains(k).then_some(*k as usize);
        let kernel = kernel.iter().map(in_range).collect::<Option<Vec<usize>>>();
        let kernel = kernel.filter(|kernel| kernel.len() + 2 == x.dims.len()).ok_or("its kernel does not fit")?;
        self.flag("count_include_pad", false)?;
        if self.flag("storage_order", false)? {
            return Err("its indices run along columns, which is not taken".into());
        }
        let sides = self.windows(&x.dims[2..], &kernel, Some(self.flag("ceil_mode", false)?))?;
        let dims: Vec<usize> = x.dims[..2].iter().copied().chain(sides).collect();
        let outputs = limits::elements(&dims, usize::MAX).ok_or("its output is too large")?;
        let taps = limits::elements(&kernel, usize::MAX).unwrap_or(usize::MAX);
        Ok(Made { multiply_adds: wide(outputs, taps), scratch: 0, outputs: vec![x.shaped(dims)] })
    }

    /// Sides of the output of windows that move over an image. `ceil` says of a pool whether it rounds up.
    fn windows(&self, image: &[usize], kernel: &[usize], ceil: Option<bool>) -> Outcome<Vec<usize>> {
        let axes = image.len();
        let list =
            |name: &str, count: usize, default: usize, range: std::ops::RangeInclusive<i64>| -> Outcome<Vec<usize>> {
                match self.ints(name)? {
                    None | Some([]) => Ok(vec![default; count]),
                    Some(given) if given.len() == count && given.iter().all(|n| range.contains(n)) => {
                        Ok(given.iter().map(|&n| n as usize).collect())
                    }
                    Some(given) => Err(format!("its {name} are {given:?}; {count} of {range:?} are taken")),
                }
            };
        let strides = list("strides", axes, 1, 1..=limits::MOST_STRIDE as i64)?;
        let dilations = list("dilations", axes, 1, 1..=limits::MOST_STRIDE as i64)?;
        let pads = list("pads", 2 * axes, 0, 0..=limits::MOST_PAD as i64)?;
        let auto = self.text("auto_pad")?;
        if !["", "NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER"].contains(&auto) {
            return Err(format!("its auto_pad {auto} is not one of ONNX's"));
        }
        if !["", "NOTSET"].contains(&auto) && pads.iter().any(|pad| *pad > 0) {
            return Err("it has pads and auto_pad".into());
        }
        let side = |axis: usize| {
            if kernel[axis] == 0 || kernel[axis] > limits::MOST_KERNEL {
                return Err(format!("its kernel is {kernel:?}; sides of 1 to {} are taken", limits::MOST_KERNEL));
            }
            if auto.starts_with("SAME") {
                return Ok(image[axis].div_ceil(strides[axis]));
            }
            let (before, after) = (pads[axis], pads[axis + axes]);
            let reach = (kernel[axis] - 1) * dilations[axis] + 1;
            if ceil.is_some() && before.max(after) >= reach {
                return Err(format!("it pads by {} a kernel that reaches {reach}", before.max(after)));
            }
            let room = (image[axis] + before + after)
                .checked_sub(reach)
                .ok_or_else(|| format!("an image of {image:?} is too small for its kernel"))?;
            let whole = room / strides[axis];
            // A window that begins in the padding behind the image does not count.
            let more =
                ceil == Some(true) && room % strides[axis] != 0 && (whole + 1) * strides[axis] < image[axis] + before;
            Ok(whole + 1 + usize::from(more))
        };
        (0..axes).map(side).collect()
    }

    pub(super) fn global_pool(&self) -> Outcome<Made> {
        self.takes(1..=1)?;
        let x = self.float(0)?;
        if x.dims.len() < 3 {
            return Err(format!("it pools a tensor of {:?}", x.dims));
        }
        let one = |(axis, &dim)| if axis < 2 { dim } else { 1 };
        Made::one(x.shaped(x.dims.iter().enumerate().map(one).collect()))
    }

    pub(super) fn gemm(&self) -> Outcome<Made> {
        self.takes(2..=3)?;
        let (a, b) = (self.float(0)?, self.float(1)?);
        let ([p, q], [r, s]) = (pair(&a.dims)?, pair(&b.dims)?);
        let (rows, inner) = if self.flag("transA", false)? { (q, p) } else { (p, q) };
        let (own, columns) = if self.flag("transB", false)? { (s, r) } else { (r, s) };
        let dims = vec![rows, columns];
        if inner != own || a.kind != b.kind {
            return Err(format!("a product of {:?} and {:?}", a.dims, b.dims));
        }
        if let Some(c) = self.optional(2)
            && (c.kind != a.kind || c.elements() == 0 || c.dims.len() > 2 || broadcast(&dims, &c.dims)? != dims)
        {
            return Err(format!("{:?} cannot be added to {dims:?}", c.dims));
        }
        let outputs = limits::elements(&dims, usize::MAX).ok_or("its output is too large")?;
        let scratch = a.elements().saturating_add(b.elements()).saturating_add(outputs);
        Ok(Made { multiply_adds: wide(outputs, inner), scratch, outputs: vec![a.shaped(dims)] })
    }

    pub(super) fn product(&self) -> Outcome<Made> {
        self.takes(2..=2)?;
        let (a, b) = (self.float(0)?, self.float(1)?);
        let (Some((outer, [rows, inner])), Some((others, [own, columns]))) =
            (a.dims.split_last_chunk(), b.dims.split_last_chunk())
        else {
            return Err(format!("a product of {:?} and {:?}; both need two axes", a.dims, b.dims));
        };
        if inner != own || a.kind != b.kind {
            return Err(format!("a product of {:?} and {:?}", a.dims, b.dims));
        }
        let mut dims = broadcast(outer, others)?;
        dims.extend([rows, columns]);
        let outputs = limits::elements(&dims, usize::MAX).ok_or("its output is too large")?;
        let scratch = a.elements().saturating_add(b.elements());
        Ok(Made { multiply_adds: wide(outputs, *inner), scratch, outputs: vec![a.shaped(dims)] })
    }

    /// A norm over an image with `inputs - 1` values per channel.
    pub(super) fn channel_norm(&self, inputs: usize) -> Outcome<Made> {
        let outputs = self.node.output.iter().filter(|name| !name.is_empty()).count();
        if self.operands.len() != inputs || outputs != 1 || self.node.output[0].is_empty() {
            return Err("it has not the inputs and the one output of inference; export the model for inference".into());
        }
        let x = self.float(0)?;
        let channels = *x.dims.get(1).ok_or("it has an input of one axis")?;
        if inputs == 3 && x.dims.len() < 3 {
            return Err(format!("it has an input of {:?}", x.dims));
        }
        for place in 1..inputs {
            let own = self.float(place)?;
            if own.dims != [channels] || own.kind != x.kind || !own.is_fixed {
                return Err(format!("its input {place} has not one value per channel"));
            }
        }
        self.flag("training_mode", false)?;
        Ok(Made { outputs: vec![x.shaped(x.dims.clone())], scratch: 2 * x.elements(), multiply_adds: 0 })
    }

    pub(super) fn group_norm(&self) -> Outcome<Made> {
        self.takes(3..=3)?;
        let x = self.float(0)?;
        let channels = *x.dims.get(1).filter(|_| x.dims.len() > 2).ok_or("it has an input of two axes")?;
        let groups = self.int("num_groups")?.and_then(|groups| usize::try_from(groups).ok());
        let groups = groups
            .filter(|groups| *groups > 0 && channels % groups == 0)
            .ok_or("its groups do not divide its channels")?;
        let count = if self.opset < 21 { groups } else { channels };
        for place in 1..3 {
            let own = self.float(place)?;
            if own.dims != [count] || own.kind != x.kind {
                return Err(format!("its input {place} has not {count} values"));
            }
        }
        Ok(Made { outputs: vec![x.shaped(x.dims.clone())], scratch: 2 * x.elements(), multiply_adds: 0 })
    }

    /// Over some neighbouring channels.
    pub(super) fn neighbour_norm(&self) -> Outcome<Made> {
        let size = self.int("size")?.filter(|size| (1..=limits::MOST_KERNEL as i64).contains(size));
        size.ok_or("its size is not one of a few channels")?;
        if self.float(0)?.dims.len() < 3 {
            return Err("it has an input of two axes".into());
        }
        self.alike(1)
    }

    pub(super) fn layer_norm(&self) -> Outcome<Made> {
        self.takes(2..=3)?;
        let x = self.float(0)?;
        let axis = self.axis(-1, x.dims.len())?;
        for place in 1..self.operands.len() {
            let own = self.float(place)?;
            if own.dims[..] != x.dims[axis..] || own.kind != x.kind {
                return Err(format!("its input {place} has the shape {:?} for {:?}", own.dims, &x.dims[axis..]));
            }
        }
        Ok(Made { outputs: vec![x.shaped(x.dims.clone())], scratch: 2 * x.elements(), multiply_adds: 0 })
    }

    /// A product of two tensors over named axes, as numpy's einsum, without its ellipsis and its implicit output.
    pub(super) fn einsum(&self) -> Outcome<Made> {
        if self.operands.len() != 2 {
            let count = self.operands.len();
            return Err(format!("it multiplies {count} tensors, and two are taken; write it as products of two"));
        }
        self.takes(2..=2)?;
        let (a, b) = (self.float(0)?, self.float(1)?);
        let equation: String = self.text("equation")?.chars().filter(|letter| !letter.is_ascii_whitespace()).collect();
        let refuse = || {
            format!(
                "its equation {equation} has not a letter for each axis and an output behind ->; write it so, without an ellipsis"
            )
        };
        let (inputs, output) = equation.split_once("->").ok_or_else(refuse)?;
        let (left, right) = inputs.split_once(',').ok_or_else(refuse)?;
        let mut sizes: HashMap<char, usize> = HashMap::new();
        for (term, dims) in [(left, &a.dims), (right, &b.dims)] {
            let letters: HashSet<char> = term.chars().filter(char::is_ascii_alphabetic).collect();
            if letters.len() != dims.len() || term.len() != dims.len() {
                return Err(refuse());
            }
            for (letter, &dim) in term.chars().zip(dims) {
                if *sizes.entry(letter).or_insert(dim) != dim {
                    return Err(format!("{:?} and {:?} do not fit its equation {equation}", a.dims, b.dims));
                }
            }
        }
        let letters: HashSet<char> = output.chars().collect();
        let dims = output.chars().map(|letter| sizes.get(&letter).copied()).collect::<Option<Vec<usize>>>();
        let dims = dims.filter(|_| letters.len() == output.len() && a.kind == b.kind).ok_or_else(refuse)?;
        let multiply_adds = sizes.values().fold(1u64, |product, &dim| product.saturating_mul(dim as u64));
        Ok(Made { outputs: vec![a.shaped(dims)], scratch: a.elements().saturating_add(b.elements()), multiply_adds })
    }

    pub(super) fn reduce(&self) -> Outcome<Made> {
        const OPS: [&str; 10] = ["L1", "L2", "LogSum", "LogSumExp", "Max", "Mean", "Min", "Prod", "Sum", "SumSquare"];
        self.takes(1..=2)?;
        let op = self.node.op_type.trim_start_matches("Reduce");
        if !OPS.contains(&op) {
            return Err(NOT_TAKEN.into());
        }
        let x = self.operand(0)?;
        let from = if op == "Sum" { 13 } else { 18 };
        let keep = self.flag("keepdims", true)?;
        let axes = self.axes(1, from, x.dims.len())?.filter(|axes| !axes.is_empty());
        let axes = match axes {
            None if self.flag("noop_with_empty_axes", false)? => return Err("it reduces nothing".into()),
            None => (0..x.dims.len()).collect(),
            Some(axes) => axes,
        };
        let dim = |(axis, &dim): (usize, &usize)| match (axes.contains(&axis), keep) {
            (false, _) => Some(dim),
            (true, true) => Some(1),
            (true, false) => None,
        };
        Ok(Made {
            outputs: vec![x.shaped(x.dims.iter().enumerate().filter_map(dim).collect())],
            scratch: x.elements(),
            multiply_adds: 0,
        })
    }
}

/// Floats of an input plane as a depthwise convolution lays it out, one for every phase of the stride, and of its sums.
fn padded_plane(geometry: &Geometry, output: [usize; 2]) -> usize {
    let further =
        |axis: usize| geometry.kernel[axis].saturating_mul(geometry.dilation[axis]) / geometry.stride[axis] + 1;
    let pitch = output[1].saturating_add(further(1));
    let plane = output[0].saturating_add(further(0)).saturating_mul(pitch).saturating_add(2 * 64);
    let phases = geometry.stride[0].saturating_mul(geometry.stride[1]);
    plane.saturating_mul(phases.saturating_add(1))
}

fn pair(dims: &[usize]) -> Outcome<[usize; 2]> {
    dims.try_into().map_err(|_| format!("a matrix of the shape {dims:?}"))
}

fn misfit(needed: usize, dims: &[usize]) -> String {
    format!("its weight takes {needed} channels of a tensor of shape {dims:?}")
}

fn small([height, width]: [usize; 2]) -> String {
    format!("an image of {height}x{width} is too small")
}
