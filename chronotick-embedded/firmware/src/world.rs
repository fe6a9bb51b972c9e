//! The imagined surroundings of the example node: an oscillator in a room, and a gateway that knows the time.
//!
//! The oscillator is 12 ppm fast of nothing at 25 degrees and follows the parabola of a tuning-fork crystal,
//! -0.035 ppm per square degree, while the room goes up and down by 4 degrees twice an hour.

use chronotick_core::forecast::{Forecast, LEVELS};
use chronotick_core::units::{Local, Offset, Span, Temperature, Timestamp, Utc};
use chronotick_embedded::EdgeRequest;

/// UTC at the node's boot: some time in 2025.
const BOOT: i64 = 1_750_000_000_000_000_000;
const PERIOD: i64 = 1_800;

/// The oscillator's true offset, integrated as time goes on.
pub struct World {
    second: i64,
    /// Offset gained since boot at that second, in s.
    gained: f64,
}

impl Default for World {
    fn default() -> Self {
        Self::new()
    }
}

impl World {
    /// At boot.
    pub const fn new() -> Self {
        Self { second: 0, gained: 0.0 }
    }

    /// True UTC at a local time, which must not be before the second of the last one asked for.
    pub fn utc(&mut self, local: Timestamp<Local>) -> Timestamp<Utc> {
        let second = local.as_nanos() / 1_000_000_000;
        while self.second < second {
            self.gained += rate(self.second);
            self.second += 1;
        }
        let rest = (local.as_nanos() - self.second * 1_000_000_000) as f64 * 1e-9;
        let gained = Span::from_secs_f64(self.gained + rest * rate(self.second));
        local.to_utc(Offset::from_nanos(BOOT).saturating_add(gained))
    }
}

/// What a sensor with steps of a sixteenth of a degree reads.
pub fn temperature(local: Timestamp<Local>) -> Temperature {
    let degrees = degrees(local.as_nanos() / 1_000_000_000);
    Temperature::new(f64::from((degrees * 16.0) as i32) / 16.0)
}

/// What a gateway that knows the room's timetable answers: the rate from the timetable, within 10 ppb.
pub fn forecast(request: &EdgeRequest) -> Forecast {
    let mut quantiles = heapless::Vec::new();
    let mut second = request.origin.as_nanos() / 1_000_000_000;
    let row_seconds = request.step.as_nanos() / 1_000_000_000 * request.model.stride();
    let mut displacement = 0.0;
    for row in 1..=request.model.steps() {
        // Midpoints of eight pieces a row are close enough to the integral.
        for piece in 0..8 {
            let middle = second + (2 * piece + 1) * row_seconds / 16;
            displacement += (rate(middle) - request.rate.value()) * row_seconds as f64 / 8.0;
        }
        second += row_seconds;
        let width = 4.0 * request.offset_deviation + 2e-8 * row as f32 * row_seconds as f32;
        let _ = quantiles.push(LEVELS.map(|level| displacement as f32 + (level - 0.5) * width));
    }
    Forecast { id: request.id, model: request.model, hash: *b"imagined", quantiles }
}

fn degrees(second: i64) -> f64 {
    let phase = second.rem_euclid(PERIOD) - PERIOD / 2;
    21.0 + 16.0 * (phase.abs() as f64 / PERIOD as f64)
}

fn rate(second: i64) -> f64 {
    let away = degrees(second) - 25.0;
    12e-6 - 0.035e-6 * away * away
}
