//! The watch for pipes: one line a second, and one for each exchange and change.

use super::state::State;
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

/// The lines that `event` is worth. In words the past is passed over: only its changes of tier are told.
pub fn lines(form: Form, event: &Event, state: &State) -> Vec<String> {
    if form == Form::Json {
        return serde_json::to_string(event).into_iter().collect();
    }
    match event {
        Event::Daemon(writer) => {
            let page = state.page.display();
            vec![format!(
                "# daemon {} of version {}, counter {}, page {page}",
                writer.pid, writer.version, writer.counter
            )]
        }
        Event::Served(served) if state.caught_up => vec![format!(
            "{} served    {:<8} {:>14} {:>12} {:>12} {:>+11.4} ppm",
            words::time_of_day(served.utc_ns),
            served.tier,
            served.offset_ns.map_or_else(|| "unknown".to_owned(), words::signed),
            words::half_width(served.interval95_ns),
            words::half_width(served.bound_ns),
            served.rate_ppm,
        )],
        Event::Exchange(exchange) if state.caught_up => vec![format!(
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
