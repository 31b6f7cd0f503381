//! What is asked of the nodes of a typed graph.

use tract_onnx::prelude::*;
use tract_onnx::tract_core::internal::*;
use tract_onnx::tract_core::ops::konst::Const;
use tract_onnx::tract_core::ops::source::TypedSource;

/// The concrete shape of a fact.
pub(crate) fn concrete(fact: &TypedFact) -> TractResult<TVec<usize>> {
    let shape = fact.shape.as_concrete().with_context(|| format!("shape {:?} is not fixed", fact.shape))?;
    Ok(shape.into())
}

/// The name of the ONNX node that a typed node came from: tract appends to it.
pub(crate) fn onnx_name<'n>(names: &'n [String], typed: &'n str) -> &'n str {
    let of =
        |name: &&String| typed.strip_prefix(name.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
    names.iter().filter(of).max_by_key(|name| name.len()).map_or(typed, String::as_str)
}

/// Whether a node makes a value without inputs.
pub(crate) fn is_source(node: &TypedNode) -> bool {
    node.op_is::<TypedSource>() || node.op_is::<Const>()
}
