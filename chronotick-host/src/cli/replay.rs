//! `chronotick replay`: a recorded trace through the estimator.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::PathBuf;

use chronotick_core::forecast::Model;
use chronotick_core::pipeline::{Config, Pipeline};
use chronotick_core::units::Span;
use chronotick_host::link::ModelState;
use chronotick_host::replay::{Forecaster, NoForecaster, Options, Prediction, plot, replay};
use chronotick_host::trace::Trace;
use chronotick_host::worker::files::models_folder;
use chronotick_host::worker::inference::Forecasters as Models;

use super::{Failure, Outcome, line};

/// Arguments of `chronotick replay`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The recorded exchanges (CSV: local_ns,offset_ns,delay_ns,root_distance_ns,temperature_c,source)
    trace: PathBuf,
    /// How far ahead to predict from each frozen row, in seconds
    #[arg(long, value_delimiter = ',', default_value = "0,16,64,256,1024,4096,14400", value_parser = horizon)]
    horizons: Vec<Span>,
    /// Freeze the state at every so many rows
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..))]
    stride: u32,
    /// Rows to feed before the first frozen one
    #[arg(long, default_value_t = 64)]
    warmup: u32,
    /// Where to write the predictions (CSV)
    #[arg(long)]
    predictions: Option<PathBuf>,
    /// Which models are asked
    #[arg(long, value_enum, default_value = "both")]
    forecasters: Forecasters,
    /// Folder of the model files, instead of the installed or built-in ones
    #[arg(long)]
    models: Option<PathBuf>,
    /// Where to draw the served offset and its interval (SVG)
    #[arg(long)]
    plot: Option<PathBuf>,
}

/// Which models are asked.
#[derive(Clone, Copy, clap::ValueEnum)]
enum Forecasters {
    /// No model: the filter and the classical experts alone
    None,
    /// The near model
    Chronos,
    /// The far model
    Ttm,
    /// Both
    Both,
}

impl Forecasters {
    /// By `Model::index`.
    fn enabled(self) -> [bool; 2] {
        match self {
            Self::None => [false, false],
            Self::Chronos => [true, false],
            Self::Ttm => [false, true],
            Self::Both => [true, true],
        }
    }
}

pub(crate) fn run(args: &Args) -> Outcome {
    let trace = Trace::read(&args.trace).map_err(Failure::because)?;
    let config = Config { forecasters: args.forecasters.enabled(), ..Config::default() };
    let options =
        Options { horizons: args.horizons.clone(), stride: args.stride as usize, warmup: args.warmup as usize, config };
    let mut forecaster = forecaster(args)?;
    let mut out: Box<dyn Write> = match &args.predictions {
        Some(path) => {
            let file = File::create(path).map_err(|e| {
                Failure::Failed(format!("{}: cannot write the predictions: {}", path.display(), e.kind()))
            })?;
            Box::new(BufWriter::new(file))
        }
        None => Box::new(io::sink()),
    };
    let mut served: Vec<Prediction> = Vec::new();
    let first = args.horizons.first().copied();
    let keep = args.plot.is_some();
    let summary = replay(&trace.samples, &options, &mut *forecaster, &mut *out, |p| {
        if keep && Some(p.target.since(p.origin)) == first {
            served.push(*p);
        }
    })
    .map_err(|e| Failure::Failed(format!("cannot write the predictions: {}", e.kind())))?;

    let seconds = summary.core_time.as_secs_f64();
    line(format_args!("{} samples, {} refused, frozen at {}", summary.samples, summary.refused, summary.origins))?;
    line(summary.measures.to_string().trim_end())?;
    line(format_args!(
        "core: {:.0} samples/s ({:.3} s, estimates included), {} KiB of state; inference {:.3} s",
        summary.samples as f64 / seconds.max(1e-9),
        seconds,
        size_of::<Pipeline>().div_ceil(1024),
        summary.inference_time.as_secs_f64(),
    ))?;
    line(format_args!(
        "forecasts: {} asked, {} accepted, {} muted",
        summary.counts.forecasts_issued, summary.counts.forecasts_accepted, summary.counts.forecasts_muted
    ))?;
    if let Some(path) = &args.plot {
        plot(&trace.samples, &served, &args.trace.display().to_string(), path).map_err(Failure::because)?;
    }
    Ok(())
}

/// The models that were asked for. One that cannot be used is refused here: scores would silently be without it.
fn forecaster(args: &Args) -> Result<Box<dyn Forecaster>, Failure> {
    let enabled = args.forecasters.enabled();
    if enabled == [false, false] {
        return Ok(Box::new(NoForecaster));
    }
    let models = Models::load(models_folder(args.models.as_deref()).as_deref());
    for (model, state) in Model::ALL.into_iter().zip(models.states()) {
        if let (true, ModelState::Failed(problem)) = (enabled[model.index()], state) {
            return Err(Failure::Failed(problem));
        }
    }
    Ok(Box::new(models))
}

fn horizon(text: &str) -> Result<Span, String> {
    match text.trim().parse::<f64>() {
        Ok(seconds) if (0.0..=1e9).contains(&seconds) => Ok(Span::from_secs_f64(seconds)),
        _ => Err("a horizon is a number of seconds from 0 to 1e9".to_owned()),
    }
}
