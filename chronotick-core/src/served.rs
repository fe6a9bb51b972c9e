//! The clock that readers see: continuous, monotone, slewed towards the newest estimate.
//!
//! Model: within an epoch the served clock is a chain of straight lines, each starting on (never below) the one before.
//! The newest estimate is reached by adding a slope of at most [`Config::max_slew`] for as long as the difference asks; until
//! then the difference counts in the hard bound and in the 95 % interval. A difference beyond [`Config::step_threshold`],
//! the first synchronisation, and the loss of all bounds start a new epoch instead, with a step.
//!
//! A record is in force a little later than it is computed, and readers on other processors use the old line until they
//! see the new one. Where the new line is the slower one, a reader of the new line could then be behind a reader of the old
//! one. Records therefore start [`Config::lead`] after the instant they are asked for, on the higher of the old line and the new
//! slope drawn from now: whoever still reads the old line before that start is never ahead.
//!
//! Compromise: a line that becomes visible later than its lead gives no such promise; the writer checks and publishes again.

use serde::{Deserialize, Serialize};

use crate::fallback::{Reason, Tier};
use crate::interval::{ErrorBound, PredictionInterval};
use crate::units::{self, Local, Offset, Rate, Span, Timestamp, Utc};

/// How the served clock follows the estimate. [`Config::default`]: 500 ppm, 100 ms, 128 ms, 100 us.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Config {
    /// The largest slope added to the estimated rate to work off a difference; at most [`MAX_SLEW`].
    pub max_slew: Rate,
    /// Small differences are worked off over this long, so that the served rate stays smooth.
    pub spread: Span,
    /// A larger difference is a step and a new epoch.
    pub step_threshold: Span,
    /// How far ahead of the instant asked for a record starts.
    pub lead: Span,
}

/// The largest slew that the clock page can carry.
pub const MAX_SLEW: Rate = Rate::from_ppm(1_900.0);

/// The largest rate that is believed: no oscillator that keeps time is 1 % off.
const MAX_RATE: f64 = 0.01;
/// Slew durations are whole multiples of this (1.024 us), as in the clock page.
const SLEW_UNIT: i64 = 1 << 10;
/// The longest slew duration that the clock page can carry.
const MAX_SLEW_SPAN: i64 = (u32::MAX as i64) << 10;

impl Default for Config {
    fn default() -> Self {
        Self {
            max_slew: Rate::from_ppm(500.0),
            spread: Span::from_millis(100),
            step_threshold: Span::from_millis(128),
            lead: Span::from_micros(100),
        }
    }
}

/// The state machine between the estimate and what is served.
///
/// ```
/// use chronotick_core::served::{Config, Served, Target};
/// use chronotick_core::{Offset, Span, Tier, Timestamp};
///
/// let mut served = Served::new(Config::default());
/// let start = Timestamp::from_nanos(0);
/// let record = served.update(&Target::raw(start, Offset::from_nanos(5_000)));
/// assert_eq!(record.tier, Tier::Raw);
/// assert!(!record.bound.is_bounded());
/// // Nothing new is known: the line goes on.
/// let later = start.saturating_add(Span::from_secs(1));
/// let record = served.advance(later);
/// assert_eq!(record.map(|record| record.utc), Some(later.to_utc(Offset::from_nanos(5_000))));
/// ```
#[derive(Clone, Debug)]
pub struct Served {
    config: Config,
    record: Option<ClockRecord>,
    /// The next record starts a new epoch.
    stepping: bool,
}

impl Served {
    /// A served clock that has said nothing yet.
    pub fn new(config: Config) -> Self {
        Self { config, record: None, stepping: false }
    }

    /// Goes on from a record that readers have already been served, by an earlier run for instance.
    pub fn resume(config: Config, record: ClockRecord) -> Self {
        Self { config, record: Some(record), stepping: false }
    }

    /// The next update is a step and a new epoch, however small: the timescale itself has one.
    pub fn step(&mut self) {
        self.stepping = true;
    }

    /// What is served now, if anything.
    pub fn record(&self) -> Option<&ClockRecord> {
        self.record.as_ref()
    }

    /// Turns towards `target` and returns the record to publish. Total: nonsense rates are limited, nonsense widths are
    /// unbounded.
    pub fn update(&mut self, target: &Target) -> ClockRecord {
        let lead = Span::from_nanos(self.config.lead.as_nanos().max(0));
        let at = target.at.saturating_add(lead);
        let rate = limited(target.rate, MAX_RATE);
        let wanted = at.to_utc(target.offset).saturating_add(rate.over(lead));
        let record = match self.record {
            Some(old) if !self.is_step(&old, at, wanted, target.tier) => self.follow(&old, target, at, rate, wanted),
            old => ClockRecord {
                utc: wanted,
                epoch: old.map_or(0, |old| old.epoch.wrapping_add(1)),
                ..target.record(at, rate, Span::ZERO)
            },
        };
        (self.record, self.stepping) = (Some(record), false);
        record
    }

    /// The record that starts at `to` on the line served now: the same time, less slew to go, wider intervals.
    pub fn advance(&mut self, to: Timestamp<Local>) -> Option<ClockRecord> {
        let record = self.record?.advance(to);
        self.record = Some(record);
        Some(record)
    }

    fn is_step(&self, old: &ClockRecord, at: Timestamp<Local>, wanted: Timestamp<Utc>, tier: Tier) -> bool {
        self.stepping
            || (old.tier == Tier::Raw) != (tier == Tier::Raw)
            || wanted.since(old.utc_at(at)).abs() > self.config.step_threshold
    }

    /// Starts on the old line (or above it, see the module's documentation) and works the difference off.
    fn follow(
        &self,
        old: &ClockRecord,
        target: &Target,
        at: Timestamp<Local>,
        rate: Rate,
        wanted: Timestamp<Utc>,
    ) -> ClockRecord {
        let lead = at.since(target.at);
        let (on_old, from_now) = (old.utc_at(at), old.utc_at(target.at));
        let slew = self.slew_for(wanted.since(on_old));
        let drawn = from_now.saturating_add(lead).saturating_add((rate + slew).over(lead));
        let utc = on_old.max(drawn);
        let correction = wanted.since(utc);
        ClockRecord {
            utc,
            slew,
            slew_span: slew_span(correction, slew),
            epoch: old.epoch,
            ..target.record(at, rate, correction.abs())
        }
    }

    /// The slope that works `correction` off, on the page's grid of 2^-40.
    fn slew_for(&self, correction: Span) -> Rate {
        let max = limited(self.config.max_slew, MAX_SLEW.value()).value().abs();
        let spread = self.config.spread.as_secs_f64().max(1e-6);
        let wanted = units::limited(correction.as_secs_f64() / spread, -max, max);
        Rate::new(libm::trunc(wanted * SLEW_SCALE) / SLEW_SCALE)
    }
}

/// Slews are multiples of 1 / this.
pub(crate) const SLEW_SCALE: f64 = (1_u64 << 40) as f64;

/// How long `slew` takes for `correction`, rounded down to the page's unit; none when it would lead away from it.
fn slew_span(correction: Span, slew: Rate) -> Span {
    if slew == Rate::ZERO {
        return Span::ZERO;
    }
    let span = Span::from_secs_f64(correction.as_secs_f64() / slew.value()).as_nanos();
    Span::from_nanos(span.clamp(0, MAX_SLEW_SPAN) / SLEW_UNIT * SLEW_UNIT)
}

fn limited(rate: Rate, max: f64) -> Rate {
    if rate.value().is_nan() { Rate::ZERO } else { Rate::new(units::limited(rate.value(), -max, max)) }
}

/// The width that `growth` adds over `span` either way, rounded up; without limit when `growth` is nonsense.
fn grown(growth: Rate, span: Span) -> Span {
    if !growth.is_finite() || growth.value() < 0.0 {
        return Span::MAX;
    }
    growth.over(span.abs()).saturating_add(Span::from_nanos(1))
}

fn widen_bound(bound: ErrorBound, by: Span) -> ErrorBound {
    ErrorBound::new(bound.half_width().saturating_add(by))
}

fn widen_interval(interval: PredictionInterval, by: Span) -> PredictionInterval {
    PredictionInterval::new(interval.half_width().saturating_add(by))
}

/// What the pipeline wants served from `at` on: a line and the linear growth of its two uncertainties.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Target {
    /// Where the line starts.
    pub at: Timestamp<Local>,
    /// Offset at `at`.
    pub offset: Offset,
    /// Slope of the offset.
    pub rate: Rate,
    /// 95 % interval at `at`.
    pub interval: PredictionInterval,
    /// Growth of its half-width.
    pub interval_growth: Rate,
    /// Hard bound at `at`.
    pub bound: ErrorBound,
    /// Growth of its half-width.
    pub bound_growth: Rate,
    /// How long the line may be used without an update.
    pub void_after: Span,
    /// Who answered.
    pub tier: Tier,
    /// Why.
    pub reason: Reason,
}

impl Target {
    /// The operating system's clock: uncorrected, unbounded, until a reference has been heard.
    pub const fn raw(at: Timestamp<Local>, offset: Offset) -> Self {
        Self {
            at,
            offset,
            rate: Rate::ZERO,
            interval: PredictionInterval::UNKNOWN,
            interval_growth: Rate::ZERO,
            bound: ErrorBound::UNBOUNDED,
            bound_growth: Rate::ZERO,
            void_after: Span::from_secs(3600),
            tier: Tier::Raw,
            reason: Reason::NeverSynchronised,
        }
    }

    /// The record at `at` whose line is `correction` away from this target; the caller sets the time, the slew and the epoch.
    fn record(&self, at: Timestamp<Local>, rate: Rate, correction: Span) -> ClockRecord {
        let lead = at.since(self.at);
        ClockRecord {
            at,
            utc: Timestamp::from_nanos(0),
            rate,
            slew: Rate::ZERO,
            slew_span: Span::ZERO,
            interval: widen_interval(self.interval, grown(self.interval_growth, lead).saturating_add(correction)),
            interval_growth: self.interval_growth,
            bound: widen_bound(self.bound, grown(self.bound_growth, lead).saturating_add(correction)),
            bound_growth: self.bound_growth,
            void_after: self.void_after,
            tier: self.tier,
            reason: self.reason,
            epoch: 0,
        }
    }
}

/// What is published: the served line, the slew still to apply, and the uncertainties around it.
///
/// For a local instant `t` with `d = t - at`:
/// `utc = self.utc + d + rate * d + slew * min(d, slew_span)`, and both half-widths grow linearly with `d`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClockRecord {
    /// Where the record starts.
    pub at: Timestamp<Local>,
    /// Served UTC at `at`.
    pub utc: Timestamp<Utc>,
    /// Slope of the offset.
    pub rate: Rate,
    /// Additional slope while a correction is being slewed.
    pub slew: Rate,
    /// How long the slew lasts from `at` on.
    pub slew_span: Span,
    /// 95 % interval at `at`, the slew still to apply included.
    pub interval: PredictionInterval,
    /// Growth of its half-width.
    pub interval_growth: Rate,
    /// Hard bound at `at`, the slew still to apply included.
    pub bound: ErrorBound,
    /// Growth of its half-width.
    pub bound_growth: Rate,
    /// How long the record may be used without an update.
    pub void_after: Span,
    /// Who answered.
    pub tier: Tier,
    /// Why.
    pub reason: Reason,
    /// Counts the steps of the served clock: two readings of the same epoch are monotone and continuous.
    pub epoch: u16,
}

impl ClockRecord {
    /// The served time at `t`, after or before the record's start.
    pub fn utc_at(&self, t: Timestamp<Local>) -> Timestamp<Utc> {
        let d = t.since(self.at);
        let slewed = self.slew.over(Span::from_nanos(d.as_nanos().min(self.slew_span.as_nanos())));
        self.utc.saturating_add(d).saturating_add(self.rate.over(d)).saturating_add(slewed)
    }

    /// The same line, starting at `to`. Widths are as the record claims them for `to`; they never shrink.
    pub fn advance(&self, to: Timestamp<Local>) -> Self {
        let d = to.since(self.at);
        let left = self.slew_span.as_nanos().saturating_sub(d.as_nanos()).max(0) / SLEW_UNIT * SLEW_UNIT;
        Self {
            at: to,
            utc: self.utc_at(to),
            slew: if left == 0 { Rate::ZERO } else { self.slew },
            slew_span: Span::from_nanos(left),
            interval: widen_interval(self.interval, grown(self.interval_growth, d)),
            bound: widen_bound(self.bound, grown(self.bound_growth, d)),
            void_after: Span::from_nanos(self.void_after.as_nanos().saturating_sub(d.as_nanos().max(0)).max(0)),
            ..*self
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const START: Timestamp<Local> = Timestamp::from_nanos(1_700_000_000_000_000_000);

    fn target(at: Timestamp<Local>, offset: i64, ppm: f64) -> Target {
        Target {
            at,
            offset: Offset::from_nanos(offset),
            rate: Rate::from_ppm(ppm),
            interval: PredictionInterval::new(Span::from_micros(10)),
            interval_growth: Rate::from_ppb(10.0),
            bound: ErrorBound::new(Span::from_millis(1)),
            bound_growth: Rate::from_ppm(5.0),
            void_after: Span::from_secs(3600),
            tier: Tier::Filter,
            reason: Reason::WarmingUp,
        }
    }

    #[test]
    fn first_synchronisation_is_a_step_and_a_new_epoch() {
        let mut served = Served::new(Config::default());
        let raw = served.update(&Target::raw(START, Offset::ZERO));
        assert_eq!((raw.tier, raw.epoch, raw.bound), (Tier::Raw, 0, ErrorBound::UNBOUNDED));
        let first = served.update(&target(START.saturating_add(Span::from_secs(1)), 40, 0.0));
        assert_eq!((first.epoch, first.slew_span), (1, Span::ZERO));
        assert_eq!(first.utc.since(first.at.to_utc(Offset::ZERO)), Span::from_nanos(40));
    }

    #[test]
    fn small_differences_are_slewed_and_counted() {
        let mut served = Served::new(Config::default());
        let first = served.update(&target(START, 0, 0.0));
        let record = served.update(&target(START.saturating_add(Span::from_secs(1)), 1_000_000, 0.0));
        assert_eq!(record.epoch, first.epoch);
        assert!((record.slew.as_ppm() - 500.0).abs() < 1e-5);
        // 1 ms at 500 ppm takes 2 s, and until then it is part of both widths.
        assert!((record.slew_span.as_secs_f64() - 2.0).abs() < 1e-3);
        assert!(record.bound.half_width() >= Span::from_nanos(1_999_900));
        assert!(record.interval.half_width() >= Span::from_micros(1_009));
        let arrived = record.utc_at(record.at.saturating_add(Span::from_secs(3)));
        let truth = record.at.saturating_add(Span::from_secs(3)).to_utc(Offset::from_nanos(1_000_000));
        assert!(arrived.since(truth).abs() <= Span::from_nanos(2), "{arrived:?} {truth:?}");
    }

    #[test]
    fn a_large_difference_is_a_step() {
        let mut served = Served::new(Config::default());
        let first = served.update(&target(START, 0, 0.0));
        let second = served.update(&target(START.saturating_add(Span::from_secs(1)), 200_000_000, 0.0));
        assert_eq!(second.epoch, first.epoch + 1);
        assert_eq!(
            second.bound.half_width(),
            Span::from_nanos(1_000_001),
            "the growth over the lead, and no correction"
        );
    }

    #[test]
    fn nonsense_is_limited_or_unbounded() {
        let mut served = Served::new(Config::default());
        let mut wild = target(START, i64::MAX, f64::NAN);
        wild.bound_growth = Rate::new(f64::NAN);
        wild.interval_growth = Rate::new(-1.0);
        let record = served.update(&wild);
        assert!(!record.bound.is_bounded() && !record.interval.is_known());
        assert_eq!(record.rate, Rate::ZERO);
        served.update(&target(Timestamp::from_nanos(i64::MIN), i64::MIN, f64::INFINITY));
        served.advance(Timestamp::from_nanos(i64::MAX));
    }

    proptest! {
        /// Whatever is asked for, no reader is ever behind an earlier one: not on one line, not across a switch within the
        /// lead, not while the old line is still in use.
        #[test]
        fn readers_never_go_back_within_an_epoch(
            steps in proptest::collection::vec(
                (1_000_i64..2_000_000_000, -3_000_000_i64..3_000_000, -300.0_f64..300.0, 0_i64..=100_000),
                1..40,
            )
        ) {
            let mut served = Served::new(Config::default());
            let mut now = START;
            let mut old = served.update(&target(now, 0, 0.0));
            for (gap, offset, ppm, delay) in steps {
                now = now.saturating_add(Span::from_nanos(gap));
                let seen = now.saturating_add(Span::from_nanos(delay));
                let before = old.utc_at(seen);
                let record = served.update(&target(now, offset, ppm));
                prop_assert_eq!(record.epoch, old.epoch);
                prop_assert!(record.utc_at(seen) >= before.saturating_sub(Span::from_nanos(2)), "{:?} {:?}", record, before);
                // Continuous: at most the lead times the change of slope, 2 x 500 ppm + 2 x 300 ppm.
                prop_assert!(record.utc.since(old.utc_at(record.at)) <= Span::from_nanos(170));
                prop_assert!(record.slew.as_ppm().abs() <= 500.0);
                let left = Offset::from_nanos(offset).since(record.utc.offset_from(record.at)).abs();
                let served_width = record.bound.half_width();
                prop_assert!(served_width >= Span::from_millis(1).saturating_add(left).saturating_sub(Span::from_nanos(60)));
                old = record;
            }
        }

        #[test]
        fn advancing_changes_no_reading(offset in -1_000_000_i64..1_000_000, a in 0_i64..10_000_000_000, b in 0_i64..10_000_000_000) {
            let mut served = Served::new(Config::default());
            served.update(&target(START, 0, 10.0));
            let record = served.update(&target(START.saturating_add(Span::from_secs(1)), offset, 20.0));
            let (near, far) = (record.at.saturating_add(Span::from_nanos(a)), record.at.saturating_add(Span::from_nanos(a + b)));
            let difference = record.advance(near).utc_at(far).since(record.utc_at(far)).abs();
            prop_assert!(difference <= Span::from_nanos(3), "{:?}", difference);
        }
    }
}
