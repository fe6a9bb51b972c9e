//! Suspension, pauses of a virtual machine, and counters that lost their kernel's trust.
//!
//! Boot time runs through a suspension and monotonic time does not: their difference moves by how long it took. A virtual
//! machine that is paused or restored sees nothing of the kind, but its time-stamp counter and its raw monotonic clock part.
//! A pause that stops both alike cannot be seen from inside; it shows as a conflict with the next measurement.

use std::fmt;

use chronotick_core::units::{Span, Timestamp};
use rustix::time::{ClockId, clock_gettime};

use super::counter::{CounterKind, LocalClock};

/// Less than this is how the two readings were taken.
pub(crate) const SUSPENSION: Span = Span::from_millis(10);
/// The counter may differ from the raw clock by this, and by [`MAX_RATE_PPM`] of the time between two looks.
const JUMP: Span = Span::from_millis(5);
const MAX_RATE_PPM: i64 = 1_000;
/// The clocksource is a file: looked at this often.
const CLOCKSOURCE_EVERY: Span = Span::from_secs(10);

/// What happened between two looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disruption {
    /// The machine was suspended for this long.
    Suspended(Span),
    /// The counter moved this much more (or less) than the raw monotonic clock.
    CounterJump(Span),
    /// The kernel no longer keeps time with this counter.
    CounterDistrusted,
}

impl fmt::Display for Disruption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Suspended(span) => write!(f, "the machine was suspended for {:.3} s", span.as_secs_f64()),
            Self::CounterJump(span) => write!(f, "the counter jumped by {:+.6} s", span.as_secs_f64()),
            Self::CounterDistrusted => f.write_str("the kernel no longer keeps time with the counter"),
        }
    }
}

/// Looks again and compares.
#[derive(Debug)]
pub struct Watch {
    suspended: Span,
    ticks: u64,
    raw: Span,
    clocksource_at: Span,
}

impl Watch {
    /// Remembers how things are.
    pub fn new(clock: &dyn LocalClock) -> Self {
        let raw = raw_now();
        Self { suspended: clock.suspended(), ticks: clock.ticks(), raw, clocksource_at: raw }
    }

    /// How long the machine had been suspended at the last look.
    pub fn suspended(&self) -> Span {
        self.suspended
    }

    /// What happened since the last look, if anything.
    pub fn check(&mut self, clock: &dyn LocalClock) -> Option<Disruption> {
        let before = raw_now();
        let ticks = clock.ticks();
        let after = raw_now();
        let look = Look { suspended: clock.suspended(), ticks, before, after };
        self.compare(clock, &look).or_else(|| self.clocksource(clock, CounterKind::trusted))
    }

    fn compare(&mut self, clock: &dyn LocalClock, look: &Look) -> Option<Disruption> {
        let slept = look.suspended.saturating_sub(self.suspended);
        let scale = clock.scale();
        let counted = scale.local(look.ticks).since(scale.local(self.ticks));
        let least = look.before.saturating_sub(self.raw);
        let most = look.after.saturating_sub(self.raw);
        let slack = JUMP.saturating_add(Span::from_nanos(most.as_nanos().abs() / 1_000_000 * MAX_RATE_PPM));
        (self.suspended, self.ticks, self.raw) = (look.suspended, look.ticks, look.after);
        if slept.abs() > SUSPENSION {
            return Some(Disruption::Suspended(slept));
        }
        let ahead = counted.saturating_sub(most);
        let behind = least.saturating_sub(counted);
        match clock.kind() {
            // A simulated counter is not the machine's: it keeps a time of its own.
            CounterKind::Virtual => None,
            _ if ahead > slack => Some(Disruption::CounterJump(ahead)),
            _ if behind > slack => Some(Disruption::CounterJump(Span::from_nanos(-behind.as_nanos()))),
            _ => None,
        }
    }

    /// A kernel that cannot be asked (no descriptor is left, the file is hidden) has not changed its mind.
    fn clocksource(
        &mut self,
        clock: &dyn LocalClock,
        trusted: impl FnOnce() -> Option<CounterKind>,
    ) -> Option<Disruption> {
        if self.raw.saturating_sub(self.clocksource_at) < CLOCKSOURCE_EVERY || clock.kind() == CounterKind::Virtual {
            return None;
        }
        self.clocksource_at = self.raw;
        let good = clock.kind() == CounterKind::MonotonicRaw || trusted().is_none_or(|kind| kind == clock.kind());
        (!good).then_some(Disruption::CounterDistrusted)
    }
}

struct Look {
    suspended: Span,
    ticks: u64,
    before: Span,
    after: Span,
}

fn raw_now() -> Span {
    let now = clock_gettime(ClockId::MonotonicRaw);
    Timestamp::<chronotick_core::Local>::from_nanos(now.tv_sec * 1_000_000_000 + now.tv_nsec)
        .since(Timestamp::from_nanos(0))
}

#[cfg(test)]
mod tests {
    use chronotick_core::clock_page::CounterScale;
    use chronotick_core::{Timestamp, Utc};

    use super::*;

    struct Nanos(CounterKind);
    impl LocalClock for Nanos {
        fn ticks(&self) -> u64 {
            0
        }
        fn scale(&self) -> CounterScale {
            CounterScale::NANOS
        }
        fn kind(&self) -> CounterKind {
            self.0
        }
        fn realtime(&self) -> (u64, Timestamp<Utc>) {
            (0, Timestamp::from_nanos(0))
        }
    }

    const TSC: Nanos = Nanos(CounterKind::Tsc);

    fn look(suspended_ms: i64, ticks: u64, raw_ns: i64) -> Look {
        let raw = Span::from_nanos(raw_ns);
        Look { suspended: Span::from_millis(suspended_ms), ticks, before: raw, after: raw }
    }

    fn watch() -> Watch {
        Watch { suspended: Span::ZERO, ticks: 0, raw: Span::ZERO, clocksource_at: Span::ZERO }
    }

    #[test]
    fn a_second_like_any_other() {
        assert_eq!(watch().compare(&TSC, &look(0, 1_000_400_000, 1_000_000_000)), None);
    }

    #[test]
    fn a_counter_that_the_kernel_does_not_use_is_distrusted_within_ten_seconds() {
        let (tsc, raw) = (Nanos(CounterKind::Tsc), Nanos(CounterKind::MonotonicRaw));
        let distrusted = || Some(CounterKind::MonotonicRaw);
        let mut watch = watch();
        watch.raw = Span::from_secs(9);
        assert_eq!(watch.clocksource(&tsc, distrusted), None, "the file was not looked at yet");
        watch.raw = Span::from_secs(10);
        assert_eq!(watch.clocksource(&tsc, distrusted), Some(Disruption::CounterDistrusted));
        watch.raw = Span::from_secs(20);
        assert_eq!(watch.clocksource(&tsc, || Some(CounterKind::Tsc)), None);
        watch.raw = Span::from_secs(30);
        assert_eq!(watch.clocksource(&raw, || Some(CounterKind::Tsc)), None, "nothing better is owed to it");
        watch.raw = Span::from_secs(40);
        assert_eq!(watch.clocksource(&tsc, || None), None, "who cannot be asked has not changed his mind");
    }

    #[test]
    fn suspension_and_jumps_are_told_apart() {
        let mut watch = watch();
        let slept = watch.compare(&TSC, &look(30_000, 1_000_000_000, 1_000_000_000));
        assert_eq!(slept, Some(Disruption::Suspended(Span::from_secs(30))));
        assert_eq!(watch.compare(&TSC, &look(30_000, 2_000_000_000, 2_000_000_000)), None);
        let ahead = watch.compare(&TSC, &look(30_000, 5_000_000_000, 3_000_000_000));
        assert_eq!(ahead, Some(Disruption::CounterJump(Span::from_secs(2))));
        let behind = watch.compare(&TSC, &look(30_000, 5_000_000_001, 4_000_000_000));
        assert!(matches!(behind, Some(Disruption::CounterJump(by)) if by < Span::ZERO));
    }
}
