//! Text for C: bytes that end with a zero.

use std::ffi::{CString, c_char};

/// `text`, in which a zero stands as `\0`.
pub(crate) fn c_text(text: &str) -> CString {
    CString::new(text.replace('\0', "\\0")).unwrap_or_default()
}

/// Names, each as text for C.
pub(crate) fn c_texts(names: &[String]) -> Vec<CString> {
    names.iter().map(|name| c_text(name)).collect()
}

/// The text at `index`, or NULL where there is none.
pub(crate) fn at(texts: &[CString], index: usize) -> *const c_char {
    texts.get(index).map_or(std::ptr::null(), |text| text.as_ptr())
}

#[cfg(test)]
mod tests {
    use super::c_text;

    #[test]
    fn a_zero_does_not_end_a_text() {
        assert_eq!(c_text("a\0b").to_str(), Ok("a\\0b"));
    }
}
