//! What one exchange says of the offset, as a likelihood, and what a Gaussian belief makes of it.
//!
//! **Model.** At waiting times `a` out and `b` back the measured offset is off by `(a - b) / 2` while the delay exceeds its
//! minimum by `a + b`, so that the truth lies within half the excess of what was measured *whatever the waiting times were
//! like*; where these are exponential it lies anywhere there with the same probability. The likelihood is therefore a box, its
//! edges blurred by what is not known of the minimum. Many wide boxes overlap in a narrow place: after `n` exchanges the error
//! falls as `1 / n`, against `1 / sqrt(n)` for a Gaussian of the same variance.
//!
//! **Update.** The belief stays Gaussian, with the mean and the variance that the exact posterior of the offset has: assumed
//! density filtering (Maybeck 1982, chapter 12; Minka 2001). With `S` the variance of the belief plus that of the blur, both
//! follow from the mean and the variance of a normal distribution cut off at the edges `[lo, hi]`, in deviations of `S`. They
//! are handed to the filter as the *equivalent Gaussian measurement*, which a linear update turns into just these moments.
//!
//! **Robustness.** A belief further than four deviations outside the box has its deviations widened until it is at four, so that
//! no exchange counts for more than one of exactly four (Huber 1964).

use crate::evidence;

/// The truth is within `half` of `z`, with edges of variance `blur`; s and s^2.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Exchange {
    /// The measured offset, s relative to the bank's reference.
    pub z: f64,
    /// Half the width of the box, s.
    pub half: f64,
    /// Variance of the edges, s^2.
    pub blur: f64,
}

/// A Gaussian measurement: innovation (s) and its variance (s^2), that of the belief included.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Innovation {
    /// Measured minus believed, s.
    pub value: f64,
    /// Its variance, s^2; never less than that of the belief.
    pub variance: f64,
}

/// Where the soft gate begins, in standard deviations.
pub(super) const GATE: f64 = 4.0;
/// A box narrower than this, in deviations, is as good as a Gaussian of its variance.
const NARROW: f32 = 0.2;
/// An exchange that would take less than this share of the variance away says nothing.
const SILENT: f32 = 1e-4;
/// As does one whose nearer edge is so many deviations away: it would take less than a tenth of that.
const DEEP: f32 = -5.0;

impl Exchange {
    /// The variance of what was measured around the truth, s^2.
    pub const fn variance(&self) -> f64 {
        self.half * self.half * (1.0 / 3.0) + self.blur
    }

    /// What a belief of mean `x` and variance `var_x` makes of it; `None`: nothing.
    #[allow(clippy::cast_possible_truncation, reason = "moments relative to one deviation, to one part in a million")]
    pub fn seen_from(&self, x: f64, var_x: f64) -> Option<Innovation> {
        let innovation = self.z - x;
        let away = innovation.abs();
        let (sum, outside) = (var_x + self.blur, away - self.half);
        let gated = outside * outside * (1.0 / (GATE * GATE));
        let s = if outside > 0.0 && gated > sum { gated } else { sum };
        let deviation = libm::sqrtf(s as f32);
        let scale = 1.0 / deviation;
        let (lo, hi) = (outside as f32 * scale, (away + self.half) as f32 * scale);
        if hi - lo < NARROW {
            return Some(Innovation { value: innovation, variance: s + self.half * self.half * (1.0 / 3.0) });
        }
        if lo < DEEP {
            return None;
        }
        let (mean, curvature) = cut_off(lo, hi);
        if curvature < SILENT {
            return None;
        }
        let value = f64::from(mean * deviation / curvature);
        let variance = s / f64::from(curvature);
        Some(Innovation { value: if innovation < 0.0 { -value } else { value }, variance })
    }
}

/// Mean of the standard normal distribution cut off below `lo` and above `hi > |lo|`, and how much its variance is less than one.
fn cut_off(lo: f32, hi: f32) -> (f32, f32) {
    // Everything in units of the density at the nearer edge; the further one's share of it:
    let far = evidence::exp(0.5 * (lo * lo - hi * hi));
    let tail = far * evidence::mills(hi);
    let mass = if lo >= 0.0 {
        evidence::mills(lo) - tail
    } else {
        const TWO_PI: f32 = 2.0 * core::f32::consts::PI;
        libm::sqrtf(TWO_PI) / evidence::exp(-0.5 * lo * lo) - evidence::mills(-lo) - tail
    };
    let scale = 1.0 / mass;
    let mean = (1.0 - far) * scale;
    let curvature = mean * mean - (lo - hi * far) * scale;
    (mean, if curvature < 1.0 { curvature } else { 1.0 })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Moments of the exact posterior of a belief of mean 0, by summation over a fine grid.
    fn posterior(exchange: &Exchange, var_x: f64) -> (f64, f64) {
        let deviation = libm::sqrt(var_x);
        let blur = libm::sqrt(exchange.blur);
        let edge = |x: f64| 0.5 * libm::erfc(x / blur * core::f64::consts::FRAC_1_SQRT_2);
        let (mut mass, mut first, mut second) = (0.0, 0.0, 0.0);
        for i in -4000..=4000 {
            let x = f64::from(i) / 500.0 * deviation;
            let away = (exchange.z - x).abs();
            let likelihood = edge(away - exchange.half) - edge(away + exchange.half);
            let weight = libm::exp(-0.5 * x * x / var_x) * likelihood;
            mass += weight;
            first += weight * x;
            second += weight * x * x;
        }
        (first / mass, second / mass - (first / mass) * (first / mass))
    }

    #[test]
    fn the_moments_are_those_of_the_exact_posterior() {
        for half in [0.3, 1.0, 3.0, 10.0] {
            for blur in [0.01, 0.25, 4.0] {
                for z in [-6.0, -2.5, -0.4, 0.0, 1.0, 3.0, 11.0] {
                    let exchange = Exchange { z: z * 1e-6, half: half * 1e-6, blur: blur * 1e-12 };
                    let var_x = 1e-12;
                    let beyond = (z.abs() - half).max(0.0) / libm::sqrt(1.0 + blur);
                    if beyond > GATE {
                        continue;
                    }
                    let (mean, variance) = posterior(&exchange, var_x);
                    let (gained_mean, gained_variance) = match exchange.seen_from(0.0, var_x) {
                        Some(seen) => (var_x / seen.variance * seen.value, var_x - var_x * var_x / seen.variance),
                        None => (0.0, var_x),
                    };
                    // Single precision inside, and the box that is taken for a Gaussian is only nearly one.
                    assert!((gained_mean - mean).abs() < 2e-4 * 1e-6, "{z} {half} {blur}: {gained_mean} for {mean}");
                    let off = (gained_variance / variance - 1.0).abs();
                    assert!(off < 1e-3, "{z} {half} {blur}: {gained_variance} for {variance}");
                }
            }
        }
    }

    #[test]
    fn an_exchange_beyond_the_gate_counts_as_one_at_the_gate() {
        let exchange = Exchange { z: 1.0, half: 0.0, blur: 1e-12 };
        let seen = exchange.seen_from(0.0, 1e-12).expect("it is far away");
        assert!((seen.value * seen.value / seen.variance - GATE * GATE).abs() < 1e-6);
    }

    #[test]
    fn a_belief_well_inside_a_wide_box_learns_nothing() {
        assert_eq!(Exchange { z: 1e-5, half: 1e-3, blur: 1e-12 }.seen_from(0.0, 1e-10), None);
    }

    #[test]
    fn a_gaussian_is_a_box_without_width() {
        let seen = Exchange { z: 3e-6, half: 0.0, blur: 4e-12 }.seen_from(1e-6, 5e-12).expect("precise");
        assert!((seen.value - 2e-6).abs() < 1e-15 && (seen.variance - 9e-12).abs() < 1e-20);
    }

    #[test]
    fn many_boxes_overlap_in_a_narrow_place() {
        // Waiting times of the golden ratio's multiples, spread exponentially with a mean of one.
        let wait = |i: u32, by: f64| -libm::log(1.0 - (f64::from(i) * by).fract());
        let (mut x, mut variance) = (0.0, 100.0);
        for i in 1..=400 {
            let (out, back) = (wait(i, 0.618_033_988_75), wait(i, 0.414_213_562_37));
            let exchange = Exchange { z: 0.5 * (out - back), half: 0.5 * (out + back), blur: 1e-6 };
            if let Some(seen) = exchange.seen_from(x, variance) {
                x += variance / seen.variance * seen.value;
                variance -= variance * variance / seen.variance;
            }
        }
        // A Gaussian of the boxes' variances would be left with more than 0.02.
        assert!(libm::sqrt(variance) < 0.008 && x.abs() < 0.02, "{x} +- {}", libm::sqrt(variance));
    }
}
