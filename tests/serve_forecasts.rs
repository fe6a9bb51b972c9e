//! A node's own code at one end of a pipe, `chronotick serve-forecasts` with the shipped models at the other.

use std::cell::RefCell;
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use chronotick_core::forecast::Model;
use chronotick_core::{Local, SourceId, Span, Timestamp};
use chronotick_embedded::frame::{FrameReader, FrameWriter};
use chronotick_embedded::gateway::{Gateway, GatewayForecaster, GatewaySource, SharedWriter};
use chronotick_embedded::node::Forecaster;
use chronotick_embedded::{EdgeRequest, LocalClock, SampleSource};
use embassy_futures::block_on;
use embassy_futures::select::{Either, select};
use embassy_sync::blocking_mutex::raw::NoopRawMutex;
use embassy_time::Duration;

#[allow(unreachable_pub, dead_code, reason = "the firmware has it in its library")]
#[path = "../chronotick-embedded/firmware/src/parity.rs"]
mod parity;

/// What the system's clock is taken to be right within, ms.
const WITHIN: i64 = 5;

/// The gateway's end, which does not outlive its test.
struct Host(Child);

impl Drop for Host {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// One end of a pipe as an asynchronous byte stream. A read lets the other tasks go first and then blocks: nothing here has
/// anything better to do than to wait for the host.
struct Pipe<S>(RefCell<S>);

impl<S> embedded_io_async::ErrorType for Pipe<S> {
    type Error = embedded_io_async::ErrorKind;
}

impl embedded_io_async::Read for Pipe<ChildStdout> {
    async fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Self::Error> {
        embassy_futures::yield_now().await;
        self.0.borrow_mut().read(buffer).map_err(|_| embedded_io_async::ErrorKind::Other)
    }
}

impl embedded_io_async::Write for Pipe<ChildStdin> {
    async fn write(&mut self, bytes: &[u8]) -> Result<usize, Self::Error> {
        self.0.borrow_mut().write(bytes).map_err(|_| embedded_io_async::ErrorKind::Other)
    }
    async fn flush(&mut self) -> Result<(), Self::Error> {
        self.0.borrow_mut().flush().map_err(|_| embedded_io_async::ErrorKind::Other)
    }
}

/// A counter that starts with the test.
#[derive(Clone, Copy)]
struct Counter(Instant);

impl LocalClock for Counter {
    const RESOLUTION: Span = Span::from_nanos(1);
    fn now(&self) -> Timestamp<Local> {
        Timestamp::from_nanos(i64::try_from(self.0.elapsed().as_nanos()).expect("the test is not that old"))
    }
}

#[test]
fn a_node_gets_the_time_and_forecasts_that_its_pipeline_accepts() {
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models");
    let mut host = Command::new(env!("CARGO_BIN_EXE_chronotick-under-test"))
        .args(["serve-forecasts", "-", "--system-clock", &WITHIN.to_string(), "--models"])
        .arg(models)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .map(Host)
        .expect("the program is built with the tests");
    let (up, down) = (host.0.stdin.take().expect("piped"), host.0.stdout.take().expect("piped"));

    let counter = Counter(Instant::now());
    let gateway = Gateway::<NoopRawMutex>::new();
    let writer = SharedWriter::<NoopRawMutex, _, 1100>::new(FrameWriter::new(Pipe(RefCell::new(up))));
    let mut reader = FrameReader::<_, 2600>::new(Pipe(RefCell::new(down)));
    let mut source = GatewaySource::new(&gateway, &writer, counter, SourceId(0), Duration::from_secs(600), 0);
    let mut forecaster = GatewayForecaster::new(&gateway, &writer);

    let sample = block_on(async {
        match select(source.sample(), gateway.receive(&mut reader, &counter)).await {
            Either::First(sample) => sample.expect("the host answers"),
            Either::Second(error) => panic!("the line ended: {error:?}"),
        }
    });
    let now = counter.now();
    let utc = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_nanos();
    let truth = i64::try_from(utc).expect("before 2262") - now.as_nanos();
    // Between the two readings above this thread may have been away for a while.
    let slack = (counter.now().as_nanos() - now.as_nanos()).max(1_000_000);
    let error = (sample.offset.as_nanos() - truth).abs();
    assert!(error <= sample.error_bound().as_nanos() + slack, "{error} ns off, {:?}", sample.error_bound());
    // Its own, and what its holding of the question hides: at most a hundredth of the second that it may have been away for.
    let hidden = sample.root_distance.saturating_sub(Span::from_millis(WITHIN));
    assert!(hidden > Span::ZERO && hidden < Span::from_millis(10), "{hidden:?}");

    let mut pipeline = parity::pipeline();
    let mut asked = [0; 2];
    // The second model is asked once 48 cells in a row have been measured, which the silences of the trace delay.
    for sample in parity::trace().take(700) {
        let _ = pipeline.handle_sample(sample.local, &sample);
        let Some(request) = pipeline.poll_request(sample.local) else { continue };
        let forecast = block_on(async {
            assert!(Forecaster::<EdgeRequest>::ask(&mut forecaster, &request).await, "the question is sent");
            let answer = Forecaster::<EdgeRequest>::answer(&mut forecaster);
            match select(answer, gateway.receive(&mut reader, &counter)).await {
                Either::First(forecast) => forecast,
                Either::Second(error) => panic!("the line ended: {error:?}"),
            }
        });
        assert_eq!(forecast.quantiles.len(), request.model.steps());
        pipeline.handle_forecast(sample.local, &forecast).expect("an answer in time and in shape");
        asked[request.model.index()] += 1;
    }
    assert!(asked[Model::Near.index()] >= 3 && asked[Model::Far.index()] >= 1, "questions to the models: {asked:?}");
    assert_eq!(gateway.damaged_frames(), 0);
}
