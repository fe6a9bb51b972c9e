//! `chronotick report`: what a recording says about a clock, as numbers and as one page of HTML.
//!
//! The recording is replayed through the same core as the daemon's. At up to [`Options::origins`] rows the state is frozen, and
//! what it says about each horizon is later held against a witness (`witness`): the truth where it is known, else the
//! exchanges on both sides of the target. The baselines are frozen at the same rows and judged by the same witness.

mod figures;
mod page;
mod witness;

use chronotick_core::fallback::Tier;
use chronotick_core::pipeline::{Config, Counts, Pipeline};
use chronotick_core::sample::Sample;
use chronotick_core::units::{Local, Offset, Span, Timestamp};
use serde::Serialize;

pub use page::html;

use self::witness::{Baseline, Witness};
use crate::replay::Forecaster;
use crate::replay::allan::{AllanPoint, of_points};
use crate::runner::Status;
use crate::runner::journal::{Event, Served};
use crate::trace::Trace;

/// Nominal coverages, and the normal quantiles that scale a 95 % interval to them.
const LEVELS: [(f64, f64); 6] =
    [(0.5, 0.6745), (0.68, 0.9945), (0.8, 1.2816), (0.9, 1.6449), (0.95, 1.96), (0.99, 2.5758)];
/// Points of each curve at most.
const POINTS: usize = 1500;
/// Events that are listed at most.
const EVENTS: usize = 200;
/// Looks between two exchanges for a change of tier, at most.
const LOOKS: i64 = 32;
/// Fewer exchanges than this are no recording.
const FEWEST: usize = 24;

/// What to look at.
#[derive(Clone, Debug)]
pub struct Options {
    /// What the report calls the recording.
    pub title: String,
    /// How far ahead of each frozen row.
    pub horizons: Vec<Span>,
    /// Rows before the first frozen one.
    pub warmup: usize,
    /// Rows that are frozen, at most.
    pub origins: usize,
    /// The core's assumptions.
    pub config: Config,
}

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

/// The figures of a recording. Durations carry their unit in the name; errors are magnitudes against the witness.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// What the recording is called.
    pub title: String,
    /// Exchanges.
    pub exchanges: usize,
    /// Of them refused by the core.
    pub refused: usize,
    /// From the first to the last, in s.
    pub span_s: f64,
    /// Usual interval between two, in s.
    pub spacing_s: f64,
    /// The sources.
    pub sources: Vec<SourceFigures>,
    /// "truth" or "hindsight": what errors are measured against.
    pub witness: &'static str,
    /// Usual standard deviation of that witness, in ns.
    pub witness_deviation_ns: f64,
    /// Errors, claims and baselines by horizon.
    pub horizons: Vec<HorizonFigures>,
    /// Mean rate, in ppm.
    pub rate_ppm: f64,
    /// Overlapping Allan deviation of the exchanges' offsets (of the truth where it is known).
    pub allan: Vec<AllanPoint>,
    /// Change of the rate with temperature, in ppm per degree; `null` without a sensor.
    pub ppm_per_degree: Option<f64>,
    /// Share of the time in each tier.
    pub tiers: Vec<TierShare>,
    /// Changes of tier, gaps and refusals, in the order of time.
    pub events: Vec<Happening>,
    /// Events left out of the list.
    pub events_left_out: usize,
    /// The core's counters.
    pub counts: Counts,
    /// What the daemon says of itself, when the report is of a running one.
    pub daemon: Option<Status>,
    #[serde(skip)]
    curve: Vec<Point>,
    #[serde(skip)]
    dots: Vec<(f64, Offset)>,
    #[serde(skip)]
    warmth: Vec<(f64, f64)>,
    #[serde(skip)]
    tier_spans: Vec<(f64, f64, Tier)>,
}

/// One source of a recording.
#[derive(Clone, Debug, Serialize)]
pub struct SourceFigures {
    /// Its name; may be empty.
    pub name: String,
    /// Its exchanges.
    pub exchanges: usize,
    /// Their median delay, in ns.
    pub median_delay_ns: i64,
}

/// The figures of one horizon.
#[derive(Clone, Debug, Serialize)]
pub struct HorizonFigures {
    /// The horizon, in s.
    pub horizon_s: f64,
    /// Frozen rows that could be judged.
    pub compared: usize,
    /// Median error, in ns.
    pub median_error_ns: f64,
    /// 95 % quantile of the error, in ns.
    pub p95_error_ns: f64,
    /// Median half-width of the 95 % interval, in ns.
    pub interval95_ns: f64,
    /// Median half-width of the hard bound, in ns.
    pub bound_ns: f64,
    /// Errors beyond the hard bound and what the witness itself leaves open.
    pub contradicted: usize,
    /// Observed coverage by nominal coverage. Only 0.95 is claimed; the others scale that interval like a normal one. What the
    /// witness itself does not know is added to the interval in quadrature.
    pub coverage: Vec<Coverage>,
    /// The baselines.
    pub baselines: Vec<BaselineFigures>,
}

/// How often an interval held.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Coverage {
    /// How often it should.
    pub nominal: f64,
    /// How often it did.
    pub observed: f64,
}

/// A baseline at one horizon.
#[derive(Clone, Debug, Serialize)]
pub struct BaselineFigures {
    /// What it does.
    pub name: &'static str,
    /// Its median error, in ns.
    pub median_error_ns: f64,
    /// 1 - (median error of ChronoTick / its own): above 0, ChronoTick is better.
    pub skill: f64,
}

/// How long a tier answered.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct TierShare {
    /// The tier.
    pub tier: Tier,
    /// Its share of the time.
    pub share: f64,
}

/// Something that happened.
#[derive(Clone, Debug, Serialize)]
pub struct Happening {
    /// When, in s since the first exchange.
    pub at_s: f64,
    /// Which kind of event.
    pub kind: Kind,
    /// What.
    pub what: String,
}

/// Which kind of event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// The tier changed.
    Tier,
    /// An exchange was not used.
    Refused,
    /// The counter was disturbed.
    Disruption,
}

/// What was served, or would have been; in s.
#[derive(Clone, Copy, Debug)]
struct Point {
    hours: f64,
    offset: Offset,
    interval: f64,
    bound: f64,
}

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

/// Replays `trace` and judges it. `truth` has instants and true offsets in ns; `progress` is told the rows done.
///
/// # Errors
/// [`TooShort`].
pub fn gather(
    trace: &Trace,
    truth: Option<&[(i64, i64)]>,
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
        let _ = feed(&mut plain, sample, &mut crate::replay::NoForecaster);
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
        Some(truth) => truth.iter().map(|&(at, x)| phase(Timestamp::from_nanos(at), Offset::from_nanos(x))).collect(),
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

impl Report {
    /// Adds what a running daemon says: its status, and what it really served and when its tier changed in place of what the
    /// replay made of it. `first` is the first exchange.
    pub fn of_daemon(&mut self, status: Status, served: &[Served], changes: &[Event], first: Timestamp<Local>) {
        let since = |local_ns: i64| Timestamp::from_nanos(local_ns).since(first).as_secs_f64() / 3600.0;
        let known = |half: Option<i64>| half.map_or(f64::INFINITY, |half| half as f64 * 1e-9);
        let points: Vec<Point> = served
            .iter()
            .filter(|served| served.local_ns >= first.as_nanos())
            .filter_map(|served| {
                Some(Point {
                    hours: since(served.local_ns),
                    offset: Offset::from_nanos(served.offset_ns?),
                    interval: known(served.interval95_ns),
                    bound: known(served.bound_ns),
                })
            })
            .collect();
        if points.len() > 2 {
            self.curve = points;
            let mut course = Course::default();
            for point in served.iter().filter(|served| served.local_ns >= first.as_nanos()) {
                if course.tier != Some(point.tier) {
                    course.end(since(point.local_ns));
                    (course.tier, course.since) = (Some(point.tier), since(point.local_ns));
                }
            }
            course.end(served.last().map_or(0.0, |last| since(last.local_ns)));
            self.tiers = course.shares();
            self.tier_spans = course.spans;
        }
        self.events.retain(|event| event.kind != Kind::Tier);
        self.events.extend(changes.iter().filter_map(|event| {
            let (local_ns, kind, what) = match event {
                Event::Tier(t) => (t.local_ns, Kind::Tier, format!("{} to {}: {}", t.from, t.to, t.reason)),
                Event::Disruption(d) => (d.local_ns, Kind::Disruption, d.what.clone()),
                _ => return None,
            };
            // What was before the first exchange is told as of it.
            Some(Happening { at_s: (since(local_ns) * 3600.0).max(0.0), kind, what })
        }));
        self.events.sort_by(|a, b| a.at_s.total_cmp(&b.at_s));
        self.daemon = Some(status);
    }
}

/// The tiers over time, and what else happened.
#[derive(Default)]
struct Course {
    tier: Option<Tier>,
    since: f64,
    spans: Vec<(f64, f64, Tier)>,
    events: Vec<Happening>,
}

impl Course {
    /// The time between two exchanges, in which a tier may fall.
    fn pass(&mut self, pipeline: &Pipeline, before: Option<&Sample>, sample: &Sample, first: Timestamp<Local>) {
        let Some(before) = before else { return };
        let gap = sample.local.since(before.local);
        if gap < pipeline.config().holdover_after {
            return;
        }
        for look in 1..=LOOKS {
            let at = before.local.saturating_add(Span::from_nanos(gap.as_nanos() / (LOOKS + 1) * look));
            self.look(pipeline, at, first);
        }
    }

    fn look(&mut self, pipeline: &Pipeline, at: Timestamp<Local>, first: Timestamp<Local>) {
        let hours = at.since(first).as_secs_f64() / 3600.0;
        let (tier, reason) =
            pipeline.estimate(at).map_or((Tier::Raw, String::new()), |e| (e.tier, e.reason.to_string()));
        if self.tier == Some(tier) {
            return;
        }
        if let Some(from) = self.tier {
            self.tell(hours, Kind::Tier, format!("{from} to {tier}: {reason}"));
        }
        self.end(hours);
        (self.tier, self.since) = (Some(tier), hours);
    }

    fn tell(&mut self, hours: f64, kind: Kind, what: String) {
        self.events.push(Happening { at_s: hours * 3600.0, kind, what });
    }

    fn end(&mut self, hours: f64) {
        if let Some(tier) = self.tier.take()
            && hours > self.since
        {
            self.spans.push((self.since, hours, tier));
        }
    }

    fn shares(&self) -> Vec<TierShare> {
        let total: f64 = self.spans.iter().map(|(from, until, _)| until - from).sum();
        let share = |tier| {
            let own = self.spans.iter().filter(|span| span.2 == tier).map(|(from, until, _)| until - from).sum::<f64>();
            TierShare { tier, share: own / total.max(1e-12) }
        };
        Tier::ALL.into_iter().map(share).filter(|share| share.share > 0.0).collect()
    }
}

/// The exchanges that the core believes: what it refuses (an outvoted server) is neither witness nor baseline.
fn used(samples: &[Sample], config: Config) -> Vec<Sample> {
    let mut pipeline = Pipeline::new(Config { forecasters: [false, false], ..config });
    samples.iter().filter(|s| feed(&mut pipeline, s, &mut crate::replay::NoForecaster).is_ok()).copied().collect()
}

/// In ppm, from the first exchange to the last.
fn mean_rate(used: &[Sample]) -> f64 {
    let (Some(first), Some(last)) = (used.first(), used.last()) else { return 0.0 };
    last.offset.since(first.offset).as_secs_f64() / last.local.since(first.local).as_secs_f64().max(1e-9) * 1e6
}

/// One row through a pipeline, its questions answered at once.
fn feed(
    pipeline: &mut Pipeline,
    sample: &Sample,
    forecaster: &mut dyn Forecaster,
) -> Result<(), chronotick_core::sample::SampleError> {
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

/// NaN of nothing.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a rank below the length")]
fn quantile(values: &mut [f64], share: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get((share * values.len() as f64) as usize).or(values.last()).copied().unwrap_or(f64::NAN)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::kinds::Kind;
    use crate::sim::world::World;

    fn report(seed: u64, known: bool) -> Report {
        let recording = World::new(&Kind::RoomLan.params(seed), seed).record(6.0 * 3600.0);
        let truth: Vec<(i64, i64)> =
            recording.truth.iter().map(|t| (t.local.as_nanos(), t.offset.as_nanos())).collect();
        let mut samples = recording.samples;
        // An hour without the network.
        samples.retain(|s| !(7200..10_800).contains(&(s.local.as_nanos() / 1_000_000_000)));
        let trace = Trace { sources: vec!["a<b>&".to_owned()], samples };
        let options = Options {
            title: "a <test> & its \"title\"".to_owned(),
            horizons: [0, 64, 1024].map(Span::from_secs).to_vec(),
            warmup: 64,
            origins: 300,
            config: Config { forecasters: [false, false], ..Config::default() },
        };
        let truth = known.then_some(&truth[..]);
        gather(&trace, truth, &options, &mut crate::replay::NoForecaster, |_| {}).expect("long enough")
    }

    #[test]
    fn against_the_truth_it_is_calibrated_and_better_than_holding() {
        let seed = 3;
        let report = report(seed, true);
        for figures in &report.horizons {
            assert!(figures.compared > 100, "seed {seed}: {figures:?}");
            assert_eq!(figures.contradicted, 0, "seed {seed}: {figures:?}");
            let observed = figures.coverage.iter().find(|c| c.nominal == 0.95).expect("it is one").observed;
            // A young clock with a gap: how well it is calibrated is not what is tested here.
            assert!(observed > 0.7, "seed {seed}: {figures:?}");
            assert!(figures.coverage.windows(2).all(|pair| pair[0].observed <= pair[1].observed));
        }
        let hold = report.horizons[2].baselines.iter().find(|b| b.name.contains("hold")).expect("it is one");
        assert!(hold.skill > 0.5, "seed {seed}: {hold:?}");
        // Without models the second pipeline is the same.
        assert_eq!(report.horizons[1].baselines[0].skill, 0.0);
    }

    #[test]
    fn an_hour_without_the_network_is_holdover() {
        let seed = 3;
        let report = report(seed, false);
        assert_eq!(report.witness, "hindsight");
        let holdover = report.tiers.iter().find(|t| t.tier == Tier::Holdover).expect("an hour of it");
        assert!((holdover.share - 1.0 / 6.0).abs() < 0.03, "seed {seed}: {holdover:?}");
        assert!(report.events.iter().any(|e| e.what.contains("to holdover")), "{:?}", report.events);
        assert!(report.allan.len() > 5);
        assert!((report.tiers.iter().map(|t| t.share).sum::<f64>() - 1.0).abs() < 1e-9);
    }

    #[test]
    fn the_page_stands_alone_and_nothing_in_it_is_markup_from_outside() {
        let report = report(3, true);
        let page = html(&report, "2026-01-01 00:00:00");
        assert!(page.starts_with("<!doctype html>"));
        for forbidden in ["http://", "https://", "<script", "a <test>", "a<b>", "NaN", "url("] {
            let found = page.replace("http://www.w3.org/2000/svg", "").find(forbidden).map(|at| page.get(at..at + 60));
            assert!(found.is_none(), "{forbidden}: {found:?}");
        }
        let (figures, told) = (page.matches("<svg").count(), page.matches("role=\"img\" aria-label=").count());
        assert!(figures >= 6 && figures == told, "{figures} {told}");
        assert!(page.contains("prefers-color-scheme: dark"));
        assert!(!page.contains("#010203"), "a colour was not replaced");
        assert!(serde_json::to_string(&report).expect("JSON").contains("\"horizons\""));
    }

    #[test]
    fn too_little_is_told() {
        let trace = Trace::default();
        let options =
            Options { title: String::new(), horizons: vec![], warmup: 0, origins: 1, config: Config::default() };
        let error = gather(&trace, None, &options, &mut crate::replay::NoForecaster, |_| {}).expect_err("empty");
        assert!(error.to_string().contains("chronotick record"));
    }
}
