//! Properties of the correction mathematics, through the pipeline's public face.
//!
//! Seeds: proptest prints the failing case and keeps it in `proptest-regressions/`.

use chronotick_core::calibration::{Calibration, Scales};
use chronotick_core::estimator::Bank;
use chronotick_core::fusion::Fusion;
use chronotick_core::pipeline::WarmStart;
use chronotick_core::units::Local;
use chronotick_core::{Config, Offset, Pipeline, Rate, Sample, SourceId, Span, Temperature, Timestamp};
use proptest::prelude::*;

const SECOND: i64 = 1_000_000_000;

/// Feeds all samples, ignoring refusals, which must leave the state usable.
fn fed(samples: &[Sample]) -> Pipeline {
    let mut pipeline: Pipeline = Pipeline::new(Config::default());
    for sample in samples {
        let _ = pipeline.handle_sample(sample.local, sample);
    }
    pipeline
}

fn sample(local: i64, offset: i64, delay: i64) -> Sample {
    Sample {
        local: Timestamp::from_nanos(local),
        offset: Offset::from_nanos(offset),
        delay: Span::from_nanos(delay),
        root_distance: Span::from_micros(50),
        temperature: None,
        source: SourceId(0),
    }
}

/// A clock that loses `ppb` parts in 1e9, asked every 16 s over a network whose queues `noise` (ns each way) describes.
fn exchanges(ppb: i64, noise: &[(i64, i64)]) -> Vec<Sample> {
    (0i64..)
        .zip(noise)
        .map(|(i, &(out, back))| {
            let local = SECOND + 16 * SECOND * i;
            let truth = local / SECOND * ppb;
            sample(local, truth + (out - back) / 2, 100_000 + out + back)
        })
        .collect()
}

fn noise(length: std::ops::Range<usize>) -> impl Strategy<Value = Vec<(i64, i64)>> {
    prop::collection::vec((0i64..60_000, 0i64..60_000), length)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_constant_added_to_every_offset_shifts_every_prediction_by_it(
        noise in noise(20..80),
        ppb in -50_000i64..50_000,
        shift in -1_000_000_000_000_000_000i64..1_000_000_000_000_000_000,
    ) {
        let plain = exchanges(ppb, &noise);
        let shifted: Vec<Sample> = plain
            .iter()
            .map(|s| Sample { offset: Offset::from_nanos(s.offset.as_nanos() + shift), ..*s })
            .collect();
        let (a, b) = (fed(&plain), fed(&shifted));
        let last = plain[plain.len() - 1].local;
        for h in [0, 16, 256, 4096, 14_400] {
            let at = last.saturating_add(Span::from_secs(h));
            let (a, b) = (a.estimate(at).unwrap(), b.estimate(at).unwrap());
            // Two nanoseconds: the integer reference and the f64 remainder round apart.
            prop_assert!((b.offset.as_nanos() - a.offset.as_nanos() - shift).abs() <= 2, "{a:?} {b:?}");
            prop_assert!((b.interval.half_width().as_nanos() - a.interval.half_width().as_nanos()).abs() <= 2);
            prop_assert!((b.bound.half_width().as_nanos() - a.bound.half_width().as_nanos()).abs() <= 4);
        }
    }

    #[test]
    fn the_sign_of_the_world_is_the_sign_of_the_answer(noise in noise(20..60), ppb in -50_000i64..50_000) {
        let plain = exchanges(ppb, &noise);
        let mirrored: Vec<Sample> =
            plain.iter().map(|s| Sample { offset: Offset::from_nanos(-s.offset.as_nanos()), ..*s }).collect();
        let (a, b) = (fed(&plain), fed(&mirrored));
        let at = plain[plain.len() - 1].local.saturating_add(Span::from_secs(256));
        let (a, b) = (a.estimate(at).unwrap(), b.estimate(at).unwrap());
        // Rounding breaks the mirror by a nanosecond, and once in some ten thousand worlds it tips a choice between experts that are
        // equally good, by up to a hundredth of the interval; order statistics without rounding would not spare that.
        let tolerance = 2 + a.interval.half_width().as_nanos() / 100;
        prop_assert!((a.offset.as_nanos() + b.offset.as_nanos()).abs() <= tolerance, "{a:?} {b:?}");
    }

    #[test]
    fn intervals_and_bounds_grow_with_the_horizon_and_with_silence(noise in noise(8..80), ppb in -50_000i64..50_000) {
        let samples = exchanges(ppb, &noise);
        let pipeline = fed(&samples);
        let last = samples[samples.len() - 1].local;
        let mut before = pipeline.estimate(last).unwrap();
        for h in [1, 4, 16, 40, 64, 200, 256, 1000, 1024, 4096, 9000, 14_400, 40_000] {
            let now = pipeline.estimate(last.saturating_add(Span::from_secs(h))).unwrap();
            prop_assert!(now.interval >= before.interval, "at {h} s: {now:?} after {before:?}");
            prop_assert!(now.bound >= before.bound, "at {h} s: {now:?} after {before:?}");
            before = now;
        }
    }

    #[test]
    fn the_hard_bound_holds_the_truth_for_every_admissible_path(
        noise in noise(8..60),
        base in -400_000i64..400_000,
        swings in prop::collection::vec(-20_000i64..20_000, 60..61),
        silence in 1i64..20_000,
    ) {
        // The rate is `base` +- 20 ppm at all times: within max_rate (500 ppm) and max_drift (50 ppm between any two).
        let mut truth = 0i64;
        let mut samples = Vec::new();
        let mut local = SECOND;
        for (i, &(out, back)) in noise.iter().enumerate() {
            if i > 0 {
                truth += 16 * (base + swings[i % swings.len()]);
                local += 16 * SECOND;
            }
            samples.push(sample(local, truth + (out - back) / 2, 100_000 + out + back));
            let pipeline = fed(&samples);
            let estimate = pipeline.estimate(samples[i].local).unwrap();
            let miss = (estimate.offset.as_nanos() - truth).abs();
            prop_assert!(miss <= estimate.bound.half_width().as_nanos(), "sample {i}: off by {miss}, {estimate:?}");
        }
        let pipeline = fed(&samples);
        for swing in [-20_000, 20_000] {
            let at = samples[samples.len() - 1].local.saturating_add(Span::from_secs(silence));
            let there = truth + silence * (base + swing);
            let estimate = pipeline.estimate(at).unwrap();
            let miss = (estimate.offset.as_nanos() - there).abs();
            prop_assert!(miss <= estimate.bound.half_width().as_nanos(), "{silence} s on: off by {miss}, {estimate:?}");
        }
    }

    #[test]
    fn a_noiseless_clock_is_learnt_to_its_rate_in_either_direction_of_time(ppb in -300_000i64..300_000) {
        let silence = [(0, 0); 60];
        let forward = exchanges(ppb, &silence);
        let backward = exchanges(-ppb, &silence);
        for (samples, expected) in [(&forward, ppb), (&backward, -ppb)] {
            let rate = fed(samples).rate();
            let error = (rate - Rate::from_ppb(expected as f64)).value().abs();
            // The delays are all alike, so the filters must still allow for the 5 % they are assumed to vary by.
            prop_assert!(error < 20e-9, "{rate:?} instead of {expected} ppb");
        }
    }

    #[test]
    fn a_rate_that_is_known_beforehand_is_good_after_one_exchange(ppb in -100_000i64..100_000, noise in noise(3..4)) {
        let samples = exchanges(ppb, &noise);
        let mut warm: Pipeline = Pipeline::new(Config::default());
        let known = WarmStart { rate: Rate::from_ppb(ppb as f64), deviation: Rate::from_ppb(50.0) };
        warm.begin_with(known);
        for sample in &samples {
            warm.handle_sample(sample.local, sample).expect("in order");
        }
        // Queues of 30 us over half a minute could pull the rate by 1,000 ppb.
        let error = 1e9 * warm.rate().value() - ppb as f64;
        prop_assert!(error.abs() < 200.0, "{error} ppb");
        // A rate that the configuration excludes is not begun with.
        let mut cold: Pipeline = Pipeline::new(Config::default());
        cold.begin_with(WarmStart { rate: Rate::from_ppm(2_000.0), ..known });
        cold.handle_sample(samples[0].local, &samples[0]).expect("good");
        prop_assert!(cold.rate().as_ppm().abs() < 500.0);
    }

    #[test]
    fn the_order_of_simultaneous_samples_hardly_matters(noise in noise(80..120), ppb in -50_000i64..50_000) {
        let samples = exchanges(ppb, &noise);
        let at = samples[samples.len() - 1].local.saturating_add(Span::from_secs(16));
        let truth = at.as_nanos() / SECOND * ppb;
        let (one, two) = (sample(at.as_nanos(), truth + 3_000, 110_000), sample(at.as_nanos(), truth - 2_000, 120_000));
        let ends = |first: &Sample, second: &Sample| {
            let mut pipeline = fed(&samples);
            for sample in [first, second] {
                pipeline.handle_sample(at, sample).expect("both are as good as those before");
            }
            pipeline.estimate(at).expect("it was fed")
        };
        let (a, b) = (ends(&one, &two), ends(&two, &one));
        // The filters commute; the delay statistics and the gate see one before the other, which matters while they are young:
        // once in thousands they end further apart than one interval reaches, though not than both do.
        let apart = (a.offset.as_nanos() - b.offset.as_nanos()).abs();
        let reach = a.interval.half_width().as_nanos() + b.interval.half_width().as_nanos();
        prop_assert!(apart <= reach, "{apart} ns apart: {a:?} {b:?}");
    }

    /// A route of some milliseconds more, however they are split between the two ways, for twenty minutes: the clock goes on.
    #[test]
    fn a_path_that_becomes_longer_moves_nothing(
        noise in noise(220..260),
        ppb in -50_000i64..50_000,
        more in (0i64..4_000_000, 0i64..4_000_000),
    ) {
        prop_assume!(more.0 + more.1 > 500_000);
        let detour = 120..190;
        let around: Vec<(i64, i64)> = (0..)
            .zip(&noise)
            .map(|(i, &(out, back))| if detour.contains(&i) { (out + more.0, back + more.1) } else { (out, back) })
            .collect();
        let samples = exchanges(ppb, &around);
        // Before it, in the nine minutes until it is seen to be another path, on it, and back.
        for end in [detour.start, 140, 146, 149, 151, 153, detour.end, samples.len()] {
            let last = samples[end - 1].local;
            let estimate = fed(&samples[..end]).estimate(last).expect("it was fed");
            let error = (estimate.offset.as_nanos() - last.as_nanos() / SECOND * ppb).abs();
            // On the short path little more than the queues make of it, on the longer one a few times as much; half the difference
            // of the two ways is up to six times that.
            let most = if end == detour.start || end == samples.len() { 100_000 } else { 350_000 };
            prop_assert!(error < most, "{error} ns after {end} exchanges, {more:?} ns more");
        }
    }

    /// The same route, again and again: what it adds is known once it has come back.
    #[test]
    fn a_path_that_comes_and_goes_is_known(
        noise in noise(600..640),
        ppb in -50_000i64..50_000,
        more in (0i64..4_000_000, 0i64..4_000_000),
        spells in (40usize..90, 40usize..90),
    ) {
        prop_assume!(more.0 + more.1 > 500_000);
        let is_longer = |i: usize| i % (spells.0 + spells.1) >= spells.0;
        let around: Vec<(i64, i64)> = (0..)
            .zip(&noise)
            .map(|(i, &(out, back))| if is_longer(i) { (out + more.0, back + more.1) } else { (out, back) })
            .collect();
        let mut pipeline: Pipeline = Pipeline::new(Config::default());
        for (i, sample) in exchanges(ppb, &around).iter().enumerate() {
            pipeline.handle_sample(sample.local, sample).expect("in order");
            let estimate = pipeline.estimate(sample.local).expect("it was fed");
            let error = (estimate.offset.as_nanos() - sample.local.as_nanos() / SECOND * ppb).abs();
            prop_assert!(i < 400 || error < 300_000, "{error} ns after {i} exchanges, {more:?} ns more");
        }
    }

    #[test]
    fn nothing_poisons_the_state(
        wild in prop::collection::vec(
            (any::<i64>(), any::<i64>(), any::<i64>(), any::<i64>(), prop::option::of(any::<f64>()), any::<u8>()),
            0..30,
        ),
        ppb in -50_000i64..50_000,
    ) {
        let mut pipeline: Pipeline = Pipeline::new(Config::default());
        for &(local, offset, delay, root, temperature, source) in &wild {
            let wild = Sample {
                local: Timestamp::from_nanos(local),
                offset: Offset::from_nanos(offset),
                delay: Span::from_nanos(delay),
                root_distance: Span::from_nanos(root),
                temperature: temperature.map(Temperature::new),
                source: SourceId(source),
            };
            let _ = pipeline.handle_sample(Timestamp::from_nanos(local), &wild);
            let _ = pipeline.estimate(Timestamp::<Local>::from_nanos(offset));
            let _ = pipeline.target(Timestamp::<Local>::from_nanos(delay));
        }
        // After a break the same pipeline must work like a new one.
        pipeline.handle_discontinuity();
        let samples = exchanges(ppb, &[(10_000, 20_000); 40]);
        for sample in &samples {
            pipeline.handle_sample(sample.local, sample).unwrap();
        }
        let last = samples[samples.len() - 1].local;
        let estimate = pipeline.estimate(last).unwrap();
        let miss = (estimate.offset.as_nanos() - last.as_nanos() / SECOND * ppb).abs();
        prop_assert!(miss <= estimate.bound.half_width().as_nanos(), "off by {miss} ns: {estimate:?}");
        prop_assert!(miss <= 100_000, "off by {miss} ns: {estimate:?}");
    }
}

/// A host's pipeline that knows neither of days nor of cycles.
type Patternless = Pipeline<Bank<12, 4, 3, 0, 0>, Fusion<33, 7, 64, 96, 2>>;

/// RMS error in ns of the forecasts of `$ahead` s by a clock whose rate goes round by 0.1 ppm in `$period` s, over the last two fifths
/// of 4,500 exchanges, one every `$poll` s.
macro_rules! error_of_a_cycle {
    ($pipeline:expr, $period:expr, $poll:expr, $ahead:expr) => {{
        let (mut pipeline, period): (_, f64) = ($pipeline, $period);
        let phase = |local: i64| std::f64::consts::TAU * local as f64 / (period * 1e9);
        let swing = 1e-7 * period / std::f64::consts::TAU;
        let truth = |local: i64| Offset::from_secs_f64(swing * phase(local).sin()).as_nanos();
        let (mut sum, mut count) = (0.0f64, 0u32);
        for i in 0..4500i64 {
            let local = SECOND + $poll * SECOND * i;
            // Queues of up to 60 us each way, without a pattern.
            let (out, back) = (i * 7919 % 60_013, i * 104_729 % 60_029);
            let s = sample(local, truth(local) + (out - back) / 2, 100_000 + out + back);
            pipeline.handle_sample(s.local, &s).unwrap();
            if i > 2800 && i % 16 == 0 {
                let at = local + $ahead * SECOND;
                let said = pipeline.estimate(Timestamp::from_nanos(at)).unwrap().offset.as_nanos();
                sum += ((said - truth(at)) as f64).powi(2);
                count += 1;
            }
        }
        (sum / f64::from(count)).sqrt()
    }};
}

#[test]
fn days_that_are_alike_are_known() {
    let [with, without] = [
        error_of_a_cycle!(<Pipeline>::new(Config::default()), 86_400.0, 64, 14_400),
        error_of_a_cycle!(Patternless::new(Config::default()), 86_400.0, 64, 14_400),
    ];
    assert!(with < 0.5 * without, "{with} ns, without the daily pattern {without} ns");
}

#[test]
fn what_goes_round_is_known_whatever_its_period() {
    for period in [1100.0, 2000.0, 3600.0, 5500.0] {
        let [with, without] = [
            error_of_a_cycle!(<Pipeline>::new(Config::default()), period, 8, 1024),
            error_of_a_cycle!(Patternless::new(Config::default()), period, 8, 1024),
        ];
        println!("{period} s: {with:.0} ns, without the cycle {without:.0} ns");
        assert!(with < 0.6 * without, "{period} s: {with} ns, without the cycle {without} ns");
    }
}

/// Four sources whose paths are some hundred microseconds less symmetric than they seem: the interval knows it, and of four that agree
/// it stays narrow.
#[test]
fn what_sources_disagree_about_is_in_the_interval() {
    let half_width = |off: [i64; 4]| {
        let mut pipeline: Pipeline = Pipeline::new(Config { sources: 4, ..Config::default() });
        let mut last = Timestamp::from_nanos(0);
        for (i, source) in (0i64..1600).zip((0u8..4).cycle()) {
            // Queues of up to 60 us each way.
            let (out, back) = (i * 7919 % 60_013, i * 104_729 % 60_029);
            let (off, path) = (off[usize::from(source)], 20_000_000 + 5_000_000 * i64::from(source));
            let sample = Sample {
                source: SourceId(source),
                ..sample(SECOND + 16 * SECOND * i, off + (out - back) / 2, path + out + back)
            };
            let _ = pipeline.handle_sample(sample.local, &sample);
            last = sample.local;
        }
        let told = pipeline.estimate(last).unwrap();
        let (miss, half) = (told.offset.as_nanos().abs(), told.interval.half_width().as_nanos());
        assert!(miss <= half, "{miss} ns off, {half} claimed");
        half
    };
    let (agreeing, apart) = (half_width([0; 4]), half_width([400_000, -300_000, 200_000, -400_000]));
    assert!(agreeing < 20_000 && (200_000..1_000_000).contains(&apart), "{agreeing} and {apart} ns");
}

#[test]
fn noise_that_no_delay_tells_is_not_taken_for_errors_of_the_clock() {
    let half_width = |more: i64| {
        let samples: Vec<Sample> = (0i64..2500)
            .map(|i| {
                // Queues of up to 60 us each way, and up to `more` that do not show.
                let (out, back, hidden) = (i * 7919 % 60_013, i * 104_729 % 60_029, i * 15_485_863 % 80_021 - 40_010);
                sample(SECOND + 16 * SECOND * i, (out - back) / 2 + hidden * more / 40_000, 200_000 + out + back)
            })
            .collect();
        let pipeline = fed(&samples);
        let then = samples.last().unwrap().local.saturating_add(Span::from_secs(256));
        let told = pipeline.estimate(then).unwrap();
        told.interval.half_width().as_nanos()
    };
    let (shown, hidden) = (half_width(0), half_width(40_000));
    // Taken for the clock's, it would be 4.4 times as wide; it is 3.6 times.
    assert!(hidden < 4 * shown, "{hidden} and {shown} ns");
}

/// The interval's quantile has the rank of split conformal prediction, ceil(0.95 (n + 1)) of n scores: with 96 of them the
/// 93rd, whatever the 92nd is.
#[test]
fn the_conformal_rank_is_exact() {
    let factor = |small: usize| {
        let mut calibration = Calibration::<96>::new();
        // Four rounds of the same 96 errors, so that any 96 in a row are the same ones.
        for _ in 0..4 {
            for i in 0..96 {
                let error = if i < small { 0.1 } else { 3.0 };
                calibration.learn(error, 1.0, 0.0, 1.0, 1.0);
            }
        }
        calibration.factor(&calibration.scales(&Scales::FIRST))
    };
    let (large, small) = (factor(92), factor(93));
    assert!(large > 2.0, "the 93rd score is 3: {large}");
    assert!(small < 1.96, "the 93rd score is 0.1: {small}");
}
