//! What a running daemon says about itself: JSON over a Unix socket beside the page.
//!
//! Whoever connects to `status.sock` is sent one JSON object and the end of the stream. Readers of the clock never need it.

use std::io::{self, Read, Write};
use std::os::fd::BorrowedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use chronotick_core::estimator::Family;
use chronotick_core::fusion::HORIZONS;
use chronotick_core::{Pipeline, Tier};
use serde::{Deserialize, Serialize, Serializer};

use super::coverage::Coverage;
use super::socket::{PageSocket, connect, foreign, unreadable};
use crate::error::{Error, Kind};
use crate::ntp::client::Counts;
use crate::replay::allan::AllanPoint;

/// How long an answer is waited for, and by whoever can do without one.
const PATIENCE: Duration = Duration::from_secs(5);
const LITTLE_PATIENCE: Duration = Duration::from_millis(500);

/// The state of a daemon. Durations carry their unit in the name; offsets are reference - local.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// What readers are told now.
    pub tier: Tier,
    /// Why it is no better.
    pub reason: String,
    /// The time servers in the order of the configuration, then the local references.
    pub sources: Vec<SourceStatus>,
    /// How much each kind of expert has to say.
    #[serde(default)]
    pub experts: Experts,
    /// The leap second that a majority of the sources announces for the end of this UTC day: "insert" or "delete".
    #[serde(default)]
    pub leap: Option<String>,
    /// The chronyd that is fed, if one is.
    #[serde(default)]
    pub feed: Option<FeedStatus>,
    /// The forecast worker: `pid`, `alive`, `restarts`, `cpu_affinity`, `rss_mb`, `inference_ms_p50`, `inference_ms_p99` (also
    /// as `p99`) and more.
    pub worker: serde_json::Value,
    /// Questions to the models and their answers.
    pub forecasts: Forecasts,
    /// Share of the requests to time servers that gave a usable sample; 1 before the first has been settled.
    pub success_rate: f64,
    /// Since the daemon started.
    pub uptime_s: f64,
    /// Estimated rate of the oscillator: the slope of the offset.
    pub rate_ppm: f64,
    /// How stable the oscillator is, by averaging time.
    #[serde(default)]
    pub allan_deviation: Vec<AllanPoint>,
    /// Served offset; `null` in tier raw.
    pub offset_ns: Option<i64>,
    /// Half-width of the 95 % interval; `null` when unknown.
    pub interval95_ns: Option<i64>,
    /// Half-width of the hard bound; `null` when unbounded.
    pub bound_ns: Option<i64>,
    /// Temperature near the oscillator at the last sample, in degrees Celsius; `null` without a sensor.
    pub temperature_c: Option<f64>,
    /// How often the claimed 95 % interval held lately.
    pub coverage: Coverage,
    /// Samples used.
    pub samples_accepted: u64,
    /// Samples refused.
    pub samples_rejected: u64,
    /// How often the assumptions behind the hard bound were caught broken.
    pub bound_conflicts: u32,
    /// Suspensions, pauses and jumps of the counter that were noticed.
    pub disruptions: u64,
    /// What local time is counted with.
    pub counter: String,
    /// The page.
    #[serde(serialize_with = "as_text")]
    pub page: PathBuf,
    /// The daemon.
    pub pid: u32,
    /// Its version.
    pub version: String,
}

/// A path as JSON can hold it: one that is not UTF-8 is no reason to say nothing.
pub(crate) fn as_text<S: Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&path.display())
}

/// What became of the questions to the models.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Forecasts {
    /// Questions put.
    pub issued: u64,
    /// Answers that passed every check.
    pub accepted: u64,
    /// Answers refused, or accepted without weight.
    pub muted: u64,
}

/// The weights of the experts per horizon, those of one kind together.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Experts {
    /// The horizons, in s.
    pub horizons_s: Vec<f64>,
    /// The kinds of experts.
    pub families: Vec<ExpertFamily>,
}

/// The experts of one kind.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ExpertFamily {
    /// What they go by.
    pub name: String,
    /// How many they are.
    pub experts: usize,
    /// Their share of the weight, by horizon; the shares of all kinds add up to 1.
    pub weights: Vec<f64>,
    /// Root mean squared error of the best of them on frozen forecasts, by horizon; `null` where none has been scored.
    pub rms_error_ns: Vec<Option<f64>>,
}

/// The state of the feed to a chronyd.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FeedStatus {
    /// chronyd's socket.
    pub socket: PathBuf,
    /// Samples sent.
    pub sent: u64,
    /// Samples that could not be sent.
    pub failed: u64,
    /// Why the newest could not.
    pub reason: Option<String>,
}

/// The state of one source.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SourceStatus {
    /// As configured.
    pub name: String,
    /// "ntp", "ptp", "pps", "kernel", "chronyd" or "auto".
    pub kind: String,
    /// "waiting", "reachable", "unreachable", "unresolved", "stopped" (it said to go away) or "unavailable" (a local
    /// reference that cannot be read).
    pub state: String,
    /// "selected", "falseticker" or "undecided": what the majority of the sources makes of it; `null` before its first
    /// sample.
    pub verdict: Option<String>,
    /// Why it is not used, if it is not.
    pub reason: Option<String>,
    /// Where the name led, or what a hardware clock calls itself.
    pub address: Option<String>,
    /// The server's stratum.
    pub stratum: Option<u8>,
    /// The server's leap announcement.
    pub leap: Option<String>,
    /// The newest measured offset.
    pub offset_ns: Option<i64>,
    /// Its round-trip delay.
    pub delay_ns: Option<i64>,
    /// The server's own error budget.
    pub root_distance_ns: Option<i64>,
    /// The reach register of RFC 5905: the last eight requests, the newest in the lowest bit, 1 for a usable answer.
    #[serde(default)]
    pub reach: u8,
    /// How old that measurement is.
    pub age_s: Option<f64>,
    /// The poll interval in force.
    pub poll_s: f64,
    /// What was asked and what came of it; of a local reference only requests, accepted, refused and lost.
    #[serde(flatten)]
    pub counts: Counts,
    /// How answers are authenticated: "nts"; `null` where they are not.
    pub authentication: Option<String>,
    /// Measurements that used the kernel's arrival time.
    pub kernel_timestamps: u64,
}

impl Status {
    /// Asks the daemon that owns the page at `page`.
    ///
    /// # Errors
    /// `is_not_running` when no daemon listens there, or one with another page in the same folder.
    pub fn ask(page: &Path) -> Result<Self, Error> {
        Self::told(&socket_path(page), PATIENCE)?.of(page)
    }

    /// What the daemon that listens at `path` says of itself.
    fn told(path: &Path, patience: Duration) -> Result<Self, Error> {
        let mut stream = connect(path)?;
        let mut text = String::new();
        stream
            .set_read_timeout(Some(patience))
            .and_then(|()| stream.read_to_string(&mut text))
            .map_err(|cause| unreadable(path, cause))?;
        serde_json::from_str(&text).map_err(|cause| foreign(path, cause))
    }

    /// Itself, if `page`, beside which it was told, is the daemon's.
    fn of(self, page: &Path) -> Result<Self, Error> {
        if is_page_of(page, &self.page) {
            return Ok(self);
        }
        let (page, other) = (page.display(), self.page.display());
        let told = format!(
            "no daemon answers for {page}: the one in its folder keeps {other}; ask for that, or give each page a folder of \
             its own"
        );
        Err(Error::new(Kind::NotRunning, told))
    }
}

/// What the judges of `pipeline` make of its experts: the bank's weights, of which each model, the daily
/// pattern and the cycle in their turn take their shares.
pub(super) fn experts(pipeline: &Pipeline) -> Experts {
    let fusion = pipeline.fusion();
    let mut families = Family::ALL.map(|family| ExpertFamily {
        name: family.as_str().to_owned(),
        experts: 0,
        weights: vec![0.0; HORIZONS.len()],
        rms_error_ns: vec![None; HORIZONS.len()],
    });
    for node in 0..HORIZONS.len() {
        let weights = pipeline.weights(node);
        for (index, &weight) in weights.iter().enumerate() {
            let family = &mut families[pipeline.family(index) as usize];
            family.experts += usize::from(node == 0);
            family.weights[node] += f64::from(weight);
            if let Some(error) = fusion.skill(node, index).map(|error| error * 1e9) {
                let best = &mut family.rms_error_ns[node];
                *best = Some(best.map_or(error, |best: f64| best.min(error)));
            }
        }
    }
    Experts {
        horizons_s: (0..HORIZONS.len()).map(|node| f64::from(fusion.horizon(node))).collect(),
        families: families.into(),
    }
}

/// Refuses a `page` in whose folder the daemon of another one listens. Nothing is refused where nobody says whose it is.
pub(super) fn refuse_another(page: &Path) -> Result<(), Error> {
    Status::told(&socket_path(page), LITTLE_PATIENCE).map_or(Ok(()), |status| status.of(page).map(drop))
}

/// Whether `page`, beside whose socket a daemon told of `its` page, is that one. In a container the folder may have another name
/// than where the daemon runs, so only the last part of the daemon's path means anything here: its page lies beside its socket. A
/// page that was removed and is about to be made again is still meant by its name, a link by what it leads to.
fn is_page_of(page: &Path, its: &Path) -> bool {
    let linked = || {
        let beside = socket_path(page).canonicalize().ok()?.with_file_name(its.file_name()?);
        let file = |path: &Path| path.metadata().map(|file| (file.dev(), file.ino())).ok();
        Some(file(&beside)? == file(page)?)
    };
    // Both as JSON has them.
    let name = |page: &Path| page.file_name().map(|name| name.to_string_lossy().into_owned());
    name(page) == name(its) || linked().unwrap_or(false)
}

/// The socket that belongs to a page.
pub fn socket_path(page: &Path) -> PathBuf {
    page.with_file_name("status.sock")
}

/// Whoever asks without end does not keep the loop from turning.
const ANSWERS_A_TURN: usize = 16;

/// The daemon's end of the socket.
pub(super) struct StatusSocket(PageSocket);

impl StatusSocket {
    /// Listens beside `page`, whose lock the caller holds.
    pub(super) fn open(page: &Path) -> io::Result<Self> {
        PageSocket::open(socket_path(page)).map(Self)
    }

    /// Answers those who wait, a few of them a turn of the loop. Somebody who does not read is not waited for.
    pub(super) fn answer(&self, now: Instant, status: impl Fn() -> Status) {
        for mut stream in std::iter::from_fn(|| self.0.accept(now)).take(ANSWERS_A_TURN) {
            let mut answer = || -> io::Result<()> {
                let mut text = serde_json::to_string(&status()).map_err(io::Error::other)?;
                text.push('\n');
                stream.write_all(text.as_bytes())
            };
            if let Err(cause) = answer() {
                tracing::debug!(%cause, "status not delivered");
            }
        }
    }

    pub(super) fn fd(&self, now: Instant) -> Option<BorrowedFd<'_>> {
        self.0.fd(now)
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::fs;
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_daemon_answers_for_its_own_page_by_whatever_name_and_for_no_other() {
        let folder = std::env::temp_dir().join(format!("chronotick-whose-{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        let (run, elsewhere) = (folder.join("run"), folder.join("elsewhere"));
        fs::create_dir_all(&run).expect("temporary folder");
        fs::create_dir_all(&elsewhere).expect("temporary folder");
        for name in ["a", "b", "status.sock"] {
            fs::write(run.join(name), name).expect("temporary file");
        }
        symlink("a", run.join("link")).expect("a link");
        symlink(run.join("a"), elsewhere.join("mine")).expect("a link");
        symlink(run.join("status.sock"), elsewhere.join("status.sock")).expect("a link");
        // Where the daemon runs, the folder has another name.
        let is_own = |page: &str| is_page_of(&folder.join(page), Path::new("/run/chronotick/a"));
        assert!(["run/a", "run/../run/a", "run/link", "elsewhere/mine"].into_iter().all(is_own));
        assert!(!["run/b", "run/none", "elsewhere/none", "run/status.sock"].into_iter().any(is_own));
        let foreign = Path::new(OsStr::from_bytes(b"/x/cl\xffck"));
        assert!(is_page_of(foreign, Path::new(&foreign.display().to_string())), "as JSON has it");
        fs::remove_file(run.join("a")).expect("it is there");
        assert!(is_own("run/a") && !is_own("run/b"), "it is about to be made again");
        fs::remove_dir_all(&folder).expect("temporary folder");
    }

    #[test]
    fn the_shares_of_all_kinds_add_up() {
        let experts = experts(&Pipeline::new(chronotick_core::Config::default()));
        assert_eq!(experts.horizons_s.len(), HORIZONS.len());
        assert_eq!(experts.families.iter().map(|family| family.experts).sum::<usize>(), 35);
        for node in 0..HORIZONS.len() {
            let sum: f64 = experts.families.iter().map(|family| family.weights[node]).sum();
            // Weights are f32.
            assert!((sum - 1.0).abs() < 1e-6, "{sum}");
            // Nobody has scored a model yet, so none has a share.
            let heard = experts.families.iter().filter(|family| family.weights[node] > 0.0);
            assert!(heard.map(|family| family.name.as_str()).all(|name| !name.contains("model")));
        }
    }
}
