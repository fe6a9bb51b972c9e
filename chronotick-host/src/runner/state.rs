//! The state of the daemon as `chronotick status` shows it, put together from its parts when somebody asks.

use chronotick_core::selection::Verdict;
use chronotick_core::units::{Local, Span, Temperature, Timestamp};
use chronotick_core::{Reason, SourceId, Tier};

use super::Runner;
use super::source::Source;
use super::status::{self, Forecasts, SourceStatus, Status};
use crate::feed::ChronySock;
use crate::replay::allan::AllanPoint;
use crate::supervisor::Supervisor;

impl Runner {
    /// The state as `chronotick status` shows it.
    pub fn status(&self) -> Status {
        let now = self.clock.now();
        let sources: Vec<_> =
            (0..).zip(&self.sources).map(|(id, source)| self.source_status(SourceId(id), &**source, now)).collect();
        let settled: u64 = sources.iter().map(|s| s.counts.accepted + s.counts.refused + s.counts.lost).sum();
        let accepted: u64 = sources.iter().map(|s| s.counts.accepted).sum();
        let counts = self.pipeline.counts();
        let record = self.publisher.record().map(|record| record.advance(now));
        let synchronised = record.filter(|record| record.tier != Tier::Raw);
        Status {
            tier: record.map_or(Tier::Raw, |record| record.tier),
            reason: record.map_or(Reason::NeverSynchronised, |record| record.reason).to_string(),
            sources,
            experts: status::experts(&self.pipeline),
            leap: self.leaps.announced().map(|leap| leap.as_str().to_owned()),
            feed: self.feed.as_ref().map(ChronySock::status),
            worker: self.worker_status(),
            forecasts: Forecasts {
                issued: counts.forecasts_issued,
                accepted: counts.forecasts_accepted,
                muted: counts.forecasts_muted,
            },
            success_rate: if settled == 0 { 1.0 } else { accepted as f64 / settled as f64 },
            uptime_s: self.started.elapsed().as_secs_f64(),
            rate_ppm: self.pipeline.rate().as_ppm(),
            allan_deviation: self.stability.points().map(AllanPoint::from).collect(),
            offset_ns: synchronised.map(|record| record.utc.offset_from(record.at).as_nanos()),
            interval95_ns: record.filter(|r| r.interval.is_known()).map(|r| r.interval.half_width().as_nanos()),
            bound_ns: record.filter(|r| r.bound.is_bounded()).map(|r| r.bound.half_width().as_nanos()),
            temperature_c: self.temperature.map(Temperature::value),
            coverage: self.witness.coverage(),
            samples_accepted: counts.samples_accepted,
            samples_rejected: counts.samples_rejected,
            bound_conflicts: self.pipeline.bound_conflicts(),
            disruptions: self.disruptions,
            counter: format!("{:?}", self.clock.kind()),
            page: self.path.clone(),
            pid: std::process::id(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
        }
    }

    /// A source's own state, and what the others think of it.
    fn source_status(&self, id: SourceId, source: &dyn Source, now: Timestamp<Local>) -> SourceStatus {
        let mut status = source.status(now);
        let verdict = self.pipeline.verdict(id);
        status.verdict = status.verdict.or(verdict.map(|verdict| verdict.as_str().to_owned()));
        if status.reason.is_none() {
            status.reason = match verdict {
                Some(Verdict::Falseticker) => {
                    let served = self.pipeline.line_offset().zip(status.offset_ns);
                    let served =
                        served.map(|(line, offset)| (line.saturating_add(self.leaps.utc_less_continuous()), offset));
                    let apart = served.map(|(line, offset)| Span::from_nanos(offset.saturating_sub(line.as_nanos())));
                    let apart = apart.map_or_else(String::new, |apart| format!(", by {:+.6} s", apart.as_secs_f64()));
                    Some(format!("a majority of the servers contradicts it{apart}"))
                }
                Some(Verdict::Undecided) => Some(self.pipeline.why_nothing().to_string()),
                _ => None,
            };
        }
        status
    }

    fn worker_status(&self) -> serde_json::Value {
        let health = self.worker.as_ref().map(Supervisor::health).unwrap_or_default();
        let mut value = serde_json::to_value(&health).unwrap_or_default();
        if let Some(fields) = value.as_object_mut() {
            fields.insert("p99".to_owned(), health.inference_ms_p99.into());
        }
        value
    }
}
