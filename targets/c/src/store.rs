//! What was learned: a store's generations, and how it changes without photos.

use std::ffi::{CString, c_char};
use std::path::{Path, PathBuf};

use srlora::session::{Store, StoreWriter};
use srlora::{ErrorKind, Result};

use crate::error::{guard, in_c, srlora_code, srlora_error};
use crate::pointers::{exclusive, free, handle, look, out, path, text};
use crate::text::{at, c_text, c_texts};

/// A store as it was when it was opened, or last changed through this handle. It holds nothing locked. Threads may read it at once;
/// `srlora_store_rollback` and `srlora_store_forget` need it for themselves.
pub struct srlora_store {
    pub(crate) own: Store,
    path: PathBuf,
    generations: Vec<u64>,
    aside: Vec<u64>,
    classes: Vec<CString>,
    warning: Option<CString>,
}

impl srlora_store {
    fn open(path: &Path) -> Result<Self> {
        let own = Store::open(path)?;
        let ([generations, aside], record) = (own.numbers()?, own.record()?);
        let (classes, warning) = (c_texts(&record.classes), own.warning().map(|text| c_text(&in_c(&text))));
        Ok(srlora_store { own, path: path.to_path_buf(), generations, aside, classes, warning })
    }

    /// Lets `act` change the store, and takes what came of it.
    fn change<R>(&mut self, act: impl FnOnce(&mut StoreWriter) -> Result<R>) -> Result<R> {
        let result = StoreWriter::open(&self.path).and_then(|mut writer| act(&mut writer));
        // What counts although a power cut may still take it counts here too.
        if result.as_ref().map_or_else(|error| error.kind() == ErrorKind::Unsynced, |_| true) {
            *self = Self::open(&self.path)?;
        }
        result
    }
}

/// Opens the store in `folder`, which a lesson has made: the newest generation that is whole.
///
/// Codes: `IO` where there is no such folder, `STORE` where it holds no good generation. Free it with `srlora_store_free`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn srlora_store_open(
    folder: *const c_char,
    store: *mut *mut srlora_store,
    error: *mut *mut srlora_error,
) -> srlora_code {
    guard(error, || {
        // SAFETY: the promise of `pointers`.
        let (folder, store) = unsafe { (path(folder, "folder")?, out(store, "store")?) };
        store.write(handle(srlora_store::open(folder)?));
        Ok(())
    })
}

/// Frees a store's handle; NULL is none. What was made of it goes on without, and the folder stays.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn srlora_store_free(store: *mut srlora_store) {
    // SAFETY: the promise of `pointers`.
    unsafe { free(store) }
}

/// The number of the generation that counts; 0 for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn srlora_store_current(store: *const srlora_store) -> u64 {
    // SAFETY: the promise of `pointers`.
    unsafe { look(store, 0, |store| store.own.current()) }
}

/// Generations that are there; 0 for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn srlora_store_generation_count(store: *const srlora_store) -> usize {
    // SAFETY: the promise of `pointers`.
    unsafe { look(store, 0, |store| store.generations.len()) }
}

/// The number of one of them, the newest at 0; 0 where there is none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn srlora_store_generation(store: *const srlora_store, index: usize) -> u64 {
    // SAFETY: the promise of `pointers`.
    unsafe { look(store, 0, |store| store.generations.get(index).copied().unwrap_or(0)) }
}

/// Lessons that were kept aside; 0 for NULL. A rollback can take them all the same.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn srlora_store_aside_count(store: *const srlora_store) -> usize {
    // SAFETY: the promise of `pointers`.
    unsafe { look(store, 0, |store| store.aside.len()) }
}

/// The number of one of them, the newest at 0; 0 where there is none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn srlora_store_aside(store: *const srlora_store, index: usize) -> u64 {
    // SAFETY: the promise of `pointers`.
    unsafe { look(store, 0, |store| store.aside.get(index).copied().unwrap_or(0)) }
}

/// Classes that the current generation knows; 0 for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn srlora_store_class_count(store: *const srlora_store) -> usize {
    // SAFETY: the promise of `pointers`.
    unsafe { look(store, 0, |store| store.classes.len()) }
}

/// The name of one of them, in UTF-8. Lives until the store is changed or freed; NULL where there is none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn srlora_store_class(store: *const srlora_store, index: usize) -> *const c_char {
    // SAFETY: the promise of `pointers`.
    unsafe { look(store, std::ptr::null(), |store| at(&store.classes, index)) }
}

/// What to tell the user where newer generations are damaged and an earlier one was opened; NULL where all is well. Lives until the
/// store is changed or freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn srlora_store_warning(store: *const srlora_store) -> *const c_char {
    let warning = |store: &srlora_store| store.warning.as_ref().map_or(std::ptr::null(), |text| text.as_ptr());
    // SAFETY: the promise of `pointers`.
    unsafe { look(store, std::ptr::null(), warning) }
}

/// Takes back the last lesson (`to` is 0), goes back to generation `to`, or takes the lesson that was kept aside under that number. What
/// it holds becomes a new generation, so that this can be undone, too. A lesson under way in the store is let go.
///
/// `number`, which may be NULL, gets the number whose contents now count. A classifier that was made before goes on as it was.
///
/// Codes: `USAGE` where there is no such generation or nothing to go back to; `BUSY` where another writer is at work; `IO`; `UNSYNCED`:
/// it counts, and a power cut may still take it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn srlora_store_rollback(
    store: *mut srlora_store,
    to: u64,
    number: *mut u64,
    error: *mut *mut srlora_error,
) -> srlora_code {
    guard(error, || {
        // SAFETY: the promise of `pointers`.
        let store = unsafe { exclusive(store, "store") }?;
        let back = store.change(|writer| writer.rollback((to > 0).then_some(to)))?;
        // SAFETY: the same; NULL is meant here.
        if let Ok(number) = unsafe { out(number, "number") } {
            number.write(back);
        }
        Ok(())
    })
}

/// Takes a class out: it leaves the head, the class means and the examples. What the pairs have learned with it stays, and older
/// generations still know it. `srlora_store_rollback` undoes it, without the examples.
///
/// Codes: `USAGE` where there is no such class, or no other; `BUSY`, `IO`, `UNSYNCED` as of `srlora_store_rollback`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn srlora_store_forget(
    store: *mut srlora_store,
    class_name: *const c_char,
    error: *mut *mut srlora_error,
) -> srlora_code {
    guard(error, || {
        // SAFETY: the promise of `pointers`.
        let (store, class) = unsafe { (exclusive(store, "store")?, text(class_name, "class_name")?) };
        store.change(|writer| writer.forget(class))
    })
}
