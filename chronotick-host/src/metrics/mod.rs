//! The daemon's state for those who watch many: Prometheus, which asks for it, and an OpenTelemetry collector, which is sent it
//! (feature `opentelemetry`).
//!
//! Both are threads that ask the daemon through its status socket and read the page as any reader does. They share nothing
//! with the daemon's loop, cost it nothing while nobody asks, and what they tell of the page is what readers see.

mod catalogue;
mod http_server;
mod look;
#[cfg(feature = "opentelemetry")]
mod otlp;
#[cfg(feature = "opentelemetry")]
mod plain_http;
mod prometheus;

pub use catalogue::catalogue;
#[cfg(feature = "opentelemetry")]
pub use otlp::Sender;
pub use prometheus::Exporter;
