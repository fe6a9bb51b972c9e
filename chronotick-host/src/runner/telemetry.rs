//! Who is told of the daemon's state besides its readers: Prometheus, which asks for it, and an OpenTelemetry collector, which
//! is sent it.

use std::path::Path;

use crate::config;

/// What listens or sends on behalf of those who watch. The clock does not depend on any of it.
#[derive(Default)]
pub(super) struct Telemetry {
    #[cfg(feature = "metrics")]
    exporter: Option<crate::metrics::Exporter>,
    #[cfg(feature = "opentelemetry")]
    sender: Option<(config::Metrics, crate::metrics::Sender)>,
}

impl Telemetry {
    /// Sets up what is `wanted` of the daemon whose page is `page`; what already is, goes on.
    pub(super) fn follow(&mut self, wanted: &config::Metrics, page: &Path) {
        self.listen(wanted, page);
        self.send(wanted, page);
    }

    #[cfg(feature = "metrics")]
    fn listen(&mut self, wanted: &config::Metrics, page: &Path) {
        let Some(listen) = wanted.listen else {
            self.exporter = None;
            return;
        };
        if self.exporter.as_ref().is_some_and(|exporter| exporter.address() == listen) {
            return;
        }
        match crate::metrics::Exporter::start(listen, page) {
            Ok(exporter) => {
                tracing::info!("metrics at http://{}/metrics", exporter.address());
                self.exporter = Some(exporter);
            }
            Err(error) => tracing::error!(%error, "going on without"),
        }
    }

    #[cfg(not(feature = "metrics"))]
    fn listen(&mut self, wanted: &config::Metrics, _page: &Path) {
        if let Some(listen) = wanted.listen {
            tracing::warn!("nothing listens on {listen}: this program was built without the feature `metrics`");
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
            Err(error) => tracing::error!(%error, "going on without"),
        }
    }

    #[cfg(not(feature = "opentelemetry"))]
    fn send(&mut self, wanted: &config::Metrics, _page: &Path) {
        if let Some(collector) = &wanted.otlp {
            tracing::warn!(
                "nothing is sent to {collector}: this program was built without the feature `opentelemetry`"
            );
        }
    }
}
