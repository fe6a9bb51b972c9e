//! The time, corrected, with honest error bounds, for less than the operating system's own clock costs.
//!
//! ```no_run
//! let clock = chronotick_host::ChronoTick::attach()?; // a daemon runs on this machine: `chronotick run`
//! let now = clock.now();
//! println!("UTC is between {:?} and {:?}", now.earliest(), now.latest());
//! # Ok::<(), chronotick_host::Error>(())
//! ```
//!
//! * [`ChronoTick`] attaches to the machine's daemon, or [starts](clock::Builder::start) one in this program;
//!   [`ChronoTick::now`] is the read. [`start`], [`time`], [`time_detailed`], [`status`] and [`stop`] do without a handle.
//! * [`Timestamp`] is what it returns: UTC, its hard bound, its 95 % interval, its tier and why it has it.
//! * [`definitely_before`], [`ChronoTick::commit_wait`], [`ChronoTick::wait_until`] and [`ChronoTick::project`] are what the
//!   bounds are for.
//! * A program that starts the daemon itself calls [`worker::hook`] first in `main`, or has the `chronotick` command beside it or
//!   on the `PATH`: the forecasts are computed in a process of their own, and without either of the two there are none.
//! * [`Reader`] is the read alone, for programs that only have the page.
//!
//! A program that only reads needs `default-features = false`. Features `jiff` and `chrono` convert to those crates' types.
#![deny(unsafe_code)]

pub mod os;

pub mod config;

pub mod error;

pub mod ntp;

pub mod nts;

pub mod local;

pub mod feed;

pub mod link;

pub mod worker;

pub mod supervisor;

pub mod shm;

pub mod publisher;

pub mod reader;

pub mod timestamp;

pub mod runner;

#[cfg(feature = "metrics")]
pub mod metrics;

pub mod clock;

pub mod trace;

pub mod replay;

pub mod sim;

pub mod demo;

pub mod training;

pub mod record;

#[cfg(feature = "cli")]
pub mod report;

#[cfg(feature = "cli")]
pub mod watch;

pub mod words;

#[doc(hidden)]
pub mod doc;

pub use clock::{ChronoTick, NotSynchronised, start, start_with, status, stop, time, time_detailed};
pub use config::Config;
pub use error::Error;
pub use reader::Reader;
pub use shm::page::{PageError, PageSettings};
pub use timestamp::{Timestamp, definitely_before};
