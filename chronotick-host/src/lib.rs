//! The host side of ChronoTick.
#![deny(unsafe_code)]

pub mod worker;
