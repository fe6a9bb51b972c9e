//! The demonstration: the whole path on this machine, with a clock that is wrong on purpose and a truth that is known.
//!
//! ```text
//! truth (this machine's counter) --> NTP server on loopback --UDP--> daemon (in this process) --> page --> reader thread
//!          \--> virtual oscillator: rate, temperature, wander --> local counter --^   ^-> worker process, shipped models
//! ```
//!
//! Only the oscillator and the network's queues are simulated; packets, processes and the page are real. The oscillator's
//! local time L and the truth T obey T = L + x(L), where x is a path of [`crate::sim::oscillator`], drawn beforehand on a grid
//! of `GRID` and straight in between. It is fast so that half a minute has something to show: tens of ppm, with a
//! temperature cycle of `CYCLE` seconds. The models know no seconds, only steps, so their grids are made as much shorter as
//! the oscillator is faster.

use std::f64::consts::TAU;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use chronotick_core::clock_page::CounterScale;
use chronotick_core::units::{Local, Span, Temperature, Timestamp, Utc};
use chronotick_core::{Offset, Tier};
use rand::RngExt;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde::Serialize;

use crate::config::{Config, ServerAddress};
use crate::error::Error;
use crate::ntp::packet::{Leap, NtpShort, NtpTimestamp, Packet, mode};
use crate::os::counter::{CounterKind, LocalClock, SystemCounter};
use crate::os::datagram;
use crate::reader::Reader;
use crate::runner::ntp_source::arrived;
use crate::runner::{Runner, Status, Stop, World};
use crate::sim::oscillator::{Curve, Oscillator, OscillatorParams};
use crate::sim::{Random, stream};

/// Time between two points of the oscillator's path.
const GRID: Span = Span::from_millis(10);
/// Period of the temperature, in s.
const CYCLE: f64 = 30.0;
/// Half its swing, in degrees.
const SWING: f64 = 2.5;
/// Time between two readings.
const READ_EVERY: Duration = Duration::from_millis(1);
/// The oscillator's path goes on for this long after the demonstration should have ended.
const RESERVE: Duration = Duration::from_secs(120);

/// How the demonstration is run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Options {
    /// How long.
    pub duration: Duration,
    /// Draws the oscillator's path.
    pub seed: u64,
}

/// What can be said of the second that has just passed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Second {
    /// Since the start.
    pub elapsed: Duration,
    /// Tier of the newest reading.
    pub tier: Tier,
    /// Its served time less the truth, in us.
    pub error_us: f64,
    /// Half-width of its 95 % interval, in us; infinite when unknown.
    pub interval95_us: f64,
    /// Half-width of its hard bound, in us; infinite when unbounded.
    pub bound_us: f64,
    /// The uncorrected clock less the truth, in us.
    pub raw_error_us: f64,
    /// Temperature of the oscillator, in degrees Celsius.
    pub temperature_c: f64,
    /// Forecasts that entered the estimate so far.
    pub forecasts: u64,
    /// Readings of this second inside their 95 % interval, as a share; NaN when there was none to judge.
    pub coverage95: f64,
}

/// The figures of a whole demonstration, over all readings from the first synchronisation on.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Summary {
    /// How many.
    pub readings: u64,
    /// Root mean square of served time less truth.
    pub rms_error_us: f64,
    /// 99 % quantile of its magnitude.
    pub p99_error_us: f64,
    /// Root mean square of the uncorrected clock less truth.
    pub raw_rms_error_us: f64,
    /// Share of readings inside their 95 % interval.
    pub coverage95: f64,
    /// Readings outside their hard bound.
    pub outside_bound: u64,
    /// Forecasts that passed every check.
    pub forecasts: u64,
    /// Most resident memory of the worker, in MB.
    pub worker_rss_mb: f64,
    /// Tier at the end.
    pub tier: Option<Tier>,
}

/// Runs the demonstration and calls `each` once a second; it ends early when that returns false or `stop` says so.
///
/// # Errors
/// When sockets, threads or the page cannot be had.
pub fn run(options: Options, stop: &Stop, mut each: impl FnMut(&Second) -> bool) -> Result<Summary, Error> {
    let truth = SystemCounter::calibrate();
    let clock = Arc::new(VirtualClock::new(truth, options));
    let folder = Folder::new()?;
    let over = Arc::new(AtomicBool::new(false));
    let server = Server::start(truth, options.seed, Arc::clone(&over))?;
    let config = configuration(folder.path.join("clock"), server.address);
    let thermometer = {
        let clock = Arc::clone(&clock);
        Box::new(move || Some(clock.temperature()))
    };
    let runner = Runner::open(config, World { clock: clock.clone(), thermometer }, stop.clone())?;
    let page = runner.page().to_owned();
    let daemon = spawn("chronotick-daemon", move || runner.run())?;
    let reader = Reader::attach_with(&page, clock.clone())
        .map_err(|cause| Error::system(cause.to_string(), io::Error::other("demonstration")));
    let outcome = reader.map(|reader| {
        let mut judge = Judge::default();
        let started = Instant::now();
        let mut second = 1;
        while started.elapsed() < options.duration && !stop.is_stopped() && !daemon.is_finished() {
            judge.read(&reader, &clock);
            if started.elapsed() >= Duration::from_secs(second) {
                second += 1;
                judge.ask(&page);
                if !each(&judge.second(started.elapsed(), &clock)) {
                    break;
                }
            }
            thread::sleep(READ_EVERY);
        }
        judge.ask(&page);
        judge.summary()
    });
    over.store(true, Ordering::Relaxed);
    stop.stop();
    join(daemon)?;
    join(server.thread)?;
    outcome
}

/// The daemon's configuration: everything as much faster as the oscillator is.
fn configuration(page: PathBuf, server: SocketAddr) -> Config {
    let mut config = Config::default();
    config.ntp.servers = vec![ServerAddress::new(&server.ip().to_string(), server.port()).into()];
    config.ntp.poll_min = Span::from_millis(250);
    config.ntp.poll_max = Span::from_millis(250);
    config.ntp.burst = 8;
    config.ntp.burst_interval = Span::from_millis(100);
    config.ntp.timeout = Span::from_millis(200);
    config.oscillator.max_rate_ppm = 200.0;
    config.oscillator.max_drift_ppm = 10.0;
    config.serve.target_accuracy = Span::from_micros(100);
    config.serve.holdover_after = Span::from_secs(2);
    config.serve.void_after = Span::from_secs(30);
    config.models.step = Span::from_millis(250);
    config.page.path = Some(page);
    config
}

/// A counter with a mind of its own.
struct VirtualClock {
    truth: SystemCounter,
    start: i64,
    /// True reference - local at multiples of `GRID` after the start, in ns.
    path: Vec<f64>,
}

impl VirtualClock {
    fn new(truth: SystemCounter, options: Options) -> Self {
        let step = GRID.as_secs_f64();
        let params = OscillatorParams {
            rate: 40e-6,
            flicker_fm: 5e-9,
            wander: 3e-8,
            curve: Curve { reference: celsius(0.0), linear: 0.4e-6, quadratic: 0.0, cubic: 0.0 },
            ..OscillatorParams::default()
        };
        let mut oscillator = Oscillator::new(params, celsius(0.0), step, stream(options.seed, "demo"));
        let points = (options.duration + RESERVE).as_secs_f64() / step;
        let mut path = vec![0.0];
        let mut time = 0.0;
        while (path.len() as f64) < points {
            time += step;
            oscillator.advance(celsius(time));
            path.push(oscillator.offset() * 1e9);
        }
        Self { start: truth.now().as_nanos(), truth, path }
    }

    /// True reference - local at the local instant `since` ns after the start, in ns.
    fn offset(&self, since: f64) -> f64 {
        let place = (since / GRID.as_nanos() as f64).max(0.0);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "not negative; saturates")]
        let index = (place as usize).min(self.path.len().saturating_sub(2));
        match self.path.get(index..index + 2) {
            Some(&[from, to]) => from + (to - from) * (place - index as f64),
            _ => 0.0,
        }
    }

    /// The truth when this clock read `local`.
    fn truth_at(&self, local: i64) -> i64 {
        local + rounded(self.offset((local - self.start) as f64))
    }

    fn local_at(&self, truth: i64) -> i64 {
        // L = T - x(L): each round shrinks what is left by the rate, some ten thousandfold.
        let since = (truth - self.start) as f64;
        let local = (0..4).fold(since, |local, _| since - self.offset(local));
        self.start + rounded(local)
    }

    /// What a sensor beside the oscillator says: steps of 1/16 degree.
    fn temperature(&self) -> Temperature {
        let time = (self.now().as_nanos() - self.start) as f64 * 1e-9;
        Temperature::new((celsius(time) * 16.0).round() / 16.0)
    }
}

impl LocalClock for VirtualClock {
    fn ticks(&self) -> u64 {
        self.local_at(self.truth.now().as_nanos()).cast_unsigned()
    }
    fn scale(&self) -> CounterScale {
        CounterScale::NANOS
    }
    fn kind(&self) -> CounterKind {
        CounterKind::Virtual
    }
    fn realtime(&self) -> (u64, Timestamp<Utc>) {
        let (ticks, utc) = self.truth.realtime();
        (self.local_at(self.truth.scale().local(ticks).as_nanos()).cast_unsigned(), utc)
    }
}

fn celsius(time: f64) -> f64 {
    30.0 + SWING * (TAU * time / CYCLE).sin()
}

#[expect(clippy::cast_possible_truncation, reason = "float to integer saturates")]
fn rounded(nanos: f64) -> i64 {
    nanos.round() as i64
}

/// Reads the page like any program, and knows better.
#[derive(Default)]
struct Judge {
    errors_us: Vec<f32>,
    squares: f64,
    raw_squares: f64,
    covered: u64,
    outside_bound: u64,
    /// Readings and covered readings up to the last row.
    judged_before: (u64, u64),
    newest: Option<(crate::Timestamp, i64)>,
    forecasts: u64,
    worker_rss_mb: f64,
}

impl Judge {
    fn read(&mut self, reader: &Reader, clock: &VirtualClock) {
        let reading = reader.now();
        let local = reading.raw().as_nanos();
        let truth = clock.truth_at(local);
        self.newest = Some((reading, truth));
        if reading.tier() == Tier::Raw {
            return;
        }
        let error = reading.utc().as_nanos() - truth;
        let raw_error = local - truth;
        let within = |half: Span| error.abs() <= half.as_nanos();
        self.squares += (error as f64).powi(2);
        self.raw_squares += (raw_error as f64).powi(2);
        self.covered += u64::from(within(reading.interval95().half_width()));
        self.outside_bound += u64::from(!within(reading.bound().half_width()));
        #[expect(clippy::cast_possible_truncation, reason = "errors need no more than f32")]
        self.errors_us.push((error.abs() as f64 / 1e3) as f32);
    }

    /// What only the daemon knows.
    fn ask(&mut self, page: &std::path::Path) {
        if let Ok(status) = Status::ask(page) {
            self.forecasts = status.forecasts.accepted;
            let rss = status.worker.get("rss_mb").and_then(serde_json::Value::as_f64);
            self.worker_rss_mb = self.worker_rss_mb.max(rss.unwrap_or(0.0));
        }
    }

    fn second(&mut self, elapsed: Duration, clock: &VirtualClock) -> Second {
        let (readings, covered) = (self.errors_us.len() as u64, self.covered);
        let (readings_before, covered_before) = self.judged_before;
        self.judged_before = (readings, covered);
        let micros = |nanos: i64| nanos as f64 / 1e3;
        let width = |half: Span, known: bool| if known { micros(half.as_nanos()) } else { f64::INFINITY };
        let row = Second {
            elapsed,
            tier: Tier::Raw,
            error_us: f64::NAN,
            interval95_us: f64::INFINITY,
            bound_us: f64::INFINITY,
            raw_error_us: f64::NAN,
            temperature_c: clock.temperature().value(),
            forecasts: self.forecasts,
            coverage95: (covered - covered_before) as f64 / (readings - readings_before) as f64,
        };
        let Some((reading, truth)) = &self.newest else { return row };
        Second {
            tier: reading.tier(),
            error_us: micros(reading.utc().as_nanos() - truth),
            interval95_us: width(reading.interval95().half_width(), reading.interval95().is_known()),
            bound_us: width(reading.bound().half_width(), reading.bound().is_bounded()),
            raw_error_us: micros(reading.raw().as_nanos() - truth),
            ..row
        }
    }

    fn summary(mut self) -> Summary {
        let readings = self.errors_us.len() as u64;
        let count = (readings as f64).max(1.0);
        self.errors_us.sort_unstable_by(f32::total_cmp);
        let rank = (self.errors_us.len() * 99).div_ceil(100).max(1) - 1;
        Summary {
            readings,
            rms_error_us: (self.squares / count).sqrt() / 1e3,
            p99_error_us: self.errors_us.get(rank).copied().map_or(0.0, f64::from),
            raw_rms_error_us: (self.raw_squares / count).sqrt() / 1e3,
            coverage95: self.covered as f64 / count,
            outside_bound: self.outside_bound,
            forecasts: self.forecasts,
            worker_rss_mb: self.worker_rss_mb,
            tier: self.newest.map(|(reading, _)| reading.tier()),
        }
    }
}

/// An NTP server that serves the truth.
struct Server {
    address: SocketAddr,
    thread: JoinHandle<Result<(), Error>>,
}

impl Server {
    fn start(truth: SystemCounter, seed: u64, over: Arc<AtomicBool>) -> Result<Self, Error> {
        let open = || -> io::Result<(UdpSocket, SocketAddr)> {
            let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
            datagram::enable(&socket)?;
            let address = socket.local_addr()?;
            Ok((socket, address))
        };
        let (socket, address) =
            open().map_err(|cause| Error::system("cannot open a UDP socket on 127.0.0.1", cause))?;
        let thread = spawn("chronotick-server", move || {
            let mut buffer = [0; 256];
            let mut lag = SendLag::default();
            let mut path = Path { random: stream(seed, "path") };
            while !over.load(Ordering::Relaxed) {
                let tick = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };
                let _ = poll(&mut [PollFd::new(&socket, PollFlags::IN)], Some(&tick));
                lag.learn(&truth, &socket);
                while let Ok(taken) = datagram::receive(&socket, &mut buffer) {
                    let (received, ..) = arrived(&truth, taken.arrival);
                    let request = Packet::parse(&buffer[..taken.length]).ok().filter(|p| p.mode == mode::CLIENT);
                    if let (Some(request), Some(client)) = (request, taken.sender) {
                        let received = received.saturating_add(path.draw());
                        wait_until(&truth, received);
                        let leaving = truth.now();
                        wait_until(&truth, leaving.saturating_add(path.draw()).saturating_sub(lag.typical));
                        let (ticks, utc) = truth.realtime();
                        lag.newest = Some(Sent { read: truth.now(), ticks, utc });
                        let answer = answer(&request, received, leaving);
                        // A client that has gone loses its answer.
                        let _ = socket.send_to(&answer.encode(), client);
                    }
                }
            }
            Ok(())
        })?;
        Ok(Self { address, thread })
    }
}

/// The way to the server and back: what a switch or two on a busy network add to the loopback's few microseconds. The
/// server holds packets for as long, so that they arrive and leave late like any that were held on the way.
struct Path {
    random: Random,
}

impl Path {
    /// Every packet takes this long, in s.
    const LEAST: f64 = 30e-6;
    /// Mean of the exponential queueing, in s.
    const QUEUE: f64 = 20e-6;

    fn draw(&mut self) -> Span {
        let queue = -Self::QUEUE * (1.0 - self.random.random::<f64>()).ln();
        Span::from_secs_f64(Self::LEAST + queue.min(20.0 * Self::QUEUE))
    }
}

/// Spins, for sleeping is not that exact.
fn wait_until(truth: &SystemCounter, instant: Timestamp<Local>) {
    while truth.now() < instant {
        std::hint::spin_loop();
    }
}

/// How long an answer takes from reading the clock to leaving the machine. Its time has to be written before that is known, so
/// a good server anticipates; otherwise every answer seems to come from the past, and every client is late by half of it.
#[derive(Default)]
struct SendLag {
    typical: Span,
    newest: Option<Sent>,
}

/// An answer on its way.
struct Sent {
    /// When it read the clock.
    read: Timestamp<Local>,
    /// The counter and the operating system's clock, read together just before.
    ticks: u64,
    utc: Timestamp<Utc>,
}

impl SendLag {
    /// The most that is anticipated; the server claims as much as its own error.
    const MOST: Span = Span::from_micros(10);

    /// Looks at what the kernel noted about the newest answer.
    fn learn(&mut self, truth: &SystemCounter, socket: &UdpSocket) {
        let Some((note, newest)) = datagram::departure(socket).zip(self.newest.take()) else { return };
        let left = truth.scale().local(newest.ticks).saturating_add(note.since(newest.utc));
        let lag = left.since(newest.read).as_nanos().clamp(0, Self::MOST.as_nanos());
        // Small steps follow the median, which a few sends that were interrupted do not move.
        let typical = self.typical.as_nanos();
        let step = if typical == 0 { lag } else { ((lag - typical) / 4).clamp(-250, 250) };
        self.typical = Span::from_nanos(typical + step);
    }
}

/// The truth's local time is UTC by definition.
fn answer(request: &Packet, received: Timestamp<Local>, now: Timestamp<Local>) -> Packet {
    let time = |instant: Timestamp<Local>| NtpTimestamp::from_utc(instant.to_utc(Offset::ZERO));
    Packet {
        leap: Leap::None,
        version: 4,
        mode: mode::SERVER,
        stratum: 1,
        poll: request.poll,
        precision: -24,
        root_delay: NtpShort(0),
        root_dispersion: NtpShort::from_span(SendLag::MOST),
        reference_id: *b"DEMO",
        reference: time(now),
        origin: request.transmit,
        receive: time(received),
        transmit: time(now),
    }
}

/// A folder for the page that goes when the demonstration does.
struct Folder {
    path: PathBuf,
}

impl Folder {
    fn new() -> Result<Self, Error> {
        let path = std::env::temp_dir().join(format!("chronotick-demo-{}", std::process::id()));
        std::fs::create_dir_all(&path)
            .map_err(|cause| Error::system(format!("cannot create {}", path.display()), cause))?;
        Ok(Self { path })
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What cannot be removed stays in the temporary folder.
        let _ = std::fs::remove_dir_all(&self.path);
    }
}

fn spawn(
    name: &str,
    body: impl FnOnce() -> Result<(), Error> + Send + 'static,
) -> Result<JoinHandle<Result<(), Error>>, Error> {
    thread::Builder::new()
        .name(name.to_owned())
        .spawn(body)
        .map_err(|cause| Error::system("cannot start a thread", cause))
}

fn join(thread: JoinHandle<Result<(), Error>>) -> Result<(), Error> {
    thread
        .join()
        .unwrap_or_else(|_| Err(Error::system("the demonstration failed", io::Error::other("a thread panicked"))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn local_time_and_truth_are_each_others_inverse() {
        let truth = SystemCounter::with_scale(CounterKind::MonotonicRaw, CounterScale::NANOS);
        let clock = VirtualClock::new(truth, Options { duration: Duration::from_secs(30), seed: 1 });
        let mut before = i64::MIN;
        for step in 0..20_000 {
            let instant = clock.start + step * 1_523_711;
            let local = clock.local_at(instant);
            assert!(local > before, "the virtual counter went backwards");
            before = local;
            assert!((clock.truth_at(local) - instant).abs() <= 1);
        }
        let drifted = clock.truth_at(clock.start + 30_000_000_000) - clock.start - 30_000_000_000;
        assert!((drifted - 1_200_000).abs() < 300_000, "{drifted} ns in 30 s");
    }

    #[test]
    fn a_judge_counts_what_it_saw() {
        let judge = Judge {
            errors_us: vec![3.0, 1.0, 2.0, 4.0],
            squares: 30e6,
            raw_squares: 400e6,
            covered: 3,
            outside_bound: 1,
            ..Judge::default()
        };
        let summary = judge.summary();
        assert_eq!((summary.readings, summary.outside_bound, summary.coverage95), (4, 1, 0.75));
        assert_eq!((summary.p99_error_us, summary.raw_rms_error_us), (4.0, 10.0));
    }
}
