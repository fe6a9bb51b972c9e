//! Which of several things is in use, where one thread changes that while others use them.
//!
//! Whoever is given the new one also sees everything that was written to it before it was put there. What was in use before
//! must stay: others may stand in it. `tests/loom_page.rs` has the model.

use super::atomic::{AtomicPtr, Ordering};

#[derive(Debug)]
pub(crate) struct Current<T>(AtomicPtr<T>);

impl<T> Current<T> {
    pub(crate) fn new(first: *mut T) -> Self {
        Self(AtomicPtr::new(first))
    }

    #[inline(always)]
    pub(crate) fn get(&self) -> *mut T {
        self.0.load(Ordering::Acquire)
    }

    pub(crate) fn set(&self, next: *mut T) {
        self.0.store(next, Ordering::Release);
    }
}
