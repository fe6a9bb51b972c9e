//! `chronotick now`

use chronotick_core::Tier;
use chronotick_core::units::Span;
use chronotick_host::{Reader, Timestamp};
use serde_json::{Value, json};

use super::status::span;
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
    let time = calendar(now.utc().as_nanos());
    let why = format_args!("{}: {}", now.tier(), now.reason()).to_string();
    if !now.bound().is_bounded() {
        return format!("{time}  offset unknown  {why}");
    }
    format!(
        "{time}  offset {} +- {} (95 %), at worst +- {}  {why}",
        span(now.offset().as_nanos()),
        span(now.interval95().half_width().as_nanos()),
        span(now.bound().half_width().as_nanos()),
    )
}

/// Nanoseconds since 1970 as `2026-01-31T12:34:56.123456789Z` (days to civil date after Howard Hinnant's
/// "chrono-Compatible Low-Level Date Algorithms").
fn calendar(nanos: i64) -> String {
    let (seconds, part) = (nanos.div_euclid(1_000_000_000), nanos.rem_euclid(1_000_000_000));
    let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{part:09}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calendar_dates() {
        for (nanos, shown) in [
            (0, "1970-01-01T00:00:00.000000000Z"),
            (951_782_400_000_000_001, "2000-02-29T00:00:00.000000001Z"),
            (1_767_225_599_999_999_999, "2025-12-31T23:59:59.999999999Z"),
            (-1, "1969-12-31T23:59:59.999999999Z"),
        ] {
            assert_eq!(calendar(nanos), shown);
        }
    }
}
