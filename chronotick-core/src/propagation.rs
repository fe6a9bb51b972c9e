//! The path's own delay: what is left of a round trip when nothing has to wait.
//!
//! **Model.** A packet waits `a` on the way out and `b` on the way back, both exponential of mean `w`, on a path that takes `p` both
//! ways together. The exchange measures the delay `d = p + a + b` and an offset `z` that is off by `(a - b) / 2`. Of the true offset
//! `x` and `p` its likelihood is `exp(p / w)` where `p <= d - 2 |z - x|`, and nothing elsewhere: every exchange speaks for a longer
//! path, and caps it.
//!
//! The cap is `p` and twice the shorter of the two waits. The least of `n` delays is above `p` by about `w sqrt(2 / n)`, the least of
//! `n` caps by `w / n`: a clock that is known tells the path's own delay far better than the delays do.
//!
//! **Belief.** Normal, with the moments of the exact posterior after each exchange (assumed density filtering, Maybeck 1982, chapter
//! 12). What is believed of `x` makes the cap blunt.
//!
//! **Corrections to it.** The error of the believed offset lasts from one exchange to the next, so that caps in a row are not
//! independent: each is taken to be blunter, and to speak for a longer path less, than it would alone. No belief leaves what the
//! delays allow: waiting times need not be exponential, a clock may step, and paths change.
//!
//! **Weaknesses.** Where packets hardly ever go through without waiting, the delays know no more of `p` than their least, and
//! neither does this.

use crate::evidence;

/// Part of what an exchange says for a longer path that is believed.
const PULL: f32 = 0.8;
/// Caps in a row have the error of the believed offset in common: that part of their variance counts so many times.
const SHARED: f32 = 4.0;
/// Random walk of the path's own delay from one exchange to the next, in mean waits.
const WALK: f32 = 0.002;
/// Median of two waits in a row, in mean waits.
const MEDIAN: f32 = 1.678;
/// A cap so many deviations above the belief says nothing, and one as many below speaks for a disturbance as well.
const FAR: f32 = 5.0;
const GATE: f32 = 4.0;

/// What is believed of the path's own delay, and of the waiting.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Propagation {
    /// Mean, s, and variance, s^2.
    pub(crate) delay: f32,
    pub(crate) variance: f32,
    /// Mean wait one way, s.
    pub(crate) wait: f32,
    /// The newest delay, s.
    newest: f32,
}

/// What is known from delays alone: the path's own is below `least` by no more than `gap`, and half of all are below `median`; s.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Delays {
    pub(crate) least: f32,
    pub(crate) gap: f32,
    pub(crate) median: f32,
}

impl Propagation {
    /// Nothing has been seen.
    pub(crate) const UNKNOWN: Self = Self { delay: 0.0, variance: f32::INFINITY, wait: 0.0, newest: 0.0 };

    /// Takes in the `delay` of an exchange, s.
    pub(crate) fn observe(&mut self, delay: f32, delays: &Delays) {
        self.newest = delay;
        self.confine(delays);
        self.wait = ((delays.median - self.delay) / MEDIAN).max(1e-9);
        let walk = WALK * self.wait;
        self.variance += walk * walk;
        self.delay += PULL * (self.variance / self.wait).min(libm::sqrtf(self.variance));
        self.confine(delays);
    }

    /// The newest exchange was off by `innovation` s from what was believed with variance `predicted`, s^2.
    pub(crate) fn learn(&mut self, innovation: f32, predicted: f32, delays: &Delays) {
        let cap = self.newest - 2.0 * innovation.abs();
        let sum = self.variance + SHARED * 4.0 * predicted;
        let deviation = libm::sqrtf(sum);
        let room = (cap - self.delay) / deviation;
        if room < FAR {
            let room = room.max(-GATE);
            let pushed = hazard(room);
            let share = self.variance / sum;
            self.delay -= share * deviation * pushed;
            self.variance *= (1.0 - share * pushed * (pushed + room)).max(0.0);
        }
        self.confine(delays);
    }

    /// The path is another one.
    pub(crate) fn forget(&mut self) {
        self.variance = f32::INFINITY;
    }

    /// Keeps the belief within what the delays allow.
    fn confine(&mut self, &Delays { least, gap, .. }: &Delays) {
        self.delay = self.delay.max(least - gap).min(least);
        self.variance = self.variance.min(gap * gap) + 1e-18;
    }
}

/// Density of the standard normal distribution at `x` over its probability below, for `x` of at least -5.
fn hazard(x: f32) -> f32 {
    if x < 0.0 {
        return 1.0 / evidence::mills(-x);
    }
    const DENSITY: f32 = 0.398_942_3;
    let density = DENSITY * evidence::exp(-0.5 * x * x);
    density / (1.0 - density * evidence::mills(x))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATH: f32 = 1e-3;
    const WAIT: f32 = 1e-4;

    /// `count` exchanges over a path of delay [`PATH`], the clock being known to `deviation` s: the belief, and the least delay.
    fn after(count: u32, deviation: f32) -> (Propagation, f32) {
        let (mut belief, mut delays) = (Propagation::UNKNOWN, heapless::Vec::<f32, 1000>::new());
        for i in 0..count {
            // Fractional parts of multiples of two irrational numbers are spread evenly, and over each other.
            let even = [0.618_034, 0.754_877_7].map(|step: f32| ((i + 1) as f32 * step).fract());
            let [out, back] = even.map(|even| -WAIT * libm::logf(1.0 - even));
            delays.push(PATH + out + back).unwrap();
            delays.sort_unstable_by(f32::total_cmp);
            let (least, gap) = (delays[0], delays[delays.len().min(4) - 1] - delays[0]);
            let known = Delays { least, gap, median: delays[delays.len() / 2] };
            belief.observe(PATH + out + back, &known);
            let believed = if i % 2 == 0 { deviation } else { -deviation };
            belief.learn(0.5 * (out - back) + believed, deviation * deviation, &known);
            assert!(belief.delay <= least && belief.delay >= least - gap);
        }
        (belief, delays[0])
    }

    #[test]
    fn a_clock_that_is_known_tells_more_of_the_path_than_the_least_delay() {
        for count in [300, 1000] {
            let (belief, least) = after(count, 1e-7);
            let (error, above) = ((belief.delay - PATH).abs(), least - PATH);
            assert!(error < 0.5 * above, "{count}: {error} of {above}");
            assert!(error < 4.0 * libm::sqrtf(belief.variance), "{count}: {error} of {}", belief.variance);
        }
    }

    #[test]
    fn a_clock_that_is_not_known_tells_nothing() {
        let (belief, least) = after(100, 1e-2);
        assert!(belief.delay > least - 0.1 * WAIT, "{} of {least}", belief.delay);
    }

    #[test]
    fn another_path_is_another_delay() {
        let (mut belief, _) = after(100, 1e-7);
        belief.forget();
        let gap = 0.1 * WAIT;
        belief.observe(2.5 * PATH, &Delays { least: 2.0 * PATH, gap, median: 2.0 * PATH + MEDIAN * WAIT });
        assert!(belief.delay >= 2.0 * PATH - gap && belief.variance > 0.5 * gap * gap, "{belief:?}");
        assert!((belief.wait / WAIT - 1.0).abs() < 0.2, "{}", belief.wait);
    }

    #[test]
    fn the_hazard_is_that_of_the_normal_distribution() {
        for i in -50..=50_i8 {
            let x = f32::from(i) / 10.0;
            let found = f64::from(hazard(x));
            let x = f64::from(x);
            let density = libm::exp(-0.5 * x * x) / libm::sqrt(2.0 * core::f64::consts::PI);
            let exact = density / (0.5 * libm::erfc(-x * core::f64::consts::FRAC_1_SQRT_2));
            assert!((found - exact).abs() < 1e-5 * exact + 1e-9, "{x}: {found}, not {exact}");
        }
    }
}
