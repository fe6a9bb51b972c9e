//! The daemon's state for Prometheus: `GET /metrics` over HTTP, and `/healthy` and `/ready` for whoever starts containers.
//!
//! The exporter is a thread that asks the daemon through its status socket and reads the page as any reader does. It shares
//! nothing with the daemon's loop, costs nothing while nobody asks, and what it tells of the page is what readers see.

mod exposition;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;

use chronotick_core::Tier;
use tiny_http::{Header, Method, Request, Response, Server};

pub use exposition::{PageView, catalogue, render};

use crate::error::{Error, Kind};
use crate::reader::Reader;
use crate::runner::Status;

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
    let mut readings = Readings { page: page.to_owned(), reader: None };
    while let Ok(request) = server.recv() {
        if let Err(cause) = answer(request, &mut readings) {
            tracing::debug!(%cause, "metrics not delivered");
        }
    }
}

fn answer(request: Request, readings: &mut Readings) -> std::io::Result<()> {
    let path = request.url().split('?').next().unwrap_or_default().to_owned();
    if !matches!(request.method(), Method::Get | Method::Head) {
        return request.respond(Response::from_string("only GET\n").with_status_code(405));
    }
    let (code, text) = match path.as_str() {
        "/metrics" => match Status::ask(&readings.page) {
            Ok(status) => (200, render(&status, readings.look())),
            Err(error) => (503, format!("{error}\n")),
        },
        "/healthy" => match Status::ask(&readings.page) {
            Ok(_) => (200, "the daemon answers\n".to_owned()),
            Err(error) => (503, format!("{error}\n")),
        },
        "/ready" => match Status::ask(&readings.page) {
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

/// The page as a reader sees it, attached to when it is there.
struct Readings {
    page: PathBuf,
    reader: Option<Reader>,
}

impl Readings {
    fn look(&mut self) -> Option<PageView> {
        if self.reader.is_none() {
            self.reader = Reader::attach(&self.page).ok();
        }
        let reader = self.reader.as_ref()?;
        Some(PageView { age: reader.now().age(), heartbeat_age: reader.heartbeat_age() })
    }
}
