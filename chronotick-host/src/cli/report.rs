//! `chronotick report`: one page of HTML from a recording or a running daemon.

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use chronotick_core::fusion::HORIZONS;
use chronotick_core::units::{Span, Timestamp};
use chronotick_core::{Config, SourceId};
use chronotick_host::config::Forecasters;
use chronotick_host::record::sample;
use chronotick_host::report::{Options, gather, html};
use chronotick_host::runner::Status;
use chronotick_host::runner::journal::{Event, Served, Subscription};
use chronotick_host::trace::{Trace, read_truth};
use chronotick_host::words;

use super::apart::apart;
use super::progress::Progress;
use super::replay::{horizon, model_files, models};
use super::{Failure, Outcome, PageArguments, line, probe};

/// How long a daemon may take to tell what it remembers.
const PATIENCE: Duration = Duration::from_secs(10);

/// Arguments of `chronotick report`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// A recording (see `chronotick record`); without one, what the running daemon remembers
    #[arg(conflicts_with_all = ["page", "config"])]
    trace: Option<PathBuf>,
    #[command(flatten)]
    page: PageArguments,
    /// The true offsets of a simulated trace (see `chronotick simulate --truth`), to judge by
    #[arg(long, value_name = "FILE", requires = "trace")]
    truth: Option<PathBuf>,
    /// Where to write the page
    #[arg(long, short, value_name = "FILE", default_value = "chronotick-report.html")]
    out: PathBuf,
    /// How far ahead to judge, in seconds; by default the horizons of the core, from now to four hours
    #[arg(long, value_delimiter = ',', value_parser = horizon)]
    horizons: Vec<Span>,
    /// Rows to feed before the first frozen one
    #[arg(long, default_value_t = 64)]
    warmup: u32,
    /// Rows that are frozen, at most
    #[arg(long, default_value_t = 2000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    origins: u32,
    /// The base step of the models' grids, in seconds; by default that of the daemon, 64 for a recording
    #[arg(long, value_name = "S")]
    step: Option<f64>,
    /// Which models are asked
    #[arg(long, value_enum, default_value = "both")]
    forecasters: Forecasters,
    /// Folder of the model files, instead of the installed or built-in ones
    #[arg(long)]
    models: Option<PathBuf>,
    /// Print the figures as one JSON object as well
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> Outcome {
    let page = args.page.path();
    let [near, far] = model_files(args.models.as_deref());
    let config = args.page.config.as_deref();
    let (trace, truth) = (args.trace.as_deref(), args.truth.as_deref());
    apart([trace, truth, page.as_deref().ok(), config, near.as_deref(), far.as_deref()], [Some(&args.out)])?;
    let failed =
        |e: io::Error| Failure::Failed(format!("{}: cannot write the report: {}", args.out.display(), e.kind()));
    probe(&args.out).map_err(failed)?;
    let (trace, title, live) = match &args.trace {
        Some(path) => (Trace::read(path).map_err(Failure::because)?, path.display().to_string(), None),
        None => {
            let page = page?;
            let (trace, served, changes) = remembered(&page)?;
            (trace, format!("the daemon at {}", page.display()), Some((Status::ask(&page)?, served, changes)))
        }
    };
    let truth = args.truth.as_deref().map(read_truth).transpose().map_err(Failure::because)?;
    // The core's horizons are in proportion to its step.
    let asked = live.as_ref().and_then(|(status, ..)| status.experts.horizons_s.get(1));
    let seconds = args.step.unwrap_or_else(|| asked.map_or(64.0, |&first| first * 64.0 / HORIZONS[1]));
    if !(0.1..=3600.0).contains(&seconds) {
        return Err(Failure::Failed("--step is a number of seconds from 0.1 to 3600".to_owned()));
    }
    let own = HORIZONS.map(|horizon| Span::from_secs_f64(horizon * seconds / 64.0));
    let step = Span::from_secs_f64(seconds);
    let enabled = args.forecasters.enabled();
    let options = Options {
        title,
        horizons: if args.horizons.is_empty() { own.to_vec() } else { args.horizons.clone() },
        warmup: args.warmup as usize,
        origins: args.origins as usize,
        config: Config { forecasters: enabled, forecast_step: step, ..Config::default() },
    };
    let mut forecaster = models(enabled, args.models.as_deref())?;
    let progress = Progress::bar("replaying", trace.samples.len() as u64);
    let report = gather(&trace, truth.as_deref(), &options, &mut *forecaster, |row| progress.set(row as u64));
    progress.end();
    let mut report = report.map_err(Failure::because)?;
    if let (Some((status, served, changes)), Some(first)) = (live, trace.samples.first()) {
        report.of_daemon(status, &served, &changes, first.local);
    }
    let written = std::fs::write(&args.out, html(&report, &now())).map_err(failed);
    if args.json {
        line(serde_json::to_string(&report).map_err(Failure::because)?)?;
        return written;
    }
    written?;
    line(format_args!("{}: {} exchanges, {} judged horizons", args.out.display(), report.exchanges, {
        report.horizons.iter().filter(|h| h.compared > 0).count()
    }))
}

/// What the daemon remembers: the exchanges since its counter was last disturbed, what it served, and the changes.
fn remembered(page: &Path) -> Result<(Trace, Vec<Served>, Vec<Event>), Failure> {
    let mut journal = Subscription::open(page)?;
    let (mut trace, mut served, mut changes) = (Trace::default(), Vec::new(), Vec::new());
    let asked = Instant::now();
    while asked.elapsed() < PATIENCE {
        for event in journal.wait(Duration::from_millis(100))? {
            match event {
                Event::Exchange(exchange) => {
                    let mut row = sample(&exchange);
                    if trace.samples.last().is_some_and(|last| last.local >= row.local) {
                        continue;
                    }
                    let known = trace.sources.iter().position(|name| *name == exchange.source);
                    let index = known.unwrap_or_else(|| {
                        trace.sources.push(exchange.source);
                        trace.sources.len() - 1
                    });
                    row.source = SourceId(u8::try_from(index).unwrap_or(u8::MAX));
                    trace.samples.push(row);
                }
                Event::Served(point) => served.push(point),
                Event::Disruption(_) => {
                    trace.samples.clear();
                    served.clear();
                    changes.push(event);
                }
                Event::CaughtUp => return Ok((trace, served, changes)),
                Event::Tier(_) => changes.push(event),
                Event::Daemon(_) => {}
            }
        }
    }
    Err(Failure::Failed(format!("the daemon at {} does not tell what it remembers; try again", page.display())))
}

/// The date, for the page.
fn now() -> String {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let utc = Timestamp::<chronotick_core::Utc>::from_nanos(i64::try_from(since.as_nanos()).unwrap_or(i64::MAX));
    words::date_and_time(utc.as_nanos())
}
