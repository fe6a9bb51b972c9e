//! A single-producer single-consumer ring of frames between two processes that do not trust each other.
//!
//! The ring is an array of 64-bit words with two free-running word counts: `head` (words ever written) and `tail` (words
//! ever read). Each side keeps its own count privately, publishes it with release ordering and reads the other's with
//! acquire ordering only when its cached copy says that the ring is full or empty. A frame is one header word
//! (`length | crc << 32`), then the payload padded to whole words. The CRC-32 covers the frame's sequence number, its
//! length and the payload, so that stale or repeated bytes do not pass for a frame.
//!
//! What the peer may do: write anything anywhere in the shared words at any time. What it can cause: a [`RingError`], never
//! an access outside the ring. Indices are masked, a count that is out of range or goes backwards is an error, lengths are
//! checked against what is available before a byte is copied, and a payload is checked after it has been copied out.

use std::fmt;

/// Longest payload of a frame, in bytes.
pub const MAX_FRAME: usize = 16 * 1024;

/// The shared words behind a ring. All accesses are atomic.
///
/// `head` and `tail` are read with acquire and written with release ordering, words are relaxed. Implementations do not
/// validate; the ring passes only word indices below [`Memory::words`].
pub trait Memory {
    /// Number of words, a power of two.
    fn words(&self) -> usize;
    /// The producer's count.
    fn head(&self) -> u64;
    /// Publishes the producer's count.
    fn set_head(&self, count: u64);
    /// The consumer's count.
    fn tail(&self) -> u64;
    /// Publishes the consumer's count.
    fn set_tail(&self, count: u64);
    /// The word at `index`.
    fn word(&self, index: usize) -> u64;
    /// Writes the word at `index`.
    fn set_word(&self, index: usize, value: u64);
}

/// The peer broke the ring; nothing more can be read from or written to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RingError {
    /// The peer's count is impossible: it went backwards or passed ours.
    Count,
    /// A frame claims to be longer than allowed or than what was written.
    Length(u32),
    /// A frame's checksum does not fit its content.
    Checksum,
}

impl fmt::Display for RingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Count => f.write_str("the peer's position in the ring is impossible"),
            Self::Length(bytes) => write!(f, "a frame claims {bytes} bytes, which is impossible"),
            Self::Checksum => f.write_str("a frame's checksum is wrong"),
        }
    }
}

impl std::error::Error for RingError {}

/// Why a frame was not written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PushError {
    /// There is no room until the peer has read more.
    Full,
    /// The frame is longer than [`MAX_FRAME`] or than the ring.
    TooLong,
    /// The peer broke the ring.
    Broken(RingError),
}

impl fmt::Display for PushError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full => f.write_str("the ring is full"),
            Self::TooLong => f.write_str("the frame is longer than the ring takes"),
            Self::Broken(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for PushError {}

/// The writing end.
#[derive(Debug)]
pub struct Producer<M> {
    memory: M,
    head: u64,
    tail: u64,
    sequence: u32,
    broken: Option<RingError>,
}

impl<M: Memory> Producer<M> {
    /// The writing end of a fresh ring, all of whose words are zero.
    ///
    /// # Panics
    /// If the number of words is not a power of two of at least 2: a mistake in the program, not in its input.
    pub fn new(memory: M) -> Self {
        assert_capacity(memory.words());
        Self { memory, head: 0, tail: 0, sequence: 0, broken: None }
    }

    /// Writes one frame, whole or not at all.
    pub fn push(&mut self, payload: &[u8]) -> Result<(), PushError> {
        if let Some(error) = self.broken {
            return Err(PushError::Broken(error));
        }
        let capacity = self.memory.words() as u64;
        let needed = 1 + words_of(payload.len());
        let Ok(length) = u32::try_from(payload.len()) else { return Err(PushError::TooLong) };
        if payload.len() > MAX_FRAME || needed > capacity {
            return Err(PushError::TooLong);
        }
        if capacity - self.head.wrapping_sub(self.tail) < needed {
            self.refresh_tail().map_err(PushError::Broken)?;
            if capacity - self.head.wrapping_sub(self.tail) < needed {
                return Err(PushError::Full);
            }
        }
        let crc = frame_crc(self.sequence, length, payload);
        self.put(0, u64::from(length) | u64::from(crc) << 32);
        let (whole, rest) = payload.as_chunks::<8>();
        let mut at = 1;
        for chunk in whole {
            self.put(at, u64::from_le_bytes(*chunk));
            at += 1;
        }
        if !rest.is_empty() {
            let mut last = [0; 8];
            last[..rest.len()].copy_from_slice(rest);
            self.put(at, u64::from_le_bytes(last));
        }
        self.head = self.head.wrapping_add(needed);
        self.sequence = self.sequence.wrapping_add(1);
        self.memory.set_head(self.head);
        Ok(())
    }

    fn refresh_tail(&mut self) -> Result<(), RingError> {
        let tail = self.memory.tail();
        // Between what it had read before and what we have written.
        if tail.wrapping_sub(self.tail) > self.head.wrapping_sub(self.tail) {
            self.broken = Some(RingError::Count);
            return Err(RingError::Count);
        }
        self.tail = tail;
        Ok(())
    }

    fn put(&self, ahead: u64, value: u64) {
        self.memory.set_word(masked(self.head.wrapping_add(ahead), self.memory.words()), value);
    }
}

/// The reading end.
#[derive(Debug)]
pub struct Consumer<M> {
    memory: M,
    tail: u64,
    head: u64,
    sequence: u32,
    broken: Option<RingError>,
}

impl<M: Memory> Consumer<M> {
    /// The reading end of a fresh ring, all of whose words are zero or written by a [`Producer`] since.
    ///
    /// # Panics
    /// If the number of words is not a power of two of at least 2: a mistake in the program, not in its input.
    pub fn new(memory: M) -> Self {
        assert_capacity(memory.words());
        Self { memory, tail: 0, head: 0, sequence: 0, broken: None }
    }

    /// Moves the next frame's payload into `payload` (its old content is dropped). `false`: there is none.
    ///
    /// After an error every further call returns the same error: a broken ring is not repaired.
    pub fn pop(&mut self, payload: &mut Vec<u8>) -> Result<bool, RingError> {
        if let Some(error) = self.broken {
            return Err(error);
        }
        let result = self.pop_checked(payload);
        self.broken = result.err();
        result
    }

    fn pop_checked(&mut self, payload: &mut Vec<u8>) -> Result<bool, RingError> {
        payload.clear();
        if self.head == self.tail {
            let head = self.memory.head();
            let available = head.wrapping_sub(self.tail);
            if available == 0 {
                return Ok(false);
            }
            if available > self.memory.words() as u64 {
                return Err(RingError::Count);
            }
            self.head = head;
        }
        let available = self.head.wrapping_sub(self.tail);
        let header = self.take(0);
        let [length, crc] = halves(header);
        let bytes = length as usize;
        let needed = 1 + words_of(bytes);
        if bytes > MAX_FRAME || needed > available {
            return Err(RingError::Length(length));
        }
        payload.reserve(bytes + 7);
        for at in 1..needed {
            payload.extend_from_slice(&self.take(at).to_le_bytes());
        }
        payload.truncate(bytes);
        if frame_crc(self.sequence, length, payload) != crc {
            payload.clear();
            return Err(RingError::Checksum);
        }
        self.tail = self.tail.wrapping_add(needed);
        self.sequence = self.sequence.wrapping_add(1);
        self.memory.set_tail(self.tail);
        Ok(true)
    }

    fn take(&self, ahead: u64) -> u64 {
        self.memory.word(masked(self.tail.wrapping_add(ahead), self.memory.words()))
    }
}

fn assert_capacity(words: usize) {
    assert!(words.is_power_of_two() && words >= 2, "a ring of {words} words: the number must be a power of two");
}

#[expect(clippy::cast_possible_truncation, reason = "masked below the number of words")]
fn masked(count: u64, words: usize) -> usize {
    (count & (words as u64 - 1)) as usize
}

const fn words_of(bytes: usize) -> u64 {
    bytes.div_ceil(8) as u64
}

#[expect(clippy::cast_possible_truncation, reason = "takes a word apart")]
const fn halves(word: u64) -> [u32; 2] {
    [word as u32, (word >> 32) as u32]
}

fn frame_crc(sequence: u32, length: u32, payload: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new_with_initial(sequence);
    hasher.update(&length.to_le_bytes());
    hasher.update(payload);
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(loom)]
    use loom::sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    };
    #[cfg(not(loom))]
    use std::sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    };

    /// A ring in ordinary memory, under whichever atomics the test runs with.
    #[derive(Clone, Debug)]
    struct Heap(Arc<(AtomicU64, AtomicU64, Vec<AtomicU64>)>);

    impl Heap {
        fn new(words: usize) -> Self {
            Self(Arc::new((AtomicU64::new(0), AtomicU64::new(0), (0..words).map(|_| AtomicU64::new(0)).collect())))
        }
    }

    impl Memory for Heap {
        fn words(&self) -> usize {
            self.0.2.len()
        }
        fn head(&self) -> u64 {
            self.0.0.load(Ordering::Acquire)
        }
        fn set_head(&self, count: u64) {
            self.0.0.store(count, Ordering::Release);
        }
        fn tail(&self) -> u64 {
            self.0.1.load(Ordering::Acquire)
        }
        fn set_tail(&self, count: u64) {
            self.0.1.store(count, Ordering::Release);
        }
        fn word(&self, index: usize) -> u64 {
            self.0.2[index].load(Ordering::Relaxed)
        }
        fn set_word(&self, index: usize, value: u64) {
            self.0.2[index].store(value, Ordering::Relaxed);
        }
    }

    /// Every interleaving of a producer and a consumer over a ring so small that it fills and wraps.
    #[cfg(loom)]
    #[test]
    fn loom_frames_arrive_whole_and_in_order() {
        loom::model(|| {
            let memory = Heap::new(4);
            let (mut producer, mut consumer) = (Producer::new(memory.clone()), Consumer::new(memory));
            let writer = loom::thread::spawn(move || {
                for frame in [&b"a"[..], b"bcdefghijk", b"l"] {
                    while producer.push(frame) == Err(PushError::Full) {
                        loom::thread::yield_now();
                    }
                }
            });
            let mut payload = Vec::new();
            for expected in [&b"a"[..], b"bcdefghijk", b"l"] {
                while !consumer.pop(&mut payload).unwrap() {
                    loom::thread::yield_now();
                }
                assert_eq!(payload, expected);
            }
            writer.join().unwrap();
            assert_eq!(consumer.pop(&mut payload), Ok(false));
        });
    }

    #[cfg(not(loom))]
    mod plain {
        use proptest::prelude::*;

        use super::*;

        #[derive(Clone, Debug)]
        enum Step {
            Push(Vec<u8>),
            Pop,
        }

        fn step() -> impl Strategy<Value = Step> {
            prop_oneof![proptest::collection::vec(any::<u8>(), 0..70).prop_map(Step::Push), Just(Step::Pop)]
        }

        proptest! {
            #[test]
            fn behaves_like_a_queue_with_limited_room(
                steps in proptest::collection::vec(step(), 1..200),
                exponent in 1u32..6,
                start in prop_oneof![Just(0u64), Just(u64::MAX - 9)],
            ) {
                let memory = Heap::new(1 << exponent);
                let capacity = 1u64 << exponent;
                memory.set_head(start);
                memory.set_tail(start);
                let mut producer = Producer::new(memory.clone());
                let mut consumer = Consumer::new(memory);
                (producer.head, producer.tail, consumer.head, consumer.tail) = (start, start, start, start);
                let mut model = std::collections::VecDeque::<Vec<u8>>::new();
                let mut payload = Vec::new();
                for step in steps {
                    let used: u64 = model.iter().map(|frame| 1 + words_of(frame.len())).sum();
                    match step {
                        Step::Push(frame) => {
                            let needed = 1 + words_of(frame.len());
                            let expected = match needed {
                                n if n > capacity => Err(PushError::TooLong),
                                n if n > capacity - used => Err(PushError::Full),
                                _ => Ok(()),
                            };
                            prop_assert_eq!(producer.push(&frame), expected);
                            if expected.is_ok() {
                                model.push_back(frame);
                            }
                        }
                        Step::Pop => {
                            let expected = model.pop_front();
                            prop_assert_eq!(consumer.pop(&mut payload), Ok(expected.is_some()));
                            prop_assert_eq!(&payload, &expected.unwrap_or_default());
                        }
                    }
                }
            }

            /// A peer that scribbles over every word and both counts causes errors and nothing worse.
            #[test]
            fn a_hostile_peer_causes_errors_only(
                scribbles in proptest::collection::vec((0usize..18, any::<u64>(), any::<bool>()), 1..60),
            ) {
                let memory = Heap::new(16);
                let mut producer = Producer::new(memory.clone());
                let mut consumer = Consumer::new(memory.clone());
                let mut payload = Vec::new();
                for (index, value, small) in scribbles {
                    let value = if small { value % 40 } else { value };
                    match index {
                        16 => memory.set_head(value),
                        17 => memory.set_tail(value),
                        _ => memory.set_word(index, value),
                    }
                    let popped = consumer.pop(&mut payload);
                    prop_assert!(payload.len() <= 15 * 8);
                    if let Err(error) = popped {
                        prop_assert_eq!(consumer.pop(&mut payload), Err(error), "a broken ring stays broken");
                    }
                    let _ = producer.push(b"frame");
                }
            }
        }

        #[test]
        fn a_huge_length_is_refused_before_anything_is_copied() {
            let memory = Heap::new(16);
            memory.set_word(0, u64::from(u32::MAX));
            memory.set_head(2);
            let mut consumer = Consumer::new(memory);
            assert_eq!(consumer.pop(&mut Vec::new()), Err(RingError::Length(u32::MAX)));
        }

        #[test]
        fn every_flipped_bit_is_seen() {
            let frame = b"quantiles of the offset";
            for bit in 0..4 * 64 {
                let memory = Heap::new(8);
                Producer::new(memory.clone()).push(frame).expect("an empty ring takes a frame");
                let word = memory.word(bit / 64) ^ 1 << (bit % 64);
                memory.set_word(bit / 64, word);
                let mut payload = Vec::new();
                let popped = Consumer::new(memory).pop(&mut payload);
                // Padding behind the payload is not part of the frame.
                let padding = bit >= 64 + frame.len() * 8;
                assert_eq!(popped.is_err(), !padding, "bit {bit}");
            }
        }

        #[test]
        fn a_replayed_frame_is_refused() {
            let memory = Heap::new(4);
            let mut producer = Producer::new(memory.clone());
            let mut consumer = Consumer::new(memory.clone());
            let mut payload = Vec::new();
            for _ in 0..2 {
                producer.push(b"12345678").expect("room for one frame of two words");
                assert_eq!(consumer.pop(&mut payload), Ok(true));
            }
            memory.set_head(6); // the same words once more
            assert_eq!(consumer.pop(&mut payload), Err(RingError::Checksum));
        }

        #[test]
        fn two_threads_move_frames_of_all_sizes() {
            let memory = Heap::new(64);
            let (mut producer, mut consumer) = (Producer::new(memory.clone()), Consumer::new(memory));
            // miri takes milliseconds for each; and a busy machine a time slice for every few, since the ring is small.
            let count = if cfg!(miri) { 300 } else { 20_000u32 };
            let content = |n: u32| vec![n.to_le_bytes()[0]; (n % 97) as usize];
            let writer = std::thread::spawn(move || {
                for n in 0..count {
                    while producer.push(&content(n)) == Err(PushError::Full) {
                        std::thread::yield_now();
                    }
                }
            });
            let mut payload = Vec::new();
            for n in 0..count {
                while !consumer.pop(&mut payload).expect("an honest peer") {
                    std::thread::yield_now();
                }
                assert_eq!(payload, content(n));
            }
            writer.join().expect("the writer does not panic");
        }
    }
}
