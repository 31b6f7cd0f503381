//! What callers promise of the pointers that they give. Every `unsafe` block of this crate rests on it:
//!
//! - A pointer to a handle is NULL, or came from this library and was not freed yet. Nobody frees it during the call. Where the call
//!   takes it without `const`, no other call uses the handle meanwhile.
//! - A pointer to text is NULL, or leads to bytes that end with a zero. One to values comes with how many there are, and all of them
//!   can be read, or written, until the call returns.
//! - An out-parameter is NULL, or can be written. What is in it need not be anything yet.
//!
//! NULL is found here, and refused.

use std::ffi::{CStr, c_char};
use std::mem::MaybeUninit;
use std::path::Path;

use srlora::{Error, ErrorKind, Result};

use crate::panics::caught;

/// Kind `Usage`: the argument `name` cannot be meant.
pub(crate) fn refuse(name: &str, message: impl std::fmt::Display) -> Error {
    Error::new(ErrorKind::Usage, format_args!("argument `{name}`"), message)
}

fn refuse_null(name: &str) -> Error {
    refuse(name, "is NULL")
}

/// What `pointer` leads to.
///
/// # Safety
/// The promise above.
pub(crate) unsafe fn shared<'a, T>(pointer: *const T, name: &str) -> Result<&'a T> {
    // SAFETY: NULL, or a handle or a struct that lives for as long as the call.
    unsafe { pointer.as_ref() }.ok_or_else(|| refuse_null(name))
}

/// The same, to be changed.
///
/// # Safety
/// The promise above.
pub(crate) unsafe fn exclusive<'a, T>(pointer: *mut T, name: &str) -> Result<&'a mut T> {
    // SAFETY: NULL, or a handle that no other call uses meanwhile.
    unsafe { pointer.as_mut() }.ok_or_else(|| refuse_null(name))
}

/// Where an answer goes, to be found before any work is done.
///
/// # Safety
/// The promise above.
pub(crate) unsafe fn out<'a, T>(pointer: *mut T, name: &str) -> Result<&'a mut MaybeUninit<T>> {
    // SAFETY: NULL, or the caller's own variable; whatever is in it, a `MaybeUninit` may be.
    unsafe { pointer.cast::<MaybeUninit<T>>().as_mut() }.ok_or_else(|| refuse_null(name))
}

/// Text of the caller's, as UTF-8.
///
/// # Safety
/// The promise above.
pub(crate) unsafe fn text<'a>(pointer: *const c_char, name: &str) -> Result<&'a str> {
    if pointer.is_null() {
        return Err(refuse_null(name));
    }
    // SAFETY: not NULL, so it leads to bytes that end with a zero.
    let text = unsafe { CStr::from_ptr(pointer) };
    text.to_str().map_err(|error| refuse(name, format_args!("is not UTF-8 ({error})")))
}

/// A path of the caller's: any bytes where the system takes any, elsewhere UTF-8.
///
/// # Safety
/// The promise above.
pub(crate) unsafe fn path<'a>(pointer: *const c_char, name: &str) -> Result<&'a Path> {
    #[cfg(unix)]
    {
        use std::os::unix::ffi::OsStrExt;
        if pointer.is_null() {
            return Err(refuse_null(name));
        }
        // SAFETY: not NULL, so it leads to bytes that end with a zero.
        let bytes = unsafe { CStr::from_ptr(pointer) }.to_bytes();
        Ok(Path::new(std::ffi::OsStr::from_bytes(bytes)))
    }
    #[cfg(not(unix))]
    {
        // SAFETY: the same promise.
        unsafe { text(pointer, name) }.map(Path::new)
    }
}

/// `count` values of the caller's, to be read.
///
/// # Safety
/// The promise above.
pub(crate) unsafe fn values<'a>(pointer: *const u8, count: usize, name: &str) -> Result<&'a [u8]> {
    if pointer.is_null() {
        return Err(refuse_null(name));
    }
    if isize::try_from(count).is_err() {
        return Err(refuse(name, format_args!("is said to have {count} bytes, more than there can be")));
    }
    // SAFETY: not NULL, so that many bytes can be read, and they are no more than a slice may have.
    Ok(unsafe { std::slice::from_raw_parts(pointer, count) })
}

/// Copies `found` to where the caller has room for `capacity` values.
///
/// # Errors
/// Kind `Usage` where they are more; nothing is written then.
///
/// # Safety
/// The promise above.
pub(crate) unsafe fn fill(found: &[f32], pointer: *mut f32, capacity: usize) -> Result<()> {
    if capacity < found.len() {
        return Err(refuse("capacity", format_args!("is {capacity}, and there are {} values", found.len())));
    }
    // SAFETY: there is room for at least as many values, and what was found lies in memory of this library.
    unsafe { std::ptr::copy_nonoverlapping(found.as_ptr(), pointer, found.len()) };
    Ok(())
}

/// What `act` says of a handle, or `otherwise` for NULL.
///
/// # Safety
/// The promise above.
pub(crate) unsafe fn look<'a, T: 'a, R: Copy>(pointer: *const T, otherwise: R, act: impl FnOnce(&'a T) -> R) -> R {
    // SAFETY: the same promise.
    let handle = unsafe { pointer.as_ref() };
    handle.map_or(otherwise, |handle| caught(|| act(handle)).unwrap_or(otherwise))
}

/// A handle that the caller owns from now on.
pub(crate) fn handle<T>(value: T) -> *mut T {
    Box::into_raw(Box::new(value))
}

/// Ends a handle; NULL is none.
///
/// # Safety
/// The promise above, and nothing uses the handle after it.
pub(crate) unsafe fn free<T>(pointer: *mut T) {
    if !pointer.is_null() {
        // SAFETY: `handle` has made it, and the caller gives it back.
        let owned = unsafe { Box::from_raw(pointer) };
        // There is nobody to tell.
        let _ = caught(|| drop(owned));
    }
}
