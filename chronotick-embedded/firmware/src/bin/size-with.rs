//! The same program with every input and output of the pipeline in use, and nothing of the tasks around it.
#![no_std]
#![no_main]

use core::hint::black_box;

use chronotick_core::clock_page::{ClockPage, CounterScale, WidestGrowth};
use chronotick_core::forecast::Forecast;
use chronotick_core::served::{self, Served};
use chronotick_core::{Config, Local, Sample, Timestamp};
use chronotick_embedded::EdgePipeline;
use chronotick_firmware::program;

program!(with);

fn with() -> bool {
    let mut pipeline = EdgePipeline::new(black_box(Config::default()));
    let mut served = Served::new(black_box(served::Config::default()));
    let mut held = true;
    for _ in 0..black_box(8_u32) {
        let now: Timestamp<Local> = black_box(Timestamp::from_nanos(1));
        let sample: Option<Sample> = black_box(None);
        let forecast: Option<&Forecast> = black_box(None);
        if let Some(sample) = sample {
            held &= pipeline.handle_sample(now, &sample).is_ok();
        }
        if let Some(forecast) = forecast {
            held &= pipeline.handle_forecast(now, forecast).is_ok();
        }
        pipeline.handle_timeout(now);
        black_box(pipeline.poll_timeout());
        black_box(pipeline.poll_request(now));
        if let Some(target) = pipeline.target(now) {
            let page = ClockPage::encode(&served.update(&target), &CounterScale::NANOS);
            black_box(page.time_at(black_box(5), WidestGrowth { bound: 1, interval: 1 }));
        }
    }
    held
}
