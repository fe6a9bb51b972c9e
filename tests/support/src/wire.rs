//! The wire between the daemon's NTP client and a world's servers: its own [`Association`]s and real packets, in virtual time.
//!
//! Servers answer with the time, send kisses of death, announce leap seconds and say that they are not synchronised; packets
//! arrive twice, again much later, from somebody else, and as rubbish. What the client makes of them goes to the core.

use chronotick_core::leap::{Announcement, LeapSecond};
use chronotick_core::sample::{Sample, SourceId};
use chronotick_core::units::{Local, Span, Temperature, Timestamp, Utc};
use chronotick_host::ntp::client::{Association, Refusal, Request, Settings};
use chronotick_host::ntp::packet::{Kiss, Leap, NtpShort, NtpTimestamp, Packet, mode};
use chronotick_host::ntp::poll::Limits;
use chronotick_host::sim::network::{Server, ServerParams};
use chronotick_host::sim::world::START;
use chronotick_host::sim::{Random, stream};
use rand::RngExt;

use crate::scenario::{Scenario, is_honest};

const SECOND: i64 = 1_000_000_000;
/// How long the client waits for an answer.
const TIMEOUT: Span = Span::from_secs(1);
/// What a server takes to answer.
const SERVING: Span = Span::from_micros(20);

/// What happens on the wire: the chance of each for an answer.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Wiring {
    /// The client asks in pairs, for exact times of departure, which these servers do not tell.
    pub interleaved: bool,
    /// A kiss of death RATE comes instead of the time.
    pub rate: f64,
    /// From this instant on, in s, server 0 sends nothing but DENY.
    pub deny_from: f64,
    /// The server says that it is not synchronised.
    pub unsynchronised: f64,
    /// The answer arrives twice.
    pub twice: f64,
    /// It arrives again, up to 100 s later.
    pub replayed: f64,
    /// Somebody who has not seen the question answers before the server, a thousand seconds wrong.
    pub forged: f64,
    /// Rubbish arrives before it.
    pub rubbish: f64,
    /// The honest announce a leap second for the end of the day, and make it.
    pub leap: Option<LeapSecond>,
    /// The liars say the opposite of the honest, and announce one where there is none.
    pub false_leaps: bool,
}

/// An exchange as the client reports it, and when.
#[derive(Clone, Copy, Debug)]
pub struct Heard {
    /// When the answer arrived.
    pub at: Timestamp<Local>,
    /// What it measured.
    pub sample: Sample,
    /// What its server says of leap seconds.
    pub leap: Announcement,
}

/// The true offset over a step of the world, with the epoch: linear.
#[derive(Clone, Copy, Debug)]
pub struct Line {
    /// An instant.
    pub at: Timestamp<Local>,
    /// The offset there, ns.
    pub offset: i64,
    /// Its slope.
    pub rate: f64,
}

impl Line {
    fn utc(&self, at: Timestamp<Local>) -> Timestamp<Utc> {
        let since = Span::from_secs_f64(at.since(self.at).as_secs_f64() * self.rate);
        Timestamp::from_nanos(at.as_nanos().saturating_add(self.offset)).saturating_add(since)
    }
}

struct Peer {
    association: Association,
    server: Server,
    is_honest: bool,
    /// Packets on their way to the client.
    under_way: Vec<(Timestamp<Local>, Vec<u8>)>,
    /// A kiss DENY has arrived.
    denied: bool,
    /// Until then nothing may be asked: the interval that was too short has to pass.
    relief: Timestamp<Local>,
}

/// All associations of one client.
pub struct Wire {
    wiring: Wiring,
    peers: Vec<Peer>,
    random: Random,
    now: Timestamp<Local>,
    /// When the leap second comes, on the scale without leap seconds.
    leap_at: Timestamp<Utc>,
    /// A kiss that was not obeyed.
    pub disobeyed: Option<String>,
}

impl Wire {
    /// Nothing asked yet.
    pub fn new(scenario: &Scenario, wiring: Wiring) -> Self {
        let peers = scenario.world.servers.iter().enumerate().map(|(index, params)| Peer {
            association: Association::new(settings(params, wiring)),
            server: Server::new(*params, stream(scenario.seed, &format!("server {index}"))),
            is_honest: is_honest(params.conduct),
            under_way: Vec::new(),
            denied: false,
            relief: START,
        });
        let midnight = (scenario.utc.div_euclid(86_400 * SECOND) + 1) * 86_400 * SECOND;
        let early = if wiring.leap == Some(LeapSecond::Delete) { SECOND } else { 0 };
        Self {
            wiring,
            peers: peers.collect(),
            random: stream(scenario.seed, "wire"),
            now: START,
            leap_at: Timestamp::from_nanos(midnight - early),
            disobeyed: None,
        }
    }

    /// UTC less the scale without leap seconds, ns, when that shows `at`.
    pub fn leapt(&self, at: Timestamp<Utc>) -> i64 {
        match self.wiring.leap {
            Some(LeapSecond::Insert) if at >= self.leap_at => -SECOND,
            Some(LeapSecond::Delete) if at >= self.leap_at => SECOND,
            _ => 0,
        }
    }

    /// How long the bound keeps without news: the client asks as rarely as that allows.
    pub fn set_room(&mut self, room: Span) {
        self.peers.iter_mut().for_each(|peer| peer.association.set_room(room));
    }

    /// Lets time pass up to `until`. `truth` is the offset meanwhile, `jitter` the error of a reading of the counter in s.
    pub fn advance(
        &mut self,
        until: Timestamp<Local>,
        truth: Line,
        temperature: Option<Temperature>,
        mut jitter: impl FnMut() -> f64,
    ) -> Vec<Heard> {
        let mut heard = Vec::new();
        loop {
            let now = self.now;
            let due = |peer: &Peer| {
                let arrival = peer.under_way.iter().map(|(at, _)| *at).min();
                arrival.into_iter().chain(peer.association.poll_timeout(now)).min()
            };
            let next = self.peers.iter().enumerate().filter_map(|(i, peer)| Some((due(peer)?, i))).min();
            let Some((at, index)) = next.filter(|(at, _)| *at <= until) else { break };
            self.now = at.max(now);
            let source = SourceId(u8::try_from(index).unwrap_or(u8::MAX));
            heard.extend(self.take(index, truth).map(|mut heard| {
                (heard.sample.source, heard.sample.temperature) = (source, temperature);
                heard
            }));
            self.ask(index, truth, [jitter(), jitter()]);
        }
        self.now = until;
        heard
    }

    /// The packets that have arrived for client `index`.
    fn take(&mut self, index: usize, truth: Line) -> Option<Heard> {
        let (now, peer) = (self.now, &mut self.peers[index]);
        let place = peer.under_way.iter().position(|(at, _)| *at <= now)?;
        let (_, bytes) = peer.under_way.swap_remove(place);
        let interval = peer.association.schedule().interval();
        let outcome = peer.association.handle_packet(&bytes, now, truth.utc(now));
        if let Err(Refusal::Kiss(kiss)) = outcome {
            match kiss {
                // Counted from the question, which is not older than the client's patience.
                Kiss::Rate => peer.relief = now.saturating_add(interval).saturating_sub(TIMEOUT),
                _ => peer.denied = true,
            }
        }
        let exchange = peer.association.poll_exchange()?;
        let leap = match exchange.leap {
            Leap::None => Announcement::NoLeap,
            Leap::Insert => Announcement::Leap(LeapSecond::Insert),
            Leap::Delete => Announcement::Leap(LeapSecond::Delete),
            Leap::Unsynchronised => Announcement::Unknown,
        };
        Some(Heard { at: now, sample: exchange.to_sample(SourceId(0), None), leap })
    }

    /// What is due at client `index`: giving up, and asking.
    fn ask(&mut self, index: usize, truth: Line, jitter: [f64; 2]) {
        let (now, peer) = (self.now, &mut self.peers[index]);
        peer.association.handle_timeout(now);
        if !peer.association.wants_request(now) {
            return;
        }
        let request = peer.association.request([self.random.random(), self.random.random()]);
        peer.association.sent(request, now);
        if peer.denied || now < peer.relief {
            self.disobeyed = Some(format!("server {index} is asked at {now:?}, denied {}", peer.denied));
        }
        self.answer(index, &request, truth, jitter);
    }

    fn answer(&mut self, index: usize, request: &Request, truth: Line, jitter: [f64; 2]) {
        let (sent, wiring) = (self.now, self.wiring);
        let elapsed = sent.since(START).as_secs_f64();
        let Some(exchange) = self.peers[index].server.exchange(elapsed, jitter) else { return };
        // As in the world's own exchanges: rounded up, so that the budget holds in whole nanoseconds.
        let delay = Span::from_nanos(Span::from_secs_f64(exchange.delay).as_nanos() + 2);
        let arrives = sent.saturating_add(delay).saturating_add(SERVING);
        let middle = sent.saturating_add(Span::from_nanos(arrives.since(sent).as_nanos() / 2));
        let continuous = truth.utc(middle);
        let shown = self.leapt(continuous) + Span::from_secs_f64(exchange.error).as_nanos();
        let half = Span::from_nanos(SERVING.as_nanos() / 2);
        let at = |utc: Timestamp<Utc>| NtpTimestamp::from_utc(utc.saturating_add(Span::from_nanos(shown)));
        let question = Packet::parse(&request.encode()).expect("the client writes packets");
        let answer = Packet {
            leap: self.announced(index, continuous),
            version: 4,
            mode: mode::SERVER,
            stratum: 1,
            precision: -20,
            root_dispersion: NtpShort::from_span(Span::from_secs_f64(exchange.root_distance)),
            reference_id: *b"GPS\0",
            origin: question.transmit,
            receive: at(continuous.saturating_sub(half)),
            transmit: at(continuous.saturating_add(half)),
            ..Packet::default()
        };
        let mut happens = |chance: f64| chance > 0.0 && self.random.random::<f64>() < chance;
        let (kissed, dead) = (happens(wiring.rate), happens(wiring.unsynchronised));
        let (twice, replayed) = (happens(wiring.twice), happens(wiring.replayed));
        let (forged, rubbish) = (happens(wiring.forged), happens(wiring.rubbish));
        let answer = if index == 0 && wiring.deny_from > 0.0 && elapsed >= wiring.deny_from {
            Packet { stratum: 0, reference_id: *b"DENY", ..answer }
        } else if kissed {
            Packet { stratum: 0, reference_id: *b"RATE", ..answer }
        } else if dead {
            Packet { leap: Leap::Unsynchronised, ..answer }
        } else {
            answer
        };
        let bytes = answer.encode().to_vec();
        let early = sent.saturating_add(Span::from_nanos(delay.as_nanos() / 4));
        if forged {
            let wrong = |utc: Timestamp<Utc>| at(utc.saturating_add(Span::from_secs(1_000)));
            let origin = NtpTimestamp::from_bits(self.random.random());
            let packet = Packet { origin, receive: wrong(continuous), transmit: wrong(continuous), ..answer };
            self.peers[index].under_way.push((early, packet.encode().to_vec()));
        }
        if rubbish {
            let length = self.random.random_range(0..80);
            let rubbish = (0..length).map(|_| self.random.random()).collect();
            self.peers[index].under_way.push((early, rubbish));
        }
        let copies = u32::from(twice) * 1_000 + u32::from(replayed) * self.random.random_range(1_000_000..100_000_000);
        let under_way = &mut self.peers[index].under_way;
        if copies > 0 {
            under_way.push((arrives.saturating_add(Span::from_micros(i64::from(copies))), bytes.clone()));
        }
        under_way.push((arrives, bytes));
    }

    /// The leap indicator of server `index` when the scale without leap seconds shows `at`.
    fn announced(&self, index: usize, at: Timestamp<Utc>) -> Leap {
        let coming = match self.wiring.leap.filter(|_| at < self.leap_at) {
            None => Leap::None,
            Some(LeapSecond::Insert) => Leap::Insert,
            Some(LeapSecond::Delete) => Leap::Delete,
        };
        match coming {
            _ if self.peers[index].is_honest || !self.wiring.false_leaps => coming,
            Leap::None => Leap::Insert,
            _ => Leap::None,
        }
    }
}

fn settings(params: &ServerParams, wiring: Wiring) -> Settings {
    let poll = Span::from_secs_f64(params.poll.max(0.5));
    Settings {
        limits: Limits {
            min: poll,
            max: Span::from_nanos(4 * poll.as_nanos()),
            burst: u8::try_from(params.burst.min(8)).unwrap_or(8),
            burst_interval: Span::from_millis(500),
        },
        timeout: TIMEOUT,
        max_root_distance: Span::from_secs(3),
        interleaved: wiring.interleaved,
    }
}
