//! The cost of one reading, beside what people use today.
//!
//! One run takes every variant in turn, in many short rounds, so that the frequency of the processor and the neighbours on
//! the machine touch all of them alike; what is printed are medians over the rounds, and the median of each round's ratio to
//! `SystemTime::now`. `--test` makes one short round of each: it shows that the bench works and times nothing.
//!
//! ```text
//! cargo bench -p chronotick-benches --bench clock_read
//! cargo bench -p chronotick-benches --bench clock_read --no-default-features    # the same, built in a minute
//! ```

use std::fs;
use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};
use std::time::{Duration, Instant, SystemTime};

use chronotick_core::served::{self, Target};
use chronotick_core::{ErrorBound, Local, Offset, PredictionInterval, Rate, Reason, Span, Tier, Timestamp};
use chronotick_host::Reader;
use chronotick_host::os::counter::{CounterKind, LocalClock, SystemCounter};
use chronotick_host::publisher::Publisher;
use chronotick_host::shm::page::PageSettings;

/// Calls in one measurement; at 20 ns it takes 0.1 ms.
const CALLS: u32 = 5_000;

fn main() {
    let quick = std::env::args().any(|argument| argument == "--test");
    let rounds = if quick { 3 } else { 1_001 };
    let folder = std::env::temp_dir().join(format!("chronotick-clock-read-{}", std::process::id()));
    fs::create_dir_all(&folder).expect("the temporary folder can be written");
    println!("{}", machine());
    let mut world = World::new(&folder);
    world.table(rounds);
    world.threads(rounds);
    world.writer(rounds);
    world.cold(if quick { 3 } else { 2_001 });
    fs::remove_dir_all(&folder).expect("made by this process");
}

struct World {
    detected: CounterKind,
    publisher: Publisher,
    reader: Reader,
    raw_reader: Reader,
    slewing_reader: Reader,
    /// Counter readings within that page's slew, and after it.
    slew: [u64; 2],
    _others: [Publisher; 2],
    clock_bound_2: clock_bound_client::ClockBoundClient,
    clock_bound_3: Option<clock_bound::Client>,
}

type Variant<'a> = (&'static str, Box<dyn FnMut(u32) + 'a>);

/// A variant: `$body` in a loop that the compiler cannot shorten, in a closure of its own.
macro_rules! variant {
    ($name:expr, $body:expr) => {
        (
            $name,
            Box::new(move |calls: u32| {
                for _ in 0..calls {
                    black_box($body);
                }
            }) as Box<dyn FnMut(u32)>,
        )
    };
}

const SYSTEM_TIME: &str = "SystemTime::now";
const NOW: &str = "ChronoTick now(): utc, earliest, latest";
const ALONE: &str = "ChronoTick page and arithmetic alone";
const ALONE_SLEWED: &str = "ChronoTick page and arithmetic alone, after a slew";
const ALONE_SLEWING: &str = "ChronoTick page and arithmetic alone, amid a slew";
const OVER_RAW: &str = "ChronoTick now() over CLOCK_MONOTONIC_RAW";
const CLOCK_BOUND_3: &str = "ClockBound 3 rc now, over the TSC";

impl World {
    fn new(folder: &Path) -> Self {
        let detected = CounterKind::detect();
        let open = |name: &str, kind| {
            let clock: Arc<dyn LocalClock> = Arc::new(SystemCounter::calibrate_kind(kind));
            let config = served::Config::default();
            let mut publisher = Publisher::open(&folder.join(name), &PageSettings::default(), config, clock)
                .expect("the temporary folder can be written");
            publisher.publish(|at| Some(target(at, 1_000))).expect("the page was just made");
            publisher
        };
        let publisher = open("clock", detected);
        let raw_publisher = open("clock-raw", CounterKind::MonotonicRaw);
        let mut slewing_publisher = open("clock-slewing", detected);
        // 20 us to go: a slew of 200 ppm, which stays in the record.
        slewing_publisher.publish(|at| Some(target(at, 21_000))).expect("the page was just made");
        let amid_slew = detected.read();
        // It is through after 100 ms.
        std::thread::sleep(Duration::from_millis(200));
        let slew = [amid_slew, detected.read()];
        let attach = |name: &str| Reader::attach(folder.join(name)).expect("the page was just made");
        let two = folder.join("clock-bound-2");
        fs::write(&two, clock_bound_2_segment()).expect("the temporary folder can be written");
        let three = folder.join("clock-bound-3");
        fs::write(&three, clock_bound_3_segment(detected)).expect("the temporary folder can be written");
        let clock_bound_3 = clock_bound::Client::new_with_path(three.to_str().expect("a plain path"));
        if let Err(error) = &clock_bound_3 {
            println!("{CLOCK_BOUND_3}: skipped, {error:?}");
        }
        Self {
            detected,
            reader: attach("clock"),
            raw_reader: attach("clock-raw"),
            slewing_reader: attach("clock-slewing"),
            slew,
            publisher,
            _others: [raw_publisher, slewing_publisher],
            clock_bound_2: clock_bound_client::ClockBoundClient::new_with_path(two.to_str().expect("a plain path"))
                .expect("the segment is valid"),
            clock_bound_3: clock_bound_3.ok(),
        }
    }

    fn variants(&mut self) -> Vec<Variant<'_>> {
        let Self { detected, reader, raw_reader, slewing_reader, clock_bound_2, clock_bound_3, .. } = self;
        let [amid_slew, after_slew] = self.slew;
        let (detected, reader, raw_reader, slewing_reader) = (*detected, &*reader, &*raw_reader, &*slewing_reader);
        let fixed = detected.read();
        let quanta = quanta::Clock::new();
        let mut variants = vec![
            variant!("counter, bare", bare_counter()),
            variant!("counter, fenced", detected.read()),
            variant!(SYSTEM_TIME, SystemTime::now()),
            variant!("quanta Clock::now (no wall clock, no bound)", quanta.now()),
            variant!("jiff Timestamp::now", jiff::Timestamp::now()),
            variant!("ClockBound 2 now", clock_bound_2.now().expect("the segment is valid")),
        ];
        if let Some(client) = clock_bound_3 {
            assert!(client.now().is_ok_and(|now| now.earliest < now.latest), "the segment is valid");
            variants.push(variant!(CLOCK_BOUND_3, client.now().expect("the segment is valid")));
        }
        variants.extend([
            ("empty loop", Box::new(move |calls| empty_loop(fixed, calls)) as Box<dyn FnMut(u32)>),
            ("a latch and eight words, copied", Box::new(move |calls| copy_alone(&LATCHED, calls))),
            (ALONE, Box::new(move |calls| arithmetic_alone(reader, fixed, calls)) as Box<dyn FnMut(u32)>),
            (ALONE_SLEWED, Box::new(move |calls| arithmetic_alone(slewing_reader, after_slew, calls))),
            (ALONE_SLEWING, Box::new(move |calls| arithmetic_alone(slewing_reader, amid_slew, calls))),
            variant!("ChronoTick now(): utc", reader.now().utc()),
            variant!(NOW, {
                let now = reader.now();
                (now.utc(), now.earliest(), now.latest())
            }),
            variant!("ChronoTick now(): everything", reader.now()),
            variant!("ChronoTick now(): utc, earliest, latest, after a slew", {
                let now = slewing_reader.now();
                (now.utc(), now.earliest(), now.latest())
            }),
            variant!(OVER_RAW, {
                let now = raw_reader.now();
                (now.utc(), now.earliest(), now.latest())
            }),
        ]);
        variants
    }

    fn table(&mut self, rounds: usize) {
        let mut variants = self.variants();
        let mut times: Vec<Vec<f64>> = vec![Vec::with_capacity(rounds); variants.len()];
        for _ in 0..rounds {
            for ((_, run), times) in variants.iter_mut().zip(&mut times) {
                times.push(timed(run));
            }
        }
        let names: Vec<&str> = variants.iter().map(|(name, _)| *name).collect();
        let of = |name: &str| names.iter().position(|&n| n == name).map(|i| &times[i]);
        let system = of(SYSTEM_TIME).expect("it is in the list");
        println!("\n| one reading | median ns | of {SYSTEM_TIME} |\n|---|---|---|");
        for (name, times) in names.iter().zip(&times) {
            println!("| {name} | {:.1} | {:.2} |", median(times.clone()), ratio(times, system));
        }
        println!("\n| target | at most | measured |\n|---|---|---|");
        let now = of(NOW).expect("it is in the list");
        target_line("now() with bounds / SystemTime::now", 0.90, Some(ratio(now, system)));
        target_line(
            "now() with bounds / ClockBound's over the TSC",
            0.40,
            of(CLOCK_BOUND_3).map(|three| ratio(now, three)),
        );
        target_line("now() with bounds / ClockBound 2's", 0.40, of("ClockBound 2 now").map(|two| ratio(now, two)));
        let raw = of(OVER_RAW).map(|raw| ratio(raw, system));
        target_line("over CLOCK_MONOTONIC_RAW / SystemTime::now", 1.25, raw);
        target_line("page and arithmetic alone, ns", 3.0, of(ALONE).map(|alone| median(alone.clone())));
        for (what, name) in [("the same after a slew, ns", ALONE_SLEWED), ("the same amid a slew, ns", ALONE_SLEWING)] {
            target_line(what, 3.0, of(name).map(|alone| median(alone.clone())));
        }
    }

    /// Two threads reading at once, each against one thread reading alone, in turn.
    fn threads(&mut self, rounds: usize) {
        let reader = &self.reader;
        let (mut one, mut two) = (Vec::new(), Vec::new());
        let (running, stop) = (AtomicBool::new(false), AtomicBool::new(false));
        let other = AtomicU64::new(0);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    if running.load(Ordering::Acquire) {
                        read_with_bounds(reader, 100);
                        other.fetch_add(100, Ordering::Relaxed);
                    } else {
                        std::hint::spin_loop();
                    }
                }
            });
            for _ in 0..rounds {
                running.store(false, Ordering::Release);
                one.push(timed(&mut |calls| read_with_bounds(reader, calls)));
                running.store(true, Ordering::Release);
                let before = other.load(Ordering::Relaxed);
                while other.load(Ordering::Relaxed) == before {
                    std::hint::spin_loop();
                }
                two.push(timed(&mut |calls| read_with_bounds(reader, calls)));
            }
            stop.store(true, Ordering::Relaxed);
        });
        println!(
            "\n1 reading thread {:.1} ns, 2 reading threads {:.1} ns a call",
            median(one.clone()),
            median(two.clone())
        );
        target_line("2 threads / 1 thread", 1.05, Some(ratio(&two, &one)));
    }

    /// A writer that publishes a thousand times a second, against one that rests, in turn.
    fn writer(&mut self, rounds: usize) {
        let (reader, publisher) = (&self.reader, &mut self.publisher);
        let (mut resting, mut writing) = (Vec::new(), Vec::new());
        let (running, stop) = (AtomicBool::new(false), AtomicBool::new(false));
        let published = AtomicU64::new(0);
        let turns = rounds.div_ceil(10);
        let total = std::thread::scope(|scope| {
            let writer = scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    std::thread::sleep(Duration::from_millis(1));
                    if running.load(Ordering::Acquire) {
                        publisher.publish(|at| Some(target(at, 1_000))).expect("the page is there");
                        published.fetch_add(1, Ordering::Relaxed);
                    }
                }
                published.load(Ordering::Relaxed)
            });
            for _ in 0..turns {
                for (run, times) in [(false, &mut resting), (true, &mut writing)] {
                    running.store(run, Ordering::Release);
                    let until = Instant::now() + Duration::from_millis(10);
                    while Instant::now() < until {
                        times.push(timed(&mut |calls| read_with_bounds(reader, calls / 10)) * 10.0);
                    }
                }
            }
            stop.store(true, Ordering::Relaxed);
            writer.join().expect("the writer does not panic")
        });
        let (resting, writing) = (median(resting), median(writing));
        let span = turns * 10;
        println!("\nno writer {resting:.1} ns, writer at 1 kHz {writing:.1} ns ({total} records in {span} ms)");
        target_line("writer at 1 kHz / none", 1.05, Some(writing / resting));
    }

    /// One call after 64 MiB of other memory went through the caches.
    fn cold(&mut self, rounds: usize) {
        let mut other = vec![1_u8; 64 << 20];
        let (mut system, mut ours, mut empty) = (Vec::new(), Vec::new(), Vec::new());
        let counter = self.detected;
        let scale = SystemCounter::calibrate().scale();
        let nanos = |from: u64, to: u64| scale.local(to).since(scale.local(from)).as_nanos() as f64;
        let rounds = rounds.min(301);
        for _ in 0..rounds {
            for which in 0..3 {
                for line in other.chunks_mut(64) {
                    line[0] = line[0].wrapping_add(1);
                }
                black_box(&other);
                let before = counter.read();
                match which {
                    0 => _ = black_box(SystemTime::now()),
                    1 => _ = black_box(self.reader.now()),
                    _ => (),
                }
                let took = nanos(before, counter.read());
                [&mut system, &mut ours, &mut empty][which].push(took);
            }
        }
        let empty = median(empty);
        println!(
            "\ncaches cold (64 MiB written before every call): SystemTime::now {:.0} ns, ChronoTick now() {:.0} ns",
            median(system) - empty,
            median(ours) - empty
        );
    }
}

#[inline(never)]
fn read_with_bounds(reader: &Reader, calls: u32) {
    for _ in 0..calls {
        let now = reader.now();
        black_box((now.utc(), now.earliest(), now.latest()));
    }
}

/// What no page can be read without: a sequence, looked at twice, and the words of a record between.
#[repr(C, align(64))]
struct Latched {
    words: [AtomicU64; 8],
    sequence: AtomicU64,
}

static LATCHED: Latched = Latched { words: [const { AtomicU64::new(1) }; 8], sequence: AtomicU64::new(0) };

#[inline(never)]
fn copy_alone(page: &Latched, calls: u32) {
    for _ in 0..calls {
        let page = black_box(page);
        black_box(loop {
            let seen = page.sequence.load(Ordering::Acquire);
            let words = page.words.each_ref().map(|word| word.load(Ordering::Relaxed));
            fence(Ordering::Acquire);
            if page.sequence.load(Ordering::Relaxed) == seen {
                break words;
            }
        });
    }
}

/// The loop and the three results that the arithmetic is measured with.
#[inline(never)]
fn empty_loop(counter: u64, calls: u32) {
    for _ in 0..calls {
        let counter = black_box(counter);
        black_box((counter, counter, counter));
    }
}

#[inline(never)]
fn arithmetic_alone(reader: &Reader, counter: u64, calls: u32) {
    for _ in 0..calls {
        let at = reader.at_counter(black_box(counter));
        black_box((at.utc(), at.earliest(), at.latest()));
    }
}

/// Nanoseconds of one call, over [`CALLS`] of them.
fn timed(run: &mut dyn FnMut(u32)) -> f64 {
    let start = Instant::now();
    run(CALLS);
    start.elapsed().as_nanos() as f64 / f64::from(CALLS)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// The median over the rounds of what a round's times make.
fn ratio(times: &[f64], base: &[f64]) -> f64 {
    median(times.iter().zip(base).map(|(time, base)| time / base).collect())
}

fn target_line(what: &str, at_most: f64, measured: Option<f64>) {
    match measured {
        Some(measured) => {
            let verdict = if measured <= at_most { "" } else { " (missed)" };
            println!("| {what} | {at_most:.2} | {measured:.2}{verdict} |");
        }
        None => println!("| {what} | {at_most:.2} | not measured |"),
    }
}

fn target(at: Timestamp<Local>, offset_ns: i64) -> Target {
    Target {
        at,
        offset: Offset::from_nanos(offset_ns),
        rate: Rate::from_ppm(3.0),
        interval: PredictionInterval::new(Span::from_micros(20)),
        interval_growth: Rate::from_ppb(20.0),
        bound: ErrorBound::new(Span::from_micros(500)),
        bound_growth: Rate::from_ppm(5.0),
        void_after: Span::from_secs(3600),
        tier: Tier::Filter,
        reason: Reason::WarmingUp,
    }
}

#[cfg(target_arch = "x86_64")]
fn bare_counter() -> u64 {
    // SAFETY: every x86-64 processor has the instruction.
    unsafe { core::arch::x86_64::_rdtsc() }
}

#[cfg(not(target_arch = "x86_64"))]
fn bare_counter() -> u64 {
    CounterKind::detect().read()
}

fn machine() -> String {
    let file = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let cpu = file("/proc/cpuinfo");
    let field =
        |name: &str| cpu.lines().find_map(|line| line.strip_prefix(name)?.split_once(": ")).map_or("?", |f| f.1);
    let count = std::thread::available_parallelism().map_or(0, usize::from);
    format!(
        "{} (family {}, model {}), {count} CPUs{}, Linux {}, clocksource {}",
        field("model name"),
        field("cpu family"),
        field("model\t"),
        if cpu.contains(" hypervisor ") { ", virtual machine" } else { "" },
        file("/proc/sys/kernel/osrelease").trim(),
        file("/sys/devices/system/clocksource/clocksource0/current_clocksource").trim(),
    )
}

/// A segment as ClockBound 2's daemon writes it: synchronised, 500 us, 15 ppm, void in a day, no disruption marker.
fn clock_bound_2_segment() -> Vec<u8> {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::MonotonicCoarse);
    let mut body = Vec::new();
    for word in [now.tv_sec, now.tv_nsec, now.tv_sec + 86_400, now.tv_nsec, 500_000, 0] {
        body.extend(word.to_ne_bytes());
    }
    body.extend(15_000_u32.to_ne_bytes());
    body.extend(1_i32.to_ne_bytes());
    body.extend([0; 8]);
    segment(2, body)
}

/// The same in the layout of version 3, which counts with the TSC.
fn clock_bound_3_segment(counter: CounterKind) -> Vec<u8> {
    let clock = SystemCounter::calibrate_kind(counter);
    let (ticks, utc) = clock.realtime();
    let seconds = utc.as_nanos().div_euclid(1_000_000_000);
    let nanos = utc.as_nanos().rem_euclid(1_000_000_000);
    let mut body = ticks.to_ne_bytes().to_vec();
    for word in [seconds, nanos, seconds + 86_400, nanos] {
        body.extend(word.to_ne_bytes());
    }
    // period = fraction / 2^(64 + shift): a shift of 31 keeps the digits of a period below a nanosecond.
    let fraction = |value: f64, shift: i32| {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "positive and below 2^64")]
        let fraction = (value * 2_f64.powi(64 + shift)) as u64;
        fraction
    };
    body.extend(fraction(1.0 / clock.scale().hz(), 30).to_ne_bytes());
    body.extend(fraction(1e-7, 20).to_ne_bytes());
    for word in [500_000_i64, 0] {
        body.extend(word.to_ne_bytes());
    }
    body.extend(15_000_u32.to_ne_bytes());
    body.extend(1_i32.to_ne_bytes());
    body.extend([0, 30, 20, 0, 0, 0, 0, 0]);
    segment(0x0303, body)
}

fn segment(version: u16, body: Vec<u8>) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.extend(0x414D_5A4E_u32.to_ne_bytes());
    bytes.extend(0x4342_0200_u32.to_ne_bytes());
    let length = u32::try_from(16 + body.len()).unwrap_or(0);
    bytes.extend(length.to_ne_bytes());
    bytes.extend(version.to_ne_bytes());
    bytes.extend(2_u16.to_ne_bytes());
    bytes.extend(body);
    bytes
}
