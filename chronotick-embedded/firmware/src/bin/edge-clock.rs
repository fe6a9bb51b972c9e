//! A node with a clock: it synchronises over a byte stream, loses its gateway, holds over with the help of its thermometer
//! and of the forecasts it was given, and finds the gateway again. Everything outside the node is imagined, in the task
//! `gateway`, so that the truth is known: the program fails if the truth ever leaves the hard bound.
#![no_std]
#![no_main]

use core::cell::RefCell;

use chronotick_core::{Config, Local, SourceId, Span, Temperature, Tier, Timestamp};
use chronotick_embedded::frame::{FrameReader, FrameWriter};
use chronotick_embedded::gateway::{Gateway, GatewayForecaster, GatewaySource, Reply, SharedWriter, ToGateway, ToNode};
use chronotick_embedded::{
    Cadence, EdgePipeline, EdgeRequest, EmbassyClock, LocalClock, SharedClock, Thermometer, run_clock, run_samples,
};
use chronotick_firmware::world::{self, World};
use chronotick_firmware::{board, program};
use defmt::{info, warn};
use defmt_semihosting as _;
use embassy_executor::Spawner;
use embassy_sync::blocking_mutex::Mutex;
use embassy_sync::blocking_mutex::raw::CriticalSectionRawMutex as Raw;
use embassy_sync::channel::Channel;
use embassy_sync::pipe::Pipe;
use embassy_time::{Duration, Timer};
use static_cell::StaticCell;

/// The longest frames: a question with its history, and a forecast.
const UP: usize = 1_100;
const DOWN: usize = 2_600;
/// When the gateway falls silent and when it comes back, in s since boot.
const SILENT: core::ops::Range<u64> = 2_400..3_300;
/// When the demonstration ends.
const END: u64 = 3_600;

type Line = Pipe<Raw, 128>;

static UPWARDS: Line = Pipe::new();
static DOWNWARDS: Line = Pipe::new();
static GATEWAY: Gateway<Raw> = Gateway::new();
static WRITER: SharedWriter<Raw, &Line, UP> = SharedWriter::new(FrameWriter::new(&UPWARDS));
static SAMPLES: Channel<Raw, chronotick_core::Sample, 2> = Channel::new();
static CLOCK: SharedClock<Raw, 1> = SharedClock::new();
static WORLD: Mutex<Raw, RefCell<World>> = Mutex::new(RefCell::new(World::new()));

program!(edge_clock);

fn edge_clock() -> bool {
    board::run_tasks(start)
}

fn start(spawner: Spawner) {
    info!("booted, the gateway is silent from {} s to {} s", SILENT.start, SILENT.end);
    spawner.spawn(gateway().expect("one each"));
    spawner.spawn(receive().expect("one each"));
    spawner.spawn(samples().expect("one each"));
    spawner.spawn(clock().expect("one each"));
    spawner.spawn(application().expect("one each"));
}

#[embassy_executor::task]
async fn application() {
    board::exit(report().await);
}

/// The task that fills [`GATEWAY`] from the line.
#[embassy_executor::task]
async fn receive() {
    let mut reader = FrameReader::<_, DOWN>::new(&DOWNWARDS);
    GATEWAY.receive(&mut reader, &EmbassyClock).await;
}

#[embassy_executor::task]
async fn samples() {
    // This line holds nothing from before: a board's own takes a random number, or counts its starts.
    let source = GatewaySource::new(&GATEWAY, &WRITER, EmbassyClock, SourceId(0), Duration::from_secs(1), 0);
    run_samples(source, Sensor, Cadence::default(), SAMPLES.sender()).await
}

#[embassy_executor::task]
async fn clock() {
    static PIPELINE: StaticCell<EdgePipeline> = StaticCell::new();
    let pipeline = PIPELINE
        .init_with(|| EdgePipeline::new(Config { counter_resolution: EmbassyClock::RESOLUTION, ..Config::default() }));
    let forecaster = GatewayForecaster::new(&GATEWAY, &WRITER);
    run_clock(pipeline, EmbassyClock, Cadence::default(), SAMPLES.receiver(), forecaster, &CLOCK).await
}

struct Sensor;

impl Thermometer for Sensor {
    async fn temperature(&mut self) -> Option<Temperature> {
        Some(world::temperature(EmbassyClock.now()))
    }
}

/// The application: reads the clock, and here also compares it with the truth. Whether everything held.
async fn report() -> bool {
    let (mut held, mut held_over, mut synchronised, mut worst) = (true, false, false, 0);
    for second in (0..END).step_by(20) {
        Timer::at(embassy_time::Instant::from_secs(second + 20)).await;
        let now = EmbassyClock.now();
        let truth = WORLD.lock(|world| world.borrow_mut().utc(now));
        let Some(reading) = CLOCK.at(now) else { continue };
        let error = reading.utc().since(truth);
        if error.abs() > reading.bound().half_width() {
            held = false;
            warn!("{} s: the truth is {} ns outside of the bound", second, error.as_nanos());
        }
        held_over |= reading.tier() == Tier::Holdover;
        synchronised |= reading.tier() <= Tier::Filter;
        worst = worst.max(error.abs().as_nanos());
        if second % 300 == 280 {
            info!("{} s: {}, true error {} us", second + 20, reading, error.as_nanos() / 1_000);
        }
    }
    info!("damaged frames {}, worst error {} us", GATEWAY.damaged_frames(), worst / 1_000);
    held && held_over && synchronised
}

/// The other end of the line, where UTC is known.
#[embassy_executor::task]
async fn gateway() {
    let mut questions = FrameReader::<_, UP>::new(&UPWARDS);
    let mut answers = FrameWriter::<_, DOWN>::new(&DOWNWARDS);
    let mut delays = (1_u32..).map(|i| u64::from(i.wrapping_mul(2_654_435_761) >> 23));
    let mut path = move || Timer::after(Duration::from_micros(100 + delays.next().unwrap_or(0)));
    loop {
        let Ok(question) = questions.read::<ToGateway<EdgeRequest>>().await else { continue };
        if SILENT.contains(&embassy_time::Instant::now().as_secs()) {
            continue;
        }
        path().await;
        let received = utc(EmbassyClock.now());
        let sent = match question {
            ToGateway::Exchange { id } => {
                let answer = Reply { id, received, sent: received, root_distance: Span::from_micros(20) };
                path().await;
                answers.write(&ToNode::<()>::Exchange(answer)).await
            }
            ToGateway::Forecast(request) => {
                info!("the gateway is asked for a {} forecast from {} on", request.model, request.origin);
                answers.write(&ToNode::Forecast(world::forecast(&request))).await
            }
        };
        if sent.is_err() {
            warn!("an answer does not fit its frame");
        }
    }
}

fn utc(local: Timestamp<Local>) -> chronotick_core::Timestamp<chronotick_core::Utc> {
    WORLD.lock(|world| world.borrow_mut().utc(local))
}
