//! `chronotick run`

use std::path::{Path, PathBuf};

use chronotick_host::config::Loaded;
use chronotick_host::runner::{Runner, Stop, World};
use chronotick_host::{Config, Error};

use super::{Outcome, log};

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
    /// The log as JSON, one object a line.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(arguments: &Arguments) -> Outcome {
    let Loaded { config, choice, variables } = read(arguments.config.as_deref(), arguments.page.as_deref())?;
    log::to_stderr(arguments.verbose, arguments.json);
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
