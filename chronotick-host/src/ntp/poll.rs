//! When to ask a server next.
//!
//! A burst at first contact fills the filters; then the interval doubles for as long as the hard bound, which grows between
//! exchanges, stays within the target. A lost answer is asked for again soon; a silent server is asked ever more rarely, but never so rarely that its return goes
//! unnoticed for more than [`RETRY_CEILING`]. A server that asks for relief (kiss code RATE) gets it for good.

use chronotick_core::units::Span;

/// A silent server is tried at least this often (or at the longest poll interval, if that is shorter).
pub const RETRY_CEILING: Span = Span::from_secs(64);

/// Losses in a row after which the next answer counts as a new first contact.
const LOST_CONTACT: u32 = 4;

/// How often a server may be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Shortest interval between requests after the burst.
    pub min: Span,
    /// Longest interval between requests.
    pub max: Span,
    /// Requests of the burst at first contact.
    pub burst: u8,
    /// Interval between the requests of a burst.
    pub burst_interval: Span,
}

/// The schedule of one server.
#[derive(Clone, Debug)]
pub struct Schedule {
    limits: Limits,
    interval: Span,
    burst_left: u8,
    losses: u32,
    reach: u8,
}

impl Schedule {
    /// A schedule that starts with a burst.
    pub fn new(limits: Limits) -> Self {
        Self { limits, interval: limits.min, burst_left: limits.burst.saturating_sub(1), losses: 0, reach: 0 }
    }

    /// A first contact again, within the limits that the server has asked for.
    pub(super) fn restarted(&self) -> Self {
        Self::new(self.limits)
    }

    /// A usable answer arrived, and the hard bound reaches its target `room` from now: how long until the next request.
    pub fn after_answer(&mut self, room: Span) -> Span {
        self.reach = self.reach << 1 | 1;
        if self.losses >= LOST_CONTACT {
            self.burst_left = self.limits.burst.saturating_sub(1);
            self.interval = self.limits.min;
        }
        self.losses = 0;
        if self.burst_left > 0 {
            self.burst_left -= 1;
            return self.limits.burst_interval;
        }
        self.interval = room.min(self.interval.saturating_mul(2)).clamp(self.limits.min, self.limits.max);
        self.interval
    }

    /// No usable answer arrived: how long until the next request.
    pub fn after_loss(&mut self) -> Span {
        self.reach <<= 1;
        self.losses = self.losses.saturating_add(1);
        if self.burst_left > 0 {
            self.burst_left -= 1;
            return self.limits.burst_interval;
        }
        // Losses happen; only silence is asked ever more rarely.
        let doublings = self.losses.saturating_sub(LOST_CONTACT - 1).min(16);
        let ceiling = RETRY_CEILING.max(self.limits.min).min(self.limits.max);
        self.limits.min.saturating_mul(1 << doublings).min(ceiling)
    }

    /// The server asked for fewer requests: how long until the next one. The shortest interval doubles for good.
    pub fn after_rate_kiss(&mut self) -> Span {
        self.reach <<= 1;
        self.limits.min = self.limits.min.max(self.interval).saturating_mul(2).min(self.limits.max);
        self.limits.burst = 1;
        self.burst_left = 0;
        self.interval = self.limits.min;
        self.interval
    }

    /// The interval in force outside bursts.
    pub fn interval(&self) -> Span {
        self.interval
    }

    /// The reach register of RFC 5905, section 9.2: a bit per request, the newest lowest, 1 for a usable answer.
    pub fn reach(&self) -> u8 {
        self.reach
    }

    /// Requests in a row without a usable answer.
    pub fn losses(&self) -> u32 {
        self.losses
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits =
        Limits { min: Span::from_secs(16), max: Span::from_secs(1024), burst: 4, burst_interval: Span::from_secs(2) };

    fn seconds(span: Span) -> i64 {
        span.as_nanos() / 1_000_000_000
    }

    #[test]
    fn a_burst_then_doubling_while_the_bound_allows() {
        let mut schedule = Schedule::new(LIMITS);
        let waits: Vec<_> = (0..11).map(|_| seconds(schedule.after_answer(Span::from_secs(700)))).collect();
        assert_eq!(waits, [2, 2, 2, 32, 64, 128, 256, 512, 700, 700, 700]);
        assert_eq!(seconds(schedule.after_answer(Span::from_secs(20))), 20);
        assert_eq!(seconds(schedule.after_answer(Span::from_secs(-3))), 16);
        assert_eq!(seconds((0..9).map(|_| schedule.after_answer(Span::MAX)).last().unwrap_or(Span::ZERO)), 1024);
    }

    #[test]
    fn silence_is_asked_rarely_and_its_end_starts_a_burst() {
        let mut schedule = Schedule::new(LIMITS);
        let waits: Vec<_> = (0..7).map(|_| seconds(schedule.after_loss())).collect();
        assert_eq!(waits, [2, 2, 2, 32, 64, 64, 64]);
        assert_eq!(seconds(schedule.after_answer(Span::MAX)), 2);
        assert_eq!(schedule.losses(), 0);
        assert_eq!(schedule.reach(), 0b0000_0001);
        schedule.after_answer(Span::MAX);
        schedule.after_loss();
        assert_eq!(schedule.reach(), 0b0000_0110);
    }

    #[test]
    fn single_losses_are_made_good_soon() {
        let mut schedule = Schedule::new(Limits { burst: 1, ..LIMITS });
        while seconds(schedule.after_answer(Span::MAX)) < 1024 {}
        let waits: Vec<_> = (0..5).map(|_| seconds(schedule.after_loss())).collect();
        assert_eq!(waits, [16, 16, 16, 32, 64]);
    }

    #[test]
    fn relief_lasts() {
        let mut schedule = Schedule::new(LIMITS);
        assert_eq!(seconds(schedule.after_rate_kiss()), 32);
        assert_eq!(seconds(schedule.after_answer(Span::ZERO)), 32);
        for _ in 0..9 {
            schedule.after_rate_kiss();
        }
        assert_eq!(seconds(schedule.after_answer(Span::ZERO)), 1024);
        assert_eq!(seconds(schedule.restarted().after_answer(Span::ZERO)), 1024);
    }
}
