//! How stable the oscillator is, by averaging time: the overlapping Allan deviation, kept up as the estimate goes on.
//!
//! **Model.** For phases `x_i` (s) on an even grid, `sigma_y^2(tau)` is the mean of `(x_{i+2m} - 2 x_{i+m} + x_i)^2 / (2 tau^2)`,
//! `tau` being `m` grid steps: Allan, "Statistics of atomic frequency standards", Proc. IEEE 54 (1966), overlapping as of Howe,
//! Allan and Barnes (1981). Constant offset and rate drop out.
//!
//! **Fixed memory.** Each octave keeps nine phases, `tau / 4` apart (one step apart for the first three), so triples overlap
//! fourfold however long the averaging time is.
//!
//! **Assumptions.** The phases are the estimate's, which has smoothed the network's noise: below its time constant the
//! deviation is that of the smoothed estimate. Between two estimates the phase is interpolated; an octave takes no part while
//! estimates are further apart than its averaging time.

use crate::units::{Local, Offset, Span, Timestamp};

/// Phases that an octave keeps: two averaging times, a quarter apart.
const KEPT: usize = 9;
/// Triples over which the mean is formed before it begins to forget.
const MEMORY: f64 = 4096.0;
/// Grid points that are filled in at most; after a longer silence everything starts afresh.
const MOST_FILLED: i64 = 4096;

/// The Allan deviation at `J` averaging times, the first one grid step long and each twice the one before.
#[derive(Clone, Debug)]
pub struct AllanDeviation<const J: usize = 14> {
    step: Span,
    /// All phases are relative to it.
    reference: Offset,
    last: Option<(Timestamp<Local>, f64)>,
    next: Timestamp<Local>,
    ticks: u64,
    octaves: [Octave; J],
}

/// The deviation at one averaging time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StabilityPoint {
    /// Averaging time.
    pub tau: Span,
    /// Overlapping Allan deviation of the relative frequency, s/s.
    pub deviation: f64,
    /// Triples behind it; neighbouring ones overlap.
    pub triples: u32,
}

#[derive(Clone, Debug, Default)]
struct Octave {
    phases: heapless::Deque<f64, KEPT>,
    /// Mean square of the second differences, s^2.
    square: f64,
    triples: u32,
}

impl<const J: usize> AllanDeviation<J> {
    /// Nothing has been observed; the grid is `step` wide (at least a nanosecond).
    pub fn new(step: Span) -> Self {
        Self {
            step: step.max(Span::from_nanos(1)),
            reference: Offset::ZERO,
            last: None,
            next: Timestamp::from_nanos(0),
            ticks: 0,
            octaves: core::array::from_fn(|_| Octave::default()),
        }
    }

    /// The offset was `offset` at `at`. Instants that do not ascend are ignored.
    pub fn observe(&mut self, at: Timestamp<Local>, offset: Offset) {
        let Some((before, from)) = self.last else {
            self.reference = offset;
            self.restart(at);
            return;
        };
        let apart = at.since(before);
        if apart <= Span::ZERO {
            return;
        }
        let to = offset.since(self.reference).as_secs_f64();
        if apart > self.step.saturating_mul(MOST_FILLED) {
            self.reference = offset;
            self.restart(at);
            return;
        }
        while self.next <= at {
            let share = self.next.since(before).as_secs_f64() / apart.as_secs_f64();
            self.tick(from + (to - from) * share, apart);
            let next = self.next.saturating_add(self.step);
            if next == self.next {
                // The end of the range of time itself.
                break;
            }
            self.next = next;
        }
        self.last = Some((at, to));
    }

    /// The counter was disturbed: what follows has nothing to do with what was. What is known stays.
    pub fn break_off(&mut self) {
        self.last = None;
    }

    /// The averaging times at which something is known, ascending.
    pub fn points(&self) -> impl Iterator<Item = StabilityPoint> + '_ {
        self.octaves.iter().enumerate().filter(|(_, octave)| octave.triples > 0).map(|(j, octave)| {
            let tau = self.tau(j);
            let deviation = libm::sqrt(0.5 * octave.square) / tau.as_secs_f64();
            StabilityPoint { tau, deviation, triples: octave.triples }
        })
    }

    fn tau(&self, octave: usize) -> Span {
        self.step.saturating_mul(1 << octave.min(62))
    }

    fn restart(&mut self, at: Timestamp<Local>) {
        self.last = Some((at, 0.0));
        self.next = at.saturating_add(self.step);
        for octave in &mut self.octaves {
            octave.phases.clear();
        }
    }

    /// One grid point; its neighbours among the estimates are `apart`.
    fn tick(&mut self, phase: f64, apart: Span) {
        self.ticks = self.ticks.wrapping_add(1);
        for j in 0..J {
            // One step between phases for the first three octaves, a quarter of the averaging time for the rest.
            let spacing = 1u64 << j.saturating_sub(2);
            if self.ticks & (spacing - 1) == 0 {
                let known = apart <= self.tau(j);
                self.octaves[j].push(if known { phase } else { f64::NAN }, 1 << j.min(2));
            }
        }
    }
}

impl Octave {
    /// Takes in the next phase, `lag` of which make an averaging time.
    fn push(&mut self, phase: f64, lag: usize) {
        if self.phases.is_full() {
            self.phases.pop_front();
        }
        let _ = self.phases.push_back(phase);
        let count = self.phases.len();
        if count <= 2 * lag {
            return;
        }
        let back = |steps: usize| self.phases.iter().nth(count - 1 - steps).copied().unwrap_or(f64::NAN);
        let second = back(0) - 2.0 * back(lag) + back(2 * lag);
        if second.is_finite() {
            self.triples = self.triples.saturating_add(1);
            self.square += (second * second - self.square) / f64::from(self.triples).min(MEMORY);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn second(t: i64) -> Timestamp<Local> {
        Timestamp::from_nanos(t * 1_000_000_000)
    }

    #[test]
    fn a_drifting_rate_is_known_exactly_whatever_the_offset() {
        let drift = 1e-9;
        let mut allan = AllanDeviation::<8>::new(Span::from_secs(1));
        for t in 0..2_000 {
            // An offset of decades must not cost digits.
            let phase = Span::from_secs_f64(4e-6 * t as f64 + 0.5 * drift * (t * t) as f64);
            allan.observe(second(t), Offset::from_nanos(1_700_000_000_000_000_000).saturating_add(phase));
        }
        let points: heapless::Vec<_, 8> = allan.points().collect();
        assert_eq!(points.len(), 8);
        for point in points.iter().skip(3) {
            let expected = drift * point.tau.as_secs_f64() / libm::sqrt(2.0);
            // Phases are rounded to a nanosecond.
            assert!((point.deviation / expected - 1.0).abs() < 0.03, "{point:?} {expected}");
        }
    }

    #[test]
    fn alternating_phases_are_worth_two_amplitudes() {
        let mut allan = AllanDeviation::<1>::new(Span::from_secs(1));
        for t in 0..1_000 {
            allan.observe(second(t), Offset::from_nanos(if t % 2 == 0 { 1_000 } else { -1_000 }));
        }
        // Second differences of +-4 us: sqrt(16 / 2) us over one second.
        let point = allan.points().next().unwrap();
        assert!((point.deviation / 2.828_427e-6 - 1.0).abs() < 1e-6, "{point:?}");
    }

    #[test]
    fn averaging_times_below_the_sampling_interval_are_not_invented() {
        let mut allan = AllanDeviation::<8>::new(Span::from_secs(1));
        for t in (0..4_000).step_by(16) {
            allan.observe(second(t), Offset::from_nanos(t * t));
        }
        assert_eq!(allan.points().next().map(|point| point.tau), Some(Span::from_secs(16)));
    }

    #[test]
    fn time_has_an_end() {
        let mut allan = AllanDeviation::<2>::new(Span::from_secs(1));
        allan.observe(Timestamp::from_nanos(i64::MAX - 2_000_000_000), Offset::ZERO);
        allan.observe(Timestamp::from_nanos(i64::MAX), Offset::ZERO);
        assert_eq!(allan.points().count(), 0);
    }

    #[test]
    fn silence_and_disturbance_only_interrupt() {
        let mut allan = AllanDeviation::<4>::new(Span::from_secs(1));
        for t in (0..100).chain(1_000_000..1_000_100) {
            allan.observe(second(t), Offset::from_nanos(40_000 * t));
        }
        allan.break_off();
        for t in 1_000_100..1_000_200 {
            allan.observe(second(t), Offset::from_nanos(7_000_000_000 + 40_000 * t));
        }
        allan.observe(second(5), Offset::ZERO);
        for point in allan.points() {
            assert!(point.triples > 100 && point.deviation < 1e-12, "{point:?}");
        }
    }
}
