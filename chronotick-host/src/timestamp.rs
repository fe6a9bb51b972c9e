//! What `now()` returns.

use std::fmt;
use std::time::{Duration, SystemTime};

use chronotick_core::clock_page::PageReading;
use chronotick_core::{ErrorBound, Offset, PredictionInterval, Reason, Span, Tier, Utc, units};

/// A corrected instant with its two uncertainties, its tier and why it has it.
///
/// The **bound** is worst case: UTC was between [`Timestamp::earliest`] and [`Timestamp::latest`] while the selected servers
/// told the truth and the oscillator kept to its configured maximum. The **95 % interval** is statistical.
///
/// ```
/// # let daemon = chronotick_host::doc::daemon();
/// # let clock = daemon.attach();
/// let now = clock.now();
/// println!("{} +- {:?} (95 %), {}: {}", now.utc().as_nanos(), now.interval95().half_width(), now.tier(), now.reason());
/// assert!(now.earliest() <= now.utc() && now.utc() <= now.latest());
/// assert!(now.within(std::time::Duration::from_secs(1)) > 0.95);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timestamp {
    reading: PageReading,
    raw: i64,
    target_accuracy: i64,
}

impl Timestamp {
    #[inline(always)]
    pub(crate) const fn new(reading: PageReading, raw: i64, target_accuracy: i64) -> Self {
        Self { reading, raw, target_accuracy }
    }

    /// Corrected UTC.
    ///
    /// ```
    /// # let daemon = chronotick_host::doc::daemon();
    /// # let now = daemon.clock().now();
    /// println!("{} ns since 1970", now.utc().as_nanos());
    /// assert!(now.utc().as_nanos() > 1_600_000_000_000_000_000);
    /// ```
    #[inline]
    pub const fn utc(&self) -> units::Timestamp<Utc> {
        self.reading.utc()
    }

    /// What the free-running counter says at its nominal frequency, uncorrected since the daemon started.
    ///
    /// ```
    /// # let daemon = chronotick_host::doc::daemon();
    /// # let now = daemon.clock().now();
    /// assert_eq!(now.utc().since(now.raw()).as_nanos(), now.offset().as_nanos());
    /// ```
    #[inline]
    pub const fn raw(&self) -> units::Timestamp<Utc> {
        units::Timestamp::from_nanos(self.raw)
    }

    /// corrected - raw. Positive: the counter is behind.
    ///
    /// ```
    /// # let daemon = chronotick_host::doc::daemon();
    /// # let now = daemon.clock().now();
    /// println!("the counter is {} ns behind", now.offset().as_nanos());
    /// assert!(now.offset().as_nanos().abs() < 1_000_000);
    /// ```
    #[inline]
    pub const fn offset(&self) -> Offset {
        Offset::from_nanos(self.utc().since(self.raw()).as_nanos())
    }

    /// Calibrated: UTC is within this half-width of [`Timestamp::utc`] 95 % of the time. Unknown in tier `raw`.
    ///
    /// ```
    /// # let daemon = chronotick_host::doc::daemon();
    /// # let now = daemon.clock().now();
    /// assert!(now.interval95().is_known());
    /// assert!(now.interval95().half_width().as_nanos() < 30_000, "20 us here");
    /// ```
    #[inline]
    pub const fn interval95(&self) -> PredictionInterval {
        self.reading.interval95()
    }

    /// Worst case: UTC is within this half-width of [`Timestamp::utc`] while the assumptions hold. Unbounded in tier `raw`.
    ///
    /// ```
    /// # let daemon = chronotick_host::doc::daemon();
    /// # let now = daemon.clock().now();
    /// assert!(now.bound().is_bounded());
    /// assert!(now.bound().half_width().as_nanos() < 600_000, "0.5 ms here");
    /// ```
    #[inline]
    pub const fn bound(&self) -> ErrorBound {
        self.reading.bound()
    }

    /// UTC was not before this; the earliest instant there is in tier `raw`.
    ///
    /// ```
    /// # let daemon = chronotick_host::doc::daemon();
    /// # let now = daemon.clock().now();
    /// assert_eq!(now.earliest(), now.utc().saturating_sub(now.bound().half_width()));
    /// ```
    #[inline(always)]
    pub const fn earliest(&self) -> units::Timestamp<Utc> {
        self.reading.earliest()
    }

    /// UTC was not after this; the latest instant there is in tier `raw`.
    ///
    /// ```
    /// # let daemon = chronotick_host::doc::daemon();
    /// # let now = daemon.clock().now();
    /// let deadline = now.utc().saturating_add(chronotick_core::Span::from_secs(1));
    /// assert!(now.latest() < deadline, "certainly not over yet");
    /// ```
    #[inline(always)]
    pub const fn latest(&self) -> units::Timestamp<Utc> {
        self.reading.latest()
    }

    /// The calibrated probability that the error is within the daemon's configured target accuracy (default 20 ms):
    /// [`Timestamp::within`] of it. 0 when nothing is known.
    ///
    /// ```
    /// # let daemon = chronotick_host::doc::daemon();
    /// # let now = daemon.clock().now();
    /// if now.confidence() < 0.999 {
    ///     println!("too uncertain to order by");
    /// }
    /// assert!(now.confidence() > 0.95, "the example's target is 1 ms");
    /// ```
    pub fn confidence(&self) -> f64 {
        self.within(Duration::from_nanos(self.target_accuracy.max(0).unsigned_abs()))
    }

    /// The calibrated probability that UTC is within `error` of [`Timestamp::utc`]; certain beyond the bound.
    ///
    /// Only the 95 % half-width is measured. Around it the probability is the lower of what a normal and a Laplace
    /// distribution with that half-width say: neither the centre nor the tails are claimed to be better than either.
    ///
    /// ```
    /// # let daemon = chronotick_host::doc::daemon();
    /// # let now = daemon.clock().now();
    /// use std::time::Duration;
    /// let (likely, less_so) = (now.within(Duration::from_micros(20)), now.within(Duration::from_micros(10)));
    /// assert!(0.94 < likely && likely < 0.96 && less_so < likely);
    /// assert_eq!(now.within(Duration::from_millis(1)), 1.0, "beyond the bound");
    /// ```
    pub fn within(&self, error: Duration) -> f64 {
        let error = i64::try_from(error.as_nanos()).unwrap_or(i64::MAX);
        if self.bound().is_bounded() && error >= self.bound().half_width().as_nanos() {
            return 1.0;
        }
        if !self.interval95().is_known() {
            return 0.0;
        }
        let ratio = error as f64 / self.interval95().half_width().as_nanos().max(1) as f64;
        let laplace = 1.0 - 0.05_f64.powf(ratio);
        laplace.min(normal_within(ratio * 1.959_963_985))
    }

    /// How good it is.
    ///
    /// ```
    /// # let daemon = chronotick_host::doc::daemon();
    /// # let now = daemon.clock().now();
    /// use chronotick_core::Tier;
    /// let usable = now.tier() < Tier::Raw;
    /// assert!(usable && now.tier() == Tier::Filter);
    /// ```
    #[inline]
    pub const fn tier(&self) -> Tier {
        self.reading.tier()
    }

    /// Why it is no better.
    ///
    /// ```
    /// # let daemon = chronotick_host::doc::daemon();
    /// # let now = daemon.clock().now();
    /// println!("{}: {}", now.tier(), now.reason());
    /// assert_eq!(now.reason(), chronotick_core::Reason::WarmingUp);
    /// ```
    #[inline]
    pub const fn reason(&self) -> Reason {
        self.reading.reason()
    }

    /// Counts the steps of the served clock: timestamps of one epoch are continuous, and monotone if taken one after the other.
    /// What a reader has to take from the operating system's clock (tier `raw`, while its page is void or too old) has an epoch of
    /// its own, 32768 from the page's, and is only as monotone as that clock.
    ///
    /// ```
    /// # let daemon = chronotick_host::doc::daemon();
    /// # let now = daemon.clock().now();
    /// let later = daemon.clock().now();
    /// if later.epoch() == now.epoch() {
    ///     assert!(later.utc() >= now.utc());
    /// }
    /// ```
    #[inline]
    pub const fn epoch(&self) -> u16 {
        self.reading.epoch()
    }

    /// How long before this the daemon's record was made.
    ///
    /// ```
    /// # let daemon = chronotick_host::doc::daemon();
    /// # let now = daemon.clock().now();
    /// assert!(now.age() < std::time::Duration::from_secs(60));
    /// ```
    pub fn age(&self) -> Duration {
        Duration::from_nanos(self.reading.age().as_nanos().max(0).unsigned_abs())
    }

    /// As the standard library's type, which knows no bounds. Before 1970 it is 1970.
    ///
    /// ```
    /// # let daemon = chronotick_host::doc::daemon();
    /// # let now = daemon.clock().now();
    /// use std::time::SystemTime;
    /// let (time, same): (SystemTime, SystemTime) = (now.to_system_time(), now.into());
    /// assert_eq!(time, same);
    /// ```
    pub fn to_system_time(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_nanos(self.utc().as_nanos().max(0).unsigned_abs())
    }
}

/// Whether `a` was certainly before `b`: even the latest that `a` can have been is before the earliest that `b` can have been.
///
/// ```
/// # let daemon = chronotick_host::doc::daemon();
/// # let clock = daemon.clock();
/// let a = clock.now();
/// assert!(!chronotick_host::definitely_before(&a, &a), "either could have been the earlier one");
/// std::thread::sleep(std::time::Duration::from_millis(2));
/// assert!(chronotick_host::definitely_before(&a, &clock.now()), "each is bounded by 0.5 ms here");
/// ```
pub fn definitely_before(a: &Timestamp, b: &Timestamp) -> bool {
    a.bound().is_bounded() && b.bound().is_bounded() && a.latest() < b.earliest()
}

impl From<Timestamp> for SystemTime {
    fn from(timestamp: Timestamp) -> Self {
        timestamp.to_system_time()
    }
}

/// ```
/// # let daemon = chronotick_host::doc::daemon();
/// # let now = daemon.clock().now();
/// let time: jiff::Timestamp = now.into();
/// assert_eq!(time.as_nanosecond(), i128::from(now.utc().as_nanos()));
/// ```
#[cfg(feature = "jiff")]
impl From<Timestamp> for jiff::Timestamp {
    fn from(timestamp: Timestamp) -> Self {
        // Every i64 of nanoseconds (1678 to 2262) is within jiff's range.
        jiff::Timestamp::from_nanosecond(timestamp.utc().as_nanos().into()).unwrap_or(jiff::Timestamp::MIN)
    }
}

/// ```
/// # let daemon = chronotick_host::doc::daemon();
/// # let now = daemon.clock().now();
/// let time: chrono::DateTime<chrono::Utc> = now.into();
/// assert_eq!(time.timestamp_nanos_opt(), Some(now.utc().as_nanos()));
/// ```
#[cfg(feature = "chrono")]
impl From<Timestamp> for chrono::DateTime<chrono::Utc> {
    fn from(timestamp: Timestamp) -> Self {
        chrono::DateTime::from_timestamp_nanos(timestamp.utc().as_nanos())
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nanos = self.utc().as_nanos();
        let (sign, nanos) = (if nanos < 0 { "-" } else { "" }, nanos.unsigned_abs());
        write!(f, "{sign}{}.{:09} s", nanos / 1_000_000_000, nanos % 1_000_000_000)?;
        match self.interval95().half_width() {
            Span::MAX => write!(f, " (error unknown")?,
            half => write!(f, " +- {:.3} us (95 %", half.as_nanos() as f64 / 1e3)?,
        }
        if self.bound().is_bounded() {
            write!(f, ", bound {:.3} us", self.bound().half_width().as_nanos() as f64 / 1e3)?;
        }
        write!(f, ", {})", self.tier())
    }
}

/// The probability that a standard normal variable is within `z` of 0: the error function by its series and its continued
/// fraction (Abramowitz and Stegun 7.1.5 and 7.1.14), to about 1e-9.
fn normal_within(z: f64) -> f64 {
    let x = z / std::f64::consts::SQRT_2;
    if x < 2.5 {
        let (mut term, mut sum) = (x, x);
        for n in 1..60 {
            term *= -x * x / f64::from(n);
            sum += term / f64::from(2 * n + 1);
        }
        (sum * std::f64::consts::FRAC_2_SQRT_PI).clamp(0.0, 1.0)
    } else {
        let fraction = (1..60).rev().fold(x, |below, n| x + f64::from(n) / 2.0 / below);
        1.0 - (-x * x).exp() / fraction / std::f64::consts::PI.sqrt()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_normal_distribution() {
        // Tables, to nine digits; the series and the continued fraction meet at z = 3.54.
        for (z, within) in [
            (0.0, 0.0),
            (1.0, 0.682_689_492_137),
            (1.959_963_985, 0.95),
            (3.0, 0.997_300_203_937),
            (3.535_5, 0.999_592_995_755),
            (3.535_6, 0.999_593_149_774),
            (6.0, 0.999_999_998_027),
        ] {
            assert!((normal_within(z) - within).abs() < 1e-8, "{z}: {}", normal_within(z));
        }
        assert_eq!(normal_within(40.0), 1.0);
    }

    #[test]
    fn nothing_known_is_no_confidence() {
        let raw = PageReading::raw(units::Timestamp::from_nanos(-5), Reason::NeverSynchronised, 3);
        let timestamp = Timestamp::new(raw, -5, 1_000_000);
        assert_eq!((timestamp.confidence(), timestamp.within(Duration::MAX)), (0.0, 0.0));
        assert_eq!(timestamp.to_system_time(), SystemTime::UNIX_EPOCH, "before 1970 is 1970");
        assert_eq!((timestamp.earliest().as_nanos(), timestamp.latest().as_nanos()), (i64::MIN, i64::MAX));
        assert_eq!(timestamp.to_string(), "-0.000000005 s (error unknown, raw)");
    }

    /// Every instant that there is, for the features `jiff` and `chrono`.
    #[cfg(any(feature = "jiff", feature = "chrono"))]
    #[test]
    fn conversions_keep_the_nanosecond() {
        for nanos in [i64::MIN, -1, 0, 1_800_000_000_123_456_789, i64::MAX] {
            let reading = PageReading::raw(units::Timestamp::from_nanos(nanos), Reason::NeverSynchronised, 0);
            let timestamp = Timestamp::new(reading, nanos, 0);
            #[cfg(feature = "jiff")]
            assert_eq!(jiff::Timestamp::from(timestamp).as_nanosecond(), i128::from(nanos));
            #[cfg(feature = "chrono")]
            assert_eq!(chrono::DateTime::from(timestamp).timestamp_nanos_opt(), Some(nanos));
        }
    }
}
