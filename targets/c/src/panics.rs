//! A panic is an error of this library. It must not unwind into C, and a library prints nothing.

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook};
use std::sync::Once;

thread_local! {
    static LAST: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// What `act` answers, or what the panic said that has ended it.
///
/// What a panic has left half-done is in a handle whose lock is poisoned then, and no call takes such a handle again.
pub(crate) fn caught<R>(act: impl FnOnce() -> R) -> Result<R, String> {
    static QUIET: Once = Once::new();
    // The hook is that of the standard library inside this shared library: no other one in the process is touched.
    QUIET.call_once(|| set_hook(Box::new(|panic| LAST.with_borrow_mut(|last| *last = Some(panic.to_string())))));
    catch_unwind(AssertUnwindSafe(act)).map_err(|payload| {
        // What was thrown could itself panic when it is dropped.
        std::mem::forget(payload);
        LAST.take().unwrap_or_else(|| "a panic that said nothing".to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::caught;

    #[test]
    fn a_panic_is_caught_with_what_it_said() {
        assert_eq!(caught(|| 7), Ok(7));
        let said = caught(|| panic!("the sky is green")).unwrap_err();
        assert!(said.contains("the sky is green") && said.contains("panics.rs"), "{said}");
    }
}
