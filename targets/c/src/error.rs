//! What went wrong: a code to branch on, and a sentence for a person.

use std::ffi::{CString, c_char};

use srlora::{Error, ErrorKind, Result, with_options};

use crate::panics::caught;
use crate::pointers::{free, handle, look};
use crate::text::c_text;

/// What a call answers. Branch on it; show a person `srlora_error_sentence`.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum srlora_code {
    /// It is done.
    Ok = 0,
    /// An argument or a setting has a value that cannot be meant; NULL is one.
    Usage = 1,
    /// The operating system refused a read or a write.
    Io = 2,
    /// What was written is whole and counts, but a power cut may still take it: the medium did not promise to keep its name.
    Unsynced = 3,
    /// The output is already there.
    Exists = 4,
    /// A model that is damaged, or of a form that is not taken.
    Model = 5,
    /// An operator of the model that cannot be learned through.
    UnsupportedOp = 6,
    /// A place in the model that cannot learn.
    Sites = 7,
    /// The prepared model does not compute what its file says.
    Check = 8,
    /// A bundle that is damaged, of another version, or not trusted.
    Bundle = 9,
    /// A store that is damaged, empty or of another version.
    Store = 10,
    /// A bundle and a store, or a bundle and photos, that do not belong together.
    Mismatch = 11,
    /// Photos that nothing can be learned from.
    Data = 12,
    /// A photo that cannot be read, or a frame that cannot be one.
    Image = 13,
    /// A memory limit that the work cannot be done in.
    Memory = 14,
    /// A device that the work cannot be done on.
    Device = 15,
    /// Another call, or another process, is at work on it.
    Busy = 16,
    /// It was asked to stop, and did; the lesson can go on later.
    Stopped = 17,
    /// The loss stopped being a number.
    Diverged = 18,
    /// A state that the library itself should have ruled out.
    Internal = 19,
    /// The library has panicked. Free what the call was given, and make it anew.
    Panic = 20,
}

impl srlora_code {
    fn of(kind: ErrorKind) -> Self {
        match kind {
            ErrorKind::Usage => Self::Usage,
            ErrorKind::Io => Self::Io,
            ErrorKind::Unsynced => Self::Unsynced,
            ErrorKind::Exists => Self::Exists,
            ErrorKind::Model => Self::Model,
            ErrorKind::UnsupportedOp => Self::UnsupportedOp,
            ErrorKind::Sites => Self::Sites,
            ErrorKind::Check => Self::Check,
            ErrorKind::Bundle => Self::Bundle,
            ErrorKind::Store => Self::Store,
            ErrorKind::Mismatch => Self::Mismatch,
            ErrorKind::Data => Self::Data,
            ErrorKind::Image => Self::Image,
            ErrorKind::Memory => Self::Memory,
            ErrorKind::Device => Self::Device,
            ErrorKind::Busy => Self::Busy,
            ErrorKind::Stopped => Self::Stopped,
            ErrorKind::Diverged => Self::Diverged,
            // A kind that this crate does not know yet is no less an error.
            _ => Self::Internal,
        }
    }
}

/// What went wrong. The caller owns it; any thread may read and free it.
pub struct srlora_error {
    code: srlora_code,
    sentence: CString,
    subject: CString,
    message: CString,
}

impl srlora_error {
    fn of(error: &Error) -> Self {
        let text = |text: &str| c_text(&in_c(text));
        srlora_error {
            code: srlora_code::of(error.kind()),
            sentence: text(&error.to_string()),
            subject: text(error.subject()),
            message: text(error.message()),
        }
    }

    fn panic(said: &str) -> Self {
        let subject = "the library";
        let sentence = format!("{subject}: {said}");
        srlora_error {
            code: srlora_code::Panic,
            sentence: c_text(&sentence),
            subject: c_text(subject),
            message: c_text(said),
        }
    }
}

/// `text` with options as the setters of a lesson call them. `from` is what the program calls `further`.
pub(crate) fn in_c(text: &str) -> String {
    with_options(text, |name| if name == "from" { "`further`".to_owned() } else { format!("`{name}`") })
}

/// The code of what `act` answers. Where it fails and `error` is not NULL, the caller gets the error too.
pub(crate) fn guard(error: *mut *mut srlora_error, act: impl FnOnce() -> Result<()>) -> srlora_code {
    let failed = match caught(act) {
        Ok(Ok(())) => return srlora_code::Ok,
        Ok(Err(error)) => srlora_error::of(&error),
        Err(said) => srlora_error::panic(&said),
    };
    let code = failed.code;
    if !error.is_null() {
        // SAFETY: an out-parameter that is not NULL can be written (`pointers`).
        unsafe { error.write(handle(failed)) };
    }
    code
}

/// Frees an error. NULL is none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn srlora_error_free(error: *mut srlora_error) {
    // SAFETY: the promise of `pointers`.
    unsafe { free(error) }
}

/// Its code; `SRLORA_CODE_OK` for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn srlora_error_code(error: *const srlora_error) -> srlora_code {
    // SAFETY: the promise of `pointers`.
    unsafe { look(error, srlora_code::Ok, |error| error.code) }
}

/// What is wrong, where, and what to do, as one sentence in UTF-8: subject, colon, message. Lives as long as the error; NULL for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn srlora_error_sentence(error: *const srlora_error) -> *const c_char {
    // SAFETY: the promise of `pointers`.
    unsafe { look(error, std::ptr::null(), |error| error.sentence.as_ptr()) }
}

/// The file, argument or setting at fault alone. Lives as long as the error; NULL for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn srlora_error_subject(error: *const srlora_error) -> *const c_char {
    // SAFETY: the promise of `pointers`.
    unsafe { look(error, std::ptr::null(), |error| error.subject.as_ptr()) }
}

/// What is wrong with it alone. Lives as long as the error; NULL for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn srlora_error_message(error: *const srlora_error) -> *const c_char {
    // SAFETY: the promise of `pointers`.
    unsafe { look(error, std::ptr::null(), |error| error.message.as_ptr()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_a_code_and_a_sentence() {
        let mut error = std::ptr::null_mut();
        assert_eq!(guard(&mut error, || panic!("a state that cannot be")), srlora_code::Panic);
        // SAFETY: `guard` has just made it.
        let error = unsafe { Box::from_raw(error) };
        assert!(error.sentence.to_str().is_ok_and(|said| said.contains("a state that cannot be")));
        assert_eq!(guard(std::ptr::null_mut(), || panic!("nobody asks")), srlora_code::Panic);
        assert_eq!(guard(std::ptr::null_mut(), || Ok(())), srlora_code::Ok);
    }

    #[test]
    fn options_are_called_as_the_setters_are() {
        let said = "give option `from`, or an option `ram_limit`";
        assert_eq!(in_c(said), "give `further`, or a `ram_limit`");
    }
}
