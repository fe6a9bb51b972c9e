//! The configuration: every key, its meaning, its range and its default.
//!
//! TOML, or YAML where the file is called so, with a few small tables, all optional. Durations are strings with a unit
//! (`"16 s"`, `"250 us"`), rates are numbers in ppm. A key that is not known is an error that names the line, the column and the
//! nearest known key. `CHRONOTICK_TABLE__KEY` in the environment goes before the file.
//!
//! `keys` describes the keys, and everything else follows from there: `docs/CONFIGURATION.md` is [`reference()`],
//! [`Config::adopt`] is what a reload does.

mod collector;
mod keys;
mod layers;
pub mod machine;
mod place;
mod reference;
mod servers;
mod values;

use std::path::Path;
use std::time::Duration;

use chronotick_core::units::{Rate, Span};
use serde::Deserialize;

pub use self::collector::CollectorAddress;
pub use self::keys::{Feed, Local, Metrics, Models, Ntp, Oscillator, Page, Serve, Worker};
pub use self::layers::Loaded;
pub use self::reference::reference;
pub use self::servers::{MAX_SERVERS, POOL_SIZE, Server, ServerAddress};

use self::values::Written;
use crate::error::{Error, Kind};
use crate::local::{self, LocalAddress};
use crate::ntp::client::Settings;
use crate::ntp::poll::Limits;
use crate::supervisor::{Affinity, Mode, WorkerConfig};

/// Everything that can be configured. [`Config::default`] is what an empty file says.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where time comes from.
    pub ntp: Ntp,
    /// References on this machine.
    pub local: Local,
    /// What is assumed of the local oscillator.
    pub oscillator: Oscillator,
    /// How the served clock behaves.
    pub serve: Serve,
    /// Others that are given this clock.
    pub feed: Feed,
    /// Where readers find the clock.
    pub page: Page,
    /// The process that runs the models.
    pub worker: Worker,
    /// The models.
    pub models: Models,
    /// What the daemon tells a monitoring system.
    pub metrics: Metrics,
}

/// Which models are asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[cfg_attr(feature = "cli", derive(clap::ValueEnum))]
#[serde(rename_all = "lowercase")]
pub enum Forecasters {
    /// No model: the filter and the classical experts alone.
    None,
    /// The near model (Chronos-Bolt architecture).
    Chronos,
    /// The far model (TinyTimeMixer architecture).
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

/// Where the worker's unset keys come from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Device {
    /// From the preset that suits the machine: [`machine`].
    Auto,
    /// From the defaults.
    #[default]
    Cpu,
}

/// What a reload did: keys as `table.key`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reload {
    /// Changed and in effect.
    pub taken: Vec<&'static str>,
    /// Changed in the file, but only a restart takes them.
    pub left: Vec<&'static str>,
}

impl Config {
    /// Reads and checks a file by itself.
    ///
    /// # Errors
    /// One line with the file and, where one is to blame, the line and column.
    pub fn load(path: &Path) -> Result<Self, Error> {
        layers::Document::read(path)?.config()
    }

    /// Checks `text`, which was read from `path`. YAML if the path says so, else TOML.
    ///
    /// # Errors
    /// One line with the file, the line and the column.
    pub fn parse(text: &str, path: &Path) -> Result<Self, Error> {
        layers::Document::new(text, path).config()
    }

    /// What holds for a daemon on this machine: the file, or none; what the environment says instead; and what the machine
    /// suggests where `worker.device` asks for that.
    ///
    /// # Errors
    /// One line that names the file with line and column, or the variable.
    pub fn effective(file: Option<&Path>) -> Result<Loaded, Error> {
        layers::load(file, std::env::vars_os(), || machine::choose(&machine::look()))
    }

    /// Takes from `new` what can change in a running daemon.
    ///
    /// # Errors
    /// What would result contradicts itself; nothing was taken.
    pub fn adopt(&mut self, new: &Self) -> Result<Reload, Error> {
        let mut reload = Reload::default();
        let mut next = self.clone();
        next.ntp.adopt(&new.ntp, &mut reload);
        next.local.adopt(&new.local, &mut reload);
        next.oscillator.adopt(&new.oscillator, &mut reload);
        next.serve.adopt(&new.serve, &mut reload);
        next.feed.adopt(&new.feed, &mut reload);
        next.page.adopt(&new.page, &mut reload);
        next.worker.adopt(&new.worker, &mut reload);
        next.models.adopt(&new.models, &mut reload);
        next.metrics.adopt(&new.metrics, &mut reload);
        next.check().map_err(|Conflict { table, key, message, .. }| {
            Error::new(Kind::Config, format!("{table}.{key} {message}, with what waits for a restart: restart instead"))
        })?;
        *self = next;
        Ok(reload)
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
            sources: u8::try_from(self.voters()).unwrap_or(u8::MAX),
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
            interleaved: false,
        }
    }

    /// How many servers there are to hear, those of pools counted.
    pub fn server_count(&self) -> usize {
        self.ntp.servers.iter().map(Server::count).sum()
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

    /// How many sources can say what time it is by themselves.
    pub(crate) fn voters(&self) -> usize {
        self.server_count() + self.local.sources.iter().filter(|source| !matches!(source, LocalAddress::Pps(_))).count()
    }

    /// The local sources' share.
    pub(crate) fn local(&self) -> local::Settings {
        let Local { poll, ptp_error, tai_offset, pps_error, .. } = self.local;
        local::Settings { poll, ptp_error, tai_offset, pps_error }
    }

    /// Refuses two sources that tell of one clock, and any that tell of the clock that is fed.
    fn check_opinions(&self) -> Result<(), Conflict> {
        let conflict = |(table, key), message, with| Err(Conflict { table, key, message, with });
        let (feed, local, ntp) = (("feed", "chrony_sock"), ("local", "sources"), ("ntp", "servers"));
        let sources = &self.local.sources;
        // Of the system's clock, or of a hypervisor's that "auto" may read.
        let tells = |source: &&LocalAddress| {
            matches!(source, LocalAddress::Kernel | LocalAddress::Chronyd(_) | LocalAddress::Auto)
        };
        let opinion = sources.iter().find(tells);
        let usual = self.ntp.servers.iter().find(|server| server.is_usual_on_this_machine());
        if self.feed.chrony_sock.is_some() {
            let fed = opinion.map(|source| (source.to_string(), local));
            let fed = fed.or_else(|| usual.map(|server| (server.address.to_string(), ntp)));
            if let Some((source, with)) = fed {
                let message = format!(
                    "would feed a chronyd that \"{source}\" may follow in turn: a clock that follows itself drifts off; \
                     remove one of the two"
                );
                return conflict(feed, message, Some(with));
            }
        }
        let Some(opinion) = opinion else { return Ok(()) };
        let is_read_by_auto = |source: &&LocalAddress| matches!(source, LocalAddress::Ptp { tai: false, .. });
        let hardware = sources.iter().find(is_read_by_auto).filter(|_| *opinion == LocalAddress::Auto);
        if let Some(other) = sources.iter().filter(tells).nth(1).or(hardware) {
            let message = format!(
                "has \"{opinion}\" and \"{other}\", which would be two votes for one clock: remove one of the two"
            );
            return conflict(local, message, None);
        }
        if let Some(server) = usual {
            let message = format!(
                "has \"{opinion}\", and [ntp] servers has \"{}\" on this machine: two votes for one clock; remove one of the two",
                server.address
            );
            return conflict(local, message, Some(ntp));
        }
        Ok(())
    }

    /// What single values cannot show.
    fn check(&self) -> Result<(), Conflict> {
        let conflict =
            |table, key, message: &str| Err(Conflict { table, key, message: message.to_owned(), with: None });
        let between = |(table, key), with, message| Err(Conflict { table, key, message, with: Some(with) });
        let default = Self::default();
        if self.page.path.as_ref().is_some_and(|path| path.file_name().is_none()) {
            return conflict("page", "path", "does not name a file");
        }
        if self.ntp.poll_max < self.ntp.poll_min {
            let max = told(&self.ntp.poll_max, &default.ntp.poll_max);
            let min = told(&self.ntp.poll_min, &default.ntp.poll_min);
            let message = format!("({max}) must not be shorter than poll_min ({min})");
            return between(("ntp", "poll_max"), ("ntp", "poll_min"), message);
        }
        if self.ntp.timeout > self.ntp.poll_min {
            let timeout = told(&self.ntp.timeout, &default.ntp.timeout);
            let min = told(&self.ntp.poll_min, &default.ntp.poll_min);
            let message = format!("({timeout}) must not be longer than poll_min ({min})");
            return between(("ntp", "timeout"), ("ntp", "poll_min"), message);
        }
        let count = self.server_count() + self.local.sources.len();
        if count > MAX_SERVERS {
            let message = format!("and [ntp] servers are {count} together; at most {MAX_SERVERS} can be used");
            return between(("local", "sources"), ("ntp", "servers"), message);
        }
        self.check_opinions()?;
        if self.oscillator.max_drift_ppm > 2.0 * self.oscillator.max_rate_ppm {
            let drift = told(&self.oscillator.max_drift_ppm, &default.oscillator.max_drift_ppm);
            let rate = told(&self.oscillator.max_rate_ppm, &default.oscillator.max_rate_ppm);
            let message =
                format!("({drift}) cannot exceed twice max_rate_ppm ({rate}): no two rates are further apart");
            return between(("oscillator", "max_drift_ppm"), ("oscillator", "max_rate_ppm"), message);
        }
        if let Affinity::Cores(cpus) = &self.worker.cpu_affinity
            && let Some(cpu) = cpus.iter().find(|&&cpu| cpu >= 1024)
        {
            return conflict("worker", "cpu_affinity", &format!("names CPU {cpu}; the highest number is 1023"));
        }
        Ok(())
    }
}

impl Metrics {
    /// What is wanted here and this program cannot do, a line each. The clock is as good without it.
    pub fn left_out(&self) -> Vec<String> {
        let listen = self.listen.filter(|_| cfg!(not(feature = "metrics"))).map(|listen| {
            format!("metrics.listen: nothing listens on {listen}: this program was built without the feature `metrics`")
        });
        let otlp = self.otlp.as_ref().filter(|_| cfg!(not(feature = "opentelemetry"))).map(|collector| {
            format!("metrics.otlp: nothing is sent to {collector}: this program was built without the feature `opentelemetry`")
        });
        listen.into_iter().chain(otlp).collect()
    }
}

/// Values that do not go together.
struct Conflict {
    table: &'static str,
    key: &'static str,
    message: String,
    /// The other one, as table and key: to blame where the first is not written.
    with: Option<(&'static str, &'static str)>,
}

/// A value as it is written; nobody may have written the default.
fn told<T: PartialEq + Written>(value: &T, default: &T) -> String {
    value.written().unwrap_or_default() + if value == default { ", the default" } else { "" }
}

/// The tables as the reference shows them.
fn tables() -> Vec<keys::Table> {
    vec![
        Ntp::table(),
        Local::table(),
        Oscillator::table(),
        Serve::table(),
        Feed::table(),
        Page::table(),
        Worker::table(),
        Models::table(),
        Metrics::table(),
    ]
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
        let servers: Vec<_> = config.ntp.servers.iter().map(|s| s.address.to_string()).collect();
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
                "c.toml:3:12: poll_max (\"1 min\") must not be shorter than poll_min (\"2 min\")",
            ),
            (
                "[oscillator]\nmax_rate_ppm = 10\n",
                "c.toml:2:16: max_drift_ppm (50, the default) cannot exceed twice max_rate_ppm (10): no two rates are further apart",
            ),
            ("[worker]\nmode = \"thred\"\n", "c.toml:2:8: unknown value `thred`: did you mean `thread`?"),
            (
                "[worker]\ncpu_affinity = \"all\"\n",
                "c.toml:2:16: `all` is neither \"auto\" nor a list of CPUs such as [2, 3]",
            ),
            ("[ntp]\nburst = 20\n", "c.toml:2:9: 20 is out of range: 1 to 16"),
            ("[ntp]\nburst = \"3\"\n", "c.toml:2:9: burst wants a whole number, 1 to 16"),
            ("[ntp]\nburst = 99999999999999999999\n", "c.toml:2:9: burst wants a whole number, 1 to 16"),
            ("[serve]\n[ntp]\npoll_min = [3]\n", "c.toml:3:12: poll_min wants a duration, `\"1 s\"` to `\"24 h\"`"),
            (
                "[ntp]\nservers = \"a.example\"\n",
                "c.toml:2:11: servers wants a list of at most 8 servers, such as `[\"ntp1.internal\", \"ntp2.internal:123\"]`",
            ),
            (
                "models.forecasters = [\"chronos\"]\n",
                "c.toml:1:22: forecasters wants one of `\"none\"`, `\"chronos\"`, `\"ttm\"`, `\"both\"`",
            ),
            ("ntp = \"x\"\n", "c.toml:1:7: ntp wants a table: write `[ntp]` and its keys below"),
            ("ntp = [[\"127.0.0.1\"], \"1 s\"]\n", "c.toml:1:7: ntp wants a table: write `[ntp]` and its keys below"),
            ("page = []\n", "c.toml:1:8: page wants a table: write `[page]` and its keys below"),
            ("[serve]\n[[ntp]]\n", "c.toml:2:1: ntp wants a table: write `[ntp]` and its keys below"),
            ("[oscillator]\nmax_rate_ppm = nan\n", "c.toml:2:16: NaN is out of range: 0.000001 to 10000 ppm"),
            (
                "[ntp]\nservers = [\"a b\"]\n",
                "c.toml:2:12: bad server `a b`: write \"host\", \"host:port\" or \"[v6]:port\"",
            ),
            (
                "[local]\nsources = [\"ptp:ptp0\"]\n",
                "c.toml:2:11: bad local source `ptp:ptp0`: write \"ptp:/dev/ptp0\", \"ptp-tai:/dev/ptp0\", \"pps:/dev/pps0\", \"kernel\", \"chronyd\", \"chronyd:127.0.0.1:323\", \"chronyd:/run/chrony/chronyd.sock\" or \"auto\"",
            ),
            ("[local]\nsources = [\"kernel\", \"kernel\"]\n", "c.toml:2:11: local source `kernel` is listed twice"),
            (
                "[feed]\nchrony_sock = \"/run/s\"\n[local]\nsources = \"kernel\"\n",
                "c.toml:2:15: chrony_sock would feed a chronyd that \"kernel\" may follow in turn: a clock that follows itself drifts off; remove one of the two",
            ),
            (
                "[ntp]\nservers = [\"a\", \"b\", \"c\", \"d\", \"e\", \"f\", \"g\", \"h\"]\n[local]\nsources = [\"kernel\"]\n",
                "c.toml:4:11: sources and [ntp] servers are 9 together; at most 8 can be used",
            ),
            (
                "[ntp]\nservers = [\"127.0.0.1\"]\n[feed]\nchrony_sock = \"/run/s\"\n",
                "c.toml:4:15: chrony_sock would feed a chronyd that \"127.0.0.1:123\" may follow in turn: a clock that follows itself drifts off; remove one of the two",
            ),
            (
                "[local]\nsources = [\"kernel\", \"chronyd\"]\n",
                "c.toml:2:11: sources has \"kernel\" and \"chronyd:127.0.0.1:323\", which would be two votes for one clock: remove one of the two",
            ),
            (
                "[local]\nsources = [\"ptp:/dev/ptp0\", \"auto\"]\n",
                "c.toml:2:11: sources has \"auto\" and \"ptp:/dev/ptp0\", which would be two votes for one clock: remove one of the two",
            ),
            (
                "[ntp]\nservers = [\"localhost\"]\n[local]\nsources = \"chronyd\"\n",
                "c.toml:4:11: sources has \"chronyd:127.0.0.1:323\", and [ntp] servers has \"localhost:123\" on this machine: two votes for one clock; remove one of the two",
            ),
            ("[page]\npath = \"\"\n", "c.toml:2:8: path does not name a file"),
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
    fn metrics_that_this_program_cannot_offer_are_named() {
        let text = "[metrics]\nlisten = \"127.0.0.1:9\"\notlp = \"http://127.0.0.1:4318\"\n";
        let told = Config::parse(text, Path::new("c.toml")).expect("good").metrics.left_out();
        for (feature, key) in
            [(cfg!(feature = "metrics"), "metrics.listen"), (cfg!(feature = "opentelemetry"), "metrics.otlp")]
        {
            assert_eq!(told.iter().filter(|line| line.starts_with(key)).count(), usize::from(!feature), "{told:?}");
        }
        assert_eq!(Config::default().metrics.left_out(), Vec::<String>::new());
    }

    #[test]
    fn sources_that_tell_of_different_clocks_go_together() {
        for text in [
            "[ntp]\nservers = [\"127.0.0.1:11123\"]\n[feed]\nchrony_sock = \"/run/s\"\n",
            "[local]\nsources = [\"ptp:/dev/ptp0\", \"ptp-tai:/dev/ptp1\", \"pps:/dev/pps0\", \"chronyd\"]\n",
            "[ntp]\nservers = [\"127.0.0.1\"]\n",
        ] {
            Config::parse(text, Path::new("c.toml")).unwrap_or_else(|error| panic!("{error}"));
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
            .map(|l| {
                l.strip_prefix("# ")
                    .filter(|l| l.contains(" = \"/") || l.starts_with("listen = ") || l.starts_with("otlp = "))
                    .unwrap_or(l)
            })
            .flat_map(|l| [l, "\n"])
            .collect();
        let all = Config::parse(&uncommented, &path).expect("good");
        assert!(all.page.path.is_some() && all.models.dir.is_some() && all.oscillator.temperature.is_some());
        assert!(all.oscillator.state.is_some());
        assert!(all.metrics.listen.is_some() && all.metrics.otlp.is_some() && all.feed.chrony_sock.is_some());
        for table in super::tables().into_iter().map(|table| table.name) {
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
