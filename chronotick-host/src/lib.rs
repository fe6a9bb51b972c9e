//! The host side of ChronoTick.
#![deny(unsafe_code)]
