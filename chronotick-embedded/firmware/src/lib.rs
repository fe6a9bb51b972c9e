//! What the programs of this workspace share: the emulated board, and the pieces that they all measure or check.
#![no_std]
#![deny(unsafe_code)]

pub mod board;

pub mod parity;

pub mod single;

pub mod world;
