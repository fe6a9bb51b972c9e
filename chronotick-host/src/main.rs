//! The command line of ChronoTick.

mod cli;

fn main() -> std::process::ExitCode {
    cli::main()
}
