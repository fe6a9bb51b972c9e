//! `chronotick completions SHELL`

use clap::CommandFactory;
use clap_complete::Shell;

use super::{Outcome, text};

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The shell.
    shell: Shell,
}

pub(crate) fn run(arguments: &Arguments) -> Outcome {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut super::Arguments::command(), "chronotick", &mut script);
    text(&script)
}
