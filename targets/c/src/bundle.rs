//! What ships to the device: a frozen network, ready to classify and to learn.

use std::ffi::{CString, c_char};

use srlora::bundle::{Bundle, Trust};

use crate::error::{guard, srlora_code, srlora_error};
use crate::pointers::{free, handle, look, out, path};
use crate::text::{at, c_text, c_texts};

/// An opened bundle. It does not change, so any number of threads may use it at once.
pub struct srlora_bundle {
    pub(crate) own: Bundle,
    labels: Vec<CString>,
    sha256: CString,
}

impl From<Bundle> for srlora_bundle {
    fn from(own: Bundle) -> Self {
        let (labels, sha256) = (c_texts(own.labels.as_deref().unwrap_or_default()), c_text(&own.content_sha256));
        srlora_bundle { own, labels, sha256 }
    }
}

/// Opens the bundle at `file`, which `srlora pack` has made. A signature is not looked at.
///
/// Codes: `IO`, `BUNDLE`. Free it with `srlora_bundle_free`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn srlora_bundle_open(
    file: *const c_char,
    bundle: *mut *mut srlora_bundle,
    error: *mut *mut srlora_error,
) -> srlora_code {
    guard(error, || {
        // SAFETY: the promise of `pointers`.
        let (file, bundle) = unsafe { (path(file, "file")?, out(bundle, "bundle")?) };
        bundle.write(handle(Bundle::open(file)?.into()));
        Ok(())
    })
}

/// The same, of a bundle that the owner of a key has signed. `key` is a file with the Ed25519 public key in PEM. A bundle of a release
/// before `min_release` is refused; 0 takes any. Nothing in the bundle is believed before that.
///
/// Codes: those of `srlora_bundle_open`, with `BUNDLE` where it is not signed, by another, or of an earlier release; `USAGE` where the
/// file holds no such key.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn srlora_bundle_open_trusted(
    file: *const c_char,
    key: *const c_char,
    min_release: u64,
    bundle: *mut *mut srlora_bundle,
    error: *mut *mut srlora_error,
) -> srlora_code {
    guard(error, || {
        // SAFETY: the promise of `pointers`.
        let (file, key, bundle) = unsafe { (path(file, "file")?, path(key, "key")?, out(bundle, "bundle")?) };
        bundle.write(handle(Bundle::open_trusted(file, &Trust::read(key, min_release)?)?.into()));
        Ok(())
    })
}

/// Frees a bundle; NULL is none. What was made of it goes on without.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn srlora_bundle_free(bundle: *mut srlora_bundle) {
    // SAFETY: the promise of `pointers`.
    unsafe { free(bundle) }
}

/// The model's own classes; 0 where it has none, and for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn srlora_bundle_label_count(bundle: *const srlora_bundle) -> usize {
    // SAFETY: the promise of `pointers`.
    unsafe { look(bundle, 0, |bundle| bundle.labels.len()) }
}

/// The name of one of them, in UTF-8. Lives as long as the bundle; NULL where there is none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn srlora_bundle_label(bundle: *const srlora_bundle, index: usize) -> *const c_char {
    // SAFETY: the promise of `pointers`.
    unsafe { look(bundle, std::ptr::null(), |bundle| at(&bundle.labels, index)) }
}

/// Values that `srlora_classifier_embed` gives; 0 for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn srlora_bundle_feature_count(bundle: *const srlora_bundle) -> usize {
    // SAFETY: the promise of `pointers`.
    unsafe { look(bundle, 0, |bundle| bundle.own.feature_dim) }
}

/// Width of the network's input, to which frames are brought; 0 for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn srlora_bundle_input_width(bundle: *const srlora_bundle) -> usize {
    // SAFETY: the promise of `pointers`.
    unsafe { look(bundle, 0, |bundle| bundle.own.preprocess.width) }
}

/// Height of the network's input, to which frames are brought; 0 for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn srlora_bundle_input_height(bundle: *const srlora_bundle) -> usize {
    // SAFETY: the promise of `pointers`.
    unsafe { look(bundle, 0, |bundle| bundle.own.preprocess.height) }
}

/// The sha256 over all that it holds, in lowercase hex. Lives as long as the bundle; NULL for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn srlora_bundle_sha256(bundle: *const srlora_bundle) -> *const c_char {
    // SAFETY: the promise of `pointers`.
    unsafe { look(bundle, std::ptr::null(), |bundle| bundle.sha256.as_ptr()) }
}
