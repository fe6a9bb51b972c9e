//! A rate that goes round: what a thermostat does to a room, or jobs that run by the hour do to a computer.
//!
//! **Model.** To the rate `r` of a line comes the first component of a pair `(a, b)` that turns with frequency `w`, and wanders a
//! little: Harvey's stochastic cycle (1989, section 2.3). The state `[x, r, a, b, w]` is followed by an extended Kalman
//! filter, the only bend in whose model is that the frequency is part of the state (La Scala and Bitmead 1996). It finds a frequency
//! that is within some ten per cent of where it begins; so there is one filter per third of an octave, and two
//! without a cycle: one whose rate wanders as the leading filter's does, and one whose rate is as steady as beside a cycle, or a
//! filter would win by being stiff. How likely each of them is follows from what it did not foresee (Magill 1965), forgotten over
//! some hours.
//!
//! **Measurements** are the means of what was measured within a minute or two, weighted by precision: the shortest cycle needs no
//! more, and all these filters cost little.
//!
//! **Forecast.** The filters' mean, by how likely they are; as far as there is no cycle, it is the bank's base line.
//!
//! **Weaknesses.** A cycle is found out after a round or two. It is a sine here: of a saw, the steps come as a surprise. What turns
//! faster than a quarter of an hour or slower than two hours is left to others. The newest exchanges, those of the last minute or two or
//! else the last one, are not in its forecasts yet. Servers that disagree and are asked at intervals that are not quite the same beat
//! like a cycle; a forecast has to earn its share all the same.

use core::f64::consts::TAU;

use super::exchange::{Exchange, GATE};
use super::kalman::Kalman;
use super::{Line, Prediction};
use crate::decay::forgotten;
use crate::evidence;
use crate::rank::greatest;
use crate::units::{Local, Timestamp};

/// The longest period, s, and how many there are to an octave.
const LONGEST: f64 = 7200.0;
const PER_OCTAVE: f64 = 3.0;
/// For how long what is measured is averaged, s.
const CELL: f64 = 100.0;
/// A cycle is told by so many of these averages in a round.
const RESOLVED: f64 = 4.0;
/// And by nothing less than so many rounds: whatever warms up looks like part of one.
const ROUNDS: f64 = 1.25;
/// Standard deviations: of a cycle's amplitude before anything is known, s/s; of its frequency, as a share, a third of the way to
/// the next filter's; and of how that wanders within an hour.
const AMPLITUDE: f64 = 3e-7;
const SPREAD: f64 = 0.08;
const UNSTEADY: f64 = 0.01;
/// Once a cycle is taken out, the rate wanders by this part of what the leading filter takes it to do, in power; and the cycle by
/// that of it.
const LEFT: f64 = 0.01;
const FADING: f64 = 0.01;
/// How far a filter's frequency may go from where it began, as a factor.
const FURTHEST: f64 = 1.25;
/// So many measurements in a row beyond the soft gate are a step.
const LASTING: u8 = 3;
/// Filters in all; the first of them are without a cycle.
const FILTERS: usize = 12;
const STILL: usize = 2;
/// Time over which likelihoods are forgotten, s; and after which a filter that is not likely begins anew, lest it should stand
/// where noise has led it when a cycle begins.
const MEMORY: f32 = 28_800.0;
/// Log odds of each filter without a cycle against all that have one, to begin with.
const RARE: f32 = 4.0;
/// Below this probability of all cycles nothing is said, and below this of one it is not asked.
const CLEAR: f32 = 0.1;
const NEGLIGIBLE: f32 = 0.003;

/// The filters.
#[derive(Clone, Debug)]
pub(super) struct Cycles {
    filters: [Cycle; FILTERS],
    /// The probability of each, and of those with a cycle together.
    probability: [f32; FILTERS],
    likely: f32,
    /// Times are counted from here, in s.
    zero: Timestamp<Local>,
    /// What the filters' states are those of. None: they have not begun.
    at: Option<f64>,
    cell: Cell,
}

/// What has been measured since a minute or two: the sums of the precisions, s^-2, and of times, s, and offsets, s, weighted by them.
#[derive(Clone, Copy, Debug, Default)]
struct Cell {
    since: f64,
    precision: f64,
    times: f64,
    offsets: f64,
}

/// The places in a filter's state: offset, s, and rate, s/s; the two components of the cycle, s/s, and its frequency, rad/s.
const X: usize = 0;
const R: usize = 1;
const A: usize = 2;
const B: usize = 3;
const TURN: usize = 4;
const STATES: usize = 5;

type Vector = [f64; STATES];

/// One filter.
#[derive(Clone, Copy, Debug)]
struct Cycle {
    state: Vector,
    covariance: [Vector; STATES],
    /// Discounted log likelihood.
    evidence: f32,
    /// When it began, s, and at what frequency, rad/s.
    since: f64,
    begun: f64,
    /// Measurements in a row that were beyond the gate.
    contradicted: u8,
}

/// Powers of the noise: of the rate's wander, of the cycle's, (s/s)^2/s, and of the frequency's, (rad/s)^2/s.
#[derive(Clone, Copy, Debug)]
struct Noise {
    rate: f64,
    cycle: f64,
    frequency: f64,
}

#[allow(clippy::cast_possible_truncation, reason = "a prediction is f32, and so is evidence")]
impl Cycles {
    /// From `at` on.
    pub(super) const fn new(at: Timestamp<Local>) -> Self {
        Self {
            filters: [Cycle::NONE; FILTERS],
            probability: [0.0; FILTERS],
            likely: 0.0,
            zero: at,
            at: None,
            cell: Cell { since: 0.0, precision: 0.0, times: 0.0, offsets: 0.0 },
        }
    }

    /// Takes in what an exchange at `at` says. `lead` is the filter that the base line follows, and `scale` that of all times.
    pub(super) fn update(&mut self, at: Timestamp<Local>, exchange: &Exchange, lead: &Kalman, scale: f64) {
        let t = at.since(self.zero).as_secs_f64();
        if t - self.cell.since >= CELL * scale {
            if self.cell.precision > 0.0 {
                self.learn(lead, scale);
            }
            self.cell = Cell { since: t, ..Cell::default() };
        }
        let precision = 1.0 / exchange.variance().max(1e-24);
        self.cell.precision += precision;
        self.cell.times += precision * t;
        self.cell.offsets += precision * exchange.z;
    }

    /// Moves the reference of the offsets.
    pub(super) fn rebase(&mut self, shift: f64) {
        for filter in &mut self.filters {
            filter.state[X] -= shift;
        }
        self.cell.offsets -= shift * self.cell.precision;
    }

    /// Whether there is a cycle to speak of.
    pub(super) const fn is_likely(&self) -> bool {
        self.likely > CLEAR
    }

    /// Offset and slope beyond `line`, and the variance of that offset, `h` s after `at`. `None`: there is no cycle.
    pub(super) fn ahead(
        &self,
        at: Timestamp<Local>,
        line: Line,
        h: f32,
        lead: &Kalman,
        scale: f64,
    ) -> Option<Prediction> {
        let from = self.at.filter(|_| self.is_likely())?;
        let ahead = f64::from(h);
        let dt = at.since(self.zero).as_secs_f64() + ahead - from;
        let (mut offset, mut slope) = (0.0, 0.0);
        // Around the base line.
        let mut square = f64::from((1.0 - self.likely) * lead.var_at(h));
        for (index, filter) in self.filters.iter().enumerate().skip(STILL) {
            if self.probability[index] < NEGLIGIBLE {
                continue;
            }
            let probability = f64::from(self.probability[index]);
            let mut then = *filter;
            then.advance(dt, &noise(index, filter.begun, lead, scale));
            let [x, r, a, _, turn] = then.state;
            let apart = x - (line.x + line.r * ahead);
            offset += probability * apart;
            slope += probability * (r + a - line.r);
            // Of what comes after a round, a cycle tells less and less.
            let rounds = ahead * turn / TAU;
            let further = 1.0 + rounds * rounds;
            square += probability * (then.covariance[X][X] * further * further + apart * apart);
        }
        let variance = (square - offset * offset) as f32;
        Some(Prediction { displacement: offset as f32, slope: slope as f32, variance })
    }

    /// The cell is over: the filters learn from its mean.
    fn learn(&mut self, lead: &Kalman, scale: f64) {
        let Cell { precision, times, offsets, .. } = self.cell;
        let (t, z, var_z) = (times / precision, offsets / precision, 1.0 / precision);
        // After a long silence nobody knows where in its round a cycle is.
        let Some(dt) = self.at.replace(t).map(|then| t - then).filter(|&dt| dt < LONGEST * scale) else {
            self.begin(t, [z, lead.r], [var_z, lead.var_r()], scale);
            return;
        };
        let kept = 1.0 - forgotten(dt as f32, MEMORY * scale as f32);
        let mut sound = true;
        for (index, filter) in self.filters.iter_mut().enumerate() {
            filter.advance(dt, &noise(index, filter.begun, lead, scale));
            filter.evidence *= kept;
            filter.update(z, var_z);
            if index >= STILL {
                filter.state[TURN] = filter.state[TURN].clamp(filter.begun / FURTHEST, filter.begun * FURTHEST);
            }
            sound &= filter.is_sound();
        }
        if !sound {
            self.begin(t, [z, lead.r], [var_z, lead.var_r()], scale);
            return;
        }
        let logs: [f32; FILTERS] = core::array::from_fn(|index| {
            let prior = if index < STILL { RARE } else { -libm::logf((FILTERS - STILL) as f32) };
            self.filters[index].evidence + prior
        });
        let likeliest = greatest(&logs);
        self.probability = logs.map(|log| evidence::exp(log - likeliest));
        let total: f32 = self.probability.iter().sum();
        let still = self.filters[0];
        for (index, (filter, probability)) in self.filters.iter_mut().zip(&mut self.probability).enumerate() {
            *probability /= total;
            if index < STILL {
                continue;
            }
            let (turn, age) = (filter.state[TURN] / TAU, t - filter.since);
            if *probability < NEGLIGIBLE && age > f64::from(MEMORY) * scale {
                // What it has learned since is noise.
                let [at, variances] = [still.state, still.variances()].map(|[x, r, ..]| [x, r]);
                *filter = Cycle::new(t, at, variances, frequency(index, scale));
                filter.evidence = still.evidence;
            }
            // Whoever has not been told enough is silent. If it is the likeliest nevertheless, so are the others.
            if turn * dt * RESOLVED > 1.0 || turn * age < ROUNDS {
                *probability = 0.0;
            }
        }
        self.likely = self.probability[STILL..].iter().sum();
    }

    /// All filters begin at `t`, at this offset and rate, each with its variance.
    fn begin(&mut self, t: f64, at: [f64; 2], variances: [f64; 2], scale: f64) {
        for (index, filter) in self.filters.iter_mut().enumerate() {
            let turn = if index < STILL { 0.0 } else { frequency(index, scale) };
            *filter = Cycle::new(t, at, variances, turn);
        }
        self.at = Some(t);
        self.probability = [0.0; FILTERS];
        self.likely = 0.0;
    }
}

/// Where filter `index` begins, rad/s.
fn frequency(index: usize, scale: f64) -> f64 {
    let octaves = (FILTERS - 1 - index) as f64 / PER_OCTAVE;
    TAU * libm::exp2(octaves) / (LONGEST * scale)
}

/// What filter `index`, which began at frequency `begun`, takes the noise to be, beside what the leading one does.
fn noise(index: usize, begun: f64, lead: &Kalman, scale: f64) -> Noise {
    let q = f64::from(lead.wander());
    if index < STILL {
        let rate = if index == 0 { q } else { LEFT * q };
        return Noise { rate, cycle: 0.0, frequency: 0.0 };
    }
    let wander = UNSTEADY * begun;
    Noise { rate: LEFT * q, cycle: FADING * q, frequency: wander * wander / (3600.0 * scale) }
}

impl Cycle {
    const NONE: Self = Self {
        state: [0.0; STATES],
        covariance: [[0.0; STATES]; STATES],
        evidence: 0.0,
        since: 0.0,
        begun: 0.0,
        contradicted: 0,
    };

    /// A filter that begins at `t`, at an offset and a rate `at`, each with its variance, and at a frequency of `turn`. None: without a
    /// cycle.
    fn new(t: f64, at: [f64; 2], variances: [f64; 2], turn: f64) -> Self {
        let amplitude = if turn > 0.0 { AMPLITUDE * AMPLITUDE } else { 0.0 };
        let spread = SPREAD * turn;
        let mut begun = Self { state: [at[0], at[1], 0.0, 0.0, turn], since: t, begun: turn, ..Self::NONE };
        for (i, variance) in [variances[0], variances[1], amplitude, amplitude, spread * spread].into_iter().enumerate()
        {
            begun.covariance[i][i] = variance;
        }
        begun
    }

    /// Moves the state on by `dt` s.
    fn advance(&mut self, dt: f64, noise: &Noise) {
        let [x, r, a, b, turn] = self.state;
        let (sin, cos) = libm::sincos(turn * dt);
        let (a_then, b_then) = (a * cos - b * sin, a * sin + b * cos);
        // What the cycle's rate adds to the offset, by each component, and how that depends on the frequency. None: it stands still.
        let [by_a, by_b] = if turn > 0.0 { [sin / turn, (cos - 1.0) / turn] } else { [dt, 0.0] };
        let area = by_a * a + by_b * b;
        let by_turn = if turn > 0.0 { (dt * a_then - area) / turn } else { 0.0 };
        // The derivatives of what comes by what is. Those of the rate and of the frequency are one.
        let offset = [1.0, dt, by_a, by_b, by_turn];
        let first = [0.0, 0.0, cos, -sin, -dt * b_then];
        let second = [0.0, 0.0, sin, cos, dt * a_then];
        let p = self.covariance;
        let applied =
            |row: &Vector| -> Vector { core::array::from_fn(|j| (0..STATES).map(|k| row[k] * p[k][j]).sum()) };
        let half = [applied(&offset), p[R], applied(&first), applied(&second), p[TURN]];
        let across = |i: usize, row: &Vector| -> f64 { half[i].iter().zip(row).map(|(a, b)| a * b).sum() };
        #[allow(clippy::needless_range_loop, reason = "a matrix has indices")]
        for i in 0..STATES {
            for j in i..STATES {
                let element = match j {
                    X => across(i, &offset),
                    A => across(i, &first),
                    B => across(i, &second),
                    _ => half[i][j],
                };
                self.covariance[i][j] = element;
                self.covariance[j][i] = element;
            }
        }
        let square = 0.5 * noise.rate * dt * dt;
        self.covariance[X][X] += square * dt * (2.0 / 3.0);
        self.covariance[X][R] += square;
        self.covariance[R][X] += square;
        self.covariance[R][R] += noise.rate * dt;
        self.covariance[A][A] += noise.cycle * dt;
        self.covariance[B][B] += noise.cycle * dt;
        self.covariance[TURN][TURN] += noise.frequency * dt;
        self.state = [x + r * dt + area, r, a_then, b_then, turn];
    }

    /// Numbers, and variances that are some.
    fn is_sound(&self) -> bool {
        self.evidence.is_finite()
            && self.state.iter().all(|x| x.is_finite())
            && self.variances().iter().all(|&variance| variance >= 0.0)
    }

    fn variances(&self) -> Vector {
        core::array::from_fn(|i| self.covariance[i][i])
    }

    /// Takes in a measured offset `z` of variance `var_z`.
    #[allow(clippy::cast_possible_truncation, reason = "a log likelihood")]
    fn update(&mut self, z: f64, var_z: f64) {
        let row = self.covariance[X];
        let variance = row[X] + var_z;
        let innovation = z - self.state[X];
        let square = innovation * innovation;
        let told = (square / variance).min(GATE * GATE);
        self.evidence -= 0.5 * (libm::log(variance) + told) as f32;
        self.contradicted = if told < GATE * GATE { 0 } else { self.contradicted + 1 };
        if self.contradicted == LASTING {
            // The offset is another one, of another path: of the rate that tells nothing.
            self.contradicted = 0;
            self.state[X] = z;
            for i in 0..STATES {
                (self.covariance[X][i], self.covariance[i][X]) = (0.0, 0.0);
            }
            self.covariance[X][X] = var_z;
            return;
        }
        let precision = 1.0 / variance.max(square / (GATE * GATE));
        for (i, by) in row.into_iter().enumerate() {
            let gain = by * precision;
            self.state[i] += gain * innovation;
            for (element, by) in self.covariance[i].iter_mut().zip(row) {
                *element -= gain * by;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::Span;

    const SCALE: f64 = 1.0;

    fn at(t: f64) -> Timestamp<Local> {
        Timestamp::from_nanos(0).saturating_add(Span::from_secs_f64(t))
    }

    /// A filter for a rate that wanders by some 1e-9 within a second's root.
    fn lead() -> Kalman {
        Kalman::new(1e-18, 0.0, 0.0, 1e-8, 1e-10, 0.0)
    }

    #[allow(clippy::cast_possible_truncation, reason = "a horizon")]
    fn ahead(cycles: &Cycles, t: f64, h: f64) -> Option<Prediction> {
        cycles.ahead(at(t), Line::default(), h as f32, &lead(), SCALE)
    }

    /// Noise of the given deviation, evenly distributed, and the same every time.
    struct Noise(u64, f64);

    impl Noise {
        fn next(&mut self) -> f64 {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let even = (self.0 >> 11) as f64 / (1_u64 << 53) as f64 - 0.5;
            even * libm::sqrt(12.0) * self.1
        }
    }

    /// What exchanges every `poll` s tell until `end`, of a clock whose offset is `truth`, with a noise of 20 us.
    fn heard(truth: impl Fn(f64) -> f64, poll: f64, end: f64) -> Cycles {
        let mut noise = Noise(7, 2e-5);
        let (mut cycles, lead) = (Cycles::new(at(0.0)), lead());
        let mut t = 0.0;
        while t < end {
            let exchange = Exchange { z: truth(t) + noise.next(), half: 0.0, blur: noise.1 * noise.1 };
            cycles.update(at(t), &exchange, &lead, SCALE);
            t += poll;
        }
        cycles
    }

    /// A rate of 0.1 ppm that goes round in `period` s, as an offset.
    fn sine(period: f64) -> impl Fn(f64) -> f64 {
        let w = core::f64::consts::TAU / period;
        move |t| 1e-7 / w * libm::sin(w * t + 1.0)
    }

    #[test]
    fn a_cycle_is_foreseen_whatever_its_period() {
        for period in [1000.0, 1600.0, 2500.0, 3200.0, 3600.0, 5000.0, 6400.0] {
            let truth = sine(period);
            let end = 5.0 * period;
            let cycles = heard(&truth, 16.0, end);
            let h = period / 3.0;
            let said = ahead(&cycles, end, h).unwrap();
            let (missed, swing) =
                (f64::from(said.displacement) - truth(end + h), 1e-7 * period / core::f64::consts::TAU);
            assert!(missed.abs() < 0.4 * swing, "{period} s: off by {missed}, {swing} all in all");
            let rate = (truth(end + h + 1.0) - truth(end + h - 1.0)) / 2.0;
            assert!((f64::from(said.slope) - rate).abs() < 3e-8, "{period} s: {}, not {rate}", said.slope);
            let deviation = libm::sqrt(f64::from(said.variance));
            assert!(deviation < swing && missed.abs() < 4.0 * deviation, "{period} s: {missed} of {deviation}");
        }
    }

    #[test]
    fn of_an_even_rate_there_is_nothing_to_say() {
        for drift in [0.0, 1e-5] {
            let cycles = heard(|t| drift * t, 16.0, 30_000.0);
            assert_eq!(ahead(&cycles, 30_000.0, 1000.0), None);
        }
    }

    #[test]
    fn a_cycle_is_told_by_no_less_than_a_round() {
        let cycles = heard(sine(6000.0), 16.0, 6000.0);
        assert_eq!(ahead(&cycles, 6000.0, 1000.0), None);
    }

    #[test]
    fn who_has_not_been_told_enough_makes_nobody_else_likely() {
        let still = |_| 0.0;
        let mut cycles = heard(still, 16.0, 3000.0);
        // The longest has not gone round once, and yet fits far better than anybody.
        cycles.filters[FILTERS - 1].evidence += 500.0;
        for t in [3200.0, 3400.0] {
            cycles.update(at(t), &Exchange { z: 0.0, half: 0.0, blur: 4e-10 }, &lead(), SCALE);
        }
        assert!(cycles.filters[FILTERS - 1].evidence > cycles.filters[0].evidence + 400.0);
        assert!(cycles.likely < CLEAR, "{}", cycles.likely);
    }

    #[test]
    fn a_cycle_that_begins_after_weeks_is_found_as_well() {
        let (weeks, truth) = (1e6, sine(3400.0));
        let cycles = heard(|t| if t < weeks { 0.0 } else { truth(t - weeks) - truth(0.0) }, 16.0, weeks + 20_000.0);
        assert!(cycles.likely > 0.9, "{}", cycles.likely);
    }

    #[test]
    fn a_step_of_the_offset_is_not_one_of_the_cycle() {
        let truth = sine(3600.0);
        let end = 21_000.0;
        let cycles = heard(|t| truth(t) + if t < 18_000.0 { 0.0 } else { 5e-3 }, 16.0, end);
        let said = ahead(&cycles, end, 900.0).expect("there is a cycle");
        let missed = f64::from(said.displacement) - truth(end + 900.0) - 5e-3;
        assert!(missed.abs() < 2e-5, "{missed}");
    }

    #[test]
    fn rare_exchanges_tell_of_no_cycle_that_they_jump_over() {
        let cycles = heard(sine(1500.0), 1024.0, 200_000.0);
        assert!(cycles.likely < CLEAR, "{}", cycles.likely);
    }

    #[test]
    fn a_constant_and_a_new_reference_change_nothing() {
        let truth = sine(3600.0);
        let end = 14_400.0;
        let mut moved = heard(|t| truth(t) + 1e-4, 16.0, end);
        moved.rebase(1e-4);
        let [plain, moved] =
            [heard(&truth, 16.0, end), moved].map(|cycles| ahead(&cycles, end, 1000.0).unwrap().displacement);
        // The first offset is known to 0.1 ms, and forgotten but for a thousandth.
        assert!((plain - moved).abs() < 1e-6, "{plain}, {moved}");
    }

    #[test]
    fn covariances_stay_positive_for_weeks() {
        let truth = sine(3600.0);
        let cycles = heard(|t| 1e-5 * t + truth(t), 4.0, 3e6);
        for filter in &cycles.filters {
            assert!(filter.is_sound());
            for i in 0..STATES {
                for j in 0..STATES {
                    let [ij, ji] = [filter.covariance[i][j], filter.covariance[j][i]];
                    let limit = libm::sqrt(filter.covariance[i][i] * filter.covariance[j][j]);
                    assert!((ij - ji).abs() <= 1e-9 * limit && ij.abs() <= limit * (1.0 + 1e-6), "{i} {j}: {filter:?}");
                }
            }
        }
    }

    #[test]
    fn whatever_is_measured_they_go_on() {
        let mut cycles = heard(sine(3600.0), 16.0, 20_000.0);
        for (t, z) in [(20_100.0, 9e9), (20_300.0, -9e9), (3e9, 0.0), (6e9, 1.0), (6e9 + 200.0, 1.0)] {
            for half in [0.0, 1e9] {
                cycles.update(at(t), &Exchange { z, half, blur: 1e-30 }, &lead(), SCALE);
            }
            let said = ahead(&cycles, t, 1e9);
            assert!(said.is_none_or(|said| !(said.displacement + said.slope + said.variance).is_nan()), "{said:?}");
        }
        assert!(cycles.filters.iter().all(Cycle::is_sound));
    }
}
