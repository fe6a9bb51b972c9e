//! One exchange with a reference: what a source yields and everything downstream starts from.

use serde::{Deserialize, Serialize};

use crate::units::{Local, Offset, Span, Temperature, Timestamp};

/// Which source a sample came from: its index in the runner's list of sources.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SourceId(pub u8);

/// One exchange with a reference clock.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// Counter reading at the middle of the exchange.
    pub local: Timestamp<Local>,
    /// Measured reference - local at that instant.
    pub offset: Offset,
    /// Round-trip delay of the exchange. The measurement is wrong by at most half of it, plus the root distance.
    pub delay: Span,
    /// The server's own error budget: root delay / 2 + root dispersion (RFC 5905).
    pub root_distance: Span,
    /// Temperature near the oscillator, where a sensor exists.
    pub temperature: Option<Temperature>,
    /// Where the exchange was made.
    pub source: SourceId,
}

impl Sample {
    /// How far the measured offset can be from the truth if the server told it: delay / 2 + root distance.
    pub const fn error_bound(&self) -> Span {
        Span::from_nanos(self.delay.as_nanos() / 2 + self.delay.as_nanos() % 2).saturating_add(self.root_distance)
    }

    /// What the delay hides when the server held the question for `held`: that is told by its clock and taken off the local one's round
    /// trip, and no oscillator that keeps time is 1 % off. Half of it belongs to the root distance (RFC 5905, section 8, has it in the
    /// dispersion).
    pub const fn hidden_by(held: Span) -> Span {
        Span::from_nanos(held.as_nanos() / 200 + 1)
    }

    /// The temperature in degrees Celsius, unless no oscillator survives it: a broken sensor must not cost the exchange.
    pub fn plausible_temperature(&self) -> Option<f64> {
        self.temperature.map(Temperature::value).filter(|degrees| (-100.0..=250.0).contains(degrees))
    }

    /// Whether this sample can be used at all.
    ///
    /// # Errors
    /// Why not.
    pub fn validate(&self) -> Result<(), SampleError> {
        if self.delay.as_nanos() < 0 {
            return Err(SampleError::NegativeDelay);
        }
        if self.root_distance.as_nanos() < 0 {
            return Err(SampleError::NegativeRootDistance);
        }
        if self.temperature.is_some_and(|t| !t.is_finite()) {
            return Err(SampleError::TemperatureNotFinite);
        }
        Ok(())
    }
}

/// Why a sample was refused. Refusing loses nothing: the state is as before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum SampleError {
    /// The round trip took less than no time.
    NegativeDelay,
    /// The server claims a negative error.
    NegativeRootDistance,
    /// The temperature is NaN or infinite.
    TemperatureNotFinite,
    /// The sample is older than one already used.
    OutOfOrder,
    /// The sample lies in the future of the `now` that came with it.
    FromTheFuture,
    /// The source's index is beyond the pipeline's capacity.
    UnknownSource,
    /// The majority of the sources contradicts it.
    Outvoted,
    /// The sources disagree and none has a majority: taking one's word would be a guess.
    NoMajority,
    /// The other sources have not been heard yet.
    AwaitingMajority,
}

impl core::fmt::Display for SampleError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::NegativeDelay => "the round-trip delay is negative",
            Self::NegativeRootDistance => "the root distance is negative",
            Self::TemperatureNotFinite => "the temperature is not finite",
            Self::OutOfOrder => "the sample is older than one already used",
            Self::FromTheFuture => "the sample lies in the future",
            Self::UnknownSource => "more sources than the pipeline has room for",
            Self::Outvoted => "the majority of the sources contradicts the sample",
            Self::NoMajority => "the sources disagree and none has a majority",
            Self::AwaitingMajority => "the other sources have not been heard yet",
        })
    }
}

impl core::error::Error for SampleError {}
