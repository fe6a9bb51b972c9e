//! Leap seconds: who announces one, what they do to the estimate, what readers are served.
//!
//! **Model.** The estimate is kept on a *continuous* scale that has no leap seconds: UTC plus the leap seconds inserted since the
//! estimate was started. A reference steps at the leap and the continuous scale does not, so samples are moved over to it
//! ([`Leaps::normalise`]) and no stage before ever sees a step; what is served is moved back ([`Leaps::serve`]).
//!
//! **Announcement.** A majority of the selected sources that know of leap seconds has to announce it, on the last day of a month
//! (ITU-R TF.460-6), until shortly before. After that it happens, when the estimate reaches it: on insertion UTC goes from
//! 23:59:59.999 back to 23:59:59 and has that second twice, on deletion from 23:59:58.999 to 00:00:00, as the kernel and NTP
//! servers do it (RFC 5905, figure 4).
//!
//! **[`Policy::Utc`].** The step is served, as a new epoch. Nobody can publish at the very instant, and the instant is only known to
//! within the bound: so from [`LAST`] before until it is certainly over the hard bound includes the whole second. Earlier, records
//! are made to lose their bound altogether before the leap, should nobody renew them.
//!
//! **[`Policy::Smear`].** From noon before to noon after, the served second is longer or shorter by 1/86400, as public servers that
//! smear do it. No step, no epoch; the bound is then around smeared time, which is up to half a second from UTC.
//!
//! **Weaknesses.** Around the leap ([`FOLD`]) a source that steps late or early is taken at its word modulo a second. A daemon
//! started after the leap does not know of it and serves UTC, not the rest of the smear.

use serde::{Deserialize, Serialize};

use crate::clock_page::CACHED_SPANS;
use crate::interval::ErrorBound;
use crate::sample::SourceId;
use crate::served::Target;
use crate::units::{Local, Offset, Rate, Span, Timestamp, Utc};

/// The hard bound includes the leap second from this long before it on.
pub const LAST: Span = Span::from_secs(48);
/// What readers are told when nobody renews a record grows by no more than this, s/s: far more than any configuration allows.
const MOST_GROWTH: f64 = 0.01;
/// How far from the leap a source may step.
pub const FOLD: Span = Span::from_secs(10);

const SECOND: Span = Span::from_secs(1);
const HALF_DAY: Span = Span::from_secs(43_200);
const DAY: i64 = 86_400_000_000_000;

/// What a leap second does to the last minute of a day.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LeapSecond {
    /// It has 61 seconds.
    Insert,
    /// It has 59.
    Delete,
}

impl LeapSecond {
    /// By how much UTC falls behind the continuous scale.
    const fn seconds(self) -> i64 {
        match self {
            Self::Insert => 1,
            Self::Delete => -1,
        }
    }

    /// The lower-case word shown to people and in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Insert => "insert",
            Self::Delete => "delete",
        }
    }
}

/// How a leap second is served.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Policy {
    /// As a step and a new epoch.
    #[default]
    Utc,
    /// Spread over a day, noon to noon.
    Smear,
}

/// What has just been decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A majority announces it for the end of this UTC day.
    Announced(LeapSecond),
    /// The majority does so no more.
    Withdrawn(LeapSecond),
    /// It is there. With [`Policy::Utc`] the caller starts a new epoch.
    Happened(LeapSecond),
}

/// What one source says of the end of this UTC day.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Announcement {
    /// It knows nothing of leap seconds, or has said nothing yet.
    #[default]
    Unknown,
    /// There is none.
    NoLeap,
    /// This one comes.
    Leap(LeapSecond),
}

/// What every source says, and what is made of it; `S` sources.
#[derive(Clone, Debug)]
pub struct Leaps<const S: usize = 8> {
    policy: Policy,
    votes: [Announcement; S],
    next: Option<Scheduled>,
    /// Seconds that UTC is behind the continuous scale.
    behind: i64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Scheduled {
    kind: LeapSecond,
    /// The midnight that it belongs to, on the continuous scale.
    midnight: Timestamp<Utc>,
    /// When UTC steps, on the continuous scale.
    at: Timestamp<Utc>,
    done: bool,
}

impl Scheduled {
    /// From when to when it is smeared, on the continuous scale.
    const fn smeared(&self) -> (Timestamp<Utc>, Timestamp<Utc>) {
        let end = self.midnight.saturating_add(HALF_DAY).saturating_add(Span::from_secs(self.kind.seconds()));
        (self.midnight.saturating_sub(HALF_DAY), end)
    }
}

impl<const S: usize> Leaps<S> {
    /// No leap second is known of.
    pub const fn new(policy: Policy) -> Self {
        Self { policy, votes: [Announcement::Unknown; S], next: None, behind: 0 }
    }

    /// What `source` says with its newest sample.
    pub fn hear(&mut self, source: SourceId, says: Announcement) {
        if let Some(vote) = self.votes.get_mut(usize::from(source.0)) {
            *vote = says;
        }
    }

    /// The estimate has reached `now`, on the continuous scale. `selected` are the sources that a majority agrees with. Called at
    /// least once a second, and at [`Leaps::poll_timeout`]; at most one event a call.
    pub fn advance(&mut self, now: Timestamp<Utc>, selected: impl Fn(SourceId) -> bool) -> Option<Event> {
        let Some(next) = &mut self.next else { return self.announced_by(now, selected) };
        let kind = next.kind;
        if next.done {
            if now > next.smeared().1.saturating_add(FOLD) {
                self.next = None;
            }
            return None;
        }
        if now >= next.at {
            next.done = true;
            self.behind += kind.seconds();
            return Some(Event::Happened(kind));
        }
        // Where nobody is selected nobody has withdrawn anything.
        if next.at.since(now) > LAST && self.is_heard(&selected) && self.majority(selected) != Some(kind) {
            self.next = None;
            return Some(Event::Withdrawn(kind));
        }
        None
    }

    /// How long from `now`, on the continuous scale, until [`Leaps::advance`] has to be called to the point.
    pub fn poll_timeout(&self, now: Timestamp<Utc>) -> Option<Span> {
        self.next.filter(|next| !next.done).map(|next| next.at.since(now).max(Span::ZERO))
    }

    /// The leap second that is announced and has not happened yet.
    pub fn announced(&self) -> Option<LeapSecond> {
        self.next.filter(|next| !next.done).map(|next| next.kind)
    }

    /// UTC less the continuous scale.
    pub const fn utc_less_continuous(&self) -> Span {
        Span::from_secs(-self.behind)
    }

    /// The measured offset on the continuous scale. Near the leap it depends on whether the source has stepped yet: it is taken to
    /// have done what is nearer to `expected`, the estimate for the same instant.
    pub fn normalise(&self, at: Timestamp<Local>, measured: Offset, expected: Option<Offset>) -> Offset {
        let with = |behind: i64| measured.saturating_add(Span::from_secs(behind));
        let (Some(next), Some(expected)) = (self.next, expected) else { return with(self.behind) };
        let before = self.behind_before(&next);
        let (stayed, stepped) = (with(before), with(before + next.kind.seconds()));
        // On either side, whether or not [`Leaps::advance`] has been told yet.
        let since = at.to_utc(expected).since(next.at);
        if since.abs() > FOLD {
            return if since < Span::ZERO { stayed } else { stepped };
        }
        if stayed.since(expected).abs() <= stepped.since(expected).abs() { stayed } else { stepped }
    }

    /// The estimate as it is served.
    pub fn serve(&self, target: Target) -> Target {
        let plain = Target { offset: target.offset.saturating_sub(Span::from_secs(self.behind)), ..target };
        match (self.next, self.policy) {
            (None, _) => plain,
            (Some(next), Policy::Utc) => Self::with_step_in_sight(&next, target.at.to_utc(target.offset), plain),
            (Some(next), Policy::Smear) => self.smear(&next, target),
        }
    }

    /// The counter was disturbed, and the estimate with its scale was given up.
    pub fn reset(&mut self) {
        *self = Self::new(self.policy);
    }

    fn announced_by(&mut self, now: Timestamp<Utc>, selected: impl Fn(SourceId) -> bool) -> Option<Event> {
        let kind = self.majority(selected)?;
        let utc = now.saturating_add(self.utc_less_continuous()).as_nanos();
        let day = utc.div_euclid(DAY);
        if !is_last_of_month(day) {
            return None;
        }
        let midnight =
            Timestamp::from_nanos((day + 1).saturating_mul(DAY)).saturating_add(Span::from_secs(self.behind));
        let at = match kind {
            LeapSecond::Insert => midnight,
            LeapSecond::Delete => midnight.saturating_sub(SECOND),
        };
        if now >= at {
            return None;
        }
        self.next = Some(Scheduled { kind, midnight, at, done: false });
        Some(Event::Announced(kind))
    }

    /// What the selected sources that know of leap seconds say.
    fn voices(&self, selected: impl Fn(SourceId) -> bool) -> impl Iterator<Item = Announcement> {
        let known = (0..).zip(&self.votes).filter(|(_, vote)| **vote != Announcement::Unknown);
        known.filter(move |(id, _)| selected(SourceId(*id))).map(|(_, vote)| *vote)
    }

    fn is_heard(&self, selected: impl Fn(SourceId) -> bool) -> bool {
        self.voices(selected).next().is_some()
    }

    /// What more than half of them announce.
    fn majority(&self, selected: impl Fn(SourceId) -> bool) -> Option<LeapSecond> {
        let voices = || self.voices(&selected);
        let count = voices().count();
        [LeapSecond::Insert, LeapSecond::Delete]
            .into_iter()
            .find(|kind| 2 * voices().filter(|vote| *vote == Announcement::Leap(*kind)).count() > count)
    }

    const fn behind_before(&self, next: &Scheduled) -> i64 {
        if next.done { self.behind - next.kind.seconds() } else { self.behind }
    }

    fn with_step_in_sight(next: &Scheduled, now: Timestamp<Utc>, plain: Target) -> Target {
        let half = plain.bound.half_width();
        let wide = ErrorBound::new(half.saturating_add(SECOND));
        if next.done {
            // The truth may not have stepped yet.
            let certain = now.since(next.at) > half.saturating_add(SECOND);
            return if certain { plain } else { Target { bound: wide, ..plain } };
        }
        let left = next.at.since(now).saturating_sub(half);
        if left <= LAST {
            return Target { bound: wide, ..plain };
        }
        // Meanwhile the bound goes on growing, and so does what is served.
        let approach = 1.0 + plain.bound_growth.value().max(MOST_GROWTH) + plain.rate.value().abs();
        let void_after = Span::from_secs_f64(left.as_secs_f64() / (approach * CACHED_SPANS as f64));
        Target { void_after: plain.void_after.min(void_after), ..plain }
    }

    fn smear(&self, next: &Scheduled, target: Target) -> Target {
        let (start, end) = next.smeared();
        let now = target.at.to_utc(target.offset);
        let length = end.since(start).as_secs_f64();
        let slope = next.kind.seconds() as f64 / length;
        let share = (now.since(start).as_secs_f64() / length).clamp(0.0, 1.0);
        let before = Span::from_secs(-self.behind_before(next));
        let smeared = Span::from_secs_f64(-share * next.kind.seconds() as f64);
        let inside = now >= start && now < end;
        let rate = target.rate.value();
        // A line that is used beyond a bend is off by the difference in slope.
        let bends = |at: Timestamp<Utc>| at > now && at.since(now) <= target.void_after.saturating_add(SECOND);
        let bend = if bends(start) || bends(end) { Rate::new(slope.abs() * 1.01) } else { Rate::ZERO };
        Target {
            offset: target.offset.saturating_add(before).saturating_add(smeared),
            rate: if inside { Rate::new(rate - slope * (1.0 + rate)) } else { target.rate },
            bound_growth: target.bound_growth + bend,
            interval_growth: target.interval_growth + bend,
            ..target
        }
    }
}

/// Whether the day after `day` (counted from 1970-01-01) is the first of a month (Gregorian calendar, after H. Hinnant's
/// `civil_from_days`).
const fn is_last_of_month(day: i64) -> bool {
    // Days since 0000-03-01: years begin in March, so that the leap day is the last of one.
    let shifted = day + 1 + 719_468;
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    day_of_year == (153 * month + 2) / 5
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2016-12-31 12:00:00 UTC, half a day before the insertion of that year.
    const NOON: Timestamp<Utc> = Timestamp::from_nanos(1_483_185_600_000_000_000);

    fn all(_: SourceId) -> bool {
        true
    }

    fn announcing(kinds: [Announcement; 3]) -> Leaps {
        let mut leaps = Leaps::new(Policy::Utc);
        (0..).zip(kinds).for_each(|(id, kind)| leaps.hear(SourceId(id), kind));
        leaps
    }

    #[test]
    fn last_days_of_months() {
        let day = |seconds: i64| seconds / 86_400;
        // 1972-06-30, 2000-02-29, 2016-12-31, 2100-02-28, and the days before and after each.
        for last in [78_710_400, 951_782_400, 1_483_142_400, 4_107_456_000] {
            assert!(is_last_of_month(day(last)), "{last}");
            assert!(!is_last_of_month(day(last) - 1) && !is_last_of_month(day(last) + 1), "{last}");
        }
        let count = (0..146_097).filter(|&day| is_last_of_month(day)).count();
        assert_eq!(count, 4_800, "months in 400 years");
    }

    #[test]
    fn a_majority_of_the_selected_that_know_announces() {
        use Announcement::{Leap, NoLeap, Unknown};
        use LeapSecond::{Delete, Insert};
        let (yes, no) = (Leap(Insert), NoLeap);
        for (kinds, announced) in [
            ([yes, yes, no], true),
            ([yes, no, no], false),
            ([yes, Unknown, Unknown], true),
            ([yes, no, Unknown], false),
            ([yes, Leap(Delete), Unknown], false),
            ([Unknown; 3], false),
        ] {
            let event = announcing(kinds).advance(NOON, all);
            assert_eq!(event == Some(Event::Announced(Insert)), announced, "{kinds:?}");
        }
        // One that lies about the time has no say about leap seconds.
        assert_eq!(announcing([yes, yes, no]).advance(NOON, |id| id.0 == 2), None);
        // Not the last day of a month.
        let early = NOON.saturating_sub(Span::from_nanos(DAY));
        assert_eq!(announcing([yes, yes, yes]).advance(early, all), None);
    }

    #[test]
    fn withdrawn_in_time_and_not_in_the_last_moment() {
        let mut leaps = announcing([Announcement::Leap(LeapSecond::Insert); 3]);
        let midnight = NOON.saturating_add(HALF_DAY);
        assert_eq!(leaps.advance(NOON, all), Some(Event::Announced(LeapSecond::Insert)));
        assert_eq!(leaps.poll_timeout(NOON), Some(HALF_DAY));
        let mut late = leaps.clone();
        for id in 0..3 {
            leaps.hear(SourceId(id), Announcement::NoLeap);
            late.hear(SourceId(id), Announcement::NoLeap);
        }
        assert_eq!(leaps.advance(NOON, all), Some(Event::Withdrawn(LeapSecond::Insert)));
        assert_eq!(leaps.advance(midnight, all), None);
        assert_eq!(late.advance(midnight.saturating_sub(SECOND), all), None);
        assert_eq!(late.advance(midnight, all), Some(Event::Happened(LeapSecond::Insert)));
        assert_eq!((late.utc_less_continuous(), late.announced()), (Span::from_secs(-1), None));
    }

    #[test]
    fn nobody_withdraws_by_being_silent() {
        let mut leaps = announcing([Announcement::Leap(LeapSecond::Insert); 3]);
        leaps.advance(NOON, all);
        // The servers disagree about the time, and nobody is selected.
        assert_eq!(leaps.advance(NOON, |_| false), None);
        assert_eq!(leaps.announced(), Some(LeapSecond::Insert));
    }

    #[test]
    fn a_record_that_nobody_renews_is_void_before_the_leap_however_its_bound_grows() {
        let mut leaps = announcing([Announcement::Leap(LeapSecond::Insert); 3]);
        leaps.advance(NOON, all);
        let midnight = NOON.saturating_add(HALF_DAY);
        let half = Span::from_millis(1);
        let now = midnight.saturating_sub(Span::from_secs(1500));
        let target = Target {
            at: Timestamp::from_nanos(now.as_nanos()),
            offset: Offset::ZERO,
            rate: Rate::from_ppm(-500.0),
            interval: crate::interval::PredictionInterval::new(half),
            interval_growth: Rate::ZERO,
            bound: ErrorBound::new(half),
            bound_growth: Rate::from_ppm(50.0),
            void_after: Span::from_secs(3600),
            tier: crate::fallback::Tier::Filter,
            reason: crate::fallback::Reason::Nominal,
        };
        let last = leaps.serve(target).void_after.saturating_mul(CACHED_SPANS);
        let reach = half.saturating_add(Rate::from_ppm(500.0).over(last));
        assert!(last.saturating_add(reach) < Span::from_secs(1500), "{last:?} and {reach:?}");
        assert!(last > Span::from_secs(1450), "{last:?}");
    }

    #[test]
    fn a_source_that_steps_late_or_early_is_not_a_second_off() {
        let mut leaps = announcing([Announcement::Leap(LeapSecond::Insert); 3]);
        leaps.advance(NOON, all);
        let midnight = NOON.saturating_add(HALF_DAY);
        // Local time is the continuous scale, 7 ns behind.
        let (offset, stepped) = (Offset::from_nanos(7), Offset::from_nanos(7 - 1_000_000_000));
        let at = |seconds: i64| Timestamp::from_nanos(midnight.as_nanos()).saturating_add(Span::from_secs(seconds));
        for seconds in [-9, -1, 0, 1, 9] {
            if seconds == 1 {
                leaps.advance(midnight, all);
            }
            for measured in [offset, stepped] {
                assert_eq!(leaps.normalise(at(seconds), measured, Some(offset)), offset, "{seconds} s");
            }
        }
        assert_eq!(leaps.normalise(at(60), stepped, Some(offset)), offset);
        assert_eq!(leaps.normalise(at(60), offset, Some(offset)).since(offset), SECOND, "it is a second off");
    }
}
