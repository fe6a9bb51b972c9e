//! `chronotick now`

use chronotick_core::Tier;
use chronotick_core::units::Span;
use chronotick_host::{Reader, Timestamp, words};
use serde_json::{Value, json};

use super::{Failure, Outcome, PageArguments, line};

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    page: PageArguments,
    /// One JSON object on one line.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(arguments: &Arguments) -> Outcome {
    let path = arguments.page.path()?;
    let reader = Reader::attach(&path).map_err(|error| Failure::Failed(error.to_string()))?;
    let now = reader.now();
    if arguments.json {
        line(to_json(&now))?
    } else {
        line(to_text(&now))?
    }
    if now.tier() == Tier::Raw { Err(Failure::Unsynchronised) } else { Ok(()) }
}

/// The contract's fields. The intervals are on the offset, as in predictions; `null` where nothing is known.
fn to_json(now: &Timestamp) -> Value {
    let offset = now.offset().as_nanos();
    let around = |half: Span, known: bool| {
        let ends = known.then(|| (offset.saturating_sub(half.as_nanos()), offset.saturating_add(half.as_nanos())));
        (ends.map(|e| e.0), ends.map(|e| e.1))
    };
    let (low95, high95) = around(now.interval95().half_width(), now.interval95().is_known());
    let (bound_low, bound_high) = around(now.bound().half_width(), now.bound().is_bounded());
    json!({
        "utc_ns": now.utc().as_nanos(),
        "raw_ns": now.raw().as_nanos(),
        "offset_ns": offset,
        "low95_ns": low95,
        "high95_ns": high95,
        "bound_low_ns": bound_low,
        "bound_high_ns": bound_high,
        "confidence": now.confidence(),
        "tier": now.tier().as_str(),
        "reason": now.reason().as_str(),
        "age_ms": now.age().as_secs_f64() * 1e3,
        "epoch": now.epoch(),
    })
}

fn to_text(now: &Timestamp) -> String {
    let time = words::rfc3339(now.utc().as_nanos());
    let why = format_args!("{}: {}", now.tier(), now.reason()).to_string();
    if !now.bound().is_bounded() {
        return format!("{time}  offset unknown  {why}");
    }
    format!(
        "{time}  offset {} +- {} (95 %), at worst +- {}  {why}",
        words::exact_span(now.offset().as_nanos()),
        words::exact_span(now.interval95().half_width().as_nanos()),
        words::exact_span(now.bound().half_width().as_nanos()),
    )
}
