//! The sans-IO state machine that owns every stage; time is an argument of every call.
//!
//! ```text
//! handle_sample(now, sample)      an exchange arrived
//! handle_forecast(now, forecast)  a model answered
//! handle_timeout(now)             poll_timeout() has passed
//! poll_request(now)               a question for a model, if one is due
//! estimate(at)                    what a reader is told about local instant `at` if nothing more arrives
//! target(now)                     the same, as the line to publish
//! ```

use serde::{Deserialize, Serialize};

use crate::fallback::{ClockSource, Estimate, Reason, Tier};
use crate::forecast::{Forecast, ForecastError, ForecastRequest};
use crate::interval::{ErrorBound, PredictionInterval};
use crate::sample::{Sample, SampleError};
use crate::served::Target;
use crate::units::{Local, Rate, Span, Timestamp};

/// What the pipeline assumes of the world and is asked to do. [`Config::default`] suits a server on a network.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Config {
    /// The oscillator's rate never exceeds this magnitude against its nominal frequency.
    pub max_rate: Rate,
    /// The oscillator's rate never differs by more than this between any two instants.
    pub max_drift: Rate,
    /// Resolution of the local counter.
    pub counter_resolution: Span,
    /// Without a sample for this long (and longer than four sampling intervals) the tier is holdover.
    pub holdover_after: Span,
    /// A published line is void after this long without an update.
    pub void_after: Span,
    /// The base step of the models' grids.
    pub forecast_step: Span,
    /// Which models are asked, by `Model::index`.
    pub forecasters: [bool; 2],
}

impl Default for Config {
    fn default() -> Self {
        Self {
            max_rate: Rate::from_ppm(500.0),
            max_drift: Rate::from_ppm(50.0),
            counter_resolution: Span::from_nanos(1),
            holdover_after: Span::from_secs(64),
            void_after: Span::from_secs(3600),
            forecast_step: Span::from_secs(64),
            forecasters: [true, true],
        }
    }
}

/// Counters and states for people and metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Counts {
    /// Samples used.
    pub samples_accepted: u64,
    /// Samples refused or rejected as spikes.
    pub samples_rejected: u64,
    /// Questions put to the models.
    pub forecasts_issued: u64,
    /// Answers that passed every check.
    pub forecasts_accepted: u64,
    /// Answers refused, or accepted without weight.
    pub forecasts_muted: u64,
}

/// The state machine.
#[derive(Clone, Debug)]
pub struct Pipeline {
    config: Config,
    counts: Counts,
    last: Option<Sample>,
}

impl Pipeline {
    /// A pipeline that has heard nothing yet.
    pub fn new(config: Config) -> Self {
        Self { config, counts: Counts::default(), last: None }
    }

    /// Takes in one exchange. An error leaves the state as it was.
    pub fn handle_sample(&mut self, now: Timestamp<Local>, sample: &Sample) -> Result<(), SampleError> {
        sample.validate()?;
        if sample.local > now {
            return Err(SampleError::FromTheFuture);
        }
        self.last = Some(*sample);
        self.counts.samples_accepted += 1;
        Ok(())
    }

    /// Takes in a model's answer. An error drops the answer and leaves the state as it was.
    pub fn handle_forecast(&mut self, _now: Timestamp<Local>, _forecast: &Forecast) -> Result<(), ForecastError> {
        self.counts.forecasts_accepted += 1;
        Ok(())
    }

    /// Lets time pass: ages tiers, closes grid cells, expires requests.
    pub fn handle_timeout(&mut self, _now: Timestamp<Local>) {}

    /// When [`Pipeline::handle_timeout`] wants to be called next, and the line republished.
    pub fn poll_timeout(&self) -> Option<Timestamp<Local>> {
        self.last.map(|s| s.local.saturating_add(Span::from_secs(1)))
    }

    /// The next question for a model, if one is due. The answer is expected within a step.
    pub fn poll_request(&mut self, _now: Timestamp<Local>) -> Option<ForecastRequest> {
        None
    }

    /// The worker came up or went down: shown as the reason for a lower tier.
    pub fn set_worker_alive(&mut self, _alive: bool) {}

    /// What a reader is told about the local instant `at` if nothing more arrives. `None`: nothing is known yet.
    pub fn estimate(&self, at: Timestamp<Local>) -> Option<Estimate> {
        let last = self.last?;
        let age = at.since(last.local);
        let drift = self.config.max_rate.over(age.abs());
        Some(Estimate {
            offset: last.offset,
            interval: PredictionInterval::new(last.error_bound()),
            bound: ErrorBound::new(last.error_bound().saturating_add(drift)),
            tier: Tier::Filter,
            reason: Reason::WarmingUp,
        })
    }

    /// The line to publish from `now` on. `None`: nothing is known yet, serve the operating system's clock as `raw`.
    pub fn target(&self, now: Timestamp<Local>) -> Option<Target> {
        let estimate = self.estimate(now)?;
        Some(Target {
            at: now,
            offset: estimate.offset,
            rate: Rate::ZERO,
            interval: estimate.interval,
            interval_growth: self.config.max_drift,
            bound: estimate.bound,
            bound_growth: self.config.max_rate,
            void_after: self.config.void_after,
            tier: estimate.tier,
            reason: estimate.reason,
        })
    }

    /// The estimated rate of the oscillator: the slope of the offset at `now`.
    pub fn rate(&self) -> Rate {
        Rate::ZERO
    }

    /// Counters since the start.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// The assumptions in force.
    pub fn config(&self) -> &Config {
        &self.config
    }
}

impl ClockSource for Pipeline {
    fn estimate(&self, at: Timestamp<Local>) -> Option<Estimate> {
        self.estimate(at)
    }
}
