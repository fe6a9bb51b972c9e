//! What is said in a key exchange (RFC 8915, section 4): records of a type, a length and a body, pure.
//!
//! Nothing here trusts the server: every byte string is a [`Response`], or not whole yet, or a [`RecordError`].

use super::{AES_SIV_CMAC_256, NTPV4};

/// A longer response is refused.
pub const LONGEST: usize = 16 * 1024;
/// A longer cookie is refused: it has to fit in a packet that passes everywhere.
const LONGEST_COOKIE: usize = 512;

/// Set in the type of a record that must not be ignored.
const CRITICAL: u16 = 1 << 15;
const HEADER: usize = 4;

mod kind {
    pub(super) const END: u16 = 0;
    pub(super) const NEXT_PROTOCOL: u16 = 1;
    pub(super) const ERROR: u16 = 2;
    pub(super) const WARNING: u16 = 3;
    pub(super) const AEAD: u16 = 4;
    pub(super) const COOKIE: u16 = 5;
    pub(super) const SERVER: u16 = 6;
    pub(super) const PORT: u16 = 7;
}

/// What a server agreed to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Response {
    /// At least one, each for one request.
    pub cookies: Vec<Vec<u8>>,
    /// The time server, if it is another than this one.
    pub server: Option<String>,
    /// Its port, if it is not NTP's.
    pub port: Option<u16>,
}

/// Why a response cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordError {
    /// The end has not arrived yet.
    Incomplete,
    /// It is longer than any sensible one.
    TooLong,
    /// The server reports an error: 0 an unknown critical record, 1 a bad request, 2 a failure of its own.
    Refused(u16),
    /// The server has something to say that this client does not know.
    Warning(u16),
    /// A record that must not be ignored is of an unknown type.
    Critical(u16),
    /// A record's body has an impossible length or content.
    Malformed(u16),
    /// The server does not speak NTPv4 with keys from here.
    Protocol,
    /// The server does not know AEAD_AES_SIV_CMAC_256.
    Algorithm,
    /// There is no cookie to ask with.
    NoCookies,
}

impl std::fmt::Display for RecordError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Incomplete => f.write_str("the server's response breaks off"),
            Self::TooLong => f.write_str("the server's response is too long"),
            Self::Refused(code) => write!(f, "the server refuses with error {code}"),
            Self::Warning(code) => write!(f, "the server sends the unknown warning {code}"),
            Self::Critical(kind) => write!(f, "the server insists on the unknown record {kind}"),
            Self::Malformed(kind) => write!(f, "the server's record {kind} is malformed"),
            Self::Protocol => f.write_str("the server does not offer NTPv4"),
            Self::Algorithm => f.write_str("the server does not offer AEAD_AES_SIV_CMAC_256"),
            Self::NoCookies => f.write_str("the server gave no cookies"),
        }
    }
}

impl std::error::Error for RecordError {}

/// What a client asks for: NTPv4, with AEAD_AES_SIV_CMAC_256.
pub fn request() -> Vec<u8> {
    let mut bytes = Vec::new();
    push(&mut bytes, kind::NEXT_PROTOCOL | CRITICAL, &NTPV4.to_be_bytes());
    push(&mut bytes, kind::AEAD | CRITICAL, &AES_SIV_CMAC_256.to_be_bytes());
    push(&mut bytes, kind::END | CRITICAL, &[]);
    bytes
}

/// Reads a response. What follows its end is not looked at.
///
/// # Errors
/// [`RecordError::Incomplete`] while more has to arrive; any other error is final.
pub fn parse(bytes: &[u8]) -> Result<Response, RecordError> {
    let mut response = Response::default();
    let (mut protocol, mut algorithm) = (false, false);
    let mut rest = bytes;
    loop {
        let Some((header, after)) = rest.split_first_chunk::<HEADER>() else {
            return Err(if bytes.len() > LONGEST { RecordError::TooLong } else { RecordError::Incomplete });
        };
        let [type_high, type_low, length_high, length_low] = *header;
        let marked = u16::from_be_bytes([type_high, type_low]);
        let length = usize::from(u16::from_be_bytes([length_high, length_low]));
        let Some((body, after)) = after.split_at_checked(length) else {
            return Err(if bytes.len() > LONGEST { RecordError::TooLong } else { RecordError::Incomplete });
        };
        rest = after;
        let kind = marked & !CRITICAL;
        let malformed = RecordError::Malformed(kind);
        let number = <[u8; 2]>::try_from(body).map(u16::from_be_bytes);
        match kind {
            kind::END if body.is_empty() => break,
            kind::END => return Err(malformed),
            kind::NEXT_PROTOCOL => protocol = chosen(body, NTPV4).ok_or(malformed)?,
            kind::AEAD => algorithm = chosen(body, AES_SIV_CMAC_256).ok_or(malformed)?,
            kind::ERROR => return Err(number.map_or(malformed, RecordError::Refused)),
            kind::WARNING => return Err(number.map_or(malformed, RecordError::Warning)),
            kind::COOKIE if body.is_empty() || body.len() > LONGEST_COOKIE => return Err(malformed),
            kind::COOKIE => response.cookies.push(body.to_vec()),
            kind::SERVER => response.server = Some(host(body).ok_or(malformed)?.to_owned()),
            kind::PORT => response.port = Some(number.ok().filter(|&port| port > 0).ok_or(malformed)?),
            _ if marked & CRITICAL != 0 => return Err(RecordError::Critical(kind)),
            _ => {}
        }
    }
    match () {
        () if !protocol => Err(RecordError::Protocol),
        () if !algorithm => Err(RecordError::Algorithm),
        () if response.cookies.is_empty() => Err(RecordError::NoCookies),
        () => Ok(response),
    }
}

/// Whether the list in `body` chooses `wanted`, which is all that was offered; `None` if it is no such list.
fn chosen(body: &[u8], wanted: u16) -> Option<bool> {
    match body {
        [] => Some(false),
        [high, low] => Some(u16::from_be_bytes([*high, *low]) == wanted),
        _ => None,
    }
}

/// A host name or address, which will be looked up.
fn host(body: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(body).ok()?;
    let plausible = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':');
    (!text.is_empty() && text.len() <= 253 && text.chars().all(plausible)).then_some(text)
}

fn push(bytes: &mut Vec<u8>, kind: u16, body: &[u8]) {
    bytes.extend_from_slice(&kind.to_be_bytes());
    bytes.extend_from_slice(&u16::try_from(body.len()).unwrap_or(u16::MAX).to_be_bytes());
    bytes.extend_from_slice(body);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn response(records: &[(u16, &[u8])]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (kind, body) in records {
            push(&mut bytes, *kind, body);
        }
        push(&mut bytes, CRITICAL, &[]);
        bytes
    }

    const PROTOCOL: (u16, &[u8]) = (kind::NEXT_PROTOCOL | CRITICAL, &[0, 0]);
    const ALGORITHM: (u16, &[u8]) = (kind::AEAD, &[0, 15]);
    const COOKIE: (u16, &[u8]) = (kind::COOKIE, &[1, 2, 3, 4]);

    #[test]
    fn the_request_is_three_records() {
        assert_eq!(request(), [0x80, 1, 0, 2, 0, 0, 0x80, 4, 0, 2, 0, 15, 0x80, 0, 0, 0]);
    }

    #[test]
    fn an_agreement() {
        let bytes = response(&[
            PROTOCOL,
            ALGORITHM,
            COOKIE,
            (kind::COOKIE, &[9]),
            (kind::SERVER | CRITICAL, b"ntp.example"),
            (kind::PORT, &[0x2b, 0x67]),
            (99, b"not critical"),
        ]);
        let expected = Response {
            cookies: vec![vec![1, 2, 3, 4], vec![9]],
            server: Some("ntp.example".to_owned()),
            port: Some(11_111),
        };
        assert_eq!(parse(&bytes), Ok(expected));
        for end in 0..bytes.len() {
            assert_eq!(parse(&bytes[..end]), Err(RecordError::Incomplete), "{end} bytes");
        }
    }

    #[test]
    fn what_was_not_asked_for_is_refused() {
        for (records, error) in [
            (vec![ALGORITHM, COOKIE], RecordError::Protocol),
            (vec![(kind::NEXT_PROTOCOL, &[][..]), ALGORITHM, COOKIE], RecordError::Protocol),
            (vec![(kind::NEXT_PROTOCOL, &[0, 0, 0, 1][..]), ALGORITHM], RecordError::Malformed(kind::NEXT_PROTOCOL)),
            (vec![PROTOCOL, COOKIE], RecordError::Algorithm),
            (vec![PROTOCOL, (kind::AEAD, &[0, 30][..]), COOKIE], RecordError::Algorithm),
            (vec![PROTOCOL, ALGORITHM], RecordError::NoCookies),
            (vec![(kind::ERROR | CRITICAL, &[0, 1][..])], RecordError::Refused(1)),
            (vec![(kind::WARNING, &[0, 3][..])], RecordError::Warning(3)),
            (vec![(200 | CRITICAL, &[][..])], RecordError::Critical(200)),
            (vec![(kind::PORT, &[0, 0][..])], RecordError::Malformed(kind::PORT)),
            (vec![(kind::SERVER, &b"a b"[..])], RecordError::Malformed(kind::SERVER)),
            (vec![(kind::COOKIE, &[][..])], RecordError::Malformed(kind::COOKIE)),
        ] {
            assert_eq!(parse(&response(&records)), Err(error), "{records:?}");
        }
    }

    #[test]
    fn an_endless_response_is_refused() {
        let endless: Vec<_> = (0..LONGEST).flat_map(|_| [0, 99, 0, 0]).collect();
        assert_eq!(parse(&endless), Err(RecordError::TooLong));
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..400), good in any::<bool>()) {
            let mut all = if good { response(&[PROTOCOL, ALGORITHM, COOKIE]) } else { Vec::new() };
            if good {
                all.truncate(all.len() - HEADER);
            }
            all.extend(bytes);
            if let Ok(response) = parse(&all) {
                prop_assert!(!response.cookies.is_empty() && response.port != Some(0));
                prop_assert!(response.cookies.iter().all(|c| !c.is_empty() && c.len() <= LONGEST_COOKIE));
            }
        }
    }
}
