//! The host side of ChronoTick.
#![deny(unsafe_code)]

pub mod config;

pub mod error;

pub mod ntp;

pub mod worker;

pub mod trace;

pub mod replay;

pub mod sim;

pub use config::Config;
pub use error::Error;
