//! The clock that the application reads: one record, shared through a critical section, and a signal of its changes.
//!
//! The record is the core's [`ClockPage`], 64 bytes that one task writes and any task or interrupt reads. Microcontrollers
//! lack the 64-bit atomics of the latched page of a host, so a read copies the words (16 loads) and reads the counter inside a
//! critical section, and computes outside it. The arithmetic is integer only.

use core::cell::Cell;

use chronotick_core::clock_page::{ClockPage, CounterScale, PageReading, WidestGrowth};
use chronotick_core::served::{self, Served};
use chronotick_core::{ErrorBound, Local, Offset, PredictionInterval, Reason, Span, Tier, Timestamp, Utc};
use embassy_sync::blocking_mutex::Mutex;
use embassy_sync::blocking_mutex::raw::RawMutex;
use embassy_sync::watch::{DynReceiver, Watch};

use crate::edge_pipeline::AnyPipeline;
use crate::local_time::LocalClock;

/// A clock for one writer and any number of readers. Put it in a `static`.
///
/// `WAITERS` is how many tasks can wait for changes at the same time; reading needs none.
pub struct SharedClock<M: RawMutex, const WAITERS: usize> {
    page: Mutex<M, Cell<(ClockPage, WidestGrowth)>>,
    changes: Watch<M, Reading, WAITERS>,
}

impl<M: RawMutex, const WAITERS: usize> Default for SharedClock<M, WAITERS> {
    fn default() -> Self {
        Self::new()
    }
}

impl<M: RawMutex, const WAITERS: usize> SharedClock<M, WAITERS> {
    /// A clock that knows nothing yet.
    pub const fn new() -> Self {
        let widest = WidestGrowth { bound: u32::MAX, interval: u32::MAX };
        Self { page: Mutex::new(Cell::new((ClockPage::BLANK, widest))), changes: Watch::new() }
    }

    /// The time now; `None` until the first synchronisation.
    #[inline]
    pub fn now(&self, clock: &impl LocalClock) -> Option<Reading> {
        // Not one after the other: whoever is interrupted in between would read an old counter on a new line, which can be steeper.
        let (record, local) = self.page.lock(|record| (record.get(), clock.now()));
        reading(record, local)
    }

    /// The time at a local instant: that of an interrupt's time stamp, or one in the near future.
    #[inline]
    pub fn at(&self, local: Timestamp<Local>) -> Option<Reading> {
        reading(self.page.lock(Cell::get), local)
    }

    /// Waits for changes: each update is seen once, the newest only. `None` when `WAITERS` tasks wait already.
    pub fn changes(&self) -> Option<DynReceiver<'_, Reading>> {
        self.changes.dyn_receiver()
    }

    /// The words of the record in force, for another processor or a test.
    pub fn page(&self) -> ClockPage {
        self.page.lock(Cell::get).0
    }
}

#[inline]
fn reading((page, widest): (ClockPage, WidestGrowth), local: Timestamp<Local>) -> Option<Reading> {
    if page.is_blank() {
        return None;
    }
    Some(Reading { local, served: page.time_at(local.as_nanos().cast_unsigned(), widest) })
}

/// One reading: UTC, how sure, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reading {
    local: Timestamp<Local>,
    served: PageReading,
}

impl Reading {
    /// The counter that this reading is of.
    pub const fn local(&self) -> Timestamp<Local> {
        self.local
    }
    /// UTC.
    pub const fn utc(&self) -> Timestamp<Utc> {
        self.served.utc()
    }
    /// UTC - local.
    pub const fn offset(&self) -> Offset {
        self.served.utc().offset_from(self.local)
    }
    /// Calibrated 95 % interval around it.
    pub const fn interval95(&self) -> PredictionInterval {
        self.served.interval95()
    }
    /// Hard bound around it.
    pub const fn bound(&self) -> ErrorBound {
        self.served.bound()
    }
    /// UTC is certainly not before this.
    pub const fn earliest(&self) -> Timestamp<Utc> {
        self.utc().saturating_sub(self.bound().half_width())
    }
    /// UTC is certainly not after this.
    pub const fn latest(&self) -> Timestamp<Utc> {
        self.utc().saturating_add(self.bound().half_width())
    }
    /// Who answered.
    pub const fn tier(&self) -> Tier {
        self.served.tier()
    }
    /// Why that one.
    pub const fn reason(&self) -> Reason {
        self.served.reason()
    }
    /// Readings of one epoch are monotone and continuous.
    pub const fn epoch(&self) -> u16 {
        self.served.epoch()
    }
}

#[cfg(feature = "defmt")]
impl defmt::Format for Reading {
    fn format(&self, f: defmt::Formatter) {
        let micros = |nanos: i64| nanos / 1_000;
        let nanos = self.utc().as_nanos();
        defmt::write!(f, "{=i64}.{=i64:09} s", nanos.div_euclid(1_000_000_000), nanos.rem_euclid(1_000_000_000));
        if self.bound().is_bounded() {
            defmt::write!(f, " +- {=i64} us", micros(self.bound().half_width().as_nanos()));
        }
        if self.interval95().is_known() {
            defmt::write!(f, " (95%: {=i64} us)", micros(self.interval95().half_width().as_nanos()));
        }
        defmt::write!(f, " {=str}: {=str}", self.tier().as_str(), self.reason().as_str());
    }
}

/// The writing side: turns the pipeline's target into the record that readers see. One per [`SharedClock`].
///
/// A record has to be in its place before it [starts](served::Config::lead), or time could go back by what the old line and the new one
/// are apart since then. How long the board needs to make one shows in the first that comes too late: it is made again, with twice
/// that time ahead.
pub struct Publisher<'a, M: RawMutex, const WAITERS: usize> {
    shared: &'a SharedClock<M, WAITERS>,
    served: Served,
    config: served::Config,
}

/// How often a record is made again before the old one is left to go on.
const ATTEMPTS: u8 = 3;
/// What stands still for longer than this is not the making of a record, and no reason to begin them all later.
const LONGEST_LEAD: Span = Span::from_millis(20);

impl<'a, M: RawMutex, const WAITERS: usize> Publisher<'a, M, WAITERS> {
    /// Publishes to `shared`.
    pub fn new(shared: &'a SharedClock<M, WAITERS>) -> Self {
        let config = served::Config::default();
        Self { shared, served: Served::new(config), config }
    }

    /// Publishes what `pipeline` knows now, if it knows anything.
    pub fn publish(&mut self, clock: &impl LocalClock, pipeline: &impl AnyPipeline) {
        for _ in 0..ATTEMPTS {
            let now = clock.now();
            let Some(target) = pipeline.target(now) else { return };
            let before = self.served.record().copied();
            let record = self.served.update(&target);
            let mut page = ClockPage::encode(&record, &CounterScale::NANOS);
            let old = self.shared.page();
            let goes_on = !old.is_blank() && old.epoch() == page.epoch();
            if goes_on {
                let start = CounterScale::NANOS.ticks(record.at);
                page = page.not_before(start, old.utc_at(start));
            }
            let max_rate = pipeline.config().max_rate;
            let widest = WidestGrowth::new(max_rate, max_rate);
            // Nobody reads in between.
            let late = self.shared.page.lock(|shared| {
                let at = clock.now();
                let late = goes_on && at >= record.at;
                if !late {
                    shared.set((page, widest));
                }
                late.then_some(at)
            });
            let Some(at) = late else {
                if let Some(reading) = self.shared.at(now) {
                    self.shared.changes.sender().send(reading);
                }
                return;
            };
            self.config.lead = at.since(now).saturating_mul(2).min(LONGEST_LEAD);
            self.served = before.map_or_else(|| Served::new(self.config), |old| Served::resume(self.config, old));
        }
    }
}

#[cfg(test)]
mod tests {
    use core::cell::RefCell;

    use super::*;
    use crate::EdgePipeline;
    use chronotick_core::{Sample, SourceId};
    use embassy_sync::blocking_mutex::raw::NoopRawMutex;

    /// Two milliseconds pass from one reading to the next, in which an interrupt reads the shared clock at both ends.
    struct Slow<'a> {
        now: Cell<i64>,
        stall: Cell<i64>,
        shared: &'a SharedClock<NoopRawMutex, 1>,
        last: Cell<i64>,
    }

    impl LocalClock for Slow<'_> {
        const RESOLUTION: Span = Span::from_nanos(1);
        fn now(&self) -> Timestamp<Local> {
            for _ in 0..2 {
                if let Some(reading) = self.shared.at(Timestamp::from_nanos(self.now.get())) {
                    assert!(reading.utc().as_nanos() >= self.last.get(), "{reading:?} after {}", self.last.get());
                    self.last.set(reading.utc().as_nanos());
                }
                self.now.set(self.now.get() + 1_000_000);
            }
            let now = self.now.get();
            self.now.set(now + self.stall.take());
            Timestamp::from_nanos(now)
        }
    }

    /// The clock of a task that is interrupted as soon as it has read its counter, for as long as a record takes to make.
    struct Interrupted<'a, F> {
        now: Cell<i64>,
        interrupt: &'a RefCell<F>,
        pending: Cell<bool>,
    }

    impl<F: FnMut(i64)> LocalClock for Interrupted<'_, F> {
        const RESOLUTION: Span = Span::from_nanos(1);
        fn now(&self) -> Timestamp<Local> {
            let read = self.now.get();
            if self.pending.take() {
                self.now.set(read + 2_000_000);
                (self.interrupt.borrow_mut())(read + 2_000_000);
            }
            Timestamp::from_nanos(read)
        }
    }

    fn sample(local: i64, offset: i64) -> Sample {
        Sample {
            local: Timestamp::from_nanos(local),
            offset: Offset::from_nanos(offset),
            delay: Span::from_micros(200),
            root_distance: Span::from_micros(10),
            temperature: None,
            source: SourceId(0),
        }
    }

    #[test]
    fn a_clock_that_never_heard_anything_says_nothing() {
        let shared = SharedClock::<NoopRawMutex, 1>::new();
        assert_eq!(shared.now(&Timestamp::from_nanos(5)), None);
        Publisher::new(&shared).publish(&Timestamp::from_nanos(5), &EdgePipeline::new(Default::default()));
        assert_eq!(shared.now(&Timestamp::from_nanos(5)), None);
    }

    #[test]
    fn readers_see_what_was_published_and_the_bound_grows() {
        const OFFSET: i64 = 1_700_000_000_000_000_000;
        let shared = SharedClock::<NoopRawMutex, 1>::new();
        let mut changes = shared.changes().unwrap();
        let mut publisher = Publisher::new(&shared);
        let mut pipeline = EdgePipeline::new(Default::default());
        for second in 0..20 {
            let now = Timestamp::from_nanos(second * 2_000_000_000);
            pipeline.handle_sample(now, &sample(now.as_nanos(), OFFSET)).unwrap();
            publisher.publish(&now, &pipeline);
        }
        let last = 19 * 2_000_000_000;
        let soon = shared.now(&Timestamp::from_nanos(last + 1_000_000)).unwrap();
        let late = shared.now(&Timestamp::from_nanos(last + 60_000_000_000)).unwrap();
        assert!(soon.earliest().as_nanos() <= last + 1_000_000 + OFFSET);
        assert!(soon.latest().as_nanos() >= last + 1_000_000 + OFFSET);
        assert!(late.bound() > soon.bound());
        assert!(soon.bound().half_width() < Span::from_millis(1), "{soon:?}");
        assert_eq!(changes.try_changed().map(|seen| seen.local()), Some(Timestamp::from_nanos(last)));
        assert_eq!(changes.try_changed(), None);
    }

    #[test]
    fn time_never_goes_back_however_long_a_record_takes_to_make() {
        const OFFSET: i64 = 1_700_000_000_000_000_000;
        let shared = SharedClock::<NoopRawMutex, 1>::new();
        let mut publisher = Publisher::new(&shared);
        let mut pipeline = EdgePipeline::new(Default::default());
        let clock = Slow { now: Cell::new(0), stall: Cell::new(0), shared: &shared, last: Cell::new(i64::MIN) };
        for second in 1..40 {
            let now = second * 2_000_000_000;
            clock.now.set(now);
            // Once the board stands still in the middle of it, as for the erasure of a page of flash.
            clock.stall.set(if second == 20 { 1_500_000_000 } else { 0 });
            // The path alternates, so that the served line turns at every exchange.
            let error = if second % 2 == 0 { 80_000 } else { -80_000 };
            pipeline.handle_sample(Timestamp::from_nanos(now), &sample(now, OFFSET + error)).unwrap();
            publisher.publish(&clock, &pipeline);
            let page = shared.page().anchor().cast_signed();
            assert!(page >= now, "nothing was published at {second}");
            assert!(page <= clock.now.get() + 20_000_000, "{second}: begins {} ns later", page - clock.now.get());
        }
    }

    #[test]
    fn time_never_goes_back_for_a_task_that_is_interrupted() {
        const OFFSET: i64 = 1_700_000_000_000_000_000;
        let shared = SharedClock::<NoopRawMutex, 1>::new();
        let (mut publisher, mut pipeline) = (Publisher::new(&shared), EdgePipeline::new(Default::default()));
        // The path alternates, so that the served line turns at every exchange, towards the steeper at every other.
        let interrupt = RefCell::new(|now: i64| {
            let error = if now / 2_000_000_000 % 2 == 0 { 80_000 } else { -80_000 };
            pipeline.handle_sample(Timestamp::from_nanos(now), &sample(now, OFFSET + error)).unwrap();
            publisher.publish(&Timestamp::from_nanos(now), &pipeline);
        });
        for second in 1..40 {
            let now = Cell::new(second * 2_000_000_000);
            let clock = Interrupted { now, interrupt: &interrupt, pending: Cell::new(false) };
            let before = shared.now(&clock);
            clock.now.set(clock.now.get() + 100);
            clock.pending.set(true);
            let interrupted = shared.now(&clock);
            let readings = [before, interrupted, shared.now(&clock)];
            assert!(second == 1 || before.is_some());
            let times = readings.iter().flatten().map(Reading::utc);
            assert!(times.is_sorted_by(|a, b| a <= b), "{second}: {readings:?}");
        }
    }
}
