//! The clock page between processes: torn readings, time going back, a writer stopped half way, daemons killed and restarted,
//! readers in containers, damaged files.
//!
//! Counts are small by default. `CHRONOTICK_STRESS=full` takes the full ones (10^8 readings; about two minutes):
//!
//! ```text
//! CHRONOTICK_STRESS=full cargo test --release -p chronotick-tests --test page -- --nocapture --test-threads 1
//! ```

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use chronotick_core::clock_page::CounterScale;
use chronotick_core::served::{self, ClockRecord, Target};
use chronotick_core::{ErrorBound, Local, Offset, PredictionInterval, Rate, Reason, Span, Tier, Timestamp, Utc};
use chronotick_host::Reader;
use chronotick_host::os::counter::{CounterKind, LocalClock, SystemCounter, os_utc};
use chronotick_host::os::disruption::Disruption;
use chronotick_host::publisher::Publisher;
use chronotick_host::shm::page::PageSettings;
use chronotick_host::shm::writer::{PageWriter, inherited_counter};
use chronotick_tests::loopback::Folder;

/// Which part of a test this process plays, and on which page.
const ROLE: &str = "CHRONOTICK_PAGE_TEST_ROLE";
const PAGE: &str = "CHRONOTICK_PAGE_TEST_PAGE";

/// More than a reader lets pass between two looks at what the arithmetic cannot see.
const CHECK: Span = Span::from_millis(20);

fn count(quick: u64, full: u64) -> u64 {
    if std::env::var("CHRONOTICK_STRESS").is_ok_and(|value| value == "full") { full } else { quick }
}

/// Tells the other thread of a test to end, also when this one fails.
struct EndsWith<'a>(&'a AtomicBool);

impl Drop for EndsWith<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn page_in(folder: &Folder) -> PathBuf {
    folder.path().join("clock")
}

/// Another process, playing `role`; killed when dropped.
struct Other(Child);

impl Other {
    fn new(role: &str, page: &Path) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "other_process", "--nocapture"]).env(ROLE, role).env(PAGE, page);
        Self(command.stdout(Stdio::piped()).spawn().unwrap())
    }
    /// Waits for its end and gives what it printed for us.
    fn output(mut self) -> String {
        let mut text = String::new();
        std::io::Read::read_to_string(self.0.stdout.as_mut().unwrap(), &mut text).unwrap();
        assert!(self.0.wait().unwrap().success(), "{text}");
        text.lines().filter_map(|line| line.strip_prefix("said: ")).collect()
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Not a test of its own: what the processes that the tests start run.
#[test]
fn other_process() {
    let (Ok(role), Ok(page)) = (std::env::var(ROLE), std::env::var(PAGE)) else { return };
    let page = PathBuf::from(page);
    match role.as_str() {
        "daemon" => daemon(&page),
        "half-way" => stop_half_way(&page),
        "bounded-reader" => read_bounded(&page),
        "monotone-reader" => read_monotone(&page, &page.with_file_name("last")),
        "visitor" => visit(&page),
        role => panic!("no such role: {role}"),
    }
}

fn target(at: Timestamp<Local>, offset: Offset) -> Target {
    Target {
        at,
        offset,
        rate: Rate::ZERO,
        interval: PredictionInterval::new(Span::from_micros(100)),
        interval_growth: Rate::from_ppm(50.0),
        bound: ErrorBound::new(Span::from_millis(1)),
        bound_growth: Rate::from_ppm(500.0),
        void_after: Span::from_secs(3600),
        tier: Tier::Filter,
        reason: Reason::WarmingUp,
    }
}

fn open(page: &Path) -> (Publisher, Arc<dyn LocalClock>) {
    let counter = inherited_counter(page).unwrap_or_else(SystemCounter::calibrate);
    let clock: Arc<dyn LocalClock> = Arc::new(counter);
    let publisher = Publisher::open(page, &PageSettings::default(), served::Config::default(), Arc::clone(&clock));
    (publisher.unwrap(), clock)
}

/// Follows the operating system's clock, which is the truth here.
fn daemon(page: &Path) {
    let (mut publisher, clock) = open(page);
    let end = Instant::now() + Duration::from_secs(60);
    while Instant::now() < end {
        let (ticks, utc) = clock.realtime();
        let offset = utc.offset_from(clock.scale().local(ticks));
        publisher.publish(|at| Some(target(at, offset))).unwrap();
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn no_torn_reading_against_a_writer_that_never_rests() {
    let scratch = Folder::new("torn");
    let clock = SystemCounter::calibrate();
    let mut writer = PageWriter::create(&page_in(&scratch), &PageSettings::default(), &clock).unwrap();
    // Every word of record k follows from k.
    let record = |k: u16, at: Timestamp<Local>| ClockRecord {
        at,
        utc: at.to_utc(Offset::from_nanos(i64::from(k) * 1_000_000)),
        rate: Rate::ZERO,
        slew: Rate::ZERO,
        slew_span: Span::ZERO,
        interval: PredictionInterval::new(Span::from_nanos(i64::from(k) * 2_000_000)),
        interval_growth: Rate::ZERO,
        bound: ErrorBound::new(Span::from_nanos(i64::from(k) * 3_000_000)),
        bound_growth: Rate::ZERO,
        void_after: Span::from_secs(3600),
        tier: Tier::ALL[usize::from(k % 4)],
        reason: Reason::Nominal,
        epoch: k,
    };
    writer.publish(&record(1, clock.now()));
    let reader = Reader::attach(page_in(&scratch)).unwrap();
    let readings = count(2_000_000, 100_000_000);
    // However the machine shares its processors out, the test goes on until the writer has made this many. With a processor to itself
    // it makes some 50 times as many.
    let records = readings / 100;
    let (stop, published, start) = (AtomicBool::new(false), AtomicU64::new(0), Instant::now());
    let (reading, met) = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                for k in 1..2_000 {
                    writer.publish(&record(k, clock.now()));
                    published.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
        let _end = EndsWith(&stop);
        let (mut reading, mut met, mut last) = (0_u64, 0_u64, 0);
        while reading < readings || published.load(Ordering::Relaxed) < records || met < 100 {
            let now = reader.now();
            let k = i64::from(now.epoch());
            let whole = (now.offset().as_nanos() - k * 1_000_000).abs() <= 4
                && (now.interval95().half_width().as_nanos() - k * 2_000_000 - 4).abs() <= 2
                && (now.bound().half_width().as_nanos() - k * 3_000_000 - 4).abs() <= 2
                && now.tier() == Tier::ALL[usize::try_from(k % 4).unwrap()];
            assert!(whole, "reading {reading} is torn: {now:?}");
            met += u64::from(k != last);
            (last, reading) = (k, reading + 1);
        }
        (reading, met)
    });
    let (published, seconds) = (published.into_inner(), start.elapsed().as_secs_f64());
    println!(
        "{reading} readings, none torn, in {seconds:.1} s; {published} records meanwhile ({:.1} million a second), {met} of the \
         readings met another one than the reading before",
        published as f64 / seconds / 1e6
    );
}

/// A word shared with the other reading process: the latest time that either has seen.
fn shared_word(file: &Path) -> &'static AtomicI64 {
    let file = fs::OpenOptions::new().create(true).truncate(false).read(true).write(true).open(file).unwrap();
    file.set_len(4096).unwrap();
    let (protection, flags) =
        (rustix::mm::ProtFlags::READ | rustix::mm::ProtFlags::WRITE, rustix::mm::MapFlags::SHARED);
    // SAFETY: a new mapping, as long as the file, never unmapped; all bit patterns are valid.
    unsafe { &*rustix::mm::mmap(std::ptr::null_mut(), 4096, protection, flags, &file, 0).unwrap().cast::<AtomicI64>() }
}

fn read_monotone(page: &Path, shared: &Path) {
    let (reader, last) = (Reader::attach(page).unwrap(), shared_word(shared));
    let readings = count(500_000, 50_000_000);
    let mut back = 0;
    for _ in 0..readings {
        // What either process has seen before this reading began must not be later than it.
        let seen = last.load(Ordering::SeqCst);
        let now = reader.now().utc().as_nanos();
        back += u64::from(now < seen);
        if now > seen {
            last.fetch_max(now, Ordering::SeqCst);
        }
    }
    println!("said: {back}");
}

#[test]
fn two_processes_never_see_time_go_back() {
    let scratch = Folder::new("monotone");
    let (mut publisher, _) = open(&page_in(&scratch));
    publisher.publish(|at| Some(target(at, Offset::ZERO))).unwrap();
    let epoch = publisher.record().unwrap().epoch;
    let readers = [(); 2].map(|()| Other::new("monotone-reader", &page_in(&scratch)));
    let done = AtomicBool::new(false);
    let (published, span, longest) = std::thread::scope(|scope| {
        let writing = scope.spawn(|| {
            let (mut published, mut seed, mut offset) = (0_u64, 0x2545_F491_4F6C_DD1D_u64, 0_i64);
            let (start, mut last, mut longest) = (Instant::now(), Instant::now(), Duration::ZERO);
            while !done.load(Ordering::Relaxed) {
                // A walk of up to 20 us a millisecond, both ways: the slew is at its limit most of the time.
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                offset += i64::try_from(seed >> 33).unwrap() % 40_001 - 20_000;
                publisher.publish(|at| Some(target(at, Offset::from_nanos(offset)))).unwrap();
                published += 1;
                // One a millisecond, what a busy machine delays made good for.
                let due = start + Duration::from_millis(published);
                std::thread::sleep(due.saturating_duration_since(Instant::now()));
                longest = longest.max(last.elapsed());
                last = Instant::now();
            }
            (published, start.elapsed(), longest)
        });
        let end = EndsWith(&done);
        let back: Vec<_> = readers.into_iter().map(Other::output).collect();
        assert_eq!(back, ["0", "0"], "readings that were earlier than one before");
        drop(end);
        writing.join().unwrap()
    });
    assert_eq!(publisher.record().unwrap().epoch, epoch, "the walk stayed below the step threshold");
    println!(
        "{} readings in two processes, never back, in {:.1} s; {published} records meanwhile ({:.0} a second, the longest pause \
         {:.1} ms, {} late ones computed anew)",
        2 * count(500_000, 50_000_000),
        span.as_secs_f64(),
        published as f64 / span.as_secs_f64(),
        longest.as_secs_f64() * 1e3,
        publisher.late()
    );
    assert!(u128::from(published) * 2 >= span.as_millis(), "the writer stood still: {published} records in {span:?}");
}

fn stop_half_way(page: &Path) {
    let clock = SystemCounter::calibrate();
    let mut writer = PageWriter::create(page, &PageSettings::default(), &clock).unwrap();
    let mut served = served::Served::new(served::Config::default());
    writer.publish(&served.update(&target(clock.now(), Offset::ZERO)));
    let filled = writer.fill(&served.update(&target(clock.now(), Offset::from_nanos(1_000))));
    fs::write(page.with_file_name("stopping"), "").unwrap();
    // Between the two halves of an update.
    rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::STOP).unwrap();
    writer.flip(filled);
}

#[test]
fn a_writer_stopped_half_way_delays_nobody() {
    let scratch = Folder::new("stopped");
    let writer = Other::new("half-way", &page_in(&scratch));
    wait_until(|| scratch.path().join("stopping").exists());
    let pid = rustix::process::Pid::from_raw(i32::try_from(writer.0.id()).unwrap()).unwrap();
    wait_until(|| fs::read_to_string(format!("/proc/{}/stat", writer.0.id())).is_ok_and(|stat| stat.contains(") T ")));
    let reader = Reader::attach(page_in(&scratch)).unwrap();
    let span = Duration::from_millis(count(300, 1_000));
    let stopped = slow_readings(&reader, span);
    assert_eq!(reader.now().tier(), Tier::Filter);
    rustix::process::kill_process(pid, rustix::process::Signal::CONT).unwrap();
    writer.output();
    let running = slow_readings(&reader, span);
    // The machine interrupts readers now and then whatever the writer does; a reader that waits for the writer would be slow
    // every time.
    println!(
        "slower than 10 us: {} of {} readings beside the stopped writer, {} of {} after",
        stopped.0, stopped.1, running.0, running.1
    );
    // A sanitizer makes every read some fifty times slower.
    let share = if std::env::var_os("CHRONOTICK_SANITIZED").is_some() { 20 } else { 2_000 };
    assert!(stopped.0 * share < stopped.1, "{stopped:?}");
    assert!(stopped.0 <= 4 * running.0 + 200, "{stopped:?} {running:?}");
}

/// How many readings took longer than 10 us, of how many, within `span`.
fn slow_readings(reader: &Reader, span: Duration) -> (u64, u64) {
    let (mut slow, mut all, end) = (0, 0, Instant::now() + span);
    loop {
        let start = Instant::now();
        if start >= end {
            return (slow, all);
        }
        std::hint::black_box(reader.now());
        slow += u64::from(start.elapsed() > Duration::from_micros(10));
        all += 1;
    }
}

fn read_bounded(page: &Path) {
    let reader = Reader::attach(page).unwrap();
    let (mut readings, mut outside, mut raw, stop) = (0_u64, 0_u64, 0_u64, page.with_file_name("stop"));
    while !stop.exists() {
        for _ in 0..10_000 {
            let before = os_utc();
            let now = reader.now();
            let after = os_utc();
            outside += u64::from(now.earliest() > after || now.latest() < before);
            raw += u64::from(now.tier() == Tier::Raw);
            readings += 1;
        }
    }
    println!("said: {readings} {outside} {raw}");
}

#[test]
fn daemons_killed_and_restarted_under_four_readers() {
    let scratch = Folder::new("restarts");
    let page = page_in(&scratch);
    let first = Other::new("daemon", &page);
    wait_until(|| Reader::attach(&page).is_ok_and(|reader| reader.now().tier() == Tier::Filter));
    let readers = [(); 4].map(|()| Other::new("bounded-reader", &page));
    let probe = Reader::attach(&page).unwrap();
    let (restarts, mut daemon) = (count(5, 20), first);
    for _ in 0..restarts {
        let instance = probe.instance();
        // SIGKILL, wherever it stands.
        drop(daemon);
        daemon = Other::new("daemon", &page);
        wait_until(|| probe.instance() != instance && probe.heartbeat_age() < Duration::from_millis(500));
        std::thread::sleep(Duration::from_millis(20));
    }
    fs::write(scratch.path().join("stop"), "").unwrap();
    let mut total = 0;
    for reader in readers {
        let said = reader.output();
        let numbers: Vec<u64> = said.split(' ').map(|number| number.parse().unwrap()).collect();
        assert_eq!(numbers[1..], [0, 0], "outside the bound, raw, of {}", numbers[0]);
        assert!(numbers[0] > 0, "a reader has read nothing");
        total += numbers[0];
    }
    println!(
        "{restarts} daemons killed and restarted under 4 readers: {total} readings, none outside its bound, none raw"
    );
}

#[test]
fn damage_under_an_attached_reader_costs_it_only_age() {
    for (name, damage) in [
        ("zeroed", (|page| fs::write(page, vec![0; 4096]).unwrap()) as fn(&Path)),
        ("garbage", |page| fs::write(page, vec![0xA5; 4096]).unwrap()),
        ("cut", |page| fs::OpenOptions::new().write(true).open(page).unwrap().set_len(0).unwrap()),
        ("removed", |page| fs::remove_file(page).unwrap()),
    ] {
        let scratch = Folder::new(name);
        let (mut publisher, _) = open(&page_in(&scratch));
        publisher.publish(|at| Some(target(at, Offset::ZERO))).unwrap();
        let reader = Reader::attach(page_in(&scratch)).unwrap();
        let before = reader.now();
        // In place, as `fs::write` would not do for a truncated file: `File::create` truncates first, which is the test.
        damage(&page_in(&scratch));
        let end = Instant::now() + Duration::from_millis(60);
        while Instant::now() < end {
            let now = reader.now();
            let jump = now.utc().since(before.utc());
            assert!(jump >= Span::ZERO && jump < Span::from_secs(5), "{name}: {now:?}");
            assert_eq!(now.tier(), Tier::Filter, "{name}: {now:?}");
            let (local, counter) = (reader.local(), reader.counter().unwrap().read());
            for apart in [reader.project(local), reader.at_counter(counter)] {
                let late = apart.utc().since(now.utc());
                assert!(late >= Span::ZERO && late < Span::from_secs(5), "{name}: {late:?} after {now:?}");
                assert_eq!(apart.tier(), Tier::Filter, "{name}: {apart:?}");
            }
        }
        // The daemon's next publication mends the file, and the reader finds it.
        wait_until(|| {
            publisher.publish(|at| Some(target(at, Offset::ZERO))).unwrap();
            reader.now().age() < Duration::from_millis(500)
        });
        assert_eq!(Reader::attach(page_in(&scratch)).unwrap().now().tier(), Tier::Filter, "{name}");
    }
}

/// The kernel may stop trusting a counter while readers are attached: the daemon starts over with another one.
#[test]
fn the_counter_changes_under_a_reader() {
    let scratch = Folder::new("counters");
    let follow = |kind| {
        let clock: Arc<dyn LocalClock> = Arc::new(SystemCounter::calibrate_kind(kind));
        let mut publisher = Publisher::open(
            &page_in(&scratch),
            &PageSettings::default(),
            served::Config::default(),
            Arc::clone(&clock),
        );
        let (ticks, utc) = clock.realtime();
        let offset = utc.offset_from(clock.scale().local(ticks));
        publisher.as_mut().unwrap().publish(|at| Some(target(at, offset))).unwrap();
        publisher.unwrap()
    };
    let best = CounterKind::detect();
    let mut daemon = follow(best);
    let reader = Reader::attach(page_in(&scratch)).unwrap();
    for kind in [best, CounterKind::MonotonicRaw, best] {
        drop(daemon);
        // Nobody publishes: the old counter goes on being read.
        let (old, counter) = (reader.now(), reader.counter());
        assert_eq!(old.tier(), Tier::Filter);
        daemon = follow(kind);
        assert_eq!(reader.now().epoch() == old.epoch(), counter == Some(kind), "another line is another epoch");
        for _ in 0..1_000 {
            let before = os_utc();
            let now = reader.now();
            let after = os_utc();
            assert_eq!(now.tier(), Tier::Filter, "{kind:?}: {now:?}");
            assert!(now.earliest() <= after && now.latest() >= before, "{kind:?}: {now:?}");
        }
        assert_eq!(reader.counter(), Some(kind));
    }
}

/// A clock whose machine a test suspends.
struct Simulated(Mutex<(u64, Span)>);

impl Simulated {
    const START: i64 = 1_800_000_000_000_000_000;

    fn pass(&self, counted: Span, suspended: Span) {
        let mut state = self.0.lock().unwrap();
        state.0 += counted.as_nanos().unsigned_abs();
        state.1 = state.1.saturating_add(suspended);
    }
}

impl LocalClock for Simulated {
    fn ticks(&self) -> u64 {
        self.0.lock().unwrap().0
    }
    fn scale(&self) -> CounterScale {
        CounterScale::NANOS
    }
    fn kind(&self) -> CounterKind {
        CounterKind::Virtual
    }
    fn realtime(&self) -> (u64, Timestamp<Utc>) {
        let (ticks, suspended) = *self.0.lock().unwrap();
        (ticks, Timestamp::from_nanos(Self::START + ticks.cast_signed()).saturating_add(suspended))
    }
    fn suspended(&self) -> Span {
        self.0.lock().unwrap().1
    }
}

#[test]
fn a_machine_that_was_suspended_has_a_void_page_until_the_daemon_publishes() {
    let scratch = Folder::new("suspended");
    let clock = Arc::new(Simulated(Mutex::new((1_000_000_000, Span::ZERO))));
    let settings = PageSettings::default();
    let mut publisher = Publisher::open(
        &page_in(&scratch),
        &settings,
        served::Config::default(),
        Arc::clone(&clock) as Arc<dyn LocalClock>,
    )
    .unwrap();
    let measured = |at: Timestamp<Local>| target(at, clock.realtime().1.offset_from(clock.now()));
    publisher.publish(|at| Some(measured(at))).unwrap();
    let reader = Reader::attach_with(page_in(&scratch), Arc::clone(&clock) as Arc<dyn LocalClock>).unwrap();
    let before = reader.now();
    assert_eq!(before.tier(), Tier::Filter);

    // The counter stood still meanwhile; the reader finds out first.
    clock.pass(CHECK, Span::from_secs(30));
    let asleep = reader.now();
    assert_eq!((asleep.tier(), asleep.reason()), (Tier::Raw, Reason::Suspended));
    assert!(!asleep.bound().is_bounded() && !asleep.interval95().is_known());
    let second = Span::from_secs(1);
    for apart in
        [reader.project(reader.local().saturating_add(second)), reader.at_counter(clock.ticks() + 1_000_000_000)]
    {
        assert_eq!((apart.tier(), apart.bound().is_bounded()), (Tier::Raw, false), "another instant is as uncertain");
        let ahead = apart.utc().since(os_utc()).saturating_sub(second).abs();
        assert!(ahead < Span::from_secs(20), "{ahead:?} from a second ahead of the operating system's clock");
    }

    assert_eq!(publisher.disruption(), Some(Disruption::Suspended(Span::from_secs(30))));
    let voided = reader.now();
    assert_eq!((voided.tier(), voided.reason()), (Tier::Raw, Reason::Suspended), "voided, not measured again");
    publisher.publish(|at| Some(measured(at))).unwrap();
    let after = reader.now();
    assert_eq!(after.tier(), Tier::Filter);
    assert_ne!(after.epoch(), before.epoch(), "a step that readers can see");
    assert!(after.utc().since(before.utc()) >= Span::from_secs(30));
}

/// The machine's raw clock, which a paused and restored virtual machine's counter has left.
struct Jumping(SystemCounter, AtomicU64);

impl LocalClock for Jumping {
    fn ticks(&self) -> u64 {
        self.0.ticks() + self.1.load(Ordering::Relaxed)
    }
    fn scale(&self) -> CounterScale {
        self.0.scale()
    }
    fn kind(&self) -> CounterKind {
        self.0.kind()
    }
    fn realtime(&self) -> (u64, Timestamp<Utc>) {
        let (ticks, utc) = self.0.realtime();
        (ticks + self.1.load(Ordering::Relaxed), utc)
    }
}

#[test]
fn a_counter_that_jumps_voids_the_page() {
    let scratch = Folder::new("jump");
    let clock = Arc::new(Jumping(SystemCounter::calibrate_kind(CounterKind::MonotonicRaw), AtomicU64::new(0)));
    let mut publisher = Publisher::open(
        &page_in(&scratch),
        &PageSettings::default(),
        served::Config::default(),
        Arc::clone(&clock) as Arc<dyn LocalClock>,
    )
    .unwrap();
    publisher.publish(|at| Some(target(at, Offset::ZERO))).unwrap();
    let reader = Reader::attach(page_in(&scratch)).unwrap();
    assert_eq!((publisher.disruption(), reader.now().tier()), (None, Tier::Filter));
    clock.1.store(2_000_000_000, Ordering::Relaxed);
    let disruption = publisher.disruption();
    let jumped = |by: Span| by > Span::from_secs(1) && by < Span::from_millis(2_001);
    assert!(matches!(disruption, Some(Disruption::CounterJump(by)) if jumped(by)), "{disruption:?}");
    let now = reader.now();
    assert_eq!((now.tier(), now.reason(), now.bound().is_bounded()), (Tier::Raw, Reason::Suspended, false));
}

fn visit(page: &Path) {
    let reader = Reader::attach(page).unwrap();
    let now = reader.now();
    let (before, pid) = (os_utc(), std::process::id());
    assert!(fs::OpenOptions::new().write(true).open(page).is_err(), "a visitor could write");
    assert!(now.tier() == Tier::Filter && now.latest() >= before.saturating_sub(Span::from_secs(1)), "{now:?}");
    println!("said: pid {pid}, uid {}, {now}", rustix::process::getuid().as_raw());
}

/// A mount namespace where the page's folder lies elsewhere, read-only; a PID namespace; another user without privileges.
#[test]
fn a_reader_in_a_container() {
    let scratch = Folder::new("container");
    let (mut publisher, _) = open(&page_in(&scratch));
    publisher.publish(|at| Some(target(at, Offset::ZERO))).unwrap();
    let root = Folder::new("container-root");
    let program = root.path().join("visitor");
    fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    let inside = root.path().join("run");
    fs::create_dir_all(&inside).unwrap();
    let script = r#"mount --bind "$1" "$2" && mount -o remount,ro,bind "$2" || exit 77
        exec setpriv --reuid 65534 --regid 65534 --clear-groups --no-new-privs "$3" --exact other_process --nocapture"#;
    let mut unshare = Command::new("unshare");
    unshare.args(["--mount", "--pid", "--fork", "sh", "-c", script, "sh"]).args([scratch.path(), &inside, &program]);
    unshare.env(ROLE, "visitor").env(PAGE, inside.join("clock"));
    let output = match unshare.output() {
        Ok(output) => output,
        Err(error) => return println!("skipped: unshare cannot be run ({error})"),
    };
    let (said, complaint) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    // 77: the mounts were refused; and unshare says itself that it may not.
    if output.status.code() == Some(77) || !output.status.success() && complaint.starts_with("unshare: ") {
        return println!("skipped: namespaces are not permitted here ({})", complaint.trim());
    }
    assert!(output.status.success(), "{said}{complaint}");
    let line = said.lines().find_map(|line| line.strip_prefix("said: ")).expect("the visitor reports");
    assert!(line.contains("uid 65534"), "{line}");
    println!("in the container: {line}");
}

fn wait_until(mut condition: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(30);
    while !condition() {
        assert!(Instant::now() < end, "waited 30 s in vain");
        std::thread::sleep(Duration::from_millis(2));
    }
}
