//! The one input of a model: the image, and what it is in the file.

use std::collections::HashSet;

use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::tensor_shape_proto::dimension::Value as DimValue;
use tract_onnx::pb::type_proto::Value as TypeValue;
use tract_onnx::pb::{GraphProto, ValueInfoProto};

use super::nodes::type_name;

/// The image input of a model. Whatever it is in the file, here the network reads N x 3 x H x W floats.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageInput {
    /// Tensor name.
    pub name: String,
    /// Whether the file has its channels last, N x H x W x C, as TensorFlow does.
    pub channels_last: bool,
    /// Whether the file takes one channel, the grey of an image.
    pub is_grey: bool,
    /// Whether the file takes bytes, 0 to 255, and brings them into range itself.
    pub is_bytes: bool,
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
    let is_bytes = tensor.elem_type == DataType::Uint8 as i32;
    if !is_bytes && ![DataType::Float as i32, DataType::Float16 as i32].contains(&tensor.elem_type) {
        let found = type_name(tensor.elem_type);
        return Err(format!(
            "input {} is of type {found}; export the model with an input of floats, or of uint8",
            input.name
        ));
    }
    let dims: Vec<Option<usize>> = tensor.shape.iter().flat_map(|s| &s.dim).map(|d| fixed(d.value.as_ref())).collect();
    let (batch, channels, height, width, channels_last) = match dims[..] {
        [batch, channels @ Some(1 | 3), height, width] => (batch, channels, height, width, false),
        [batch, height, width, channels @ Some(1 | 3)] => (batch, channels, height, width, true),
        [batch, None, height, width] => (batch, None, height, width, false),
        [_, _, _] => {
            return Err(format!(
                "input {} has three axes, no batch axis; export the model with an input of N x 3 x H x W",
                input.name
            ));
        }
        [..] => {
            let shape =
                dims.iter().map(|d| d.map_or_else(|| "?".into(), |d| d.to_string())).collect::<Vec<_>>().join(" x ");
            return Err(format!(
                "input {} is of the shape {shape}; one image of 3 channels or 1 is needed, N x 3 x H x W or N x H x W x 3",
                input.name
            ));
        }
    };
    Ok(ImageInput {
        name: input.name.clone(),
        channels_last,
        is_grey: channels == Some(1),
        is_bytes,
        batch,
        height,
        width,
    })
}

fn fixed(dim: Option<&DimValue>) -> Option<usize> {
    match dim {
        Some(DimValue::DimValue(n)) if *n > 0 => Some(*n as usize),
        _ => None,
    }
}
