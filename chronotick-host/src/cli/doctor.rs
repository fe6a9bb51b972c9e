//! `chronotick doctor`: what this machine has, which preset suits it and why.

use chronotick_host::config::machine::{choose, look};

use super::{Failure, Outcome, line};

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// One JSON object instead of text.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(arguments: &Arguments) -> Outcome {
    let machine = look();
    let choice = choose(&machine);
    if arguments.json {
        let report = serde_json::json!({ "machine": machine, "choice": choice });
        return line(serde_json::to_string(&report).map_err(Failure::because)?);
    }
    let list = |names: &[String]| if names.is_empty() { "none".to_owned() } else { names.join(", ") };
    line(format_args!("architecture      {} ({})", machine.architecture, machine.instruction_sets.join(" ")))?;
    line(format_args!("cores             {} that may be used: {:?}", machine.cores.len(), machine.cores))?;
    line(format_args!("memory            {} MiB", machine.memory_mib))?;
    line(format_args!("clocksource       {}", machine.clocksource))?;
    line(format_args!("hardware clocks   {}", list(&machine.ptp_clocks)))?;
    line(format_args!("accelerators      {}", list(&machine.accelerators)))?;
    line("")?;
    line(format_args!("preset            configs/{}.toml", choice.preset))?;
    line(format_args!("because           {}", choice.reason))?;
    line(format_args!("worker's cores    {:?}", choice.worker_cores))?;
    line(format_args!("models run on     the processor: {}", choice.accelerator))
}
