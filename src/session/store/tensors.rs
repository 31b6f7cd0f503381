//! An adapter as tensors of a container, and back.

use half::f16;

use crate::adapter::{Adapter, ClassMeans, DirectionsBuf, HeadBuffers, HostLedger, SiteBuffers};
use crate::bundle::{Bundle, Container};
use crate::core::{SiteShape, Terms};
use crate::error::Result;
use crate::session::settings::PairKind;
use crate::session::start::start_adapter;

/// How much of an adapter is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Extent {
    /// What it has learned. A further lesson begins with new moments, and finds new directions.
    Learned,
    /// That, and what its next step needs.
    UnderWay,
}

/// Adds what an adapter holds, under names that begin with `under`.
pub(super) fn put<'a>(container: &mut Container<'a>, under: &str, adapter: &'a Adapter, extent: Extent) -> Result<()> {
    for site in &adapter.sites {
        put_site(container, under, site, extent)?;
    }
    let HeadBuffers { values, first, second, age, .. } = &adapter.head;
    let [classes, features] = [adapter.head.classes(), adapter.head.features()];
    container.insert_u64(&format!("{under}head/shape"), &[2], vec![classes as u64, features as u64])?;
    container.insert_f32(&format!("{under}head/values"), &[values.len()], values)?;
    if extent == Extent::UnderWay {
        for (name, plane) in [("head/first", first), ("head/second", second)] {
            container.insert_f32(&format!("{under}{name}"), &[plane.len()], plane)?;
        }
        container.insert_u32(&format!("{under}head/age"), &[1], vec![*age])?;
    }
    put_means(container, &format!("{under}means"), &adapter.means)?;
    put_means(container, &format!("{under}start_means"), &adapter.start_means)
}

/// The adapter under names that begin with `under`, checked against `bundle` and the number of classes.
///
/// # Errors
/// Kind `Store` where a tensor does not fit.
pub(super) fn take(
    container: &Container,
    under: &str,
    bundle: &Bundle,
    kind: PairKind,
    classes: usize,
) -> Result<Adapter> {
    let shape = container.u64(&format!("{under}head/shape"), &[2])?;
    if shape != [classes as u64, bundle.feature_dim as u64] {
        return Err(container.fault("its head has another size than its classes and the backbone's features"));
    }
    // What is there, before room is made for it.
    let [values] = container.dims(&format!("{under}head/values"))?;
    if Some(values) != classes.checked_mul(bundle.feature_dim + 1) {
        return Err(container.fault("its head has another number of weights than its shape says"));
    }
    let has_pairs = container.names().any(|name| name.strip_prefix(under).is_some_and(|n| n.starts_with("site/")));
    let mut adapter = start_adapter(bundle, has_pairs.then_some(kind), classes)?;
    let sites = adapter.sites.into_iter().map(|site| take_site(container, under, site));
    adapter.sites = sites.collect::<Result<_>>()?;
    let head = &mut adapter.head;
    let len = head.values.len();
    head.values = container.f32(&format!("{under}head/values"), &[len])?;
    if container.has(&format!("{under}head/age")) {
        head.first = container.f32(&format!("{under}head/first"), &[len])?;
        head.second = container.f32(&format!("{under}head/second"), &[len])?;
        head.age = container.u32(&format!("{under}head/age"), &[1])?[0];
    }
    for (name, means) in [("means", &mut adapter.means), ("start_means", &mut adapter.start_means)] {
        take_means(container, &format!("{under}{name}"), means)?;
    }
    Ok(adapter)
}

/// The three tensors of class means: sums (classes x features), counts and lengths (classes).
const MEANS: [&str; 3] = ["sums", "counts", "lengths"];

fn put_means<'m>(container: &mut Container<'m>, under: &str, means: &'m ClassMeans) -> Result<()> {
    let [classes, features] = [means.classes(), means.features()];
    let [sums, counts, lengths] = MEANS.map(|what| format!("{under}/{what}"));
    container.insert_f32(&sums, &[classes, features], &means.sums)?;
    container.insert_u32(&counts, &[classes], &means.counts)?;
    container.insert_f32(&lengths, &[classes], &means.lengths)
}

/// Whether there are class means: generations that were written before there were any have none, and their classes stay unknown.
///
/// # Errors
/// Kind `Store` where some are missing, have another shape, or cannot be what photos add up to.
fn take_means(container: &Container, under: &str, means: &mut ClassMeans) -> Result<bool> {
    let names = MEANS.map(|what| format!("{under}/{what}"));
    if !names.iter().any(|name| container.has(name)) {
        return Ok(false);
    }
    let [classes, features] = [means.classes(), means.features()];
    means.sums = container.f32(&names[0], &[classes, features])?;
    means.counts = container.u32(&names[1], &[classes])?;
    means.lengths = container.f32(&names[2], &[classes])?;
    if means.can_be() { Ok(true) } else { Err(container.fault(format_args!("its {under} are no means of photos"))) }
}

/// Takes the class `row` out of the class means, where there are any.
///
/// # Errors
/// Kind `Store` where a tensor has another shape.
pub(super) fn forget_means(container: &mut Container, row: usize, [classes, features]: [usize; 2]) -> Result<()> {
    for under in ["means", "start_means"] {
        let mut means = ClassMeans::unknown(classes, features);
        if !take_means(container, under, &mut means)? {
            continue;
        }
        means.forget(row);
        let [sums, counts, lengths] = MEANS.map(|what| format!("{under}/{what}"));
        [&sums, &counts, &lengths].into_iter().for_each(|name| container.forget(name));
        container.insert_f32(&sums, &[classes - 1, features], means.sums)?;
        container.insert_u32(&counts, &[classes - 1], means.counts)?;
        container.insert_f32(&lengths, &[classes - 1], means.lengths)?;
    }
    Ok(())
}

fn put_site<'s>(container: &mut Container<'s>, under: &str, site: &'s SiteBuffers, extent: Extent) -> Result<()> {
    let name = |what: &str| format!("{under}site/{}/{what}", site.name);
    let shape = &site.shape;
    let (mut directions, mut reserve) = (site.ledger.directions().to_vec(), site.ledger.reserve().collect::<Vec<_>>());
    match extent {
        Extent::UnderWay => container.insert_f32(&name("state"), &[shape.state_len()], &site.state)?,
        Extent::Learned => {
            container.insert_f32(&name("values"), &[shape.plane_len()], &site.state[..shape.plane_len()])?;
        }
    }
    match (site.found(), extent) {
        (None, _) => {}
        (Some(found), Extent::UnderWay) => put_found(container, &name("found"), found, shape.in_dim)?,
        (Some(_), Extent::Learned) => {
            put_found(container, &name("found"), &site.live_directions(), shape.in_dim)?;
            (directions, reserve) = ((0..).take(shape.rank).collect(), Vec::new());
        }
    }
    container.insert_i8(&name("delta"), &[shape.out_dim, shape.in_dim], &site.codes)?;
    container.insert_f16(&name("delta_scales"), &[shape.out_dim, shape.row_blocks()], &site.scales)?;
    container.insert_u32(&name("ages"), &[shape.rank], site.ledger.ages())?;
    container.insert_u16(&name("directions"), &[shape.rank], directions)?;
    container.insert_u16(&name("reserve"), &[reserve.len()], reserve)
}

fn take_site(container: &Container, under: &str, mut site: SiteBuffers) -> Result<SiteBuffers> {
    let prefix = format!("{under}site/{}/", site.name);
    let name = |what: &str| format!("{prefix}{what}");
    if container.has(&name("found")) {
        let found = take_found(container, &name("found"), site.shape.in_dim)?;
        site.go_along(found).map_err(|e| container.fault(e))?;
    }
    let shape = site.shape;
    if container.has(&name("values")) {
        site.state = container.f32(&name("values"), &[shape.plane_len()])?;
        site.state.resize(shape.state_len(), 0.0);
    } else {
        site.state = container.f32(&name("state"), &[shape.state_len()])?;
    }
    site.codes = container.i8(&name("delta"), &[shape.out_dim, shape.in_dim])?;
    site.scales = container.f16(&name("delta_scales"), &[shape.out_dim, shape.row_blocks()])?;
    let ages = container.u32(&name("ages"), &[shape.rank])?;
    let directions = container.u16(&name("directions"), &[shape.rank])?;
    let reserve = container.u16(&name("reserve"), &container.dims::<1>(&name("reserve"))?)?;
    site.ledger = HostLedger::restore(&shape, ages, directions, reserve).map_err(|e| container.fault(e.to_string()))?;
    merge_staged(container, &prefix, &mut site)?;
    site.refresh().map_err(|e| container.fault(e))?;
    Ok(site)
}

/// Directions that a lesson has found: codes (K x in_dim), the step of each row, and the roots of the energies.
fn put_found(container: &mut Container, name: &str, found: &DirectionsBuf, in_dim: usize) -> Result<()> {
    let (count, (codes, steps)) = (found.sigma.len(), found.codes(in_dim));
    container.insert_i8(name, &[count, in_dim], codes)?;
    container.insert_f32(&format!("{name}_step"), &[count], steps)?;
    container.insert_f32(&format!("{name}_sigma"), &[count], found.sigma.to_vec())
}

fn take_found(container: &Container, name: &str, in_dim: usize) -> Result<DirectionsBuf> {
    let [count, _] = container.dims(name)?;
    let sigma = container.f32(&format!("{name}_sigma"), &[count])?;
    let step = format!("{name}_step");
    let found = if container.has(&step) {
        let codes = container.i8(name, &[count, in_dim])?;
        DirectionsBuf::of_codes(sigma, &codes, &container.f32(&step, &[count])?)
    } else {
        // An earlier version kept them in f16. They are rounded now, which moves what pairs have learned by half a step at most.
        DirectionsBuf { sigma: sigma.into(), u: [].into(), v: container.f16(name, &[count, in_dim])?.into() }
    };
    // As it will be used: what is finite may be rounded to what is not.
    let found = found.on_grid(in_dim);
    if found.v.iter().all(|v| v.is_finite()) {
        return Ok(found);
    }
    Err(container.fault(format_args!("{name}_step holds no steps of directions")))
}

/// Terms b a^T in f16: rows of b, then as many rows of a.
struct Staged<'s> {
    shape: SiteShape,
    count: usize,
    b: &'s [f16],
    a: &'s [f16],
}

impl Terms for Staged<'_> {
    fn count(&self) -> usize {
        self.count
    }

    fn b(&self, term: usize, row: usize) -> f32 {
        self.b[term * self.shape.out_dim + row].to_f32()
    }

    fn a(&self, term: usize, column: usize) -> f32 {
        self.a[term * self.shape.in_dim + column].to_f32()
    }
}

/// Earlier versions kept up to four fused terms beside the delta; in their generations those are added to it now.
fn merge_staged(container: &Container, prefix: &str, site: &mut SiteBuffers) -> Result<()> {
    let [stage, staged] = ["delta_stage", "delta_staged"].map(|what| format!("{prefix}{what}"));
    if !container.has(&staged) {
        return Ok(());
    }
    let shape = site.shape;
    let (count, [len]) = (container.u32(&staged, &[1])?[0] as usize, container.dims(&stage)?);
    let rows = len / (shape.out_dim + shape.in_dim);
    if count > rows || len != rows * (shape.out_dim + shape.in_dim) {
        return Err(container.fault(format!("{staged}: {count} terms, where there is room for {rows}")));
    }
    let values = container.f16(&stage, &[len])?;
    let (b, a) = values.split_at(rows * shape.out_dim);
    if count > 0 {
        site.view_mut()
            .delta
            .add(&shape, &Staged { shape, count, b, a })
            .map_err(|e| container.fault(e.to_string()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adapter::{SiteSeed, SiteSettings};
    use crate::bundle::Kind;
    use crate::core::{FuseOrder, Recompose, Sides};

    const SHAPE: [usize; 2] = [6, 5];
    /// Rows of b and of a that earlier versions had room for.
    const ROWS: usize = 4;

    fn site() -> SiteBuffers {
        let halves = |n: usize| (0..n).map(|i| f16::from_f32((i as f32 * 0.7).sin())).collect();
        let [out_dim, in_dim] = SHAPE;
        let directions = DirectionsBuf { sigma: vec![1.0; 4].into(), u: halves(4 * out_dim), v: halves(4 * in_dim) };
        let seeds = [SiteSeed::new("map", [out_dim, in_dim], directions)];
        Adapter::start(seeds, 2, SiteSettings::default(), 2, 3).unwrap().sites.remove(0)
    }

    /// D, element by element.
    fn dense(site: &mut SiteBuffers) -> Vec<f32> {
        let shape = site.shape;
        let mut dense = vec![0.0; shape.delta_codes_len()];
        let view = site.view_mut();
        let rows = dense.chunks_mut(shape.in_dim).enumerate();
        rows.for_each(|(row, out)| view.delta.view().row_into(&shape, row, out).unwrap());
        dense
    }

    #[test]
    fn directions_that_cannot_be_those_of_a_site_are_refused() {
        let [out_dim, in_dim] = SHAPE;
        let found = site_of(Sides::One);
        let rank = found.shape.rank;
        assert_eq!(rank, (out_dim + in_dim) / out_dim);
        let stored = || {
            let mut container = Container::new(Kind::Store);
            put_site(&mut container, "", &found, Extent::UnderWay).unwrap();
            container
        };
        let taken = take_site(&stored(), "", one_sided()).unwrap();
        assert_eq!(taken.found(), found.found());
        let mut earlier = stored();
        ["found", "found_step"].iter().for_each(|what| earlier.forget(&format!("site/map/{what}")));
        let own = found.found().unwrap();
        earlier.insert_f16("site/map/found", &[4, in_dim], own.v.to_vec()).unwrap();
        assert_eq!(take_site(&earlier, "", one_sided()).unwrap().found(), Some(own));

        for (rows, width, [sigmas, steps], step) in [
            (0, in_dim, [0, 0], 0.1),
            (4, in_dim - 1, [4, 4], 0.1),
            (4, in_dim, [3, 4], 0.1),
            (4, in_dim, [4, 3], 0.1),
            (4, in_dim, [4, 4], 1e6),
            (4, in_dim, [4, 4], 65472.0),
            (4, in_dim, [4, 4], f32::NAN),
            (usize::from(u16::MAX) + 1, 1, [4, 4], 0.1),
            (rank - 1, in_dim, [rank - 1, rank - 1], 0.1),
        ] {
            let mut bad = stored();
            ["found", "found_sigma", "found_step"].iter().for_each(|what| bad.forget(&format!("site/map/{what}")));
            bad.insert_i8("site/map/found", &[rows, width], vec![1; rows * width]).unwrap();
            bad.insert_f32("site/map/found_sigma", &[sigmas], vec![0.0; sigmas]).unwrap();
            bad.insert_f32("site/map/found_step", &[steps], vec![step; steps]).unwrap();
            assert!(
                take_site(&bad, "", one_sided()).is_err(),
                "{rows} x {width}, {sigmas} sigmas, {steps} steps of {step}"
            );
        }
    }

    #[test]
    fn what_is_learned_maps_as_before_and_goes_on_along_new_directions() {
        for sides in [Sides::One, Sides::Both] {
            let mut site = site_of(sides);
            site.values_mut().iter_mut().enumerate().for_each(|(at, value)| *value = (at as f32).cos());
            let rule = Recompose { pairs: 1, min_age: 0, wrap: false, choice: FuseOrder::LeastImportant };
            assert!(!site.recompose(&rule).unwrap().is_empty());
            site.values_mut().iter_mut().enumerate().for_each(|(at, value)| *value += (at as f32).sin());
            site.state[site.shape.plane_len()..].fill(7.0);
            let kept = |extent| {
                let mut container = Container::new(Kind::Store);
                put_site(&mut container, "", &site, extent).unwrap();
                take_site(&container, "", site_of(sides)).unwrap()
            };
            let [mut learned, mut under_way] = [Extent::Learned, Extent::UnderWay].map(kept);
            assert_eq!((&under_way.state, under_way.found()), (&site.state, site.found()));
            assert!(learned.state[site.shape.plane_len()..].iter().all(|moment| *moment == 0.0));
            assert_eq!(map(&mut learned), map(&mut under_way));
            if sides == Sides::One {
                let rank = site.shape.rank;
                assert_eq!(learned.found().map(|found| found.sigma.len()), Some(rank));
                let others: Vec<f16> = (0..40).map(|at| f16::from_f32((at as f32 * 1.7).sin())).collect();
                let others = DirectionsBuf { sigma: vec![2.0; 8].into(), u: [].into(), v: others.into() };
                learned.go_on_along(&others).unwrap();
                assert_eq!(map(&mut learned), map(&mut under_way));
                assert_eq!((learned.shape.reserve, learned.ledger.reserve().count()), (SHAPE[1], SHAPE[1] - rank));
                assert!(!learned.recompose(&rule).unwrap().is_empty(), "there are unused ones again");
            }
        }
    }

    /// What a site makes of a vector.
    fn map(site: &mut SiteBuffers) -> Vec<f32> {
        let (x, mut y) = (vec![0.3, -1.0, 0.7, 2.0, -0.4], vec![0.0; SHAPE[0]]);
        let mut scratch = vec![0.0; site.shape.scratch_len()];
        site.view_mut().forward(&x, &mut y, &mut scratch).unwrap();
        y
    }

    /// One at its start, along directions that were found where one side learns.
    fn site_of(sides: Sides) -> SiteBuffers {
        if sides == Sides::Both {
            return site();
        }
        let v: Vec<f16> = (0..4 * SHAPE[1]).map(|at| f16::from_f32((at as f32).sin())).collect();
        let found = DirectionsBuf { sigma: vec![1.0; 4].into(), u: [].into(), v: v.into() };
        let mut site = one_sided();
        site.go_along(found).unwrap();
        site
    }

    fn one_sided() -> SiteBuffers {
        let settings = SiteSettings { sides: Sides::One, ..SiteSettings::default() };
        let seeds = [SiteSeed::new("map", SHAPE, DirectionsBuf::blank(4, SHAPE[1]))];
        Adapter::start(seeds, 1, settings, 2, 3).unwrap().sites.remove(0)
    }

    #[test]
    fn terms_beside_the_delta_of_an_earlier_version_become_part_of_it() {
        let [out_dim, in_dim] = SHAPE;
        let mut fused = site();
        fused.codes.iter_mut().enumerate().for_each(|(at, code)| *code = (at * 37 % 255) as i8);
        fused.scales.fill(f16::from_f32(0.01));
        let stage: Vec<f16> = (0..ROWS * (out_dim + in_dim)).map(|at| f16::from_f32((at as f32).cos())).collect();
        let stored = |len: usize, staged: u32| {
            let mut container = Container::new(Kind::Store);
            put_site(&mut container, "", &fused, Extent::UnderWay).unwrap();
            container.insert_f16("site/map/delta_stage", &[len], stage[..len].to_vec()).unwrap();
            container.insert_u32("site/map/delta_staged", &[1], vec![staged]).unwrap();
            take_site(&container, "", site())
        };
        let blocks = dense(&mut fused.clone());
        for staged in 0..=ROWS {
            let mut taken = stored(stage.len(), staged as u32).unwrap();
            let (b, a) = stage.split_at(ROWS * out_dim);
            let expected = |at: usize| {
                let term = |t: usize| b[t * out_dim + at / in_dim].to_f32() * a[t * in_dim + at % in_dim].to_f32();
                blocks[at] + (0..staged).map(term).sum::<f32>()
            };
            let found = dense(&mut taken);
            for row in 0..out_dim {
                let span = row * in_dim..(row + 1) * in_dim;
                let step = span.clone().map(|at| expected(at).abs()).fold(0.0, f32::max) / 127.0;
                let worst = span.map(|at| (found[at] - expected(at)).abs()).fold(0.0, f32::max);
                assert!(worst <= 0.56 * step, "{staged} terms, row {row}: {worst} of {step}");
            }
            assert!(staged > 0 || taken.codes == fused.codes, "without terms nothing is rounded again");
            assert!(taken.has_merged());
        }
        for (len, staged) in [(stage.len(), ROWS + 1), (stage.len(), usize::MAX), (stage.len() - 1, 0), (0, 1)] {
            assert!(stored(len, staged as u32).is_err(), "{staged} terms in {len} numbers");
        }
    }
}
