//! The clock that readers see: continuous, monotone, slewed towards the newest estimate.

use serde::{Deserialize, Serialize};

use crate::fallback::{Reason, Tier};
use crate::interval::{ErrorBound, PredictionInterval};
use crate::units::{Local, Offset, Rate, Span, Timestamp, Utc};

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
