//! `chronotick report`: what a recording says about a clock, as numbers and as one page of HTML.
//!
//! The recording is replayed through the same core as the daemon's. At up to [`Options::origins`] rows the state is frozen, and
//! what it says about each horizon is later held against a witness (`witness`): the truth where it is known, else the
//! exchanges on both sides of the target. The baselines are frozen at the same rows and judged by the same witness.

mod course;
mod figures;
mod gather;
mod page;
mod witness;

use chronotick_core::fallback::Tier;
use chronotick_core::pipeline::{Config, Counts};
use chronotick_core::units::{Local, Offset, Span, Timestamp};
use serde::Serialize;

pub use gather::{TooShort, gather};
pub use page::html;

use self::course::Course;
use crate::replay::allan::AllanPoint;
use crate::runner::Status;
use crate::runner::journal::{Event, Served};

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::kinds::Kind;
    use crate::sim::world::World;
    use crate::trace::Trace;

    fn report(seed: u64, known: bool) -> Report {
        let recording = World::new(&Kind::RoomLan.params(seed), seed).record(6.0 * 3600.0);
        let truth: Vec<_> = recording.truth.iter().map(|t| (t.local, t.offset)).collect();
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
