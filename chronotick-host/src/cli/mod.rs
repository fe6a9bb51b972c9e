//! One file a command; this one has what they share: arguments, exit codes, and output that survives a closed pipe.

mod apart;
mod check_config;
mod completions;
mod demo;
mod doctor;
mod log;
mod manual;
mod now;
mod progress;
mod record;
mod replay;
mod report;
mod run;
mod serve_forecasts;
mod simulate;
mod status;
mod training_set;
mod watch;

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use chronotick_host::Config;
use clap::{Args, CommandFactory, Parser, Subcommand};

const AFTER_HELP: &str = "\
Examples:
  chronotick demo                                 watch it work, offline, against a known truth
  chronotick run --config /etc/chronotick.toml    keep time
  chronotick now                                  one reading: offset +- interval, tier and reason
  chronotick watch                                the running daemon on the terminal

Exit codes: 0 done, 1 failed, 2 wrong usage, 3 not synchronised.";

/// Corrected time with honest error bounds, learned from this machine's own oscillator.
#[derive(Parser)]
#[command(name = "chronotick", version, after_help = AFTER_HELP)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Watch it work: offline, against a known truth.
    Demo(demo::Arguments),
    /// Keep time in the foreground until SIGTERM or SIGINT.
    Run(run::Arguments),
    /// One reading from the running daemon's page; exit code 3 when it is not synchronised.
    Now(now::Arguments),
    /// What the running daemon says about itself.
    Status(status::Arguments),
    /// Watch the running daemon: offset, residuals, sources, experts, worker, tiers.
    Watch(watch::Arguments),
    /// Record what the running daemon measures, as traces for `replay`, `report` and `training-set`.
    Record(record::Arguments),
    /// One page of HTML on a recording, or on what the running daemon remembers.
    Report(report::Args),
    /// Check configuration files and say what is wrong with them.
    CheckConfig(check_config::Arguments),
    /// Show what this machine has, which configuration suits it and why.
    Doctor(doctor::Arguments),
    /// Feed a recorded trace through the estimator and write what it would have predicted.
    Replay(replay::Args),
    /// Make a trace and its truth from a simulated world.
    Simulate(simulate::Args),
    /// Completions for a shell, to be sourced or installed.
    Completions(completions::Arguments),
    /// The manual pages.
    Man(manual::Arguments),
    /// Be the gateway of a microcontroller: answer its questions about time and its oscillator over a serial line.
    ServeForecasts(serve_forecasts::Args),
    /// The forecast worker; started by the daemon.
    #[command(hide = true)]
    Worker,
    /// Write what the models are trained on, from simulated worlds or recorded traces.
    TrainingSet(training_set::Args),
}

/// Where the running daemon's page is.
#[derive(Debug, Args)]
pub(crate) struct PageArguments {
    /// The page's file.
    #[arg(long, value_name = "FILE")]
    page: Option<PathBuf>,
    /// The daemon's configuration, which may name the page.
    #[arg(long, short, value_name = "FILE", conflicts_with = "page")]
    config: Option<PathBuf>,
}

impl PageArguments {
    /// The page meant by the arguments.
    pub(crate) fn path(&self) -> Result<PathBuf, Failure> {
        match (&self.page, &self.config) {
            (Some(path), _) => Ok(path.clone()),
            (None, config) => Ok(Config::effective(config.as_deref())?.config.page.path_for_reader()),
        }
    }
}

/// Why a command did not end with 0.
#[derive(Debug)]
pub(crate) enum Failure {
    /// 1: it failed; the line says why.
    Failed(String),
    /// 3: it worked, but the clock is not synchronised. What there is to say has been said.
    Unsynchronised,
    /// 0: whoever read the output has seen enough and closed the pipe.
    PipeClosed,
}

impl From<chronotick_host::Error> for Failure {
    fn from(error: chronotick_host::Error) -> Self {
        Self::Failed(error.to_string())
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            Self::PipeClosed
        } else {
            Self::Failed(format!("cannot write the output: {error}"))
        }
    }
}

impl Failure {
    /// Files could not be written into `folder`: `what` was to be.
    pub(crate) fn to_write(what: &str, folder: &Path, error: &io::Error) -> Self {
        let folder = folder.display();
        Self::Failed(match error.kind() {
            io::ErrorKind::AlreadyExists | io::ErrorKind::NotADirectory => {
                format!("{folder}: not a folder: name another")
            }
            kind => format!("{folder}: cannot write {what}: {kind}"),
        })
    }

    /// It failed because of `error`.
    pub(crate) fn because(error: impl fmt::Display) -> Self {
        Self::Failed(error.to_string())
    }
}

/// What a command ends with.
pub(crate) type Outcome = Result<(), Failure>;

/// Reads the arguments, runs the command and turns its outcome into an exit code.
pub(crate) fn run() -> ExitCode {
    let arguments = Arguments::parse();
    let outcome = match &arguments.command {
        None => print_help(),
        Some(Command::Demo(arguments)) => demo::run(arguments),
        Some(Command::Run(arguments)) => run::run(arguments),
        Some(Command::Now(arguments)) => now::run(arguments),
        Some(Command::Status(arguments)) => status::run(arguments),
        Some(Command::Watch(arguments)) => watch::run(arguments),
        Some(Command::Record(arguments)) => record::run(arguments),
        Some(Command::Report(arguments)) => report::run(arguments),
        Some(Command::Completions(arguments)) => completions::run(arguments),
        Some(Command::Man(arguments)) => manual::run(arguments),
        Some(Command::CheckConfig(arguments)) => check_config::run(arguments),
        Some(Command::Doctor(arguments)) => doctor::run(arguments),
        Some(Command::Replay(arguments)) => replay::run(arguments),
        Some(Command::Simulate(arguments)) => simulate::run(arguments),
        Some(Command::ServeForecasts(arguments)) => serve_forecasts::run(arguments),
        // Started by a daemon it would be in `main` still; by hand, this says so and is wrong usage.
        Some(Command::Worker) => {
            return u8::try_from(chronotick_host::worker::main()).map_or(ExitCode::FAILURE, ExitCode::from);
        }
        Some(Command::TrainingSet(arguments)) => training_set::run(arguments),
    };
    match outcome {
        Ok(()) | Err(Failure::PipeClosed) => ExitCode::SUCCESS,
        Err(Failure::Unsynchronised) => ExitCode::from(3),
        Err(Failure::Failed(line)) => {
            // A closed standard error leaves nobody to tell.
            let _ = writeln!(io::stderr(), "chronotick: {line}");
            ExitCode::FAILURE
        }
    }
}

fn print_help() -> Outcome {
    Ok(Arguments::command().print_help()?)
}

/// Whether colours are wanted on a terminal: <https://no-color.org>
pub(crate) fn colours() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// Learns before the work whether `path` can be written after it. What is there stays as it is: the work may fail.
pub(crate) fn probe(path: &Path) -> io::Result<()> {
    match fs::metadata(path) {
        Ok(there) if there.is_file() || there.is_dir() => File::options().append(true).open(path).map(drop),
        Err(_) if !path.is_symlink() => File::create_new(path).and_then(|_| fs::remove_file(path)),
        // Devices and pipes are opened once, and a link may lead to what is not there yet.
        _ => Ok(()),
    }
}

/// Prints `bytes` on standard output.
pub(crate) fn text(bytes: &[u8]) -> Outcome {
    let mut out = io::stdout().lock();
    out.write_all(bytes)?;
    Ok(out.flush()?)
}

/// Prints one line on standard output.
pub(crate) fn line(text: impl fmt::Display) -> Outcome {
    let mut out = io::stdout().lock();
    writeln!(out, "{text}")?;
    Ok(out.flush()?)
}
