//! New classes without photos of those that a store knows: no step is taken, and all classes are imprinted, the known ones from their
//! means.

use super::look::Seen;
use crate::adapter::{Adapter, ClassMeans, HeadBuffers};
use crate::core::IMPRINT_SCALE;
use crate::error::Result;
use crate::session::classify::argmax;
use crate::session::photos::Dataset;
use crate::session::policy::{LeftOut, LeftOutAccuracy, Recognized};
use crate::session::progress::Audience;
use crate::session::replay::Replay;
use crate::session::run::Runner;

/// Features that are made up of each known class, at most.
const MOST_MADE_UP: usize = 64;
/// How many more of them must be recognized for pairs to stay, as a share. Pairs that have learned a few classes by heart lose photos of
/// other ones, and that does not show here: where they cost up to nine points (photos, few or no errors on made-up features) this is
/// at most 0.025, where they gain five to thirteen (digits) at least 0.069.
const PAIRS_PAY: f64 = 0.05;

/// The photos of a further lesson, as they look with the pairs at their start.
pub(crate) struct AtStart {
    /// Pairs at their start.
    adapter: Adapter,
    seen: Seen,
    /// The examples that are held back.
    held: LeftOut,
}

impl AtStart {
    /// Looks at `data`, and at examples that are `held` back, with the pairs of `fresh`.
    ///
    /// # Errors
    /// Kind `Stopped` where it is stopped.
    pub(crate) fn look(
        runner: &mut Runner,
        fresh: Adapter,
        [data, held]: [&Dataset; 2],
        audience: &mut Audience,
    ) -> Result<Self> {
        let learned = runner.restart(fresh);
        let mut see = |photos: &Dataset| runner.see(photos, 0, &mut Replay::default(), audience);
        let seen = see(data).and_then(|seen| Ok((seen.0, see(held)?.0.photos)));
        let adapter = runner.restart(learned);
        let (seen, held) = seen?;
        Ok(AtStart { adapter, seen, held })
    }

    pub(crate) fn held(&self) -> &LeftOut {
        &self.held
    }

    pub(crate) fn means(&self) -> &ClassMeans {
        &self.seen.means
    }

    pub(crate) fn photos(&self) -> &LeftOut {
        &self.seen.photos
    }

    /// How imprinting does on the photos, each left out of `means`.
    pub(crate) fn left_out(&self, means: &ClassMeans) -> Option<LeftOutAccuracy> {
        self.seen.photos.accuracy(means)
    }
}

/// What has become of the classes.
pub(crate) struct Added {
    /// Made-up features of the known classes: those that were recognized by the head as it was, and those that are now.
    pub(crate) made_up: [Recognized; 2],
    /// The pairs are back at their start.
    pub(crate) lets_pairs_go: bool,
}

/// Imprints all classes. That is done on the backbone's own features, and the pairs go back to their start, unless those that the
/// learned pairs make have [`PAIRS_PAY`] more of the made-up features of the known classes recognized. `None`, and nothing done, where
/// the means of some class are not known.
pub(crate) fn add_classes(
    runner: &mut Runner,
    knew: usize,
    seen: &Seen,
    at_start: Option<&mut AtStart>,
) -> Option<Added> {
    let mut adapter = runner.adapter_mut();
    let classes = adapter.head.classes();
    if !adapter.means.knows(0..classes) {
        return None;
    }
    let was = made_up(&adapter.head.with_classes(knew), &adapter.means, &seen.photos, knew);
    let imprinted = adapter.means.imprint(IMPRINT_SCALE);
    let mut is = made_up(&imprinted, &adapter.means, &seen.photos, knew);
    adapter.head = imprinted;
    let mut lets_pairs_go = false;
    if let Some(start) = at_start.filter(|_| adapter.start_means.knows(0..classes)) {
        let imprinted = adapter.start_means.imprint(IMPRINT_SCALE);
        let without = made_up(&imprinted, &adapter.start_means, &start.seen.photos, knew);
        lets_pairs_go = is.accuracy() < without.accuracy().map(|without| without + PAIRS_PAY);
        if lets_pairs_go {
            adapter.sites = core::mem::take(&mut start.adapter.sites);
            adapter.means = adapter.start_means.clone();
            (adapter.head, is) = (imprinted, without);
        }
    }
    Some(Added { made_up: [was, is], lets_pairs_go })
}

/// Which made-up features of the `knew` first classes `head` recognizes. Of class c they are l (m_c + s (x - m_k)): its mean m_c, and what
/// a photo x of class k differs from the mean of its own class by; l is the mean length of features, and s = sqrt(n / (n - 1)), as the
/// n photos of class k lie closer to their own mean than others do.
fn made_up(head: &HeadBuffers, means: &ClassMeans, photos: &LeftOut, knew: usize) -> Recognized {
    let centres: Vec<Vec<f32>> = (0..means.classes()).map(|class| means.mean(class)).collect();
    let (mut tally, mut nth) = (Recognized::new(knew), 0);
    let (length, every) = (means.length(), photos.len().div_ceil(MOST_MADE_UP).max(1));
    photos.each(|x, class| {
        nth += 1;
        if (nth - 1) % every > 0 {
            return;
        }
        let n = means.sum(class).1 as f32;
        let spread = (n / (n - 1.0).max(1.0)).sqrt();
        for known in 0..knew {
            let parts = centres[known].iter().zip(x).zip(&centres[class]);
            let features: Vec<f32> = parts.map(|((mean, x), own)| length * (mean + spread * (x - own))).collect();
            tally.count(known, argmax(&head.logits(&features)) == known);
        }
    });
    tally
}

/// What is done of new classes where no step is taken, for a person to read.
pub(crate) fn imprinted_only(absent: &[String], added: Option<&Added>) -> String {
    let absent = absent.join(", ");
    let steps = match absent.as_str() {
        "" => "new classes are imprinted".to_owned(),
        absent => format!("there are no photos of {absent}, nor examples: no step is taken, which would unlearn them"),
    };
    let rest = match added {
        None => {
            "the store does not know how the photos of all its classes look, so only the new classes are imprinted, and the known ones \
             may lose photos to them: that is kept aside unless photos held back (option `val`) show no harm"
        }
        Some(Added { lets_pairs_go: false, .. }) => {
            "all classes are imprinted, the known ones from their means; they are recognized less surely than after a lesson with \
             photos of all classes"
        }
        Some(Added { lets_pairs_go: true, .. }) => {
            "all classes are imprinted, the known ones from their means, and what the pairs have learned is let go, as it does \
             not help with them; the known ones are recognized less surely than after a lesson with photos of all classes"
        }
    };
    format!("{steps}; {rest}")
}

#[cfg(test)]
mod tests {
    use std::fs;

    use tempfile::TempDir;

    use crate::bundle::{Container, Kind};
    use crate::lab::compare::stage::tests::{bundle, photos};
    use crate::session::progress::Progress;
    use crate::session::settings::Lesson;
    use crate::session::store::Series;
    use crate::session::{Keep, Store, Trainer, train};

    #[test]
    fn a_generation_without_class_means_loads_and_a_class_added_to_it_without_photos_of_the_others_is_kept_aside() {
        let folder = TempDir::new().unwrap();
        let [data, new, store] = ["data", "new", "store"].map(|name| folder.path().join(name));
        photos(&data, 6, 0);
        photos(&new, 6, 90);
        fs::remove_dir_all(new.join("dark")).unwrap();
        fs::rename(new.join("bright"), new.join("grey")).unwrap();
        let bundle = bundle(folder.path());
        train(&bundle, &Lesson::new(data), &store, &mut |_| ()).unwrap();

        let current = Store::open(&store).unwrap().current();
        let path = Series::Generation.file(&store, current);
        let mut container = Container::open(&path, Kind::Store).unwrap();
        let names: Vec<String> = container.names().filter(|name| name.contains("means/")).map(str::to_owned).collect();
        assert_eq!(names.len(), 6);
        names.iter().for_each(|name| container.forget(name));
        container.metadata.remove("content_sha256");
        fs::remove_file(&path).unwrap();
        container.write_new(&path).unwrap();

        let mut warned = String::new();
        let keep = Keep { further: true, ..Keep::new(&store) };
        let lesson = Lesson { replay: 0, ..Lesson::new(new) };
        let report = Trainer::new(&bundle, lesson, keep).unwrap().run(&mut |progress| {
            if let Progress::Warning(text) = progress {
                warned += text;
            }
        });
        let report = report.unwrap();
        assert_eq!((report.aside.is_some(), report.generation, report.trial), (true, current, None));
        assert!(warned.contains("no photos of bright, dark") && warned.contains("does not know how"), "{warned}");
    }
}
