//! Worlds by name, and random ones: which parameters go together and how they are distributed.
//!
//! | quantity | training | held out | source |
//! |---|---|---|---|
//! | rate against nominal | +-60 ppm | +-100 ppm | PC and server counters, +-50 ppm crystals |
//! | XO white FM at 1 s | 3e-11 to 1e-9 | 1e-11 to 3e-9 | NIST SP 1065; Allan deviation 1e-8 or less of TSCs at 100 to 1000 s (Veitch et al., ToN 17(2), 2009) |
//! | XO flicker floor | 3e-11 to 3e-9 | 1e-11 to 6e-9 | same |
//! | XO wander, (s/s)/sqrt(s) | 1e-12 to 1e-9 | 5e-13 to 2e-9 | same; 1e-9 is chrony's own simulated clock |
//! | XO slope at the working temperature, per degree | 1e-8 to 2e-7 | 2e-7 to 4e-7 | AT cuts (Bechmann, 1956) at 30 to 50 degrees |
//! | TCXO slope | 1e-9 to 2e-8 | 2e-8 to 4e-8 | +-0.4 ppm measured over -30 to 85 degrees; data sheets of +-0.28 to 2.5 ppm parts |
//! | OCXO white FM, floor | 1e-12 to 1e-10 | 5e-13 to 3e-10 | NIST SP 1065; data sheets |
//! | ageing a day | XO 1e-8, TCXO 5e-9, OCXO 5e-10 (sd) | twice | data sheets: 1 to 3 ppm in the first year |
//! | day cycle | 0 to 4 degrees | 4 to 7 degrees | see [`super::temperature`] |
//! | people | from 5 to 11 h for 5 to 14 h, 0.3 to 4 degrees, room 10 min to 4 h | the same hours, 4 to 7 degrees | same |
//! | air conditioner | 8 to 40 min, 0.3 to 2 degrees | 41 to 80 min, 0.2 to 3 degrees | same |
//! | heating that circles slowly | 40 to 120 min, 0.2 to 2 degrees | 121 to 180 min | same |
//! | load | 2 min to 2 h, 0.5 to 8 degrees | 3 to 5 h, 2 to 12 degrees | same |
//! | polls | 2, 4 .. 128 s | 3, 6, .. 96 s | NTP's powers of two; other programs' choices |
//! | paths | 30 us to 40 ms one way | 20 us to 120 ms | see [`super::network`] |

use rand::RngExt;
use rand::seq::IndexedRandom;

use super::network::{Direction, ServerParams};
use super::oscillator::{Curve, OscillatorParams, normal};
use super::temperature::{EnvironmentParams, SensorParams};
use super::world::WorldParams;
use super::{Random, stream};

/// Which ranges a random world is drawn from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Split {
    /// What the models are trained on.
    Training,
    /// What training never saw: wider and shifted ranges.
    HeldOut,
}

/// A world by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A crystal in an even room, a server in the same building.
    QuietLan,
    /// A room with an air conditioner, a server in the same building.
    RoomLan,
    /// A warm day and a cool night, a server in the same building.
    DayLan,
    /// The same day over a congested path.
    DayWan,
    /// A room that is warm while people are in it, a server in the same building; no thermometer.
    OfficeLan,
    /// A load that comes and goes, over a path of 18 ms.
    LoadWan,
    /// Switched on cold.
    WarmUp,
    /// Four in five exchanges on a longer way back.
    BimodalWan,
    /// The day behind a path that is 30 ms longer one way for half an hour, and then for half an hour is not.
    DetourWan,
    /// The day behind four servers, each path of a length and an asymmetry of its own.
    ServersWan,
    /// A question every 128 s over a noisy path with outages.
    SparseWan,
    /// A temperature-compensated oscillator in a room.
    TcxoLan,
    /// An oven-controlled oscillator.
    OcxoLan,
    /// A watch crystal on a desk.
    TuningFork,
    /// A virtual machine: the rate steps when it is moved.
    Steps,
    /// No temperature at all: random-walk FM of 1e-9 per root second over 1 ms of exponential jitter.
    Wander,
    /// Drawn from the ranges of this module's table.
    Random(Split),
    /// Drawn from the same, as long as its days, air conditioner or load move the rate more than its noises do in four hours.
    Patterned(Split),
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 20] = [
        Self::QuietLan,
        Self::RoomLan,
        Self::DayLan,
        Self::DayWan,
        Self::OfficeLan,
        Self::LoadWan,
        Self::WarmUp,
        Self::BimodalWan,
        Self::DetourWan,
        Self::ServersWan,
        Self::SparseWan,
        Self::TcxoLan,
        Self::OcxoLan,
        Self::TuningFork,
        Self::Steps,
        Self::Wander,
        Self::Random(Split::Training),
        Self::Random(Split::HeldOut),
        Self::Patterned(Split::Training),
        Self::Patterned(Split::HeldOut),
    ];

    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::QuietLan => "quiet-lan",
            Self::RoomLan => "room-lan",
            Self::DayLan => "day-lan",
            Self::DayWan => "day-wan",
            Self::OfficeLan => "office-lan",
            Self::LoadWan => "load-wan",
            Self::WarmUp => "warm-up",
            Self::BimodalWan => "bimodal-wan",
            Self::DetourWan => "detour-wan",
            Self::ServersWan => "servers-wan",
            Self::SparseWan => "sparse-wan",
            Self::TcxoLan => "tcxo-lan",
            Self::OcxoLan => "ocxo-lan",
            Self::TuningFork => "tuning-fork",
            Self::Steps => "steps",
            Self::Wander => "wander",
            Self::Random(Split::Training) => "random",
            Self::Random(Split::HeldOut) => "held-out",
            Self::Patterned(Split::Training) => "pattern",
            Self::Patterned(Split::HeldOut) => "held-out-pattern",
        }
    }

    /// The kind called `name`.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|k| k.name() == name)
    }

    /// One line for people.
    pub fn describe(self) -> &'static str {
        match self {
            Self::QuietLan => "a crystal in an even room, a server in the same building",
            Self::RoomLan => "an air-conditioned room, a server in the same building",
            Self::DayLan => "a warm day and a cool night, a server in the same building",
            Self::DayWan => "the same day over a congested path of 18 ms",
            Self::OfficeLan => "a room that is warm while people are in it, a server in the same building",
            Self::LoadWan => "a load that comes and goes, over a path of 18 ms",
            Self::WarmUp => "a machine switched on cold",
            Self::BimodalWan => "four in five exchanges on a longer way back",
            Self::DetourWan => "the same day over a path that is 30 ms longer one way half an hour at a time",
            Self::ServersWan => "the same day behind four servers, each path asymmetric by a twentieth or so",
            Self::SparseWan => "a question every 128 s over a noisy path with outages",
            Self::TcxoLan => "a temperature-compensated oscillator in a room",
            Self::OcxoLan => "an oven-controlled oscillator",
            Self::TuningFork => "a watch crystal on a desk",
            Self::Steps => "a virtual machine whose rate steps now and then",
            Self::Wander => "random-walk frequency of 1e-9 per root second, jitter of 1 ms",
            Self::Random(Split::Training) => "drawn from the training ranges",
            Self::Random(Split::HeldOut) => "drawn from ranges that training never saw",
            Self::Patterned(Split::Training) => {
                "a clock ruled by its days, air conditioner or load, from the training ranges"
            }
            Self::Patterned(Split::HeldOut) => {
                "a clock ruled by its days, air conditioner or load, from the other ranges"
            }
        }
    }

    /// The parameters; `seed` matters to the random kinds, and elsewhere to the rate at the start.
    pub fn params(self, seed: u64) -> WorldParams {
        let mut random = stream(seed, "parameters");
        let mut world = match self {
            Self::Random(split) => return random_world(split, &mut random),
            Self::Patterned(split) => return patterned_world(split, &mut random),
            _ => WorldParams {
                oscillator: crystal(),
                environment: EnvironmentParams { mean: 34.0, lag: 180.0, ..Default::default() },
                sensor: board_sensor(),
                servers: vec![lan()],
                step: 4.0,
            },
        };
        let o = &mut world.oscillator;
        let e = &mut world.environment;
        let s = &mut world.servers[0];
        match self {
            Self::QuietLan => e.weather = 0.1,
            Self::RoomLan => (e.conditioner, e.conditioner_period) = (1.5, 1500.0),
            Self::DayLan => (e.day, e.weather) = (3.0, 0.5),
            Self::DayWan => {
                (e.day, e.weather) = (3.0, 0.5);
                *s = wan();
                s.congestion = 3.0;
            }
            Self::OfficeLan => {
                (e.occupied, e.hours, e.room_time, e.weather) = (4.0, (8.0, 18.0), 7200.0, 0.3);
                world.sensor.present = false;
            }
            Self::LoadWan => {
                (e.load, e.load_phase) = (5.0, 1800.0);
                *s = wan();
            }
            Self::WarmUp => (e.warm_up, e.warm_up_time) = (15.0, 1800.0),
            Self::BimodalWan => {
                *s = wan();
                s.forward = Direction { base: 3e-4, queue: 2e-5 };
                s.backward = Direction { base: 3e-4, queue: 2e-5 };
                (s.detour, s.detour_delay, s.detour_spell, s.poll) = (0.8, 2.1e-3, 10.0, 2.0);
            }
            Self::DetourWan => {
                (e.day, e.weather) = (3.0, 0.5);
                *s = wan();
                (s.detour, s.detour_delay, s.detour_spell) = (0.5, 3e-2, 900.0);
            }
            Self::ServersWan => {
                (e.day, e.weather) = (3.0, 0.5);
                world.servers = (0..4).map(|index| far(index, &mut random)).collect();
            }
            Self::SparseWan => {
                *s = wan();
                (s.poll, s.loss, s.outages_per_day, s.outage) = (128.0, 0.05, 4.0, 3600.0);
                s.forward.queue = 2e-3;
                s.backward.queue = 2e-3;
            }
            Self::TcxoLan => {
                o.curve = Curve { reference: 25.0, linear: 5e-9, quadratic: 2e-10, cubic: 0.0 };
                (o.white_fm, o.flicker_fm, o.wander, o.ageing) = (1e-10, 1e-10, 1e-12, 2e-9);
                (e.conditioner, e.conditioner_period) = (1.5, 1500.0);
            }
            Self::OcxoLan => {
                o.curve = Curve { reference: 25.0, linear: 2e-11, quadratic: 0.0, cubic: 0.0 };
                (o.white_fm, o.flicker_fm, o.wander, o.ageing) = (1e-11, 5e-12, 3e-14, 2e-10);
                e.day = 2.0;
                world.sensor.present = false;
            }
            Self::TuningFork => {
                o.curve = Curve::tuning_fork(25.0);
                e.mean = 27.0;
                (e.day, e.weather) = (2.5, 0.5);
            }
            Self::Steps => {
                (o.steps_per_day, o.step) = (4.0, 1e-6);
                world.sensor.present = false;
            }
            Self::Wander => {
                *o = OscillatorParams { wander: 1e-9, ..Default::default() };
                *s = ServerParams {
                    forward: Direction { base: 1e-4, queue: 1e-3 },
                    backward: Direction { base: 1e-4, queue: 1e-3 },
                    ..lan()
                };
                world.sensor.present = false;
            }
            Self::Random(_) | Self::Patterned(_) => {}
        }
        if e.weather > 0.0 && e.weather_time == 0.0 {
            e.weather_time = 40_000.0;
        }
        e.start_of_day = random.random_range(0.0..86_400.0);
        o.rate = random.random_range(-40e-6..40e-6);
        world.step = step_for(&world);
        world
    }
}

/// A crystal oscillator of a PC or a server.
fn crystal() -> OscillatorParams {
    OscillatorParams {
        white_pm: 2e-8,
        white_fm: 2e-10,
        flicker_fm: 3e-10,
        wander: 1e-11,
        ageing: 3e-9,
        curve: Curve::at_cut(-1.2e-7),
        ..Default::default()
    }
}

fn board_sensor() -> SensorParams {
    SensorParams { present: true, noise: 0.02, quantum: 0.0625, lag: 60.0, load_gain: 1.5, ..Default::default() }
}

fn lan() -> ServerParams {
    ServerParams {
        forward: Direction { base: 6e-5, queue: 2.5e-5 },
        backward: Direction { base: 6e-5, queue: 2.5e-5 },
        queues: 1,
        tail: 0.01,
        tail_scale: 3e-4,
        tail_exponent: 2.0,
        loss: 0.001,
        poll: 16.0,
        poll_jitter: 0.02,
        burst: 4,
        root_distance: 3e-5,
        wobble: 1e-6,
        ..Default::default()
    }
}

fn wan() -> ServerParams {
    ServerParams {
        forward: Direction { base: 9e-3, queue: 8e-4 },
        backward: Direction { base: 9.4e-3, queue: 8e-4 },
        queues: 1,
        tail: 0.03,
        tail_scale: 3e-3,
        tail_exponent: 1.7,
        loss: 0.01,
        poll: 16.0,
        poll_jitter: 0.02,
        burst: 4,
        root_distance: 1.5e-3,
        wobble: 5e-5,
        ..Default::default()
    }
}

/// The `index`-th server of several at 4 to 60 ms there and back, with ways that differ by a twentieth of that (one standard deviation).
fn far(index: u8, random: &mut Random) -> ServerParams {
    let base = 2e-3 * 15.0f64.powf(random.random::<f64>());
    let apart = 0.05 * normal(random);
    let mut server = ServerParams { poll: 32.0, first_poll: 3.0 * f64::from(index), ..wan() };
    server.forward.base = base * (1.0 + apart);
    server.backward.base = base * (1.0 - apart);
    server
}

/// The step that resolves the polls and the temperature's lags without wasting time.
fn step_for(world: &WorldParams) -> f64 {
    let poll = world.servers.iter().map(|s| s.poll).fold(f64::INFINITY, f64::min);
    if poll < 8.0 { 2.0 } else { 4.0 }
}

/// Draws from `training` or `held_out` ranges.
struct Draw<'a> {
    split: Split,
    random: &'a mut Random,
}

impl Draw<'_> {
    fn range(&self, training: (f64, f64), held_out: (f64, f64)) -> (f64, f64) {
        if self.split == Split::Training { training } else { held_out }
    }
    /// Evenly between the ends.
    fn even(&mut self, training: (f64, f64), held_out: (f64, f64)) -> f64 {
        let (low, high) = self.range(training, held_out);
        low + (high - low) * self.random.random::<f64>()
    }
    /// Evenly in the logarithm.
    fn log(&mut self, training: (f64, f64), held_out: (f64, f64)) -> f64 {
        let (low, high) = self.range(training, held_out);
        low * (high / low).powf(self.random.random::<f64>())
    }
    fn chance(&mut self, p: f64) -> bool {
        self.random.random::<f64>() < p
    }
    fn sign(&mut self) -> f64 {
        if self.chance(0.5) { 1.0 } else { -1.0 }
    }
}

fn random_world(split: Split, random: &mut Random) -> WorldParams {
    let mut draw = Draw { split, random };
    let (oscillator, working) = random_oscillator(&mut draw);
    let environment = random_environment(&mut draw, working);
    let sensor = random_sensor(&mut draw);
    let server = random_server(&mut draw);
    let mut world = WorldParams { oscillator, environment, sensor, servers: vec![server], step: 0.0 };
    // Drawn last, so that the worlds that have neither are what they were.
    random_habits(&mut draw, &mut world.environment);
    world.step = step_for(&world);
    world
}

/// A random world that has a pattern to learn.
fn patterned_world(split: Split, random: &mut Random) -> WorldParams {
    /// About one in three random worlds has one.
    const TRIES: usize = 256;
    let mut world = random_world(split, random);
    for _ in 0..TRIES {
        if pattern_to_noise(&world) > 1.0 {
            break;
        }
        world = random_world(split, random);
    }
    world
}

/// By how much the regular changes of temperature move the rate, against what its noises do in four hours.
fn pattern_to_noise(world: &WorldParams) -> f64 {
    const HOURS_AHEAD: f64 = 14_400.0;
    let (o, e) = (&world.oscillator, &world.environment);
    let slope = 0.5 * (o.curve.frequency(e.mean + 1.0) - o.curve.frequency(e.mean - 1.0));
    let swing = e.day.max(0.5 * e.occupied).max(0.5 * e.conditioner).max(0.5 * e.load);
    slope.abs() * swing / (o.wander * HOURS_AHEAD.sqrt()).hypot(2.0 * o.flicker_fm)
}

/// An oscillator, and the temperature that it works at.
fn random_oscillator(draw: &mut Draw<'_>) -> (OscillatorParams, f64) {
    let rate = draw.even((-60e-6, 60e-6), (-100e-6, 100e-6));
    let class = draw.random.random::<f64>();
    let mut o = OscillatorParams { rate, white_pm: draw.log((2e-9, 2e-6), (1e-9, 4e-6)), ..Default::default() };
    let mut working = draw.even((28.0, 48.0), (20.0, 55.0));
    let ageing = if draw.split == Split::Training { 1.0 } else { 2.0 } * normal(draw.random);
    if class < 0.62 {
        o.white_fm = draw.log((3e-11, 1e-9), (1e-11, 3e-9));
        o.flicker_fm = draw.log((3e-11, 3e-9), (1e-11, 6e-9));
        o.wander = draw.log((1e-12, 1e-9), (5e-13, 2e-9));
        o.ageing = 1e-8 * ageing;
        let slope = draw.sign() * draw.log((1e-8, 2e-7), (2e-7, 4e-7));
        // The slope where it works is what matters; the cubic is the same for every AT cut.
        let cubic = 1.05e-10;
        let away = working - 26.0;
        o.curve = Curve { reference: 26.0, linear: slope - 3.0 * cubic * away * away, quadratic: 0.0, cubic };
    } else if class < 0.72 {
        o.white_fm = draw.log((1e-10, 2e-9), (5e-11, 4e-9));
        o.flicker_fm = draw.log((1e-10, 3e-9), (5e-11, 6e-9));
        o.wander = draw.log((3e-12, 3e-10), (1e-12, 1e-9));
        o.ageing = 1e-8 * ageing;
        working = draw.even((22.0, 38.0), (15.0, 45.0));
        o.curve = Curve::tuning_fork(25.0 + 2.0 * normal(draw.random));
    } else if class < 0.88 {
        o.white_fm = draw.log((2e-11, 1e-9), (1e-11, 2e-9));
        o.flicker_fm = draw.log((3e-11, 1e-9), (1e-11, 2e-9));
        o.wander = draw.log((3e-13, 3e-11), (1e-13, 1e-10));
        o.ageing = 5e-9 * ageing;
        let slope = draw.sign() * draw.log((1e-9, 2e-8), (2e-8, 4e-8));
        o.curve = Curve { reference: working, linear: slope, quadratic: 2e-10 * normal(draw.random), cubic: 0.0 };
    } else {
        o.white_fm = draw.log((1e-12, 1e-10), (5e-13, 3e-10));
        o.flicker_fm = draw.log((1e-12, 5e-11), (5e-13, 1e-10));
        o.wander = draw.log((1e-15, 1e-12), (5e-16, 3e-12));
        o.ageing = 5e-10 * ageing;
        o.curve = Curve {
            reference: working,
            linear: draw.sign() * draw.log((1e-12, 1e-10), (1e-10, 5e-10)),
            ..Default::default()
        };
    }
    if draw.chance(0.1) {
        o.steps_per_day = draw.log((0.3, 6.0), (1.0, 12.0));
        o.step = draw.log((1e-9, 1e-6), (1e-7, 3e-6));
    }
    // A third of the clocks feel no temperature, or it does not vary: pure noises are worlds too.
    if draw.chance(0.15) {
        o.curve = Curve::default();
    }
    (o, working)
}

fn random_environment(draw: &mut Draw<'_>, working: f64) -> EnvironmentParams {
    let mut e = EnvironmentParams {
        mean: working,
        start_of_day: 86_400.0 * draw.random.random::<f64>(),
        lag: draw.log((20.0, 900.0), (10.0, 1800.0)),
        ..Default::default()
    };
    if draw.chance(0.2) {
        return e;
    }
    if draw.chance(0.55) {
        e.day = draw.log((0.3, 4.0), (4.0, 7.0));
    }
    if draw.chance(0.7) {
        e.weather = draw.log((0.1, 2.0), (0.1, 3.0));
        e.weather_time = draw.log((3_000.0, 150_000.0), (1_500.0, 250_000.0));
    }
    if draw.chance(0.4) {
        e.conditioner = draw.log((0.3, 2.0), (0.2, 3.0));
        e.conditioner_period = draw.log((480.0, 2_400.0), (2_460.0, 4_800.0));
    }
    if draw.chance(0.4) {
        e.load = draw.log((0.5, 8.0), (2.0, 12.0));
        e.load_phase = draw.log((120.0, 7_200.0), (10_800.0, 18_000.0));
        e.load_regularity = if draw.chance(0.4) { 0.95 } else { 0.0 };
    }
    if draw.chance(0.25) {
        e.warm_up = draw.even((3.0, 20.0), (5.0, 30.0));
        e.warm_up_time = draw.log((300.0, 3_600.0), (200.0, 7_200.0));
    }
    if draw.chance(0.2) {
        e.fan = draw.log((0.5, 4.0), (0.5, 6.0));
        e.fan_time = draw.log((600.0, 20_000.0), (300.0, 40_000.0));
    }
    e
}

/// What people do to a room, and heating that circles too slowly to be an air conditioner.
fn random_habits(draw: &mut Draw<'_>, e: &mut EnvironmentParams) {
    if draw.chance(0.2) {
        e.occupied = draw.log((0.3, 4.0), (4.0, 7.0));
        let from = draw.even((5.0, 11.0), (5.0, 11.0));
        e.hours = (from, from + draw.even((5.0, 14.0), (5.0, 14.0)));
        e.room_time = draw.log((600.0, 14_400.0), (600.0, 14_400.0));
    }
    if draw.chance(0.2) {
        e.conditioner = draw.log((0.2, 2.0), (0.2, 2.0));
        e.conditioner_period = draw.log((2_400.0, 7_200.0), (7_260.0, 10_800.0));
    }
}

fn random_sensor(draw: &mut Draw<'_>) -> SensorParams {
    let spells = draw.chance(0.15);
    let quanta = [0.0, 0.001, 0.03125, 0.0625, 0.25, 0.5, 1.0];
    SensorParams {
        present: draw.chance(0.65),
        offset: 2.0 * normal(draw.random),
        noise: draw.log((0.003, 0.2), (0.002, 0.5)),
        quantum: quanta.choose(draw.random).copied().unwrap_or(0.0),
        lag: draw.log((2.0, 600.0), (1.0, 1200.0)),
        load_gain: draw.log((0.5, 5.0), (0.3, 8.0)),
        stuck_every: if spells && draw.chance(0.5) { 40_000.0 } else { 0.0 },
        absent_every: if spells { 30_000.0 } else { 0.0 },
        spell: 3_000.0,
    }
}

fn random_server(draw: &mut Draw<'_>) -> ServerParams {
    let polls = if draw.split == Split::Training {
        [2.0, 4.0, 8.0, 8.0, 16.0, 16.0, 16.0, 16.0, 32.0, 32.0, 32.0, 64.0, 64.0, 64.0, 128.0, 128.0]
    } else {
        [3.0, 6.0, 10.0, 12.0, 12.0, 20.0, 20.0, 24.0, 24.0, 40.0, 48.0, 48.0, 50.0, 80.0, 96.0, 96.0]
    };
    let poll = polls.choose(draw.random).copied().unwrap_or(16.0);
    let near = draw.chance(0.45);
    let (base, queue) = if near {
        (draw.log((3e-5, 5e-4), (2e-5, 1e-3)), draw.log((2e-6, 1.5e-4), (1e-6, 3e-4)))
    } else {
        (draw.log((1e-3, 4e-2), (1e-3, 0.12)), draw.log((5e-5, 2e-3), (3e-5, 4e-3)))
    };
    let asymmetry = if draw.chance(0.5) { 0.0 } else { 0.05 * normal(draw.random) };
    let skew = (0.3 * normal(draw.random)).exp();
    let mut s = ServerParams {
        forward: Direction { base: base * (1.0 + asymmetry).clamp(0.5, 1.5), queue: queue * skew },
        backward: Direction { base: base * (1.0 - asymmetry).clamp(0.5, 1.5), queue: queue / skew },
        queues: draw.random.random_range(1..=3),
        poll,
        poll_jitter: draw.even((0.0, 0.1), (0.0, 0.15)),
        burst: if draw.chance(0.7) { draw.random.random_range(2..=8) } else { 0 },
        loss: if draw.chance(0.5) { draw.log((1e-3, 0.1), (1e-3, 0.3)) } else { 0.0 },
        root_distance: if near { draw.log((1e-6, 5e-4), (1e-6, 1e-3)) } else { draw.log((2e-4, 2e-2), (2e-4, 5e-2)) },
        ..Default::default()
    };
    s.wobble = s.root_distance * draw.log((1e-3, 0.05), (1e-3, 0.1));
    if draw.chance(0.7) {
        s.tail = draw.log((0.003, 0.1), (0.003, 0.2));
        s.tail_scale = queue * draw.log((2.0, 20.0), (2.0, 40.0));
        s.tail_exponent = draw.even((1.3, 3.0), (1.1, 3.0));
    }
    if draw.chance(0.35) {
        s.congestion = draw.log((0.3, 5.0), (1.0, 10.0));
        s.congestion_peak = 86_400.0 * draw.random.random::<f64>();
    }
    if draw.chance(0.15) {
        s.detour = draw.even((0.1, 0.9), (0.05, 0.95));
        s.detour_delay = draw.sign() * base * draw.log((0.1, 3.0), (0.05, 4.0));
        s.detour_spell = draw.log((4.0, 7_200.0), (2.0, 14_400.0));
    }
    if draw.chance(0.15) {
        s.route_changes_per_day = draw.log((0.5, 6.0), (0.5, 12.0));
        s.route_change = base * draw.log((0.02, 0.5), (0.02, 1.0));
    }
    if draw.chance(0.25) {
        s.outages_per_day = draw.log((0.5, 6.0), (1.0, 10.0));
        s.outage = draw.log((300.0, 7_200.0), (300.0, 14_400.0));
    }
    s
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_found_again() {
        for kind in Kind::ALL {
            assert_eq!(Kind::from_name(kind.name()), Some(kind));
        }
    }

    #[test]
    fn patterned_worlds_have_a_pattern() {
        for split in [Split::Training, Split::HeldOut] {
            let random = (0..400).filter(|&s| pattern_to_noise(&Kind::Random(split).params(s)) > 1.0).count();
            assert!((60..300).contains(&random), "{split:?}: {random} of 400 random worlds");
            assert!((0..400).all(|s| pattern_to_noise(&Kind::Patterned(split).params(s)) > 1.0), "{split:?}");
        }
    }

    #[test]
    fn held_out_worlds_leave_the_training_ranges() {
        let slopes = |split| (0..400).map(|s| Kind::Random(split).params(s)).collect::<Vec<_>>();
        assert!(slopes(Split::Training).iter().all(|w| w.environment.day <= 4.0));
        assert!(slopes(Split::HeldOut).iter().filter(|w| w.environment.day > 4.0).count() > 100);
        let training: Vec<f64> = slopes(Split::Training).iter().map(|w| w.servers[0].poll).collect();
        assert!(slopes(Split::HeldOut).iter().all(|w| !training.contains(&w.servers[0].poll)));
    }
}
