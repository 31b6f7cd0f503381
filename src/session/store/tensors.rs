//! An adapter as tensors of a container, and back.

use crate::adapter::{Adapter, HeadBuffers, HostLedger, SiteBuffers, SiteSettings};
use crate::bundle::{Bundle, Container};
use crate::core::Start;
use crate::error::Result;

/// Adds all that an adapter holds, under names that begin with `under`.
pub(super) fn put<'a>(container: &mut Container<'a>, under: &str, adapter: &'a Adapter) -> Result<()> {
    for site in &adapter.sites {
        put_site(container, under, site)?;
    }
    let HeadBuffers { values, first, second, age, .. } = &adapter.head;
    let [classes, features] = [adapter.head.classes(), adapter.head.features()];
    container.insert_u64(&format!("{under}head/shape"), &[2], vec![classes as u64, features as u64])?;
    for (name, plane) in [("head/values", values), ("head/first", first), ("head/second", second)] {
        container.insert_f32(&format!("{under}{name}"), &[plane.len()], plane)?;
    }
    container.insert_u32(&format!("{under}head/age"), &[1], vec![*age])
}

/// The adapter under names that begin with `under`, checked against `bundle` and the number of classes.
///
/// # Errors
/// Kind `Store` where a tensor does not fit.
pub(super) fn take(
    container: &Container,
    under: &str,
    bundle: &Bundle,
    start: Start,
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
    let mut seeds = Vec::new();
    for (index, site) in bundle.sites.iter().enumerate().filter(|_| has_pairs) {
        seeds.push((site.name.clone(), site.out_dim, site.in_dim, bundle.directions(index).clone()));
    }
    let settings = SiteSettings { start, ..SiteSettings::default() };
    let mut adapter = Adapter::start(seeds, bundle.rank, settings, classes, bundle.feature_dim)?;
    let sites = adapter.sites.into_iter().map(|site| take_site(container, under, site));
    adapter.sites = sites.collect::<Result<_>>()?;
    let head = &mut adapter.head;
    let len = head.values.len();
    head.values = container.f32(&format!("{under}head/values"), &[len])?;
    head.first = container.f32(&format!("{under}head/first"), &[len])?;
    head.second = container.f32(&format!("{under}head/second"), &[len])?;
    head.age = container.u32(&format!("{under}head/age"), &[1])?[0];
    Ok(adapter)
}

fn put_site<'s>(container: &mut Container<'s>, under: &str, site: &'s SiteBuffers) -> Result<()> {
    let name = |what: &str| format!("{under}site/{}/{what}", site.name);
    let shape = &site.shape;
    container.insert_f32(&name("state"), &[site.state.len()], &site.state)?;
    container.insert_i8(&name("delta"), &[shape.out_dim, shape.in_dim], &site.codes)?;
    container.insert_f16(&name("delta_scales"), &[shape.out_dim, shape.row_blocks()], &site.scales)?;
    container.insert_f16(&name("delta_stage"), &[site.stage.len()], &site.stage)?;
    container.insert_u32(&name("delta_staged"), &[1], vec![u32::try_from(site.staged).unwrap_or(u32::MAX)])?;
    container.insert_u32(&name("ages"), &[shape.rank], site.ledger.ages())?;
    container.insert_u16(&name("directions"), &[shape.rank], site.ledger.directions())?;
    let reserve: Vec<u16> = site.ledger.reserve().collect();
    container.insert_u16(&name("reserve"), &[reserve.len()], reserve)
}

fn take_site(container: &Container, under: &str, mut site: SiteBuffers) -> Result<SiteBuffers> {
    let prefix = format!("{under}site/{}/", site.name);
    let name = |what: &str| format!("{prefix}{what}");
    let shape = site.shape;
    site.state = container.f32(&name("state"), &[shape.state_len()])?;
    site.codes = container.i8(&name("delta"), &[shape.out_dim, shape.in_dim])?;
    site.scales = container.f16(&name("delta_scales"), &[shape.out_dim, shape.row_blocks()])?;
    site.stage = container.f16(&name("delta_stage"), &[shape.delta_stage_len()])?;
    site.staged = container.u32(&name("delta_staged"), &[1])?[0] as usize;
    let ages = container.u32(&name("ages"), &[shape.rank])?;
    let directions = container.u16(&name("directions"), &[shape.rank])?;
    let reserve = container.u16(&name("reserve"), &container.dims::<1>(&name("reserve"))?)?;
    site.ledger = HostLedger::restore(&shape, ages, directions, reserve).map_err(|e| container.fault(e.to_string()))?;
    site.restored().map_err(|e| container.fault(e))
}
