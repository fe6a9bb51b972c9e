//! A pulse at the start of each second, of a GPS receiver for instance, through the kernel's PPS device.
//!
//! A pulse says when a second starts and not which: other sources have to number it, and while their bound is wider than a
//! quarter of a second the pulse is of no use. The kernel notes a pulse's `CLOCK_REALTIME`; the counter is read beside that
//! clock shortly before a pulse is due and shortly after, which carries the note over and shows whether somebody set the clock
//! in between. Where the pulse falls is learned from the first ones.

use std::path::PathBuf;

use chronotick_core::units::{Local, Span, Timestamp, Utc};

use super::{Answer, Bracket, Measured, Pair, Reference, Trouble, pair};
use crate::os::counter::LocalClock;
use crate::os::pps::{PpsClock, PpsDevice, Pulse};
use crate::runner::source::Known;

const SECOND: Span = Span::from_secs(1);
/// The counter is read this long before a pulse is due, and this long after.
const BEFORE: Span = Span::from_millis(2);
const AFTER: Span = Span::from_millis(1);
/// A pulse that is due later than this is not waited for in the same bracket.
const SOON: Span = Span::from_millis(20);
/// Without a pulse for this long it is gone.
const SILENT: Span = Span::from_millis(2_500);
/// The widest bound that numbers a second.
const NUMBERED: Span = Span::from_millis(250);

/// A pulse per second.
pub(super) struct Pps {
    path: PathBuf,
    error: Span,
    device: Option<Box<dyn PpsDevice>>,
    /// When a recent pulse came.
    phase: Option<Timestamp<Local>>,
    /// Read before the pulse that is waited for, and the newest pulse then.
    before: Option<(Pair, u32)>,
}

impl Pps {
    pub(super) fn new(path: PathBuf, error: Span) -> Self {
        Self { path, error, device: None, phase: None, before: None }
    }

    fn fetch(&mut self) -> Result<Pulse, Trouble> {
        let path = self.path.display();
        let missing = |cause| Trouble::Missing(format!("cannot read {path}: {cause}"));
        if self.device.is_none() {
            self.device = Some(Box::new(PpsClock::open(&self.path).map_err(missing)?));
        }
        let fetched = self.device.as_mut().map_or(Ok(None), |device| device.fetch());
        match fetched {
            Ok(Some(pulse)) => Ok(pulse),
            Ok(None) => Err(Trouble::Useless(format!("no pulse yet at {path}"))),
            Err(cause) => {
                let told = missing(cause);
                self.device = None;
                Err(told)
            }
        }
    }

    /// Learns when the pulses come, and starts the bracket when one is due.
    fn prepare(&mut self, clock: &dyn LocalClock, pulse: Pulse) -> Result<Answer, Trouble> {
        let now = pair(clock);
        let age = now.1.since(pulse.at);
        if age < Span::ZERO || age > SILENT {
            self.phase = None;
            return Err(Trouble::Useless(format!("no pulse at {} for seconds", self.path.display())));
        }
        self.phase = Some(now.0.saturating_sub(age));
        if self.next_pulse(now.0).since(now.0) <= SOON {
            self.before = Some((now, pulse.sequence));
        }
        Ok(Answer::NotYet)
    }

    /// The first pulse after `at`, as far as is known.
    fn next_pulse(&self, at: Timestamp<Local>) -> Timestamp<Local> {
        let Some(phase) = self.phase else { return at };
        let since = at.since(phase).as_nanos().rem_euclid(SECOND.as_nanos());
        at.saturating_add(SECOND.saturating_sub(Span::from_nanos(since)))
    }
}

impl Reference for Pps {
    fn kind(&self) -> &'static str {
        "pps"
    }

    fn address(&self) -> Option<String> {
        None
    }

    fn ask(&mut self, clock: &dyn LocalClock, known: Option<&Known>) -> Result<Answer, Trouble> {
        let before = self.before.take();
        let pulse = self.fetch()?;
        let Some((before, _)) = before.filter(|(_, sequence)| *sequence != pulse.sequence) else {
            return self.prepare(clock, pulse);
        };
        let bracket = Bracket { before, after: pair(clock) };
        let (local, slack) = bracket.local(pulse.at).inspect_err(|_| self.phase = None)?;
        self.phase = Some(local);
        let known = known
            .filter(|known| known.half_width <= NUMBERED)
            .ok_or_else(|| Trouble::Useless("no other source says yet which second a pulse belongs to".to_owned()))?;
        let expected = local.to_utc(known.offset).as_nanos();
        let second = SECOND.as_nanos();
        let numbered = expected.saturating_add(second / 2).div_euclid(second).saturating_mul(second);
        Ok(Answer::Measured(Measured {
            local,
            offset: Timestamp::<Utc>::from_nanos(numbered).offset_from(local),
            delay: slack.saturating_add(slack),
            root_distance: self.error,
            leap: None,
            stratum: None,
        }))
    }

    fn best_time(&self, due: Timestamp<Local>) -> Timestamp<Local> {
        if self.phase.is_none() {
            return due;
        }
        match self.before {
            Some((before, _)) => self.next_pulse(before.0).saturating_add(AFTER),
            // A pulse that comes as little as this before `due` will do.
            None => self.next_pulse(due.saturating_sub(AFTER)).saturating_sub(BEFORE),
        }
    }

    fn restart(&mut self) {
        (self.phase, self.before) = (None, None);
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::Arc;

    use chronotick_core::SourceId;
    use chronotick_core::units::Offset;

    use super::super::fake::{Clock, START};
    use super::super::{LocalSource, RETRY};
    use super::*;
    use crate::runner::source::Source;

    /// Pulses at every true second, 3 us late.
    struct Receiver {
        clock: Arc<Clock>,
        dead_from: Span,
    }

    impl PpsDevice for Receiver {
        fn fetch(&mut self) -> io::Result<Option<Pulse>> {
            let now = self.clock.now().as_nanos().min(self.dead_from.as_nanos());
            let late = 3_000;
            let count = (now - late).div_euclid(1_000_000_000);
            if count < 1 {
                return Ok(None);
            }
            let ago = self.clock.now().as_nanos() - (count * 1_000_000_000 + late);
            let at = self.clock.realtime().1.saturating_sub(Span::from_nanos(ago));
            Ok(Some(Pulse { sequence: u32::try_from(count).expect("small"), at }))
        }
    }

    fn source(clock: &Arc<Clock>, dead_from: Span) -> LocalSource {
        let receiver = Receiver { clock: Arc::clone(clock), dead_from };
        let pps = Pps { device: Some(Box::new(receiver)), ..Pps::new("/dev/pps9".into(), Span::from_micros(20)) };
        LocalSource::around(SourceId(0), "pps:/dev/pps9".to_owned(), Box::new(pps), Span::from_secs(2))
    }

    /// Goes from one due time to the next; returns the samples of `seconds`.
    fn live(source: &mut LocalSource, clock: &Clock, seconds: i64, known: Option<Known>) -> Vec<(i64, Offset)> {
        let mut samples = Vec::new();
        let end = clock.now().saturating_add(Span::from_secs(seconds));
        while clock.now() < end {
            let due = source.poll_timeout(clock.now()).expect("always due");
            assert!(due > clock.now() || source.due.is_none(), "the loop would spin");
            clock.pass(due.since(clock.now()).max(Span::ZERO));
            source.set_known(known);
            while let Some(sample) = source.drive(clock) {
                let error = sample.offset.as_nanos() - START;
                assert!(error.abs() <= sample.error_bound().as_nanos(), "{error} ns, {sample:?}");
                samples.push((sample.local.as_nanos(), sample.offset));
            }
        }
        samples
    }

    fn known(error: Span, half_width: Span) -> Option<Known> {
        Some(Known { offset: Offset::from_nanos(START).saturating_add(error), half_width })
    }

    #[test]
    fn pulses_are_numbered_by_the_others() {
        let clock = Arc::new(Clock::new());
        clock.pass(Span::from_millis(2_345));
        let mut source = source(&clock, Span::MAX);
        let samples = live(&mut source, &clock, 20, known(Span::from_millis(-190), Span::from_millis(200)));
        assert!(samples.len() >= 10, "{samples:?}");
        for (at, offset) in samples {
            assert_eq!((at % 1_000_000_000, offset.as_nanos() - START), (3_000, -3_000));
        }
        assert_eq!(source.status(clock.now()).state, "reachable");
    }

    #[test]
    fn nobody_to_number_them_no_samples() {
        for vague in [None, known(Span::ZERO, Span::from_millis(400))] {
            let clock = Arc::new(Clock::new());
            clock.pass(Span::from_secs(5));
            let mut source = source(&clock, Span::MAX);
            assert_eq!(live(&mut source, &clock, 5, vague), []);
            let reason = source.status(clock.now()).reason.expect("said why");
            assert!(reason.contains("which second"), "{reason}");
            // As soon as somebody numbers them they are used.
            let sure = known(Span::ZERO, Span::from_millis(10));
            assert!(!live(&mut source, &clock, 2 + RETRY.as_nanos() / 1_000_000_000, sure).is_empty());
        }
    }

    #[test]
    fn a_receiver_that_falls_silent_is_noticed() {
        let clock = Arc::new(Clock::new());
        clock.pass(Span::from_secs(5));
        let mut source = source(&clock, Span::from_secs(12));
        let sure = known(Span::ZERO, Span::from_millis(10));
        let samples = live(&mut source, &clock, 30, sure);
        assert!(samples.last().is_some_and(|(at, _)| *at <= 12_000_003_000), "{samples:?}");
        assert_eq!(source.status(clock.now()).state, "unreachable");
    }

    #[test]
    fn a_system_clock_set_by_somebody_spoils_at_most_a_pulse() {
        let clock = Arc::new(Clock::new());
        clock.pass(Span::from_secs(5));
        let mut source = source(&clock, Span::MAX);
        let sure = known(Span::ZERO, Span::from_millis(10));
        for step in [1, -1, 3_600_000, -86_400_000, 7] {
            clock.set_system(Span::from_millis(step));
            // The samples are judged where they are taken.
            let before = live(&mut source, &clock, 40, sure);
            assert!(!before.is_empty(), "after {step} ms");
        }
    }
}
