//! The page: one file, no script, nothing from elsewhere; light and dark by the reader's choice.

use std::fmt::Write;

use serde_json::Value;

use super::{Report, figures};
use crate::words;

const STYLE: &str = "\
:root{--ink:#1b1f24;--paper:#fff;--soft:#57606a;--grid:#d8dee4;--a:#0a6aa1;--b:#c2571a;--c:#2a7d4f;--d:#a3263a;--e:#7048a8;\
--f:#7a6a00;color-scheme:light dark}\
@media (prefers-color-scheme: dark){:root{--ink:#e6edf3;--paper:#0d1117;--soft:#9198a1;--grid:#30363d;--a:#58b2e8;--b:#f0883e;\
--c:#56c38a;--d:#ff7b86;--e:#b794f4;--f:#d9c34a}}\
body{margin:2.5rem auto;max-width:48rem;padding:0 1rem;background:var(--paper);color:var(--ink);\
font:16px/1.55 system-ui,-apple-system,'Segoe UI',Roboto,'Noto Sans','DejaVu Sans',sans-serif}\
h1{font-size:1.7rem;line-height:1.2;margin:0 0 .3rem}h2{font-size:1.2rem;margin:2.4rem 0 .6rem}\
p{margin:.5rem 0}.soft,figcaption{color:var(--soft);font-size:.9rem}figure{margin:1rem 0}svg{max-width:100%;height:auto}\
table{border-collapse:collapse;width:100%;font-size:.9rem;font-variant-numeric:tabular-nums;display:block;overflow-x:auto}\
th,td{padding:.3rem .6rem;text-align:right;border-bottom:1px solid var(--grid);white-space:nowrap}\
th:first-child,td:first-child{text-align:left}th{font-weight:600;color:var(--soft)}\
dl{display:grid;grid-template-columns:repeat(auto-fit,minmax(10rem,1fr));gap:.8rem;margin:1.2rem 0}\
dt{color:var(--soft);font-size:.85rem}dd{margin:0;font-size:1.25rem;font-variant-numeric:tabular-nums}\
@media print{body{margin:0}h2{break-after:avoid}figure,table{break-inside:avoid}}";

/// `report` as one self-contained page, made at `made` (a date for people).
pub fn html(report: &Report, made: &str) -> String {
    let mut out = String::new();
    let title = escaped(&report.title);
    let _ = write!(
        out,
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" \
         content=\"width=device-width,initial-scale=1\">\n<title>ChronoTick report: {title}</title>\n<style>{STYLE}</style>\n\
         </head>\n<body>\n<main>\n<h1>{title}</h1>\n<p class=\"soft\">ChronoTick {}, made {} UTC. {} exchanges over {}, one \
         every {} as a rule.</p>\n",
        env!("CARGO_PKG_VERSION"),
        escaped(made),
        report.exchanges,
        words::duration(report.span_s),
        words::duration(report.spacing_s.max(0.0)),
    );
    summary(&mut out, report);
    if report.daemon.is_some() {
        daemon(&mut out, report);
    }
    let figures = figures::all(report);
    let figure = |out: &mut String, name: &str| {
        if let Some((_, figure)) = figures.iter().find(|(known, _)| *known == name) {
            let _ = writeln!(out, "<figure>{}<figcaption>{}</figcaption></figure>", figure.svg, escaped(&figure.told));
        }
    };
    heading(&mut out, "Offset and interval");
    figure(&mut out, "offset");
    figure(&mut out, "widths");
    heading(&mut out, "Errors by horizon");
    witness(&mut out, report);
    horizons(&mut out, report);
    heading(&mut out, "Calibration");
    figure(&mut out, "calibration");
    out.push_str(
        "<p class=\"soft\">Only the 95 % interval is claimed. The other levels scale it as if errors were normal: where they \
         part from the diagonal and 95 % does not, errors are not normal.</p>\n",
    );
    calibration(&mut out, report);
    heading(&mut out, "Skill against baselines");
    figure(&mut out, "skill");
    skill(&mut out, report);
    heading(&mut out, "The oscillator");
    figure(&mut out, "allan");
    allan(&mut out, report);
    figure(&mut out, "temperature");
    match report.ppm_per_degree {
        Some(slope) => {
            let _ = writeln!(out, "<p>The rate moves by {slope:+.4} ppm per degree in this recording.</p>");
        }
        None => out.push_str("<p class=\"soft\">No temperature that moved by a degree was recorded.</p>\n"),
    }
    heading(&mut out, "Tiers and faults");
    figure(&mut out, "tiers");
    events(&mut out, report);
    heading(&mut out, "Sources");
    sources(&mut out, report);
    out.push_str("</main>\n</body>\n</html>\n");
    out
}

/// Text that is no markup.
pub(super) fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

fn heading(out: &mut String, text: &str) {
    let _ = writeln!(out, "<h2>{text}</h2>");
}

fn summary(out: &mut String, report: &Report) {
    let at = |horizon: f64| report.horizons.iter().find(|h| h.horizon_s >= horizon && h.compared > 0);
    let mut facts = vec![("mean rate", format!("{:+.4} ppm", report.rate_ppm))];
    if let Some(now) = at(0.0) {
        let covered = now.coverage.iter().find(|c| c.nominal == 0.95).map_or(f64::NAN, |c| c.observed);
        facts.push(("median error now", nanos(now.median_error_ns)));
        facts.push(("95 % interval now", format!("+-{}", nanos(now.interval95_ns))));
        facts.push(("it held", percent(covered)));
        facts.push(("hard bound now", format!("+-{}", nanos(now.bound_ns))));
    }
    let contradicted: usize = report.horizons.iter().map(|h| h.contradicted).sum();
    facts.push(("errors beyond the bound", contradicted.to_string()));
    out.push_str("<dl>\n");
    for (name, value) in facts {
        let _ = writeln!(out, "<div><dt>{name}</dt><dd>{value}</dd></div>");
    }
    out.push_str("</dl>\n");
}

fn daemon(out: &mut String, report: &Report) {
    let Some(status) = &report.daemon else { return };
    heading(out, "The daemon");
    let worker = &status.worker;
    let number = |key: &str| worker.get(key).and_then(Value::as_f64).unwrap_or(0.0);
    let alive = worker.get("alive") == Some(&Value::Bool(true));
    let state = worker.get("state").and_then(Value::as_str).unwrap_or("off");
    let worker = if alive {
        format!(
            "alive, {:.0} MB, {:.0} restarts, inference {:.2} ms (99 %: {:.2} ms)",
            number("rss_mb"),
            number("restarts"),
            number("inference_ms_p50"),
            number("inference_ms_p99")
        )
    } else {
        escaped(state)
    };
    let rows = [
        ("tier", format!("{} ({})", status.tier, escaped(&status.reason))),
        ("up", words::duration(status.uptime_s)),
        ("worker", worker),
        (
            "forecasts",
            format!(
                "{} asked, {} accepted, {} muted",
                status.forecasts.issued, status.forecasts.accepted, status.forecasts.muted
            ),
        ),
        ("disruptions", status.disruptions.to_string()),
        ("contradictions of the bound", status.bound_conflicts.to_string()),
    ];
    let rows = rows.map(|(name, value)| vec![name.to_owned(), value]);
    table(out, &["", "now"], &rows);
    let rows: Vec<_> = status
        .sources
        .iter()
        .map(|source| {
            let span = |nanos: Option<i64>| nanos.map_or_else(|| "-".to_owned(), words::span);
            let told = source.verdict.as_deref().unwrap_or(&source.state);
            vec![
                escaped(&source.name),
                format!("{:03o}", source.reach),
                span(source.delay_ns),
                span(source.root_distance_ns),
                escaped(told),
            ]
        })
        .collect();
    table(out, &["server", "reach", "delay", "root distance", "verdict"], &rows);
}

fn witness(out: &mut String, report: &Report) {
    let blurred = report.horizons.first().is_some_and(|now| 1.96 * report.witness_deviation_ns > now.interval95_ns);
    let told = if report.witness == "truth" {
        "Errors are against the known truth.".to_owned()
    } else {
        format!(
            "Errors are against hindsight: a line through the exchanges on both sides of each target, known to {} (one standard \
             deviation), which is added to the interval where coverage is counted. What the path's asymmetry hides from every \
             exchange is hidden from hindsight too.{}",
            nanos(report.witness_deviation_ns),
            if blurred {
                " Here it is no surer than the clock itself, so errors and coverage now say little."
            } else {
                ""
            }
        )
    };
    let _ = writeln!(out, "<p>{told} Each forecast was frozen before its target; nothing later entered it.</p>");
}

fn horizons(out: &mut String, report: &Report) {
    let rows: Vec<_> = report
        .horizons
        .iter()
        .map(|h| {
            vec![
                words::horizon(h.horizon_s),
                h.compared.to_string(),
                nanos(h.median_error_ns),
                nanos(h.p95_error_ns),
                format!("+-{}", nanos(h.interval95_ns)),
                format!("+-{}", nanos(h.bound_ns)),
                h.contradicted.to_string(),
            ]
        })
        .collect();
    table(
        out,
        &["horizon", "judged", "median error", "95 % of errors", "95 % interval", "hard bound", "beyond"],
        &rows,
    );
}

fn calibration(out: &mut String, report: &Report) {
    let Some(first) = report.horizons.first() else { return };
    let mut head = vec!["horizon".to_owned()];
    head.extend(first.coverage.iter().map(|c| format!("{:.0} %", 100.0 * c.nominal)));
    let rows: Vec<_> = report
        .horizons
        .iter()
        .map(|h| {
            let observed = h.coverage.iter().map(|c| percent(c.observed));
            [words::horizon(h.horizon_s)].into_iter().chain(observed).collect()
        })
        .collect();
    table(out, &head.iter().map(String::as_str).collect::<Vec<_>>(), &rows);
}

fn skill(out: &mut String, report: &Report) {
    let Some(known) = report.horizons.iter().find(|h| !h.baselines.is_empty()) else { return };
    let mut head = vec!["horizon", "ChronoTick"];
    head.extend(known.baselines.iter().map(|b| b.name));
    let rows: Vec<_> = report
        .horizons
        .iter()
        .map(|h| {
            let rivals = h.baselines.iter().map(|b| match b.skill.is_finite() {
                // Without a sign for none.
                true => format!("{} ({:+.0} %)", nanos(b.median_error_ns), (100.0 * b.skill).round() + 0.0),
                false => nanos(b.median_error_ns),
            });
            [words::horizon(h.horizon_s), nanos(h.median_error_ns)].into_iter().chain(rivals).collect()
        })
        .collect();
    table(out, &head, &rows);
    out.push_str(
        "<p class=\"soft\">Median errors, frozen at the same instants: ChronoTick without its models, straight lines through the \
         last quarter of an hour and the last four hours, and the last offset held. In brackets the skill: by how much ChronoTick's is \
         smaller; below zero the baseline was better.</p>\n",
    );
}

fn allan(out: &mut String, report: &Report) {
    let rows: Vec<_> = report
        .allan
        .iter()
        .map(|p| vec![words::duration(p.tau_s), format!("{:.2e}", p.deviation), p.triples.to_string()])
        .collect();
    table(out, &["averaging time", "Allan deviation, s/s", "triples"], &rows);
}

fn events(out: &mut String, report: &Report) {
    let shares: Vec<_> = report.tiers.iter().map(|t| format!("{} {}", t.tier, percent(t.share))).collect();
    let _ = writeln!(
        out,
        "<p>Share of the time: {}. {} of {} exchanges were not used.</p>",
        shares.join(", "),
        report.refused,
        report.exchanges
    );
    let rows: Vec<_> = report.events.iter().map(|e| vec![words::duration(e.at_s), escaped(&e.what)]).collect();
    if rows.is_empty() {
        out.push_str("<p class=\"soft\">Nothing else happened.</p>\n");
    } else {
        table(out, &["after", "what"], &rows);
    }
    if report.events_left_out > 0 {
        let _ = writeln!(out, "<p class=\"soft\">{} more are left out.</p>", report.events_left_out);
    }
}

fn sources(out: &mut String, report: &Report) {
    let rows: Vec<_> = report
        .sources
        .iter()
        .map(|s| {
            let name = if s.name.is_empty() { "(no name)".to_owned() } else { escaped(&s.name) };
            vec![name, s.exchanges.to_string(), words::span(s.median_delay_ns)]
        })
        .collect();
    table(out, &["source", "exchanges", "median delay"], &rows);
}

/// Cells are markup already.
fn table(out: &mut String, head: &[&str], rows: &[Vec<String>]) {
    out.push_str("<table>\n<tr>");
    for cell in head {
        let _ = write!(out, "<th>{cell}</th>");
    }
    out.push_str("</tr>\n");
    for row in rows {
        out.push_str("<tr>");
        for cell in row {
            let _ = write!(out, "<td>{cell}</td>");
        }
        out.push_str("</tr>\n");
    }
    out.push_str("</table>\n");
}

/// A span in ns that may not be known.
#[expect(clippy::cast_possible_truncation, reason = "float to integer saturates")]
fn nanos(value: f64) -> String {
    if value.is_finite() { words::span(value.round() as i64) } else { "-".to_owned() }
}

fn percent(share: f64) -> String {
    if share.is_finite() { format!("{:.1} %", 100.0 * share) } else { "-".to_owned() }
}
