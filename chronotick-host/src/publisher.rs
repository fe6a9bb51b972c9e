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
use crate::shm::writer::PageWriter;

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
    /// [`Publisher::publish`] that knows better; see [`crate::shm::writer::inherited_counter`] for its local time.
    pub fn open(
        path: &Path,
        settings: &PageSettings,
        config: served::Config,
        clock: Arc<dyn LocalClock>,
    ) -> Result<Self, PageError> {
        let writer = PageWriter::create(path, settings, &*clock)?;
        let served = match (writer.inherited(), writer.epoch_before()) {
            (Some(record), _) => Served::resume(config, record),
            // Another counter: readers must not take the two lines for one.
            (None, Some(epoch)) => {
                let record = Served::new(config).update(&raw(&*clock, Reason::NeverSynchronised));
                Served::resume(config, ClockRecord { epoch: epoch.wrapping_add(1), ..record })
            }
            (None, None) => Served::new(config),
        };
        let watch = Watch::new(&*clock);
        Ok(Self { writer, served, config, clock, watch, late: 0, nothing: Reason::NeverSynchronised })
    }

    /// What readers are told while there is nothing to publish but the operating system's clock.
    pub fn explain_nothing(&mut self, reason: Reason) {
        self.nothing = reason;
    }

    /// Publishes the line that `target` gives for now, or the operating system's clock while there is none and nothing
    /// better was served. Says that the daemon is alive. Called at least once a second.
    pub fn publish(
        &mut self,
        target: impl Fn(Timestamp<Local>) -> Option<Target>,
    ) -> Result<Option<ClockRecord>, PageError> {
        self.writer.heartbeat(&*self.clock)?;
        for attempt in 1..=ATTEMPTS {
            let before = self.served.clone();
            let now = self.clock.now();
            let record = match target(now) {
                Some(target) => self.served.update(&target),
                None if self.goes_on(now) => return Ok(self.served.record().copied()),
                None => self.served.update(&raw(&*self.clock, self.nothing)),
            };
            let filled = self.writer.fill(&record);
            if self.clock.now() < record.at || self.config.lead.as_nanos() <= 0 || attempt == ATTEMPTS {
                self.writer.flip(filled);
                return Ok(Some(record));
            }
            self.served = before;
            self.late += 1;
        }
        Ok(None)
    }

    /// Whether the machine was suspended or paused, or its counter is no longer trusted, since the last call. If so the page
    /// has already been voided: readers get the operating system's clock, without bound, until the next publication. The
    /// caller forgets its estimate, and opens the publisher anew where the counter has to change.
    pub fn disruption(&mut self) -> Option<Disruption> {
        let disruption = self.watch.check(&*self.clock)?;
        let record = self.served.update(&raw(&*self.clock, Reason::Suspended));
        self.writer.publish(&record);
        Some(disruption)
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

    /// A record of a run before this one, still good enough to go on with.
    fn goes_on(&self, now: Timestamp<Local>) -> bool {
        let record = self.served.record();
        record.is_some_and(|record| record.tier != Tier::Raw && now.since(record.at) < record.void_after)
    }
}

/// The operating system's clock, on the counter's local time.
fn raw(clock: &dyn LocalClock, reason: Reason) -> Target {
    let (ticks, utc) = clock.realtime();
    let local = clock.scale().local(ticks);
    Target { reason, ..Target::raw(local, utc.offset_from(local)) }
}
