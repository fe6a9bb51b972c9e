//! The published record as eight words, and the arithmetic of a read.
//!
//! A [`ClockPage`] is a [`ClockRecord`] in the form that readers compute with: it maps a reading of the hardware counter
//! straight to UTC, in fixed point, and fits in one cache line of 64 bytes. For a reading `c`, with the words named as in the
//! table and all shifts rounding down,
//!
//! ```text
//! d     = (c - anchor) * mult >> 53                      local ns since the anchor, at the corrected rate
//! utc   = base + d - (slew * max(slew_span - d, 0) >> 40)
//! width = width0 + (growth * |d| >> 32)                  the hard bound and the 95 % half-width, each with its own growth
//! ```
//!
//! | word | bits | content |
//! |---|---|---|
//! | 0 | 0..64 | `anchor`: counter reading that the line is drawn from, 2^18 ns before the record's start |
//! | 1 | 0..64 | `base`: served UTC there if the whole slew had been applied already, signed ns since 1970 |
//! | 2 | 0..64 | `mult`: corrected ns per tick, Q11.53; 0 marks a blank record |
//! | 3 | 0..32 | `slew_span`: how long the slew lasts, in 2^10 ns |
//! | 3 | 32..64 | `slew`: additional slope until then, signed, 2^-40 |
//! | 4 | 0..64 | hard bound at the anchor, ns; 2^62 and more is "unbounded" |
//! | 5 | 0..64 | 95 % half-width at the anchor, ns; 2^62 and more is "unknown" |
//! | 6 | 0..32 | growth of the hard bound, 2^-32, rounded up |
//! | 6 | 32..64 | growth of the 95 % half-width, 2^-32, rounded up |
//! | 7 | 0..8 | marks: free for whoever shares the page (the host: which counter) |
//! | 7 | 8..13 | reason |
//! | 7 | 13..16 | tier |
//! | 7 | 16..32 | epoch |
//! | 7 | 32..64 | `void_after`, in 2^20 ticks (0.4 ms at 2.6 GHz), rounded down |
//!
//! What a read costs decides some of this. The base is where the slew leads to, so that a reading after it has nothing to add.
//! `void_after` counts ticks, so that one comparison says that the counter is neither before the anchor, nor too far from it
//! for the arithmetic, nor too old; it is all of word 7 in 2^-12 ticks, whose lower half the writer rounds down by as well.
//!
//! Past `void_after` both widths go on with the widest configured growth and the tier is [`Tier::Cached`]; past
//! [`CACHED_SPANS`] times that, [`Tier::Raw`] without bound.
//!
//! The arithmetic is exact in 128 bits and defined for every content of the words. The ordinary read takes the upper half of
//! 64 x 64 bit products, with the growths taken per tick so that they need not wait for `d`, and has no saturation in its way: [`ClockPage::encode`] keeps the base 2^51 ns (26 days) from the ends of the range and the widths at or
//! below 2^62, so that nothing it encodes can overflow within `void_after`, which ends after 2^52 ticks (20 days at 2.6 GHz) at the latest. All else goes the long way, which saturates.

use serde::{Deserialize, Serialize};

use crate::fallback::{Reason, Tier};
use crate::interval::{ErrorBound, PredictionInterval};
use crate::served::{ClockRecord, SLEW_SCALE};
use crate::units::{Local, Rate, Span, Timestamp, Utc, limited, nearest};

mod reading;
pub use reading::PageReading;

/// After this many times `void_after` a record says nothing about its error any more.
pub const CACHED_SPANS: i64 = 24;

/// Fraction of a record's `mult`; 63 bits of it leave room for counters down to 1 MHz.
const MULT_BITS: u32 = 53;
/// Fraction of a [`CounterScale`]'s.
const SCALE_BITS: u32 = 48;
const SLEW_BITS: u32 = 40;
const SLEW_SPAN_BITS: u32 = 10;
const GROWTH_BITS: u32 = 32;
/// `void_after` counts 2^20 ticks in the upper half of word 7: shifted down by this, word 7 is ticks.
const VOID_SHIFT: u32 = 32 - VOID_BITS;
const VOID_BITS: u32 = 20;
/// Records start slightly ahead of their publication; anchored this much earlier (0.26 ms) they are never read backwards.
const AHEAD: Span = Span::from_nanos(1 << 18);
/// Half-widths from here on say nothing.
const UNBOUNDED: i64 = 1 << 62;
/// How far the base stays from the ends of the range.
const BASE_LIMIT: i64 = i64::MAX - (1 << 51);
/// Added to both widths: the rounding of the time, of the growth, and of the switch from one record to the next.
const ROUNDING: Span = Span::from_nanos(4);

/// How the hardware counter maps to local time at its nominal frequency.
///
/// ```
/// use chronotick_core::clock_page::CounterScale;
/// let scale = CounterScale::from_hz(1_000, 0, 2e9);
/// assert_eq!(scale.local(3_000).as_nanos(), 1_000);
/// assert_eq!(scale.ticks(scale.local(3_000)), 3_000);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CounterScale {
    /// A counter reading.
    pub ticks: u64,
    /// The local time there, in ns.
    pub local: i64,
    /// Nominal ns per tick, Q16.48; above 0 and below 2^63.
    pub mult: u64,
}

impl CounterScale {
    /// The counter counts nanoseconds and is local time itself.
    pub const NANOS: Self = Self { ticks: 0, local: 0, mult: 1 << SCALE_BITS };

    /// From the counter's nominal frequency; one that is not finite or out of range (30 kHz to 250 GHz keep full use of the
    /// fixed point) is limited. Records need more than 0.98 MHz: [`ClockPage::encode`].
    pub fn from_hz(ticks: u64, local: i64, hz: f64) -> Self {
        Self { ticks, local, mult: fixed_mult(1e9 / hz) }
    }

    /// The nominal frequency, in Hz.
    pub fn hz(&self) -> f64 {
        1e9 / (self.mult as f64 / SCALE_ONE)
    }

    /// The local time at a counter reading, rounded down, saturating.
    pub fn local(&self, ticks: u64) -> Timestamp<Local> {
        Timestamp::from_nanos(saturate(i128::from(self.local) + scaled(ticks, self.ticks, self.mult, SCALE_BITS)))
    }

    /// The same where neither end of the range is near: wraps there, and costs nothing.
    #[inline(always)]
    pub fn wrapping_local(&self, ticks: u64) -> Timestamp<Local> {
        #[expect(clippy::cast_possible_truncation, reason = "wraps, as documented")]
        let nanos = scaled(ticks, self.ticks, self.mult, SCALE_BITS) as i64;
        Timestamp::from_nanos(self.local.wrapping_add(nanos))
    }

    /// The first counter reading at or after a local time, saturating.
    pub fn ticks(&self, local: Timestamp<Local>) -> u64 {
        let nanos = i128::from(local.as_nanos()) - i128::from(self.local);
        let mult = i128::from(self.mult.max(1));
        let ticks = ((nanos << SCALE_BITS) + mult - 1).div_euclid(mult).clamp(i64::MIN.into(), i64::MAX.into());
        #[expect(clippy::cast_possible_truncation, reason = "limited to i64 the line above")]
        self.ticks.wrapping_add_signed(ticks as i64)
    }
}

/// The widest growth that the configuration allows, for readers beyond `void_after`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WidestGrowth {
    /// Of the hard bound, in 2^-32.
    pub bound: u32,
    /// Of the 95 % half-width, in 2^-32.
    pub interval: u32,
}

impl WidestGrowth {
    /// From rates, rounded up.
    pub fn new(bound: Rate, interval: Rate) -> Self {
        Self { bound: fixed_growth(bound), interval: fixed_growth(interval) }
    }
}

/// One record, as published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClockPage {
    words: [u64; 8],
}

impl ClockPage {
    /// Nothing published yet.
    pub const BLANK: Self = Self { words: [0; 8] };

    /// From its words, whatever they hold.
    #[inline(always)]
    pub const fn from_words(words: [u64; 8]) -> Self {
        Self { words }
    }

    /// Its words.
    #[inline(always)]
    pub const fn words(&self) -> &[u64; 8] {
        &self.words
    }

    /// Nothing was published, or the memory was wiped.
    pub const fn is_blank(&self) -> bool {
        self.words[2] == 0
    }

    /// The record in fixed point. Widths and growths round up, `void_after` down. A counter slower than its fixed point allows for (about a
    /// megahertz) gives a record that says nothing: [`Tier::Raw`], without bound.
    pub fn encode(record: &ClockRecord, scale: &CounterScale) -> Self {
        let anchor = scale.ticks(record.at.saturating_sub(AHEAD));
        let base = record.utc_at(scale.local(anchor));
        let rate = limited(record.rate.value(), -0.5, 0.5);
        let rate = if rate.is_nan() { 0.0 } else { rate };
        let nominal = nominal_mult(scale);
        let mult = nearest(nominal as f64 * rate);
        let wanted = nominal.saturating_add_signed(mult);
        let mult = wanted.clamp(1, i64::MAX.cast_unsigned());
        let fits = mult >= wanted;
        let slew_limit = f64::from(i32::MAX);
        let slew = nearest(limited(record.slew.value() * SLEW_SCALE, -slew_limit, slew_limit));
        let span = if slew == 0 { Span::ZERO } else { record.slew_span.saturating_add(AHEAD) };
        let span = (span.as_nanos().max(0) >> SLEW_SPAN_BITS).min(u32::MAX.into());
        let slew = span.cast_unsigned() | slew.cast_unsigned() << 32;
        let base = base.saturating_add(Span::from_nanos(slewed(slew, slew_span(slew))));
        // Before its start a record has further to slew.
        let ahead = Span::from_secs_f64(AHEAD.as_secs_f64() * record.slew.value().abs());
        let slack = ROUNDING.saturating_add(ahead);
        let width = |half: Span| {
            let half = if fits { half.saturating_add(slack) } else { Span::MAX };
            half.as_nanos().min(UNBOUNDED).cast_unsigned()
        };
        // Growth counts in local time and the read in corrected time, which a negative rate makes the shorter.
        let growth = |growth: Rate| fixed_growth(Rate::new(growth.value() / (1.0 + rate.min(0.0))));
        // In corrected time: a slow counter is not to make the record last longer.
        let void = (i128::from(record.void_after.as_nanos().max(0)) << MULT_BITS) / i128::from(mult);
        let void = (void >> VOID_BITS).saturating_sub(1).clamp(0, u32::MAX.into());
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "limited the line above")]
        let void = void as u64;
        Self {
            words: [
                anchor,
                base.as_nanos().clamp(-BASE_LIMIT, BASE_LIMIT).cast_unsigned(),
                mult,
                slew,
                width(record.bound.half_width()),
                width(record.interval.half_width()),
                u64::from(growth(record.bound_growth)) | u64::from(growth(record.interval_growth)) << 32,
                said(if fits { record.tier } else { Tier::Raw }, record.reason, record.epoch) | void << 32,
            ],
        }
    }

    /// Back to a record on the scale's local time; `None` when it is blank or its tier or reason is unknown.
    pub fn decode(&self, scale: &CounterScale) -> Option<ClockRecord> {
        if self.is_blank() {
            return None;
        }
        let words = &self.words;
        let nominal = nominal_mult(scale).max(1);
        let rate = (i128::from(words[2]) - i128::from(nominal)) as f64 / nominal as f64;
        let span = slew_span(words[3]);
        let settled = Span::from_nanos(slewed(words[3], span));
        let growth = |fixed: u32| Rate::new(f64::from(fixed) / GROWTH_ONE);
        Some(ClockRecord {
            at: scale.local(words[0]),
            utc: Timestamp::from_nanos(words[1].cast_signed()).saturating_sub(settled),
            rate: Rate::new(rate),
            slew: if span == 0 { Rate::ZERO } else { Rate::new(f64::from(slew(words[3])) / SLEW_SCALE) },
            slew_span: Span::from_nanos(span),
            bound: ErrorBound::new(half_width(words[4])),
            bound_growth: growth(low_u32(words[6])),
            interval: PredictionInterval::new(half_width(words[5])),
            interval_growth: growth(high(words[6])),
            void_after: Span::from_nanos(saturate(scaled(void_after(words[7]), 0, words[2], MULT_BITS))),
            tier: tier(words[7])?,
            reason: reason(words[7])?,
            epoch: self.epoch(),
        })
    }

    /// The byte that is free for whoever shares the page.
    pub const fn marks(&self) -> u8 {
        self.words[7].to_le_bytes()[0]
    }

    /// The same record with other marks.
    pub const fn with_marks(mut self, marks: u8) -> Self {
        self.words[7] = self.words[7] & !0xFF | marks as u64;
        self
    }

    /// The same line, gone on with by another daemon than the one that drew it: [`Tier::Holdover`] at best, because of
    /// [`Reason::WarmStart`].
    pub fn unconfirmed(mut self) -> Self {
        self.words[7] = reading::unconfirmed(self.words[7]);
        self
    }

    /// The same record, raised to say at least `utc` at `counter`: what a writer does so that rounding never takes a
    /// nanosecond back.
    pub fn not_before(mut self, counter: u64, utc: Timestamp<Utc>) -> Self {
        let short = utc.since(self.utc_at(counter)).as_nanos().max(0);
        self.words[1] = self.words[1].cast_signed().saturating_add(short).cast_unsigned();
        self
    }

    /// The counter reading that the line is drawn from.
    #[inline(always)]
    pub const fn anchor(&self) -> u64 {
        self.words[0]
    }

    /// Counts the steps of the served clock.
    pub const fn epoch(&self) -> u16 {
        let bytes = self.words[7].to_le_bytes();
        u16::from_le_bytes([bytes[2], bytes[3]])
    }

    /// The corrected time from the anchor until a counter reading, saturating.
    fn elapsed(&self, counter: u64) -> i64 {
        saturate(scaled(counter, self.words[0], self.words[2], MULT_BITS))
    }
}

const SCALE_ONE: f64 = (1_u64 << SCALE_BITS) as f64;
const GROWTH_ONE: f64 = (1_u64 << GROWTH_BITS) as f64;

/// `(counter - anchor) * mult`, with `bits` of fraction, rounded down to ns. The difference wraps: 2^63 ticks either way.
#[inline(always)]
fn scaled(counter: u64, anchor: u64, mult: u64, bits: u32) -> i128 {
    (i128::from(counter.wrapping_sub(anchor).cast_signed()) * i128::from(mult.cast_signed())) >> bits
}

/// The scale's `mult` with the fraction of a record's.
const fn nominal_mult(scale: &CounterScale) -> u64 {
    scale.mult.saturating_mul(1 << (MULT_BITS - SCALE_BITS))
}

/// In ticks.
#[inline(always)]
const fn void_after(meta: u64) -> u64 {
    meta >> VOID_SHIFT
}

const REASON_BITS: u32 = 5;
const _: () = assert!(Reason::ALL.len() <= 1 << REASON_BITS && Tier::ALL.len() <= 1 << (8 - REASON_BITS));

/// The part of word 7 that is neither marks nor `void_after`.
const fn said(tier: Tier, reason: Reason, epoch: u16) -> u64 {
    (reason as u64) << 8 | (tier as u64) << (8 + REASON_BITS) | (epoch as u64) << 16
}

const fn tier(meta: u64) -> Option<Tier> {
    Tier::from_u8(meta.to_le_bytes()[1] >> REASON_BITS)
}

const fn reason(meta: u64) -> Option<Reason> {
    Reason::from_u8(meta.to_le_bytes()[1] & ((1 << REASON_BITS) - 1))
}

/// How long word 3 slews, in ns.
#[inline(always)]
const fn slew_span(word: u64) -> i64 {
    (low(word) << SLEW_SPAN_BITS).cast_signed()
}

/// How fast, in 2^-40.
const fn slew(word: u64) -> i32 {
    high(word).cast_signed()
}

/// What word 3 slews within `span` ns (below 2^63), rounded down.
#[inline(always)]
fn slewed(word: u64, span: i64) -> i64 {
    // The upper half of a product: the rate is in the upper 32 bits, so that 24 more make it 2^-64.
    let rate = (word.cast_signed() >> 32) << (64 - SLEW_BITS);
    ((i128::from(rate) * i128::from(span)) >> 64) as i64
}

/// A half-width as stored; from [`UNBOUNDED`] on, and where it is nonsense, there is none.
#[inline(always)]
const fn half_width(stored: u64) -> Span {
    if stored >= UNBOUNDED.cast_unsigned() { Span::MAX } else { Span::from_nanos(stored.cast_signed()) }
}

#[inline(always)]
fn saturate(value: i128) -> i64 {
    #[expect(clippy::cast_possible_truncation, reason = "limited just before")]
    let within = value.clamp(i64::MIN.into(), i64::MAX.into()) as i64;
    within
}

fn fixed_mult(nanos_per_tick: f64) -> u64 {
    nearest(nanos_per_tick * SCALE_ONE).max(1).cast_unsigned()
}

/// Rounded up; nonsense is the widest there is.
fn fixed_growth(growth: Rate) -> u32 {
    if !growth.is_finite() || growth.value() < 0.0 {
        return u32::MAX;
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "float to integer saturates")]
    let fixed = libm::ceil(growth.value() * GROWTH_ONE) as u32;
    fixed
}

#[inline(always)]
const fn low(word: u64) -> u64 {
    word & 0xFFFF_FFFF
}
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "the low half is asked for")]
const fn low_u32(word: u64) -> u32 {
    word as u32
}
#[inline(always)]
const fn high(word: u64) -> u32 {
    low_u32(word >> 32)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    pub(super) fn record() -> ClockRecord {
        ClockRecord {
            at: Timestamp::from_nanos(1_800_000_000_000_000_000),
            utc: Timestamp::from_nanos(1_800_000_000_123_456_789),
            rate: Rate::from_ppm(12.5),
            slew: Rate::from_ppm(-500.0),
            slew_span: Span::from_millis(20),
            interval: PredictionInterval::new(Span::from_micros(12)),
            interval_growth: Rate::from_ppb(20.0),
            bound: ErrorBound::new(Span::from_micros(350)),
            bound_growth: Rate::from_ppm(5.0),
            void_after: Span::from_secs(3600),
            tier: Tier::Fused,
            reason: Reason::Nominal,
            epoch: 7,
        }
    }

    pub(super) fn scale() -> CounterScale {
        CounterScale { ticks: 5_000_000_000, local: 1_799_999_999_000_000_000, mult: 0x6276_2762_7627 }
    }

    pub(super) const WIDEST: WidestGrowth = WidestGrowth { bound: 2_147_484, interval: 214_749 };

    #[test]
    fn a_counter_too_slow_for_the_record_says_nothing() {
        for (hz, tier) in [(32_768.0, Tier::Raw), (900_000.0, Tier::Raw), (1e6, Tier::Fused)] {
            let page = ClockPage::encode(&record(), &CounterScale::from_hz(0, 0, hz));
            let reading = page.time_at(page.anchor(), WIDEST);
            assert_eq!(reading.tier(), tier, "{hz} Hz");
            assert_eq!(reading.bound().is_bounded(), tier != Tier::Raw, "{hz} Hz");
        }
    }

    #[test]
    fn golden_words() {
        let page = ClockPage::encode(&record(), &scale()).with_marks(0xA5);
        // Computed by hand (rational arithmetic in another language) from the table in the module's documentation.
        let golden = [
            0x0000_0001_c4f4_659a,
            0x18fa_e276_9b0b_a602,
            0x000c_4ecf_016a_f7eb,
            0xdf3b_645a_0000_4d4b,
            0x0000_0000_0005_57b7,
            0x0000_0000_0000_2f67,
            0x0000_0056_0000_53e3,
            0x0088_3447_0007_00a5,
        ];
        assert_eq!(page.words(), &golden, "{:016x?}", page.words());
    }

    const YEAR: i64 = 365 * 86_400 * 1_000_000_000;

    /// `value * n / 2^bits`, exactly, rounded down.
    fn fraction(value: i64, n: i64, bits: u32) -> i128 {
        (i128::from(value) * i128::from(n)) >> bits
    }

    proptest! {
        /// Encoding, decoding and reading against exact integers: rates, slews and growths are drawn as fractions of 2^50,
        /// 2^40 and 2^32, so that nothing on the exact side is rounded but the last digit.
        #[test]
        fn agrees_with_exact_arithmetic(
            hz in prop_oneof![Just(1e6), Just(24e6), Just(1e9), 1e8_f64..5e9],
            after in prop_oneof![0..4_000_000_000_i64, 0..3 * YEAR],
            offset in -1_000_000_000_000_i64..1_000_000_000_000,
            rate in -562_949_953_421_i64..562_949_953_421,
            slew in -549_755_813_i64..549_755_813,
            slew_span in (0_i64..300_000_000).prop_map(|units| units << SLEW_SPAN_BITS),
            growth in (0_i64..2_200_000, 0_i64..2_200_000),
            width in (0..1_000_000_000_i64, 0..1_000_000_000_i64),
        ) {
            let scale = CounterScale::from_hz(77, 1_700_000_000_000_000_000, hz);
            let at = Timestamp::from_nanos(1_700_000_500_000_000_000);
            let scaled_by = |n: i64, bits: i32| Rate::new(n as f64 / libm::exp2(f64::from(bits)));
            let record = ClockRecord {
                at,
                utc: Timestamp::from_nanos(at.as_nanos() + offset),
                rate: scaled_by(rate, 50),
                slew: scaled_by(slew, 40),
                slew_span: Span::from_nanos(if slew == 0 { 0 } else { slew_span }),
                bound: ErrorBound::new(Span::from_nanos(width.0)),
                interval: PredictionInterval::new(Span::from_nanos(width.1)),
                bound_growth: scaled_by(growth.0, 32),
                interval_growth: scaled_by(growth.1, 32),
                void_after: Span::from_secs(800_000),
                ..self::record()
            };
            let page = ClockPage::encode(&record, &scale);
            let counter = scale.ticks(at.saturating_add(Span::from_nanos(after)));
            let d = scale.local(counter).since(at).as_nanos();
            let exact = i128::from(record.utc.as_nanos())
                + i128::from(d)
                + fraction(d, rate, 50)
                + fraction(d.min(record.slew_span.as_nanos()), slew, 40);
            // The multiplier is rounded to 2^-53 ns a tick: 10 ns in a year at 2.6 GHz.
            let ticks = counter.wrapping_sub(page.anchor());
            // The page slews against corrected time, the record against local time: rate x slew x duration between them.
            let slewed = d.min(record.slew_span.as_nanos() + AHEAD.as_nanos());
            let slack = 4 + i128::from(ticks >> 52) + fraction(slewed, 1, 21);
            let reading = page.time_at(counter, WIDEST);
            let error = i128::from(reading.utc().as_nanos()) - exact;
            prop_assert!(error.abs() <= slack, "{error} ns off, {slack} allowed, after {d} ns");
            prop_assert_eq!(reading.utc(), page.utc_at(counter));

            // Widths: never below the exact ones, and above by rounding and what the lead costs alone.
            let unit = scale.local(scale.ticks + (1 << VOID_BITS)).since(scale.local(scale.ticks)).as_nanos();
            // Void-after counts corrected time.
            let (void, rate) = (record.void_after.as_nanos(), record.void_after.as_nanos() >> 10);
            let in_force = d < void - rate - 3 * unit;
            if in_force {
                for (half, width, growth) in [
                    (reading.bound().half_width(), width.0, growth.0),
                    (reading.interval95().half_width(), width.1, growth.1),
                ] {
                    let exact = i128::from(width) + fraction(d, growth, 32);
                    let above = i128::from(half.as_nanos()) - exact;
                    // A growth is rounded up to 2^-32, and grown by the rate of the corrected clock.
                    let rounding = 2 * i128::from(d >> 32) + (exact >> 10);
                    prop_assert!((0..=400 + slack + rounding).contains(&above), "{above} ns above the exact width");
                }
                prop_assert_eq!(reading.tier(), record.tier);
            } else if d > void + rate {
                prop_assert!(reading.tier() >= Tier::Cached);
            }

            // And back again.
            let decoded = page.decode(&scale).expect("neither blank nor unknown");
            let difference = decoded.utc_at(scale.local(counter)).since(reading.utc()).as_nanos();
            prop_assert!(i128::from(difference.abs()) <= 4 + slack + i128::from(d >> 50), "{difference} ns between them");
            prop_assert_eq!((decoded.tier, decoded.reason, decoded.epoch), (record.tier, record.reason, record.epoch));
        }
    }
}
