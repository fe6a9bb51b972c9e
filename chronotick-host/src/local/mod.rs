//! References on this machine: hardware clocks, a pulse per second, the kernel's own clock, a chronyd beside it.
//!
//! Each is a `Reference`; `LocalSource` puts the schedule, the counts and the words for people around any of them, so that
//! the runner sees one more [`Source`]. Whatever a reference is read against (usually `CLOCK_REALTIME`), the sample is against
//! the local counter: `Bracket` carries it over, and throws a reading away during which somebody set the system's clock.
//!
//! A reference that is missing is said so once, in one line, and tried again every `RETRY`.

mod address;
mod auto;
pub mod candm;
mod chronyd;
mod kernel;
mod pps;
mod ptp;

use std::os::fd::BorrowedFd;

use chronotick_core::units::{Local, Offset, Span, Timestamp, Utc};
use chronotick_core::{Sample, SourceId};

pub use self::address::{ChronydAddress, LocalAddress};
use crate::ntp::client::Counts;
use crate::ntp::packet::Leap;
use crate::os::counter::LocalClock;
use crate::runner::source::{Known, Source};
use crate::runner::status::SourceStatus;

/// A reference that is missing or useless is looked at again after this.
const RETRY: Span = Span::from_secs(30);
/// An answer that takes longer is lost.
const TIMEOUT: Span = Span::from_secs(1);
/// The first measurements are a second apart.
const BURST: u64 = 8;
const BURST_INTERVAL: Span = Span::from_secs(1);
/// How far the two readings of a pair may be apart.
const PAIR: Span = Span::from_nanos(100);
/// The system's clock is slewed by less than this part of the time.
const SLEW: i64 = 1_000;

/// What the configuration says of local sources.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Settings {
    /// How often to look.
    pub poll: Span,
    /// What a hardware clock is trusted to.
    pub ptp_error: Span,
    /// TAI - UTC where the kernel does not know it.
    pub tai_offset: Span,
    /// What a pulse is trusted to.
    pub pps_error: Span,
}

/// Something on this machine that knows the time, or a part of it.
pub(crate) trait Reference: Send {
    /// "ptp", "pps", "kernel" or "chronyd".
    fn kind(&self) -> &'static str;
    /// What exactly is being read, for people.
    fn address(&self) -> Option<String>;
    /// Reads it, or asks for it to be read. Must not wait.
    fn ask(&mut self, clock: &dyn LocalClock, known: Option<&Known>) -> Result<Answer, Trouble>;
    /// What was asked for may have arrived.
    fn hear(&mut self, _clock: &dyn LocalClock) -> Result<Answer, Trouble> {
        Ok(Answer::Awaited)
    }
    /// What to wait for after [`Answer::Awaited`].
    fn fd(&self) -> Option<BorrowedFd<'_>> {
        None
    }
    /// The best instant at or after `due` to ask.
    fn best_time(&self, due: Timestamp<Local>) -> Timestamp<Local> {
        due
    }
    /// Forgets what was read before a break in the counter.
    fn restart(&mut self) {}
}

/// What became of a question.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Answer {
    /// A measurement.
    Measured(Measured),
    /// Nothing to measure yet: ask again at the next [`Reference::best_time`].
    NotYet,
    /// Asked; [`Reference::hear`] will tell.
    Awaited,
}

/// What a reference said.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Measured {
    /// Counter reading at the middle of the measurement.
    pub(crate) local: Timestamp<Local>,
    /// reference - local there.
    pub(crate) offset: Offset,
    /// How long the measurement took: it is wrong by at most half of that, plus the root distance.
    pub(crate) delay: Span,
    /// The reference's own error budget.
    pub(crate) root_distance: Span,
    /// Its leap announcement, if it knows of leap seconds.
    pub(crate) leap: Option<Leap>,
    /// Its stratum, if it has one.
    pub(crate) stratum: Option<u8>,
}

impl Measured {
    /// How far it can be from the truth if the reference keeps to its budget.
    fn error_bound(&self) -> Span {
        Span::from_nanos(self.delay.as_nanos() / 2 + 1).saturating_add(self.root_distance)
    }
}

/// Why there is no measurement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// It cannot be read at all: not there, not allowed.
    Missing(String),
    /// It can be read and is of no use: not synchronised, silent.
    Useless(String),
    /// This one reading went wrong.
    Spoilt(String),
}

impl Trouble {
    fn text(&self) -> &str {
        match self {
            Self::Missing(text) | Self::Useless(text) | Self::Spoilt(text) => text,
        }
    }
}

/// The reference that `address` names.
pub(crate) fn reference(address: &LocalAddress, settings: &Settings) -> Box<dyn Reference> {
    match address {
        LocalAddress::Ptp { path, tai } => Box::new(ptp::Ptp::new(path.clone(), *tai, settings)),
        LocalAddress::Pps(path) => Box::new(pps::Pps::new(path.clone(), settings.pps_error)),
        LocalAddress::Kernel => Box::new(kernel::Kernel::new()),
        LocalAddress::Chronyd(address) => Box::new(chronyd::Chronyd::new(address.clone())),
        LocalAddress::Auto => Box::new(auto::Auto::of_this_machine(settings)),
    }
}

/// The schedule and the counts around a reference.
pub(crate) struct LocalSource {
    id: SourceId,
    name: String,
    reference: Box<dyn Reference>,
    poll: Span,
    due: Option<Timestamp<Local>>,
    /// An answer is awaited until this instant.
    awaited: Option<Timestamp<Local>>,
    last: Option<Measured>,
    trouble: Option<Trouble>,
    known: Option<Known>,
    counts: Counts,
    /// As in RFC 5905: the newest question in the lowest bit.
    reach: u8,
}

impl LocalSource {
    /// A source that starts with its first [`Source::drive`].
    pub(crate) fn new(id: SourceId, address: &LocalAddress, settings: &Settings) -> Self {
        Self::around(id, address.to_string(), reference(address, settings), settings.poll)
    }

    fn around(id: SourceId, name: String, reference: Box<dyn Reference>, poll: Span) -> Self {
        Self {
            id,
            name,
            reference,
            poll,
            due: None,
            awaited: None,
            last: None,
            trouble: None,
            known: None,
            counts: Counts::default(),
            reach: 0,
        }
    }

    fn interval(&self) -> Span {
        if self.counts.accepted < BURST { self.poll.min(BURST_INTERVAL) } else { self.poll }
    }

    /// Takes in what became of a question that was put or answered at `now`.
    fn settle(&mut self, outcome: Result<Answer, Trouble>, now: Timestamp<Local>) -> Option<Sample> {
        match outcome {
            Ok(Answer::Awaited) => None,
            Ok(Answer::NotYet) => {
                self.awaited = None;
                // Not before the next turn, or the loop would never sleep.
                let soonest = now.saturating_add(Span::from_millis(1));
                self.due = Some(self.reference.best_time(soonest).max(soonest));
                None
            }
            Ok(Answer::Measured(measured)) => {
                self.awaited = None;
                self.counts.accepted += 1;
                self.reach = self.reach << 1 | 1;
                if self.trouble.take().is_some() {
                    tracing::info!(source = self.name, "answers");
                }
                let due = measured.local.saturating_add(self.interval()).max(now);
                self.due = Some(self.reference.best_time(due));
                let Measured { local, offset, delay, root_distance, .. } = measured;
                self.last = Some(measured);
                Some(Sample { local, offset, delay, root_distance, temperature: None, source: self.id })
            }
            Err(trouble) => {
                let wait = if matches!(trouble, Trouble::Spoilt(_)) { self.interval() } else { self.poll.max(RETRY) };
                self.reach <<= 1;
                self.complain(trouble);
                self.awaited = None;
                self.due = Some(self.reference.best_time(now.saturating_add(wait)));
                None
            }
        }
    }

    /// Says once what is the matter.
    fn complain(&mut self, trouble: Trouble) {
        self.counts.refused += 1;
        if self.trouble.as_ref() != Some(&trouble) {
            match &trouble {
                Trouble::Spoilt(reason) => tracing::debug!(source = self.name, reason),
                Trouble::Missing(reason) | Trouble::Useless(reason) => {
                    tracing::warn!(source = self.name, "{reason}; looked at again every {} s", RETRY.as_secs_f64());
                }
            }
        }
        self.trouble = Some(trouble);
    }
}

impl Source for LocalSource {
    fn name(&self) -> &str {
        &self.name
    }

    fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.awaited.and_then(|_| self.reference.fd())
    }

    fn poll_timeout(&self, now: Timestamp<Local>) -> Option<Timestamp<Local>> {
        Some(self.awaited.or(self.due).unwrap_or(now))
    }

    fn drive(&mut self, clock: &dyn LocalClock) -> Option<Sample> {
        if let Some(until) = self.awaited {
            let outcome = self.reference.hear(clock);
            let now = clock.now();
            if outcome == Ok(Answer::Awaited) && now >= until {
                self.counts.lost += 1;
                let silent = Trouble::Useless("no answer".to_owned());
                return self.settle(Err(silent), now);
            }
            return self.settle(outcome, now);
        }
        let now = clock.now();
        if self.due.is_some_and(|due| now < due) {
            return None;
        }
        self.counts.requests += 1;
        let outcome = self.reference.ask(clock, self.known.as_ref());
        if outcome == Ok(Answer::Awaited) {
            self.awaited = Some(now.saturating_add(TIMEOUT));
        }
        self.settle(outcome, clock.now())
    }

    fn set_room(&mut self, _room: Span) {}

    fn needs_known(&self) -> bool {
        self.reference.kind() == "pps"
    }

    fn set_known(&mut self, known: Option<Known>) {
        self.known = known;
    }

    fn leap(&self) -> Option<Leap> {
        self.last.as_ref().and_then(|last| last.leap)
    }

    fn restart(&mut self) {
        self.reference.restart();
        (self.due, self.awaited, self.last, self.known) = (None, None, None, None);
    }

    fn status(&self, now: Timestamp<Local>) -> SourceStatus {
        let last = self.last.as_ref();
        let state = match &self.trouble {
            Some(Trouble::Missing(_)) => "unavailable",
            Some(Trouble::Useless(_)) => "unreachable",
            _ if last.is_some() => "reachable",
            _ => "waiting",
        };
        SourceStatus {
            name: self.name.clone(),
            kind: self.reference.kind().to_owned(),
            state: state.to_owned(),
            verdict: None,
            reason: self.trouble.as_ref().map(|trouble| trouble.text().to_owned()),
            address: self.reference.address(),
            stratum: last.and_then(|l| l.stratum),
            leap: last.and_then(|l| l.leap).map(|leap| leap.as_str().to_owned()),
            offset_ns: last.map(|l| l.offset.as_nanos()),
            delay_ns: last.map(|l| l.delay.as_nanos()),
            root_distance_ns: last.map(|l| l.root_distance.as_nanos()),
            reach: self.reach,
            age_s: last.map(|l| now.since(l.local).as_secs_f64()),
            poll_s: self.interval().as_secs_f64(),
            counts: self.counts,
            ..SourceStatus::default()
        }
    }
}

/// Two pairs of readings of the counter and of `CLOCK_REALTIME`, around a reading of something else against the latter.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bracket {
    before: Pair,
    after: Pair,
}

impl Bracket {
    /// Reads a pair, does `what`, reads another.
    pub(crate) fn around<T>(clock: &dyn LocalClock, what: impl FnOnce() -> T) -> (Self, T) {
        let before = pair(clock);
        let result = what();
        (Self { before, after: pair(clock) }, result)
    }

    /// The counter when `CLOCK_REALTIME` read `system` in between, and how far off that can be. An error if somebody set the
    /// system's clock meanwhile: the reading is then worth nothing, and the next one is not concerned.
    pub(crate) fn local(&self, system: Timestamp<Utc>) -> Result<(Timestamp<Local>, Span), Trouble> {
        let counted = self.after.0.since(self.before.0);
        let clocked = self.after.1.since(self.before.1);
        let slack = Span::from_nanos(counted.as_nanos() / SLEW).saturating_add(PAIR).saturating_add(PAIR);
        let inside = system >= self.before.1.saturating_sub(PAIR) && system <= self.after.1.saturating_add(PAIR);
        if !inside || clocked.saturating_sub(counted).abs() > slack {
            return Err(Trouble::Spoilt("the system's clock was set while it was read".to_owned()));
        }
        Ok((self.before.0.saturating_add(system.since(self.before.1)), slack))
    }
}

/// The counter and `CLOCK_REALTIME` at one instant.
type Pair = (Timestamp<Local>, Timestamp<Utc>);

fn pair(clock: &dyn LocalClock) -> Pair {
    let (ticks, utc) = clock.realtime();
    (clock.scale().local(ticks), utc)
}

#[cfg(test)]
pub(crate) mod fake;

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::fake::Clock;
    use super::*;

    /// Says what the test told it to say.
    struct Scripted(Arc<Mutex<Vec<Result<Answer, Trouble>>>>);

    impl Reference for Scripted {
        fn kind(&self) -> &'static str {
            "kernel"
        }
        fn address(&self) -> Option<String> {
            None
        }
        fn ask(&mut self, _: &dyn LocalClock, _: Option<&Known>) -> Result<Answer, Trouble> {
            self.0.lock().expect("one thread").remove(0)
        }
        fn hear(&mut self, _: &dyn LocalClock) -> Result<Answer, Trouble> {
            self.0.lock().expect("one thread").remove(0)
        }
    }

    fn measured(clock: &Clock) -> Measured {
        let local = clock.now();
        let (delay, root_distance) = (Span::from_nanos(100), Span::from_micros(1));
        Measured { local, offset: Offset::from_nanos(7), delay, root_distance, leap: Some(Leap::None), stratum: None }
    }

    fn source(script: Vec<Result<Answer, Trouble>>) -> LocalSource {
        let reference = Box::new(Scripted(Arc::new(Mutex::new(script))));
        LocalSource::around(SourceId(3), "kernel".to_owned(), reference, Span::from_secs(4))
    }

    #[test]
    fn a_missing_reference_is_tried_again_now_and_then() {
        let clock = Clock::new();
        let missing = Err(Trouble::Missing("cannot open /dev/ptp0".to_owned()));
        let mut source = source(vec![missing.clone(), missing, Ok(Answer::Measured(measured(&clock)))]);
        assert_eq!(source.drive(&clock), None);
        let status = source.status(clock.now());
        assert_eq!((status.state.as_str(), status.reason.as_deref()), ("unavailable", Some("cannot open /dev/ptp0")));
        let due = source.poll_timeout(clock.now()).expect("tried again");
        assert_eq!(due.since(clock.now()), RETRY);
        clock.pass(Span::from_secs(29));
        assert_eq!(source.drive(&clock), None);
        assert_eq!(source.counts.requests, 1, "not before its time");
        clock.pass(Span::from_secs(1));
        assert_eq!(source.drive(&clock), None);
        clock.pass(RETRY);
        let sample = source.drive(&clock).expect("there now");
        assert_eq!((sample.source, sample.offset), (SourceId(3), Offset::from_nanos(7)));
        assert_eq!((source.status(clock.now()).state.as_str(), source.counts.refused), ("reachable", 2));
    }

    #[test]
    fn an_answer_that_never_comes_is_lost() {
        let clock = Clock::new();
        let mut source = source(vec![Ok(Answer::Awaited), Ok(Answer::Awaited), Ok(Answer::Awaited)]);
        assert_eq!(source.drive(&clock), None);
        assert_eq!(source.poll_timeout(clock.now()), Some(clock.now().saturating_add(TIMEOUT)));
        assert_eq!(source.drive(&clock), None);
        clock.pass(TIMEOUT);
        assert_eq!(source.drive(&clock), None);
        assert_eq!((source.counts.lost, source.status(clock.now()).state.as_str()), (1, "unreachable"));
    }

    #[test]
    fn the_first_measurements_are_closer_together() {
        let clock = Clock::new();
        let mut source = source((0..12).map(|_| Ok(Answer::Measured(measured(&clock)))).collect());
        let mut gaps = Vec::new();
        for _ in 0..12 {
            let due = source.poll_timeout(clock.now()).expect("always due");
            gaps.push(due.since(clock.now()).as_nanos() / 1_000_000_000);
            clock.pass(due.since(clock.now()));
            let last = Measured { local: clock.now(), ..measured(&clock) };
            source.settle(Ok(Answer::Measured(last)), clock.now());
        }
        assert_eq!(gaps, [0, 1, 1, 1, 1, 1, 1, 1, 4, 4, 4, 4]);
    }

    #[test]
    fn a_reading_over_a_step_of_the_systems_clock_is_spoilt() {
        let clock = Clock::new();
        let (bracket, system) = Bracket::around(&clock, || {
            clock.pass(Span::from_micros(20));
            let system = clock.realtime().1;
            clock.pass(Span::from_micros(20));
            system
        });
        let (local, slack) = bracket.local(system).expect("undisturbed");
        assert_eq!(clock.now().since(local), Span::from_micros(20));
        assert!(slack < Span::from_micros(1));
        let (bracket, system) = Bracket::around(&clock, || {
            clock.pass(Span::from_micros(20));
            clock.set_system(Span::from_millis(5));
            clock.realtime().1
        });
        assert!(matches!(bracket.local(system), Err(Trouble::Spoilt(_))));
    }
}
