//! Who is told of the daemon's state besides its readers: Prometheus, which asks for it, and an OpenTelemetry collector, which
//! is sent it.

#[cfg(feature = "metrics")]
use std::net::SocketAddr;
use std::path::Path;

use crate::config;

/// What listens or sends on behalf of those who watch. The clock does not depend on any of it.
#[derive(Default)]
pub(super) struct Telemetry {
    /// Where it was to listen, and it.
    #[cfg(feature = "metrics")]
    exporter: Option<(SocketAddr, crate::metrics::Exporter)>,
    #[cfg(feature = "opentelemetry")]
    sender: Option<(config::Metrics, crate::metrics::Sender)>,
}

impl Telemetry {
    /// Sets up what is `wanted` of the daemon whose page is `page`; what already is, goes on, and what failed is tried again.
    #[cfg_attr(
        not(feature = "metrics"),
        allow(unused_variables, clippy::unused_self, reason = "there is nothing to set up then")
    )]
    pub(super) fn follow(&mut self, wanted: &config::Metrics, page: &Path) {
        for told in wanted.left_out() {
            tracing::warn!("{told}");
        }
        #[cfg(feature = "metrics")]
        self.listen(wanted, page);
        #[cfg(feature = "opentelemetry")]
        self.send(wanted, page);
    }

    #[cfg(feature = "metrics")]
    fn listen(&mut self, wanted: &config::Metrics, page: &Path) {
        if self.exporter.as_ref().map(|(at, _)| *at) == wanted.listen {
            return;
        }
        // The old one goes first, for the new address may take in the old one. Should the new one fail, there is none at all:
        // nobody is to find metrics where the configuration has none.
        self.exporter = None;
        let Some(listen) = wanted.listen else { return };
        match crate::metrics::Exporter::start(listen, page) {
            Ok(exporter) => {
                tracing::info!("metrics at http://{}/metrics", exporter.address());
                self.exporter = Some((listen, exporter));
            }
            Err(error) => tracing::error!(%error, "going on without; a reload tries again"),
        }
    }

    #[cfg(feature = "opentelemetry")]
    fn send(&mut self, wanted: &config::Metrics, page: &Path) {
        let same = |was: &config::Metrics| was.otlp == wanted.otlp && was.otlp_interval == wanted.otlp_interval;
        if self.sender.as_ref().is_some_and(|(was, _)| same(was)) {
            return;
        }
        self.sender = None;
        let Some(collector) = &wanted.otlp else { return };
        match crate::metrics::Sender::start(collector, super::duration(wanted.otlp_interval), page) {
            Ok(sender) => {
                tracing::info!("metrics are sent to {collector}");
                self.sender = Some((wanted.clone(), sender));
            }
            Err(error) => tracing::error!(%error, "going on without; a reload tries again"),
        }
    }
}

#[cfg(all(test, feature = "metrics"))]
mod tests {
    use std::net::{Ipv4Addr, TcpListener, TcpStream};

    use super::*;

    fn at(address: SocketAddr) -> config::Metrics {
        config::Metrics { listen: Some(address), ..config::Metrics::default() }
    }

    #[test]
    fn where_nothing_could_listen_nothing_does_until_it_can() {
        let [first, second] = [(); 2].map(|()| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback"));
        let (free, busy) = (first.local_addr().expect("bound"), second.local_addr().expect("bound"));
        drop(first);
        let mut telemetry = Telemetry::default();
        telemetry.follow(&at(free), Path::new("/nonexistent/clock"));
        assert!(TcpStream::connect(free).is_ok());
        telemetry.follow(&at(busy), Path::new("/nonexistent/clock"));
        assert!(telemetry.exporter.is_none());
        assert!(TcpListener::bind(free).is_ok(), "the old one still listens");
        drop(second);
        // As a reload without a change does.
        telemetry.follow(&at(busy), Path::new("/nonexistent/clock"));
        assert!(TcpStream::connect(busy).is_ok());
        // An address that takes in the old one.
        let all = SocketAddr::from((Ipv4Addr::UNSPECIFIED, busy.port()));
        telemetry.follow(&at(all), Path::new("/nonexistent/clock"));
        assert_eq!(telemetry.exporter.as_ref().map(|(_, exporter)| exporter.address()), Some(all));
    }
}
