//! The command line of ChronoTick.
#![deny(unsafe_code)]

mod cli;

use std::process::ExitCode;

fn main() -> ExitCode {
    // As a worker, this process never gets beyond this line.
    chronotick_host::worker::hook();
    cli::run()
}
