//! Worlds in virtual time, with everything that can go wrong in them, and the laws that hold all the same.
//!
//! ```text
//! cargo test -p chronotick-tests --test world                       200 seeds of 6 hours
//! cargo test -p chronotick-tests --test world -- --seed 17          one of them, in full
//! cargo test -p chronotick-tests --test world -- --seeds 10000      the nightly campaign
//! cargo test -p chronotick-tests --test world -- --family chaos --seeds 500
//! cargo test -p chronotick-tests --test world -- --hours 720 --seeds 4     a soak
//! ```

use std::process::ExitCode;
use std::time::Instant;

use chronotick_tests::campaign::campaign;
use chronotick_tests::run::{HORIZONS, run};
use chronotick_tests::scenario::{Family, Scenario};

struct Options {
    seed: Option<u64>,
    first: u64,
    seeds: u64,
    hours: f64,
    family: Option<Family>,
    listed: bool,
}

impl Options {
    /// Takes what it knows and leaves the test harness's own options alone: `cargo test` passes them to every test.
    fn parse() -> Result<Self, String> {
        let mut options = Self { seed: None, first: 0, seeds: 200, hours: 6.0, family: None, listed: false };
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
                "--seeds" => options.seeds = number()? as u64,
                "--hours" => options.hours = number()?,
                "--family" => {
                    let name = arguments.next().unwrap_or_default();
                    let family = Family::ALL.into_iter().find(|f| f.name() == name);
                    options.family = Some(family.ok_or(format!("no family called {name}"))?);
                }
                "--list" => options.listed = true,
                _ => {}
            }
        }
        Ok(options)
    }

    fn scenario(&self, seed: u64) -> Scenario {
        match self.family {
            Some(family) => Scenario::of_family(family, seed, self.hours),
            None => Scenario::new(seed, self.hours),
        }
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
    match options.seed {
        Some(seed) => one(&options.scenario(seed)),
        None => many(&options),
    }
}

/// One seed, twice: all that was seen, and that it is the same both times.
fn one(scenario: &Scenario) -> ExitCode {
    println!("{scenario:#?}");
    let outcome = run(scenario);
    for (h, tally) in HORIZONS.iter().zip(&outcome.tallies) {
        let n = f64::from(tally.count);
        println!(
            "horizon {h:>6} s: {:>4} judged, rmse {:>10.2} us, inside {:.3}, width {:>10.2} us",
            tally.count,
            (tally.squares / n).sqrt() * 1e6,
            f64::from(tally.inside) / n,
            tally.width / n * 1e6
        );
    }
    for violation in &outcome.violations {
        println!("broken: {} at {:.0} s: {}", violation.law, violation.at, violation.detail);
    }
    println!("{} samples, {} broken, digest {:016x}", outcome.samples, outcome.violated, outcome.digest);
    if run(scenario) != outcome {
        println!("broken: the same seed gave another run");
        return ExitCode::FAILURE;
    }
    if outcome.violated == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn many(options: &Options) -> ExitCode {
    let started = Instant::now();
    let campaign = campaign(options.first, options.seeds, |seed| options.scenario(seed));
    let took = started.elapsed().as_secs_f64();
    println!("error / inside 95 % / width over error / error over best expert, geometric means over runs\n");
    print!("{}", campaign.table());
    println!(
        "\n{} seeds of {} h in {took:.0} s: {:.0} times real time on two threads, {} exchanges",
        options.seeds,
        options.hours,
        campaign.seconds / took,
        campaign.samples
    );
    for (seed, violation) in campaign.violations.iter().take(20) {
        println!("seed {seed}: broken: {} at {:.0} s: {}", violation.law, violation.at, violation.detail);
    }
    for (law, (seeds, seed)) in campaign.laws() {
        let family = options.family.map(|f| format!(" --family {}", f.name())).unwrap_or_default();
        println!(
            "{law}: {seeds} seeds; again: cargo test -p chronotick-tests --test world -- --seed {seed} --hours {}{family}",
            options.hours
        );
    }
    if campaign.violated == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
