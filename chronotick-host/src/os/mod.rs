//! What the operating system and the processor are asked for directly.

pub mod affinity;
pub(crate) mod arrival;
pub mod counter;
pub mod disruption;
pub mod sandbox;
pub mod spawn;
