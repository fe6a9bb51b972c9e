//! The NTPv4 client (RFC 5905): packets, the state of one association, and when to ask next.
//!
//! All of it is sans-IO: sockets and clocks belong to the runner's [sources](crate::runner).

pub mod packet;

pub mod poll;

pub mod quickest;

mod counts;
mod exchange;
mod request;

pub mod client;
