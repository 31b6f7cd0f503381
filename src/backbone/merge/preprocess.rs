//! Preprocessing within the graph: bytes of an image in, probabilities out.

use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::type_proto::Value;

use crate::backbone::splice::{Dim, Document, INPUT, NewNode, Setting, Slot, described};

/// What the graph's new input and output are called.
const IMAGE: &str = "image";
const PROBABILITIES: &str = "probabilities";

/// How bytes become what a network reads: x * factor - shift, channel by channel.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Normalize {
    /// Height and width in pixels.
    pub(crate) size: [usize; 2],
    pub(crate) factor: [f32; 3],
    pub(crate) shift: [f32; 3],
}

/// Makes the graph read `image`, uint8, [1, height, width, 3], in the place of its input `old`, and give `probabilities` of `classes` in the place
/// of its logits.
///
/// # Errors
/// Says why the graph cannot: a batch that is not of one image, or names that are taken.
pub(super) fn wrap(document: &mut Document, old: &str, normalize: &Normalize, classes: usize) -> Result<(), String> {
    let input = document.graph.input.iter().find(|input| input.name == old).ok_or("it has no such input")?;
    let Some(Value::TensorType(tensor)) = input.r#type.as_ref().and_then(|kind| kind.value.as_ref()) else {
        return Err("its input has no type".into());
    };
    let kind = tensor.elem_type;
    let batch = tensor.shape.as_ref().and_then(|shape| shape.dim.first()?.value.clone());
    if let Some(tract_onnx::pb::tensor_shape_proto::dimension::Value::DimValue(batch)) = batch
        && batch > 1
    {
        return Err(format!("it takes {batch} images at once; preprocessing is put before one image"));
    }
    let taken = |name: &str| name != old && (document.producer(name).is_some() || document.initializer(name).is_some());
    if let Some(name) = [IMAGE, PROBABILITIES].into_iter().find(|name| taken(name)) {
        return Err(format!("it has a tensor of the name {name} already"));
    }
    let float = DataType::Float as i64;
    let planes = document.names.fresh("image.planes");
    let plain = step(document, "Cast", vec![IMAGE.into()], vec![("to", Setting::Int(float))], None);
    let turned = vec![("perm", Setting::Ints(vec![0, 3, 1, 2]))];
    let turned = step(document, "Transpose", vec![plain], turned, None);
    let mut constant = |what: &str, values: [f32; 3]| {
        let raw: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        document.add_tensor(&format!("image.{what}"), float as i32, &[1, 3, 1, 1], &raw)
    };
    let (factor, shift) = (constant("factor", normalize.factor), constant("shift", normalize.shift));
    let scaled = step(document, "Mul", vec![turned, factor], vec![], None);
    let is_half = kind == DataType::Float16 as i32;
    let ready = step(document, "Sub", vec![scaled, shift], vec![], (!is_half).then(|| planes.clone()));
    if is_half {
        step(document, "Cast", vec![ready], vec![("to", Setting::Int(kind.into()))], Some(planes.clone()));
    }
    let readers = document.graph.node.iter().enumerate().flat_map(|(node, n)| {
        n.input.iter().enumerate().filter(|(_, name)| *name == old).map(move |(input, _)| Slot { node, input })
    });
    readers.collect::<Vec<_>>().into_iter().for_each(|slot| document.rewire(slot, planes.clone()));
    let logits = document.graph.output.first().map(|output| output.name.clone()).ok_or("it has no output")?;
    let (end, name) = (document.graph.node.len(), document.names.fresh("softmax"));
    let attributes = vec![("axis", Setting::Int(1))];
    let softmax = NewNode { op: "Softmax", name, inputs: vec![logits], output: PROBABILITIES.into(), attributes };
    document.add_node(end, softmax);
    let [height, width] = normalize.size;
    document.replace_part(INPUT, old, described(IMAGE, DataType::Uint8 as i32, &[1, height, width, 3].map(Dim::Size)));
    document.set_output(described(PROBABILITIES, DataType::Float as i32, &[1, classes].map(Dim::Size)));
    Ok(())
}

/// A node before all others; the tensor that it makes.
fn step(
    document: &mut Document,
    op: &'static str,
    inputs: Vec<String>,
    attributes: Vec<(&'static str, Setting)>,
    output: Option<String>,
) -> String {
    let wish = format!("image.{}", op.to_lowercase());
    let name = document.names.fresh(&wish);
    let output = output.unwrap_or_else(|| document.names.fresh(&wish));
    document.add_node(0, NewNode { op, name, inputs, output: output.clone(), attributes });
    output
}
