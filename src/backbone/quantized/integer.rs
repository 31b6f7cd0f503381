//! Operators of integer arithmetic in float form: the QLinear family, and the products of dynamic quantization.

use tract_onnx::pb::NodeProto;

use super::grid::{Grid, Kind, Outcome, Quantizer};
use super::rewriter::{NOT_BLOCKED, Rewriter, operand, output};
use crate::backbone::onnx::{attribute, int_attribute};
use crate::backbone::weights::{Constant, Values};

/// Operators (x, scale, zero, y's scale, y's zero) -> y, and what they are in float.
const UNARY: [(&str, &str); 4] = [
    ("QLinearGlobalAveragePool", "GlobalAveragePool"),
    ("QLinearAveragePool", "AveragePool"),
    ("QLinearSigmoid", "Sigmoid"),
    ("QLinearLeakyRelu", "LeakyRelu"),
];

/// Operators (a, scale, zero, b, scale, zero, y's scale, y's zero) -> y.
const BINARY: [(&str, &str); 3] = [("QLinearAdd", "Add"), ("QLinearMul", "Mul"), ("QLinearMatMul", "MatMul")];

/// Operators whose weight has a scale for every few numbers of a row.
const BLOCKED: [&str; 5] = ["MatMulNBits", "MatMulBnb4", "MatMulFpQ4", "GatherBlockQuantized", "QMoE"];

/// The opset from which on a Softmax runs along one axis; before, it ran over that axis and all behind it.
const ONE_AXIS_OPSET: i64 = 13;

/// Whether an operator computes with integers.
pub(super) fn is_integer_op(op: &str) -> bool {
    op.starts_with("QLinear")
        || BLOCKED.contains(&op)
        || matches!(op, "QGemm" | "ConvInteger" | "MatMulInteger" | "DynamicQuantizeLinear")
        || matches!(op, "QAttention" | "DynamicQuantizeMatMul" | "MatMulIntegerToFloat")
}

impl Rewriter<'_> {
    pub(super) fn integer(&mut self, node: NodeProto) -> Outcome<()> {
        let float =
            |table: &[(&str, &str)]| table.iter().find(|(op, _)| *op == node.op_type).map(|(_, f)| f.to_string());
        match node.op_type.as_str() {
            "QLinearConv" => self.q_conv(&node),
            "QGemm" => self.q_gemm(&node),
            "QLinearConcat" => self.q_concat(&node),
            "DynamicQuantizeLinear" => self.dynamic(&node),
            "MatMulInteger" | "ConvInteger" => self.product(&node),
            "QLinearSoftmax" => self.q_softmax(node),
            op if BLOCKED.contains(&op) => Err(NOT_BLOCKED.into()),
            _ => {
                if let Some(op) = float(&UNARY) {
                    if attribute(&node, "channels_last").is_some_and(|a| a.i != 0) {
                        return Err("it is laid out channels last; export the model in NCHW".into());
                    }
                    let (x, kind) = self.activation(&node, 0)?;
                    return self.finish(&node, &op, vec![x], (3, kind));
                }
                let Some(op) = float(&BINARY) else {
                    return Err("this operator has no float form here; export the model as QDQ".into());
                };
                let ((a, kind), (b, _)) = (self.activation(&node, 0)?, self.activation(&node, 3)?);
                self.finish(&node, &op, vec![a, b], (6, kind))
            }
        }
    }

    /// Its attribute `opset` says what its axis means, which the file's own opset decides for the float operator.
    fn q_softmax(&mut self, mut node: NodeProto) -> Outcome<()> {
        let axis = attribute(&node, "axis").map_or(-1, |a| a.i);
        let one_axis = attribute(&node, "opset").is_none_or(|a| a.i >= ONE_AXIS_OPSET);
        if axis != -1 && one_axis != (self.opset >= ONE_AXIS_OPSET) {
            return Err(format!(
                "it means its axis {axis} as in another opset than the file's, {}; export the model as QDQ",
                self.opset
            ));
        }
        node.attribute = vec![int_attribute("axis", axis)];
        let (x, kind) = self.activation(&node, 0)?;
        self.finish(&node, "Softmax", vec![x], (3, kind))
    }

    /// x, W, bias in float, then y's grid. The bias is int32 with the scale of the products.
    fn q_conv(&mut self, node: &NodeProto) -> Outcome<()> {
        let (x, kind) = self.activation(node, 0)?;
        let mut input = vec![x, self.weight(node, 0, 1.0)?];
        if node.input.get(8).is_some_and(|name| !name.is_empty()) {
            input.push(self.bias(node, 8, 1.0)?);
        }
        self.finish(node, "Conv", input, (6, kind))
    }

    /// alpha goes into the scales of W, and of the bias.
    fn q_gemm(&mut self, node: &NodeProto) -> Outcome<()> {
        let alpha = attribute(node, "alpha").map_or(1.0, |a| a.f);
        if !(alpha.is_finite() && alpha > 0.0) {
            return Err(format!("its alpha is {alpha}; only a positive one is supported"));
        }
        let transposed = attribute(node, "transB").is_some_and(|a| a.i != 0);
        let (x, kind) = self.activation(node, 0)?;
        let mut input = vec![x, self.weight(node, usize::from(!transposed), alpha)?];
        if node.input.get(6).is_some_and(|name| !name.is_empty()) {
            input.push(self.bias(node, 6, alpha)?);
        }
        let mut plain = node.clone();
        plain.attribute.retain(|a| a.name != "alpha");
        if node.input.get(7).is_some_and(|name| !name.is_empty()) {
            return self.finish(&plain, "Gemm", input, (7, kind));
        }
        self.emit(&plain, "Gemm", input, output(node)?);
        Ok(())
    }

    /// (y's scale, y's zero, then x, scale, zero of each part).
    fn q_concat(&mut self, node: &NodeProto) -> Outcome<()> {
        let parts = (2..node.input.len()).step_by(3).map(|at| self.activation(node, at));
        let parts = parts.collect::<Outcome<Vec<(String, Kind)>>>()?;
        let kind = parts.first().map_or(Kind::Uint8, |(_, kind)| *kind);
        self.finish(node, "Concat", parts.into_iter().map(|(name, _)| name).collect(), (0, kind))
    }

    /// The float operator, and y cut off at the ends of the grid whose scale is input `scale`; without a zero-point it is
    /// of type `kind`.
    fn finish(&mut self, node: &NodeProto, op: &str, input: Vec<String>, (scale, kind): (usize, Kind)) -> Outcome<()> {
        let grid = self.quantizer(operand(node, scale)?, node.input.get(scale + 1))?.grid(kind)?;
        let exact = self.names.fresh(&format!("{}.exact", output(node)?));
        self.emit(node, op, input, &exact);
        let end = NodeProto { name: format!("{}.end", node.name), ..NodeProto::default() };
        self.clip(&end, &exact, output(node)?, grid);
        Ok(())
    }

    /// The node with another operator, its attributes kept.
    fn emit(&mut self, node: &NodeProto, op: &str, input: Vec<String>, to: &str) {
        let domain = String::new();
        self.nodes.push(NodeProto { op_type: op.into(), domain, input, output: vec![to.into()], ..node.clone() });
    }

    /// An activation that is a float here, or a constant that becomes one; with the type of its codes in the file.
    fn activation(&mut self, node: &NodeProto, at: usize) -> Outcome<(String, Kind)> {
        let (name, scale, zero) = (operand(node, at)?, operand(node, at + 1)?, node.input.get(at + 2));
        if let Some(&grid) = self.grids.get(name) {
            self.check_reader(grid, scale, zero)?;
            return Ok((name.clone(), grid.kind()));
        }
        let kind = self.integers_named(name)?.kind;
        let constant = self.coded(name, self.quantizer(scale, zero)?, |rank| Ok(rank.saturating_sub(1)))?;
        Ok((self.name_constant(node, name, constant)?, kind))
    }

    /// The constant weight, quantized as a whole or along `axis`, times `factor`.
    fn weight(&mut self, node: &NodeProto, axis: usize, factor: f32) -> Outcome<String> {
        let name = operand(node, 3)?;
        let mut quantizer = self.quantizer(operand(node, 4)?, node.input.get(5))?;
        quantizer.scales.iter_mut().for_each(|scale| *scale *= factor);
        let constant = self.coded(name, quantizer, |_| Ok(axis))?;
        self.name_constant(node, name, constant)
    }

    /// The bias, whose scale is that of the products times `factor`.
    fn bias(&mut self, node: &NodeProto, at: usize, factor: f32) -> Outcome<String> {
        let scales = |at: usize| Ok(self.quantizer(operand(node, at)?, None)?.scales) as Outcome<Vec<f32>>;
        let (x, w) = (scales(1)?, scales(4)?);
        let products = w.iter().map(|w| factor * x[0] * w).collect();
        let name = operand(node, at)?;
        let constant = self.coded(name, Quantizer::symmetric(products), |_| Ok(0))?;
        self.name_constant(node, name, constant)
    }

    fn name_constant(&mut self, node: &NodeProto, name: &str, constant: Constant) -> Outcome<String> {
        let name = self.names.fresh(&format!("{}.{name}", node.name));
        self.constants.insert_made(&name, constant)?;
        Ok(name)
    }

    /// (y, scale, zero) of x: here y is x itself and its scale 1.
    fn dynamic(&mut self, node: &NodeProto) -> Outcome<()> {
        let (x, y) = (operand(node, 0)?, output(node)?);
        self.push("Identity", node.name.clone(), vec![x.clone()], y);
        self.grids.insert(y.clone(), Grid::Dynamic(self.dynamic.len()));
        let named = |at: usize| node.output.get(at).cloned().unwrap_or_default();
        self.constants.insert(&named(1), Constant { dims: vec![], values: Values::F32([1.0].into()) });
        self.dynamic.push([named(1), named(2)]);
        Ok(())
    }

    /// The integer product of a dynamically quantized x with constant codes; their scale follows in a later Mul.
    fn product(&mut self, node: &NodeProto) -> Outcome<()> {
        let x = operand(node, 0)?;
        let Some(&Grid::Dynamic(quantizer)) = self.grids.get(x) else {
            return Err("its first input is not the output of a DynamicQuantizeLinear; export the model as QDQ".into());
        };
        if node.input.get(2) != Some(&self.dynamic[quantizer][1]) {
            return Err("its first zero-point is not the one that its DynamicQuantizeLinear gives".into());
        }
        let name = operand(node, 1)?;
        let mut codes = Quantizer::symmetric(vec![1.0]);
        if let Some(zero) = node.input.get(3).filter(|zero| !zero.is_empty()) {
            let zeros = self.integers_named(zero).map_err(|what| format!("its zero-point {what}"))?;
            let (named, zeros) = (Some((zero.clone(), zeros.kind)), zeros.to_i32());
            codes = Quantizer { scales: vec![1.0; zeros.len()], zeros, named };
        }
        let axis = usize::from(node.op_type == "MatMulInteger");
        let constant = self.coded(name, codes, |_| Ok(axis))?;
        let weight = self.name_constant(node, name, constant)?;
        let op = node.op_type.trim_end_matches("Integer").to_string();
        self.emit(node, &op, vec![x.clone(), weight.clone()], output(node)?);
        self.unscaled.insert(output(node)?.clone(), weight);
        Ok(())
    }

    /// Whether `node` carries an integer product on to its scale, which then goes into the weight's own scales.
    pub(super) fn scale_of_product(&mut self, node: &NodeProto) -> Outcome<bool> {
        let Some(at) = node.input.iter().position(|input| self.unscaled.contains_key(input)) else {
            return self.fold_scales(node);
        };
        let (product, y) = (node.input[at].clone(), output(node)?.clone());
        let weight = self.unscaled[&product].clone();
        match node.op_type.as_str() {
            "Cast" => {
                self.unscaled.insert(y.clone(), weight);
            }
            "Mul" => {
                let scale = operand(node, 1 - at)?;
                let known = self.constants.known(scale).map(Constant::to_f32);
                let scales = known
                    .ok_or_else(|| format!("it scales an integer product with {scale}, which is not a constant"))?;
                self.constants.scale(&weight, &scales)?;
            }
            _ => return Err("it computes with the integers of a product before their scale is applied".into()),
        }
        self.push("Identity", node.name.clone(), vec![product], &y);
        Ok(true)
    }

    /// Whether `node` multiplies two constant scales, which is worked out here.
    fn fold_scales(&mut self, node: &NodeProto) -> Outcome<bool> {
        let [a, b] = &node.input[..] else { return Ok(false) };
        let (Some(a), Some(b)) = (self.constants.known(a), self.constants.known(b)) else { return Ok(false) };
        let is_one = |scale: &Constant| scale.dims.iter().product::<usize>() == 1;
        let (one, scales) = if is_one(a) { (a, b) } else { (b, a) };
        if node.op_type != "Mul" || !is_one(one) {
            return Ok(false);
        }
        let factor = one.to_f32()[0];
        let values = Values::F32(scales.to_f32().iter().map(|v| v * factor).collect());
        let product = Constant { dims: scales.dims.clone(), values };
        self.constants.insert_made(output(node)?, product)?;
        Ok(true)
    }
}
