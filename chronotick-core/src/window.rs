//! What the models are shown: the oscillator's measured rate (and temperature) on three uniform grids.
//!
//! Long horizons want long histories and short ones want detail, so the same past is kept at three resolutions: `FINE`
//! cells of one step, `MIDDLE` cells of 4 steps and `COARSE` cells of 16 steps (with the default step of 64 s: 4.6 h, 9.1 h
//! and 36 h). The values come from the measurement-driven filter alone; a forecast never enters (a model that is fed its
//! own output drifts away). A cell in which nothing was measured is NaN and stays so.

use serde::{Deserialize, Serialize};

use crate::units::{Local, Rate, Span, Timestamp};

/// Cells of the fine grid (one step each).
pub const FINE: usize = 256;
/// Cells of the middle grid (4 steps each).
pub const MIDDLE: usize = 128;
/// Cells of the coarse grid (16 steps each).
pub const COARSE: usize = 128;
/// Steps per middle cell.
pub const MIDDLE_STEPS: usize = 4;
/// Steps per coarse cell.
pub const COARSE_STEPS: usize = 16;

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
pub struct History<const N: usize = FINE, const M: usize = MIDDLE> {
    /// One step a cell.
    pub fine: Grid<N>,
    /// [`MIDDLE_STEPS`] steps a cell.
    pub middle: Grid<M>,
    /// [`COARSE_STEPS`] steps a cell.
    pub coarse: Grid<M>,
}

/// The three grids as they fill: `N` fine cells, `M` cells of each coarser grid (at most [`FINE`] and [`MIDDLE`]).
#[derive(Clone, Debug)]
pub struct Window<const N: usize = FINE, const M: usize = MIDDLE> {
    step: Span,
    /// End of the fine cell being filled.
    end: Option<Timestamp<Local>>,
    last: Timestamp<Local>,
    filling: Filling,
    fine: heapless::Deque<Cell, N>,
    middle: Coarser<M, MIDDLE_STEPS>,
    coarse: Coarser<M, COARSE_STEPS>,
    closed: u64,
}

#[derive(Clone, Copy, Debug)]
struct Cell {
    rate: f64,
    temperature: f32,
}

impl Cell {
    const EMPTY: Self = Self { rate: f64::NAN, temperature: f32::NAN };
}

/// Time-weighted sums of the cell being filled.
#[derive(Clone, Copy, Debug, Default)]
struct Filling {
    rate: f64,
    rate_time: f64,
    temperature: f32,
    temperature_time: f32,
}

/// A grid of `K` fine cells a cell.
#[derive(Clone, Debug)]
struct Coarser<const M: usize, const K: usize> {
    cells: heapless::Deque<Cell, M>,
    /// Sums over the fine cells of the cell being filled, and how many of them were measured.
    rate: (f64, u8),
    temperature: (f32, u8),
    filled: u8,
}

/// A silence of more than this many fine cells leaves them empty.
const BRIDGED_CELLS: i64 = 20;

impl<const N: usize, const M: usize> Window<N, M> {
    /// An empty window of fine cells of `step` (at least a nanosecond).
    pub const fn new(step: Span) -> Self {
        Self {
            step: if step.as_nanos() > 0 { step } else { Span::from_nanos(1) },
            end: None,
            last: Timestamp::from_nanos(0),
            filling: Filling { rate: 0.0, rate_time: 0.0, temperature: 0.0, temperature_time: 0.0 },
            fine: heapless::Deque::new(),
            middle: Coarser::new(),
            coarse: Coarser::new(),
            closed: 0,
        }
    }

    /// The oscillator ran at `rate` (and `temperature`, degrees Celsius) from the last call up to `at`.
    pub fn extend(&mut self, at: Timestamp<Local>, rate: Rate, temperature: Option<f64>) {
        let Some(mut end) = self.end else {
            self.end = Some(at.saturating_add(self.step));
            self.last = at;
            return;
        };
        let silence = at.since(self.last).as_nanos() > self.step.as_nanos().saturating_mul(BRIDGED_CELLS);
        // A silence longer than the whole window empties it; there is no use in closing cells one by one.
        let longest = self.step.saturating_mul(i64::try_from(COARSE_STEPS.saturating_mul(M)).unwrap_or(i64::MAX));
        if at.since(end) > longest {
            *self = Self::new(self.step);
            self.end = Some(at.saturating_add(self.step));
            self.last = at;
            return;
        }
        while at >= end {
            if !silence {
                self.filling.add(end.since(self.last).as_secs_f64(), rate.value(), temperature);
            }
            self.close();
            self.last = end;
            let next = end.saturating_add(self.step);
            if next == end {
                // The end of the range of time itself.
                break;
            }
            end = next;
        }
        if !silence {
            self.filling.add(at.since(self.last).as_secs_f64(), rate.value(), temperature);
        }
        self.last = at;
        self.end = Some(end);
    }

    /// Fine cells closed since the start.
    pub const fn closed(&self) -> u64 {
        self.closed
    }

    /// Fine cells that hold a measurement.
    pub fn measured(&self) -> usize {
        self.fine.iter().filter(|cell| cell.rate.is_finite()).count()
    }

    /// The grids relative to `rate`.
    pub fn history(&self, rate: Rate) -> History<N, M> {
        History {
            fine: grid(&self.fine, rate),
            middle: grid(&self.middle.cells, rate),
            coarse: grid(&self.coarse.cells, rate),
        }
    }

    fn close(&mut self) {
        // In a silence there are hundreds of empty ones to close at once.
        let cell = if self.filling.rate_time > 0.0 { self.filling.cell(self.step.as_secs_f64()) } else { Cell::EMPTY };
        self.filling = Filling::default();
        push(&mut self.fine, cell);
        self.middle.take(cell);
        self.coarse.take(cell);
        self.closed = self.closed.saturating_add(1);
    }
}

impl Filling {
    #[allow(clippy::cast_possible_truncation, reason = "a temperature")]
    fn add(&mut self, dt: f64, rate: f64, temperature: Option<f64>) {
        if dt > 0.0 {
            self.rate += rate * dt;
            self.rate_time += dt;
            if let Some(temperature) = temperature {
                self.temperature += temperature as f32 * dt as f32;
                self.temperature_time += dt as f32;
            }
        }
    }

    /// The means, where at least half of `whole` seconds was measured.
    fn cell(&self, whole: f64) -> Cell {
        let half = 0.5 * whole;
        #[allow(clippy::cast_possible_truncation, reason = "a temperature")]
        let warm = self.temperature_time >= half as f32;
        Cell {
            rate: if self.rate_time >= half { self.rate / self.rate_time } else { f64::NAN },
            temperature: if warm { self.temperature / self.temperature_time } else { f32::NAN },
        }
    }
}

impl<const M: usize, const K: usize> Coarser<M, K> {
    const fn new() -> Self {
        Self { cells: heapless::Deque::new(), rate: (0.0, 0), temperature: (0.0, 0), filled: 0 }
    }

    fn take(&mut self, cell: Cell) {
        if !cell.rate.is_nan() {
            self.rate = (self.rate.0 + cell.rate, self.rate.1 + 1);
        }
        if !cell.temperature.is_nan() {
            self.temperature = (self.temperature.0 + cell.temperature, self.temperature.1 + 1);
        }
        self.filled += 1;
        if usize::from(self.filled) == K {
            let ((rate, rates), (temperature, temperatures)) = (self.rate, self.temperature);
            let enough = |count: u8| 2 * usize::from(count) >= K;
            let rate = if enough(rates) { rate / f64::from(rates) } else { f64::NAN };
            let temperature = if enough(temperatures) { temperature / f32::from(temperatures) } else { f32::NAN };
            push(&mut self.cells, Cell { rate, temperature });
            (self.rate, self.temperature, self.filled) = ((0.0, 0), (0.0, 0), 0);
        }
    }
}

fn push<const N: usize>(cells: &mut heapless::Deque<Cell, N>, cell: Cell) {
    if cells.is_full() {
        cells.pop_front();
    }
    // Room was made above.
    let _ = cells.push_back(cell);
}

/// The newest `G` cells relative to `rate`, padded in front with missing ones.
fn grid<const N: usize, const G: usize>(cells: &heapless::Deque<Cell, N>, rate: Rate) -> Grid<G> {
    let mut out = Grid { rate: heapless::Vec::new(), temperature: heapless::Vec::new() };
    let missing = G.saturating_sub(cells.len());
    let padding = core::iter::repeat_n(&Cell::EMPTY, missing);
    for cell in padding.chain(cells.iter().skip(cells.len().saturating_sub(G))) {
        #[allow(clippy::cast_possible_truncation, reason = "relative to the base rate, f32 resolves 1e-7 of it")]
        let _ = out.rate.push((cell.rate - rate.value()) as f32);
        let _ = out.temperature.push(cell.temperature);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEP: i64 = 64_000_000_000;

    #[test]
    fn cells_hold_time_weighted_means() {
        let mut window: Window<FINE, MIDDLE> = Window::new(Span::from_nanos(STEP));
        window.extend(Timestamp::from_nanos(0), Rate::ZERO, None);
        window.extend(Timestamp::from_nanos(STEP / 4), Rate::from_ppm(4.0), Some(20.0));
        assert_eq!(window.closed(), 0);
        window.extend(Timestamp::from_nanos(STEP), Rate::from_ppm(8.0), Some(24.0));
        assert_eq!(window.closed(), 1);
        let history = window.history(Rate::from_ppm(1.0));
        assert!((f64::from(history.fine.rate[FINE - 1]) - 6e-6).abs() < 1e-11);
        assert!((history.fine.temperature[FINE - 1] - 23.0).abs() < 1e-4);
        assert!(history.fine.rate[FINE - 2].is_nan());
    }

    #[test]
    fn coarser_cells_close_on_their_own_grid() {
        let mut window: Window<FINE, MIDDLE> = Window::new(Span::from_nanos(STEP));
        for i in 0..=32 {
            window.extend(Timestamp::from_nanos(i * STEP), Rate::from_ppm(1.0), None);
        }
        let history = window.history(Rate::ZERO);
        assert_eq!(history.coarse.rate.iter().filter(|r| r.is_finite()).count(), 2);
        assert_eq!(history.middle.rate.iter().filter(|r| r.is_finite()).count(), 8);
    }

    #[test]
    fn time_has_an_end_and_a_step_is_some_time() {
        let mut window: Window<FINE, MIDDLE> = Window::new(Span::from_nanos(STEP));
        window.extend(Timestamp::from_nanos(i64::MAX - STEP), Rate::ZERO, None);
        window.extend(Timestamp::from_nanos(i64::MAX), Rate::ZERO, None);
        assert_eq!(window.closed(), 1);
        for step in [0, -1, i64::MIN] {
            let mut window: Window<FINE, MIDDLE> = Window::new(Span::from_nanos(step));
            window.extend(Timestamp::from_nanos(0), Rate::ZERO, None);
            window.extend(Timestamp::from_nanos(0), Rate::ZERO, None);
            window.extend(Timestamp::from_nanos(100), Rate::ZERO, None);
            assert!(window.closed() > 0);
        }
    }

    #[test]
    fn a_silence_leaves_missing_cells_and_a_very_long_one_empties_the_window() {
        let mut window: Window<FINE, MIDDLE> = Window::new(Span::from_nanos(STEP));
        for i in 0..10 {
            window.extend(Timestamp::from_nanos(i * STEP), Rate::ZERO, None);
        }
        window.extend(Timestamp::from_nanos(40 * STEP), Rate::ZERO, None);
        assert_eq!(window.measured(), 9);
        assert_eq!(window.closed(), 40);
        window.extend(Timestamp::from_nanos(i64::MAX), Rate::ZERO, None);
        assert_eq!(window.measured(), 0);
    }
}
