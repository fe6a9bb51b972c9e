//! The core's pipeline in a microcontroller's size, and what the tasks need of a pipeline of any size.

use chronotick_core::estimator::{Bank, experts, stacked};
use chronotick_core::forecast::{Forecast, ForecastError, ForecastRequest};
use chronotick_core::fusion::Fusion;
use chronotick_core::sample::SampleError;
use chronotick_core::served::Target;
use chronotick_core::sources::Sources;
use chronotick_core::window::Window;
use chronotick_core::{Config, Local, Pipeline, Sample, Timestamp};

/// Filters for as many assumptions about how fast the oscillator wanders.
const FILTERS: usize = 3;
/// Filters that also learn the response to temperature.
const TEMPERATURE_FILTERS: usize = 1;
/// Experts that let the rate return to its mean.
const REVERSIONS: usize = 0;
/// Bins of the daily pattern.
const DAY_BINS: usize = 0;
/// Who looks for a cycle of the rate.
const CYCLES: usize = 0;
/// What follows from all of these.
const EXPERTS: usize = experts(FILTERS, TEMPERATURE_FILTERS, REVERSIONS, DAY_BINS, CYCLES);
const STACKED: usize = stacked(DAY_BINS, CYCLES);
/// Horizons at which the experts are judged: see [`chronotick_core::fusion::horizons`].
const HORIZONS: usize = 4;
/// Forecasts under test at each.
const FROZEN: usize = 1;
/// Errors remembered for calibration at each.
const SCORES: usize = 40;
/// History kept, in cells of one step, and of 4 and of 16 steps.
const FINE_CELLS: usize = 64;
const COARSER_CELLS: usize = 16;
/// Time sources, and delays remembered of each.
const SOURCES: usize = 1;
const DELAYS: usize = 64;

/// The core's pipeline with capacities that fit a microcontroller.
pub type EdgePipeline = Pipeline<
    Bank<FILTERS, TEMPERATURE_FILTERS, REVERSIONS, DAY_BINS, CYCLES>,
    Fusion<EXPERTS, HORIZONS, FROZEN, SCORES, STACKED>,
    Window<FINE_CELLS, COARSER_CELLS>,
    Sources<SOURCES, DELAYS>,
>;

/// What an [`EdgePipeline`] asks a model.
pub type EdgeRequest = ForecastRequest<FINE_CELLS, COARSER_CELLS>;

/// A [`Pipeline`] of whatever capacities.
pub trait AnyPipeline {
    /// A question for a model, with as much history as this pipeline keeps.
    type Request;

    /// See [`Pipeline::handle_sample`].
    fn handle_sample(&mut self, now: Timestamp<Local>, sample: &Sample) -> Result<(), SampleError>;
    /// See [`Pipeline::handle_forecast`].
    fn handle_forecast(&mut self, now: Timestamp<Local>, forecast: &Forecast) -> Result<(), ForecastError>;
    /// See [`Pipeline::handle_timeout`].
    fn handle_timeout(&mut self, now: Timestamp<Local>);
    /// See [`Pipeline::poll_timeout`].
    fn poll_timeout(&self) -> Option<Timestamp<Local>>;
    /// See [`Pipeline::poll_request`].
    fn poll_request(&mut self, now: Timestamp<Local>) -> Option<Self::Request>;
    /// See [`Pipeline::set_worker_alive`].
    fn set_worker_alive(&mut self, alive: bool);
    /// See [`Pipeline::target`].
    fn target(&self, now: Timestamp<Local>) -> Option<Target>;
    /// See [`Pipeline::config`].
    fn config(&self) -> &Config;
}

impl<
    const F: usize,
    const T: usize,
    const R: usize,
    const Y: usize,
    const W: usize,
    const E: usize,
    const K: usize,
    const P: usize,
    const C: usize,
    const L: usize,
    const N: usize,
    const M: usize,
    const S: usize,
    const D: usize,
> AnyPipeline for Pipeline<Bank<F, T, R, Y, W>, Fusion<E, K, P, C, L>, Window<N, M>, Sources<S, D>>
{
    type Request = ForecastRequest<N, M>;

    fn handle_sample(&mut self, now: Timestamp<Local>, sample: &Sample) -> Result<(), SampleError> {
        self.handle_sample(now, sample)
    }
    fn handle_forecast(&mut self, now: Timestamp<Local>, forecast: &Forecast) -> Result<(), ForecastError> {
        self.handle_forecast(now, forecast)
    }
    fn handle_timeout(&mut self, now: Timestamp<Local>) {
        self.handle_timeout(now);
    }
    fn poll_timeout(&self) -> Option<Timestamp<Local>> {
        self.poll_timeout()
    }
    fn poll_request(&mut self, now: Timestamp<Local>) -> Option<ForecastRequest<N, M>> {
        self.poll_request(now)
    }
    fn set_worker_alive(&mut self, alive: bool) {
        self.set_worker_alive(alive);
    }
    fn target(&self, now: Timestamp<Local>) -> Option<Target> {
        self.target(now)
    }
    fn config(&self) -> &Config {
        self.config()
    }
}
