//! As much of an HTTP server as Prometheus and probes need: one GET or HEAD a connection, without TLS.
//!
//! Whoever reaches the port may be silent, slow or hostile, and neither memory nor descriptors nor the answers to others may
//! depend on that. So one thread has a few connections at a time, waits for none of them alone, and gives each a few seconds.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// Connections at a time; one more takes the place of who has been silent for longest.
const MOST_CONNECTIONS: usize = 16;
/// Longer heads of requests are refused.
const LONGEST_HEAD: usize = 8 << 10;
/// So much of what still comes is thrown away before a connection is closed: closed with something unread, the answer is lost.
const LONGEST_REST: usize = 64 << 10;
/// What a connection may take in all to say what it wants and to take the answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long nobody is let in after somebody could not be, for want of descriptors.
const REST: Duration = Duration::from_secs(1);

/// What the server says that nobody has asked it for.
const PLAIN: &str = "text/plain; charset=UTF-8";

/// What a path is answered with.
pub(super) struct Answer {
    pub(super) code: u16,
    /// The media type of the text.
    pub(super) kind: &'static str,
    pub(super) text: String,
}

/// Answers until it is dropped. Then nothing listens any more, and the address can be listened on again.
pub(super) struct HttpServer {
    address: SocketAddr,
    listener: Arc<Mutex<Option<TcpListener>>>,
    /// Its end is the thread's sign to end.
    sign: Option<UnixStream>,
}

impl HttpServer {
    /// Listens on `listen` and answers each path with what `answer` makes of it, in a thread of this `name`.
    pub(super) fn start(
        listen: SocketAddr,
        name: &str,
        answer: impl FnMut(&str) -> Answer + Send + 'static,
    ) -> io::Result<Self> {
        let listener = TcpListener::bind(listen)?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let listener = Arc::new(Mutex::new(Some(listener)));
        let (sign, over) = UnixStream::pair()?;
        let shared = Arc::clone(&listener);
        thread::Builder::new().name(name.to_owned()).spawn(move || serve(&shared, &over, answer))?;
        Ok(Self { address, listener, sign: Some(sign) })
    }

    /// Where it listens.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for HttpServer {
    fn drop(&mut self) {
        // The thread may be waiting for an answer of the very loop that drops this, so it is not waited for. It holds the
        // listener only while it waits for connections, and lets go at the sign.
        self.sign = None;
        self.listener.lock().unwrap_or_else(PoisonError::into_inner).take();
    }
}

fn serve(shared: &Mutex<Option<TcpListener>>, over: &UnixStream, mut answer: impl FnMut(&str) -> Answer) {
    let mut connections: Vec<Connection> = Vec::new();
    let mut resting: Option<Instant> = None;
    loop {
        {
            let shared = shared.lock().unwrap_or_else(PoisonError::into_inner);
            let Some(listener) = &*shared else { return };
            if wait(listener, over, &connections, resting) {
                return;
            }
            let now = Instant::now();
            if resting.is_none_or(|until| until <= now) {
                resting = let_in(listener, &mut connections, now).err().map(|cause| {
                    tracing::debug!(%cause, "nobody is let in for a moment");
                    now + REST
                });
            }
        }
        turn(&mut connections, Instant::now(), &mut answer);
    }
}

/// Waits until something arrives, can be sent or is due. Returns whether the server is over.
fn wait(listener: &TcpListener, over: &UnixStream, connections: &[Connection], resting: Option<Instant>) -> bool {
    let now = Instant::now();
    let resting = resting.filter(|until| *until > now);
    // Who waits outside keeps the listener readable, so it is left out while it rests.
    let listener = resting.is_none().then(|| PollFd::new(listener, PollFlags::IN));
    let mut fds: Vec<_> = [PollFd::new(over, PollFlags::IN)]
        .into_iter()
        .chain(listener)
        .chain(connections.iter().map(|connection| PollFd::new(&connection.stream, connection.awaits())))
        .collect();
    let due = connections.iter().map(|connection| connection.until).chain(resting).min();
    let timeout = due.map(|due| {
        let left = due.saturating_duration_since(now);
        Timespec { tv_sec: i64::try_from(left.as_secs()).unwrap_or(1), tv_nsec: i64::from(left.subsec_nanos()) }
    });
    // Interrupted by a signal: what is due is looked at all the same.
    let _ = poll(&mut fds, timeout.as_ref());
    !fds[0].revents().is_empty()
}

/// Lets in who has connected, a few of them a turn.
fn let_in(listener: &TcpListener, connections: &mut Vec<Connection>, now: Instant) -> io::Result<()> {
    for _ in 0..MOST_CONNECTIONS {
        match listener.accept() {
            Ok((stream, _)) => {
                stream.set_nonblocking(true)?;
                if connections.len() == MOST_CONNECTIONS {
                    // Who asks at once is answered in the turn after this, however many others only hold their places.
                    let silent = connections.iter().position(|connection| matches!(connection.state, State::Asked(_)));
                    connections.remove(silent.unwrap_or(0));
                }
                connections.push(Connection { stream, until: now + PATIENCE, state: State::Asked(Vec::new()) });
            }
            Err(cause) if cause.kind() == io::ErrorKind::WouldBlock => break,
            Err(cause) if cause.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(cause) => return Err(cause),
        }
    }
    Ok(())
}

/// Reads and writes what goes without waiting, and answers the requests that are whole.
fn turn(connections: &mut Vec<Connection>, now: Instant, answer: &mut impl FnMut(&str) -> Answer) {
    let mut busy = Duration::ZERO;
    connections.retain_mut(|connection| match connection.drive() {
        Ok(None) => now < connection.until,
        Ok(Some(asked)) => {
            let began = Instant::now();
            connection.reply(asked, answer);
            busy += began.elapsed();
            true
        }
        Err(_) => false,
    });
    // What it took to find the answers is nobody's delay.
    connections.iter_mut().for_each(|connection| connection.until += busy);
}

/// Somebody who has connected.
struct Connection {
    stream: TcpStream,
    until: Instant,
    state: State,
}

enum State {
    /// So much of the head has arrived.
    Asked(Vec<u8>),
    /// So much of the answer is still to be sent.
    Answered(Vec<u8>),
    /// The other side is to hang up, or may still send so much.
    Told(usize),
}

/// What a request wants, or the code to refuse it with.
type Asked = Result<Request, u16>;

#[derive(Debug, PartialEq, Eq)]
struct Request {
    path: String,
    /// Not the text itself, only what stands before it.
    head_only: bool,
}

impl Connection {
    fn awaits(&self) -> PollFlags {
        match self.state {
            State::Asked(_) | State::Told(_) => PollFlags::IN,
            State::Answered(_) => PollFlags::OUT,
        }
    }

    /// Goes on as far as it goes without waiting. Returns the request once it is whole.
    ///
    /// # Errors
    /// When the connection is over.
    fn drive(&mut self) -> io::Result<Option<Asked>> {
        match self.go_on() {
            Err(cause) if matches!(cause.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => Ok(None),
            outcome => outcome,
        }
    }

    fn go_on(&mut self) -> io::Result<Option<Asked>> {
        let mut part = [0; LONGEST_HEAD];
        match &mut self.state {
            State::Asked(head) => {
                let room = LONGEST_HEAD - head.len();
                let length = some(self.stream.read(&mut part[..room])?)?;
                head.extend_from_slice(&part[..length]);
                let end = head.windows(4).position(|bytes| bytes == b"\r\n\r\n");
                Ok(end.map(|end| understand(&head[..end])).or((length == room).then_some(Err(400))))
            }
            State::Answered(rest) => {
                let length = some(self.stream.write(rest)?)?;
                rest.drain(..length);
                if rest.is_empty() {
                    self.stream.shutdown(Shutdown::Write)?;
                    self.state = State::Told(LONGEST_REST);
                }
                Ok(None)
            }
            State::Told(room) => {
                let length = some(self.stream.read(&mut part)?)?;
                *room = some(room.saturating_sub(length))?;
                Ok(None)
            }
        }
    }

    fn reply(&mut self, asked: Asked, answer: &mut impl FnMut(&str) -> Answer) {
        let refusal = |code, text: &str| Answer { code, kind: PLAIN, text: text.to_owned() };
        let head_only = asked.as_ref().is_ok_and(|request| request.head_only);
        let Answer { code, kind, text } = match asked {
            Ok(request) => answer(&request.path),
            Err(405) => refusal(405, "only GET\n"),
            Err(505) => refusal(505, "only HTTP/1.0 and HTTP/1.1\n"),
            Err(code) => refusal(code, "no request of HTTP, or one with a head of more than 8 KiB\n"),
        };
        let reason = match code {
            200 => "OK",
            400 => "Bad Request",
            404 => "Not Found",
            405 => "Method Not Allowed",
            503 => "Service Unavailable",
            505 => "HTTP Version Not Supported",
            _ => "",
        };
        let length = text.len();
        let head = format!(
            "HTTP/1.1 {code} {reason}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
        );
        let text = if head_only { "" } else { &text };
        self.state = State::Answered([head.as_bytes(), text.as_bytes()].concat());
    }
}

/// Nothing at all is the end.
fn some(length: usize) -> io::Result<usize> {
    if length == 0 { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(length) }
}

/// What the head of a request, without the blank line at its end, wants.
fn understand(head: &[u8]) -> Asked {
    let head = std::str::from_utf8(head).map_err(|_| 400u16)?;
    let mut lines = head.split("\r\n");
    let mut words = lines.next().unwrap_or_default().split(' ');
    let (Some(method), Some(target), Some(version), None) = (words.next(), words.next(), words.next(), words.next())
    else {
        return Err(400);
    };
    if !version.starts_with("HTTP/") || !lines.all(|line| line.contains(':')) {
        return Err(400);
    }
    if !matches!(version, "HTTP/1.0" | "HTTP/1.1") {
        return Err(505);
    }
    if !matches!(method, "GET" | "HEAD") {
        return Err(405);
    }
    let path = target.split('?').next().unwrap_or_default().to_owned();
    Ok(Request { path, head_only: method == "HEAD" })
}

#[cfg(test)]
mod tests;
