//! Keeps a worker running: starts it, watches it, replaces it, and counts what happens.
//!
//! Nothing here waits, except [`Supervisor::stop`], which is bounded. The service calls [`Supervisor::poll`] whenever it
//! wakes up, at least once a second; all of the supervisor's work happens there.
//!
//! ```text
//!              launched            Ready              died, silent, slow to start, broke the ring
//!   Paused ---------------> Starting -----> Ready ---------------------------------+
//!     ^                        |                                                   |
//!     +------------------------+------ pause: backoff, doubled until an answer ----+
//! ```

mod config;
mod health;
mod launch;

pub use config::{Affinity, Mode, WorkerConfig};
pub use health::WorkerHealth;
#[cfg(feature = "metrics")]
pub(crate) use health::usage as process_usage;
pub use launch::WORKER_VARIABLE;

use std::fmt;
use std::time::{Duration, Instant};

use chronotick_core::forecast::{Forecast, ForecastRequest};
use health::Counters;
use launch::{Body, ServiceLink};

use crate::link::{LinkError, ModelState, Order, Ready, Reply, SendError};
use crate::os::spawn::printable;

/// Questions that can be open at a time.
const MAX_OPEN: usize = 8;
/// Most replies that one poll reads.
const MAX_REPLIES: usize = 64;
/// How long a worker has to end by itself when told to stop.
const STOP_GRACE: Duration = Duration::from_millis(500);
/// How many times as long a worker that runs only when nothing else wants the core may take to get ready and to answer a
/// heartbeat: beside one busy process the kernel leaves it a third of a percent, and its start takes a minute.
const IDLE_PATIENCE: u32 = 60;

/// Runs one worker.
pub struct Supervisor {
    config: WorkerConfig,
    state: State,
    open: Vec<Open>,
    counters: Counters,
    /// Pause before the next restart.
    backoff: Duration,
    /// Processes that were killed and are not reaped yet.
    dying: Vec<Body>,
    last_poll: Instant,
    /// A deadline has passed since the newest answer.
    owes_an_answer: bool,
}

enum State {
    Off,
    Paused { until: Instant },
    Running(Box<Running>),
}

struct Running {
    link: ServiceLink,
    body: Body,
    started: Instant,
    ready: Option<Ready>,
    /// The heartbeat that is not answered yet.
    ping: Option<(u32, Instant)>,
    last_ping: Instant,
    pings: u32,
}

/// A question without an answer.
struct Open {
    request: ForecastRequest,
    deadline: Instant,
    sent: bool,
}

/// A question was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backlog {
    /// The worker is switched off.
    Off,
    /// Too many questions are open.
    Full,
}

impl fmt::Display for Backlog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Off => "the worker is switched off",
            Self::Full => "the worker has too many open questions",
        })
    }
}

impl std::error::Error for Backlog {}

/// Why a worker was replaced: a word to count by and the whole story.
struct Failure {
    kind: String,
    story: String,
}

impl Failure {
    fn new(kind: impl Into<String>) -> Self {
        let kind = kind.into();
        Self { story: kind.clone(), kind }
    }
}

impl From<LinkError> for Failure {
    fn from(error: LinkError) -> Self {
        Self::new(error.to_string())
    }
}

impl fmt::Debug for Supervisor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Supervisor")
            .field("alive", &self.alive())
            .field("open", &self.open.len())
            .finish_non_exhaustive()
    }
}

impl Supervisor {
    /// Starts a worker. A worker that cannot be started is a state with a reason, and tried again.
    pub fn start(mut config: WorkerConfig) -> Self {
        let now = Instant::now();
        if config.idle {
            config.start_timeout = config.start_timeout.saturating_mul(IDLE_PATIENCE);
            config.heartbeat_timeout = config.heartbeat_timeout.saturating_mul(IDLE_PATIENCE);
        }
        let state = match config.mode {
            Mode::Off => State::Off,
            Mode::Process | Mode::Thread => State::Paused { until: now },
        };
        let backoff = config.backoff;
        let mut supervisor = Self {
            config,
            state,
            open: Vec::new(),
            counters: Counters::default(),
            backoff,
            dying: Vec::new(),
            last_poll: now,
            owes_an_answer: false,
        };
        supervisor.launch_if_due(now);
        supervisor
    }

    /// Puts a question to the worker, now or as soon as there is one. The answer comes from [`Supervisor::poll`], or never
    /// if it takes longer than the deadline.
    pub fn submit(&mut self, request: &ForecastRequest) -> Result<(), Backlog> {
        if matches!(self.state, State::Off) {
            return Err(Backlog::Off);
        }
        if self.open.len() >= MAX_OPEN {
            return Err(Backlog::Full);
        }
        self.counters.submitted += 1;
        let deadline = Instant::now() + self.config.deadline;
        self.open.push(Open { request: request.clone(), deadline, sent: false });
        self.send_open();
        Ok(())
    }

    /// The next forecast, if one has come; call until `None`. Also drives heartbeats, deadlines and restarts.
    pub fn poll(&mut self, now: Instant) -> Option<Forecast> {
        self.forgive_own_pause(now);
        self.dying.retain_mut(|body| body.exited().is_none());
        self.open.retain(|open| {
            let expired = now >= open.deadline;
            self.counters.late += u64::from(expired);
            self.owes_an_answer |= expired;
            !expired
        });
        match self.attend(now) {
            Ok(Some(forecast)) => return Some(forecast),
            Ok(None) => {}
            Err(failure) => self.replace(now, failure),
        }
        self.launch_if_due(now);
        None
    }

    /// Whether a worker is set up and gives signs of life.
    pub fn alive(&self) -> bool {
        matches!(&self.state, State::Running(running) if running.ready.is_some())
    }

    /// Whether answers can be expected of it: it is alive, a model is usable, and the newest question that is settled by an
    /// answer or its deadline was answered.
    pub fn answering(&self) -> bool {
        let State::Running(running) = &self.state else { return false };
        let usable = |model: &ModelState| matches!(model, ModelState::Loaded { .. });
        running.ready.as_ref().is_some_and(|ready| ready.models.iter().any(usable)) && !self.owes_an_answer
    }

    /// All that is known of the worker. Reads two small files of the kernel's.
    pub fn health(&self) -> WorkerHealth {
        let mut health = WorkerHealth { alive: self.alive(), ..WorkerHealth::default() };
        self.counters.write(&mut health);
        health.state = match &self.state {
            State::Off => "switched off".to_owned(),
            State::Paused { .. } => format!("restarting: {}", health.last_reason.as_deref().unwrap_or("first start")),
            State::Running(running) if running.ready.is_none() => "starting".to_owned(),
            State::Running(_) => "running".to_owned(),
        };
        let State::Running(running) = &self.state else { return health };
        health.pid = running.body.pid();
        if let Some((rss_mb, cpu_s)) = health.pid.and_then(health::usage) {
            let age = running.started.elapsed().as_secs_f64().max(1e-3);
            (health.rss_mb, health.cpu_s, health.cpu_percent) = (rss_mb, cpu_s, 100.0 * cpu_s / age);
        }
        if let Some(ready) = &running.ready {
            health.cpu_affinity.clone_from(&ready.cpu_affinity);
            health.warnings.clone_from(&ready.warnings);
            health.sandbox = ready.sandbox;
            health.models.clone_from(&ready.models);
        }
        health
    }

    /// Ends the worker: asks, and after half a second insists. Dropping does the same.
    pub fn stop(&mut self) {
        if let State::Running(mut running) = std::mem::replace(&mut self.state, State::Off) {
            let limit = Instant::now() + STOP_GRACE;
            // If the order does not fit or arrive, the grace is for nothing and the end comes all the same.
            let _ = running.link.send(Order::Stop);
            while running.body.exited().is_none() && Instant::now() < limit {
                std::thread::sleep(Duration::from_millis(1));
            }
            running.body.kill();
        }
        self.open.clear();
        // Dropping a process that was killed waits for the kernel to take it down.
        self.dying.clear();
    }

    /// Reads replies and looks after a running worker.
    fn attend(&mut self, now: Instant) -> Result<Option<Forecast>, Failure> {
        self.send_open();
        let State::Running(running) = &mut self.state else { return Ok(None) };
        // Asked before reading: what it sent before it ended is still read.
        let ended = running.body.exited();
        // Bounded: a worker that floods the link must not hold up the service.
        for _ in 0..MAX_REPLIES {
            let reply = match running.link.receive() {
                Ok(Some(reply)) => reply,
                Ok(None) => break,
                // A thread's link closes when it ends; how it ended is seen below.
                Err(LinkError::Closed) => break,
                Err(error) => {
                    self.counters.corrupt += 1;
                    return Err(error.into());
                }
            };
            match reply {
                // Told once: a worker that repeats it would have its texts logged without end.
                Reply::Ready(_) if running.ready.is_some() => {
                    self.counters.corrupt += 1;
                    return Err(Failure::new("it reported its set-up twice"));
                }
                Reply::Ready(ready) => {
                    let ready = trusted(*ready);
                    for model in &ready.models {
                        if let ModelState::Failed(reason) = model {
                            tracing::warn!("a forecast model cannot be used: {reason}");
                        }
                    }
                    running.ready = Some(ready);
                }
                Reply::Pong(number) => {
                    if running.ping.is_some_and(|(expected, _)| expected == number) {
                        running.ping = None;
                    }
                }
                Reply::Forecast { forecast, inference_ns } => {
                    let Some(index) = self.open.iter().position(|open| {
                        open.sent && open.request.id == forecast.id && open.request.model == forecast.model
                    }) else {
                        // Late ones were counted when their deadline passed.
                        continue;
                    };
                    self.open.remove(index);
                    self.owes_an_answer = false;
                    self.counters.answered += 1;
                    self.counters.inference(inference_ns);
                    self.backoff = self.config.backoff;
                    return Ok(Some(*forecast));
                }
                Reply::Refused { id, reason } => {
                    if let Some(index) = self.open.iter().position(|open| open.sent && open.request.id == id) {
                        self.open.remove(index);
                        self.counters.refused += 1;
                        self.counters.last_refusal = Some(printable(&reason));
                    }
                }
            }
        }
        if let Some((end, last_words)) = ended {
            let story = match last_words {
                Some(words) => format!("{end}: {words}"),
                None => end.clone(),
            };
            return Err(Failure { kind: end, story });
        }
        if running.ready.is_none() {
            if now.saturating_duration_since(running.started) > self.config.start_timeout {
                return Err(Failure::new("not ready in time"));
            }
            return Ok(None);
        }
        if let Some((_, sent)) = running.ping
            && now.saturating_duration_since(sent) > self.config.heartbeat_timeout
        {
            return Err(Failure::new("no sign of life"));
        }
        if running.ping.is_none() && now.saturating_duration_since(running.last_ping) >= self.config.heartbeat {
            running.pings = running.pings.wrapping_add(1);
            match running.link.send(Order::Ping(running.pings)) {
                // A full ring means that the worker reads nothing: that is what the time-out is for.
                Ok(()) | Err(SendError::Full) => running.ping = Some((running.pings, now)),
                Err(SendError::Broken(LinkError::Closed)) => {}
                Err(SendError::Broken(error)) => {
                    self.counters.corrupt += 1;
                    return Err(error.into());
                }
            }
            running.last_ping = now;
        }
        Ok(None)
    }

    /// Sends the questions that no worker has seen yet.
    fn send_open(&mut self) {
        let State::Running(running) = &mut self.state else { return };
        if running.ready.is_none() {
            return;
        }
        for open in self.open.iter_mut().filter(|open| !open.sent) {
            // What is not sent now is tried again at the next poll; a broken link is found there as well.
            if running.link.send(Order::Forecast(Box::new(open.request.clone()))).is_err() {
                return;
            }
            open.sent = true;
        }
    }

    /// Ends the present worker and schedules the next. Open questions within their deadline go to the next one.
    fn replace(&mut self, now: Instant, failure: Failure) {
        if let State::Running(mut running) = std::mem::replace(&mut self.state, State::Off) {
            // A thread can only be asked.
            let _ = running.link.send(Order::Stop);
            running.body.kill();
            if running.body.exited().is_none() {
                self.dying.push(running.body);
            }
        }
        self.open.iter_mut().for_each(|open| open.sent = false);
        tracing::warn!(reason = failure.story, pause_ms = self.backoff.as_millis(), "the forecast worker is replaced");
        self.counters.restarted(&failure.kind, failure.story);
        self.state = State::Paused { until: now + self.backoff };
        self.backoff = (self.backoff * 2).min(self.config.backoff_limit);
    }

    fn launch_if_due(&mut self, now: Instant) {
        if !matches!(self.state, State::Paused { until } if now >= until) {
            return;
        }
        match launch::launch(&self.config) {
            Ok((link, body)) => {
                let (ready, ping) = (None, None);
                self.state = State::Running(Box::new(Running {
                    link,
                    body,
                    started: now,
                    ready,
                    ping,
                    last_ping: now,
                    pings: 0,
                }));
            }
            Err(story) => {
                let kind = story.split_once(':').map_or(story.as_str(), |(kind, _)| kind).to_owned();
                self.replace(now, Failure { kind, story });
            }
        }
    }

    /// When this process itself was stopped or suspended, the worker's silence meanwhile says nothing about it.
    fn forgive_own_pause(&mut self, now: Instant) {
        let gap = now.saturating_duration_since(std::mem::replace(&mut self.last_poll, now));
        // What passes between two polls of a caller that keeps to once a second does count.
        let pause = gap.saturating_sub(self.config.heartbeat_timeout / 2);
        if let State::Running(running) = &mut self.state {
            running.started += if running.ready.is_none() { pause } else { Duration::ZERO };
            running.ping = running.ping.map(|(number, sent)| (number, sent + pause));
        }
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        self.stop();
    }
}

/// The set-up report with texts fit for a terminal: it comes from a process that is not trusted.
fn trusted(mut ready: Ready) -> Ready {
    ready.cpu_affinity.truncate(1024);
    ready.warnings.truncate(8);
    ready.warnings.iter_mut().for_each(|text| *text = printable(text));
    for model in &mut ready.models {
        match model {
            ModelState::Loaded { file, .. } => *file = printable(file),
            ModelState::Failed(reason) => *reason = printable(reason),
        }
    }
    ready
}

#[cfg(all(test, feature = "inference"))]
mod tests {
    use std::sync::mpsc;

    use super::*;
    use crate::link::Link;
    use crate::link::thread::{WorkerEnd, pair};

    /// A supervisor at whose clock the test sits, and the worker's end of its link.
    struct Bench {
        /// The worker's body lives until this is dropped, which is before the supervisor waits for its end.
        _alive: mpsc::Sender<()>,
        worker: WorkerEnd,
        supervisor: Supervisor,
        started: Instant,
    }

    impl Bench {
        fn new(idle: bool) -> Self {
            let config = WorkerConfig { mode: Mode::Off, idle, ..WorkerConfig::default() };
            let mut supervisor = Supervisor::start(config);
            let (service, worker) = pair();
            let (alive, ended) = mpsc::channel();
            let started = supervisor.last_poll;
            supervisor.state = State::Running(Box::new(Running {
                link: Box::new(service),
                // Nothing is ever sent: it waits for the other end to go.
                body: Body::Thread(std::thread::spawn(move || _ = ended.recv())),
                started,
                ready: None,
                ping: None,
                last_ping: started,
                pings: 0,
            }));
            Self { _alive: alive, worker, supervisor, started }
        }

        fn ready(mut self) -> Self {
            self.reports();
            self.poll(0);
            assert!(self.supervisor.alive());
            self
        }

        fn reports(&mut self) {
            assert_eq!(self.worker.send(Reply::Ready(Box::default())), Ok(()));
        }

        /// Why the worker was replaced, if it was, by `second`.
        fn poll(&mut self, second: u64) -> Option<&str> {
            assert_eq!(self.supervisor.poll(self.started + Duration::from_secs(second)), None);
            self.supervisor.counters.last_reason.as_deref()
        }

        /// Polls once a second, as the service does, to the second in which the worker is replaced.
        fn replaced(&mut self, limit: u64) -> Option<(u64, String)> {
            (1..=limit).find_map(|second| self.poll(second).map(|reason| (second, reason.to_owned())))
        }
    }

    #[test]
    fn a_set_up_reported_twice_breaks_the_link() {
        let mut bench = Bench::new(false).ready();
        bench.reports();
        assert_eq!(bench.poll(0), Some("it reported its set-up twice"));
        assert_eq!(bench.supervisor.counters.corrupt, 1);
        assert!(!bench.supervisor.alive());
    }

    #[test]
    fn a_service_that_looks_once_a_second_notices_silence() {
        assert_eq!(Bench::new(false).replaced(20), Some((11, "not ready in time".to_owned())));
        assert_eq!(Bench::new(false).ready().replaced(20), Some((4, "no sign of life".to_owned())));
    }

    #[test]
    fn a_pause_of_the_service_is_not_the_workers_silence() {
        let mut starting = Bench::new(false);
        assert_eq!(starting.poll(3600), None);
        let mut bench = Bench::new(false).ready();
        // A heartbeat is sent, and nothing runs for an hour.
        for second in [1, 3600, 3601] {
            assert_eq!(bench.poll(second), None);
        }
        assert_eq!(bench.poll(3602), Some("no sign of life"), "it had its time since");
    }

    #[test]
    fn a_worker_that_gives_way_to_everything_has_longer() {
        assert_eq!(Bench::new(true).replaced(1000), Some((601, "not ready in time".to_owned())));
        assert_eq!(Bench::new(true).ready().replaced(1000), Some((122, "no sign of life".to_owned())));
    }
}
