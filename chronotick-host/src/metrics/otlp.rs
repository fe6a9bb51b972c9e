//! The same metrics for an OpenTelemetry collector: OTLP over HTTP, under the same names, with the same labels as attributes.
//!
//! Every metric is an observable instrument. When the reader of the OpenTelemetry SDK is due it calls them one after the other;
//! the first of them looks at the daemon, and all of them tell what was seen then.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use metrics::atomics::AtomicU64;
use metrics::{Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit, with_local_recorder};
use opentelemetry::KeyValue;
use opentelemetry::metrics::MeterProvider;
use opentelemetry_otlp::{MetricExporter, Protocol, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::metrics::{PeriodicReader, SdkMeterProvider};

use super::catalogue::{COUNTERS, GAUGES, fill};
use super::look::{Look, Onlooker};
use super::plain_http::PlainHttp;
use crate::config::CollectorAddress;
use crate::error::{Error, Kind};

/// Instruments that are called within this time are told of the same look.
const ONE_LOOK: Duration = Duration::from_millis(500);
/// For one attempt to send.
const PATIENCE: Duration = Duration::from_secs(10);

/// Sends until it is dropped.
pub struct Sender {
    seen: Arc<Seen>,
    provider: Option<SdkMeterProvider>,
}

impl Sender {
    /// Sends the state of the daemon whose page is `page` to `collector` every `interval`, for the first time after one.
    ///
    /// # Errors
    /// `is_system` when the SDK refuses its settings, from the environment's `OTEL_` variables as well.
    pub fn start(collector: &CollectorAddress, interval: Duration, page: &Path) -> Result<Self, Error> {
        let mut onlooker = Onlooker::new(page);
        Self::of(collector, interval, Box::new(move || onlooker.look().ok()))
    }

    fn of(collector: &CollectorAddress, interval: Duration, look: Eyes) -> Result<Self, Error> {
        let exporter = MetricExporter::builder()
            .with_http()
            .with_protocol(Protocol::HttpBinary)
            .with_http_client(PlainHttp::default())
            .with_endpoint(collector.to_string())
            .with_timeout(PATIENCE)
            .build()
            .map_err(|cause| Error::new(Kind::System, format!("no metrics for {collector}: {cause}")))?;
        let reader = PeriodicReader::builder(exporter).with_interval(interval).build();
        let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
        let resource = Resource::builder()
            .with_service_name("chronotick")
            .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
            .with_attribute(KeyValue::new("host.name", host))
            .build();
        let provider = SdkMeterProvider::builder().with_reader(reader).with_resource(resource).build();
        let seen = Arc::new(Seen {
            over: AtomicBool::new(false),
            last: Mutex::new(Last { look, at: None, values: Vec::new() }),
        });
        instruments(&provider, &seen);
        Ok(Self { seen, provider: Some(provider) })
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        self.seen.over.store(true, Ordering::Relaxed);
        // The SDK waits for what is under way, which may be a question to the very loop that drops this.
        if let Some(provider) = self.provider.take() {
            let thread = thread::Builder::new().name("chronotick-otlp".to_owned());
            // Without a thread it goes here and now.
            let _ = thread.spawn(move || drop(provider));
        }
    }
}

impl std::fmt::Debug for Sender {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sender").finish_non_exhaustive()
    }
}

/// Sees the daemon, if it is to be seen.
type Eyes = Box<dyn FnMut() -> Option<Look> + Send>;

/// What all instruments tell of.
struct Seen {
    over: AtomicBool,
    last: Mutex<Last>,
}

struct Last {
    look: Eyes,
    at: Option<Instant>,
    values: Vec<Value>,
}

/// One series and its value.
struct Value {
    name: String,
    attributes: Vec<KeyValue>,
    bits: Arc<AtomicU64>,
}

impl Seen {
    /// Calls `tell` with the bits and the attributes of each series of the metric `name`, after a look if the last is too old.
    fn each(&self, name: &str, mut tell: impl FnMut(u64, &[KeyValue])) {
        if self.over.load(Ordering::Relaxed) {
            return;
        }
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.at.is_none_or(|at| at.elapsed() > ONE_LOOK) {
            last.values = (last.look)().map(|look| values(&look)).unwrap_or_default();
            last.at = Some(Instant::now());
        }
        for value in last.values.iter().filter(|value| value.name == name) {
            tell(value.bits.load(Ordering::Relaxed), &value.attributes);
        }
    }
}

fn instruments(provider: &SdkMeterProvider, seen: &Arc<Seen>) {
    let meter = provider.meter("chronotick");
    for &(name, help) in GAUGES {
        let seen = Arc::clone(seen);
        meter
            .f64_observable_gauge(name)
            .with_description(help)
            .with_unit(unit(name))
            .with_callback(move |observer| {
                seen.each(name, |bits, attributes| observer.observe(f64::from_bits(bits), attributes));
            })
            .build();
    }
    for &(name, help) in COUNTERS {
        let seen = Arc::clone(seen);
        meter
            .u64_observable_counter(name)
            .with_description(help)
            .with_unit(unit(name))
            .with_callback(move |observer| seen.each(name, |count, attributes| observer.observe(count, attributes)))
            .build();
    }
}

/// The unit in a metric's name, as UCUM writes it.
fn unit(name: &str) -> &'static str {
    match name.rsplit('_').next() {
        Some("seconds") => "s",
        Some("bytes") => "By",
        Some("celsius") => "Cel",
        Some("ppm") => "[ppm]",
        _ => "1",
    }
}

fn values(look: &Look) -> Vec<Value> {
    let sheet = Sheet::default();
    with_local_recorder(&sheet, || fill(look));
    sheet.0.into_inner().unwrap_or_else(PoisonError::into_inner)
}

/// A recorder that writes down what it is told.
#[derive(Default)]
struct Sheet(Mutex<Vec<Value>>);

impl Sheet {
    fn note(&self, key: &Key) -> Arc<AtomicU64> {
        let bits = Arc::new(AtomicU64::new(0));
        let attributes = key.labels().map(|label| KeyValue::new(label.key().to_owned(), label.value().to_owned()));
        let value = Value { name: key.name().to_owned(), attributes: attributes.collect(), bits: Arc::clone(&bits) };
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(value);
        bits
    }
}

impl Recorder for Sheet {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        Counter::from_arc(self.note(key))
    }
    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::from_arc(self.note(key))
    }
    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::noop()
    }
}

#[cfg(test)]
mod tests;
