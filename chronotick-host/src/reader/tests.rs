//! What a reader makes of breaks, damage and other daemons, with a machine whose counter and suspensions the test decides.

use std::fs;
use std::os::unix::fs::FileExt;
use std::sync::atomic::AtomicI64;

use chronotick_core::clock_page::CounterScale;
use chronotick_core::served::{self, Target};
use chronotick_core::{ErrorBound, Offset, Utc};

use super::*;
use crate::os::counter::SystemCounter;
use crate::os::disruption::Disruption;
use crate::publisher::Publisher;
use crate::shm::page::PageSettings;
use crate::shm::scratch;

/// A machine whose counter stands while it is suspended. Its time namespace adds to what it says about that.
#[derive(Default)]
struct Machine {
    ticks: AtomicU64,
    slept: AtomicI64,
}

const SECOND: i64 = 1_000_000_000;

impl Machine {
    fn new(slept: i64) -> Arc<Self> {
        Arc::new(Self { ticks: AtomicU64::new(1 << 40), slept: AtomicI64::new(slept) })
    }
    fn pass(&self, counted: u64, slept: i64) {
        self.ticks.fetch_add(counted, Ordering::Relaxed);
        self.slept.fetch_add(slept, Ordering::Relaxed);
    }
}

impl LocalClock for Machine {
    fn ticks(&self) -> u64 {
        self.ticks.load(Ordering::Relaxed)
    }
    fn scale(&self) -> CounterScale {
        CounterScale::NANOS
    }
    fn kind(&self) -> CounterKind {
        CounterKind::Virtual
    }
    fn realtime(&self) -> (u64, units::Timestamp<Utc>) {
        (self.ticks(), units::Timestamp::from_nanos(1_800_000_000 * SECOND))
    }
    fn suspended(&self) -> Span {
        Span::from_nanos(self.slept.load(Ordering::Relaxed))
    }
}

fn open(path: &Path, machine: &Arc<Machine>) -> Publisher {
    let clock = Arc::clone(machine) as Arc<dyn LocalClock>;
    Publisher::open(path, &PageSettings::default(), served::Config::default(), clock).unwrap()
}

fn publish(publisher: &mut Publisher, machine: &Machine) {
    let measured = Target {
        tier: Tier::Filter,
        bound: ErrorBound::new(Span::from_millis(1)),
        ..Target::raw(machine.now(), Offset::ZERO)
    };
    publisher.publish(|_| Some(measured)).unwrap();
}

fn attach_to(path: &Path, machine: &Arc<Machine>) -> Reader {
    Reader::attach_with(path, Arc::clone(machine) as Arc<dyn LocalClock>).unwrap()
}

fn remove(path: &Path) {
    fs::remove_dir_all(path.parent().unwrap()).unwrap();
}

#[test]
fn an_instant_before_a_suspension_is_not_drawn_from_the_line_after_it() {
    let path = scratch("before-suspension");
    let machine = Machine::new(0);
    let mut publisher = open(&path, &machine);
    publish(&mut publisher, &machine);
    let reader = attach_to(&path, &machine);
    let (counter, local) = (machine.ticks(), machine.now());
    let both = || [reader.at_counter(counter), reader.project(local)];
    machine.pass(2_000_000, 0);
    publish(&mut publisher, &machine);
    assert_eq!(both().map(|then| then.tier()), [Tier::Filter; 2], "on the line before it");

    machine.pass(2_000_000, 3600 * SECOND);
    assert!(matches!(publisher.disruption(), Some(Disruption::Suspended(_))));
    machine.pass(2_000_000, 0);
    publish(&mut publisher, &machine);
    let told = |then: Timestamp| (then.tier(), then.reason(), then.bound().is_bounded());
    assert_eq!(both().map(told), [(Tier::Raw, Reason::Suspended, false); 2]);
    assert_eq!(reader.at_counter(machine.ticks() - 1_000_000).tier(), Tier::Filter, "since the daemon has noticed");
    assert_eq!(reader.now().tier(), Tier::Filter);

    // A daemon that goes on with the record knows no more than that; nor does the last good record of a page that was wiped.
    drop(publisher);
    let mut publisher = open(&path, &machine);
    assert_eq!(both().map(told), [(Tier::Raw, Reason::Suspended, false); 2], "taken over");
    publish(&mut publisher, &machine);
    assert_eq!(reader.project(machine.now()).tier(), Tier::Filter);
    fs::write(&path, [0; 4096]).unwrap();
    assert_eq!(both().map(told), [(Tier::Raw, Reason::Suspended, false); 2], "wiped");
    assert_eq!(reader.now().tier(), Tier::Filter);

    // One that cannot go on with it, and one that finds no page, and nobody knows when the machine was suspended.
    drop(publisher);
    remove(&path);
    machine.pass(2_000_000, 0);
    publish(&mut open(&path, &machine), &machine);
    assert_eq!(attach_to(&path, &machine).at_counter(counter).tier(), Tier::Raw);
    remove(&path);
}

#[test]
fn a_reading_of_another_counter_is_not_taken_for_one_of_this() {
    let path = scratch("another-counter");
    let machine = Machine::new(0);
    let mut publisher = open(&path, &machine);
    publish(&mut publisher, &machine);
    let reader = attach_to(&path, &machine);
    // As the kernel has the daemon do, and back again: what a reading was of it does not say.
    drop(publisher);
    let raw: Arc<dyn LocalClock> = Arc::new(SystemCounter::calibrate_kind(CounterKind::MonotonicRaw));
    drop(Publisher::open(&path, &PageSettings::default(), served::Config::default(), raw).unwrap().publish(|_| None));
    let before = machine.ticks();
    machine.pass(2_000_000, 0);
    publish(&mut open(&path, &machine), &machine);
    machine.pass(2_000_000, 0);
    let ahead = machine.ticks() + 60_000_000_000;
    for (counter, tier) in [(before, Tier::Raw), (machine.ticks(), Tier::Filter), (ahead, Tier::Raw)] {
        let then = reader.at_counter(counter);
        assert_eq!((then.tier(), then.bound().is_bounded()), (tier, tier != Tier::Raw), "{counter}");
    }
    remove(&path);
}

#[test]
fn what_a_reader_makes_of_the_operating_systems_clock_is_no_epoch_of_the_page() {
    let path = scratch("own-epoch");
    let machine = Machine::new(0);
    let mut publisher = open(&path, &machine);
    publish(&mut publisher, &machine);
    let reader = attach_to(&path, &machine);
    let before = reader.now().epoch();
    machine.pass(20_000_000, SECOND);
    let own = [reader.now(), reader.now()].map(|now| (now.tier(), now.epoch()));
    assert_eq!(own, [(Tier::Raw, before.wrapping_add(0x8000)); 2]);
    publisher.disruption().unwrap();
    publish(&mut publisher, &machine);
    assert_eq!(reader.now().epoch(), before.wrapping_add(2), "voided, and measured again");
    remove(&path);
}

/// Neither does a process that was forked in the middle of a check, whose lock nobody gives back.
#[test]
fn nobody_waits_for_a_check_and_nobody_falls_back_because_of_it() {
    let path = scratch("meanwhile");
    let machine = Machine::new(0);
    let mut publisher = open(&path, &machine);
    publish(&mut publisher, &machine);
    let reader = attach_to(&path, &machine);
    let before = reader.now();
    let all = || {
        let (local, counter) = (reader.local(), reader.counter());
        assert_eq!(counter, Some(CounterKind::Virtual));
        [reader.now(), reader.project(local), reader.at_counter(machine.ticks())]
    };
    machine.pass(20_000_000, 0);
    let checking = reader.checked.lock().unwrap();
    assert_eq!(all().map(|now| (now.tier(), now.epoch())), [(Tier::Filter, before.epoch()); 3]);
    fs::write(&path, [0; 4096]).unwrap();
    let first = all();
    drop(checking);
    assert_eq!((reader.now(), all()), (first[0], first), "the same with the check");
    let checking = reader.checked.lock().unwrap();
    assert_eq!(all(), first);
    assert_eq!((first[0].tier(), first[0].epoch()), (Tier::Filter, before.epoch()));
    drop(checking);

    // Nor is a machine that was suspended forgotten.
    machine.pass(0, SECOND);
    publish(&mut publisher, &machine);
    reader.checked.lock().unwrap().looked = None;
    assert_eq!(reader.now().tier(), Tier::Raw);
    let _checking = reader.checked.lock().unwrap();
    assert_eq!(all().map(|now| (now.tier(), now.reason())), [(Tier::Raw, Reason::Suspended); 3]);
    remove(&path);
}

#[test]
fn a_reader_of_a_page_that_was_never_published_finds_the_one_in_its_place() {
    let path = scratch("never-published");
    let machine = Machine::new(0);
    let unpublished = open(&path, &machine);
    let reader = attach_to(&path, &machine);
    drop(unpublished);
    remove(&path);
    let mut publisher = open(&path, &machine);
    publish(&mut publisher, &machine);
    assert_eq!(reader.now().tier(), Tier::Filter);
    remove(&path);
}

#[test]
fn a_file_of_the_same_number_on_another_device_is_another_file() {
    let path = scratch("device");
    let machine = Machine::new(0);
    let mut publisher = open(&path, &machine);
    publish(&mut publisher, &machine);
    let reader = attach_to(&path, &machine);
    let mut checked = reader.checked.lock().unwrap();
    let file = checked.file;
    assert!(!reader.attach_again(&mut checked));
    checked.file.0 += 1;
    assert!(reader.attach_again(&mut checked) && checked.file == file);
    drop(checked);
    remove(&path);
}

/// Has the page say that another time namespace made it.
fn in_another_time_namespace(path: &Path) {
    let file = fs::OpenOptions::new().write(true).open(path).unwrap();
    let mut identity = fs::read(path).unwrap()[..56].to_vec();
    identity[44..48].copy_from_slice(&7_u32.to_le_bytes());
    file.write_all_at(&identity[44..48], 44).unwrap();
    file.write_all_at(&crc32fast::hash(&identity).to_le_bytes(), 56).unwrap();
}

#[test]
fn the_next_daemon_may_count_suspensions_from_elsewhere() {
    let path = scratch("namespaces");
    let (theirs, ours) = (Machine::new(0), Machine::new(7 * SECOND));
    publish(&mut open(&path, &theirs), &theirs);
    in_another_time_namespace(&path);
    let reader = attach_to(&path, &ours);
    assert_eq!(reader.now().tier(), Tier::Filter, "seven seconds apart from the start");
    publish(&mut open(&path, &ours), &ours);
    assert_eq!(reader.now().tier(), Tier::Filter);
    remove(&path);
}

#[test]
fn a_suspension_that_was_over_when_a_reader_came_does_not_keep_it_out() {
    let path = scratch("came-after");
    let (theirs, ours) = (Machine::new(0), Machine::new(7 * SECOND));
    let mut publisher = open(&path, &theirs);
    publish(&mut publisher, &theirs);
    in_another_time_namespace(&path);
    for machine in [&theirs, &ours] {
        machine.pass(0, SECOND);
    }
    let reader = attach_to(&path, &ours);
    let before = reader.now().epoch();
    publisher.disruption().unwrap();
    // As the daemon's next sign of life would; but that puts another file in the place of one that does not name it.
    let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
    file.write_all_at(&SECOND.to_le_bytes(), 264).unwrap();
    for machine in [&theirs, &ours] {
        machine.pass(20_000_000, 0);
    }
    let now = reader.now();
    assert_eq!((now.tier(), now.epoch()), (Tier::Raw, before.wrapping_add(1)), "what the daemon says");
    remove(&path);
}
