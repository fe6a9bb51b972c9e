//! The daemon's loop: it owns the sources, the pipeline, the worker and the page, and is the only place where they meet.
//!
//! ```text
//! wait (descriptors, deadlines) -> sources -> pipeline <-> worker -> served clock -> page
//!                                                   \-> status socket, journal
//! ```
//!
//! One thread, one wait. Everything that can take long (name resolution, inference) happens elsewhere and wakes it or is
//! looked after within milliseconds.

mod coverage;
pub mod journal;
mod lookup;
pub(crate) mod ntp_source;
mod recollection;
mod service_manager;
pub mod source;
pub mod status;
mod wake;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use chronotick_core::leap::{self, LeapSecond, Leaps, Policy};
use chronotick_core::selection::Verdict;
use chronotick_core::stability::AllanDeviation;
use chronotick_core::units::{Local, Rate, Span, Temperature, Timestamp, Utc};
use chronotick_core::{Pipeline, Reason, SourceId, Tier, served};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

pub use coverage::Coverage;
pub use status::Status;
pub use wake::Stop;

use self::coverage::Witness;
use self::journal::{Event, Journal};
use self::recollection::Recollection;
use self::service_manager::ServiceManager;
use self::source::{Known, Source};
use self::status::{Forecasts, Stability, StatusSocket};
use crate::config::Config;
use crate::error::{Error, Kind};
use crate::feed::ChronySock;
use crate::local::LocalSource;
use crate::ntp::packet::Leap;
use crate::os::counter::{LocalClock, SystemCounter};
use crate::os::disruption::Disruption;
use crate::publisher::Publisher;
use crate::shm::page::{PageError, PageSettings, inherited_counter};
use crate::supervisor::Supervisor;

/// The page is renewed at least this often.
const RENEWAL: Duration = Duration::from_secs(1);
/// How often the worker is looked after while a question is open, and otherwise.
const WORKER_BUSY: Duration = Duration::from_millis(5);
const WORKER_IDLE: Duration = Duration::from_millis(250);
/// The shortest averaging time of the oscillator's stability.
const STABILITY_STEP: Span = Span::from_secs(16);
/// Silence at the start after which it is mentioned.
const SILENCE: Duration = Duration::from_secs(3);

/// Reads the temperature near the oscillator, if it can.
pub type Thermometer = Box<dyn Fn() -> Option<Temperature> + Send>;

/// Reads the configuration again.
pub type Reread = Box<dyn Fn() -> Result<Config, Error> + Send>;

/// What a daemon is made of besides its configuration: the real machine, or a simulated one.
pub struct World {
    /// The local counter.
    pub clock: Arc<dyn LocalClock>,
    /// The sensor.
    pub thermometer: Thermometer,
}

impl World {
    /// This machine, as `config` describes it. The counter of a page that is still good is gone on with.
    pub fn of_this_machine(config: &Config) -> Self {
        let counter = inherited_counter(&config.page.path_for_daemon()).unwrap_or_else(SystemCounter::calibrate);
        let file = config.oscillator.temperature.clone();
        let thermometer = move || file.as_deref().and_then(read_thermometer);
        Self { clock: Arc::new(counter), thermometer: Box::new(thermometer) }
    }
}

/// A daemon.
pub struct Runner {
    config: Config,
    path: PathBuf,
    clock: Arc<dyn LocalClock>,
    thermometer: Thermometer,
    sources: Vec<Box<dyn Source>>,
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
    #[cfg(feature = "metrics")]
    exporter: Option<crate::metrics::Exporter>,
}

impl Runner {
    /// Takes the page over and starts the worker. Nothing is asked of a server before [`Runner::run`].
    ///
    /// # Errors
    /// `is_already_running` when another daemon owns the page; `is_system` when its folder cannot be written.
    pub fn open(config: Config, world: World, stop: Stop) -> Result<Self, Error> {
        let path = config.page.path_for_daemon();
        let World { clock, thermometer } = world;
        let publisher = open_page(&config, &path, &clock)?;
        let status = StatusSocket::open(&path)
            .inspect_err(|cause| tracing::warn!(%cause, "`chronotick status` will not work: no socket beside the page"))
            .ok();
        let journal = Journal::open(
            &path,
            journal::Writer {
                pid: std::process::id(),
                version: env!("CARGO_PKG_VERSION").to_owned(),
                counter: format!("{:?}", clock.kind()),
                started_local_ns: clock.now().as_nanos(),
            },
        );
        let sources = sources(&config, &stop);
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
            self.offer_metrics();
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

    /// The state as `chronotick status` shows it.
    pub fn status(&self) -> Status {
        let now = self.clock.now();
        let sources: Vec<_> =
            (0..).zip(&self.sources).map(|(id, source)| self.source_status(SourceId(id), &**source, now)).collect();
        let settled: u64 = sources.iter().map(|s| s.accepted + s.refused + s.lost).sum();
        let accepted: u64 = sources.iter().map(|s| s.accepted).sum();
        let counts = self.pipeline.counts();
        let record = self.publisher.record().and_then(|record| record.advance(now).into());
        let synchronised = record.filter(|record| record.tier != Tier::Raw);
        Status {
            tier: record.map_or(Tier::Raw, |record| record.tier),
            reason: record.map_or(Reason::NeverSynchronised, |record| record.reason).to_string(),
            sources,
            experts: status::experts(&self.pipeline),
            leap: self.leaps.announced().map(|leap| leap.as_str().to_owned()),
            feed: self.feed.as_ref().map(ChronySock::status),
            worker: self.worker_status(),
            forecasts: Forecasts {
                issued: counts.forecasts_issued,
                accepted: counts.forecasts_accepted,
                muted: counts.forecasts_muted,
            },
            success_rate: if settled == 0 { 1.0 } else { accepted as f64 / settled as f64 },
            uptime_s: self.started.elapsed().as_secs_f64(),
            rate_ppm: self.pipeline.rate().as_ppm(),
            allan_deviation: self.stability.points().map(Stability::from).collect(),
            offset_ns: synchronised.map(|record| record.utc.offset_from(record.at).as_nanos()),
            interval95_ns: record.filter(|r| r.interval.is_known()).map(|r| r.interval.half_width().as_nanos()),
            bound_ns: record.filter(|r| r.bound.is_bounded()).map(|r| r.bound.half_width().as_nanos()),
            temperature_c: self.temperature.map(Temperature::value),
            coverage: self.witness.coverage(),
            samples_accepted: counts.samples_accepted,
            samples_rejected: counts.samples_rejected,
            bound_conflicts: self.pipeline.bound_conflicts(),
            disruptions: self.disruptions,
            counter: format!("{:?}", self.clock.kind()),
            page: self.path.clone(),
            pid: std::process::id(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
        }
    }

    /// A source's own state, and what the others think of it.
    fn source_status(&self, id: SourceId, source: &dyn Source, now: Timestamp<Local>) -> status::SourceStatus {
        let mut status = source.status(now);
        let verdict = self.pipeline.verdict(id);
        status.verdict = status.verdict.or(verdict.map(|verdict| verdict.as_str().to_owned()));
        if status.reason.is_none() {
            status.reason = match verdict {
                Some(Verdict::Falseticker) => {
                    let served = self.pipeline.line_offset().zip(status.offset_ns);
                    let served =
                        served.map(|(line, offset)| (line.saturating_add(self.leaps.utc_less_continuous()), offset));
                    let apart = served.map(|(line, offset)| Span::from_nanos(offset.saturating_sub(line.as_nanos())));
                    let apart = apart.map_or_else(String::new, |apart| format!(", by {:+.6} s", apart.as_secs_f64()));
                    Some(format!("a majority of the servers contradicts it{apart}"))
                }
                Some(Verdict::Undecided) => Some(self.pipeline.why_nothing().to_string()),
                _ => None,
            };
        }
        status
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
        }
        news |= self.look_after_worker();
        let now = self.clock.now();
        self.pipeline.handle_timeout(now);
        self.keep(false);
        while let Some(request) = self.pipeline.poll_request(now) {
            let Some(worker) = &mut self.worker else { break };
            match worker.submit(&request) {
                Ok(()) => self.asked = Some(Instant::now()),
                Err(backlog) => tracing::debug!(%backlog, "question not put"),
            }
        }
        news |= self.look_for_leaps(now);
        if news || self.published.elapsed() >= RENEWAL {
            self.publish()?;
        }
        if let Some(feed) = &mut self.feed {
            // With a smear there is nothing left to announce.
            let leap = match self.leaps.announced().filter(|_| self.config.serve.leap == Policy::Utc) {
                Some(LeapSecond::Insert) => Leap::Insert,
                Some(LeapSecond::Delete) => Leap::Delete,
                None => Leap::None,
            };
            feed.drive(&*self.clock, self.publisher.record(), leap);
        }
        self.mention_silence();
        if let Some(status) = &self.status {
            status.answer(|| self.status());
        }
        self.journal.serve();
        if let Some(manager) = &mut self.service.manager {
            manager.alive();
        }
        Ok(())
    }

    /// Takes the configuration again, or keeps the old one and says why. What has been learned stays, so the served time goes
    /// on as it was.
    fn reload(&mut self) {
        let Some(reread) = &self.service.reread else {
            tracing::warn!("there is no configuration to read again: this daemon was started by a program");
            return;
        };
        if let Some(manager) = &self.service.manager {
            manager.reloading();
        }
        let old = self.config.clone();
        match reread().and_then(|new| self.config.adopt(&new)) {
            Ok(reload) => self.apply(&old, &reload),
            Err(error) => tracing::error!(%error, "the configuration is not reloaded: the old one stays in force"),
        }
        if let Some(manager) = &self.service.manager {
            manager.ready();
        }
    }

    /// Sets up anew what differs from `old`.
    fn apply(&mut self, old: &Config, reload: &crate::config::Reload) {
        if !reload.left.is_empty() {
            tracing::warn!("these keys wait for a restart: {}", reload.left.join(", "));
        }
        if reload.taken.is_empty() {
            tracing::info!("reloaded: nothing changed");
            return;
        }
        tracing::info!("reloaded: {}", reload.taken.join(", "));
        if old.ntp != self.config.ntp {
            self.replace_sources(old);
        }
        self.pipeline.reconfigure(self.config.pipeline(resolution(&*self.clock)));
        self.publisher.set_target_accuracy(self.config.serve.target_accuracy);
        if old.supervisor() != self.config.supervisor() {
            self.worker = self.config.supervisor().map(Supervisor::start);
            self.asked = None;
        }
        if old.metrics != self.config.metrics {
            self.offer_metrics();
        }
    }

    /// A source whose place and settings are the same goes on; another one starts at its place.
    fn replace_sources(&mut self, old: &Config) {
        // Each server as often as it has sources.
        let places = |config: &Config| -> Vec<crate::config::Server> {
            let servers = config.ntp.servers.iter();
            servers.flat_map(|server| std::iter::repeat_n(server.clone(), server.count())).collect()
        };
        let (were, are) = (places(old), places(&self.config));
        let same_settings = old.client() == self.config.client();
        let mut before: Vec<_> = std::mem::take(&mut self.sources).into_iter().map(Some).collect();
        self.sources = sources(&self.config, &self.stop);
        for index in 0..before.len().max(self.sources.len()) {
            let was = before.get_mut(index).and_then(Option::take);
            let place = self.sources.get_mut(index);
            let same = were.get(index) == are.get(index)
                && was.as_ref().map(|source| source.name()) == place.as_ref().map(|source| source.name());
            match (was, place) {
                (Some(was), Some(place)) if same && same_settings => *place = was,
                _ if same => {}
                _ => {
                    self.pipeline.forget_source(SourceId(u8::try_from(index).unwrap_or(u8::MAX)));
                    self.witness.forget(index);
                }
            }
        }
        self.pipeline.expect_sources(u8::try_from(self.config.voters()).unwrap_or(u8::MAX));
        self.silence_told = false;
    }

    #[cfg(feature = "metrics")]
    fn offer_metrics(&mut self) {
        let Some(listen) = self.config.metrics.listen else {
            self.service.exporter = None;
            return;
        };
        if self.service.exporter.as_ref().is_some_and(|exporter| exporter.address() == listen) {
            return;
        }
        match crate::metrics::Exporter::start(listen, &self.path) {
            Ok(exporter) => {
                tracing::info!("metrics at http://{}/metrics", exporter.address());
                self.service.exporter = Some(exporter);
            }
            // The clock does not depend on who watches it.
            Err(error) => tracing::error!(%error, "going on without"),
        }
    }

    #[cfg(not(feature = "metrics"))]
    fn offer_metrics(&mut self) {
        if let Some(listen) = self.config.metrics.listen {
            tracing::warn!("nothing listens on {listen}: this program was built without the feature `metrics`");
        }
    }

    fn handle_sample(&mut self, index: usize, mut sample: chronotick_core::Sample) -> bool {
        self.temperature = (self.thermometer)();
        sample.temperature = self.temperature;
        let now = self.clock.now();
        let first = self.pipeline.counts().samples_accepted == 0;
        let predicted = self.pipeline.estimate(sample.local);
        self.leaps.hear(
            sample.source,
            match self.sources[index].leap() {
                None | Some(Leap::Unsynchronised) => None,
                Some(Leap::None) => Some(None),
                Some(Leap::Insert) => Some(Some(LeapSecond::Insert)),
                Some(Leap::Delete) => Some(Some(LeapSecond::Delete)),
            },
        );
        let expected = predicted.as_ref().map(|predicted| predicted.offset);
        sample.offset = self.leaps.normalise(sample.local, sample.offset, expected);
        self.witness.observe(&sample, predicted.as_ref());
        let outcome = self.pipeline.handle_sample(now, &sample);
        let refused = outcome.as_ref().err().map(ToString::to_string);
        let name = self.sources[index].name();
        self.journal.push(Event::Exchange(journal::Exchange::new(&sample, name, predicted.as_ref(), refused)));
        match outcome {
            Ok(()) => {
                if let Some(estimate) = self.pipeline.estimate(sample.local) {
                    self.stability.observe(sample.local, estimate.offset);
                }
                if first {
                    let source = self.sources[index].name();
                    tracing::info!(source, offset_ns = sample.offset.as_nanos(), "first sample");
                }
                let room = self.room(now);
                self.sources.iter_mut().for_each(|source| source.set_room(room));
                true
            }
            Err(error) => {
                tracing::debug!(source = self.sources[index].name(), %error, "sample refused");
                false
            }
        }
    }

    /// How long the hard bound stays within the target accuracy if nothing more arrives.
    fn room(&self, now: Timestamp<Local>) -> Span {
        let Some(target) = self.pipeline.target(now) else { return Span::ZERO };
        let slack = self.config.serve.target_accuracy.saturating_sub(target.bound.half_width()).as_secs_f64();
        let growth = target.bound_growth.value();
        if growth > 0.0 { Span::from_secs_f64(slack.max(0.0) / growth) } else { Span::ZERO }
    }

    /// What the sources together make of the present.
    fn known(&self) -> Option<Known> {
        let estimate = self.pipeline.estimate(self.clock.now())?;
        let offset = estimate.offset.saturating_add(self.leaps.utc_less_continuous());
        Some(Known { offset, half_width: estimate.bound.half_width() })
    }

    /// Leap seconds that come and go. Returns whether there is something to publish.
    fn look_for_leaps(&mut self, now: Timestamp<Local>) -> bool {
        let Some(utc) = self.continuous(now) else { return false };
        let pipeline = &self.pipeline;
        let event = self.leaps.advance(utc, |source| pipeline.verdict(source) == Some(Verdict::Selected));
        match event {
            None => return false,
            Some(leap::Event::Announced(kind)) => {
                tracing::info!(leap = kind.as_str(), policy = ?self.config.serve.leap, "a leap second ends this UTC day");
            }
            Some(leap::Event::Withdrawn(kind)) => {
                tracing::warn!(
                    leap = kind.as_str(),
                    "the leap second is announced by a majority no more: there will be none"
                );
            }
            Some(leap::Event::Happened(kind)) => {
                tracing::info!(leap = kind.as_str(), "leap second");
                if self.config.serve.leap == Policy::Utc {
                    self.publisher.step();
                }
            }
        }
        true
    }

    /// The estimate of now, on the scale that has no leap seconds.
    fn continuous(&self, now: Timestamp<Local>) -> Option<Timestamp<Utc>> {
        let roughly = now.to_utc(self.pipeline.line_offset()?);
        let near = self.leaps.poll_timeout(roughly).is_some_and(|left| left < leap::LAST);
        if near { Some(now.to_utc(self.pipeline.estimate(now)?.offset)) } else { Some(roughly) }
    }

    /// Answers and signs of life. Returns whether a forecast came.
    fn look_after_worker(&mut self) -> bool {
        let Some(worker) = &mut self.worker else { return false };
        let mut news = false;
        while let Some(forecast) = worker.poll(Instant::now()) {
            self.asked = None;
            match self.pipeline.handle_forecast(self.clock.now(), &forecast) {
                Ok(()) => news = true,
                Err(error) => tracing::debug!(model = ?forecast.model, %error, "forecast refused"),
            }
        }
        self.pipeline.set_worker_alive(worker.answering());
        news
    }

    fn look_for_disruptions(&mut self) -> Result<(), Error> {
        let Some(disruption) = self.publisher.disruption() else { return Ok(()) };
        self.disruptions += 1;
        tracing::warn!(?disruption, "the counter was disturbed: starting over");
        let (ticks, utc) = self.clock.realtime();
        self.journal.push(Event::Disruption(journal::Disrupted {
            local_ns: self.clock.scale().local(ticks).as_nanos(),
            utc_ns: utc.as_nanos(),
            what: disruption.to_string(),
        }));
        self.pipeline.handle_discontinuity();
        self.stability.break_off();
        self.leaps.reset();
        self.sources.iter_mut().for_each(|source| source.restart());
        self.counter_distrusted = disruption == Disruption::CounterDistrusted;
        Ok(())
    }

    fn publish(&mut self) -> Result<(), Error> {
        let (pipeline, leaps) = (&self.pipeline, &self.leaps);
        self.publisher.explain_nothing(pipeline.why_nothing());
        let record = self.publisher.publish(|at| Some(leaps.serve(pipeline.target(at)?))).map_err(page_error)?;
        self.published = Instant::now();
        let Some(record) = record else { return Ok(()) };
        if record.tier != self.tier {
            tracing::info!(from = %self.tier, to = %record.tier, reason = %record.reason, "tier");
            self.journal.push(Event::Tier(journal::TierChange {
                local_ns: record.at.as_nanos(),
                utc_ns: record.utc.as_nanos(),
                from: self.tier,
                to: record.tier,
                reason: record.reason.to_string(),
            }));
            if let Some(manager) = &self.service.manager {
                manager.status(&format!("tier {}: {}", record.tier, record.reason));
            }
            self.tier = record.tier;
        }
        if self.journal.wants_point() {
            let known = record.tier != Tier::Raw;
            self.journal.push(Event::Served(journal::Served {
                local_ns: record.at.as_nanos(),
                utc_ns: record.utc.as_nanos(),
                offset_ns: known.then(|| record.utc.offset_from(record.at).as_nanos()),
                interval95_ns: record.interval.is_known().then(|| record.interval.half_width().as_nanos()),
                bound_ns: record.bound.is_bounded().then(|| record.bound.half_width().as_nanos()),
                rate_ppm: self.pipeline.rate().as_ppm(),
                temperature_c: self.temperature.map(Temperature::value),
                tier: record.tier,
            }));
        }
        Ok(())
    }

    /// Says once that no server answers.
    fn mention_silence(&mut self) {
        let quiet = self.pipeline.counts().samples_accepted == 0;
        let waited = self.sources.is_empty() || self.started.elapsed() >= SILENCE;
        if self.silence_told || !quiet || !waited {
            return;
        }
        self.silence_told = true;
        let now = self.clock.now();
        let states: Vec<_> = self
            .sources
            .iter()
            .map(|source| source.status(now))
            .map(|s| format!("{} ({})", s.name, s.reason.unwrap_or(s.state)))
            .collect();
        let servers = if states.is_empty() { "none is configured".to_owned() } else { states.join(", ") };
        tracing::warn!(
            "no time server has answered: serving the operating system's clock, uncorrected and without a bound (tier raw), \
             until one does; servers: {servers}"
        );
    }

    /// Leaves what is known of the oscillator to the next start.
    fn keep(&mut self, at_once: bool) {
        if let Some(recollection) = &mut self.recollection {
            recollection.keep(self.pipeline.warm_start(), &*self.clock, at_once);
        }
    }

    /// The last record tells readers that it will not be renewed.
    fn leave(&mut self) {
        self.keep(true);
        if let Some(manager) = &self.service.manager {
            manager.stopping();
        }
        let now = self.clock.now();
        if let Some(target) = self.pipeline.target(now) {
            let tier = target.tier.max(Tier::Holdover);
            let last = self.publisher.publish(|at| {
                let target = self.leaps.serve(self.pipeline.target(at)?);
                Some(served::Target { tier, reason: Reason::PageStale, ..target })
            });
            if let Err(cause) = last {
                tracing::warn!(%cause, "the last record could not be written");
            }
        }
        if let Some(worker) = &mut self.worker {
            worker.stop();
        }
        tracing::info!("stopped");
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
        let status = self.status.as_ref().map(StatusSocket::fd);
        let mut fds: Vec<_> = [self.stop.fd()]
            .into_iter()
            .chain(status)
            .chain(sockets)
            .map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN))
            .chain(self.journal.fds())
            .collect();
        let timeout =
            Timespec { tv_sec: i64::try_from(left.as_secs()).unwrap_or(1), tv_nsec: i64::from(left.subsec_nanos()) };
        // Interrupted by a signal: its handler has also written to the wake-up channel.
        let _ = poll(&mut fds, Some(&timeout));
    }

    fn worker_status(&self) -> serde_json::Value {
        let health = self.worker.as_ref().map(Supervisor::health).unwrap_or_default();
        let mut value = serde_json::to_value(&health).unwrap_or_default();
        if let Some(fields) = value.as_object_mut() {
            fields.insert("p99".to_owned(), health.inference_ms_p99.into());
        }
        value
    }
}

/// The configured sources, the servers first: a source's place is its id.
fn sources(config: &Config, stop: &Stop) -> Vec<Box<dyn Source>> {
    let mut sources = ntp_source::sources(config, stop);
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
    Publisher::open(path, &settings, served, Arc::clone(clock)).map_err(page_error)
}

fn page_error(cause: PageError) -> Error {
    let kind = match cause {
        PageError::Busy { .. } => Kind::AlreadyRunning,
        PageError::Missing { .. } => Kind::NotRunning,
        PageError::Io { .. } => Kind::System,
        _ => Kind::Incompatible,
    };
    Error::new(kind, cause.to_string())
}

/// One tick of the counter, at least a nanosecond.
fn resolution(clock: &dyn LocalClock) -> Span {
    Span::from_nanos(i64::try_from(clock.scale().mult.div_ceil(1 << 48)).unwrap_or(1).max(1))
}

/// Thousandths of a degree in text; anything else, and what no machine survives, is no reading.
fn read_thermometer(path: &Path) -> Option<Temperature> {
    let thousandths: i32 = std::fs::read_to_string(path).ok()?.trim().parse().ok()?;
    (-100_000..=200_000).contains(&thousandths).then(|| Temperature::new(f64::from(thousandths) / 1000.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thermometer_in_thousandths() {
        let path = std::env::temp_dir().join(format!("chronotick-thermometer-{}", std::process::id()));
        for (text, celsius) in [("42500\n", Some(42.5)), ("-3000", Some(-3.0)), ("hot", None), ("999999999", None)] {
            std::fs::write(&path, text).expect("temporary file");
            assert_eq!(read_thermometer(&path).map(Temperature::value), celsius, "{text}");
        }
        std::fs::remove_file(&path).expect("temporary file");
        assert_eq!(read_thermometer(&path), None);
    }
}
