//! The configuration file: every key, its meaning, its range and its default.
//!
//! TOML with seven small tables, all optional. Durations are strings with a unit (`"16 s"`, `"250 us"`), rates are numbers in
//! ppm. A key that is not known here is an error that names the line, the column and the nearest known key.
//! `configs/default.toml` in the source tree lists every key with its default.

use std::fmt;
use std::net::Ipv6Addr;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use chronotick_core::units::{Rate, Span};
use serde::Deserialize;
use serde::de::{Deserializer, Error as _};

use crate::error::{Error, Kind};
use crate::ntp::client::Settings;
use crate::ntp::poll::Limits;
use crate::supervisor::{Affinity, Mode, WorkerConfig};

/// Most servers that can be configured.
pub const MAX_SERVERS: usize = 8;

/// Everything that can be configured. [`Config::default`] is what an empty file says.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where time comes from.
    pub ntp: Ntp,
    /// What is assumed of the local oscillator.
    pub oscillator: Oscillator,
    /// How the served clock behaves.
    pub serve: Serve,
    /// Where readers find the clock.
    pub page: Page,
    /// The process that runs the models.
    pub worker: Worker,
    /// The models.
    pub models: Models,
}

/// `[ntp]`: where time comes from.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Ntp {
    /// Servers as `"host"`, `"host:port"` or `"[v6]:port"`; the port defaults to 123. None at all serves raw time.
    #[serde(deserialize_with = "servers")]
    pub servers: Vec<ServerAddress>,
    /// Shortest interval between requests to a server after the burst.
    #[serde(deserialize_with = "span::<SECOND, DAY, _>")]
    pub poll_min: Span,
    /// Longest interval between requests to a server.
    #[serde(deserialize_with = "span::<SECOND, DAY, _>")]
    pub poll_max: Span,
    /// Requests at first contact.
    #[serde(deserialize_with = "integer::<1, 16, _, _>")]
    pub burst: u8,
    /// Interval between the requests of the burst.
    #[serde(deserialize_with = "span::<{ SECOND / 10 }, { 60 * SECOND }, _>")]
    pub burst_interval: Span,
    /// An answer that takes longer is lost.
    #[serde(deserialize_with = "span::<{ SECOND / 100 }, { 10 * SECOND }, _>")]
    pub timeout: Span,
    /// A server that admits more error than this is not used.
    #[serde(deserialize_with = "span::<1_000, { 60 * SECOND }, _>")]
    pub max_root_distance: Span,
}

/// `[oscillator]`: what is assumed of the local oscillator. The hard bound holds while these hold.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Oscillator {
    /// Its rate is never further than this from nominal.
    #[serde(deserialize_with = "ppm")]
    pub max_rate_ppm: f64,
    /// Its rate never differs by more than this between any two instants.
    #[serde(deserialize_with = "ppm")]
    pub max_drift_ppm: f64,
    /// A file with the temperature near it in thousandths of a degree Celsius, as the kernel's thermal and hwmon sensors
    /// have (`/sys/class/thermal/thermal_zone0/temp`). Read once per sample.
    pub temperature: Option<PathBuf>,
}

/// `[serve]`: how the served clock behaves.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Serve {
    /// Servers are asked as rarely as keeps the hard bound within this (between `poll_min` and `poll_max`).
    #[serde(deserialize_with = "span::<100, { 60 * SECOND }, _>")]
    pub target_accuracy: Span,
    /// Corrections are applied no faster than this.
    #[serde(deserialize_with = "ppm")]
    pub max_slew_ppm: f64,
    /// A correction larger than this steps the served clock and starts a new epoch.
    #[serde(deserialize_with = "span::<1_000, { 3600 * SECOND }, _>")]
    pub step_threshold: Span,
    /// Without a sample for this long (and longer than four poll intervals) the tier is holdover.
    #[serde(deserialize_with = "span::<SECOND, DAY, _>")]
    pub holdover_after: Span,
    /// Readers stop trusting a page that nobody has updated for this long.
    #[serde(deserialize_with = "span::<{ 2 * SECOND }, { 7 * DAY }, _>")]
    pub void_after: Span,
}

/// `[page]`: where readers find the clock.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Page {
    /// The page's file; the status socket lies beside it. Default: `clock` in `$CHRONOTICK_DIR`, else `/run/chronotick` when
    /// that can be written, else `$XDG_RUNTIME_DIR/chronotick`, else `/dev/shm/chronotick-UID`.
    pub path: Option<PathBuf>,
}

/// `[worker]`: the process that runs the models.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Worker {
    /// `"process"`: a process of its own; `"thread"`: a thread of the daemon; `"off"`: no model runs.
    #[serde(deserialize_with = "mode")]
    pub mode: Mode,
    /// CPUs that the worker may use: `"auto"` (not the first, not the daemon's), a list, or `[]` for all.
    #[serde(deserialize_with = "affinity")]
    pub cpu_affinity: Affinity,
    /// Its niceness.
    #[serde(deserialize_with = "integer::<0, 19, _, _>")]
    pub nice: u8,
    /// Whether it runs only when nothing else wants the CPU (SCHED_IDLE).
    pub idle: bool,
    /// Most memory that the worker may map, in MiB.
    #[serde(deserialize_with = "integer::<64, 65_536, _, _>")]
    pub memory_mib: u32,
    /// The worker gives up files, network and most system calls before it parses a model.
    pub sandbox: bool,
}

/// `[models]`: the models.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Models {
    /// Folder with `chronotick-near.onnx` and `chronotick-far.onnx`. Default: `$CHRONOTICK_MODELS`, else `models` beside the
    /// program, else the models built into it.
    pub dir: Option<PathBuf>,
    /// Which of them are asked.
    pub forecasters: Forecasters,
    /// The base step of the models' grids.
    #[serde(deserialize_with = "span::<{ SECOND / 10 }, { 3600 * SECOND }, _>")]
    pub step: Span,
}

/// Which models are asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Forecasters {
    /// None: the classical experts alone.
    None,
    /// The near forecaster (Chronos-Bolt architecture).
    Chronos,
    /// The far forecaster (TinyTimeMixer architecture).
    Ttm,
    /// Both.
    #[default]
    Both,
}

impl Forecasters {
    /// By `Model::index`.
    pub fn enabled(self) -> [bool; 2] {
        [matches!(self, Self::Chronos | Self::Both), matches!(self, Self::Ttm | Self::Both)]
    }
}

impl Default for Ntp {
    fn default() -> Self {
        Self {
            // Public servers of national institutes and operators that do not smear leap seconds.
            servers: ["time.cloudflare.com", "ptbtime1.ptb.de", "ntp.time.nl", "ntp.se"]
                .map(|h| ServerAddress::new(h, 123))
                .into(),
            poll_min: Span::from_secs(16),
            poll_max: Span::from_secs(1024),
            burst: 6,
            burst_interval: Span::from_secs(2),
            timeout: Span::from_secs(1),
            max_root_distance: Span::from_millis(1500),
        }
    }
}

impl Default for Oscillator {
    fn default() -> Self {
        Self { max_rate_ppm: 500.0, max_drift_ppm: 50.0, temperature: None }
    }
}

impl Default for Serve {
    fn default() -> Self {
        Self {
            target_accuracy: Span::from_millis(20),
            max_slew_ppm: 500.0,
            step_threshold: Span::from_millis(128),
            holdover_after: Span::from_secs(64),
            void_after: Span::from_secs(3600),
        }
    }
}

impl Default for Worker {
    fn default() -> Self {
        Self {
            mode: Mode::Process,
            cpu_affinity: Affinity::Auto,
            nice: 10,
            idle: false,
            memory_mib: 512,
            sandbox: true,
        }
    }
}

impl Default for Models {
    fn default() -> Self {
        Self { dir: None, forecasters: Forecasters::Both, step: Span::from_secs(64) }
    }
}

impl Config {
    /// Reads and checks a file.
    ///
    /// # Errors
    /// One line with the file and, where one is to blame, the line and column.
    pub fn load(path: &Path) -> Result<Self, Error> {
        let text = std::fs::read_to_string(path)
            .map_err(|cause| Error::new(Kind::Config, format!("cannot read {}", path.display())).caused_by(cause))?;
        Self::parse(&text, path)
    }

    /// Checks `text`, which was read from `path`.
    ///
    /// # Errors
    /// One line with the file, the line and the column.
    pub fn parse(text: &str, path: &Path) -> Result<Self, Error> {
        let config: Self = toml::from_str(text).map_err(|cause| {
            let start = cause.span().map_or(0, |span| span.start);
            located(text, path, start, &explain(cause.message()))
        })?;
        config.check().map_err(|Conflict { table, key, message }| {
            located(text, path, position(text, table, key), &format!("{key} {message}"))
        })?;
        Ok(config)
    }

    /// The core's share.
    pub fn pipeline(&self, counter_resolution: Span) -> chronotick_core::Config {
        let forecasters = if self.worker.mode == Mode::Off { Forecasters::None } else { self.models.forecasters };
        chronotick_core::Config {
            max_rate: Rate::from_ppm(self.oscillator.max_rate_ppm),
            max_drift: Rate::from_ppm(self.oscillator.max_drift_ppm),
            counter_resolution,
            holdover_after: self.serve.holdover_after,
            void_after: self.serve.void_after,
            forecast_step: self.models.step,
            forecasters: forecasters.enabled(),
        }
    }

    /// The NTP client's share.
    pub fn client(&self) -> Settings {
        Settings {
            limits: Limits {
                min: self.ntp.poll_min,
                max: self.ntp.poll_max,
                burst: self.ntp.burst,
                burst_interval: self.ntp.burst_interval,
            },
            timeout: self.ntp.timeout,
            max_root_distance: self.ntp.max_root_distance,
        }
    }

    /// The supervisor's share; `None` when no model is to run.
    pub fn supervisor(&self) -> Option<WorkerConfig> {
        let off = self.worker.mode == Mode::Off || self.models.forecasters == Forecasters::None;
        let step = self.models.step.as_secs_f64();
        (!off).then(|| WorkerConfig {
            mode: self.worker.mode,
            cpu_affinity: self.worker.cpu_affinity.clone(),
            nice: self.worker.nice,
            idle: self.worker.idle,
            memory_mib: self.worker.memory_mib,
            models: self.models.dir.clone(),
            sandbox: self.worker.sandbox,
            // The pipeline forgets a question after a few steps; nobody waits longer than ten seconds for it.
            deadline: Duration::from_secs_f64((4.0 * step).clamp(0.25, 10.0)),
            ..WorkerConfig::default()
        })
    }

    /// What single values cannot show.
    fn check(&self) -> Result<(), Conflict> {
        let conflict = |table, key, message: &str| Err(Conflict { table, key, message: message.to_owned() });
        if self.ntp.poll_max < self.ntp.poll_min {
            return conflict("ntp", "poll_max", "must not be shorter than poll_min");
        }
        if self.ntp.timeout > self.ntp.poll_min {
            return conflict("ntp", "timeout", "must not be longer than poll_min");
        }
        if self.oscillator.max_drift_ppm > 2.0 * self.oscillator.max_rate_ppm {
            return conflict(
                "oscillator",
                "max_drift_ppm",
                "cannot exceed twice max_rate_ppm: no two rates are further apart",
            );
        }
        if let Affinity::Cores(cpus) = &self.worker.cpu_affinity
            && let Some(cpu) = cpus.iter().find(|&&cpu| cpu >= 1024)
        {
            return conflict("worker", "cpu_affinity", &format!("names CPU {cpu}; the highest number is 1023"));
        }
        Ok(())
    }
}

impl Page {
    /// Where a daemon puts its page.
    pub fn path_for_daemon(&self) -> PathBuf {
        if let Some(path) = &self.path {
            return path.clone();
        }
        let [chosen, system, session, shared] = folders();
        let folder = chosen.or(system.filter(|folder| writable(folder))).or(session).or(shared);
        folder.unwrap_or_default().join(PAGE_NAME)
    }

    /// Where a reader looks for it: the first of the daemon's places that has one, else where a daemon would put it.
    pub fn path_for_reader(&self) -> PathBuf {
        if let Some(path) = &self.path {
            return path.clone();
        }
        let [chosen, system, session, shared] = folders();
        let places = if chosen.is_some() { [chosen, None, None] } else { [system, session, shared] };
        let pages = places.into_iter().flatten().map(|folder| folder.join(PAGE_NAME));
        pages.into_iter().find(|page| page.exists()).unwrap_or_else(|| self.path_for_daemon())
    }
}

const PAGE_NAME: &str = "clock";

/// The user's choice, the system's folder, the session's, and the one that always exists.
fn folders() -> [Option<PathBuf>; 4] {
    let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let user = rustix::process::geteuid().as_raw();
    [
        variable("CHRONOTICK_DIR"),
        Some(PathBuf::from("/run/chronotick")),
        variable("XDG_RUNTIME_DIR").map(|folder| folder.join("chronotick")),
        Some(PathBuf::from(format!("/dev/shm/chronotick-{user}"))),
    ]
}

/// Whether files can be made in `folder`, or the folder itself where it is missing.
fn writable(folder: &Path) -> bool {
    let there = if folder.exists() { Some(folder) } else { folder.parent() };
    there.is_some_and(|folder| rustix::fs::access(folder, rustix::fs::Access::WRITE_OK).is_ok())
}

struct Conflict {
    table: &'static str,
    key: &'static str,
    message: String,
}

/// Where a server is to be found.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ServerAddress {
    host: String,
    port: u16,
}

impl ServerAddress {
    /// A host name or address, and a port.
    pub fn new(host: &str, port: u16) -> Self {
        Self { host: host.to_owned(), port }
    }
    /// The host name or address, without brackets.
    pub fn host(&self) -> &str {
        &self.host
    }
    /// The UDP port.
    pub fn port(&self) -> u16 {
        self.port
    }
}

impl fmt::Display for ServerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

impl FromStr for ServerAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bad = || format!("bad server `{text}`: write \"host\", \"host:port\" or \"[v6]:port\"");
        let port_of = |port: &str| port.parse::<u16>().ok().filter(|&port| port > 0).ok_or_else(bad);
        let is_v6 = |host: &str| host.split('%').next().is_some_and(|address| address.parse::<Ipv6Addr>().is_ok());
        if let Some(rest) = text.strip_prefix('[') {
            let (host, rest) = rest.split_once(']').ok_or_else(bad)?;
            let port = if rest.is_empty() { 123 } else { port_of(rest.strip_prefix(':').ok_or_else(bad)?)? };
            return if is_v6(host) { Ok(Self::new(host, port)) } else { Err(bad()) };
        }
        if is_v6(text) {
            return Ok(Self::new(text, 123));
        }
        let (host, port) = match text.split_once(':') {
            Some((host, port)) => (host, port_of(port)?),
            None => (text, 123),
        };
        let plausible = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
        if host.is_empty() || host.len() > 253 || !host.chars().all(plausible) {
            return Err(bad());
        }
        Ok(Self::new(host, port))
    }
}

const SECOND: i64 = 1_000_000_000;
const DAY: i64 = 86_400 * SECOND;

/// "250 us" and the like.
fn parse_span(text: &str) -> Option<Span> {
    let text = text.trim();
    let unit_at = text.find(|c: char| !matches!(c, '0'..='9' | '.' | '_'))?;
    let (number, unit) = text.split_at(unit_at);
    let scale = match unit.trim() {
        "ns" => 1e-9,
        "us" | "µs" => 1e-6,
        "ms" => 1e-3,
        "s" => 1.0,
        "min" => 60.0,
        "h" => 3600.0,
        "d" => 86_400.0,
        _ => return None,
    };
    let number: f64 = number.replace('_', "").parse().ok()?;
    Some(Span::from_secs_f64(number * scale))
}

/// Nanoseconds in the largest unit that divides them.
fn show_span(nanos: i64) -> String {
    let units = [(3600 * SECOND, "h"), (60 * SECOND, "min"), (SECOND, "s"), (1_000_000, "ms"), (1_000, "us")];
    units
        .iter()
        .find(|(unit, _)| nanos % unit == 0)
        .map_or_else(|| format!("{nanos} ns"), |(unit, name)| format!("{} {name}", nanos / unit))
}

fn span<'de, const MIN: i64, const MAX: i64, D: Deserializer<'de>>(input: D) -> Result<Span, D::Error> {
    /// A bare number is accepted by the parser only to be refused with a better message than "invalid type".
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "expected a duration such as \"16 s\"")]
    enum Written {
        Text(String),
        Number(f64),
    }
    match Written::deserialize(input)? {
        Written::Number(number) => Err(D::Error::custom(format!("a duration needs a unit: \"{number} s\""))),
        Written::Text(text) => {
            let span = parse_span(&text).ok_or_else(|| {
                D::Error::custom(format!(
                    "bad duration `{text}`: write a number and ns, us, ms, s, min, h or d, such as \"16 s\""
                ))
            })?;
            if (MIN..=MAX).contains(&span.as_nanos()) {
                return Ok(span);
            }
            Err(D::Error::custom(format!("{text} is out of range: {} to {}", show_span(MIN), show_span(MAX))))
        }
    }
}

fn integer<'de, const MIN: i64, const MAX: i64, D: Deserializer<'de>, T: TryFrom<i64>>(
    input: D,
) -> Result<T, D::Error> {
    let value = i64::deserialize(input)?;
    let in_range = (MIN..=MAX).contains(&value).then_some(value);
    in_range
        .and_then(|value| T::try_from(value).ok())
        .ok_or_else(|| D::Error::custom(format!("{value} is out of range: {MIN} to {MAX}")))
}

fn ppm<'de, D: Deserializer<'de>>(input: D) -> Result<f64, D::Error> {
    let value = f64::deserialize(input)?;
    if value.is_finite() && (1e-6..=10_000.0).contains(&value) {
        return Ok(value);
    }
    Err(D::Error::custom(format!("{value} is out of range: 0.000001 to 10000 ppm")))
}

fn mode<'de, D: Deserializer<'de>>(input: D) -> Result<Mode, D::Error> {
    #[derive(Deserialize)]
    #[serde(rename_all = "lowercase")]
    enum Written {
        Process,
        Thread,
        Off,
    }
    Ok(match Written::deserialize(input)? {
        Written::Process => Mode::Process,
        Written::Thread => Mode::Thread,
        Written::Off => Mode::Off,
    })
}

fn affinity<'de, D: Deserializer<'de>>(input: D) -> Result<Affinity, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "expected \"auto\" or a list of CPUs such as [2, 3]")]
    enum Written {
        Word(String),
        List(Vec<u16>),
    }
    match Written::deserialize(input)? {
        Written::Word(word) if word == "auto" => Ok(Affinity::Auto),
        Written::Word(word) => {
            Err(D::Error::custom(format!("`{word}` is neither \"auto\" nor a list of CPUs such as [2, 3]")))
        }
        Written::List(cpus) => Ok(Affinity::Cores(cpus.into_iter().map(usize::from).collect())),
    }
}

fn servers<'de, D: Deserializer<'de>>(input: D) -> Result<Vec<ServerAddress>, D::Error> {
    let texts = Vec::<String>::deserialize(input)?;
    if texts.len() > MAX_SERVERS {
        return Err(D::Error::custom(format!("{} servers; at most {MAX_SERVERS} can be used", texts.len())));
    }
    let mut servers = Vec::with_capacity(texts.len());
    for text in texts {
        let server = text.parse().map_err(D::Error::custom)?;
        if servers.contains(&server) {
            return Err(D::Error::custom(format!("server `{server}` is listed twice")));
        }
        servers.push(server);
    }
    Ok(servers)
}

/// The parser's message in one line, with the nearest known word where one was unknown.
fn explain(message: &str) -> String {
    let line = message.lines().collect::<Vec<_>>().join("; ");
    let what =
        [("unknown field", "key"), ("unknown variant", "value")].into_iter().find(|(start, _)| line.starts_with(start));
    let Some((start, noun)) = what else {
        return line;
    };
    let words: Vec<&str> = line[start.len()..].split('`').skip(1).step_by(2).collect();
    let Some((unknown, known)) = words.split_first() else {
        return line;
    };
    let nearest = known
        .iter()
        .map(|word| (strsim::damerau_levenshtein(unknown, word), word))
        .filter(|(distance, word)| *distance <= 1 + word.len() / 3)
        .min();
    match nearest {
        Some((_, word)) => format!("unknown {noun} `{unknown}`: did you mean `{word}`?"),
        None => format!("unknown {noun} `{unknown}`: the known ones are {}", known.join(", ")),
    }
}

fn located(text: &str, path: &Path, byte: usize, message: &str) -> Error {
    let before = text.get(..byte).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before.chars().rev().take_while(|&c| c != '\n').count() + 1;
    Error::new(Kind::Config, format!("{}:{line}:{column}: {message}", path.display()))
}

/// Where the value of `table.key` starts, or the file's start if it is not written there.
fn position(text: &str, table: &str, key: &str) -> usize {
    let written = toml::de::DeTable::parse(text).ok().and_then(|root| {
        let value = root.get_ref().get(table)?.get_ref().get(key)?.span();
        Some(value.start)
    });
    written.unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> String {
        let error = Config::parse(text, Path::new("c.toml")).expect_err(text);
        assert!(error.is_config());
        error.to_string()
    }

    #[test]
    fn an_empty_file_is_the_default() {
        assert_eq!(Config::parse("", Path::new("c.toml")).expect("empty"), Config::default());
    }

    #[test]
    fn values_are_read() {
        let text = "[ntp]\nservers = [\"a.example\", \"127.0.0.1:11123\", \"[::1]:5\"]\npoll_min = \"1 s\"\n[models]\nforecasters = \"ttm\"\nstep=\"0.5s\"\n[oscillator]\nmax_drift_ppm = 20\n";
        let config = Config::parse(text, Path::new("c.toml")).expect("good");
        let servers: Vec<_> = config.ntp.servers.iter().map(ToString::to_string).collect();
        assert_eq!(servers, ["a.example:123", "127.0.0.1:11123", "[::1]:5"]);
        assert_eq!(config.models.step, Span::from_millis(500));
        let core = config.pipeline(Span::from_nanos(1));
        assert_eq!(core.forecasters, [false, true]);
        assert_eq!(core.max_drift, Rate::from_ppm(20.0));
    }

    #[test]
    fn errors_name_the_place_and_what_to_do() {
        let cases = [
            ("[ntp]\n  pol_min = \"1 s\"\n", "c.toml:2:3: unknown key `pol_min`: did you mean `poll_min`?"),
            ("[npt]\n", "c.toml:1:2: unknown key `npt`: did you mean `ntp`?"),
            ("[ntp]\npoll_min = 16\n", "c.toml:2:12: a duration needs a unit: \"16 s\""),
            (
                "[ntp]\npoll_min = \"16 parsecs\"\n",
                "c.toml:2:12: bad duration `16 parsecs`: write a number and ns, us, ms, s, min, h or d, such as \"16 s\"",
            ),
            ("[ntp]\npoll_min = \"1 ms\"\n", "c.toml:2:12: 1 ms is out of range: 1 s to 24 h"),
            (
                "[ntp]\npoll_min = \"2 min\"\npoll_max = \"1 min\"\n",
                "c.toml:3:12: poll_max must not be shorter than poll_min",
            ),
            ("[worker]\nmode = \"thred\"\n", "c.toml:2:8: unknown value `thred`: did you mean `thread`?"),
            (
                "[worker]\ncpu_affinity = \"all\"\n",
                "c.toml:2:16: `all` is neither \"auto\" nor a list of CPUs such as [2, 3]",
            ),
            ("[ntp]\nburst = 20\n", "c.toml:2:9: 20 is out of range: 1 to 16"),
            ("[oscillator]\nmax_rate_ppm = nan\n", "c.toml:2:16: NaN is out of range: 0.000001 to 10000 ppm"),
            (
                "[ntp]\nservers = [\"a b\"]\n",
                "c.toml:2:11: bad server `a b`: write \"host\", \"host:port\" or \"[v6]:port\"",
            ),
            ("[ntp]\nservers = [\"a\", \"a:123\"]\n", "c.toml:2:11: server `a:123` is listed twice"),
        ];
        for (text, line) in cases {
            assert_eq!(refused(text), line);
        }
        for text in ["[ntp", "x", "ntp = 3", "[ntp]\nburst = \"many\"", "\u{0}", "[ntp]\nburst = 1\nburst = 2\n"] {
            let line = refused(text);
            assert!(line.starts_with("c.toml:") && !line.contains('\n'), "{line}");
        }
    }

    #[test]
    fn unknown_words_far_from_any_known_list_the_known() {
        let line = refused("[models]\nzzzzzz = 1\n");
        assert_eq!(line, "c.toml:2:1: unknown key `zzzzzz`: the known ones are dir, forecasters, step");
    }

    #[test]
    fn shipped_configurations_are_good_and_the_default_one_lists_every_key() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs");
        let mut names = Vec::new();
        for entry in std::fs::read_dir(&folder).expect("configs") {
            let path = entry.expect("entry").path();
            if path.extension().is_some_and(|extension| extension == "toml") {
                Config::load(&path).unwrap_or_else(|error| panic!("{error}"));
                names.push(path.file_stem().expect("name").to_string_lossy().into_owned());
            }
        }
        for name in ["default", "edge", "holdover", "minimal", "datacentre", "production"] {
            assert!(names.iter().any(|n| n == name), "configs/{name}.toml is missing");
        }
        let path = folder.join("default.toml");
        let text = std::fs::read_to_string(&path).expect("default.toml");
        assert_eq!(Config::load(&path).expect("good"), Config::default());
        // The optional keys are shown commented out; uncommented they must be known as well.
        let uncommented: String = text
            .lines()
            .map(|l| l.strip_prefix("# ").filter(|l| l.contains(" = \"/")).unwrap_or(l))
            .flat_map(|l| [l, "\n"])
            .collect();
        let all = Config::parse(&uncommented, &path).expect("good");
        assert!(all.page.path.is_some() && all.models.dir.is_some() && all.oscillator.temperature.is_some());
        for table in ["ntp", "oscillator", "serve", "page", "worker", "models"] {
            let body = uncommented.split(&format!("[{table}]\n")).nth(1).expect(table);
            let body = body.split("\n[").next().unwrap_or(body);
            let unknown = toml::from_str::<Config>(&format!("[{table}]\n? = 1").replace('?', "qqqqqqqqqqqqqqqq"))
                .expect_err("unknown");
            for key in unknown.message().split('`').skip(3).step_by(2) {
                assert!(
                    body.lines().any(|line| line.starts_with(&format!("{key} = "))),
                    "default.toml lacks {table}.{key}"
                );
            }
        }
    }

    #[test]
    fn server_addresses() {
        for (text, shown) in [("::1", "[::1]:123"), ("[fe80::1%lo]:9", "[fe80::1%lo]:9"), ("h:65535", "h:65535")] {
            assert_eq!(text.parse::<ServerAddress>().map(|s| s.to_string()), Ok(shown.to_owned()));
        }
        for text in ["", ":", "h:", "h:0", "h:65536", "[::1", "[::1]x", "[h]:1", "a/b", "h:1:2"] {
            assert!(text.parse::<ServerAddress>().is_err(), "{text}");
        }
    }

    mod any_text {
        use proptest::prelude::*;

        use super::*;

        proptest! {
            #[test]
            fn is_a_configuration_or_a_one_line_error(text in "(\\PC|\n|\\[ntp\\]\n|poll_min ?= ?|\"[0-9]{0,4}[a-z]{0,2}\"|servers|\\[|\\]|=){0,12}") {
                if let Err(error) = Config::parse(&text, Path::new("c.toml")) {
                    prop_assert!(!error.to_string().contains('\n'));
                }
            }
        }
    }
}
