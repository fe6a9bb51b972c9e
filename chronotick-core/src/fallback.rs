//! Who answers: a ranking of [`ClockSource`]s from the fused forecast down to the bare clock.
//!
//! Falling back is a state with a reason, never an error: the first source of the ranking that can answer does.

use serde::{Deserialize, Serialize};

use crate::interval::{ErrorBound, PredictionInterval};
use crate::selection::Undecided;
use crate::units::{Local, Offset, Timestamp};

/// How good a reading is, best first. The discriminants are part of the clock page's layout.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[repr(u8)]
pub enum Tier {
    /// Fresh measurements and at least one model whose forecasts carry weight.
    Fused = 0,
    /// Fresh measurements, classical experts only.
    Filter = 1,
    /// No fresh measurement: the last estimate, extrapolated.
    Holdover = 2,
    /// The last published parameters, with the widest configured growth.
    Cached = 3,
    /// The operating system's clock, uncorrected and unbounded.
    Raw = 4,
}

impl Tier {
    /// All tiers, best first.
    pub const ALL: [Self; 5] = [Self::Fused, Self::Filter, Self::Holdover, Self::Cached, Self::Raw];

    /// From its discriminant.
    pub const fn from_u8(value: u8) -> Option<Self> {
        match value {
            0 => Some(Self::Fused),
            1 => Some(Self::Filter),
            2 => Some(Self::Holdover),
            3 => Some(Self::Cached),
            4 => Some(Self::Raw),
            _ => None,
        }
    }
    /// The lower-case word shown to people and in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Fused => "fused",
            Self::Filter => "filter",
            Self::Holdover => "holdover",
            Self::Cached => "cached",
            Self::Raw => "raw",
        }
    }
}

impl core::fmt::Display for Tier {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.pad(self.as_str())
    }
}

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident = $value:literal, $text:literal;)*) => {
        /// Why a reading has its tier. The discriminants are part of the clock page's layout.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
        #[repr(u8)]
        pub enum Reason { $($(#[$doc])* $name = $value,)* }

        impl Reason {
            /// All reasons.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// From its discriminant.
            pub const fn from_u8(value: u8) -> Option<Self> {
                match value { $($value => Some(Self::$name),)* _ => None }
            }
            /// A sentence for people.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }
        }
    };
}

reasons! {
    /// Nothing to report.
    Nominal = 0, "measurements are fresh and forecasts carry weight";
    /// The forecasters are switched off.
    ForecastersOff = 1, "forecasters are switched off";
    /// Too little history for a forecast yet.
    WarmingUp = 2, "the clock is too young for forecasts";
    /// Forecasts arrive but lose to the filter.
    ForecastsMuted = 3, "forecasts are muted: they do not beat the filter";
    /// The worker process is not answering.
    WorkerDown = 4, "the forecast worker is not answering";
    /// No sample for longer than expected.
    NoSamples = 5, "no fresh measurement: the time servers are silent";
    /// The sources disagree and none has a majority.
    NoMajority = 6, "the time servers disagree and no majority agrees";
    /// The newest samples contradict the hard bound.
    BoundConflict = 7, "measurements contradict the hard bound: a server or the oscillator broke its assumptions";
    /// Nobody has updated the page for too long.
    PageStale = 8, "the daemon has stopped updating the page";
    /// No reference has been heard yet.
    NeverSynchronised = 9, "not synchronised yet: no time server has answered";
    /// The machine was suspended or paused.
    Suspended = 10, "the machine was suspended: waiting for fresh measurements";
    /// A state saved by an earlier run.
    WarmStart = 11, "a saved state from an earlier run, not yet confirmed by a measurement";
    /// Three or more servers are configured and a majority of them has not been heard yet.
    AwaitingMajority = 12, "waiting to hear a majority of the configured time servers";
    /// Fewer than a majority of the configured servers answer: a lie of one of them would go unnoticed.
    FewServers = 13, "fewer than a majority of the configured time servers answer";
}

impl From<Undecided> for Reason {
    fn from(undecided: Undecided) -> Self {
        match undecided {
            Undecided::Waiting => Self::AwaitingMajority,
            Undecided::NoMajority => Self::NoMajority,
        }
    }
}

impl core::fmt::Display for Reason {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.pad(self.as_str())
    }
}

/// The answer of a [`ClockSource`]: the offset at an instant, how sure, and why.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Estimate {
    /// reference - local.
    pub offset: Offset,
    /// Calibrated 95 % interval around it.
    pub interval: PredictionInterval,
    /// Hard bound around it.
    pub bound: ErrorBound,
    /// Who answered.
    pub tier: Tier,
    /// Why that one.
    pub reason: Reason,
}

/// Something that answers "the time at this local instant, how sure, and why".
pub trait ClockSource {
    /// The estimate for `at`, or `None` when this source has nothing to say.
    fn estimate(&self, at: Timestamp<Local>) -> Option<Estimate>;
}

impl<A: Fn(Timestamp<Local>) -> Option<Estimate>> ClockSource for A {
    fn estimate(&self, at: Timestamp<Local>) -> Option<Estimate> {
        self(at)
    }
}

/// The first of `ranking`, best first, that answers.
pub fn first(ranking: &[&dyn ClockSource], at: Timestamp<Local>) -> Option<Estimate> {
    ranking.iter().find_map(|source| source.estimate(at))
}
