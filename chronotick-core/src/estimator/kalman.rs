//! One Kalman filter over offset, rate and temperature coefficient.
//!
//! **State** `[x, r, k]`: offset (s), rate (s/s), rate per degree (s/s/K). Between samples `dt` apart, with `u` the mean
//! temperature above a fixed reference: `x += (r + k u) dt`; `r` and `k` are random walks.
//!
//! **Noise.** Random-walk frequency noise of power `q` ((s/s)^2/s), giving the process covariance
//! `q [dt^3/3, dt^2/2; dt^2/2, dt]` (Zucca and Tavella 2005), white frequency noise `w` (s^2/s) adding `w dt` to the offset.
//!
//! **Measurement** `z = x + v`, `v` of variance `R` from the sample filter. An innovation beyond four standard deviations is
//! down-weighted so that it counts as one of exactly four (Huber 1964, in the form of an inflated `R`).
//!
//! The covariance is updated in Joseph form and kept symmetric by storing one triangle.

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
    q: f64,
    /// Random walk of the temperature coefficient, (s/s/K)^2/s; zero together with a zero prior: no temperature.
    qk: f64,
}

/// White frequency noise that every real oscillator has at least: 1e-11 at 1 s, squared.
const WHITE_FM: f64 = 1e-22;
/// Where the soft gate begins, in standard deviations of the innovation.
const GATE: f64 = 4.0;

impl Kalman {
    /// A filter at offset `x` with variance `var_x`, an unknown rate of variance `var_r` and, if `var_k` is not zero, a
    /// temperature coefficient.
    pub const fn new(q: f64, qk: f64, x: f64, var_x: f64, var_r: f64, var_k: f64) -> Self {
        Self { x, r: 0.0, k: 0.0, p: [var_x, 0.0, 0.0, var_r, 0.0, var_k], q, qk }
    }

    /// Moves the state `dt` seconds on, at a mean temperature `u` above the reference.
    pub fn predict(&mut self, dt: f64, u: f64) {
        let [xx, xr, xk, rr, rk, kk] = self.p;
        let ud = u * dt;
        self.x += self.r * dt + self.k * ud;
        let q = self.q;
        // P <- F P F' + Q with F = [1 dt ud; 0 1 0; 0 0 1].
        let xr1 = xr + dt * rr + ud * rk;
        let xk1 = xk + dt * rk + ud * kk;
        self.p = [
            xx + dt * (xr + xr1) + ud * (xk + xk1) + q * dt * dt * dt / 3.0 + WHITE_FM * dt,
            xr1 + q * dt * dt / 2.0,
            xk1,
            rr + q * dt,
            rk,
            kk + self.qk * dt,
        ];
    }

    /// Takes in a measured offset `z` of variance `var_z`; returns the innovation in units of its standard deviation.
    pub fn update(&mut self, z: f64, var_z: f64) -> f64 {
        let innovation = z - self.x;
        let mut s = self.p[0] + var_z;
        let normalised2 = innovation * innovation / s;
        if normalised2 > GATE * GATE {
            s = innovation * innovation / (GATE * GATE);
        }
        let r_eff = s - self.p[0];
        let [xx, xr, xk, rr, rk, kk] = self.p;
        let (gx, gr, gk) = (xx / s, xr / s, xk / s);
        self.x += gx * innovation;
        self.r += gr * innovation;
        self.k += gk * innovation;
        // Joseph form, (I - G H) P (I - G H)' + G R G', written out for H = [1 0 0].
        let one = 1.0 - gx;
        self.p = [
            one * one * xx + gx * gx * r_eff,
            one * (xr - gr * xx) + gx * gr * r_eff,
            one * (xk - gk * xx) + gx * gk * r_eff,
            rr - 2.0 * gr * xr + gr * gr * s,
            rk - gr * xk - gk * xr + gr * gk * s,
            kk - 2.0 * gk * xk + gk * gk * s,
        ];
        for i in [0, 3, 5] {
            self.p[i] = self.p[i].max(0.0);
        }
        libm::copysign(libm::sqrt(normalised2), innovation)
    }

    /// Variance of the offset.
    pub const fn var_x(&self) -> f64 {
        self.p[0]
    }

    /// Variance of the rate.
    pub const fn var_r(&self) -> f64 {
        self.p[3]
    }

    /// The slope of the offset at temperature `u`.
    pub fn rate(&self, u: f64) -> f64 {
        self.r + self.k * u
    }

    /// Variance of the offset `h` seconds on.
    pub fn var_at(&self, h: f64) -> f64 {
        let [xx, xr, _, rr, ..] = self.p;
        xx + h * (2.0 * xr + h * rr) + self.q * h * h * h / 3.0 + WHITE_FM * h
    }

    /// Moves the reference of the offset.
    pub fn rebase(&mut self, shift: f64) {
        self.x -= shift;
    }
}
