//! What a bundle and a store say of photos: the classes of one, and the accuracy over many, and how sure either may be.
//!
//! In come a bundle, a store, and photos. Out go guesses with their probabilities, accuracy, and which classes are taken for which.

mod answering;
mod classifier;
mod confusion;
mod evaluate;
#[cfg(feature = "cli")]
mod growing;
mod reliability;
mod scores;

pub use classifier::{Classifier, Guess, Prediction};
pub use confusion::{Confusion, Tally};
pub(crate) use evaluate::measure;
pub use evaluate::{ClassScore, Confused, EvalRequest, Evaluation, Mistake, Unknown, Wrong, evaluate};
#[cfg(feature = "cli")]
pub(crate) use growing::GrowingClassifier;
pub(crate) use scores::argmax;
