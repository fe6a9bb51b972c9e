//! `chronotick simulate`: a world from a seed, as a trace and its truth.

use std::fs::File;
use std::io::BufWriter;
use std::path::{Path, PathBuf};

use chronotick_host::sim::kinds::Kind;
use chronotick_host::sim::world::World;

use super::apart::apart;
use super::progress::Progress;
use super::{Failure, Outcome, line, probe};

/// Arguments of `chronotick simulate`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Which world; see --list
    #[arg(long, default_value = "random", value_parser = kind)]
    kind: Kind,
    /// List the worlds and stop
    #[arg(long)]
    list: bool,
    /// The seed: the same seed makes the same world
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Length, in hours
    #[arg(long, default_value_t = 6.0, value_parser = hours)]
    hours: f64,
    /// Where to write the trace (CSV): what an estimator may see
    #[arg(long, required_unless_present = "list")]
    out: Option<PathBuf>,
    /// Where to write the true offset (CSV: local_ns,truth_offset_ns)
    #[arg(long)]
    truth: Option<PathBuf>,
    /// One JSON object instead of text (with --list, one for each world)
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> Outcome {
    if args.list {
        for kind in Kind::ALL {
            if args.json {
                line(serde_json::json!({ "kind": kind.name(), "about": kind.describe() }))?;
            } else {
                line(format_args!("{:<12} {}", kind.name(), kind.describe()))?;
            }
        }
        return Ok(());
    }
    apart([], [args.out.as_deref(), args.truth.as_deref()])?;
    for path in [&args.out, &args.truth].into_iter().flatten() {
        probe(path).map_err(|e| failed(path, &e))?;
    }
    let progress = Progress::spinner("simulating");
    let recording = World::new(&args.kind.params(args.seed), args.seed).record(args.hours * 3600.0);
    if let Some(path) = &args.out {
        let comment = format!("simulated: {} seed {} hours {}", args.kind.name(), args.seed, args.hours);
        recording.write_trace(create(path)?, &[&comment]).map_err(|e| failed(path, &e))?;
    }
    if let Some(path) = &args.truth {
        recording.write_truth(create(path)?).map_err(|e| failed(path, &e))?;
    }
    progress.end();
    if args.json {
        return line(serde_json::json!({
            "kind": args.kind.name(), "seed": args.seed, "hours": args.hours, "exchanges": recording.samples.len(),
        }));
    }
    line(format_args!("{} exchanges in {} simulated hours", recording.samples.len(), args.hours))
}

fn create(path: &Path) -> Result<BufWriter<File>, Failure> {
    File::create(path).map(BufWriter::new).map_err(|e| failed(path, &e))
}

fn failed(path: &Path, error: &std::io::Error) -> Failure {
    Failure::Failed(format!("{}: cannot write: {}", path.display(), error.kind()))
}

fn kind(text: &str) -> Result<Kind, String> {
    Kind::from_name(text).ok_or_else(|| "no such world; `chronotick simulate --list` names them".to_owned())
}

fn hours(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(hours) if hours > 0.0 && hours <= 100_000.0 => Ok(hours),
        _ => Err("a number of hours above 0, at most 100000".to_owned()),
    }
}
