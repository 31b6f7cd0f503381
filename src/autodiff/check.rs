//! Pack-time checks: does the prepared graph compute what the file says, and are its gradients those of its loss?

use tract_onnx::prelude::*;
use tract_onnx::tract_core::internal::*;

use super::network::{Boundary, Network, StepOutput};
use crate::adapter::Adapter;
use crate::backbone::graph::{is_source, onnx_name};
use crate::backbone::plan::{RunPlan, floats};
use crate::backbone::{Backbone, SharedAdapter, Site};
use crate::error::{Error, ErrorKind, Result};

/// Largest |difference| between the graph as optimized and as read, relative to the largest |feature|.
pub const FORWARD_TOLERANCE: f32 = 1e-4;

/// Largest relative error of a directional derivative against central differences, at the second best of the step sizes tried.
///
/// A kink (ReLU, max-pool) crossed by the larger steps, or f32 rounding at the smaller ones, spoils some step sizes but
/// not all. A steep loss bends so soon that only the smallest steps tell. A wrong rule may agree at one step size, where bending
/// makes up for it; bending grows with the square of the step, so the rule is off again at the next.
pub const GRADIENT_TOLERANCE: f64 = 0.03;

/// Step sizes, relative to the norm of what is moved.
const STEPS: [f64; 9] = [1e-2, 3e-3, 3e-2, 1e-3, 1e-1, 3e-4, 1e-4, 3e-5, 1e-5];

/// Below this step, one that rounding spoils is passed over: it would agree with any rule.
const SMALL_STEP: f64 = 3e-4;

/// Runs one micro-batch through the graph as the file has it and through the optimized, split network.
///
/// Returns the largest difference, relative to the largest |feature|.
///
/// # Errors
/// Kind `Check` if it exceeds [`FORWARD_TOLERANCE`], naming the first node that differs.
pub fn check_forward(backbone: &Backbone, network: &mut Network, images: &[f32]) -> Result<f32> {
    let plain = backbone.reference_graph()?;
    let reference = backbone.told(RunPlan::as_is(plain.clone()))?;
    let expected = backbone.told(run(&reference, backbone, network.batch(), images))?;
    let boundary = network.prefix(images)?;
    let found = network.forward(&boundary)?;
    let difference = relative_difference(&found, &expected);
    if difference <= FORWARD_TOLERANCE {
        return Ok(difference);
    }
    let place = first_divergence(backbone, plain, network.batch(), images)
        .map_or_else(|_| "a node that could not be told".to_string(), |node| format!("node {node}"));
    let message = format!(
        "the optimized graph differs from the file by {difference:.1e} of the largest feature (at most \
         {FORWARD_TOLERANCE:.0e} is accepted), first at {place}; export the model again, with another opset or exporter"
    );
    Err(Error::new(ErrorKind::Check, backbone.features(), message))
}

fn run(plan: &RunPlan, backbone: &Backbone, batch: usize, images: &[f32]) -> TractResult<Vec<f32>> {
    let [height, width] = backbone.size();
    let images = Tensor::from_shape(&[batch, 3, height, width], images)?;
    Ok(floats(&plan.start()?.run(tvec!(images.into_tvalue()))?[0])?.to_vec())
}

/// Largest |a - b| relative to the largest |b|; infinite where the sizes differ or a value is not a number.
fn relative_difference(a: &[f32], b: &[f32]) -> f32 {
    let largest = b.iter().fold(f32::MIN_POSITIVE, |m, v| m.max(v.abs()));
    let worst = a
        .iter()
        .zip(b)
        .map(|(a, b)| (a - b).abs())
        .fold(0.0, |m: f32, d| if d.is_nan() { f32::INFINITY } else { m.max(d) });
    if a.len() == b.len() { worst / largest } else { f32::INFINITY }
}

/// The first node, in evaluation order, whose value changes when the graph is decluttered.
fn first_divergence(backbone: &Backbone, plain: TypedModel, batch: usize, images: &[f32]) -> TractResult<String> {
    let mut decluttered = plain.clone();
    decluttered.declutter()?;
    let names = backbone.node_names();
    let candidates: Vec<(OutletId, OutletId, String)> = plain
        .eval_order()?
        .into_iter()
        .filter(|&id| !is_source(plain.node(id)) && plain.node(id).outputs.len() == 1)
        .filter_map(|id| {
            let node = plain.node(id);
            let twin = decluttered.nodes().iter().find(|n| n.name == node.name)?;
            let same = twin.outputs.first()?.fact.shape == node.outputs.first()?.fact.shape;
            same.then(|| (OutletId::new(id, 0), OutletId::new(twin.id, 0), node.name.clone()))
        })
        .collect();
    for (before, after, name) in candidates {
        let value = |mut model: TypedModel, outlet| -> TractResult<Vec<f32>> {
            model.select_output_outlets(&[outlet])?;
            run(&RunPlan::as_is(model.into_compact()?)?, backbone, batch, images)
        };
        let (Ok(before), Ok(after)) = (value(plain.clone(), before), value(decluttered.clone(), after)) else {
            continue;
        };
        if relative_difference(&after, &before) > FORWARD_TOLERANCE {
            return Ok(onnx_name(&names, &name).to_string());
        }
    }
    bail!("no node differs by itself")
}

/// Compares the gradient of every site's pairs and of the head with central differences of the loss.
///
/// For parameters p with gradient g, the direction d is g with every entry scaled by a random factor in 0.5..1.5, so
/// that g . d is large and depends on every entry. Call it with pairs away from their start: at b = 0 dA is 0.
/// Returns the worst relative error.
///
/// # Errors
/// Kind `Check` names the site whose gradient exceeds [`GRADIENT_TOLERANCE`].
pub fn check_gradients(
    network: &mut Network,
    adapter: &SharedAdapter,
    sites: &[Site],
    images: &[f32],
    labels: &[i64],
) -> Result<f64> {
    let boundary = network.prefix(images)?;
    let found = network.step(&boundary, labels)?;
    compare(network, adapter, sites, (&boundary, labels), &found)
}

/// The gradients that were `found` against central differences of the loss.
fn compare(
    network: &mut Network,
    adapter: &SharedAdapter,
    sites: &[Site],
    (boundary, labels): (&Boundary, &[i64]),
    found: &StepOutput,
) -> Result<f64> {
    let mut random = Noise::new(1);
    let mut worst = 0.0f64;
    let head: Vec<f32> = found.dw.iter().chain(&found.db).copied().collect();
    let pairs = found.pairs.iter().cloned();
    for (index, gradient) in std::iter::once(head).chain(pairs).enumerate() {
        let part = index.checked_sub(1);
        let parameters = with(adapter, |a| values(a, part).to_vec());
        // Where there is no gradient, the loss must not change either.
        let is_missing = gradient.iter().all(|g| *g == 0.0);
        let mut along = |g: &f32| if is_missing { random.unit() - 0.5 } else { g * (0.5 + random.unit()) };
        let direction: Vec<f32> = gradient.iter().map(&mut along).collect();
        let slope: f64 = gradient.iter().zip(&direction).map(|(&g, &d)| f64::from(g) * f64::from(d)).sum();
        let reach = norm(&parameters).max(1e-3) / norm(&direction).max(1e-30);
        let [mut best, mut second] = [f64::INFINITY; 2];
        for step in STEPS {
            let mut loss_at = |sign: f64| {
                let moved = move_by(&parameters, &direction, sign * step * reach);
                with(adapter, |a| values(a, part).copy_from_slice(&moved));
                let features = network.forward(boundary)?;
                Ok(with(adapter, |a| total_loss(a, &features, labels)))
            };
            let (up, down) = (loss_at(1.0)?, loss_at(-1.0)?);
            let numeric = (up - down) / (2.0 * step * reach);
            // What f32 features leave uncertain in a difference of two losses.
            let rounding = 4e-7 * (up.abs() + down.abs()) / (2.0 * step * reach);
            if step < SMALL_STEP && rounding > GRADIENT_TOLERANCE / 3.0 * slope.abs() {
                continue;
            }
            let error = ((numeric - slope).abs() - rounding).max(0.0) / slope.abs().max(1e-12);
            (best, second) = if error < best { (error, best) } else { (best, second.min(error)) };
            if second <= GRADIENT_TOLERANCE / 3.0 {
                break;
            }
        }
        with(adapter, |a| values(a, part).copy_from_slice(&parameters));
        if second > GRADIENT_TOLERANCE {
            let name = part.and_then(|ix| sites.get(ix)).map_or("head", |site| site.name.as_str());
            let message = format!(
                "its gradient differs from finite differences by {:.1} % (at most {:.0} % is accepted); leave the site \
                 out with option `sites`, and report the model",
                second * 100.0,
                GRADIENT_TOLERANCE * 100.0
            );
            return Err(Error::new(ErrorKind::Check, name, message));
        }
        worst = worst.max(second);
    }
    Ok(worst)
}

fn with<T>(adapter: &SharedAdapter, act: impl FnOnce(&mut Adapter) -> T) -> T {
    act(&mut adapter.write().unwrap_or_else(std::sync::PoisonError::into_inner))
}

/// The trainable values of a site's pairs, or of the head.
fn values(adapter: &mut Adapter, site: Option<usize>) -> &mut [f32] {
    match site {
        Some(index) => adapter.sites[index].values_mut(),
        None => adapter.head.values_mut(),
    }
}

fn move_by(from: &[f32], direction: &[f32], by: f64) -> Vec<f32> {
    from.iter().zip(direction).map(|(&p, &d)| (f64::from(p) + by * f64::from(d)) as f32).collect()
}

fn norm(v: &[f32]) -> f64 {
    v.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>().sqrt()
}

/// Sum of cross-entropies in f64, from f32 features: the differences of two losses need the digits.
fn total_loss(adapter: &Adapter, features: &[f32], labels: &[i64]) -> f64 {
    let (w, b) = adapter.head.weights();
    let rows = features.chunks_exact(adapter.head.features()).zip(labels).filter(|(_, label)| **label >= 0);
    rows.map(|(x, &label)| {
        let logits: Vec<f64> = w
            .chunks_exact(x.len())
            .zip(b)
            .map(|(w, &b)| f64::from(b) + w.iter().zip(x).map(|(&w, &x)| f64::from(w) * f64::from(x)).sum::<f64>())
            .collect();
        let top = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        top + logits.iter().map(|l| (l - top).exp()).sum::<f64>().ln() - logits[label as usize]
    })
    .sum()
}

/// A small deterministic source of numbers in 0..1 (splitmix64).
pub(crate) struct Noise(u64);

impl Noise {
    pub(crate) fn new(seed: u64) -> Self {
        Noise(seed)
    }

    pub(crate) fn unit(&mut self) -> f32 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 40) as f32 / (1u64 << 24) as f32
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, RwLock};

    use half::f16;

    use super::*;
    use crate::adapter::{DirectionsBuf, SiteSeed, SiteSettings};

    const CLASSES: usize = 3;

    /// A small network with pairs of rank 2 away from their start, and random images.
    struct Bench {
        network: Network,
        adapter: SharedAdapter,
        sites: Vec<Site>,
        boundary: Boundary,
        labels: Vec<i64>,
    }

    impl Bench {
        fn new() -> Self {
            let model = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/models/good.onnx");
            let backbone = Backbone::read(std::fs::read(model).unwrap(), "good", None, None).unwrap();
            let mut random = Noise::new(7);
            let mut some = |count: usize| (0..count).map(|_| f16::from_f32(random.unit() - 0.5)).collect::<Vec<_>>();
            let sites = backbone.sites().to_vec();
            let mut seed = |site: &Site| {
                let directions = DirectionsBuf {
                    sigma: [1.0, 0.5].into(),
                    u: some(2 * site.out_dim).into(),
                    v: some(2 * site.in_dim).into(),
                };
                SiteSeed::new(&*site.name, [site.out_dim, site.in_dim], directions)
            };
            let seeds: Vec<_> = sites.iter().map(&mut seed).collect();
            let features = backbone.feature_dim().unwrap();
            let mut adapter = Adapter::start(seeds, 2, SiteSettings::default(), CLASSES, features).unwrap();
            let mut random = Noise::new(8);
            for part in (0..sites.len()).map(Some).chain([None]) {
                values(&mut adapter, part).iter_mut().for_each(|value| *value += 0.4 * (random.unit() - 0.5));
            }
            let adapter: SharedAdapter = Arc::new(RwLock::new(adapter));
            let mut network = Network::training(&backbone, &sites, &adapter).unwrap();
            let images: Vec<f32> = (0..network.batch() * network.image_len()).map(|_| random.unit()).collect();
            let labels = (0..network.batch()).map(|n| (n % CLASSES) as i64).collect();
            let boundary = network.prefix(&images).unwrap();
            Bench { network, adapter, sites, boundary, labels }
        }

        fn compare(&mut self, found: &StepOutput) -> Result<f64> {
            compare(&mut self.network, &self.adapter, &self.sites, (&self.boundary, &self.labels), found)
        }
    }

    #[test]
    fn a_wrong_rule_is_found_wherever_it_is() {
        let mut bench = Bench::new();
        let right = bench.network.step(&bench.boundary, &bench.labels).unwrap();
        assert!(bench.compare(&right).unwrap() < GRADIENT_TOLERANCE / 3.0);
        type Spoil = fn(&mut [f32]);
        let wrong: [(&str, Spoil); 5] = [
            ("missing", |g| g.fill(0.0)),
            ("a tenth too long", |g| g.iter_mut().for_each(|g| *g *= 1.1)),
            ("turned round", |g| g.iter_mut().for_each(|g| *g = -*g)),
            ("in another order", |g| g.reverse()),
            ("one half missing, the other twice", |g| {
                let (first, second) = g.split_at_mut(g.len() / 2);
                first.fill(0.0);
                second.iter_mut().for_each(|g| *g *= 2.0);
            }),
        ];
        for part in (0..bench.sites.len()).map(Some).chain([None]) {
            let name = part.map_or("head", |site| &bench.sites[site].name).to_owned();
            for (what, spoil) in wrong {
                let mut found = right.clone();
                match part {
                    Some(site) => spoil(&mut found.pairs[site]),
                    None => [&mut found.dw, &mut found.db].into_iter().for_each(|plane| spoil(plane)),
                }
                let error = bench.compare(&found).expect_err(what);
                assert_eq!((error.kind(), error.subject()), (ErrorKind::Check, name.as_str()), "{what}");
            }
        }
    }
}
