//! The host side of ChronoTick.
#![deny(unsafe_code)]

pub mod os;

pub mod config;

pub mod error;

pub mod ntp;

pub mod link;

pub mod worker;

pub mod supervisor;

pub mod shm;

pub mod publisher;

pub mod reader;

pub mod timestamp;

pub mod runner;

pub mod trace;

pub mod replay;

pub mod sim;

pub mod demo;

pub mod training;

#[doc(hidden)]
pub mod doc;

pub use config::Config;
pub use error::Error;
pub use reader::Reader;
pub use shm::page::{PageError, PageSettings};
pub use timestamp::{Timestamp, definitely_before};
