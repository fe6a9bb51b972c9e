//! `chronotick run`

use std::io;
use std::path::{Path, PathBuf};

use chronotick_host::config::Loaded;
use chronotick_host::runner::{Runner, Stop, World};
use chronotick_host::{Config, Error};
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
    let Loaded { config, choice, variables } = read(arguments.config.as_deref(), arguments.page.as_deref())?;
    log_to_stderr(arguments.verbose);
    if let Some(choice) = choice {
        tracing::info!(preset = choice.preset, reason = choice.reason, "device auto");
    }
    if !variables.is_empty() {
        tracing::info!("from the environment: {}", variables.join(", "));
    }
    let stop = Stop::new()?;
    stop.on_signals()?;
    let world = World::of_this_machine(&config);
    let (file, page) = (arguments.config.clone(), arguments.page.clone());
    let reread = move || read(file.as_deref(), page.as_deref()).map(|loaded| loaded.config);
    Ok(Runner::open(config, world, stop)?.reloading(Box::new(reread)).as_a_service().run()?)
}

fn read(file: Option<&Path>, page: Option<&Path>) -> Result<Loaded, Error> {
    let mut loaded = Config::effective(file)?;
    if let Some(page) = page {
        loaded.config.page.path = Some(page.to_owned());
    }
    Ok(loaded)
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
