//! NTPv4 packets (RFC 5905, section 7.3): pure parsing and encoding of the 48-byte header.
//!
//! Nothing here trusts the sender: every byte string is either a packet or a [`PacketError`]. Extension fields and message
//! authentication codes after the header are left to the caller.

use chronotick_core::units::{Span, Timestamp, Utc};

/// Bytes of the header.
pub const HEADER: usize = 48;

/// Seconds from 1900-01-01 (the origin of NTP's era 0) to 1970-01-01.
const EPOCH_SECS: i128 = 2_208_988_800;
const NANOS: i128 = 1_000_000_000;

/// A 64-bit NTP timestamp: seconds since the start of an unnamed 136-year era, and a fraction of 2^-32 s.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct NtpTimestamp(u64);

impl NtpTimestamp {
    /// "Unknown" on the wire.
    pub const ZERO: Self = Self(0);

    /// From its 64 bits.
    pub const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }
    /// Its 64 bits.
    pub const fn to_bits(self) -> u64 {
        self.0
    }

    /// The instant in UTC, in the era that brings it nearest to `pivot`, rounded to the nearest nanosecond.
    ///
    /// Saturates at the ends of [`Timestamp`], which a pivot of this century does not reach.
    pub fn to_utc(self, pivot: Timestamp<Utc>) -> Timestamp<Utc> {
        // The difference of two era-less timestamps is a signed 64-bit number when taken modulo 2^64.
        let difference = self.0.wrapping_sub(Self::from_utc(pivot).0).cast_signed();
        let nanos = (i128::from(difference) * NANOS + (1 << 31)) >> 32;
        // `from_utc` rounded the pivot to 2^-32 s; what it lost is below the resolution of the result.
        let base = i128::from(pivot.as_nanos());
        Timestamp::from_nanos(saturate(base + nanos))
    }

    /// The timestamp nearest to `utc`, the era dropped.
    pub fn from_utc(utc: Timestamp<Utc>) -> Self {
        let nanos = i128::from(utc.as_nanos()) + EPOCH_SECS * NANOS;
        let secs = nanos.div_euclid(NANOS);
        let fraction = ((nanos.rem_euclid(NANOS) << 32) + NANOS / 2) / NANOS;
        let bits = (secs << 32) + fraction;
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the era is dropped on purpose")]
        let bits = bits as u64;
        Self(bits)
    }
}

fn saturate(nanos: i128) -> i64 {
    i64::try_from(nanos).unwrap_or(if nanos < 0 { i64::MIN } else { i64::MAX })
}

/// A 32-bit NTP interval: seconds and a fraction of 2^-16 s.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct NtpShort(pub u32);

impl NtpShort {
    /// The same interval in nanoseconds, rounded up, so that a claimed error never shrinks.
    pub fn to_span(self) -> Span {
        let nanos = (u64::from(self.0) * 1_000_000_000).div_ceil(1 << 16);
        Span::from_nanos(i64::try_from(nanos).unwrap_or(i64::MAX))
    }
    /// The interval nearest above `span`; negative spans become zero, spans above 18 hours saturate.
    pub fn from_span(span: Span) -> Self {
        let nanos = span.as_nanos().max(0).unsigned_abs();
        let units = (u128::from(nanos) << 16).div_ceil(1_000_000_000);
        Self(u32::try_from(units).unwrap_or(u32::MAX))
    }
}

/// The leap indicator.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Leap {
    /// No leap second is announced.
    #[default]
    None,
    /// The last minute of the day has 61 seconds.
    Insert,
    /// The last minute of the day has 59 seconds.
    Delete,
    /// The server's clock is not synchronised.
    Unsynchronised,
}

impl Leap {
    /// The lower-case word shown to people and in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Insert => "insert",
            Self::Delete => "delete",
            Self::Unsynchronised => "unsynchronised",
        }
    }
}

/// Association modes that this client meets.
pub mod mode {
    /// A request.
    pub const CLIENT: u8 = 3;
    /// A reply.
    pub const SERVER: u8 = 4;
}

/// The header of a packet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Packet {
    /// Leap indicator.
    pub leap: Leap,
    /// Protocol version.
    pub version: u8,
    /// Association mode, see [`mode`].
    pub mode: u8,
    /// 0: kiss-of-death; 1: primary server; 2 to 15: secondary; 16: unsynchronised.
    pub stratum: u8,
    /// Base-2 logarithm of the poll interval in seconds.
    pub poll: i8,
    /// Base-2 logarithm of the precision of the sender's clock in seconds.
    pub precision: i8,
    /// Round-trip delay to the primary source.
    pub root_delay: NtpShort,
    /// Dispersion to the primary source.
    pub root_dispersion: NtpShort,
    /// Identifies the reference; the kiss code when the stratum is 0.
    pub reference_id: [u8; 4],
    /// When the sender's clock was last set.
    pub reference: NtpTimestamp,
    /// The transmit timestamp of the request that this answers.
    pub origin: NtpTimestamp,
    /// When the request arrived.
    pub receive: NtpTimestamp,
    /// When this packet left.
    pub transmit: NtpTimestamp,
}

impl Packet {
    /// A request that says nothing about its sender: only `nonce`, as the transmit timestamp, differs between any two.
    pub fn request(nonce: NtpTimestamp) -> Self {
        Self { version: 4, mode: mode::CLIENT, transmit: nonce, ..Self::default() }
    }

    /// The error that the resolution of the sender's clock alone explains.
    pub fn resolution(&self) -> Span {
        Span::from_secs_f64(f64::from(self.precision).exp2())
    }

    /// Reads the header at the start of `bytes`.
    ///
    /// # Errors
    /// See [`PacketError`].
    pub fn parse(bytes: &[u8]) -> Result<Self, PacketError> {
        let (header, _) = bytes.split_first_chunk::<HEADER>().ok_or(PacketError::Short)?;
        if !bytes.len().is_multiple_of(4) {
            return Err(PacketError::Ragged);
        }
        let byte = |at: usize| header[at];
        let word = |at: usize| u32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
        let long = |at: usize| NtpTimestamp(u64::from(word(at)) << 32 | u64::from(word(at + 4)));

        let version = byte(0) >> 3 & 7;
        if !(1..=4).contains(&version) {
            return Err(PacketError::Version);
        }
        Ok(Self {
            leap: match byte(0) >> 6 {
                0 => Leap::None,
                1 => Leap::Insert,
                2 => Leap::Delete,
                _ => Leap::Unsynchronised,
            },
            version,
            mode: byte(0) & 7,
            stratum: byte(1),
            poll: byte(2).cast_signed(),
            precision: byte(3).cast_signed(),
            root_delay: NtpShort(word(4)),
            root_dispersion: NtpShort(word(8)),
            reference_id: [byte(12), byte(13), byte(14), byte(15)],
            reference: long(16),
            origin: long(24),
            receive: long(32),
            transmit: long(40),
        })
    }

    /// The header's bytes.
    pub fn encode(&self) -> [u8; HEADER] {
        let leap = match self.leap {
            Leap::None => 0u8,
            Leap::Insert => 1,
            Leap::Delete => 2,
            Leap::Unsynchronised => 3,
        };
        let mut bytes = [0; HEADER];
        bytes[0] = leap << 6 | (self.version & 7) << 3 | self.mode & 7;
        bytes[1] = self.stratum;
        bytes[2] = self.poll.cast_unsigned();
        bytes[3] = self.precision.cast_unsigned();
        bytes[4..8].copy_from_slice(&self.root_delay.0.to_be_bytes());
        bytes[8..12].copy_from_slice(&self.root_dispersion.0.to_be_bytes());
        bytes[12..16].copy_from_slice(&self.reference_id);
        for (at, time) in [(16, self.reference), (24, self.origin), (32, self.receive), (40, self.transmit)] {
            bytes[at..at + 8].copy_from_slice(&time.0.to_be_bytes());
        }
        bytes
    }

    /// What a stratum of zero says (RFC 5905, section 7.4); `None` for other strata.
    pub fn kiss(&self) -> Option<Kiss> {
        (self.stratum == 0).then_some(match &self.reference_id {
            b"RATE" => Kiss::Rate,
            b"DENY" => Kiss::Deny,
            b"RSTR" => Kiss::Restrict,
            b"NTSN" => Kiss::NtsNak,
            code => Kiss::Other(*code),
        })
    }

    /// The sender's own error budget: root delay / 2 + root dispersion + the precision of its clock.
    ///
    /// RFC 5905 counts the precision in the sample's dispersion; here it joins the root distance, which the hard bound
    /// adds in full.
    pub fn root_distance(&self) -> Span {
        let half_delay = Span::from_nanos(self.root_delay.to_span().as_nanos() / 2 + 1);
        half_delay.saturating_add(self.root_dispersion.to_span()).saturating_add(self.resolution())
    }
}

/// A kiss-of-death code: the server asks the client to go away or to slow down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kiss {
    /// Ask less often.
    Rate,
    /// Access denied: stop.
    Deny,
    /// Access restricted by policy: stop.
    Restrict,
    /// The authentication of the request could not be checked (RFC 8915).
    NtsNak,
    /// Any other code; carries no instruction.
    Other([u8; 4]),
}

/// Why bytes are not a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PacketError {
    /// Fewer bytes than a header has.
    Short,
    /// The length is not a multiple of four.
    Ragged,
    /// A version other than 1 to 4.
    Version,
}

impl std::fmt::Display for PacketError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Short => "the packet is shorter than an NTP header",
            Self::Ragged => "the packet's length is not a multiple of four",
            Self::Version => "the packet is of an unknown NTP version",
        })
    }
}

impl std::error::Error for PacketError {}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const Y2026: Timestamp<Utc> = Timestamp::from_nanos(1_767_225_600_000_000_000);
    /// 2036-02-07 06:28:16 UTC, where era 1 starts.
    const ERA_1: i64 = 2_085_978_496;

    #[test]
    fn known_instants() {
        assert_eq!(NtpTimestamp::from_utc(Timestamp::from_nanos(0)).to_bits() >> 32, 2_208_988_800);
        let start = NtpTimestamp::from_utc(Timestamp::from_nanos(ERA_1 * 1_000_000_000));
        assert_eq!(start, NtpTimestamp::ZERO);
        assert_eq!(
            NtpTimestamp::from_bits(1 << 31).to_utc(Timestamp::from_nanos(ERA_1 * 1_000_000_000)).as_nanos()
                % 1_000_000_000,
            500_000_000
        );
    }

    #[test]
    fn eras_are_told_by_the_pivot() {
        let after_rollover = NtpTimestamp::from_bits(10 << 32);
        assert_eq!(after_rollover.to_utc(Y2026), Timestamp::from_nanos((ERA_1 + 10) * 1_000_000_000));
        let in_1999 = Timestamp::from_nanos(930_000_000_000_000_000);
        assert_eq!(NtpTimestamp::from_utc(in_1999).to_utc(Y2026), in_1999);
    }

    #[test]
    fn a_request_reveals_nothing() {
        let bytes = Packet::request(NtpTimestamp::from_bits(0x0123_4567_89ab_cdef)).encode();
        assert_eq!(bytes[0], 0x23);
        assert!(bytes[1..40].iter().all(|&b| b == 0));
    }

    #[test]
    fn short_ragged_and_unknown_packets_are_refused() {
        assert_eq!(Packet::parse(&[]), Err(PacketError::Short));
        assert_eq!(Packet::parse(&[0x24; 44]), Err(PacketError::Short));
        assert_eq!(Packet::parse(&[0x24; 50]), Err(PacketError::Ragged));
        assert_eq!(Packet::parse(&[0x3c; 48]), Err(PacketError::Version));
    }

    #[test]
    fn kiss_codes() {
        let kiss = |code: &[u8; 4]| Packet { stratum: 0, reference_id: *code, ..Packet::default() }.kiss();
        assert_eq!(kiss(b"RATE"), Some(Kiss::Rate));
        assert_eq!(kiss(b"DENY"), Some(Kiss::Deny));
        assert_eq!(kiss(b"RSTR"), Some(Kiss::Restrict));
        assert_eq!(kiss(b"INIT"), Some(Kiss::Other(*b"INIT")));
        assert_eq!(Packet { stratum: 1, ..Packet::default() }.kiss(), None);
    }

    #[test]
    fn a_claimed_error_never_shrinks() {
        assert_eq!(NtpShort(1).to_span(), Span::from_nanos(15_259));
        assert_eq!(NtpShort::from_span(Span::from_nanos(1)), NtpShort(1));
        let packet = Packet {
            root_delay: NtpShort(1 << 16),
            root_dispersion: NtpShort(1 << 15),
            precision: -20,
            ..Packet::default()
        };
        assert!(packet.root_distance() >= Span::from_nanos(1_000_000_953));
    }

    proptest! {
        #[test]
        fn any_bytes_parse_or_are_refused(bytes in proptest::collection::vec(any::<u8>(), 0..120)) {
            if let Ok(packet) = Packet::parse(&bytes) {
                prop_assert_eq!(&packet.encode()[..], &bytes[..HEADER]);
                let _ = packet.root_distance();
            }
        }

        #[test]
        fn utc_survives_the_round_trip(years in -60i64..60, nanos in 0i64..1_000_000_000) {
            let utc = Timestamp::from_nanos(Y2026.as_nanos() + years * 31_556_952_000_000_000 + nanos);
            prop_assert_eq!(NtpTimestamp::from_utc(utc).to_utc(Y2026), utc);
        }
    }
}
