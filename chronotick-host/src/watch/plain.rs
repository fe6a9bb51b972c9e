//! The watch for pipes: one line a second, and one for each exchange and change.

use std::path::Path;

use crate::runner::journal::Event;
use crate::words;

/// What the lines are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// For people and `grep`.
    Words,
    /// One JSON object a line: the journal as it is.
    Json,
}

impl Form {
    /// What stands above the lines.
    pub(super) fn header(self) -> Option<String> {
        (self == Self::Words).then(|| {
            "# served: UTC, tier, offset, 95 % interval, hard bound, rate; exchange: source, residual, delay, verdict"
                .to_owned()
        })
    }
}

/// The lines that `event` is worth. In words the `past` is passed over: only its changes of tier are told.
pub fn lines(form: Form, event: &Event, page: &Path, past: bool) -> Vec<String> {
    if form == Form::Json {
        return serde_json::to_string(event).into_iter().collect();
    }
    match event {
        Event::Daemon(writer) => {
            let page = page.display();
            vec![format!(
                "# daemon {} of version {}, counter {}, page {page}",
                writer.pid, writer.version, writer.counter
            )]
        }
        Event::Served(served) if !past => vec![format!(
            "{} served    {:<8} {:>14} {:>12} {:>12} {:>+11.4} ppm",
            words::time_of_day(served.utc_ns),
            served.tier,
            served.offset_ns.map_or_else(|| "unknown".to_owned(), words::signed),
            words::half_width(served.interval95_ns),
            words::half_width(served.bound_ns),
            served.rate_ppm,
        )],
        Event::Exchange(exchange) if !past => vec![format!(
            "{} exchange  {} residual {} delay {} {}",
            words::time_of_day(exchange.utc_ns),
            exchange.source,
            exchange.residual_ns.map_or_else(|| "unknown".to_owned(), words::signed),
            words::span(exchange.delay_ns),
            exchange.refused.as_deref().map_or_else(|| "used".to_owned(), |why| format!("not used: {why}")),
        )],
        Event::Tier(change) => vec![format!(
            "{} tier      {} -> {}: {}",
            words::time_of_day(change.utc_ns),
            change.from,
            change.to,
            change.reason
        )],
        Event::Disruption(disrupted) => {
            vec![format!("{} disrupted {}", words::time_of_day(disrupted.utc_ns), disrupted.what)]
        }
        Event::Served(_) | Event::Exchange(_) | Event::CaughtUp => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use chronotick_core::Tier;

    use super::*;
    use crate::runner::journal::{Served, TierChange};

    #[test]
    fn words_tell_of_the_past_its_changes_alone_and_json_tells_all() {
        let page = Path::new("/run/chronotick/clock");
        let served = Event::Served(Served {
            local_ns: 1,
            utc_ns: 1_709_210_096_000_000_000,
            offset_ns: Some(-12_345),
            interval95_ns: Some(5_240),
            bound_ns: None,
            rate_ppm: -1.5,
            temperature_c: None,
            tier: Tier::Filter,
        });
        let change = Event::Tier(TierChange {
            local_ns: 1,
            utc_ns: 0,
            from: Tier::Raw,
            to: Tier::Filter,
            reason: "young".into(),
        });
        assert!(lines(Form::Words, &served, page, true).is_empty());
        assert_eq!(
            lines(Form::Words, &served, page, false),
            ["12:34:56 served    filter         -12.3 us    +-5.24 us      unknown     -1.5000 ppm"]
        );
        assert_eq!(lines(Form::Words, &change, page, true), ["00:00:00 tier      raw -> filter: young"]);
        let json = lines(Form::Json, &served, page, true);
        assert_eq!(serde_json::from_str::<Event>(&json[0]).expect("its own line"), served);
    }
}
