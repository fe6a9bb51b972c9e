//! `chronotick completions SHELL`

use clap::CommandFactory;
use clap_complete::Shell;

use super::{Outcome, line, text};

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The shell.
    shell: Shell,
    /// As a JSON object with the shell and the script.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(arguments: &Arguments) -> Outcome {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut super::Arguments::command(), "chronotick", &mut script);
    if arguments.json {
        let script = String::from_utf8_lossy(&script);
        return line(serde_json::json!({ "shell": arguments.shell.to_string(), "script": script }));
    }
    text(&script)
}
