//! One site on the host: owned buffers, the core's view over them, and the batched forward and backward pass.

use std::sync::Arc;

use faer::{Accum, Mat, MatMut, MatRef};
use half::f16;
use half::slice::HalfFloatSliceExt;
use pulp::Simd;

use super::kernel::{Factors, Terms, product};
use super::moment::Moment;
use super::scratch::Scratch;
use super::sketch::Sketch;
use super::{DirectionsBuf, SiteSeed, Update};
use crate::core::{CoreError, Delta, Ledger, Recompose, Recomposition, Sides, Site, SiteConfig, SiteShape, Start};
use crate::error::{Error, ErrorKind, Result};
use crate::limits::{MOST_DIRECTIONS, MOST_PAIRS};

/// Columns per delta block.
const DELTA_BLOCK: usize = 32;

/// Numbers that a site reads at a position, up to which their second moment is summed up whole: 1 MiB.
const MOST_WHOLE: usize = 512;
/// Directions that a sketch of more is kept of.
const SKETCHED: usize = 128;

/// Settings that all sites of an adapter share.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SiteSettings {
    /// What pairs start on.
    pub start: Start,
    /// Factor of the live term.
    pub scale: f32,
    /// Which sides of pairs learn.
    pub sides: Sides,
}

impl SiteSettings {
    /// Pairs of a site with as many numbers to learn as `rank` two-sided ones; of one-sided ones at most [`MOST_PAIRS`].
    #[must_use]
    pub fn pairs(&self, rank: usize, [out_dim, in_dim]: [usize; 2]) -> usize {
        match self.sides {
            Sides::Both => rank,
            one => one.pairs(rank, out_dim, in_dim).min(MOST_PAIRS),
        }
    }
}

impl Default for SiteSettings {
    /// Aligned, scale 1, both sides.
    fn default() -> Self {
        SiteSettings { start: Start::Aligned, scale: 1.0, sides: Sides::Both }
    }
}

/// The bookkeeping of a host's site.
pub type HostLedger = Ledger<MOST_PAIRS, MOST_DIRECTIONS>;

/// One site's pairs, their state, the delta and the directions.
#[derive(Debug, Clone)]
pub struct SiteBuffers {
    /// The ONNX node's name.
    pub name: String,
    /// Sizes.
    pub shape: SiteShape,
    config: SiteConfig,
    directions: DirectionsBuf,
    /// Whether these were found by the lesson, and have not shipped.
    are_found: bool,
    /// Of what the site reads, while that is looked at.
    sketch: Option<Arc<Sketch>>,
    pub(crate) state: Vec<f32>,
    pub(crate) ledger: HostLedger,
    pub(crate) codes: Vec<i8>,
    pub(crate) scales: Vec<f16>,
    /// A0 (rank x in_dim), then B0 transposed (rank x out_dim), where B0 is not 0; A0 alone where it stays and nothing ships it.
    start: Vec<f32>,
    /// The scales of the delta's blocks in f32: a conversion for every block would take as long as the block. Empty while the
    /// blocks hold nothing; until then they cost nothing.
    scales_f32: Vec<f32>,
}

fn told(name: &str) -> impl Fn(CoreError) -> Error + '_ {
    move |e| Error::new(ErrorKind::Sites, name, e)
}

impl SiteBuffers {
    pub(super) fn start(index: usize, seed: SiteSeed, rank: usize, settings: SiteSettings) -> Result<Self> {
        let SiteSeed { name, out_dim, in_dim, directions } = seed;
        let reserve = directions.sigma.len();
        let rank = settings.pairs(rank, [out_dim, in_dim]);
        let shape = SiteShape { out_dim, in_dim, rank, sides: settings.sides, reserve, block: DELTA_BLOCK };
        shape.check().map_err(told(&name))?;
        let ledger = HostLedger::new(&shape).map_err(told(&name))?;
        let index = u32::try_from(index).unwrap_or(u32::MAX);
        let mut site = SiteBuffers {
            shape,
            config: SiteConfig { start: settings.start, index, scale: settings.scale, ..SiteConfig::default() },
            directions,
            are_found: false,
            sketch: None,
            state: vec![0.0; shape.state_len()],
            ledger,
            codes: vec![0; shape.delta_codes_len()],
            scales: vec![f16::ZERO; shape.delta_scales_len()],
            start: Vec::new(),
            scales_f32: Vec::new(),
            name,
        };
        let started = site.view_mut().start();
        started.map_err(told(&site.name))?;
        site.refresh()?;
        Ok(site)
    }

    /// The core's view.
    pub(crate) fn view_mut(&mut self) -> Site<'_, MOST_PAIRS, MOST_DIRECTIONS> {
        Site {
            shape: self.shape,
            config: self.config,
            directions: self.directions.view(),
            state: &mut self.state,
            ledger: &mut self.ledger,
            delta: Delta::Int8 { codes: &mut self.codes, scales: &mut self.scales },
        }
    }

    /// From now on, what it reads is sketched: for as many directions as it has, or where its pairs have learned, for another each.
    pub(super) fn begin_sketch(&mut self, have_learned: bool) {
        let SiteShape { reserve, in_dim, rank, .. } = self.shape;
        let count = if have_learned { rank.min(in_dim.min(MOST_DIRECTIONS) - rank) } else { reserve };
        self.sketch = Some(Arc::new(Sketch::new(count, in_dim)));
    }

    /// From now on, the second moment of what it reads is summed up: all of it, or where that is large, a sketch.
    pub(super) fn begin_moment(&mut self) {
        let in_dim = self.shape.in_dim;
        let count = if in_dim <= MOST_WHOLE { in_dim } else { SKETCHED };
        self.sketch = Some(Arc::new(Sketch::new(count, in_dim)));
    }

    /// The moment; `None` where nothing was read.
    pub(super) fn end_moment(&mut self) -> Option<Moment> {
        Arc::into_inner(self.sketch.take()?)?.moment()
    }

    /// Takes `x`, `[in_dim, positions]`, into the sketch, where there is one.
    pub(crate) fn look_at(&self, x: MatRef<f32>) {
        if let Some(sketch) = &self.sketch {
            sketch.add(x);
        }
    }

    /// The directions of what it has read: as many as were looked for, behind the found ones random ones.
    pub(super) fn end_sketch(&mut self) -> Option<DirectionsBuf> {
        let sketch = Arc::into_inner(self.sketch.take()?)?;
        let count = sketch.count;
        Some(sketch.directions(self.shape.rank).filled(count, self.shape.in_dim))
    }

    /// What it reads is no longer sketched.
    pub(super) fn drop_sketch(&mut self) {
        self.sketch = None;
    }

    /// Pairs at their start, along directions that did not ship.
    ///
    /// # Errors
    /// Kind `Sites` where they do not fit.
    pub(crate) fn go_along(&mut self, found: DirectionsBuf) -> Result<()> {
        self.shape.reserve = found.sigma.len();
        (self.directions, self.are_found) = (found.on_grid(self.shape.in_dim), true);
        let name = self.name.clone();
        self.view_mut().start().map_err(told(&name))?;
        self.refresh()
    }

    /// Pairs as they are, with other directions that none has used yet.
    ///
    /// # Errors
    /// Kind `Sites` where they do not fit.
    pub(crate) fn go_on_along(&mut self, found: &DirectionsBuf) -> Result<()> {
        let SiteShape { in_dim, rank, .. } = self.shape;
        let most = in_dim.min(MOST_DIRECTIONS);
        self.directions = self.live_directions().followed_by(found, most, in_dim).on_grid(in_dim);
        (self.shape.reserve, self.are_found) = (self.directions.sigma.len(), true);
        let [live, unused] = [0..rank, rank..self.shape.reserve].map(|span| span.map(|k| k as u16));
        self.ledger =
            HostLedger::restore(&self.shape, self.ledger.ages().to_vec(), live, unused).map_err(told(&self.name))?;
        self.refresh()
    }

    /// The directions that pairs are on, pair by pair.
    pub(crate) fn live_directions(&self) -> DirectionsBuf {
        self.directions.picked(self.ledger.directions().iter().map(|&k| usize::from(k)), self.shape.in_dim)
    }

    /// Its directions, where they were found.
    pub(crate) fn found(&self) -> Option<&DirectionsBuf> {
        self.are_found.then_some(&self.directions)
    }

    /// Checks the buffers, and makes anew what follows from them: what is cached in f32, and what pairs have started on.
    ///
    /// # Errors
    /// Kind `Sites` where a buffer does not fit.
    pub(crate) fn refresh(&mut self) -> Result<()> {
        let (name, shape) = (self.name.clone(), self.shape);
        self.view_mut().check().map_err(told(&name))?;
        let merged = self.scales.iter().any(|scale| *scale != f16::ZERO);
        self.scales_f32 = if merged { self.scales.iter().map(|scale| scale.to_f32()).collect() } else { Vec::new() };
        let (is_free, is_random) = (self.config.start.is_free(), matches!(self.config.start, Start::Random { .. }));
        if is_free && !(is_random && shape.sides == Sides::One) {
            return Ok(());
        }
        let view = self.view_mut();
        let rows = (0..shape.rank).map(|pair| view.start_row(pair));
        let rows = rows.collect::<core::result::Result<Vec<_>, _>>().map_err(told(&name))?;
        let a0 = rows.iter().flat_map(|row| (0..shape.in_dim).map(|j| row.a(j)));
        let b0 = rows.iter().filter(|_| !is_free).flat_map(|row| (0..shape.out_dim).map(|i| row.b(i)));
        self.start = a0.chain(b0).collect();
        Ok(())
    }

    /// A where it learns, then B transposed.
    pub fn values_mut(&mut self) -> &mut [f32] {
        let plane = self.shape.plane_len().min(self.state.len());
        &mut self.state[..plane]
    }

    /// B transposed, `[rank, out_dim]`.
    fn b_t(&self) -> MatRef<'_, f32> {
        let plane = &self.state[self.shape.a_len()..self.shape.plane_len()];
        MatRef::from_row_major_slice(plane, self.shape.rank, self.shape.out_dim)
    }

    /// Lets `act` see the low-rank terms. Where A stays, it is made f32 for as long as that takes.
    fn with_terms<R>(&self, act: impl FnOnce(Terms<'_>) -> R) -> R {
        let SiteShape { in_dim, out_dim, rank, sides, .. } = self.shape;
        let matrix = |width, values| MatRef::from_row_major_slice(values, rank, width);
        let (a, b_t) = (&self.state[..self.shape.a_len()], self.b_t());
        let (a0, b0_t) = self.start.split_at(self.start.len().min(rank * in_dim));
        let start = (!b0_t.is_empty()).then(|| Factors { a: matrix(in_dim, a0), b_t: matrix(out_dim, b0_t) });
        let terms = |a| Terms { scale: self.config.scale, pairs: Factors { a: matrix(in_dim, a), b_t }, start };
        match sides {
            Sides::Both => act(terms(a)),
            Sides::One if !a0.is_empty() => act(terms(a0)),
            Sides::One => {
                let mut rows = Scratch::of(rank * in_dim);
                for (row, &direction) in rows.chunks_exact_mut(in_dim).zip(self.ledger.directions()) {
                    let first = usize::from(direction) * in_dim;
                    self.directions.v[first..first + in_dim].convert_to_f32_slice(row);
                }
                act(terms(&rows))
            }
        }
    }

    /// Whether the delta holds anything.
    #[must_use]
    pub fn has_merged(&self) -> bool {
        !self.scales_f32.is_empty()
    }

    /// Whether pairs are added to W before a product with so many positions, instead of being run beside it.
    ///
    /// That is for one-sided pairs with b0 = 0, which are many. B A costs out_dim in_dim multiplications a pair, and the pairs beside
    /// W cost out_dim + in_dim a pair at each position.
    #[must_use]
    pub(crate) fn joins_weight(&self, positions: usize) -> bool {
        let SiteShape { in_dim, out_dim, sides, .. } = self.shape;
        sides == Sides::One && self.config.start.is_free() && positions * (in_dim + out_dim) >= in_dim * out_dim
    }

    /// Whether A x with so many positions is worth keeping from the forward pass for the gradient: where one-sided pairs run beside W.
    pub(crate) fn keeps_projection(&self, positions: usize) -> bool {
        let (one_sided, free) = (self.shape.sides == Sides::One, self.config.start.is_free());
        one_sided && free && !self.joins_weight(positions)
    }

    /// `projected` = A x. Shapes: x `[in_dim, positions]`, projected `[rank, positions]`.
    pub(crate) fn project(&self, x: MatRef<f32>, projected: MatMut<f32>) {
        self.with_terms(|terms| terms.project(x, projected));
    }

    /// y += scale B `projected`, of one-sided pairs with b0 = 0: [`SiteBuffers::forward`] where A x is at hand.
    pub(crate) fn add_projected(&self, projected: MatRef<f32>, y: MatMut<f32>) {
        product(y, Accum::Add, self.config.scale, self.b_t().transpose(), projected);
    }

    /// dB^T += scale `projected` dy^T: [`SiteBuffers::backward`] of one-sided pairs where A x is at hand.
    pub(crate) fn backward_projected(&self, projected: MatRef<f32>, dy: MatRef<f32>, plane: &mut [f32]) {
        let db_t = MatMut::from_row_major_slice_mut(plane, self.shape.rank, self.shape.out_dim);
        product(db_t, Accum::Add, self.config.scale, projected, dy.transpose());
    }

    /// What was learned, D + scale (B A - B0 A0), in f32.
    pub(crate) fn change(&self) -> Mat<f32> {
        let SiteShape { in_dim, out_dim, .. } = self.shape;
        let mut change = vec![0.0; out_dim * in_dim];
        let mut codes = vec![0.0; in_dim];
        for (row, out) in change.chunks_exact_mut(in_dim).enumerate() {
            self.add_merged_row(pulp::Scalar::new(), row, out, &mut codes);
        }
        self.add_terms(0, MatMut::from_row_major_slice_mut(&mut change, out_dim, in_dim));
        MatRef::from_row_major_slice(&change, out_dim, in_dim).to_owned()
    }

    /// Factors of scale (B A - B0 A0): A' `[pairs, in_dim]`, and scale B' transposed `[pairs, out_dim]`, where B' has the sign of what it
    /// adds.
    pub(crate) fn low_rank(&self) -> [Vec<f32>; 2] {
        self.with_terms(|terms| terms.factors())
    }

    /// Sets the first pairs: `a` `[pairs, in_dim]`, `b` `[out_dim, pairs]`. The others stay at their start. For pairs of which both sides
    /// learn, with b0 = 0.
    pub(crate) fn set_pairs(&mut self, a: &[f32], b: &[f32]) {
        let SiteShape { out_dim, .. } = self.shape;
        let (own_a, own_b) = self.state.split_at_mut(self.shape.a_len());
        own_a.iter_mut().zip(a).for_each(|(own, a)| *own = *a);
        let pairs = b.len() / out_dim.max(1);
        for (pair, own) in own_b.chunks_exact_mut(out_dim).take(pairs).enumerate() {
            own.iter_mut().enumerate().for_each(|(row, own)| *own = b[row * pairs + pair]);
        }
    }

    /// What the pairs have learned: A `[rank, in_dim]` where it learns, else nothing; and B `[out_dim, rank]`.
    pub(crate) fn learned_pairs(&self) -> [Vec<f32>; 2] {
        let (rank, b_t) = (self.shape.rank, self.b_t());
        let b = (0..self.shape.out_dim).flat_map(|row| (0..rank).map(move |pair| b_t[(pair, row)]));
        [self.state[..self.shape.a_len()].to_vec(), b.collect()]
    }

    /// The delta in f32, `[out_dim, in_dim]`.
    pub(crate) fn merged(&self) -> Vec<f32> {
        let mut dense = vec![0.0; self.shape.delta_codes_len()];
        let mut codes = vec![0.0; self.shape.in_dim];
        for (row, out) in dense.chunks_exact_mut(self.shape.in_dim).enumerate() {
            self.add_merged_row(pulp::Scalar::new(), row, out, &mut codes);
        }
        dense
    }

    /// D <- Q(D + sum of `terms`); the largest error of an element that rounding leaves.
    ///
    /// # Errors
    /// Kind `Sites` where a buffer does not fit.
    pub(crate) fn fuse(&mut self, terms: &impl crate::core::Terms) -> Result<f32> {
        let (name, shape) = (self.name.clone(), self.shape);
        let worst = self.view_mut().delta.add(&shape, terms).map_err(told(&name))?;
        self.refresh()?;
        Ok(worst)
    }

    /// weight += scale (B A - B0 A0), rows `first` and on, as many as `weight` has. Its width is in_dim.
    pub(crate) fn add_terms(&self, first: usize, weight: MatMut<f32>) {
        self.with_terms(|terms| terms.add_to(first, weight));
    }

    /// Adds row `row` of the delta to `out` (in_dim values). `codes` has room for a row in f32.
    #[inline(always)]
    pub(crate) fn add_merged_row<S: Simd>(&self, simd: S, row: usize, out: &mut [f32], codes: &mut [f32]) {
        let (width, blocks) = (self.shape.in_dim, self.shape.row_blocks());
        let scales = self.scales_f32.get(row * blocks..(row + 1) * blocks).unwrap_or_default();
        // Converted first and all at once, which is one long loop.
        codes.iter_mut().zip(&self.codes[row * width..]).for_each(|(to, &code)| *to = f32::from(code));
        for ((out, codes), scale) in out.chunks_mut(DELTA_BLOCK).zip(codes.chunks(DELTA_BLOCK)).zip(scales) {
            let ((out, end), (codes, last)) = (S::as_mut_simd_f32s(out), S::as_simd_f32s(codes));
            let factor = simd.splat_f32s(*scale);
            out.iter_mut().zip(codes).for_each(|(out, &code)| *out = simd.mul_add_f32s(factor, code, *out));
            end.iter_mut().zip(last).for_each(|(out, code)| *out = scale.mul_add(*code, *out));
        }
    }

    /// y += scale (B A x - B0 A0 x).
    ///
    /// With W and the delta, which one product multiplies with x, that is the adapted map. At the start y keeps every
    /// bit: a sum of products is never -0, so adding zeros changes nothing, and equal factors cancel before y sees them.
    /// Shapes: x `[in_dim, positions]`, y `[out_dim, positions]`, both row-major or both column-major.
    pub(crate) fn forward(&self, x: MatRef<f32>, y: MatMut<f32>) {
        self.with_terms(|terms| terms.forward(x, y));
    }

    /// Adds the gradients of the pairs to `plane` (dA where A learns, then dB transposed).
    pub(crate) fn backward(&self, x: MatRef<f32>, dy: MatRef<f32>, plane: &mut [f32]) {
        let SiteShape { rank, in_dim, out_dim, sides, .. } = self.shape;
        let (da, db_t) = plane.split_at_mut(self.shape.a_len());
        let matrix = |width, values| MatMut::from_row_major_slice_mut(values, rank, width);
        let da = (sides == Sides::Both).then(|| matrix(in_dim, da));
        self.with_terms(|terms| terms.backward(x, dy, da, matrix(out_dim, db_t)));
    }

    /// Adds to `dx` what passes through the terms of [`SiteBuffers::forward`].
    pub(crate) fn pass_back(&self, dy: MatRef<f32>, dx: MatMut<f32>) {
        self.with_terms(|terms| terms.pass_back(dy, dx));
    }

    /// Pairs and delta stay; moments, ages and importance start anew.
    ///
    /// # Errors
    /// Kind `Sites` where a buffer does not fit.
    pub(super) fn renew(&mut self) -> Result<()> {
        self.state[self.shape.plane_len()..].fill(0.0);
        let (directions, reserve) = (self.ledger.directions().to_vec(), self.ledger.reserve().collect::<Vec<_>>());
        let ages = core::iter::repeat_n(0, self.shape.rank);
        self.ledger = HostLedger::restore(&self.shape, ages, directions, reserve).map_err(told(&self.name))?;
        Ok(())
    }

    pub(super) fn update(&mut self, gradient: &[f32], update: &Update) -> Result<()> {
        let mut view = self.view_mut();
        let done =
            view.score(gradient).and_then(|()| view.adamw(&update.optimizer, |age| update.lr.rate(age), gradient));
        done.map_err(|e| Error::new(ErrorKind::Internal, &self.name, e))
    }

    /// How important each pair is.
    pub(crate) fn importance(&mut self) -> impl Iterator<Item = f32> {
        let rank = self.shape.rank;
        let view = self.view_mut();
        (0..rank).map(move |pair| view.importance(pair))
    }

    pub(crate) fn recompose(&mut self, rule: &Recompose) -> Result<Vec<Recomposition>> {
        let SiteShape { out_dim, in_dim, sides, .. } = self.shape;
        let rule = Recompose { pairs: sides.pairs(rule.pairs, out_dim, in_dim), ..*rule };
        let events: Vec<Recomposition> = self.view_mut().recompose(&rule).into_iter().collect();
        self.refresh()?;
        Ok(events)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::FuseOrder;

    fn wave(n: usize, phase: f32) -> Vec<f32> {
        (0..n).map(|i| (i as f32 * 0.73 + phase).sin()).collect()
    }

    fn wave_matrix(rows: usize, columns: usize, phase: f32) -> Mat<f32> {
        let values = wave(rows * columns, phase);
        Mat::from_fn(rows, columns, |i, j| values[i * columns + j])
    }

    const KINDS: [(Sides, Start); 6] = {
        let [aligned, principal, random] = [Start::Aligned, Start::Principal, Start::Random { seed: 3 }];
        let (both, one) = (Sides::Both, Sides::One);
        [(both, aligned), (both, principal), (both, random), (one, aligned), (one, principal), (one, random)]
    };

    fn site((sides, start): (Sides, Start), fused: bool) -> SiteBuffers {
        let (out_dim, in_dim, reserve) = (70, 41, 6);
        let halves = |values: Vec<f32>| values.into_iter().map(f16::from_f32).collect();
        let directions = DirectionsBuf {
            sigma: (0..reserve).map(|k| 2.0 - 0.2 * k as f32).collect(),
            u: halves(wave(reserve * out_dim, 0.1)),
            v: halves(wave(reserve * in_dim, 0.2)),
        };
        let settings = SiteSettings { start, scale: 1.5, sides };
        let mut site =
            SiteBuffers::start(0, SiteSeed::new("site", [out_dim, in_dim], directions), 3, settings).unwrap();
        for (value, noise) in site.values_mut().iter_mut().zip(wave(4 * 111, 0.7)) {
            *value += 0.3 * noise;
        }
        if fused {
            let events = site
                .recompose(&Recompose { pairs: 2, min_age: 0, wrap: false, choice: FuseOrder::LeastImportant })
                .unwrap();
            assert_eq!(events.len(), 2);
        }
        site
    }

    #[test]
    fn many_positions_at_once_agree_with_the_core_one_by_one() {
        for kind in KINDS {
            for fused in [false, true] {
                let mut site = site(kind, fused);
                let shape = site.shape;
                let positions = 9;
                let mut merged = Mat::<f32>::zeros(70, 41);
                let mut row = [0.0; 41];
                for (i, out) in merged.row_iter_mut().enumerate() {
                    row.fill(0.0);
                    site.add_merged_row(pulp::Scalar::new(), i, &mut row, &mut [0.0; 41]);
                    out.iter_mut().zip(row).for_each(|(out, v)| *out = v);
                }
                assert_eq!(site.has_merged(), fused && merged.norm_max() > 0.0);
                let (x, dy) = (wave_matrix(41, positions, 0.4), wave_matrix(70, positions, 0.9));
                let mut y = &merged * &x;
                site.forward(x.as_ref(), y.as_mut());
                let mut dx = merged.transpose() * &dy;
                let mut plane = vec![0.0; shape.plane_len()];
                site.backward(x.as_ref(), dy.as_ref(), &mut plane);
                site.pass_back(dy.as_ref(), dx.as_mut());

                let mut gradient = vec![0.0; shape.plane_len()];
                let mut scratch = vec![0.0; shape.scratch_len()];
                let mut worst: f32 = 0.0;
                let mut see = |ours: f32, core: f32| worst = worst.max((ours - core).abs());
                for p in 0..positions {
                    let [x, dy]: [Vec<f32>; 2] = [&x, &dy].map(|m| m.col(p).iter().copied().collect());
                    let mut one = vec![0.0; 70];
                    site.view_mut().forward(&x, &mut one, &mut scratch).unwrap();
                    y.col(p).iter().zip(&one).for_each(|(a, b)| see(*a, *b));
                    let mut one = vec![0.0; 41];
                    site.view_mut().backward(&x, &dy, &mut one, &mut gradient, &mut scratch).unwrap();
                    dx.col(p).iter().zip(&one).for_each(|(a, b)| see(*a, *b));
                }
                plane.iter().zip(&gradient).for_each(|(a, b)| see(*a, *b));
                println!("{kind:?}, fused {fused}: largest difference {worst:e}");
                assert!(worst <= 2e-4, "{kind:?}, fused {fused}: {worst:e}");
            }
        }
    }

    #[test]
    fn many_pairs_and_directions_have_room() {
        let start = |rank, reserve| {
            let halves: std::sync::Arc<[f16]> = vec![f16::ZERO; reserve * MOST_DIRECTIONS].into();
            let directions = DirectionsBuf { sigma: vec![0.0; reserve].into(), u: halves.clone(), v: halves };
            let seed = SiteSeed::new("site", [MOST_DIRECTIONS; 2], directions);
            SiteBuffers::start(0, seed, rank, SiteSettings::default())
        };
        let site = start(MOST_PAIRS, MOST_DIRECTIONS).unwrap();
        assert_eq!(site.ledger.reserve().len(), MOST_DIRECTIONS - MOST_PAIRS);
        assert_eq!(start(MOST_PAIRS + 1, MOST_DIRECTIONS).map(drop).unwrap_err().kind(), ErrorKind::Sites);
    }

    #[test]
    fn at_the_start_the_output_keeps_every_bit() {
        for kind in KINDS {
            let mut site = site(kind, false);
            site.view_mut().start().unwrap();
            let x = wave_matrix(41, 5, 0.4);
            let before = wave_matrix(70, 5, 0.6);
            let mut after = before.clone();
            site.forward(x.as_ref(), after.as_mut());
            assert_eq!(before, after, "{kind:?}");
        }
    }
}
