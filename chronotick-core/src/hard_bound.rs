//! The hard bound: interval arithmetic over the exchanges.
//!
//! **Assumptions**, all configured: a selected server is wrong by at most its root distance; the oscillator's rate against its
//! nominal frequency never exceeds `max_rate`; its rates at any two instants never differ by more than `max_drift`.
//!
//! **Arithmetic.** An exchange confines the offset to `measured +- (delay / 2 + root distance + counter resolution)`, widened by
//! what the local clock can drift during the exchange itself (RFC 5905, Marzullo and Owicki 1983). Intervals of successive
//! exchanges, each aged by the largest drift possible since, are intersected. The rate is confined too: the mean rate between
//! two confined instants lies in an interval, and the rate at any instant within `max_drift` of that mean. So the bound grows by
//! `max_drift` around what was measured instead of by `max_rate` around zero.
//!
//! **Weaknesses.** Nothing here is statistical: one server that lies within the majority breaks it. An empty intersection proves
//! that an assumption was broken; the newest exchange then starts afresh and the conflict is reported. Of several sources all are then
//! judged anew, by the pipeline: what they had said was moved to the present by rates that are void.

use crate::sample::Sample;
use crate::units::{Local, Offset, Rate, Span, Timestamp};

/// How long the rate's confinement is remembered, twice over.
const GENERATION: Span = Span::from_secs(6 * 3600);

/// Where the offset and the rate must lie.
#[derive(Clone, Copy, Debug)]
pub struct HardBound {
    max_rate: f64,
    max_drift: f64,
    resolution: Span,
    now: Option<Confined>,
    /// The instant that mean rates are measured from.
    anchor: Option<Confined>,
    /// Interval of the mean rates of this generation and of the one before, s/s.
    rates: [(f64, f64); 2],
    conflicts: u32,
}

#[derive(Clone, Copy, Debug)]
struct Confined {
    at: Timestamp<Local>,
    low: Offset,
    high: Offset,
}

impl HardBound {
    /// Nothing is known but the assumptions.
    pub fn new(max_rate: Rate, max_drift: Rate, resolution: Span) -> Self {
        let max_rate = max_rate.value().abs();
        Self {
            max_rate,
            max_drift: max_drift.value().abs().min(2.0 * max_rate),
            resolution,
            now: None,
            anchor: None,
            rates: [(f64::NEG_INFINITY, f64::INFINITY); 2],
            conflicts: 0,
        }
    }

    /// Where the offset lies if the server of this exchange told the truth.
    pub fn interval(&self, sample: &Sample) -> (Offset, Offset) {
        let during = Rate::new(self.max_rate).over(Span::from_nanos(sample.delay.as_nanos() / 2 + 1));
        let half = sample.error_bound().saturating_add(self.resolution).saturating_add(during);
        (sample.offset.saturating_sub(half), sample.offset.saturating_add(half))
    }

    /// The offset at `at` lies between `low` and `high`, as the selected servers say. Returns whether that agrees with everything
    /// before.
    pub fn update(&mut self, at: Timestamp<Local>, low: Offset, high: Offset) -> bool {
        let fresh = Confined { at, low, high };
        let mut agrees = true;
        let confined = match self.now {
            None => fresh,
            Some(before) => {
                let (low, high) = self.aged(before, at);
                let both = Confined { at, low: low.max(fresh.low), high: high.min(fresh.high) };
                if both.low <= both.high {
                    both
                } else {
                    agrees = false;
                    self.conflicts = self.conflicts.saturating_add(1);
                    self.forget_rates();
                    fresh
                }
            }
        };
        self.now = Some(confined);
        if !self.confine_rate(confined) {
            // What the offset was confined to rests on the same exchanges as the rate that has just been contradicted.
            self.now = Some(fresh);
            agrees = false;
        }
        agrees
    }

    /// How far the truth can be from `served` at `at`; without limit before the first exchange.
    pub fn half_width(&self, at: Timestamp<Local>, served: Offset) -> Span {
        let Some(now) = self.now else { return Span::MAX };
        let (low, high) = self.aged(now, at);
        let reach = high.since(served).max(served.since(low)).max(Span::ZERO);
        reach.saturating_add(self.resolution)
    }

    /// Lowest and highest rate that the oscillator can have now.
    pub fn rates(&self) -> (Rate, Rate) {
        let (low, high) = self.admissible();
        (Rate::new(low), Rate::new(high))
    }

    /// How often the assumptions were caught broken.
    pub const fn conflicts(&self) -> u32 {
        self.conflicts
    }

    /// Notes that more exchanges than can be wrong contradict the assumptions. What rests on them is to be [forgotten](Self::reset).
    pub const fn contradicted(&mut self) {
        self.conflicts = self.conflicts.saturating_add(1);
    }

    /// Forgets everything, after a break in the counter itself.
    pub fn reset(&mut self) {
        self.now = None;
        self.forget_rates();
    }

    fn admissible(&self) -> (f64, f64) {
        let low = self.rates[0].0.max(self.rates[1].0) - self.max_drift;
        let high = self.rates[0].1.min(self.rates[1].1) + self.max_drift;
        let (low, high) = (low.max(-self.max_rate), high.min(self.max_rate));
        // Contradictory memories confine nothing; `update` will meet the contradiction in the offsets.
        if low <= high { (low, high) } else { (-self.max_rate, self.max_rate) }
    }

    /// The interval moved from its instant to `at`, rounded outwards.
    fn aged(&self, from: Confined, at: Timestamp<Local>) -> (Offset, Offset) {
        let dt = at.since(from.at);
        let (low, high) = self.admissible();
        let (low, high) = if dt >= Span::ZERO { (low, high) } else { (high, low) };
        let nanosecond = Span::from_nanos(1);
        (
            from.low.saturating_add(Rate::new(low).over(dt)).saturating_sub(nanosecond),
            from.high.saturating_add(Rate::new(high).over(dt)).saturating_add(nanosecond),
        )
    }

    /// Returns whether the mean rate up to `now` agrees with those before.
    fn confine_rate(&mut self, now: Confined) -> bool {
        let Some(anchor) = self.anchor else {
            self.anchor = Some(now);
            return true;
        };
        let elapsed = now.at.since(anchor.at);
        if elapsed <= Span::ZERO {
            return true;
        }
        let seconds = elapsed.as_secs_f64();
        let mean =
            (now.low.since(anchor.high).as_secs_f64() / seconds, now.high.since(anchor.low).as_secs_f64() / seconds);
        // A mean is within the drift of every other mean, so intersecting them is sound even when the rate moves.
        let [current, earlier] = self.rates;
        self.rates[0] = (current.0.max(mean.0), current.1.min(mean.1));
        let (low, high) = (self.rates[0].0.max(earlier.0), self.rates[0].1.min(earlier.1));
        if low - self.max_drift > high + self.max_drift {
            self.conflicts = self.conflicts.saturating_add(1);
            self.forget_rates();
            return false;
        }
        if elapsed > GENERATION {
            self.rates[1] = self.rates[0];
            self.rates[0] = (f64::NEG_INFINITY, f64::INFINITY);
            self.anchor = Some(now);
        }
        true
    }

    fn forget_rates(&mut self) {
        self.rates = [(f64::NEG_INFINITY, f64::INFINITY); 2];
        self.anchor = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::SourceId;

    fn sample(at: i64, offset: i64, delay: i64) -> Sample {
        Sample {
            local: Timestamp::from_nanos(at),
            offset: Offset::from_nanos(offset),
            delay: Span::from_nanos(delay),
            root_distance: Span::from_micros(10),
            temperature: None,
            source: SourceId(0),
        }
    }

    fn feed(bound: &mut HardBound, at: i64, offset: i64, delay: i64) -> bool {
        let sample = sample(at, offset, delay);
        let (low, high) = bound.interval(&sample);
        bound.update(sample.local, low, high)
    }

    fn bound() -> HardBound {
        HardBound::new(Rate::from_ppm(500.0), Rate::from_ppm(50.0), Span::from_nanos(1))
    }

    #[test]
    fn unbounded_before_the_first_exchange() {
        assert_eq!(bound().half_width(Timestamp::from_nanos(0), Offset::ZERO), Span::MAX);
    }

    #[test]
    fn grows_by_the_maximum_drift_around_a_known_rate() {
        let mut bound = bound();
        // A clock that loses exactly 100 ppm, seen once a minute for an hour.
        for i in 0..60 {
            let at = i * 60_000_000_000;
            assert!(feed(&mut bound, at, at / 10_000, 100_000));
        }
        let last = 59 * 60_000_000_000i64;
        let (low, high) = bound.rates();
        assert!(low.as_ppm() > 49.0 && high.as_ppm() < 151.0, "{low:?} {high:?}");
        let later = last + 1_000_000_000_000;
        let truth = Offset::from_nanos(later / 10_000);
        let half = bound.half_width(Timestamp::from_nanos(later), truth);
        assert!(half < Span::from_millis(52) && half > Span::from_millis(50), "{half:?}");
    }

    #[test]
    fn a_contradiction_is_reported_and_starts_afresh() {
        let mut bound = bound();
        assert!(feed(&mut bound, 0, 0, 100_000));
        assert!(!feed(&mut bound, 1_000_000_000, 1_000_000_000, 100_000));
        assert_eq!(bound.conflicts(), 1);
        let half = bound.half_width(Timestamp::from_nanos(1_000_000_000), Offset::from_nanos(1_000_000_000));
        assert!(half < Span::from_micros(100), "{half:?}");
    }
}
