//! Photos in memory to learn from, each with its class.

use std::ffi::c_char;

use srlora::session::{Dataset, Picture};

use crate::error::{guard, srlora_code, srlora_error};
use crate::frame::srlora_frame;
use crate::pointers::{exclusive, free, handle, look, path, shared, text};

/// Photos, each with its class. One thread at a time adds to them.
#[derive(Default)]
pub struct srlora_photos {
    pub(crate) own: Dataset,
}

/// No photos yet. Free them with `srlora_photos_free`.
#[unsafe(no_mangle)]
pub extern "C" fn srlora_photos_new() -> *mut srlora_photos {
    handle(srlora_photos::default())
}

/// Frees photos; NULL is none. A lesson that was made of them keeps its own.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn srlora_photos_free(photos: *mut srlora_photos) {
    // SAFETY: the promise of `pointers`.
    unsafe { free(photos) }
}

/// How many there are; 0 for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn srlora_photos_count(photos: *const srlora_photos) -> usize {
    // SAFETY: the promise of `pointers`.
    unsafe { look(photos, 0, |photos| photos.own.photos().len()) }
}

/// Adds a frame as a photo of `class_name`, a name in UTF-8; a class that is new comes with it. The pixels are copied.
///
/// Codes: `IMAGE` for a frame that cannot be a photo; `DATA` for a name that no folder could have; `USAGE`. Nothing is added then.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn srlora_photos_add(
    photos: *mut srlora_photos,
    class_name: *const c_char,
    frame: *const srlora_frame,
    error: *mut *mut srlora_error,
) -> srlora_code {
    guard(error, || {
        // SAFETY: the promise of `pointers`.
        let (photos, class, frame) =
            unsafe { (exclusive(photos, "photos")?, text(class_name, "class_name")?, shared(frame, "frame")?) };
        let name = format!("photo {} of class {class}", photos.own.photos().len());
        // SAFETY: the same, of what the frame leads to.
        let picture = unsafe { frame.picture(&name) }?;
        photos.own.add(class, picture)
    })
}

/// Adds a JPEG or PNG file as a photo of `class_name`. The file is read when the lesson runs.
///
/// Codes: `DATA` for a name that no folder could have; `USAGE`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn srlora_photos_add_file(
    photos: *mut srlora_photos,
    class_name: *const c_char,
    file: *const c_char,
    error: *mut *mut srlora_error,
) -> srlora_code {
    guard(error, || {
        // SAFETY: the promise of `pointers`.
        let (photos, class, file) =
            unsafe { (exclusive(photos, "photos")?, text(class_name, "class_name")?, path(file, "file")?) };
        photos.own.add(class, Picture::from(file))
    })
}
