//! Worlds in virtual time, with everything that can go wrong in them, and the laws that hold all the same.
//!
//! ```text
//! cargo test -p chronotick-tests --test world                       what once failed, 200 seeds of 6 hours, four centuries
//! cargo test -p chronotick-tests --test world -- --seed 17          one of them, in full, twice
//! cargo test -p chronotick-tests --test world -- world              the nightly campaign: 10,000 seeds of 6 hours
//! cargo test -p chronotick-tests --test world -- day                24 hours, the families where nothing is hidden
//! cargo test -p chronotick-tests --test world -- soak               30 days, every family
//! cargo test -p chronotick-tests --test world -- chaos              2,000 seeds with all faults at random
//! cargo test -p chronotick-tests --test world -- speed              how fast one node's time passes on one core
//! cargo test -p chronotick-tests --test world -- century            100 years with one exchange in six hours, every edge
//! ```
//!
//! `--seeds N`, `--first N`, `--hours H` and `--family NAME` change any of them; `--details N` adds where the pooled laws
//! come from, and the N runs in which the fusion did worst. Add `--release` for the long ones.

use std::process::ExitCode;
use std::time::Instant;

use chronotick_tests::campaign::{Campaign, campaign};
use chronotick_tests::details::details;
use chronotick_tests::laws::Law;
use chronotick_tests::outcome::HORIZONS;
use chronotick_tests::regressions::REGRESSIONS;
use chronotick_tests::run::run;
use chronotick_tests::scenario::{EDGES, Family, Scenario};
use chronotick_tests::supervised::resident_mb;

/// What is run, by its name on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Plan {
    /// What continuous integration does.
    Short,
    World,
    Day,
    Soak,
    Chaos,
    Century,
    Speed,
}

struct Options {
    plan: Plan,
    seed: Option<u64>,
    first: u64,
    seeds: Option<u64>,
    hours: Option<f64>,
    family: Option<Family>,
    details: Option<usize>,
    listed: bool,
    /// Another test is meant.
    filtered: bool,
}

impl Options {
    /// Takes what it knows and leaves the test harness's own options alone: `cargo test` passes them to every test.
    fn parse() -> Result<Self, String> {
        let mut options = Self {
            plan: Plan::Short,
            seed: None,
            first: 0,
            seeds: None,
            hours: None,
            family: None,
            details: None,
            listed: false,
            filtered: false,
        };
        let mut arguments = std::env::args().skip(1);
        while let Some(argument) = arguments.next() {
            let mut number = || -> Result<f64, String> {
                let text = arguments.next().ok_or(format!("{argument} needs a number"))?;
                text.parse().map_err(|_| format!("{argument}: {text} is no number"))
            };
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "saturates, which is fine for a seed"
            )]
            match argument.as_str() {
                "--seed" => options.seed = Some(number()? as u64),
                "--first" => options.first = number()? as u64,
                "--seeds" => options.seeds = Some(number()? as u64),
                "--details" => options.details = Some(number()? as usize),
                "--hours" => options.hours = Some(number()?),
                "--family" => {
                    let name = arguments.next().unwrap_or_default();
                    let family = Family::ALL.into_iter().find(|f| f.name() == name);
                    options.family = Some(family.ok_or(format!("no family called {name}"))?);
                }
                // The harness's options that take a value.
                "--test-threads" | "--skip" | "--color" | "--format" | "--logfile" | "--shuffle-seed" => {
                    let _ = arguments.next();
                }
                "--list" => options.listed = true,
                "world" => options.plan = Plan::World,
                "day" => options.plan = Plan::Day,
                "soak" => options.plan = Plan::Soak,
                "chaos" => options.plan = Plan::Chaos,
                "speed" => options.plan = Plan::Speed,
                "century" => options.plan = Plan::Century,
                name => options.filtered |= !name.starts_with('-'),
            }
        }
        Ok(options)
    }

    fn hours(&self) -> f64 {
        self.hours.unwrap_or(match self.plan {
            Plan::Day => 24.0,
            Plan::Soak => 720.0,
            Plan::Speed => 240.0,
            _ => 6.0,
        })
    }

    fn seeds(&self) -> u64 {
        self.seeds.unwrap_or(match self.plan {
            Plan::Short => 200,
            Plan::World => 10_000,
            Plan::Day => 100,
            Plan::Soak => Family::ALL.len() as u64,
            Plan::Chaos => 2_000,
            Plan::Century => EDGES.len() as u64,
            Plan::Speed => 12,
        })
    }

    fn family(&self) -> Option<Family> {
        self.family.or((self.plan == Plan::Chaos).then_some(Family::Chaos))
    }

    fn scenario(&self, seed: u64) -> Scenario {
        match self.family() {
            _ if self.plan == Plan::Century => {
                Scenario::century(seed, usize::try_from(seed % EDGES.len() as u64).unwrap_or(0))
            }
            Some(family) => Scenario::of_family(family, seed, self.hours()),
            None if self.plan == Plan::Day => {
                let family = if seed.is_multiple_of(2) { Family::Honest } else { Family::HeldOut };
                Scenario::of_family(family, seed, self.hours())
            }
            None => Scenario::new(seed, self.hours()),
        }
    }

    /// How to see one seed of this again.
    fn again(&self, seed: u64) -> String {
        let plan = match self.plan {
            Plan::Century => "century ",
            Plan::Day => "day ",
            _ => "",
        };
        let family = self.family().map(|f| format!(" --family {}", f.name())).unwrap_or_default();
        format!("cargo test -p chronotick-tests --test world -- {plan}--seed {seed} --hours {}{family}", self.hours())
    }
}

fn main() -> ExitCode {
    let options = match Options::parse() {
        Ok(options) => options,
        Err(problem) => {
            eprintln!("world: {problem}");
            return ExitCode::from(2);
        }
    };
    if options.listed {
        println!("world: test");
        return ExitCode::SUCCESS;
    }
    if options.filtered {
        return ExitCode::SUCCESS;
    }
    if let Some(seed) = options.seed {
        return one(&options.scenario(seed));
    }
    if options.plan == Plan::Speed {
        return speed(&options);
    }
    let mut sound = regressions();
    sound &= many(&options);
    if options.plan == Plan::Short && options.seeds.is_none() {
        sound &= many(&Options { plan: Plan::Century, first: 0, seeds: None, hours: None, family: None, ..options });
    }
    if sound { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// One seed, twice: all that was seen, and that it is the same both times.
fn one(scenario: &Scenario) -> ExitCode {
    println!("{scenario:#?}");
    let outcome = run(scenario);
    for (h, tally) in HORIZONS.iter().zip(&outcome.tallies) {
        let n = f64::from(tally.count);
        println!(
            "horizon {h:>6} s: {:>4} judged, rmse {:>10.2} us, inside {:.3}, width {:>10.2} us, most {:>10.2} us at {:.0} s{}",
            tally.count,
            (tally.squares / n).sqrt() * 1e6,
            f64::from(tally.inside) / n,
            tally.width / n * 1e6,
            tally.largest.0 * 1e6,
            tally.largest.1,
            tally.best().map_or(String::new(), |(expert, squares)| {
                format!(", expert {expert}: {:.2} us", (squares / n).sqrt() * 1e6)
            })
        );
    }
    for violation in &outcome.violations {
        println!("broken: {} at {:.0} s: {}", violation.law, violation.at, violation.detail);
    }
    println!(
        "{} samples, {} broken, largest error {:.2} of what its exchanges allow, digest {:016x}",
        outcome.samples, outcome.violated, outcome.strain, outcome.digest
    );
    if run(scenario) != outcome {
        println!("broken: the same seed gave another run");
        return ExitCode::FAILURE;
    }
    if outcome.violated == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// One node after the other on this thread, no models: how much faster than real time, by the processor time that it took.
fn speed(options: &Options) -> ExitCode {
    const PROMISED: f64 = 100_000.0;
    let now = || {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
        time.tv_sec as f64 + 1e-9 * time.tv_nsec as f64
    };
    println!("| seed | an exchange every | exchanges | virtual days | processor time | times real time |");
    println!("|---|---|---|---|---|---|");
    let (mut virtual_time, mut took) = (0.0, 0.0);
    for seed in options.first..options.first + options.seeds() {
        let scenario = Scenario::of_family(options.family.unwrap_or(Family::Honest), seed, options.hours());
        let started = now();
        let outcome = run(&scenario);
        let passed = now() - started;
        let (days, poll) = (scenario.seconds / 86_400.0, scenario.world.servers[0].poll);
        let times = scenario.seconds / passed;
        println!("| {seed} | {poll:.0} s | {} | {days:.0} | {passed:.2} s | {times:.0} |", outcome.samples);
        (virtual_time, took) = (virtual_time + scenario.seconds, took + passed);
    }
    println!("\nall of them: {:.0} times real time on one core, without forecasters", virtual_time / took);
    if virtual_time / took < PROMISED { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// What once failed.
fn regressions() -> bool {
    let mut sound = true;
    for (family, seed, hours, what) in REGRESSIONS {
        for violation in run(&Scenario::of_family(family, seed, hours)).violations {
            sound = false;
            println!("{}: 1 seeds; again: --seed {seed} --family {}, where once {what}", violation.law, family.name());
        }
    }
    sound
}

fn many(options: &Options) -> bool {
    let started = Instant::now();
    let seeds = options.seeds();
    // Runs that last show whether memory grows with time: after the first and after the last it is about the same.
    let long = matches!(options.plan, Plan::Soak | Plan::Century) && seeds > 1;
    let after_the_first = if long {
        let _ = run(&options.scenario(options.first));
        resident_mb()
    } else {
        0.0
    };
    let campaign = campaign(options.first, seeds, |seed| options.scenario(seed));
    let grown = if long { resident_mb() - after_the_first } else { 0.0 };
    let took = started.elapsed().as_secs_f64();
    let judged = options.plan != Plan::Century;
    if judged {
        println!("error / inside 95 % / width over error / error over best expert, geometric means over runs\n");
        print!("{}", campaign.table());
        println!();
        if let Some(worst) = options.details {
            println!("{}", details(&campaign, worst));
        }
    }
    println!(
        "{:?}: {seeds} seeds of {:.0} h in {took:.0} s: {:.0} times real time on two threads, {} exchanges; largest error \
         with fresh measurements {:.2} of what its exchanges allow (seed {})",
        options.plan,
        campaign.seconds / seeds as f64 / 3600.0,
        campaign.seconds / took,
        campaign.samples,
        campaign.strain.0,
        campaign.strain.1
    );
    report(options, &campaign);
    let mut sound = campaign.violated == 0;
    // The limits are those of six hours from nothing.
    let pooled = if judged && options.hours() >= 6.0 { campaign.broken() } else { Vec::new() };
    for (law, detail) in &pooled {
        println!("{law}: {seeds} seeds; again: all of them: {detail}");
    }
    sound &= pooled.is_empty();
    if long {
        println!("resident memory grew by {grown:.1} MB after the first run");
        if grown > 16.0 {
            println!("{}: {seeds} seeds; again: all of them", Law::Memory);
            sound = false;
        }
    }
    sound
}

fn report(options: &Options, campaign: &Campaign) {
    for (seed, violation) in campaign.violations.iter().take(20) {
        println!("seed {seed}: broken: {} at {:.0} s: {}", violation.law, violation.at, violation.detail);
    }
    for (law, (seeds, seed)) in campaign.laws() {
        println!("{law}: {seeds} seeds; again: {}", options.again(seed));
    }
}
