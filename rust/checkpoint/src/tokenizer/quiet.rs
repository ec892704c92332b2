//! Calls of a library that panics on odd files, without a word on stderr.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};
use std::sync::Once;

thread_local! {
    /// Whether a panic of this thread is caught and told as an error.
    static CAUGHT: Cell<bool> = const { Cell::new(false) };
}

static HOOK: Once = Once::new();

/// Work of the tokenizers library on what a file says: odd files make it panic, which is an error like any other.
pub fn guarded<T>(work: impl FnOnce() -> tokenizers::Result<T>) -> Result<T, String> {
    HOOK.call_once(|| {
        let told = take_hook();
        set_hook(Box::new(move |panic| {
            if !CAUGHT.get() {
                told(panic);
            }
        }));
    });
    let before = CAUGHT.replace(true);
    let outcome = catch_unwind(AssertUnwindSafe(work));
    CAUGHT.set(before);
    match outcome {
        Ok(outcome) => outcome.map_err(|e| e.to_string()),
        Err(_) => Err("the tokenizers library failed on it".to_owned()),
    }
}
