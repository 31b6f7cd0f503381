//! Where a training step spends its time: per kind of operator and per node, against the arithmetic that each needs.

use std::time::Instant;

use faer::{Accum, Mat};
use serde::Serialize;

use crate::adapter::kernel::product;
use crate::autodiff::Network;
use crate::backbone::NodeCost;
use crate::error::Result;

/// Runs; the shortest time of each node counts.
const RUNS: usize = 8;
/// Nodes that are listed.
const LISTED: usize = 24;
/// Side of the matrices that measure the machine.
const SIDE: usize = 384;

/// One kind of operator in one part of the step.
#[derive(Debug, Clone, Serialize)]
pub struct OpCost {
    /// `prefix`, `forward` or `backward`.
    pub pass: &'static str,
    /// The operator.
    pub op: String,
    /// How many nodes there are of it.
    pub nodes: usize,
    /// Time of one run of all of them.
    pub ms: f64,
    /// Bytes of their outputs.
    pub bytes: usize,
    /// Time that their arithmetic would take at the machine's measured peak.
    pub ideal_ms: f64,
}

/// A training step of one micro-batch, taken apart.
#[derive(Debug, Clone, Serialize)]
pub struct Profile {
    /// Floating-point operations a second of a large product on one thread, in 10^9.
    pub peak_gflops: f64,
    /// Kinds of operators, the most expensive first.
    pub ops: Vec<OpCost>,
    /// The most expensive nodes.
    pub nodes: Vec<NodeCost>,
}

/// Profiles micro-batches of `images`.
pub(super) fn profile(network: &mut Network, images: &[f32]) -> Result<Profile> {
    let mut costs = [Vec::new(), Vec::new()];
    for _ in 0..RUNS {
        network.profile(images, &mut costs)?;
    }
    let peak_gflops = peak_gflops();
    let [prefix, suffix] = costs;
    let mut ops: Vec<OpCost> = Vec::new();
    let pass = |cost: &NodeCost| if cost.node.starts_with("backward.") { "backward" } else { "forward" };
    let in_pass = prefix.iter().map(|cost| ("prefix", cost)).chain(suffix.iter().map(|cost| (pass(cost), cost)));
    for (pass, NodeCost { op, ms, bytes, flops, .. }) in in_pass {
        let at = ops.iter().position(|known| known.pass == pass && known.op == *op).unwrap_or_else(|| {
            ops.push(OpCost { pass, op: op.clone(), nodes: 0, ms: 0.0, bytes: 0, ideal_ms: 0.0 });
            ops.len() - 1
        });
        let known = &mut ops[at];
        known.nodes += 1;
        known.ms += ms;
        known.bytes += bytes;
        known.ideal_ms += flops / (peak_gflops * 1e6);
    }
    ops.sort_by(|a, b| b.ms.total_cmp(&a.ms));
    let mut nodes: Vec<NodeCost> = prefix.into_iter().chain(suffix).collect();
    nodes.sort_by(|a, b| b.ms.total_cmp(&a.ms));
    nodes.truncate(LISTED);
    Ok(Profile { peak_gflops, ops, nodes })
}

/// What a product of two large matrices reaches on this machine.
pub(super) fn peak_gflops() -> f64 {
    let matrix = |phase: f32| Mat::from_fn(SIDE, SIDE, |i, j| ((i * SIDE + j) as f32 + phase).sin());
    let (a, b, mut c) = (matrix(0.0), matrix(0.5), Mat::<f32>::zeros(SIDE, SIDE));
    let mut best = f64::INFINITY;
    for _ in 0..RUNS {
        let begin = Instant::now();
        product(c.as_mut(), Accum::Replace, 1.0, a.as_ref(), b.as_ref());
        best = best.min(begin.elapsed().as_secs_f64());
    }
    2.0 * (SIDE as f64).powi(3) / best / 1e9
}
