//! A file's first page, mapped.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::AsFd;
use std::ptr::NonNull;
use std::sync::Mutex;
use std::sync::PoisonError;

use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

use super::current::Current;
use super::page::{PAGE_SIZE, Page};
use super::sigbus;

/// A shared mapping of one [`Page`]. Other processes may write to it at any time, which is why it is all atomics.
#[derive(Debug)]
pub(crate) struct Mapping {
    page: NonNull<Page>,
}

// SAFETY: a `Page` is made of atomics only, and the mapping is the same from every thread.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Maps the first page of `file`, which must be at least that long (a shorter file reads as zeros).
    pub(crate) fn new(file: impl AsFd, writable: bool) -> io::Result<Self> {
        sigbus::install();
        let protection = if writable { ProtFlags::READ | ProtFlags::WRITE } else { ProtFlags::READ };
        // SAFETY: a new mapping at an address of the kernel's choice; nothing existing is replaced.
        let address = unsafe { mmap(std::ptr::null_mut(), PAGE_SIZE, protection, MapFlags::SHARED, file, 0) }?;
        let page = NonNull::new(address.cast::<Page>()).ok_or(io::ErrorKind::OutOfMemory)?;
        sigbus::watch(page.as_ptr().addr());
        Ok(Self { page })
    }

    #[inline(always)]
    pub(crate) fn page(&self) -> &Page {
        // SAFETY: mapped, page-aligned and `PAGE_SIZE` long until `self` is dropped; every bit pattern is a valid `Page`.
        unsafe { self.page.as_ref() }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        sigbus::forget(self.page.as_ptr().addr());
        // SAFETY: mapped by `new` with this length, and no borrow of it outlives `self`. A failure leaves it mapped: harmless.
        let _ = unsafe { munmap(self.page.as_ptr().cast(), PAGE_SIZE) };
    }
}

/// The mapping in use, which one thread can replace while others read. Replaced ones stay mapped until the end, because a
/// reader may stand in one of them; a daemon that comes back takes its file over, so they are few.
#[derive(Debug)]
pub(crate) struct MappingCell {
    current: Current<Page>,
    kept: Mutex<Vec<Mapping>>,
}

impl MappingCell {
    pub(crate) fn new(mapping: Mapping) -> Self {
        Self { current: Current::new(mapping.page.as_ptr()), kept: Mutex::new(vec![mapping]) }
    }

    #[inline(always)]
    pub(crate) fn page(&self) -> &Page {
        // SAFETY: points into a mapping in `kept`, which only grows while `self` lives.
        unsafe { &*self.current.get() }
    }

    pub(crate) fn replace(&self, mapping: Mapping) {
        let page = mapping.page.as_ptr();
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).push(mapping);
        self.current.set(page);
    }
}
