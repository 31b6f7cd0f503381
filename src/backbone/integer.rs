//! Operators of integer arithmetic in float form: the QLinear family, and the products of dynamic quantization.

use tract_onnx::pb::NodeProto;

use super::constant::{Constant, Values};
use super::onnx::attribute;
use super::quantized::{Grid, Rewriter, operand, output};

type Outcome<T> = Result<T, String>;

/// Operators (x, scale, zero, y's scale, y's zero) -> y, and what they are in float.
const UNARY: [(&str, &str); 5] = [
    ("QLinearGlobalAveragePool", "GlobalAveragePool"),
    ("QLinearAveragePool", "AveragePool"),
    ("QLinearSigmoid", "Sigmoid"),
    ("QLinearLeakyRelu", "LeakyRelu"),
    ("QLinearSoftmax", "Softmax"),
];

/// Operators (a, scale, zero, b, scale, zero, y's scale, y's zero) -> y.
const BINARY: [(&str, &str); 3] = [("QLinearAdd", "Add"), ("QLinearMul", "Mul"), ("QLinearMatMul", "MatMul")];

/// Whether an operator computes with integers.
pub(super) fn is(op: &str) -> bool {
    op.starts_with("QLinear") || matches!(op, "QGemm" | "ConvInteger" | "MatMulInteger" | "DynamicQuantizeLinear")
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
            _ => {
                if let Some(op) = float(&UNARY) {
                    if attribute(&node, "channels_last").is_some_and(|a| a.i != 0) {
                        return Err("it is laid out channels last; export the model in NCHW".into());
                    }
                    let x = self.activation(&node, 0)?;
                    return self.finish(&node, &op, vec![x], 3);
                }
                let Some(op) = float(&BINARY) else {
                    return Err("this operator has no float form here; export the model as QDQ".into());
                };
                let (a, b) = (self.activation(&node, 0)?, self.activation(&node, 3)?);
                self.finish(&node, &op, vec![a, b], 6)
            }
        }
    }

    /// x, W, bias in float, then y's grid. The bias is int32 with the scale of the products.
    fn q_conv(&mut self, node: &NodeProto) -> Outcome<()> {
        let mut input = vec![self.activation(node, 0)?, self.weight(node, 3, 0)?];
        if node.input.get(8).is_some_and(|name| !name.is_empty()) {
            input.push(self.bias(node, 8)?);
        }
        self.finish(node, "Conv", input, 6)
    }

    fn q_gemm(&mut self, node: &NodeProto) -> Outcome<()> {
        let transposed = attribute(node, "transB").is_some_and(|a| a.i != 0);
        let mut input = vec![self.activation(node, 0)?, self.weight(node, 3, usize::from(!transposed))?];
        if node.input.get(6).is_some_and(|name| !name.is_empty()) {
            input.push(self.bias(node, 6)?);
        }
        if node.input.get(7).is_some_and(|name| !name.is_empty()) {
            return self.finish(node, "Gemm", input, 7);
        }
        self.emit(node, "Gemm", input, output(node)?);
        Ok(())
    }

    /// (y's scale, y's zero, then x, scale, zero of each part).
    fn q_concat(&mut self, node: &NodeProto) -> Outcome<()> {
        let parts = (2..node.input.len()).step_by(3).map(|at| self.activation(node, at)).collect::<Outcome<_>>()?;
        self.finish(node, "Concat", parts, 0)
    }

    /// The float operator, and y cut off at the ends of the grid whose scale is input `scale`.
    fn finish(&mut self, node: &NodeProto, op: &str, input: Vec<String>, scale: usize) -> Outcome<()> {
        let grid = self.quantizer(operand(node, scale)?, node.input.get(scale + 1))?.grid()?;
        let exact = format!("{}.exact", output(node)?);
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

    /// An activation that is a float here, or a constant that becomes one.
    fn activation(&mut self, node: &NodeProto, at: usize) -> Outcome<String> {
        let name = operand(node, at)?;
        if self.grids.contains_key(name) {
            return Ok(name.clone());
        }
        let constant =
            self.coded(name, operand(node, at + 1)?, node.input.get(at + 2), |rank| Ok(rank.saturating_sub(1)))?;
        Ok(self.name_constant(node, name, constant))
    }

    /// A constant weight, quantized as a whole or along `axis`.
    fn weight(&mut self, node: &NodeProto, at: usize, axis: usize) -> Outcome<String> {
        let name = operand(node, at)?;
        let constant = self.coded(name, operand(node, at + 1)?, node.input.get(at + 2), |_| Ok(axis))?;
        Ok(self.name_constant(node, name, constant))
    }

    fn bias(&mut self, node: &NodeProto, at: usize) -> Outcome<String> {
        let scale = |at: usize| Ok(self.quantizer(operand(node, at)?, None)?.scales) as Outcome<Vec<f32>>;
        let (x, w) = (scale(1)?, scale(4)?);
        let products: Vec<f32> = w.iter().map(|w| w * x[0]).collect();
        let name = operand(node, at)?;
        let scale = format!("{}.{name}.scale", node.name);
        self.constants.insert(&scale, Constant { dims: vec![products.len()], values: Values::F32(products) });
        let constant = self.coded(name, &scale, None, |_| Ok(0))?;
        Ok(self.name_constant(node, name, constant))
    }

    fn name_constant(&mut self, node: &NodeProto, name: &str, constant: Constant) -> String {
        let name = format!("{}.{name}", node.name);
        self.constants.insert(&name, constant);
        name
    }

    /// (y, scale, zero) of x: here y is x itself and its scale 1.
    fn dynamic(&mut self, node: &NodeProto) -> Outcome<()> {
        let (x, y) = (operand(node, 0)?, output(node)?);
        self.push("Identity", node.name.clone(), vec![x.clone()], y);
        self.grids.insert(y.clone(), Grid::Dynamic);
        if let Some(scale) = node.output.get(1) {
            self.constants.insert(scale, Constant { dims: vec![], values: Values::F32(vec![1.0]) });
        }
        Ok(())
    }

    /// The integer product of a dynamically quantized x with constant codes; their scale follows in a later Mul.
    fn product(&mut self, node: &NodeProto) -> Outcome<()> {
        let x = operand(node, 0)?;
        if self.grids.get(x) != Some(&Grid::Dynamic) {
            return Err("its first input is not the output of a DynamicQuantizeLinear; export the model as QDQ".into());
        }
        let name = operand(node, 1)?;
        let zero = node.input.get(3).filter(|zero| !zero.is_empty());
        let channels = zero.map_or(Ok(1), |zero| self.count(zero))?;
        let one = format!("{}.one", node.name);
        self.constants.insert(&one, Constant { dims: vec![channels], values: Values::F32(vec![1.0; channels]) });
        let axis = usize::from(node.op_type == "MatMulInteger");
        let constant = self.coded(name, &one, zero, |_| Ok(axis))?;
        let weight = self.name_constant(node, name, constant);
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
        if node.op_type != "Mul" || a.dims.iter().product::<usize>() != 1 {
            return Ok(false);
        }
        let factor = a.to_f32()[0];
        let product =
            Constant { dims: b.dims.clone(), values: Values::F32(b.to_f32().iter().map(|v| v * factor).collect()) };
        self.constants.insert(output(node)?, product);
        Ok(true)
    }
}
