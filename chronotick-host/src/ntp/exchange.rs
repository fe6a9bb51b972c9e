//! What one exchange measures, or why it measures nothing.
//!
//! On-wire arithmetic of RFC 5905, section 8, in integers. The client's two instants are readings of the local counter and
//! the server's two are UTC, so the offset is the whole distance between the timescales (some 56 years) and never passes
//! through floating point.

use chronotick_core::Sample;
use chronotick_core::sample::SourceId;
use chronotick_core::units::{Local, Offset, Span, Temperature, Timestamp, Utc};

use super::packet::{Kiss, Leap, NtpTimestamp, Packet, PacketError};

/// The part of a round trip by which the two clocks' rates can make its two measures differ.
const RATE_MARGIN: i64 = 1_000;

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
    /// It repeats an answer already taken. The open request, if any, stays open.
    Replayed,
    /// It does not come from the server, or not unchanged. The open request stays open.
    Unauthenticated,
    /// The server sent a kiss code instead of the time.
    Kiss(Kiss),
    /// The server's clock is not synchronised.
    Unsynchronised,
    /// The server's error budget is above the configured maximum.
    RootDistance,
    /// The server follows the clock that it is to be a source of.
    Own,
    /// The server's instants are missing or run backwards, or the round trip took less than no time.
    Nonsense,
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Malformed(cause) => cause.fmt(f),
            Self::Unsolicited => f.write_str("it answers no open request"),
            Self::Replayed => f.write_str("it repeats an answer"),
            Self::Unauthenticated => f.write_str("it is not authentic"),
            Self::Kiss(Kiss::Rate) => f.write_str("the server asks for fewer requests (RATE)"),
            Self::Kiss(Kiss::Deny) => f.write_str("the server denies service (DENY)"),
            Self::Kiss(Kiss::Restrict) => f.write_str("the server restricts access (RSTR)"),
            Self::Kiss(Kiss::NtsNak) => f.write_str("the server could not authenticate the request (NTSN)"),
            Self::Kiss(Kiss::Other(code)) => {
                write!(f, "the server sent kiss code {}", code.escape_ascii())
            }
            Self::Unsynchronised => f.write_str("the server is not synchronised itself"),
            Self::RootDistance => f.write_str("the server admits more error than max_root_distance"),
            Self::Own => {
                f.write_str("the server follows a clock that ChronoTick feeds (reference CTK): remove it from servers")
            }
            Self::Nonsense => f.write_str("the server's timestamps contradict each other"),
        }
    }
}

/// What an exchange measures by itself. Its delay may be a little below zero.
pub(super) fn measure(
    packet: &Packet,
    sent: Timestamp<Local>,
    received: Timestamp<Local>,
    pivot: Timestamp<Utc>,
    max_root_distance: Span,
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
    if root_distance > max_root_distance {
        return Err(Refusal::RootDistance);
    }
    let (arrived, left) = (packet.receive.to_utc(pivot), packet.transmit.to_utc(pivot));
    let (round_trip, service) = (received.since(sent), left.since(arrived));
    if round_trip < Span::ZERO || service < Span::ZERO {
        return Err(Refusal::Nonsense);
    }
    // Clocks of unequal rate and coarse resolution can make a short round trip seem to take less than no time. What
    // those explain is a delay of zero; more is a contradiction.
    let delay = round_trip.saturating_sub(service);
    let explained = packet.resolution().saturating_add(Span::from_nanos(round_trip.as_nanos() / RATE_MARGIN));
    if delay.saturating_add(explained) < Span::ZERO {
        return Err(Refusal::Nonsense);
    }
    Ok(Exchange {
        local: sent.saturating_add(Span::from_nanos(round_trip.as_nanos() / 2)),
        offset: offset(sent, arrived, left, received),
        delay,
        root_distance: root_distance.saturating_add(Sample::hidden_by(service)),
        stratum: packet.stratum,
        leap: packet.leap,
        reference_id: packet.reference_id,
    })
}

/// ((arrived - sent) + (left - received)) / 2, rounded down; every step fits, as the terms are 64-bit.
fn offset(sent: Timestamp<Local>, arrived: Timestamp<Utc>, left: Timestamp<Utc>, received: Timestamp<Local>) -> Offset {
    let out = i128::from(arrived.as_nanos()) - i128::from(sent.as_nanos());
    let back = i128::from(left.as_nanos()) - i128::from(received.as_nanos());
    let mean = (out + back).div_euclid(2);
    Offset::from_nanos(i64::try_from(mean).unwrap_or(if mean < 0 { i64::MIN } else { i64::MAX }))
}
