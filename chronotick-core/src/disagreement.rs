//! What several sources tell of the asymmetries of their paths: how far the estimate may be off by what no single source shows.
//!
//! **Model.** The ways to a source and back differ by a constant part of the delay, `a` of it, which puts every exchange off by
//! `b = a d / 2`. The parts of different sources are independent and of one unknown variance. The estimate goes with source `i` by a share
//! `w` of the information, so that it is off by the sum of all `w b`, of variance `s D` with `D` the sum of all `(w d)^2`; what source `i`
//! seems to be off by is its `b` less that, of variance `s ((1 - 2 w) d^2 + D)`. Hence `s` from the squares that are seen, and the
//! variance of the estimate from `s`. That delays measure it is an observation about paths (Paxson, IEEE/ACM ToN 7(3), 1999; Novick and
//! Lombardi, PTTI 2015).
//!
//! **Few sources.** A variance from two or four squares is itself hardly known: the deviation grows as Student's quantile does.
//!
//! **Weaknesses.** One source shows nothing, and what all have in common (one bottleneck at home) nobody does: the hard bound has
//! it. Sources that share a path in part are not independent.

use crate::decay::forgotten;

/// Time over which it is forgotten, s.
const MEMORY: f32 = 14_400.0;
/// A share of the information below this is none.
const LEAST: f32 = 1e-6;
/// An exchange is off by noise up to so many deviations.
const NOISE: f32 = 4.0;
/// With `n` sources the deviation is larger by this part, divided by `n - 1`: somewhat more than Student's 97.5 % quantile is from three on,
/// since their shares are not known exactly either, and less for two, where it would be six times what is seen.
const FEW: f32 = 2.2;

/// The exchanges of `S` sources, weighted by their precision.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Disagreement<const S: usize> {
    sources: [Seen; S],
}

/// Sums over the exchanges of one source.
#[derive(Clone, Copy, Debug)]
struct Seen {
    /// Precisions, s^-2.
    weight: f32,
    /// Times the distance from the estimate, and the delay.
    away: f32,
    delay: f32,
}

impl Seen {
    const NOTHING: Self = Self { weight: 0.0, away: 0.0, delay: 0.0 };
}

impl<const S: usize> Disagreement<S> {
    /// Nobody has been heard.
    pub(crate) const NONE: Self = Self { sources: [Seen::NOTHING; S] };

    /// An exchange of `source` was `away` s from what was expected, with `variance` (s^2) and `delay` (s), `elapsed` s after the one before of
    /// any source.
    pub(crate) fn learn(&mut self, source: usize, away: f32, variance: f32, delay: f32, elapsed: f32) {
        let (precision, keep) = (1.0 / variance, 1.0 - forgotten(elapsed, MEMORY));
        if !(precision * away * away).is_finite() || !(precision * delay).is_finite() {
            return;
        }
        // What is further off than a path can be is the server's doing, and its root distance has told of it.
        let most = 0.5 * delay + NOISE * libm::sqrtf(variance);
        let away = if away.abs() > most { most.copysign(away) } else { away };
        for (i, seen) in self.sources.iter_mut().enumerate() {
            let new = if i == source { precision } else { 0.0 };
            seen.weight = seen.weight * keep + new;
            seen.away = seen.away * keep + new * away;
            seen.delay = seen.delay * keep + new * delay;
        }
    }

    /// `source` is another one from now on.
    pub(crate) fn forget(&mut self, source: usize) {
        if let Some(seen) = self.sources.get_mut(source) {
            *seen = Seen::NOTHING;
        }
    }

    /// Half-width of the 95 % interval of what the estimate is off by for the asymmetries of its sources, s: none with less than two.
    pub(crate) fn half_width(&self) -> f64 {
        const NORMAL: f64 = 1.96;
        NORMAL * libm::sqrt(f64::from(self.variance()))
    }

    /// The variance of that, s^2.
    fn variance(&self) -> f32 {
        let total: f32 = self.sources.iter().map(|seen| seen.weight).sum();
        let heard = || self.sources.iter().filter(|seen| seen.weight > LEAST * total);
        let count = heard().count();
        if count < 2 {
            return 0.0;
        }
        // All that errs alike is the clock's, not a path's.
        let common = self.sources.iter().map(|seen| seen.away).sum::<f32>() / total;
        let (mut squares, mut own, mut apart) = (0.0, 0.0, 0.0);
        for seen in heard() {
            let (w, away, delay) = (seen.weight / total, seen.away / seen.weight - common, seen.delay / seen.weight);
            squares += w * away * away;
            own += w * delay * (w * delay);
            apart += w * (1.0 - 2.0 * w) * delay * delay;
        }
        // The means themselves are known only so well.
        squares = (squares - count as f32 / total).max(0.0);
        let few = 1.0 + FEW / (count - 1) as f32;
        let variance = few * few * squares * own / (apart + own);
        // Beside a source that has nearly all of the information, rounding may leave nothing, or less, to divide by.
        if variance > 0.0 && variance.is_finite() { variance } else { 0.0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Deviation after an hour of exchanges, one a minute of each of `sources`: how far off they are, their variance and their delay.
    fn deviation<const S: usize>(sources: [(f32, f32, f32); S]) -> f32 {
        let mut disagreement = Disagreement::<S>::NONE;
        for _ in 0..60 {
            for (i, (away, variance, delay)) in sources.into_iter().enumerate() {
                disagreement.learn(i, away, variance, delay, 60.0 / S as f32);
            }
        }
        libm::sqrtf(disagreement.variance())
    }

    #[test]
    fn one_source_shows_nothing_and_none_does() {
        assert_eq!(deviation([(1e-3, 1e-10, 1e-2)]), 0.0);
        assert_eq!(deviation::<0>([]), 0.0);
    }

    #[test]
    fn sources_that_agree_leave_the_interval_alone() {
        assert_eq!(deviation([(2e-6, 1e-10, 1e-2), (2e-6, 1e-10, 2e-2), (2e-6, 1e-10, 1e-2)]), 0.0);
    }

    #[test]
    fn four_equal_ones_leave_half_of_what_they_are_off_by() {
        let off = 2e-4;
        let four = deviation([(off, 1e-10, 1e-2), (-off, 1e-10, 1e-2), (off, 1e-10, 1e-2), (-off, 1e-10, 1e-2)]);
        // Deviation of one: off sqrt(4 / 3); of the mean of four, half of that; and what four squares leave unknown.
        let expected = off * libm::sqrtf(4.0 / 3.0) / 2.0 * (1.0 + FEW / 3.0);
        assert!((four / expected - 1.0).abs() < 0.01, "{four} {expected}");
    }

    #[test]
    fn a_far_source_that_is_off_says_little_against_a_near_one() {
        // Two per cent of 40 ms away, beside 0.2 ms that are known a thousand times better.
        let beside = deviation([(0.0, 1e-12, 2e-4), (8e-4, 1e-9, 4e-2)]);
        assert!(beside > 1e-6 && beside < 2e-5, "{beside}");
    }

    #[test]
    fn a_source_with_nearly_all_of_the_information_leaves_a_number() {
        for share in [1e-3, 1e-5, 2e-6, 1e-6, 1e-9] {
            for delay in [1e-6, 2e-4, 4e-2] {
                let beside = deviation([(0.0, 1e-12, 2e-4), (1e-4, 1e-12 / share, delay)]);
                assert!((0.0..1e-2).contains(&beside), "{share} {delay}: {beside}");
            }
        }
    }

    #[test]
    fn no_path_is_off_by_more_than_half_of_it() {
        // Once in an hour one server errs by 300 ms, and has said that it may.
        let mut disagreement = Disagreement::<2>::NONE;
        for i in 0..120_u8 {
            let away = if i == 60 { 0.3 } else { 0.0 };
            disagreement.learn(usize::from(i % 2), away, 1e-10, 2e-4, 30.0);
        }
        let deviation = libm::sqrtf(disagreement.variance());
        assert!(deviation < 1e-5, "{deviation}");
    }

    #[test]
    fn what_is_not_a_number_is_not_taken_in() {
        let mut disagreement = Disagreement::<2>::NONE;
        for bad in [f32::NAN, f32::INFINITY, 1e30] {
            disagreement.learn(0, bad, 1e-12, 1e-2, 1.0);
            disagreement.learn(1, 1e-3, 0.0, bad, 1.0);
            assert_eq!(disagreement.variance(), 0.0);
        }
    }
}
