//! Names: those that are this crate's own, new ones, and the nearest to one that is not there.

use std::collections::HashSet;

use tract_onnx::pb::GraphProto;

/// The operator that stands for a frozen map once its weight has been taken; its attribute `index` finds it.
pub(crate) const MAP_OP: &str = "SrloraMap";
/// Attributes of this crate's own nodes begin so.
pub(super) const OWN_PREFIX: &str = "srlora_";

/// Every name in a graph, so that new ones can be told apart.
pub(crate) struct Names(HashSet<String>);

impl Names {
    pub(crate) fn of(graph: &GraphProto) -> Self {
        let in_nodes = graph.node.iter().flat_map(|n| n.input.iter().chain(&n.output).chain([&n.name]));
        let values = graph.input.iter().chain(&graph.output).chain(&graph.value_info).map(|v| &v.name);
        Names(in_nodes.chain(values).chain(graph.initializer.iter().map(|t| &t.name)).cloned().collect())
    }

    /// `wish`, or if there is one of that name `wish` with a number.
    pub(crate) fn fresh(&mut self, wish: &str) -> String {
        let mut name = wish.to_string();
        let mut count = 1;
        while !self.0.insert(name.clone()) {
            count += 1;
            name = format!("{wish}.{count}");
        }
        name
    }
}

/// A node's name is its first output's where the exporter gave none, and is made unique where it gave one twice.
pub(crate) fn name_nodes(graph: &mut GraphProto) {
    let mut seen = HashSet::new();
    for node in &mut graph.node {
        if node.name.is_empty()
            && let Some(output) = node.output.first()
        {
            node.name.clone_from(output);
        }
        if !seen.insert(node.name.clone()) {
            node.name = format!("{}#{}", node.name, node.output.first().map_or("", String::as_str));
            seen.insert(node.name.clone());
        }
    }
}

/// The five names nearest to `wanted` by Jaro-Winkler similarity, which prefers a common beginning; in byte order on a tie.
pub(crate) fn nearest<'n>(wanted: &str, names: impl Iterator<Item = &'n str>) -> Vec<&'n str> {
    let mut names: Vec<&str> = names.collect();
    let distance = |name: &str| 1.0 - strsim::jaro_winkler(wanted, name);
    names.sort_by(|a, b| distance(a).total_cmp(&distance(b)).then(a.cmp(b)));
    names.dedup();
    names.truncate(5);
    names
}
