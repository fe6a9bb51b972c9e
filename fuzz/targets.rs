//! What is fed arbitrary bytes: every parser that meets what others have made.
//!
//! Each function takes bytes and panics if a promise is broken. `fuzz/run 60 NAME` calls it without end, guided by
//! coverage; `tests/fuzz_corpora.rs` calls it on the committed corpora and on mutations of them, on any toolchain.

use std::cell::Cell;
use std::path::{Path, PathBuf};

use chronotick_core::clock_page::{ClockPage, CounterScale, WidestGrowth};
use chronotick_core::{Rate, Timestamp};
use chronotick_embedded::frame;
use chronotick_embedded::gateway::{ToGateway, ToNode};
use chronotick_host::link::{Order, Reply};
use chronotick_host::local::candm;
use chronotick_host::ntp::packet::{HEADER, Packet};
use chronotick_host::nts::{extension, record};
use chronotick_host::shm::ring::{Consumer, Memory};
use chronotick_host::trace::{Trace, TraceWriter};
use chronotick_host::{Config, Reader};

/// Panics if a promise is broken.
pub(crate) type Target = fn(&[u8]);

/// All targets by name. (Each fuzzed program uses one of them.)
#[allow(dead_code, reason = "the fuzzed programs name one target each")]
pub(crate) const ALL: [(&str, Target); 6] =
    [("packet", packet), ("nts", nts), ("config", config), ("page", page), ("frames", frames), ("trace", trace)];

/// Datagrams: an NTP packet with its extension fields, and chronyd's answer.
pub(crate) fn packet(bytes: &[u8]) {
    if let Ok(packet) = Packet::parse(bytes) {
        assert_eq!(packet.encode()[..], bytes[..HEADER], "a header survives");
        let pivot = Timestamp::from_nanos(1_800_000_000_000_000_000);
        let times = [packet.reference, packet.origin, packet.receive, packet.transmit].map(|time| time.to_utc(pivot));
        assert!(
            times.iter().all(|time| time.since(pivot).abs().as_secs_f64() < 2.0f64.powi(31) + 1.0),
            "within an era"
        );
        assert!(packet.root_distance().as_nanos() >= 0 && packet.resolution().as_nanos() >= 0);
        let _ = packet.kiss();
        let _ = extension::fields(&bytes[HEADER..]).take(64).count();
    }
    let sequence = bytes.get(16..20).and_then(|b| b.try_into().ok()).map_or(0, u32::from_be_bytes);
    if let Ok(tracking) = candm::parse(bytes, sequence) {
        assert!(tracking.root_distance().is_none_or(|distance| distance.as_nanos() >= 0));
    }
}

/// A key exchange's response, and the fields of an authenticated packet.
pub(crate) fn nts(bytes: &[u8]) {
    if let Ok(response) = record::parse(bytes) {
        assert!(!response.cookies.is_empty());
    }
    for field in extension::fields(bytes).take(64).flatten() {
        let _ = extension::authenticator(field.body);
    }
}

/// A configuration file, in both languages.
pub(crate) fn config(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    for name in ["fuzz.toml", "fuzz.yaml"] {
        match Config::parse(text, Path::new(name)) {
            Ok(config) => assert!(config.local.sources.len() <= chronotick_host::config::MAX_SERVERS),
            Err(error) => {
                let line = error.to_string();
                assert!(line.starts_with(name) && !line.contains('\n'), "{line:?}");
            }
        }
    }
}

/// A clock page: its record by itself, and the whole file with a reader attached.
pub(crate) fn page(bytes: &[u8]) {
    let words: [u64; 8] = std::array::from_fn(|i| {
        // The first copy of the record; see docs/CLOCK_PAGE.md.
        let word = bytes.get(128 + 8 * i..136 + 8 * i).and_then(|b| b.try_into().ok());
        word.map_or(0, u64::from_le_bytes)
    });
    let page = ClockPage::from_words(words);
    let widest = WidestGrowth::new(Rate::from_ppm(500.0), Rate::from_ppm(50.0));
    for counter in [0, 1, words[0], words[0].wrapping_add(1 << 30), words[0].wrapping_sub(1), u64::MAX] {
        let reading = page.time_at(counter, widest);
        assert!(reading.bound().half_width().as_nanos() >= 0 && reading.interval95().half_width().as_nanos() >= 0);
    }
    if let Some(record) = page.decode(&CounterScale::NANOS) {
        let _ = ClockPage::encode(&record, &CounterScale::NANOS);
    }
    let path = scratch();
    if std::fs::write(&path, bytes).is_err() {
        return;
    }
    if let Ok(reader) = Reader::attach(&path) {
        for _ in 0..2 {
            let now = reader.now();
            assert!(now.earliest() <= now.utc() && now.utc() <= now.latest());
            assert!((0.0..=1.0).contains(&now.confidence()), "{}", now.confidence());
        }
    }
}

/// The rings to and from the worker, the messages in them, and the microcontroller's frames.
pub(crate) fn frames(bytes: &[u8]) {
    let _ = postcard::from_bytes::<Order>(bytes);
    let _ = postcard::from_bytes::<Reply>(bytes);
    let _ = frame::decode::<ToNode>(&mut bytes.to_vec());
    let _ = frame::decode::<ToGateway>(&mut bytes.to_vec());
    let mut ring = Consumer::new(Bytes::new(bytes));
    let mut payload = Vec::new();
    // Every frame takes a word at least.
    for _ in 0..=2 * RING {
        match ring.pop(&mut payload) {
            Ok(true) => {}
            Ok(false) => return,
            Err(error) => {
                assert_eq!(ring.pop(&mut payload), Err(error), "a broken ring stays broken");
                return;
            }
        }
    }
    panic!("the ring never ends");
}

/// A recorded trace.
pub(crate) fn trace(bytes: &[u8]) {
    let Ok(read) = Trace::parse("fuzz.csv", bytes) else { return };
    let mut writer = TraceWriter::new(Vec::new(), &[]).expect("memory");
    for sample in &read.samples {
        writer.write(sample, &read.sources[usize::from(sample.source.0)]).expect("a name that was read can be written");
    }
    let written = writer.finish().expect("memory");
    let again = Trace::parse("again.csv", &written).expect("what was written can be read");
    assert_eq!(again.sources, read.sources);
    for (one, other) in read.samples.iter().zip(&again.samples) {
        let numbers = |s: &chronotick_core::Sample| (s.local, s.offset, s.delay, s.root_distance, s.source);
        assert_eq!(numbers(one), numbers(other));
    }
    assert_eq!(again.samples.len(), read.samples.len());
}

const RING: usize = 64;

/// A ring as a peer may have left it: the count, then the words.
struct Bytes {
    head: u64,
    words: [u64; RING],
    tail: Cell<u64>,
}

impl Bytes {
    fn new(bytes: &[u8]) -> Self {
        let word = |i: usize| bytes.get(8 * i..8 * i + 8).and_then(|b| b.try_into().ok()).map_or(0, u64::from_le_bytes);
        Self { head: word(0), words: std::array::from_fn(|i| word(i + 1)), tail: Cell::new(0) }
    }
}

impl Memory for Bytes {
    fn words(&self) -> usize {
        RING
    }
    fn head(&self) -> u64 {
        self.head
    }
    fn set_head(&self, _: u64) {}
    fn tail(&self) -> u64 {
        self.tail.get()
    }
    fn set_tail(&self, count: u64) {
        self.tail.set(count);
    }
    fn word(&self, index: usize) -> u64 {
        self.words[index]
    }
    fn set_word(&self, _: usize, _: u64) {}
}

/// A file of this thread's own, in memory where the machine has such a folder.
fn scratch() -> PathBuf {
    thread_local! {
        static PATH: PathBuf = {
            let shared = Path::new("/dev/shm");
            let folder = if shared.is_dir() { shared.to_owned() } else { std::env::temp_dir() };
            let thread = format!("{:?}", std::thread::current().id()).replace(|c: char| !c.is_ascii_digit(), "");
            folder.join(format!("chronotick-fuzz-{}-{thread}", std::process::id()))
        };
    }
    PATH.with(PathBuf::clone)
}

/// Removes what [`page`] left behind.
#[allow(dead_code, reason = "the fuzzed programs are ended from outside")]
pub(crate) fn tidy() {
    // Never made: as wished.
    let _ = std::fs::remove_file(scratch());
}
