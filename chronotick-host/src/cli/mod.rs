//! The commands, one file each.

mod replay;

use std::error::Error;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Corrected UTC with honest error bounds.
#[derive(Parser)]
#[command(version, about, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Feed a recorded trace through the estimator and write what it would have predicted
    Replay(replay::Args),
}

/// Parses the arguments and runs the command: 0 done, 1 failed, 2 wrong usage.
pub(crate) fn main() -> ExitCode {
    let result: Result<(), Box<dyn Error>> = match Cli::parse().command {
        Command::Replay(args) => replay::run(&args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("chronotick: {error}");
            ExitCode::FAILURE
        }
    }
}
