//! A request, and how an answer shows that it belongs to it.

use chronotick_core::units::{Local, Timestamp};

use super::packet::{HEADER, Packet, mode};

/// A request, and with it what an answer has to return to be believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    pub(super) packet: Packet,
    /// Whether it asks when the answer before it left.
    pub(super) follows: bool,
}

impl Request {
    /// The bytes to send.
    pub fn encode(&self) -> [u8; HEADER] {
        self.packet.encode()
    }

    /// How `answer` belongs to it, if it does.
    pub(super) fn kinship(&self, answer: &Packet) -> Option<Kinship> {
        if answer.mode != mode::SERVER {
            None
        } else if answer.origin == self.packet.transmit {
            Some(Kinship::Basic)
        } else if self.follows && answer.origin == self.packet.receive {
            Some(Kinship::Interleaved)
        } else {
            None
        }
    }
}

/// What the transmit timestamp of an answer says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kinship {
    /// When this answer is about to leave.
    Basic,
    /// When the answer before this one left.
    Interleaved,
}

/// A packet that answers the open request, see [`Association::recognise`](super::client::Association::recognise).
#[derive(Clone, Copy, Debug)]
pub struct Answer {
    pub(super) packet: Packet,
    pub(super) kinship: Kinship,
    pub(super) sent: Timestamp<Local>,
}

impl Answer {
    /// Its header.
    pub fn packet(&self) -> &Packet {
        &self.packet
    }
}
