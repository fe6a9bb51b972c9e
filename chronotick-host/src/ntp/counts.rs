//! What one association has sent, and what came of it.

use serde::{Deserialize, Serialize};

/// What was sent and what came of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Requests sent.
    pub requests: u64,
    /// Answers that gave a measurement.
    pub accepted: u64,
    /// Answers to a request of ours that were refused.
    pub refused: u64,
    /// Requests without an answer in time.
    pub lost: u64,
    /// Packets that answer no open request: late or forged.
    pub unsolicited: u64,
    /// Packets that repeat an answer already taken: duplicated or replayed.
    pub replayed: u64,
    /// Datagrams that are no NTP packet.
    pub malformed: u64,
    /// Packets whose authenticity could not be established.
    pub unauthenticated: u64,
    /// Measurements in interleaved mode.
    pub interleaved: u64,
}

impl Counts {
    /// Packets that were not looked at further, whatever the reason.
    pub fn ignored(&self) -> u64 {
        self.unsolicited + self.replayed + self.malformed + self.unauthenticated
    }
}
