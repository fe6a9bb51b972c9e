//! What the oscillator is doing: a bank of Kalman filters and the classical extrapolations built on them.
//!
//! **Model.** Nobody knows in advance how fast a given oscillator wanders: quartz in a closet and quartz beside a busy
//! processor differ by eight decades. So `F` filters run side by side, one per assumed wander, and a second row of `T` filters
//! also learns the rate's response to temperature. None of them is chosen here: each is an *expert* whose forecasts are
//! judged, per horizon, by [`crate::fusion`].
//!
//! **Experts**, in the order of their indices:
//! 1. `F` lines, one per wander;
//! 2. `T` lines with temperature held at its present value, then the same `T` with temperature returning to its mean, then
//!    with temperature following its trend for a while; half of the `T` take the crystal to lag behind the thermometer;
//! 3. hold: the present offset stays, or moves at the leading filter's rate as far as that is significant;
//! 4. mean reversion: the rate returns to its average over several time constants;
//! 5. damped drift: the rate moves on away from its average, as fast as it has, and comes to rest;
//! 6. the daily pattern, once more than a day is known;
//! 7. the cycle, while there is one (`cycle.rs`);
//! 8. the models' medians (filled in by the pipeline).
//!
//! **Numerics.** Offsets inside are f64 seconds relative to an integer-nanosecond reference, moved along so that no digits are
//! lost however long the clock runs. What an expert says is f32, as its distance from the base line: seven digits of that
//! are some of its nanoseconds' thousandths.

mod cycle;
pub mod exchange;
mod family;
pub mod kalman;

pub use family::{Family, experts, stacked};

use core::ops::{Add, Div, Mul, Sub};

use cycle::Cycles;
use exchange::Exchange;
use family::drifts;
use kalman::{Kalman, Step};

use crate::decay::forgotten;
use crate::evidence;
use crate::units::{Local, Offset, Span, Timestamp, limited};

/// Time constants of the rate's averages, in units of the time scale.
const AVERAGES: [f32; 3] = [3600.0, 14400.0, 86400.0];
/// In what time the rate returns to each average, one expert each: [`Returns`] of that index.
const REVERSIONS: [usize; AVERAGES.len()] = [4, 0, 1];
/// A drift is reckoned from each of the first averages, and comes to rest in half its time: [`Returns`] of that index. A rate that
/// drifts evenly is ahead of its average by what it drifts in the average's time.
const DRIFTS: [usize; 2] = [3, 1];
const DRIFT_LASTS: f32 = 0.5;
/// Time constant of the temperature's average, s.
const TEMPERATURE_AVERAGE: f32 = 4800.0;
/// What the temperature does in a forecast, one expert each: the share of its distance from its mean that it moves on, and the
/// time constant of that, as a share of the average's. A ramp is ahead of its mean by what it rises in the average's time, so the
/// third of these goes on at its slope, and comes to an end.
const WAYS: [(f32, f32); 3] = [(0.0, 1.0), (-1.0, 0.5), (0.35, 0.35)];
/// How far a crystal is behind the thermometer, as a time constant, s: the mass of its board, less that of the sensor.
const LAG: f32 = 150.0;
/// Share of the temperature's distance from its mean that it may move either way in the average's time, unforeseen.
const UNSURE: f32 = 0.5;
const DAY: f64 = 86400.0;

/// Horizons below this are left to the filters, s.
const SOON: f32 = 200.0;

/// A thermometer that has said nothing for so long has to be met anew; and what changes by more within that time, in degrees, is first
/// taken for an error of it. A power-on value (85 degrees, of a common kind) is further away, and a crystal follows its room in minutes.
const MUTE: Span = Span::from_secs(900);
const JUMP: f32 = 8.0;

/// A rate of this variance, (s/s)^2, and any that is better known, counts as one in the daily pattern.
const KNOWN: f64 = 1e-14;

/// Experts that hold the present offset: as it is, and with a rate only as far as it is significant.
const HOLDS: usize = 2;
/// Experts per temperature filter.
const PER_TEMPERATURE: usize = WAYS.len();

/// Which of `filters` temperature filters take the crystal to be behind the thermometer: every other one, but never all.
const fn lags(index: usize, filters: usize) -> bool {
    filters > 1 && index & 1 == 0
}

/// Offset beyond the base line at a horizon, its slope there, and the variance the expert claims.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Prediction {
    /// Beyond the base line, s.
    pub displacement: f32,
    /// Slope beyond the base line's rate, s/s.
    pub slope: f32,
    /// Claimed variance, s^2.
    pub variance: f32,
}

/// The line that predictions are displacements from.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Line {
    /// Offset at the present, s relative to the bank's reference.
    pub x: f64,
    /// Rate, s/s.
    pub r: f64,
}

/// The filters and averages: `F` filters, `T` that learn the response to temperature, `R` mean-reversion experts (at most 3, and
/// the drifts that their averages tell), a daily pattern in `Y` bins (none: no such expert) and `W` that look for a cycle, one or none.
#[derive(Clone, Debug)]
pub struct Bank<const F: usize = 12, const T: usize = 4, const R: usize = 3, const Y: usize = 48, const W: usize = 1> {
    plain: [Kalman; F],
    warm: [Kalman; T],
    /// Which plain filter the averages and the base line follow.
    lead: usize,
    reference: Offset,
    at: Timestamp<Local>,
    temperature: Option<Warmth>,
    averages: [Average<f64>; AVERAGES.len()],
    /// None, where there is no room for them.
    cycles: [Cycles; W],
    day: Day<Y>,
    scale: f32,
}

/// The temperature, relative to the first one seen.
#[derive(Clone, Copy, Debug)]
struct Warmth {
    zero: f64,
    /// When it was last told, and whether a jump has been refused since.
    told: Timestamp<Local>,
    jumped: bool,
    now: f32,
    /// The same, of what is [`LAG`] behind the thermometer.
    lagging: f32,
    mean: Average<f32>,
}

impl Warmth {
    const fn new(zero: f64, told: Timestamp<Local>) -> Self {
        Self { zero, told, jumped: false, now: 0.0, lagging: 0.0, mean: Average { sum: 0.0, weight: 0.0 } }
    }

    /// The thermometer says `temperature` at `at`, `dt` s after the last sample.
    #[allow(clippy::cast_possible_truncation, reason = "what is said under Numerics")]
    fn observe(&mut self, at: Timestamp<Local>, temperature: f64, dt: f32, scale: f32) {
        let now = (temperature - self.zero) as f32;
        let jump = now - self.now;
        let silent = at.since(self.told);
        // A thermometer that has lost its power for a moment says something wild, once.
        self.jumped = !self.jumped && silent < MUTE && !(-JUMP..=JUMP).contains(&jump);
        if self.jumped {
            return;
        }
        self.told = at;
        if silent > MUTE && silent.as_secs_f64() as f32 > 4.0 * dt {
            // What it did unseen the filters have put down to the oscillator's wander.
            self.zero += f64::from(jump);
        } else {
            self.now = now;
        }
        let dt = dt.max(1e-3);
        self.lagging += (self.now - self.lagging) * forgotten(dt, LAG * scale);
        self.mean.add(self.now, forgotten(dt, TEMPERATURE_AVERAGE * scale), 1.0);
    }

    /// The temperature that temperature filter `index` of `filters` goes by.
    const fn felt(&self, index: usize, filters: usize) -> f32 {
        if lags(index, filters) { self.lagging } else { self.now }
    }
}

/// An exponentially weighted mean that is unbiased from the start.
#[derive(Clone, Copy, Debug, Default)]
struct Average<V> {
    sum: V,
    weight: V,
}

impl<V> Average<V>
where
    V: Copy + Default + PartialOrd + From<f32> + Add<Output = V> + Sub<Output = V> + Mul<Output = V> + Div<Output = V>,
{
    /// `forgotten` is the share of the past that is; `importance` the weight of this value.
    fn add(&mut self, value: V, forgotten: f32, importance: V) {
        let forgotten = V::from(forgotten);
        let (keep, new) = (V::from(1.0) - forgotten, importance * forgotten);
        self.sum = self.sum * keep + value * new;
        self.weight = self.weight * keep + new;
    }
    fn mean(&self) -> Option<V> {
        (self.weight > V::default()).then(|| self.sum / self.weight)
    }
}

/// Mean rate by time of day.
#[derive(Clone, Debug)]
struct Day<const Y: usize> {
    bins: [Average<f64>; Y],
    known: f64,
    /// The usual interval between exchanges, s.
    spacing: f64,
}

#[allow(clippy::cast_possible_truncation, reason = "what is said under Numerics")]
impl<const F: usize, const T: usize, const R: usize, const Y: usize, const W: usize> Bank<F, T, R, Y, W> {
    /// A bank started by the first sample: offset `z` of variance `var_z` at `at`. `rate` is that of the oscillator as far as it
    /// is known beforehand, and its variance.
    pub fn new(at: Timestamp<Local>, z: Offset, var_z: f64, rate: (f64, f64), scale: f64) -> Self {
        let (r, var_r) = rate;
        let filter = |q, qk: f32, var_k| Kalman::new(q, qk, 0.0, var_z, var_r, var_k).with_rate(r);
        Self {
            plain: core::array::from_fn(|i| filter(wander_power(i, F, scale), 0.0, 0.0)),
            warm: core::array::from_fn(|i| filter(wander_power(i, T, scale), 1e-21 / scale as f32, 1e-14)),
            lead: F / 2,
            reference: z,
            at,
            temperature: None,
            averages: [Average::default(); AVERAGES.len()],
            day: Day { bins: [Average::default(); Y], known: 0.0, spacing: 0.0 },
            cycles: core::array::from_fn(|_| Cycles::new(at)),
            scale: scale as f32,
        }
    }

    /// Keeps what the bank `before` knew of the oscillator's days and means: that its offset has been lost is no news of them.
    pub fn inherit(&mut self, before: &Self) {
        if R + Y > 0 {
            self.day = before.day.clone();
            self.averages = before.averages;
        }
    }

    /// When the last sample was.
    pub const fn at(&self) -> Timestamp<Local> {
        self.at
    }

    /// The integer offset that all f64 offsets are relative to.
    pub const fn reference(&self) -> Offset {
        self.reference
    }

    /// Makes filter `lead` the one that the averages and the base line follow.
    pub fn set_lead(&mut self, lead: usize) {
        if lead < F {
            self.lead = lead;
        }
    }

    /// Whether there is a cycle to speak of.
    pub fn sees_cycle(&self) -> bool {
        self.cycles.iter().any(Cycles::is_likely)
    }

    /// The base line of the present.
    pub const fn line(&self) -> Line {
        let lead = &self.plain[self.lead];
        Line { x: lead.x, r: lead.r }
    }

    /// Variances of the base line's offset and rate.
    pub const fn line_variance(&self) -> (f64, f64) {
        let lead = &self.plain[self.lead];
        (lead.var_x(), lead.var_r())
    }

    /// Standard deviations of the base line's offset, s, and rate, s/s.
    pub fn line_deviation(&self) -> (f32, f32) {
        let (var_x, var_r) = self.line_variance();
        (libm::sqrtf(var_x as f32), libm::sqrtf(var_r as f32))
    }

    /// Time passes up to `at`, where a sample was made at `temperature`.
    pub fn advance(&mut self, at: Timestamp<Local>, temperature: Option<f64>) {
        let dt = at.since(self.at).as_secs_f64().max(0.0);
        self.at = at;
        let before = self.temperature.map(|w| [w.now, w.lagging]);
        if temperature.is_some() && self.temperature.is_none() {
            self.warm_up();
        }
        if let Some(now) = temperature {
            self.temperature.get_or_insert(Warmth::new(now, at)).observe(at, now, dt as f32, self.scale);
        }
        let now = self.temperature.map_or([0.0; 2], |w| [w.now, w.lagging]);
        let before = before.unwrap_or(now);
        // The mean temperature meanwhile, as it is and as it is felt behind.
        let mean = [0, 1].map(|which| f64::from(0.5 * (before[which] + now[which])));
        let step = Step::new(dt);
        for filter in &mut self.plain {
            filter.predict(&step, 0.0);
        }
        if self.temperature.is_some() {
            for (index, filter) in self.warm.iter_mut().enumerate() {
                filter.predict(&step, mean[usize::from(lags(index, T))]);
            }
        }
        if dt > 0.0 {
            // Weighted by its precision, so that the guesses of a young filter do not linger in the averages.
            let rate = self.plain[self.lead].r;
            let precision = 1.0 / self.plain[self.lead].var_r().max(1e-30);
            for (average, tau) in self.averages.iter_mut().zip(AVERAGES).take(R) {
                average.add(rate, forgotten(dt as f32, tau * self.scale), precision);
            }
            self.day.add(at, rate, dt, precision, f64::from(self.scale));
        }
    }

    /// The first temperature: the filters that learn from it have seen nothing of the time before, and begin where the leading
    /// filter is.
    fn warm_up(&mut self) {
        let lead = self.plain[self.lead];
        for filter in &mut self.warm {
            filter.begin_at(&lead);
        }
    }

    /// Takes in what an exchange says of the time advanced to.
    pub fn update(&mut self, exchange: &Exchange) {
        for cycles in &mut self.cycles {
            cycles.update(self.at, exchange, &self.plain[self.lead], f64::from(self.scale));
        }
        for filter in &mut self.plain {
            filter.confine(exchange);
        }
        if self.temperature.is_some() {
            for filter in &mut self.warm {
                filter.confine(exchange);
            }
        }
    }

    /// Moves the reference when the offset has grown so far that digits could be lost; returns the shift in s.
    pub fn rebase(&mut self) -> Option<f64> {
        let x = self.plain[self.lead].x;
        if x.abs() < 0.25 {
            return None;
        }
        let moved = Offset::from_secs_f64(x);
        self.reference = self.reference.saturating_add(moved.since(Offset::ZERO));
        let shift = moved.as_secs_f64();
        for filter in self.plain.iter_mut().chain(&mut self.warm) {
            filter.rebase(shift);
        }
        for cycles in &mut self.cycles {
            cycles.rebase(shift);
        }
        Some(shift)
    }

    /// What the experts say about `h` seconds after the present, told to `say` with their indices. Who is not mentioned has
    /// nothing to say; about the present itself that is all who share a filter with another one.
    pub fn extrapolate(&self, h: f32, mut say: impl FnMut(usize, Prediction)) {
        let line = self.line();
        for (index, filter) in self.plain.iter().enumerate() {
            say(index, relative(line, filter, 0.0, 0.0, h));
        }
        self.follow_temperature(line, h, |index, said| say(F + index, said));
        if h == 0.0 {
            return;
        }
        // What follows are variations on the leading filter.
        let (lead, first) = (&self.plain[self.lead], F + T * PER_TEMPERATURE);
        for (index, rate) in [0.0, significant(lead)].into_iter().enumerate() {
            let change = (rate - lead.r) as f32;
            say(first + index, relative(line, lead, change * h, change, h));
        }
        // And these differ from it only later.
        if h < SOON * self.scale {
            return;
        }
        let first = first + HOLDS;
        let returns = Returns::after(h, self.scale);
        for (index, (average, time)) in self.averages.iter().zip(REVERSIONS).enumerate().take(R) {
            let Some(mean) = average.mean() else { continue };
            let (moved, change) = returns.towards((mean - lead.r) as f32, time);
            say(first + index, relative(line, lead, moved, change, h));
        }
        let first = first + R;
        for (index, (average, time)) in self.averages.iter().zip(DRIFTS).enumerate().take(drifts(R)) {
            let Some(mean) = average.mean() else { continue };
            let (moved, change) = returns.towards(DRIFT_LASTS * (lead.r - mean) as f32, time);
            say(first + index, relative(line, lead, moved, change, h));
        }
        let first = first + drifts(R);
        if let Some((area, then)) = self.day.change(self.at, f64::from(h), f64::from(self.scale)) {
            say(first, relative(line, lead, area as f32, then as f32, h));
        }
        let first = first + usize::from(Y > 0);
        for cycles in &self.cycles {
            if let Some(said) = cycles.ahead(self.at, line, h, lead, f64::from(self.scale)) {
                say(first, said);
            }
        }
    }

    /// The lines that follow the temperature, each in every way that it may go on.
    fn follow_temperature(&self, line: Line, h: f32, mut say: impl FnMut(usize, Prediction)) {
        let Some(warmth) = self.temperature else { return };
        let away = warmth.now - warmth.mean.mean().unwrap_or(warmth.now);
        let average = TEMPERATURE_AVERAGE * self.scale;
        let unsure = UNSURE * away * h * h / (h + average);
        // What lags catches up meanwhile.
        let late = LAG * self.scale;
        let caught_up = forgotten(h, late);
        let ways = if h == 0.0 { 1 } else { WAYS.len() };
        for (way, (share, time)) in WAYS.into_iter().enumerate().take(ways) {
            let (tau, move_on) = (time * average, share * away);
            let moved = if share == 0.0 { 0.0 } else { forgotten(h, tau) };
            // Integral of the temperature over the horizon, and where it ends.
            let area = warmth.now * h + move_on * (h - tau * moved);
            let then = warmth.now + move_on * moved;
            for (index, filter) in self.warm.iter().enumerate() {
                let (k, behind) = (filter.k as f32, warmth.felt(index, T) - warmth.now);
                let (area, then) = (area + behind * late * caught_up, then + behind * (1.0 - caught_up));
                let said = relative(line, filter, k * area, k * then, h);
                let variance = said.variance + k * unsure * (k * unsure);
                say(way * T + index, Prediction { variance, ..said });
            }
        }
    }

    /// The log weights of all `E` experts before any of them has been scored: real crystals wander by some 1e-17.5 (s/s)^2/s,
    /// give or take a few decades (Allan deviations of 1e-10 to 1e-8 at an hour).
    pub fn prior<const E: usize>() -> [f32; E] {
        const PER_DECADE: f64 = 0.3;
        const USUAL: f64 = -17.5;
        core::array::from_fn(|i| {
            if i >= F {
                return 0.0;
            }
            (-PER_DECADE * (wander_decade(i, F) - USUAL).abs()) as f32
        })
    }

    /// The first expert from which on none has something to say about `h` seconds after the present, for a time scale of one.
    pub fn silent_from(h: f64) -> usize {
        if h <= 0.0 {
            F + T
        } else if h < f64::from(SOON) {
            F + T * PER_TEMPERATURE + HOLDS
        } else {
            experts(F, T, R, Y, W)
        }
    }

    /// What each expert's evidence must overcome at every horizon, as a log weight. A line that follows the filter has the benefit
    /// of the doubt; holding still would spoil every free-running clock for as long as nobody has seen it fail. The models are weighed
    /// elsewhere and stand here for experts of which nothing is known. A cycle, which says nothing as a rule, is heard by its share alone.
    /// What is as steady as an oven is rare, and whatever is steady enough for now all filters of that kind foresee alike: together they would
    /// count twice.
    pub fn handicap<const E: usize>() -> [f32; E] {
        const STEADY: f32 = -0.5;
        const HOLD: f32 = -4.0;
        const STACKED: f32 = -3.0;
        const REVERSION: f32 = -1.3;
        let first = F + T * PER_TEMPERATURE;
        let holds = first..first + HOLDS;
        core::array::from_fn(|i| match i {
            i if i < const { as_steady_as_an_oven(F) } => STEADY,
            i if holds.contains(&i) => HOLD,
            i if i >= E - 2 - W => STACKED,
            i if i >= holds.end => REVERSION,
            _ => 0.0,
        })
    }
}

impl<const Y: usize> Day<Y> {
    #[allow(clippy::cast_possible_truncation, reason = "a share that is forgotten")]
    fn add(&mut self, at: Timestamp<Local>, rate: f64, dt: f64, precision: f64, scale: f64) {
        if Y == 0 {
            return;
        }
        let usual = self.spacing;
        self.spacing = if usual > 0.0 { usual + (dt.min(4.0 * usual) - usual) / 16.0 } else { dt };
        // After an outage the rate is still the one from before it, hours ago.
        if dt * Y as f64 > DAY * scale && dt > 4.0 * usual {
            return;
        }
        self.known += dt;
        let bin = self.bin_at(at, 0.0, scale);
        // What the rate was guessed to be at first is no part of the pattern.
        let importance = (KNOWN * precision).min(1.0);
        self.bins[bin].add(rate, forgotten((dt * Y as f64) as f32, (1.5 * DAY * scale) as f32), importance);
    }

    fn bin_at(&self, at: Timestamp<Local>, h: f64, scale: f64) -> usize {
        let day = DAY * scale;
        let seconds = at.as_nanos() as f64 * 1e-9 + h;
        let phase = seconds / day - libm::floor(seconds / day);
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "phase is in [0, 1)")]
        let bin = (phase * Y as f64) as usize;
        bin.min(Y - 1)
    }

    /// Integral over the horizon of the pattern's change of rate since now, and that change at its end.
    fn change(&self, at: Timestamp<Local>, h: f64, scale: f64) -> Option<(f64, f64)> {
        if Y == 0 || self.known < 1.1 * DAY * scale {
            return None;
        }
        let now = self.bins[self.bin_at(at, 0.0, scale)].mean()?;
        let width = DAY * scale / Y as f64;
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped")]
        let steps = limited(h / width, 1.0, 2.0 * Y as f64) as usize;
        let step = h / steps as f64;
        let (mut area, mut then) = (0.0, 0.0);
        for i in 0..steps {
            then = self.bins[self.bin_at(at, (i as f64 + 0.5) * step, scale)].mean()? - now;
            area += then * step;
        }
        Some((area, then))
    }
}

/// What a rate that changes exponentially has changed after some time, for five time constants: each half the one before.
struct Returns {
    longest: f32,
    h: f32,
    gone: [f32; 5],
}

impl Returns {
    const LONGEST: f32 = 14_400.0;

    /// After `h` seconds; `scale` stretches the time constants.
    fn after(h: f32, scale: f32) -> Self {
        let longest = Self::LONGEST * scale;
        let mut gone = [forgotten(h, longest); 5];
        for i in 1..gone.len() {
            // exp(-2x) is the square of exp(-x).
            gone[i] = gone[i - 1] * (2.0 - gone[i - 1]);
        }
        Self { longest, h, gone }
    }

    /// How far the offset and the rate are when the rate goes to `change` with time constant `time`.
    fn towards(&self, change: f32, time: usize) -> (f32, f32) {
        let (tau, gone) = (self.longest / (1_u32 << time) as f32, self.gone[time]);
        (change * (self.h - tau * gone), change * gone)
    }
}

/// The rate shrunk towards none by what chance explains of it (James and Stein 1961): a clock that somebody already disciplines
/// has no rate to extrapolate.
fn significant(f: &Kalman) -> f64 {
    let square = f.r * f.r;
    if square > 0.0 { f.r * (1.0 - 4.0 * f.var_r() / square).max(0.0) } else { 0.0 }
}

/// What filter `f` says `h` seconds on, its line being bent by `moved` until then and by `change` of slope.
#[allow(clippy::cast_possible_truncation, reason = "what is said under Numerics")]
fn relative(line: Line, f: &Kalman, moved: f32, change: f32, h: f32) -> Prediction {
    let (apart, slope) = ((f.x - line.x) as f32, (f.r - line.r) as f32);
    Prediction { displacement: apart + slope * h + moved, slope: slope + change, variance: f.var_at(h) }
}

/// The assumed random-walk powers: from 1e-26 to 1e-15 (s/s)^2/s spread over the bank, in a small bank at most 3.1 decades apart,
/// with more of the range left out below than above; shorter time scales wander more. Below 1e-24 there are oven-controlled oscillators, and
/// rates that go round and round in a room and come to nothing: behind exchanges that are good to a microsecond, a filter of 1e-24
/// looks back over less than an hour.
///
/// A filter whose assumption is more than a decade off either lags or follows the noise, and a few filters spread over
/// everything are all far off most oscillators.
#[allow(clippy::cast_possible_truncation, reason = "an assumption, on a grid of decades")]
fn wander_power(index: usize, filters: usize, scale: f64) -> f32 {
    let power = evidence::exp(core::f32::consts::LN_10 * wander_decade(index, filters) as f32);
    power / scale as f32
}

/// How many of them are below 1e-24.
const fn as_steady_as_an_oven(filters: usize) -> usize {
    let mut count = 0;
    while count < filters && wander_decade(count, filters) < -24.0 {
        count += 1;
    }
    count
}

/// Their decimal logarithms, before scaling.
const fn wander_decade(index: usize, filters: usize) -> f64 {
    const DECADES: (f64, f64) = (-26.0, 11.0);
    const WIDEST: f64 = 3.1;
    const LEFT_OUT_BELOW: f64 = 2.0 / 3.0;
    let steps = filters.saturating_sub(1) as f64;
    let step = if filters > 1 { (DECADES.1 / steps).min(WIDEST) } else { 0.0 };
    let first = DECADES.0 + LEFT_OUT_BELOW * (DECADES.1 - step * steps);
    first + step * index as f64
}
