//! The figures as SVG, drawn in stand-in colours that the page replaces by its own, for light and for dark.

use std::error::Error;

use chronotick_core::fallback::Tier;
use plotters::coord::Shift;
use plotters::prelude::*;

use super::{HorizonFigures, Point, Report};
use crate::replay::quantile;

/// Stand-ins and what they become. None is a colour that anybody would draw with.
const INK: RGBColor = RGBColor(1, 2, 3);
const GRID: RGBColor = RGBColor(1, 2, 4);
const PAPER: RGBColor = RGBColor(1, 2, 11);
const SERIES: [RGBColor; 6] =
    [RGBColor(1, 2, 5), RGBColor(1, 2, 6), RGBColor(1, 2, 7), RGBColor(1, 2, 8), RGBColor(1, 2, 9), RGBColor(1, 2, 10)];
const REPLACED: [(&str, &str); 9] = [
    ("#01020B", "var(--paper)"),
    ("#010203", "var(--ink)"),
    ("#010204", "var(--grid)"),
    ("#010205", "var(--a)"),
    ("#010206", "var(--b)"),
    ("#010207", "var(--c)"),
    ("#010208", "var(--d)"),
    ("#010209", "var(--e)"),
    ("#01020A", "var(--f)"),
];

const WIDTH: u32 = 760;
const HEIGHT: u32 = 300;
/// Of a figure with one row a tier.
const LOW: u32 = 170;

/// The style that all axes share.
macro_rules! mesh {
    ($chart:expr, $across:expr, $up:expr) => {
        $chart
            .configure_mesh()
            .x_desc($across)
            .y_desc($up)
            .axis_style(INK.mix(0.5))
            .bold_line_style(GRID)
            .light_line_style(TRANSPARENT)
            .x_label_formatter(&plain)
            .label_style(("sans-serif", 16).into_font().color(&INK))
            .axis_desc_style(("sans-serif", 16).into_font().color(&INK))
    };
}

/// Names beside colours.
macro_rules! legend {
    ($chart:expr, $place:ident) => {
        $chart
            .configure_series_labels()
            .position(SeriesLabelPosition::$place)
            .border_style(TRANSPARENT)
            .background_style(PAPER.mix(0.8))
            .label_font(("sans-serif", 16).into_font().color(&INK))
            .draw()?
    };
}

type Drawn = Result<(), Box<dyn Error>>;
/// One of a point's half-widths, in s.
type Width = fn(&Point) -> f64;
type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// A figure and what it shows, in words.
pub(super) struct Figure {
    /// `<svg>`, ready to be put in a page.
    pub(super) svg: String,
    /// One sentence for who cannot see it; the caption too.
    pub(super) told: String,
}

/// All figures that `report` has the numbers for, by name.
pub(super) fn all(report: &Report) -> Vec<(&'static str, Figure)> {
    let mut figures = Vec::new();
    let mut add = |name, told: String, draw: &dyn Fn(&Area<'_>) -> Drawn| {
        let height = if name == "tiers" { LOW } else { HEIGHT };
        if let Some(svg) = drawn(&told, height, draw) {
            figures.push((name, Figure { svg, told }));
        }
    };
    let unit = Unit::of(report.curve.iter().map(|p| p.interval));
    if report.curve.len() > 1 {
        add(
            "offset",
            format!(
                "The corrected offset with its 95 % interval (band) over {:.1} hours, less a straight line; dots are what the \
                 {} says.",
                report.span_s / 3600.0,
                report.witness
            ),
            &|area| offset(area, report, &unit),
        );
        add(
            "widths",
            "Half-widths of the 95 % interval and of the hard bound over time, on a logarithmic scale.".to_owned(),
            &|area| widths(area, report),
        );
    }
    let judged: Vec<&HorizonFigures> = report.horizons.iter().filter(|h| h.compared > 0).collect();
    if !judged.is_empty() {
        add(
            "calibration",
            "Observed against nominal coverage for each horizon; on the diagonal a claim is exactly right, above it is \
             cautious."
                .to_owned(),
            &|area| calibration(area, &judged),
        );
    }
    if judged.iter().filter(|h| h.horizon_s > 0.0).count() > 1 {
        add(
            "skill",
            "Median error by horizon of ChronoTick and of the baselines, frozen at the same instants; lower is better."
                .to_owned(),
            &|area| skill(area, &judged),
        );
    }
    if report.allan.len() > 1 {
        add(
            "allan",
            "Overlapping Allan deviation by averaging time; the falling part is the network's noise, what is after it the \
             oscillator."
                .to_owned(),
            &|area| allan(area, report),
        );
    }
    if report.ppm_per_degree.is_some() {
        add("temperature", "Estimated rate of the oscillator against temperature.".to_owned(), &|area| {
            temperature(area, report)
        });
    }
    if !report.tier_spans.is_empty() {
        add("tiers", "The tier that answered, over time.".to_owned(), &|area| tiers(area, report));
    }
    figures
}

fn drawn(told: &str, height: u32, draw: &dyn Fn(&Area<'_>) -> Drawn) -> Option<String> {
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, (WIDTH, height)).into_drawing_area();
        draw(&area).and_then(|()| Ok(area.present()?)).ok()?;
    }
    for (stand_in, variable) in REPLACED {
        svg = svg.replace(stand_in, variable);
    }
    let start = svg.find("<svg ")?;
    let label = super::page::escaped(told);
    Some(format!("<svg role=\"img\" aria-label=\"{label}\" {}", &svg[start + 5..]))
}

fn offset(area: &Area<'_>, report: &Report, unit: &Unit) -> Drawn {
    let points = &report.curve;
    let (first, last) = (points[0], points[points.len() - 1]);
    let slope = last.offset.since(first.offset).as_secs_f64() / (last.hours - first.hours).max(1e-9);
    let relative = |hours: f64, offset: chronotick_core::Offset| {
        (offset.since(first.offset).as_secs_f64() - slope * (hours - first.hours)) * unit.scale
    };
    let line: Vec<(f64, f64, f64)> =
        points.iter().map(|p| (p.hours, relative(p.hours, p.offset), p.interval * unit.scale)).collect();
    let dots: Vec<(f64, f64)> = report.dots.iter().map(|&(hours, offset)| (hours, relative(hours, offset))).collect();
    let edges = line.iter().filter(|l| l.2.is_finite()).flat_map(|l| [l.1 - l.2, l.1 + l.2]);
    let vertical = middle(edges.chain(dots.iter().map(|d| d.1)).collect(), 0.01);
    let mut chart = ChartBuilder::on(area)
        .margin(8)
        .x_label_area_size(44)
        .y_label_area_size(78)
        .build_cartesian_2d(first.hours..last.hours.max(first.hours + 1e-6), vertical.0..vertical.1)?;
    mesh!(chart, "hours", &format!("offset, {}", unit.name)).y_label_formatter(&plain).draw()?;
    let inside = |y: f64| y.clamp(vertical.0, vertical.1);
    let wide: Vec<_> = line.iter().filter(|l| l.2.is_finite()).collect();
    let band: Vec<(f64, f64)> = wide
        .iter()
        .map(|l| (l.0, inside(l.1 + l.2)))
        .chain(wide.iter().rev().map(|l| (l.0, inside(l.1 - l.2))))
        .collect();
    if band.len() > 2 {
        chart.draw_series([Polygon::new(band, SERIES[0].mix(0.22))])?;
    }
    chart.draw_series(
        dots.iter().filter(|d| d.1 == inside(d.1)).map(|&d| Circle::new(d, 1, SERIES[1].mix(0.6).filled())),
    )?;
    chart.draw_series(LineSeries::new(line.iter().map(|l| (l.0, inside(l.1))), SERIES[0].stroke_width(2)))?;
    Ok(())
}

fn widths(area: &Area<'_>, report: &Report) -> Drawn {
    let points = &report.curve;
    let both: [(&str, Width); 2] = [("95 % interval", |p| p.interval), ("hard bound", |p| p.bound)];
    let micros = |value: f64| (value * 1e6).max(1e-3);
    let all = || points.iter().flat_map(|p| [p.interval, p.bound]).filter(|v| v.is_finite()).map(micros);
    let (low, high) = (all().fold(f64::INFINITY, f64::min), all().fold(1e-3, f64::max));
    let (first, last) = (points[0].hours, points[points.len() - 1].hours);
    let mut chart = ChartBuilder::on(area)
        .margin(8)
        .x_label_area_size(44)
        .y_label_area_size(78)
        .build_cartesian_2d(first..last.max(first + 1e-6), ((low * 0.7).max(1e-3)..high * 1.4).log_scale())?;
    mesh!(chart, "hours", "half-width, us").y_label_formatter(&short).draw()?;
    for ((name, of), colour) in both.into_iter().zip([SERIES[0], SERIES[1]]) {
        let line = points.iter().filter(|p| of(p).is_finite()).map(|p| (p.hours, micros(of(p))));
        chart
            .draw_series(LineSeries::new(line, colour.stroke_width(2)))?
            .label(name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 16, y)], colour.stroke_width(2)));
    }
    legend!(chart, MiddleRight);
    Ok(())
}

fn calibration(area: &Area<'_>, judged: &[&HorizonFigures]) -> Drawn {
    let mut chart = ChartBuilder::on(area)
        .margin(8)
        .x_label_area_size(44)
        .y_label_area_size(78)
        .build_cartesian_2d(45.0..101.0, 0.0..101.0)?;
    mesh!(chart, "nominal coverage, %", "observed, %").y_label_formatter(&plain).draw()?;
    chart.draw_series(LineSeries::new([(45.0, 45.0), (100.0, 100.0)], INK.mix(0.5)))?;
    // Six colours: of more horizons those are shown that are evenly spread.
    let every = judged.len().div_ceil(SERIES.len());
    for (figures, colour) in judged.iter().step_by(every).zip(SERIES) {
        let line: Vec<_> = figures.coverage.iter().map(|c| (100.0 * c.nominal, 100.0 * c.observed)).collect();
        chart
            .draw_series(LineSeries::new(line.iter().copied(), colour.stroke_width(2)))?
            .label(crate::words::horizon(figures.horizon_s))
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 16, y)], colour.stroke_width(2)));
        chart.draw_series(line.iter().map(|&at| Circle::new(at, 3, colour.filled())))?;
    }
    legend!(chart, LowerRight);
    Ok(())
}

fn skill(area: &Area<'_>, judged: &[&HorizonFigures]) -> Drawn {
    let ahead: Vec<_> = judged.iter().filter(|h| h.horizon_s > 0.0).collect();
    let micros = |nanos: f64| (nanos / 1e3).max(1e-3);
    let mut lines =
        vec![("ChronoTick", ahead.iter().map(|h| (h.horizon_s, micros(h.median_error_ns))).collect::<Vec<_>>())];
    for index in 0..ahead[0].baselines.len() {
        let at = |h: &&&HorizonFigures| {
            h.baselines
                .get(index)
                .filter(|b| b.median_error_ns.is_finite())
                .map(|b| (h.horizon_s, micros(b.median_error_ns)))
        };
        lines.push((ahead[0].baselines[index].name, ahead.iter().filter_map(at).collect()));
    }
    let all = || lines.iter().flat_map(|(_, line)| line.iter().map(|p| p.1));
    let (low, high) = (all().fold(f64::INFINITY, f64::min), all().fold(1e-3, f64::max));
    let (first, last) = (ahead[0].horizon_s, ahead[ahead.len() - 1].horizon_s);
    let mut chart = ChartBuilder::on(area)
        .margin(8)
        .x_label_area_size(44)
        .y_label_area_size(78)
        .build_cartesian_2d((first..last).log_scale(), (low * 0.7..high * 1.4).log_scale())?;
    mesh!(chart, "horizon, s", "median error, us").x_label_formatter(&short).y_label_formatter(&short).draw()?;
    // ChronoTick last, over the others.
    for ((name, line), colour) in lines.iter().zip(SERIES).rev() {
        let width = if *name == "ChronoTick" { 3 } else { 2 };
        chart
            .draw_series(LineSeries::new(line.iter().copied(), colour.stroke_width(width)))?
            .label(*name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 16, y)], colour.stroke_width(width)));
    }
    legend!(chart, UpperLeft);
    Ok(())
}

fn allan(area: &Area<'_>, report: &Report) -> Drawn {
    let points = &report.allan;
    let all = || points.iter().map(|p| p.deviation.max(1e-18));
    let (low, high) = (all().fold(f64::INFINITY, f64::min), all().fold(1e-18, f64::max));
    let mut chart = ChartBuilder::on(area).margin(8).x_label_area_size(44).y_label_area_size(78).build_cartesian_2d(
        (points[0].tau_s..points[points.len() - 1].tau_s).log_scale(),
        (low * 0.7..high * 1.4).log_scale(),
    )?;
    mesh!(chart, "averaging time, s", "deviation, s/s").x_label_formatter(&short).y_label_formatter(&short).draw()?;
    let line: Vec<_> = points.iter().map(|p| (p.tau_s, p.deviation.max(1e-18))).collect();
    chart.draw_series(LineSeries::new(line.iter().copied(), SERIES[0].stroke_width(2)))?;
    chart.draw_series(line.iter().map(|&at| Circle::new(at, 3, SERIES[0].filled())))?;
    Ok(())
}

fn temperature(area: &Area<'_>, report: &Report) -> Drawn {
    let across = middle(report.warmth.iter().map(|p| p.0).collect(), 0.0);
    let up = middle(report.warmth.iter().map(|p| p.1).collect(), 0.02);
    let mut chart = ChartBuilder::on(area)
        .margin(8)
        .x_label_area_size(44)
        .y_label_area_size(78)
        .build_cartesian_2d(across.0..across.1, up.0..up.1)?;
    mesh!(chart, "temperature, degrees Celsius", "rate, ppm").y_label_formatter(&plain).draw()?;
    let shown = report.warmth.iter().filter(|p| p.1 >= up.0 && p.1 <= up.1);
    chart.draw_series(shown.map(|&at| Circle::new(at, 2, SERIES[0].mix(0.5).filled())))?;
    Ok(())
}

fn tiers(area: &Area<'_>, report: &Report) -> Drawn {
    let end = report.tier_spans.iter().map(|span| span.1).fold(1e-6, f64::max);
    let row = |tier: Tier| 4.0 - f64::from(tier as u8);
    let mut chart = ChartBuilder::on(area)
        .margin(8)
        .x_label_area_size(44)
        .y_label_area_size(78)
        .build_cartesian_2d(0.0..end, -0.5..4.5)?;
    mesh!(chart, "hours", "")
        .y_labels(5)
        .disable_y_mesh()
        .y_label_formatter(&|y| {
            Tier::ALL.iter().find(|&&tier| row(tier) == *y).map_or_else(String::new, ToString::to_string)
        })
        .draw()?;
    chart.draw_series(report.tier_spans.iter().map(|&(from, until, tier)| {
        let colour = match tier {
            Tier::Fused | Tier::Filter => SERIES[2],
            Tier::Holdover | Tier::Cached => SERIES[1],
            Tier::Raw => SERIES[3],
        };
        Rectangle::new([(from, row(tier) - 0.35), (until, row(tier) + 0.35)], colour.filled())
    }))?;
    Ok(())
}

/// The middle of `values` with a margin: `cut` of them are left out at either end.
fn middle(mut values: Vec<f64>, cut: f64) -> (f64, f64) {
    values.retain(|value| value.is_finite());
    values.sort_by(f64::total_cmp);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of the length")]
    let skipped = (cut * values.len() as f64) as usize;
    match (values.get(skipped), values.get(values.len().saturating_sub(skipped + 1))) {
        (Some(&low), Some(&high)) if low < high => (low - 0.08 * (high - low), high + 0.08 * (high - low)),
        (Some(&only), _) => (only - 1.0, only + 1.0),
        _ => (-1.0, 1.0),
    }
}

/// A number on a linear axis.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "what a formatter of labels takes")]
fn plain(value: &f64) -> String {
    let text = format!("{value:.6}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    if text == "-0" { "0".to_owned() } else { text.to_owned() }
}

/// A number on a logarithmic axis.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "what a formatter of labels takes")]
fn short(value: &f64) -> String {
    if (0.01..100_000.0).contains(value) { format!("{value}") } else { format!("{value:.0e}") }
}

/// What the offsets are drawn in.
struct Unit {
    scale: f64,
    name: &'static str,
}

impl Unit {
    fn of(widths: impl Iterator<Item = f64>) -> Self {
        let mut widths: Vec<f64> = widths.filter(|width| width.is_finite()).collect();
        match quantile(&mut widths, 0.5) {
            usual if usual > 2e-3 => Self { scale: 1e3, name: "ms" },
            usual if usual < 2e-7 => Self { scale: 1e9, name: "ns" },
            _ => Self { scale: 1e6, name: "us" },
        }
    }
}
