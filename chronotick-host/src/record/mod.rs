//! `chronotick record`: what a running daemon measures, as traces that `replay`, `report` and `training-set` take.
//!
//! A recording is a folder of files that follow each other, each a whole trace of its own. A new file is begun when the
//! present one is as large or as old as allowed, and whenever the local counter was disturbed or another daemon took over:
//! instants before and after do not belong together. A file under way ends in `.part` and is renamed when it is whole.

#[cfg(feature = "parquet")]
mod parquet;

use std::fmt;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use chronotick_core::units::{Offset, Span, Temperature, Timestamp};
use chronotick_core::{Sample, SourceId};
use serde::Serialize;

use crate::error::Error;
use crate::runner::journal::{Event, Exchange, Writer};
use crate::runner::status::as_text;
use crate::trace::{TraceWriter, fits_source_name};
use crate::words;

/// When a new file is begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rotation {
    /// The present one spans this much local time.
    Age(Span),
    /// The present one has this many bytes.
    Size(u64),
}

impl FromStr for Rotation {
    type Err = String;

    /// `24 h`, `7 d`, `90 min`, `60 s`; `64 MB`, `500 kB`, `1 GB`. The blank may be left out.
    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (number, unit) = (text[..digits].parse::<u32>().ok(), text[digits..].trim());
        let rotation = number.filter(|&number| number > 0).and_then(|number| {
            let seconds = |length: i64| Some(Self::Age(Span::from_secs(i64::from(number) * length)));
            let bytes = |length: u64| Some(Self::Size(u64::from(number) * length));
            match unit {
                "s" => seconds(1),
                "min" | "m" => seconds(60),
                "h" => seconds(3600),
                "d" => seconds(86_400),
                "kB" => bytes(1_000),
                "MB" => bytes(1_000_000),
                "GB" => bytes(1_000_000_000),
                _ => None,
            }
        });
        rotation.ok_or_else(|| {
            "an age (60 s, 90 min, 24 h, 7 d) or a size (500 kB, 64 MB, 1 GB), as a whole number with its unit"
                .to_owned()
        })
    }
}

impl fmt::Display for Rotation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Age(span) => write!(f, "{:.0} s", span.as_secs_f64()),
            Self::Size(bytes) => write!(f, "{bytes} bytes"),
        }
    }
}

/// What the files hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// The trace format.
    #[default]
    Csv,
    /// The same columns as Parquet. `replay` and `training-set` take CSV only.
    #[cfg(feature = "parquet")]
    Parquet,
}

impl FromStr for Format {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "csv" => Ok(Self::Csv),
            #[cfg(feature = "parquet")]
            "parquet" => Ok(Self::Parquet),
            #[cfg(not(feature = "parquet"))]
            "parquet" => Err("this program was built without Parquet: build it with `--features parquet`".to_owned()),
            _ => Err("csv or parquet".to_owned()),
        }
    }
}

/// How to record.
#[derive(Clone, Debug)]
pub struct Options {
    /// The folder; made if it is not there.
    pub folder: PathBuf,
    /// When a new file is begun; always when the counter was disturbed.
    pub rotation: Option<Rotation>,
    /// How many whole files are kept; older ones of this recording are deleted. `None`: all.
    pub keep: Option<usize>,
    /// What they hold.
    pub format: Format,
}

/// A file that is whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Recorded {
    /// Where it is.
    #[serde(serialize_with = "as_text")]
    pub file: PathBuf,
    /// Exchanges in it.
    pub exchanges: u64,
    /// Its size.
    pub bytes: u64,
    /// Why it ended.
    pub ended: &'static str,
}

/// A recording under way.
pub struct Recorder {
    options: Options,
    /// Who measures.
    daemon: Option<Writer>,
    open: Option<Open>,
    last_local: i64,
    /// Whole files of this recording, oldest first.
    files: Vec<PathBuf>,
    written: u64,
    skipped: u64,
}

/// The file under way.
struct Open {
    sink: Sink,
    path: PathBuf,
    first_local: i64,
    exchanges: u64,
}

enum Sink {
    Csv(TraceWriter<Counted>),
    #[cfg(feature = "parquet")]
    Parquet(Box<parquet::ParquetTrace>),
}

impl Recorder {
    /// A recording into the folder of `options`.
    ///
    /// # Errors
    /// `is_system` when the folder cannot be made.
    pub fn new(options: Options) -> Result<Self, Error> {
        fs::create_dir_all(&options.folder)
            .map_err(|cause| Error::system(format!("cannot make the folder {}", options.folder.display()), cause))?;
        Ok(Self { options, daemon: None, open: None, last_local: i64::MIN, files: Vec::new(), written: 0, skipped: 0 })
    }

    /// Takes in a line of the journal; returns the file that ended because of it.
    ///
    /// # Errors
    /// `is_system` when a file cannot be written.
    pub fn push(&mut self, event: &Event) -> Result<Option<Recorded>, Error> {
        match event {
            Event::Exchange(exchange) => self.take(exchange),
            Event::Daemon(writer) => {
                // The same daemon after a lost connection goes on; its journal repeats what is written already.
                let same = self.daemon.as_ref() == Some(writer);
                self.daemon = Some(writer.clone());
                if same { Ok(None) } else { self.part("another daemon") }
            }
            Event::Disruption(disrupted) if disrupted.local_ns > self.last_local => {
                self.part("the counter was disturbed")
            }
            Event::Disruption(_) | Event::Served(_) | Event::Tier(_) | Event::CaughtUp => Ok(None),
        }
    }

    /// Ends the recording; returns the file that was under way.
    ///
    /// # Errors
    /// `is_system` when it cannot be written.
    pub fn finish(mut self) -> Result<Option<Recorded>, Error> {
        self.close("the recording ended")
    }

    /// Exchanges written so far.
    pub fn written(&self) -> u64 {
        self.written
    }

    /// Exchanges left out: their instants do not ascend, which no trace can say.
    pub fn skipped(&self) -> u64 {
        self.skipped
    }

    /// Makes what has been written so far safe from the end of this program.
    ///
    /// # Errors
    /// `is_system` when it cannot be written.
    pub fn flush(&mut self) -> Result<(), Error> {
        match &mut self.open {
            Some(Open { sink: Sink::Csv(writer), path, .. }) => {
                writer.flush().map_err(|cause| cannot_write(path, cause))
            }
            _ => Ok(()),
        }
    }

    fn take(&mut self, exchange: &Exchange) -> Result<Option<Recorded>, Error> {
        if exchange.local_ns <= self.last_local {
            self.skipped += 1;
            return Ok(None);
        }
        let full = self.open.as_ref().is_some_and(|open| match self.options.rotation {
            Some(Rotation::Age(age)) => exchange.local_ns.saturating_sub(open.first_local) >= age.as_nanos(),
            Some(Rotation::Size(bytes)) => open.sink.bytes() >= bytes,
            None => false,
        });
        let ended = if full { self.close("full")? } else { None };
        let open = match &mut self.open {
            Some(open) => open,
            None => self.open.insert(Open::create(&self.options, self.daemon.as_ref(), exchange)?),
        };
        open.sink.write(exchange).map_err(|cause| cannot_write(&open.path, cause))?;
        open.exchanges += 1;
        self.written += 1;
        self.last_local = exchange.local_ns;
        Ok(ended)
    }

    /// Local time starts anew.
    fn part(&mut self, why: &'static str) -> Result<Option<Recorded>, Error> {
        self.last_local = i64::MIN;
        self.close(why)
    }

    fn close(&mut self, ended: &'static str) -> Result<Option<Recorded>, Error> {
        let Some(Open { sink, path, exchanges, .. }) = self.open.take() else { return Ok(None) };
        let bytes = sink.finish().map_err(|cause| cannot_write(&path, cause))?;
        let whole = path.with_extension("");
        fs::rename(&path, &whole).map_err(|cause| cannot_write(&path, cause))?;
        self.files.push(whole.clone());
        if let Some(keep) = self.options.keep
            && self.files.len() > keep
        {
            for old in self.files.drain(..self.files.len() - keep) {
                // Somebody else may have taken it away already.
                let _ = fs::remove_file(old);
            }
        }
        Ok(Some(Recorded { file: whole, exchanges, bytes, ended }))
    }
}

impl Open {
    fn create(options: &Options, daemon: Option<&Writer>, first: &Exchange) -> Result<Self, Error> {
        let suffix = match options.format {
            Format::Csv => "csv",
            #[cfg(feature = "parquet")]
            Format::Parquet => "parquet",
        };
        let (path, file) = begin(&options.folder, first, suffix)?;
        let create = || -> io::Result<Sink> {
            match options.format {
                Format::Csv => {
                    let from = daemon.map_or_else(String::new, |daemon| {
                        format!(" by daemon {} of version {}, counter {}", daemon.pid, daemon.version, daemon.counter)
                    });
                    let comment = format!("recorded from {} UTC on{from}", words::date_and_time(first.utc_ns));
                    Ok(Sink::Csv(TraceWriter::new(Counted::new(file), &[&comment])?))
                }
                #[cfg(feature = "parquet")]
                Format::Parquet => Ok(Sink::Parquet(Box::new(parquet::ParquetTrace::new(file)?))),
            }
        };
        let sink = create().map_err(|cause| cannot_write(&path, cause))?;
        Ok(Self { sink, path, first_local: first.local_ns, exchanges: 0 })
    }
}

/// Begins a file of its own in `folder`, named after the first exchange in it.
///
/// Two files may be of the same second: then the local instant tells them apart, or else a number. The file under way is made
/// before the name of the whole one is looked for, so that of two recorders in one folder neither takes the other's file.
fn begin(folder: &Path, first: &Exchange, suffix: &str) -> Result<(PathBuf, File), Error> {
    let stem = format!("trace-{}", words::compact_date(first.utc_ns));
    let mut attempt = 0;
    loop {
        let name = match attempt {
            0 => format!("{stem}.{suffix}"),
            1 => format!("{stem}-{}.{suffix}", first.local_ns),
            _ => format!("{stem}-{}-{attempt}.{suffix}", first.local_ns),
        };
        let path = folder.join(format!("{name}.part"));
        match File::create_new(&path) {
            Ok(file) if !folder.join(name).exists() => return Ok((path, file)),
            Ok(_) => fs::remove_file(&path).map_err(|cause| cannot_write(&path, cause))?,
            Err(cause) if cause.kind() == io::ErrorKind::AlreadyExists => {}
            Err(cause) => return Err(cannot_write(&path, cause)),
        }
        attempt += 1;
    }
}

impl Sink {
    fn write(&mut self, exchange: &Exchange) -> io::Result<()> {
        // What a trace cannot hold in a name.
        let source = exchange.source.replace(|c| !fits_source_name(c), " ");
        match self {
            Self::Csv(writer) => writer.write(&sample(exchange), &source),
            #[cfg(feature = "parquet")]
            Self::Parquet(trace) => trace.write(exchange, &source),
        }
    }

    fn bytes(&self) -> u64 {
        match self {
            Self::Csv(writer) => writer.get_ref().bytes,
            #[cfg(feature = "parquet")]
            Self::Parquet(trace) => trace.bytes(),
        }
    }

    /// Returns the size.
    fn finish(self) -> io::Result<u64> {
        match self {
            Self::Csv(writer) => {
                let counted = writer.finish()?;
                counted.out.get_ref().sync_all()?;
                Ok(counted.bytes)
            }
            #[cfg(feature = "parquet")]
            Self::Parquet(trace) => trace.finish(),
        }
    }
}

/// The exchange as a sample; sources go by name in a trace.
pub fn sample(exchange: &Exchange) -> Sample {
    Sample {
        local: Timestamp::from_nanos(exchange.local_ns),
        offset: Offset::from_nanos(exchange.offset_ns),
        delay: Span::from_nanos(exchange.delay_ns.max(0)),
        root_distance: Span::from_nanos(exchange.root_distance_ns.max(0)),
        temperature: exchange.temperature_c.filter(|celsius| celsius.is_finite()).map(Temperature::new),
        source: SourceId(0),
    }
}

/// A buffered file that knows how much it has been given.
#[derive(Debug)]
struct Counted {
    out: BufWriter<File>,
    bytes: u64,
}

impl Counted {
    fn new(file: File) -> Self {
        Self { out: BufWriter::new(file), bytes: 0 }
    }
}

impl Write for Counted {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.out.write(bytes)?;
        self.bytes += count as u64;
        Ok(count)
    }
    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

fn cannot_write(path: &Path, cause: io::Error) -> Error {
    Error::system(format!("cannot write {}", path.display()), cause)
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStrExt;

    use super::*;
    use crate::runner::journal::Disrupted;
    use crate::trace::Trace;

    fn exchange(second: i64) -> Event {
        Event::Exchange(Exchange {
            local_ns: second * 1_000_000_000,
            utc_ns: 1_709_210_096_000_000_000 + second * 1_000_000_000,
            offset_ns: 1_709_210_096_000_000_000 + second,
            delay_ns: 100_000,
            root_distance_ns: 2_000,
            temperature_c: (second % 2 == 0).then_some(21.5),
            source: "a, b".to_owned(),
            residual_ns: None,
            interval95_ns: None,
            bound_ns: None,
            refused: None,
        })
    }

    fn daemon(pid: u32) -> Event {
        Event::Daemon(Writer { pid, version: "0".to_owned(), counter: "Tsc".to_owned(), started_local_ns: 0 })
    }

    fn record(
        name: &str,
        rotation: Option<Rotation>,
        keep: Option<usize>,
        events: &[Event],
    ) -> (PathBuf, Vec<Recorded>) {
        let folder = std::env::temp_dir().join(format!("chronotick-record-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        let options = Options { folder: folder.clone(), rotation, keep, format: Format::Csv };
        let mut recorder = Recorder::new(options).expect("temporary folder");
        let mut ended: Vec<_> =
            events.iter().filter_map(|event| recorder.push(event).expect("temporary folder")).collect();
        ended.extend(recorder.finish().expect("temporary folder"));
        (folder, ended)
    }

    #[test]
    fn what_is_recorded_can_be_replayed() {
        let events: Vec<_> = [daemon(1)].into_iter().chain((1..=20).map(exchange)).collect();
        let (folder, ended) = record("whole", None, None, &events);
        assert_eq!(ended.len(), 1);
        assert_eq!(ended[0].file.file_name().and_then(|n| n.to_str()), Some("trace-20240229T123457Z.csv"));
        let trace = Trace::read(&ended[0].file).expect("a trace");
        assert_eq!((trace.samples.len(), trace.sources), (20, vec!["a  b".to_owned()]));
        assert_eq!(trace.samples[1].temperature, Some(Temperature::new(21.5)));
        assert_eq!(trace.samples[1].offset.as_nanos(), 1_709_210_096_000_000_002);
        assert_eq!(fs::metadata(&ended[0].file).expect("it is there").len(), ended[0].bytes);
        fs::remove_dir_all(folder).expect("temporary folder");
    }

    #[test]
    fn a_name_that_is_no_text_is_told_all_the_same() {
        let file = PathBuf::from(std::ffi::OsStr::from_bytes(b"r\xff/trace.csv"));
        let told = serde_json::to_value(Recorded { file, exchanges: 1, bytes: 2, ended: "full" }).expect("JSON");
        assert_eq!(told["file"], "r\u{fffd}/trace.csv");
    }

    #[test]
    fn a_file_ends_when_it_is_old_and_the_oldest_go() {
        let events: Vec<_> = (0..100).map(exchange).collect();
        let (folder, ended) = record("age", Some(Rotation::Age(Span::from_secs(30))), Some(2), &events);
        assert_eq!(ended.iter().map(|e| e.exchanges).collect::<Vec<_>>(), [30, 30, 30, 10]);
        let left = fs::read_dir(&folder).expect("a folder").count();
        assert_eq!(left, 2);
        assert!(ended[3].file.exists() && !ended[0].file.exists());
        fs::remove_dir_all(folder).expect("temporary folder");
    }

    #[test]
    fn a_file_ends_when_it_is_large() {
        let events: Vec<_> = (0..1000).map(exchange).collect();
        let (folder, ended) = record("size", Some(Rotation::Size(10_000)), None, &events);
        assert!(ended.len() > 3);
        assert!(ended.iter().all(|e| e.bytes < 10_200), "{ended:?}");
        assert_eq!(ended.iter().map(|e| e.exchanges).sum::<u64>(), 1000);
        fs::remove_dir_all(folder).expect("temporary folder");
    }

    #[test]
    fn instants_that_do_not_belong_together_are_in_different_files() {
        let disrupted =
            Event::Disruption(Disrupted { local_ns: 3_500_000_000, utc_ns: 0, what: "suspended".to_owned() });
        let again = [daemon(1), exchange(1), exchange(2), exchange(3)];
        // The counter jumps back; then the connection is lost and the same daemon's journal is told again; then another.
        let events: Vec<_> = [daemon(1), exchange(2), exchange(3), disrupted, exchange(1), exchange(2)]
            .into_iter()
            .chain(again)
            .chain([daemon(2), exchange(1)])
            .collect();
        let (folder, ended) = record("parts", None, None, &events);
        assert_eq!(ended.iter().map(|e| e.exchanges).collect::<Vec<_>>(), [2, 3, 1]);
        assert!(ended.iter().all(|e| Trace::read(&e.file).is_ok()));
        fs::remove_dir_all(folder).expect("temporary folder");
    }

    #[test]
    fn recorders_into_one_folder_do_not_touch_each_others_files() {
        let folder = std::env::temp_dir().join(format!("chronotick-record-shared-{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        let options = Options { folder: folder.clone(), rotation: None, keep: None, format: Format::Csv };
        let mut recorders = [(); 3].map(|()| Recorder::new(options.clone()).expect("temporary folder"));
        for second in 1..=20 {
            for recorder in &mut recorders {
                recorder.push(&exchange(second)).expect("temporary folder");
                recorder.flush().expect("temporary folder");
            }
        }
        // A fourth finds whole files of that second.
        let mut ended: Vec<_> =
            recorders.into_iter().map(|recorder| recorder.finish().expect("temporary folder")).collect();
        let mut late = Recorder::new(options).expect("temporary folder");
        (1..=20).for_each(|second| assert!(late.push(&exchange(second)).is_ok()));
        ended.push(late.finish().expect("temporary folder"));
        for recorded in ended.iter().flatten() {
            assert_eq!(Trace::read(&recorded.file).expect("a trace").samples.len(), 20, "{recorded:?}");
        }
        assert_eq!(fs::read_dir(&folder).expect("a folder").count(), 4);
        fs::remove_dir_all(folder).expect("temporary folder");
    }

    #[test]
    fn ages_and_sizes() {
        for (text, meant) in [
            ("24 h", Rotation::Age(Span::from_secs(86_400))),
            ("90min", Rotation::Age(Span::from_secs(5_400))),
            ("64 MB", Rotation::Size(64_000_000)),
            ("500kB", Rotation::Size(500_000)),
        ] {
            assert_eq!(text.parse(), Ok(meant), "{text}");
        }
        for text in ["", "h", "0 h", "-1 h", "1.5 h", "64 megabytes", "99999999999 s"] {
            assert!(text.parse::<Rotation>().is_err(), "{text}");
        }
    }
}
