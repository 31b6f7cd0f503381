//! What can be compared: the methods, and controls that each leave one idea out.

use super::ledger::Run;
use crate::core::{FuseOrder, Method, Sides, Start};
use crate::session::settings::{DirectionSource, Interval, Lesson};

/// A method as it enters a comparison.
#[derive(Debug)]
pub struct Contender {
    /// Its name on the command line and in results.
    pub name: &'static str,
    /// What it does, in a line.
    pub about: &'static str,
    /// What is trained.
    pub method: Method,
    /// What else it changes in a lesson, whose method, seed and rates are set.
    adjust: fn(Lesson) -> Lesson,
}

/// All of them, in the order in which they are shown.
pub static CONTENDERS: [Contender; 11] = [
    Contender {
        name: "imprint",
        about: "the head is set to class means; nothing is trained",
        method: Method::Imprint,
        adjust: |lesson| lesson,
    },
    Contender { name: "head", about: "only the head is trained", method: Method::Head, adjust: |lesson| lesson },
    Contender {
        name: "lora",
        about: "head and pairs, which stay what they are; what others are compared with",
        method: Method::Lora,
        adjust: |lesson| lesson,
    },
    Contender {
        name: "pissa",
        about: "head and pairs that start on the principal components, scaled by them",
        method: Method::Pissa,
        adjust: |lesson| lesson,
    },
    Contender {
        name: "srlora",
        about: "head and one-sided pairs, on directions of what each site reads",
        method: Method::Srlora,
        adjust: |lesson| lesson,
    },
    Contender {
        name: "both",
        about: "srlora with pairs of which both sides learn, directions that ship, and one recomposition",
        method: Method::Srlora,
        adjust: |lesson| Lesson { pairs: Some(Sides::Both), ..once(lesson) },
    },
    Contender {
        name: "recomposed",
        about: "srlora that recomposes all pairs once, along unused directions",
        method: Method::Srlora,
        adjust: once,
    },
    Contender {
        name: "random",
        about: "control: srlora with random directions",
        method: Method::Srlora,
        adjust: |lesson| Lesson { start: Some(Start::Random { seed: lesson.seed }), ..lesson },
    },
    Contender {
        name: "shipped",
        about: "control: srlora with directions that ship, those of each weight",
        method: Method::Srlora,
        adjust: |lesson| Lesson { directions: Some(DirectionSource::Shipped), ..lesson },
    },
    Contender {
        name: "renewed",
        about: "control: recomposed, but nothing is fused; only the rates and moments of pairs start anew",
        method: Method::Srlora,
        adjust: |lesson| Lesson { renews_only: true, ..once(lesson) },
    },
    Contender {
        name: "oldest",
        about: "control: srlora that fuses the oldest pairs first, whatever their importance; it needs an interval",
        method: Method::Srlora,
        adjust: |lesson| Lesson { choice: FuseOrder::Oldest, ..lesson },
    },
];

/// All pairs are recomposed once, unless it is said when they are.
fn once(lesson: Lesson) -> Lesson {
    let interval = if lesson.interval == Interval::Never { Interval::Once } else { lesson.interval };
    Lesson { interval, ..lesson }
}

/// The one that others are compared with.
pub(super) const REFERENCE: &str = "lora";

impl Contender {
    /// The one of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<&'static Contender> {
        CONTENDERS.iter().find(|contender| contender.name == name)
    }

    /// Which sides of its pairs learn, where it has any. Contenders of which that is the same share a network.
    pub(super) fn sides(&self, base: &Lesson) -> Option<Sides> {
        self.trains_pairs().then(|| self.lesson(base, 0, None).pair_kind().sites.sides)
    }

    /// Whether it trains pairs; the others share the whole network as their prefix.
    #[must_use]
    pub fn trains_pairs(&self) -> bool {
        self.method.settings().trains_pairs
    }

    /// The rate of a run that it may choose: that of the pairs, or of the head where nothing else is trained.
    pub(super) fn rate(&self, run: &Run) -> Option<f32> {
        if self.trains_pairs() { run.key.lr } else { run.key.head_lr }
    }

    /// Its lesson with `seed`. `rate` is that of the pairs, or of the head where it trains nothing else.
    pub(super) fn lesson(&self, base: &Lesson, seed: u64, rate: Option<f32>) -> Lesson {
        let mut lesson = Lesson { method: self.method, seed, ..base.clone() };
        match rate {
            Some(_) if self.trains_pairs() => lesson.lr = rate,
            Some(rate) => lesson.head_lr = rate,
            None => {}
        }
        (self.adjust)(lesson)
    }
}
