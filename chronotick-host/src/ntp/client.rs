//! One association with one server: what to send, which answers to believe, what they measure.
//!
//! The request carries random numbers instead of times (client data minimisation), and only
//! an answer that returns one of them is looked at: an attacker off the path would have to guess 64 bits.
//!
//! **Interleaved mode** (RFC 9769): a server knows only afterwards when an answer really left, and tells so in the next one.
//! Waiting for the next poll would make every measurement one poll interval old, so requests come in pairs: the second follows
//! after [`PAIR_GAP`] and fetches the first one's departure. A server that does not play along is asked once a poll again.

use chronotick_core::units::{Local, Span, Timestamp, Utc};

pub use super::counts::Counts;
use super::exchange::measure;
pub use super::exchange::{Exchange, Refusal};
use super::packet::{Kiss, NtpTimestamp, Packet, mode};
use super::poll::{Limits, Schedule};
use super::quickest::Quickest;
use super::request::Kinship;
pub use super::request::{Answer, Request};

/// In interleaved mode the second request of a pair follows the first after this.
pub const PAIR_GAP: Span = Span::from_millis(50);
/// Pairs in a row that the server answered in basic mode after which it is taken not to offer the interleaved one.
const BASIC_PAIRS: u8 = 8;
/// Answers that are remembered to tell a replay from a stray packet.
const ANSWERED: usize = 8;

/// What the client believes and how patient it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// How often to ask.
    pub limits: Limits,
    /// An answer that takes longer is lost.
    pub timeout: Span,
    /// A server that admits more error than this is not used.
    pub max_root_distance: Span,
    /// Whether to ask in pairs, for the server's exact times of departure.
    pub interleaved: bool,
}

/// The state of one association. Time is an argument of every call.
#[derive(Clone, Debug)]
pub struct Association {
    settings: Settings,
    schedule: Schedule,
    state: State,
    room: Span,
    counts: Counts,
    quickest: Quickest,
    /// The first half of a pair, answered.
    half: Option<Half>,
    /// Pairs in a row that the server answered in basic mode.
    basic_pairs: u8,
    /// The numbers of requests that have been answered, newest last.
    answered: [u64; ANSWERED],
    /// What the newest exchange measured, until it is fetched.
    news: Option<Exchange>,
    last: Option<Exchange>,
    refusal: Option<Refusal>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// The next request is due at this instant; `None` means at once.
    Waiting(Option<Timestamp<Local>>),
    /// This request left at `sent`.
    Asked { request: Request, sent: Timestamp<Local> },
    /// The server said to go away.
    Stopped(Kiss),
}

/// An exchange whose server has yet to say when exactly its answer left.
#[derive(Clone, Copy, Debug)]
struct Half {
    packet: Packet,
    sent: Timestamp<Local>,
    received: Timestamp<Local>,
    /// What it measures as it is.
    exchange: Exchange,
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
            quickest: Quickest::default(),
            half: None,
            basic_pairs: 0,
            answered: [0; ANSWERED],
            news: None,
            last: None,
            refusal: None,
        }
    }

    /// The counter was disturbed: what was measured is void. How rarely the server wants to be asked is not.
    pub fn restart(&mut self) {
        *self = Self { schedule: self.schedule.restarted(), ..Self::new(self.settings) };
    }

    /// The requests go to another address from now on: what was learned of the path is void.
    pub fn moved(&mut self) {
        self.quickest = Quickest::default();
        self.half = None;
        self.basic_pairs = 0;
        if let State::Asked { .. } | State::Stopped(_) = self.state {
            self.state = State::Waiting(None);
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
                self.lost(sent, self.settings.timeout);
                true
            }
            _ => false,
        }
    }

    /// Whether a request is due.
    pub fn wants_request(&self, now: Timestamp<Local>) -> bool {
        matches!(self.state, State::Waiting(due) if due.is_none_or(|due| due <= now))
    }

    /// The next request, with two random numbers. Report its departure with [`Association::sent`].
    pub fn request(&self, random: [u64; 2]) -> Request {
        let [nonce, echo] = random.map(NtpTimestamp::from_bits);
        let mut packet = Packet::request(nonce);
        let mut follows = false;
        if self.asks_pairs() {
            // A number in both fields announces the mode: without it servers keep no time of departure, and chronyd none unless
            // the origin is odd, as all its own timestamps are. What the first of a pair carries means nothing, so polls cannot
            // be linked.
            packet.receive = echo;
            packet.origin = NtpTimestamp::from_bits((echo.to_bits().rotate_left(32) ^ nonce.to_bits()) | 1);
            if let Some(half) = &self.half {
                packet.origin = half.packet.receive;
                follows = true;
            }
        }
        Request { packet, follows }
    }

    /// `request` left at `at`, read from the counter before it was handed to the kernel.
    pub fn sent(&mut self, request: Request, at: Timestamp<Local>) {
        self.counts.requests += 1;
        self.state = State::Asked { request, sent: at };
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
        self.lost(now, Span::ZERO);
    }

    /// Whether an answer is awaited.
    pub fn is_waiting(&self) -> bool {
        matches!(self.state, State::Asked { .. })
    }

    /// How long from the newest sample on the hard bound stays within its target: the poll interval follows it.
    pub fn set_room(&mut self, room: Span) {
        self.room = room;
    }

    /// Whether a packet answers the open request. Nothing but that is known of it: where packets are authenticated, ask that next,
    /// then [`Association::accept`] or [`Association::distrust`].
    ///
    /// # Errors
    /// [`Refusal::Malformed`], [`Refusal::Replayed`] or [`Refusal::Unsolicited`]; it is counted, and a request that is open
    /// stays so.
    pub fn recognise(&mut self, bytes: &[u8]) -> Result<Answer, Refusal> {
        let packet = match Packet::parse(bytes) {
            Ok(packet) => packet,
            Err(cause) => {
                self.counts.malformed += 1;
                return Err(Refusal::Malformed(cause));
            }
        };
        if let State::Asked { request, sent } = self.state
            && let Some(kinship) = request.kinship(&packet)
        {
            return Ok(Answer { packet, kinship, sent });
        }
        let origin = packet.origin.to_bits();
        if packet.mode == mode::SERVER && origin != 0 && self.answered.contains(&origin) {
            self.counts.replayed += 1;
            return Err(Refusal::Replayed);
        }
        self.counts.unsolicited += 1;
        Err(Refusal::Unsolicited)
    }

    /// An answer turned out not to be authentic: the true one may still come.
    pub fn distrust(&mut self) -> Refusal {
        self.counts.unauthenticated += 1;
        Refusal::Unauthenticated
    }

    /// Takes in an answer that arrived at `received`; `pivot` tells the era (within 68 years of the truth is enough). What it
    /// measured, if it is enough by itself, comes out of [`Association::poll_exchange`].
    ///
    /// # Errors
    /// [`Refusal`]; the association goes on by itself.
    pub fn accept(
        &mut self,
        answer: &Answer,
        received: Timestamp<Local>,
        pivot: Timestamp<Utc>,
    ) -> Result<(), Refusal> {
        let Answer { packet, kinship, sent } = *answer;
        self.answered.rotate_left(1);
        self.answered[ANSWERED - 1] = packet.origin.to_bits();

        let half = self.half.take();
        let outcome = match (&half, kinship) {
            (Some(half), Kinship::Interleaved) => {
                // The answer to the first request of the pair left at the time that this one tells.
                let whole = Packet { receive: half.packet.receive, ..packet };
                measure(&whole, half.sent, half.received, pivot, self.settings.max_root_distance)
            }
            _ => measure(&packet, sent, received, pivot, self.settings.max_root_distance),
        };
        match (outcome, half) {
            (Ok(exchange), None) if self.asks_pairs() => {
                self.counts.accepted += 1;
                self.half = Some(Half { packet, sent, received, exchange });
                self.state = State::Waiting(Some(received.saturating_add(PAIR_GAP)));
                Ok(())
            }
            (Ok(exchange), half) => {
                self.counts.accepted += 1;
                self.refusal = None;
                let both = half.filter(|_| kinship == Kinship::Basic);
                self.basic_pairs = if both.is_some() { self.basic_pairs.saturating_add(1) } else { 0 };
                self.counts.interleaved += u64::from(kinship == Kinship::Interleaved);
                let exchanges = [Some(exchange), both.map(|half| half.exchange)].into_iter().flatten();
                self.report(exchanges.min_by_key(|exchange| exchange.delay).unwrap_or(exchange));
                let wait = self.schedule.after_answer(self.room);
                self.state = State::Waiting(Some(sent.saturating_add(wait)));
                Ok(())
            }
            (Err(refusal), half) => {
                self.counts.refused += 1;
                self.refusal = Some(refusal);
                if let Some(half) = half {
                    self.report(half.exchange);
                }
                let wait = match refusal {
                    Refusal::Kiss(kiss @ (Kiss::Deny | Kiss::Restrict)) => {
                        self.state = State::Stopped(kiss);
                        return Err(refusal);
                    }
                    Refusal::Kiss(Kiss::Rate) => self.schedule.after_rate_kiss(),
                    _ => self.schedule.after_loss(),
                };
                self.state = State::Waiting(Some(sent.saturating_add(wait)));
                Err(refusal)
            }
        }
    }

    /// [`Association::recognise`] and [`Association::accept`] in one, for servers without authentication.
    ///
    /// # Errors
    /// As of those two.
    pub fn handle_packet(
        &mut self,
        bytes: &[u8],
        received: Timestamp<Local>,
        pivot: Timestamp<Utc>,
    ) -> Result<(), Refusal> {
        let answer = self.recognise(bytes)?;
        self.accept(&answer, received, pivot)
    }

    /// What has been measured since the last call.
    pub fn poll_exchange(&mut self) -> Option<Exchange> {
        self.news.take()
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

    fn asks_pairs(&self) -> bool {
        self.settings.interleaved && self.basic_pairs < BASIC_PAIRS
    }

    /// The request that left at `sent` is lost; the next is due no sooner than `least` after it.
    fn lost(&mut self, sent: Timestamp<Local>, least: Span) {
        self.counts.lost += 1;
        let wait = match self.half.take() {
            // The first half of the pair was answered, and measures something by itself.
            Some(half) => {
                self.report(half.exchange);
                self.schedule.after_answer(self.room)
            }
            None => self.schedule.after_loss(),
        };
        self.state = State::Waiting(Some(sent.saturating_add(wait.max(least))));
    }

    fn report(&mut self, mut exchange: Exchange) {
        exchange.delay = self.quickest.observe(exchange.delay).max(Span::ZERO);
        self.last = Some(exchange);
        self.news = Some(exchange);
    }
}

#[cfg(test)]
mod tests {
    use chronotick_core::SourceId;
    use chronotick_core::units::Offset;
    use proptest::prelude::*;

    use super::*;
    use crate::ntp::packet::{HEADER, Leap, NtpShort, PacketError};

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
            interleaved: false,
        }
    }
    fn request() -> Request {
        Association::new(settings()).request([NONCE.to_bits(), 7])
    }
    fn measured(association: &mut Association, packet: &Packet, received: i64) -> Result<Exchange, Refusal> {
        association.handle_packet(&packet.encode(), local(received), utc(Y2026))?;
        Ok(association.poll_exchange().expect("measured"))
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
        association.sent(request(), local(1_000));
        association
    }

    #[test]
    fn fifty_six_years_to_the_nanosecond() {
        let mut association = asked();
        let packet = answer(Y2026 + 400, Y2026 + 450);
        association.departed(local(900));
        let mut late = association.clone();
        late.departed(local(1_100));
        let exchange = measured(&mut late, &packet, 2_050).expect("measured");
        assert_eq!((exchange.delay, exchange.offset), (Span::from_nanos(900), Offset::from_nanos(Y2026 - 1_150)));
        let exchange = measured(&mut association, &packet, 2_050).expect("measured");
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
        assert_eq!(association.handle_packet(&honest.encode(), local(2_100), utc(Y2026)), Err(Refusal::Replayed));
        assert_eq!(association.handle_packet(&forged.encode(), local(2_100), utc(Y2026)), Err(Refusal::Unsolicited));
        let cut = &honest.encode()[..40];
        let refused = association.handle_packet(cut, local(2_100), utc(Y2026));
        assert_eq!(refused, Err(Refusal::Malformed(PacketError::Short)));
        let counts = association.counts();
        assert_eq!((counts.unsolicited, counts.replayed, counts.malformed, counts.ignored()), (3, 1, 1, 5));
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

    /// An association in interleaved mode whose first request, sent at 1,000 ns, was answered at 2,000 ns.
    fn half_a_pair() -> Association {
        let mut association = Association::new(Settings { interleaved: true, ..settings() });
        let first = association.request([NONCE.to_bits(), 7]);
        assert!(first.packet.receive != NtpTimestamp::ZERO && first.packet.origin != NtpTimestamp::ZERO);
        association.sent(first, local(1_000));
        let packet = answer(Y2026 + 300, Y2026 + 400);
        assert_eq!(association.handle_packet(&packet.encode(), local(2_000), utc(Y2026)), Ok(()));
        assert_eq!(association.poll_exchange(), None);
        assert_eq!(association.poll_timeout(local(2_000)), Some(local(2_000).saturating_add(PAIR_GAP)));
        association
    }

    #[test]
    fn the_second_of_a_pair_tells_when_the_first_was_answered() {
        let mut association = half_a_pair();
        let second = association.request([8, 9]);
        assert_eq!(second.packet.origin, NtpTimestamp::from_utc(utc(Y2026 + 300)));
        association.sent(second, local(51_000_000));
        // The first answer left 350 ns later than it said.
        let told = Packet { origin: NtpTimestamp::from_bits(9), ..answer(Y2026 + 50_000_000, Y2026 + 750) };
        let exchange = measured(&mut association, &told, 51_001_000).expect("measured");
        assert_eq!((exchange.local, exchange.delay), (local(1_500), Span::from_nanos(550)));
        assert_eq!((association.counts().interleaved, association.counts().accepted), (1, 2));
        assert_eq!(association.handle_packet(&told.encode(), local(51_002_000), utc(Y2026)), Err(Refusal::Replayed));
    }

    #[test]
    fn half_a_pair_is_not_lost_with_the_other_half() {
        let mut association = half_a_pair();
        let second = association.request([8, 9]);
        association.sent(second, local(51_000_000));
        assert!(association.handle_timeout(local(1_051_000_000)));
        assert_eq!(association.poll_exchange().map(|exchange| exchange.delay), Some(Span::from_nanos(900)));
        assert_eq!(association.schedule().losses(), 0);
    }

    #[test]
    fn a_server_without_the_mode_is_asked_once_a_poll() {
        let mut association = half_a_pair();
        for round in 0..i64::from(BASIC_PAIRS) {
            let start = round * 1_000_000_000;
            if round > 0 {
                association.sent(association.request([1, 2]), local(start));
                let first = Packet { origin: NtpTimestamp::from_bits(1), ..answer(Y2026 + start, Y2026 + start) };
                assert!(association.handle_packet(&first.encode(), local(start + 900), utc(Y2026)).is_ok());
            }
            association.sent(association.request([8, 9]), local(start + 5_000));
            let basic = Packet { origin: NtpTimestamp::from_bits(8), ..answer(Y2026 + start, Y2026 + start) };
            let exchange = measured(&mut association, &basic, start + 5_600).expect("measured");
            assert!(exchange.delay >= Span::from_nanos(600), "the quicker of the two");
        }
        let plain = association.request([3, 4]);
        assert_eq!((plain.packet.origin, plain.packet.receive), (NtpTimestamp::ZERO, NtpTimestamp::ZERO));
        association.moved();
        assert_ne!(association.request([3, 4]).packet.origin, NtpTimestamp::ZERO);
    }

    #[test]
    fn an_answer_that_is_not_authentic_leaves_the_request_open() {
        let mut association = asked();
        let packet = answer(Y2026, Y2026).encode();
        assert!(association.recognise(&packet).is_ok());
        assert_eq!(association.distrust(), Refusal::Unauthenticated);
        assert!(association.is_waiting() && association.handle_packet(&packet, local(2_000), utc(Y2026)).is_ok());
        assert_eq!(association.counts().unauthenticated, 1);
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
            let _ = association.handle_packet(&bytes, local(received), utc(pivot));
            if let Some(exchange) = association.poll_exchange() {
                prop_assert!(exchange.to_sample(SourceId(0), None).validate().is_ok());
            }
        }

        #[test]
        fn the_truth_is_within_half_the_delay(out in 0i64..1_000_000_000, service in 0i64..1_000_000, back in 0i64..1_000_000_000, truth in -1_000_000_000_000i64..1_000_000_000_000) {
            let mut association = asked();
            let base = Y2026 + truth;
            let packet = answer(base + 1_000 + out, base + 1_000 + out + service);
            let exchange = measured(&mut association, &packet, 1_000 + out + service + back).expect("measured");
            let error = exchange.offset.since(Offset::from_nanos(base)).abs();
            // One nanosecond for rounding to the wire's 2^-32 s.
            prop_assert!(error.as_nanos() <= exchange.delay.as_nanos() / 2 + 1);
        }
    }
}
