//! Leap seconds, from the servers' announcements to what readers see: insertion and deletion, as a step and smeared.
//!
//! A clock that runs 30 ppm slow, three servers that announce the leap second of 2016-12-31 and step at it, and the core as the
//! daemon drives it: one update a second, never exactly at the leap.

use chronotick_core::clock_page::{ClockPage, CounterScale, WidestGrowth};
use chronotick_core::leap::{Announcement, Event, LeapSecond, Leaps, Policy};
use chronotick_core::selection::Verdict;
use chronotick_core::served::{self, ClockRecord, Served};
use chronotick_core::units::{Local, Offset, Rate, Span, Timestamp};
use chronotick_core::{Config, Pipeline, Sample, SourceId, Tier};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// 2017-01-01 00:00:00 UTC, in s since 1970.
const MIDNIGHT: i64 = 1_483_228_800;
const SECOND: i64 = 1_000_000_000;
const RATE: f64 = -30e-6;

/// What really is, `t` seconds after midnight on the scale without leap seconds.
#[derive(Clone, Copy)]
struct Truth {
    kind: LeapSecond,
}

impl Truth {
    fn local(t: f64) -> Timestamp<Local> {
        Timestamp::from_nanos(nanos((t + 200_000.0) * (1.0 + RATE)))
    }

    fn direction(self) -> i64 {
        if self.kind == LeapSecond::Insert { 1 } else { -1 }
    }

    /// When UTC steps.
    fn leap(self) -> f64 {
        if self.kind == LeapSecond::Insert { 0.0 } else { -1.0 }
    }

    fn utc(self, t: f64) -> i64 {
        let stepped = if t >= self.leap() { self.direction() } else { 0 };
        (MIDNIGHT - stepped) * SECOND + nanos(t)
    }

    fn smeared(self, t: f64) -> i64 {
        let length = 86_400.0 + self.direction() as f64;
        let share = ((t + 43_200.0) / length).clamp(0.0, 1.0);
        MIDNIGHT * SECOND + nanos(t - share * self.direction() as f64)
    }

    fn served(self, policy: Policy, t: f64) -> i64 {
        if policy == Policy::Utc { self.utc(t) } else { self.smeared(t) }
    }
}

#[expect(clippy::cast_possible_truncation, reason = "days in nanoseconds")]
fn nanos(seconds: f64) -> i64 {
    (seconds * 1e9).round() as i64
}

struct Daemon {
    truth: Truth,
    policy: Policy,
    pipeline: Box<Pipeline>,
    leaps: Leaps,
    served: Served,
    random: ChaCha8Rng,
    /// By how much each server steps late, in s.
    late: [f64; 3],
    events: Vec<(f64, Event)>,
}

impl Daemon {
    fn new(kind: LeapSecond, policy: Policy) -> Self {
        let config = Config { max_rate: Rate::from_ppm(100.0), forecasters: [false; 2], ..Config::default() };
        Self {
            truth: Truth { kind },
            policy,
            pipeline: Box::new(Pipeline::new(config)),
            leaps: Leaps::new(policy),
            served: Served::new(served::Config { step_threshold: Span::from_secs(3), ..served::Config::default() }),
            random: ChaCha8Rng::seed_from_u64(20_161_231),
            late: [0.0; 3],
            events: Vec::new(),
        }
    }

    fn ask(&mut self, t: f64, server: u8) {
        let late = self.late[usize::from(server)];
        let local = Truth::local(t);
        let error = self.random.random_range(-20_000..20_000);
        // A late server goes on as if there were no leap second for a while.
        let stepping = t >= self.truth.leap() && t < self.truth.leap() + late;
        let utc = self.truth.utc(t) + if stepping { self.truth.direction() * SECOND } else { 0 };
        let is_ahead = t < self.truth.leap();
        let says = if is_ahead { Announcement::Leap(self.truth.kind) } else { Announcement::NoLeap };
        self.leaps.hear(SourceId(server), says);
        let expected = self.pipeline.estimate(local).map(|estimate| estimate.offset);
        let measured = Offset::from_nanos(utc - local.as_nanos() + error);
        let sample = Sample {
            local,
            offset: self.leaps.normalise(local, measured, expected),
            delay: Span::from_micros(100),
            root_distance: Span::from_micros(50),
            temperature: None,
            source: SourceId(server),
        };
        if let Err(error) = self.pipeline.handle_sample(local, &sample) {
            panic!("{:?}, {t} s after midnight, server {server}: {error}; {expected:?}, {sample:?}", self.truth.kind);
        }
    }

    /// One turn of the daemon's loop, and its record.
    fn turn(&mut self, t: f64) -> ClockRecord {
        let now = Truth::local(t);
        let offset = self.pipeline.estimate(now).expect("synchronised").offset;
        let pipeline = &self.pipeline;
        let selected = |source| pipeline.verdict(source) == Some(Verdict::Selected);
        if let Some(event) = self.leaps.advance(now.to_utc(offset), selected) {
            if matches!(event, Event::Happened(_)) && self.policy == Policy::Utc {
                self.served.step();
            }
            self.events.push((t, event));
        }
        let target = self.pipeline.target(now).expect("synchronised");
        self.served.update(&self.leaps.serve(target))
    }

    /// Lives from `from` to `until`, in s after midnight, with a turn every `step`; gives every record and the time until the next.
    fn live(&mut self, from: f64, until: f64, step: f64, mut see: impl FnMut(f64, &ClockRecord, Truth)) {
        let (mut t, mut asked) = (from, from - 100.0);
        while t < until {
            if t - asked >= 32.0 {
                asked = t;
                (0..3).for_each(|server| self.ask(t, server));
            }
            let record = self.turn(t);
            see(t, &record, self.truth);
            t += step;
        }
    }
}

/// Readers between this record and the next are told the truth. Returns the error there, in ns.
fn judge(record: &ClockRecord, t: f64, step: f64, policy: Policy, truth: Truth) -> i64 {
    let mut worst = 0;
    for part in 0..8 {
        // A record is in force a little after it was made.
        let at = t + 0.000_2 + step * f64::from(part) / 8.0;
        let seen = record.advance(Truth::local(at));
        let error = seen.utc.as_nanos() - truth.served(policy, at);
        // The simulation itself is rounded to nanoseconds of seconds since 1970 in floating point.
        assert!(error.abs() <= seen.bound.half_width().as_nanos() + 100, "{error} ns, {at} s after midnight: {seen:?}");
        worst = worst.max(error.abs());
    }
    worst
}

#[test]
fn utc_steps_once_as_a_new_epoch_and_every_bound_contains_the_truth() {
    for kind in [LeapSecond::Insert, LeapSecond::Delete] {
        let mut daemon = Daemon::new(kind, Policy::Utc);
        // Two servers step late: a second and a half, and eight.
        daemon.late = [0.0, 1.5, 8.0];
        let (mut epochs, mut last, mut settled) = (Vec::new(), None, 0);
        // Turns fall 0.37 s after the full second: the leap is always noticed late.
        let step = 1.0;
        daemon.live(-2_399.63, 1_200.0, step, |t, record, truth| {
            let worst = judge(record, t, step, Policy::Utc, truth);
            if epochs.last() != Some(&record.epoch) {
                epochs.push(record.epoch);
            }
            // Within an epoch nothing goes back.
            if let Some((before, utc)) = last
                && before == record.epoch
            {
                assert!(record.utc >= utc, "{kind:?}: back at {t}");
            }
            last = Some((record.epoch, record.utc));
            let since = t - truth.leap();
            let bound = record.bound.half_width();
            if (-48.0..0.0).contains(&since) {
                assert!(bound > Span::from_secs(1), "{kind:?}: the leap is not in the bound {since} s after it");
            } else if !(-60.0..4.0).contains(&since) {
                assert!(
                    bound < Span::from_millis(20) && worst < 1_000_000,
                    "{kind:?}: {bound:?}, {worst} ns at {since}"
                );
                settled += 1;
            }
        });
        let kinds: Vec<_> = daemon.events.iter().map(|(_, event)| *event).collect();
        assert_eq!(kinds, [Event::Announced(kind), Event::Happened(kind)]);
        assert_eq!(epochs.len(), 2, "{kind:?}: {epochs:?}");
        assert!(settled > 3_000, "{settled}");
        let happened = daemon.events[1].0 - daemon.truth.leap();
        assert!((0.0..=1.0).contains(&happened), "{happened} s late");
        assert_eq!(daemon.pipeline.bound_conflicts(), 0, "the estimate never saw a step");
        println!("{kind:?}: noticed {happened:.2} s after it, as in this test it must be");
    }
}

/// The first and the last instant of a stretch, local and served, in ns.
#[derive(Default)]
struct Passage(Option<(i64, i64)>, (i64, i64));

impl Passage {
    fn see(&mut self, record: &ClockRecord, t: f64) {
        let local = Truth::local(t);
        self.1 = (local.as_nanos(), record.utc_at(local).as_nanos());
        self.0.get_or_insert(self.1);
    }

    /// How much faster the served clock was than the local one, on the whole.
    fn ppm(&self) -> f64 {
        let (first, last) = (self.0.expect("seen"), self.1);
        let (local, served) = (last.0 - first.0, last.1 - first.1);
        1e6 * (served - local) as f64 / local as f64
    }
}

#[test]
fn a_smear_is_one_smooth_line_from_noon_to_noon_within_half_a_second_of_utc() {
    for kind in [LeapSecond::Insert, LeapSecond::Delete] {
        let mut daemon = Daemon::new(kind, Policy::Smear);
        let (mut epochs, mut farthest) = (Vec::new(), 0);
        let (mut smeared, mut after) = (Passage::default(), Passage::default());
        let step = 16.0;
        daemon.live(-46_800.0, 46_800.0, step, |t, record, truth| {
            let worst = judge(record, t, step, Policy::Smear, truth);
            if t > -46_000.0 {
                assert!(worst < 2_000_000, "{kind:?}: {worst} ns at {t}");
            }
            // Away from where the smear begins and ends, and the served clock catches up.
            if t.abs() < 42_000.0 {
                smeared.see(record, t);
            } else if t > 44_500.0 {
                after.see(record, t);
            }
            if epochs.last() != Some(&record.epoch) {
                epochs.push(record.epoch);
            }
            farthest = farthest.max((record.utc_at(Truth::local(t)).as_nanos() - truth.utc(t)).abs());
        });
        assert_eq!(epochs.len(), 1, "{kind:?}: {epochs:?}");
        assert!((499_000_000..502_000_000).contains(&farthest), "{kind:?}: {farthest} ns from UTC");
        // 1 s in a day is 11.57 ppm, slower when a second is inserted.
        let rates = (smeared.ppm(), after.ppm());
        let difference = (rates.0 - rates.1) * daemon.truth.direction() as f64;
        assert!((difference + 11.574).abs() < 0.5, "{kind:?}: {rates:?} ppm");
        let end = daemon.turn(46_801.0);
        assert_eq!(end.tier, Tier::Filter);
        assert!((end.utc_at(Truth::local(46_801.0)).as_nanos() - daemon.truth.utc(46_801.0)).abs() < 1_000_000);
        assert_eq!(daemon.pipeline.bound_conflicts(), 0);
    }
}

/// The daemon dies before the leap and its page stays: readers go on with it, and lose the bound before it would be wrong.
#[test]
fn a_page_that_nobody_renews_over_the_leap_claims_nothing_wrong() {
    let widest = WidestGrowth::new(Rate::from_ppm(100.0), Rate::from_ppm(50.0));
    for kind in [LeapSecond::Insert, LeapSecond::Delete] {
        for died in [3_000.0, 400.0, 61.0, 50.0, 47.0, 5.0, 0.5] {
            let mut daemon = Daemon::new(kind, Policy::Utc);
            let mut last = None;
            let end = daemon.truth.leap() - died;
            daemon.live(end - 600.0, end, 1.0, |_, record, _| last = Some(*record));
            let record = last.expect("lived");
            let scale = CounterScale::NANOS;
            let page = ClockPage::encode(&record, &scale);
            for seconds in 0..20_000 {
                let at = end + f64::from(seconds) / 4.0;
                let reading = page.time_at(scale.ticks(Truth::local(at)), widest);
                let error = (reading.utc().as_nanos() - daemon.truth.utc(at)).abs();
                let bound = reading.bound();
                assert!(
                    !bound.is_bounded() || error <= bound.half_width().as_nanos() + 100,
                    "{kind:?}: died {died} s before it, {} s after it: {error} ns, {reading:?}",
                    at - daemon.truth.leap()
                );
            }
        }
    }
}

/// The counter is disturbed (a suspension over the leap): the estimate starts afresh on UTC as it is then.
#[test]
fn a_suspension_over_the_leap_starts_afresh() {
    let kind = LeapSecond::Insert;
    let mut daemon = Daemon::new(kind, Policy::Utc);
    daemon.live(-900.0, -100.0, 1.0, |t, record, truth| {
        judge(record, t, 1.0, Policy::Utc, truth);
    });
    daemon.pipeline.handle_discontinuity();
    daemon.leaps.reset();
    daemon.live(300.0, 600.0, 1.0, |t, record, truth| {
        judge(record, t, 1.0, Policy::Utc, truth);
    });
    assert_eq!(daemon.leaps.announced(), None);
    assert_eq!(daemon.leaps.utc_less_continuous(), Span::ZERO);
}

/// A minority announces a leap second that there is none of: nothing happens.
#[test]
fn a_minority_that_announces_is_not_followed() {
    let mut daemon = Daemon::new(LeapSecond::Insert, Policy::Utc);
    daemon.live(-2_000.0, -1_000.0, 1.0, |_, _, _| {});
    (1..3).for_each(|server| daemon.leaps.hear(SourceId(server), Announcement::NoLeap));
    daemon.turn(-1_000.0);
    assert!(matches!(daemon.events[..], [(_, Event::Announced(_)), (_, Event::Withdrawn(_))]), "{:?}", daemon.events);
    for t in [-10.0, -0.5, 0.5, 10.0] {
        let record = daemon.turn(t);
        let straight = MIDNIGHT * SECOND + nanos(t);
        let error = (record.utc_at(Truth::local(t)).as_nanos() - straight).abs();
        assert!(error <= record.bound.half_width().as_nanos() && error < 100_000_000, "{error} ns at {t}");
    }
}
