//! Quantities of timekeeping as types, so that a rate is never added to an offset.
//!
//! Absolute time is integer nanoseconds: an `f64` of seconds since 1970 resolves only 0.2 us. Differences that enter the
//! filters are `f64` seconds relative to a nearby reference. All conversions between the two live in this file.

use core::fmt;
use core::marker::PhantomData;
use core::ops::{Add, AddAssign, Neg, Sub};

use serde::{Deserialize, Serialize};

const NANOS_PER_SEC: f64 = 1e9;

/// The free-running counter's timescale, in nanoseconds of its nominal frequency since an arbitrary instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Local {}

/// Coordinated Universal Time, in nanoseconds since 1970-01-01 00:00:00 (POSIX: leap seconds are not counted).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Utc {}

/// An instant on the timescale `S`, in integer nanoseconds (1678 to 2262 when counted from 1970).
///
/// Instants of different timescales do not mix:
///
/// ```compile_fail
/// use chronotick_core::units::{Local, Timestamp, Utc};
/// let local = Timestamp::<Local>::from_nanos(5);
/// let utc = Timestamp::<Utc>::from_nanos(5);
/// let _ = utc.since(local);
/// ```
#[derive(Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp<S> {
    nanos: i64,
    #[serde(skip)]
    scale: PhantomData<fn() -> S>,
}

impl<S> Timestamp<S> {
    /// The instant `nanos` nanoseconds after the origin of the timescale.
    pub const fn from_nanos(nanos: i64) -> Self {
        Self { nanos, scale: PhantomData }
    }

    /// Nanoseconds since the origin of the timescale.
    pub const fn as_nanos(self) -> i64 {
        self.nanos
    }

    /// The time from `earlier` to `self`, saturating at the ends of the range.
    pub const fn since(self, earlier: Self) -> Span {
        Span(difference(self.nanos, earlier.nanos))
    }

    /// `self + span`, saturating at the ends of the range.
    pub const fn saturating_add(self, span: Span) -> Self {
        Self::from_nanos(sum(self.nanos, span.0))
    }

    /// `self - span`, saturating at the ends of the range.
    pub const fn saturating_sub(self, span: Span) -> Self {
        Self::from_nanos(difference(self.nanos, span.0))
    }
}

impl Timestamp<Local> {
    /// The UTC instant that `offset` (reference - local) assigns to this local instant, saturating.
    pub const fn to_utc(self, offset: Offset) -> Timestamp<Utc> {
        Timestamp::from_nanos(sum(self.nanos, offset.0))
    }
}

impl Timestamp<Utc> {
    /// The offset of the local clock that read `local` at this UTC instant, saturating.
    pub const fn offset_from(self, local: Timestamp<Local>) -> Offset {
        Offset(difference(self.nanos, local.nanos))
    }
}

impl<S> Clone for Timestamp<S> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<S> Copy for Timestamp<S> {}
impl<S> PartialEq for Timestamp<S> {
    fn eq(&self, other: &Self) -> bool {
        self.nanos == other.nanos
    }
}
impl<S> Eq for Timestamp<S> {}
impl<S> PartialOrd for Timestamp<S> {
    fn partial_cmp(&self, other: &Self) -> Option<core::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl<S> Ord for Timestamp<S> {
    fn cmp(&self, other: &Self) -> core::cmp::Ordering {
        self.nanos.cmp(&other.nanos)
    }
}
impl<S> core::hash::Hash for Timestamp<S> {
    fn hash<H: core::hash::Hasher>(&self, state: &mut H) {
        self.nanos.hash(state);
    }
}
impl<S> fmt::Debug for Timestamp<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ns", self.nanos)
    }
}

/// A signed duration in integer nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Span(i64);

impl Span {
    /// No time at all.
    pub const ZERO: Self = Self(0);
    /// The longest representable span (292 years), standing for "without limit".
    pub const MAX: Self = Self(i64::MAX);

    /// A span of `nanos` nanoseconds.
    pub const fn from_nanos(nanos: i64) -> Self {
        Self(nanos)
    }
    /// A span of `micros` microseconds, saturating.
    pub const fn from_micros(micros: i64) -> Self {
        Self(micros.saturating_mul(1_000))
    }
    /// A span of `millis` milliseconds, saturating.
    pub const fn from_millis(millis: i64) -> Self {
        Self(millis.saturating_mul(1_000_000))
    }
    /// A span of `secs` seconds, saturating.
    pub const fn from_secs(secs: i64) -> Self {
        Self(secs.saturating_mul(1_000_000_000))
    }
    /// A span of `secs` seconds rounded to the nearest nanosecond; saturates, and a NaN becomes [`Span::ZERO`].
    pub fn from_secs_f64(secs: f64) -> Self {
        Self(nanos_from_secs(secs))
    }
    /// Nanoseconds.
    pub const fn as_nanos(self) -> i64 {
        self.0
    }
    /// Seconds.
    pub const fn as_secs_f64(self) -> f64 {
        self.0 as f64 / NANOS_PER_SEC
    }
    /// The magnitude, saturating.
    pub const fn abs(self) -> Self {
        Self(self.0.saturating_abs())
    }
    /// `self + other`, saturating.
    pub const fn saturating_add(self, other: Self) -> Self {
        Self(sum(self.0, other.0))
    }
    /// `self - other`, saturating.
    pub const fn saturating_sub(self, other: Self) -> Self {
        Self(difference(self.0, other.0))
    }
    /// `self * factor`, saturating.
    pub const fn saturating_mul(self, factor: i64) -> Self {
        Self(self.0.saturating_mul(factor))
    }
}

/// reference - local, in integer nanoseconds. Positive: the local clock is behind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Offset(i64);

impl Offset {
    /// The local clock agrees with the reference.
    pub const ZERO: Self = Self(0);

    /// An offset of `nanos` nanoseconds.
    pub const fn from_nanos(nanos: i64) -> Self {
        Self(nanos)
    }
    /// An offset of `secs` seconds rounded to the nearest nanosecond; saturates, and a NaN becomes zero.
    pub fn from_secs_f64(secs: f64) -> Self {
        Self(nanos_from_secs(secs))
    }
    /// Nanoseconds.
    pub const fn as_nanos(self) -> i64 {
        self.0
    }
    /// Seconds; exact only while the magnitude is below 2^53 ns (104 days).
    pub const fn as_secs_f64(self) -> f64 {
        self.0 as f64 / NANOS_PER_SEC
    }
    /// The signed distance from `other` to `self`, saturating.
    pub const fn since(self, other: Self) -> Span {
        Span(difference(self.0, other.0))
    }
    /// `self + span`, saturating.
    pub const fn saturating_add(self, span: Span) -> Self {
        Self(sum(self.0, span.0))
    }
    /// `self - span`, saturating.
    pub const fn saturating_sub(self, span: Span) -> Self {
        Self(difference(self.0, span.0))
    }
}

fn nanos_from_secs(secs: f64) -> i64 {
    nearest(secs * NANOS_PER_SEC)
}

/// The nearest integer, the even one of two; `as` saturates and maps NaN to zero, which is what the callers document.
#[allow(clippy::cast_possible_truncation, reason = "float to integer `as` saturates, as documented")]
pub(crate) fn nearest(value: f64) -> i64 {
    /// 2^52: from there on the grid of doubles is that of the integers, so that adding it rounds and leaves the integer in the
    /// low bits. Where doubles are software that is a fraction of the work of `rint`.
    const GRID: f64 = 4_503_599_627_370_496.0;
    let magnitude = value.abs();
    if magnitude < GRID {
        let rounded = (magnitude + GRID).to_bits().wrapping_sub(GRID.to_bits()).cast_signed();
        if value < 0.0 { -rounded } else { rounded }
    } else {
        value as i64
    }
}

/// `value` limited to between `low` and `high`; NaN stays. Unlike `f64::clamp` it cannot panic, and so does not bring the
/// formatting of floating-point numbers into a small program.
pub(crate) const fn limited(value: f64, low: f64, high: f64) -> f64 {
    if value < low {
        low
    } else if value > high {
        high
    } else {
        value
    }
}

macro_rules! real_quantity {
    ($(#[$doc:meta])* $name:ident, $unit:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, PartialOrd, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(f64);

        impl $name {
            /// Zero.
            pub const ZERO: Self = Self(0.0);

            #[doc = concat!("From a value in ", $unit, ".")]
            pub const fn new(value: f64) -> Self {
                Self(value)
            }
            #[doc = concat!("The value in ", $unit, ".")]
            pub const fn value(self) -> f64 {
                self.0
            }
            /// Neither NaN nor infinite.
            pub const fn is_finite(self) -> bool {
                self.0.is_finite()
            }
        }
    };
}

real_quantity!(
    /// A relative frequency error: the slope of the offset over local time, in s/s.
    Rate,
    "s/s"
);
real_quantity!(
    /// A variance of time, in s^2.
    Variance,
    "s^2"
);
real_quantity!(
    /// A standard deviation of time, in s.
    Deviation,
    "s"
);
real_quantity!(
    /// A temperature, in degrees Celsius.
    Temperature,
    "degrees Celsius"
);

impl Rate {
    /// From parts per million (us/s).
    pub const fn from_ppm(ppm: f64) -> Self {
        Self(ppm * 1e-6)
    }
    /// From parts per billion (ns/s).
    pub const fn from_ppb(ppb: f64) -> Self {
        Self(ppb * 1e-9)
    }
    /// Parts per million.
    pub const fn as_ppm(self) -> f64 {
        self.0 * 1e6
    }
    /// The span that this rate accumulates over `span`, rounded to the nearest nanosecond, saturating.
    pub fn over(self, span: Span) -> Span {
        if span.0 == 0 {
            return Span::ZERO;
        }
        Span::from_nanos(nearest(self.0 * span.0 as f64))
    }
}

impl Add for Rate {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self(self.0 + other.0)
    }
}
impl Sub for Rate {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        Self(self.0 - other.0)
    }
}
impl Neg for Rate {
    type Output = Self;
    fn neg(self) -> Self {
        Self(-self.0)
    }
}

impl Variance {
    /// The square root.
    pub fn deviation(self) -> Deviation {
        Deviation(libm::sqrt(self.0))
    }
}
impl Add for Variance {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self(self.0 + other.0)
    }
}
impl AddAssign for Variance {
    fn add_assign(&mut self, other: Self) {
        self.0 += other.0;
    }
}
impl Deviation {
    /// The square.
    pub const fn variance(self) -> Variance {
        Variance(self.0 * self.0)
    }
}

/// `a + b`, saturating. A microcontroller has one copy.
#[cfg_attr(not(target_os = "none"), inline)]
#[cfg_attr(target_os = "none", inline(never))]
const fn sum(a: i64, b: i64) -> i64 {
    a.saturating_add(b)
}

/// `a - b`, saturating.
#[cfg_attr(not(target_os = "none"), inline)]
#[cfg_attr(target_os = "none", inline(never))]
const fn difference(a: i64, b: i64) -> i64 {
    a.saturating_sub(b)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_map_local_to_utc_and_back() {
        let local = Timestamp::<Local>::from_nanos(1_000);
        let utc = local.to_utc(Offset::from_nanos(-300));
        assert_eq!(utc.as_nanos(), 700);
        assert_eq!(utc.offset_from(local), Offset::from_nanos(-300));
    }

    #[test]
    fn extremes_saturate() {
        let late = Timestamp::<Local>::from_nanos(i64::MAX);
        let early = Timestamp::<Local>::from_nanos(i64::MIN);
        assert_eq!(late.since(early), Span::MAX);
        assert_eq!(late.saturating_add(Span::from_secs(1)), late);
        assert_eq!(Span::from_secs_f64(f64::INFINITY), Span::MAX);
        assert_eq!(Span::from_secs_f64(f64::NAN), Span::ZERO);
    }

    #[test]
    fn a_rate_accumulates_over_a_span() {
        assert_eq!(Rate::from_ppm(100.0).over(Span::from_secs(1)), Span::from_micros(100));
    }
}
