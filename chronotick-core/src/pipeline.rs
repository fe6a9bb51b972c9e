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

use crate::estimator::{Bank, Line, Prediction};
use crate::fusion::{Fused, Fusion, NODES};
use crate::sample_filter::SampleFilter;
use crate::fallback::{ClockSource, Estimate, Reason, Tier};
use crate::forecast::{Forecast, ForecastError, ForecastRequest};
use crate::interval::{ErrorBound, PredictionInterval};
use crate::sample::{Sample, SampleError};
use crate::served::Target;
use crate::units::{Local, Offset, Rate, Span, Timestamp};

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

/// The state machine: `F` filters, `T` temperature filters, `E` experts (`F + 3 T + 9`), `P` frozen forecasts a horizon, `D` delays
/// remembered per source, `S` sources.
#[derive(Clone, Debug)]
pub struct Pipeline<
    const F: usize = 10,
    const T: usize = 5,
    const E: usize = 34,
    const P: usize = 64,
    const D: usize = 1024,
    const S: usize = 8,
> {
    config: Config,
    counts: Counts,
    scale: f64,
    filters: [SampleFilter<D>; S],
    bank: Option<Bank<F, T>>,
    fusion: Fusion<E, P>,
    curve: [Fused; NODES],
    line: Line,
    predictions: [Prediction; E],
    last: Option<Sample>,
}

impl<const F: usize, const T: usize, const E: usize, const P: usize, const D: usize, const S: usize> Pipeline<F, T, E, P, D, S> {
    /// A pipeline that has heard nothing yet.
    pub fn new(config: Config) -> Self {
        const { assert!(E == F + T * crate::estimator::PER_TEMPERATURE + crate::estimator::EXTRA, "E counts the experts") };
        let scale = (config.forecast_step.as_secs_f64() / 64.0).max(1e-6);
        Self {
            config,
            counts: Counts::default(),
            scale,
            filters: core::array::from_fn(|_| SampleFilter::new()),
            bank: None,
            fusion: Fusion::new(scale),
            curve: [Fused::default(); NODES],
            line: Line::default(),
            predictions: [Prediction::NONE; E],
            last: None,
        }
    }

    /// Takes in one exchange. An error leaves the state as it was.
    pub fn handle_sample(&mut self, now: Timestamp<Local>, sample: &Sample) -> Result<(), SampleError> {
        sample.validate()?;
        if sample.local > now {
            return Err(SampleError::FromTheFuture);
        }
        let Some(filter) = self.filters.get_mut(usize::from(sample.source.0)) else {
            return Err(SampleError::UnknownSource);
        };
        if self.last.is_some_and(|last| sample.local < last.local) {
            return Err(SampleError::OutOfOrder);
        }
        let trust = filter.observe(sample.delay);
        let at = sample.local;
        match &mut self.bank {
            None => {
                let half = sample.error_bound().as_secs_f64().max(1e-9);
                self.bank = Some(Bank::new(at, sample.offset, half * half / 4.0, self.config.max_rate.value(), self.scale));
            }
            Some(bank) => {
                bank.advance(at, sample.temperature.map(|t| t.value()));
                let z = sample.offset.since(bank.reference()).as_secs_f64();
                // The innovation against the fused forecast of the present, not against any one filter.
                for (i, slot) in self.predictions.iter_mut().enumerate().take(F) {
                    *slot = bank.predict(i, 0.0);
                }
                for i in F..E { self.predictions[i] = bank.predict(i, 0.0); }
                let before = self.fusion.fuse(0, &self.predictions);
                let line = bank.line();
                let innovation = z - (line.x + before.displacement);
                filter.learn(&trust, innovation, crate::units::Variance::new(before.deviation * before.deviation));
                bank.update(z, trust.variance.value());
                let line = bank.line();
                for i in 0..E { self.predictions[i] = bank.predict(i, 0.0); }
                let after = self.fusion.fuse(0, &self.predictions);
                self.fusion.score(at, (z, trust.variance.value()), (line.x + after.displacement, after.deviation * after.deviation));
            }
        }
        if let Some(bank) = &mut self.bank {
            if let Some(shift) = bank.rebase() {
                self.fusion.rebase(shift);
            }
            let mut best = 0;
            let weights = self.fusion.log_weights(3);
            for i in 0..F { if weights[i] > weights[best] { best = i; } }
            bank.set_lead(best);
            self.line = bank.line();
            for node in 0..NODES {
                bank.predict_into(self.fusion.horizon(node), &mut self.predictions);
                let fused = self.fusion.fuse(node, &self.predictions);
                if self.fusion.wants(node, at) {
                    self.fusion.freeze(node, at, self.line, &self.predictions, &fused);
                }
                self.curve[node] = fused;
            }
        }
        self.last = Some(*sample);
        self.counts.samples_accepted += 1;
        Ok(())
    }

    /// What a reader is told about the local instant `at` if nothing more arrives. `None`: nothing is known yet.
    pub fn estimate(&self, at: Timestamp<Local>) -> Option<Estimate> {
        let last = self.last?;
        let bank = self.bank.as_ref()?;
        let h = at.since(bank.at()).as_secs_f64();
        let mut node = 0;
        while node + 2 < NODES && h > self.fusion.horizon(node + 1) { node += 1; }
        let (h0, h1) = (self.fusion.horizon(node), self.fusion.horizon(node + 1));
        let a = ((h - h0) / (h1 - h0)).max(0.0);
        let (c0, c1) = (&self.curve[node], &self.curve[node + 1]);
        let displacement = c0.displacement + a * (c1.displacement - c0.displacement);
        let half = c0.half_width + a * (c1.half_width - c0.half_width);
        let offset = bank.reference().saturating_add(Span::from_secs_f64(self.line.x + self.line.r * h + displacement));
        let drift = self.config.max_rate.over(Span::from_secs_f64(h.abs()));
        Some(Estimate {
            offset,
            interval: PredictionInterval::new(Span::from_secs_f64(half)),
            bound: ErrorBound::new(last.error_bound().saturating_add(drift)),
            tier: Tier::Filter,
            reason: Reason::WarmingUp,
        })
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

    /// What expert `index` alone would say about `at`: for ablations and tables.
    pub fn expert(&self, index: usize, at: Timestamp<Local>) -> Option<Offset> {
        let bank = self.bank.as_ref()?;
        let h = at.since(bank.at()).as_secs_f64();
        let prediction = bank.predict(index, h);
        prediction.displacement.is_finite().then(|| {
            bank.reference().saturating_add(Span::from_secs_f64(self.line.x + self.line.r * h + prediction.displacement))
        })
    }

    /// The experts' weights at horizon `node`.
    pub fn weights(&self, node: usize) -> &[f32] {
        self.fusion.log_weights(node)
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

impl<const F: usize, const T: usize, const E: usize, const P: usize, const D: usize, const S: usize> ClockSource
    for Pipeline<F, T, E, P, D, S>
{
    fn estimate(&self, at: Timestamp<Local>) -> Option<Estimate> {
        self.estimate(at)
    }
}
