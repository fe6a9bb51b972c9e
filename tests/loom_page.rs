//! The page's latch under loom: every interleaving, and every reordering that the memory model allows, of one writer and two
//! readers over records of two words. loom's own types take the place of the atomics; nothing else is rebuilt.

mod atomic {
    pub(crate) use loom::sync::atomic::{AtomicU64, Ordering, fence};
}

#[path = "../chronotick-host/src/shm/latch.rs"]
mod latch;

use atomic::{AtomicU64, Ordering};
use loom::sync::Arc;
use loom::thread;

struct Page {
    sequence: AtomicU64,
    copies: [[AtomicU64; 2]; 2],
}

impl Page {
    fn new() -> Arc<Self> {
        let copy = || [AtomicU64::new(0), AtomicU64::new(0)];
        Arc::new(Self { sequence: AtomicU64::new(0), copies: [copy(), copy()] })
    }
    fn publish(&self, value: u64) {
        latch::fill(&self.sequence, |copy| latch::store(&self.copies[copy], &[value, value]));
        latch::flip(&self.sequence);
    }
    fn read(&self) -> [u64; 2] {
        latch::read(&self.sequence, |copy| latch::words(&self.copies[copy]))
    }
}

fn model(name: &str, test: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(test);
    println!("{name}: all interleavings hold");
}

#[test]
fn no_reading_is_torn_or_goes_back() {
    model("three records, one reader twice", || {
        let page = Page::new();
        let writer = thread::spawn({
            let page = Arc::clone(&page);
            move || (1..=3).for_each(|value| page.publish(value))
        });
        let first = page.read();
        let second = page.read();
        assert_eq!(first[0], first[1]);
        assert_eq!(second[0], second[1]);
        assert!(first[0] <= second[0]);
        writer.join().unwrap();
        assert_eq!(page.read(), [3, 3]);
    });
}

#[test]
fn a_successor_goes_on_where_a_writer_died_half_way() {
    model("takeover under a reader", || {
        let page = Page::new();
        page.publish(1);
        let writers = thread::spawn({
            let page = Arc::clone(&page);
            move || {
                // The first dies between its two halves; the next knows nothing of it.
                latch::fill(&page.sequence, |copy| latch::store(&page.copies[copy], &[9, 8]));
                page.publish(2);
            }
        });
        let read = page.read();
        assert!(read == [1, 1] || read == [2, 2], "{read:?}");
        writers.join().unwrap();
        assert_eq!(page.read(), [2, 2]);
    });
}

/// The model can fail: without the writer's fence it finds a torn reading.
#[test]
#[should_panic(expected = "torn")]
fn without_the_release_fence_a_torn_reading_passes() {
    loom::model(|| {
        let page = Page::new();
        let writer = thread::spawn({
            let page = Arc::clone(&page);
            move || {
                for value in 1..=2 {
                    let current = page.sequence.load(Ordering::Relaxed);
                    latch::store(&page.copies[usize::from(current & 1 == 0)], &[value, value]);
                    page.sequence.store(current + 1, Ordering::Release);
                }
            }
        });
        let read = page.read();
        assert!(read[0] == read[1], "torn");
        writer.join().unwrap();
    });
}
