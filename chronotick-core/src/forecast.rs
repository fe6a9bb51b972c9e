//! The question put to a model and its answer: quantiles of the offset over a horizon.
//!
//! A request carries the measured history relative to the filter's line (offset and rate at the origin). The answer is the
//! distribution of what the oscillator will do beyond that line: for step `k`, the quantiles of
//! `offset(origin + k * step) - (line offset + line rate * k * step)` in seconds. Answers are checked before they are used;
//! one that fails is dropped and counted, never repaired.

use serde::{Deserialize, Serialize};

use crate::units::{Local, Rate, Span, Timestamp};
use crate::window::History;

/// The quantile levels of every forecast, ascending; the median is in the middle.
pub const LEVELS: [f32; 9] = [0.025, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.975];
/// Index of the median in [`LEVELS`].
pub const MEDIAN: usize = 4;
/// Most steps a forecast can have.
pub const MAX_STEPS: usize = 64;

/// Which of the two forecasters is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Model {
    /// Chronos-Bolt architecture: 64 steps of one base step.
    Near,
    /// TinyTimeMixer architecture: 16 steps of 16 base steps.
    Far,
}

impl Model {
    /// Both, in the order of their indices.
    pub const ALL: [Self; 2] = [Self::Near, Self::Far];

    /// 0 or 1, for tables.
    pub const fn index(self) -> usize {
        self as usize
    }
    /// How many steps its forecasts have.
    pub const fn steps(self) -> usize {
        match self {
            Self::Near => 64,
            Self::Far => 16,
        }
    }
    /// How many base steps one of its steps spans.
    pub const fn stride(self) -> i64 {
        match self {
            Self::Near => 1,
            Self::Far => 16,
        }
    }
}

/// The question: what will the oscillator do from `origin` on?
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ForecastRequest {
    /// Ascending; the answer repeats it.
    pub id: u32,
    /// Who is asked.
    pub model: Model,
    /// End of the history and start of the forecast.
    pub origin: Timestamp<Local>,
    /// The base step of the grids.
    pub step: Span,
    /// Rate of the filter's line, which the history's rates are relative to.
    pub rate: Rate,
    /// Standard deviation of the line's offset at the origin, in s.
    pub offset_deviation: f32,
    /// Standard deviation of the line's rate, in s/s.
    pub rate_deviation: f32,
    /// Measured rates and temperatures up to the origin.
    pub history: History,
}

/// The answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Forecast {
    /// The request's.
    pub id: u32,
    /// The request's.
    pub model: Model,
    /// First eight bytes of the SHA-256 of the model file.
    pub hash: [u8; 8],
    /// Quantiles at [`LEVELS`] of the offset beyond the request's line, in s, one row per step of `step * stride`.
    pub quantiles: heapless::Vec<[f32; 9], MAX_STEPS>,
}

/// Why a forecast was not used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ForecastError {
    /// Nobody asked for it, or it was asked so long ago that the request is forgotten.
    NotRequested,
    /// Arrived after its deadline.
    Late,
    /// The wrong number of steps.
    WrongShape,
    /// A NaN or an infinity.
    NotFinite,
    /// Quantiles that do not ascend.
    Disordered,
    /// Beyond what the configured maximum drift could do.
    Implausible,
}

impl core::fmt::Display for ForecastError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::NotRequested => "the forecast answers no open request",
            Self::Late => "the forecast came after its deadline",
            Self::WrongShape => "the forecast has the wrong number of steps",
            Self::NotFinite => "the forecast holds a value that is not finite",
            Self::Disordered => "the forecast's quantiles do not ascend",
            Self::Implausible => "the forecast moves faster than the configured maximum drift",
        })
    }
}

impl core::error::Error for ForecastError {}
