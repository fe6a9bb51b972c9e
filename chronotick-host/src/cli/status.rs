//! `chronotick status`

use chronotick_host::runner::Status;
use chronotick_host::runner::status::SourceStatus;
use chronotick_host::words::exact_span;
use serde_json::Value;

use super::{Outcome, PageArguments, line};

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    page: PageArguments,
    /// One JSON object on one line.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(arguments: &Arguments) -> Outcome {
    let status = Status::ask(&arguments.page.path()?)?;
    if arguments.json {
        return line(serde_json::to_string(&status).unwrap_or_default());
    }
    line(format_args!("tier      {} ({})", status.tier, status.reason))?;
    match (status.offset_ns, status.interval95_ns, status.bound_ns) {
        (Some(offset), Some(interval), Some(bound)) => {
            line(format_args!(
                "offset    {} +- {} (95 %), at worst +- {}",
                exact_span(offset),
                exact_span(interval),
                exact_span(bound)
            ))?;
            line(format_args!("rate      {:+.4} ppm", status.rate_ppm))?;
        }
        _ => line("offset    not known: not synchronised")?,
    }
    // The averaging times of most interest: a minute, a quarter of an hour, some hours.
    let stable = status.allan_deviation.iter().filter(|point| point.triples >= 8);
    let stable: Vec<_> =
        stable.step_by(4).map(|point| format!("{:.1e} at {:.0} s", point.deviation, point.tau_s)).collect();
    if !stable.is_empty() {
        line(format_args!("Allan     {}", stable.join(", ")))?;
    }
    if let Some(celsius) = status.temperature_c {
        line(format_args!("sensor    {celsius:.1} C"))?;
    }
    let worker = &status.worker;
    let number = |key: &str| worker.get(key).and_then(Value::as_f64).unwrap_or(0.0);
    match worker.get("pid").and_then(Value::as_u64) {
        _ if worker.get("alive") != Some(&Value::Bool(true)) => {
            line(format_args!(
                "worker    down: {}",
                worker.get("state").and_then(Value::as_str).filter(|state| !state.is_empty()).unwrap_or("not started")
            ))?;
        }
        pid => line(format_args!(
            "worker    {}, {:.0} MB, inference {:.2} ms (99 %: {:.2} ms), {} restarts",
            pid.map_or_else(|| "in this process".to_owned(), |pid| format!("pid {pid}")),
            number("rss_mb"),
            number("inference_ms_p50"),
            number("inference_ms_p99"),
            number("restarts"),
        ))?,
    }
    // Of a worker that has not reported yet nothing is known.
    if worker.get("alive") == Some(&Value::Bool(true)) {
        let models = worker.get("models").and_then(Value::as_array).into_iter().flatten();
        for reason in models.filter_map(|model| model.get("failed").and_then(Value::as_str)) {
            line(format_args!("model     {reason}"))?;
        }
        let warnings = worker.get("warnings").and_then(Value::as_array).into_iter().flatten();
        for warning in warnings.filter_map(Value::as_str) {
            line(format_args!("warning   {warning}"))?;
        }
    }
    let forecasts = status.forecasts;
    line(format_args!(
        "forecasts {} asked, {} accepted, {} muted",
        forecasts.issued, forecasts.accepted, forecasts.muted
    ))?;
    line(format_args!(
        "exchanges {:.1} % gave a sample, {} of {} of these were taken",
        100.0 * status.success_rate,
        status.samples_accepted,
        status.samples_accepted + status.samples_rejected
    ))?;
    line(format_args!("up        {:.0} s, pid {}, page {}", status.uptime_s, status.pid, status.page.display()))?;
    line("")?;
    line(format_args!(
        "{:<28} {:<11} {:>7} {:>14} {:>12} {:>12} {:>8}",
        "source", "state", "stratum", "offset", "delay", "root dist", "poll"
    ))?;
    for source in &status.sources {
        let shown = |nanos: Option<i64>| nanos.map_or_else(|| "-".to_owned(), exact_span);
        line(format_args!(
            "{:<28} {:<11} {:>7} {:>14} {:>12} {:>12} {:>6} s{}",
            source.name,
            source.state,
            source.stratum.map_or_else(|| "-".to_owned(), |s| s.to_string()),
            shown(source.offset_ns),
            shown(source.delay_ns),
            shown(source.root_distance_ns),
            source.poll_s,
            remarks(source),
        ))?;
    }
    Ok(())
}

/// What is worth saying of a source besides its figures: how it is authenticated, why it is not used, what it sent in vain.
fn remarks(source: &SourceStatus) -> String {
    let ignored = [
        (source.counts.unsolicited, "unsolicited"),
        (source.counts.replayed, "replayed"),
        (source.counts.malformed, "malformed"),
        (source.counts.unauthenticated, "not authentic"),
    ];
    let ignored: Vec<_> =
        ignored.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}")).collect();
    let ignored = (!ignored.is_empty()).then(|| format!("ignored {}", ignored.join(", ")));
    let all = [source.authentication.clone(), source.reason.clone(), ignored];
    all.into_iter().flatten().map(|remark| format!("  {remark}")).collect()
}
