//! The core's pipeline in a microcontroller's size, and what the tasks need of a pipeline of any size.

use chronotick_core::estimator::{EXTRA, PER_TEMPERATURE};
use chronotick_core::forecast::{Forecast, ForecastError, ForecastRequest};
use chronotick_core::sample::SampleError;
use chronotick_core::served::Target;
use chronotick_core::{Config, Local, Pipeline, Sample, Timestamp};

/// Filters for as many assumptions about how fast the oscillator wanders.
const FILTERS: usize = 3;
/// Filters that also learn the response to temperature.
const TEMPERATURE_FILTERS: usize = 2;
/// What follows from both: see [`Pipeline`].
const EXPERTS: usize = FILTERS + TEMPERATURE_FILTERS * PER_TEMPERATURE + EXTRA;
/// History kept, in cells of one step, and of 4 and of 16 steps.
const FINE_CELLS: usize = 64;
const COARSER_CELLS: usize = 16;

/// Three filters, two temperature filters, two frozen forecasts a horizon, 64 delays, one source, 64 fine and 16 coarser
/// cells of history.
pub type EdgePipeline = Pipeline<FILTERS, TEMPERATURE_FILTERS, EXPERTS, 2, 64, 1, FINE_CELLS, COARSER_CELLS>;

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
    const E: usize,
    const P: usize,
    const D: usize,
    const S: usize,
    const N: usize,
    const M: usize,
> AnyPipeline for Pipeline<F, T, E, P, D, S, N, M>
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
