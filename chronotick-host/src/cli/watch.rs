//! `chronotick watch`

use std::io::{self, IsTerminal, Write};

use chronotick_host::watch::{self, Form};

use super::{Outcome, PageArguments};

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    page: PageArguments,
    /// Lines instead of a picture; chosen by itself when the output is no terminal.
    #[arg(long)]
    plain: bool,
    /// One JSON object a line: the journal as the daemon writes it, the remembered part first.
    #[arg(long, conflicts_with = "plain")]
    json: bool,
    /// End after so many lines (with --plain or --json).
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    lines: Option<u64>,
}

pub(crate) fn run(arguments: &Arguments) -> Outcome {
    let page = arguments.page.path()?;
    if !arguments.plain && !arguments.json && io::stdout().is_terminal() {
        return Ok(watch::on_terminal(&page, super::colours())?);
    }
    let form = if arguments.json { Form::Json } else { Form::Words };
    let mut left = arguments.lines.unwrap_or(u64::MAX);
    let mut outcome = Ok(());
    watch::on_pipe(&page, form, |text| {
        let mut out = io::stdout().lock();
        // A line is of use only when it is there at once.
        outcome = writeln!(out, "{text}").and_then(|()| out.flush());
        left -= 1;
        outcome.is_ok() && left > 0
    })?;
    Ok(outcome?)
}
