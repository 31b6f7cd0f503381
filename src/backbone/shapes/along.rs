//! Operators that are one fixed linear map along an axis: Resize, CumSum, and a Slice with steps.
//!
//! Resize, whatever its mode, makes each output pixel of a few input pixels, with weights that depend on sizes alone, axis by axis.

use super::call::Call;
use super::fact::{Made, Outcome};
use crate::limits;

/// What is done along one axis.
pub(super) enum Along {
    /// Output i is input `table[i]`.
    Pick(Vec<usize>),
    /// y = x M; M is [inputs, outputs], row by row.
    Mix(Vec<f32>),
}

/// An axis, its outputs, and what is done along it.
pub(super) struct Step {
    pub(super) axis: usize,
    pub(super) inputs: usize,
    pub(super) outputs: usize,
    pub(super) along: Along,
}

/// How an output pixel finds its place among the inputs, and which of them it takes.
struct Sampling<'s> {
    place: &'s str,
    mode: &'s str,
    nearest: &'s str,
    cubic: f32,
    leaves_out: bool,
}

impl Call<'_> {
    /// What is done along each axis that changes, one after the other.
    pub(super) fn steps(&self) -> Outcome<Vec<Step>> {
        let steps = match self.node.op_type.as_str() {
            "CumSum" => vec![self.running_sum()?],
            "Slice" => self.strided()?,
            _ => self.resized()?,
        };
        let weights = |step: &Step| limits::elements(&[step.inputs, step.outputs], limits::MOST_INTEGERS * 16);
        match steps.iter().find(|step| weights(step).is_none()) {
            Some(step) => Err(format!("it makes {} numbers of {}, which is too many", step.outputs, step.inputs)),
            None => Ok(steps),
        }
    }

    pub(super) fn along(&self) -> Outcome<Made> {
        let x = self.float(0)?;
        let (mut dims, mut scratch, mut multiply_adds) = (x.dims.clone(), 0usize, 0u64);
        for step in self.steps()? {
            dims[step.axis] = step.outputs;
            let made = limits::elements(&dims, usize::MAX).ok_or("its output is too large")?;
            // Turned there and back.
            scratch = scratch.max(made.saturating_mul(3));
            if let Along::Mix(_) = step.along {
                multiply_adds = multiply_adds.saturating_add((made as u64).saturating_mul(step.inputs as u64));
            }
        }
        Ok(Made { outputs: vec![x.shaped(dims)], scratch, multiply_adds })
    }

    /// A Slice that leaves out what lies between its steps, or runs backwards.
    fn strided(&self) -> Outcome<Vec<Step>> {
        let x = self.operand(0)?;
        let picked = self.cuts()?.into_iter().zip(&x.dims).enumerate().filter_map(|(axis, (cut, &inputs))| {
            let table = || (0..cut.count).map(|nth| (cut.start + nth as i64 * cut.step) as usize).collect();
            let changes = cut.step != 1 || cut.count != inputs;
            changes.then(|| Step { axis, inputs, outputs: cut.count, along: Along::Pick(table()) })
        });
        Ok(picked.collect())
    }

    fn running_sum(&self) -> Outcome<Step> {
        self.takes(2..=2)?;
        let x = self.float(0)?;
        let [axis] = *self.integers_of(1)? else { return Err("its axis is not one number".into()) };
        let axis = super::call::axis_of(axis, x.dims.len())?;
        let (exclusive, reverse) = (self.flag("exclusive", false)?, self.flag("reverse", false)?);
        let count = x.dims[axis];
        limits::elements(&[count, count], limits::MOST_INTEGERS * 16)
            .ok_or_else(|| format!("it adds up {count} numbers, which is too many"))?;
        let weight = |from: usize, to: usize| {
            let (from, to) = if reverse { (to, from) } else { (from, to) };
            f32::from(u8::from(from < to || from == to && !exclusive))
        };
        let matrix = (0..count).flat_map(|from| (0..count).map(move |to| weight(from, to))).collect();
        Ok(Step { axis, inputs: count, outputs: count, along: Along::Mix(matrix) })
    }

    fn resized(&self) -> Outcome<Vec<Step>> {
        self.takes(2..=4)?;
        let x = self.float(0)?;
        let sampling = self.sampling()?;
        let axes = match self.ints("axes")? {
            Some(axes) => super::call::axes_of(axes, x.dims.len())?,
            None => (0..x.dims.len()).collect(),
        };
        let sizes = self.optional(3).filter(|sizes| sizes.elements() > 0);
        let place = if self.opset < 11 { 1 } else { 2 };
        let scales = self.optional(place).filter(|scales| scales.elements() > 0);
        let targets: Vec<(usize, f32)> = match (sizes, scales) {
            (Some(_), None) => {
                let sizes = self.dims_of(3)?;
                axes.iter().zip(&sizes).map(|(&axis, &size)| (size, size as f32 / x.dims[axis] as f32)).collect()
            }
            (None, Some(scales)) => {
                let scales = scales.numbers.as_ref().ok_or("its scales do not follow from the file")?;
                let size = |(&axis, &scale): (&usize, &f32)| ((x.dims[axis] as f32 * scale).floor() as usize, scale);
                axes.iter().zip(scales.iter()).map(size).collect()
            }
            _ => return Err("it has not either sizes or scales".into()),
        };
        if targets.len() != axes.len()
            || targets.iter().any(|(size, scale)| *size == 0 || !(scale.is_finite() && *scale > 0.0))
        {
            return Err(format!("its sizes or scales do not fit {:?}", x.dims));
        }
        let changes =
            axes.iter().zip(&targets).filter(|(axis, (size, scale))| x.dims[**axis] != *size || *scale != 1.0);
        let step = |(&axis, &(size, scale)): (&usize, &(usize, f32))| match axis {
            0 if !x.is_fixed => Err("it changes how many images there are, which is not taken".into()),
            _ => sampling.step(axis, x.dims[axis], size, scale),
        };
        changes.map(step).collect()
    }

    fn sampling(&self) -> Outcome<Sampling<'_>> {
        let or = |name: &str, default: &'static str| {
            self.text(name).map(|text| if text.is_empty() { default } else { text })
        };
        if self.flag("antialias", false)? {
            return Err("it smooths what it shrinks (antialias), which is not taken; export the model without".into());
        }
        if or("keep_aspect_ratio_policy", "stretch")? != "stretch" {
            return Err(
                "it keeps the aspect ratio, which is not taken; export the model with sizes or scales of its own"
                    .into(),
            );
        }
        let place = or("coordinate_transformation_mode", if self.opset < 11 { "asymmetric" } else { "half_pixel" })?;
        let known = ["half_pixel", "half_pixel_symmetric", "pytorch_half_pixel", "align_corners", "asymmetric"];
        let mode = or("mode", "nearest")?;
        let nearest = or("nearest_mode", if self.opset < 11 { "floor" } else { "round_prefer_floor" })?;
        let rounds = ["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"];
        if !known.contains(&place) || !["nearest", "linear", "cubic"].contains(&mode) || !rounds.contains(&nearest) {
            return Err(format!(
                "it resizes by {mode}, {place} and {nearest}, which is not taken; nearest, linear and cubic are, with half_pixel or align_corners"
            ));
        }
        let cubic =
            self.typed("cubic_coeff_a", tract_onnx::pb::attribute_proto::AttributeType::Float)?.map_or(-0.75, |a| a.f);
        Ok(Sampling { place, mode, nearest, cubic, leaves_out: self.flag("exclude_outside", false)? })
    }
}

impl Sampling<'_> {
    fn step(&self, axis: usize, inputs: usize, outputs: usize, scale: f32) -> Outcome<Step> {
        limits::elements(&[inputs, outputs], limits::MOST_INTEGERS * 16)
            .ok_or_else(|| format!("it makes {outputs} numbers of {inputs}, which is too many"))?;
        let places = (0..outputs).map(|at| self.place(at, [inputs, outputs], scale));
        let along = if self.mode == "nearest" {
            Along::Pick(places.map(|x| self.round(x).clamp(0.0, (inputs - 1) as f32) as usize).collect())
        } else {
            let mut matrix = vec![0.0; inputs * outputs];
            for (to, x) in places.enumerate() {
                for (from, weight) in self.taps(f64::from(x), inputs) {
                    matrix[from * outputs + to] += weight as f32;
                }
            }
            Along::Mix(matrix)
        };
        Ok(Step { axis, inputs, outputs, along })
    }

    /// Where output `at` lies among the inputs, in single precision: so do onnxruntime and PyTorch, and where a place should be whole, which
    /// input is the nearest depends on it.
    fn place(&self, at: usize, [inputs, outputs]: [usize; 2], scale: f32) -> f32 {
        let (at, inputs, outputs) = (at as f32, inputs as f32, outputs as f32);
        match self.place {
            "asymmetric" => at / scale,
            "align_corners" if outputs > 1.0 => at * (inputs - 1.0) / (outputs - 1.0),
            "align_corners" => 0.0,
            "pytorch_half_pixel" if outputs <= 1.0 => 0.0,
            "half_pixel_symmetric" => inputs / 2.0 * (1.0 - outputs / (scale * inputs)) + (at + 0.5) / scale - 0.5,
            _ => (at + 0.5) / scale - 0.5,
        }
    }

    fn round(&self, x: f32) -> f32 {
        match self.nearest {
            "floor" => x.floor(),
            "ceil" => x.ceil(),
            "round_prefer_ceil" => (x + 0.5).floor(),
            _ => (x - 0.5).ceil(),
        }
    }

    /// The inputs that an output at `x` is made of. Beyond the edge is the edge, or nothing.
    fn taps(&self, x: f64, inputs: usize) -> Vec<(usize, f64)> {
        let first = x.floor();
        let offsets: &[f64] = if self.mode == "linear" { &[0.0, 1.0] } else { &[-1.0, 0.0, 1.0, 2.0] };
        let last = (inputs - 1) as f64;
        let kept =
            offsets.iter().map(|offset| first + offset).filter(|at| !self.leaves_out || (0.0..=last).contains(at));
        let taps: Vec<(usize, f64)> =
            kept.map(|at| (at.clamp(0.0, last) as usize, self.weight((x - at).abs()))).collect();
        let sum: f64 = if self.leaves_out { taps.iter().map(|(_, weight)| weight).sum() } else { 1.0 };
        taps.into_iter().map(|(at, weight)| (at, weight / sum)).collect()
    }

    /// The weight of an input at the distance `d`.
    fn weight(&self, d: f64) -> f64 {
        let a = f64::from(self.cubic);
        match d {
            _ if self.mode == "linear" => (1.0 - d).max(0.0),
            ..=1.0 => ((a + 2.0) * d - (a + 3.0)) * d * d + 1.0,
            ..2.0 => ((a * d - 5.0 * a) * d + 8.0 * a) * d - 4.0 * a,
            _ => 0.0,
        }
    }
}
