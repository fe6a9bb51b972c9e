//! One history for two machines: a trace with temperature, gaps and spikes, answered by forecasts, and what the pipeline
//! publishes after each sample. The host and the microcontroller must agree.
//!
//! The trace is made by integer arithmetic from a fixed seed, so that it is the same everywhere by construction:
//! an oscillator of 12 ppm that a triangle of temperature moves by 0.2 ppm, sampled every 16 s over a path of 300 us with a
//! tail, with a spike in every 37th row and two silences of an hour.

use chronotick_core::clock_page::{ClockPage, CounterScale};
use chronotick_core::forecast::{Forecast, LEVELS};
use chronotick_core::served::{self, Served};
use chronotick_core::{Config, Local, Offset, Sample, SourceId, Span, Temperature, Timestamp};
use chronotick_embedded::{EdgePipeline, EdgeRequest};

/// Samples in the trace.
pub const ROWS: u32 = 420;

/// What is compared after each sample.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Row {
    /// Index of the sample.
    pub index: u32,
    /// The published record; zero before there is one.
    pub page: [u64; 8],
    /// The estimated rate, in s/s.
    pub rate: f64,
}

/// Runs the trace through `pipeline`, which must be new, and shows every row.
pub fn replay(pipeline: &mut EdgePipeline, mut show: impl FnMut(&Row)) {
    let mut served = Served::new(served::Config::default());
    for (index, sample) in (0..ROWS).zip(trace()) {
        let now = sample.local.saturating_add(Span::from_millis(1));
        while let Some(due) = pipeline.poll_timeout().filter(|&due| due < now) {
            pipeline.handle_timeout(due);
            if pipeline.poll_timeout() == Some(due) {
                break;
            }
        }
        // A refused sample or forecast shows in the next page, or does not matter.
        let _ = pipeline.handle_sample(now, &sample);
        if let Some(request) = pipeline.poll_request(now) {
            let _ = pipeline.handle_forecast(now, &answer(&request));
        }
        let page = pipeline
            .target(now)
            .map_or(ClockPage::BLANK, |target| ClockPage::encode(&served.update(&target), &CounterScale::NANOS));
        show(&Row { index, page: *page.words(), rate: pipeline.rate().value() });
    }
}

/// The pipeline that both machines run.
pub fn pipeline() -> EdgePipeline {
    EdgePipeline::new(Config { counter_resolution: Span::from_micros(1), ..Config::default() })
}

/// The trace, sample by sample, without end.
pub fn trace() -> impl Iterator<Item = Sample> {
    let mut random = 0x2545_F491_4F6C_DD1D_u64;
    let mut next = move || {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        i64::try_from(random >> 33).unwrap_or(0)
    };
    let mut local = 5_000_000_000_i64;
    let mut offset = 1_750_000_000_000_000_000_i64;
    (0_i64..).map(move |index| {
        let gap = if index == 180 || index == 300 { 3_600 } else { 16 };
        let span = gap * 1_000_000_000 + next() % 1_000_000;
        // A triangle of 96 rows: 20 to 30 degrees in steps of 10/48, as a quantised sensor would give.
        let phase = (index % 96 - 48).abs();
        let temperature = 20.0 + (48 - phase) as f64 * (10.0 / 48.0);
        let rate_ppb = 12_000 + (48 - phase) * 200 / 48;
        local += span;
        offset += span / 1_000_000_000 * rate_ppb;
        let tail = if index % 37 == 36 { 8_000_000 } else { next() % 20_000 + (next() % 64) * (next() % 64) * 100 };
        Sample {
            local: Timestamp::<Local>::from_nanos(local),
            offset: Offset::from_nanos(offset + tail / 2),
            delay: Span::from_nanos(300_000 + tail),
            root_distance: Span::from_micros(50),
            temperature: Some(Temperature::new(temperature)).filter(|_| index % 11 != 5),
            source: SourceId(0),
        }
    })
}

/// What the imagined gateway says: the line is right, within what the filter itself admits.
pub fn answer(request: &EdgeRequest) -> Forecast {
    let mut quantiles = heapless_rows();
    for row in 0..request.model.steps() {
        #[allow(clippy::cast_possible_truncation, reason = "a step of seconds")]
        let horizon = (row + 1) as f32 * request.model.stride() as f32 * request.step.as_secs_f64() as f32;
        let width = 2.0 * request.offset_deviation + 1e-10 * horizon;
        let _ = quantiles.push(LEVELS.map(|level| (level - 0.5) * width + 2e-11 * horizon));
    }
    Forecast { id: request.id, model: request.model, hash: *b"parity\0\0", quantiles }
}

fn heapless_rows() -> heapless::Vec<[f32; 9], { chronotick_core::forecast::MAX_STEPS }> {
    heapless::Vec::new()
}
