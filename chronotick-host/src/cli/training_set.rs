//! `chronotick training-set`: what the models are trained on.

use std::io;
use std::path::PathBuf;
use std::time::Instant;

use chronotick_core::forecast::Model;
use chronotick_host::trace::Trace;
use chronotick_host::training::{Written, write_recorded, write_simulated};

use super::progress::Progress;
use super::{Failure, Outcome, line};

/// Arguments of `chronotick training-set`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Recorded traces to fine-tune on, instead of simulated worlds.
    #[arg(value_name = "TRACE")]
    traces: Vec<PathBuf>,
    /// How many worlds to simulate for training; a tenth as many are held out.
    #[arg(long, default_value_t = 2000, conflicts_with = "traces", value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    worlds: u64,
    /// The seed: the same seed writes the same bytes.
    #[arg(long, default_value_t = 1, conflicts_with = "traces", value_parser = clap::value_parser!(u64).range(..=u64::from(u32::MAX)))]
    seed: u64,
    /// Threads.
    #[arg(long, default_value_t = 2, conflicts_with = "traces", value_parser = clap::value_parser!(u16).range(1..=256))]
    threads: u16,
    /// The folder to write to; made if it is not there. One that has a set already is refused.
    #[arg(long)]
    out: PathBuf,
    /// One JSON object instead of text.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> Outcome {
    let started = Instant::now();
    let failed = |error: io::Error| match error.kind() {
        io::ErrorKind::DirectoryNotEmpty => Failure::because(error),
        _ => Failure::to_write("the set", &args.out, &error),
    };
    let Written { train, valid } = if args.traces.is_empty() {
        let progress = Progress::bar("simulating", args.worlds + args.worlds.div_ceil(10));
        write_simulated(args.worlds, args.seed, usize::from(args.threads), &args.out, &|| progress.add(1))
            .map_err(failed)?
    } else {
        let mut traces = Vec::new();
        for path in &args.traces {
            traces.push((path.clone(), Trace::read(path).map_err(Failure::because)?.samples));
        }
        let _progress = Progress::spinner("asking");
        write_recorded(&traces, &args.out).map_err(failed)?
    };
    if train == [0; 2] {
        return Err(Failure::Failed(format!(
            "{}: no window to train on; a recording has to last some hours",
            args.out.display()
        )));
    }
    let seconds = started.elapsed().as_secs_f64();
    if args.json {
        let [near, far] = [Model::Near, Model::Far]
            .map(|model| serde_json::json!({ "train": train[model.index()], "held_out": valid[model.index()] }));
        return line(serde_json::json!({ "near": near, "far": far, "seconds": seconds }));
    }
    for (name, model) in [("near", Model::Near), ("far", Model::Far)] {
        let slot = model.index();
        line(format_args!("{name}: {} windows to train on, {} held out", train[slot], valid[slot]))?;
    }
    line(format_args!("{seconds:.0} s"))
}
