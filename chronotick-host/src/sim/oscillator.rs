//! A free-running oscillator: power-law frequency noise, ageing, temperature and sudden steps of rate.
//!
//! State: offset x (reference - local, s) and its slope y (s/s) over local time. With N_k independent standard normals,
//! over a step of d seconds:
//!
//! * white FM: x += s1 sqrt(d) N, where s1 is the Allan deviation at 1 s (it falls as tau^-1/2);
//! * random-walk FM: y += w sqrt(d) N, w the wander in (s/s)/sqrt(s); Allan variance w^2 tau / 3;
//! * flicker FM: a sum of Ornstein-Uhlenbeck processes whose time constants are spaced evenly in the logarithm, by the
//!   ratio r. Each of variance h ln r gives the one-sided spectrum h / f between the ends, and a flat Allan deviation of
//!   sqrt(2 ln 2 h);
//! * ageing: y changes linearly; steps: at Poisson instants y jumps by a normal amount;
//! * temperature: y follows a cubic polynomial of the crystal's temperature.
//!
//! White PM is the jitter of one counter reading and enters where the counter is read, in the exchange.
//!
//! Sources: IEEE Std 1139 and NIST SP 1065 (Riley, 2008) for the power laws and their Allan variances; the sum of
//! relaxations after van der Ziel (1950) and Keshner (Proc. IEEE 70, 1982); the cubic of AT cuts after Bechmann (Proc. IRE
//! 44, 1956); the parabola of tuning forks from manufacturers' data sheets.
//!
//! Weakness: flicker PM is left out (it lies below every exchange's noise), and ageing is taken as linear, which over the
//! days that a world lasts is the tangent of the usual logarithm.

use rand::RngExt;
use rand_distr::{Distribution, StandardNormal};

use super::Random;

const DAY: f64 = 86_400.0;
/// Time constants of the flicker's relaxations: 2 s to 2e6 s (23 days), two a decade.
const RELAXATIONS: usize = 13;
const SHORTEST: f64 = 2.0;
const RATIO: f64 = 3.162_277_660_168_379_5;

/// How an oscillator behaves. All zero is a perfect clock.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct OscillatorParams {
    /// Offset at the start, in s.
    pub offset: f64,
    /// Slope of the offset at the start, at the curve's reference temperature, in s/s.
    pub rate: f64,
    /// White PM: standard deviation of one counter reading, in s.
    pub white_pm: f64,
    /// White FM: Allan deviation at 1 s.
    pub white_fm: f64,
    /// Flicker FM: the flat Allan deviation.
    pub flicker_fm: f64,
    /// Random-walk FM: wander in (s/s)/sqrt(s).
    pub wander: f64,
    /// Ageing, in s/s per day.
    pub ageing: f64,
    /// Mean number of sudden steps of the rate a day.
    pub steps_per_day: f64,
    /// Standard deviation of such a step, in s/s.
    pub step: f64,
    /// Frequency over temperature.
    pub curve: Curve,
}

/// Relative frequency of a crystal over its temperature: a polynomial around a reference temperature.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Curve {
    /// Where the polynomial is zero, in degrees Celsius.
    pub reference: f64,
    /// Per degree.
    pub linear: f64,
    /// Per square degree.
    pub quadratic: f64,
    /// Per cubic degree.
    pub cubic: f64,
}

impl Curve {
    /// An AT cut: inflection near 26 degrees, 1.05e-10 per cubic degree, and a slope at the inflection that the angle of the
    /// cut sets.
    pub fn at_cut(slope: f64) -> Self {
        Self { reference: 26.0, linear: slope, quadratic: 0.0, cubic: 1.05e-10 }
    }

    /// A tuning fork: turnover at `turnover` degrees, -3.4e-8 per square degree.
    pub fn tuning_fork(turnover: f64) -> Self {
        Self { reference: turnover, linear: 0.0, quadratic: -3.4e-8, cubic: 0.0 }
    }

    /// Relative frequency at `celsius`.
    pub fn frequency(&self, celsius: f64) -> f64 {
        let t = celsius - self.reference;
        t * (self.linear + t * (self.quadratic + t * self.cubic))
    }
}

/// An oscillator under way.
#[derive(Clone, Debug)]
pub struct Oscillator {
    params: OscillatorParams,
    random: Random,
    offset: f64,
    rate: f64,
    drifting: f64,
    relaxations: [f64; RELAXATIONS],
    /// Of the step length in force: decay and kick of each relaxation.
    kicks: [(f64, f64); RELAXATIONS],
    step: f64,
}

impl Oscillator {
    /// At its start, at temperature `celsius`, to be advanced in steps of `step` seconds.
    pub fn new(params: OscillatorParams, celsius: f64, step: f64, mut random: Random) -> Self {
        let deviation = params.flicker_fm / (2.0 * std::f64::consts::LN_2).sqrt() * RATIO.ln().sqrt();
        let mut time_constant = SHORTEST;
        let kicks = std::array::from_fn(|_| {
            let decay = (-step / time_constant).exp();
            time_constant *= RATIO;
            (decay, deviation * (1.0 - decay * decay).sqrt())
        });
        let relaxations = std::array::from_fn(|_| deviation * normal(&mut random));
        // The rate at the start is the parameter's, whatever the slow noises happen to begin with.
        let drifting = params.rate - relaxations.iter().sum::<f64>();
        let mut this = Self { params, random, offset: params.offset, rate: 0.0, drifting, relaxations, kicks, step };
        this.rate = this.slope(celsius);
        this
    }

    /// Lets one step of local time pass, at the end of which the crystal is at `celsius`.
    pub fn advance(&mut self, celsius: f64) {
        let d = self.step;
        for (relaxation, (decay, kick)) in self.relaxations.iter_mut().zip(self.kicks) {
            if kick > 0.0 {
                *relaxation = decay * *relaxation + kick * normal(&mut self.random);
            }
        }
        self.drifting += self.params.ageing * d / DAY + self.params.wander * d.sqrt() * normal(&mut self.random);
        if self.params.steps_per_day > 0.0 && self.random.random::<f64>() < self.params.steps_per_day * d / DAY {
            self.drifting += self.params.step * normal(&mut self.random);
        }
        let rate = self.slope(celsius);
        self.offset += 0.5 * d * (self.rate + rate) + self.params.white_fm * d.sqrt() * normal(&mut self.random);
        self.rate = rate;
    }

    /// True reference - local, in s.
    pub fn offset(&self) -> f64 {
        self.offset
    }

    /// Its slope without white FM, in s/s.
    pub fn rate(&self) -> f64 {
        self.rate
    }

    /// The error of one counter reading, in s.
    pub fn reading_jitter(&mut self) -> f64 {
        if self.params.white_pm > 0.0 { self.params.white_pm * normal(&mut self.random) } else { 0.0 }
    }

    /// A crystal that runs fast makes the local clock run ahead: the offset falls.
    fn slope(&self, celsius: f64) -> f64 {
        self.drifting + self.relaxations.iter().sum::<f64>() - self.params.curve.frequency(celsius)
    }
}

pub(super) fn normal(random: &mut Random) -> f64 {
    StandardNormal.sample(random)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::stream;

    /// Offsets of an oscillator at a constant temperature, one a second.
    fn offsets(params: OscillatorParams, seconds: usize) -> Vec<f64> {
        let mut oscillator = Oscillator::new(params, 25.0, 1.0, stream(1, "oscillator"));
        (0..seconds)
            .map(|_| {
                oscillator.advance(25.0);
                oscillator.offset()
            })
            .collect()
    }

    /// Overlapping Allan deviation of offsets one second apart, at `tau` seconds (NIST SP 1065, eq. 11).
    fn allan_deviation(x: &[f64], tau: usize) -> f64 {
        let sum: f64 = (0..x.len() - 2 * tau).map(|i| (x[i + 2 * tau] - 2.0 * x[i + tau] + x[i]).powi(2)).sum();
        (sum / (2.0 * (tau * tau) as f64 * (x.len() - 2 * tau) as f64)).sqrt()
    }

    #[track_caller]
    fn close(value: f64, expected: f64, tolerance: f64) {
        assert!((value / expected - 1.0).abs() < tolerance, "{value:e} is not near {expected:e}");
    }

    #[test]
    fn white_fm_falls_with_the_root_of_tau() {
        let x = offsets(OscillatorParams { white_fm: 1e-9, ..Default::default() }, 100_000);
        for tau in [1, 16, 256] {
            close(allan_deviation(&x, tau), 1e-9 / (tau as f64).sqrt(), 0.1);
        }
    }

    #[test]
    fn random_walk_fm_rises_with_the_root_of_tau() {
        let x = offsets(OscillatorParams { wander: 1e-10, ..Default::default() }, 200_000);
        for tau in [16, 64, 256] {
            close(allan_deviation(&x, tau), 1e-10 * (tau as f64 / 3.0).sqrt(), 0.15);
        }
    }

    #[test]
    fn flicker_fm_is_flat() {
        let x = offsets(OscillatorParams { flicker_fm: 1e-9, ..Default::default() }, 400_000);
        for tau in [16, 64, 256, 1024, 4096] {
            close(allan_deviation(&x, tau), 1e-9, 0.2);
        }
    }

    #[test]
    fn a_noiseless_clock_follows_rate_ageing_and_temperature() {
        let params = OscillatorParams {
            rate: 1e-6,
            ageing: 8.64e-6,
            curve: Curve { reference: 20.0, linear: 1e-7, ..Default::default() },
            ..Default::default()
        };
        let x = offsets(params, 1000);
        // Five degrees above the reference at 1e-7 each: the crystal is fast, the offset falls.
        let expected = (1e-6 - 5e-7) * 1000.0 + 0.5 * 1e-10 * 1000.0 * 1000.0;
        close(x[999], expected, 1e-6);
    }

    #[test]
    fn the_curves_have_the_known_shapes() {
        // Within a part in ten million of the data sheets' figures.
        let fork = Curve::tuning_fork(25.0);
        assert!((fork.frequency(-15.0) + 54.4e-6).abs() < 1e-7);
        assert_eq!(fork.frequency(25.0), 0.0);
        let cut = Curve::at_cut(-1e-7);
        assert!(cut.frequency(85.0) > 0.0 && cut.frequency(45.0) < 0.0);
    }
}
