//! `chronotick record`

use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use chronotick_host::record::{Format, Options, Recorded, Recorder, Rotation};
use chronotick_host::runner::journal::{Event, Subscription};

use super::{Failure, Outcome, PageArguments, line};

/// How often a daemon that is gone is looked for.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// What has been measured is on its way to the disk after this long.
const FLUSH_EVERY: Duration = Duration::from_secs(5);

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    page: PageArguments,
    /// The folder that the traces go to; made if it is not there.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Begin a new file at this age or size: "24 h", "7 d", "64 MB". Always begun anew: when the counter was disturbed, and
    /// for another daemon.
    #[arg(long, value_name = "AGE|SIZE", default_value = "24 h")]
    rotate: Rotation,
    /// Keep only so many whole files of this recording.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    keep: Option<u32>,
    /// End after so many seconds, instead of at SIGTERM or SIGINT.
    #[arg(long, value_name = "S", value_parser = clap::value_parser!(u64).range(1..))]
    seconds: Option<u64>,
    /// Leave out what the daemon remembers from before.
    #[arg(long)]
    from_now: bool,
    /// What the files hold: csv, or parquet where the program was built with it (`replay` and `training-set` take CSV).
    #[arg(long, default_value = "csv")]
    format: Format,
    /// One JSON object for each file that is whole.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(arguments: &Arguments) -> Outcome {
    let page = arguments.page.path()?;
    let mut journal = Some(Subscription::open(&page)?);
    let ended = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGTERM, signal_hook::consts::SIGINT, signal_hook::consts::SIGHUP] {
        signal_hook::flag::register(signal, Arc::clone(&ended)).map_err(Failure::because)?;
    }
    let mut recorder = Recorder::new(Options {
        folder: arguments.out.clone(),
        rotation: Some(arguments.rotate),
        keep: arguments.keep.and_then(|keep| usize::try_from(keep).ok()),
        format: arguments.format,
    })?;
    let started = Instant::now();
    let over = || arguments.seconds.is_some_and(|seconds| started.elapsed() >= Duration::from_secs(seconds));
    let (mut flushed, mut live) = (Instant::now(), !arguments.from_now);
    while !ended.load(Ordering::Relaxed) && !over() {
        let events = match &mut journal {
            Some(open) => match open.wait(Duration::from_millis(250)) {
                Ok(events) => events,
                Err(error) if error.is_not_running() => {
                    // A closed standard error leaves nobody to tell.
                    let _ = writeln!(io::stderr(), "chronotick: {error}; waiting for it");
                    journal = None;
                    continue;
                }
                Err(error) => return Err(error.into()),
            },
            None => {
                std::thread::sleep(LOOK_EVERY);
                journal = Subscription::open(&page).ok();
                continue;
            }
        };
        for event in &events {
            live |= matches!(event, Event::CaughtUp);
            if (live || matches!(event, Event::Daemon(_)))
                && let Some(file) = recorder.push(event)?
            {
                tell(&file, arguments.json)?;
            }
        }
        if flushed.elapsed() >= FLUSH_EVERY {
            flushed = Instant::now();
            recorder.flush()?;
        }
    }
    let (written, skipped) = (recorder.written(), recorder.skipped());
    if let Some(file) = recorder.finish()? {
        tell(&file, arguments.json)?;
    }
    if written == 0 {
        return Err(Failure::Failed(
            "nothing was measured meanwhile, so nothing was written: see `chronotick status` for the sources"
                .to_owned(),
        ));
    }
    if !arguments.json {
        line(format_args!("{written} exchanges, {skipped} told twice or out of order and left out"))?;
    }
    Ok(())
}

fn tell(file: &Recorded, json: bool) -> Outcome {
    let told = if json {
        line(serde_json::to_string(file).map_err(Failure::because)?)
    } else {
        line(format_args!(
            "{}: {} exchanges, {} bytes ({})",
            file.file.display(),
            file.exchanges,
            file.bytes,
            file.ended
        ))
    };
    match told {
        // Whoever read this has gone; the recording is not theirs alone.
        Err(Failure::PipeClosed) => Ok(()),
        told => told,
    }
}
