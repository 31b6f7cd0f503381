//! What learns: pairs at two sites and a head, with everything that a step needs, in one value fit for a static.

use srlora::core::{
    AdamW, CoreError, FuseOrder, IMPRINT_SCALE, Imprint, Recompose, RecordError, RecordReader, RecordWriter, Schedule,
    cross_entropy, head_backward, head_forward,
};

use crate::adapter::{Adapter, adapter_of};
use crate::album::{Album, CLASSES, HELD_BACK, PHOTO_BYTES, TO_LEARN};
use crate::network::{
    BINDING, FEATURES, FIRST, FIRST_DIRECTIONS, FIRST_SHAPE, SECOND, SECOND_DIRECTIONS, SECOND_SHAPE, STEM,
};

/// Photos a step.
const BATCH: usize = 8;
/// Steps until every photo was seen once.
const EPOCH: u32 = (TO_LEARN / BATCH) as u32;
/// Steps of the whole lesson.
pub const STEPS: u32 = 24 * EPOCH;
/// Steps between recompositions; none in the last fifth.
const INTERVAL: u32 = 2 * EPOCH;
const LAST_RECOMPOSITION: u32 = STEPS - STEPS / 5;
const RULE: Recompose = Recompose { pairs: 2, min_age: EPOCH, wrap: false, choice: FuseOrder::LeastImportant };

const PAIR_RATE: Schedule = Schedule::linear(3e-3, 10, STEPS as u64);
const HEAD_RATE: Schedule = Schedule::linear(1e-3, 10, STEPS as u64);

/// Weights, then biases.
const HEAD_WEIGHTS: usize = CLASSES * FEATURES;
const HEAD: usize = HEAD_WEIGHTS + CLASSES;

const PATCH: usize = SECOND.patch_len();
const SCRATCH: usize = {
    let (first, second) = (FIRST_SHAPE.scratch_len(), SECOND_SHAPE.scratch_len());
    if first > second { first } else { second }
};

/// Why a lesson does not go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Error<E> {
    /// A photo cannot be had.
    Album(E),
    /// A label that is no digit, ink beyond 16.
    Photo(usize),
    /// A size that does not fit.
    Core(CoreError),
}

impl<E> From<CoreError> for Error<E> {
    fn from(error: CoreError) -> Self {
        Error::Core(error)
    }
}

/// Values, moments and gradient of the head.
#[derive(Debug)]
struct Head {
    values: [f32; HEAD],
    first_moment: [f32; HEAD],
    second_moment: [f32; HEAD],
    gradient: [f32; HEAD],
}

/// What one photo leaves behind on its way through the network and back.
#[derive(Debug)]
struct Work {
    input: [f32; 64],
    stem: [f32; STEM.out_len()],
    first: [f32; FIRST.out_len()],
    second: [f32; SECOND.out_len()],
    features: [f32; FEATURES],
    first_gradient: [f32; FIRST.out_len()],
    features_gradient: [f32; FEATURES],
    patch: [f32; PATCH],
    patch_gradient: [f32; PATCH],
    scratch: [f32; SCRATCH],
}

/// The lesson: all the RAM that learning takes.
#[derive(Debug)]
pub struct Lesson {
    first: adapter_of!(FIRST_SHAPE),
    second: adapter_of!(SECOND_SHAPE),
    head: Head,
    work: Work,
    /// Steps done.
    step: u32,
    /// Pairs recomposed.
    recomposed: u32,
}

impl Default for Lesson {
    fn default() -> Self {
        Lesson::empty()
    }
}

impl Lesson {
    /// All zeros, so that a static costs no flash; [`Lesson::begin`] or [`Lesson::read`] make a lesson of it.
    #[must_use]
    pub const fn empty() -> Self {
        Lesson {
            first: Adapter::empty(),
            second: Adapter::empty(),
            head: Head {
                values: [0.0; HEAD],
                first_moment: [0.0; HEAD],
                second_moment: [0.0; HEAD],
                gradient: [0.0; HEAD],
            },
            work: Work {
                input: [0.0; 64],
                stem: [0.0; STEM.out_len()],
                first: [0.0; FIRST.out_len()],
                second: [0.0; SECOND.out_len()],
                features: [0.0; FEATURES],
                first_gradient: [0.0; FIRST.out_len()],
                features_gradient: [0.0; FEATURES],
                patch: [0.0; PATCH],
                patch_gradient: [0.0; PATCH],
                scratch: [0.0; SCRATCH],
            },
            step: 0,
            recomposed: 0,
        }
    }

    /// Steps done.
    #[must_use]
    pub const fn step(&self) -> u32 {
        self.step
    }

    /// Pairs recomposed so far.
    #[must_use]
    pub const fn recomposed(&self) -> u32 {
        self.recomposed
    }

    /// Numbers that learn.
    #[must_use]
    pub const fn trained_numbers() -> usize {
        FIRST_SHAPE.plane_len() + SECOND_SHAPE.plane_len() + HEAD
    }

    /// Pairs on their directions, which changes nothing, and a head of class means.
    ///
    /// # Errors
    /// `Album` or `Photo`.
    pub fn begin<A: Album>(&mut self, album: &mut A) -> Result<(), Error<A::Error>> {
        self.first.start(FIRST_SHAPE, FIRST_DIRECTIONS)?;
        self.second.start(SECOND_SHAPE, SECOND_DIRECTIONS)?;
        (self.step, self.recomposed) = (0, 0);
        self.head.values.fill(0.0);
        self.head.first_moment.fill(0.0);
        self.head.second_moment.fill(0.0);
        let (mut weights, mut counts) = ([0.0; HEAD_WEIGHTS], [0; CLASSES]);
        let mut imprint = Imprint::new(&mut weights, &mut counts)?;
        for index in 0..TO_LEARN {
            let label = self.look(album, index)?;
            imprint.add(&self.work.features, label)?;
        }
        imprint.finish(IMPRINT_SCALE);
        self.head.values[..HEAD_WEIGHTS].copy_from_slice(&weights);
        Ok(())
    }

    /// One step: gradients of a batch, importance, AdamW, and a recomposition where one is due. Returns the mean loss.
    ///
    /// # Errors
    /// `Album` or `Photo`; nothing has been learned then.
    pub fn train<A: Album>(&mut self, album: &mut A) -> Result<f32, Error<A::Error>> {
        self.first.gradient.fill(0.0);
        self.second.gradient.fill(0.0);
        self.head.gradient.fill(0.0);
        let order = order(self.step / EPOCH);
        let from = (self.step % EPOCH) as usize * BATCH;
        let mut loss = 0.0;
        for &index in &order[from..from + BATCH] {
            let label = self.look(album, usize::from(index))?;
            loss += self.learn(label)?;
        }
        self.update()?;
        Ok(loss / BATCH as f32)
    }

    /// The photo's digit as the lesson sees it, and its label.
    ///
    /// # Errors
    /// `Album` or `Photo`.
    fn predict<A: Album>(&mut self, album: &mut A, index: usize) -> Result<(usize, usize), Error<A::Error>> {
        let label = self.look(album, index)?;
        let (weights, biases) = self.head.values.split_at(HEAD_WEIGHTS);
        let mut logits = [0.0; CLASSES];
        head_forward(weights, biases, &self.work.features, &mut logits)?;
        let top = (0..CLASSES).reduce(|best, class| if logits[class] > logits[best] { class } else { best });
        Ok((top.unwrap_or(0), label))
    }

    /// Photos held back, in their order, each with the digit that the lesson takes it for: (predicted, label).
    ///
    /// # Errors
    /// `Album` or `Photo`.
    pub fn evaluate<A: Album>(
        &mut self,
        album: &mut A,
        mut seen: impl FnMut(usize, usize),
    ) -> Result<(), Error<A::Error>> {
        for index in TO_LEARN..TO_LEARN + HELD_BACK {
            let (predicted, label) = self.predict(album, index)?;
            seen(predicted, label);
        }
        Ok(())
    }

    /// Brings photo `index` through the network, to `work.features`; returns its label.
    fn look<A: Album>(&mut self, album: &mut A, index: usize) -> Result<usize, Error<A::Error>> {
        let mut photo = [0; PHOTO_BYTES];
        album.photo(index, &mut photo).map_err(Error::Album)?;
        let [label, ink @ ..] = photo;
        if usize::from(label) >= CLASSES || ink.iter().any(|ink| *ink > 16) {
            return Err(Error::Photo(index));
        }
        let work = &mut self.work;
        work.input.iter_mut().zip(ink).for_each(|(x, ink)| *x = f32::from(ink) / 8.0 - 1.0);
        let patch = &mut work.patch;
        STEM.forward(&work.input, &mut patch[..STEM.patch_len()], &mut work.stem, |c, x, y| c.frozen(x, y))?;
        let (site, _) = self.first.site(FIRST_SHAPE, FIRST_DIRECTIONS);
        let scratch = &mut work.scratch;
        FIRST.forward(&work.stem, &mut patch[..FIRST.patch_len()], &mut work.first, |c, x, y| {
            c.frozen(x, y)?;
            site.forward(x, y, scratch)
        })?;
        let (site, _) = self.second.site(SECOND_SHAPE, SECOND_DIRECTIONS);
        SECOND.forward(&work.first, patch, &mut work.second, |c, x, y| {
            c.frozen(x, y)?;
            site.forward(x, y, scratch)
        })?;
        let channels = work.second.chunks_exact(SECOND.positions());
        let mean = |map: &[f32]| map.iter().sum::<f32>() / map.len() as f32;
        work.features.iter_mut().zip(channels).for_each(|(feature, map)| *feature = mean(map));
        Ok(usize::from(label))
    }

    /// The way back of the photo that was looked at last: adds to every gradient, returns the loss.
    fn learn(&mut self, label: usize) -> Result<f32, CoreError> {
        let (work, head) = (&mut self.work, &mut self.head);
        let (weights, biases) = head.values.split_at(HEAD_WEIGHTS);
        let (dw, db) = head.gradient.split_at_mut(HEAD_WEIGHTS);
        let (mut logits, mut dlogits) = ([0.0; CLASSES], [0.0; CLASSES]);
        head_forward(weights, biases, &work.features, &mut logits)?;
        let loss = cross_entropy(&logits, label, &mut dlogits)?;
        dlogits.iter_mut().for_each(|g| *g /= BATCH as f32);
        head_backward(weights, &work.features, &dlogits, dw, db, &mut work.features_gradient)?;

        work.first_gradient.fill(0.0);
        let (site, gradient) = self.second.site(SECOND_SHAPE, SECOND_DIRECTIONS);
        let mut dy = [0.0; SECOND.bias.len()];
        for position in 0..SECOND.positions() {
            let outputs = work.second.iter().skip(position).step_by(SECOND.positions());
            for ((dy, y), g) in dy.iter_mut().zip(outputs).zip(&work.features_gradient) {
                *dy = if *y > 0.0 { g / SECOND.positions() as f32 } else { 0.0 };
            }
            SECOND.unfold(&work.first, position, &mut work.patch);
            work.patch_gradient.fill(0.0);
            SECOND.weight.backward(&dy, &mut work.patch_gradient)?;
            site.backward(&work.patch, &dy, &mut work.patch_gradient, gradient, &mut work.scratch)?;
            SECOND.fold(&work.patch_gradient, position, &mut work.first_gradient);
        }
        self.learn_first()?;
        Ok(loss)
    }

    /// The first site's share: nothing before it learns, so the gradient of its input is not needed.
    fn learn_first(&mut self) -> Result<(), CoreError> {
        let work = &mut self.work;
        let (site, gradient) = self.first.site(FIRST_SHAPE, FIRST_DIRECTIONS);
        let mut dy = [0.0; FIRST.bias.len()];
        let patch = &mut work.patch[..FIRST.patch_len()];
        let unused = &mut work.patch_gradient[..FIRST.patch_len()];
        for position in 0..FIRST.positions() {
            let every = FIRST.positions();
            let outputs = work.first.iter().skip(position).step_by(every);
            let gradients = work.first_gradient.iter().skip(position).step_by(every);
            for ((dy, y), g) in dy.iter_mut().zip(outputs).zip(gradients) {
                *dy = if *y > 0.0 { *g } else { 0.0 };
            }
            FIRST.unfold(&work.stem, position, patch);
            site.backward(patch, &dy, unused, gradient, &mut work.scratch)?;
        }
        Ok(())
    }

    /// Importance, AdamW and, where it is due, a recomposition.
    fn update(&mut self) -> Result<(), CoreError> {
        let optimizer = AdamW::default();
        let now = u64::from(self.step);
        self.step += 1;
        let due = self.step.is_multiple_of(INTERVAL) && self.step <= LAST_RECOMPOSITION;
        let (mut first, first_gradient) = self.first.site(FIRST_SHAPE, FIRST_DIRECTIONS);
        let (mut second, second_gradient) = self.second.site(SECOND_SHAPE, SECOND_DIRECTIONS);
        for (site, gradient) in [(&mut first, first_gradient), (&mut second, second_gradient)] {
            site.score(gradient)?;
            site.adamw(&optimizer, |_| PAIR_RATE.rate(now), gradient)?;
            if due {
                self.recomposed += site.recompose(&RULE).len() as u32;
            }
        }
        let Head { values, first_moment, second_moment, gradient } = &mut self.head;
        optimizer.step_plane(self.step, HEAD_RATE.rate(now), gradient, values, first_moment, second_moment)
    }

    /// Writes the lesson as a record; returns its checksum.
    ///
    /// # Errors
    /// What `write` returns.
    pub fn write<E>(&mut self, write: impl FnMut(&[u8]) -> Result<(), E>) -> Result<u32, E> {
        let mut record = RecordWriter::new(write, BINDING)?;
        let (first, _) = self.first.site(FIRST_SHAPE, FIRST_DIRECTIONS);
        let (second, _) = self.second.site(SECOND_SHAPE, SECOND_DIRECTIONS);
        let head = &self.head;
        record.words([self.step, self.recomposed])?;
        record.site(&first)?;
        record.site(&second)?;
        record.floats(&head.values)?;
        record.floats(&head.first_moment)?;
        record.floats(&head.second_moment)?;
        record.finish()
    }

    /// Reads a lesson that [`Lesson::write`] wrote; returns its checksum. From a reader that only verifies nothing is taken;
    /// after another's error the lesson is not to be used before [`Lesson::begin`].
    ///
    /// # Errors
    /// As [`RecordReader`].
    pub fn read<E, R: FnMut(&mut [u8]) -> Result<(), E>>(
        &mut self,
        mut record: RecordReader<R>,
    ) -> Result<u32, RecordError<E>> {
        record.words([&mut self.step, &mut self.recomposed])?;
        record.site(&mut self.first.site(FIRST_SHAPE, FIRST_DIRECTIONS).0)?;
        record.site(&mut self.second.site(SECOND_SHAPE, SECOND_DIRECTIONS).0)?;
        record.floats(&mut self.head.values)?;
        record.floats(&mut self.head.first_moment)?;
        record.floats(&mut self.head.second_moment)?;
        record.finish()
    }
}

/// The order of the photos in an epoch: a function of its number, so that a resumed lesson needs no more than its step.
fn order(epoch: u32) -> [u8; TO_LEARN] {
    let mut order = [0; TO_LEARN];
    order.iter_mut().zip(0..).for_each(|(at, index)| *at = index);
    let mut random = epoch.wrapping_mul(0x9e37_79b9) ^ 0x5151_5151;
    for last in (1..TO_LEARN).rev() {
        // Numerical Recipes' generator; its high bits are the good ones.
        random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        order.swap(last, (random >> 8) as usize % (last + 1));
    }
    order
}

#[cfg(test)]
mod tests {
    use std::{boxed::Box, println};

    use super::*;
    use crate::album::InFlash;

    static PHOTOS: &[u8] = include_bytes!("../../../../models/digits8/digits.bin");

    fn loss(lesson: &mut Lesson, index: usize) -> f64 {
        let label = lesson.look(&mut InFlash(PHOTOS), index).unwrap();
        let (weights, biases) = lesson.head.values.split_at(HEAD_WEIGHTS);
        let mut logits = [0.0; CLASSES];
        head_forward(weights, biases, &lesson.work.features, &mut logits).unwrap();
        let sum: f64 = logits.iter().map(|logit| f64::from(*logit).exp()).sum();
        sum.ln() - f64::from(logits[label])
    }

    /// Number `at` of a site's pairs.
    fn value(lesson: &mut Lesson, first: bool, at: usize) -> &mut f32 {
        let site = if first {
            lesson.first.site(FIRST_SHAPE, FIRST_DIRECTIONS)
        } else {
            lesson.second.site(SECOND_SHAPE, SECOND_DIRECTIONS)
        };
        &mut site.0.state[at]
    }

    #[test]
    fn gradients_of_both_sites_agree_with_finite_differences() {
        const STEP: f32 = 1.0 / 512.0;
        let mut lesson = Box::new(Lesson::empty());
        lesson.begin(&mut InFlash(PHOTOS)).unwrap();
        while lesson.recomposed == 0 {
            lesson.train(&mut InFlash(PHOTOS)).unwrap();
        }
        for (first, plane) in [(true, FIRST_SHAPE.plane_len()), (false, SECOND_SHAPE.plane_len())] {
            let (mut worst, mut largest) = (0.0f64, 0.0f64);
            for at in (0..plane).step_by(7) {
                lesson.first.gradient.fill(0.0);
                lesson.second.gradient.fill(0.0);
                let label = lesson.look(&mut InFlash(PHOTOS), 5).unwrap();
                lesson.learn(label).unwrap();
                let gradient = if first { lesson.first.gradient[at] } else { lesson.second.gradient[at] };
                let mut moved = |by: f32| {
                    let kept = *value(&mut lesson, first, at);
                    *value(&mut lesson, first, at) = kept + by;
                    let loss = loss(&mut lesson, 5);
                    *value(&mut lesson, first, at) = kept;
                    loss
                };
                let slope = (moved(STEP) - moved(-STEP)) / f64::from(2.0 * STEP);
                let gradient = f64::from(gradient) * BATCH as f64;
                worst = worst.max((slope - gradient).abs());
                largest = largest.max(gradient.abs());
            }
            println!("first {first}: worst difference {worst:.1e} where gradients are up to {largest:.1e}");
            assert!(largest > 0.01 && worst < 0.01 * largest);
        }
    }

    #[test]
    fn every_epoch_sees_every_photo_once_in_an_order_of_its_own() {
        let sorted = |epoch| {
            let mut order = order(epoch);
            order.sort_unstable();
            order
        };
        assert!((0..24).all(|epoch| sorted(epoch).iter().zip(0..).all(|(at, index)| *at == index)));
        assert!((1..24).all(|epoch| order(epoch) != order(0)));
    }
}
