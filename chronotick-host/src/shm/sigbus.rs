//! A page whose file is cut short under its readers.
//!
//! Touching a mapping beyond the end of its file raises SIGBUS, and a file can be truncated at any time by whoever may write it.
//! The handler puts a page of zeros in the place of a watched mapping and lets the access go on, so that the reader finds a
//! blank record and falls back; every other SIGBUS goes to the handler that was there before.
#![allow(unsafe_code)]

use std::mem;
use std::ptr;
use std::sync::Once;
use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};

use super::page::PAGE_SIZE;

/// Start addresses of the watched mappings; 0 is free. Beyond this many a truncated file ends the process, as it would
/// without any of this.
static WATCHED: [AtomicUsize; 256] = [const { AtomicUsize::new(0) }; 256];
/// The handler that was there before.
static PREVIOUS: AtomicPtr<libc::sigaction> = AtomicPtr::new(ptr::null_mut());

/// Installs the handler, once in a process.
pub(super) fn install() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // SAFETY: all-zero is a valid `sigaction`.
        let mut action: libc::sigaction = unsafe { mem::zeroed() };
        action.sa_sigaction = on_sigbus as extern "C" fn(i32, *mut libc::siginfo_t, *mut libc::c_void) as usize;
        action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK | libc::SA_NODEFER;
        // SAFETY: as above.
        let previous = Box::leak(Box::new(unsafe { mem::zeroed() }));
        // SAFETY: both point to valid structures; the first call only asks.
        unsafe { libc::sigaction(libc::SIGBUS, ptr::null(), previous) };
        PREVIOUS.store(previous, Ordering::Release);
        // SAFETY: the handler is async-signal-safe: atomics, mmap, and the handler before it.
        unsafe { libc::sigaction(libc::SIGBUS, &raw const action, ptr::null_mut()) };
    });
}

/// Watches the page that starts at `address`.
pub(super) fn watch(address: usize) {
    let _ = WATCHED.iter().any(|slot| slot.compare_exchange(0, address, Ordering::AcqRel, Ordering::Relaxed).is_ok());
}

/// Stops watching it.
pub(super) fn forget(address: usize) {
    let _ = WATCHED.iter().any(|slot| slot.compare_exchange(address, 0, Ordering::AcqRel, Ordering::Relaxed).is_ok());
}

extern "C" fn on_sigbus(signal: i32, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // SAFETY: the kernel passes a valid `siginfo_t` to a SA_SIGINFO handler.
    let address = unsafe { (*info).si_addr() }.addr();
    let start = address & !(PAGE_SIZE - 1);
    if address != 0 && WATCHED.iter().any(|slot| slot.load(Ordering::Acquire) == start) {
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED;
        // SAFETY: replaces exactly one page of a mapping that this crate owns and is watching; whoever holds a `&Page` into it
        // goes on reading atomics.
        let mapped = unsafe { libc::mmap(ptr::without_provenance_mut(start), PAGE_SIZE, protection, flags, -1, 0) };
        if mapped != libc::MAP_FAILED {
            return;
        }
    }
    let previous = PREVIOUS.load(Ordering::Acquire);
    // SAFETY: set before this handler was installed, never freed.
    let handler = unsafe { (*previous).sa_sigaction };
    match handler {
        libc::SIG_DFL | libc::SIG_IGN => {
            // The faulting instruction runs again and the default action ends the process with a SIGBUS of its own.
            // SAFETY: restores a disposition; async-signal-safe.
            unsafe { libc::signal(signal, libc::SIG_DFL) };
        }
        // SAFETY: the previous disposition holds a function of the type that its flags say.
        handler => unsafe {
            if (*previous).sa_flags & libc::SA_SIGINFO == 0 {
                mem::transmute::<usize, extern "C" fn(i32)>(handler)(signal);
            } else {
                mem::transmute::<usize, extern "C" fn(i32, *mut libc::siginfo_t, *mut libc::c_void)>(handler)(
                    signal, info, context,
                );
            }
        },
    }
}
