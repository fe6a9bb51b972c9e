//! Assumptions break, servers fall silent, workers die: what is served afterwards is right again, and says what it is.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use chronotick_core::fallback::{Reason, Tier};
use chronotick_core::forecast::{Forecast, ForecastRequest, Model};
use chronotick_core::units::Local;
use chronotick_core::{Config, Offset, Pipeline, Rate, Sample, SourceId, Span, Temperature, Timestamp};
use chronotick_tests::outcome::HORIZONS;
use chronotick_tests::run::run;
use chronotick_tests::scenario::{Family, Scenario};

const SECOND: i64 = 1_000_000_000;

fn at(seconds: i64) -> Timestamp<Local> {
    Timestamp::from_nanos(seconds * SECOND)
}

fn sample(seconds: i64, source: u8, offset: i64) -> Sample {
    Sample {
        local: at(seconds),
        offset: Offset::from_nanos(offset),
        delay: Span::from_micros(200),
        root_distance: Span::from_micros(20),
        temperature: None,
        source: SourceId(source),
    }
}

/// Honest servers, one after the other, and a rate that changes for good by more than is assumed. All of them together say so; they are
/// not to be taken for liars, each by the others, for ever.
#[test]
fn servers_are_believed_again_after_the_oscillator_broke_its_assumptions() {
    for servers in 2_u8..=4 {
        for ppm in [70, 100, 200] {
            let mut pipeline: Pipeline = Pipeline::new(Config { sources: servers, ..Config::default() });
            let (changed, mut accepted) = (21_600, 0);
            for i in 0_i64..4000 {
                let now = i * 16;
                let offset = (now - changed).max(0) * ppm * 1000;
                let source = u8::try_from(i % i64::from(servers)).unwrap();
                if pipeline.handle_sample(at(now), &sample(now, source, offset)).is_ok() {
                    assert!(
                        now - accepted < 120,
                        "{servers} servers, {ppm} ppm: nobody believed from {accepted} to {now} s"
                    );
                    accepted = now;
                }
                if now > changed + 300 {
                    let told = pipeline.estimate(at(now)).unwrap();
                    let (off, bound) = ((told.offset.as_nanos() - offset).abs(), told.bound.half_width().as_nanos());
                    assert!(off <= bound, "{servers} servers, {ppm} ppm, {now} s: {off} ns off, {bound} claimed");
                }
            }
            assert_eq!(accepted, 3999 * 16);
            assert_eq!(pipeline.bound_conflicts(), 1, "{servers} servers, {ppm} ppm");
        }
    }
}

/// Of four servers only a liar of 13 ms and one that tells the truth are heard for long, and the liar pulls the clock away at a rate that it is
/// not. Once another one contradicts that rate, what has been said minutes before is not moved by it any more.
#[test]
fn a_rate_that_was_a_lie_moves_no_vote_once_it_is_found_out() {
    let mut pipeline: Pipeline = Pipeline::new(Config { sources: 4, ..Config::default() });
    let mut found_out = 0;
    let heard = [
        (0, 0),
        (1923, 2),
        (1960, 0),
        (1962, 1),
        (1985, 2),
        (2023, 0),
        (2026, 1),
        (2051, 2),
        (2083, 0),
        (2090, 1),
        (2114, 2),
    ];
    for (now, source) in heard {
        let _ = pipeline.handle_sample(at(now), &one_of_three(now, source));
        if pipeline.bound_conflicts() > 0 {
            found_out += 1;
            let told = pipeline.estimate(at(now)).unwrap();
            assert!(told.offset.as_nanos().abs() <= told.bound.half_width().as_nanos(), "{now} s: {told:?}");
        }
    }
    assert!(found_out > 3, "{found_out}");
}

/// Of three servers a liar and a vague one are heard at the start, and are of one mind. What they have decided is no longer believed once the
/// third is heard, which would never contradict it.
#[test]
fn what_some_have_decided_is_decided_anew_when_another_is_heard() {
    let mut pipeline: Pipeline = Pipeline::new(Config { sources: 3, ..Config::default() });
    for i in 0..200_u8 {
        let (now, source) = (i64::from(i) * 5, i % 3);
        if source == 2 && now < 60 {
            continue;
        }
        let _ = pipeline.handle_sample(at(now), &one_of_three(now, source));
        if now >= 15 {
            let told = pipeline.estimate(at(now)).unwrap();
            let (off, bound) = (told.offset.as_nanos().abs(), told.bound.half_width().as_nanos());
            assert_eq!(off <= bound, now >= 70, "{now} s: {told:?}");
        }
    }
    assert_eq!(pipeline.bound_conflicts(), 0);
}

/// A liar of 13 ms, a server that is too vague to contradict it, and one that is not.
fn one_of_three(now: i64, source: u8) -> Sample {
    let (offset, half) = [(13_000_000, 70_000), (700_000, 48_000_000), (0, 1_900_000)][usize::from(source)];
    Sample { root_distance: Span::from_nanos(half), ..sample(now, source, offset) }
}

/// A liar cannot make the others' assumptions look broken.
#[test]
fn one_liar_breaks_no_assumption() {
    let mut pipeline: Pipeline = Pipeline::new(Config { sources: 3, ..Config::default() });
    for i in 0_i64..3000 {
        let (now, liar) = (i * 16, i % 3 == 2);
        let offset = if liar { i * i % 7 * 100_000_000 - 300_000_000 } else { 0 };
        let _ = pipeline.handle_sample(at(now), &sample(now, u8::try_from(i % 3).unwrap(), offset));
    }
    assert_eq!(pipeline.bound_conflicts(), 0);
    let told = pipeline.estimate(at(2999 * 16)).unwrap();
    assert!(told.offset.as_nanos().abs() < 10_000, "{told:?}");
}

/// Patience is four usual intervals, and an outage is not usual.
#[test]
fn an_outage_is_no_reason_to_be_patient_with_the_next() {
    let mut pipeline: Pipeline = Pipeline::new(Config::default());
    for now in (0..3600).chain([100_000]) {
        pipeline.handle_sample(at(now), &sample(now, 0, 0)).unwrap();
    }
    assert_eq!(pipeline.estimate(at(100_060)).unwrap().tier, Tier::Filter);
    assert_eq!(pipeline.estimate(at(100_090)).unwrap().tier, Tier::Holdover);
    // One that has always been polled rarely is fresh for as long.
    let mut pipeline: Pipeline = Pipeline::new(Config::default());
    for i in 0..40 {
        let now = i * 1024;
        pipeline.handle_sample(at(now), &sample(now, 0, 0)).unwrap();
        assert!(i < 2 || pipeline.estimate(at(now + 1024)).unwrap().tier == Tier::Filter, "{i}");
    }
}

/// The truth of [`a_dead_worker_is_not_fused`], s.
fn wave(seconds: f64) -> f64 {
    let turn = core::f64::consts::TAU / 5400.0;
    3e-7 / turn * (1.0 - (turn * seconds).cos())
}

/// A model's answer that tells the truth, and is sure of it.
#[allow(clippy::cast_possible_truncation, reason = "forecasts are f32")]
fn answer(pipeline: &Pipeline, request: &ForecastRequest<256, 128>) -> Forecast {
    let origin = request.origin.as_nanos() as f64 * 1e-9;
    let line = pipeline.line_offset().unwrap().as_secs_f64();
    let mut quantiles = heapless::Vec::new();
    for k in 1..=request.model.steps() {
        let h = k as f64 * request.step.as_secs_f64() * request.model.stride() as f64;
        let median = (wave(origin + h) - line - request.rate.value() * h) as f32;
        let deviation = 1e-6 + 1e-9 * h as f32;
        let _ = quantiles.push(core::array::from_fn(|i| median + deviation * (i as f32 - 4.0) / 2.0));
    }
    Forecast { id: request.id, model: request.model, hash: [0; 8], quantiles }
}

#[test]
fn a_dead_worker_is_not_fused() {
    let mut pipeline: Pipeline = Pipeline::new(Config::default());
    let (died, mut changes, mut tier) = (40_000, 0, Tier::Filter);
    for now in (0..died + 20_000).step_by(16) {
        let noise = now * 7919 % 4001 - 2000;
        let offset = Offset::from_secs_f64(wave(now as f64)).saturating_add(Span::from_nanos(noise));
        pipeline.handle_sample(at(now), &sample(now, 0, offset.as_nanos())).unwrap();
        pipeline.set_worker_alive(now < died);
        while let Some(request) = pipeline.poll_request(at(now)) {
            if now < died {
                let forecast = answer(&pipeline, &request);
                pipeline.handle_forecast(at(now), &forecast).unwrap();
            }
        }
        pipeline.handle_timeout(at(now));
        let told = pipeline.estimate(at(now)).unwrap();
        changes += u32::from(told.tier != tier);
        tier = told.tier;
        if now == died {
            assert_eq!((told.tier, told.reason), (Tier::Fused, Reason::Nominal));
        }
    }
    let told = pipeline.estimate(at(died + 20_000 - 16)).unwrap();
    assert_eq!((told.tier, told.reason), (Tier::Filter, Reason::WorkerDown));
    assert_eq!(changes, 2, "up once and down once");
}

/// An answer is served at once, whether or not somebody has asked for the time since the last exchange.
#[test]
fn an_answer_counts_from_when_it_comes() {
    let mut pipeline: Pipeline = Pipeline::new(Config::default());
    for now in (0..80_000).step_by(16) {
        let offset = Offset::from_secs_f64(wave(now as f64));
        pipeline.handle_sample(at(now), &sample(now, 0, offset.as_nanos())).unwrap();
        while let Some(request) = pipeline.poll_request(at(now)) {
            let later = at(now + 3600);
            let before = pipeline.estimate(later).unwrap();
            let forecast = answer(&pipeline, &request);
            pipeline.handle_forecast(at(now), &forecast).unwrap();
            if now > 40_000 && request.model == Model::Far {
                assert_ne!(pipeline.estimate(later).unwrap().offset, before.offset);
                return;
            }
        }
    }
    panic!("the far model was not asked");
}

/// Ten days back, as a counter may jump: what was learnt of the experts stays, and weighs neither more nor less for it.
#[test]
fn a_counter_that_has_jumped_back_leaves_the_skills_as_they_are() {
    const JUMP: i64 = 10 * 86_400;
    let mut pipeline: Pipeline = Pipeline::new(Config::default());
    let mut exchanges = |from: i64, noise: i64| {
        for now in (from..from + 20_000).step_by(16) {
            pipeline.handle_sample(at(now), &sample(now, 0, noise * (now * 7919 % 41 - 20))).unwrap();
        }
        let seen = (pipeline.poll_timeout(), pipeline.fusion().skill(2, 5).unwrap());
        pipeline.handle_discontinuity();
        seen
    };
    let (_, before) = exchanges(JUMP, 1_000);
    // Ten times as noisy from now on, and that is noticed.
    let (wakes, after) = exchanges(0, 10_000);
    assert!(after > 3.0 * before, "{after} s, {before} s before");
    assert!(wakes < Some(at(JUMP)), "no timeout is ten days off");
}

/// A rate that has hardly ever changed steps. The experts that were best by then go on being wrong, and how far they and the others are
/// apart is no reason to learn nothing of it.
#[test]
fn a_step_of_the_rate_is_followed_by_those_who_follow() {
    const STEP: i64 = 15_000;
    // The noise of the exchanges and the step, either way and per second, both in ns; the one with a thermometer that tells nothing.
    for (noise, step, thermometer) in [(500, 2_000, false), (2_000, 500, true)] {
        let mut pipeline: Pipeline = Pipeline::new(Config::default());
        let truth = |now: i64| (now - STEP).max(0) * step;
        for now in (0..STEP + 9_000).step_by(32) {
            let random = (now * 7919 + now * now % 1013) % 4001 - 2000;
            let temperature = thermometer.then(|| Temperature::new(28.0 + (now as f64 / 86.0).sin()));
            let exchange = sample(now, 0, truth(now) + noise * random / 2000);
            pipeline.handle_sample(at(now), &Sample { temperature, ..exchange }).unwrap();
            for ahead in [0, 64, 256] {
                let told = pipeline.estimate(at(now + ahead)).unwrap();
                let error = (told.offset.as_nanos() - truth(now + ahead)).abs();
                let most = if now < STEP + 1_200 { i64::MAX } else { 20 * noise };
                assert!(error <= most, "{ahead} s ahead at {now} s: {error} ns with {noise} and {step}, {told:?}");
            }
        }
    }
}

/// A line that runs away from the truth faster than the largest rate is told to grow so fast, for as long as a reader may go on with it.
#[test]
fn a_line_that_is_left_alone_stays_true() {
    let config = Config {
        max_rate: Rate::from_ppm(20.0),
        max_drift: Rate::from_ppm(40.0),
        void_after: Span::from_secs(60),
        ..Config::default()
    };
    let mut pipeline: Pipeline = Pipeline::new(config);
    // The last but one says that the truth is not far below what the others say, and may be far above it.
    for now in (0..=600).step_by(20) {
        let more = if now == 580 { 1_500_000 } else { 0 };
        let vague = Sample { root_distance: Span::from_millis(3), ..sample(now, 0, now * 20_000 + more) };
        pipeline.handle_sample(at(now), &vague).unwrap();
    }
    let target = pipeline.target(at(600)).unwrap();
    for age in [30, 60, 600, 24 * 60] {
        let growth = if age > 60 { target.bound_growth.value().max(20e-6) } else { target.bound_growth.value() };
        let before = target.bound_growth.over(Span::from_secs(age.min(60)));
        let told = target
            .bound
            .half_width()
            .saturating_add(before)
            .saturating_add(Rate::new(growth).over(Span::from_secs((age - 60).max(0))));
        let line = target.offset.saturating_add(target.rate.over(Span::from_secs(age)));
        // What may be true by the assumptions: a millisecond below by now, and the largest rate the other way.
        let truth = Offset::from_nanos(600 * 20_000 - 1_000_000 - 20_000 * age);
        let away = line.since(truth).abs();
        assert!(away <= told, "after {age} s: {away:?} off, {told:?} told");
    }
}

/// Liars among honest servers, in worlds that were found so: what is expected minutes ahead had been judged for hours by the few exchanges of theirs
/// that were believed, 10, 9 and 7 ms off where single experts were off by microseconds.
#[test]
fn a_few_exchanges_of_a_liar_do_not_outweigh_the_others_for_hours() {
    for (family, seed) in [(Family::Minority, 7_000_780), (Family::Wire, 7_001_590), (Family::Wire, 7_002_322)] {
        let outcome = run(&Scenario::of_family(family, seed, 6.0));
        for (tally, horizon) in outcome.tallies.iter().zip(HORIZONS).take_while(|(_, horizon)| *horizon <= 1024.0) {
            let rmse = (tally.squares / f64::from(tally.count)).sqrt();
            assert!(rmse < 2e-5, "{} {seed}, {horizon} s ahead: {rmse} s", family.name());
        }
    }
}
