//! The host side of ChronoTick.
#![deny(unsafe_code)]

pub mod worker;

pub mod trace;

pub mod replay;
