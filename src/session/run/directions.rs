//! A pass over photos that shows the directions of what each site reads.

use super::runner::{Runner, view};
use super::source::{Micro, View};
use crate::adapter::Moment;
use crate::autodiff::Network;
use crate::error::{Error, ErrorKind, Result};
use crate::session::photos::Dataset;
use crate::session::progress::{Audience, Progress};

/// What is being done, for a person to read.
pub(crate) const DIRECTIONS: &str = "directions";
/// Photos that directions are found from: their positions are thousands of examples of what a site reads.
pub(crate) const MOST_LOOKED_AT: usize = 128;

impl Runner {
    /// Lets pairs start along the directions of what their sites read, of at most [`MOST_LOOKED_AT`] photos, evenly spread over `data`;
    /// or, where they have learned, go on to them. They are looked at on one thread, as sums depend on the order of what is added.
    ///
    /// # Errors
    /// Kind `Stopped` where it is stopped, `Data` where a photo can no longer be read; those of the network.
    pub(crate) fn find_directions(
        &mut self,
        data: &Dataset,
        have_learned: bool,
        audience: &mut Audience,
    ) -> Result<()> {
        let every = data.photos.len().div_ceil(MOST_LOOKED_AT).max(1);
        let photos = || data.photos.iter().step_by(every).map(|photo| view(photo, None));
        audience.tell(Progress::Begin { phase: DIRECTIONS, total: photos().len() as u64 });
        self.adapter_mut().begin_sketches(have_learned);
        let source = self.source.clone();
        let work = move |network: &mut Network, photo: View| {
            let micro = Micro { photos: vec![photo], ..Micro::default() };
            source.features_and_example(network, micro, false).map(|(done, _)| done.unreadable)
        };
        let looked = self.crew.one().each(photos(), work, |done| {
            audience.tell(Progress::Advance);
            match done?.into_iter().next() {
                Some((picture, reason)) => {
                    let message = format!("can no longer be read ({reason}); bring it back");
                    Err(Error::new(ErrorKind::Data, picture.name(), message))
                }
                None => audience.go_on(),
            }
        });
        let mut adapter = self.adapter_mut();
        // What has ended the looking ends this as well.
        let found = looked.and_then(|()| adapter.end_sketches(|| audience.go_on()));
        adapter.drop_sketches();
        let found = found?;
        audience.tell(Progress::End);
        let found = found.ok_or_else(|| Error::new(ErrorKind::Internal, "directions", "a site was not looked at"))?;
        if have_learned { adapter.go_on_along(&found) } else { adapter.go_along(Some(found)) }
    }

    /// The second moment of what each site reads of `photos`; `None` where it has read nothing. One that cannot be read is passed over.
    ///
    /// # Errors
    /// Kind `Stopped` where it is stopped; those of the network.
    pub(crate) fn find_moments(
        &mut self,
        photos: impl IntoIterator<Item = View>,
        audience: &mut Audience,
    ) -> Result<Vec<Option<Moment>>> {
        self.adapter_mut().begin_moments();
        let source = self.source.clone();
        let work = move |network: &mut Network, photo: View| {
            let micro = Micro { photos: vec![photo], ..Micro::default() };
            source.features_and_example(network, micro, false).map(drop)
        };
        let read = self.crew.one().each(photos, work, |done| {
            audience.tell(Progress::Advance);
            done.and_then(|()| audience.go_on())
        });
        let moments = self.adapter_mut().end_moments();
        read.map(|()| moments)
    }
}
