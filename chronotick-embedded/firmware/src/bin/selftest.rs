//! Assertions that must hold on the target itself, on every one of them: `N passed, N failed`, and the exit status.
#![no_std]
#![no_main]

use core::future::Future;
use core::hint::black_box;
use core::pin::pin;
use core::task::{Context, Poll, Waker};

use chronotick_core::clock_page::{ClockPage, CounterScale, WidestGrowth};
use chronotick_core::served::{self, Served};
use chronotick_core::{Config, Offset, Sample, SourceId, Span, Tier, Timestamp};
use chronotick_embedded::frame::{FrameReader, FrameWriter};
use chronotick_embedded::gateway::{Reply, ToNode, sample_from_exchange};
use chronotick_embedded::shared_clock::Publisher;
use chronotick_embedded::{EdgePipeline, SharedClock};
use chronotick_firmware::{board, program};
use embassy_sync::blocking_mutex::raw::CriticalSectionRawMutex;
use embassy_sync::pipe::Pipe;
use semihosting::println;

program!(selftest);

const UTC: i64 = 1_750_000_000_000_000_000;

fn selftest() -> bool {
    let checks: [(&str, fn() -> bool); 7] = [
        ("wide integers multiply and shift exactly", wide_integers),
        ("doubles without hardware are exact", doubles),
        ("an exchange gives the offset within its bound", exchange),
        ("a frame survives the line and a damaged one does not", frames),
        ("a young clock is right within its bound, which grows in silence", pipeline),
        ("readings do not go backwards while corrections come in", monotone),
        ("the stopwatch counts", stopwatch),
    ];
    let mut passed = 0;
    for (what, check) in checks {
        if check() {
            passed += 1;
        } else {
            println!("failed: {}", what);
        }
    }
    let failed = checks.len() - passed;
    println!("{} passed, {} failed", passed, failed);
    failed == 0
}

fn wide_integers() -> bool {
    let (a, b) = (black_box(0x0123_4567_89AB_CDEF_i64), black_box(-0x0FED_CBA9_8765_4321_i64));
    (i128::from(a) * i128::from(b)) >> 48 == -334320226658860409380
}

fn doubles() -> bool {
    let (tenth, third) = (black_box(0.1_f64), black_box(1.0_f64) / black_box(3.0));
    (tenth * 3.0).to_bits() == 0x3FD3_3333_3333_3334
        && third.to_bits() == 0x3FD5_5555_5555_5555
        && (black_box(UTC) as f64).to_bits() == 0x43B8493FBA64EF00
}

fn exchange() -> bool {
    let reply = Reply {
        id: 1,
        received: Timestamp::from_nanos(UTC + 1_300),
        sent: Timestamp::from_nanos(UTC + 1_800),
        root_distance: Span::from_nanos(40),
    };
    let sample = sample_from_exchange(Timestamp::from_nanos(1_000), &reply, Timestamp::from_nanos(2_100), SourceId(0));
    // Half the delay, the gateway's own error, and what half a microsecond of holding hides.
    sample
        .is_some_and(|sample| sample.offset == Offset::from_nanos(UTC) && sample.error_bound() == Span::from_nanos(343))
}

fn frames() -> bool {
    let message = ToNode::<()>::Exchange(Reply {
        id: 7,
        received: Timestamp::from_nanos(UTC),
        sent: Timestamp::from_nanos(UTC + 5),
        root_distance: Span::from_nanos(9),
    });
    let line = Pipe::<CriticalSectionRawMutex, 128>::new();
    let written = at_once(async {
        // A damaged frame first: the start of one, cut off.
        line.write_all(&[3, 9, 9, 0]).await;
        FrameWriter::<_, 64>::new(&line).write(&message).await
    });
    let mut reader = FrameReader::<_, 64>::new(&line);
    let damaged = at_once(async { reader.read::<ToNode<()>>().await.is_err() });
    let read = at_once(async { reader.read::<ToNode<()>>().await });
    written == Some(Ok(())) && damaged == Some(true) && read == Some(Ok(message))
}

fn sample(local: i64) -> Sample {
    Sample {
        local: Timestamp::from_nanos(local),
        offset: Offset::from_nanos(UTC + local / 100_000),
        delay: Span::from_micros(200 + (local / 1_000_000_000) % 7),
        root_distance: Span::from_micros(10),
        temperature: None,
        source: SourceId(0),
    }
}

fn pipeline() -> bool {
    static SHARED: SharedClock<CriticalSectionRawMutex, 1> = SharedClock::new();
    let mut pipeline = EdgePipeline::new(Config::default());
    let mut publisher = Publisher::new(&SHARED);
    if SHARED.at(Timestamp::from_nanos(0)).is_some() {
        return false;
    }
    for second in (2..80).step_by(2) {
        let sample = sample(second * 1_000_000_000);
        if pipeline.handle_sample(sample.local, &sample).is_err() {
            return false;
        }
        publisher.publish(&sample.local, &pipeline);
    }
    let (soon, late) = (80_000_000_000, 140_000_000_000);
    let holds = |local: i64| {
        let reading = SHARED.at(Timestamp::from_nanos(local))?;
        let truth = Timestamp::from_nanos(UTC + local + local / 100_000);
        (reading.earliest() <= truth && truth <= reading.latest()).then_some(reading)
    };
    match (holds(soon), holds(late)) {
        (Some(soon), Some(late)) => {
            soon.bound().half_width() < Span::from_millis(1)
                && late.bound() > soon.bound()
                && soon.tier() <= Tier::Filter
        }
        _ => false,
    }
}

fn monotone() -> bool {
    let mut served = Served::new(served::Config::default());
    let mut pipeline = EdgePipeline::new(Config::default());
    let mut last = i64::MIN;
    let mut page = ClockPage::BLANK;
    for second in (2..60).step_by(2) {
        let mut sample = sample(second * 1_000_000_000);
        // The path alternates, so that corrections go both ways.
        let error = if second % 4 == 0 { 40_000 } else { -40_000 };
        sample.offset = sample.offset.saturating_add(Span::from_nanos(error));
        let _ = pipeline.handle_sample(sample.local, &sample);
        let Some(target) = pipeline.target(sample.local) else { return false };
        let record = served.update(&target);
        let next = ClockPage::encode(&record, &CounterScale::NANOS);
        let start = CounterScale::NANOS.ticks(record.at);
        page = if page.is_blank() { next } else { next.not_before(start, page.utc_at(start)) };
        for step in 0..10_u64 {
            let counter = start + step * 150_000_000;
            let utc = page.time_at(counter, WidestGrowth { bound: 1, interval: 1 }).utc().as_nanos();
            if utc < last {
                return false;
            }
            last = utc;
        }
    }
    true
}

fn stopwatch() -> bool {
    let before = board::ticks();
    for i in 0..2_000_u32 {
        black_box(i);
    }
    let passed = board::ticks().wrapping_sub(before) * board::INSTRUCTIONS_PER_TICK;
    (4_000..100_000).contains(&passed)
}

/// Runs a future that needs nobody else; `None` if it waits all the same.
fn at_once<T>(future: impl Future<Output = T>) -> Option<T> {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => Some(output),
        Poll::Pending => None,
    }
}
