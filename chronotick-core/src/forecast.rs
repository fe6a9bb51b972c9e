//! The question put to a model and its answer: quantiles of the offset over a horizon.
//!
//! A request carries the measured history relative to the filter's line (offset and rate at the origin). The answer is the
//! distribution of what the oscillator will do beyond that line: for step `k`, the quantiles of
//! `offset(origin + k * step) - (line offset + line rate * k * step)` in seconds. Answers are checked before they are used;
//! one that fails is dropped and counted, never repaired.

use serde::{Deserialize, Serialize};

use crate::units::{Local, Rate, Span, Timestamp};
use crate::window::{FINE, History, MIDDLE};

/// The quantile levels of every forecast, ascending; the median is in the middle.
pub const LEVELS: [f32; 9] = [0.025, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.975];
/// Index of the median in [`LEVELS`].
pub const MEDIAN: usize = 4;
/// Most steps a forecast can have.
pub const MAX_STEPS: usize = 64;

/// Which of the two forecasters is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
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
pub struct ForecastRequest<const N: usize = FINE, const M: usize = MIDDLE> {
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
    pub history: History<N, M>,
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
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
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

/// A question that waits for its answer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Asked {
    /// Of the request.
    pub id: u32,
    /// Of the request.
    pub model: Model,
    /// Of the request.
    pub origin: Timestamp<Local>,
    /// Of the request.
    pub step: Span,
    /// Of the request.
    pub rate: Rate,
    /// Answers after this instant are late.
    pub deadline: Timestamp<Local>,
}

/// Factor on the configured drift beyond which a forecast is not believed.
const PLAUSIBLE: f64 = 2.0;

impl Asked {
    /// Whether `forecast` answers this question, in time and in a form that can be used. `max_drift` is the oscillator's.
    pub fn check(
        &self,
        now: Timestamp<Local>,
        forecast: &Forecast,
        max_drift: Rate,
        offset_deviation: f64,
    ) -> Result<(), ForecastError> {
        if forecast.id != self.id || forecast.model != self.model {
            return Err(ForecastError::NotRequested);
        }
        if now > self.deadline {
            return Err(ForecastError::Late);
        }
        if forecast.quantiles.len() != self.model.steps() {
            return Err(ForecastError::WrongShape);
        }
        let step = self.step.as_secs_f64() * self.model.stride() as f64;
        for (k, row) in forecast.quantiles.iter().enumerate() {
            if row.iter().any(|q| !q.is_finite()) {
                return Err(ForecastError::NotFinite);
            }
            if row.windows(2).any(|pair| pair[0] > pair[1]) {
                return Err(ForecastError::Disordered);
            }
            let horizon = (k + 1) as f64 * step;
            let limit = PLAUSIBLE * max_drift.value() * horizon + 10.0 * offset_deviation;
            if row.iter().any(|q| f64::from(q.abs()) > limit) {
                return Err(ForecastError::Implausible);
            }
        }
        Ok(())
    }
}

/// An accepted answer, ready to be read at any later instant within its reach.
#[derive(Clone, Debug)]
pub struct Active {
    origin: Timestamp<Local>,
    /// Of one row, s.
    step: f32,
    rate: f64,
    /// Median and half the distance between the 10 % and 90 % quantiles, s, one row per step.
    rows: heapless::Vec<(f32, f32), MAX_STEPS>,
}

impl Active {
    /// The checked answer to `asked`.
    pub fn new(asked: &Asked, forecast: &Forecast) -> Self {
        let mut rows = heapless::Vec::new();
        for row in &forecast.quantiles {
            let _ = rows.push((row[MEDIAN], 0.5 * (row[6] - row[2])));
        }
        #[allow(clippy::cast_possible_truncation, reason = "what follows from it is f32 as well")]
        let step = (asked.step.as_secs_f64() * asked.model.stride() as f64) as f32;
        Self { origin: asked.origin, step, rate: asked.rate.value(), rows }
    }

    /// How the offset changes from `from` to `h` seconds later beyond a line of `rate` (s/s), its slope there beyond it, and its
    /// standard deviation; `None` beyond the forecast's reach.
    #[allow(clippy::cast_possible_truncation, reason = "its rows are f32")]
    pub fn change(&self, from: Timestamp<Local>, h: f32, rate: f64) -> Option<(f32, f32, f32)> {
        // Nearer than its first row it knows nothing: that is the filters' business.
        if h < self.step {
            return None;
        }
        let age = from.since(self.origin).as_secs_f64() as f32;
        let (start, _, start_deviation) = self.at(age)?;
        let (end, slope, deviation) = self.at(age + h)?;
        let gained = libm::sqrtf((deviation * deviation - start_deviation * start_deviation).max(0.0));
        let beyond = (self.rate - rate) as f32;
        Some((end - start + beyond * h, slope + beyond, gained))
    }

    /// Median beyond the request's line, its slope, and the standard deviation, `age` seconds after the origin.
    fn at(&self, age: f32) -> Option<(f32, f32, f32)> {
        /// The 90 % quantile of the standard normal distribution.
        const NORMAL_90: f32 = 1.2816;
        let place = age / self.step;
        if !(0.0..=self.rows.len() as f32).contains(&place) {
            return None;
        }
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 0 and the number of rows")]
        let row = (place as usize).min(self.rows.len() - 1);
        let before = if row == 0 { (0.0, 0.0) } else { self.rows[row - 1] };
        let (after, share) = (self.rows[row], place - row as f32);
        let between = |a: f32, b: f32| a + share * (b - a);
        let slope = (after.0 - before.0) / self.step;
        Some((between(before.0, after.0), slope, between(before.1, after.1) / NORMAL_90))
    }
}
