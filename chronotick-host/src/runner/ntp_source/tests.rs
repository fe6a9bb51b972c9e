use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use chronotick_core::clock_page::CounterScale;
use chronotick_core::units::Offset;

use super::*;
use crate::config::ServerAddress;
use crate::local::fake::{Clock, START};
use crate::ntp::packet::{HEADER, NtpTimestamp, Packet, mode};
use crate::os::counter::CounterKind;

const NOW: Timestamp<Local> = Timestamp::from_nanos(1);
const YEAR: Span = Span::from_secs(31_557_600);

fn source(id: u8, server: Server, claims: &Claims) -> NtpSource {
    let (waker, settings) = (Stop::new().expect("descriptors"), Config::default().client());
    NtpSource::new(SourceId(id), format!("source {id}"), server, settings, claims.clone(), waker)
}
fn named(id: u8, pool: bool, claims: &Claims) -> NtpSource {
    source(id, Server { pool, ..ServerAddress::new("server.example", 123).into() }, claims)
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
fn host(host: u8) -> Option<IpAddr> {
    Some(IpAddr::from([127, 0, 0, host]))
}

/// A server on loopback that the test answers for.
struct Remote(UdpSocket);

impl Remote {
    fn new() -> Self {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback");
        socket.set_read_timeout(Some(Duration::from_secs(10))).expect("a socket");
        Self(socket)
    }
    fn server(&self, pool: bool) -> Server {
        Server { pool, ..ServerAddress::new("127.0.0.1", self.0.local_addr().expect("bound").port()).into() }
    }
    /// The next request, and who asks.
    fn asked(&self) -> (Packet, SocketAddr) {
        let mut request = [0; HEADER];
        let (_, asker) = self.0.recv_from(&mut request).expect("a request");
        (Packet::parse(&request).expect("a packet"), asker)
    }
    /// Answers the next request at `utc`, with what `change` makes of the answer.
    fn answer(&self, utc: Timestamp<Utc>, change: impl FnOnce(Packet) -> Packet) -> SocketAddr {
        let (asked, asker) = self.asked();
        let now = NtpTimestamp::from_utc(utc);
        let good = Packet {
            mode: mode::SERVER,
            stratum: 1,
            precision: -20,
            reference_id: *b"GPS\0",
            origin: asked.transmit,
            receive: now,
            transmit: now,
            ..asked
        };
        self.0.send_to(&change(good).encode(), asker).expect("loopback");
        asker
    }
    fn kiss(&self, code: [u8; 4]) -> SocketAddr {
        let leap = Leap::Unsynchronised;
        self.answer(Timestamp::from_nanos(START), |good| Packet { leap, stratum: 0, reference_id: code, ..good })
    }
}

/// Asks, has `remote` answer with the truth, changed by `change`, and hears.
fn exchange(
    source: &mut NtpSource,
    remote: &Remote,
    clock: &Clock,
    change: impl FnOnce(Packet) -> Packet,
) -> Option<Sample> {
    assert_eq!(source.drive(clock), None);
    remote.answer(clock.truth(), change);
    let sample = source.drive(clock);
    clock.pass(Span::from_secs(2));
    sample
}

#[test]
fn members_of_a_pool_are_different_servers() {
    let claims = Claims::default();
    let mut members = [0, 1, 2].map(|id| named(id, true, &claims));
    members.iter_mut().for_each(|member| member.open(found(&[1, 2]), NOW));
    let [first, second, third] = &members;
    assert_eq!((at(first), at(second), at(third)), (host(1), host(2), None));
    assert_eq!(third.poll_timeout(NOW), Some(NOW.saturating_add(NOBODY_ASKED)));
    // One that was silent is left to others, and one that said to go away is never asked again.
    let [first, second, third] = &mut members;
    first.leave_silent(first.address.expect("it was there"));
    first.open(found(&[1, 3]), NOW);
    assert_eq!(at(first), host(3));
    second.denied.extend(at(second));
    second.leave(None);
    second.open(found(&[2, 1]), NOW);
    assert_eq!(at(second), host(1));
    third.open(found(&[1, 3, 2]), NOW);
    assert_eq!(at(third), host(2));
    // Of another pool that overlaps, nothing is left.
    let mut other = named(3, true, &claims);
    other.open(found(&[1, 2, 3]), NOW);
    assert!(at(&other).is_none() && other.status(NOW).reason.is_some_and(|told| told.contains("no further address")));
}

#[test]
fn a_name_with_silent_addresses_leads_to_each_of_them() {
    let mut source = named(0, false, &Claims::default());
    let turns: Vec<_> = (0..5)
        .filter_map(|_| {
            source.open(found(&[1, 2, 3]), NOW);
            let turn = at(&source)?;
            source.leave_silent(source.address?);
            Some(turn)
        })
        .collect();
    assert_eq!(turns.into_iter().map(Some).collect::<Vec<_>>(), [1, 2, 3, 1, 2].map(host));
}

/// A source whose server has been asked and replied with a kiss code.
fn kissed(pool: bool, code: [u8; 4]) -> (NtpSource, Remote, SocketAddr, Clock) {
    let (remote, clock) = (Remote::new(), Clock::new());
    let mut source = source(0, remote.server(pool), &Claims::default());
    source.drive(&clock);
    let asker = remote.kiss(code);
    source.drive(&clock);
    (source, remote, asker, clock)
}

#[test]
fn nobody_waits_for_a_server_that_said_to_go_away() {
    let (mut source, remote, asker, clock) = kissed(false, *b"DENY");
    assert_eq!(source.status(NOW).state, "stopped");
    // One more datagram would keep the socket readable for good.
    remote.0.send_to(&[0; HEADER], asker).expect("loopback");
    assert!(source.drive(&clock).is_none());
    assert!(source.fd().is_none() && source.poll_timeout(NOW).is_none());
    // A machine that slept has not been forgiven.
    source.restart();
    assert_eq!((source.status(NOW).state.as_str(), source.poll_timeout(NOW)), ("stopped", None));
}

#[test]
fn a_server_that_wants_to_be_asked_less_often_is_after_a_sleep_as_well() {
    let (mut source, _remote, _, clock) = kissed(false, *b"RATE");
    let relieved = source.status(NOW).poll_s;
    assert!(relieved > Config::default().ntp.poll_min.as_secs_f64(), "{relieved}");
    source.restart();
    assert_eq!(source.poll_timeout(clock.now()), Some(clock.now()));
    assert!((source.status(NOW).poll_s - relieved).abs() < 1e-9);
}

#[test]
fn a_member_of_a_pool_leaves_a_server_that_said_to_go_away_and_asks_again() {
    let (mut source, _remote, _, clock) = kissed(true, *b"DENY");
    assert!(source.fd().is_none());
    let left = source.address.expect("it was asked");
    let next = Claim { by: SourceId(1), name: "next".to_owned(), authenticated: false, address: left };
    assert_eq!(source.claims.make(next), Ok(()));
    // The name has no other address now, but may have one later.
    assert_eq!(source.status(NOW).state, "unresolved");
    assert!(source.poll_timeout(NOW).is_some_and(|due| due > NOW));
    source.open(found(&[2]), NOW);
    source.drive(&clock);
    assert!(source.fd().is_some() && source.status(NOW).state != "stopped");
}

#[test]
fn searches_that_lead_to_nothing_become_rare() {
    let mut source = named(0, false, &Claims::default());
    let seconds = |due: Timestamp<Local>| due.since(NOW).as_nanos() / 1_000_000_000;
    assert_eq!(source.agreement_due(NOW), NOW);
    let waits: Vec<_> = (0..6)
        .map(|_| {
            source.unresolved("no such name".to_owned(), NOW);
            seconds(source.poll_timeout(NOW).expect("it is looked for again"))
        })
        .collect();
    assert_eq!(waits, [5, 10, 20, 40, 64, 64]);
    // A start is a start.
    source.open(found(&[1]), NOW);
    source.unresolved("no such name".to_owned(), NOW);
    assert_eq!(source.poll_timeout(NOW).map(seconds), Some(5));
    // Key exchanges trouble somebody, who may have been asked to no avail a thousand times.
    let waits: Vec<_> = (0..12)
        .map(|_| {
            source.asked(true, NOW);
            source.unresolved("no agreement".to_owned(), NOW);
            seconds(source.agreement_due(NOW))
        })
        .collect();
    assert_eq!(waits, [5, 10, 20, 40, 80, 160, 320, 640, 1280, 2560, 3600, 3600]);
    assert_eq!(source.poll_timeout(NOW).map(seconds), Some(3600));
}

#[test]
fn whatever_the_operating_systems_clock_says_the_era_is_right() {
    for years_off in [-57, -5, 0, 79, 200] {
        let (remote, clock) = (Remote::new(), Clock::new());
        clock.set_system(YEAR.saturating_mul(years_off));
        let mut source = source(0, remote.server(false), &Claims::default());
        let sample = exchange(&mut source, &remote, &clock, |good| good).expect("an answer");
        let off = sample.offset.as_nanos() - START;
        assert!(off.abs() < 1_000, "{years_off} years: {} s off", off / 1_000_000_000);
    }
}

#[test]
fn what_is_known_tells_the_era() {
    let (remote, clock) = (Remote::new(), Clock::new());
    let mut source = source(0, remote.server(false), &Claims::default());
    assert!(!source.needs_known(), "nothing was asked");
    assert_eq!(source.drive(&clock), None);
    assert!(source.needs_known());
    // The rest of the machine is in 2157 and knows it, whatever its own clock says.
    let then = Offset::from_nanos(START).saturating_add(YEAR.saturating_mul(130));
    source.set_known(Some(Known { offset: then, half_width: Span::from_millis(1) }));
    remote.answer(clock.now().to_utc(then), |good| good);
    let sample = source.drive(&clock).expect("an answer");
    assert!(sample.offset.since(then).abs() < Span::from_micros(1), "{:?}", sample.offset);
    source.restart();
    assert_eq!(source.known, None);
}

#[test]
fn one_machine_has_one_vote_and_it_is_the_authenticated_sources() {
    let (remote, clock, claims) = (Remote::new(), Clock::new(), Claims::default());
    let mut sources = [0, 1].map(|id| source(id, remote.server(false), &claims));
    assert!(exchange(&mut sources[0], &remote, &clock, |good| good).is_some());
    assert_eq!(exchange(&mut sources[1], &remote, &clock, |good| good), None);
    let status = sources[1].status(NOW);
    let told = status.reason.expect("it says why");
    assert!(status.state == "unresolved" && told.contains("is the same server as source 0"), "{told}");
    assert!(sources[1].poll_timeout(clock.now()).is_some_and(|due| due > clock.now()), "it may move");
    assert!(exchange(&mut sources[0], &remote, &clock, |good| good).is_some() && !sources[0].take_void());
    // A third one, which authenticates, finds that it is there as well.
    let address = sources[0].address.expect("it answered");
    let authentic = Claim { by: SourceId(2), name: "source 2".to_owned(), authenticated: true, address };
    assert_eq!(claims.make(authentic), Ok(()));
    assert_eq!(exchange(&mut sources[0], &remote, &clock, |good| good), None);
    assert!(sources[0].take_void() && !sources[0].take_void(), "what it said before is forgotten once");
    // It goes, and the first may come back.
    claims.release(SourceId(2));
    clock.pass(NOBODY_ASKED);
    assert!(exchange(&mut sources[0], &remote, &clock, |good| good).is_some());
    // Who leaves does not keep the place.
    sources[0].leave(None);
    clock.pass(NOBODY_ASKED);
    assert!(exchange(&mut sources[1], &remote, &clock, |good| good).is_some());
}

#[test]
fn a_server_that_follows_this_clock_is_no_source_of_it() {
    let own = |good| Packet { reference_id: *b"CTK\0", ..good };
    for (feeding, stratum, heard) in [(true, 1, false), (false, 1, true), (true, 2, true)] {
        let (remote, clock) = (Remote::new(), Clock::new());
        let mut source = source(0, remote.server(false), &Claims::default());
        source.feeding = feeding;
        let sample = exchange(&mut source, &remote, &clock, |good| Packet { stratum, ..own(good) });
        let told = source.status(NOW).reason.unwrap_or_default();
        assert_eq!((sample.is_some(), told.contains("CTK")), (heard, !heard), "{told}");
    }
}

/// Counts how often the operating system's clock is read.
struct Watched<'a>(&'a Clock, AtomicU32);

impl LocalClock for Watched<'_> {
    fn ticks(&self) -> u64 {
        self.0.ticks()
    }
    fn scale(&self) -> CounterScale {
        self.0.scale()
    }
    fn kind(&self) -> CounterKind {
        self.0.kind()
    }
    fn realtime(&self) -> (u64, Timestamp<Utc>) {
        self.1.fetch_add(1, Ordering::Relaxed);
        self.0.realtime()
    }
    fn now(&self) -> Timestamp<Local> {
        self.0.now()
    }
}

#[test]
fn a_flood_is_taken_in_turns_and_no_clock_is_read_for_it() {
    let (remote, clock) = (Remote::new(), Clock::new());
    let mut source = source(0, remote.server(false), &Claims::default());
    source.drive(&clock);
    let (asked, asker) = remote.asked();
    for _ in 0..40 {
        remote.0.send_to(&[0; HEADER], asker).expect("loopback");
    }
    let now = NtpTimestamp::from_utc(clock.truth());
    let good = Packet { mode: mode::SERVER, stratum: 1, origin: asked.transmit, receive: now, transmit: now, ..asked };
    remote.0.send_to(&good.encode(), asker).expect("loopback");
    let watched = Watched(&clock, AtomicU32::new(0));
    assert_eq!(source.drive(&watched), None);
    assert_eq!((source.association.counts().ignored(), watched.1.load(Ordering::Relaxed)), (32, 0));
    assert!(source.drive(&watched).is_some());
    assert_eq!((source.association.counts().ignored(), watched.1.load(Ordering::Relaxed)), (40, 1));
}
