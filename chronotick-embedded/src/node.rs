//! The tasks of a node: one that collects samples, one that owns the pipeline and publishes what it decides.

use core::future::{Future, pending};

use chronotick_core::Sample;
use chronotick_core::forecast::Forecast;
use embassy_futures::select::{Either, Either3, select, select3};
use embassy_sync::blocking_mutex::raw::RawMutex;
use embassy_sync::channel::{Receiver, Sender};
use embassy_time::{Duration, Instant, Timer};

use crate::edge_pipeline::AnyPipeline;
use crate::local_time::{LocalClock, instant_from_local};
use crate::shared_clock::{Publisher, SharedClock};
use crate::source::SampleSource;
use crate::thermometer::Thermometer;

/// A question that is not on its way by then is given up: at 9,600 baud the longest takes a second, once the line is free.
const ASKING: Duration = Duration::from_secs(5);

/// How often a source is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cadence {
    /// Exchanges in quick succession at the start, from which the first estimate converges.
    pub burst: u8,
    /// Time between those.
    pub burst_interval: Duration,
    /// Time between exchanges afterwards.
    pub interval: Duration,
    /// How often the published line is renewed while nothing arrives, at most. A line stays true without it: its
    /// uncertainty grows as fast as the pipeline's would. What waits is the news of a lower tier.
    pub renewal: Duration,
}

impl Default for Cadence {
    /// Eight exchanges two seconds apart, then one every 16 s; renewal as often.
    fn default() -> Self {
        Self {
            burst: 8,
            burst_interval: Duration::from_secs(2),
            interval: Duration::from_secs(16),
            renewal: Duration::from_secs(16),
        }
    }
}

/// What answers the pipeline's questions about the oscillator's future.
pub trait Forecaster<Q> {
    /// Passes a question on; `false` if that failed, and then it is as if the answer never came.
    fn ask(&mut self, request: &Q) -> impl Future<Output = bool>;

    /// The next answer, whenever it comes.
    fn answer(&mut self) -> impl Future<Output = Forecast>;
}

/// A node without models.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoForecaster;

impl<Q> Forecaster<Q> for NoForecaster {
    async fn ask(&mut self, _request: &Q) -> bool {
        false
    }

    async fn answer(&mut self) -> Forecast {
        pending().await
    }
}

/// Asks `source` for ever and sends what it yields, with the temperature at that moment, to whoever runs the clock.
///
/// A failed exchange is simply the absence of a sample: the pipeline notices silence by itself.
pub async fn run_samples<M: RawMutex, const N: usize>(
    mut source: impl SampleSource,
    mut thermometer: impl Thermometer,
    cadence: Cadence,
    samples: Sender<'_, M, Sample, N>,
) -> ! {
    let mut burst = cadence.burst;
    loop {
        let began = Instant::now();
        if let Ok(mut sample) = source.sample().await {
            if sample.temperature.is_none() {
                sample.temperature = thermometer.temperature().await;
            }
            samples.send(sample).await;
            burst = burst.saturating_sub(1);
        }
        let interval = if burst > 0 { cadence.burst_interval } else { cadence.interval };
        Timer::at(began + interval).await;
    }
}

/// Runs the pipeline for ever: samples and forecasts in, questions to `forecaster` out, readings to `shared`.
pub async fn run_clock<P: AnyPipeline, M: RawMutex, const N: usize, const WAITERS: usize>(
    pipeline: &mut P,
    clock: impl LocalClock,
    cadence: Cadence,
    samples: Receiver<'_, M, Sample, N>,
    mut forecaster: impl Forecaster<P::Request>,
    shared: &SharedClock<M, WAITERS>,
) -> ! {
    let mut publisher = Publisher::new(shared);
    let mut renewed = Instant::now();
    loop {
        let event = select3(samples.receive(), forecaster.answer(), wake(pipeline, renewed + cadence.renewal)).await;
        let now = clock.now();
        match event {
            // A refused sample or forecast is counted by the pipeline and changes nothing else.
            Either3::First(sample) => _ = pipeline.handle_sample(now, &sample),
            Either3::Second(forecast) => _ = pipeline.handle_forecast(now, &forecast),
            Either3::Third(()) => pipeline.handle_timeout(now),
        }
        publisher.publish(&clock, pipeline);
        renewed = Instant::now();
        if let Some(request) = pipeline.poll_request(now) {
            // A line that has stalled costs the models and nothing else.
            let asked = select(forecaster.ask(&request), Timer::after(ASKING)).await;
            pipeline.set_worker_alive(matches!(asked, Either::First(true)));
        }
    }
}

async fn wake(pipeline: &impl AnyPipeline, not_before: Instant) {
    match pipeline.poll_timeout() {
        Some(at) => Timer::at(instant_from_local(at).max(not_before)).await,
        None => pending().await,
    }
}
