//! The weight of one site, written in the form, the type and the layout in which the file holds it.

use half::f16;
use ndarray::ArrayView2;
use tract_onnx::pb::TensorProto;
use tract_onnx::pb::tensor_proto::DataType;

use super::bias::follow;
use super::codes::{Coded, Grid, encode};
use super::trace::{Chain, Form, chain};
use crate::adapter::Moment;
use crate::backbone::onnx::attribute;
use crate::backbone::splice::{Document, NewNode, Setting, Slot};
use crate::backbone::weights::{Codes, FrozenWeight};

/// What has become of a site's weight.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Learned<'w> {
    /// The node's name.
    pub(crate) name: &'w str,
    /// Height and width of a convolution's kernel.
    pub(crate) kernel: Option<[usize; 2]>,
    /// As it ships.
    pub(crate) frozen: &'w FrozenWeight,
    /// As it is to be, `out_dim` x `in_dim`.
    pub(crate) weight: ArrayView2<'w, f32>,
    /// Of what it is multiplied with, where that is known.
    pub(crate) moment: Option<&'w Moment>,
    /// Whether it is to be written in floats, whatever the file has.
    pub(crate) in_float: bool,
}

/// The operands of a map that hold its weight.
struct Operands {
    weight: Slot,
    /// Scale and zero-point of its codes, where the file names them.
    quantizer: Option<[Slot; 2]>,
    /// Whether the node itself takes codes.
    takes_codes: bool,
    bias: Option<Slot>,
}

/// Writes the weight of a site; the number of values that its codes, or f16, could not hold and were cut off.
///
/// # Errors
/// Says why it has no place.
pub(super) fn write(document: &mut Document, learned: &Learned) -> Result<usize, String> {
    let node = document.node_named(learned.name).ok_or("the file has no node of that name")?;
    let operands = operands(document, node)?;
    let is_transposed = attribute(&document.graph.node[node], "transB").is_some_and(|a| a.i != 0);
    let form = Form::of([learned.frozen.out_dim, learned.frozen.in_dim], learned.kernel, is_transposed);
    if form.dims.iter().product::<usize>() != learned.weight.len() {
        return Err("its weight has another size than its node says".into());
    }
    let chain = chain(document, operands.weight);
    match &learned.frozen.codes {
        Codes::Int8 { scales, zeros, .. } if !learned.in_float || operands.takes_codes => {
            let zero = |row: usize| zeros.get(row).copied().unwrap_or(0);
            let grids = scales.iter().enumerate().map(|(row, scale)| Grid { scale: *scale, zero: zero(row) });
            let place = Place { node, operands, chain, form };
            place.write_codes(document, learned, &grids.collect::<Vec<_>>())
        }
        _ => Ok(write_floats(document, operands.weight, chain.as_ref(), &form, learned.weight)),
    }
}

fn operands(document: &Document, node: usize) -> Result<Operands, String> {
    let slot = |input: usize| Slot { node, input };
    let [weight, scale, zero] = [3, 4, 5].map(slot);
    Ok(match document.graph.node[node].op_type.as_str() {
        "Conv" | "Gemm" | "MatMul" => {
            let decoder = chain(document, slot(1)).and_then(|chain| chain.decoder);
            let quantizer = decoder.map(|node| [1, 2].map(|input| Slot { node, input }));
            Operands { weight: slot(1), quantizer, takes_codes: false, bias: Some(slot(2)) }
        }
        "QLinearConv" => Operands { weight, quantizer: Some([scale, zero]), takes_codes: true, bias: Some(slot(8)) },
        "QGemm" => Operands { weight, quantizer: Some([scale, zero]), takes_codes: true, bias: Some(slot(6)) },
        "QLinearMatMul" => Operands { weight, quantizer: Some([scale, zero]), takes_codes: true, bias: None },
        "ConvInteger" | "MatMulInteger" => {
            let quantizer = later_scale(document, node).map(|scale| [scale, slot(3)]);
            Operands { weight: slot(1), quantizer, takes_codes: true, bias: None }
        }
        op => return Err(format!("its operator {op} holds no weight that can be written")),
    })
}

/// The constant that scales an integer product: an operand of a Mul behind it, or of the Mul that makes this one's factor.
fn later_scale(document: &Document, node: usize) -> Option<Slot> {
    let nodes = &document.graph.node;
    let reader = |tensor: &str| nodes.iter().position(|node| node.input.iter().any(|input| input == tensor));
    let mut tensor = nodes[node].output.first()?;
    loop {
        let ix = reader(tensor)?;
        match nodes[ix].op_type.as_str() {
            "Cast" | "Identity" => tensor = nodes[ix].output.first()?,
            "Mul" => {
                let input = nodes[ix].input.iter().position(|input| input != tensor)?;
                let slot = Slot { node: ix, input };
                if document.constant(slot).is_some() {
                    return Some(slot);
                }
                let factor = document.producer(document.operand(slot)?).filter(|ix| nodes[*ix].op_type == "Mul")?;
                let both = [0, 1].map(|input| Slot { node: factor, input });
                return both.into_iter().find(|slot| document.constant(*slot).is_some());
            }
            _ => return None,
        }
    }
}

/// Floats in the type of the file: in the initializer, where nothing else reads it, or in a new one.
fn write_floats(
    document: &mut Document,
    slot: Slot,
    chain: Option<&Chain>,
    form: &Form,
    weight: ArrayView2<f32>,
) -> usize {
    let operand = form.operand(weight);
    let of_source = |source: usize| document.graph.initializer[source].data_type;
    if let Some(own) = chain.filter(|chain| chain.is_own && is_float(of_source(chain.source)))
        && let Some(values) = own.in_source(operand.clone(), &form.dims)
    {
        let (raw, saturated) = float_bytes(&values, of_source(own.source));
        document.set_values(own.source, raw);
        return saturated;
    }
    let constant = document.constant(slot).map(|tensor| tensor.data_type);
    let of_chain = chain.map(|chain| chain.cast.unwrap_or_else(|| of_source(chain.source)));
    let data_type = constant.or(of_chain).filter(|data_type| is_float(*data_type)).unwrap_or(DataType::Float as i32);
    let (raw, saturated) = float_bytes(&operand, data_type);
    let name = document.add_tensor(&new_name(document, slot), data_type, &form.dims, &raw);
    document.rewire(slot, name);
    saturated
}

fn new_name(document: &Document, slot: Slot) -> String {
    format!("{}.weight", document.graph.node[slot.node].name)
}

fn is_float(data_type: i32) -> bool {
    [DataType::Float as i32, DataType::Float16 as i32].contains(&data_type)
}

/// The bytes of `values` as f32 or f16, and how many of them f16 cannot hold.
fn float_bytes(values: &[f32], data_type: i32) -> (Vec<u8>, usize) {
    if data_type == DataType::Float as i32 {
        return (values.iter().flat_map(|value| value.to_le_bytes()).collect(), 0);
    }
    let most = f16::MAX.to_f32();
    let saturated = values.iter().filter(|value| value.abs() > most).count();
    let half = |value: &f32| f16::from_f32(value.clamp(-most, most)).to_le_bytes();
    (values.iter().flat_map(half).collect(), saturated)
}

/// Where the codes of a weight belong.
struct Place {
    node: usize,
    operands: Operands,
    chain: Option<Chain>,
    form: Form,
}

impl Place {
    fn write_codes(self, document: &mut Document, learned: &Learned, grids: &[Grid]) -> Result<usize, String> {
        let count = |slot: Slot| document.constant(slot).map(|t| t.dims.iter().product::<i64>());
        let [scales, zeros] = self.operands.quantizer.map_or([None, None], |slots| slots.map(count));
        let is_one = scales.map_or_else(|| grids.iter().all(|grid| *grid == grids[0]), |count| count == 1);
        let one_zero = zeros == Some(1) && !is_one && grids.iter().any(|grid| grid.zero != 0);
        // Without a scale that can be named and written, codes are all that can change.
        let is_fixed = one_zero || (scales.is_none() && self.operands.takes_codes);
        let coded = encode(learned.weight, grids, [is_one, is_fixed], learned.moment);
        let saturated = coded.saturated;
        let source = self.chain.as_ref().map(|chain| &document.graph.initializer[chain.source]);
        let held = source.or_else(|| document.constant(self.operands.weight)).map(|tensor| tensor.data_type);
        let kind = held.filter(|kind| is_code(*kind)).unwrap_or(DataType::Int8 as i32);
        let own = self.chain.as_ref().filter(|chain| chain.is_own && held == Some(kind));
        let codes = self.form.operand(coded.codes.view());
        if let Some((source, codes)) =
            own.and_then(|own| Some((own.source, own.in_source(codes.clone(), &self.form.dims)?)))
        {
            document.set_values(source, code_bytes(&codes, kind));
        } else if self.operands.takes_codes {
            let raw = code_bytes(&codes, kind);
            let name = document.add_tensor(&new_name(document, self.operands.weight), kind, &self.form.dims, &raw);
            document.rewire(self.operands.weight, name);
        } else {
            self.add_decoder(document, &codes, &coded, (kind, is_one));
            return Ok(saturated);
        }
        self.write_grids(document, grids, &coded, kind)?;
        Ok(saturated)
    }

    /// Scales, zero-points and bias codes, where the grids have changed.
    fn write_grids(&self, document: &mut Document, old: &[Grid], coded: &Coded, kind: i32) -> Result<(), String> {
        let Some([scale, zero]) = self.operands.quantizer.filter(|_| coded.grids != old) else { return Ok(()) };
        let tensor = document.constant(scale).ok_or("its scale is not a constant")?;
        let (dims, mut scales) = (shape(tensor), f32_values(tensor));
        // The file's scale may be a part of the whole one, which other factors complete.
        for ((part, old), new) in scales.iter_mut().zip(old).zip(&coded.grids) {
            *part = if *part == old.scale { new.scale } else { *part * (new.scale / old.scale) };
        }
        let count = scales.len();
        let raw = scales.iter().flat_map(|scale| scale.to_le_bytes()).collect();
        document.set_constant(scale, DataType::Float as i32, &dims, raw);
        let zeros: Vec<i8> = coded.grids.iter().take(count).map(|grid| grid.zero).collect();
        if old.iter().zip(&zeros).any(|(old, new)| old.zero != *new) {
            document.set_constant(zero, kind, &dims, code_bytes(&zeros, kind));
        }
        if let Some(bias) = self.operands.bias {
            let ratios: Vec<f32> = old.iter().zip(&coded.grids).map(|(old, new)| new.scale / old.scale).collect();
            follow(document, bias, &ratios, self.operands.takes_codes);
        }
        Ok(())
    }

    /// A weight that others read too, or that the file works out: codes of its own, and the node that decodes them.
    fn add_decoder(&self, document: &mut Document, codes: &[i8], coded: &Coded, (kind, is_one): (i32, bool)) {
        let grids = &coded.grids[..if is_one { 1 } else { coded.grids.len() }];
        let dims: &[usize] = if is_one { &[] } else { &[grids.len()] };
        let name = new_name(document, self.operands.weight);
        let mut add = |what: &str, data_type: i32, dims: &[usize], raw: Vec<u8>| {
            document.add_tensor(&format!("{name}.{what}"), data_type, dims, &raw)
        };
        let scales = grids.iter().flat_map(|grid| grid.scale.to_le_bytes()).collect();
        let zeros: Vec<i8> = grids.iter().map(|grid| grid.zero).collect();
        let inputs = vec![
            add("codes", kind, &self.form.dims, code_bytes(codes, kind)),
            add("scale", DataType::Float as i32, dims, scales),
            add("zero", kind, dims, code_bytes(&zeros, kind)),
        ];
        let (node, output) = (document.names.fresh(&format!("{name}.decode")), document.names.fresh(&name));
        let axis = (!is_one).then_some(("axis", Setting::Int(self.form.axis as i64)));
        let attributes = axis.into_iter().collect();
        let decoder = NewNode { op: "DequantizeLinear", name: node, inputs, output: output.clone(), attributes };
        document.add_node(self.node, decoder);
        document.rewire(self.operands.weight, output);
    }
}

fn is_code(data_type: i32) -> bool {
    [DataType::Int8 as i32, DataType::Uint8 as i32].contains(&data_type)
}

/// Codes as the file holds them; here those of uint8 are less 128.
fn code_bytes(codes: &[i8], kind: i32) -> Vec<u8> {
    let flip = if kind == DataType::Uint8 as i32 { 128 } else { 0 };
    codes.iter().map(|code| *code as u8 ^ flip).collect()
}

pub(super) fn shape(tensor: &TensorProto) -> Vec<usize> {
    tensor.dims.iter().map(|&dim| dim as usize).collect()
}

/// The values of a tensor of f32.
pub(super) fn f32_values(tensor: &TensorProto) -> Vec<f32> {
    if tensor.raw_data.is_empty() {
        return tensor.float_data.clone();
    }
    tensor.raw_data.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
}
