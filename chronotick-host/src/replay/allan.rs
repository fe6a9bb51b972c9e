//! How stable the oscillator is, by averaging time: the overlapping Allan deviation.
//!
//! **Model.** For phase samples `x_i` (s) every `tau0` seconds, with `tau = m tau0`,
//! `sigma_y^2(tau) = sum (x_{i+2m} - 2 x_{i+m} + x_i)^2 / (2 tau^2 n)` over all `n` triples: Allan, "Statistics of atomic frequency
//! standards", Proc. IEEE 54 (1966), in the overlapping form of Howe, Allan and Barnes (1981). Constant offset and rate drop
//! out; a constant drift of the rate `D` (1/s) gives `D tau / sqrt(2)`.
//!
//! **Assumptions.** An even grid. Exchanges are not even, so the phase is interpolated linearly between neighbours; where
//! they are further apart than `GAP` grid steps there is no phase, and triples that would need it are left out.
//!
//! **Weaknesses.** The noise of the network is part of what is measured: it falls with `1/tau` and covers the oscillator below
//! the averaging time where the curve turns. Interpolation lowers the first points somewhat.

use chronotick_core::stability::StabilityPoint;
use serde::{Deserialize, Serialize};

/// Neighbours further apart than this many grid steps have no phase between them.
const GAP: f64 = 4.0;
/// Grid points at most; longer recordings get a coarser grid.
const MOST: f64 = 1e6;
/// Fewer triples than this make no point.
const FEWEST: u32 = 8;

/// The deviation at one averaging time.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct AllanPoint {
    /// Averaging time, in s.
    pub tau_s: f64,
    /// Overlapping Allan deviation of the relative frequency (s/s).
    pub deviation: f64,
    /// Triples behind it; neighbouring ones overlap.
    pub triples: u32,
}

impl From<StabilityPoint> for AllanPoint {
    fn from(point: StabilityPoint) -> Self {
        Self { tau_s: point.tau.as_secs_f64(), deviation: point.deviation, triples: point.triples }
    }
}

/// The overlapping Allan deviation at octave-spaced averaging times of `points` (instant and phase, both in s; instants
/// ascend).
pub fn of_points(points: &[(f64, f64)]) -> Vec<AllanPoint> {
    match grid(points) {
        Some((tau0, phase)) => overlapping(&phase, tau0),
        None => Vec::new(),
    }
}

/// The same of evenly spaced phases (s), NaN where there is none, `tau0` s apart.
pub fn overlapping(phase: &[f64], tau0: f64) -> Vec<AllanPoint> {
    let mut found = Vec::new();
    let mut m = 1;
    while 2 * m < phase.len() {
        let (mut sum, mut triples) = (0.0, 0);
        for i in 0..phase.len() - 2 * m {
            let second = phase[i + 2 * m] - 2.0 * phase[i + m] + phase[i];
            if second.is_finite() {
                sum += second * second;
                triples += 1;
            }
        }
        if triples < FEWEST {
            break;
        }
        let tau_s = m as f64 * tau0;
        let deviation = (sum / (2.0 * f64::from(triples))).sqrt() / tau_s;
        found.push(AllanPoint { tau_s, deviation, triples });
        m *= 2;
    }
    found
}

/// Phase on an even grid whose step is the usual distance between points.
fn grid(points: &[(f64, f64)]) -> Option<(f64, Vec<f64>)> {
    let (first, last) = (points.first()?.0, points.last()?.0);
    let mut steps: Vec<f64> = points.windows(2).map(|pair| pair[1].0 - pair[0].0).filter(|step| *step > 0.0).collect();
    steps.sort_by(f64::total_cmp);
    let tau0 = steps.get(steps.len() / 2)?.max((last - first) / MOST);
    let mut phase = Vec::new();
    let mut next = 1;
    let mut at = first;
    while at <= last && next < points.len() {
        while next + 1 < points.len() && points[next].0 < at {
            next += 1;
        }
        let (before, after) = (points[next - 1], points[next]);
        let apart = after.0 - before.0;
        let here = before.1 + (after.1 - before.1) * (at - before.0) / apart;
        phase.push(if apart > 0.0 && apart <= GAP * tau0 { here } else { f64::NAN });
        at = first + tau0 * phase.len() as f64;
    }
    Some((tau0, phase))
}

#[cfg(test)]
mod tests {
    use rand::RngExt;

    use super::*;
    use crate::sim::stream;

    #[test]
    fn a_drifting_rate_is_known_exactly() {
        let drift = 1e-12;
        let phase: Vec<f64> =
            (0..1000).map(|i| 3.0 + 4e-6 * f64::from(i) + 0.5 * drift * f64::from(i).powi(2)).collect();
        for point in overlapping(&phase, 1.0) {
            let expected = drift * point.tau_s / 2f64.sqrt();
            assert!((point.deviation / expected - 1.0).abs() < 1e-2, "{point:?} {expected}");
        }
    }

    /// White phase noise of deviation s: sqrt(3) s / tau. White frequency noise: tau^-1/2.
    #[test]
    fn slopes_of_the_textbook() {
        let seed = 7;
        let mut random = stream(seed, "allan");
        let mut white = || (0..12).map(|_| random.random::<f64>()).sum::<f64>() - 6.0;
        let phase: Vec<f64> = (0..20_000).map(|_| 1e-6 * white()).collect();
        for point in overlapping(&phase, 2.0).iter().take(8) {
            let expected = 3f64.sqrt() * 1e-6 / point.tau_s;
            assert!((point.deviation / expected - 1.0).abs() < 0.1, "seed {seed}: {point:?} {expected}");
        }
        let mut at = 0.0;
        let walk: Vec<f64> = (0..20_000)
            .map(|_| {
                at += 1e-9 * white();
                at
            })
            .collect();
        for point in overlapping(&walk, 1.0).iter().take(8) {
            let expected = 1e-9 / point.tau_s.sqrt();
            assert!((point.deviation / expected - 1.0).abs() < 0.15, "seed {seed}: {point:?} {expected}");
        }
    }

    #[test]
    fn uneven_points_and_gaps() {
        let drift = 1e-10;
        let points: Vec<(f64, f64)> = (0..4000)
            .filter(|i| !(1000..2000).contains(i))
            .map(|i| f64::from(i) * 16.0 + f64::from(i % 3))
            .map(|t| (t, 0.5 * drift * t * t))
            .collect();
        let found = of_points(&points);
        assert!(found.len() >= 8, "{found:?}");
        // Interpolation blurs the first octaves only.
        for point in &found[3..] {
            let expected = drift * point.tau_s / 2f64.sqrt();
            assert!((point.deviation / expected - 1.0).abs() < 0.05, "{point:?} {expected}");
        }
        assert_eq!(of_points(&[]), []);
        assert_eq!(of_points(&[(1.0, 2.0)]), []);
    }
}
