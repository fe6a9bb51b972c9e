//! The 95 % interval: how the claimed deviations of the fused forecast compare with its errors.
//!
//! **Model.** The error that is seen is that of the forecast plus the noise `r` of the measurement that reveals it, so the factor
//! `k^2` on the claimed variance `v` is the weighted mean of `(error^2 - r) / v`, each weighted by `(v / (v + r))^2`, the inverse
//! of its own variance: an exchange far noisier than the claim says nothing. `k` is hardly ever below one: the measurement's
//! noise is itself only estimated, and a claim is not narrowed much on its word.
//!
//! While few errors are known, `k^2` starts from that of the next shorter horizon, which has been tested more often.
//!
//! **Few errors.** A normal quantile is too narrow while only a few independent errors are known, and Student's is used
//! (expanded after Cornish and Fisher 1937). **Many.** The empirical 95 % quantile of the standardised errors takes over, with
//! the rank of split conformal prediction (Vovk 2005; Gibbs and Candes 2021 for drifting distributions).
//!
//! **Weaknesses.** A constant asymmetry of the path is in every measurement alike and cannot be seen; the hard bound has it.

use crate::rank::ranked;

/// Independent errors that the claim itself counts for.
const CLAIM_WEIGHT: f32 = 4.0;
/// A claim is not narrowed below this, nor at all where the next shorter horizon's had to be widened: the noise of the measurements
/// is itself only estimated.
const LEAST: f32 = 0.8;
/// Independent errors at which the empirical quantile counts as much as Student's.
const EMPIRICAL: f32 = 30.0;
/// Errors from which on there is an empirical quantile.
const FEWEST: usize = 40;
/// The 97.5 % quantile of the standard normal distribution.
const NORMAL: f32 = 1.96;

/// How the claimed deviations of the fused forecast compare with its errors; `C` standardised errors are kept, at least one.
#[derive(Clone, Debug)]
pub struct Calibration<const C: usize = 96> {
    sum: f32,
    weight: f32,
    /// Squares of standardised errors, newest last.
    recent: heapless::Deque<f32, C>,
    until_sorted: u8,
    quantile: f32,
}

impl<const C: usize> Default for Calibration<C> {
    fn default() -> Self {
        Self::new()
    }
}

impl<const C: usize> Calibration<C> {
    /// Nothing is known: the claim stands, and not firmly.
    pub const fn new() -> Self {
        Self { sum: 0.0, weight: 0.0, recent: heapless::Deque::new(), until_sorted: 0, quantile: NORMAL }
    }

    /// What the claimed deviation is multiplied by to give the half-width of the 95 % interval, with [`Calibration::k2`].
    pub fn factor(&self, k2: f32) -> f32 {
        let freedom = 1.0 / (self.weight + 2.0);
        let student = NORMAL + 2.37 * freedom + 2.82 * freedom * freedom;
        let trust = self.weight / (self.weight + EMPIRICAL);
        libm::sqrtf(k2) * (student + trust * (self.quantile - NORMAL))
    }

    /// Takes in the `error` (s) of a forecast that had claimed the variance `claimed`, seen through a measurement of variance
    /// `noise` (both s^2). `keep` of the past is remembered, and `overlap` such errors are worth one independent one. For
    /// `inherited` see [`Calibration::k2`].
    pub fn learn(&mut self, error: f32, claimed: f32, noise: f32, keep: f32, overlap: f32, inherited: f32) {
        let total = claimed + noise;
        if !(total > 0.0 && claimed > 0.0) {
            return;
        }
        let (share, square) = (claimed / total, error * error);
        let weight = share * share / overlap;
        let ratio = (square - noise).min(25.0 * total) / claimed;
        self.sum = self.sum * keep + weight * ratio;
        self.weight = self.weight * keep + weight;
        let k2 = self.k2(inherited);
        let standardised = square / (k2 * claimed + noise);
        if self.recent.is_full() {
            self.recent.pop_front();
        }
        let _ = self.recent.push_back(standardised);
        if self.until_sorted == 0 {
            self.until_sorted = 8;
            self.quantile = self.empirical();
        }
        self.until_sorted -= 1;
    }

    /// What the claimed variance is multiplied by to give that of the errors; `inherited` is the same at the next shorter
    /// horizon, which counts as far as nothing is known of this one.
    pub fn k2(&self, inherited: f32) -> f32 {
        let least = if inherited > 1.0 { 1.0 } else { LEAST };
        ((self.sum + CLAIM_WEIGHT * inherited) / (self.weight + CLAIM_WEIGHT)).max(least)
    }

    /// The 95 % quantile of the standardised errors, with the rank of conformal prediction.
    fn empirical(&self) -> f32 {
        let mut scores: heapless::Vec<f32, C> = heapless::Vec::new();
        for &score in &self.recent {
            let _ = scores.push(score);
        }
        // ceil(0.95 (n + 1))
        let rank = (19 * (scores.len() + 1)).div_ceil(20).min(scores.len());
        if scores.len() < FEWEST { NORMAL } else { libm::sqrtf(ranked(&mut scores, rank - 1)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Errors that alternate in sign with a constant magnitude have exactly that deviation.
    fn learnt(error: f32, claimed: f32, noise: f32, times: usize) -> Calibration<96> {
        let mut calibration = Calibration::<96>::new();
        for _ in 0..times {
            calibration.learn(error, claimed * claimed, noise * noise, 1.0, 1.0, 1.0);
        }
        calibration
    }

    fn factor(calibration: &Calibration<96>) -> f32 {
        calibration.factor(calibration.k2(1.0))
    }

    #[test]
    fn an_honest_claim_is_left_alone_and_an_optimistic_one_widened() {
        assert!((factor(&learnt(1e-6, 1e-6, 0.0, 30)) - 1.96).abs() < 0.3);
        let widened = factor(&learnt(3e-6, 1e-6, 0.0, 30));
        assert!(widened > 2.5 * 1.96 && widened < 3.5 * 1.96, "{widened}");
    }

    #[test]
    fn a_noisy_witness_says_nothing() {
        let before = factor(&Calibration::new());
        let after = factor(&learnt(1e-3, 1e-6, 1e-3, 30));
        assert!((after - before).abs() < 0.2, "{before} {after}");
    }

    #[test]
    fn few_errors_widen() {
        assert!(factor(&learnt(1e-6, 1e-6, 0.0, 2)) > factor(&learnt(1e-6, 1e-6, 0.0, 35)));
    }
}
