//! A backbone with an adapter, planned and ready: prefix, suffix, and the training step.

use tract_onnx::prelude::*;
use tract_onnx::tract_core::internal::*;

use super::{StepGraph, Unsupported, step_graph};
use crate::backbone::graph::{concrete, onnx_name, split};
use crate::backbone::map_op::read;
use crate::backbone::plan::{Plan, floats};
use crate::backbone::{Backbone, NodeCost, SharedAdapter, Site};
use crate::error::{Error, ErrorKind, Result};

/// What the prefix hands to the suffix for one micro-batch.
#[derive(Debug, Clone)]
pub struct Boundary(TVec<TValue>);

/// The result of one micro-batch; gradients are of the sum of its losses.
#[derive(Debug, Clone)]
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

/// A backbone whose sites read one shared adapter.
///
/// tract prepares a graph around its site nodes. They are therefore put in even where the adapter has no sites (only a head
/// learns) and then pass their map's output on: all methods start from the same features, bit for bit.
///
/// Every run takes one micro-batch of [`Network::batch`] images, NCHW, row-major.
pub struct Network {
    prefix: Plan,
    forward: Plan,
    step: Option<Plan>,
    subject: String,
    batch: usize,
    features: usize,
    image_len: usize,
}

impl Network {
    /// Plans the forward pass.
    ///
    /// # Errors
    /// Kind `Model` where the graph cannot be prepared.
    pub fn inference(backbone: &Backbone, sites: &[Site], adapter: &SharedAdapter) -> Result<Self> {
        Self::build(backbone, sites, adapter, false)
    }

    /// Plans the forward pass and the training step.
    ///
    /// # Errors
    /// Kind `Model` as above; `UnsupportedOp` names the op, its node and the `--sites` that would avoid it.
    pub fn training(backbone: &Backbone, sites: &[Site], adapter: &SharedAdapter) -> Result<Self> {
        Self::build(backbone, sites, adapter, true)
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

    fn build(backbone: &Backbone, sites: &[Site], adapter: &SharedAdapter, train: bool) -> Result<Self> {
        let attached = !read(adapter).sites.is_empty();
        let mut model = backbone.features_graph(sites, attached.then_some(adapter))?;
        backbone.told(model.declutter())?;
        let sites = if attached { sites } else { &[] };
        Self::plan(backbone, &model, train.then_some((sites, adapter)))
    }

    fn plan(backbone: &Backbone, model: &TypedModel, train: Option<(&[Site], &SharedAdapter)>) -> Result<Self> {
        let shape = backbone.told(model.output_fact(0).and_then(concrete))?;
        let [batch, features] = shape[..] else {
            let message = format!("the output has the shape {shape:?}, not one vector per image");
            return Err(Error::new(ErrorKind::Model, backbone.features(), message));
        };
        let cut = backbone.told(split(model))?;
        let step = train.map(|(sites, adapter)| {
            let graph = backbone.told(step_graph(cut.suffix.clone(), adapter))?;
            refuse_unsupported(backbone, sites, &graph)?;
            backbone.told(Plan::optimized(graph.model))
        });
        let [height, width] = backbone.size();
        Ok(Network {
            step: step.transpose()?,
            prefix: backbone.told(Plan::optimized(cut.prefix))?,
            forward: backbone.told(Plan::optimized(cut.suffix))?,
            subject: backbone.features().to_string(),
            batch,
            features,
            image_len: 3 * height * width,
        })
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

    /// Floats in one image.
    #[must_use]
    pub fn image_len(&self) -> usize {
        self.image_len
    }

    /// Runs the frozen part. `images` holds one micro-batch.
    ///
    /// # Errors
    /// Kind `Internal` where the run fails; the images' number of floats is checked.
    pub fn prefix(&mut self, images: &[f32], size: [usize; 2]) -> Result<Boundary> {
        let shape = [self.batch, 3, size[0], size[1]];
        let mut run = || Ok(Boundary(self.prefix.run(tvec!(Tensor::from_shape(&shape, images)?.into_tvalue()))?));
        run().map_err(|e| failed(&self.subject, &e))
    }

    /// Runs a training step, or without a planned one the forward pass, node by node, and adds what each node took to
    /// `[prefix, suffix]`; both are empty at first.
    ///
    /// # Errors
    /// Kind `Internal` where the run fails.
    pub fn profile(&mut self, images: &[f32], size: [usize; 2], costs: &mut [Vec<NodeCost>; 2]) -> Result<()> {
        let shape = [self.batch, 3, size[0], size[1]];
        let [prefix, suffix] = costs;
        let mut run = || -> TractResult<()> {
            let images = Tensor::from_shape(&shape, images)?.into_tvalue();
            let mut boundary = self.prefix.profile(tvec!(images), prefix)?;
            if let Some(step) = &mut self.step {
                boundary.push(Tensor::zero::<i64>(&[self.batch])?.into_tvalue());
                step.profile(boundary, suffix)?;
            } else {
                self.forward.profile(boundary, suffix)?;
            }
            Ok(())
        };
        run().map_err(|e| failed(&self.subject, &e))
    }

    /// Runs the adapted part; the features `[batch, features]`, row-major.
    ///
    /// # Errors
    /// Kind `Internal` where the run fails.
    pub fn forward(&mut self, boundary: &Boundary) -> Result<Vec<f32>> {
        let mut run = || Ok(floats(&self.forward.run(boundary.0.clone())?[0])?.to_vec());
        run().map_err(|e| failed(&self.subject, &e))
    }

    /// Runs the adapted part, the head, the loss and the backward pass. A negative label marks a row that does not count.
    ///
    /// # Errors
    /// Kind `Internal` where the run fails or the network was planned for inference only.
    pub fn step(&mut self, boundary: &Boundary, labels: &[i64]) -> Result<StepOutput> {
        let mut run = || -> TractResult<StepOutput> {
            let step = self.step.as_mut().context("planned for inference only")?;
            let mut inputs = boundary.0.clone();
            inputs.push(Tensor::from_shape(&[labels.len()], labels)?.into_tvalue());
            let outputs = step.run(inputs)?;
            let values = outputs.iter().map(|v| Ok(floats(v)?.to_vec())).collect::<TractResult<Vec<_>>>()?;
            let mut values = values.into_iter();
            let mut next = || values.next().context("an output is missing");
            let (loss, logits, dw, db) = (next()?, next()?, next()?, next()?);
            Ok(StepOutput { loss, logits, dw, db, pairs: values.collect() })
        };
        run().map_err(|e| failed(&self.subject, &e))
    }
}

fn failed(subject: &str, error: &TractError) -> Error {
    Error::new(ErrorKind::Internal, subject, format!("a run failed: {}", error.root_cause()))
}

/// Refuses a graph whose backward pass met an op without a rule, or in which a site does not reach the features.
fn refuse_unsupported(backbone: &Backbone, sites: &[Site], graph: &StepGraph) -> Result<()> {
    if let Some(first) = graph.unsupported.first() {
        return Err(Error::new(
            ErrorKind::UnsupportedOp,
            "--sites",
            advice(backbone, sites, first, &graph.unsupported),
        ));
    }
    match (0..sites.len()).find(|ix| !graph.sites.contains(ix)) {
        None => Ok(()),
        Some(ix) => {
            let message = format!("{} does not influence the features; leave it out", sites[ix].name);
            Err(Error::new(ErrorKind::Sites, "--sites", message))
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
        0 => "no site of this model avoids it; export the model with another operator there".to_string(),
        n => format!("use --sites last:{n}, all of which lie behind it"),
    };
    let node = onnx_name(&names, &first.node);
    format!("the op {} at node {node} has no gradient rule{because}; {way_out}", first.op)
}
