//! The core against independent sources: finite differences in f64, dense matrices, its own promises.

extern crate std;

use half::f16;
use proptest::prelude::*;
use std::{format, println, vec, vec::Vec};

use super::*;

const SHAPE: SiteShape = SiteShape { out_dim: 7, in_dim: 10, rank: 3, sides: Sides::Both, reserve: 6, block: 4 };
/// One-sided pairs, more than W has rows.
const ONE_SIDED: SiteShape = SiteShape { out_dim: 3, in_dim: 10, rank: 4, sides: Sides::One, reserve: 8, block: 4 };
const STARTS: [Start; 3] = [Start::Aligned, Start::Principal, Start::Random { seed: 5 }];

/// Every kind of pairs on every start.
fn kinds() -> impl Iterator<Item = (SiteShape, Start)> {
    [SHAPE, ONE_SIDED].into_iter().flat_map(|shape| STARTS.map(|start| (shape, start)))
}

/// Reproducible numbers in -1..1 (an LCG, so that nothing under test makes its own input).
fn numbers(seed: u32, len: usize) -> Vec<f32> {
    let mut x = seed.wrapping_mul(2_654_435_761).wrapping_add(1);
    let mut next = || {
        x = x.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (x >> 8) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..len).map(|_| next()).collect()
}

/// All that a site lends.
struct Lent {
    shape: SiteShape,
    config: SiteConfig,
    sigma: Vec<f32>,
    u: Vec<f32>,
    v: Vec<f32>,
    state: Vec<f32>,
    ledger: Ledger<4, 8>,
    codes: Vec<i8>,
    scales: Vec<f16>,
}

impl Lent {
    fn new(shape: SiteShape, start: Start) -> Self {
        let mut lent = Lent {
            shape,
            config: SiteConfig { start, scale: 1.5, ..SiteConfig::default() },
            sigma: (0..shape.reserve).map(|k| 2.0 / (k + 1) as f32).collect(),
            u: numbers(1, shape.reserve * shape.out_dim),
            v: numbers(2, shape.reserve * shape.in_dim),
            state: vec![f32::NAN; shape.state_len()],
            ledger: Ledger::new(&shape).unwrap(),
            codes: vec![0; shape.delta_codes_len()],
            scales: vec![f16::ZERO; shape.delta_scales_len()],
        };
        lent.site().start().unwrap();
        lent
    }

    fn site(&mut self) -> Site<'_, 4, 8> {
        let directions = Directions { sigma: &self.sigma, u: Floats::F32(&self.u), v: Floats::F32(&self.v) };
        let delta = Delta::Int8 { codes: &mut self.codes, scales: &mut self.scales };
        Site::new(self.shape, self.config, directions, &mut self.state, &mut self.ledger, delta).unwrap()
    }

    /// Moves every pair, as training would, and lives one step.
    fn train(&mut self, seed: u32) {
        let plane = self.shape.plane_len();
        let moves = numbers(seed, plane);
        self.state[..plane].iter_mut().zip(&moves).for_each(|(w, d)| *w += 0.3 * d);
        self.site().score(&numbers(seed + 1, plane)).unwrap();
    }

    fn output(&mut self, x: &[f32]) -> Vec<f32> {
        let mut y = vec![0.0; self.shape.out_dim];
        let mut scratch = vec![f32::NAN; self.shape.scratch_len()];
        self.site().forward(x, &mut y, &mut scratch).unwrap();
        y
    }

    /// D + scale (B A - B0 A0), element by element in f64.
    fn dense(&mut self) -> Vec<f64> {
        let (shape, scale) = (self.shape, f64::from(self.config.scale));
        let state = self.state.clone();
        let (a, b_t) = state[..shape.plane_len()].split_at(shape.a_len());
        let site = self.site();
        let mut delta = vec![0.0; shape.in_dim];
        let mut dense = Vec::new();
        for i in 0..shape.out_dim {
            site.delta.view().row_into(&shape, i, &mut delta).unwrap();
            for j in 0..shape.in_dim {
                let live: f64 = (0..shape.rank)
                    .map(|k| {
                        let start = site.start_row(k).unwrap();
                        let a = if a.is_empty() { start.a(j) } else { a[k * shape.in_dim + j] };
                        f64::from(b_t[k * shape.out_dim + i]) * f64::from(a)
                            - f64::from(start.b(i)) * f64::from(start.a(j))
                    })
                    .sum();
                dense.push(f64::from(delta[j]) + scale * live);
            }
        }
        dense
    }

    /// L = sum of y_i g_i, in f64.
    fn loss(&mut self, x: &[f32], g: &[f32]) -> f64 {
        let dense = self.dense();
        let rows = dense.chunks(self.shape.in_dim).zip(g);
        rows.map(|(row, g)| f64::from(*g) * row.iter().zip(x).map(|(w, x)| w * f64::from(*x)).sum::<f64>()).sum()
    }
}

const ANY_AGE: Recompose = Recompose { pairs: 2, min_age: 0, wrap: false, choice: FuseOrder::LeastImportant };

#[test]
fn at_the_start_every_output_keeps_its_bits() {
    for (shape, start) in kinds() {
        let mut lent = Lent::new(shape, start);
        let x = numbers(3, shape.in_dim);
        let mut y = numbers(4, shape.out_dim);
        (y[0], y[1]) = (-0.0, 1e-42);
        let before: Vec<u32> = y.iter().map(|y| y.to_bits()).collect();
        lent.site().forward(&x, &mut y, &mut vec![f32::NAN; shape.scratch_len()]).unwrap();
        assert_eq!(y.iter().map(|y| y.to_bits()).collect::<Vec<_>>(), before, "{shape:?}, {start:?}");
        assert!(lent.dense().iter().all(|w| *w == 0.0), "{shape:?}, {start:?}");
        let starts = lent.state.iter().any(|w| *w != 0.0) || shape.sides == Sides::One;
        assert!(starts, "{shape:?}, {start:?} starts on nothing");
    }
}

#[test]
fn forward_and_backward_agree_with_finite_differences() {
    const STEP: f32 = 1.0 / 1024.0;
    for (shape, start) in kinds() {
        let mut lent = Lent::new(shape, start);
        lent.train(10);
        lent.site().recompose(&ANY_AGE);
        lent.train(20);
        lent.site().recompose(&ANY_AGE);
        lent.train(30);
        assert!(!lent.site().delta.view().is_zero());
        let (x, g) = (numbers(5, 10), numbers(6, shape.out_dim));
        let plane = lent.shape.plane_len();
        let (mut dx, mut gradient) = (vec![0.0; 10], vec![0.0; plane]);
        let mut scratch = vec![f32::NAN; lent.shape.scratch_len()];
        lent.site().backward(&x, &g, &mut dx, &mut gradient, &mut scratch).unwrap();
        let mut worst: f64 = 0.0;
        let expected = lent.loss(&x, &g);
        let found: f64 = lent.output(&x).iter().zip(&g).map(|(y, g)| f64::from(*y) * f64::from(*g)).sum();
        worst = worst.max((found - expected).abs());
        for (at, gradient) in gradient.iter().enumerate() {
            let mut slope = |h: f32| {
                let kept = ::core::mem::replace(&mut lent.state[at], 0.0);
                lent.state[at] = kept + h;
                let moved = f64::from(lent.state[at]) - f64::from(kept);
                let loss = lent.loss(&x, &g);
                lent.state[at] = kept;
                (loss, moved)
            };
            let ((up, above), (down, below)) = (slope(STEP), slope(-STEP));
            worst = worst.max(((up - down) / (above - below) - f64::from(*gradient)).abs());
        }
        for (j, dx) in dx.iter().enumerate() {
            let mut unit = [0.0; 10];
            unit[j] = 1.0;
            worst = worst.max((lent.loss(&unit, &g) - f64::from(*dx)).abs());
        }
        println!("{shape:?}, {start:?}: worst difference {worst:.1e}");
        assert!(worst < 5e-6, "{shape:?}, {start:?}: {worst:e}");
    }
}

#[test]
fn recomposing_leaves_the_map_unchanged_within_the_reported_error() {
    for (shape, start) in kinds() {
        for wrap in [false, true] {
            let mut lent = Lent::new(shape, start);
            for event in 0..4 {
                lent.train(40 + event);
                let before = lent.dense();
                let records = lent.site().recompose(&Recompose { wrap, ..ANY_AGE });
                let moved = lent.dense().iter().zip(&before).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
                let Some(record) = records.first() else { continue };
                let reported = f64::from(record.max_error);
                println!("{start:?}, event {event}: {moved:.2e} of {reported:.2e}");
                assert!((moved - reported).abs() < 2e-6, "moved {moved:e}, reported {reported:e}");
                assert!(moved < 0.05, "{moved:e}");
            }
        }
    }
}

#[test]
fn a_recomposition_touches_nothing_but_the_delta_and_the_chosen_pairs() {
    let mut lent = Lent::new(SHAPE, Start::Principal);
    lent.train(50);
    let before = lent.state.clone();
    let records = lent.site().recompose(&Recompose { pairs: 1, ..ANY_AGE });
    let chosen = usize::from(records[0].pair);
    let plane = SHAPE.plane_len();
    for (at, (now, then)) in lent.state.iter().zip(&before).enumerate() {
        let own = SHAPE.pair_spans(chosen).iter().any(|span| span.contains(&(at % plane)));
        assert!(own || now.to_bits() == then.to_bits(), "number {at}");
        assert!(!own || at < plane || *now == 0.0, "number {at} of the new pair has a past");
    }
    assert_eq!((records[0].from, records[0].to), (chosen as u16, 3));
    assert_eq!(lent.ledger.ages()[chosen], 0);
}

#[test]
fn a_reserve_that_wraps_at_its_capacity_restarts_every_fused_pair() {
    let shape = SiteShape { rank: 3, reserve: 4, ..SHAPE };
    let mut lent = Lent::new(shape, Start::Aligned);
    let mut tight = Ledger::<3, 1>::new(&shape).unwrap();
    lent.train(60);
    let before = lent.dense();
    let directions = Directions { sigma: &lent.sigma, u: Floats::F32(&lent.u), v: Floats::F32(&lent.v) };
    let delta = Delta::Int8 { codes: &mut lent.codes, scales: &mut lent.scales };
    let mut site = Site::new(shape, lent.config, directions, &mut lent.state, &mut tight, delta).unwrap();
    let records = site.recompose(&Recompose { pairs: 3, min_age: 0, wrap: true, choice: FuseOrder::LeastImportant });
    assert_eq!(records.len(), 3);
    assert_eq!(tight.reserve().len(), 1);
    lent.ledger = Ledger::restore(&shape, [0; 3], tight.directions().iter().copied(), tight.reserve()).unwrap();
    let moved = lent.dense().iter().zip(&before).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    assert!((moved - f64::from(records[0].max_error)).abs() < 2e-6, "{moved:e}");
}

#[test]
fn with_an_empty_reserve_pairs_start_anew_on_their_own_directions_if_it_wraps_and_stay_if_not() {
    let shape = SiteShape { reserve: 3, ..SHAPE };
    for pairs in [2, 3, usize::MAX] {
        let mut lent = Lent::new(shape, Start::Aligned);
        lent.train(61);
        let before = (lent.dense(), lent.state.clone());
        let rule = Recompose { pairs, ..ANY_AGE };
        assert!(lent.site().recompose(&rule).is_empty());
        assert_eq!((lent.dense(), lent.state.clone()), before);
        let records = lent.site().recompose(&Recompose { wrap: true, ..rule });
        assert_eq!(records.len(), pairs.min(3), "no more pairs than there are");
        assert!(records.iter().all(|record| record.from == record.to), "{records:?}");
        assert_eq!((lent.ledger.directions(), lent.ledger.reserve().len()), (&[0, 1, 2][..], 0));
        let moved = lent.dense().iter().zip(&before.0).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
        assert!((moved - f64::from(records[0].max_error)).abs() < 2e-6, "{moved:e}");
    }
}

#[test]
fn a_pair_is_not_chosen_before_its_minimum_age() {
    let mut lent = Lent::new(SHAPE, Start::Aligned);
    lent.train(70);
    assert!(lent.site().recompose(&Recompose { min_age: 2, ..ANY_AGE }).is_empty());
    lent.train(71);
    assert_eq!(lent.site().recompose(&Recompose { min_age: 2, ..ANY_AGE }).len(), 2);
}

#[test]
fn the_oldest_pair_goes_first_whatever_its_importance() {
    let mut lent = Lent::new(SHAPE, Start::Aligned);
    let oldest = Recompose { pairs: 1, choice: FuseOrder::Oldest, ..ANY_AGE };
    let pairs: Vec<u16> = (0..3)
        .map(|round| {
            lent.train(80 + round);
            lent.site().recompose(&oldest)[0].pair
        })
        .collect();
    assert_eq!(pairs, [0, 1, 2], "equally old pairs go lowest index first");
}

#[test]
fn equally_important_pairs_are_chosen_lowest_index_first() {
    let mut lent = Lent::new(SHAPE, Start::Aligned);
    let chosen: Vec<u16> = lent.site().recompose(&ANY_AGE).iter().map(|record| record.pair).collect();
    assert_eq!(chosen, [0, 1]);
}

#[test]
fn one_sided_pairs_have_as_many_numbers_as_two_sided_ones_and_no_more_than_columns() {
    for (rank, out_dim, in_dim, pairs) in
        [(2, 16, 144, 20), (2, 64, 576, 20), (8, 160, 960, 56), (8, 960, 160, 9), (3, 4, 5, 5)]
    {
        assert_eq!(Sides::One.pairs(rank, out_dim, in_dim), pairs);
        assert!(pairs * out_dim <= rank * (out_dim + in_dim));
        assert_eq!(Sides::Both.pairs(rank, out_dim, in_dim), rank);
    }
    assert_eq!([Sides::One.pairs(2, 0, 4), Sides::One.pairs(usize::MAX, 2, 3)], [0, 3]);
    let most = |sides| SiteShape { sides, rank: 11, reserve: 11, ..ONE_SIDED }.check();
    assert_eq!(most(Sides::One), Err(CoreError::Rank { most: 10, given: 11 }));
    assert_eq!(most(Sides::Both), Err(CoreError::Rank { most: 3, given: 11 }));
}

#[test]
fn only_a_principal_start_needs_left_directions() {
    for (shape, start) in kinds() {
        let mut lent = Lent::new(shape, start);
        lent.u.clear();
        let directions = Directions { sigma: &lent.sigma, u: Floats::F32(&lent.u), v: Floats::F32(&lent.v) };
        assert_eq!(directions.check(&shape, start).is_ok(), start != Start::Principal);
    }
}

#[test]
fn a_random_start_has_unit_norm_and_depends_on_seed_site_and_direction() {
    let shape = SiteShape { in_dim: 200, ..SHAPE };
    let draw = |seed, site, direction| {
        let (u, v, sigma) = (vec![0.0; 42], vec![0.0; 1200], vec![1.0; 6]);
        let directions = Directions { sigma: &sigma, u: Floats::F32(&u), v: Floats::F32(&v) };
        let row = StartRow::new(Start::Random { seed }, site, directions, &shape, direction);
        assert!((0..7).all(|i| row.b(i) == 0.0));
        (0..200).map(|j| f64::from(row.a(j))).collect::<Vec<f64>>()
    };
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    let rows = [draw(1, 0, 0), draw(2, 0, 0), draw(1, 1, 0), draw(1, 0, 1)];
    assert_eq!(rows[0], draw(1, 0, 0));
    for (i, a) in rows.iter().enumerate() {
        assert!((dot(a, a) - 1.0).abs() < 1e-5);
        assert!(rows[..i].iter().all(|b| dot(a, b).abs() < 0.3), "row {i} is not independent");
    }
}

#[test]
fn the_head_and_its_loss_agree_with_finite_differences() {
    let (w, b, x) = (numbers(80, 4 * 6), numbers(81, 4), numbers(82, 6));
    let loss = |w: &[f32], b: &[f32], x: &[f32]| {
        let logit = |c: usize| f64::from(b[c]) + (0..6).map(|j| f64::from(w[c * 6 + j]) * f64::from(x[j])).sum::<f64>();
        (0..4).map(|c| logit(c).exp()).sum::<f64>().ln() - logit(2)
    };
    let (mut logits, mut dlogits) = ([0.0; 4], [0.0; 4]);
    head_forward(&w, &b, &x, &mut logits).unwrap();
    let found = cross_entropy(&logits, 2, &mut dlogits).unwrap();
    assert!((f64::from(found) - loss(&w, &b, &x)).abs() < 1e-6);
    let (mut dw, mut db, mut dx) = (vec![0.0; 24], vec![0.0; 4], vec![f32::NAN; 6]);
    head_backward(&w, &x, &dlogits, &mut dw, &mut db, &mut dx).unwrap();
    let slope = |of: &dyn Fn(&[f32]) -> f64, at: &[f32], i: usize| {
        let (mut up, mut down) = (at.to_vec(), at.to_vec());
        (up[i], down[i]) = (at[i] + 1e-3, at[i] - 1e-3);
        (of(&up) - of(&down)) / (f64::from(up[i]) - f64::from(down[i]))
    };
    for (found, at, of) in [
        (&dw, &w, &(|w: &[f32]| loss(w, &b, &x)) as &dyn Fn(&[f32]) -> f64),
        (&db, &b, &|b: &[f32]| loss(&w, b, &x)),
        (&dx, &x, &|x: &[f32]| loss(&w, &b, x)),
    ] {
        for (i, found) in found.iter().enumerate() {
            assert!((slope(of, at, i) - f64::from(*found)).abs() < 1e-5);
        }
    }
}

#[test]
fn cross_entropy_stays_a_number_for_huge_logits() {
    let mut g = [0.0; 3];
    assert!((cross_entropy(&[3e38, -3e38, 0.0], 0, &mut g).unwrap()).abs() < 1e-6);
    assert!(cross_entropy(&[1e4, 0.0, 0.0], 1, &mut g).unwrap() == 1e4);
    assert_eq!(g, [1.0, -1.0, 0.0]);
    let outside = CoreError::Class { classes: 3, given: 3 };
    assert_eq!(cross_entropy(&[0.0; 3], 3, &mut g), Err(outside));
}

#[test]
fn rows_of_an_imprinted_head_are_as_long_as_one_another_however_scattered_their_class_is() {
    let features = [[3.0, 4.0], [0.0, 2.0], [1.0, 0.0]];
    let (mut w, mut counts) = ([9.0; 6], [9; 3]);
    let mut imprint = Imprint::new(&mut w, &mut counts).unwrap();
    for (x, class) in features.iter().zip([0, 0, 1]) {
        imprint.add(x, class).unwrap();
    }
    assert_eq!(imprint.add(&[1.0, 0.0], 3), Err(CoreError::Class { classes: 3, given: 3 }));
    imprint.finish(20.0);
    // g = 20 / mean(5, 2, 1); class 0: the mean of (.6, .8) and (0, 1) is (.3, .9), of length sqrt(.9).
    let gain = 20.0 / (8.0 / 3.0);
    let expected = [0.316_228 * gain, 0.948_683 * gain, gain, 0.0, 0.0, 0.0];
    assert!(w.iter().zip(expected).all(|(w, e)| (w - e).abs() < 1e-5), "{w:?}");
}

#[test]
fn weights_in_any_precision_multiply_like_the_matrix_they_stand_for() {
    let (w, bias, x, dy) = (numbers(90, 7 * 10), numbers(91, 7), numbers(92, 10), numbers(93, 7));
    let halves: Vec<f16> = w.iter().map(|w| f16::from_f32(*w)).collect();
    let (mut codes, mut scales) = (vec![0; 70], vec![0.0; 7]);
    int8_rows(&w, 10, &mut codes, &mut scales).unwrap();
    let decoded = |zero: f32| codes.iter().enumerate().map(|(i, q)| (f32::from(*q) - zero) * scales[i / 10]).collect();
    for (weight, dense) in [
        (Weight::F32(&w), w.clone()),
        (Weight::F16(&halves), halves.iter().map(|w| w.to_f32()).collect()),
        (Weight::Int8 { codes: &codes, scales: &scales, zeros: &[] }, decoded(0.0)),
        (Weight::Int8 { codes: &codes, scales: &scales, zeros: &[-128; 7] }, decoded(-128.0)),
    ] {
        let mut row = [f32::NAN; 10];
        weight.row_into(3, &mut row);
        assert_eq!(row, dense[30..40]);
        let (mut y, mut dx) = (vec![f32::NAN; 7], vec![0.5; 10]);
        weight.forward(&x, &bias, &mut y).unwrap();
        weight.backward(&dy, &mut dx).unwrap();
        for i in 0..7 {
            let expected: f64 = (0..10).map(|j| f64::from(dense[i * 10 + j]) * f64::from(x[j])).sum();
            assert!((f64::from(y[i]) - expected - f64::from(bias[i])).abs() < 1e-6);
        }
        for j in 0..10 {
            let expected: f64 = (0..7).map(|i| f64::from(dense[i * 10 + j]) * f64::from(dy[i])).sum();
            assert!((f64::from(dx[j]) - expected - 0.5).abs() < 1e-6);
        }
    }
}

#[test]
fn buffers_of_wrong_lengths_are_refused_with_both_numbers() {
    let refuse = |spoil: fn(&mut Lent)| {
        let mut lent = Lent::new(SHAPE, Start::Aligned);
        spoil(&mut lent);
        let directions = Directions { sigma: &lent.sigma, u: Floats::F32(&lent.u), v: Floats::F32(&lent.v) };
        let delta = Delta::Int8 { codes: &mut lent.codes, scales: &mut lent.scales };
        let (state, ledger) = (&mut lent.state, &mut lent.ledger);
        let mut unchecked = Site { shape: lent.shape, config: lent.config, directions, state, ledger, delta };
        // Open fields allow this; nothing may panic, and everything that can say so must.
        assert!(unchecked.recompose(&ANY_AGE).is_empty());
        let error = unchecked.check().unwrap_err();
        // A start needs no ledger: it makes one.
        assert_eq!(unchecked.start().err(), Some(error).filter(|error| *error != CoreError::Ledger));
        let error = match unchecked.check() {
            Err(error) => error,
            Ok(()) => return format!("{error}"),
        };
        assert_eq!(unchecked.score(&[0.0; 51]), Err(error));
        assert_eq!(unchecked.adamw(&AdamW::default(), |_| 0.1, &[0.0; 51]), Err(error));
        assert_eq!(unchecked.forward(&[0.0; 10], &mut [0.0; 7], &mut [0.0; 99]), Err(error));
        let dx = &mut [0.0; 10];
        assert_eq!(unchecked.backward(&[0.0; 10], &[0.0; 7], dx, &mut [0.0; 51], &mut [0.0; 99]), Err(error));
        assert_eq!(unchecked.start_value(0, &mut [0.0; 10], &mut [0.0; 7]), Err(error));
        assert_eq!((unchecked.importance(99), unchecked.start_row(99).err()), (0.0, Some(error)));
        format!("{error}")
    };
    for (spoil, message) in [
        ((|l| l.state.truncate(3)) as fn(&mut Lent), "State has 3 elements, not 255"),
        (|l| l.sigma.truncate(0), "Sigma has 0 elements, not 6"),
        (|l| l.u.truncate(1), "DirectionsU has 1 elements, not 42"),
        (|l| l.v.push(0.0), "DirectionsV has 61 elements, not 60"),
        (|l| l.codes.truncate(1), "DeltaCodes has 1 elements, not 70"),
        (|l| l.scales.truncate(1), "DeltaScales has 1 elements, not 21"),
        (|l| l.shape.block = 0, "delta blocks of 0 columns"),
        (|l| l.shape.in_dim = 0, "rank 3; 0 is the most"),
        (|l| l.shape.rank = 8, "rank 8; 7 is the most"),
        (|l| l.shape.reserve = 2, "2 directions where 3 is the limit"),
        (|l| l.shape.in_dim = usize::MAX, "a shape beyond the address space"),
        (|l| l.ledger = Ledger::new(&SiteShape { rank: 2, ..SHAPE }).unwrap(), "a ledger of another site"),
    ] {
        assert_eq!(refuse(spoil), message);
    }
}

#[test]
fn vectors_of_wrong_lengths_are_refused() {
    let mut lent = Lent::new(SHAPE, Start::Aligned);
    let site = lent.site();
    let length = |buffer, needed, given| Err(CoreError::Length { buffer, needed, given });
    assert_eq!(site.forward(&[0.0; 9], &mut [0.0; 7], &mut [0.0; 24]), length(Buffer::Input, 10, 9));
    assert_eq!(site.forward(&[0.0; 10], &mut [0.0; 8], &mut [0.0; 24]), length(Buffer::Output, 7, 8));
    assert_eq!(site.forward(&[0.0; 10], &mut [0.0; 7], &mut [0.0; 23]), length(Buffer::Scratch, 24, 23));
    assert_eq!(site.start_value(0, &mut [0.0; 10], &mut [0.0; 6]), length(Buffer::Output, 7, 6));
    assert!(site.start_value(3, &mut [0.0; 10], &mut [0.0; 7]).is_err());
    assert_eq!(lent.site().score(&[0.0; 50]), length(Buffer::Gradient, 51, 50));
    let short = AdamW::default().step_plane(1, 0.1, &[0.0; 2], &mut [0.0; 2], &mut [0.0; 2], &mut [0.0; 1]);
    assert_eq!(short, length(Buffer::State, 2, 1));
    assert!(Weight::F32(&[0.0; 5]).backward(&[0.0; 2], &mut [0.0; 3]).is_err());
    assert!(Ledger::<2, 8>::new(&SHAPE).is_err() && Ledger::<4, 2>::new(&SHAPE).is_err());
}

/// 65536 rows of 65536 columns are 0 elements to a machine of 32 bits that does not look.
#[test]
fn a_product_of_lengths_beyond_the_address_space_is_refused() {
    let many = vec![0.0; 1 << 16];
    let (mut logits, mut gradient) = (many.clone(), many.clone());
    assert!(head_forward(&[], &many, &many, &mut logits).is_err());
    assert!(head_backward(&[], &many, &many, &mut [], &mut logits, &mut gradient).is_err());
    assert!(Weight::F32(&[]).forward(&many, &many, &mut logits).is_err());
    assert!(int8_rows(&[], usize::MAX / 2 + 1, &mut [], &mut [0.0; 2]).is_err());
    let mut row = [7.0; 4];
    Weight::F32(&many).row_into(usize::MAX / 2 + 1, &mut row);
    assert_eq!(row, [7.0; 4]);
    Floats::F32(&many).row_into(usize::MAX / 2 + 1, &mut row);
    assert_eq!(row, [0.0; 4]);
}

#[test]
fn a_saved_ledger_comes_back_as_it_was() {
    let mut lent = Lent::new(SHAPE, Start::Aligned);
    lent.train(95);
    lent.site().recompose(&ANY_AGE);
    let l = &lent.ledger;
    let back = Ledger::<4, 8>::restore(&SHAPE, l.ages().iter().copied(), l.directions().iter().copied(), l.reserve());
    let back = back.unwrap();
    assert_eq!((back.ages(), back.directions()), (l.ages(), l.directions()));
    assert!(back.reserve().eq(l.reserve()));
    let unknown = Ledger::<4, 8>::restore(&SHAPE, [0; 3], [0, 1, 6], []);
    assert_eq!(unknown.unwrap_err(), CoreError::Ledger);
}

proptest! {
    /// Half a step of the scale; an f16 scale is itself off by up to 2^-11, or by 2^-25 where it is subnormal.
    #[test]
    fn codes_come_back_within_half_a_step(row in prop::collection::vec(-1e3f32..1e3, 1..70), exponent in -12i32..3) {
        let row: Vec<f32> = row.iter().map(|x| x * 10f32.powi(exponent)).collect();
        let (mut codes, mut scale) = (vec![0; row.len()], [0.0]);
        int8_rows(&row, row.len(), &mut codes, &mut scale).unwrap();
        for (code, x) in codes.iter().zip(&row) {
            prop_assert!((f32::from(*code) * scale[0] - x).abs() <= 0.5001 * scale[0]);
        }
        let mut scales = vec![f16::ZERO; row.len().div_ceil(32)];
        int8_blocks(&row, row.len(), 32, &mut codes, &mut scales).unwrap();
        for (i, (code, x)) in codes.iter().zip(&row).enumerate() {
            let block = &row[i / 32 * 32..row.len().min(i / 32 * 32 + 32)];
            let exact = block.iter().fold(0.0f32, |m, x| m.max(x.abs())) / 127.0;
            let clipped = 127.0 * (exact / 2048.0).max(2f32.powi(-25));
            let error = (f32::from(*code) * scales[i / 32].to_f32() - x).abs();
            prop_assert!(error <= 0.501 * exact + clipped, "{error} of {exact}");
        }
    }
}

#[test]
fn codes_round_halves_to_even_and_stay_symmetric() {
    let codes = [0.5, 1.5, 2.5, -0.5, -1.5, -2.5, 1e9, -1e9, 0.0].map(|x| int8_code(x, 1.0));
    assert_eq!(codes, [0, 2, 2, 0, -2, -2, 127, -127, 0]);
    assert_eq!(int8_code(1.0, 0.0), 0);
}

#[test]
fn a_scale_beyond_f16_clips_instead_of_making_nan() {
    let (mut codes, mut scales) = ([0; 2], [f16::ZERO; 1]);
    int8_blocks(&[1e9, -1.0], 2, 32, &mut codes, &mut scales).unwrap();
    assert_eq!((codes[0], scales[0]), (127, f16::MAX));
}

/// A record in memory: a header for network 7, then the site.
fn recorded(lent: &mut Lent) -> Vec<u8> {
    let mut bytes = Vec::new();
    let medium = |piece: &[u8]| {
        bytes.extend_from_slice(piece);
        Ok::<_, ()>(())
    };
    let mut record = RecordWriter::new(medium, 7).unwrap();
    record.site(&lent.site()).unwrap();
    record.finish().unwrap();
    bytes
}

/// A medium that ends where the bytes do.
fn medium(mut rest: &[u8]) -> impl FnMut(&mut [u8]) -> Result<(), ()> {
    move |piece| {
        let (now, later) = rest.split_at_checked(piece.len()).ok_or(())?;
        piece.copy_from_slice(now);
        rest = later;
        Ok(())
    }
}

/// Reads what [`recorded`] wrote, without verifying it first.
fn read_back(lent: &mut Lent, bytes: &[u8], binding: u32) -> Result<u32, RecordError<()>> {
    let mut record = RecordReader::new(medium(bytes), binding)?;
    record.site(&mut lent.site())?;
    record.finish()
}

/// The same, verified first: all or nothing.
fn verify_and_read_back(lent: &mut Lent, bytes: &[u8], binding: u32) -> Result<u32, RecordError<()>> {
    let mut record = RecordReader::verify(medium(bytes), binding)?;
    record.site(&mut lent.site())?;
    record.finish()?;
    read_back(lent, bytes, binding)
}

const SEEDED: Start = Start::Random { seed: 0x0123_4567_89ab_cdef };

/// A site that has lived: pairs that have learned, a delta, a reserve in another order.
fn lived(seed: u32) -> Lent {
    let mut lent = Lent::new(SHAPE, SEEDED);
    for event in 0..3 {
        lent.train(seed + 2 * event);
        lent.site().recompose(&Recompose { wrap: true, ..ANY_AGE });
    }
    assert!(lent.codes.iter().any(|code| *code != 0));
    lent
}

#[test]
fn a_site_comes_back_from_its_record_bit_for_bit() {
    let mut lent = lived(300);
    let bytes = recorded(&mut lent);
    let mut other = Lent::new(lent.shape, lent.config.start);
    verify_and_read_back(&mut other, &bytes, 7).unwrap();
    assert_eq!(recorded(&mut other), bytes);
    let bits = |state: &[f32]| state.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
    assert_eq!(bits(&other.state), bits(&lent.state));
    assert_eq!((&other.codes, &other.scales), (&lent.codes, &lent.scales));
    assert_eq!((other.ledger.ages(), other.ledger.directions()), (lent.ledger.ages(), lent.ledger.directions()));
    assert!(other.ledger.reserve().eq(lent.ledger.reserve()));
}

#[test]
fn a_record_is_little_endian_and_without_padding_on_every_machine() {
    let mut lent = lived(300);
    let mut expected = b"srlr\x02\0\0\0\x07\0\0\0".to_vec();
    for n in [7u32, 10, 3, 6, 4, 0x102, 0x89ab_cdef, 0x0123_4567, 0, 0x3fc0_0000] {
        expected.extend(n.to_le_bytes());
    }
    expected.extend(lent.ledger.ages().iter().flat_map(|n| n.to_le_bytes()));
    expected.extend(lent.ledger.directions().iter().flat_map(|n| n.to_le_bytes()));
    expected.extend((lent.ledger.reserve().len() as u32).to_le_bytes());
    expected.extend(lent.ledger.reserve().flat_map(u16::to_le_bytes));
    expected.extend(lent.state.iter().flat_map(|x| x.to_bits().to_le_bytes()));
    expected.extend(lent.codes.iter().map(|code| *code as u8));
    expected.extend(lent.scales.iter().flat_map(|x| x.to_bits().to_le_bytes()));
    let bytes = recorded(&mut lent);
    assert_eq!(bytes[..bytes.len() - 4], expected);
}

#[test]
fn the_checksum_is_that_of_zip() {
    // An empty record: its checksum is zlib's crc32(b"srlr\2\0\0\0\7\0\0\0").
    let record = RecordWriter::new(|_: &[u8]| Ok::<_, ()>(()), 7).unwrap();
    assert_eq!(record.finish(), Ok(0x4433_4e30));
}

/// Every flipped bit and every truncation of a record, or some of them under miri.
fn damaged(bytes: &[u8]) -> impl Iterator<Item = Vec<u8>> + '_ {
    let [bits, lengths] = if cfg!(miri) { [997, 311] } else { [1, 1] };
    let flips = (0..8 * bytes.len()).step_by(bits).map(|bit| {
        let mut spoiled = bytes.to_vec();
        spoiled[bit / 8] ^= 1 << (bit % 8);
        spoiled
    });
    flips.chain((0..bytes.len()).step_by(lengths).map(|length| bytes[..length].to_vec()))
}

#[test]
fn of_a_damaged_record_that_is_verified_first_nothing_is_taken() {
    let (bytes, mut other) = (recorded(&mut lived(300)), lived(400));
    let before = recorded(&mut other);
    assert_ne!(before, bytes);
    let mut refused = 0;
    for spoiled in damaged(&bytes) {
        verify_and_read_back(&mut other, &spoiled, 7).unwrap_err();
        assert!(recorded(&mut other) == before, "a record that was refused has changed the site");
        refused += 1;
    }
    println!("{refused} damaged records refused");
    verify_and_read_back(&mut other, &bytes, 7).unwrap();
    assert_eq!(recorded(&mut other), bytes);
}

#[test]
fn after_a_damaged_record_the_site_is_started_or_can_be() {
    let (bytes, fresh) = (recorded(&mut lived(300)), recorded(&mut Lent::new(SHAPE, SEEDED)));
    for spoiled in damaged(&bytes) {
        let mut other = lived(400);
        match RecordReader::new(medium(&spoiled), 7) {
            // Nothing was read.
            Err(_) => assert!(recorded(&mut other) == recorded(&mut lived(400))),
            Ok(mut record) => match record.site(&mut other.site()) {
                Err(_) => assert!(recorded(&mut other) == fresh, "half a record is left"),
                Ok(()) => {
                    record.finish().unwrap_err();
                    other.site().start().unwrap();
                    assert!(recorded(&mut other) == fresh, "a start leaves something of the record");
                }
            },
        }
    }
}

#[test]
fn a_record_of_something_else_is_refused_with_the_reason() {
    let bytes = recorded(&mut lived(300));
    let fresh = |shape| Lent::new(shape, SEEDED);
    for length in (0..bytes.len()).step_by(if cfg!(miri) { 311 } else { 1 }) {
        assert_eq!(read_back(&mut fresh(SHAPE), &bytes[..length], 7), Err(RecordError::Medium(())), "{length} bytes");
    }
    assert_eq!(read_back(&mut fresh(SHAPE), &bytes, 8), Err(RecordError::Binding { needed: 8, given: 7 }));
    assert_eq!(read_back(&mut fresh(SiteShape { rank: 2, ..SHAPE }), &bytes, 7), Err(RecordError::Site));
    assert_eq!(read_back(&mut Lent::new(SHAPE, Start::Aligned), &bytes, 7), Err(RecordError::Site));
    for version in [1, 3] {
        let mut other = bytes.clone();
        other[4] = version;
        assert_eq!(read_back(&mut fresh(SHAPE), &other, 7), Err(RecordError::Version { given: version.into() }));
    }
    // More directions than the ledger has room for.
    let reserve = 12 + 40 + 3 * 4 + 3 * 2;
    let mut endless = bytes.clone();
    endless[reserve..reserve + 4].fill(0xff);
    assert_eq!(read_back(&mut fresh(SHAPE), &endless, 7), Err(RecordError::Core(CoreError::Ledger)));
}
