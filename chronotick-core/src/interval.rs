//! Two uncertainties that are never confused: the hard bound and the 95 % interval.
//!
//! An [`ErrorBound`] is interval arithmetic: it holds whenever the selected servers tell the truth within their claimed
//! budgets and the oscillator obeys the configured maxima. A [`PredictionInterval`] is statistics: it is calibrated to hold
//! 95 % of the time. There is no conversion between them.

use serde::{Deserialize, Serialize};

use crate::units::Span;

/// Worst case: the true offset lies within this half-width of the served one while the assumptions hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ErrorBound(Span);

impl ErrorBound {
    /// Nothing is known.
    pub const UNBOUNDED: Self = Self(Span::MAX);

    /// A bound of `half_width` either side; a negative width is taken as unbounded, the honest reading of nonsense.
    pub const fn new(half_width: Span) -> Self {
        if half_width.as_nanos() < 0 { Self::UNBOUNDED } else { Self(half_width) }
    }
    /// The half-width.
    pub const fn half_width(self) -> Span {
        self.0
    }
    /// Whether there is a bound at all.
    pub const fn is_bounded(self) -> bool {
        self.0.as_nanos() < i64::MAX
    }
}

/// Calibrated: the true offset lies within this half-width of the served one 95 % of the time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PredictionInterval(Span);

impl PredictionInterval {
    /// Nothing is known.
    pub const UNKNOWN: Self = Self(Span::MAX);

    /// An interval of `half_width` either side; a negative width is taken as unknown.
    pub const fn new(half_width: Span) -> Self {
        if half_width.as_nanos() < 0 { Self::UNKNOWN } else { Self(half_width) }
    }
    /// The half-width.
    pub const fn half_width(self) -> Span {
        self.0
    }
    /// Whether anything is known.
    pub const fn is_known(self) -> bool {
        self.0.as_nanos() < i64::MAX
    }
}
