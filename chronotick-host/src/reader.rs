//! The read: what every user of ChronoTick runs millions of times a second.
//!
//! Ordinarily a read is two cache lines, one fenced counter and a handful of multiplications, one deep: no lock, no system
//! call, no allocation. Everything unusual (a stale or damaged page, a suspension, another daemon) is found either by the
//! arithmetic itself or by a check that the read falls into [`CHECK_EVERY`] of counter time, and handled out of line. None of
//! it is an error: it is a lower tier with a reason.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};
use std::sync::{Arc, Mutex, TryLockError};
use std::time::Duration;

use chronotick_core::clock_page::{PageReading, WidestGrowth};
use chronotick_core::units::{self, Local};
use chronotick_core::{Reason, Span, Tier};

use crate::os::counter::{CounterKind, LocalClock, os_utc, suspended};
use crate::os::disruption::SUSPENSION;
use crate::shm::identity::Identity;
use crate::shm::map::MappingCell;
use crate::shm::page::{FileId, Known, Page, PageError, Snapshot, attach, counter_of, file_id};
use crate::shm::replaceable::Replaceable;
use crate::timestamp::Timestamp;

/// How much counter time passes between two looks at what the arithmetic cannot see.
pub const CHECK_EVERY: Duration = Duration::from_millis(16);
/// A page without an update for this long makes the reader look whether its file was replaced.
const STALE: Span = Span::from_secs(3);
/// The file is looked at this often at most.
const LOOK_EVERY: Span = Span::from_millis(100);
/// Between the epochs of a page and that of what its readers make of the operating system's clock: no daemon steps so often.
const OWN_EPOCH: u16 = 0x8000;

/// Reads a clock page. Shared freely between threads; see [`crate::ChronoTick`] for the friendlier face. A process that was forked
/// while another thread was reading attaches again: its copy of this reader goes on, and may never look after the page again.
///
/// ```
/// # let daemon = chronotick_host::doc::daemon();
/// # let path = daemon.path();
/// let reader = chronotick_host::Reader::attach(path)?;
/// let (first, second) = (reader.now(), reader.now());
/// assert!(first.utc() <= second.utc());
/// # Ok::<(), chronotick_host::PageError>(())
/// ```
#[derive(Debug)]
pub struct Reader {
    cell: MappingCell,
    /// What the page counted with at the last check, and on which scale; others send the read out of line.
    known: Replaceable<Known>,
    /// Counter reading at which the next check is due; 0 sends every read out of line.
    check_at: AtomicU64,
    widest: AtomicU64,
    /// As of the last check the page says nothing about now: see [`State::Void`].
    void: AtomicBool,
    /// The last record that was seen in order, for when the page no longer is.
    last: Box<Page>,
    checked: Mutex<Checked>,
    path: PathBuf,
    clock: Option<Injected>,
}

/// A clock given by the caller, for pages that count a simulated counter.
struct Injected(Arc<dyn LocalClock>);

impl std::fmt::Debug for Injected {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}", self.0.kind())
    }
}

/// What the last check found. Threads that find it locked go on with what they have.
#[derive(Debug)]
struct Checked {
    instance: u64,
    file: FileId,
    /// This process's count of suspended time less the daemon's: not 0 in another time namespace.
    shift: Span,
    looked: Option<units::Timestamp<Local>>,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// The page stands for itself.
    Sound,
    /// The page was wiped, cut or overwritten: the last good record stands for it.
    Lost,
    /// The counter stood still, or is that of another boot, since the record was made.
    Void,
}

impl Reader {
    /// Attaches to the page at `path`. Needs to read the file, and nothing else of the daemon.
    ///
    /// # Errors
    /// There is no page, it is not a page, it has another layout version, or it counts with something that this process
    /// cannot read.
    pub fn attach(path: impl AsRef<Path>) -> Result<Self, PageError> {
        Self::with_clock(path.as_ref(), None)
    }

    /// Attaches to a page that counts a simulated counter.
    ///
    /// # Errors
    /// As [`Reader::attach`].
    pub fn attach_with(path: impl AsRef<Path>, clock: Arc<dyn LocalClock>) -> Result<Self, PageError> {
        Self::with_clock(path.as_ref(), Some(Injected(clock)))
    }

    fn with_clock(path: &Path, clock: Option<Injected>) -> Result<Self, PageError> {
        let (mapping, file) = attach(path)?;
        let page = mapping.page();
        let identity = page.identity();
        let snapshot = page.read(|kind| read_counter(kind, clock.as_ref()));
        supported(path, &identity, &snapshot, clock.is_some())?;
        let shift = shift(&identity, suspended_here(clock.as_ref()), page.suspended());
        let state = if identity.is_this_boot() { State::Sound } else { State::Void };
        let checked = Checked { instance: identity.instance(), file, shift, looked: None, state };
        let last = Box::new(Page::blank());
        last.keep(&snapshot);
        Ok(Self {
            cell: MappingCell::new(mapping),
            known: Replaceable::new(snapshot.known()),
            check_at: AtomicU64::new(0),
            widest: AtomicU64::new(packed(identity.widest())),
            void: AtomicBool::new(state == State::Void),
            last,
            checked: Mutex::new(checked),
            path: path.to_owned(),
            clock,
        })
    }

    /// The time now, with its bounds.
    #[inline(always)]
    pub fn now(&self) -> Timestamp {
        let known = self.known.get();
        if counter_of(known.marks) != Some(CounterKind::Tsc) {
            return self.now_without_tsc();
        }
        let check_at = self.check_at.load(Ordering::Relaxed);
        match self.cell.page().fresh(|| known, || CounterKind::Tsc.read(), |counter| counter >= check_at) {
            Some(timestamp) => timestamp,
            None => self.now_checked(),
        }
    }

    #[inline(never)]
    fn now_without_tsc(&self) -> Timestamp {
        let check_at = self.check_at.load(Ordering::Relaxed);
        let due = |counter| counter >= check_at;
        let (page, known) = (self.cell.page(), self.known.get());
        let fresh = match counter_of(known.marks) {
            Some(CounterKind::MonotonicRaw) => page.fresh(|| known, || CounterKind::MonotonicRaw.read(), due),
            Some(CounterKind::Cntvct) => page.fresh(|| known, || CounterKind::Cntvct.read(), due),
            _ => None,
        };
        fresh.unwrap_or_else(|| self.now_checked())
    }

    /// The time that this page gives to another instant of local time, past or future: what [`Reader::now`] says (or would
    /// have said) at `at` as far as is known now. The uncertainty of a future instant is that of a clock that hears nothing more;
    /// that of the past counts from the record in use, not from the one that was in use then. Where the counter was disturbed since
    /// (a suspension, a jump, another counter), nobody can say any more how long ago `at` was: that is answered from the operating
    /// system's clock, without bound.
    ///
    /// ```
    /// # let daemon = chronotick_host::doc::daemon();
    /// # let reader = daemon.attach();
    /// let second = chronotick_core::Span::from_secs(1);
    /// let now = reader.local();
    /// let (before, after) = (reader.project(now), reader.project(now.saturating_add(second)));
    /// assert!(before.utc() < after.utc() && before.bound() < after.bound());
    /// ```
    pub fn project(&self, at: units::Timestamp<Local>) -> Timestamp {
        self.apart_from_now(Span::MAX, |now| now.scale.ticks(at))
    }

    /// The time that this page gives to a reading of its counter ([`Reader::counter`]) that was taken elsewhere: hardware
    /// timestamps, or a reading taken before the time was needed. Uncertainty as for [`Reader::project`].
    ///
    /// It has to be one of the counter that [`Reader::counter`] names now. The kernel can make the daemon change it, and the bare
    /// number does not say what it counts: a reading that this counter has not reached yet, or had passed before the daemon took it
    /// up, is answered without bound; one that happens to lie between them cannot be told apart.
    ///
    /// ```
    /// # let daemon = chronotick_host::doc::daemon();
    /// # let reader = daemon.attach();
    /// use chronotick_host::os::counter::CounterKind;
    /// let started = reader.counter().map_or(0, CounterKind::read);
    /// // ... work that is only worth a timestamp if it fails ...
    /// assert!(reader.at_counter(started).utc() <= reader.now().utc());
    /// ```
    #[inline(always)]
    pub fn at_counter(&self, counter: u64) -> Timestamp {
        let due = |counter| counter >= self.check_at.load(Ordering::Relaxed);
        match self.cell.page().fresh(|| self.known.get(), || counter, due) {
            Some(timestamp) => timestamp,
            // Kept apart from the ordinary case, which then stays in registers and leaves out what the caller does not look at.
            None => *std::hint::black_box(&self.apart_from_now(span(CHECK_EVERY), |_| counter)),
        }
    }

    /// Another instant than now, `ahead` of it at most, by what a reading now goes by.
    #[cold]
    #[inline(never)]
    fn apart_from_now(&self, ahead: Span, counter: impl Fn(&Snapshot) -> u64) -> Timestamp {
        let (now, state) = self.in_use();
        let counter = counter(&now);
        let reached = now.scale.local(counter).since(now.scale.local(now.counter)) <= ahead;
        let state = if reached && now.holds_at(counter) { state } else { State::Void };
        self.evaluate_in(state, &now, counter)
    }

    /// What a reading now goes by, after a look at what the arithmetic cannot see. Never waits.
    fn in_use(&self) -> (Snapshot, State) {
        let mut checked = match self.checked.try_lock() {
            Ok(checked) => checked,
            Err(TryLockError::Poisoned(left)) => left.into_inner(),
            // Another thread is at it, or was when this process was forked.
            Err(TryLockError::WouldBlock) => return self.in_use_meanwhile(),
        };
        (self.look(&mut checked), checked.state)
    }

    /// The same while another thread looks: as of its last look, but for damage, which shows in the page itself.
    fn in_use_meanwhile(&self) -> (Snapshot, State) {
        let snapshot = self.snapshot();
        let sound = self.is_sound(&snapshot);
        let state = match (self.void.load(Ordering::Relaxed), sound) {
            (true, _) => State::Void,
            (false, true) => State::Sound,
            (false, false) => State::Lost,
        };
        (if sound { snapshot } else { self.last() }, state)
    }

    /// Local time now: what [`Reader::project`] counts in.
    pub fn local(&self) -> units::Timestamp<Local> {
        let (now, _) = self.in_use();
        now.scale.local(now.counter)
    }

    /// The page's file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Names the daemon's run that made the page.
    pub fn instance(&self) -> u64 {
        self.cell.page().identity().instance()
    }

    /// Process id of that daemon, in its own namespace.
    pub fn daemon_pid(&self) -> u32 {
        self.cell.page().identity().pid()
    }

    /// How long ago the daemon last said that it is alive, or began its last record where the page is damaged.
    pub fn heartbeat_age(&self) -> Duration {
        let (now, state) = self.in_use();
        let beat = if state == State::Lost { now.record.anchor() } else { self.cell.page().heartbeat() };
        let beat = now.scale.local(beat);
        Duration::from_nanos(now.scale.local(now.counter).since(beat).as_nanos().max(0).unsigned_abs())
    }

    /// What the page counts with.
    pub fn counter(&self) -> Option<CounterKind> {
        counter_of(self.in_use().0.record.marks())
    }

    fn snapshot(&self) -> Snapshot {
        self.cell.page().read(|kind| read_counter(kind, self.clock.as_ref()))
    }

    #[inline(never)]
    fn evaluate(&self, snapshot: &Snapshot, counter: u64) -> Timestamp {
        let reading = snapshot.record.time_at(counter, unpacked(self.widest.load(Ordering::Relaxed)));
        Timestamp::new(reading, snapshot.scale.local(counter).as_nanos(), snapshot.target_accuracy)
    }

    /// A read with the check that is due, or in a state where every read is.
    #[cold]
    #[inline(never)]
    fn now_checked(&self) -> Timestamp {
        let (now, state) = self.in_use();
        self.evaluate_in(state, &now, now.counter)
    }

    /// Makes the check, and gives what a reading now goes by.
    fn look(&self, checked: &mut Checked) -> Snapshot {
        // In this order: a record of before a suspension is not to be read with the count of after it.
        let counted = self.cell.page().suspended();
        let now = self.check(checked, self.snapshot(), counted);
        let sound = checked.state == State::Sound;
        self.void.store(checked.state == State::Void, Ordering::Relaxed);
        if sound {
            self.known.replace(now.known());
        }
        let stands = sound && self.evaluate(&now, now.counter).tier() != Tier::Raw;
        let next = now.scale.local(now.counter).saturating_add(span(CHECK_EVERY));
        self.check_at.store(if stands { now.scale.ticks(next) } else { 0 }, Ordering::Relaxed);
        if checked.state == State::Lost { self.last() } else { now }
    }

    /// The last record that was seen in order, now.
    fn last(&self) -> Snapshot {
        self.last.read(|kind| read_counter(kind, self.clock.as_ref()))
    }

    /// Whether the page is in order, and this what it would say.
    fn is_sound(&self, snapshot: &Snapshot) -> bool {
        let identity = self.cell.page().identity();
        identity.check(&self.path).is_ok()
            && supported(&self.path, &identity, snapshot, self.clock.is_some()).is_ok()
            && (!snapshot.record.is_blank() || self.last.read(|_| 0).record.is_blank())
    }

    /// Looks at what the arithmetic cannot see, and returns what to compute with.
    fn check(&self, checked: &mut Checked, snapshot: Snapshot, counted: Span) -> Snapshot {
        let sound = self.is_sound(&snapshot);
        let local = snapshot.scale.local(snapshot.counter);
        // A blank one has no age: the daemon that made it may never have published anything.
        let stale =
            || snapshot.record.is_blank() || local.since(snapshot.scale.local(snapshot.record.anchor())) > STALE;
        if (!sound || stale()) && checked.look_due(os_local()) && self.attach_again(checked) {
            let counted = self.cell.page().suspended();
            let snapshot = self.snapshot();
            return self.check_sound(checked, snapshot, counted);
        }
        if !sound {
            checked.state = State::Lost;
            return snapshot;
        }
        self.check_sound(checked, snapshot, counted)
    }

    /// The machine had been suspended for as long as `counted` when the daemon last looked.
    fn check_sound(&self, checked: &mut Checked, snapshot: Snapshot, counted: Span) -> Snapshot {
        let identity = self.cell.page().identity();
        let own = suspended_here(self.clock.as_ref());
        if checked.instance != identity.instance() && identity.check(&self.path).is_ok() {
            // Behind the identity, which its daemon announces after its count.
            fence(Ordering::Acquire);
            checked.shift = shift(&identity, own, self.cell.page().suspended());
            checked.instance = identity.instance();
            self.widest.store(packed(identity.widest()), Ordering::Relaxed);
        }
        let mut slept = own.saturating_sub(counted).saturating_sub(checked.shift);
        if slept < Span::ZERO.saturating_sub(SUSPENSION) && !identity.is_this_time_namespace() {
            // The daemon learns of a suspension that was over when this reader met it: the shift was too large by that.
            checked.shift = shift(&identity, own, counted);
            slept = Span::ZERO;
        }
        let void = slept.abs() > SUSPENSION || !identity.is_this_boot();
        checked.state = if void { State::Void } else { State::Sound };
        self.last.keep(&snapshot);
        snapshot
    }

    /// Maps the file that is there now, if it is another one and in order.
    fn attach_again(&self, checked: &mut Checked) -> bool {
        if std::fs::metadata(&self.path).is_ok_and(|there| file_id(&there) == checked.file) {
            return false;
        }
        let Ok((mapping, file)) = attach(&self.path) else { return false };
        let identity = mapping.page().identity();
        let snapshot = mapping.page().read(|kind| read_counter(kind, self.clock.as_ref()));
        let blank = snapshot.record.is_blank();
        if blank || supported(&self.path, &identity, &snapshot, self.clock.is_some()).is_err() {
            return false;
        }
        checked.file = file;
        // In this order, so that no thread has the new page and the old scale.
        self.known.replace(snapshot.known());
        self.cell.replace(mapping);
        true
    }

    fn evaluate_in(&self, state: State, snapshot: &Snapshot, counter: u64) -> Timestamp {
        match state {
            State::Void => os_reading(snapshot, counter, Reason::Suspended),
            State::Sound | State::Lost => self.evaluate_or_os(snapshot, counter),
        }
    }

    /// By a record too old to say anything, it is the operating system's clock, which is no worse.
    fn evaluate_or_os(&self, snapshot: &Snapshot, counter: u64) -> Timestamp {
        let timestamp = self.evaluate(snapshot, counter);
        if timestamp.tier() == Tier::Raw && timestamp.reason() == Reason::PageStale {
            os_reading(snapshot, counter, Reason::PageStale)
        } else {
            timestamp
        }
    }
}

impl Checked {
    fn look_due(&mut self, now: units::Timestamp<Local>) -> bool {
        let due = self.looked.is_none_or(|looked| now.since(looked) > LOOK_EVERY);
        if due {
            self.looked = Some(now);
        }
        due
    }
}

/// The operating system's clock, moved from now to a counter reading. It is another line than the page's.
fn os_reading(snapshot: &Snapshot, counter: u64, reason: Reason) -> Timestamp {
    let scale = &snapshot.scale;
    let utc = os_utc().saturating_add(scale.local(counter).since(scale.local(snapshot.counter)));
    let epoch = snapshot.record.epoch() ^ OWN_EPOCH;
    Timestamp::new(PageReading::raw(utc, reason, epoch), utc.as_nanos(), snapshot.target_accuracy)
}

/// How long this process's machine has been suspended.
fn suspended_here(clock: Option<&Injected>) -> Span {
    clock.map_or_else(suspended, |clock| clock.0.suspended())
}

/// By how much this process's count of suspended time exceeds the daemon's, which is in another time namespace or not. It can only
/// be told from the counts themselves, as if both knew of the same suspensions.
fn shift(identity: &Identity, own: Span, daemons: Span) -> Span {
    if identity.is_this_time_namespace() { Span::ZERO } else { own.saturating_sub(daemons) }
}

/// A clock for the pace of checks only.
fn os_local() -> units::Timestamp<Local> {
    units::Timestamp::from_nanos(CounterKind::MonotonicRaw.read().cast_signed())
}

#[inline(never)]
fn read_counter(marks: u8, clock: Option<&Injected>) -> u64 {
    match (counter_of(marks), clock) {
        (Some(CounterKind::Virtual), Some(clock)) => clock.0.ticks(),
        (Some(kind), _) => kind.read(),
        (None, _) => 0,
    }
}

/// Whether this process can count what the page counts.
fn supported(path: &Path, identity: &Identity, snapshot: &Snapshot, injected: bool) -> Result<(), PageError> {
    let found = counter_of(snapshot.record.marks());
    let readable = match found {
        Some(CounterKind::Tsc) => cfg!(target_arch = "x86_64"),
        Some(CounterKind::Cntvct) => cfg!(target_arch = "aarch64"),
        Some(CounterKind::MonotonicRaw) => {
            if !identity.is_this_time_namespace() {
                return Err(PageError::TimeNamespace { path: path.to_owned() });
            }
            true
        }
        Some(CounterKind::Virtual) => injected,
        None => snapshot.record.is_blank(),
    };
    if readable { Ok(()) } else { Err(PageError::Counter { path: path.to_owned(), found }) }
}

const fn packed(widest: WidestGrowth) -> u64 {
    widest.bound as u64 | (widest.interval as u64) << 32
}

#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "halves")]
const fn unpacked(word: u64) -> WidestGrowth {
    WidestGrowth { bound: word as u32, interval: (word >> 32) as u32 }
}

fn span(duration: Duration) -> Span {
    Span::from_nanos(i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests;
