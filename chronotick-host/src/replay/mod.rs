//! Feeds a recorded trace through the same core as the daemon, as fast as the machine can.
//!
//! At chosen rows the state is frozen and what a reader would be told about later instants is written down: nothing that
//! came after the row enters. The output depends on the trace and the options alone, byte for byte.

pub mod allan;
mod measures;
#[cfg(feature = "cli")]
mod plot;

use std::io::{self, Write};
use std::time::{Duration, Instant};

use chronotick_core::fallback::Tier;
use chronotick_core::forecast::{Forecast, ForecastRequest};
use chronotick_core::pipeline::{Config, Counts, Pipeline};
use chronotick_core::sample::Sample;
use chronotick_core::units::{Local, Offset, Span, Timestamp};

pub use measures::{HorizonMeasures, Measures};
#[cfg(feature = "cli")]
pub use plot::{PlotError, plot};

use crate::trace::push_integer;

/// The header of the predictions file.
pub const PREDICTIONS_HEADER: &str = "origin_ns,target_ns,offset_ns,low95_ns,high95_ns,bound_low_ns,bound_high_ns,tier";

/// Answers a request at once, in the same process. `None`: no such model, or it failed.
pub trait Forecaster {
    /// The model's answer to `request`.
    fn answer(&mut self, request: &ForecastRequest) -> Option<Forecast>;
}

/// Nobody answers.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoForecaster;

impl Forecaster for NoForecaster {
    fn answer(&mut self, _request: &ForecastRequest) -> Option<Forecast> {
        None
    }
}

/// The value that `share` of `values`, which it sorts, are below; NaN of nothing.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a rank below the length")]
pub(crate) fn quantile(values: &mut [f64], share: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get((share * values.len() as f64) as usize).or(values.last()).copied().unwrap_or(f64::NAN)
}

#[cfg(feature = "inference")]
impl Forecaster for crate::worker::inference::Forecasters {
    fn answer(&mut self, request: &ForecastRequest) -> Option<Forecast> {
        // A model that fails is as good as none, as in the daemon; `states` tells why it failed.
        Self::answer(self, request).ok()
    }
}

/// Where to freeze and what to ask then.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// How far ahead of the frozen row.
    pub horizons: Vec<Span>,
    /// Every how many rows.
    pub stride: usize,
    /// Rows before the first frozen one.
    pub warmup: usize,
    /// Whether to write what each expert alone would have said beside each prediction.
    pub experts: bool,
    /// The core's assumptions; which forecasters are asked is one of them.
    pub config: Config,
}

/// One line of the predictions file: what a reader would be told about `target`, from what was seen up to `origin`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prediction {
    /// The frozen row.
    pub origin: Timestamp<Local>,
    /// The instant asked about.
    pub target: Timestamp<Local>,
    /// Predicted reference - local.
    pub offset: Offset,
    /// Half-width of the 95 % interval.
    pub interval: Span,
    /// Half-width of the hard bound.
    pub bound: Span,
    /// Who answered.
    pub tier: Tier,
}

impl Prediction {
    /// What `pipeline` says about `target`; before it knows anything, the uncorrected clock without any claim.
    pub fn ask(pipeline: &Pipeline, origin: Timestamp<Local>, target: Timestamp<Local>) -> Self {
        match pipeline.estimate(target) {
            Some(e) => Self {
                origin,
                target,
                offset: e.offset,
                interval: e.interval.half_width(),
                bound: e.bound.half_width(),
                tier: e.tier,
            },
            None => {
                Self { origin, target, offset: Offset::ZERO, interval: Span::MAX, bound: Span::MAX, tier: Tier::Raw }
            }
        }
    }

    /// Appends the CSV line, line break included.
    pub fn write_to(&self, line: &mut Vec<u8>) {
        for value in [
            self.origin.as_nanos(),
            self.target.as_nanos(),
            self.offset.as_nanos(),
            self.offset.saturating_sub(self.interval).as_nanos(),
            self.offset.saturating_add(self.interval).as_nanos(),
            self.offset.saturating_sub(self.bound).as_nanos(),
            self.offset.saturating_add(self.bound).as_nanos(),
        ] {
            push_integer(line, value);
            line.push(b',');
        }
        line.extend_from_slice(self.tier.as_str().as_bytes());
        line.push(b'\n');
    }
}

/// What a replay did.
#[derive(Clone, Debug)]
pub struct Summary {
    /// Rows fed.
    pub samples: usize,
    /// Rows that the core refused, with the last refusal's text.
    pub refused: usize,
    /// Frozen rows.
    pub origins: usize,
    /// The core's counters at the end.
    pub counts: Counts,
    /// Time spent in the core: samples, timeouts and estimates; inference and output not counted.
    pub core_time: Duration,
    /// Time spent answering forecast requests.
    pub inference_time: Duration,
    /// Per horizon, against the trace's own later rows.
    pub measures: Measures,
}

/// Runs `samples` through a fresh pipeline and writes the predictions, header first, to `out`.
///
/// `seen` is shown every prediction, in the order written.
///
/// # Errors
/// When `out` cannot be written to.
pub fn replay(
    samples: &[Sample],
    options: &Options,
    forecaster: &mut dyn Forecaster,
    out: &mut dyn Write,
    mut seen: impl FnMut(&Prediction),
) -> io::Result<Summary> {
    let stride = options.stride.max(1);
    let mut pipeline = Pipeline::new(options.config);
    let mut measures = Measures::new(&options.horizons, samples);
    let mut summary = Summary {
        samples: samples.len(),
        refused: 0,
        origins: 0,
        counts: Counts::default(),
        core_time: Duration::ZERO,
        inference_time: Duration::ZERO,
        measures: Measures::default(),
    };
    let mut lines = Vec::with_capacity(options.horizons.len() * 160);
    lines.extend_from_slice(PREDICTIONS_HEADER.as_bytes());
    if options.experts {
        for index in 0..experts(&pipeline) {
            lines.extend_from_slice(format!(",{} {index}", pipeline.family(index).as_str()).as_bytes());
        }
    }
    lines.push(b'\n');
    out.write_all(&lines)?;

    // The clock is read once a block of rows, or it would be a good part of what is measured.
    let mut started = Instant::now();
    for (index, sample) in samples.iter().enumerate() {
        let now = sample.local;
        if pipeline.poll_timeout().is_some_and(|due| due <= now) {
            pipeline.handle_timeout(now);
        }
        if pipeline.handle_sample(now, sample).is_err() {
            summary.refused += 1;
        }
        while let Some(request) = pipeline.poll_request(now) {
            let asked = Instant::now();
            summary.core_time += asked.duration_since(started);
            let answer = forecaster.answer(&request);
            started = Instant::now();
            summary.inference_time += started.duration_since(asked);
            if let Some(forecast) = answer {
                // A refused forecast is counted by the core itself; the replay goes on as the daemon would.
                let _ = pipeline.handle_forecast(now, &forecast);
            }
        }
        if index < options.warmup || !(index - options.warmup).is_multiple_of(stride) {
            continue;
        }
        summary.origins += 1;
        summary.core_time += started.elapsed();
        lines.clear();
        for &horizon in &options.horizons {
            let asked = Instant::now();
            let prediction = Prediction::ask(&pipeline, now, now.saturating_add(horizon));
            summary.core_time += asked.elapsed();
            prediction.write_to(&mut lines);
            if options.experts {
                write_experts(&pipeline, prediction.target, &mut lines);
            }
            seen(&prediction);
        }
        measures.score(&pipeline, index);
        out.write_all(&lines)?;
        started = Instant::now();
    }
    summary.core_time += started.elapsed();
    summary.counts = pipeline.counts();
    summary.measures = measures;
    out.flush()?;
    Ok(summary)
}

/// How many experts `pipeline` has.
fn experts(pipeline: &Pipeline) -> usize {
    pipeline.weights(0).len()
}

/// Appends what each expert says about `target` to the line just written, in ns; nothing where it has no opinion.
fn write_experts(pipeline: &Pipeline, target: Timestamp<Local>, line: &mut Vec<u8>) {
    line.pop();
    for index in 0..experts(pipeline) {
        line.push(b',');
        if let Some(offset) = pipeline.expert(index, target) {
            push_integer(line, offset.as_nanos());
        }
    }
    line.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(count: i64) -> Vec<Sample> {
        (0..count)
            .map(|i| Sample {
                local: Timestamp::from_nanos(1_000_000_000 + i * 16_000_000_000),
                offset: Offset::from_nanos(i * 1000 + (i * 7919) % 50),
                delay: Span::from_nanos(200_000 + (i * 104_729) % 900),
                root_distance: Span::from_nanos(30_000),
                temperature: None,
                source: Default::default(),
            })
            .collect()
    }

    fn options() -> Options {
        Options {
            horizons: vec![Span::ZERO, Span::from_secs(64)],
            stride: 3,
            warmup: 10,
            experts: false,
            config: Config::default(),
        }
    }

    fn run(samples: &[Sample]) -> (String, Summary) {
        let mut out = Vec::new();
        let summary = replay(samples, &options(), &mut NoForecaster, &mut out, |_| {}).expect("in memory");
        (String::from_utf8(out).expect("ASCII"), summary)
    }

    #[test]
    fn freezes_every_stride_th_row_after_the_warm_up() {
        let samples = samples(40);
        let (text, summary) = run(&samples);
        assert_eq!(summary.origins, 10);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], PREDICTIONS_HEADER);
        assert_eq!(lines.len(), 1 + 2 * 10);
        for (i, pair) in lines[1..].chunks(2).enumerate() {
            let origin = samples[10 + 3 * i].local.as_nanos();
            assert!(pair[0].starts_with(&format!("{origin},{origin},")));
            assert!(pair[1].starts_with(&format!("{origin},{},", origin + 64_000_000_000)));
        }
    }

    #[test]
    fn the_experts_stand_beside_what_is_served() {
        let mut out = Vec::new();
        let options = Options { experts: true, ..options() };
        replay(&samples(40), &options, &mut NoForecaster, &mut out, |_| {}).expect("in memory");
        let text = String::from_utf8(out).expect("ASCII");
        let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split(',').collect()).collect();
        let plain = PREDICTIONS_HEADER.split(',').count();
        assert_eq!(lines[0][plain], "filter 0");
        assert!(lines.iter().all(|line| line.len() == lines[0].len()));
        // The first filter has an opinion, a model that nobody runs has none.
        assert!(lines[1][plain].parse::<i64>().is_ok() && lines[1][lines[1].len() - 1].is_empty());
    }

    #[test]
    fn later_rows_change_nothing_that_was_already_written() {
        let long = samples(100);
        let (whole, _) = run(&long);
        let (part, _) = run(&long[..50]);
        assert!(whole.starts_with(&part), "a prediction used a row after its origin");
        assert_eq!(run(&long).0, whole);
    }

    #[test]
    fn a_line_saturates_instead_of_wrapping() {
        let mut line = Vec::new();
        Prediction {
            origin: Timestamp::from_nanos(1),
            target: Timestamp::from_nanos(2),
            offset: Offset::from_nanos(-3),
            interval: Span::MAX,
            bound: Span::from_nanos(4),
            tier: Tier::Raw,
        }
        .write_to(&mut line);
        let text = String::from_utf8(line).expect("ASCII");
        assert_eq!(text, format!("1,2,-3,{},{},-7,1,raw\n", i64::MIN, i64::MAX - 3));
    }
}
