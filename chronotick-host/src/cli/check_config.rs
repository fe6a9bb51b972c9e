//! `chronotick check-config FILE...`

use std::path::PathBuf;

use chronotick_host::Config;
use chronotick_host::config::reference;

use super::{Failure, Outcome, line};

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The files to check, each together with the environment.
    #[arg(required_unless_present = "reference", value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Print the reference of all keys, in Markdown.
    #[arg(long, conflicts_with = "files")]
    reference: bool,
    /// One JSON object for each file.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(arguments: &Arguments) -> Outcome {
    if arguments.reference {
        return line(reference().trim_end());
    }
    let mut wrong = Vec::new();
    for file in &arguments.files {
        let loaded = Config::effective(Some(file));
        if arguments.json {
            let error = loaded.as_ref().err().map(ToString::to_string);
            line(serde_json::json!({ "file": file.display().to_string(), "good": error.is_none(), "error": error }))?;
        }
        match loaded {
            Ok(_) if arguments.json => {}
            Ok(loaded) => {
                for told in loaded.config.metrics.left_out() {
                    eprintln!("{}: {told}", file.display());
                }
                let chosen =
                    loaded.choice.map(|choice| format!(" (device auto: {}, {})", choice.preset, choice.reason));
                line(format_args!("{}: good{}", file.display(), chosen.unwrap_or_default()))?;
            }
            Err(error) => wrong.push(error.to_string()),
        }
    }
    if wrong.is_empty() { Ok(()) } else { Err(Failure::Failed(wrong.join("\nchronotick: "))) }
}
