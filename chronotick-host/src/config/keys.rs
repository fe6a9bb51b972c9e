//! Every key: its meaning, type, range, default, and whether a reload takes it. The reference page, the environment's names
//! and what a reload does are made from these tables, so a key is described once.
//!
//! To add a key, add two lines to its table: what it means, and `name: Type = default, Live or Restart, Shape`, with the
//! name of its deserializer from [`super::values`] after `=>` where it needs one.

use std::net::SocketAddr;
use std::path::PathBuf;

use chronotick_core::leap::Policy;
use chronotick_core::units::Span;
use serde::Deserialize;

use super::collector::{self, CollectorAddress};
use super::servers::{self, MAX_SERVERS, Server, ServerAddress};
use super::values::{self, DAY, SECOND, Written as _, show_span};
use super::{Device, Forecasters};
use crate::local::LocalAddress;
use crate::supervisor::{Affinity, Mode};

/// What a reload does with a key that was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// It takes effect.
    Live,
    /// It waits for a restart.
    Restart,
}
use Change::{Live, Restart};

/// What can be written for a key.
#[derive(Clone, Copy, Debug)]
pub(super) enum Shape {
    /// A duration between these, in ns.
    Duration(i64, i64),
    /// A whole number between these.
    Integer(i64, i64),
    /// A rate in ppm.
    Ppm,
    Boolean,
    Path,
    /// IP address and port.
    Socket,
    /// Address of a collector.
    Collector,
    Servers,
    LocalSources,
    Cpus,
    /// One of these words.
    Word(&'static [&'static str]),
}

impl Shape {
    /// For people.
    pub(super) fn describe(self) -> String {
        match self {
            Self::Duration(low, high) => format!("a duration, `\"{}\"` to `\"{}\"`", show_span(low), show_span(high)),
            Self::Integer(low, high) => format!("a whole number, {low} to {high}"),
            Self::Ppm => "a number of ppm, 0.000001 to 10000".to_owned(),
            Self::Boolean => "`true` or `false`".to_owned(),
            Self::Path => "a path in quotes".to_owned(),
            Self::Socket => "an address and port, such as `\"127.0.0.1:9123\"`".to_owned(),
            Self::Collector => "the address of a collector, such as `\"http://127.0.0.1:4318\"`".to_owned(),
            Self::Servers => {
                format!("a list of at most {MAX_SERVERS} servers, such as `[\"ntp1.internal\", \"ntp2.internal:123\"]`")
            }
            Self::LocalSources => {
                "a local source or a list of them, such as `[\"kernel\", \"pps:/dev/pps0\"]`".to_owned()
            }
            Self::Cpus => "`\"auto\"` or a list of CPUs, 0 to 1023, such as `[2, 3]`".to_owned(),
            Self::Word(words) => {
                let words: Vec<_> = words.iter().map(|word| format!("`\"{word}\"`")).collect();
                format!("one of {}", words.join(", "))
            }
        }
    }

    /// Whether the environment may give its parts separated by commas.
    pub(super) fn is_list(self) -> bool {
        matches!(self, Self::Servers | Self::LocalSources | Self::Cpus)
    }
}

/// A key as the reference shows it.
#[derive(Clone, Debug)]
pub(super) struct Key {
    pub(super) name: &'static str,
    pub(super) meaning: &'static str,
    pub(super) shape: Shape,
    pub(super) default: Option<String>,
    pub(super) change: Change,
}

impl Key {
    /// What is told where something else is written.
    pub(super) fn wanted(&self) -> String {
        format!("{} wants {}", self.name, self.shape.describe())
    }
}

/// A table and its keys.
#[derive(Clone, Debug)]
pub(super) struct Table {
    pub(super) name: &'static str,
    pub(super) about: &'static str,
    pub(super) keys: Vec<Key>,
}

macro_rules! table {
    ($(#[doc = $about:literal])+ $type:ident is $table:literal {
        $($(#[doc = $meaning:literal])+ $key:ident: $kind:ty = $default:expr, $change:expr, $shape:expr $(=> $with:literal)?;)+
    }) => {
        $(#[doc = $about])+
        #[derive(Clone, Debug, PartialEq, Deserialize)]
        #[serde(default, deny_unknown_fields)]
        pub struct $type {
            $($(#[doc = $meaning])+ $(#[serde(deserialize_with = $with)])? pub $key: $kind,)+
        }

        impl Default for $type {
            fn default() -> Self {
                Self { $($key: $default,)+ }
            }
        }

        impl $type {
            /// The table as the reference shows it.
            pub(super) fn table() -> Table {
                let default = Self::default();
                let keys = vec![$(Key {
                    name: stringify!($key),
                    meaning: concat!($($meaning, "\n"),+),
                    shape: $shape,
                    default: default.$key.written(),
                    change: $change,
                }),+];
                Table { name: $table, about: concat!($($about, "\n"),+), keys }
            }

            /// Takes what `new` changes where a reload may, and says which keys that were and which it left.
            pub(super) fn adopt(&mut self, new: &Self, reload: &mut super::Reload) {
                $(if self.$key != new.$key {
                    let key = concat!($table, ".", stringify!($key));
                    if $change == Live {
                        self.$key = new.$key.clone();
                        reload.taken.push(key);
                    } else {
                        reload.left.push(key);
                    }
                })+
            }
        }
    };
}

table! {
    /// Where time comes from.
    Ntp is "ntp" {
        /// Servers as `"host"`, `"host:port"` or `"[v6]:port"`; the port defaults to 123. None at all serves raw time.
        /// Or as tables: `{ host = "h", nts = true, ca = "ca.pem" }` authenticates (the port is then that of the key exchange, by
        /// default 4460), `pool = true` uses four servers of that name, `interleaved = true` fetches exact times of departure.
        servers: Vec<Server> = public_servers(), Live, Shape::Servers => "servers::list";
        /// Shortest interval between requests to a server after the burst.
        poll_min: Span = Span::from_secs(16), Live, Shape::Duration(SECOND, DAY) => "values::span::<SECOND, DAY, _>";
        /// Longest interval between requests to a server.
        poll_max: Span = Span::from_secs(1024), Live, Shape::Duration(SECOND, DAY) => "values::span::<SECOND, DAY, _>";
        /// Requests at first contact.
        burst: u8 = 6, Live, Shape::Integer(1, 16) => "values::integer::<1, 16, _, _>";
        /// Interval between the requests of the burst.
        burst_interval: Span = Span::from_secs(2), Live, Shape::Duration(SECOND / 10, 60 * SECOND)
            => "values::span::<{ SECOND / 10 }, { 60 * SECOND }, _>";
        /// An answer that takes longer is lost.
        timeout: Span = Span::from_secs(1), Live, Shape::Duration(SECOND / 100, 10 * SECOND)
            => "values::span::<{ SECOND / 100 }, { 10 * SECOND }, _>";
        /// A server that admits more error than this is not used.
        max_root_distance: Span = Span::from_millis(1500), Live, Shape::Duration(1_000, 60 * SECOND)
            => "values::span::<1_000, { 60 * SECOND }, _>";
    }
}

table! {
    /// References on this machine, beside the servers or instead of them; docs/SOURCES.md has each of them.
    Local is "local" {
        /// `"ptp:/dev/ptp0"` (a hardware clock that counts UTC) or `"ptp-tai:/dev/ptp0"` (TAI), `"pps:/dev/pps0"`, `"kernel"` (the
        /// system's clock with its discipline's error), `"chronyd"` (one beside this daemon) or `"auto"` (the best of the
        /// hypervisor's clock, the kernel and chronyd).
        sources: Vec<LocalAddress> = Vec::new(), Restart, Shape::LocalSources => "values::local_sources";
        /// How often each is read, after the first few seconds.
        poll: Span = Span::from_secs(4), Restart, Shape::Duration(SECOND, DAY) => "values::span::<SECOND, DAY, _>";
        /// What a hardware clock is trusted to, where its driver does not say. The hard bound holds while it keeps to it.
        ptp_error: Span = Span::from_millis(1), Restart, Shape::Duration(1, 10 * SECOND)
            => "values::span::<1, { 10 * SECOND }, _>";
        /// TAI - UTC for hardware clocks that count TAI, where the kernel has not been told.
        tai_offset: Span = Span::from_secs(37), Restart, Shape::Duration(0, 1000 * SECOND)
            => "values::span::<0, { 1000 * SECOND }, _>";
        /// What a pulse per second is trusted to.
        pps_error: Span = Span::from_micros(20), Restart, Shape::Duration(1, SECOND / 10)
            => "values::span::<1, { SECOND / 10 }, _>";
    }
}

table! {
    /// Others that are given this clock.
    Feed is "feed" {
        /// The socket of a chronyd on this machine that has `refclock SOCK` with this path. Not set: none is fed.
        chrony_sock: Option<PathBuf> = None, Restart, Shape::Path;
        /// How often a sample is sent.
        interval: Span = Span::from_secs(1), Restart, Shape::Duration(SECOND / 10, 3600 * SECOND)
            => "values::span::<{ SECOND / 10 }, { 3600 * SECOND }, _>";
    }
}

table! {
    /// What is assumed of the local oscillator. The hard bound holds while these hold.
    Oscillator is "oscillator" {
        /// Its rate is never further than this from nominal.
        max_rate_ppm: f64 = 500.0, Restart, Shape::Ppm => "values::ppm";
        /// Its rate never differs by more than this between any two instants.
        max_drift_ppm: f64 = 50.0, Restart, Shape::Ppm => "values::ppm";
        /// A file with the temperature near it in thousandths of a degree Celsius, as the kernel's thermal and hwmon sensors
        /// have (`/sys/class/thermal/thermal_zone0/temp`). Read once per sample.
        temperature: Option<PathBuf> = None, Restart, Shape::Path;
        /// Where its rate is kept for the next start, so that the clock is good after the first few exchanges. Not set:
        /// `oscillator.json` in the folder that the service manager provides in `$STATE_DIRECTORY`, else nowhere.
        state: Option<PathBuf> = None, Restart, Shape::Path;
    }
}

table! {
    /// How the served clock behaves.
    Serve is "serve" {
        /// Servers are asked as rarely as keeps the hard bound within this (between `poll_min` and `poll_max`).
        target_accuracy: Span = Span::from_millis(20), Live, Shape::Duration(100, 60 * SECOND)
            => "values::span::<100, { 60 * SECOND }, _>";
        /// Corrections are applied no faster than this.
        max_slew_ppm: f64 = 500.0, Restart, Shape::Ppm => "values::ppm";
        /// What a leap second looks like: `"utc"` is a step and a new epoch at the leap; `"smear"` spreads it evenly over the day
        /// from noon before to noon after. Where the servers smear, leave it at `"utc"`: they announce none.
        leap: Policy = Policy::Utc, Restart, Shape::Word(&["utc", "smear"]);
        /// A correction larger than this steps the served clock and starts a new epoch.
        step_threshold: Span = Span::from_millis(128), Restart, Shape::Duration(1_000, 3600 * SECOND)
            => "values::span::<1_000, { 3600 * SECOND }, _>";
        /// Without a sample for this long (and longer than four poll intervals) the tier is holdover.
        holdover_after: Span = Span::from_secs(64), Live, Shape::Duration(SECOND, DAY) => "values::span::<SECOND, DAY, _>";
        /// Readers stop trusting a page that nobody has updated for this long.
        void_after: Span = Span::from_secs(3600), Live, Shape::Duration(2 * SECOND, 7 * DAY)
            => "values::span::<{ 2 * SECOND }, { 7 * DAY }, _>";
    }
}

table! {
    /// Where readers find the clock.
    Page is "page" {
        /// The page's file; the status socket lies beside it. Default: `clock` in `$CHRONOTICK_DIR`, else `/run/chronotick` when
        /// that can be written, else `$XDG_RUNTIME_DIR/chronotick`, else `/dev/shm/chronotick-UID`, which has to be this
        /// user's alone.
        path: Option<PathBuf> = None, Restart, Shape::Path;
    }
}

table! {
    /// The process that runs the models.
    Worker is "worker" {
        /// `"auto"`: what this table and `models.forecasters` do not say comes from the preset that suits the machine's cores,
        /// memory and hardware; `chronotick doctor` shows which one and why. `"cpu"`: it comes from the defaults. The models run
        /// on the processor in either case.
        device: Device = Device::Cpu, Live, Shape::Word(&["auto", "cpu"]);
        /// `"process"`: a process of its own; `"thread"`: a thread of the daemon; `"off"`: no model runs.
        mode: Mode = Mode::Process, Live, Shape::Word(&["process", "thread", "off"]) => "values::mode";
        /// CPUs that the worker may use: `"auto"` (not the first, not the daemon's), a list, or `[]` for all.
        cpu_affinity: Affinity = Affinity::Auto, Live, Shape::Cpus => "values::affinity";
        /// Its niceness.
        nice: u8 = 10, Live, Shape::Integer(0, 19) => "values::integer::<0, 19, _, _>";
        /// Whether it runs only when nothing else wants the CPU (SCHED_IDLE).
        idle: bool = false, Live, Shape::Boolean;
        /// Most memory that the worker may map, in MiB.
        memory_mib: u32 = 512, Live, Shape::Integer(64, 65_536) => "values::integer::<64, 65_536, _, _>";
        /// The worker gives up files, network and most system calls before it parses a model.
        sandbox: bool = true, Live, Shape::Boolean;
    }
}

table! {
    /// The models.
    Models is "models" {
        /// Folder with `chronotick-near.onnx` and `chronotick-far.onnx`. Default: `$CHRONOTICK_MODELS`, else `models` beside the
        /// program or `../share/chronotick/models`, else the models built into it.
        dir: Option<PathBuf> = None, Live, Shape::Path;
        /// Which of them are asked: `"chronos"` is the near one, `"ttm"` the far one.
        forecasters: Forecasters = Forecasters::Both, Live, Shape::Word(&["none", "chronos", "ttm", "both"]);
        /// The base step of the models' grids.
        step: Span = Span::from_secs(64), Restart, Shape::Duration(SECOND / 10, 3600 * SECOND)
            => "values::span::<{ SECOND / 10 }, { 3600 * SECOND }, _>";
    }
}

table! {
    /// What the daemon tells a monitoring system.
    Metrics is "metrics" {
        /// Prometheus may fetch `/metrics` here. Not set: nothing listens.
        listen: Option<SocketAddr> = None, Live, Shape::Socket => "values::socket";
        /// An OpenTelemetry collector that is sent the same metrics, as OTLP over HTTP. Not set: nothing is sent. Needs a program
        /// that was built with `--features opentelemetry`.
        otlp: Option<CollectorAddress> = None, Live, Shape::Collector => "collector::collector";
        /// How often it is sent them.
        otlp_interval: Span = Span::from_secs(60), Live, Shape::Duration(SECOND, 3600 * SECOND)
            => "values::span::<SECOND, { 3600 * SECOND }, _>";
    }
}

/// Public servers of national institutes and operators that do not smear leap seconds.
fn public_servers() -> Vec<Server> {
    let hosts = ["time.cloudflare.com", "ptbtime1.ptb.de", "ntp.time.nl", "ntp.se"];
    hosts.map(|host| ServerAddress::new(host, 123).into()).into()
}
