//! For Prometheus: `GET /metrics` over HTTP, and `/healthy` and `/ready` for whoever starts containers.

use std::net::SocketAddr;
use std::path::Path;

use chronotick_core::Tier;
use metrics::{describe_counter, describe_gauge, with_local_recorder};
use metrics_exporter_prometheus::PrometheusBuilder;

use super::catalogue::{COUNTERS, GAUGES, fill};
use super::http_server::{Answer, HttpServer};
use super::look::{Look, Onlooker};
use crate::error::{Error, Kind};

/// What Prometheus calls its text format.
const FORMAT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Answers Prometheus until it is dropped.
pub struct Exporter(HttpServer);

impl Exporter {
    /// Listens on `listen` (port 0 for a free one) and tells of the daemon whose page is `page`.
    ///
    /// # Errors
    /// `is_system` when the address cannot be listened on.
    pub fn start(listen: SocketAddr, page: &Path) -> Result<Self, Error> {
        let mut onlooker = Onlooker::new(page);
        let server = HttpServer::start(listen, "chronotick-metrics", move |path| answer(path, &mut onlooker));
        server.map(Self).map_err(|cause| {
            Error::new(Kind::System, format!("no metrics: cannot listen on {listen}: {cause}; change metrics.listen"))
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.0.address()
    }
}

impl std::fmt::Debug for Exporter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Exporter").field("address", &self.address()).finish_non_exhaustive()
    }
}

fn answer(path: &str, onlooker: &mut Onlooker) -> Answer {
    let (code, text) = match path {
        "/metrics" => match onlooker.look() {
            Ok(look) => (200, render(&look)),
            Err(error) => (503, format!("{error}\n")),
        },
        "/healthy" => match onlooker.status() {
            Ok(_) => (200, "the daemon answers\n".to_owned()),
            Err(error) => (503, format!("{error}\n")),
        },
        "/ready" => match onlooker.status() {
            Ok(status) if status.tier != Tier::Raw => (200, format!("tier {}\n", status.tier)),
            Ok(status) => (503, format!("tier {}: {}\n", status.tier, status.reason)),
            Err(error) => (503, format!("{error}\n")),
        },
        "/" => (200, "/metrics for Prometheus, /healthy and /ready for probes\n".to_owned()),
        _ => (404, "only /metrics, /healthy and /ready\n".to_owned()),
    };
    Answer { code, kind: FORMAT, text }
}

/// The answer to a scrape, in Prometheus's text format.
///
/// Every scrape fills a recorder of its own, so that sources that have gone leave no series behind and programs that use this
/// crate as a library keep their own recorder.
fn render(look: &Look) -> String {
    let recorder = PrometheusBuilder::new().build_recorder();
    let handle = recorder.handle();
    with_local_recorder(&recorder, || {
        GAUGES.iter().for_each(|&(name, help)| describe_gauge!(name, help));
        COUNTERS.iter().for_each(|&(name, help)| describe_counter!(name, help));
        fill(look);
    });
    handle.render()
}
