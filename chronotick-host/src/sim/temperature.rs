//! The temperature of a crystal in its room, and what a sensor says about it.
//!
//! The air is a mean plus a day cycle (with a second harmonic, and an amplitude that differs from day to day), what the people in
//! the room add from the morning to the evening (a building follows with a lag of its own), slow weather (an Ornstein-Uhlenbeck
//! process) and the saw of an air conditioner between two thresholds. The board is the air plus the
//! heat of a load that switches on and off, plus the warm-up after switching on, less what the fan takes away; both follow
//! with first-order lags. A crystal sits on the board with a lag of its own.
//!
//! Sources: lags of seconds for a die, minutes for a board and its crystal, and swings of 1 to 4 degrees for the air of
//! rooms with a thermostat (ASHRAE Guideline 36 allows about 1 degree either side of the set point; offices drift by more at
//! night, towards the outside with time constants of an hour to a day, ISO 13790); the sensors' steps are those of common parts (1 degree for CPU packages, 1/16 for board sensors, 1/1000 as the
//! kernel prints them).

use std::f64::consts::TAU;

use rand::RngExt;

use super::Random;
use super::oscillator::normal;

const DAY: f64 = 86_400.0;

/// A room and a machine in it. All zero is a constant temperature of 0 degrees.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct EnvironmentParams {
    /// Mean of the air, in degrees Celsius.
    pub mean: f64,
    /// Half the swing of the day cycle, in degrees.
    pub day: f64,
    /// Local time of day at the start, in s.
    pub start_of_day: f64,
    /// How much warmer the room becomes while people are in it, in degrees.
    pub occupied: f64,
    /// Hours of the local day from and until when they are; each day's differ by a quarter of an hour (standard deviation).
    pub hours: (f64, f64),
    /// Time constant of the room, in s.
    pub room_time: f64,
    /// Standard deviation of the slow weather, in degrees.
    pub weather: f64,
    /// Its correlation time, in s.
    pub weather_time: f64,
    /// Swing of the air conditioner from threshold to threshold, in degrees.
    pub conditioner: f64,
    /// Its mean period, in s.
    pub conditioner_period: f64,
    /// Heating by the load when it is on, at the crystal, in degrees.
    pub load: f64,
    /// Mean length of an on or an off phase of the load, in s.
    pub load_phase: f64,
    /// 1: the load's phases have equal lengths (a timer); 0: exponential lengths (people).
    pub load_regularity: f64,
    /// How much colder the machine is when it is switched on, in degrees.
    pub warm_up: f64,
    /// Time constant of the warm-up, in s.
    pub warm_up_time: f64,
    /// What a change of the fan's speed moves, in degrees.
    pub fan: f64,
    /// Mean time between such changes, in s.
    pub fan_time: f64,
    /// Lag of the crystal behind its surroundings, in s.
    pub lag: f64,
}

/// What a sensor makes of the temperature.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct SensorParams {
    /// Whether there is one.
    pub present: bool,
    /// Constant error, in degrees.
    pub offset: f64,
    /// Standard deviation of a reading's noise, in degrees.
    pub noise: f64,
    /// Smallest step, in degrees; 0 for none.
    pub quantum: f64,
    /// Lag behind the surroundings, in s.
    pub lag: f64,
    /// How strongly it feels the load compared with the crystal (1: alike; CPU sensors feel it several times as much).
    pub load_gain: f64,
    /// Mean time between spells in which it repeats its last value, in s; 0 for never.
    pub stuck_every: f64,
    /// Mean time between spells in which it yields nothing, in s; 0 for never.
    pub absent_every: f64,
    /// Mean length of such spells, in s.
    pub spell: f64,
}

/// A room, a machine and a sensor under way, advanced in steps of fixed length.
#[derive(Clone, Debug)]
pub struct Environment {
    params: EnvironmentParams,
    sensor: SensorParams,
    random: Random,
    step: f64,
    time: f64,
    weather: f64,
    people: People,
    day_scale: f64,
    conditioner: f64,
    conditioner_slope: f64,
    load_on: bool,
    load_left: f64,
    fan: f64,
    crystal: f64,
    sensed: f64,
    stuck_for: f64,
    absent_for: f64,
    held: f64,
}

impl Environment {
    /// At its start, to be advanced in steps of `step` seconds.
    pub fn new(params: EnvironmentParams, sensor: SensorParams, step: f64, mut random: Random) -> Self {
        let weather = params.weather * normal(&mut random);
        let mut this = Self {
            params,
            sensor,
            step,
            time: 0.0,
            weather,
            people: People::default(),
            day_scale: 1.0,
            conditioner: (random.random::<f64>() - 0.5) * params.conditioner,
            conditioner_slope: 1.0,
            load_on: false,
            load_left: 0.0,
            fan: 0.0,
            crystal: 0.0,
            sensed: 0.0,
            stuck_for: 0.0,
            absent_for: 0.0,
            held: f64::NAN,
            random,
        };
        this.load_left = this.load_phase();
        this.crystal = this.air() - params.warm_up;
        this.sensed = this.crystal;
        this
    }

    /// Temperature of the crystal, in degrees Celsius.
    pub fn crystal(&self) -> f64 {
        self.crystal
    }

    /// Lets one step pass.
    pub fn advance(&mut self) {
        let d = self.step;
        self.time += d;
        let p = self.params;
        if p.weather > 0.0 {
            let decay = (-d / p.weather_time.max(d)).exp();
            self.weather = decay * self.weather + p.weather * (1.0 - decay * decay).sqrt() * normal(&mut self.random);
        }
        self.people.advance(&p, self.time, d, &mut self.random);
        if (self.time % DAY) < d {
            self.day_scale = (1.0 + 0.25 * normal(&mut self.random)).clamp(0.3, 1.7);
        }
        self.advance_conditioner(d);
        if p.load > 0.0 {
            self.load_left -= d;
            if self.load_left <= 0.0 {
                self.load_on = !self.load_on;
                self.load_left = self.load_phase();
            }
        }
        if p.fan > 0.0 && self.random.random::<f64>() < d / p.fan_time.max(d) {
            self.fan = -p.fan * self.random.random::<f64>();
        }
        let heat = if self.load_on { p.load } else { 0.0 };
        let warming = p.warm_up * (-self.time / p.warm_up_time.max(1.0)).exp();
        let around = self.air() + self.fan - warming;
        self.crystal += (around + heat - self.crystal) * (1.0 - (-d / p.lag.max(1e-3)).exp());
        let near_sensor = around + heat * self.sensor.load_gain;
        self.sensed += (near_sensor - self.sensed) * (1.0 - (-d / self.sensor.lag.max(1e-3)).exp());
        self.stuck_for = (self.stuck_for - d).max(self.new_spell(self.sensor.stuck_every));
        self.absent_for = (self.absent_for - d).max(self.new_spell(self.sensor.absent_every));
    }

    /// What the sensor says now, in degrees Celsius, if it says anything.
    pub fn reading(&mut self) -> Option<f64> {
        if !self.sensor.present || self.absent_for > 0.0 {
            return None;
        }
        if self.stuck_for <= 0.0 || self.held.is_nan() {
            let value = self.sensed + self.sensor.offset + self.sensor.noise * normal(&mut self.random);
            self.held = if self.sensor.quantum > 0.0 {
                (value / self.sensor.quantum).round() * self.sensor.quantum
            } else {
                value
            };
        }
        Some(self.held)
    }

    fn air(&self) -> f64 {
        let p = &self.params;
        let phase = TAU * (self.time + p.start_of_day) / DAY;
        // Warmest in the middle of the afternoon; the second harmonic makes mornings steeper than evenings.
        let day = (phase - TAU * 15.0 / 24.0).cos() + 0.2 * (2.0 * phase - TAU * 5.0 / 24.0).cos();
        p.mean + p.day * self.day_scale * day + self.people.warmth + self.weather + self.conditioner
    }

    /// A saw between two thresholds, each crossing of which is a little late or early.
    fn advance_conditioner(&mut self, d: f64) {
        let p = self.params;
        if p.conditioner <= 0.0 {
            return;
        }
        // Cooling takes a third of the period, drifting back two thirds.
        let share = if self.conditioner_slope > 0.0 { 2.0 / 3.0 } else { 1.0 / 3.0 };
        self.conditioner += self.conditioner_slope * p.conditioner * d / (share * p.conditioner_period.max(4.0 * d));
        if self.conditioner * self.conditioner_slope.signum() > p.conditioner / 2.0 {
            self.conditioner_slope =
                -self.conditioner_slope.signum() * (1.0 + 0.1 * normal(&mut self.random)).clamp(0.6, 1.6);
        }
    }

    fn load_phase(&mut self) -> f64 {
        let random = -(1.0 - self.random.random::<f64>()).ln();
        self.params.load_phase * (self.params.load_regularity + (1.0 - self.params.load_regularity) * random)
    }

    /// Length of a spell of misbehaviour that begins in this step, else 0.
    fn new_spell(&mut self, every: f64) -> f64 {
        if every > 0.0 && self.random.random::<f64>() < self.step / every {
            -self.sensor.spell * (1.0 - self.random.random::<f64>()).ln()
        } else {
            0.0
        }
    }
}

/// What the people in a room add.
#[derive(Clone, Copy, Debug, Default)]
struct People {
    /// Degrees.
    warmth: f64,
    /// The local day, and by how many hours they are late in it, in the morning and in the evening.
    today: i64,
    late: [f64; 2],
}

impl People {
    /// `d` seconds have passed, and `time` since the start.
    fn advance(&mut self, p: &EnvironmentParams, time: f64, d: f64, random: &mut Random) {
        if p.occupied <= 0.0 {
            return;
        }
        let days = (time + p.start_of_day) / DAY;
        #[expect(clippy::cast_possible_truncation, reason = "a number of days")]
        let today = days.floor() as i64 + 1;
        if self.today != today {
            self.today = today;
            self.late = [0.25 * normal(random), 0.25 * normal(random)];
        }
        let hour = 24.0 * days.fract();
        let present = hour >= p.hours.0 + self.late[0] && hour < p.hours.1 + self.late[1];
        let towards = if present { p.occupied } else { 0.0 };
        self.warmth += (towards - self.warmth) * (1.0 - (-d / p.room_time.max(d)).exp());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::stream;

    fn crystal(params: EnvironmentParams, seconds: usize) -> Vec<f64> {
        let mut environment = Environment::new(params, SensorParams::default(), 1.0, stream(3, "temperature"));
        (0..seconds)
            .map(|_| {
                environment.advance();
                environment.crystal()
            })
            .collect()
    }

    fn range(values: &[f64]) -> f64 {
        let fold = |f: fn(f64, f64) -> f64| values.iter().copied().reduce(f).unwrap_or(f64::NAN);
        fold(f64::max) - fold(f64::min)
    }

    #[test]
    fn the_air_conditioner_keeps_its_swing_and_period() {
        let params =
            EnvironmentParams { mean: 22.0, conditioner: 2.0, conditioner_period: 600.0, ..Default::default() };
        let t = crystal(params, 36_000);
        assert!((1.9..2.2).contains(&range(&t)));
        let rises = t.windows(2).filter(|w| w[0] < 22.0 && w[1] >= 22.0).count();
        assert!((50..70).contains(&rises), "{rises} periods in 60 nominal ones");
    }

    #[test]
    fn a_lag_follows_and_a_warm_up_ends() {
        let params =
            EnvironmentParams { mean: 30.0, warm_up: 10.0, warm_up_time: 900.0, lag: 60.0, ..Default::default() };
        let t = crystal(params, 9_000);
        assert!(t[0] < 20.5 && (29.9..30.1).contains(&t[8_999]));
        assert!(t.is_sorted());
    }

    #[test]
    fn people_warm_the_room_while_they_are_in_it() {
        let params = EnvironmentParams { occupied: 3.0, hours: (8.0, 18.0), room_time: 3600.0, ..Default::default() };
        let t = crystal(params, 2 * 86_400);
        let at = |hours: usize| t[hours * 3600 - 1];
        assert!(at(7) < 0.01 && at(17) > 2.9 && (0.3..1.0).contains(&at(20)), "{} {} {}", at(7), at(17), at(20));
        assert!((at(41) - at(17)).abs() < 0.1, "the next day is another one like it");
    }

    #[test]
    fn a_sensor_quantises_sticks_and_falls_silent() {
        let sensor = SensorParams {
            present: true,
            quantum: 0.5,
            stuck_every: 500.0,
            absent_every: 500.0,
            spell: 100.0,
            ..Default::default()
        };
        let params = EnvironmentParams { mean: 20.0, day: 5.0, ..Default::default() };
        let mut environment = Environment::new(params, sensor, 1.0, stream(4, "temperature"));
        let mut silent = 0;
        for _ in 0..20_000 {
            environment.advance();
            match environment.reading() {
                Some(value) => assert_eq!(value * 2.0, (value * 2.0).round()),
                None => silent += 1,
            }
        }
        assert!((1_000..10_000).contains(&silent), "{silent}");
    }
}
