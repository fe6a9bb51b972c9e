//! The page's latch and the attaching to a page under loom: every interleaving, and every reordering that the memory model
//! allows, of one writer and two readers over records of two words. loom's own types take the place of the atomics; nothing else
//! is rebuilt.

mod atomic {
    pub(crate) use loom::sync::atomic::{AtomicPtr, AtomicU64, Ordering, fence};
}

#[path = "../chronotick-host/src/shm/current.rs"]
mod current;
#[path = "../chronotick-host/src/shm/latch.rs"]
mod latch;

use atomic::{AtomicPtr, AtomicU64, Ordering};
use current::Current;
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

/// Two pages, as a daemon leaves them that could not take over the first: where the reader stands, and the one in its place.
struct Attached {
    pages: [Page; 2],
    current: Current<Page>,
}

impl Attached {
    fn new() -> Arc<Self> {
        let page = || Page {
            sequence: AtomicU64::new(0),
            copies: [[AtomicU64::new(0), AtomicU64::new(0)], [AtomicU64::new(0), AtomicU64::new(0)]],
        };
        let attached = Arc::new(Self { pages: [page(), page()], current: Current::new(std::ptr::null_mut()) });
        attached.pages[0].publish(1);
        attached.attach(0);
        attached
    }
    fn attach(&self, page: usize) {
        self.current.set(std::ptr::from_ref(&self.pages[page]).cast_mut());
    }
    fn read(&self) -> [u64; 2] {
        // SAFETY: both pages live as long as `self`.
        unsafe { &*self.current.get() }.read()
    }
}

#[test]
fn attaching_again_shows_the_new_page_whole_to_every_thread() {
    model("a new page under two threads of a reader", || {
        let attached = Attached::new();
        let checking = thread::spawn({
            let attached = Arc::clone(&attached);
            move || {
                // The thread that finds the new file, whose record its daemon wrote before it put the file there.
                attached.pages[1].publish(2);
                attached.attach(1);
            }
        });
        let (first, second) = (attached.read(), attached.read());
        for read in [first, second] {
            assert!(read == [1, 1] || read == [2, 2], "{read:?}");
        }
        assert!(first <= second);
        checking.join().unwrap();
        assert_eq!(attached.read(), [2, 2]);
    });
}

/// That model can fail too: a page that is put in place without release can be read before its record is seen.
#[test]
#[should_panic(expected = "blank")]
fn without_release_a_new_page_can_be_read_blank() {
    loom::model(|| {
        let attached = Attached::new();
        let in_use = Arc::new(AtomicPtr::new(std::ptr::from_ref(&attached.pages[0]).cast_mut()));
        let checking = thread::spawn({
            let (attached, in_use) = (Arc::clone(&attached), Arc::clone(&in_use));
            move || {
                attached.pages[1].publish(2);
                in_use.store(std::ptr::from_ref(&attached.pages[1]).cast_mut(), Ordering::Relaxed);
            }
        });
        // SAFETY: both pages live as long as `attached`.
        let read = unsafe { &*in_use.load(Ordering::Relaxed) }.read();
        assert!(read[0] != 0, "blank");
        checking.join().unwrap();
    });
}

/// Who made the page is not latched: a checksum over it says whether it was seen whole.
#[test]
fn attaching_during_a_takeover_sees_one_daemon_or_the_other() {
    model("an identity of three words while it is replaced", || {
        let checksum = |instance: u64, pid: u64| instance * 1_000 + pid;
        let identity = Arc::new([7, 70, checksum(7, 70)].map(AtomicU64::new));
        let successor = thread::spawn({
            let identity = Arc::clone(&identity);
            move || latch::store(&identity, &[8, 80, checksum(8, 80)])
        });
        let [instance, pid, sum] = latch::words(&identity);
        if sum == checksum(instance, pid) {
            assert!((instance, pid) == (7, 70) || (instance, pid) == (8, 80), "{instance} {pid}");
        }
        successor.join().unwrap();
        assert_eq!(latch::words(&identity), [8, 80, checksum(8, 80)]);
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
