//! For Prometheus: `GET /metrics` over HTTP, and `/healthy` and `/ready` for whoever starts containers.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::thread;

use chronotick_core::Tier;
use metrics::{describe_counter, describe_gauge, with_local_recorder};
use metrics_exporter_prometheus::PrometheusBuilder;
use tiny_http::{Header, Method, Request, Response, Server};

use super::catalogue::{COUNTERS, GAUGES, fill};
use super::look::{Look, Onlooker};
use crate::error::{Error, Kind};

/// What Prometheus calls its text format.
const FORMAT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Answers Prometheus until it is dropped.
pub struct Exporter {
    server: Arc<Server>,
    address: SocketAddr,
}

impl Exporter {
    /// Listens on `listen` (port 0 for a free one) and tells of the daemon whose page is `page`.
    ///
    /// # Errors
    /// `is_system` when the address cannot be listened on.
    pub fn start(listen: SocketAddr, page: &Path) -> Result<Self, Error> {
        let refused = |what: &str| {
            Error::new(Kind::System, format!("no metrics: cannot listen on {listen}: {what}; change metrics.listen"))
        };
        let server = Server::http(listen).map_err(|cause| refused(&cause.to_string()))?;
        let address = server.server_addr().to_ip().unwrap_or(listen);
        let server = Arc::new(server);
        let (requests, page) = (Arc::clone(&server), page.to_owned());
        let thread = thread::Builder::new().name("chronotick-metrics".to_owned());
        thread.spawn(move || serve(&requests, &page)).map_err(|cause| refused(&cause.to_string()))?;
        Ok(Self { server, address })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Exporter {
    fn drop(&mut self) {
        // The thread may be waiting for an answer of the very loop that drops this, so it is not waited for.
        self.server.unblock();
    }
}

impl std::fmt::Debug for Exporter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Exporter").field("address", &self.address).finish_non_exhaustive()
    }
}

/// Answers one request after the other until it is unblocked.
fn serve(server: &Server, page: &Path) {
    let mut onlooker = Onlooker::new(page);
    while let Ok(request) = server.recv() {
        if let Err(cause) = answer(request, &mut onlooker) {
            tracing::debug!(%cause, "metrics not delivered");
        }
    }
}

fn answer(request: Request, onlooker: &mut Onlooker) -> std::io::Result<()> {
    let path = request.url().split('?').next().unwrap_or_default().to_owned();
    if !matches!(request.method(), Method::Get | Method::Head) {
        return request.respond(Response::from_string("only GET\n").with_status_code(405));
    }
    let (code, text) = match path.as_str() {
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
    let mut response = Response::from_string(text).with_status_code(code);
    if let Ok(header) = Header::from_bytes("Content-Type", FORMAT) {
        response = response.with_header(header);
    }
    request.respond(response)
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
