//! What the cross-crate tests share: supervised services, and worlds in virtual time with everything that can go wrong in
//! them.
//!
//! ```text
//! scenario (drawn from a seed) -> run (world, faults, the core and the runner's steps) -> laws -> campaign (tables)
//! ```
//!
//! The core runs unchanged; the run takes the steps that the daemon's loop takes, in virtual time. One seed is one run, bit for
//! bit.

pub mod answers;
pub mod campaign;
pub mod details;
pub mod laws;
pub mod live;
pub mod loopback;
pub mod outcome;
pub mod regressions;
pub mod relay;
pub mod run;
pub mod scenario;
pub mod supervised;
pub mod wire;
