//! The tiers over time, and what else happened.

use chronotick_core::fallback::Tier;
use chronotick_core::pipeline::Pipeline;
use chronotick_core::sample::Sample;
use chronotick_core::units::{Local, Span, Timestamp};

use super::{Happening, Kind, TierShare};

/// Looks between two exchanges for a change of tier, at most.
const LOOKS: i64 = 32;

/// The tiers over time, and what else happened.
#[derive(Default)]
pub(super) struct Course {
    pub(super) tier: Option<Tier>,
    pub(super) since: f64,
    pub(super) spans: Vec<(f64, f64, Tier)>,
    pub(super) events: Vec<Happening>,
}

impl Course {
    /// The time between two exchanges, in which a tier may fall.
    pub(super) fn pass(
        &mut self,
        pipeline: &Pipeline,
        before: Option<&Sample>,
        sample: &Sample,
        first: Timestamp<Local>,
    ) {
        let Some(before) = before else { return };
        let gap = sample.local.since(before.local);
        if gap < pipeline.config().holdover_after {
            return;
        }
        for look in 1..=LOOKS {
            let at = before.local.saturating_add(Span::from_nanos(gap.as_nanos() / (LOOKS + 1) * look));
            self.look(pipeline, at, first);
        }
    }

    pub(super) fn look(&mut self, pipeline: &Pipeline, at: Timestamp<Local>, first: Timestamp<Local>) {
        let hours = at.since(first).as_secs_f64() / 3600.0;
        let (tier, reason) =
            pipeline.estimate(at).map_or((Tier::Raw, String::new()), |e| (e.tier, e.reason.to_string()));
        if self.tier == Some(tier) {
            return;
        }
        if let Some(from) = self.tier {
            self.tell(hours, Kind::Tier, format!("{from} to {tier}: {reason}"));
        }
        self.end(hours);
        (self.tier, self.since) = (Some(tier), hours);
    }

    pub(super) fn tell(&mut self, hours: f64, kind: Kind, what: String) {
        self.events.push(Happening { at_s: hours * 3600.0, kind, what });
    }

    pub(super) fn end(&mut self, hours: f64) {
        if let Some(tier) = self.tier.take()
            && hours > self.since
        {
            self.spans.push((self.since, hours, tier));
        }
    }

    pub(super) fn shares(&self) -> Vec<TierShare> {
        let total: f64 = self.spans.iter().map(|(from, until, _)| until - from).sum();
        let share = |tier| {
            let own = self.spans.iter().filter(|span| span.2 == tier).map(|(from, until, _)| until - from).sum::<f64>();
            TierShare { tier, share: own / total.max(1e-12) }
        };
        Tier::ALL.into_iter().map(share).filter(|share| share.share > 0.0).collect()
    }
}
