//! The forecasters: what they read ([`tensors`]), where they come from ([`files`]), how they run ([`inference`]), and the
//! process around them.
//!
//! The worker is the same executable as the service, started again. A program that links this library calls [`hook`]
//! first in `main`; the `chronotick` command does. In the worker that call does not return.

pub mod files;
#[cfg(feature = "inference")]
pub mod inference;
#[cfg(feature = "inference")]
mod serve;
pub mod tensors;

#[cfg(feature = "inference")]
pub use serve::{attach, main, serve};

#[cfg(feature = "inference")]
use std::sync::atomic::{AtomicBool, Ordering};

/// Tells a started process that it is a worker, and its descriptors: `region,wake worker,wake service`.
pub(crate) const LINK_VARIABLE: &str = "CHRONOTICK_WORKER_LINK";

#[cfg(feature = "inference")]
static HOOKED: AtomicBool = AtomicBool::new(false);

/// Makes this program able to be its own worker. Call it first in `main`, before threads are started or files opened.
///
/// In a process that was started as a worker it runs the models until the service ends and does not return. Otherwise it
/// returns at once, and [`crate::supervisor`] starts this same executable when it needs a worker.
///
/// ```no_run
/// // At the top of `main`:
/// chronotick_host::worker::hook();
/// // The service.
/// ```
#[cfg(feature = "inference")]
pub fn hook() {
    if std::env::var_os(LINK_VARIABLE).is_some() {
        std::process::exit(main());
    }
    HOOKED.store(true, Ordering::Relaxed);
}

/// Whether this program can be its own worker.
pub(crate) fn hooked() -> bool {
    #[cfg(feature = "inference")]
    return HOOKED.load(Ordering::Relaxed);
    #[cfg(not(feature = "inference"))]
    return false;
}
