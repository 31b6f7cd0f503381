//! ONNX files of at most 1 MiB, written field by field (numbers as in onnx.proto3).

type Bytes = Vec<u8>;

fn varint(mut value: u64) -> Bytes {
    let mut bytes = Vec::new();
    while value > 127 {
        bytes.push(value as u8 | 128);
        value >>= 7;
    }
    bytes.push(value as u8);
    bytes
}

fn int(field: u64, value: i64) -> Bytes {
    [varint(field << 3), varint(value as u64)].concat()
}

fn bytes(field: u64, content: impl AsRef<[u8]>) -> Bytes {
    let content = content.as_ref();
    [varint(field << 3 | 2), varint(content.len() as u64), content.to_vec()].concat()
}

fn tensor(name: &str, kind: i64, dims: &[i64], raw: &[u8]) -> Bytes {
    let dims: Bytes = dims.iter().flat_map(|&d| int(1, d)).collect();
    [dims, int(2, kind), bytes(8, name), bytes(9, raw)].concat()
}

fn floats(name: &str, dims: &[i64], value: f32) -> Bytes {
    let count = dims.iter().product::<i64>() as usize;
    tensor(name, 1, dims, &value.to_le_bytes().repeat(count))
}

fn codes(name: &str, dims: &[i64]) -> Bytes {
    tensor(name, 3, dims, &vec![1; dims.iter().product::<i64>() as usize])
}

fn integers(name: &str, values: &[i64]) -> Bytes {
    tensor(name, 7, &[values.len() as i64], &values.iter().flat_map(|v| v.to_le_bytes()).collect::<Bytes>())
}

fn one(name: &str, value: i64) -> Bytes {
    tensor(name, 7, &[], &value.to_le_bytes())
}

fn setting(name: &str, value: i64) -> Bytes {
    [bytes(1, name), int(3, value), int(20, 2)].concat()
}

fn list(name: &str, values: &[i64]) -> Bytes {
    let values: Bytes = values.iter().flat_map(|&v| int(8, v)).collect();
    [bytes(1, name), values, int(20, 7)].concat()
}

fn node(op: &str, inputs: &[&str], output: &str, attributes: &[Bytes]) -> Bytes {
    let inputs: Bytes = inputs.iter().flat_map(|name| bytes(1, name)).collect();
    let attributes: Bytes = attributes.iter().flat_map(|attribute| bytes(5, attribute)).collect();
    [inputs, bytes(2, output), bytes(3, format!("n-{output}")), bytes(4, op), attributes].concat()
}

fn image(side: i64) -> Bytes {
    let dims: Bytes = [1, 3, side, side].iter().flat_map(|&d| bytes(1, int(1, d))).collect();
    [bytes(1, "image"), bytes(2, bytes(1, [int(1, 1), bytes(2, dims)].concat()))].concat()
}

fn model(graph: &[Bytes]) -> Bytes {
    [int(1, 8), bytes(8, int(2, 17)), bytes(7, graph.concat())].concat()
}

/// image -> Conv c -> `middle`, which makes m of c -> mean -> Gemm y.
fn network(side: i64, middle: &[Bytes], constants: &[Bytes]) -> Bytes {
    let mut nodes = vec![node("Conv", &["image", "w"], "c", &[])];
    nodes.extend_from_slice(middle);
    nodes.push(node("GlobalAveragePool", &["m"], "p", &[]));
    nodes.push(node("Flatten", &["p"], "f", &[]));
    nodes.push(node("Gemm", &["f", "v"], "y", &[]));
    let own = [floats("w", &[4, 3, 1, 1], 0.1), floats("v", &[4, 2], 0.2)];
    assemble(side, &nodes, &[&own[..], constants].concat())
}

fn assemble(side: i64, nodes: &[Bytes], constants: &[Bytes]) -> Bytes {
    let nodes: Bytes = nodes.iter().flat_map(|node| bytes(1, node)).collect();
    let constants: Bytes = constants.iter().flat_map(|tensor| bytes(5, tensor)).collect();
    model(&[nodes, constants, bytes(11, image(side)), bytes(12, bytes(1, "y"))])
}

/// A network of one feature and `count` classes, which takes every photo for class `guess`.
pub(super) fn classes(count: usize, guess: usize) -> Bytes {
    let weights: Bytes = (0..count).flat_map(|class| if class == guess { 0.2f32 } else { 0.1 }.to_le_bytes()).collect();
    let nodes = [
        node("Conv", &["image", "w"], "c", &[]),
        node("GlobalAveragePool", &["c"], "p", &[]),
        node("Flatten", &["p"], "f", &[]),
        node("Gemm", &["f", "v"], "y", &[]),
    ];
    assemble(8, &nodes, &[floats("w", &[1, 3, 1, 1], 0.1), tensor("v", 1, &[1, count as i64], &weights)])
}

/// A network of 3 weights for each `side` x `side` of its features, y.
pub(super) fn features(count: usize, side: usize) -> Bytes {
    let nodes = [node("Conv", &["image", "w"], "c", &[]), node("Flatten", &["c"], "y", &[])];
    assemble(side as i64, &nodes, &[floats("w", &[(count / (side * side)) as i64, 3, 1, 1], 0.1)])
}

/// `count` nodes that each add one to what the node before has made, the last of them m.
fn chain(count: usize, each: impl Fn(usize, &str, &str) -> Vec<Bytes>) -> Vec<Bytes> {
    let name = |at: usize| {
        if at == 0 {
            "c".to_owned()
        } else if at == count {
            "m".to_owned()
        } else {
            format!("m{at}")
        }
    };
    (0..count).flat_map(|at| each(at, &name(at), &name(at + 1))).collect()
}

/// What refuses each, in a word or two of its message.
pub(super) fn all() -> Vec<(&'static str, Bytes, &'static [&'static str])> {
    let external = |location: &str| {
        let entry = [bytes(1, "location"), bytes(2, location)].concat();
        let held = [int(1, 4), int(1, 3), int(1, 1), int(1, 1), int(2, 1), bytes(8, "w"), bytes(13, entry), int(14, 1)]
            .concat();
        assemble(8, &[node("Conv", &["image", "w"], "y", &[])], &[held])
    };
    let relu = || node("Relu", &["c"], "m", &[]);
    let through = |op: &str, more: &[&str], constants: &[Bytes]| {
        network(8, &[node(op, &[&["c"], more].concat(), "m", &[])], constants)
    };
    let shaped = |dims: &[i64]| {
        [node("ConstantOfShape", &["s"], "z", &[]), node("Add", &["c", "z"], "m", &[])].map(|n| (n, dims.to_vec()))
    };
    let filled = |dims: &[i64]| {
        let [(a, _), (b, _)] = shaped(dims);
        network(8, &[a, b], &[integers("s", dims)])
    };
    let conv = |name: &str, values: &[i64]| {
        network(8, &[node("Conv", &["c", "k"], "m", &[list(name, values)])], &[floats("k", &[4, 4, 1, 1], 0.1)])
    };
    let deep = (0..60).fold(Vec::new(), |inner: Bytes, _| {
        let attribute = [bytes(1, "g"), bytes(6, inner), int(20, 5)].concat();
        bytes(1, [bytes(4, "If"), bytes(5, attribute)].concat())
    });
    let big = 240_000;
    vec![
        ("text", b"this is not a model".to_vec(), &["not an ONNX file"][..]),
        ("empty", Vec::new(), &["no graph"]),
        ("zeros", vec![0; 1 << 20], &["not an ONNX file"]),
        ("ones", vec![0xff; 1 << 20], &["not an ONNX file"]),
        ("empty-nodes", model(&[[10u8, 0].repeat(500_000)]), &["nodes"]),
        ("empty-tensors", model(&[[42u8, 0].repeat(500_000)]), &["tensors"]),
        ("empty-attributes", model(&[bytes(1, [42u8, 0].repeat(500_000))]), &["attributes"]),
        ("empty-inputs", model(&[bytes(1, [10u8, 0].repeat(500_000))]), &["texts"]),
        ("empty-values", model(&[[106u8, 0].repeat(500_000)]), &["described values"]),
        ("empty-entries", [model(&[]), [114u8, 0].repeat(500_000)].concat(), &["texts"]),
        ("empty-opsets", [model(&[]), [66u8, 0].repeat(500_000)].concat(), &["texts"]),
        ("empty-training", [model(&[]), vec![0xa2, 1, 0]].concat(), &["training"]),
        ("graph-in-node", model(&[deep]), &["a graph within a node"]),
        ("many-dims", model(&[bytes(5, bytes(1, vec![1u8; 1 << 19]))]), &["list"]),
        ("no-opset", [bytes(7, bytes(1, relu()))].concat(), &["opset"]),
        ("external-absolute", external("/etc/passwd"), &["w", "external data"]),
        ("external-parent", external("../../../etc/passwd"), &["w", "external data"]),
        ("external-beside", external("weights.bin"), &["w", "external data"]),
        ("nan", network(8, &[relu()], &[floats("n", &[2], f32::NAN)]), &["tensor n holds NaN"]),
        ("infinite", network(8, &[relu()], &[floats("n", &[2], f32::INFINITY)]), &["tensor n holds inf"]),
        ("dims-overflow", network(8, &[relu()], &[tensor("n", 1, &[0, i64::MAX, i64::MAX], &[])]), &["tensor n"]),
        ("dims-negative", network(8, &[relu()], &[tensor("n", 1, &[-1], &[])]), &["negative"]),
        ("dims-more-than-held", network(8, &[relu()], &[tensor("n", 1, &[1 << 40], &[0; 4])]), &["tensor n"]),
        ("two-of-a-name", network(8, &[relu(), relu()], &[]), &["made already"]),
        (
            "cycle",
            network(
                8,
                &[node("Add", &["c", "b"], "a", &[]), node("Relu", &["a"], "b", &[]), node("Relu", &["a"], "m", &[])],
                &[],
            ),
            &["before it is made"],
        ),
        ("unknown-operator", through("Wish", &[], &[]), &["Wish", "not one that is taken"]),
        ("own-operator", through("SrloraMap", &[], &[]), &["srlora's own"]),
        ("loop", through("Loop", &[], &[]), &["Loop", "not one that is taken"]),
        ("scan", through("Scan", &[], &[]), &["Scan", "not one that is taken"]),
        (
            "random",
            network(
                8,
                &[
                    node("RandomNormal", &[], "z", &[list("shape", &[1 << 20, 1 << 20])]),
                    node("Add", &["c", "z"], "m", &[]),
                ],
                &[],
            ),
            &["not one that is taken"],
        ),
        ("long-name", network(8, &[node("Relu", &["c"], &"m".repeat(900_000), &[])], &[]), &["longer than"]),
        ("pads", conv("pads", &[65_536; 4]), &["pads"]),
        ("pads-negative", conv("pads", &[-1, 0, 0, 0]), &["pads"]),
        ("pads-overflow", conv("pads", &[i64::MAX; 4]), &["pads"]),
        ("strides", conv("strides", &[i64::MAX, 1]), &["strides"]),
        ("strides-0", conv("strides", &[0, 0]), &["strides"]),
        ("dilations", conv("dilations", &[1 << 40, 1]), &["dilations"]),
        (
            "group-0",
            network(8, &[node("Conv", &["c", "k"], "m", &[setting("group", 0)])], &[floats("k", &[4, 4, 1, 1], 0.1)]),
            &["group"],
        ),
        (
            "group-many",
            network(
                8,
                &[node("Conv", &["c", "k"], "m", &[setting("group", i64::MAX)])],
                &[floats("k", &[4, 4, 1, 1], 0.1)],
            ),
            &["group"],
        ),
        ("kernel-wide", network(8, &[node("Conv", &["c", "k"], "m", &[])], &[codes("k", &[1, 4, 1, 60_000])]), &[]),
        (
            "depthwise-strides",
            network(
                512,
                &[node("Conv", &["c", "k"], "m", &[list("strides", &[512, 512]), setting("group", 4)])],
                &[floats("k", &[4, 1, 1, 1], 0.1)],
            ),
            &["activations"],
        ),
        (
            "columns",
            network(1000, &[node("Conv", &["c", "k"], "m", &[])], &[floats("k", &[1, 4, 200, 200], 0.1)]),
            &["activations"],
        ),
        (
            "channels",
            assemble(224, &[node("Conv", &["image", "w"], "y", &[])], &[floats("w", &[60_000, 3, 1, 1], 0.1)]),
            &["above the"],
        ),
        (
            "image",
            assemble(100_000, &[node("Conv", &["image", "w"], "y", &[])], &[floats("w", &[4, 3, 1, 1], 0.1)]),
            &[],
        ),
        (
            "image-overflow",
            assemble(i64::MAX, &[node("Conv", &["image", "w"], "y", &[])], &[floats("w", &[4, 3, 1, 1], 0.1)]),
            &[],
        ),
        ("expand", through("Expand", &["s"], &[integers("s", &[1 << 20, 1 << 20, 8, 8])]), &["n-m (Expand)"]),
        ("expand-negative", through("Expand", &["s"], &[integers("s", &[-1, 4, 8, 8])]), &["n-m (Expand)"]),
        ("tile", through("Tile", &["s"], &[integers("s", &[1, 1, 1 << 30, 1 << 30])]), &["n-m (Tile)"]),
        ("filled", filled(&[1 << 32, 1 << 20]), &["n-z (ConstantOfShape)"]),
        ("filled-overflow", filled(&[i64::MAX, i64::MAX]), &["n-z (ConstantOfShape)"]),
        (
            "range",
            network(
                8,
                &[node("Range", &["a", "b", "d"], "r", &[]), node("Reshape", &["c", "r"], "m", &[])],
                &[one("a", 0), one("b", 1 << 40), one("d", 1)],
            ),
            &["n-r (Range)"],
        ),
        (
            "range-0",
            network(
                8,
                &[node("Range", &["a", "b", "d"], "r", &[]), node("Reshape", &["c", "r"], "m", &[])],
                &[one("a", 0), one("b", 9), one("d", 0)],
            ),
            &["n-r (Range)", "step"],
        ),
        (
            "divided-by-0",
            network(
                8,
                &[node("Div", &["a", "d"], "r", &[]), node("Reshape", &["c", "r"], "m", &[])],
                &[integers("a", &[4]), integers("d", &[0])],
            ),
            &["n-r (Div)", "divided by 0"],
        ),
        (
            "overflow",
            network(
                8,
                &[node("Mul", &["a", "a"], "r", &[]), node("Reshape", &["c", "r"], "m", &[])],
                &[integers("a", &[i64::MAX])],
            ),
            &["n-r (Mul)", "overflow"],
        ),
        ("reshape", through("Reshape", &["s"], &[integers("s", &[-1, -1])]), &["n-m (Reshape)"]),
        (
            "reshape-overflow",
            through("Reshape", &["s"], &[integers("s", &[i64::MAX, i64::MAX, 2])]),
            &["n-m (Reshape)"],
        ),
        ("gather", through("Gather", &["s"], &[integers("s", &[9])]), &["n-m (Gather)", "outside"]),
        (
            "slice-0",
            through(
                "Slice",
                &["s", "e", "a", "t"],
                &[integers("s", &[0]), integers("e", &[1]), integers("a", &[0]), integers("t", &[0])],
            ),
            &["n-m (Slice)", "step"],
        ),
        (
            "slice-axis",
            through("Slice", &["s", "e", "a"], &[integers("s", &[0]), integers("e", &[1]), integers("a", &[7])]),
            &["n-m (Slice)", "axis"],
        ),
        (
            "transpose",
            network(8, &[node("Transpose", &["c"], "m", &[list("perm", &[0, 0, 1, 9])])], &[]),
            &["n-m (Transpose)"],
        ),
        (
            "pad",
            through("Pad", &["s"], &[integers("s", &[0, 0, 1 << 30, 1 << 30, 0, 0, 1 << 30, 1 << 30])]),
            &["n-m (Pad)"],
        ),
        ("split", network(8, &[node("Split", &["c"], "m", &[setting("axis", 99)])], &[]), &["n-m (Split)"]),
        ("concat", network(8, &[node("Concat", &["c"; 1500], "m", &[setting("axis", 1)])], &[]), &["n-m (Concat)"]),
        (
            "alive",
            network(
                200,
                &{
                    let mut nodes: Vec<Bytes> =
                        (0..300).map(|at| node("Relu", &["c"], &format!("r{at}"), &[])).collect();
                    nodes.extend(chain(300, |at, from, to| vec![node("Add", &[from, &format!("r{at}")], to, &[])]));
                    nodes
                },
                &[],
            ),
            &["would live at once"],
        ),
        (
            "copies",
            network(
                8,
                &{
                    let mut nodes: Vec<Bytes> =
                        (0..1500).map(|at| node("Transpose", &["big"], &format!("t{at}"), &[])).collect();
                    nodes.extend(chain(1500, |at, from, to| vec![node("Add", &[from, &format!("t{at}")], to, &[])]));
                    nodes
                },
                &[floats("big", &[big, 1], 0.1)],
            ),
            &["constants"],
        ),
        (
            "names",
            network(
                8,
                &{
                    let mut nodes: Vec<Bytes> =
                        (0..1200).map(|at| node("Identity", &["big"], &format!("t{at}"), &[])).collect();
                    nodes.extend(chain(1200, |at, from, to| vec![node("Add", &[from, &format!("t{at}")], to, &[])]));
                    nodes
                },
                &[floats("big", &[big, 1, 1, 1], 0.1)],
            ),
            &["constants"],
        ),
        (
            "shared-weight",
            assemble(
                1,
                &{
                    let mut nodes = vec![node("Flatten", &["image"], "c", &[])];
                    nodes.extend(chain(1400, |at, from, _| {
                        vec![
                            node("MatMul", &[from, "big"], &format!("x{at}"), &[]),
                            node("ReduceMean", &[&format!("x{at}")], &format!("z{at}"), &[]),
                            node(
                                "Add",
                                &[from, &format!("z{at}")],
                                &if at == 1399 { "y".into() } else { format!("m{}", at + 1) },
                                &[],
                            ),
                        ]
                    }));
                    nodes
                },
                &[codes("codes", &[3, 300_000])],
            ),
            &[],
        ),
    ]
}
