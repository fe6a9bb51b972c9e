//! One Kalman filter over offset, rate and temperature coefficient.
//!
//! **State** `[x, r, k]`: offset (s), rate (s/s), rate per degree (s/s/K). Between samples `dt` apart, with `u` the mean
//! temperature above a fixed reference: `x += (r + k u) dt`; `r` and `k` are random walks.
//!
//! **Noise.** Random-walk frequency noise of power `q` ((s/s)^2/s), giving the process covariance
//! `q [dt^3/3, dt^2/2; dt^2/2, dt]` (Zucca and Tavella 2005), white frequency noise `w` (s^2/s) adding `w dt` to the offset.
//!
//! **Measurement** `z = x + v`, `v` of variance `R`: what the filter makes of an exchange, see [`super::exchange`]. The gain is
//! the best one for the variance of the innovation, and with that gain the updated covariance `(I - G H) P` has `R G` for its
//! first row (Joseph's longer form says the same): a product of positive numbers on the diagonal, so that no rounding makes the
//! offset's variance negative. It is kept symmetric by storing one triangle. The process noise is an assumption and is worked
//! out in f32.

use super::exchange::{Exchange, Innovation};

/// The filter. Offsets are in s relative to a reference that the bank owns and moves.
#[derive(Clone, Copy, Debug)]
pub struct Kalman {
    /// Offset, s.
    pub x: f64,
    /// Rate, s/s.
    pub r: f64,
    /// Rate per degree, s/s/K.
    pub k: f64,
    /// Upper triangle of the covariance: xx, xr, xk, rr, rk, kk.
    p: [f64; 6],
    /// Random-walk frequency noise, (s/s)^2/s.
    q: f32,
    /// Random walk of the temperature coefficient, (s/s/K)^2/s; zero together with a zero prior: no temperature.
    qk: f32,
}

/// A length of time and what follows from it, for all filters alike.
#[derive(Clone, Copy, Debug)]
pub struct Step {
    dt: f64,
    /// The same.
    linear: f32,
    square: f32,
    cube: f32,
    white: f32,
}

impl Step {
    /// `dt` seconds.
    #[allow(clippy::cast_possible_truncation, reason = "what the process noise is worked out with")]
    pub const fn new(dt: f64) -> Self {
        let linear = dt as f32;
        let square = linear * linear;
        Self { dt, linear, square: 0.5 * square, cube: square * linear * (1.0 / 3.0), white: WHITE_FM * linear }
    }
}

/// White frequency noise that every real oscillator has at least: 1e-11 at 1 s, squared.
const WHITE_FM: f32 = 1e-22;

impl Kalman {
    /// A filter at offset `x` with variance `var_x`, an unknown rate of variance `var_r` and, if `var_k` is not zero, a
    /// temperature coefficient.
    pub const fn new(q: f32, qk: f32, x: f64, var_x: f64, var_r: f64, var_k: f64) -> Self {
        Self { x, r: 0.0, k: 0.0, p: [var_x, 0.0, 0.0, var_r, 0.0, var_k], q, qk }
    }

    /// Takes the offset and rate of `other`, with what is known of them, and knows nothing of the temperature yet.
    pub fn begin_at(&mut self, other: &Self) {
        let [xx, xr, _, rr, ..] = other.p;
        (self.x, self.r, self.k) = (other.x, other.r, 0.0);
        self.p = [xx, xr, 0.0, rr, 0.0, self.p[5]];
    }

    /// The same filter at another rate.
    pub const fn with_rate(self, r: f64) -> Self {
        Self { r, ..self }
    }

    /// Moves the state on by `step`, at a mean temperature `u` above the reference.
    pub fn predict(&mut self, step: &Step, u: f64) {
        let [xx, xr, xk, rr, rk, kk] = self.p;
        let (dt, q) = (step.dt, self.q);
        self.x += self.r * dt;
        // P <- F P F' + Q with F = [1 dt ud; 0 1 0; 0 0 1].
        let xr1 = xr + dt * rr;
        self.p[0] = xx + dt * (xr + xr1) + f64::from(q * step.cube + step.white);
        self.p[1] = xr1 + f64::from(q * step.square);
        self.p[3] = rr + f64::from(q * step.linear);
        if !self.is_plain() {
            let ud = u * dt;
            self.x += self.k * ud;
            let turned = dt * rk + xk;
            let xk1 = turned + ud * kk;
            self.p[0] += ud * (turned + xk1);
            self.p[1] += ud * rk;
            self.p[2] = xk1;
            self.p[5] = kk + f64::from(self.qk * step.linear);
        }
    }

    /// Takes in a measured offset `z` of variance `var_z`.
    pub fn update(&mut self, z: f64, var_z: f64) {
        self.confine(&Exchange { z, half: 0.0, blur: var_z });
    }

    /// Takes in what an exchange says.
    pub fn confine(&mut self, exchange: &Exchange) {
        let [xx, xr, xk, rr, rk, kk] = self.p;
        let Some(Innovation { value: innovation, variance: s }) = exchange.seen_from(self.x, xx) else { return };
        let noise = s - xx;
        let precision = 1.0 / s;
        let (gx, gr) = (xx * precision, xr * precision);
        self.x += gx * innovation;
        self.r += gr * innovation;
        // (I - G H) P, written out for H = [1 0 0].
        self.p[0] = gx * noise;
        self.p[1] = gr * noise;
        self.p[3] = positive(rr - gr * xr);
        if !self.is_plain() {
            let gk = xk * precision;
            self.k += gk * innovation;
            self.p[2] = gk * noise;
            self.p[4] = rk - gk * xr;
            self.p[5] = positive(kk - gk * xk);
        }
    }

    /// Variance of the offset.
    pub const fn var_x(&self) -> f64 {
        self.p[0]
    }

    /// Variance of the rate.
    pub const fn var_r(&self) -> f64 {
        self.p[3]
    }

    /// Power of the assumed random walk of the rate, (s/s)^2/s.
    pub const fn wander(&self) -> f32 {
        self.q
    }

    /// Variance of the offset `h` seconds on.
    #[allow(clippy::cast_possible_truncation, reason = "a claim needs no more than f32")]
    pub fn var_at(&self, h: f32) -> f32 {
        let [xx, xr, _, rr, ..] = self.p.map(|element| element as f32);
        let wander = self.q * h * h * h * (1.0 / 3.0);
        // Of a positive definite covariance, whatever rounding does to the three.
        let grown = (xx + h * (2.0 * xr + h * rr)).max(0.0);
        grown + wander + WHITE_FM * h
    }

    /// Knows nothing of temperature, and then all that would is zero.
    const fn is_plain(&self) -> bool {
        self.p[5] <= 0.0 && self.qk <= 0.0
    }

    /// Moves the reference of the offset.
    pub fn rebase(&mut self, shift: f64) {
        self.x -= shift;
    }
}

/// A variance that rounding may have pushed below zero, or that is none.
const fn positive(variance: f64) -> f64 {
    if variance > 0.0 { variance } else { 0.0 }
}
