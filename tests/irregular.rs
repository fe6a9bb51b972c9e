//! Exchanges that are rare, outages, steps of the reference, a thermometer that errs, days without a server: what is not the rule must not
//! spoil what has been learnt, nor make vague what is known.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use chronotick_core::selection::Verdict;
use chronotick_core::units::Local;
use chronotick_core::{Config, Offset, Pipeline, Sample, SourceId, Span, Temperature, Timestamp};

const SECOND: i64 = 1_000_000_000;
const HOUR: i64 = 3600;
const DAY: i64 = 24 * HOUR;

fn at(seconds: i64) -> Timestamp<Local> {
    Timestamp::from_nanos(seconds * SECOND)
}

/// An exchange over a quiet network: off by up to 20 us, the same in every run.
fn exchange(seconds: i64, truth: f64) -> Sample {
    let noise = (seconds * 7919 + seconds * seconds % 1013) % 40_001 - 20_000;
    Sample {
        local: at(seconds),
        offset: Offset::from_secs_f64(truth).saturating_add(Span::from_nanos(noise)),
        delay: Span::from_micros(200),
        root_distance: Span::from_micros(20),
        temperature: None,
        source: SourceId(0),
    }
}

/// The offset of an oscillator whose rate swings by `swing` s/s on both sides of `rate` within a day.
fn daily(seconds: i64, rate: f64, swing: f64) -> f64 {
    let turn = core::f64::consts::TAU / DAY as f64;
    let seconds = seconds as f64;
    rate * seconds + swing / turn * (1.0 - (turn * seconds).cos())
}

/// How far the forecast `ahead` s after `now` is off, s, and the half-widths of what is claimed, s.
fn forecast(pipeline: &Pipeline, now: i64, ahead: i64, truth: impl Fn(i64) -> f64) -> (f64, f64, f64) {
    let told = pipeline.estimate(at(now + ahead)).unwrap();
    let off = (told.offset.as_nanos() as f64 * 1e-9 - truth(now + ahead)).abs();
    let (interval, bound) = (told.interval.half_width().as_secs_f64(), told.bound.half_width().as_secs_f64());
    assert!(off <= bound, "{ahead} s ahead of {now} s: {off} s off, {bound} s promised");
    (off, interval, bound)
}

/// Polled every six or every seventeen minutes, no forecast of a minute is ever old enough when the next exchange comes, and none young
/// enough. It is judged all the same: that the rate may be none is found out, and no width is made of it.
#[test]
fn rare_exchanges_make_nothing_vague() {
    for poll in [390, 1024] {
        let mut pipeline: Pipeline = Pipeline::new(Config::default());
        let truth = |seconds: i64| 1e-5 * seconds as f64;
        for now in (0..3 * DAY).step_by(usize::try_from(poll).unwrap()) {
            pipeline.handle_sample(at(now), &exchange(now, truth(now))).unwrap();
            for ahead in [0, 64, 256].into_iter().filter(|_| now > DAY) {
                let (off, interval, _) = forecast(&pipeline, now, ahead, truth);
                assert!(
                    interval < 1.8e-5,
                    "every {poll} s, {ahead} s ahead of {now} s: {interval} s claimed, {off} s off"
                );
            }
        }
    }
}

/// After hours without a server the rate is the one from before, and says nothing of the hour that it is met in.
#[test]
fn an_outage_leaves_the_day_as_it_was() {
    let mut pipeline: Pipeline = Pipeline::new(Config::default());
    let truth = |seconds: i64| daily(seconds, 1e-5, 3e-7);
    // A night without a server, between the extremes of the rate.
    let (lost, found) = (3 * DAY + 18 * HOUR, 4 * DAY + 3 * HOUR);
    let mut worst = [0.0_f64; 3];
    for now in (0..6 * DAY).step_by(64).filter(|now| !(lost..found).contains(now)) {
        pipeline.handle_sample(at(now), &exchange(now, truth(now))).unwrap();
        // A quarter of an hour for the rate to be found again.
        let hour = (now % DAY - HOUR / 4) / HOUR;
        let case = match now / DAY {
            3 if (3..5).contains(&hour) => 0,
            4 if (3..5).contains(&hour) => 1,
            5 if (2..4).contains(&hour) => 2,
            _ => continue,
        };
        worst[case] = worst[case].max(forecast(&pipeline, now, 14_400, truth).0);
    }
    assert!(worst[1] < 4.0 * worst[0] && worst[2] < 3.0 * worst[0], "before, just after and a day after: {worst:?}");
}

/// That the reference has stepped says nothing of the oscillator, and is nobody's error.
#[test]
fn a_step_of_the_reference_is_no_error_of_the_forecasts() {
    let mut pipeline: Pipeline = Pipeline::new(Config::default());
    let stepped = 4 * DAY + 100;
    let truth = |seconds: i64| daily(seconds, 1e-5, 3e-7) + if seconds > stepped { 0.1 } else { 0.0 };
    let (mut before, mut after) = (0.0_f64, 0.0_f64);
    for now in (0..4 * DAY + 12 * HOUR).step_by(64) {
        let _ = pipeline.handle_sample(at(now), &exchange(now, truth(now)));
        if (3 * DAY + 4 * HOUR..3 * DAY + 8 * HOUR).contains(&now) {
            before = before.max(forecast(&pipeline, now, 14_400, truth).0);
        }
        if now > 4 * DAY + 4 * HOUR && now < 4 * DAY + 8 * HOUR {
            after = after.max(forecast(&pipeline, now, 14_400, truth).0);
        }
        if now > stepped + 1800 {
            let (_, interval, _) = forecast(&pipeline, now, 64, truth);
            assert!(interval < 2e-4, "at {now} s: {interval} s claimed");
        }
    }
    assert!(after < 2.0 * before, "{before} s off before, {after} s after");
}

/// A thermometer that says 85 degrees once, as some do when their power has failed, is not believed; one that goes on saying so is.
#[test]
fn one_wild_temperature_is_not_believed() {
    let celsius = |seconds: i64| 25.0 + 3.0 * (seconds as f64 / 1500.0).sin();
    // 5e-8 per degree, about 25.
    let truth = |seconds: i64| 1.5e-7 * 1500.0 * (1.0 - (seconds as f64 / 1500.0).cos());
    let worst = |wild: &dyn Fn(i64) -> bool| {
        let (mut pipeline, mut worst): (Pipeline, _) = (Pipeline::new(Config::default()), 0.0_f64);
        for now in (0..DAY).step_by(16) {
            let told = if wild(now) { 85.0 } else { celsius(now) };
            let sample = Sample { temperature: Some(Temperature::new(told)), ..exchange(now, truth(now)) };
            pipeline.handle_sample(at(now), &sample).unwrap();
            if now > 16 * HOUR {
                worst = worst.max(forecast(&pipeline, now, 256, truth).0);
            }
        }
        worst
    };
    let never = worst(&|_| false);
    let once = worst(&|now| now == 16 * HOUR);
    assert!(once < 1.5 * never, "{once} s off, {never} s with a thermometer that never errs");
    let always = worst(&|now| now >= 16 * HOUR);
    assert!(always > 2.0 * never, "{always} s off");
}

/// Nobody has answered for a day, and the day goes on as it did yesterday.
#[test]
fn a_day_is_foreseen_beyond_the_last_horizon() {
    let mut pipeline: Pipeline = Pipeline::new(Config::default());
    let truth = |seconds: i64| daily(seconds, 1e-5, 2e-7);
    let mut last = [0.0_f64; 2];
    for now in (0..4 * DAY).step_by(64) {
        pipeline.handle_sample(at(now), &exchange(now, truth(now))).unwrap();
        if now > 3 * DAY && now % (3 * HOUR) < 64 {
            for ahead in [12 * HOUR, DAY, 2 * DAY] {
                let (off, interval, _) = forecast(&pipeline, now, ahead, truth);
                // A straight line is off by up to twelve milliseconds a day, the swing itself by five.
                assert!(off < 4e-3 && off < interval, "{ahead} s ahead of {now} s: {off} s off, {interval} s claimed");
            }
        }
    }
    for ahead in (14_300..3 * DAY).step_by(100) {
        let (_, interval, bound) = forecast(&pipeline, 4 * DAY - 64, ahead, truth);
        assert!(interval >= last[0] && bound >= last[1], "{ahead} s ahead: nothing shrinks");
        last = [interval, bound];
    }
}

/// One of three servers lies after a night without a network, in which it is the first to be heard again and again, and decides nothing. One that
/// lies from the start decides nothing when it is the only one left.
#[test]
fn the_first_and_the_last_to_be_heard_decide_nothing_alone() {
    for honest in [true, false] {
        let mut pipeline: Pipeline = Pipeline::new(Config { sources: 3, ..Config::default() });
        let mut hear = |now: i64, source: u8| {
            // The one who comes back first has told the truth before; the one who is left over never has.
            let lie = if source == 2 && (now >= 6 * HOUR || !honest) { 0.3 } else { 0.0 };
            let heard = pipeline.handle_sample(at(now), &Sample { source: SourceId(source), ..exchange(now, lie) });
            assert!(now < 5 || forecast(&pipeline, now, 0, |_| 0.0).2 < 10.0, "{now} s: within the bound");
            assert!(lie == 0.0 || heard.is_err(), "{now} s");
            (heard.is_ok(), pipeline.verdict(SourceId(0)))
        };
        for now in (0..HOUR).step_by(16) {
            let _ = (hear(now, 0), hear(now + 1, 1), hear(now + 2, 2));
        }
        let back = 6 * HOUR;
        for now in (back..back + if honest { 120 } else { 6 * HOUR }).step_by(4) {
            assert_eq!(hear(now, 2).1, Some(Verdict::Undecided));
        }
        if honest {
            assert!(!hear(back + 121, 0).0, "one word against another");
            assert!(hear(back + 122, 1).0, "two");
        }
    }
}
