//! Simulated worlds: an oscillator in its room, the servers it asks and the paths to them, all from one seed.
//!
//! ```text
//! temperature -> oscillator -> true offset over local time
//!      |                            |
//!    sensor ----------------> exchange <- path, server        => samples, as a trace holds them
//! ```
//!
//! The same physics makes the training sets of the models, the traces of `chronotick simulate` and the worlds of the
//! tests. Where the parameters' ranges come from is written beside them in [`kinds`] and in docs/SIMULATION.md.
//!
//! Every part draws from a stream of its own, derived from the seed and the part's name, so that another network leaves
//! the oscillator as it was.

pub mod kinds;
pub mod network;
pub mod oscillator;
pub mod temperature;
pub mod world;

use rand::SeedableRng;

/// The generator behind every simulated quantity.
pub type Random = rand::rngs::Xoshiro256PlusPlus;

/// The random stream of the part `name` of the world `seed`.
pub fn stream(seed: u64, name: &str) -> Random {
    // FNV-1a of the name, so that neighbouring seeds and names share nothing.
    let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x100_0000_01b3));
    Random::seed_from_u64(hash ^ seed.wrapping_mul(0x9e37_79b9_7f4a_7c15))
}
