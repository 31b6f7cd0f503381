//! Which photos a head recognizes, class by class.

use serde::{Deserialize, Serialize};

/// Of each class, the photos that are recognized, and all of them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Recognized(pub(crate) Vec<[usize; 2]>);

impl Recognized {
    pub(crate) fn new(classes: usize) -> Self {
        Recognized(vec![[0; 2]; classes])
    }

    pub(crate) fn count(&mut self, class: usize, right: bool) {
        if let Some([recognized, photos]) = self.0.get_mut(class) {
            *recognized += usize::from(right);
            *photos += 1;
        }
    }

    /// Counts what another has counted, of as many classes or fewer.
    pub(crate) fn add(&mut self, other: &Recognized) {
        for (own, other) in self.0.iter_mut().zip(&other.0) {
            *own = [own[0] + other[0], own[1] + other[1]];
        }
    }

    /// The first classes alone.
    pub(crate) fn of_first(&self, classes: usize) -> Self {
        Recognized(self.0.iter().take(classes).copied().collect())
    }

    pub(crate) fn photos(&self) -> usize {
        self.0.iter().map(|[_, photos]| photos).sum()
    }

    /// Share of all photos; `None` where there is none.
    pub(crate) fn accuracy(&self) -> Option<f64> {
        let right: usize = self.0.iter().map(|[right, _]| right).sum();
        (self.photos() > 0).then(|| right as f64 / self.photos() as f64)
    }
}
