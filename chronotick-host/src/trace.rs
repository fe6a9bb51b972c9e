//! The trace file: recorded exchanges as CSV, one row each.
//!
//! ```text
//! # any number of comment lines
//! local_ns,offset_ns,delay_ns,root_distance_ns,temperature_c,source
//! 1201899100,-446397,1336200,1000,,
//! ```
//!
//! All numbers are integer nanoseconds except the temperature (degrees Celsius); temperature and source may be empty.
//! `local_ns` ascends strictly. Anything else is refused with file, line and column: a trace that is half understood
//! would be scored as if it were whole.
//!
//! A row costs well under a microsecond to parse or write: the fields are scanned as bytes and nothing is allocated.

use std::io::Write;
use std::path::Path;
use std::{fmt, fs, io};

use chronotick_core::sample::{Sample, SourceId};
use chronotick_core::units::{Local, Offset, Span, Temperature, Timestamp};

/// The header line that every trace has.
pub const HEADER: &str = "local_ns,offset_ns,delay_ns,root_distance_ns,temperature_c,source";
/// The header line of the file with the truth that goes with a simulated trace.
pub const TRUTH_HEADER: &str = "local_ns,truth_offset_ns";

const COLUMNS: [&str; 6] = ["local_ns", "offset_ns", "delay_ns", "root_distance_ns", "temperature_c", "source"];

/// A trace in memory: samples in ascending local time, and the names that their source numbers stand for.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Trace {
    /// Names of the sources, by [`SourceId`]; at most 256. Rows without a source belong to one with an empty name.
    pub sources: Vec<String>,
    /// The exchanges, strictly ascending in local time.
    pub samples: Vec<Sample>,
}

impl Trace {
    /// Reads the trace at `path`.
    ///
    /// # Errors
    /// With the file: when it cannot be read, and as [`Trace::parse`] does.
    pub fn read(path: &Path) -> Result<Self, TraceError> {
        let name = path.display().to_string();
        let bytes = fs::read(path).map_err(|e| TraceError::Unreadable { file: name.clone(), kind: e.kind() })?;
        Self::parse(&name, &bytes)
    }

    /// Parses `bytes`; `name` is what errors call the file.
    ///
    /// # Errors
    /// With file, line and column: at the first line that is not in the format, or when there are no rows.
    pub fn parse(name: &str, bytes: &[u8]) -> Result<Self, TraceError> {
        let mut lines = Lines { rest: bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes), number: 0 };
        let refuse = |line, column, problem| TraceError::Malformed { file: name.to_owned(), line, column, problem };
        loop {
            match lines.next() {
                Some(line) if line.starts_with(b"#") => {}
                Some(line) if line == HEADER.as_bytes() => break,
                Some(_) => return Err(refuse(lines.number, 1, Problem::Header)),
                None => return Err(refuse(lines.number + 1, 1, Problem::Header)),
            }
        }
        let mut trace = Self { sources: Vec::new(), samples: Vec::with_capacity(lines.rest.len() / 40) };
        while let Some(line) = lines.next() {
            if line.is_empty() && lines.rest.iter().all(u8::is_ascii_whitespace) {
                break;
            }
            trace.push_row(line).map_err(|(column, problem)| refuse(lines.number, column, problem))?;
        }
        if trace.samples.is_empty() {
            return Err(refuse(lines.number + 1, 1, Problem::NoRows));
        }
        Ok(trace)
    }

    /// Parses one row and appends it; the error carries the 1-based byte column.
    fn push_row(&mut self, line: &[u8]) -> Result<(), (usize, Problem)> {
        let mut fields = Fields { line, start: 0, index: 0 };
        let local = fields.integer()?;
        if self.samples.last().is_some_and(|s| s.local.as_nanos() >= local) {
            return Err((1, Problem::NotAscending));
        }
        let offset = fields.integer()?;
        let delay = fields.not_negative()?;
        let root_distance = fields.not_negative()?;
        let temperature = fields.temperature()?;
        let (column, name) = fields.last()?;
        let source = self.source(name).map_err(|problem| (column, problem))?;
        self.samples.push(Sample {
            local: Timestamp::<Local>::from_nanos(local),
            offset: Offset::from_nanos(offset),
            delay: Span::from_nanos(delay),
            root_distance: Span::from_nanos(root_distance),
            temperature,
            source,
        });
        Ok(())
    }

    /// The number of the source called `name`, newly given if this is its first row.
    fn source(&mut self, name: &[u8]) -> Result<SourceId, Problem> {
        let known = self.sources.iter().position(|s| s.as_bytes() == name);
        let index = match known {
            Some(index) => index,
            None => {
                let name = std::str::from_utf8(name).map_err(|_| Problem::Source)?;
                if !name.chars().all(fits_source_name) {
                    return Err(Problem::Source);
                }
                self.sources.push(name.to_owned());
                self.sources.len() - 1
            }
        };
        u8::try_from(index).map(SourceId).map_err(|_| Problem::TooManySources)
    }
}

/// Whether a source's name may hold `character`: neither what separates columns and lines, nor what a terminal would obey.
pub fn fits_source_name(character: char) -> bool {
    character != ',' && !character.is_control()
}

/// Reads the file with the truth that goes with a simulated trace: instants and true offsets, ascending.
///
/// # Errors
/// With file, line and column: when it cannot be read, is not in that format, does not ascend or has no rows.
pub fn read_truth(path: &Path) -> Result<Vec<(Timestamp<Local>, Offset)>, TraceError> {
    let file = path.display().to_string();
    let bytes = fs::read(path).map_err(|e| TraceError::Unreadable { file: file.clone(), kind: e.kind() })?;
    let mut lines = Lines { rest: &bytes, number: 0 };
    let refuse = |line, column, problem| TraceError::Malformed { file: file.clone(), line, column, problem };
    loop {
        match lines.next() {
            Some(line) if line.starts_with(b"#") => {}
            Some(line) if line == TRUTH_HEADER.as_bytes() => break,
            _ => return Err(refuse(lines.number.max(1), 1, Problem::TruthHeader)),
        }
    }
    let mut truth: Vec<(Timestamp<Local>, Offset)> = Vec::new();
    while let Some(line) = lines.next() {
        let Some(comma) = line.iter().position(|&b| b == b',') else {
            return Err(refuse(lines.number, line.len() + 1, Problem::NotAnInteger("truth_offset_ns")));
        };
        let at =
            parse_integer(&line[..comma]).ok_or_else(|| refuse(lines.number, 1, Problem::NotAnInteger("local_ns")))?;
        let offset = parse_integer(&line[comma + 1..])
            .ok_or_else(|| refuse(lines.number, comma + 2, Problem::NotAnInteger("truth_offset_ns")))?;
        let at = Timestamp::from_nanos(at);
        if truth.last().is_some_and(|last| last.0 >= at) {
            return Err(refuse(lines.number, 1, Problem::NotAscending));
        }
        truth.push((at, Offset::from_nanos(offset)));
    }
    if truth.is_empty() { Err(refuse(lines.number + 1, 1, Problem::NoRows)) } else { Ok(truth) }
}

/// Writes a trace row by row, in the format that [`Trace::read`] takes.
#[derive(Debug)]
pub struct TraceWriter<W: Write> {
    out: W,
    line: Vec<u8>,
}

impl<W: Write> TraceWriter<W> {
    /// Starts a trace: `comments` (one `#` line each), then the header. Give it a buffered writer.
    ///
    /// # Errors
    /// When `out` cannot be written to.
    pub fn new(mut out: W, comments: &[&str]) -> io::Result<Self> {
        for comment in comments {
            for line in comment.lines() {
                writeln!(out, "# {line}")?;
            }
        }
        writeln!(out, "{HEADER}")?;
        Ok(Self { out, line: Vec::with_capacity(128) })
    }

    /// Appends one exchange; `source` is its source's name (see [`fits_source_name`]), or empty.
    ///
    /// # Errors
    /// When the name does not fit, or nothing can be written.
    pub fn write(&mut self, sample: &Sample, source: &str) -> io::Result<()> {
        if !source.chars().all(fits_source_name) {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "a source's name holds a comma or a control character",
            ));
        }
        self.line.clear();
        for value in [
            sample.local.as_nanos(),
            sample.offset.as_nanos(),
            sample.delay.as_nanos(),
            sample.root_distance.as_nanos(),
        ] {
            push_integer(&mut self.line, value);
            self.line.push(b',');
        }
        if let Some(temperature) = sample.temperature {
            // Sensors resolve milli-degrees at best.
            push_thousandths(&mut self.line, temperature.value());
        }
        self.line.push(b',');
        self.line.extend_from_slice(source.as_bytes());
        self.line.push(b'\n');
        self.out.write_all(&self.line)
    }

    /// Hands everything to what is written to.
    ///
    /// # Errors
    /// When that cannot take it.
    pub fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }

    /// What is written to.
    pub fn get_ref(&self) -> &W {
        &self.out
    }

    /// Flushes and gives the writer back.
    ///
    /// # Errors
    /// When that cannot be flushed.
    pub fn finish(mut self) -> io::Result<W> {
        self.out.flush()?;
        Ok(self.out)
    }
}

/// Appends `value` in decimal; several times faster than formatting, which matters at millions of rows.
pub fn push_integer(out: &mut Vec<u8>, value: i64) {
    let mut digits = [0_u8; 20];
    let mut at = digits.len();
    let mut rest = value.unsigned_abs();
    loop {
        at -= 1;
        digits[at] = b'0' + u8::try_from(rest % 10).unwrap_or(0);
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    if value < 0 {
        out.push(b'-');
    }
    out.extend_from_slice(&digits[at..]);
}

/// Appends `value` rounded to three decimals.
#[allow(clippy::cast_possible_truncation, reason = "float to integer `as` saturates; temperatures are small")]
fn push_thousandths(out: &mut Vec<u8>, value: f64) {
    let scaled = (value * 1000.0).round() as i64;
    if scaled < 0 {
        out.push(b'-');
    }
    let scaled = scaled.saturating_abs();
    push_integer(out, scaled / 1000);
    out.push(b'.');
    for power in [100, 10, 1] {
        out.push(b'0' + u8::try_from(scaled / power % 10).unwrap_or(0));
    }
}

/// Why a trace was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TraceError {
    /// The file could not be read.
    Unreadable {
        /// Its name.
        file: String,
        /// What the operating system said.
        kind: io::ErrorKind,
    },
    /// A line is not in the format.
    Malformed {
        /// The file's name.
        file: String,
        /// 1-based.
        line: usize,
        /// 1-based, in bytes.
        column: usize,
        /// What is wrong there.
        problem: Problem,
    },
}

/// What is wrong at one place of a trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Problem {
    /// The first line that is no comment is not the header.
    Header,
    /// The first line of a truth file that is no comment is not its header.
    TruthHeader,
    /// There is a header and nothing else.
    NoRows,
    /// The row ends before this column.
    Missing(&'static str),
    /// The row goes on after the last column.
    TooManyColumns,
    /// Not an integer, or beyond 64 bits.
    NotAnInteger(&'static str),
    /// A delay or a root distance below zero.
    Negative(&'static str),
    /// Neither empty nor a finite number.
    Temperature,
    /// `local_ns` does not exceed the previous row's.
    NotAscending,
    /// The source's name is not UTF-8, or holds a control character.
    Source,
    /// More than 256 names of sources.
    TooManySources,
}

impl fmt::Display for TraceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable { file, kind } => write!(f, "{file}: cannot read the trace: {kind}"),
            Self::Malformed { file, line, column, problem } => write!(f, "{file}:{line}:{column}: {problem}"),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Header => write!(f, "expected the header line `{HEADER}`"),
            Self::TruthHeader => write!(f, "expected the header line `{TRUTH_HEADER}`"),
            Self::NoRows => f.write_str("the trace has no rows"),
            Self::Missing(column) => write!(f, "the row ends before {column}; a row has 6 columns"),
            Self::TooManyColumns => f.write_str("more than 6 columns"),
            Self::NotAnInteger(column) => write!(f, "{column} must be an integer number of nanoseconds"),
            Self::Negative(column) => write!(f, "{column} must not be negative"),
            Self::Temperature => f.write_str("temperature_c must be empty or a finite number"),
            Self::NotAscending => f.write_str("local_ns must be greater than in the row before"),
            Self::Source => f.write_str("source must be UTF-8 text without control characters"),
            Self::TooManySources => f.write_str("more than 256 different sources"),
        }
    }
}

impl std::error::Error for TraceError {}

/// Lines without their end (`\n` or `\r\n`), counted from 1.
struct Lines<'a> {
    rest: &'a [u8],
    number: usize,
}

impl<'a> Lines<'a> {
    fn next(&mut self) -> Option<&'a [u8]> {
        if self.rest.is_empty() {
            return None;
        }
        self.number += 1;
        let end = self.rest.iter().position(|&b| b == b'\n');
        let (line, rest) = match end {
            Some(end) => (&self.rest[..end], &self.rest[end + 1..]),
            None => (self.rest, &[][..]),
        };
        self.rest = rest;
        Some(line.strip_suffix(b"\r").unwrap_or(line))
    }
}

/// The fields of one line, left to right.
struct Fields<'a> {
    line: &'a [u8],
    start: usize,
    index: usize,
}

impl<'a> Fields<'a> {
    /// The next field with its 1-based column; there must be another after it.
    fn inner(&mut self) -> Result<(usize, &'a [u8]), (usize, Problem)> {
        let rest = &self.line[self.start..];
        let Some(length) = rest.iter().position(|&b| b == b',') else {
            let next = COLUMNS.get(self.index + 1).copied().unwrap_or("the end");
            return Err((self.line.len() + 1, Problem::Missing(next)));
        };
        let column = self.start + 1;
        self.start += length + 1;
        self.index += 1;
        Ok((column, &rest[..length]))
    }

    fn integer(&mut self) -> Result<i64, (usize, Problem)> {
        let name = COLUMNS[self.index];
        let (column, field) = self.inner()?;
        parse_integer(field).ok_or((column, Problem::NotAnInteger(name)))
    }

    fn not_negative(&mut self) -> Result<i64, (usize, Problem)> {
        let (name, column) = (COLUMNS[self.index], self.start + 1);
        let value = self.integer()?;
        if value < 0 { Err((column, Problem::Negative(name))) } else { Ok(value) }
    }

    fn temperature(&mut self) -> Result<Option<Temperature>, (usize, Problem)> {
        let (column, field) = self.inner()?;
        if field.is_empty() {
            return Ok(None);
        }
        let value: Option<f64> = std::str::from_utf8(field).ok().and_then(|s| s.parse().ok());
        match value {
            Some(value) if value.is_finite() => Ok(Some(Temperature::new(value))),
            _ => Err((column, Problem::Temperature)),
        }
    }

    fn last(&mut self) -> Result<(usize, &'a [u8]), (usize, Problem)> {
        let field = &self.line[self.start..];
        match field.iter().position(|&b| b == b',') {
            Some(extra) => Err((self.start + extra + 1, Problem::TooManyColumns)),
            None => Ok((self.start + 1, field)),
        }
    }
}

fn parse_integer(field: &[u8]) -> Option<i64> {
    let (negative, digits) = match field.split_first() {
        Some((b'-', digits)) => (true, digits),
        _ => (false, field),
    };
    if digits.is_empty() {
        return None;
    }
    let mut value = 0_i64;
    for &digit in digits {
        let digit = i64::from(digit.wrapping_sub(b'0'));
        if digit > 9 {
            return None;
        }
        // Accumulated downwards so that the least value parses too.
        value = value.checked_mul(10)?.checked_sub(digit)?;
    }
    if negative { Some(value) } else { value.checked_neg() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Trace, TraceError> {
        Trace::parse("t.csv", text.as_bytes())
    }

    fn refusal(rows: &str) -> String {
        parse(&format!("# c\n{HEADER}\n{rows}")).expect_err("must be refused").to_string()
    }

    #[test]
    fn what_is_written_is_read_back() {
        let samples = [
            (i64::MIN, -5, 0, 0, None, "a"),
            (-1, i64::MAX, 7, 1, Some(-0.125), ""),
            (3, i64::MIN, i64::MAX, 9, Some(41.5), "a"),
        ]
        .map(|(local, offset, delay, root, temperature, source)| {
            let sample = Sample {
                local: Timestamp::from_nanos(local),
                offset: Offset::from_nanos(offset),
                delay: Span::from_nanos(delay),
                root_distance: Span::from_nanos(root),
                temperature: temperature.map(Temperature::new),
                source: SourceId(u8::from(source.is_empty())),
            };
            (sample, source)
        });
        let mut writer = TraceWriter::new(Vec::new(), &["one\ntwo"]).expect("in memory");
        for (sample, source) in &samples {
            writer.write(sample, source).expect("in memory");
        }
        let trace = Trace::parse("t", &writer.finish().expect("in memory")).expect("its own output");
        assert_eq!(trace.sources, ["a", ""]);
        assert_eq!(trace.samples, samples.map(|(sample, _)| sample));
    }

    #[test]
    fn refusals_name_the_place() {
        assert_eq!(refusal("1,2,3"), "t.csv:3:6: the row ends before root_distance_ns; a row has 6 columns");
        assert_eq!(refusal("1,2,3,4,,a,b"), "t.csv:3:11: more than 6 columns");
        assert_eq!(refusal("1,2,3,4,,\n1,2,3,4,,"), "t.csv:4:1: local_ns must be greater than in the row before");
        assert_eq!(refusal("1,x,3,4,,"), "t.csv:3:3: offset_ns must be an integer number of nanoseconds");
        assert_eq!(refusal("1,2,-3,4,,"), "t.csv:3:5: delay_ns must not be negative");
        assert_eq!(refusal("1,2,3,4,nan,"), "t.csv:3:9: temperature_c must be empty or a finite number");
        assert_eq!(
            refusal("9223372036854775808,2,3,4,,"),
            "t.csv:3:1: local_ns must be an integer number of nanoseconds"
        );
        assert_eq!(refusal("1,2,3,4,,\n\n2,2,3,4,,"), "t.csv:4:1: the row ends before offset_ns; a row has 6 columns");
        let control = "t.csv:3:10: source must be UTF-8 text without control characters";
        assert_eq!(refusal("1,2,3,4,,a\rb"), control);
        assert_eq!(refusal("1,2,3,4,,\u{1b}[31ma"), control);
        assert_eq!(refusal(""), "t.csv:3:1: the trace has no rows");
        assert!(parse("local_ns,offset_ns\n1,2\n").expect_err("header").to_string().starts_with("t.csv:1:1: expected"));
        assert!(parse("").is_err());
    }

    #[test]
    fn windows_line_ends_and_blank_ends_are_taken() {
        let trace = parse(&format!("{HEADER}\r\n1,2,3,4,5.5,x\r\n\r\n")).expect("readable");
        assert_eq!(trace.samples[0].temperature, Some(Temperature::new(5.5)));
        assert_eq!(trace.sources, ["x"]);
    }

    #[test]
    fn no_bytes_make_it_panic() {
        let good = format!("# c\n{HEADER}\n1,-2,3,4,5.5,x\n22,2,3,4,,\n");
        for position in 0..good.len() {
            for byte in [0, b',', b'\n', b'-', b'#', 0xff] {
                let mut bytes = good.clone().into_bytes();
                bytes[position] = byte;
                let _ = Trace::parse("t", &bytes);
                let _ = Trace::parse("t", &bytes[..position]);
            }
        }
    }
}
