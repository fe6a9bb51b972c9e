//! The picture on the terminal. With up to five sources it is whole at 80 by 24, and says what it can on anything smaller.

mod charts;

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Margin, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Borders, Clear, Paragraph};
use serde_json::Value;

use chronotick_core::Tier;
use chronotick_core::estimator::Family;

use super::state::State;
use crate::runner::Status;
use crate::runner::journal::Event;
use crate::runner::status::SourceStatus;
use crate::words;

/// Rows that the sources get at most.
const MOST_SOURCES: u16 = 8;
/// Rows of the experts, of the worker and of the tiers: one for each kind of expert.
#[allow(clippy::cast_possible_truncation, reason = "a handful")]
const EXPERT_ROWS: u16 = Family::ALL.len() as u16;
/// Rows of the charts at least.
const LEAST_CHART: u16 = 5;
/// Below this a terminal is too small for charts.
const LEAST: (u16, u16) = (48, 16);

const HELP: [&str; 18] = [
    "left    served offset less a straight line (its slope is the",
    "        rate in the title), with the 95 % interval (lines) and",
    "        the hard bound (dots), on a scale that grows towards",
    "        the edges so that all three are seen",
    "right   residuals: each exchange less what was predicted for",
    "        it before it was known; the lines are the 95 % interval",
    "        of the offset, to which an exchange adds its own noise",
    "sources reach is the register of RFC 5905, octal: 377 means",
    "        that the last eight requests were answered",
    "experts share of the weight by horizon, in percent",
    "",
    "q       quit                  (also Ctrl-C)",
    "p       pause, go on          (also the space bar)",
    "w       window: everything, an hour, ten minutes",
    "?       this help",
    "",
    "NO_COLOR in the environment turns colours off.",
    "`chronotick watch --plain` prints lines instead.",
];

/// How to look at it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Look {
    /// Whether colours may be used.
    pub colours: bool,
    /// Whether the picture stands still.
    pub paused: bool,
    /// Whether the help is shown.
    pub help: bool,
    /// How far the charts go back.
    pub span: Window,
}

/// How far the charts go back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Window {
    /// As far as the daemon remembers.
    #[default]
    All,
    /// An hour.
    Hour,
    /// Ten minutes.
    TenMinutes,
}

impl Window {
    /// The next one, in a circle.
    pub fn next(self) -> Self {
        match self {
            Self::All => Self::Hour,
            Self::Hour => Self::TenMinutes,
            Self::TenMinutes => Self::All,
        }
    }

    /// In s.
    pub(super) fn seconds(self) -> f64 {
        match self {
            Self::All => f64::INFINITY,
            Self::Hour => 3600.0,
            Self::TenMinutes => 600.0,
        }
    }
}

impl Look {
    fn colour(&self, colour: Color) -> Style {
        if self.colours { Style::new().fg(colour) } else { Style::new() }
    }
    fn dim(&self) -> Style {
        self.colour(Color::DarkGray)
    }
    fn strong(&self) -> Style {
        Style::new().add_modifier(Modifier::BOLD)
    }
    fn tier(&self, tier: Tier) -> Style {
        let colour = match tier {
            Tier::Fused | Tier::Filter => Color::Green,
            Tier::Holdover | Tier::Cached => Color::Yellow,
            Tier::Raw => Color::Red,
        };
        self.colour(colour).add_modifier(Modifier::BOLD)
    }
}

/// Draws `state` on the whole of `frame`.
pub fn draw(frame: &mut Frame<'_>, state: &State, look: &Look) {
    let area = frame.area();
    if area.width < LEAST.0 || area.height < LEAST.1 {
        let mut lines = header(state, look);
        lines.extend(sources(state, look).into_iter().skip(1));
        frame.render_widget(Paragraph::new(lines), area);
    } else {
        draw_all(frame, area, state, look);
    }
    if look.help {
        draw_help(frame, area, look);
    }
}

fn draw_all(frame: &mut Frame<'_>, area: Rect, state: &State, look: &Look) {
    let sources = sources(state, look);
    let shown = u16::try_from(sources.len()).unwrap_or(MOST_SOURCES).min(MOST_SOURCES + 1);
    // Where there is no room for all kinds of experts, the sources and a chart come first.
    let experts_shown = (EXPERT_ROWS + 1).min(area.height.saturating_sub(2 + LEAST_CHART + shown + 1));
    let [top, middle, list, bottom, keys] = Layout::vertical([
        Constraint::Length(2),
        Constraint::Min(LEAST_CHART),
        Constraint::Length(shown),
        Constraint::Length(experts_shown),
        Constraint::Length(1),
    ])
    .areas(area);
    frame.render_widget(Paragraph::new(header(state, look)), top);
    let halves = [Constraint::Percentage(50), Constraint::Percentage(50)];
    let [left, right] = Layout::horizontal(halves).spacing(1).areas(middle);
    charts::offset(frame, left, state, look);
    charts::residuals(frame, right, state, look);
    frame.render_widget(Paragraph::new(sources), list);
    let [experts_area, rest] = Layout::horizontal([Constraint::Length(48), Constraint::Min(0)]).areas(bottom);
    frame.render_widget(Paragraph::new(experts(state, look)), experts_area);
    let [worker_area, tiers_area] = Layout::vertical([Constraint::Length(4), Constraint::Min(0)]).areas(rest);
    frame.render_widget(Paragraph::new(worker(state, look)), worker_area);
    frame.render_widget(Paragraph::new(tiers(state, look)), tiers_area);
    frame.render_widget(Paragraph::new(footer(state, look)), keys);
}

/// Tier and reason; then the time and what is claimed of it.
fn header(state: &State, look: &Look) -> Vec<Line<'static>> {
    let mut first = vec![Span::styled("chronotick ", look.strong())];
    let status = state.status.as_ref();
    if let Some(status) = status {
        first.push(Span::styled(status.tier.to_string(), look.tier(status.tier)));
        first.push(Span::raw(format!("  {}", status.reason)));
    }
    if look.paused {
        first.push(Span::styled("  paused", look.colour(Color::Yellow)));
    }
    let mut second = Vec::new();
    if let Some(newest) = &state.newest {
        second.push(Span::raw(format!("UTC {} ", words::date_and_time(newest.utc_ns))));
        second.push(Span::styled(words::half_width(newest.interval95_ns), look.strong()));
        second.push(Span::raw(" (95 %) "));
        second.push(Span::raw(format!("{} (bound)", words::half_width(newest.bound_ns))));
        if let Some(celsius) = newest.temperature_c {
            second.push(Span::raw(format!("  {celsius:.1} C")));
        }
    }
    if let Some(status) = status {
        second.push(Span::raw(format!("  up {}", words::duration(status.uptime_s))));
    }
    vec![Line::from(first), Line::from(second)]
}

fn sources(state: &State, look: &Look) -> Vec<Line<'static>> {
    let Some(status) = &state.status else { return vec![rule("sources", "", look)] };
    let head = format!(
        "{:<20} {:>5} {:>3} {:>9} {:>9} {:>9} {:>6}  {}",
        "source", "reach", "st", "residual", "delay", "root", "poll", "verdict"
    );
    let mut lines = vec![Line::styled(head, look.dim().add_modifier(Modifier::UNDERLINED))];
    lines.extend(status.sources.iter().map(|source| source_line(source, state, look)));
    if status.sources.is_empty() {
        lines.push(Line::raw("no server is configured: see `servers` in the configuration"));
    }
    lines
}

fn source_line(source: &SourceStatus, state: &State, look: &Look) -> Line<'static> {
    let name: String = source.name.chars().take(20).collect();
    let span = |nanos: Option<i64>| nanos.map_or_else(|| "-".to_owned(), words::span);
    let residual = state.exchanges.iter().rev().find(|e| e.source == source.name).and_then(|e| e.residual_ns);
    let verdict = source.verdict.as_deref().unwrap_or(&source.state);
    let style = match verdict {
        "selected" => look.colour(Color::Green),
        "falseticker" | "unreachable" | "stopped" => look.colour(Color::Red),
        _ => look.colour(Color::Yellow),
    };
    let unreached = verdict == "selected" && source.state != "reachable";
    let told = if unreached { format!("{verdict}, {}", source.state) } else { verdict.to_owned() };
    Line::from(vec![
        Span::raw(format!("{name:<20} {:>5} ", format!("{:03o}", source.reach))),
        Span::raw(format!("{:>3} ", source.stratum.map_or_else(|| "-".to_owned(), |stratum| stratum.to_string()))),
        Span::raw(format!(
            "{:>9} {:>9} ",
            residual.map_or_else(|| "-".to_owned(), words::signed),
            span(source.delay_ns)
        )),
        Span::raw(format!("{:>9} {:>6}  ", span(source.root_distance_ns), words::horizon(source.poll_s))),
        Span::styled(told, style),
    ])
}

/// The share of each kind's weight, in percent by horizon.
fn experts(state: &State, look: &Look) -> Vec<Line<'static>> {
    let Some(experts) = state.status.as_ref().map(|status| &status.experts) else { return Vec::new() };
    let mut head = format!("{:<11}", "weight, %");
    for &horizon in &experts.horizons_s {
        head.push_str(&format!("{:>5}", words::horizon(horizon)));
    }
    let mut lines = vec![Line::styled(head, look.dim().add_modifier(Modifier::UNDERLINED))];
    for family in &experts.families {
        let mut spans = vec![Span::raw(format!("{:<11}", family.name))];
        for &weight in &family.weights {
            let percent = 100.0 * weight;
            let text = match percent {
                p if p < 0.05 => "    .".to_owned(),
                p if p < 9.95 => format!("{p:>5.1}"),
                p => format!("{p:>5.0}"),
            };
            let style = if percent >= 50.0 { look.strong() } else { Style::new() };
            spans.push(Span::styled(text, style));
        }
        lines.push(Line::from(spans));
    }
    lines
}

fn worker(state: &State, look: &Look) -> Vec<Line<'static>> {
    let mut lines = vec![rule("worker", "", look)];
    let Some(Status { worker, forecasts, .. }) = &state.status else { return lines };
    let number = |key: &str| worker.get(key).and_then(Value::as_f64).unwrap_or(0.0);
    if worker.get("alive") == Some(&Value::Bool(true)) {
        let pid = worker.get("pid").and_then(Value::as_u64);
        lines.push(Line::from(vec![
            Span::styled("alive", look.colour(Color::Green)),
            Span::raw(pid.map_or_else(String::new, |pid| format!(" {pid}"))),
            Span::raw(format!(", {:.0} MB, {:.0} restarts", number("rss_mb"), number("restarts"))),
        ]));
        let (p50, p99) = (number("inference_ms_p50"), number("inference_ms_p99"));
        lines.push(Line::raw(format!("{p50:.2} ms (99 %: {p99:.2})")));
    } else {
        let told = worker.get("state").and_then(Value::as_str).filter(|told| !told.is_empty());
        lines.push(Line::styled(told.unwrap_or("off").to_owned(), look.colour(Color::Yellow)));
        lines.push(Line::raw(format!("{:.0} restarts", number("restarts"))));
    }
    lines.push(Line::raw(format!("{} asked, {} in, {} muted", forecasts.issued, forecasts.accepted, forecasts.muted)));
    lines
}

/// Newest first.
fn tiers(state: &State, look: &Look) -> Vec<Line<'static>> {
    let mut lines = vec![rule("tiers", "", look)];
    for event in state.changes.iter().rev() {
        lines.push(match event {
            Event::Tier(change) => Line::from(vec![
                Span::raw(format!("{} {} to ", words::time_of_day(change.utc_ns), change.from)),
                Span::styled(change.to.to_string(), look.tier(change.to)),
                Span::styled(format!(" {}", change.reason), look.dim()),
            ]),
            Event::Disruption(disrupted) => Line::styled(
                format!("{} {}", words::time_of_day(disrupted.utc_ns), disrupted.what),
                look.colour(Color::Red),
            ),
            _ => continue,
        });
    }
    lines
}

fn footer(state: &State, look: &Look) -> Line<'static> {
    if let Some(trouble) = &state.trouble {
        return Line::styled(trouble.clone(), look.colour(Color::Red));
    }
    let window = match look.span {
        Window::All => "everything",
        Window::Hour => "an hour",
        Window::TenMinutes => "ten minutes",
    };
    Line::styled(format!("q quit  p pause  w window ({window})  ? help   {}", state.page.display()), look.dim())
}

fn draw_help(frame: &mut Frame<'_>, area: Rect, look: &Look) {
    let (width, height) = (66.min(area.width), u16::try_from(HELP.len() + 2).unwrap_or(u16::MAX).min(area.height));
    let over = Rect { x: area.x + (area.width - width) / 2, y: area.y + (area.height - height) / 2, width, height };
    frame.render_widget(Clear, over);
    let block = Block::new().borders(Borders::ALL).title(" chronotick watch ").style(look.colour(Color::Reset));
    frame.render_widget(block, over);
    frame.render_widget(Paragraph::new(HELP.map(Line::raw).to_vec()), over.inner(Margin::new(2, 1)));
}

/// A title that is underlined like the heads of the tables.
fn rule(title: &str, rest: &str, look: &Look) -> Line<'static> {
    Line::styled(format!("{:<31}", format!("{title} {rest}")), look.dim().add_modifier(Modifier::UNDERLINED))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    use super::*;
    use crate::ntp::client::Counts;
    use crate::runner::journal::{Disrupted, Exchange, Served, TierChange, Writer};
    use crate::runner::status::{ExpertFamily, Experts, Forecasts};

    const START: i64 = 1_790_000_000_000_000_000;

    /// A daemon that has run for ten minutes, without any chance in it.
    fn state() -> State {
        let mut state = State::new(Path::new("/run/chronotick/clock"));
        let writer = Writer { pid: 7, version: "0".to_owned(), counter: "Tsc".to_owned(), started_local_ns: 0 };
        state.push(&Event::Daemon(writer));
        let change = |second: i64, from, to, reason: &str| {
            Event::Tier(TierChange {
                local_ns: second * 1_000_000_000,
                utc_ns: START + second * 1_000_000_000,
                from,
                to,
                reason: reason.to_owned(),
            })
        };
        state.push(&change(2, Tier::Raw, Tier::Filter, "the clock is too young for forecasts"));
        for second in 0..600_i64 {
            let local_ns = second * 1_000_000_000;
            let wave = 200 * (second % 120 - 60).abs() - 6_000;
            let offset = START + 40_000 * second + wave;
            if second % 16 == 0 {
                state.push(&Event::Exchange(Exchange {
                    local_ns,
                    utc_ns: START + local_ns,
                    offset_ns: offset,
                    delay_ns: 180_000,
                    root_distance_ns: 40_000,
                    temperature_c: Some(31.0),
                    source: if second % 32 == 0 { "time.example:123" } else { "192.0.2.7:123" }.to_owned(),
                    residual_ns: (second > 0).then_some(second * 7_919 % 9_000 - 4_500),
                    interval95_ns: (second > 0).then_some(5_000),
                    bound_ns: (second > 0).then_some(120_000),
                    refused: None,
                }));
            }
            state.push(&Event::Served(Served {
                local_ns,
                utc_ns: START + local_ns,
                offset_ns: Some(offset),
                interval95_ns: Some(6_000 + 100_000 / (second + 1)),
                bound_ns: Some(70_000 + 16_000 * (second % 16) / 16),
                rate_ppm: 40.0,
                temperature_c: Some(31.0),
                tier: Tier::Filter,
            }));
        }
        state.push(&change(310, Tier::Filter, Tier::Holdover, "no fresh measurement: the time servers are silent"));
        state.push(&Event::Disruption(Disrupted {
            local_ns: 1,
            utc_ns: START + 420_000_000_000,
            what: "the machine was suspended for 3.000 s".to_owned(),
        }));
        state.push(&change(430, Tier::Holdover, Tier::Fused, "measurements are fresh"));
        state.push(&Event::CaughtUp);
        state.set_status(status());
        state
    }

    fn status() -> Status {
        let source = |name: &str, verdict: &str, reach| SourceStatus {
            name: name.to_owned(),
            kind: "ntp".to_owned(),
            state: "reachable".to_owned(),
            verdict: Some(verdict.to_owned()),
            reason: None,
            address: None,
            stratum: Some(2),
            leap: None,
            offset_ns: Some(START),
            delay_ns: Some(180_300),
            root_distance_ns: Some(40_000),
            reach,
            age_s: Some(3.0),
            poll_s: 16.0,
            counts: Counts { requests: 38, accepted: 38, ..Counts::default() },
            kernel_timestamps: 38,
            ..SourceStatus::default()
        };
        let family = |kind: Family| {
            let share = match kind {
                Family::Filter => 0.6,
                Family::Temperature => 0.2,
                Family::Reversion => 0.05,
                Family::NearModel => 0.1,
                Family::FarModel => 0.004,
                _ => 0.0,
            };
            let weights = (0..7).map(|node| share * (1.0 + node as f64 / 10.0)).collect();
            ExpertFamily { name: kind.as_str().to_owned(), experts: 3, weights, rms_error_ns: vec![Some(1_000.0); 7] }
        };
        Status {
            tier: Tier::Fused,
            reason: "measurements are fresh and forecasts carry weight".to_owned(),
            sources: vec![
                source("time.example:123", "selected", 0o377),
                source("192.0.2.7:123", "selected", 0o376),
                source("[2001:db8::123:4567:89ab]:4123", "falseticker", 0o17),
            ],
            leap: None,
            feed: None,
            experts: Experts {
                horizons_s: vec![0.0, 16.0, 64.0, 256.0, 1024.0, 4096.0, 14400.0],
                families: Family::ALL.map(family).into(),
            },
            worker: serde_json::json!({
                "pid": 4321, "alive": true, "rss_mb": 29.4, "restarts": 1,
                "inference_ms_p50": 0.42, "inference_ms_p99": 0.61,
            }),
            forecasts: Forecasts { issued: 120, accepted: 118, muted: 31 },
            success_rate: 1.0,
            uptime_s: 600.0,
            rate_ppm: 40.0,
            allan_deviation: Vec::new(),
            offset_ns: Some(START),
            interval95_ns: Some(6_000),
            bound_ns: Some(70_000),
            temperature_c: Some(31.0),
            coverage: crate::runner::Coverage::default(),
            samples_accepted: 38,
            samples_rejected: 0,
            bound_conflicts: 0,
            disruptions: 1,
            counter: "Tsc".to_owned(),
            page: "/run/chronotick/clock".into(),
            pid: 7,
            version: "0".to_owned(),
        }
    }

    fn screen(state: &State, look: &Look, (width, height): (u16, u16)) -> String {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).expect("in memory");
        terminal.draw(|frame| draw(frame, state, look)).expect("in memory");
        let buffer = terminal.backend().buffer().clone();
        let rows = buffer.content.chunks(usize::from(width).max(1));
        let text = rows.map(|row| row.iter().map(|cell| cell.symbol()).collect::<String>().trim_end().to_owned());
        text.collect::<Vec<_>>().join("\n") + "\n"
    }

    /// Set `UPDATE_SNAPSHOTS` to write the file anew, and look at the difference.
    #[test]
    fn the_whole_picture_at_80_by_24() {
        let shown = screen(&state(), &Look::default(), (80, 24));
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/watch/view/80x24.txt");
        if std::env::var_os("UPDATE_SNAPSHOTS").is_some() {
            std::fs::write(&file, &shown).expect("the source tree is writable");
        }
        let kept = std::fs::read_to_string(&file).unwrap_or_default();
        assert!(shown == kept, "the picture changed; it is now\n{shown}");
        for part in ["fused", "+-6.17 us (95 %)", "(bound)", "falseticker", "377", "near model", "4321", "to holdover"]
        {
            assert!(shown.contains(part), "{part} is missing in\n{shown}");
        }
        for kind in Family::ALL {
            assert!(shown.contains(&format!("\n{}", kind.as_str())), "{kind:?} is missing in\n{shown}");
        }
    }

    #[test]
    fn every_size_and_state_is_drawn() {
        let mut sparse = state();
        sparse.exchanges.truncate(1);
        let silent = State::new(Path::new("/run/chronotick/clock"));
        let mut gone = state();
        gone.set_trouble("the daemon at /run/chronotick/clock has stopped".to_owned());
        for state in [&state(), &sparse, &silent, &gone] {
            for (width, height) in
                (0..=12).flat_map(|step| [(step * 11, 24), (80, step * 3), (step * 9, step * 3), (step, step)])
            {
                for help in [false, true] {
                    let look = Look { colours: true, help, ..Look::default() };
                    screen(state, &look, (width, height));
                }
            }
        }
        assert!(screen(&gone, &Look::default(), (80, 24)).contains("has stopped"));
        assert!(screen(&silent, &Look::default(), (80, 24)).contains("no corrected offset yet"));
    }

    #[test]
    fn without_colours_there_is_none() {
        let mut terminal = Terminal::new(TestBackend::new(80, 24)).expect("in memory");
        for (colours, some) in [(false, false), (true, true)] {
            let look = Look { colours, ..Look::default() };
            terminal.draw(|frame| draw(frame, &state(), &look)).expect("in memory");
            let coloured = terminal.backend().buffer().content.iter().any(|cell| cell.fg != Color::Reset);
            assert_eq!(coloured, some);
        }
    }

    #[test]
    fn the_help_covers_the_middle() {
        let shown = screen(&state(), &Look { help: true, ..Look::default() }, (80, 24));
        assert!(shown.contains("NO_COLOR") && shown.contains("q       quit"), "{shown}");
    }
}
