//! What the operating system and the processor are asked for directly.

pub mod counter;
pub mod disruption;
