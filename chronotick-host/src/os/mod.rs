//! What the operating system and the processor are asked for directly.

pub mod affinity;
pub mod counter;
pub(crate) mod datagram;
pub mod disruption;
pub(crate) mod kernel_clock;
pub(crate) mod pps;
pub(crate) mod ptp;
pub mod sandbox;
pub mod spawn;
