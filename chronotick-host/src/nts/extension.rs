//! Extension fields after a packet's header (RFC 7822; RFC 8915, section 5), pure.
//!
//! Nothing here trusts the sender: every byte string is a list of fields or a [`FieldError`].

/// Identifies a request, and the answer to it.
pub const UNIQUE_ID: u16 = 0x0104;
/// The server's memory of the keys, carried by the client.
pub const COOKIE: u16 = 0x0204;
/// Room for one more cookie in the answer.
pub const COOKIE_PLACEHOLDER: u16 = 0x0304;
/// A tag over everything before it, and encrypted fields.
pub const AUTHENTICATOR: u16 = 0x0404;

const HEADER: usize = 4;
/// Every field is at least this long (RFC 7822, section 3).
const SHORTEST: usize = 16;

/// One field, where it lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field<'a> {
    /// Its type.
    pub kind: u16,
    /// What it carries, padding included.
    pub body: &'a [u8],
    /// Where it begins, from the beginning of the bytes that were parsed.
    pub at: usize,
}

/// Why bytes are not extension fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FieldError {
    /// A field's length is impossible or reaches beyond the end.
    Length,
    /// An authenticator's parts reach beyond it.
    Authenticator,
}

impl std::fmt::Display for FieldError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Length => "an extension field's length is impossible",
            Self::Authenticator => "the authenticator's parts do not fit into it",
        })
    }
}

impl std::error::Error for FieldError {}

/// The fields in `bytes`, in order; the iterator ends with the first error.
pub fn fields(bytes: &[u8]) -> impl Iterator<Item = Result<Field<'_>, FieldError>> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let rest = bytes.get(at..).filter(|rest| !rest.is_empty())?;
        let field = first(rest, at);
        at = field.map_or(usize::MAX, |field| at + HEADER + field.body.len());
        Some(field)
    })
}

fn first(rest: &[u8], at: usize) -> Result<Field<'_>, FieldError> {
    let (header, after) = rest.split_first_chunk::<HEADER>().ok_or(FieldError::Length)?;
    let [kind_high, kind_low, length_high, length_low] = *header;
    let length = usize::from(u16::from_be_bytes([length_high, length_low]));
    let body = length.checked_sub(HEADER).filter(|_| length.is_multiple_of(4)).and_then(|body| after.get(..body));
    let kind = u16::from_be_bytes([kind_high, kind_low]);
    Ok(Field { kind, body: body.ok_or(FieldError::Length)?, at })
}

/// Appends a field, its body padded with zeros to the length that fields must have.
pub fn push(bytes: &mut Vec<u8>, kind: u16, body: &[u8]) {
    let length = (HEADER + body.len()).next_multiple_of(4).max(SHORTEST);
    bytes.extend_from_slice(&kind.to_be_bytes());
    bytes.extend_from_slice(&u16::try_from(length).unwrap_or(u16::MAX).to_be_bytes());
    bytes.extend_from_slice(body);
    bytes.resize(bytes.len() + length - HEADER - body.len(), 0);
}

/// The nonce and the ciphertext in an authenticator's body.
///
/// # Errors
/// When they do not fit into it.
pub fn authenticator(body: &[u8]) -> Result<(&[u8], &[u8]), FieldError> {
    let split = || {
        let (lengths, rest) = body.split_first_chunk::<4>()?;
        let nonce = usize::from(u16::from_be_bytes([lengths[0], lengths[1]]));
        let ciphertext = usize::from(u16::from_be_bytes([lengths[2], lengths[3]]));
        Some((rest.get(..nonce)?, rest.get(nonce.next_multiple_of(4)..)?.get(..ciphertext)?))
    };
    split().ok_or(FieldError::Authenticator)
}

/// Appends an authenticator.
pub fn push_authenticator(bytes: &mut Vec<u8>, nonce: &[u8], ciphertext: &[u8]) {
    let mut body = Vec::with_capacity(8 + nonce.len() + ciphertext.len());
    for part in [nonce, ciphertext] {
        body.extend_from_slice(&u16::try_from(part.len()).unwrap_or(u16::MAX).to_be_bytes());
    }
    body.extend_from_slice(nonce);
    body.resize(body.len().next_multiple_of(4), 0);
    body.extend_from_slice(ciphertext);
    push(bytes, AUTHENTICATOR, &body);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn written_and_read() {
        let mut bytes = Vec::new();
        push(&mut bytes, UNIQUE_ID, &[7; 32]);
        push(&mut bytes, COOKIE, &[1, 2, 3, 4, 5]);
        push_authenticator(&mut bytes, &[3; 16], &[4; 21]);
        let read: Vec<_> = fields(&bytes).collect::<Result<_, _>>().expect("good");
        assert_eq!(read.iter().map(|f| (f.kind, f.at)).collect::<Vec<_>>(), [(0x0104, 0), (0x0204, 36), (0x0404, 52)]);
        assert_eq!(read[1].body, [1, 2, 3, 4, 5, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(authenticator(read[2].body), Ok((&[3; 16][..], &[4; 21][..])));
    }

    #[test]
    fn impossible_lengths() {
        assert_eq!(fields(&[]).last(), None);
        for bytes in [&[1, 4][..], &[1, 4, 0, 3], &[1, 4, 0, 5, 0], &[1, 4, 0, 8, 0, 0], &[1, 4, 0, 0]] {
            assert_eq!(fields(bytes).last(), Some(Err(FieldError::Length)), "{bytes:?}");
        }
        for body in [&[0, 0, 0][..], &[0, 1, 0, 0], &[0, 0, 0, 1], &[0, 1, 0, 1, 9, 0, 0, 0]] {
            assert_eq!(authenticator(body), Err(FieldError::Authenticator), "{body:?}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut end = 0;
            for field in fields(&bytes).flatten() {
                prop_assert_eq!(field.at, end);
                end += HEADER + field.body.len();
                let _ = authenticator(field.body);
            }
            prop_assert!(end <= bytes.len());
        }
    }
}
