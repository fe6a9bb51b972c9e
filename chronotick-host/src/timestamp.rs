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
    #[inline]
    pub const fn utc(&self) -> units::Timestamp<Utc> {
        self.reading.utc()
    }

    /// What the free-running counter says at its nominal frequency, uncorrected since the daemon started.
    #[inline]
    pub const fn raw(&self) -> units::Timestamp<Utc> {
        units::Timestamp::from_nanos(self.raw)
    }

    /// corrected - raw. Positive: the counter is behind.
    #[inline]
    pub const fn offset(&self) -> Offset {
        Offset::from_nanos(self.utc().since(self.raw()).as_nanos())
    }

    /// Calibrated: UTC is within this half-width of [`Timestamp::utc`] 95 % of the time. Unknown in tier `raw`.
    #[inline]
    pub const fn interval95(&self) -> PredictionInterval {
        self.reading.interval95()
    }

    /// Worst case: UTC is within this half-width of [`Timestamp::utc`] while the assumptions hold. Unbounded in tier `raw`.
    #[inline]
    pub const fn bound(&self) -> ErrorBound {
        self.reading.bound()
    }

    /// UTC was not before this; the earliest instant there is in tier `raw`.
    #[inline(always)]
    pub const fn earliest(&self) -> units::Timestamp<Utc> {
        self.reading.earliest()
    }

    /// UTC was not after this; the latest instant there is in tier `raw`.
    #[inline(always)]
    pub const fn latest(&self) -> units::Timestamp<Utc> {
        self.reading.latest()
    }

    /// The calibrated probability that the error is within the daemon's configured target accuracy (default 1 ms):
    /// [`Timestamp::within`] of it. 0 when nothing is known.
    pub fn confidence(&self) -> f64 {
        self.within(Duration::from_nanos(self.target_accuracy.max(0).unsigned_abs()))
    }

    /// The calibrated probability that UTC is within `error` of [`Timestamp::utc`]; certain beyond the bound.
    ///
    /// Only the 95 % half-width is measured. Around it the probability is the lower of what a normal and a Laplace
    /// distribution with that half-width say: neither the centre nor the tails are claimed to be better than either.
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
    #[inline]
    pub const fn tier(&self) -> Tier {
        self.reading.tier()
    }

    /// Why it is no better.
    #[inline]
    pub const fn reason(&self) -> Reason {
        self.reading.reason()
    }

    /// Counts the steps of the served clock: timestamps of one epoch are continuous, and monotone if taken one after the other.
    #[inline]
    pub const fn epoch(&self) -> u16 {
        self.reading.epoch()
    }

    /// How long before this the daemon's record was made.
    pub fn age(&self) -> Duration {
        Duration::from_nanos(self.reading.age().as_nanos().max(0).unsigned_abs())
    }

    /// As the standard library's type, which knows no bounds. Before 1970 it is 1970.
    pub fn to_system_time(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_nanos(self.utc().as_nanos().max(0).unsigned_abs())
    }
}

/// Whether `a` was certainly before `b`: even the latest that `a` can have been is before the earliest that `b` can have been.
///
/// ```
/// # let daemon = chronotick_host::doc::daemon();
/// # let clock = daemon.clock();
/// let (a, b) = (clock.now(), clock.now());
/// assert!(!chronotick_host::definitely_before(&a, &b), "both could have been the earlier one");
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

#[cfg(feature = "jiff")]
impl From<Timestamp> for jiff::Timestamp {
    fn from(timestamp: Timestamp) -> Self {
        // Every i64 of nanoseconds (1678 to 2262) is within jiff's range.
        jiff::Timestamp::from_nanosecond(timestamp.utc().as_nanos().into()).unwrap_or(jiff::Timestamp::MIN)
    }
}

#[cfg(feature = "chrono")]
impl From<Timestamp> for chrono::DateTime<chrono::Utc> {
    fn from(timestamp: Timestamp) -> Self {
        chrono::DateTime::from_timestamp_nanos(timestamp.utc().as_nanos())
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nanos = self.utc().as_nanos();
        let (seconds, part) = (nanos.div_euclid(1_000_000_000), nanos.rem_euclid(1_000_000_000));
        write!(f, "{seconds}.{part:09} s")?;
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
