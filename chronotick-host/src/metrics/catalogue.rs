//! The metrics themselves: names with units, what each means, and where it comes from.
//!
//! They are written down with the macros of the `metrics` crate, so that who is told of them is another's concern.

use chronotick_core::Tier;
use metrics::{counter, gauge};
use serde_json::Value;

use super::look::{Look, PageView};
use crate::runner::Status;
use crate::runner::status::SourceStatus;
use crate::supervisor::process_usage;

/// Gauges: name and help.
pub(super) const GAUGES: &[(&str, &str)] = &[
    ("chronotick_build_info", "Always 1; the labels say which daemon this is."),
    ("chronotick_uptime_seconds", "Time since the daemon started."),
    ("chronotick_tier", "1 for the tier that answers readers now, 0 for the others."),
    ("chronotick_tier_reason", "Always 1; the label says why the tier is no better."),
    ("chronotick_offset_seconds", "Served offset, reference - local. Absent in tier raw."),
    ("chronotick_interval95_half_width_seconds", "Half-width of the calibrated 95 % interval. Absent when unknown."),
    ("chronotick_bound_half_width_seconds", "Half-width of the hard bound. Absent when unbounded."),
    (
        "chronotick_coverage_ratio",
        "Share of the last 256 exchanges that agreed with the 95 % interval claimed before them.",
    ),
    ("chronotick_coverage_exchanges", "Exchanges behind chronotick_coverage_ratio."),
    ("chronotick_oscillator_rate_ppm", "Estimated rate of the local oscillator: the slope of the offset."),
    ("chronotick_oscillator_temperature_celsius", "Temperature near the oscillator at the last exchange."),
    ("chronotick_page_age_seconds", "Age of the published line as a reader sees it."),
    ("chronotick_page_heartbeat_age_seconds", "Time since the daemon's last sign of life on the page."),
    ("chronotick_page_readable", "1 if a reader can attach to the page."),
    ("chronotick_worker_up", "1 if the forecast worker is set up and gives signs of life."),
    ("chronotick_worker_resident_memory_bytes", "Resident memory of the forecast worker."),
    ("chronotick_worker_cpu_seconds", "Processor time of the present worker since its start."),
    ("chronotick_worker_inference_median_seconds", "Median time of the last 256 inferences."),
    ("chronotick_worker_inference_p99_seconds", "99 % quantile of the last 256 inferences."),
    ("chronotick_expert_weight_ratio", "Share of the weight that experts of this kind have at this horizon."),
    (
        "chronotick_expert_rms_error_seconds",
        "Root mean squared error of the best expert of this kind, of its frozen forecasts at this horizon.",
    ),
    ("chronotick_source_up", "1 if the newest request to the source was answered."),
    ("chronotick_source_state", "Always 1; the labels say what the source does and what the others make of it."),
    ("chronotick_source_selected", "1 if the source agrees with the majority."),
    ("chronotick_source_offset_seconds", "Newest measured offset, reference - local."),
    ("chronotick_source_delay_seconds", "Its round-trip delay."),
    ("chronotick_source_root_distance_seconds", "The server's own error budget."),
    ("chronotick_source_age_seconds", "Age of the newest measurement."),
    ("chronotick_source_poll_interval_seconds", "Poll interval in force."),
    ("chronotick_source_stratum", "The server's stratum."),
    ("chronotick_process_resident_memory_bytes", "Resident memory of the daemon, without the worker."),
    ("chronotick_process_cpu_seconds", "Processor time of the daemon since its start, without the worker."),
];

/// Counters: name and help.
pub(super) const COUNTERS: &[(&str, &str)] = &[
    ("chronotick_samples_total", "Exchanges by what the pipeline made of them."),
    ("chronotick_bound_conflicts_total", "Times the assumptions behind the hard bound were caught broken."),
    ("chronotick_disruptions_total", "Suspensions, pauses and jumps of the counter that were noticed."),
    ("chronotick_forecasts_total", "Questions to the models and their answers."),
    ("chronotick_worker_restarts_total", "Workers that were replaced."),
    ("chronotick_source_requests_total", "Requests sent to the source."),
    ("chronotick_source_answers_total", "What became of the requests."),
];

/// The names of all metrics, without their labels, and what each means.
pub fn catalogue() -> impl Iterator<Item = (&'static str, &'static str)> {
    GAUGES.iter().chain(COUNTERS).copied()
}

/// Sets every metric in the recorder of this thread.
pub(super) fn fill(look: &Look) {
    let Look { status, page } = look;
    daemon(status);
    served(status);
    read(*page);
    worker(&status.worker);
    experts(status);
    status.sources.iter().for_each(source);
}

fn daemon(status: &Status) {
    gauge!("chronotick_build_info", "version" => status.version.clone(), "counter" => status.counter.clone()).set(1.0);
    gauge!("chronotick_uptime_seconds").set(status.uptime_s);
    for (result, count) in [("accepted", status.samples_accepted), ("rejected", status.samples_rejected)] {
        counter!("chronotick_samples_total", "result" => result).absolute(count);
    }
    counter!("chronotick_bound_conflicts_total").absolute(status.bound_conflicts.into());
    counter!("chronotick_disruptions_total").absolute(status.disruptions);
    let forecasts = status.forecasts;
    for (result, count) in [("issued", forecasts.issued), ("accepted", forecasts.accepted), ("muted", forecasts.muted)]
    {
        counter!("chronotick_forecasts_total", "result" => result).absolute(count);
    }
    if let Some((rss_mb, cpu_s)) = process_usage(status.pid) {
        gauge!("chronotick_process_resident_memory_bytes").set(rss_mb * 1e6);
        gauge!("chronotick_process_cpu_seconds").set(cpu_s);
    }
}

fn served(status: &Status) {
    for tier in [Tier::Fused, Tier::Filter, Tier::Holdover, Tier::Cached, Tier::Raw] {
        gauge!("chronotick_tier", "tier" => tier.as_str()).set(flag(tier == status.tier));
    }
    gauge!("chronotick_tier_reason", "reason" => status.reason.clone()).set(1.0);
    let optional = |name: &'static str, nanos: Option<i64>| {
        if let Some(nanos) = nanos {
            gauge!(name).set(seconds(nanos));
        }
    };
    optional("chronotick_offset_seconds", status.offset_ns);
    optional("chronotick_interval95_half_width_seconds", status.interval95_ns);
    optional("chronotick_bound_half_width_seconds", status.bound_ns);
    gauge!("chronotick_coverage_exchanges").set(status.coverage.exchanges as f64);
    if let Some(ratio) = status.coverage.ratio() {
        gauge!("chronotick_coverage_ratio").set(ratio);
    }
    gauge!("chronotick_oscillator_rate_ppm").set(status.rate_ppm);
    if let Some(celsius) = status.temperature_c {
        gauge!("chronotick_oscillator_temperature_celsius").set(celsius);
    }
}

fn read(page: Option<PageView>) {
    gauge!("chronotick_page_readable").set(flag(page.is_some()));
    if let Some(page) = page {
        gauge!("chronotick_page_age_seconds").set(page.age.as_secs_f64());
        gauge!("chronotick_page_heartbeat_age_seconds").set(page.heartbeat_age.as_secs_f64());
    }
}

fn worker(worker: &Value) {
    let number = |key: &str| worker.get(key).and_then(Value::as_f64).unwrap_or(0.0);
    gauge!("chronotick_worker_up").set(flag(worker.get("alive") == Some(&Value::Bool(true))));
    gauge!("chronotick_worker_resident_memory_bytes").set(number("rss_mb") * 1e6);
    gauge!("chronotick_worker_inference_median_seconds").set(number("inference_ms_p50") / 1e3);
    gauge!("chronotick_worker_inference_p99_seconds").set(number("inference_ms_p99") / 1e3);
    counter!("chronotick_worker_restarts_total").absolute(worker.get("restarts").and_then(Value::as_u64).unwrap_or(0));
    gauge!("chronotick_worker_cpu_seconds").set(number("cpu_s"));
}

fn experts(status: &Status) {
    let experts = &status.experts;
    for family in &experts.families {
        for (node, horizon) in experts.horizons_s.iter().enumerate() {
            let labels = [("kind", family.name.clone()), ("horizon_seconds", horizon.to_string())];
            if let Some(&weight) = family.weights.get(node) {
                gauge!("chronotick_expert_weight_ratio", &labels).set(weight);
            }
            if let Some(error) = family.rms_error_ns.get(node).copied().flatten() {
                gauge!("chronotick_expert_rms_error_seconds", &labels).set(error / 1e9);
            }
        }
    }
}

fn source(source: &SourceStatus) {
    let label = [("source", source.name.clone()), ("kind", source.kind.clone())];
    let verdict = source.verdict.clone().unwrap_or_else(|| "unheard".to_owned());
    let selected = verdict == "selected";
    gauge!("chronotick_source_up", &label).set(flag(source.state == "reachable"));
    gauge!(
        "chronotick_source_state",
        "source" => source.name.clone(), "kind" => source.kind.clone(),
        "state" => source.state.clone(), "verdict" => verdict,
    )
    .set(1.0);
    gauge!("chronotick_source_selected", &label).set(flag(selected));
    for (name, nanos) in [
        ("chronotick_source_offset_seconds", source.offset_ns),
        ("chronotick_source_delay_seconds", source.delay_ns),
        ("chronotick_source_root_distance_seconds", source.root_distance_ns),
    ] {
        if let Some(nanos) = nanos {
            gauge!(name, &label).set(seconds(nanos));
        }
    }
    if let Some(age) = source.age_s {
        gauge!("chronotick_source_age_seconds", &label).set(age);
    }
    if let Some(stratum) = source.stratum {
        gauge!("chronotick_source_stratum", &label).set(f64::from(stratum));
    }
    gauge!("chronotick_source_poll_interval_seconds", &label).set(source.poll_s);
    counter!("chronotick_source_requests_total", &label).absolute(source.counts.requests);
    for (result, count) in [
        ("accepted", source.counts.accepted),
        ("refused", source.counts.refused),
        ("lost", source.counts.lost),
        ("unsolicited", source.counts.unsolicited),
    ] {
        let labels = [("source", source.name.clone()), ("kind", source.kind.clone()), ("result", result.to_owned())];
        counter!("chronotick_source_answers_total", &labels).absolute(count);
    }
}

fn seconds(nanos: i64) -> f64 {
    nanos as f64 / 1e9
}

fn flag(yes: bool) -> f64 {
    f64::from(u8::from(yes))
}
