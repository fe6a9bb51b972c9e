//! The microcontroller's timer as the core's local time.
//!
//! The core wants nanoseconds of a free-running counter that never jumps. embassy-time's tick counter is one: it starts at
//! zero at boot, is 64 bits wide and runs on through sleep on chips whose driver says so.

use chronotick_core::units::{Local, Span, Timestamp};
use embassy_time::{Instant, TICK_HZ};

const NANOS_PER_SEC: u64 = 1_000_000_000;

/// Something that tells local time. A board with a better counter than its embassy-time driver implements it for that.
pub trait LocalClock {
    /// The distance between two successive values of [`LocalClock::now`], rounded up.
    const RESOLUTION: Span;

    /// The counter, in nanoseconds of its nominal frequency.
    fn now(&self) -> Timestamp<Local>;
}

/// embassy-time's tick counter.
#[derive(Clone, Copy, Debug, Default)]
pub struct EmbassyClock;

impl LocalClock for EmbassyClock {
    const RESOLUTION: Span = resolution(TICK_HZ);

    fn now(&self) -> Timestamp<Local> {
        local_from_instant(Instant::now())
    }
}

/// A clock that stands still: for whoever replays what was recorded.
impl LocalClock for Timestamp<Local> {
    const RESOLUTION: Span = Span::from_nanos(1);

    fn now(&self) -> Timestamp<Local> {
        *self
    }
}

/// The local time of an embassy-time instant, rounded down to a nanosecond.
pub const fn local_from_instant(instant: Instant) -> Timestamp<Local> {
    Timestamp::from_nanos(nanos_from_ticks(instant.as_ticks(), TICK_HZ))
}

/// The first embassy-time instant that is not before a local time; boot for a local time before it.
pub const fn instant_from_local(local: Timestamp<Local>) -> Instant {
    Instant::from_ticks(ticks_from_nanos(local.as_nanos(), TICK_HZ))
}

/// `ticks` of a counter of `hz` in nanoseconds, rounded down, saturating at the end of the range (292 years).
///
/// Exact in integers for every frequency: where a second is a whole number of nanoseconds per tick it is one
/// multiplication, elsewhere the seconds and the rest are converted apart, so that nothing overflows.
pub const fn nanos_from_ticks(ticks: u64, hz: u64) -> i64 {
    let whole = NANOS_PER_SEC / hz;
    let nanos = if whole * hz == NANOS_PER_SEC {
        ticks.saturating_mul(whole)
    } else {
        (ticks / hz).saturating_mul(NANOS_PER_SEC).saturating_add((ticks % hz) * NANOS_PER_SEC / hz)
    };
    if nanos > i64::MAX.cast_unsigned() { i64::MAX } else { nanos.cast_signed() }
}

/// The number of ticks of a counter of `hz` after which at least `nanos` have passed; 0 when `nanos` is negative.
pub const fn ticks_from_nanos(nanos: i64, hz: u64) -> u64 {
    if nanos <= 0 {
        return 0;
    }
    let nanos = nanos.cast_unsigned();
    let seconds = nanos / NANOS_PER_SEC;
    let rest = nanos % NANOS_PER_SEC;
    seconds.saturating_mul(hz).saturating_add((rest * hz).div_ceil(NANOS_PER_SEC))
}

const fn resolution(hz: u64) -> Span {
    Span::from_nanos(NANOS_PER_SEC.div_ceil(hz).cast_signed())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_watch_crystal_counts_exact_seconds() {
        assert_eq!(nanos_from_ticks(32_768 * 86_400, 32_768), 86_400_000_000_000);
        assert_eq!(nanos_from_ticks(1, 32_768), 30_517);
        assert_eq!(ticks_from_nanos(30_517, 32_768), 1);
        assert_eq!(resolution(32_768), Span::from_nanos(30_518));
    }

    #[test]
    fn ends_of_the_range_saturate() {
        assert_eq!(nanos_from_ticks(u64::MAX, 1_000), i64::MAX);
        assert_eq!(nanos_from_ticks(u64::MAX, 32_768), i64::MAX);
        assert_eq!(ticks_from_nanos(i64::MIN, 1_000_000), 0);
    }

    proptest! {
        #[test]
        fn waking_is_never_early_and_at_most_a_tick_late(nanos in 0..i64::MAX / 2, hz in 1_u64..=1_000_000_000) {
            let ticks = ticks_from_nanos(nanos, hz);
            let exact = |ticks: u64| u128::from(ticks) * 1_000_000_000;
            let wanted = u128::from(nanos.cast_unsigned()) * u128::from(hz);
            prop_assert!(exact(ticks) >= wanted);
            prop_assert!(ticks == 0 || exact(ticks - 1) < wanted);
        }

        #[test]
        fn conversion_is_the_floor(ticks in 0..u64::MAX / 1_000_000, hz in 1_u64..=1_000_000_000) {
            let exact = u128::from(ticks) * 1_000_000_000 / u128::from(hz);
            let expected = i64::try_from(exact).unwrap_or(i64::MAX);
            prop_assert_eq!(nanos_from_ticks(ticks, hz), expected);
        }
    }
}
