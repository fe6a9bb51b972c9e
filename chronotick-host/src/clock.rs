//! The clock as users meet it: a handle, and free functions for programs that want one clock and no handle.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime};

use chronotick_core::clock_page::PageReading;
use chronotick_core::units::{self, Local};
use chronotick_core::{Reason, Utc};

use crate::config::Config;
use crate::error::Error;
use crate::os::counter::os_utc;
use crate::reader::Reader;
use crate::runner::{Runner, Status, Stop, World};
use crate::supervisor::Affinity;
use crate::timestamp::Timestamp;

/// Shorter waits are spent looking at the clock, longer ones asleep up to this long before their end.
const SPIN: Duration = Duration::from_micros(200);
/// Sleeps are cut to this, so that a step of the clock is noticed.
const LONGEST_SLEEP: Duration = Duration::from_millis(200);

/// A clock: a reader of the page, and the daemon that writes it where this program started one.
///
/// ```
/// # let here = chronotick_host::doc::offline();
/// # let path = here.config();
/// // A daemon in this program (or the machine's, if one runs already), until the handle is dropped.
/// let clock = chronotick_host::ChronoTick::builder().config(path).cpu_affinity([0]).start()?;
/// println!("{}", clock.now());
/// # Ok::<(), chronotick_host::Error>(())
/// ```
#[derive(Debug)]
pub struct ChronoTick {
    reader: Reader,
    daemon: Option<Daemon>,
}

#[derive(Debug)]
struct Daemon {
    stop: Stop,
    thread: Option<JoinHandle<Result<(), Error>>>,
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.stop.stop();
        if let Some(Ok(Err(cause))) = self.thread.take().map(JoinHandle::join) {
            tracing::warn!(%cause, "the daemon of this program had stopped");
        }
    }
}

/// How a [`ChronoTick`] is made.
#[derive(Clone, Debug, Default)]
pub struct Builder {
    file: Option<PathBuf>,
    config: Option<Config>,
    page: Option<PathBuf>,
    cpus: Option<Vec<usize>>,
}

impl Builder {
    /// Reads the configuration from this file.
    ///
    /// ```
    /// # let here = chronotick_host::doc::offline();
    /// let clock = chronotick_host::ChronoTick::builder().config(here.config()).start()?;
    /// assert_eq!(clock.reader().path(), here.page());
    /// # Ok::<(), chronotick_host::Error>(())
    /// ```
    #[must_use]
    pub fn config(mut self, path: impl AsRef<Path>) -> Self {
        self.file = Some(path.as_ref().to_owned());
        self
    }

    /// Takes this configuration instead of a file's.
    ///
    /// ```
    /// # let here = chronotick_host::doc::offline();
    /// let mut config = chronotick_host::Config::load(&here.config())?;
    /// config.serve.target_accuracy = chronotick_core::Span::from_millis(5);
    /// let clock = chronotick_host::ChronoTick::builder().config_value(config).start()?;
    /// assert!(clock.owns_daemon());
    /// # Ok::<(), chronotick_host::Error>(())
    /// ```
    #[must_use]
    pub fn config_value(mut self, config: Config) -> Self {
        self.config = Some(config);
        self
    }

    /// Uses the page at this path, whatever the configuration says.
    ///
    /// ```
    /// # let daemon = chronotick_host::doc::daemon();
    /// let clock = chronotick_host::ChronoTick::builder().page(daemon.path()).attach()?;
    /// assert_eq!(clock.reader().path(), daemon.path());
    /// # Ok::<(), chronotick_host::Error>(())
    /// ```
    #[must_use]
    pub fn page(mut self, path: impl AsRef<Path>) -> Self {
        self.page = Some(path.as_ref().to_owned());
        self
    }

    /// CPUs that the forecast worker may use, whatever the configuration says.
    ///
    /// ```
    /// # let here = chronotick_host::doc::offline();
    /// let builder = chronotick_host::ChronoTick::builder().config(here.config()).cpu_affinity([0]);
    /// assert!(builder.start()?.owns_daemon());
    /// # Ok::<(), chronotick_host::Error>(())
    /// ```
    #[must_use]
    pub fn cpu_affinity(mut self, cpus: impl IntoIterator<Item = usize>) -> Self {
        self.cpus = Some(cpus.into_iter().collect());
        self
    }

    /// Starts a daemon in this program. Where one already writes the page, that one is used.
    ///
    /// The forecasts are computed in a process of their own: call [`worker::hook`](crate::worker::hook) first in `main`, or have the
    /// `chronotick` command beside this program or on the `PATH`. Otherwise the clock works without forecasts, with the reason `the
    /// forecast worker is not answering`.
    ///
    /// # Errors
    /// The configuration cannot be used, or the page's folder cannot be written.
    ///
    /// ```
    /// # let here = chronotick_host::doc::offline();
    /// use chronotick_host::ChronoTick;
    /// let first = ChronoTick::builder().config(here.config()).start()?;
    /// let second = ChronoTick::builder().config(here.config()).start()?;
    /// assert!(first.owns_daemon() && !second.owns_daemon());
    /// # Ok::<(), chronotick_host::Error>(())
    /// ```
    pub fn start(self) -> Result<ChronoTick, Error> {
        let config = self.into_config()?;
        let path = config.page.path_for_daemon();
        let stop = Stop::new()?;
        let world = World::of_this_machine(&config);
        let runner = match Runner::open(config, world, stop.clone()) {
            Ok(runner) => runner,
            Err(error) if error.is_already_running() => {
                return Ok(ChronoTick { reader: Reader::attach(path)?, daemon: None });
            }
            Err(error) => return Err(error),
        };
        let reader = Reader::attach(&path)?;
        let thread = thread::Builder::new()
            .name("chronotick".to_owned())
            .spawn(move || runner.run())
            .map_err(|cause| Error::system("cannot start the daemon's thread", cause))?;
        Ok(ChronoTick { reader, daemon: Some(Daemon { stop, thread: Some(thread) }) })
    }

    /// Attaches to the page of a daemon that runs elsewhere.
    ///
    /// # Errors
    /// The configuration cannot be used; `is_not_running` when there is no page; `is_incompatible` when its layout, its
    /// counter or its machine is another.
    ///
    /// ```
    /// # let daemon = chronotick_host::doc::daemon();
    /// use chronotick_host::ChronoTick;
    /// assert!(ChronoTick::builder().page(daemon.path()).attach().is_ok());
    /// let nowhere = ChronoTick::builder().page("/nowhere/clock").attach();
    /// assert!(nowhere.is_err_and(|error| error.is_not_running()));
    /// ```
    pub fn attach(self) -> Result<ChronoTick, Error> {
        let path = self.into_config()?.page.path_for_reader();
        Ok(ChronoTick { reader: Reader::attach(path)?, daemon: None })
    }

    fn into_config(self) -> Result<Config, Error> {
        let mut config = match (self.config, self.file) {
            (Some(config), _) => config,
            (None, Some(file)) => Config::load(&file)?,
            (None, None) => Config::default(),
        };
        if let Some(page) = self.page {
            config.page.path = Some(page);
        }
        if let Some(cpus) = self.cpus {
            config.worker.cpu_affinity = Affinity::Cores(cpus);
        }
        Ok(config)
    }
}

impl ChronoTick {
    /// Chooses how the clock is made.
    ///
    /// ```
    /// # let daemon = chronotick_host::doc::daemon();
    /// let clock = chronotick_host::ChronoTick::builder().page(daemon.path()).attach()?;
    /// println!("{}", clock.now());
    /// # Ok::<(), chronotick_host::Error>(())
    /// ```
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// Attaches to the running daemon's page at the default place.
    ///
    /// # Errors
    /// As [`Builder::attach`].
    ///
    /// ```
    /// match chronotick_host::ChronoTick::attach() {
    ///     Ok(clock) => println!("{}", clock.now()),
    ///     Err(error) if error.is_not_running() => println!("no daemon: {error}"),
    ///     Err(error) => return Err(error),
    /// }
    /// # Ok::<(), chronotick_host::Error>(())
    /// ```
    pub fn attach() -> Result<Self, Error> {
        Self::builder().attach()
    }

    /// The time now, with its bounds.
    ///
    /// ```
    /// # let daemon = chronotick_host::doc::daemon();
    /// let clock = chronotick_host::ChronoTick::builder().page(daemon.path()).attach()?;
    /// let now = clock.now();
    /// assert!(now.earliest() <= now.utc() && now.utc() <= now.latest());
    /// # Ok::<(), chronotick_host::Error>(())
    /// ```
    #[inline(always)]
    pub fn now(&self) -> Timestamp {
        self.reader.now()
    }

    /// The reader, for threads that want it without the rest.
    ///
    /// ```
    /// # let daemon = chronotick_host::doc::daemon();
    /// let clock = daemon.clock();
    /// std::thread::scope(|scope| {
    ///     for _ in 0..2 {
    ///         scope.spawn(|| clock.reader().now());
    ///     }
    /// });
    /// ```
    pub fn reader(&self) -> &Reader {
        &self.reader
    }

    /// What the daemon says about itself.
    ///
    /// # Errors
    /// `is_not_running` when no daemon answers: the page may still be good.
    ///
    /// ```
    /// # let here = chronotick_host::doc::offline();
    /// let clock = chronotick_host::ChronoTick::builder().config(here.config()).start()?;
    /// let status = clock.status()?;
    /// println!("{}: {}", status.tier, status.reason);
    /// assert_eq!(status.pid, std::process::id());
    /// # Ok::<(), chronotick_host::Error>(())
    /// ```
    pub fn status(&self) -> Result<Status, Error> {
        Status::ask(self.reader.path())
    }

    /// Whether the daemon is in this program.
    ///
    /// ```
    /// # let daemon = chronotick_host::doc::daemon();
    /// assert!(!daemon.clock().owns_daemon(), "attached to one that runs elsewhere");
    /// ```
    pub fn owns_daemon(&self) -> bool {
        self.daemon.is_some()
    }

    /// Local time now: what [`ChronoTick::project`] counts in.
    ///
    /// ```
    /// # let daemon = chronotick_host::doc::daemon();
    /// let clock = daemon.clock();
    /// let (first, second) = (clock.local(), clock.local());
    /// assert!(first <= second);
    /// ```
    pub fn local(&self) -> units::Timestamp<Local> {
        self.reader.local()
    }

    /// What this clock gives to another instant of local time; see [`Reader::project`].
    ///
    /// ```
    /// # let daemon = chronotick_host::doc::daemon();
    /// # let clock = daemon.clock();
    /// let in_a_minute = clock.local().saturating_add(chronotick_core::Span::from_secs(60));
    /// let then = clock.project(in_a_minute);
    /// // A minute without news makes it less certain.
    /// assert!(then.utc() > clock.now().utc() && then.bound() > clock.now().bound());
    /// ```
    pub fn project(&self, at: units::Timestamp<Local>) -> Timestamp {
        self.reader.project(at)
    }

    /// Returns once corrected UTC has reached `utc`, with the time that it then is.
    ///
    /// ```
    /// # let daemon = chronotick_host::doc::daemon();
    /// # let clock = daemon.clock();
    /// let due = clock.now().utc().saturating_add(chronotick_core::Span::from_millis(3));
    /// assert!(clock.wait_until(due).utc() >= due);
    /// ```
    pub fn wait_until(&self, utc: units::Timestamp<Utc>) -> Timestamp {
        loop {
            let now = self.now();
            let left = utc.since(now.utc()).as_nanos();
            if left <= 0 {
                return now;
            }
            pause(Duration::from_nanos(left.unsigned_abs()));
        }
    }

    /// Returns once `timestamp` is certainly past: every clock whose bound holds, anywhere, now reads more than
    /// `timestamp.latest()`. A transaction that is made visible only then is ordered like real time.
    ///
    /// # Errors
    /// The timestamp has no bound, or the clock lost its own meanwhile (tier `raw`): nothing is ever certain then.
    ///
    /// ```
    /// # let daemon = chronotick_host::doc::daemon();
    /// # let clock = daemon.clock();
    /// let commit = clock.now();
    /// let visible = clock.commit_wait(&commit)?;
    /// assert!(visible.earliest() > commit.latest());
    /// assert!(chronotick_host::definitely_before(&commit, &visible));
    /// # Ok::<(), chronotick_host::NotSynchronised>(())
    /// ```
    pub fn commit_wait(&self, timestamp: &Timestamp) -> Result<Timestamp, NotSynchronised> {
        loop {
            let now = self.now();
            if !timestamp.bound().is_bounded() || !now.bound().is_bounded() {
                return Err(NotSynchronised { last: now });
            }
            let left = timestamp.latest().since(now.earliest()).as_nanos();
            if left < 0 {
                return Ok(now);
            }
            pause(Duration::from_nanos(left.unsigned_abs()));
        }
    }

    /// Waits until the hard bound is at most `target_bound`, for `timeout` at most.
    ///
    /// # Errors
    /// Time ran out; the error has the last reading.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # let daemon = chronotick_host::doc::daemon();
    /// # let clock = daemon.clock();
    /// let now = clock.wait_synchronised(Duration::from_secs(5), Duration::from_millis(1))?;
    /// assert!(now.bound().half_width().as_nanos() <= 1_000_000);
    /// assert!(clock.wait_synchronised(Duration::ZERO, Duration::from_nanos(1)).is_err());
    /// # Ok::<(), chronotick_host::NotSynchronised>(())
    /// ```
    pub fn wait_synchronised(&self, timeout: Duration, target_bound: Duration) -> Result<Timestamp, NotSynchronised> {
        let target = i64::try_from(target_bound.as_nanos()).unwrap_or(i64::MAX - 1);
        // A timeout beyond what the machine's clock can count is none.
        let deadline = Instant::now().checked_add(timeout);
        loop {
            let now = self.now();
            if now.bound().half_width().as_nanos() <= target {
                return Ok(now);
            }
            let left = deadline.map_or(Duration::MAX, |deadline| deadline.saturating_duration_since(Instant::now()));
            if left.is_zero() {
                return Err(NotSynchronised { last: now });
            }
            thread::sleep(left.min(Duration::from_millis(5)));
        }
    }
}

/// Less is known than was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotSynchronised {
    /// What is known.
    pub last: Timestamp,
}

impl fmt::Display for NotSynchronised {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "not synchronised well enough ({}): see `chronotick status`", self.last.reason())
    }
}

impl std::error::Error for NotSynchronised {}

fn pause(left: Duration) {
    match left.checked_sub(SPIN) {
        Some(sleep) => thread::sleep(sleep.min(LONGEST_SLEEP)),
        None => std::hint::spin_loop(),
    }
}

/// The clocks that [`start`] made, which stay readable for the whole program; a page is only mapped once.
static READERS: [OnceLock<Reader>; 16] = [const { OnceLock::new() }; 16];
/// Which of them is in use, plus one; 0 before the first.
static CURRENT: AtomicUsize = AtomicUsize::new(0);
static STARTED: Mutex<Option<ChronoTick>> = Mutex::new(None);

/// Starts the program's clock: a daemon in this program, or the machine's where one runs. Called again, it changes nothing
/// until [`stop`]. For forecasts it needs what [`Builder::start`] says.
///
/// ```
/// # let here = chronotick_host::doc::offline();
/// # let path = here.config();
/// chronotick_host::start(Some(&path))?;
/// println!("{:?}, {}", chronotick_host::time(), chronotick_host::time_detailed());
/// chronotick_host::stop();
/// # Ok::<(), chronotick_host::Error>(())
/// ```
///
/// # Errors
/// As [`Builder::start`].
pub fn start(config: Option<&Path>) -> Result<(), Error> {
    start_with(config.map_or_else(ChronoTick::builder, |path| ChronoTick::builder().config(path)))
}

/// [`start`] with every choice that a [`Builder`] has.
///
/// # Errors
/// As [`Builder::start`].
///
/// ```
/// # let here = chronotick_host::doc::offline();
/// let builder = chronotick_host::ChronoTick::builder().config(here.config()).cpu_affinity([0]);
/// chronotick_host::start_with(builder)?;
/// chronotick_host::stop();
/// # Ok::<(), chronotick_host::Error>(())
/// ```
pub fn start_with(builder: Builder) -> Result<(), Error> {
    let mut started = STARTED.lock().unwrap_or_else(PoisonError::into_inner);
    if started.is_some() {
        return Ok(());
    }
    let clock = builder.start()?;
    for (index, slot) in READERS.iter().enumerate() {
        if slot.get().is_none() {
            let _ = slot.set(Reader::attach(clock.reader.path())?);
        }
        if slot.get().is_some_and(|reader| reader.path() == clock.reader.path()) {
            CURRENT.store(index + 1, Ordering::Release);
            *started = Some(clock);
            return Ok(());
        }
    }
    Err(Error::from(crate::PageError::TooMany { path: clock.reader.path().to_owned() }))
}

/// Corrected UTC now, in the place of `SystemTime::now()`. Before [`start`] it is the operating system's.
///
/// ```
/// let (before, now) = (std::time::SystemTime::now(), chronotick_host::time());
/// assert!(now >= before, "nothing was started: it is the operating system's");
/// ```
#[inline]
pub fn time() -> SystemTime {
    time_detailed().to_system_time()
}

/// The time now, with its bounds. Before [`start`] it is the operating system's, tier `raw`; after [`stop`] the page goes on
/// being read for what it is worth.
///
/// ```
/// let now = chronotick_host::time_detailed();
/// assert!(now.earliest() <= now.utc() && now.utc() <= now.latest());
/// ```
#[inline]
pub fn time_detailed() -> Timestamp {
    let current = CURRENT.load(Ordering::Acquire);
    match READERS.get(current.wrapping_sub(1)).and_then(OnceLock::get) {
        Some(reader) => reader.now(),
        None => {
            let utc = os_utc();
            Timestamp::new(PageReading::raw(utc, Reason::NeverSynchronised, 0), utc.as_nanos(), 0)
        }
    }
}

/// What the daemon says about itself.
///
/// # Errors
/// `is_not_running` when no daemon answers.
///
/// ```
/// # let here = chronotick_host::doc::offline();
/// chronotick_host::start(Some(&here.config()))?;
/// assert_eq!(chronotick_host::status()?.pid, std::process::id());
/// chronotick_host::stop();
/// # Ok::<(), chronotick_host::Error>(())
/// ```
pub fn status() -> Result<Status, Error> {
    match &*STARTED.lock().unwrap_or_else(PoisonError::into_inner) {
        Some(clock) => clock.status(),
        None => Status::ask(&Config::default().page.path_for_reader()),
    }
}

/// Stops the daemon that [`start`] started in this program, if it did.
///
/// ```
/// chronotick_host::stop();
/// let now = chronotick_host::time_detailed();
/// assert!(!now.bound().is_bounded(), "nothing had been started");
/// ```
pub fn stop() {
    STARTED.lock().unwrap_or_else(PoisonError::into_inner).take();
}

#[cfg(test)]
mod tests {
    use super::*;
    use chronotick_core::Tier;

    #[test]
    fn a_wait_without_end_is_one() {
        let daemon = crate::doc::daemon();
        let now = daemon.clock().wait_synchronised(Duration::MAX, Duration::from_millis(1)).unwrap();
        assert!(now.bound().half_width().as_nanos() <= 1_000_000);
    }

    #[test]
    fn free_functions_before_during_and_after() {
        assert_eq!(time_detailed().tier(), Tier::Raw);
        let folder = std::env::temp_dir().join(format!("chronotick-free-{}", std::process::id()));
        let mut config = Config::default();
        config.ntp.servers.clear();
        config.worker.mode = crate::supervisor::Mode::Off;
        let builder = ChronoTick::builder().config_value(config).page(folder.join("clock"));
        start_with(builder.clone()).unwrap();
        start_with(builder.clone()).unwrap();
        assert!(status().unwrap().pid == std::process::id());
        // A second handle finds the daemon.
        assert!(!builder.start().unwrap().owns_daemon());
        assert!(time() > SystemTime::UNIX_EPOCH + Duration::from_secs(1_600_000_000));
        stop();
        assert!(status().is_err() || status().unwrap().pid != std::process::id());
        assert!(time_detailed().utc().as_nanos() > 1_600_000_000_000_000_000);
        std::fs::remove_dir_all(folder).unwrap();
    }
}
