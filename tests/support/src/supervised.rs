//! A service in small: a virtual oscillator and server, the real pipeline and served clock, and a real supervised worker.
//!
//! Virtual time runs [`SPEED`] times as fast as real time, so that models are asked several times a second while the worker
//! lives in real time. At every step the laws that no fault of the worker may break are checked: served time never goes
//! back, the truth is inside the hard bound, and tier and reason say what is the case.

use std::collections::HashSet;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use chronotick_core::fallback::{Reason, Tier};
use chronotick_core::pipeline::{Config, Pipeline};
use chronotick_core::sample::{Sample, SourceId};
use chronotick_core::served::{self, Served};
use chronotick_core::units::{Local, Offset, Span, Timestamp, Utc};
use chronotick_host::link::process::ServiceEnd;
use chronotick_host::os::spawn::{Child, Program};
use chronotick_host::supervisor::{Backlog, Supervisor, WorkerConfig, WorkerHealth};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rustix::process::{Pid, Signal, kill_process};

use crate::loopback::emptied;

/// Virtual seconds per real second.
pub const SPEED: i64 = 200;
/// Virtual seconds between exchanges.
const POLL_S: i64 = 4;
/// Virtual seconds of history before the real worker is needed: enough that the near model is asked at once.
const YOUTH_S: i64 = 400;

/// What is promised: a worker is back within this time where it can be.
pub const RECOVERY: Duration = Duration::from_secs(5);
/// More than anything with a worker takes on a machine that is busy with other things.
pub const PATIENCE: Duration = Duration::from_secs(20);
/// The measurements are fresh and no worker answers.
pub const DOWN: (Tier, Reason) = (Tier::Filter, Reason::WorkerDown);
/// A worker answers, and nothing is known of it yet.
pub const WARMING_UP: (Tier, Reason) = (Tier::Filter, Reason::WarmingUp);
/// Forecasts come and are used.
const NOMINAL: (Tier, Reason) = (Tier::Fused, Reason::Nominal);
/// They are not worth it.
const MUTED: (Tier, Reason) = (Tier::Filter, Reason::ForecastsMuted);

/// The tests of a worker count this process's descriptors, threads and children, so they run one after another.
pub fn alone() -> MutexGuard<'static, ()> {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How often a test repeats its fault: a hundred times with `CHRONOTICK_STRESS=full`.
pub fn repetitions() -> u64 {
    if std::env::var("CHRONOTICK_STRESS").is_ok_and(|value| value == "full") { 100 } else { 3 }
}

/// Sends `signal` to the worker `pid`.
///
/// # Panics
/// When there is no such process, or it is not ours.
pub fn signal(pid: u32, signal: Signal) {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).expect("a process id");
    kill_process(pid, signal).expect("the worker is ours");
}

/// Whether a process is gone or waits to be reaped.
pub fn is_dead(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with('Z'))
}

/// The service.
pub struct Service {
    /// The state machine under test.
    pub pipeline: Box<Pipeline>,
    /// The worker's keeper under test.
    pub supervisor: Supervisor,
    served: Served,
    random: ChaCha8Rng,
    started: Instant,
    next_poll: Timestamp<Local>,
    exchanged: Timestamp<Local>,
    last: Option<(u16, Timestamp<Utc>)>,
    /// Readings checked so far.
    pub readings: u64,
    /// Tiers and reasons served since the test last cleared them.
    pub verdicts: HashSet<(Tier, Reason)>,
    /// Forecasts handed to the pipeline so far.
    pub forecasts: u64,
    /// Why the newest question was not taken, if it was not.
    pub refusal: Option<Backlog>,
}

impl Service {
    /// A service that has kept time for a while, and its worker's first start.
    pub fn start(config: WorkerConfig) -> Self {
        let settings = Config { forecast_step: Span::from_secs(8), ..Config::default() };
        let mut service = Self {
            pipeline: Box::new(Pipeline::new(settings)),
            supervisor: Supervisor::start(config),
            served: Served::new(served::Config::default()),
            random: ChaCha8Rng::seed_from_u64(5),
            started: Instant::now(),
            next_poll: Timestamp::from_nanos(0),
            exchanged: Timestamp::from_nanos(0),
            last: None,
            readings: 0,
            verdicts: HashSet::new(),
            forecasts: 0,
            refusal: None,
        };
        for second in (0..YOUTH_S).step_by(4) {
            service.exchange(local(second));
        }
        service.started = Instant::now();
        service
    }

    /// One turn of the service's loop.
    ///
    /// # Panics
    /// When a law is broken.
    pub fn step(&mut self) {
        let now = self.now();
        self.exchange(now);
        self.pipeline.handle_timeout(now);
        if let Some(request) = self.pipeline.poll_request(now) {
            // A question that is not taken goes unanswered, which the pipeline must bear.
            self.refusal = self.supervisor.submit(&request).err();
        }
        while let Some(forecast) = self.supervisor.poll(Instant::now()) {
            self.forecasts += 1;
            let _ = self.pipeline.handle_forecast(self.now(), &forecast);
        }
        let answering = self.supervisor.answering();
        self.pipeline.set_worker_alive(answering);
        let now = self.now();
        if let Some(target) = self.pipeline.target(now) {
            self.served.update(&target);
            self.judge(now, answering);
        }
        self.read();
        std::thread::sleep(Duration::from_millis(2));
    }

    /// Steps for a while.
    pub fn run_for(&mut self, span: Duration) {
        let until = Instant::now() + span;
        while Instant::now() < until {
            self.step();
        }
    }

    /// Steps until `done`, at most `limit`; how long it took.
    ///
    /// # Panics
    /// When it takes longer.
    pub fn run_until(&mut self, what: &str, limit: Duration, done: impl Fn(&mut Self) -> bool) -> Duration {
        let started = Instant::now();
        while !done(self) {
            assert!(started.elapsed() < limit, "{what}: not within {limit:?}; {:#?}", self.health());
            self.step();
        }
        started.elapsed()
    }

    /// Steps until the worker is set up and one more forecast has come from it.
    ///
    /// # Panics
    /// When it takes longer than `limit`.
    pub fn run_until_forecast(&mut self, limit: Duration) -> Duration {
        let before = self.forecasts;
        self.run_until("a forecast", limit, |service| service.supervisor.alive() && service.forecasts > before)
    }

    /// What is served and why.
    ///
    /// # Panics
    /// Before the first step.
    pub fn verdict(&self) -> (Tier, Reason) {
        let record = self.served.record().expect("something is served after the first step");
        (record.tier, record.reason)
    }

    /// The outage was told: the tier was the filter's for the want of a worker, unless earlier forecasts carried on through it.
    ///
    /// # Panics
    /// When it was not.
    pub fn was_told(&self) {
        let told = self.verdicts.contains(&DOWN);
        assert!(told || self.verdicts.iter().all(|&verdict| verdict == NOMINAL), "{:?}", self.verdicts);
    }

    /// What is served is as if nothing had been.
    ///
    /// # Panics
    /// When it is not.
    pub fn is_over(&self) {
        assert!([NOMINAL, MUTED, WARMING_UP].contains(&self.verdict()), "{:?}", self.verdict());
    }

    /// The worker's health.
    pub fn health(&self) -> WorkerHealth {
        self.supervisor.health()
    }

    fn now(&self) -> Timestamp<Local> {
        let elapsed = i64::try_from(self.started.elapsed().as_nanos()).unwrap_or(i64::MAX / SPEED);
        local(YOUTH_S).saturating_add(Span::from_nanos(elapsed * SPEED))
    }

    /// Exchanges that are due by `now`; after a long pause, the newest only.
    fn exchange(&mut self, now: Timestamp<Local>) {
        if now < self.next_poll {
            return;
        }
        self.next_poll = now.saturating_add(Span::from_secs(POLL_S));
        let delay = 200_000 + self.random.random_range(0..400_000i64);
        // The asymmetry is anything that the delay allows.
        let error = self.random.random_range(-delay / 2..=delay / 2) / 2;
        let sample = Sample {
            local: now,
            offset: truth(now).saturating_add(Span::from_nanos(error)),
            delay: Span::from_nanos(delay),
            root_distance: Span::from_micros(10),
            temperature: None,
            source: SourceId(0),
        };
        self.pipeline.handle_sample(now, &sample).expect("the exchange is in order");
        self.exchanged = now;
    }

    /// Tier and reason are those of what is the case: the measurements are fresh unless this process was held up, and the worker
    /// answers or does not.
    fn judge(&mut self, now: Timestamp<Local>, answering: bool) {
        let (tier, reason) = self.verdict();
        let patience = self.pipeline.config().holdover_after;
        let right = match (tier, reason) {
            (Tier::Fused, Reason::Nominal) => true,
            (Tier::Filter, Reason::WorkerDown) => !answering,
            (Tier::Filter, Reason::WarmingUp | Reason::ForecastsMuted) => answering,
            (Tier::Holdover, Reason::NoSamples) => now.since(self.exchanged) > patience,
            _ => false,
        };
        assert!(right, "{tier}, \"{}\", while answering is {answering}; {:#?}", reason.as_str(), self.health());
        self.verdicts.insert((tier, reason));
    }

    /// A reader, and the laws.
    fn read(&mut self) {
        let now = self.now();
        let Some(record) = self.served.record() else { return };
        let reading = record.advance(now);
        let error = reading.utc.since(now.to_utc(truth(now)));
        assert!(
            error.abs() <= reading.bound.half_width(),
            "the truth is outside the bound: error {error:?}, bound {:?}, {:?}",
            reading.bound,
            self.health(),
        );
        if let Some((epoch, utc)) = self.last {
            assert!(
                epoch != reading.epoch || reading.utc >= utc,
                "served time went back from {utc:?} to {:?}",
                reading.utc
            );
        }
        self.last = Some((reading.epoch, reading.utc));
        self.readings += 1;
    }
}

fn local(second: i64) -> Timestamp<Local> {
    Timestamp::from_nanos(second * 1_000_000_000)
}

/// The oscillator: 20 ppm slow, with a wave of +-10 ppb over half an hour.
fn truth(at: Timestamp<Local>) -> Offset {
    let t = at.since(Timestamp::from_nanos(0)).as_secs_f64();
    let wave = 1e-8 * 1800.0 / std::f64::consts::TAU;
    Offset::from_secs_f64(0.005 + 20e-6 * t + wave * (t * std::f64::consts::TAU / 1800.0).sin())
}

/// A folder of a test's own with a worker that behaves as told. Removed when dropped.
#[derive(Debug)]
pub struct Workshop {
    folder: PathBuf,
}

impl Workshop {
    /// With `program` as the worker, in mode `honest`, and copies of the model fixtures of `kind`.
    ///
    /// # Panics
    /// When the folder cannot be made.
    pub fn new(name: &str, program: &str, kind: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("chronotick-{name}-{}", std::process::id()));
        let workshop = Self { folder: emptied(folder) };
        std::fs::create_dir_all(workshop.folder.join("models")).expect("the temporary folder can be written to");
        std::os::unix::fs::symlink(program, workshop.worker()).expect("a fresh folder has no worker yet");
        workshop.set_mode("honest");
        workshop.set_models(kind);
        workshop
    }

    /// The worker's executable.
    pub fn worker(&self) -> PathBuf {
        self.folder.join("worker")
    }

    /// The folder of the models.
    pub fn models(&self) -> PathBuf {
        self.folder.join("models")
    }

    /// The folder itself.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// How workers behave that start from now on.
    ///
    /// # Panics
    /// When the folder cannot be written to.
    pub fn set_mode(&self, mode: &str) {
        // Renamed, so that a worker that starts meanwhile reads the old mode or the new one.
        let part = self.folder.join("mode.part");
        std::fs::write(&part, mode).expect("the temporary folder can be written to");
        std::fs::rename(part, self.folder.join("mode")).expect("the temporary folder can be written to");
    }

    /// The models that workers load from now on.
    ///
    /// # Panics
    /// When the fixtures are missing.
    pub fn set_models(&self, kind: &str) {
        let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/models").join(kind);
        for name in ["chronotick-near.onnx", "chronotick-far.onnx"] {
            std::fs::copy(fixtures.join(name), self.models().join(name)).expect("the fixture exists");
        }
    }

    /// The worker started without a supervisor, and this side of its link.
    ///
    /// # Panics
    /// When it does not start.
    pub fn direct(&self) -> (ServiceEnd, Child) {
        let (link, handover) = ServiceEnd::create().expect("memory can be shared");
        let inherited = vec![handover.region, handover.wake_worker, handover.wake_service];
        let numbers: Vec<String> = inherited.iter().map(|fd| fd.as_raw_fd().to_string()).collect();
        let program = Program {
            path: self.worker(),
            arguments: vec!["worker".into()],
            environment: vec![("CHRONOTICK_WORKER_LINK".into(), numbers.join(",").into())],
            inherited,
            memory_limit: 1 << 30,
            file_limit: 64,
        };
        (link, program.start().expect("the other process starts"))
    }

    /// A configuration with this worker and these models, and short times.
    pub fn config(&self) -> WorkerConfig {
        WorkerConfig {
            path: Some(self.worker()),
            models: Some(self.models()),
            heartbeat: Duration::from_millis(50),
            heartbeat_timeout: Duration::from_millis(500),
            deadline: Duration::from_secs(2),
            backoff: Duration::from_millis(10),
            backoff_limit: Duration::from_millis(100),
            ..WorkerConfig::default()
        }
    }
}

impl Drop for Workshop {
    fn drop(&mut self) {
        // What is left behind in a temporary folder harms nobody.
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// What this process holds that could leak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Holdings {
    /// Open descriptors.
    pub descriptors: usize,
    /// Threads of ChronoTick, told by their names: a test harness starts and ends its own whenever it likes.
    pub threads: usize,
    /// Child processes, ended ones included.
    pub children: usize,
    /// Mappings of a worker's shared memory.
    pub regions: usize,
}

impl Holdings {
    /// Now.
    pub fn now() -> Self {
        let entries = |path: &str| std::fs::read_dir(path).map_or(0, Iterator::count);
        let me = std::process::id().to_string();
        let is_child = |stat: String| {
            let fields = stat.rsplit_once(") ").map(|(_, rest)| rest.split(' ').nth(1).map(ToOwned::to_owned));
            fields.flatten().is_some_and(|parent| parent == me)
        };
        let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
        let children = processes
            .filter_map(|entry| std::fs::read_to_string(entry.path().join("stat")).ok())
            .filter(|stat| is_child(stat.clone()))
            .count();
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap_or_default();
        let threads = std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
        let is_ours = |thread: &std::fs::DirEntry| {
            std::fs::read_to_string(thread.path().join("comm")).is_ok_and(|name| name.starts_with("chronotick-"))
        };
        Self {
            descriptors: entries("/proc/self/fd"),
            threads: threads.filter(is_ours).count(),
            children,
            regions: maps.lines().filter(|line| line.contains("memfd:chronotick-worker")).count(),
        }
    }
}

/// Resident memory of this process, in MB.
pub fn resident_mb() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let kb = status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB")?.parse().ok());
    kb.map_or(0.0, |kb: f64| kb / 1e3)
}

/// What frame `number` of the ring's tests holds: 0 to 120 bytes that differ from frame to frame.
pub fn frame_content(number: u64, into: &mut Vec<u8>) {
    into.clear();
    let mut word = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    for _ in 0..number % 16 {
        into.extend_from_slice(&word.to_le_bytes());
        word = word.rotate_left(17) ^ number;
    }
    into.truncate(usize::try_from(number % 121).unwrap_or(0));
}
