//! A recording replayed, frozen, and held against its witness.

use chronotick_core::pipeline::{Config, Pipeline};
use chronotick_core::sample::{Sample, SampleError};
use chronotick_core::units::{Local, Offset, Span, Timestamp};

use super::course::Course;
use super::witness::{Baseline, Witness};
use super::{BaselineFigures, Coverage, HorizonFigures, Kind, Options, Point, Report, SourceFigures};
use crate::replay::allan::of_points;
use crate::replay::{Forecaster, NoForecaster, quantile};
use crate::trace::Trace;

/// Nominal coverages, and the normal quantiles that scale a 95 % interval to them.
const LEVELS: [(f64, f64); 6] =
    [(0.5, 0.6745), (0.68, 0.9945), (0.8, 1.2816), (0.9, 1.6449), (0.95, 1.96), (0.99, 2.5758)];
/// Points of each curve at most.
const POINTS: usize = 1500;
/// Events that are listed at most.
const EVENTS: usize = 200;
/// Fewer exchanges than this are no recording.
const FEWEST: usize = 24;

/// Why there is no report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TooShort {
    /// Exchanges that there are.
    pub exchanges: usize,
}

impl std::fmt::Display for TooShort {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} exchanges are too few for a report, which needs {FEWEST}: record for longer with `chronotick record`",
            self.exchanges
        )
    }
}

impl std::error::Error for TooShort {}

/// Errors of one predictor at one horizon, NaN where it had nothing to say.
type Errors = Vec<f64>;

/// What is gathered per horizon.
#[derive(Default)]
struct Tally {
    errors: Errors,
    intervals: Vec<f64>,
    /// Standard deviations of the witness.
    doubts: Vec<f64>,
    bounds: Vec<f64>,
    contradicted: usize,
    rivals: Vec<Errors>,
}

/// Replays `trace` and judges it. `truth` has instants and true offsets, ascending; `progress` is told the rows done.
///
/// # Errors
/// [`TooShort`].
pub fn gather(
    trace: &Trace,
    truth: Option<&[(Timestamp<Local>, Offset)]>,
    options: &Options,
    forecaster: &mut dyn Forecaster,
    mut progress: impl FnMut(usize),
) -> Result<Report, TooShort> {
    let samples = &trace.samples;
    let (Some(first), Some(last), true) = (samples.first(), samples.last(), samples.len() >= FEWEST) else {
        return Err(TooShort { exchanges: samples.len() });
    };
    let used = used(samples, options.config);
    let witness = Witness::new(&used, truth);
    let hours = |at: Timestamp<Local>| at.since(first.local).as_secs_f64() / 3600.0;
    let span = last.local.since(first.local).as_secs_f64();
    let warmup = options.warmup.min(samples.len() / 4);
    let stride = (samples.len() - warmup).div_ceil(options.origins.max(1)).max(1);
    let every = samples.len().div_ceil(POINTS).max(1);

    let mut pipeline = Pipeline::new(options.config);
    let mut plain = Pipeline::new(Config { forecasters: [false, false], ..options.config });
    let mut course = Course::default();
    let mut tallies: Vec<Tally> = options.horizons.iter().map(|_| Tally::default()).collect();
    let mut deviations = Vec::new();
    let mut refused = 0;
    let (mut curve, mut warmth) = (Vec::new(), Vec::new());
    let mut heard = 0;
    for (index, sample) in samples.iter().enumerate() {
        progress(index);
        heard += usize::from(used.get(heard) == Some(sample));
        course.pass(&pipeline, samples.get(index.wrapping_sub(1)), sample, first.local);
        if let Err(why) = feed(&mut pipeline, sample, forecaster) {
            refused += 1;
            course.tell(hours(sample.local), Kind::Refused, format!("an exchange was not used: {why}"));
        }
        // Without models nothing else differs.
        let _ = feed(&mut plain, sample, &mut NoForecaster);
        course.look(&pipeline, sample.local, first.local);
        if index % every == 0
            && let Some(estimate) = pipeline.estimate(sample.local)
        {
            curve.push(Point {
                hours: hours(sample.local),
                offset: estimate.offset,
                interval: known(estimate.interval.half_width()),
                bound: known(estimate.bound.half_width()),
            });
        }
        if index < warmup || !(index - warmup).is_multiple_of(stride) {
            continue;
        }
        if let Some(celsius) = sample.temperature {
            warmth.push((celsius.value(), pipeline.rate().as_ppm()));
        }
        let frozen: Vec<_> = Baseline::ALL.iter().map(|baseline| baseline.freeze(&used[..heard])).collect();
        for (tally, &horizon) in tallies.iter_mut().zip(&options.horizons) {
            let target = sample.local.saturating_add(horizon);
            let (Some(seen), Some(estimate)) = (witness.at(target), pipeline.estimate(target)) else { continue };
            let error = |offset: Offset| offset.since(seen.offset).abs().as_secs_f64();
            let (interval, bound) = (known(estimate.interval.half_width()), known(estimate.bound.half_width()));
            deviations.push(seen.deviation);
            tally.errors.push(error(estimate.offset));
            tally.intervals.push(interval);
            tally.doubts.push(seen.deviation);
            tally.bounds.push(bound);
            tally.contradicted += usize::from(error(estimate.offset) > bound + seen.bound);
            let rivals = [plain.estimate(target).map(|e| error(e.offset))]
                .into_iter()
                .chain(frozen.iter().map(|f| f.as_ref().map(|f| error(f(target)))));
            tally.rivals.resize(1 + frozen.len(), Vec::new());
            for (list, rival) in tally.rivals.iter_mut().zip(rivals) {
                list.push(rival.unwrap_or(f64::NAN));
            }
        }
    }
    course.end(hours(last.local));
    let phase = |at: Timestamp<Local>, offset: Offset| {
        (at.since(first.local).as_secs_f64(), offset.since(first.offset).as_secs_f64())
    };
    let phases: Vec<(f64, f64)> = match truth {
        Some(truth) => truth.iter().map(|&(at, offset)| phase(at, offset)).collect(),
        None => used.iter().map(|s| phase(s.local, s.offset)).collect(),
    };
    let horizons = options.horizons.iter().zip(tallies).map(|(&horizon, tally)| figures_of(horizon, tally)).collect();
    let dots = used.iter().step_by(every).filter_map(|s| Some((hours(s.local), witness.at(s.local)?.offset)));
    Ok(Report {
        title: options.title.clone(),
        exchanges: samples.len(),
        refused,
        span_s: span,
        spacing_s: witness.spacing(),
        sources: sources(trace),
        witness: if truth.is_some() { "truth" } else { "hindsight" },
        witness_deviation_ns: quantile(&mut deviations, 0.5) * 1e9,
        horizons,
        rate_ppm: mean_rate(&used),
        allan: of_points(&phases),
        ppm_per_degree: slope(&warmth),
        tiers: course.shares(),
        events_left_out: course.events.len().saturating_sub(EVENTS),
        events: course.events.into_iter().take(EVENTS).collect(),
        counts: pipeline.counts(),
        daemon: None,
        dots: dots.collect(),
        curve,
        warmth,
        tier_spans: course.spans,
    })
}

/// The exchanges that the core believes: what it refuses (an outvoted server) is neither witness nor baseline.
fn used(samples: &[Sample], config: Config) -> Vec<Sample> {
    let mut pipeline = Pipeline::new(Config { forecasters: [false, false], ..config });
    samples.iter().filter(|s| feed(&mut pipeline, s, &mut NoForecaster).is_ok()).copied().collect()
}

/// In ppm, from the first exchange to the last.
fn mean_rate(used: &[Sample]) -> f64 {
    let (Some(first), Some(last)) = (used.first(), used.last()) else { return 0.0 };
    last.offset.since(first.offset).as_secs_f64() / last.local.since(first.local).as_secs_f64().max(1e-9) * 1e6
}

/// One row through a pipeline, its questions answered at once.
fn feed(pipeline: &mut Pipeline, sample: &Sample, forecaster: &mut dyn Forecaster) -> Result<(), SampleError> {
    let now = sample.local;
    if pipeline.poll_timeout().is_some_and(|due| due <= now) {
        pipeline.handle_timeout(now);
    }
    let outcome = pipeline.handle_sample(now, sample);
    while let Some(request) = pipeline.poll_request(now) {
        if let Some(forecast) = forecaster.answer(&request) {
            // A refused forecast is counted by the core itself.
            let _ = pipeline.handle_forecast(now, &forecast);
        }
    }
    outcome
}

fn figures_of(horizon: Span, tally: Tally) -> HorizonFigures {
    let Tally { mut errors, mut intervals, doubts, mut bounds, contradicted, rivals } = tally;
    let count = (errors.len() as f64).max(1.0);
    let coverage = LEVELS.map(|(nominal, quantile)| {
        let claims = intervals.iter().zip(&doubts).map(|(half, doubt)| quantile * (half / 1.96).hypot(*doubt));
        let inside = errors.iter().zip(claims).filter(|(error, claim)| **error <= *claim).count();
        Coverage { nominal, observed: if errors.is_empty() { f64::NAN } else { inside as f64 / count } }
    });
    let names = ["no models"].into_iter().chain(Baseline::ALL.map(Baseline::name));
    let median = quantile(&mut errors, 0.5);
    let baselines = names.zip(rivals).map(|(name, mut errors)| {
        errors.retain(|error| error.is_finite());
        let own = quantile(&mut errors, 0.5);
        BaselineFigures { name, median_error_ns: own * 1e9, skill: 1.0 - median / own }
    });
    HorizonFigures {
        horizon_s: horizon.as_secs_f64(),
        compared: errors.len(),
        median_error_ns: median * 1e9,
        p95_error_ns: quantile(&mut errors, 0.95) * 1e9,
        interval95_ns: quantile(&mut intervals, 0.5) * 1e9,
        bound_ns: quantile(&mut bounds, 0.5) * 1e9,
        contradicted,
        coverage: coverage.to_vec(),
        baselines: baselines.collect(),
    }
}

fn sources(trace: &Trace) -> Vec<SourceFigures> {
    let figures = trace.sources.iter().enumerate().map(|(index, name)| {
        let mut delays: Vec<i64> =
            trace.samples.iter().filter(|s| usize::from(s.source.0) == index).map(|s| s.delay.as_nanos()).collect();
        delays.sort_unstable();
        let median_delay_ns = delays.get(delays.len() / 2).copied().unwrap_or(0);
        SourceFigures { name: name.clone(), exchanges: delays.len(), median_delay_ns }
    });
    figures.collect()
}

/// In s; infinite when nothing is known.
fn known(half: Span) -> f64 {
    if half == Span::MAX { f64::INFINITY } else { half.as_secs_f64() }
}

/// Least squares; `None` where the temperature never changes by a degree.
fn slope(points: &[(f64, f64)]) -> Option<f64> {
    let (low, high) = points.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), p| (l.min(p.0), h.max(p.0)));
    if points.len() < 8 || high - low < 1.0 {
        return None;
    }
    let count = points.len() as f64;
    let (x, y) = (points.iter().map(|p| p.0).sum::<f64>() / count, points.iter().map(|p| p.1).sum::<f64>() / count);
    let spread: f64 = points.iter().map(|p| (p.0 - x).powi(2)).sum();
    Some(points.iter().map(|p| (p.0 - x) * (p.1 - y)).sum::<f64>() / spread)
}
