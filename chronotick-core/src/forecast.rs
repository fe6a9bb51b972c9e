//! The question put to a model and its answer: quantiles of the offset over a horizon.
//!
//! A request carries the measured history relative to the filter's line (offset and rate at the origin), and what the classical
//! experts expect. The answer is the distribution of what the oscillator will do beyond that line: for step `k`, the quantiles
//! of `offset(origin + k * step) - (line offset + line rate * k * step)` in seconds. Answers are checked before they are used;
//! one that fails is dropped and counted, never repaired.
//!
//! **A correction.** What is kept of an answer is its distance from what the experts expected at the same origin. While it grows
//! old they learn what was measured since, and the correction is added to what they expect by then.

use serde::{Deserialize, Serialize};

use crate::units::{Local, Rate, Span, Timestamp};
use crate::window::{FINE, History, MIDDLE};

/// The quantile levels of every forecast, ascending; the median is in the middle.
pub const LEVELS: [f32; 9] = [0.025, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.975];
/// Index of the median in [`LEVELS`].
pub const MEDIAN: usize = 4;
/// Most steps a forecast can have.
pub const MAX_STEPS: usize = 64;

/// How many base steps after the origin a request says what the classical experts expect.
pub const OUTLOOK_STEPS: [f32; 5] = [1.0, 4.0, 16.0, 64.0, 225.0];

/// What the classical experts expect at [`OUTLOOK_STEPS`]: no model has a part in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Outlook {
    /// Beyond the request's line, s.
    pub displacement: [f32; OUTLOOK_STEPS.len()],
    /// Claimed standard deviation of that, s.
    pub deviation: [f32; OUTLOOK_STEPS.len()],
}

impl Outlook {
    /// The displacement `steps` base steps after the origin: linear between the steps given, and beyond the last.
    pub fn at(&self, steps: f32) -> f32 {
        const LAST: usize = OUTLOOK_STEPS.len() - 2;
        let i = (0..LAST).find(|&i| steps <= OUTLOOK_STEPS[i + 1]).unwrap_or(LAST);
        let share = ((steps - OUTLOOK_STEPS[i]) / (OUTLOOK_STEPS[i + 1] - OUTLOOK_STEPS[i])).max(0.0);
        self.displacement[i] + share * (self.displacement[i + 1] - self.displacement[i])
    }
}

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
    /// What the classical experts expect.
    pub outlook: Outlook,
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
    pub outlook: Outlook,
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
    /// After that less than a row is left.
    until: Timestamp<Local>,
    /// Of one row, s.
    step: f32,
    /// Median beyond what the classical experts expected and half the distance between the 10 % and 90 % quantiles, s, one row per step.
    rows: heapless::Vec<(f32, f32), MAX_STEPS>,
}

impl Active {
    /// The checked answer to `asked`.
    pub fn new(asked: &Asked, forecast: &Forecast) -> Self {
        let stride = asked.model.stride() as f32;
        let mut rows = heapless::Vec::new();
        for (k, row) in forecast.quantiles.iter().enumerate() {
            let expected = asked.outlook.at((k + 1) as f32 * stride);
            let _ = rows.push((row[MEDIAN] - expected, 0.5 * (row[6] - row[2])));
        }
        #[allow(clippy::cast_possible_truncation, reason = "what follows from it is f32 as well")]
        let step = asked.step.as_secs_f64() as f32 * stride;
        #[allow(clippy::cast_possible_wrap, reason = "at most MAX_STEPS rows")]
        let steps = asked.model.stride() * rows.len().saturating_sub(1) as i64;
        let until = asked.origin.saturating_add(asked.step.saturating_mul(steps));
        Self { origin: asked.origin, until, step, rows }
    }

    /// Whether it has nothing to say any more from `at` on.
    pub fn is_over(&self, at: Timestamp<Local>) -> bool {
        at > self.until
    }

    /// What is to be added to what the classical experts, at `from`, expect `h` seconds later: s, its slope there, and the
    /// standard deviation of the offset's change meanwhile; `None` beyond the forecast's reach.
    #[allow(clippy::cast_possible_truncation, reason = "its rows are f32")]
    pub fn correction(&self, from: Timestamp<Local>, h: f32) -> Option<(f32, f32, f32)> {
        // Nearer than its first row it knows nothing: that is the filters' business.
        if h < self.step {
            return None;
        }
        let age = from.since(self.origin).as_secs_f64() as f32;
        let (start, _, start_deviation) = self.at(age)?;
        let (end, slope, deviation) = self.at(age + h)?;
        let gained = libm::sqrtf((deviation * deviation - start_deviation * start_deviation).max(0.0));
        Some((end - start, slope, gained))
    }

    /// Median beyond what was expected, its slope, and the standard deviation, `age` seconds after the origin.
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
