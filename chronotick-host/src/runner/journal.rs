//! What happened lately, for those who look: every exchange with its residual, what was served, tiers and disruptions.
//!
//! The journal is kept in memory and offered on a Unix socket beside the page. Whoever connects to `journal.sock` is sent one
//! JSON object a line: first who writes, then what is remembered, then [`Event::CaughtUp`], then each event as it happens.
//! Watching and recording are built on it. The daemon waits for no subscriber: one that does not read is let go.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use chronotick_core::{Estimate, Sample, Tier};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::sockopt::socket_peercred;
use rustix::process::Uid;
use serde::{Deserialize, Serialize};

use super::socket::{PageSocket, connect, foreign};
use super::status::refuse_another;
pub use super::thinned::Thinned;
use crate::error::{Error, Kind};

/// Exchanges that are remembered.
const EXCHANGES: usize = 1024;
/// Points of the served clock that are remembered; the older the daemon, the further apart.
const POINTS: usize = 720;
/// Tier changes and disruptions that are remembered.
const CHANGES: usize = 128;
/// A point is kept this often at most.
const POINT_EVERY: Duration = Duration::from_millis(950);
/// Most subscribers at a time, and of one user: nobody keeps the others away.
const MOST_SUBSCRIBERS: usize = 16;
const MOST_OF_ONE_USER: usize = 6;
/// Whoever connects without end does not keep the loop from turning: most that are let in a turn, and of those that are told what
/// is remembered, which takes milliseconds each.
const ENTRIES_A_TURN: usize = 16;
const BACKLOGS_A_TURN: usize = 2;
/// A subscriber that is this far behind, in bytes, is let go. What is remembered takes about half of it.
const MOST_BEHIND: usize = 1 << 20;

/// One line of the journal. Instants are given on both timescales, in ns.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// The first line: whose journal it is.
    Daemon(Writer),
    /// An exchange with a time server.
    Exchange(Exchange),
    /// What readers were told, about once a second.
    Served(Served),
    /// The tier of the served clock changed.
    Tier(TierChange),
    /// The counter was disturbed: local instants before and after do not belong together.
    Disruption(Disrupted),
    /// What follows happens now.
    CaughtUp,
}

/// The daemon behind a journal. Another one may count local time differently.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Writer {
    /// Its process.
    pub pid: u32,
    /// Its version.
    pub version: String,
    /// What it counts local time with.
    pub counter: String,
    /// When it started, by its local time.
    pub started_local_ns: i64,
}

/// One exchange, as the sources measured it, beside what was believed just before it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Exchange {
    /// Middle of the exchange, by the local counter.
    pub local_ns: i64,
    /// The same instant as the exchange itself tells it: local plus offset.
    pub utc_ns: i64,
    /// Measured reference - local.
    pub offset_ns: i64,
    /// Round-trip delay.
    pub delay_ns: i64,
    /// The server's own error budget.
    pub root_distance_ns: i64,
    /// Temperature near the oscillator, in degrees Celsius.
    pub temperature_c: Option<f64>,
    /// The source's name.
    pub source: String,
    /// Measured offset less the one predicted for this instant before the exchange was known; `null` before the first.
    pub residual_ns: Option<i64>,
    /// Half-width of that prediction's 95 % interval.
    pub interval95_ns: Option<i64>,
    /// Half-width of its hard bound.
    pub bound_ns: Option<i64>,
    /// Why it was not used, if it was not.
    pub refused: Option<String>,
}

impl Exchange {
    /// `sample` of the source called `source`, what was `predicted` for its instant, and why it was `refused`.
    pub fn new(sample: &Sample, source: &str, predicted: Option<&Estimate>, refused: Option<String>) -> Self {
        Self {
            local_ns: sample.local.as_nanos(),
            utc_ns: sample.local.to_utc(sample.offset).as_nanos(),
            offset_ns: sample.offset.as_nanos(),
            delay_ns: sample.delay.as_nanos(),
            root_distance_ns: sample.root_distance.as_nanos(),
            temperature_c: sample.temperature.map(|t| t.value()),
            source: source.to_owned(),
            residual_ns: predicted.map(|p| sample.offset.since(p.offset).as_nanos()),
            interval95_ns: predicted.filter(|p| p.interval.is_known()).map(|p| p.interval.half_width().as_nanos()),
            bound_ns: predicted.filter(|p| p.bound.is_bounded()).map(|p| p.bound.half_width().as_nanos()),
            refused,
        }
    }
}

/// What readers were told at one instant.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Served {
    /// The instant, by the local counter.
    pub local_ns: i64,
    /// The instant as it was served.
    pub utc_ns: i64,
    /// Served offset; `null` in tier raw, as the two widths.
    pub offset_ns: Option<i64>,
    /// Half-width of the 95 % interval.
    pub interval95_ns: Option<i64>,
    /// Half-width of the hard bound.
    pub bound_ns: Option<i64>,
    /// Estimated rate of the oscillator.
    pub rate_ppm: f64,
    /// Temperature at the last exchange, in degrees Celsius.
    pub temperature_c: Option<f64>,
    /// Who answered.
    pub tier: Tier,
}

/// A change of tier.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TierChange {
    /// When, by the local counter.
    pub local_ns: i64,
    /// When, as served.
    pub utc_ns: i64,
    /// The tier before.
    pub from: Tier,
    /// The tier since.
    pub to: Tier,
    /// Why.
    pub reason: String,
}

/// A disturbance of the local counter.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Disrupted {
    /// When it was noticed, by the local counter.
    pub local_ns: i64,
    /// When it was noticed, by the operating system's clock.
    pub utc_ns: i64,
    /// What happened.
    pub what: String,
}

/// The daemon's journal.
pub(super) struct Journal {
    writer: Event,
    exchanges: VecDeque<(u64, Event)>,
    points: Thinned<(u64, Event)>,
    changes: VecDeque<(u64, Event)>,
    count: u64,
    pointed: Option<Instant>,
    socket: Option<PageSocket>,
    subscribers: Vec<Subscriber>,
}

struct Subscriber {
    stream: UnixStream,
    user: Uid,
    pending: Vec<u8>,
}

impl Journal {
    /// A journal beside `page`, whose lock the caller holds. Without a socket it is kept all the same.
    pub(super) fn open(page: &Path, writer: Writer) -> Self {
        Self {
            writer: Event::Daemon(writer),
            exchanges: VecDeque::new(),
            points: Thinned::new(POINTS),
            changes: VecDeque::new(),
            count: 0,
            pointed: None,
            socket: listen(page),
            subscribers: Vec::new(),
        }
    }

    /// The socket beside `page` lay in a folder that is gone.
    pub(super) fn listen_again(&mut self, page: &Path) {
        // First, because it takes the file at its path with it.
        self.socket = None;
        self.socket = listen(page);
    }

    /// Whether it is time for a point of the served clock.
    pub(super) fn wants_point(&self) -> bool {
        self.pointed.is_none_or(|pointed| pointed.elapsed() >= POINT_EVERY)
    }

    /// Writes `event` down and sends it to all subscribers.
    pub(super) fn push(&mut self, event: Event) {
        self.count += 1;
        let (list, capacity) = match &event {
            Event::Served(_) => {
                self.pointed = Some(Instant::now());
                self.send(&event);
                self.points.push((self.count, event));
                return;
            }
            Event::Exchange(_) => (&mut self.exchanges, EXCHANGES),
            _ => (&mut self.changes, CHANGES),
        };
        if list.len() >= capacity {
            list.pop_front();
        }
        list.push_back((self.count, event.clone()));
        self.send(&event);
    }

    /// Takes in a few new subscribers and sends what is still to be sent. Those who still wait outside wake the loop again.
    pub(super) fn serve(&mut self, now: Instant) {
        let mut backlogs = 0;
        for _ in 0..ENTRIES_A_TURN {
            let Some(stream) = self.socket.as_ref().and_then(|socket| socket.accept(now)) else { break };
            let Ok(user) = socket_peercred(&stream).map(|peer| peer.uid) else { continue };
            let of_the_user = self.subscribers.iter().filter(|subscriber| subscriber.user == user).count();
            if self.subscribers.len() < MOST_SUBSCRIBERS && of_the_user < MOST_OF_ONE_USER {
                let pending = self.remembered();
                self.subscribers.push(Subscriber { stream, user, pending });
                backlogs += 1;
            }
            if backlogs == BACKLOGS_A_TURN {
                break;
            }
        }
        self.subscribers.retain_mut(Subscriber::flush);
    }

    /// What the runner waits for on the journal's behalf.
    pub(super) fn fds(&self, now: Instant) -> impl Iterator<Item = PollFd<'_>> {
        let listener = self.socket.as_ref().and_then(|socket| socket.fd(now));
        let listener = listener.into_iter().map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN));
        let busy = self.subscribers.iter().filter(|subscriber| !subscriber.pending.is_empty());
        listener.chain(busy.map(|subscriber| PollFd::new(&subscriber.stream, PollFlags::OUT)))
    }

    fn send(&mut self, event: &Event) {
        if self.subscribers.is_empty() {
            return;
        }
        let text = line(event);
        self.subscribers.retain_mut(|subscriber| {
            subscriber.pending.extend_from_slice(&text);
            subscriber.flush()
        });
    }

    /// Everything that is remembered, in the order in which it happened.
    fn remembered(&self) -> Vec<u8> {
        let mut all: Vec<&(u64, Event)> =
            self.exchanges.iter().chain(&self.changes).chain(self.points.items()).collect();
        all.sort_unstable_by_key(|(count, _)| *count);
        let events = [&self.writer].into_iter().chain(all.into_iter().map(|(_, event)| event));
        events.chain([&Event::CaughtUp]).flat_map(line).collect()
    }
}

impl Subscriber {
    /// Sends what the socket takes. Returns false when the subscriber is gone or too far behind.
    fn flush(&mut self) -> bool {
        let mut sent = 0;
        let alive = loop {
            if sent == self.pending.len() {
                break true;
            }
            match (&self.stream).write(&self.pending[sent..]) {
                Ok(0) => break false,
                Ok(count) => sent += count,
                Err(cause) if cause.kind() == io::ErrorKind::WouldBlock => break true,
                Err(cause) if cause.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => break false,
            }
        };
        self.pending.drain(..sent);
        alive && self.pending.len() <= MOST_BEHIND
    }
}

/// A reader of a daemon's journal.
#[derive(Debug)]
pub struct Subscription {
    stream: UnixStream,
    path: PathBuf,
    buffer: Vec<u8>,
}

impl Subscription {
    /// Subscribes to the daemon that owns the page at `page`.
    ///
    /// # Errors
    /// `is_not_running` when no daemon listens there, or one with another page in the same folder.
    pub fn open(page: &Path) -> Result<Self, Error> {
        let path = socket_path(page);
        let stream = connect(&path)?;
        refuse_another(page)?;
        stream.set_nonblocking(true).map_err(|cause| Error::system("cannot read a socket", cause))?;
        Ok(Self { stream, path, buffer: Vec::new() })
    }

    /// The events that have arrived, oldest first; waits for `patience` at most when there is none.
    ///
    /// # Errors
    /// `is_not_running` when the daemon has closed its journal, `is_incompatible` when it writes something else.
    pub fn wait(&mut self, patience: Duration) -> Result<Vec<Event>, Error> {
        let mut events = self.arrived()?;
        if events.is_empty() && !patience.is_zero() {
            let timeout = Timespec {
                tv_sec: i64::try_from(patience.as_secs()).unwrap_or(3600),
                tv_nsec: i64::from(patience.subsec_nanos()),
            };
            // Interrupted by a signal: the caller looks at its flags.
            let _ = poll(&mut [PollFd::from_borrowed_fd(self.fd(), PollFlags::IN)], Some(&timeout));
            events = self.arrived()?;
        }
        Ok(events)
    }

    /// Readable when there is something to read.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }

    fn arrived(&mut self) -> Result<Vec<Event>, Error> {
        let mut chunk = [0; 16_384];
        let ended = loop {
            match self.stream.read(&mut chunk) {
                Ok(0) => break true,
                Ok(count) => self.buffer.extend_from_slice(&chunk[..count]),
                Err(cause) if cause.kind() == io::ErrorKind::WouldBlock => break false,
                Err(cause) if cause.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => break true,
            }
        };
        let whole = self.buffer.iter().rposition(|&byte| byte == b'\n').map_or(0, |end| end + 1);
        let mut events = Vec::new();
        for text in self.buffer[..whole].split(|&byte| byte == b'\n').filter(|text| !text.is_empty()) {
            events.push(serde_json::from_slice(text).map_err(|cause| foreign(&self.path, cause))?);
        }
        self.buffer.drain(..whole);
        if ended && events.is_empty() {
            let told = format!("the daemon at {} has stopped: start it with `chronotick run`", self.path.display());
            return Err(Error::new(Kind::NotRunning, told));
        }
        Ok(events)
    }
}

fn listen(page: &Path) -> Option<PageSocket> {
    PageSocket::open(socket_path(page))
        .inspect_err(|cause| tracing::warn!(%cause, "`chronotick watch` and `record` will not work: no socket"))
        .ok()
}

/// The socket of the journal that belongs to a page.
pub fn socket_path(page: &Path) -> PathBuf {
    page.with_file_name("journal.sock")
}

fn line(event: &Event) -> Vec<u8> {
    // Structures of numbers and text always have a JSON form.
    let mut text = serde_json::to_vec(event).unwrap_or_default();
    text.push(b'\n');
    text
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn exchange(local_ns: i64) -> Event {
        Event::Exchange(Exchange {
            local_ns,
            utc_ns: local_ns + 5,
            offset_ns: 5,
            delay_ns: 6,
            root_distance_ns: 7,
            temperature_c: Some(21.5),
            source: "a".to_owned(),
            residual_ns: None,
            interval95_ns: Some(8),
            bound_ns: None,
            refused: None,
        })
    }

    fn journal(name: &str) -> (Journal, PathBuf) {
        let folder = std::env::temp_dir().join(format!("chronotick-journal-{name}-{}", std::process::id()));
        fs::create_dir_all(&folder).expect("temporary folder");
        let page = folder.join("clock");
        let writer = Writer { pid: 1, version: "0".to_owned(), counter: "Virtual".to_owned(), started_local_ns: 3 };
        (Journal::open(&page, writer), page)
    }

    #[test]
    fn a_subscriber_gets_the_past_in_order_and_then_the_present() {
        let (mut journal, page) = journal("order");
        journal.push(exchange(1));
        let change = TierChange { local_ns: 2, utc_ns: 2, from: Tier::Raw, to: Tier::Filter, reason: String::new() };
        journal.push(Event::Tier(change.clone()));
        journal.push(exchange(3));
        let mut reader = Subscription::open(&page).expect("it listens");
        journal.serve(Instant::now());
        journal.push(exchange(4));
        let events = reader.wait(Duration::ZERO).expect("lines");
        assert!(matches!(events[0], Event::Daemon(_)));
        assert_eq!(events[1..], [exchange(1), Event::Tier(change), exchange(3), Event::CaughtUp, exchange(4)]);
        drop(journal);
        assert!(reader.wait(Duration::ZERO).expect_err("it is closed").is_not_running());
        fs::remove_dir_all(page.parent().expect("a folder")).expect("temporary folder");
    }

    #[test]
    fn one_user_leaves_places_to_the_others() {
        let (mut journal, page) = journal("places");
        let asked: Vec<_> = (0..10).map(|_| Subscription::open(&page).expect("it listens")).collect();
        (0..10).for_each(|_| journal.serve(Instant::now()));
        assert_eq!(journal.subscribers.len(), MOST_OF_ONE_USER);
        drop(asked);
        fs::remove_dir_all(page.parent().expect("a folder")).expect("temporary folder");
    }

    #[test]
    fn a_folder_that_was_removed_has_its_socket_again() {
        let (mut journal, page) = journal("again");
        let folder = page.parent().expect("a folder");
        fs::remove_dir_all(folder).expect("temporary folder");
        fs::create_dir(folder).expect("temporary folder");
        assert!(Subscription::open(&page).is_err());
        journal.listen_again(&page);
        assert!(Subscription::open(&page).is_ok());
        fs::remove_dir_all(folder).expect("temporary folder");
    }

    #[test]
    fn a_turn_lets_few_in_however_many_connect() {
        let (mut journal, page) = journal("storm");
        let now = Instant::now();
        let mut asked: Vec<_> = (0..10).map(|_| Subscription::open(&page).expect("it listens")).collect();
        journal.serve(now);
        assert_eq!(journal.subscribers.len(), BACKLOGS_A_TURN);
        (0..10).for_each(|_| journal.serve(now));
        assert_eq!(journal.subscribers.len(), MOST_OF_ONE_USER);
        // There is no place for these, so nothing is told to them, but turning them away takes time too.
        asked.extend((0..50).map(|_| Subscription::open(&page).expect("it listens")));
        journal.serve(now);
        let outside = std::iter::from_fn(|| journal.socket.as_ref()?.accept(now)).count();
        assert_eq!(outside, 50 - ENTRIES_A_TURN);
        drop(asked);
        fs::remove_dir_all(page.parent().expect("a folder")).expect("temporary folder");
    }

    #[test]
    fn one_who_does_not_read_is_let_go_and_the_others_are_not() {
        let (mut journal, page) = journal("slow");
        let slow = Subscription::open(&page).expect("it listens");
        let mut quick = Subscription::open(&page).expect("it listens");
        journal.serve(Instant::now());
        let mut seen = 0;
        // Some 200 bytes each: more than the socket and the patience hold.
        for number in 0..40_000 {
            journal.push(exchange(number));
            if number % 100 == 0 {
                journal.serve(Instant::now());
                seen += quick.wait(Duration::ZERO).expect("lines").len();
            }
        }
        assert_eq!(journal.subscribers.len(), 1);
        assert!(seen > 39_000, "{seen}");
        assert_eq!(journal.exchanges.len(), EXCHANGES);
        drop(slow);
        fs::remove_dir_all(page.parent().expect("a folder")).expect("temporary folder");
    }
}
