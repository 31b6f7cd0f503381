//! Two hundred recompositions in a row: a classifier with the int8 delta against the same with a delta of floats.

use half::f16;
use srlora::core::{
    AdamW, Delta, Directions, Floats, FuseOrder, Ledger, Recompose, Sides, Site, SiteConfig, SiteShape, cross_entropy,
    head_backward, head_forward,
};

const WIDTH: usize = 40;
const CLASSES: usize = 8;
const SHAPE: SiteShape =
    SiteShape { out_dim: WIDTH, in_dim: WIDTH, rank: 2, sides: Sides::Both, reserve: 10, block: 32 };
const EVENTS: usize = 200;
/// Steps between two of them.
const INTERVAL: usize = 6;
const TEST_PHOTOS: u32 = 4000;
/// In points of accuracy.
const BOUND: f64 = 0.5;

/// Noise of unit variance, the same for the same seed (a sum of twelve uniform numbers of a xorshift).
fn noise(seed: u32, n: usize) -> Vec<f32> {
    let mut x = seed.wrapping_mul(2_654_435_761).wrapping_add(88_675_123) | 1;
    let mut uniform = || {
        x ^= x << 13;
        x ^= x >> 17;
        x ^= x << 5;
        x as f32 / u32::MAX as f32
    };
    (0..n).map(|_| (0..12).map(|_| uniform()).sum::<f32>() - 6.0).collect()
}

/// A photo: its class's centre, which the frozen layer has never seen, and noise.
fn photo(nth: u32) -> (Vec<f32>, usize) {
    let class = nth as usize % CLASSES;
    let centre = noise(900 + class as u32, WIDTH);
    (noise(10_000 + nth, WIDTH).iter().zip(centre).map(|(noise, c)| 0.55 * c + noise).collect(), class)
}

/// Relu(W x + D x + B A x), W frozen and random; then a frozen random head: only pairs and delta can learn the classes.
struct Classifier {
    weight: Vec<f32>,
    head: Vec<f32>,
    state: Vec<f32>,
    ledger: Ledger<2, 16>,
    floats: Option<Vec<f32>>,
    codes: Vec<i8>,
    scales: Vec<f16>,
    directions: (Vec<f32>, Vec<f32>, Vec<f32>),
}

impl Classifier {
    fn new(float_delta: bool) -> Self {
        let unit = |seed: u32| {
            let row = noise(seed, WIDTH);
            let length = row.iter().map(|v| v * v).sum::<f32>().sqrt();
            row.into_iter().map(move |v| v / length)
        };
        let rows = |first: u32| (0..SHAPE.reserve as u32).flat_map(|k| unit(first + k)).collect::<Vec<f32>>();
        let scaled = |seed, n| noise(seed, n).into_iter().map(|v| v / (WIDTH as f32).sqrt()).collect::<Vec<f32>>();
        let mut classifier = Classifier {
            weight: scaled(1, WIDTH * WIDTH),
            head: scaled(2, CLASSES * WIDTH),
            state: vec![0.0; SHAPE.state_len()],
            ledger: Ledger::new(&SHAPE).unwrap(),
            floats: float_delta.then(|| vec![0.0; SHAPE.delta_codes_len()]),
            codes: vec![0; SHAPE.delta_codes_len()],
            scales: vec![f16::ZERO; SHAPE.delta_scales_len()],
            directions: (vec![1.0; SHAPE.reserve], rows(100), rows(200)),
        };
        classifier.site().start().unwrap();
        classifier
    }

    fn site(&mut self) -> Site<'_, 2, 16> {
        let delta = match &mut self.floats {
            Some(floats) => Delta::F32(floats),
            None => Delta::Int8 { codes: &mut self.codes, scales: &mut self.scales },
        };
        let (sigma, u, v) = &self.directions;
        let directions = Directions { sigma, u: Floats::F32(u), v: Floats::F32(v) };
        Site::new(SHAPE, SiteConfig::default(), directions, &mut self.state, &mut self.ledger, delta).unwrap()
    }

    /// The hidden layer and the logits.
    fn forward(&mut self, x: &[f32]) -> (Vec<f32>, Vec<f32>) {
        let mut hidden: Vec<f32> =
            self.weight.chunks(WIDTH).map(|row| row.iter().zip(x).map(|(w, x)| w * x).sum()).collect();
        self.site().forward(x, &mut hidden, &mut vec![0.0; SHAPE.scratch_len()]).unwrap();
        hidden.iter_mut().for_each(|h| *h = h.max(0.0));
        let mut logits = vec![0.0; CLASSES];
        head_forward(&self.head, &[0.0; CLASSES], &hidden, &mut logits).unwrap();
        (hidden, logits)
    }

    fn step(&mut self, photos: impl Iterator<Item = u32>, rate: f32) {
        let mut gradient = vec![0.0; SHAPE.plane_len()];
        for (x, class) in photos.map(photo) {
            let (hidden, logits) = self.forward(&x);
            let (mut dlogits, mut dhidden) = (vec![0.0; CLASSES], vec![0.0; WIDTH]);
            cross_entropy(&logits, class, &mut dlogits).unwrap();
            let [mut dw, mut db] = [vec![0.0; CLASSES * WIDTH], vec![0.0; CLASSES]];
            head_backward(&self.head, &hidden, &dlogits, &mut dw, &mut db, &mut dhidden).unwrap();
            dhidden.iter_mut().zip(&hidden).filter(|(_, h)| **h == 0.0).for_each(|(d, _)| *d = 0.0);
            let (mut dx, mut scratch) = (vec![0.0; WIDTH], vec![0.0; SHAPE.scratch_len()]);
            self.site().backward(&x, &dhidden, &mut dx, &mut gradient, &mut scratch).unwrap();
        }
        gradient.iter_mut().for_each(|g| *g /= 16.0);
        self.site().score(&gradient).unwrap();
        self.site().adamw(&AdamW::default(), |_| rate, &gradient).unwrap();
    }

    fn accuracy(&mut self) -> f64 {
        let right = (0..TEST_PHOTOS).filter(|nth| {
            let (x, class) = photo(1_000_000 + nth);
            let logits = self.forward(&x).1;
            (0..CLASSES).all(|k| k == class || logits[k] < logits[class])
        });
        100.0 * right.count() as f64 / f64::from(TEST_PHOTOS)
    }

    /// Trains through all events; accuracy before and after.
    fn learn(&mut self) -> [f64; 2] {
        let before = self.accuracy();
        // Directions wrap, as there are fewer than events.
        let rule = Recompose { pairs: 1, min_age: INTERVAL as u32 + 1, wrap: true, choice: FuseOrder::LeastImportant };
        let (steps, mut events) = (EVENTS * INTERVAL + 100, 0);
        for step in 0..steps {
            let first = (step * 16 % 4096) as u32;
            self.step(first..first + 16, 3e-3 * (1.0 - step as f32 / steps as f32));
            if (step + 1).is_multiple_of(INTERVAL) && step > INTERVAL && events < EVENTS {
                events += self.site().recompose(&rule).len();
            }
        }
        assert_eq!(events, EVENTS);
        [before, self.accuracy()]
    }
}

#[test]
fn two_hundred_recompositions_cost_the_int8_delta_no_accuracy() {
    let [floats, codes] = [true, false].map(|float_delta| Classifier::new(float_delta).learn());
    println!("accuracy in %: {:.2} before, {:.2} with floats, {:.2} with int8 codes", floats[0], floats[1], codes[1]);
    assert!(floats[1] > floats[0] + 20.0, "nothing has been learned: {floats:?}");
    assert!((floats[1] - codes[1]).abs() <= BOUND, "{} against {}", codes[1], floats[1]);
}
