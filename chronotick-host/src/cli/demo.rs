//! `chronotick demo`

use std::time::Duration;

use chronotick_host::demo::{self, Options, Second, Summary};
use chronotick_host::runner::Stop;

use super::{Failure, Outcome, line};

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// How long, in seconds (2 to 86400).
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u64).range(2..=86_400))]
    seconds: u64,
    /// End with one JSON object on one line.
    #[arg(long)]
    json: bool,
    /// Draws another oscillator.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

const INTRODUCTION: &str = "\
A virtual oscillator some 40 ppm fast and moved by temperature, an NTP server on loopback that tells the truth, the daemon,
its forecast worker, and a reader. All errors are true errors in microseconds; the two claims are half-widths.
";

pub(crate) fn run(arguments: &Arguments) -> Outcome {
    let stop = Stop::new()?;
    stop.on_signals()?;
    line(INTRODUCTION)?;
    line(format_args!(
        "{:>5}  {:<8} {:>10} {:>10} {:>10} {:>9} {:>12} {:>7} {:>9}",
        "time", "tier", "error", "95 %", "bound", "covered", "uncorrected", "temp", "forecasts"
    ))?;
    let options = Options { duration: Duration::from_secs(arguments.seconds), seed: arguments.seed };
    let mut shown = Ok(());
    let summary = demo::run(options, &stop, |second| {
        shown = show(second);
        shown.is_ok()
    })?;
    shown?;
    if summary.readings == 0 {
        conclude(&summary, arguments.json)?;
        return Err(Failure::Unsynchronised);
    }
    conclude(&summary, arguments.json)
}

fn show(second: &Second) -> Outcome {
    let covered =
        if second.coverage95.is_nan() { "-".to_owned() } else { format!("{:.1} %", 100.0 * second.coverage95) };
    line(format_args!(
        "{:>3} s  {:<8} {:>+10.2} {:>10.2} {:>10.2} {covered:>9} {:>+12.1} {:>5.1} C {:>9}",
        second.elapsed.as_secs(),
        second.tier,
        second.error_us,
        second.interval95_us,
        second.bound_us,
        second.raw_error_us,
        second.temperature_c,
        second.forecasts,
    ))
}

fn conclude(summary: &Summary, json: bool) -> Outcome {
    line("")?;
    if json {
        return line(serde_json::to_string(summary).unwrap_or_default());
    }
    line(format_args!(
        "{} readings: error {:.2} us rms ({:.2} us at 99 %), uncorrected {:.0} us rms; {:.1} % inside the 95 % interval, {} \
         outside the bound; {} forecasts; worker {:.0} MB",
        summary.readings,
        summary.rms_error_us,
        summary.p99_error_us,
        summary.raw_rms_error_us,
        100.0 * summary.coverage95,
        summary.outside_bound,
        summary.forecasts,
        summary.worker_rss_mb,
    ))
}
