//! A frozen map as one node of the graph, with its pairs where it is a site:
//!
//! y = clip(W x + b + D x + scale (B A x - B0 A0 x))
//!
//! The pairs are not inputs of the graph: the op reads them from the shared [`Adapter`], so one optimized plan serves
//! every step. Without pairs the same products run in the same order; that is why at step 0 every method has the
//! backbone's features bit for bit.

use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use pulp::{Arch, Simd, WithSimd};
use tract_onnx::tract_core::internal::*;

use super::operands::Around;
use super::product::convolve_pairs_back;
use super::projection::{matrices, project, projection_shape, projections};
use super::views::{columns, columns_mut, floats, floats_mut, image_size, images, images_mut};
use crate::adapter::{Adapter, SiteBuffers};
use crate::backbone::maps::{Clip, Frozen, MapKind};

/// The adapter of a network, read by its plans and written between steps.
pub type SharedAdapter = Arc<RwLock<Adapter>>;

/// Reads the adapter; a panic elsewhere while it was written does not make its numbers unreadable.
pub(crate) fn read(adapter: &SharedAdapter) -> RwLockReadGuard<'_, Adapter> {
    adapter.read().unwrap_or_else(PoisonError::into_inner)
}

/// Which site of which adapter a map is.
#[derive(Debug, Clone)]
pub(crate) struct SiteRef {
    pub(crate) index: usize,
    pub(crate) adapter: SharedAdapter,
}

/// Input x, output y.
#[derive(Debug, Clone)]
pub(crate) struct MapOp {
    /// Place of the map in its file.
    pub(crate) index: usize,
    pub(crate) kind: MapKind,
    pub(crate) out_dim: usize,
    /// `out_dim` values, or none.
    pub(crate) bias: Arc<[f32]>,
    /// The activation behind the map, where it is a clip.
    pub(crate) clip: Option<Clip>,
    /// Absent only while the graph is being read.
    pub(crate) frozen: Option<Arc<Frozen>>,
    pub(crate) site: Option<SiteRef>,
    /// A x of the site is a second output, `[images, pairs, positions]`: its gradient needs it again.
    pub(crate) keeps_projection: bool,
}

/// The gradients of a map. Inputs: dy, x where the map is a site (A x where the map keeps that), y where it clips. Outputs: dA (rank x in_dim) where A
/// learns, then dB transposed (rank x out_dim), as one plane, where it is a site; dx where `wants_input`:
/// dx = W^T dy + D^T dy + scale (A^T B^T - A0^T B0^T) dy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct MapGradient {
    pub(crate) map: MapOp,
    pub(crate) wants_input: bool,
    /// Shape of x.
    pub(crate) input: TVec<usize>,
}

impl PartialEq for SiteRef {
    fn eq(&self, other: &Self) -> bool {
        self.index == other.index && Arc::ptr_eq(&self.adapter, &other.adapter)
    }
}

impl PartialEq for MapOp {
    fn eq(&self, other: &Self) -> bool {
        self.index == other.index
            && self.kind == other.kind
            && self.bias == other.bias
            && self.clip == other.clip
            && self.site == other.site
            && self.keeps_projection == other.keeps_projection
    }
}

impl Eq for MapOp {}

impl MapOp {
    /// The shape of y for an x of shape `input`.
    pub(crate) fn output_shape(&self, input: &[usize]) -> TractResult<TVec<usize>> {
        let mut shape: TVec<usize> = input.into();
        match (&self.kind, &mut shape[..]) {
            (MapKind::Linear, [.., width]) => *width = self.out_dim,
            (MapKind::Conv(geometry), [_, channels, height, width]) => {
                let size = geometry.output([*height, *width]);
                [*height, *width] = size.with_context(|| format!("an image of {height}x{width} is too small"))?;
                *channels = self.out_dim;
            }
            _ => bail!("a map of {:?} on a tensor of shape {input:?}", self.kind),
        }
        Ok(shape)
    }

    pub(crate) fn frozen(&self) -> TractResult<&Frozen> {
        self.frozen.as_deref().context("a map without its weight")
    }

    /// Whether the shape of x is one that the weight multiplies.
    pub(crate) fn check(&self, x: &Tensor) -> TractResult<()> {
        let needed = self.frozen()?.weight.in_dim;
        let found = match (&self.kind, x.shape()) {
            (MapKind::Linear, [.., width]) => *width,
            (MapKind::Conv(g), [_, channels, _, _]) if channels % g.group == 0 => {
                channels / g.group * g.kernel[0] * g.kernel[1]
            }
            _ => 0,
        };
        ensure!(found == needed, "a map with {needed} inputs per output on a tensor of shape {:?}", x.shape());
        Ok(())
    }

    /// The shape of A x for an x of shape `input`, where it is worth keeping.
    pub(crate) fn projection_shape(&self, input: &[usize]) -> TractResult<Option<[usize; 3]>> {
        let Some(site) = &self.site else { return Ok(None) };
        projection_shape(&self.kind, &read(&site.adapter).sites[site.index], input)
    }

    /// What is added to W x, with `site`, and where the sum is cut off.
    pub(crate) fn around<'a>(&'a self, site: Option<&'a SiteBuffers>) -> Around<'a> {
        Around { bias: &self.bias, site, clip: self.clip, projected: None }
    }

    /// y, and A x where that is kept.
    fn forward(&self, site: Option<&SiteBuffers>, x: &Tensor) -> TractResult<TVec<TValue>> {
        self.check(x)?;
        let projected = site.filter(|_| self.keeps_projection).map(|site| project(&self.kind, site, x)).transpose()?;
        let y = self.multiply(site, projected.as_ref(), x)?;
        Ok([Some(y), projected].into_iter().flatten().map(IntoTValue::into_tvalue).collect())
    }

    /// y, with `projected` = A x where that is at hand.
    fn multiply(&self, site: Option<&SiteBuffers>, projected: Option<&Tensor>, x: &Tensor) -> TractResult<Tensor> {
        let projected = projected.map(projections).transpose()?.unwrap_or_default();
        let around = |image: usize| Around { projected: projected.get(image).copied(), ..self.around(site) };
        let frozen = self.frozen()?;
        let mut y = Tensor::zero::<f32>(&self.output_shape(x.shape())?)?;
        let (from, to) = (x.shape(), TVec::<usize>::from(y.shape()));
        match &self.kind {
            MapKind::Linear => frozen.forward(around(0), columns(x)?, columns_mut(&mut y)?),
            MapKind::Conv(geometry) => {
                let (input, output) = (image_size(from)?, image_size(&to)?);
                let pairs = images(floats(x)?, from).zip(images_mut(floats_mut(&mut y)?, &to));
                for (image, (x, y)) in pairs.enumerate() {
                    frozen.convolve(geometry, around(image), (input, x), (output, y));
                }
            }
        }
        Ok(y)
    }
}

/// dy = 0 where y lies on an end of the clip.
struct Mask<'m> {
    dy: &'m mut [f32],
    y: &'m [f32],
    clip: Clip,
}

impl WithSimd for Mask<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _simd: S) {
        let [low, high] = self.clip;
        // A choice of values would become a masked store, which some processors are slow at.
        let keep = |y: f32| u32::from(low < y && y < high).wrapping_neg();
        self.dy.iter_mut().zip(self.y).for_each(|(dy, &y)| *dy = f32::from_bits(dy.to_bits() & keep(y)));
    }
}

impl MapGradient {
    /// dx, if it is wanted.
    fn input_back(&self, site: Option<&SiteBuffers>, dy: &Tensor) -> TractResult<Option<Tensor>> {
        if !self.wants_input {
            return Ok(None);
        }
        let frozen = self.map.frozen()?;
        let mut dx = Tensor::zero::<f32>(&self.input)?;
        match &self.map.kind {
            MapKind::Linear => frozen.backward(site, columns(dy)?, columns_mut(&mut dx)?),
            MapKind::Conv(geometry) => {
                let (output, input) = (image_size(dy.shape())?, image_size(&self.input)?);
                for (dy, dx) in images(floats(dy)?, dy.shape()).zip(images_mut(floats_mut(&mut dx)?, &self.input)) {
                    frozen.convolve_back(geometry, site, (output, dy), (input, dx));
                }
            }
        }
        Ok(Some(dx))
    }

    /// The gradients of the pairs, a plane, from x or what is kept of it.
    fn pairs_back(&self, site: &SiteBuffers, dy: &Tensor, x: &Tensor) -> TractResult<Tensor> {
        let mut plane = Tensor::zero::<f32>(&[site.shape.plane_len()])?;
        let sums = floats_mut(&mut plane)?;
        match &self.map.kind {
            _ if self.map.keeps_projection => {
                for (dy, projected) in matrices(&self.map.kind, dy)?.into_iter().zip(projections(x)?) {
                    site.backward_projected(projected, dy, sums);
                }
            }
            MapKind::Linear => site.backward(columns(x)?, columns(dy)?, sums),
            MapKind::Conv(geometry) => {
                let (output, input) = (image_size(dy.shape())?, image_size(x.shape())?);
                for (dy, x) in images(floats(dy)?, dy.shape()).zip(images(floats(x)?, x.shape())) {
                    convolve_pairs_back(geometry, site, (output, dy), (input, x), sums);
                }
            }
        }
        Ok(plane)
    }
}

pub(crate) fn fused_multiply_adds(count: usize) -> TVec<(Cost, TDim)> {
    tvec!((Cost::FMA(f32::datum_type()), count.to_dim()))
}

impl Op for MapOp {
    fn name(&self) -> StaticName {
        "Map".into()
    }
    op_as_typed_op!();
}

impl EvalOp for MapOp {
    // The pairs change between runs, so no constant may be made of a map.
    not_out_of_plan!();

    fn eval(&self, _ctx: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let x = args_1!(inputs);
        match &self.site {
            None => self.forward(None, &x),
            Some(site) => self.forward(Some(&read(&site.adapter).sites[site.index]), &x),
        }
    }
}

impl TypedOp for MapOp {
    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        let shape = inputs[0].shape.as_concrete().context("a map on a tensor of unknown shape")?;
        let mut facts = tvec!(f32::fact(self.output_shape(shape)?));
        if self.keeps_projection {
            facts.extend(self.projection_shape(shape)?.map(f32::fact));
        }
        Ok(facts)
    }

    fn cost(&self, inputs: &[&TypedFact]) -> TractResult<TVec<(Cost, TDim)>> {
        let shape = inputs[0].shape.as_concrete().context("a map on a tensor of unknown shape")?;
        let positions = self.output_shape(shape)?.iter().product::<usize>() / self.out_dim.max(1);
        let pairs = self.site.as_ref().map_or(0, |site| read(&site.adapter).sites[site.index].shape.plane_len());
        Ok(fused_multiply_adds(positions * (self.frozen()?.weight.len() + pairs)))
    }
    as_op!();
}

impl Op for MapGradient {
    fn name(&self) -> StaticName {
        "MapGradient".into()
    }
    op_as_typed_op!();
}

impl EvalOp for MapGradient {
    not_out_of_plan!();

    fn eval(&self, _ctx: &EvalContext, mut inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        if let Some(clip) = self.map.clip {
            let y = inputs.pop().context("a clipped map without its output")?;
            let mut dy = inputs.remove(0).into_tensor();
            Arch::new().dispatch(Mask { dy: floats_mut(&mut dy)?, y: floats(&y)?, clip });
            inputs.insert(0, dy.into_tvalue());
        }
        let adapter = self.map.site.as_ref().map(|site| (read(&site.adapter), site.index));
        let site = adapter.as_ref().map(|(adapter, index)| &adapter.sites[*index]);
        let mut outputs = tvec!();
        if let Some(site) = site {
            outputs.push(self.pairs_back(site, &inputs[0], &inputs[1])?.into_tvalue());
        }
        outputs.extend(self.input_back(site, &inputs[0])?.map(IntoTValue::into_tvalue));
        Ok(outputs)
    }
}

impl TypedOp for MapGradient {
    fn output_facts(&self, _inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        let mut facts = tvec!();
        if let Some(site) = &self.map.site {
            facts.push(f32::fact([read(&site.adapter).sites[site.index].shape.plane_len()]));
        }
        facts.extend(self.wants_input.then(|| f32::fact(&*self.input)));
        Ok(facts)
    }

    fn cost(&self, inputs: &[&TypedFact]) -> TractResult<TVec<(Cost, TDim)>> {
        let dy = inputs[0].shape.as_concrete().context("a gradient of unknown shape")?;
        let positions = dy.iter().product::<usize>() / self.map.out_dim.max(1);
        let pairs = self.map.site.as_ref().map_or(0, |site| read(&site.adapter).sites[site.index].shape.plane_len());
        // B^T dy and A x, their outer products with x and dy, and A^T (B^T dy).
        let frozen = if self.wants_input { self.map.frozen()?.weight.len() } else { 0 };
        Ok(fused_multiply_adds(positions * (frozen + 5 * pairs / 2)))
    }
    as_op!();
}
