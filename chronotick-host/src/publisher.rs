//! From the estimate to the page: the served clock, its record, and what has to hold while it is published.
//!
//! A record starts [`served::Config::lead`] after the instant it was computed for. When the machine was busy and the record is
//! not out by then, it is thrown away and computed anew: a line that slows down must not become visible after its start.

use std::path::Path;
use std::sync::Arc;

use chronotick_core::served::{self, ClockRecord, Served, Target};
use chronotick_core::units::{Local, Span, Timestamp};
use chronotick_core::{Reason, Tier};

use crate::os::counter::LocalClock;
use crate::os::disruption::{Disruption, Watch};
use crate::shm::page::{PageError, PageSettings};
use crate::shm::writer::{PageWriter, raw};

/// How often a late record is computed anew before it is published as it is.
const ATTEMPTS: usize = 5;

/// Publishes what the pipeline estimates. One in a daemon.
pub struct Publisher {
    writer: PageWriter,
    served: Served,
    config: served::Config,
    clock: Arc<dyn LocalClock>,
    watch: Watch,
    late: u64,
    /// Why nothing but the operating system's clock is served, while that is so.
    nothing: Reason,
}

impl Publisher {
    /// Takes over or makes the page at `path`. Readers of a daemon before this one go on with its record until the first
    /// [`Publisher::publish`] that knows better, unless the machine was suspended meanwhile; see
    /// [`crate::shm::writer::inherited_counter`] for its local time.
    ///
    /// # Errors
    /// When the page can neither be taken over nor made, or another daemon has it.
    pub fn open(
        path: &Path,
        settings: &PageSettings,
        config: served::Config,
        clock: Arc<dyn LocalClock>,
    ) -> Result<Self, PageError> {
        // First, so that a suspension is seen either here or by the page's own count.
        let watch = Watch::new(&*clock);
        let writer = PageWriter::create(path, settings, &*clock)?;
        let inherited = writer.inherited().unwrap_or_else(|| {
            // Another counter, or another file: readers must not take the two lines for one.
            let epoch =
                writer.epoch_before().map_or_else(|| any_epoch(writer.instance()), |epoch| epoch.wrapping_add(1));
            let record = Served::new(config).update(&raw(&*clock, Reason::NeverSynchronised));
            ClockRecord { epoch, ..record }
        });
        let served = Served::resume(config, inherited);
        Ok(Self { writer, served, config, clock, watch, late: 0, nothing: Reason::NeverSynchronised })
    }

    /// What readers are told while there is nothing to publish but the operating system's clock.
    pub fn explain_nothing(&mut self, reason: Reason) {
        self.nothing = reason;
    }

    /// Publishes the line that `target` gives for now, or the operating system's clock while there is none and nothing
    /// better was served. Says that the daemon is alive. Called at least once a second.
    ///
    /// # Errors
    /// When the page was removed or replaced, and cannot be made again.
    pub fn publish(&mut self, target: impl Fn(Timestamp<Local>) -> Option<Target>) -> Result<ClockRecord, PageError> {
        self.writer.heartbeat(&*self.clock)?;
        let mut attempts_left = ATTEMPTS;
        loop {
            let before = self.served.clone();
            let now = self.clock.now();
            let record = match (target(now), self.still_good(now)) {
                (Some(target), _) => self.served.update(&target),
                (None, Some(inherited)) => return Ok(inherited),
                (None, None) => self.served.update(&raw(&*self.clock, self.nothing)),
            };
            let filled = self.writer.fill(&record);
            attempts_left -= 1;
            if self.clock.now() < record.at || self.config.lead.as_nanos() <= 0 || attempts_left == 0 {
                self.writer.flip(filled);
                return Ok(record);
            }
            self.served = before;
            self.late += 1;
        }
    }

    /// Whether the machine was suspended or paused, or its counter is no longer trusted, since the last call. If so the page
    /// has already been voided: readers get the operating system's clock, without bound, until the next publication. The
    /// caller forgets its estimate, and opens the publisher anew where the counter has to change.
    pub fn disruption(&mut self) -> Option<Disruption> {
        let disruption = self.watch.check(&*self.clock);
        if disruption.is_some() {
            self.writer.break_off(self.clock.ticks());
            let record = self.served.update(&raw(&*self.clock, Reason::Suspended));
            self.writer.publish(&record);
        }
        // A suspension after this look is not to be taken for one that the record knows of.
        self.writer.looked(self.watch.suspended());
        disruption
    }

    /// The next record starts a new epoch.
    pub fn step(&mut self) {
        self.served.step();
    }

    /// Records that were late and computed anew.
    pub fn late(&self) -> u64 {
        self.late
    }

    /// Readers are told of another target for the bound.
    pub fn set_target_accuracy(&mut self, target: Span) {
        self.writer.set_target_accuracy(target);
    }

    /// The page.
    pub fn writer(&self) -> &PageWriter {
        &self.writer
    }

    /// What is served.
    pub fn record(&self) -> Option<&ClockRecord> {
        self.served.record()
    }

    /// The record served, if it is good enough to go on with: at the start, that of the run before.
    fn still_good(&self, now: Timestamp<Local>) -> Option<ClockRecord> {
        let record = *self.served.record()?;
        (record.tier != Tier::Raw && now.since(record.at) < record.void_after).then_some(record)
    }
}

/// Where a page begins to count that knows of none before it: there may have been one, whose readers find this one in its place.
const fn any_epoch(instance: u64) -> u16 {
    let bytes = instance.to_le_bytes();
    u16::from_le_bytes([bytes[2], bytes[3]])
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicI64, Ordering};

    use chronotick_core::clock_page::CounterScale;
    use chronotick_core::{ErrorBound, Offset, Utc};

    use super::*;
    use crate::os::counter::CounterKind;
    use crate::reader::Reader;
    use crate::shm::scratch;

    /// A machine whose counter stands while it is suspended for so many nanoseconds.
    struct Machine(AtomicI64);

    impl LocalClock for Machine {
        fn ticks(&self) -> u64 {
            1_000_000_000
        }
        fn scale(&self) -> CounterScale {
            CounterScale::NANOS
        }
        fn kind(&self) -> CounterKind {
            CounterKind::Virtual
        }
        fn realtime(&self) -> (u64, Timestamp<Utc>) {
            (self.ticks(), Timestamp::from_nanos(1_800_000_000_000_000_000).saturating_add(self.suspended()))
        }
        fn suspended(&self) -> Span {
            Span::from_nanos(self.0.load(Ordering::Relaxed))
        }
    }

    #[test]
    fn a_new_file_begins_its_epochs_anywhere() {
        let path = scratch("epochs");
        let machine = Arc::new(Machine(AtomicI64::new(0)));
        for _ in 0..2 {
            let (settings, config) = (PageSettings::default(), served::Config::default());
            let mut publisher = Publisher::open(&path, &settings, config, Arc::clone(&machine) as _).unwrap();
            let record = publisher.publish(|_| None).unwrap();
            assert_eq!(record.epoch, any_epoch(publisher.writer().instance()));
            std::fs::remove_dir_all(path.parent().unwrap()).unwrap();
        }
    }

    #[test]
    fn what_is_published_after_a_suspension_that_nobody_has_seen_is_void() {
        let path = scratch("unseen-suspension");
        let machine = Arc::new(Machine(AtomicI64::new(0)));
        let clock = || Arc::clone(&machine) as Arc<dyn LocalClock>;
        let mut publisher =
            Publisher::open(&path, &PageSettings::default(), served::Config::default(), clock()).unwrap();
        let measured = || Target {
            tier: Tier::Filter,
            bound: ErrorBound::new(Span::from_millis(1)),
            ..Target::raw(machine.now(), Offset::ZERO)
        };
        publisher.publish(|_| Some(measured())).unwrap();
        let reader = Reader::attach_with(&path, clock()).unwrap();
        assert_eq!((publisher.disruption(), reader.now().tier()), (None, Tier::Filter));
        // Between the daemon's look and its next record.
        machine.0.store(3_600_000_000_000, Ordering::Relaxed);
        publisher.publish(|_| Some(measured())).unwrap();
        let latecomer = Reader::attach_with(&path, clock()).unwrap();
        for now in [reader.now(), latecomer.now()] {
            assert_eq!((now.tier(), now.reason()), (Tier::Raw, Reason::Suspended));
        }
        assert_eq!(publisher.disruption(), Some(Disruption::Suspended(Span::from_secs(3600))));
        publisher.publish(|_| Some(measured())).unwrap();
        assert_eq!(reader.now().tier(), Tier::Filter);
        std::fs::remove_dir_all(path.parent().unwrap()).unwrap();
    }

    #[test]
    fn a_start_after_a_suspension_begins_anew_and_readers_never_see_the_old_record_as_good() {
        for (slept, goes_on) in [(Span::from_millis(10), true), (Span::from_millis(11), false)] {
            let path = scratch("start-after-suspension");
            let machine = Arc::new(Machine(AtomicI64::new(0)));
            let clock = || Arc::clone(&machine) as Arc<dyn LocalClock>;
            let open = || Publisher::open(&path, &PageSettings::default(), served::Config::default(), clock());
            let measured = Target {
                tier: Tier::Filter,
                bound: ErrorBound::new(Span::from_millis(1)),
                ..Target::raw(machine.now(), Offset::ZERO)
            };
            let mut first = open().unwrap();
            let before = first.publish(|_| Some(measured)).unwrap();
            let reader = Reader::attach_with(&path, clock()).unwrap();
            assert_eq!(reader.now().tier(), Tier::Filter);
            drop(first);
            machine.0.store(slept.as_nanos(), Ordering::Relaxed);

            let mut second = open().unwrap();
            let latecomer = Reader::attach_with(&path, clock()).unwrap();
            for now in [reader.now(), latecomer.now()] {
                assert_eq!((now.tier() == Tier::Holdover, now.bound().is_bounded()), (goes_on, goes_on), "{slept:?}");
                assert_eq!(now.reason(), if goes_on { Reason::WarmStart } else { Reason::Suspended });
            }
            let after = second.publish(|_| None).unwrap();
            assert_eq!((after.tier == Tier::Holdover, after.epoch == before.epoch), (goes_on, goes_on), "{slept:?}");
            std::fs::remove_dir_all(path.parent().unwrap()).unwrap();
        }
    }
}
