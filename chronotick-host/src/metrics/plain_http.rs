//! As much of an HTTP client as a collector on the same machine needs: one POST a connection, without TLS.

use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};

/// For connecting, for each write, and for the whole answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// An answer is a few bytes; more than this is not read.
const LONGEST_ANSWER: usize = 64 << 10;

/// Sends, waits, and says once when it begins to fail and when it works again. It blocks the thread that asks.
#[derive(Debug, Default)]
pub(super) struct PlainHttp {
    failing: AtomicBool,
}

#[async_trait]
impl HttpClient for PlainHttp {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let (uri, outcome) = (request.uri().clone(), post(&request));
        let refused = outcome.as_ref().ok().map(Response::status).filter(|status| !status.is_success());
        let cause = match (&outcome, refused) {
            (Err(cause), _) => Some(cause.to_string()),
            (Ok(_), Some(status)) => Some(format!("it answers {status}")),
            (Ok(_), None) => None,
        };
        match (cause, self.failing.load(Ordering::Relaxed)) {
            (Some(cause), false) => {
                tracing::warn!("no metrics for {uri}: {cause}; trying again every metrics.otlp_interval");
                self.failing.store(true, Ordering::Relaxed);
            }
            (None, true) => {
                tracing::info!("metrics are sent to {uri} again");
                self.failing.store(false, Ordering::Relaxed);
            }
            _ => {}
        }
        Ok(outcome?)
    }
}

fn post(request: &Request<Bytes>) -> io::Result<Response<Bytes>> {
    let authority = request.uri().authority().ok_or_else(|| invalid("the address names no host"))?;
    let mut stream = connect(authority.host().trim_matches(['[', ']']), authority.port_u16().unwrap_or(80))?;
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
    let mut head = format!("{} {path} HTTP/1.1\r\nHost: {authority}\r\nConnection: close\r\n", request.method());
    for (name, value) in request.headers() {
        let value = value.to_str().map_err(io::Error::other)?;
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str(&format!("Content-Length: {}\r\n\r\n", request.body().len()));
    stream.write_all(head.as_bytes())?;
    stream.write_all(request.body())?;
    understand(&whole(&mut stream, Instant::now() + PATIENCE)?)
}

/// All that is answered. One who sends a byte now and then is not waited for beyond `until`.
fn whole(stream: &mut TcpStream, until: Instant) -> io::Result<Vec<u8>> {
    let (mut answer, mut part) = (Vec::new(), [0; 4 << 10]);
    while answer.len() < LONGEST_ANSWER {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        stream.set_read_timeout(Some(left))?;
        match stream.read(&mut part) {
            Ok(0) => break,
            Ok(length) => answer.extend_from_slice(&part[..length]),
            Err(cause) if cause.kind() == io::ErrorKind::Interrupted => {}
            Err(cause) => return Err(cause),
        }
    }
    Ok(answer)
}

fn connect(host: &str, port: u16) -> io::Result<TcpStream> {
    let mut outcome = Err(invalid("the host has no address"));
    for address in (host, port).to_socket_addrs()? {
        outcome = TcpStream::connect_timeout(&address, PATIENCE);
        if outcome.is_ok() {
            break;
        }
    }
    let stream = outcome?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// Status and body. What the body says matters only where it came whole, so pieces are not put together.
fn understand(answer: &[u8]) -> io::Result<Response<Bytes>> {
    let end = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n");
    let (head, body) = end.map(|at| (&answer[..at], &answer[at + 4..])).ok_or_else(|| invalid("it speaks no HTTP"))?;
    let head = String::from_utf8_lossy(head);
    let mut words = head.lines().next().unwrap_or_default().split(' ');
    let version = words.next().filter(|version| version.starts_with("HTTP/1."));
    let status = version.and(words.next()).and_then(|code| code.parse::<u16>().ok());
    let status = status.ok_or_else(|| invalid("it speaks no HTTP"))?;
    let pieces = head.to_ascii_lowercase().contains("transfer-encoding: chunked");
    let body = if pieces { Bytes::new() } else { Bytes::copy_from_slice(body) };
    Response::builder().status(status).body(body).map_err(io::Error::other)
}

fn invalid(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_who_answers_a_byte_at_a_time_is_not_waited_for_long() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("loopback");
        let mut stream = TcpStream::connect(listener.local_addr().expect("bound")).expect("it listens");
        let (mut slow, _) = listener.accept().expect("a connection");
        slow.write_all(b"HTTP/1.1 200 OK\r\n").expect("it reads");
        let told = whole(&mut stream, Instant::now() + Duration::from_millis(20)).map_err(|cause| cause.kind());
        assert!(matches!(told, Err(io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock)), "{told:?}");
        slow.write_all(b"\r\n").expect("it reads");
        drop(slow);
        assert_eq!(whole(&mut stream, Instant::now() + PATIENCE).expect("the rest"), b"\r\n");
    }

    #[test]
    fn answers_are_understood_and_nonsense_is_not() {
        let whole = understand(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").expect("an answer");
        assert_eq!((whole.status().as_u16(), &whole.body()[..]), (200, &b"ok"[..]));
        let pieces = understand(b"HTTP/1.1 503 Busy\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok").expect("an answer");
        assert_eq!((pieces.status().as_u16(), pieces.body().len()), (503, 0));
        for nonsense in [&b""[..], b"HTTP/1.1 200 OK\r\n", b"SSH-2.0\r\n\r\n", b"HTTP/1.1 99999 X\r\n\r\n"] {
            assert!(understand(nonsense).is_err(), "{nonsense:?}");
        }
    }
}
