//! What goes out: the record for readers, what the journal and the log say of it, and what is left behind at the end.

use std::time::{Duration, Instant};

use chronotick_core::units::Temperature;
use chronotick_core::{Reason, Tier, served};

use super::Runner;
use super::journal::{self, Event};
use crate::error::Error;

/// Silence at the start after which it is mentioned.
const SILENCE: Duration = Duration::from_secs(3);

impl Runner {
    pub(super) fn publish(&mut self) -> Result<(), Error> {
        let (pipeline, leaps) = (&self.pipeline, &self.leaps);
        self.publisher.explain_nothing(pipeline.why_nothing());
        let places = self.publisher.writer().places_made();
        let record = self.publisher.publish(|at| Some(leaps.serve(pipeline.target(at)?)))?;
        if self.publisher.writer().places_made() != places {
            self.listen_again();
        }
        self.published = Instant::now();
        if record.tier != self.tier {
            tracing::info!(from = %self.tier, to = %record.tier, reason = %record.reason, "tier");
            self.journal.push(Event::Tier(journal::TierChange {
                local_ns: record.at.as_nanos(),
                utc_ns: record.utc.as_nanos(),
                from: self.tier,
                to: record.tier,
                reason: record.reason.to_string(),
            }));
            if let Some(manager) = &self.service.manager {
                manager.status(&format!("tier {}: {}", record.tier, record.reason));
            }
            self.tier = record.tier;
        }
        if self.journal.wants_point() {
            let known = record.tier != Tier::Raw;
            self.journal.push(Event::Served(journal::Served {
                local_ns: record.at.as_nanos(),
                utc_ns: record.utc.as_nanos(),
                offset_ns: known.then(|| record.utc.offset_from(record.at).as_nanos()),
                interval95_ns: record.interval.is_known().then(|| record.interval.half_width().as_nanos()),
                bound_ns: record.bound.is_bounded().then(|| record.bound.half_width().as_nanos()),
                rate_ppm: self.pipeline.rate().as_ppm(),
                temperature_c: self.temperature.map(Temperature::value),
                tier: record.tier,
            }));
        }
        Ok(())
    }

    /// The sockets lay in the folder that is gone.
    fn listen_again(&mut self) {
        // First, because it takes the file at its path with it.
        self.status = None;
        self.status = super::listen(&self.path);
        self.journal.listen_again(&self.path);
    }

    /// Says once that no server answers.
    pub(super) fn mention_silence(&mut self) {
        let quiet = self.pipeline.counts().samples_accepted == 0;
        let waited = self.sources.is_empty() || self.started.elapsed() >= SILENCE;
        if self.silence_told || !quiet || !waited {
            return;
        }
        self.silence_told = true;
        let now = self.clock.now();
        let states: Vec<_> = self
            .sources
            .iter()
            .map(|source| source.status(now))
            .map(|s| format!("{} ({})", s.name, s.reason.unwrap_or(s.state)))
            .collect();
        let servers = if states.is_empty() { "none is configured".to_owned() } else { states.join(", ") };
        let serving = serving_unheard(self.tier);
        tracing::warn!("no time server has answered: {serving}, until one does; servers: {servers}");
    }

    /// Leaves what is known of the oscillator to the next start.
    pub(super) fn keep(&mut self, at_once: bool) {
        if let Some(recollection) = &mut self.recollection {
            recollection.keep(self.pipeline.warm_start(), &*self.clock, at_once);
        }
    }

    /// The last record tells readers that it will not be renewed.
    pub(super) fn leave(&mut self) {
        self.keep(true);
        if let Some(manager) = &self.service.manager {
            manager.stopping();
        }
        let now = self.clock.now();
        if let Some(target) = self.pipeline.target(now) {
            let tier = target.tier.max(Tier::Holdover);
            let last = self.publisher.publish(|at| {
                let target = self.leaps.serve(self.pipeline.target(at)?);
                Some(served::Target { tier, reason: Reason::PageStale, ..target })
            });
            if let Err(cause) = last {
                tracing::warn!(%cause, "the last record could not be written");
            }
        }
        if let Some(worker) = &mut self.worker {
            worker.stop();
        }
        tracing::info!("stopped");
    }
}

/// What readers get while no server was heard: a record of the run before this one may still be good.
const fn serving_unheard(tier: Tier) -> &'static str {
    match tier {
        Tier::Raw => "serving the operating system's clock, uncorrected and without a bound (tier raw)",
        _ => "going on with the time of the daemon before this one, ever less certain",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_operating_systems_clock_is_named_only_while_it_is_served() {
        assert!(serving_unheard(Tier::Raw).contains("operating system"));
        for tier in [Tier::Holdover, Tier::Filter, Tier::Fused] {
            assert!(!serving_unheard(tier).contains("operating system"), "{tier}");
        }
    }
}
