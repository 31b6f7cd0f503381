//! Every public function of the core, on any values of its arguments and open fields: each answers or refuses, and none panics.
//! A build with debug assertions checks the arithmetic as well.

extern crate std;

use half::f16;
use proptest::collection::vec as any_vec;
use proptest::num::f32::ANY;
use proptest::prelude::*;
use proptest::sample::select;
use std::{format, vec, vec::Vec};

use super::*;

/// The longest buffer that is made to fit.
const LONGEST: usize = 1 << 12;

/// Mostly one that a small site has, else one at an edge of arithmetic, on 32 bits too.
fn size() -> impl Strategy<Value = usize> {
    let edges = vec![64, 65, 1 << 16, 1 << 31, usize::MAX / 2, usize::MAX / 2 + 1, usize::MAX - 1, usize::MAX];
    prop_oneof![4 => 0..6usize, 1 => select(edges)]
}

fn shape() -> impl Strategy<Value = SiteShape> {
    let anything = (size(), size(), size(), size(), size());
    let likely = (2..6usize, 2..6usize, 1..3usize, 2..6usize, 1..6usize);
    (prop_oneof![anything, likely], any::<bool>()).prop_map(|((out_dim, in_dim, rank, reserve, block), one)| {
        SiteShape { out_dim, in_dim, rank, sides: if one { Sides::One } else { Sides::Both }, reserve, block }
    })
}

fn start() -> impl Strategy<Value = Start> {
    prop_oneof![Just(Start::Aligned), Just(Start::Principal), any::<u64>().prop_map(|seed| Start::Random { seed })]
}

/// Numbers to fill buffers with, and the lengths of those that do not fit: mostly all do.
#[derive(Debug, Clone)]
struct Filling {
    numbers: Vec<f32>,
    odd: Option<(usize, usize)>,
    made: usize,
}

fn filling() -> impl Strategy<Value = Filling> {
    (any_vec(prop_oneof![ANY, -1.0..1.0f32], 1..9), prop::option::of((0..12usize, 0..9usize)))
        .prop_map(|(numbers, odd)| Filling { numbers, odd, made: 0 })
}

impl Filling {
    /// `needed` values, or another number where this is the buffer that does not fit, or none is so long.
    fn values<T>(&mut self, needed: usize, value: impl Fn(f32) -> T) -> Vec<T> {
        let odd = self.odd.filter(|(nth, _)| *nth == self.made).map(|(_, len)| len);
        self.made += 1;
        let len = odd.unwrap_or(if needed > LONGEST { 3 } else { needed });
        (0..len).map(|at| value(self.numbers[at % self.numbers.len()])).collect()
    }

    fn floats(&mut self, needed: usize) -> Vec<f32> {
        self.values(needed, |x| x)
    }
}

struct Sum(usize);

impl Terms for Sum {
    fn count(&self) -> usize {
        self.0
    }

    fn b(&self, term: usize, row: usize) -> f32 {
        (term ^ row) as f32
    }

    fn a(&self, term: usize, column: usize) -> f32 {
        (term ^ column) as f32
    }
}

/// Everything that a site does; `int8` is how its delta is kept, `at` a pair, row or column.
fn live(shape: SiteShape, config: SiteConfig, rule: Recompose, filling: &mut Filling, int8: bool, at: usize) {
    let SiteShape { out_dim, in_dim, reserve, .. } = shape;
    let [plane, state, codes] = [shape.plane_len(), shape.state_len(), shape.delta_codes_len()];
    let mut state = filling.floats(state);
    let (sigma, u, v) = (
        filling.floats(reserve),
        filling.floats(reserve.saturating_mul(out_dim)),
        filling.values(reserve.saturating_mul(in_dim), f16::from_f32),
    );
    let directions = Directions { sigma: &sigma, u: Floats::F32(&u), v: Floats::F16(&v) };
    let (mut floats, mut codes) = (filling.floats(codes), filling.values(codes, |x| x as i8));
    let mut scales = filling.values(shape.delta_scales_len(), f16::from_f32);
    let mut ledger = Ledger::<2, 5>::new(&shape).unwrap_or_default();
    let delta = if int8 { Delta::Int8 { codes: &mut codes, scales: &mut scales } } else { Delta::F32(&mut floats) };
    let (x, dy, gradient) = (filling.floats(in_dim), filling.floats(out_dim), filling.floats(plane));
    let mut scratch = filling.floats(shape.scratch_len());
    let (mut y, mut dx, mut into) = (dy.clone(), x.clone(), gradient.clone());

    // As open fields allow, not as `Site::new` does.
    let mut site = Site { shape, config, directions, state: &mut state, ledger: &mut ledger, delta };
    let fits = site.check();
    for _ in 0..2 {
        let _ = site.forward(&x, &mut y, &mut scratch);
        let _ = site.backward(&x, &dy, &mut dx, &mut into, &mut scratch);
        let _ = site.score(&gradient);
        let _ = site.adamw(&AdamW { decay: 0.1, ..AdamW::default() }, |age| age as f32, &gradient);
        let _ = (site.importance(at), site.start_value(at, &mut dx, &mut y));
        let started = site.start_row(at).map(|row| row.a(at) + row.b(usize::MAX));
        assert_eq!(started.is_ok(), fits.is_ok() && at < shape.rank);
        let events = site.recompose(&rule);
        assert!(events.len() <= shape.rank && (fits.is_ok() || events.is_empty()));
        let mut row = x.clone();
        let read = site.delta.view().row_into(&shape, at, &mut row);
        assert!(read.is_err() || at < out_dim && row.len() == in_dim);
        let _ = (site.delta.view().is_zero(), site.delta.add(&shape, &Sum(at % 3)));
        let _ = record(&mut site);
        // Once more after a start.
        let _ = site.start();
    }
    let _ = format!("{fits:?} {site:?}");
}

/// Writes a site and reads it back.
fn record<const RANK: usize, const RESERVE: usize>(site: &mut Site<'_, RANK, RESERVE>) -> Result<u32, RecordError<()>> {
    let mut bytes = Vec::new();
    let mut writer = RecordWriter::new(
        |piece: &[u8]| {
            bytes.extend_from_slice(piece);
            Ok::<_, ()>(())
        },
        1,
    )
    .map_err(RecordError::Medium)?;
    writer.site(site).and_then(|()| writer.finish()).map_err(RecordError::Medium)?;
    let mut rest = &bytes[..];
    let medium = |piece: &mut [u8]| {
        let (now, later) = rest.split_at_checked(piece.len()).ok_or(())?;
        piece.copy_from_slice(now);
        rest = later;
        Ok(())
    };
    let mut reader = RecordReader::new(medium, 1)?;
    reader.site(site)?;
    reader.finish()
}

proptest! {
    #[test]
    fn a_shape_of_any_sizes_has_lengths_and_a_verdict(shape in shape()) {
        let lengths = [shape.plane_len(), shape.state_len(), shape.delta_codes_len(), shape.delta_scales_len(), shape.scratch_len()];
        let wide = |n: usize| n as u128;
        let learns = wide(shape.out_dim) + if shape.sides == Sides::Both { wide(shape.in_dim) } else { 0 };
        let exact = [
            wide(shape.rank).saturating_mul(learns),
            wide(shape.rank).saturating_mul(learns).saturating_mul(5),
            wide(shape.out_dim) * wide(shape.in_dim),
            wide(shape.out_dim) * wide(shape.row_blocks()),
            wide(shape.in_dim) + 2 * wide(shape.out_dim),
        ];
        let capped = exact.map(|n| usize::try_from(n).unwrap_or(usize::MAX));
        prop_assert_eq!(lengths, capped);
        let whole = shape.in_dim.checked_div(shape.block).unwrap_or(0);
        prop_assert_eq!(shape.row_blocks(), whole + usize::from(shape.block > 0 && whole * shape.block < shape.in_dim));
        // What is taken, no length of it is capped.
        prop_assert!(shape.check().is_err() || exact.iter().all(|n| *n * 4 <= isize::MAX as u128));
    }

    #[test]
    fn a_site_over_any_buffers_does_its_work_or_refuses(
        shape in shape(), start in start(), index in any::<u32>(), scale in ANY, betas in [ANY, ANY],
        rule in (size(), any::<u32>(), any::<bool>(), any::<bool>()), filling in filling(), int8 in any::<bool>(), at in size(),
    ) {
        let config = SiteConfig { start, index, scale, beta_sensitivity: betas[0], beta_uncertainty: betas[1] };
        let choice = if rule.3 { FuseOrder::Oldest } else { FuseOrder::LeastImportant };
        let rule = Recompose { pairs: rule.0, min_age: rule.1 % 3, wrap: rule.2, choice };
        live(shape, config, rule, &mut filling.clone(), int8, at);
    }

    #[test]
    fn a_ledger_of_anything_is_made_or_refused(
        shape in shape(), ages in any_vec(any::<u32>(), 0..4), directions in any_vec(0..9u16, 0..4), reserve in any_vec(0..9u16, 0..7),
    ) {
        if let Ok(ledger) = Ledger::<2, 5>::restore(&shape, ages, directions, reserve) {
            prop_assert_eq!((ledger.ages().len(), ledger.directions().len()), (shape.rank, shape.rank));
            prop_assert!(ledger.reserve().len() <= 5 && ledger.check(&shape).is_ok());
        }
        let _ = (Ledger::<2, 5>::new(&shape), Ledger::<2, 5>::empty().check(&shape));
    }

    #[test]
    fn products_codes_and_heads_of_any_lengths_are_computed_or_refused(
        [m, n, block, row] in [size(), size(), size(), size()], filling in filling(), class in size(), scale in ANY, zeros in any::<bool>(),
    ) {
        let mut filling = filling;
        let len = m.saturating_mul(n);
        let (w, b, x) = (filling.floats(len), filling.floats(m), filling.floats(n));
        let halves = filling.values(len, f16::from_f32);
        let (mut codes, mut scales) = (filling.values(len, |x| x as i8), filling.floats(m));
        let (mut y, mut dw, mut db, mut dx) = (filling.floats(m), filling.floats(len), filling.floats(m), filling.floats(n));
        let zeros = if zeros { filling.values(m, |x| x as i8) } else { Vec::new() };
        for weight in [Weight::F32(&w), Weight::F16(&halves), Weight::Int8 { codes: &codes, scales: &scales, zeros: &zeros }] {
            let _ = (weight.forward(&x, &b, &mut y), weight.backward(&y, &mut dx));
            weight.row_into(row, &mut dx);
        }
        for floats in [Floats::F32(&w), Floats::F16(&halves)] {
            floats.row_into(row, &mut dx);
            let _ = (floats.at(row), floats.len(), floats.is_empty());
        }
        let mut halved = filling.values(m, f16::from_f32);
        let _ = (int8_rows(&w, n, &mut codes, &mut scales), int8_blocks(&w, n, block, &mut codes, &mut halved));
        let _ = int8_code(scale, int8_scale(&w));
        let _ = head_forward(&w, &b, &x, &mut y);
        let _ = head_backward(&w, &x, &y, &mut dw, &mut db, &mut dx);
        let loss = cross_entropy(&b, class, &mut y);
        prop_assert!(loss.is_err() || class < b.len());
        softmax(&mut y);
        let mut counts = vec![7; b.len()];
        if let Ok(mut imprint) = Imprint::new(&mut dw, &mut counts) {
            let _ = (imprint.add(&x, class), imprint.add(&x, 0));
            let _ = (imprint.classes(), imprint.examples());
            imprint.finish(scale);
        }
    }

    #[test]
    fn a_schedule_and_an_optimizer_of_any_numbers_answer(
        [warmup, steps, step, t] in [any::<u64>(), any::<u64>(), any::<u64>(), any::<u64>()], age in any::<u32>(), rates in [ANY; 6], filling in filling(),
    ) {
        for schedule in [Schedule::linear(rates[0], warmup, steps), Schedule::cosine(rates[0], warmup, steps)] {
            for t in [t, 0, u64::MAX] {
                let _ = (schedule.rate(t), schedule.at(step).rate(age), schedule.at(t).rate(u32::MAX));
            }
        }
        let optimizer = AdamW { beta1: rates[1], beta2: rates[2], eps: rates[3], decay: rates[4] };
        let mut filling = filling;
        let [mut w, mut m, mut v] = [3; 3].map(|n| filling.floats(n));
        let _ = optimizer.step_plane(age, rates[5], &filling.floats(3), &mut w, &mut m, &mut v);
        let [mut w, mut m, mut v] = [0.0f32; 3];
        optimizer.step(optimizer.correction(age), rates[5], rates[0], rates[1], [&mut w, &mut m, &mut v]);
    }
}
