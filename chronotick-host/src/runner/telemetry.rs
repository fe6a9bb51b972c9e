//! Who is told of the daemon's state besides its readers: Prometheus, which asks for it.

use std::path::Path;

use crate::config;

/// What listens or sends on behalf of those who watch. The clock does not depend on any of it.
#[derive(Default)]
pub(super) struct Telemetry {
    #[cfg(feature = "metrics")]
    exporter: Option<crate::metrics::Exporter>,
}

impl Telemetry {
    /// Sets up what is `wanted` of the daemon whose page is `page`; what already is, goes on.
    pub(super) fn follow(&mut self, wanted: &config::Metrics, page: &Path) {
        self.listen(wanted, page);
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
}
