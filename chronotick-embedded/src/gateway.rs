//! A node and its gateway: exchanges of time and forecasts over one byte stream.
//!
//! ```text
//! node      --- Exchange { id } ------------------------------------> gateway
//! t1 local                                                            t2 UTC at receipt
//! t4 local  <-- Exchange { id, received: t2, sent: t3, .. } --------- t3 UTC at sending
//! node      --- Forecast(request) ----------------------------------> gateway, which asks its models
//!           <-- Forecast(answer) ------------------------------------
//! ```
//!
//! offset = ((t2 - t1) + (t3 - t4)) / 2 and delay = (t4 - t1) - (t3 - t2), as in NTP (RFC 5905, section 8). The node keeps
//! t1 to itself and matches answers by their id. While the gateway holds a question the node's clock runs at a rate of its own: what
//! that hides of the delay counts in the root distance. The time that the bytes spend on the line is part of the delay, and with it
//! of the bound: at 115,200 baud an exchange of 40 bytes bounds the error at about 1.7 ms, at 3 Mbaud at 70 us.
//!
//! Messages are framed as [`crate::frame`] describes.

use core::cell::Cell;
use core::sync::atomic::{AtomicU32, Ordering};

use chronotick_core::forecast::{Forecast, ForecastRequest};
use chronotick_core::units::{Local, Offset, Span, Timestamp, Utc};
use chronotick_core::{Sample, SourceId};
use embassy_futures::select::{Either, select};
use embassy_sync::blocking_mutex::raw::RawMutex;
use embassy_sync::mutex::Mutex;
use embassy_sync::signal::Signal;
use embassy_time::{Duration, Timer};
use embedded_io_async::{Read, Write};
use serde::{Deserialize, Serialize};

use crate::frame::{FrameError, FrameReader, FrameWriter};
use crate::local_time::LocalClock;
use crate::node::Forecaster;
use crate::source::SampleSource;

/// What a node sends. `R` is a request or a reference to one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[allow(clippy::large_enum_variant, reason = "there is no allocator to box the request with")]
pub enum ToGateway<R = ForecastRequest> {
    /// What time is it?
    Exchange {
        /// Repeated by the answer.
        id: u32,
    },
    /// What will my oscillator do?
    Forecast(R),
}

/// What a gateway sends. `F` is a forecast or a reference to one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[allow(clippy::large_enum_variant, reason = "there is no allocator to box the forecast with")]
pub enum ToNode<F = Forecast> {
    /// The time.
    Exchange(Reply),
    /// The answer of a model.
    Forecast(F),
}

/// The gateway's half of an exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reply {
    /// The question's.
    pub id: u32,
    /// When the question's last byte arrived.
    pub received: Timestamp<Utc>,
    /// When the answer's first byte left.
    pub sent: Timestamp<Utc>,
    /// How far the gateway's own clock may be off.
    pub root_distance: Span,
}

/// The node's end of the line: what has been received and waits for whoever wants it. Put it in a `static`.
pub struct Gateway<M: RawMutex> {
    reply: Signal<M, (Reply, Timestamp<Local>)>,
    forecast: Signal<M, Forecast>,
    damaged: AtomicU32,
}

impl<M: RawMutex> Default for Gateway<M> {
    fn default() -> Self {
        Self::new()
    }
}

impl<M: RawMutex> Gateway<M> {
    /// Nothing received yet.
    pub const fn new() -> Self {
        Self { reply: Signal::new(), forecast: Signal::new(), damaged: AtomicU32::new(0) }
    }

    /// Reads frames and hands them out until the stream ends; run it as a task of its own. Damaged frames are counted and
    /// skipped. Returns the final error, after which the caller may open the stream again.
    pub async fn receive<R: Read, const N: usize>(
        &self,
        reader: &mut FrameReader<R, N>,
        clock: &impl LocalClock,
    ) -> FrameError<R::Error> {
        loop {
            let message = reader.read::<ToNode>().await;
            let received = clock.now();
            match message {
                Ok(ToNode::Exchange(reply)) => self.reply.signal((reply, received)),
                Ok(ToNode::Forecast(forecast)) => self.forecast.signal(forecast),
                Err(error) if error.is_final() => return error,
                // A load and a store: this is the only writer, and the smallest cores have no other atomics.
                Err(_) => self.damaged.store(self.damaged_frames().wrapping_add(1), Ordering::Relaxed),
            }
        }
    }

    /// The next forecast. One that is not fetched before the next arrives is replaced by it.
    pub async fn forecast(&self) -> Forecast {
        self.forecast.wait().await
    }

    /// Frames that were not messages, since the start.
    pub fn damaged_frames(&self) -> u32 {
        self.damaged.load(Ordering::Relaxed)
    }
}

/// Why an exchange over the line yielded no sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum ExchangeError<E> {
    /// The question could not be sent.
    Send(FrameError<E>),
    /// No answer in time.
    Timeout,
    /// The answer was sent before the question was received, or the round trip took less than no time.
    Senseless,
}

/// The writing half of the line, shared by exchanges and questions for a model.
pub type SharedWriter<M, W, const N: usize> = Mutex<M, FrameWriter<W, N>>;

/// Samples from exchanges with the gateway.
pub struct GatewaySource<'a, M: RawMutex, W, C, const N: usize> {
    gateway: &'a Gateway<M>,
    writer: &'a SharedWriter<M, W, N>,
    clock: C,
    source: SourceId,
    timeout: Duration,
    id: Cell<u32>,
}

impl<'a, M: RawMutex, W: Write, C: LocalClock, const N: usize> GatewaySource<'a, M, W, C, N> {
    /// Exchanges over `writer` whose answers [`Gateway::receive`] puts into `gateway`; each is given up after `timeout`. Their ids count
    /// on from `nonce`, which has to be another after every start (a random number, or a count of starts shifted by 16 bits): the line
    /// may still hold the answer to a question that was asked before the last one.
    pub const fn new(
        gateway: &'a Gateway<M>,
        writer: &'a SharedWriter<M, W, N>,
        clock: C,
        source: SourceId,
        timeout: Duration,
        nonce: u32,
    ) -> Self {
        Self { gateway, writer, clock, source, timeout, id: Cell::new(nonce) }
    }

    async fn exchange(&self) -> Result<Sample, ExchangeError<W::Error>> {
        let id = self.id.get().wrapping_add(1);
        self.id.set(id);
        self.gateway.reply.reset();
        let sent = {
            let mut writer = self.writer.lock().await;
            let sent = self.clock.now();
            writer.write(&ToGateway::<()>::Exchange { id }).await.map_err(ExchangeError::Send)?;
            sent
        };
        loop {
            let (reply, received) = self.gateway.reply.wait().await;
            if reply.id == id {
                return sample_from_exchange(sent, &reply, received, self.source).ok_or(ExchangeError::Senseless);
            }
        }
    }
}

impl<M: RawMutex, W: Write, C: LocalClock, const N: usize> SampleSource for GatewaySource<'_, M, W, C, N> {
    type Error = ExchangeError<W::Error>;

    async fn sample(&mut self) -> Result<Sample, Self::Error> {
        match select(self.exchange(), Timer::after(self.timeout)).await {
            Either::First(result) => result,
            Either::Second(()) => Err(ExchangeError::Timeout),
        }
    }
}

/// The gateway's models.
pub struct GatewayForecaster<'a, M: RawMutex, W, const N: usize> {
    gateway: &'a Gateway<M>,
    writer: &'a SharedWriter<M, W, N>,
}

impl<'a, M: RawMutex, W: Write, const N: usize> GatewayForecaster<'a, M, W, N> {
    /// Questions go out over `writer`, answers come in through `gateway`.
    pub const fn new(gateway: &'a Gateway<M>, writer: &'a SharedWriter<M, W, N>) -> Self {
        Self { gateway, writer }
    }
}

impl<Q: Serialize, M: RawMutex, W: Write, const N: usize> Forecaster<Q> for GatewayForecaster<'_, M, W, N> {
    async fn ask(&mut self, request: &Q) -> bool {
        self.writer.lock().await.write(&ToGateway::Forecast(request)).await.is_ok()
    }

    async fn answer(&mut self) -> Forecast {
        self.gateway.forecast().await
    }
}

/// The sample of an exchange: question sent and answer received by the local clock, the rest by the gateway's. `None` when
/// the four instants are not in an order that an exchange can have.
///
/// Halves are rounded down; the delay's odd nanosecond stays in the bound, which rounds up.
pub fn sample_from_exchange(
    sent: Timestamp<Local>,
    reply: &Reply,
    received: Timestamp<Local>,
    source: SourceId,
) -> Option<Sample> {
    let away = received.since(sent).as_nanos();
    let served = reply.sent.since(reply.received).as_nanos();
    let delay = away.checked_sub(served)?;
    if served < 0 || delay < 0 {
        return None;
    }
    let out = i128::from(reply.received.as_nanos()) - i128::from(sent.as_nanos());
    let back = i128::from(reply.sent.as_nanos()) - i128::from(received.as_nanos());
    Some(Sample {
        local: sent.saturating_add(Span::from_nanos(away / 2)),
        offset: Offset::from_nanos(i64::try_from((out + back).div_euclid(2)).ok()?),
        delay: Span::from_nanos(delay),
        root_distance: reply.root_distance.saturating_add(Sample::hidden_by(Span::from_nanos(served))),
        temperature: None,
        source,
    })
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use crate::frame::encode;
    use embassy_futures::block_on;
    use embassy_futures::join::join;
    use embassy_sync::blocking_mutex::raw::NoopRawMutex;
    use embassy_sync::pipe::Pipe;
    use proptest::prelude::*;

    /// A local clock that moves by a microsecond with every reading.
    struct Ticking(Cell<i64>);

    impl LocalClock for Ticking {
        const RESOLUTION: Span = Span::from_nanos(1_000);
        fn now(&self) -> Timestamp<Local> {
            self.0.set(self.0.get() + 1_000);
            Timestamp::from_nanos(self.0.get())
        }
    }

    #[test]
    fn an_exchange_over_pipes_yields_the_offset() {
        let (up, down) = (Pipe::<NoopRawMutex, 64>::new(), Pipe::<NoopRawMutex, 64>::new());
        let gateway = Gateway::<NoopRawMutex>::new();
        let writer = SharedWriter::<NoopRawMutex, _, 64>::new(FrameWriter::new(&up));
        let clock = Ticking(Cell::new(0));
        let source =
            GatewaySource::new(&gateway, &writer, Ticking(Cell::new(0)), SourceId(3), Duration::from_secs(1), 40);
        let far_end = async {
            let mut questions = FrameReader::<_, 64>::new(&up);
            let mut buffer = [0; 64];
            // Noise and an answer to another question come first.
            for bytes in [&[1, 2, 3, 0][..], encode(&answer(77), &mut [0; 64]).unwrap()] {
                down.write_all(bytes).await;
            }
            match questions.read::<ToGateway>().await {
                Ok(ToGateway::Exchange { id }) => down.write_all(encode(&answer(id), &mut buffer).unwrap()).await,
                other => panic!("{other:?}"),
            }
            core::future::pending::<()>().await;
        };
        let receive = async {
            gateway.receive(&mut FrameReader::<_, 64>::new(&down), &clock).await;
        };
        let sample = block_on(async {
            match select(source.exchange(), join(far_end, receive)).await {
                Either::First(sample) => sample.unwrap(),
                Either::Second(_) => panic!("the line ended"),
            }
        });
        // t1 = 1 us by the source's clock, t4 = 3 us by the receiver's (its third frame).
        assert_eq!(sample.local, Timestamp::from_nanos(2_000));
        assert_eq!(sample.delay, Span::from_nanos(1_500));
        assert_eq!(sample.offset, Offset::from_nanos(1_000_000_000_250 - 2_000));
        assert_eq!(sample.source, SourceId(3));
        assert_eq!(gateway.damaged_frames(), 1);
    }

    fn answer(id: u32) -> ToNode {
        ToNode::Exchange(Reply {
            id,
            received: Timestamp::from_nanos(1_000_000_000_000),
            sent: Timestamp::from_nanos(1_000_000_000_500),
            root_distance: Span::from_nanos(40),
        })
    }

    proptest! {
        #[test]
        fn the_truth_lies_within_the_bound(
            offset in -1_000_000_000_000_000_000_i64..1_000_000_000_000_000_000,
            t1 in 0..1_000_000_000_000_i64,
            legs in proptest::array::uniform3(0..1_000_000_000_i64),
            ppm in -10_000_i64..=10_000,
        ) {
            let [out, served, back] = legs;
            // The local clock is slow by so much: less of it passes than of UTC.
            let local = |utc: i64| utc - utc * ppm / 1_000_000;
            let reply = Reply {
                id: 0,
                received: Timestamp::from_nanos(t1 + out + offset),
                sent: Timestamp::from_nanos(t1 + out + served + offset),
                root_distance: Span::ZERO,
            };
            let away = local(out + served + back);
            let Some(sample) = sample_from_exchange(
                Timestamp::from_nanos(t1), &reply, Timestamp::from_nanos(t1 + away), SourceId(0),
            ) else {
                // A slow clock sees less of a round trip than the server has held it for.
                prop_assert!(away < served);
                return Ok(());
            };
            // Half of what it has lost by the middle.
            let then = offset + (out + served + back - away) / 2;
            let error = sample.offset.since(Offset::from_nanos(then)).abs();
            // What the bound adds for the oscillator's own rate during the delay.
            let during = Span::from_nanos(sample.delay.as_nanos() / 180 + 2);
            let bound = sample.error_bound().saturating_add(during);
            prop_assert!(error <= bound, "{error:?} outside {bound:?}");
        }

        #[test]
        fn no_instants_panic(t1: i64, t2: i64, t3: i64, t4: i64) {
            let reply = Reply {
                id: 0,
                received: Timestamp::from_nanos(t2),
                sent: Timestamp::from_nanos(t3),
                root_distance: Span::ZERO,
            };
            let sample =
                sample_from_exchange(Timestamp::from_nanos(t1), &reply, Timestamp::from_nanos(t4), SourceId(0));
            prop_assert!(sample.is_none_or(|sample| sample.validate().is_ok()));
        }
    }
}
