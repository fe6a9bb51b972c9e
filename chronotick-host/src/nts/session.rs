//! The keys and cookies that were agreed on, and what is done with them in each exchange (RFC 8915, section 5).
//!
//! Every request carries a cookie that has never been used, so that nobody who watches the network can tell two
//! requests of one client from those of two; every answer brings new ones under encryption. Randomness is an argument, nothing here
//! reads a clock or a socket.

use std::collections::VecDeque;
use std::fmt;

use aes_siv::aead::KeyInit;
use aes_siv::siv::Aes128Siv;

use super::KEY;
use super::extension::{
    AUTHENTICATOR, COOKIE, COOKIE_PLACEHOLDER, UNIQUE_ID, authenticator, fields, push, push_authenticator,
};
use crate::ntp::packet::HEADER;

/// Cookies that are kept.
pub const COOKIES: usize = 8;
/// No request, and so no answer, is longer: it passes any network unbroken.
const LONGEST: usize = 1200;
const UNIQUE: usize = 32;
const NONCE: usize = 16;
/// An authenticator without encrypted fields: header, lengths, nonce, tag.
const AUTHENTICATOR_LENGTH: usize = 4 + 4 + NONCE + 16;

/// An agreement with one server.
pub struct Session {
    to_server: Aes128Siv,
    to_client: Aes128Siv,
    cookies: VecDeque<Vec<u8>>,
    /// Identifies the open request.
    unique: Option<[u8; UNIQUE]>,
}

/// Random bytes for one request.
#[derive(Clone, Copy, Debug)]
pub struct Fresh {
    /// Identifies it.
    pub unique: [u8; UNIQUE],
    /// For the cipher.
    pub nonce: [u8; NONCE],
}

/// Why an answer is not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forgery {
    /// It does not carry the number of the open request.
    Unrelated,
    /// It carries no tag, or none that can be read.
    Untagged,
    /// Its tag is wrong: another key, or a changed packet.
    Tag,
}

impl fmt::Display for Forgery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unrelated => "it does not carry the request's number",
            Self::Untagged => "it carries no tag",
            Self::Tag => "its tag is wrong",
        })
    }
}

impl Session {
    /// A session with the two directions' keys and the cookies of the key exchange.
    pub fn new(to_server: [u8; KEY], to_client: [u8; KEY], cookies: impl IntoIterator<Item = Vec<u8>>) -> Self {
        Self {
            to_server: Aes128Siv::new(&to_server.into()),
            to_client: Aes128Siv::new(&to_client.into()),
            cookies: cookies.into_iter().take(COOKIES).collect(),
            unique: None,
        }
    }

    /// Requests that can be sent before a new key exchange is needed.
    pub fn cookies(&self) -> usize {
        self.cookies.len()
    }

    /// The whole request around its header. `None`: no cookie is left.
    pub fn seal(&mut self, header: &[u8; HEADER], fresh: &Fresh) -> Option<Vec<u8>> {
        let cookie = self.cookies.pop_front()?;
        let mut packet = header.to_vec();
        push(&mut packet, UNIQUE_ID, &fresh.unique);
        let before = packet.len();
        push(&mut packet, COOKIE, &cookie);
        let each = packet.len() - before;
        // The answer brings one cookie back, and one more for every placeholder.
        let missing = COOKIES - 1 - self.cookies.len().min(COOKIES - 1);
        let room = LONGEST.saturating_sub(packet.len() + AUTHENTICATOR_LENGTH) / each;
        for _ in 0..missing.min(room) {
            push(&mut packet, COOKIE_PLACEHOLDER, &vec![0; each - 4]);
        }
        let tag = self.to_server.encrypt([&packet[..], &fresh.nonce[..]], &[]).ok()?;
        push_authenticator(&mut packet, &fresh.nonce, &tag);
        self.unique = Some(fresh.unique);
        Some(packet)
    }

    /// Whether the packet is the server's answer to the newest request, unchanged. If so its cookies are kept and it will not be
    /// believed again.
    ///
    /// # Errors
    /// [`Forgery`]; the session is as before.
    pub fn open(&mut self, packet: &[u8]) -> Result<(), Forgery> {
        let extensions = packet.get(HEADER..).ok_or(Forgery::Untagged)?;
        let mut related = false;
        for field in fields(extensions) {
            let field = field.map_err(|_| Forgery::Untagged)?;
            match field.kind {
                UNIQUE_ID => related = self.unique.is_some_and(|unique| unique[..] == *field.body),
                AUTHENTICATOR if !related => return Err(Forgery::Unrelated),
                AUTHENTICATOR => {
                    let (nonce, ciphertext) = authenticator(field.body).map_err(|_| Forgery::Untagged)?;
                    let covered = &packet[..HEADER + field.at];
                    let hidden = self.to_client.decrypt([covered, nonce], ciphertext).map_err(|_| Forgery::Tag)?;
                    self.unique = None;
                    self.keep_cookies(&hidden);
                    // What follows the authenticator is not covered by it.
                    return Ok(());
                }
                _ => {}
            }
        }
        Err(if related { Forgery::Untagged } else { Forgery::Unrelated })
    }

    /// Whether a packet without a tag carries the number of the open request, as a server's complaint about the request does. Anybody
    /// on the path can say so.
    pub fn concerns(&self, packet: &[u8]) -> bool {
        let extensions = packet.get(HEADER..).unwrap_or_default();
        let mut unique = fields(extensions).map_while(Result::ok).filter(|field| field.kind == UNIQUE_ID);
        unique.any(|field| self.unique.is_some_and(|open| open[..] == *field.body))
    }

    fn keep_cookies(&mut self, hidden: &[u8]) {
        for cookie in fields(hidden).map_while(Result::ok).filter(|field| field.kind == COOKIE) {
            if self.cookies.len() == COOKIES {
                self.cookies.pop_front();
            }
            self.cookies.push_back(cookie.body.to_vec());
        }
    }
}

impl fmt::Debug for Session {
    /// Without the keys.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("cookies", &self.cookies.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HEAD: [u8; HEADER] = [0x23; HEADER];

    fn fresh(number: u8) -> Fresh {
        Fresh { unique: [number; UNIQUE], nonce: [number.wrapping_add(1); NONCE] }
    }
    fn session(cookies: usize) -> Session {
        Session::new([1; KEY], [2; KEY], (0..cookies).map(|i| vec![u8::try_from(i).unwrap_or(0); 100]))
    }

    /// A server with the same keys: checks the request and answers with as many cookies as there is room for.
    fn answer(request: &[u8]) -> Vec<u8> {
        let all: Vec<_> = fields(&request[HEADER..]).collect::<Result<_, _>>().expect("fields");
        let last = all.last().expect("an authenticator");
        let (nonce, tag) = authenticator(last.body).expect("an authenticator");
        let opened = Aes128Siv::new(&[1; KEY].into()).decrypt([&request[..HEADER + last.at], nonce], tag);
        assert_eq!(opened.expect("the client's tag"), b"");
        let mut hidden = Vec::new();
        for _ in all.iter().filter(|f| matches!(f.kind, COOKIE | COOKIE_PLACEHOLDER)) {
            push(&mut hidden, COOKIE, &[77; 100]);
        }
        let mut packet = vec![0x24; HEADER];
        push(&mut packet, UNIQUE_ID, all[0].body);
        let nonce = [9; 12];
        let sealed = Aes128Siv::new(&[2; KEY].into()).encrypt([&packet[..], &nonce[..]], &hidden).expect("sealed");
        push_authenticator(&mut packet, &nonce, &sealed);
        packet
    }

    #[test]
    fn cookies_are_used_once_and_replaced() {
        let mut session = session(3);
        let request = session.seal(&HEAD, &fresh(5)).expect("a cookie");
        let kinds: Vec<_> = fields(&request[HEADER..]).map(|f| f.expect("good").kind).collect();
        assert_eq!(kinds[..2], [UNIQUE_ID, COOKIE]);
        assert_eq!(kinds.iter().filter(|&&kind| kind == COOKIE_PLACEHOLDER).count(), 5);
        assert!(request.len() <= LONGEST && request[..HEADER] == HEAD);
        assert_eq!(session.cookies(), 2);
        let answer = answer(&request);
        assert_eq!(session.open(&answer), Ok(()));
        assert_eq!(session.cookies(), COOKIES);
        assert_eq!(session.open(&answer), Err(Forgery::Unrelated), "a replay");
        let next = session.seal(&HEAD, &fresh(6)).expect("a cookie");
        assert!(!fields(&next[HEADER..]).any(|f| f.is_ok_and(|f| f.kind == COOKIE_PLACEHOLDER)));
    }

    #[test]
    fn no_cookie_no_request() {
        let mut session = session(1);
        assert!(session.seal(&HEAD, &fresh(5)).is_some());
        assert!(session.seal(&HEAD, &fresh(6)).is_none());
    }

    #[test]
    fn large_cookies_leave_room() {
        let mut session = Session::new([1; KEY], [2; KEY], [vec![0; 500]]);
        assert!(session.seal(&HEAD, &fresh(5)).expect("a cookie").len() <= LONGEST);
    }

    #[test]
    fn a_complaint_is_told_from_a_stranger() {
        let mut session = session(2);
        session.seal(&HEAD, &fresh(5)).expect("a cookie");
        let mut complaint = vec![0x24; HEADER];
        push(&mut complaint, UNIQUE_ID, &[5; UNIQUE]);
        assert!(session.concerns(&complaint));
        assert_eq!(session.open(&complaint), Err(Forgery::Untagged));
        complaint[HEADER + 4] ^= 1;
        assert!(!session.concerns(&complaint));
        assert_eq!(session.open(&complaint), Err(Forgery::Unrelated));
    }

    #[test]
    fn every_changed_bit_is_noticed() {
        let mut session = session(1);
        let request = session.seal(&HEAD, &fresh(5)).expect("a cookie");
        let honest = answer(&request);
        for bit in 0..honest.len() * 8 {
            let mut changed = honest.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert!(session.open(&changed).is_err(), "bit {bit}");
        }
        assert_eq!(session.open(&honest), Ok(()));
    }

    proptest! {
        #[test]
        fn any_packet_is_survived(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let mut session = session(1);
            session.seal(&HEAD, &fresh(5));
            let mut packet = vec![0x24; HEADER];
            push(&mut packet, UNIQUE_ID, &[5; UNIQUE]);
            packet.extend(&bytes);
            prop_assert!(session.open(&bytes).is_err() && session.open(&packet).is_err());
        }
    }
}
