//! What a network reads, and what photos have to become for it.

use super::preprocess::Preprocess;
use crate::backbone::{Backbone, ImageInput};
use crate::error::{Error, ErrorKind, Result};
use crate::limits::MOST_INPUT_VALUES;

/// The values that photos become, as the file's own input asks for.
///
/// # Errors
/// Kind `Usage`: several colours' values for a network that has one channel, any for one that takes bytes.
pub(super) fn fit_input(asked: &Preprocess, backbone: &Backbone, notes: &mut Vec<String>) -> Result<Preprocess> {
    let ImageInput { name, is_grey, is_bytes, .. } = backbone.image();
    let plain = Preprocess::default();
    let named = match (asked.range == plain.range, asked.mean == plain.mean) {
        (false, _) => "option `range`",
        (_, false) => "option `mean`",
        _ => "option `std`",
    };
    let refuse = |message: String| Err(Error::new(ErrorKind::Usage, named, message));
    let of = |preprocess: &Preprocess| (preprocess.range, preprocess.mean, preprocess.std);
    let bytes = Preprocess { range: 255.0, ..plain.clone() };
    if *is_bytes {
        if ![of(&bytes), of(&plain)].contains(&of(asked)) {
            return refuse(format!(
                "the network takes bytes ({name} is uint8) and brings them into range itself; leave out option `range`, option `mean`, \
                 option `std` and option `preset`"
            ));
        }
        notes.push(format!("the network takes bytes ({name} is uint8), so photos become values of 0 to 255"));
        return Ok(Preprocess { fit: asked.fit, ..bytes });
    }
    let differ = |values: [f32; 3]| values.iter().any(|value| *value != values[0]);
    if *is_grey && (differ(asked.mean) || differ(asked.std)) {
        return refuse(format!(
            "the network takes one channel, the grey of a photo ({name}); give one mean and one std"
        ));
    }
    Ok(asked.clone())
}

/// # Errors
/// Kind `Model`, about the file `subject`, where one run of `backbone` would take an absurd number of pixels.
pub(super) fn check_input(backbone: &Backbone, subject: &str) -> Result<()> {
    let [height, width] = backbone.size();
    let values = [3, height, width].iter().try_fold(backbone.batch(), |product, &n| product.checked_mul(n));
    if values.is_some_and(|values| values <= MOST_INPUT_VALUES) {
        return Ok(());
    }
    let message = format!(
        "takes {} images of {height}x{width} at once, above the limit of {MOST_INPUT_VALUES} values; export it with a \
         smaller or a symbolic batch, or smaller images",
        backbone.batch()
    );
    Err(Error::new(ErrorKind::Model, subject, message))
}
