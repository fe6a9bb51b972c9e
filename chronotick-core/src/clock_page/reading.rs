//! The read: from a page's words and a counter reading to UTC and how far it can be off.
//!
//! [`PageReading::fresh`] is the ordinary case, and all that a reader normally runs: a record within its `void_after`, in upper
//! halves of 64 x 64 bit products. Everything else (before the anchor, too old, blank, garbage) goes the long way through
//! 128 bits, which saturates. The formulas are those of the [module above](super).

use super::{
    CACHED_SPANS, ClockPage, GROWTH_BITS, MULT_BITS, UNBOUNDED, WidestGrowth, half_width, high, low_u32, reason, said,
    slew_span, slewed, tier, void_after,
};
use crate::fallback::{Reason, Tier};
use crate::interval::{ErrorBound, PredictionInterval};
use crate::units::{Span, Timestamp, Utc};

/// What a reader is told: UTC, both half-widths, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageReading {
    utc: i64,
    bound: i64,
    half95: i64,
    meta: u64,
    since_anchor: i64,
}

impl PageReading {
    /// The ordinary case of [`ClockPage::time_at`], over words that are still where they were published: the counter is
    /// within `void_after` of the anchor and not before it. Each word is asked for once, where it is needed, which keeps the
    /// read in registers; what depends on the counter is one multiplication deep, or two until a correction has been
    /// slewed.
    #[inline(always)]
    pub fn fresh(counter: u64, word: impl Fn(usize) -> u64) -> Option<Self> {
        let (mult, meta, growth) = (word(2), word(7), word(6));
        // Per tick, in 2^-53 ns, instead of per ns.
        let bound_growth = high_product(growth << 32, mult);
        let interval_growth = high_product(growth & !0xFFFF_FFFF, mult);
        let ticks = counter.wrapping_sub(word(0));
        // A blank record has no `void_after`, and no `void_after` is too long for the shift.
        if ticks >= void_after(meta) {
            return None;
        }
        let shifted = ticks << (64 - MULT_BITS);
        let d = high_product(shifted, mult).cast_signed();
        let mut utc = word(1).cast_signed().wrapping_add(d);
        let slew = word(3);
        let span = slew_span(slew);
        // A branch, because most of the time the correction is through, and nothing waits for what is not there.
        if d < span {
            utc = utc.wrapping_sub(slewed(slew, span - d));
        }
        let bound = high_product(shifted, bound_growth).wrapping_add(word(4));
        let half95 = high_product(shifted, interval_growth).wrapping_add(word(5));
        Some(Self { utc, bound: bound.cast_signed(), half95: half95.cast_signed(), meta, since_anchor: d })
    }

    /// The operating system's clock: uncorrected, unbounded.
    pub const fn raw(utc: Timestamp<Utc>, reason: Reason, epoch: u16) -> Self {
        let meta = said(Tier::Raw, reason, epoch);
        Self { utc: utc.as_nanos(), bound: UNBOUNDED, half95: UNBOUNDED, meta, since_anchor: 0 }
    }

    /// Served UTC.
    #[inline]
    pub const fn utc(&self) -> Timestamp<Utc> {
        Timestamp::from_nanos(self.utc)
    }
    /// Hard bound around it.
    #[inline]
    pub const fn bound(&self) -> ErrorBound {
        ErrorBound::new(half_width(self.bound.cast_unsigned()))
    }
    /// Calibrated 95 % interval around it.
    #[inline]
    pub const fn interval95(&self) -> PredictionInterval {
        PredictionInterval::new(half_width(self.half95.cast_unsigned()))
    }
    /// UTC was not before this; the earliest instant there is where there is no bound.
    #[inline(always)]
    pub const fn earliest(&self) -> Timestamp<Utc> {
        let nanos = if self.is_bounded() { self.utc.checked_sub(self.bound) } else { None };
        match nanos {
            Some(nanos) => Timestamp::from_nanos(nanos),
            None => earliest_at_the_edge(self.utc, self.bound),
        }
    }
    /// UTC was not after this; the latest instant there is where there is no bound.
    #[inline(always)]
    pub const fn latest(&self) -> Timestamp<Utc> {
        let nanos = if self.is_bounded() { self.utc.checked_add(self.bound) } else { None };
        match nanos {
            Some(nanos) => Timestamp::from_nanos(nanos),
            None => latest_at_the_edge(self.utc, self.bound),
        }
    }
    /// How good it is; an unknown number is [`Tier::Raw`].
    #[inline]
    pub const fn tier(&self) -> Tier {
        match tier(self.meta) {
            Some(tier) => tier,
            None => Tier::Raw,
        }
    }
    /// Why; an unknown number is [`Reason::PageStale`].
    #[inline]
    pub const fn reason(&self) -> Reason {
        match reason(self.meta) {
            Some(reason) => reason,
            None => Reason::PageStale,
        }
    }
    /// The record's marks.
    #[inline(always)]
    pub const fn marks(&self) -> u8 {
        self.meta.to_le_bytes()[0]
    }
    /// Two readings of one epoch are monotone and continuous.
    #[inline]
    pub const fn epoch(&self) -> u16 {
        let bytes = self.meta.to_le_bytes();
        u16::from_le_bytes([bytes[2], bytes[3]])
    }
    /// Corrected time since the record's start; slightly negative just after an update.
    #[inline]
    pub const fn age(&self) -> Span {
        Span::from_nanos(self.since_anchor)
    }

    #[inline(always)]
    const fn is_bounded(&self) -> bool {
        self.bound.cast_unsigned() < UNBOUNDED.cast_unsigned()
    }
}

impl ClockPage {
    /// What a reader is told whose counter reads `counter`.
    #[inline]
    pub fn time_at(&self, counter: u64, widest: WidestGrowth) -> PageReading {
        PageReading::fresh(counter, |i| self.words[i]).unwrap_or_else(|| self.time_out_of_range(counter, widest))
    }

    /// Only the time, for the same counter reading.
    pub fn utc_at(&self, counter: u64) -> Timestamp<Utc> {
        Timestamp::from_nanos(self.utc_after(self.elapsed(counter)))
    }

    fn utc_after(&self, d: i64) -> i64 {
        let left = slew_span(self.words[3]).saturating_sub(d).max(0);
        self.words[1].cast_signed().saturating_add(d).saturating_sub(slewed(self.words[3], left))
    }

    /// Hard bound and 95 % half-width.
    fn widths_after(&self, d: i64) -> (i64, i64) {
        let d = d.unsigned_abs();
        (
            self.words[4].cast_signed().saturating_add(growth_over(low_u32(self.words[6]), d)),
            self.words[5].cast_signed().saturating_add(growth_over(high(self.words[6]), d)),
        )
    }

    #[cold]
    fn time_out_of_range(&self, counter: u64, widest: WidestGrowth) -> PageReading {
        let d = self.elapsed(counter);
        let ticks = counter.wrapping_sub(self.words[0]).cast_signed();
        let void = void_after(self.words[7]).cast_signed();
        let reading = |(bound, half95): (i64, i64), meta: u64| PageReading {
            utc: self.utc_after(d),
            bound,
            half95,
            meta,
            since_anchor: d,
        };
        if self.is_blank() || ticks > void.saturating_mul(CACHED_SPANS) {
            return reading((UNBOUNDED, UNBOUNDED), degraded(self.words[7], Tier::Raw, Reason::PageStale));
        }
        if ticks < void {
            let (bound, half95) = self.widths_after(d);
            // Before the record: the line drawn backwards, with whatever slew it has to go counted as unknown.
            let back = d.min(0).saturating_abs();
            let slew = slewed(self.words[3], back).saturating_abs();
            return reading((bound.saturating_add(slew), half95.saturating_add(slew)), self.words[7]);
        }
        let void = self.elapsed(self.words[0].wrapping_add_signed(void));
        let (bound, half95) = self.widths_after(void);
        let beyond = d.abs_diff(void);
        let bound_growth = widest.bound.max(low_u32(self.words[6]));
        let interval_growth = widest.interval.max(high(self.words[6]));
        let widths = (
            bound.saturating_add(growth_over(bound_growth, beyond)).saturating_add(1),
            half95.saturating_add(growth_over(interval_growth, beyond)).saturating_add(1),
        );
        reading(widths, degraded(self.words[7], Tier::Cached, Reason::PageStale))
    }
}

/// The upper half of a product.
#[inline(always)]
fn high_product(a: u64, b: u64) -> u64 {
    ((u128::from(a) * u128::from(b)) >> 64) as u64
}

fn growth_over(growth: u32, d: u64) -> i64 {
    #[expect(clippy::cast_possible_truncation, reason = "below 2^32 * 2^63 / 2^32")]
    let grown = ((u128::from(growth) * u128::from(d)) >> GROWTH_BITS) as u64;
    grown.cast_signed()
}

/// A record of a daemon before, gone on with: holdover at best, until a measurement confirms it.
pub(super) fn unconfirmed(meta: u64) -> u64 {
    let known = tier(meta).is_some_and(|tier| tier != Tier::Raw);
    if known { degraded(meta, Tier::Holdover, Reason::WarmStart) } else { meta }
}

/// The tier of a record that cannot stand for itself, which is no better than it was, and the reason.
fn degraded(meta: u64, best: Tier, reason: Reason) -> u64 {
    let tier = tier(meta).unwrap_or(Tier::Raw).max(best);
    meta & !0xFF00 | said(tier, reason, 0)
}

// What hardly ever happens stays out of line: written as selections in the read itself, both ends wait for both cases, which
// took a fifth of its time.
#[cold]
#[inline(never)]
const fn earliest_at_the_edge(utc: i64, bound: i64) -> Timestamp<Utc> {
    let unbounded = bound.cast_unsigned() >= UNBOUNDED.cast_unsigned();
    Timestamp::from_nanos(if unbounded { i64::MIN } else { utc.saturating_sub(bound) })
}
#[cold]
#[inline(never)]
const fn latest_at_the_edge(utc: i64, bound: i64) -> Timestamp<Utc> {
    let unbounded = bound.cast_unsigned() >= UNBOUNDED.cast_unsigned();
    Timestamp::from_nanos(if unbounded { i64::MAX } else { utc.saturating_add(bound) })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::tests::{WIDEST, record, scale};
    use super::*;

    #[test]
    fn tiers_fall_with_age() {
        let page = ClockPage::encode(&record(), &scale());
        let after = |secs: f64| {
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "small and positive")]
            page.time_at(page.anchor() + (secs * scale().hz()) as u64, WIDEST)
        };
        assert_eq!((after(0.0).tier(), after(3_590.0).tier()), (Tier::Fused, Tier::Fused));
        assert_eq!((after(3_601.0).tier(), after(3_601.0).reason()), (Tier::Cached, Reason::PageStale));
        assert_eq!(after(24.1 * 3_600.0).tier(), Tier::Raw);
        assert!(!after(24.1 * 3_600.0).bound().is_bounded());
        // 1000 s beyond at 500 ppm.
        let grown = after(4_600.0).bound().half_width().saturating_sub(after(3_600.0).bound().half_width());
        assert!((grown.as_secs_f64() - 0.5).abs() < 0.05, "{grown:?}");
        assert_eq!(after(10.0).epoch(), 7);
    }

    #[test]
    fn blank_and_garbage_are_defined() {
        let blank = ClockPage::BLANK;
        assert!(blank.decode(&scale()).is_none());
        assert_eq!(blank.time_at(12_345, WIDEST).tier(), Tier::Raw);
        for seed in 0..2_000_u64 {
            let mut x = seed;
            let words = core::array::from_fn(|_| {
                x = x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                if seed % 3 == 0 { x | 0xFFFF_0000_0000_0000 } else { x }
            });
            let page = ClockPage::from_words(words);
            for counter in [0, 1, words[0], words[0] ^ (1 << 63), u64::MAX] {
                let reading = page.time_at(counter, WIDEST);
                let _ = (reading.tier(), reading.reason(), reading.bound(), reading.interval95());
            }
            let _ = page.decode(&scale());
        }
    }

    #[test]
    fn ends_are_the_bound_around_the_time_or_the_end_of_the_range() {
        let ends = |utc, bound| {
            let reading = PageReading { utc, bound, half95: 0, meta: 0, since_anchor: 0 };
            (reading.earliest().as_nanos(), reading.latest().as_nanos())
        };
        assert_eq!(ends(1_000, 10), (990, 1_010));
        assert_eq!(ends(0, UNBOUNDED - 1), (1 - UNBOUNDED, UNBOUNDED - 1));
        assert_eq!(ends(i64::MAX - 5, 10), (i64::MAX - 15, i64::MAX));
        assert_eq!(ends(i64::MIN + 5, 10), (i64::MIN, i64::MIN + 15));
        for unbounded in [UNBOUNDED, i64::MAX, -1] {
            assert_eq!(ends(1_000, unbounded), (i64::MIN, i64::MAX));
        }
    }

    proptest! {
        /// The ordinary read and the long way agree wherever both apply, and no counter makes either panic.
        #[test]
        fn ordinary_and_long_way_agree(words in any::<[u64; 8]>(), counter in any::<u64>(), near in 0..1_000_000_000_u64) {
            let page = ClockPage::from_words(words);
            for counter in [counter, words[0].wrapping_add(near)] {
                let long = page.time_out_of_range(counter, WIDEST);
                let _ = (page.time_at(counter, WIDEST).bound(), page.utc_at(counter), long.age());
            }
            let mut sane = words;
            sane[1] %= 1 << 62;
            sane[2] %= 1 << 55;
            sane[4] %= 1 << 60;
            sane[5] %= 1 << 60;
            let page = ClockPage::from_words(sane);
            let counter = sane[0].wrapping_add(near);
            if let Some(fresh) = PageReading::fresh(counter, |i| sane[i]) {
                let long = page.time_out_of_range(counter, WIDEST);
                prop_assert_eq!((fresh.utc(), fresh.age()), (long.utc(), long.age()));
                prop_assert!((fresh.bound - long.bound).abs() <= 2 && (fresh.half95 - long.half95).abs() <= 2);
            }
        }
    }
}
