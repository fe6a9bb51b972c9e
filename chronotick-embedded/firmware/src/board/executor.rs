//! Runs embassy's tasks and sleeps between them.
//!
//! embassy's own loop for Cortex-M waits for events, which the emulator takes for doing nothing and so never skips idle
//! time; this one waits for interrupts.
#![allow(unsafe_code)]

use core::sync::atomic::{AtomicBool, Ordering};

use embassy_executor::{Spawner, raw};
use static_cell::StaticCell;

static EXECUTOR: StaticCell<raw::Executor> = StaticCell::new();
static PENDING: AtomicBool = AtomicBool::new(false);

/// Lets `start` spawn the first tasks, and runs them for ever. Call it once.
pub fn run_tasks(start: impl FnOnce(Spawner)) -> ! {
    let executor = EXECUTOR.init_with(|| raw::Executor::new(core::ptr::null_mut()));
    start(executor.spawner());
    loop {
        PENDING.store(false, Ordering::Relaxed);
        // SAFETY: called from here only, so never twice at the same time.
        unsafe { executor.poll() };
        critical_section::with(|_| {
            if !PENDING.load(Ordering::Relaxed) {
                // An interrupt ends the wait even here, and is served when the critical section ends.
                super::wait_for_interrupt();
            }
        });
    }
}

// SAFETY: the name and signature that embassy-executor asks of a platform.
#[unsafe(export_name = "__pender")]
fn pend(_context: *mut ()) {
    PENDING.store(true, Ordering::Relaxed);
}
