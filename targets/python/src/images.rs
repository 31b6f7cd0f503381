//! Paths, bytes and arrays as pictures.

use std::path::PathBuf;

use numpy::ndarray::ArrayViewD;
use numpy::{PyArrayDyn, PyArrayMethods, PyUntypedArray, PyUntypedArrayMethods};
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyBytes, PyMemoryView, PyString};
use srlora::limits::MOST_PIXELS;
use srlora::session::{Layout, Picture, Pixels};

use crate::errors::fault;

/// Whether it is one image, and not several.
pub(crate) fn is_one(value: &Bound<'_, PyAny>) -> bool {
    value.is_instance_of::<PyString>()
        || is_bytes(value)
        || value.is_instance_of::<PyUntypedArray>()
        || value.hasattr("__fspath__").unwrap_or(false)
}

fn is_bytes(value: &Bound<'_, PyAny>) -> bool {
    value.is_instance_of::<PyBytes>() || value.is_instance_of::<PyByteArray>() || value.is_instance_of::<PyMemoryView>()
}

/// One image; messages call it `name` where it is no file.
///
/// # Errors
/// `TypeError` for anything but a path, the bytes of a file, or an array of uint8; `ImageError` for an array that is no photo.
pub(crate) fn picture(value: &Bound<'_, PyAny>, name: &str) -> PyResult<Picture> {
    if let Ok(array) = value.cast::<PyUntypedArray>() {
        return pixels(array, name).map(|pixels| Picture::pixels(name, pixels));
    }
    if let Ok(bytes) = value.cast::<PyBytes>() {
        return Ok(Picture::encoded(name, bytes.as_bytes()));
    }
    if is_bytes(value) {
        let bytes = value.py().get_type::<PyBytes>().call1((value,))?;
        return Ok(Picture::encoded(name, bytes.cast::<PyBytes>()?.as_bytes()));
    }
    value.extract::<PathBuf>().map(Picture::from).map_err(|_| {
        PyTypeError::new_err(format!(
            "{name} is {}; an image is a path, the bytes of a JPEG or PNG, or a uint8 array of height x width x 3 (of other libraries' \
             images take numpy.asarray(image))",
            value.get_type()
        ))
    })
}

/// The pixels of an array, whatever its strides are: copied, as others may write into it once the interpreter's lock is let go.
///
/// Shapes: height x width x 3 (red, green, blue), height x width x 1 or height x width (grey).
fn pixels(array: &Bound<'_, PyUntypedArray>, name: &str) -> PyResult<Pixels> {
    let Ok(bytes) = array.cast::<PyArrayDyn<u8>>() else { return Err(other_type(array, name)) };
    let Ok(bytes) = bytes.try_readonly() else {
        return Err(PyTypeError::new_err(format!("{name}: the array is being written to by another extension")));
    };
    let view = bytes.as_array();
    let (layout, width, height) = match *view.shape() {
        [height, width] | [height, width, 1] => (Layout::Grey8, width, height),
        [height, width, 3] => (Layout::Rgb8, width, height),
        _ => return Err(other_shape(&view, name)),
    };
    // What does not fit is far above every limit, and refused as that.
    let size = [width, height].map(|side| u32::try_from(side).unwrap_or(u32::MAX));
    let pixels = match view.len() as u64 > 3 * MOST_PIXELS {
        // Refused before it is copied: a view may be larger than memory.
        true => Pixels::from_values(view.iter().copied(), layout, size),
        // The last axis is a pixel's channels, so that what is copied is copied pixel by pixel.
        false => match view.to_shape((height, width, layout.channels())) {
            Ok(view) => {
                let rows = view.as_standard_layout();
                Pixels::new(rows.as_slice().unwrap_or_default(), layout, size, width.saturating_mul(layout.channels()))
            }
            Err(_) => return Err(other_shape(&view, name)),
        },
    };
    pixels.map_err(|error| {
        fault(srlora::Error::new(error.kind(), format_args!("{name}, {}", error.subject()), error.message()))
    })
}

fn other_type(array: &Bound<'_, PyUntypedArray>, name: &str) -> PyErr {
    let dtype = array.dtype();
    let reason = match dtype.getattr("kind").and_then(|kind| kind.extract::<String>()) {
        Ok(kind) if kind == "f" => {
            "what a float means cannot be told: 0 to 1, 0 to 255, or already normalized. The bundle normalizes by itself; give the bytes, \
             for instance (255 * image).round().astype(numpy.uint8)"
        }
        _ => "an image has bytes of 0 to 255; give them as uint8",
    };
    PyTypeError::new_err(format!("{name}: an array of {dtype}: {reason}"))
}

fn other_shape(view: &ArrayViewD<'_, u8>, name: &str) -> PyErr {
    let advice = match *view.shape() {
        [_, _, 4] => "leave the fourth channel out: image[..., :3]",
        [3, _, _] => "channels come last: image.transpose(1, 2, 0)",
        [_, _, _, _] => "that is several images: give list(images)",
        _ => "an image is height x width x 3 (red, green, blue), or height x width (grey)",
    };
    PyTypeError::new_err(format!("{name}: an array of shape {:?}: {advice}", view.shape()))
}
