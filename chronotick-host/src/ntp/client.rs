//! One association with one server: what to send, which answers to believe, what they measure.
//!
//! On-wire arithmetic of RFC 5905, section 8, in integers. The client's two instants are readings of the local counter and
//! the server's two are UTC, so the offset is the whole distance between the timescales (some 56 years) and never passes
//! through floating point. The request carries a random number instead of a time (client data minimisation), and only
//! an answer that returns it is looked at: an attacker off the path would have to guess 64 bits.

use chronotick_core::Sample;
use chronotick_core::sample::SourceId;
use chronotick_core::units::{Local, Offset, Span, Temperature, Timestamp, Utc};

use super::packet::{HEADER, Kiss, Leap, NtpTimestamp, Packet, PacketError, mode};
use super::poll::{Limits, Schedule};

/// What the client believes and how patient it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// How often to ask.
    pub limits: Limits,
    /// An answer that takes longer is lost.
    pub timeout: Span,
    /// A server that admits more error than this is not used.
    pub max_root_distance: Span,
}

/// The state of one association. Time is an argument of every call.
#[derive(Clone, Debug)]
pub struct Association {
    settings: Settings,
    schedule: Schedule,
    state: State,
    room: Span,
    counts: Counts,
    last: Option<Exchange>,
    refusal: Option<Refusal>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// The next request is due at this instant; `None` means at once.
    Waiting(Option<Timestamp<Local>>),
    /// A request with this nonce left at `sent`.
    Asked { nonce: NtpTimestamp, sent: Timestamp<Local> },
    /// The server said to go away.
    Stopped(Kiss),
}

/// What was sent and what came of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Requests sent.
    pub requests: u64,
    /// Answers that gave a measurement.
    pub accepted: u64,
    /// Answers to a request of ours that were refused.
    pub refused: u64,
    /// Requests without an answer in time.
    pub lost: u64,
    /// Packets that answer no open request: late, duplicated, replayed or forged.
    pub unsolicited: u64,
}

/// What one exchange measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exchange {
    /// Counter reading at the middle of the exchange.
    pub local: Timestamp<Local>,
    /// reference - local at that instant.
    pub offset: Offset,
    /// Round trip less the server's own time.
    pub delay: Span,
    /// The server's error budget.
    pub root_distance: Span,
    /// The server's stratum.
    pub stratum: u8,
    /// The server's leap announcement.
    pub leap: Leap,
    /// The server's reference.
    pub reference_id: [u8; 4],
}

impl Exchange {
    /// The exchange as the pipeline takes it.
    pub fn to_sample(self, source: SourceId, temperature: Option<Temperature>) -> Sample {
        let Self { local, offset, delay, root_distance, .. } = self;
        Sample { local, offset, delay, root_distance, temperature, source }
    }
}

/// Why a packet gave no measurement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Not a packet.
    Malformed(PacketError),
    /// It answers no open request. The open request, if any, stays open.
    Unsolicited,
    /// The server sent a kiss code instead of the time.
    Kiss(Kiss),
    /// The server's clock is not synchronised.
    Unsynchronised,
    /// The server's error budget is above the configured maximum.
    RootDistance,
    /// The server's instants are missing or run backwards, or the round trip took less than no time.
    Nonsense,
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Malformed(cause) => cause.fmt(f),
            Self::Unsolicited => f.write_str("it answers no open request"),
            Self::Kiss(Kiss::Rate) => f.write_str("the server asks for fewer requests (RATE)"),
            Self::Kiss(Kiss::Deny) => f.write_str("the server denies service (DENY)"),
            Self::Kiss(Kiss::Restrict) => f.write_str("the server restricts access (RSTR)"),
            Self::Kiss(Kiss::NtsNak) => f.write_str("the server could not authenticate the request (NTSN)"),
            Self::Kiss(Kiss::Other(code)) => {
                write!(f, "the server sent kiss code {}", code.escape_ascii())
            }
            Self::Unsynchronised => f.write_str("the server is not synchronised itself"),
            Self::RootDistance => f.write_str("the server admits more error than max_root_distance"),
            Self::Nonsense => f.write_str("the server's timestamps contradict each other"),
        }
    }
}

impl Association {
    /// An association whose first request is due at once.
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            schedule: Schedule::new(settings.limits),
            state: State::Waiting(None),
            room: Span::ZERO,
            counts: Counts::default(),
            last: None,
            refusal: None,
        }
    }

    /// When [`Association::handle_timeout`] or a request is due, `now` if it is overdue. `None`: never, the server said
    /// to go away.
    pub fn poll_timeout(&self, now: Timestamp<Local>) -> Option<Timestamp<Local>> {
        match self.state {
            State::Waiting(due) => Some(due.unwrap_or(now)),
            State::Asked { sent, .. } => Some(sent.saturating_add(self.settings.timeout)),
            State::Stopped(_) => None,
        }
    }

    /// Gives up on an answer that is overdue. Returns whether a request was lost.
    pub fn handle_timeout(&mut self, now: Timestamp<Local>) -> bool {
        match self.state {
            State::Asked { sent, .. } if now.since(sent) >= self.settings.timeout => {
                self.counts.lost += 1;
                let wait = self.schedule.after_loss();
                self.state = State::Waiting(Some(sent.saturating_add(wait.max(self.settings.timeout))));
                true
            }
            _ => false,
        }
    }

    /// Whether a request is due.
    pub fn wants_request(&self, now: Timestamp<Local>) -> bool {
        matches!(self.state, State::Waiting(due) if due.is_none_or(|due| due <= now))
    }

    /// The bytes to send with `nonce`, which must be random. Report the departure with [`Association::sent`].
    pub fn request(&self, nonce: NtpTimestamp) -> [u8; HEADER] {
        Packet::request(nonce).encode()
    }

    /// The request with `nonce` left at `at`, read from the counter before it was handed to the kernel.
    pub fn sent(&mut self, nonce: NtpTimestamp, at: Timestamp<Local>) {
        self.counts.requests += 1;
        self.state = State::Asked { nonce, sent: at };
    }

    /// The open request left the machine at `at`, which is known better than when it was handed to the kernel. Earlier
    /// than that cannot be.
    pub fn departed(&mut self, at: Timestamp<Local>) {
        if let State::Asked { sent, .. } = &mut self.state {
            *sent = at.max(*sent);
        }
    }

    /// The request could not be sent or was bounced (no route, connection refused): counts as lost at once.
    pub fn failed(&mut self, now: Timestamp<Local>) {
        self.counts.lost += 1;
        let wait = self.schedule.after_loss();
        self.state = State::Waiting(Some(now.saturating_add(wait)));
    }

    /// Whether an answer is awaited.
    pub fn is_waiting(&self) -> bool {
        matches!(self.state, State::Asked { .. })
    }

    /// How long from the newest sample on the hard bound stays within its target: the poll interval follows it.
    pub fn set_room(&mut self, room: Span) {
        self.room = room;
    }

    /// Takes in a packet that arrived at `received`; `pivot` tells the era (within 68 years of the truth is enough).
    ///
    /// # Errors
    /// [`Refusal`]; the association goes on by itself.
    pub fn handle_packet(
        &mut self,
        bytes: &[u8],
        received: Timestamp<Local>,
        pivot: Timestamp<Utc>,
    ) -> Result<Exchange, Refusal> {
        let State::Asked { nonce, sent } = self.state else {
            self.counts.unsolicited += 1;
            return Err(Refusal::Unsolicited);
        };
        let packet = match Packet::parse(bytes) {
            Ok(packet) if packet.mode == mode::SERVER && packet.origin == nonce => packet,
            Ok(_) => {
                self.counts.unsolicited += 1;
                return Err(Refusal::Unsolicited);
            }
            Err(cause) => {
                self.counts.unsolicited += 1;
                return Err(Refusal::Malformed(cause));
            }
        };
        let outcome = self.measure(&packet, sent, received, pivot);
        let wait = match outcome {
            Ok(exchange) => {
                self.counts.accepted += 1;
                self.last = Some(exchange);
                self.refusal = None;
                self.schedule.after_answer(self.room)
            }
            Err(refusal) => {
                self.counts.refused += 1;
                self.refusal = Some(refusal);
                match refusal {
                    Refusal::Kiss(kiss @ (Kiss::Deny | Kiss::Restrict)) => {
                        self.state = State::Stopped(kiss);
                        return outcome;
                    }
                    Refusal::Kiss(Kiss::Rate) => self.schedule.after_rate_kiss(),
                    _ => self.schedule.after_loss(),
                }
            }
        };
        self.state = State::Waiting(Some(sent.saturating_add(wait)));
        outcome
    }

    /// The newest measurement.
    pub fn last(&self) -> Option<&Exchange> {
        self.last.as_ref()
    }
    /// Why the newest answer was refused, if it was.
    pub fn refusal(&self) -> Option<Refusal> {
        self.refusal
    }
    /// What was sent and what came of it.
    pub fn counts(&self) -> Counts {
        self.counts
    }
    /// The schedule in force.
    pub fn schedule(&self) -> &Schedule {
        &self.schedule
    }
    /// The server said to go away.
    pub fn is_stopped(&self) -> bool {
        matches!(self.state, State::Stopped(_))
    }

    fn measure(
        &self,
        packet: &Packet,
        sent: Timestamp<Local>,
        received: Timestamp<Local>,
        pivot: Timestamp<Utc>,
    ) -> Result<Exchange, Refusal> {
        if let Some(kiss) = packet.kiss() {
            return Err(Refusal::Kiss(kiss));
        }
        if packet.leap == Leap::Unsynchronised || packet.stratum > 15 {
            return Err(Refusal::Unsynchronised);
        }
        if packet.receive == NtpTimestamp::ZERO || packet.transmit == NtpTimestamp::ZERO {
            return Err(Refusal::Nonsense);
        }
        let root_distance = packet.root_distance();
        if root_distance > self.settings.max_root_distance {
            return Err(Refusal::RootDistance);
        }
        let (arrived, left) = (packet.receive.to_utc(pivot), packet.transmit.to_utc(pivot));
        let (round_trip, service) = (received.since(sent), left.since(arrived));
        if round_trip < Span::ZERO || service < Span::ZERO {
            return Err(Refusal::Nonsense);
        }
        // Clocks of unequal rate and coarse resolution can make a short round trip seem to take less than no time. What
        // the server's precision explains is a delay of zero; more is a contradiction.
        let delay = round_trip.saturating_sub(service);
        if delay.saturating_add(root_distance) < Span::ZERO {
            return Err(Refusal::Nonsense);
        }
        Ok(Exchange {
            local: sent.saturating_add(Span::from_nanos(round_trip.as_nanos() / 2)),
            offset: offset(sent, arrived, left, received),
            delay: delay.max(Span::ZERO),
            root_distance,
            stratum: packet.stratum,
            leap: packet.leap,
            reference_id: packet.reference_id,
        })
    }
}

/// ((arrived - sent) + (left - received)) / 2, rounded down; every step fits, as the terms are 64-bit.
fn offset(sent: Timestamp<Local>, arrived: Timestamp<Utc>, left: Timestamp<Utc>, received: Timestamp<Local>) -> Offset {
    let out = i128::from(arrived.as_nanos()) - i128::from(sent.as_nanos());
    let back = i128::from(left.as_nanos()) - i128::from(received.as_nanos());
    let mean = (out + back).div_euclid(2);
    Offset::from_nanos(i64::try_from(mean).unwrap_or(if mean < 0 { i64::MIN } else { i64::MAX }))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::ntp::packet::NtpShort;

    const Y2026: i64 = 1_767_225_600_000_000_000;
    const NONCE: NtpTimestamp = NtpTimestamp::from_bits(0xfeed_face_cafe_beef);

    fn settings() -> Settings {
        Settings {
            limits: Limits {
                min: Span::from_secs(16),
                max: Span::from_secs(1024),
                burst: 4,
                burst_interval: Span::from_secs(2),
            },
            timeout: Span::from_secs(1),
            max_root_distance: Span::from_secs(1),
        }
    }
    fn local(nanos: i64) -> Timestamp<Local> {
        Timestamp::from_nanos(nanos)
    }
    fn utc(nanos: i64) -> Timestamp<Utc> {
        Timestamp::from_nanos(nanos)
    }
    fn answer(arrived: i64, left: i64) -> Packet {
        Packet {
            version: 4,
            mode: mode::SERVER,
            stratum: 1,
            precision: -25,
            origin: NONCE,
            receive: NtpTimestamp::from_utc(utc(arrived)),
            transmit: NtpTimestamp::from_utc(utc(left)),
            ..Packet::default()
        }
    }
    fn asked() -> Association {
        let mut association = Association::new(settings());
        assert!(association.wants_request(local(0)));
        association.sent(NONCE, local(1_000));
        association
    }

    #[test]
    fn fifty_six_years_to_the_nanosecond() {
        let mut association = asked();
        let packet = answer(Y2026 + 400, Y2026 + 450);
        association.departed(local(900));
        let mut late = association.clone();
        late.departed(local(1_100));
        let exchange = late.handle_packet(&packet.encode(), local(2_050), utc(Y2026)).expect("measured");
        assert_eq!((exchange.delay, exchange.offset), (Span::from_nanos(900), Offset::from_nanos(Y2026 - 1_150)));
        let exchange = association.handle_packet(&packet.encode(), local(2_050), utc(Y2026)).expect("measured");
        assert_eq!(exchange.local, local(1_525));
        assert_eq!(exchange.delay, Span::from_nanos(1_000));
        assert_eq!(exchange.offset, Offset::from_nanos(Y2026 - 1_100));
        assert_eq!(association.poll_timeout(local(2_050)), Some(local(2_000_001_000)));
        assert_eq!(association.counts().accepted, 1);
    }

    #[test]
    fn only_our_own_number_is_believed() {
        let mut association = asked();
        let forged = Packet { origin: NtpTimestamp::from_bits(1), ..answer(Y2026, Y2026) };
        assert_eq!(association.handle_packet(&forged.encode(), local(2_000), utc(Y2026)), Err(Refusal::Unsolicited));
        let reflected = Packet { mode: mode::CLIENT, ..answer(Y2026, Y2026) };
        assert_eq!(association.handle_packet(&reflected.encode(), local(2_000), utc(Y2026)), Err(Refusal::Unsolicited));
        let honest = answer(Y2026, Y2026);
        assert!(association.handle_packet(&honest.encode(), local(2_000), utc(Y2026)).is_ok());
        assert_eq!(association.handle_packet(&honest.encode(), local(2_100), utc(Y2026)), Err(Refusal::Unsolicited));
        assert_eq!(association.counts().unsolicited, 3);
    }

    #[test]
    fn bad_servers_are_refused_with_a_reason() {
        let cases = [
            (Packet { leap: Leap::Unsynchronised, ..answer(Y2026, Y2026) }, Refusal::Unsynchronised),
            (Packet { stratum: 16, ..answer(Y2026, Y2026) }, Refusal::Unsynchronised),
            (Packet { root_dispersion: NtpShort(2 << 16), ..answer(Y2026, Y2026) }, Refusal::RootDistance),
            (Packet { transmit: NtpTimestamp::ZERO, ..answer(Y2026, Y2026) }, Refusal::Nonsense),
            (answer(Y2026 + 500, Y2026), Refusal::Nonsense),
            (answer(Y2026, Y2026 + 1_000_000), Refusal::Nonsense),
            (
                Packet { stratum: 0, reference_id: *b"INIT", ..answer(Y2026, Y2026) },
                Refusal::Kiss(Kiss::Other(*b"INIT")),
            ),
        ];
        for (packet, refusal) in cases {
            let mut association = asked();
            assert_eq!(association.handle_packet(&packet.encode(), local(2_000), utc(Y2026)), Err(refusal));
            assert_eq!(association.refusal(), Some(refusal));
            assert!(association.poll_timeout(local(2_000)).is_some());
        }
    }

    #[test]
    fn kisses_are_obeyed() {
        let mut association = asked();
        let deny = Packet { stratum: 0, reference_id: *b"DENY", ..answer(Y2026, Y2026) };
        assert!(association.handle_packet(&deny.encode(), local(2_000), utc(Y2026)).is_err());
        assert!(association.is_stopped());
        assert_eq!(association.poll_timeout(local(2_000)), None);

        let mut association = asked();
        let rate = Packet { stratum: 0, reference_id: *b"RATE", ..answer(Y2026, Y2026) };
        assert!(association.handle_packet(&rate.encode(), local(2_000), utc(Y2026)).is_err());
        assert_eq!(association.poll_timeout(local(2_000)), Some(local(32_000_001_000)));
    }

    #[test]
    fn a_lost_answer_is_counted_and_asked_for_again() {
        let mut association = asked();
        assert!(!association.handle_timeout(local(500_000_000)));
        assert!(association.handle_timeout(local(1_000_001_000)));
        assert_eq!(association.counts().lost, 1);
        assert_eq!(association.poll_timeout(local(1_000_001_000)), Some(local(2_000_001_000)));
    }

    proptest! {
        #[test]
        fn any_packet_is_survived(bytes in proptest::collection::vec(any::<u8>(), 0..100), received in any::<i64>(), pivot in any::<i64>(), ours in any::<bool>()) {
            let mut bytes = bytes;
            if ours && bytes.len() >= HEADER {
                bytes.truncate(HEADER);
                bytes[0] = 0x24;
                bytes[24..32].copy_from_slice(&NONCE.to_bits().to_be_bytes());
            }
            let mut association = asked();
            if let Ok(exchange) = association.handle_packet(&bytes, local(received), utc(pivot)) {
                prop_assert!(exchange.to_sample(SourceId(0), None).validate().is_ok());
            }
        }

        #[test]
        fn the_truth_is_within_half_the_delay(out in 0i64..1_000_000_000, service in 0i64..1_000_000, back in 0i64..1_000_000_000, truth in -1_000_000_000_000i64..1_000_000_000_000) {
            let mut association = asked();
            let base = Y2026 + truth;
            let packet = answer(base + 1_000 + out, base + 1_000 + out + service);
            let exchange = association.handle_packet(&packet.encode(), local(1_000 + out + service + back), utc(Y2026)).expect("measured");
            let error = exchange.offset.since(Offset::from_nanos(base)).abs();
            // One nanosecond for rounding to the wire's 2^-32 s.
            prop_assert!(error.as_nanos() <= exchange.delay.as_nanos() / 2 + 1);
        }
    }
}
