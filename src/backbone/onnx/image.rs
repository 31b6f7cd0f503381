//! The one input of a model: the image.

use std::collections::HashSet;

use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::tensor_shape_proto::dimension::Value as DimValue;
use tract_onnx::pb::type_proto::Value as TypeValue;
use tract_onnx::pb::{GraphProto, ValueInfoProto};

/// The image input of a model, NCHW.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageInput {
    /// Tensor name.
    pub name: String,
    /// The batch that the file fixes; `None` where it is symbolic.
    pub batch: Option<usize>,
    /// Height in pixels where the file fixes it.
    pub height: Option<usize>,
    /// Width in pixels where the file fixes it.
    pub width: Option<usize>,
}

/// The image input of `graph`, whose initializers may be listed among its inputs.
///
/// # Errors
/// Says what is wrong with its inputs.
pub(super) fn image_input(graph: &GraphProto) -> Result<ImageInput, String> {
    let constants: HashSet<&str> = graph.initializer.iter().map(|t| t.name.as_str()).collect();
    let inputs: Vec<&ValueInfoProto> = graph.input.iter().filter(|i| !constants.contains(i.name.as_str())).collect();
    let [input] = inputs[..] else {
        let names: Vec<&str> = inputs.iter().map(|i| i.name.as_str()).collect();
        return Err(format!(
            "the model has {} inputs ({}); a classifier of single images has one",
            names.len(),
            names.join(", ")
        ));
    };
    let Some(TypeValue::TensorType(tensor)) = input.r#type.as_ref().and_then(|t| t.value.as_ref()) else {
        return Err(format!("input {} declares no tensor type; export the model again", input.name));
    };
    if ![DataType::Float as i32, DataType::Float16 as i32].contains(&tensor.elem_type) {
        return Err(format!("input {} is not of a float type; export the model with a float input", input.name));
    }
    let dims: Vec<Option<usize>> = tensor.shape.iter().flat_map(|s| &s.dim).map(|d| fixed(d.value.as_ref())).collect();
    match dims[..] {
        [batch, None | Some(3), height, width] => Ok(ImageInput { name: input.name.clone(), batch, height, width }),
        [_, Some(channels), _, _] => Err(format!(
            "input {} has {channels} channels; RGB images (N x 3 x H x W) are what is trained on",
            input.name
        )),
        [_, _, _] => Err(format!(
            "input {} has three axes, no batch axis; export the model with an input of N x 3 x H x W",
            input.name
        )),
        _ => Err(format!("input {} has {} axes; an input of N x 3 x H x W is needed", input.name, dims.len())),
    }
}

fn fixed(dim: Option<&DimValue>) -> Option<usize> {
    match dim {
        Some(DimValue::DimValue(n)) if *n > 0 => Some(*n as usize),
        _ => None,
    }
}
