//! What yields samples: one trait, and NTP servers behind it.
//!
//! A source owns its descriptors and decides when it wants to act. The runner waits for all of them together and calls
//! [`Source::drive`] on each; nothing a source does there may block.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::mpsc::{Receiver, TryRecvError, channel};
use std::thread;

use chronotick_core::units::{Local, Span, Timestamp, Utc};
use chronotick_core::{Sample, SourceId};

use super::status::SourceStatus;
use super::wake::Stop;
use crate::config::ServerAddress;
use crate::ntp::client::{Association, Exchange, Refusal, Settings};
use crate::ntp::packet::NtpTimestamp;
use crate::os::counter::LocalClock;
use crate::os::datagram;

/// Something that yields samples.
pub trait Source: Send {
    /// Its name in the configuration, in logs and in `status`.
    fn name(&self) -> &str;
    /// What to wait for, if anything.
    fn fd(&self) -> Option<BorrowedFd<'_>>;
    /// When [`Source::drive`] wants to be called even if nothing arrives. `None`: never.
    fn poll_timeout(&self, now: Timestamp<Local>) -> Option<Timestamp<Local>>;
    /// Does what is due and takes what has arrived; at most one sample a call.
    fn drive(&mut self, clock: &dyn LocalClock) -> Option<Sample>;
    /// How long from now the hard bound stays within its target.
    fn set_room(&mut self, room: Span);
    /// The local counter was disturbed: start over.
    fn restart(&mut self);
    /// For people.
    fn status(&self, now: Timestamp<Local>) -> SourceStatus;
}

/// Instants before this are taken for a machine whose clock was never set: 2026-01-01.
const EARLIEST_PIVOT: Timestamp<Utc> = Timestamp::from_nanos(1_767_225_600_000_000_000);
/// Losses in a row after which the name is resolved anew.
const RESOLVE_AFTER: u32 = 4;
/// A name that cannot be resolved is tried again after this.
const RESOLVE_AGAIN: Span = Span::from_secs(5);
/// The kernel's arrival time is trusted to this part of its distance from now, for the two clocks may run at different rates.
const RATE_MARGIN: i64 = 1_000;
/// How far the paired reading of the two clocks may be apart.
const PAIR_MARGIN: Span = Span::from_nanos(100);

/// An NTP server.
pub(crate) struct NtpSource {
    id: SourceId,
    name: String,
    server: ServerAddress,
    settings: Settings,
    association: Association,
    peer: Peer,
    waker: Stop,
    /// The address that was silent, so that another one of the same name gets its turn.
    silent: Option<SocketAddr>,
    /// The newest reason why no packet could be exchanged.
    trouble: Option<String>,
    kernel_arrivals: u64,
    /// Local time and the operating system's UTC, read together before the newest request was sent.
    paired: (Timestamp<Local>, Timestamp<Utc>),
}

/// Where the server is.
enum Peer {
    /// Its name is being resolved.
    Resolving(Receiver<io::Result<Vec<SocketAddr>>>),
    /// Its name could not be resolved; next try at this instant, `None` for at once.
    Unresolved(Option<Timestamp<Local>>),
    /// At this address.
    At { socket: UdpSocket, address: SocketAddr },
}

impl NtpSource {
    /// A source that starts with its first [`Source::drive`].
    pub(crate) fn new(id: SourceId, server: ServerAddress, settings: Settings, waker: Stop) -> Self {
        let association = Association::new(settings);
        let paired = (Timestamp::from_nanos(0), Timestamp::from_nanos(0));
        let (name, peer) = (server.to_string(), Peer::Unresolved(None));
        Self {
            id,
            name,
            server,
            settings,
            association,
            peer,
            waker,
            silent: None,
            trouble: None,
            kernel_arrivals: 0,
            paired,
        }
    }

    /// Moves towards a socket. Names are resolved in a thread of their own, because that can take long.
    fn reach(&mut self, now: Timestamp<Local>) {
        match &self.peer {
            Peer::Unresolved(due) if due.is_none_or(|due| due <= now) => {
                let (sender, receiver) = channel();
                let (host, port) = (self.server.host().to_owned(), self.server.port());
                if let Ok(address) = host.parse::<IpAddr>() {
                    self.open(&[SocketAddr::new(address, port)], now);
                    return;
                }
                let waker = self.waker.clone();
                let resolver = thread::Builder::new().name("chronotick-dns".to_owned()).spawn(move || {
                    // The runner may be gone by now, which is nobody's loss.
                    let _ = sender.send((host.as_str(), port).to_socket_addrs().map(Iterator::collect));
                    waker.wake();
                });
                self.peer = match resolver {
                    Ok(_) => Peer::Resolving(receiver),
                    Err(_) => Peer::Unresolved(Some(now.saturating_add(RESOLVE_AGAIN))),
                };
            }
            Peer::Resolving(receiver) => match receiver.try_recv() {
                Ok(Ok(addresses)) => self.open(&addresses, now),
                Ok(Err(cause)) => self.unresolved(format!("the name cannot be resolved: {cause}"), now),
                Err(TryRecvError::Disconnected) => self.unresolved("the name cannot be resolved".to_owned(), now),
                Err(TryRecvError::Empty) => {}
            },
            Peer::Unresolved(_) | Peer::At { .. } => {}
        }
    }

    /// Opens a socket to the first address that takes one: by preference not the one that has just been silent.
    fn open(&mut self, addresses: &[SocketAddr], now: Timestamp<Local>) {
        let silent = self.silent.take();
        let mut ranked: Vec<_> = addresses.iter().copied().filter(|a| Some(*a) != silent).collect();
        ranked.extend(silent.filter(|a| addresses.contains(a)));
        let mut trouble = "the name has no address".to_owned();
        for address in ranked {
            match connect(address) {
                Ok(socket) => {
                    self.peer = Peer::At { socket, address };
                    return;
                }
                Err(cause) => trouble = format!("{address} cannot be reached: {cause}"),
            }
        }
        self.unresolved(trouble, now);
    }

    fn unresolved(&mut self, trouble: String, now: Timestamp<Local>) {
        tracing::debug!(source = self.name, trouble);
        self.trouble = Some(trouble);
        self.peer = Peer::Unresolved(Some(now.saturating_add(RESOLVE_AGAIN)));
    }

    fn ask(&mut self, clock: &dyn LocalClock) {
        let Peer::At { socket, .. } = &self.peer else { return };
        let nonce = NtpTimestamp::from_bits(rand::random());
        let bytes = self.association.request(nonce);
        let (ticks, utc) = clock.realtime();
        self.paired = (clock.scale().local(ticks), utc);
        let sent = clock.now();
        match socket.send(&bytes) {
            Ok(_) => self.association.sent(nonce, sent),
            Err(cause) => {
                self.trouble = Some(format!("cannot send: {cause}"));
                self.association.failed(sent);
            }
        }
    }

    /// Takes datagrams until one measures something or none is left.
    fn listen(&mut self, clock: &dyn LocalClock) -> Option<Exchange> {
        let mut buffer = [0; 1024];
        loop {
            let Peer::At { socket, .. } = &self.peer else { return None };
            if let Some(left) = datagram::departure(socket).and_then(|note| departed(self.paired, note)) {
                self.association.departed(left);
            }
            let (length, note) = match datagram::receive(socket, &mut buffer) {
                Ok(received) => (received.length, received.arrival),
                Err(cause) if cause.kind() == io::ErrorKind::WouldBlock => return None,
                Err(cause) if cause.kind() == io::ErrorKind::Interrupted => continue,
                Err(cause) => {
                    // An earlier request was bounced: the port is closed or there is no route.
                    self.trouble = Some(cause.to_string());
                    if self.association.is_waiting() {
                        self.association.failed(clock.now());
                    }
                    return None;
                }
            };
            let (received, from_kernel, utc) = arrived(clock, note);
            match self.association.handle_packet(&buffer[..length], received, utc.max(EARLIEST_PIVOT)) {
                Ok(exchange) => {
                    self.kernel_arrivals += u64::from(from_kernel);
                    self.trouble = None;
                    return Some(exchange);
                }
                Err(refusal @ (Refusal::Unsolicited | Refusal::Malformed(_))) => {
                    tracing::debug!(source = self.name, %refusal, "packet ignored");
                }
                Err(refusal) => {
                    tracing::debug!(source = self.name, %refusal, "answer refused");
                    self.trouble = Some(refusal.to_string());
                }
            }
        }
    }
}

impl Source for NtpSource {
    fn name(&self) -> &str {
        &self.name
    }

    fn fd(&self) -> Option<BorrowedFd<'_>> {
        match &self.peer {
            Peer::At { socket, .. } => Some(socket.as_fd()),
            _ => None,
        }
    }

    fn poll_timeout(&self, now: Timestamp<Local>) -> Option<Timestamp<Local>> {
        match &self.peer {
            _ if self.association.is_stopped() => None,
            Peer::At { .. } => self.association.poll_timeout(now),
            Peer::Unresolved(due) => Some(due.unwrap_or(now)),
            // The resolver wakes the runner.
            Peer::Resolving(_) => None,
        }
    }

    fn drive(&mut self, clock: &dyn LocalClock) -> Option<Sample> {
        if self.association.is_stopped() {
            return None;
        }
        let exchange = self.listen(clock);
        let now = clock.now();
        if self.association.handle_timeout(now) {
            self.trouble = Some("no answer".to_owned());
        }
        if let Peer::At { address, .. } = &self.peer
            && self.association.schedule().losses() >= RESOLVE_AFTER
            && self.association.wants_request(now)
        {
            self.silent = Some(*address);
            self.peer = Peer::Unresolved(None);
        }
        self.reach(now);
        if self.association.wants_request(now) {
            self.ask(clock);
        }
        Some(exchange?.to_sample(self.id, None))
    }

    fn set_room(&mut self, room: Span) {
        self.association.set_room(room);
    }

    fn restart(&mut self) {
        self.association = Association::new(self.settings);
        self.peer = Peer::Unresolved(None);
    }

    fn status(&self, now: Timestamp<Local>) -> SourceStatus {
        let counts = self.association.counts();
        let last = self.association.last();
        let address = match &self.peer {
            Peer::At { address, .. } => Some(address.to_string()),
            _ => None,
        };
        let state = match (&self.peer, self.trouble.is_some()) {
            _ if self.association.is_stopped() => "stopped",
            (Peer::Resolving(_) | Peer::Unresolved(_), _) => "unresolved",
            (_, true) => "unreachable",
            _ if last.is_some() => "reachable",
            _ => "waiting",
        };
        SourceStatus {
            name: self.name.clone(),
            kind: "ntp".to_owned(),
            state: state.to_owned(),
            verdict: None,
            reason: self.trouble.clone(),
            address,
            stratum: last.map(|l| l.stratum),
            leap: last.map(|l| l.leap.as_str().to_owned()),
            offset_ns: last.map(|l| l.offset.as_nanos()),
            delay_ns: last.map(|l| l.delay.as_nanos()),
            root_distance_ns: last.map(|l| l.root_distance.as_nanos()),
            age_s: last.map(|l| now.since(l.local).as_secs_f64()),
            poll_s: self.association.schedule().interval().as_secs_f64(),
            requests: counts.requests,
            accepted: counts.accepted,
            refused: counts.refused,
            lost: counts.lost,
            unsolicited: counts.unsolicited,
            kernel_timestamps: self.kernel_arrivals,
        }
    }
}

/// A socket of its own for each server, so that only that server's packets get in and the port cannot be guessed.
fn connect(address: SocketAddr) -> io::Result<UdpSocket> {
    let any: IpAddr = if address.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0))?;
    socket.connect(address)?;
    socket.set_nonblocking(true)?;
    if let Err(cause) = datagram::enable(&socket) {
        tracing::debug!(%cause, "no times from the kernel");
    }
    Ok(socket)
}

/// The counter when the datagram arrived, whether the kernel's note of it was used, and the operating system's UTC.
///
/// The note is a reading of CLOCK_REALTIME. A pair of readings of both clocks, taken just after, carries it over. It is
/// never moved to after now, and anything but a short while before now is not believed (the clock was stepped).
pub(crate) fn arrived(
    clock: &dyn LocalClock,
    note: Option<Timestamp<Utc>>,
) -> (Timestamp<Local>, bool, Timestamp<Utc>) {
    let woken = clock.now();
    let (ticks, utc) = clock.realtime();
    let paired = clock.scale().local(ticks);
    let Some(ago) = note.map(|note| utc.since(note)).filter(|ago| *ago >= Span::ZERO && *ago < Span::from_secs(1))
    else {
        return (woken, false, utc);
    };
    let margin = Span::from_nanos(ago.as_nanos() / RATE_MARGIN).saturating_add(PAIR_MARGIN);
    let noted = paired.saturating_sub(ago).saturating_add(margin);
    (noted.min(woken), noted < woken, utc)
}

/// The counter when the newest request left, from the kernel's note of it and a pair of readings taken before it was sent.
///
/// Never moved to before the pair; a note from before it belongs to an earlier request, and one from long after it to a
/// clock that was stepped.
fn departed((local, utc): (Timestamp<Local>, Timestamp<Utc>), note: Timestamp<Utc>) -> Option<Timestamp<Local>> {
    let after = note.since(utc);
    if after < Span::ZERO || after >= Span::from_secs(1) {
        return None;
    }
    let margin = Span::from_nanos(after.as_nanos() / RATE_MARGIN).saturating_add(PAIR_MARGIN);
    Some(local.saturating_add(after).saturating_sub(margin))
}
