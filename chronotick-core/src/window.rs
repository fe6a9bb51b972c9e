//! What the models are shown: the oscillator's measured rate (and temperature) on three uniform grids.
//!
//! Long horizons want long histories and short ones want detail, so the same past is kept at three resolutions: `FINE`
//! cells of one step, `MIDDLE` cells of 4 steps and `COARSE` cells of 16 steps (with the default step of 64 s: 4.6 h, 9.1 h
//! and 36 h). The values come from the measurement-driven filter alone; a forecast never enters (a model that is fed its
//! own output drifts away). A cell in which nothing was measured is NaN and stays so.

use serde::{Deserialize, Serialize};

/// Cells of the fine grid (one step each).
pub const FINE: usize = 256;
/// Cells of the middle grid (4 steps each).
pub const MIDDLE: usize = 128;
/// Cells of the coarse grid (16 steps each).
pub const COARSE: usize = 128;
/// Steps per middle cell.
pub const MIDDLE_STEPS: i64 = 4;
/// Steps per coarse cell.
pub const COARSE_STEPS: i64 = 16;

/// One grid, oldest cell first, the last cell ending at the request's origin. Missing cells are NaN.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Grid<const N: usize> {
    /// Mean rate over the cell minus the request's base rate, in s/s.
    pub rate: heapless::Vec<f32, N>,
    /// Mean temperature over the cell, in degrees Celsius.
    pub temperature: heapless::Vec<f32, N>,
}

/// The three grids of a request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct History {
    /// One step a cell.
    pub fine: Grid<FINE>,
    /// [`MIDDLE_STEPS`] steps a cell.
    pub middle: Grid<MIDDLE>,
    /// [`COARSE_STEPS`] steps a cell.
    pub coarse: Grid<COARSE>,
}
