//! Memory shared between processes: what is written here is read by others, and what is read was written by others.

pub(crate) mod current;
pub(crate) mod folder;
pub(crate) mod identity;
pub(crate) mod latch;
pub(crate) mod map;
pub mod page;
pub mod region;
pub(crate) mod replaceable;
pub mod ring;
mod sigbus;
pub mod writer;

/// The atomics of the lock-free parts; their models put others in this place.
pub(crate) mod atomic {
    pub(crate) use std::sync::atomic::{AtomicPtr, AtomicU64, Ordering, fence};
}

/// Where a test has a page to itself: in a folder of its own.
#[cfg(test)]
pub(crate) fn scratch(name: &str) -> std::path::PathBuf {
    let folder = std::env::temp_dir().join(format!("chronotick-page-{}-{name}", std::process::id()));
    // A test that was killed may have left one of that name.
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).unwrap();
    folder.join("clock")
}
