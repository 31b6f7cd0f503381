//! A lesson under way: everything that its next step needs, to the bit.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::series::Fault;
use super::tensors::{self, Extent};
use super::{Generation, Record, Series, Store, StoreWriter, load, parse, put_record, refuse_not_finite};
use crate::adapter::Adapter;
use crate::bundle::{Bundle, Container, Kind, check_lists};
use crate::error::{Error, ErrorKind, Result};
use crate::session::policy::{Before, EpochMean, GateState, Outlook};

/// Where in its course a lesson stands, besides the adapter and the record. The order of the photos, and random cuts, follow from
/// the seed and the number of steps.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Standing {
    /// The generation that was current when its steps began; with another one it is over.
    pub(crate) base: u64,
    /// What was there before the first step, as its photos have shown.
    #[serde(default)]
    pub(crate) before: Before,
    /// What the photos had told when the lesson began.
    #[serde(flatten)]
    pub(crate) outlook: Outlook,
    /// What the present epoch has shown.
    pub(crate) epoch: EpochMean,
    /// What the gate has seen.
    pub(crate) gate: GateState,
    /// The lesson has only been announced: it begins anew.
    #[serde(default)]
    pub(crate) announced: bool,
}

impl Standing {
    /// Of a lesson that is about to begin, after the generation `base`.
    pub(crate) fn announced(base: u64) -> Self {
        let (epoch, gate) = (EpochMean::default(), GateState::default());
        let outlook = Outlook::default();
        Standing { base, before: Before::default(), outlook, epoch, gate, announced: true }
    }
}

/// A lesson that can go on.
pub(crate) struct UnderWay {
    pub(crate) record: Record,
    pub(crate) standing: Standing,
    pub(crate) adapter: Adapter,
    /// Everything as it was before the events that are on trial.
    pub(crate) before_events: Option<Adapter>,
}

const BEFORE_EVENTS: &str = "before_events/";

impl StoreWriter {
    /// Keeps where a lesson stands, durably, in place of where it stood before; the bytes that were written.
    ///
    /// # Errors
    /// As [`StoreWriter::save`]; where it stood before is still kept.
    pub(crate) fn checkpoint(
        &self,
        adapter: &Adapter,
        before_events: Option<&Adapter>,
        record: &Record,
        standing: &Standing,
    ) -> Result<u64> {
        let mut container = Container::new(Kind::Checkpoint);
        put_record(&mut container, record)?;
        let json = serde_json::to_string(standing).map_err(|e| Error::new(ErrorKind::Internal, "standing", e))?;
        container.metadata.insert("standing".to_owned(), json);
        tensors::put(&mut container, "", adapter, Extent::UnderWay)?;
        if let Some(before) = before_events {
            tensors::put(&mut container, BEFORE_EVENTS, before, Extent::UnderWay)?;
        }
        refuse_not_finite(&container, record.steps)?;
        let bytes = Series::Checkpoint.write(&*self.medium, &self.path, record.steps, &container)?;
        Series::Checkpoint.sweep(&*self.medium, &self.path, |step| step != record.steps);
        Ok(bytes)
    }

    /// The lesson is over: where it stood is of no more use.
    pub(crate) fn end_lesson(&self) {
        Series::Checkpoint.sweep(&*self.medium, &self.path, |_| true);
    }

    /// A file in the store that is no part of a lesson, to go on writing at its end; and whether it holds something.
    ///
    /// # Errors
    /// Kind `Io`.
    pub(crate) fn append(&self, name: &str) -> Result<(Box<dyn super::Sink>, bool)> {
        let file = self.path.join(name);
        let is_begun = self.medium.read(&file).is_ok_and(|(len, _)| len > 0);
        let sink = self.medium.append(&file).map_err(|e| super::not_written(&file, e))?;
        Ok((sink, is_begun))
    }
}

impl Store {
    /// The furthest that is kept of the lesson `own`, or else of any, that went out from the current generation; and what is wrong
    /// with files that might have been further.
    ///
    /// # Errors
    /// `Mismatch` where it is of another bundle, `Store` where a tensor does not fit, `Io`.
    pub(crate) fn under_way(
        &self,
        bundle: &Bundle,
        own: impl Fn(&Record) -> bool,
    ) -> Result<(Option<UnderWay>, Vec<Fault>)> {
        let goes_on = |container: &Container| standing(container).is_ok_and(|standing| standing.base == self.current);
        let is_own = |container: &Container| goes_on(container) && parse(container).is_ok_and(|record| own(&record));
        let newest = |wanted: &dyn Fn(&Container) -> bool| Series::Checkpoint.newest(&*self.medium, &self.path, wanted);
        let (found, faults) = newest(&is_own)?;
        let found = if found.is_some() { found } else { newest(&goes_on)?.0 };
        let Some((_, container)) = found else { return Ok((None, faults)) };
        let standing = standing(&container)?;
        let Generation { record, adapter } = load(&container, &self.path, bundle)?;
        let before_events = standing.gate.on_trial().map(|_| {
            let kind = record.lesson.pair_kind().unwrap_or_default();
            tensors::take(&container, BEFORE_EVENTS, bundle, kind, record.classes.len())
        });
        Ok((Some(UnderWay { before_events: before_events.transpose()?, record, standing, adapter }), faults))
    }

    /// The steps of a lesson under way, whatever it is.
    ///
    /// # Errors
    /// Kind `Io`.
    pub fn steps_under_way(&self) -> Result<Option<u64>> {
        let goes_on = |container: &Container| standing(container).is_ok_and(|standing| standing.base == self.current);
        let (found, _) = Series::Checkpoint.newest(&*self.medium, &self.path, goes_on)?;
        Ok(found.map(|(step, _)| step))
    }

    /// The lesson kept aside, and its number.
    ///
    /// # Errors
    /// Kind `Io`.
    pub(crate) fn aside(&self) -> Result<Option<(u64, Record)>> {
        let (found, _) = Series::Aside.newest(&*self.medium, &self.path, |_| true)?;
        Ok(found.and_then(|(number, container)| Some((number, parse(&container).ok()?))))
    }

    /// Where it lies.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

fn standing(container: &Container) -> Result<Standing> {
    let json = container.text("standing")?;
    check_lists(json.as_bytes()).map_err(|what| container.fault(format_args!("its entry standing {what}")))?;
    serde_json::from_str(json).map_err(|e| container.fault(format_args!("its entry standing does not parse ({e})")))
}

/// The generation that a checkpoint's lesson went out from.
#[cfg(test)]
pub(super) fn base(container: &Container) -> Option<u64> {
    standing(container).ok().map(|standing| standing.base)
}
