//! The command line of ChronoTick.
fn main() {}
