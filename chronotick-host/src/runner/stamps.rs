//! The kernel's notes of when a datagram arrived and left, carried over to the local counter.

use chronotick_core::units::{Local, Span, Timestamp, Utc};

use crate::os::counter::LocalClock;

/// The kernel's arrival time is trusted to this part of its distance from now, for the two clocks may run at different rates.
const RATE_MARGIN: i64 = 1_000;
/// How far the paired reading of the two clocks may be apart.
const PAIR_MARGIN: Span = Span::from_nanos(100);

/// The counter when the datagram arrived, whether the kernel's note of it was used, and the operating system's UTC.
///
/// The note is a reading of CLOCK_REALTIME. A pair of readings of both clocks, taken just after, carries it over. It is
/// never moved to after now, and anything but a short while before now is not believed (the clock was stepped).
pub(crate) fn arrived(
    clock: &dyn LocalClock,
    note: Option<Timestamp<Utc>>,
) -> (Timestamp<Local>, bool, Timestamp<Utc>) {
    let woken = clock.now();
    let (ticks, utc) = clock.realtime();
    let paired = clock.scale().local(ticks);
    let Some(ago) = note.map(|note| utc.since(note)).filter(|ago| *ago >= Span::ZERO && *ago < Span::from_secs(1))
    else {
        return (woken, false, utc);
    };
    let margin = Span::from_nanos(ago.as_nanos() / RATE_MARGIN).saturating_add(PAIR_MARGIN);
    let noted = paired.saturating_sub(ago).saturating_add(margin);
    (noted.min(woken), noted < woken, utc)
}

/// The counter when the newest request left, from the kernel's note of it and a pair of readings taken before it was sent.
///
/// Never moved to before the pair; a note from before it belongs to an earlier request, and one from long after it to a
/// clock that was stepped.
pub(super) fn departed(
    (local, utc): (Timestamp<Local>, Timestamp<Utc>),
    note: Timestamp<Utc>,
) -> Option<Timestamp<Local>> {
    let after = note.since(utc);
    if after < Span::ZERO || after >= Span::from_secs(1) {
        return None;
    }
    let margin = Span::from_nanos(after.as_nanos() / RATE_MARGIN).saturating_add(PAIR_MARGIN);
    Some(local.saturating_add(after).saturating_sub(margin))
}
