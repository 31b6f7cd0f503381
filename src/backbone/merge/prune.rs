//! What only the old classifier needed.

use std::collections::HashSet;

use crate::backbone::onnx::reads;
use crate::backbone::splice::{ANNOTATION, Document, NODE, VALUE_INFO};

/// The nodes that make `tensors` and what they depend on, and every tensor among these.
pub(super) fn ancestors(document: &Document, tensors: &[&str]) -> (HashSet<usize>, HashSet<String>) {
    let (mut nodes, mut seen) = (HashSet::new(), HashSet::new());
    let mut open: Vec<String> = tensors.iter().map(|name| (*name).to_owned()).collect();
    while let Some(name) = open.pop() {
        if let Some(ix) = document.producer(&name)
            && nodes.insert(ix)
        {
            open.extend(reads(&document.graph.node[ix]).into_iter().map(str::to_owned));
        }
        seen.insert(name);
    }
    (nodes, seen)
}

/// Leaves out the nodes that the file's own outputs needed and what is put in does not, whatever reads them, the constants that only they
/// have read, and what is said of their tensors. What nothing needed before stays.
pub(super) fn prune(document: &mut Document) {
    let outputs = document.graph.output.iter().map(|output| output.name.as_str());
    let wanted: Vec<&str> = outputs.chain(document.given_up.iter().map(String::as_str)).collect();
    let (before, _) = ancestors(document, &wanted);
    let needed: Vec<&str> =
        document.new_nodes.iter().flat_map(|(_, node)| node.inputs.iter().map(String::as_str)).collect();
    let (after, _) = ancestors(document, &needed);
    let mut gone: HashSet<usize> = before.difference(&after).copied().collect();
    let made_by = |ix: usize| document.graph.node[ix].output.iter().filter(|name| !name.is_empty()).cloned();
    let mut tensors: HashSet<String> = gone.iter().flat_map(|&ix| made_by(ix)).collect();
    for (ix, node) in document.graph.node.iter().enumerate() {
        if !after.contains(&ix) && reads(node).into_iter().any(|name| tensors.contains(name)) && gone.insert(ix) {
            tensors.extend(made_by(ix));
        }
    }
    let mut dropped: Vec<(u64, usize)> = gone.iter().map(|&ix| (NODE, ix)).collect();
    for number in [VALUE_INFO, ANNOTATION] {
        let names = document.part_names(number).into_iter().enumerate();
        dropped.extend(names.filter(|(_, name)| tensors.contains(name)).map(|(ix, _)| (number, ix)));
    }
    dropped.into_iter().for_each(|(number, index)| document.drop_part(number, index));
    document.drop_idle();
}
