//! `chronotick run`

use std::io;
use std::path::PathBuf;

use chronotick_host::Config;
use chronotick_host::runner::{Runner, Stop, World};
use tracing_subscriber::EnvFilter;

use super::Outcome;

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The configuration; without one, the defaults (see configs/default.toml).
    #[arg(long, short, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The page, instead of the one in the configuration.
    #[arg(long, value_name = "FILE")]
    page: Option<PathBuf>,
    /// Log more: -v for debug, -vv for everything. `RUST_LOG` is heeded as well.
    #[arg(long, short, action = clap::ArgAction::Count)]
    verbose: u8,
}

pub(crate) fn run(arguments: &Arguments) -> Outcome {
    let mut config = Config::effective(arguments.config.as_deref())?.config;
    if arguments.page.is_some() {
        config.page.path.clone_from(&arguments.page);
    }
    log_to_stderr(arguments.verbose);
    let stop = Stop::new()?;
    stop.on_signals()?;
    let world = World::of_this_machine(&config);
    Ok(Runner::open(config, world, stop)?.run()?)
}

fn log_to_stderr(verbose: u8) {
    let level = match verbose {
        0 => "info",
        1 => "debug",
        _ => "trace",
    };
    let filter =
        EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(format!("warn,chronotick_host={level}")));
    let subscriber = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).with_target(false);
    // A closed standard error must not end the daemon.
    let subscriber = subscriber.log_internal_errors(false);
    // A second subscriber in one process would be a mistake of this program; the first one goes on.
    let _ = subscriber.with_ansi(super::colours() && io::IsTerminal::is_terminal(&io::stderr())).try_init();
}
