//! ChronoTick on microcontrollers: the tasks and the glue around [`chronotick_core`]'s pipeline.
//!
//! ```text
//! SampleSource --samples--> run_samples --+
//!                                         +--> run_clock (owns the pipeline) --> SharedClock --> now(), any task
//! byte stream --frames--> Gateway::receive +        |
//!                                                   +--> questions for a model --> frames --> the gateway
//! ```
//!
//! The modules are declared in that order: [`local_time`] maps embassy-time's ticks to the core's local time,
//! [`thermometer`] and [`source`] are what a board provides, [`frame`] and [`gateway`] carry exchanges and forecasts over any
//! byte stream, [`edge_pipeline`] is the core in a small size, [`shared_clock`] is what the application reads, and [`node`] has the tasks that tie them together.
//!
//! Nothing here allocates, blocks or contains unsafe code. Every capacity is a const generic. With the feature `defmt` the
//! readings and errors can be logged by a debugger's decoder.
#![no_std]
#![forbid(unsafe_code)]

pub mod local_time;

pub mod thermometer;

pub mod source;

pub mod frame;

pub mod gateway;

pub mod edge_pipeline;

pub mod shared_clock;

pub mod node;

pub use edge_pipeline::{AnyPipeline, EdgePipeline, EdgeRequest};
pub use local_time::{EmbassyClock, LocalClock};
pub use node::{Cadence, run_clock, run_samples};
pub use shared_clock::{Reading, SharedClock};
pub use source::SampleSource;
pub use thermometer::Thermometer;
