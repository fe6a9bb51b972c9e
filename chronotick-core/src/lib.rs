//! The decisions of ChronoTick: from one time exchange to a bounded, corrected reading.
//!
//! The modules are declared in the order in which a sample flows through them:
//!
//! ```text
//! sample -> sample_filter -> selection -> estimator -> window -> (a model, elsewhere) -> forecast
//!                                             |                                            |
//!                                             +----------------> fusion <------------------+
//!                                                                  |
//!                                    interval -> fallback -> served -> clock_page -> readers
//! ```
//!
//! [`pipeline::Pipeline`] ties them together as a sans-IO state machine: time is an argument of every call, nothing here
//! reads a clock, allocates or blocks, and the same code runs in the daemon, in `replay`, in simulation and on a
//! microcontroller.
//!
//! Everywhere, **offset = reference - local**: a positive offset means that the local clock is behind.
#![no_std]
#![forbid(unsafe_code)]

pub mod units;

mod config;
mod decay;

mod evidence;

mod paths;
mod propagation;
mod rank;

pub mod sample;

pub mod sample_filter;

pub mod selection;

mod disagreement;

pub mod sources;

pub mod estimator;

pub mod stability;

pub mod window;

pub mod forecast;

mod opinions;

pub mod fusion;

pub mod calibration;

pub mod hard_bound;

pub mod interval;

pub mod fallback;

pub mod served;

pub mod clock_page;

pub mod leap;

pub mod pipeline;

#[cfg(feature = "defmt")]
mod log_formats;

pub use fallback::{ClockSource, Estimate, Reason, Tier};
pub use interval::{ErrorBound, PredictionInterval};
pub use pipeline::{Config, Pipeline};
pub use sample::{Sample, SourceId};
pub use units::{Deviation, Local, Offset, Rate, Span, Temperature, Timestamp, Utc, Variance};
