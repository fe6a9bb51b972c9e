//! What a run leaves behind: errors by horizon, and what was violated.

use crate::laws::Violation;
use crate::scenario::Scenario;

/// Horizons at which frozen predictions are judged, in s.
pub const HORIZONS: [f64; 6] = [0.0, 64.0, 256.0, 1024.0, 4096.0, 14_400.0];

/// What was seen at one horizon.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tally {
    /// Predictions judged.
    pub count: u32,
    /// Sum of squared errors, s^2.
    pub squares: f64,
    /// Inside the 95 % interval.
    pub inside: u32,
    /// Sum of the interval's full widths, s.
    pub width: f64,
    /// Sum of squared errors of every expert, for the best of them; s^2.
    pub experts: [f64; EXPERTS],
    /// The largest error, s, and when it was judged, in s after the start.
    pub largest: (f64, f64),
}

impl Tally {
    pub(crate) const EMPTY: Self =
        Self { count: 0, squares: 0.0, inside: 0, width: 0.0, experts: [0.0; EXPERTS], largest: (0.0, 0.0) };

    /// The expert with the least error and its sum of squares; `None` where too few forecasts were judged.
    pub fn best(&self) -> Option<(usize, f64)> {
        let best = self.experts.iter().enumerate().min_by(|a, b| a.1.total_cmp(b.1))?;
        (self.count >= 4 && self.squares > 0.0).then(|| (best.0, best.1.max(1e-30)))
    }
}

/// Experts compared.
pub const EXPERTS: usize = 34;

/// How a run went.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// The run.
    pub scenario: Scenario,
    /// By [`HORIZONS`].
    pub tallies: [Tally; HORIZONS.len()],
    /// The first few.
    pub violations: Vec<Violation>,
    /// All.
    pub violated: u32,
    /// Exchanges delivered.
    pub samples: u64,
    /// Conflicts with the bound that the core reported.
    pub conflicts: u32,
    /// The largest error with fresh measurements, as a share of what its exchanges allow.
    pub strain: f64,
    /// A digest of everything that was served: two runs of one seed agree in it.
    pub digest: u64,
}
