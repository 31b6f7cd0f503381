//! The core against PyTorch: twelve settings of one layer, twelve steps each, every number of every step. `golden/one_sided.py` has made
//! the vectors of one-sided pairs. `golden/rerun.py` checks the others in NumPy, and has made the two with f16 weights and with decay.

use half::f16;
use serde_json::Value;
use srlora::core::{
    AdamW, Delta, Directions, Floats, FuseOrder, Ledger, Recompose, Sides, Site, SiteConfig, SiteShape, Start, Weight,
    int8_rows,
};

/// Every number of the vectors agrees with a float64 run to better than 8e-6.
const TOLERANCE: f32 = 1e-5;

/// Importances are products of small averages, far below `TOLERANCE`: they must also agree to this part of the largest.
const IMPORTANCE_TOLERANCE: f32 = 1e-4;

fn case(name: &str) -> Value {
    let path = format!("{}/tests/golden/{name}.json", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// A nested list of numbers, flattened row-major.
fn numbers(value: &Value) -> Vec<f32> {
    match value {
        Value::Array(items) => items.iter().flat_map(numbers).collect(),
        other => vec![other.as_f64().unwrap() as f32],
    }
}

/// The same, with the two axes exchanged.
fn transposed(value: &Value) -> Vec<f32> {
    let rows: Vec<Vec<f32>> = value.as_array().unwrap().iter().map(numbers).collect();
    (0..rows[0].len()).flat_map(|column| rows.iter().map(move |row| row[column])).collect()
}

fn integers(value: &Value) -> Vec<u64> {
    value.as_array().unwrap().iter().map(|v| v.as_f64().unwrap() as u64).collect()
}

/// Collects the largest difference per quantity.
#[derive(Default)]
struct Compared(std::collections::BTreeMap<String, f32>);

impl Compared {
    fn close(&mut self, what: &str, found: &[f32], expected: &[f32]) {
        assert_eq!(found.len(), expected.len(), "{what}");
        // `f32::max` would drop a NaN.
        assert!(found.iter().all(|f| f.is_finite()), "{what} is not finite");
        let worst = found.iter().zip(expected).map(|(f, e)| (f - e).abs()).fold(0.0, f32::max);
        assert!(worst <= TOLERANCE, "{what} differs by {worst:e}");
        let seen = self.0.entry(what.split(' ').next_back().unwrap().to_string()).or_default();
        *seen = seen.max(worst);
    }

    fn close_for_its_size(&mut self, what: &str, found: &[f32], expected: &[f32]) {
        self.close(what, found, expected);
        let largest = expected.iter().copied().fold(0.0, f32::max);
        let worst = found.iter().zip(expected).map(|(f, e)| (f - e).abs()).fold(0.0, f32::max);
        assert!(worst <= IMPORTANCE_TOLERANCE * largest, "{what} differs by {worst:e} of {largest:e}");
    }

    /// The largest difference of all, and where.
    fn worst(&self) -> (f32, &str) {
        self.0
            .iter()
            .map(|(what, worst)| (*worst, what.as_str()))
            .fold((0.0, "-"), |a, b| if b.0 > a.0 { b } else { a })
    }
}

/// All that a site lends, in the precision that the case asks for.
struct Layer {
    shape: SiteShape,
    config: SiteConfig,
    rule: Recompose,
    interval: u64,
    optimizer: AdamW,
    weight: Vec<f32>,
    weight_f16: Vec<f16>,
    weight_int8: Option<(Vec<i8>, Vec<f32>)>,
    bias: Vec<f32>,
    sigma: Vec<f32>,
    u: Vec<f32>,
    v: Vec<f32>,
    halves: Option<(Vec<f16>, Vec<f16>)>,
    state: Vec<f32>,
    ledger: Ledger<16, 20>,
    floats: Vec<f32>,
    codes: Vec<i8>,
    scales: Vec<f16>,
    quantized: bool,
}

impl Layer {
    fn new(case: &Value) -> Self {
        let c = &case["config"];
        let int = |key: &str| c[key].as_u64().unwrap() as usize;
        let float = |key: &str| c[key].as_f64().unwrap() as f32;
        let sides = if c["sides"] == "one" { Sides::One } else { Sides::Both };
        let [rank, reserve, block] = ["rank", "reserve", "block"].map(int);
        let shape = SiteShape { out_dim: 12, in_dim: 20, rank, sides, reserve, block };
        let start = if c["start"] == "aligned" { Start::Aligned } else { Start::Principal };
        let halve = |values: &[f32]| values.iter().map(|&x| f16::from_f32(x)).collect::<Vec<_>>();
        let (u, v) = (numbers(&case["U"]), numbers(&case["V"]));
        // One-sided pairs have no left directions.
        let (u, v) = (u[..u.len().min(shape.reserve * 12)].to_vec(), v[..shape.reserve * 20].to_vec());
        let weight = numbers(&case["W"]);
        Layer {
            shape,
            config: SiteConfig {
                start,
                scale: float("scale"),
                beta_sensitivity: float("beta_sensitivity"),
                beta_uncertainty: float("beta_uncertainty"),
                ..SiteConfig::default()
            },
            rule: Recompose {
                pairs: int("fuse"),
                min_age: int("min_age") as u32,
                wrap: c["wrap"].as_bool().unwrap(),
                choice: FuseOrder::LeastImportant,
            },
            interval: int("interval") as u64,
            optimizer: AdamW { beta1: float("beta1"), beta2: float("beta2"), eps: float("eps"), decay: float("decay") },
            weight_f16: halve(&weight),
            weight_int8: (c["weight"] == "int8").then(|| {
                let codes = numbers(&case["W_q"]).iter().map(|&q| q as i8).collect();
                (codes, numbers(&case["W_scale"]))
            }),
            weight,
            bias: numbers(&case["bias"]),
            sigma: numbers(&case["sigma"])[..shape.reserve].to_vec(),
            halves: (c["directions"] == "f16").then(|| (halve(&u), halve(&v))),
            u,
            v,
            state: vec![f32::NAN; shape.state_len()],
            ledger: Ledger::new(&shape).unwrap(),
            floats: vec![0.0; shape.delta_codes_len()],
            codes: vec![0; shape.delta_codes_len()],
            scales: vec![f16::ZERO; shape.delta_scales_len()],
            quantized: c["delta"] == "int8",
        }
    }

    fn frozen(&self, kind: &Value) -> Weight<'_> {
        match (kind.as_str().unwrap(), &self.weight_int8) {
            ("int8", Some((codes, scales))) => Weight::Int8 { codes, scales, zeros: &[] },
            ("f16", _) => Weight::F16(&self.weight_f16),
            _ => Weight::F32(&self.weight),
        }
    }

    fn site(&mut self) -> Site<'_, 16, 20> {
        let (u, v) = match &self.halves {
            Some((u, v)) => (Floats::F16(u), Floats::F16(v)),
            None => (Floats::F32(&self.u), Floats::F32(&self.v)),
        };
        let delta = if self.quantized {
            Delta::Int8 { codes: &mut self.codes, scales: &mut self.scales }
        } else {
            Delta::F32(&mut self.floats)
        };
        let directions = Directions { sigma: &self.sigma, u, v };
        Site::new(self.shape, self.config, directions, &mut self.state, &mut self.ledger, delta).unwrap()
    }

    /// The weight as the core holds it: its codes from W, and W back from them.
    fn compare_weight(&self, seen: &mut Compared, case: &Value) {
        let kind = &case["config"]["weight"];
        if let Some((codes, scales)) = &self.weight_int8 {
            let (mut found, mut found_scales) = (vec![0; codes.len()], vec![0.0; scales.len()]);
            int8_rows(&self.weight, 20, &mut found, &mut found_scales).unwrap();
            assert_eq!(&found, codes, "codes of W");
            seen.close("weight scales", &found_scales, scales);
        }
        // W^T e_i is row i of W.
        let mut deployed = vec![0.0; self.weight.len()];
        for (i, row) in deployed.chunks_mut(20).enumerate() {
            let mut unit = [0.0; 12];
            unit[i] = 1.0;
            self.frozen(kind).backward(&unit, row).unwrap();
        }
        seen.close("deployed W", &deployed, &numbers(&case["W_deployed"]));
    }

    /// y for every row of x.
    fn outputs(&mut self, x: &[f32], kind: &Value) -> Vec<f32> {
        let mut y = vec![0.0; x.len() / 20 * 12];
        for (x, y) in x.chunks(20).zip(y.chunks_mut(12)) {
            self.frozen(kind).forward(x, &self.bias.clone(), y).unwrap();
            let mut scratch = vec![f32::NAN; self.shape.scratch_len()];
            self.site().forward(x, y, &mut scratch).unwrap();
        }
        y
    }

    fn delta(&mut self) -> Vec<f32> {
        let shape = self.shape;
        let mut dense = vec![0.0; shape.delta_codes_len()];
        let site = self.site();
        let delta = site.delta.view();
        dense.chunks_mut(20).enumerate().for_each(|(row, out)| delta.row_into(&shape, row, out).unwrap());
        dense
    }

    fn compare_pairs(&mut self, seen: &mut Compared, at: &str, expected: &Value) {
        let (rank, shape) = (self.shape.rank, self.shape);
        let (a, b_t) = self.state[..shape.plane_len()].split_at(shape.a_len());
        seen.close(&format!("{at} A"), a, &numbers(&expected["A"]));
        seen.close(&format!("{at} B"), b_t, &transposed(&expected["B"]));
        if expected.get("A0").is_none() {
            return;
        }
        let site = self.site();
        let (mut a0, mut b0) = (vec![f32::NAN; rank * 20], vec![f32::NAN; rank * 12]);
        for (pair, (a0, b0)) in a0.chunks_mut(20).zip(b0.chunks_mut(12)).enumerate() {
            site.start_value(pair, a0, b0).unwrap();
        }
        seen.close(&format!("{at} A0"), &a0, &numbers(&expected["A0"]));
        seen.close(&format!("{at} B0"), &b0, &transposed(&expected["B0"]));
        let ledger = &site.ledger;
        assert_eq!(
            ledger.ages().iter().map(|&n| u64::from(n)).collect::<Vec<_>>(),
            integers(&expected["age"]),
            "{at} age"
        );
        let directions: Vec<u64> = ledger.directions().iter().map(|&n| n.into()).collect();
        assert_eq!(directions, integers(&expected["direction"]), "{at} direction");
        assert_eq!(ledger.reserve().map(u64::from).collect::<Vec<_>>(), integers(&expected["reserve"]), "{at} reserve");
    }
}

fn run(name: &str) {
    let case = case(name);
    let kind = &case["config"]["weight"];
    let mut layer = Layer::new(&case);
    layer.site().start().unwrap();
    let mut seen = Compared::default();
    layer.compare_weight(&mut seen, &case);
    layer.compare_pairs(&mut seen, "start", &case["start"]);
    let lr = case["lr"].as_f64().unwrap() as f32;
    let (xs, targets) = (numbers(&case["X"]), numbers(&case["Y"]));
    let mut events = 0;
    for (t, step) in case["steps"].as_array().unwrap().iter().enumerate() {
        let at = format!("{name}, step {}:", t + 1);
        let (x, target) = (&xs[t * 160..(t + 1) * 160], &targets[t * 96..(t + 1) * 96]);
        let y = layer.outputs(x, kind);
        seen.close(&format!("{at} y"), &y, &numbers(&step["y"]));
        let loss = y.iter().zip(target).map(|(y, t)| (y - t).powi(2)).sum::<f32>() / 96.0;
        seen.close(&format!("{at} loss"), &[loss], &[step["loss"].as_f64().unwrap() as f32]);

        let mut gradient = vec![0.0; layer.shape.plane_len()];
        let mut scratch = vec![f32::NAN; layer.shape.scratch_len()];
        for ((x, y), target) in x.chunks(20).zip(y.chunks(12)).zip(target.chunks(12)) {
            let dy: Vec<f32> = y.iter().zip(target).map(|(y, t)| 2.0 * (y - t) / 96.0).collect();
            layer.site().backward(x, &dy, &mut [0.0; 20], &mut gradient, &mut scratch).unwrap();
        }
        let (da, db_t) = gradient.split_at(layer.shape.a_len());
        seen.close(&format!("{at} dA"), da, &numbers(&step["dA"]));
        seen.close(&format!("{at} dB"), db_t, &transposed(&step["dB"]));

        layer.site().score(&gradient).unwrap();
        let importance: Vec<f32> = (0..layer.shape.rank).map(|pair| layer.site().importance(pair)).collect();
        seen.close_for_its_size(&format!("{at} importance"), &importance, &numbers(&step["importance"]));
        let optimizer = layer.optimizer;
        layer.site().adamw(&optimizer, |_| lr, &gradient).unwrap();
        layer.compare_pairs(&mut seen, &at, step);

        let due = layer.interval > 0 && (t as u64 + 1).is_multiple_of(layer.interval);
        assert_eq!(due, step.get("recompose").is_some(), "{at} recomposition due");
        if due {
            let expected = &step["recompose"];
            seen.close(&format!("{at} y_before"), &layer.outputs(x, kind), &numbers(&expected["y_before"]));
            let (rule, before) = (layer.rule, layer.delta());
            let happened = layer.site().recompose(&rule);
            let chosen: Vec<u64> = happened.iter().map(|e| e.pair.into()).collect();
            assert_eq!(chosen, integers(&expected["chosen"]), "{at} chosen");
            events += chosen.len();
            let delta = layer.delta();
            seen.close(&format!("{at} delta"), &delta, &numbers(&expected["delta"]));
            assert!(chosen.is_empty() || delta != before, "{at} the delta did not move");
            if let Some(codes) = expected.get("delta_q") {
                let codes: Vec<i8> = numbers(codes).iter().map(|&q| q as i8).collect();
                assert_eq!(layer.codes, codes, "{at} codes");
                let scales: Vec<f32> = layer.scales.iter().map(|s| s.to_f32()).collect();
                seen.close(&format!("{at} scales"), &scales, &numbers(&expected["delta_scale"]));
            }
            seen.close(&format!("{at} y_after"), &layer.outputs(x, kind), &numbers(&expected["y_after"]));
            layer.compare_pairs(&mut seen, &at, expected);
        }
    }
    let (worst, what) = seen.worst();
    println!("{name}: worst {worst:.1e} ({what}), {events} pairs recomposed");
}

macro_rules! golden {
    ($($name:ident)*) => {$(
        #[test]
        fn $name() {
            run(stringify!($name));
        }
    )*};
}

golden! {
    aligned
    principal
    aligned_int8
    principal_int8
    aligned_f16
    principal_decay_scale
    two_at_once_wrap
    cool_down
    reserve_ends
    never
    one_sided
    one_sided_int8
}
