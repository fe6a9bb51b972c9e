//! An NTP server as a source: sockets and time stamps around the [association](crate::ntp::client).

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};

use chronotick_core::selection::Verdict;
use chronotick_core::units::{Local, Span, Timestamp, Utc};
use chronotick_core::{Sample, SourceId};

use super::claims::{Claim, Claims};
use super::lookup::{Found, Lookup, Nothing, Silent};
use super::source::{Known, Source};
pub(crate) use super::stamps::arrived;
use super::stamps::departed;
use super::status::SourceStatus;
use super::wake::Stop;
use crate::config::{Config, Server};
use crate::ntp::client::{Association, Exchange, Refusal, Settings};
use crate::ntp::packet::{Kiss, Leap};
use crate::nts::session::{Fresh, Session};
use crate::os::counter::LocalClock;
use crate::os::datagram;

/// Instants before this are taken for a machine whose clock was never set: 2026-01-01.
const EARLIEST_PIVOT: Timestamp<Utc> = Timestamp::from_nanos(1_767_225_600_000_000_000);
/// Instants after this, 68 years on, are taken for a clock that reads nonsense. From between the two, whatever the clock says,
/// every instant of those 68 years is nearest in its own era.
const LATEST_PIVOT: Timestamp<Utc> = EARLIEST_PIVOT.saturating_add(Span::from_secs(68 * 31_557_600));
/// Losses in a row after which the name is resolved anew.
const RESOLVE_AFTER: u32 = 4;
/// A search that led to nothing is repeated after this, then after twice as long, and so on.
const SEARCH_AGAIN: Span = Span::from_secs(5);
/// At least this often where no server is troubled with it.
const NOBODY_ASKED: Span = Span::from_secs(64);
/// At least this often where it is a key exchange, in which a server computes for strangers (RFC 8915, section 4.2).
const KEYS_AGAIN: Span = Span::from_secs(3600);
/// Polls in a row to which the server replies that it cannot read them after which keys are agreed on again.
const COMPLAINTS: u32 = 2;
/// Datagrams that are taken at a time, so that one sender cannot keep the others waiting.
const MOST_DATAGRAMS: usize = 32;
/// What docs/SOURCES.md has a fed chronyd call this clock.
const OWN_REFERENCE: [u8; 4] = *b"CTK\0";
/// Longer datagrams are cut, and then refused.
const LONGEST: usize = 2048;

/// The sources of `[ntp]`, numbered from 0: one for every server, several for a pool.
pub(super) fn sources(config: &Config, claims: &Claims, waker: &Stop) -> Vec<Box<dyn Source>> {
    let mut sources: Vec<Box<dyn Source>> = Vec::new();
    for server in &config.ntp.servers {
        let settings = Settings { interleaved: server.interleaved, ..config.client() };
        for place in 1..=server.count() {
            let id = SourceId(u8::try_from(sources.len()).unwrap_or(u8::MAX));
            let name = if server.pool { format!("{} ({place})", server.address) } else { server.address.to_string() };
            let mut source = NtpSource::new(id, name, server.clone(), settings, claims.clone(), waker.clone());
            source.feeding = config.feed.chrony_sock.is_some();
            sources.push(Box::new(source));
        }
    }
    sources
}

/// An NTP server.
struct NtpSource {
    id: SourceId,
    name: String,
    server: Server,
    association: Association,
    peer: Peer,
    waker: Stop,
    claims: Claims,
    /// A chronyd is given this clock.
    feeding: bool,
    /// Where the last packets went.
    address: Option<SocketAddr>,
    silent: Silent,
    /// Members of the pool that said to go away.
    denied: Vec<IpAddr>,
    /// Searches in a row that found no server.
    searches: u32,
    /// Key exchanges since the last measurement, and when the newest ended.
    agreements: u32,
    agreed: Option<Timestamp<Local>>,
    /// Polls since the last measurement to which the server replied that it could not read them.
    complaints: u32,
    /// The newest reason why no packet could be exchanged.
    trouble: Option<String>,
    kernel_arrivals: u64,
    /// What all sources together make of the present, while an answer is awaited.
    known: Option<Known>,
    /// An authenticated source has taken over, and what this one said of the same server counts no more.
    void: bool,
    /// Local time and the operating system's UTC, read together before the newest request was sent.
    paired: (Timestamp<Local>, Timestamp<Utc>),
}

/// Where the server is.
enum Peer {
    /// It is being looked for.
    Resolving(Lookup),
    /// Not known; next try at this instant, `None` for at once.
    Unresolved(Option<Timestamp<Local>>),
    /// At this address.
    At { socket: UdpSocket, address: SocketAddr, session: Option<Box<Session>> },
}

impl NtpSource {
    /// A source that starts with its first [`Source::drive`].
    fn new(id: SourceId, name: String, server: Server, settings: Settings, claims: Claims, waker: Stop) -> Self {
        Self {
            id,
            name,
            server,
            association: Association::new(settings),
            peer: Peer::Unresolved(None),
            waker,
            claims,
            feeding: false,
            address: None,
            silent: Silent::default(),
            denied: Vec::new(),
            searches: 0,
            agreements: 0,
            agreed: None,
            complaints: 0,
            trouble: None,
            kernel_arrivals: 0,
            known: None,
            void: false,
            paired: (Timestamp::from_nanos(0), Timestamp::from_nanos(0)),
        }
    }

    /// Moves towards a socket.
    fn reach(&mut self, now: Timestamp<Local>) {
        match &self.peer {
            Peer::Unresolved(due) if due.is_none_or(|due| due <= now) => {
                let address = &self.server.address;
                if let (Ok(ip), false) = (address.host().parse::<IpAddr>(), self.server.nts) {
                    let addresses = vec![SocketAddr::new(ip, address.port())];
                    self.open(Found { addresses, session: None }, now);
                    return;
                }
                match Lookup::start(&self.server, &self.silent, &self.waker) {
                    Ok(lookup) => self.peer = Peer::Resolving(lookup),
                    Err(cause) => self.unresolved(format!("no thread to look for the server: {cause}"), now),
                }
            }
            Peer::Resolving(lookup) => match lookup.poll() {
                Some(Ok(found)) => {
                    self.asked(found.session.is_some(), now);
                    self.open(found, now);
                }
                Some(Err(Nothing { told, asked })) => {
                    self.asked(asked, now);
                    self.unresolved(told, now);
                }
                None => {}
            },
            Peer::Unresolved(_) | Peer::At { .. } => {}
        }
    }

    /// A server may have been troubled with a key exchange.
    fn asked(&mut self, it_was: bool, now: Timestamp<Local>) {
        if it_was {
            self.agreements = self.agreements.saturating_add(1);
            self.agreed = Some(now);
        }
    }

    /// Opens a socket to the first address that takes one: by preference one that has not been silent.
    fn open(&mut self, found: Found, now: Timestamp<Local>) {
        let Found { addresses, mut session } = found;
        let mut ranked = self.silent.last(addresses);
        ranked.retain(|address| !self.denied.contains(&address.ip()));
        let mut trouble = None;
        for address in ranked {
            // Members of a pool go to different servers; anybody else finds out when the server answers.
            if self.server.pool
                && let Err(other) = self.claim(address, false)
            {
                trouble.get_or_insert(format!("the name has no further address: {address} is {other}"));
                continue;
            }
            match connect(address) {
                Ok(socket) => {
                    if self.address.replace(address) != Some(address) {
                        self.association.moved();
                    }
                    self.searches = 0;
                    self.peer = Peer::At { socket, address, session: session.take().map(Box::new) };
                    return;
                }
                Err(cause) => trouble = Some(format!("{address} cannot be reached: {cause}")),
            }
            self.claims.release(self.id);
        }
        let wanting = self.server.pool.then_some(NOBODY_ASKED);
        self.look_again(trouble.unwrap_or_else(|| "the name has no further address".to_owned()), wanting, now);
    }

    /// Whether the server said to go away. A member of a pool leaves such a server and looks for another.
    fn is_stopped(&self) -> bool {
        self.association.is_stopped() && matches!(self.peer, Peer::At { .. })
    }

    fn unresolved(&mut self, trouble: String, now: Timestamp<Local>) {
        self.look_again(trouble, None, now);
    }

    /// Looks for the server again `after` so long, by default ever more rarely.
    fn look_again(&mut self, trouble: String, after: Option<Span>, now: Timestamp<Local>) {
        tracing::debug!(source = self.name, trouble);
        self.trouble = Some(trouble);
        self.searches = self.searches.saturating_add(1);
        let after = after.unwrap_or_else(|| doubled(self.searches).min(NOBODY_ASKED));
        self.peer = Peer::Unresolved(Some(now.saturating_add(after).max(self.agreement_due(now))));
    }

    /// Claims the server at `address`; the name of the source that has it otherwise.
    fn claim(&self, address: SocketAddr, authenticated: bool) -> Result<(), String> {
        self.claims.make(Claim { by: self.id, name: self.name.clone(), authenticated, address })
    }

    /// Whether what `address` has answered counts: not if another source asks the same server.
    fn has_vote(&mut self, address: SocketAddr, now: Timestamp<Local>) -> bool {
        let authenticated = matches!(self.peer, Peer::At { session: Some(_), .. });
        let Err(other) = self.claim(address, authenticated) else { return true };
        let told = format!("{address} is the same server as {other}, which has its vote: list another instead");
        if self.trouble.as_ref() != Some(&told) {
            tracing::warn!(source = self.name, "{told}");
        }
        self.void = true;
        self.claims.release(self.id);
        self.look_again(told, Some(NOBODY_ASKED), now);
        false
    }

    /// Gives the address up and looks for the server anew at `due`.
    fn leave(&mut self, due: Option<Timestamp<Local>>) {
        if let Peer::At { .. } = self.peer {
            self.claims.release(self.id);
        }
        self.peer = Peer::Unresolved(due);
    }

    /// Nobody answers at `address`: another one of the same name gets its turn.
    fn leave_silent(&mut self, address: SocketAddr) {
        self.silent.note(address.ip());
        self.leave(None);
    }

    /// When keys may be agreed on again, `now` at the earliest.
    fn agreement_due(&self, now: Timestamp<Local>) -> Timestamp<Local> {
        let wait = doubled(self.agreements).min(KEYS_AGAIN);
        let due = self.agreed.filter(|_| self.agreements > 0).map(|agreed| agreed.saturating_add(wait));
        due.unwrap_or(now).max(now)
    }

    fn ask(&mut self, clock: &dyn LocalClock) {
        let Peer::At { socket, session, .. } = &mut self.peer else { return };
        let request = self.association.request(rand::random());
        let header = request.encode();
        let bytes = match session {
            None => Some(header.to_vec()),
            Some(session) => session.seal(&header, &Fresh { unique: rand::random(), nonce: rand::random() }),
        };
        let Some(bytes) = bytes else {
            let due = self.agreement_due(clock.now());
            self.leave(Some(due));
            return;
        };
        let (ticks, utc) = clock.realtime();
        self.paired = (clock.scale().local(ticks), utc);
        let sent = clock.now();
        match socket.send(&bytes) {
            Ok(_) => self.association.sent(request, sent),
            Err(cause) => {
                self.trouble = Some(format!("cannot send: {cause}"));
                self.association.failed(sent);
            }
        }
    }

    /// Takes datagrams until one measures something, none is left, or others have waited long enough.
    fn listen(&mut self, clock: &dyn LocalClock) -> Option<Exchange> {
        let mut buffer = [0; LONGEST];
        for _ in 0..MOST_DATAGRAMS {
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
                    return self.association.poll_exchange();
                }
            };
            match self.take(&buffer[..length], note, clock) {
                Ok(()) => self.trouble = None,
                Err(
                    refusal @ (Refusal::Unsolicited
                    | Refusal::Replayed
                    | Refusal::Unauthenticated
                    | Refusal::Malformed(_)),
                ) => {
                    tracing::debug!(source = self.name, %refusal, "packet ignored");
                }
                Err(refusal) => {
                    tracing::debug!(source = self.name, %refusal, "answer refused");
                    self.trouble = Some(refusal.to_string());
                }
            }
            if let Some(exchange) = self.association.poll_exchange() {
                return Some(exchange);
            }
        }
        None
    }

    /// Takes one datagram, whose arrival the kernel may have noted.
    fn take(&mut self, bytes: &[u8], note: Option<Timestamp<Utc>>, clock: &dyn LocalClock) -> Result<(), Refusal> {
        // First, for most of what strangers send ends here, and reading the clocks costs more.
        let answer = self.association.recognise(bytes)?;
        let (received, from_kernel, system) = arrived(clock, note);
        if let Peer::At { session: Some(session), .. } = &mut self.peer {
            if answer.packet().kiss() == Some(Kiss::NtsNak) && session.concerns(bytes) {
                // The server has changed its keys and cannot read the cookie, or somebody on the path spoiled the request or
                // forged the complaint. So it takes several, and until keys are due again the old ones are tried on.
                self.complaints += 1;
                self.association.failed(received);
                if self.complaints >= COMPLAINTS && self.agreement_due(received) <= received {
                    self.leave(None);
                }
                return Err(Refusal::Kiss(Kiss::NtsNak));
            }
            if let Err(forgery) = session.open(bytes) {
                tracing::debug!(source = self.name, %forgery, "packet not authentic");
                return Err(self.association.distrust());
            }
        }
        if self.feeding && answer.packet().stratum == 1 && answer.packet().reference_id == OWN_REFERENCE {
            self.association.failed(received);
            return Err(Refusal::Own);
        }
        self.association.accept(&answer, received, self.pivot(received, system))?;
        self.kernel_arrivals += u64::from(from_kernel);
        Ok(())
    }

    /// What tells the era of a server's timestamps: what is known already, and at first the operating system's clock, which
    /// may have been set to anything.
    fn pivot(&self, received: Timestamp<Local>, system: Timestamp<Utc>) -> Timestamp<Utc> {
        let known = self.known.map(|known| received.to_utc(known.offset));
        known.unwrap_or_else(|| system.clamp(EARLIEST_PIVOT, LATEST_PIVOT))
    }
}

impl Source for NtpSource {
    fn name(&self) -> &str {
        &self.name
    }

    fn fd(&self) -> Option<BorrowedFd<'_>> {
        match &self.peer {
            // Nobody reads what a server that said to go away still sends, so nobody waits for it either.
            Peer::At { socket, .. } if !self.association.is_stopped() => Some(socket.as_fd()),
            _ => None,
        }
    }

    fn poll_timeout(&self, now: Timestamp<Local>) -> Option<Timestamp<Local>> {
        match &self.peer {
            _ if self.is_stopped() => None,
            Peer::At { .. } => self.association.poll_timeout(now),
            Peer::Unresolved(due) => Some(due.unwrap_or(now)),
            // The search wakes the runner.
            Peer::Resolving(_) => None,
        }
    }

    fn drive(&mut self, clock: &dyn LocalClock) -> Option<Sample> {
        if self.is_stopped() {
            return None;
        }
        let mut exchange = self.listen(clock);
        let now = clock.now();
        if exchange.is_none() && self.association.handle_timeout(now) {
            self.trouble = Some("no answer".to_owned());
            exchange = self.association.poll_exchange();
        }
        if let Peer::At { address, .. } = self.peer {
            if exchange.is_some() {
                self.silent.forget();
                if self.has_vote(address, now) {
                    (self.agreements, self.complaints) = (0, 0);
                } else {
                    exchange = None;
                }
            }
            if self.server.pool && self.association.is_stopped() {
                // Another member of the pool may be willing.
                self.denied.push(address.ip());
                self.leave(None);
            } else if self.association.schedule().losses() >= RESOLVE_AFTER
                && self.association.wants_request(now)
                && self.agreement_due(now) <= now
            {
                self.leave_silent(address);
            }
        }
        self.reach(now);
        if self.association.wants_request(now) {
            self.ask(clock);
        }
        Some(exchange?.to_sample(self.id, None))
    }

    fn needs_known(&self) -> bool {
        self.association.is_waiting()
    }

    fn set_known(&mut self, known: Option<Known>) {
        self.known = known;
    }

    fn take_void(&mut self) -> bool {
        std::mem::take(&mut self.void)
    }

    fn set_room(&mut self, room: Span) {
        self.association.set_room(room);
    }

    fn leap(&self) -> Option<Leap> {
        self.association.last().map(|last| last.leap)
    }

    fn restart(&mut self) {
        self.known = None;
        // A server that said to go away, or to ask less often, meant it.
        if !self.is_stopped() {
            self.association.restart();
            self.leave(None);
        }
    }

    fn status(&self, now: Timestamp<Local>) -> SourceStatus {
        let last = self.association.last();
        let (address, session) = match &self.peer {
            Peer::At { address, session, .. } => (Some(address.to_string()), session.as_ref()),
            _ => (None, None),
        };
        let state = match (&self.peer, self.trouble.is_some()) {
            _ if self.is_stopped() => "stopped",
            (Peer::Resolving(_) | Peer::Unresolved(_), _) => "unresolved",
            (_, true) => "unreachable",
            _ if last.is_some() => "reachable",
            _ => "waiting",
        };
        SourceStatus {
            name: self.name.clone(),
            kind: "ntp".to_owned(),
            state: state.to_owned(),
            // What contradicts itself needs no majority to be false.
            verdict: (self.association.refusal() == Some(Refusal::Nonsense))
                .then(|| Verdict::Falseticker.as_str().to_owned()),
            reason: self.trouble.clone(),
            address,
            stratum: last.map(|l| l.stratum),
            leap: last.map(|l| l.leap.as_str().to_owned()),
            offset_ns: last.map(|l| l.offset.as_nanos()),
            delay_ns: last.map(|l| l.delay.as_nanos()),
            root_distance_ns: last.map(|l| l.root_distance.as_nanos()),
            reach: self.association.schedule().reach(),
            age_s: last.map(|l| now.since(l.local).as_secs_f64()),
            poll_s: self.association.schedule().interval().as_secs_f64(),
            counts: self.association.counts(),
            authentication: session.map(|_| "nts".to_owned()),
            kernel_timestamps: self.kernel_arrivals,
        }
    }
}

impl Drop for NtpSource {
    fn drop(&mut self) {
        self.leave(None);
    }
}

/// How long to wait after so many attempts that led to nothing.
fn doubled(attempts: u32) -> Span {
    SEARCH_AGAIN.saturating_mul(1 << attempts.saturating_sub(1).min(16))
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

#[cfg(test)]
mod tests;
