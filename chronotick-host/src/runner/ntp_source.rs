//! An NTP server as a source: sockets and time stamps around the [association](crate::ntp::client).

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};

use chronotick_core::selection::Verdict;
use chronotick_core::units::{Local, Span, Timestamp, Utc};
use chronotick_core::{Sample, SourceId};

use super::lookup::{Found, Lookup, Pool};
use super::source::Source;
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
/// Losses in a row after which the name is resolved anew.
const RESOLVE_AFTER: u32 = 4;
/// A name that cannot be resolved is tried again after this.
const RESOLVE_AGAIN: Span = Span::from_secs(5);
/// A pool that has no further address is asked for one again after this.
const POOL_AGAIN: Span = Span::from_secs(64);
/// Key exchanges that lead to nothing follow each other after [`RESOLVE_AGAIN`], doubled at most so often.
const MOST_DOUBLINGS: u32 = 4;
/// Polls in a row to which the server replies that it cannot read them after which keys are agreed on again.
const COMPLAINTS: u32 = 2;
/// The kernel's arrival time is trusted to this part of its distance from now, for the two clocks may run at different rates.
const RATE_MARGIN: i64 = 1_000;
/// How far the paired reading of the two clocks may be apart.
const PAIR_MARGIN: Span = Span::from_nanos(100);
/// Longer datagrams are cut, and then refused.
const LONGEST: usize = 2048;

/// The sources of `[ntp]`, numbered from 0: one for every server, several for a pool.
pub(super) fn sources(config: &Config, waker: &Stop) -> Vec<Box<dyn Source>> {
    let mut sources: Vec<Box<dyn Source>> = Vec::new();
    for server in &config.ntp.servers {
        let settings = Settings { interleaved: server.interleaved, ..config.client() };
        let pool = server.pool.then(Pool::default);
        for place in 1..=server.count() {
            let id = SourceId(u8::try_from(sources.len()).unwrap_or(u8::MAX));
            let name = if server.pool { format!("{} ({place})", server.address) } else { server.address.to_string() };
            sources.push(Box::new(NtpSource::new(id, name, server.clone(), settings, pool.clone(), waker.clone())));
        }
    }
    sources
}

/// An NTP server.
struct NtpSource {
    id: SourceId,
    name: String,
    server: Server,
    settings: Settings,
    association: Association,
    peer: Peer,
    waker: Stop,
    pool: Option<Pool>,
    /// Where the last packets went.
    address: Option<SocketAddr>,
    /// The address that was silent, so that another one of the same name gets its turn.
    silent: Option<SocketAddr>,
    /// Members of the pool that said to go away.
    denied: Vec<IpAddr>,
    /// Key exchanges since the last measurement, and when the newest began.
    agreements: u32,
    agreed: Option<Timestamp<Local>>,
    /// Polls since the last measurement to which the server replied that it could not read them.
    complaints: u32,
    /// The newest reason why no packet could be exchanged.
    trouble: Option<String>,
    kernel_arrivals: u64,
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
    fn new(id: SourceId, name: String, server: Server, settings: Settings, pool: Option<Pool>, waker: Stop) -> Self {
        Self {
            id,
            name,
            server,
            settings,
            association: Association::new(settings),
            peer: Peer::Unresolved(None),
            waker,
            pool,
            address: None,
            silent: None,
            denied: Vec::new(),
            agreements: 0,
            agreed: None,
            complaints: 0,
            trouble: None,
            kernel_arrivals: 0,
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
                if self.server.nts {
                    self.agreements = self.agreements.saturating_add(1);
                    self.agreed = Some(now);
                }
                match Lookup::start(&self.server, self.silent, &self.waker) {
                    Ok(lookup) => self.peer = Peer::Resolving(lookup),
                    Err(cause) => self.unresolved(format!("no thread to look for the server: {cause}"), now),
                }
            }
            Peer::Resolving(lookup) => match lookup.poll() {
                Some(Ok(found)) => self.open(found, now),
                Some(Err(trouble)) => self.unresolved(trouble, now),
                None => {}
            },
            Peer::Unresolved(_) | Peer::At { .. } => {}
        }
    }

    /// Opens a socket to the first address that takes one: by preference not the one that has just been silent.
    fn open(&mut self, found: Found, now: Timestamp<Local>) {
        let Found { addresses, mut session } = found;
        let silent = self.silent.take();
        let mut ranked: Vec<_> = addresses.iter().copied().filter(|a| Some(*a) != silent).collect();
        ranked.extend(silent.filter(|a| addresses.contains(a)));
        ranked.retain(|address| !self.denied.contains(&address.ip()));
        let mut trouble = "the name has no further address".to_owned();
        for address in ranked {
            if self.pool.as_ref().is_some_and(|pool| !pool.claim(address.ip())) {
                continue;
            }
            match connect(address) {
                Ok(socket) => {
                    if self.address.replace(address) != Some(address) {
                        self.association.moved();
                    }
                    self.peer = Peer::At { socket, address, session: session.take().map(Box::new) };
                    return;
                }
                Err(cause) => trouble = format!("{address} cannot be reached: {cause}"),
            }
            if let Some(pool) = &self.pool {
                pool.release(address.ip());
            }
        }
        self.unresolved(trouble, now);
    }

    /// Whether the server said to go away. A member of a pool leaves such a server and looks for another.
    fn is_stopped(&self) -> bool {
        self.association.is_stopped() && matches!(self.peer, Peer::At { .. })
    }

    fn unresolved(&mut self, trouble: String, now: Timestamp<Local>) {
        tracing::debug!(source = self.name, trouble);
        self.trouble = Some(trouble);
        let wait = if self.pool.is_some() { POOL_AGAIN } else { self.patience() };
        self.peer = Peer::Unresolved(Some(now.saturating_add(wait)));
    }

    /// Gives the address up and looks for the server anew at `due`.
    fn leave(&mut self, due: Option<Timestamp<Local>>) {
        if let (Peer::At { address, .. }, Some(pool)) = (&self.peer, &self.pool) {
            pool.release(address.ip());
        }
        self.peer = Peer::Unresolved(due);
    }

    /// When keys may be agreed on again, `now` at the earliest.
    fn agreement_due(&self, now: Timestamp<Local>) -> Timestamp<Local> {
        let due = self.agreed.filter(|_| self.agreements > 0).map(|agreed| agreed.saturating_add(self.patience()));
        due.unwrap_or(now).max(now)
    }

    /// How long to wait after an attempt that led to nothing.
    fn patience(&self) -> Span {
        RESOLVE_AGAIN.saturating_mul(1 << self.agreements.saturating_sub(1).min(MOST_DOUBLINGS))
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

    /// Takes datagrams until one measures something or none is left.
    fn listen(&mut self, clock: &dyn LocalClock) -> Option<Exchange> {
        let mut buffer = [0; LONGEST];
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
                    return self.association.poll_exchange();
                }
            };
            let (received, from_kernel, utc) = arrived(clock, note);
            match self.take(&buffer[..length], received, utc.max(EARLIEST_PIVOT)) {
                Ok(()) => {
                    self.kernel_arrivals += u64::from(from_kernel);
                    self.trouble = None;
                }
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
                (self.agreements, self.complaints) = (0, 0);
                return Some(exchange);
            }
        }
    }

    /// Takes one datagram.
    fn take(&mut self, bytes: &[u8], received: Timestamp<Local>, pivot: Timestamp<Utc>) -> Result<(), Refusal> {
        let answer = self.association.recognise(bytes)?;
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
        self.association.accept(&answer, received, pivot)
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
            if self.pool.is_some() && self.association.is_stopped() {
                // Another member of the pool may be willing.
                self.denied.push(address.ip());
                self.leave(None);
            } else if self.association.schedule().losses() >= RESOLVE_AFTER
                && self.association.wants_request(now)
                && self.agreement_due(now) <= now
            {
                self.silent = Some(address);
                self.leave(None);
            }
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

    fn leap(&self) -> Option<Leap> {
        self.association.last().map(|last| last.leap)
    }

    fn restart(&mut self) {
        self.association = Association::new(self.settings);
        self.leave(None);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ServerAddress;
    use crate::ntp::packet::{HEADER, Packet, mode};
    use crate::os::counter::{CounterKind, SystemCounter};

    const NOW: Timestamp<Local> = Timestamp::from_nanos(1);

    fn clock() -> SystemCounter {
        SystemCounter::calibrate_kind(CounterKind::MonotonicRaw)
    }

    fn member(pool: &Pool) -> NtpSource {
        let server = Server { pool: true, ..ServerAddress::new("pool.example", 123).into() };
        let waker = Stop::new().expect("descriptors");
        let settings = Config::default().client();
        NtpSource::new(SourceId(0), "member".to_owned(), server, settings, Some(pool.clone()), waker)
    }
    fn found(hosts: &[u8]) -> Found {
        let addresses = hosts.iter().map(|&host| SocketAddr::from(([127, 0, 0, host], 9))).collect();
        Found { addresses, session: None }
    }
    fn at(source: &NtpSource) -> Option<IpAddr> {
        match &source.peer {
            Peer::At { address, .. } => Some(address.ip()),
            _ => None,
        }
    }

    #[test]
    fn members_of_a_pool_are_different_servers() {
        let pool = Pool::default();
        let mut members = [member(&pool), member(&pool), member(&pool)];
        members.iter_mut().for_each(|member| member.open(found(&[1, 2]), NOW));
        let [first, second, third] = &members;
        assert_eq!((at(first), at(second), at(third)), (found(&[1]).ip(), found(&[2]).ip(), None));
        assert_eq!(third.poll_timeout(NOW), Some(NOW.saturating_add(POOL_AGAIN)));
        // One that was silent is left to others, and one that said to go away is never asked again.
        let [first, second, third] = &mut members;
        first.silent = first.address;
        first.leave(None);
        first.open(found(&[1, 3]), NOW);
        assert_eq!(at(first), found(&[3]).ip());
        second.denied.extend(at(second));
        second.leave(None);
        second.open(found(&[2, 1]), NOW);
        assert_eq!(at(second), found(&[1]).ip());
        third.open(found(&[1, 3, 2]), NOW);
        assert_eq!(at(third), found(&[2]).ip());
    }

    impl Found {
        fn ip(&self) -> Option<IpAddr> {
            self.addresses.first().map(SocketAddr::ip)
        }
    }

    /// A source whose server, a socket on loopback, has been asked and said to go away.
    fn denied(pool: Option<Pool>) -> (NtpSource, UdpSocket, SocketAddr) {
        let remote = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback");
        let port = remote.local_addr().expect("bound").port();
        let server = Server { pool: pool.is_some(), ..ServerAddress::new("127.0.0.1", port).into() };
        let waker = Stop::new().expect("descriptors");
        let settings = Config::default().client();
        let mut source = NtpSource::new(SourceId(0), "denied".to_owned(), server, settings, pool, waker);
        let clock = clock();
        source.drive(&clock);
        let mut request = [0; HEADER];
        let (_, asker) = remote.recv_from(&mut request).expect("a request");
        let asked = Packet::parse(&request).expect("a packet");
        let deny = Packet {
            leap: Leap::Unsynchronised,
            mode: mode::SERVER,
            stratum: 0,
            reference_id: *b"DENY",
            origin: asked.transmit,
            ..asked
        };
        remote.send_to(&deny.encode(), asker).expect("loopback");
        source.drive(&clock);
        (source, remote, asker)
    }

    #[test]
    fn nobody_waits_for_a_server_that_said_to_go_away() {
        let (mut source, remote, asker) = denied(None);
        assert_eq!(source.status(NOW).state, "stopped");
        // One more datagram would keep the socket readable for good.
        remote.send_to(&[0; HEADER], asker).expect("loopback");
        assert!(source.drive(&clock()).is_none());
        assert!(source.fd().is_none() && source.poll_timeout(NOW).is_none());
        source.restart();
        assert_eq!(source.poll_timeout(NOW), Some(NOW));
    }

    #[test]
    fn a_member_of_a_pool_leaves_a_server_that_said_to_go_away_and_asks_again() {
        let pool = Pool::default();
        let (mut source, _remote, asker) = denied(Some(pool.clone()));
        assert!(source.fd().is_none() && pool.claim(asker.ip()));
        // The name has no other address now, but may have one later.
        assert_eq!(source.status(NOW).state, "unresolved");
        assert!(source.poll_timeout(NOW).is_some_and(|due| due > NOW));
        source.open(found(&[2]), NOW);
        source.drive(&clock());
        assert!(source.fd().is_some() && source.status(NOW).state != "stopped");
    }

    #[test]
    fn agreements_that_lead_to_nothing_become_rare() {
        let mut source = member(&Pool::default());
        assert_eq!(source.agreement_due(NOW), NOW);
        source.agreed = Some(NOW);
        let waits: Vec<_> = (1..=7)
            .map(|agreements| {
                source.agreements = agreements;
                source.agreement_due(NOW).since(NOW).as_nanos() / 1_000_000_000
            })
            .collect();
        assert_eq!(waits, [5, 10, 20, 40, 80, 80, 80]);
    }
}
