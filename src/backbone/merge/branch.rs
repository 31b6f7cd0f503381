//! A float branch beside a site: y = W x + B (A x), where A and B are given at run time.

use tract_onnx::pb::NodeProto;
use tract_onnx::pb::tensor_proto::DataType;

use crate::backbone::onnx::attribute;
use crate::backbone::splice::{Dim, Document, NewNode, Setting, Slot};

/// What a convolution A has of that of its site, so that B A reads the same positions. A has no groups: a site has none.
const WINDOW: [&str; 5] = ["kernel_shape", "strides", "pads", "dilations", "auto_pad"];

/// The inputs that the branch of a site reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Branch {
    /// The name of A.
    pub(crate) a: String,
    /// That of B.
    pub(crate) b: String,
    /// Height and width of the kernel of A, where the site is a convolution.
    pub(crate) kernel: Option<[usize; 2]>,
    /// Rows and columns of W.
    shape: [usize; 2],
}

impl Branch {
    /// Shapes of A and B with `rank` pairs. Of a convolution these are kernels, `[rank, in_channels, rows, columns]` and
    /// `[out_dim, rank, 1, 1]`; else what a row of x is multiplied with, `[in_dim, rank]` and `[rank, out_dim]`.
    pub(crate) fn shapes(&self, rank: usize) -> [Vec<usize>; 2] {
        let [out_dim, in_dim] = self.shape;
        match self.kernel {
            Some([rows, columns]) => {
                [vec![rank, in_dim / (rows * columns).max(1), rows, columns], vec![out_dim, rank, 1, 1]]
            }
            None => [vec![in_dim, rank], vec![rank, out_dim]],
        }
    }

    /// The axes of A and B that the pairs lie on.
    pub(crate) fn rank_axes(&self) -> [usize; 2] {
        if self.kernel.is_some() { [0, 1] } else { [1, 0] }
    }
}

/// Puts the branch beside the site `name`, whose weight is `shape`, out_dim x in_dim. Without values for A and B it adds zeros, of one pair:
/// not every runtime computes with none.
///
/// # Errors
/// Says why none can be put there: a node that computes with integers makes codes, and not y.
pub(super) fn put(
    document: &mut Document,
    name: &str,
    shape: [usize; 2],
    kernel: Option<[usize; 2]>,
) -> Result<Branch, String> {
    let node = document.node_named(name).ok_or("the file has no node of that name")?;
    let found = &document.graph.node[node];
    let op = match found.op_type.as_str() {
        "Conv" => "Conv",
        "Gemm" | "MatMul" => "MatMul",
        other => {
            return Err(format!(
                "its operator {other} computes with integers, so that no branch can be put beside it; take option `onnx`, or a network in QDQ form"
            ));
        }
    };
    let window = if op == "Conv" { window(found) } else { Vec::new() };
    let made = found.output.first().cloned().ok_or("its node makes nothing")?;
    let mut x = document.operand(Slot { node, input: 0 }).ok_or("its node reads nothing")?.to_owned();
    let is_half = operand_type(document, Slot { node, input: 1 }) == Some(DataType::Float16 as i32);
    let frozen = document.rename_output(node, &format!("{made}.frozen")).ok_or("its node makes nothing")?;
    let mut line = Line { document, site: name, before: node + 1 };
    let branch = line.inputs(shape, kernel);
    if is_half {
        x = line.cast(x, DataType::Float);
    }
    let low = line.step(op, "lora_down", vec![x, branch.a.clone()], window, None);
    let mut change = line.step(op, "lora_up", vec![low, branch.b.clone()], Vec::new(), None);
    if is_half {
        change = line.cast(change, DataType::Float16);
    }
    line.step("Add", "lora_sum", vec![frozen, change], Vec::new(), Some(made));
    Ok(branch)
}

/// Nodes in a line behind a site.
struct Line<'l, 'b> {
    document: &'l mut Document<'b>,
    site: &'l str,
    before: usize,
}

impl Line<'_, '_> {
    /// A and B as inputs whose default is zero.
    fn inputs(&mut self, shape: [usize; 2], kernel: Option<[usize; 2]>) -> Branch {
        let branch = Branch { a: String::new(), b: String::new(), kernel, shape };
        let ([a, b], [along_a, along_b]) = (branch.shapes(1), branch.rank_axes());
        Branch { a: self.input("lora_A", &a, along_a), b: self.input("lora_B", &b, along_b), ..branch }
    }

    fn input(&mut self, wish: &str, default: &[usize], rank_axis: usize) -> String {
        // Each site has a name of its own: dimensions of one name are equal, and ranks need not be.
        let rank = format!("{}.rank", self.site);
        let dim = |(axis, size): (usize, &usize)| if axis == rank_axis { Dim::Named(&rank) } else { Dim::Size(*size) };
        let dims: Vec<Dim> = default.iter().enumerate().map(dim).collect();
        let zeros = vec![0; size_of::<f32>() * default.iter().product::<usize>()];
        let wish = format!("{}.{wish}", self.site);
        self.document.add_default(&wish, DataType::Float as i32, &dims, (default, &zeros))
    }

    fn cast(&mut self, tensor: String, to: DataType) -> String {
        self.step("Cast", "lora_cast", vec![tensor], vec![("to", Setting::Int(to as i64))], None)
    }

    /// A node; the tensor that it makes, `output` or a new one.
    fn step(
        &mut self,
        op: &'static str,
        wish: &str,
        inputs: Vec<String>,
        attributes: Vec<(&'static str, Setting)>,
        output: Option<String>,
    ) -> String {
        let wish = format!("{}.{wish}", self.site);
        let name = self.document.names.fresh(&wish);
        let output = output.unwrap_or_else(|| self.document.names.fresh(&wish));
        self.document.add_node(self.before, NewNode { op, name, inputs, output: output.clone(), attributes });
        output
    }
}

/// The attributes of a convolution that say where it reads.
fn window(node: &NodeProto) -> Vec<(&'static str, Setting)> {
    let setting = |name: &'static str| {
        let found = attribute(node, name)?;
        let setting =
            if found.s.is_empty() { Setting::Ints(found.ints.clone()) } else { Setting::Text(found.s.clone()) };
        Some((name, setting))
    };
    WINDOW.into_iter().filter_map(setting).collect()
}

/// The type of an operand, followed back to a constant: what neither casts nor decodes makes what it reads.
fn operand_type(document: &Document, slot: Slot) -> Option<i32> {
    let mut name = document.operand(slot)?;
    loop {
        if let Some(held) = document.initializer(name) {
            return Some(document.graph.initializer[held].data_type);
        }
        let node = &document.graph.node[document.producer(name)?];
        let decoded = match node.op_type.as_str() {
            "Cast" => return attribute(node, "to").map(|to| to.i as i32),
            "Constant" => return attribute(node, "value")?.t.as_ref().map(|tensor| tensor.data_type),
            // As its scale.
            "DequantizeLinear" => 1,
            _ => 0,
        };
        name = node.input.get(decoded)?;
    }
}
