//! What a pipeline assumes of the world, what it may know beforehand, and what it counts.

use serde::{Deserialize, Serialize};

use crate::units::{Rate, Span};

/// What the pipeline assumes of the world and is asked to do. [`Config::default`] suits a server on a network.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Config {
    /// The oscillator's rate never exceeds this magnitude against its nominal frequency.
    pub max_rate: Rate,
    /// The oscillator's rate never differs by more than this between any two instants.
    pub max_drift: Rate,
    /// Resolution of the local counter.
    pub counter_resolution: Span,
    /// Without a sample for this long (and longer than four sampling intervals) the tier is holdover.
    pub holdover_after: Span,
    /// A published line is void after this long without an update.
    pub void_after: Span,
    /// The base step of the models' grids.
    pub forecast_step: Span,
    /// Which models are asked, by `Model::index`.
    pub forecasters: [bool; 2],
    /// How many sources are configured. Where these are three or more, none is believed alone (see `selection.rs`).
    pub sources: u8,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            max_rate: Rate::from_ppm(500.0),
            max_drift: Rate::from_ppm(50.0),
            counter_resolution: Span::from_nanos(1),
            holdover_after: Span::from_secs(64),
            void_after: Span::from_secs(3600),
            forecast_step: Span::from_secs(64),
            forecasters: [true, true],
            sources: 1,
        }
    }
}

/// What is known of an oscillator's rate beforehand: from a run before this one.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct WarmStart {
    /// The slope of its offset.
    pub rate: Rate,
    /// Standard deviation of that.
    pub deviation: Rate,
}

/// Counters and states for people and metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Counts {
    /// Samples used.
    pub samples_accepted: u64,
    /// Samples refused or rejected as spikes.
    pub samples_rejected: u64,
    /// Questions put to the models.
    pub forecasts_issued: u64,
    /// Answers that passed every check.
    pub forecasts_accepted: u64,
    /// Answers refused, or accepted without weight.
    pub forecasts_muted: u64,
}
