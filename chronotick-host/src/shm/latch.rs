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

/// Starts reading: the sequence and the index of the current copy.
#[inline(always)]
pub(crate) fn begin(sequence: &AtomicU64) -> (u64, usize) {
    let seen = sequence.load(Ordering::Acquire);
    (seen, usize::from(seen & 1 == 1))
}

/// The words of a copy; they count only if [`unchanged`] says so afterwards.
#[inline(always)]
pub(crate) fn words<const N: usize>(copy: &[AtomicU64; N]) -> [u64; N] {
    core::array::from_fn(|i| copy[i].load(Ordering::Relaxed))
}

/// Whether everything read since [`begin`] belongs together.
#[inline(always)]
pub(crate) fn unchanged(sequence: &AtomicU64, seen: u64) -> bool {
    fence(Ordering::Acquire);
    sequence.load(Ordering::Relaxed) == seen
}

/// Writes a record in two halves: `fill` the copy that is not current, then `flip`.
pub(crate) fn fill<const N: usize>(sequence: &AtomicU64, copies: [&[AtomicU64; N]; 2], words: &[u64; N]) {
    let current = sequence.load(Ordering::Relaxed);
    fence(Ordering::Release);
    for (to, &word) in copies[usize::from(current & 1 == 0)].iter().zip(words) {
        to.store(word, Ordering::Relaxed);
    }
}

/// Makes the filled copy the current one.
pub(crate) fn flip(sequence: &AtomicU64) {
    sequence.store(sequence.load(Ordering::Relaxed).wrapping_add(1), Ordering::Release);
}
