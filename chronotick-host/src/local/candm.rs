//! The question "how do you track?" to a chronyd, and its answer: command and monitoring protocol, version 6.
//!
//! chronyd answers this question to anybody on its loopback port. Datagrams in network byte order; a request is padded to the
//! length of its answer, so that nobody can use chronyd to amplify an attack. Floating-point numbers have 7 bits of exponent
//! and 25 bits of coefficient, both in two's complement: `coefficient * 2^(exponent - 25)`. Laid out after `candm.h` of chrony 4.
//!
//! | request | bytes | | answer | bytes |
//! |---|---|---|---|---|
//! | version 6, type 1 | 0, 1 | | version 6, type 2 | 0, 1 |
//! | command 33 | 4..6 | | command 33, answer 5, status 0 | 4..6, 6..8, 8..10 |
//! | sequence | 8..12 | | sequence | 16..20 |
//! | | | | the report, see [`Tracking`] | 28..104 |

use chronotick_core::units::Span;

/// Length of the answer, and therefore of the request.
pub const LENGTH: usize = 104;

const VERSION: u8 = 6;
const REQUEST: u8 = 1;
const ANSWER: u8 = 2;
const TRACKING: u16 = 33;
const TRACKING_REPORT: u16 = 5;
/// What chronyd calls its own clock when it follows nobody (127.127.1.1).
const LOCAL_REFERENCE: u32 = 0x7F7F_0101;

/// What a chronyd says of its clock.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tracking {
    /// Identifies what it follows; 0 is nothing.
    pub reference_id: u32,
    /// Its stratum.
    pub stratum: u16,
    /// 0: no leap second announced; 1: insert; 2: delete; 3: not synchronised.
    pub leap: u16,
    /// The time that chronyd estimates less the system's clock, in s.
    pub correction: f64,
    /// Round-trip delay to the primary source, in s.
    pub root_delay: f64,
    /// Dispersion to the primary source as of now, in s.
    pub root_dispersion: f64,
}

impl Tracking {
    /// Whether chronyd follows something other than itself.
    pub fn is_synchronised(&self) -> bool {
        self.leap < 3 && self.reference_id != 0 && self.reference_id != LOCAL_REFERENCE
    }

    /// Its error budget, root delay / 2 + root dispersion; `None` when a number is not finite or negative.
    pub fn root_distance(&self) -> Option<Span> {
        let seconds = self.root_delay / 2.0 + self.root_dispersion;
        let sane = self.root_delay >= 0.0 && self.root_dispersion >= 0.0 && seconds.is_finite() && seconds < 1e6;
        sane.then(|| Span::from_secs_f64(seconds).saturating_add(Span::from_nanos(1)))
    }
}

/// Why a datagram is not the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotTracking {
    /// Not an answer of this protocol, or to another question: ignore it.
    Foreign,
    /// chronyd refused, with this status.
    Refused(u16),
}

/// The question. `sequence` comes back with the answer.
pub fn request(sequence: u32) -> [u8; LENGTH] {
    let mut bytes = [0; LENGTH];
    bytes[0] = VERSION;
    bytes[1] = REQUEST;
    bytes[4..6].copy_from_slice(&TRACKING.to_be_bytes());
    bytes[8..12].copy_from_slice(&sequence.to_be_bytes());
    bytes
}

/// The answer to the question with `sequence`.
///
/// # Errors
/// See [`NotTracking`].
pub fn parse(bytes: &[u8], sequence: u32) -> Result<Tracking, NotTracking> {
    let half = |at: usize| bytes.get(at..at + 2).and_then(|b| b.try_into().ok()).map(u16::from_be_bytes);
    let word = |at: usize| bytes.get(at..at + 4).and_then(|b| b.try_into().ok()).map(u32::from_be_bytes);
    let header = || Some((*bytes.first()?, *bytes.get(1)?, half(4)?, half(6)?, half(8)?, word(16)?));
    let Some((VERSION, ANSWER, TRACKING, kind, status, answered)) = header() else {
        return Err(NotTracking::Foreign);
    };
    if answered != sequence {
        return Err(NotTracking::Foreign);
    }
    if status != 0 || kind != TRACKING_REPORT {
        return Err(NotTracking::Refused(status));
    }
    let report = || {
        Some(Tracking {
            reference_id: word(28)?,
            stratum: half(52)?,
            leap: half(54)?,
            correction: float(word(68)?),
            root_delay: float(word(92)?),
            root_dispersion: float(word(96)?),
        })
    };
    report().filter(|_| bytes.len() >= LENGTH).ok_or(NotTracking::Foreign)
}

/// chronyd's floating-point number.
fn float(bits: u32) -> f64 {
    let bits = bits.cast_signed();
    let (exponent, coefficient) = (bits >> 25, bits << 7 >> 7);
    f64::from(coefficient) * f64::from(exponent - 25).exp2()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// As chronyd writes a number.
    fn written(x: f64) -> u32 {
        if x == 0.0 {
            return 0;
        }
        #[expect(clippy::cast_possible_truncation, reason = "of a small number")]
        let exponent = x.abs().log2().floor() as i32 + 2;
        #[expect(clippy::cast_possible_truncation, reason = "24 bits and a sign")]
        let coefficient = (x * f64::from(25 - exponent).exp2()).round() as i32;
        (exponent.cast_unsigned() << 25) | (coefficient.cast_unsigned() & 0x01FF_FFFF)
    }

    fn answer(sequence: u32) -> [u8; LENGTH] {
        let mut bytes = [0; LENGTH];
        bytes[..2].copy_from_slice(&[6, 2]);
        bytes[4..8].copy_from_slice(&[0, 33, 0, 5]);
        bytes[16..20].copy_from_slice(&sequence.to_be_bytes());
        bytes[28..32].copy_from_slice(&[127, 0, 0, 1]);
        bytes[52..56].copy_from_slice(&[0, 2, 0, 1]);
        for (at, x) in [(68, 3.000_25), (92, 0.000_5), (96, 0.001)] {
            bytes[at..at + 4].copy_from_slice(&written(x).to_be_bytes());
        }
        bytes
    }

    #[test]
    fn an_answer_is_read() {
        let tracking = parse(&answer(77), 77).expect("an answer");
        assert_eq!((tracking.reference_id, tracking.stratum, tracking.leap), (0x7F00_0001, 2, 1));
        assert!((tracking.correction - 3.000_25).abs() < 1e-6, "{tracking:?}");
        assert!(tracking.is_synchronised());
        let distance = tracking.root_distance().expect("finite").as_nanos();
        assert!((distance - 1_250_000).abs() < 10, "{distance}");
        assert!(!Tracking { leap: 3, ..tracking }.is_synchronised());
        assert!(!Tracking { reference_id: LOCAL_REFERENCE, ..tracking }.is_synchronised());
        assert_eq!(Tracking { root_delay: -1.0, ..tracking }.root_distance(), None);
    }

    #[test]
    fn other_datagrams_are_not() {
        assert_eq!(parse(&answer(77), 78), Err(NotTracking::Foreign));
        assert_eq!(parse(&answer(77)[..LENGTH - 1], 77), Err(NotTracking::Foreign));
        assert_eq!(parse(&request(77), 77), Err(NotTracking::Foreign));
        let mut refused = answer(77);
        refused[9] = 2;
        assert_eq!(parse(&refused, 77), Err(NotTracking::Refused(2)));
    }

    proptest! {
        #[test]
        fn any_bytes_are_an_answer_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..160), sequence: u32) {
            if let Ok(tracking) = parse(&bytes, sequence) {
                let _ = (tracking.is_synchronised(), tracking.root_distance());
            }
            let mut bytes = bytes;
            for (at, byte) in answer(sequence).into_iter().enumerate().take(28) {
                if let Some(place) = bytes.get_mut(at) { *place = byte }
            }
            let _ = parse(&bytes, sequence).map(|tracking| tracking.root_distance());
        }

        #[test]
        fn numbers_survive(x in -1e6f64..1e6) {
            let back = float(written(x));
            prop_assert!((back - x).abs() <= x.abs() * 2e-7 + 1e-19, "{} {}", x, back);
        }
    }
}
