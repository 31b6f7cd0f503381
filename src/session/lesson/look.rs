//! Passes over photos: the head that is imprinted from them, their class means, and which of them a head recognizes.

use std::collections::HashSet;

use crate::adapter::{ClassMeans, HeadBuffers};
use crate::core::IMPRINT_SCALE;
use crate::error::{Error, ErrorKind, Result};
use crate::session::classify::argmax;
use crate::session::photos::{Dataset, Photo};
use crate::session::policy::{Calibration, ClosedForm, LeftOut, Outlook, Recognized};
use crate::session::progress::{Audience, Progress};
use crate::session::replay::{Example, Replay};
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

/// What a lesson's steps have come to.
pub(crate) struct Closed {
    /// Class means of the photos trained on.
    pub(crate) means: ClassMeans,
    /// Which of them the head recognizes.
    pub(crate) right: Recognized,
    pub(crate) head: HeadBuffers,
    /// How the head is to be read, where photos have told.
    pub(crate) calibration: Option<Calibration>,
}

impl Runner {
    /// Shows the features of every photo of `data` to `visit`, and where it `keeps` that, the example; which of them can be read.
    ///
    /// # Errors
    /// Kind `Stopped` where it is stopped.
    fn look(
        &mut self,
        data: &Dataset,
        keeps: bool,
        audience: &mut Audience,
        mut visit: impl FnMut(&[f32], &Photo, Option<Example>),
    ) -> Result<Vec<bool>> {
        let (mut photos, mut readable) = (data.photos.iter(), Vec::with_capacity(data.photos.len()));
        let views = data.photos.iter().map(|photo| view(photo, None));
        self.features_and_examples(views, keeps, audience, |row, example, audience| {
            readable.push(row.is_some());
            if let (Some(photo), Some(row)) = (photos.next(), row) {
                visit(row, photo, example);
            }
            audience.tell(Progress::Advance);
            audience.go_on()
        })?;
        Ok(readable)
    }

    /// What photos show under the pairs as they are, those of the `knew` first classes judged by the head; and which can be read. Their
    /// examples go into `replay`. A class of which there are only examples keeps its mean unknown: the store has one of more photos.
    ///
    /// # Errors
    /// Kind `Stopped` where it is stopped.
    pub(crate) fn see(
        &mut self,
        data: &Dataset,
        knew: usize,
        replay: &mut Replay,
        audience: &mut Audience,
    ) -> Result<(Seen, Vec<bool>)> {
        let head = self.adapter().head.with_classes(knew);
        let features = head.features();
        let mut seen = Seen {
            means: ClassMeans::unknown(data.classes.len(), features),
            photos: LeftOut::new(data.photos.len(), features),
            right: Recognized::new(knew),
            outlook: Outlook::default(),
        };
        let readable = self.look(data, replay.has_room(), audience, |row, photo, example| {
            let class = photo.class;
            seen.means.add(row, class);
            seen.photos.add(row, class, photo.is_replayed());
            seen.right.count(class, argmax(&head.logits(row)) == class);
            if let Some((example, key)) = example.zip(photo.identity) {
                replay.add(class, key, example);
            }
        })?;
        let present: HashSet<usize> = data.photos.iter().filter(|p| !p.is_replayed()).map(|p| p.class).collect();
        (0..data.classes.len()).filter(|class| !present.contains(class)).for_each(|class| seen.means.clear(class));
        Ok((seen, readable))
    }

    /// Sets the head's rows of the classes from `known` on to the class means of the photos' features; the rows before
    /// stay. Photos that cannot be read leave `data`; examples of the others go into `replay`. The photos of the `knew`
    /// first classes are judged by the head as it was.
    ///
    /// # Errors
    /// Kind `Data` where a class that is to be imprinted is left without a readable photo; `Stopped` where it is stopped.
    pub(crate) fn imprint(
        &mut self,
        data: &mut Dataset,
        [known, knew]: [usize; 2],
        replay: &mut Replay,
        audience: &mut Audience,
    ) -> Result<Seen> {
        let (mut seen, readable) = self.see(data, knew, replay, audience)?;
        let classes = data.classes.len();
        let mut means = self.adapter().means.with_classes(classes);
        means.replace(&seen.means);
        seen.outlook.left_out = seen.photos.accuracy(&means);
        seen.outlook.closed_form = ClosedForm::find(&seen.photos, classes);
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
            means.settle(&mut adapter.head, known);
        }
        Ok(seen)
    }

    /// What a lesson's steps have come to on its photos: their class means under the pairs as they have become, and the head, solved as
    /// `form` says or as the steps have left it.
    ///
    /// # Errors
    /// Kind `Stopped` where it is stopped.
    pub(crate) fn close(
        &mut self,
        data: &Dataset,
        form: Option<&ClosedForm>,
        audience: &mut Audience,
    ) -> Result<Closed> {
        let trained = self.adapter().head.clone();
        let features = trained.features();
        let mut means = ClassMeans::unknown(data.classes.len(), features);
        let mut right = Recognized::new(data.classes.len());
        let mut photos = LeftOut::new(data.photos.len(), features);
        self.look(data, false, audience, |row, photo, _| {
            means.add(row, photo.class);
            right.count(photo.class, argmax(&trained.logits(row)) == photo.class);
            photos.add(row, photo.class, photo.is_replayed());
        })?;
        let Some((head, calibration)) = form.and_then(|form| form.close(&photos, &trained)) else {
            return Ok(Closed { means, right, head: trained, calibration: None });
        };
        if calibration.solved {
            right = Recognized::new(data.classes.len());
            photos.each_plain(|x, class| right.count(class, argmax(&head.logits(x)) == class));
        }
        Ok(Closed { means, right, head, calibration: Some(calibration) })
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
        if data.photos.is_empty() {
            return Ok(tallies);
        }
        audience.tell(Progress::Begin { phase: "accuracy before", total: data.photos.len() as u64 });
        self.look(data, false, audience, |row, &Photo { class, .. }, _| {
            let judged = heads.iter().zip(&mut tallies);
            judged.for_each(|(head, tally)| tally.count(class, argmax(&head.logits(row)) == class));
        })?;
        audience.tell(Progress::End);
        Ok(tallies)
    }
}
