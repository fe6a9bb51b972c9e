//! How the noise of exchanges compares with what it is taken to be.
//!
//! **Model.** The next exchange misses the forecast of the present by `e`, with `E e^2 = a v + b r`: the forecast had claimed the variance
//! `v`, and the exchange is taken to be of variance `r`. Since `r` differs from exchange to exchange, by as much as the waiting times
//! do, and `v` hardly does, `e^2` against both tells one from the other (least squares, weighted by the inverse of what varies: a normal `e`
//! has a square of variance `2 (v + r)^2`). Both are one before anything is known.
//!
//! Errors of a forecast that are seen later, through more noise than was thought, are not the forecast's. At the present they are hidden,
//! which is why its own exchanges can tell.
//!
//! **Weaknesses.** A forecast of the present is about the time up to the next exchange, and wanders that much more than it claims;
//! therefore a ratio of nearly one is one.

/// What is known at first counts as much as so many exchanges.
const PRIOR: f32 = 20.0;
/// As a ratio, nearly one.
const TOLERANCE: f32 = 1.15;
/// The ratio is between one and the other.
const LIMITS: (f32, f32) = (0.5, 10.0);
/// Squares count up to so many times what is expected.
const CAP: f32 = 25.0;

/// What the exchanges have told.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Noise {
    /// Sums of the products of the forecast's part of what is expected, the exchange's, and of what was seen.
    own_own: f32,
    own_other: f32,
    other_other: f32,
    own_seen: f32,
    other_seen: f32,
}

impl Noise {
    /// An exchange of variance `noise`, s^2, missed the forecast of the present, which had claimed the variance `claimed`, s^2, by `error`
    /// s. The past keeps a part of `keep`.
    pub(super) fn learn(&mut self, error: f32, claimed: f32, noise: f32, keep: f32) {
        let expected = 1.0 / (claimed + noise);
        let (own, other, square) = (claimed * expected, noise * expected, error * error * expected);
        // They are one together, or not numbers.
        let known = own + other > 0.5;
        if !known {
            return;
        }
        let seen = if square < CAP { square } else { CAP };
        self.own_own = self.own_own * keep + own * own;
        self.own_other = self.own_other * keep + own * other;
        self.other_other = self.other_other * keep + other * other;
        self.own_seen = self.own_seen * keep + own * seen;
        self.other_seen = self.other_seen * keep + other * seen;
    }

    /// By how much the variances of exchanges are to be multiplied.
    pub(super) fn ratio(&self) -> f32 {
        let (own, other) = (self.own_own + PRIOR, self.other_other + PRIOR);
        let ratio = (own * (self.other_seen + PRIOR) - self.own_other * (self.own_seen + PRIOR))
            / (own * other - self.own_other * self.own_other);
        let beyond = if ratio > 1.0 { (ratio / TOLERANCE).max(1.0) } else { (ratio * TOLERANCE).min(1.0) };
        beyond.clamp(LIMITS.0, LIMITS.1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The ratio after `count` exchanges whose variance goes up and down between one and nine times the claim, the errors being what
    /// is expected of `own` times the claim and `other` times the noise.
    fn after(count: u16, own: f32, other: f32) -> f32 {
        let mut noise = Noise::default();
        for i in 0..count {
            let (claimed, variance) = (1e-12, 1e-12 * f32::from(1 + i % 9));
            noise.learn(libm::sqrtf(own * claimed + other * variance), claimed, variance, 1.0);
        }
        noise.ratio()
    }

    #[test]
    fn noise_is_told_from_errors_of_the_forecast() {
        assert_eq!(after(0, 1.0, 1.0), 1.0);
        assert_eq!(after(900, 1.0, 1.0), 1.0);
        let noisier = after(900, 1.0, 3.0);
        assert!((noisier * TOLERANCE / 3.0 - 1.0).abs() < 0.1, "{noisier}");
        let quieter = after(900, 1.0, 0.7);
        assert!((quieter / TOLERANCE / 0.7 - 1.0).abs() < 0.1, "{quieter}");
        let misled = after(900, 4.0, 1.0);
        assert!((0.8..1.25).contains(&misled), "{misled}");
    }

    #[test]
    fn a_few_exchanges_tell_little() {
        assert!(after(3, 1.0, 5.0) < 1.5);
    }

    #[test]
    fn what_is_not_a_number_is_forgotten() {
        let mut noise = Noise::default();
        for broken in [f32::NAN, f32::INFINITY, f32::MAX, 0.0] {
            for (error, claimed, variance) in
                [(broken, 1e-12, 1e-12), (1e-6, broken, 1e-12), (1e-6, 1e-12, broken), (broken, broken, broken)]
            {
                noise.learn(error, claimed, variance, 1.0);
                assert!((LIMITS.0..=LIMITS.1).contains(&noise.ratio()), "{noise:?}");
            }
        }
        for i in 0_u16..900 {
            let (claimed, variance) = (1e-12, 1e-12 * f32::from(1 + i % 9));
            noise.learn(libm::sqrtf(claimed + 3.0 * variance), claimed, variance, 0.99);
        }
        assert!(noise.ratio() > 1.5, "{noise:?}");
    }
}
