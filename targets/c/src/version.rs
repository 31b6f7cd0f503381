//! The version of the library that is loaded.

use std::ffi::{CStr, c_char};

const VERSION: &CStr = match CStr::from_bytes_with_nul(concat!(env!("CARGO_PKG_VERSION"), "\0").as_bytes()) {
    Ok(version) => version,
    Err(_) => panic!("a version is text"),
};

/// The version of the library that is loaded, as `SRLORA_VERSION` is that of the header. Lives as long as the library.
#[unsafe(no_mangle)]
pub extern "C" fn srlora_version() -> *const c_char {
    VERSION.as_ptr()
}
