//! What stands for a session in a program that was built without the feature `nts`: nothing, in the type system's words.

use crate::ntp::packet::HEADER;

/// There is none.
#[derive(Debug)]
pub enum Session {}

/// Random bytes for one request.
#[derive(Clone, Copy, Debug)]
pub struct Fresh {
    /// Identifies it.
    pub unique: [u8; 32],
    /// For the cipher.
    pub nonce: [u8; 16],
}

/// Why an answer is not believed: no answer is ever judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forgery {}

impl std::fmt::Display for Forgery {
    fn fmt(&self, _: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match *self {}
    }
}

impl Session {
    /// Never called.
    pub fn cookies(&self) -> usize {
        match *self {}
    }
    /// Never called.
    pub fn seal(&mut self, _: &[u8; HEADER], _: &Fresh) -> Option<Vec<u8>> {
        match *self {}
    }
    /// Never called.
    ///
    /// # Errors
    /// None.
    pub fn open(&mut self, _: &[u8]) -> Result<(), Forgery> {
        match *self {}
    }
    /// Never called.
    pub fn concerns(&self, _: &[u8]) -> bool {
        match *self {}
    }
}
