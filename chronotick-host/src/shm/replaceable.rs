//! A value that every thread may look at while one puts another in its place.
//!
//! Values that are no longer in use stay until the end, because a thread may be looking at one. They are meant to be few: a value
//! that was in use before is found again instead of kept twice.
#![allow(unsafe_code)]

use std::sync::{Arc, Mutex, PoisonError};

use super::current::Current;

#[derive(Debug)]
pub(crate) struct Replaceable<T> {
    current: Current<T>,
    // Each in an allocation of its own, so that it stays where it is when others come.
    kept: Mutex<Vec<Arc<T>>>,
}

impl<T: PartialEq> Replaceable<T> {
    pub(crate) fn new(first: T) -> Self {
        let first = Arc::new(first);
        Self { current: Current::new(Arc::as_ptr(&first).cast_mut()), kept: Mutex::new(vec![first]) }
    }

    #[inline(always)]
    pub(crate) fn get(&self) -> &T {
        // SAFETY: points to a value in `kept`, which only grows while `self` lives, and whose values nobody changes.
        unsafe { &*self.current.get() }
    }

    pub(crate) fn replace(&self, next: T) {
        if *self.get() == next {
            return;
        }
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let next = match kept.iter().find(|value| ***value == next) {
            Some(value) => Arc::as_ptr(value),
            None => {
                kept.push(Arc::new(next));
                Arc::as_ptr(&kept[kept.len() - 1])
            }
        };
        self.current.set(next.cast_mut());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_come_back_and_are_kept_once() {
        let value = Replaceable::new(1);
        let first = value.get();
        for next in [2, 2, 1, 3, 2] {
            value.replace(next);
            assert_eq!(*value.get(), next);
        }
        assert_eq!((*first, value.kept.lock().unwrap().len()), (1, 3));
    }

    /// What a thread looks at stays whole while others replace it; meant for the sanitizers and for miri.
    #[test]
    fn threads_look_while_others_replace() {
        let pair = |n: u64| (n, !n);
        let value = Replaceable::new(pair(0));
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| (0..200).for_each(|n| value.replace(pair(n % 7))));
            }
            for _ in 0..2 {
                scope.spawn(|| {
                    for _ in 0..200 {
                        let seen = value.get();
                        assert_eq!(*seen, pair(seen.0));
                    }
                });
            }
        });
        assert_eq!(value.kept.lock().unwrap().len(), 7);
    }
}
