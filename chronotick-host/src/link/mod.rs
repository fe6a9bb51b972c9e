//! The two-way link between the service and its worker, in two forms behind one trait.
//!
//! [`process`] is a pair of rings in shared memory with postcard frames; [`thread`] is a pair of `rtrb` rings that move
//! values. Messages are few: the service sends [`Order`]s, the worker answers with [`Reply`]s.

pub mod process;
pub mod thread;

use std::fmt;
use std::time::Duration;

use chronotick_core::forecast::{Forecast, ForecastRequest, Model};
use serde::{Deserialize, Serialize};

use crate::os::sandbox::Sandbox;
use crate::shm::ring::RingError;

/// From the service to the worker.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Order {
    /// The first message: how to set itself up.
    Boot(Boot),
    /// A question for a model.
    Forecast(Box<ForecastRequest>),
    /// Heartbeat; the number comes back.
    Ping(u32),
    /// End now.
    Stop,
}

/// How a worker sets itself up.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Boot {
    /// Folder of the model files; the copies in the executable if absent.
    pub models: Option<String>,
    /// Cores to run on; wherever the kernel likes if empty.
    pub cpu_affinity: Vec<usize>,
    /// Its niceness, 0 to 19.
    pub nice: u8,
    /// Whether it runs only when nothing else wants the core (SCHED_IDLE).
    pub idle: bool,
    /// Give up files, network and most system calls before a model is parsed.
    pub sandbox: bool,
}

/// From the worker to the service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Reply {
    /// The first message: it is set up.
    Ready(Box<Ready>),
    /// The answer of a model.
    Forecast {
        /// The quantiles.
        forecast: Box<Forecast>,
        /// How long the model ran, in ns.
        inference_ns: u32,
    },
    /// The question cannot be answered.
    Refused {
        /// The request's.
        id: u32,
        /// Why, in a sentence.
        reason: String,
    },
    /// The heartbeat's number.
    Pong(u32),
}

/// What became of the set-up.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Ready {
    /// Cores that it may run on, read back from the kernel.
    pub cpu_affinity: Vec<usize>,
    /// What it could not do and goes on without.
    pub warnings: Vec<String>,
    /// What it can no longer do.
    pub sandbox: Sandbox,
    /// The models, by [`Model::index`].
    pub models: [ModelState; Model::ALL.len()],
}

/// What became of a model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ModelState {
    /// Ready to answer.
    Loaded {
        /// Where it came from.
        file: String,
        /// First eight bytes of the SHA-256 of the file.
        hash: [u8; 8],
    },
    /// Not usable, and why: one line with the file.
    Failed(String),
}

impl Default for ModelState {
    fn default() -> Self {
        Self::Failed("not loaded yet".to_owned())
    }
}

/// Why a link is of no more use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkError {
    /// The ring is broken.
    Ring(RingError),
    /// A whole frame that is no message of this protocol.
    Undecodable,
    /// The other side speaks another version of the protocol.
    Protocol(u64),
    /// The other side is gone.
    Closed,
}

impl fmt::Display for LinkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ring(error) => error.fmt(f),
            Self::Undecodable => f.write_str("a frame holds no message of this protocol"),
            Self::Protocol(theirs) => write!(f, "the other side speaks worker protocol {theirs}"),
            Self::Closed => f.write_str("the other side is gone"),
        }
    }
}

impl std::error::Error for LinkError {}

/// Why a message was not sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SendError {
    /// No room until the other side has read more.
    Full,
    /// The link is of no more use.
    Broken(LinkError),
}

impl fmt::Display for SendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full => f.write_str("the link to the worker is full"),
            Self::Broken(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for SendError {}

/// One end of the two-way link.
pub trait Link {
    /// What this end sends.
    type Out;
    /// What this end receives.
    type In;

    /// Sends one message and wakes the other side if it waits. Never waits itself.
    fn send(&mut self, message: Self::Out) -> Result<(), SendError>;

    /// The next message, if there is one. Never waits.
    fn receive(&mut self) -> Result<Option<Self::In>, LinkError>;

    /// Waits until the other side may have sent something, or until `timeout` has passed.
    fn wait(&mut self, timeout: Duration);
}
