//! How often the claimed 95 % interval held, seen by the exchanges that came after the claim.
//!
//! **Model.** Before an exchange is taken in, the pipeline is asked for its interval at the exchange's instant. The exchange agrees
//! with it when its measured offset is within the interval's half-width plus the exchange's own slack: half of what its delay
//! exceeds the least delay lately seen from that source, for a packet that queued on one way is wrong by at most that, relative
//! to one that did not queue.
//!
//! **Weaknesses.** A constant asymmetry of the path is in every exchange alike and cannot be seen. A noisy path hides small errors,
//! so the share is at best an upper estimate there. Against a known truth `replay` and the simulations measure the real one.

use std::collections::VecDeque;

use chronotick_core::{Estimate, Sample};
use serde::{Deserialize, Serialize};

/// Exchanges over which the share is taken.
const EXCHANGES: usize = 256;
/// Delays per source from which the least is taken.
const DELAYS: usize = 64;

/// How many of the last exchanges agreed with the interval claimed before them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Coverage {
    /// Exchanges that were compared, the newest 256.
    pub exchanges: usize,
    /// Those that agreed.
    pub inside: usize,
}

impl Coverage {
    /// The share that agreed; `None` before the first.
    pub fn ratio(self) -> Option<f64> {
        (self.exchanges > 0).then(|| self.inside as f64 / self.exchanges as f64)
    }
}

/// Remembers what [`Coverage`] counts.
#[derive(Debug, Default)]
pub(super) struct Witness {
    agreed: VecDeque<bool>,
    /// The newest delays by source, in ns.
    delays: Vec<VecDeque<i64>>,
}

impl Witness {
    /// Compares `sample` with what was `predicted` for its instant before it was known.
    pub(super) fn observe(&mut self, sample: &Sample, predicted: Option<&Estimate>) {
        let source = usize::from(sample.source.0);
        if self.delays.len() <= source {
            self.delays.resize_with(source + 1, VecDeque::new);
        }
        let delays = &mut self.delays[source];
        let delay = sample.delay.as_nanos();
        push(delays, delay, DELAYS);
        let least = delays.iter().copied().min().unwrap_or(delay);
        let Some(predicted) = predicted.filter(|estimate| estimate.interval.is_known()) else { return };
        let slack = (delay - least) / 2;
        let allowed = predicted.interval.half_width().as_nanos().saturating_add(slack);
        let error = sample.offset.since(predicted.offset).as_nanos();
        push(&mut self.agreed, error.unsigned_abs() <= allowed.unsigned_abs(), EXCHANGES);
    }

    /// A source was replaced by another.
    pub(super) fn forget(&mut self, source: usize) {
        if let Some(delays) = self.delays.get_mut(source) {
            delays.clear();
        }
    }

    pub(super) fn coverage(&self) -> Coverage {
        Coverage { exchanges: self.agreed.len(), inside: self.agreed.iter().filter(|&&agreed| agreed).count() }
    }
}

fn push<T>(queue: &mut VecDeque<T>, item: T, most: usize) {
    if queue.len() >= most {
        queue.pop_front();
    }
    queue.push_back(item);
}

#[cfg(test)]
mod tests {
    use chronotick_core::interval::{ErrorBound, PredictionInterval};
    use chronotick_core::units::{Offset, Span, Timestamp};
    use chronotick_core::{Reason, SourceId, Tier};

    use super::*;

    fn sample(offset_us: i64, delay_us: i64) -> Sample {
        Sample {
            local: Timestamp::from_nanos(0),
            offset: Offset::from_nanos(offset_us * 1000),
            delay: Span::from_micros(delay_us),
            root_distance: Span::ZERO,
            temperature: None,
            source: SourceId(0),
        }
    }

    #[test]
    fn an_exchange_that_queued_is_given_what_it_queued() {
        let claim = Estimate {
            offset: Offset::from_nanos(0),
            interval: PredictionInterval::new(Span::from_micros(10)),
            bound: ErrorBound::UNBOUNDED,
            tier: Tier::Filter,
            reason: Reason::Nominal,
        };
        let mut witness = Witness::default();
        witness.observe(&sample(500, 100), None);
        assert_eq!(witness.coverage().ratio(), None);
        for (offset, delay, inside) in [(10, 100, 1), (-11, 100, 1), (60, 200, 2), (61, 200, 2)] {
            witness.observe(&sample(offset, delay), Some(&claim));
            assert_eq!(witness.coverage().inside, inside, "{offset} us, delay {delay} us");
        }
        assert_eq!(witness.coverage().ratio(), Some(0.5));
        (0..300).for_each(|_| witness.observe(&sample(0, 100), Some(&claim)));
        assert_eq!(witness.coverage(), Coverage { exchanges: 256, inside: 256 });
    }
}
