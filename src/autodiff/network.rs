//! A backbone with an adapter, planned and ready: prefix, suffix, and the training step.

use tract_onnx::prelude::*;
use tract_onnx::tract_core::internal::*;

use super::{StepGraph, Stored, Unsupported, step_graph};
use crate::backbone::expand::fuse_expansions;
use crate::backbone::graph::{concrete, onnx_name, split};
use crate::backbone::map_op::read;
use crate::backbone::plan::{Run, RunPlan, floats, live_bytes};
use crate::backbone::views::floats_mut;
use crate::backbone::{Backbone, NodeCost, SharedAdapter, Site};
use crate::error::{Error, ErrorKind, Result};

/// The most segments that a forward pass is cut into, to compute its activations again.
const SEGMENTS: usize = 8;

/// What happens between forward and backward pass to the activations that both need.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activations {
    /// They wait in memory.
    Kept,
    /// Those of all but the last part of the network are let go and computed again: less memory, the same numbers, and up to
    /// one more forward pass a step.
    Recomputed,
}

/// What the prefix hands to the suffix for one micro-batch.
#[derive(Debug, Clone)]
pub struct Boundary(TVec<TValue>);

impl Boundary {
    /// Writes its values, tensor by tensor, rounded to `T`, into `values`, which has room for [`NetworkPlan::boundary_len`] of
    /// them.
    ///
    /// # Errors
    /// Kind `Internal` where it has not.
    pub fn round_to<T: Stored>(&self, values: &mut [T]) -> Result<()> {
        let mut rest = values;
        let mut round = |tensor: &TValue| -> TractResult<()> {
            let own = floats(tensor)?;
            let (to, behind) = std::mem::take(&mut rest).split_at_mut_checked(own.len()).context("too few places")?;
            T::round(own, to);
            rest = behind;
            Ok(())
        };
        self.0.iter().try_for_each(&mut round).map_err(|e| failed("boundary", &e))
    }
}

/// The result of one micro-batch; gradients are of the sum of its losses.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct StepOutput {
    /// Cross-entropy of each image, in nats; 0 where the label is negative.
    pub loss: Vec<f32>,
    /// `[batch, classes]`, row-major.
    pub logits: Vec<f32>,
    /// dL/dW of the head, `[classes, features]`.
    pub dw: Vec<f32>,
    /// dL/db of the head, `[classes]`.
    pub db: Vec<f32>,
    /// A plane for every site: dL/dA (rank x in_dim), then dL/dB transposed (rank x out_dim).
    pub pairs: Vec<Vec<f32>>,
}

/// A backbone whose sites read one shared adapter, planned: what any number of threads can run at once.
///
/// tract prepares a graph around its site nodes. They are therefore put in even where the adapter has no sites (only a head
/// learns) and then pass their map's output on: all methods start from the same features, bit for bit.
#[derive(Clone)]
pub struct NetworkPlan {
    prefix: Option<RunPlan>,
    forward: RunPlan,
    step: Option<RunPlan>,
    subject: String,
    batch: usize,
    features: usize,
    image: [usize; 3],
    /// The shapes of what the prefix hands over, where all of it is f32.
    boundary: Option<Vec<TVec<usize>>>,
}

/// A network that one thread runs, a micro-batch of [`Network::batch`] images at a time, NCHW, row-major.
pub struct Network {
    plan: NetworkPlan,
    prefix: Option<Run>,
    forward: Run,
    step: Option<Run>,
}

impl NetworkPlan {
    /// Plans the forward pass.
    ///
    /// # Errors
    /// Kind `Model` where the graph cannot be prepared.
    pub fn inference(backbone: &Backbone, sites: &[Site], adapter: &SharedAdapter) -> Result<Self> {
        Self::build(backbone, sites, adapter, None)
    }

    /// Plans the forward pass and the training step.
    ///
    /// # Errors
    /// Kind `Model` as above; `UnsupportedOp` names the op, its node and the option `sites` that would avoid it.
    pub fn training(
        backbone: &Backbone,
        sites: &[Site],
        adapter: &SharedAdapter,
        activations: Activations,
    ) -> Result<Self> {
        Self::build(backbone, sites, adapter, Some(activations))
    }

    /// Plans the model up to its own output, which takes the place of the features.
    ///
    /// # Errors
    /// Kind `Model` where the graph cannot be prepared, or the output is not one vector per image.
    pub fn own_classifier(backbone: &Backbone) -> Result<Self> {
        let mut model = backbone.classifier_graph()?;
        backbone.told(model.declutter())?;
        Self::plan(backbone, &model, None)
    }

    fn build(backbone: &Backbone, sites: &[Site], adapter: &SharedAdapter, train: Option<Activations>) -> Result<Self> {
        let attached = !read(adapter).sites.is_empty();
        let mut model = backbone.features_graph(sites, attached.then_some(adapter))?;
        backbone.told(model.declutter())?;
        let sites = if attached { sites } else { &[] };
        Self::plan(backbone, &model, train.map(|activations| (sites, adapter, activations)))
    }

    fn plan(
        backbone: &Backbone,
        model: &TypedModel,
        train: Option<(&[Site], &SharedAdapter, Activations)>,
    ) -> Result<Self> {
        let shape = backbone.told(model.output_fact(0).and_then(concrete))?;
        let [batch, features] = shape[..] else {
            let message = format!("the output has the shape {shape:?}, not one vector per image");
            return Err(Error::new(ErrorKind::Model, backbone.features(), message));
        };
        let mut cut = backbone.told(split(model))?;
        backbone.told(fuse_expansions(&mut cut.prefix).and_then(|()| fuse_expansions(&mut cut.suffix)))?;
        let step = train.map(|(sites, adapter, activations)| {
            let graph = backbone.told(step_graph(cut.suffix.clone(), adapter, 1))?;
            refuse_unsupported(backbone, sites, &graph)?;
            let model = match activations {
                Activations::Kept => graph.model,
                Activations::Recomputed => backbone.told(smallest(graph.model, &cut.suffix, adapter))?,
            };
            backbone.told(RunPlan::optimized(model))
        });
        let [height, width] = backbone.size();
        let boundary = cut.suffix.input_outlets().map(|inputs| inputs.to_vec());
        let boundary = boundary.and_then(|inputs| {
            let facts = inputs.iter().map(|&input| cut.suffix.outlet_fact(input)).collect::<TractResult<Vec<_>>>()?;
            let floats = facts.iter().all(|fact| fact.datum_type == f32::datum_type());
            floats.then(|| facts.into_iter().map(concrete).collect::<TractResult<Vec<_>>>()).transpose()
        });
        let boundary = backbone.told(boundary)?;
        Ok(NetworkPlan {
            step: step.transpose()?,
            prefix: Some(backbone.told(RunPlan::optimized(cut.prefix))?),
            forward: backbone.told(RunPlan::optimized(cut.suffix))?,
            subject: backbone.features().to_string(),
            batch,
            features,
            image: [3, height, width],
            boundary,
        })
    }

    /// Floats that the prefix hands over for one image; `None` where it hands over anything else, or several images at once.
    #[must_use]
    pub fn boundary_len(&self) -> Option<usize> {
        let shapes = self.boundary.as_ref().filter(|_| self.batch == 1)?;
        Some(shapes.iter().map(|shape| shape.iter().product::<usize>()).sum())
    }

    /// Bytes of the activations that one run needs at a time, at most.
    ///
    /// # Errors
    /// Kind `Internal` where a size is not known.
    pub fn activation_bytes(&self) -> Result<usize> {
        let plans = self.prefix.iter().chain([&self.forward]).chain(&self.step);
        let bytes = plans.map(RunPlan::live_bytes).collect::<TractResult<Vec<_>>>();
        bytes.map(|bytes| bytes.into_iter().max().unwrap_or(0)).map_err(|e| failed(&self.subject, &e))
    }

    /// The boundary of one image from its [`NetworkPlan::boundary_len`] values.
    ///
    /// # Errors
    /// Kind `Internal` where there are too few or too many.
    pub fn boundary<T: Stored>(&self, values: &[T]) -> Result<Boundary> {
        let mut rest = values;
        let tensor = |shape: &TVec<usize>| -> TractResult<TValue> {
            let (own, behind) =
                rest.split_at_checked(shape.iter().product()).context("too few values for the boundary")?;
            rest = behind;
            let mut tensor = Tensor::zero::<f32>(shape)?;
            T::widen(own, floats_mut(&mut tensor)?);
            Ok(tensor.into_tvalue())
        };
        let tensors: TractResult<TVec<TValue>> = self.boundary.iter().flatten().map(tensor).collect();
        let tensors = tensors.and_then(|tensors| {
            ensure!(rest.is_empty(), "too many values for the boundary");
            Ok(tensors)
        });
        tensors.map(Boundary).map_err(|e| failed(&self.subject, &e))
    }

    /// Images in one micro-batch.
    #[must_use]
    pub fn batch(&self) -> usize {
        self.batch
    }

    /// Length of an image's feature vector.
    #[must_use]
    pub fn features(&self) -> usize {
        self.features
    }

    /// Ready to run on this thread.
    ///
    /// # Errors
    /// Kind `Internal` where a run cannot begin.
    pub fn start(&self) -> Result<Network> {
        let start = |plan: &RunPlan| plan.start().map_err(|e| failed(&self.subject, &e));
        Ok(Network {
            prefix: self.prefix.as_ref().map(start).transpose()?,
            forward: start(&self.forward)?,
            step: self.step.as_ref().map(start).transpose()?,
            plan: self.clone(),
        })
    }
}

impl Network {
    /// [`NetworkPlan::inference`], on this thread.
    ///
    /// # Errors
    /// As there.
    pub fn inference(backbone: &Backbone, sites: &[Site], adapter: &SharedAdapter) -> Result<Self> {
        NetworkPlan::inference(backbone, sites, adapter)?.start()
    }

    /// [`NetworkPlan::training`], on this thread.
    ///
    /// # Errors
    /// As there.
    pub fn training(backbone: &Backbone, sites: &[Site], adapter: &SharedAdapter) -> Result<Self> {
        NetworkPlan::training(backbone, sites, adapter, Activations::Kept)?.start()
    }

    /// [`NetworkPlan::own_classifier`], on this thread.
    ///
    /// # Errors
    /// As there.
    pub fn own_classifier(backbone: &Backbone) -> Result<Self> {
        NetworkPlan::own_classifier(backbone)?.start()
    }

    /// What it runs.
    #[must_use]
    pub fn plan(&self) -> &NetworkPlan {
        &self.plan
    }

    /// Images in one micro-batch.
    #[must_use]
    pub fn batch(&self) -> usize {
        self.plan.batch
    }

    /// Length of an image's feature vector.
    #[must_use]
    pub fn features(&self) -> usize {
        self.plan.features
    }

    /// Floats in one image.
    #[must_use]
    pub fn image_len(&self) -> usize {
        self.plan.image.iter().product()
    }

    /// Runs the frozen part. `images` holds one micro-batch.
    ///
    /// # Errors
    /// Kind `Internal` where the run fails; the images' number of floats is checked.
    pub fn prefix(&mut self, images: &[f32]) -> Result<Boundary> {
        let shape = self.shape();
        let mut run = || -> TractResult<Boundary> {
            let prefix = self.prefix.as_mut().context("the prefix has been let go")?;
            Ok(Boundary(prefix.run(tvec!(Tensor::from_shape(&shape, images)?.into_tvalue()))?))
        };
        run().map_err(|e| failed(&self.plan.subject, &e))
    }

    fn shape(&self) -> [usize; 4] {
        let [channels, height, width] = self.plan.image;
        [self.plan.batch, channels, height, width]
    }

    /// Runs a training step, or without a planned one the forward pass, node by node, and adds what each node took to
    /// `[prefix, suffix]`; both are empty at first.
    ///
    /// # Errors
    /// Kind `Internal` where the run fails.
    pub fn profile(&mut self, images: &[f32], costs: &mut [Vec<NodeCost>; 2]) -> Result<()> {
        let (shape, batch) = (self.shape(), self.batch());
        let [prefix, suffix] = costs;
        let mut run = || -> TractResult<()> {
            let images = Tensor::from_shape(&shape, images)?.into_tvalue();
            let run = self.prefix.as_mut().context("the prefix has been let go")?;
            let mut boundary = run.profile(tvec!(images), prefix)?;
            if let Some(step) = &mut self.step {
                boundary.push(Tensor::zero::<i64>(&[batch])?.into_tvalue());
                step.profile(boundary, suffix)?;
            } else {
                self.forward.profile(boundary, suffix)?;
            }
            Ok(())
        };
        run().map_err(|e| failed(&self.plan.subject, &e))
    }

    /// Runs the adapted part; the features `[batch, features]`, row-major.
    ///
    /// # Errors
    /// Kind `Internal` where the run fails.
    pub fn forward(&mut self, boundary: &Boundary) -> Result<Vec<f32>> {
        let mut run = || Ok(floats(&self.forward.run(boundary.0.clone())?[0])?.to_vec());
        run().map_err(|e| failed(&self.plan.subject, &e))
    }

    /// Runs the adapted part, the head, the loss and the backward pass. A negative label marks a row that does not count.
    ///
    /// # Errors
    /// Kind `Internal` where the run fails or the network was planned for inference only.
    pub fn step(&mut self, boundary: &Boundary, labels: &[i64]) -> Result<StepOutput> {
        let mut output = StepOutput::default();
        self.step_into(boundary, labels, &mut output)?;
        Ok(output)
    }

    /// The same, written over an earlier output, whose memory is used again.
    ///
    /// # Errors
    /// As [`Network::step`].
    pub fn step_into(&mut self, boundary: &Boundary, labels: &[i64], output: &mut StepOutput) -> Result<()> {
        let mut run = || -> TractResult<()> {
            let step = self.step.as_mut().context("planned for inference only")?;
            let mut inputs = boundary.0.clone();
            inputs.push(Tensor::from_shape(&[labels.len()], labels)?.into_tvalue());
            let values = step.run(inputs)?;
            ensure!(values.len() >= 4, "an output is missing");
            let StepOutput { loss, logits, dw, db, pairs } = output;
            pairs.resize_with(values.len() - 4, Vec::new);
            for (to, value) in [loss, logits, dw, db].into_iter().chain(pairs).zip(&values) {
                to.clear();
                to.extend_from_slice(floats(value)?);
            }
            Ok(())
        };
        run().map_err(|e| failed(&self.plan.subject, &e))
    }

    /// Whether the frozen part can still be run.
    #[must_use]
    pub fn keeps_prefix(&self) -> bool {
        self.prefix.is_some()
    }

    /// Lets go of the prefix: from here on only boundaries at hand can be run.
    pub fn drop_prefix(&mut self) {
        (self.prefix, self.plan.prefix) = (None, None);
    }
}

fn failed(subject: &str, error: &TractError) -> Error {
    Error::new(ErrorKind::Internal, subject, format!("a run failed: {}", error.root_cause()))
}

/// Of `plain` and the steps of `suffix` that compute activations again, the one that needs the least memory at a time.
fn smallest(plain: TypedModel, suffix: &TypedModel, adapter: &SharedAdapter) -> TractResult<TypedModel> {
    let mut best = (live_bytes(&plain)?, plain);
    for segments in 2..=SEGMENTS {
        let model = step_graph(suffix.clone(), adapter, segments)?.model;
        let bytes = live_bytes(&model)?;
        if bytes < best.0 {
            best = (bytes, model);
        }
    }
    Ok(best.1)
}

/// Refuses a graph whose backward pass met an op without a rule, or in which a site does not reach the features.
fn refuse_unsupported(backbone: &Backbone, sites: &[Site], graph: &StepGraph) -> Result<()> {
    if let Some(first) = graph.unsupported.first() {
        return Err(Error::new(
            ErrorKind::UnsupportedOp,
            "option `sites`",
            advice(backbone, sites, first, &graph.unsupported),
        ));
    }
    match (0..sites.len()).find(|ix| !graph.sites.contains(ix)) {
        None => Ok(()),
        Some(ix) => {
            let message = format!("{} does not influence the features; leave it out", sites[ix].name);
            Err(Error::new(ErrorKind::Sites, "option `sites`", message))
        }
    }
}

fn advice(backbone: &Backbone, sites: &[Site], first: &Unsupported, all: &[Unsupported]) -> String {
    let names = backbone.node_names();
    let because = first.reason.as_ref().map(|r| format!(" ({r})")).unwrap_or_default();
    let blocked = |site: &Site| {
        let position = sites.iter().position(|s| s.name == site.name);
        position.is_none_or(|ix| all.iter().any(|node| node.sites.contains(&ix)))
    };
    let free = sites.iter().rev().take_while(|site| !blocked(site)).count();
    let way_out = match free {
        0 => "no site of this model avoids it; export the model with the other exporter or another opset".to_string(),
        n => format!("use option `sites` last:{n}, all of which lie behind it"),
    };
    let node = onnx_name(&names, &first.node);
    let op = backbone.operator(node).unwrap_or(&first.op);
    format!("node {node} ({op}) has no gradient rule{because}; {way_out}")
}
