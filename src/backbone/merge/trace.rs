//! From the operand of a node back to the tensor of the file that holds its numbers.

use ndarray::{ArrayView2, ArrayViewD, IxDyn};

use crate::backbone::onnx::attribute;
use crate::backbone::splice::{Document, Slot};

/// How an operand comes from an initializer.
#[derive(Debug, Clone)]
pub(super) struct Chain {
    /// The initializer.
    pub(super) source: usize,
    /// The node that decodes its codes.
    pub(super) decoder: Option<usize>,
    /// The type that a Cast on the way gives the numbers.
    pub(super) cast: Option<i32>,
    /// Whether nothing else reads the initializer, or anything on the way.
    pub(super) is_own: bool,
    /// How the operand's numbers lie in the initializer; `None` where that is not known here.
    layout: Option<Layout>,
}

/// How the numbers of an operand lie in its source.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Layout {
    /// In the same order, whatever the shapes.
    Same,
    /// Axis i of the operand is axis `order[i]` of the source.
    Turned(Vec<usize>),
}

/// The chain behind an operand, through what moves numbers, casts or decodes them; `None` where they are worked out otherwise, or lie in
/// a node.
pub(super) fn chain(document: &Document, slot: Slot) -> Option<Chain> {
    let mut name = document.operand(slot)?;
    let (mut decoder, mut cast, mut is_own) = (None, None, true);
    let (mut turns, mut is_reshaped) = (Vec::new(), false);
    let source = loop {
        is_own &= document.uses(name) == 1;
        if let Some(source) = document.initializer(name) {
            break source;
        }
        let ix = document.producer(name)?;
        let node = &document.graph.node[ix];
        match node.op_type.as_str() {
            "Identity" => {}
            "Cast" => cast = cast.or_else(|| attribute(node, "to").map(|to| to.i as i32)),
            "Transpose" => turns.push(attribute(node, "perm").map(|perm| perm.ints.clone())),
            "Reshape" | "Flatten" | "Squeeze" | "Unsqueeze" => is_reshaped = true,
            "DequantizeLinear" if decoder.is_none() => decoder = Some(ix),
            _ => return None,
        }
        name = node.input.first()?;
    };
    let rank = document.graph.initializer[source].dims.len();
    let layout = match (is_reshaped, turns.is_empty()) {
        (_, true) => Some(Layout::Same),
        (true, false) => None,
        (false, false) => turned(rank, &turns).map(Layout::Turned),
    };
    // The axis of scales is said where the codes are decoded, so nothing may move them before.
    let is_direct =
        decoder.is_none_or(|ix| document.graph.node[ix].input.first() == Some(source_name(document, source)));
    Some(Chain { source, decoder, cast, is_own, layout: layout.filter(|_| is_direct) })
}

fn source_name<'d>(document: &'d Document, source: usize) -> &'d String {
    &document.graph.initializer[source].name
}

/// The order of a source's axes after Transposes, the last one first; without `perm` they turn all axes round.
fn turned(rank: usize, turns: &[Option<Vec<i64>>]) -> Option<Vec<usize>> {
    let mut order: Vec<usize> = (0..rank).collect();
    for perm in turns {
        let from = |axis: usize| match perm {
            Some(perm) => usize::try_from(*perm.get(axis)?).ok(),
            None => rank.checked_sub(axis + 1),
        };
        order = order.into_iter().map(from).collect::<Option<_>>()?;
    }
    let mut seen = order.clone();
    seen.sort_unstable();
    seen.iter().copied().eq(0..rank).then_some(order)
}

impl Chain {
    /// Numbers of an operand of shape `dims`, in the order of the source.
    pub(super) fn in_source<T: Copy>(&self, operand: Vec<T>, dims: &[usize]) -> Option<Vec<T>> {
        match self.layout.as_ref()? {
            Layout::Same => Some(operand),
            Layout::Turned(order) => {
                let view = ArrayViewD::from_shape(IxDyn(dims), &operand).ok()?;
                let axes: Option<Vec<usize>> =
                    (0..order.len()).map(|axis| order.iter().position(|&from| from == axis)).collect();
                let axes = axes.filter(|axes| axes.len() == dims.len())?;
                Some(view.permuted_axes(IxDyn(&axes)).iter().copied().collect())
            }
        }
    }
}

/// The form of a map's weight as an operand: how its matrix, `out_dim` x `in_dim`, lies there.
#[derive(Debug, Clone)]
pub(super) struct Form {
    /// The operand's shape.
    pub(super) dims: Vec<usize>,
    /// Its axis of output channels.
    pub(super) axis: usize,
}

impl Form {
    /// Of an operand in the order of the matrix (a kernel, or a matrix that its node transposes), or the other way round.
    pub(super) fn of([out_dim, in_dim]: [usize; 2], kernel: Option<[usize; 2]>, is_transposed: bool) -> Self {
        match kernel {
            Some([rows, columns]) => {
                Form { dims: vec![out_dim, in_dim / (rows * columns).max(1), rows, columns], axis: 0 }
            }
            None if is_transposed => Form { dims: vec![out_dim, in_dim], axis: 0 },
            None => Form { dims: vec![in_dim, out_dim], axis: 1 },
        }
    }

    /// The numbers of a matrix in the order of the operand.
    pub(super) fn operand<T: Copy>(&self, matrix: ArrayView2<T>) -> Vec<T> {
        if self.axis == 0 { matrix.iter().copied().collect() } else { matrix.t().iter().copied().collect() }
    }

    /// The numbers of an operand as a matrix.
    #[cfg(test)]
    fn matrix<T: Copy>(&self, operand: &[T]) -> Vec<T> {
        if self.axis == 0 {
            return operand.to_vec();
        }
        let turned = ArrayView2::from_shape((self.dims[0], self.dims[1]), operand).unwrap();
        turned.t().iter().copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use ndarray::{Array2, ArrayD};

    use super::*;

    #[test]
    fn numbers_find_their_way_back_through_any_turns() {
        let source = ArrayD::from_shape_fn(IxDyn(&[2, 3, 4]), |at| 100 * at[0] + 10 * at[1] + at[2]);
        let turns = [Some(vec![2, 0, 1]), None, Some(vec![0, 2, 1])];
        let mut operand = source.view();
        for perm in turns.iter().rev() {
            let axes: Vec<usize> = match perm {
                Some(perm) => perm.iter().map(|&axis| axis as usize).collect(),
                None => vec![2, 1, 0],
            };
            operand = operand.permuted_axes(IxDyn(&axes));
        }
        let order = turned(3, &turns).unwrap();
        let chain = Chain { source: 0, decoder: None, cast: None, is_own: true, layout: Some(Layout::Turned(order)) };
        let back = chain.in_source(operand.iter().copied().collect(), operand.shape()).unwrap();
        assert_eq!(back, source.iter().copied().collect::<Vec<_>>());
        assert_eq!(turned(2, &[Some(vec![0, 0])]), None);
        assert_eq!(turned(2, &[Some(vec![0, -1])]), None);
    }

    #[test]
    fn a_matrix_lies_as_its_node_reads_it() {
        let matrix = Array2::from_shape_fn((2, 3), |(row, column)| 10 * row + column);
        for form in [Form::of([2, 3], None, true), Form::of([2, 3], None, false), Form::of([2, 3], Some([1, 3]), false)]
        {
            let operand = form.operand(matrix.view());
            assert_eq!(form.dims.iter().product::<usize>(), 6);
            assert_eq!(form.matrix(&operand), matrix.iter().copied().collect::<Vec<_>>());
        }
        assert_eq!(Form::of([2, 3], None, false).operand(matrix.view()), [0, 10, 1, 11, 2, 12]);
    }
}
