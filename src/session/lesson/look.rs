//! Passes over photos: the head that is imprinted from them, their class means, and which of them a head recognizes.

use crate::adapter::{ClassMeans, HeadBuffers};
use crate::core::IMPRINT_SCALE;
use crate::error::{Error, ErrorKind, Result};
use crate::session::classify::argmax;
use crate::session::photos::{Dataset, Photo};
use crate::session::policy::{LeftOut, Outlook, Recognized};
use crate::session::progress::{Audience, Progress};
use crate::session::run::{Runner, view};

/// What one pass over photos has shown.
pub(crate) struct Seen {
    /// Their class means.
    pub(crate) means: ClassMeans,
    /// Their features, or of very many a part.
    pub(crate) photos: LeftOut,
    /// Which of them the head has recognized as it was before.
    pub(crate) right: Recognized,
    /// How imprinting does on them.
    pub(crate) outlook: Outlook,
}

impl Runner {
    /// Shows the features and the class of every photo of `data` to `visit`; which of them can be read.
    ///
    /// # Errors
    /// Kind `Stopped` where it is stopped.
    fn look(
        &mut self,
        data: &Dataset,
        audience: &mut Audience,
        mut visit: impl FnMut(&[f32], usize),
    ) -> Result<Vec<bool>> {
        let (mut photos, mut readable) = (data.photos.iter(), Vec::with_capacity(data.photos.len()));
        self.features(data.photos.iter().map(|photo| view(photo, None)), audience, |row, audience| {
            readable.push(row.is_some());
            if let (Some(photo), Some(row)) = (photos.next(), row) {
                visit(row, photo.class);
            }
            audience.tell(Progress::Advance);
            audience.go_on()
        })?;
        Ok(readable)
    }

    /// What photos show under the pairs as they are, those of the `knew` first classes judged by the head; and which can be read.
    ///
    /// # Errors
    /// Kind `Stopped` where it is stopped.
    pub(crate) fn see(&mut self, data: &Dataset, knew: usize, audience: &mut Audience) -> Result<(Seen, Vec<bool>)> {
        let head = self.adapter().head.with_classes(knew);
        let features = head.features();
        let mut seen = Seen {
            means: ClassMeans::unknown(data.classes.len(), features),
            photos: LeftOut::new(data.photos.len(), features),
            right: Recognized::new(knew),
            outlook: Outlook::default(),
        };
        let readable = self.look(data, audience, |row, class| {
            seen.means.add(row, class);
            seen.photos.add(row, class);
            seen.right.count(class, argmax(&head.logits(row)) == class);
        })?;
        Ok((seen, readable))
    }

    /// Sets the head's rows of the classes from `known` on to the class means of the photos' features; the rows before stay. Photos
    /// that cannot be read leave `data`. The photos of the `knew` first classes are judged by the head as it was.
    ///
    /// # Errors
    /// Kind `Data` where a class that is to be imprinted is left without a readable photo; `Stopped` where it is stopped.
    pub(crate) fn imprint(
        &mut self,
        data: &mut Dataset,
        [known, knew]: [usize; 2],
        audience: &mut Audience,
    ) -> Result<Seen> {
        let (mut seen, readable) = self.see(data, knew, audience)?;
        let classes = data.classes.len();
        let mut means = self.adapter().means.with_classes(classes);
        means.replace(&seen.means);
        seen.outlook.left_out = seen.photos.accuracy(&means);
        let missing = data.classes.iter().zip(&seen.means.counts).skip(known).find(|(_, count)| **count == 0);
        if let Some((name, _)) = missing {
            let of_class = |photo: &&Photo| data.classes.get(photo.class) == Some(name);
            let own: Vec<String> =
                data.photos.iter().filter(of_class).map(|photo| photo.picture.name().into_owned()).collect();
            let own = self.quarantine().iter().filter(|q| own.contains(&q.path));
            let list = own.take(3).map(|q| format!("{} ({})", q.path, q.reason)).collect::<Vec<_>>().join("; ");
            let message = format!("has no readable photo: {list}; add some, or leave the class out");
            return Err(Error::new(ErrorKind::Data, data.class_place(name), message));
        }
        let mut readable = readable.into_iter();
        data.photos.retain(|_| readable.next().is_some_and(|readable| readable));
        if known < classes {
            let mut adapter = self.adapter_mut();
            adapter.head.take_rows(&seen.means.imprint(IMPRINT_SCALE), known..classes);
            adapter.head.level_rows(known);
        }
        Ok(seen)
    }

    /// The class means of photos under the pairs as they are, and which of the photos the head recognizes.
    ///
    /// # Errors
    /// Kind `Stopped` where it is stopped.
    pub(crate) fn means(&mut self, data: &Dataset, audience: &mut Audience) -> Result<(ClassMeans, Recognized)> {
        let head = self.adapter().head.clone();
        let mut means = ClassMeans::unknown(data.classes.len(), head.features());
        let mut right = Recognized::new(data.classes.len());
        self.look(data, audience, |row, class| {
            means.add(row, class);
            right.count(class, argmax(&head.logits(row)) == class);
        })?;
        Ok((means, right))
    }

    /// Which photos of `data` each of `heads` recognizes, by class; those of classes that it does not know do not count.
    ///
    /// # Errors
    /// Kind `Stopped` where it is stopped.
    pub(crate) fn tally<const N: usize>(
        &mut self,
        data: &Dataset,
        heads: [&HeadBuffers; N],
        audience: &mut Audience,
    ) -> Result<[Recognized; N]> {
        let mut tallies = heads.map(|head| Recognized::new(head.classes()));
        audience.tell(Progress::Begin { phase: "accuracy before", total: data.photos.len() as u64 });
        self.look(data, audience, |row, class| {
            let judged = heads.iter().zip(&mut tallies);
            judged.for_each(|(head, tally)| tally.count(class, argmax(&head.logits(row)) == class));
        })?;
        audience.tell(Progress::End);
        Ok(tallies)
    }
}
