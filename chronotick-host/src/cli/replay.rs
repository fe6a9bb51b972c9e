//! `chronotick replay`: a recorded trace through the estimator.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use chronotick_core::forecast::Model;
use chronotick_core::pipeline::{Config, Pipeline};
use chronotick_core::units::Span;
use chronotick_host::config::Forecasters;
use chronotick_host::link::ModelState;
use chronotick_host::replay::{Forecaster, NoForecaster, Options, Prediction, Summary, plot, replay};
use chronotick_host::trace::Trace;
use chronotick_host::worker::files::{file_name, models_folder};
use chronotick_host::worker::inference::Forecasters as Models;

use super::apart::apart;
use super::progress::Progress;
use super::{Failure, Outcome, line, probe};

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
    /// Write what each expert alone would have said into the predictions as well, one column each
    #[arg(long, requires = "predictions")]
    experts: bool,
    /// Which models are asked
    #[arg(long, value_enum, default_value = "both")]
    forecasters: Forecasters,
    /// Folder of the model files, instead of the installed or built-in ones
    #[arg(long)]
    models: Option<PathBuf>,
    /// Where to draw the served offset and its interval (SVG)
    #[arg(long)]
    plot: Option<PathBuf>,
    /// One JSON object instead of text
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> Outcome {
    let [near, far] = model_files(args.models.as_deref());
    let read = [Some(&*args.trace), near.as_deref(), far.as_deref()];
    apart(read, [args.predictions.as_deref(), args.plot.as_deref()])?;
    if let Some(path) = &args.plot {
        let failed = |e: io::Error| Failure::Failed(format!("{}: cannot write the plot: {}", path.display(), e.kind()));
        probe(path).map_err(failed)?;
    }
    let trace = Trace::read(&args.trace).map_err(Failure::because)?;
    let config = Config { forecasters: args.forecasters.enabled(), ..Config::default() };
    let options = Options {
        horizons: args.horizons.clone(),
        stride: args.stride as usize,
        warmup: args.warmup as usize,
        experts: args.experts,
        config,
    };
    let mut forecaster = models(args.forecasters.enabled(), args.models.as_deref())?;
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
    let progress = Progress::bar("replaying", trace.samples.len() as u64);
    let summary = replay(&trace.samples, &options, &mut *forecaster, &mut *out, |p| {
        if Some(p.target.since(p.origin)) == first {
            progress.set(trace.samples.partition_point(|sample| sample.local < p.origin) as u64);
        }
        if keep && Some(p.target.since(p.origin)) == first {
            served.push(*p);
        }
    })
    .map_err(|e| Failure::Failed(format!("cannot write the predictions: {}", e.kind())))?;

    progress.end();
    let title = args.trace.display().to_string();
    let drawn = args.plot.as_ref().map_or(Ok(()), |path| plot(&trace.samples, &served, &title, path));
    tell(args, &summary)?;
    drawn.map_err(Failure::because)
}

fn tell(args: &Args, summary: &Summary) -> Outcome {
    if args.json {
        return line(json(summary));
    }
    let seconds = summary.core_time.as_secs_f64();
    line(format_args!("{} samples, {} refused, frozen at {}", summary.samples, summary.refused, summary.origins))?;
    if summary.origins == 0 {
        line(format_args!("nothing was judged: --warmup {} passes over every row", args.warmup))?;
    }
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
    ))
}

fn json(summary: &Summary) -> serde_json::Value {
    let micros = |seconds: f64| seconds * 1e6;
    let horizons: Vec<_> = summary
        .measures
        .horizons()
        .iter()
        .map(|m| {
            serde_json::json!({
                "horizon_s": m.horizon.as_secs_f64(),
                "compared": m.compared,
                "median_abs_error_us": micros(m.median_abs_error),
                "inside": m.inside,
                "interval_width_us": micros(m.interval_width),
                "bound_width_us": micros(m.bound_width),
                "contradicted": m.bound_violations,
            })
        })
        .collect();
    serde_json::json!({
        "samples": summary.samples,
        "refused": summary.refused,
        "origins": summary.origins,
        "horizons": horizons,
        "forecasts": {
            "issued": summary.counts.forecasts_issued,
            "accepted": summary.counts.forecasts_accepted,
            "muted": summary.counts.forecasts_muted,
        },
        "core_s": summary.core_time.as_secs_f64(),
        "inference_s": summary.inference_time.as_secs_f64(),
        "state_bytes": size_of::<Pipeline>(),
    })
}

/// The files that models are read from, where there are such files.
pub(crate) fn model_files(folder: Option<&Path>) -> [Option<PathBuf>; 2] {
    let folder = models_folder(folder);
    Model::ALL.map(|model| folder.as_ref().map(|folder| folder.join(file_name(model))))
}

/// The models that were asked for. One that cannot be used is refused here: scores would silently be without it.
pub(crate) fn models(enabled: [bool; 2], folder: Option<&Path>) -> Result<Box<dyn Forecaster>, Failure> {
    if enabled == [false, false] {
        return Ok(Box::new(NoForecaster));
    }
    let models = Models::load(models_folder(folder).as_deref());
    for (model, state) in Model::ALL.into_iter().zip(models.states()) {
        if let (true, ModelState::Failed(problem)) = (enabled[model.index()], state) {
            return Err(Failure::Failed(problem));
        }
    }
    Ok(Box::new(models))
}

pub(crate) fn horizon(text: &str) -> Result<Span, String> {
    match text.trim().parse::<f64>() {
        Ok(seconds) if (0.0..=1e9).contains(&seconds) => Ok(Span::from_secs_f64(seconds)),
        _ => Err("a horizon is a number of seconds from 0 to 1e9".to_owned()),
    }
}
