//! What a read does not do, its periodic checks included: no system call, no allocation.
//!
//! A second process attaches to a page, forbids itself every system call but `write` (the kernel ends it at any other), and reads
//! for a while with an allocator that counts.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::os::unix::process::ExitStatusExt;
use std::process::Command;
use std::sync::Arc;

use chronotick_core::served::{self, Target};
use chronotick_core::{ErrorBound, Offset, PredictionInterval, Span, Tier};
use chronotick_host::Reader;
use chronotick_host::os::counter::{CounterKind, LocalClock, SystemCounter};
use chronotick_host::publisher::Publisher;
use chronotick_host::shm::page::PageSettings;
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter};

/// In the environment of the second process: the page.
const PAGE: &str = "CHRONOTICK_READ_TEST_PAGE";

thread_local! {
    /// Of this thread: the one that runs the tests allocates too.
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

struct Counting;

// SAFETY: hands everything to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let _ = ALLOCATIONS.try_with(|count| count.set(count.get() + 1));
        // SAFETY: the caller keeps this function's contract, which is the same.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: `at` is from `alloc` above, which is the system's.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Only `write` from now on, in this thread.
fn forbid_calls() -> Result<(), String> {
    let rules = [(libc::SYS_write, Vec::new())].into();
    let arch = std::env::consts::ARCH.try_into().map_err(|_| "seccomp does not know this processor")?;
    let program: BpfProgram = SeccompFilter::new(rules, SeccompAction::KillProcess, SeccompAction::Allow, arch)
        .and_then(TryInto::try_into)
        .map_err(|error| error.to_string())?;
    seccompiler::apply_filter(&program).map_err(|error| error.to_string())
}

/// Not a test of its own: what the second process runs.
#[test]
fn second_process() {
    let Ok(page) = std::env::var(PAGE) else { return };
    let reader = Reader::attach(page).unwrap();
    if let Err(cause) = forbid_calls() {
        println!("said: skipped, {cause}");
        return;
    }
    // A dozen of the checks that fall due every 16 ms; below the 3 s after which the file is looked at.
    let (start, before) = (reader.now(), ALLOCATIONS.get());
    let end = start.utc().saturating_add(Span::from_millis(200));
    let (mut readings, mut fresh) = (0_u64, 0_u64);
    loop {
        let now = reader.now();
        readings += 1;
        fresh += u64::from(now.tier() == Tier::Filter && now.latest() > now.earliest());
        if now.utc() > end {
            break;
        }
    }
    let allocations = ALLOCATIONS.get() - before;
    println!("said: {readings} readings, {fresh} of them bounded, {allocations} allocations");
    // And the prohibition holds: this is the end of the process.
    let _ = std::fs::metadata("/");
    println!("said: a call came through");
}

#[test]
fn a_read_makes_no_system_call_and_allocates_nothing() {
    if CounterKind::detect() == CounterKind::MonotonicRaw {
        return println!("skipped: this kernel may read its clock by a system call");
    }
    let folder = std::env::temp_dir().join(format!("chronotick-no-call-{}", std::process::id()));
    let clock: Arc<dyn LocalClock> = Arc::new(SystemCounter::calibrate());
    let page = folder.join("clock");
    let mut publisher = Publisher::open(&page, &PageSettings::default(), served::Config::default(), clock).unwrap();
    let publish = |at| {
        let raw = Target::raw(at, Offset::ZERO);
        let bound = ErrorBound::new(Span::from_millis(1));
        Some(Target { bound, interval: PredictionInterval::new(Span::from_micros(100)), tier: Tier::Filter, ..raw })
    };
    publisher.publish(publish).unwrap();
    let mut process = Command::new(std::env::current_exe().unwrap());
    process.args(["--exact", "second_process", "--nocapture"]).env(PAGE, &page);
    let output = process.output().unwrap();
    std::fs::remove_dir_all(folder).unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let said: Vec<_> = text.lines().filter_map(|line| line.split_once("said: ")).map(|(_, said)| said).collect();
    let complaint = String::from_utf8_lossy(&output.stderr);
    let [said] = said[..] else { panic!("{:?}: {text}{complaint}", output.status) };
    println!("{said}");
    if said.starts_with("skipped") {
        return;
    }
    assert_eq!(output.status.signal(), Some(libc::SIGSYS), "forbidden calls end it");
    let numbers: Vec<u64> = said.split(' ').filter_map(|word| word.parse().ok()).collect();
    assert!(numbers[0] > 1_000 && numbers[0] == numbers[1] && numbers[2] == 0, "{said}");
}
