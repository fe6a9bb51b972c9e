//! The daemon's loop: it owns the sources, the pipeline, the worker and the page, and is the only place where they meet.
//!
//! ```text
//! wait (descriptors, deadlines) -> sources -> pipeline <-> worker -> served clock -> page
//!                                                   \-> status socket, journal
//! ```
//!
//! One thread, one wait. Everything that can take long (name resolution, inference) happens elsewhere and wakes it or is
//! looked after within milliseconds.

mod claims;
mod coverage;
mod intake;
pub mod journal;
mod leaps;
mod lookup;
pub(crate) mod ntp_source;
mod recollection;
mod reload;
mod service_manager;
mod serving;
mod socket;
pub mod source;
mod stamps;
mod state;
pub mod status;
mod telemetry;
mod thinned;
mod wake;
mod world;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use chronotick_core::leap::Leaps;
use chronotick_core::stability::AllanDeviation;
use chronotick_core::units::{Rate, Span, Temperature};
use chronotick_core::{Pipeline, SourceId, Tier, served};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

pub use coverage::Coverage;
pub use status::Status;
pub use wake::Stop;
pub use world::{Thermometer, World};

use self::claims::Claims;
use self::coverage::Witness;
use self::journal::Journal;
use self::recollection::Recollection;
use self::service_manager::ServiceManager;
use self::source::Source;
use self::status::StatusSocket;
use self::telemetry::Telemetry;
use crate::config::Config;
use crate::error::Error;
use crate::feed::ChronySock;
use crate::local::LocalSource;
use crate::os::counter::{LocalClock, SystemCounter};
use crate::publisher::Publisher;
use crate::shm::page::PageSettings;
use crate::supervisor::Supervisor;

/// The page is renewed at least this often.
const RENEWAL: Duration = Duration::from_secs(1);
/// How often the worker is looked after while a question is open, and otherwise.
const WORKER_BUSY: Duration = Duration::from_millis(5);
const WORKER_IDLE: Duration = Duration::from_millis(250);
/// The shortest averaging time of the oscillator's stability.
const STABILITY_STEP: Span = Span::from_secs(16);

/// Reads the configuration again.
pub type Reread = Box<dyn Fn() -> Result<Config, Error> + Send>;

/// A daemon.
pub struct Runner {
    config: Config,
    path: PathBuf,
    clock: Arc<dyn LocalClock>,
    thermometer: Thermometer,
    sources: Vec<Box<dyn Source>>,
    /// Which of them measures which server.
    claims: Claims,
    pipeline: Box<Pipeline>,
    stability: AllanDeviation,
    recollection: Option<Recollection>,
    leaps: Leaps,
    worker: Option<Supervisor>,
    publisher: Publisher,
    status: Option<StatusSocket>,
    journal: Journal,
    feed: Option<ChronySock>,
    stop: Stop,
    started: Instant,
    published: Instant,
    /// When the newest question that is still open was put.
    asked: Option<Instant>,
    tier: Tier,
    silence_told: bool,
    disruptions: u64,
    counter_distrusted: bool,
    temperature: Option<Temperature>,
    witness: Witness,
    service: Service,
}

/// What a daemon has that runs as a service of its own, and keeps when it starts over.
#[derive(Default)]
struct Service {
    reread: Option<Reread>,
    manager: Option<ServiceManager>,
    telemetry: Telemetry,
}

impl Runner {
    /// Takes the page over and starts the worker. Nothing is asked of a server before [`Runner::run`].
    ///
    /// # Errors
    /// `is_already_running` when another daemon owns the page; `is_system` when its folder cannot be written.
    pub fn open(config: Config, world: World, stop: Stop) -> Result<Self, Error> {
        let path = config.page.path_for_daemon();
        let World { clock, thermometer } = world;
        config.page.claim_folder()?;
        let publisher = open_page(&config, &path, &clock)?;
        let status = listen(&path);
        let journal = Journal::open(
            &path,
            journal::Writer {
                pid: std::process::id(),
                version: env!("CARGO_PKG_VERSION").to_owned(),
                counter: format!("{:?}", clock.kind()),
                started_local_ns: clock.now().as_nanos(),
            },
        );
        let claims = Claims::default();
        let sources = sources(&config, &claims, &stop);
        let feed = config.feed.chrony_sock.as_deref().map(|path| ChronySock::new(path, config.feed.interval));
        let mut pipeline = Box::new(Pipeline::new(config.pipeline(resolution(&*clock))));
        let recollection = Recollection::new(config.oscillator.state.as_deref());
        if let Some(known) = recollection.as_ref().and_then(|recollection| recollection.recall(&*clock)) {
            tracing::info!(
                rate_ppm = known.rate.as_ppm(),
                deviation_ppm = known.deviation.as_ppm(),
                "beginning with a known rate"
            );
            pipeline.begin_with(known);
        }
        let leaps = Leaps::new(config.serve.leap);
        let worker = config.supervisor().map(Supervisor::start);
        Ok(Self {
            config,
            path,
            clock,
            thermometer,
            sources,
            claims,
            pipeline,
            stability: AllanDeviation::new(STABILITY_STEP),
            recollection,
            leaps,
            worker,
            publisher,
            status,
            journal,
            feed,
            stop,
            started: Instant::now(),
            published: Instant::now(),
            asked: None,
            tier: Tier::Raw,
            silence_told: false,
            disruptions: 0,
            counter_distrusted: false,
            temperature: None,
            witness: Witness::default(),
            service: Service::default(),
        })
    }

    /// On [`Stop::reload`] or SIGHUP the configuration is read with `reread`, and what can change while running does.
    #[must_use]
    pub fn reloading(mut self, reread: Reread) -> Self {
        self.service.reread = Some(reread);
        self
    }

    /// Tells the service manager of this process, if there is one, that readers can attach, and that the loop turns.
    #[must_use]
    pub fn as_a_service(mut self) -> Self {
        self.service.manager = Some(ServiceManager::of_this_process());
        self
    }

    /// The page that readers attach to.
    pub fn page(&self) -> &Path {
        &self.path
    }

    /// Keeps time until told to stop. The page stays for readers, who see that nobody renews it any more.
    ///
    /// # Errors
    /// When the page cannot be written any more.
    pub fn run(mut self) -> Result<(), Error> {
        loop {
            let page = self.path.display();
            tracing::info!(%page, counter = ?self.clock.kind(), servers = self.sources.len(), "started");
            self.publish()?;
            self.service.telemetry.follow(&self.config.metrics, &self.path);
            if let Some(manager) = &self.service.manager {
                manager.ready();
            }
            while !self.stop.is_stopped() && !self.counter_distrusted {
                self.wait();
                self.stop.drain();
                self.turn()?;
            }
            if !self.counter_distrusted {
                self.leave();
                return Ok(());
            }
            // Readers follow the page to the new counter.
            let Remains { config, thermometer, stop, service } = self.into_remains();
            let clock = Arc::new(SystemCounter::calibrate());
            self = Self { service, ..Self::open(config, World { clock, thermometer }, stop)? };
        }
    }

    /// Everything else goes, the page's lock with it.
    fn into_remains(self) -> Remains {
        let Self { config, thermometer, stop, service, .. } = self;
        Remains { config, thermometer, stop, service }
    }

    /// One turn of the loop: everything that is due.
    fn turn(&mut self) -> Result<(), Error> {
        if self.stop.take_reload() {
            self.reload();
        }
        self.look_for_disruptions()?;
        let mut news = false;
        for index in 0..self.sources.len() {
            if self.sources[index].needs_known() {
                let known = self.known();
                self.sources[index].set_known(known);
            }
            while let Some(sample) = self.sources[index].drive(&*self.clock) {
                news |= self.handle_sample(index, sample);
            }
            if self.sources[index].take_void() {
                self.forget_source(index);
            }
        }
        news |= self.look_after_worker();
        let now = self.clock.now();
        self.pipeline.handle_timeout(now);
        self.keep(false);
        self.ask_worker(now);
        news |= self.look_for_leaps(now);
        if news || self.published.elapsed() >= RENEWAL {
            self.publish()?;
        }
        let leap = self.announcement();
        if let Some(feed) = &mut self.feed {
            feed.drive(&*self.clock, self.publisher.record(), leap);
        }
        self.mention_silence();
        let now = Instant::now();
        if let Some(status) = &self.status {
            status.answer(now, || self.status());
        }
        self.journal.serve(now);
        if let Some(manager) = &mut self.service.manager {
            manager.alive();
        }
        Ok(())
    }

    /// Sleeps until something arrives or is due.
    fn wait(&self) {
        let now = self.clock.now();
        let mut left = RENEWAL.saturating_sub(self.published.elapsed());
        for source in &self.sources {
            if let Some(due) = source.poll_timeout(now) {
                left = left.min(duration(due.since(now)));
            }
        }
        if let Some(feed) = &self.feed {
            left = left.min(duration(feed.poll_timeout(now).since(now)));
        }
        if let Some(utc) = self.continuous(now)
            && let Some(leap) = self.leaps.poll_timeout(utc)
        {
            left = left.min(duration(leap));
        }
        if self.worker.is_some() {
            let busy = self.asked.is_some_and(|asked| asked.elapsed() < RENEWAL);
            left = left.min(if busy { WORKER_BUSY } else { WORKER_IDLE });
        }
        let sockets = self.sources.iter().filter_map(|source| source.fd());
        // A listener that rests is left out; the page is renewed before it has rested for long.
        let at = Instant::now();
        let status = self.status.as_ref().and_then(|status| status.fd(at));
        let mut fds: Vec<_> = [self.stop.fd()]
            .into_iter()
            .chain(status)
            .chain(sockets)
            .map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN))
            .chain(self.journal.fds(at))
            .collect();
        let timeout =
            Timespec { tv_sec: i64::try_from(left.as_secs()).unwrap_or(1), tv_nsec: i64::from(left.subsec_nanos()) };
        // Interrupted by a signal: its handler has also written to the wake-up channel.
        let _ = poll(&mut fds, Some(&timeout));
    }
}

/// The configured sources, the servers first: a source's place is its id.
fn sources(config: &Config, claims: &Claims, stop: &Stop) -> Vec<Box<dyn Source>> {
    let mut sources = ntp_source::sources(config, claims, stop);
    for address in &config.local.sources {
        let id = SourceId(u8::try_from(sources.len()).unwrap_or(u8::MAX));
        sources.push(Box::new(LocalSource::new(id, address, &config.local())));
    }
    sources
}

fn duration(span: Span) -> Duration {
    Duration::from_nanos(span.as_nanos().max(0).unsigned_abs())
}

/// What outlives a change of the counter.
struct Remains {
    config: Config,
    thermometer: Thermometer,
    stop: Stop,
    service: Service,
}

/// The status socket; the clock is as good without one.
fn listen(page: &Path) -> Option<StatusSocket> {
    StatusSocket::open(page)
        .inspect_err(|cause| tracing::warn!(%cause, "`chronotick status` will not work: no socket beside the page"))
        .ok()
}

fn open_page(config: &Config, path: &Path, clock: &Arc<dyn LocalClock>) -> Result<Publisher, Error> {
    let settings = PageSettings {
        max_bound_growth: Rate::from_ppm(config.oscillator.max_rate_ppm),
        max_interval_growth: Rate::from_ppm(config.oscillator.max_drift_ppm),
        target_accuracy: config.serve.target_accuracy,
    };
    let served = served::Config {
        max_slew: Rate::from_ppm(config.serve.max_slew_ppm),
        step_threshold: config.serve.step_threshold,
        ..served::Config::default()
    };
    Ok(Publisher::open(path, &settings, served, Arc::clone(clock))?)
}

/// One tick of the counter, at least a nanosecond.
fn resolution(clock: &dyn LocalClock) -> Span {
    Span::from_nanos(i64::try_from(clock.scale().mult.div_ceil(1 << 48)).unwrap_or(1).max(1))
}
