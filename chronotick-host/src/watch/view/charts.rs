//! The two charts: the served offset, and the residuals.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::style::Color;
use ratatui::symbols::Marker;
use ratatui::text::Line;
use ratatui::widgets::{Axis, Block, Borders, Chart, Dataset, GraphType, Paragraph};

use super::super::state::State;
use super::Look;
use crate::replay::quantile;
use crate::words;

/// The served offset less the straight line that fits it best, with both uncertainties.
///
/// The vertical scale is asinh(y / s) with s half the usual 95 % interval: linear near the middle and logarithmic beyond, or
/// an interval of microseconds would be invisible beside a bound of milliseconds.
pub(super) fn offset(frame: &mut Frame<'_>, area: Rect, state: &State, look: &Look) {
    let curve = Curve::of(state, look);
    let title = match &curve {
        Some(curve) => format!("offset from {:+.4} ppm ", curve.rate * 1e6),
        None => "offset ".to_owned(),
    };
    let block = titled(title, look);
    let Some(curve) = curve else {
        frame.render_widget(Paragraph::new("no corrected offset yet").block(block), area);
        return;
    };
    let scaled = |t: f64, y: f64| (t, (y / curve.unit).asinh());
    let side = |sign: f64, which: fn(&Point) -> f64| -> Vec<(f64, f64)> {
        let known = curve.points.iter().filter(|point| which(point).is_finite());
        known.map(|point| scaled(point.t, point.y + sign * which(point))).collect()
    };
    let middle: Vec<_> = curve.points.iter().map(|point| scaled(point.t, point.y)).collect();
    let intervals = [side(1.0, |p| p.interval), side(-1.0, |p| p.interval)];
    let bounds = [side(1.0, |p| p.bound), side(-1.0, |p| p.bound)];
    let all = || middle.iter().chain(intervals.iter().flatten()).chain(bounds.iter().flatten());
    let top = all().map(|&(_, y)| y.abs()).fold(1.0, f64::max) * 1.05;
    let mut datasets: Vec<_> = bounds.iter().map(|data| scatter(data, look.dim())).collect();
    datasets.extend(intervals.iter().map(|data| line(data, look.colour(Color::Cyan))));
    datasets.push(line(&middle, look.colour(Color::Green)));
    let label = |y: f64| Line::raw(words::signed(nanos(curve.unit * y.sinh())));
    let chart = Chart::new(datasets).block(block).legend_position(None).x_axis(time_axis(curve.span, look)).y_axis(
        Axis::default().bounds([-top, top]).labels([label(-top), Line::raw("0"), label(top)]).style(look.dim()),
    );
    frame.render_widget(chart, area);
}

/// Each exchange less what was predicted for it, with the interval that was predicted.
pub(super) fn residuals(frame: &mut Frame<'_>, area: Rect, state: &State, look: &Look) {
    let (beyond, all) = state.contradicted();
    let share = if all == 0 { String::new() } else { format!("{beyond} of {all} beyond bound ") };
    let block = titled(format!("residuals  {share}"), look);
    let now = state.newest.as_ref().map_or(i64::MIN, |newest| newest.utc_ns);
    let limit = look.span.seconds();
    // What the selection refused says nothing about the clock.
    let judged = state.exchanges.iter().filter(|e| e.refused.is_none()).filter_map(|e| {
        let t = e.utc_ns.saturating_sub(now) as f64 * 1e-9;
        Some((t, e.residual_ns? as f64, e.interval95_ns.map_or(f64::NAN, |half| half as f64)))
    });
    let judged: Vec<_> = judged.filter(|(t, ..)| -t <= limit && *t < 60.0).collect();
    let Some(span) = judged.iter().map(|(t, ..)| -t).reduce(f64::max) else {
        frame.render_widget(Paragraph::new("no exchange yet that was predicted").block(block), area);
        return;
    };
    let dots: Vec<_> = judged.iter().map(|&(t, residual, _)| (t, residual)).collect();
    let side = |sign: f64| -> Vec<(f64, f64)> {
        judged.iter().filter(|j| j.2.is_finite()).map(|&(t, _, half)| (t, sign * half)).collect()
    };
    let intervals = [side(1.0), side(-1.0)];
    let typical = usual(judged.iter().map(|j| j.2)).unwrap_or(1.0);
    // A single exchange far out must not flatten the rest.
    let mut misses: Vec<f64> = judged.iter().map(|j| j.1.abs()).collect();
    let most = quantile(&mut misses, 0.98);
    let top = most.max(1.3 * typical).max(1.0) * 1.05;
    let mut datasets: Vec<_> = intervals.iter().map(|data| line(data, look.colour(Color::Cyan))).collect();
    datasets.push(Dataset::default().marker(Marker::Dot).style(look.colour(Color::Yellow)).data(&dots));
    let label = |y: f64| Line::raw(words::signed(nanos(y)));
    let chart = Chart::new(datasets).block(block).legend_position(None).x_axis(time_axis(span, look)).y_axis(
        Axis::default().bounds([-top, top]).labels([label(-top), Line::raw("0"), label(top)]).style(look.dim()),
    );
    frame.render_widget(chart, area);
}

/// What the left chart shows.
struct Curve {
    points: Vec<Point>,
    /// Slope of the line taken off, in s/s.
    rate: f64,
    /// Where the scale turns from linear to logarithmic, in ns.
    unit: f64,
    /// How far back it goes, in s.
    span: f64,
}

/// At `t` s (not above 0), all else in ns; what is unknown is infinite.
struct Point {
    t: f64,
    y: f64,
    interval: f64,
    bound: f64,
}

impl Curve {
    fn of(state: &State, look: &Look) -> Option<Self> {
        let points = state.points();
        let newest = points.iter().rev().find(|p| p.offset_ns.is_some())?;
        let base = newest.offset_ns?;
        let limit = look.span.seconds();
        let known = |half: Option<i64>| half.map_or(f64::INFINITY, |half| half as f64);
        let mut shown: Vec<Point> = points
            .iter()
            .filter_map(|p| {
                let t = p.utc_ns.saturating_sub(newest.utc_ns) as f64 * 1e-9;
                let y = p.offset_ns?.saturating_sub(base) as f64;
                let point = Point { t, y, interval: known(p.interval95_ns), bound: known(p.bound_ns) };
                (-t <= limit).then_some(point)
            })
            .collect();
        let count = shown.len() as f64;
        let (mean_t, mean_y) =
            (shown.iter().map(|p| p.t).sum::<f64>() / count, shown.iter().map(|p| p.y).sum::<f64>() / count);
        let spread: f64 = shown.iter().map(|p| (p.t - mean_t).powi(2)).sum();
        let common: f64 = shown.iter().map(|p| (p.t - mean_t) * (p.y - mean_y)).sum();
        let slope = if spread > 0.0 { common / spread } else { 0.0 };
        shown.iter_mut().for_each(|p| p.y -= mean_y + slope * (p.t - mean_t));
        let interval = usual(shown.iter().map(|p| p.interval)).unwrap_or(1_000.0);
        let span = shown.first().map_or(0.0, |p| -p.t);
        Some(Self { rate: slope * 1e-9, unit: (interval / 2.0).max(1.0), span, points: shown })
    }
}

fn titled(title: String, look: &Look) -> Block<'static> {
    Block::new().borders(Borders::TOP).border_style(look.dim()).title(Line::styled(title, look.strong()))
}

/// From `span` s ago to now.
fn time_axis(span: f64, look: &Look) -> Axis<'static> {
    let span = span.max(1.0);
    let labels = [format!("-{}", words::duration(span)), "now".to_owned()];
    Axis::default().bounds([-span, 0.0]).labels(labels.map(Line::raw)).style(look.dim())
}

fn line(data: &[(f64, f64)], style: ratatui::style::Style) -> Dataset<'_> {
    Dataset::default().marker(Marker::Braille).graph_type(GraphType::Line).style(style).data(data)
}

fn scatter(data: &[(f64, f64)], style: ratatui::style::Style) -> Dataset<'_> {
    Dataset::default().marker(Marker::Braille).graph_type(GraphType::Scatter).style(style).data(data)
}

/// The median of those that are finite, if there is one.
fn usual(values: impl Iterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.filter(|value| value.is_finite()).collect();
    (!values.is_empty()).then(|| quantile(&mut values, 0.5))
}

#[expect(clippy::cast_possible_truncation, reason = "float to integer saturates")]
fn nanos(value: f64) -> i64 {
    value.round() as i64
}
