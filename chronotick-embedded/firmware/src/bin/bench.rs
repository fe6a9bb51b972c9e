//! What the core costs here: instructions, stack and memory, one `name value unit` a line.
//!
//! Instructions are exact: the emulator retires one a nanosecond of its own time, and its timer is read around each call.
#![no_std]
#![no_main]

use core::hint::black_box;

use chronotick_core::estimator::kalman::{Kalman, Step};
use chronotick_core::served::{self, Served};
use chronotick_core::{Local, Sample, Span, Timestamp};
use chronotick_embedded::shared_clock::Publisher;
use chronotick_embedded::{EdgePipeline, SharedClock};
use chronotick_firmware::board::{INSTRUCTIONS_PER_TICK, peak_stack, ticks};
use chronotick_firmware::single::Single;
use chronotick_firmware::{parity, program};
use embassy_sync::blocking_mutex::raw::CriticalSectionRawMutex;
use semihosting::println;

program!(bench);

/// How far down the stack is looked at, in bytes.
const REACH: usize = 24 * 1024;

/// The largest, the sum and the number of what was measured.
#[derive(Default)]
struct Cost {
    most: u64,
    sum: u64,
    count: u64,
}

impl Cost {
    fn add(&mut self, value: u64) {
        self.most = self.most.max(value);
        self.sum += value;
        self.count += 1;
    }
    fn print(&self, name: &str, unit: &str) {
        println!("{}_mean {} {}", name, self.sum / self.count.max(1), unit);
        println!("{}_most {} {}", name, self.most, unit);
    }
}

fn instructions<R>(call: impl FnOnce() -> R) -> (u64, R) {
    let before = ticks();
    let result = black_box(call());
    let after = ticks();
    (after.wrapping_sub(before) * INSTRUCTIONS_PER_TICK, result)
}

fn bench() -> bool {
    println!("pipeline_ram {} bytes", size_of::<EdgePipeline>());
    println!("request {} bytes", size_of::<chronotick_embedded::EdgeRequest>());
    println!("forecast {} bytes", size_of::<chronotick_core::forecast::Forecast>());
    let mut pipeline = parity::pipeline();
    let (mut sample_cost, mut sample_stack) = (Cost::default(), Cost::default());
    let (mut target_cost, mut target_stack) = (Cost::default(), Cost::default());
    let (mut request_cost, mut request_stack) = (Cost::default(), Cost::default());
    let (mut forecast_cost, mut forecast_stack) = (Cost::default(), Cost::default());
    let (mut serve_cost, mut served) = (Cost::default(), Served::new(served::Config::default()));
    for (index, sample) in parity::trace().take(parity::ROWS as usize).enumerate() {
        let now = sample.local.saturating_add(Span::from_millis(1));
        if index % 8 == 7 {
            let used = peak_stack(REACH, || _ = black_box(pipeline.handle_sample(now, black_box(&sample))));
            sample_stack.add(used as u64);
            target_stack.add(peak_stack(REACH, || _ = black_box(pipeline.target(now))) as u64);
        } else {
            sample_cost.add(instructions(|| pipeline.handle_sample(now, black_box(&sample))).0);
            let (cost, target) = instructions(|| pipeline.target(now));
            target_cost.add(cost);
            if let Some(target) = target {
                serve_cost.add(instructions(|| served.update(black_box(&target))).0);
            }
        }
        let (mut cost, mut request) = (0, None);
        let used = peak_stack(REACH, || (cost, request) = instructions(|| pipeline.poll_request(now)));
        if request.is_some() {
            request_cost.add(cost);
            request_stack.add(used as u64);
        }
        if let Some(request) = request {
            let forecast = parity::answer(&request);
            if index % 3 == 0 {
                let used = peak_stack(REACH, || _ = black_box(pipeline.handle_forecast(now, &forecast)));
                forecast_stack.add(used as u64);
            } else {
                forecast_cost.add(instructions(|| pipeline.handle_forecast(now, &forecast)).0);
            }
        }
    }
    sample_cost.print("sample_update", "instructions");
    target_cost.print("target", "instructions");
    serve_cost.print("served_update", "instructions");
    request_cost.print("request", "instructions");
    forecast_cost.print("forecast", "instructions");
    sample_stack.print("sample_stack", "bytes");
    target_stack.print("target_stack", "bytes");
    request_stack.print("request_stack", "bytes");
    forecast_stack.print("forecast_stack", "bytes");
    read();
    precision();
    true
}

/// One filter of the bank in double and in single precision over the same trace.
fn precision() {
    const SIGMA: f64 = 30e-6;
    let mut double = Kalman::new(1e-19, 0.0, 0.0, 1e-8, 1e-10, 0.0);
    let mut single = Single::new(1e-8, 1e-10, 1e-19);
    let (mut double_cost, mut single_cost) = (Cost::default(), Cost::default());
    let (mut apart, mut rate_apart) = (0.0_f64, 0.0_f64);
    let mut last = None::<Sample>;
    for (index, sample) in parity::trace().take(170).enumerate() {
        let Some(before) = last.replace(sample) else { continue };
        let dt = sample.local.since(before.local).as_secs_f64();
        // Both see the offset relative to a line of 12 ppm, so that it stays small enough for single precision.
        let line = 12e-6 * (sample.local.as_nanos() - 5_000_000_000) as f64 * 1e-9;
        let z = (sample.offset.as_nanos() - 1_750_000_000_000_000_000) as f64 * 1e-9 - line;
        let (cost, ()) = instructions(|| {
            double.predict(&Step::new(black_box(dt)), 0.0);
            double.update(black_box(z), SIGMA * SIGMA);
        });
        double_cost.add(cost);
        let (cost, ()) = instructions(|| {
            single.predict(black_box(dt as f32));
            single.update(black_box(z as f32), (SIGMA * SIGMA) as f32);
        });
        single_cost.add(cost);
        if index > 20 {
            apart = apart.max((double.x - f64::from(single.x)).abs());
            rate_apart = rate_apart.max((double.r - f64::from(single.r)).abs());
        }
    }
    double_cost.print("filter_f64", "instructions");
    single_cost.print("filter_f32", "instructions");
    println!("filter_f32_offset_error {} ps", (apart * 1e12) as u64);
    println!("filter_f32_rate_error {} 1e-15", (rate_apart * 1e15) as u64);
}

static SHARED: SharedClock<CriticalSectionRawMutex, 1> = SharedClock::new();

/// A read of the shared clock at a local time: all but the board's own counter.
#[inline(never)]
fn read_at(local: Timestamp<Local>) -> Option<chronotick_embedded::Reading> {
    SHARED.at(black_box(local))
}

fn read() {
    const READS: u64 = 1_000;
    let mut pipeline = parity::pipeline();
    let mut publisher = Publisher::new(&SHARED);
    let mut last = None::<Sample>;
    for sample in parity::trace().take(20) {
        let _ = pipeline.handle_sample(sample.local, &sample);
        publisher.publish(&sample.local, &pipeline);
        last = Some(sample);
    }
    let start = last.map_or(Timestamp::from_nanos(0), |sample| sample.local);
    let at = |i: u64| start.saturating_add(Span::from_nanos(i.cast_signed() * 997_001));
    let (empty, ()) = instructions(|| {
        for i in 0..READS {
            black_box(black_box(at)(i));
        }
    });
    let (full, ()) = instructions(|| {
        for i in 0..READS {
            black_box(read_at(black_box(at)(i)));
        }
    });
    println!("read {} instructions", (full - empty) / READS);
}
