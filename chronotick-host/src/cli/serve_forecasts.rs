//! `chronotick serve-forecasts`: the gateway of a microcontroller, at the other end of its serial line.
//!
//! It speaks the frames of `chronotick_embedded::gateway`: a node asks what time it is and what its oscillator will do, and is
//! answered from this machine's clock and by the models that the worker runs, here in this process.

use std::fs::OpenOptions;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use chronotick_core::forecast::{Forecast, Model};
use chronotick_core::{Span, Timestamp, Utc};
use chronotick_embedded::frame;
use chronotick_embedded::gateway::{Reply, ToGateway, ToNode};
use chronotick_host::Reader;
use chronotick_host::link::ModelState;
use chronotick_host::worker::files::models_folder;
use chronotick_host::worker::inference::Forecasters;

use super::{Failure, Outcome};

/// The longest frame: a question with the longest history, or an answer, with room to spare.
const FRAME: usize = 8 * 1024;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The serial device, already set to raw (stty -F DEVICE raw -echo 115200); `-` for standard input and output
    device: PathBuf,
    /// The folder that holds the model files
    #[arg(long, value_name = "FOLDER")]
    models: Option<PathBuf>,
    /// Tell nodes the time of the running daemon, whose page this is
    #[arg(long, value_name = "FILE", conflicts_with = "system_clock")]
    page: Option<PathBuf>,
    /// Tell nodes the time of the system's clock, taken to be right within so many milliseconds
    #[arg(long, value_name = "MS", value_parser = clap::value_parser!(u32).range(1..))]
    system_clock: Option<u32>,
    /// What is told on standard error as JSON, one object a line, the counts last
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> Outcome {
    let failed = |error: io::Error| Failure::Failed(format!("{}: {error}; check the line", args.device.display()));
    let device = if args.device == Path::new("-") {
        None
    } else {
        Some(OpenOptions::new().read(true).write(true).open(&args.device).map_err(failed)?)
    };
    let mut models = Forecasters::load(models_folder(args.models.as_deref()).as_deref());
    for (model, state) in Model::ALL.into_iter().zip(models.states()) {
        if let ModelState::Failed(problem) = state {
            tell(args.json, &format!("the {model:?} model will not answer: {problem}"));
        }
    }
    let clock = match (&args.page, args.system_clock) {
        (Some(page), _) => Clock::Daemon(Box::new(Reader::attach(page).map_err(Failure::because)?)),
        (None, Some(ms)) => Clock::System(Span::from_millis(ms.into())),
        (None, None) => Clock::None,
    };
    if let Clock::None = clock {
        tell(args.json, "nodes are told no time, only forecasts; see --page and --system-clock");
    }
    let mut gateway = Gateway { clock, answer: |request: &_| models.answer(request).ok(), counts: Counts::default() };
    let outcome = match &device {
        None => gateway.serve(io::stdin().lock(), io::stdout().lock()),
        Some(device) => gateway.serve(device, device),
    };
    let Counts { exchanges, forecasts, refused, damaged } = gateway.counts;
    if args.json {
        let counts = serde_json::json!({
            "exchanges": exchanges, "forecasts": forecasts, "refused": refused, "damaged": damaged,
        });
        let _ = writeln!(io::stderr(), "{counts}");
    } else {
        tell(
            false,
            &format!(
                "{exchanges} exchanges, {forecasts} forecasts, {refused} questions without an answer, {damaged} damaged frames"
            ),
        );
    }
    outcome.map_err(failed)
}

/// What the time is told from.
enum Clock {
    None,
    Daemon(Box<Reader>),
    System(Span),
}

impl Clock {
    /// UTC and how far it may be off; `None` when it cannot be told.
    fn now(&self) -> Option<(Timestamp<Utc>, Span)> {
        match self {
            Self::None => None,
            Self::Daemon(reader) => {
                let now = reader.now();
                now.bound().is_bounded().then(|| (now.utc(), now.bound().half_width()))
            }
            Self::System(within) => {
                let since = SystemTime::now().duration_since(UNIX_EPOCH).ok()?;
                Some((Timestamp::from_nanos(i64::try_from(since.as_nanos()).ok()?), *within))
            }
        }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Counts {
    exchanges: u64,
    forecasts: u64,
    refused: u64,
    damaged: u64,
}

/// One node's gateway; `answer` asks the models.
struct Gateway<A> {
    clock: Clock,
    answer: A,
    counts: Counts,
}

impl<A: FnMut(&chronotick_core::forecast::ForecastRequest) -> Option<Forecast>> Gateway<A> {
    /// Answers what `line` brings until it ends.
    fn serve(&mut self, mut line: impl Read, mut out: impl Write) -> io::Result<()> {
        let (mut chunk, mut frame, mut skipping) = ([0; 256], Vec::with_capacity(FRAME), false);
        loop {
            let count = match line.read(&mut chunk) {
                Ok(0) => return Ok(()),
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            let received = self.clock.now();
            for &byte in &chunk[..count] {
                if byte != 0 {
                    // A frame that outgrows every message is noise up to its end.
                    skipping |= frame.len() == FRAME;
                    if !skipping {
                        frame.push(byte);
                    }
                    continue;
                }
                if std::mem::take(&mut skipping) {
                    self.counts.damaged += 1;
                } else if !frame.is_empty() {
                    self.answer(&mut frame, received, &mut out)?;
                }
                frame.clear();
            }
        }
    }

    /// Answers one frame, whose last byte arrived at `received`.
    fn answer(
        &mut self,
        frame: &mut [u8],
        received: Option<(Timestamp<Utc>, Span)>,
        out: &mut impl Write,
    ) -> io::Result<()> {
        match frame::decode::<ToGateway>(frame) {
            Ok(ToGateway::Exchange { id }) => {
                if let (Some((received, before)), Some((sent, after))) = (received, self.clock.now()) {
                    self.counts.exchanges += 1;
                    let reply = Reply { id, received, sent, root_distance: before.max(after) };
                    return send(&ToNode::<()>::Exchange(reply), out);
                }
                self.counts.refused += 1;
            }
            Ok(ToGateway::Forecast(request)) => match (self.answer)(&request) {
                Some(forecast) => {
                    self.counts.forecasts += 1;
                    return send(&ToNode::Forecast(&forecast), out);
                }
                None => self.counts.refused += 1,
            },
            Err(_) => self.counts.damaged += 1,
        }
        Ok(())
    }
}

fn send(message: &ToNode<impl serde::Serialize>, out: &mut impl Write) -> io::Result<()> {
    let mut buffer = [0; FRAME];
    let frame = frame::encode(message, &mut buffer)
        .map_err(|_| io::Error::other("an answer does not fit the longest frame"))?;
    out.write_all(frame)?;
    out.flush()
}

/// One line on standard error; standard output may be the line to the node.
fn tell(json: bool, text: &str) {
    // A closed standard error leaves nobody to tell.
    let _ = if json {
        writeln!(io::stderr(), "{}", serde_json::json!({ "message": text }))
    } else {
        writeln!(io::stderr(), "chronotick: {text}")
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn noise_and_overlong_frames_are_counted_and_what_follows_is_answered() {
        let mut line = vec![7, 7, 0];
        line.extend([5; FRAME + 9]);
        line.push(0);
        let mut buffer = [0; 64];
        line.extend_from_slice(frame::encode(&ToGateway::<()>::Exchange { id: 4 }, &mut buffer).unwrap());
        let mut gateway =
            Gateway { clock: Clock::System(Span::from_millis(9)), answer: |_: &_| None, counts: Counts::default() };
        let mut answers = Vec::new();
        gateway.serve(&line[..], &mut answers).unwrap();
        assert_eq!(gateway.counts, Counts { exchanges: 1, damaged: 2, ..Counts::default() });
        match frame::decode::<ToNode>(&mut answers) {
            Ok(ToNode::Exchange(reply)) => assert!(reply.id == 4 && reply.sent >= reply.received, "{reply:?}"),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn without_a_clock_no_time_is_told() {
        let mut buffer = [0; 64];
        let line = frame::encode(&ToGateway::<()>::Exchange { id: 4 }, &mut buffer).unwrap();
        let mut gateway = Gateway { clock: Clock::None, answer: |_: &_| None, counts: Counts::default() };
        let mut answers = Vec::new();
        gateway.serve(&line[..], &mut answers).unwrap();
        assert_eq!((answers.len(), gateway.counts.refused), (0, 1));
    }
}
