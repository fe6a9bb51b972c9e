//! `chronotick check-config FILE...`

use std::path::PathBuf;

use chronotick_host::Config;

use super::{Failure, Outcome, line};

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The files to check.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
}

pub(crate) fn run(arguments: &Arguments) -> Outcome {
    let mut wrong = Vec::new();
    for file in &arguments.files {
        match Config::load(file) {
            Ok(_) => line(format_args!("{}: good", file.display()))?,
            Err(error) => wrong.push(error.to_string()),
        }
    }
    if wrong.is_empty() { Ok(()) } else { Err(Failure::Failed(wrong.join("\nchronotick: "))) }
}
