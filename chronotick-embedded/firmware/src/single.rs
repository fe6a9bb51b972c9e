//! The core's filter in single precision, for comparison: what it would cost and what it would lose.
//!
//! State `[x, r]` and noise as in `chronotick_core::estimator::kalman`, without the temperature coefficient.
//! Offsets are relative to a reference near them: an f32 resolves 6 ns at 0.1 s.

/// Offset (s) and rate (s/s) with their covariance, all f32.
pub struct Single {
    /// Offset, s.
    pub x: f32,
    /// Rate, s/s.
    pub r: f32,
    p: [f32; 3],
    q: f32,
}

impl Single {
    /// A filter at offset 0 with the variances of offset and rate, and the power of the random walk, (s/s)^2/s.
    pub const fn new(var_x: f32, var_r: f32, q: f32) -> Self {
        Self { x: 0.0, r: 0.0, p: [var_x, 0.0, var_r], q }
    }

    /// Moves the state `dt` seconds on.
    pub fn predict(&mut self, dt: f32) {
        let [xx, xr, rr] = self.p;
        let xr1 = xr + dt * rr;
        self.x += self.r * dt;
        self.p = [
            xx + dt * (xr + xr1) + self.q * dt * dt * dt / 3.0 + 1e-22 * dt,
            xr1 + self.q * dt * dt / 2.0,
            rr + self.q * dt,
        ];
    }

    /// Takes in a measured offset `z` of variance `var_z`.
    pub fn update(&mut self, z: f32, var_z: f32) {
        let [xx, xr, rr] = self.p;
        let innovation = z - self.x;
        // The soft gate at four standard deviations.
        let s = (xx + var_z).max(innovation * innovation / 16.0);
        let (gx, gr) = (xx / s, xr / s);
        self.x += gx * innovation;
        self.r += gr * innovation;
        self.p = [(1.0 - gx) * xx, (1.0 - gx) * xr, (rr - gr * xr).max(0.0)];
    }
}
