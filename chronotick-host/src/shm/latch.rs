//! One record of `N` words, one writer, any number of readers, nobody waits for anybody.
//!
//! There are two copies. The sequence's lowest bit names the current one; the writer fills the other and then increments the
//! sequence. A writer that is stopped anywhere therefore leaves a current copy behind, and a reader starts again only when a
//! whole update happened while it was reading, which cannot happen twice in a row unless the writer is faster than it.
//!
//! The words are relaxed atomics, so that a torn reading is detected rather than undefined. Two fences make detection sound.
//! The writer's release fence after its last increment keeps the words it writes next (into the copy that readers of the old
//! sequence use) behind that increment; the reader's acquire fence between the words and its second look at the sequence is
//! the other half: whoever saw one of those words sees the increment. Without either a torn reading passes; the model in
//! `tests/loom` fails when one is taken out.

use super::atomic::{AtomicU64, Ordering, fence};

/// Reads the current copy, whose index `copy` is given, with whatever else it looks at meanwhile. What it returns belongs
/// together; what it saw on the way may not.
#[inline(always)]
pub(crate) fn read<R>(sequence: &AtomicU64, copy: impl Fn(usize) -> R) -> R {
    loop {
        let seen = sequence.load(Ordering::Acquire);
        let read = copy(usize::from(seen & 1 == 1));
        fence(Ordering::Acquire);
        if sequence.load(Ordering::Relaxed) == seen {
            return read;
        }
    }
}

/// The words of a copy.
#[inline(always)]
pub(crate) fn words<const N: usize>(copy: &[AtomicU64; N]) -> [u64; N] {
    core::array::from_fn(|i| copy[i].load(Ordering::Relaxed))
}

/// Writes the words of a copy.
pub(crate) fn store<const N: usize>(copy: &[AtomicU64; N], words: &[u64; N]) {
    for (to, &word) in copy.iter().zip(words) {
        to.store(word, Ordering::Relaxed);
    }
}

/// Has `write` write the copy that is not current, whose index it is given. Then [`flip`].
pub(crate) fn fill(sequence: &AtomicU64, write: impl FnOnce(usize)) {
    let current = sequence.load(Ordering::Relaxed);
    fence(Ordering::Release);
    write(usize::from(current & 1 == 0));
}

/// Makes the filled copy the current one.
pub(crate) fn flip(sequence: &AtomicU64) {
    sequence.store(sequence.load(Ordering::Relaxed).wrapping_add(1), Ordering::Release);
}
