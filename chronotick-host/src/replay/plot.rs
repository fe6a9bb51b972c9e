//! The replay as a picture: measurements, the served offset and its 95 % interval, relative to one straight line.

use std::fmt;
use std::path::Path;

use chronotick_core::sample::Sample;
use plotters::prelude::*;

use super::Prediction;

/// Most points drawn of each kind; more only make the file large.
const MOST_POINTS: usize = 4000;

/// The picture could not be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlotError(String);

impl fmt::Display for PlotError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot write the plot: {}", self.0)
    }
}

impl std::error::Error for PlotError {}

/// Draws `samples` and the `served` predictions into the SVG file `out`.
///
/// A clock that runs at several ppm leaves the page within minutes, so everything is drawn relative to the straight line
/// through the first and the last served point.
///
/// # Errors
/// When the file cannot be written.
pub fn plot(samples: &[Sample], served: &[Prediction], title: &str, out: &Path) -> Result<(), PlotError> {
    let (Some(first), Some(last)) = (served.first(), served.last()) else {
        return Err(PlotError("there is no prediction to draw; lower --warmup".to_owned()));
    };
    let start = first.target;
    let hours = |t: chronotick_core::Timestamp<chronotick_core::Local>| t.since(start).as_secs_f64() / 3600.0;
    let span = hours(last.target).max(1e-9);
    let slope = last.offset.since(first.offset).as_secs_f64() / span;
    let relative =
        |h: f64, offset: chronotick_core::Offset| (offset.since(first.offset).as_secs_f64() - slope * h) * 1e6;

    let every = served.len().div_ceil(MOST_POINTS);
    let line: Vec<(f64, f64, f64)> = served
        .iter()
        .step_by(every.max(1))
        .map(|p| {
            let h = hours(p.target);
            (h, relative(h, p.offset), p.interval.as_secs_f64() * 1e6)
        })
        .collect();
    let every = samples.len().div_ceil(MOST_POINTS);
    let dots: Vec<(f64, f64)> = samples
        .iter()
        .filter(|s| s.local >= start)
        .step_by(every.max(1))
        .map(|s| (hours(s.local), relative(hours(s.local), s.offset)))
        .collect();
    let (low, high) = vertical_range(&line, &dots);

    let root = SVGBackend::new(out, (1200, 600)).into_drawing_area();
    let draw = || -> Result<(), Box<dyn std::error::Error>> {
        root.fill(&WHITE)?;
        let mut chart = ChartBuilder::on(&root)
            .caption(title, ("sans-serif", 20))
            .margin(12)
            .x_label_area_size(40)
            .y_label_area_size(80)
            .build_cartesian_2d(0.0..span, low..high)?;
        chart.configure_mesh().x_desc("hours").y_desc("offset from a straight line, us").draw()?;
        chart.draw_series(dots.iter().map(|&p| Circle::new(p, 1, BLACK.mix(0.25).filled())))?;
        let band: Vec<(f64, f64)> =
            line.iter().map(|&(h, y, w)| (h, y + w)).chain(line.iter().rev().map(|&(h, y, w)| (h, y - w))).collect();
        chart.draw_series([Polygon::new(band, BLUE.mix(0.2))])?;
        chart.draw_series(LineSeries::new(line.iter().map(|&(h, y, _)| (h, y)), &BLUE))?;
        root.present()?;
        Ok(())
    };
    draw().map_err(|e| PlotError(format!("{}: {e}", out.display())))
}

/// Wide enough for the served line, its interval and the middle 98 % of the measurements.
fn vertical_range(line: &[(f64, f64, f64)], dots: &[(f64, f64)]) -> (f64, f64) {
    let mut values: Vec<f64> = dots.iter().map(|d| d.1).filter(|v| v.is_finite()).collect();
    values.sort_by(f64::total_cmp);
    let cut = values.len() / 100;
    let middle = values.get(cut..values.len().saturating_sub(cut)).unwrap_or(&[]);
    let mut widths: Vec<f64> = line.iter().map(|l| l.2).filter(|w| w.is_finite()).collect();
    widths.sort_by(f64::total_cmp);
    let width = widths.get(widths.len() / 2).copied().unwrap_or(0.0);
    let ends = line.iter().flat_map(|l| [l.1 - width, l.1 + width]).chain(middle.iter().copied());
    let (low, high) =
        ends.filter(|v| v.is_finite()).fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), v| (l.min(v), h.max(v)));
    if low < high { (low - 0.05 * (high - low), high + 0.05 * (high - low)) } else { (-1.0, 1.0) }
}
