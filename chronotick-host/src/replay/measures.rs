//! What a replay can say about itself without the truth: its predictions against the trace's own later measurements.
//!
//! A later measurement carries its own error, up to delay / 2 + root distance, so the errors shown here are never below the
//! measurement noise, and only a disagreement larger than both bounds together proves a bound wrong.

use std::fmt;

use chronotick_core::pipeline::Pipeline;
use chronotick_core::sample::Sample;
use chronotick_core::units::Span;

use super::{Prediction, quantile};

/// Measures per horizon.
#[derive(Clone, Debug, Default)]
pub struct Measures {
    horizons: Vec<Tally>,
    samples: Vec<Sample>,
}

/// The figures of one horizon.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct HorizonMeasures {
    /// The horizon.
    pub horizon: Span,
    /// Predictions that a later measurement could be found for.
    pub compared: usize,
    /// Median of |predicted - measured|, in s.
    pub median_abs_error: f64,
    /// Share of the later measurements inside the 95 % interval.
    pub inside: f64,
    /// Mean full width of the 95 % interval, in s.
    pub interval_width: f64,
    /// Mean full width of the hard bound, in s.
    pub bound_width: f64,
    /// Measurements that contradict the hard bound beyond their own error bound.
    pub bound_violations: usize,
}

#[derive(Clone, Debug)]
struct Tally {
    horizon: Span,
    /// The sample last found; targets ascend, so the search goes on from there.
    cursor: usize,
    errors: Vec<f64>,
    inside: usize,
    interval: f64,
    bound: f64,
    violations: usize,
}

impl Measures {
    /// Nothing scored yet; `samples` is the whole trace.
    pub(super) fn new(horizons: &[Span], samples: &[Sample]) -> Self {
        let tally = |&horizon| Tally {
            horizon,
            cursor: 0,
            errors: Vec::new(),
            inside: 0,
            interval: 0.0,
            bound: 0.0,
            violations: 0,
        };
        Self { horizons: horizons.iter().map(tally).collect(), samples: samples.to_vec() }
    }

    /// Asks the pipeline, frozen at row `index`, about the later measurement nearest to each horizon.
    ///
    /// The prediction is made for the very instant of that measurement, so that no interpolation blurs the comparison.
    pub(super) fn score(&mut self, pipeline: &Pipeline, index: usize) {
        let origin = self.samples[index].local;
        for tally in &mut self.horizons {
            let target = origin.saturating_add(tally.horizon);
            tally.cursor = tally.cursor.max(index + 1);
            let away = |i: usize| self.samples.get(i).map(|s| s.local.since(target).abs());
            while let (Some(here), Some(next)) = (away(tally.cursor), away(tally.cursor + 1))
                && next <= here
            {
                tally.cursor += 1;
            }
            let Some(distance) = away(tally.cursor) else { continue };
            // A gap in the trace is no comparison at this horizon.
            if distance > Span::from_secs(64).max(Span::from_nanos(tally.horizon.as_nanos() / 8)) {
                continue;
            }
            let measured = self.samples[tally.cursor];
            let prediction = Prediction::ask(pipeline, origin, measured.local);
            let error = prediction.offset.since(measured.offset).abs();
            tally.errors.push(error.as_secs_f64());
            tally.inside += usize::from(error <= prediction.interval);
            tally.interval += 2.0 * prediction.interval.as_secs_f64();
            tally.bound += 2.0 * prediction.bound.as_secs_f64();
            tally.violations += usize::from(error > prediction.bound.saturating_add(measured.error_bound()));
        }
    }

    /// The figures, in the order of the options' horizons; horizons without a comparison have NaN in them.
    pub fn horizons(&self) -> Vec<HorizonMeasures> {
        self.horizons.iter().map(Tally::figures).collect()
    }
}

impl Tally {
    #[allow(clippy::cast_precision_loss, reason = "counts are far below 2^53")]
    fn figures(&self) -> HorizonMeasures {
        let mut errors = self.errors.clone();
        let n = errors.len() as f64;
        HorizonMeasures {
            horizon: self.horizon,
            compared: errors.len(),
            median_abs_error: quantile(&mut errors, 0.5),
            inside: self.inside as f64 / n,
            interval_width: self.interval / n,
            bound_width: self.bound / n,
            bound_violations: self.violations,
        }
    }
}

impl fmt::Display for Measures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:>9} {:>8} {:>12} {:>8} {:>12} {:>12} {:>12}",
            "horizon s", "compared", "median |e| us", "inside", "width95 us", "bound us", "contradicted"
        )?;
        for m in self.horizons() {
            if m.compared == 0 {
                let (horizon, none) = (m.horizon.as_secs_f64(), "-");
                writeln!(f, "{horizon:>9} {:>8} {none:>13} {none:>8} {none:>12} {none:>12} {none:>12}", 0)?;
                continue;
            }
            writeln!(
                f,
                "{:>9} {:>8} {:>13.2} {:>8.3} {:>12.2} {:>12.1} {:>12}",
                m.horizon.as_secs_f64(),
                m.compared,
                m.median_abs_error * 1e6,
                m.inside,
                m.interval_width * 1e6,
                m.bound_width * 1e6,
                m.bound_violations
            )?;
        }
        Ok(())
    }
}
