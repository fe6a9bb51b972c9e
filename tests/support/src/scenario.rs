//! What happens in one run: the world, the servers' conduct, the faults and their instants, all from one seed.

use chronotick_core::leap::LeapSecond;
use chronotick_core::sample::SourceId;
use chronotick_host::sim::kinds::{Kind, Split};
use chronotick_host::sim::network::{Conduct, ServerParams};
use chronotick_host::sim::stream;
use chronotick_host::sim::world::WorldParams;
use rand::RngExt;

use crate::wire::Wiring;

use crate::answers::Answers;

/// Families of scenarios; each is a row of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Family {
    /// One honest server whose path hides nothing but a constant asymmetry, a world from the training ranges: here the 95 %
    /// interval has to keep its word.
    Honest,
    /// The same from ranges that nothing was tuned on.
    HeldOut,
    /// One honest server whose own error, routes and queues hide what no estimator can see: bounds only.
    Hidden,
    /// The same, and the server's claimed budget is far above the delay and used to its end.
    Budget,
    /// Three to five servers, a minority of them wrong in some way.
    Minority,
    /// Half of the servers or more are wrong: no bound can be promised, and the tier has to say so.
    Majority,
    /// The worker answers in every way that a worker can.
    Worker,
    /// Exchanges arrive twice, late, out of order, or with nonsense in them.
    Faults,
    /// The daemon crashes and is started again; the machine is suspended.
    Restarts,
    /// A minute before or after the instants at which formats overflow.
    Epochs,
    /// Three to five servers behind the daemon's own NTP client: kisses of death, leap seconds, forged packets.
    Wire,
    /// All of it at random.
    Chaos,
}

impl Family {
    /// All of them.
    pub const ALL: [Self; 12] = [
        Self::Honest,
        Self::HeldOut,
        Self::Hidden,
        Self::Budget,
        Self::Minority,
        Self::Majority,
        Self::Worker,
        Self::Faults,
        Self::Restarts,
        Self::Epochs,
        Self::Wire,
        Self::Chaos,
    ];

    /// For tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Honest => "honest",
            Self::HeldOut => "held-out",
            Self::Hidden => "hidden",
            Self::Budget => "budget",
            Self::Minority => "minority",
            Self::Majority => "majority",
            Self::Worker => "worker",
            Self::Faults => "faults",
            Self::Restarts => "restarts",
            Self::Epochs => "epochs",
            Self::Wire => "wire",
            Self::Chaos => "chaos",
        }
    }

    /// Whether the 95 % interval and the choice among the experts are held to their laws here: nothing is hidden from an
    /// estimator, and nothing lies, breaks or answers nonsense.
    pub fn is_plain(self) -> bool {
        matches!(self, Self::Honest | Self::HeldOut)
    }

    /// The family of `seed`: they take turns.
    pub fn of(seed: u64) -> Self {
        let count = Self::ALL.len() as u64;
        Self::ALL[usize::try_from(seed % count).unwrap_or(0)]
    }
}

/// How exchanges are mistreated on their way to the core: the chance of each.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Faults {
    /// Delivered twice.
    pub twice: f64,
    /// Delivered up to 10 s late.
    pub late: f64,
    /// A temperature that is no number.
    pub temperature: f64,
    /// A negative delay.
    pub delay: f64,
    /// A negative root distance.
    pub root_distance: f64,
    /// Stamped an hour in the future.
    pub future: f64,
}

/// What interrupts the run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Interruption {
    /// The daemon dies and is started again, without what it knew.
    Crash,
    /// The machine sleeps for so many seconds: its counter stands still.
    Suspend(f64),
}

/// One run.
#[derive(Clone, Debug, PartialEq)]
pub struct Scenario {
    /// Reruns it.
    pub seed: u64,
    /// Its row of the table.
    pub family: Family,
    /// The physics.
    pub world: WorldParams,
    /// Length, in s.
    pub seconds: f64,
    /// UTC when the local clock shows the start of the world, in ns since 1970.
    pub utc: i64,
    /// What happens to exchanges.
    pub faults: Faults,
    /// What the worker does.
    pub answers: Answers,
    /// When, in s, and what.
    pub interruptions: Vec<(f64, Interruption)>,
    /// The servers are asked by the daemon's NTP client, with packets; else exchanges fall from the sky.
    pub wiring: Option<Wiring>,
    /// A majority of the servers keeps to its budget, so the hard bound is promised.
    pub promised: bool,
}

const SECOND: i64 = 1_000_000_000;
/// Unix times at which formats turn over: 1970, NTP era 1 (2036), 32-bit signed (2038), 32-bit unsigned (2106), and two
/// days before 64-bit nanoseconds end (2262).
pub const EDGES: [i64; 5] = [0, 2_085_978_496, 2_147_483_648, 4_294_967_296, i64::MAX / SECOND - 2 * 86_400];

/// Whether a server tells the truth as long as it says anything.
pub(crate) const fn is_honest(conduct: Conduct) -> bool {
    matches!(conduct, Conduct::Honest | Conduct::Silent { .. })
}

impl Scenario {
    /// The run that `seed` stands for, `hours` long.
    pub fn new(seed: u64, hours: f64) -> Self {
        Self::of_family(Family::of(seed), seed, hours)
    }

    /// Whether `source` tells the truth as long as it says anything.
    pub fn is_honest(&self, source: SourceId) -> bool {
        self.world.servers.get(usize::from(source.0)).is_some_and(|server| is_honest(server.conduct))
    }

    /// What no exchange can tell from the offset, s. Of one server its asymmetry; several servers together can tell some of it, and are
    /// judged by the truth.
    pub fn unseen(&self) -> f64 {
        match &self.world.servers[..] {
            [only] => only.unseen(),
            _ => 0.0,
        }
    }

    /// The run of a given family.
    pub fn of_family(family: Family, seed: u64, hours: f64) -> Self {
        let mut random = stream(seed, "scenario");
        let seconds = 3600.0 * hours;
        let split = match family {
            Family::HeldOut => Split::HeldOut,
            Family::Hidden | Family::Budget | Family::Chaos if random.random_bool(0.5) => Split::HeldOut,
            _ => Split::Training,
        };
        let mut scenario = Self {
            seed,
            family,
            world: Kind::Random(split).params(seed),
            seconds,
            utc: 1_750_000_000 * SECOND,
            faults: Faults::default(),
            answers: Answers::None,
            interruptions: Vec::new(),
            wiring: None,
            promised: true,
        };
        let chaos = family == Family::Chaos;
        if family.is_plain() {
            hide_nothing(&mut scenario.world.servers[0]);
        }
        if family == Family::Budget {
            use_the_budget(&mut scenario.world.servers[0], random.random_range(0.5..2.0));
        }
        if family == Family::Wire {
            scenario.draw_wiring();
        }
        if chaos || family == Family::Wire || family == Family::Minority || family == Family::Majority {
            scenario.draw_servers(family == Family::Majority || (chaos && random.random_bool(0.3)));
        }
        if family == Family::Worker || (chaos && random.random_bool(0.7)) {
            scenario.answers = Answers::ALL[random.random_range(0..Answers::ALL.len())];
        }
        if family == Family::Faults || (chaos && random.random_bool(0.7)) {
            let mut chance = || if random.random_bool(0.6) { random.random_range(0.0..0.1) } else { 0.0 };
            scenario.faults = Faults {
                twice: chance(),
                late: chance(),
                temperature: chance(),
                delay: chance(),
                root_distance: chance(),
                future: chance(),
            };
        }
        if family == Family::Restarts || (chaos && random.random_bool(0.5)) {
            for _ in 0..random.random_range(1..4) {
                let at = random.random_range(600.0..seconds.max(700.0));
                let what = if random.random_bool(0.5) {
                    Interruption::Crash
                } else {
                    Interruption::Suspend(random.random_range(1.0..30_000.0))
                };
                scenario.interruptions.push((at, what));
            }
            scenario.interruptions.sort_by(|a, b| a.0.total_cmp(&b.0));
        }
        if family == Family::Epochs || (chaos && random.random_bool(0.2)) {
            let edge = EDGES[random.random_range(0..EDGES.len())];
            let before: f64 = random.random_range(0.0..seconds);
            // What is beyond the end of 64-bit nanoseconds cannot be said.
            let before = if edge == EDGES[4] { before.max(seconds - 86_400.0) } else { before };
            #[expect(clippy::cast_possible_truncation, reason = "hours in nanoseconds")]
            let before = (before * 1e9) as i64;
            scenario.utc = edge * SECOND - before;
        }
        scenario
    }

    /// A hundred years, one exchange in six hours: edge `era` of the calendar is crossed on the way.
    pub fn century(seed: u64, era: usize) -> Self {
        const CENTURY: f64 = 100.0 * 365.25 * 86_400.0;
        let mut scenario = Self::of_family(Family::Honest, seed, CENTURY / 3600.0);
        scenario.family = Family::Epochs;
        // In a hundred years only an oscillator that somebody looks after stays within its maximum.
        let oscillator = &mut scenario.world.oscillator;
        (oscillator.ageing, oscillator.steps_per_day, oscillator.wander) = (0.0, 0.0, oscillator.wander.min(1e-11));
        let server = &mut scenario.world.servers[0];
        (server.poll, server.outages_per_day) = (6.0 * 3600.0, 0.01);
        scenario.world.step = 3600.0;
        let edge = EDGES[era % EDGES.len()];
        // The end of 64-bit nanoseconds is approached, the others are crossed half way.
        #[expect(clippy::cast_possible_truncation, reason = "a century in seconds")]
        let before = if edge == EDGES[4] { CENTURY } else { CENTURY / 2.0 } as i64;
        scenario.utc = (edge - before) * SECOND;
        scenario
    }

    /// A bad network for packets, and midnight somewhere in the run.
    fn draw_wiring(&mut self) {
        let mut random = stream(self.seed, "wiring");
        let mut chance = || if random.random_bool(0.6) { random.random_range(0.0..0.1) } else { 0.0 };
        let (rate, unsynchronised, twice) = (chance() / 4.0, chance(), chance());
        let (replayed, forged, rubbish) = (chance(), chance(), chance());
        let leaps = [None, Some(LeapSecond::Insert), Some(LeapSecond::Delete)];
        self.wiring = Some(Wiring {
            interleaved: random.random_bool(0.5),
            rate,
            deny_from: if random.random_bool(0.3) { random.random_range(0.0..self.seconds) } else { 0.0 },
            unsynchronised,
            twice,
            replayed,
            forged,
            rubbish,
            leap: leaps[random.random_range(0..leaps.len())],
            false_leaps: random.random_bool(0.5),
        });
        // Leap seconds come at the end of a month, so the run begins in its last hours.
        const JULY_2025: i64 = 1_751_328_000 * SECOND;
        #[expect(clippy::cast_possible_truncation, reason = "hours in nanoseconds")]
        let before = (random.random_range(0.3..0.9) * self.seconds.min(80_000.0) * 1e9) as i64;
        self.utc = JULY_2025 - before;
    }

    /// Three to five servers, `bad` of them wrong: a minority, or at least half.
    fn draw_servers(&mut self, most_are_bad: bool) {
        let mut random = stream(self.seed, "servers");
        let count: usize = random.random_range(3..=5);
        let bad = if most_are_bad {
            random.random_range(count.div_ceil(2)..=count)
        } else {
            random.random_range(1..=(count - 1) / 2)
        };
        let first = self.world.servers[0];
        self.world.servers = (0..count)
            .map(|index| {
                let mut server =
                    Kind::Random(Split::Training).params(self.seed ^ ((index as u64 + 1) << 40)).servers[0];
                // All asked as often, or the busiest would be most of the evidence.
                server.poll = first.poll;
                server.burst = first.burst;
                server
            })
            .collect();
        for server in &mut self.world.servers[..bad] {
            let sign = if random.random_bool(0.5) { 1.0 } else { -1.0 };
            // From just beyond its own budget to seconds.
            let budget = server.root_distance + server.forward.base + server.backward.base + server.forward.queue;
            let by = sign * budget * 10f64.powf(random.random_range(0.3..4.0));
            let from = random.random_range(0.0..self.seconds);
            server.conduct = match random.random_range(0..4) {
                0 => Conduct::Wrong(by),
                1 => Conduct::Drifting { from, rate: by / 3600.0 },
                2 => Conduct::Stepping { from, by },
                _ => Conduct::Silent { from, until: from + 7200.0 },
            };
        }
        // Anybody may speak first.
        self.world.servers.rotate_left(random.random_range(0..count));
        for (index, server) in self.world.servers.iter_mut().enumerate() {
            server.first_poll = 0.3 * index as f64;
        }
        let lying = self
            .world
            .servers
            .iter()
            .filter(|s| !matches!(s.conduct, Conduct::Honest | Conduct::Silent { .. }))
            .count();
        self.promised = 2 * lying < count;
    }
}

/// Leaves the path a constant asymmetry, which every error is counted from, and noise that exchanges show: no error of the
/// server's own, no second route, no queue that is longer one way.
fn hide_nothing(server: &mut ServerParams) {
    (server.wobble, server.detour, server.route_changes_per_day) = (0.0, 0.0, 0.0);
    let queue = (server.forward.queue * server.backward.queue).sqrt();
    (server.forward.queue, server.backward.queue) = (queue, queue);
}

/// A budget of 10^`magnitude` ways out, and an error that is at one of its ends most of the time.
fn use_the_budget(server: &mut ServerParams, magnitude: f64) {
    server.root_distance = server.forward.base.max(server.backward.base) * 10f64.powf(magnitude);
    server.wobble = 5.0 * server.root_distance;
}
